//! The signals that end a run, and the real clock whose waits they cut short.
//!
//! The signals stay blocked. They are read from a descriptor that every wait also polls, so no handler runs and no wait
//! can miss one. Work for a client can end in the same way, with the end of its connection. What a run does when it
//! ends is not decided here.

use crate::retry::{Clock, Stopped};
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What ends a run.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// The signals that end a run, as a descriptor.
#[derive(Debug)]
pub struct Stop {
    signals: Arc<SignalFd>,
    /// The connection whose end counts like a signal.
    beside: Option<OwnedFd>,
    /// A job for waits, once they have taken some time together.
    late: OnceLock<Late>,
}

struct Late {
    span: Duration,
    /// How long waits have taken so far, in microseconds.
    waited: AtomicU64,
    job: Box<dyn Fn() + Send + Sync>,
}

impl Late {
    /// How much longer waits may take before the job is due.
    fn left(&self) -> Duration {
        self.span.saturating_sub(Duration::from_micros(self.waited.load(Ordering::Relaxed)))
    }

    fn add(&self, waited: Duration) {
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited.fetch_add(micros, Ordering::Relaxed);
    }
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.left().fmt(f)
    }
}

impl Stop {
    /// Blocks SIGTERM, SIGINT and SIGHUP in this thread (and those it makes) and collects them from now on.
    ///
    /// # Errors
    /// The errno of the signal calls.
    pub fn install() -> Result<Self, Errno> {
        let set: SigSet = ENDING.into_iter().collect();
        sys::set_signals(set)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Self {
            signals: Arc::new(SignalFd::with_flags(&set, flags)?),
            beside: None,
            late: OnceLock::new(),
        })
    }

    /// The same signals, and one more reason to end a wait: the other end of `stream` sends nothing more, or is gone.
    ///
    /// # Errors
    /// What dup(2) says.
    pub fn or_end_of(&self, stream: &TcpStream) -> io::Result<Self> {
        let beside = Some(stream.as_fd().try_clone_to_owned()?);
        Ok(Self { signals: Arc::clone(&self.signals), beside, late: OnceLock::new() })
    }

    /// Once all waits have taken `span` together, each wait that goes on or begins does `job` once. A run that is done
    /// before that pays nothing for it. Only the first call counts.
    pub fn when_waited_for(&self, span: Duration, job: Box<dyn Fn() + Send + Sync>) {
        let _ = self.late.set(Late { span, waited: AtomicU64::new(0), job });
    }

    /// Stops collecting signals that our starter made us ignore (nohup does that with SIGHUP). This is checked only
    /// when a signal is there, which is seldom.
    fn pass_over_ignored(&self) {
        let heeded: SigSet =
            ENDING.into_iter().filter(|signal| !sys::is_ignored(*signal)).collect();
        sys::collect(self.signals.as_fd(), &heeded);
    }

    /// Waits until one of `fds` is ready or `span` has gone by (rounded up to milliseconds). Gives for each of them
    /// whether it is ready.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal is there. It is left there, so that every later wait, in every thread, ends at
    /// once, too.
    pub fn poll(&self, fds: &[PollFd<'_>], span: Duration) -> Result<Vec<bool>, Stopped> {
        let events = self.events(fds, span)?;
        Ok(events.into_iter().map(|events| !events.is_empty()).collect())
    }

    /// Like [`Stop::poll`], but gives what each of `fds` is ready for.
    ///
    /// # Errors
    /// [`Stopped`], as there.
    pub fn events(&self, fds: &[PollFd<'_>], span: Duration) -> Result<Vec<PollFlags>, Stopped> {
        let began = Instant::now();
        let events = self.wait(fds, span, began);
        if let Some(late) = self.late.get() {
            late.add(began.elapsed());
        }
        events
    }

    fn wait(
        &self,
        fds: &[PollFd<'_>],
        span: Duration,
        began: Instant,
    ) -> Result<Vec<PollFlags>, Stopped> {
        let mut looked = false;
        let mut all: Vec<PollFd<'_>> = Vec::with_capacity(fds.len() + 2);
        all.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        let ended = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
        all.extend(self.beside.as_ref().map(|stream| PollFd::new(stream.as_fd(), ended)));
        let ours = all.len();
        all.extend(fds.iter().cloned());

        // A call that only asks what is there already is no wait.
        let mut late = self.late.get().filter(|_| !span.is_zero());
        loop {
            let mut left = span.saturating_sub(began.elapsed());
            if let Some(waiting) = late {
                let until = waiting.left().saturating_sub(began.elapsed());
                if until.is_zero() {
                    (waiting.job)();
                    late = None;
                    continue;
                }
                match until < left {
                    true => left = until,
                    false => late = None,
                }
            }

            let millis = left.as_micros().div_ceil(1000);
            match poll(&mut all, PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)) {
                Err(Errno::EINTR) => {}
                // Without memory for a poll, nothing counts as ready. The pause avoids a busy loop.
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10).min(left));
                    return Ok(vec![PollFlags::empty(); fds.len()]);
                }
                // A signal is there. It is looked for once more, in case it is one to be ignored.
                Ok(_) if !looked && all.first().is_some_and(|fd| fd.any() == Some(true)) => {
                    looked = true;
                    self.pass_over_ignored();
                }
                // The job is due, and the wait goes on after it.
                Ok(0) if late.is_some() => {}
                Ok(_) => break,
            }
        }

        // nix gives `None` for an event that it has no name for, such as POLLRDHUP.
        let mut events = all.iter().map(|fd| fd.revents().unwrap_or(PollFlags::all()));
        match events.by_ref().take(ours).any(|events| !events.is_empty()) {
            true => Err(Stopped),
            false => Ok(events.collect()),
        }
    }

    /// Which signal ended the run, if one did. Takes it off the queue.
    pub fn signal(&self) -> Option<Signal> {
        self.pass_over_ignored();
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn who_waits_longer_than_most_does_something_meanwhile_and_waits_no_less() {
        let stop = Stop::install().unwrap();
        let times = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&times);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        stop.when_waited_for(Duration::from_millis(150), Box::new(count));
        let done = || times.load(Ordering::Relaxed);
        // What is no wait does not count, however long it takes.
        std::thread::sleep(Duration::from_millis(200));
        stop.poll(&[], Duration::from_millis(20)).unwrap();
        let waited = || Duration::from_millis(150).saturating_sub(stop.late.get().unwrap().left());
        assert!(done() == 0 || waited() > Duration::from_millis(100), "a short wait pays nothing");
        let began = Instant::now();
        stop.poll(&[], Duration::from_millis(300)).unwrap();
        assert!(done() >= 1 && began.elapsed() >= Duration::from_millis(300));
        let before = done();
        stop.poll(&[], Duration::from_millis(1)).unwrap();
        assert_eq!(done(), before + 1, "a wait that begins later");
        stop.poll(&[], Duration::ZERO).unwrap();
        assert_eq!(done(), before + 1, "a look is no wait");
        // A descriptor that is ready ends a long wait at once.
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
        assert_eq!(stop.poll(&fds, Duration::from_secs(60)), Ok(vec![true]));
    }

    #[test]
    fn the_end_of_a_connection_ends_what_is_done_for_it_and_nothing_else() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        let stop = Stop::install().unwrap();
        let beside = stop.or_end_of(&theirs).unwrap();
        let soon = Duration::from_millis(20);
        let fds = || [PollFd::new(theirs.as_fd(), PollFlags::POLLIN)];
        assert_eq!(beside.poll(&fds(), soon), Ok(vec![false]));
        // Data from the other end does not end a wait.
        ours.write_all(b"x").unwrap();
        assert_eq!(beside.poll(&fds(), soon), Ok(vec![true]));
        assert_eq!(beside.poll(&[], soon), Ok(vec![]));
        let started = Instant::now();
        let clock = SystemClock::new(started, &beside);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                ours.shutdown(Shutdown::Write).unwrap();
            });
            assert_eq!(clock.wait(Duration::from_secs(60)), Err(Stopped));
        });
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(stop.poll(&fds(), soon), Ok(vec![true]), "others go on");
    }
}
