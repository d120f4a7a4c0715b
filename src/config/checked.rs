//! Checks what one value of the config says of another. What a single value may be has been checked before, where its
//! type is.

use super::encryption::{Encryption, RESERVED, TrustSource, profile_from};
use super::endpoint::Endpoint;
use super::ids::in_efs_name;
use super::lines::MAIN;
use super::options::MountOptions;
use super::reader::TomlNode;
use super::schema::{FileTable, ShareTable};
use super::{ConfigError, MOUNT_POINT, Settings, Share};
use crate::partitions::{self, Partition};
use std::num::NonZeroU16;
use std::path::Path;

/// A start reads its config before its deadline has any effect, so no list may be endless.
const MOST_SHARES: usize = 64;
const MOST_ADDRESSES: usize = 64;

/// The complaint about a key for credentials where nothing needs any.
const OF_NO_USE: &str = "is of no use without iam = true, nor discover = true: add the one that is \
                         meant, or take it out";

impl FileTable {
    /// The settings, if no value contradicts another. `node` is the file.
    pub fn checked(self, node: TomlNode<'_>) -> Result<Settings, ConfigError> {
        let mut attempt_timeout = self.attempt_timeout;
        if attempt_timeout > self.deadline {
            if node.get("attempt_timeout").is_some() {
                let deadline = humantime::format_duration(self.deadline);
                let what = format!("is longer than the deadline ({deadline}): make it shorter");
                return Err(node.at("attempt_timeout").complaint(&what));
            }
            attempt_timeout = self.deadline;
        }

        let mut shares: Vec<(Share, TomlNode<'_>)> = Vec::new();
        let nodes = node.get("share").into_iter().flat_map(TomlNode::items);
        for (table, node) in self.share.0.into_iter().zip(nodes) {
            if shares.len() == MOST_SHARES {
                return Err(node.error(format!("more than {MOST_SHARES} [[share]] tables")));
            }
            let share = table.checked(node)?;
            apart(&share, node, &shares)?;
            shares.push((share, node));
        }
        if shares.is_empty() {
            let what = "no [[share]] table: write [[share]] and below it endpoint = \"fs-….amazonaws.com\"";
            return Err(node.error_at_end(what.into()));
        }

        Ok(Settings {
            deadline: self.deadline,
            attempt_timeout,
            unmount_deadline: self.unmount_deadline,
            log: self.log,
            shares: shares.into_iter().map(|(share, _)| share).collect(),
        })
    }
}

impl ShareTable {
    fn checked(self, node: TomlNode<'_>) -> Result<Share, ConfigError> {
        let options = match &self.options {
            None => MountOptions::default(),
            Some(text) => MountOptions::beside(text, &|key| node.get(key).is_some())
                .map_err(|complaint| node.at("options").complaint(&complaint))?,
        };

        let mut addresses = node.get("addresses").into_iter().flat_map(TomlNode::items);
        if let Some(address) = addresses.nth(MOST_ADDRESSES) {
            let complaint = format!("is one too many: allowed are {MOST_ADDRESSES}");
            return Err(address.complaint(&complaint));
        }

        Ok(Share {
            encryption: encryption(&self, node, &options)?,
            endpoint: self.endpoint,
            path: self.path,
            mount_point: self.mount_point,
            mode: self.mode,
            root_mode: self.root_mode,
            options,
            addresses: self.addresses.0.into_iter().map(|address| address.0).collect(),
            required: self.required,
        })
    }
}

/// Refuses a share that clashes with one of the `others`: no mount point may hold another, and no port may be given
/// twice.
fn apart(
    share: &Share,
    node: TomlNode<'_>,
    others: &[(Share, TomlNode<'_>)],
) -> Result<(), ConfigError> {
    for (other, other_node) in others {
        if let Some(how) = clash(&share.mount_point, &other.mount_point) {
            let point = share.mount_point.display();
            let is_default = share.mount_point == Path::new(MOUNT_POINT);
            let default = if is_default { " (the default)" } else { "" };
            let line = other_node.at("mount_point").line();
            let what = format!(
                "mount point \"{point}\"{default} {how} line {line}; give each [[share]] a mount_point of its own"
            );
            return Err(node.at("mount_point").error(what));
        }
    }

    let port = share.encryption.as_ref().and_then(|encryption| encryption.tunnel_port);
    for (other, _) in others {
        let taken = other.encryption.as_ref().and_then(|encryption| encryption.tunnel_port);
        if let Some(port) = port.filter(|port| Some(*port) == taken) {
            let what = format!(
                "tunnel_port {port} is given twice, first for {}: give each share its own, or none",
                other.mount_point.display()
            );
            return Err(node.at("tunnel_port").error(what));
        }
    }
    Ok(())
}

/// How two mount points clash, to be put behind the first one.
fn clash(path: &Path, other: &Path) -> Option<&'static str> {
    if path == other {
        Some("is given twice, first in")
    } else if path.starts_with(other) {
        Some("lies inside the mount point of")
    } else if other.starts_with(path) {
        Some("holds the mount point of")
    } else {
        None
    }
}

/// The encryption that a share asks for, if its keys go together. `node` is the table.
fn encryption(
    table: &ShareTable,
    node: TomlNode<'_>,
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
    let usual_trust = if has_public_roots { TrustSource::Amazon } else { TrustSource::System };
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
fn check_nothing_needs_encryption(
    table: &ShareTable,
    node: TomlNode<'_>,
) -> Result<(), ConfigError> {
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
    let Some(key) = given.min_by_key(|key| node.at(key).offset()) else {
        return Ok(());
    };

    let what = match table.encryption_in_transit {
        Some(_) => format!("{key} is for {MAIN} = true alone, which is false here"),
        None => format!("{key} needs {MAIN} = true in the same [[share]]"),
    };
    Err(node.at(key).error(what))
}

/// Id and region of the file system. The endpoint says them, or the keys do. None may contradict another.
fn identity(table: &ShareTable, node: TomlNode<'_>) -> Result<(String, String), ConfigError> {
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
fn check_credentials(table: &ShareTable, node: TomlNode<'_>) -> Result<(), ConfigError> {
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

    // A tunnel at the server's own port could be mistaken for a server that is mounted without a tunnel.
    if port == options.port {
        return Err(format!("tunnel_port {port} is the server's own port: choose another"));
    }
    Ok(())
}
