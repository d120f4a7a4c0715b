//! Credentials, and the order in which they are looked for:
//!
//! 1. a profile that the config names, and then nothing else;
//! 2. variables of the environment, where the config lets them count;
//! 3. the profile that AppStream makes for a fleet's role, then `default`, in root's files;
//! 4. a container's endpoint, and a web identity (both named by variables);
//! 5. the instance's role, by IMDSv2.
//!
//! The first source that is there decides. If it fails, so does the search: to sign in as somebody else by accident is
//! worse than not to sign in. What a source gives is read in its own file.

mod container;
mod environment;
mod files;
mod from_profile;
mod keys;
mod process;
mod web_identity;

pub use super::error::{AwsError, CredentialSource, ProcessError};
pub use super::remedy::{ErrorClass, Remedy};
pub use super::secret::{Credentials, Secret};
pub use super::service::{Service, Trouble};
pub use keys::{identity_of, odd_in, profile_in};

use super::APPSTREAM_PROFILE;
use super::metadata;
use super::world::World;
use crate::retry::{Deadline, Stopped};
use files::{ProfileFiles, Stamps, newest, stamps};
use from_profile::ProfileResolver;
use std::time::{Duration, SystemTime};

const DEFAULT_PROFILE: &str = "default";
/// While a file of profiles is being written, it is looked at this often.
const STAMP_INTERVAL: Duration = Duration::from_millis(100);

/// Which credentials are looked for.
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
    #[error("no credentials from {place}: {error}")]
    Failed { place: CredentialSource, error: Box<AwsError> },
    /// What was found has expired.
    #[error(
        "the credentials from {place} expired at {} (it is {} now)",
        humantime::format_rfc3339_seconds(*expired),
        humantime::format_rfc3339_seconds(*now)
    )]
    Expired { place: String, expired: SystemTime, now: SystemTime },
    /// No source has any.
    #[error("no credentials: {}", nowhere(.0))]
    Nowhere(Vec<(CredentialSource, AwsError)>),
    /// Root's files of profiles are being written, and what was read may be half of them.
    #[error("{error} (somebody has written there within {})", humantime::format_duration(*.within))]
    Unsettled {
        /// What is wrong with them.
        error: Box<CredentialsError>,
        /// The time in which they were written.
        within: Duration,
    },
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl CredentialsError {
    /// Where the error lies, if that is known.
    pub fn class(&self) -> Option<ErrorClass> {
        match self {
            Self::Failed { place, error } => error.class(place),
            Self::Nowhere(tried) => {
                let (service, trouble) = tried.iter().find_map(|(_, error)| error.trouble())?;
                Some(ErrorClass::Service(service, trouble))
            }
            Self::Expired { .. } => Some(ErrorClass::Source(Remedy::renewed())),
            Self::Unsettled { error, .. } => Some(match error.class()? {
                ErrorClass::Source(remedy) => ErrorClass::Source(Remedy { lasts: false, ..remedy }),
                other => other,
            }),
            Self::Stopped(_) => None,
        }
    }

    /// Whether waiting does not help against what is wrong on this machine.
    fn lasts(&self) -> bool {
        matches!(self.class(), Some(ErrorClass::Source(Remedy { lasts: true, .. })))
    }
}

fn nowhere(tried: &[(CredentialSource, AwsError)]) -> String {
    let sources = tried.iter().map(|(place, error)| format!("{place}: {error}"));
    sources.collect::<Vec<_>>().join("; ")
}

/// The error of the source `place`.
fn failed(error: AwsError, place: CredentialSource) -> CredentialsError {
    match error.stopped() {
        Some(stopped) => stopped.into(),
        None => CredentialsError::Failed { place, error: Box::new(error) },
    }
}

/// Looks for credentials, in the order at the head of this file, before `until`. An error in root's files of profiles
/// counts once nobody has written to them for a while.
///
/// # Errors
/// See [`CredentialsError`].
pub fn find(
    query: &Wanted<'_>,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, CredentialsError> {
    let clock = world.net.clock;
    let mut left_alone: Option<Stamps> = None;
    loop {
        let started = clock.now();
        let error = match find_now(query, world, until) {
            Err(error) if error.lasts() => error,
            other => return other,
        };

        let seen = stamps(world);
        // The files' age is measured by the time of day. If that was set meanwhile, the time for which they were
        // watched counts.
        let span = clock.now().saturating_sub(started).saturating_add(world.settle);
        let age = newest(&seen).and_then(|at| (world.now)().duration_since(at).ok());
        if world.settle.is_zero() || age.is_some_and(|age| age >= span) || left_alone == Some(seen)
        {
            return Err(error);
        }

        let settled = Deadline::after(clock, world.settle);
        while stamps(world) == seen {
            if until.passed(clock) {
                let (error, within) = (Box::new(error), world.settle);
                return Err(CredentialsError::Unsettled { error, within });
            }
            if settled.passed(clock) {
                left_alone = Some(seen);
                break;
            }
            clock.wait(STAMP_INTERVAL.min(until.left(clock)))?;
        }
    }
}

/// Looks for credentials once. Expired ones are an error.
fn find_now(
    query: &Wanted<'_>,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, CredentialsError> {
    let found = first(query, world, until)?;
    let now = (world.now)();

    match found.expires {
        Some(expired) if expired <= now => {
            Err(CredentialsError::Expired { place: found.source, expired, now })
        }
        _ => Ok(found),
    }
}

/// The credentials of the first source that is there.
fn first(
    query: &Wanted<'_>,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, CredentialsError> {
    use CredentialSource as Source;
    let named = query.profile.or(world.environment.get("AWS_PROFILE").map(Secret::expose));
    if query.profile.is_none()
        && let Some(found) =
            environment::credentials(world).map_err(|error| failed(error, Source::Environment))?
    {
        return Ok(found);
    }

    let profile = |name: &str| Source::Profile(name.to_owned());
    let files = ProfileFiles::read(world)
        .map_err(|error| failed(error, named.map_or(Source::ProfileFiles, profile)))?;
    let resolver = ProfileResolver { files: &files, region: query.region, world, until };
    if let Some(name) = named {
        return resolver.credentials(name).map_err(|error| failed(error, profile(name)));
    }

    if let Some(found) = usual_profile(&resolver)? {
        return Ok(found);
    }
    if let Some(found) = of_variables(query.region, world, until)? {
        return Ok(found);
    }

    metadata::credentials(world, until).map_err(|error| match error.stopped() {
        Some(stopped) => stopped.into(),
        None => {
            let profiles = [APPSTREAM_PROFILE, DEFAULT_PROFILE]
                .map(|name| (profile(name), files.without_keys(name)));
            let role = (Source::InstanceRole, error);
            CredentialsError::Nowhere(profiles.into_iter().chain([role]).collect())
        }
    })
}

/// The credentials of the profile that AppStream makes, or of `default`, where one of these is there.
fn usual_profile(resolver: &ProfileResolver<'_>) -> Result<Option<Credentials>, CredentialsError> {
    let files = resolver.files;
    for name in [APPSTREAM_PROFILE, DEFAULT_PROFILE] {
        let of_profile = |error| failed(error, CredentialSource::Profile(name.to_owned()));
        let profile = files.profile(name).map_err(of_profile)?;
        // AppStream's decides whatever is in it: nothing else has the fleet's role.
        if profile.is_some_and(|profile| name == APPSTREAM_PROFILE || profile.offers_anything()) {
            return resolver.credentials(name).map(Some).map_err(of_profile);
        }
    }

    // A profile that could not be read may be one of the two. Then no other source may take its place.
    match files.unread() {
        Some(error) => Err(failed(error, CredentialSource::ProfileFiles)),
        None => Ok(None),
    }
}

/// The credentials of a container's endpoint or a web identity, where variables name one.
fn of_variables(
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Option<Credentials>, CredentialsError> {
    use CredentialSource as Source;
    let place = container::place(world).map_err(|error| failed(error, Source::Container(None)))?;

    if let Some(url) = place {
        let source = Source::Container(Some(url.authority()));
        let found = container::fetch(&url, world, until);
        return found.map(Some).map_err(|error| failed(error, source));
    }

    web_identity::credentials(region, world, until)
        .map_err(|error| failed(error, Source::WebIdentity))
}

#[cfg(test)]
mod tests;
