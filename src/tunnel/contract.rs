//! What a share asks of its tunnel, and what comes back. Whoever mounts (`share`, `commands`) and whoever holds the
//! tunnels (`units`) agree on this; neither the order of the steps nor the service manager is in here.

use crate::config::Share;
use crate::retry::Stopped;
use crate::retry::{Clock, Deadline};
use crate::tunnel::protocol::{Peer, TunnelError, TunnelStatus};
use nix::errno::Errno;
use std::time::Duration;

/// What helps where there is no systemd.
pub const USE_SYSTEMD: &str = "run it where systemd is PID 1, as on every AppStream image; or set \
                           encryption_in_transit = false";

/// Why a tunnel is not started, or not ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelsError {
    /// The service manager does not do it; why.
    #[error("{0}")]
    NotHeld(String),
    /// Others than root could change the program that the tunnel would run as root.
    #[error("{what}; {cure}")]
    Program {
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// Only systemd can hold a tunnel; [`USE_SYSTEMD`] is the cure.
    #[error(
        "an encrypted share needs systemd, which is not the init system here (no /run/systemd/system)"
    )]
    NoSystemd,
    /// Another program has the local port that the config names.
    #[error("port {0} of 127.0.0.1 is held by another program")]
    PortTaken(u16),
    /// The tunnel could do nothing, and says why.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The tunnels of this machine: one for each share that is encrypted. The real ones are held by
/// systemd; unit tests script others.
pub trait Tunnels: Sync {
    /// Has the share's tunnel run before `until`, and gives its port on 127.0.0.1. One that runs
    /// already is left as it is, whatever its port, unless the config has changed since and nobody uses
    /// it; a new one listens at `at`, where that is given (a mount leads there), else where the config
    /// says, else anywhere. From then on the tunnel counts as used by this run, until its end.
    ///
    /// # Errors
    /// See [`TunnelsError`].
    fn start(&self, share: &Share, at: Option<u16>, until: Deadline) -> Result<u16, TunnelsError>;

    /// The port of the share's tunnel, if there is one. Starts nothing.
    fn port(&self, share: &Share) -> Option<u16>;

    /// Whether root alone can listen at `port`, so that no user can take it while there is no tunnel.
    fn is_guarded(&self, _port: u16) -> bool {
        true
    }

    /// Whether the tunnel that there is was started for the share as it is in the config now.
    fn is_current(&self, share: &Share) -> bool;

    /// One fresh TLS handshake of the tunnel's with the file system, before `until`.
    ///
    /// # Errors
    /// See [`TunnelError`].
    fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, TunnelError>;

    /// How the tunnel is, told before `until`.
    ///
    /// # Errors
    /// [`TunnelError::NoTunnel`], [`TunnelError::Stopped`].
    fn status(&self, share: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError>;

    /// Has the tunnel be this run's alone, if nothing is mounted through it, and no other run may be about
    /// to; whether that is so. If it is, whoever would begin now waits for [`Tunnels::release`].
    fn claim(&self, share: &Share) -> bool;

    /// Lets others have the tunnel again. This run uses it no longer either.
    fn release(&self, share: &Share);

    /// Ends the tunnel, and whatever holds its port, before `until`. That there is none is no failure.
    ///
    /// # Errors
    /// [`TunnelsError::NotHeld`], [`TunnelsError::Stopped`].
    fn stop(&self, share: &Share, until: Deadline) -> Result<(), TunnelsError>;
}

#[cfg(test)]
impl Tunnels for Option<std::convert::Infallible> {
    fn start(&self, _: &Share, _: Option<u16>, _: Deadline) -> Result<u16, TunnelsError> {
        Err(TunnelsError::NotHeld("none here".into()))
    }

    fn port(&self, _: &Share) -> Option<u16> {
        None
    }

    fn is_current(&self, _: &Share) -> bool {
        true
    }

    fn handshake(&self, _: &Share, _: Deadline) -> Result<Peer, TunnelError> {
        Err(TunnelError::NoTunnel(nix::errno::Errno::ENOENT))
    }

    fn status(&self, _: &Share, _: Deadline) -> Result<TunnelStatus, TunnelError> {
        Err(TunnelError::NoTunnel(nix::errno::Errno::ENOENT))
    }

    fn claim(&self, _: &Share) -> bool {
        true
    }

    fn release(&self, _: &Share) {}

    fn stop(&self, _: &Share, _: Deadline) -> Result<(), TunnelsError> {
        Ok(())
    }
}

/// While somebody uses a tunnel that is to end, it is looked so often whether they still do.
const AGAIN: Duration = Duration::from_millis(100);

/// How long it gets to say so. Of its own: an answer that is not waited for says nothing.
const ANSWER: Duration = Duration::from_millis(500);

/// Ends the tunnel of `share`, for which it gets `span`, unless it is in use: something is mounted through
/// it, the kernel has a connection (of a share that is detached, say), or another run is about to mount.
/// That is waited for until `patience`. Whether it has ended, or was not there.
///
/// # Errors
/// [`TunnelsError::NotHeld`], [`TunnelsError::Stopped`].
pub fn end_unused(
    tunnels: &dyn Tunnels,
    share: &Share,
    patience: Deadline,
    span: Duration,
    clock: &dyn Clock,
) -> Result<bool, TunnelsError> {
    let mut used = false;
    loop {
        // First: what is seen then stays like that until it is let go.
        if tunnels.claim(share) {
            let ended = match tunnels.status(share, Deadline::after(clock, ANSWER)) {
                Err(TunnelError::Stopped(stopped)) => Err(stopped.into()),
                Ok(status) if status.connections > 0 => {
                    used = true;
                    Ok(false)
                }
                // One that was seen at work is only busy; another hangs.
                Err(TunnelError::NoTunnel(Errno::ETIMEDOUT)) if used => Ok(false),
                _ => tunnels.stop(share, Deadline::after(clock, span)).map(|()| true),
            };
            tunnels.release(share);
            if ended != Ok(false) {
                return ended;
            }
        }
        if patience.passed(clock) {
            return Ok(false);
        }
        clock.wait(AGAIN)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::encrypted_share as share;
    use crate::retry::test::VirtualClock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// A tunnel that a share which was detached still has a connection through; it tells so where it is
    /// given the time, `answers` times.
    struct AtWork<'a> {
        clock: &'a VirtualClock,
        answers: AtomicU64,
        stopped: AtomicBool,
    }

    impl Tunnels for AtWork<'_> {
        fn start(&self, _: &Share, _: Option<u16>, _: Deadline) -> Result<u16, TunnelsError> {
            Ok(40001)
        }

        fn port(&self, _: &Share) -> Option<u16> {
            Some(40001)
        }

        fn is_current(&self, _: &Share) -> bool {
            true
        }

        fn handshake(&self, _: &Share, _: Deadline) -> Result<Peer, TunnelError> {
            Err(TunnelError::MakingKey)
        }

        fn status(&self, _: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError> {
            let answers = self.answers.load(Ordering::Relaxed);
            if answers == 0 || until.passed(self.clock) {
                return Err(TunnelError::NoTunnel(Errno::ETIMEDOUT));
            }
            self.answers.store(answers - 1, Ordering::Relaxed);
            Ok(TunnelStatus { connections: 1, ..TunnelStatus::default() })
        }

        fn claim(&self, _: &Share) -> bool {
            true
        }

        fn release(&self, _: &Share) {}

        fn stop(&self, _: &Share, _: Deadline) -> Result<(), TunnelsError> {
            self.stopped.store(true, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn a_tunnel_that_was_seen_at_work_is_not_ended_for_want_of_a_later_answer() {
        let clock = VirtualClock::default();
        let span = Duration::from_secs(5);
        // Of any number of answers; and one that never gives any hangs.
        for (answers, ends) in [(u64::MAX, false), (3, false), (1, false), (0, true)] {
            let (answers, stopped) = (AtomicU64::new(answers), AtomicBool::new(false));
            let tunnels = AtWork { clock: &clock, answers, stopped };
            let patience = Deadline::after(&clock, Duration::from_millis(500));
            let ended = end_unused(&tunnels, &share(""), patience, span, &clock);
            assert_eq!(ended, Ok(ends));
            assert_eq!(tunnels.stopped.into_inner(), ends);
        }
    }
}
