//! A token that somebody else keeps fresh in a file.

use crate::aws::secret::Secret;
use crate::aws::trust::real;
use crate::aws::types::Problem;
use crate::aws::world::World;
use crate::files::{self, Obstacle};
use std::path::Path;
use zeroize::Zeroizing;

/// The token in a file. It may be reached by symlinks, as Kubernetes lays them.
///
/// # Errors
/// [`Problem::File`], [`Problem::NotText`].
pub fn read(path: &Path, world: &World<'_>) -> Result<Secret, Problem> {
    let failed = |obstacle| Problem::File { path: path.to_owned(), obstacle };
    let missing = || failed(Obstacle::Unopenable(nix::errno::Errno::ENOENT));
    let real = real(world.root, path).ok_or_else(missing)?;
    let file = files::find(world.root, &real).and_then(|place| place.open()).map_err(failed)?;
    let bytes = Zeroizing::new(files::contents(&file.ok_or_else(missing)?).map_err(failed)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::NotText(path.to_owned()))?;
    Ok(Secret::new(text.trim().to_owned()))
}
