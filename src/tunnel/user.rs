//! The user that a tunnel becomes before it speaks to the network. Each tunnel has its own, and no account has its
//! number. Names are not looked up.

use crate::files;
use crate::sys;
use aws_lc_rs::digest::{SHA256, digest};
use nix::errno::Errno;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Numbers that neither Debian, RHEL nor systemd (its UIDS-GIDS.md) give to anybody. The user "nobody" does not serve,
/// since its processes may send each other signals.
const USERS: RangeInclusive<u32> = 70_000..=99_999;
/// The same for a container, whose users end at 65535.
const SMALL_USERS: RangeInclusive<u32> = 61_184..=65_519;

/// Makes this process the user of the tunnel for what is mounted on `mount_point`, without any rights.
///
/// # Errors
/// The errno of the system call that failed.
pub fn become_user(root: &Path, mount_point: &Path) -> Result<(), Errno> {
    match become_one_of(USERS, root, mount_point) {
        Err(Errno::EINVAL) => become_one_of(SMALL_USERS, root, mount_point),
        other => other,
    }
}

fn become_one_of(users: RangeInclusive<u32>, root: &Path, mount_point: &Path) -> Result<(), Errno> {
    let user = user_of(root, mount_point, users);
    sys::drop_privileges(user, user)
}

/// A user that is the same each time, differs between mount points, and has no account here.
fn user_of(root: &Path, mount_point: &Path, users: RangeInclusive<u32>) -> u32 {
    let accounts = files::whole(&root.join("etc/passwd")).unwrap_or_default();
    let accounts = String::from_utf8_lossy(&accounts);
    let taken: Vec<u32> =
        accounts.lines().filter_map(|line| line.split(':').nth(2)?.parse().ok()).collect();

    let hash = digest(&SHA256, mount_point.as_os_str().as_bytes());
    let number = hash.as_ref().iter().take(4).fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let count = users.clone().count();
    let first = number.checked_rem(count).unwrap_or(0);

    let mut in_turn = users.clone().cycle().skip(first).take(count);
    in_turn.find(|user| !taken.contains(user)).unwrap_or(*users.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tunnel_has_a_user_of_its_own_who_has_no_account() {
        let root = tempfile::tempdir().unwrap();
        let user = |point: &str| user_of(root.path(), Path::new(point), USERS);
        let first = user("/mnt/a");
        assert!(USERS.contains(&first) && first != user("/mnt/b") && first == user("/mnt/a"));
        std::fs::create_dir(root.path().join("etc")).unwrap();
        let account = format!("root:x:0:0::/root:/bin/sh\nhe:x:{first}:{first}::/:\n");
        std::fs::write(root.path().join("etc/passwd"), account).unwrap();
        assert!(USERS.contains(&user("/mnt/a")) && user("/mnt/a") != first);
    }
}
