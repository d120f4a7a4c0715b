//! What this boot has mounted and started, and the config does not have: it was changed since, or is gone. Whoever
//! takes shares down or tells of them must not overlook it. Changes nothing.

use super::Refusal;
use super::settings::{self, SettingsError};
use crate::config::{Settings, Share, file};
use crate::kernel::mount_table;
use crate::share::linux::Linux;
use crate::status;
use crate::stop::SystemClock;
use std::path::{Path, PathBuf};

/// What a command goes by that is to find all that is there.
pub struct Known {
    /// The config file; the usual one, where none can be used.
    pub config: PathBuf,
    /// What is in it; no share, where none can be used.
    pub settings: Settings,
    /// The shares that are mounted, and are not in it, the latest first.
    pub left: Vec<Share>,
    /// Why the config cannot be used.
    pub refused: Option<Refusal>,
}

/// What the config has and what the machine remembers.
///
/// # Errors
/// Why the config cannot be used, where nothing else is known either.
pub fn known(
    machine: &Linux<'_, SystemClock<'_>>,
    config: Option<&Path>,
) -> Result<Known, SettingsError> {
    let (config, settings, refused) = match settings::find(machine.root, config) {
        Ok((path, settings)) => (path, settings, None),
        Err(why) => {
            let left = left(machine, &[]);
            if left.is_empty() {
                return Err(why);
            }
            let config = config.map_or_else(|| file::INSTALLED.into(), Path::to_owned);
            let (settings, refused) = (Settings::of_no_share(), Some(why.into()));
            return Ok(Known { config, settings, left, refused });
        }
    };
    let left = left(machine, &settings.shares);
    Ok(Known { config, settings, left, refused })
}

/// The shares that are mounted, as an earlier run of this boot has mounted them, and are not among `shares`.
pub fn left(machine: &Linux<'_, SystemClock<'_>>, shares: &[Share]) -> Vec<Share> {
    let status = status::read(machine.root);
    let others = status.mounts().filter(|one| !shares.iter().any(|share| one.is_share(share)));
    let others: Vec<_> = others.collect();
    // A start has nothing of it, mostly: the table is asked for where there is a reason to.
    let bytes = match others.is_empty() {
        true => Vec::new(),
        false => machine.table().unwrap_or_default(),
    };
    let table = mount_table::parse(&bytes);
    let mounted = others.iter().filter(|one| table.iter().any(|entry| one.is(entry)));
    mounted.map(|one| one.share()).collect()
}
