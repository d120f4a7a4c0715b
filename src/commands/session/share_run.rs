//! Brings up one share: what is mounted already is kept or replaced, and otherwise the share is
//! mounted. How one attempt goes is in [`super::attempt`].

use super::attempt::ShareRun;
use super::look::{Look, ReplaceReason};
use super::pace::{ANSWER_TIMEOUT, Pace};
use super::search::Search;
use super::{Remember, SessionRun};
use crate::config::{Share, advice};
use crate::kernel::holders::list;
use crate::report::Outcome;
use crate::retry::Backoff;
use crate::share::{Failure, Machine, Mounted, plan};

impl<M: Machine> SessionRun<'_, M> {
    /// Brings up one share, whatever is there at first.
    pub(super) fn bring_up(
        &self,
        share: Share,
        pace: Pace,
        search: &mut Search,
        remember: Remember<'_>,
    ) -> Outcome {
        let started = self.clock.now();
        search.begin(&share);
        self.log_options(&share);

        let mut way = ShareRun { run: self, share: &share, pace, search, attempts: 0 };
        let result = way.keep_or_mount();
        let attempts = way.attempts;

        let took = self.clock.now().saturating_sub(started);
        let result = result.map_err(|failure| self.given_up(failure));
        let mut outcome = Outcome { share, result, attempts, took };
        if let Ok(mounted) = &outcome.result {
            if !mounted.already && mounted.led_to(&outcome.share).is_some() {
                // The mount table does not show whose it is. If this run is killed, only this note
                // lets the next one know it.
                remember(&outcome);
            }

            if let Err(failure) = self.settle_or_detach(&outcome.share, mounted) {
                outcome.result = Err(self.given_up(failure));
            }
        }
        Outcome { took: self.clock.now().saturating_sub(started), ..outcome }
    }

    fn log_options(&self, share: &Share) {
        if !share.options.ignored.is_empty() {
            let words = share.options.ignored.join(", ");
            self.log.debug(format_args!("{share}: {words}: mean nothing here, passed over"));
        }
        for (word, why) in advice::on_efs(share) {
            self.log.debug(format_args!("{share}: {word} in `options`: {why}"));
        }
    }

    /// Does what is left to do once a share is mounted. A new mount that is of no use is taken away
    /// again: its users could not reach their files.
    fn settle_or_detach(&self, share: &Share, mounted: &Mounted) -> Result<(), Failure> {
        self.log_oddities(share, mounted);
        let settled = self.settle(share, mounted);
        if settled.is_err() && !mounted.already {
            let until = self.deadline.within(self.clock, ANSWER_TIMEOUT);
            if self.machine.detach(share, mounted, until).is_ok() {
                self.machine.abandon(share, mounted.made);
            }
        }

        settled
    }

    fn settle(&self, share: &Share, mounted: &Mounted) -> Result<(), Failure> {
        let until = self.deadline.within(self.clock, self.attempt_timeout);
        let doubt = share.root_mode.and_then(|mode| Some((mode, self.doubt(share, mounted)?)));

        // The root must not be changed where it may belong to another machine.
        let careful = Share { root_mode: None, ..share.clone() };
        let share = if doubt.is_some() { &careful } else { share };
        for (level, text) in self.machine.settle(share, mounted, until)? {
            self.log.line(level, text);
        }

        if let Some((mode, doubt)) = doubt {
            let at = share.mount_point.display();
            self.log.warning(format_args!("root_mode {mode:04o} of {at} is not set: {doubt}"));
        }
        Ok(())
    }

    /// Logs what a person would not expect of the mount.
    fn log_oddities(&self, share: &Share, mounted: &Mounted) {
        let at = share.mount_point.display();
        if let Some(source) = mounted.led_to(share) {
            let path = &share.path;
            let since = match mounted.already {
                false => "",
                true => "; where it leads by now counts from the next mount on",
            };
            self.log.info(format_args!(
                "{at}: the server leads {path} to {source}, which is what df and findmnt show{since}"
            ));
        }

        if !mounted.differs.is_empty() {
            let differs = mounted.differs.join(", ");
            let hint = "unmount it and run again to have what the config says";
            self.log.warning(format_args!("{at} is mounted with {differs}: {hint}"));
        }

        if let Some(errno) = mounted.nameless {
            let cause = self.explain(&Failure::NoHostName(errno), share);
            self.log.warning(format_args!("{}: {}", cause.sentence, cause.cure));
        }
        if mounted.hides {
            let hint = "look at it with the share unmounted";
            self.log
                .warning(format_args!("{at} is not empty: the share hides what is in it ({hint})"));
        }
    }

    /// The share, if somebody else has mounted it there and the server has led its path elsewhere.
    /// That may have been a run that was killed before it could note it.
    fn recognized(&self, share: &Share) -> Option<Mounted> {
        let until = || self.deadline.within(self.clock, ANSWER_TIMEOUT);
        let call = match share.encryption {
            None => {
                let address = self.locate(share, ANSWER_TIMEOUT, &mut Search::default()).ok()?;
                plan::mount_call(share, address, self.machine.client())
            }

            // Without a tunnel, there is nothing to compare with.
            Some(_) => {
                let port = self.tunnels.port(share)?;
                let peer = self.tunnels.handshake(share, until()).ok()?;
                plan::tunnelled_call(share, port, peer.address, self.machine.client())
            }
        };

        self.machine.recognized(share, &call, until()).ok().flatten()
    }
}

impl<M: Machine> ShareRun<'_, M> {
    fn keep_or_mount(&mut self) -> Result<Mounted, Failure> {
        let there = match self.run.machine.mounted(self.share, self.run.deadline) {
            Err(taken @ Failure::Taken { .. }) => {
                Some(self.run.recognized(self.share).ok_or(taken)?)
            }
            there => there?,
        };

        match there {
            Some(mounted) => self.keep_or_replace(mounted),
            None => self.mount_new(),
        }
    }

    /// Keeps a share that is mounted already if it can be used, and replaces it if only that helps.
    /// Else the mount is left alone: the kernel, or its tunnel, takes it up again once the server
    /// is back.
    fn keep_or_replace(&mut self, mounted: Mounted) -> Result<Mounted, Failure> {
        let mut backoff: Option<Backoff> = None;
        loop {
            let look = match self.share.encryption {
                Some(_) => self.look_through_tunnel(&mounted).unwrap_or_else(Look::Failing),
                None => self.look(&mounted)?,
            };

            match look {
                Look::Alive(peer) => {
                    let mut differs = mounted.differs;
                    if self.share.encryption.is_some() && !self.run.tunnels.is_current(self.share) {
                        differs.push("the tunnel of an earlier config".into());
                    }
                    return Ok(Mounted { peer, differs, ..mounted });
                }
                Look::Useless(reason) => return self.replace(&mounted, &reason),
                Look::Failing(failure) => self.wait_after_look(failure, &mut backoff)?,
            }
        }
    }

    /// Takes away a mount that is of no use, and mounts the share anew.
    fn replace(&mut self, mounted: &Mounted, reason: &ReplaceReason) -> Result<Mounted, Failure> {
        let (run, share) = (self.run, self.share);
        let at = share.mount_point.display();
        let holders = run.machine.held_by(share);
        run.log.warning(format_args!("{at} is mounted {}", reason.text(mounted)));
        if !holders.is_empty() {
            run.log.warning(format_args!(
                "{at} is in use by {}: what they have open stays on the old mount until they close it",
                list(&holders)
            ));
        }

        run.machine.detach(share, mounted, run.deadline.within(run.clock, ANSWER_TIMEOUT))?;
        let new = self.mount_new().inspect_err(|_| run.machine.abandon(share, false))?;
        Ok(Mounted { anew: true, ..new })
    }

    fn mount_new(&mut self) -> Result<Mounted, Failure> {
        let mut point = self.run.machine.prepare(self.share)?;
        let result = self.until_mounted(&mut point);
        if result.is_err() {
            self.run.machine.discard(self.share, point);
        }
        result
    }
}
