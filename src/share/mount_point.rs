//! Makes or checks the mount point, through descriptors and without following
//! a symlink anywhere on the way. Never mounts.
//!
//! The last component of the path may be the root of a share whose server is dead, and a look at that would block.
//! Callers ask the mount table first.

use crate::files::{self, FolderId};
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

/// What is in the way of a mount point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PointError {
    /// A path component is a symlink.
    #[error("{} is a symlink, which efs-agent does not follow", .0.display())]
    Symlink(PathBuf),
    /// A path component is a file, a socket, …
    #[error("{} is {}, not a folder", path.display(), what)]
    NotAFolder {
        /// The component.
        path: PathBuf,
        /// "a file", ….
        what: &'static str,
    },
    /// It would have to be made where others could put something else in its place.
    #[error("{} cannot be made safely: others than root can write to {}", path.display(), parent.display())]
    UnsafeParent {
        /// What was to be made.
        path: PathBuf,
        /// The folder it would be in.
        parent: PathBuf,
    },
    /// It is on a file system whose server may be dead: to look at it could block for ever.
    #[error("{} lies on {remote}, and a mount point on a remote file system can hang", path.display())]
    Remote {
        /// The mount point.
        path: PathBuf,
        /// Source and type of the file system.
        remote: String,
    },
    /// It could not be made or looked at.
    #[error("{} cannot be {verb}: {} ({errno:?})", path.display(), errno.desc())]
    Failed {
        /// The component.
        path: PathBuf,
        /// "made", "opened", "removed".
        verb: &'static str,
        /// Why.
        errno: Errno,
    },
}

/// The folder that holds the mount point, open, and the mount point's name in it.
#[derive(Debug)]
pub struct Parent {
    /// An `O_PATH` descriptor. It is shared, because a run must do with very few.
    pub folder: Rc<OwnedFd>,
    /// Name of the mount point in it.
    pub name: CString,
}

/// A mount point that was checked. The process that mounts opens it by its name in the checked
/// folder, without following a symlink.
#[derive(Debug)]
pub struct PreparedPoint {
    /// The checked folder, and the name in it.
    pub parent: Parent,
    /// The folders that we made, outermost first.
    made: Vec<Parent>,
    /// The identity of the folder, if it was there before.
    pub was_there: Option<FolderId>,
}

const FOLDER: OFlag =
    OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl PreparedPoint {
    /// Whether this run made it.
    pub fn is_ours(&self) -> bool {
        !self.made.is_empty()
    }

    /// Removes the folders that this run made, if they are still empty, so that a failed start
    /// leaves none.
    pub fn discard(self) {
        for made in self.made.iter().rev() {
            if unlinkat(&*made.folder, made.name.as_c_str(), UnlinkatFlags::RemoveDir).is_err() {
                return;
            }
        }
    }
}

/// Opens the folder that holds `path`, without touching `path` itself.
///
/// # Errors
/// What is in the way.
pub fn parent(root: &Path, path: &Path) -> Result<Parent, PointError> {
    walk(root, path, None).map(|(parent, _)| parent)
}

/// Removes the folder `path`, if it is empty.
///
/// # Errors
/// What is in the way.
pub fn remove(root: &Path, path: &Path) -> Result<(), PointError> {
    let point = parent(root, path)?;
    unlinkat(&*point.folder, point.name.as_c_str(), UnlinkatFlags::RemoveDir)
        .map_err(|errno| PointError::Failed { path: path.into(), verb: "removed", errno })
}

/// No more entries than this are counted.
pub const MOST_ENTRIES: usize = 1000;

/// How many entries the folder `path` has, up to [`MOST_ENTRIES`]; `None` if it cannot be read. Ask
/// only where nothing is mounted on it, or something that is known to answer.
pub fn entries(root: &Path, path: &Path) -> Option<usize> {
    let point = parent(root, path).ok()?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder =
        Dir::openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty()).ok()?;
    let names = folder.iter().filter_map(Result::ok);
    let names = names.filter(|entry| ![&b"."[..], b".."].contains(&entry.file_name().to_bytes()));
    Some(names.take(MOST_ENTRIES).count())
}

/// What to say about a mount point in a folder that others than root can change: they can rename or
/// remove what is in it. `None` where only root can change the folders on the way, or they keep
/// root's files in place (/tmp).
pub fn in_others_hands(root: &Path, path: &Path) -> Option<String> {
    // /mnt and its like belong to the system, so that each start can save this look.
    if path.components().count() <= 3 {
        return None;
    }

    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    folders.reverse();
    folders.into_iter().find_map(|folder| {
        let below = files::below(root, folder);
        let stat = fstatat(AT_FDCWD, &below, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let (owner, mode) = (stat.st_uid, stat.st_mode);

        // In a folder with the sticky bit, what belongs to root stays.
        let why = match () {
            () if owner != 0 => format!("belongs to user {owner}"),
            () if mode & 0o022 != 0 && mode & 0o1000 == 0 => {
                format!("has mode {:04o}", mode & 0o7777)
            }
            () => return None,
        };

        Some(format!(
            "{} lies below {}, which {why}: who can change that folder can rename or remove the mount \
             point; choose one below folders that root alone can change, such as /mnt",
            path.display(),
            folder.display(),
        ))
    })
}

/// Opens `path`. If it is missing, it is made with `mode`, and its parents with 0755.
///
/// # Errors
/// What is in the way. Folders that were made on the way are removed again.
pub fn prepare(root: &Path, path: &Path, mode: u32) -> Result<PreparedPoint, PointError> {
    let mut made = Vec::new();
    let result = walk(root, path, Some(&mut made)).and_then(|(parent, _)| {
        let was_there = match make(&parent, path, mode, &mut made)? {
            true => None,
            false => Some(open_folder(&parent, path)?.1),
        };
        Ok((parent, was_there))
    });

    match result {
        Ok((parent, was_there)) => Ok(PreparedPoint { parent, made, was_there }),
        Err(error) => {
            for one in made.iter().rev() {
                let _ = unlinkat(&*one.folder, one.name.as_c_str(), UnlinkatFlags::RemoveDir);
            }
            Err(error)
        }
    }
}

/// The parent of `path`, and whether openat2 opened it. With `made`, missing folders are made.
fn walk(
    root: &Path,
    path: &Path,
    made: Option<&mut Vec<Parent>>,
) -> Result<(Parent, bool), PointError> {
    let name = path.file_name().map(c_name);
    let name = name.ok_or_else(|| failed(path, "opened")(Errno::EINVAL))?;
    let folders: PathBuf = path
        .parent()
        .into_iter()
        .flat_map(Path::components)
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect();

    if let Some(folder) = open_in_one_call(&root.join(&folders)) {
        return Ok((Parent { folder, name }, true));
    }

    // One call is not enough before Linux 5.6, or where something is missing or in the way. Going
    // step by step makes what is missing, and shows which step fails.
    let mut nothing = Vec::new();
    let (may_make, made) = match made {
        Some(made) => (true, made),
        None => (false, &mut nothing),
    };

    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut folder = openat(AT_FDCWD, root, flags, Mode::empty())
        .map(Rc::new)
        .map_err(failed(root, "opened"))?;
    let mut at = PathBuf::from("/");

    for part in folders.components() {
        at.push(part);
        let next = Parent { folder, name: c_name(part.as_os_str()) };
        if may_make {
            make(&next, &at, 0o755, made)?;
        }
        folder = Rc::new(open_folder(&next, &at)?.0);
    }

    Ok((Parent { folder, name }, false))
}

/// Makes the error of what was done to `path` from its errno.
fn failed(path: &Path, verb: &'static str) -> impl Fn(Errno) -> PointError {
    move |errno| PointError::Failed { path: path.into(), verb, errno }
}

fn open_in_one_call(folder: &Path) -> Option<Rc<OwnedFd>> {
    let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(AT_FDCWD, folder, OpenHow::new().flags(FOLDER).resolve(resolve)).map(Rc::new).ok()
}

/// Makes the folder `point`, which is `path`, with exactly `mode`, whatever the umask; `false` if there
/// is something already.
fn make(
    point: &Parent,
    path: &Path,
    mode: u32,
    made: &mut Vec<Parent>,
) -> Result<bool, PointError> {
    let Parent { folder, name } = point;

    // A user who can rename files in here could swap the new folder for another one that root owns,
    // before its mode is set.
    let stat = fstat(&**folder).map_err(failed(path, "made"))?;
    let sticky = stat.st_mode & SFlag::from_bits_retain(0o1000).bits() != 0;
    if stat.st_uid != 0 || stat.st_mode & 0o022 != 0 && !sticky {
        // A folder that is there already need not be made.
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        return match fstatat(&**folder, name.as_c_str(), flags) {
            Ok(_) => Ok(false),
            Err(_) => {
                let parent = path.parent().unwrap_or(path).to_owned();
                Err(PointError::UnsafeParent { path: path.into(), parent })
            }
        };
    }

    // The folder is closed to everybody else until its mode is right.
    match mkdirat(&**folder, name.as_c_str(), Mode::S_IRWXU) {
        Ok(()) => {}
        // The folder's owner or another run was quicker. That folder is as good as an old one.
        Err(Errno::EEXIST) => return Ok(false),
        Err(errno) => return Err(failed(path, "made")(errno)),
    }

    made.push(Parent { folder: Rc::clone(folder), name: name.clone() });

    // Its name is safe to use: nobody except root can have put something else there (see above).
    let mode = Mode::from_bits_truncate(mode);
    fchmodat(&**folder, name.as_c_str(), mode, FchmodatFlags::FollowSymlink)
        .map_err(failed(path, "made"))?;
    Ok(true)
}

/// Opens `point`, which is `path`, if it is a folder, and gives which folder that is.
fn open_folder(point: &Parent, path: &Path) -> Result<(OwnedFd, FolderId), PointError> {
    // O_DIRECTORY is left out, so that what is in the way can be named.
    let flags = FOLDER.difference(OFlag::O_DIRECTORY);
    let found = openat(&*point.folder, point.name.as_c_str(), flags, Mode::empty())
        .map_err(failed(path, "opened"))?;
    let stat = fstat(&found).map_err(failed(path, "opened"))?;

    let what = match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => return Ok((found, FolderId::of(&stat))),
        SFlag::S_IFLNK => return Err(PointError::Symlink(path.into())),
        SFlag::S_IFREG => "a file",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        _ => "a device",
    };

    Err(PointError::NotAFolder { path: path.into(), what })
}

fn c_name(name: &OsStr) -> CString {
    CString::new(name.as_bytes()).unwrap_or_default()
}

/// Whether the folder is empty, if it can be read: a mount hides what is in it.
pub fn is_empty(point: &PreparedPoint) -> Option<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let name = point.parent.name.as_c_str();
    let mut folder = Dir::openat(&*point.parent.folder, name, flags, Mode::empty()).ok()?;
    let held = |name: &CStr| !matches!(name.to_bytes(), b"." | b"..");
    Some(!folder.iter().flatten().any(|entry| held(entry.file_name())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_mount_point_that_others_could_move_is_told() {
        let dir = tempfile::tempdir_in("/run").unwrap();
        let root = dir.path();
        for (folder, mode) in [
            ("tmp", 0o1777),
            ("tmp/u", 0o755),
            ("open", 0o777),
            ("open/a", 0o755),
            ("mnt/a", 0o755),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(root.join("tmp/u"), Some(1001), None).unwrap();
        let told = |path: &str| in_others_hands(root, Path::new(path));
        for fine in ["/mnt/share", "/mnt/a/share", "/tmp/share/x", "/none/a/b"] {
            assert_eq!(told(fine), None, "{fine}");
        }
        let text = told("/tmp/u/share").unwrap();
        assert!(text.starts_with("/tmp/u/share lies below /tmp/u, which belongs to user 1001: "));
        let text = told("/open/a/share").unwrap();
        assert!(text.starts_with("/open/a/share lies below /open, which has mode 0777: "));
    }

    #[test]
    fn the_mount_point_is_made_with_its_mode_and_its_parents_with_0755_whatever_the_umask() {
        let dir = tempfile::tempdir().unwrap();
        let old = nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
        let point = prepare(dir.path(), Path::new("/mnt/a/share"), 0o1777);
        nix::sys::stat::umask(old);
        assert_eq!(mode(&dir.path().join("mnt")), 0o755);
        assert_eq!(mode(&dir.path().join("mnt/a")), 0o755);
        assert_eq!(mode(&dir.path().join("mnt/a/share")), 0o1777);
        point.unwrap().discard();
        assert!(!dir.path().join("mnt").exists());
    }

    #[test]
    fn an_existing_folder_keeps_its_mode_and_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mnt")).unwrap();
        fs::set_permissions(dir.path().join("mnt"), fs::Permissions::from_mode(0o700)).unwrap();
        prepare(dir.path(), Path::new("/mnt"), 0o1777).unwrap().discard();
        assert_eq!(mode(&dir.path().join("mnt")), 0o700);
        let point = prepare(dir.path(), Path::new("/mnt/share"), 0o1777).unwrap();
        fs::write(dir.path().join("mnt/share/work"), "x").unwrap();
        point.discard();
        assert!(dir.path().join("mnt/share/work").exists());
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_is_left_half_made() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        symlink("real", dir.path().join("link")).unwrap();
        symlink("nowhere", dir.path().join("dangling")).unwrap();
        let _socket = std::os::unix::net::UnixDatagram::bind(dir.path().join("socket")).unwrap();
        let error =
            |path: &str| prepare(dir.path(), Path::new(path), 0o755).unwrap_err().to_string();
        assert_eq!(error("/file"), "/file is a file, not a folder");
        assert_eq!(error("/file/share"), "/file is a file, not a folder");
        assert_eq!(error("/socket"), "/socket is a socket, not a folder");
        assert_eq!(error("/link"), "/link is a symlink, which efs-agent does not follow");
        assert_eq!(error("/link/share"), "/link is a symlink, which efs-agent does not follow");
        assert_eq!(error("/dangling"), "/dangling is a symlink, which efs-agent does not follow");
        assert_eq!(fs::read_dir(dir.path().join("real")).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_made_where_others_could_swap_it_unless_the_sticky_bit_forbids() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shared");
        fs::create_dir(&folder).unwrap();
        let made = || prepare(dir.path(), Path::new("/shared/point"), 0o1777);
        for (owner, mode, safe) in
            [(0, 0o755, true), (0, 0o1777, true), (0, 0o777, false), (1000, 0o755, false)]
        {
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
            std::os::unix::fs::chown(&folder, Some(owner), None).unwrap();
            match made() {
                Ok(point) => {
                    assert!(safe, "{mode:o}");
                    point.discard();
                }
                Err(e) => {
                    assert!(!safe, "{mode:o}: {e}");
                    assert_eq!(
                        e.to_string(),
                        "/shared/point cannot be made safely: others than root can write to /shared"
                    );
                }
            }
        }
        // A folder that is there already is accepted, because nothing is changed around it.
        fs::create_dir(folder.join("point")).unwrap();
        assert!(made().is_ok());
    }

    #[test]
    fn the_walk_of_old_kernels_finds_the_same_folder_as_openat2() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        let path = Path::new("/a/b/c/share");
        let (fast, by_openat2) = walk(dir.path(), path, None).unwrap();
        assert!(by_openat2, "this kernel has openat2");
        let mut folder = openat(AT_FDCWD, dir.path(), OFlag::O_PATH, Mode::empty()).unwrap();
        for name in ["a", "b", "c"] {
            let name = CString::new(name).unwrap();
            folder = open_folder(&Parent { folder: Rc::new(folder), name }, path).unwrap().0;
        }
        let (one, two) = (fstat(&*fast.folder).unwrap(), fstat(&folder).unwrap());
        assert_eq!((one.st_dev, one.st_ino), (two.st_dev, two.st_ino));
        symlink("a", dir.path().join("s")).unwrap();
        assert!(walk(dir.path(), Path::new("/s/b/share"), None).is_err());
        assert!(parent(dir.path(), Path::new("/none/share")).is_err());
        assert!(!dir.path().join("none").exists());
    }
}
