//! Finds the processes that keep a mount busy: their folder, root, program, open or mapped files
//! lie below the mount point. Only the names of these files are read, because their server may be
//! dead. No process is ended here.

use crate::text::misleads;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A process that keeps a mount busy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    pub pid: i32,
    /// The program's name, as `ps` shows it.
    pub name: String,
    /// When it began, in the kernel's ticks since boot. A later process with the same id began
    /// later.
    pub since: Option<u64>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.pid, self.name)
    }
}

impl Holder {
    /// Whether it may be asked to end. It must still be there, belong to a person, and not be one
    /// that this program runs under. `streaming` is the streaming user's id.
    pub fn is_a_users(&self, proc: &Path, streaming: Option<u32>) -> bool {
        let Some(uid) = status_field(proc, self.pid, "Uid:") else {
            return false;
        };

        // The processes that started this one, such as sudo, su and a shell, are spared.
        let mut above = std::process::id() as i32;
        while above > 1 {
            if above == self.pid {
                return false;
            }
            above = status_field(proc, above, "PPid:").map_or(0, |pid| pid as i32);
        }
        if self.since.is_none() || self.since != since(&proc.join(self.pid.to_string())) {
            return false;
        }

        let is_ours = namespace(proc, &self.pid.to_string()) == namespace(proc, "self");
        is_ours && self.pid > 1 && (uid >= FIRST_PERSON || Some(uid) == streaming)
    }
}

fn status_field(proc: &Path, pid: i32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(proc.join(pid.to_string()).join("status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

fn namespace(proc: &Path, process: &str) -> Option<PathBuf> {
    fs::read_link(proc.join(process).join("ns/mnt")).ok()
}

/// The lowest user id of a person. System accounts have lower ids (UID_MIN in login.defs).
const FIRST_PERSON: u32 = 1000;

/// A list names no more processes than this.
const NAMED: usize = 5;

/// The first few holders, and how many more there are.
pub fn list(holders: &[Holder]) -> String {
    let named: Vec<String> = holders.iter().take(NAMED).map(Holder::to_string).collect();
    match holders.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The processes that hold something below `at`, without this process. `proc` is `/proc` outside of
/// tests.
pub fn holders(proc: &Path, at: &Path) -> Vec<Holder> {
    let me = std::process::id() as i32;
    let mut found: Vec<Holder> = fs::read_dir(proc)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let process = entry.path();
            // This is read first, so that a later process with the same id cannot pass for this
            // one.
            let since = since(&process);
            (pid != me && holds(&process, at)).then(|| Holder { pid, name: name(&process), since })
        })
        .collect();

    found.sort();
    found
}

fn holds(process: &Path, at: &Path) -> bool {
    ["cwd", "root", "exe"].iter().any(|link| leads_below(&process.join(link), at))
        || fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|fd| leads_below(&fd.path(), at))
        || maps(process, at)
}

fn leads_below(link: &Path, at: &Path) -> bool {
    fs::read_link(link).is_ok_and(|target| {
        let target = target.as_os_str().as_bytes();
        // The kernel adds this if the file is no longer in its folder, and also to a share's root.
        let target = target.strip_suffix(b" (deleted)").unwrap_or(target);
        Path::new(OsStr::from_bytes(target)).starts_with(at)
    })
}

/// A line of maps ends with the path of the mapped file, its sixth field.
fn maps(process: &Path, at: &Path) -> bool {
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    maps.split(|byte| *byte == b'\n').any(|line| {
        let path = line.iter().position(|byte| *byte == b'/').and_then(|start| line.get(start..));
        path.is_some_and(|path| Path::new(OsStr::from_bytes(path)).starts_with(at))
    })
}

/// The field starttime of proc_pid_stat(5), which is the 20th after the name. The name may contain
/// anything.
fn since(process: &Path) -> Option<u64> {
    let stat = fs::read(process.join("stat")).ok()?;
    let name_ends = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_ends..)?).ok()?;
    rest.split_whitespace().nth(20)?.parse().ok()
}

fn name(process: &Path) -> String {
    let name = fs::read(process.join("comm")).unwrap_or_default();
    // A process may give itself any name, also one that would mislead on a terminal.
    let name = String::from_utf8_lossy(&name);
    name.trim_end().chars().map(|c| if misleads(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn folder_files_program_and_mapped_files_below_the_mount_point_hold_it() {
        let dir = tempfile::tempdir().unwrap();
        let process = |pid: i32, name: &str| {
            let process = dir.path().join(pid.to_string());
            fs::create_dir_all(process.join("fd")).unwrap();
            fs::write(process.join("comm"), format!("{name}\n")).unwrap();
            process
        };
        symlink("/mnt/efs/sub", process(30, "bash").join("cwd")).unwrap();
        symlink("/mnt/efs/a file (deleted)", process(4, "vi\u{1b}m").join("fd/3")).unwrap();
        symlink("/mnt/efs/bin/x", process(5, "x").join("exe")).unwrap();
        let maps =
            "55d0-55d1 r--p 00000000 00:2d 1234      /mnt/efs/lib.so\n7f00-7f01 rw-p 0 00:00 0\n";
        fs::write(process(6, "java").join("maps"), maps).unwrap();
        symlink("/mnt/efs2/other", process(7, "other").join("cwd")).unwrap();
        symlink("/mnt", process(8, "above").join("cwd")).unwrap();
        symlink("/mnt/efs (deleted)", process(9, "stale").join("cwd")).unwrap();
        let found = holders(dir.path(), Path::new("/mnt/efs"));
        let found: Vec<String> = found.iter().map(Holder::to_string).collect();
        assert_eq!(found, ["4 (vi?m)", "5 (x)", "6 (java)", "9 (stale)", "30 (bash)"]);
    }

    #[test]
    fn this_process_is_no_holder_and_a_real_one_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let _ours = fs::File::create(dir.path().join("ours")).unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(&dir).spawn().unwrap();
        let at = dir.path().canonicalize().unwrap();
        let found = holders(Path::new("/proc"), &at);
        let ours = found.iter().find(|h| h.pid == child.id() as i32 && h.name == "sleep").cloned();
        let ours = ours.unwrap_or_else(|| panic!("{found:?}"));
        let is_there = |holder: &Holder| holder.is_a_users(Path::new("/proc"), Some(0));
        let before = is_there(&ours);
        // This stands for another process that was given the same id.
        let other = Holder { since: ours.since.map(|since| since - 1), ..ours.clone() };
        let taken_for_it = is_there(&other);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(before && !taken_for_it && !is_there(&ours), "{ours:?}");
        assert!(!found.iter().any(|h| h.pid == std::process::id() as i32));
    }
}
