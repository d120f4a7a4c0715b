//! The tunnel at work. It accepts connections at the local port, admits those of the kernel, and gives each its own
//! connection to the file system. It answers questions on the control socket. Listeners, key and trusted roots are made
//! elsewhere, and systemd starts it again when it ends.

use super::budget::Budget;
use super::identity::Identity;
use super::listeners::Listeners;
use super::outer::{Dialer, ServerSide};
use super::peer;
use super::protocol::{self, ControlRequest, LONGEST_REQUEST, Peer, TunnelError, TunnelStatus};
use super::relay::{self, Carried, RelayError};
use super::tls::TlsClient;
use crate::config::encryption::RESERVED;
use crate::config::{Level, Share};
use crate::log::Log;
use crate::retry::{Backoff, Clock, Stopped};
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::mem::{Discriminant, discriminant};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at the same time. A mount has one, but processes of root may connect too.
const MOST_CONNECTIONS: u64 = 128;
/// Questions at the same time.
const MOST_QUESTIONS: u64 = 32;
/// How long a client may take to send its question.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to reach the file system may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(15);
/// A thread's stack: cryptography in C and a few small buffers.
const STACK: usize = 512 << 10;
/// Without descriptors or memory, accept fails and the listener stays readable: a pause avoids a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The longest that poll(2) waits.
const UNLIMITED: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// What it takes to speak to the file system.
pub struct Means {
    pub client: TlsClient,
    pub identity: Identity,
}

/// A tunnel. It lives as long as its process.
pub struct Tunnel {
    /// `/` outside of tests.
    pub root: PathBuf,
    pub share: Share,
    pub means: Result<Means, TunnelError>,
    pub stop: Stop,
    /// What the clock counts from.
    pub started: Instant,
    pub log: &'static Log,
    pub counters: Counters,
}

/// What a tunnel counts and remembers, to report it.
#[derive(Default)]
pub struct Counters {
    carried: Carried,
    connections: AtomicU64,
    questions: AtomicU64,
    refused: AtomicU64,
    last: Mutex<LastSeen>,
}

#[derive(Default)]
struct LastSeen {
    peer: Option<Peer>,
    failure: Option<TunnelError>,
    /// What was logged lately.
    logged: Budget<LogTopic>,
}

/// What may be logged again and again. A failure counts by its kind, since the times in its text differ.
#[derive(PartialEq)]
enum LogTopic {
    Stranger,
    Failure(Discriminant<TunnelError>),
    BrokenOff,
    Encrypted,
}

/// What ends a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServeError {
    #[error("told to end by a signal")]
    Stopped(#[from] Stopped),
    #[error("the process that reads the credentials has gone")]
    NoBroker,
}

impl Tunnel {
    /// Serves until something ends it. `lifeline` is closed when the process that reads the credentials has gone.
    pub fn serve(&'static self, listeners: Listeners, lifeline: Option<UnixStream>) -> ServeError {
        let Listeners { nfs, control } = listeners;
        // A client may have gone again when its turn comes. Then accept must not wait for the next one.
        let _ = nfs.set_nonblocking(true);
        let _ = control.set_nonblocking(true);
        // A tunnel at a higher port was started by an earlier version, and what is mounted through it may be as old.
        let reserved = self.share.options.has("resvport")
            || nfs.local_addr().is_ok_and(|address| address.port() < RESERVED);

        loop {
            let mut fds = vec![PollFd::new(control.as_fd(), PollFlags::POLLIN)];
            if self.means.is_ok() {
                fds.push(PollFd::new(nfs.as_fd(), PollFlags::POLLIN));
                fds.extend(lifeline.as_ref().map(|l| PollFd::new(l.as_fd(), PollFlags::empty())));
            }
            let ready = match self.stop.poll(&fds, UNLIMITED) {
                Ok(ready) => ready,
                Err(stopped) => return stopped.into(),
            };

            let is_ready = |n: usize| ready.get(n) == Some(&true);
            if is_ready(2) {
                return ServeError::NoBroker;
            }
            if is_ready(0) {
                match control.accept() {
                    Ok((stream, _)) => self.question(stream),
                    Err(e) => self.rest(&e),
                }
            }
            if is_ready(1) {
                match nfs.accept() {
                    Ok((stream, _)) => self.connection(stream, reserved),
                    Err(e) => self.rest(&e),
                }
            }
        }
    }

    fn clock(&self) -> SystemClock<'_> {
        SystemClock::new(self.started, &self.stop)
    }

    /// Pauses after an accept that failed for lack of descriptors or memory.
    fn rest(&self, error: &std::io::Error) {
        // These errors need no pause: the connection has gone again, or a signal came.
        let passing = [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted, ErrorKind::Interrupted];
        if !passing.contains(&error.kind()) {
            let _ = self.clock().wait(ACCEPT_PAUSE);
        }
    }

    /// Admits a connection to the local port, or refuses it.
    fn connection(&'static self, stream: TcpStream, reserved: bool) {
        if let Err(stranger) = peer::admit(&self.root, &stream, reserved) {
            let refused = self.counters.refused.fetch_add(1, Ordering::Relaxed) + 1;
            if self.may_log(LogTopic::Stranger) {
                self.log.warning(format_args!(
                    "{}: refused a connection to the local port that is not the kernel's, by \
                     {stranger} ({refused} refused so far)",
                    self.share.mount_point.display()
                ));
            }
            return;
        }

        let Some(slot) = Slot::take(&self.counters.connections, MOST_CONNECTIONS) else {
            self.failed(&TunnelError::NoMeans(Errno::EUSERS));
            return;
        };

        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _slot = slot;
            self.carry(&stream);
        });
        if let Err(e) = thread {
            self.failed(&TunnelError::NoMeans(
                e.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw),
            ));
        }
    }

    /// Serves one connection of the kernel until it ends.
    fn carry(&self, inner: &TcpStream) {
        let Ok(means) = &self.means else { return };
        // The kernel makes a new connection when it gives this one up, so dialling for this one stops then.
        let Ok(stop) = self.stop.or_end_of(inner) else {
            return self.failed(&TunnelError::NoMeans(Errno::EMFILE));
        };
        let clock = SystemClock::new(self.started, &stop);
        let dialer = self.dialer(means);
        if inner.set_nonblocking(true).is_err() {
            return;
        }
        let _ = inner.set_nodelay(true);

        let mut backoff = Backoff::new(sys::random());
        let mut outer = loop {
            match dialer.dial(Wait::of(DIAL_TIMEOUT, &clock, &stop)) {
                Ok(outer) => break outer,
                Err(TunnelError::Stopped(_)) => return,
                Err(failure) => self.failed(&failure),
            }
            if clock.wait(backoff.pause()).is_err() {
                return;
            }
        };

        drop(stop);
        self.reached(&outer.peer);
        let ServerSide { stream, session, plain, .. } = &mut outer;
        let plain = std::mem::replace(plain, super::buffer::Buffer::new(0));

        match relay::relay(session, plain, inner, stream, &self.counters.carried) {
            Ok(()) | Err(RelayError::Inner(_) | RelayError::Lingers) => {}
            Err(RelayError::Tls(failure)) => self.failed(&failure),
            Err(e @ RelayError::Outer(_)) => {
                if self.may_log(LogTopic::BrokenOff) {
                    let point = self.share.mount_point.display();
                    self.log.warning(format_args!("{point}: {e}; the kernel connects anew"));
                }
            }
        }
    }

    fn dialer<'a>(&'a self, means: &'a Means) -> Dialer<'a> {
        let (root, share) = (&*self.root, &self.share);
        let Means { client, identity } = means;
        Dialer { root, share, client, identity }
    }

    /// Answers a question in a separate thread.
    fn question(&'static self, stream: UnixStream) {
        let Some(slot) = Slot::take(&self.counters.questions, MOST_QUESTIONS) else { return };
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _slot = slot;
            self.answer(stream);
        });
        // Without a thread, the client sees its connection closed.
        let _ = thread;
    }

    fn answer(&self, mut stream: UnixStream) {
        let clock = self.clock();
        // Only root can connect here, so a client that sends nothing costs a slot for a moment.
        let _ = stream.set_read_timeout(Some(QUESTION_TIMEOUT));
        let _ = stream.set_write_timeout(Some(QUESTION_TIMEOUT));

        let answer = match question(&mut stream) {
            None => return,
            Some(ControlRequest::Status) => protocol::status_line(&self.status()),
            Some(ControlRequest::Handshake(span)) => {
                let wait = Wait::of(span, &clock, &self.stop);
                protocol::handshake_line(&self.handshake(wait))
            }
        };

        let _ = stream.write_all(answer.as_bytes());
    }

    fn handshake(&self, wait: Wait<'_>) -> Result<Peer, TunnelError> {
        let result = match &self.means {
            Err(failure) => Err(failure.clone()),
            Ok(means) => self.dialer(means).try_out(wait),
        };

        match &result {
            Ok(peer) => self.reached(peer),
            Err(failure) => self.last(|last| last.failure = Some(failure.clone())),
        }
        result
    }

    fn status(&self) -> TunnelStatus {
        let counters = &self.counters;
        let (peer, last_failure) = self.last(|last| (last.peer.clone(), last.failure.clone()));
        TunnelStatus {
            peer,
            connections: counters.connections.load(Ordering::Relaxed),
            sent: counters.carried.sent.load(Ordering::Relaxed),
            received: counters.carried.received.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            last_failure,
        }
    }

    fn last<T>(&self, f: impl FnOnce(&mut LastSeen) -> T) -> T {
        f(&mut self.counters.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Whether a line about this topic may be logged now.
    fn may_log(&self, topic: LogTopic) -> bool {
        let now = self.clock().now();
        self.last(|last| last.logged.allows(topic, now))
    }

    fn reached(&self, peer: &Peer) {
        let before = self.last(|last| {
            last.logged.well_again();
            last.peer.replace(peer.clone())
        });

        // A peer that changes back and forth is not news each time.
        let news = before.as_ref() != Some(peer) && self.may_log(LogTopic::Encrypted);
        let level = if news { Level::Info } else { Level::Debug };

        let identity = peer.identity.as_ref().map(|i| format!(", as {i}")).unwrap_or_default();
        self.log.line(
            level,
            format_args!(
                "{}: encrypted to {} by {}, {}{identity}",
                self.share.mount_point.display(),
                peer.address,
                peer.version,
                peer.cipher
            ),
        );
    }

    fn failed(&self, failure: &TunnelError) {
        self.last(|last| last.failure = Some(failure.clone()));
        if self.may_log(LogTopic::Failure(discriminant(failure))) {
            let point = self.share.mount_point.display();
            self.log
                .error(format_args!("{point}: {failure}; tried again as long as the kernel waits"));
        }
    }
}

fn question(stream: &mut UnixStream) -> Option<ControlRequest> {
    let mut line = [0; LONGEST_REQUEST];
    let mut filled = 0;
    loop {
        match stream.read(line.get_mut(filled..)?) {
            // The end of the stream, or a line that is too long.
            Ok(0) => return None,
            Ok(n) => filled += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }

        let so_far = line.get(..filled)?;
        if let Some(end) = so_far.iter().position(|byte| *byte == b'\n') {
            return ControlRequest::parse(so_far.get(..end)?);
        }
    }
}

/// One of a limited number of places, given back when it is dropped.
struct Slot(&'static AtomicU64);

impl Slot {
    fn take(count: &'static AtomicU64, most: u64) -> Option<Self> {
        // Only the main thread takes slots, so none is taken between the check and the addition.
        if count.load(Ordering::Relaxed) >= most {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(Self(count))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
