//! One TLS connection without sockets: encrypted bytes go in and out on one side, plain ones on the other. rustls does the
//! cryptography and the protocol. This file feeds it and translates its errors; it reads and writes no socket.
//!
//! The unbuffered interface of rustls leaves the buffers to us, since its own reader takes only 4 KiB a call.

use super::buffer::Buffer;
use super::protocol::{Peer, TunnelError};
use super::records;
use crate::aws::{algorithms, certificate};
use nix::errno::Errno;
use rustls::client::{ResolvesClientCert, Resumption, UnbufferedClientConnection};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ProtocolVersion, RootCertStore,
    SignatureScheme,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most bytes of data that a TLS record carries.
pub const RECORD: usize = 1 << 14;
/// Room for an answer of the protocol itself, or for what goes around a record.
const SLACK: usize = 4 << 10;
/// What goes around a record in TLS 1.2 or 1.3: header, nonce, type, tag.
const AROUND: usize = 64;
/// How much data a buffer has room for, without what goes around the records.
pub const CHUNK: usize = 256 << 10;
/// The header of a record; the last two bytes are the length of what follows.
const HEADER: usize = 5;

/// What all connections to one file system have in common.
pub struct TlsClient {
    config: ClientConfig,
    name: ServerName<'static>,
    key: Arc<dyn SigningKey>,
}

impl TlsClient {
    /// A client that trusts `roots`, demands a certificate for `name`, and shows certificates for `key`.
    ///
    /// # Errors
    /// [`TunnelError::Key`] or [`TunnelError::Trust`].
    pub fn new(
        roots: RootCertStore,
        name: &str,
        key: &certificate::Key,
    ) -> Result<Self, TunnelError> {
        let mut provider = algorithms::provider();
        for suite in &mut provider.cipher_suites {
            *suite = records::quick(*suite);
        }

        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| TunnelError::Trust(e.to_string()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();

        // In a resumed session, the server would not look at our certificate again.
        config.resumption = Resumption::disabled();

        let pkcs8 = key.pkcs8().map_err(|e| TunnelError::Key(e.to_string()))?;
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&der.into())
            .map_err(|e| TunnelError::Key(format!("the RSA key cannot be used: {e}")))?;

        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| TunnelError::Trust(format!("{name} is no name for a certificate")))?;
        Ok(Self { config, name, key })
    }

    /// Begins a connection on which the server is shown `certificate` (DER).
    ///
    /// # Errors
    /// [`TunnelError::Incompatible`]: rustls does not begin it.
    pub fn begin(&self, certificate: Vec<u8>) -> Result<TlsSession, TunnelError> {
        let chain = vec![CertificateDer::from(certificate)];
        let mut config = self.config.clone();
        let shown = CertifiedKey::new(chain, Arc::clone(&self.key));
        config.client_auth_cert_resolver = Arc::new(OneCertificate(Arc::new(shown)));

        let connection = UnbufferedClientConnection::new(Arc::new(config), self.name.clone())
            .map_err(|e| failure(&e, false))?;

        Ok(TlsSession {
            connection,
            incoming: Buffer::new(CHUNK),
            outgoing: Buffer::new(CHUNK + CHUNK / RECORD * AROUND + 2 * SLACK),
            retained: 0,
            heard: false,
            ended: false,
            failed: None,
        })
    }
}

/// Shows one certificate, whatever issuers the server asks for.
#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesClientCert for OneCertificate {
    fn resolve(
        &self,
        _issuers: &[&[u8]],
        _schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsState {
    /// The handshake goes on.
    Handshaking,
    /// Data can be carried.
    Open,
}

/// One connection.
pub struct TlsSession {
    connection: UnbufferedClientConnection,
    /// What came from the network. Fill its room, then call [`TlsSession::turn`].
    pub incoming: Buffer,
    /// What is to go to the network.
    pub outgoing: Buffer,
    /// How many bytes at the front of `incoming` rustls has seen while it waits for the rest of their message. It must
    /// be shown them again each time.
    retained: usize,
    /// Whether anything that is TLS has come from the server.
    heard: bool,
    ended: bool,
    /// The first error. After one, rustls must not be called again: it would panic.
    failed: Option<TunnelError>,
}

/// The result of one call of rustls.
enum Step {
    /// It has done something, and may have more to do.
    Again,
    /// It needs more bytes.
    Idle(TlsState),
}

impl TlsSession {
    /// Whether the server has said that it will send nothing more.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Who is at the other end, once the connection is open.
    pub fn peer(&self, address: IpAddr, identity: Option<String>) -> Peer {
        let version = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            other => format!("{other:?}"),
        };

        let suite = self.connection.negotiated_cipher_suite().map(|suite| suite.suite());
        let cipher = suite.and_then(|suite| suite.as_str()).unwrap_or("unknown");
        Peer { address, version, cipher: cipher.replace("TLS13_", "TLS_"), identity }
    }

    /// Processes what has come in, as long as there is room for the results: data in `plain`, and answers of the
    /// protocol itself in `outgoing`.
    ///
    /// # Errors
    /// What is wrong. The connection has ended then, and `outgoing` holds the alert for the server.
    pub fn turn(&mut self, plain: &mut Buffer) -> Result<TlsState, TunnelError> {
        self.unless_failed(|session| session.turn_on(plain))
    }

    /// Does `what` unless something has failed before, and remembers if that fails.
    fn unless_failed<T>(
        &mut self,
        what: impl FnOnce(&mut Self) -> Result<T, TunnelError>,
    ) -> Result<T, TunnelError> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let result = what(self);
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn turn_on(&mut self, plain: &mut Buffer) -> Result<TlsState, TunnelError> {
        loop {
            if self.ended {
                // Bytes behind the end do not count.
                self.incoming.consume(usize::MAX / 2);
                self.retained = 0;
                return Ok(self.state());
            }

            if !self.has_room(plain) {
                return Ok(self.state());
            }

            // rustls is shown one record at a time, since only the result of one is sure to fit into the free room.
            let whole = self.next_record().unwrap_or(self.incoming.len());
            match self.step(whole, plain) {
                Ok(Step::Again) => {}
                Ok(Step::Idle(_)) if self.next_record().is_some() => {}
                Ok(Step::Idle(_)) if self.incoming.space() == 0 && !self.incoming.make_room() => {
                    return Err(TunnelError::Incompatible("a message is too long".into()));
                }
                Ok(Step::Idle(state)) => return Ok(state),
                Err(error) => {
                    self.queue_alert();
                    return Err(failure(&error, self.heard));
                }
            }
        }
    }

    /// Whether there is a record that [`TlsSession::turn`] would work on.
    pub fn can_turn(&self, plain: &Buffer) -> bool {
        !self.ended && self.has_room(plain) && self.next_record().is_some()
    }

    /// Whether the result of one record fits.
    fn has_room(&self, plain: &Buffer) -> bool {
        plain.space() >= RECORD && self.outgoing.space() >= SLACK
    }

    /// Whether nothing can be done without more bytes from the network.
    pub fn is_hungry(&self) -> bool {
        self.incoming.space() > 0 && self.next_record().is_none()
    }

    /// Where the first record ends that rustls has not seen, if it is there as a whole.
    fn next_record(&self) -> Option<usize> {
        let header = self.incoming.filled().get(self.retained..)?.get(..HEADER)?;
        let [_, _, _, high, low] = header else { return None };
        let end = self.retained + HEADER + usize::from(u16::from_be_bytes([*high, *low]));
        (end <= self.incoming.len()).then_some(end)
    }

    fn state(&self) -> TlsState {
        match self.connection.is_handshaking() {
            true => TlsState::Handshaking,
            false => TlsState::Open,
        }
    }

    /// Shows rustls the first `shown` bytes, and does what it asks for.
    fn step(&mut self, shown: usize, plain: &mut Buffer) -> Result<Step, rustls::Error> {
        let UnbufferedStatus { mut discard, state, .. } =
            self.connection.process_tls_records(self.incoming.first(shown));
        let mut again = true;
        let result = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => loop {
                match traffic.next_record() {
                    None => break Ok(()),
                    Some(Err(e)) => break Err(e),
                    Some(Ok(record)) => {
                        discard += record.discard;
                        if !plain.put(record.payload) {
                            break Err(rustls::Error::General("no room for a record".into()));
                        }
                    }
                }
            },
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encoded(&mut self.outgoing, |room| message.encode(room))
            }
            Ok(ConnectionState::TransmitTlsData(sent)) => {
                // It is in `outgoing`, in front of all that comes later.
                sent.done();
                Ok(())
            }
            Ok(ConnectionState::PeerClosed) => {
                self.ended = true;
                Ok(())
            }
            Ok(ConnectionState::Closed) => {
                self.ended = true;
                again = false;
                Ok(())
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                again = false;
                Ok(())
            }
            Ok(other) => Err(rustls::Error::General(format!("unexpected state {other:?}"))),
            Err(e) => Err(e),
        };

        // If rustls needs more bytes, it has seen all the bytes of whole records.
        let seen = match again || self.next_record().is_none_or(|end| end > shown) {
            true => self.retained,
            false => shown,
        };
        self.retained = seen.saturating_sub(discard);
        self.heard |= discard > 0;
        self.incoming.consume(discard);

        result?;
        Ok(if again || discard > 0 { Step::Again } else { Step::Idle(self.state()) })
    }

    /// Encrypts `data`, at most [`CHUNK`], behind what is in `outgoing`, which should be empty.
    ///
    /// # Errors
    /// [`TunnelError::Incompatible`]: the keys are used up, or the connection is not open.
    pub fn encrypt(&mut self, data: &[u8]) -> Result<(), TunnelError> {
        self.unless_failed(|s| s.write(|traffic, room| traffic.encrypt(data, room)))
    }

    /// Announces to the server that nothing more will come.
    ///
    /// # Errors
    /// As [`TlsSession::encrypt`].
    pub fn close(&mut self) -> Result<(), TunnelError> {
        self.unless_failed(|s| s.write(|traffic, room| traffic.queue_close_notify(room)))
    }

    fn write(
        &mut self,
        put: impl Fn(
            &mut rustls::unbuffered::WriteTraffic<'_, rustls::client::ClientConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> Result<(), TunnelError> {
        loop {
            // rustls is shown only bytes that it has seen before, so no data can come out.
            let status = self.connection.process_tls_records(self.incoming.first(self.retained));
            let discard = status.discard;
            let done = match status.state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let written = put(&mut traffic, self.outgoing.room()).map_err(|e| match e {
                        EncryptError::EncryptExhausted => {
                            TunnelError::Incompatible("the keys are used up".into())
                        }
                        EncryptError::InsufficientSize(_) => TunnelError::NoMeans(Errno::ENOBUFS),
                    })?;
                    self.outgoing.add(written);
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    encoded(&mut self.outgoing, |room| message.encode(room))
                        .map_err(|e| failure(&e, true))?;
                    false
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    false
                }
                Ok(other) => {
                    return Err(TunnelError::Incompatible(format!("unexpected state {other:?}")));
                }
                Err(e) => return Err(failure(&e, true)),
            };

            self.retained = self.retained.saturating_sub(discard);
            self.incoming.consume(discard);
            if done {
                return Ok(());
            }
        }
    }

    /// Puts the alert that rustls has ready after an error into `outgoing`.
    fn queue_alert(&mut self) {
        while self.connection.wants_write() {
            let all = self.incoming.first(usize::MAX / 2);
            let status = self.connection.process_tls_records(all);
            let Ok(ConnectionState::EncodeTlsData(mut message)) = status.state else { return };
            if encoded(&mut self.outgoing, |room| message.encode(room)).is_err() {
                return;
            }
        }
    }
}

/// Lets `encode` write into `outgoing`.
fn encoded(
    outgoing: &mut Buffer,
    encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), rustls::Error> {
    let written = encode(outgoing.room())
        .map_err(|e| rustls::Error::General(format!("no room for a message: {e}")))?;
    outgoing.add(written);
    Ok(())
}

/// What an error of rustls means. `heard` says that something that is TLS has come before.
fn failure(error: &rustls::Error, heard: bool) -> TunnelError {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => certificate_failure(error),
        E::AlertReceived(alert) => TunnelError::Alert(alert_name(*alert)),
        E::InvalidMessage(_) | E::InappropriateMessage { .. } if !heard => TunnelError::NotTls,
        E::NoCertificatesPresented => TunnelError::Certificate("it shows none".into()),
        E::PeerIncompatible(why) => TunnelError::Incompatible(words(&format!("{why:?}"))),
        E::PeerMisbehaved(why) => TunnelError::Incompatible(words(&format!("{why:?}"))),
        other => TunnelError::Incompatible(other.to_string()),
    }
}

fn time(time: &UnixTime) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs())).unwrap_or(UNIX_EPOCH)
}

fn certificate_failure(error: &CertificateError) -> TunnelError {
    use CertificateError as C;
    match error {
        C::UnknownIssuer => TunnelError::UnknownIssuer,
        C::NotValidForNameContext { expected, presented } => TunnelError::CertificateName {
            wanted: expected.to_str().into_owned(),
            presented: presented.iter().map(|name| bare_name(name)).collect(),
        },
        C::ExpiredContext { time: now, not_after } => {
            TunnelError::Expired { not_after: time(not_after), now: time(now) }
        }
        C::NotValidYetContext { time: now, not_before } => {
            TunnelError::NotYetValid { not_before: time(not_before), now: time(now) }
        }
        C::Expired => TunnelError::Expired { not_after: UNIX_EPOCH, now: SystemTime::now() },
        C::NotValidYet => {
            TunnelError::NotYetValid { not_before: UNIX_EPOCH, now: SystemTime::now() }
        }
        // Some errors have no name in rustls and are known by their text only.
        C::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            TunnelError::CaShown
        }
        C::Other(other) => TunnelError::Certificate(words(&format!("{other:?}"))),
        other => TunnelError::Certificate(words(&format!("{other:?}"))),
    }
}

/// The bare name `a.b`, which webpki writes as `DnsName("a.b")`.
fn bare_name(name: &str) -> String {
    let quoted = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    quoted.unwrap_or(name).to_owned()
}

/// The name of an alert as RFC 8446 writes it: `handshake_failure`.
fn alert_name(alert: AlertDescription) -> String {
    match alert.as_str() {
        Some(name) => joined(name, '_'),
        None => format!("number {}", u8::from(alert)),
    }
}

/// `BadSignature` as "bad signature".
fn words(name: &str) -> String {
    joined(name, ' ')
}

/// Splits a name where its words begin, and joins them with `with`.
fn joined(name: &str, with: char) -> String {
    let mut text = String::new();
    let mut before = '\0';
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        let starts = before.is_ascii_lowercase()
            || before.is_ascii_uppercase() && rest.peek().is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && starts {
            text.push(with);
        }
        text.push(c.to_ascii_lowercase());
        before = c;
    }
    text
}

#[cfg(test)]
pub(super) mod tests;
