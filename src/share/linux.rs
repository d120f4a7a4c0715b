//! The real machine: each step of a share carried out on this kernel, with
//! this machine's files. The steps' own modules do the work; here they get
//! what they need, and the mount table has the last word.

use crate::appstream::{self, User};
use crate::config::{Level, Share};
use crate::files;
use crate::retry::{Clock, Deadline};
use crate::share::mount_point::{self, PointError, PreparedPoint};
use crate::share::names::{By, Found, NameError, Resolver};
use crate::share::plan::MountCall;
use crate::share::probe::{self, Heard};
use crate::share::reach::{Problem, ReachError};
use crate::share::table::{self, Entry, Standing};
use crate::share::worker::{self, RootReport, Seen, Wanted, WorkerError};
use crate::share::{Failure, Machine, Mounted, after, encrypted, reach};
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use std::ffi::CString;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// With configured addresses to fall back on, a silent name server gets this long.
const NAME_WITH_FALLBACK: Duration = Duration::from_secs(1);

/// How long the kernel may take over a mount that is being detached.
const FAREWELL: Duration = Duration::from_millis(300);

/// How long a server that does not finish a mount gets to answer a NULL call.
const NULL_CALL: Duration = Duration::from_secs(1);
/// Less than this is no time to answer in.
const TOO_SHORT: Duration = Duration::from_millis(500);

/// This machine.
pub struct Linux<'a, C> {
    /// `/`.
    pub root: &'a Path,
    /// The clock of the run.
    pub clock: &'a C,
    /// The signals.
    pub stop: &'a Stop,
    /// The account that must be able to write, if there is one, once it was asked for.
    user: OnceLock<Option<User>>,
    /// The ids of the mounts that were there before the run mounted anything, as far as it has looked.
    known: Mutex<Vec<u32>>,
}

impl<'a, C: Clock + Sync> Linux<'a, C> {
    /// This machine as seen from `root`, with what a run has of a clock and of signals.
    pub fn new(root: &'a Path, clock: &'a C, stop: &'a Stop) -> Self {
        Self { root, clock, stop, user: OnceLock::new(), known: Mutex::default() }
    }

    /// The account that must be able to write, if there is one.
    pub fn user(&self) -> Option<&User> {
        self.user.get_or_init(|| appstream::streaming_user(self.root)).as_ref()
    }

    /// The bytes of the mount table of now.
    pub(crate) fn table(&self) -> Result<Vec<u8>, Failure> {
        files::whole(&self.root.join("proc/self/mountinfo")).map_err(Failure::NoTable)
    }

    /// The mount that `table` shows at the share's mount point, if it is the share's. `fresh`: mount(2)
    /// has just put it there, so a server of another name can only be the same server.
    fn find(
        &self,
        table: &[Entry<'_>],
        share: &Share,
        fresh: bool,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let Some(entry) = table::top_at(table, &share.mount_point) else {
            return Ok(None);
        };
        let differs = match table::standing(entry, share) {
            Standing::Ours(differs) => differs,
            Standing::ReadOnly => return Err(Failure::ReadOnly),
            Standing::OtherWay => return Err(Failure::OtherWay),
            Standing::Foreign => return Err(taken(entry)),
            // A server that the kernel knows by another name, and by another way perhaps.
            Standing::OtherName(_)
                if fresh && table::is_tunnelled(entry, share) != share.encryption.is_some() =>
            {
                return Err(Failure::OtherWay);
            }
            Standing::OtherName(differs) if fresh => differs,
            // The tunnel's address is that of every tunnel.
            Standing::OtherName(_) if share.encryption.is_some() => return Err(taken(entry)),
            Standing::OtherName(mut differs) => {
                let until = until.within(self.clock, NAME_WITH_FALLBACK);
                let addresses = self.resolve(share, until)?.addresses;
                if !addresses.iter().any(|a| Some(a.to_string().as_str()) == entry.option("addr")) {
                    return Err(taken(entry));
                }
                differs.push(format!("name {} instead of {}", entry.source, share.source()));
                differs
            }
        };
        Ok(Some(Mounted { already: !fresh, differs, ..mounted(entry) }))
    }

    /// The mount that is seen at the share's mount point, if it is the share's in whatever state.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::Hidden`], [`Failure::NoTable`], [`Failure::Stopped`].
    pub fn found(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = table::parse(&bytes);
        check_local(&table, share)?;
        let result = self.find(&table, share, false, until);
        // A session start may mount it anew; whoever takes it down or tells of it must not overlook it.
        let hidden =
            |e: &Entry<'_>| e.mount_point == share.mount_point && e.source == share.source();
        if result == Ok(None) && table.iter().any(hidden) {
            return Err(Failure::Hidden);
        }
        if !matches!(result, Err(Failure::Name(_) | Failure::ReadOnly | Failure::OtherWay)) {
            return result;
        }
        match (table::top_at(&table, &share.mount_point), result) {
            // Its server has another name, and nobody can be asked whether it is ours.
            (Some(entry), Err(Failure::Name(_))) => Err(taken(entry)),
            (entry, _) => Ok(entry.map(mounted)),
        }
    }

    /// What a call of mount(2) left behind: the share in the mount table, or `else_`.
    fn shown(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
        else_: Failure,
    ) -> Result<Mounted, Failure> {
        let mounted = match self.find(&table::parse(&self.table()?), share, true, until) {
            Err(Failure::OtherWay) => return Err(Failure::Mixed),
            found => found?.ok_or(else_)?,
        };
        encrypted::on_its_own(share, call, mounted)
    }

    /// A mount that came to be where nobody looks for it (the folder was moved while we mounted on
    /// it) is taken away again: the one of our source that was not there before. If it is `mixed` with
    /// another mount, it has that one's source.
    fn take_away(&self, share: &Share, mixed: bool) {
        let known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = self.table().unwrap_or_default();
        let table = table::parse(&bytes);
        let new = |entry: &&Entry<'_>| !known.contains(&entry.id);
        let is_ours = |entry: &&Entry<'_>| {
            entry.source == share.source() || mixed && entry.mount_point == share.mount_point
        };
        for entry in table.iter().filter(new).filter(is_ours) {
            let flags = MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
            let _ = umount2(&*entry.mount_point, flags);
        }
    }

    /// What the server makes of an NFS NULL call before `until`, or before `child` has something to
    /// say; nothing where that is too short a time to tell.
    fn null_call(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
        child: Option<BorrowedFd<'_>>,
    ) -> Option<Heard> {
        if until.left(self.clock) < TOO_SHORT || !encrypted::takes_our_calls(share) {
            return None;
        }
        probe::null_call(call.connects_to, child, until, self.clock, self.stop)
    }

    /// What it means that mount(2) said `errno`, where that has several causes.
    fn refused(&self, share: &Share, address: IpAddr, errno: Errno) -> Failure {
        match errno {
            // What the kernel says of a server without 4.1, it says of its own missing module too.
            Errno::EPROTONOSUPPORT if !self.root.join("sys/module/nfsv4").exists() => {
                Failure::NoModule
            }
            // What it says of an option that it does not know, it says of a blackhole route too.
            Errno::EINVAL => no_way(address, share.options.port)
                .unwrap_or(Failure::Mount(address, Errno::EINVAL)),
            errno => Failure::Mount(address, errno),
        }
    }

    /// Mounts the share where nobody sees it, for at most until `until`, and looks at its root; the
    /// mount is gone when this returns.
    ///
    /// # Errors
    /// Those of [`Machine::mount`].
    pub fn trial(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<RootReport, Failure> {
        let started = self.clock.now();
        let address = call.address;
        let heard = || self.null_call(share, call, Deadline::after(self.clock, NULL_CALL), None);
        let failure = match worker::trial(call, self.user(), until, self.clock, self.stop) {
            Ok(Ok(report)) => return Ok(report),
            Ok(Err(errno)) => self.refused(share, address, errno),
            Err(WorkerError::CutOff) => {
                Failure::CutOff(address, self.clock.now().saturating_sub(started))
            }
            Err(WorkerError::Stopped(stopped)) => return Err(stopped.into()),
            Err(error) => return Err(Failure::Worker(error)),
        };
        match failure.wants_null_call().then(heard).flatten() {
            Some(heard) => Err(Failure::Probed(failure.into(), heard)),
            None => Err(failure),
        }
    }
}

/// Whether the mount point can be looked at without asking a server that may be dead.
fn check_local(table: &[Entry<'_>], share: &Share) -> Result<(), Failure> {
    match table::remote_above(table, &share.mount_point) {
        None => Ok(()),
        Some(entry) => Err(Failure::Point(PointError::Remote {
            path: share.mount_point.clone(),
            remote: format!("{} ({})", entry.source, entry.fstype),
        })),
    }
}

impl<C: Clock + Sync> Machine for Linux<'_, C> {
    type Point = PreparedPoint;

    fn mounted(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = table::parse(&bytes);
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.extend(table.iter().map(|entry| entry.id));
        drop(known);
        check_local(&table, share)?;
        self.find(&table, share, false, until)
    }

    fn responds(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<bool, Failure> {
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        let wanted = Wanted { mode: None, user: &|| None };
        match worker::settle(&parent, &mounted.device, wanted, until, self.clock, self.stop) {
            Ok(_) => Ok(true),
            Err(WorkerError::Stopped(stopped)) => Err(stopped.into()),
            Err(_) => Ok(false),
        }
    }

    fn detach(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<(), Failure> {
        let dead = || Failure::Dead(mounted.address.clone());
        let path = CString::new(share.mount_point.as_os_str().as_bytes()).map_err(|_| dead())?;
        // The mount is off the table at once, but the call then waits for the server to say good-bye.
        let patience = until.within(self.clock, FAREWELL);
        if let Err(WorkerError::Stopped(stopped)) =
            worker::unmount(&path, MntFlags::MNT_DETACH, patience, self.clock, self.stop)
        {
            return Err(stopped.into());
        }
        let still = |entry: &Entry<'_>| entry.device == mounted.device;
        match table::top_at(&table::parse(&self.table()?), &share.mount_point) {
            Some(entry) if still(entry) => Err(dead()),
            _ => Ok(()),
        }
    }

    fn prepare(&self, share: &Share) -> Result<PreparedPoint, Failure> {
        mount_point::prepare(self.root, &share.mount_point, share.mode).map_err(Failure::Point)
    }

    fn discard(&self, point: PreparedPoint) {
        point.discard();
    }

    fn resolve(&self, share: &Share, until: Deadline) -> Result<Found, Failure> {
        let resolver = Resolver { root: self.root, clock: self.clock, stop: self.stop };
        if share.addresses.is_empty() {
            return Ok(resolver.resolve(&share.endpoint, until)?);
        }
        match resolver.resolve(&share.endpoint, until.within(self.clock, NAME_WITH_FALLBACK)) {
            Ok(mut found) => {
                let further = share.addresses.iter().filter(|a| !found.addresses.contains(a));
                found.addresses.extend(further.copied().collect::<Vec<_>>());
                Ok(found)
            }
            Err(NameError::Stopped(stopped)) => Err(stopped.into()),
            Err(e) => Ok(Found { addresses: share.addresses.clone(), by: By::Listed(e) }),
        }
    }

    fn reach(
        &self,
        share: &Share,
        addresses: &[IpAddr],
        until: Deadline,
    ) -> Result<IpAddr, Failure> {
        let port = share.options.port;
        Ok(reach::first_that_answers(addresses, port, until, self.clock, self.stop)?)
    }

    fn mount(
        &self,
        share: &Share,
        call: &MountCall,
        point: &PreparedPoint,
        silence: Option<Duration>,
        until: Deadline,
    ) -> Result<Mounted, Failure> {
        if until.passed(self.clock) {
            return Err(Failure::NoTime);
        }
        let hides = !point.is_ours() && mount_point::is_empty(point) == Some(false);
        let started = self.clock.now();
        let mut heard = None;
        // While the kernel waits for the server, so can we: it costs no time.
        let mut ask = |child: BorrowedFd<'_>| {
            let patience = silence.map_or(until, |span| until.within(self.clock, span));
            heard = self.null_call(share, call, patience, Some(child));
            silence.is_some() && heard == Some(Heard::Nothing)
        };
        let mut found = None;
        let mut shown = || {
            let mounted = self.shown(share, call, until, Failure::NotShown);
            let device = mounted.as_ref().ok().map(|mounted| mounted.device.clone());
            found = Some(mounted);
            device
        };
        let wanted = Wanted { mode: share.root_mode, user: &|| self.user().cloned() };
        let returned =
            worker::mount(call, point, wanted, until, self.clock, self.stop, &mut ask, &mut shown);
        let result = match returned {
            Ok((Ok(0), seen)) => {
                // One that the attempt's end cut off has the run's time left to look again.
                let root = seen.filter(|seen| *seen != Err(WorkerError::CutOff));
                let mounted = found.unwrap_or(Err(Failure::NotShown));
                mounted.map(|mounted| Mounted { root, ..mounted })
            }
            Ok((Ok(other), _)) => Err(Failure::Odd(other)),
            // Another run was quicker.
            Ok((Err(Errno::EBUSY), _)) => {
                let busy = Failure::Mount(call.address, Errno::EBUSY);
                self.find(&table::parse(&self.table()?), share, false, until)?.ok_or(busy)
            }
            Ok((Err(errno), _)) => Err(self.refused(share, call.address, errno)),
            // Made anew, it is either good or what is in the way is named.
            Err(WorkerError::Target(_)) => Err(Failure::PointGone),
            // It may have come through at the last moment.
            Err(WorkerError::CutOff) => {
                let span = self.clock.now().saturating_sub(started);
                self.shown(share, call, until, Failure::CutOff(call.address, span))
            }
            Err(WorkerError::Stopped(_)) => self.shown(share, call, until, Failure::Stopped(None)),
            Err(error) => self.shown(share, call, until, Failure::Worker(error)),
        };
        match result {
            Ok(mounted) if mounted.already => Ok(mounted),
            Ok(mounted) => Ok(Mounted { hides, made: point.is_ours(), ..mounted }),
            Err(failure) if failure.wants_null_call() => {
                // What was silent a while ago, and then said no, may have found its voice.
                let stale = |heard: &Heard| *heard == Heard::Nothing && !failure.is_by_time();
                let soon = until.within(self.clock, NULL_CALL);
                let ask = || self.null_call(share, call, soon, None);
                Err(match heard.filter(|heard| !stale(heard)).or_else(ask) {
                    Some(heard) => Failure::Probed(Box::new(failure), heard),
                    None => failure,
                })
            }
            Err(failure) => {
                if matches!(failure, Failure::NotShown | Failure::Mixed) {
                    self.take_away(share, failure == Failure::Mixed);
                }
                Err(failure)
            }
        }
    }

    fn settle(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Vec<(Level, String)> {
        after::set_read_ahead(self.root, mounted);
        let look = || -> Result<Seen, PointError> {
            let parent = mount_point::parent(self.root, &share.mount_point)?;
            let wanted = Wanted { mode: share.root_mode, user: &|| self.user().cloned() };
            let device = &mounted.device;
            Ok(worker::settle(&parent, device, wanted, until, self.clock, self.stop))
        };
        match mounted.root.map_or_else(look, Ok) {
            Ok(seen) => {
                let refused = matches!(seen, Ok(root) if root.writable.is_err());
                after::notes(share, if refused { self.user() } else { None }, seen)
            }
            Err(e) => vec![(Level::Warning, e.to_string())],
        }
    }
}

/// What a line of the mount table tells of a mount of NFS.
fn mounted(entry: &Entry<'_>) -> Mounted {
    Mounted {
        address: entry.option("addr").unwrap_or("?").to_owned(),
        version: entry.option("vers").unwrap_or("?").to_owned(),
        device: entry.device.to_owned(),
        rsize: entry.option("rsize").and_then(|n| n.parse().ok()).unwrap_or(0),
        already: true,
        differs: Vec::new(),
        hides: false,
        made: false,
        port: entry.port(),
        peer: None,
        root: None,
    }
}

fn taken(entry: &Entry<'_>) -> Failure {
    Failure::Taken { source: entry.source.to_string(), fstype: entry.fstype.to_string() }
}

/// A look at the route: whether a blackhole is all that leads to `address`. Sends nothing.
fn no_way(address: IpAddr, port: u16) -> Option<Failure> {
    let errno = sys::connect_udp(SocketAddr::new(address, port)).err();
    let errno = errno.filter(|errno| *errno == Errno::EINVAL)?;
    let tried = vec![(address, Problem::Errno(errno))];
    Some(Failure::Reach(ReachError::NoneAnswers { port, tried }))
}

/// Whether what we mount is seen by the rest of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// PID 1 is in the same mount namespace.
    Shared,
    /// It is not.
    Private,
    /// /proc does not tell.
    Unknown,
}

/// Compares our mount namespace with PID 1's. `proc` is `/proc` outside of tests.
pub fn namespace(proc: &Path) -> Namespace {
    // Without the right to read it, some kernels give an empty link rather than an error.
    let link = |process: &str| {
        let target = fs::read_link(proc.join(process).join("ns/mnt")).ok()?;
        (!target.as_os_str().is_empty()).then_some(target)
    };
    if let (Some(ours), Some(first)) = (link("self"), link("1")) {
        return if ours == first { Namespace::Shared } else { Namespace::Private };
    }
    // The links need CAP_SYS_PTRACE, which a hardened unit lacks. Mount ids are unique on
    // the machine, so tables of two namespaces share none.
    let ids = |process: &str| {
        let bytes = files::whole(&proc.join(process).join("mountinfo")).ok()?;
        Some(table::parse(&bytes).into_iter().map(|entry| entry.id).collect::<Vec<_>>())
    };
    match (ids("self"), ids("1")) {
        (Some(ours), Some(first)) if !ours.is_empty() && !first.is_empty() => {
            if ours.iter().any(|id| first.contains(id)) {
                Namespace::Shared
            } else {
                Namespace::Private
            }
        }
        _ => Namespace::Unknown,
    }
}

/// Whether this process may mount: CAP_SYS_ADMIN in its effective set, or unknown.
pub fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    sys::capabilities().is_none_or(|caps| caps & CAP_SYS_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::share_of;
    use crate::stop::SystemClock;

    #[test]
    fn a_private_namespace_is_told_by_links_or_else_by_mount_ids() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        assert_eq!(namespace(proc), Namespace::Unknown);
        for (process, id) in [("self", 40), ("1", 40)] {
            fs::create_dir_all(proc.join(process).join("ns")).unwrap();
            let line = format!("{id} 1 0:1 / / rw - ext4 /dev/a rw\n");
            fs::write(proc.join(process).join("mountinfo"), line).unwrap();
        }
        assert_eq!(namespace(proc), Namespace::Shared);
        fs::write(proc.join("1/mountinfo"), "22 1 0:1 / / rw - ext4 /dev/a rw\n").unwrap();
        assert_eq!(namespace(proc), Namespace::Private);
        std::os::unix::fs::symlink("mnt:[1]", proc.join("self/ns/mnt")).unwrap();
        std::os::unix::fs::symlink("mnt:[1]", proc.join("1/ns/mnt")).unwrap();
        assert_eq!(namespace(proc), Namespace::Shared, "the links decide where there are any");
    }

    #[test]
    fn the_right_to_mount_is_that_of_the_effective_set() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
        assert_eq!(sys::capabilities(), Some(effective));
        assert_eq!(may_mount(), effective & 1 << 21 != 0);
    }

    #[test]
    fn a_mount_counts_only_if_it_is_encrypted_as_the_config_wants() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let name = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(std::time::Instant::now(), &stop);
        let machine = Linux::new(dir.path(), &clock, &stop);
        let until = Deadline::after(&clock, Duration::from_secs(1));
        let share = |line: &str| {
            let text = format!("[[share]]\nendpoint = \"{name}\"\nmount_point = \"/m\"\n{line}\n");
            share_of(&text)
        };
        let (plain, encrypted) = (share(""), share("encryption_in_transit = true"));
        let show = |source: &str, place: &str| {
            let line = format!(
                "1 0 8:1 / / rw - ext4 a rw\n5 1 0:31 / /m rw,nosuid,nodev - nfs4 {source}:/ rw,vers=4.1,hard,noresvport,timeo=600,retrans=2,{place}\n"
            );
            fs::write(dir.path().join("proc/self/mountinfo"), line).unwrap();
        };
        show(name, "addr=10.0.0.1");
        assert_eq!(machine.mounted(&encrypted, until), Err(Failure::OtherWay));
        assert!(matches!(machine.mounted(&plain, until), Ok(Some(m)) if m.port == 2049));
        show(name, "port=40001,addr=127.0.0.1");
        assert_eq!(machine.mounted(&plain, until), Err(Failure::OtherWay));
        let ours = machine.mounted(&encrypted, until).unwrap().unwrap();
        assert_eq!((ours.port, ours.already, ours.differs.len()), (40001, true, 0));
        // Whoever takes it down, or tells of it, finds it all the same.
        assert!(matches!(machine.found(&plain, until), Ok(Some(m)) if m.port == 40001));
        // The mount helper of amazon-efs-utils names the tunnel.
        show("127.0.0.1", "port=20049,addr=127.0.0.1");
        let taken = Failure::Taken { source: "127.0.0.1:/".into(), fstype: "nfs4".into() };
        assert_eq!(machine.mounted(&encrypted, until), Err(taken));
    }
}
