//! Notes a run before it ends, if it takes longer than most. If that run is then killed, later runs
//! know which mount points it made, and `status` knows that it began. A start that goes well ends
//! before there is anything to note. How the file is locked and replaced is the business of
//! [`super`].

use super::LockedFile;
use super::record::{ShareRecord, Status};
use super::unfinished::{MadePoint, UnfinishedRun, born};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The mount points that a run has made so far.
pub type Made = Arc<Mutex<Vec<PathBuf>>>;

/// A run that has begun.
#[derive(Debug)]
pub struct Begun {
    root: PathBuf,
    config: String,
    once: bool,
    at: String,
    made: Made,
    /// The mount points in the note; `None` before there is a note.
    noted: Mutex<Option<Vec<PathBuf>>>,
}

impl Begun {
    /// A run with `config` that begins now (`at`); `root` is `/` outside of tests.
    pub fn new(root: &Path, config: &Path, once: bool, at: String, made: Made) -> Self {
        let (root, config) = (root.to_owned(), config.to_string_lossy().into_owned());
        Self { root, config, once, at, made, noted: Mutex::new(None) }
    }

    /// Writes the note, unless that was done since the run last made a mount point.
    pub fn note(&self) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !self.is_news(&made) {
            return;
        }
        let Some(born) = born(&self.root, "self") else {
            return;
        };
        let Ok(file) = LockedFile::open_or_make(&self.root) else {
            return;
        };

        let run = UnfinishedRun {
            at: self.at.clone(),
            once: self.once,
            config: self.config.clone(),
            pid: std::process::id(),
            born,
            made: made.into_iter().filter_map(|path| MadePoint::at(&self.root, path)).collect(),
            earlier: false,
        };
        let mut status = file.read();
        status.unfinished.retain(|other| (other.pid, &other.born) != (run.pid, &run.born));
        status.unfinished.push(run);
        let _ = file.replace(&status);
    }

    /// Whether the note lacks these mount points. From now on they count as noted.
    fn is_news(&self, made: &[PathBuf]) -> bool {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.replace(made.to_owned()).as_deref() != Some(made)
    }
}

/// The unfinished runs that stay in the file when the run of this process has ended with these
/// shares. They are the runs that go on, and the killed runs whose mount points no run has looked
/// after yet.
pub(super) fn left(root: &Path, before: &Status, shares: &[ShareRecord]) -> Vec<UnfinishedRun> {
    let mut runs = before.unfinished.clone();
    if runs.is_empty() {
        return runs;
    }

    let (pid, born) = (std::process::id(), born(root, "self"));
    // Only a mounted share counts: a run that could not mount may have left the folder where it
    // was.
    let looked_after = |point: &MadePoint| {
        shares.iter().any(|one| one.mounted && Path::new(&one.mount_point) == point.path)
    };

    runs.retain_mut(|run| {
        if run.pid == pid && Some(&run.born) == born.as_ref() {
            return false;
        }
        if run.runs(root) {
            return true;
        }
        run.earlier = true;
        run.made.retain(|point| !looked_after(point));
        !run.made.is_empty()
    });
    runs
}

/// Notes that these mount points, which killed runs made, need no more care: they were removed, or
/// belong to somebody else by now.
pub fn cleared(root: &Path, points: &[MadePoint]) {
    if points.is_empty() {
        return;
    }
    let Ok(file) = LockedFile::open(root) else {
        return;
    };

    let mut status = file.read();
    for run in status.unfinished.iter_mut().filter(|run| !run.runs(root)) {
        run.made.retain(|point| !points.contains(point));
    }
    let _ = file.replace(&status);
}

/// Whether the last run goes on or was killed, if it has begun and not ended.
pub(super) fn unfinished(root: &Path, status: &Status) -> Option<String> {
    // RFC 3339 times sort as text. A run that goes on counts as the last, whatever became of
    // others.
    let last =
        status.unfinished.iter().max_by_key(|run| (run.runs(root), !run.earlier, &run.at))?;
    let what = super::name_of_run(last.once);
    let UnfinishedRun { at, config, pid, .. } = last;
    if last.runs(root) {
        return Some(format!(
            "{what} began at {at} and runs still (process {pid}), config {config}"
        ));
    }

    // Nobody knows when a killed run ended, so the time of its beginning counts.
    if last.earlier || status.at.as_ref().is_some_and(|ended| ended > at) {
        return None;
    }

    let made: Vec<String> = last.made.iter().map(|made| made.path.display().to_string()).collect();
    let left = match made.as_slice() {
        [] => String::new(),
        made => format!(
            "; it made {} and left it there: sudo efs-agent unmount removes it",
            made.join(", ")
        ),
    };
    Some(format!(
        "{what} began at {at} and did not end: it was killed; config {config}{left}. If AppStream \
         killed it, set `deadline` 2 s or more below its waitingTime"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const AT: &str = "2026-11-23T07:00:00Z";

    /// A machine with this process and no other.
    fn machine() -> tempfile::TempDir {
        let dir = tempfile::Builder::new().tempdir_in("/run").unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        process(dir.path(), "self", 4711);
        process(dir.path(), &std::process::id().to_string(), 4711);
        dir
    }

    fn process(root: &Path, pid: &str, born: u32) {
        let folder = root.join("proc").join(pid);
        fs::create_dir_all(&folder).unwrap();
        let text = format!("1 (efs-agent) S{} {born} 9\n", " 0".repeat(18));
        fs::write(folder.join("stat"), text).unwrap();
    }

    fn begun(root: &Path, made: &[&str]) -> Begun {
        for point in made {
            fs::create_dir_all(root.join(point.trim_start_matches('/'))).unwrap();
        }
        let made = made.iter().map(PathBuf::from).collect();
        Begun::new(root, Path::new("/etc/c"), false, AT.into(), Arc::new(Mutex::new(made)))
    }

    fn made(points: &[MadePoint]) -> String {
        points.iter().map(|one| one.path.display().to_string()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_folder_that_was_removed_or_changed_since_is_not_the_runs_any_more() {
        let dir = machine();
        let root = dir.path();
        let run = begun(root, &["/mnt/a", "/mnt/b", "/mnt/c"]);
        run.note();
        // A folder that the run itself takes away no longer belongs to it.
        run.made.lock().unwrap().retain(|point| point != Path::new("/mnt/c"));
        run.note();
        kill(root);
        let orphans = status::read(root).orphans(root);
        assert_eq!(made(&orphans), "/mnt/a /mnt/b");
        assert!(orphans.iter().all(|one| one.is_there(root)));
        // Wait a moment, so that the file system's clock moves on.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::remove_dir(root.join("mnt/a")).unwrap();
        fs::create_dir(root.join("mnt/a")).unwrap();
        fs::set_permissions(root.join("mnt/b"), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(orphans.iter().all(|one| !one.is_there(root)));
    }

    fn read(root: &Path) -> Status {
        Status::parse(&status::text(root).unwrap()).unwrap()
    }

    fn kill(root: &Path) {
        process(root, &std::process::id().to_string(), 4712);
        process(root, "self", 4712);
    }

    #[test]
    fn a_run_that_was_killed_leaves_word_of_its_mount_points_until_they_are_gone() {
        let dir = machine();
        let root = dir.path();
        let run = begun(root, &[]);
        run.note();
        assert_eq!(made(&read(root).unfinished[0].made), "");
        fs::create_dir_all(root.join("mnt/a")).unwrap();
        run.made.lock().unwrap().push("/mnt/a".into());
        run.note();
        let first = read(root);
        run.note();
        assert_eq!(read(root).unfinished.len(), 1, "it is one run");
        assert_eq!(read(root), first);
        // As long as the run goes on, what it made belongs to it.
        assert_eq!(made(&first.orphans(root)), "");
        let goes_on = format!("{AT} and runs still (process {})", std::process::id());
        assert!(unfinished(root, &first).unwrap().contains(&goes_on));
        kill(root);
        let orphans = first.orphans(root);
        assert_eq!((made(&orphans), orphans[0].is_there(root)), ("/mnt/a".into(), true));
        let why = unfinished(root, &first).unwrap();
        assert!(why.contains("did not end: it was killed"), "{why}");
        assert!(why.contains("it made /mnt/a and left it there"), "{why}");
        // A run that ended later counts as the last.
        let then = |at: &str| Status { at: Some(at.to_owned()), ..first.clone() };
        assert_eq!(unfinished(root, &then("2026-11-23T07:00:01Z")), None);
        assert!(unfinished(root, &then("2026-11-23T06:59:59Z")).is_some());
        // The next run adds itself.
        begun(root, &["/mnt/b"]).note();
        assert_eq!(made(&read(root).orphans(root)), "/mnt/a");
        cleared(root, &orphans);
        let after = read(root);
        assert_eq!(made(&after.orphans(root)), "");
        assert_eq!(after.unfinished.len(), 2, "that it was killed is still known");
    }

    #[test]
    fn a_run_that_goes_on_is_told_before_a_later_one_that_was_killed() {
        let dir = machine();
        let root = dir.path();
        begun(root, &["/mnt/a"]).note();
        let mut both = read(root);
        let killed = UnfinishedRun {
            at: "2026-11-23T07:00:01Z".into(),
            pid: u32::MAX,
            ..both.unfinished[0].clone()
        };
        both.unfinished.push(killed);
        let told = unfinished(root, &both).unwrap();
        assert!(told.contains("runs still") && !told.contains("killed"), "{told}");
    }

    #[test]
    fn a_run_that_ends_takes_its_own_word_back_and_keeps_that_of_others() {
        let dir = machine();
        let root = dir.path();
        begun(root, &["/mnt/a", "/mnt/b"]).note();
        assert_eq!(left(root, &read(root), &[]), [], "its own");
        kill(root);
        let before = read(root);
        let [a, b] = ["/mnt/a", "/mnt/b"].map(|point| ShareRecord {
            mount_point: point.into(),
            mounted: true,
            ..ShareRecord::default()
        });
        let kept = left(root, &before, std::slice::from_ref(&a));
        assert_eq!(made(&kept[0].made), "/mnt/b");
        assert_eq!(left(root, &before, &[b, a.clone()]), []);
        let failed = ShareRecord { mounted: false, ..a.clone() };
        let kept = left(root, &before, &[failed]);
        assert_eq!(kept[0].made, before.unfinished[0].made, "it may be there still");
        // Both within one second.
        let ended = Status { at: Some(AT.to_owned()), unfinished: kept, ..Status::default() };
        assert_eq!(unfinished(root, &ended), None, "the run that has ended is the last");
        let killed = Status { unfinished: before.unfinished.clone(), ..ended };
        assert!(unfinished(root, &killed).is_some(), "it was killed after that one had ended");
        process(root, &std::process::id().to_string(), 4711);
        assert_eq!(left(root, &before, &[a])[0].made.len(), 2, "it goes on");
    }
}
