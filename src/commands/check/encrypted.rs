//! The links of a share that is encrypted, from its tunnel to a trial mount through it. A tunnel
//! that is not there is started for the check and ended after it. Links before the tunnel are in
//! [`super::share`].

use super::LINK_TIMEOUT;
use super::links::{Broken, Links};
use super::share::ShareCheck;
use crate::aws::credentials::odd_in;
use crate::commands::session::unguarded;
use crate::config::encryption::Encryption;
use crate::net::probe::{self, NullCallAnswer};
use crate::retry::Deadline;
use crate::share::linux::TrialReport;
use crate::share::plan::{self, MountCall};
use crate::share::{Failure, Machine};
use crate::tunnel::contract::{end_unused, handshake_when_ready};
use crate::tunnel::protocol::{Peer, TunnelError};
use nix::errno::Errno;
use std::time::Duration;

/// How long the kernel gets to close the connection of the trial mount.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What helps against keys that look cut off.
const ODD_KEYS: &str =
    "compare the keys with those that AWS has shown, letter by letter, or make new ones";

impl ShareCheck<'_> {
    /// Looks at the links from the tunnel on. The first that does not hold ends them.
    pub fn encrypted(&mut self, encryption: &Encryption, links: &mut Links) -> Result<(), Broken> {
        let (tunnels, share, clock) = (self.tunnels, self.share, self.machine.clock);
        let was_there = tunnels.port(share).is_some();
        let result = match self.tunnel(was_there, links) {
            Ok(port) => self.through(port, encryption, links),
            Err(broken) => Err(broken),
        };

        // A session start may have found the tunnel meanwhile, so it is ended only if nobody uses
        // it.
        if !was_there {
            let now = Deadline::after(clock, CLOSE_TIMEOUT);
            let _ = end_unused(tunnels, share, now, LINK_TIMEOUT, clock);
        }
        result
    }

    /// The end of an attempt that begins now.
    fn attempt(&self) -> Deadline {
        Deadline::after(self.machine.clock, self.settings.attempt_timeout)
    }

    /// The port of the share's tunnel. A tunnel that is not there is started.
    fn tunnel(&self, was_there: bool, links: &mut Links) -> Result<u16, Broken> {
        let share = self.share;
        let port = self
            .tunnels
            .start(share, None, self.attempt())
            .map_err(|error| self.broken("tunnel", &error.into(), links))?;

        let whose = if was_there { "is there already" } else { "was started for this check" };
        let what = format!("listens on 127.0.0.1:{port}; {whose}");
        match self.tunnels.is_guarded(port) {
            true => links.ok("tunnel", Some(share), what),
            false => links.warn("tunnel", Some(share), what, unguarded(share, port)),
        }
        Ok(port)
    }

    /// The links behind the tunnel's port.
    fn through(
        &mut self,
        port: u16,
        encryption: &Encryption,
        links: &mut Links,
    ) -> Result<(), Broken> {
        let share = self.share;
        let peer = self.handshake(encryption, links)?;
        let call = plan::tunnelled_call(share, port, peer.address, self.machine.client());
        self.tunnelled_null_call(&call, &peer, links)?;
        let tried = self.tunnelled_trial(&call, &peer, encryption, links)?;

        let who = match (encryption.iam, peer.identity) {
            (true, Some(identity)) => format!("{identity} may mount"),
            (true, None) => "who signed in may mount".to_owned(),
            (false, _) => "none (iam is false): whoever comes may mount".to_owned(),
        };
        links.ok("identity", Some(share), who);
        if let Some(id) = &encryption.access_point {
            links.ok("access point", Some(share), format!("{id} has {} in it", share.path));
        }
        self.tried(tried, links);
        Ok(())
    }

    fn handshake(&self, encryption: &Encryption, links: &mut Links) -> Result<Peer, Broken> {
        let share = self.share;
        // This waits for a tunnel that makes its key or is busy, as a session start does.
        let until = Deadline::after(self.machine.clock, self.settings.deadline);
        let spans = (self.settings.attempt_timeout, until);
        let peer = handshake_when_ready(self.tunnels, share, spans, self.machine.clock, &|_| {})
            .map_err(|error| self.broken(link_of(&error), &error.into(), links))?;

        if let (true, Some(identity)) = (encryption.iam, &peer.identity) {
            match odd_in(identity) {
                None => links.ok("credentials", Some(share), identity.clone()),
                Some(_) => {
                    let cure = ODD_KEYS.to_owned();
                    links.warn("credentials", Some(share), identity.clone(), cure);
                }
            }
        }

        let Peer { address, version, cipher, .. } = &peer;
        let name = &encryption.tls_name;
        let what = format!("{version} with {address} ({cipher}), whose certificate is for {name}");
        links.ok("handshake", Some(share), what);
        Ok(peer)
    }

    fn tunnelled_null_call(
        &self,
        call: &MountCall,
        peer: &Peer,
        links: &mut Links,
    ) -> Result<(), Broken> {
        match probe::null_call(call.connects_to, None, self.machine.wait(self.soon())) {
            Some(NullCallAnswer::Nfs) => {
                let what = format!("{} is an NFS server", peer.address);
                links.ok("NULL call", Some(self.share), what);
                Ok(())
            }
            Some(heard) => {
                let failure = Failure::CutOff(peer.address, LINK_TIMEOUT);
                let failure = Failure::Probed(failure.into(), heard);
                Err(self.broken("NULL call", &failure, links))
            }
            None => Ok(()),
        }
    }

    fn tunnelled_trial(
        &self,
        call: &MountCall,
        peer: &Peer,
        encryption: &Encryption,
        links: &mut Links,
    ) -> Result<TrialReport, Broken> {
        self.machine.trial(self.share, call, self.attempt()).map_err(|failure| {
            let link = link_of_refusal(&failure, encryption);
            let failure = Failure::Encrypted(failure.into(), peer.clone());
            self.broken(link, &failure, links)
        })
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
