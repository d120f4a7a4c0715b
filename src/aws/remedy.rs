//! What can be done about each error: who can do it, and the sentence that says what to do. The errors themselves, and
//! their own words, are in `error`.

use super::error::{AwsError, CredentialSource, ProcessError};
use super::service::{Service, Trouble};
use super::{APPSTREAM_PROFILE, PROGRAM_PATH as PATH};
use crate::files::{Fault, PathError};
use nix::errno::Errno;
use std::path::Path;

/// Where an error lies, and so who can do something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorClass {
    /// Users other than root can change a file. This is the command against that.
    Changeable(String),
    /// A service has failed, in this way.
    Service(Service, Trouble),
    /// A profile, variable, file or program of this machine gives no credentials.
    Source(Remedy),
}

/// What helps against an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// Whether only a person can do it: waiting does not help.
    pub lasts: bool,
    pub cure: String,
}

impl Remedy {
    fn of_a_person(cure: String) -> Self {
        Self { lasts: true, cure }
    }

    fn with_time(cure: String) -> Self {
        Self { lasts: false, cure }
    }

    /// The remedy for credentials that are renewed without a person.
    pub(super) fn renewed() -> Self {
        Self::with_time(format!(
            "{CLOCK}; else see why what renews these credentials has stopped (on AppStream its agent does so \
             each hour)"
        ))
    }
}

const CLOCK: &str = "if the clock here is wrong, have it set (chronyc makestep; timedatectl)";
const AGENT: &str = "AppStream's agent, which renews these each hour, has stopped: end the session and begin \
                     another";
/// Where variables are set.
const VARIABLES: &str = "where the tunnel has its variables from (see efs-agent.toml(5), Environment variables), \
                         and run `sudo efs-agent unmount` when nobody works in a share";

impl AwsError {
    /// Where this error of `source` lies.
    pub(super) fn class(&self, source: &CredentialSource) -> Option<ErrorClass> {
        if let Some(fault) = self.fault() {
            return Some(ErrorClass::Changeable(Fault::mend(fault)));
        }
        if let Some((service, trouble)) = self.trouble() {
            return Some(ErrorClass::Service(service, trouble));
        }
        self.remedy(source).map(ErrorClass::Source)
    }

    /// What helps, if the cause is on this machine and not at a service.
    fn remedy(&self, source: &CredentialSource) -> Option<Remedy> {
        Some(match self {
            Self::Source { name, error } => {
                return error.remedy(&CredentialSource::Profile(name.clone()));
            }
            Self::Role { error, .. } => return error.remedy(source),
            Self::Asked { error, .. } if matches!(**error, Self::NoRole) => {
                return error.remedy(source);
            }

            Self::Process(error) => error.remedy(source),
            Self::Printed { path, error } => Remedy {
                lasts: matches!(**error, Self::BadTime),
                cure: format!(
                    "have {} print what AWS documents for credential_process: {{\"Version\": 1, \
                     \"AccessKeyId\": \"…\", \"SecretAccessKey\": \"…\", \"SessionToken\": \"…\", \
                     \"Expiration\": \"2026-01-31T12:00:00Z\"}}",
                    path.display()
                ),
            },
            Self::File { path, obstacle } => file_remedy(path, obstacle),

            Self::OldKeys { .. } if is_of_appstream(source) => {
                Remedy::with_time(format!("{CLOCK}; else {AGENT}"))
            }
            // AppStream may still write it.
            Self::NoProfile { .. } if is_of_appstream(source) => return None,
            Self::Expired { .. } => Remedy::renewed(),
            Self::NoRole => Remedy::with_time(format!(
                "attach an instance profile with a role to this instance; the role of an AppStream fleet \
                 is not there, but in the profile {APPSTREAM_PROFILE}: source_profile = \
                 {APPSTREAM_PROFILE}"
            )),
            _ => Remedy::of_a_person(self.correction(source)?),
        })
    }

    /// What is to be corrected in the files of profiles, or in the environment.
    fn correction(&self, source: &CredentialSource) -> Option<String> {
        Some(match self {
            Self::Line { path, error } => error.correction(path),
            Self::BadKey { path, line, .. } => format!(
                "correct line {line} of {}: the key alone, as AWS has shown it",
                path.display()
            ),
            Self::NotText(path) => {
                format!("save {} as UTF-8 text, not as UTF-16", path.display())
            }
            Self::OldKeys { path, .. } => format!(
                "{CLOCK}; else put new keys for {source} into {}, or take a profile whose keys are renewed \
                 without a person",
                path.display()
            ),

            Self::NoProfile { cure: Some(cure), .. } => cure.clone(),
            Self::NoProfile { cure: None, .. } => {
                let CredentialSource::Profile(name) = source else { return None };
                format!(
                    "check the profile {} in root's ~/.aws/credentials and ~/.aws/config: make it (sudo aws \
                     configure --profile {name:?}; without sudo it is another user's), or name another where \
                     this one is named",
                    name.escape_debug()
                )
            }
            Self::NoKeys => format!(
                "give {source} aws_access_key_id and aws_secret_access_key, or role_arn, or \
                 credential_process"
            ),
            Self::MissingKey(has, lacks) => {
                format!("put {lacks} into {source} too, or take {has} out of it")
            }
            Self::Circle(name) => format!(
                "give profile {name:?} keys of its own, or have its source_profile name one that has"
            ),
            Self::Unsupported(key, _) => format!(
                "nobody can do that while a session starts: take {source} without {key}, with keys, \
                 role_arn or credential_process, or the role of the fleet"
            ),

            Self::MissingSource(_, lacks) => format!(
                "set aws_environment = true in the share, and {lacks} in an environment that counts, \
                 {VARIABLES}; or write another credential_source into {source}"
            ),
            Self::UnknownSource => format!(
                "write Ec2InstanceMetadata, EcsContainer or Environment behind credential_source in {source}"
            ),
            Self::MissingVariable(has, lacks) => {
                format!("set {lacks} too, or take {has} out, {VARIABLES}")
            }
            Self::BadVariable(name, _) => format!("correct {name} {VARIABLES}"),
            _ => return None,
        })
    }
}

/// Whether it is the profile that AppStream renews by itself.
fn is_of_appstream(source: &CredentialSource) -> bool {
    matches!(source, CredentialSource::Profile(name) if name == APPSTREAM_PROFILE)
}

/// What helps against a file that cannot be read.
fn file_remedy(path: &Path, obstacle: &PathError) -> Remedy {
    let file = path.display();
    let cure = match obstacle {
        PathError::NoFolder(_) | PathError::Unopenable(Errno::ENOENT) => {
            format!("see why {file} is not there, or correct where it is named")
        }
        _ => format!(
            "put a file that root can read in the place of {file}, no symlink, and in folders that are none"
        ),
    };

    let lasts = match obstacle {
        PathError::NoFolder(_) | PathError::Unreachable(..) | PathError::Unreadable(_) => false,
        // A missing file may still come.
        PathError::Unopenable(errno) => *errno == Errno::EACCES,
        _ => true,
    };
    Remedy { lasts, cure }
}

impl ProcessError {
    fn remedy(&self, source: &CredentialSource) -> Remedy {
        let lasts = match self {
            Self::Unrunnable(_, errno) => {
                [Errno::ENOENT, Errno::EACCES, Errno::ENOEXEC].contains(errno)
            }
            Self::Failed { status, said, .. } => asks_to_sign_in(said) || lacks_a_program(*status),
            Self::Slow(..) | Self::Version(_) => false,
            _ => true,
        };
        Remedy { lasts, cure: self.cure(source) }
    }

    fn cure(&self, source: &CredentialSource) -> String {
        match self {
            Self::BadLine(_) => format!("correct credential_process in {source}"),
            Self::NotAbsolute(_) => format!(
                "write the program's whole path, from / on, behind credential_process in {source}: no \
                 shell expands ~ or variables there"
            ),
            Self::NotFound { .. } => format!(
                "install that program, or write its whole path behind credential_process in {source}"
            ),

            Self::Unrunnable(path, Errno::ENOENT) => {
                format!("install {}, or correct credential_process in {source}", path.display())
            }
            Self::Unrunnable(path, Errno::EACCES) => format!(
                "let root run it (chmod 0755 {}), on a file system without noexec",
                path.display()
            ),
            Self::Unrunnable(path, Errno::ENOEXEC) => {
                format!("write #!/bin/sh, or what else runs it, at the top of {}", path.display())
            }
            Self::Unrunnable(..) => "check the machine's limits on processes and memory".to_owned(),
            Self::NoInterpreter(path) => format!(
                "correct the first line of {path}: a whole path, without a carriage return behind it \
                 (file {path} tells of CRLF)",
                path = path.display()
            ),
            Self::Changeable { cure, .. } => cure.clone(),

            Self::Slow(path, _) => format!(
                "see what {} waits for: it has 10 s, and less at a session's start",
                path.display()
            ),
            Self::Large(path) => format!("have {} print the credentials alone", path.display()),
            Self::Failed { said, .. } if asks_to_sign_in(said) => {
                "nobody can sign in while a session starts: take a program that needs no person, or the \
                 role of the fleet"
                    .to_owned()
            }
            Self::Failed { path, status, .. } if lacks_a_program(*status) => format!(
                "install what {} is to run, or write its whole path: PATH is {PATH} there",
                path.display()
            ),
            Self::Failed { path, .. } => format!(
                "run the line of credential_process by hand (sudo env -i HOME=/root PATH={PATH} {} …), and \
                 mend what it says",
                path.display()
            ),
            Self::Version(path) => format!(
                "have {} print what AWS documents for credential_process, with \"Version\": 1",
                path.display()
            ),
        }
    }
}

/// Whether it is what the AWS CLI says where a person must sign in.
fn asks_to_sign_in(said: &str) -> bool {
    ["aws sso login", "aws login", "retrieving token from sso", "SSO Token"]
        .iter()
        .any(|words| said.contains(words))
}

/// Whether a shell or env(1) ends with this status for a program that is not there, or cannot be run.
fn lacks_a_program(status: Option<i32>) -> bool {
    matches!(status, Some(126 | 127))
}
