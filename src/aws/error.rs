//! Why AWS, or a source of its credentials, did not give what it was asked for. This file is at the bottom of the room,
//! so that all others can name these errors. What can be done about an error is said in `remedy`.

use super::http::{HttpError, HttpResponse};
use super::profile::LineError;
use super::secret::harmless_without;
use super::service::{Service, Trouble};
use crate::files::{Fault, PathError};
use crate::retry::Stopped;
use nix::errno::Errno;
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Where credentials are looked for, in words by its `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialSource {
    /// AWS's environment variables.
    Environment,
    /// Root's two files of profiles, whatever the profile.
    ProfileFiles,
    /// A profile in these, by name.
    Profile(String),
    /// A container's endpoint, and its host and port once these are known.
    Container(Option<String>),
    /// A token in a file, both named by environment variables.
    WebIdentity,
    /// The role of this instance, by its metadata service.
    InstanceRole,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::ProfileFiles => f.write_str("root's files of profiles"),
            Self::Profile(name) => write!(f, "profile {name:?}"),
            Self::Container(None) => f.write_str("the container's endpoint"),
            Self::Container(Some(host)) => write!(f, "the container's endpoint {host}"),
            Self::WebIdentity => f.write_str("the web identity"),
            Self::InstanceRole => f.write_str("the instance's role (IMDSv2)"),
        }
    }
}

/// What a service answered instead of what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorAnswer {
    pub status: u16,
    /// AWS's code for the error, or nothing.
    pub code: String,
    /// The text beside the code, or all that the service said. Secrets are removed from it.
    pub message: String,
}

impl fmt::Display for ErrorAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {}", self.status)?;
        for part in [&self.code, &self.message].into_iter().filter(|part| !part.is_empty()) {
            write!(f, ": {part}")?;
        }
        Ok(())
    }
}

/// Why a service or a source of credentials did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// The service could not be asked.
    #[error(transparent)]
    Http(HttpError),
    /// The service answered with an error.
    #[error("it {0}")]
    Status(ErrorAnswer),
    /// The instance metadata service gave no token.
    #[error("the metadata service (169.254.169.254) {0}")]
    NoToken(ErrorAnswer),
    /// A document says why there are no credentials in it.
    #[error("it refused: {code} {message}")]
    Refused {
        /// AWS's code for that.
        code: String,
        /// The text beside the code.
        message: String,
    },
    /// The document is no JSON object.
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
    /// A file cannot be read.
    #[error("{} {obstacle}", .path.display())]
    File {
        path: PathBuf,
        /// What is in the way.
        obstacle: PathError,
    },
    /// Users other than root can change a file.
    #[error(
        "{} is not read, since others than root can change it: {} {}",
        .path.display(), .fault.path.display(), .fault.why
    )]
    Changeable {
        path: PathBuf,
        /// Which part of its path they can change, how, and the command against that.
        fault: Fault,
    },
    /// A file is not text.
    #[error("{} is no UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A line in a file of profiles cannot be understood.
    #[error("{}, {error}", .path.display())]
    Line {
        path: PathBuf,
        /// The line, and what is wrong there.
        error: LineError,
    },
    /// A key is plainly not one that AWS has made.
    #[error("{}, line {line}: {key} {what}", .path.display())]
    BadKey {
        /// The file that has it.
        path: PathBuf,
        line: usize,
        key: &'static str,
        what: &'static str,
    },
    /// The keys of a profile have expired, as the profile itself says.
    #[error(
        "its keys expired at {} (it is {} now), as {key} in {} says",
        humantime::format_rfc3339_seconds(*expired),
        humantime::format_rfc3339_seconds(*now),
        .path.display()
    )]
    OldKeys {
        /// The file that says so.
        path: PathBuf,
        /// The key that says so.
        key: &'static str,
        expired: SystemTime,
        now: SystemTime,
    },
    /// There is no such profile.
    #[error("there is no such profile in {} or {}{hint}", .files.0.display(), .files.1.display())]
    NoProfile {
        /// The files in which it could be.
        files: (PathBuf, PathBuf),
        /// What may be meant, or nothing.
        hint: String,
        /// What helps if that is meant.
        cure: Option<String>,
    },
    /// A profile has nothing that gives credentials.
    #[error(
        "it has neither aws_access_key_id with aws_secret_access_key, nor role_arn, nor \
         credential_process"
    )]
    NoKeys,
    /// A variable is set, but not another one that it needs.
    #[error("it has {0}, but no {1}")]
    MissingVariable(&'static str, &'static str),
    /// A profile has a key, but not another one that it needs.
    #[error("it has {0}, but no {1}")]
    MissingKey(&'static str, &'static str),
    /// The `credential_source` that a profile names needs variables that are not set.
    #[error("it has credential_source = {0}, but no {1} in an environment that counts")]
    MissingSource(&'static str, &'static str),
    /// `credential_source` names none.
    #[error(
        "it has credential_source, which is neither Ec2InstanceMetadata, nor EcsContainer, nor \
         Environment"
    )]
    UnknownSource,
    /// A profile asks for something that does not work here.
    #[error("it has {0}, which {1}")]
    Unsupported(&'static str, &'static str),
    /// Profiles name each other.
    #[error("source_profile leads back to {0:?}")]
    Circle(String),
    /// Another profile, which this one needs, gives no credentials.
    #[error("source profile {name:?}: {error}")]
    Source { name: String, error: Box<AwsError> },
    /// STS did not let the role be assumed.
    #[error("role {arn} cannot be assumed: {error}{}", self.signer())]
    Role {
        arn: String,
        /// Whose keys have signed for that, and their access key. A web identity signs with none.
        by: Option<String>,
        /// Whether these keys are renewed without a person.
        renewed: bool,
        /// What STS, or the way to it, said.
        error: Box<AwsError>,
    },
    /// The program of `credential_process` gave no credentials.
    #[error("credential_process {0}")]
    Process(#[from] ProcessError),
    /// That program printed something else than credentials.
    #[error("credential_process {}: {error}", .path.display())]
    Printed { path: PathBuf, error: Box<AwsError> },
    /// A service was asked, and failed. This adds its name to the error.
    #[error("{error}")]
    Asked {
        service: Service,
        /// What it, or the way to it, said.
        error: Box<AwsError>,
    },
    /// A variable of the environment cannot be used.
    #[error("{0} {1}")]
    BadVariable(&'static str, &'static str),
    /// The credentials that are to sign for a role have expired.
    #[error(
        "the credentials from {by}, which are to sign for its role, expired at {}",
        humantime::format_rfc3339_seconds(*expired)
    )]
    Expired {
        /// Where they came from.
        by: String,
        expired: SystemTime,
    },
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl From<HttpError> for AwsError {
    fn from(e: HttpError) -> Self {
        match e {
            HttpError::Stopped(stopped) => stopped.into(),
            other => Self::Http(other),
        }
    }
}

impl AwsError {
    /// The error of `service`.
    pub(super) fn of(self, service: Service) -> Self {
        Self::Asked { service, error: Box::new(self) }
    }

    /// The error that this one wraps: that of another profile, or of the service that was asked.
    fn inner(&self) -> Option<&Self> {
        match self {
            Self::Source { error, .. } | Self::Role { error, .. } | Self::Asked { error, .. } => {
                Some(error)
            }
            _ => None,
        }
    }

    /// The service that has failed, and in which way, however deep in this error that is.
    pub(super) fn trouble(&self) -> Option<(Service, Trouble)> {
        match self {
            Self::Asked { service, error } => Some((*service, error.trouble_of(*service)?)),
            Self::Role { error, renewed: true, .. } => match error.trouble()? {
                (service, Trouble::Expired) => Some((service, Trouble::Stale)),
                other => Some(other),
            },
            _ => self.inner()?.trouble(),
        }
    }

    /// Whether a signal ended the run, however deep in this error that is.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        match self {
            Self::Stopped(stopped) => Some(*stopped),
            _ => self.inner()?.stopped(),
        }
    }

    /// What part of a file's path others than root can change, however deep in this error that is.
    pub(super) fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Changeable { fault, .. } => Some(fault),
            _ => self.inner()?.fault(),
        }
    }

    /// Says whose keys have signed, if the keys are the reason.
    fn signer(&self) -> String {
        use Trouble as T;
        match (self, self.trouble()) {
            (
                Self::Role { by: Some(by), .. },
                Some((_, T::Keys | T::Secret | T::Expired | T::Stale)),
            ) => format!(" (signed by {by})"),
            _ => String::new(),
        }
    }

    /// In which way `service` has failed with this error.
    pub(super) fn trouble_of(&self, service: Service) -> Option<Trouble> {
        match self {
            Self::Http(HttpError::Tls { .. }) => Some(Trouble::Tls),
            Self::Http(HttpError::Malformed { .. }) => Some(Trouble::Failing),
            Self::Http(HttpError::BadName(_) | HttpError::Unsendable(_)) => None,
            Self::Http(_) => Some(Trouble::Unreachable),
            // What EC2 says instead of the credentials, with status 200.
            Self::Refused { code, .. } if code == "AssumeRoleUnauthorizedAccess" => {
                Some(Trouble::Untrusted)
            }
            Self::Refused { .. } | Self::NotJson | Self::Lacks(_) | Self::BadTime => {
                Some(Trouble::Failing)
            }
            Self::Status(answer) | Self::NoToken(answer) => Some(answer.trouble_of(service)),
            _ => None,
        }
    }
}

impl ErrorAnswer {
    /// The error answer of a service that knows no codes, without the secrets in `sent`.
    pub(super) fn without_code(response: &HttpResponse, sent: &[&str]) -> Self {
        let message = response.text().map(|text| harmless_without(text, sent)).unwrap_or_default();
        Self { status: response.status, code: String::new(), message }
    }

    fn trouble_of(&self, service: Service) -> Trouble {
        const TOO_OFTEN: [&str; 4] =
            ["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown"];
        let says = |word: &&str| self.code.contains(word) || self.message.contains(word);

        match self.status {
            _ if TOO_OFTEN.iter().any(says) => Trouble::Throttled,
            429 => Trouble::Throttled,
            500.. => Trouble::Failing,
            400.. => match service {
                Service::Metadata | Service::Container => Trouble::Denied,
                Service::Sts | Service::WebIdentity | Service::Efs => {
                    Trouble::of_code(&self.code, &self.message)
                }
            },
            // A redirect, for example.
            _ => Trouble::Failing,
        }
    }
}

/// Why a program gave no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The line cannot be split into words.
    #[error("the command line has {0}")]
    BadLine(&'static str),
    /// The program has a slash in its name, but is no path from the root on.
    #[error("{0:?} is no absolute path: write it out in full")]
    NotAbsolute(String),
    /// The program has no slash in its name, and is in no folder where programs are looked for.
    #[error("{name:?} is in none of {folders}")]
    NotFound {
        name: String,
        /// The folders, with colons between them.
        folders: &'static str,
    },
    /// The program cannot be started.
    #[error("{} cannot be run: {}", .0.display(), why(*.1))]
    Unrunnable(PathBuf, Errno),
    /// The interpreter that its first line names is not there.
    #[error("{} cannot be run: what its #! line names is not there", .0.display())]
    NoInterpreter(PathBuf),
    /// Users other than root could change what root is to run.
    #[error("{} is not run: others than root can change it ({why})", .path.display())]
    Changeable {
        path: PathBuf,
        /// Which part of its path they could change, and how.
        why: String,
        /// The command against that.
        cure: String,
    },
    /// It took too long and was killed.
    #[error("{} was killed, as it had not ended within {}", .0.display(), humantime::format_duration(*.1))]
    Slow(PathBuf, Duration),
    /// It printed too much and was killed.
    #[error("{} was killed, as it printed over 64 KiB", .0.display())]
    Large(PathBuf),
    /// It ended without success.
    #[error("{} {how}{}", .path.display(), after_colon(.said))]
    Failed {
        path: PathBuf,
        /// Its exit status, if it has one.
        status: Option<i32>,
        /// "ended with status 1".
        how: String,
        /// The last line of its standard error, without secrets.
        said: String,
    },
    /// It speaks another version of the format.
    #[error("{} printed no document of version 1", .0.display())]
    Version(PathBuf),
}

fn why(errno: Errno) -> &'static str {
    match errno {
        Errno::ENOEXEC => "it has no #! line at its top, and is no program for this machine",
        other => other.desc(),
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
