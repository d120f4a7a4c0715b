//! What a tunnel is asked over its control socket, and how it answers: a line in, a line of JSON out. Both ends are
//! here, so that they cannot differ. The form is that of version 0.1.0, since a tunnel may live longer than the program
//! that has started it. The content of an answer is made in `serve`.

pub use super::error::TunnelError;
use super::error::{object, optional_object};
use crate::json;
use crate::retry::Span;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than any answer: what sends more is not one of our tunnels.
const LONGEST_ANSWER: usize = 64 << 10;
/// The longest request, with its line break.
pub const LONGEST_REQUEST: usize = 64;
/// How much of the time for a handshake is kept for the answer to arrive.
const ON_THE_WAY: Duration = Duration::from_millis(250);
/// The pause before a tunnel is asked again whose queue is full because it is just starting.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The file system's end of a TLS connection that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The mount target's address.
    pub address: IpAddr,
    /// "TLS 1.3" or "TLS 1.2".
    pub version: String,
    /// The cipher suite, as IANA names it.
    pub cipher: String,
    /// Where the credentials came from, and the access key id; never a secret.
    pub identity: Option<String>,
}

/// A tunnel's report about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// The last handshake that was finished.
    #[serde(deserialize_with = "optional_object")]
    pub peer: Option<Peer>,
    /// The kernel's connections that are open now.
    pub connections: u64,
    /// Bytes that went to the file system, before they were encrypted, since the tunnel was started.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
    /// Connections that were refused, since they were not the kernel's.
    pub refused: u64,
    /// Why the last attempt to reach the file system failed, if it did.
    #[serde(deserialize_with = "optional_object")]
    pub last_failure: Option<TunnelError>,
}

/// Asks the tunnel behind `socket` for one fresh handshake with the file system. The connection is closed again.
///
/// # Errors
/// See [`TunnelError`].
pub fn handshake(socket: &Path, wait: Wait<'_>) -> Result<Peer, TunnelError> {
    let answer = ask(socket, &handshake_within, wait)?;
    read_handshake(&answer)
}

/// Leaves a moment for the answer: otherwise "nobody answers" would always arrive too late.
fn handshake_within(left: Duration) -> ControlRequest {
    ControlRequest::Handshake(left.saturating_sub(ON_THE_WAY.min(left.part(4))))
}

/// Asks the tunnel behind `socket` for its status.
///
/// # Errors
/// [`TunnelError::NoTunnel`] or [`TunnelError::Stopped`].
pub fn status(socket: &Path, wait: Wait<'_>) -> Result<TunnelStatus, TunnelError> {
    let answer = ask(socket, &|_| ControlRequest::Status, wait)?;
    read_status(&answer)
}

/// What a tunnel can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRequest {
    /// One fresh handshake with the file system, within this time.
    Handshake(Duration),
    Status,
}

impl ControlRequest {
    /// The line that asks it.
    pub fn line(self) -> String {
        match self {
            Self::Handshake(left) => format!("handshake {}\n", left.as_millis()),
            Self::Status => "status\n".into(),
        }
    }

    /// The request in a line without its line break. `None` if it makes no sense.
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

/// Sends the request that `wanted` makes from the time left, and gives the line that comes back.
fn ask(
    socket: &Path,
    wanted: &dyn Fn(Duration) -> ControlRequest,
    wait: Wait<'_>,
) -> Result<Vec<u8>, TunnelError> {
    let stream = loop {
        match sys::connect_unix(socket) {
            Ok(stream) => break stream,
            // The tunnel's queue is full: it is just starting, and others ask it, too.
            Err(Errno::EAGAIN) if !wait.passed() => wait.pause(RETRY_PAUSE)?,
            Err(errno) => return Err(TunnelError::NoTunnel(errno)),
        }
    };

    let request = wanted(wait.left()).line();
    // A new socket's buffer takes a line whole.
    sys::send_now(stream.as_fd(), request.as_bytes()).map_err(TunnelError::NoTunnel)?;
    answer(stream, wait)
}

fn answer(mut stream: UnixStream, wait: Wait<'_>) -> Result<Vec<u8>, TunnelError> {
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
            return Ok(bytes);
        }
        if bytes.len() > LONGEST_ANSWER {
            return Err(TunnelError::NoTunnel(Errno::EPROTO));
        }
    }
}

/// The line that answers [`ControlRequest::Handshake`].
pub fn handshake_line(result: &Result<Peer, TunnelError>) -> String {
    // This type borrows what it writes; the one in [`read_handshake`] owns what it reads.
    #[derive(Serialize)]
    #[serde(rename_all = "lowercase")]
    enum Answer<'a> {
        Peer(&'a Peer),
        Failure(&'a TunnelError),
    }

    let answer = match result {
        Ok(peer) => Answer::Peer(peer),
        Err(failure) => Answer::Failure(failure),
    };
    json::written(&answer) + "\n"
}

/// The line that answers [`ControlRequest::Status`].
pub fn status_line(status: &TunnelStatus) -> String {
    json::written(status) + "\n"
}

fn read_handshake(line: &[u8]) -> Result<Peer, TunnelError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Answer {
        Peer(#[serde(deserialize_with = "object")] Peer),
        Failure(#[serde(deserialize_with = "object")] TunnelError),
    }

    match json::object(line) {
        Ok(Answer::Peer(peer)) => Ok(peer),
        Ok(Answer::Failure(failure)) => Err(failure),
        Err(_) => Err(TunnelError::NoTunnel(Errno::EPROTO)),
    }
}

fn read_status(line: &[u8]) -> Result<TunnelStatus, TunnelError> {
    json::object(line).map_err(|_| TunnelError::NoTunnel(Errno::EPROTO))
}

#[cfg(test)]
mod tests;
