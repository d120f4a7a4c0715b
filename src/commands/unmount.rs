//! `unmount`: what was written goes to the server, then the shares go. Read [`Run::one`] for the way
//! of one share.

use super::Refusal;
use super::frame::{self, Frame};
use super::left::{self, Known};
use crate::cli::UnmountArgs;
use crate::config::Share;
use crate::kernel::holders::list;
use crate::kernel::mount_table;
use crate::kernel::namespace::{Namespace, namespace};
use crate::log::Log;
use crate::report::Code;
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::share::causes::{explain, is_there};
use crate::share::linux::Linux;
use crate::share::release::{Flush, Gone, How, Release};
use crate::share::{Failure, Mounted, mount_point};
use crate::status;
use crate::status::unfinished::MadePoint;
use crate::sys;
use crate::tunnel::contract::{Tunnels, TunnelsError, end_unused};
use crate::tunnel::protocol::TunnelError;
use crate::tunnel::units::Units;
use nix::errno::Errno;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is left of the time when writing ends at the latest, for taking the mount away.
const TO_LEAVE: Duration = Duration::from_secs(3);
/// How long processes get that were asked to end, before the mount is detached under them.
const TO_END: Duration = Duration::from_secs(3);
/// How often it is tried again meanwhile.
const AGAIN: Duration = Duration::from_millis(100);
/// How long detaching may take, whatever the time.
const TO_DETACH: Duration = Duration::from_millis(300);
/// How long one umount2(2), or a NULL call, may take.
const ONE_CALL: Duration = Duration::from_secs(1);
/// How long the kernel gets to close its connection to a tunnel, once the share is gone.
const TO_END_TUNNEL: Duration = Duration::from_secs(2);
/// So many mounts on one mount point are taken away.
const MOST_STACKED: usize = 8;

/// Takes the shares of the config down, and returns the exit code.
pub fn run(args: &UnmountArgs, started: Instant) -> Code {
    let log = super::log(!std::io::stdout().is_terminal());
    let without_root = Some("only root can unmount: use sudo");
    frame::concluded(Frame::run(started, without_root, |frame| start(args, frame, &log)), &log)
}

fn start(args: &UnmountArgs, frame: &Frame<'_>, log: &Log) -> Result<Code, Refusal> {
    let (root, clock) = (frame.root, &frame.clock);
    let machine = frame.machine();
    let before = status::read(root);
    let Known { config, settings, left: others, refused } =
        left::known(&machine, args.config.as_deref())?;
    super::apply(&settings.log, false, log);
    if let Some((_, why)) = refused {
        log.warning(format_args!(
            "{why}; what efs-agent has mounted since this machine was booted is unmounted all the same"
        ));
    }
    let apart = namespace(&root.join("proc")) == Namespace::Private;
    if apart {
        log.warning(
            "this process has a mount namespace of its own: what is mounted for others stays, and so do its tunnel and \
             its mount point",
        );
    }
    let left = settings.unmount_deadline.saturating_sub(frame.started.elapsed());
    let tunnels = Units::new(root, clock, frame.stop, &config);
    let orphans = before.orphans(root);
    let run = Run {
        machine: &machine,
        tunnels: &tunnels,
        clock,
        log,
        deadline: Deadline::after(clock, left),
        span: settings.unmount_deadline,
        terminate: args.terminate,
        apart,
        kernel: sys::kernel_release(),
        orphans: orphans.iter().map(|one| one.path.as_path()).collect(),
    };
    let mut code = Code::OK;
    // They may be on top of the others.
    for share in &others {
        log.info(format_args!("{share} is not in the config, and was mounted by efs-agent"));
        code = code.worse(run.all(std::slice::from_ref(share)));
    }
    code = code.worse(run.all(&settings.shares));
    for share in tunnels.without_share(&settings.shares) {
        if run.end_tunnel(&share) {
            let point = share.mount_point.display();
            log.info(format_args!(
                "{point}: its tunnel, which no share of the config has, was ended"
            ));
        }
    }
    let living = status::read(root).living(root);
    for share in settings.shares.iter().chain(&others).filter(|_| !apart) {
        let away = matches!(machine.found(share, run.deadline), Ok(None));
        if !away {
            continue;
        }
        if before.made(share) && !orphans.iter().any(|one| one.path == share.mount_point) {
            if living.is_some() {
                // It may be about to mount the share there.
                continue;
            }
            // Not empty: files were in it before the share was, and stay.
            if mount_point::remove(root, &share.mount_point).is_err() {
                told_if_not_empty(root, &share.mount_point, log);
            }
        }
        status::forget(root, share, &before);
    }
    if !apart {
        clear(&machine, &orphans, living, log);
    }
    Ok(match frame.stopped() {
        Some((signalled, _)) if code != Code::OK => signalled,
        _ => code,
    })
}

/// Removes the mount points that a run has made which was killed, if nothing is mounted on them; not empty ones stay.
/// None goes while a run goes on (`living`): it may be about to mount its share there.
fn clear<C: Clock + Sync>(
    machine: &Linux<'_, C>,
    orphans: &[MadePoint],
    living: Option<u32>,
    log: &Log,
) {
    if orphans.is_empty() {
        return;
    }
    if let Some(pid) = living {
        for point in orphans {
            log.info(format_args!(
                "{}: left: a run that was killed had made it, and another runs (process {pid})",
                point.path.display()
            ));
        }
        return;
    }
    let bytes = machine.table().unwrap_or_default();
    let table = mount_table::parse(&bytes);
    // On the way to it may be a mount whose server is dead.
    let is_free = |one: &&MadePoint| {
        let point = &one.path;
        mount_table::top_at(&table, point).is_none()
            && mount_table::remote_above(&table, point).is_none()
    };
    let mut cleared = Vec::new();
    for point in orphans.iter().filter(is_free).filter(|_| !table.is_empty()) {
        // One that was changed since, or is not empty, has become somebody's.
        if point.is_there(machine.root) && mount_point::remove(machine.root, &point.path).is_ok() {
            log.info(format_args!(
                "{}: removed: a run that was killed had made it",
                point.path.display()
            ));
        } else {
            told_if_not_empty(machine.root, &point.path, log);
        }
        cleared.push(point.clone());
    }
    status::cleared(machine.root, &cleared);
}

/// Says that a mount point with something in it was left.
fn told_if_not_empty(root: &Path, point: &Path, log: &Log) {
    if mount_point::entries(root, point).is_some_and(|count| count > 0) {
        log.warning(format_args!(
            "{} was left: there are files in it, which are on this machine only",
            point.display()
        ));
    }
}

/// How a share was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    Mounted,
    Absent,
}

/// What all shares of a run have in common.
struct Run<'a, R> {
    machine: &'a R,
    tunnels: &'a dyn Tunnels,
    clock: &'a dyn Clock,
    log: &'a Log,
    deadline: Deadline,
    /// The whole time that there was.
    span: Duration,
    /// Whether processes that hold a share are asked to end.
    terminate: bool,
    /// Whether this process sees other mounts than everybody else.
    apart: bool,
    kernel: String,
    /// The mount points that runs have made which were killed.
    orphans: Vec<&'a Path>,
}

impl<R: Release> Run<'_, R> {
    /// All shares, the last of the config first; the worst of their codes.
    fn all(&self, shares: &[Share]) -> Code {
        let mut worst = Code::OK;
        for (n, share) in shares.iter().enumerate().rev() {
            let result = self.one(share, n as u32);
            let ended = share.encryption.is_some() && result.is_ok() && self.end_tunnel(share);
            if result == Ok(Was::Absent) {
                let done = match ended {
                    true => "; its tunnel was ended",
                    // What becomes of that is told below.
                    false if self.orphans.contains(&share.mount_point.as_path()) => "",
                    false => "; nothing was done",
                };
                self.log.info(format_args!("not mounted: {share}{done}"));
            }
            if let Err(failure) = result {
                if let Failure::Taken { source, fstype } = &failure {
                    self.log.error(format_args!(
                        "unmounting {share}: {}, which is not the share: left alone (exit {})",
                        is_there(source, fstype),
                        Code::REFUSED.0
                    ));
                    worst = worst.worse(Code::REFUSED);
                    continue;
                }
                if let Failure::Stopped(_) = failure {
                    self.log.error(format_args!(
                        "unmounting {share}: stopped by a signal; it may still be mounted"
                    ));
                    return worst.worse(Code::DEADLINE);
                }
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

    /// One share: written out, taken away, and if that cannot be, detached. `after` shares wait for
    /// their turn, and each gets its part of the time.
    fn one(&self, share: &Share, after: u32) -> Result<Was, Failure> {
        let started = self.clock.now();
        let mut refused = None;
        for turn in 0..=MOST_STACKED {
            let gone = |was| refused.map_or(Ok(was), |errno| Err(Failure::Refused(errno)));
            let mounted = match self.machine.mounted(share, self.deadline) {
                Ok(Some(mounted)) => mounted,
                Ok(None) => return gone(if turn == 0 { Was::Absent } else { Was::Mounted }),
                // What was below the share was there before it, and is not ours.
                Err(Failure::Taken { source, fstype }) if turn > 0 => {
                    let (at, what) = (share.mount_point.display(), is_there(&source, &fstype));
                    self.log.info(format_args!("{at}: {what}, below the share: left as it is"));
                    return gone(Was::Mounted);
                }
                Err(failure) => return Err(failure),
            };
            if turn == MOST_STACKED {
                break;
            }
            // The config may want it plain by now.
            let local = mounted.address.parse().is_ok_and(|at: IpAddr| at.is_loopback());
            let tunnelled =
                share.encryption.is_some() || local && mounted.port != share.options.port;
            if turn == 0 && tunnelled && !self.has_tunnel(share, &mounted)? {
                // Whoever is at its port now may be anybody: nothing is to be written through it.
                let gone = self.unmount(share, &mounted, How::Force)?;
                if gone != Gone::Yes {
                    self.unmount(share, &mounted, How::Detach)?;
                }
                return Err(Failure::PortLost(mounted.port));
            }
            let left =
                self.deadline.left(self.clock).saturating_sub(TO_LEAVE.min(self.span.part(3)));
            let began = self.clock.now();
            let until = self.deadline.within(self.clock, left.part(after as usize + 1));
            let flushed = self.machine.flush(share, &mounted, until)?;
            match flushed {
                Flush::Done | Flush::Unknown => {}
                Flush::Refused(errno) => refused = Some(errno),
                Flush::Late => {
                    let had = self.clock.now().saturating_sub(began);
                    return Err(self.tear_away(share, &mounted, had)?);
                }
            }
            self.take_away(share, &mounted, started, flushed == Flush::Done && refused.is_none())?;
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
        let written = |so_far: &Result<(), Failure>| match (whole, so_far) {
            (true, Ok(())) => "; all that was written is on the server",
            _ => "",
        };
        let done = |so_far: Result<(), Failure>| {
            let took = self.clock.now().saturating_sub(started).as_secs_f64();
            let written = written(&so_far);
            self.log.info(format_args!("unmounted {share}{written}; in {took:.3} s"));
            so_far
        };
        if self.unmount(share, mounted, How::Plain)? == Gone::Yes {
            return done(Ok(()));
        }
        // What users wrote since; a refusal is told once by the kernel, and kept here.
        let mut so_far = Ok(());
        let holders = self.machine.holders(share);
        let mut asked = if self.terminate { holders.clone() } else { Vec::new() };
        asked.retain(|holder| self.machine.terminate(holder));
        if !asked.is_empty() {
            self.log.info(format_args!("{share} is busy: asked to end: {}", list(&asked)));
            let patience = self.deadline.left(self.clock).saturating_sub(TO_DETACH.doubled());
            let patience = self.deadline.within(self.clock, patience.min(TO_END));
            while !patience.passed(self.clock) {
                self.clock.wait(AGAIN)?;
                so_far = so_far.and(self.flush_again(share, mounted)?);
                if self.unmount(share, mounted, How::Plain)? == Gone::Yes {
                    return done(so_far);
                }
            }
        }
        so_far = so_far.and(self.flush_again(share, mounted)?);
        if self.unmount(share, mounted, How::Detach)? != Gone::Yes {
            return Err(Failure::Stays);
        }
        let by = match holders.as_slice() {
            [] => "by somebody who could not be named".to_owned(),
            holders => format!("by {}", list(holders)),
        };
        let written = written(&so_far);
        self.log.warning(format_args!(
            "unmounted {share} although it is in use {by}: detached, so that they alone still see it{written}"
        ));
        so_far
    }

    /// Sends what was written since the last time; the outer error is a signal.
    fn flush_again(
        &self,
        share: &Share,
        mounted: &Mounted,
    ) -> Result<Result<(), Failure>, Stopped> {
        let left = self.deadline.left(self.clock).saturating_sub(TO_DETACH);
        let (began, span) = (self.clock.now(), left.min(ONE_CALL));
        match self.machine.flush(share, mounted, self.deadline.within(self.clock, span))? {
            Flush::Done | Flush::Unknown => Ok(Ok(())),
            Flush::Refused(errno) => Ok(Err(Failure::Refused(errno))),
            Flush::Late => {
                let had = self.clock.now().saturating_sub(began);
                Ok(Err(Failure::NotWritten(mounted.address.clone(), had)))
            }
        }
    }

    /// A mount whose server did not take all that was written in the time it `had`: what that means.
    fn tear_away(
        &self,
        share: &Share,
        mounted: &Mounted,
        had: Duration,
    ) -> Result<Failure, Failure> {
        let address = mounted.address.clone();
        let span = self.deadline.left(self.clock).saturating_sub(TO_DETACH).min(ONE_CALL);
        // What had no time to answer is not called dead: force would throw away what can be saved.
        let dead = span >= ONE_CALL.part(2)
            && !self.machine.answers(mounted, self.deadline.within(self.clock, span));
        let (failure, gone) = if dead {
            // Ends what waits for the server, so that nothing of it stays in the kernel.
            (Failure::Lost(address), self.unmount(share, mounted, How::Force)?)
        } else {
            (Failure::NotWritten(address, had), Gone::No)
        };
        // Once it is gone, what is seen there now is not ours to take away.
        if gone == Gone::Yes || self.unmount(share, mounted, How::Detach)? == Gone::Yes {
            return Ok(failure);
        }
        Err(Failure::Stays)
    }

    /// Whether what was written can be sent through the tunnel; one that has gone is started again for that.
    fn has_tunnel(&self, share: &Share, mounted: &Mounted) -> Result<bool, Failure> {
        let soon = || self.deadline.within(self.clock, ONE_CALL);
        // Nobody but root can be at a port that is guarded.
        let is_there = |port| port == mounted.port || self.tunnels.is_guarded(mounted.port);
        match self.tunnels.status(share, soon()) {
            // One that is there, but busy, carries what is written too.
            Err(TunnelError::NoTunnel(errno)) if errno != Errno::ETIMEDOUT => {}
            Err(TunnelError::Stopped(stopped)) => return Err(stopped.into()),
            _ => return Ok(self.tunnels.port(share).is_none_or(is_there)),
        }
        match self.tunnels.start(share, Some(mounted.port), soon()) {
            Err(TunnelsError::Stopped(stopped)) => Err(stopped.into()),
            // It is taken down all the same; that it does not answer will be told.
            Err(failure) => {
                let why = explain(&failure.into(), share, &self.kernel).sentence;
                self.log.warning(format_args!("{share}: {why}"));
                Ok(self.tunnels.is_guarded(mounted.port))
            }
            Ok(port) if is_there(port) => {
                self.log.warning(format_args!(
                    "{share}: its tunnel was not running, and was started for what is still to be written"
                ));
                Ok(true)
            }
            Ok(_) => Ok(false),
        }
    }

    /// Ends the tunnel of a share that is gone, unless the kernel still uses it: for somebody who has a
    /// file of a detached share open, for another share, or for a session start that has just begun.
    /// Whether one has ended.
    fn end_tunnel(&self, share: &Share) -> bool {
        if self.apart {
            return false;
        }
        let point = share.mount_point.display();
        let was_there = self.tunnels.port(share).is_some();
        let patience = Deadline::after(self.clock, TO_END_TUNNEL);
        match end_unused(self.tunnels, share, patience, ONE_CALL, self.clock) {
            Ok(true) => was_there,
            Ok(false) => {
                let text = format!(
                    "{point}: its tunnel goes on: the kernel still uses it, or a session start has just begun with it"
                );
                self.log.info(text);
                false
            }
            Err(TunnelsError::Stopped(_)) => false,
            Err(failure) => {
                let why = explain(&failure.into(), share, &self.kernel).sentence;
                self.log.warning(format_args!("{point}: its tunnel could not be ended: {why}"));
                false
            }
        }
    }

    fn unmount(&self, share: &Share, mounted: &Mounted, how: How) -> Result<Gone, Stopped> {
        let until = self.deadline.within(self.clock, ONE_CALL);
        // Detaching takes no time, and is what must not be left out for lack of it.
        let least = Deadline::after(self.clock, TO_DETACH);
        let until = if how == How::Detach { until.max(least) } else { until };
        self.machine.unmount(share, mounted, how, until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::kernel::holders::Holder;
    use crate::log::test::Lines;
    use crate::retry::test::VirtualClock;
    use crate::stop::Stop;
    use crate::tunnel::protocol::{Peer, TunnelStatus};
    use std::cell::Cell;
    use std::cell::RefCell;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    /// A tunnel that runs, or not, until it is started or ended.
    struct FakeTunnels {
        runs: AtomicBool,
        /// It has no time to answer.
        busy: bool,
        connections: u64,
        seen: Mutex<Vec<String>>,
    }

    impl FakeTunnels {
        fn new(runs: bool, connections: u64) -> Self {
            Self { runs: AtomicBool::new(runs), busy: false, connections, seen: Mutex::default() }
        }

        fn see(&self, what: String) {
            self.seen.lock().unwrap().push(what);
        }
    }

    impl Tunnels for FakeTunnels {
        fn start(&self, _: &Share, at: Option<u16>, _: Deadline) -> Result<u16, TunnelsError> {
            self.see(format!("start {at:?}"));
            self.runs.store(true, Ordering::Relaxed);
            Ok(at.unwrap_or(40001))
        }

        fn port(&self, _: &Share) -> Option<u16> {
            self.runs.load(Ordering::Relaxed).then_some(40001)
        }

        fn is_current(&self, _: &Share) -> bool {
            true
        }

        fn handshake(&self, _: &Share, _: Deadline) -> Result<Peer, TunnelError> {
            Err(TunnelError::MakingKey)
        }

        fn status(&self, _: &Share, _: Deadline) -> Result<TunnelStatus, TunnelError> {
            match self.runs.load(Ordering::Relaxed) {
                true if self.busy => Err(TunnelError::NoTunnel(Errno::ETIMEDOUT)),
                true => {
                    Ok(TunnelStatus { connections: self.connections, ..TunnelStatus::default() })
                }
                false => Err(TunnelError::NoTunnel(Errno::ENOENT)),
            }
        }

        fn claim(&self, _: &Share) -> bool {
            true
        }

        fn release(&self, _: &Share) {}

        fn stop(&self, _: &Share, _: Deadline) -> Result<(), TunnelsError> {
            self.see("stop".into());
            self.runs.store(false, Ordering::Relaxed);
            Ok(())
        }
    }

    /// A machine with so many mounts of the share on top of each other.
    struct FakeMachine {
        clock: VirtualClock,
        stacked: Cell<usize>,
        taken: bool,
        /// Somebody else's mount is below all of them.
        below: bool,
        flush: Flush,
        /// What comes of the second time and later.
        flush_again: Flush,
        flushed: Cell<u32>,
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
            below: false,
            flush: Flush::Done,
            flush_again: Flush::Done,
            flushed: Cell::new(0),
            answers: true,
            free_from: Duration::ZERO,
            asked_to_end: RefCell::default(),
            hows: RefCell::default(),
        }
    }

    impl Release for FakeMachine {
        fn mounted(&self, _: &Share, _: Deadline) -> Result<Option<Mounted>, Failure> {
            if self.taken || self.below && self.stacked.get() == 0 {
                return Err(Failure::Taken { source: "mine".into(), fstype: "tmpfs".into() });
            }
            Ok((self.stacked.get() > 0).then(|| Mounted::fake(true)))
        }

        fn flush(&self, _: &Share, _: &Mounted, until: Deadline) -> Result<Flush, Stopped> {
            let first = self.flushed.replace(self.flushed.get() + 1) == 0;
            let flush = if first { self.flush } else { self.flush_again };
            if flush == Flush::Late {
                self.clock.wait(until.left(&self.clock))?;
            }
            Ok(flush)
        }

        fn answers(&self, _: &Mounted, until: Deadline) -> bool {
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
            (101..108).map(|pid| Holder { pid, name: "vi".into(), since: None }).collect()
        }

        fn terminate(&self, holder: &Holder) -> bool {
            // 107 is a system process.
            let may = holder.pid != 107;
            if may {
                self.asked_to_end.borrow_mut().push(holder.pid);
            }
            may
        }
    }

    fn unmount(machine: &FakeMachine, terminate: bool) -> (Code, String) {
        let tunnels = FakeTunnels::new(true, 0);
        let text = "[[share]]\nendpoint = \"fs-1.example\"\n";
        let result = unmount_with(machine, &tunnels, text, terminate);
        assert!(tunnels.seen.lock().unwrap().is_empty(), "no encryption, no tunnel");
        result
    }

    fn unmount_with(
        machine: &FakeMachine,
        tunnels: &FakeTunnels,
        text: &str,
        terminate: bool,
    ) -> (Code, String) {
        let (log, lines) = Lines::log();
        let settings = Settings::parse(Path::new("c"), text).unwrap();
        let clock = &machine.clock;
        let deadline = Deadline::after(clock, settings.unmount_deadline);
        let span = settings.unmount_deadline;
        let kernel = "5.10".into();
        let run = Run {
            machine,
            tunnels,
            clock,
            log: &log,
            deadline,
            span,
            terminate,
            apart: false,
            kernel,
            orphans: vec![Path::new("/mnt/orphan")],
        };
        let code = run.all(&settings.shares);
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
    fn of_a_mount_point_that_a_killed_run_left_it_is_not_said_that_nothing_was_done() {
        let absent = FakeMachine { stacked: Cell::new(0), ..machine() };
        let tunnels = FakeTunnels::new(false, 0);
        let text = "[[share]]\nendpoint = \"fs-1.example\"\nmount_point = \"/mnt/orphan\"\n";
        let (code, text) = unmount_with(&absent, &tunnels, text, false);
        assert_eq!(
            (code, text.as_str()),
            (Code::OK, "not mounted: fs-1.example:/ on /mnt/orphan\n")
        );
    }

    #[test]
    fn what_a_killed_run_left_goes_unless_files_are_in_it_or_a_run_goes_on() {
        let dir = tempfile::tempdir_in("/run").unwrap();
        let root = dir.path();
        for folder in ["mnt/empty", "mnt/full", "proc/self"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("proc/self/mountinfo"), "1 1 0:1 / / rw - ext4 /dev/a rw\n")
            .unwrap();
        let at = |path: &str| MadePoint::at(root, path.into()).unwrap();
        let orphans = [at("/mnt/empty"), at("/mnt/full")];
        std::fs::write(root.join("mnt/full/file"), "").unwrap();
        let (clock, stop) = (VirtualClock::default(), Stop::install().unwrap());
        let machine = Linux::new(root, &clock, &stop);
        let (log, lines) = Lines::log();
        clear(&machine, &orphans, Some(7), &log);
        assert!(root.join("mnt/empty").is_dir());
        clear(&machine, &orphans, None, &log);
        let expected = "/mnt/empty: left: a run that was killed had made it, and another runs (process 7)\n\
                        /mnt/full: left: a run that was killed had made it, and another runs (process 7)\n\
                        /mnt/empty: removed: a run that was killed had made it\n\
                        warning: /mnt/full was left: there are files in it, which are on this machine only\n";
        assert_eq!(lines.text(), expected);
        assert!(!root.join("mnt/empty").exists() && root.join("mnt/full/file").exists());
    }

    #[test]
    fn something_else_is_left_alone() {
        let fake = FakeMachine { taken: true, ..machine() };
        let (code, text) = unmount(&fake, true);
        assert_eq!(code, Code::REFUSED);
        assert!(
            text.contains(
                "mine (tmpfs) is mounted there, which is not the share: left alone (exit 69)"
            ),
            "{text}"
        );
        assert!(fake.hows.borrow().is_empty());
    }

    #[test]
    fn what_lies_below_a_share_that_was_taken_away_is_no_error() {
        let fake = FakeMachine { below: true, ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::OK, "{text}");
        assert!(
            text.ends_with("in 0.000 s\n/mnt/efs_share: mine (tmpfs) is mounted there, below the share: left as it is\n"),
            "{text}"
        );
        // By itself it is in the way, as ever.
        assert_eq!(unmount(&fake, false).0, Code::REFUSED);
        let fake = FakeMachine { below: true, flush: Flush::Refused(Errno::EDQUOT), ..machine() };
        assert_eq!(unmount(&fake, false).0, Code::REFUSED, "what was refused is told all the same");
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
        assert_eq!((code, fake.asked_to_end.borrow().len()), (Code::OK, 6));
        let asked =
            "is busy: asked to end: 101 (vi), 102 (vi), 103 (vi), 104 (vi), 105 (vi) and 1 more\n";
        assert!(text.contains(asked), "{text}");
        assert!(text.ends_with("all that was written is on the server; in 2.000 s\n"), "{text}");
        assert!(!fake.hows.borrow().contains(&How::Detach));
    }

    #[test]
    fn what_users_wrote_meanwhile_and_the_server_did_not_take_is_no_success() {
        let busy = || FakeMachine { free_from: Duration::MAX / 2, ..machine() };
        for terminate in [false, true] {
            let fake = FakeMachine { flush_again: Flush::Refused(Errno::ENOSPC), ..busy() };
            let (code, text) = unmount(&fake, terminate);
            assert_eq!((code, fake.stacked.get()), (Code::REFUSED, 0), "{text}");
            assert!(
                text.contains("(ENOSPC)") && !text.contains("all that was written is"),
                "{text}"
            );
            let fake = FakeMachine { flush_again: Flush::Late, ..busy() };
            let (code, text) = unmount(&fake, terminate);
            assert_eq!((code, fake.stacked.get()), (Code::DEADLINE, 0), "{text}");
        }
    }

    #[test]
    fn a_server_that_does_not_take_it_all_is_told_slow_from_dead() {
        let fake = FakeMachine { flush: Flush::Late, ..machine() };
        let (code, text) = unmount(&fake, false);
        assert_eq!(code, Code::DEADLINE);
        assert!(text.contains("did not take all that was written within 17.0 s"), "{text}");
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

    const ENCRYPTED: &str = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
                             encryption_in_transit = true\n";

    #[test]
    fn a_tunnel_ends_after_its_share_and_one_that_is_missing_is_started_to_write_through() {
        for (runs, steps) in [(true, vec!["stop"]), (false, vec!["start Some(2049)", "stop"])] {
            let tunnels = FakeTunnels::new(runs, 0);
            let (code, text) = unmount_with(&machine(), &tunnels, ENCRYPTED, false);
            assert_eq!(code, Code::OK);
            assert_eq!(*tunnels.seen.lock().unwrap(), steps);
            assert_eq!(
                text.contains("its tunnel was not running, and was started"),
                !runs,
                "{text}"
            );
        }
        // One that does not answer in time is there all the same.
        let tunnels = FakeTunnels { busy: true, ..FakeTunnels::new(true, 0) };
        let (code, text) = unmount_with(&machine(), &tunnels, ENCRYPTED, false);
        assert_eq!((code, text.contains("was not running")), (Code::OK, false), "{text}");
        assert_eq!(*tunnels.seen.lock().unwrap(), ["stop"]);
        // What is not mounted has no use for one.
        let tunnels = FakeTunnels::new(true, 0);
        let absent = FakeMachine { stacked: Cell::new(0), ..machine() };
        for done in ["its tunnel was ended", "nothing was done"] {
            let (code, text) = unmount_with(&absent, &tunnels, ENCRYPTED, false);
            assert_eq!(code, Code::OK);
            assert!(text.ends_with(&format!(" on /mnt/efs_share; {done}\n")), "{text}");
        }
        assert_eq!(*tunnels.seen.lock().unwrap(), ["stop", "stop"]);
    }

    #[test]
    fn a_tunnel_that_the_kernel_still_uses_goes_on() {
        let tunnels = FakeTunnels::new(true, 1);
        let (code, text) = unmount_with(&machine(), &tunnels, ENCRYPTED, false);
        assert_eq!(code, Code::OK);
        assert!(text.ends_with("its tunnel goes on: the kernel still uses it, or a session start has just begun with it\n"), "{text}");
        assert!(tunnels.seen.lock().unwrap().is_empty());
        // Nor does one end through which data is still to be written.
        let tunnels = FakeTunnels::new(true, 0);
        let slow = FakeMachine { flush: Flush::Late, ..machine() };
        assert_eq!(unmount_with(&slow, &tunnels, ENCRYPTED, false).0, Code::DEADLINE);
        assert!(tunnels.seen.lock().unwrap().is_empty());
    }
}
