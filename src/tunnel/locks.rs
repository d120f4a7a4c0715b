//! Two locks for each tunnel, on files below /run. With one, runs show each other that they use the tunnel; with the
//! other, only one of them starts it at a time. Who uses or starts it, and what follows, is decided in `units`.

use super::instance::Instance;
use super::run_files;
use crate::files;
use crate::retry::Stopped;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// How often a lock is tried again that another run has.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Shows other runs that a tunnel is used, until it is dropped. Many runs can have one at the same time.
pub struct UseLock(Flock<File>);

impl UseLock {
    /// Takes the lock. Waits for a run that is about to end the tunnel. Gives `None` when `wait` is over, or if no lock
    /// can be made.
    ///
    /// # Errors
    /// [`Stopped`].
    pub fn take(root: &Path, mount_point: &Path, wait: Wait<'_>) -> Result<Option<Self>, Stopped> {
        let Some(mut file) = open(root, mount_point, "lock") else {
            return Ok(None);
        };

        loop {
            match Flock::lock(file, FlockArg::LockSharedNonblock) {
                Ok(lock) => return Ok(Some(Self(lock))),
                Err((again, Errno::EAGAIN)) if !wait.passed() => file = again,
                Err(_) => return Ok(None),
            }
            wait.clock.wait(RETRY_INTERVAL)?;
        }
    }

    /// Tries to make this the only lock. On success, nobody gets another one while this one is kept. On failure, this
    /// one may have been lost, too, and must be dropped.
    pub fn make_exclusive(&self) -> bool {
        self.0.relock(FlockArg::LockExclusiveNonblock).is_ok()
    }
}

/// Makes this run the only one that starts the tunnel, until the file is closed. Waits for another run that starts it.
/// Gives `None` when `wait` is over, or if no lock can be made.
///
/// # Errors
/// [`Stopped`].
pub fn start_lock(
    root: &Path,
    mount_point: &Path,
    wait: Wait<'_>,
) -> Result<Option<File>, Stopped> {
    let Some(file) = open(root, mount_point, "starting") else {
        return Ok(None);
    };

    while sys::lock_now(&file).is_err() {
        if wait.passed() {
            return Ok(None);
        }
        wait.clock.wait(RETRY_INTERVAL)?;
    }
    Ok(Some(file))
}

fn open(root: &Path, mount_point: &Path, ending: &str) -> Option<File> {
    run_files::make_folder(root).ok()?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let path = files::below(root, Instance::of(mount_point).file(ending));
    options.custom_flags(O_NOFOLLOW).open(path).ok()
}
