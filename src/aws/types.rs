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

/// Where programs of `credential_process` are looked for, and look for others.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

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
    /// A file is not text.
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
    /// A key cannot be one of AWS's, as anybody can see who may see it.
    #[error("{}, line {line}: {key} {what}", .path.display())]
    BadKey {
        /// The file that has it.
        path: PathBuf,
        /// The line there.
        line: usize,
        /// What it is called.
        key: &'static str,
        /// What is wrong with it.
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
        /// When they expired.
        expired: SystemTime,
        /// This machine's time.
        now: SystemTime,
    },
    /// There is no such profile.
    #[error("there is no such profile in {} or {}{hint}", .files.0.display(), .files.1.display())]
    NoProfile {
        /// The files that there could be.
        files: (PathBuf, PathBuf),
        /// What may be meant, or nothing.
        hint: String,
        /// What helps if that is meant.
        mend: Option<String>,
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
    #[error("role {arn} cannot be assumed: {problem}{}", self.signer())]
    Role {
        /// The role.
        arn: String,
        /// Whose keys have signed for that, and the name of the key; nobody's by a web identity.
        by: Option<String>,
        /// Whether whoever gives those keys renews them without a person.
        renewed: bool,
        /// What STS, or the way to it, said.
        problem: Box<Problem>,
    },
    /// The program of `credential_process` gave none.
    #[error("credential_process {0}")]
    Process(#[from] ProcessError),
    /// What that program printed is none.
    #[error("credential_process {}: {problem}", .path.display())]
    Printed {
        /// The program.
        path: PathBuf,
        /// What is wrong with what it printed.
        problem: Box<Problem>,
    },
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
            Self::Asked { service, problem } => Some((*service, Trouble::of(*service, problem)?)),
            Self::Role { problem, renewed: true, .. } => match problem.trouble()? {
                (service, Trouble::Expired) => Some((service, Trouble::Stale)),
                other => Some(other),
            },
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

    /// What of a file's path others than root can change, however deep that was met.
    pub(super) fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Changeable { fault, .. } => Some(fault),
            Self::Source { problem, .. } | Self::Role { problem, .. } => problem.fault(),
            _ => None,
        }
    }

    /// Where the keys are to blame: whose they are.
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

    /// What helps against it, if it is a matter of `place` (a profile, in words) and not of a service.
    pub(super) fn remedy(&self, place: &str) -> Option<Remedy> {
        let of_a_person = |mend: String| Some(Remedy { lasts: true, mend });
        let passes = |mend: String| Some(Remedy { lasts: false, mend });
        let is_of_appstream = place == place_of(APPSTREAM_PROFILE);
        match self {
            Self::Slip { path, slip } => of_a_person(slip.mend(path)),
            Self::BadKey { path, line, .. } => of_a_person(format!(
                "correct line {line} of {}: the key alone, as AWS has shown it",
                path.display()
            )),
            Self::NotText(path) => {
                of_a_person(format!("save {} as UTF-8 text, not as UTF-16", path.display()))
            }
            Self::File { path, obstacle } => {
                let file = path.display();
                let mend = match obstacle {
                    Obstacle::NoFolder(_) | Obstacle::Unopenable(Errno::ENOENT) => {
                        format!("see why {file} is not there, or correct where it is named")
                    }
                    _ => format!(
                        "put a file that root can read in the place of {file}, no symlink, and in folders \
                         that are none"
                    ),
                };
                Some(Remedy { lasts: obstacle_lasts(obstacle), mend })
            }
            Self::OldKeys { path, .. } => {
                let file = path.display();
                let clock =
                    "if the clock here is wrong, have it set (chronyc makestep; timedatectl)";
                match is_of_appstream {
                    true => passes(format!("{clock}; else {AGENT}")),
                    false => of_a_person(format!(
                        "{clock}; else put new keys for {place} into {file}, or take a profile whose \
                         keys are renewed without a person"
                    )),
                }
            }
            // AppStream may write it yet.
            Self::NoProfile { .. } if is_of_appstream => None,
            Self::NoProfile { mend: Some(mend), .. } => of_a_person(mend.clone()),
            Self::NoProfile { mend: None, .. } => {
                let quoted = place.strip_prefix("profile ").unwrap_or(place);
                of_a_person(format!(
                    "check the profile {} in root's ~/.aws/credentials and ~/.aws/config: make it (sudo aws \
                     configure --profile {quoted}; without sudo it is another user's), or name another where \
                     this one is named",
                    quoted.trim_matches('"')
                ))
            }
            Self::NoKeys => of_a_person(format!(
                "give {place} aws_access_key_id and aws_secret_access_key, or role_arn, or \
                 credential_process"
            )),
            Self::Half(has, lacks) if has.starts_with("AWS_") => {
                of_a_person(format!("set {lacks} too, or take {has} out, {VARIABLES}"))
            }
            Self::Half(has, lacks) if has.contains(" = ") => of_a_person(format!(
                "set aws_environment = true in the share, and {lacks}, {VARIABLES}; or write another \
                 credential_source into {place}"
            )),
            Self::Half(has, lacks) => {
                of_a_person(format!("put {lacks} into {place} too, or take {has} out of it"))
            }
            Self::Unsupported("credential_source", _) => of_a_person(format!(
                "write Ec2InstanceMetadata, EcsContainer or Environment behind credential_source in {place}"
            )),
            Self::Unsupported(key, _) => of_a_person(format!(
                "nobody can do that while a session starts: take {place} without {key}, with keys, \
                 role_arn or credential_process, or the role of the fleet"
            )),
            Self::Circle(name) => of_a_person(format!(
                "give profile {name:?} keys of its own, or have its source_profile name one that has"
            )),
            Self::BadVariable(name, _) => of_a_person(format!("correct {name} {VARIABLES}")),
            Self::Expired { .. } => passes(RENEWED.to_owned()),
            Self::NoRole => passes(format!(
                "attach an instance profile with a role to this instance; the role of an AppStream fleet \
                 is not there, but in the profile {APPSTREAM_PROFILE}: source_profile = \
                 {APPSTREAM_PROFILE}"
            )),
            Self::Source { name, problem } => problem.remedy(&place_of(name)),
            Self::Role { problem, .. } => problem.remedy(place),
            Self::Asked { problem, .. } => match **problem {
                Self::NoRole => problem.remedy(place),
                _ => None,
            },
            Self::Process(e) => Some(e.remedy(place)),
            Self::Printed { path, problem } => Some(Remedy {
                lasts: matches!(**problem, Self::BadTime),
                mend: format!(
                    "have {} print what AWS documents for credential_process: {{\"Version\": 1, \
                     \"AccessKeyId\": \"…\", \"SecretAccessKey\": \"…\", \"SessionToken\": \"…\", \
                     \"Expiration\": \"2026-01-31T12:00:00Z\"}}",
                    path.display()
                ),
            }),
            _ => None,
        }
    }
}

/// What helps against a problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Whether only a person can do it: waiting does not help.
    pub lasts: bool,
    /// What to do.
    pub mend: String,
}

/// A profile, in words.
pub(super) fn place_of(profile: &str) -> String {
    format!("profile {profile:?}")
}

const AGENT: &str = "AppStream's agent, which renews these each hour, has stopped: end the session and begin \
                     another";
/// Of what is renewed without a person.
pub(super) const RENEWED: &str = "if the clock here is wrong, have it set (chronyc makestep; timedatectl); else \
                                  see why what renews these credentials has stopped (on AppStream its agent does \
                                  so each hour)";
/// Where variables are set.
const VARIABLES: &str = "where the tunnel has its variables from (see efs-agent.toml(5), Environment variables), \
                         and run `sudo efs-agent unmount` when nobody works in a share";

/// Whether a file will not be had later either.
fn obstacle_lasts(obstacle: &Obstacle) -> bool {
    match obstacle {
        Obstacle::NoFolder(_) | Obstacle::Unreachable(..) | Obstacle::Unreadable(_) => false,
        // Somebody may put it there yet.
        Obstacle::Unopenable(errno) => *errno == Errno::EACCES,
        _ => true,
    }
}

/// Why a program gave no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// The line cannot be split into words.
    #[error("the command line has {0}")]
    BadLine(&'static str),
    /// It has a slash in it, but is no path from the root on.
    #[error("{0:?} is no absolute path: write it out in full")]
    NotAbsolute(String),
    /// A name without a slash that no folder has where programs are looked for.
    #[error("{name:?} is in none of {folders}")]
    NotFound {
        /// The program.
        name: String,
        /// The folders, with colons between them.
        folders: &'static str,
    },
    /// The program cannot be had.
    #[error("{} cannot be run: {}", .0.display(), why(*.1))]
    Unrunnable(PathBuf, Errno),
    /// What its first line names is not there.
    #[error("{} cannot be run: what its #! line names is not there", .0.display())]
    NoInterpreter(PathBuf),
    /// Others than root could change what root is to run.
    #[error("{} is not run: others than root can change it ({why})", .path.display())]
    Changeable {
        /// The program.
        path: PathBuf,
        /// What of its path, and how.
        why: String,
        /// The command that mends it.
        mend: String,
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
        /// Its exit status, if it has one.
        status: Option<i32>,
        /// "ended with status 1".
        how: String,
        /// The last line of its standard error, as far as that is harmless.
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

impl ProcessError {
    fn remedy(&self, place: &str) -> Remedy {
        /// With these a shell, and env(1), end for a program that cannot be run, or is not there.
        const NO_PROGRAM: [i32; 2] = [126, 127];
        /// What the AWS CLI says where a person must sign in.
        const SIGN_IN: [&str; 4] =
            ["aws sso login", "aws login", "retrieving token from sso", "SSO Token"];
        let by_hand = |path: &PathBuf| {
            format!(
                "run the line of credential_process by hand (sudo env -i HOME=/root PATH={PATH} {} …), and \
                 mend what it says",
                path.display()
            )
        };
        let (lasts, mend) = match self {
            Self::BadLine(_) => (true, format!("correct credential_process in {place}")),
            Self::NotAbsolute(_) => (
                true,
                format!(
                    "write the program's whole path, from / on, behind credential_process in {place}: no \
                     shell expands ~ or variables there"
                ),
            ),
            Self::NotFound { .. } => (
                true,
                format!(
                    "install that program, or write its whole path behind credential_process in {place}"
                ),
            ),
            Self::Unrunnable(path, Errno::ENOENT) => (
                true,
                format!("install {}, or correct credential_process in {place}", path.display()),
            ),
            Self::Unrunnable(path, Errno::EACCES) => (
                true,
                format!(
                    "let root run it (chmod 0755 {}), on a file system without noexec",
                    path.display()
                ),
            ),
            Self::Unrunnable(path, Errno::ENOEXEC) => {
                (true, format!("write #!/bin/sh, or what else runs it, at the top of {}", path.display()))
            }
            Self::Unrunnable(..) => {
                (false, "check the machine's limits on processes and memory".to_owned())
            }
            Self::NoInterpreter(path) => (
                true,
                format!(
                    "correct the first line of {}: a whole path, without a carriage return behind it \
                     (file {} tells of CRLF)",
                    path.display(),
                    path.display()
                ),
            ),
            Self::Changeable { mend, .. } => (true, mend.clone()),
            Self::Slow(path, _) => (
                false,
                format!("see what {} waits for: it has 10 s, and less at a session's start", path.display()),
            ),
            Self::Large(path) => {
                (true, format!("have {} print the credentials alone", path.display()))
            }
            Self::Failed { said, .. } if SIGN_IN.iter().any(|words| said.contains(words)) => (
                true,
                "nobody can sign in while a session starts: take a program that needs no person, or the \
                 role of the fleet"
                    .to_owned(),
            ),
            Self::Failed { path, status: Some(status), .. } if NO_PROGRAM.contains(status) => (
                true,
                format!(
                    "install what {} is to run, or write its whole path: PATH is {PATH} there",
                    path.display()
                ),
            ),
            Self::Failed { path, .. } => (false, by_hand(path)),
            Self::Version(path) => (
                false,
                format!(
                    "have {} print what AWS documents for credential_process, with \"Version\": 1",
                    path.display()
                ),
            ),
        };
        Remedy { lasts, mend }
    }
}

/// A service that gives credentials, or is asked with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The instance metadata service.
    Metadata,
    /// AWS's security token service, asked with keys.
    Sts,
    /// The same, asked with a token of somebody else's.
    WebIdentity,
    /// A container's endpoint.
    Container,
    /// EFS's API.
    Efs,
}

/// Why a service gave none.
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
    /// It does not know the keys that we sign with.
    Keys,
    /// It knows the key, but not that secret.
    Secret,
    /// The keys that we sign with have expired.
    Expired,
    /// So have they, but they are renewed without a person.
    Stale,
    /// It holds our clock for wrong.
    Clock,
    /// It is turned off in this region.
    Region,
    /// It does not believe the token.
    Token,
    /// It cannot ask whoever has made the token.
    Provider,
    /// What is asked for makes no sense.
    Parameters,
    /// It may not have the role that it is to hand out.
    Untrusted,
    /// What is asked for is not there.
    Missing,
    /// It is there, but has nothing that can be used.
    Empty,
    /// It says no, and we do not know the word that it says.
    Refused,
}

impl Service {
    /// All of them, and their words.
    const WORDS: [(Self, &str); 5] = [
        (Self::Metadata, "metadata"),
        (Self::Sts, "sts"),
        (Self::WebIdentity, "web-identity"),
        (Self::Container, "container"),
        (Self::Efs, "efs"),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WORDS.into_iter().map(|(service, _)| service)
    }

    /// For another process of ours.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(service, _)| *service == self).map_or("", |(_, word)| word)
    }

    /// Of its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, other)| *other == word).map(|(service, _)| *service)
    }
}

impl Trouble {
    /// All of them, and their words.
    const WORDS: [(Self, &str); 18] = [
        (Self::Unreachable, "unreachable"),
        (Self::Throttled, "throttled"),
        (Self::Failing, "failing"),
        (Self::Tls, "tls"),
        (Self::Denied, "denied"),
        (Self::Keys, "keys"),
        (Self::Secret, "secret"),
        (Self::Expired, "expired"),
        (Self::Stale, "stale"),
        (Self::Clock, "clock"),
        (Self::Region, "region"),
        (Self::Token, "token"),
        (Self::Provider, "provider"),
        (Self::Parameters, "parameters"),
        (Self::Untrusted, "untrusted"),
        (Self::Missing, "missing"),
        (Self::Empty, "empty"),
        (Self::Refused, "refused"),
    ];

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::WORDS.into_iter().map(|(trouble, _)| trouble)
    }

    /// For another process of ours.
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(trouble, _)| *trouble == self).map_or("", |(_, word)| word)
    }

    /// Of its word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, other)| *other == word).map(|(trouble, _)| *trouble)
    }

    pub(super) fn of(service: Service, problem: &Problem) -> Option<Self> {
        const TOO_OFTEN: [&str; 4] =
            ["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown"];
        match problem {
            Problem::Http(HttpError::Tls { .. }) => Some(Self::Tls),
            Problem::Http(HttpError::Malformed { .. }) => Some(Self::Failing),
            Problem::Http(HttpError::BadName(_) | HttpError::Unsendable(_)) => None,
            Problem::Http(_) => Some(Self::Unreachable),
            // What EC2 says instead of the credentials, with status 200.
            Problem::Refused(said) if said.starts_with("AssumeRoleUnauthorizedAccess") => {
                Some(Self::Untrusted)
            }
            Problem::Refused(_) | Problem::NotJson | Problem::Lacks(_) | Problem::BadTime => {
                Some(Self::Failing)
            }
            Problem::Status { status, said } | Problem::NoToken { status, said } => {
                let too_often = TOO_OFTEN.iter().any(|word| said.contains(word));
                match status {
                    _ if too_often => Some(Self::Throttled),
                    429 => Some(Self::Throttled),
                    500.. => Some(Self::Failing),
                    400.. => match service {
                        Service::Metadata | Service::Container => Some(Self::Denied),
                        Service::Sts | Service::WebIdentity | Service::Efs => {
                            Some(Self::of_refusal(said))
                        }
                    },
                    // A redirect, say.
                    _ => Some(Self::Failing),
                }
            }
            _ => None,
        }
    }

    /// Of what AWS's APIs say with a status of 400 and more: a code, a colon and a sentence. The services
    /// have the same codes, some of them with "Exception" behind.
    fn of_refusal(said: &str) -> Self {
        let code = said.split(':').next().unwrap_or_default().trim();
        match code.strip_suffix("Exception").unwrap_or(code) {
            "AccessDenied" => Self::Denied,
            "RegionDisabled" | "OptInRequired" => Self::Region,
            "ExpiredToken" => Self::Expired,
            "InvalidClientTokenId"
            | "UnrecognizedClient"
            | "InvalidAccessKeyId"
            | "InvalidToken"
            | "AuthFailure"
            | "NotAuthorized"
            | "IncompleteSignature"
            | "MissingAuthenticationToken" => Self::Keys,
            "SignatureDoesNotMatch" | "InvalidSignature" => {
                let by_time = ["Signature expired", "Signature not yet current"];
                match by_time.iter().any(|words| said.contains(words)) {
                    true => Self::Clock,
                    false => Self::Secret,
                }
            }
            "RequestExpired" | "RequestTimeTooSkewed" | "RequestInTheFuture" => Self::Clock,
            "InvalidIdentityToken" | "IDPRejectedClaim" => Self::Token,
            "IDPCommunicationError" => Self::Provider,
            "ValidationError"
            | "Validation"
            | "InvalidParameterValue"
            | "MalformedInput"
            | "BadRequest" => Self::Parameters,
            "FileSystemNotFound" => Self::Missing,
            _ => Self::Refused,
        }
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}
