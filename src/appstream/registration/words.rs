//! What is said about config.json: every sentence that a change or an error of the registration needs. Decides nothing.

use super::{
    Before, Event, FilenameSlip, ForeignPrograms, LONGEST_WAIT, Limit, Note, PROGRAM,
    RegistrationError, SPARE,
};
use crate::config::Level;
use std::fmt;

impl Note {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::WaitingTimeTooLong { .. } | Self::NotLogged { .. } | Self::UserContext { .. } => {
                Level::Warning
            }
            _ => Level::Info,
        }
    }

    /// Whether it is about how long AppStream waits.
    pub fn is_about_time(&self) -> bool {
        matches!(
            self,
            Self::WaitingTimeSet { .. }
                | Self::WaitingTimeRaised { .. }
                | Self::WaitingTimeTooLong { .. }
        )
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Registered { event, program, file, instead } => {
                let (event, file) = (event.name(), file.display());
                write!(
                    f,
                    "registered {program} as the system-context {event} executable in {file}"
                )?;
                instead.iter().try_for_each(|old| write!(f, ", in place of {old}"))
            }
            Self::Unregistered { event, program, file } => write!(
                f,
                "unregistered {program}: it is no longer the system-context {} executable in {}",
                event.name(),
                file.display()
            ),
            Self::KeySet { event, key, value, before } => {
                let was = match before {
                    Before::Null => "it was null",
                    Before::Nothing => "there was none",
                };
                let event = event.name();
                write!(f, "{key} of the system-context {event} entry set to {value}, {was}")
            }
            Self::WaitingTimeSet { event, seconds, limit } => write!(
                f,
                "waitingTime of {} set to {seconds}: there was none, and {limit} must end 2 s before it",
                event.name()
            ),
            Self::WaitingTimeRaised { event, from, to, limit } => write!(
                f,
                "waitingTime of {} raised from {from} to {to}: {limit} must end 2 s before it",
                event.name()
            ),
            Self::WaitingTimeTooLong { event, value } => write!(
                f,
                "waitingTime of {} is {value}, but AppStream takes at most {LONGEST_WAIT}",
                event.name()
            ),
            Self::NotLogged { event, value } => write!(
                f,
                "s3LogEnabled of the system-context {} entry is {value}: what efs-agent says will \
                 not be in the S3 session log unless it is true",
                event.name()
            ),
            Self::UserContext { event } => write!(
                f,
                "the user-context {} entry names efs-agent, which must run as root: empty it",
                event.name()
            ),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, humantime::format_duration(self.span))
    }
}

impl fmt::Display for FilenameSlip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BlankAtEnd => "its filename has a blank at its end",
            Self::BlankAtBeginning => "its filename has a blank at its beginning",
            Self::Arguments => "arguments belong into `arguments`",
        })
    }
}

impl RegistrationError {
    /// The whole sentence: what is wrong, what became of the file, and the way out.
    pub fn sentence(&self) -> String {
        match self {
            Self::NeverFits { .. } => self.to_string(),
            Self::Foreign(programs) => {
                format!("{self}; nothing was changed ({})", programs.ways_out())
            }
            Self::Malformed(_) | Self::Fault(_) => format!("{self}; nothing was changed"),
        }
    }
}

impl fmt::Display for ForeignPrograms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs = [&self.start, &self.termination].into_iter().flatten();
        let texts: Vec<&str> = programs.map(|program| program.what.as_str()).collect();
        f.write_str(&texts.join("; "))
    }
}

impl ForeignPrograms {
    fn ways_out(&self) -> String {
        let own = self.own.as_deref().unwrap_or(PROGRAM);
        let start = match &self.start {
            Some(program) if program.slip.is_none() => {
                format!(", or have that script start {own}")
            }
            _ => String::new(),
        };
        let termination = match self.termination {
            Some(_) => ", --no-termination leaves SessionTermination alone",
            None => "",
        };

        format!("--replace puts efs-agent in its place{start}{termination}")
    }
}

pub fn never_fits(event: Event, limit: Limit) -> String {
    let (event, key) = (event.name(), limit.key);
    let most = LONGEST_WAIT - SPARE.as_secs();
    format!(
        "{limit} can never fit: AppStream waits for {event} at most {LONGEST_WAIT} s \
         (waitingTime), and the run must end 2 s before that; make {key} {most}s or less \
         in the config of efs-agent"
    )
}

/// A program and its arguments as a person writes them.
pub fn command_line(filename: &str, arguments: &str) -> String {
    if arguments.is_empty() { filename.to_owned() } else { format!("{filename} {arguments}") }
}

/// JSON text without its line breaks and indentation.
pub fn on_one_line(json: &str) -> String {
    json.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
