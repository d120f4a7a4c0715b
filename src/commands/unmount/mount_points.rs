//! Removes the mount points that were made for shares which are gone, and those that killed runs
//! made. They go only if they are empty. Nothing is unmounted here.

use crate::config::Share;
use crate::kernel::mount_table;
use crate::log::Log;
use crate::retry::{Clock, Deadline};
use crate::share::linux::Linux;
use crate::share::mount_point;
use crate::status;
use crate::status::record::Status;
use crate::status::unfinished::MadePoint;
use std::path::Path;

/// What was known before anything was unmounted.
pub struct KnownBefore {
    pub status: Status,
    /// The mount points that killed runs made.
    pub orphans: Vec<MadePoint>,
}

impl KnownBefore {
    /// What is known now.
    pub fn read(root: &Path) -> Self {
        let status = status::read(root);
        let orphans = status.orphans(root);
        Self { status, orphans }
    }
}

/// Removes the mount points of the `shares` that are gone, if they were made for them, and forgets these shares.
pub fn remove<C: Clock + Sync>(
    machine: &Linux<'_, C>,
    shares: &[&Share],
    before: &KnownBefore,
    until: Deadline,
    log: &Log,
) {
    let KnownBefore { status: before, orphans } = before;
    let living = status::read(machine.root).living(machine.root);
    for share in shares {
        if !matches!(machine.found(share, until), Ok(None)) {
            continue;
        }

        let is_orphan = orphans.iter().any(|one| one.path == share.mount_point);
        if before.made(share) && !is_orphan {
            if living.is_some() {
                // That run may be about to mount the share there.
                continue;
            }
            // A folder that is not empty stays: files were in it before the share was mounted.
            if mount_point::remove(machine.root, &share.mount_point).is_err() {
                warn_if_not_empty(machine.root, &share.mount_point, log);
            }
        }
        status::forget(machine.root, share, before);
    }

    clear(machine, orphans, living, log);
}

/// Removes the mount points that killed runs made, if they are empty and nothing is mounted on
/// them. None goes while a run goes on (`living`): it may be about to mount its share there.
pub fn clear<C: Clock + Sync>(
    machine: &Linux<'_, C>,
    orphans: &[MadePoint],
    living: Option<u32>,
    log: &Log,
) {
    if orphans.is_empty() {
        return;
    }

    if let Some(pid) = living {
        for point in orphans {
            log.info(format_args!(
                "{}: left: a run that was killed had made it, and another runs (process {pid})",
                point.path.display()
            ));
        }
        return;
    }

    let bytes = machine.table().unwrap_or_default();
    let table = mount_table::parse(&bytes);
    // A mount on the way to it may have a dead server, so the folder is not touched then.
    let is_free = |one: &&MadePoint| {
        let point = &one.path;
        mount_table::top_at(&table, point).is_none()
            && mount_table::remote_above(&table, point).is_none()
    };

    let mut cleared = Vec::new();
    for point in orphans.iter().filter(is_free).filter(|_| !table.is_empty()) {
        // A folder that was changed since, or is not empty, belongs to somebody else by now.
        if point.is_there(machine.root) && mount_point::remove(machine.root, &point.path).is_ok() {
            log.info(format_args!(
                "{}: removed: a run that was killed had made it",
                point.path.display()
            ));
        } else {
            warn_if_not_empty(machine.root, &point.path, log);
        }
        cleared.push(point.clone());
    }

    status::cleared(machine.root, &cleared);
}

fn warn_if_not_empty(root: &Path, point: &Path, log: &Log) {
    if mount_point::entries(root, point).is_some_and(|count| count > 0) {
        log.warning(format_args!(
            "{} was left: there are files in it, which are on this machine only",
            point.display()
        ));
    }
}
