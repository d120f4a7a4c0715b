use super::*;

fn data(text: &str) -> String {
    MountOptions::over_defaults(text).unwrap().data("10.0.0.1".parse().unwrap())
}

fn error(text: &str) -> String {
    MountOptions::over_defaults(text).unwrap_err()
}

#[test]
fn the_defaults_are_what_aws_recommends_with_nosuid_and_nodev() {
    let options = MountOptions::default();
    assert_eq!(
        options.data("10.0.0.1".parse().unwrap()),
        "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport,addr=10.0.0.1"
    );
    assert_eq!(options.flags, libc::MS_NOSUID | libc::MS_NODEV);
}

#[test]
fn a_given_option_takes_the_place_of_the_default_of_its_group() {
    assert_eq!(
        data("soft,timeo=30, vers=4.0 ,resvport,port=2050,actimeo=3"),
        "nfsvers=4.0,rsize=1048576,wsize=1048576,soft,timeo=30,retrans=2,resvport,actimeo=3,port=2050,addr=10.0.0.1"
    );
    assert!(data("vers=4,minorversion=2").starts_with("nfsvers=4.2,"));
    assert!(data("nfsvers=4").starts_with("nfsvers=4.1,"));
}

#[test]
fn generic_options_become_mount_flags_and_the_last_one_wins() {
    let flags = |text| MountOptions::over_defaults(text).unwrap().flags;
    let (nosuid, nodev) = (libc::MS_NOSUID, libc::MS_NODEV);
    assert_eq!(
        flags("ro,noexec,noatime"),
        nosuid | nodev | libc::MS_RDONLY | libc::MS_NOEXEC | libc::MS_NOATIME
    );
    assert_eq!(flags("ro,rw,suid,dev"), 0);
    assert!(!data("ro,noatime").contains("ro,"));
}

#[test]
fn words_of_fstab_are_passed_over_and_kept_for_the_log() {
    let options =
        MountOptions::over_defaults("defaults,_netdev,nofail,retry=2,x-systemd.automount,ro")
            .unwrap();
    assert_eq!(
        options.ignored,
        ["defaults", "_netdev", "nofail", "retry=2", "x-systemd.automount"]
    );
    assert_eq!(options.flags & libc::MS_RDONLY, libc::MS_RDONLY);
}

#[test]
fn what_cannot_be_is_named() {
    assert_eq!(error("rsize=1k"), "is not possible: \"rsize\" takes a number from 1024 to 1048576");
    assert_eq!(error("hrad"), "is not possible: unknown option \"hrad\"; did you mean \"hard\"?");
    assert_eq!(
        error("frobnicate"),
        "is not possible: unknown option \"frobnicate\": it is no option of the kernel's NFS client"
    );
    assert_eq!(error("sec=none"), "is not possible: \"sec\" takes sys");
    assert_eq!(
        error("vers=3"),
        "is not possible: \"vers=3\" is no version that works here (4.0, 4.1, 4.2; EFS has 4.0 and 4.1)"
    );
    assert_eq!(
        error("addr=1.2.3.4"),
        "is not possible: \"addr\" is set by efs-agent: it follows from `endpoint` and `path`; list further \
         addresses in `addresses`"
    );
    assert_eq!(
        error("tls,iam"),
        "is not possible: \"tls\" and \"iam\" are options of amazon-efs-utils' mount helper: write \
         encryption_in_transit = true and iam = true as lines of the [[share]]"
    );
    assert!(
        error("tls").ends_with("write encryption_in_transit = true as a line of the [[share]]")
    );
    assert!(error("accesspoint=fsap-1").contains("true and access_point = \"fsap-1\" as lines"));
    assert_eq!(error("port=0"), "is not possible: \"port=0\" is no port (1 to 65535)");
    assert!(
        error("uid=1000").contains("\"uid\" is no NFS option: owners and modes are the server's")
    );
    assert!(error("ro soft").contains("has a blank in it"));
    for word in ["a\u{1b}[31m", "x-a\u{7}", "comment=a\nb", "ro\tsoft"] {
        let expected = format!("is not possible: {word:?} has a control character");
        assert!(error(word).starts_with(&expected), "{}", error(word));
    }
    assert!(MountOptions::over_defaults("ro,\n\tsoft\n").is_ok());
    assert_eq!(error("hard=1"), "is not possible: \"hard\" takes no value");
    assert_eq!(error("nosuid=1"), "is not possible: \"nosuid\" takes no value");
}

#[test]
fn a_context_that_was_cut_at_its_comma_keeps_all_of_its_categories() {
    const LABEL: &str = "context=system_u:object_r:nfs_t:s0:c1,c2";
    const QUOTED: &str = "context=\"system_u:object_r:nfs_t:s0:c1,c2\"";
    let told = error(&format!("{LABEL},hard"));
    assert!(told.contains("put the context in double quotes"), "{told}");
    assert!(told.ends_with(&format!("write options = '{QUOTED},hard'")), "{told}");
    assert!(!told.contains("unknown"), "{told}");
    let told = error(&format!("-o {LABEL},hard"));
    assert!(told.contains(&format!("write options = {:?}", format!("{QUOTED},hard"))), "{told}");
    assert!(
        error("context=a:b:c:s0:c1.c3,c5,c7.c9").contains("context=\"a:b:c:s0:c1.c3,c5,c7.c9\"")
    );
    assert!(error("hard,c2").contains("unknown option \"c2\""));
    assert!(error("context=nfs_t,c2").contains("unknown option \"c2\""));
}

#[test]
fn the_pasted_defaults_of_mount_8_switch_no_safety_off_and_the_words_alone_do() {
    let flags = |text| MountOptions::over_defaults(text).unwrap().flags;
    for list in ["rw,suid,dev,exec,auto,nouser,async", "defaults,suid,dev", "dev,defaults"] {
        let options = MountOptions::over_defaults(list).unwrap();
        assert_eq!(options.flags, DEFAULT_FLAGS, "{list}");
        assert!(options.ignored.iter().any(|word| word == "dev"), "{list}");
    }
    assert_eq!(flags("suid"), libc::MS_NODEV);
    assert_eq!(flags("rw,suid,dev,exec"), 0);
}

#[test]
fn a_slip_in_how_a_word_is_written_is_told_with_the_right_one() {
    for (text, said) in [
        ("hard;timeo=600", "has \";\" in it: options are separated by commas"),
        ("nfsvers:4.1", "has \":\" where \"=\" is meant: write nfsvers=4.1"),
        ("NFSVERS=4.1", "is written in lower case: nfsvers=4.1"),
        ("Hard", "is written in lower case: hard"),
        ("TLS", "is written in lower case: tls"),
        ("Frobnicate", "unknown option \"Frobnicate\""),
        ("sec=krb5p", "\"sec=krb5p\" is Kerberos, which efs-agent does not speak"),
    ] {
        assert!(error(text).contains(said), "{}", error(text));
    }
    assert!(
        MountOptions::over_defaults("X-mount.mkdir=A;b").is_ok() || error("X-a;b").contains(';')
    );
    let told = error("nfsvers=4.1,hard nas.example:/ /mnt/efs_share");
    assert!(told.ends_with(
        "it ends with what belongs to the command mount(8): write endpoint = \"nas.example\", mount_point = \
         \"/mnt/efs_share\" and options = \"nfsvers=4.1,hard\" as lines of the [[share]]"
    ), "{told}");
}

#[test]
fn words_that_the_share_has_lines_for_already_are_to_be_taken_out() {
    let told = |held: &'static [&str], text| {
        MountOptions::beside(text, &|key| held.contains(&key)).unwrap_err()
    };
    let both = &["encryption_in_transit", "iam"][..];
    assert!(told(both, "tls,iam").ends_with("lines of its own for that: take `options` out"));
    assert!(told(both, "tls,ro").ends_with("lines of its own for that: write options = \"ro\""));
    assert!(told(&["encryption_in_transit"], "tls,iam").contains("write iam = true as a line"));
}

#[test]
fn all_words_of_a_list_that_are_wrong_are_told_at_once() {
    assert_eq!(
        error(
            "ro,tls,mountport=2049,iam,hrad,accesspoint=fsap-0123456789abcdef0,_netdev,soft,hrad"
        ),
        "is not possible: \"tls\", \"iam\" and \"accesspoint\" are options of amazon-efs-utils' mount helper: \
         write options = \"ro,soft\", encryption_in_transit = true, iam = true and access_point = \
         \"fsap-0123456789abcdef0\" as lines of the [[share]]; \"mountport\" is the port of NFS 3's mount \
         service, and NFS 4 has no such port: leave it out; unknown option \"hrad\"; did you mean \"hard\"?"
    );
}

/// The names in the tools' own lists.
const NAMES: &str = include_str!("../../../tests/vectors/mount-options.txt");

#[test]
fn no_word_of_mount_of_the_kernel_or_of_efs_utils_is_unknown() {
    let mut count = 0;
    let mut of = "";
    for name in NAMES.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if let Some(section) = name.strip_prefix('[') {
            of = section;
            continue;
        }
        count += 1;
        for word in [name.to_owned(), format!("{name}=1"), format!("{name}=a.b:c")] {
            if let Err(told) = MountOptions::over_defaults(&word) {
                assert!(!told.contains("unknown option"), "{of} {word}: {told}");
                assert!(!told.contains("no option of the kernel"), "{of} {word}: {told}");
                assert!(
                    !(of.starts_with("kernel") && told.contains("efs-utils")),
                    "{of} {word}: {told}"
                );
            }
        }
        // A word that is ignored in every form never reaches the kernel.
        if IGNORED.contains(&name) {
            assert_eq!(data(name), data(""), "{name}");
        }
    }
    assert!(count > 150, "{count}");
}

#[test]
fn words_of_mount_8_and_of_nfs_that_mean_nothing_here_are_passed_over_or_put_in_the_place_of_others()
 {
    for list in [
        "rw,suid,dev,exec,auto,nouser,async",
        "X-mount.mkdir,x-mount.mkdir=0755",
        "vers=4,minorversion=1,_rnetdev",
        "comment=systemd.automount,nobootwait,rsize=8192,wsize=8192,timeo=14,intr",
        "fsc,lazytime,iversion,posix,sharecache",
    ] {
        assert!(MountOptions::over_defaults(list).is_ok(), "{list}: {}", error(list));
    }
    assert!(data("v4.0").starts_with("nfsvers=4.0,"));
    assert!(data("v4").starts_with("nfsvers=4.1,"));
    assert!(data("max_connect=4,trunkdiscovery").contains(",max_connect=4,trunkdiscovery,addr="));
    assert!(data("trunkdiscovery,notrunkdiscovery").ends_with(",notrunkdiscovery,addr=10.0.0.1"));
    assert!(error("v3").contains("\"v3\" is no version that works here"));
    for word in ["mountproto=tcp", "mountvers=3", "mounthost=a", "mountaddr=10.0.0.1"] {
        assert!(error(word).ends_with("NFS 4 has no such service: leave it out"), "{word}");
    }
    let young = MountOptions::over_defaults("softerr,nconnect=2,timeo=9,max_connect=3").unwrap();
    assert_eq!(young.young(), ["softerr", "nconnect", "max_connect"]);
}

#[test]
fn a_context_of_selinux_reaches_the_kernel_with_quotes_where_it_needs_them() {
    for (given, there) in [
        ("context=system_u:object_r:nfs_t:s0", "context=system_u:object_r:nfs_t:s0"),
        ("context=\"system_u:object_r:nfs_t:s0\"", "context=system_u:object_r:nfs_t:s0"),
        (
            "ro,context=\"system_u:object_r:nfs_t:s0:c1,c2\",soft",
            "context=\"system_u:object_r:nfs_t:s0:c1,c2\"",
        ),
        ("fscontext=u:r:t,rootcontext=u:r:t", "fscontext=u:r:t,rootcontext=u:r:t"),
        ("defcontext=u:r:t:s0-s0:c0.c1023", "defcontext=u:r:t:s0-s0:c0.c1023"),
    ] {
        assert!(data(given).ends_with(&format!(",{there},addr=10.0.0.1")), "{}", data(given));
    }
    let options = MountOptions::over_defaults("soft,context=\"a:b:c:s0:c1,c2\"").unwrap();
    assert_eq!(options.contexts().collect::<Vec<_>>(), [("context", "a:b:c:s0:c1,c2")]);
    assert!(error("context=u:r:t,defcontext=u:r:t").contains("exclude each other"));
    for bad in ["context", "context=", "context=nfs_t", "rootcontext=@target", "context=a::c"] {
        assert!(error(bad).contains("takes a context of SELinux, like"), "{}", error(bad));
    }
    assert!(error("context=\"a:b:c:s0,soft").contains("a quote in it that does not end"));
}

#[test]
fn what_was_pasted_of_a_command_or_of_fstab_is_told_as_what_it_is_with_the_line_to_write() {
    for (pasted, told) in [
        (
            "-o nfsvers=4.1,hard",
            "it begins with what belongs to the command mount(8): write options = \"nfsvers=4.1,hard\"",
        ),
        (
            "_netdev,soft 0 0",
            "it ends with what belongs to a line of /etc/fstab: write options = \"soft\"",
        ),
        (
            "-o tls,iam,hrad fs-0123abcd:/",
            "it begins with what belongs to the command mount(8): write endpoint = \
             \"fs-0123abcd.efs.<region>.amazonaws.com\", encryption_in_transit = true and iam = true as lines of \
             the [[share]]; unknown option \"hrad\"; did you mean \"hard\"?",
        ),
        (
            "defaults,_netdev 0 0",
            "it ends with what belongs to a line of /etc/fstab: leave `options` out, it says nothing that is not \
             so anyway",
        ),
        (
            "/mnt/a efs _netdev,ro 0 0",
            "it is a line of /etc/fstab: write mount_point = \"/mnt/a\" and options = \"ro\" as lines of the \
             [[share]]",
        ),
        (
            "fs-0123abcd:/a /mnt/a efs _netdev,nofail,tls,ro 0 0",
            "it is a line of /etc/fstab: write endpoint = \"fs-0123abcd.efs.<region>.amazonaws.com\", path = \
             \"/a\", mount_point = \"/mnt/a\", options = \"ro\", required = false and \
             encryption_in_transit = true as lines of the [[share]]",
        ),
    ] {
        assert_eq!(error(pasted), format!("is not possible: {told}"));
    }
}
