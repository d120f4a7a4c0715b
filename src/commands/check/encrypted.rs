//! The links of a share that is encrypted, from its tunnel to a trial mount through it. A tunnel that
//! is not there is started for the time of the check.

use super::{Chain, LINK, State};
use crate::aws::credentials::odd_in;
use crate::commands::session::unguarded;
use crate::config::encryption::Encryption;
use crate::config::{Settings, Share};
use crate::net::probe::{self, Heard};
use crate::retry::{Clock, Deadline};
use crate::share::linux::Linux;
use crate::share::plan;
use crate::share::{Failure, Machine};
use crate::tunnel::contract::{Tunnels, end_unused};
use crate::tunnel::protocol::{Peer, TunnelError};
use crate::wait::Wait;
use nix::errno::Errno;
use std::time::Duration;

/// How long the kernel gets to close the connection of the trial mount.
const GOOD_BYE: Duration = Duration::from_millis(500);

/// What helps against keys that look cut off.
const ODD_KEYS: &str =
    "compare the keys with those that AWS has shown, letter by letter, or make new ones";

impl Chain {
    /// The links from the tunnel on; the first that does not hold ends them.
    pub(super) fn encrypted<C: Clock + Sync>(
        &mut self,
        machine: &Linux<'_, C>,
        tunnels: &dyn Tunnels,
        settings: &Settings,
        share: &Share,
        encryption: &Encryption,
    ) {
        let was_there = tunnels.port(share).is_some();
        let until = Deadline::after(machine.clock, settings.attempt_timeout);
        match tunnels.start(share, None, until) {
            Ok(port) => {
                let whose =
                    if was_there { "is there already" } else { "was started for this check" };
                let what = format!("listens on 127.0.0.1:{port}; {whose}");
                match tunnels.is_guarded(port) {
                    true => self.ok("tunnel", Some(share), what),
                    false => {
                        let cure = unguarded(share, port);
                        self.add("tunnel", Some(share), State::Warning, what, Some(cure));
                    }
                }
                self.through(machine, tunnels, settings, share, encryption, port);
            }
            Err(error) => self.failed("tunnel", share, &error.into()),
        }
        // A session start may have found it meanwhile.
        if !was_there {
            let now = Deadline::after(machine.clock, GOOD_BYE);
            let _ = end_unused(tunnels, share, now, LINK, machine.clock);
        }
    }

    fn through<C: Clock + Sync>(
        &mut self,
        machine: &Linux<'_, C>,
        tunnels: &dyn Tunnels,
        settings: &Settings,
        share: &Share,
        encryption: &Encryption,
        port: u16,
    ) {
        let soon = || Deadline::after(machine.clock, settings.attempt_timeout);
        let peer = match tunnels.handshake(share, soon()) {
            Ok(peer) => peer,
            Err(error) => return self.failed(link_of(&error), share, &error.into()),
        };
        if let (true, Some(identity)) = (encryption.iam, &peer.identity) {
            match odd_in(identity) {
                None => self.ok("credentials", Some(share), identity.clone()),
                Some(_) => {
                    let cure = Some(ODD_KEYS.to_owned());
                    self.add("credentials", Some(share), State::Warning, identity.clone(), cure);
                }
            }
        }
        let Peer { address, version, cipher, .. } = &peer;
        let name = &encryption.tls_name;
        let what = format!("{version} with {address} ({cipher}), whose certificate is for {name}");
        self.ok("handshake", Some(share), what);
        let call = plan::tunnelled_call(share, port, peer.address, machine.client());
        let wait = Wait::of(LINK, machine.clock, machine.stop);
        match probe::null_call(call.connects_to, None, wait) {
            Some(Heard::Nfs) => {
                let what = format!("{address} is an NFS server");
                self.ok("NULL call", Some(share), what);
            }
            Some(heard) => {
                let failure = Failure::CutOff(peer.address, LINK);
                let failure = Failure::Probed(failure.into(), heard);
                return self.failed("NULL call", share, &failure);
            }
            None => {}
        }
        let tried = match machine.trial(share, &call, soon()) {
            Ok(tried) => tried,
            Err(failure) => {
                let link = link_of_refusal(&failure, encryption);
                let failure = Failure::Encrypted(failure.into(), peer);
                return self.failed(link, share, &failure);
            }
        };
        let who = match (encryption.iam, peer.identity) {
            (true, Some(identity)) => format!("{identity} may mount"),
            (true, None) => "who signed in may mount".to_owned(),
            (false, _) => "none (iam is false): whoever comes may mount".to_owned(),
        };
        self.ok("identity", Some(share), who);
        if let Some(id) = &encryption.access_point {
            self.ok("access point", Some(share), format!("{id} has {} in it", share.path));
        }
        self.looked_at(machine, share, tried);
    }
}

/// The link that is broken where there is no connection.
fn link_of(error: &TunnelError) -> &'static str {
    use TunnelError as E;
    match error {
        E::Credentials(_) | E::Service { .. } | E::Source { .. } | E::Changeable { .. } => {
            "credentials"
        }
        E::Name(_) | E::Undiscovered { .. } => "name",
        E::NoTunnel(_) | E::MakingKey => "tunnel",
        E::Dropped => "identity",
        _ => "handshake",
    }
}

/// The link that is broken where the mount was refused.
fn link_of_refusal(failure: &Failure, encryption: &Encryption) -> &'static str {
    match failure {
        Failure::Mount(_, Errno::EACCES | Errno::EPERM) => "identity",
        Failure::Mount(_, Errno::ENOENT) if encryption.access_point.is_some() => "access point",
        _ => "trial mount",
    }
}
