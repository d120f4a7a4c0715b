//! Whether this process may mount, and whether the rest of the machine sees what it mounts.

use crate::files;
use crate::kernel::mount_table;
use crate::sys;
use std::fs;
use std::path::Path;

/// Whether what we mount is seen by the rest of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// PID 1 is in the same mount namespace.
    Shared,
    /// It is not.
    Private,
    /// /proc does not tell.
    Unknown,
}

/// Compares our mount namespace with PID 1's. `proc` is `/proc` outside of tests.
pub fn namespace(proc: &Path) -> Namespace {
    // Without the right to read it, some kernels give an empty link rather than an error.
    let link = |process: &str| {
        let target = fs::read_link(proc.join(process).join("ns/mnt")).ok()?;
        (!target.as_os_str().is_empty()).then_some(target)
    };
    if let (Some(ours), Some(first)) = (link("self"), link("1")) {
        return if ours == first { Namespace::Shared } else { Namespace::Private };
    }
    // The links need CAP_SYS_PTRACE, which a hardened unit lacks. Mount ids are unique on
    // the machine, so tables of two namespaces share none.
    let ids = |process: &str| {
        let bytes = files::whole(&proc.join(process).join("mountinfo")).ok()?;
        Some(mount_table::parse(&bytes).into_iter().map(|entry| entry.id).collect::<Vec<_>>())
    };
    match (ids("self"), ids("1")) {
        (Some(ours), Some(first)) if !ours.is_empty() && !first.is_empty() => {
            if ours.iter().any(|id| first.contains(id)) {
                Namespace::Shared
            } else {
                Namespace::Private
            }
        }
        _ => Namespace::Unknown,
    }
}

/// Whether this process may mount: CAP_SYS_ADMIN in its effective set, or unknown.
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
