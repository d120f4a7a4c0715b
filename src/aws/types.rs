//! What the rooms of AWS hand to each other: credentials, and why there are none. At the bottom, so that
//! whoever gives them (a service, a program, a file) and whoever looks through all of these can name them
//! without knowing each other. Types and their words alone: nothing is asked or read here.

use super::http::HttpError;
use super::profile::Slip;
use super::secret::Secret;
use crate::files::{Fault, Obstacle};
use crate::retry::Stopped;
use nix::errno::Errno;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The profile that AppStream makes for the role of a fleet or an image builder.
pub const APPSTREAM_PROFILE: &str = "appstream_machine_role";

/// What a request is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the key: no secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// What comes with a key that is not for ever.
    pub session_token: Option<Secret>,
    /// When the key ceases to count, where that is known.
    pub expires: Option<SystemTime>,
    /// Where they were found, for people: "profile \"default\" of /root/.aws/credentials".
    pub source: String,
}

/// What a source said instead of giving credentials.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It could not be asked.
    #[error(transparent)]
    Http(HttpError),
    /// It answered with an error.
    #[error("it answered {status}{}", after_colon(.said))]
    Status {
        /// The HTTP status.
        status: u16,
        /// What it said to that.
        said: String,
    },
    /// The instance metadata service gave no token.
    #[error("the metadata service (169.254.169.254) answered {status}{}", after_colon(.said))]
    NoToken {
        /// The HTTP status.
        status: u16,
        /// What it said to that.
        said: String,
    },
    /// It said that it gives none.
    #[error("it refused: {0}")]
    Refused(String),
    /// The document is none.
    #[error("what it gave is no JSON object")]
    NotJson,
    /// The document lacks something.
    #[error("what it gave has no {0}")]
    Lacks(&'static str),
    /// The document's expiry cannot be read.
    #[error("what it gave has an Expiration that is no time")]
    BadTime,
    /// The instance has no role.
    #[error("this instance has no role")]
    NoRole,
    /// A file cannot be had.
    #[error("{} {obstacle}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is in the way.
        obstacle: Obstacle,
    },
    /// Others than root can change a file.
    #[error(
        "{} is not read, since others than root can change it: {} {}; run: {}",
        .path.display(), .fault.path.display(), .fault.why, .fault.mend()
    )]
    Changeable {
        /// Which one.
        path: PathBuf,
        /// What of its path, and how.
        fault: Fault,
    },
    /// A file of profiles is not text.
    #[error("{} is no UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A file of profiles cannot be understood.
    #[error("{}, {slip}", .path.display())]
    Slip {
        /// Which one.
        path: PathBuf,
        /// Where, and what is wrong there.
        slip: Slip,
    },
    /// There is no such profile.
    #[error("there is no such profile in {} or {}{hint}", .files.0.display(), .files.1.display())]
    NoProfile {
        /// The files that there could be.
        files: (PathBuf, PathBuf),
        /// What may be meant, or nothing.
        hint: String,
    },
    /// A profile has nothing that gives credentials.
    #[error(
        "it has neither aws_access_key_id with aws_secret_access_key, nor role_arn, nor \
         credential_process"
    )]
    NoKeys,
    /// A profile lacks what another of its keys needs.
    #[error("it has {0}, but no {1}")]
    Half(&'static str, &'static str),
    /// A profile asks for something that cannot be had here.
    #[error("it has {0}, which {1}")]
    Unsupported(&'static str, &'static str),
    /// Profiles that name each other.
    #[error("source_profile leads back to {0:?}")]
    Circle(String),
    /// Another profile, which this one needs, has a problem of its own.
    #[error("source profile {name:?}: {problem}")]
    Source {
        /// The other profile.
        name: String,
        /// Its problem.
        problem: Box<Problem>,
    },
    /// STS did not let the role be assumed.
    #[error("role {arn} cannot be assumed: {problem}")]
    Role {
        /// The role.
        arn: String,
        /// What STS, or the way to it, said.
        problem: Box<Problem>,
    },
    /// The program of `credential_process` gave none.
    #[error("credential_process {0}")]
    Process(#[from] ProcessError),
    /// A service was asked, and gave none.
    #[error("{problem}")]
    Asked {
        /// Which one.
        service: Service,
        /// What it, or the way to it, said.
        problem: Box<Problem>,
    },
    /// A variable of the environment cannot be used.
    #[error("{0} {1}")]
    BadVariable(&'static str, &'static str),
    /// What is to sign for others has expired itself.
    #[error(
        "the credentials from {by}, which are to sign for its role, expired at {}",
        humantime::format_rfc3339_seconds(*expired)
    )]
    Expired {
        /// Where they came from.
        by: String,
        /// When they expired.
        expired: SystemTime,
    },
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<HttpError> for Problem {
    fn from(e: HttpError) -> Self {
        match e {
            HttpError::Stopped(stopped) => stopped.into(),
            other => Self::Http(other),
        }
    }
}

impl Problem {
    /// The problem of `service`.
    pub(super) fn of(self, service: Service) -> Self {
        Self::Asked { service, problem: Box::new(self) }
    }

    /// The service whose trouble it is, however deep that was met, if it is one's.
    pub(super) fn trouble(&self) -> Option<(Service, Trouble)> {
        match self {
            Self::Asked { service, problem } => Some((*service, Trouble::of(problem)?)),
            Self::Source { problem, .. } | Self::Role { problem, .. } => problem.trouble(),
            _ => None,
        }
    }

    /// Whether the run was told to end, however deep that was met.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        match self {
            Self::Stopped(stopped) => Some(*stopped),
            Self::Source { problem, .. }
            | Self::Role { problem, .. }
            | Self::Asked { problem, .. } => problem.stopped(),
            _ => None,
        }
    }

    /// Whether a profile lacks something, or leads to one that is not there.
    pub(super) fn is_mistyped(&self) -> bool {
        match self {
            Self::NoProfile { .. }
            | Self::NoKeys
            | Self::Half(..)
            | Self::Unsupported(..)
            | Self::Circle(_) => true,
            Self::Source { name, problem } => name != APPSTREAM_PROFILE && problem.is_mistyped(),
            _ => false,
        }
    }
}

/// Why a program gave no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The line cannot be split into words.
    #[error("the command line has {0}")]
    BadLine(&'static str),
    /// No path from the root on.
    #[error("{0:?} is no absolute path: write it out in full")]
    NotAbsolute(String),
    /// The program cannot be had.
    #[error("{} cannot be run: {}", .0.display(), .1.desc())]
    Unrunnable(PathBuf, Errno),
    /// Others than root could change what root is to run.
    #[error("{} is not run: others than root can change it ({why})", .path.display())]
    Changeable {
        /// The program.
        path: PathBuf,
        /// What of its path, and how.
        why: String,
    },
    /// It took too long and was killed.
    #[error("{} was killed, as it had not ended within {}", .0.display(), humantime::format_duration(*.1))]
    Slow(PathBuf, Duration),
    /// It printed too much and was killed.
    #[error("{} was killed, as it printed over 64 KiB", .0.display())]
    Large(PathBuf),
    /// It ended otherwise than well.
    #[error("{} {how}{}", .path.display(), after_colon(.said))]
    Failed {
        /// The program.
        path: PathBuf,
        /// "ended with status 1".
        how: String,
        /// The last line of its standard error, as far as that is harmless.
        said: String,
    },
    /// It speaks another version of the format.
    #[error("{} printed no document of version 1", .0.display())]
    Version(PathBuf),
}

/// A service that gives credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The instance metadata service.
    Metadata,
    /// AWS's security token service.
    Sts,
    /// A container's endpoint.
    Container,
}

/// Why a service gave none. But for the last, it may pass by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no way to it, or it does not answer.
    Unreachable,
    /// It is asked too often.
    Throttled,
    /// It answers with a fault of its own.
    Failing,
    /// It is not believed to be itself.
    Tls,
    /// It does not give them to us.
    Denied,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Metadata, Self::Sts, Self::Container];

    /// For another process of ours.
    pub fn word(self) -> &'static str {
        match self {
            Self::Metadata => "metadata",
            Self::Sts => "sts",
            Self::Container => "container",
        }
    }

    /// Of its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.word() == word)
    }
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Unreachable, Self::Throttled, Self::Failing, Self::Tls, Self::Denied];

    /// For another process of ours.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Throttled => "throttled",
            Self::Failing => "failing",
            Self::Tls => "tls",
            Self::Denied => "denied",
        }
    }

    /// Of its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trouble| trouble.word() == word)
    }

    fn of(problem: &Problem) -> Option<Self> {
        const TOO_OFTEN: [&str; 4] =
            ["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown"];
        match problem {
            Problem::Http(HttpError::Tls { .. }) => Some(Self::Tls),
            Problem::Http(HttpError::Malformed { .. }) => Some(Self::Failing),
            Problem::Http(HttpError::BadName(_) | HttpError::Unsendable(_)) => None,
            Problem::Http(_) => Some(Self::Unreachable),
            Problem::Status { status, said } | Problem::NoToken { status, said } => {
                let too_often = TOO_OFTEN.iter().any(|word| said.contains(word));
                match status {
                    _ if too_often => Some(Self::Throttled),
                    429 => Some(Self::Throttled),
                    500.. => Some(Self::Failing),
                    400.. => Some(Self::Denied),
                    // A redirect, say.
                    _ => Some(Self::Failing),
                }
            }
            _ => None,
        }
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
