//! Credentials, and the order in which they are looked for:
//!
//! 1. a profile that the config names, and then nothing else;
//! 2. variables of the environment, where the config lets them count;
//! 3. the profile that AppStream makes for a fleet's role, then `default`, of
//!    root's files;
//! 4. a container's endpoint, and a web identity (both named by variables);
//! 5. the instance's role, by IMDSv2.
//!
//! The first that is there decides: if it fails, so does the search, for to be
//! somebody else by accident is worse than to be nobody. What each source gives
//! is its own file's business; who is who in the files of profiles, this one's.

mod container;
mod process;
mod token;

pub use super::secret::Secret;
pub use super::types::{APPSTREAM_PROFILE, Credentials, Problem, ProcessError, Service, Trouble};

use super::metadata;
use super::profile::{Kind, Profile, Profiles};
use super::sts::{self, Role};
use super::world::World;
use crate::files::{self, Obstacle};
use crate::retry::{Deadline, Stopped};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use zeroize::Zeroizing;

const DEFAULT_PROFILE: &str = "default";
/// What a session of an assumed role is called, unless the profile says otherwise.
const SESSION: &str = "efs-agent";
const KEY_ID: &str = "aws_access_key_id";
const SECRET_KEY: &str = "aws_secret_access_key";

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The profile that the config names.
    pub profile: Option<&'a str>,
    /// The file system's region, whose STS is asked.
    pub region: &'a str,
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The source that decides gave none.
    #[error("no credentials from {place}: {problem}")]
    Failed {
        /// The source.
        place: String,
        /// What it said.
        problem: Problem,
    },
    /// What was found counts no more.
    #[error(
        "the credentials from {place} expired at {} (it is {} now)",
        humantime::format_rfc3339_seconds(*expired),
        humantime::format_rfc3339_seconds(*now)
    )]
    Expired {
        /// The source.
        place: String,
        /// When they expired.
        expired: SystemTime,
        /// This machine's time.
        now: SystemTime,
    },
    /// No source has any.
    #[error("no credentials: {}", nowhere(.0))]
    Nowhere(Vec<(String, Problem)>),
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CredentialsError {
    /// Whether only a person can mend it, who has mistyped something in a file of profiles. What
    /// AppStream writes may come yet.
    pub fn is_mistyped(&self) -> bool {
        match self {
            Self::Failed { place, problem } => {
                *place != place_of(APPSTREAM_PROFILE) && problem.is_mistyped()
            }
            _ => false,
        }
    }

    /// The service that was in trouble, if that is why.
    pub fn trouble(&self) -> Option<(Service, Trouble)> {
        match self {
            Self::Failed { problem, .. } => problem.trouble(),
            Self::Nowhere(tried) => tried.iter().find_map(|(_, problem)| problem.trouble()),
            Self::Expired { .. } | Self::Stopped(_) => None,
        }
    }

    /// The command that has root alone change a file that is not read because others can.
    pub fn mend(&self) -> Option<String> {
        match self {
            Self::Failed { problem: Problem::Changeable { fault, .. }, .. } => Some(fault.mend()),
            _ => None,
        }
    }
}

/// A profile, in words.
fn place_of(profile: &str) -> String {
    format!("profile {profile:?}")
}

fn nowhere(tried: &[(String, Problem)]) -> String {
    tried
        .iter()
        .map(|(place, problem)| format!("{place}: {problem}"))
        .collect::<Vec<_>>()
        .join("; ")
}

/// The error of the source `place`, which had this problem.
fn failed(problem: Problem, place: impl fmt::Display) -> CredentialsError {
    match problem.stopped() {
        Some(stopped) => stopped.into(),
        None => CredentialsError::Failed { place: place.to_string(), problem },
    }
}

/// Looks for credentials, in the order that the head of this file tells, before `until`.
///
/// # Errors
/// See [`CredentialsError`].
pub fn find(
    wanted: &Wanted<'_>,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, CredentialsError> {
    let search = Search { region: wanted.region, world, until };
    let found = search.first(wanted.profile)?;
    let now = (world.now)();
    match found.expires {
        Some(expired) if expired <= now => {
            Err(CredentialsError::Expired { place: found.source, expired, now })
        }
        _ => Ok(found),
    }
}

struct Search<'a> {
    region: &'a str,
    world: &'a World<'a>,
    until: Deadline,
}

impl Search<'_> {
    fn first(&self, profile: Option<&str>) -> Result<Credentials, CredentialsError> {
        let environment = self.world.environment;
        let named = profile.or(environment.get("AWS_PROFILE").map(Secret::expose));
        if profile.is_none()
            && let Some(result) = self.variables()
        {
            return result.map_err(|problem| failed(problem, "the environment"));
        }
        let place = place_of;
        let named_or_not = named.unwrap_or(APPSTREAM_PROFILE);
        let files =
            Files::read(self.world).map_err(|problem| failed(problem, place(named_or_not)))?;
        if let Some(name) = named {
            return self.profile(&files, name).map_err(|problem| failed(problem, place(name)));
        }
        // There, it decides, whatever is in it: nothing else has the fleet's role.
        if files.profile(APPSTREAM_PROFILE).is_some() {
            let result = self.profile(&files, APPSTREAM_PROFILE);
            return result.map_err(|problem| failed(problem, place(APPSTREAM_PROFILE)));
        }
        let default = files.profile(DEFAULT_PROFILE);
        let no_default = match &default {
            Some(profile) if profile.offers_anything() => {
                let result = self.profile(&files, DEFAULT_PROFILE);
                return result.map_err(|problem| failed(problem, place(DEFAULT_PROFILE)));
            }
            Some(_) => Problem::NoKeys,
            None => files.missing(DEFAULT_PROFILE),
        };
        let container = "the container's endpoint";
        if let Some(url) =
            container::place(self.world).map_err(|problem| failed(problem, container))?
        {
            return container::fetch(&url, self.world, self.until)
                .map_err(|problem| failed(problem, format!("{container} {}", url.authority())));
        }
        if let Some(result) = self.web_identity() {
            return result.map_err(|problem| failed(problem, "the web identity"));
        }
        match metadata::credentials(self.world, self.until) {
            Ok(credentials) => Ok(credentials),
            Err(problem) => match problem.stopped() {
                Some(stopped) => Err(stopped.into()),
                None => Err(CredentialsError::Nowhere(vec![
                    (place(APPSTREAM_PROFILE), files.missing(APPSTREAM_PROFILE)),
                    (place(DEFAULT_PROFILE), no_default),
                    ("the instance's role (IMDSv2)".to_owned(), problem),
                ])),
            },
        }
    }

    /// Keys in the environment.
    fn variables(&self) -> Option<Result<Credentials, Problem>> {
        let environment = self.world.environment;
        let id = environment.get("AWS_ACCESS_KEY_ID")?;
        let Some(secret) = environment.get("AWS_SECRET_ACCESS_KEY") else {
            return Some(Err(Problem::Half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")));
        };
        Some(Ok(Credentials {
            access_key_id: id.expose().to_owned(),
            secret_access_key: secret.clone(),
            session_token: environment.get("AWS_SESSION_TOKEN").cloned(),
            expires: None,
            source: "the environment".into(),
        }))
    }

    /// A role for whoever has the token of a file, both named by variables.
    fn web_identity(&self) -> Option<Result<Credentials, Problem>> {
        let environment = self.world.environment;
        let file = environment.get("AWS_WEB_IDENTITY_TOKEN_FILE")?;
        let Some(arn) = environment.get("AWS_ROLE_ARN") else {
            return Some(Err(Problem::Half("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")));
        };
        let session = environment.get("AWS_ROLE_SESSION_NAME").map_or(SESSION, Secret::expose);
        let role = Role { arn: arn.expose(), session, external_id: None, duration: None };
        Some(self.by_token(&role, Path::new(file.expose())))
    }

    fn by_token(&self, role: &Role<'_>, file: &Path) -> Result<Credentials, Problem> {
        let token = token::read(file, self.world)?;
        let assumed = sts::assume_with_token(role, &token, self.region, self.world, self.until);
        assumed.map_err(|problem| of_role(role.arn, problem)).map(|credentials| Credentials {
            source: format!("role {} by a web identity", role.arn),
            ..credentials
        })
    }

    /// The credentials of a profile, whatever way it names to them.
    fn profile(&self, files: &Files, name: &str) -> Result<Credentials, Problem> {
        self.of_profile(files, name, &mut Vec::new())
    }

    /// `dependants`: the profiles that need this one, which must not be among them.
    fn of_profile(
        &self,
        files: &Files,
        name: &str,
        dependants: &mut Vec<String>,
    ) -> Result<Credentials, Problem> {
        let profile = files.profile(name).ok_or_else(|| files.missing(name))?;
        // As AWS's own tools have it: the keys beside a role are for those who name the profile as
        // their source, itself among them.
        let keys_first = !dependants.is_empty() && profile.get(KEY_ID).is_some();
        if dependants.iter().any(|dependant| dependant == name) && !keys_first {
            return Err(Problem::Circle(name.to_owned()));
        }
        if let Some(arn) = profile.get("role_arn")
            && !keys_first
        {
            dependants.push(name.to_owned());
            return self.role(files, &profile, arn, dependants);
        }
        let place = profile.place(name);
        match (profile.get(KEY_ID), profile.get(SECRET_KEY)) {
            (Some(id), Some(secret)) => Ok(Credentials {
                access_key_id: id.to_owned(),
                secret_access_key: Secret::new(secret.to_owned()),
                session_token: profile
                    .get("aws_session_token")
                    .or(profile.get("aws_security_token"))
                    .map(|token| Secret::new(token.to_owned())),
                expires: None,
                source: place,
            }),
            (Some(_), None) => Err(Problem::Half(KEY_ID, SECRET_KEY)),
            (None, Some(_)) => Err(Problem::Half(SECRET_KEY, KEY_ID)),
            (None, None) => {
                let Some(line) = profile.get("credential_process") else {
                    return Err(profile.lacks_keys());
                };
                let made = process::run(line, &files.home, self.world, self.until)?;
                Ok(Credentials { source: format!("{place} ({})", made.source), ..made })
            }
        }
    }

    /// The credentials of the role that a profile names.
    fn role(
        &self,
        files: &Files,
        profile: &Merged<'_>,
        arn: &str,
        dependants: &mut Vec<String>,
    ) -> Result<Credentials, Problem> {
        if profile.get("mfa_serial").is_some() {
            return Err(Problem::Unsupported("mfa_serial", "needs a person who types a code"));
        }
        let role = Role {
            arn,
            session: profile.get("role_session_name").unwrap_or(SESSION),
            external_id: profile.get("external_id"),
            duration: profile.get("duration_seconds"),
        };
        if let Some(file) = profile.get("web_identity_token_file") {
            return self.by_token(&role, Path::new(file));
        }
        let (with, by) = match (profile.get("source_profile"), profile.get("credential_source")) {
            (Some(name), _) => {
                let with = self.of_profile(files, name, dependants);
                let with = with.map_err(|problem| match problem {
                    circle @ Problem::Circle(_) => circle,
                    other => Problem::Source { name: name.to_owned(), problem: Box::new(other) },
                })?;
                (with, format!("source profile {name:?}"))
            }
            (None, Some(source)) => {
                (self.of_source(source)?, format!("credential_source {source}"))
            }
            (None, None) => {
                return Err(Problem::Half("role_arn", "source_profile or credential_source"));
            }
        };
        let now = (self.world.now)();
        if let Some(expired) = with.expires.filter(|expires| *expires <= now) {
            return Err(Problem::Expired { by, expired });
        }
        let assumed = sts::assume(&role, &with, self.region, self.world, self.until);
        assumed
            .map_err(|problem| of_role(arn, problem))
            .map(|credentials| Credentials { source: format!("role {arn} by {by}"), ..credentials })
    }

    /// What `credential_source` means.
    fn of_source(&self, source: &str) -> Result<Credentials, Problem> {
        match source {
            "Environment" => self.variables().unwrap_or(Err(Problem::Half(
                "credential_source = Environment",
                "AWS_ACCESS_KEY_ID in an environment that counts",
            ))),
            "EcsContainer" => match container::place(self.world)? {
                Some(url) => container::fetch(&url, self.world, self.until),
                None => Err(Problem::Half(
                    "credential_source = EcsContainer",
                    "AWS_CONTAINER_CREDENTIALS_… in an environment that counts",
                )),
            },
            "Ec2InstanceMetadata" => metadata::credentials(self.world, self.until),
            _ => Err(Problem::Unsupported(
                "credential_source",
                "is neither Ec2InstanceMetadata, nor EcsContainer, nor Environment",
            )),
        }
    }
}

fn of_role(arn: &str, problem: Problem) -> Problem {
    Problem::Role { arn: arn.to_owned(), problem: Box::new(problem) }
}

/// Root's two files of profiles.
struct Files {
    home: PathBuf,
    credentials: (PathBuf, Profiles),
    config: (PathBuf, Profiles),
}

impl Files {
    /// Reads them; one that is not there is empty.
    fn read(world: &World<'_>) -> Result<Self, Problem> {
        let home = home(world.root);
        let file = |variable: &str, usual: &str, kind| {
            let named = world.environment.get(variable).map(|path| PathBuf::from(path.expose()));
            let path = named.unwrap_or_else(|| home.join(usual));
            let profiles = profiles(world.root, &path, kind)?;
            Ok::<_, Problem>((path, profiles))
        };
        Ok(Self {
            credentials: file(
                "AWS_SHARED_CREDENTIALS_FILE",
                ".aws/credentials",
                Kind::Credentials,
            )?,
            config: file("AWS_CONFIG_FILE", ".aws/config", Kind::Config)?,
            home,
        })
    }

    /// A profile as both files have it.
    fn profile(&self, name: &str) -> Option<Merged<'_>> {
        let credentials = self.credentials.1.profiles.get(name);
        let config = self.config.1.profiles.get(name);
        (credentials.is_some() || config.is_some()).then_some(Merged {
            credentials,
            config,
            files: self,
        })
    }

    /// That there is no such profile, and what may be meant.
    fn missing(&self, name: &str) -> Problem {
        let is_in = |profiles: &Profiles| profiles.misnamed.iter().any(|other| other == name);
        let hint = if is_in(&self.config.1) {
            format!(" ([{name}] in the latter must be [profile {name}])")
        } else if is_in(&self.credentials.1) {
            format!(" ([profile {name}] in the former must be [{name}])")
        } else {
            String::new()
        };
        Problem::NoProfile { files: (self.credentials.0.clone(), self.config.0.clone()), hint }
    }
}

/// Root's home, as the account file tells it; no name service of libc is asked.
fn home(root: &Path) -> PathBuf {
    let passwd = files::whole(&root.join("etc/passwd")).unwrap_or_default();
    let passwd = String::from_utf8_lossy(&passwd);
    let home = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == "root").then_some(())?;
        fields.nth(4).filter(|home| home.starts_with('/')).map(PathBuf::from)
    });
    home.unwrap_or_else(|| "/root".into())
}

/// The profiles of a file that root alone can change.
fn profiles(root: &Path, path: &Path, kind: Kind) -> Result<Profiles, Problem> {
    if files::absent(root, path) {
        return Ok(Profiles::default());
    }
    let failed = |obstacle| Problem::File { path: path.to_owned(), obstacle };
    let place = match files::find(root, path) {
        Err(Obstacle::NoFolder(_)) => return Ok(Profiles::default()),
        place => place.map_err(failed)?,
    };
    let Some(file) = place.open().map_err(failed)? else {
        return Ok(Profiles::default());
    };
    // Whoever can change it can have root run a program.
    let changeable = |fault| Problem::Changeable { path: path.to_owned(), fault };
    place.trust(Some(&file)).map_err(changeable)?;
    let bytes = Zeroizing::new(files::contents(&file).map_err(failed)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| Problem::NotText(path.to_owned()))?;
    Profiles::parse(text, kind).map_err(|slip| Problem::Slip { path: path.to_owned(), slip })
}

/// A profile as both files have it; what the credentials file says comes first.
struct Merged<'a> {
    credentials: Option<&'a Profile>,
    config: Option<&'a Profile>,
    files: &'a Files,
}

impl Merged<'_> {
    /// A value; an empty one is none.
    fn get(&self, key: &str) -> Option<&str> {
        let both = [self.credentials, self.config].into_iter().flatten();
        let mut values = both.filter_map(|profile| profile.get(key));
        values.next().map(Secret::expose).filter(|value| !value.is_empty())
    }

    /// Whether it has anything that could give credentials.
    fn offers_anything(&self) -> bool {
        let keys = [KEY_ID, SECRET_KEY, "role_arn", "credential_process", "sso_session"];
        keys.iter().chain(&["sso_start_url"]).any(|key| self.get(key).is_some())
    }

    fn lacks_keys(&self) -> Problem {
        let sso = ["sso_session", "sso_start_url"].into_iter().find(|key| self.get(key).is_some());
        match sso {
            Some(key) => Problem::Unsupported(key, "needs a person who signs in"),
            None => Problem::NoKeys,
        }
    }

    /// The profile and the file that has it, in words.
    fn place(&self, name: &str) -> String {
        let has = |profile: Option<&Profile>| {
            profile.is_some_and(|p| p.contains_key(KEY_ID) || p.contains_key("credential_process"))
        };
        let file = if has(self.credentials) { &self.files.credentials } else { &self.files.config };
        format!("profile {name:?} of {}", file.0.display())
    }
}

#[cfg(test)]
mod tests;
