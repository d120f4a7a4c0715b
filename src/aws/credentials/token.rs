//! A token that somebody else keeps fresh in a file.

use crate::aws::secret::Secret;
use crate::aws::types::Problem;
use crate::aws::world::World;
use crate::files::{self, Obstacle, Refused};
use std::path::Path;
use zeroize::Zeroizing;

/// The token in a file that root alone can change. It may be reached by symlinks, as Kubernetes lays them, but
/// not by those of a user, who could have any file of root's sent away.
///
/// # Errors
/// [`Problem::File`], [`Problem::NotText`], [`Problem::Changeable`].
pub fn read(path: &Path, world: &World<'_>) -> Result<Secret, Problem> {
    let failed = |obstacle| Problem::File { path: path.to_owned(), obstacle };
    let changeable = |fault| Problem::Changeable { path: path.to_owned(), fault };
    let real = files::followed(world.root, path);
    let bytes = real.and_then(|real| files::read(world.root, &real)).map_err(|e| match e {
        Refused::Obstacle(obstacle) => failed(obstacle),
        Refused::Fault(fault) => changeable(fault),
    })?;
    let missing = || failed(Obstacle::Unopenable(nix::errno::Errno::ENOENT));
    let bytes = Zeroizing::new(bytes.ok_or_else(missing)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::NotText(path.to_owned()))?;
    Ok(Secret::new(text.trim().to_owned()))
}
