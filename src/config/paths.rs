//! Paths: the folder on the server, and where it is mounted. Which folders are refused because the system lives in
//! them stands here. Nothing is looked up on the disk.

use crate::text::misleads;
use std::path::{Path, PathBuf};

/// Folders that the system itself lives in. A share over one of them would take the desktop down.
const SYSTEM_FOLDERS: &[&str] =
    &["/", "/home", "/opt", "/root", "/run", "/tmp", "/var", "/var/lib", "/var/log", "/var/tmp"];
/// Folders that are refused with all that is below them. What is put there runs as root, or is believed by what does.
const SYSTEM_TREES: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib64",
    "/opt/appstream",
    "/proc",
    "/root/.aws",
    "/root/.config",
    "/root/.gnupg",
    "/root/.ssh",
    "/run/credentials",
    "/run/dbus",
    "/run/efs-agent",
    "/run/lock",
    "/run/log",
    "/run/systemd",
    "/run/udev",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/dpkg",
    "/var/lib/efs-agent",
    "/var/lib/rpm",
    "/var/lib/sss",
    "/var/lib/systemd",
    "/var/run",
    "/var/spool",
];

/// What stands for a user or a machine in the words of shells, pam_mount and autofs.
const VARIABLES: [&str; 8] =
    ["USER", "LOGNAME", "USERNAME", "HOME", "UID", "GID", "HOSTNAME", "HOST"];

/// The folder on the server.
pub fn path_from(text: &str) -> Result<String, String> {
    check_no_variable(text)?;
    absolute(text).map(|path| path.to_string_lossy().into())
}

/// Where a share is mounted.
pub fn mount_point_from(text: &str) -> Result<PathBuf, String> {
    check_no_variable(text)?;
    let path = absolute(text)?;

    if let Some(placeholder) = placeholder_in(text) {
        return Err(format!(
            "has a placeholder in it, \"{placeholder}\": put what is meant in its place"
        ));
    }

    if text.contains(['$', '~']) {
        return Err(
            "has \"$\" or \"~\" in it, which is not expanded: write the path out in full".into()
        );
    }

    if SYSTEM_FOLDERS.iter().any(|folder| path == Path::new(folder))
        || SYSTEM_TREES.iter().any(|folder| path.starts_with(folder))
    {
        return Err(
            "belongs to the system: take a folder of its own, like \"/mnt/efs_share\"".into()
        );
    }
    Ok(path)
}

/// An absolute path, normalised: no `//`, no trailing slash.
pub fn absolute(text: &str) -> Result<PathBuf, String> {
    if !text.starts_with('/') {
        return Err("is not an absolute path: it must begin with \"/\"".into());
    }
    if text.contains(misleads) {
        return Err("has a control character in it".into());
    }
    if text.len() > 1000 {
        return Err("is too long: allowed are 1000 bytes".into());
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        return Err("has \"..\" or \".\" in it: write the path out in full".into());
    }
    if text.split('/').any(|part| part.len() > 255) {
        return Err("has a name of over 255 bytes in it".into());
    }
    Ok(Path::new(text).components().collect())
}

/// Refuses what other programs replace, by the user's name for example. No folder is called that.
pub fn check_no_variable(text: &str) -> Result<(), String> {
    match text.split('/').find(|part| has_variable(part)) {
        Some(part) => Err(format!(
            "has {part:?} in it, which efs-agent does not expand: it mounts once for the machine, so write a path that is \
             the same for all users"
        )),
        None => Ok(()),
    }
}

/// Whether other programs expand one part of a path: `~`, `$USER`, `%u`, `%(USER)`, `%{user}`, `%username%`.
fn has_variable(part: &str) -> bool {
    let has_percent = part.strip_prefix('%').is_some_and(|rest| {
        rest.len() == 1 && rest.chars().all(|c| c.is_ascii_alphabetic())
            || rest.starts_with(['(', '{'])
            || rest.strip_suffix('%').is_some_and(|name| !name.is_empty())
    });
    part == "~" || has_percent || part.split('$').skip(1).any(begins_with_variable)
}

/// Whether what stands behind a `$` is expanded by others. A file may have a `$` in its name otherwise.
fn begins_with_variable(text: &str) -> bool {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    match name.is_empty() {
        true => rest.starts_with(['{', '(']),
        false => VARIABLES.iter().any(|known| name.eq_ignore_ascii_case(known)),
    }
}

/// `<user>` or `{user}` in a path.
fn placeholder_in(text: &str) -> Option<&str> {
    let start = text.find(['<', '{'])?;
    let rest = text.get(start..)?;
    let end = rest.find(['>', '}', '/']).filter(|end| !rest.split_at(*end).1.starts_with('/'))?;
    rest.get(..=end)
}
