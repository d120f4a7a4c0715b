//! The lock that keeps other runs of `register` and `unregister` out. What they do under it is not
//! known here.

use super::LOCK;
use super::error::RegisterError;
use crate::files;
use crate::retry::{Clock, Deadline};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// How long another run may hold it; none takes a second.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Waits for the lock, and holds it until it is dropped.
///
/// # Errors
/// [`RegisterError::Locked`] if another run holds it for too long, else why it cannot be locked.
pub fn lock(root: &Path, clock: &dyn Clock) -> Result<Flock<File>, RegisterError> {
    let mut file = open(root)?;
    let deadline = Deadline::after(clock, LOCK_TIMEOUT);
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, errno)) => return Err(RegisterError::Unlockable(errno)),
        };

        let waited = clock.wait(RETRY_PAUSE.min(deadline.left(clock)));
        if waited.is_err() || deadline.passed(clock) {
            return Err(RegisterError::Locked);
        }
    }
}

fn open(root: &Path) -> Result<File, RegisterError> {
    let path = files::below(root, LOCK);
    let folder = path.parent().unwrap_or(root);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unlockable)?;

    let place = files::find(root, Path::new(LOCK))
        .map_err(|_| RegisterError::Unlockable(Errno::ENOTDIR))?;
    place.trust(None).map_err(RegisterError::UntrustedLock)?;

    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(unlockable)
}

fn unlockable(e: io::Error) -> RegisterError {
    RegisterError::Unlockable(sys::errno_of(&e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::error::CommandError;
    use crate::report::Code;
    use crate::retry::test::VirtualClock;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_lock_that_stays_is_waited_for_and_then_given_up_and_is_roots_alone() {
        let dir = tempfile::tempdir().unwrap();
        let clock = VirtualClock::default();
        let held = lock(dir.path(), &clock).unwrap();
        assert_eq!(clock.now(), Duration::ZERO);
        let text =
            "another run keeps /run/efs-agent/register.lock locked: try again when it has ended";
        let error = CommandError::from(lock(dir.path(), &clock).unwrap_err());
        assert_eq!(error, CommandError::new(Code::DEADLINE, text));
        assert_eq!(clock.now(), LOCK_TIMEOUT);
        drop(held);
        assert!(lock(dir.path(), &clock).is_ok());
        assert_eq!(clock.now(), LOCK_TIMEOUT);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().mode() & 0o777;
        assert_eq!((mode("run/efs-agent"), mode("run/efs-agent/register.lock")), (0o700, 0o600));
    }
}
