//! Credentials as JSON: what a `credential_process` prints, and what the
//! container and the instance metadata services answer.

use super::secret::{Secret, harmless_without};
use super::types::{Credentials, Problem};
use crate::json::{Document, Node, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroize;

/// The last second that humantime writes, since 1970.
const YEAR_9999: u64 = 253_402_300_799;

/// A JSON object whose strings are wiped when it is dropped.
pub struct Object<'t>(Document<'t>);

impl<'t> Object<'t> {
    /// Reads `bytes`. What is wrong with them is not said in detail: they may hold secrets.
    ///
    /// # Errors
    /// [`Problem::NotJson`].
    pub fn parse(bytes: &'t [u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotJson)?;
        let document = Object(Document::parse(text).map_err(|_| Problem::NotJson)?);
        match document.0.root.value {
            Value::Object(_) => Ok(document),
            _ => Err(Problem::NotJson),
        }
    }

    fn node(&self, name: &str) -> Option<&Node> {
        let Value::Object(members) = &self.0.root.value else { return None };
        members.iter().rev().find(|member| member.key == name).map(|member| &member.value)
    }

    /// The string `name`, unless it is empty.
    pub fn string(&self, name: &str) -> Option<&str> {
        match &self.node(name)?.value {
            Value::String(text) => Some(text).filter(|text| !text.is_empty()).map(String::as_str),
            _ => None,
        }
    }

    /// The number `name`, as it is written.
    pub fn number(&self, name: &str) -> Option<&str> {
        let node = self.node(name)?;
        (node.value == Value::Number).then(|| self.0.slice(node.span.clone()))
    }

    /// The objects of the array `name`: of each its strings, with their keys.
    pub fn objects(&self, name: &str) -> Vec<Vec<(&str, &str)>> {
        match self.node(name).map(|node| &node.value) {
            Some(Value::Array(items)) => items.iter().map(strings).collect(),
            _ => Vec::new(),
        }
    }
}

fn strings(node: &Node) -> Vec<(&str, &str)> {
    let Value::Object(members) = &node.value else { return Vec::new() };
    let pairs = members.iter().filter_map(|member| match &member.value.value {
        Value::String(text) => Some((member.key.as_str(), text.as_str())),
        _ => None,
    });
    pairs.collect()
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        wipe(&mut self.0.root);
    }
}

fn wipe(node: &mut Node) {
    match &mut node.value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.iter_mut().for_each(|member| wipe(&mut member.value)),
        _ => {}
    }
}

/// The credentials in a document, of whatever source.
///
/// # Errors
/// [`Problem::NotJson`], [`Problem::Lacks`], [`Problem::BadTime`], or what the document says of itself.
/// What says so does not have `sent` in it, the secrets that were sent for it.
pub fn credentials(bytes: &[u8], sent: &[&str]) -> Result<Credentials, Problem> {
    let object = Object::parse(bytes)?;
    if let Some(code) = object.string("Code").filter(|code| *code != "Success") {
        let message = object.string("Message").or(object.string("message")).unwrap_or_default();
        return Err(Problem::Refused(harmless_without(&format!("{code} {message}"), sent)));
    }
    let wanted = |name| object.string(name).ok_or(Problem::Lacks(name));
    let expires = match object.string("Expiration") {
        Some(text) => Some(time(text).ok_or(Problem::BadTime)?),
        None => None,
    };
    let token = object.string("Token").or(object.string("SessionToken"));
    Ok(Credentials {
        access_key_id: wanted("AccessKeyId")?.to_owned(),
        secret_access_key: Secret::new(wanted("SecretAccessKey")?.to_owned()),
        session_token: token.map(|token| Secret::new(token.to_owned())),
        expires,
        source: String::new(),
    })
}

/// A time as ISO 8601 has it, in UTC or with an offset to that.
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
    let number = |digits: &str| digits.parse::<u64>().ok();
    let offset_by = Duration::from_secs(60 * (60 * number(hours)? + number(minutes)?));
    let time = humantime::parse_rfc3339_weak(time).ok()?;
    let utc = match offset.starts_with('+') {
        true => time.checked_sub(offset_by),
        false => time.checked_add(offset_by),
    };
    // What lies before 1970 cannot be written down by humantime, which would end us. It is as long past
    // as 1970 is; of the year 10000, it is the same.
    let latest = UNIX_EPOCH.checked_add(Duration::from_secs(YEAR_9999))?;
    utc.map(|utc| utc.clamp(UNIX_EPOCH, latest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_of_all_sources_are_read() {
        // As AWS's documentation shows them.
        let instance = br#"{"Code":"Success","LastUpdated":"2012-04-26T16:39:16Z","Type":"AWS-HMAC",
            "AccessKeyId":"ASIAIOSFODNN7EXAMPLE","SecretAccessKey":"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            "Token":"token","Expiration":"2017-05-17T15:09:54Z"}"#;
        let read = credentials(instance, &[]).unwrap();
        assert_eq!(read.access_key_id, "ASIAIOSFODNN7EXAMPLE");
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(read.secret_access_key.expose(), secret);
        assert_eq!(read.session_token.as_ref().unwrap().expose(), "token");
        assert_eq!(read.expires, Some(humantime::parse_rfc3339("2017-05-17T15:09:54Z").unwrap()));
        let container = br#"{"RoleArn":"arn","AccessKeyId":"A","SecretAccessKey":"S","Token":"T",
            "Expiration":"2017-05-17T15:09:54Z"}"#;
        assert_eq!(credentials(container, &[]).unwrap().session_token.unwrap().expose(), "T");
        let process = br#"{"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":""}"#;
        let read = credentials(process, &[]).unwrap();
        assert_eq!((read.session_token, read.expires), (None, None));
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said_without_what_it_holds() {
        let said = |text: &str| credentials(text.as_bytes(), &[]).unwrap_err().to_string();
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
