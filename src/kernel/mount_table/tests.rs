//! What the table's bytes are read as, and how its entries compare with a share.

use super::*;
use crate::config::test;

const LINES: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
35 22 0:31 / /mnt/a\\040b rw,nosuid,nodev,relatime shared:5 master:2 - nfs4 fs-1.example:/ rw,vers=4.1,rsize=1048576,wsize=1048576,namlen=255,hard,noresvport,proto=tcp,timeo=600,retrans=2,sec=sys,clientaddr=10.0.0.2,local_lock=none,addr=10.0.0.1
garbage
36 35 0:32 / /mnt/a\\040b rw - tmpfs t\\134x rw
";

#[test]
fn contexts_of_selinux_are_compared_without_their_quotes_and_hide_nothing_behind_a_comma() {
    let line = |context: &str| {
        format!(
            "35 22 0:31 / /mnt/s rw,nosuid,nodev - nfs4 fs-1.example:/ rw,{context}vers=4.1,hard,noresvport,\
             timeo=600,retrans=2,addr=10.0.0.1\n"
        )
    };
    let of = |is: &str, options: &str| {
        let text = line(is);
        let table = parse(text.as_bytes());
        let share = test::share(&format!("mount_point = \"/mnt/s\"\noptions = '{options}'"));
        standing(&table[0], &share)
    };
    let quoted = "context=\"u:r:t:s0:c1,soft\"";
    assert_eq!(of(&format!("{quoted},"), quoted), ShareMatch::Ours(vec![]));
    assert_eq!(of("context=u:r:t:s0,", "context=\"u:r:t:s0\""), ShareMatch::Ours(vec![]));
    assert_eq!(
        of("", quoted),
        ShareMatch::Ours(vec!["no context= instead of context=u:r:t:s0:c1,soft".into()])
    );
    assert_eq!(
        of("fscontext=u:r:t,", ""),
        ShareMatch::Ours(vec!["fscontext=u:r:t instead of no fscontext=".into()])
    );
}

const HIDDEN: &str = "\
22 1 254:0 / / rw - ext4 /dev/vda1 rw
35 22 0:31 / /mnt/s rw - nfs4 fs-1.example:/ rw,vers=4.1,addr=10.0.0.1
36 22 0:32 / /mnt rw - tmpfs over rw
";

fn share(options: &str) -> Share {
    test::share(&format!("mount_point = \"/mnt/a b\"\noptions = \"{options}\""))
}

#[test]
fn escapes_optional_fields_and_garbage_are_dealt_with() {
    let table = parse(LINES.as_bytes());
    assert_eq!(table.len(), 3);
    assert_eq!(table[1].mount_point, Path::new("/mnt/a b"));
    assert_eq!(table[1].option("addr"), Some("10.0.0.1"));
    assert_eq!(table[2].source, "t\\x");
    assert_eq!(&*unescape(b"\\04"), b"\\04");
    for unlike in [&b"\\999"[..], b"\\+12", b"\\777"] {
        assert_eq!(&*unescape(unlike), unlike);
    }
    let device = |text: &str| parse(format!("5 1 {text} / /m rw - a b c\n").as_bytes()).len();
    assert_eq!((device("0:31"), device("../x"), device("/x")), (1, 0, 0));
}

#[test]
fn the_mount_that_is_seen_is_the_one_nothing_is_on_whatever_the_order() {
    let mut table = parse(LINES.as_bytes());
    assert_eq!(top_at(&table, Path::new("/mnt/a b")).unwrap().id, 36);
    table.reverse();
    assert_eq!(top_at(&table, Path::new("/mnt/a b")).unwrap().id, 36);
    assert_eq!(top_at(&table, Path::new("/mnt")), None);
}

#[test]
fn many_mounts_on_one_another_are_gone_through_once_and_a_circle_ends() {
    let line = |id: u32| format!("{id} {} 0:1 / / rw - ext4 a rw\n", id - 1);
    let text: String = (1..=50_000).map(line).collect();
    assert_eq!(top_at(&parse(text.as_bytes()), Path::new("/")).unwrap().id, 50_000);
    let circle = "3 9 0:1 / / rw - a b c\n1 2 0:1 / / rw - a b c\n2 1 0:1 / / rw - a b c\n1 3 0:1 / / rw - a b c\n";
    assert!(top_at(&parse(circle.as_bytes()), Path::new("/")).is_some());
}

#[test]
fn a_mount_below_a_folder_that_was_mounted_over_is_not_seen() {
    let table = parse(HIDDEN.as_bytes());
    assert_eq!(top_at(&table, Path::new("/mnt/s")), None);
    assert_eq!(top_at(&table, Path::new("/mnt")).unwrap().id, 36);
    // In a chroot the outermost mounts hang on one that is not shown.
    let chroot = parse(&HIDDEN.as_bytes()[HIDDEN.find("35").unwrap()..]);
    assert_eq!(top_at(&chroot[..1], Path::new("/mnt/s")).unwrap().id, 35);
}

#[test]
fn a_remote_file_system_above_a_path_is_found_and_one_on_it_is_not_above() {
    let table = parse(LINES.as_bytes());
    assert_eq!(remote_above(&table[..2], Path::new("/mnt/a b/c")).unwrap().id, 35);
    assert_eq!(remote_above(&table[..2], Path::new("/mnt/a b")), None);
    assert_eq!(remote_above(&table, Path::new("/mnt/other")), None);
}

#[test]
fn an_automount_above_a_path_is_waited_at_unless_something_is_mounted_on_it() {
    let autofs =
        "22 1 254:0 / / rw - ext4 /dev/vda1 rw\n40 22 0:35 / /mnt rw - autofs systemd-1 rw\n";
    let at = |text: &str, path: &str| {
        remote_above(&parse(text.as_bytes()), Path::new(path)).map(|entry| entry.id)
    };
    assert_eq!(at(autofs, "/mnt/s"), Some(40));
    assert_eq!(at(autofs, "/mnt"), None, "on it is not above it");
    let used = format!("{autofs}41 40 8:1 / /mnt rw - ext4 /dev/vdb rw\n");
    assert_eq!(at(&used, "/mnt/s"), None);
    let share = format!("{autofs}41 40 0:36 / /mnt/s rw - nfs4 a:/ rw\n");
    assert_eq!(at(&share, "/mnt/s/x"), Some(41), "the server that may be dead");
}

#[test]
fn one_mount_alone_is_told_from_one_of_several() {
    let mut table = parse(LINES.as_bytes());
    assert_eq!(only_at(&table, Path::new("/mnt/a b")), None);
    table.pop();
    assert_eq!(only_at(&table, Path::new("/mnt/a b")).unwrap().id, 35);
    assert_eq!(only_at(&table, Path::new("/mnt")), None);
}

#[test]
fn a_mount_of_another_path_is_compared_once_it_is_known_to_be_the_shares() {
    let mut table = parse(LINES.as_bytes());
    table[1].source = "fs-9.example:/releases/1".into();
    assert_eq!(standing(&table[1], &share("")), ShareMatch::Foreign);
    assert_eq!(standing_of_own(&table[1], &share("")), ShareMatch::Ours(vec![]));
    let soft = ShareMatch::Ours(vec!["hard instead of soft".into()]);
    assert_eq!(standing_of_own(&table[1], &share("soft")), soft);
    table[1].flags = "ro,nosuid,nodev".into();
    assert_eq!(standing_of_own(&table[1], &share("")), ShareMatch::ReadOnly);
    table[1].options = "rw,vers=4.1,port=40001,addr=127.0.0.1".into();
    assert_eq!(standing_of_own(&table[1], &share("")), ShareMatch::OtherWay);
    for (source, has) in
        [("fs:/", true), ("fs:/a", false), ("fs:/a:/", true), ("fs", false), ("/", false)]
    {
        assert_eq!(has_path(source, &share("")), has, "{source}");
    }
}

#[test]
fn a_mount_is_ours_read_only_or_foreign() {
    let table = parse(LINES.as_bytes());
    assert_eq!(standing(&table[1], &share("")), ShareMatch::Ours(vec![]));
    assert_eq!(standing(&table[2], &share("")), ShareMatch::Foreign);
    assert_eq!(
        standing(&table[1], &share("soft,timeo=30,suid,ro")),
        ShareMatch::Ours(vec![
            "rw instead of ro".into(),
            "nosuid instead of suid".into(),
            "hard instead of soft".into(),
            "timeo=600 instead of timeo=30".into(),
        ])
    );
    let mut read_only = table[1].clone();
    read_only.flags = "ro,nosuid,nodev,relatime".into();
    assert_eq!(standing(&read_only, &share("")), ShareMatch::ReadOnly);
    assert_eq!(standing(&read_only, &share("ro")), ShareMatch::Ours(vec![]));
    let mut other = table[1].clone();
    other.source = "fs-2.example:/".into();
    assert_eq!(standing(&other, &share("")), ShareMatch::OtherName(vec![]));
    other.source = "fs-1.example:/home".into();
    assert_eq!(standing(&other, &share("")), ShareMatch::Foreign);
}

#[test]
fn a_mount_through_a_tunnel_is_ours_only_if_the_config_wants_one() {
    let name = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
    let share = |line: &str| {
        let text = format!("[[share]]\nendpoint = \"{name}\"\nmount_point = \"/m\"\n{line}\n");
        test::share_of(&text)
    };
    let line = |source: &str, place: &str| {
        format!(
            "5 1 0:31 / /m rw,nosuid,nodev - nfs4 {source}:/ rw,vers=4.1,noresvport,timeo=600,retrans=2,{place}\n"
        )
    };
    let (plain, encrypted) = (share(""), share("encryption_in_transit = true"));
    let ours = ShareMatch::Ours(vec![]);
    for (place, port, as_plain, as_encrypted) in [
        ("addr=10.0.0.1", 2049, &ours, &ShareMatch::OtherWay),
        ("port=40001,addr=127.0.0.1", 40001, &ShareMatch::OtherWay, &ours),
        ("port=40001,addr=10.0.0.1", 40001, &ours, &ShareMatch::OtherWay),
        // This is a server on this machine, without a tunnel.
        ("addr=127.0.0.1", 2049, &ours, &ShareMatch::OtherWay),
    ] {
        let line = line(name, place);
        let table = parse(line.as_bytes());
        assert_eq!(standing(&table[0], &plain), *as_plain, "{place}");
        assert_eq!(standing(&table[0], &encrypted), *as_encrypted, "{place}");
        assert_eq!(table[0].port(), port);
    }
    // This is how amazon-efs-utils mounts.
    let line = line("127.0.0.1", "port=20049,addr=127.0.0.1");
    let other = parse(line.as_bytes());
    assert_eq!(standing(&other[0], &encrypted), ShareMatch::OtherName(vec![]));
}
