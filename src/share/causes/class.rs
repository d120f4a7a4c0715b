//! What waiting does to a failure: it may pass, or it stays until a person acts, or the fault is this program's or the
//! machine's. The loop of attempts needs no more than this, so no words are made here.

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

/// The class of `failure`, which happened to `share`.
pub fn class_of(failure: &Failure, share: &Share) -> Class {
    match failure {
        Failure::Name(_)
        | Failure::Reach(_)
        | Failure::NoFamily(_)
        | Failure::NoTunnel(_)
        // The other program may end.
        | Failure::TunnelPort(_)
        | Failure::Loopback(_)
        | Failure::CutOff(..)
        | Failure::PointGone
        | Failure::Dead(_)
        | Failure::Unusable(..)
        | Failure::Worker(_)
        | Failure::NoTime
        | Failure::NotWritten(..)
        | Failure::Lost(_)
        | Failure::PortLost(_)
        | Failure::Stopped(_) => Class::Temporary,
        Failure::Program { .. }
        | Failure::NoSystemd
        | Failure::NoSelinux
        | Failure::NoModule
        | Failure::ModuleForbidden(_)
        | Failure::Forbidden(_)
        | Failure::Taken { .. }
        | Failure::Referred { .. }
        | Failure::ReadOnly
        | Failure::OtherWay
        | Failure::OffWay(_)
        | Failure::Unverified
        | Failure::NoHostName(_)
        | Failure::Hidden
        | Failure::Odd(_)
        | Failure::Refused(_) => Class::Permanent,
        Failure::NoTable(_) | Failure::NotShown | Failure::Stays => Class::Fault,
        Failure::Led(failure, _) | Failure::Encrypted(failure, _) | Failure::Probed(failure, _) => {
            class_of(failure, share)
        }
        Failure::Mount(_, errno) => mount(*errno),
        Failure::BadRoot(_, Errno::EACCES | Errno::EPERM) => Class::Permanent,
        Failure::BadRoot(..) => Class::Temporary,
        // A shortage may pass.
        Failure::Point(PointError::Failed {
            errno: Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM,
            ..
        }) => Class::Temporary,
        Failure::Point(_) => Class::Permanent,
        Failure::Tunnel(error) => tunnel(error, share),
    }
}

/// mount.nfs gives up at once on several errors that a session start must wait out, because the network interface is
/// attached while it runs. What is not known to stay may pass: shortages, or a server in its grace period.
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

/// TLS alerts (RFC 8446, 6) that the same two ends would meet with again.
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

fn tunnel(error: &TunnelError, share: &Share) -> Class {
    use TunnelError as E;
    match error {
        // The service manager starts it again.
        E::NoTunnel(_)
        | E::MakingKey
        | E::NoMeans(_)
        | E::Name(_)
        | E::Reach(_)
        | E::Credentials(_)
        // The name may get an address yet, and then nothing of this matters.
        | E::Undiscovered { .. }
        // No certificate is issued ahead of its time: the clock is wrong, and that is set after a boot.
        | E::NotYetValid { .. }
        | E::Closed
        | E::Silent(_)
        // So does a load balancer whose servers are away, for a while.
        | E::Dropped
        | E::Mute(_)
        | E::Stopped(_) => Class::Temporary,
        E::Changeable { .. }
        | E::CertificateName { .. }
        | E::UnknownIssuer
        | E::Expired { .. }
        | E::CaShown
        | E::Certificate(_)
        | E::Incompatible(_)
        | E::NotTls
        | E::Trust(_) => Class::Permanent,
        E::Key(_) => Class::Fault,
        E::Service { service, trouble, .. } => service_trouble(*service, *trouble, share),
        E::Source { lasts: true, .. } => Class::Permanent,
        E::Source { lasts: false, .. } => Class::Temporary,
        E::Alert(name) if LASTING_ALERTS.contains(&name.as_str()) => Class::Permanent,
        E::Alert(_) => Class::Temporary,
    }
}

/// Whether the trouble with a service of AWS may pass by itself.
fn service_trouble(service: Service, trouble: Trouble, share: &Share) -> Class {
    use Trouble as T;
    let names_profile = share.encryption.as_ref().is_some_and(|e| e.aws_profile.is_some());
    match (service, trouble) {
        // Asked last, where nothing else is there: the profile of the fleet may be written yet.
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
