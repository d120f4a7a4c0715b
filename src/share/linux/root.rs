//! The root of a mounted share: whether it can be used, and what is done to it and said about it. A
//! child does all that may block.

use super::{Linux, SHORTEST_ANSWER};
use crate::config::{Level, Share};
use crate::retry::{Clock, Deadline};
use crate::share::mount_point::{self, PointError};
use crate::share::release::Release;
use crate::share::worker::{self, RootLook, RootWishes, WorkerError};
use crate::share::{Failure, Mounted, after};
use nix::errno::Errno;
use std::sync::atomic::Ordering;

/// The state of a mounted share's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootState {
    /// It can be used: bytes in all, and bytes free.
    Well(u64, u64),
    /// The server answers with this error.
    Fault(Errno),
    /// There is no answer.
    Silence,
    /// Something else was mounted over it.
    Over,
}

impl<C: Clock + Sync> Linux<'_, C> {
    /// The state of a mounted share's root, as its server says before `until`.
    ///
    /// # Errors
    /// [`Failure::Stopped`], [`Failure::Point`].
    pub fn root(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<RootState, Failure> {
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;

        match worker::space(&parent, &mounted.device, self.wait(until)) {
            Ok(Ok(space)) => Ok(RootState::Well(space.total, space.free)),
            Ok(Err(Errno::EXDEV)) => Ok(RootState::Over),
            // These errors are the server's answers. A soft mount gives all others for a silent
            // server, too.
            Ok(Err(errno @ (Errno::ESTALE | Errno::EACCES | Errno::EPERM | Errno::ENOENT))) => {
                Ok(RootState::Fault(errno))
            }
            Ok(Err(errno)) => {
                let until = until.max(Deadline::after(self.clock, SHORTEST_ANSWER));
                Ok(if self.answers(mounted, until) {
                    RootState::Fault(errno)
                } else {
                    RootState::Silence
                })
            }
            Err(WorkerError::Stopped(stopped)) => Err(stopped.into()),
            Err(_) => Ok(RootState::Silence),
        }
    }

    /// Looks at the root of a mounted share, and gives it the mode `mode`.
    ///
    /// # Errors
    /// What is in the way.
    pub fn look(
        &self,
        share: &Share,
        mounted: &Mounted,
        mode: Option<u32>,
        until: Deadline,
    ) -> Result<RootLook, PointError> {
        let parent = mount_point::parent(self.root, &share.mount_point)?;
        let wishes = RootWishes { mode, user: &|| self.user().cloned() };
        Ok(worker::settle(&parent, &mounted.device, wishes, self.wait(until)))
    }

    /// What is left to do and to say once the share is mounted.
    pub(super) fn settle_root(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Vec<(Level, String)>, Failure> {
        after::set_read_ahead(self.root, mounted);

        let look = || self.look(share, mounted, share.root_mode, until);
        let mut notes = match mounted.root.map_or_else(look, Ok) {
            Ok(seen) => {
                if let Some(errno) = seen.ok().and_then(|root| root.fault()) {
                    return Err(Failure::Unusable(mounted.address.clone(), errno));
                }
                let refused = matches!(seen, Ok(root) if root.writable.is_err());
                after::notes(share, if refused { self.user() } else { None }, seen)
            }
            Err(e) => vec![(Level::Warning, e.to_string())],
        };

        let in_others_hands = mount_point::in_others_hands(self.root, &share.mount_point);
        notes.extend(in_others_hands.map(|text| (Level::Warning, text)));
        if self.lacks_ports.load(Ordering::Relaxed) && share.encryption.is_none() {
            let text = "other programs of this machine have taken every port for connections (net.ipv4.ip_local_port_range): \
                        the share is mounted from a port that root alone can have";
            notes.push((Level::Warning, text.into()));
        }

        Ok(notes)
    }
}
