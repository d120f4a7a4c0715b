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
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// A child made by [`spawn`]: its process id and the end of the pipe that its reply comes out of.
#[derive(Debug)]
pub struct Child {
    /// Process id; the caller must reap it.
    pub pid: Pid,
    /// Non-blocking read end of the reply pipe.
    pub reply: OwnedFd,
}

/// Held from the making of a reply pipe until its write end is closed in this
/// process, so that no child forked by another thread inherits that end and
/// keeps the pipe open.
static FORKING: Mutex<()> = Mutex::new(());

/// Forks a child that runs `job` and exits.
///
/// The child dies with its parent (`PR_SET_PDEATHSIG`), has the default signal
/// dispositions for what the agent catches, and no signal blocked. `job` writes
/// its reply to the descriptor it is given; it must make system calls only (see
/// the module's head).
///
/// # Errors
/// The errno of pipe2(2) or fork(2).
pub fn spawn(job: impl FnOnce(BorrowedFd<'_>)) -> Result<Child, Errno> {
    let guard = FORKING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut ends: [RawFd; 2] = [-1; 2];
    // SAFETY: `ends` is a valid array of two descriptors for the kernel to fill.
    Errno::result(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: pipe2 succeeded, so both are open descriptors that nobody else owns.
    let (reply, write) = unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) };
    let parent = nix::unistd::getpid();
    // SAFETY: the child below makes system calls only, as fork(2) demands of a
    // process that may have threads, and never returns from this function.
    match Errno::result(unsafe { libc::fork() })? {
        0 => {
            let _abort = AbortOnUnwind;
            die_with(parent);
            let _ = nix::sys::signal::sigprocmask(
                SigmaskHow::SIG_SETMASK,
                Some(&SigSet::empty()),
                None,
            );
            drop(reply); // the parent's end: a child must do with few descriptors too
            job(write.as_fd());
            // SAFETY: _exit runs no destructor and no atexit handler of the parent's.
            unsafe { libc::_exit(0) }
        }
        pid => {
            drop(write);
            drop(guard);
            Ok(Child { pid: Pid::from_raw(pid), reply })
        }
    }
}

/// Ends a forked child rather than let a panic unwind into the parent's frames.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        // SAFETY: takes no argument and does not return.
        unsafe { libc::abort() }
    }
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

/// The running kernel's release, as `uname -r` shows it; "unknown" where it is not told.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or("unknown".into(), |u| u.release().to_string_lossy().into())
}

/// Turns this (single-threaded, forked) process into `uid`:`gid` with `groups`, for good.
///
/// The kernel forgets [`die_with`] at this, so it is said again.
///
/// The raw system calls are used because libc's wrappers signal all threads of
/// the process, which is wrong in a fork of a threaded one.
///
/// # Errors
/// The errno of the first call that failed; the process must then be ended.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    let parent = nix::unistd::getppid();
    // SAFETY: setgroups reads `groups.len()` ids from a slice of that length;
    // the other calls take no pointer.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    die_with(parent);
    Ok(())
}

/// Sets what was inherited and must not be trusted: SIGCHLD back to its default (ignored,
/// children would be reaped behind our back), SIGXFSZ to ignored (a write past a size limit is an
/// error, not our end), and the signal mask to exactly `blocked`.
///
/// # Errors
/// The errno of sigaction(2) or sigprocmask(2).
pub fn set_signals(blocked: &SigSet) -> Result<(), Errno> {
    let action = |handler| SigAction::new(handler, SaFlags::empty(), SigSet::empty());
    // SAFETY: installs dispositions without a handler, so no code of ours can run in one.
    unsafe {
        nix::sys::signal::sigaction(Signal::SIGCHLD, &action(SigHandler::SigDfl))?;
        nix::sys::signal::sigaction(Signal::SIGXFSZ, &action(SigHandler::SigIgn))?;
    }
    nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(blocked), None)
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

/// Ends this child with its parent, the process `parent`; at once if that has gone already.
pub fn die_with(parent: Pid) {
    // SAFETY: prctl with a signal number takes no pointer; _exit ends the child.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        // 0: the parent is outside of our PID namespace (unshare --pid).
        let now = libc::getppid();
        if now != parent.as_raw() && now != 0 {
            libc::_exit(1);
        }
    }
}

/// Closes every descriptor above standard error that was left open by whoever started us.
pub fn close_inherited() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: called first thing in main, before any descriptor of ours exists.
    let done = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    if done == 0 {
        return;
    }
    // Before Linux 5.9: /proc names the open ones.
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map(|dir| dir.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
        .unwrap_or_else(|_| (FIRST as RawFd..1024).collect());
    for fd in open {
        if fd >= FIRST as RawFd {
            // SAFETY: as above; closing one that is no longer open does no harm.
            unsafe { libc::close(fd) };
        }
    }
}

/// Random bits for jitter and DNS message ids (getrandom(2), never blocking).
pub fn random() -> u64 {
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

/// Starts a non-blocking TCP connection to `address`.
///
/// # Errors
/// The errno of socket(2) or connect(2); EINPROGRESS is no error.
pub fn connect_tcp(address: std::net::SocketAddr) -> Result<std::net::TcpStream, Errno> {
    connect(address, libc::SOCK_STREAM).map(Into::into)
}

/// A non-blocking UDP socket that was never open to any sender but `address`.
///
/// # Errors
/// The errno of socket(2) or connect(2).
pub fn connect_udp(address: std::net::SocketAddr) -> Result<std::net::UdpSocket, Errno> {
    connect(address, libc::SOCK_DGRAM).map(Into::into)
}

fn connect(address: std::net::SocketAddr, kind: libc::c_int) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes no pointer.
    let fd = Errno::result(unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let result = match address {
        std::net::SocketAddr::V4(v4) => {
            // SAFETY: all-zero bytes are a valid sockaddr_in.
            let mut raw: libc::sockaddr_in = unsafe { std::mem::zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = v4.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            // SAFETY: the pointer and the length describe `raw`, which outlives the call.
            unsafe { libc::connect(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
        std::net::SocketAddr::V6(v6) => {
            // SAFETY: all-zero bytes are a valid sockaddr_in6.
            let mut raw: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = v6.port().to_be();
            raw.sin6_addr.s6_addr = v6.ip().octets();
            raw.sin6_scope_id = v6.scope_id();
            // SAFETY: as above.
            unsafe { libc::connect(fd, (&raw const raw).cast(), size_of_val(&raw) as u32) }
        }
    };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EINPROGRESS) => Ok(socket),
        Err(errno) => Err(errno),
    }
}

/// Writes `bytes` to a descriptor, once, ignoring the outcome: for a child's reply.
pub fn reply(to: BorrowedFd<'_>, bytes: &[u8]) {
    // SAFETY: reads `bytes.len()` bytes from a slice of that length.
    let _ = unsafe { libc::write(to.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
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
