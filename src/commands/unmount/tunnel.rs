//! The tunnel of a share that is taken down. It must be there while something is still to be
//! written, and is ended once nobody uses it. Starting and ending a tunnel is done in
//! `crate::tunnel`.

use super::share::{CALL_TIMEOUT, UnmountRun};
use crate::config::Share;
use crate::retry::Deadline;
use crate::share::causes::explain;
use crate::share::release::Release;
use crate::share::{Failure, Mounted};
use crate::tunnel::contract::{TunnelsError, end_unused};
use crate::tunnel::protocol::TunnelError;
use nix::errno::Errno;
use std::time::Duration;

/// How long the kernel gets to close its connection to a tunnel, once the share is gone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl<R: Release> UnmountRun<'_, R> {
    /// Whether what was written can be sent through the tunnel. A tunnel that has gone is started
    /// again for that.
    pub fn has_tunnel(&self, share: &Share, mounted: &Mounted) -> Result<bool, Failure> {
        match self.tunnels.status(share, self.soon()) {
            // A tunnel that is there, but busy, carries what is written too.
            Err(TunnelError::NoTunnel(errno)) if errno != Errno::ETIMEDOUT => {}
            Err(TunnelError::Stopped(stopped)) => return Err(stopped.into()),
            _ => {
                let port = self.tunnels.port(share);
                return Ok(port.is_none_or(|port| self.is_there(port, mounted)));
            }
        }

        match self.tunnels.start(share, Some(mounted.port), self.soon()) {
            Err(TunnelsError::Stopped(stopped)) => Err(stopped.into()),
            // The share is taken down all the same. That it does not answer will be reported.
            Err(failure) => {
                let why = explain(&failure.into(), share, &self.kernel).sentence;
                self.log.warning(format_args!("{share}: {why}"));
                Ok(self.tunnels.is_guarded(mounted.port))
            }
            Ok(port) if self.is_there(port, mounted) => {
                self.log.warning(format_args!(
                    "{share}: its tunnel was not running, and was started for what is still to be written"
                ));
                Ok(true)
            }
            Ok(_) => Ok(false),
        }
    }

    fn soon(&self) -> Deadline {
        self.deadline.within(self.clock, CALL_TIMEOUT)
    }

    /// Whether root alone can be at the port that the mount leads to: the tunnel is there (at
    /// `port`), or the port is guarded.
    fn is_there(&self, port: u16, mounted: &Mounted) -> bool {
        port == mounted.port || self.tunnels.is_guarded(mounted.port)
    }

    /// Ends a tunnel that no share of the config has.
    pub fn end_tunnel_without_share(&self, share: &Share) {
        if self.end_tunnel(share) {
            let point = share.mount_point.display();
            self.log.info(format_args!(
                "{point}: its tunnel, which no share of the config has, was ended"
            ));
        }
    }

    /// Ends the tunnel of a share that is gone, unless the kernel still uses it. The reason may be
    /// a file of a detached share that somebody has open, another share, or a session start that
    /// has just begun. Returns whether a tunnel has ended.
    pub fn end_tunnel(&self, share: &Share) -> bool {
        if self.apart {
            return false;
        }
        let point = share.mount_point.display();
        let was_there = self.tunnels.port(share).is_some();
        let until = Deadline::after(self.clock, CLOSE_TIMEOUT);

        // On a busy machine systemd takes seconds over it.
        let span = self.deadline.left(self.clock).max(CALL_TIMEOUT);
        match end_unused(self.tunnels, share, until, span, self.clock) {
            Ok(true) => was_there,
            Ok(false) => {
                self.log.info(format_args!(
                    "{point}: its tunnel goes on: the kernel still uses it, or a session start has just begun with it"
                ));
                false
            }
            Err(TunnelsError::Stopped(_)) => false,
            Err(why) => {
                self.log.warning(format_args!("{point}: its tunnel could not be ended: {why}"));
                false
            }
        }
    }
}
