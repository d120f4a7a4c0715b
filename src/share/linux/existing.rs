//! What is mounted already, as the mount table shows it: whether it is the share, who mounted it,
//! and whether it goes the share's way. No share is mounted here. Only `find_by_root` makes a trial
//! mount, and else no server is asked except a name server.

use super::Linux;
use crate::config::Share;
use crate::files;
use crate::kernel::connections;
use crate::kernel::mount_table::{self, Entry, ShareMatch};
use crate::net::names::NAME_WITH_FALLBACK;
use crate::retry::{Clock, Deadline};
use crate::share::mount_point::{self, PointError};
use crate::share::plan::{MountCall, TUNNEL};
use crate::share::{Failure, Mounted, locate};
use crate::status::{self, record::Status};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

/// A look at the mounts is repeated before the next mount if it is older than this.
pub(super) const OLD_LOOK: Duration = Duration::from_millis(500);
/// How long another run gets to note that a new mount is its own.
pub(super) const ANNOUNCE_TIMEOUT: Duration = Duration::from_millis(500);
/// The pause between two looks for such a note.
pub(super) const ANNOUNCE_PAUSE: Duration = Duration::from_millis(20);

/// The mounts that were there before a share was mounted, at the last look.
#[derive(Debug, Default)]
pub(super) struct ExistingMounts {
    pub(super) ids: Vec<u32>,
    /// When that look was.
    at: Duration,
}

/// How the mount that is seen at a mount point came to be, as far as that is known.
#[derive(Debug, Clone, Copy)]
pub(super) enum Provenance {
    /// It was there before.
    Earlier,
    /// A call of mount(2) that connects to this address was cut off, and may have succeeded.
    CutOff(SocketAddr),
    /// A comparison has shown that it has the share's root.
    Recognized,
    /// mount(2) reported that it mounted the share there, where nothing was before.
    JustMounted,
}

impl<C: Clock + Sync> Linux<'_, C> {
    /// The mount that `table` shows at the share's mount point, if it is the share's.
    pub(super) fn find(
        &self,
        table: &[Entry<'_>],
        share: &Share,
        provenance: Provenance,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let Some(entry) = mount_table::top_at(table, &share.mount_point) else {
            return Ok(None);
        };
        let fresh = matches!(provenance, Provenance::JustMounted | Provenance::CutOff(_));

        let standing = match mount_table::standing(entry, share) {
            // The kernel shows the path to which the server has led, which does not say whose mount
            // it is.
            ShareMatch::Foreign if self.is_own(table, entry, share, provenance) => {
                mount_table::standing_of_own(entry, share)
            }

            // The kernel knows the server by another name, and perhaps by another way. Only the
            // share can be there now.
            ShareMatch::OtherName(_) if fresh || self.is_remembered(entry, share) => {
                mount_table::standing_of_own(entry, share)
            }
            other => other,
        };

        let differs = match standing {
            ShareMatch::Ours(differs) => differs,
            ShareMatch::ReadOnly => return Err(Failure::ReadOnly),
            ShareMatch::OtherWay => return Err(Failure::OtherWay),
            ShareMatch::Foreign => return Err(taken(entry)),
            // The address says nothing: every tunnel has the same.
            ShareMatch::OtherName(_) if share.encryption.is_some() => return Err(taken(entry)),
            ShareMatch::OtherName(mut differs) => {
                let until = until.within(self.clock, NAME_WITH_FALLBACK);
                let at = entry.option("addr").unwrap_or_default();
                let addresses = locate::leads_to(self, share, at, until)?.addresses;
                if !addresses.iter().any(|address| address.to_string() == at) {
                    return Err(taken(entry));
                }
                differs.push(format!("name {} instead of {}", entry.source, share.source()));
                differs
            }
        };

        Ok(Some(Mounted { already: !fresh, differs, ..mounted(entry) }))
    }

    /// Whether a mount of another path, which is seen at the share's mount point, is the share all the same.
    fn is_own(
        &self,
        table: &[Entry<'_>],
        entry: &Entry<'_>,
        share: &Share,
        provenance: Provenance,
    ) -> bool {
        // The run mounts only where it has found nothing, so a single mount that is there
        // afterwards is its own. If there are two, somebody has made another one meanwhile.
        let alone = || entry.is_nfs() && mount_table::only_at(table, &share.mount_point).is_some();
        match provenance {
            Provenance::Earlier => self.is_remembered(entry, share),
            Provenance::JustMounted => alone(),
            Provenance::Recognized => true,
            // Somebody else may have mounted something while the call took its time, so this must
            // come from the server of the call.
            Provenance::CutOff(to) => {
                alone()
                    && is_from(&entry.source, share)
                    && entry.option("addr").and_then(|addr| addr.parse().ok()) == Some(to.ip())
                    && entry.port() == to.port()
            }
        }
    }

    /// Finds the share if it was mounted before. Another run that has just mounted it, and is about
    /// to note that, is waited for.
    pub(super) fn find_announced(
        &self,
        share: &Share,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let patience = until.within(self.clock, ANNOUNCE_TIMEOUT);
        loop {
            let bytes = self.table()?;
            let table = mount_table::parse(&bytes);
            self.note_existing(share, &table);
            check_local(&table, share)?;
            let found = self.find(&table, share, Provenance::Earlier, until);

            let Err(Failure::Taken { .. }) = found else {
                return found;
            };

            let top = mount_table::top_at(&table, &share.mount_point);
            let may_be = top.is_some_and(|entry| entry.is_nfs() && is_from(&entry.source, share));
            if !may_be || patience.passed(self.clock) {
                return found;
            }
            self.clock.wait(ANNOUNCE_PAUSE)?;
        }
    }

    /// Finds the share under another path, if that mount has the same root as a trial mount that
    /// nobody sees.
    pub(super) fn find_by_root(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = mount_table::parse(&bytes);

        // If the path is the share's, the name or the address has decided already.
        let top = mount_table::top_at(&table, &share.mount_point);
        let Some(entry) = top.filter(|e| e.is_nfs() && !mount_table::has_path(&e.source, share))
        else {
            return Ok(None);
        };
        let parent = mount_point::parent(self.root, &share.mount_point).map_err(Failure::Point)?;
        match self.trial_beside(share, call, Some(&parent), until)?.same {
            Some(device) if device == entry.device => {
                self.find(&table, share, Provenance::Recognized, until)
            }
            _ => Ok(None),
        }
    }

    fn existing(&self) -> MutexGuard<'_, BTreeMap<PathBuf, ExistingMounts>> {
        self.existing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes which mounts are there before the share is mounted.
    fn note_existing(&self, share: &Share, table: &[Entry<'_>]) {
        let mut all = self.existing();
        let existing = all.entry(share.mount_point.clone()).or_default();

        // The kernel reuses the numbers of mounts, so only those in use now count.
        existing.ids.clear();
        existing.ids.extend(table.iter().map(|entry| entry.id));
        existing.at = self.clock.now();
    }

    /// Notes them again, if the last look is so old that somebody may have mounted something since.
    pub(super) fn note_existing_again(&self, share: &Share) {
        let looked = self.existing().get(&share.mount_point).map_or(Duration::ZERO, |all| all.at);
        if self.clock.now().saturating_sub(looked) > OLD_LOOK
            && let Ok(table) = self.table()
        {
            self.note_existing(share, &mount_table::parse(&table));
        }
    }

    /// Whether a mount was there before the share was mounted.
    pub(super) fn was_existing(&self, share: &Share, id: u32) -> bool {
        self.existing().get(&share.mount_point).is_some_and(|existing| existing.ids.contains(&id))
    }

    /// Forgets a mount that is gone, because the kernel reuses its number.
    pub(super) fn forget_existing(&self, id: u32) {
        for existing in self.existing().values_mut() {
            existing.ids.retain(|one| *one != id);
        }
    }

    pub(super) fn remembered(&self) -> Status {
        status::read(self.root)
    }

    /// Whether a killed run made the mount point of the share, and nobody has changed it since or
    /// may be about to mount there.
    pub(super) fn is_orphan(&self, share: &Share, status: &Status) -> bool {
        let mut all = status.orphans(self.root).into_iter();
        all.any(|one| one.path == share.mount_point && one.is_there(self.root))
            && status.living(self.root).is_none()
    }

    /// Whether an earlier run of this boot has mounted it as the share.
    fn is_remembered(&self, entry: &Entry<'_>, share: &Share) -> bool {
        self.remembered().mounts().any(|known| known.is(entry) && known.is_share(share))
    }

    /// The mount that is seen at the share's mount point, if it is the share's in whatever state.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::Hidden`], [`Failure::NoTable`], [`Failure::Stopped`].
    pub fn found(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure> {
        let bytes = self.table()?;
        let table = mount_table::parse(&bytes);
        check_local(&table, share)?;
        let result = self.find(&table, share, Provenance::Earlier, until);

        // A session start may mount it again. But a command that takes it down or reports it must
        // not overlook it.
        let hidden =
            |e: &Entry<'_>| e.mount_point == share.mount_point && e.source == share.source();
        if result == Ok(None) && table.iter().any(hidden) {
            return Err(Failure::Hidden);
        }
        if !matches!(result, Err(Failure::Name(_) | Failure::ReadOnly | Failure::OtherWay)) {
            return result;
        }
        match (mount_table::top_at(&table, &share.mount_point), result) {
            // The server has another name, and no name server can say whether that is the share's.
            (Some(entry), Err(Failure::Name(_))) => Err(taken(entry)),
            (entry, _) => Ok(entry.map(mounted)),
        }
    }

    /// Where the kernel is connected to for the file system `device`, if it shows that.
    pub fn connected_to(&self, device: &str) -> Option<SocketAddr> {
        // The kernel hands out the file in pieces. A mount that ends meanwhile can hide the line of
        // another mount, so a second look follows.
        let look = || connections::of_device(&self.volumes(), device);
        look().or_else(look)
    }

    /// The kernel's table of NFS volumes.
    pub(super) fn volumes(&self) -> Vec<u8> {
        files::whole(&self.root.join(connections::VOLUMES)).unwrap_or_default()
    }

    /// Whether the connection of a mount leads to the port of this machine that its options name.
    pub(crate) fn is_tunnelled(&self, mounted: &Mounted) -> bool {
        self.connected_to(&mounted.device) == Some(SocketAddr::new(TUNNEL, mounted.port))
    }

    /// Whether the file system `device` goes the way that `call` names.
    pub(super) fn check_way(&self, call: &MountCall, device: &str) -> Result<(), Failure> {
        if !call.is_tunnelled() {
            return Ok(());
        }
        match self.connected_to(device) {
            Some(to) if to == call.connects_to => Ok(()),
            other => Err(Failure::OffWay(other)),
        }
    }
}

/// Whether the mount point can be looked at without asking a server that may be dead.
fn check_local(table: &[Entry<'_>], share: &Share) -> Result<(), Failure> {
    match mount_table::remote_above(table, &share.mount_point) {
        None => Ok(()),
        Some(entry) => Err(Failure::Point(PointError::Remote {
            path: share.mount_point.clone(),
            remote: format!("{} ({})", entry.source, entry.fstype),
        })),
    }
}

/// A mount of NFS, by its line in the mount table.
pub(super) fn mounted(entry: &Entry<'_>) -> Mounted {
    Mounted {
        id: entry.id,
        source: entry.source.to_string(),
        address: entry.option("addr").unwrap_or("?").to_owned(),
        version: entry.option("vers").unwrap_or("?").to_owned(),
        device: entry.device.to_owned(),
        rsize: entry.option("rsize").and_then(|n| n.parse().ok()).unwrap_or(0),
        already: true,
        anew: false,
        differs: Vec::new(),
        hides: false,
        made: false,
        over: None,
        port: entry.port(),
        peer: None,
        root: None,
        nameless: None,
        doubt: None,
    }
}

/// Whether the mount table shows the share's own name for the server in `source`.
fn is_from(source: &str, share: &Share) -> bool {
    let own = share.source();
    let server = own.strip_suffix(share.path.as_str()).unwrap_or(&own);
    source.starts_with(server)
}

/// Whether the server has referred the mount to another server, whose name and address then show.
pub fn strays(share: &Share, call: &MountCall, mounted: &Mounted) -> bool {
    !shows_name(share, mounted) && mounted.address != call.connects_to.ip().to_string()
}

/// Whether the mount table shows the share's own name for the server.
pub fn shows_name(share: &Share, mounted: &Mounted) -> bool {
    is_from(&mounted.source, share)
}

/// The failure of a share's mount that does not go its way, and is connected `to` something else.
pub(super) fn off_way(entry: &Entry<'_>, share: &Share, to: Option<SocketAddr>) -> Failure {
    // A mount on the connection of another mount shows the tunnel nevertheless.
    let elsewhere = share.encryption.is_some() && !mount_table::is_tunnelled(entry, share);
    match elsewhere && !mount_table::has_path(&entry.source, share) {
        true => Failure::Referred { source: entry.source.to_string(), to },
        false => Failure::OffWay(to),
    }
}

fn taken(entry: &Entry<'_>) -> Failure {
    Failure::Taken { source: entry.source.to_string(), fstype: entry.fstype.to_string() }
}
