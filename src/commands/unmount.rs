//! `unmount`: what was written goes to the server, then the shares go. Read [`Run::one`] for the way
//! of one share.

use super::Refusal;
use crate::cli::UnmountArgs;
use crate::config::{Settings, Share};
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::causes::explain;
use crate::share::holders::Holder;
use crate::share::linux::Linux;
use crate::share::release::{Flush, Gone, How, Release};
use crate::share::{Failure, Mounted, mount_point};
use crate::status;
use crate::stop::{Stop, SystemClock};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is left of the time when writing ends at the latest, for taking the mount away.
const TO_LEAVE: Duration = Duration::from_secs(3);
/// How long processes get that were asked to end, before the mount is detached under them.
const TO_END: Duration = Duration::from_secs(3);
/// How often it is tried again meanwhile.
const AGAIN: Duration = Duration::from_millis(100);
/// How long one umount2(2), or a NULL call, may take.
const ONE_CALL: Duration = Duration::from_secs(1);
/// So many processes are named.
const NAMED: usize = 5;
/// So many mounts on one mount point are taken away.
const MOST_STACKED: usize = 8;

/// Takes the shares of the config down, and returns the exit code.
pub fn run(args: &UnmountArgs, started: Instant) -> Code {
    let log = super::log(!std::io::stdout().is_terminal());
    start(args, started, &log).unwrap_or_else(|(code, text)| {
        log.error(format_args!("{text} (exit {})", code.0));
        code
    })
}

fn start(args: &UnmountArgs, started: Instant, log: &Log) -> Result<Code, Refusal> {
    let root = Path::new("/");
    if !nix::unistd::geteuid().is_root() {
        return Err((Code::PERMISSION, "only root can unmount: use sudo".into()));
    }
    let stop = Stop::install().map_err(|e| (Code::FAULT, format!("cannot set signals: {e}")))?;
    let clock = SystemClock::new(started, &stop);
    let (_, settings) = super::settings(root, args.config.as_deref())?;
    super::apply(&settings.log, false, log);
    let left = settings.unmount_deadline.saturating_sub(started.elapsed());
    let machine = Linux { root, clock: &clock, stop: &stop, user: None };
    let run = Run {
        machine: &machine,
        clock: &clock,
        log,
        deadline: Deadline::after(&clock, left),
        terminate: args.terminate,
        kernel: super::kernel(),
    };
    let code = run.all(&settings);
    let before = status::read(root);
    for share in &settings.shares {
        let away = matches!(machine.found(share, run.deadline), Ok(None));
        if away && before.as_deref().is_some_and(|status| status::made(status, share)) {
            // Not empty: files were in it before the share was, and stay.
            let _ = mount_point::remove(root, &share.mount_point);
        }
    }
    Ok(match stop.signal() {
        Some(signal) if code != Code::OK => Code::signal(signal as i32),
        _ => code,
    })
}

/// What all shares of a run have in common.
struct Run<'a, R> {
    machine: &'a R,
    clock: &'a dyn Clock,
    log: &'a Log,
    deadline: Deadline,
    /// Whether processes that hold a share are asked to end.
    terminate: bool,
    kernel: String,
}

impl<R: Release> Run<'_, R> {
    /// All shares, the last of the config first; the worst of their codes.
    fn all(&self, settings: &Settings) -> Code {
        let mut worst = Code::OK;
        for share in settings.shares.iter().rev() {
            if let Err(failure) = self.one(share) {
                let cause = explain(&failure, share, &self.kernel);
                let code = Code::of(cause.class);
                let (sentence, cure) = (cause.sentence, cause.cure);
                self.log.error(format_args!(
                    "unmounting {share}: {sentence}; to mend it: {cure} (exit {})",
                    code.0
                ));
                worst = worst.worse(code);
            }
        }
        worst
    }

    /// One share: written out, taken away, and if that cannot be, detached.
    fn one(&self, share: &Share) -> Result<(), Failure> {
        let started = self.clock.now();
        let mut refused = None;
        for turn in 0..MOST_STACKED {
            let Some(mounted) = self.machine.mounted(share, self.deadline)? else {
                if turn == 0 {
                    self.log.info(format_args!("not mounted: {share}; nothing was done"));
                }
                return refused.map_or(Ok(()), |errno| Err(Failure::Refused(errno)));
            };
            let left = self.deadline.left(self.clock);
            let until = self.deadline.within(self.clock, left.saturating_sub(TO_LEAVE));
            match self.machine.flush(share, &mounted, until)? {
                Flush::Done => {}
                Flush::Refused(errno) => refused = Some(errno),
                Flush::Late => return Err(self.tear_away(share, &mounted)?),
            }
            self.take_away(share, &mounted, started, refused.is_none())?;
        }
        Err(Failure::Stays)
    }

    /// A mount whose server has all that was written.
    fn take_away(
        &self,
        share: &Share,
        mounted: &Mounted,
        started: Duration,
        whole: bool,
    ) -> Result<(), Failure> {
        let written = if whole { "; all that was written is on the server" } else { "" };
        let done = || {
            let took = self.clock.now().saturating_sub(started).as_secs_f64();
            self.log.info(format_args!("unmounted {share}{written}; in {took:.3} s"));
            Ok(())
        };
        if self.unmount(share, mounted, How::Plain)? == Gone::Yes {
            return done();
        }
        let holders = self.machine.holders(share);
        if self.terminate && !holders.is_empty() {
            self.log.info(format_args!("{share} is busy: asked to end: {}", list(&holders)));
            holders.iter().for_each(|holder| self.machine.terminate(holder));
            let patience = self.deadline.within(self.clock, TO_END);
            while !patience.passed(self.clock) {
                self.clock.wait(AGAIN)?;
                if self.unmount(share, mounted, How::Plain)? == Gone::Yes {
                    return done();
                }
            }
        }
        // They may have gone on writing.
        let again =
            self.machine.flush(share, mounted, self.deadline.within(self.clock, ONE_CALL))?;
        if self.unmount(share, mounted, How::Detach)? != Gone::Yes {
            return Err(Failure::Stays);
        }
        let written = if again == Flush::Done { written } else { "" };
        let by = match holders.as_slice() {
            [] => "by the kernel or in another name space".to_owned(),
            holders => format!("by {}", list(holders)),
        };
        self.log.warning(format_args!(
            "unmounted {share} although it is in use {by}: detached, so that they alone still see it{written}"
        ));
        Ok(())
    }

    /// A mount whose server did not take all that was written in time: what that means.
    fn tear_away(&self, share: &Share, mounted: &Mounted) -> Result<Failure, Failure> {
        let address = mounted.address.clone();
        let until = self.deadline.within(self.clock, ONE_CALL);
        let failure = if self.machine.answers(share, mounted, until) {
            let had = self.clock.now();
            Failure::NotWritten(address, had)
        } else {
            // Ends what waits for the server, so that nothing of it stays in the kernel.
            self.unmount(share, mounted, How::Force)?;
            Failure::Lost(address)
        };
        match self.unmount(share, mounted, How::Detach)? {
            Gone::Yes => Ok(failure),
            _ => Err(Failure::Stays),
        }
    }

    fn unmount(&self, share: &Share, mounted: &Mounted, how: How) -> Result<Gone, Stopped> {
        let until = self.deadline.within(self.clock, ONE_CALL);
        self.machine.unmount(share, mounted, how, until)
    }
}

/// The first few of them, and how many more there are.
fn list(holders: &[Holder]) -> String {
    let named: Vec<String> = holders.iter().take(NAMED).map(Holder::to_string).collect();
    match holders.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::test::Lines;
    use crate::retry::test::VirtualClock;
    use nix::errno::Errno;
    use std::cell::Cell;
    use std::cell::RefCell;

    /// A machine with so many mounts of the share on top of each other.
    struct FakeMachine {
        clock: VirtualClock,
        stacked: Cell<usize>,
        taken: bool,
        flush: Flush,
        answers: bool,
        /// When nobody uses it any more.
        free_from: Duration,
        asked_to_end: RefCell<Vec<i32>>,
        hows: RefCell<Vec<How>>,
    }

    fn machine() -> FakeMachine {
        FakeMachine {
            clock: VirtualClock::default(),
            stacked: Cell::new(1),
            taken: false,
            flush: Flush::Done,
            answers: true,
            free_from: Duration::ZERO,
            asked_to_end: RefCell::default(),
            hows: RefCell::default(),
        }
    }

    impl Release for FakeMachine {
        fn mounted(&self, _: &Share, _: Deadline) -> Result<Option<Mounted>, Failure> {
            if self.taken {
                return Err(Failure::Taken { source: "mine".into(), fstype: "tmpfs".into() });
            }
            Ok((self.stacked.get() > 0).then(|| Mounted::fake(true)))
        }

        fn flush(&self, _: &Share, _: &Mounted, until: Deadline) -> Result<Flush, Stopped> {
            if self.flush == Flush::Late {
                self.clock.wait(until.left(&self.clock))?;
            }
            Ok(self.flush)
        }

        fn answers(&self, _: &Share, _: &Mounted, until: Deadline) -> bool {
            let _ = if self.answers { Ok(()) } else { self.clock.wait(until.left(&self.clock)) };
            self.answers
        }

        fn unmount(&self, _: &Share, _: &Mounted, how: How, _: Deadline) -> Result<Gone, Stopped> {
            self.hows.borrow_mut().push(how);
            let free = self.clock.now() >= self.free_from;
            Ok(match how {
                How::Plain if !free => Gone::Busy,
                How::Force => Gone::No,
                _ => {
                    self.stacked.set(self.stacked.get() - 1);
                    Gone::Yes
                }
            })
        }

        fn holders(&self, _: &Share) -> Vec<Holder> {
            (101..108).map(|pid| Holder { pid, name: "vi".into() }).collect()
        }

        fn terminate(&self, holder: &Holder) {
            self.asked_to_end.borrow_mut().push(holder.pid);
        }
    }

    fn unmount(machine: &FakeMachine, terminate: bool) -> (Code, String) {
        let (log, lines) = Lines::log();
        let text = "[[share]]\nendpoint = \"fs-1.example\"\n";
        let settings = Settings::parse(Path::new("c"), text).unwrap();
        let clock = &machine.clock;
        let deadline = Deadline::after(clock, settings.unmount_deadline);
        let run = Run { machine, clock, log: &log, deadline, terminate, kernel: "5.10".into() };
        let code = run.all(&settings);
        assert!(clock.now() <= settings.unmount_deadline, "{:?}", clock.now());
        (code, lines.text())
    }

    #[test]
    fn a_share_is_written_out_and_taken_away_and_so_is_one_below_it() {
        let fake = FakeMachine { stacked: Cell::new(2), ..machine() };
        let line = "unmounted fs-1.example:/ on /mnt/efs_share; all that was written is on the server; in 0.000 s\n";
        assert_eq!(unmount(&fake, false), (Code::OK, line.repeat(2)));
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::OK);
        assert_eq!(text, "not mounted: fs-1.example:/ on /mnt/efs_share; nothing was done\n");
    }

    #[test]
    fn something_else_is_left_alone() {
        let fake = FakeMachine { taken: true, ..machine() };
        let (code, text) = unmount(&fake, true);
        assert_eq!(code, Code::REFUSED);
        assert!(text.contains("/mnt/efs_share is taken: mine (tmpfs) is mounted there"), "{text}");
        assert!(fake.hows.borrow().is_empty());
    }

    #[test]
    fn a_busy_share_is_detached_under_five_named_holders_who_are_asked_only_if_told() {
        let never = Duration::MAX / 2;
        let fake = FakeMachine { free_from: never, ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::OK);
        assert_eq!(
            text,
            "warning: unmounted fs-1.example:/ on /mnt/efs_share although it is in use by 101 (vi), 102 (vi), \
             103 (vi), 104 (vi), 105 (vi) and 2 more: detached, so that they alone still see it; all that was \
             written is on the server\n"
        );
        assert_eq!(*fake.hows.borrow(), [How::Plain, How::Detach]);
        assert!(fake.asked_to_end.borrow().is_empty());

        let fake = FakeMachine { free_from: Duration::from_secs(2), ..machine() };
        let (code, text) = unmount(&fake, true);
        assert_eq!((code, fake.asked_to_end.borrow().len()), (Code::OK, 7));
        assert!(text.ends_with("all that was written is on the server; in 2.000 s\n"), "{text}");
        assert!(!fake.hows.borrow().contains(&How::Detach));
    }

    #[test]
    fn a_server_that_does_not_take_it_all_is_told_slow_from_dead() {
        let fake = FakeMachine { flush: Flush::Late, ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::DEADLINE);
        assert!(
            text.contains("answers, but did not take all that was written within 17.0 s"),
            "{text}"
        );
        assert_eq!(*fake.hows.borrow(), [How::Detach]);

        let fake = FakeMachine { flush: Flush::Late, answers: false, ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::DEADLINE);
        assert!(text.contains("does not answer: taken away by force"), "{text}");
        assert_eq!(*fake.hows.borrow(), [How::Force, How::Detach]);
    }

    #[test]
    fn data_that_the_server_refused_is_told_and_the_share_goes_all_the_same() {
        let fake = FakeMachine { flush: Flush::Refused(Errno::EDQUOT), ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!((code, fake.stacked.get()), (Code::REFUSED, 0));
        assert!(text.contains("the server refused some of what was written: "), "{text}");
        assert!(
            text.contains("(EDQUOT); to mend it: look for a full file system or quota"),
            "{text}"
        );
        assert!(!text.contains("all that was written is on the server"), "{text}");
    }
}
