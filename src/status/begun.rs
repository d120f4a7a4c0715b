//! Notes a run that takes longer than most before it has ended: if it is killed, the next ones know of the mount points
//! that it made, and `status` of the run. A start that goes well is done before there is anything to note.

use super::{locked, open};
use crate::json::{Document, Value};
use crate::status::remembered::{contents, member};
use crate::status::unfinished::{self, KEY, MadePoint, Unfinished, born};
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
    /// The mount points that the note has; none where there is no note yet.
    noted: Mutex<Option<Vec<PathBuf>>>,
}

impl Begun {
    /// A run with `config` that begins now (`at`); `root` is `/` outside of tests.
    pub fn new(root: &Path, config: &Path, once: bool, at: String, made: Made) -> Self {
        let (root, config) = (root.to_owned(), config.to_string_lossy().into_owned());
        Self { root, config, once, at, made, noted: Mutex::new(None) }
    }

    /// Notes it, if that was not done since it last made a mount point.
    pub fn note(&self) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            if noted.replace(made.clone()).as_ref() == Some(&made) {
                return;
            }
        }
        let Some(born) = born(&self.root, "self") else {
            return;
        };
        let Self { once, config, at, .. } = self;
        let (at, config, pid) = (at.clone(), config.clone(), std::process::id());
        let made = made.into_iter().filter_map(|path| MadePoint::at(&self.root, path)).collect();
        let new = Unfinished { at, once: *once, config, pid, born, made };
        let Some((place, folder, before)) = open(&self.root) else {
            return;
        };
        let before = before.unwrap_or_default();
        let mut runs = unfinished::all(&before);
        runs.retain(|run| (run.pid, &run.born) != (new.pid, &new.born));
        runs.push(new);
        let _ = place.put(&folder, with(&before, &runs).as_bytes());
    }
}

/// The text `before` with these runs as what has begun and not ended.
fn with(before: &str, runs: &[Unfinished]) -> String {
    let runs = list(runs);
    let Ok(document) = Document::parse(before) else {
        return format!("{{\"version\": 1, \"shares\": [], \"earlier\": [], {runs}}}\n");
    };
    let mut text = before.to_owned();
    match (&document.root.value, member(&document.root, KEY)) {
        (_, Some(old)) => {
            let value = runs.split_once(": ").map_or("[]", |(_, value)| value);
            text.replace_range(old.span.clone(), value);
        }
        (Value::Object(members), None) => {
            let comma = if members.is_empty() { "" } else { ", " };
            text.insert_str(document.root.span.end.saturating_sub(1), &format!("{comma}{runs}"));
        }
        _ => {}
    }
    text
}

/// The member of the file that has them.
pub(super) fn list(runs: &[Unfinished]) -> String {
    let runs: Vec<String> = runs.iter().map(Unfinished::json).collect();
    format!("\"{KEY}\": [{}]", runs.join(",\n"))
}

/// What is left of them once a run has ended that has these mount points: those that go on, and those that were killed
/// and made a mount point that no run has looked after yet.
pub(super) fn left(root: &Path, before: &str, looked_after: &[&Path]) -> Vec<Unfinished> {
    let mut runs = unfinished::all(before);
    if runs.is_empty() {
        return runs;
    }
    let (pid, born) = (std::process::id(), born(root, "self"));
    runs.retain_mut(|run| {
        if run.pid == pid && Some(&run.born) == born.as_ref() {
            return false;
        }
        if run.runs(root) {
            return true;
        }
        run.made.retain(|point| !looked_after.contains(&point.path.as_path()));
        !run.made.is_empty()
    });
    runs
}

/// Notes that these mount points, which runs had made that were killed, are no longer there.
pub fn cleared(root: &Path, points: &[MadePoint]) {
    if points.is_empty() {
        return;
    }
    let Ok((place, folder)) = locked(root) else {
        return;
    };
    let Some(text) = contents(&place) else {
        return;
    };
    let mut runs = unfinished::all(&text);
    for run in runs.iter_mut().filter(|run| !run.runs(root)) {
        run.made.retain(|point| !points.contains(point));
    }
    let _ = place.put(&folder, with(&text, &runs).as_bytes());
}

/// Of the last run, if it has begun and not ended: whether it goes on, or was killed.
pub(super) fn told(root: &Path, status: &str, ended: Option<&str>) -> Option<String> {
    let runs = unfinished::all(status);
    // Times of one form have the order of their letters. Whoever goes on is the last, whatever became of others.
    let last = runs.iter().max_by_key(|run| (run.runs(root), &run.at))?;
    let what = match last.once {
        true => "the last run, by hand with --once,",
        false => "the last session start",
    };
    let Unfinished { at, config, pid, .. } = last;
    if last.runs(root) {
        return Some(format!(
            "{what} began at {at} and runs still (process {pid}), config {config}"
        ));
    }
    // That of a run which is killed is dated by its beginning.
    if ended.is_some_and(|ended| ended > at.as_str()) {
        return None;
    }
    let left = match last.made.as_slice() {
        [] => String::new(),
        made => {
            let made: Vec<String> =
                made.iter().map(|made| made.path.display().to_string()).collect();
            format!(
                "; it made {} and left it there: sudo efs-agent unmount removes it",
                made.join(", ")
            )
        }
    };
    Some(format!(
        "{what} began at {at} and did not end: it was killed; config {config}{left}. If AppStream \
         killed it, set `deadline` 2 s or more below its waitingTime"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::remembered;
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
        // One that the run itself takes away is no longer its.
        run.made.lock().unwrap().retain(|point| point != Path::new("/mnt/c"));
        run.note();
        kill(root);
        let orphans = unfinished::orphans(root, &text(root));
        assert_eq!(made(&orphans), "/mnt/a /mnt/b");
        assert!(orphans.iter().all(|one| one.is_there(root)));
        // A moment, so that the file system's clock goes on.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::remove_dir(root.join("mnt/a")).unwrap();
        fs::create_dir(root.join("mnt/a")).unwrap();
        fs::set_permissions(root.join("mnt/b"), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(orphans.iter().all(|one| !one.is_there(root)));
    }

    fn text(root: &Path) -> String {
        let text = remembered::read(root).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap();
        text
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
        assert_eq!(made(&unfinished::all(&text(root))[0].made), "");
        fs::create_dir_all(root.join("mnt/a")).unwrap();
        run.made.lock().unwrap().push("/mnt/a".into());
        run.note();
        let first = text(root);
        run.note();
        assert_eq!(unfinished::all(&text(root)).len(), 1, "it is one run");
        assert_eq!(text(root), first);
        // As long as it goes on, what it has made is its own.
        assert_eq!(made(&unfinished::orphans(root, &first)), "");
        let goes_on = format!("{AT} and runs still (process {})", std::process::id());
        assert!(told(root, &first, None).unwrap().contains(&goes_on));
        kill(root);
        let orphans = unfinished::orphans(root, &first);
        assert_eq!((made(&orphans), orphans[0].is_there(root)), ("/mnt/a".into(), true));
        let why = told(root, &first, None).unwrap();
        assert!(why.contains("did not end: it was killed"), "{why}");
        assert!(why.contains("it made /mnt/a and left it there"), "{why}");
        // One that ended later is the last.
        assert_eq!(told(root, &first, Some("2026-11-23T07:00:01Z")), None);
        assert!(told(root, &first, Some("2026-11-23T06:59:59Z")).is_some());
        // The next run adds itself.
        begun(root, &["/mnt/b"]).note();
        assert_eq!(made(&unfinished::orphans(root, &text(root))), "/mnt/a");
        cleared(root, &orphans);
        let after = text(root);
        assert_eq!(made(&unfinished::orphans(root, &after)), "");
        assert_eq!(unfinished::all(&after).len(), 2, "that it was killed is still known");
    }

    #[test]
    fn a_run_that_goes_on_is_told_before_a_later_one_that_was_killed() {
        let dir = machine();
        let root = dir.path();
        begun(root, &["/mnt/a"]).note();
        let killed = Unfinished {
            at: "2026-11-23T07:00:01Z".into(),
            pid: u32::MAX,
            ..unfinished::all(&text(root)).remove(0)
        };
        let both = with(&text(root), &[unfinished::all(&text(root)).remove(0), killed]);
        let told = told(root, &both, None).unwrap();
        assert!(told.contains("runs still") && !told.contains("killed"), "{told}");
    }

    #[test]
    fn a_run_that_ends_takes_its_own_word_back_and_keeps_that_of_others() {
        let dir = machine();
        let root = dir.path();
        begun(root, &["/mnt/a", "/mnt/b"]).note();
        assert_eq!(left(root, &text(root), &[]), [], "its own");
        kill(root);
        let before = text(root);
        let kept = left(root, &before, &[Path::new("/mnt/a")]);
        assert_eq!(made(&kept[0].made), "/mnt/b");
        assert_eq!(left(root, &before, &[Path::new("/mnt/b"), Path::new("/mnt/a")]), []);
        process(root, &std::process::id().to_string(), 4711);
        assert_eq!(left(root, &before, &[Path::new("/mnt/a")])[0].made.len(), 2, "it goes on");
    }
}
