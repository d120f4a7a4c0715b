//! The real machine: it carries out each step of a share on this kernel, with this machine's files.
//! Here is what a run knows about the machine, and the short steps. [`existing`] has what is
//! mounted already, [`mounting`] mounts and proves it, [`root`] looks after the root of what is
//! mounted, and [`release`] takes it down. The order of the steps does not belong here.

mod existing;
mod mounting;
mod release;
mod root;
#[cfg(test)]
mod tests;

pub use existing::{shows_name, strays};
pub use mounting::TrialReport;
pub use root::RootState;

use crate::appstream::{self, User};
use crate::config::{Level, Share};
use crate::files;
use crate::kernel::holders::Holder;
use crate::kernel::mount_table;
use crate::kernel::route::{self, Route};
use crate::net::names::{Found, NameError, Resolver, Stamp};
use crate::net::reach;
use crate::retry::{Clock, Deadline};
use crate::share::client::NfsClient;
use crate::share::mount_point::{self, PreparedPoint};
use crate::share::plan::MountCall;
use crate::share::release::Release;
use crate::share::worker::{self, WorkerError};
use crate::share::{Failure, Machine, MountLimit, Mounted, ServerAnswer};
use crate::stop::Stop;
use crate::wait::Wait;
use existing::ExistingMounts;
use nix::mount::MntFlags;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long the kernel may take over a mount that is being detached.
const DETACH_TIMEOUT: Duration = Duration::from_millis(300);
/// How long the module of the NFS client may take to be loaded.
const MODULE_TIMEOUT: Duration = Duration::from_secs(8);
/// No server is expected to answer in less than this.
const SHORTEST_ANSWER: Duration = Duration::from_millis(500);

/// This machine.
pub struct Linux<'a, C> {
    /// `/` outside of tests.
    pub root: &'a Path,
    pub clock: &'a C,
    /// The signals that end the run.
    pub stop: &'a Stop,
    /// The account that must be able to write, if there is one. It is set once somebody has asked
    /// for it.
    user: OnceLock<Option<User>>,
    /// Who this machine is to its servers, once it was asked for.
    client: OnceLock<NfsClient>,
    /// The mounts that were there before each share was mounted, by its mount point. Shares are
    /// mounted side by side, so what is new for one share is not new for another.
    existing: Mutex<BTreeMap<PathBuf, ExistingMounts>>,
    /// The mount points that this run made and still has to account for.
    pub made: Arc<Mutex<Vec<PathBuf>>>,
    /// Whether users have taken every port that they can, as the last look for a server has shown.
    lacks_ports: AtomicBool,
}

impl<'a, C: Clock + Sync> Linux<'a, C> {
    /// This machine as seen from `root`, with a run's clock and signals.
    pub fn new(root: &'a Path, clock: &'a C, stop: &'a Stop) -> Self {
        let (user, client) = (OnceLock::new(), OnceLock::new());
        let (existing, made, lacks_ports) = Default::default();
        Self { root, clock, stop, user, client, existing, made, lacks_ports }
    }

    /// A wait until `until`, which a signal to this run ends.
    pub fn wait(&self, until: Deadline) -> Wait<'a> {
        Wait { until, clock: self.clock, stop: self.stop }
    }

    /// A wait of `span`, however little time the run has left.
    fn wait_for(&self, span: Duration) -> Wait<'a> {
        Wait::of(span, self.clock, self.stop)
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { root: self.root, clock: self.clock, stop: self.stop }
    }

    /// The account that must be able to write, if there is one.
    pub fn user(&self) -> Option<&User> {
        self.user.get_or_init(|| appstream::streaming_user(self.root)).as_ref()
    }

    /// The bytes of the mount table as it is now.
    pub(crate) fn table(&self) -> Result<Vec<u8>, Failure> {
        files::whole(&self.root.join("proc/self/mountinfo")).map_err(Failure::NoTable)
    }

    fn made(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the mount point that this run made for the share: it is gone, or is known by the
    /// mount on it.
    fn forget_made(&self, share: &Share) {
        self.made().retain(|point| *point != share.mount_point);
    }
}

impl<C: Clock + Sync> Machine for Linux<'_, C> {
    type Point = PreparedPoint;

    fn client(&self) -> &NfsClient {
        let load = || {
            // It gets as long as a mount would wait for it. If it fails, the mount will say so.
            let _ = worker::load(c"nfs4", self.wait_for(MODULE_TIMEOUT));
        };
        self.client.get_or_init(|| NfsClient::establish(self.root, &load))
    }

    fn mounted(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        self.find_announced(share, until)
    }

    fn recognized(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        self.find_by_root(share, call, until)
    }

    fn responds(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<ServerAnswer, Failure> {
        match self.root(share, mounted, until)? {
            RootState::Well(..) => Ok(ServerAnswer::Well),
            RootState::Fault(errno) => Ok(ServerAnswer::Fault(errno)),
            RootState::Silence => Ok(ServerAnswer::Silence),
            RootState::Over => Err(Failure::Hidden),
        }
    }

    fn held_by(&self, share: &Share) -> Vec<Holder> {
        self.holders(share)
    }

    fn leads_to(&self, mounted: &Mounted) -> Option<SocketAddr> {
        self.connected_to(&mounted.device)
    }

    fn detach(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<(), Failure> {
        // The mount is off the table at once, but the call then waits for the server's last answer.
        let wait = self.wait(until).within(DETACH_TIMEOUT);
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        let detached = worker::unmount(&parent, &mounted.device, MntFlags::MNT_DETACH, wait);
        if let Err(WorkerError::Stopped(stopped)) = detached {
            return Err(stopped.into());
        }

        let table = self.table()?;
        if mount_table::parse(&table).iter().any(|entry| entry.id == mounted.id) {
            return Err(Failure::Dead(mounted.address.clone()));
        }
        self.forget_existing(mounted.id);
        Ok(())
    }

    fn prepare(&self, share: &Share) -> Result<PreparedPoint, Failure> {
        let point = mount_point::prepare(self.root, &share.mount_point, share.mode)
            .map_err(Failure::Point)?;
        if point.is_ours() {
            self.made().push(share.mount_point.clone());
        }
        Ok(point)
    }

    fn route(&self, to: SocketAddr) -> Option<Route> {
        route::to(self.root, to)
    }

    fn discard(&self, share: &Share, point: PreparedPoint) {
        let is_ours = point.is_ours();
        point.discard();
        self.forget_made(share);
        if !is_ours && self.is_orphan(share, &self.remembered()) {
            let _ = mount_point::remove(self.root, &share.mount_point);
        }
    }

    fn abandon(&self, share: &Share, made: bool) {
        let status = self.remembered();
        if made || status.made(share) || self.is_orphan(share, &status) {
            // A folder that is not empty stays: files were in it before the share was mounted.
            let _ = mount_point::remove(self.root, &share.mount_point);
        }
        self.forget_made(share);
    }

    fn resolve(&self, share: &Share, until: Deadline) -> Result<Found, Failure> {
        let resolver = self.resolver();
        Ok(resolver.resolve_or_listed(&share.endpoint, &share.addresses, until)?)
    }

    fn further(
        &self,
        share: &Share,
        found: &Found,
        until: Deadline,
    ) -> Result<Option<Vec<IpAddr>>, Failure> {
        Ok(self.resolver().further(&share.endpoint, found, until)?)
    }

    fn past_hosts(&self, share: &Share, ipv6: bool, until: Deadline) -> Result<Found, NameError> {
        self.resolver().past_hosts(&share.endpoint, ipv6, until)
    }

    fn names_stamp(&self) -> Stamp {
        Resolver::stamp(self.root)
    }

    fn reach(
        &self,
        share: &Share,
        addresses: &[IpAddr],
        until: Deadline,
    ) -> Result<IpAddr, Failure> {
        let port = share.options.port;
        let reached = reach::first_that_answers(addresses, port, self.wait(until))?;
        let (address, from_reserved) = reached;
        self.lacks_ports.store(from_reserved, Ordering::Relaxed);
        Ok(address)
    }

    fn mount(
        &self,
        share: &Share,
        call: &MountCall,
        point: &PreparedPoint,
        limit: MountLimit,
    ) -> Result<Mounted, Failure> {
        self.mount_and_prove(share, call, point, limit)
    }

    fn settle(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Vec<(Level, String)>, Failure> {
        self.settle_root(share, mounted, until)
    }
}
