//! What taking a share down asks of the machine. `linux::release` has how the real one does it, and
//! `commands::unmount` has the order of the steps.

use crate::config::Share;
use crate::kernel::holders::Holder;
use crate::retry::{Deadline, Stopped};
use crate::share::{Failure, Mounted};
use nix::errno::Errno;

/// What became of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushResult {
    /// The server received all of it.
    Done,
    /// The server refused some of it.
    Refused(Errno),
    /// Time was up before the server received all of it.
    Late,
    /// It was sent, but what became of it is not known. The kernel is too old to report that, or
    /// the root of the share cannot be opened.
    Unknown,
}

/// A way to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountMode {
    /// Take it away if nobody uses it.
    Plain,
    /// Take it away, and give up what still waits for its server.
    Force,
    /// Take it out of sight at once, even if somebody uses it.
    Detach,
}

/// What came of taking a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnmountResult {
    /// It is off the mount table.
    Gone,
    /// Somebody uses it.
    Busy,
    /// It is still there.
    Stays,
}

/// What `unmount` asks of the machine. The real one is [`crate::share::linux::Linux`].
pub trait Release {
    /// The share as it is mounted on top at its mount point, in whatever state; `None` if nothing
    /// is.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::NoTable`], [`Failure::Stopped`].
    fn find_mount(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure>;

    /// Sends what was written to the server, before `until`.
    ///
    /// # Errors
    /// [`Stopped`].
    fn flush(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<FlushResult, Stopped>;

    /// Whether the server answers an NFS NULL call before `until`.
    fn answers(&self, mounted: &Mounted, until: Deadline) -> bool;

    /// Takes the mount away before `until`.
    ///
    /// # Errors
    /// [`Stopped`].
    fn unmount(
        &self,
        share: &Share,
        mounted: &Mounted,
        how: UnmountMode,
        until: Deadline,
    ) -> Result<UnmountResult, Stopped>;

    /// The processes that use it.
    fn holders(&self, share: &Share) -> Vec<Holder>;

    /// Asks a process to end (SIGTERM), if it may be asked. Returns whether it was.
    fn terminate(&self, holder: &Holder) -> bool;
}
