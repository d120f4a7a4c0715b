//! Makes attempts to mount one share, one after another, with pauses between them. They end when
//! one succeeds, fails for good, or time is up. Only the class of a failure decides here; its words
//! are made for the log.

use super::SessionRun;
use super::pace::{LOCATE_TIMEOUT, Pace};
use super::search::Search;
use crate::config::Share;
use crate::retry::{Backoff, seconds};
use crate::share::causes::{Class, class_of};
use crate::share::{Failure, Machine, Mounted, plan};
use crate::sys;

/// One share on its way to its mount.
pub(super) struct ShareRun<'r, M> {
    pub(super) run: &'r SessionRun<'r, M>,
    pub(super) share: &'r Share,
    pub(super) pace: Pace,
    pub(super) search: &'r mut Search,
    /// How many attempts were made.
    pub(super) attempts: u32,
}

impl<M: Machine> ShareRun<'_, M> {
    /// Makes attempts with pauses between them, until one succeeds, fails for good, or time is up.
    pub(super) fn until_mounted(&mut self, point: &mut M::Point) -> Result<Mounted, Failure> {
        let mut backoff: Option<Backoff> = None;
        let mut before: Option<Failure> = None;
        loop {
            if self.run.deadline.passed(self.run.clock) {
                return Err(before.unwrap_or(Failure::NoTime));
            }

            self.attempts = self.attempts.saturating_add(1);
            let failure = match self.attempt(point) {
                Ok(mounted) => return Ok(mounted),
                Err(failure) => failure,
            };

            self.pace.adapt_to(&failure);
            if let Failure::Stopped(_) = failure {
                return Err(Failure::Stopped(before.map(Box::new)));
            }

            let failure = self.more_telling(failure, before);
            if self.is_final(&failure) {
                return Err(failure);
            }
            self.log_attempt(&failure);
            let backoff = backoff.get_or_insert_with(|| Backoff::new(sys::random()));
            if self.run.pause(self.share, &failure, self.search, backoff).is_err() {
                return Err(Failure::Stopped(Some(Box::new(failure))));
            }

            if failure == Failure::PointGone {
                *point = self.run.machine.prepare(self.share)?;
            }
            if let Some(address) = failure.failed_address() {
                self.search.failed.retain(|other| *other != address);
                self.search.failed.push(address);
            }
            before = Some(failure);
        }
    }

    /// The failure of this attempt, or that of the one before if it says more.
    fn more_telling(&self, failure: Failure, before: Option<Failure>) -> Failure {
        match before {
            // An attempt that the deadline cut short says less than a whole one.
            Some(before) if failure.is_by_time() && self.run.deadline.passed(self.run.clock) => {
                before
            }

            // An attempt also says less if there was no time to ask the server about it.
            Some(before)
                if failure.wants_null_call()
                    && before.was_probed()
                    && before.failed_address() == failure.failed_address() =>
            {
                before
            }
            _ => failure,
        }
    }

    /// Whether no attempt may follow this failure.
    fn is_final(&self, failure: &Failure) -> bool {
        self.run.once
            || self.run.deadline.passed(self.run.clock)
            || class_of(failure, self.share) != Class::Temporary
    }

    /// Logs a failed attempt that another one follows.
    fn log_attempt(&self, failure: &Failure) {
        let run = self.run;
        let at = self.share.mount_point.display();
        let sentence = run.explain(failure, self.share).sentence;
        let left = seconds(run.deadline.left(run.clock));
        let attempts = self.attempts;
        run.log.warning(format_args!("{at}: attempt {attempts}: {sentence}; {left} left"));
    }

    /// Pauses after a look at an existing mount that fails, if another look follows.
    pub(super) fn wait_after_look(
        &mut self,
        failure: Failure,
        backoff: &mut Option<Backoff>,
    ) -> Result<(), Failure> {
        self.attempts = self.attempts.saturating_add(1);
        if matches!(failure, Failure::Stopped(_)) || self.is_final(&failure) {
            return Err(failure);
        }
        self.log_attempt(&failure);

        let run = self.run;
        let pause = backoff.get_or_insert_with(|| Backoff::new(sys::random())).pause();
        let paused = run.clock.wait(pause.min(run.deadline.left(run.clock)));
        paused.map_err(|_| Failure::Stopped(Some(Box::new(failure))))
    }

    /// Makes one attempt: name, address that answers, mount(2).
    fn attempt(&mut self, point: &M::Point) -> Result<Mounted, Failure> {
        if self.share.encryption.is_some() {
            return self.encrypted_attempt(point);
        }
        let (run, share) = (self.run, self.share);

        let address = match self.search.seen.take() {
            Some(address) => address,
            None => run.locate(share, LOCATE_TIMEOUT, self.search)?,
        };

        let call = plan::mount_call(share, address, run.machine.client());
        let limit = self.pace.limit(run.deadline, run.clock);
        let completed = self.search.completed();

        // The root must not be changed where it may belong to another machine.
        let careful = completed.is_some().then(|| Share { root_mode: None, ..share.clone() });
        let careful = careful.as_ref().unwrap_or(share);
        match run.machine.mount(careful, &call, point, limit) {
            Ok(mounted) => {
                self.search.seen = Some(address);
                let doubt = run.doubt_of_new(share, &call, completed, &mounted);
                Ok(Mounted { doubt, ..mounted })
            }
            Err(failure) => Err(run.with_origin(share, failure, self.search)),
        }
    }
}
