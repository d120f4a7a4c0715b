//! Carries the data of one connection: from the kernel's NFS client, encrypted, to the server, and back. Memory is
//! bounded, since neither side is read while the other accepts nothing. A relay ends when both sides have ended or one
//! is lost. Others dial, and decide what happens after the end.
//!
//! Nothing is allocated while data flows. Nothing wakes up while none flows, except shortly after the last data, to see
//! that it has arrived.

use super::buffer::Buffer;
use super::error::{TunnelError, named};
use super::tls::{CHUNK, TlsSession, TlsState};
use crate::net::probe;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the second side is waited for when the first has ended and nothing moves.
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the server is checked while something that was sent has not arrived.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A server that was silent at so many checks in a row is lost. The kernel's NFS client notices the end of its
/// connection and is served by another server. A server that merely accepts no data still answers the kernel's window
/// probes.
const SILENT_LOOKS: u32 = 5;
/// There is an exception. When Linux before 6.6 is short of memory for a connection, it silently drops data for which
/// it has announced room. So a server that still accepts new connections is given up only after so many checks.
const SILENT_LOOKS_IF_REACHABLE: u32 = 15;

/// Bytes that were carried.
#[derive(Debug, Default)]
pub struct Carried {
    /// To the server, before they were encrypted.
    pub sent: AtomicU64,
    /// From the server.
    pub received: AtomicU64,
}

/// Why a connection ended that should have gone on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelayError {
    /// The kernel's side failed.
    #[error("the kernel's NFS client gave up the connection ({0:?})")]
    Inner(Errno),
    /// The server's side failed.
    #[error("the connection to the server was lost: {}", named(*.0))]
    Outer(Errno),
    /// The server broke the rules of TLS, or sent an alert.
    #[error("{0}")]
    Tls(#[from] TunnelError),
    /// One side has ended, and the other does not.
    #[error("one side has ended the connection, and the other does not")]
    Lingers,
}

/// A buffer for data that came from the server.
pub fn plain() -> Buffer {
    Buffer::new(CHUNK)
}

/// Finishes the handshake within `wait`. Data that comes with its end goes into `plain`.
///
/// # Errors
/// See [`TunnelError`].
pub fn handshake(
    session: &mut TlsSession,
    plain: &mut Buffer,
    outer: &TcpStream,
    wait: Wait<'_>,
) -> Result<(), TunnelError> {
    let started = wait.clock.now();
    loop {
        let state = session.turn(plain);
        let flushed = flush(&mut session.outgoing, outer);
        let state = state?;
        flushed.map_err(|_| TunnelError::Closed)?;

        if state == TlsState::Open && session.outgoing.is_empty() {
            return Ok(());
        }
        if session.ended() {
            return Err(TunnelError::Closed);
        }

        match wait_for_server(session, outer, wait)? {
            Waited::Ready => {}
            Waited::Ended => return Err(TunnelError::Closed),
            Waited::Late => {
                return Err(TunnelError::Silent(wait.clock.now().saturating_sub(started)));
            }
        }
    }
}

/// Makes an NFS NULL call, which costs the server nothing. With TLS 1.3, only an answer shows that the server has
/// accepted our certificate.
///
/// # Errors
/// [`TunnelError::Dropped`], [`TunnelError::Mute`], or what the server's alert says.
pub fn confirm(
    session: &mut TlsSession,
    plain: &mut Buffer,
    outer: &TcpStream,
    wait: Wait<'_>,
) -> Result<(), TunnelError> {
    let started = wait.clock.now();
    session.encrypt(&probe::null_call_record(sys::random() as u32))?;
    loop {
        if !plain.is_empty() {
            return Ok(());
        }

        // The alert with the reason may have arrived although nothing can be sent any more.
        let flushed = flush(&mut session.outgoing, outer);
        match wait_for_server(session, outer, wait)? {
            Waited::Ready => {}
            Waited::Ended => return Err(TunnelError::Dropped),
            Waited::Late => {
                return Err(TunnelError::Mute(wait.clock.now().saturating_sub(started)));
            }
        }

        session.turn(plain)?;
        if session.ended() || flushed.is_err() {
            return Err(TunnelError::Dropped);
        }
    }
}

/// Closes an open connection by the rules of TLS, without waiting.
pub fn hang_up(session: &mut TlsSession, outer: &TcpStream) {
    if session.close().is_ok() {
        let _ = flush(&mut session.outgoing, outer);
    }
}

/// How a wait for the server ended.
enum Waited {
    /// Bytes came in, or some went out.
    Ready,
    /// The server has closed the connection.
    Ended,
    /// The time is up.
    Late,
}

/// Waits until bytes come from the server, or those in `outgoing` can be sent.
fn wait_for_server(
    session: &mut TlsSession,
    outer: &TcpStream,
    wait: Wait<'_>,
) -> Result<Waited, TunnelError> {
    let flags = poll_flags(session.is_hungry(), !session.outgoing.is_empty());
    wait.poll(&[PollFd::new(outer.as_fd(), flags)])?;
    match fill(&mut session.incoming, outer) {
        Ok(Some(0)) | Err(_) => Ok(Waited::Ended),
        // Late even if something has come: a server must not gain time by sending without end.
        Ok(_) if wait.passed() => Ok(Waited::Late),
        Ok(_) => Ok(Waited::Ready),
    }
}

/// Carries data both ways until both sides have ended. `plain` holds what came with the handshake.
///
/// # Errors
/// See [`RelayError`].
pub fn relay(
    session: &mut TlsSession,
    mut plain: Buffer,
    inner: &TcpStream,
    outer: &TcpStream,
    carried: &Carried,
) -> Result<(), RelayError> {
    let mut relay = Relay::new(session, &mut plain, inner, outer, carried);
    let linger = PollTimeout::try_from(LINGER_TIMEOUT).unwrap_or(PollTimeout::MAX);
    let look = PollTimeout::try_from(LOOK_INTERVAL).unwrap_or(PollTimeout::MAX);

    relay.turn()?;
    while !relay.done() {
        let idle = if relay.looks.is_some() { look } else { PollTimeout::NONE };
        let ready = relay.wait(idle, linger)?;
        relay.look(ready)?;
        relay.step(ready)?;
    }
    Ok(())
}

/// One connection, step by step; fuzzing takes other steps than [`relay`].
pub(crate) struct Relay<'a> {
    session: &'a mut TlsSession,
    to_inner: &'a mut Buffer,
    from_inner: Buffer,
    inner: &'a TcpStream,
    outer: &'a TcpStream,
    carried: &'a Carried,
    /// The kernel will send nothing more.
    inner_ended: bool,
    /// The server will send nothing more.
    outer_ended: bool,
    /// The server knows that the kernel has ended.
    told_outer: bool,
    /// The kernel knows that the server has ended.
    told_inner: bool,
    /// Set while something that was sent may not have arrived. Counts the checks in a row at which the server was
    /// silent, and keeps the time of the last one.
    looks: Option<(u32, Instant)>,
    /// A connection that was begun at the last check, to see whether the server accepts any.
    knock: Option<TcpStream>,
    /// Whether the server accepted the connection of the check before.
    was_there: bool,
}

/// Which streams can be read.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    inner: bool,
    outer: bool,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(
        session: &'a mut TlsSession,
        to_inner: &'a mut Buffer,
        inner: &'a TcpStream,
        outer: &'a TcpStream,
        carried: &'a Carried,
    ) -> Self {
        Self {
            session,
            to_inner,
            from_inner: Buffer::new(CHUNK),
            inner,
            outer,
            carried,
            inner_ended: false,
            outer_ended: false,
            told_outer: false,
            told_inner: false,
            looks: None,
            knock: None,
            was_there: false,
        }
    }

    /// How many bytes from the server wait to be sent on to the kernel.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn holds(&self) -> usize {
        self.to_inner.len()
    }

    /// Whether both sides have ended, and know it of each other.
    pub(crate) fn done(&self) -> bool {
        self.told_outer && self.told_inner && self.session.outgoing.is_empty()
    }

    fn reads_inner(&self) -> bool {
        !self.inner_ended && self.session.outgoing.is_empty()
    }

    /// The server is not read while there are records for which the kernel's side has no room.
    fn reads_outer(&self) -> bool {
        !self.outer_ended && self.session.is_hungry()
    }

    /// Sleeps until something can be done, or for `idle`; once one side has ended, for `linger`.
    pub(crate) fn wait(&self, idle: PollTimeout, linger: PollTimeout) -> Result<Ready, RelayError> {
        let inner_flags = poll_flags(self.reads_inner(), !self.to_inner.is_empty());
        let outer_flags = poll_flags(self.reads_outer(), !self.session.outgoing.is_empty());

        // A stream that is polled for nothing wakes us without end once it is closed. The kernel's is polled all the
        // same: if it gives up while the server accepts nothing, the relay ends. It is left out once one side has said
        // that nothing more comes. A close then looks the same as a failure, and the server may still accept data.
        let watches_inner = !inner_flags.is_empty() || !(self.inner_ended || self.told_inner);
        let inner = watches_inner.then(|| PollFd::new(self.inner.as_fd(), inner_flags));
        let outer = (!outer_flags.is_empty()).then(|| PollFd::new(self.outer.as_fd(), outer_flags));

        let ending = self.inner_ended || self.outer_ended;
        let span = if ending { linger } else { idle };

        let inner_events;
        let outer_events;
        let ready = match (inner, outer) {
            (Some(inner), Some(outer)) => {
                let mut both = [inner, outer];
                let ready = polled(&mut both, span)?;
                let [inner, outer] = &both;
                (inner_events, outer_events) = (events(inner), events(outer));
                ready
            }
            (Some(one), None) => {
                let mut one = [one];
                let ready = polled(&mut one, span)?;
                let [inner] = &one;
                (inner_events, outer_events) = (events(inner), PollFlags::empty());
                ready
            }
            (None, Some(one)) => {
                let mut one = [one];
                let ready = polled(&mut one, span)?;
                let [outer] = &one;
                (inner_events, outer_events) = (PollFlags::empty(), events(outer));
                ready
            }
            (None, None) => return Err(RelayError::Lingers),
        };

        if !ready && ending {
            return Err(RelayError::Lingers);
        }

        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        if inner_flags.is_empty() && inner_events.intersects(gone) {
            return Err(RelayError::Inner(Errno::ECONNRESET));
        }

        // An error counts as readable: the next read or write reports it.
        let readable = PollFlags::POLLIN | gone;
        Ok(Ready {
            inner: self.reads_inner() && inner_events.intersects(readable),
            outer: self.reads_outer() && outer_events.intersects(readable),
        })
    }

    /// Checks whether the server is still there, if it is time to. Fails when the server counts as lost.
    fn look(&mut self, ready: Ready) -> Result<(), RelayError> {
        let Some((silent, looked)) = self.looks else { return Ok(()) };
        if ready.outer {
            self.looks = Some((0, Instant::now()));
            (self.knock, self.was_there) = (None, false);
        } else if looked.elapsed() >= LOOK_INTERVAL {
            let awaited = sys::awaited(self.outer.as_fd()).map_err(RelayError::Outer)?;
            let silent = if awaited.acknowledgement && awaited.heard >= LOOK_INTERVAL {
                silent + 1
            } else {
                0
            };

            // One connection attempt may get lost, so the one before counts, too.
            let taken = self.knock.take().is_some_and(|knock| is_taken(&knock));
            let there = std::mem::replace(&mut self.was_there, taken) || taken;
            if silent >= if there { SILENT_LOOKS_IF_REACHABLE } else { SILENT_LOOKS } {
                return Err(RelayError::Outer(Errno::ETIMEDOUT));
            }
            if silent + 1 >= SILENT_LOOKS {
                let server = self.outer.peer_addr().ok();
                self.knock = server.and_then(|server| sys::connect_tcp(server).ok());
            }

            let arrived = !awaited.acknowledgement && !awaited.room;
            self.looks = if arrived { None } else { Some((silent, Instant::now())) };
        }
        Ok(())
    }

    /// Moves what can be moved.
    pub(crate) fn step(&mut self, ready: Ready) -> Result<(), RelayError> {
        if ready.outer
            && fill(&mut self.session.incoming, self.outer).map_err(RelayError::Outer)? == Some(0)
        {
            self.outer_ended = true;
        }

        if ready.inner {
            match fill(&mut self.from_inner, self.inner).map_err(RelayError::Inner)? {
                Some(0) => self.inner_ended = true,
                Some(n) => {
                    self.carried.sent.fetch_add(n as u64, Ordering::Relaxed);
                    self.session.encrypt(self.from_inner.filled())?;
                    self.from_inner.consume(n);
                    self.looks.get_or_insert_with(|| (0, Instant::now()));
                }
                None => {}
            }
        }
        self.turn()
    }

    /// Works through what has come from the server, and sends on both ways.
    pub(crate) fn turn(&mut self) -> Result<(), RelayError> {
        loop {
            let before = self.to_inner.len();
            let turned = self.session.turn(self.to_inner);
            let came = self.to_inner.len() - before;
            self.carried.received.fetch_add(came as u64, Ordering::Relaxed);

            // Data from before an error is good, and the alert that follows from it is still sent.
            let sent = flush(self.to_inner, self.inner);
            let flushed = flush(&mut self.session.outgoing, self.outer);
            turned?;
            sent.map_err(RelayError::Inner)?;
            flushed.map_err(RelayError::Outer)?;

            self.outer_ended |= self.session.ended();
            // Records may be left for which there was no room before.
            if !self.session.can_turn(self.to_inner) {
                break;
            }
        }
        self.tell()
    }

    /// Passes the end of one side on to the other, once all that was sent has gone.
    fn tell(&mut self) -> Result<(), RelayError> {
        if self.inner_ended && !self.told_outer && self.session.outgoing.is_empty() {
            self.session.close()?;
            flush(&mut self.session.outgoing, self.outer).map_err(RelayError::Outer)?;
            self.told_outer = true;
        }

        if self.outer_ended && !self.told_inner && self.to_inner.is_empty() {
            // This fails only if the kernel has closed it already.
            let _ = self.inner.shutdown(Shutdown::Write);
            self.told_inner = true;
        }
        Ok(())
    }
}

fn poll_flags(reads: bool, writes: bool) -> PollFlags {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, reads);
    flags.set(PollFlags::POLLOUT, writes);
    flags
}

/// Calls poll(2), and says whether anything is ready.
fn polled(fds: &mut [PollFd<'_>], span: PollTimeout) -> Result<bool, RelayError> {
    loop {
        match poll(fds, span) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(RelayError::Tls(TunnelError::NoMeans(errno))),
        }
    }
}

fn events(fd: &PollFd<'_>) -> PollFlags {
    fd.revents().unwrap_or(PollFlags::empty())
}

/// Reads once. `None` means that nothing is there; `Some(0)`, that the stream has ended.
fn fill(buffer: &mut Buffer, mut from: &TcpStream) -> Result<Option<usize>, Errno> {
    let room = buffer.room();
    if room.is_empty() {
        return Ok(None);
    }
    match from.read(room) {
        Ok(n) => {
            buffer.add(n);
            Ok(Some(n))
        }
        Err(e) => later(&e).map(|()| None),
    }
}

/// Sends as much as the stream accepts now.
fn flush(buffer: &mut Buffer, mut to: &TcpStream) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match to.write(buffer.filled()) {
            Ok(n) => buffer.consume(n),
            Err(e) => return later(&e),
        }
    }
    Ok(())
}

/// Whether a connection attempt that was begun a while ago has succeeded.
fn is_taken(stream: &TcpStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
        && matches!(stream.take_error(), Ok(None))
}

/// Passes over an error that only says that the stream is not ready.
fn later(error: &io::Error) -> Result<(), Errno> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(()),
        _ => Err(sys::errno_of(error)),
    }
}

#[cfg(test)]
mod tests;
