//! The links of one share, from its mount point to its server's port. The links behind a tunnel are
//! in [`super::encrypted`], and the trial mount is in [`super::trial`].

use super::links::{Broken, Finding, LinkState, Links, is_stopped};
use super::{LINK_TIMEOUT, point};
use crate::commands::status::{MOUNT_ANEW, elsewhere, past};
use crate::config::{Settings, Share};
use crate::kernel::route::{self, Route};
use crate::net::names::Found;
use crate::net::probe::{self, NullCallAnswer};
use crate::retry::Deadline;
use crate::share::causes::{Cause, MachineFacts, explain, explain_with, no_use};
use crate::share::linux::{Linux, RootState};
use crate::share::locate::ServerLocator;
use crate::share::plan::{self, TUNNEL};
use crate::share::worker::RootReport;
use crate::share::{Failure, Machine, Mounted, mount_point};
use crate::stop::SystemClock;
use crate::sys;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// One share that is looked at.
pub struct ShareCheck<'a> {
    pub machine: &'a Linux<'a, SystemClock<'a>>,
    pub tunnels: &'a dyn Tunnels,
    pub settings: &'a Settings,
    pub share: &'a Share,
    /// Its root, where it is mounted already.
    pub there: Option<RootReport>,
    /// Whether a session start would leave the mode of its root as it is.
    pub keeps_mode: bool,
}

impl<'a> ShareCheck<'a> {
    pub fn new(
        machine: &'a Linux<'a, SystemClock<'a>>,
        tunnels: &'a dyn Tunnels,
        settings: &'a Settings,
        share: &'a Share,
    ) -> Self {
        Self { machine, tunnels, settings, share, there: None, keeps_mode: false }
    }

    /// Looks at all its links. The first that does not hold ends them.
    pub fn run(mut self, links: &mut Links) {
        let _ = self.chain(links);
    }

    fn chain(&mut self, links: &mut Links) -> Result<(), Broken> {
        match self.mounted() {
            Ok(Some(mounted)) => self.existing_mount(&mounted, links)?,
            Ok(None) => self.free_point(links)?,
            Err(failure) => return Err(self.broken("mount point", &failure, links)),
        }
        self.around_point(links);
        // This comes before anything is sent: without readable certificates nothing would come of
        // it.
        if let Err(error) = units::trusted(self.machine.root, self.share) {
            return Err(self.broken("tunnel", &error.into(), links));
        }

        let Some(mut found) = self.name(links)? else {
            return self.behind_tunnel(links);
        };
        self.search_domain(&found, links);
        for address in &found.addresses {
            self.route(*address, links);
        }
        let address = self.port(&mut found, links)?;
        if self.share.encryption.is_some() {
            return self.behind_tunnel(links);
        }

        self.null_call(address, links)?;
        self.plain_trial(address, links)
    }

    fn behind_tunnel(&mut self, links: &mut Links) -> Result<(), Broken> {
        match &self.share.encryption {
            Some(encryption) => self.encrypted(encryption, links),
            None => Ok(()),
        }
    }

    /// The end of a look that begins now.
    pub fn soon(&self) -> Deadline {
        Deadline::after(self.machine.clock, LINK_TIMEOUT)
    }

    /// The share's mount. The server may have led it elsewhere, so that only the server can say
    /// what it is.
    fn mounted(&self) -> Result<Option<Mounted>, Failure> {
        let found = self.machine.mounted(self.share, self.soon());
        match found {
            Err(taken @ Failure::Taken { .. }) if self.share.encryption.is_none() => {
                self.recognized().map_or(Err(taken), |mounted| Ok(Some(mounted)))
            }
            found => found,
        }
    }

    fn recognized(&self) -> Option<Mounted> {
        let Self { machine, share, .. } = self;
        let mut found = machine.resolve(share, self.soon()).ok()?;
        let address = self.reach(&mut found).ok()?;
        let call = plan::mount_call(share, address, machine.client());
        machine.recognized(share, &call, self.soon()).ok().flatten()
    }

    fn reach(&self, found: &mut Found) -> Result<IpAddr, Failure> {
        let clock = self.machine.clock;
        let deadline = Deadline::after(clock, LINK_TIMEOUT.saturating_mul(2));
        let locator = ServerLocator { machine: self.machine, share: self.share, deadline, clock };
        locator.reach(found, LINK_TIMEOUT)
    }

    /// The link of a share that is mounted already. A trial mount would say nothing about the mount
    /// that users have.
    fn existing_mount(&mut self, mounted: &Mounted, links: &mut Links) -> Result<(), Broken> {
        const POINT: &str = "mount point";
        let (machine, share) = (self.machine, self.share);

        if let Some(what) = self.wrong_way(mounted) {
            let cure =
                "sudo efs-agent --once, which starts the tunnel again or mounts the share anew";
            return Err(self.useless(what, cure, links));
        }

        match machine.root(share, mounted, self.soon()) {
            Ok(RootState::Well(all, free)) => {
                if all > 0 && free == 0 {
                    let cure = "make room on the server, or raise its quota".to_owned();
                    let what = "the share is full: nothing can be written";
                    links.warn(POINT, Some(share), what, cure);
                }
                let led = mounted.led_to(share).map(|source| format!(", as {source}"));
                let led = led.unwrap_or_default();
                let what = format!("mounted already, from {}{led}", mounted.address);
                links.ok(POINT, Some(share), what);

                let seen = machine.look(share, mounted, None, self.soon());
                self.there = seen.ok().and_then(Result::ok);
                Ok(())
            }
            Ok(RootState::Fault(errno)) => {
                let what =
                    format!("mounted already, from {}, but {}", mounted.address, no_use(errno));
                Err(self.useless(what, MOUNT_ANEW, links))
            }
            Ok(RootState::Over) => Err(self.broken(POINT, &Failure::Hidden, links)),
            // The links below may show why, so that this one does not end them.
            Ok(RootState::Silence) => {
                self.broken(POINT, &Failure::Dead(mounted.address.clone()), links);
                Ok(())
            }
            Err(failure) => Err(self.broken(POINT, &failure, links)),
        }
    }

    /// What is wrong with the way of an encrypted share's mount, if it does not go through the share's tunnel.
    fn wrong_way(&self, mounted: &Mounted) -> Option<String> {
        self.share.encryption.as_ref()?;
        let way = self.machine.leads_to(mounted);
        if way != Some(SocketAddr::new(TUNNEL, mounted.port)) {
            return Some(past(way));
        }
        let tunnel = self.tunnels.port(self.share);
        (tunnel != Some(mounted.port))
            .then(|| format!("its tunnel is {}", elsewhere(mounted.port, tunnel)))
    }

    /// Adds the link of a mount that is of no use.
    fn useless(&self, what: String, cure: &str, links: &mut Links) -> Broken {
        let (state, cure) = (LinkState::broken(self.share), Some(cure.to_owned()));
        links.add("mount point", Some(self.share), Finding { state, what, cure });
        Broken
    }

    /// The links of a mount point with nothing mounted on it.
    fn free_point(&self, links: &mut Links) -> Result<(), Broken> {
        let (machine, share) = (self.machine, self.share);
        let point = machine
            .prepare(share)
            .map_err(|failure| self.broken("mount point", &failure, links))?;

        let made = if point.is_ours() { "can be made" } else { "is there" };
        point.discard();
        links.ok("mount point", Some(share), made);

        let is_home = point::hides_home(machine.root, &share.mount_point).is_some();
        for (what, cure) in point::as_it_is(machine.root, &share.mount_point, is_home) {
            links.warn("mount point", Some(share), what, cure);
        }
        Ok(())
    }

    /// Warns about what is probably not meant about the place of the mount point.
    fn around_point(&self, links: &mut Links) {
        let (root, share) = (self.machine.root, Some(self.share));
        let at = &self.share.mount_point;
        if let Some(what) = mount_point::in_others_hands(root, at) {
            links.warn("mount point", share, what, None);
        }

        let way = point::on_the_way(root, at, self.machine.user());
        for (what, cure) in point::in_fstab(root, at).into_iter().chain(way) {
            links.warn("mount point", share, what, cure);
        }

        if let Some(what) = point::hides_home(root, at) {
            links.warn("mount point", share, what, point::OWN_FOLDER.to_owned());
        }
    }

    /// The server's addresses; `None` where its tunnel may find them otherwise.
    fn name(&self, links: &mut Links) -> Result<Option<Found>, Broken> {
        let share = self.share;
        let found = match self.machine.resolve(share, self.soon()) {
            Ok(found) => found,
            Err(failure) if share.encryption.as_ref().is_some_and(|e| e.discover) => {
                let Cause { sentence, cure, .. } = explain(&failure, share, &sys::kernel_release());
                let what = format!("{sentence}; AWS will be asked (discover)");
                links.warn("name", Some(share), what, cure);
                return Ok(None);
            }
            Err(failure) => return Err(self.broken("name", &failure, links)),
        };

        let list: Vec<String> = found.addresses.iter().map(IpAddr::to_string).collect();
        let (named, listed) = list.split_at(list.len().saturating_sub(found.listed));
        let more = match listed {
            [] => String::new(),
            listed => format!(", and {} (`addresses`)", listed.join(", ")),
        };
        let what = format!("{} is {} ({}){more}", share.endpoint, named.join(", "), found.by);
        links.ok("name", Some(share), what);
        Ok(Some(found))
    }

    /// Warns where a search domain made the name, which may then mean another machine.
    fn search_domain(&mut self, found: &Found, links: &mut Links) {
        let share = self.share;
        if let (Some(completed), Some(mode), None) =
            (found.completed(), share.root_mode, &share.encryption)
        {
            let what = format!(
                "a search domain made {completed} of {}, which may be another machine: root_mode {mode:04o} will not be set",
                share.endpoint
            );
            let cure = format!("if it is the right one, write endpoint = \"{completed}.\"");
            links.warn("name", Some(share), what, cure);
            self.keeps_mode = true;
        }
    }

    /// The route to one of the server's addresses.
    fn route(&self, address: IpAddr, links: &mut Links) {
        let share = Some(self.share);
        let route = self.machine.route(SocketAddr::new(address, self.share.options.port));
        let Some(Route { from, on, is_bridge }) = route else {
            let cure = "see the interfaces (ip address) and routes (ip route)".to_owned();
            return links.warn("route", share, format!("no way leads to {address}"), cure);
        };

        let on = on.map(|name| format!(" on {name}")).unwrap_or_default();
        let what = format!("{address} from {from}{on}");
        if is_bridge {
            let what = format!("{what}, a bridge of this machine: its network covers the address");
            let cure = format!(
                "nothing, if the server is there; else give Docker, or whoever made it, another network (ip route get {address})"
            );
            links.warn("route", share, what, cure);
        } else {
            links.ok("route", share, what);
        }
    }

    /// The first address that takes connections.
    fn port(&self, found: &mut Found, links: &mut Links) -> Result<IpAddr, Broken> {
        let address = self.reach(found).map_err(|failure| self.broken("port", &failure, links))?;
        let what = format!("{address} takes connections on TCP {}", self.share.options.port);
        links.ok("port", Some(self.share), what);
        Ok(address)
    }

    fn null_call(&self, address: IpAddr, links: &mut Links) -> Result<(), Broken> {
        let to = SocketAddr::new(address, self.share.options.port);
        match probe::null_call(to, None, self.machine.wait(self.soon())) {
            Some(NullCallAnswer::Nfs) => {
                links.ok("NULL call", Some(self.share), format!("{address} is an NFS server"));
                Ok(())
            }
            Some(heard) => {
                let failure = Failure::CutOff(address, LINK_TIMEOUT);
                let failure = Failure::Probed(failure.into(), heard);
                Err(self.broken("NULL call", &failure, links))
            }
            None => Ok(()),
        }
    }

    /// Adds the link `name` as one that does not hold.
    pub fn broken(&self, name: &'static str, failure: &Failure, links: &mut Links) -> Broken {
        if !is_stopped(failure) {
            let route = |to| route::to(Path::new("/"), to);
            let facts = MachineFacts::about(failure, sys::kernel_release(), route);
            let Cause { sentence, cure, .. } = explain_with(failure, self.share, &facts);
            let state = LinkState::broken(self.share);
            let finding = Finding { state, what: sentence, cure: Some(cure) };
            links.add(name, Some(self.share), finding);
        }
        Broken
    }
}
