//! Why there is no encrypted connection to the file system: in words for people, and in the form that the control
//! socket and the broker send. What follows from an error is decided in `share::causes`.
//!
//! The form is that of version 0.1.0, since a tunnel may live longer than the program that has started it. It is an
//! object with a `kind`, and beside it the fields that belong to that kind.

use crate::aws::credentials::{Service, Trouble};
use crate::json::Object;
use crate::retry::{self, Stopped};
use nix::errno::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why there is no encrypted connection to the file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TunnelError {
    /// The tunnel itself cannot be asked. It does not run, does not answer (ETIMEDOUT), ends the conversation
    /// (ECONNRESET), or says what no tunnel says (EPROTO).
    #[error("{}", not_asked(*.0))]
    #[serde(rename = "no tunnel")]
    NoTunnel(#[serde(with = "errno")] Errno),
    /// The tunnel does not answer yet, since it is still making its key.
    #[error("the tunnel is still making its RSA key")]
    #[serde(rename = "making key")]
    MakingKey,
    /// The endpoint has no address.
    #[error("{0}")]
    Name(#[serde(with = "text")] String),
    /// No address answers.
    #[error("{0}")]
    Reach(#[serde(with = "text")] String),
    /// There are no credentials for IAM.
    #[error("{0}")]
    Credentials(#[serde(with = "text")] String),
    /// A service of AWS is in trouble, so there are no credentials or no mount targets.
    #[error("{what}")]
    Service {
        #[serde(rename = "text")]
        what: String,
        service: Service,
        trouble: Trouble,
    },
    /// There are no credentials, and the place where they are looked for knows what helps. That can be a file of
    /// profiles. `mend` is what to do; `lasts` says that waiting does not help.
    #[error("{what}")]
    Source {
        #[serde(rename = "text")]
        what: String,
        mend: String,
        lasts: bool,
    },
    /// The endpoint has no address, and AWS did not give the mount targets either.
    #[error("{what}; {why}")]
    Undiscovered {
        #[serde(rename = "text")]
        what: String,
        #[serde(deserialize_with = "object")]
        why: Box<TunnelError>,
    },
    /// A file (of credentials, or of trusted certificates) is not read, since users other than root can change it.
    /// `mend` is the command that helps.
    #[error("{what}; run: {mend}")]
    Changeable {
        #[serde(rename = "text")]
        what: String,
        mend: String,
    },
    /// The server's certificate is for other names.
    #[error("the server's certificate is for {}, not for {wanted}", names(.presented))]
    #[serde(rename = "certificate name")]
    CertificateName { wanted: String, presented: Vec<String> },
    /// The server's certificate was issued by nobody that is trusted.
    #[error("the server's certificate was issued by nobody that is trusted")]
    #[serde(rename = "unknown issuer")]
    UnknownIssuer,
    /// The server's certificate is no longer valid, or the clock here is fast.
    #[error("the server's certificate expired at {}, and the clock here says {}",
        stamp(.not_after), stamp(.now))]
    Expired {
        #[serde(rename = "limit", with = "seconds")]
        not_after: SystemTime,
        #[serde(with = "seconds")]
        now: SystemTime,
    },
    /// The server's certificate is not valid yet, or the clock here is slow.
    #[error("the server's certificate is valid from {} on, and the clock here says {}",
        stamp(.not_before), stamp(.now))]
    #[serde(rename = "not yet valid")]
    NotYetValid {
        #[serde(rename = "limit", with = "seconds")]
        not_before: SystemTime,
        #[serde(with = "seconds")]
        now: SystemTime,
    },
    /// The server's certificate is one that issues others.
    #[error("the server shows a CA certificate as its own")]
    #[serde(rename = "ca shown")]
    CaShown,
    /// The server's certificate cannot be accepted for another reason.
    #[error("the server's certificate cannot be accepted: {0}")]
    Certificate(#[serde(with = "text")] String),
    /// The server ended the handshake with this TLS alert (RFC 8446, 6).
    #[error("the server ended the TLS handshake with the alert {0}")]
    Alert(#[serde(with = "text")] String),
    /// The server and we have no TLS version or cipher in common, or it breaks the rules of TLS.
    #[error("the server's TLS cannot be used: {0}")]
    Incompatible(#[serde(with = "text")] String),
    /// What the server sends is not TLS.
    #[error("the server does not speak TLS on this port")]
    #[serde(rename = "not tls")]
    NotTls,
    /// The server closed the connection in mid-handshake.
    #[error("the server closed the connection in the middle of the TLS handshake")]
    Closed,
    /// The server fell silent in mid-handshake.
    #[error("the server did not finish the TLS handshake within {}", retry::seconds(*.0))]
    Silent(#[serde(with = "milliseconds")] Duration),
    /// The handshake was finished, but the connection was closed where an NFS server answers a NULL call. The server
    /// does not accept the client's certificate, or no NFS server is behind it.
    #[error("the server closed the connection right after the TLS handshake")]
    Dropped,
    /// The handshake was finished, but nothing behind it answers an NFS NULL call.
    #[error("the server finished the TLS handshake, but did not answer as an NFS server within {}",
        retry::seconds(*.0))]
    Mute(#[serde(with = "milliseconds")] Duration),
    /// The trusted certificates cannot be loaded.
    #[error("{0}")]
    Trust(#[serde(with = "text")] String),
    /// The key of the client's certificate, or the certificate, cannot be made.
    #[error("{0}")]
    Key(#[serde(with = "text")] String),
    /// This machine has no means for a connection: descriptors, memory, processes.
    #[error("no connection can be made here: {}", named(*.0))]
    #[serde(rename = "no means")]
    NoMeans(#[serde(with = "errno")] Errno),
    /// A signal has asked the run to end.
    #[error(transparent)]
    Stopped(
        #[from]
        #[serde(with = "nothing")]
        Stopped,
    ),
}

impl TunnelError {
    /// Whether the tunnel is there and may only need more time.
    pub fn is_not_ready(&self) -> bool {
        matches!(self, Self::MakingKey | Self::NoTunnel(Errno::ETIMEDOUT))
    }

    /// Whether another server of the same file system may do better.
    pub fn is_of_the_server(&self) -> bool {
        !matches!(
            self,
            Self::NoTunnel(_)
                | Self::MakingKey
                | Self::Name(_)
                | Self::Credentials(_)
                | Self::Service { .. }
                | Self::Source { .. }
                | Self::Undiscovered { .. }
                | Self::Changeable { .. }
                | Self::Trust(_)
                | Self::Key(_)
                | Self::NoMeans(_)
                | Self::Stopped(_)
        )
    }
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "no name at all".into() } else { names.join(", ") }
}

fn not_asked(errno: Errno) -> String {
    match errno {
        Errno::ETIMEDOUT => {
            "the tunnel is there, but has not answered yet: it is still starting, or busy".into()
        }
        errno => format!("the tunnel cannot be asked: {}", named(errno)),
    }
}

/// An errno as people and their search engines know it.
pub(super) fn named(errno: Errno) -> String {
    format!("{} ({errno:?})", errno.desc().to_lowercase())
}

/// A time for people. A certificate may name one beyond any calendar.
fn stamp(at: &SystemTime) -> String {
    // humantime writes up to the year 9999.
    let year_9999 = UNIX_EPOCH.checked_add(Duration::from_secs(253_402_300_799));
    let year_9999 = year_9999.unwrap_or(UNIX_EPOCH);
    humantime::format_rfc3339_seconds((*at).clamp(UNIX_EPOCH, year_9999)).to_string()
}

/// Reads an object and nothing else. A derived type alone would accept an array, too.
pub(super) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Object::deserialize(from).map(|Object(value)| value)
}

/// Like [`object`], for a field that may be `null`.
pub(super) fn optional_object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(from)?.map(|Object(value)| value))
}

/// Writes a value beside `kind`, in a field with this name, and reads it from there.
macro_rules! beside_kind {
    ($name:ident, $value:ty, $written:ty, $write:expr, $read:expr) => {
        mod $name {
            use super::*;

            #[derive(Serialize, Deserialize)]
            struct Beside {
                $name: $written,
            }

            pub(super) fn serialize<S: Serializer>(
                value: &$value,
                to: S,
            ) -> Result<S::Ok, S::Error> {
                Beside { $name: $write(value) }.serialize(to)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$value, D::Error> {
                Beside::deserialize(from).map(|beside| $read(beside.$name))
            }
        }
    };
}

beside_kind!(text, String, String, String::clone, |text| text);
beside_kind!(errno, Errno, i32, |errno: &Errno| *errno as i32, Errno::from_raw);
beside_kind!(milliseconds, Duration, u64, whole_milliseconds, Duration::from_millis);

fn whole_milliseconds(span: &Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Writes a time as whole seconds since 1970. An earlier time counts as 1970.
mod seconds {
    use super::*;

    pub(super) fn serialize<S: Serializer>(at: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let since = Duration::from_secs(u64::deserialize(from)?);
        let at = UNIX_EPOCH.checked_add(since);
        at.ok_or_else(|| serde::de::Error::custom("a time beyond any clock"))
    }
}

/// Writes nothing beside `kind`.
mod nothing {
    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Nothing {}

    pub(super) fn serialize<S: Serializer>(_: &Stopped, to: S) -> Result<S::Ok, S::Error> {
        Nothing {}.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Stopped, D::Error> {
        Nothing::deserialize(from).map(|_| Stopped)
    }
}

#[cfg(test)]
pub(super) mod tests;
