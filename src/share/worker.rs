//! Runs calls that may block without end, such as mount(2), in a child that can be killed. Decides
//! nothing: here is what the parent asks for and learns. [`child`] is the child's side, [`message`]
//! what they say to each other, and [`job`] starts, hears and ends a child.

mod child;
mod job;
mod message;

pub use job::Meanwhile;

use crate::appstream::User;
use crate::retry::Stopped;
use crate::share::mount_point::{Parent, PreparedPoint};
use crate::share::plan::MountCall;
use crate::sys;
use crate::wait::Wait;
use child::NO_DEVICE;
use job::{Job, run};
use message::{LONGEST, MAY_WRITE, SET_MODE, received, result, send, whole};
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::unistd::Pid;
use std::ffi::CStr;

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
    /// It may not have a host name of its own. Without one, the kernel would not keep its way apart
    /// from others.
    #[error("a host name of its own is refused: {0}")]
    HostName(Errno),
    /// It ended without a report (somebody killed it).
    #[error("the process that mounts was killed")]
    Died,
    /// A signal ended the run, and it was killed.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// What came of a call of mount(2).
pub struct MountReport {
    /// What it returned: a number that should be 0, or the errno.
    pub returned: Result<i32, Errno>,
    /// Whether it was made under the host name that stands for its way. Only a plain call is made
    /// without.
    pub named: Result<(), Errno>,
    /// What was seen of the root, where there was time to look.
    pub root: Option<RootLook>,
}

/// What was seen of, and done to, the root of a mounted share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootReport {
    /// The errno of opening it. If that is a matter of rights, the other fields are known all the
    /// same.
    pub opened: Result<(), Errno>,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode, after it was set.
    pub mode: u32,
    /// Whether it is on the file system that was mounted, and not on one put over it.
    pub is_the_share: bool,
    /// The errno of setting the mode; `Ok` where that was not needed.
    pub set: Result<(), Errno>,
    /// Whether the streaming user may write in it; `Ok` where there is no such user.
    pub writable: Result<(), Errno>,
}

impl RootReport {
    /// What is wrong with a root that cannot be used by anybody.
    pub fn fault(&self) -> Option<Errno> {
        self.opened.err().filter(|errno| !is_of_rights(*errno))
    }
}

/// Whether an error may concern root alone: the server may squash root, or the folder may be a
/// user's own.
fn is_of_rights(errno: Errno) -> bool {
    matches!(errno, Errno::EACCES | Errno::EPERM)
}

/// What is wanted of the root of a share.
#[derive(Clone, Copy)]
pub struct RootWishes<'a> {
    /// The mode that it is given if it has another.
    pub mode: Option<u32>,
    /// The account that must be able to write, if there is one. It is asked for only where the mode
    /// does not let everybody write.
    pub user: &'a dyn Fn() -> Option<User>,
}

/// What a parent does during a call of mount(2).
pub struct MountWatch<'a> {
    /// Called once if the call takes long.
    pub meanwhile: Meanwhile<'a>,
    /// Called if mount(2) returns 0, while the child already looks at the root. It says which file
    /// system the mount table shows there now. The wishes are for that file system alone.
    pub shown: &'a mut dyn FnMut() -> Option<String>,
}

/// What a child has seen of a share's root, or why that is not known.
pub type RootLook = Result<RootReport, WorkerError>;

/// Carries out `call` on `point`, for as long as `wait` lasts.
///
/// # Errors
/// See [`WorkerError`]. The mount may have succeeded all the same, as the mount table then shows.
pub fn mount(
    call: &MountCall,
    point: &PreparedPoint,
    wishes: RootWishes<'_>,
    wait: Wait<'_>,
    watch: MountWatch<'_>,
) -> Result<MountReport, WorkerError> {
    let mut job =
        Job::start(wait, |parent| child::mount(parent, call, &point.parent, wishes.mode))?;

    let report = job.report_meanwhile(watch.meanwhile)?;
    let [opened, named, returned, errno] = received(&report).ok_or(WorkerError::Died)?;
    result(opened).map_err(WorkerError::Target)?;
    let named = result(named);
    if call.is_tunnelled() {
        named.map_err(WorkerError::HostName)?;
    }

    let returned = result(errno).map(|()| returned);
    job.listens = returned == Ok(0);
    let device = if job.listens { (watch.shown)() } else { None };
    let root = device.map(|device| job.visited(&device, wishes));
    Ok(MountReport { returned, named, root })
}

/// The errno with which this machine forbids `call` on `point`, or on the folder that holds it;
/// `None` if nothing forbids it. The kernel is given an option that it does not know. If nothing
/// forbids the call, it complains about that option, and nothing is mounted or sent.
///
/// # Errors
/// See [`WorkerError`].
pub fn forbidden(
    call: &MountCall,
    point: &Parent,
    wait: Wait<'_>,
) -> Result<Option<Errno>, WorkerError> {
    let report = run(wait, |parent| child::try_to_mount(parent, call, point))?;
    let [errno] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno).err().filter(|errno| is_of_rights(*errno)))
}

/// Looks at the root of the file system `device`, mounted at `point`, and fulfils the wishes, for
/// as long as `wait` lasts.
///
/// # Errors
/// See [`WorkerError`].
pub fn settle(point: &Parent, device: &str, wishes: RootWishes<'_>, wait: Wait<'_>) -> RootLook {
    let mut job = Job::start(wait, |parent| child::visit(parent, point, wishes.mode))?;
    job.visited(device, wishes)
}

/// Whether `mode` is as `wanted`, if a mode is wanted.
fn is_as(mode: u32, wanted: Option<u32>) -> bool {
    wanted.is_none_or(|wanted| wanted == mode)
}

/// Whether `mode` lets everybody write in a folder, no matter who owns it.
fn lets_all_write(mode: u32) -> bool {
    mode & 0o333 == 0o333
}

impl Job<'_> {
    /// The other side of [`child::visit`].
    fn visited(&mut self, device: &str, wishes: RootWishes<'_>) -> RootLook {
        let mut seen = self.next_look(device, wishes.mode)?;
        if seen.fault().is_some() || !seen.is_the_share {
            // Something else was mounted over the share, and must not be changed.
            return Ok(seen);
        }

        if let Some(mode) = wishes.mode.filter(|mode| *mode != seen.mode) {
            if seen.opened.is_err() {
                // A root that may not be opened may not be changed either.
                seen.set = seen.opened;
            } else {
                self.ask(&[SET_MODE, mode as i32]);
                let set = self.next_look(device, wishes.mode)?;

                // The first number is about what was asked for last.
                seen = RootReport { set: set.opened, opened: Ok(()), ..set };
            }
        }

        if !lets_all_write(seen.mode)
            && let Some(user) = (wishes.user)()
        {
            let mut words = vec![MAY_WRITE, user.uid as i32, user.gid as i32];
            words.extend(user.groups.iter().map(|group| *group as i32));
            words.truncate(LONGEST / 4);
            self.ask(&words);
            self.listens = false;

            match self.report() {
                Err(WorkerError::Stopped(stopped)) => return Err(stopped.into()),
                // That user may have killed the child meanwhile. Only the answer to this question
                // is then unknown.
                answer => {
                    let answer = answer.ok().and_then(|answer| received(&answer));
                    seen.writable = answer.map_or(Ok(()), |[errno]| result(errno));
                }
            }
        }

        Ok(seen)
    }

    fn next_look(&mut self, device: &str, wanted: Option<u32>) -> RootLook {
        // Mostly, the look has arrived while the mount table was read.
        let arrived = self.arrived();
        let report = if arrived.is_empty() { self.report()? } else { arrived };
        let [opened, uid, gid, mode, major, minor, writable] =
            received(&report).ok_or(WorkerError::Died)?;

        self.ends = is_as(mode as u32, wanted) && lets_all_write(mode as u32);
        self.listens = !self.ends;
        Ok(RootReport {
            opened: result(opened),
            uid: uid as u32,
            gid: gid as u32,
            mode: mode as u32,
            is_the_share: numbers(device) == (major as u32, minor as u32),
            set: Ok(()),
            writable: result(writable),
        })
    }
}

/// The two numbers of a device, which mountinfo writes as `major:minor`.
fn numbers(device: &str) -> (u32, u32) {
    let numbers = device
        .split_once(':')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.unwrap_or(NO_DEVICE)
}

/// A mount that nobody else sees, while it is there.
pub struct Unseen<'a> {
    /// The process that has it in its mount table.
    pub process: Pid,
    /// Its device.
    pub device: &'a str,
    /// The device of what it is compared with, if both roots have the same inode number.
    pub same: Option<&'a str>,
}

/// Carries out `call` in a private mount namespace, for as long as `wait` lasts, and looks at what
/// it mounted. `shown` is called while that is there. With `beside`, it is compared with what is
/// seen there.
///
/// # Errors
/// See [`WorkerError`]. The inner error is what mount(2) says.
pub fn trial(
    call: &MountCall,
    user: Option<&User>,
    beside: Option<&Parent>,
    wait: Wait<'_>,
    shown: &mut dyn FnMut(Unseen<'_>),
) -> Result<Result<RootReport, Errno>, WorkerError> {
    let mut job = Job::start(wait, |parent| child::trial(parent, call, user, beside))?;
    let report = job.report()?;
    let [named, errno, uid, gid, mode, writable, major, minor, same_major, same_minor] =
        received(&report).ok_or(WorkerError::Died)?;
    result(named).map_err(WorkerError::HostName)?;
    if let Err(errno) = result(errno) {
        return Ok(Err(errno));
    }

    job.listens = true;
    let same = (same_major as u32, same_minor as u32);
    let same = (same != NO_DEVICE).then(|| format!("{}:{}", same.0, same.1));
    let device = format!("{}:{}", major as u32, minor as u32);
    shown(Unseen { process: job.pid(), device: &device, same: same.as_deref() });

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

/// Makes the kernel load the module for a type of file system, for as long as `wait` lasts. The
/// kernel runs a program for that.
///
/// # Errors
/// See [`WorkerError`].
pub fn load(name: &CStr, wait: Wait<'_>) -> Result<(), WorkerError> {
    run(wait, |parent| {
        sys::load_file_system(name);
        send(parent, [0]);
    })
    .map(drop)
}

/// What became of what was written, after [`flush`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushReport {
    /// The server has it, or refused it with this error.
    Answered(Result<(), Errno>),
    /// It was sent to the server, which may have refused it.
    Sent,
    /// Another file system is seen there, or none.
    Nothing,
}

/// Sends what was written through the mount `device`, seen at `point`, to its server (syncfs(2)),
/// for as long as `wait` lasts. If the server keeps root out, the share's root is opened as its
/// owner, or as `user`.
///
/// # Errors
/// See [`WorkerError`].
pub fn flush(
    point: &Parent,
    device: &str,
    user: Option<&User>,
    wait: Wait<'_>,
) -> Result<FlushReport, WorkerError> {
    let report = run(wait, |parent| child::flush(parent, point, numbers(device), user))?;
    match received(&report).ok_or(WorkerError::Died)? {
        [1, errno] => Ok(FlushReport::Answered(result(errno))),
        [2, _] => Ok(FlushReport::Sent),
        _ => Ok(FlushReport::Nothing),
    }
}

/// The room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Not used yet.
    pub free: u64,
}

/// What statfs(2) says about the file system `device`, if it is seen at `point`, for as long as
/// `wait` lasts. The kernel asks the server for that each time, while it answers many other calls
/// from memory. Then the root is opened. The inner error is why the share cannot be used; EXDEV
/// says that another file system is seen there.
///
/// # Errors
/// See [`WorkerError`].
pub fn space(
    point: &Parent,
    device: &str,
    wait: Wait<'_>,
) -> Result<Result<Space, Errno>, WorkerError> {
    let report = run(wait, |parent| child::space(parent, point, numbers(device)))?;
    let [errno, a, b, c, d] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno).map(|()| Space { total: whole([a, b]), free: whole([c, d]) }))
}

/// Takes away the mount of the file system `device` that is seen at `point` (umount2(2)). This may
/// wait for the server, for as long as `wait` lasts. It goes by the open folder that holds the
/// mount point, because a user may have put a symlink on the way there. EXDEV says that something
/// else is seen there.
///
/// # Errors
/// See [`WorkerError`].
pub fn unmount(
    point: &Parent,
    device: &str,
    how: MntFlags,
    wait: Wait<'_>,
) -> Result<Result<(), Errno>, WorkerError> {
    let report = run(wait, |parent| child::unmount(parent, point, numbers(device), how))?;
    let [errno] = received(&report).ok_or(WorkerError::Died)?;
    Ok(result(errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Clock;
    use crate::stop::{Stop, SystemClock};
    use nix::sys::signal::kill;
    use nix::unistd::pause;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn with<T>(window: u64, f: impl FnOnce(Wait<'_>) -> T) -> (T, Duration) {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        (f(Wait::of(Duration::from_millis(window), &clock, &stop)), clock.now())
    }

    #[test]
    fn a_report_comes_back_whole() {
        let (result, _) = with(5000, |wait| run(wait, |reply| send(reply, [1, -2, 3])));
        assert_eq!(received::<3>(&result.unwrap()), Some([1, -2, 3]));
        assert_eq!(received::<3>(&[0; 8]), None);
    }

    #[test]
    fn a_child_that_blocks_is_cut_off_and_reaped() {
        let (mut out, side) = std::io::pipe().unwrap();
        let (result, took) = with(200, |wait| {
            run(wait, |_| {
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
        let client = crate::share::client::NfsClient::fake();
        let call = crate::share::plan::mount_call(&share, "127.0.0.1".parse().unwrap(), client);
        let table = || std::fs::read("/proc/self/mountinfo").unwrap();
        let before = table();
        for name in ["/a", "/none"] {
            let parent = crate::share::mount_point::parent(dir.path(), name.as_ref()).unwrap();
            let (asked, _) = with(5000, |wait| forbidden(&call, &parent, wait));
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
        let (result, _) = with(5000, |wait| run(wait, |_| {}));
        assert_eq!(result, Ok(vec![]));
        assert_eq!(received::<2>(&[]), None);
    }
}
