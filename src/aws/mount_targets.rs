//! Asks EFS's API for the addresses of a file system's mount targets, for when its name does not resolve. Those in this
//! instance's zone come first; the instance metadata service names that zone.

use super::error::{AwsError, ErrorAnswer};
use super::http::{HttpRequest, HttpResponse};
use super::metadata;
use super::secret::{Credentials, harmless};
use super::service::{Service, Trouble};
use super::signature::{ApiRequest, EFS, authorize, target};
use super::world::{Endpoints, World};
use crate::json::{self, Object};
use crate::retry::Deadline;
use serde::Deserialize;
use std::net::IpAddr;
use std::time::Duration;

/// How long the API may take. It answers in far less.
const TIMEOUT: Duration = Duration::from_secs(5);
const PATH: &str = "/2015-02-01/mount-targets";
const ZONE_ID: &str = "/latest/meta-data/placement/availability-zone-id";

/// A mount target that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountTarget {
    pub address: IpAddr,
    /// The id of its zone ("euc1-az2"). A zone's name would differ by account.
    pub zone: Option<String>,
    /// Whether that is this instance's zone.
    pub near: bool,
}

/// Why no mount target was found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The API, or the way to it, failed.
    #[error("the mount targets of {file_system_id} cannot be listed: {error}")]
    Failed { file_system_id: String, error: AwsError },
    /// The file system has none that can be used.
    #[error("{file_system_id} has no mount target that is available{states}")]
    NoTarget {
        file_system_id: String,
        /// What there is instead, in brackets, or nothing.
        states: String,
    },
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] crate::retry::Stopped),
}

impl DiscoveryError {
    /// In which way EFS's API has failed, if that is known.
    pub fn trouble(&self) -> Option<Trouble> {
        match self {
            Self::Failed { error, .. } => error.trouble_of(Service::Efs),
            Self::NoTarget { .. } => Some(Trouble::Empty),
            Self::Stopped(_) => None,
        }
    }
}

/// The available mount targets of a file system, those in this instance's zone first, before `until`. The file system
/// may be in another account: then `file_system_id` is its ARN.
///
/// # Errors
/// See [`DiscoveryError`]. An unknown zone of this instance is no error.
pub fn find(
    file_system_id: &str,
    region: &str,
    credentials: &Credentials,
    world: &World<'_>,
    until: Deadline,
) -> Result<Vec<MountTarget>, DiscoveryError> {
    let listed = list(file_system_id, region, credentials, world, until);
    let (mut targets, states) = listed.map_err(|error| match error {
        AwsError::Stopped(stopped) => stopped.into(),
        error => DiscoveryError::Failed { file_system_id: file_system_id.to_owned(), error },
    })?;

    if targets.is_empty() {
        let states = if states.is_empty() { states } else { format!(" ({states})") };
        return Err(DiscoveryError::NoTarget { file_system_id: file_system_id.to_owned(), states });
    }

    if let [first, .., last] = &targets[..]
        && first.zone != last.zone
    {
        let zone = match metadata::get(ZONE_ID, world, until) {
            Ok(response) => response.text().map(|text| text.trim().to_owned()),
            Err(AwsError::Stopped(stopped)) => return Err(stopped.into()),
            Err(_) => None,
        };
        for target in &mut targets {
            target.near = zone.is_some() && target.zone == zone;
        }
    }

    targets.sort_by_key(|target| (!target.near, target.address.is_ipv6()));
    Ok(targets)
}

/// All that are available, and the states of the others.
fn list(
    file_system_id: &str,
    region: &str,
    credentials: &Credentials,
    world: &World<'_>,
    until: Deadline,
) -> Result<(Vec<MountTarget>, String), AwsError> {
    let url = Endpoints::api(world.endpoints.efs.as_ref(), EFS, region);
    let host = url.authority();
    let parameters = [("FileSystemId", file_system_id)];
    let request = ApiRequest {
        method: "GET",
        path: PATH,
        query: &parameters,
        headers: &[("host", &host)],
        body: b"",
        region,
        service: EFS,
    };

    let signed = authorize(&request, credentials, (world.now)());
    let mut headers = vec![("Accept", "application/json")];
    headers.extend(signed.iter().map(|(name, value)| (*name, value.expose())));

    let (path, query) = target(PATH, &parameters);
    let url = url.at(&format!("{path}?{query}"));
    let request = HttpRequest { method: "GET", url: &url, headers: &headers, body: b"" };
    let response = world.net.exchange(&request, until.within(world.net.clock, TIMEOUT))?;
    if response.status != 200 {
        return Err(AwsError::Status(refusal(&response)));
    }

    let listed: MountTargetList = json::object(&response.body).map_err(|_| AwsError::NotJson)?;
    let mut targets = Vec::new();
    let mut states: Vec<String> = Vec::new();
    for Object(listed) in listed.mount_targets {
        if let Some(state) = listed.life_cycle_state.filter(|state| state != "available") {
            states.push(harmless(&state));
            continue;
        }

        let addresses = [listed.ip_address, listed.ipv6_address].into_iter().flatten();
        for address in addresses.filter_map(|address| address.parse().ok()) {
            let zone = listed.availability_zone_id.clone();
            targets.push(MountTarget { address, zone, near: false });
        }
    }

    Ok((targets, states.join(", ")))
}

/// What the API answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountTargetList {
    #[serde(default)]
    mount_targets: Vec<Object<MountTargetItem>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountTargetItem {
    life_cycle_state: Option<String>,
    ip_address: Option<String>,
    ipv6_address: Option<String>,
    availability_zone_id: Option<String>,
}

/// What the API answers when it refuses.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ApiErrorBody {
    error_code: Option<String>,
    message: Option<String>,
    #[serde(rename = "message")]
    lowercase_message: Option<String>,
}

/// What the API said when it refused.
fn refusal(response: &HttpResponse) -> ErrorAnswer {
    let Ok(refusal) = json::object::<ApiErrorBody>(&response.body) else {
        return ErrorAnswer::without_code(response, &[]);
    };

    let code = refusal.error_code.as_deref().or(response.header("x-amzn-errortype"));
    let code = code.and_then(|code| code.split(':').next());
    let message = refusal.message.or(refusal.lowercase_message);

    let [code, message] =
        [code, message.as_deref()].map(|part| part.map(harmless).unwrap_or_default());
    ErrorAnswer { status: response.status, code, message }
}
