//! Credentials as JSON: what a `credential_process` prints, and what the container and the instance metadata services
//! answer. Where the documents come from is not known here.

use super::error::AwsError;
use super::secret::{Credentials, Secret, harmless_without};
use crate::json;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that humantime writes, since 1970.
const YEAR_9999: u64 = 253_402_300_799;

/// What any of these documents may hold, as raw text, so that no secret is copied while it is read. A value that is not
/// of the expected type counts as missing.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound(deserialize = "'de: 'a"))]
pub struct CredentialsDocument<'a> {
    version: Option<&'a RawValue>,
    code: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    #[serde(rename = "message")]
    lowercase_message: Option<&'a RawValue>,
    access_key_id: Option<&'a RawValue>,
    secret_access_key: Option<&'a RawValue>,
    token: Option<&'a RawValue>,
    session_token: Option<&'a RawValue>,
    expiration: Option<&'a RawValue>,
}

impl<'a> CredentialsDocument<'a> {
    /// Reads `bytes`. What is wrong with them is not said in detail: they may hold secrets.
    ///
    /// # Errors
    /// [`AwsError::NotJson`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, AwsError> {
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        json::object(bytes).map_err(|_| AwsError::NotJson)
    }

    /// Whether it has the one version that `credential_process` knows.
    pub fn is_version_1(&self) -> bool {
        self.version.is_some_and(|version| version.get() == "1")
    }

    /// The credentials in it, without their source, which the caller knows. `sent` are the secrets that were sent to
    /// get the document; an error does not repeat them.
    ///
    /// # Errors
    /// [`AwsError::Lacks`], [`AwsError::BadTime`], or what the document says in the place of credentials.
    pub fn credentials(&self, sent: &[&str]) -> Result<Credentials, AwsError> {
        if let Some(code) = text(self.code).filter(|code| code.expose() != "Success") {
            let message = text(self.message).or(text(self.lowercase_message));
            let message = message.as_ref().map_or("", Secret::expose);
            let [code, message] = [code.expose(), message].map(|text| harmless_without(text, sent));
            return Err(AwsError::Refused { code, message });
        }

        let access_key_id = text(self.access_key_id).ok_or(AwsError::Lacks("AccessKeyId"))?;
        let secret_access_key = text(self.secret_access_key);
        let expires = match text(self.expiration) {
            Some(text) => Some(time(text.expose()).ok_or(AwsError::BadTime)?),
            None => None,
        };

        Ok(Credentials {
            access_key_id: access_key_id.expose().to_owned(),
            secret_access_key: secret_access_key.ok_or(AwsError::Lacks("SecretAccessKey"))?,
            session_token: text(self.token).or(text(self.session_token)),
            expires,
            source: String::new(),
        })
    }
}

/// A value, if it is a string that is not empty.
fn text(value: Option<&RawValue>) -> Option<Secret> {
    Secret::from_json(value?.get()).filter(|text| !text.expose().is_empty())
}

/// A time in ISO 8601, in UTC or with an offset to it.
pub fn time(text: &str) -> Option<SystemTime> {
    let text = text.trim();
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Some(time);
    }

    // "+01:00", "-0730".
    let place = text.rfind(['+', '-']).filter(|place| *place >= "2025-01-02T03:04".len())?;
    let (time, offset) = text.split_at(place);
    let digits: String = offset.chars().skip(1).filter(|c| *c != ':').collect();

    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = digits.split_at_checked(2)?;
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let offset_by = Duration::from_secs(60 * (60 * hours + minutes));

    let time = humantime::parse_rfc3339_weak(time).ok()?;
    let utc = match offset.starts_with('+') {
        true => time.checked_sub(offset_by),
        false => time.checked_add(offset_by),
    };

    // humantime panics when it writes a time before 1970 or after 9999. The nearest time that it writes has the same
    // meaning: long past, or far away.
    let latest = UNIX_EPOCH.checked_add(Duration::from_secs(YEAR_9999))?;
    utc.map(|utc| utc.clamp(UNIX_EPOCH, latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(bytes: &[u8]) -> Result<Credentials, AwsError> {
        CredentialsDocument::parse(bytes)?.credentials(&[])
    }

    #[test]
    fn a_document_may_begin_with_a_mark_and_have_both_tokens_and_members_of_any_type() {
        let text = "\u{feff}{\"Version\": 1, \"AccessKeyId\": \"A\", \"SecretAccessKey\": \"a\\/b\", \
                    \"Token\": 7, \"SessionToken\": \"T\", \"Expiration\": null, \"Other\": [{}]}";
        let document = CredentialsDocument::parse(text.as_bytes()).unwrap();
        assert!(document.is_version_1());
        let read = document.credentials(&[]).unwrap();
        assert_eq!(read.secret_access_key.expose(), "a/b");
        assert_eq!(read.session_token.unwrap().expose(), "T");
        for version in ["2", "1.0", "\"1\"", "null"] {
            let text = format!("{{\"Version\": {version}}}");
            assert!(
                !CredentialsDocument::parse(text.as_bytes()).unwrap().is_version_1(),
                "{version}"
            );
        }
    }

    #[test]
    fn documents_of_all_sources_are_read() {
        // As AWS's documentation shows them.
        let instance = br#"{"Code":"Success","LastUpdated":"2012-04-26T16:39:16Z","Type":"AWS-HMAC",
            "AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "Token":"token","Expiration":"2017-05-17T15:09:54Z"}"#;
        let read = credentials(instance).unwrap();
        assert_eq!(read.access_key_id, "ASIAIOSFODNN7EXAMPLE");
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(read.secret_access_key.expose(), secret);
        assert_eq!(read.session_token.as_ref().unwrap().expose(), "token");
        assert_eq!(read.expires, Some(humantime::parse_rfc3339("2017-05-17T15:09:54Z").unwrap()));
        let container = br#"{"RoleArn":"arn","AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
            "Expiration":"2017-05-17T15:09:54Z"}"#;
        assert_eq!(credentials(container).unwrap().session_token.unwrap().expose(), "T");
        let process = br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":""}"#;
        let read = credentials(process).unwrap();
        assert_eq!((read.session_token, read.expires), (None, None));
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said_without_what_it_holds() {
        let said = |text: &str| credentials(text.as_bytes()).unwrap_err().to_string();
        for text in ["", "hush", "[1]", "{\"AccessKeyId\": hushhushhush}", "\u{0}"] {
            assert_eq!(said(text), "what it gave is no JSON object");
        }
        assert_eq!(said("{}"), "what it gave has no AccessKeyId");
        assert_eq!(said(r#"{"AccessKeyId":1}"#), "what it gave has no AccessKeyId");
        assert_eq!(said(r#"{"AccessKeyId":"A"}"#), "what it gave has no SecretAccessKey");
        let bad_time = r#"{"AccessKeyId":"A","SecretAccessKey":"S","Expiration":"soon"}"#;
        assert_eq!(said(bad_time), "what it gave has an Expiration that is no time");
        let failed = r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume it"}"#;
        assert_eq!(said(failed), "it refused: AssumeRoleUnauthorizedAccess EC2 cannot assume it");
    }

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        let utc = humantime::parse_rfc3339("2025-01-02T03:04:05Z").unwrap();
        for text in [
            "2025-01-02T03:04:05Z",
            "2025-01-02T03:04:05",
            "2025-01-02 03:04:05Z",
            "2025-01-02T03:04:05+00:00",
            "2025-01-02T05:34:05+02:30",
            "2025-01-01T19:04:05-0800",
        ] {
            assert_eq!(time(text), Some(utc), "{text}");
        }
        assert_eq!(time("2025-01-02T03:04:05.250+00:00"), Some(utc + Duration::from_millis(250)));
        // No time at all, as some programs write it east and west of Greenwich.
        assert_eq!(time("1970-01-01T00:00:00+01:00"), Some(UNIX_EPOCH));
        let last = time("9999-12-31T23:59:59-01:00").unwrap();
        assert_eq!(humantime::format_rfc3339_seconds(last).to_string(), "9999-12-31T23:59:59Z");
        for text in ["", "soon", "1735787045", "2025-13-02T03:04:05Z", "2025-01-02T03:04:05+1"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
