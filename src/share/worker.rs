//! Runs what may block without end, mount(2) and the first look at what it
//! mounted, in a child that can be killed. Decides nothing: it tells what the
//! child reported before it ended or was cut off.

use crate::appstream::User;
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::mount_point::{Parent, PreparedPoint};
use crate::share::plan::MountCall;
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, major, minor, stat};
use nix::sys::statfs::fstatfs;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{AccessFlags, faccessat, fchdir, read, syncfs};
use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a killed child is waited for: mount(2) lets go within 15 ms of SIGKILL.
const REAP: Duration = Duration::from_millis(80);
/// A child that takes longer than this leaves its parent time for something else.
const PATIENCE: Duration = Duration::from_secs(1);
/// More than any message has, in bytes.
const LONGEST: usize = 64;

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
    /// It ended without a report (somebody killed it).
    #[error("the process that mounts was killed")]
    Died,
    /// The run was told to end, and it was killed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What mount(2) returned: a number that should be 0, or the errno.
pub type MountReturn = Result<i32, Errno>;

/// What was seen of, and done to, the root of a mounted share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootReport {
    /// errno of opening it.
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

/// Carries out `call` on `point`, for at most until `until`. If it takes long, `meanwhile` is called
/// once; it is given what becomes readable when the call has ended, must return soon after that, and
/// says whether the call is to be cut off.
///
/// Where mount(2) returns 0, `shown` says which file system the mount table shows there now, and the
/// same child does what [`settle`] does with `mode` and `user`.
///
/// # Errors
/// See [`WorkerError`]; the mount may have happened all the same: ask the mount table.
#[allow(clippy::too_many_arguments)]
pub fn mount(
    call: &MountCall,
    point: &PreparedPoint,
    (mode, user): (Option<u32>, Option<&User>),
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
    meanwhile: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
    shown: &mut dyn FnMut() -> Option<String>,
) -> Result<(MountReturn, Option<Seen>), WorkerError> {
    let job = |reply: BorrowedFd<'_>| {
        // By its descriptor, not by its path: what is opened here, in the folder that was checked
        // and without following a symlink, is what is mounted on.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let parent = &*point.parent.folder;
        let target = openat(parent, point.parent.name.as_c_str(), flags, Mode::empty());
        if let Err(errno) = target.and_then(|target| fchdir(&target)) {
            return send(reply, [errno as i32, 0, 0]);
        }
        let returned = sys::mount(&call.source, c".", c"nfs4", call.flags, &call.data);
        // ENOENT may also mean that the target was removed just now.
        let removed = || stat(c".").is_ok_and(|folder| folder.st_nlink == 0);
        let gone = returned == Err(Errno::ENOENT) && removed();
        let opened = if gone { Errno::ENOENT as i32 } else { 0 };
        send(reply, [opened, returned.unwrap_or(0), code(returned.map(drop))]);
        // The parent looks into the mount table meanwhile, and says what it shows, or hangs up.
        if returned == Ok(0)
            && let Some(device) = listen(reply)
        {
            send(reply, look(&point.parent, device, mode, user));
        }
    };
    let mut job = Job::start(until, clock, stop, job)?;
    let report = job.report(meanwhile)?;
    let [opened, returned, errno] = received(&report).ok_or(WorkerError::Died)?;
    result(opened).map_err(WorkerError::Target)?;
    let returned = result(errno).map(|()| returned);
    let device = if returned == Ok(0) { shown() } else { None };
    let seen = device.and_then(|device| numbers(&device)).map(|(major, minor)| {
        let numbers = bytes_of([major as i32, minor as i32]);
        let _ = sys::send_now(job.child.reply.as_fd(), numbers.get(..8).unwrap_or_default());
        job.report(&mut |_| false).and_then(|report| looked(&report))
    });
    if seen.is_none() {
        // It may still listen.
        let _ = sys::send_now(job.child.reply.as_fd(), &[]);
    }
    Ok((returned, seen))
}

/// What a child has seen of a share's root, or why there is nothing to tell.
pub type Seen = Result<RootReport, WorkerError>;

/// Looks at the root of what is mounted as `point`, gives it `mode` if it has another, and
/// asks the server whether `user` may write there; all for at most until `until`.
///
/// # Errors
/// See [`WorkerError`].
pub fn settle(
    point: &Parent,
    device: &str,
    mode: Option<u32>,
    user: Option<&User>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<RootReport, WorkerError> {
    let device = numbers(device).unwrap_or(NONE);
    let job = |reply: BorrowedFd<'_>| send(reply, look(point, device, mode, user));
    looked(&run(until, clock, stop, job)?)
}

/// In the child: the numbers of a [`RootReport`].
fn look(point: &Parent, device: (u32, u32), mode: Option<u32>, user: Option<&User>) -> [i32; 7] {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = match openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty()) {
        Ok(root) => root,
        Err(errno) => return [errno as i32, 0, 0, 0, 0, 0, 0],
    };
    let mode_of = |s: &FileStat| s.st_mode & 0o7777;
    let mut found = fstat(&root);
    let is_the_share = found.is_ok_and(|s| is_on(&s, device));
    let is = found.as_ref().map_or(0, mode_of);
    let set = match mode {
        // Something else was put over the share: not ours to change.
        _ if !is_the_share => Ok(()),
        Some(wanted) if wanted != is => {
            let set = fchmod(&root, Mode::from_bits_truncate(wanted));
            found = fstat(&root);
            set
        }
        _ => Ok(()),
    };
    let (uid, gid, is) =
        found.map_or((0, 0, 0), |s| (s.st_uid as i32, s.st_gid as i32, mode_of(&s) as i32));
    let writable = may_write(&root, user);
    // What a child has open ends with it.
    std::mem::forget(root);
    [0, uid, gid, is, i32::from(is_the_share), code(set), code(writable)]
}

fn looked(report: &[u8]) -> Seen {
    let [opened, uid, gid, mode, is_the_share, set, writable] =
        received(report).ok_or(WorkerError::Died)?;
    Ok(RootReport {
        opened: result(opened),
        uid: uid as u32,
        gid: gid as u32,
        mode: mode as u32,
        is_the_share: is_the_share != 0,
        set: result(set),
        writable: result(writable),
    })
}

/// Whether a file is on the file system `device`.
fn is_on(stat: &FileStat, device: (u32, u32)) -> bool {
    device == (major(stat.st_dev) as u32, minor(stat.st_dev) as u32)
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
/// and looks at what it mounted. On what folder does not matter, since nobody sees it.
///
/// # Errors
/// See [`WorkerError`]; within, what mount(2) says.
pub fn trial(
    call: &MountCall,
    user: Option<&User>,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Result<RootReport, Errno>, WorkerError> {
    let report = run(until, clock, stop, |reply| {
        let folder = c"/run";
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
            Err(errno) => return send(reply, [errno as i32, 0, 0, 0, 0]),
        };
        let (uid, gid, mode) = fstat(&root)
            .map_or((0, 0, 0), |s| (s.st_uid as i32, s.st_gid as i32, (s.st_mode & 0o7777) as i32));
        send(reply, [0, uid, gid, mode, code(may_write(&root, user))]);
    })?;
    let [errno, uid, gid, mode, writable] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno).map(|()| RootReport {
        opened: Ok(()),
        uid: uid as u32,
        gid: gid as u32,
        mode: mode as u32,
        is_the_share: true,
        set: Ok(()),
        writable: result(writable),
    }))
}

/// Whether `user` may write in `root`. This process stands for that user from then on.
fn may_write(root: &OwnedFd, user: Option<&User>) -> Result<(), Errno> {
    let Some(user) = user else {
        return Ok(());
    };
    sys::stand_for(user.uid, user.gid, &user.groups)?;
    faccessat(root, c".", AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::empty())
}

/// Has what was written through the mount `device`, seen as `point`, sent to its server: syncfs(2),
/// for at most until `until`. `None`: its root cannot be opened, so that nothing can be told.
///
/// # Errors
/// See [`WorkerError`].
pub fn flush(
    point: &Parent,
    device: &str,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Option<Result<(), Errno>>, WorkerError> {
    let device = numbers(device).unwrap_or(NONE);
    let report = run(until, clock, stop, |reply| {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty());
        let root = root.ok().filter(|root| fstat(root).is_ok_and(|stat| is_on(&stat, device)));
        send(
            reply,
            match root {
                Some(root) => [1, code(syncfs(&root))],
                None => [0, 0],
            },
        );
    })?;
    let [opened, errno] = received(&report).ok_or(WorkerError::Died)?;
    Ok((opened != 0).then(|| result(errno)))
}

/// What statfs(2) tells of the file system that is seen as `point`, if it is `device`, before `until`:
/// bytes in all, and bytes free.
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
        // O_PATH: a root that only its owner may read is none the less up.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty());
        let seen = root.and_then(|root| {
            if is_on(&fstat(&root)?, device) { fstatfs(&root) } else { Err(Errno::ESTALE) }
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

/// Takes away the mount that is seen at `path`: umount2(2), which may wait for its server; so for at
/// most until `until`. Never through a symlink.
///
/// # Errors
/// See [`WorkerError`].
pub fn unmount(
    path: &CStr,
    how: MntFlags,
    until: Deadline,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<Result<(), Errno>, WorkerError> {
    let report = run(until, clock, stop, |reply| {
        send(reply, [code(umount2(path, how | MntFlags::UMOUNT_NOFOLLOW))]);
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

/// In the child: the device that the parent names; nothing where it has hung up.
fn listen(parent: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mut bytes = [0; LONGEST];
    let got = read(parent, &mut bytes).unwrap_or(0);
    let [major, minor] = received(bytes.get(..got)?)?;
    Some((major as u32, minor as u32))
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
        Ok(Self { child, until, clock, stop })
    }

    /// The bytes of the child's next message; none if it has died. `meanwhile` is called once if the
    /// child takes longer than [`PATIENCE`]. A child whose message does not come is killed.
    fn report(
        &mut self,
        meanwhile: &mut dyn FnMut(BorrowedFd<'_>) -> bool,
    ) -> Result<Vec<u8>, WorkerError> {
        let Self { child, until, clock, stop } = self;
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
        let mut bytes = [0; LONGEST];
        let n = sys::receive_now(child.reply.as_fd(), &mut bytes).unwrap_or(0);
        match came {
            // What came in just before the kill counts.
            Err(error) if n == 0 => Err(error),
            _ => Ok(bytes.get(..n).unwrap_or_default().to_vec()),
        }
    }
}

impl Drop for Job<'_> {
    /// Waits for the child, which has nothing left to do but exit, or is killed already. Closing
    /// descriptors on a dead server could still hold it up: then it is killed.
    fn drop(&mut self) {
        let pid = self.child.pid;
        let end = self.clock.now() + REAP;
        loop {
            // Of several children any may be the one that has ended: look again soon.
            sys::wait_for_child(REAP / 8);
            match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(status) if status.pid().is_none() => {}
                _ => return,
            }
            let left = end.saturating_sub(self.clock.now());
            if left.is_zero() {
                return; // uninterruptible: init will reap it once we are gone
            }
            if left <= REAP / 2 {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
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
    fn a_child_that_dies_without_a_report_is_told_from_one_that_reports() {
        let (result, _) = with(5000, |u, c, s| run(u, c, s, |_| {}));
        assert_eq!(result, Ok(vec![]));
        assert_eq!(received::<2>(&[]), None);
    }
}
