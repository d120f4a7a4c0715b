//! NFS mount options: AWS's recommended ones, and what an administrator puts
//! over them, key by key.
//!
//! mount(2) answers EINVAL to almost anything it does not like, so each word is
//! checked here, against the list that the kernel's own parser has.

use super::reader::hint;
use crate::text::misleads;
use nix::libc;

/// Options of one share, ready for mount(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// MS_* bits: ro, nosuid and the like.
    pub flags: u64,
    /// The rest, `key` or `key=value`, in a fixed order. Always holds `nfsvers=`.
    data: Vec<String>,
    /// TCP port of the server.
    pub port: u16,
    /// Words meant for mount(8) or fstab, which have no meaning here.
    pub ignored: Vec<String>,
}

/// What the EFS documentation recommends, the version first: without one the kernel takes 4.0.
const DEFAULTS: &str =
    "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport";
const DEFAULT_FLAGS: u64 = libc::MS_NOSUID | libc::MS_NODEV;
/// Where NFS servers listen, and what the kernel takes where no port is given.
pub const NFS_PORT: u16 = 2049;

impl Default for MountOptions {
    fn default() -> Self {
        let data = DEFAULTS.split(',').map(str::to_owned).collect();
        Self { flags: DEFAULT_FLAGS, data, port: NFS_PORT, ignored: Vec::new() }
    }
}

/// Generic options: the word, its bits, and whether it sets or clears them.
const FLAGS: &[(&str, u64, bool)] = &[
    ("ro", libc::MS_RDONLY, true),
    ("rw", libc::MS_RDONLY, false),
    ("nosuid", libc::MS_NOSUID, true),
    ("suid", libc::MS_NOSUID, false),
    ("nodev", libc::MS_NODEV, true),
    ("dev", libc::MS_NODEV, false),
    ("noexec", libc::MS_NOEXEC, true),
    ("exec", libc::MS_NOEXEC, false),
    ("noatime", libc::MS_NOATIME, true),
    ("atime", libc::MS_NOATIME, false),
    ("nodiratime", libc::MS_NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, false),
    ("relatime", libc::MS_RELATIME, true),
    ("norelatime", libc::MS_RELATIME, false),
    ("strictatime", libc::MS_STRICTATIME, true),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
];

/// What may stand behind a key's `=`.
#[derive(Clone, Copy)]
enum Value {
    /// Nothing.
    None,
    /// A number from the first to the second.
    Number(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Nothing, or any word.
    Optional,
}

const SECONDS: Value = Value::Number(0, 86_400);

/// NFS options that the kernel's parser takes: the key, the group of which only
/// one can hold, and the value.
const KEYS: &[(&str, &str, Value)] = &[
    ("hard", "hard", Value::None),
    ("soft", "hard", Value::None),
    ("softerr", "hard", Value::None),
    ("softreval", "softreval", Value::None),
    ("nosoftreval", "softreval", Value::None),
    ("rsize", "rsize", Value::Number(1024, 1_048_576)),
    ("wsize", "wsize", Value::Number(1024, 1_048_576)),
    ("timeo", "timeo", Value::Number(1, 6000)),
    ("retrans", "retrans", Value::Number(0, 100)),
    ("resvport", "resvport", Value::None),
    ("noresvport", "resvport", Value::None),
    ("ac", "ac", Value::None),
    ("noac", "ac", Value::None),
    ("acregmin", "acregmin", SECONDS),
    ("acregmax", "acregmax", SECONDS),
    ("acdirmin", "acdirmin", SECONDS),
    ("acdirmax", "acdirmax", SECONDS),
    ("actimeo", "actimeo", SECONDS),
    ("cto", "cto", Value::None),
    ("nocto", "cto", Value::None),
    ("acl", "acl", Value::None),
    ("noacl", "acl", Value::None),
    ("fsc", "fsc", Value::Optional),
    ("nofsc", "fsc", Value::None),
    ("migration", "migration", Value::None),
    ("nomigration", "migration", Value::None),
    ("lock", "lock", Value::None),
    ("nolock", "lock", Value::None),
    ("rdirplus", "rdirplus", Value::None),
    ("nordirplus", "rdirplus", Value::None),
    ("nconnect", "nconnect", Value::Number(1, 16)),
    ("lookupcache", "lookupcache", Value::OneOf(&["all", "none", "pos", "positive"])),
    ("local_lock", "local_lock", Value::OneOf(&["all", "flock", "posix", "none"])),
    ("sec", "sec", Value::OneOf(&["sys"])),
    ("proto", "proto", Value::OneOf(&["tcp", "tcp6"])),
    ("tcp", "proto", Value::None),
    ("bsize", "bsize", Value::Number(1024, 1_048_576)),
    ("namlen", "namlen", Value::Number(1, 255)),
    ("write", "write", Value::OneOf(&["lazy", "eager", "wait"])),
];

/// Keys that the agent reads itself rather than hand on.
const OWN_KEYS: &[&str] = &["nfsvers", "vers", "minorversion", "port"];

/// Words of mount(8), mount.nfs and fstab that the kernel refuses and that say nothing here.
const IGNORED: &[&str] =
    &["_netdev", "nofail", "defaults", "auto", "noauto", "bg", "fg", "retry", "intr", "nointr"];

/// Words that must not be passed over in silence: what each would have done is not done.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["addr", "clientaddr", "mountaddr"],
        "is set by efs-agent: list further addresses in `addresses`",
    ),
    (
        &["tls", "xprtsec"],
        "is not an option of efs-agent: write encryption_in_transit = true as a line of the [[share]]",
    ),
    (
        &["iam"],
        "is an option of amazon-efs-utils' mount helper: write iam = true as a line of the [[share]]",
    ),
    (
        &["accesspoint"],
        "is an option of amazon-efs-utils' mount helper: write access_point = \"fsap-…\" as a line of \
         the [[share]]",
    ),
    (
        &["awsprofile"],
        "is an option of amazon-efs-utils' mount helper: write aws_profile = \"…\" as a line of the \
         [[share]]",
    ),
    (
        &["cafile"],
        "is an option of amazon-efs-utils' mount helper: write trust = \"/…\" as a line of the [[share]]",
    ),
    (
        &["tlsport"],
        "is an option of amazon-efs-utils' mount helper: write tunnel_port = … as a line of the \
         [[share]], or nothing, for a port that is free",
    ),
    (
        &["region"],
        "is an option of amazon-efs-utils' mount helper: here the `endpoint` says it; if that is no DNS \
         name of EFS, write region = \"…\" as a line of the [[share]]",
    ),
    (
        &["verify", "noocsp", "stunnel"],
        "is an option of amazon-efs-utils' mount helper, which efs-agent does without (with \
         encryption_in_transit, certificates are always verified, and OCSP is never asked): take it out",
    ),
    (
        &["ocsp"],
        "is an option of amazon-efs-utils' mount helper: efs-agent asks no OCSP; take it out",
    ),
    (
        &["awscredsuri", "rolearn", "jwtpath"],
        "is an option of amazon-efs-utils' mount helper: with iam = true in the [[share]], credentials \
         come from a profile (aws_profile) or from the machine",
    ),
    (
        &["mounttargetip"],
        "is an option of amazon-efs-utils' mount helper: list that address in `addresses`, or write it \
         as `endpoint`",
    ),
    (
        &["az", "azid", "crossaccount"],
        "is an option of amazon-efs-utils' mount helper: here the whole DNS name is the `endpoint` \
         (also with a zone before it), and a mount target's address can be listed in `addresses`",
    ),
    (
        &["notls", "netns", "nodirects3read", "nos3readcache"],
        "is an option of amazon-efs-utils' mount helper, which efs-agent does without: take it out",
    ),
    (&["nosharecache"], "would let two runs mount one over the other: take it out"),
    (&["sloppy"], "would hide a wrong option: take it out"),
    (&["udp", "rdma"], "is not NFS over TCP, which is all that efs-agent speaks"),
    (
        &["uid", "gid", "umask", "fmask", "dmask", "file_mode", "dir_mode", "mode"],
        "is no NFS option: owners and modes are the server's; see `root_mode`",
    ),
    (
        &["context", "fscontext", "defcontext", "rootcontext", "seclabel"],
        "is an SELinux option, which this version does not pass on",
    ),
    (
        &["user", "users", "owner", "group"],
        "lets users mount, which only root does here: take it out",
    ),
];

impl MountOptions {
    /// `text`, a comma-separated list as in fstab, over the defaults.
    ///
    /// # Errors
    /// What is wrong with the first wrong word, to be put behind the text itself.
    pub fn over_defaults(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            options.put(word)?;
        }
        Ok(options)
    }

    /// The data argument of mount(2) for the server at `address`.
    pub fn data(&self, address: std::net::IpAddr) -> String {
        self.data_at(address, self.port)
    }

    /// The same, but for a server at another port.
    pub fn data_at(&self, address: std::net::IpAddr, port: u16) -> String {
        let port = if port == NFS_PORT { String::new() } else { format!("port={port},") };
        format!("{},{port}addr={address}", self.data.join(","))
    }

    /// The same, but for a tunnel at `port` of this machine, which takes connections from root's ports alone.
    pub fn data_through(&self, address: std::net::IpAddr, port: u16) -> String {
        let mut options = self.clone();
        options.replace("resvport", "resvport");
        options.data_at(address, port)
    }

    /// The value of `key` in the data, for comparing with what is mounted.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.data.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether the bare word `key` is in the data.
    pub fn has(&self, key: &str) -> bool {
        self.data.iter().any(|word| word == key)
    }

    /// The NFS version, `4.1` unless asked otherwise.
    pub fn version(&self) -> &str {
        self.value("nfsvers").unwrap_or("4.1")
    }

    fn put(&mut self, word: &str) -> Result<(), String> {
        if word.contains(misleads) {
            return Err(format!(
                "is not possible: {word:?} has a control character (a tab, a line break) in it: \
                 options are separated by commas alone"
            ));
        }
        let (key, value) = match word.split_once('=') {
            None => (word, None),
            Some((key, value)) => (key, Some(value)),
        };
        if let Some((_, why)) = REFUSED.iter().find(|(keys, _)| keys.contains(&key)) {
            return Err(format!("is not possible: \"{key}\" {why}"));
        }
        if IGNORED.contains(&key) || key.starts_with("x-") || key == "comment" {
            self.ignored.push(word.to_owned());
            return Ok(());
        }
        if let (Some((_, bits, set)), None) = (FLAGS.iter().find(|(k, ..)| *k == key), value) {
            self.flags = if *set { self.flags | bits } else { self.flags & !bits };
            return Ok(());
        }
        if FLAGS.iter().any(|(k, ..)| *k == key) {
            return Err(format!("is not possible: \"{key}\" takes no value"));
        }
        match (key, value) {
            ("port", Some(port)) => {
                self.port =
                    port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                        format!("is not possible: {word:?} is no port (1 to 65535)")
                    })?;
                return Ok(());
            }
            ("minorversion", Some(minor)) => return self.set_version(&format!("4.{minor}"), word),
            // The best that EFS speaks, as mount.nfs has it.
            ("nfsvers" | "vers", Some("4")) => return self.set_version("4.1", word),
            ("nfsvers" | "vers", Some(version)) => return self.set_version(version, word),
            _ => {}
        }
        if word.contains(char::is_whitespace) {
            return Err(format!(
                "is not possible: {word:?} has a blank in it: options are separated by commas alone"
            ));
        }
        let known = KEYS.iter().find(|(k, ..)| *k == key);
        let Some((_, group, kind)) = known else {
            return Err(format!("is not possible: unknown option \"{key}\"{}", near(key)));
        };
        let value = check(key, *kind, value).map_err(|what| format!("is not possible: {what}"))?;
        self.replace(group, &value.map_or(key.to_owned(), |value| format!("{key}={value}")));
        Ok(())
    }

    fn set_version(&mut self, version: &str, word: &str) -> Result<(), String> {
        if !["4.0", "4.1", "4.2"].contains(&version) {
            return Err(format!(
                "is not possible: {word:?} is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1)"
            ));
        }
        self.replace("nfsvers", &format!("nfsvers={version}"));
        Ok(())
    }

    /// Puts `word` in the place of whatever holds its group.
    fn replace(&mut self, group: &str, word: &str) {
        let group_of = |word: &str| {
            let key = word.split('=').next().unwrap_or(word);
            KEYS.iter().find(|(k, ..)| *k == key).map_or("nfsvers", |(_, group, _)| *group)
        };
        match self.data.iter_mut().find(|held| group_of(held) == group) {
            Some(held) => *held = word.to_owned(),
            None => self.data.push(word.to_owned()),
        }
    }
}

/// The value as the kernel gets it: numbers in plain decimal, since it takes a leading 0 for octal.
fn check(key: &str, kind: Value, value: Option<&str>) -> Result<Option<String>, String> {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match (kind, value) {
        (Value::None | Value::Optional, None) => Ok(None),
        (Value::None, Some(_)) => Err(format!("\"{key}\" takes no value")),
        (Value::Optional, Some(v)) if !v.is_empty() && v.len() <= 64 && v.chars().all(word) => {
            Ok(Some(v.to_owned()))
        }
        (Value::Optional, _) => Err(format!("\"{key}\" takes a word of letters and digits")),
        (Value::Number(least, most), value) => match value.and_then(|v| v.parse::<u64>().ok()) {
            Some(n) if n >= least && n <= most => Ok(Some(n.to_string())),
            _ => Err(format!("\"{key}\" takes a number from {least} to {most}")),
        },
        (Value::OneOf(words), Some(value)) if words.contains(&value) => Ok(Some(value.to_owned())),
        (Value::OneOf(words), _) => Err(format!("\"{key}\" takes {}", words.join(", "))),
    }
}

fn near(key: &str) -> String {
    let all: Vec<&str> = KEYS
        .iter()
        .map(|(k, ..)| *k)
        // Never a hint towards less safety.
        .chain(FLAGS.iter().map(|(k, ..)| *k).filter(|k| !["suid", "dev"].contains(k)))
        .chain(OWN_KEYS.iter().copied())
        .collect();
    let hint = hint(key, &all);
    if hint.starts_with("did") {
        format!("; {hint}")
    } else {
        ": it is no option of the kernel's NFS client".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(text: &str) -> String {
        MountOptions::over_defaults(text).unwrap().data("10.0.0.1".parse().unwrap())
    }

    fn error(text: &str) -> String {
        MountOptions::over_defaults(text).unwrap_err()
    }

    #[test]
    fn the_defaults_are_what_aws_recommends_with_nosuid_and_nodev() {
        let options = MountOptions::default();
        assert_eq!(
            options.data("10.0.0.1".parse().unwrap()),
            "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,addr=10.0.0.1"
        );
        assert_eq!(options.flags, libc::MS_NOSUID | libc::MS_NODEV);
    }

    #[test]
    fn a_given_option_takes_the_place_of_the_default_of_its_group() {
        assert_eq!(
            data("soft,timeo=30, vers=4.0 ,resvport,port=2050,actimeo=3"),
            "nfsvers=4.0,rsize=1048576,wsize=1048576,soft,timeo=30,retrans=2,resvport,actimeo=3,port=2050,addr=10.0.0.1"
        );
        assert!(data("vers=4,minorversion=2").starts_with("nfsvers=4.2,"));
        assert!(data("nfsvers=4").starts_with("nfsvers=4.1,"));
    }

    #[test]
    fn generic_options_become_mount_flags_and_the_last_one_wins() {
        let flags = |text| MountOptions::over_defaults(text).unwrap().flags;
        let (nosuid, nodev) = (libc::MS_NOSUID, libc::MS_NODEV);
        assert_eq!(
            flags("ro,noexec,noatime"),
            nosuid | nodev | libc::MS_RDONLY | libc::MS_NOEXEC | libc::MS_NOATIME
        );
        assert_eq!(flags("ro,rw,suid,dev"), 0);
        assert!(!data("ro,noatime").contains("ro,"));
    }

    #[test]
    fn words_of_fstab_are_passed_over_and_kept_for_the_log() {
        let options =
            MountOptions::over_defaults("defaults,_netdev,nofail,retry=2,x-systemd.automount,ro")
                .unwrap();
        assert_eq!(
            options.ignored,
            ["defaults", "_netdev", "nofail", "retry=2", "x-systemd.automount"]
        );
        assert_eq!(options.flags & libc::MS_RDONLY, libc::MS_RDONLY);
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(
            error("rsize=1k"),
            "is not possible: \"rsize\" takes a number from 1024 to 1048576"
        );
        assert_eq!(
            error("hrad"),
            "is not possible: unknown option \"hrad\"; did you mean \"hard\"?"
        );
        assert_eq!(
            error("frobnicate"),
            "is not possible: unknown option \"frobnicate\": it is no option of the kernel's NFS client"
        );
        assert_eq!(error("sec=krb5"), "is not possible: \"sec\" takes sys");
        assert_eq!(
            error("vers=3"),
            "is not possible: \"vers=3\" is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1)"
        );
        assert_eq!(
            error("addr=1.2.3.4"),
            "is not possible: \"addr\" is set by efs-agent: list further addresses in `addresses`"
        );
        assert_eq!(
            error("tls,iam"),
            "is not possible: \"tls\" is not an option of efs-agent: write encryption_in_transit = true as a line of the [[share]]"
        );
        assert!(error("accesspoint=fsap-1").contains("write access_point = \"fsap-…\" as a line"));
        assert_eq!(error("port=0"), "is not possible: \"port=0\" is no port (1 to 65535)");
        assert!(
            error("uid=1000")
                .contains("\"uid\" is no NFS option: owners and modes are the server's")
        );
        assert!(error("_netdev 0 0").contains("has a blank in it"));
        for word in ["a\u{1b}[31m", "x-a\u{7}", "comment=a\nb", "ro\tsoft"] {
            let expected = format!("is not possible: {word:?} has a control character");
            assert!(error(word).starts_with(&expected), "{}", error(word));
        }
        assert!(MountOptions::over_defaults("ro,\n\tsoft\n").is_ok());
        assert_eq!(error("hard=1"), "is not possible: \"hard\" takes no value");
        assert_eq!(error("nosuid=1"), "is not possible: \"nosuid\" takes no value");
    }
}
