//! The keys of a `[[share]]` that belong to encryption in transit: their types, and which of them go together. What is
//! done with them is not this file's business.

use super::endpoint::is_dns_name;
use super::ids::in_efs_name;
use super::options::MountOptions;
use super::paths::absolute;
use super::reader::Node;
use super::schema::ShareTable;
use super::{ConfigError, Endpoint};
use crate::partitions::{self, Partition};
use crate::text::misleads;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// Only root can listen at ports below this one, and connect from them.
pub const RESERVED: u16 = 1024;

/// How a share is encrypted on its way, and who we are to the file system.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Encryption {
    /// `fs-` and 8 or 17 hex digits.
    pub file_system_id: String,
    /// Its ARN, if `file_system_id` says that. EFS's API needs it for a file system of another account.
    pub file_system_arn: Option<String>,
    /// The file system's region, like `eu-west-1`.
    pub region: String,
    /// The name that the server's certificate must have. It is also sent to the server (SNI).
    pub tls_name: String,
    /// Whether we sign in with AWS credentials.
    pub iam: bool,
    /// `fsap-` and 17 hex digits.
    pub access_point: Option<String>,
    /// Whose credentials are used. Without it, they are the first that are found.
    pub aws_profile: Option<String>,
    /// Whether credentials are looked for in AWS's environment variables, too.
    pub aws_environment: bool,
    /// Who may have signed the server's certificate.
    pub trust: Trust,
    /// Whether AWS is asked for the mount targets if the name does not resolve.
    pub discover: bool,
    /// The local port of the tunnel. Without it, a free one is chosen.
    pub tunnel_port: Option<u16>,
}

impl Encryption {
    /// Stands for the encryption of a share whose tunnel runs, but whose config is not known. It is enough to ask the
    /// tunnel, and to end it. No tunnel is started with it, since a tunnel reads the config.
    pub fn of_a_tunnel_that_runs() -> Self {
        Self::default()
    }
}

/// The roots that a server's certificate must lead to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Trust {
    /// Amazon's public roots, which are in the program.
    #[default]
    Amazon,
    /// The roots that the system trusts.
    System,
    /// The roots in this PEM file.
    File(PathBuf),
}

/// The key that turns encryption on.
pub const MAIN: &str = "encryption_in_transit";

/// Said behind a key about credentials where nothing needs any.
const OF_NO_USE: &str = "is of no use without iam = true, nor discover = true: add the one that is \
                         meant, or take it out";

/// What to write for a key of amazon-efs-utils, stunnel or fstab.
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

/// The encryption that a share asks for, if its keys go together. `node` is the table.
pub(super) fn checked(
    table: &ShareTable,
    node: Node<'_>,
    options: &MountOptions,
) -> Result<Option<Encryption>, ConfigError> {
    if table.encryption_in_transit != Some(true) {
        return check_nothing_needs_encryption(table, node).map(|()| None);
    }
    if options.value("proto") == Some("tcp6") {
        let what = format!(
            "{MAIN} does not go with proto=tcp6: the kernel speaks to the tunnel at 127.0.0.1; take \
             proto= out of `options` (the tunnel itself finds a server's IPv6 addresses)"
        );
        return Err(node.at(MAIN).error(what));
    }

    let (file_system_id, region) = identity(table, node)?;
    let Partition { dns_suffix, has_public_roots, .. } = *partitions::of_region(&region);
    let tls_name = table.tls_name.clone();
    let tls_name =
        tls_name.unwrap_or_else(|| format!("{file_system_id}.efs.{region}.{dns_suffix}"));
    let usual_trust = if has_public_roots { Trust::Amazon } else { Trust::System };
    check_credentials(table, node)?;
    let tunnel_port = table.tunnel_port.map(NonZeroU16::get);
    if let Some(port) = tunnel_port {
        check_port(port, options).map_err(|what| node.at("tunnel_port").error(what))?;
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
fn check_nothing_needs_encryption(table: &ShareTable, node: Node<'_>) -> Result<(), ConfigError> {
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
    let Some(key) = given.min_by_key(|key| node.at(key).place()) else {
        return Ok(());
    };
    let what = match table.encryption_in_transit {
        Some(_) => format!("{key} is for {MAIN} = true alone, which is false here"),
        None => format!("{key} needs {MAIN} = true in the same [[share]]"),
    };
    Err(node.at(key).error(what))
}

/// Id and region of the file system. The endpoint says them, or the keys do. None may contradict another.
fn identity(table: &ShareTable, node: Node<'_>) -> Result<(String, String), ConfigError> {
    let by_endpoint = match &table.endpoint {
        Endpoint::Name(name) => {
            in_efs_name(name).map_err(|why| node.at("endpoint").complaint(&why))?
        }
        Endpoint::Address(_) => None,
    };
    let (endpoint_id, endpoint_region) = by_endpoint.unzip();

    let file_system = table.file_system_id.as_ref();
    let id = same(file_system.map(|file_system| &file_system.id), endpoint_id, "the endpoint")
        .map_err(|why| node.at("file_system_id").complaint(&why))?;

    let arn = file_system.and_then(|file_system| file_system.arn.as_ref());
    let (known_region, by) = match (arn, endpoint_region) {
        (Some(arn), Some(other)) if arn.region != other => {
            let why = format!(
                "is in the region {other}, and file_system_id, \"{}\", in {}: correct one of the two",
                arn.text, arn.region
            );
            return Err(node.at("endpoint").complaint(&why));
        }
        (Some(arn), _) => (Some(arn.region.clone()), "file_system_id"),
        (None, region) => (region, "the endpoint"),
    };
    let region = same(table.region.as_ref(), known_region, by)
        .map_err(|why| node.at("region").complaint(&why))?;

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
            Err(node.at("endpoint").complaint(&why))
        }
    }
}

/// What a key says. If it is `known` already, said `by` something else, the key must say the same.
fn same(given: Option<&String>, known: Option<String>, by: &str) -> Result<Option<String>, String> {
    match (given, known) {
        (Some(given), Some(known)) if *given != known => {
            Err(format!("is not what {by} says (\"{known}\"): take one of the two out"))
        }
        (given, known) => Ok(given.cloned().or(known)),
    }
}

/// Refuses a key about credentials where nothing needs any, and the name of a profile that none can have.
fn check_credentials(table: &ShareTable, node: Node<'_>) -> Result<(), ConfigError> {
    let asks_aws = table.iam || table.discover;
    if let Some(profile) = &table.aws_profile {
        let checked = if asks_aws { profile_from(profile) } else { Err(OF_NO_USE.into()) };
        checked.map_err(|why| node.at("aws_profile").complaint(&why))?;
    }
    if table.aws_environment && !asks_aws {
        let what = format!("aws_environment = true {OF_NO_USE}");
        return Err(node.at("aws_environment").error(what));
    }
    Ok(())
}

fn check_port(port: u16, options: &MountOptions) -> Result<(), String> {
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
    let is_odd = |c: char| misleads(c) || matches!(c, '[' | ']' | '#' | ';');
    if text.is_empty() || text.len() > 128 || text.trim() != text || text.contains(is_odd) {
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
mod tests;
