//! The tunnels' files below /run: made and replaced so that root alone can change them, and believed only if that is
//! so. Others decide what is in them.

use super::error::named;
use super::instance::{FOLDER, Instance};
use crate::files::{self, Like, ReplaceError, Version};
use crate::sys;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// A file that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {why}", .path.display())]
pub struct RunFileError {
    pub path: PathBuf,
    /// To be read behind the path: "cannot be made: …".
    pub why: String,
}

/// Makes the tunnels' folder.
///
/// # Errors
/// What mkdir(2) says.
pub fn make_folder(root: &Path) -> Result<(), RunFileError> {
    make(root, Path::new(FOLDER), 0o700)
}

fn make(root: &Path, path: &Path, mode: u32) -> Result<(), RunFileError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(files::below(root, path));
    made.map_err(|e| RunFileError {
        path: path.to_owned(),
        why: format!("cannot be made: {}", named(sys::errno_of(&e))),
    })
}

/// The text of a file that root alone can change.
pub fn read(root: &Path, path: &Path) -> Option<String> {
    let bytes = files::find(root, path).ok()?.read().ok()??;
    String::from_utf8(bytes).ok()
}

/// Writes a file as a whole, so that root alone may change it. Does nothing if it has this text already.
///
/// # Errors
/// What is in the way.
pub fn write(root: &Path, path: &Path, text: &str, mode: u32) -> Result<(), RunFileError> {
    let above = path.parent().unwrap_or(path);
    make(root, above, if above == Path::new(FOLDER) { 0o700 } else { 0o755 })?;
    replace(root, path, text, mode).map_err(|why| RunFileError { path: path.to_owned(), why })
}

fn replace(root: &Path, path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let place = files::find(root, path).map_err(|e| e.to_string())?;
    let folder = place.folder().map_err(named)?;
    let file = place.open().map_err(|e| e.to_string())?;
    place
        .trust(file.as_ref())
        .map_err(|fault| format!("cannot be trusted: {} {}", fault.path.display(), fault.why))?;

    if let Some(file) = &file
        && files::contents(file).is_ok_and(|bytes| bytes == text.as_bytes())
    {
        return Ok(());
    }

    let version = file.as_ref().and_then(|file| Version::read(file).ok());
    let replaced = place.replace(&folder, text.as_bytes(), &Like::root(mode), version);
    replaced.map_err(not_replaced)
}

/// Why a file was not replaced, to be read behind its name.
pub fn not_replaced(error: ReplaceError) -> String {
    match error {
        ReplaceError::Changed => "was changed by somebody else just now".into(),
        ReplaceError::Failed(verb, errno) => format!("failed: cannot {verb} it: {}", named(errno)),
        ReplaceError::Unsynced(errno) => {
            format!("is written, but not for certain: {}", named(errno))
        }
    }
}

/// Writes down the local port of the tunnel for `mount_point`.
///
/// # Errors
/// What is in the way.
pub fn write_port(root: &Path, mount_point: &Path, port: u16) -> Result<(), RunFileError> {
    write(root, &Instance::of(mount_point).port(), &format!("{port}\n"), 0o600)
}

/// The local port that a tunnel was started with, or was to be started with.
pub fn written_port(root: &Path, instance: &Instance) -> Option<u16> {
    read(root, &instance.port())?.trim().parse().ok()
}
