//! What the runs of this boot have mounted, read off /run/efs-agent/status.json. A mount is known by its number and
//! its file system, wherever the config has gone and whatever the server made of the path. Who writes the file is
//! above: [`crate::status`].

use crate::config::{Endpoint, Share};
use crate::files::{self, Place};
use crate::json::{Document, Node, Value};
use crate::kernel::mount_table;
use std::path::{Path, PathBuf};

/// Where it is.
pub const STATUS: &str = "/run/efs-agent/status.json";

/// A share that a run of this boot has mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    endpoint: String,
    path: String,
    mount_point: PathBuf,
    encrypted: bool,
    /// The mount's number in the mount table.
    id: u32,
    /// `major:minor` of its file system.
    device: String,
    /// What it was mounted from and the server's address, as the mount table shows them. The kernel gives a number
    /// and a device that are free to whatever is mounted next.
    source: String,
    address: String,
}

impl Remembered {
    /// Of an object of the file; none where it was not mounted, or an earlier version wrote it.
    pub(crate) fn of(document: &Document<'_>, one: &Node) -> Option<Self> {
        let text = |key| match &member(one, key)?.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let mount = member(one, "mount")?;
        let of_mount = |key| match &member(mount, key)?.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        Some(Self {
            endpoint: text("endpoint")?,
            path: text("path")?,
            mount_point: text("mount_point")?.into(),
            encrypted: member(one, "encrypted")?.value == Value::Boolean(true),
            id: document.slice(member(mount, "id")?.span.clone()).parse().ok()?,
            device: of_mount("device")?,
            source: of_mount("source")?,
            address: of_mount("address")?,
        })
    }

    /// Whether a line of the mount table is that mount.
    pub fn is(&self, entry: &mount_table::Entry<'_>) -> bool {
        self.is_mount(entry.id, entry.device)
            && self.mount_point == entry.mount_point
            && entry.is_nfs()
            && self.source == entry.source
            && Some(self.address.as_str()) == entry.option("addr")
    }

    /// Whether it is the mount of this number and file system.
    pub fn is_mount(&self, id: u32, device: &str) -> bool {
        (self.id, self.device.as_str()) == (id, device)
    }

    /// Whether it was mounted as this share: the same path of the same server on the same mount point.
    pub fn is_share(&self, share: &Share) -> bool {
        (&self.endpoint, &self.path) == (&share.endpoint.to_string(), &share.path)
            && self.mount_point == share.mount_point
    }

    /// The share, as far as it is known without its config.
    pub fn share(&self) -> Share {
        let endpoint = match self.endpoint.parse() {
            Ok(address) => Endpoint::Address(address),
            Err(_) => Endpoint::Name(self.endpoint.clone()),
        };
        let (path, mount_point) = (self.path.clone(), self.mount_point.clone());
        Share::without_config(endpoint, path, mount_point, self.encrypted)
    }
}

/// What the runs of this boot have mounted, as `status` (the text of the file) has it.
pub fn all(status: &str) -> Vec<Remembered> {
    let Ok(document) = Document::parse(status) else {
        return Vec::new();
    };
    objects(&document.root).filter_map(|one| Remembered::of(&document, one)).collect()
}

/// All that are about a share, of the last run and of those before it.
pub(crate) fn objects(root: &Node) -> impl Iterator<Item = &Node> {
    ["shares", "earlier"].into_iter().flat_map(|key| match member(root, key).map(|n| &n.value) {
        Some(Value::Array(shares)) => shares.as_slice(),
        _ => &[],
    })
}

/// Whether an object of the file is about the mount point of `share`.
pub(crate) fn is_of(one: &Node, share: &Share) -> bool {
    let point = share.mount_point.to_str().map(|point| Value::String(point.to_owned()));
    member(one, "mount_point").map(|node| &node.value) == point.as_ref()
}

pub(crate) fn contents(place: &Place) -> Option<String> {
    String::from_utf8(place.read().ok()??).ok()
}

/// The text of it, if there is one that root alone can have written.
pub fn read(root: &Path) -> Option<String> {
    contents(&files::find(root, Path::new(STATUS)).ok()?)
}

/// Whether the mount point of `share` was made for it, as `status` (the text of the file) has it.
pub fn made(status: &str, share: &Share) -> bool {
    let Ok(document) = Document::parse(status) else {
        return false;
    };
    objects(&document.root).any(|one| {
        is_of(one, share)
            && member(one, "made").is_some_and(|node| node.value == Value::Boolean(true))
    })
}

/// The value of `key` in an object.
pub(crate) fn member<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Object(members) = &node.value else {
        return None;
    };
    members.iter().find(|member| member.key == key).map(|member| &member.value)
}
