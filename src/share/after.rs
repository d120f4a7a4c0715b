//! What is done and said once a share is mounted: read-ahead, and what the
//! look at its root means for the people who will use it. Nothing here is fatal.

use crate::appstream::User;
use crate::config::{Level, Share};
use crate::share::Mounted;
use crate::share::worker::{RootReport, WorkerError};
use crate::text::word;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::write;
use std::path::Path;

/// Sets the read-ahead of the mount: 15 times rsize, which is what the kernel itself took
/// before 5.4 and what amazon-efs-utils sets. Where the kernel has no such file, nothing.
/// `root` is `/` outside of tests.
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
pub fn notes(
    share: &Share,
    user: Option<&User>,
    report: Result<RootReport, WorkerError>,
) -> Vec<(Level, String)> {
    let at = share.mount_point.display();
    let warning = |text: String| vec![(Level::Warning, text)];
    let report = match report {
        Ok(report) => report,
        Err(e) => {
            let what = "its root could not be looked at";
            let mode = if share.root_mode.is_some() { ", and root_mode is not set" } else { "" };
            return warning(format!("{at} is mounted, but {what}{mode}: {e}"));
        }
    };
    if let Some(errno) = report.fault() {
        return warning(format!("{at} is mounted, but root cannot open it: {errno}"));
    }
    if !report.is_the_share {
        return warning(format!(
            "{at} is mounted, but something else was put over it: see findmnt {}",
            word(&at)
        ));
    }
    let mut notes = Vec::new();
    if let Err(errno) = report.opened {
        // Its users may open it all the same.
        let RootReport { uid, gid, mode, .. } = report;
        notes.push((
            Level::Info,
            format!(
                "root cannot open {at} ({errno:?}), as where the server squashes root: its root has mode {mode:04o} \
                 and belongs to {uid}:{gid}"
            ),
        ));
    }
    if let (Err(errno), Some(mode)) = (report.set, share.root_mode) {
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
        notes.push((
            Level::Warning,
            format!("root_mode {mode:04o} of {at} could not be set: {why}"),
        ));
    }
    let read_only = share.options.flags & libc::MS_RDONLY != 0;
    if let (Err(errno), Some(user), false) = (report.writable, user, read_only) {
        let RootReport { uid, gid, mode, .. } = report;
        let state = format!("its root has mode {mode:04o} and belongs to {uid}:{gid}");
        let mend = match (errno, share.root_mode) {
            (Errno::EROFS, _) if share.encryption.is_some() => {
                "the file system policy must allow elasticfilesystem:ClientWrite to it"
            }
            (Errno::EROFS, _) => "the server exports it read-only",
            // The server says no to what the mode allows, and tells nobody why.
            _ if lets_write(user, &report) && share.encryption.is_some() => {
                "its mode is right; the file system policy must allow elasticfilesystem:ClientWrite to it"
            }
            _ if lets_write(user, &report) => {
                "its mode is right; the server exports it read-only (let its export, or the file system policy, \
                 allow writing; or put ro into `options`)"
            }
            (_, None) => {
                "set root_mode = \"1777\" in the config, or let an access point set the owner"
            }
            (_, Some(_)) => "choose a root_mode that lets others write, such as \"1777\"",
        };
        let name = &user.name;
        notes.push((Level::Warning, format!("{name} cannot write to {at} ({state}): {mend}")));
    }
    notes
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

/// Which actions of the file system policy change the root of a share.
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
mod tests {
    use super::*;
    use crate::config::test::{encrypted_share, share};
    use std::fs;

    fn report(set: Result<(), Errno>, writable: Result<(), Errno>) -> RootReport {
        RootReport {
            opened: Ok(()),
            uid: 0,
            gid: 0,
            mode: 0o755,
            is_the_share: true,
            set,
            writable,
        }
    }

    fn texts(share: &Share, report: Result<RootReport, WorkerError>) -> Vec<String> {
        let user = User { name: "as2-streaming-user".into(), uid: 9, gid: 9, groups: vec![] };
        notes(share, Some(&user), report).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn a_share_that_users_cannot_write_is_told_with_the_cure() {
        assert_eq!(
            texts(&share(""), Ok(report(Ok(()), Err(Errno::EACCES)))),
            [
                "as2-streaming-user cannot write to /mnt/efs_share (its root has mode 0755 and belongs \
              to 0:0): set root_mode = \"1777\" in the config, or let an access point set the owner"
            ]
        );
        assert!(texts(&share(""), Ok(report(Ok(()), Ok(())))).is_empty());
        let read_only = share("options = \"ro\"");
        assert!(texts(&read_only, Ok(report(Ok(()), Err(Errno::EROFS)))).is_empty());
    }

    #[test]
    fn a_mode_that_is_right_is_not_to_be_set_again() {
        let refused = report(Ok(()), Err(Errno::EACCES));
        let told = |share: &Share, report: RootReport| texts(share, Ok(report)).pop().unwrap();
        let plain = share("");
        let with_mode = share("root_mode = \"1777\"");
        for (uid, gid, mode) in [(0, 0, 0o1777), (9, 0, 0o700), (0, 9, 0o770), (0, 0, 0o003)] {
            let report = RootReport { uid, gid, mode, ..refused };
            for share in [&plain, &with_mode] {
                let text = told(share, report);
                assert!(
                    text.contains("its mode is right; the server exports it read-only"),
                    "{text}"
                );
            }
            let text = told(&encrypted_share(""), report);
            assert!(text.ends_with("must allow elasticfilesystem:ClientWrite to it"), "{text}");
        }
        for (uid, gid, mode) in [(0, 0, 0o775), (9, 0, 0o077), (0, 9, 0o707)] {
            let report = RootReport { uid, gid, mode, ..refused };
            assert!(told(&plain, report).contains("set root_mode"), "{mode:o}");
        }
    }

    #[test]
    fn a_root_that_root_may_not_open_is_no_fault_as_long_as_its_users_may() {
        let squashed = RootReport {
            opened: Err(Errno::EACCES),
            uid: 9,
            gid: 9,
            mode: 0o700,
            ..report(Ok(()), Ok(()))
        };
        assert_eq!(squashed.fault(), None);
        let user = User { name: "as2-streaming-user".into(), uid: 9, gid: 9, groups: vec![] };
        let told = |report| notes(&share(""), Some(&user), Ok(report));
        assert_eq!(
            told(squashed),
            [(
                Level::Info,
                "root cannot open /mnt/efs_share (EACCES), as where the server squashes root: its root has mode 0700 \
                 and belongs to 9:9"
                    .to_owned()
            )]
        );
        let others = told(RootReport { writable: Err(Errno::EACCES), ..squashed });
        assert_eq!(others.len(), 2);
        assert!(others[1].1.starts_with("as2-streaming-user cannot write to "), "{others:?}");
        for errno in [Errno::ESTALE, Errno::EIO, Errno::ENOENT] {
            let broken = RootReport { opened: Err(errno), ..squashed };
            assert_eq!(broken.fault(), Some(errno));
        }
    }

    #[test]
    fn a_root_mode_that_cannot_be_set_names_the_squashed_root() {
        let notes = texts(&share("root_mode = \"1777\""), Ok(report(Err(Errno::EPERM), Ok(()))));
        assert!(notes[0].starts_with(
            "root_mode 1777 of /mnt/efs_share could not be set: the server does not let root change it"
        ));
    }

    #[test]
    fn a_run_stopped_before_the_last_step_says_what_is_not_done() {
        let stopped = Err(WorkerError::Stopped(crate::retry::Stopped));
        assert_eq!(
            texts(&share("root_mode = \"1777\""), stopped),
            [
                "/mnt/efs_share is mounted, but its root could not be looked at, and root_mode is not \
              set: stopped by a signal"
            ]
        );
    }

    #[test]
    fn a_root_that_is_not_the_shares_is_told() {
        let other = RootReport { is_the_share: false, ..report(Ok(()), Ok(())) };
        assert!(texts(&share(""), Ok(other))[0].contains("something else was put over it"));
    }

    #[test]
    fn a_root_that_could_not_be_looked_at_in_time_is_told() {
        assert_eq!(
            texts(&share("root_mode = \"1777\""), Err(WorkerError::CutOff)),
            [
                "/mnt/efs_share is mounted, but its root could not be looked at, and root_mode is not \
              set: cut off when its time was up"
            ]
        );
    }

    #[test]
    fn read_ahead_is_fifteen_times_rsize_and_a_missing_file_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut mounted = Mounted::fake(false);
        set_read_ahead(dir.path(), &mounted);
        let folder = dir.path().join("sys/class/bdi/0:45");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("read_ahead_kb"), "").unwrap();
        set_read_ahead(dir.path(), &mounted);
        assert_eq!(fs::read_to_string(folder.join("read_ahead_kb")).unwrap(), "15360");
        mounted.rsize = 0;
        set_read_ahead(dir.path(), &mounted);
        assert_eq!(fs::read_to_string(folder.join("read_ahead_kb")).unwrap(), "15360");
    }

    #[test]
    fn of_an_encrypted_share_the_missing_action_of_the_policy_is_named() {
        let encrypted = |line: &str| encrypted_share(&format!("root_mode = \"1777\"\n{line}\n"));
        let not_set = report(Err(Errno::EPERM), Ok(()));
        let [note] = &texts(&encrypted(""), Ok(not_set))[..] else { panic!("one note") };
        assert!(
            note.starts_with("root_mode 1777 of /mnt/efs_share could not be set: the file system policy must allow elasticfilesystem:ClientWrite and elasticfilesystem:ClientRootAccess"),
            "{note}"
        );
        let point = encrypted("access_point = \"fsap-0123456789abcdef0\"");
        let [note] = &texts(&point, Ok(not_set))[..] else { panic!("one note") };
        assert!(note.contains("through fsap-0123456789abcdef0, everything is done as"), "{note}");
        let read_only = report(Ok(()), Err(Errno::EROFS));
        let [note] = &texts(&encrypted(""), Ok(read_only))[..] else { panic!("one note") };
        assert!(note.ends_with("must allow elasticfilesystem:ClientWrite to it"), "{note}");
    }
}
