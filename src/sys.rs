//! The only unsafe code, and the thin calls that `nix` lacks.
//!
//! No policy and no logging live here: each function does one thing to the
//! process or the kernel and reports the errno. What runs in a forked child
//! ([`spawn`]) may only make system calls: the parent may have threads, so
//! the child must not allocate or take a lock.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::Pid;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

/// A child made by [`spawn`]: its process id and the parent's end of what they talk over.
#[derive(Debug)]
pub struct Child {
    /// Process id; the caller must reap it.
    pub pid: Pid,
    /// Each message of the child's, whole; at its end once the child has ended.
    pub reply: OwnedFd,
}

/// Held from the making of a pair of sockets until the child's end is closed in this
/// process, so that no child forked by another thread inherits that end and
/// keeps the connection open.
static FORKING: Mutex<()> = Mutex::new(());

/// Forks a child that runs `job` and exits.
///
/// The child dies with its parent (`PR_SET_PDEATHSIG`) and has its parent's signals blocked: what ends
/// it is its parent, by SIGKILL. It sends no SIGCHLD when it ends, so that it can be reaped whatever
/// our starter has made of that signal; waitpid(2) finds it with `__WALL` alone. `job` talks over the
/// socket it is given ([`reply`]); it must make system calls only (see the module's head).
///
/// # Errors
/// The errno of socketpair(2) or clone(2).
pub fn spawn(job: impl FnOnce(BorrowedFd<'_>)) -> Result<Child, Errno> {
    let guard = FORKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut ends: [RawFd; 2] = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` is a valid array of two descriptors for the kernel to fill.
    Errno::result(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: socketpair succeeded, so both are open descriptors that nobody else owns.
    let (reply, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let parent = process_id();
    // SAFETY: the child below makes system calls only, as fork(2) demands of a process that may have
    // threads, and never returns from this function. The call itself rather than libc's fork(), which
    // makes eight more to put its own house in order for a child that would live in it.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) })?;
    if pid == 0 {
        let _end = EndOnUnwind;
        ID.store(0, Ordering::Relaxed);
        die_with(parent);
        drop(reply); // the parent's end: a child must do with few descriptors too
        job(write.as_fd());
        // SAFETY: _exit runs no destructor and no atexit handler of the parent's.
        unsafe { libc::_exit(0) }
    }
    drop(write);
    drop(guard);
    Ok(Child { pid: Pid::from_raw(pid as libc::pid_t), reply })
}

/// Ends a forked child rather than let a panic unwind into the parent's frames. Not by abort(3):
/// libc takes this process for its parent, and would end that. (The program as it is shipped aborts
/// where it panics, and never comes by here: a job must not panic.)
struct EndOnUnwind;

impl Drop for EndOnUnwind {
    fn drop(&mut self) {
        // SAFETY: takes no pointer and does not return.
        unsafe { libc::_exit(libc::EXIT_FAILURE) }
    }
}

/// This process's id. Asked for once: it is needed for each line of the log.
pub fn process_id() -> Pid {
    match ID.load(Ordering::Relaxed) {
        0 => {
            let id = nix::unistd::getpid();
            ID.store(id.as_raw(), Ordering::Relaxed);
            id
        }
        id => Pid::from_raw(id),
    }
}

/// What [`process_id`] gives; 0 where it has not been asked for yet.
static ID: AtomicI32 = AtomicI32::new(0);

/// Whether this process was started as root; it stays what it is.
pub fn is_root() -> bool {
    // SAFETY: looks a number up in what the kernel gave the process when it started.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 }
}

/// The capabilities that are in effect (capget(2)), as in CapEff of /proc/self/status.
pub fn capabilities() -> Option<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    // The kernel writes into it where it does not know that version.
    let mut header = [VERSION_3, 0];
    // Effective, permitted, inheritable: the lower halves, then the upper ones.
    let mut sets = [0u32; 6];
    // SAFETY: the header is two words that may be written to, and version 3 writes two structs of three words each.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    (got == 0).then(|| u64::from(sets[3]) << 32 | u64::from(sets[0]))
}

/// mount(2) as it is: `Ok` holds what the call returned, which for an NFS mount
/// with `sloppy` may be +1 with nothing mounted.
///
/// # Errors
/// The errno.
pub fn mount(
    source: &CStr,
    target: &CStr,
    fstype: &CStr,
    flags: u64,
    data: &CStr,
) -> Result<i32, Errno> {
    // SAFETY: all four strings are NUL-terminated and live until the call returns.
    Errno::result(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            fstype.as_ptr(),
            flags as libc::c_ulong,
            data.as_ptr().cast(),
        )
    })
}

/// Gives this (single-threaded, forked) process a mount namespace of its own, from which nothing gets
/// out: what it mounts is gone when it ends, and nobody else sees it.
///
/// # Errors
/// The errno of unshare(2) or mount(2).
pub fn private_mounts() -> Result<(), Errno> {
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: unshare takes no pointer; mount is given NUL-terminated strings, or none where it
    // reads none.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        Errno::result(libc::mount(none, c"/".as_ptr(), none, flags, none.cast()))?;
    }
    Ok(())
}

/// Gives this (forked) process a host name of its own, in a UTS name space of its own: whoever else runs
/// keeps the machine's.
///
/// # Errors
/// The errno: EPERM where a filter or a unit's RestrictNamespaces= forbids it.
pub fn take_host_name(name: &CStr) -> Result<(), Errno> {
    // SAFETY: unshare takes no pointer; sethostname reads as many bytes as the name has.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWUTS))?;
        Errno::result(libc::sethostname(name.as_ptr(), name.to_bytes().len()))?;
    }
    Ok(())
}

/// Has the kernel load the module of a type of file system, if it is not loaded yet. Mounts nothing.
pub fn load_file_system(name: &CStr) {
    const FSOPEN_CLOEXEC: libc::c_ulong = 1;
    // SAFETY: reads a NUL-terminated string. (By its number: the call is newer than libc's wrappers.)
    let opened =
        Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) });
    match opened {
        // SAFETY: it was just opened and nobody else owns it.
        Ok(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        Err(Errno::ENOSYS) => {
            // Before Linux 5.2: without the data that an NFS mount needs, this fails behind the loading.
            let none = std::ptr::null();
            // SAFETY: mount is given NUL-terminated strings, or none where it reads none.
            unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), name.as_ptr(), 0, none) };
        }
        Err(_) => {}
    }
}

/// The errno of an error of the standard library. EIO for one that has none.
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Whether a kernel's release (`uname -r`) is of a version, or of a later one.
pub fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= version
}

/// `(major, minor)` of the file system that an open file is on. Asks no server, which could be dead.
///
/// # Errors
/// The errno of statx(2).
pub fn device_of(file: BorrowedFd<'_>) -> Result<(u32, u32), Errno> {
    // SAFETY: all-zero bytes are a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: reads an empty string, and writes into a struct that outlives the call.
    Errno::result(unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, 0, &raw mut found)
    })?;
    Ok((found.stx_dev_major, found.stx_dev_minor))
}

/// The running kernel's release, as `uname -r` shows it; "unknown" where it is not told.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or("unknown".into(), |u| u.release().to_string_lossy().into())
}

/// The machine's host name; empty where it is not told.
pub fn host_name() -> String {
    nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |u| u.nodename().to_string_lossy().into())
}

/// Has this (forked) process stand for `uid`:`gid` with `groups` where access(2) is asked, which
/// goes by the real ids. The effective ones stay root's: that user can send it signals (kill(2) goes by
/// the real id), and so cost the answer, but cannot trace it, nor look into its files and memory.
///
/// The raw system calls are used because libc's wrappers signal all threads of
/// the process, which is wrong in a fork of a threaded one.
///
/// # Errors
/// The errno of the first call that failed; the process must then be ended.
pub fn stand_for(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    const KEEP: u32 = u32::MAX;
    // SAFETY: setgroups reads `groups.len()` ids from a slice of that length;
    // the other calls take no pointer.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, gid, KEEP, KEEP))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, uid, KEEP, KEEP))?;
    }
    Ok(())
}

/// Has this (forked) process open files as `uid`:`gid` with `groups`. It is root's for everything else.
///
/// # Errors
/// The errno of setgroups(2); EPERM where the ids were not taken.
pub fn open_as(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let (wanted_uid, wanted_gid) = (i64::from(uid as i32), i64::from(gid as i32));
    // SAFETY: setgroups reads `groups.len()` ids from a slice of that length; the other calls take no pointer. They
    // return the id of before, and -1 asks for it.
    let now = unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        (libc::syscall(libc::SYS_setfsuid, -1), libc::syscall(libc::SYS_setfsgid, -1))
    };
    if now == (wanted_uid, wanted_gid) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Sets the signal mask to exactly `blocked`, SIGXFSZ and SIGPIPE (a write that cannot be is an error,
/// not our end).
///
/// # Errors
/// The errno of sigprocmask(2).
pub fn set_signals(mut blocked: SigSet) -> Result<(), Errno> {
    blocked.add(Signal::SIGXFSZ);
    blocked.add(Signal::SIGPIPE);
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)
}

/// Blocks SIGPIPE, for what never comes to [`set_signals`].
pub fn block_pipe() {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_BLOCK, Some(&pipe), None);
}

/// Sets SIGCHLD back to its default, which our starter may have changed: ignored, the programs that we
/// start would be reaped behind our back. Not needed for [`spawn`].
pub fn keep_children() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: installs a disposition without a handler, so no code of ours can run in one.
    let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &default) };
}

/// Has the signalfd(2) `fd` collect `signals` from now on, instead of those it was made for.
pub fn collect(fd: BorrowedFd<'_>, signals: &SigSet) {
    let set: *const libc::sigset_t = signals.as_ref();
    // SAFETY: reads a signal set that outlives the call; the descriptor is only borrowed.
    let _ = unsafe { libc::signalfd(fd.as_raw_fd(), set, 0) };
}

/// Whether whoever started us had `signal` ignored (nohup does that with SIGHUP).
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all-zero bytes are a valid sigaction, and the kernel only writes into it.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == libc::SIG_IGN
    }
}

/// prctl(2) with one number. libc takes what follows it as it comes, so all of it must be as wide as it reads.
///
/// # Safety
/// `option` must be one that takes no pointer.
unsafe fn prctl(option: libc::c_int, number: libc::c_ulong) -> libc::c_int {
    const NONE: libc::c_ulong = 0;
    // SAFETY: by this function's own condition.
    unsafe { libc::prctl(option, number, NONE, NONE, NONE) }
}

/// Ends this child with its parent, the process `parent`; at once if that has gone already. Not any more
/// where either has become another user since: the kernel forgets it of a child, and a parent that has
/// dropped its rights may send a child of root's no signal. Such a child must see its parent go by itself.
pub fn die_with(parent: Pid) {
    // SAFETY: prctl with a signal number takes no pointer; _exit ends the child.
    unsafe {
        prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong);
        // 0: the parent is outside of our PID namespace (unshare --pid).
        let now = libc::getppid();
        if now != parent.as_raw() && now != 0 {
            libc::_exit(1);
        }
    }
}

/// Defines the C function `main` of a program without std's own: it hands the arguments behind the
/// program's name to a function and ends with the exit code that this returns.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        /// What libc calls.
        // C gives it pointers and knows no `unsafe`.
        #[allow(clippy::not_unsafe_ptr_arg_deref)]
        // SAFETY: the only function of that name in the program, and of the type that C demands.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(
            count: ::std::ffi::c_int,
            arguments: *const *const ::std::ffi::c_char,
        ) -> ::std::ffi::c_int {
            $crate::sys::set_up();
            // SAFETY: they are those that libc gave to main.
            let arguments = unsafe { $crate::sys::arguments(count, arguments) };
            $run(arguments)
        }
    };
}

/// What of std's start a program needs that has none: the three standard descriptors are open (what
/// is opened first would else take their place, and be written to). SIGPIPE is blocked later, with the others.
pub fn set_up() {
    let closed = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut standard = [closed(0), closed(1), closed(2)];
    // SAFETY: reads and writes three structs that outlive the call.
    unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    for one in standard.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is NUL-terminated; the descriptor is the lowest that is free, which is
        // this one, and is never closed.
        let mut opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if opened < 0 {
            // A machine without one (a bare chroot): a place that nothing can be read from or written to.
            // SAFETY: as above.
            opened = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH) };
        }
        if opened != one.fd {
            // SAFETY: ends the process.
            unsafe { libc::_exit(libc::EXIT_FAILURE) }
        }
    }
}

/// The arguments behind the program's name.
///
/// # Safety
/// `arguments` must point to `count` pointers to NUL-terminated strings which stay as they are: what
/// libc gives to main.
pub unsafe fn arguments(
    count: libc::c_int,
    arguments: *const *const libc::c_char,
) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    (1..count)
        .map(|n| {
            // SAFETY: by this function's own condition.
            let text = unsafe { CStr::from_ptr(*arguments.add(n)) };
            OsString::from_vec(text.to_bytes().to_vec())
        })
        .collect()
}

/// The first descriptor behind standard error, where service managers begin to hand theirs over.
const FIRST: RawFd = 3;

/// Closes every descriptor above standard error that was left open by whoever started us, but for
/// the first `kept` of them.
pub fn close_inherited(kept: u8) {
    let first = FIRST + RawFd::from(kept);
    // SAFETY: called first thing in main, before any descriptor of ours exists.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0)
    };
    if done == 0 {
        return;
    }
    // Before Linux 5.9: /proc names the open ones.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map(|dir| dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_else(|_| (first..1024).collect());
    for fd in open {
        if fd >= first {
            // SAFETY: as above; closing one that is no longer open does no harm.
            unsafe { libc::close(fd) };
        }
    }
}

/// The descriptors that [`close_inherited`] kept, where they are open; closed when we start others.
pub fn handed_over(kept: u8) -> Vec<OwnedFd> {
    let taken = |fd: RawFd| {
        // SAFETY: fcntl with these commands takes no pointer.
        Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
        // SAFETY: it is open, was open before us, and nobody else here knows of it: called once.
        Some(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    (FIRST..FIRST + RawFd::from(kept)).filter_map(taken).collect()
}

/// Forks this process, which must have one thread alone: the child may then do all that its parent
/// could. Gives the child's process id to the parent, and nothing to the child.
///
/// # Errors
/// The errno of fork(2).
pub fn fork() -> Result<Option<Pid>, Errno> {
    // SAFETY: no other thread can hold a lock at this moment.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {
            ID.store(0, Ordering::Relaxed);
            GIVEN_TAKEN.store(true, Ordering::Relaxed);
            Ok(None)
        }
        pid => Ok(Some(Pid::from_raw(pid))),
    }
}

/// Ends this process at once, without a word.
pub fn exit(code: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// Turns this process, which must have one thread alone, into `uid`:`gid`, for good: without groups
/// and capabilities, and neither it nor what it starts ever has more. Others of that user cannot look
/// into its memory.
///
/// # Errors
/// The errno of the first call that failed; the process must then be ended.
pub fn drop_privileges(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: setgroups reads no id where there are none; the other calls take no pointer.
    unsafe {
        Errno::result(libc::setgroups(0, std::ptr::null()))?;
        Errno::result(libc::setresgid(gid, gid, gid))?;
        Errno::result(libc::setresuid(uid, uid, uid))?;
        Errno::result(prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
        Errno::result(prctl(libc::PR_SET_DUMPABLE, 0))?;
    }
    Ok(())
}

/// A process, held so that its number is nobody else's meanwhile. `None` before Linux 5.3, and where it has ended.
pub fn hold_process(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: takes no pointer.
    let opened = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) });
    // SAFETY: it was just opened and nobody else owns it. (The kernel closes it when we start others.)
    opened.ok().map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal to a process that is held.
///
/// # Errors
/// The errno of pidfd_send_signal(2).
pub fn signal_held(process: BorrowedFd<'_>, signal: Signal) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: reads nothing where there is no siginfo.
    Errno::result(unsafe {
        let fd = process.as_raw_fd();
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as libc::c_int, none, 0)
    })
    .map(drop)
}

/// Gives up, for good, all capabilities of this process but those in `kept` (a bit for each), also for what it
/// starts.
///
/// # Errors
/// The errno of prctl(2) or capset(2).
pub fn keep_capabilities(kept: u64) -> Result<(), Errno> {
    const VERSION_3: u32 = 0x2008_0522;
    const MOST: u32 = 63;
    let mut bounded = Ok(());
    for number in (0..=MOST).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: takes no pointer.
        match Errno::result(unsafe { prctl(libc::PR_CAPBSET_DROP, number.into()) }) {
            Ok(_) => {}
            // Behind the last one that this kernel knows.
            Err(Errno::EINVAL) => break,
            // Not to be had without CAP_SETPCAP; what is had now is given up all the same.
            Err(errno) => bounded = Err(errno),
        }
    }
    let has = capabilities().unwrap_or(0) & kept;
    let (low, high) = (has as u32, (has >> 32) as u32);
    let mut header = [VERSION_3, 0];
    // Effective, permitted, inheritable: the lower halves, then the upper ones.
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: the header is two words that may be written to, and version 3 reads two structs of three words each.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })?;
    bounded
}

/// Locks an open file or folder (flock(2)) until it is closed, without waiting: nix's lock takes a call
/// of its own to let go.
///
/// # Errors
/// The errno, EWOULDBLOCK where somebody else holds it.
pub fn lock_now(file: &File) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Overwrites the environment variables of this process whose names begin with `prefix`, where the kernel
/// has put them. The process must have one thread alone.
pub fn wipe_environment(prefix: &str) {
    unsafe extern "C" {
        static environ: *mut *mut libc::c_char;
    }
    // SAFETY: libc's list of pointers to strings that end with a null byte, itself ended by a null pointer
    // (environ(7)); nobody else reads or changes it, as there is no other thread.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let length = CStr::from_ptr(text).to_bytes().len();
            if CStr::from_ptr(text).to_bytes().starts_with(prefix.as_bytes()) {
                for n in 0..length {
                    // Nobody reads it again, which must be no reason to leave it out.
                    text.add(n).write_volatile(0);
                }
            }
            entry = entry.add(1);
        }
    }
}

/// Random bits for jitter and DNS message ids, never blocking: those that the kernel gave the program
/// at its start, once, and then getrandom(2)'s.
pub fn random() -> u64 {
    if cfg!(target_env = "musl") && !GIVEN_TAKEN.swap(true, Ordering::Relaxed) {
        // SAFETY: looks a number up in what the kernel gave the process when it started.
        let given = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const [u8; 16];
        if !given.is_null() {
            // musl guards its stack and its heap by them: so what gets out is no part of them itself.
            let mut hash = DefaultHasher::new();
            // SAFETY: AT_RANDOM leads to 16 bytes that stay as they are.
            hash.write(unsafe { &*given });
            return hash.finish();
        }
    }
    let mut bits = [0u8; 8];
    // SAFETY: writes at most 8 bytes into an array of 8.
    let got = unsafe { libc::getrandom(bits.as_mut_ptr().cast(), bits.len(), libc::GRND_NONBLOCK) };
    if got == 8 {
        return u64::from_ne_bytes(bits);
    }
    // Too early in the boot for the pool: the addresses and times of this process differ enough.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_nanos() as u64) ^ (u64::from(std::process::id()) << 40)
}

/// Whether the bits of the program's start have been used by this process or one that it was forked from.
static GIVEN_TAKEN: AtomicBool = AtomicBool::new(false);

/// Sends one datagram or stream chunk without ever blocking or raising SIGPIPE.
///
/// # Errors
/// The errno, EAGAIN where the reader's queue is full.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads `bytes.len()` bytes from a slice of that length.
    Errno::result(unsafe {
        libc::send(
            socket.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    })
    .map(|sent| sent as usize)
}

/// Starts a non-blocking TCP connection to `address`. Where every port is taken that is given to anybody, root
/// gets one that others cannot have.
///
/// # Errors
/// The errno of socket(2) or connect(2); EINPROGRESS is no error. EADDRNOTAVAIL: no port is left for it
/// ([`ports_are_taken`]), or this machine has no address to begin it at.
pub fn connect_tcp(address: SocketAddr) -> Result<TcpStream, Errno> {
    connect_tcp_by(address).map(|(stream, _)| stream)
}

/// The same, and whether it had to be such a port.
///
/// # Errors
/// As [`connect_tcp`].
pub fn connect_tcp_by(address: SocketAddr) -> Result<(TcpStream, bool), Errno> {
    match connect(address, libc::SOCK_STREAM) {
        Err(none @ Errno::EADDRNOTAVAIL) if ports_are_taken(address) => {
            let reserved = connect_from_reserved(address, libc::SOCK_STREAM);
            reserved.ok().flatten().map(|fd| (fd.into(), true)).ok_or(none)
        }
        other => other.map(|fd| (fd.into(), false)),
    }
}

/// The same, from a port that root alone can have, if this is root and one is free.
///
/// # Errors
/// The errno of socket(2) or connect(2); EINPROGRESS is no error.
pub fn connect_tcp_from_reserved(address: SocketAddr) -> Result<TcpStream, Errno> {
    match connect_from_reserved(address, libc::SOCK_STREAM)? {
        Some(connected) => Ok(connected.into()),
        None => connect_tcp(address),
    }
}

/// A non-blocking UDP socket that was never open to any sender but `address`. Where every port is taken that
/// is given to anybody, it has one that root alone can have.
///
/// # Errors
/// The errno of socket(2) or connect(2).
pub fn connect_udp(address: SocketAddr) -> Result<UdpSocket, Errno> {
    match connect(address, libc::SOCK_DGRAM) {
        Err(none @ Errno::EAGAIN) => {
            let reserved = connect_from_reserved(address, libc::SOCK_DGRAM);
            reserved.ok().flatten().map(Into::into).ok_or(none)
        }
        other => other.map(Into::into),
    }
}

/// Whether every port is taken that the kernel gives to a connection to `address` (net.ipv4.ip_local_port_range).
pub fn ports_are_taken(address: SocketAddr) -> bool {
    let unused = socket(address, libc::SOCK_STREAM | libc::SOCK_CLOEXEC)
        .and_then(|fd| call_with(&fd, from_any(address, 0), libc::bind));
    unused == Err(Errno::EADDRINUSE)
}

/// `None`: this is not root, or there is none.
fn connect_from_reserved(address: SocketAddr, kind: libc::c_int) -> Result<Option<OwnedFd>, Errno> {
    const PORTS: std::ops::Range<u16> = 600..1024;
    /// One port's last connection to an address may not be forgotten yet; if that of so many is not, there is
    /// another reason.
    const REFUSED: u32 = 8;
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let first = random() as usize % PORTS.len();
    let mut refused = 0;
    for port in PORTS.cycle().skip(first).take(PORTS.len()) {
        let fd = socket(address, kind)?;
        match call_with(&fd, from_any(address, port), libc::bind) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => continue,
            Err(Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        match call_with(&fd, address, libc::connect) {
            Ok(()) | Err(Errno::EINPROGRESS) => return Ok(Some(fd)),
            Err(Errno::EADDRNOTAVAIL) if refused < REFUSED => refused += 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// A port of any address of this machine, of the family of `address`.
fn from_any(address: SocketAddr, port: u16) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    }
}

/// A non-blocking connection to the local socket at `path`; EAGAIN where its queue is full.
///
/// # Errors
/// The errno of socket(2) or connect(2); ENAMETOOLONG where no socket can have that path.
pub fn connect_unix(path: &Path) -> Result<UnixStream, Errno> {
    // SAFETY: all-zero bytes are a valid sockaddr_un.
    let mut raw: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    // One byte is left zero behind it.
    if bytes.len() >= raw.sun_path.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    for (to, from) in raw.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the pointer and the length describe `raw`, which outlives the call.
    Errno::result(unsafe { libc::connect(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) })?;
    Ok(socket.into())
}

fn connect(address: SocketAddr, kind: libc::c_int) -> Result<OwnedFd, Errno> {
    let socket = socket(address, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
    match call_with(&socket, address, libc::connect) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// A socket of the family of `address`.
fn socket(address: SocketAddr, kind: libc::c_int) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bind(2) or connect(2) with `address`.
fn call_with(
    socket: &OwnedFd,
    address: SocketAddr,
    call: unsafe extern "C" fn(libc::c_int, *const libc::sockaddr, libc::socklen_t) -> libc::c_int,
) -> Result<(), Errno> {
    let fd = socket.as_raw_fd();
    let result = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: all-zero bytes are a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: the pointer and the length describe `raw`, which outlives the call.
            unsafe { call(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
        SocketAddr::V6(v6) => {
            // SAFETY: all-zero bytes are a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: as above.
            unsafe { call(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
    };
    Errno::result(result).map(drop)
}

/// What a TCP socket has sent and waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// Segments, or a question whether there is room for more, that the other end has not acknowledged.
    pub acknowledgement: bool,
    /// Room at the other end, for bytes that are not sent yet.
    pub room: bool,
    /// How long ago the other end was last heard of.
    pub heard: Duration,
}

/// What a TCP socket waits for.
///
/// # Errors
/// The errno of getsockopt(2).
pub fn awaited(socket: BorrowedFd<'_>) -> Result<Awaited, Errno> {
    // The kernel's struct tcp_info, of which libc knows less than Linux 4.18 does: offsets in it.
    const PROBES: usize = 3;
    const UNACKED: usize = 24;
    const LAST_ACK_RECV: usize = 56;
    const NOTSENT_BYTES: usize = 144;
    let mut info = [0_u8; 148];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, which `info` has, and into `length`.
    Errno::result(unsafe {
        let (info, length) = (info.as_mut_ptr().cast(), &raw mut length);
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info, length)
    })?;
    let number = |at: usize| {
        let four = info.get(at..).and_then(|rest| rest.first_chunk::<4>());
        four.map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    };
    let probes = info.get(PROBES).copied().unwrap_or_default();
    Ok(Awaited {
        acknowledgement: number(UNACKED) > 0 || probes > 0,
        room: number(NOTSENT_BYTES) > 0,
        heard: Duration::from_millis(number(LAST_ACK_RECV).into()),
    })
}

/// From now on, nothing that comes in for a socket reaches it, as if the way to it were cut.
#[cfg(test)]
pub fn deafen(socket: BorrowedFd<'_>) {
    // A filter of one step: take no byte of the packet.
    let mut step = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
    let filter = libc::sock_fprog { len: 1, filter: &raw mut step };
    let length = size_of_val(&filter) as libc::socklen_t;
    // SAFETY: reads `length` bytes of `filter`, which points to as many steps as it says.
    Errno::result(unsafe {
        let (filter, fd) = ((&raw const filter).cast(), socket.as_raw_fd());
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, filter, length)
    })
    .unwrap();
}

/// Takes that back.
#[cfg(test)]
pub fn undeafen(socket: BorrowedFd<'_>) {
    let nothing: libc::c_int = 0;
    let length = size_of_val(&nothing) as libc::socklen_t;
    // SAFETY: reads `length` bytes of `nothing`.
    Errno::result(unsafe {
        let (nothing, fd) = ((&raw const nothing).cast(), socket.as_raw_fd());
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, nothing, length)
    })
    .unwrap();
}

/// Writes `bytes` to a descriptor, once, ignoring the outcome: for a child's reply.
pub fn reply(to: BorrowedFd<'_>, bytes: &[u8]) {
    // SAFETY: reads `bytes.len()` bytes from a slice of that length.
    let _ = unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
}

/// The next message on a socket, without waiting for one; how many bytes it has, 0 at the end.
///
/// # Errors
/// The errno, EAGAIN where there is none yet.
pub fn receive_now(from: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    let (fd, flags) = (from.as_raw_fd(), libc::MSG_DONTWAIT);
    // SAFETY: writes at most `bytes.len()` bytes into a slice of that length.
    Errno::result(unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) })
        .map(|got| got as usize)
}

/// Sends one datagram to the local socket at `path`, without ever blocking.
///
/// # Errors
/// The errno; ENAMETOOLONG where no socket can have that path.
pub fn send_to_path(socket: BorrowedFd<'_>, bytes: &[u8], path: &CStr) -> Result<usize, Errno> {
    // SAFETY: all-zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let path = path.to_bytes_with_nul();
    let room = address.sun_path.get_mut(..path.len()).ok_or(Errno::ENAMETOOLONG)?;
    for (to, from) in room.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    let length = (std::mem::offset_of!(libc::sockaddr_un, sun_path) + path.len()) as u32;
    // SAFETY: reads `bytes.len()` bytes from a slice of that length, and an address of `length`
    // bytes, which lie within `address`.
    Errno::result(unsafe {
        let to = (&raw const address).cast();
        libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags, to, length)
    })
    .map(|sent| sent as usize)
}

/// Writes to standard output, once.
///
/// # Errors
/// What write(2) says.
pub fn write_stdout(bytes: &[u8]) -> std::io::Result<usize> {
    // SAFETY: descriptor 1 is open for the life of the process (the runtime
    // opens /dev/null there if it was closed), and ManuallyDrop keeps it so.
    let mut stdout = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    stdout.write(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_given_up_also_by_who_may_not_bound_them() {
        const SETPCAP: u64 = 1 << 8;
        const NET_BIND: u64 = 1 << 10;
        // They are a thread's own.
        let thread = std::thread::spawn(|| {
            let all = capabilities().unwrap();
            assert!(all & SETPCAP != 0, "tests run as root");
            keep_capabilities(all & !SETPCAP).unwrap();
            assert_eq!(capabilities(), Some(all & !SETPCAP));
            assert_eq!(keep_capabilities(NET_BIND), Err(Errno::EPERM));
            assert_eq!(capabilities(), Some(all & NET_BIND));
        });
        thread.join().unwrap();
    }
}
