//! Finds what is probably not meant about a mount point, although a session start can use it. Only
//! files and folders are looked at here.

use crate::appstream::User;
use crate::config::file::{BESIDE, INSTALLED};
use crate::files;
use crate::share::mount_point::{MOST_ENTRIES, entries};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is wrong, and what helps.
type Advice = (String, String);

/// What helps against most of these.
pub const OWN_FOLDER: &str = "give the share a folder of its own, such as /mnt/efs_share";

/// What is wrong with a config beside the program, if that is read (`path`) in place of the usual one.
pub fn second_config(root: &Path, path: &Path, named: Option<&Path>) -> Option<String> {
    let is_hidden = named.is_none() && path.ends_with(BESIDE);
    let installed = root.join(INSTALLED.trim_start_matches('/'));
    (is_hidden && fs::symlink_metadata(installed).is_ok()).then(|| {
        format!("{} is read, as it is beside the program; {INSTALLED} is not", path.display())
    })
}

/// What is wrong with the folder `point`, if it is there and nothing is mounted on it. Its owner
/// does not matter if it is a home (`is_home`), which has a warning anyway.
pub fn as_it_is(root: &Path, point: &Path, is_home: bool) -> Vec<Advice> {
    let mut told = Vec::new();
    let owner = below(root, point).map(|folder| folder.uid());
    if let Some(owner) = owner.filter(|uid| *uid != 0 && !is_home) {
        let what = format!(
            "{} belongs to user {owner}: what that user has in it is not seen while the share is up",
            point.display()
        );
        told.push((what, OWN_FOLDER.to_owned()));
    }

    if let Some(count) = entries(root, point).filter(|count| *count > 0) {
        let count = match count {
            1 => "1 entry is".to_owned(),
            MOST_ENTRIES => format!("{MOST_ENTRIES} entries or more are"),
            _ => format!("{count} entries are"),
        };
        let what = format!(
            "{count} in {}, on this machine only: they are hidden while the share is up",
            point.display()
        );
        told.push((what, "move them away, or choose another mount_point".to_owned()));
    }

    told
}

fn below(root: &Path, path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(files::below(root, path)).ok()
}

/// What is wrong with the folders above `point`: the users of the share must get there.
pub fn on_the_way(root: &Path, point: &Path, user: Option<&User>) -> Option<Advice> {
    let mut folders: Vec<&Path> = point.ancestors().skip(1).collect();
    folders.reverse();

    folders.into_iter().find_map(|folder| {
        let meta = below(root, folder).filter(|meta| !may_enter(meta, user))?;
        let who = user.map_or("users", |user| user.name.as_str());
        let what = format!(
            "{} lies below {}, which {who} cannot enter (mode {:04o}, of {}:{})",
            point.display(),
            folder.display(),
            meta.mode() & 0o7777,
            meta.uid(),
            meta.gid()
        );

        let cure = "choose a mount_point below folders that all can enter, such as /mnt/efs_share";
        Some((what, cure.to_owned()))
    })
}

fn may_enter(meta: &Metadata, user: Option<&User>) -> bool {
    let bit = match user {
        Some(user) if user.uid == meta.uid() => 0o100,
        Some(user) if user.gid == meta.gid() || user.groups.contains(&meta.gid()) => 0o010,
        _ => 0o001,
    };
    // Access control lists are not looked at. Where there are any, the bits of the group are their
    // mask.
    meta.mode() & bit != 0
}

/// What is wrong with a mount point that is a user's home, or has one in it: the share hides what is there.
pub fn hides_home(root: &Path, point: &Path) -> Option<String> {
    let passwd = fs::read(root.join("etc/passwd")).ok()?;
    String::from_utf8_lossy(&passwd).lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, home) = (fields.next()?, Path::new(fields.nth(4)?));
        // "/" and the like are the homes of services.
        let is_home = home.components().count() > 2 && home.starts_with(point);
        is_home.then(|| {
            let (point, home) = (point.display(), home.display());
            format!("{point} hides the home of {name} ({home}): its settings and files are not seen while the share is up")
        })
    })
}

/// What is wrong with a mount point that /etc/fstab has too.
pub fn in_fstab(root: &Path, point: &Path) -> Option<Advice> {
    let text = fs::read(root.join("etc/fstab")).ok()?;
    let text = String::from_utf8_lossy(&text);

    let (n, source) = text.lines().enumerate().find_map(|(n, line)| {
        let mut fields = line.split_whitespace();
        let source = fields.next().filter(|source| !source.starts_with('#'))?;
        let target = fields.next()?.replace("\\040", " ").replace("\\011", "\t");
        (Path::new(&target.replace("\\134", "\\")) == point).then_some((n, source))
    })?;
    let what = format!(
        "/etc/fstab, line {}, mounts {source} on {} at boot; a session start would find that there",
        n.saturating_add(1),
        point.display()
    );
    Some((what, "take that line out of /etc/fstab".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn machine(folders: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir_in("/run").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in folders {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        dir
    }

    #[test]
    fn a_mount_point_that_is_not_empty_or_somebodys_is_told() {
        let dir = machine(&["mnt/a"]);
        let (root, point) = (dir.path(), Path::new("/mnt/a"));
        assert_eq!(as_it_is(root, point, false), []);
        assert_eq!(as_it_is(root, Path::new("/mnt/none"), false), []);
        for (n, told) in [(1, "1 entry is in /mnt/a"), (2, "2 entries are in /mnt/a")] {
            fs::write(root.join(format!("mnt/a/{n}")), "").unwrap();
            let found = as_it_is(root, point, false);
            assert!(found.len() == 1 && found[0].0.starts_with(told), "{found:?}");
        }
        chown(root.join("mnt/a"), Some(1001), None).unwrap();
        assert_eq!(as_it_is(root, point, true).len(), 1);
        assert!(as_it_is(root, point, false)[0].0.starts_with("/mnt/a belongs to user 1001"));
    }

    #[test]
    fn a_mount_point_that_hides_a_home_is_told() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:9:9::/:\nbad\nas2:x:1001:1001:S:/home/as2:/bin/bash\n";
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        let told = |point: &str| hides_home(dir.path(), Path::new(point));
        assert!(
            told("/home/as2").unwrap().starts_with("/home/as2 hides the home of as2 (/home/as2): ")
        );
        assert!(told("/home").unwrap().contains("the home of as2"));
        for fine in ["/home/as2/share", "/home/as", "/mnt/efs_share"] {
            assert_eq!(told(fine), None, "{fine}");
        }
    }

    #[test]
    fn a_folder_above_that_users_cannot_enter_is_told() {
        let dir = machine(&["root/a", "mnt/a"]);
        let root = dir.path();
        let user = |uid, groups: &[u32]| User {
            name: "streamer".into(),
            uid,
            gid: uid,
            groups: groups.to_vec(),
        };
        let folder = root.join("root");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o710)).unwrap();
        chown(&folder, Some(5), Some(6)).unwrap();
        let told = |point: &str, user: Option<&User>| on_the_way(root, Path::new(point), user);
        assert_eq!(told("/mnt/a", None), None);
        let (what, _) = told("/root/a/b", None).unwrap();
        assert_eq!(
            what,
            "/root/a/b lies below /root, which users cannot enter (mode 0710, of 5:6)"
        );
        assert!(told("/root/a", Some(&user(7, &[]))).unwrap().0.contains("which streamer cannot"));
        assert_eq!(told("/root/a", Some(&user(5, &[]))), None);
        assert_eq!(told("/root/a", Some(&user(7, &[6]))), None);
    }

    #[test]
    fn a_line_of_fstab_for_the_same_place_is_told() {
        let dir = machine(&["etc"]);
        let told = |point: &str| in_fstab(dir.path(), Path::new(point));
        assert_eq!(told("/mnt/a"), None);
        let text = "# fs:/ /mnt/a nfs4\n\nUUID=1 / ext4\nfs:/ /mnt/a/ nfs4 noauto 0 0\nfs:/ /mnt/b\\040c nfs4\n";
        fs::write(dir.path().join("etc/fstab"), text).unwrap();
        assert!(
            told("/mnt/a").unwrap().0.starts_with("/etc/fstab, line 4, mounts fs:/ on /mnt/a ")
        );
        assert!(told("/mnt/b c").unwrap().0.contains("line 5"));
        assert_eq!(told("/mnt"), None);
    }

    #[test]
    fn a_config_that_is_not_read_because_of_one_beside_the_program_is_told() {
        let dir = machine(&["etc/efs-agent"]);
        let beside = Path::new("/usr/sbin/efs-agent.toml");
        let told = |path, named| second_config(dir.path(), path, named);
        assert_eq!(told(beside, None), None);
        fs::write(dir.path().join("etc/efs-agent/config.toml"), "").unwrap();
        let what = "/usr/sbin/efs-agent.toml is read, as it is beside the program; /etc/efs-agent/config.toml is not";
        assert_eq!(told(beside, None).as_deref(), Some(what));
        assert_eq!(told(beside, Some(beside)), None);
        assert_eq!(told(Path::new(INSTALLED), None), None);
    }
}
