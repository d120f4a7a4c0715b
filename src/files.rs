//! Files that root alone can change. They are found without following a symlink, read within bounds, and replaced as a
//! whole or not at all. Callers decide what is in them, and what follows from a fault.
//!
//! Owner and mode are checked: the file's on its open descriptor, and those of each folder above it. A folder is reached
//! by its path as long as nobody but root can change that path, else by its descriptor.

mod identity;
#[cfg(test)]
mod tests;

pub use identity::{Contents, FolderId, Like, Version};

use crate::sys::errno_of;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// No file that a person wrote is larger than this, in bytes.
pub const LARGEST: u64 = 1 << 20;

const ROOT: u32 = 0;

/// Why a file cannot be read. The text goes behind the file's name.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// `..` in the path could lead past a folder that was checked.
    #[error("has \"..\" in its path: write it out in full")]
    DotDot,
    #[error("is a folder")]
    NoName,
    /// A folder above it is not there.
    #[error("cannot be reached: {} does not exist", .0.display())]
    NoFolder(PathBuf),
    /// A folder above it is a symlink, or no folder.
    #[error("cannot be reached: {} is a symlink or no folder; write its real path", .0.display())]
    NotAFolder(PathBuf),
    /// A folder above it cannot be opened.
    #[error("cannot be reached: {}: {}", .0.display(), .1.desc())]
    Unreachable(PathBuf, Errno),
    #[error("is a symlink: put the file itself in its place")]
    Symlink,
    #[error("cannot be opened: {}", .0.desc())]
    Unopenable(Errno),
    #[error("is not a regular file")]
    NotRegular,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is over 1 MiB: that is no config file")]
    TooLarge,
}

/// A file or folder that somebody other than root can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub path: PathBuf,
    /// To be put behind the path: "has mode 0777".
    pub why: String,
    /// The command that makes it root's alone, without the path.
    pub command: &'static str,
}

impl Fault {
    /// The whole command that makes it root's alone.
    pub fn mend(&self) -> String {
        format!("{} {}", self.command, self.path.display())
    }
}

/// The folder that a file is in.
#[derive(Debug, Clone)]
enum Folder {
    /// Every folder on this path is root's alone, so it always leads to the same one.
    Path(PathBuf),
    /// Opened step by step from the root.
    Open(Rc<OwnedFd>),
}

impl Folder {
    /// Opens what is called `name` there, without following a symlink.
    fn open(&self, name: &OsStr, flags: OFlag) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match self {
            Self::Path(folder) => openat(AT_FDCWD, &folder.join(name), flags, Mode::empty()),
            Self::Open(folder) => openat(&**folder, name, flags, Mode::empty()),
        }
    }
}

/// Why a file is not read that root alone should be able to change.
#[derive(Debug)]
pub enum UntrustedReadError {
    Obstacle(PathError),
    /// Somebody else can change it, or a folder above it.
    Fault(Fault),
}

/// The folder that a file is in, and the file's name in it.
#[derive(Debug, Clone)]
pub struct Place {
    folder: Folder,
    name: OsString,
    path: PathBuf,
    /// The first folder above it that somebody else can change.
    fault: Option<Fault>,
}

/// Finds the folder of `path` below `root` (`/` outside of tests), component by component.
///
/// # Errors
/// Why it cannot be reached. A folder that others can change is no error here: see [`Place::trust`].
pub fn find(root: &Path, path: &Path) -> Result<Place, PathError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut at = PathBuf::from("/");
    let mut fault = root_fault(root);
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => return Err(PathError::DotDot),
            _ => {}
        }
    }

    let name = names.pop().ok_or(PathError::NoName)?;
    if fault.is_none()
        && let Some(folder) = safe_path(root, &names)
    {
        let path = at.join(names.iter().collect::<PathBuf>()).join(name);
        return Ok(Place { folder: Folder::Path(folder), name: name.to_owned(), path, fault });
    }

    let mut above: Option<OwnedFd> = None;
    for folder_name in names {
        at.push(folder_name);
        let flags = flags | OFlag::O_NOFOLLOW;
        // Nobody can put another folder in the place of the root.
        let next = match &above {
            Some(folder) => openat(folder, folder_name, flags, Mode::empty()),
            None => openat(AT_FDCWD, &root.join(folder_name), flags, Mode::empty()),
        };
        let folder = next.map_err(|errno| match errno {
            Errno::ENOENT => PathError::NoFolder(at.clone()),
            Errno::ENOTDIR | Errno::ELOOP => PathError::NotAFolder(at.clone()),
            errno => PathError::Unreachable(at.clone(), errno),
        })?;
        fault = fault.or(self::fault(fstat(&folder), &at));
        above = Some(folder);
    }

    let folder = match above {
        Some(folder) => folder,
        None => openat(AT_FDCWD, root, flags, Mode::empty())
            .map_err(|errno| PathError::Unreachable(at.clone(), errno))?,
    };

    at.push(name);
    Ok(Place { folder: Folder::Open(Rc::new(folder)), name: name.to_owned(), path: at, fault })
}

/// Reads a file that root alone can change. Gives `None` if there is no such file, or no folder for it.
///
/// # Errors
/// See [`Place::read`].
pub fn read(root: &Path, path: &Path) -> Result<Option<Vec<u8>>, UntrustedReadError> {
    match find(root, path) {
        Ok(place) => place.read(),
        Err(PathError::NoFolder(_)) => Ok(None),
        Err(obstacle) => Err(UntrustedReadError::Obstacle(obstacle)),
    }
}

/// What is wrong with `root` itself. `/` is checked once: if it is root's alone, it stays so.
fn root_fault(root: &Path) -> Option<Fault> {
    static SOUND: AtomicBool = AtomicBool::new(false);
    let top = Path::new("/");
    if root == top && SOUND.load(Ordering::Relaxed) {
        return None;
    }
    let fault = fault(fstatat(AT_FDCWD, root, AtFlags::empty()), top);
    if root == top && fault.is_none() {
        SOUND.store(true, Ordering::Relaxed);
    }
    fault
}

/// The path of the folder `names` below `root`, if root alone can change each folder on it. They are checked from the top
/// down, so that nobody can replace one that has been checked.
fn safe_path(root: &Path, names: &[&OsStr]) -> Option<PathBuf> {
    let mut path = root.to_owned();
    for name in names {
        path.push(name);
        let stat = fstatat(AT_FDCWD, &path, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFDIR || fault(Ok(stat), &path).is_some() {
            return None;
        }
    }
    Some(path)
}

/// Where `path` below `root` really is, if root alone decides that. A symlink is followed if it is root's own and lies in
/// a folder that nobody else can change.
///
/// # Errors
/// The first folder or link that somebody else can change, or that is not there.
pub fn followed(root: &Path, path: &Path) -> Result<PathBuf, UntrustedReadError> {
    const MOST_LINKS: usize = 40;
    if let Some(fault) = root_fault(root) {
        return Err(UntrustedReadError::Fault(fault));
    }

    let (mut at, mut left, mut links) = (PathBuf::from("/"), reversed(path), 0);
    while let Some(part) = left.pop() {
        if part == "/" {
            at = PathBuf::from("/");
            continue;
        }
        if part == ".." {
            at.pop();
            continue;
        }

        let next = at.join(&part);
        let found = fstatat(AT_FDCWD, &below(root, &next), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|errno| unreachable(&next, errno))?;
        if found.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFLNK.bits() {
            // The file itself is checked when it is open.
            if !left.is_empty()
                && let Some(fault) = fault(Ok(found), &next)
            {
                return Err(UntrustedReadError::Fault(fault));
            }
            at = next;
            continue;
        }

        // A link has no mode. In a folder that is root's alone, only the link's owner counts.
        if found.st_uid != ROOT {
            let why = format!("is a symlink of user {}", found.st_uid);
            return Err(UntrustedReadError::Fault(Fault {
                path: next,
                why,
                command: "chown -h root:root",
            }));
        }
        links += 1;
        let target = readlinkat(AT_FDCWD, &below(root, &next));
        let target = target.map_err(|errno| unreachable(&next, errno))?;
        if links > MOST_LINKS {
            return Err(unreachable(&next, Errno::ELOOP));
        }
        left.extend(reversed(Path::new(&target)));
    }
    Ok(at)
}

fn reversed(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

fn unreachable(at: &Path, errno: Errno) -> UntrustedReadError {
    UntrustedReadError::Obstacle(match errno {
        Errno::ENOENT => PathError::Unopenable(errno),
        errno => PathError::Unreachable(at.to_owned(), errno),
    })
}

impl Place {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another file in the same folder.
    pub fn beside(&self, name: &str) -> Self {
        Self { path: self.path.with_file_name(name), name: name.into(), ..self.clone() }
    }

    /// Opens the file for reading, without following a symlink; `None` if there is none.
    ///
    /// # Errors
    /// [`PathError::Symlink`] or [`PathError::Unopenable`].
    pub fn open(&self) -> Result<Option<File>, PathError> {
        // O_NONBLOCK: a FIFO in its place must not keep us waiting.
        self.open_as(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
    }

    /// Reads the whole file, if root alone can change it and the folders above it. Gives `None` if there is no file.
    ///
    /// # Errors
    /// See [`UntrustedReadError`]. Nothing is read of a file that others can change.
    pub fn read(&self) -> Result<Option<Vec<u8>>, UntrustedReadError> {
        Ok(self.read_for_change()?.map(|contents| contents.bytes))
    }

    /// Like [`Place::read`], with the owner, mode and version that [`Place::replace`] needs.
    ///
    /// # Errors
    /// See [`Place::read`].
    pub fn read_for_change(&self) -> Result<Option<Contents>, UntrustedReadError> {
        let Some(file) = self.open().map_err(UntrustedReadError::Obstacle)? else {
            return Ok(None);
        };

        let stat = fstat(&file);
        if let Some(fault) = self.fault.clone().or_else(|| fault(stat, &self.path)) {
            return Err(UntrustedReadError::Fault(fault));
        }

        let stat = stat
            .map_err(|errno| UntrustedReadError::Obstacle(PathError::Unreadable(errno.into())))?;
        let bytes = read_regular(&file, &stat).map_err(UntrustedReadError::Obstacle)?;
        Ok(Some(Contents { bytes, like: Like::from(&stat), version: Version::of(&stat) }))
    }

    /// Opens the file only to look at its owner and mode, which needs no right to read it.
    ///
    /// # Errors
    /// [`PathError::Unopenable`].
    pub fn look(&self) -> Result<Option<File>, PathError> {
        self.open_as(OFlag::O_PATH)
    }

    fn open_as(&self, flags: OFlag) -> Result<Option<File>, PathError> {
        match self.folder.open(&self.name, flags) {
            Ok(fd) => Ok(Some(File::from(fd))),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => Err(PathError::Symlink),
            Err(errno) => Err(PathError::Unopenable(errno)),
        }
    }

    /// The folder, opened so that it can be locked and synced.
    ///
    /// # Errors
    /// The errno of openat(2).
    pub fn folder(&self) -> Result<File, Errno> {
        self.folder.open(OsStr::new("."), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(File::from)
    }

    /// Whether root alone can change the folders above the file, and `file` itself if it is given.
    ///
    /// # Errors
    /// The first that others can change.
    pub fn trust(&self, file: Option<&File>) -> Result<(), Fault> {
        let fault = self.fault.clone();
        match fault.or_else(|| file.and_then(|file| self::fault(fstat(file), &self.path))) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Puts `bytes` in the place of the file: a new file with owner and mode `like` is synced and renamed to it.
    ///
    /// Whenever this is interrupted, the old file is there or the new one, complete. The next run removes what is left
    /// over. Callers hold a lock on the folder.
    ///
    /// # Errors
    /// [`ReplaceError::Changed`] if the file is no longer `version` (`None`: there was none). After any error the old
    /// file is there, except after [`ReplaceError::Unsynced`].
    pub fn replace(
        &self,
        folder: &File,
        bytes: &[u8],
        like: &Like,
        version: Option<Version>,
    ) -> Result<(), ReplaceError> {
        use ReplaceError::Failed;
        self.clear(folder);
        let new = Temporary::create(folder, &self.name).map_err(|e| Failed("create", e))?;
        let mut file = &new.file;
        file.write_all(bytes).map_err(|e| Failed("write", errno_of(&e)))?;

        // The owner is set first, because chown clears bits of the mode.
        fchown(file, Some(Uid::from_raw(like.uid)), Some(Gid::from_raw(like.gid)))
            .and_then(|()| fchmod(file, Mode::from_bits_truncate(like.mode)))
            .map_err(|e| Failed("set owner and mode of", e))?;
        file.sync_all().map_err(|e| Failed("write", errno_of(&e)))?;

        let now = fstatat(folder, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        match now.map(|stat| Version::of(&stat)) {
            Ok(now) if version == Some(now) => {}
            Err(Errno::ENOENT) if version.is_none() => {}
            Ok(_) | Err(Errno::ENOENT) => return Err(ReplaceError::Changed),
            Err(errno) => return Err(Failed("look at", errno)),
        }

        new.rename(&self.name).map_err(|e| Failed("rename", e))?;
        folder.sync_all().map_err(|e| ReplaceError::Unsynced(errno_of(&e)))
    }

    /// Like [`Place::replace`], for a file that is only this program's and need not outlast a power cut. Nobody else
    /// may read it, and it is not synced. Callers hold a lock on the folder.
    ///
    /// # Errors
    /// The errno of what failed; the file is as it was.
    pub fn put(&self, folder: &File, bytes: &[u8]) -> Result<(), Errno> {
        let new = match Temporary::create(folder, &self.name) {
            // A run that was killed has left it.
            Err(Errno::EEXIST) => {
                self.clear(folder);
                Temporary::create(folder, &self.name)
            }
            created => created,
        }?;
        (&new.file).write_all(bytes).map_err(|e| errno_of(&e))?;
        new.rename(&self.name)
    }

    /// Removes the temporary file that a killed run has left. Callers hold a lock on the folder.
    pub fn clear(&self, folder: &File) {
        // If this fails, the next write reports it.
        let _ = unlinkat(folder, temporary(&self.name).as_os_str(), UnlinkatFlags::NoRemoveDir);
    }

    /// Removes the file and syncs the folder.
    ///
    /// # Errors
    /// The errno of unlinkat(2) or fsync(2).
    pub fn remove(&self, folder: &File) -> Result<(), Errno> {
        unlinkat(folder, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
        folder.sync_all().map_err(|e| errno_of(&e))
    }
}

/// Reads the whole open file.
///
/// # Errors
/// [`PathError::NotRegular`], [`PathError::TooLarge`] or [`PathError::Unreadable`].
pub fn contents(file: &File) -> Result<Vec<u8>, PathError> {
    let stat = fstat(file).map_err(|errno| PathError::Unreadable(errno.into()))?;
    read_regular(file, &stat)
}

fn read_regular(file: &File, stat: &FileStat) -> Result<Vec<u8>, PathError> {
    if SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) != SFlag::S_IFREG {
        return Err(PathError::NotRegular);
    }

    let bytes = read_to_end(file, LARGEST, EndOfFile::ShortRead)
        .map_err(|errno| PathError::Unreadable(errno.into()))?;
    if bytes.len() as u64 > LARGEST { Err(PathError::TooLarge) } else { Ok(bytes) }
}

/// Reads a whole file of the system, such as /etc/hosts. Its owner, mode and size are not checked. A table of /proc is
/// recognized by a folder called proc in its path.
///
/// # Errors
/// The errno of openat(2) or read(2).
pub fn whole(path: &Path) -> Result<Vec<u8>, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let proc = path.components().any(|part| part.as_os_str() == "proc");
    let end = if proc { EndOfFile::EmptyRead } else { EndOfFile::ShortRead };
    read_to_end(&openat(AT_FDCWD, path, flags, Mode::empty())?, u64::MAX, end)
}

/// How the end of a file is recognized.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EndOfFile {
    /// By a read that gives less than was asked for: a file on a disk gives all that it has.
    ShortRead,
    /// By a read that gives nothing: a table of /proc comes in pieces.
    EmptyRead,
}

/// Reads until the end, or until there are more than `most` bytes. This takes few calls. If a file does not give its
/// size, std begins with 32 bytes; those reads were half of the system calls of a session start.
fn read_to_end(fd: &impl AsFd, most: u64, end: EndOfFile) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 8192];
    while bytes.len() as u64 <= most {
        match nix::unistd::read(fd, &mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                bytes.extend_from_slice(chunk.get(..n).unwrap_or_default());
                if end == EndOfFile::ShortRead && n < chunk.len() {
                    break;
                }
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(bytes)
}

/// Where the absolute `path` is on a machine whose root is `root` (`/` outside of tests).
pub fn below(root: &Path, path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Whether nothing at all is at `path` below `root`. This takes one system call, where [`find`] takes many.
pub fn absent(root: &Path, path: &Path) -> bool {
    let found = fstatat(AT_FDCWD, &below(root, path), AtFlags::AT_SYMLINK_NOFOLLOW);
    matches!(found, Err(Errno::ENOENT | Errno::ENOTDIR))
}

/// What is wrong with the owner or mode of `path`, so that somebody other than root can change it.
fn fault(stat: Result<FileStat, Errno>, path: &Path) -> Option<Fault> {
    let (why, command) = match stat {
        Err(e) => (format!("cannot be examined ({})", e.desc()), "ls -ld"),
        Ok(stat) if stat.st_uid != ROOT => {
            (format!("belongs to user {}", stat.st_uid), "chown root:root")
        }
        Ok(stat) if stat.st_mode & 0o022 != 0 => {
            (format!("has mode {:04o}", stat.st_mode & 0o7777), "chmod go-w")
        }
        Ok(_) => return None,
    };
    Some(Fault { path: path.to_owned(), why, command })
}

/// A file was not replaced, or not for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplaceError {
    /// Somebody else has changed it since it was read.
    Changed,
    /// The verb for what was tried ("write"), and the errno.
    Failed(&'static str, Errno),
    /// It was replaced, but may not be on the disk yet.
    Unsynced(Errno),
}

/// The temporary name for a new file called `name`. All runs use the same one. So the run that holds the lock knows
/// that such a file is left over from a killed run.
fn temporary(name: &OsStr) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".efs-agent");
    temporary
}

/// A file under its temporary name; removed unless [`Temporary::rename`] succeeds.
struct Temporary<'a> {
    folder: &'a File,
    name: Option<OsString>,
    file: File,
}

impl<'a> Temporary<'a> {
    fn create(folder: &'a File, of: &OsStr) -> Result<Self, Errno> {
        let name = temporary(of);
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(folder, name.as_os_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(Self { folder, name: Some(name), file: File::from(fd) })
    }

    fn rename(mut self, to: &OsStr) -> Result<(), Errno> {
        if let Some(name) = &self.name {
            renameat(self.folder, name.as_os_str(), self.folder, to)?;
            self.name = None;
        }
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = unlinkat(self.folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}
