//! Runs the relay between a hostile server and a kernel that may end at any point. The data
//! decides, byte by byte, what the server's own TLS says, and what becomes of that on the way.

use crate::aws::certificate::{CertificateRequest, Key, mint};
use crate::tunnel::buffer::Buffer;
use crate::tunnel::relay::{Carried, Relay, RelayError, plain};
use crate::tunnel::tls::{TlsClient, TlsSession, TlsState};
use nix::poll::PollTimeout;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

const NAME: &str = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
/// The certificates are valid from 2000 to 2099, for that name. The stand-in of the tests made them
/// (tests/common/tls.rs), which is not there where this is fuzzed.
const ROOT: &[u8] = include_bytes!("../../../tests/fuzz/relay/root.der");
const LEAF: &[u8] = include_bytes!("../../../tests/fuzz/relay/leaf.der");
const KEY: &[u8] = include_bytes!("../../../tests/fuzz/relay/key.der");
/// Nothing that comes to an end takes this many steps.
const ENDLESS: usize = 20_000;

/// What all runs share, because it takes half a second to make.
struct Fixtures {
    client: TlsClient,
    shown: Vec<u8>,
    servers: [Arc<ServerConfig>; 2],
}

static FIXTURES: LazyLock<Fixtures> = LazyLock::new(|| {
    let key = Key::generate().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ROOT)).unwrap();
    let request = CertificateRequest {
        common_name: "host",
        file_system_id: "fs-0123abcd",
        region: "eu-west-1",
        access_point: None,
        credentials: None,
        client: ("efs-agent", "0"),
        now: SystemTime::now(),
    };
    let shown = mint(&key, &request).unwrap();
    let server = |version| {
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(LEAF)],
                PrivatePkcs8KeyDer::from(KEY).into(),
            );
        Arc::new(config.unwrap())
    };
    let servers = [server(&TLS13), server(&TLS12)];
    Fixtures { client: TlsClient::new(roots, NAME, &key).unwrap(), shown, servers }
});

/// The data, which is used up from the front. Behind its end there are zeros.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn one(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn two(&mut self) -> usize {
        self.one() << 8 | self.one()
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (bytes, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        bytes.to_vec()
    }
}

/// The byte at position `at` of all that one side sends.
fn byte(at: usize, side: u8) -> u8 {
    (at ^ at >> 8 ^ at >> 16) as u8 ^ side
}

/// A TLS server that is hostile in its handshake or after it, and a kernel's side that reads and
/// ends when it likes ([`crate::tunnel::relay`]).
pub fn relay(data: &[u8]) {
    let mut script = Script(data);
    let kind = script.one();
    let fixtures = &*FIXTURES;
    let mut session = fixtures.client.begin(fixtures.shown.clone()).unwrap();
    let mut server = ServerConnection::new(fixtures.servers[kind & 1].clone()).unwrap();
    server.set_buffer_limit(None);
    let mut data = plain();
    if kind & 2 != 0 {
        return hostile_handshake(&mut script, &mut session, &mut server, &mut data, kind & 4 != 0);
    }
    while shaken(&mut session, &mut server, &mut data, &mut |_| {}) {}
    assert!(data.is_empty() && !server.is_handshaking());
    Peers::new(server, kind).carry(&mut script, &mut session, &mut data);
}

/// Gives both sides one turn. Returns whether the handshake goes on.
fn shaken(
    session: &mut TlsSession,
    server: &mut ServerConnection,
    data: &mut Buffer,
    spoil: &mut dyn FnMut(&mut Vec<u8>),
) -> bool {
    let state = session.turn(data);
    let mut up = session.outgoing.filled();
    while !up.is_empty() && server.read_tls(&mut up).is_ok_and(|n| n > 0) {
        let _ = server.process_new_packets();
    }

    session.outgoing.consume(usize::MAX / 2);
    let mut down = Vec::new();
    while server.wants_write() {
        server.write_tls(&mut down).unwrap();
    }

    spoil(&mut down);
    let goes_on = state != Ok(TlsState::Open) && state.is_ok() && !down.is_empty();
    assert!(down.is_empty() || state.is_err() || session.incoming.put(&down));
    goes_on || state == Ok(TlsState::Open) && !down.is_empty()
}

/// No byte of the handshake may come out as data, and it must come to an end.
fn hostile_handshake(
    script: &mut Script<'_>,
    session: &mut TlsSession,
    server: &mut ServerConnection,
    data: &mut Buffer,
    bare: bool,
) {
    let mut spoil = |down: &mut Vec<u8>| {
        if bare {
            // Nothing of the server's own is left: what comes is all made up.
            let n = script.two() % 5000;
            *down = script.bytes(n);
        }
        for _ in 0..script.one() % 4 {
            let (at, with) = (script.two() % down.len().max(1), script.one());
            match script.one() % 4 {
                0 => down.truncate(at),
                1 => down
                    .splice(at.min(down.len())..at.min(down.len()), script.bytes(with))
                    .for_each(drop),
                2 => down.extend(record(with as u8, script.two())),
                _ => down.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with as u8),
            }
        }
        // The stream holds no more than this.
        down.truncate(100_000);
    };
    let mut turns = 0;
    while shaken(session, server, data, &mut spoil) {
        turns += 1;
        assert!(turns < ENDLESS && data.is_empty(), "{} bytes from nowhere", data.len());
    }
    assert!(data.is_empty(), "{} bytes from nowhere", data.len());
}

/// Whether something wrong may follow when we have said that nothing more comes from us. With debug
/// assertions rustls cannot bear that: it counts its close_notify as a fatal alert, and asserts
/// that there is only one. (Otherwise it sends both, and the connection ends as it should.)
const fn may_follow() -> bool {
    !cfg!(debug_assertions)
}

/// The header of a record of this type, for `length` bytes that do not follow.
fn record(of: u8, length: usize) -> [u8; 5] {
    [of, 3, 3, (length >> 8) as u8, length as u8]
}

/// Both far ends, and what is on the way.
struct Peers {
    server: ServerConnection,
    /// Bytes from the server, on their way to the relay.
    down: Vec<u8>,
    /// Where the last record in `down` begins.
    last: usize,
    /// The server's end of the connection, until it closes.
    outer: Option<UnixStream>,
    /// The kernel's end, until it closes.
    inner: Option<UnixStream>,
    /// The ends that the relay has.
    ours: Option<(TcpStream, TcpStream)>,
    /// Whether the bytes on their way are not all that the server's TLS said, or more than that.
    spoilt: bool,
    /// How many bytes each side has sent, and how many have come.
    down_sent: usize,
    down_heard: usize,
    up_sent: usize,
    up_heard: usize,
    /// How many key updates the server has sent.
    updates: usize,
    /// Whether the server and the kernel have said that nothing more comes.
    server_ended: bool,
    kernel_ended: bool,
}

/// Closes a connection. A process that another test has just forked has a copy of the descriptor,
/// which must not keep the connection open.
fn hang_up(stream: &mut Option<UnixStream>) {
    if let Some(stream) = stream.take() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

impl Peers {
    fn new(server: ServerConnection, kind: usize) -> Self {
        let pair = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            for stream in [&ours, &theirs] {
                stream.set_nonblocking(true).unwrap();
                if kind & 8 != 0 {
                    setsockopt(stream, sockopt::SndBuf, &(4096 << (kind >> 4 & 3))).unwrap();
                }
            }
            (TcpStream::from(OwnedFd::from(ours)), theirs)
        };
        let ((ours_outer, outer), (ours_inner, inner)) = (pair(), pair());
        Self {
            server,
            down: Vec::new(),
            last: 0,
            outer: Some(outer),
            inner: Some(inner),
            ours: Some((ours_inner, ours_outer)),
            spoilt: false,
            down_sent: 0,
            down_heard: 0,
            up_sent: 0,
            up_heard: 0,
            updates: 0,
            server_ended: false,
            kernel_ended: false,
        }
    }

    fn carry(mut self, script: &mut Script<'_>, session: &mut TlsSession, data: &mut Buffer) {
        let Some((inner, outer)) = self.ours.take() else { return };
        let carried = Carried::default();
        let mut relay = Relay::new(session, data, &inner, &outer, &carried);

        let mut end = relay.turn();
        while !script.0.is_empty() && end.is_ok() {
            self.act(script);
            end = self.go_on(&mut relay, script.one() % 8);
            self.keeps_its_promises(&relay, &carried, &end);
        }

        // All that was sent comes, as long as both are there and nothing was done to it.
        let whole = !self.spoilt && self.outer.is_some() && self.inner.is_some();
        let mut turns = 0;
        while whole && end.is_ok() && (self.down_heard < self.down_sent || !self.down.is_empty()) {
            self.deliver(usize::MAX);
            end = self.go_on(&mut relay, 8);
            self.kernel_reads(usize::MAX);
            self.server_reads();
            turns += 1;
            assert!(turns < ENDLESS, "{} of {} have come", self.down_heard, self.down_sent);
        }
        assert!(!whole || end.is_ok(), "it ended without cause: {end:?}");

        if self.spoilt && !may_follow() {
            // The relay must meet what is wrong first.
            hang_up(&mut self.outer);
            end = end.and_then(|()| self.go_on(&mut relay, 50));
        }
        // Once both have gone, the relay ends by itself, and no step finds that there is nothing to
        // do yet.
        hang_up(&mut self.outer);
        hang_up(&mut self.inner);
        let mut turns = 0;
        while end.is_ok() && !relay.done() {
            end = relay
                .wait(PollTimeout::ZERO, PollTimeout::ZERO)
                .and_then(|ready| relay.step(ready));
            turns += 1;
            assert!(turns < ENDLESS && end != Err(RelayError::Lingers), "it does not end");
        }
    }

    /// Makes up to `steps` steps of the relay. Where nothing is ready, they do nothing.
    fn go_on(&mut self, relay: &mut Relay<'_>, steps: usize) -> Result<(), RelayError> {
        for _ in 0..steps {
            if relay.done() {
                break;
            }
            match relay.wait(PollTimeout::ZERO, PollTimeout::ZERO) {
                Ok(ready) => relay.step(ready)?,
                // It would only wait for a while.
                Err(RelayError::Lingers) => break,
                Err(other) => return Err(other),
            }
        }
        Ok(())
    }

    /// Does one thing that the server, the way or the kernel may do.
    fn act(&mut self, script: &mut Script<'_>) {
        let kernel_is_there = self.inner.is_some() && !self.kernel_ended;
        match script.one() % 20 {
            5..=9 if !kernel_is_there && !may_follow() => {}
            16 | 18 if self.spoilt && !may_follow() => {}
            0 | 1 => {
                let n = script.two();
                self.server_sends(n);
            }
            2 => self.server_sends(script.one() + 1),
            // rustls takes no more than 32 of these without data between them.
            3 if !self.server_ended && self.updates < 30 => {
                self.updates += 1;
                self.says(|server| {
                    let _ = server.refresh_traffic_keys();
                });
            }
            4 if !self.server_ended => {
                self.server_ended = true;
                self.says(|server| server.send_close_notify());
            }
            // Inserted or appended bytes are not the server's data.
            5 => {
                let (n, at) = (script.one(), script.two() % (self.down.len() + 1));
                let bytes = script.bytes(n);
                self.spoilt |= !bytes.is_empty();
                self.down.splice(at..at, bytes);
            }
            6 => {
                let made = record(20 + script.one() as u8 % 6, script.two());
                self.spoilt = true;
                self.down.extend(made);
                self.down.extend(script.bytes(usize::from(made[4])));
            }
            7 => {
                let (at, with) = (script.two() % self.down.len().max(1), script.one() as u8);
                if let Some(byte) = self.down.get_mut(at) {
                    *byte ^= with;
                    self.spoilt |= with != 0;
                }
            }
            8 => {
                let at = script.two() % (self.down.len() + 1);
                let end = (at + script.one()).min(self.down.len());
                self.spoilt |= end > at;
                self.down.drain(at..end);
            }
            9 => {
                let again = self.down.get(self.last..).unwrap_or_default().to_vec();
                self.spoilt |= !again.is_empty();
                self.last = self.down.len();
                self.down.extend(again);
            }
            10 => self.deliver(script.one()),
            11 | 12 => self.deliver(usize::MAX),
            13 => self.kernel_sends(script.two()),
            14 => self.kernel_reads(script.one() + 1),
            15 => self.kernel_reads(usize::MAX),
            16 => {
                self.kernel_ended = true;
                let _ = self.inner.as_ref().map(|inner| inner.shutdown(Shutdown::Write));
            }
            17 => self.server_reads(),
            18 if script.one().is_multiple_of(4) => hang_up(&mut self.inner),
            19 if script.one().is_multiple_of(4) => hang_up(&mut self.outer),
            _ => {
                // The bytes end without a word of TLS about it.
                if script.one().is_multiple_of(4) {
                    self.spoilt = true;
                    let _ = self.outer.as_ref().map(|outer| outer.shutdown(Shutdown::Write));
                }
            }
        }
    }

    fn says(&mut self, what: impl FnOnce(&mut ServerConnection)) {
        what(&mut self.server);
        self.last = self.down.len();
        while self.server.wants_write() {
            self.server.write_tls(&mut self.down).unwrap();
        }
    }

    fn server_sends(&mut self, n: usize) {
        if self.server_ended {
            return;
        }

        let bytes: Vec<u8> = (self.down_sent..self.down_sent + n).map(|at| byte(at, 0)).collect();
        self.down_sent += n;
        self.says(|server| server.writer().write_all(&bytes).unwrap());
    }

    /// Lets up to `n` bytes arrive at the relay, as far as there is room.
    fn deliver(&mut self, n: usize) {
        let n = n.min(self.down.len());
        let Some(outer) = &mut self.outer else { return };
        if let Ok(n) = outer.write(self.down.get(..n).unwrap_or_default()) {
            self.down.drain(..n);
            self.last = self.last.saturating_sub(n);
        }
    }

    fn kernel_sends(&mut self, n: usize) {
        let Some(inner) = self.inner.as_mut().filter(|_| !self.kernel_ended) else { return };
        let bytes: Vec<u8> = (self.up_sent..self.up_sent + n).map(|at| byte(at, 1)).collect();
        self.up_sent += inner.write(&bytes).unwrap_or(0);
    }

    fn kernel_reads(&mut self, most: usize) {
        let Some(inner) = &mut self.inner else { return };
        let mut left = most;
        let mut chunk = vec![0; left.min(65_536)];
        while left > 0 {
            let room = chunk.len().min(left);
            match inner.read(&mut chunk[..room]) {
                Ok(0) => return,
                Ok(n) => {
                    for got in &chunk[..n] {
                        assert_eq!(*got, byte(self.down_heard, 0), "at {}", self.down_heard);
                        self.down_heard += 1;
                    }
                    left -= n;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                // This is a reset, because not all that was sent was read.
                Err(_) => return,
            }
        }
    }

    /// Reads what the kernel has sent. Nothing is done to that on its way, so it must arrive as it
    /// is.
    fn server_reads(&mut self) {
        let Some(outer) = &mut self.outer else { return };
        let mut chunk = vec![0; 65_536];
        while let Ok(n @ 1..) = outer.read(&mut chunk) {
            let mut bytes = &chunk[..n];
            while !bytes.is_empty() {
                self.server.read_tls(&mut bytes).unwrap();
                match self.server.process_new_packets() {
                    Ok(_) => {}
                    // This is an alert about what was done to the bytes that came down.
                    Err(e) => {
                        assert!(self.spoilt, "what comes up is wrong: {e}");
                        self.server_ended = true;
                        return;
                    }
                }
                let mut heard = Vec::new();
                let _ = self.server.reader().read_to_end(&mut heard);
                for got in heard {
                    assert_eq!(got, byte(self.up_heard, 1), "at {}", self.up_heard);
                    self.up_heard += 1;
                }
                assert!(self.up_heard <= self.up_sent);
            }
        }
        // The server may have to answer a key update.
        self.says(|_| {});
    }

    fn keeps_its_promises(
        &mut self,
        relay: &Relay<'_>,
        carried: &Carried,
        end: &Result<(), RelayError>,
    ) {
        let received = carried.received.load(Ordering::Relaxed) as usize;
        assert!(received <= self.down_sent, "{received} of {} that were sent", self.down_sent);
        assert!(carried.sent.load(Ordering::Relaxed) as usize <= self.up_sent);
        assert!(self.down_heard <= received);
        if self.inner.is_some() && received.is_multiple_of(3) {
            self.kernel_reads(usize::MAX);
            // What the relay took has arrived, or it still holds it.
            if end.is_ok() {
                assert_eq!(received, self.down_heard + relay.holds());
            }
        }
    }
}
