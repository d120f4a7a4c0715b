//! What a run came to: an outcome for each share, the last line of the log,
//! and the exit code. Decides nothing about mounts.

pub mod record;

use crate::config::Share;
use crate::retry::seconds;
use crate::share::Mounted;
use crate::share::causes::{Cause, Class};
use crate::share::client::Identity;
use std::time::Duration;

/// An exit code, after sysexits.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(pub u8);

impl Code {
    /// All required shares are mounted.
    pub const OK: Self = Self(0);
    /// `status`: a share is not mounted, or does not answer.
    pub const NOT_UP: Self = Self(1);
    /// The command line is wrong.
    pub const USAGE: Self = Self(64);
    /// AppStream's config.json is not what it must be.
    pub const DATA: Self = Self(65);
    /// A share was refused for a reason that waiting does not mend.
    pub const REFUSED: Self = Self(69);
    /// A fault of ours, or a mount that nobody would see.
    pub const FAULT: Self = Self(70);
    /// Somebody else's program or file is where ours should be.
    pub const TAKEN: Self = Self(73);
    /// A file cannot be read or written.
    pub const IO: Self = Self(74);
    /// The deadline passed while the reason was one that might have passed.
    pub const DEADLINE: Self = Self(75);
    /// Not root, or a file that others can change.
    pub const PERMISSION: Self = Self(77);
    /// The config file is wrong or missing.
    pub const CONFIG: Self = Self(78);

    /// Of a run that ends for a cause of this class.
    pub fn of(class: Class) -> Self {
        match class {
            Class::Temporary => Self::DEADLINE,
            Class::Permanent => Self::REFUSED,
            Class::Fault => Self::FAULT,
        }
    }

    /// Ended by a signal: 128 and its number, as shells have it.
    pub fn signal(number: i32) -> Self {
        Self(128 + (number as u8 & 0x7f))
    }

    /// Of two, the one that needs a person most.
    pub fn worse(self, other: Self) -> Self {
        if other.weight() > self.weight() { other } else { self }
    }

    /// How much it weighs against another share's: a reason that needs a person comes first.
    fn weight(self) -> u8 {
        match self {
            Self::OK => 0,
            Self::DEADLINE => 1,
            Self::REFUSED => 2,
            _ => 3,
        }
    }
}

/// How one share ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The share.
    pub share: Share,
    /// Mounted, or why not.
    pub result: Result<Mounted, Cause>,
    /// How many attempts it took; 0 if none was needed or possible.
    pub attempts: u32,
    /// From the start of its first step.
    pub took: Duration,
}

impl Outcome {
    /// The outcome in one line, without the exit code.
    pub fn line(&self) -> String {
        let Self { share, result, attempts, took } = self;
        let took = seconds_exact(*took);
        match result {
            Ok(mounted @ Mounted { version, already, .. }) => {
                let from = mounted.from();
                match already {
                    true => format!(
                        "already mounted: {share}, from {from}, NFS {version}; nothing was done"
                    ),
                    false => format!(
                        "mounted {share} from {from}, NFS {version}, attempt {attempts}, in {took}"
                    ),
                }
            }
            Err(Cause { sentence, .. }) => {
                let tries = match attempts {
                    0 => String::new(),
                    1 => format!("; after 1 attempt in {took}"),
                    n => format!("; after {n} attempts in {took}"),
                };
                let optional = if share.required { "" } else { "optional share " };
                format!("cannot mount {optional}{share}: {sentence}{tries}")
            }
        }
    }

    /// The cure, where there is something to cure.
    pub fn cure(&self) -> Option<&str> {
        self.result.as_ref().err().map(|cause| cause.cure.as_str())
    }
}

/// A span with milliseconds, for figures; [`seconds`] is for prose.
fn seconds_exact(span: Duration) -> String {
    if span < Duration::from_secs(10) {
        format!("{:.3} s", span.as_secs_f64())
    } else {
        seconds(span)
    }
}

/// All shares of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// In the order of the config.
    pub outcomes: Vec<Outcome>,
    /// The number of the signal that ended the run, if one did.
    pub stopped_by: Option<i32>,
    /// Who this machine is to its servers.
    pub client: Identity,
}

impl Report {
    /// The exit code: that of the required share that needs a person most.
    pub fn code(&self) -> Code {
        let failed = self.outcomes.iter().filter(|outcome| outcome.share.required);
        let worst = failed
            .filter_map(|outcome| outcome.result.as_ref().err().map(|cause| Code::of(cause.class)))
            .max_by_key(|code| code.weight());
        match (worst, self.stopped_by) {
            (None, _) => Code::OK,
            (Some(Code::DEADLINE), Some(signal)) => Code::signal(signal),
            (Some(code), _) => code,
        }
    }

    /// How many shares are mounted.
    pub fn mounted(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.result.is_ok()).count()
    }

    /// The line under several shares: how many are there, and which are not.
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

    fn outcome(required: bool, class: Option<Class>) -> Outcome {
        let share = share(&format!("required = {required}"));
        let mounted = Mounted::fake(false);
        let cause =
            |class| Cause { class, sentence: "it is broken".into(), cure: "mend it".into() };
        let result = class.map_or(Ok(mounted), |class| Err(cause(class)));
        Outcome { share, result, attempts: 2, took: Duration::from_millis(1234) }
    }

    fn code(outcomes: Vec<Outcome>, stopped_by: Option<i32>) -> Code {
        Report { outcomes, stopped_by, client: Identity::NoClient }.code()
    }

    #[test]
    fn the_exit_code_is_of_the_required_share_that_needs_a_person_most() {
        let (up, late) = (outcome(true, None), outcome(true, Some(Class::Temporary)));
        let refused = outcome(true, Some(Class::Permanent));
        let optional = outcome(false, Some(Class::Permanent));
        assert_eq!(code(vec![up.clone(), optional.clone()], None), Code::OK);
        assert_eq!(code(vec![late.clone(), up.clone(), optional], None), Code::DEADLINE);
        assert_eq!(code(vec![late.clone(), refused], None), Code::REFUSED);
        assert_eq!(code(vec![late], Some(15)), Code(143));
        assert_eq!(code(vec![up], Some(15)), Code::OK);
    }

    #[test]
    fn lines_name_share_address_version_attempts_and_time() {
        assert_eq!(
            outcome(true, None).line(),
            "mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 2, in 1.234 s"
        );
        assert_eq!(
            outcome(false, Some(Class::Permanent)).line(),
            "cannot mount optional share fs-1.example:/ on /mnt/efs_share: it is broken; after 2 \
             attempts in 1.234 s"
        );
        let outcomes = vec![outcome(true, None), outcome(true, Some(Class::Permanent))];
        let report = Report { outcomes, stopped_by: None, client: Identity::NoClient };
        assert_eq!(
            report.summary(),
            "1 of 2 shares mounted; not there, for the reasons above: /mnt/efs_share"
        );
    }
}
