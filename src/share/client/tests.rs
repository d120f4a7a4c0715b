//! The client's identity and host names, on machines whose files a test writes.

use super::*;
use std::fs;

const BOOT: &str = "0f9d2c1e-5b7a-4c3d-8e6f-a1b2c3d4e5f6\n";
const OURS: &str = "efs-agent-0f9d2c1e5b7a4c3d8e6fa1b2c3d4e5f6";

/// A machine of this boot whose kernel has these in its two places; `None`: there is no such file.
fn machine(namespace: Option<&str>, parameter: Option<&str>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        (NAMESPACE, namespace),
        (PARAMETER, parameter),
        (BOOT_ID, Some(BOOT)),
        (NETWORK, Some("")),
    ];
    for (path, text) in files.into_iter().filter_map(|(path, text)| Some((path, text?))) {
        let path = files::below(dir.path(), path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir
}

const NEW: fn() -> String = || "5.10.0-46-cloud-amd64".into();
const BETWEEN: fn() -> String = || "5.4.301-224.amzn2.x86_64".into();
const OLD: fn() -> String = || "4.18.0-553.el8_10.x86_64".into();

fn set(text: &str, place: &'static str, by: SetBy) -> ClientIdentity {
    ClientIdentity::Set { text: text.into(), place, by }
}

#[test]
fn a_kernel_without_an_identity_gets_that_of_the_boot_and_the_next_run_finds_it() {
    for (release, namespace, parameter, place) in [
        (NEW, Some("(null)\n"), Some("\n"), NAMESPACE),
        (NEW, Some("(null)\n"), None, NAMESPACE),
        (OLD, None, Some("\n"), PARAMETER),
        (BETWEEN, Some("(null)\n"), Some("\n"), PARAMETER),
        (BETWEEN, Some("not heeded\n"), Some("\n"), PARAMETER),
    ] {
        let dir = machine(namespace, parameter);
        assert_eq!(
            ClientIdentity::on(dir.path(), release),
            ClientIdentity::Unset { place, why: None }
        );
        let first = NfsClient::on(dir.path(), release, &|| ());
        assert_eq!(first.identity, set(OURS, place, SetBy::EfsAgent));
        assert_eq!(fs::read_to_string(files::below(dir.path(), place)).unwrap().trim(), OURS);
        assert_eq!(NfsClient::on(dir.path(), release, &|| ()), first);
    }
}

#[test]
fn one_that_an_administrator_has_set_is_kept_wherever_it_stands() {
    for (release, namespace, parameter, place) in [
        (NEW, Some("lab-42\n"), Some("\n"), NAMESPACE),
        (NEW, Some("(null)\n"), Some("lab-42\n"), PARAMETER),
        (OLD, None, Some("lab-42\n"), PARAMETER),
        (NEW, Some("lab-42\n"), Some("other\n"), NAMESPACE),
        (BETWEEN, Some("other\n"), Some("lab-42\n"), PARAMETER),
    ] {
        let dir = machine(namespace, parameter);
        let client = NfsClient::on(dir.path(), release, &|| ());
        assert_eq!(client.identity, set("lab-42", place, SetBy::Administrator));
        let kept = |path, text: Option<&str>| {
            assert_eq!(fs::read_to_string(files::below(dir.path(), path)).ok().as_deref(), text);
        };
        kept(NAMESPACE, namespace);
        kept(PARAMETER, parameter);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_risk_and_the_names_hold_all_the_same() {
    let dir = machine(None, None);
    fs::create_dir_all(files::below(dir.path(), PARAMETER)).unwrap();
    let client = NfsClient::on(dir.path(), OLD, &|| ());
    let unset = client.identity.clone();
    assert_eq!(unset, ClientIdentity::Unset { place: PARAMETER, why: Some(Errno::EISDIR) });
    let text = unset.sentence("ip-10-0-0-2");
    assert!(
        text.starts_with(
            "the kernel's NFS client has no identity (/sys/module/nfs/parameters/nfs4_unique_id: is a \
             directory): the shares of efs-agent have names of their own all the same"
        ),
        "{text}"
    );
    assert!(text.contains("known to its server as ip-10-0-0-2 alone"), "{text}");
    assert!(unset.cure().is_some_and(|cure| cure.contains(PARAMETER)));
    assert_eq!(
        client.host_name(Way::Plain(2049)),
        NfsClient::on(dir.path(), OLD, &|| ()).host_name(Way::Plain(2049))
    );
}

#[test]
fn without_an_nfs_client_nothing_is_written() {
    let dir = machine(None, None);
    let client = NfsClient::on(dir.path(), NEW, &|| ());
    assert_eq!(client.identity, ClientIdentity::NoClient);
    assert!(!files::below(dir.path(), "/sys").exists());
    assert!(client.host_name(Way::Plain(2049)).to_str().unwrap().starts_with(PREFIX));
}

#[test]
fn a_client_whose_files_are_hidden_is_told_of_and_so_are_mounts_of_before() {
    let dir = machine(None, None);
    let write = |path: &str, text: &str| {
        fs::create_dir_all(files::below(dir.path(), path).parent().unwrap()).unwrap();
        fs::write(files::below(dir.path(), path), text).unwrap();
    };
    write("/proc/filesystems", "nodev\tnfs\nnodev\tnfs4\n");
    let client = NfsClient::on(dir.path(), NEW, &|| ());
    let hidden = ClientIdentity::Unset { place: NAMESPACE, why: Some(Errno::ENOENT) };
    assert_eq!((client.identity, client.earlier), (hidden, false));
    write(NAMESPACE, "(null)\n");
    write("/proc/fs/nfsfs/servers", "NV SERVER   PORT USE HOSTNAME\nv4 0a000001  801   1 x\n");
    assert!(NfsClient::on(dir.path(), NEW, &|| ()).earlier);
    assert!(!NfsClient::on(dir.path(), NEW, &|| ()).earlier, "it has its identity now");
}

#[test]
fn the_client_is_loaded_where_it_is_not() {
    let dir = machine(None, None);
    let load = || {
        fs::create_dir_all(files::below(dir.path(), NAMESPACE).parent().unwrap()).unwrap();
        fs::write(files::below(dir.path(), NAMESPACE), "(null)\n").unwrap();
    };
    let client = NfsClient::on(dir.path(), NEW, &load);
    assert_eq!(client.identity, set(OURS, NAMESPACE, SetBy::EfsAgent));
}

#[test]
fn each_way_has_a_host_name_of_its_own_and_so_has_each_boot_and_each_network() {
    let (a, b) = (machine(Some("(null)\n"), None), machine(Some("(null)\n"), None));
    let (a, b) = (NfsClient::on(a.path(), NEW, &|| ()), NfsClient::on(b.path(), NEW, &|| ()));
    let ways = [Way::Plain(2049), Way::Tunnel(40001), Way::Tunnel(40002)];
    let mut names: Vec<CString> =
        [&a, &b].iter().flat_map(|client| ways.map(|way| client.host_name(way))).collect();
    assert_eq!(names[0], a.host_name(Way::Plain(2049)), "always the same");
    for name in &names {
        let name = name.to_str().unwrap();
        assert!(name.starts_with(PREFIX) && name.len() <= 64, "{name}");
    }
    names.sort();
    names.dedup();
    // The boot id is the same: the two differ in their networks.
    assert_eq!(names.len(), 6);
}

#[test]
fn a_module_option_that_looks_like_ours_may_have_come_with_the_image() {
    let other = "efs-agent-00000000000000000000000000000000";
    let dir = machine(Some("(null)\n"), Some(other));
    let client = NfsClient::on(dir.path(), NEW, &|| ());
    assert_eq!(client.identity, set(other, PARAMETER, SetBy::Administrator));
    assert!(client.seed.starts_with(&OURS[PREFIX.len()..]), "{}", client.seed);
}

#[test]
fn a_kernel_that_does_not_tell_of_its_boot_gives_names_for_one_run() {
    let dir = machine(Some("(null)\n"), None);
    fs::remove_file(files::below(dir.path(), BOOT_ID)).unwrap();
    let names = || NfsClient::on(dir.path(), NEW, &|| ()).host_name(Way::Plain(2049));
    assert_ne!(names(), names());
    let unset = ClientIdentity::Unset { place: NAMESPACE, why: Some(Errno::ENOENT) };
    assert_eq!(NfsClient::on(dir.path(), NEW, &|| ()).identity, unset);
}
