//! Which files are trusted, and what is left after a write that was interrupted.

use super::*;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

/// A folder that is trusted from its root on, with the file `/f` in it.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.path().join("f"), "old").unwrap();
    dir
}

fn place(dir: &tempfile::TempDir) -> Place {
    find(dir.path(), Path::new("/f")).unwrap()
}

fn version(dir: &tempfile::TempDir) -> Option<Version> {
    Some(Version::read(&File::open(dir.path().join("f")).unwrap()).unwrap())
}

fn names(dir: &tempfile::TempDir) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[test]
fn links_are_followed_only_where_root_alone_decides() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let root = dir.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["a/b", "user"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("a/b/token"), "t").unwrap();
    for (link, target) in [
        ("a/data", "b"),
        ("var", "/a/../a"),
        ("loop", "loop"),
        ("user/link", "/a/b/token"),
        ("theirs", "a/b"),
    ] {
        symlink(target, root.join(link)).unwrap();
    }
    std::os::unix::fs::chown(root.join("user"), Some(1001), None).unwrap();
    std::os::unix::fs::lchown(root.join("theirs"), Some(1001), None).unwrap();
    let to = |path: &str| followed(root, Path::new(path));
    for fine in ["/a/b/token", "/a/data/token", "/var/data/token", "/a/b/../data/token"] {
        assert_eq!(to(fine).unwrap(), Path::new("/a/b/token"), "{fine}");
    }
    let fault = |path: &str| match to(path) {
        Err(UntrustedReadError::Fault(fault)) => format!("{} {}", fault.path.display(), fault.why),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault("/user/link"), "/user belongs to user 1001");
    assert_eq!(fault("/theirs/token"), "/theirs is a symlink of user 1001");
    assert!(matches!(to("/loop/x"), Err(UntrustedReadError::Obstacle(_))));
    let gone = to("/a/none/x");
    assert!(matches!(
        gone,
        Err(UntrustedReadError::Obstacle(PathError::Unopenable(Errno::ENOENT)))
    ));
}

#[test]
fn what_is_put_is_whole_and_closed_to_others_whatever_an_ended_run_has_left() {
    let dir = folder();
    fs::write(dir.path().join(temporary(OsStr::new("f"))), "half").unwrap();
    let place = place(&dir);
    place.put(&place.folder().unwrap(), b"new").unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "new");
    assert_eq!(fs::metadata(dir.path().join("f")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_is_replaced_by_one_of_the_same_owner_group_and_mode() {
    let dir = folder();
    let path = dir.path().join("f");
    chown(&path, Some(0), Some(4242)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let place = place(&dir);
    let like = Like::of(&place.open().unwrap().unwrap()).unwrap();
    place.replace(&place.folder().unwrap(), b"new", &like, version(&dir)).unwrap();
    let now = fs::metadata(&path).unwrap();
    assert_eq!((now.uid(), now.gid(), now.mode() & 0o7777), (0, 4242, 0o640));
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(&dir), ["f"]);
}

#[test]
fn what_an_ended_run_has_left_is_no_hindrance_whatever_it_is() {
    let dir = folder();
    symlink("victim", dir.path().join(".f.efs-agent")).unwrap();
    let place = place(&dir);
    place.replace(&place.folder().unwrap(), b"new", &Like::root(0o644), version(&dir)).unwrap();
    assert_eq!(fs::read(dir.path().join("f")).unwrap(), b"new");
    assert_eq!(names(&dir), ["f"], "and nothing was written through the symlink");
}

#[test]
fn a_file_that_has_changed_since_it_was_read_is_left_alone() {
    let dir = folder();
    let path = dir.path().join("f");
    let place = place(&dir);
    let folder = place.folder().unwrap();
    let replace = |version| place.replace(&folder, b"new", &Like::root(0o644), version);
    let before = version(&dir);
    fs::write(&path, "by somebody else").unwrap();
    assert_eq!(replace(before), Err(ReplaceError::Changed));
    assert_eq!(replace(None), Err(ReplaceError::Changed), "it was made meanwhile");
    assert_eq!(fs::read(&path).unwrap(), b"by somebody else");
    let before = version(&dir);
    fs::remove_file(&path).unwrap();
    assert_eq!(replace(before), Err(ReplaceError::Changed), "it was removed meanwhile");
    symlink("victim", &path).unwrap();
    assert_eq!(replace(before), Err(ReplaceError::Changed), "a symlink took its place");
    assert_eq!(names(&dir), ["f"]);
    fs::remove_file(&path).unwrap();
    replace(None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn the_folder_that_was_checked_is_the_one_that_is_written_to() {
    let dir = folder();
    fs::create_dir(dir.path().join("a")).unwrap();
    fs::write(dir.path().join("a/f"), "old").unwrap();
    let place = find(dir.path(), Path::new("/a/f")).unwrap();
    let folder = place.folder().unwrap();
    let version = Version::read(&place.open().unwrap().unwrap()).unwrap();
    fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    fs::create_dir(dir.path().join("a")).unwrap();
    place.replace(&folder, b"new", &Like::root(0o644), Some(version)).unwrap();
    assert_eq!(fs::read(dir.path().join("b/f")).unwrap(), b"new");
    assert!(!dir.path().join("a/f").exists());
}

#[test]
fn what_is_missing_or_in_the_way_is_told_apart() {
    let dir = folder();
    symlink("f", dir.path().join("link")).unwrap();
    fs::create_dir(dir.path().join("folder")).unwrap();
    let find = |path: &str| find(dir.path(), Path::new(path));
    assert!(
        matches!(find("/none/f"), Err(PathError::NoFolder(path)) if path == Path::new("/none"))
    );
    assert!(matches!(find("/f/f"), Err(PathError::NotAFolder(_))));
    assert!(matches!(find("/link/f"), Err(PathError::NotAFolder(_))));
    assert!(matches!(find("/folder/../f"), Err(PathError::DotDot)));
    assert!(matches!(find("/"), Err(PathError::NoName)));
    assert!(matches!(find("/link").unwrap().open(), Err(PathError::Symlink)));
    assert!(find("/none").unwrap().open().unwrap().is_none());
    let folder = find("/folder").unwrap().open().unwrap().unwrap();
    assert!(matches!(contents(&folder), Err(PathError::NotRegular)));
    fs::write(dir.path().join("f"), vec![0; LARGEST as usize]).unwrap();
    let open = || find("/f").unwrap().open().unwrap().unwrap();
    assert_eq!(contents(&open()).unwrap().len(), LARGEST as usize);
    fs::write(dir.path().join("f"), vec![0; LARGEST as usize + 1]).unwrap();
    assert!(matches!(contents(&open()), Err(PathError::TooLarge)));
}
