//! The signals that a process blocks, and the namespaces that a forked child takes for itself. A forked child may call
//! all of this: nothing here allocates or takes a lock.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::sethostname;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;

/// Sets the signal mask to exactly `blocked`, SIGXFSZ and SIGPIPE: a write that fails is an error, and does not end the
/// process.
///
/// # Errors
/// The errno of sigprocmask(2).
pub fn set_signals(mut blocked: SigSet) -> Result<(), Errno> {
    blocked.add(Signal::SIGXFSZ);
    blocked.add(Signal::SIGPIPE);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None)
}

/// Blocks SIGPIPE, for commands that never call [`set_signals`].
pub fn block_pipe() {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&pipe), None);
}

/// Gives this (single-threaded, forked) process its own mount namespace. What it mounts there is gone when it ends, and
/// no other process sees it.
///
/// # Errors
/// The errno of unshare(2) or mount(2).
pub fn private_mounts() -> Result<(), Errno> {
    const NONE: Option<&CStr> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(NONE, c"/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
}

/// Gives this (forked) process its own host name, in its own UTS namespace. Other processes keep the machine's.
///
/// # Errors
/// The errno: EPERM if a filter or a unit's RestrictNamespaces= forbids it.
pub fn take_host_name(name: &CStr) -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_NEWUTS)?;
    sethostname(OsStr::from_bytes(name.to_bytes()))
}
