//! Runs what may block without end, mount(2) and the first look at what it
//! mounted, in a child that can be killed. Decides nothing: it tells what the
//! child reported before it ended or was cut off.

use crate::appstream::User;
use crate::retry::{Clock, Deadline, Span, Stopped};
use crate::share::mount_point::{Parent, PreparedPoint};
use crate::share::plan::MountCall;
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, major, minor, stat};
use nix::sys::statfs::fstatfs;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{AccessFlags, Pid, faccessat, fchdir, read, sync, syncfs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a killed child is waited for: mount(2) lets go within 15 ms of SIGKILL.
const REAP: Duration = Duration::from_millis(80);
/// A child that takes longer than this leaves its parent time for something else.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than any message has, in bytes: a user of many groups makes the longest.
const LONGEST: usize = 1024;
/// What the parent asks of a child that has looked at a root: to set the mode that follows …
const SET: i32 = 1;
/// … or whether the user may write whose id, group and further groups follow.
const MAY_WRITE: i32 = 2;

/// Why a child's report is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// It could not be started.
    #[error("cannot start a process: {0}")]
    Fork(Errno),
    /// Its time was up, and it was killed.
    #[error("cut off when its time was up")]
    CutOff,
    /// The mount point is not there, or no folder, any more.
    #[error("the mount point cannot be opened: {0}")]
    Target(Errno),
    /// It may not have a host name of its own, without which the kernel would not part its way from others.
    #[error("a host name of its own is refused: {0}")]
    HostName(Errno),
    /// It ended without a report (somebody killed it).
    #[error("the process that mounts was killed")]
    Died,
    /// The run was told to end, and it was killed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What came of a call of mount(2).
pub struct Called {
    /// What it returned: a number that should be 0, or the errno.
    pub returned: Result<i32, Errno>,
    /// Whether it was made under the host name of its way; it is made without that only where it is plain.
    pub named: Result<(), Errno>,
    /// What was seen of the root, where there was time to look.
    pub root: Option<Seen>,
}

/// What was seen of, and done to, the root of a mounted share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootReport {
    /// errno of opening it. The rest is known all the same where that is a matter of rights.
    pub opened: Result<(), Errno>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode, after it was set.
    pub mode: u32,
    /// Whether it is on the file system that was mounted, and not on one put over it.
    pub is_the_share: bool,
    /// errno of setting the mode; nothing where that was not needed.
    pub set: Result<(), Errno>,
    /// Whether the streaming user may write in it; nothing where there is no such user.
    pub writable: Result<(), Errno>,
}

impl RootReport {
    /// What is wrong with a root that cannot be used by anybody.
    pub fn fault(&self) -> Option<Errno> {
        self.opened.err().filter(|errno| !is_of_rights(*errno))
    }
}

/// Whether root alone may be kept out: a server that squashes root, and a folder that is a user's own.
fn is_of_rights(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// What is wanted of the root of a share.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The mode that it is given if it has another.
    pub mode: Option<u32>,
    /// Who must be able to write, if there is such an account: asked for only where the mode does not
    /// let everybody write.
    pub user: &'a dyn Fn() -> Option<User>,
}

/// In the child, before mount(2): the host name of the call's way. 0, or the errno.
fn take_name(call: &MountCall) -> i32 {
    code(sys::take_host_name(&call.host_name))
}

/// Carries out `call` on `point`, for at most until `until`. If it takes long, `meanwhile` is called
/// once; it is given what becomes readable when the call has ended, must return soon after that, and
/// says whether the call is to be cut off.
///
/// Where mount(2) returns 0, `shown` says which file system the mount table shows there now, while the
/// same child looks at the root already; what is `wanted` of that file system alone is then done.
///
/// # Errors
/// See [`WorkerError`]; the mount may have happened all the same: ask the mount table.
#[allow(clippy::too_many_arguments)]
pub fn mount(
    call: &MountCall,
    point: &PreparedPoint,
    wanted: Wanted<'_>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
    meanwhile: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
    shown: &mut dyn FnMut() -> Option<String>,
) -> Result<Called, WorkerError> {
    let job = |reply: BorrowedFd<'_>| {
        // By its descriptor, not by its path: what is opened here, in the folder that was checked
        // and without following a symlink, is what is mounted on.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let parent = &*point.parent.folder;
        let target = openat(parent, point.parent.name.as_c_str(), flags, Mode::empty());
        if let Err(errno) = target.and_then(|target| fchdir(&target)) {
            return send(reply, [errno as i32, 0, 0, 0]);
        }
        let named = take_name(call);
        if named != 0 && call.is_tunnelled() {
            return send(reply, [0, named, 0, 0]);
        }
        let returned = sys::mount(&call.source, c".", c"nfs4", call.flags, &call.data);
        // ENOENT may also mean that the target was removed just now.
        let removed = || stat(c".").is_ok_and(|folder| folder.st_nlink == 0);
        let gone = returned == Err(Errno::ENOENT) && removed();
        let opened = if gone { Errno::ENOENT as i32 } else { 0 };
        send(reply, [opened, named, returned.unwrap_or(0), code(returned.map(drop))]);
        if returned == Ok(0) {
            visit(reply, &point.parent, wanted.mode);
        }
    };
    let mut job = Job::start(until, clock, stop, job)?;
    let report = job.report(meanwhile)?;
    let [opened, named, returned, errno] = received(&report).ok_or(WorkerError::Died)?;
    result(opened).map_err(WorkerError::Target)?;
    let named = result(named);
    if call.is_tunnelled() {
        named.map_err(WorkerError::HostName)?;
    }
    let returned = result(errno).map(|()| returned);
    job.listens = returned == Ok(0);
    let device = if job.listens { shown() } else { None };
    let root = device.map(|device| job.visited(&device, wanted));
    Ok(Called { returned, named, root })
}

/// The errno with which this machine forbids `call` on the folder `name` of `parent`, or on that folder itself; none
/// where it lets it through. The kernel is given options that it does not take, and says that of a call that nothing
/// has forbidden: nothing is mounted, and nothing sent.
///
/// # Errors
/// See [`WorkerError`].
pub fn forbidden(
    call: &MountCall,
    parent: &Parent,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Option<Errno>, WorkerError> {
    let report = run(until, clock, stop, |reply| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let target = openat(&*parent.folder, parent.name.as_c_str(), flags, Mode::empty());
        let there = match target {
            Ok(target) => fchdir(&target),
            Err(_) => fchdir(&*parent.folder),
        };
        let tried = there.map(|()| sys::mount(&call.source, c".", c"nfs4", call.flags, ODD));
        send(reply, [code(tried.and_then(|returned| returned).map(drop))]);
    })?;
    let [errno] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno).err().filter(|errno| is_of_rights(*errno)))
}

/// No option of NFS, and no address: EINVAL on every kernel.
const ODD: &CStr = c"efs-agent-asks-whether-it-may";

/// What a child has seen of a share's root, or why there is nothing to tell.
pub type Seen = Result<RootReport, WorkerError>;

/// Looks at the root of what is mounted as `point`, the file system `device`, and does what is
/// `wanted` of it; all for at most until `until`.
///
/// # Errors
/// See [`WorkerError`].
pub fn settle(
    point: &Parent,
    device: &str,
    wanted: Wanted<'_>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<RootReport, WorkerError> {
    let job = |reply: BorrowedFd<'_>| visit(reply, point, wanted.mode);
    Job::start(until, clock, stop, job)?.visited(device, wanted)
}

/// In the child: tells what the root is like, and does what the parent asks of it, until it hangs up.
fn visit(parent: BorrowedFd<'_>, point: &Parent, wanted: Option<u32>) {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = |how| openat(&*point.folder, point.name.as_c_str(), flags | how, Mode::empty());
    // Of the last thing that was done: it is opened, it has its mode.
    let mut set = Ok(());
    let root = open(OFlag::O_RDONLY).or_else(|errno| {
        set = Err(errno);
        if is_of_rights(errno) { open(OFlag::O_PATH) } else { Err(errno) }
    });
    let root = match root {
        Ok(root) => root,
        Err(errno) => return send(parent, [errno as i32, 0, 0, 0, 0, 0, 0]),
    };
    loop {
        let stat = match fstat(&root) {
            Ok(stat) => stat,
            Err(errno) => break send(parent, [errno as i32, 0, 0, 0, 0, 0, 0]),
        };
        let mode = stat.st_mode & 0o7777;
        // What is left to forbid it (a policy, a read-only export) forbids it to root too.
        let writable = if lets_all_write(mode) { accessible(&root) } else { Ok(()) };
        let device = (major(stat.st_dev) as i32, minor(stat.st_dev) as i32);
        let (uid, gid) = (stat.st_uid as i32, stat.st_gid as i32);
        send(parent, [code(set), uid, gid, mode as i32, device.0, device.1, code(writable)]);
        if is_as(mode, wanted) && lets_all_write(mode) {
            break; // then nothing more is asked
        }
        let mut bytes = [0; LONGEST];
        let got = read(parent, &mut bytes).unwrap_or(0);
        let mut words = bytes.get(..got).unwrap_or_default().as_chunks::<4>().0.iter();
        let mut word = || words.next().map(|word| i32::from_ne_bytes(*word));
        match (word(), word(), word()) {
            (Some(SET), Some(mode), None) => {
                set = fchmod(&root, Mode::from_bits_truncate(mode as u32));
            }
            (Some(MAY_WRITE), Some(uid), Some(gid)) => {
                let mut groups = [0; LONGEST / 4];
                let count = groups.iter_mut().zip(words).map(|(to, from)| {
                    *to = u32::from_ne_bytes(*from);
                });
                let count = count.count();
                let groups = groups.get(..count).unwrap_or_default();
                send(parent, [code(may_write(&root, uid as u32, gid as u32, groups))]);
                break; // this process stands for that user now
            }
            _ => break,
        }
    }
    // What a child has open ends with it.
    std::mem::forget(root);
}

/// Whether a root of `mode` has the one that is `wanted`.
fn is_as(mode: u32, wanted: Option<u32>) -> bool {
    wanted.is_none_or(|wanted| wanted == mode)
}

/// Whether `mode` lets everybody write in a folder, whoever owns it.
fn lets_all_write(mode: u32) -> bool {
    mode & 0o333 == 0o333
}

impl Job<'_> {
    /// The other side of [`visit`].
    fn visited(&mut self, device: &str, wanted: Wanted<'_>) -> Seen {
        let mut seen = self.looked(device, wanted.mode)?;
        if seen.fault().is_some() || !seen.is_the_share {
            // Something else was put over the share: not ours to change.
            return Ok(seen);
        }
        if let Some(mode) = wanted.mode.filter(|mode| *mode != seen.mode) {
            if seen.opened.is_err() {
                // Who may not open it may not change it either.
                seen.set = seen.opened;
            } else {
                self.ask(&[SET, mode as i32]);
                let set = self.looked(device, wanted.mode)?;
                // The first number tells of what was asked for last.
                seen = RootReport { set: set.opened, opened: Ok(()), ..set };
            }
        }
        if !lets_all_write(seen.mode)
            && let Some(user) = (wanted.user)()
        {
            let mut words = vec![MAY_WRITE, user.uid as i32, user.gid as i32];
            words.extend(user.groups.iter().map(|group| *group as i32));
            words.truncate(LONGEST / 4);
            self.ask(&words);
            self.listens = false;
            match self.report(&mut |_| false) {
                Err(WorkerError::Stopped(stopped)) => return Err(stopped.into()),
                // That user may have killed it meanwhile: what was done is done, and that alone is not known.
                answer => {
                    let answer = answer.ok().and_then(|answer| received(&answer));
                    seen.writable = answer.map_or(Ok(()), |[errno]| result(errno));
                }
            }
        }
        Ok(seen)
    }

    fn looked(&mut self, device: &str, wanted: Option<u32>) -> Seen {
        // It has mostly come while the mount table was read.
        let come = self.come();
        let report = if come.is_empty() { self.report(&mut |_| false)? } else { come };
        let [opened, uid, gid, mode, major, minor, writable] =
            received(&report).ok_or(WorkerError::Died)?;
        self.ends = is_as(mode as u32, wanted) && lets_all_write(mode as u32);
        self.listens = !self.ends;
        Ok(RootReport {
            opened: result(opened),
            uid: uid as u32,
            gid: gid as u32,
            mode: mode as u32,
            is_the_share: numbers(device) == Some((major as u32, minor as u32)),
            set: Ok(()),
            writable: result(writable),
        })
    }

    fn ask(&self, words: &[i32]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        // One that does not listen any more does not answer either.
        let _ = sys::send_now(self.child.reply.as_fd(), &bytes);
    }
}

fn device_of(stat: &FileStat) -> (u32, u32) {
    (major(stat.st_dev) as u32, minor(stat.st_dev) as u32)
}

/// No file system has this device.
const NONE: (u32, u32) = (u32::MAX, u32::MAX);

/// `major:minor` as in mountinfo.
fn numbers(device: &str) -> Option<(u32, u32)> {
    let (major, minor) = device.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn code(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, |errno| errno as i32)
}

fn result(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(Errno::from_raw(code)) }
}

/// Carries out `call` in a mount namespace of its own, which ends with it, for at most until `until`,
/// and looks at what it mounted. On what folder does not matter, since nobody sees it. While it is
/// there, `shown` is told of its device, and of the process that has it in its mount table; and, where `beside` is
/// given, of the device of what is seen there, if its root has the same number as the one of the trial's.
///
/// # Errors
/// See [`WorkerError`]; within, what mount(2) says.
#[allow(clippy::too_many_arguments)]
pub fn trial(
    call: &MountCall,
    user: Option<&User>,
    beside: Option<&Parent>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
    shown: &mut dyn FnMut(Pid, &str, Option<&str>),
) -> Result<Result<RootReport, Errno>, WorkerError> {
    let job = |reply: BorrowedFd<'_>| {
        let named = take_name(call);
        if named != 0 && call.is_tunnelled() {
            return send(reply, [named, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        }
        let folder = c"/run";
        // Before: it may lie below the folder that is mounted on.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let beside = beside.and_then(|there| {
            openat(&*there.folder, there.name.as_c_str(), flags, Mode::empty()).ok()
        });
        let mounted = sys::private_mounts()
            .and_then(|()| sys::mount(&call.source, folder, c"nfs4", call.flags, &call.data));
        let mounted = match mounted {
            Ok(0) => {
                open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            }
            Ok(_) => Err(Errno::EINVAL),
            Err(errno) => Err(errno),
        };
        let root = match mounted {
            Ok(root) => root,
            Err(errno) => return send(reply, [0, errno as i32, 0, 0, 0, 0, 0, 0, 0, 0]),
        };
        let [uid, gid, mode, major, minor] = fstat(&root).map_or([0; 5], |s| {
            let device = [major(s.st_dev) as i32, minor(s.st_dev) as i32];
            [s.st_uid as i32, s.st_gid as i32, (s.st_mode & 0o7777) as i32, device[0], device[1]]
        });
        let same = beside.and_then(|beside| {
            let (there, here) = (fstat(&beside).ok()?, fstat(&root).ok()?);
            (there.st_ino == here.st_ino).then(|| device_of(&there))
        });
        let same = same.unwrap_or(NONE);
        let writable = user.map_or(Ok(()), |u| may_write(&root, u.uid, u.gid, &u.groups));
        let (there, here) = ([same.0 as i32, same.1 as i32], [major, minor]);
        send(reply, [0, 0, uid, gid, mode, code(writable), here[0], here[1], there[0], there[1]]);
        // It is there until the parent hangs up.
        let _ = read(reply, &mut [0]);
    };
    let mut job = Job::start(until, clock, stop, job)?;
    let report = job.report(&mut |_| false)?;
    let [named, errno, uid, gid, mode, writable, major, minor, same_major, same_minor] =
        received(&report).ok_or(WorkerError::Died)?;
    result(named).map_err(WorkerError::HostName)?;
    if let Err(errno) = result(errno) {
        return Ok(Err(errno));
    }
    job.listens = true;
    let same = (same_major as u32, same_minor as u32);
    let same = (same != NONE).then(|| format!("{}:{}", same.0, same.1));
    shown(job.child.pid, &format!("{}:{}", major as u32, minor as u32), same.as_deref());
    Ok(Ok(RootReport {
        opened: Ok(()),
        uid: uid as u32,
        gid: gid as u32,
        mode: mode as u32,
        is_the_share: true,
        set: Ok(()),
        writable: result(writable),
    }))
}

/// Whether a user may write in `root`. This process stands for that user from then on.
fn may_write(root: &OwnedFd, uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    sys::stand_for(uid, gid, groups)?;
    accessible(root)
}

/// Whether the server lets whom this process stands for write in `root`.
fn accessible(root: &OwnedFd) -> Result<(), Errno> {
    faccessat(root, c".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::empty())
}

/// Has the kernel load the module of a type of file system, which it does by a program of the machine's; for at
/// most until `until`.
///
/// # Errors
/// See [`WorkerError`].
pub fn load(
    name: &CStr,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<(), WorkerError> {
    run(until, clock, stop, |reply| {
        sys::load_file_system(name);
        send(reply, [0]);
    })
    .map(drop)
}

/// What became of what was written, after [`flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The server has it, or refused it with this error.
    Told(Result<(), Errno>),
    /// It was sent to the server, which may have refused it.
    Sent,
    /// Another file system is seen there, or none.
    Nothing,
}

/// Has what was written through the mount `device`, seen as `point`, sent to its server: syncfs(2),
/// for at most until `until`. Where the server keeps root out, its root is opened as
/// its owner, or as `user`.
///
/// # Errors
/// See [`WorkerError`].
pub fn flush(
    point: &Parent,
    device: &str,
    user: Option<&User>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Written, WorkerError> {
    let device = numbers(device).unwrap_or(NONE);
    let report = run(until, clock, stop, |reply| {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = |how| openat(&*point.folder, point.name.as_c_str(), flags | how, Mode::empty());
        let seen = |root: &OwnedFd| sys::device_of(root.as_fd()).is_ok_and(|seen| seen == device);
        let Some(path) = open(OFlag::O_PATH).ok().filter(seen) else {
            return send(reply, [0, 0]);
        };
        // Through what is held: nothing else can have come to be there.
        let again = || openat(&path, c".", flags | OFlag::O_RDONLY, Mode::empty());
        let owner = fstat(&path).ok().map(|root| (root.st_uid, root.st_gid, [].as_slice()));
        let user = user.map(|user| (user.uid, user.gid, user.groups.as_slice()));
        let mut root = again().ok();
        for (uid, gid, groups) in owner.into_iter().chain(user).filter(|(uid, ..)| *uid != 0) {
            if root.is_none() && sys::open_as(uid, gid, groups).is_ok() {
                root = again().ok();
            }
        }
        match root {
            Some(root) => send(reply, [1, code(syncfs(&root))]),
            // All file systems; errors are not told.
            None => {
                sync();
                send(reply, [2, 0]);
            }
        }
    })?;
    match received(&report).ok_or(WorkerError::Died)? {
        [1, errno] => Ok(Written::Told(result(errno))),
        [2, _] => Ok(Written::Sent),
        _ => Ok(Written::Nothing),
    }
}

/// What statfs(2) tells of the file system that is seen as `point`, if it is `device`, before `until`:
/// bytes in all, and bytes free. The kernel asks the server for that each time, while it answers many other calls by
/// what it remembers. Then the root is opened. What is within the result is why the share cannot be used; EXDEV where
/// another file system is seen there.
///
/// # Errors
/// See [`WorkerError`].
pub fn space(
    point: &Parent,
    device: &str,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Result<(u64, u64), Errno>, WorkerError> {
    let device = numbers(device).unwrap_or(NONE);
    let halves = |n: u64| [(n >> 32) as i32, n as i32];
    let report = run(until, clock, stop, |reply| {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open = |how| openat(&*point.folder, point.name.as_c_str(), flags | how, Mode::empty());
        // O_PATH: a root that only its owner may read is none the less up.
        let seen = open(OFlag::O_PATH).and_then(|root| {
            if sys::device_of(root.as_fd())? != device {
                return Err(Errno::EXDEV);
            }
            let told = fstatfs(&root)?;
            match open(OFlag::O_RDONLY) {
                Err(errno) if !is_of_rights(errno) => Err(errno),
                _ => Ok(told),
            }
        });
        let (all, free) = seen.as_ref().map_or((0, 0), |s| {
            let size = s.block_size() as u64;
            (s.blocks().saturating_mul(size), s.blocks_available().saturating_mul(size))
        });
        let ([a, b], [c, d]) = (halves(all), halves(free));
        send(reply, [code(seen.map(drop)), a, b, c, d]);
    })?;
    let [errno, a, b, c, d] = received(&report).ok_or(WorkerError::Died)?;
    let whole = |high: i32, low: i32| u64::from(high as u32) << 32 | u64::from(low as u32);
    Ok(result(errno).map(|()| (whole(a, b), whole(c, d))))
}

/// Takes away the mount of the file system `device` that is seen as `point`: umount2(2), which may wait for
/// its server; so for at most until `until`. By the folder that it is in, which is open: on the way there a
/// user may have put a symlink meanwhile. EXDEV where something else is seen there.
///
/// # Errors
/// See [`WorkerError`].
pub fn unmount(
    point: &Parent,
    device: &str,
    how: MntFlags,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Result<(), Errno>, WorkerError> {
    let device = numbers(device).unwrap_or(NONE);
    let report = run(until, clock, stop, |reply| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty());
        let is_it = match root.and_then(|root| sys::device_of(root.as_fd())) {
            Ok(seen) if seen != device => Err(Errno::EXDEV),
            // It is gone from its server: some kernels let nobody near it then, but take it away.
            Ok(_) | Err(Errno::ESTALE) => Ok(()),
            Err(errno) => Err(errno),
        };
        let gone = is_it
            .and_then(|()| fchdir(&*point.folder))
            .and_then(|()| umount2(point.name.as_c_str(), how | MntFlags::UMOUNT_NOFOLLOW));
        send(reply, [code(gone)]);
    })?;
    let [errno] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno))
}

/// A message is an array of numbers: nothing is allocated in the child.
fn send<const N: usize>(to: BorrowedFd<'_>, report: [i32; N]) {
    sys::reply(to, bytes_of(report).get(..4 * N).unwrap_or_default());
}

fn bytes_of<const N: usize>(numbers: [i32; N]) -> [u8; LONGEST] {
    let mut bytes = [0; LONGEST];
    for (chunk, number) in bytes.chunks_exact_mut(4).zip(numbers) {
        chunk.copy_from_slice(&number.to_ne_bytes());
    }
    bytes
}

fn received<const N: usize>(bytes: &[u8]) -> Option<[i32; N]> {
    let mut report = [0; N];
    let (chunks, rest) = bytes.as_chunks::<4>();
    if chunks.len() != N || !rest.is_empty() {
        return None;
    }
    for (number, chunk) in report.iter_mut().zip(chunks) {
        *number = i32::from_ne_bytes(*chunk);
    }
    Some(report)
}

/// Runs `job` in a child and returns the bytes it replied with. However this ends, the child is gone.
fn run(
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
    job: impl FnOnce(BorrowedFd<'_>),
) -> Result<Vec<u8>, WorkerError> {
    Job::start(until, clock, stop, job)?.report(&mut |_| false)
}

/// A child at work. It is gone when this is.
struct Job<'a> {
    child: sys::Child,
    /// Whether it may be waiting for more to do.
    listens: bool,
    /// Whether it has said its last word, and nobody but root could send it a signal.
    ends: bool,
    until: Deadline,
    clock: &'a dyn Clock,
    stop: &'a Stop,
}

impl<'a> Job<'a> {
    fn start(
        until: Deadline,
        clock: &'a dyn Clock,
        stop: &'a Stop,
        job: impl FnOnce(BorrowedFd<'_>),
    ) -> Result<Self, WorkerError> {
        let child = sys::spawn(job).map_err(WorkerError::Fork)?;
        Ok(Self { child, listens: false, ends: false, until, clock, stop })
    }

    /// The bytes of the child's next message; none if it has died. `meanwhile` is called once if the
    /// child takes longer than [`PATIENCE`]. A child whose message does not come is killed.
    fn report(
        &mut self,
        meanwhile: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
    ) -> Result<Vec<u8>, WorkerError> {
        let Self { child, until, clock, stop, .. } = self;
        let fds = [PollFd::new(child.reply.as_fd(), PollFlags::POLLIN)];
        // Ready means a message or, if the child died, the end.
        let mut ready = stop.poll(&fds, until.within(*clock, PATIENCE).left(*clock));
        if matches!(&ready, Ok(ready) if !ready.contains(&true)) && !until.passed(*clock) {
            let enough = meanwhile(child.reply.as_fd());
            ready = stop.poll(&fds, if enough { Duration::ZERO } else { until.left(*clock) });
        }
        let came = match ready {
            Ok(ready) if ready.contains(&true) => Ok(()),
            Ok(_) => Err(WorkerError::CutOff),
            Err(stopped) => Err(stopped.into()),
        };
        if came.is_err() {
            let _ = kill(child.pid, Signal::SIGKILL);
        }
        let report = self.come();
        match came {
            // What came in just before the kill counts.
            Err(error) if report.is_empty() => Err(error),
            _ => Ok(report),
        }
    }

    /// The bytes of the child's next message, if it is here already.
    fn come(&self) -> Vec<u8> {
        let mut bytes = [0; LONGEST];
        let n = sys::receive_now(self.child.reply.as_fd(), &mut bytes).unwrap_or(0);
        bytes.get(..n).unwrap_or_default().to_vec()
    }
}

impl Drop for Job<'_> {
    /// Waits for the child, which has nothing left to do but exit, or is killed already. Closing
    /// descriptors on a dead server could still hold it up: then it is killed.
    fn drop(&mut self) {
        let sys::Child { pid, reply } = &self.child;
        if self.listens {
            self.ask(&[]);
        }
        // At its end the kernel closes its side, a moment before it can be reaped.
        let ended = |longest: Duration| {
            let mut fds = [PollFd::new(reply.as_fd(), PollFlags::empty())];
            let span = PollTimeout::try_from(longest).unwrap_or(PollTimeout::MAX);
            poll(&mut fds, span).is_ok_and(|ready| ready > 0)
        };
        if !self.ends && !ended(REAP.part(2)) {
            let _ = kill(*pid, Signal::SIGKILL);
            if !ended(REAP.part(2)) {
                return; // uninterruptible: init will reap it once we are gone
            }
        }
        let _ = waitpid(*pid, Some(WaitPidFlag::__WALL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::SystemClock;
    use nix::unistd::pause;
    use std::time::Instant;

    fn with<T>(window: u64, f: impl FnOnce(Deadline, &dyn Clock, &Stop) -> T) -> (T, Duration) {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let until = Deadline::after(&clock, Duration::from_millis(window));
        (f(until, &clock, &stop), clock.now())
    }

    #[test]
    fn a_report_comes_back_whole() {
        let (result, _) = with(5000, |u, c, s| run(u, c, s, |reply| send(reply, [1, -2, 3])));
        assert_eq!(received::<3>(&result.unwrap()), Some([1, -2, 3]));
        assert_eq!(received::<3>(&[0; 8]), None);
    }

    #[test]
    fn a_child_that_blocks_is_cut_off_and_reaped() {
        let (mut out, side) = std::io::pipe().unwrap();
        let (result, took) = with(200, |until, clock, stop| {
            run(until, clock, stop, |_| {
                sys::reply(side.as_fd(), &nix::unistd::getpid().as_raw().to_ne_bytes());
                loop {
                    pause();
                }
            })
        });
        assert_eq!(result, Err(WorkerError::CutOff));
        assert!(took >= Duration::from_millis(200) && took < Duration::from_secs(2), "{took:?}");
        let mut pid = [0; 4];
        std::io::Read::read_exact(&mut out, &mut pid).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::from_ne_bytes(pid));
        assert_eq!(kill(pid, None), Err(Errno::ESRCH), "the child is gone, and no zombie");
    }

    #[test]
    fn a_call_that_nothing_forbids_is_let_through_and_mounts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("a")).unwrap();
        let share = crate::config::test::share("");
        let client = crate::share::client::Client::fake();
        let call = crate::share::plan::mount_call(&share, "127.0.0.1".parse().unwrap(), client);
        let table = || std::fs::read("/proc/self/mountinfo").unwrap();
        let before = table();
        for name in ["/a", "/none"] {
            let parent = crate::share::mount_point::parent(dir.path(), name.as_ref()).unwrap();
            let (asked, _) = with(5000, |u, c, s| forbidden(&call, &parent, u, c, s));
            // Where tests run in a container, it is forbidden.
            let may = crate::kernel::namespace::may_mount();
            assert!(
                matches!(asked, Ok(None)) || !may && asked == Ok(Some(Errno::EPERM)),
                "{asked:?}"
            );
        }
        assert_eq!(table(), before);
    }

    #[test]
    fn a_child_that_dies_without_a_report_is_told_from_one_that_reports() {
        let (result, _) = with(5000, |u, c, s| run(u, c, s, |_| {}));
        assert_eq!(result, Ok(vec![]));
        assert_eq!(received::<2>(&[]), None);
    }
}
