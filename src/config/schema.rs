//! The keys of the config file: which there are, what stands for those that are left out, and what one value says of
//! another. What a single value may be is said where its type is.

use super::deserializer::{keys, text};
use super::encryption::{self, Trust};
use super::endpoint::{Endpoint, address_in_list, endpoint_from};
use super::ids::{self, FileSystem};
use super::options::MountOptions;
use super::paths::{mount_point_from, path_from};
use super::reader::{KeyAdvice, Node, SPAN, STRING};
use super::{
    ATTEMPT_TIMEOUT, ConfigError, DEADLINE, Facility, Level, LogSettings, MODE, MOUNT_POINT,
    Settings, Share, UNMOUNT_DEADLINE,
};
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEADLINE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);
/// A start reads its config before its deadline counts for anything: no list is without end.
const MOST_SHARES: usize = 64;
const MOST_ADDRESSES: usize = 64;

/// The file as it is written.
#[derive(Deserialize)]
#[serde(rename = "the top level", default, deny_unknown_fields)]
pub struct FileTable {
    #[serde(deserialize_with = "deadline")]
    deadline: Duration,
    #[serde(deserialize_with = "attempt_timeout")]
    attempt_timeout: Duration,
    #[serde(deserialize_with = "deadline")]
    unmount_deadline: Duration,
    log: LogSettings,
    share: Shares,
}

impl Default for FileTable {
    fn default() -> Self {
        Self {
            deadline: DEADLINE,
            attempt_timeout: ATTEMPT_TIMEOUT,
            unmount_deadline: UNMOUNT_DEADLINE,
            log: LogSettings::default(),
            share: Shares::default(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename = "one or more [[share]] tables")]
struct Shares(Vec<ShareTable>);

/// One `[[share]]` as it is written.
#[derive(Deserialize)]
#[serde(rename = "[[share]]", deny_unknown_fields)]
pub struct ShareTable {
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Endpoint,
    #[serde(default = "default_mount_point", deserialize_with = "mount_point")]
    mount_point: PathBuf,
    #[serde(default = "default_path", deserialize_with = "path")]
    path: String,
    #[serde(default = "default_mode", deserialize_with = "mode")]
    mode: u32,
    #[serde(default, deserialize_with = "mode")]
    root_mode: Option<u32>,
    // What it may be depends on the other keys.
    options: Option<String>,
    #[serde(default)]
    addresses: Addresses,
    #[serde(default = "default_required")]
    required: bool,

    // How these go together is for `encryption::checked` to say.
    pub encryption_in_transit: Option<bool>,
    #[serde(default)]
    pub iam: bool,
    #[serde(default, deserialize_with = "access_point")]
    pub access_point: Option<String>,
    pub aws_profile: Option<String>,
    #[serde(default)]
    pub aws_environment: bool,
    #[serde(default, deserialize_with = "trust")]
    pub trust: Option<Trust>,
    #[serde(default, deserialize_with = "tls_name")]
    pub tls_name: Option<String>,
    #[serde(default, deserialize_with = "file_system")]
    pub file_system_id: Option<FileSystem>,
    #[serde(default, deserialize_with = "region")]
    pub region: Option<String>,
    #[serde(default)]
    pub discover: bool,
    pub tunnel_port: Option<NonZeroU16>,
}

#[derive(Deserialize, Default)]
#[serde(rename = "an array of strings")]
struct Addresses(Vec<Address>);

#[derive(Deserialize)]
#[serde(transparent)]
struct Address(#[serde(deserialize_with = "address")] IpAddr);

/// Functions for serde that read a string: their name, what they make of it, what is said to be expected, and who
/// reads it.
macro_rules! texts {
    ($($name:ident: $type:ty = $expected:expr, $read:expr;)*) => {$(
        pub fn $name<'de, D: Deserializer<'de>, T: From<$type>>(from: D) -> Result<T, D::Error> {
            text(from, $expected, $read).map(T::from)
        }
    )*};
}

texts! {
    deadline: Duration = SPAN, |text| duration(text, DEADLINE_RANGE);
    attempt_timeout: Duration = SPAN, |text| duration(text, (SHORTEST_ATTEMPT, DEADLINE_RANGE.1));
    endpoint: Endpoint = STRING, endpoint_from;
    mount_point: PathBuf = STRING, mount_point_from;
    path: String = STRING, path_from;
    mode: u32 = STRING, mode_from;
    level: Level = STRING, level_from;
    facility: Facility = STRING, facility_from;
    address: IpAddr = STRING, address_in_list;
    access_point: String = STRING, ids::access_point_from;
    trust: Trust = STRING, encryption::trust_from;
    tls_name: String = STRING, encryption::tls_name_from;
    file_system: FileSystem = STRING, ids::file_system_from;
    region: String = STRING, ids::region_from;
}

fn default_mount_point() -> PathBuf {
    MOUNT_POINT.into()
}

fn default_path() -> String {
    "/".into()
}

fn default_mode() -> u32 {
    MODE
}

fn default_required() -> bool {
    true
}

fn level_from(text: &str) -> Result<Level, String> {
    let known = Level::ALL.into_iter().find(|level| level.word() == text);
    known.ok_or("is no level: allowed are error, warning, info, debug, in lower case".into())
}

fn facility_from(text: &str) -> Result<Facility, String> {
    match text {
        "daemon" => Ok(Facility::Daemon),
        "user" => Ok(Facility::User),
        _ => match text.strip_prefix("local").and_then(|n| n.parse().ok()) {
            Some(n @ 0..=7) => Ok(Facility::Local(n)),
            _ => Err("is no facility: allowed are daemon, user, local0 to local7".into()),
        },
    }
}

fn duration(text: &str, (least, most): (Duration, Duration)) -> Result<Duration, String> {
    let (low, high) = (humantime::format_duration(least), humantime::format_duration(most));
    match humantime::parse_duration(text) {
        Ok(span) if span >= least && span <= most => Ok(span),
        Ok(_) => Err(format!("cannot be: allowed is {low} to {high}")),
        Err(_) => Err(format!("is no duration: write it like \"25s\" ({low} to {high})")),
    }
}

fn mode_from(text: &str) -> Result<u32, String> {
    let octal =
        text.len() >= 3 && text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ => Err("is no mode: allowed are 3 or 4 octal digits, like \"1777\"".into()),
    }
}

pub const ADVICE: KeyAdvice = KeyAdvice {
    belongs,
    renamed: encryption::renamed,
    may_repeat: |key| key == "share" || keys::<ShareTable>().contains(&key),
    // All but the endpoint have defaults.
    meaning: |_| "the file system's DNS name",
};

/// Where a key belongs that was put into another table.
fn belongs(key: &str) -> Option<&'static str> {
    if keys::<LogSettings>().contains(&key) {
        Some("below a line [log]")
    } else if keys::<ShareTable>().contains(&key) {
        Some("below a line [[share]]")
    } else if key == "share" {
        Some("on a line of its own, as [[share]]")
    } else if key != "log" && keys::<FileTable>().contains(&key) {
        Some("at the top of the file, above the first [[share]] and [log]")
    } else {
        None
    }
}

impl FileTable {
    /// The settings, if no value contradicts another. `node` is the file.
    pub fn checked(self, node: Node<'_>) -> Result<Settings, ConfigError> {
        let mut attempt_timeout = self.attempt_timeout;
        if attempt_timeout > self.deadline {
            if node.get("attempt_timeout").is_some() {
                let deadline = humantime::format_duration(self.deadline);
                let what = format!("is longer than the deadline ({deadline}): make it shorter");
                return Err(node.at("attempt_timeout").complaint(&what));
            }
            attempt_timeout = self.deadline;
        }

        let mut shares: Vec<(Share, Node<'_>)> = Vec::new();
        let nodes = node.get("share").into_iter().flat_map(Node::items);
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
    fn checked(self, node: Node<'_>) -> Result<Share, ConfigError> {
        let options = match &self.options {
            None => MountOptions::default(),
            Some(text) => MountOptions::beside(text, &|key| node.get(key).is_some())
                .map_err(|complaint| node.at("options").complaint(&complaint))?,
        };
        let mut addresses = node.get("addresses").into_iter().flat_map(Node::items);
        if let Some(address) = addresses.nth(MOST_ADDRESSES) {
            let complaint = format!("is one too many: allowed are {MOST_ADDRESSES}");
            return Err(address.complaint(&complaint));
        }
        Ok(Share {
            encryption: encryption::checked(&self, node, &options)?,
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

/// Refuses a share that cannot be beside the `others`: neither two mount points nor two ports can be the same.
fn apart(share: &Share, node: Node<'_>, others: &[(Share, Node<'_>)]) -> Result<(), ConfigError> {
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
