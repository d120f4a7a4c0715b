//! The words of mount options, and what becomes of each: those of mount(8), the kernel's NFS client, mount.nfs(8) and
//! amazon-efs-utils. A test compares these lists with `tests/vectors/mount-options.txt`, which has the tools' own.

use super::lines::MAIN;
use nix::libc;

/// Generic options: the word, its bits, and whether it sets or clears them.
pub(super) const FLAGS: &[(&str, u64, bool)] = &[
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
    ("nostrictatime", libc::MS_STRICTATIME, false),
    ("sync", libc::MS_SYNCHRONOUS, true),
    ("async", libc::MS_SYNCHRONOUS, false),
    ("dirsync", libc::MS_DIRSYNC, true),
];

/// What may stand behind a key's `=`.
#[derive(Clone, Copy)]
pub(super) enum ValueKind {
    None,
    /// A number from the first to the second.
    Number(u64, u64),
    OneOf(&'static [&'static str]),
    /// Nothing, or any word.
    Optional,
    /// An SELinux context, in quotes or not.
    Context,
}

const SECONDS: ValueKind = ValueKind::Number(0, 86_400);

/// NFS options that the kernel's parser accepts: the key, the group of which only one can hold, and the value.
pub(super) const KEYS: &[(&str, &str, ValueKind)] = &[
    ("hard", "hard", ValueKind::None),
    ("soft", "hard", ValueKind::None),
    ("softerr", "hard", ValueKind::None),
    ("softreval", "softreval", ValueKind::None),
    ("nosoftreval", "softreval", ValueKind::None),
    ("rsize", "rsize", ValueKind::Number(1024, 1_048_576)),
    ("wsize", "wsize", ValueKind::Number(1024, 1_048_576)),
    ("timeo", "timeo", ValueKind::Number(1, 6000)),
    ("retrans", "retrans", ValueKind::Number(0, 100)),
    ("resvport", "resvport", ValueKind::None),
    ("noresvport", "resvport", ValueKind::None),
    ("ac", "ac", ValueKind::None),
    ("noac", "ac", ValueKind::None),
    ("acregmin", "acregmin", SECONDS),
    ("acregmax", "acregmax", SECONDS),
    ("acdirmin", "acdirmin", SECONDS),
    ("acdirmax", "acdirmax", SECONDS),
    ("actimeo", "actimeo", SECONDS),
    ("cto", "cto", ValueKind::None),
    ("nocto", "cto", ValueKind::None),
    ("acl", "acl", ValueKind::None),
    ("noacl", "acl", ValueKind::None),
    ("fsc", "fsc", ValueKind::Optional),
    ("nofsc", "fsc", ValueKind::None),
    ("migration", "migration", ValueKind::None),
    ("nomigration", "migration", ValueKind::None),
    ("lock", "lock", ValueKind::None),
    ("nolock", "lock", ValueKind::None),
    ("rdirplus", "rdirplus", ValueKind::None),
    ("nordirplus", "rdirplus", ValueKind::None),
    ("nconnect", "nconnect", ValueKind::Number(1, 16)),
    ("max_connect", "max_connect", ValueKind::Number(1, 16)),
    ("trunkdiscovery", "trunkdiscovery", ValueKind::None),
    ("notrunkdiscovery", "trunkdiscovery", ValueKind::None),
    ("alignwrite", "alignwrite", ValueKind::None),
    ("noalignwrite", "alignwrite", ValueKind::None),
    ("lookupcache", "lookupcache", ValueKind::OneOf(&["all", "none", "pos", "positive"])),
    ("local_lock", "local_lock", ValueKind::OneOf(&["all", "flock", "posix", "none"])),
    ("sec", "sec", ValueKind::OneOf(&["sys"])),
    ("proto", "proto", ValueKind::OneOf(&["tcp", "tcp6"])),
    ("tcp", "proto", ValueKind::None),
    ("bsize", "bsize", ValueKind::Number(1024, 1_048_576)),
    ("namlen", "namlen", ValueKind::Number(1, 255)),
    ("write", "write", ValueKind::OneOf(&["lazy", "eager", "wait"])),
    ("fatal_neterrors", "fatal", ValueKind::OneOf(&["default", "none", "ENETDOWN:ENETUNREACH"])),
    ("context", "context", ValueKind::Context),
    ("fscontext", "fscontext", ValueKind::Context),
    ("defcontext", "defcontext", ValueKind::Context),
    ("rootcontext", "rootcontext", ValueKind::Context),
];

/// The keys among them that belong to SELinux.
pub const CONTEXTS: &[&str] = &["context", "fscontext", "defcontext", "rootcontext"];

/// Keys that are younger than the oldest kernel that efs-agent runs on. That kernel may not know them.
pub(super) const YOUNG: &[&str] = &[
    "softerr",
    "softreval",
    "nosoftreval",
    "nconnect",
    "max_connect",
    "trunkdiscovery",
    "notrunkdiscovery",
    "alignwrite",
    "noalignwrite",
    "write",
    "fatal_neterrors",
];

/// Keys that efs-agent reads itself, and does not hand on.
pub(super) const OWN_KEYS: &[&str] = &["nfsvers", "vers", "minorversion", "port"];

/// Versions that are words by themselves.
pub(super) const VERSIONS: &[&str] = &["v4", "v4.0", "v4.1", "v4.2"];

/// Words of mount(8), mount.nfs and fstab that mean nothing here, or what is the case anyway.
pub(super) const IGNORED: &[&str] = &[
    "_netdev",
    "_rnetdev",
    "nofail",
    "defaults",
    "auto",
    "noauto",
    "nouser",
    "nousers",
    "noowner",
    "nogroup",
    "bootwait",
    "nobootwait",
    "bg",
    "fg",
    "retry",
    "intr",
    "nointr",
    "posix",
    "noposix",
    "sharecache",
    "lazytime",
    "nolazytime",
    "iversion",
    "noiversion",
    "mand",
    "nomand",
    "silent",
    "loud",
    "sub",
    "nosub",
    "seclabel",
];

/// Beginnings of words that are remarks for others.
pub(super) const REMARKS: &[&str] = &["x-", "X-"];

/// The program whose words are lines of a `[[share]]` here.
pub(super) const HELPER: &str = "amazon-efs-utils' mount helper";

/// Words that must not be ignored silently, since what each of them asks for is not done.
pub(super) const REFUSED: &[(&[&str], &str)] = &[
    (
        &["addr", "source", "nfsprog"],
        "is set by efs-agent: it follows from `endpoint` and `path`; list further addresses in `addresses`",
    ),
    (
        &["clientaddr"],
        "is where a server of NFS 4.0 calls back to, and the kernel finds that by itself: take it out",
    ),
    (
        &["mountport"],
        "is the port of NFS 3's mount service, and NFS 4 has no such port: leave it out",
    ),
    (
        &["mountaddr", "mounthost", "mountproto", "mountprog", "mountvers"],
        "is about NFS 3's mount service, and NFS 4 has no such service: leave it out",
    ),
    (
        &["v2", "v3"],
        "is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1): leave it out",
    ),
    (
        &["xprtsec", "cert_serial", "privkey_serial"],
        "is about TLS of the kernel's own, which EFS does not speak: write encryption_in_transit = true as a \
         line of the [[share]]",
    ),
    (
        &["tls", "iam", "accesspoint", "fsap", "awsprofile", "cafile", "mounttargetip"],
        // `line` gives a better answer to these words.
        "is an option of amazon-efs-utils' mount helper, and a line of the [[share]] here",
    ),
    (
        &["capath"],
        "is an option of amazon-efs-utils: put all certificates into one PEM file, and name it by trust = \
         \"/…\", a line of the [[share]]",
    ),
    (
        &["tlsport"],
        "is an option of amazon-efs-utils' mount helper: take it out (a port that is free is taken; \
         tunnel_port = …, a line of the [[share]], can name one below 1024)",
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
        &["user", "users", "owner", "group"],
        "lets users mount, which only root does here: take it out, and put noexec in its place if users must \
         not run programs from the share (mount(8) adds that)",
    ),
    (
        &[
            "remount",
            "bind",
            "rbind",
            "shared",
            "rshared",
            "private",
            "rprivate",
            "slave",
            "rslave",
            "unbindable",
            "runbindable",
        ],
        "is about a mount that is there already: efs-agent makes new ones; take it out",
    ),
    (
        &["loop", "offset", "sizelimit", "encryption", "helper", "uhelper"],
        "is of mount(8), for disks or for a helper program, of which there is none here: take it out",
    ),
    (&["fstype"], "says which file system mount(8) mounts; here that is NFS 4: take it out"),
];

/// A word of amazon-efs-utils as a line of the `[[share]]`: key and value, as TOML.
pub(super) fn line(key: &str, value: Option<&str>) -> Option<(&'static str, String)> {
    let text =
        |fallback: &str| format!("{:?}", value.filter(|v| !v.is_empty()).unwrap_or(fallback));
    Some(match key {
        "tls" => (MAIN, "true".into()),
        "iam" => ("iam", "true".into()),
        "accesspoint" | "fsap" => ("access_point", text("fsap-…")),
        "awsprofile" => ("aws_profile", text("…")),
        "cafile" => ("trust", text("/…")),
        "mounttargetip" => ("addresses", format!("[{}]", text("…"))),
        _ => return None,
    })
}
