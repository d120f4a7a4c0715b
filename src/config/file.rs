//! Finds the config file and reads it, if it can be trusted. The file and each folder on the way must belong to root and
//! be writable by nobody else. That is checked on the open descriptors, and no symlink is followed. What the text means
//! is not this file's business.

use crate::files::{self, Fault, UntrustedReadError};
use std::path::{Path, PathBuf};

/// The name beside the executable. Elastic fleets unpack everything into one folder.
pub const BESIDE: &str = "efs-agent.toml";
/// Where the package installs it.
pub const INSTALLED: &str = "/etc/efs-agent/config.toml";

/// Why there is no text to parse.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// There is none in these places.
    #[error("no config file: looked for {}", .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" and "))]
    None(Vec<PathBuf>),
    /// A named file is not there.
    #[error("config file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// It can be read, but must not be trusted.
    #[error("{} ({cure})", untrusted_sentence(path, why))]
    Untrusted {
        /// The file or the folder at fault.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do about it.
        cure: String,
    },
    /// It is something that cannot be a config file.
    #[error("config file {} {why}", path.display())]
    Unusable {
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl FileError {
    /// What is wrong, without the cure.
    pub fn sentence(&self) -> String {
        match self {
            Self::Untrusted { path, why, .. } => untrusted_sentence(path, why),
            other => other.to_string(),
        }
    }
}

fn untrusted_sentence(path: &Path, why: &str) -> String {
    format!(
        "{} {why}: the config file and its folders must belong to root and be writable by nobody else",
        path.display()
    )
}

/// The config file's path and text: `named`, else the first of the usual places that exists.
///
/// `root` is `/` outside of tests; `exe` is the running executable, where known.
///
/// # Errors
/// See [`FileError`]; nothing of an untrusted file is read.
pub fn read(
    root: &Path,
    named: Option<&Path>,
    exe: Option<&Path>,
) -> Result<(PathBuf, String), FileError> {
    if let Some(path) = named {
        return text(root, path)?.ok_or_else(|| FileError::Missing(path.to_owned()));
    }

    let beside = exe.and_then(Path::parent).map(|folder| folder.join(BESIDE));
    let places: Vec<PathBuf> = beside.into_iter().chain([PathBuf::from(INSTALLED)]).collect();

    for path in &places {
        if path.ends_with(BESIDE) && files::absent(root, path) {
            continue; // This is the usual case. It saves the walk to the folder.
        }
        if let Some(found) = text(root, path)? {
            return Ok(found);
        }
    }
    Err(FileError::None(places))
}

fn untrusted(Fault { path, why, command }: Fault, file: &Path) -> FileError {
    // To change a folder that other things live in, such as /tmp or a home, would do harm.
    let cure = if path == file || path.starts_with("/etc/efs-agent") {
        format!("{command} {}", path.display())
    } else {
        format!("put it into /etc/efs-agent rather than below {}", path.display())
    };
    FileError::Untrusted { path, why, cure }
}

/// Reads `path` below `root`, if it exists. A folder on the way that must not be trusted counts only if there is a file
/// at the end.
fn text(root: &Path, path: &Path) -> Result<Option<(PathBuf, String)>, FileError> {
    let bytes = match files::read(root, path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(UntrustedReadError::Obstacle(obstacle)) => return Err(unusable(path, obstacle)),
        Err(UntrustedReadError::Fault(fault)) => return Err(untrusted(fault, path)),
    };

    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(e) => {
            let valid = e.utf8_error().valid_up_to();
            let line = e.as_bytes().iter().take(valid).filter(|b| **b == b'\n').count() + 1;
            let why = format!("is not UTF-8 (line {line}): save it as UTF-8");
            Err(unusable(path, why))
        }
    }
}

fn unusable(path: &Path, why: impl ToString) -> FileError {
    FileError::Unusable { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    /// A small tree that is trusted from its root on (tests run as root).
    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["etc/efs-agent", "opt/x"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("etc/efs-agent/config.toml"), "etc").unwrap();
        dir
    }

    fn error(root: &Path, named: &str) -> String {
        read(root, Some(Path::new(named)), None).unwrap_err().to_string()
    }

    const RULE: &str =
        ": the config file and its folders must belong to root and be writable by nobody else";

    #[test]
    fn the_file_beside_the_executable_comes_before_the_installed_one() {
        let dir = tree();
        let exe = Path::new("/opt/x/efs-agent");
        assert_eq!(read(dir.path(), None, Some(exe)).unwrap().1, "etc");
        fs::write(dir.path().join("opt/x/efs-agent.toml"), "beside").unwrap();
        let (path, text) = read(dir.path(), None, Some(exe)).unwrap();
        assert_eq!((path.to_str().unwrap(), text.as_str()), ("/opt/x/efs-agent.toml", "beside"));
        assert_eq!(read(dir.path(), Some(Path::new(INSTALLED)), Some(exe)).unwrap().1, "etc");
    }

    #[test]
    fn an_executable_in_a_folder_of_somebody_else_is_no_fault_while_no_config_is_there() {
        let dir = tree();
        chown(dir.path().join("opt/x"), Some(1000), None).unwrap();
        let exe = Path::new("/opt/x/efs-agent");
        assert_eq!(read(dir.path(), None, Some(exe)).unwrap().1, "etc");
        fs::write(dir.path().join("opt/x/efs-agent.toml"), "planted").unwrap();
        assert!(matches!(read(dir.path(), None, Some(exe)), Err(FileError::Untrusted { .. })));
    }

    #[test]
    fn all_places_that_were_tried_are_named() {
        let dir = tree();
        fs::remove_file(dir.path().join("etc/efs-agent/config.toml")).unwrap();
        let e = read(dir.path(), None, Some(Path::new("/opt/x/a"))).unwrap_err().to_string();
        assert_eq!(
            e,
            "no config file: looked for /opt/x/efs-agent.toml and /etc/efs-agent/config.toml"
        );
        assert_eq!(error(dir.path(), "/none/c"), "config file /none/c does not exist");
    }

    #[test]
    fn a_file_or_folder_that_others_can_change_is_refused_with_the_command_that_mends_it() {
        let dir = tree();
        let file = dir.path().join("etc/efs-agent/config.toml");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
        };
        mode(&file, 0o664);
        assert_eq!(
            error(dir.path(), INSTALLED),
            format!("{INSTALLED} has mode 0664{RULE} (chmod go-w {INSTALLED})")
        );
        mode(&file, 0o600);
        assert!(read(dir.path(), None, None).is_ok());
        chown(&file, Some(1000), None).unwrap();
        assert_eq!(
            error(dir.path(), INSTALLED),
            format!("{INSTALLED} belongs to user 1000{RULE} (chown root:root {INSTALLED})")
        );
        chown(&file, Some(0), None).unwrap();
        mode(&dir.path().join("etc"), 0o1777);
        assert_eq!(
            error(dir.path(), INSTALLED),
            format!("/etc has mode 1777{RULE} (put it into /etc/efs-agent rather than below /etc)")
        );
    }

    #[test]
    fn symlinks_folders_fifos_and_odd_contents_are_refused() {
        let dir = tree();
        symlink("config.toml", dir.path().join("etc/efs-agent/link")).unwrap();
        symlink("efs-agent", dir.path().join("etc/other")).unwrap();
        nix::unistd::mkfifo(&dir.path().join("etc/fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        fs::write(dir.path().join("etc/latin1"), b"a\n\xe4\n").unwrap();
        fs::write(dir.path().join("etc/big"), vec![b' '; files::LARGEST as usize + 1]).unwrap();
        let cases = [
            (
                "/etc/efs-agent/link",
                "config file /etc/efs-agent/link is a symlink: put the file itself in its place",
            ),
            (
                "/etc/other/config.toml",
                "config file /etc/other/config.toml cannot be reached: /etc/other is a symlink or no folder; write its real path",
            ),
            ("/etc/efs-agent", "config file /etc/efs-agent is not a regular file"),
            ("/etc/fifo", "config file /etc/fifo is not a regular file"),
            ("/etc/latin1", "config file /etc/latin1 is not UTF-8 (line 2): save it as UTF-8"),
            ("/etc/big", "config file /etc/big is over 1 MiB: that is no config file"),
            (
                "/etc/../etc/big",
                "config file /etc/../etc/big has \"..\" in its path: write it out in full",
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(error(dir.path(), path), expected);
        }
    }
}
