//! Finds the settings that a session start would use. If there are none, it says what is wrong,
//! what helps, and the exit code, as values. The meaning of a key is the business of
//! [`crate::config`].

use super::error::CommandError;
use crate::config::file::{self, FileError};
use crate::config::{ConfigError, Settings};
use crate::report::Code;
use std::io;
use std::path::{Path, PathBuf};

/// What to write where there is no config.
const TWO_LINES: &str = "write two lines into /etc/efs-agent/config.toml: [[share]] and \
                         endpoint = \"<DNS name of the file system>\"";

/// What to do about a line of the config, where nothing better is known.
const CORRECT: &str = "correct that line; man efs-agent.toml tells what each key may be";

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No path was given, and there is no config file in the usual places.
    #[error("{0}; {TWO_LINES}")]
    NoFile(FileError),
    /// There is a file, or a path to one, that cannot be read as it must be.
    #[error("{0}")]
    File(FileError),
    /// The working directory, below which the path lies, is not known.
    #[error("--config cannot be used: {0}")]
    Path(io::Error),
    /// The text of the file is no config.
    #[error("{0}")]
    Text(ConfigError),
}

impl SettingsError {
    /// Whether there is no config at all, or one that cannot be used.
    pub fn is_refused(&self) -> bool {
        !matches!(self, Self::NoFile(_))
    }

    /// What is wrong, without the cure.
    pub fn sentence(&self) -> String {
        match self {
            Self::NoFile(e) | Self::File(e) => e.sentence(),
            Self::Text(e) => {
                own_cure(&e.to_string()).map_or_else(|| e.to_string(), |(what, _)| what)
            }
            Self::Path(_) => self.to_string(),
        }
    }

    /// What to do about it.
    pub fn cure(&self) -> String {
        match self {
            Self::NoFile(_) => TWO_LINES.to_owned(),
            Self::File(FileError::Untrusted { cure, .. }) => cure.clone(),
            Self::File(FileError::None(_) | FileError::Missing(_)) => {
                "write it, or give --config the path of one that is there".to_owned()
            }
            Self::File(FileError::Unusable { .. }) => {
                "put a text file in its place that is to be the config".to_owned()
            }
            Self::Path(_) => "give it the path of a config file".to_owned(),
            Self::Text(e) => {
                own_cure(&e.to_string()).map_or_else(|| CORRECT.to_owned(), |(_, cure)| cure)
            }
        }
    }

    /// The exit code of a command that cannot do without settings.
    pub fn code(&self) -> Code {
        match self {
            Self::File(FileError::Untrusted { .. }) => Code::PERMISSION,
            _ => Code::CONFIG,
        }
    }
}

impl From<SettingsError> for CommandError {
    fn from(error: SettingsError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Splits the text of a config error into what is wrong and the cure at its end, if it has one.
fn own_cure(text: &str) -> Option<(String, String)> {
    if let Some((what, word)) = text.rsplit_once("; did you mean ") {
        let word = word.strip_suffix('?')?.trim_matches('"');
        return Some((what.to_owned(), format!("write {word} there, if that is meant")));
    }
    let (what, how) = text.rsplit_once(": write ")?;
    Some((what.to_owned(), format!("write {how}")))
}

/// The config that a session start would use, `named` with `--config` or found in the usual places.
///
/// # Errors
/// Why it cannot be used, or that there is none.
pub fn find(root: &Path, named: Option<&Path>) -> Result<(PathBuf, Settings), SettingsError> {
    let named = named.map(std::path::absolute).transpose().map_err(SettingsError::Path)?;
    let exe = std::env::current_exe().ok();
    let (path, text) = file::read(root, named.as_deref(), exe.as_deref()).map_err(|e| match e {
        FileError::None(_) => SettingsError::NoFile(e),
        e => SettingsError::File(e),
    })?;
    let settings = Settings::parse(&path, &text).map_err(SettingsError::Text)?;
    Ok((path, settings))
}
