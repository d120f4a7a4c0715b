//! A small HTTP/1.1 client for credentials and AWS's APIs: one request on one
//! connection, in the clear or by TLS, with every wait inside a deadline and
//! everything that is read inside a bound. Follows no redirect, and knows
//! nothing of what is asked.

mod response;

pub use response::{HttpResponse, Malformed};

use crate::aws::algorithms;
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::stop::Stop;
use crate::sys;
use crate::text;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use response::ResponseReader;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The name of the server is not to be had; what the resolver said.
    #[error("{host} cannot be resolved: {why}")]
    Name {
        /// The name.
        host: String,
        /// What the resolver said.
        why: String,
    },
    /// No connection.
    #[error("no connection to {address}: {}", unconnected(*errno))]
    Connect {
        /// To this address.
        address: SocketAddr,
        /// The reason.
        errno: Errno,
    },
    /// The server said nothing, or not enough.
    #[error("{address} did not {} within {}", stage.word(), humantime::format_duration(*span))]
    Silent {
        /// The server's address.
        address: SocketAddr,
        /// What it was to do.
        stage: Stage,
        /// In this time, in tenths of a second.
        span: Duration,
    },
    /// The connection broke.
    #[error("the connection to {address} broke: {}", errno.desc())]
    Broken {
        /// The server's address.
        address: SocketAddr,
        /// The reason.
        errno: Errno,
    },
    /// The server closed the connection before its answer was whole.
    #[error("{0} closed the connection before its answer was whole")]
    Closed(SocketAddr),
    /// TLS failed.
    #[error("TLS with {address} failed: {why}")]
    Tls {
        /// The server's address.
        address: SocketAddr,
        /// What the library says.
        why: String,
    },
    /// The host is no name that a certificate could be for.
    #[error("{0:?} is no host name")]
    BadName(String),
    /// What came is no answer in HTTP.
    #[error("{address} sent no proper HTTP answer: {why}")]
    Malformed {
        /// The server's address.
        address: SocketAddr,
        /// What is wrong.
        why: Malformed,
    },
    /// Something that was to be sent holds a line break, or what else cannot be in a header.
    #[error("the {0} cannot be sent: it holds a control character")]
    Unsendable(String),
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// In the words that the mount's own errors have.
fn unconnected(errno: Errno) -> String {
    match text::unconnected(errno) {
        Some(why) => format!("{why} ({errno:?})"),
        None => errno.desc().to_owned(),
    }
}

/// What a server is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// To take the connection.
    Connect,
    /// To finish the TLS handshake.
    Handshake,
    /// To answer.
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

/// Where a server is, and what is asked of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether by TLS.
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Path and query, from the first slash on.
    pub path: String,
}

impl Url {
    /// Takes an http or https URL apart; `None` if it is none, or holds a user or a control character.
    pub fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let (scheme, rest) = text.split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let path = path.split('#').next()?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port)
            }
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => {
                if tls {
                    443
                } else {
                    80
                }
            }
            None => return None,
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        (!host.is_empty() && host.bytes().all(fits)).then(|| Self {
            tls,
            host: host.to_ascii_lowercase(),
            port,
            path,
        })
    }

    /// The same server, asked for `path`.
    pub fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// The `Host` header.
    pub fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let usual = if self.tls { 443 } else { 80 };
        if self.port == usual { host } else { format!("{host}:{}", self.port) }
    }

    /// The address, where the host is one; localhost is one too.
    pub fn address(&self) -> Option<IpAddr> {
        if self.host == "localhost" {
            return Some(Ipv4Addr::LOCALHOST.into());
        }
        self.host.parse().ok()
    }
}

impl std::fmt::Display for Url {
    /// Without the query, which is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path.split('?').next().unwrap_or_default();
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// What is asked.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// "GET", "PUT" or "POST".
    pub method: &'static str,
    /// Of whom, and for what.
    pub url: &'a Url,
    /// Headers but `Host`, `Content-Length` and `Connection`.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a [u8],
}

/// Looks a host name up before a deadline, or says in words why that cannot be.
pub type Resolve<'a> = dyn Fn(&str, Deadline) -> Result<Vec<IpAddr>, String> + 'a;

/// What it takes to reach a server.
#[derive(Clone)]
pub struct Net<'a> {
    /// Time.
    pub clock: &'a dyn Clock,
    /// What ends every wait.
    pub stop: &'a Stop,
    /// Names.
    pub resolve: &'a Resolve<'a>,
    /// Whom to trust by TLS; see [`tls`].
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
            Ok(Err(Malformed::CutOff)) => Err(HttpError::Closed(address)),
            Ok(Err(why)) => Err(HttpError::Malformed { address, why }),
            Err(e) => Err(translated(&e, address, stage, span)),
        }
    }

    /// A connection to the first address of the server that takes one.
    fn connect(&self, url: &Url, until: Deadline) -> Result<(TcpStream, SocketAddr), HttpError> {
        let failed = |why: String| HttpError::Name { host: url.host.clone(), why };
        let addresses = match url.address() {
            Some(address) => vec![address],
            None => (self.resolve)(&url.host, until).map_err(failed)?,
        };
        let mut problem = failed("it has no address".into());
        for (n, address) in addresses.iter().enumerate() {
            // What is left of the time is shared by those that are left.
            let share = until.left(self.clock).part(addresses.len() - n);
            let until = until.within(self.clock, share);
            let address = SocketAddr::new(*address, url.port);
            match self.connect_to(address, until) {
                Ok(stream) => return Ok((stream, address)),
                Err(stopped @ HttpError::Stopped(_)) => return Err(stopped),
                Err(e) => problem = e,
            }
        }
        Err(problem)
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
        // Small requests, each answered before the next: nothing to wait for. Not vital.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// A span as a person reads it: in tenths of a second.
pub(super) fn rounded(span: Duration) -> Duration {
    let tenths = (span.as_millis() + 50) / 100;
    Duration::from_millis(100 * tenths.max(1) as u64)
}

fn errno_of(e: &io::Error) -> Errno {
    e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Sends the request, and reads until the answer is whole or broken.
fn talk(
    stream: &mut (impl Read + Write),
    request: &[u8],
    reader: &mut ResponseReader,
) -> io::Result<Result<HttpResponse, Malformed>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut chunk = Zeroizing::new([0; 4096]);
    loop {
        let count = match stream.read(&mut *chunk) {
            Ok(count) => count,
            // By TLS: the connection ended without the word that it may.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(Malformed::CutOff));
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

/// The request as it is sent. It may hold secrets, so it is never outgrown and wiped at last.
fn composed(request: &HttpRequest<'_>) -> Result<Zeroizing<Vec<u8>>, HttpError> {
    let url = request.url;
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\t');
    if control(&url.path) || url.path.contains(' ') {
        return Err(HttpError::Unsendable("path".into()));
    }
    for (name, value) in request.headers {
        if control(name) || control(value) {
            return Err(HttpError::Unsendable(format!("header {name:?}")));
        }
    }
    let host = url.authority();
    let lines: usize =
        request.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let room = url.path.len() + host.len() + lines + request.body.len() + 200;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    let mut line = |parts: &[&str]| {
        for part in parts {
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
    };
    line(&[request.method, " ", &url.path, " HTTP/1.1"]);
    line(&["Host: ", &host]);
    line(&["Connection: close"]);
    if request.method != "GET" {
        line(&["Content-Length: ", &request.body.len().to_string()]);
    }
    for (name, value) in request.headers {
        line(&[name, ": ", value]);
    }
    line(&[]);
    bytes.extend_from_slice(request.body);
    Ok(bytes)
}

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
    fn patiently<T>(
        &self,
        what: PollFlags,
        mut attempt: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            // First, so that somebody who sends one byte at a time gains nothing by it.
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
        self.patiently(PollFlags::POLLIN, |mut stream| stream.read(into))
    }
}

impl Write for Waiting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(PollFlags::POLLOUT, |mut stream| stream.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
