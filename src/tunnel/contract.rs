//! What a share may ask of its tunnel, and the answers: the agreement between those that mount (`share`, `commands`) and
//! `units`, which holds the tunnels. The order of the steps and the service manager do not belong here.

use crate::config::Share;
use crate::retry::Stopped;
use crate::retry::{Clock, Deadline, Span};
use crate::tunnel::protocol::{Peer, TunnelError, TunnelStatus};
use nix::errno::Errno;
use std::time::Duration;

/// The cure for [`TunnelsError::NoSystemd`].
pub const USE_SYSTEMD: &str = "run it where systemd is PID 1, as on every AppStream image; or set \
                           encryption_in_transit = false";

/// Why a tunnel is not started, or not ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelsError {
    /// systemd does not start or end the tunnel, for this reason.
    #[error("{0}")]
    NotHeld(String),
    /// Users other than root could change the program that the tunnel would run as root.
    #[error("{what}; {cure}")]
    Program { what: String, cure: String },
    /// Only systemd can hold a tunnel; [`USE_SYSTEMD`] is the cure.
    #[error(
        "an encrypted share needs systemd, which is not the init system here (no /run/systemd/system)"
    )]
    NoSystemd,
    /// Another program has the local port that the config names.
    #[error("port {0} of 127.0.0.1 is held by another program")]
    PortTaken(u16),
    /// The tunnel could not work: for example, the certificates that it is to trust cannot be read.
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// The tunnels of this machine: one for each share that is encrypted. systemd holds the real ones; unit tests script
/// others.
pub trait Tunnels: Sync {
    /// Makes sure that the share's tunnel runs, before `until`, and gives its port on 127.0.0.1. From then on the tunnel
    /// counts as used by this run, until the run ends.
    ///
    /// A tunnel that runs already stays as it is, whatever its port. It is replaced only if the config has changed since
    /// and nobody uses it. A new tunnel listens at `at`, where an existing mount leads, or else at the port of the
    /// config, or else at any port.
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

    /// Whether the tunnel was started for what the config says of the share now.
    fn is_current(&self, share: &Share) -> bool;

    /// Has the tunnel make one fresh TLS handshake with the file system, before `until`.
    ///
    /// # Errors
    /// See [`TunnelError`].
    fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, TunnelError>;

    /// The tunnel's own report, before `until`.
    ///
    /// # Errors
    /// [`TunnelError::NoTunnel`], [`TunnelError::Stopped`].
    fn status(&self, share: &Share, until: Deadline) -> Result<TunnelStatus, TunnelError>;

    /// Reserves the tunnel for this run, so that it can be ended. That fails if something is mounted through it or
    /// another run may be about to mount. Other runs wait until [`Tunnels::release`].
    fn claim(&self, share: &Share) -> bool;

    /// Gives the tunnel back to others. It no longer counts as used by this run.
    fn release(&self, share: &Share);

    /// Ends the tunnel and gives up its port, before `until`. It is no failure if there is none.
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

/// Has the tunnel make one handshake with the file system. The first attempt gets `span`, each further one twice as
/// much. A tunnel that is still starting, making its key or busy is waited for until `until`. `notice` is given the
/// reason for that wait, once.
///
/// # Errors
/// See [`TunnelError`].
pub fn handshake_when_ready(
    tunnels: &dyn Tunnels,
    share: &Share,
    (mut span, until): (Duration, Deadline),
    clock: &dyn Clock,
    notice: &dyn Fn(&TunnelError),
) -> Result<Peer, TunnelError> {
    let mut is_noticed = false;
    loop {
        match tunnels.handshake(share, until.within(clock, span)) {
            Err(error) if error.is_not_ready() && !until.passed(clock) => {
                if !std::mem::replace(&mut is_noticed, true) {
                    notice(&error);
                }
            }
            other => return other,
        }
        span = span.doubled();
    }
}

/// How often a tunnel that is to end is checked for others that use it.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// How long the tunnel gets to say whether it is in use. It gets this even if less time is left: a shorter silence
/// would prove nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// Ends the tunnel of `share` within `span`, unless it is in use: something is mounted through it, or another run is
/// about to mount. A connection of the kernel is a use, too, for example that of a detached share. Until `patience`, the
/// end of the use is waited for. Says whether the tunnel has ended or was not there.
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
        // The claim comes first, so that nobody begins to use the tunnel between the question and its end.
        if tunnels.claim(share) {
            let ended = match tunnels.status(share, Deadline::after(clock, ANSWER_TIMEOUT)) {
                Err(TunnelError::Stopped(stopped)) => Err(stopped.into()),
                Ok(status) if status.connections > 0 => {
                    used = true;
                    Ok(false)
                }
                // A tunnel that was seen at work is only busy. One that never answered hangs.
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
        clock.wait(RETRY_INTERVAL)?;
    }
}

#[cfg(test)]
mod tests;
