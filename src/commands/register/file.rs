//! Reads config.json and the script beside it, if root alone can change them. Their contents are
//! understood elsewhere, and nothing is written here.

use super::error::RegisterError;
use crate::appstream::registration::LONGEST;
use crate::files::{Contents, Fault, PathError, Place, UntrustedReadError};
use std::path::Path;

/// Reads the file at `place`; `None` if there is none.
///
/// # Errors
/// Why it cannot be read, or who else can change it.
pub fn read(place: &Place) -> Result<Option<Contents>, RegisterError> {
    place.read_for_change().map_err(|e| match e {
        UntrustedReadError::Obstacle(obstacle) => hindered(place.path(), obstacle),
        UntrustedReadError::Fault(fault) => untrusted(place, fault),
    })
}

/// Checks that root alone can change the place.
///
/// # Errors
/// [`RegisterError::Untrusted`].
pub fn trust(place: &Place) -> Result<(), RegisterError> {
    place.trust(None).map_err(|fault| untrusted(place, fault))
}

fn untrusted(place: &Place, fault: Fault) -> RegisterError {
    RegisterError::Untrusted { file: place.path().to_owned(), fault }
}

pub fn hindered(file: &Path, obstacle: PathError) -> RegisterError {
    RegisterError::PathError { file: file.to_owned(), obstacle }
}

/// The path as text, if config.json can hold it.
///
/// # Errors
/// [`RegisterError::UnfitPath`].
pub fn fit_path(path: &Path) -> Result<&str, RegisterError> {
    let text = path.to_str().filter(|path| path.chars().count() <= LONGEST);
    text.ok_or_else(|| RegisterError::UnfitPath(path.to_owned()))
}
