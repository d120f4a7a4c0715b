//! What access keys look like: what is plainly wrong with one, what is odd about it, and how it is named to people.
//! Where keys are found is not known here.

use crate::aws::secret::{Credentials, harmless};

/// Stands before the access key in an identity.
const ACCESS_KEY: &str = ", access key ";

/// Whose credentials they are, and which, for people.
pub fn identity_of(credentials: &Credentials) -> String {
    let odd = oddity(credentials).map(|odd| format!(" ({odd})")).unwrap_or_default();
    format!("{}{odd}", with_access_key(&credentials.source, &credentials.access_key_id))
}

/// Names `owner` and the id of the access key. The secret key may be in its place by mistake, and a log must not show
/// it.
pub(super) fn with_access_key(owner: &str, access_key_id: &str) -> String {
    format!("{owner}{ACCESS_KEY}{}", harmless(access_key_id))
}

/// The profile in an identity made by [`identity_of`], if the credentials came from a profile of this machine.
pub fn profile_in(identity: &str) -> Option<&str> {
    let (name, _) = identity.strip_prefix("profile \"")?.split_once("\" of ")?;
    Some(name)
}

/// What is odd about the keys, in an identity made by [`identity_of`].
pub fn odd_in(identity: &str) -> Option<&str> {
    let (_, key) = identity.rsplit_once(ACCESS_KEY)?;
    key.split_once(" (")?.1.strip_suffix(')')
}

/// What is odd about keys that look like AWS's. They are used all the same: AWS may make others one day.
fn oddity(credentials: &Credentials) -> Option<String> {
    const ID: usize = 20;
    const SECRET: usize = 40;
    let Credentials { access_key_id: id, secret_access_key, session_token, .. } = credentials;
    let temporary = id.starts_with("ASIA");
    if !temporary && !id.starts_with("AKIA") {
        return None;
    }

    let secret = secret_access_key.expose().chars().count();
    if id.len() != ID {
        return Some(format!("it has {} characters, where AWS's have {ID}", id.len()));
    }
    if secret != SECRET {
        return Some(format!("its secret key has {secret} characters, where AWS's have {SECRET}"));
    }
    (temporary && session_token.is_none())
        .then(|| "it is a temporary one, but there is no aws_session_token with it".to_owned())
}

/// Why `key` cannot be an access key's id, or a secret key or token, whatever AWS's own look like today.
pub(super) fn flaw(key: &str, is_id: bool) -> Option<&'static str> {
    const QUOTES: [char; 7] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    Some(match key {
        key if key.starts_with(QUOTES) || key.ends_with(QUOTES) => {
            "has quotes around it, which would be part of the key: take them off"
        }
        key if key.starts_with('<') && key.ends_with('>') => {
            "has a placeholder in the place of the key"
        }
        key if key.contains('\n') => {
            "goes on in the next line, which is further in: begin that as far left as this one"
        }
        key if key.contains(char::is_whitespace) => "has a blank in it, which no key has",
        key if !key.bytes().all(|b| b.is_ascii_graphic()) => {
            "has a character in it that no key has"
        }
        key if is_id && !key.chars().all(fits) => {
            "is no access key's id, which has letters and digits alone (or is it the secret key?)"
        }
        _ => return None,
    })
}
