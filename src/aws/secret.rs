//! Secrets and the credentials made of them, and how to show text that may have secrets in it. Where credentials are
//! found, and what is signed with them, does not belong here.

use crate::text::misleads;
use std::fmt;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// A text that is never shown, and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a string of JSON, with its quotes. `None` if it is none.
    pub fn from_json(json: &str) -> Option<Self> {
        let mut rest = json.strip_prefix('"')?.strip_suffix('"')?;
        // Its capacity is never exceeded: growth would leave a copy that is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(rest.len()));
        while let Some((plain, escaped)) = rest.split_once('\\') {
            text.push_str(plain);
            let length = match escaped.as_bytes() {
                // The first half of a surrogate pair, and the second one.
                [b'u', b'd' | b'D', b'8'..=b'9' | b'a'..=b'b' | b'A'..=b'B', _, _, b'\\', ..] => 11,
                [b'u', ..] => 5,
                _ => 1,
            };
            let (escape, after) = escaped.split_at_checked(length)?;
            // serde_json does not wipe the buffer in which it resolves escapes: it is given one letter at a time.
            text.push(crate::json::read(format!("\"\\{escape}\"").as_bytes()).ok()?);
            rest = after;
        }
        text.push_str(rest);
        Some(Self(text))
    }

    /// The text, for signing with it or sending it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What a request is signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name of the key: no secret.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: Secret,
    /// The token that belongs to a temporary key.
    pub session_token: Option<Secret>,
    /// When the key expires, where that is known.
    pub expires: Option<SystemTime>,
    /// Where they were found, for people: "profile \"default\" of /root/.aws/credentials".
    pub source: String,
}

/// A text from elsewhere, fit for one line of a log: without control characters, and cut after about 300 characters.
/// Parts that could be a secret key or a token are hidden. AWS's names (ARNs) stay.
pub fn harmless(text: &str) -> String {
    const LONGEST: usize = 300;
    let clean = |c: char| if misleads(c) { ' ' } else { c };
    let mut told = String::new();

    for word in text.trim().split_inclusive(char::is_whitespace) {
        let is_a_name = word.trim_start_matches(|c: char| !c.is_alphanumeric()).starts_with("arn:");
        let word = if is_a_name { word.to_owned() } else { without_keys(word) };
        told.extend(word.chars().map(clean));
        if told.chars().count() > LONGEST {
            return told.chars().take(LONGEST).chain(['…']).collect();
        }
    }
    told
}

/// Like [`harmless`], and without the secrets in `sent`: a service may send back what it was sent.
pub fn harmless_without(text: &str, sent: &[&str]) -> String {
    /// A shorter text is no secret, but may be part of other words.
    const SHORTEST: usize = 6;
    let mut text = Zeroizing::new(text.to_owned());
    let mut secrets: Vec<&str> = sent.iter().copied().filter(|s| s.len() >= SHORTEST).collect();

    // The longest comes first, since one may be part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = Zeroizing::new(text.replace(secret, "(hidden)"));
        // Some services escape the slash in JSON.
        let escaped = Zeroizing::new(secret.replace('/', "\\/"));
        text = Zeroizing::new(text.replace(&*escaped, "(hidden)"));
    }
    harmless(&text)
}

/// `word` with each part hidden that has the length and the characters of a secret key.
fn without_keys(word: &str) -> String {
    /// A secret key has 40 characters; a shorter part than this may be a name.
    const SECRET: usize = 32;
    // Both alphabets of base64.
    let of_a_key = |c: char| c.is_ascii_alphanumeric() || "+/=-_".contains(c);
    let mut told = String::new();
    let mut rest = word;
    while let Some(first) = rest.chars().next() {
        let unlike_the_first = |c: char| of_a_key(c) != of_a_key(first);
        let (part, after) = rest.split_at(rest.find(unlike_the_first).unwrap_or(rest.len()));
        let hidden = of_a_key(first) && part.len() >= SECRET;
        told.push_str(if hidden { "(hidden)" } else { part });
        rest = after;
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_of_json_is_read_whatever_escapes_it_has() {
        for json in [
            r#""""#,
            r#""wJalrXUtnFEMI\/K7MDENG""#,
            r#""\"\\\/\b\f\n\r\t\u00e4\uD83d\uDE00x""#,
            r#""ä\\""#,
        ] {
            let expected: String = serde_json::from_str(json).unwrap();
            assert_eq!(Secret::from_json(json).unwrap().expose(), expected);
        }
        for json in
            ["", "\"", "1", "null", r#""\ud83d""#, r#""\ud83d\u0041""#, r#""\u12""#, r#""\x""#]
        {
            assert_eq!(Secret::from_json(json), None, "{json}");
        }
    }

    #[test]
    fn what_could_be_a_key_or_a_token_is_hidden_and_the_rest_is_one_line() {
        let key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        assert_eq!(harmless(&format!(" no:\t{key}, \u{1b}[1m")), "no: (hidden),  [1m");
        assert_eq!(
            harmless("User: arn:aws:iam::1:user/x\nis not"),
            "User: arn:aws:iam::1:user/x is not"
        );
        let role = "no: 'arn:aws:sts::1:assumed-role/FleetRoleWithALongName/i0123456789abcdef0'";
        assert_eq!(harmless(role), role);
        assert_eq!(harmless("AKIAIOSFODNN7EXAMPLE"), "AKIAIOSFODNN7EXAMPLE");
        // What was sent itself, of whatever it is made, at the end of a long text too.
        let words = "correct horse battery staple";
        assert_eq!(harmless_without(&format!("no '{words}'"), &["", words]), "no '(hidden)'");
        let escaped = harmless_without(r#"{"a": "no ab\/cd ef"}"#, &["ab/cd ef"]);
        assert_eq!(escaped, r#"{"a": "no (hidden)"}"#);
        let long =
            harmless_without(&format!("{}{words}", "x ".repeat(145)), &["horse battery", words]);
        assert!(long.ends_with(" x (hidden)"), "{long}");
        let token = "eyJhbGciOiJSUzI1NiJ9-_x.eyJzdWIi-OiIxMjM0NTY3_ODkwIiwiYWRtaW4.c2lnbmF0dXJl-b2Zf_dGhlX3Rva2VuX2l0c2VsZg";
        assert!(!harmless(token).contains("dGhlX3"), "{}", harmless(token));
        assert_eq!(harmless(&"ä ".repeat(500)).chars().count(), 301);
        assert_eq!(harmless(""), "");
    }
}
