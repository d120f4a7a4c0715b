//! Looks at a mount that is there already: whether it can be used, and if not, whether another
//! mount is better. The look through a tunnel is in [`super::encrypted`]. Nothing is mounted or
//! taken away here.

use super::attempt::ShareRun;
use super::pace::ANSWER_TIMEOUT;
use crate::share::causes::no_use;
use crate::share::{Failure, Machine, Mounted, ServerAnswer};
use crate::tunnel::protocol::Peer;
use nix::errno::Errno;
use std::net::{IpAddr, SocketAddr};

/// What a look at a mount that is there already has shown.
pub(super) enum Look {
    /// It can be used. The peer is where its tunnel leads.
    Alive(Option<Peer>),
    /// Only another mount helps.
    Useless(ReplaceReason),
    /// It may come back by itself.
    Failing(Failure),
}

/// Why a mount that is there is replaced.
pub(super) enum ReplaceReason {
    /// Its server answers with this error.
    Unusable(Errno),
    /// Its server does not answer, and the share's name leads here now.
    ServerMoved(IpAddr),
    /// Its tunnel is at this port now.
    TunnelMoved(u16),
    /// The kernel is connected to this, and not to its tunnel.
    PastTunnel(SocketAddr),
}

impl ReplaceReason {
    /// The end of a sentence about the mount point at which `old` is mounted.
    pub(super) fn text(&self, old: &Mounted) -> String {
        match self {
            Self::Unusable(errno) => {
                format!("from {}, but {}: mounted anew", old.address, no_use(*errno))
            }
            Self::ServerMoved(address) => {
                format!("from {}, which does not answer: replaced by {address}", old.address)
            }
            Self::TunnelMoved(port) => format!(
                "through port {}, where its tunnel is no longer, but at {port}: replaced",
                old.port
            ),
            Self::PastTunnel(to) => format!("from {to}, past its tunnel: replaced"),
        }
    }
}

impl<M: Machine> ShareRun<'_, M> {
    /// Whether a mount that goes to its server directly can be used. If its server does not answer,
    /// but another of the share's addresses does, the dead mount belongs to an earlier network. If
    /// the server answers with an error (because the folder was made anew there, say), only a new
    /// mount helps.
    pub(super) fn look(&mut self, mounted: &Mounted) -> Result<Look, Failure> {
        let run = self.run;
        let until = run.deadline.within(run.clock, ANSWER_TIMEOUT);
        let fault = match run.machine.responds(self.share, mounted, until)? {
            ServerAnswer::Well => return Ok(Look::Alive(None)),
            ServerAnswer::Fault(errno) => Some(errno),
            ServerAnswer::Silence => None,
        };

        let located = run.locate(self.share, ANSWER_TIMEOUT, self.search);
        self.search.seen = located.as_ref().ok().copied();
        let old = &mounted.address;
        Ok(match (located, fault) {
            (Ok(_), Some(errno)) => Look::Useless(ReplaceReason::Unusable(errno)),
            (Ok(address), None) if address.to_string() != *old => {
                Look::Useless(ReplaceReason::ServerMoved(address))
            }
            (Err(stopped @ Failure::Stopped(_)), _) => return Err(stopped),
            (_, Some(errno)) => Look::Failing(Failure::Unusable(old.clone(), errno)),
            (_, None) => Look::Failing(Failure::Dead(old.clone())),
        })
    }
}
