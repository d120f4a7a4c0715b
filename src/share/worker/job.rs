//! The parent's side of a child at work. It starts the child, listens for as long as the time
//! lasts, and ends it in every case. The child's own work is in `super::child`.

use super::WorkerError;
use super::message::LONGEST;
use crate::retry::Span;
use crate::sys;
use crate::wait::Wait;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long a killed child is waited for: mount(2) lets go within 15 ms of SIGKILL.
const REAP_TIMEOUT: Duration = Duration::from_millis(80);
/// A child that takes longer than this leaves its parent time for something else.
const LONG_JOB: Duration = Duration::from_secs(1);

/// What a parent does while its child takes long. It gets a descriptor that becomes readable when
/// the child has said something, and must return soon after that. It returns whether the child is
/// to be cut off.
pub type Meanwhile<'a> = &'a mut dyn FnMut(BorrowedFd<'_>) -> bool;

/// Runs `job` in a child and returns the bytes it replied with. However this ends, the child is gone.
pub(super) fn run(
    wait: Wait<'_>,
    job: impl FnOnce(BorrowedFd<'_>),
) -> Result<Vec<u8>, WorkerError> {
    Job::start(wait, job)?.report()
}

/// A child at work. It ends at the latest when this is dropped.
pub(super) struct Job<'a> {
    child: sys::Child,
    /// Whether it may be waiting for more to do.
    pub(super) listens: bool,
    /// Whether it has sent its last message, and nobody except root could send it a signal.
    pub(super) ends: bool,
    wait: Wait<'a>,
}

impl<'a> Job<'a> {
    pub(super) fn start(
        wait: Wait<'a>,
        job: impl FnOnce(BorrowedFd<'_>),
    ) -> Result<Self, WorkerError> {
        let child = sys::spawn(job).map_err(WorkerError::Fork)?;
        Ok(Self { child, listens: false, ends: false, wait })
    }

    pub(super) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// The bytes of the child's next message; empty if it has died. A child whose message does not
    /// come is killed.
    pub(super) fn report(&mut self) -> Result<Vec<u8>, WorkerError> {
        self.report_meanwhile(&mut |_| false)
    }

    /// Like [`Job::report`], but `meanwhile` is called once if the child takes longer than
    /// [`LONG_JOB`].
    pub(super) fn report_meanwhile(
        &mut self,
        meanwhile: Meanwhile<'_>,
    ) -> Result<Vec<u8>, WorkerError> {
        let Self { child, wait, .. } = self;
        let fds = [PollFd::new(child.reply.as_fd(), PollFlags::POLLIN)];

        // The descriptor is ready when a message is there or, if the child died, at the end.
        let mut ready = wait.within(LONG_JOB).poll(&fds);
        if matches!(&ready, Ok(ready) if !ready.contains(&true)) && !wait.passed() {
            let enough = meanwhile(child.reply.as_fd());
            ready = if enough { wait.within(Duration::ZERO) } else { *wait }.poll(&fds);
        }

        let came = match ready {
            Ok(ready) if ready.contains(&true) => Ok(()),
            Ok(_) => Err(WorkerError::CutOff),
            Err(stopped) => Err(stopped.into()),
        };

        if came.is_err() {
            let _ = kill(child.pid, Signal::SIGKILL);
        }
        let report = self.arrived();
        match came {
            // A message that came in just before the kill counts.
            Err(error) if report.is_empty() => Err(error),
            _ => Ok(report),
        }
    }

    /// The bytes of the child's next message, if it is here already.
    pub(super) fn arrived(&self) -> Vec<u8> {
        let mut bytes = [0; LONGEST];
        let n = sys::receive_now(self.child.reply.as_fd(), &mut bytes).unwrap_or(0);
        bytes.get(..n).unwrap_or_default().to_vec()
    }

    pub(super) fn ask(&self, words: &[i32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();

        // A child that does not listen any more does not answer either.
        let _ = sys::send_now(self.child.reply.as_fd(), &bytes);
    }
}

impl Drop for Job<'_> {
    /// Waits for the child, which has nothing left to do but exit, or is killed already. Closing
    /// descriptors on a dead server could still hold it up: then it is killed.
    fn drop(&mut self) {
        if self.listens {
            self.ask(&[]);
        }
        let sys::Child { pid, reply } = &self.child;
        if !self.ends && !has_ended(reply.as_fd()) {
            let _ = kill(*pid, Signal::SIGKILL);
            if !has_ended(reply.as_fd()) {
                return; // uninterruptible: init will reap it once we are gone
            }
        }

        let _ = waitpid(*pid, Some(WaitPidFlag::__WALL));
    }
}

/// Whether a child ends within half of [`REAP_TIMEOUT`]. The kernel closes its side a moment before it can be reaped.
fn has_ended(reply: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(reply, PollFlags::empty())];
    let span = PollTimeout::try_from(REAP_TIMEOUT.part(2)).unwrap_or(PollTimeout::MAX);
    poll(&mut fds, span).is_ok_and(|ready| ready > 0)
}
