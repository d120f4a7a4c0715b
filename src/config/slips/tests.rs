use crate::config::Settings;
use std::path::Path;

const ID: &str = "fs-0123456789abcdef0";

/// The error about an endpoint; empty if it is accepted.
fn told(endpoint: &str) -> String {
    let text = format!("[[share]]\nendpoint = '{endpoint}'\n");
    let told = Settings::parse(Path::new("c"), &text).map(|_| String::new());
    told.unwrap_or_else(|e| e.what)
}

#[test]
fn a_name_of_efs_with_a_slip_in_its_region_is_told_with_the_right_one() {
    for (rest, said) in [
        (
            "efs.eu-west-1a.amazonaws.com",
            "has a zone in it, \"eu-west-1a\", and its region is \"eu-west-1\": write \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\"",
        ),
        ("efs.amazonaws.com", "has no region in it: write"),
        (
            "efs.eu-west-1.amazonaws.com.cn",
            "does not end as names of eu-west-1 do, in \".amazonaws.com\"",
        ),
        (
            "efs.cn-north-1.amazonaws.com",
            "does not end as names of cn-north-1 do, in \".amazonaws.com.cn\"",
        ),
        ("efs.eu_west_1.amazonaws.com", "that is written \"eu-west-1\""),
        ("efs.eu.west.1.amazonaws.com", "that is written \"eu-west-1\""),
        ("efs.Ireland.amazonaws.com", "has a region in it, \"ireland\", that is no region"),
        ("efs.euw1-az2.amazonaws.com", "that is no region"),
        ("efs.region.amazonaws.com", "has a placeholder in it"),
        ("efs.YOUR_REGION.amazonaws.com", "has a placeholder in it"),
        ("efs.xx-xxxx-x.amazonaws.com", "has a placeholder in it"),
    ] {
        for zone in ["", "eu-west-1b."] {
            let told = told(&format!("{zone}{ID}.{rest}"));
            let said = said.replace("write \"fs-", &format!("write \"{zone}fs-"));
            assert!(told.contains(&said), "{rest}: {told}");
        }
    }
    for fine in ["mx-central-1", "ap-southeast-7", "us-gov-west-1", "ca-west-99"] {
        assert_eq!(told(&format!("{ID}.efs.{fine}.amazonaws.com")), "");
    }
    for fine in ["eusc-de-east-1.amazonaws.eu", "us-iso-east-1.c2s.ic.gov"] {
        assert_eq!(told(&format!("{ID}.efs.{fine}")), "");
    }
    // If more was pasted behind the name, the error still names what is wrong with the name.
    let with = told(&format!("{ID}.efs.eu-west-1a.amazonaws.com:/data"));
    assert!(
        with.contains(&format!(
            "write endpoint = \"{ID}.efs.eu-west-1.amazonaws.com\" and path = \"/data\""
        )),
        "{with}"
    );
    assert!(with.contains("its region is \"eu-west-1\""), "{with}");
    for end in ["", ".amazonaws", ".amazonaws.con", ".aws.com"] {
        let told = told(&format!("{ID}.efs.eu-west-1{end}"));
        assert!(told.contains("does not end as names of EFS do: write \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\""), "{told}");
    }
    assert_eq!(told(&format!("{ID}.efs.eu-west-1.corp.example")), "");
}

#[test]
fn what_is_no_id_of_a_file_system_is_told_for_what_it_is() {
    for (label, said) in [
        ("fsmt-0123456789abcdef0", "a mount target"),
        ("eni-0123456789abcdef0", "a network interface"),
        ("sg-0123456789abcdef0", "a security group"),
        ("vpc-0123456789abcdef0", "a VPC"),
        ("subnet-0123abcd", "a subnet"),
        ("0123456789abcdef0", "\"fs-"),
        ("fs_0123456789abcdef0", "\"fs-0123456789abcdef0"),
        ("fs-0123456789abcdefg", "it has \"g\" in it"),
        ("fs-O123456789abcdef0", "the letter o"),
        ("fs-0123456789abcdef", "it has 16 digits"),
        ("fs-xxxxxxxx", "has a placeholder in it"),
        ("fs-id", "has a placeholder in it"),
    ] {
        for rest in ["", ".efs.eu-west-1.amazonaws.com"] {
            let told = told(&format!("{label}{rest}"));
            assert!(told.contains(said), "{label}{rest}: {told}");
        }
    }
    let ap = told("fsap-0123456789abcdef0.efs.eu-west-1.amazonaws.com");
    assert!(
        ap.ends_with(
            "write endpoint = \"fs-….efs.eu-west-1.amazonaws.com\", encryption_in_transit = true and access_point = \
             \"fsap-0123456789abcdef0\""
        ),
        "{ap}"
    );
    for api in [
        "elasticfilesystem.eu-west-1.amazonaws.com",
        "elasticfilesystem-fips.us-east-1.amazonaws.com",
    ] {
        assert!(told(api).contains("a name of AWS's API, and not of a file system"));
    }
    assert!(told("efs.eu-west-1.amazonaws.com").contains("no file system's id in it"));
    for fine in [
        "fs-data0001",
        "fs-backup01",
        "fs-id.corp.example",
        "deadbeef",
        "sg-1",
        "eni-server",
        "region",
        "fs-1.efs.eu-west-1.amazonaws.com",
        "efs.example",
        "localhost",
        "127.0.0.1",
        "::1",
    ] {
        assert_eq!(told(fine), "", "{fine}");
    }
}

#[test]
fn no_second_name_is_dropped_and_further_addresses_are_told_where_they_belong() {
    let name = format!("{ID}.efs.eu-west-1.amazonaws.com");
    let other = "fs-0123456789abcdef1.efs.eu-west-1.amazonaws.com";
    for two in [
        format!("{name}, {other}"),
        format!("{name},{other}"),
        format!("{name} {other}"),
        format!("{name};{other}"),
        format!("{name}:/,{other}:/"),
        "fs-0123abcd fs-0123abce".into(),
        format!("{name} and {other}"),
        format!("{name}|{other}"),
        format!("{name}/{other}"),
        format!("{name}:{other}"),
        format!("{name}:/a {other}:/b /mnt/x"),
        format!("sudo mount -t efs {name}:/ {other}:/ /mnt/a"),
        "fs-0123abcd:/ fs-0123abce:/".into(),
        "nas.example, filer.example".into(),
    ] {
        let told = told(&two);
        assert!(told.contains("has two names in it: write one [[share]] for each"), "{told}");
    }
    for (text, said) in [
        (
            "10.0.1.12,10.0.1.13".to_owned(),
            "write endpoint = \"10.0.1.12\" and addresses = [\"10.0.1.13\"]".to_owned(),
        ),
        (
            format!("{name}, 10.0.1.13"),
            format!("write endpoint = \"{name}\" and addresses = [\"10.0.1.13\"]"),
        ),
        (name.replacen('.', ",", 1), format!("where a dot is meant: write endpoint = \"{name}\"")),
        (format!("{ID}:/backup/fs-0123abcd"), "path = \"/backup/fs-0123abcd\"".into()),
        (name.replacen('.', ";", 1), format!("where a dot is meant: write endpoint = \"{name}\"")),
        ("sudo mount -t nfs4 $EFS:/ /mnt/x".into(), "has \"$EFS\" in it, and variables".into()),
        (
            format!("{ID}:/ /home/<user>/efs efs tls 0 0"),
            "the mount point \"/home/<user>/efs\" has a placeholder in it, \"<user>\"".into(),
        ),
        ("mount fs-<id>:/ /mnt/x".into(), "put your own file system's id".into()),
        ("10,0,1,12".into(), "write endpoint = \"10.0.1.12\"".into()),
        (
            "$EFS_ID.efs.eu-west-1.amazonaws.com".into(),
            "has \"$EFS_ID\" in it, and variables are not expanded".into(),
        ),
        ("${EFS}:/x".into(), "has \"${EFS}\" in it".into()),
        ("{efs-id}.efs.eu-west-1.amazonaws.com".into(), "has a placeholder in it".into()),
        ("fs-0123abcd@eu-west-1".into(), "\"@\" is no character of a name".into()),
    ] {
        let told = told(&text);
        assert!(told.contains(&said), "{text}: {told}");
    }
}

#[test]
fn an_address_that_no_server_can_have_is_not_offered_again_and_a_netmask_is_no_path() {
    for text in [
        "0.0.0.0",
        "224.0.0.1",
        "::",
        "ff02::1",
        "255.255.255.255",
        "0.0.0.0:/x",
        "[::]:/x",
        "0.0.0.0:2049",
        "[::]:2049",
    ] {
        assert!(told(text).contains("cannot be a server's address"), "{text}: {}", told(text));
    }
    for text in ["fe80::1", "fe80::1%eth0", "[fe80::1]", "fe80::1:/x"] {
        assert!(told(text).contains("is a link-local address"), "{text}: {}", told(text));
    }
    for (list, said) in
        [("fe80::1", "is a link-local address"), ("0.0.0.0", "cannot be a server's")]
    {
        let text = format!("[[share]]\nendpoint = \"a\"\naddresses = [\"{list}\"]\n");
        let e = Settings::parse(Path::new("c"), &text).unwrap_err();
        assert!(e.what.contains(said), "{e}");
    }
    for (text, said) in [
        ("fd00:ec2::5:/data", "write endpoint = \"fd00:ec2::5\" and path = \"/data\""),
        ("10.0.1.12/24", "write endpoint = \"10.0.1.12\"; \"/24\" is a netmask, and no path"),
        ("fd00::5/64", "write endpoint = \"fd00::5\"; \"/64\" is a netmask, and no path"),
        ("10.0.1.12:/24", "write endpoint = \"10.0.1.12\" and path = \"/24\""),
    ] {
        assert!(told(text).ends_with(said), "{text}: {}", told(text));
    }
}
