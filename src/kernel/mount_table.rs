//! The mount table: the bytes of /proc/self/mountinfo as entries, and how an
//! entry stands to a share of the config. Pure: reads no file, touches no mount.

use crate::config::Share;
use crate::config::options::{CONTEXTS, NFS_PORT, words};
use nix::libc;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// The type of an automount: whoever looks at it waits for the program that mounts something there.
pub const AUTOFS: &str = "autofs";

/// One line of mountinfo (proc_pid_mountinfo(5)). It borrows what it can from the file's bytes: a
/// start reads the table of a whole machine to find one mount or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'t> {
    /// Mount id, unique on the machine.
    pub id: u32,
    /// Id of the mount it is on.
    pub parent: u32,
    /// `major:minor` of the file system.
    pub device: &'t str,
    /// Where it is mounted.
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

    /// The port of an NFS server.
    pub fn port(&self) -> u16 {
        self.option("port").and_then(|port| port.parse().ok()).unwrap_or(NFS_PORT)
    }

    /// Whether it is a mount of NFS.
    pub fn is_nfs(&self) -> bool {
        self.fstype.starts_with("nfs")
    }

    fn has(list: &str, word: &str) -> bool {
        words(list).any(|w| w == word)
    }

    /// Whether nothing can be written through it.
    pub fn read_only(&self) -> bool {
        Self::has(&self.flags, "ro") || Self::has(&self.options, "ro")
    }
}

/// The entries of a mountinfo file; a line that makes no sense is passed over.
pub fn parse(mountinfo: &[u8]) -> Vec<Entry<'_>> {
    mountinfo.split(|b| *b == b'\n').filter_map(entry).collect()
}

fn entry(line: &[u8]) -> Option<Entry<'_>> {
    let mut fields = line.split(|b| *b == b' ');
    let number = |field| std::str::from_utf8(field).ok()?.parse().ok();
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let device = fields.next()?;
    // It becomes part of a path in /sys.
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
    // Any number of optional fields, closed by a lone dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fstype = String::from_utf8_lossy(fields.next()?);
    let source = match unescape(fields.next()?) {
        Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
        Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
    };
    let options = String::from_utf8_lossy(fields.next()?);
    Some(Entry { id, parent, device, mount_point, flags, fstype, source, options })
}

/// The kernel writes space, tab, newline, backslash and `#` as `\ooo`.
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

/// The mounts on the way from the root to `path`, outermost first: of each, whether it is on `path`
/// itself. A mount that a later one hides is not among them.
fn on_the_way<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Vec<(&'a Entry<'t>, bool)> {
    // What is elsewhere is no part of it, and neither is a mount on what is elsewhere. The latest first.
    let along: Vec<&Entry<'t>> =
        table.iter().rev().filter(|entry| leads_to(&entry.mount_point, path)).collect();
    let ids: BTreeSet<u32> = along.iter().map(|entry| entry.id).collect();
    // By what they are on; nothing, if that is themselves or not in the table.
    let mut mounts_on: BTreeMap<Option<u32>, Vec<&Entry<'t>>> = BTreeMap::new();
    for entry in along {
        let parent = Some(entry.parent).filter(|id| *id != entry.id && ids.contains(id));
        mounts_on.entry(parent).or_default().push(entry);
    }
    let mut prefixes: Vec<&Path> = path.ancestors().collect();
    prefixes.reverse();
    let mut way: Vec<(&Entry<'t>, bool)> = Vec::new();
    for prefix in prefixes {
        // Stacked mounts: each is on the one before it.
        loop {
            let current = way.last().map(|(entry, _)| entry.id);
            let next = mounts_on.get(&current).into_iter().flatten();
            match next.copied().find(|entry| entry.mount_point.as_os_str() == prefix.as_os_str()) {
                // A table in which they go round in a circle has an end too.
                Some(entry) if way.len() <= table.len() => way.push((entry, prefix == path)),
                _ => break,
            }
        }
    }
    way
}

/// Whether `path` is `mount_point` or below it. Both are in the kernel's form, without `.`, `..` or
/// doubled slashes: bytes tell, part by part would cost ten times as much.
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

/// The same, if there is no other mount on `path` that is below it.
pub fn only_at<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Option<&'a Entry<'t>> {
    let way = on_the_way(table, path);
    let mut on_it = way.into_iter().filter(|(_, on_it)| *on_it).map(|(entry, _)| entry);
    on_it.next().filter(|_| on_it.next().is_none())
}

/// A mount above `path` whose server may be dead, so that only to look at `path` could block for ever.
pub fn remote_above<'a, 't>(table: &'a [Entry<'t>], path: &Path) -> Option<&'a Entry<'t>> {
    let remote = |fstype: &str| {
        ["nfs", "nfs4", "cifs", "smb3", "ceph", "afs", "9p", "lustre", "glusterfs"]
            .contains(&fstype)
            || fstype.starts_with("fuse")
    };
    let way = on_the_way(table, path);
    let mut above: Vec<_> =
        way.into_iter().filter(|(_, on_it)| !on_it).map(|(entry, _)| entry).collect();
    // Whoever looks for something in an automount waits for who serves it; on what it has mounted, nobody waits.
    let automount = above.pop_if(|entry| entry.fstype == AUTOFS);
    above.into_iter().find(|e| remote(&e.fstype)).or(automount)
}

/// How a mount at a share's mount point stands to that share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is the share. What differs in ways that do no harm is listed.
    Ours(Vec<String>),
    /// It is the share, but can only be read, where the config wants to write.
    ReadOnly,
    /// It is the share's path on a server of another name: the share, if the address is one of
    /// the share's too (the kernel shows the first name under which it met a server).
    OtherName(Vec<String>),
    /// It is the share, but encrypted where the config wants it plain, or the other way round.
    OtherWay,
    /// It is something else.
    Foreign,
}

/// Whether a mount of a share's goes through a tunnel: to a port of this machine that is not the
/// server's own.
pub fn is_tunnelled(entry: &Entry, share: &Share) -> bool {
    let local = entry.option("addr").and_then(|addr| addr.parse().ok());
    local.is_some_and(|addr: IpAddr| addr.is_loopback()) && entry.port() != share.options.port
}

/// Whether anything is mounted through the tunnel that listens at `port` of this machine.
pub fn leads_through(table: &[Entry<'_>], port: u16) -> bool {
    let local = |entry: &Entry<'_>| {
        let address = entry.option("addr").and_then(|addr| addr.parse().ok());
        address.is_some_and(|address: IpAddr| address.is_loopback())
    };
    table.iter().any(|e| e.is_nfs() && e.port() == port && local(e))
}

/// Compares what is mounted with what is configured.
pub fn standing(entry: &Entry<'_>, share: &Share) -> Standing {
    if !entry.is_nfs() || !has_path(&entry.source, share) {
        Standing::Foreign
    } else if entry.source == share.source() {
        standing_of_own(entry, share)
    } else if lacks_writing(entry, share) {
        Standing::ReadOnly
    } else {
        Standing::OtherName(differs(entry, share))
    }
}

/// The same of a mount that is known to be the share's, whatever name and path the kernel shows: it shows what the
/// server has made of them.
pub fn standing_of_own(entry: &Entry<'_>, share: &Share) -> Standing {
    if is_tunnelled(entry, share) != share.encryption.is_some() {
        Standing::OtherWay
    } else if lacks_writing(entry, share) {
        Standing::ReadOnly
    } else {
        Standing::Ours(differs(entry, share))
    }
}

/// Whether a mount's source has the path of the share. Where it has another, the server has led the path there: by a
/// link, or by a referral.
pub fn has_path(source: &str, share: &Share) -> bool {
    source.strip_suffix(share.path.as_str()).is_some_and(|server| server.ends_with(':'))
}

fn lacks_writing(entry: &Entry<'_>, share: &Share) -> bool {
    entry.read_only() && share.options.flags & libc::MS_RDONLY == 0
}

/// In what a mount differs from the config, in ways that do no harm.
fn differs(entry: &Entry<'_>, share: &Share) -> Vec<String> {
    let mut differs = Vec::new();
    let mut compare = |is: String, wanted: String| {
        if is != wanted {
            differs.push(format!("{is} instead of {wanted}"));
        }
    };
    let named = |word: &str, other: &str, there| if there { word.into() } else { other.into() };
    for (word, other, bit) in [
        ("ro", "rw", libc::MS_RDONLY),
        ("nosuid", "suid", libc::MS_NOSUID),
        ("nodev", "dev", libc::MS_NODEV),
        ("noexec", "exec", libc::MS_NOEXEC),
        ("noatime", "atime", libc::MS_NOATIME),
    ] {
        let is = Entry::has(&entry.flags, word) || word == "ro" && entry.read_only();
        compare(named(word, other, is), named(word, other, share.options.flags & bit != 0));
    }
    for (word, other) in [("soft", "hard"), ("noresvport", "resvport"), ("noac", "ac")] {
        // Through a tunnel it is always resvport; of an earlier version it was not.
        if word == "noresvport" && share.encryption.is_some() {
            continue;
        }
        let is = Entry::has(&entry.options, word);
        compare(named(word, other, is), named(word, other, share.options.has(word)));
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
    // The kernel has quotes around what has a comma in it.
    for key in CONTEXTS {
        let is = entry.option(key).map(|is| is.trim_matches('"'));
        let wanted = share.options.contexts().find(|(wanted, _)| wanted == key);
        let told = |context: Option<&str>| match context {
            Some(context) => format!("{key}={context}"),
            None => format!("no {key}="),
        };
        compare(told(is), told(wanted.map(|(_, context)| context)));
    }
    differs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test;

    const LINES: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
35 22 0:31 / /mnt/a\\040b rw,nosuid,nodev,relatime shared:5 master:2 - nfs4 fs-1.example:/ rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.2,local_lock=none,addr=10.0.0.1
garbage
36 35 0:32 / /mnt/a\\040b rw - tmpfs t\\134x rw
";

    #[test]
    fn contexts_of_selinux_are_compared_without_their_quotes_and_hide_nothing_behind_a_comma() {
        let line = |context: &str| {
            format!(
                "35 22 0:31 / /mnt/s rw,nosuid,nodev - nfs4 fs-1.example:/ rw,{context}vers=4.1,hard,noresvport,\
                 timeo=600,retrans=2,addr=10.0.0.1\n"
            )
        };
        let of = |is: &str, options: &str| {
            let text = line(is);
            let table = parse(text.as_bytes());
            let share = test::share(&format!("mount_point = \"/mnt/s\"\noptions = '{options}'"));
            standing(&table[0], &share)
        };
        let quoted = "context=\"u:r:t:s0:c1,soft\"";
        assert_eq!(of(&format!("{quoted},"), quoted), Standing::Ours(vec![]));
        assert_eq!(of("context=u:r:t:s0,", "context=\"u:r:t:s0\""), Standing::Ours(vec![]));
        assert_eq!(
            of("", quoted),
            Standing::Ours(vec!["no context= instead of context=u:r:t:s0:c1,soft".into()])
        );
        assert_eq!(
            of("fscontext=u:r:t,", ""),
            Standing::Ours(vec!["fscontext=u:r:t instead of no fscontext=".into()])
        );
    }

    const HIDDEN: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda1 rw
35 22 0:31 / /mnt/s rw - nfs4 fs-1.example:/ rw,vers=4.1,addr=10.0.0.1
36 22 0:32 / /mnt rw - tmpfs over rw
";

    fn share(options: &str) -> Share {
        test::share(&format!("mount_point = \"/mnt/a b\"\noptions = \"{options}\""))
    }

    #[test]
    fn escapes_optional_fields_and_garbage_are_dealt_with() {
        let table = parse(LINES.as_bytes());
        assert_eq!(table.len(), 3);
        assert_eq!(table[1].mount_point, Path::new("/mnt/a b"));
        assert_eq!(table[1].option("addr"), Some("10.0.0.1"));
        assert_eq!(table[2].source, "t\\x");
        assert_eq!(&*unescape(b"\\04"), b"\\04");
        for unlike in [&b"\\999"[..], b"\\+12", b"\\777"] {
            assert_eq!(&*unescape(unlike), unlike);
        }
        let device = |text: &str| parse(format!("5 1 {text} / /m rw - a b c\n").as_bytes()).len();
        assert_eq!((device("0:31"), device("../x"), device("/x")), (1, 0, 0));
    }

    #[test]
    fn the_mount_that_is_seen_is_the_one_nothing_is_on_whatever_the_order() {
        let mut table = parse(LINES.as_bytes());
        assert_eq!(top_at(&table, Path::new("/mnt/a b")).unwrap().id, 36);
        table.reverse();
        assert_eq!(top_at(&table, Path::new("/mnt/a b")).unwrap().id, 36);
        assert_eq!(top_at(&table, Path::new("/mnt")), None);
    }

    #[test]
    fn many_mounts_on_one_another_are_gone_through_once_and_a_circle_ends() {
        let line = |id: u32| format!("{id} {} 0:1 / / rw - ext4 a rw\n", id - 1);
        let text: String = (1..=50_000).map(line).collect();
        assert_eq!(top_at(&parse(text.as_bytes()), Path::new("/")).unwrap().id, 50_000);
        let circle = "3 9 0:1 / / rw - a b c\n1 2 0:1 / / rw - a b c\n2 1 0:1 / / rw - a b c\n1 3 0:1 / / rw - a b c\n";
        assert!(top_at(&parse(circle.as_bytes()), Path::new("/")).is_some());
    }

    #[test]
    fn a_mount_below_a_folder_that_was_mounted_over_is_not_seen() {
        let table = parse(HIDDEN.as_bytes());
        assert_eq!(top_at(&table, Path::new("/mnt/s")), None);
        assert_eq!(top_at(&table, Path::new("/mnt")).unwrap().id, 36);
        // In a chroot the outermost mounts hang on one that is not shown.
        let chroot = parse(&HIDDEN.as_bytes()[HIDDEN.find("35").unwrap()..]);
        assert_eq!(top_at(&chroot[..1], Path::new("/mnt/s")).unwrap().id, 35);
    }

    #[test]
    fn a_remote_file_system_above_a_path_is_found_and_one_on_it_is_not_above() {
        let table = parse(LINES.as_bytes());
        assert_eq!(remote_above(&table[..2], Path::new("/mnt/a b/c")).unwrap().id, 35);
        assert_eq!(remote_above(&table[..2], Path::new("/mnt/a b")), None);
        assert_eq!(remote_above(&table, Path::new("/mnt/other")), None);
    }

    #[test]
    fn an_automount_above_a_path_is_waited_at_unless_something_is_mounted_on_it() {
        let autofs =
            "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n40 22 0:35 / /mnt rw - autofs systemd-1 rw\n";
        let at = |text: &str, path: &str| {
            remote_above(&parse(text.as_bytes()), Path::new(path)).map(|entry| entry.id)
        };
        assert_eq!(at(autofs, "/mnt/s"), Some(40));
        assert_eq!(at(autofs, "/mnt"), None, "on it is not above it");
        let used = format!("{autofs}41 40 8:1 / /mnt rw - ext4 /dev/vdb rw\n");
        assert_eq!(at(&used, "/mnt/s"), None);
        let share = format!("{autofs}41 40 0:36 / /mnt/s rw - nfs4 a:/ rw\n");
        assert_eq!(at(&share, "/mnt/s/x"), Some(41), "the server that may be dead");
    }

    #[test]
    fn one_mount_alone_is_told_from_one_of_several() {
        let mut table = parse(LINES.as_bytes());
        assert_eq!(only_at(&table, Path::new("/mnt/a b")), None);
        table.pop();
        assert_eq!(only_at(&table, Path::new("/mnt/a b")).unwrap().id, 35);
        assert_eq!(only_at(&table, Path::new("/mnt")), None);
    }

    #[test]
    fn a_mount_of_another_path_is_compared_once_it_is_known_to_be_the_shares() {
        let mut table = parse(LINES.as_bytes());
        table[1].source = "fs-9.example:/releases/1".into();
        assert_eq!(standing(&table[1], &share("")), Standing::Foreign);
        assert_eq!(standing_of_own(&table[1], &share("")), Standing::Ours(vec![]));
        let soft = Standing::Ours(vec!["hard instead of soft".into()]);
        assert_eq!(standing_of_own(&table[1], &share("soft")), soft);
        table[1].flags = "ro,nosuid,nodev".into();
        assert_eq!(standing_of_own(&table[1], &share("")), Standing::ReadOnly);
        table[1].options = "rw,vers=4.1,port=40001,addr=127.0.0.1".into();
        assert_eq!(standing_of_own(&table[1], &share("")), Standing::OtherWay);
        for (source, has) in
            [("fs:/", true), ("fs:/a", false), ("fs:/a:/", true), ("fs", false), ("/", false)]
        {
            assert_eq!(has_path(source, &share("")), has, "{source}");
        }
    }

    #[test]
    fn a_mount_is_ours_read_only_or_foreign() {
        let table = parse(LINES.as_bytes());
        assert_eq!(standing(&table[1], &share("")), Standing::Ours(vec![]));
        assert_eq!(standing(&table[2], &share("")), Standing::Foreign);
        assert_eq!(
            standing(&table[1], &share("soft,timeo=30,suid,ro")),
            Standing::Ours(vec![
                "rw instead of ro".into(),
                "nosuid instead of suid".into(),
                "hard instead of soft".into(),
                "timeo=600 instead of timeo=30".into(),
            ])
        );
        let mut read_only = table[1].clone();
        read_only.flags = "ro,nosuid,nodev,relatime".into();
        assert_eq!(standing(&read_only, &share("")), Standing::ReadOnly);
        assert_eq!(standing(&read_only, &share("ro")), Standing::Ours(vec![]));
        let mut other = table[1].clone();
        other.source = "fs-2.example:/".into();
        assert_eq!(standing(&other, &share("")), Standing::OtherName(vec![]));
        other.source = "fs-1.example:/home".into();
        assert_eq!(standing(&other, &share("")), Standing::Foreign);
    }

    #[test]
    fn a_mount_through_a_tunnel_is_ours_only_if_the_config_wants_one() {
        let name = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
        let share = |line: &str| {
            let text = format!("[[share]]\nendpoint = \"{name}\"\nmount_point = \"/m\"\n{line}\n");
            test::share_of(&text)
        };
        let line = |source: &str, place: &str| {
            format!(
                "5 1 0:31 / /m rw,nosuid,nodev - nfs4 {source}:/ rw,vers=4.1,noresvport,timeo=600,retrans=2,{place}\n"
            )
        };
        let (plain, encrypted) = (share(""), share("encryption_in_transit = true"));
        let ours = Standing::Ours(vec![]);
        for (place, port, as_plain, as_encrypted) in [
            ("addr=10.0.0.1", 2049, &ours, &Standing::OtherWay),
            ("port=40001,addr=127.0.0.1", 40001, &Standing::OtherWay, &ours),
            ("port=40001,addr=10.0.0.1", 40001, &ours, &Standing::OtherWay),
            // A server without a tunnel on this machine.
            ("addr=127.0.0.1", 2049, &ours, &Standing::OtherWay),
        ] {
            let line = line(name, place);
            let table = parse(line.as_bytes());
            assert_eq!(standing(&table[0], &plain), *as_plain, "{place}");
            assert_eq!(standing(&table[0], &encrypted), *as_encrypted, "{place}");
            assert_eq!(table[0].port(), port);
        }
        // amazon-efs-utils' own mount.
        let line = line("127.0.0.1", "port=20049,addr=127.0.0.1");
        let other = parse(line.as_bytes());
        assert_eq!(standing(&other[0], &encrypted), Standing::OtherName(vec![]));
    }
}
