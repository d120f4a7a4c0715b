//! What a file or a folder was when it was looked at: its owner and mode, and whether it is still the same. Nothing is
//! opened for its contents here.

use super::{ROOT, find};
use nix::errno::Errno;
use nix::sys::stat::{FileStat, fstat};
use std::fmt;
use std::fs::File;
use std::path::Path;

/// Owner and mode that a file has, or is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Like {
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, without the kind of file.
    pub mode: u32,
}

impl Like {
    /// Owner and mode of an open file.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn of(file: &File) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::from(&stat))
    }

    /// Owned by root, with `mode`.
    pub fn root(mode: u32) -> Self {
        Self { uid: ROOT, gid: ROOT, mode }
    }
}

impl From<&FileStat> for Like {
    fn from(stat: &FileStat) -> Self {
        Self { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode & 0o7777 }
    }
}

/// A file that root alone can change, as it was when it was read.
#[derive(Debug)]
pub struct Contents {
    pub bytes: Vec<u8>,
    pub like: Like,
    pub version: Version,
}

/// Shows whether a file is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    file: (u64, u64),
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    /// The version of an open file.
    ///
    /// # Errors
    /// The errno of fstat(2).
    pub fn read(file: &File) -> Result<Self, Errno> {
        fstat(file).map(|stat| Self::of(&stat))
    }

    pub(super) fn of(stat: &FileStat) -> Self {
        Self {
            file: (stat.st_dev, stat.st_ino),
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// Identifies a folder. One that was removed and made anew counts as another, and so does one whose owner or mode was
/// changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl FolderId {
    /// The folder with this status.
    pub fn of(stat: &FileStat) -> Self {
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        Self { device: stat.st_dev, inode: stat.st_ino, changed }
    }

    /// The folder `path`, if it is there and nothing is mounted on it.
    pub fn at(root: &Path, path: &Path) -> Option<Self> {
        let folder = find(root, path).ok()?.look().ok()??;
        fstat(&folder).ok().map(|stat| Self::of(&stat))
    }
}

impl fmt::Display for FolderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = self.changed;
        write!(f, "{}:{}:{seconds}.{nanos}", self.device, self.inode)
    }
}
