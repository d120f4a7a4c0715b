//! Who this machine is to its NFS servers. A server knows an NFSv4 client by its "client owner". Linux makes that from
//! two things: an identity, if the kernel's NFS client was given one, and the host name of the process that calls
//! mount(2). Two clients of one owner are one machine to the server: it ends the opens and locks of the first. And what
//! one machine mounts twice under one owner, the kernel puts onto one connection.
//!
//! So the kernel gets an identity that no other machine has, once a boot. Each mount(2) is made under a host name that
//! belongs to its way to the server alone. The name belongs to the calling process alone (a UTS name space). So it
//! touches no other mount, and is gone when that process ends.
//!
//! Here lives what both are, and where the identity stands. Nothing here mounts.

use crate::files;
use crate::sys;
use crate::text::hex;
use crate::text::misleads;
use aws_lc_rs::digest::{SHA256, digest};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, stat};
use nix::unistd::{read, write};
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What the names begin with by which a server's administrator knows whose they are.
const PREFIX: &str = "efs-agent-";
/// The identity in the network name space whose sysfs is mounted. The file is there from Linux 5.3 on, once the module
/// `nfs` is loaded.
const NAMESPACE: &str = "/sys/fs/nfs/net/nfs_client/identifier";
/// Linux heeds the file above from this version on; where both are set, it heeds that alone.
const HEEDED_FROM: (u32, u32) = (5, 10);
/// The identity of the whole machine. The file is there once the module `nfs` is loaded.
const PARAMETER: &str = "/sys/module/nfs/parameters/nfs4_unique_id";
/// Random for each boot of each machine, so that clones of one image differ.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Several machines in one, each with a network of its own, have the same boot id.
const NETWORK: &str = "/proc/self/ns/net";
/// Half of SHA-256, in hexadecimal digits: with what is before it, shorter than the longest host name (64).
const DIGITS: usize = 32;

/// How the bytes of a mount get to its server. What goes different ways must not share a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Straight, as they are, to this port of the server: at another one may be another server.
    Plain(u16),
    /// Through the tunnel that listens at this local port.
    Tunnel(u16),
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(port) => write!(f, "plain {port}"),
            Self::Tunnel(port) => write!(f, "tunnel {port}"),
        }
    }
}

/// Who has set an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetBy {
    /// A run of this program, in this boot.
    EfsAgent,
    /// Somebody else: a module option, the kernel's command line, sysfs.
    Administrator,
}

/// The identity of the kernel's NFS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// It has one.
    Set {
        /// As the kernel has it.
        text: String,
        /// The file that it stands in.
        place: &'static str,
        /// Who has set it.
        by: SetBy,
    },
    /// It has none.
    Unset {
        /// The file that it should stand in.
        place: &'static str,
        /// Why it does not; nothing where nobody has tried yet.
        why: Option<Errno>,
    },
    /// There is no NFS client in the kernel (or it is not loaded, where nobody has tried).
    NoClient,
}

/// Who this machine is to its NFS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsClient {
    /// What the kernel puts before the host name.
    pub identity: ClientIdentity,
    /// Others mounted NFS before the identity was set. These mounts keep their name, and what is mounted from the same
    /// address joins them.
    pub earlier: bool,
    /// What the host names are made of: no other machine, and no other network of this one, has it.
    seed: String,
}

impl NfsClient {
    /// Sees to it that the kernel's NFS client has an identity; one that it has is kept. Where the NFS client is not
    /// loaded yet, `load` is called, because the files are not there before. `root` is `/` outside of tests.
    pub fn establish(root: &Path, load: &dyn Fn()) -> Self {
        Self::on(root, sys::kernel_release, load)
    }

    fn on(root: &Path, release: fn() -> String, load: &dyn Fn()) -> Self {
        let mut identity = ClientIdentity::on(root, release);
        if identity == ClientIdentity::NoClient {
            load();
            identity = ClientIdentity::on(root, release);
        }

        // It is loaded all the same: its files are hidden.
        if identity == ClientIdentity::NoClient && has_client(root) {
            identity = ClientIdentity::Unset { place: NAMESPACE, why: Some(Errno::ENOENT) };
        }

        // A machine that does not show its boot id gets a name for this run alone, which no other machine has either.
        let boot = boot_id(root, &identity);
        let seed = match &boot {
            Ok(boot) => boot.clone(),
            Err(_) => format!("{:016x}{:016x}", sys::random(), sys::random()),
        };
        let mut earlier = false;
        if let ClientIdentity::Unset { place, .. } = identity {
            earlier = has_mounts(root);
            identity = match boot.and_then(|boot| give(root, place, &format!("{PREFIX}{boot}"))) {
                Ok((text, place)) => ClientIdentity::Set { text, place, by: SetBy::EfsAgent },
                Err(errno) => ClientIdentity::Unset { place, why: Some(errno) },
            };
        }

        let network = stat(&below(root, NETWORK)).map_or(0, |stat| stat.st_ino);
        Self { identity, earlier, seed: format!("{seed} {network}") }
    }

    /// The host name under which a mount that takes this way introduces itself: always the same in one boot.
    pub fn host_name(&self, way: Way) -> CString {
        let digest = hex(digest(&SHA256, format!("{} {way}", self.seed).as_bytes()).as_ref());
        let digits = digest.get(..DIGITS).unwrap_or_default();
        CString::new(format!("{PREFIX}{digits}")).unwrap_or_default()
    }

    /// One of a machine without a kernel.
    #[cfg(any(test, fuzzing))]
    pub fn fake() -> &'static Self {
        static FAKE: NfsClient =
            NfsClient { identity: ClientIdentity::NoClient, earlier: false, seed: String::new() };
        &FAKE
    }
}

impl ClientIdentity {
    /// The identity that there is. Changes nothing.
    pub fn read(root: &Path) -> Self {
        Self::on(root, sys::kernel_release)
    }

    fn on(root: &Path, release: fn() -> String) -> Self {
        let namespace = line(root, NAMESPACE);
        if let Ok(text) = &namespace
            && boot_of(text).is_some()
        {
            // A run writes there only where it is heeded, and nothing of an image is there.
            return Self::Set { text: text.clone(), place: NAMESPACE, by: SetBy::EfsAgent };
        }
        let heeded = namespace.is_ok() && sys::is_at_least(&release(), HEEDED_FROM);
        let parameter = line(root, PARAMETER);
        match (namespace, parameter) {
            (Ok(text), _) if heeded && !text.is_empty() => {
                Self::Set { text, place: NAMESPACE, by: SetBy::Administrator }
            }
            (_, Ok(text)) if !text.is_empty() => {
                // It may have come with an image.
                let ours =
                    boot_of(&text).is_some_and(|boot| this_boot(root).as_deref() == Ok(boot));
                let by = if ours { SetBy::EfsAgent } else { SetBy::Administrator };
                Self::Set { text, place: PARAMETER, by }
            }
            (Err(Errno::ENOENT), Err(Errno::ENOENT)) => Self::NoClient,
            (_, parameter) if heeded || parameter == Err(Errno::ENOENT) => {
                Self::Unset { place: NAMESPACE, why: None }
            }
            _ => Self::Unset { place: PARAMETER, why: None },
        }
    }

    /// The identity in one sentence; `host` is the machine's host name.
    pub fn told(&self, host: &str) -> String {
        match self {
            Self::Set { text, place, by: SetBy::EfsAgent } => format!(
                "the NFS client's identity is {text} (set by efs-agent for this boot, in {place}); \
                 that the host name is {host} does not matter"
            ),
            Self::Set { text, place, by: SetBy::Administrator } => format!(
                "the NFS client's identity is {text} (set by an administrator, in {place}: kept); it must \
                 be another on each machine"
            ),
            Self::Unset { place, why } => {
                let why = why.map(|errno| format!(" ({place}: {})", errno.desc().to_lowercase()));
                format!(
                    "the kernel's NFS client has no identity{}: the shares of efs-agent have names of their \
                     own all the same, but what other programs mount over NFS is known to its server as {host} \
                     alone, and another machine of that host name would take its locks",
                    why.unwrap_or_default()
                )
            }
            Self::NoClient => "the kernel's NFS client is not loaded yet".to_owned(),
        }
    }

    /// What makes it one, where somebody would have to do so.
    pub fn cure(&self) -> Option<String> {
        match self {
            Self::Unset { place, .. } => {
                Some(format!("let root write {place}, or give each machine a host name of its own"))
            }
            _ => None,
        }
    }
}

/// Whether the kernel has the NFS client of version 4.
fn has_client(root: &Path) -> bool {
    let known = files::whole(&below(root, "/proc/filesystems")).unwrap_or_default();
    String::from_utf8_lossy(&known).lines().any(|line| line.trim_end().ends_with("\tnfs4"))
}

/// Whether the kernel's client of NFSv4 has a server already.
fn has_mounts(root: &Path) -> bool {
    let servers = files::whole(&below(root, "/proc/fs/nfsfs/servers")).unwrap_or_default();
    String::from_utf8_lossy(&servers).lines().any(|line| line.starts_with("v4 "))
}

/// The boot id that an identity of this program's is made of.
fn boot_of(text: &str) -> Option<&str> {
    let boot = text.strip_prefix(PREFIX)?;
    (boot.len() == 32 && boot.bytes().all(|b| b.is_ascii_hexdigit())).then_some(boot)
}

/// The boot id, without its dashes.
fn this_boot(root: &Path) -> Result<String, Errno> {
    let boot = line(root, BOOT_ID)?.replace('-', "");
    if boot_of(&format!("{PREFIX}{boot}")).is_some() { Ok(boot) } else { Err(Errno::EINVAL) }
}

/// The same, from the identity of the name space where that is of this program's: it saves reading a file.
fn boot_id(root: &Path, identity: &ClientIdentity) -> Result<String, Errno> {
    match identity {
        ClientIdentity::Set { text, place: NAMESPACE, .. } if boot_of(text).is_some() => {
            Ok(boot_of(text).unwrap_or_default().to_owned())
        }
        _ => this_boot(root),
    }
}

/// Writes an identity where it belongs, or if that cannot be, where the kernel looks too; says where.
fn give(root: &Path, place: &'static str, text: &str) -> Result<(String, &'static str), Errno> {
    let place = match write_to(root, place, text) {
        Ok(()) => place,
        Err(errno) if place == PARAMETER => return Err(errno),
        Err(errno) => write_to(root, PARAMETER, text).map(|()| PARAMETER).map_err(|_| errno)?,
    };

    Ok((text.to_owned(), place))
}

fn write_to(root: &Path, place: &str, text: &str) -> Result<(), Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, &below(root, place), flags, Mode::empty())?;
    match write(&file, text.as_bytes())? {
        n if n == text.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// The one line of a file of the kernel's; empty where the kernel has nothing there.
fn line(root: &Path, path: &str) -> Result<String, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, &below(root, path), flags, Mode::empty())?;
    let mut bytes = [0; 256];
    let n = read(&file, &mut bytes)?;
    let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default());
    let text: String = text.trim().chars().filter(|c| !misleads(*c)).collect();
    Ok(if text == "(null)" { String::new() } else { text })
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests;
