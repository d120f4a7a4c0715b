//! STS, AWS's service that gives out credentials for roles: the two actions that assume a role. The caller finds the
//! keys that sign.

use super::document;
use super::error::{AwsError, ErrorAnswer};
use super::http::{HttpRequest, HttpResponse};
use super::secret::{Credentials, Secret, harmless_without};
use super::service::Service;
use super::signature::{ApiRequest, authorize, target};
use super::world::{Endpoints, World};
use crate::retry::Deadline;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long STS may take. It answers in far less.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The name of a role's session where nobody gives it one.
pub const SESSION_NAME: &str = "efs-agent";

/// A role to be assumed.
#[derive(Debug, Clone, Copy)]
pub struct Role<'a> {
    /// "arn:aws:iam::…:role/…".
    pub arn: &'a str,
    /// What the session is called in AWS's logs.
    pub session: &'a str,
    /// What the owner of the role may demand.
    pub external_id: Option<&'a str>,
    /// The life of the credentials, in seconds.
    pub duration: Option<&'a str>,
}

impl<'a> Role<'a> {
    fn parameters(&self, action: &'a str) -> Vec<(&'a str, &'a str)> {
        let mut parameters = vec![
            ("Action", action),
            ("Version", "2011-06-15"),
            ("RoleArn", self.arn),
            ("RoleSessionName", self.session),
        ];
        parameters.extend(self.external_id.map(|id| ("ExternalId", id)));
        parameters.extend(self.duration.map(|seconds| ("DurationSeconds", seconds)));
        parameters
    }
}

/// The parameter for a token.
const TOKEN: &str = "WebIdentityToken";

/// Assumes `role`; `signer` signs for that.
///
/// # Errors
/// What STS, or the way to it, said.
pub fn assume(
    role: &Role<'_>,
    signer: &Credentials,
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, AwsError> {
    let asked = ask(&role.parameters("AssumeRole"), Some(signer), region, world, until);
    asked.map_err(|error| error.of(Service::Sts))
}

/// Assumes `role` by a token from an issuer that AWS trusts (OpenID Connect).
///
/// # Errors
/// What STS, or the way to it, said.
pub fn assume_with_token(
    role: &Role<'_>,
    token: &Secret,
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, AwsError> {
    let mut parameters = role.parameters("AssumeRoleWithWebIdentity");
    parameters.push((TOKEN, token.expose()));
    ask(&parameters, None, region, world, until).map_err(|error| error.of(Service::WebIdentity))
}

/// Asks for credentials; without a signer, a parameter says who asks.
fn ask(
    parameters: &[(&str, &str)],
    signer: Option<&Credentials>,
    region: &str,
    world: &World<'_>,
    until: Deadline,
) -> Result<Credentials, AwsError> {
    let url = Endpoints::api(world.endpoints.sts.as_ref(), "sts", region);

    // The parameters go into the body, since a path may get into logs.
    let body = Zeroizing::new(target("/", parameters).1);
    let host = url.authority();
    let form = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8");
    let signed = signer.map(|signer| {
        let request = ApiRequest {
            method: "POST",
            path: &url.path,
            query: &[],
            headers: &[("host", &host), form],
            body: body.as_bytes(),
            region,
            service: "sts",
        };
        authorize(&request, signer, (world.now)())
    });

    let mut headers = vec![form];
    headers.extend(signed.iter().flatten().map(|(name, value)| (*name, value.expose())));
    let request =
        HttpRequest { method: "POST", url: &url, headers: &headers, body: body.as_bytes() };
    let response = world.net.exchange(&request, until.within(world.net.clock, TIMEOUT))?;

    if response.status != 200 {
        let signer = signer.iter().flat_map(|signer| {
            [Some(&signer.secret_access_key), signer.session_token.as_ref()].into_iter().flatten()
        });
        let token = parameters.iter().filter(|(name, _)| *name == TOKEN).map(|(_, token)| *token);
        let sent: Vec<&str> = signer.map(Secret::expose).chain(token).collect();
        return Err(AwsError::Status(refusal(&response, &sent)));
    }

    let text = response.text().unwrap_or_default();
    let inside = |name: &'static str| {
        element(text, name).filter(|text| !text.is_empty()).ok_or(AwsError::Lacks(name))
    };

    let expiration = inside("Expiration")?;
    let expires = document::time(&expiration).ok_or(AwsError::BadTime)?;

    Ok(Credentials {
        access_key_id: inside("AccessKeyId")?.to_string(),
        secret_access_key: Secret::new(inside("SecretAccessKey")?.to_string()),
        session_token: Some(Secret::new(inside("SessionToken")?.to_string())),
        expires: Some(expires),
        source: String::new(),
    })
}

/// What STS said when it refused, without the secrets in `sent`.
fn refusal(response: &HttpResponse, sent: &[&str]) -> ErrorAnswer {
    let text = response.text().unwrap_or_default();
    let part = |name| element(text, name).map(|text| harmless_without(&text, sent));

    match part("Code") {
        Some(code) => {
            let message = part("Message").unwrap_or_default();
            ErrorAnswer { status: response.status, code, message }
        }
        None => ErrorAnswer::without_code(response, sent),
    }
}

/// The text of the first element `name` in an XML document, with its escapes resolved. This is no reader of XML: STS's
/// answers have no attributes, namespaces or comments in these elements.
fn element(xml: &str, name: &str) -> Option<Zeroizing<String>> {
    const ESCAPES: [(&str, char); 5] =
        [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\'')];
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    let (mut rest, _) = after.split_once(&format!("</{name}>"))?;
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));

    while let Some(c) = rest.chars().next() {
        let escape = ESCAPES.iter().find(|(escape, _)| rest.starts_with(escape));
        let (letter, length) = escape.map_or((c, c.len_utf8()), |(e, letter)| (*letter, e.len()));
        text.push(letter);
        rest = rest.get(length..).unwrap_or_default();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_found_and_its_escapes_are_resolved() {
        let xml = "<A><Code>x</Code><Message>a &amp;lt; &lt;b&gt; &quot;&apos;&other;\u{e4}</Message></A>";
        assert_eq!(*element(xml, "Message").unwrap(), "a &lt; <b> \"'&other;\u{e4}");
        assert_eq!(*element(xml, "Code").unwrap(), "x");
        assert!(element(xml, "Other").is_none());
        assert!(element("<Code>cut off", "Code").is_none());
    }
}
