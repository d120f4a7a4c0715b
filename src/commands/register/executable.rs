//! The path of this executable, and whether root may have it run again. AppStream or the service manager will run it as
//! root, so nobody else may be able to change it.

use super::file::fit_path;
use crate::files::{self, Fault};
use crate::report::Code;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What to do where the executable is in the wrong place.
const INSTALL: &str = "put it where root alone can write (sudo install -m 0755 efs-agent \
                       /usr/sbin/efs-agent) and run it from there";

/// Why root should not have this executable run again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {cure}")]
pub struct ExecutableError {
    pub(super) code: Code,
    /// What is wrong with it.
    pub what: String,
    /// What to do about it.
    pub cure: String,
}

/// # Errors
/// Why it must not be run again.
pub fn executable(root: &Path) -> Result<String, ExecutableError> {
    let proc = root.join("proc/self/exe");
    let path = fs::read_link(&proc).map_err(|e| ExecutableError {
        code: Code::FAULT,
        what: format!("cannot find this executable in /proc: {e}"),
        cure: "mount /proc".to_owned(),
    })?;

    let place = files::find(root, &path).map_err(|_| gone(&path))?;
    let file = place.look().ok().flatten().ok_or_else(|| gone(&path))?;
    if !is_running(&proc, &file).unwrap_or(false) {
        return Err(gone(&path));
    }
    place.trust(Some(&file)).map_err(|fault| untrusted(&path, &fault))?;

    fit_path(&path).map(str::to_owned).map_err(|error| ExecutableError {
        code: error.code(),
        what: error.to_string(),
        cure: INSTALL.to_owned(),
    })
}

/// Whether `file` is what runs as this process, which the link `proc` leads to.
fn is_running(proc: &Path, file: &File) -> io::Result<bool> {
    let (running, there) = (fs::metadata(proc)?, file.metadata()?);
    Ok((running.dev(), running.ino()) == (there.dev(), there.ino()))
}

fn gone(path: &Path) -> ExecutableError {
    ExecutableError {
        code: Code::PERMISSION,
        what: format!("this executable, {}, is no longer there", path.display()),
        cure: INSTALL.to_owned(),
    }
}

fn untrusted(path: &Path, fault: &Fault) -> ExecutableError {
    let what = format!(
        "{} {}: {} is to be run as root again, so it and its folders must belong to root and be \
         writable by nobody else",
        fault.path.display(),
        fault.why,
        path.display()
    );
    let cure = if fault.path == path { fault.mend() } else { INSTALL.to_owned() };
    ExecutableError { code: Code::PERMISSION, what, cure }
}
