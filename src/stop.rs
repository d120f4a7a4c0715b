//! The signals that end a run, and the real clock whose waits they cut short.
//!
//! The signals stay blocked and are read from a descriptor that every wait
//! polls too, so no handler runs and no wait can miss one.

use crate::retry::{Clock, Stopped};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The signals that end a run, as a descriptor.
#[derive(Debug)]
pub struct Stop {
    signals: SignalFd,
}

impl Stop {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread (and those it makes)
    /// and collects them from now on.
    ///
    /// # Errors
    /// The errno of the signal calls.
    pub fn install() -> Result<Self, Errno> {
        let mut set = SigSet::empty();
        // What our starter has told us to ignore stays ignored.
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            if !sys::is_ignored(signal) {
                set.add(signal);
            }
        }
        sys::set_signals(set)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self { signals: SignalFd::with_flags(&set, flags)? })
    }

    /// Waits until one of `fds` is ready or `span` has gone by (rounded up to
    /// milliseconds); tells of each whether it is ready.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal is there. It is left there, so that
    /// every later wait, in every thread, ends at once too.
    pub fn poll(&self, fds: &[PollFd<'_>], span: Duration) -> Result<Vec<bool>, Stopped> {
        let end = Instant::now() + span;
        let mut all: Vec<PollFd<'_>> = Vec::with_capacity(fds.len() + 1);
        all.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        all.extend(fds.iter().cloned());
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let millis = left.as_micros().div_ceil(1000);
            match poll(&mut all, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
                Err(Errno::EINTR) => {}
                // No memory for a poll: as if nothing had come, but never a busy loop.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10).min(left));
                    return Ok(vec![false; fds.len()]);
                }
                Ok(_) => break,
            }
        }
        let mut ready = all.iter().map(|fd| fd.any().unwrap_or(false));
        match ready.next() {
            Some(true) => Err(Stopped),
            _ => Ok(ready.collect()),
        }
    }

    /// Which signal ended the run, if one did. Takes it off the queue.
    pub fn signal(&self) -> Option<Signal> {
        let info = self.signals.read_signal().ok().flatten()?;
        Signal::try_from(info.ssi_signo as i32).ok()
    }
}

/// The monotonic clock; its waits end when a signal comes.
#[derive(Debug)]
pub struct SystemClock<'a> {
    origin: Instant,
    stop: &'a Stop,
}

impl<'a> SystemClock<'a> {
    /// A clock that counts from `origin`.
    pub fn new(origin: Instant, stop: &'a Stop) -> Self {
        Self { origin, stop }
    }
}

impl Clock for SystemClock<'_> {
    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wait(&self, pause: Duration) -> Result<(), Stopped> {
        self.stop.poll(&[], pause).map(|_| ())
    }
}
