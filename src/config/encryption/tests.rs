use super::*;
use crate::config::Settings;
use std::path::Path;

const FS: &str = "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com";

fn share(endpoint: &str, lines: &str) -> Result<Option<Encryption>, String> {
    let text = format!("[[share]]\nendpoint = \"{endpoint}\"\n{lines}");
    let settings = Settings::parse(Path::new("/c.toml"), &text).map_err(|e| e.to_string())?;
    Ok(settings.shares[0].encryption.clone())
}

fn encrypted(endpoint: &str, lines: &str) -> Encryption {
    share(endpoint, &format!("encryption_in_transit = true\n{lines}")).unwrap().unwrap()
}

fn error(endpoint: &str, lines: &str) -> String {
    share(endpoint, &format!("encryption_in_transit = true\n{lines}")).unwrap_err()
}

#[test]
fn one_more_line_is_enough_where_the_endpoint_says_the_rest() {
    assert_eq!(share(FS, ""), Ok(None));
    assert_eq!(share(FS, "encryption_in_transit = false\niam = false\n"), Ok(None));
    assert_eq!(
        encrypted(FS, ""),
        Encryption {
            file_system_id: "fs-0123456789abcdef0".into(),
            file_system_arn: None,
            region: "eu-west-1".into(),
            tls_name: FS.into(),
            iam: false,
            access_point: None,
            aws_profile: None,
            aws_environment: false,
            trust: TrustSource::Amazon,
            discover: false,
            tunnel_port: None,
        }
    );
}

#[test]
fn a_zone_before_the_id_is_no_part_of_the_name_in_the_certificate() {
    for zone in ["eu-west-1a", "euw1-az2"] {
        let zoned = encrypted(&format!("{zone}.{FS}"), "");
        assert_eq!(zoned, encrypted(FS, ""));
    }
}

#[test]
fn id_and_region_are_read_off_the_names_of_every_partition() {
    for (region, suffix, trust) in [
        ("us-gov-west-1", "amazonaws.com", TrustSource::Amazon),
        ("cn-north-1", "amazonaws.com.cn", TrustSource::Amazon),
        ("eusc-de-east-1", "amazonaws.eu", TrustSource::Amazon),
        ("us-iso-east-1", "c2s.ic.gov", TrustSource::System),
        ("us-isob-east-1", "sc2s.sgov.gov", TrustSource::System),
        ("eu-isoe-west-1", "cloud.adc-e.uk", TrustSource::System),
        ("us-isof-south-1", "csp.hci.ic.gov", TrustSource::System),
    ] {
        let name = format!("fs-0123abcd.efs.{region}.{suffix}");
        let encryption = encrypted(&name, "");
        assert_eq!(encryption.file_system_id, "fs-0123abcd");
        assert_eq!(
            (encryption.region.as_str(), &encryption.trust, encryption.tls_name.as_str()),
            (region, &trust, name.as_str())
        );
        // An address does not name the file system. The keys do, and the certificate's name follows from them.
        let keys = format!("file_system_id = \"fs-0123abcd\"\nregion = \"{region}\"\n");
        assert_eq!(encrypted("10.0.1.12", &keys), encryption);
    }
    assert_eq!(
        error("fs-0123abcd.efs.cn-north-1.amazonaws.com", ""),
        "/c.toml:2:12: endpoint \"fs-0123abcd.efs.cn-north-1.amazonaws.com\" does not end as \
         names of cn-north-1 do, in \".amazonaws.com.cn\""
    );
}

#[test]
fn every_key_is_taken() {
    let keys = "iam = true\naccess_point = \"fsap-0123456789abcdef0\"\naws_profile = \"a b\"\n\
                trust = \"/etc/pki//ca.pem\"\ntls_name = \"Efs.Example\"\n\
                file_system_id = \"fs-0123abcd\"\nregion = \"eu-west-1\"\n\
                discover = true\ntunnel_port = 849\naws_environment = true\n";
    assert_eq!(
        encrypted("nfs.example", keys),
        Encryption {
            file_system_id: "fs-0123abcd".into(),
            file_system_arn: None,
            region: "eu-west-1".into(),
            tls_name: "efs.example".into(),
            iam: true,
            access_point: Some("fsap-0123456789abcdef0".into()),
            aws_profile: Some("a b".into()),
            aws_environment: true,
            trust: TrustSource::File("/etc/pki/ca.pem".into()),
            discover: true,
            tunnel_port: Some(849),
        }
    );
    for port in ["8_49", "0x351", "0o1521"] {
        let encryption = encrypted(FS, &format!("tunnel_port = {port}\n"));
        assert_eq!(encryption.tunnel_port, Some(849));
        assert!(!encryption.aws_environment);
    }
    for needs in ["iam", "discover"] {
        let lines = format!("{needs} = true\naws_environment = true\n");
        assert!(encrypted(FS, &lines).aws_environment);
    }
    assert!(!encrypted(FS, "aws_environment = false\n").aws_environment);
    assert_eq!(encrypted(FS, "trust = \"system\"\n").trust, TrustSource::System);
    assert_eq!(encrypted(FS, "trust = \"amazon\"\n").trust, TrustSource::Amazon);
}

#[test]
fn the_arn_of_a_file_system_says_its_id_and_region_too() {
    const ARN: &str =
        "arn:aws:elasticfilesystem:eu-west-1:111122223333:file-system/fs-0123456789abcdef0";
    let key = |arn: &str| format!("file_system_id = \"{arn}\"\n");
    for (endpoint, more) in [
        (FS, ""),
        (FS, "region = \"eu-west-1\"\n"),
        ("efs.example.edu", ""),
        ("10.0.1.12", "region = \"eu-west-1\"\n"),
    ] {
        let found = encrypted(endpoint, &(key(ARN) + more));
        assert_eq!(found.file_system_arn.as_deref(), Some(ARN));
        assert_eq!(Encryption { file_system_arn: None, ..found }, encrypted(FS, ""));
    }
    let gov = ARN.replace("aws:", "aws-us-gov:").replace("eu-west-1", "us-gov-west-1");
    assert_eq!(encrypted("10.0.1.12", &key(&gov)).region, "us-gov-west-1");
    let said = |endpoint: &str, arn: &str, more: &str| {
        let told = error(endpoint, &(key(arn) + more));
        told.replace(arn, "ARN").split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(
        said(FS, &ARN.replace("eu-west-1", "eu-west-2"), ""),
        "endpoint \"fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com\" is in the region eu-west-1, and \
         file_system_id, \"ARN\", in eu-west-2: correct one of the two"
    );
    assert_eq!(
        said("10.0.1.12", ARN, "region = \"eu-west-2\"\n"),
        "region \"eu-west-2\" is not what file_system_id says (\"eu-west-1\"): take one of the two out"
    );
    assert_eq!(
        said(FS, &ARN.replace("def0", "def1"), ""),
        "file_system_id \"ARN\" is not what the endpoint says (\"fs-0123456789abcdef0\"): take one of the \
         two out"
    );
    for (from, to, words) in [
        ("elasticfilesystem", "s3", "is no ARN of a file system: one is like "),
        ("arn:aws:", "arn:gcp:", "is an ARN of no partition of AWS, \"gcp\""),
        ("eu-west-1", "", "is an ARN with a region in it, \"\", that is no region: one is like"),
        (
            "111122223333",
            "1111",
            "is an ARN with an account in it, \"1111\", that is none: one has 12",
        ),
        (
            "fs-0123456789abcdef0",
            "fs-XYZ",
            "is an ARN with an id in it, \"fs-XYZ\", that is no file-system id",
        ),
        (
            "file-system/fs-",
            "access-point/fsap-",
            "is the ARN of something else, \"access-point/fsap-",
        ),
    ] {
        let told = said("10.0.1.12", &ARN.replacen(from, to, 1), "");
        assert!(told.starts_with(&format!("file_system_id \"ARN\" {words}")), "{told}");
    }
}

#[test]
fn without_encryption_none_of_its_keys_is_taken_for_done() {
    for line in [
        "iam = true",
        "access_point = \"fsap-0123456789abcdef0\"",
        "aws_profile = \"x\"",
        "aws_environment = true",
        "trust = \"system\"",
        "tls_name = \"x\"",
        "file_system_id = \"fs-0123abcd\"",
        "region = \"eu-west-1\"",
        "discover = true",
        "tunnel_port = 849",
    ] {
        let (key, value) = line.split_once(" = ").unwrap();
        let column = key.len() + 4;
        assert_eq!(
            share(FS, &format!("{line}\n")).unwrap_err(),
            format!(
                "/c.toml:3:{column}: {key} needs encryption_in_transit = true in the same [[share]]"
            ),
            "{value}"
        );
        assert_eq!(
            share(FS, &format!("{line}\nencryption_in_transit = false\n")).unwrap_err(),
            format!(
                "/c.toml:3:{column}: {key} is for encryption_in_transit = true alone, which is false here"
            )
        );
    }
}

#[test]
fn what_others_call_otherwise_is_told_by_its_name_here() {
    for (key, ours) in [
        ("tls", "encryption_in_transit = true"),
        ("cafile", "trust = \"/…\", a PEM file"),
        ("capath", "trust = \"/…\", one PEM file with all certificates in it"),
        ("tlsport", "tunnel_port = …, or nothing, for a port that is free"),
        ("role", "aws_profile = \"…\", a profile of root's ~/.aws/config that has role_arn"),
    ] {
        assert_eq!(
            error(FS, &format!("{key} = \"x\"\n")),
            format!("/c.toml:4:1: unknown key \"{key}\" in [[share]]: here it is {ours}")
        );
    }
}

#[test]
fn what_the_endpoint_does_not_say_must_be_given_and_must_not_contradict_it() {
    let does_not_say = |endpoint: &str, missing: &str| {
        format!(
            "/c.toml:2:12: endpoint \"{endpoint}\" does not say which file system it is, as \
             \"fs-….efs.<region>.amazonaws.com\" would: add {missing}"
        )
    };
    let both = "file_system_id = \"fs-…\" and region = \"…\"";
    for endpoint in ["10.0.1.12", "nfs.example", "fs-0123abcd.efs.eu-west-1.example"] {
        assert_eq!(error(endpoint, ""), does_not_say(endpoint, both));
    }
    let fsx = error("fs-0123abcd.fsx.eu-west-1.amazonaws.com", "");
    assert!(fsx.contains("is a name of FSx, which does not speak TLS as EFS does"), "{fsx}");
    assert_eq!(
        error("a", "file_system_id = \"fs-0123abcd\"\n"),
        does_not_say("a", "region = \"…\"")
    );
    assert_eq!(
        error("a", "region = \"eu-west-1\"\n"),
        does_not_say("a", "file_system_id = \"fs-…\"")
    );
    assert_eq!(
        error(FS, "region = \"eu-west-2\"\n"),
        "/c.toml:4:10: region \"eu-west-2\" is not what the endpoint says (\"eu-west-1\"): take one of the two out"
    );
    assert_eq!(
        error(FS, "file_system_id = \"fs-0123abcd\"\n"),
        "/c.toml:4:18: file_system_id \"fs-0123abcd\" is not what the endpoint says (\"fs-0123456789abcdef0\"): take one of the two out"
    );
}

#[test]
fn what_is_malformed_is_refused_with_what_it_should_be() {
    assert!(error("a", "file_system_id = \"fs-0123abcd::fsap-0123456789abcdef0\"\n").ends_with(
        "has more in it than the id: write file_system_id = \"fs-0123abcd\" and access_point = \
         \"fsap-0123456789abcdef0\""
    ));
    assert!(
        error(FS, "access_point = \"fs-0123abcd::fsap-0123456789abcdef0\"\n")
            .ends_with("has more in it than the id: write that alone, \"fsap-0123456789abcdef0\"")
    );
    let id = "is no file-system id: that is \"fs-\" and 8 or 17 hex digits, in lower case";
    for bad in ["fs-0123", "fs-0123ABCD", "fs-0123456789abcdefg", "0123abcd", ""] {
        assert_eq!(
            error("a", &format!("file_system_id = \"{bad}\"\n")),
            format!("/c.toml:4:18: file_system_id \"{bad}\" {id}")
        );
    }
    assert_eq!(
        error("fs-1.efs.eu-west-1.amazonaws.com", ""),
        format!(
            "/c.toml:2:12: endpoint \"fs-1.efs.eu-west-1.amazonaws.com\" has an id in it, \"fs-1\", that {id}"
        )
    );
    assert_eq!(
        error("fs-0123abcd.efs.europe.amazonaws.com", ""),
        "/c.toml:2:12: endpoint \"fs-0123abcd.efs.europe.amazonaws.com\" has a region in it, \
         \"europe\", that is no region: one is like \"eu-west-1\""
    );
    let cases = [
        (
            "access_point = \"fsap-0123abcd\"",
            "16: access_point \"fsap-0123abcd\" is no access-point id: that is \"fsap-\" and 17 hex digits, in lower case",
        ),
        (
            "access_point = \"arn:aws:elasticfilesystem:eu-west-1:1:access-point/fsap-0123456789abcdef0\"",
            "16: access_point \"arn:aws:elasticfilesystem:eu-west-1:1:access-point/fsap-0123456789abcdef0\" is an ARN: write the id at its end alone, \"fsap-0123456789abcdef0\"",
        ),
        (
            "tls_name = \"10.0.0.1\"",
            "12: tls_name \"10.0.0.1\" is no DNS name: write it as the server's certificate has it",
        ),
        (
            "trust = \"ca.pem\"",
            "9: trust \"ca.pem\" is neither \"amazon\" nor \"system\", nor the absolute path of a PEM file",
        ),
        (
            "aws_profile = \"x\"",
            "15: aws_profile \"x\" is of no use without iam = true, nor discover = true: add the one that is meant, or take it out",
        ),
        (
            "aws_environment = true",
            "19: aws_environment = true is of no use without iam = true, nor discover = true: add the one that is meant, or take it out",
        ),
        (
            "tunnel_port = 0",
            "15: tunnel_port must be a whole number from 1 to 65535, not the integer 0",
        ),
        (
            "tunnel_port = 849\noptions = \"port=849\"",
            "15: tunnel_port 849 is the server's own port: choose another",
        ),
        (
            "tunnel_port = 20049",
            "15: tunnel_port 20049 can be taken by any user of the machine: choose one from 1 to 1023, \
             where root alone can listen, or leave it out",
        ),
        (
            "tunnel_port = -1",
            "15: tunnel_port must be a whole number from 1 to 65535, not the integer -1",
        ),
        (
            "tunnel_port = \"849\"",
            "15: tunnel_port must be a whole number from 1 to 65535, not a string: write it without quotes",
        ),
        ("iam = \"yes\"", "7: iam must be true or false, not a string: write it without quotes"),
    ];
    for (line, expected) in cases {
        assert_eq!(error(FS, &format!("{line}\n")), format!("/c.toml:4:{expected}"));
    }
    assert!(error(FS, "iam = true\naws_profile = \" x\"\n").contains("is no name of a profile"));
}

#[test]
fn options_that_the_tunnel_makes_impossible_are_refused() {
    assert!(error(FS, "options = \"proto=tcp6\"\n").starts_with(
        "/c.toml:3:25: encryption_in_transit does not go with proto=tcp6: the kernel speaks to the tunnel"
    ));
    for fine in ["proto=tcp", "resvport", "port=2050", "nconnect=2"] {
        encrypted(FS, &format!("options = \"{fine}\"\n"));
    }
}

#[test]
fn two_shares_cannot_have_the_same_local_port() {
    let of = |n: u32| {
        format!(
            "[[share]]\nendpoint = \"{FS}\"\nmount_point = \"/mnt/{n}\"\n\
             encryption_in_transit = true\ntunnel_port = 849\n"
        )
    };
    let text = format!("{}{}", of(1), of(2));
    assert_eq!(
        Settings::parse(Path::new("/c.toml"), &text).unwrap_err().to_string(),
        "/c.toml:10:15: tunnel_port 849 is given twice, first for /mnt/1: give each share its \
         own, or none"
    );
}
