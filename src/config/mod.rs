//! The config file: the settings that are in it, and every default.
//!
//! [`Settings::parse`] turns text into settings that need no further check, on these floors. A file imports from lower
//! ones only.
//!
//! - `checked`: what one value says of another.
//! - `schema`: which keys there are.
//! - `syntax`, `deserializer`, `reader`: from text to values, with their places.
//! - `endpoint`, `option_text`: what people write for a server and for mount options.
//! - `pasted`, `slips`, `option_list`: what they write by mistake.
//! - `options`, `words`, `ids`, `names`, `paths`, `encryption`: what single values may be.
//!
//! A new key of a share goes into `schema` (its name and default), into `checked` (what it must agree with) and into
//! [`Share`]. A new word for the kernel goes into `options`.
//!
//! [`file`] finds and opens the file, and [`advice`] names what is possible but seldom meant. Nothing here touches the
//! network, or the disk except for the file itself.

pub mod advice;
mod checked;
mod deserializer;
pub mod encryption;
mod endpoint;
pub mod file;
mod ids;
mod lines;
mod names;
mod near;
mod option_list;
mod option_text;
pub mod options;
mod pasted;
mod paths;
mod reader;
mod schema;
mod slips;
mod syntax;
mod words;

pub use endpoint::Endpoint;
pub use names::is_whole;
pub use near::nearest;

use encryption::Encryption;
use options::MountOptions;
use reader::{Source, TomlNode};
use schema::FileTable;
use serde::Deserialize;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a whole run may take, from exec to exit. It is 5 s below AppStream's usual `waitingTime` of 30 s.
pub const DEADLINE: Duration = Duration::from_secs(25);
/// How long one mount(2) call may take. It is long enough for a lossy link, and short enough for a second attempt.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a whole run of `unmount` may take. It is 10 s below AppStream's usual `waitingTime` of 30 s.
pub const UNMOUNT_DEADLINE: Duration = Duration::from_secs(20);
/// Where a share is mounted unless the config says otherwise.
pub const MOUNT_POINT: &str = "/mnt/efs_share";
/// The mode of a mount point that efs-agent creates.
pub const MODE: u32 = 0o1777;

/// What a config file says, checked.
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
    /// Lines of this level and of those above it are written.
    #[serde(deserialize_with = "schema::level")]
    pub level: Level,
    /// Whether lines go to /dev/log too.
    pub syslog: bool,
    /// The facility of the lines there.
    #[serde(deserialize_with = "schema::facility")]
    pub facility: Facility,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: Level::Info, syslog: true, facility: Facility::Daemon }
    }
}

/// How much a line of the log matters.
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
    Daemon,
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
    /// The mode of the mount point, if it has to be created.
    pub mode: u32,
    /// The mode that the share's top folder is given after mounting.
    pub root_mode: Option<u32>,
    /// NFS options and mount flags, merged over the defaults.
    pub options: MountOptions,
    /// Further addresses of mount targets. They are tried after those that the name has.
    pub addresses: Vec<IpAddr>,
    /// Whether the run fails when this share does.
    pub required: bool,
    /// How it is encrypted on its way, if it is.
    pub encryption: Option<Encryption>,
}

impl Share {
    /// A share that is known only by the mount table: what is mounted where, and whether through a tunnel.
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
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl ConfigError {
    /// The error `what` at byte offset `place` of `text`, the contents of `file`. It is always one line.
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
    /// The first thing that is wrong, with its place. A key that is missing, and values that contradict each other, are
    /// reported only once every single value is right.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source::new(file, text, &schema::ADVICE);
        let document = source.document()?;
        let node = TomlNode::new(source, "", &document);
        node.read::<FileTable>()?.checked(node)
    }

    /// The settings for work that has to be done without a usable config.
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

/// Shares for the unit tests of other modules.
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

    /// An encrypted share of an EFS file system, with these further `lines`.
    pub fn encrypted_share(lines: &str) -> Share {
        share_of(&format!(
            "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
             encryption_in_transit = true\n{lines}"
        ))
    }
}

#[cfg(test)]
mod tests;
