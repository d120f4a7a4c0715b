//! Hands credentials from a process that may read them to one that may not. The tunnel speaks with the file system and
//! with clients at the local port, and has no rights. The broker reads root's files, runs the programs of profiles and
//! asks AWS, as root with few rights. It speaks with the tunnel alone. How its process is started is in
//! `broker_process`.
//!
//! A question is a number and the time that is left. An answer is the same number, and credentials or an error. Both
//! ends are the same program, so the form may change.

use super::error::TunnelError;
use crate::aws::credentials::{Credentials, Secret};
use crate::json::{self, Object};
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Longer than any credentials: a session token has some thousand bytes.
const LONGEST_ANSWER: usize = 64 << 10;
/// The length of a question: its number and the milliseconds that are left, eight bytes each.
const QUESTION_BYTES: usize = 16;
/// How often a thread looks whether another one has finished asking.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The head of an answer: the question's number, and how many bytes follow.
const HEAD_BYTES: usize = 12;
/// A longer reason is cut to so many characters. Each of them may take six bytes in JSON.
const LONGEST_REASON: usize = LONGEST_ANSWER / 8;

/// The tunnel's end of the connection to the process that reads credentials.
pub struct Broker(Mutex<Connection>);

struct Connection {
    stream: UnixStream,
    asked: u64,
}

impl Broker {
    /// The broker that answers at the other end of `stream`, by [`serve`].
    ///
    /// # Errors
    /// The errno of fcntl(2).
    pub fn new(stream: UnixStream) -> Result<Self, Errno> {
        stream.set_nonblocking(true).map_err(|e| sys::errno_of(&e))?;
        Ok(Self(Mutex::new(Connection { stream, asked: 0 })))
    }

    /// A stream that is closed when the other end has gone.
    ///
    /// # Errors
    /// The errno of dup(2).
    pub fn lifeline(&self) -> Result<UnixStream, Errno> {
        let line = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        line.stream.try_clone().map_err(|e| sys::errno_of(&e))
    }

    /// The current credentials.
    ///
    /// # Errors
    /// The other end's error, [`TunnelError::Source`] if it does not answer, or [`TunnelError::Stopped`].
    pub fn ask(&self, wait: Wait<'_>) -> Result<Credentials, TunnelError> {
        // One thread asks at a time: an answer names its question by number, but not the thread that waits for it.
        let left = wait.left();
        let mut line = loop {
            match self.0.try_lock() {
                Ok(line) => break line,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if wait.passed() => return Err(late(left)),
                Err(TryLockError::WouldBlock) => wait.pause(POLL_INTERVAL)?,
            }
        };

        line.asked += 1;
        let number = line.asked;

        let mut question = Vec::with_capacity(QUESTION_BYTES);
        question.extend(number.to_le_bytes());
        question.extend((wait.left().as_millis() as u64).to_le_bytes());
        // A question is so short that it is written whole, unless the stream is full of questions that nobody reads.
        line.stream.write_all(&question).map_err(|_| gone())?;

        loop {
            let mut head = Zeroizing::new(vec![0; HEAD_BYTES]);
            line.read(&mut head, wait, left)?;
            let (of, length) = numbers(&head).ok_or_else(gone)?;
            let mut body = Zeroizing::new(vec![0; length.min(LONGEST_ANSWER)]);
            line.read(&mut body, wait, left)?;

            // An answer to an earlier question, which was given up, is skipped.
            if of == number {
                return decode(&body).ok_or_else(gone)?;
            }
        }
    }
}

impl Connection {
    /// Fills `bytes`. An answer that has begun is read to its end, however late it is: the rest would be mistaken for
    /// the next answer. A thread that must stop reads it to the end, too, since others may go on asking.
    fn read(
        &mut self,
        bytes: &mut [u8],
        wait: Wait<'_>,
        span: Duration,
    ) -> Result<(), TunnelError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.stream.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(gone()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // The rest of an answer follows at once, so it is read even after the time is up.
                    let begun = filled > 0 || bytes.len() != HEAD_BYTES;
                    if wait.passed() && !begun {
                        return Err(late(span));
                    }

                    let fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
                    match wait.stop.poll(&fds, wait.left().max(POLL_INTERVAL)) {
                        Err(_) if begun => std::thread::sleep(POLL_INTERVAL),
                        other => other.map(|_| ())?,
                    }
                }
                Err(_) => return Err(gone()),
            }
        }
        Ok(())
    }
}

fn late(span: Duration) -> TunnelError {
    let span = crate::retry::seconds(span);
    passing(
        format!("no credentials were found within {span}"),
        "see what takes so long: the program of credential_process, or the way to what gives them (STS, \
         169.254.169.254)",
    )
}

fn gone() -> TunnelError {
    passing(
        "the process that reads the credentials has gone".into(),
        "see the tunnel's lines in the system's log (journalctl -t efs-agent)",
    )
}

fn passing(what: String, mend: &str) -> TunnelError {
    TunnelError::Source { what, mend: mend.to_owned(), lasts: false }
}

fn numbers(head: &[u8]) -> Option<(u64, usize)> {
    let (number, rest) = head.split_first_chunk::<8>()?;
    let (length, _) = rest.split_first_chunk::<4>()?;
    Some((u64::from_le_bytes(*number), u32::from_le_bytes(*length) as usize))
}

/// Answers the tunnel's questions with what `find` gives, until the tunnel has gone. `find` gets the time that it may
/// take.
pub fn serve(
    mut stream: UnixStream,
    find: &mut dyn FnMut(Duration) -> Result<Credentials, TunnelError>,
) {
    let mut question = [0; QUESTION_BYTES];
    while stream.read_exact(&mut question).is_ok() {
        let Some((number, millis)) = question.split_first_chunk::<8>() else { return };
        let millis = millis.first_chunk::<8>().map_or(0, |millis| u64::from_le_bytes(*millis));
        let body = encode(&find(Duration::from_millis(millis)));

        let mut answer = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + body.len()));
        answer.extend_from_slice(number);
        answer.extend_from_slice(&(body.len() as u32).to_le_bytes());
        answer.extend_from_slice(&body);
        if stream.write_all(&answer).is_err() {
            return;
        }
    }
}

/// Credentials as they are handed over. The secrets in it are read where they stand, so that no copy is left behind.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct CredentialsRead<'a> {
    access_key_id: String,
    secret_access_key: &'a RawValue,
    session_token: Option<&'a RawValue>,
    /// In seconds since 1970.
    expires: Option<u64>,
    source: String,
}

/// The same fields as they are written, borrowed from [`Credentials`].
#[derive(Serialize)]
struct CredentialsWritten<'a> {
    access_key_id: &'a str,
    secret_access_key: &'a str,
    session_token: Option<&'a str>,
    expires: Option<u64>,
    source: &'a str,
}

fn encode(found: &Result<Credentials, TunnelError>) -> Zeroizing<Vec<u8>> {
    let written = found.as_ref().map(|credentials| CredentialsWritten {
        access_key_id: &credentials.access_key_id,
        secret_access_key: credentials.secret_access_key.expose(),
        session_token: credentials.session_token.as_ref().map(Secret::expose),
        expires: credentials
            .expires
            .and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())),
        source: &credentials.source,
    });

    // Large enough from the start: a buffer that grows leaves a copy behind that is not wiped.
    let mut bytes = Zeroizing::new(vec![0; LONGEST_ANSWER]);
    let mut room = bytes.as_mut_slice();
    if json::write(&mut room, &written).is_ok() {
        let left = room.len();
        bytes.truncate(LONGEST_ANSWER.saturating_sub(left));
        return bytes;
    }

    let why = match found {
        Ok(_) => "the credentials are too long".to_owned(),
        Err(failure) => failure.to_string().chars().take(LONGEST_REASON).collect(),
    };
    encode(&Err(TunnelError::Credentials(why)))
}

fn decode(bytes: &[u8]) -> Option<Result<Credentials, TunnelError>> {
    let read: Result<Object<CredentialsRead<'_>>, Object<TunnelError>> = json::read(bytes).ok()?;
    let read = match read {
        Ok(Object(read)) => read,
        Err(Object(failure)) => return Some(Err(failure)),
    };

    let session_token = match read.session_token {
        Some(token) => Some(Secret::from_json(token.get())?),
        None => None,
    };

    Some(Ok(Credentials {
        access_key_id: read.access_key_id,
        secret_access_key: Secret::from_json(read.secret_access_key.get())?,
        session_token,
        expires: read.expires.and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at))),
        source: read.source,
    }))
}

#[cfg(test)]
mod tests;
