//! AWS's signature version 4, for two purposes: the certificate that EFS demands, with a canonical form of EFS's own, and
//! requests to AWS's APIs. Nothing is sent here.

use super::secret::{Credentials, Secret};
use crate::text::hex;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use std::fmt::Write;
use std::time::{Duration, SystemTime};
use zeroize::{Zeroize, Zeroizing};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// EFS's name among AWS's services.
pub const EFS: &str = "elasticfilesystem";
/// How long a signature for EFS is valid, in seconds.
const EXPIRES: u32 = 86_400;
/// The last second that [`stamp`] can write: of the year 9999.
const LAST: u64 = 253_402_300_799;

/// A time in the form of signatures: "20250102T030405Z".
pub fn stamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = Duration::from_secs(since.as_secs().min(LAST));
    let time = SystemTime::UNIX_EPOCH.checked_add(seconds).unwrap_or(SystemTime::UNIX_EPOCH);
    let long = humantime::format_rfc3339_seconds(time).to_string();
    long.replace(['-', ':'], "")
}

/// What a key is limited to: "20250102/eu-central-1/elasticfilesystem/aws4_request".
fn scope(stamp: &str, region: &str, service: &str) -> String {
    let day = stamp.get(..8).unwrap_or_default();
    format!("{day}/{region}/{service}/aws4_request")
}

/// Percent-encodes all bytes except letters, digits, `-_.~` and those in `keep`.
fn encoded(text: &str, keep: &[u8], into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || keep.contains(&byte) {
            into.push(byte.into());
        } else {
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// The signature, in hexadecimal, that lets the owner of `credentials` connect to a file system with
/// a certificate whose public key has this SHA-1.
pub fn connect(
    public_key_sha1: &[u8; 20],
    file_system_id: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> String {
    connect_parts(public_key_sha1, file_system_id, region, credentials, now).2
}

/// The canonical request, which holds the session token, then the string to sign, and the signature.
pub(super) fn connect_parts(
    public_key_sha1: &[u8; 20],
    file_system_id: &str,
    region: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> (Zeroizing<String>, String, String) {
    let stamp = stamp(now);
    let scope = scope(&stamp, region, EFS);
    let request = connect_request(public_key_sha1, file_system_id, credentials, &stamp, &scope);
    let to_sign = string_to_sign(&request, &stamp, &scope);
    let signature = signature(&credentials.secret_access_key, &scope, &to_sign);
    (request, to_sign, signature)
}

/// The canonical request in EFS's form, with the session token. Unlike in the form that AWS documents, no empty line
/// stands behind the one header.
fn connect_request(
    public_key_sha1: &[u8; 20],
    file_system_id: &str,
    credentials: &Credentials,
    stamp: &str,
    scope: &str,
) -> Zeroizing<String> {
    let hash = hex(public_key_sha1);
    let mut credential = String::new();
    encoded(&format!("{}/{scope}", credentials.access_key_id), &[], &mut credential);

    let mut token = Zeroizing::new(String::new());
    if let Some(secret) = &credentials.session_token {
        let secret = secret.expose();
        // The room is reserved at once: a buffer that is outgrown would not be wiped.
        token.reserve("&X-Amz-Security-Token=".len() + 3 * secret.len());
        token.push_str("&X-Amz-Security-Token=");
        for (n, word) in secret.split(' ').enumerate() {
            token.push_str(if n > 0 { "+" } else { "" });
            encoded(word, &[], &mut token);
        }
    }

    let nothing = hex(digest(&SHA256, b"").as_ref());
    let mut text = Zeroizing::new(String::with_capacity(1024 + credential.len() + token.len()));
    let _ = write!(
        *text,
        "GET\n/\nAction=Connect&PublicKeyHash={hash}&X-Amz-Algorithm={ALGORITHM}\
         &X-Amz-Credential={credential}&X-Amz-Date={stamp}&X-Amz-Expires={EXPIRES}{token}\
         &X-Amz-SignedHeaders=host\nhost:{file_system_id}\nhost\n{nothing}",
        token = *token
    );
    text
}

fn string_to_sign(request: &str, stamp: &str, scope: &str) -> String {
    let hash = hex(digest(&SHA256, request.as_bytes()).as_ref());
    format!("{ALGORITHM}\n{stamp}\n{scope}\n{hash}")
}

/// The signature of `text` by the key that is derived from `secret` for `scope`, in hexadecimal.
fn signature(secret: &Secret, scope: &str, text: &str) -> String {
    let mut key = Zeroizing::new(Vec::with_capacity(4 + secret.expose().len()));
    key.extend_from_slice(b"AWS4");
    key.extend_from_slice(secret.expose().as_bytes());

    for part in scope.split('/') {
        let tag = sign(&Key::new(HMAC_SHA256, &key), part.as_bytes());
        key.zeroize();
        key.extend_from_slice(tag.as_ref());
    }
    hex(sign(&Key::new(HMAC_SHA256, &key), text.as_bytes()).as_ref())
}

/// A request to one of AWS's APIs.
#[derive(Debug, Clone, Copy)]
pub struct ApiRequest<'a> {
    /// "GET" or "POST".
    pub method: &'a str,
    /// From the first slash on, not encoded. It must not hold `..` or `//`, which would have to be resolved.
    pub path: &'a str,
    /// Names and values, not encoded.
    pub query: &'a [(&'a str, &'a str)],
    /// All headers to be signed, `host` among them, in any order.
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
    /// The region of the API.
    pub region: &'a str,
    /// The API's name in signatures: "sts".
    pub service: &'a str,
}

/// The headers that sign `request`, to be sent with it: `X-Amz-Date`, `X-Amz-Security-Token` where
/// there is one, and `Authorization`.
pub fn authorize(
    request: &ApiRequest<'_>,
    credentials: &Credentials,
    now: SystemTime,
) -> Vec<(&'static str, Secret)> {
    let stamp = stamp(now);
    let scope = scope(&stamp, request.region, request.service);
    let mut headers = request.headers.to_vec();
    headers.push(("x-amz-date", &stamp));
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token.expose()));
    }

    let (canonical, signed) = canonical(&ApiRequest { headers: &headers, ..*request });
    let to_sign = string_to_sign(&canonical, &stamp, &scope);
    let signature = signature(&credentials.secret_access_key, &scope, &to_sign);
    let id = &credentials.access_key_id;
    let authorization = format!(
        "{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed}, Signature={signature}"
    );

    let mut new = vec![("X-Amz-Date", Secret::new(stamp))];
    new.extend(credentials.session_token.clone().map(|token| ("X-Amz-Security-Token", token)));
    new.push(("Authorization", Secret::new(authorization)));
    new
}

/// The path and the query of a request, encoded as they are sent and signed.
pub fn target(path: &str, query: &[(&str, &str)]) -> (String, String) {
    let mut target = String::new();
    encoded(path, b"/", &mut target);

    // Parameters may be secrets: each gets all its room at once, and is wiped.
    let mut pairs: Vec<Zeroizing<String>> = query
        .iter()
        .map(|(name, value)| {
            let room = 3 * (name.len() + value.len()) + 1;
            let mut pair = Zeroizing::new(String::with_capacity(room));
            encoded(name, &[], &mut pair);
            pair.push('=');
            encoded(value, &[], &mut pair);
            pair
        })
        .collect();

    // Sorted by name, then by value. Whole pairs would be sorted wrongly, since some characters of names come before
    // '='.
    pairs.sort_by(|a, b| a.split('=').cmp(b.split('=')));
    let pairs: Vec<&str> = pairs.iter().map(|pair| pair.as_str()).collect();
    (target, pairs.join("&"))
}

/// The canonical form of `request`, and the names of its headers.
fn canonical(request: &ApiRequest<'_>) -> (Zeroizing<String>, String) {
    let (path, query) = target(request.path, request.query);
    let mut headers: Vec<(String, Zeroizing<String>)> = Vec::new();
    for (name, value) in request.headers {
        let name = name.to_ascii_lowercase();
        let value = Zeroizing::new(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => *values = Zeroizing::new(format!("{},{}", **values, *value)),
            None => headers.push((name, value)),
        }
    }

    headers.sort_by(|a, b| a.0.cmp(&b.0));
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let body = hex(digest(&SHA256, request.body).as_ref());

    let room = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(room + path.len() + query.len() + 1024));

    let _ = write!(*text, "{}\n{path}\n{query}\n", request.method);
    for (name, value) in &headers {
        let _ = writeln!(*text, "{name}:{}", **value);
    }
    let _ = write!(*text, "\n{names}\n{body}");
    (text, names)
}

#[cfg(test)]
mod tests;
