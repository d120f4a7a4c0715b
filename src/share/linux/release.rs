//! How this machine takes a share down: it sends what was written to the server, takes the mount
//! away, and finds who uses it. A child or a thread does all that may block. The order of the steps
//! is in `commands::unmount`.

use super::Linux;
use crate::config::Share;
use crate::kernel::holders::{Holder, holders};
use crate::kernel::mount_table;
use crate::net::probe::{self, NullCallAnswer};
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::release::{FlushResult, Release, UnmountMode, UnmountResult};
use crate::share::worker::{self, FlushReport, WorkerError};
use crate::share::{Failure, Mounted, mount_point};
use crate::sys;
use nix::errno::Errno;
use nix::mount::MntFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How long the search for a share's users may take.
const HOLDERS_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether syncfs(2) reports refused data: it does from Linux 5.8 on.
fn tells_errors(release: &str) -> bool {
    sys::is_at_least(release, (5, 8))
}

impl<C: Clock + Sync> Release for Linux<'_, C> {
    fn find_mount(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        self.found(share, until)
    }

    fn flush(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<FlushResult, Stopped> {
        let Ok(parent) = mount_point::parent(self.root, &share.mount_point) else {
            return Ok(FlushResult::Late);
        };

        let (device, user) = (mounted.device.as_str(), self.user());
        match worker::flush(&parent, device, user, self.wait(until)) {
            Ok(FlushReport::Answered(Ok(()))) if tells_errors(&sys::kernel_release()) => {
                Ok(FlushResult::Done)
            }
            Ok(FlushReport::Answered(Ok(())) | FlushReport::Sent | FlushReport::Nothing) => {
                Ok(FlushResult::Unknown)
            }
            Ok(FlushReport::Answered(Err(errno))) => Ok(FlushResult::Refused(errno)),
            Err(WorkerError::Stopped(stopped)) => Err(stopped),
            Err(_) => Ok(FlushResult::Late),
        }
    }

    fn answers(&self, mounted: &Mounted, until: Deadline) -> bool {
        let Ok(address) = mounted.address.parse::<IpAddr>() else {
            return false;
        };
        let server = SocketAddr::new(address, mounted.port);
        let heard = probe::null_call(server, None, self.wait(until));
        matches!(heard, Some(NullCallAnswer::Nfs | NullCallAnswer::OtherRpc))
    }

    fn unmount(
        &self,
        share: &Share,
        mounted: &Mounted,
        how: UnmountMode,
        until: Deadline,
    ) -> Result<UnmountResult, Stopped> {
        let Ok(parent) = mount_point::parent(self.root, &share.mount_point) else {
            return Ok(UnmountResult::Stays);
        };

        let flags = match how {
            UnmountMode::Plain => MntFlags::empty(),
            UnmountMode::Force => MntFlags::MNT_FORCE,
            UnmountMode::Detach => MntFlags::MNT_DETACH,
        };

        let device = &mounted.device;
        let result = worker::unmount(&parent, device, flags, self.wait(until));
        if let Err(WorkerError::Stopped(stopped)) = result {
            return Err(stopped);
        }

        // A mount that is off the table is gone, even if the call still waits for the server's last
        // answer.
        let still = self.table().map_or(true, |table| {
            mount_table::parse(&table).iter().any(|entry| entry.id == mounted.id)
        });
        Ok(match result {
            _ if !still => UnmountResult::Gone,
            Ok(Err(Errno::EBUSY)) => UnmountResult::Busy,
            _ => UnmountResult::Stays,
        })
    }

    fn holders(&self, share: &Share) -> Vec<Holder> {
        // A look at a hanging process can block, so another thread makes it.
        let (proc, at) = (self.root.join("proc"), share.mount_point.clone());
        let found = Arc::new((Mutex::new(None), Condvar::new()));
        let told = Arc::clone(&found);
        let look = move || {
            let all = holders(&proc, &at);
            *told.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
            told.1.notify_one();
        };

        if std::thread::Builder::new().spawn(look).is_err() {
            return Vec::new();
        }

        // A channel would do, but its thread-locals make libc ask for memory at each start.
        let here = found.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = found.1.wait_timeout_while(here, HOLDERS_TIMEOUT, |all| all.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.take().unwrap_or_default()
    }

    fn terminate(&self, holder: &Holder) -> bool {
        let pid = Pid::from_raw(holder.pid);

        // The process is held first, so that the signal goes to the process that is looked at.
        // Before Linux 5.3 it cannot be held, and its number may pass to another process in
        // between.
        let held = sys::hold_process(pid);
        let proc = self.root.join("proc");
        holder.is_a_users(&proc, self.user().map(|user| user.uid))
            && match held {
                Some(held) => sys::signal_held(held.as_fd(), Signal::SIGTERM).is_ok(),
                None => kill(pid, Signal::SIGTERM).is_ok(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_that_tells_of_refused_data_is_believed() {
        for old in ["4.14.355-276.618.amzn2.x86_64", "4.18.0-553.el8_10.x86_64", "5.7.19", "", "x"]
        {
            assert!(!tells_errors(old), "{old}");
        }
        for new in ["5.8.0", "5.10.0-46-cloud-amd64", "6.12.117+deb12-cloud-amd64", "10.0"] {
            assert!(tells_errors(new), "{new}");
        }
    }
}
