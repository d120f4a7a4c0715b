//! The real machine: each step of a share carried out on this kernel, with
//! this machine's files. The steps' own modules do the work; here they get
//! what they need, and the mount table has the last word.

use crate::appstream::{self, User};
use crate::config::{Level, Share};
use crate::files;
use crate::kernel::holders::Holder;
use crate::kernel::mount_table::{self, Entry, Standing};
use crate::kernel::route::Route;
use crate::kernel::{connections, modules, route};
use crate::net::names::{By, Found, NameError, Resolver, Stamp};
use crate::net::probe::{self, Heard};
use crate::net::reach::{self, Problem, ReachError};
use crate::retry::{Clock, Deadline};
use crate::share::client::Client;
use crate::share::locate;
use crate::share::mount_point::{self, PointError, PreparedPoint};
use crate::share::plan::{MountCall, TUNNEL};
use crate::share::worker::{self, Called, RootReport, Seen, Wanted, WorkerError};
use crate::share::{Answer, Failure, Machine, Mounted, after, release};
use crate::status::{self, record::Status};
use crate::stop::Stop;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::poll::{PollFd, PollFlags};
use nix::unistd::Pid;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// With configured addresses to fall back on, a silent name server gets this long.
const NAME_WITH_FALLBACK: Duration = Duration::from_secs(1);

/// How long the kernel may take over a mount that is being detached.
const FAREWELL: Duration = Duration::from_millis(300);

/// How long the module of the NFS client may take to be loaded.
const MODULE: Duration = Duration::from_secs(8);

/// How long a server that does not finish a mount gets to answer a NULL call.
const NULL_CALL: Duration = Duration::from_secs(1);
/// A connection to this machine itself stands in an instant.
const ON_LOOPBACK: Duration = Duration::from_millis(200);
/// A look at what is mounted that is older than this is repeated before the next mount.
const OLD: Duration = Duration::from_millis(500);
/// Less than this is no time to answer in.
const TOO_SHORT: Duration = Duration::from_millis(500);
/// So long another run gets to tell that a mount that has just come to be is its own …
const WORD: Duration = Duration::from_millis(500);
/// … for which it is looked this often.
const BETWEEN: Duration = Duration::from_millis(20);

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
    /// Who this machine is to its servers, once it was asked for.
    client: OnceLock<Client>,
    /// What was there before each share was mounted, by its mount point. Others are mounted meanwhile, side by side:
    /// what is new to one share is not to another.
    known: Mutex<BTreeMap<PathBuf, Known>>,
    /// The mount points that were made.
    pub made: Arc<Mutex<Vec<PathBuf>>>,
    /// Every port is taken that anybody can have, as the last look for a server has shown.
    lacks_ports: AtomicBool,
}

/// What was mounted before a share was, as far as was looked.
#[derive(Debug, Default)]
struct Known {
    ids: Vec<u32>,
    /// When it was looked last.
    at: Duration,
}

/// What is known of how the mount that is seen at a mount point came to be.
#[derive(Debug, Clone, Copy)]
enum Since {
    /// It was there before.
    Before,
    /// A call of mount(2) that connects there was cut off, and may have come through.
    Perhaps(SocketAddr),
    /// It was seen that it has the share's root.
    Recognized,
    /// mount(2) has said that it has mounted the share there, where nothing was.
    Now,
}

/// What a mount where nobody sees it has shown.
#[derive(Debug)]
pub struct Tried {
    /// Its root.
    pub report: RootReport,
    /// What the mount table shows instead of the share's path, if the server has led that elsewhere.
    pub led_to: Option<String>,
    /// The device of what it was compared with, if that is the same folder.
    pub same: Option<String>,
}

/// How the root of a mounted share is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// It can be used: bytes in all, and bytes free.
    Well(u64, u64),
    /// The server's answer is this error.
    Fault(Errno),
    /// There is no answer.
    Silence,
    /// Something else is seen there.
    Over,
}

impl<'a, C: Clock + Sync> Linux<'a, C> {
    /// This machine as seen from `root`, with what a run has of a clock and of signals.
    pub fn new(root: &'a Path, clock: &'a C, stop: &'a Stop) -> Self {
        let (user, client) = (OnceLock::new(), OnceLock::new());
        let (known, made, lacks_ports) = Default::default();
        Self { root, clock, stop, user, client, known, made, lacks_ports }
    }

    /// The time until `until`, which ends with this run.
    pub fn wait(&self, until: Deadline) -> Wait<'a> {
        Wait { until, clock: self.clock, stop: self.stop }
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { root: self.root, clock: self.clock, stop: self.stop }
    }

    /// The account that must be able to write, if there is one.
    pub fn user(&self) -> Option<&User> {
        self.user.get_or_init(|| appstream::streaming_user(self.root)).as_ref()
    }

    /// The bytes of the mount table of now.
    pub(crate) fn table(&self) -> Result<Vec<u8>, Failure> {
        files::whole(&self.root.join("proc/self/mountinfo")).map_err(Failure::NoTable)
    }

    /// The mount that `table` shows at the share's mount point, if it is the share's.
    fn find(
        &self,
        table: &[Entry<'_>],
        share: &Share,
        since: Since,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let Some(entry) = mount_table::top_at(table, &share.mount_point) else {
            return Ok(None);
        };
        let fresh = matches!(since, Since::Now | Since::Perhaps(_));
        let standing = match mount_table::standing(entry, share) {
            // The kernel shows what the server has made of the path: whose mount it is, is seen by the mount itself.
            Standing::Foreign if self.is_own(table, entry, share, since) => {
                mount_table::standing_of_own(entry, share)
            }
            // A server that the kernel knows by another name, and by another way perhaps: only the same can be there now.
            Standing::OtherName(_) if fresh || self.is_remembered(entry, share) => {
                mount_table::standing_of_own(entry, share)
            }
            other => other,
        };
        let differs = match standing {
            Standing::Ours(differs) => differs,
            Standing::ReadOnly => return Err(Failure::ReadOnly),
            Standing::OtherWay => return Err(Failure::OtherWay),
            Standing::Foreign => return Err(taken(entry)),
            // The tunnel's address is that of every tunnel.
            Standing::OtherName(_) if share.encryption.is_some() => return Err(taken(entry)),
            Standing::OtherName(mut differs) => {
                let until = until.within(self.clock, NAME_WITH_FALLBACK);
                let at = entry.option("addr").unwrap_or_default();
                let addresses = locate::leads_to(self, share, at, until)?.addresses;
                if !addresses.iter().any(|address| address.to_string() == at) {
                    return Err(taken(entry));
                }
                differs.push(format!("name {} instead of {}", entry.source, share.source()));
                differs
            }
        };
        Ok(Some(Mounted { already: !fresh, differs, ..mounted(entry) }))
    }

    /// Whether a mount of another path, which is seen at the share's mount point, is the share all the same.
    fn is_own(&self, table: &[Entry<'_>], entry: &Entry<'_>, share: &Share, since: Since) -> bool {
        // The run mounts only where it has found nothing: the one mount that is there then is the one that it has made.
        // Where there are two, another one was made meanwhile.
        let alone = || entry.is_nfs() && mount_table::only_at(table, &share.mount_point).is_some();
        match since {
            Since::Before => self.is_remembered(entry, share),
            Since::Now => alone(),
            Since::Recognized => true,
            // Somebody else may have mounted something while the call took its time: not from the same server.
            Since::Perhaps(to) => {
                alone()
                    && is_from(entry, share)
                    && entry.option("addr").and_then(|addr| addr.parse().ok()) == Some(to.ip())
                    && entry.port() == to.port()
            }
        }
    }

    /// The same as [`Linux::find`] of what was there before. A run that has just mounted the share, and is about to
    /// tell, is waited for.
    fn find_told(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        let patience = until.within(self.clock, WORD);
        loop {
            let bytes = self.table()?;
            let table = mount_table::parse(&bytes);
            self.know(share, &table);
            check_local(&table, share)?;
            let found = self.find(&table, share, Since::Before, until);
            let Err(Failure::Taken { .. }) = found else {
                return found;
            };
            let top = mount_table::top_at(&table, &share.mount_point);
            let may_be = top.is_some_and(|entry| entry.is_nfs() && is_from(entry, share));
            if !may_be || patience.passed(self.clock) {
                return found;
            }
            self.clock.wait(BETWEEN)?;
        }
    }

    /// Keeps in mind what is there before the share is mounted.
    fn know(&self, share: &Share, table: &[Entry<'_>]) {
        let mut all = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = all.entry(share.mount_point.clone()).or_default();
        // The kernel gives a number that is free again to the next mount: only those of now count.
        known.ids.clear();
        known.ids.extend(table.iter().map(|entry| entry.id));
        known.at = self.clock.now();
    }

    /// The same anew, where the last look is so old that somebody may have mounted something since.
    fn know_again(&self, share: &Share) {
        let looked = {
            let all = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            all.get(&share.mount_point).map_or(Duration::ZERO, |known| known.at)
        };
        if self.clock.now().saturating_sub(looked) > OLD
            && let Ok(table) = self.table()
        {
            self.know(share, &mount_table::parse(&table));
        }
    }

    /// The call as it can be carried out now: the kernel would try in vain for a port that anybody can have, where
    /// all of these are taken.
    fn fit<'c>(&self, call: &'c MountCall) -> Cow<'c, MountCall> {
        match self.lacks_ports.load(Ordering::Relaxed) {
            true => Cow::Owned(call.clone().from_reserved()),
            false => Cow::Borrowed(call),
        }
    }

    fn remembered(&self) -> Status {
        status::read(self.root)
    }

    /// What this run has made for the share is gone, or known by the mount on it.
    fn forget(&self, share: &Share) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.retain(|point| *point != share.mount_point);
    }

    /// Whether a run that was killed has made the mount point of the share, and nobody has changed it since, nor may
    /// be about to mount the share there.
    fn is_orphan(&self, share: &Share, status: &Status) -> bool {
        let mut all = status.orphans(self.root).into_iter();
        all.any(|one| one.path == share.mount_point && one.is_there(self.root))
            && status.living(self.root).is_none()
    }

    /// Whether an earlier run of this boot has mounted it as the share.
    fn is_remembered(&self, entry: &Entry<'_>, share: &Share) -> bool {
        self.remembered().mounts().any(|known| known.is(entry) && known.is_share(share))
    }

    /// The mount that is seen at the share's mount point, if it is the share's in whatever state.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::Hidden`], [`Failure::NoTable`], [`Failure::Stopped`].
    pub fn found(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = mount_table::parse(&bytes);
        check_local(&table, share)?;
        let result = self.find(&table, share, Since::Before, until);
        // A session start may mount it anew; whoever takes it down or tells of it must not overlook it.
        let hidden =
            |e: &Entry<'_>| e.mount_point == share.mount_point && e.source == share.source();
        if result == Ok(None) && table.iter().any(hidden) {
            return Err(Failure::Hidden);
        }
        if !matches!(result, Err(Failure::Name(_) | Failure::ReadOnly | Failure::OtherWay)) {
            return result;
        }
        match (mount_table::top_at(&table, &share.mount_point), result) {
            // Its server has another name, and nobody can be asked whether it is ours.
            (Some(entry), Err(Failure::Name(_))) => Err(taken(entry)),
            (entry, _) => Ok(entry.map(mounted)),
        }
    }

    /// What a call of mount(2) left behind: the share in the mount table, or `else_`. What is to go through a
    /// tunnel is seen to do so.
    fn shown(
        &self,
        share: &Share,
        call: &MountCall,
        since: Since,
        until: Deadline,
        else_: Failure,
    ) -> Result<Mounted, Failure> {
        let bytes = self.table()?;
        let table = mount_table::parse(&bytes);
        match self.find(&table, share, since, until) {
            Err(Failure::OtherWay) => Err(match mount_table::top_at(&table, &share.mount_point) {
                Some(entry) => off_way(entry, share, self.connected_to(entry.device)),
                None => Failure::OffWay(None),
            }),
            // Whether somebody else has it or the server has led the path far away is not to be told.
            Err(Failure::Taken { .. }) if matches!(since, Since::Perhaps(_)) => Err(else_),
            Ok(Some(mounted)) => {
                self.check_way(call, &mounted.device)?;
                Ok(mounted)
            }
            Ok(None) => Err(else_),
            Err(failure) => Err(failure),
        }
    }

    /// Where the kernel is connected to for the file system `device`, if it tells.
    pub fn connected_to(&self, device: &str) -> Option<SocketAddr> {
        let look = || {
            let volumes = files::whole(&self.root.join(connections::VOLUMES)).unwrap_or_default();
            connections::of_device(&volumes, device)
        };
        // It comes in pieces: a mount that ends meanwhile can make a line of another one be missed.
        look().or_else(look)
    }

    /// How the root of a mounted share is, as its server tells before `until`.
    ///
    /// # Errors
    /// [`Failure::Stopped`], [`Failure::Point`].
    pub fn root(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<Root, Failure> {
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        match worker::space(&parent, &mounted.device, until, self.clock, self.stop) {
            Ok(Ok((all, free))) => Ok(Root::Well(all, free)),
            Ok(Err(Errno::EXDEV)) => Ok(Root::Over),
            // That is the server's word. All else a soft mount says of a server that does not answer, too.
            Ok(Err(errno @ (Errno::ESTALE | Errno::EACCES | Errno::EPERM | Errno::ENOENT))) => {
                Ok(Root::Fault(errno))
            }
            Ok(Err(errno)) => {
                let until = until.max(Deadline::after(self.clock, TOO_SHORT));
                Ok(if release::Release::answers(self, mounted, until) {
                    Root::Fault(errno)
                } else {
                    Root::Silence
                })
            }
            Err(WorkerError::Stopped(stopped)) => Err(stopped.into()),
            Err(_) => Ok(Root::Silence),
        }
    }

    /// A look at the root of a mounted share, for what is to be said of it; it gets the mode `mode`.
    ///
    /// # Errors
    /// What is in the way.
    pub fn look(
        &self,
        share: &Share,
        mounted: &Mounted,
        mode: Option<u32>,
        until: Deadline,
    ) -> Result<Seen, PointError> {
        let parent = mount_point::parent(self.root, &share.mount_point)?;
        let wanted = Wanted { mode, user: &|| self.user().cloned() };
        Ok(worker::settle(&parent, &mounted.device, wanted, until, self.clock, self.stop))
    }

    /// Whether the connection of a mount leads to the port of this machine that its options name.
    pub(crate) fn is_tunnelled(&self, mounted: &Mounted) -> bool {
        self.connected_to(&mounted.device) == Some(SocketAddr::new(TUNNEL, mounted.port))
    }

    fn check_way(&self, call: &MountCall, device: &str) -> Result<(), Failure> {
        if !call.is_tunnelled() {
            return Ok(());
        }
        match self.connected_to(device) {
            Some(to) if to == call.connects_to => Ok(()),
            other => Err(Failure::OffWay(other)),
        }
    }

    /// A mount that came to be where nobody looks for it (the folder was moved while we mounted on
    /// it) is taken away again: the one of our source that was not there before. One that is on the connection
    /// of another mount (`off_way`) may have that one's source.
    fn take_away(&self, share: &Share, off_way: bool) {
        let all = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = all.get(&share.mount_point).map_or(&[][..], |known| &known.ids);
        let bytes = self.table().unwrap_or_default();
        let table = mount_table::parse(&bytes);
        let new = |entry: &&Entry<'_>| !known.contains(&entry.id);
        let is_ours = |entry: &&Entry<'_>| {
            entry.source == share.source() || off_way && entry.mount_point == share.mount_point
        };
        for entry in table.iter().filter(new).filter(is_ours) {
            // In a child: it may wait for the server, and is not to follow what a user puts in its way.
            if let Ok(parent) = mount_point::parent(self.root, &entry.mount_point) {
                let until = Deadline::after(self.clock, FAREWELL);
                let (device, how) = (entry.device, MntFlags::MNT_DETACH);
                let _ = worker::unmount(&parent, device, how, until, self.clock, self.stop);
            }
        }
    }

    /// What the server makes of an NFS NULL call before `until`, or before `child` has something to
    /// say; nothing where that is too short a time to tell.
    fn null_call(
        &self,
        call: &MountCall,
        until: Deadline,
        child: Option<BorrowedFd<'_>>,
    ) -> Option<Heard> {
        if until.left(self.clock) < TOO_SHORT {
            return None;
        }
        probe::null_call(call.connects_to, child, self.wait(until))
    }

    /// What it means that mount(2) said `errno`, where that has several causes.
    fn refused(&self, share: &Share, call: &MountCall, errno: Errno) -> Failure {
        let address = call.address;
        match errno {
            // What the kernel says of a server without 4.1, it says of its own missing module too.
            Errno::EPROTONOSUPPORT if !self.root.join("sys/module/nfsv4").exists() => {
                let forbidden = modules::forbidden(self.root).map(Failure::ModuleForbidden);
                forbidden.unwrap_or(Failure::NoModule)
            }
            Errno::ENODEV => match modules::forbidden(self.root) {
                Some(place) => Failure::ModuleForbidden(place),
                None => Failure::Mount(address, errno),
            },
            Errno::EACCES | Errno::EPERM if self.forbids(share, call) => Failure::Forbidden(errno),
            // What it says of an option that it does not know, it says of a blackhole route too.
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

    /// Whether the share has options that only SELinux takes, and it is off, or not there.
    fn lacks_selinux(&self, share: &Share) -> bool {
        share.options.contexts().next().is_some()
            && fs::read_to_string(self.root.join("proc/filesystems"))
                .is_ok_and(|known| !known.lines().any(|line| line.ends_with("\tselinuxfs")))
    }

    /// Whether this machine itself forbids the call: a security module, or a unit's filter.
    fn forbids(&self, share: &Share, call: &MountCall) -> bool {
        let Ok(parent) = mount_point::parent(self.root, &share.mount_point) else {
            return false;
        };
        let until = Deadline::after(self.clock, TOO_SHORT);
        let asked = worker::forbidden(call, &parent, until, self.clock, self.stop);
        matches!(asked, Ok(Some(_)))
    }

    /// What it means that a call which goes through a tunnel has failed: the way to the tunnel may be closed here,
    /// while the tunnel has all that it needs.
    fn on_loopback(&self, call: &MountCall, failure: Failure) -> Failure {
        let network = match &failure {
            Failure::CutOff(..) => true,
            // That of mount(2) is the server's word.
            Failure::Mount(_, Errno::EACCES | Errno::EPERM) => false,
            Failure::Mount(_, errno) => failure.wants_null_call() || is_no_way(*errno),
            _ => false,
        };
        if !call.is_tunnelled() || !network {
            return failure;
        }
        // "0x9": IFF_UP and IFF_LOOPBACK.
        let flags =
            fs::read_to_string(self.root.join("sys/class/net/lo/flags")).unwrap_or_default();
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16);
        if flags.is_ok_and(|flags| flags & 1 == 0) {
            return Failure::Loopback(None);
        }
        let connects = match sys::connect_tcp_from_reserved(call.connects_to) {
            Err(errno) => !is_no_way(errno),
            Ok(stream) => {
                let fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
                match self.stop.poll(&fds, ON_LOOPBACK) {
                    // What listens nowhere is turned down, and that is another matter.
                    Ok(ready) if ready.contains(&true) => {
                        let errno = stream.take_error().ok().flatten();
                        let errno = errno.and_then(|e| e.raw_os_error()).map(Errno::from_raw);
                        !errno.is_some_and(is_no_way)
                    }
                    Ok(_) => false,
                    Err(_) => true,
                }
            }
        };
        match connects {
            true => failure,
            false => Failure::Loopback(Some(call.connects_to.port())),
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
    ) -> Result<Tried, Failure> {
        self.trial_beside(share, call, None, until)
    }

    /// The same, and whether what is seen `beside` it is the same folder.
    fn trial_beside(
        &self,
        share: &Share,
        call: &MountCall,
        beside: Option<&mount_point::Parent>,
        until: Deadline,
    ) -> Result<Tried, Failure> {
        let call = &*self.fit(call);
        let started = self.clock.now();
        let address = call.address;
        let heard = || self.null_call(call, Deadline::after(self.clock, NULL_CALL), None);
        let mut way = Ok(None);
        let mut same = None;
        let mut shown = |process: Pid, device: &str, other: Option<&str>| {
            let volumes =
                || files::whole(&self.root.join(connections::VOLUMES)).unwrap_or_default();
            let is_one =
                |other: &&str| device == *other || connections::is_one(&volumes(), (device, other));
            same = other.filter(is_one).map(str::to_owned);
            let table = self.root.join("proc").join(process.to_string()).join("mountinfo");
            let bytes = files::whole(&table).unwrap_or_default();
            let table = mount_table::parse(&bytes);
            let entry = table.iter().rev().find(|entry| entry.device == device);
            way = match (self.check_way(call, device), entry) {
                (Err(Failure::OffWay(to)), Some(entry)) => Err(off_way(entry, share, to)),
                (Err(failure), _) => Err(failure),
                (Ok(()), entry) => {
                    Ok(entry.and_then(|entry| mounted(entry).led_to(share).map(str::to_owned)))
                }
            };
        };
        let user = self.user();
        let tried = worker::trial(call, user, beside, until, self.clock, self.stop, &mut shown);
        let failure = match tried {
            Ok(Ok(report)) => return way.map(|led_to| Tried { report, led_to, same }),
            Ok(Err(errno)) => self.refused(share, call, errno),
            Err(WorkerError::CutOff) => {
                Failure::CutOff(address, self.clock.now().saturating_sub(started))
            }
            Err(WorkerError::Stopped(stopped)) => return Err(stopped.into()),
            Err(WorkerError::HostName(errno)) => return Err(Failure::NoHostName(errno)),
            Err(error) => return Err(Failure::Worker(error)),
        };
        let failure = self.on_loopback(call, failure);
        match failure.wants_null_call().then(heard).flatten() {
            Some(heard) => Err(Failure::Probed(failure.into(), heard)),
            None => Err(failure),
        }
    }
}

/// Whether the mount point can be looked at without asking a server that may be dead.
fn check_local(table: &[Entry<'_>], share: &Share) -> Result<(), Failure> {
    match mount_table::remote_above(table, &share.mount_point) {
        None => Ok(()),
        Some(entry) => Err(Failure::Point(PointError::Remote {
            path: share.mount_point.clone(),
            remote: format!("{} ({})", entry.source, entry.fstype),
        })),
    }
}

impl<C: Clock + Sync> Machine for Linux<'_, C> {
    type Point = PreparedPoint;

    fn client(&self) -> &Client {
        let load = || {
            // As long as a mount would wait for it; that is said then.
            let until = Deadline::after(self.clock, MODULE);
            let _ = worker::load(c"nfs4", until, self.clock, self.stop);
        };
        self.client.get_or_init(|| Client::establish(self.root, &load))
    }

    fn mounted(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        self.find_told(share, until)
    }

    fn recognized(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = mount_table::parse(&bytes);
        // Where the path is the share's, the name tells, or the address.
        let top = mount_table::top_at(&table, &share.mount_point);
        let Some(entry) = top.filter(|e| e.is_nfs() && !mount_table::has_path(&e.source, share))
        else {
            return Ok(None);
        };
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        match self.trial_beside(share, call, Some(&parent), until)?.same {
            Some(device) if device == entry.device => {
                self.find(&table, share, Since::Recognized, until)
            }
            _ => Ok(None),
        }
    }

    fn responds(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Answer, Failure> {
        match self.root(share, mounted, until)? {
            Root::Well(..) => Ok(Answer::Well),
            Root::Fault(errno) => Ok(Answer::Fault(errno)),
            Root::Silence => Ok(Answer::Silence),
            Root::Over => Err(Failure::Hidden),
        }
    }

    fn held_by(&self, share: &Share) -> Vec<Holder> {
        release::Release::holders(self, share)
    }

    fn leads_to(&self, mounted: &Mounted) -> Option<SocketAddr> {
        self.connected_to(&mounted.device)
    }

    fn detach(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<(), Failure> {
        // The mount is off the table at once, but the call then waits for the server to say good-bye.
        let patience = until.within(self.clock, FAREWELL);
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        let (device, how) = (&mounted.device, MntFlags::MNT_DETACH);
        if let Err(WorkerError::Stopped(stopped)) =
            worker::unmount(&parent, device, how, patience, self.clock, self.stop)
        {
            return Err(stopped.into());
        }
        match mount_table::parse(&self.table()?).iter().any(|entry| entry.id == mounted.id) {
            true => Err(Failure::Dead(mounted.address.clone())),
            false => {
                // The kernel gives a number that is free again to the next mount.
                let mut all = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                for known in all.values_mut() {
                    known.ids.retain(|id| *id != mounted.id);
                }
                Ok(())
            }
        }
    }

    fn prepare(&self, share: &Share) -> Result<PreparedPoint, Failure> {
        let point = mount_point::prepare(self.root, &share.mount_point, share.mode)
            .map_err(Failure::Point)?;
        if point.is_ours() {
            let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.push(share.mount_point.clone());
        }
        Ok(point)
    }

    fn route(&self, to: SocketAddr) -> Option<Route> {
        route::to(self.root, to)
    }

    fn discard(&self, share: &Share, point: PreparedPoint) {
        let is_ours = point.is_ours();
        point.discard();
        self.forget(share);
        if !is_ours && self.is_orphan(share, &self.remembered()) {
            let _ = mount_point::remove(self.root, &share.mount_point);
        }
    }

    fn abandon(&self, share: &Share, made: bool) {
        let status = self.remembered();
        if made || status.made(share) || self.is_orphan(share, &status) {
            // Not empty: files were in it before the share was, and stay.
            let _ = mount_point::remove(self.root, &share.mount_point);
        }
        self.forget(share);
    }

    fn resolve(&self, share: &Share, until: Deadline) -> Result<Found, Failure> {
        let resolver = self.resolver();
        if share.addresses.is_empty() {
            return Ok(resolver.resolve(&share.endpoint, until)?);
        }
        match resolver.resolve(&share.endpoint, until.within(self.clock, NAME_WITH_FALLBACK)) {
            Ok(mut found) => {
                found.list(&share.addresses);
                Ok(found)
            }
            Err(NameError::Stopped(stopped)) => Err(stopped.into()),
            Err(e) => Ok(Found::new(share.addresses.clone(), By::Listed(e))),
        }
    }

    fn further(
        &self,
        share: &Share,
        found: &Found,
        until: Deadline,
    ) -> Result<Option<Vec<IpAddr>>, Failure> {
        Ok(self.resolver().further(&share.endpoint, found, until)?)
    }

    fn past_hosts(&self, share: &Share, ipv6: bool, until: Deadline) -> Result<Found, NameError> {
        self.resolver().past_hosts(&share.endpoint, ipv6, until)
    }

    fn names_stamp(&self) -> Stamp {
        Resolver::stamp(self.root)
    }

    fn reach(
        &self,
        share: &Share,
        addresses: &[IpAddr],
        until: Deadline,
    ) -> Result<IpAddr, Failure> {
        let port = share.options.port;
        let reached = reach::first_that_answers(addresses, port, self.wait(until))?;
        let (address, from_reserved) = reached;
        self.lacks_ports.store(from_reserved, Ordering::Relaxed);
        Ok(address)
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
        self.know_again(share);
        let call = &*self.fit(call);
        let hides = !point.is_ours() && mount_point::is_empty(point) == Some(false);
        let started = self.clock.now();
        let mut heard = None;
        // While the kernel waits for the server, so can we: it costs no time.
        let mut ask = |child: BorrowedFd<'_>| {
            let patience = silence.map_or(until, |span| until.within(self.clock, span));
            heard = self.null_call(call, patience, Some(child));
            silence.is_some() && heard == Some(Heard::Nothing)
        };
        let mut found = None;
        let mut shown = || {
            let mounted = self.shown(share, call, Since::Now, until, Failure::NotShown);
            // Where the mode of the root is to be set, it must be the root of the server that was asked.
            let changes =
                |mounted: &&Mounted| share.root_mode.is_none() || !strays(share, call, mounted);
            let device =
                mounted.as_ref().ok().filter(changes).map(|mounted| mounted.device.clone());
            found = Some(mounted);
            device
        };
        let wanted = Wanted { mode: share.root_mode, user: &|| self.user().cloned() };
        let perhaps = Since::Perhaps(call.connects_to);
        let returned =
            worker::mount(call, point, wanted, until, self.clock, self.stop, &mut ask, &mut shown);
        let result = match returned {
            Ok(Called { returned: Ok(0), named, root }) => {
                // One that the attempt's end cut off has the run's time left to look again.
                let root = root.filter(|seen| *seen != Err(WorkerError::CutOff));
                let mounted = found.unwrap_or(Err(Failure::NotShown));
                mounted.map(|mounted| Mounted { root, nameless: named.err(), ..mounted })
            }
            Ok(Called { returned: Ok(other), .. }) => Err(Failure::Odd(other)),
            // Another run was quicker.
            Ok(Called { returned: Err(Errno::EBUSY), .. }) => {
                let busy = Failure::Mount(call.address, Errno::EBUSY);
                let found = self.find_told(share, until)?.ok_or(busy)?;
                if share.encryption.is_some() && !self.is_tunnelled(&found) {
                    return Err(Failure::OtherWay);
                }
                Ok(found)
            }
            Ok(Called { returned: Err(errno), .. }) => Err(self.refused(share, call, errno)),
            Err(WorkerError::HostName(errno)) => Err(Failure::NoHostName(errno)),
            // Made anew, it is either good or what is in the way is named.
            Err(WorkerError::Target(_)) => Err(Failure::PointGone),
            // It may have come through at the last moment.
            Err(WorkerError::CutOff) => {
                let span = self.clock.now().saturating_sub(started);
                self.shown(share, call, perhaps, until, Failure::CutOff(call.address, span))
            }
            Err(WorkerError::Stopped(_)) => {
                self.shown(share, call, perhaps, until, Failure::Stopped(None))
            }
            Err(error) => self.shown(share, call, perhaps, until, Failure::Worker(error)),
        };
        match result.map_err(|failure| self.on_loopback(call, failure)) {
            // The folder may be the one that this run made, for all that.
            Ok(mounted) if mounted.already => {
                self.forget(share);
                Ok(Mounted { made: point.is_ours(), over: point.was_there, ..mounted })
            }
            // Nobody would have his files by it, and a later run might take it for good.
            Ok(mounted) => {
                let seen = mounted.root.and_then(Result::ok);
                if let Some(errno) = seen.and_then(|seen| seen.fault()) {
                    self.detach(share, &mounted, Deadline::after(self.clock, FAREWELL))?;
                    return Err(Failure::BadRoot(call.address, errno));
                }
                self.forget(share);
                Ok(Mounted { hides, made: point.is_ours(), over: point.was_there, ..mounted })
            }
            Err(failure) if failure.wants_null_call() => {
                // What was silent a while ago, and then said no, may have found its voice.
                let stale = |heard: &Heard| *heard == Heard::Nothing && !failure.is_by_time();
                let soon = until.within(self.clock, NULL_CALL);
                let ask = || self.null_call(call, soon, None);
                Err(match heard.filter(|heard| !stale(heard)).or_else(ask) {
                    Some(heard) => Failure::Probed(Box::new(failure), heard),
                    None => failure,
                })
            }
            Err(failure) => {
                if let Failure::NotShown | Failure::OffWay(_) | Failure::Referred { .. } = failure {
                    self.take_away(share, failure != Failure::NotShown);
                }
                Err(failure)
            }
        }
    }

    fn settle(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Vec<(Level, String)>, Failure> {
        after::set_read_ahead(self.root, mounted);
        let look = || self.look(share, mounted, share.root_mode, until);
        let mut notes = match mounted.root.map_or_else(look, Ok) {
            Ok(seen) => {
                if let Some(errno) = seen.ok().and_then(|root| root.fault()) {
                    return Err(Failure::Unusable(mounted.address.clone(), errno));
                }
                let refused = matches!(seen, Ok(root) if root.writable.is_err());
                after::notes(share, if refused { self.user() } else { None }, seen)
            }
            Err(e) => vec![(Level::Warning, e.to_string())],
        };
        let in_others_hands = mount_point::in_others_hands(self.root, &share.mount_point);
        notes.extend(in_others_hands.map(|text| (Level::Warning, text)));
        if self.lacks_ports.load(Ordering::Relaxed) && share.encryption.is_none() {
            let text = "other programs of this machine have taken every port for connections (net.ipv4.ip_local_port_range): \
                        the share is mounted from a port that root alone can have";
            notes.push((Level::Warning, text.into()));
        }
        Ok(notes)
    }
}

/// Whether a connection that fails with it was not turned down by whom it is to, but here or on the way.
fn is_no_way(errno: Errno) -> bool {
    let no_way =
        [Errno::ENETUNREACH, Errno::EHOSTUNREACH, Errno::ENETDOWN, Errno::EACCES, Errno::EPERM];
    no_way.contains(&errno) || errno == Errno::EADDRNOTAVAIL
}

/// What a line of the mount table tells of a mount of NFS.
fn mounted(entry: &Entry<'_>) -> Mounted {
    Mounted {
        id: entry.id,
        source: entry.source.to_string(),
        address: entry.option("addr").unwrap_or("?").to_owned(),
        version: entry.option("vers").unwrap_or("?").to_owned(),
        device: entry.device.to_owned(),
        rsize: entry.option("rsize").and_then(|n| n.parse().ok()).unwrap_or(0),
        already: true,
        anew: false,
        differs: Vec::new(),
        hides: false,
        made: false,
        over: None,
        port: entry.port(),
        peer: None,
        root: None,
        nameless: None,
        doubt: None,
    }
}

/// Whether it is from the share's server, by the name that the kernel shows.
fn is_from(entry: &Entry<'_>, share: &Share) -> bool {
    let source = share.source();
    let server = source.strip_suffix(share.path.as_str()).unwrap_or(&source);
    entry.source.starts_with(server)
}

/// Whether the server has led the mount to another one: a referral shows that one's name and address.
pub fn strays(share: &Share, call: &MountCall, mounted: &Mounted) -> bool {
    !shows_name(share, mounted) && mounted.address != call.connects_to.ip().to_string()
}

/// Whether the mount table shows the share's own name for the server.
pub fn shows_name(share: &Share, mounted: &Mounted) -> bool {
    let source = share.source();
    let server = source.strip_suffix(share.path.as_str()).unwrap_or(&source);
    mounted.source.starts_with(server)
}

/// What it means that a mount of the share's is not on its way, and connected `to` something else.
fn off_way(entry: &Entry<'_>, share: &Share, to: Option<SocketAddr>) -> Failure {
    // One that is on the connection of another mount shows the tunnel nevertheless.
    let elsewhere = share.encryption.is_some() && !mount_table::is_tunnelled(entry, share);
    match elsewhere && !mount_table::has_path(&entry.source, share) {
        true => Failure::Referred { source: entry.source.to_string(), to },
        false => Failure::OffWay(to),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::share_of;
    use crate::retry::test::VirtualClock;
    use crate::stop::SystemClock;

    #[test]
    fn a_loopback_that_is_down_is_not_told_as_the_servers_fault() {
        let dir = tempfile::tempdir().unwrap();
        let (clock, stop) = (VirtualClock::default(), Stop::install().unwrap());
        let machine = Linux::new(dir.path(), &clock, &stop);
        let server: IpAddr = "10.0.1.12".parse().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let share = crate::config::test::encrypted_share("");
        let call = crate::share::plan::tunnelled_call(&share, port, server, Client::fake());
        let plain = crate::share::plan::mount_call(&share, server, Client::fake());
        let lo = dir.path().join("sys/class/net/lo");
        fs::create_dir_all(&lo).unwrap();
        let cut_off = || Failure::CutOff(server, Duration::from_secs(10));
        let no_way = || Failure::Mount(server, Errno::ENETUNREACH);
        fs::write(lo.join("flags"), "0x9\n").unwrap();
        for failure in [cut_off(), no_way()] {
            assert_eq!(machine.on_loopback(&call, failure.clone()), failure, "all is well here");
        }
        fs::write(lo.join("flags"), "0x8\n").unwrap();
        for failure in [cut_off(), no_way(), Failure::Mount(server, Errno::EIO)] {
            assert_eq!(machine.on_loopback(&call, failure.clone()), Failure::Loopback(None));
            assert_eq!(machine.on_loopback(&plain, failure.clone()), failure);
        }
        let denied = Failure::Mount(server, Errno::EACCES);
        assert_eq!(machine.on_loopback(&call, denied.clone()), denied, "the server has spoken");
        let missing = Failure::Mount(server, Errno::ENOENT);
        assert_eq!(machine.on_loopback(&call, missing.clone()), missing, "the server has spoken");
    }

    #[test]
    fn the_right_to_mount_is_that_of_the_effective_set() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
        assert_eq!(sys::capabilities(), Some(effective));
        assert_eq!(crate::kernel::namespace::may_mount(), effective & 1 << 21 != 0);
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

    /// A machine whose mount table is what a test says.
    fn with_table(f: impl FnOnce(&Linux<'_, VirtualClock>, &dyn Fn(&str))) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let show = |more: &str| {
            let table = format!("1 0 8:1 / / rw - ext4 a rw\n{more}");
            fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
        };
        let (stop, clock) = (Stop::install().unwrap(), VirtualClock::default());
        f(&Linux::new(dir.path(), &clock, &stop), &show);
    }

    const LED: &str = "5 1 0:31 / /m rw,nosuid,nodev - nfs4 fs-1.example:/releases/1 rw,vers=4.1,hard,noresvport,timeo=600,retrans=2,addr=10.0.0.1\n";

    #[test]
    fn what_the_run_has_mounted_is_its_own_wherever_the_server_leads_the_path() {
        with_table(|machine, show| {
            let share = share_of(
                "[[share]]\nendpoint = \"fs-1.example\"\npath = \"/current\"\nmount_point = \"/m\"\n",
            );
            let until = Deadline::after(machine.clock, Duration::from_secs(9));
            let from = |address: &str| Since::Perhaps(address.parse().unwrap());
            let seen = |since| {
                let bytes = machine.table().unwrap();
                machine.find(&mount_table::parse(&bytes), &share, since, until)
            };
            let taken =
                |source: &str| Err(Failure::Taken { source: source.into(), fstype: "nfs4".into() });
            show(LED);
            let found = seen(Since::Now).unwrap().unwrap();
            assert_eq!((found.id, found.already, found.differs.len()), (5, false, 0));
            assert_eq!(found.led_to(&share), Some("fs-1.example:/releases/1"));
            assert_eq!(seen(Since::Before), taken("fs-1.example:/releases/1"));
            // A call that was cut off may have been another's: only what is from where it was to go is its own.
            assert!(seen(from("10.0.0.1:2049")).is_ok());
            for other in ["10.0.0.2:2049", "10.0.0.1:2050"] {
                assert_eq!(seen(from(other)), taken("fs-1.example:/releases/1"), "{other}");
            }
            show(&LED.replace("fs-1.example:", "fs-2.example:"));
            assert_eq!(seen(from("10.0.0.1:2049")), taken("fs-2.example:/releases/1"));
            // A referral has another server too.
            show(&LED.replace("fs-1.example:/releases", "fs-2:/data").replace("0.0.1", "0.0.3"));
            assert!(seen(Since::Now).is_ok_and(|found| found.is_some()));
            assert_eq!(seen(from("10.0.0.1:2049")), taken("fs-2:/data/1"));
            // Of two, one is somebody's; and what is no NFS is not what mount(2) was asked for.
            show(&format!("{LED}6 5 0:32 / /m rw - nfs4 fs-1.example:/home rw,addr=10.0.0.1\n"));
            assert_eq!(seen(Since::Now), taken("fs-1.example:/home"));
            show(&LED.replace("nfs4", "tmpfs"));
            assert!(matches!(seen(Since::Now), Err(Failure::Taken { .. })));
        });
    }

    #[test]
    fn what_leads_out_of_a_tunnel_is_told_from_what_is_on_another_connection() {
        let share = crate::config::test::encrypted_share("path = \"/current\"");
        let entry = |place: &str| {
            let text = format!("5 1 0:31 / /m rw - nfs4 fs:/data rw,{place}\n");
            let table = mount_table::parse(text.as_bytes());
            off_way(&table[0], &share, None)
        };
        let referred = Failure::Referred { source: "fs:/data".into(), to: None };
        assert_eq!(entry("addr=10.0.0.3"), referred);
        assert_eq!(entry("port=40001,addr=127.0.0.1"), Failure::OffWay(None));
        let same = "5 1 0:31 / /m rw - nfs4 fs:/current rw,addr=10.0.0.3\n";
        assert_eq!(
            off_way(&mount_table::parse(same.as_bytes())[0], &share, None),
            Failure::OffWay(None)
        );
    }

    #[test]
    fn a_share_does_not_take_what_another_one_has_mounted_for_what_was_there_before() {
        with_table(|machine, show| {
            let share = |point: &str| {
                share_of(&format!("[[share]]\nendpoint = \"a\"\nmount_point = \"{point}\"\n"))
            };
            let (one, two) = (share("/m"), share("/n"));
            let until = Deadline::after(machine.clock, Duration::from_secs(9));
            show("");
            assert_eq!(machine.mounted(&one, until), Ok(None));
            // It is up, and the other share, of another server, is only looked for now.
            show(LED);
            assert_eq!(machine.mounted(&two, until), Ok(None));
            let known = machine.known.lock().unwrap();
            let has = |point: &str| known[Path::new(point)].ids.contains(&5);
            assert!(!has("/m"), "its own mount would stay where it must be taken away");
            assert!(has("/n"));
        });
    }

    #[test]
    fn another_run_that_has_just_mounted_the_share_gets_the_time_to_say_so() {
        with_table(|machine, show| {
            let share = |path: &str| {
                share_of(&format!(
                    "[[share]]\nendpoint = \"fs-1.example\"\npath = \"{path}\"\nmount_point = \"/m\"\n"
                ))
            };
            let until = Deadline::after(machine.clock, Duration::from_secs(9));
            show(&LED.replace("fs-1", "fs-2"));
            assert!(matches!(machine.mounted(&share("/x"), until), Err(Failure::Taken { .. })));
            assert_eq!(machine.clock.now(), Duration::ZERO, "of another server, it is nobody's");
            show(LED);
            assert!(matches!(machine.mounted(&share("/x"), until), Err(Failure::Taken { .. })));
            let waited = machine.clock.now();
            assert!(waited >= WORD && waited < WORD + BETWEEN * 2, "{waited:?}");
        });
    }

    #[test]
    fn what_somebody_else_mounts_between_two_attempts_is_his() {
        with_table(|machine, show| {
            let share = share_of("[[share]]\nendpoint = \"a\"\n");
            let known = || machine.known.lock().unwrap()[&share.mount_point].ids.contains(&77);
            show("");
            let until = Deadline::after(machine.clock, Duration::from_secs(1));
            assert_eq!(machine.mounted(&share, until), Ok(None));
            show("77 1 0:31 / /home/a rw - nfs4 a:/ rw,addr=10.0.0.1\n");
            machine.know_again(&share);
            assert!(!known(), "the table was read for nothing: it may be the run's own");
            machine.clock.wait(OLD + Duration::from_millis(1)).unwrap();
            machine.know_again(&share);
            assert!(known());
        });
    }
}
