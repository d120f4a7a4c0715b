//! config.json and the script beside it as files: read as they are, if root alone can change them.

use super::error::RegisterError;
use crate::appstream::registration::LONGEST;
use crate::files::{self, Like, Obstacle, Place, Version};
use nix::errno::Errno;
use std::fs::File;
use std::path::Path;

/// A file as it was read.
pub struct FileRead {
    pub bytes: Vec<u8>,
    pub like: Like,
    pub version: Version,
}

/// Reads the file at `place`; `None` if there is none.
///
/// # Errors
/// Why it cannot be read, or who else can change it.
pub fn read(place: &Place) -> Result<Option<FileRead>, RegisterError> {
    let path = place.path();
    let Some(file) = place.open().map_err(|obstacle| hindered(path, obstacle))? else {
        return Ok(None);
    };
    trust(place, Some(&file))?;

    // Before the contents: a change while they are read shows.
    let (version, like) =
        version_and_like(&file).map_err(|e| hindered(path, Obstacle::Unreadable(e.into())))?;
    let bytes = files::contents(&file).map_err(|obstacle| hindered(path, obstacle))?;
    Ok(Some(FileRead { bytes, like, version }))
}

fn version_and_like(file: &File) -> Result<(Version, Like), Errno> {
    Ok((Version::read(file)?, Like::of(file)?))
}

/// Checks that root alone can change the place, and `file`, which was opened there.
///
/// # Errors
/// [`RegisterError::Untrusted`].
pub fn trust(place: &Place, file: Option<&File>) -> Result<(), RegisterError> {
    let trusted = place.trust(file);
    trusted.map_err(|fault| RegisterError::Untrusted { file: place.path().to_owned(), fault })
}

pub fn hindered(file: &Path, obstacle: Obstacle) -> RegisterError {
    RegisterError::Obstacle { file: file.to_owned(), obstacle }
}

/// A path as config.json can have it.
///
/// # Errors
/// [`RegisterError::UnfitPath`].
pub fn fit_path(path: &Path) -> Result<&str, RegisterError> {
    let text = path.to_str().filter(|path| path.chars().count() <= LONGEST);
    text.ok_or_else(|| RegisterError::UnfitPath(path.to_owned()))
}
