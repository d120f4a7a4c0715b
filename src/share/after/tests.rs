//! What is said after a mount, by what the look at its root has shown.

use super::*;
use crate::config::test::{encrypted_share, share};
use crate::share::worker::WorkerError;
use std::fs;

fn report(set: Result<(), Errno>, writable: Result<(), Errno>) -> RootReport {
    RootReport { opened: Ok(()), uid: 0, gid: 0, mode: 0o755, is_the_share: true, set, writable }
}

fn texts(share: &Share, report: Result<RootReport, WorkerError>) -> Vec<String> {
    let user = User { name: "as2-streaming-user".into(), uid: 9, gid: 9, groups: vec![] };
    notes(share, Some(&user), report).into_iter().map(|(_, text)| text).collect()
}

#[test]
fn a_share_that_users_cannot_write_is_told_with_the_cure() {
    assert_eq!(
        texts(&share(""), Ok(report(Ok(()), Err(Errno::EACCES)))),
        ["as2-streaming-user cannot write to /mnt/efs_share (its root has mode 0755 and belongs \
          to 0:0): set root_mode = \"1777\" in the config, or let an access point set the owner"]
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
            assert!(text.contains("its mode is right; the server exports it read-only"), "{text}");
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
        ["/mnt/efs_share is mounted, but its root could not be looked at, and root_mode is not \
          set: stopped by a signal"]
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
        ["/mnt/efs_share is mounted, but its root could not be looked at, and root_mode is not \
          set: cut off when its time was up"]
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
