//! The runs that /run/efs-agent/status.json has as begun and not ended: one that is there no more was killed, or the
//! program failed, and the mount points that it made are nobody's. Who writes them there is `crate::status`.

use crate::json::{Document, Node, Value, quoted};
use crate::share::mount_point::FolderId;
use crate::status::remembered::member;
use std::fs;
use std::path::{Path, PathBuf};

/// The key that they are under.
pub(crate) const KEY: &str = "unfinished";

/// A run that has begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// When it began, as RFC 3339 has it.
    pub at: String,
    /// Whether by hand, with `--once`.
    pub once: bool,
    /// Its config.
    pub config: String,
    /// Its process, and when that began: a number that is free is given to another process.
    pub pid: u32,
    /// In the kernel's ticks since boot.
    pub born: String,
    /// The mount points that it made.
    pub made: Vec<MadePoint>,
}

/// A mount point that a run has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadePoint {
    /// Where.
    pub path: PathBuf,
    /// Which folder that was, as [`FolderId`] writes it.
    pub folder: String,
}

impl MadePoint {
    /// As it is now; none where something is in the way.
    pub fn at(root: &Path, path: PathBuf) -> Option<Self> {
        let folder = FolderId::at(root, &path)?.to_string();
        Some(Self { path, folder })
    }

    /// Whether it is that folder.
    pub fn is(&self, path: &Path, folder: Option<FolderId>) -> bool {
        self.path == path && folder.is_some_and(|folder| folder.to_string() == self.folder)
    }

    /// Whether the folder is still there as the run had made it, with nothing mounted on it.
    pub fn is_there(&self, root: &Path) -> bool {
        self.is(&self.path, FolderId::at(root, &self.path))
    }
}

impl Unfinished {
    fn of(document: &Document<'_>, one: &Node) -> Option<Self> {
        let text = |key| match &member(one, key)?.value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        };
        let Value::Array(made) = &member(one, "made")?.value else {
            return None;
        };
        let point = |node: &Node| {
            let text = |key| match &member(node, key)?.value {
                Value::String(text) => Some(text.clone()),
                _ => None,
            };
            Some(MadePoint { path: text("path")?.into(), folder: text("folder")? })
        };
        Some(Self {
            at: text("at")?,
            once: member(one, "once")?.value == Value::Boolean(true),
            config: text("config")?,
            pid: document.slice(member(one, "pid")?.span.clone()).parse().ok()?,
            born: text("born")?,
            made: made.iter().filter_map(point).collect(),
        })
    }

    /// As it stands in the file.
    pub fn json(&self) -> String {
        let point = |point: &MadePoint| {
            let path = quoted(&point.path.to_string_lossy());
            format!("{{\"path\": {path}, \"folder\": {}}}", quoted(&point.folder))
        };
        let made: Vec<String> = self.made.iter().map(point).collect();
        format!(
            "{{\"at\": {}, \"once\": {}, \"config\": {}, \"pid\": {}, \"born\": {}, \"made\": [{}]}}",
            quoted(&self.at),
            self.once,
            quoted(&self.config),
            self.pid,
            quoted(&self.born),
            made.join(", ")
        )
    }

    /// Whether its process is still there.
    pub fn runs(&self, root: &Path) -> bool {
        born(root, &self.pid.to_string()).as_deref() == Some(self.born.as_str())
    }
}

/// When the process `pid` began, as /proc/PID/stat has it; none where there is no such process, or its end is all that
/// its parent has not asked for yet.
pub fn born(root: &Path, pid: &str) -> Option<String> {
    let stat = fs::read(root.join("proc").join(pid).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The name may have blanks and brackets in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let has_ended = matches!(fields.next(), Some("Z" | "X") | None);
    fields.nth(18).filter(|_| !has_ended).map(str::to_owned)
}

/// All that `status` (the text of the file) has.
pub fn all(status: &str) -> Vec<Unfinished> {
    let Ok(document) = Document::parse(status) else {
        return Vec::new();
    };
    match member(&document.root, KEY).map(|node| &node.value) {
        Some(Value::Array(runs)) => {
            runs.iter().filter_map(|one| Unfinished::of(&document, one)).collect()
        }
        _ => Vec::new(),
    }
}

/// The process of another run that has begun and goes on, as `status` has it; what it waits for may be a folder that
/// one which was killed has made.
pub fn living(root: &Path, status: &str) -> Option<u32> {
    let mut others = all(status).into_iter().filter(|run| run.pid != std::process::id());
    others.find(|run| run.runs(root)).map(|run| run.pid)
}

/// The mount points that runs have made which are there no more, as `status` has it.
pub fn orphans(root: &Path, status: &str) -> Vec<MadePoint> {
    let runs = all(status).into_iter().filter(|run| !run.made.is_empty() && !run.runs(root));
    runs.flat_map(|run| run.made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &str) -> MadePoint {
        MadePoint { path: path.into(), folder: "1:2:3.4".into() }
    }

    pub fn run(pid: u32, born: &str) -> Unfinished {
        Unfinished {
            at: "2026-11-23T07:00:00Z".into(),
            once: false,
            config: "/etc/a \"b\".toml".into(),
            pid,
            born: born.into(),
            made: ["/mnt/a", "/mnt/b c"].map(made).to_vec(),
        }
    }

    #[test]
    fn a_run_is_there_as_long_as_its_process_is_and_not_another_of_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("proc/7");
        fs::create_dir_all(&folder).unwrap();
        let stat = |state: &str, born: u32| {
            let text = format!(
                "7 (efs) (agent) {state} 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 {born} 9 9\n"
            );
            fs::write(folder.join("stat"), text).unwrap();
        };
        stat("S", 4711);
        assert_eq!(born(dir.path(), "7").as_deref(), Some("4711"));
        assert!(run(7, "4711").runs(dir.path()));
        let both = format!("{{\"{KEY}\": [{}, {}]}}", run(8, "1").json(), run(7, "4711").json());
        assert_eq!(living(dir.path(), &both), Some(7));
        assert!(!run(8, "4711").runs(dir.path()));
        stat("S", 4712);
        assert!(!run(7, "4711").runs(dir.path()));
        stat("Z", 4711);
        assert!(!run(7, "4711").runs(dir.path()));
        // What the kernel says of this process.
        assert!(born(Path::new("/"), "self").unwrap().parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_not_whole_is_nothing() {
        let one = run(7, "4711");
        let status = |runs: &str| format!("{{\"version\": 1, \"{KEY}\": [{runs}]}}");
        assert_eq!(all(&status(&one.json())), std::slice::from_ref(&one));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(orphans(dir.path(), &status(&one.json())), one.made);
        let whole = one.json();
        for broken in ["", "{}", "1", &whole.replacen("\"pid\": 7", "\"pid\": -7", 1)] {
            assert_eq!(all(&status(broken)), [], "{broken}");
        }
        for other in ["", "{", "[]", "{\"unfinished\": 1}"] {
            assert_eq!(all(other), [], "{other}");
        }
    }
}
