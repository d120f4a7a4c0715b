use super::deserializer::keys;
use super::schema::{FileTable, ShareTable};
use super::*;

mod manual;

fn parse(text: &str) -> Result<Settings, String> {
    Settings::parse(Path::new("/c.toml"), text).map_err(|e| e.to_string())
}

fn error(text: &str) -> String {
    parse(text).unwrap_err()
}

#[test]
fn one_line_is_enough_and_all_else_has_a_default() {
    let settings = parse("[[share]]\nendpoint = \"fs-1.efs.eu-west-1.amazonaws.com\"\n").unwrap();
    assert_eq!(settings.deadline, Duration::from_secs(25));
    assert_eq!(settings.attempt_timeout, Duration::from_secs(10));
    assert_eq!(settings.log.level, Level::Info);
    assert!(settings.log.syslog);
    let [share] = &settings.shares[..] else { panic!("one share") };
    assert_eq!(share.source(), "fs-1.efs.eu-west-1.amazonaws.com:/");
    assert_eq!(share.mount_point, Path::new("/mnt/efs_share"));
    assert_eq!((share.mode, share.root_mode, share.required), (0o1777, None, true));
    assert_eq!(share.options, MountOptions::default());
}

#[test]
fn the_shipped_example_holds_every_key_with_its_default() {
    let example = include_str!("../../config.example.toml");
    let bare = "[[share]]\nendpoint = \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\"";
    assert_eq!(parse(example).unwrap(), parse(bare).unwrap());
    // The example's commented-out settings are valid, too. Only with them is every key there.
    let uncommented: String = example
        .lines()
        .map(|line| match line.strip_prefix("#") {
            Some(rest) if !rest.starts_with(' ') && !rest.is_empty() => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    // The keys of encryption need what is off by default, and the profile needs a use for credentials.
    assert!(parse(&uncommented).unwrap_err().contains("encryption_in_transit = true alone"));
    let on = uncommented
        .replace("encryption_in_transit = false", "encryption_in_transit = true")
        .replace("iam = false", "iam = true");
    let whole = parse(&on).unwrap();
    assert_eq!(whole.shares[0].root_mode, Some(0o1777));
    for key in keys::<FileTable>().iter().chain(keys::<LogSettings>()).chain(keys::<ShareTable>()) {
        let shown =
            |l: &str| l.starts_with(&format!("{key} =")) || l.trim_matches(['[', ']']) == *key;
        assert!(uncommented.lines().any(shown), "{key} is not in the example");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_near_miss() {
    assert_eq!(
        error("[[share]]\nendpiont = \"a\"\n"),
        "/c.toml:2:1: unknown key \"endpiont\" in [[share]]; did you mean \"endpoint\"?"
    );
    assert_eq!(
        error("# x\ncolour = 1\n[[share]]\nendpoint = \"a\"\n"),
        "/c.toml:2:1: unknown key \"colour\" in the top level; allowed are deadline, \
         attempt_timeout, unmount_deadline, log, share"
    );
    assert_eq!(
        error("[log]\nlevels = 1\n"),
        "/c.toml:2:1: unknown key \"levels\" in [log]; did you mean \"level\"?"
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    let share = "[[share]]\nendpoint = \"a\"\n";
    assert_eq!(
        error(&format!("{share}deadline = \"20s\"\n")),
        "/c.toml:3:1: key \"deadline\" does not belong in [[share]], but at the top of the file, above the first [[share]] and [log]"
    );
    assert_eq!(
        error(&format!("{share}level = \"info\"\n")),
        "/c.toml:3:1: key \"level\" does not belong in [[share]], but below a line [log]"
    );
    assert_eq!(
        error("endpoint = \"a\"\n"),
        "/c.toml:1:1: key \"endpoint\" does not belong in the top level, but below a line [[share]]"
    );
}

#[test]
fn a_wrong_type_is_named_with_the_right_one() {
    let cases = [
        (
            "deadline = 25\n",
            "1:12: deadline must be a span of time in quotes, not the integer 25: write deadline = \"25s\"",
        ),
        (
            "[[log]]\nlevel = \"info\"\n",
            "1:1: log must be the table [log], not an array: write [log], with one bracket on each side",
        ),
        (
            "[[share]]\nendpoint = \"a\"\noptions = [\"ro\"]\n",
            "3:11: options must be a string, not an array: write one string in quotes",
        ),
        ("share = 3\n", "1:9: share must be one or more [[share]] tables, not the integer 3"),
        (
            "[share]\nendpoint = \"a\"\n",
            "1:1: share must be one or more [[share]] tables, not a table: write [[share]], with two brackets on each side",
        ),
        ("log = true\n", "1:7: log must be the table [log], not a boolean"),
        ("[[share]]\nendpoint = 1.5\n", "2:12: endpoint must be a string, not a float"),
        (
            "[[share]]\nendpoint = \"a\"\nrequired = \"yes\"\n",
            "3:12: required must be true or false, not a string: write it without quotes",
        ),
        (
            "[[share]]\nendpoint = \"a\"\nmode = 1777\n",
            "3:8: mode must be a string, not the integer 1777: write mode = \"1777\"",
        ),
        (
            "[[share]]\nendpoint = \"a\"\naddresses = \"10.0.0.1\"\n",
            "3:13: addresses must be an array of strings, not a string: write addresses = [\"10.0.0.1\"]",
        ),
        (
            "[[share]]\nendpoint = \"a\"\naddresses = [1]\n",
            "3:14: addresses must be an array of strings, not the integer 1",
        ),
    ];
    for (text, expected) in cases {
        assert!(error(text).starts_with(&format!("/c.toml:{expected}")), "{}", error(text));
    }
}

#[test]
fn an_array_of_the_values_is_no_table() {
    let share = "[[share]]\nendpoint = \"a\"\n";
    for (text, told) in [
        (
            format!("log = [\"info\", true]\n{share}"),
            "1:7: log must be the table [log], not an array: write [log], with one bracket on each side",
        ),
        (
            "share = [[\"a\"]]\n".into(),
            "1:10: share must be one or more [[share]] tables, not an array",
        ),
    ] {
        assert_eq!(error(&text), format!("/c.toml:{told}"));
    }
}

#[test]
fn of_several_values_that_cannot_be_the_first_in_the_file_is_told() {
    let told = error(
        "unmount_deadline = \"0s\"\ndeadline = \"0s\"\n[[share]]\nmode = \"9\"\nendpiont = \"a\"\n",
    );
    assert!(told.starts_with("/c.toml:1:20: unmount_deadline"), "{told}");
    let told = error("[[share]]\nroot_mode = \"9\"\nmode = \"9\"\nendpiont = \"a\"\n");
    assert!(told.starts_with("/c.toml:2:13: root_mode"), "{told}");
    let told = error("[[share]]\nendpiont = \"a\"\nmode = \"9\"\n");
    assert!(told.starts_with("/c.toml:2:1: unknown key"), "{told}");
}

#[test]
fn a_value_that_cannot_be_is_refused_with_what_is_allowed() {
    let share = |line: &str| format!("[[share]]\nendpoint = \"a\"\n{line}\n");
    let cases = [
        (
            share("mount_point = \"mnt\""),
            "3:15: mount_point \"mnt\" is not an absolute path: it must begin with \"/\"",
        ),
        (
            share("mount_point = \"/run/efs-agent\""),
            "3:15: mount_point \"/run/efs-agent\" belongs to the system: take a folder of its own, like \"/mnt/efs_share\"",
        ),
        (
            share("mount_point = \"/run/systemd/system/x.d\""),
            "3:15: mount_point \"/run/systemd/system/x.d\" belongs to the system: take a folder of its own, like \"/mnt/efs_share\"",
        ),
        (
            share("mount_point = \"/root/.ssh\""),
            "3:15: mount_point \"/root/.ssh\" belongs to the system: take a folder of its own, like \"/mnt/efs_share\"",
        ),
        (
            share("mount_point = \"/var/lib/rpm\""),
            "3:15: mount_point \"/var/lib/rpm\" belongs to the system: take a folder of its own, like \"/mnt/efs_share\"",
        ),
        (
            share("mount_point = \"/mnt/../etc\""),
            "3:15: mount_point \"/mnt/../etc\" has \"..\" or \".\" in it: write the path out in full",
        ),
        (
            share("mount_point = \"/usr/\""),
            "3:15: mount_point \"/usr/\" belongs to the system: take a folder of its own, like \"/mnt/efs_share\"",
        ),
        (
            share("mount_point = \"/mnt/%u\""),
            "3:15: mount_point \"/mnt/%u\" has \"%u\" in it, which efs-agent does not expand: it mounts once for the \
             machine, so write a path that is the same for all users",
        ),
        (
            share("path = \"/home/$USER\""),
            "3:8: path \"/home/$USER\" has \"$USER\" in it, which efs-agent does not expand: it mounts once for the \
             machine, so write a path that is the same for all users",
        ),
        (
            share("mount_point = \"/a\\nb\""),
            "3:15: mount_point \"/a\\nb\" has a control character in it",
        ),
        (
            share("path = \"x\""),
            "3:8: path \"x\" is not an absolute path: it must begin with \"/\"",
        ),
        (share("path = \"\""), "3:8: path \"\" is not an absolute path: it must begin with \"/\""),
        (
            share("mode = \"9\""),
            "3:8: mode \"9\" is no mode: allowed are 3 or 4 octal digits, like \"1777\"",
        ),
        (
            share("root_mode = \"17777\""),
            "3:13: root_mode \"17777\" is no mode: allowed are 3 or 4 octal digits, like \"1777\"",
        ),
        (
            share("addresses = [\"10.0.0\"]"),
            "3:14: addresses \"10.0.0\" is no IP address of a server: allowed is one like \"10.0.1.12\"",
        ),
        ("deadline = \"0s\"".into(), "1:12: deadline \"0s\" cannot be: allowed is 1s to 10m"),
        (
            "deadline = \"-3s\"".into(),
            "1:12: deadline \"-3s\" is no duration: write it like \"25s\" (1s to 10m)",
        ),
        ("deadline = \"1h\"".into(), "1:12: deadline \"1h\" cannot be: allowed is 1s to 10m"),
        (
            "deadline = \"5s\"\nattempt_timeout = \"6s\"".into(),
            "2:19: attempt_timeout \"6s\" is longer than the deadline (5s): make it shorter",
        ),
        (
            "[log]\nlevel = \"loud\"".into(),
            "2:9: level \"loud\" is no level: allowed are error, warning, info, debug, in lower case",
        ),
        (
            "[log]\nfacility = \"local8\"".into(),
            "2:12: facility \"local8\" is no facility: allowed are daemon, user, local0 to local7",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(&text), format!("/c.toml:{expected}"));
    }
}

#[test]
fn what_is_no_address_in_a_list_of_addresses_is_told_for_what_it_is() {
    for (text, said) in [
        (
            "10.0.0.1, 10.0.0.2",
            "is more than one address: write each in quotes of its own, [\"10.0.0.1\", \"10.0.0.2\"]",
        ),
        ("10.0.0.1/24", "one like \"10.0.1.12\", without a netmask"),
        ("nas.example", "; a name belongs into `endpoint`"),
    ] {
        let told = error(&format!("[[share]]\nendpoint = \"a\"\naddresses = [\"{text}\"]\n"));
        assert!(told.ends_with(said), "{told}");
    }
}

#[test]
fn a_long_value_is_cut_in_the_middle_and_what_is_wrong_with_it_still_said() {
    let e = error(&format!("deadline = \"{}\"\n", "9".repeat(1 << 20)));
    assert!(e.starts_with("/c.toml:1:12: deadline \"9999"), "{e}");
    assert!(e.ends_with("99\" is no duration: write it like \"25s\" (1s to 10m)"), "{e}");
    assert!(e.contains("9…9") && e.chars().count() < 800, "{e}");
}

#[test]
fn an_endpoint_is_a_name_or_an_address_and_common_slips_are_explained() {
    let with = |endpoint: &str| parse(&format!("[[share]]\nendpoint = \"{endpoint}\"\n"));
    assert_eq!(with("FS-1.Efs.example.").unwrap().shares[0].source(), "fs-1.efs.example:/");
    assert_eq!(with("10.0.1.12").unwrap().shares[0].source(), "10.0.1.12:/");
    assert_eq!(with("2001:db8::1").unwrap().shares[0].source(), "[2001:db8::1]:/");
    assert_eq!(with("[2001:db8::1]").unwrap().shares[0].source(), "[2001:db8::1]:/");
    let fs = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
    for (pasted, is) in [
        (format!("{fs}:/"), "has more in it than a name"),
        (format!("{fs}:2049"), "has more in it than a name"),
        (format!("https://{fs}/"), "has more in it than a name"),
        (format!("{fs} "), "has more in it than a name"),
        (format!("sudo mount -t nfs4 {fs}:/ efs"), "is a command for mount(8)"),
    ] {
        let e = with(&pasted).unwrap_err();
        assert!(e.ends_with(&format!("{is}: write endpoint = \"{fs}\"")), "{e}");
    }
    for (bad, why) in [
        ("", ": it is empty"),
        ("a b", ": there is a blank in it"),
        ("arn:aws:s3:::bucket", ": it is the ARN of something else than a file system"),
    ] {
        let e = with(bad).unwrap_err();
        assert!(e.ends_with(&format!("is neither a DNS name nor an IP address{why}")), "{e}");
    }
    assert!(
        with("fs-0123abcd:/").unwrap_err().ends_with("\"fs-0123abcd.efs.<region>.amazonaws.com\"")
    );
    assert!(with("FS-0123ABCD").unwrap_err().contains("is only the file system's id"));
    assert_eq!(
        with("fs-0123abcd.eu-west-1.amazonaws.com").unwrap_err(),
        "/c.toml:2:12: endpoint \"fs-0123abcd.eu-west-1.amazonaws.com\" lacks \".efs\": write endpoint = \
         \"fs-0123abcd.efs.eu-west-1.amazonaws.com\""
    );
    assert!(with("fs-0123abcd.cn-north-1.amazonaws.com.cn").is_err());
    // Names of NFS servers of other services, other clouds and people's own machines.
    for name in [
        "fs-0fedcba9876543210.fsx.eu-west-1.amazonaws.com",
        "svm-0fedcba9876543210.fs-0fedcba9876543210.fsx.eu-west-1.amazonaws.com",
        "fs-0fedcba9876543210.fsx.cn-north-1.amazonaws.com.cn",
        "use1-az1.fs-0fedcba9876543210.s3files.us-east-1.on.aws",
        "ip-10-0-0-1.eu-west-1.compute.internal",
        "ec2-192-0-2-1.eu-west-1.compute.amazonaws.com",
        "fs-01.lab.example.edu",
        "storageaccount.file.core.windows.net",
        "nas",
        "fs-1",
        "fsap-1",
        "filer_2",
    ] {
        assert!(with(name).is_ok(), "{name}");
    }
    assert!(with("fs-0123abcd.efs.<region>.amazonaws.com").unwrap_err().contains("a placeholder"));
    assert!(with("fsap-0123abcd").is_ok(), "a server may be called that");
    assert!(with("fsap-0123456789abcdef0").unwrap_err().contains(
        "is an access point's id: write endpoint = \"fs-….efs.<region>.amazonaws.com\", \
         encryption_in_transit = true and access_point = \"fsap-0123456789abcdef0\""
    ));
    assert_eq!(
        with("fs-0123abcd").unwrap_err(),
        "/c.toml:2:12: endpoint \"fs-0123abcd\" is only the file system's id: write its DNS \
         name, \"fs-0123abcd.efs.<region>.amazonaws.com\""
    );
    for bad in ["-a", "a..b", "1.2.3", &"a".repeat(64)] {
        assert!(
            with(bad).unwrap_err().ends_with("is neither a DNS name nor an IP address"),
            "{bad}"
        );
    }
}

#[test]
fn an_address_is_taken_in_every_spelling_and_only_one_that_a_server_can_have() {
    for (text, address) in [
        ("10.0.1.12", "10.0.1.12"),
        ("FD00:0::1", "fd00::1"),
        ("[fd00::1]", "fd00::1"),
        ("::ffff:10.0.1.12", "10.0.1.12"),
    ] {
        let config = format!("endpoint = \"{text}\"\naddresses = [\"{text}\"]\n");
        let share = test::share_of(&format!("[[share]]\n{config}"));
        let address: IpAddr = address.parse().unwrap();
        assert_eq!((share.endpoint, share.addresses), (Endpoint::Address(address), vec![address]));
    }
    for text in ["0.0.0.0", "::", "224.0.0.1", "10.0.0", "10.0.0.1/24", "fe80::1%eth0", "010.0.0.1"]
    {
        for key in [
            format!("endpoint = \"{text}\""),
            format!("endpoint = \"a\"\naddresses = [\"{text}\"]"),
        ] {
            assert!(
                Settings::parse(Path::new("c"), &format!("[[share]]\n{key}\n")).is_err(),
                "{key}"
            );
        }
    }
}

#[test]
fn a_character_that_no_name_has_is_told_by_its_number() {
    let told = |text: &str| error(&format!("[[share]]\nendpoint = \"{text}\"\n"));
    let hyphen = told("fs\u{2011}0123abcd.efs.eu-west-1.amazonaws.com");
    assert!(hyphen.ends_with("has the character U+2011 in it, which is none of a DNS name; it looks like a hyphen: write a plain \"-\""), "{hyphen}");
    let blank = told("fs-0123abcd.efs.eu-west-1.amazonaws.com\u{200b}");
    assert!(
        blank.ends_with(
            "U+200B in it, which is none of a DNS name; take it out: it may have come with pasting"
        ),
        "{blank}"
    );
    let letter = told("dateien.mün.example");
    assert!(letter.ends_with("has \"ü\" (U+00FC) in it, which is none of a DNS name; write the name in its ASCII form (xn--…)"), "{letter}");
}

#[test]
fn what_was_pasted_for_an_endpoint_is_told_as_all_the_lines_that_it_would_be() {
    const ID: &str = "fs-0fedcba9876543210";
    const AP: &str = "fsap-0fedcba9876543210";
    let told = |pasted: &str| {
        // Single quotes, since TOML resolves no escapes in them.
        let e = error(&format!("[[share]]\nendpoint = '{pasted}'\n"));
        let (_, told) = e.split_once("write ").unwrap_or_else(|| panic!("{pasted}: {e}"));
        told.replace(ID, "ID").replace("fsap-0fedcba9876543210", "AP").replace("amazonaws.com", "A")
    };
    let whole = "endpoint = \"ID.efs.eu-west-1.A\"";
    let unknown = "endpoint = \"ID.efs.<region>.A\"";
    let ap = "encryption_in_transit = true and access_point = \"AP\"";
    let arn = "arn:aws:elasticfilesystem:eu-west-1:111122223333";
    let name = format!("{ID}.efs.eu-west-1.amazonaws.com");
    for (pasted, lines) in [
        (format!("{ID}::{AP}"), format!("{unknown}, {ap}")),
        (format!("{ID}:/dags:{AP}"), format!("{unknown}, path = \"/dags\", {ap}")),
        (format!("{ID}:team--dev--temp"), format!("{unknown} and path = \"/team--dev--temp\"")),
        (
            format!("{AP}:/x"),
            "endpoint = \"fs-….efs.<region>.A\", path = \"/x\", encryption_in_transit = true and access_point = \"AP\"".into(),
        ),
        (format!("What={ID}:/x"), format!("{unknown} and path = \"/x\"")),
        (format!("volumeHandle: {ID}::{AP}"), format!("{unknown}, {ap}")),
        (
            format!("{{\"FileSystemId\": \"{ID}\", \"AccessPointId\": \"{AP}\"}}"),
            format!("{unknown}, {ap}"),
        ),
        (format!("DNS name: {name}"), whole.to_owned()),
        (format!("-t efs -o tls {ID}:/ /mnt/a"), format!("{unknown}, mount_point = \"/mnt/a\" and encryption_in_transit = true")),
        (format!("{arn}:file-system/{ID}:/x:{AP}"), format!("{whole}, path = \"/x\", {ap}")),
        (format!("{ID}:/a b/C"), format!("{unknown} and path = \"/a b/C\"")),
        (
            format!("{ID}:/a /mnt/b"),
            format!("{unknown}, path = \"/a\" and mount_point = \"/mnt/b\""),
        ),
        (format!("{name}:team--dev--temp"), format!("{whole} and path = \"/team--dev--temp\"")),
        (format!("{name}:/A/b:{AP}"), format!("{whole}, path = \"/A/b\", {ap}")),
        (format!("{arn}:file-system/{ID}"), whole.to_owned()),
        (
            format!("{arn}:access-point/{AP}"),
            format!("endpoint = \"fs-….efs.eu-west-1.A\", {ap}"),
        ),
        (
            format!("arn:aws-cn:elasticfilesystem:cn-north-1:111122223333:file-system/{ID}"),
            "endpoint = \"ID.efs.cn-north-1.A.cn\"".into(),
        ),
        (
            format!("arn:aws:fsx:eu-west-1:111122223333:file-system/{ID}"),
            "endpoint = \"ID.fsx.eu-west-1.A\"".into(),
        ),
        (
            format!("{ID}:/ /mnt/efs efs _netdev,tls,accesspoint={AP} 0 0"),
            format!("{unknown}, mount_point = \"/mnt/efs\", {ap}"),
        ),
        (
            format!(
                "{ID}:/x\\040y /mnt/efs efs _netdev,nofail,tls,iam,ro,region=eu-west-1 0 0"
            ),
            format!(
                "{whole}, path = \"/x y\", mount_point = \"/mnt/efs\", options = \"ro\", required = false, \
                 encryption_in_transit = true and iam = true"
            ),
        ),
        (
            format!("sudo mount -t efs -o tls,az=eu-west-1a {ID}:/ efs"),
            "endpoint = \"eu-west-1a.ID.efs.eu-west-1.A\" and encryption_in_transit = true"
                .into(),
        ),
        (
            format!("/sbin/mount.efs {ID} /mnt/s -o rw,awsprofile=x,mounttargetip=10.0.0.1"),
            format!(
                "{unknown}, mount_point = \"/mnt/s\", options = \"rw\", addresses = [\"10.0.0.1\"], \
                 encryption_in_transit = true and aws_profile = \"x\""
            ),
        ),
        (
            format!("mount -t nfs4 -o nfsvers=4.1,hrad,udp {name}:/a /mnt/a"),
            format!(
                "{whole}, path = \"/a\", mount_point = \"/mnt/a\" and options = \"nfsvers=4.1\"; of its options, \
                 unknown option \"hrad\"; did you mean \"hard\"?; of its options, \"udp\" is not NFS over TCP, which \
                 is all that efs-agent speaks"
            ),
        ),
        ("nfs.example:/x/Y".into(), "endpoint = \"nfs.example\" and path = \"/x/Y\"".into()),
        ("nas:/x".into(), "endpoint = \"nas\" and path = \"/x\"".into()),
        ("[2001:db8::1]:/x".into(), "endpoint = \"2001:db8::1\" and path = \"/x\"".into()),
        (
            "nfs://nfs.example:2050/x".into(),
            "endpoint = \"nfs.example\", path = \"/x\" and options = \"port=2050\"".into(),
        ),
        (
            "nfs.example:2050".into(),
            "endpoint = \"nfs.example\" and options = \"port=2050\"".into(),
        ),
        ("\\\\nas\\share\\a".into(), "endpoint = \"nas\" and path = \"/share/a\"".into()),
        (
            format!(
                "https://eu-west-1.console.aws.amazon.com/efs/home?region=eu-west-1#/file-systems/{ID}?tabId=x"
            ),
            whole.to_owned(),
        ),
        (format!("https://{name}/"), whole.to_owned()),
        ("nfs://me:secret@nas/x".into(), "endpoint = \"nas\" and path = \"/x\"".into()),
    ] {
        assert_eq!(told(&pasted), lines, "{pasted}");
    }
}

#[test]
fn what_stands_for_a_user_elsewhere_is_refused_and_odd_names_are_not() {
    for text in [
        "/~",
        "/~/x",
        "/a/%U",
        "/%(USER)",
        "/%{user}/a",
        "/%username%",
        "/x-${u}",
        "/$(id)",
        "/a$user-b",
    ] {
        assert!(paths::check_no_variable(text).is_err(), "{text}");
    }
    for text in
        ["/$RECYCLE.BIN", "/100%used", "/a~", "/a$", "/50%", "/%", "/$USERDATA", "/cost$5", "/%uu"]
    {
        assert_eq!(paths::check_no_variable(text), Ok(()), "{text}");
    }
}

#[test]
fn what_the_tool_refuses_is_not_advised_and_a_home_is_told_as_what_it_is() {
    let with = |line: &str| error(&format!("[[share]]\nendpoint = \"a\"\n{line}\n"));
    for text in ["$HOME/efs", "~/efs", "/home/$USER/efs", "/home/~"] {
        let told = with(&format!("mount_point = \"{text}\""));
        assert!(told.contains("which efs-agent does not expand"), "{told}");
    }
    for text in ["/home/<user>/efs", "/home/{user}"] {
        let told = with(&format!("mount_point = \"{text}\""));
        assert!(told.contains("has a placeholder in it, "), "{told}");
    }
    let fstab = "fs-0123abcd:/ /home/$USER/efs efs _netdev,tls,az=eu-west-1a 0 0";
    for key in ["endpoint = 'X'", "endpoint = 'a'\noptions = 'X'"] {
        let told = error(&format!("[[share]]\n{}\n", key.replace('X', fstab)));
        assert!(!told.contains("mount_point = "), "{told}");
        assert!(told.contains("the mount point \"/home/$USER/efs\" has \"$USER\" in it"), "{told}");
        assert!(told.contains("eu-west-1a.fs-0123abcd.efs.eu-west-1.amazonaws.com"), "{told}");
    }
    let key = with("encryption = true");
    assert!(
        key.ends_with(
            "unknown key \"encryption\" in [[share]]: here it is encryption_in_transit = true"
        ),
        "{key}"
    );
}

#[test]
fn mount_points_that_meet_are_refused_with_the_line_of_the_other() {
    let two = |a: &str, b: &str| {
        error(&format!(
            "[[share]]\nendpoint = \"a\"\nmount_point = \"{a}\"\n[[share]]\nendpoint = \"b\"\nmount_point = \"{b}\"\n"
        ))
    };
    let end = "; give each [[share]] a mount_point of its own";
    assert_eq!(
        two("/a/", "//a"),
        format!("/c.toml:6:15: mount point \"/a\" is given twice, first in line 3{end}")
    );
    assert_eq!(
        two("/a", "/a/b"),
        format!("/c.toml:6:15: mount point \"/a/b\" lies inside the mount point of line 3{end}")
    );
    assert_eq!(
        two("/a/b", "/a"),
        format!("/c.toml:6:15: mount point \"/a\" holds the mount point of line 3{end}")
    );
    assert_eq!(
        error("[[share]]\nendpoint = \"a\"\n[[share]]\nendpoint = \"b\"\n"),
        format!(
            "/c.toml:3:1: mount point \"/mnt/efs_share\" (the default) is given twice, first in line 1{end}"
        )
    );
}

#[test]
fn what_is_missing_is_named() {
    assert!(error("").starts_with("/c.toml:1:1: no [[share]] table"));
    assert!(error("share = []").starts_with("/c.toml:1:11: no [[share]] table"));
    assert_eq!(
        error("[[share]]\npath = \"/\"\n"),
        "/c.toml:1:1: [[share]] has no endpoint: add endpoint = \"…\", the file system's DNS name"
    );
}

#[test]
fn broken_toml_is_one_line_with_its_place() {
    let share = |line: &str| error(&format!("[[share]]\n{line}\n"));
    for unquoted in [
        "endpoint = fs-1.example",
        "endpoint = nfs.example",
        "endpoint = 127.0.0.1",
        "endpoint = 10.0.0.1 # x",
    ] {
        assert_eq!(
            share(unquoted),
            "/c.toml:2:1: endpoint needs double quotes around its value: endpoint = \"…\"",
        );
    }
    assert_eq!(
        share("root_mode = 0755"),
        "/c.toml:2:1: root_mode needs double quotes around its value: root_mode = \"…\""
    );
    assert_eq!(
        share("required = False"),
        "/c.toml:2:1: required must be true or false, in lower case and without quotes"
    );
    assert_eq!(share("required = no"), share("required = False"));
    assert_eq!(
        share("addresses = [10.0.1.12]"),
        "/c.toml:2:1: addresses needs double quotes around each value: addresses = [\"…\"]"
    );
    assert_eq!(
        share("endpoint = “a”"),
        "/c.toml:2:12: typographic quotes: write straight ones (\")"
    );
    for yaml in ["endpoint: \"a\"", "endpoint \"a\"", "endpoint: a"] {
        assert_eq!(share(yaml), "/c.toml:2:1: not of the form key = value: endpoint = \"…\"");
    }
    let text = error("[[share]]\nendpoint = \"a\n");
    assert!(text.starts_with("/c.toml:2:"), "{text}");
    assert_eq!(text.lines().count(), 1);
    assert!(
        error("[[share]]\nendpoint = \"a\"\nendpoint = \"b\"\n")
            .starts_with("/c.toml:3:1: key \"endpoint\" is given twice: one [[share]] for each")
    );
    assert!(error("[log]\n[log]\n").contains("[log] is given twice: take one out"));
    assert!(
        error("[share]\n[share]\n").contains("[share] is given twice: write [[share]] each time")
    );
    assert!(
        error("deadline = \"2s\"\ndeadline = \"3s\"\n")
            .contains("key \"deadline\" is given twice: take one out")
    );
    for json in
        ["{\"share\": [{\"endpoint\": \"a\"}]}", "\n{\n  \"endpoint\": \"a\"\n}\n", "[{\"a\": 1}]"]
    {
        assert!(error(json).contains("this is JSON, and the config is TOML"), "{}", error(json));
    }
    let quotes = error("[[share]]\nendpoint = \"a\"\noptions = \"context=\"a:b:c:s0:c1,c2\"\"\n");
    assert!(
        quotes.contains("options has double quotes inside of double quotes: put single ones"),
        "{quotes}"
    );
    for (line, end) in [("endpoint = \"a\";", "\";\""), ("endpoint = \"a\",", "\",\"")] {
        let told = share(line);
        assert!(
            told.ends_with(&format!("endpoint has {end} behind its value: take it out")),
            "{told}"
        );
    }
    for (text, line) in [
        ("sudo tee /etc/efs-agent/config.toml <<'EOF'\n[[share]]\nendpoint = \"a\"\nEOF\n", 1),
        ("[[share]]\nendpoint = \"a\"\nEOF\n", 3),
        ("$ cat > c.toml <<EOF\n", 1),
    ] {
        let told = error(text);
        assert!(
            told.starts_with(&format!("/c.toml:{line}:1: this is a line of a shell command")),
            "{told}"
        );
    }
}
