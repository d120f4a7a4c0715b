//! Mounts a share and proves it: mount(2) in a child, then the mount table, the mount's connection,
//! and its root. If that fails, the kernel's and the server's answers decide which failure it is.
//! No words are made here.

use super::existing::{Provenance, mounted, off_way, strays};
use super::{DETACH_TIMEOUT, Linux, SHORTEST_ANSWER};
use crate::config::Share;
use crate::files;
use crate::kernel::{connections, modules, mount_table};
use crate::net::probe::{self, NullCallAnswer};
use crate::net::reach::{Problem, ReachError};
use crate::retry::{Clock, Deadline};
use crate::share::mount_point::{self, Parent, PreparedPoint};
use crate::share::plan::MountCall;
use crate::share::worker::{
    self, MountReport, MountWatch, RootReport, RootWishes, Unseen, WorkerError,
};
use crate::share::{Failure, Machine, MountLimit, Mounted};
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::poll::{PollFd, PollFlags};
use std::borrow::Cow;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a server that does not finish a mount gets to answer a NULL call.
const NULL_CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection to this machine itself may take: it stands within an instant.
const LOOPBACK_TIMEOUT: Duration = Duration::from_millis(200);

/// What a trial mount, which nobody else sees, has shown.
#[derive(Debug)]
pub struct TrialReport {
    /// The look at its root.
    pub report: RootReport,
    /// What the mount table shows instead of the share's path, if the server has led that elsewhere.
    pub led_to: Option<String>,
    /// The device of what it was compared with, if that is the same folder.
    pub same: Option<String>,
}

/// One call of mount(2) for a share.
struct Mounting<'m, C> {
    machine: &'m Linux<'m, C>,
    share: &'m Share,
    call: &'m MountCall,
    until: Deadline,
}

impl<C: Clock + Sync> Linux<'_, C> {
    /// The steps of [`Machine::mount`].
    pub(super) fn mount_and_prove(
        &self,
        share: &Share,
        call: &MountCall,
        point: &PreparedPoint,
        limit: MountLimit,
    ) -> Result<Mounted, Failure> {
        let until = limit.until;
        if until.passed(self.clock) {
            return Err(Failure::NoTime);
        }

        self.note_existing_again(share);
        let mounting = Mounting { machine: self, share, call: &self.fit(call), until };
        let hides = !point.is_ours() && mount_point::is_empty(point) == Some(false);

        let mut heard = None;
        let result = mounting.mount(point, limit.silence, &mut heard);
        match result.map_err(|failure| self.on_loopback(mounting.call, failure)) {
            Ok(mounted) => {
                let mounted = mounting.with_good_root(mounted)?;
                self.forget_made(share);
                let hides = hides && !mounted.already;

                // The folder may be the one that this run made, even where another run has mounted on it.
                Ok(Mounted { hides, made: point.is_ours(), over: point.was_there, ..mounted })
            }
            Err(failure) if failure.wants_null_call() => Err(mounting.probed(failure, heard)),
            Err(failure) => {
                if let Failure::NotShown | Failure::OffWay(_) | Failure::Referred { .. } = failure {
                    self.take_away(share, failure != Failure::NotShown);
                }
                Err(failure)
            }
        }
    }

    /// The call as it can be carried out now. If users have taken all ports that they can, it asks
    /// for a port that root alone can use.
    fn fit<'c>(&self, call: &'c MountCall) -> Cow<'c, MountCall> {
        match self.lacks_ports.load(Ordering::Relaxed) {
            true => Cow::Owned(call.clone().from_reserved()),
            false => Cow::Borrowed(call),
        }
    }

    /// Takes away a mount that ended up where nobody looks for it, because the folder was moved
    /// meanwhile. It is the one with the share's source that was not there before. A mount on the
    /// connection of another mount (`off_way`) may have that one's source.
    fn take_away(&self, share: &Share, off_way: bool) {
        let bytes = self.table().unwrap_or_default();
        for entry in mount_table::parse(&bytes) {
            let is_ours =
                entry.source == share.source() || off_way && entry.mount_point == share.mount_point;
            if !is_ours || self.was_existing(share, entry.id) {
                continue;
            }

            // A child does this, because it may wait for the server. It does not follow what a user
            // puts in its way.
            if let Ok(parent) = mount_point::parent(self.root, &entry.mount_point) {
                let wait = self.wait_for(DETACH_TIMEOUT);
                let _ = worker::unmount(&parent, entry.device, MntFlags::MNT_DETACH, wait);
            }
        }
    }

    /// What the server answers to an NFS NULL call, unless `child` has something to say first.
    /// `None` also where `wait` is too short for an answer.
    fn null_call(
        &self,
        call: &MountCall,
        wait: Wait<'_>,
        child: Option<BorrowedFd<'_>>,
    ) -> Option<NullCallAnswer> {
        if wait.left() < SHORTEST_ANSWER {
            return None;
        }
        probe::null_call(call.connects_to, child, wait)
    }

    /// The failure behind an `errno` of mount(2), which may have several causes.
    fn refused(&self, share: &Share, call: &MountCall, errno: Errno) -> Failure {
        let address = call.address;
        match errno {
            // The kernel gives the same error for a server without 4.1 and for its own missing module.
            Errno::EPROTONOSUPPORT if !self.root.join("sys/module/nfsv4").exists() => {
                let forbidden = modules::forbidden(self.root).map(Failure::ModuleForbidden);
                forbidden.unwrap_or(Failure::NoModule)
            }
            Errno::ENODEV => match modules::forbidden(self.root) {
                Some(place) => Failure::ModuleForbidden(place),
                None => Failure::Mount(address, errno),
            },
            Errno::EACCES | Errno::EPERM if self.forbids(share, call) => Failure::Forbidden(errno),
            // The kernel gives the same error for an option that it does not know and for a blackhole route.
            Errno::EINVAL => {
                let no_way = no_way(address, share.options.port);
                no_way.unwrap_or_else(|| match self.lacks_selinux(share) {
                    true => Failure::NoSelinux,
                    false => Failure::Mount(address, Errno::EINVAL),
                })
            }
            errno => Failure::Mount(address, errno),
        }
    }

    /// Whether the share has options that only SELinux takes, and SELinux is off or missing.
    fn lacks_selinux(&self, share: &Share) -> bool {
        share.options.contexts().next().is_some()
            && fs::read_to_string(self.root.join("proc/filesystems"))
                .is_ok_and(|known| !known.lines().any(|line| line.ends_with("\tselinuxfs")))
    }

    /// Whether this machine itself forbids the call, by a security module or a unit's filter.
    fn forbids(&self, share: &Share, call: &MountCall) -> bool {
        let Ok(parent) = mount_point::parent(self.root, &share.mount_point) else {
            return false;
        };

        let asked = worker::forbidden(call, &parent, self.wait_for(SHORTEST_ANSWER));
        matches!(asked, Ok(Some(_)))
    }

    /// The failure behind one of a call through a tunnel. This machine may close the way to the
    /// tunnel, while the tunnel has all that it needs.
    pub(super) fn on_loopback(&self, call: &MountCall, failure: Failure) -> Failure {
        let may_be_network = match &failure {
            Failure::CutOff(..) => true,
            // From mount(2), these errors are the server's answer.
            Failure::Mount(_, Errno::EACCES | Errno::EPERM) => false,
            Failure::Mount(_, errno) => failure.wants_null_call() || is_no_way(*errno),
            _ => false,
        };

        if !call.is_tunnelled() || !may_be_network {
            return failure;
        }

        if self.loopback_is_down() {
            Failure::Loopback(None)
        } else if self.connects_here(call.connects_to) {
            failure
        } else {
            Failure::Loopback(Some(call.connects_to.port()))
        }
    }

    fn loopback_is_down(&self) -> bool {
        // "0x9": IFF_UP and IFF_LOOPBACK.
        let flags = fs::read_to_string(self.root.join("sys/class/net/lo/flags"));
        let flags = flags.unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
        flags.is_ok_and(|flags| flags & 1 == 0)
    }

    /// Whether this machine lets a connection through to its own port `to`. It does not matter
    /// whether anything listens there.
    fn connects_here(&self, to: SocketAddr) -> bool {
        let stream = match sys::connect_tcp_from_reserved(to) {
            Err(errno) => return !is_no_way(errno),
            Ok(stream) => stream,
        };

        let fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        match self.stop.poll(&fds, LOOPBACK_TIMEOUT) {
            Ok(ready) if ready.contains(&true) => {
                let errno = stream.take_error().ok().flatten();
                let errno = errno.and_then(|e| e.raw_os_error()).map(Errno::from_raw);
                !errno.is_some_and(is_no_way)
            }
            Ok(_) => false,
            Err(_) => true,
        }
    }

    /// Mounts the share where nobody sees it, and looks at its root, before `until`. The mount is
    /// gone when this returns.
    ///
    /// # Errors
    /// Those of [`Machine::mount`].
    pub fn trial(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<TrialReport, Failure> {
        self.trial_beside(share, call, None, until)
    }

    /// The same as [`Linux::trial`], and whether what is seen `beside` it is the same folder.
    pub(super) fn trial_beside(
        &self,
        share: &Share,
        call: &MountCall,
        beside: Option<&Parent>,
        until: Deadline,
    ) -> Result<TrialReport, Failure> {
        Mounting { machine: self, share, call: &self.fit(call), until }.trial(beside)
    }
}

impl<C: Clock + Sync> Mounting<'_, C> {
    /// Calls mount(2), and returns what that left in the mount table. Meanwhile the server is sent
    /// an NFS NULL call, whose answer is put into `heard`. A server that is silent for `silence`
    /// ends the call.
    fn mount(
        &self,
        point: &PreparedPoint,
        silence: Option<Duration>,
        heard: &mut Option<NullCallAnswer>,
    ) -> Result<Mounted, Failure> {
        let machine = self.machine;
        let (started, wait) = (machine.clock.now(), machine.wait(self.until));

        // The kernel waits for the server meanwhile, so a NULL call costs no time.
        let mut meanwhile = |child: BorrowedFd<'_>| {
            let wait = silence.map_or(wait, |span| wait.within(span));
            *heard = machine.null_call(self.call, wait, Some(child));
            silence.is_some() && *heard == Some(NullCallAnswer::Nothing)
        };

        let mut found = None;
        let mut shown = || {
            let found = found.insert(self.shown(Provenance::JustMounted, Failure::NotShown));

            // If the root's mode is to be set, the root must belong to the server that was asked.
            let mounted = found.as_ref().ok()?;
            let changes = self.share.root_mode.is_none() || !strays(self.share, self.call, mounted);
            changes.then(|| mounted.device.clone())
        };

        let wishes = RootWishes { mode: self.share.root_mode, user: &|| machine.user().cloned() };
        let watch = MountWatch { meanwhile: &mut meanwhile, shown: &mut shown };
        let report = match worker::mount(self.call, point, wishes, wait, watch) {
            Ok(report) => report,
            Err(error) => {
                return self.broken_off(error, machine.clock.now().saturating_sub(started));
            }
        };

        match report {
            MountReport { returned: Ok(0), named, root } => {
                // A look that the end of the attempt cut off is dropped: the run has time left to
                // repeat it.
                let root = root.filter(|look| *look != Err(WorkerError::CutOff));
                let mounted = found.unwrap_or(Err(Failure::NotShown))?;
                Ok(Mounted { root, nameless: named.err(), ..mounted })
            }
            MountReport { returned: Ok(other), .. } => Err(Failure::Odd(other)),
            MountReport { returned: Err(Errno::EBUSY), .. } => self.mounted_by_another_run(),
            MountReport { returned: Err(errno), .. } => {
                Err(machine.refused(self.share, self.call, errno))
            }
        }
    }

    /// The result of a call whose child did not end by itself. The mount may have succeeded at the
    /// last moment.
    fn broken_off(&self, error: WorkerError, span: Duration) -> Result<Mounted, Failure> {
        let failure = match error {
            WorkerError::HostName(errno) => return Err(Failure::NoHostName(errno)),
            // The next attempt makes the mount point again. Then it is good, or what is in the way
            // is named.
            WorkerError::Target(_) => return Err(Failure::PointGone),
            WorkerError::CutOff => Failure::CutOff(self.call.address, span),
            WorkerError::Stopped(_) => Failure::Stopped(None),
            error => Failure::Worker(error),
        };

        self.shown(Provenance::CutOff(self.call.connects_to), failure)
    }

    /// The share as another run mounted it, which was quicker.
    fn mounted_by_another_run(&self) -> Result<Mounted, Failure> {
        let busy = Failure::Mount(self.call.address, Errno::EBUSY);
        let found = self.machine.find_announced(self.share, self.until)?.ok_or(busy)?;
        if self.share.encryption.is_some() && !self.machine.is_tunnelled(&found) {
            return Err(Failure::OtherWay);
        }
        Ok(found)
    }

    /// What a call of mount(2) left behind: the share in the mount table, or `otherwise`. A share
    /// that must go through a tunnel is checked to do so.
    fn shown(&self, provenance: Provenance, otherwise: Failure) -> Result<Mounted, Failure> {
        let machine = self.machine;
        let bytes = machine.table()?;
        let table = mount_table::parse(&bytes);
        match machine.find(&table, self.share, provenance, self.until) {
            Err(Failure::OtherWay) => {
                Err(match mount_table::top_at(&table, &self.share.mount_point) {
                    Some(entry) => off_way(entry, self.share, machine.connected_to(entry.device)),
                    None => Failure::OffWay(None),
                })
            }

            // It cannot be known whether this is somebody else's mount, or the server has led the path far away.
            Err(Failure::Taken { .. }) if matches!(provenance, Provenance::CutOff(_)) => {
                Err(otherwise)
            }
            Ok(Some(mounted)) => {
                machine.check_way(self.call, &mounted.device)?;
                Ok(mounted)
            }
            Ok(None) => Err(otherwise),
            Err(failure) => Err(failure),
        }
    }

    /// Takes away a new mount whose root cannot be used. Its users could not reach their files, and
    /// a later run might think it good.
    fn with_good_root(&self, mounted: Mounted) -> Result<Mounted, Failure> {
        let seen = mounted.root.and_then(Result::ok);
        match seen.and_then(|seen| seen.fault()) {
            Some(errno) if !mounted.already => {
                let until = Deadline::after(self.machine.clock, DETACH_TIMEOUT);
                self.machine.detach(self.share, &mounted, until)?;
                Err(Failure::BadRoot(self.call.address, errno))
            }
            _ => Ok(mounted),
        }
    }

    /// The failure, with what the server answers to an NFS NULL call, now or while mount(2) waited.
    fn probed(&self, failure: Failure, heard: Option<NullCallAnswer>) -> Failure {
        // A server that was silent a while ago, and then refused the mount, may answer by now.
        let heard = heard.filter(|heard| *heard != NullCallAnswer::Nothing || failure.is_by_time());
        let wait = self.machine.wait(self.until).within(NULL_CALL_TIMEOUT);
        match heard.or_else(|| self.machine.null_call(self.call, wait, None)) {
            Some(heard) => Failure::Probed(Box::new(failure), heard),
            None => failure,
        }
    }

    /// Mounts the share where nobody sees it, and compares it with what is seen `beside` it.
    fn trial(&self, beside: Option<&Parent>) -> Result<TrialReport, Failure> {
        let machine = self.machine;
        let started = machine.clock.now();
        let mut way = Ok(None);
        let mut same = None;
        let mut shown = |unseen: Unseen<'_>| {
            way = self.way_of(&unseen);
            same = self.same_as(&unseen);
        };

        let wait = machine.wait(self.until);
        let failure = match worker::trial(self.call, machine.user(), beside, wait, &mut shown) {
            Ok(Ok(report)) => return way.map(|led_to| TrialReport { report, led_to, same }),
            Ok(Err(errno)) => machine.refused(self.share, self.call, errno),
            Err(WorkerError::CutOff) => {
                let span = machine.clock.now().saturating_sub(started);
                Failure::CutOff(self.call.address, span)
            }
            Err(WorkerError::Stopped(stopped)) => return Err(stopped.into()),
            Err(WorkerError::HostName(errno)) => return Err(Failure::NoHostName(errno)),
            Err(error) => return Err(Failure::Worker(error)),
        };

        let failure = machine.on_loopback(self.call, failure);
        if !failure.wants_null_call() {
            return Err(failure);
        }
        match machine.null_call(self.call, machine.wait_for(NULL_CALL_TIMEOUT), None) {
            Some(heard) => Err(Failure::Probed(failure.into(), heard)),
            None => Err(failure),
        }
    }

    /// Where the server has led a trial mount, if not to the share's path. A mount that does not go
    /// its way is a failure.
    fn way_of(&self, unseen: &Unseen<'_>) -> Result<Option<String>, Failure> {
        let table = self.machine.root.join("proc").join(unseen.process.to_string());
        let bytes = files::whole(&table.join("mountinfo")).unwrap_or_default();
        let table = mount_table::parse(&bytes);
        let entry = table.iter().rev().find(|entry| entry.device == unseen.device);
        match (self.machine.check_way(self.call, unseen.device), entry) {
            (Err(Failure::OffWay(to)), Some(entry)) => Err(off_way(entry, self.share, to)),
            (Err(failure), _) => Err(failure),
            (Ok(()), entry) => {
                Ok(entry.and_then(|entry| mounted(entry).led_to(self.share).map(str::to_owned)))
            }
        }
    }

    /// The device of what a mount is compared with, if both are one file system of one server.
    fn same_as(&self, unseen: &Unseen<'_>) -> Option<String> {
        let other = unseen.same?;
        let is_one = unseen.device == other
            || connections::is_one(&self.machine.volumes(), (unseen.device, other));
        is_one.then(|| other.to_owned())
    }
}

/// Whether a connection that fails with this errno was rejected here or on the way, and not by its
/// destination.
fn is_no_way(errno: Errno) -> bool {
    let no_way =
        [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::ENETDOWN, Errno::EACCES, Errno::EPERM];
    no_way.contains(&errno) || errno == Errno::EADDRNOTAVAIL
}

/// The failure, if only a blackhole route leads to `address`. Looks at the route, and sends
/// nothing.
fn no_way(address: IpAddr, port: u16) -> Option<Failure> {
    let errno = sys::connect_udp(SocketAddr::new(address, port)).err();
    let errno = errno.filter(|errno| *errno == Errno::EINVAL)?;
    let tried = vec![(address, Problem::Errno(errno))];
    Some(Failure::Reach(ReachError::NoneAnswers { port, tried }))
}
