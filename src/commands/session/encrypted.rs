//! The way of a share that is encrypted: its tunnel, one whole TLS handshake, and only then
//! mount(2). A handshake that fails says why within seconds. The kernel, which sees no more than a
//! local port, would wait for minutes and then say EIO. The tunnel itself is in `crate::tunnel`.

use super::SessionRun;
use super::attempt::ShareRun;
use super::look::{Look, ReplaceReason};
use super::pace::{ANSWER_TIMEOUT, HANDSHAKE_TIMEOUT, LOCATE_TIMEOUT};
use crate::aws::credentials::Trouble;
use crate::config::encryption::RESERVED;
use crate::config::{Level, Share};
use crate::share::{Failure, Machine, Mounted, ServerAnswer, plan};
use crate::tunnel::contract::handshake_when_ready;
use crate::tunnel::protocol::{Peer, TunnelError};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::time::Duration;

/// How long the service manager may take to start a tunnel: a machine that has just started is
/// busy.
const TUNNEL_START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long one attempt waits for a tunnel that makes its key or is busy. What takes longer may
/// have another cause.
const KEY_TIMEOUT: Duration = Duration::from_secs(10);

impl<M: Machine> ShareRun<'_, M> {
    /// Makes one attempt: tunnel, name, address that answers, handshake, mount(2).
    pub(super) fn encrypted_attempt(&mut self, point: &M::Point) -> Result<Mounted, Failure> {
        let (run, share) = (self.run, self.share);

        // The tunnel comes first, because it makes its key while we wait for the network.
        let until = run.deadline.within(run.clock, TUNNEL_START_TIMEOUT);
        let port = run.tunnels.start(share, None, until)?;

        // The tunnel looks for an address itself. This look finds out what is wrong if none
        // answers. It sees within 0.3 s that one does, by the same means as for every share.
        if self.search.seen.take().is_none() {
            match run.locate(share, LOCATE_TIMEOUT, self.search) {
                // The tunnel can ask AWS, too.
                Err(Failure::Name(_)) if share.encryption.as_ref().is_some_and(|e| e.discover) => {}
                Err(failure) => return Err(failure),
                Ok(_) => {}
            }
        }

        let peer = run.handshake(share, self.pace.handshake).inspect_err(|error| {
            if was_read_at_start(error) {
                let _ = run.tunnels.stop(share, run.deadline.within(run.clock, ANSWER_TIMEOUT));
            }
        });

        let peer = peer.map_err(|error| run.with_origin(share, error.into(), self.search))?;
        run.log_peer(share, &peer, port);

        let call = plan::tunnelled_call(share, port, peer.address, run.machine.client());
        let limit = self.pace.limit(run.deadline, run.clock);
        match run.machine.mount(share, &call, point, limit) {
            Ok(mounted) => {
                if !run.tunnels.is_guarded(port) {
                    run.log.warning(unguarded(share, port));
                }
                self.search.seen = Some(peer.address);
                Ok(Mounted { peer: Some(peer), ..mounted })
            }

            // Other failures are not the file system's answer.
            Err(failure) if failure.failed_address().is_some() => {
                Err(Failure::Encrypted(Box::new(failure), peer))
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether a share that is mounted already can be used through its tunnel. A tunnel that is not there any more is
    /// started again, at the port where the kernel looks for it. If that port cannot be used, only a new mount helps.
    pub(super) fn look_through_tunnel(&self, mounted: &Mounted) -> Result<Look, Failure> {
        let (run, share) = (self.run, self.share);
        let soon = || run.deadline.within(run.clock, ANSWER_TIMEOUT);
        let peer = match run.tunnels.status(share, soon()) {
            Ok(status) => status.peer,
            // The tunnel is there, but busy. The questions below show whether it still carries the
            // share.
            Err(TunnelError::NoTunnel(Errno::ETIMEDOUT) | TunnelError::MakingKey) => None,
            Err(TunnelError::NoTunnel(_)) => {
                run.restart_tunnel(share, mounted.port, "its tunnel was not running")?;
                None
            }
            Err(error) => return Err(error.into()),
        };

        let elsewhere = run.tunnels.port(share).filter(|port| *port != mounted.port);

        // This comes before anything is asked through the old port, where anybody may listen now.
        if let Some(port) = elsewhere.filter(|_| !run.tunnels.is_guarded(mounted.port)) {
            return Ok(Look::Useless(ReplaceReason::TunnelMoved(port)));
        }
        match run.machine.leads_to(mounted) {
            // This may be the tunnel of another share, because an earlier version could leave it
            // so.
            Some(to) if to == SocketAddr::new(plan::TUNNEL, mounted.port) => {}
            Some(to) => return Ok(Look::Useless(ReplaceReason::PastTunnel(to))),
            None => return Err(Failure::Unverified),
        }

        let fault = match run.machine.responds(share, mounted, soon())? {
            ServerAnswer::Well => {
                let of_status = || run.tunnels.status(share, soon()).ok()?.peer;
                return Ok(Look::Alive(peer.or_else(of_status)));
            }
            ServerAnswer::Fault(errno) => Some(errno),
            ServerAnswer::Silence => None,
        };

        // The kernel does not know that the tunnel was started anew elsewhere.
        if let Some(port) = elsewhere {
            return Ok(Look::Useless(ReplaceReason::TunnelMoved(port)));
        }
        let peer = run.handshake(share, HANDSHAKE_TIMEOUT)?;
        match fault {
            Some(errno) => Ok(Look::Useless(ReplaceReason::Unusable(errno))),
            None => Err(Failure::Dead(peer.address.to_string())),
        }
    }
}

impl<M: Machine> SessionRun<'_, M> {
    /// Makes one handshake, which gets `span`. A tunnel that does not answer yet is waited for in
    /// addition: for [`KEY_TIMEOUT`], or until the deadline if there is no other attempt.
    fn handshake(&self, share: &Share, span: Duration) -> Result<Peer, TunnelError> {
        let until = match self.once {
            true => self.deadline,
            false => self.deadline.within(self.clock, KEY_TIMEOUT),
        };
        let notice = |error: &TunnelError| {
            let at = share.mount_point.display();
            self.log.info(format_args!("{at}: {error}, which is waited for"));
        };
        handshake_when_ready(self.tunnels, share, (span, until), self.clock, &notice)
    }

    fn restart_tunnel(&self, share: &Share, port: u16, what: &str) -> Result<(), Failure> {
        let until = self.deadline.within(self.clock, TUNNEL_START_TIMEOUT);
        let port = self.tunnels.start(share, Some(port), until)?;
        let at = share.mount_point.display();
        self.log.warning(format_args!("{at}: {what}, and was started again at port {port}"));
        Ok(())
    }

    fn log_peer(&self, share: &Share, peer: &Peer, port: u16) {
        let who = peer.identity.as_ref().map(|who| format!(", as {who}")).unwrap_or_default();
        let text = format!(
            "{}: {} with {}{who} ({}), by the tunnel at port {port}",
            share.endpoint, peer.version, peer.address, peer.cipher
        );
        self.log.line(if self.once { Level::Info } else { Level::Debug }, text);
    }
}

/// Whether a tunnel failed by something that it read when it started. It must start anew, to see
/// what a person has corrected since.
fn was_read_at_start(error: &TunnelError) -> bool {
    use TunnelError as E;
    matches!(
        error,
        E::Trust(_)
            | E::UnknownIssuer
            | E::Service { trouble: Trouble::Tls, .. }
            | E::Changeable { .. }
            | E::Key(_)
    )
}

/// What it means that users may listen at the port of a share's tunnel.
pub(in super::super) fn unguarded(share: &Share, port: u16) -> String {
    format!(
        "any user can take port {port} of 127.0.0.1 if the tunnel of {} ever leaves it: {}",
        share.mount_point.display(),
        match port < RESERVED {
            true => "set net.ipv4.ip_unprivileged_port_start to 1024 (sysctl)",
            false => "unmount the share and run again, and its tunnel gets one below 1024",
        }
    )
}

#[cfg(test)]
mod tests;
