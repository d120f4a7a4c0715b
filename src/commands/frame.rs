//! The frame around the work of a command: signals, root's rights, the clock, the settings, and the
//! last line with the exit code. The work itself does not belong here.

use super::apply;
use super::error::CommandError;
use super::settings::{self, SettingsError};
use crate::config::Settings;
use crate::log::Log;
use crate::report::Code;
use crate::share::linux::Linux;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What every command works with.
pub struct Frame<'a> {
    /// `/`; tests of the steps below use a folder in its place.
    pub root: &'a Path,
    /// Counts from the start of the process.
    pub clock: SystemClock<'a>,
    /// The signals that end the command.
    pub stop: &'a Stop,
    /// When the process started.
    pub started: Instant,
}

impl<'a> Frame<'a> {
    /// Runs `work` while signals are collected. `without_root` is the complaint if the command
    /// needs root's rights and does not have them.
    ///
    /// # Errors
    /// The errors of `work`, or why it could not begin.
    pub fn run<T>(
        started: Instant,
        without_root: Option<&str>,
        work: impl FnOnce(&Frame<'_>) -> Result<T, CommandError>,
    ) -> Result<T, CommandError> {
        // This comes before anything is written, because it blocks SIGPIPE too. The descriptor
        // stays open until the process ends.
        let stop = ManuallyDrop::new(signals()?);
        if let Some(complaint) = without_root {
            need_root(complaint)?;
        }
        let clock = SystemClock::new(started, &stop);
        work(&Frame { root: Path::new("/"), clock, stop: &stop, started })
    }

    /// This machine, by the frame's clock and signals.
    pub fn machine(&self) -> Linux<'_, SystemClock<'a>> {
        Linux::new(self.root, &self.clock, self.stop)
    }

    /// The config that a session start would use. Its log settings are applied to `log`; `once` is
    /// for a person who tries a config.
    ///
    /// # Errors
    /// Why there is none.
    pub fn settings(
        &self,
        named: Option<&Path>,
        once: bool,
        log: &Log,
    ) -> Result<(PathBuf, Settings), SettingsError> {
        let (path, settings) = settings::find(self.root, named)?;
        apply(&settings.log, once, log);
        Ok((path, settings))
    }

    /// The end of a command that a signal has stopped, if one has.
    pub fn stopped(&self) -> Option<CommandError> {
        let signal = self.stop.signal()?;
        Some(CommandError::new(Code::signal(signal as i32), format!("stopped by {signal}")))
    }
}

/// Starts to collect the signals that end a command.
///
/// # Errors
/// The errno of the signal calls, as the end of a command.
pub fn signals() -> Result<Stop, CommandError> {
    Stop::install().map_err(|e| CommandError::new(Code::FAULT, format!("cannot set signals: {e}")))
}

/// # Errors
/// `complaint`, if this process does not run as root.
pub fn need_root(complaint: &str) -> Result<(), CommandError> {
    match sys::is_root() {
        true => Ok(()),
        false => Err(CommandError::new(Code::PERMISSION, complaint)),
    }
}

/// The exit code of a command. If the command could not do its work, the reason becomes the last
/// line of `log`.
pub fn concluded(result: Result<Code, CommandError>, log: &Log) -> Code {
    result.unwrap_or_else(|CommandError { code, text }| {
        log.error(format_args!("{text} (exit {})", code.0));
        code
    })
}
