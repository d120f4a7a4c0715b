//! The runs that status.json lists as begun and not ended. If the process of such a run is gone, it
//! was killed, or the program failed. Then the mount points that it made belong to nobody.
//! [`super::begun`] writes these entries; nothing here writes a file.

use crate::files::FolderId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};

/// A run that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnfinishedRun {
    /// When it began, in RFC 3339.
    pub at: String,
    /// Whether by hand, with `--once`.
    pub once: bool,
    /// The path of its config.
    pub config: String,
    /// Its process id. The kernel reuses these, so `born` is needed too.
    pub pid: u32,
    /// When that process began, in the kernel's ticks since boot.
    pub born: String,
    /// The mount points that it made.
    pub made: Vec<MadePoint>,
    /// Another run has ended since it was killed. Times cannot say that of two runs within a second.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub earlier: bool,
}

/// A mount point that a run has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadePoint {
    /// Its path.
    pub path: PathBuf,
    /// The identity of that folder, as [`FolderId`] writes it.
    pub folder: String,
}

impl MadePoint {
    /// The folder as it is now; `None` where it cannot be looked at.
    pub fn at(root: &Path, path: PathBuf) -> Option<Self> {
        let folder = FolderId::at(root, &path)?.to_string();
        Some(Self { path, folder })
    }

    /// Whether it is the folder `path` that [`FolderId`] writes as `folder`.
    pub fn is(&self, path: &Path, folder: Option<&str>) -> bool {
        self.path == path && folder == Some(self.folder.as_str())
    }

    /// Whether the folder is still there as the run made it, with nothing mounted on it.
    pub fn is_there(&self, root: &Path) -> bool {
        let folder = FolderId::at(root, &self.path).map(|folder| folder.to_string());
        self.is(&self.path, folder.as_deref())
    }
}

impl UnfinishedRun {
    /// Whether its process is still there.
    pub fn runs(&self, root: &Path) -> bool {
        born(root, &self.pid.to_string()).as_deref() == Some(self.born.as_str())
    }
}

/// When the process `pid` began, as /proc/PID/stat has it. `None` where there is no such process,
/// or only a zombie.
pub fn born(root: &Path, pid: &str) -> Option<String> {
    let stat = fs::read(root.join("proc").join(pid).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    // The process name may contain blanks and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let has_ended = matches!(fields.next(), Some("Z" | "X") | None);
    fields.nth(18).filter(|_| !has_ended).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;
    use crate::status::record::Status;

    fn made(path: &str) -> MadePoint {
        MadePoint { path: path.into(), folder: "1:2:3.4".into() }
    }

    fn run(pid: u32, born: &str) -> UnfinishedRun {
        UnfinishedRun {
            at: "2026-11-23T07:00:00Z".into(),
            once: false,
            config: "/etc/a \"b\".toml".into(),
            pid,
            born: born.into(),
            made: ["/mnt/a", "/mnt/b c"].map(made).to_vec(),
            earlier: false,
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
        let unfinished = vec![run(8, "1"), run(7, "4711")];
        let both = Status { unfinished, ..Status::default() };
        assert_eq!(both.living(dir.path()), Some(7));
        assert!(!run(8, "4711").runs(dir.path()));

        stat("S", 4712);
        assert!(!run(7, "4711").runs(dir.path()));
        stat("Z", 4711);
        assert!(!run(7, "4711").runs(dir.path()));
        // The kernel's own entry for this process can be read, too.
        assert!(born(Path::new("/"), "self").unwrap().parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn what_is_written_is_read_again_and_what_is_not_whole_is_nothing() {
        let one = run(7, "4711");
        let whole = json::written(&one);
        let all = |runs: &str| {
            let text = format!("{{\"version\": 1, \"unfinished\": [{runs}]}}");
            Status::parse(&text).map_or(Vec::new(), |status| status.unfinished)
        };
        assert_eq!(all(&whole), std::slice::from_ref(&one));
        let dir = tempfile::tempdir().unwrap();
        let status = Status { unfinished: vec![one.clone()], ..Status::default() };
        assert_eq!(status.orphans(dir.path()), one.made);

        for broken in ["", "{}", "1", &whole.replacen("\"pid\": 7", "\"pid\": -7", 1)] {
            assert_eq!(all(broken), [], "{broken}");
        }
        for other in ["", "{", "[]", "{\"unfinished\": 1}"] {
            assert_eq!(Status::parse(other), None, "{other}");
        }
    }
}
