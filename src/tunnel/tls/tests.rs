//! A session against a server in memory: no sockets, every byte in our hands.

use super::*;
use crate::tunnel::standin::{Anyone, Authority, NAME, Shown, server};
use rustls::pki_types::pem::PemObject;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ServerConfig, ServerConnection, SupportedProtocolVersion};
use std::io::{Read, Write};
use std::sync::LazyLock;

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

/// Takes half a second to make.
static KEY: LazyLock<Vec<u8>> =
    LazyLock::new(|| certificate::Key::generate().unwrap().pkcs8().unwrap().to_vec());

pub(in crate::tunnel) fn client(authority: &Authority) -> TlsClient {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    TlsClient::new(roots, NAME, &certificate::Key::from_pkcs8(&KEY).unwrap()).unwrap()
}

pub(in crate::tunnel) fn session(authority: &Authority) -> TlsSession {
    client(authority).begin(shown()).unwrap()
}

/// A client's certificate.
pub(in crate::tunnel) fn shown() -> Vec<u8> {
    let key = certificate::Key::from_pkcs8(&KEY).unwrap();
    let request = certificate::CertificateRequest {
        common_name: "host",
        file_system_id: "fs-0123abcd",
        region: "eu-west-1",
        access_point: None,
        credentials: None,
        client: ("efs-agent", "0"),
        now: SystemTime::now(),
    };
    certificate::mint(&key, &request).unwrap()
}

/// Both ends, and what is on the way.
struct Wire {
    client: TlsSession,
    plain: Buffer,
    server: ServerConnection,
    /// Bytes on the way to the client.
    down: Vec<u8>,
    /// The data that the server has received.
    heard: Vec<u8>,
}

impl Wire {
    fn new(client: TlsSession, config: &Arc<ServerConfig>) -> Self {
        let server = ServerConnection::new(config.clone()).unwrap();
        Self { client, plain: Buffer::new(CHUNK), server, down: Vec::new(), heard: Vec::new() }
    }

    /// Moves all bytes that are there; those to the client in pieces of `piece` bytes.
    fn exchange(&mut self, piece: usize) -> Result<TlsState, TunnelError> {
        let mut state = self.client.turn(&mut self.plain);
        loop {
            let up = self.client.outgoing.filled().to_vec();
            self.client.outgoing.consume(up.len());
            self.up(&up);
            state?;
            self.server.write_tls(&mut self.down).unwrap();
            if self.down.is_empty() {
                return self.client.turn(&mut self.plain);
            }
            let some: Vec<u8> = self.down.drain(..piece.min(self.down.len())).collect();
            assert!(self.client.incoming.put(&some));
            state = self.client.turn(&mut self.plain);
        }
    }

    fn up(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.server.read_tls(&mut bytes).unwrap();
            // If this fails, the server's alert is on its way to the client.
            let _ = self.server.process_new_packets();
            let _ = self.server.reader().read_to_end(&mut self.heard);
        }
    }

    fn heard(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.heard)
    }
}

fn good(versions: &[&'static SupportedProtocolVersion]) -> (Wire, Arc<Anyone>) {
    let authority = Authority::new();
    let (config, anyone) = server(&authority.good(), versions, &[]);
    (Wire::new(session(&authority), &config), anyone)
}

#[test]
fn both_versions_and_key_lengths_are_spoken_with_our_certificate_shown() {
    let authority = Authority::new();
    let shown = authority.good();
    for (version, suite, names) in [
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256, ("TLS 1.3", "TLS_AES_128_GCM_SHA256")),
        (&TLS13, CipherSuite::TLS13_AES_256_GCM_SHA384, ("TLS 1.3", "TLS_AES_256_GCM_SHA384")),
        (
            &TLS12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            ("TLS 1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        ),
        (
            &TLS12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            ("TLS 1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        ),
    ] {
        let (config, anyone) = server(&shown, &[version], &[suite]);
        let ours = super::tests::shown();
        let mut wire = Wire::new(client(&authority).begin(ours.clone()).unwrap(), &config);
        assert_eq!(wire.exchange(usize::MAX), Ok(TlsState::Open));
        let peer = wire.client.peer(IpAddr::from([10, 0, 0, 1]), None);
        assert_eq!((peer.version.as_str(), peer.cipher.as_str()), names);
        assert_eq!(anyone.seen.lock().unwrap().as_slice(), [CertificateDer::from(ours)]);
    }
}

#[test]
fn bytes_come_through_both_ways_whatever_the_pieces() {
    for versions in [&BOTH[..1], &BOTH[1..]] {
        for piece in [1, 2, 5, 6, 777, 16_384, 50_000, usize::MAX] {
            let (mut wire, _) = good(versions);
            assert_eq!(wire.exchange(piece), Ok(TlsState::Open), "in pieces of {piece}");
            let data: Vec<u8> = (0..100_000u32).map(|n| (n * 7) as u8).collect();
            wire.client.encrypt(&data).unwrap();
            assert_eq!(wire.exchange(piece), Ok(TlsState::Open));
            assert_eq!(wire.heard(), data);
            wire.server.writer().write_all(&data[..20_000]).unwrap();
            assert_eq!(wire.exchange(piece), Ok(TlsState::Open));
            assert_eq!(wire.plain.filled(), &data[..20_000]);
        }
    }
}

#[test]
fn keys_are_updated_when_the_server_asks_in_the_middle_of_data() {
    let (mut wire, _) = good(&[&TLS13]);
    wire.exchange(usize::MAX).unwrap();
    for round in 0..50u8 {
        wire.server.writer().write_all(&[round; 3000]).unwrap();
        wire.server.refresh_traffic_keys().unwrap();
        wire.server.writer().write_all(&[round; 3000]).unwrap();
        wire.client.encrypt(&[round; 3000]).unwrap();
        wire.exchange(1 + usize::from(round) * 97).unwrap();
        assert_eq!(wire.plain.filled(), [round; 6000]);
        wire.plain.consume(6000);
        assert_eq!(wire.heard(), [round; 3000]);
    }
}

#[test]
fn an_end_in_one_direction_leaves_the_other_open() {
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let (mut wire, _) = good(versions);
        wire.exchange(usize::MAX).unwrap();
        wire.server.writer().write_all(b"last").unwrap();
        wire.server.send_close_notify();
        wire.exchange(3).unwrap();
        assert!(wire.client.ended());
        assert_eq!(wire.plain.filled(), b"last");
        wire.client.encrypt(b"more").unwrap();
        wire.client.close().unwrap();
        wire.exchange(3).unwrap();
        assert_eq!(wire.heard(), b"more");
        // Bytes behind the end do not count, however many there are.
        for _ in 0..10 {
            assert!(wire.client.incoming.put(&[0x17; 100_000]));
            assert_eq!(wire.client.turn(&mut wire.plain), Ok(TlsState::Open));
        }
        assert_eq!(wire.plain.filled(), b"last");
    }
}

#[test]
fn nothing_is_taken_in_that_there_is_no_room_for() {
    let (mut wire, _) = good(&[&TLS13]);
    wire.exchange(usize::MAX).unwrap();
    let data: Vec<u8> = (0..200_000u32).map(|n| (n * 13) as u8).collect();
    wire.server.set_buffer_limit(None);
    wire.server.writer().write_all(&data).unwrap();
    let mut small = Buffer::new(2 * RECORD);
    std::mem::swap(&mut wire.plain, &mut small);
    let mut got = Vec::new();
    wire.exchange(usize::MAX).unwrap();
    while !wire.plain.is_empty() {
        // While the buffer is full, data still goes the other way.
        assert!(wire.plain.space() < 2 * RECORD);
        wire.client.encrypt(b"up").unwrap();
        wire.exchange(usize::MAX).unwrap();
        assert_eq!(wire.heard(), b"up");
        got.extend_from_slice(wire.plain.filled());
        wire.plain.consume(usize::MAX / 2);
        wire.exchange(usize::MAX).unwrap();
    }
    assert_eq!(got, data);
}

fn failed(shown: &Shown, authority: &Authority) -> TunnelError {
    let mut all: Vec<TunnelError> = Vec::new();
    for versions in [&BOTH[..1], &BOTH[1..]] {
        let (config, _) = server(shown, versions, &[]);
        let mut wire = Wire::new(session(authority), &config);
        let mut failure = wire.exchange(usize::MAX).unwrap_err();
        // Only the seconds of these errors differ.
        if let TunnelError::Expired { now, .. } | TunnelError::NotYetValid { now, .. } =
            &mut failure
        {
            assert!(now.elapsed().unwrap() < Duration::from_secs(60));
            *now = UNIX_EPOCH;
        }
        all.push(failure);
    }
    assert_eq!(all[0], all[1], "both versions say the same");
    all.remove(0)
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let authority = Authority::new();
    let wrong = authority.issue(&["fs-ffffffff.efs.eu-west-1.amazonaws.com", "*.b"], (2000, 2099));
    assert_eq!(
        failed(&wrong, &authority),
        TunnelError::CertificateName {
            wanted: NAME.into(),
            presented: vec!["fs-ffffffff.efs.eu-west-1.amazonaws.com".into(), "*.b".into()],
        }
    );
    let year = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let now = UNIX_EPOCH;
    assert_eq!(
        failed(&authority.issue(&[NAME], (2000, 2010)), &authority),
        TunnelError::Expired { not_after: year(1_262_304_000), now }
    );
    assert_eq!(
        failed(&authority.issue(&[NAME], (2098, 2099)), &authority),
        TunnelError::NotYetValid { not_before: year(4_039_372_800), now }
    );
    assert_eq!(failed(&Authority::new().good(), &authority), TunnelError::UnknownIssuer);
    // A wildcard is as good as the name.
    let wild = authority.issue(&["*.efs.eu-west-1.amazonaws.com"], (2000, 2099));
    let (config, _) = server(&wild, BOTH, &[]);
    let mut wire = Wire::new(session(&authority), &config);
    assert_eq!(wire.exchange(usize::MAX), Ok(TlsState::Open));
}

#[test]
fn an_alert_is_told_by_its_name_before_and_after_the_handshake() {
    let (mut wire, _) = good(&[&TLS13]);
    assert!(wire.client.incoming.put(&[21, 3, 3, 0, 2, 2, 40]));
    let alert = |name: &str| Err(TunnelError::Alert(name.into()));
    assert_eq!(wire.client.turn(&mut wire.plain), alert("handshake_failure"));
    for (number, name) in [
        (48, "unknown_ca"),
        (20, "bad_record_mac"),
        (116, "certificate_required"),
        (115, "unknown_psk_identity"),
        (200, "number 200"),
    ] {
        let (mut wire, _) = good(&[&TLS13]);
        assert!(wire.client.incoming.put(&[21, 3, 3, 0, 2, 2, number]));
        assert_eq!(wire.client.turn(&mut wire.plain), alert(name));
    }
}

#[test]
fn what_is_no_tls_is_told_from_what_breaks_its_rules() {
    for words in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        &[0x80, 0, 0, 24, 1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 0],
        &[0; 5],
    ] {
        let (mut wire, _) = good(BOTH);
        assert!(wire.client.incoming.put(words));
        assert_eq!(wire.client.turn(&mut wire.plain), Err(TunnelError::NotTls), "{words:?}");
    }
    let (mut wire, _) = good(BOTH);
    wire.exchange(usize::MAX).unwrap();
    assert!(wire.client.incoming.put(&[23, 3, 3, 0, 40]) && wire.client.incoming.put(&[9; 40]));
    let forged = wire.client.turn(&mut wire.plain);
    let text = "cannot decrypt peer's message";
    assert_eq!(forged, Err(TunnelError::Incompatible(text.into())));
    // The server gets an alert for that: bad_record_mac, encrypted.
    assert!(!wire.client.outgoing.is_empty());
}

#[test]
fn a_server_of_old_ciphers_alone_is_told_to_be_so() {
    let authority = Authority::new();
    let chacha = [CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
    let (config, _) = server(&authority.good(), &[&TLS12], &chacha);
    let mut wire = Wire::new(session(&authority), &config);
    let alert = TunnelError::Alert("handshake_failure".into());
    assert_eq!(wire.exchange(usize::MAX), Err(alert));
}

#[test]
fn names_of_errors_become_words() {
    assert_eq!(joined("UnknownPSKIdentity", '_'), "unknown_psk_identity");
    assert_eq!(joined("UnknownCA", '_'), "unknown_ca");
    assert_eq!(words("BadSignature"), "bad signature");
    assert_eq!(bare_name("DnsName(\"a.b\")"), "a.b");
    assert_eq!(bare_name("odd"), "odd");
}

/// xorshift with a seed, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

/// Whatever a server sends, a session ends in an error or waits for more. It neither panics nor loops without end.
/// FUZZ_ROUNDS sets how often this is tried.
#[test]
fn a_hostile_server_does_no_harm() {
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let authority = Authority::new();
    let shown = authority.good();
    let configs = [server(&shown, &[&TLS12], &[]).0, server(&shown, &[&TLS13], &[]).0];
    let client = client(&authority);
    let certificate = super::tests::shown();
    let (mut opened, mut failures) = (0, 0);
    for round in 0..rounds {
        let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ (round + 1));
        let config = &configs[random.below(2)];
        let mut wire = Wire::new(client.begin(certificate.clone()).unwrap(), config);
        let calm = random.below(12);
        let mut failed: Option<TunnelError> = None;
        for step in 0..40 {
            let turned = wire.client.turn(&mut wire.plain);
            if let Some(failure) = &failed {
                assert_eq!(turned.as_ref(), Err(failure), "an error stays");
            }
            failed = turned.err();
            // Every byte that comes through is one that the server has sent.
            assert!(wire.plain.filled().iter().all(|byte| *byte == 7), "round {round}");
            let up = wire.client.outgoing.filled().to_vec();
            wire.client.outgoing.consume(up.len());
            if !up.is_empty() {
                wire.up(&up);
            }
            if !wire.server.is_handshaking() {
                let _ = wire.server.writer().write_all(&vec![7; random.below(40_000)]);
                if random.below(4) == 0 {
                    let _ = wire.server.refresh_traffic_keys();
                }
            }
            let _ = wire.server.write_tls(&mut wire.down);
            let mut bytes = std::mem::take(&mut wire.down);
            if step >= calm {
                spoil(&mut bytes, &mut random);
            }
            let n = bytes.len().min(wire.client.incoming.space());
            assert!(wire.client.incoming.put(&bytes[..n]));
            if !wire.client.connection.is_handshaking() && random.below(2) == 0 {
                let encrypted = wire.client.encrypt(&[1; 100]);
                assert!(encrypted.is_ok() || failed.is_some() || encrypted == Err(told(&mut wire)));
                failed = failed.or(encrypted.err());
            }
            if random.below(3) == 0 {
                wire.plain.consume(random.below(CHUNK));
            }
        }
        opened += u32::from(!wire.client.connection.is_handshaking());
        failures += u32::from(failed.is_some());
    }
    // The rounds have reached every outcome.
    assert!(opened > 0 && failures > 0 && u64::from(opened.min(failures)) < rounds);
}

/// The error that a session gives from now on.
fn told(wire: &mut Wire) -> TunnelError {
    wire.client.turn(&mut wire.plain).unwrap_err()
}

#[test]
fn keys_that_have_done_their_work_are_replaced_by_ourselves() {
    let authority = Authority::new();
    let (config, _) = server(&authority.good(), &[&TLS13], &[]);
    let mut client = client(&authority);
    // The limit is so low that it is reached here. In the field that takes 256 GiB.
    let mut provider = (**client.config.crypto_provider()).clone();
    for suite in &mut provider.cipher_suites {
        if let Some(its) = suite.tls13() {
            let common = rustls::CipherSuiteCommon {
                suite: its.common.suite,
                hash_provider: its.common.hash_provider,
                confidentiality_limit: 20,
            };
            let (hkdf_provider, aead_alg) = (its.hkdf_provider, its.aead_alg);
            let few = rustls::Tls13CipherSuite { common, hkdf_provider, aead_alg, quic: None };
            let few: &'static _ = Box::leak(Box::new(few));
            *suite = few.into();
        }
    }
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
    client.config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut wire = Wire::new(client.begin(shown()).unwrap(), &config);
    wire.exchange(usize::MAX).unwrap();
    let mut records = 0;
    for round in 0..100u8 {
        wire.client.encrypt(&vec![round; 100_000]).unwrap();
        records += wire.client.outgoing.len() / RECORD;
        wire.exchange(usize::MAX).unwrap();
        assert!(wire.heard() == vec![round; 100_000], "round {round}");
    }
    assert!(records > 500);
}

/// Damages what a server sends.
fn spoil(bytes: &mut Vec<u8>, random: &mut Random) {
    match random.below(8) {
        0 => {
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
        1 => bytes.truncate(random.below(bytes.len())),
        2 => {
            let junk = (0..random.below(70_000)).map(|_| random.below(256) as u8);
            bytes.extend(junk.collect::<Vec<_>>());
        }
        3 => {
            // A record of any kind and length, with nothing sensible in it.
            let kind = 20 + random.below(5) as u8;
            let length = random.below(1 << 16);
            let mut record = vec![kind, 3, 3, (length >> 8) as u8, length as u8];
            record.resize(5 + length.min(random.below(1 << 16)), random.below(256) as u8);
            let at = if random.below(2) == 0 { 0 } else { bytes.len() };
            bytes.splice(at..at, record);
        }
        4 => {
            let copy = bytes.clone();
            bytes.extend(copy);
        }
        5 => {
            // Handshake messages in the clear, cut into small records.
            let message: Vec<u8> =
                (0..random.below(600)).map(|_| random.below(256) as u8).collect();
            for piece in message.chunks(1 + random.below(200)) {
                bytes.extend([22, 3, 3, 0, piece.len() as u8]);
                bytes.extend(piece);
            }
        }
        6 => {
            let cut = random.below(bytes.len());
            bytes.drain(..cut);
        }
        _ => {}
    }
}
