//! The tunnel at work: takes connections to the local port, lets the kernel's in, and gives each an
//! outer connection of its own; answers on the control socket. What it is given (listeners, key,
//! trust) is others' business, and so is how it is kept alive.

use super::budget::Budget;
use super::identity::Identity;
use super::outer::{Dialer, Outer};
use super::peer;
use super::protocol::{self, LONGEST_REQUEST, Peer, Request, TunnelError, TunnelStatus, named};
use super::relay::{self, Carried, RelayError};
use super::tls::Client;
use crate::config::encryption::RESERVED;
use crate::config::{Level, Share};
use crate::log::Log;
use crate::retry::{Backoff, Clock, Deadline, Stopped};
use crate::stop::{Stop, SystemClock};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::mem::{Discriminant, discriminant};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Connections at the same time. A mount has one; those of processes of root count too.
const MOST_CONNECTIONS: u64 = 128;
/// Questions at the same time.
const MOST_QUESTIONS: u64 = 32;
/// How long a question may take to be asked.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one attempt to reach the file system may take.
const ATTEMPT: Duration = Duration::from_secs(15);
/// A thread's stack: cryptography in C and a few small buffers.
const STACK: usize = 512 << 10;
/// With no descriptor or memory to spare, a listener stays readable: so long it is left alone.
const PAUSE: Duration = Duration::from_millis(100);
/// A wait without an end: poll(2) knows no longer one.
const FOR_EVER: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// Where it listens.
pub struct Listeners {
    /// For the kernel's NFS client.
    pub nfs: TcpListener,
    /// For questions.
    pub control: UnixListener,
    /// Closed when the tunnel ends, for whoever starts it again and is not its service manager.
    pub watch: Option<UnixStream>,
}

/// A tunnel; lives as long as its process.
pub struct Tunnel {
    /// `/` outside of tests.
    pub root: PathBuf,
    /// Whose tunnel it is.
    pub share: Share,
    /// How TLS is spoken, and who we are; or why that is not to be had.
    pub means: Result<(Client, Identity), TunnelError>,
    /// The signals.
    pub stop: Stop,
    /// What the clock counts from.
    pub started: Instant,
    /// Where lines go.
    pub log: Log,
    /// What is counted.
    pub told: Told,
}

/// What a tunnel tells of itself.
#[derive(Default)]
pub struct Told {
    carried: Carried,
    connections: AtomicU64,
    questions: AtomicU64,
    refused: AtomicU64,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    peer: Option<Peer>,
    failure: Option<TunnelError>,
    /// What was logged of it lately.
    logged: Budget<Kind>,
}

/// What is logged of a tunnel, again and again perhaps. Times and spans in a failure are others each time.
#[derive(PartialEq)]
enum Kind {
    Stranger,
    Failure(Discriminant<TunnelError>),
    BrokenOff,
    Encrypted,
}

/// Why a tunnel ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// A signal.
    #[error("told to end by a signal")]
    Stopped,
    /// It was asked to.
    #[error("asked to end")]
    Asked,
    /// The process that hands out credentials has gone.
    #[error("the process that reads the credentials has gone")]
    NoBroker,
    /// It cannot even begin: there is no descriptor or memory to spare.
    #[error("the tunnel cannot begin: {}", named(*.0))]
    NoMeans(Errno),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl Tunnel {
    /// Serves until there is a reason to end. `lifeline` is closed when there is.
    pub fn serve(&'static self, listeners: Listeners, lifeline: Option<UnixStream>) -> End {
        // What is not used here is closed as soon as this process has ended, and not before.
        let Listeners { nfs, control, watch: _watch } = listeners;
        // Connections can be gone again when their turn comes: accept must not wait for the next.
        let _ = nfs.set_nonblocking(true);
        let _ = control.set_nonblocking(true);
        let (asked, ask) = match UnixStream::pair() {
            Ok((asked, ask)) => (asked, OwnedFd::from(ask)),
            Err(e) => return End::NoMeans(sys::errno_of(&e)),
        };
        // One at a higher port is of an earlier version, and so may be what is mounted through it.
        let reserved = self.share.options.has("resvport")
            || nfs.local_addr().is_ok_and(|address| address.port() < RESERVED);
        let ask: &'static Mutex<Option<OwnedFd>> = Box::leak(Box::new(Mutex::new(Some(ask))));
        loop {
            let mut fds = vec![
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
                PollFd::new(asked.as_fd(), PollFlags::POLLIN),
            ];
            if self.means.is_ok() {
                fds.push(PollFd::new(nfs.as_fd(), PollFlags::POLLIN));
                fds.extend(lifeline.as_ref().map(|l| PollFd::new(l.as_fd(), PollFlags::empty())));
            }
            let ready = match self.stop.poll(&fds, FOR_EVER) {
                Ok(ready) => ready,
                Err(stopped) => return stopped.into(),
            };
            let is = |n: usize| ready.get(n) == Some(&true);
            if is(1) {
                return End::Asked;
            }
            if is(3) {
                return End::NoBroker;
            }
            if is(0) {
                match control.accept() {
                    Ok((stream, _)) => self.question(stream, ask),
                    Err(e) => self.rest(&e),
                }
            }
            if is(2) {
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

    /// After an accept that failed.
    fn rest(&self, error: &std::io::Error) {
        // The connection has gone again, or there is nothing to have it with.
        let passing = [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted, ErrorKind::Interrupted];
        if !passing.contains(&error.kind()) {
            let _ = self.clock().wait(PAUSE);
        }
    }

    /// Begins what a connection to the local port needs, if it may.
    fn connection(&'static self, stream: TcpStream, reserved: bool) {
        if let Err(stranger) = peer::admit(&self.root, &stream, reserved) {
            let refused = self.told.refused.fetch_add(1, Ordering::Relaxed) + 1;
            if self.may_log(Kind::Stranger) {
                self.log.warning(format_args!(
                    "{}: refused a connection to the local port that is not the kernel's, by \
                     {stranger} ({refused} refused so far)",
                    self.share.mount_point.display()
                ));
            }
            return;
        }
        let Some(place) = Place::take(&self.told.connections, MOST_CONNECTIONS) else {
            self.failed(&TunnelError::NoMeans(Errno::EUSERS));
            return;
        };
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _place = place;
            self.carry(&stream);
        });
        if let Err(e) = thread {
            self.failed(&TunnelError::NoMeans(
                e.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw),
            ));
        }
    }

    /// Serves one connection of the kernel's until its end.
    fn carry(&self, inner: &TcpStream) {
        let Ok((client, identity)) = &self.means else { return };
        // Once the kernel has given this connection up, it makes another: nothing is done for this one.
        let Ok(stop) = self.stop.or_end_of(inner) else {
            return self.failed(&TunnelError::NoMeans(Errno::EMFILE));
        };
        let clock = SystemClock::new(self.started, &stop);
        let dialer = self.dialer(client, identity, &clock, &stop);
        if inner.set_nonblocking(true).is_err() {
            return;
        }
        let _ = inner.set_nodelay(true);
        let mut backoff = Backoff::new(sys::random());
        let mut outer = loop {
            match dialer.dial(Deadline::after(&clock, ATTEMPT)) {
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
        let Outer { stream, session, plain, .. } = &mut outer;
        let plain = std::mem::replace(plain, super::buffer::Buffer::new(0));
        match relay::relay(session, plain, inner, stream, &self.told.carried) {
            Ok(()) | Err(RelayError::Inner(_) | RelayError::Lingers) => {}
            Err(RelayError::Tls(failure)) => self.failed(&failure),
            Err(e @ RelayError::Outer(_)) => {
                if self.may_log(Kind::BrokenOff) {
                    let point = self.share.mount_point.display();
                    self.log.warning(format_args!("{point}: {e}; the kernel connects anew"));
                }
            }
        }
    }

    fn dialer<'a>(
        &'a self,
        client: &'a Client,
        identity: &'a Identity,
        clock: &'a dyn Clock,
        stop: &'a Stop,
    ) -> Dialer<'a> {
        let (root, share) = (&*self.root, &self.share);
        Dialer { root, share, client, identity, clock, stop }
    }

    /// Begins to answer a question.
    fn question(&'static self, stream: UnixStream, end: &'static Mutex<Option<OwnedFd>>) {
        let Some(place) = Place::take(&self.told.questions, MOST_QUESTIONS) else { return };
        let thread = thread::Builder::new().stack_size(STACK).spawn(move || {
            let _place = place;
            self.answer(stream, end);
        });
        // Who asked sees the connection closed.
        let _ = thread;
    }

    fn answer(&self, mut stream: UnixStream, end: &Mutex<Option<OwnedFd>>) {
        let clock = self.clock();
        // The socket is root's alone: a question that is not asked costs a place, and not for long.
        let _ = stream.set_read_timeout(Some(PATIENCE));
        let _ = stream.set_write_timeout(Some(PATIENCE));
        let answer = match question(&mut stream) {
            None => return,
            Some(Request::Status) => protocol::status_line(&self.status()),
            Some(Request::Handshake(span)) => {
                let result = self.handshake(Deadline::after(&clock, span), &clock);
                protocol::handshake_line(&result)
            }
            Some(Request::End) => protocol::END_LINE.to_owned(),
        };
        let _ = stream.write_all(answer.as_bytes());
        if answer == protocol::END_LINE {
            // The other end is polled by the main thread.
            end.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        }
    }

    fn handshake(&self, until: Deadline, clock: &dyn Clock) -> Result<Peer, TunnelError> {
        let result = match &self.means {
            Err(failure) => Err(failure.clone()),
            Ok((client, identity)) => {
                self.dialer(client, identity, clock, &self.stop).try_out(until)
            }
        };
        match &result {
            Ok(peer) => self.reached(peer),
            Err(failure) => self.last(|last| last.failure = Some(failure.clone())),
        }
        result
    }

    fn status(&self) -> TunnelStatus {
        let told = &self.told;
        let (peer, last_failure) = self.last(|last| (last.peer.clone(), last.failure.clone()));
        TunnelStatus {
            peer,
            connections: told.connections.load(Ordering::Relaxed),
            sent: told.carried.sent.load(Ordering::Relaxed),
            received: told.carried.received.load(Ordering::Relaxed),
            refused: told.refused.load(Ordering::Relaxed),
            last_failure,
        }
    }

    fn last<T>(&self, f: impl FnOnce(&mut Last) -> T) -> T {
        f(&mut self.told.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Whether it is time for a line of its kind.
    fn may_log(&self, kind: Kind) -> bool {
        let now = self.clock().now();
        self.last(|last| last.logged.allows(kind, now))
    }

    fn reached(&self, peer: &Peer) {
        let before = self.last(|last| {
            last.logged.well_again();
            last.peer.replace(peer.clone())
        });
        // One that changes to and fro is no news each time either.
        let news = before.as_ref() != Some(peer) && self.may_log(Kind::Encrypted);
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
        if self.may_log(Kind::Failure(discriminant(failure))) {
            let point = self.share.mount_point.display();
            self.log
                .error(format_args!("{point}: {failure}; tried again as long as the kernel waits"));
        }
    }
}

fn question(stream: &mut UnixStream) -> Option<Request> {
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
            return Request::parse(so_far.get(..end)?);
        }
    }
}

/// One of a bounded number, given back when it is dropped.
struct Place(&'static AtomicU64);

impl Place {
    fn take(count: &'static AtomicU64, most: u64) -> Option<Self> {
        // Only the main thread takes them.
        if count.load(Ordering::Relaxed) >= most {
            return None;
        }
        count.fetch_add(1, Ordering::Relaxed);
        Some(Self(count))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::log::Style;
    use std::fs::File;
    use std::path::Path;
    use std::process::Command;

    /// Runs alone, in a process that may have few descriptors.
    fn without_any_to_spare() {
        let text = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
                    encryption_in_transit = true\n";
        let tunnel: &'static Tunnel = Box::leak(Box::new(Tunnel {
            root: "/".into(),
            share: Settings::parse(Path::new("c"), text).unwrap().shares.remove(0),
            means: Err(TunnelError::NotTls),
            stop: Stop::install().unwrap(),
            started: Instant::now(),
            log: Log::new(Box::new(std::io::sink()), Style::Stamped),
            told: Told::default(),
        }));
        let folder = tempfile::tempdir().unwrap();
        let nfs = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let control = UnixListener::bind(folder.path().join("t.sock")).unwrap();
        let rest: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
        let end = tunnel.serve(Listeners { nfs, control, watch: None }, None);
        drop(rest);
        let words = "the tunnel cannot begin: too many open files (EMFILE)";
        assert_eq!((end, end.to_string().as_str()), (End::NoMeans(Errno::EMFILE), words));
    }

    #[test]
    fn a_tunnel_without_a_descriptor_to_spare_blames_nobody_else() {
        if std::env::var_os("FEW_DESCRIPTORS").is_some() {
            return without_any_to_spare();
        }
        let name =
            "tunnel::serve::tests::a_tunnel_without_a_descriptor_to_spare_blames_nobody_else";
        let mut alone = Command::new("bash");
        alone.args(["-c", "ulimit -n 64; exec \"$@\"", "bash"]);
        alone.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
        let output = alone.env("FEW_DESCRIPTORS", "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    }
}
