//! The instance metadata service, in version 2 alone: one token is asked for, and used until shortly before its end.
//! Version 1 is never spoken: any program on the machine can be tricked into asking it.

use super::document::CredentialsDocument;
use super::error::{AwsError, ErrorAnswer};
use super::http::{HttpRequest, HttpResponse};
use super::secret::{Credentials, Secret};
use super::service::Service;
use super::world::World;
use crate::retry::Deadline;
use std::time::Duration;

/// How long the service may take. It is on the same host: a longer silence means that it is not there.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest life that a token can have.
const TOKEN_LIFE: Duration = Duration::from_secs(21_600);
/// A new token is asked for this much before the end of the old one.
const MARGIN: Duration = Duration::from_secs(300);
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";

/// The token, which each request needs.
fn token(world: &World<'_>, until: Deadline) -> Result<Secret, AwsError> {
    // The lock is kept while the service is asked: other threads wait for the answer.
    let mut known = world.metadata.token();
    let now = world.net.clock.now();
    if let Some((token, end)) = &*known
        && now < *end
    {
        return Ok(token.clone());
    }

    let life = TOKEN_LIFE.as_secs().to_string();
    let url = world.endpoints.metadata.at("/latest/api/token");
    let headers = [("X-aws-ec2-metadata-token-ttl-seconds", life.as_str())];
    let request = HttpRequest { method: "PUT", url: &url, headers: &headers, body: b"" };
    let response = world.net.exchange(&request, until.within(world.net.clock, TIMEOUT))?;

    let text = response.text().map(str::trim).filter(|text| !text.is_empty());
    let token = match text {
        Some(text) if response.status == 200 => Secret::new(text.to_owned()),
        _ => {
            return Err(AwsError::NoToken(ErrorAnswer::without_code(&response, &[])));
        }
    };

    *known = Some((token.clone(), now.saturating_add(TOKEN_LIFE).saturating_sub(MARGIN)));
    Ok(token)
}

/// What the service has under `path`.
///
/// # Errors
/// What it, or the way to it, said.
pub(super) fn get(
    path: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<HttpResponse, AwsError> {
    let mut again = true;
    loop {
        let token = token(world, until)?;
        let url = world.endpoints.metadata.at(path);
        let headers = [("X-aws-ec2-metadata-token", token.expose())];
        let request = HttpRequest { method: "GET", url: &url, headers: &headers, body: b"" };
        let response = world.net.exchange(&request, until.within(world.net.clock, TIMEOUT))?;

        match response.status {
            200 => return Ok(response),
            // The token is no longer valid, as after a restart of the instance.
            401 if again => {
                again = false;
                *world.metadata.token() = None;
            }
            _ => {
                let answer = ErrorAnswer::without_code(&response, &[token.expose()]);
                return Err(AwsError::Status(answer));
            }
        }
    }
}

/// The credentials of the instance's role.
///
/// # Errors
/// What the service, or the way to it, said.
pub(super) fn credentials(world: &World<'_>, until: Deadline) -> Result<Credentials, AwsError> {
    of_role(world, until).map_err(|error| error.of(Service::Metadata))
}

/// The credentials of the role, without the name of the service in an error.
fn of_role(world: &World<'_>, until: Deadline) -> Result<Credentials, AwsError> {
    let roles = match get(ROLES, world, until) {
        Err(AwsError::Status(answer)) if answer.status == 404 => return Err(AwsError::NoRole),
        roles => roles?,
    };

    let role = roles.text().and_then(|text| text.lines().next()).map(str::trim);
    // The name becomes part of a path, so it must fit into one.
    let role = role.filter(|role| is_role_name(role)).ok_or(AwsError::NoRole)?;

    let response = get(&format!("{ROLES}{role}"), world, until)?;
    let sent = token(world, until)?;
    let mut credentials =
        CredentialsDocument::parse(&response.body)?.credentials(&[sent.expose()])?;
    credentials.source = format!("role {role:?} of this instance (IMDSv2)");
    Ok(credentials)
}

fn is_role_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b);
    !name.is_empty() && name.bytes().all(fits)
}
