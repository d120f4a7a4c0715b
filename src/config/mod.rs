//! The config file: its types, every default, and what is allowed.
//!
//! [`Settings::parse`] turns text into checked settings; what comes out of it
//! can be used without another look. Finding and opening the file is
//! [`file`]'s job, the NFS options are [`options`]'s, and the keys of encryption
//! [`encryption`]'s. Imports nothing of ours but [`crate::files`].

pub mod advice;
pub mod encryption;
mod endpoint;
pub mod file;
mod ids;
pub mod options;
mod pasted;
mod paths;
mod reader;
mod schema;
mod slips;
mod syntax;
mod words;

pub use endpoint::{Endpoint, is_whole};
pub use reader::nearest;

use encryption::Encryption;
use options::MountOptions;
use reader::{Node, Source};
use schema::FileTable;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Whole run, from exec to exit: 5 s below AppStream's usual `waitingTime` of 30 s.
pub const DEADLINE: Duration = Duration::from_secs(25);
/// One mount(2) call: long enough for a lossy link, short enough for a second try.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whole run of `unmount`: 10 s below AppStream's usual `waitingTime` of 30 s.
pub const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);
/// Where the share appears.
pub const MOUNT_POINT: &str = "/mnt/efs_share";
/// Mode of a mount point that we create.
pub const MODE: u32 = 0o1777;

/// A config file's meaning, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// When the run gives up, counted from its start.
    pub deadline: Duration,
    /// The longest that one mount(2) call may take.
    pub attempt_timeout: Duration,
    /// When `unmount` gives up, counted from its start.
    pub unmount_deadline: Duration,
    /// What is logged, and where.
    pub log: LogSettings,
    /// The shares to mount, at least one, in the order of the file.
    pub shares: Vec<Share>,
}

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename = "[log]", default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least level written.
    #[serde(deserialize_with = "schema::level")]
    pub level: Level,
    /// Whether lines go to /dev/log too.
    pub syslog: bool,
    /// As which facility.
    #[serde(deserialize_with = "schema::facility")]
    pub facility: Facility,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: Level::Info, syslog: true, facility: Facility::Daemon }
    }
}

/// How much a line matters; also the least that is written (`log.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The run failed, or a share did.
    Error,
    /// Something is wrong, but the run goes on.
    Warning,
    /// What happened.
    Info,
    /// What was tried.
    Debug,
}

impl Level {
    const ALL: [Self; 4] = [Self::Error, Self::Warning, Self::Info, Self::Debug];

    /// The word in the log and in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// The syslog facilities that make sense for a session's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Facility {
    /// `daemon`, the default.
    Daemon,
    /// `user`.
    User,
    /// `local0` to `local7`.
    Local(u8),
}

/// One `[[share]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The server.
    pub endpoint: Endpoint,
    /// The path on the server, absolute.
    pub path: String,
    /// Where it is mounted: absolute, normalised.
    pub mount_point: PathBuf,
    /// Mode of the mount point if we create it.
    pub mode: u32,
    /// Mode to give the share's root after mounting.
    pub root_mode: Option<u32>,
    /// NFS options and mount flags, merged over the defaults.
    pub options: MountOptions,
    /// Further addresses of mount targets, tried after those the name gives.
    pub addresses: Vec<IpAddr>,
    /// Whether the run fails when this share does.
    pub required: bool,
    /// How it is encrypted on its way; none: not at all.
    pub encryption: Option<Encryption>,
}

impl Share {
    /// One of which no more is known than what is mounted where, and whether through a tunnel.
    pub fn without_config(
        endpoint: Endpoint,
        path: String,
        mount_point: PathBuf,
        encrypted: bool,
    ) -> Self {
        Self {
            endpoint,
            path,
            mount_point,
            mode: 0,
            root_mode: None,
            options: MountOptions::default(),
            addresses: Vec::new(),
            required: true,
            encryption: encrypted.then(Encryption::of_a_tunnel_that_runs),
        }
    }

    /// `server:path`, as mount(2) gets it and `df` shows it.
    pub fn source(&self) -> String {
        match &self.endpoint {
            Endpoint::Address(IpAddr::V6(v6)) => format!("[{v6}]:{}", self.path),
            other => format!("{other}:{}", self.path),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.source(), self.mount_point.display())
    }
}

/// What is wrong with a config file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}:{column}: {what}", file.display())]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// What is wrong and what is allowed.
    pub what: String,
}

impl ConfigError {
    /// The error `what` at byte offset `place` of `text`, the contents of `file`. Always one line.
    pub fn at(file: &Path, text: &str, place: usize, what: &str) -> Self {
        let before = text.get(..place).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        // Editors do not count a byte-order mark.
        let start = before.rsplit('\n').next().unwrap_or("").trim_start_matches('\u{feff}');
        let column = start.chars().count() + 1;
        Self { file: file.to_owned(), line, column, what: what.replace('\n', " ") }
    }
}

impl Settings {
    /// Reads `text`, the contents of `file`.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source::new(file, text, &schema::ADVICE);
        let document = source.document()?;
        let node = Node::of_document(source, &document);
        node.read::<FileTable>()?.checked(node)
    }

    /// What counts where there is no config that can be used, but something to be done.
    pub fn of_no_share() -> Self {
        Self {
            deadline: DEADLINE,
            attempt_timeout: ATTEMPT_TIMEOUT,
            unmount_deadline: UNMOUNT_DEADLINE,
            log: LogSettings::default(),
            shares: Vec::new(),
        }
    }
}

/// Shares for the unit tests of those who use them.
#[cfg(test)]
pub mod test {
    use super::{Path, Settings, Share};

    /// The first share of the config `text`.
    pub fn share_of(text: &str) -> Share {
        Settings::parse(Path::new("c"), text).unwrap().shares.remove(0)
    }

    /// A share of `fs-1.example`, with these further `lines`.
    pub fn share(lines: &str) -> Share {
        share_of(&format!("[[share]]\nendpoint = \"fs-1.example\"\n{lines}\n"))
    }

    /// One of an EFS file system that is encrypted, with these further `lines`.
    pub fn encrypted_share(lines: &str) -> Share {
        share_of(&format!(
            "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
             encryption_in_transit = true\n{lines}"
        ))
    }
}

#[cfg(test)]
mod tests;
