//! The keys of a `[[share]]` that belong to encryption in transit: their types,
//! and which of them go together. What is done with them is not this file's business.

use super::options::MountOptions;
use super::reader::Entry;
use super::schema::ShareTable;
use super::{ConfigError, Endpoint, absolute, is_dns_name};
use crate::partitions::{self, Partition};
use crate::text::misleads;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Below this, root alone can listen, and connect from.
pub const RESERVED: u16 = 1024;

/// How a share is encrypted on its way, and who we are to the file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encryption {
    /// `fs-` and 8 or 17 hex digits.
    pub file_system_id: String,
    /// Its ARN, if that is what `file_system_id` says: EFS's API wants it for a file system of another account.
    pub file_system_arn: Option<String>,
    /// The file system's region, like `eu-west-1`.
    pub region: String,
    /// The name that the server's certificate must have, also sent to it (SNI).
    pub tls_name: String,
    /// Whether we sign in with AWS credentials.
    pub iam: bool,
    /// `fsap-` and 17 hex digits.
    pub access_point: Option<String>,
    /// Whose credentials; none: the first that is found.
    pub aws_profile: Option<String>,
    /// Whether AWS's environment variables count where credentials are looked for.
    pub aws_environment: bool,
    /// Who may have signed the server's certificate.
    pub trust: Trust,
    /// Whether AWS is asked for the mount targets if the name does not resolve.
    pub discover: bool,
    /// The local port of the tunnel; none: whichever is free.
    pub tunnel_port: Option<u16>,
}

impl Encryption {
    /// That of a share whose config is not known, but whose tunnel is there: enough to ask that, and to end it.
    /// None is started with it: a tunnel reads the config.
    pub fn of_a_tunnel_that_runs() -> Self {
        Self::default()
    }
}

/// The roots that a server's certificate must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Amazon's own, which the program carries.
    #[default]
    Amazon,
    /// Those that the system trusts.
    System,
    /// Those in a PEM file.
    File(PathBuf),
}

/// The key that turns encryption on.
pub const MAIN: &str = "encryption_in_transit";
/// Of a key about credentials, where nothing needs any.
const OF_NO_USE: &str = "is of no use without iam = true, nor discover = true: add the one that is \
                         meant, or take it out";

/// What stands here for a key that amazon-efs-utils, stunnel or an fstab would have.
pub(super) fn renamed(key: &str) -> Option<&'static str> {
    match key {
        "tls" | "xprtsec" | "encryption" | "encrypt" | "encrypted" | "in_transit" => {
            Some("encryption_in_transit = true")
        }
        "cafile" | "CAfile" | "stunnel_cafile" => Some("trust = \"/…\", a PEM file"),
        "capath" | "CApath" => Some("trust = \"/…\", one PEM file with all certificates in it"),
        "tlsport" => Some("tunnel_port = …, or nothing, for a port that is free"),
        "role" | "rolearn" | "role_arn" => {
            Some("aws_profile = \"…\", a profile of root's ~/.aws/config that has role_arn")
        }
        _ => None,
    }
}

/// The encryption that a share asks for, if its keys go together. `entry` is the table.
pub(super) fn checked(
    table: &ShareTable,
    entry: Entry<'_>,
    options: &MountOptions,
) -> Result<Option<Encryption>, ConfigError> {
    if table.encryption_in_transit != Some(true) {
        return no_key_is_idle(table, entry).map(|()| None);
    }
    if options.value("proto") == Some("tcp6") {
        let what = format!(
            "{MAIN} does not go with proto=tcp6: the kernel speaks to the tunnel at 127.0.0.1; take \
             proto= out of `options` (the tunnel itself finds a server's IPv6 addresses)"
        );
        return Err(entry.at(MAIN).error(what));
    }

    let (file_system_id, region) = identity(table, entry)?;
    let Partition { dns_suffix, has_public_roots, .. } = *partitions::of_region(&region);
    let tls_name = table.tls_name.clone();
    let tls_name =
        tls_name.unwrap_or_else(|| format!("{file_system_id}.efs.{region}.{dns_suffix}"));
    let usual_trust = if has_public_roots { Trust::Amazon } else { Trust::System };
    credentials_are_used(table, entry)?;
    let tunnel_port = table.tunnel_port.map(NonZeroU16::get);
    if let Some(port) = tunnel_port {
        port_is_possible(port, options).map_err(|what| entry.at("tunnel_port").error(what))?;
    }

    let arn = table.file_system_id.as_ref().and_then(|file_system| file_system.arn.as_ref());
    Ok(Some(Encryption {
        file_system_id,
        file_system_arn: arn.map(|arn| arn.text.clone()),
        region,
        tls_name,
        iam: table.iam,
        access_point: table.access_point.clone(),
        aws_profile: table.aws_profile.clone(),
        aws_environment: table.aws_environment,
        trust: table.trust.clone().unwrap_or(usual_trust),
        discover: table.discover,
        tunnel_port,
    }))
}

/// Refuses a key that does nothing without encryption.
fn no_key_is_idle(table: &ShareTable, entry: Entry<'_>) -> Result<(), ConfigError> {
    let given = [
        ("iam", table.iam),
        ("access_point", table.access_point.is_some()),
        ("aws_profile", table.aws_profile.is_some()),
        ("aws_environment", table.aws_environment),
        ("trust", table.trust.is_some()),
        ("tls_name", table.tls_name.is_some()),
        ("file_system_id", table.file_system_id.is_some()),
        ("region", table.region.is_some()),
        ("discover", table.discover),
        ("tunnel_port", table.tunnel_port.is_some()),
    ];
    let given = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key);
    let Some(key) = given.min_by_key(|key| entry.at(key).place()) else {
        return Ok(());
    };
    let what = match table.encryption_in_transit {
        Some(_) => format!("{key} is for {MAIN} = true alone, which is false here"),
        None => format!("{key} needs {MAIN} = true in the same [[share]]"),
    };
    Err(entry.at(key).error(what))
}

/// Id and region of the file system. The endpoint says them, or the keys do, and none contradicts another.
fn identity(table: &ShareTable, entry: Entry<'_>) -> Result<(String, String), ConfigError> {
    let told = match &table.endpoint {
        Endpoint::Name(name) => of_efs(name).map_err(|why| entry.at("endpoint").complaint(&why))?,
        Endpoint::Address(_) => None,
    };
    let (told_id, told_region) = told.unzip();

    let file_system = table.file_system_id.as_ref();
    let id = same(file_system.map(|file_system| &file_system.id), told_id, "the endpoint")
        .map_err(|why| entry.at("file_system_id").complaint(&why))?;

    let arn = file_system.and_then(|file_system| file_system.arn.as_ref());
    let (told_region, teller) = match (arn, told_region) {
        (Some(arn), Some(other)) if arn.region != other => {
            let why = format!(
                "is in the region {other}, and file_system_id, \"{}\", in {}: correct one of the two",
                arn.text, arn.region
            );
            return Err(entry.at("endpoint").complaint(&why));
        }
        (Some(arn), _) => (Some(arn.region.clone()), "file_system_id"),
        (None, told) => (told, "the endpoint"),
    };
    let region = same(table.region.as_ref(), told_region, teller)
        .map_err(|why| entry.at("region").complaint(&why))?;

    match (id, region) {
        (Some(id), Some(region)) => Ok((id, region)),
        (id, region) => {
            let mut missing = Vec::new();
            missing.extend(id.is_none().then_some("file_system_id = \"fs-…\""));
            missing.extend(region.is_none().then_some("region = \"…\""));
            let fsx = matches!(&table.endpoint, Endpoint::Name(name) if name.contains(".fsx."));
            let why = match fsx {
                true => format!(
                    "is a name of FSx, which does not speak TLS as EFS does: take {MAIN} out, with all that needs it"
                ),
                false => format!(
                    "does not say which file system it is, as \"fs-….efs.<region>.amazonaws.com\" \
                     would: add {}",
                    missing.join(" and ")
                ),
            };
            Err(entry.at("endpoint").complaint(&why))
        }
    }
}

/// What a key says, unless the `teller` says it already, and then the same.
fn same(
    given: Option<&String>,
    told: Option<String>,
    teller: &str,
) -> Result<Option<String>, String> {
    match (given, told) {
        (Some(given), Some(told)) if *given != told => {
            Err(format!("is not what {teller} says (\"{told}\"): take one of the two out"))
        }
        (given, told) => Ok(given.cloned().or(told)),
    }
}

/// Refuses a key about credentials where nothing needs any, and the name of a profile that none can have.
fn credentials_are_used(table: &ShareTable, entry: Entry<'_>) -> Result<(), ConfigError> {
    let asks_aws = table.iam || table.discover;
    if let Some(profile) = &table.aws_profile {
        let checked = if asks_aws { profile_from(profile) } else { Err(OF_NO_USE.into()) };
        checked.map_err(|why| entry.at("aws_profile").complaint(&why))?;
    }
    if table.aws_environment && !asks_aws {
        let what = format!("aws_environment = true {OF_NO_USE}");
        return Err(entry.at("aws_environment").error(what));
    }
    Ok(())
}

fn port_is_possible(port: u16, options: &MountOptions) -> Result<(), String> {
    if port >= RESERVED {
        return Err(format!(
            "tunnel_port {port} can be taken by any user of the machine: choose one from 1 to 1023, where \
             root alone can listen, or leave it out"
        ));
    }
    // Nothing at that port may pass for a server without a tunnel.
    if port == options.port {
        return Err(format!("tunnel_port {port} is the server's own port: choose another"));
    }
    Ok(())
}

/// The whole name, if `name` is one of EFS but for `.efs`: `<id>.<region>.<suffix>`. What has anything between the two is
/// a name of another service (`fs-….fsx.<region>…`).
pub(super) fn with_efs(name: &str) -> Option<String> {
    let (front, suffix) = partitions::split(name)?;
    let (id, region) = front.split_once('.')?;
    region_from(region).ok().filter(|_| id.starts_with("fs-"))?;
    Some(format!("{id}.efs.{region}.{suffix}"))
}

/// Whether that is one.
pub(super) fn access_point_id(text: &str) -> bool {
    hex_after(text, "fsap-", &[17])
}

/// Whether `name` is one of EFS, with an id and a region in it that may be wrong.
pub(super) fn is_of_efs(name: &str) -> bool {
    !matches!(of_efs(name), Ok(None))
}

/// File-system id and region, if `name` is `[<zone>.]<id>.efs.<region>.<suffix>`.
fn of_efs(name: &str) -> Result<Option<(String, String)>, String> {
    let Some((front, suffix)) = partitions::split(name) else {
        return Ok(None);
    };
    let labels: Vec<&str> = front.split('.').collect();
    let (id, region) = match labels[..] {
        [id, "efs", region] | [_, id, "efs", region] => (id, region),
        _ => return Ok(None),
    };
    let id = file_system_id(id).map_err(|why| format!("has an id in it, \"{id}\", that {why}"))?;
    let region = region_from(region)
        .map_err(|why| format!("has a region in it, \"{region}\", that {why}"))?;
    match partitions::dns_suffix(&region) {
        right if right == suffix => Ok(Some((id, region))),
        right => Err(format!("does not end as names of {region} do, in \".{right}\"")),
    }
}

fn hex_after(text: &str, prefix: &str, lengths: &[usize]) -> bool {
    let digits = text.strip_prefix(prefix).unwrap_or("");
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    lengths.contains(&digits.len()) && digits.bytes().all(hex)
}

fn file_system_id(text: &str) -> Result<String, String> {
    match hex_after(text, "fs-", &[8, 17]) {
        true => Ok(text.to_owned()),
        false => Err("is no file-system id: that is \"fs-\" and 8 or 17 hex digits, in lower case"
            .to_owned()),
    }
}

/// What is behind the account in the ARN of a file system.
const FILE_SYSTEM: &str = "file-system/";

/// What `file_system_id` says: an id, or the ARN that it is in.
pub(super) struct FileSystem {
    id: String,
    arn: Option<Arn>,
}

/// The ARN of a file system, and the region in it.
struct Arn {
    text: String,
    region: String,
}

pub(super) fn file_system_from(text: &str) -> Result<FileSystem, String> {
    if let Some(rest) = text.strip_prefix("arn:") {
        let (id, region) = arn_from(rest)?;
        return Ok(FileSystem { id, arn: Some(Arn { text: text.to_owned(), region }) });
    }
    let id = file_system_id(text).map_err(|why| {
        let id = text.split(':').next().filter(|id| *id != text && file_system_id(id).is_ok());
        let Some(id) = id else { return why };
        let access_point = super::pasted::access_point_in(text);
        let access_point = access_point.map(|id| format!(" and access_point = \"{id}\""));
        let access_point = access_point.unwrap_or_default();
        format!("has more in it than the id: write file_system_id = \"{id}\"{access_point}")
    })?;
    Ok(FileSystem { id, arn: None })
}

/// Id and region in what follows `arn:`, which is `<partition>:elasticfilesystem:<region>:<account>:file-system/<id>`.
fn arn_from(rest: &str) -> Result<(String, String), String> {
    let parts: Vec<&str> = rest.splitn(5, ':').collect();
    let [partition, "elasticfilesystem", region, account, resource] = parts[..] else {
        return Err("is no ARN of a file system: one is like \
                    \"arn:aws:elasticfilesystem:<region>:<account>:file-system/fs-…\""
            .into());
    };
    let of_partition = partition == "aws"
        || partition.strip_prefix("aws-").is_some_and(|rest| {
            !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        });
    let of_account = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
    let id = resource.strip_prefix(FILE_SYSTEM);
    match (id, region_from(region)) {
        _ if !of_partition => Err(format!("is an ARN of no partition of AWS, \"{partition}\"")),
        (_, Err(why)) => Err(format!("is an ARN with a region in it, \"{region}\", that {why}")),
        _ if !of_account => Err(format!(
            "is an ARN with an account in it, \"{account}\", that is none: one has 12 digits"
        )),
        (None, _) => Err(format!(
            "is the ARN of something else, \"{resource}\", and not of a file system (file-system/fs-…)"
        )),
        (Some(id), Ok(region)) => {
            let id = file_system_id(id)
                .map_err(|why| format!("is an ARN with an id in it, \"{id}\", that {why}"))?;
            Ok((id, region))
        }
    }
}

pub(super) fn access_point_from(text: &str) -> Result<String, String> {
    if access_point_id(text) {
        return Ok(text.to_owned());
    }
    // What the console offers for copying beside the id, and handles of the CSI driver.
    match super::pasted::access_point_in(text) {
        Some(id) if text.starts_with("arn:") => {
            Err(format!("is an ARN: write the id at its end alone, \"{id}\""))
        }
        Some(id) => Err(format!("has more in it than the id: write that alone, \"{id}\"")),
        None => {
            Err("is no access-point id: that is \"fsap-\" and 17 hex digits, in lower case".into())
        }
    }
}

pub(super) fn region_from(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let words = |words: &[&str]| {
        words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
    };
    match parts.split_last() {
        Some((number, front))
            if front.len() >= 2
                && words(front)
                && !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && text.len() <= 32 =>
        {
            Ok(text.to_owned())
        }
        _ => Err("is no region: one is like \"eu-west-1\"".into()),
    }
}

pub(super) fn tls_name_from(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let last = name.rsplit('.').next().unwrap_or("");
    let fits = is_dns_name(&name)
        && !last.bytes().all(|b| b.is_ascii_digit())
        && !name.split('.').any(|label| label.ends_with('-'));
    match fits {
        true => Ok(name),
        false => Err("is no DNS name: write it as the server's certificate has it".into()),
    }
}

fn profile_from(text: &str) -> Result<(), String> {
    let odd = |c: char| misleads(c) || matches!(c, '[' | ']' | '#' | ';');
    if text.is_empty() || text.len() > 128 || text.trim() != text || text.contains(odd) {
        return Err("is no name of a profile: write what stands in brackets in \
                    ~/.aws/credentials, or behind \"profile\" in ~/.aws/config"
            .into());
    }
    Ok(())
}

pub(super) fn trust_from(text: &str) -> Result<Trust, String> {
    match text {
        "amazon" => Ok(Trust::Amazon),
        "system" => Ok(Trust::System),
        path if path.starts_with('/') => absolute(path).map(Trust::File),
        _ => {
            Err("is neither \"amazon\" nor \"system\", nor the absolute path of a PEM file".into())
        }
    }
}

#[cfg(test)]
mod tests {
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
                trust: Trust::Amazon,
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
            ("us-gov-west-1", "amazonaws.com", Trust::Amazon),
            ("cn-north-1", "amazonaws.com.cn", Trust::Amazon),
            ("eusc-de-east-1", "amazonaws.eu", Trust::Amazon),
            ("us-iso-east-1", "c2s.ic.gov", Trust::System),
            ("us-isob-east-1", "sc2s.sgov.gov", Trust::System),
            ("eu-isoe-west-1", "cloud.adc-e.uk", Trust::System),
            ("us-isof-south-1", "csp.hci.ic.gov", Trust::System),
        ] {
            let name = format!("fs-0123abcd.efs.{region}.{suffix}");
            let encryption = encrypted(&name, "");
            assert_eq!(encryption.file_system_id, "fs-0123abcd");
            assert_eq!(
                (encryption.region.as_str(), &encryption.trust, encryption.tls_name.as_str()),
                (region, &trust, name.as_str())
            );
            // An address does not say it; the keys do, and the name in the certificate follows.
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
                trust: Trust::File("/etc/pki/ca.pem".into()),
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
        assert_eq!(encrypted(FS, "trust = \"system\"\n").trust, Trust::System);
        assert_eq!(encrypted(FS, "trust = \"amazon\"\n").trust, Trust::Amazon);
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
            (
                "eu-west-1",
                "",
                "is an ARN with a region in it, \"\", that is no region: one is like",
            ),
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
            error(FS, "access_point = \"fs-0123abcd::fsap-0123456789abcdef0\"\n").ends_with(
                "has more in it than the id: write that alone, \"fsap-0123456789abcdef0\""
            )
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
            (
                "iam = \"yes\"",
                "7: iam must be true or false, not a string: write it without quotes",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(error(FS, &format!("{line}\n")), format!("/c.toml:4:{expected}"));
        }
        assert!(
            error(FS, "iam = true\naws_profile = \" x\"\n").contains("is no name of a profile")
        );
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
}
