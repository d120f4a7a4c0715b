//! What a tunnel is asked over its control socket, and how it answers: a line in, a line of JSON
//! out. Both ends of that are here, so that they cannot differ; what the answers are is the
//! tunnel's business.

use crate::aws::credentials::{Service, Trouble};
use crate::json::{Document, Member, Node, Value, quoted};
use crate::retry::{Span, Stopped};
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// More than any answer has: whoever sends more is no tunnel of ours.
const LONGEST_ANSWER: usize = 64 << 10;
/// The longest request, with its line break.
pub const LONGEST_REQUEST: usize = 64;
/// So much of the time there is for a handshake is left for the answer to come in.
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// While a tunnel that is being started has no room in its queue, it is asked again this often.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The file system's end of a TLS connection that stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Of the mount target.
    pub address: IpAddr,
    /// "TLS 1.3" or "TLS 1.2".
    pub version: String,
    /// The cipher suite, as IANA names it.
    pub cipher: String,
    /// Where the credentials came from, and the access key id; never a secret.
    pub identity: Option<String>,
}

/// How a tunnel is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TunnelStatus {
    /// The last handshake that was finished.
    pub peer: Option<Peer>,
    /// Connections of the kernel's that stand now.
    pub connections: u64,
    /// Bytes that went to the file system, before they were encrypted, since the tunnel was started.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
    /// Connections that were not the kernel's, and closed.
    pub refused: u64,
    /// Why the last attempt to reach the file system failed, if it did.
    pub last_failure: Option<TunnelError>,
}

/// Why there is no encrypted connection to the file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The tunnel itself cannot be asked: it does not run, or does not answer (ETIMEDOUT), or ends
    /// the conversation (ECONNRESET), or says what no tunnel says (EPROTO).
    #[error("the tunnel cannot be asked: {}", named(*.0))]
    NoTunnel(Errno),
    /// It does not answer yet, since it has no key yet.
    #[error("the tunnel is still making its RSA key")]
    MakingKey,
    /// The endpoint has no address.
    #[error("{0}")]
    Name(String),
    /// No address answers.
    #[error("{0}")]
    Reach(String),
    /// There are no credentials for IAM.
    #[error("{0}")]
    Credentials(String),
    /// There are none, for a service that gives them is in trouble.
    #[error("{what}")]
    Service {
        /// What was tried, and what was said.
        what: String,
        /// Which service.
        service: Service,
        /// Its trouble.
        trouble: Trouble,
    },
    /// There are none, and what helps is known where they are looked for: something is wrong in the files of
    /// profiles, say.
    #[error("{what}")]
    Source {
        /// What was tried, and what was said.
        what: String,
        /// What to do about it.
        mend: String,
        /// Whether only a person can: waiting does not help.
        lasts: bool,
    },
    /// The endpoint has no address, and AWS, which was asked for the mount targets, was of no help.
    #[error("{what}; {why}")]
    Undiscovered {
        /// Why it has none.
        what: String,
        /// Why AWS has given none.
        why: Box<TunnelError>,
    },
    /// A file is not read (credentials, or trusted certificates), since others than root can change it.
    #[error("{what}; run: {mend}")]
    Changeable {
        /// Which one, and how.
        what: String,
        /// The command that mends it.
        mend: String,
    },
    /// The server's certificate is for other names.
    #[error("the server's certificate is for {}, not for {wanted}", names(.presented))]
    CertificateName {
        /// The name that it should have.
        wanted: String,
        /// The names that it has.
        presented: Vec<String>,
    },
    /// The server's certificate was issued by nobody that is trusted.
    #[error("the server's certificate was issued by nobody that is trusted")]
    UnknownIssuer,
    /// The server's certificate is no longer valid, or the clock here is fast.
    #[error("the server's certificate expired at {}, and the clock here says {}",
        stamp(.not_after), stamp(.now))]
    Expired {
        /// Until when it was valid.
        not_after: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// The server's certificate is not valid yet, or the clock here is slow.
    #[error("the server's certificate is valid from {} on, and the clock here says {}",
        stamp(.not_before), stamp(.now))]
    NotYetValid {
        /// From when on it is valid.
        not_before: SystemTime,
        /// What time it is here.
        now: SystemTime,
    },
    /// The server's certificate is one that issues others.
    #[error("the server shows a CA certificate as its own")]
    CaShown,
    /// The server's certificate cannot be accepted for another reason.
    #[error("the server's certificate cannot be accepted: {0}")]
    Certificate(String),
    /// The server ended the handshake with this TLS alert (RFC 8446, 6).
    #[error("the server ended the TLS handshake with the alert {0}")]
    Alert(String),
    /// The server and we have no TLS version or cipher in common, or it breaks the rules of TLS.
    #[error("the server's TLS cannot be used: {0}")]
    Incompatible(String),
    /// What the server sends is not TLS.
    #[error("the server does not speak TLS on this port")]
    NotTls,
    /// The server closed the connection in mid-handshake.
    #[error("the server closed the connection in the middle of the TLS handshake")]
    Closed,
    /// The server fell silent in mid-handshake.
    #[error("the server did not finish the TLS handshake within {}", crate::retry::seconds(*.0))]
    Silent(Duration),
    /// The handshake was finished, but what is behind it closed the connection, where an NFS server
    /// answers a NULL call: it does not accept the client's certificate, or is not there.
    #[error("the server closed the connection right after the TLS handshake")]
    Dropped,
    /// The handshake was finished, but what is behind it does not answer an NFS NULL call.
    #[error("the server finished the TLS handshake, but did not answer as an NFS server within {}",
        crate::retry::seconds(*.0))]
    Mute(Duration),
    /// The trusted certificates cannot be loaded.
    #[error("{0}")]
    Trust(String),
    /// The key of the client's certificate, or the certificate, cannot be made.
    #[error("{0}")]
    Key(String),
    /// This machine has no means for a connection: descriptors, memory, processes.
    #[error("no connection can be made here: {}", named(*.0))]
    NoMeans(Errno),
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl TunnelError {
    /// Whether another server of the same file system may do better.
    pub fn is_of_the_server(&self) -> bool {
        !matches!(
            self,
            Self::NoTunnel(_)
                | Self::MakingKey
                | Self::Name(_)
                | Self::Credentials(_)
                | Self::Service { .. }
                | Self::Source { .. }
                | Self::Undiscovered { .. }
                | Self::Changeable { .. }
                | Self::Trust(_)
                | Self::Key(_)
                | Self::NoMeans(_)
                | Self::Stopped(_)
        )
    }
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "no name at all".into() } else { names.join(", ") }
}

/// An errno as people and their search engines know it.
pub(super) fn named(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc().to_lowercase())
}

/// A time for people; what a certificate says may lie beyond any calendar.
fn stamp(at: &SystemTime) -> String {
    // humantime writes up to the year 9999.
    let year_9999 = UNIX_EPOCH.checked_add(Duration::from_secs(253_402_300_799));
    let year_9999 = year_9999.unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds((*at).clamp(UNIX_EPOCH, year_9999)).to_string()
}

/// Asks the tunnel behind `socket` for one fresh handshake with the file system, before `until`. The
/// connection is closed again.
///
/// # Errors
/// See [`TunnelError`].
pub fn handshake(socket: &Path, wait: Wait<'_>) -> Result<Peer, TunnelError> {
    // Its answer needs a moment too, or it would come too late whenever it is that nobody answers.
    let wanted =
        |left: Duration| Request::Handshake(left.saturating_sub(ON_THE_WAY.min(left.part(4))));
    let answer = ask(socket, &wanted, wait)?;
    read(&answer, |root| match member(root, "failure") {
        Some(failure) => Some(Err(read_failure(failure)?)),
        None => Some(Ok(read_peer(member(root, "peer")?)?)),
    })?
}

/// Asks the tunnel behind `socket` how it is, before `until`.
///
/// # Errors
/// [`TunnelError::NoTunnel`] or [`TunnelError::Stopped`].
pub fn status(socket: &Path, wait: Wait<'_>) -> Result<TunnelStatus, TunnelError> {
    let answer = ask(socket, &|_| Request::Status, wait)?;
    read(&answer, read_status)
}

/// What a tunnel can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// One fresh handshake with the file system, within this time.
    Handshake(Duration),
    /// How are you?
    Status,
}

impl Request {
    /// The line that asks it.
    pub fn line(self) -> String {
        match self {
            Self::Handshake(left) => format!("handshake {}\n", left.as_millis()),
            Self::Status => "status\n".into(),
        }
    }

    /// What a line (without its line break) asks; nothing where it makes no sense.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?;
        match line.split_once(' ') {
            None if line == "status" => Some(Self::Status),
            Some(("handshake", millis)) => {
                Some(Self::Handshake(Duration::from_millis(u64::from(millis.parse::<u32>().ok()?))))
            }
            _ => None,
        }
    }
}

/// Sends the request that `wanted` makes of the time left; gives the line that comes back.
fn ask(
    socket: &Path,
    wanted: &dyn Fn(Duration) -> Request,
    wait: Wait<'_>,
) -> Result<String, TunnelError> {
    let stream = loop {
        match sys::connect_unix(socket) {
            Ok(stream) => break stream,
            // Its queue is full: it is being started, and asked by others too.
            Err(Errno::EAGAIN) if !wait.passed() => wait.pause(RETRY_PAUSE)?,
            Err(errno) => return Err(TunnelError::NoTunnel(errno)),
        }
    };
    let request = wanted(wait.left()).line();
    // A new socket's buffer takes a line whole.
    sys::send_now(stream.as_fd(), request.as_bytes()).map_err(TunnelError::NoTunnel)?;
    answer(stream, wait)
}

fn answer(mut stream: UnixStream, wait: Wait<'_>) -> Result<String, TunnelError> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        wait.poll(&fds)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(TunnelError::NoTunnel(Errno::ECONNRESET)),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if wait.passed() {
                    return Err(TunnelError::NoTunnel(Errno::ETIMEDOUT));
                }
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                let errno = sys::errno_of(&e);
                return Err(TunnelError::NoTunnel(errno));
            }
        }
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            bytes.truncate(end);
            return String::from_utf8(bytes).map_err(|_| TunnelError::NoTunnel(Errno::EPROTO));
        }
        if bytes.len() > LONGEST_ANSWER {
            return Err(TunnelError::NoTunnel(Errno::EPROTO));
        }
    }
}

/// The line that answers [`Request::Handshake`].
pub fn handshake_line(result: &Result<Peer, TunnelError>) -> String {
    match result {
        Ok(peer) => format!("{{\"peer\": {}}}\n", peer_json(peer)),
        Err(failure) => format!("{{\"failure\": {}}}\n", failure_json(failure)),
    }
}

/// The line that answers [`Request::Status`].
pub fn status_line(status: &TunnelStatus) -> String {
    let null = || "null".to_owned();
    format!(
        "{{\"peer\": {}, \"connections\": {}, \"sent\": {}, \"received\": {}, \"refused\": {}, \
         \"last_failure\": {}}}\n",
        status.peer.as_ref().map_or_else(null, peer_json),
        status.connections,
        status.sent,
        status.received,
        status.refused,
        status.last_failure.as_ref().map_or_else(null, failure_json),
    )
}

fn peer_json(peer: &Peer) -> String {
    format!(
        "{{\"address\": \"{}\", \"version\": {}, \"cipher\": {}, \"identity\": {}}}",
        peer.address,
        quoted(&peer.version),
        quoted(&peer.cipher),
        peer.identity.as_ref().map_or_else(|| "null".into(), |identity| quoted(identity)),
    )
}

fn failure_json(failure: &TunnelError) -> String {
    use TunnelError as F;
    let with = |kind: &str, rest: String| format!("{{\"kind\": \"{kind}\", {rest}}}");
    let text = |kind: &str, text: &str| with(kind, format!("\"text\": {}", quoted(text)));
    let bare = |kind: &str| format!("{{\"kind\": \"{kind}\"}}");
    let times = |kind: &str, limit: &SystemTime, now: &SystemTime| {
        with(kind, format!("\"limit\": {}, \"now\": {}", unix(limit), unix(now)))
    };
    match failure {
        F::NoTunnel(errno) => with("no tunnel", format!("\"errno\": {}", *errno as i32)),
        F::MakingKey => bare("making key"),
        F::NoMeans(errno) => with("no means", format!("\"errno\": {}", *errno as i32)),
        F::Name(why) => text("name", why),
        F::Reach(why) => text("reach", why),
        F::Credentials(why) => text("credentials", why),
        F::Service { what, service, trouble } => with(
            "service",
            format!(
                "\"text\": {}, \"service\": \"{}\", \"trouble\": \"{}\"",
                quoted(what),
                service.word(),
                trouble.word()
            ),
        ),
        F::Source { what, mend, lasts } => with(
            "source",
            format!("\"text\": {}, \"mend\": {}, \"lasts\": {lasts}", quoted(what), quoted(mend)),
        ),
        F::Undiscovered { what, why } => with(
            "undiscovered",
            format!("\"text\": {}, \"why\": {}", quoted(what), failure_json(why)),
        ),
        F::Changeable { what, mend } => {
            with("changeable", format!("\"text\": {}, \"mend\": {}", quoted(what), quoted(mend)))
        }
        F::CertificateName { wanted, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| quoted(name)).collect();
            let presented = presented.join(", ");
            let wanted = quoted(wanted);
            with("certificate name", format!("\"wanted\": {wanted}, \"presented\": [{presented}]"))
        }
        F::UnknownIssuer => bare("unknown issuer"),
        F::Expired { not_after, now } => times("expired", not_after, now),
        F::NotYetValid { not_before, now } => times("not yet valid", not_before, now),
        F::CaShown => bare("ca shown"),
        F::Certificate(why) => text("certificate", why),
        F::Alert(name) => text("alert", name),
        F::Incompatible(why) => text("incompatible", why),
        F::NotTls => bare("not tls"),
        F::Closed => bare("closed"),
        F::Silent(span) => with("silent", format!("\"milliseconds\": {}", span.as_millis())),
        F::Dropped => bare("dropped"),
        F::Mute(span) => with("mute", format!("\"milliseconds\": {}", span.as_millis())),
        F::Trust(why) => text("trust", why),
        F::Key(why) => text("key", why),
        F::Stopped(Stopped) => bare("stopped"),
    }
}

/// Whole seconds since 1970; what lies before that counts as that.
fn unix(at: &SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Reads an answer with `what`.
fn read<T>(text: &str, what: impl Fn(Root<'_, '_>) -> Option<T>) -> Result<T, TunnelError> {
    let document = Document::parse(text).ok();
    let read = document.as_ref().and_then(|d| what(Root { document: d, node: &d.root }));
    read.ok_or(TunnelError::NoTunnel(Errno::EPROTO))
}

/// A value, and the document that it is in.
#[derive(Clone, Copy)]
struct Root<'d, 't> {
    document: &'d Document<'t>,
    node: &'d Node,
}

/// The member `key` of an object; nothing where it is null or not there.
fn member<'d, 't>(of: Root<'d, 't>, key: &str) -> Option<Root<'d, 't>> {
    let Value::Object(members) = &of.node.value else { return None };
    let Member { value, .. } = members.iter().find(|member| member.key == key)?;
    (value.value != Value::Null).then_some(Root { node: value, ..of })
}

fn string(of: Root<'_, '_>, key: &str) -> Option<String> {
    match &member(of, key)?.node.value {
        Value::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn number(of: Root<'_, '_>, key: &str) -> Option<u64> {
    let number = member(of, key)?;
    number.document.slice(number.node.span.clone()).parse().ok()
}

fn read_peer(peer: Root<'_, '_>) -> Option<Peer> {
    Some(Peer {
        address: string(peer, "address")?.parse().ok()?,
        version: string(peer, "version")?,
        cipher: string(peer, "cipher")?,
        identity: string(peer, "identity"),
    })
}

fn read_status(status: Root<'_, '_>) -> Option<TunnelStatus> {
    let peer = match member(status, "peer") {
        Some(peer) => Some(read_peer(peer)?),
        None => None,
    };
    let last_failure = match member(status, "last_failure") {
        Some(failure) => Some(read_failure(failure)?),
        None => None,
    };
    Some(TunnelStatus {
        peer,
        connections: number(status, "connections")?,
        sent: number(status, "sent")?,
        received: number(status, "received")?,
        refused: number(status, "refused")?,
        last_failure,
    })
}

fn read_failure(failure: Root<'_, '_>) -> Option<TunnelError> {
    use TunnelError as F;
    let text = || string(failure, "text");
    let errno = || Some(Errno::from_raw(number(failure, "errno")?.try_into().ok()?));
    let span = || Some(Duration::from_millis(number(failure, "milliseconds")?));
    let time = |key| UNIX_EPOCH.checked_add(Duration::from_secs(number(failure, key)?));
    Some(match string(failure, "kind")?.as_str() {
        "no tunnel" => F::NoTunnel(errno()?),
        "making key" => F::MakingKey,
        "no means" => F::NoMeans(errno()?),
        "name" => F::Name(text()?),
        "reach" => F::Reach(text()?),
        "credentials" => F::Credentials(text()?),
        "service" => F::Service {
            what: text()?,
            service: Service::from_word(&string(failure, "service")?)?,
            trouble: Trouble::from_word(&string(failure, "trouble")?)?,
        },
        "source" => {
            let lasts = match member(failure, "lasts")?.node.value {
                Value::Boolean(lasts) => lasts,
                _ => return None,
            };
            F::Source { what: text()?, mend: string(failure, "mend")?, lasts }
        }
        "undiscovered" => {
            F::Undiscovered { what: text()?, why: Box::new(read_failure(member(failure, "why")?)?) }
        }
        "changeable" => F::Changeable { what: text()?, mend: string(failure, "mend")? },
        "certificate name" => {
            let Value::Array(names) = &member(failure, "presented")?.node.value else {
                return None;
            };
            let name = |node: &Node| match &node.value {
                Value::String(name) => Some(name.clone()),
                _ => None,
            };
            let presented = names.iter().map(name).collect::<Option<_>>()?;
            F::CertificateName { wanted: string(failure, "wanted")?, presented }
        }
        "unknown issuer" => F::UnknownIssuer,
        "expired" => F::Expired { not_after: time("limit")?, now: time("now")? },
        "not yet valid" => F::NotYetValid { not_before: time("limit")?, now: time("now")? },
        "ca shown" => F::CaShown,
        "certificate" => F::Certificate(text()?),
        "alert" => F::Alert(text()?),
        "incompatible" => F::Incompatible(text()?),
        "not tls" => F::NotTls,
        "closed" => F::Closed,
        "silent" => F::Silent(span()?),
        "dropped" => F::Dropped,
        "mute" => F::Mute(span()?),
        "trust" => F::Trust(text()?),
        "key" => F::Key(text()?),
        "stopped" => F::Stopped(Stopped),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::{Stop, SystemClock};
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;
    use std::time::Instant;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn peer() -> Peer {
        Peer {
            address: "10.0.0.1".parse().unwrap(),
            version: "TLS 1.3".into(),
            cipher: "TLS13_AES_128_GCM_SHA256".into(),
            identity: Some("profile \"a\\b\"\u{7f}, AKIDEXAMPLE".into()),
        }
    }

    fn failures() -> Vec<TunnelError> {
        use TunnelError as F;
        vec![
            F::NoTunnel(Errno::ENOENT),
            F::NoMeans(Errno::EMFILE),
            F::MakingKey,
            F::Name("no such name".into()),
            F::Reach("TCP 2049 to 10.0.0.1 was refused (nothing listens there)".into()),
            F::Credentials("two\nlines".into()),
            F::Service {
                what: "no \"answer\"".into(),
                service: Service::Sts,
                trouble: Trouble::Throttled,
            },
            F::Source { what: "no such profile".into(), mend: "make \"it\"".into(), lasts: true },
            F::Source { what: "it is being written".into(), mend: "wait".into(), lasts: false },
            F::Undiscovered {
                what: "no such name".into(),
                why: Box::new(F::Service {
                    what: "it answered 403".into(),
                    service: Service::Efs,
                    trouble: Trouble::Denied,
                }),
            },
            F::Changeable { what: "/c has mode 0666".into(), mend: "chmod go-w /c".into() },
            F::CertificateName { wanted: "a.b".into(), presented: vec!["c\"d".into(), "e".into()] },
            F::CertificateName { wanted: "a.b".into(), presented: vec![] },
            F::UnknownIssuer,
            F::Expired { not_after: at(1), now: at(1_700_000_000) },
            F::NotYetValid { not_before: at(253_402_300_800), now: at(0) },
            F::CaShown,
            F::Certificate("bad signature".into()),
            F::Alert("handshake_failure".into()),
            F::Incompatible("no common version".into()),
            F::NotTls,
            F::Closed,
            F::Silent(Duration::from_millis(1500)),
            F::Dropped,
            F::Mute(Duration::from_secs(2)),
            F::Trust("no file".into()),
            F::Key("no key".into()),
            F::Stopped(Stopped),
        ]
    }

    /// Answers one question with what `answer` makes of it, byte by byte where `slow`.
    fn tunnel(socket: &Path, slow: bool, answer: fn(&str) -> String) -> JoinHandle<String> {
        let listener = UnixListener::bind(socket).unwrap();
        std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            let answer = answer(&line);
            let chunks = answer.as_bytes().chunks(if slow { 1 } else { usize::MAX });
            for chunk in chunks {
                // The asker may have heard enough.
                let _ = (&stream).write_all(chunk);
            }
            line
        })
    }

    type Asked<T> = fn(&Path, Wait<'_>) -> Result<T, TunnelError>;

    fn asked<T>(asked: Asked<T>, socket: &Path, millis: u64) -> Result<T, TunnelError> {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        asked(socket, Wait::of(Duration::from_millis(millis), &clock, &stop))
    }

    #[test]
    fn a_handshake_is_asked_for_with_the_time_there_is_and_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("t.sock");
        let tunnel = tunnel(&socket, true, |_| handshake_line(&Ok(peer())));
        assert_eq!(asked(handshake, &socket, 5000), Ok(peer()));
        let line = tunnel.join().unwrap();
        let Some(Request::Handshake(left)) = Request::parse(line.trim_end().as_bytes()) else {
            panic!("{line:?}")
        };
        assert!(left > Duration::from_secs(3) && left <= Duration::from_secs(5), "{left:?}");
    }

    #[test]
    fn each_failure_comes_through_as_it_is() {
        for failure in failures() {
            let line = handshake_line(&Err(failure.clone()));
            assert_eq!(line.lines().count(), 1, "{line:?}");
            let got = read(&line, |root| read_failure(member(root, "failure")?));
            assert_eq!(got, Ok(failure));
        }
        // One of them all the way.
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("t.sock");
        let _tunnel = tunnel(&socket, false, |_| handshake_line(&Err(TunnelError::NotTls)));
        assert_eq!(asked(handshake, &socket, 5000), Err(TunnelError::NotTls));
    }

    #[test]
    fn the_status_comes_through_as_it_is() {
        let mut all = vec![TunnelStatus::default()];
        all.extend(failures().into_iter().map(|failure| TunnelStatus {
            peer: Some(Peer { identity: None, ..peer() }),
            connections: 3,
            sent: u64::MAX,
            received: 1 << 53 | 1,
            refused: 7,
            last_failure: Some(failure),
        }));
        for status in all {
            let line = status_line(&status);
            assert_eq!(line.lines().count(), 1, "{line:?}");
            assert_eq!(read(&line, read_status), Ok(status));
        }
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("t.sock");
        let tunnel = tunnel(&socket, true, |_| status_line(&TunnelStatus::default()));
        assert_eq!(asked(status, &socket, 5000), Ok(TunnelStatus::default()));
        assert_eq!(tunnel.join().unwrap(), "status\n");
    }

    #[test]
    fn a_tunnel_that_cannot_be_asked_is_told_by_its_errno() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("t.sock");
        let no_tunnel = |errno| Err(TunnelError::NoTunnel(errno));
        assert_eq!(asked(status, &socket, 100), no_tunnel(Errno::ENOENT));
        let listener = UnixListener::bind(&socket).unwrap();
        let (result, started) = (asked(status, &socket, 300), Instant::now());
        assert_eq!(result, no_tunnel(Errno::ETIMEDOUT));
        assert!(started.elapsed() < Duration::from_secs(2));
        drop(listener);
        assert_eq!(asked(status, &socket, 100), no_tunnel(Errno::ECONNREFUSED));
        let long = dir.path().join("x".repeat(200));
        assert_eq!(asked(status, &long, 100), no_tunnel(Errno::ENAMETOOLONG));
    }

    #[test]
    fn what_no_tunnel_says_is_a_breach_of_the_protocol() {
        type Answer = fn(&str) -> String;
        let answers: [(Answer, Errno); 6] = [
            (|_| String::new(), Errno::ECONNRESET),
            (|_| "{\"peer\": null".into(), Errno::ECONNRESET),
            (|_| "{\"peer\": null}\n".into(), Errno::EPROTO),
            (|_| "{\"failure\": {\"kind\": \"new\"}}\n".into(), Errno::EPROTO),
            (|_| "220 mail ready\n".into(), Errno::EPROTO),
            (|_| "x".repeat(1 << 20), Errno::EPROTO),
        ];
        for (answer, errno) in answers {
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("t.sock");
            let _tunnel = tunnel(&socket, false, answer);
            let got = asked(handshake, &socket, 5000);
            assert_eq!(got, Err(TunnelError::NoTunnel(errno)));
        }
    }

    #[test]
    fn a_request_is_read_as_it_was_written_and_nothing_else_is() {
        let span = Duration::from_millis(1234);
        for request in [Request::Handshake(span), Request::Status] {
            let line = request.line();
            assert!(line.len() <= LONGEST_REQUEST);
            assert_eq!(Request::parse(line.trim_end().as_bytes()), Some(request));
        }
        for line in ["", "statu", "status ", "handshake", "handshake -1", "handshake 1.5", "x 1"] {
            assert_eq!(Request::parse(line.as_bytes()), None, "{line:?}");
        }
        assert_eq!(Request::parse(b"status\xff"), None);
        assert_eq!(Request::parse(b"handshake 99999999999"), None);
    }

    #[test]
    fn failures_say_what_is_wrong_in_words() {
        let words = [
            "the tunnel cannot be asked: no such file or directory (ENOENT)",
            "/c has mode 0666; run: chmod go-w /c",
            "the server's certificate is for c\"d, e, not for a.b",
            "the server's certificate is for no name at all, not for a.b",
            "the server's certificate expired at 1970-01-01T00:00:01Z, and the clock here says \
             2023-11-14T22:13:20Z",
            "the server's certificate is valid from 9999-12-31T23:59:59Z on, and the clock here \
             says 1970-01-01T00:00:00Z",
            "the server did not finish the TLS handshake within 1.5 s",
            "the server finished the TLS handshake, but did not answer as an NFS server within 2.0 s",
        ];
        let all: Vec<String> = failures().iter().map(ToString::to_string).collect();
        for words in words {
            assert!(all.iter().any(|text| text == words), "{words}");
        }
    }
}
