//! The only unsafe code: the thin calls that `nix` lacks. The files below it make safe calls alone.
//!
//! No policy and no logging live here: each function does one thing to the process or the kernel and reports the errno.
//! A forked child ([`spawn`]) may only make system calls. Its parent may have threads, so the child must not allocate or
//! take a lock.
#![allow(unsafe_code)]

mod machine;
mod process;
mod sockets;

pub use machine::{host_name, is_at_least, kernel_release};
pub use process::{block_pipe, private_mounts, set_signals, take_host_name};
pub use sockets::{
    connect_tcp, connect_tcp_by, connect_tcp_from_reserved, connect_udp, connect_unix,
    ports_are_taken, receive_now, reply, send_now, send_to_path,
};

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use std::ffi::{CStr, OsString};
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

/// A child made by [`spawn`]: its process id and the parent's end of the socket between them.
#[derive(Debug)]
pub struct Child {
    /// Process id; the caller must reap it.
    pub pid: Pid,
    /// Gives the child's messages one by one, and ends when the child ends.
    pub reply: OwnedFd,
}

/// Held from the making of a pair of sockets until the child's end is closed in this process. Without it, a child forked
/// by another thread would inherit that end and keep the connection open.
static FORKING: Mutex<()> = Mutex::new(());

/// Forks a child that runs `job` and exits.
///
/// The child dies with its parent (`PR_SET_PDEATHSIG`) and keeps its parent's signals blocked, so that only its parent
/// ends it, by SIGKILL. It sends no SIGCHLD when it ends: the parent can reap it whatever its own starter has done to
/// that signal. waitpid(2) finds it only with `__WALL`. `job` sends its messages over the socket that it gets
/// ([`reply`]). It must make system calls only (see the module's head).
///
/// # Errors
/// The errno of socketpair(2) or clone(2).
pub fn spawn(job: impl FnOnce(BorrowedFd<'_>)) -> Result<Child, Errno> {
    let guard = FORKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let (reply, write) = socketpair(AddressFamily::Unix, kind, None, flags)?;
    let parent = process_id();

    // SAFETY: the child below makes system calls only, as fork(2) demands in a process that may have threads, and never
    // returns from this function. This is not libc's fork(): that makes eight more calls for a child that goes on.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) })?;
    if pid == 0 {
        let _end = EndOnUnwind;
        ID.store(0, Ordering::Relaxed);
        die_with(parent);
        // The parent's end is closed here: the child may be short of descriptors.
        drop(reply);
        job(write.as_fd());
        // SAFETY: _exit runs no destructor and no atexit handler of the parent's.
        unsafe { libc::_exit(0) }
    }
    drop(write);
    drop(guard);
    Ok(Child { pid: Pid::from_raw(pid as libc::pid_t), reply })
}

/// Ends a forked child if a panic would unwind into the parent's frames. abort(3) would not do: libc does not know that
/// this process is a child, and would end the parent. The program that ships aborts when it panics, so a job must not
/// panic.
struct EndOnUnwind;

impl Drop for EndOnUnwind {
    fn drop(&mut self) {
        // SAFETY: takes no pointer and does not return.
        unsafe { libc::_exit(libc::EXIT_FAILURE) }
    }
}

/// This process's id. The kernel is asked once, because every line of the log needs it.
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

/// The answer of [`process_id`]; 0 until the kernel was asked.
static ID: AtomicI32 = AtomicI32::new(0);

/// Whether this process was started as root. That does not change.
pub fn is_root() -> bool {
    // SAFETY: reads a number that the kernel gave the process when it started.
    unsafe { libc::getauxval(libc::AT_EUID) == 0 }
}

/// The version of the structs that capget(2) and capset(2) take.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The capabilities that are in effect (capget(2)), as in CapEff of /proc/self/status.
pub fn capabilities() -> Option<u64> {
    // The kernel writes into it if it does not know that version.
    let mut header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable: the lower halves, then the upper ones.
    let mut sets = [0u32; 6];
    // SAFETY: the header is two words that may be written to, and version 3 writes two structs of three words each.
    let got = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()) };
    (got == 0).then(|| u64::from(sets[3]) << 32 | u64::from(sets[0]))
}

/// mount(2) as it is. `Ok` holds the value that the call returned: an NFS mount with `sloppy` may return +1 and mount
/// nothing.
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

/// Makes the kernel load the module for a type of file system, if it is not loaded yet. Mounts nothing.
pub fn load_file_system(name: &CStr) {
    const FSOPEN_CLOEXEC: libc::c_ulong = 1;
    // SAFETY: reads a NUL-terminated string. libc has no wrapper for this call yet.
    match Errno::result(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) }) {
        // SAFETY: it was just opened and nobody else owns it.
        Ok(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        Err(Errno::ENOSYS) => {
            // Before Linux 5.2: this loads the module, and then fails because it has no data for the mount.
            let none = std::ptr::null();
            // SAFETY: mount is given NUL-terminated strings, or none where it reads none.
            unsafe { libc::mount(c"none".as_ptr(), c"/".as_ptr(), name.as_ptr(), 0, none) };
        }
        Err(_) => {}
    }
}

/// The errno of an error of the standard library, EIO if it has none.
pub fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// `(major, minor)` of the file system that an open file is on. Asks no server, because that could be dead.
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

/// Makes access(2) answer for `uid`:`gid` with `groups` in this (forked) process, by its real ids. Its effective ids stay
/// root's. That user can signal it, since kill(2) goes by the real id, but cannot trace it or look into its memory.
///
/// These are raw system calls, because libc's wrappers signal all threads of the process. That is wrong in the fork of a
/// process with threads.
///
/// # Errors
/// The errno of the first call that failed; the process must then be ended.
pub fn stand_for(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    const KEEP: u32 = u32::MAX;
    // SAFETY: setgroups reads `groups.len()` ids from a slice of that length; the other calls take no pointer.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, gid, KEEP, KEEP))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, uid, KEEP, KEEP))?;
    }
    Ok(())
}

/// Makes this (forked) process open files as `uid`:`gid` with `groups`. For everything else it stays root's.
///
/// # Errors
/// The errno of setgroups(2); EPERM where the ids were not taken.
pub fn open_as(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let (wanted_uid, wanted_gid) = (i64::from(uid as i32), i64::from(gid as i32));
    // SAFETY: setgroups reads `groups.len()` ids from a slice of that length; the other calls take no pointer. They
    // return the id before the call, and -1 leaves it as it is.
    let now = unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        (libc::syscall(libc::SYS_setfsuid, -1), libc::syscall(libc::SYS_setfsgid, -1))
    };
    if now == (wanted_uid, wanted_gid) { Ok(()) } else { Err(Errno::EPERM) }
}

/// Sets SIGCHLD to its default, which our starter may have changed. If it is ignored, the kernel reaps the programs that
/// we start. [`spawn`] does not need it.
pub fn keep_children() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: installs a disposition without a handler.
    let _ = unsafe { nix::sys::signal::sigaction(Signal::SIGCHLD, &default) };
}

/// Makes the signalfd(2) `fd` collect `signals` from now on, and no others.
pub fn collect(fd: BorrowedFd<'_>, signals: &SigSet) {
    let set: *const libc::sigset_t = signals.as_ref();
    // SAFETY: reads a signal set that outlives the call; the descriptor is only borrowed.
    let _ = unsafe { libc::signalfd(fd.as_raw_fd(), set, 0) };
}

/// Whether our starter made us ignore `signal` (nohup does that with SIGHUP).
pub fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all-zero bytes are a valid sigaction, and the kernel only writes into it.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal as libc::c_int, std::ptr::null(), &raw mut old) == 0
            && old.sa_sigaction == libc::SIG_IGN
    }
}

/// prctl(2) with one number. The call has variable arguments, so each of them must be as wide as libc reads it.
///
/// # Safety
/// `option` must be one that takes no pointer.
unsafe fn prctl(option: libc::c_int, number: libc::c_ulong) -> libc::c_int {
    const NONE: libc::c_ulong = 0;
    // SAFETY: by this function's own condition.
    unsafe { libc::prctl(option, number, NONE, NONE, NONE) }
}

/// Ends this child when its parent, the process `parent`, ends; at once if that has gone already.
///
/// The kernel forgets this if the child becomes another user. A parent that has dropped its rights may not signal a
/// child that is root's. Such a child must notice by itself that its parent has gone.
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

/// Defines the C function `main` of a program that has none by std. It passes the arguments behind the program's name to
/// a function, and ends with the exit code that this returns.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
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

/// Makes sure that the three standard descriptors are open: the part of std's start that this program needs. Otherwise
/// the first files that are opened would take their place, and the output would be written into them. SIGPIPE is
/// blocked later.
pub fn set_up() {
    let mut standard = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: reads and writes three structs that outlive the call.
    unsafe { libc::poll(standard.as_mut_ptr(), 3, 0) };
    for one in standard.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is NUL-terminated. The descriptor is never closed. It is the lowest free one, so this one.
        let mut opened = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        if opened < 0 {
            // There is none in a bare chroot. Nothing can be read from this descriptor or written to it.
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
/// `arguments` must point to `count` pointers to NUL-terminated strings that stay as they are, as libc gives them to main.
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

/// Closes every descriptor above standard error that our starter left open, except the first `kept` of them.
pub fn close_inherited(kept: u8) {
    let first = FIRST + RawFd::from(kept);
    // SAFETY: called at the start of main, before this program has opened a descriptor.
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

/// Takes over the descriptors that [`close_inherited`] kept and that are open. The programs that we start do not get
/// them.
pub fn handed_over(kept: u8) -> Vec<OwnedFd> {
    (FIRST..FIRST + RawFd::from(kept)).filter_map(take_over).collect()
}

fn take_over(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: fcntl with this command takes no pointer.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }).ok()?;
    // SAFETY: it is open, was open before this program began, and is taken over once.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Forks this process, which must have a single thread, so that the child may do all that its parent could. The parent
/// gets the child's process id, the child gets `None`.
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

/// Ends this process at once: nothing is flushed or dropped.
pub fn exit(code: u8) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// Turns this process, which must have a single thread, into `uid`:`gid` for good, without groups and capabilities.
/// Neither it nor what it starts ever has more. Other processes of that user cannot look into its memory.
///
/// # Errors
/// The errno of the first call that failed; the process must then be ended.
pub fn drop_privileges(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: setgroups reads no id if there are none; the other calls take no pointer.
    unsafe {
        Errno::result(libc::setgroups(0, std::ptr::null()))?;
        Errno::result(libc::setresgid(gid, gid, gid))?;
        Errno::result(libc::setresuid(uid, uid, uid))?;
        Errno::result(prctl(libc::PR_SET_NO_NEW_PRIVS, 1))?;
        Errno::result(prctl(libc::PR_SET_DUMPABLE, 0))?;
    }
    Ok(())
}

/// A descriptor that stands for a process: its number goes to no other process meanwhile. `None` before Linux 5.3, and if
/// the process has ended.
pub fn hold_process(pid: Pid) -> Option<OwnedFd> {
    // SAFETY: takes no pointer.
    let opened = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) });
    // SAFETY: it was just opened and nobody else owns it. The kernel closes it on exec.
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

/// Gives up for good all capabilities of this process, and of what it starts, except those in `kept` (a bit for each).
///
/// # Errors
/// The errno of prctl(2) or capset(2).
pub fn keep_capabilities(kept: u64) -> Result<(), Errno> {
    const MOST: u32 = 63;

    let mut bounded = Ok(());
    for number in (0..=MOST).filter(|number| kept >> number & 1 == 0) {
        // SAFETY: takes no pointer.
        match Errno::result(unsafe { prctl(libc::PR_CAPBSET_DROP, number.into()) }) {
            Ok(_) => {}
            // This kernel knows no higher number.
            Err(Errno::EINVAL) => break,
            // It needs CAP_SETPCAP. The capabilities in effect are given up all the same.
            Err(errno) => bounded = Err(errno),
        }
    }

    let has = capabilities().unwrap_or(0) & kept;
    let (low, high) = (has as u32, (has >> 32) as u32);
    let mut header = [CAPABILITY_VERSION_3, 0];
    // Effective, permitted, inheritable: the lower halves, then the upper ones.
    let sets = [low, low, 0, high, high, 0];
    // SAFETY: the header is two words that may be written to, and version 3 reads two structs of three words each.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()) })?;
    bounded
}

/// Locks an open file or folder (flock(2)) until it is closed, without waiting. nix's lock would take one more call to
/// unlock it.
///
/// # Errors
/// The errno, EWOULDBLOCK if somebody else holds the lock.
pub fn lock_now(file: &File) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Overwrites the environment variables of this process whose names begin with `prefix`, in the memory in which the
/// kernel has put them. The process must have a single thread.
pub fn wipe_environment(prefix: &str) {
    unsafe extern "C" {
        static environ: *mut *mut libc::c_char;
    }
    // SAFETY: libc's list of pointers to NUL-terminated strings, which a null pointer ends (environ(7)). Nobody else
    // reads or changes it, as there is no other thread.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = *entry;
            let length = CStr::from_ptr(text).to_bytes().len();
            if CStr::from_ptr(text).to_bytes().starts_with(prefix.as_bytes()) {
                for n in 0..length {
                    // The compiler may not leave it out because nobody reads it again.
                    text.add(n).write_volatile(0);
                }
            }
            entry = entry.add(1);
        }
    }
}

/// Random bits for jitter and DNS message ids, without ever blocking. The first are those that the kernel gave the program
/// at its start, which costs no system call. Later ones are getrandom(2)'s.
pub fn random() -> u64 {
    if cfg!(target_env = "musl") && !GIVEN_TAKEN.swap(true, Ordering::Relaxed) {
        // SAFETY: reads a number that the kernel gave the process when it started.
        let given = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const [u8; 16];
        if !given.is_null() {
            // musl guards its stack and its heap by them, so they must not get out as they are.
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
    // Too early in the boot for random bits. The time and the process id differ enough.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| d.as_nanos() as u64) ^ (u64::from(std::process::id()) << 40)
}

/// Whether this process, or one that it was forked from, has used the bits of the program's start.
static GIVEN_TAKEN: AtomicBool = AtomicBool::new(false);

/// What a TCP socket waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// The other end has not acknowledged everything: data, or a question whether it has room for more.
    pub acknowledgement: bool,
    /// The other end has no room for bytes that are not sent yet.
    pub room: bool,
    /// The time since something came from the other end.
    pub heard: Duration,
}

/// What a TCP socket waits for now: see [`Awaited`].
///
/// # Errors
/// The errno of getsockopt(2).
pub fn awaited(socket: BorrowedFd<'_>) -> Result<Awaited, Errno> {
    // libc knows less of the kernel's struct tcp_info than Linux 4.18 does. These are offsets in it.
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

    let probes = info.get(PROBES).copied().unwrap_or_default();
    Ok(Awaited {
        acknowledgement: number_at(&info, UNACKED) > 0 || probes > 0,
        room: number_at(&info, NOTSENT_BYTES) > 0,
        heard: Duration::from_millis(number_at(&info, LAST_ACK_RECV).into()),
    })
}

fn number_at(bytes: &[u8], offset: usize) -> u32 {
    let four = bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>());
    four.map_or(0, |four| u32::from_ne_bytes(*four))
}

/// Lets nothing reach a socket any more, as if the network were cut.
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

/// Ends what [`deafen`] began.
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

/// Writes to standard output, once.
///
/// # Errors
/// The error of write(2).
pub fn write_stdout(bytes: &[u8]) -> std::io::Result<usize> {
    // SAFETY: descriptor 1 is open for the life of the process ([`set_up`]), and ManuallyDrop keeps it so.
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
        // Capabilities belong to a thread.
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
