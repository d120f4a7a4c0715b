//! Decides what waiting does to a failure: it may pass, it stays until a person acts, or it is a
//! fault of this program or machine. The loop of attempts needs only that, so no words are made
//! here.

use crate::aws::credentials::{Service, Trouble};
use crate::config::Share;
use crate::share::Failure;
use crate::share::mount_point::PointError;
use crate::tunnel::protocol::TunnelError;
use nix::errno::Errno;

/// What kind of end a failure is; `report` turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may pass: try again until the deadline.
    Temporary,
    /// Waiting does not help: a person has to change something.
    Permanent,
    /// A fault of this program or of the machine, not of the share.
    Fault,
}

/// The class of `failure`, which happened to `share`. A failure may pass unless it is known to
/// stay.
pub fn class_of(failure: &Failure, share: &Share) -> Class {
    match failure {
        Failure::Led(failure, _) | Failure::Encrypted(failure, _) | Failure::Probed(failure, _) => {
            class_of(failure, share)
        }
        Failure::Mount(_, errno) => mount(*errno),
        Failure::Tunnel(error) => tunnel(error, share),
        // A shortage may pass.
        Failure::Point(PointError::Failed {
            errno: Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM,
            ..
        }) => Class::Temporary,
        Failure::Program { .. }
        | Failure::NoSystemd
        | Failure::NoSelinux
        | Failure::NoModule
        | Failure::ModuleForbidden(_)
        | Failure::Forbidden(_)
        | Failure::Point(_)
        | Failure::Taken { .. }
        | Failure::Referred { .. }
        | Failure::BadRoot(_, Errno::EACCES | Errno::EPERM)
        | Failure::ReadOnly
        | Failure::OtherWay
        | Failure::OffWay(_)
        | Failure::Unverified
        | Failure::NoHostName(_)
        | Failure::Hidden
        | Failure::Odd(_)
        | Failure::Refused(_) => Class::Permanent,
        Failure::NoTable(_) | Failure::NotShown | Failure::Stays => Class::Fault,
        // All others are named too, so that the compiler asks for the class of a new one.
        Failure::Dead(_)
        | Failure::Unusable(..)
        | Failure::BadRoot(..)
        | Failure::PointGone
        | Failure::Name(_)
        | Failure::Reach(_)
        | Failure::NoFamily(_)
        | Failure::NoTunnel(_)
        | Failure::TunnelPort(_)
        | Failure::Loopback(_)
        | Failure::CutOff(..)
        | Failure::Worker(_)
        | Failure::NoTime
        | Failure::NotWritten(..)
        | Failure::Lost(_)
        | Failure::PortLost(_)
        | Failure::Stopped(_) => Class::Temporary,
    }
}

/// mount.nfs gives up at once on several errors that a session start must wait out, because the
/// network interface is attached while it runs. An error may pass unless it is known to stay: it
/// may be a shortage, or a server in its grace period.
fn mount(errno: Errno) -> Class {
    match errno {
        Errno::EACCES
        | Errno::EPERM
        | Errno::ENOENT
        | Errno::ENOTDIR
        | Errno::ELOOP
        | Errno::EPROTONOSUPPORT
        | Errno::ENODEV
        | Errno::EINVAL
        | Errno::ENAMETOOLONG
        | Errno::EBUSY => Class::Permanent,
        _ => Class::Temporary,
    }
}

/// TLS alerts (RFC 8446, 6) that the same two ends would get again.
const LASTING_ALERTS: &[&str] = &[
    "access_denied",
    "bad_certificate",
    "certificate_required",
    "certificate_revoked",
    "certificate_unknown",
    "handshake_failure",
    "insufficient_security",
    "protocol_version",
    "unknown_ca",
    "unrecognized_name",
    "unsupported_certificate",
];

/// The class of a tunnel's failure. A certificate that is not valid yet may pass. None is issued
/// ahead of its time, so the clock is wrong, and that is set after a boot.
fn tunnel(error: &TunnelError, share: &Share) -> Class {
    use TunnelError as E;
    match error {
        E::Changeable { .. }
        | E::CertificateName { .. }
        | E::UnknownIssuer
        | E::Expired { .. }
        | E::CaShown
        | E::Certificate(_)
        | E::Incompatible(_)
        | E::NotTls
        | E::Trust(_)
        | E::Source { lasts: true, .. } => Class::Permanent,
        E::Alert(name) if LASTING_ALERTS.contains(&name.as_str()) => Class::Permanent,
        E::Service { service, trouble, .. } => service_trouble(*service, *trouble, share),
        E::Key(_) => Class::Fault,
        _ => Class::Temporary,
    }
}

/// Whether the trouble with a service of AWS may pass by itself.
fn service_trouble(service: Service, trouble: Trouble, share: &Share) -> Class {
    use Trouble as T;
    let names_profile = share.encryption.as_ref().is_some_and(|e| e.aws_profile.is_some());
    match (service, trouble) {
        // This service is asked last, where there is no other source. The profile of the fleet may
        // still be written.
        (Service::Metadata, _) if !names_profile => Class::Temporary,
        (Service::Metadata, T::Denied | T::Untrusted) => Class::Permanent,
        (
            Service::Sts | Service::WebIdentity,
            T::Denied | T::Keys | T::Secret | T::Region | T::Token | T::Parameters,
        )
        | (Service::Sts, T::Expired) => Class::Permanent,
        _ => Class::Temporary,
    }
}
