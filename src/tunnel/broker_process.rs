//! The process in which the broker runs: it stays root, with few of root's rights, and has neither the listeners nor
//! the network. What is said between it and the tunnel is in `broker`.

use super::aws::Aws;
use super::broker::{self, Broker};
use super::listeners::Listeners;
use super::protocol::TunnelError;
use crate::aws::Environment;
use crate::config::encryption::Encryption;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// As capabilities(7) numbers them.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SETGID: u32 = 6;
const CAP_SETUID: u32 = 7;
/// The rights that it keeps, as in its unit: to read root's files, and to give root's rights up.
const CAPABILITIES: u64 = 1 << CAP_SETUID | 1 << CAP_SETGID | 1 << CAP_DAC_READ_SEARCH;

/// Starts the process that reads credentials for this one, and closes `listeners` in it. This process must have one
/// thread alone, since it forks.
///
/// # Errors
/// The errno of the system call that failed.
pub fn start(
    root: &Path,
    encryption: &Encryption,
    listeners: &mut Option<Listeners>,
    clock: &SystemClock<'_>,
    stop: &Stop,
) -> Result<Broker, Errno> {
    let (ours, theirs) = UnixStream::pair().map_err(|e| sys::errno_of(&e))?;
    let parent = nix::unistd::getpid();
    if sys::fork()?.is_some() {
        return Broker::new(ours);
    }

    sys::die_with(parent);
    drop(ours);
    // This process waits for nothing except the tunnel, so a signal may end it at once.
    let ending = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
    let _ = ending.into_iter().collect::<SigSet>().thread_unblock();
    // The listeners must be free as soon as the tunnel ends, even if this process is busy asking for credentials.
    drop(listeners.take());
    give_up_rights();

    serve(theirs, root, encryption, clock, stop);
    sys::exit(0)
}

fn give_up_rights() {
    // Nobody else may read its memory: no core dump, no debugger.
    let _ = prctl::set_dumpable(false);
    // If the right to give up rights is missing, the process has no more than these already.
    let _ = sys::keep_capabilities(CAPABILITIES);
    let _ = prctl::set_no_new_privs();
}

fn serve(
    stream: UnixStream,
    root: &Path,
    encryption: &Encryption,
    clock: &SystemClock<'_>,
    stop: &Stop,
) {
    let environment = match encryption.aws_environment {
        true => Environment::of_process(),
        false => Environment::nothing(),
    };
    let aws = Aws::new(root, environment);
    broker::serve(stream, &mut |left| {
        let wait = Wait::of(left, clock, stop);
        let aws = aws.as_ref().map_err(|why| TunnelError::Credentials(why.clone()))?;
        aws.credentials(encryption, root, wait)
    });
}
