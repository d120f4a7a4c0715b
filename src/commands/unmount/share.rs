//! Takes one share down: sends what was written, takes the mount away, and detaches it if that
//! fails. Read [`UnmountRun::one`] for the order. Its tunnel is in [`super::tunnel`], and its mount
//! point in [`super::mount_points`].

use crate::config::Share;
use crate::kernel::holders::{Holder, list};
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::share::causes::{Cause, explain, is_there};
use crate::share::release::{FlushResult, Release, UnmountMode, UnmountResult};
use crate::share::{Failure, Mounted};
use crate::tunnel::contract::Tunnels;
use nix::errno::Errno;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long one umount2(2), a NULL call or a question to a tunnel may take.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How much time writing leaves, at the least, for taking the mount away.
const UNMOUNT_RESERVE: Duration = Duration::from_secs(3);
/// How long processes that were asked to end get, before the mount is detached under them.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(3);
/// The pause between two attempts to unmount meanwhile.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long detaching may take, even if no time is left.
const DETACH_TIMEOUT: Duration = Duration::from_millis(300);
/// At most this many mounts on one mount point are taken away.
const MOST_STACKED: usize = 8;

/// What all shares of a run have in common.
pub struct UnmountRun<'a, R> {
    pub machine: &'a R,
    pub tunnels: &'a dyn Tunnels,
    pub clock: &'a dyn Clock,
    pub log: &'a Log,
    pub deadline: Deadline,
    /// How much time the run has in all.
    pub span: Duration,
    /// Whether processes that hold a share are asked to end.
    pub terminate: bool,
    /// Whether this process sees other mounts than everybody else.
    pub apart: bool,
    /// The running kernel's release, for messages.
    pub kernel: String,
    /// The mount points that killed runs made.
    pub orphans: Vec<&'a Path>,
}

/// What was done about a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnmountDone {
    Unmounted,
    /// It was not mounted.
    Nothing,
}

/// What became of what users wrote.
struct WrittenData {
    /// Whether the server has confirmed all of it.
    is_whole: bool,
    /// The first loss: the kernel reports a refusal only once.
    loss: Option<Failure>,
}

impl WrittenData {
    fn add_loss(&mut self, loss: Failure) {
        self.is_whole = false;
        self.loss.get_or_insert(loss);
    }

    /// The end of a log line about it.
    fn text(&self) -> &'static str {
        match self.is_whole {
            true => "; all that was written is on the server",
            false => "",
        }
    }
}

impl<R: Release> UnmountRun<'_, R> {
    /// Takes all shares down, the last one of the config first. Returns the worst of their codes.
    pub fn all(&self, shares: &[Share]) -> Code {
        let mut worst = Code::OK;
        for (n, share) in shares.iter().enumerate().rev() {
            let result = self.one(share, n as u32);
            let tunnel_ended =
                share.encryption.is_some() && result.is_ok() && self.end_tunnel(share);

            match result {
                Ok(UnmountDone::Unmounted) => {}
                Ok(UnmountDone::Nothing) => self.log_nothing_done(share, tunnel_ended),
                Err(failure @ Failure::Stopped(_)) => {
                    return worst.worse(self.log_failure(share, &failure));
                }
                Err(failure) => worst = worst.worse(self.log_failure(share, &failure)),
            }
        }
        worst
    }

    fn log_nothing_done(&self, share: &Share, tunnel_ended: bool) {
        let done = match tunnel_ended {
            true => "; its tunnel was ended",
            // What becomes of the mount point has a line of its own.
            false if self.orphans.contains(&share.mount_point.as_path()) => "",
            false => "; nothing was done",
        };
        self.log.info(format_args!("not mounted: {share}{done}"));
    }

    /// Says why a share could not be taken down as it should be, and gives the exit code for that.
    fn log_failure(&self, share: &Share, failure: &Failure) -> Code {
        match failure {
            Failure::Taken { source, fstype } => {
                self.log.error(format_args!(
                    "unmounting {share}: {}, which is not the share: left alone (exit {})",
                    is_there(source, fstype),
                    Code::REFUSED.0
                ));
                Code::REFUSED
            }
            Failure::Stopped(_) => {
                self.log.error(format_args!(
                    "unmounting {share}: stopped by a signal; it may still be mounted"
                ));
                Code::DEADLINE
            }
            failure => {
                let Cause { class, sentence, cure } = explain(failure, share, &self.kernel);
                let code = Code::of(class);
                self.log.error(format_args!(
                    "unmounting {share}: {sentence}; to mend it: {cure} (exit {})",
                    code.0
                ));
                code
            }
        }
    }

    /// Takes one share down, and what is stacked on the same mount point. `after` shares still wait
    /// for their turn, and each gets its part of the time.
    fn one(&self, share: &Share, after: u32) -> Result<UnmountDone, Failure> {
        let started = self.clock.now();
        let mut refused = None;
        for turn in 0..=MOST_STACKED {
            let mounted = match self.machine.find_mount(share, self.deadline) {
                Ok(Some(mounted)) => mounted,
                Ok(None) if turn == 0 => return Ok(UnmountDone::Nothing),
                Ok(None) => return unmounted(refused),
                // A mount below the share was there before it, and does not belong to it.
                Err(Failure::Taken { source, fstype }) if turn > 0 => {
                    let (at, what) = (share.mount_point.display(), is_there(&source, &fstype));
                    self.log.info(format_args!("{at}: {what}, below the share: left as it is"));
                    return unmounted(refused);
                }
                Err(failure) => return Err(failure),
            };

            if turn == MOST_STACKED {
                break;
            }

            if turn == 0 && is_tunnelled(share, &mounted) && !self.has_tunnel(share, &mounted)? {
                return Err(self.drop_unwritten(share, &mounted)?);
            }

            let began = self.clock.now();
            let flushed = self.machine.flush(share, &mounted, self.write_until(after))?;
            match flushed {
                FlushResult::Done | FlushResult::Unknown => {}
                FlushResult::Refused(errno) => refused = Some(errno),
                FlushResult::Late => {
                    let took = self.clock.now().saturating_sub(began);
                    return Err(self.tear_away(share, &mounted, took)?);
                }
            }

            let is_whole = flushed == FlushResult::Done && refused.is_none();
            self.take_away(share, &mounted, started, is_whole)?;
        }
        Err(Failure::Stays)
    }

    /// When writing must end, if `after` shares still wait for their turn.
    fn write_until(&self, after: u32) -> Deadline {
        let reserve = UNMOUNT_RESERVE.min(self.span.part(3));
        let left = self.deadline.left(self.clock).saturating_sub(reserve);
        self.deadline.within(self.clock, left.part(after as usize + 1))
    }

    /// Takes away a mount whose tunnel is gone and whose port anybody may take. Nothing may be
    /// written through that port.
    fn drop_unwritten(&self, share: &Share, mounted: &Mounted) -> Result<Failure, Failure> {
        if self.unmount(share, mounted, UnmountMode::Force)? != UnmountResult::Gone {
            self.unmount(share, mounted, UnmountMode::Detach)?;
        }
        Ok(Failure::PortLost(mounted.port))
    }

    /// Takes away a mount whose server has what was written, as far as it accepts it.
    fn take_away(
        &self,
        share: &Share,
        mounted: &Mounted,
        started: Duration,
        is_whole: bool,
    ) -> Result<(), Failure> {
        let mut written = WrittenData { is_whole, loss: None };
        let mut is_gone = self.unmount(share, mounted, UnmountMode::Plain)? == UnmountResult::Gone;
        let holders = if is_gone { Vec::new() } else { self.machine.holders(share) };
        if !is_gone && self.terminate {
            is_gone = self.terminate_holders(share, mounted, &holders, &mut written)?;
        }

        if is_gone {
            let took = self.clock.now().saturating_sub(started).as_secs_f64();
            self.log.info(format_args!("unmounted {share}{}; in {took:.3} s", written.text()));
        } else {
            self.flush_again(share, mounted, &mut written)?;
            if self.unmount(share, mounted, UnmountMode::Detach)? != UnmountResult::Gone {
                return Err(Failure::Stays);
            }

            let by = match holders.as_slice() {
                [] => "by somebody who could not be named".to_owned(),
                holders => format!("by {}", list(holders)),
            };
            self.log.warning(format_args!(
                "unmounted {share} although it is in use {by}: detached, so that they alone still see it{}",
                written.text()
            ));
        }

        written.loss.map_or(Ok(()), Err)
    }

    /// Asks the holders of a share to end, and unmounts it once they have. Returns whether that
    /// succeeded in time.
    fn terminate_holders(
        &self,
        share: &Share,
        mounted: &Mounted,
        holders: &[Holder],
        written: &mut WrittenData,
    ) -> Result<bool, Failure> {
        let mut asked = holders.to_vec();
        asked.retain(|holder| self.machine.terminate(holder));
        if asked.is_empty() {
            return Ok(false);
        }

        self.log.info(format_args!("{share} is busy: asked to end: {}", list(&asked)));
        let left = self.deadline.left(self.clock).saturating_sub(DETACH_TIMEOUT.doubled());
        let until = self.deadline.within(self.clock, left.min(TERMINATE_TIMEOUT));
        while !until.passed(self.clock) {
            self.clock.wait(RETRY_PAUSE)?;
            self.flush_again(share, mounted, written)?;
            if self.unmount(share, mounted, UnmountMode::Plain)? == UnmountResult::Gone {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends what was written since the last time.
    fn flush_again(
        &self,
        share: &Share,
        mounted: &Mounted,
        written: &mut WrittenData,
    ) -> Result<(), Stopped> {
        let left = self.deadline.left(self.clock).saturating_sub(DETACH_TIMEOUT);
        let until = self.deadline.within(self.clock, left.min(CALL_TIMEOUT));
        let began = self.clock.now();

        match self.machine.flush(share, mounted, until)? {
            FlushResult::Done | FlushResult::Unknown => {}
            FlushResult::Refused(errno) => written.add_loss(Failure::Refused(errno)),
            FlushResult::Late => {
                let took = self.clock.now().saturating_sub(began);
                written.add_loss(Failure::NotWritten(mounted.address.clone(), took));
            }
        }
        Ok(())
    }

    /// Takes away a mount whose server did not take all that was written within `span`. Returns the
    /// failure that this is.
    fn tear_away(
        &self,
        share: &Share,
        mounted: &Mounted,
        span: Duration,
    ) -> Result<Failure, Failure> {
        let address = mounted.address.clone();
        let left = self.deadline.left(self.clock).saturating_sub(DETACH_TIMEOUT).min(CALL_TIMEOUT);

        // A server is not called dead if there was no time for its answer: force would throw away
        // what can be saved.
        let is_dead = left >= CALL_TIMEOUT.part(2)
            && !self.machine.answers(mounted, self.deadline.within(self.clock, left));
        let (failure, gone) = if is_dead {
            // Force ends what waits for the server, so that nothing of it stays in the kernel.
            (Failure::Lost(address), self.unmount(share, mounted, UnmountMode::Force)?)
        } else {
            (Failure::NotWritten(address, span), UnmountResult::Stays)
        };

        // Once the share is gone, a mount that is seen there now must not be taken away.
        if gone == UnmountResult::Gone
            || self.unmount(share, mounted, UnmountMode::Detach)? == UnmountResult::Gone
        {
            return Ok(failure);
        }
        Err(Failure::Stays)
    }

    fn unmount(
        &self,
        share: &Share,
        mounted: &Mounted,
        how: UnmountMode,
    ) -> Result<UnmountResult, Stopped> {
        let until = self.deadline.within(self.clock, CALL_TIMEOUT);
        // Detaching takes no time, and must not be left out for lack of it.
        let least = Deadline::after(self.clock, DETACH_TIMEOUT);
        let until = if how == UnmountMode::Detach { until.max(least) } else { until };
        self.machine.unmount(share, mounted, how, until)
    }
}

/// The result for a share that is gone, if the server may have refused some of its data.
fn unmounted(refused: Option<Errno>) -> Result<UnmountDone, Failure> {
    refused.map_or(Ok(UnmountDone::Unmounted), |errno| Err(Failure::Refused(errno)))
}

/// Whether a mount goes through a tunnel. The config may want it plain by now, so the mount counts
/// too.
fn is_tunnelled(share: &Share, mounted: &Mounted) -> bool {
    let is_local = mounted.address.parse().is_ok_and(|at: IpAddr| at.is_loopback());
    share.encryption.is_some() || is_local && mounted.port != share.options.port
}
