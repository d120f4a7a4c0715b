//! The services that give credentials or are asked with them, and the kinds of their failures. The kind decides whether
//! to try again, and which advice fits. How a service is asked is known elsewhere.

use serde::{Deserialize, Serialize};

/// A service that gives credentials, or is asked with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// The instance metadata service.
    Metadata,
    /// AWS's security token service, asked with keys.
    Sts,
    /// The same, asked with a token that another issuer has made.
    WebIdentity,
    /// A container's endpoint.
    Container,
    /// EFS's API.
    Efs,
}

/// Why a service did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// No connection, or no answer.
    Unreachable,
    /// It is asked too often.
    Throttled,
    /// The service itself has an error.
    Failing,
    /// Its certificate does not show that it is this service.
    Tls,
    /// It does not allow us to do that.
    Denied,
    /// It does not know the keys that sign.
    Keys,
    /// It knows the access key, but the secret is another one.
    Secret,
    /// The keys that sign have expired.
    Expired,
    /// The keys that sign have expired, but they are renewed without a person.
    Stale,
    /// Our clock differs from its own by too much.
    Clock,
    /// It is turned off in this region.
    Region,
    /// It does not accept the token.
    Token,
    /// It cannot reach the issuer of the token.
    Provider,
    /// A parameter makes no sense.
    Parameters,
    /// It is not allowed to assume the role that it should hand out.
    Untrusted,
    /// What is asked for does not exist.
    Missing,
    /// It exists, but has nothing that can be used.
    Empty,
    /// An error code that is not known here.
    Refused,
}

impl Trouble {
    /// The kind of failure that an API of AWS reports with a status of 400 or more. The services share most codes; some
    /// write "Exception" behind them.
    pub(super) fn of_code(code: &str, message: &str) -> Self {
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
                match by_time.iter().any(|words| message.contains(words)) {
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
