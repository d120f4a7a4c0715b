//! Names what belongs to one tunnel after its mount point: its units, as systemd names a mount unit, and its files
//! below /run. Nothing here opens or writes one of those files.

use crate::files;
use crate::text::hex;
use aws_lc_rs::digest::{SHA256, digest};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The folder of all tunnels' sockets, keys, ports and locks. It is gone with the next boot.
pub const FOLDER: &str = "/run/efs-agent/tunnel";
/// The path of a local socket has room for 107 bytes, of which 80 are left for a name.
const LONGEST_NAME: usize = 80;
/// How many bytes of a hash stand at the end of a name that was cut short.
const HASH_BYTES: usize = 8;

/// The names of one tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance(String);

impl Instance {
    /// The tunnel for what is mounted on `mount_point`. It is called what systemd would call a mount unit, if a
    /// socket's path has room for that.
    pub fn of(mount_point: &Path) -> Self {
        let name = escaped(mount_point);
        if name.len() <= LONGEST_NAME {
            return Self(name);
        }

        let hash = digest(&SHA256, mount_point.as_os_str().as_bytes());
        let kept = LONGEST_NAME.saturating_sub(2 * HASH_BYTES + 1);
        let mut short: String = name.chars().take(kept).collect();
        short.push('-');
        short.push_str(&hex(hash.as_ref().get(..HASH_BYTES).unwrap_or_default()));
        Self(short)
    }

    /// The tunnel's file with this ending.
    pub fn file(&self, ending: &str) -> PathBuf {
        Path::new(FOLDER).join(format!("{}.{ending}", self.0))
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// The RSA key.
    pub fn key(&self) -> PathBuf {
        self.file("key")
    }

    /// The file that holds the number of the local port.
    pub fn port(&self) -> PathBuf {
        self.file("port")
    }

    /// The note about what the tunnel was started for. `units` writes and reads it.
    pub fn note(&self) -> PathBuf {
        self.file("for")
    }

    /// The unit of this kind, "socket" or "service".
    pub fn unit(&self, kind: &str) -> String {
        format!("efs-agent-tunnel@{}.{kind}", self.0)
    }
}

/// The mount points of all tunnels that were started since the machine was booted, whether they still run or not.
/// A tunnel whose name was cut short is left out.
pub fn mount_points(root: &Path) -> Vec<PathBuf> {
    let folder = files::below(root, Path::new(FOLDER));
    let names = fs::read_dir(folder).into_iter().flatten().flatten();
    names.filter_map(|entry| mount_point_of(&entry.file_name().into_string().ok()?)).collect()
}

fn mount_point_of(port_file: &str) -> Option<PathBuf> {
    let name = port_file.strip_suffix(".port")?;
    let point = unescaped(name);
    (Instance::of(&point).0 == name).then_some(point)
}

/// What `systemd-escape --path` makes of a path.
pub(crate) fn escaped(path: &Path) -> String {
    let mut name = String::new();
    let parts = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    for part in parts.filter(|part| !part.is_empty()) {
        if !name.is_empty() {
            name.push('-');
        }

        for byte in part {
            let is_plain = byte.is_ascii_alphanumeric()
                || matches!(byte, b':' | b'_')
                || *byte == b'.' && !name.is_empty();
            if is_plain {
                name.push(char::from(*byte));
            } else {
                // Writing to a string cannot fail.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    if name.is_empty() { "-".into() } else { name }
}

/// The path that [`escaped`] made this name of, if it did.
fn unescaped(name: &str) -> PathBuf {
    let mut path = vec![b'/'];
    let mut rest = name.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = match (first, tail) {
            (b'\\', [b'x', high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };

        rest = if code.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
        path.push(code.unwrap_or(if *first == b'-' { b'/' } else { *first }));
    }
    PathBuf::from(OsString::from_vec(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_systemd_gives() {
        // As systemd-escape --path of 252 has them.
        for (path, name) in [
            ("/mnt/efs_share", "mnt-efs_share"),
            ("/", "-"),
            ("/mnt/a-b", "mnt-a\\x2db"),
            ("/mnt//a b/.c/ä", "mnt-a\\x20b-.c-\\xc3\\xa4"),
            ("/.a", "\\x2ea"),
            ("/a\\b:c", "a\\x5cb:c"),
        ] {
            assert_eq!(escaped(Path::new(path)), name);
            if path != "/" {
                assert_eq!(unescaped(name), Path::new(&path.replace("//", "/")));
            }
        }
        let instance = Instance::of(Path::new("/mnt/efs_share"));
        assert_eq!(instance.socket(), Path::new("/run/efs-agent/tunnel/mnt-efs_share.sock"));
        assert_eq!(instance.unit("socket"), "efs-agent-tunnel@mnt-efs_share.socket");
    }

    #[test]
    fn a_name_that_is_too_long_for_a_socket_is_cut_and_still_its_own() {
        let long = |end: &str| Instance::of(Path::new(&format!("/{}{end}", "x".repeat(200))));
        assert_eq!(long("a").0.len(), LONGEST_NAME);
        assert!(long("a").socket().as_os_str().len() < 108);
        assert_ne!(long("a"), long("b"));
        assert_eq!(long("a"), long("a"));
    }
}
