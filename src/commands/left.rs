//! Finds the shares that were mounted in this boot and are not in the config, because it was
//! changed since, or is gone. A command that takes shares down or reports them must not overlook
//! these. Nothing is changed here.

use super::error::CommandError;
use super::settings::{self, SettingsError};
use crate::config::{Settings, Share, file};
use crate::kernel::mount_table;
use crate::share::linux::Linux;
use crate::status;
use crate::stop::SystemClock;
use std::path::{Path, PathBuf};

/// All shares that a command knows of.
pub struct KnownShares {
    /// The config file; the usual one, where none can be used.
    pub config: PathBuf,
    /// Its settings; those of no share, where none can be used.
    pub settings: Settings,
    /// The mounted shares that are not in it, the latest first.
    pub left: Vec<Share>,
    /// Why the config cannot be used, if so.
    pub refused: Option<CommandError>,
}

/// The shares of the config, and those that the runs of this boot have noted.
///
/// # Errors
/// The config cannot be used, and nothing else is known either.
pub fn known(
    machine: &Linux<'_, SystemClock<'_>>,
    config: Option<&Path>,
) -> Result<KnownShares, SettingsError> {
    let (config, settings, refused) = match settings::find(machine.root, config) {
        Ok((path, settings)) => (path, settings, None),
        Err(why) => {
            let left = left(machine, &[]);
            if left.is_empty() {
                return Err(why);
            }
            let config = config.map_or_else(|| file::INSTALLED.into(), Path::to_owned);
            let (settings, refused) = (Settings::of_no_share(), Some(why.into()));
            return Ok(KnownShares { config, settings, left, refused });
        }
    };

    let left = left(machine, &settings.shares);
    Ok(KnownShares { config, settings, left, refused })
}

/// The shares that an earlier run of this boot mounted, that still are mounted, and that are not
/// among `shares`.
pub fn left(machine: &Linux<'_, SystemClock<'_>>, shares: &[Share]) -> Vec<Share> {
    let status = status::read(machine.root);
    let others = status.mounts().filter(|one| !shares.iter().any(|share| one.is_share(share)));
    let others: Vec<_> = others.collect();

    // Mostly there are none, so the table is read only where there is a reason to.
    let bytes = match others.is_empty() {
        true => Vec::new(),
        false => machine.table().unwrap_or_default(),
    };
    let table = mount_table::parse(&bytes);
    let mounted = others.iter().filter(|one| table.iter().any(|entry| one.is(entry)));
    mounted.map(|one| one.share()).collect()
}
