//! Whether this process may mount, and whether the rest of the machine sees its mounts. Nothing is mounted here.

use crate::files;
use crate::kernel::mount_table;
use crate::sys;
use std::fs;
use std::path::{Path, PathBuf};

/// Whether the rest of the machine sees our mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// PID 1 is in the same mount namespace.
    Shared,
    /// PID 1 is in another one.
    Private,
    /// /proc does not show which.
    Unknown,
}

/// Compares our mount namespace with PID 1's. `proc` is `/proc` outside of tests.
pub fn namespace(proc: &Path) -> Namespace {
    if let (Some(ours), Some(first)) = (link(proc, "self"), link(proc, "1")) {
        return if ours == first { Namespace::Shared } else { Namespace::Private };
    }

    // Reading the links needs CAP_SYS_PTRACE, which a hardened unit lacks. Mount ids are unique on
    // the machine, so the tables of two namespaces have none in common.
    let (ours, first) = (mount_ids(proc, "self"), mount_ids(proc, "1"));
    if ours.is_empty() || first.is_empty() {
        Namespace::Unknown
    } else if ours.iter().any(|id| first.contains(id)) {
        Namespace::Shared
    } else {
        Namespace::Private
    }
}

/// The mount namespace of a process. Without the right to read it, some kernels give an empty link
/// and no error.
fn link(proc: &Path, process: &str) -> Option<PathBuf> {
    let target = fs::read_link(proc.join(process).join("ns/mnt")).ok()?;
    Some(target).filter(|target| !target.as_os_str().is_empty())
}

fn mount_ids(proc: &Path, process: &str) -> Vec<u32> {
    let table = files::whole(&proc.join(process).join("mountinfo")).unwrap_or_default();
    mount_table::parse(&table).into_iter().map(|entry| entry.id).collect()
}

/// Whether this process may mount: it has CAP_SYS_ADMIN, or that is not known.
pub fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    sys::capabilities().is_none_or(|caps| caps & CAP_SYS_ADMIN != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_namespace_is_told_by_links_or_else_by_mount_ids() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        assert_eq!(namespace(proc), Namespace::Unknown);
        for (process, id) in [("self", 40), ("1", 40)] {
            fs::create_dir_all(proc.join(process).join("ns")).unwrap();
            let line = format!("{id} 1 0:1 / / rw - ext4 /dev/a rw\n");
            fs::write(proc.join(process).join("mountinfo"), line).unwrap();
        }
        assert_eq!(namespace(proc), Namespace::Shared);
        fs::write(proc.join("1/mountinfo"), "22 1 0:1 / / rw - ext4 /dev/a rw\n").unwrap();
        assert_eq!(namespace(proc), Namespace::Private);
        std::os::unix::fs::symlink("mnt:[1]", proc.join("self/ns/mnt")).unwrap();
        std::os::unix::fs::symlink("mnt:[1]", proc.join("1/ns/mnt")).unwrap();
        assert_eq!(namespace(proc), Namespace::Shared, "the links decide where there are any");
    }
}
