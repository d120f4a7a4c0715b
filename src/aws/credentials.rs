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
//! A line of these that cannot be read costs the profile that it is in alone.

mod container;
mod process;
mod token;

pub use super::secret::Secret;
pub use super::types::{
    APPSTREAM_PROFILE, Credentials, Problem, ProcessError, Remedy, Service, Trouble,
};

use super::document;
use super::metadata;
use super::profile::{Kind, Profile, Profiles};
use super::secret::harmless;
use super::sts::{self, Role};
use super::types::{RENEWED, place_of};
use super::world::World;
use crate::files::{self, Refused};
use crate::retry::{Deadline, Stopped};
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

const DEFAULT_PROFILE: &str = "default";
/// What a session of an assumed role is called, unless the profile says otherwise.
const SESSION: &str = "efs-agent";
const KEY_ID: &str = "aws_access_key_id";
const SECRET_KEY: &str = "aws_secret_access_key";
/// The second is what it was called first.
const TOKENS: [&str; 2] = ["aws_session_token", "aws_security_token"];
/// What tools that fetch keys for a person write beside them (saml2aws, and many after it; aws-azure-login).
const EXPIRES: [&str; 2] = ["x_security_token_expires", "aws_expiration"];
/// What a person signs in for.
const SIGN_IN: [&str; 3] = ["sso_session", "sso_start_url", "login_session"];
/// Where nobody names a profile: the files that it could be in.
const FILES: &str = "root's files of profiles";
/// While a file of profiles is being written, it is read again this often.
const LOOK: Duration = Duration::from_millis(100);

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
    /// Root's files of profiles are being written, and what was read there may be half of it.
    #[error("{error} (somebody has written there within {})", humantime::format_duration(*.within))]
    Unsettled {
        /// What is wrong with them.
        error: Box<CredentialsError>,
        /// The time in which somebody has.
        within: Duration,
    },
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CredentialsError {
    /// What helps, where that is no matter of a service, nor of whether there is a role at all.
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Failed { place, problem } => problem.remedy(place),
            Self::Expired { .. } => Some(Remedy { lasts: false, mend: RENEWED.to_owned() }),
            Self::Unsettled { error, .. } => {
                error.remedy().map(|remedy| Remedy { lasts: false, ..remedy })
            }
            Self::Nowhere(_) | Self::Stopped(_) => None,
        }
    }

    /// The service that was in trouble, if that is why.
    pub fn trouble(&self) -> Option<(Service, Trouble)> {
        match self {
            Self::Failed { problem, .. } => problem.trouble(),
            Self::Nowhere(tried) => tried.iter().find_map(|(_, problem)| problem.trouble()),
            Self::Unsettled { error, .. } => error.trouble(),
            Self::Expired { .. } | Self::Stopped(_) => None,
        }
    }

    /// The command that has root alone change a file that is not read because others can.
    pub fn mend(&self) -> Option<String> {
        match self {
            Self::Failed { problem, .. } => problem.fault().map(crate::files::Fault::mend),
            _ => None,
        }
    }
}

/// The profile whose keys an identity has that was found here, told in the words of [`Credentials::source`].
pub fn profile_in(identity: &str) -> Option<&str> {
    let (name, _) = identity.strip_prefix("profile \"")?.split_once("\" of ")?;
    Some(name)
}

/// Of an identity told as [`oddity`] belongs to it: what is odd about its keys.
pub fn odd_in(identity: &str) -> Option<&str> {
    let (_, key) = identity.rsplit_once(ACCESS_KEY)?;
    key.split_once(" (")?.1.strip_suffix(')')
}

/// Whose credentials they are, and which, for people.
pub fn identity_of(credentials: &Credentials) -> String {
    let odd = oddity(credentials).map(|odd| format!(" ({odd})")).unwrap_or_default();
    // Whoever has the two keys in each other's place is not to find the secret one in a log.
    let key = harmless(&credentials.access_key_id);
    format!("{}{ACCESS_KEY}{key}{odd}", credentials.source)
}

/// In front of the key's name in an identity.
const ACCESS_KEY: &str = ", access key ";

/// What is odd about keys that look like AWS's. There may be others one day: they are used all the same.
fn oddity(credentials: &Credentials) -> Option<String> {
    const ID: usize = 20;
    const SECRET: usize = 40;
    let Credentials { access_key_id: id, secret_access_key, session_token, .. } = credentials;
    let temporary = id.starts_with("ASIA");
    if !temporary && !id.starts_with("AKIA") {
        return None;
    }
    let secret = secret_access_key.expose().chars().count();
    if id.len() != ID {
        return Some(format!("it has {} characters, where AWS's have {ID}", id.len()));
    }
    if secret != SECRET {
        return Some(format!("its secret key has {secret} characters, where AWS's have {SECRET}"));
    }
    (temporary && session_token.is_none())
        .then(|| format!("it is a temporary one, but there is no {} with it", TOKENS[0]))
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

/// Looks for credentials, in the order that the head of this file tells, before `until`. What is wrong in root's
/// files of profiles is believed when they have been left alone for a while.
///
/// # Errors
/// See [`CredentialsError`].
pub fn find(
    wanted: &Wanted<'_>,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, CredentialsError> {
    let clock = world.net.clock;
    let mut left_alone: Option<Stamps> = None;
    loop {
        let started = clock.now();
        let error = match find_now(wanted, world, until) {
            Err(error) if error.remedy().is_some_and(|remedy| remedy.lasts) => error,
            other => return other,
        };
        let seen = stamps(world);
        // By the time of day; or, where that has been set since, because they have been watched for so long.
        let span = clock.now().saturating_sub(started).saturating_add(world.settle);
        let age = newest(&seen).and_then(|at| (world.now)().duration_since(at).ok());
        if world.settle.is_zero() || age.is_some_and(|age| age >= span) || left_alone == Some(seen)
        {
            return Err(error);
        }
        let enough = Deadline::after(clock, world.settle);
        while stamps(world) == seen {
            if until.passed(clock) {
                let (error, within) = (Box::new(error), world.settle);
                return Err(CredentialsError::Unsettled { error, within });
            }
            if enough.passed(clock) {
                left_alone = Some(seen);
                break;
            }
            clock.wait(LOOK.min(until.left(clock)))?;
        }
    }
}

/// Of each of root's two files of profiles: which one it is, how long, and when it or its mode was changed.
type Stamps = [Option<(u64, u64, i64, i64)>; 2];

fn stamps(world: &World<'_>) -> Stamps {
    let (paths, _) = paths(world);
    paths.map(|path| {
        let file = world.root.join(path.strip_prefix("/").unwrap_or(&path));
        let file = fs::symlink_metadata(file).ok()?;
        Some((file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
    })
}

/// When the newer of the two was changed; nothing where neither is there.
fn newest(stamps: &Stamps) -> Option<SystemTime> {
    let times = stamps.iter().flatten().map(|(_, _, seconds, nanos)| (*seconds, *nanos));
    let (seconds, nanos) = times.max()?;
    let since = Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}

fn find_now(
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
        let of_files = named.map_or_else(|| FILES.to_owned(), place);
        let files = Files::read(self.world).map_err(|problem| failed(problem, of_files))?;
        if let Some(name) = named {
            return self.profile(&files, name).map_err(|problem| failed(problem, place(name)));
        }
        // There, it decides, whatever is in it: nothing else has the fleet's role.
        let appstream = files.profile(APPSTREAM_PROFILE);
        if appstream.map_err(|problem| failed(problem, place(APPSTREAM_PROFILE)))?.is_some() {
            let result = self.profile(&files, APPSTREAM_PROFILE);
            return result.map_err(|problem| failed(problem, place(APPSTREAM_PROFILE)));
        }
        let default = files.profile(DEFAULT_PROFILE);
        let no_default = match default.map_err(|problem| failed(problem, place(DEFAULT_PROFILE)))? {
            Some(profile) if profile.offers_anything() => {
                let result = self.profile(&files, DEFAULT_PROFILE);
                return result.map_err(|problem| failed(problem, place(DEFAULT_PROFILE)));
            }
            Some(_) => Problem::NoKeys,
            None => files.missing(DEFAULT_PROFILE),
        };
        // What could not be read may have been one of the two: nobody else is meant then.
        if let Some(problem) = files.unread() {
            return Err(failed(problem, FILES));
        }
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
        let token = environment.get("AWS_SESSION_TOKEN");
        let all = [
            ("AWS_ACCESS_KEY_ID", Some(id)),
            ("AWS_SECRET_ACCESS_KEY", Some(secret)),
            ("AWS_SESSION_TOKEN", token),
        ];
        for (name, value) in all {
            let flaw = value.and_then(|value| flaw(value.expose(), name == "AWS_ACCESS_KEY_ID"));
            if let Some(what) = flaw {
                return Some(Err(Problem::BadVariable(name, what)));
            }
        }
        Some(Ok(Credentials {
            access_key_id: id.expose().to_owned(),
            secret_access_key: secret.clone(),
            session_token: token.cloned(),
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
        let failed = |problem| Problem::Role {
            arn: role.arn.to_owned(),
            by: None,
            renewed: false,
            problem: Box::new(problem),
        };
        assumed.map_err(failed).map(|credentials| Credentials {
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
        let profile = match files.profile(name)? {
            Some(profile) => profile,
            None => return Err(files.unread().unwrap_or_else(|| files.missing(name))),
        };
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
            (Some(id), Some(secret)) => {
                let token = TOKENS.into_iter().find(|key| profile.get(key).is_some());
                profile.keys_are_right(token)?;
                self.keys_are_fresh(&profile)?;
                Ok(Credentials {
                    access_key_id: id.to_owned(),
                    secret_access_key: Secret::new(secret.to_owned()),
                    session_token: token
                        .and_then(|key| profile.get(key))
                        .map(|token| Secret::new(token.to_owned())),
                    expires: None,
                    source: place,
                })
            }
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

    /// Whether a profile with keys says of itself that they have expired.
    fn keys_are_fresh(&self, profile: &Merged<'_>) -> Result<(), Problem> {
        let now = (self.world.now)();
        for key in EXPIRES {
            let expired = profile.get(key).and_then(document::time).filter(|at| *at <= now);
            if let (Some(expired), Some((file, _))) = (expired, profile.file_of(key)) {
                return Err(Problem::OldKeys { path: file.path.clone(), key, expired, now });
            }
        }
        Ok(())
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
        let source = profile.get("source_profile");
        let (with, by) = match (source, profile.get("credential_source")) {
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
        let failed = |problem| Problem::Role {
            arn: arn.to_owned(),
            by: Some(format!("{by}{ACCESS_KEY}{}", harmless(&with.access_key_id))),
            renewed: with.expires.is_some() || source == Some(APPSTREAM_PROFILE),
            problem: Box::new(problem),
        };
        assumed
            .map_err(failed)
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

/// What anybody can see to be wrong with a key, who may see it. What AWS's own keys are like today is no
/// matter here: see [`oddity`].
fn flaw(key: &str, is_id: bool) -> Option<&'static str> {
    const QUOTES: [char; 7] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    Some(match key {
        key if key.starts_with(QUOTES) || key.ends_with(QUOTES) => {
            "has quotes around it, which would be part of the key: take them off"
        }
        key if key.starts_with('<') && key.ends_with('>') => {
            "has a placeholder in the place of the key"
        }
        key if key.contains('\n') => {
            "goes on in the next line, which is further in: begin that as far left as this one"
        }
        key if key.contains(char::is_whitespace) => "has a blank in it, which no key has",
        key if !key.bytes().all(|b| b.is_ascii_graphic()) => {
            "has a character in it that no key has"
        }
        key if is_id && !key.chars().all(fits) => {
            "is no access key's id, which has letters and digits alone (or is it the secret key?)"
        }
        _ => return None,
    })
}

/// A file of profiles.
struct File {
    path: PathBuf,
    profiles: Profiles,
    /// Why nothing of it could be read, for whom that matters first.
    unread: Cell<Option<Problem>>,
}

/// Root's two files of profiles.
struct Files {
    home: PathBuf,
    credentials: File,
    config: File,
}

impl Files {
    /// Reads them; one that is not there is empty.
    fn read(world: &World<'_>) -> Result<Self, Problem> {
        let ([credentials, config], home) = paths(world);
        Ok(Self {
            credentials: File::read(world.root, credentials, Kind::Credentials)?,
            config: File::read(world.root, config, Kind::Config)?,
            home,
        })
    }

    /// A profile as both files have it, if one of them has it and can be read there. What cannot be read in one
    /// file does not hide what the other has, unless it is a part of that.
    fn profile(&self, name: &str) -> Result<Option<Merged<'_>>, Problem> {
        let mut parts = [&self.credentials, &self.config]
            .map(|file| (file, file.profiles.profiles.get(name), file.profiles.slip_in(name)));
        let offers = |profile: Option<&Profile>| {
            profile.is_some_and(|profile| SOURCES.iter().any(|key| profile.contains_key(*key)))
        };
        let whole = parts.iter().any(|(_, part, slip)| slip.is_none() && offers(*part));
        for (file, part, slip) in &mut parts {
            match slip {
                Some(_) if whole && !offers(*part) => *part = None,
                Some(slip) => {
                    return Err(Problem::Slip { path: file.path.clone(), slip: slip.clone() });
                }
                None => {}
            }
        }
        let parts = parts.map(|(file, part, _)| part.map(|profile| (file, profile)));
        let there = parts.iter().any(Option::is_some);
        Ok(there.then_some(Merged { name: name.to_owned(), parts, files: self }))
    }

    /// What could not be read, and may be any profile.
    fn unread(&self) -> Option<Problem> {
        [&self.credentials, &self.config].into_iter().find_map(|file| {
            file.unread.take().or_else(|| {
                let slip = file.profiles.slip_anywhere()?;
                Some(Problem::Slip { path: file.path.clone(), slip: slip.clone() })
            })
        })
    }

    /// That there is no such profile, and what may be meant.
    fn missing(&self, name: &str) -> Problem {
        let (credentials, config) = (&self.credentials, &self.config);
        let is_in = |file: &File| file.profiles.misnamed.iter().any(|other| other == name);
        let has = |name: &str| {
            [credentials, config].into_iter().any(|file| file.profiles.profiles.contains_key(name))
        };
        let without = name.strip_prefix("profile ").map(str::trim).filter(|name| has(name));
        let names =
            || [credentials, config].into_iter().flat_map(|file| file.profiles.profiles.keys());
        let alike = || names().find(|other| other.eq_ignore_ascii_case(name));
        let (hint, mend) = if is_in(config) {
            (
                format!(" ([{name}] in the latter must be [profile {name}])"),
                Some(format!("write [profile {name}] in {}", config.path.display())),
            )
        } else if is_in(credentials) {
            (
                format!(" ([profile {name}] in the former must be [{name}])"),
                Some(format!("write [{name}] in {}", credentials.path.display())),
            )
        } else if let Some(without) = without {
            (
                format!(" (\"profile\" is no part of the name: {without:?} is there)"),
                Some(format!("name the profile {without:?}, without the word profile")),
            )
        } else if let Some(other) = alike() {
            (format!(" ({other:?} is there)"), Some(format!("name the profile {other:?}")))
        } else {
            (String::new(), None)
        };
        let files = (credentials.path.clone(), config.path.clone());
        Problem::NoProfile { files, hint, mend }
    }
}

/// Where root's two files of profiles are, and root's home.
fn paths(world: &World<'_>) -> ([PathBuf; 2], PathBuf) {
    let home = home(world.root);
    let usual =
        [("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"), ("AWS_CONFIG_FILE", ".aws/config")];
    let paths = usual.map(|(variable, usual)| {
        let named = world.environment.get(variable).map(|path| PathBuf::from(path.expose()));
        named.unwrap_or_else(|| home.join(usual))
    });
    (paths, home)
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

impl File {
    /// Reads one that root alone can change.
    ///
    /// # Errors
    /// [`Problem::Changeable`]. What else is in the way may not matter: the other file may have all that it takes.
    fn read(root: &Path, path: PathBuf, kind: Kind) -> Result<Self, Problem> {
        match profiles(root, &path, kind) {
            Ok(profiles) => Ok(Self { path, profiles, unread: Cell::new(None) }),
            Err(changeable @ Problem::Changeable { .. }) => Err(changeable),
            Err(problem) => {
                let unread = Cell::new(Some(problem));
                Ok(Self { path, profiles: Profiles::default(), unread })
            }
        }
    }
}

/// The profiles of a file that root alone can change.
fn profiles(root: &Path, path: &Path, kind: Kind) -> Result<Profiles, Problem> {
    if files::absent(root, path) {
        return Ok(Profiles::default());
    }
    // Whoever can change it can have root run a program.
    let bytes = files::read(root, path).map_err(|e| match e {
        Refused::Obstacle(obstacle) => Problem::File { path: path.to_owned(), obstacle },
        Refused::Fault(fault) => Problem::Changeable { path: path.to_owned(), fault },
    })?;
    let Some(bytes) = bytes.map(Zeroizing::new) else {
        return Ok(Profiles::default());
    };
    // UTF-16 has one beside each letter of a key.
    if bytes.contains(&0) {
        return Err(Problem::NotText(path.to_owned()));
    }
    match String::from_utf8_lossy(&bytes) {
        Cow::Borrowed(text) => Ok(Profiles::parse(text, kind)),
        // It may matter to no profile, as in a comment.
        Cow::Owned(text) => Ok(Profiles::parse(&Zeroizing::new(text), kind)),
    }
}

/// One of these is what gives credentials.
const SOURCES: [&str; 7] =
    [KEY_ID, SECRET_KEY, "role_arn", "credential_process", SIGN_IN[0], SIGN_IN[1], SIGN_IN[2]];

/// A profile as both files have it; what the credentials file says comes first.
struct Merged<'a> {
    name: String,
    parts: [Option<(&'a File, &'a Profile)>; 2],
    files: &'a Files,
}

impl Merged<'_> {
    /// The file that a key is in, and its value.
    fn file_of(&self, key: &str) -> Option<(&File, &Secret)> {
        let both = self.parts.iter().flatten();
        both.filter_map(|(file, profile)| Some((*file, profile.get(key)?))).next()
    }

    /// A value; an empty one is none.
    fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.file_of(key)?;
        Some(value.expose()).filter(|value| !value.is_empty())
    }

    /// Whether it has anything that could give credentials.
    fn offers_anything(&self) -> bool {
        SOURCES.iter().any(|key| self.get(key).is_some())
    }

    fn lacks_keys(&self) -> Problem {
        match SIGN_IN.into_iter().find(|key| self.get(key).is_some()) {
            Some(key) => Problem::Unsupported(key, "needs a person who signs in"),
            None => Problem::NoKeys,
        }
    }

    /// Whether its keys, and the token that is called so, can be keys.
    fn keys_are_right(&self, token: Option<&'static str>) -> Result<(), Problem> {
        for key in [Some(KEY_ID), Some(SECRET_KEY), token].into_iter().flatten() {
            if let Some((file, value)) = self.file_of(key)
                && let Some(what) = flaw(value.expose(), key == KEY_ID)
            {
                let line = file.profiles.line_of(&self.name, key).unwrap_or_default();
                return Err(Problem::BadKey { path: file.path.clone(), line, key, what });
            }
        }
        Ok(())
    }

    /// The profile and the file that has it, in words.
    fn place(&self, name: &str) -> String {
        let has = |profile: &Profile| {
            profile.contains_key(KEY_ID) || profile.contains_key("credential_process")
        };
        let file = self.parts.iter().flatten().find(|(_, profile)| has(profile));
        let file = file.map_or(&self.files.config, |(file, _)| *file);
        format!("profile {name:?} of {}", file.path.display())
    }
}

#[cfg(test)]
mod tests;
