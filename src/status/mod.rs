//! Reads, locks and replaces /run/efs-agent/status.json. The file says how the last session start
//! ended, for people and for `status`. It also lists what the runs of this boot mounted, which
//! mount points they made, and which runs have not ended. So a mount stays known even if the config
//! changes or goes. [`record`] has the contents of the file. Nothing here mounts or unmounts.

mod begun;
pub mod record;
#[cfg(test)]
mod tests;
pub mod unfinished;

pub use begun::{Begun, Made, cleared};

use crate::config::Share;
use crate::files::{self, Fault, PathError, Place};
use crate::json;
use crate::kernel::mount_table;
use crate::kernel::namespace::{Namespace, namespace};
use crate::sys;
use nix::errno::Errno;
use record::{ClientRecord, ShareRecord, Status};
use std::fs::{DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;
use unfinished::MadePoint;

/// The path of the file.
pub const STATUS: &str = "/run/efs-agent/status.json";
/// The file keeps at most this many mounts by earlier runs.
const MOST: usize = 256;
/// How often a locked file is tried again, and the pause in between. Another run writes it within
/// an instant.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRun {
    /// When, in RFC 3339.
    pub at: String,
    /// Whether it was a run by hand, with `--once`.
    pub once: bool,
    /// The path of its config.
    pub config: String,
    /// Its exit code.
    pub exit: u8,
    /// Who the machine was to its servers.
    pub client: Option<ClientRecord>,
    /// What became of each share.
    pub shares: Vec<ShareResult>,
}

/// What became of one share in a run, and what is known about the folder that it was mounted on.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareResult {
    /// The record as far as this run knows: an earlier run may have made the mount point.
    pub record: ShareRecord,
    /// Whether the share is where an earlier run put it: it was mounted there already, or this run
    /// mounted it there anew.
    pub is_old: bool,
    /// The folder that it is mounted on, if that was there before, as [`files::FolderId`] writes it.
    pub over: Option<String>,
}

impl ShareResult {
    /// The record for the file, which held `before` until now. If this run did not make the mount
    /// point, another one may have. That may be an earlier run, or a run at the same time that was
    /// slower to mount.
    fn recorded(self, before: &Status, orphans: &[MadePoint]) -> ShareRecord {
        let Self { mut record, is_old, over } = self;
        let Some(mount) = &record.mount else {
            return record;
        };

        let is_known = is_old || before.has_mount(mount.id, &mount.device);
        let point = Path::new(&record.mount_point);
        let made_before = |one: &ShareRecord| one.made && one.mount_point == record.mount_point;
        record.made |= is_known && before.records().any(made_before)
            || orphans.iter().any(|one| one.is(point, over.as_deref()));
        record
    }
}

/// Why the file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Something is in the way to the file, such as a missing folder.
    #[error("{STATUS} {0}")]
    Obstacle(#[from] PathError),
    /// The system refuses the write.
    #[error("{}", unwritten(*.0))]
    Unwritten(#[from] Errno),
    /// Another run keeps the lock.
    #[error("{STATUS} is not written: another run keeps its folder locked")]
    Locked,
    /// Others than root could change it.
    #[error("{STATUS} is not written: {} {} ({})", .0.path.display(), .0.why, .0.mend())]
    Untrusted(Fault),
}

fn unwritten(errno: Errno) -> String {
    let cure = match errno {
        Errno::ENOSPC | Errno::EDQUOT => ": make room in /run (df -h /run, df -i /run)",
        Errno::EROFS => ": /run must be writable",
        _ => "",
    };
    let why = errno.desc().to_lowercase();
    format!(
        "{STATUS} cannot be written ({why}, {errno:?}), so that status and unmount do not know of this run{cure}"
    )
}

/// The text of the file, if there is one that root alone can have written. `root` is `/` outside of tests.
pub fn text(root: &Path) -> Option<String> {
    text_of(&files::find(root, Path::new(STATUS)).ok()?)
}

fn text_of(place: &Place) -> Option<String> {
    String::from_utf8(place.read().ok()??).ok()
}

/// The contents of the file. They are empty where there is no file that can be trusted and
/// understood.
pub fn read(root: &Path) -> Status {
    text(root).and_then(|text| Status::parse(&text)).unwrap_or_default()
}

/// Writes down how a run ended.
///
/// # Errors
/// Why it cannot be written. The shares are not affected.
pub fn write(root: &Path, run: EndedRun) -> Result<(), StatusError> {
    let file = LockedFile::open_or_make(root)?;
    let before = file.read();
    file.replace(&ended(root, run, &before))
}

/// The file's contents after this run, if they were `before` until now.
fn ended(root: &Path, run: EndedRun, before: &Status) -> Status {
    let orphans = before.orphans(root);
    let shares: Vec<ShareRecord> =
        run.shares.into_iter().map(|one| one.recorded(before, &orphans)).collect();

    Status {
        at: Some(run.at),
        once: Some(run.once),
        config: Some(run.config),
        exit: Some(run.exit),
        client: run.client,
        earlier: earlier(root, before, &shares),
        unfinished: begun::left(root, before, &shares),
        shares,
        ..Status::default()
    }
}

/// The mounts in `before` that are still there, and that this run (with `shares`) did not find.
fn earlier(root: &Path, before: &Status, shares: &[ShareRecord]) -> Vec<ShareRecord> {
    let found = |one: &ShareRecord| {
        let mut mounts = shares.iter().filter_map(|share| share.mount.as_ref());
        let known = one.mount.as_ref();
        mounts.any(|mount| known.is_some_and(|known| known.is_mount(mount.id, &mount.device)))
    };
    let others: Vec<&ShareRecord> = before.mounts().filter(|one| !found(one)).collect();
    if others.is_empty() {
        return Vec::new();
    }

    // A run in a private mount namespace does not see what is mounted for everybody else.
    let sees_all = namespace(&root.join("proc")) != Namespace::Private;
    let bytes = files::whole(&root.join("proc/self/mountinfo")).unwrap_or_default();
    let table = mount_table::parse(&bytes);
    let is_mounted = |one: &&ShareRecord| !sees_all || table.iter().any(|entry| one.is(entry));
    others.into_iter().filter(is_mounted).take(MOST).cloned().collect()
}

/// Notes a share that is mounted while others of its run are not yet. So it stays known even if the
/// run is killed.
pub fn remember(root: &Path, share: ShareResult) {
    let Ok(file) = LockedFile::open_or_make(root) else {
        return;
    };
    let mut status = file.read();
    let orphans = status.orphans(root);
    let record = share.recorded(&status, &orphans);
    status.earlier.push(record);
    let _ = file.replace(&status);
}

/// Notes that nothing is mounted at the mount point of `share` any more, and that the folder no
/// longer counts as made for it. What is mounted or made there next belongs to somebody else. Notes
/// nothing if the share was mounted anew since the file held `before`.
pub fn forget(root: &Path, share: &Share, before: &Status) {
    let Ok(file) = LockedFile::open(root) else {
        return;
    };
    let status = file.read();
    if let Some(new) = forgotten(&status, share, before).filter(|new| *new != status) {
        let _ = file.replace(&new);
    }
}

fn forgotten(status: &Status, share: &Share, before: &Status) -> Option<Status> {
    let is_new = |one: &ShareRecord| !before.mounts().any(|known| known.mount == one.mount);
    if status.mounts().any(|one| one.is_of(share) && is_new(one)) {
        return None;
    }
    let mut new = status.clone();
    for one in new.records_mut().filter(|one| one.is_of(share)) {
        (one.made, one.mount) = (false, None);
    }
    Some(new)
}

/// How the last run ended, or that it did not end, in one line. `None` where there was no run.
pub fn last_run(root: &Path, status: &Status) -> Option<String> {
    begun::unfinished(root, status).or_else(|| status.ended())
}

/// What a run is called in such a line.
fn name_of_run(once: bool) -> &'static str {
    match once {
        true => "the last run, by hand with --once,",
        false => "the last session start",
    }
}

/// The file, with its folder locked until this is dropped.
struct LockedFile {
    place: Place,
    folder: File,
    /// Whether the folder was made just now: then there is no file in it.
    is_new: bool,
}

impl LockedFile {
    /// Locks the folder, and makes it if it is missing. It is closed to others, so that nobody else
    /// can hold the lock.
    fn open_or_make(root: &Path) -> Result<Self, StatusError> {
        let made = DirBuilder::new().mode(0o700).create(root.join("run/efs-agent"));
        match (Self::open(root), made) {
            (Ok(file), made) => Ok(Self { is_new: made.is_ok(), ..file }),
            // A folder that exists already is not why the file cannot be opened.
            (Err(_), Err(e)) if e.kind() != ErrorKind::AlreadyExists => {
                Err(StatusError::Unwritten(sys::errno_of(&e)))
            }
            (Err(why), _) => Err(why),
        }
    }

    fn open(root: &Path) -> Result<Self, StatusError> {
        let place = files::find(root, Path::new(STATUS))?;
        let folder = place.folder()?;
        let mut tries = 0..LOCK_TRIES;
        while sys::lock_now(&folder).is_err() {
            tries.next().ok_or(StatusError::Locked)?;
            std::thread::sleep(LOCK_PAUSE);
        }
        place.trust(None).map_err(StatusError::Untrusted)?;
        Ok(Self { place, folder, is_new: false })
    }

    fn read(&self) -> Status {
        let text = if self.is_new { None } else { text_of(&self.place) };
        text.and_then(|text| Status::parse(&text)).unwrap_or_default()
    }

    fn replace(&self, status: &Status) -> Result<(), StatusError> {
        let text = json::written(status) + "\n";
        Ok(self.place.put(&self.folder, text.as_bytes())?)
    }
}
