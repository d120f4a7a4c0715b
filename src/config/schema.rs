//! The keys of the config file, and what counts for those that are left out. What a single value may be is said where
//! its type is. What one value says of another is checked in `checked`.

use super::deserializer::{keys, text};
use super::encryption::{self, TrustSource};
use super::endpoint::{Endpoint, address_in_list, endpoint_from};
use super::ids::{self, FileSystem};
use super::paths::{mount_point_from, path_from};
use super::reader::KeyAdvice;
use super::{
    ATTEMPT_TIMEOUT, DEADLINE, Facility, Level, LogSettings, MODE, MOUNT_POINT, UNMOUNT_DEADLINE,
};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

const SHORTEST_DEADLINE: Duration = Duration::from_secs(1);
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(600);

/// The file as it is written.
#[derive(Deserialize)]
#[serde(rename = "the top level", default, deny_unknown_fields)]
pub struct FileTable {
    #[serde(deserialize_with = "deadline")]
    pub deadline: Duration,
    #[serde(deserialize_with = "attempt_timeout")]
    pub attempt_timeout: Duration,
    #[serde(deserialize_with = "deadline")]
    pub unmount_deadline: Duration,
    pub log: LogSettings,
    pub share: Shares,
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
pub struct Shares(pub Vec<ShareTable>);

/// One `[[share]]` as it is written.
#[derive(Deserialize)]
#[serde(rename = "[[share]]", deny_unknown_fields)]
pub struct ShareTable {
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Endpoint,
    #[serde(default = "default_mount_point", deserialize_with = "mount_point")]
    pub mount_point: PathBuf,
    #[serde(default = "default_path", deserialize_with = "path")]
    pub path: String,
    #[serde(default = "default_mode", deserialize_with = "mode")]
    pub mode: u32,
    #[serde(default, deserialize_with = "mode")]
    pub root_mode: Option<u32>,
    // `checked` reads this one, since it depends on the other keys.
    pub options: Option<String>,
    #[serde(default)]
    pub addresses: Addresses,
    #[serde(default = "default_required")]
    pub required: bool,

    // `checked` decides how these go together.
    pub encryption_in_transit: Option<bool>,
    #[serde(default)]
    pub iam: bool,
    #[serde(default, deserialize_with = "access_point")]
    pub access_point: Option<String>,
    pub aws_profile: Option<String>,
    #[serde(default)]
    pub aws_environment: bool,
    #[serde(default, deserialize_with = "trust")]
    pub trust: Option<TrustSource>,
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
pub struct Addresses(pub Vec<Address>);

#[derive(Deserialize)]
#[serde(transparent)]
pub struct Address(#[serde(deserialize_with = "address")] pub IpAddr);

#[derive(Deserialize)]
#[serde(rename = "a span of time in quotes")]
struct DurationText(String);

/// Functions for serde that read a string: their name, what they make of it, and how.
macro_rules! texts {
    ($($name:ident: $type:ty = $read:path;)*) => {$(
        pub fn $name<'de, D: Deserializer<'de>, T: From<$type>>(from: D) -> Result<T, D::Error> {
            text(from, $read).map(T::from)
        }
    )*};
}

texts! {
    endpoint: Endpoint = endpoint_from;
    mount_point: PathBuf = mount_point_from;
    path: String = path_from;
    mode: u32 = mode_from;
    level: Level = level_from;
    facility: Facility = facility_from;
    address: IpAddr = address_in_list;
    access_point: String = ids::access_point_from;
    trust: TrustSource = encryption::trust_from;
    tls_name: String = encryption::tls_name_from;
    file_system: FileSystem = ids::file_system_from;
    region: String = ids::region_from;
}

fn deadline<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    duration(from, SHORTEST_DEADLINE)
}

fn attempt_timeout<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    duration(from, SHORTEST_ATTEMPT)
}

fn duration<'de, D: Deserializer<'de>>(from: D, least: Duration) -> Result<Duration, D::Error> {
    let DurationText(text) = DurationText::deserialize(from)?;
    let allowed =
        format!("{} to {}", humantime::format_duration(least), humantime::format_duration(LONGEST));
    match humantime::parse_duration(&text) {
        Ok(span) if span >= least && span <= LONGEST => Ok(span),
        Ok(_) => Err(D::Error::custom(format!("cannot be: allowed is {allowed}"))),
        Err(_) => {
            let what = format!("is no duration: write it like \"25s\" ({allowed})");
            Err(D::Error::custom(what))
        }
    }
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

fn mode_from(text: &str) -> Result<u32, String> {
    let octal =
        text.len() >= 3 && text.len() <= 4 && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ => Err("is no mode: allowed are 3 or 4 octal digits, like \"1777\"".into()),
    }
}

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

pub const ADVICE: KeyAdvice = KeyAdvice {
    belongs,
    renamed,
    may_repeat: |key| key == "share" || keys::<ShareTable>().contains(&key),
    // All keys except the endpoint have defaults.
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
