//! What is done and said once a share is mounted: its read-ahead, and what the state of its root
//! means for its users. Nothing here is fatal. The look at the root itself is made in
//! `super::worker`.

use crate::appstream::User;
use crate::config::{Level, Share};
use crate::share::Mounted;
use crate::share::worker::{RootLook, RootReport};
use crate::text::word;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::write;
use std::path::Path;

/// Sets the read-ahead of the mount to 15 times rsize. The kernel itself did so before 5.4, and
/// amazon-efs-utils does so. Does nothing where the kernel has no such file. `root` is `/` outside
/// of tests.
pub fn set_read_ahead(root: &Path, mounted: &Mounted) {
    let kib = 15 * (mounted.rsize / 1024);
    let file = root.join("sys/class/bdi").join(&mounted.device).join("read_ahead_kb");
    if kib > 0 {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let _ = openat(AT_FDCWD, &file, flags, Mode::empty())
            .and_then(|file| write(&file, kib.to_string().as_bytes()));
    }
}

/// What a person should know after the look at the share's root.
pub fn notes(share: &Share, user: Option<&User>, look: RootLook) -> Vec<(Level, String)> {
    let report = match usable(share, look) {
        Ok(report) => report,
        Err(text) => return vec![(Level::Warning, text)],
    };

    let warnings = [mode_warning(share, &report), writing_warning(share, user, &report)];
    let warnings = warnings.into_iter().flatten().map(|text| (Level::Warning, text));
    let note = squashed_note(share, &report).map(|text| (Level::Info, text));
    note.into_iter().chain(warnings).collect()
}

/// The report of a look, or in words why there is nothing more to say.
fn usable(share: &Share, look: RootLook) -> Result<RootReport, String> {
    let at = share.mount_point.display();
    let report = look.map_err(|e| {
        let mode = if share.root_mode.is_some() { ", and root_mode is not set" } else { "" };
        format!("{at} is mounted, but its root could not be looked at{mode}: {e}")
    })?;

    if let Some(errno) = report.fault() {
        return Err(format!("{at} is mounted, but root cannot open it: {errno}"));
    }
    if !report.is_the_share {
        let look = format!("see findmnt {}", word(&at));
        return Err(format!("{at} is mounted, but something else was put over it: {look}"));
    }
    Ok(report)
}

/// What it means that the root user may not open the share's root. Its users may open it all the
/// same.
fn squashed_note(share: &Share, report: &RootReport) -> Option<String> {
    let errno = report.opened.err()?;
    let (at, RootReport { uid, gid, mode, .. }) = (share.mount_point.display(), report);
    Some(format!(
        "root cannot open {at} ({errno:?}), as where the server squashes root: its root has mode {mode:04o} \
         and belongs to {uid}:{gid}"
    ))
}

/// What it means that the mode of the root could not be set.
fn mode_warning(share: &Share, report: &RootReport) -> Option<String> {
    let (errno, mode) = (report.set.err()?, share.root_mode?);
    let why = match errno {
        Errno::EPERM | Errno::EACCES | Errno::EROFS if share.encryption.is_some() => {
            not_allowed(share)
        }
        Errno::EPERM | Errno::EACCES => {
            "the server does not let root change it (squashed root: allow ClientRootAccess in \
             the file system policy, or take root_mode out and let an access point set the mode)"
                .to_owned()
        }
        Errno::EROFS => "the server exports it read-only".to_owned(),
        other => other.to_string(),
    };

    let at = share.mount_point.display();
    Some(format!("root_mode {mode:04o} of {at} could not be set: {why}"))
}

/// What it means that the streaming user cannot write, where that is not what the config wants.
fn writing_warning(share: &Share, user: Option<&User>, report: &RootReport) -> Option<String> {
    if share.options.flags & libc::MS_RDONLY != 0 {
        return None;
    }

    let (errno, user) = (report.writable.err()?, user?);
    let cure = match (errno, share.root_mode) {
        (Errno::EROFS, _) if share.encryption.is_some() => {
            "the file system policy must allow elasticfilesystem:ClientWrite to it"
        }
        (Errno::EROFS, _) => "the server exports it read-only",
        // The server refuses what the mode allows, and does not say why.
        _ if lets_write(user, report) && share.encryption.is_some() => {
            "its mode is right; the file system policy must allow elasticfilesystem:ClientWrite to it"
        }
        _ if lets_write(user, report) => {
            "its mode is right; the server exports it read-only (let its export, or the file system policy, \
             allow writing; or put ro into `options`)"
        }
        (_, None) => "set root_mode = \"1777\" in the config, or let an access point set the owner",
        (_, Some(_)) => "choose a root_mode that lets others write, such as \"1777\"",
    };

    let (name, at) = (&user.name, share.mount_point.display());
    let RootReport { uid, gid, mode, .. } = report;
    Some(format!(
        "{name} cannot write to {at} (its root has mode {mode:04o} and belongs to {uid}:{gid}): {cure}"
    ))
}

/// Whether the mode of the root lets the user make files in it.
fn lets_write(user: &User, report: &RootReport) -> bool {
    let RootReport { uid, gid, mode, .. } = report;
    let bits = match () {
        () if *uid == user.uid => 0o300,
        () if *gid == user.gid || user.groups.contains(gid) => 0o030,
        () => 0o003,
    };

    mode & bits == bits
}

/// Which actions of the file system policy let a client change the root of a share.
fn not_allowed(share: &Share) -> String {
    let through = share.encryption.as_ref().and_then(|e| e.access_point.as_ref());
    match through {
        Some(id) => format!(
            "through {id}, everything is done as the access point's user: take root_mode out and give \
             the access point's root folder the permissions, or have that user own it"
        ),
        None => "the file system policy must allow elasticfilesystem:ClientWrite and \
                 elasticfilesystem:ClientRootAccess to who mounts it (or take root_mode out and let an \
                 access point set the mode)"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
