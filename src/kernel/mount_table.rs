//! The mount table: reads the bytes of /proc/self/mountinfo as entries, and compares an entry with
//! a share of the config. No file is opened here and no mount is touched.

#[cfg(test)]
mod tests;

use crate::config::Share;
use crate::config::options::{CONTEXTS, NFS_PORT, words};
use nix::libc;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The file system type of an automount. A look at it waits for the program that mounts something
/// there.
pub const AUTOFS: &str = "autofs";

/// One line of mountinfo (proc_pid_mountinfo(5)). It borrows what it can from the file's bytes. A
/// session start reads the table of a whole machine to find one mount or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'t> {
    /// Mount id, unique on the machine.
    pub id: u32,
    /// Id of the mount it is on.
    pub parent: u32,
    /// `major:minor` of the file system.
    pub device: &'t str,
    pub mount_point: Cow<'t, Path>,
    /// Per-mount options: `rw,nosuid`.
    pub flags: Cow<'t, str>,
    /// `nfs4`, `ext4`, ….
    pub fstype: Cow<'t, str>,
    /// `server:/path`, `/dev/sda1`, ….
    pub source: Cow<'t, str>,
    /// Per-file-system options: `rw,vers=4.1,addr=10.0.0.1`.
    pub options: Cow<'t, str>,
}

impl Entry<'_> {
    /// The value of `key=` among the file system's options.
    pub fn option(&self, key: &str) -> Option<&str> {
        words(&self.options).find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// The port of the NFS server.
    pub fn port(&self) -> u16 {
        self.option("port").and_then(|port| port.parse().ok()).unwrap_or(NFS_PORT)
    }

    pub fn is_nfs(&self) -> bool {
        self.fstype.starts_with("nfs")
    }

    /// Whether nothing can be written through it.
    pub fn read_only(&self) -> bool {
        has_word(&self.flags, "ro") || has_word(&self.options, "ro")
    }
}

fn has_word(list: &str, word: &str) -> bool {
    words(list).any(|one| one == word)
}

/// The entries of a mountinfo file. Lines that cannot be understood are left out.
pub fn parse(mountinfo: &[u8]) -> Vec<Entry<'_>> {
    mountinfo.split(|b| *b == b'\n').filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.split(|b| *b == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = fields.next()?;
    // The device becomes part of a path in /sys, so it must have nothing else in it.
    if !device.iter().all(|b| b.is_ascii_digit() || *b == b':') {
        return None;
    }
    let device = std::str::from_utf8(device).ok()?;

    let _root = fields.next()?;
    let mount_point = match unescape(fields.next()?) {
        Cow::Borrowed(bytes) => Cow::Borrowed(Path::new(OsStr::from_bytes(bytes))),
        Cow::Owned(bytes) => Cow::Owned(OsString::from_vec(bytes).into()),
    };
    let flags = String::from_utf8_lossy(fields.next()?);
    // A dash ends any number of optional fields.
    fields.by_ref().find(|field| *field == b"-")?;

    let fstype = String::from_utf8_lossy(fields.next()?);
    let source = match unescape(fields.next()?) {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    };
    let options = String::from_utf8_lossy(fields.next()?);
    Some(Entry { id, parent, device, mount_point, flags, fstype, source, options })
}

fn number(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

/// The kernel writes space, tab, newline, backslash and `#` as `\ooo`. This turns them back.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }

    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            // from_str_radix alone would take a sign too.
            (b'\\', [a @ b'0'..=b'7', b, c, ..]) => std::str::from_utf8(&[*a, *b, *c])
                .ok()
                .and_then(|octal| u8::from_str_radix(octal, 8).ok()),
            _ => None,
        };

        match code {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }

    Cow::Owned(out)
}

/// The mounts that are seen between the root and `path`, the outermost first, and for each whether it is on `path`
/// itself. A mount that a later one hides is not among them.
fn on_the_way<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Vec<(&'a Entry<'t>, bool)> {
    // The latest mount comes first. Mounts elsewhere do not matter, and neither do mounts on top of
    // those.
    let along: Vec<&Entry<'t>> =
        table.iter().rev().filter(|entry| leads_to(&entry.mount_point, path)).collect();
    let ids: BTreeSet<u32> = along.iter().map(|entry| entry.id).collect();
    // The key is the mount that they are on: `None` if that is the mount itself, or is not in the
    // table.
    let mut mounts_on: BTreeMap<Option<u32>, Vec<&Entry<'t>>> = BTreeMap::new();
    for entry in along {
        let parent = Some(entry.parent).filter(|id| *id != entry.id && ids.contains(id));
        mounts_on.entry(parent).or_default().push(entry);
    }

    let mut prefixes: Vec<&Path> = path.ancestors().collect();
    prefixes.reverse();
    let mut way: Vec<(&Entry<'t>, bool)> = Vec::new();

    for prefix in prefixes {
        // Mounts may be stacked, each on the one before it.
        loop {
            let current = way.last().map(|(entry, _)| entry.id);
            let next = mounts_on.get(&current).into_iter().flatten();
            match next.copied().find(|entry| entry.mount_point.as_os_str() == prefix.as_os_str()) {
                // This must end even if the table leads in a circle.
                Some(entry) if way.len() <= table.len() => way.push((entry, prefix == path)),
                _ => break,
            }
        }
    }

    way
}

/// Whether `path` is `mount_point` or below it. Both have the kernel's form, without `.`, `..` or doubled slashes, so
/// their bytes can be compared. Component by component would cost ten times as much.
fn leads_to(mount_point: &Path, path: &Path) -> bool {
    let path = path.as_os_str().as_bytes();
    match path.strip_prefix(mount_point.as_os_str().as_bytes()) {
        Some(rest) => rest.first().is_none_or(|b| *b == b'/') || mount_point == Path::new("/"),
        None => false,
    }
}

/// The mount that is seen at `path`, if one is on it.
pub fn top_at<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Option<&'a Entry<'t>> {
    on_the_way(table, path).last().filter(|(_, on_it)| *on_it).map(|(entry, _)| *entry)
}

/// The mount that is seen at `path`, if it is the only one there.
pub fn only_at<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Option<&'a Entry<'t>> {
    let way = on_the_way(table, path);
    let mut on_it = way.into_iter().filter(|(_, on_it)| *on_it).map(|(entry, _)| entry);
    on_it.next().filter(|_| on_it.next().is_none())
}

/// A mount above `path` whose server may be dead. A look at `path` could then block for ever.
pub fn remote_above<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Option<&'a Entry<'t>> {
    let way = on_the_way(table, path);
    let mut above: Vec<_> =
        way.into_iter().filter(|(_, on_it)| !on_it).map(|(entry, _)| entry).collect();
    // An automount blocks until its program has answered, unless something is mounted on it already.
    let automount = above.pop_if(|entry| entry.fstype == AUTOFS);
    above.into_iter().find(|e| is_remote(&e.fstype)).or(automount)
}

fn is_remote(fstype: &str) -> bool {
    const REMOTE: [&str; 9] =
        ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "9p", "lustre", "glusterfs"];
    REMOTE.contains(&fstype) || fstype.starts_with("fuse")
}

/// How a mount at a share's mount point compares with that share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareMatch {
    /// It is the share. The strings are harmless differences: "soft instead of hard".
    Ours(Vec<String>),
    /// It is the share, but read-only, and the config wants to write.
    ReadOnly,
    /// It is the share's path, on a server with another name. If the address is one of the share's,
    /// it is the share: the kernel shows the first name by which it knew a server.
    OtherName(Vec<String>),
    /// It is the share, but is encrypted and should not be, or the other way round.
    OtherWay,
    /// It is another file system.
    Foreign,
}

/// Whether a share's mount goes through a tunnel: to a port of this machine that is not the server's.
pub fn is_tunnelled(entry: &Entry, share: &Share) -> bool {
    is_local(entry) && entry.port() != share.options.port
}

fn is_local(entry: &Entry<'_>) -> bool {
    let address = entry.option("addr").and_then(|address| address.parse().ok());
    address.is_some_and(|address: IpAddr| address.is_loopback())
}

/// Whether anything is mounted through the tunnel that listens at `port` of this machine.
pub fn leads_through(table: &[Entry<'_>], port: u16) -> bool {
    table.iter().any(|entry| entry.is_nfs() && entry.port() == port && is_local(entry))
}

/// Compares a mount with a share of the config.
pub fn standing(entry: &Entry<'_>, share: &Share) -> ShareMatch {
    if !entry.is_nfs() || !has_path(&entry.source, share) {
        ShareMatch::Foreign
    } else if entry.source == share.source() {
        standing_of_own(entry, share)
    } else if lacks_writing(entry, share) {
        ShareMatch::ReadOnly
    } else {
        ShareMatch::OtherName(differs(entry, share))
    }
}

/// Compares a mount that is known to be the share's, whatever name and path the kernel shows. A
/// server can lead both elsewhere.
pub fn standing_of_own(entry: &Entry<'_>, share: &Share) -> ShareMatch {
    if is_tunnelled(entry, share) != share.encryption.is_some() {
        ShareMatch::OtherWay
    } else if lacks_writing(entry, share) {
        ShareMatch::ReadOnly
    } else {
        ShareMatch::Ours(differs(entry, share))
    }
}

/// Whether a mount's source has the path of the share. If it has another, the server has led there by a link or a
/// referral.
pub fn has_path(source: &str, share: &Share) -> bool {
    source.strip_suffix(share.path.as_str()).is_some_and(|server| server.ends_with(':'))
}

fn lacks_writing(entry: &Entry<'_>, share: &Share) -> bool {
    entry.read_only() && share.options.flags & libc::MS_RDONLY == 0
}

/// The harmless differences between a mount and the config.
fn differs(entry: &Entry<'_>, share: &Share) -> Vec<String> {
    let mut differs = Vec::new();
    let mut compare = |is: String, wanted: String| {
        if is != wanted {
            differs.push(format!("{is} instead of {wanted}"));
        }
    };

    for (word, other, bit) in [
        ("ro", "rw", libc::MS_RDONLY),
        ("nosuid", "suid", libc::MS_NOSUID),
        ("nodev", "dev", libc::MS_NODEV),
        ("noexec", "exec", libc::MS_NOEXEC),
        ("noatime", "atime", libc::MS_NOATIME),
    ] {
        let is = has_word(&entry.flags, word) || word == "ro" && entry.read_only();
        let wanted = share.options.flags & bit != 0;
        compare(one_of(is, word, other), one_of(wanted, word, other));
    }

    for (word, other) in [("soft", "hard"), ("noresvport", "resvport"), ("noac", "ac")] {
        // A mount through a tunnel always has resvport, unless an earlier version made it.
        if word == "noresvport" && share.encryption.is_some() {
            continue;
        }
        let is = has_word(&entry.options, word);
        compare(one_of(is, word, other), one_of(share.options.has(word), word, other));
    }

    for (key, wanted) in [
        ("vers", Some(share.options.version())),
        ("timeo", share.options.value("timeo")),
        ("retrans", share.options.value("retrans")),
    ] {
        if let (Some(is), Some(wanted)) = (entry.option(key), wanted) {
            compare(format!("{key}={is}"), format!("{key}={wanted}"));
        }
    }

    // The kernel puts quotes around a context with a comma in it.
    for key in CONTEXTS {
        let is = entry.option(key).map(|is| is.trim_matches('"'));
        let wanted = share.options.contexts().find(|(wanted, _)| wanted == key);
        compare(context(key, is), context(key, wanted.map(|(_, context)| context)));
    }
    differs
}

fn one_of(first: bool, word: &str, other: &str) -> String {
    if first { word.to_owned() } else { other.to_owned() }
}

fn context(key: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("{key}={value}"),
        None => format!("no {key}="),
    }
}
