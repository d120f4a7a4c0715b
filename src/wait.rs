//! A bounded wait as one value: until when, by which clock, and what ends it early. Every step that may take time gets
//! one, and hands a shorter one on. Nothing here knows what is waited for.

use crate::retry::{Clock, Deadline, Stopped};
use crate::stop::Stop;
use nix::poll::{PollFd, PollFlags};
use std::time::Duration;

/// The time that a step has, and what ends its waits before that.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// No wait lasts longer than this.
    pub until: Deadline,
    /// The clock that says when that is.
    pub clock: &'a dyn Clock,
    /// The signals that end every wait at once.
    pub stop: &'a Stop,
}

impl<'a> Wait<'a> {
    /// A wait of at most `span`, from now on.
    pub fn of(span: Duration, clock: &'a dyn Clock, stop: &'a Stop) -> Self {
        Self { until: Deadline::after(clock, span), clock, stop }
    }

    /// The same wait, limited to `span` from now.
    #[must_use]
    pub fn within(self, span: Duration) -> Self {
        Self { until: self.until.within(self.clock, span), ..self }
    }

    /// The same clock and signals with another end.
    #[must_use]
    pub fn with(self, until: Deadline) -> Self {
        Self { until, ..self }
    }

    /// The time left; zero once it has passed.
    pub fn left(self) -> Duration {
        self.until.left(self.clock)
    }

    /// Whether no time is left.
    pub fn passed(self) -> bool {
        self.until.passed(self.clock)
    }

    /// Waits until one of `fds` is ready, or no time is left. Gives for each whether it is ready.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal is there.
    pub fn poll(self, fds: &[PollFd<'_>]) -> Result<Vec<bool>, Stopped> {
        self.stop.poll(fds, self.left())
    }

    /// Like [`Wait::poll`], but gives what each of `fds` is ready for.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal is there.
    pub fn events(self, fds: &[PollFd<'_>]) -> Result<Vec<PollFlags>, Stopped> {
        self.stop.events(fds, self.left())
    }

    /// Lets `pause` go by, or what is left if that is less.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal is there.
    pub fn pause(self, pause: Duration) -> Result<(), Stopped> {
        self.clock.wait(pause.min(self.left()))
    }
}
