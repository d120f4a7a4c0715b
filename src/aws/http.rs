//! A small HTTP/1.1 client for credentials and AWS's APIs: one request on one connection, in the clear or by TLS. Every
//! wait ends at a deadline, and everything that is read is bounded. No redirect is followed. What a request means is
//! not known here.

mod response;
mod url;

pub use response::{HttpResponse, ResponseError};
pub use url::Url;

use crate::aws::algorithms;
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::stop::Stop;
use crate::sys::{self, errno_of};
use crate::text;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use response::ResponseReader;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The server's name has no address.
    #[error("{host} cannot be resolved: {why}")]
    Name { host: String, why: String },
    #[error("no connection to {address}: {}", unconnected(*errno))]
    Connect {
        address: SocketAddr,
        /// The errno of connect(2).
        errno: Errno,
    },
    /// The server said nothing, or not enough.
    #[error("{address} did not {} within {}", stage.word(), humantime::format_duration(*span))]
    Silent {
        address: SocketAddr,
        /// What it did not do.
        stage: Stage,
        /// For this long, in tenths of a second.
        span: Duration,
    },
    #[error("the connection to {address} broke: {}", errno.desc())]
    Broken {
        address: SocketAddr,
        /// The errno of read(2) or write(2).
        errno: Errno,
    },
    /// The server closed the connection before its answer was whole.
    #[error("{0} closed the connection before its answer was whole")]
    Closed(SocketAddr),
    #[error("TLS with {address} failed: {why}")]
    Tls {
        address: SocketAddr,
        /// What the library says.
        why: String,
    },
    /// No certificate can be for such a host.
    #[error("{0:?} is no host name")]
    BadName(String),
    /// What came is no answer in HTTP.
    #[error("{address} sent no proper HTTP answer: {why}")]
    Malformed { address: SocketAddr, why: ResponseError },
    /// A part of the request holds a line break, or another character that cannot be in a header.
    #[error("the {0} cannot be sent: it holds a control character")]
    Unsendable(String),
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why there is no connection, in the same words as for a mount.
fn unconnected(errno: Errno) -> String {
    match text::unconnected(errno) {
        Some(why) => format!("{why} ({errno:?})"),
        None => errno.desc().to_owned(),
    }
}

/// The next thing that a server has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connect,
    Handshake,
    Answer,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Connect => "take the connection",
            Self::Handshake => "finish the TLS handshake",
            Self::Answer => "answer",
        }
    }
}

#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// "GET", "PUT" or "POST".
    pub method: &'static str,
    pub url: &'a Url,
    /// All headers except `Host`, `Content-Length` and `Connection`.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// Looks a host name up before a deadline, or says in words why that cannot be.
pub type Resolve<'a> = dyn Fn(&str, Deadline) -> Result<Vec<IpAddr>, String> + 'a;

/// What is needed to reach a server.
#[derive(Clone)]
pub struct Net<'a> {
    pub clock: &'a dyn Clock,
    /// Ends every wait.
    pub stop: &'a Stop,
    /// Finds addresses.
    pub resolve: &'a Resolve<'a>,
    /// Says which certificates are trusted; see [`tls`].
    pub tls: Arc<ClientConfig>,
}

/// How to speak TLS with servers whose certificates come from `roots`.
///
/// # Errors
/// What the library says if it cannot do so at all.
pub fn tls(roots: RootCertStore) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(algorithms::provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;

    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Net<'_> {
    /// Sends `request` and waits for the whole answer, whatever its status, until `until`.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub fn exchange(
        &self,
        request: &HttpRequest<'_>,
        until: Deadline,
    ) -> Result<HttpResponse, HttpError> {
        let bytes = composed(request)?;
        let started = self.clock.now();
        let (stream, address) = self.connect(request.url, until)?;

        let mut socket = Waiting { stream, net: self, until };
        let mut reader = ResponseReader::default();
        let (result, stage) = if request.url.tls {
            let host = &request.url.host;
            let name = ServerName::try_from(host.clone());
            let name = name.map_err(|_| HttpError::BadName(host.clone()))?;
            let tls = |e: rustls::Error| HttpError::Tls { address, why: e.to_string() };

            let mut connection = ClientConnection::new(self.tls.clone(), name).map_err(tls)?;
            let mut stream = rustls::Stream::new(&mut connection, &mut socket);
            let result = talk(&mut stream, &bytes, &mut reader);
            let stage = if connection.is_handshaking() { Stage::Handshake } else { Stage::Answer };
            (result, stage)
        } else {
            (talk(&mut socket, &bytes, &mut reader), Stage::Answer)
        };

        let span = rounded(self.clock.now().saturating_sub(started));
        match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(ResponseError::CutOff)) => Err(HttpError::Closed(address)),
            Ok(Err(why)) => Err(HttpError::Malformed { address, why }),
            Err(e) => Err(translated(&e, address, stage, span)),
        }
    }

    /// A connection to the first address of the server that takes one.
    fn connect(&self, url: &Url, until: Deadline) -> Result<(TcpStream, SocketAddr), HttpError> {
        let unresolved = |why: String| HttpError::Name { host: url.host.clone(), why };
        let addresses = match url.address() {
            Some(address) => vec![address],
            None => (self.resolve)(&url.host, until).map_err(unresolved)?,
        };

        let mut error = unresolved("it has no address".into());
        for (n, address) in addresses.iter().enumerate() {
            // The remaining addresses share the remaining time.
            let share = until.left(self.clock).part(addresses.len() - n);
            let until = until.within(self.clock, share);
            let address = SocketAddr::new(*address, url.port);
            match self.connect_to(address, until) {
                Ok(stream) => return Ok((stream, address)),
                Err(stopped @ HttpError::Stopped(_)) => return Err(stopped),
                Err(e) => error = e,
            }
        }
        Err(error)
    }

    fn connect_to(&self, address: SocketAddr, until: Deadline) -> Result<TcpStream, HttpError> {
        let failed = |errno| HttpError::Connect { address, errno };
        let started = self.clock.now();
        let stream = sys::connect_tcp(address).map_err(failed)?;

        loop {
            let fd = PollFd::new(stream.as_fd(), PollFlags::POLLOUT);
            let ready = self.stop.poll(&[fd], until.left(self.clock))?;
            if ready.first() == Some(&true) {
                break;
            }
            if until.passed(self.clock) {
                let span = rounded(self.clock.now().saturating_sub(started));
                return Err(HttpError::Silent { address, stage: Stage::Connect, span });
            }
        }

        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(e)) | Err(e) => return Err(failed(errno_of(&e))),
        }
        // A small request gains nothing by waiting for more data. The connection works without this option, too.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// A span as a person reads it: in tenths of a second.
pub(super) fn rounded(span: Duration) -> Duration {
    let tenths = (span.as_millis() + 50) / 100;
    Duration::from_millis(100 * tenths.max(1) as u64)
}

/// Sends the request, and reads until the answer is whole or broken.
fn talk(
    stream: &mut (impl Read + Write),
    request: &[u8],
    reader: &mut ResponseReader,
) -> io::Result<Result<HttpResponse, ResponseError>> {
    stream.write_all(request)?;
    stream.flush()?;

    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let count = match stream.read(&mut *chunk) {
            Ok(count) => count,
            // TLS: the connection ended without a closure alert.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(ResponseError::CutOff));
            }
            Err(e) => return Err(e),
        };

        if count == 0 {
            return Ok(reader.end());
        }
        match reader.take(chunk.get(..count).unwrap_or_default()) {
            Ok(None) => {}
            Ok(Some(response)) => return Ok(Ok(response)),
            Err(why) => return Ok(Err(why)),
        }
    }
}

/// The request as it is sent. It may hold secrets: the buffer never grows, and is wiped in the end.
fn composed(request: &HttpRequest<'_>) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let url = request.url;
    if has_control(&url.path) || url.path.contains(' ') {
        return Err(HttpError::Unsendable("path".into()));
    }
    for (name, value) in request.headers {
        if has_control(name) || has_control(value) {
            return Err(HttpError::Unsendable(format!("header {name:?}")));
        }
    }

    let host = url.authority();
    let lines: usize =
        request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let room = url.path.len() + host.len() + lines + request.body.len() + 200;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));

    add_line(&mut bytes, &[request.method, " ", &url.path, " HTTP/1.1"]);
    add_line(&mut bytes, &["Host: ", &host]);
    add_line(&mut bytes, &["Connection: close"]);
    if request.method != "GET" {
        add_line(&mut bytes, &["Content-Length: ", &request.body.len().to_string()]);
    }

    for (name, value) in request.headers {
        add_line(&mut bytes, &[name, ": ", value]);
    }
    add_line(&mut bytes, &[]);
    bytes.extend_from_slice(request.body);
    Ok(bytes)
}

fn has_control(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && c != '\t')
}

fn add_line(bytes: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
}

/// The error of an exchange that broke off with `e` in `stage`, after `span`.
fn translated(e: &io::Error, address: SocketAddr, stage: Stage, span: Duration) -> HttpError {
    if let Some(inner) = e.get_ref() {
        if inner.is::<Stopped>() {
            return Stopped.into();
        }
        if let Some(e) = inner.downcast_ref::<rustls::Error>() {
            return HttpError::Tls { address, why: e.to_string() };
        }
    }

    match e.kind() {
        io::ErrorKind::TimedOut if e.raw_os_error().is_none() => {
            HttpError::Silent { address, stage, span }
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => HttpError::Closed(address),
        _ => HttpError::Broken { address, errno: errno_of(e) },
    }
}

/// A socket whose reads and writes wait, but not past the deadline, and not past a signal.
struct Waiting<'a> {
    stream: TcpStream,
    net: &'a Net<'a>,
    until: Deadline,
}

impl Waiting<'_> {
    /// Repeats `attempt`, each time that the socket is ready for `what`, until it need not wait.
    fn wait_for<T>(
        &self,
        what: PollFlags,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            // The deadline is checked before the attempt: a server that sends one byte at a time gains no time.
            if self.until.passed(self.net.clock) {
                return Err(io::ErrorKind::TimedOut.into());
            }

            match attempt(&self.stream) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                result => return result,
            }

            let fd = PollFd::new(self.stream.as_fd(), what);
            let left = self.until.left(self.net.clock);
            self.net.stop.poll(&[fd], left).map_err(io::Error::other)?;
        }
    }
}

impl Read for Waiting<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.wait_for(PollFlags::POLLIN, |mut stream| stream.read(into))
    }
}

impl Write for Waiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait_for(PollFlags::POLLOUT, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
