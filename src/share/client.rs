//! Who this machine is to its NFS servers. A server knows an NFSv4 client by its "client owner".
//! Linux makes that from two things: the identity of the kernel's NFS client, if it has one, and
//! the host name of the process that calls mount(2). Two clients with one owner are one machine to
//! the server, which then ends the opens and locks of the first. And if one machine mounts twice
//! under one owner, the kernel puts both mounts onto one connection.
//!
//! So the kernel gets an identity once a boot, which no other machine has. Each mount(2) is made
//! under a host name that stands for its way to the server. That name belongs to the calling
//! process alone (a UTS namespace). So it touches no other mount, and is gone when that process
//! ends.
//!
//! This file makes both names, and finds or sets the identity. Nothing here mounts.

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
use std::path::Path;

/// How all these names begin, so that a server's administrator recognizes them.
const PREFIX: &str = "efs-agent-";
/// The identity in the network namespace whose sysfs is mounted. The file exists from Linux 5.3 on,
/// once the module `nfs` is loaded.
const NAMESPACE: &str = "/sys/fs/nfs/net/nfs_client/identifier";
/// From this version on, Linux heeds the file above. If both files have an identity, it then heeds
/// that one alone.
const HEEDED_FROM: (u32, u32) = (5, 10);
/// The identity of the whole machine. The file exists once the module `nfs` is loaded.
const PARAMETER: &str = "/sys/module/nfs/parameters/nfs4_unique_id";
/// Random for each boot of each machine, so that clones of one image differ.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Containers that act as machines have the same boot id, but each has its own network.
const NETWORK: &str = "/proc/self/ns/net";
/// Half of SHA-256, in hexadecimal digits. With the prefix, this is shorter than the longest host
/// name (64).
const DIGITS: usize = 32;

/// How the bytes of a mount get to its server. Mounts that go different ways must not share a
/// connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Directly and unencrypted, to this port of the server. Another server may be at another port.
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
    /// Somebody else, by a module option, the kernel's command line, or sysfs.
    Administrator,
}

/// The identity of the kernel's NFS client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// It has one.
    Set {
        /// The identity as the kernel shows it.
        text: String,
        /// The file that holds it.
        place: &'static str,
        by: SetBy,
    },
    /// It has none.
    Unset {
        /// The file that should hold it.
        place: &'static str,
        /// Why it is not set; `None` where nobody has tried yet.
        why: Option<Errno>,
    },
    /// The kernel has no NFS client, or has not loaded it and was not asked to.
    NoClient,
}

/// Who this machine is to its NFS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NfsClient {
    /// What the kernel puts before the host name.
    pub identity: ClientIdentity,
    /// Whether others mounted NFS before the identity was set. These mounts keep their name, and a
    /// later mount from the same address joins them.
    pub earlier: bool,
    /// What the host names are made from. No other machine has the same, and no other network of
    /// this machine.
    seed: String,
}

impl NfsClient {
    /// Makes sure that the kernel's NFS client has an identity, and keeps one that is set. If the
    /// NFS client is not loaded yet, `load` is called, because the files exist only then. `root` is
    /// `/` outside of tests.
    pub fn establish(root: &Path, load: &dyn Fn()) -> Self {
        Self::on(root, sys::kernel_release, load)
    }

    fn on(root: &Path, release: fn() -> String, load: &dyn Fn()) -> Self {
        let mut identity = ClientIdentity::on(root, release);
        if identity == ClientIdentity::NoClient {
            load();
            identity = ClientIdentity::on(root, release);
        }

        // The client is loaded, but its files are hidden.
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

        let network = stat(&files::below(root, NETWORK)).map_or(0, |stat| stat.st_ino);
        Self { identity, earlier, seed: format!("{seed} {network}") }
    }

    /// The host name under which a mount that goes this way introduces itself. It stays the same in
    /// one boot.
    pub fn host_name(&self, way: Way) -> CString {
        let digest = hex(digest(&SHA256, format!("{} {way}", self.seed).as_bytes()).as_ref());
        let digits = digest.get(..DIGITS).unwrap_or_default();
        CString::new(format!("{PREFIX}{digits}")).unwrap_or_default()
    }

    /// A client for tests, which asks no kernel.
    #[cfg(any(test, fuzzing))]
    pub fn fake() -> &'static Self {
        static FAKE: NfsClient =
            NfsClient { identity: ClientIdentity::NoClient, earlier: false, seed: String::new() };
        &FAKE
    }
}

impl ClientIdentity {
    /// The identity that is set now. Changes nothing.
    pub fn read(root: &Path) -> Self {
        Self::on(root, sys::kernel_release)
    }

    fn on(root: &Path, release: fn() -> String) -> Self {
        let namespace = line(root, NAMESPACE);
        if let Ok(text) = &namespace
            && boot_of(text).is_some()
        {
            // A run writes there only where the kernel heeds it, and no image can bring it along.
            return Self::Set { text: text.clone(), place: NAMESPACE, by: SetBy::EfsAgent };
        }

        let heeded = namespace.is_ok() && sys::is_at_least(&release(), HEEDED_FROM);
        let parameter = line(root, PARAMETER);
        match (namespace, parameter) {
            (Ok(text), _) if heeded && !text.is_empty() => {
                Self::Set { text, place: NAMESPACE, by: SetBy::Administrator }
            }
            (_, Ok(text)) if !text.is_empty() => {
                // An image may have brought it along, so its boot id is compared.
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
    pub fn sentence(&self, host: &str) -> String {
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

    /// What an administrator can do where no identity is set.
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
    let known = files::whole(&files::below(root, "/proc/filesystems")).unwrap_or_default();
    String::from_utf8_lossy(&known).lines().any(|line| line.trim_end().ends_with("\tnfs4"))
}

/// Whether the kernel's NFSv4 client already uses a server.
fn has_mounts(root: &Path) -> bool {
    let servers = files::whole(&files::below(root, "/proc/fs/nfsfs/servers")).unwrap_or_default();
    String::from_utf8_lossy(&servers).lines().any(|line| line.starts_with("v4 "))
}

/// The boot id in an identity, if this program made that identity.
fn boot_of(text: &str) -> Option<&str> {
    let boot = text.strip_prefix(PREFIX)?;
    (boot.len() == 32 && boot.bytes().all(|b| b.is_ascii_hexdigit())).then_some(boot)
}

/// The boot id of this boot, without its dashes.
fn this_boot(root: &Path) -> Result<String, Errno> {
    let boot = line(root, BOOT_ID)?.replace('-', "");
    if boot_of(&format!("{PREFIX}{boot}")).is_some() { Ok(boot) } else { Err(Errno::EINVAL) }
}

/// The boot id of this boot. If the network namespace has an identity that this program made, the
/// id is taken from there, which saves reading a file.
fn boot_id(root: &Path, identity: &ClientIdentity) -> Result<String, Errno> {
    match identity {
        ClientIdentity::Set { text, place: NAMESPACE, .. } if boot_of(text).is_some() => {
            Ok(boot_of(text).unwrap_or_default().to_owned())
        }
        _ => this_boot(root),
    }
}

/// Writes an identity to `place`, or if that fails, to the other place where the kernel looks.
/// Returns the place.
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
    let file = openat(AT_FDCWD, &files::below(root, place), flags, Mode::empty())?;
    match write(&file, text.as_bytes())? {
        n if n == text.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

/// The one line of a kernel file; empty where the kernel has no value there.
fn line(root: &Path, path: &str) -> Result<String, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = openat(AT_FDCWD, &files::below(root, path), flags, Mode::empty())?;
    let mut bytes = [0; 256];
    let n = read(&file, &mut bytes)?;
    let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default());
    let text: String = text.trim().chars().filter(|c| !misleads(*c)).collect();
    Ok(if text == "(null)" { String::new() } else { text })
}

#[cfg(test)]
mod tests;
