//! Shares are taken down on a scripted machine, under a virtual clock.

use super::mount_points::clear;
use super::share::UnmountRun;
use crate::config::{Settings, Share};
use crate::kernel::holders::Holder;
use crate::log::test::Lines;
use crate::report::Code;
use crate::retry::test::VirtualClock;
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::linux::Linux;
use crate::share::release::{FlushResult, Release, UnmountMode, UnmountResult};
use crate::share::{Failure, Mounted};
use crate::status::unfinished::MadePoint;
use crate::stop::Stop;
use crate::tunnel::contract::{Tunnels, TunnelsError};
use crate::tunnel::protocol::{Peer, TunnelError, TunnelStatus};
use nix::errno::Errno;
use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A tunnel that runs, or not, until it is started or ended.
struct FakeTunnels {
    runs: AtomicBool,
    /// Whether it is too busy to answer.
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
            true => Ok(TunnelStatus { connections: self.connections, ..TunnelStatus::default() }),
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

/// A machine with a number of mounts of the share on top of each other.
struct ScriptedMounts {
    clock: VirtualClock,
    stacked: Cell<usize>,
    taken: bool,
    /// Somebody else's mount is below all of them.
    below: bool,
    flush: FlushResult,
    /// The results of the second flush and later ones.
    flush_again: FlushResult,
    flushed: Cell<u32>,
    answers: bool,
    /// When nobody uses it any more.
    free_from: Duration,
    asked_to_end: RefCell<Vec<i32>>,
    hows: RefCell<Vec<UnmountMode>>,
}

fn machine() -> ScriptedMounts {
    ScriptedMounts {
        clock: VirtualClock::default(),
        stacked: Cell::new(1),
        taken: false,
        below: false,
        flush: FlushResult::Done,
        flush_again: FlushResult::Done,
        flushed: Cell::new(0),
        answers: true,
        free_from: Duration::ZERO,
        asked_to_end: RefCell::default(),
        hows: RefCell::default(),
    }
}

impl Release for ScriptedMounts {
    fn find_mount(&self, _: &Share, _: Deadline) -> Result<Option<Mounted>, Failure> {
        if self.taken || self.below && self.stacked.get() == 0 {
            return Err(Failure::Taken { source: "mine".into(), fstype: "tmpfs".into() });
        }
        Ok((self.stacked.get() > 0).then(|| Mounted::fake(true)))
    }

    fn flush(&self, _: &Share, _: &Mounted, until: Deadline) -> Result<FlushResult, Stopped> {
        let first = self.flushed.replace(self.flushed.get() + 1) == 0;
        let flush = if first { self.flush } else { self.flush_again };
        if flush == FlushResult::Late {
            self.clock.wait(until.left(&self.clock))?;
        }
        Ok(flush)
    }

    fn answers(&self, _: &Mounted, until: Deadline) -> bool {
        let _ = if self.answers { Ok(()) } else { self.clock.wait(until.left(&self.clock)) };
        self.answers
    }

    fn unmount(
        &self,
        _: &Share,
        _: &Mounted,
        how: UnmountMode,
        _: Deadline,
    ) -> Result<UnmountResult, Stopped> {
        self.hows.borrow_mut().push(how);
        let free = self.clock.now() >= self.free_from;
        Ok(match how {
            UnmountMode::Plain if !free => UnmountResult::Busy,
            UnmountMode::Force => UnmountResult::Stays,
            _ => {
                self.stacked.set(self.stacked.get() - 1);
                UnmountResult::Gone
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

fn unmount(machine: &ScriptedMounts, terminate: bool) -> (Code, String) {
    let tunnels = FakeTunnels::new(true, 0);
    let text = "[[share]]\nendpoint = \"fs-1.example\"\n";
    let result = unmount_with(machine, &tunnels, text, terminate);
    assert!(tunnels.seen.lock().unwrap().is_empty(), "no encryption, no tunnel");
    result
}

fn unmount_with(
    machine: &ScriptedMounts,
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
    let run = UnmountRun {
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
    let fake = ScriptedMounts { stacked: Cell::new(2), ..machine() };
    let line = "unmounted fs-1.example:/ on /mnt/efs_share; all that was written is on the server; in 0.000 s\n";
    assert_eq!(unmount(&fake, false), (Code::OK, line.repeat(2)));
    let (code, text) = unmount(&fake, false);
    assert_eq!(code, Code::OK);
    assert_eq!(text, "not mounted: fs-1.example:/ on /mnt/efs_share; nothing was done\n");
}

#[test]
fn of_a_mount_point_that_a_killed_run_left_it_is_not_said_that_nothing_was_done() {
    let absent = ScriptedMounts { stacked: Cell::new(0), ..machine() };
    let tunnels = FakeTunnels::new(false, 0);
    let text = "[[share]]\nendpoint = \"fs-1.example\"\nmount_point = \"/mnt/orphan\"\n";
    let (code, text) = unmount_with(&absent, &tunnels, text, false);
    assert_eq!((code, text.as_str()), (Code::OK, "not mounted: fs-1.example:/ on /mnt/orphan\n"));
}

#[test]
fn what_a_killed_run_left_goes_unless_files_are_in_it_or_a_run_goes_on() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let root = dir.path();
    for folder in ["mnt/empty", "mnt/full", "proc/self"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("proc/self/mountinfo"), "1 1 0:1 / / rw - ext4 /dev/a rw\n").unwrap();
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
    let fake = ScriptedMounts { taken: true, ..machine() };
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
    let fake = ScriptedMounts { below: true, ..machine() };
    let (code, text) = unmount(&fake, false);
    assert_eq!(code, Code::OK, "{text}");
    assert!(
        text.ends_with("in 0.000 s\n/mnt/efs_share: mine (tmpfs) is mounted there, below the share: left as it is\n"),
        "{text}"
    );
    // If it is the only mount, it is in the way.
    assert_eq!(unmount(&fake, false).0, Code::REFUSED);
    let fake =
        ScriptedMounts { below: true, flush: FlushResult::Refused(Errno::EDQUOT), ..machine() };
    assert_eq!(unmount(&fake, false).0, Code::REFUSED, "what was refused is told all the same");
}

#[test]
fn a_busy_share_is_detached_under_five_named_holders_who_are_asked_only_if_told() {
    let never = Duration::MAX / 2;
    let fake = ScriptedMounts { free_from: never, ..machine() };
    let (code, text) = unmount(&fake, false);
    assert_eq!(code, Code::OK);
    assert_eq!(
        text,
        "warning: unmounted fs-1.example:/ on /mnt/efs_share although it is in use by 101 (vi), 102 (vi), \
         103 (vi), 104 (vi), 105 (vi) and 2 more: detached, so that they alone still see it; all that was \
         written is on the server\n"
    );
    assert_eq!(*fake.hows.borrow(), [UnmountMode::Plain, UnmountMode::Detach]);
    assert!(fake.asked_to_end.borrow().is_empty());

    let fake = ScriptedMounts { free_from: Duration::from_secs(2), ..machine() };
    let (code, text) = unmount(&fake, true);
    assert_eq!((code, fake.asked_to_end.borrow().len()), (Code::OK, 6));
    let asked =
        "is busy: asked to end: 101 (vi), 102 (vi), 103 (vi), 104 (vi), 105 (vi) and 1 more\n";
    assert!(text.contains(asked), "{text}");
    assert!(text.ends_with("all that was written is on the server; in 2.000 s\n"), "{text}");
    assert!(!fake.hows.borrow().contains(&UnmountMode::Detach));
}

#[test]
fn what_users_wrote_meanwhile_and_the_server_did_not_take_is_no_success() {
    let busy = || ScriptedMounts { free_from: Duration::MAX / 2, ..machine() };
    for terminate in [false, true] {
        let fake = ScriptedMounts { flush_again: FlushResult::Refused(Errno::ENOSPC), ..busy() };
        let (code, text) = unmount(&fake, terminate);
        assert_eq!((code, fake.stacked.get()), (Code::REFUSED, 0), "{text}");
        assert!(text.contains("(ENOSPC)") && !text.contains("all that was written is"), "{text}");
        let fake = ScriptedMounts { flush_again: FlushResult::Late, ..busy() };
        let (code, text) = unmount(&fake, terminate);
        assert_eq!((code, fake.stacked.get()), (Code::DEADLINE, 0), "{text}");
    }
}

#[test]
fn a_server_that_does_not_take_it_all_is_told_slow_from_dead() {
    let fake = ScriptedMounts { flush: FlushResult::Late, ..machine() };
    let (code, text) = unmount(&fake, false);
    assert_eq!(code, Code::DEADLINE);
    assert!(text.contains("did not take all that was written within 17.0 s"), "{text}");
    assert_eq!(*fake.hows.borrow(), [UnmountMode::Detach]);

    let fake = ScriptedMounts { flush: FlushResult::Late, answers: false, ..machine() };
    let (code, text) = unmount(&fake, false);
    assert_eq!(code, Code::DEADLINE);
    assert!(text.contains("does not answer: taken away by force"), "{text}");
    assert_eq!(*fake.hows.borrow(), [UnmountMode::Force, UnmountMode::Detach]);
}

#[test]
fn data_that_the_server_refused_is_told_and_the_share_goes_all_the_same() {
    let fake = ScriptedMounts { flush: FlushResult::Refused(Errno::EDQUOT), ..machine() };
    let (code, text) = unmount(&fake, false);
    assert_eq!((code, fake.stacked.get()), (Code::REFUSED, 0));
    assert!(text.contains("the server refused some of what was written: "), "{text}");
    assert!(text.contains("(EDQUOT); to mend it: look for a full file system or quota"), "{text}");
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
        assert_eq!(text.contains("its tunnel was not running, and was started"), !runs, "{text}");
    }
    // A tunnel that does not answer in time is there all the same.
    let tunnels = FakeTunnels { busy: true, ..FakeTunnels::new(true, 0) };
    let (code, text) = unmount_with(&machine(), &tunnels, ENCRYPTED, false);
    assert_eq!((code, text.contains("was not running")), (Code::OK, false), "{text}");
    assert_eq!(*tunnels.seen.lock().unwrap(), ["stop"]);
    // A share that is not mounted has no use for a tunnel.
    let tunnels = FakeTunnels::new(true, 0);
    let absent = ScriptedMounts { stacked: Cell::new(0), ..machine() };
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
    // A tunnel through which data is still to be written does not end either.
    let tunnels = FakeTunnels::new(true, 0);
    let slow = ScriptedMounts { flush: FlushResult::Late, ..machine() };
    assert_eq!(unmount_with(&slow, &tunnels, ENCRYPTED, false).0, Code::DEADLINE);
    assert!(tunnels.seen.lock().unwrap().is_empty());
}
