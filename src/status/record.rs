//! What /run/efs-agent/status.json consists of, as types that serde writes and reads. A key is
//! missing where an earlier version wrote the file; it then has its default. How the file is locked
//! and replaced is the business of [`super`].

use super::unfinished::{MadePoint, UnfinishedRun};
use crate::config::{Endpoint, Share};
use crate::json;
use crate::kernel::mount_table::Entry;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The number by which a reader knows what the keys mean.
const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub(super) version: u32,
    /// When the last run ended, in RFC 3339; `None` before the first run has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Whether that was a run by hand, with `--once`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub once: Option<bool>,
    /// The path of its config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Its exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// Who the machine was to its servers; `None` where the kernel had no NFS client yet.
    pub client: Option<ClientRecord>,
    /// What became of each share, in the order of the config.
    pub shares: Vec<ShareRecord>,
    /// What earlier runs mounted, and the last run did not.
    pub earlier: Vec<ShareRecord>,
    /// The runs that have begun and not ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<UnfinishedRun>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            version: VERSION,
            at: None,
            once: None,
            config: None,
            exit: None,
            client: None,
            shares: Vec::new(),
            earlier: Vec::new(),
            unfinished: Vec::new(),
        }
    }
}

/// Who a machine is to its NFS servers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    /// The identity of the kernel's NFS client, if it has one.
    pub identity: Option<String>,
    /// `efs-agent` or `administrator`.
    pub set_by: Option<String>,
    /// The file in which the kernel keeps it.
    pub place: String,
}

/// What became of one share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShareRecord {
    pub endpoint: String,
    pub path: String,
    pub mount_point: String,
    pub mounted: bool,
    /// Whether it was mounted before the run began.
    pub already: bool,
    /// The server's address, behind a tunnel too.
    pub address: Option<String>,
    /// The TLS version of the connection to it.
    pub tls: Option<String>,
    pub encrypted: bool,
    /// The mount itself; `None` where nothing of this share is mounted any more.
    pub mount: Option<MountRecord>,
    /// Whether the mount point was made for it.
    pub made: bool,
    /// How many attempts it took.
    pub attempts: u32,
    /// How long it took.
    pub seconds: f64,
    /// Why it is not mounted, and what helps.
    pub cause: Option<String>,
    pub cure: Option<String>,
}

/// What identifies a mount, wherever the config has gone and wherever the server led the path. The
/// kernel reuses numbers and devices, so the other fields are needed too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRecord {
    /// Its number in the mount table.
    pub id: u32,
    /// `major:minor` of its file system.
    pub device: String,
    /// What it was mounted from, as the mount table shows it.
    pub source: String,
    /// The address that the kernel is connected to, as the mount table shows it.
    pub address: String,
}

impl MountRecord {
    /// Whether it is the mount of this number and file system.
    pub fn is_mount(&self, id: u32, device: &str) -> bool {
        (self.id, self.device.as_str()) == (id, device)
    }
}

impl ShareRecord {
    /// Whether a line of the mount table is its mount.
    pub fn is(&self, entry: &Entry<'_>) -> bool {
        self.mount.as_ref().is_some_and(|mount| {
            mount.is_mount(entry.id, entry.device)
                && Path::new(&self.mount_point) == entry.mount_point
                && entry.is_nfs()
                && mount.source == entry.source
                && Some(mount.address.as_str()) == entry.option("addr")
        })
    }

    /// Whether it is about the mount point of `share`.
    pub fn is_of(&self, share: &Share) -> bool {
        Path::new(&self.mount_point) == share.mount_point
    }

    /// Whether it is about this share: the same path of the same server on the same mount point.
    pub fn is_share(&self, share: &Share) -> bool {
        (&self.endpoint, &self.path) == (&share.endpoint.to_string(), &share.path)
            && self.is_of(share)
    }

    /// The share, as far as it is known without its config.
    pub fn share(&self) -> Share {
        let endpoint = match self.endpoint.parse() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Name(self.endpoint.clone()),
        };
        let (path, mount_point) = (self.path.clone(), self.mount_point.clone().into());
        Share::without_config(endpoint, path, mount_point, self.encrypted)
    }
}

impl Status {
    /// Reads the text of the file; `None` where it cannot be understood.
    pub fn parse(text: &str) -> Option<Self> {
        json::object(text.as_bytes()).ok()
    }

    /// The records of all shares, from the last run and from those before it.
    pub fn records(&self) -> impl Iterator<Item = &ShareRecord> {
        self.shares.iter().chain(&self.earlier)
    }

    /// The same records, to be changed.
    pub fn records_mut(&mut self) -> impl Iterator<Item = &mut ShareRecord> {
        self.shares.iter_mut().chain(&mut self.earlier)
    }

    /// The records of what the runs of this boot have mounted.
    pub fn mounts(&self) -> impl Iterator<Item = &ShareRecord> {
        self.records().filter(|one| one.mount.is_some())
    }

    /// Whether the mount point of `share` was made for it.
    pub fn made(&self, share: &Share) -> bool {
        self.records().any(|one| one.is_of(share) && one.made)
    }

    /// Whether a run of this boot has made the mount of this number and file system.
    pub fn has_mount(&self, id: u32, device: &str) -> bool {
        self.records().filter_map(|one| one.mount.as_ref()).any(|mount| mount.is_mount(id, device))
    }

    /// The process id of another run that has begun and goes on. That run may be waiting for its
    /// share to mount on a folder that a killed run made.
    pub fn living(&self, root: &Path) -> Option<u32> {
        let own = std::process::id();
        let mut others = self.unfinished.iter().filter(|run| run.pid != own);
        others.find(|run| run.runs(root)).map(|run| run.pid)
    }

    /// The mount points that were made by runs which did not end.
    pub fn orphans(&self, root: &Path) -> Vec<MadePoint> {
        let made = self.unfinished.iter().filter(|run| !run.made.is_empty());
        made.filter(|run| !run.runs(root)).flat_map(|run| run.made.clone()).collect()
    }

    /// How the last run ended, in one line; `None` before the first run has ended.
    pub fn ended(&self) -> Option<String> {
        let (at, exit) = (self.at.as_ref()?, self.exit?);
        let what = super::name_of_run(self.once == Some(true));
        let up = self.shares.iter().filter(|one| one.mounted).count();
        let config = self.config.as_ref().map(|config| format!(", config {config}"));

        let causes: Vec<&str> = self.shares.iter().filter_map(|one| one.cause.as_deref()).collect();
        let why = match causes.as_slice() {
            [] => String::new(),
            causes => format!(": {}", causes.join("; ")),
        };

        Some(format!(
            "{what} ended at {at}: exit {exit}, {up} of {} shares mounted{}{why}",
            self.shares.len(),
            config.unwrap_or_default()
        ))
    }
}
