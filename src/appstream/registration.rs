//! Registers this program in the text of AppStream's config.json. That text and what is wanted go in. Edits of the text
//! and notes about them come out, or an error. What belongs to others keeps its bytes. No file is touched here.
//! [`locate`] finds what is there, [`plan`] decides what is to change, and [`words`] says it.
//!
//! Keys are found in any letter case, as AppStream's own pages mix them. What is `null` counts as absent, as some
//! programs write that for an empty list or text.

mod locate;
mod plan;
#[cfg(test)]
mod tests;
mod words;

use super::edit::Edit;
use crate::config::ConfigError;
use crate::json::{Document, SyntaxError};
use locate::Locator;
use plan::plan;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Result<T, E = RegistrationError> = std::result::Result<T, E>;

/// Where AppStream reads its config.
pub const CONFIG_JSON: &str = "/opt/appstream/SessionScripts/config.json";
/// The longest file name and the longest arguments that AppStream takes, in characters.
pub const LONGEST: usize = 1000;
/// The name of the script beside config.json that starts this program.
pub const SHIM: &str = "efs-agent.sh";
/// The program's name, wherever it is installed.
const PROGRAM: &str = "efs-agent";

/// The most that AppStream waits for an event's executables, in seconds.
const LONGEST_WAIT: u64 = 60;
/// A run must end this long before AppStream stops waiting for it, so that its last lines get out.
const SPARE: Duration = Duration::from_secs(2);

/// The events of a session at which AppStream runs executables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Before the user sees the desktop.
    Start,
    /// After the user has left.
    Termination,
}

impl Event {
    const ALL: [Self; 2] = [Self::Start, Self::Termination];

    fn name(self) -> &'static str {
        match self {
            Self::Start => "SessionStart",
            Self::Termination => "SessionTermination",
        }
    }
}

/// A program that AppStream is to run as root at an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub filename: String,
    /// Blanks between them; may be empty.
    pub arguments: String,
    pub limit: Limit,
}

/// How long a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The key in our own config that sets it.
    pub key: &'static str,
    pub span: Duration,
}

impl Limit {
    /// The least time for which AppStream must wait.
    fn least_wait(self) -> Duration {
        self.span.saturating_add(SPARE)
    }
}

/// What config.json is to hold for this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The running executable's path: entries that name it are ours, whatever its name.
    pub own: Option<String>,
    /// What runs at SessionStart; `None` takes this program out.
    pub start: Option<Call>,
    /// What runs at SessionTermination; `None` takes this program out.
    pub termination: Option<Call>,
    /// Whether a system-context entry of another program makes way.
    pub replace: bool,
}

impl Registration {
    fn call(&self, event: Event) -> Option<&Call> {
        match event {
            Event::Start => self.start.as_ref(),
            Event::Termination => self.termination.as_ref(),
        }
    }

    fn is_ours(&self, filename: &str) -> bool {
        let name = filename.rsplit('/').next().unwrap_or("");
        name == PROGRAM || name == SHIM || self.own.as_deref() == Some(filename)
    }
}

/// How a config.json becomes what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub text: String,
    /// How it differs; empty if it does not.
    pub edits: Vec<Edit>,
    /// What to say, once it is done; there may be warnings although nothing changes.
    pub notes: Vec<Note>,
    /// Whether AppStream would kill a session start before its deadline, as the file is.
    pub cut_off: bool,
}

impl Change {
    /// Whether the file runs something else at SessionStart than what is wanted.
    pub fn start_differs(&self) -> bool {
        self.notes.iter().any(|note| matches!(note, Note::Registered { event: Event::Start, .. }))
    }
}

/// What there is to say about a change. `Display` gives the sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// An entry is ours now. `instead` is what was in its place.
    Registered {
        event: Event,
        program: String,
        file: PathBuf,
        instead: Option<String>,
    },
    /// An entry is no longer ours.
    Unregistered {
        event: Event,
        program: String,
        file: PathBuf,
    },
    /// A key of an entry that is ours already was completed. The value is JSON.
    KeySet {
        event: Event,
        key: &'static str,
        value: String,
        before: Before,
    },
    WaitingTimeSet {
        event: Event,
        seconds: u64,
        limit: Limit,
    },
    /// The time was too short for the limit. `from` is as the file has it, `to` in seconds.
    WaitingTimeRaised {
        event: Event,
        from: String,
        to: u64,
        limit: Limit,
    },
    /// A warning: the time is longer than AppStream takes.
    WaitingTimeTooLong {
        event: Event,
        value: String,
    },
    /// A warning: the output of our run goes nowhere, as s3LogEnabled has this value.
    NotLogged {
        event: Event,
        value: String,
    },
    /// A warning: a user-context entry names us, which cannot work.
    UserContext {
        event: Event,
    },
}

/// What stood at a key before it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Null,
    Nothing,
}

/// Programs of other owners where ours should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ForeignPrograms {
    pub start: Option<ForeignProgram>,
    pub termination: Option<ForeignProgram>,
    /// The program that is to be there; none where its path is not known.
    own: Option<String>,
    /// Whether AppStream would kill what runs at SessionStart before the deadline.
    pub cut_off: bool,
}

/// A program of another owner that AppStream runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignProgram {
    /// Its path, as the file has it.
    pub filename: String,
    /// Where that stands, and what it is.
    pub what: String,
    /// Why the filename is not this program's path, if it is meant to be.
    pub slip: Option<FilenameSlip>,
}

/// A filename that is meant to be a path, and is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilenameSlip {
    BlankAtEnd,
    BlankAtBeginning,
    Arguments,
}

impl FilenameSlip {
    /// Whether `filename` would be a path that `is_meant`, if it were not for a slip.
    pub fn find(filename: &str, is_meant: impl Fn(&str) -> bool) -> Option<Self> {
        let bare = filename.trim();
        if bare != filename && is_meant(bare) {
            return Some(match filename.starts_with(bare) {
                true => Self::BlankAtEnd,
                false => Self::BlankAtBeginning,
            });
        }

        let program = bare.split_whitespace().next()?;
        (program != bare && is_meant(program)).then_some(Self::Arguments)
    }
}

/// Why a config.json is left as it is. `Display` says what is wrong; [`sentence`](Self::sentence) says all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationError {
    /// It is not what AppStream's documentation describes, or not JSON at all.
    #[error("{0}")]
    Malformed(ConfigError),
    /// Another program is registered.
    #[error("{0}")]
    Foreign(Box<ForeignPrograms>),
    /// A limit in our own config does not fit into any waitingTime.
    #[error("{}", words::never_fits(*event, *limit))]
    NeverFits { event: Event, limit: Limit },
    /// An edit went wrong: a fault of this program.
    #[error("efs-agent has a fault: its edit of {0}")]
    Fault(String),
}

/// A config.json in which nothing is registered, as AppStream's documentation shows it.
pub fn empty() -> String {
    let event = r#"{
    "executables": [
      {
        "context": "system",
        "filename": "",
        "arguments": "",
        "s3LogEnabled": true
      },
      {
        "context": "user",
        "filename": "",
        "arguments": "",
        "s3LogEnabled": true
      }
    ],
    "waitingTime": 30
  }"#;
    let [start, termination] = Event::ALL.map(Event::name);
    format!("{{\n  \"{start}\": {event},\n  \"{termination}\": {event}\n}}\n")
}

/// The filename and the arguments that `text`, the contents of `file`, has for SessionStart, if that program is ours.
pub fn ours_at_start(file: &Path, text: &str, wanted: &Registration) -> Option<(String, String)> {
    let document = Document::parse(text).ok()?;
    let locator = Locator { file, document: &document };
    let event = locator.event(Event::Start).ok()?;
    let entry = event.entries.iter().find(|entry| entry.is("system"))?;
    let filename = locator.text_of(entry, "filename").ok()?.text;
    let arguments = locator.text_of(entry, "arguments").ok()?.text;

    wanted.is_ours(filename).then(|| (filename.to_owned(), arguments.to_owned()))
}

/// The contents of `file` as text.
///
/// # Errors
/// The place at which it is not UTF-8.
pub fn text<'b>(file: &Path, bytes: &'b [u8]) -> Result<&'b str> {
    std::str::from_utf8(bytes).map_err(|e| {
        let good = bytes.get(..e.valid_up_to()).unwrap_or_default();
        let good = std::str::from_utf8(good).unwrap_or("");
        let what = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "UTF-16: save the file as UTF-8",
            _ => "not UTF-8: save the file as UTF-8",
        };
        RegistrationError::Malformed(ConfigError::at(file, good, good.len(), what))
    })
}

/// Works out how `text`, the contents of `file`, becomes what is `wanted`.
///
/// # Errors
/// Why it is not done.
pub fn change(file: &Path, text: &str, wanted: &Registration) -> Result<Change> {
    let change = plan_text(file, text, wanted)?;
    // The result is planned once more, as a check: it must be JSON, and need no further edit.
    match plan_text(file, &change.text, wanted) {
        Ok(again) if again.edits.is_empty() => Ok(change),
        Ok(_) => {
            Err(RegistrationError::Fault(format!("{} would not be all of it", file.display())))
        }
        Err(e) => Err(RegistrationError::Fault(format!(
            "{} would not be read: {}",
            file.display(),
            e.sentence()
        ))),
    }
}

fn plan_text(file: &Path, text: &str, wanted: &Registration) -> Result<Change> {
    let document = Document::parse(text).map_err(|SyntaxError { place, what }| {
        RegistrationError::Malformed(ConfigError::at(file, text, place, &what))
    })?;
    plan(&Locator { file, document: &document }, wanted)
}
