//! Where this program is installed, and whether root may have it started again from there: by AppStream, or by the
//! service manager. Starts nothing, and writes nothing.

use crate::files::{self, Fault};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The cure for most of the reasons.
pub const INSTALL: &str = "put it where root alone can write (sudo install -m 0755 efs-agent \
                       /usr/sbin/efs-agent) and run it from there";

/// Why root should not have this program started again.
#[derive(Debug, thiserror::Error)]
pub enum ProgramPathError {
    /// /proc does not show the program.
    #[error("cannot find this executable in /proc: {0}")]
    NoProc(io::Error),
    /// It was removed, or replaced by another one.
    #[error("this executable, {}, is no longer there", .0.display())]
    Gone(PathBuf),
    /// Users other than root can change it, or a folder above it.
    #[error("{} {}: {} is to be run as root again, so it and its folders must belong to root \
             and be writable by nobody else", .fault.path.display(), .fault.why, .program.display())]
    Changeable {
        program: PathBuf,
        /// What is wrong, and where.
        fault: Fault,
    },
}

impl ProgramPathError {
    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::NoProc(_) => "mount /proc".to_owned(),
            Self::Changeable { program, fault } if fault.path == *program => {
                format!("{} {}", fault.command, program.display())
            }
            _ => INSTALL.to_owned(),
        }
    }
}

/// The path, below `root`, of this program, which AppStream or the service manager will start as root. `root` is `/`
/// outside of tests.
///
/// # Errors
/// See [`ProgramPathError`].
pub fn executable(root: &Path) -> Result<PathBuf, ProgramPathError> {
    let proc = root.join("proc/self/exe");
    let path = fs::read_link(&proc).map_err(ProgramPathError::NoProc)?;
    let gone = || ProgramPathError::Gone(path.clone());

    let place = files::find(root, &path).map_err(|_| gone())?;
    let file = place.look().ok().flatten().ok_or_else(gone)?;
    let running = fs::metadata(&proc).ok();
    let there = file.metadata().ok();
    if !running.zip(there).is_some_and(|(running, there)| is_same(&running, &there)) {
        return Err(gone());
    }

    if let Err(fault) = place.trust(Some(&file)) {
        return Err(ProgramPathError::Changeable { program: path, fault });
    }
    Ok(path)
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}
