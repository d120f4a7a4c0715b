//! The result of a run: an outcome for each share, the last line of the log, and the exit code.
//! Nothing here decides about a mount.

pub mod record;

use crate::config::Share;
use crate::retry::seconds;
use crate::share::causes::{Cause, Class, MachineFacts, class_of, explain_with};
use crate::share::client::ClientIdentity;
use crate::share::{Failure, Mounted};
use nix::sys::signal::Signal;
use std::time::Duration;

/// An exit code, after sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// All required shares are mounted.
    pub const OK: Self = Self(0);
    /// `status`: a share is not mounted, or does not answer. `check`: a session start would not
    /// succeed.
    pub const NOT_UP: Self = Self(1);
    /// The command line is wrong.
    pub const USAGE: Self = Self(64);
    /// AppStream's config.json is not what it must be.
    pub const DATA: Self = Self(65);
    /// A share was refused for a reason that does not pass.
    pub const REFUSED: Self = Self(69);
    /// A fault of this program, or a mount that nobody would see.
    pub const FAULT: Self = Self(70);
    /// Somebody else's program or file is where this program's should be.
    pub const TAKEN: Self = Self(73);
    /// A file cannot be read or written.
    pub const IO: Self = Self(74);
    /// The deadline passed, and the reason was one that might have gone away in time.
    pub const DEADLINE: Self = Self(75);
    /// Not root, or a file that others can change.
    pub const PERMISSION: Self = Self(77);
    /// The config file is wrong or missing.
    pub const CONFIG: Self = Self(78);

    /// The exit code of a run that ends with a failure of this class.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Temporary => Self::DEADLINE,
            Class::Permanent => Self::REFUSED,
            Class::Fault => Self::FAULT,
        }
    }

    /// The exit code of a run that a signal ended: 128 plus its number, as in shells.
    pub fn signal(number: i32) -> Self {
        Self(128 + (number as u8 & 0x7f))
    }

    /// The one of the two codes that needs a person more.
    pub fn worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    /// How much it counts beside another share's code: a reason that needs a person counts more.
    fn weight(self) -> u8 {
        match self {
            Self::OK => 0,
            Self::DEADLINE => 1,
            Self::REFUSED => 2,
            _ => 3,
        }
    }
}

/// Why a share is not mounted, in values. [`MountError::cause`] makes the words.
#[derive(Debug, Clone, PartialEq)]
pub struct MountError {
    /// What its last attempt failed with.
    pub failure: Failure,
    /// What was found out about the machine then.
    pub facts: MachineFacts,
}

impl MountError {
    /// Why `share` is not mounted, and what helps; `stopped_by` is the signal that has ended the run.
    pub fn cause(&self, share: &Share, stopped_by: Option<Signal>) -> Cause {
        let facts = MachineFacts { stopped_by, ..self.facts.clone() };
        explain_with(&self.failure, share, &facts)
    }
}

/// How one share ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub share: Share,
    /// Mounted, or why not.
    pub result: Result<Mounted, MountError>,
    /// How many attempts it took; 0 if none was needed or possible.
    pub attempts: u32,
    /// How long it took, from the start of its first step.
    pub took: Duration,
}

impl Outcome {
    /// The exit code of a run that has only this share.
    fn code(&self) -> Code {
        match &self.result {
            Ok(_) => Code::OK,
            Err(error) => Code::of(class_of(&error.failure, &self.share)),
        }
    }

    /// The outcome for people, without the exit code.
    pub fn text(&self, stopped_by: Option<Signal>) -> OutcomeText {
        let Self { share, result, attempts, took } = self;
        let took = seconds_exact(*took);

        match result {
            Ok(mounted) => {
                let from = format!("from {}, NFS {}", mounted.from(), mounted.version);
                let line = match mounted.already {
                    true => format!("already mounted: {share}, {from}; nothing was done"),
                    false => format!("mounted {share} {from}, attempt {attempts}, in {took}"),
                };
                OutcomeText { line, cure: None }
            }
            Err(error) => {
                let Cause { sentence, cure, .. } = error.cause(share, stopped_by);
                let tries = match attempts {
                    0 => String::new(),
                    1 => format!("; after 1 attempt in {took}"),
                    n => format!("; after {n} attempts in {took}"),
                };

                let optional = if share.required { "" } else { "optional share " };
                let line = format!("cannot mount {optional}{share}: {sentence}{tries}");
                OutcomeText { line, cure: Some(cure) }
            }
        }
    }
}

/// The final words about one share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeText {
    /// How it ended, in one line.
    pub line: String,
    /// What an administrator can do, where something went wrong.
    pub cure: Option<String>,
}

/// A span with milliseconds, for figures; [`seconds`] is for prose.
fn seconds_exact(span: Duration) -> String {
    if span < Duration::from_secs(10) {
        format!("{:.3} s", span.as_secs_f64())
    } else {
        seconds(span)
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the config.
    pub outcomes: Vec<Outcome>,
    /// The signal that ended the run, if one did.
    pub stopped_by: Option<Signal>,
    /// Who this machine is to its servers.
    pub client: ClientIdentity,
}

impl Report {
    /// The exit code of the run: the one among its required shares that needs a person most. If
    /// that is [`Code::DEADLINE`] and a signal ended the run, it is the signal's code instead.
    pub fn code(&self) -> Code {
        let required = self.outcomes.iter().filter(|outcome| outcome.share.required);
        let worst = required.map(Outcome::code).fold(Code::OK, Code::worse);
        match self.stopped_by {
            Some(signal) if worst == Code::DEADLINE => Code::signal(signal as i32),
            _ => worst,
        }
    }

    /// How many shares are mounted.
    pub fn mounted(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.result.is_ok()).count()
    }

    /// The last line where there are several shares: how many are mounted, and which are not.
    pub fn summary(&self) -> String {
        let missing: Vec<String> = self
            .outcomes
            .iter()
            .filter(|outcome| outcome.result.is_err())
            .map(|outcome| {
                let optional = if outcome.share.required { "" } else { " (optional)" };
                format!("{}{optional}", outcome.share.mount_point.display())
            })
            .collect();

        let counts = format!("{} of {} shares mounted", self.mounted(), self.outcomes.len());
        if missing.is_empty() {
            counts
        } else {
            format!("{counts}; not there, for the reasons above: {}", missing.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::share;

    fn outcome(required: bool, failure: Option<Failure>) -> Outcome {
        let share = share(&format!("required = {required}"));
        let result = match failure {
            None => Ok(Mounted::fake(false)),
            Some(failure) => Err(MountError { failure, facts: MachineFacts::default() }),
        };
        Outcome { share, result, attempts: 2, took: Duration::from_millis(1234) }
    }

    fn code(outcomes: Vec<Outcome>, stopped_by: Option<Signal>) -> Code {
        Report { outcomes, stopped_by, client: ClientIdentity::NoClient }.code()
    }

    #[test]
    fn the_exit_code_is_of_the_required_share_that_needs_a_person_most() {
        let (up, late) = (outcome(true, None), outcome(true, Some(Failure::PointGone)));
        let refused = outcome(true, Some(Failure::Odd(1)));
        let optional = outcome(false, Some(Failure::Odd(1)));
        assert_eq!(code(vec![up.clone(), optional.clone()], None), Code::OK);
        assert_eq!(code(vec![late.clone(), up.clone(), optional], None), Code::DEADLINE);
        assert_eq!(code(vec![late.clone(), refused], None), Code::REFUSED);
        assert_eq!(code(vec![late], Some(Signal::SIGTERM)), Code(143));
        assert_eq!(code(vec![up], Some(Signal::SIGTERM)), Code::OK);
    }

    #[test]
    fn lines_name_share_address_version_attempts_and_time() {
        assert_eq!(
            outcome(true, None).text(None).line,
            "mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 2, in 1.234 s"
        );
        assert_eq!(
            outcome(false, Some(Failure::Odd(1))).text(None).line,
            "cannot mount optional share fs-1.example:/ on /mnt/efs_share: mount(2) returned 1 and \
             mounted nothing; after 2 attempts in 1.234 s"
        );
        let stopped = outcome(true, Some(Failure::Stopped(None))).text(Some(Signal::SIGTERM));
        assert!(
            stopped.line.contains(": stopped by SIGTERM before it was mounted; after 2 attempts")
        );
        let hint = "start it again; if AppStream stopped it, set `deadline` 2 s or more below its waitingTime";
        assert_eq!(stopped.cure.as_deref(), Some(hint));
        let outcomes = vec![outcome(true, None), outcome(true, Some(Failure::Odd(1)))];
        let report = Report { outcomes, stopped_by: None, client: ClientIdentity::NoClient };
        assert_eq!(
            report.summary(),
            "1 of 2 shares mounted; not there, for the reasons above: /mnt/efs_share"
        );
    }
}
