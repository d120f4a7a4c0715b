//! Credentials of a container: an endpoint on the machine, named by variables. No other file knows these variables.

use super::files;
use crate::aws::document::CredentialsDocument;
use crate::aws::error::{AwsError, CredentialSource, ErrorAnswer};
use crate::aws::http::{HttpRequest, Url};
use crate::aws::secret::{Credentials, Secret};
use crate::aws::service::Service;
use crate::aws::world::World;
use crate::retry::Deadline;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
/// How long the endpoint may take. It is on the same host.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Where the endpoint is, if the environment says so.
///
/// # Errors
/// [`AwsError::BadVariable`] if a token must not be sent there.
pub fn place(world: &World<'_>) -> Result<Option<Url>, AwsError> {
    if let Some(path) = world.environment.get(RELATIVE) {
        let path = path.expose();
        return match path.starts_with('/') {
            true => Ok(Some(world.endpoints.container.at(path))),
            false => Err(AwsError::BadVariable(RELATIVE, "does not begin with a slash")),
        };
    }
    let Some(full) = world.environment.get(FULL) else {
        return Ok(None);
    };

    let url = Url::parse(full.expose()).ok_or(AwsError::BadVariable(FULL, "is no http URL"))?;
    // A token is sent there, and the answer is believed, so it must be the right place.
    if !url.tls && !url.address().is_some_and(is_on_this_host) {
        let why = "is neither https nor an address of this machine, of ECS or of EKS";
        return Err(AwsError::BadVariable(FULL, why));
    }
    Ok(Some(url))
}

/// Loopback, and the link-local addresses of ECS and EKS.
fn is_on_this_host(address: IpAddr) -> bool {
    let known = ["169.254.170.2", "169.254.170.23", "fd00:ec2::23"];
    address.is_loopback() || known.iter().any(|known| known.parse() == Ok(address))
}

/// Fetches the credentials at `url`.
///
/// # Errors
/// What the endpoint, or the way to it, said.
pub fn fetch(url: &Url, world: &World<'_>, until: Deadline) -> Result<Credentials, AwsError> {
    let environment = world.environment;
    let token = match environment.get(TOKEN_FILE) {
        Some(path) => Some(files::token(Path::new(path.expose()), world)?),
        None => environment.get(TOKEN).map(|token| Secret::new(token.expose().to_owned())),
    };

    let sent: Vec<&str> = token.iter().map(Secret::expose).collect();
    let mut headers = vec![("Accept", "application/json")];
    headers.extend(token.as_ref().map(|token| ("Authorization", token.expose())));
    let request = HttpRequest { method: "GET", url, headers: &headers, body: b"" };
    let asked = world.net.exchange(&request, until.within(world.net.clock, TIMEOUT));
    let response = asked.map_err(|e| AwsError::from(e).of(Service::Container))?;
    if response.status != 200 {
        let answer = ErrorAnswer::without_code(&response, &sent);
        return Err(AwsError::Status(answer).of(Service::Container));
    }

    let mut credentials = CredentialsDocument::parse(&response.body)?.credentials(&sent)?;
    credentials.source = CredentialSource::Container(Some(url.authority())).to_string();
    Ok(credentials)
}
