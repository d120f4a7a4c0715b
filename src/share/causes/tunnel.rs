//! What it means that there is no encrypted connection, or that what was
//! mounted through a good one was refused. Part of the one place that explains.

use super::{BY_ADDRESS, Cause, Class, SECURITY_GROUP, cause, explain};
use crate::aws::credentials::{Service, Trouble};
use crate::aws::dns_suffix;
use crate::config::Share;
use crate::config::encryption::{Encryption, Trust};
use crate::share::Failure;
use crate::tunnel::control::{Peer, TunnelFailure};
use nix::errno::Errno;

/// TLS alerts (RFC 8446, 6) that the same two ends would meet with again.
const FOR_GOOD: &[&str] = &[
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

/// Where a tunnel's own words are.
const LOG: &str = "see the tunnel's lines in the system's log (journalctl -t efs-agent)";

/// A tunnel that could not be started.
pub(super) fn not_started(why: &str) -> Cause {
    cause(
        Class::Temporary,
        format!("the tunnel for encryption in transit cannot be started: {why}"),
        LOG,
    )
}

/// A tunnel whose port another program holds.
pub(super) fn port_taken(port: u16) -> Cause {
    cause(
        // The other one may end.
        Class::Temporary,
        format!(
            "the tunnel for encryption in transit cannot be started: another program listens on its port, \
             {port} of 127.0.0.1"
        ),
        format!(
            "leave `tunnel_port` out to have a free port, or name another in it; who holds this one: \
             sudo ss -ltnp 'sport = :{port}'"
        ),
    )
}

/// A tunnel without an encrypted connection.
pub(super) fn failed(failure: &TunnelFailure, share: &Share) -> Cause {
    use TunnelFailure as F;
    let (class, cure) = match failure {
        // It is started again by whoever holds it; and a shortage may pass.
        F::NoTunnel(_) => (Class::Temporary, LOG.to_owned()),
        F::MakingKey => (
            Class::Temporary,
            format!(
                "start it again: it is made once a boot, in a second or two on a machine that is not busy; to \
                 have it before the session starts, enable efs-agent-tunnels.service; if it is never made, {LOG}"
            ),
        ),
        F::NoMeans(_) => {
            (Class::Temporary, "check the machine's limits on descriptors and memory".into())
        }
        F::Name(_) => (
            Class::Temporary,
            format!(
                "the network interface may not be attached yet; else check the spelling of `endpoint` \
                 and the VPC's DNS, {BY_ADDRESS}"
            ),
        ),
        F::Reach(_) => (Class::Temporary, SECURITY_GROUP.to_owned()),
        F::Credentials(_) => (Class::Temporary, credentials(share)),
        F::Service { service, trouble, .. } => {
            (Class::Temporary, in_trouble(*service, *trouble, share))
        }
        F::Profile(_) if !names_profile(share) => (
            Class::Permanent,
            "correct that profile in root's ~/.aws/credentials or ~/.aws/config, or name another in \
             `aws_profile`"
                .to_owned(),
        ),
        F::Profile(_) => (Class::Permanent, credentials(share)),
        // The command is the cure, and is said once.
        F::Changeable { what, mend } => {
            return cause(Class::Permanent, what.clone(), mend.clone());
        }
        F::CertificateName { presented, .. } => (
            Class::Permanent,
            match presented.iter().any(|name| name.contains(".efs.")) {
                true => "check `endpoint` and `addresses`: they lead to another file system or region"
                    .into(),
                false => "check `endpoint` and `addresses`; if the server is a stand-in for EFS, name \
                          it in `tls_name`"
                    .to_owned(),
            },
        ),
        F::UnknownIssuer => (Class::Permanent, issuer(share)),
        F::Expired { .. } => (
            Class::Permanent,
            "if the clock here is wrong, have it set (chronyc makestep; timedatectl); else the server \
             needs a new certificate"
                .to_owned(),
        ),
        // No certificate is issued ahead of its time: it is the clock, and that is set after a boot.
        F::NotYetValid { .. } => (
            Class::Temporary,
            "the clock here is slow, or not set yet: check chronyd (chronyc tracking; timedatectl)"
                .to_owned(),
        ),
        F::CaShown => (
            Class::Permanent,
            "give it a certificate that was issued by a CA, and name that CA in `trust`".into(),
        ),
        F::Certificate(_) => (
            Class::Permanent,
            "check that `endpoint` names an EFS file system, or else the server's certificate".into(),
        ),
        F::Alert(name) => alert(name),
        F::Incompatible(_) => (
            Class::Permanent,
            "check that `endpoint` names an EFS file system, or else that the server takes TLS 1.2 or 1.3 \
             with ECDHE and AES-GCM"
                .to_owned(),
        ),
        F::NotTls => (
            Class::Permanent,
            "check `endpoint`: an NFS server that is not EFS needs a TLS end of its own, or \
             encryption_in_transit = false"
                .to_owned(),
        ),
        F::Closed => (
            Class::Temporary,
            "check `endpoint`: an NFS server without TLS does this; and whether the file system was just \
             made, or the server is overloaded"
                .to_owned(),
        ),
        F::Silent(_) => (
            Class::Temporary,
            "look for a firewall, network ACL or MTU mismatch on the way that swallows larger packets, \
             and at the server's load"
                .to_owned(),
        ),
        // So does a load balancer whose servers are away, for a while.
        F::Dropped => (
            Class::Temporary,
            "check that `file_system_id`, `access_point` and the file system policy let this client in, and \
             the server behind the TLS end"
                .to_owned(),
        ),
        F::Mute(_) => {
            (Class::Temporary, "check that what is behind the TLS end is an NFS server, not hung".into())
        }
        F::Trust(_) => (
            Class::Permanent,
            "correct `trust`: a PEM file that root alone can change, \"system\" or \"amazon\"".into(),
        ),
        F::Key(_) => {
            (Class::Fault, "check that /run has room and that root can write there".to_owned())
        }
        // Never handed on as a tunnel's failure.
        F::Stopped(_) => (Class::Temporary, "start it again".to_owned()),
    };
    cause(class, failure.to_string(), cure)
}

fn alert(name: &str) -> (Class, String) {
    let class = if FOR_GOOD.contains(&name) { Class::Permanent } else { Class::Temporary };
    let cure = match name {
        "certificate_expired" => {
            "the server holds our certificate, made this minute, for too old: the clock here is wrong \
             (chronyc tracking; timedatectl)"
        }
        "protocol_version" | "handshake_failure" | "insufficient_security" => {
            "check that `endpoint` names an EFS file system, or else that the server takes TLS 1.2 or 1.3 \
             with ECDHE and AES-GCM"
        }
        _ => {
            "check that `endpoint`, `file_system_id` and `access_point` belong together, and the server's log"
        }
    };
    (class, cure.to_owned())
}

fn names_profile(share: &Share) -> bool {
    share.encryption.as_ref().is_some_and(|e| e.aws_profile.is_some())
}

fn credentials(share: &Share) -> String {
    const ROLE: &str = "attach an IAM role to the fleet (or image builder), or name a profile of root's \
                        ~/.aws/credentials in `aws_profile`";
    let profile = share.encryption.as_ref().and_then(|e| e.aws_profile.as_deref());
    match profile {
        Some(profile) => format!(
            "check the profile {profile} in root's ~/.aws/credentials and ~/.aws/config; on AppStream, \
             appstream_machine_role is there if the fleet (or image builder) has an IAM role"
        ),
        // What is set where efs-agent is started by hand does not get to what systemd starts.
        None if share.encryption.as_ref().is_some_and(|e| e.aws_environment) => format!(
            "set AWS's variables where the tunnel has them from (with systemd a drop-in of \
             efs-agent-tunnel@.service: see efs-agent.toml(5), Environment variables), and run `sudo \
             efs-agent unmount` when nobody works in a share; or {ROLE}"
        ),
        None => ROLE.to_owned(),
    }
}

/// What to do about a service that gives no credentials. Whatever it is, it is tried again.
fn in_trouble(service: Service, trouble: Trouble, share: &Share) -> String {
    use Trouble as T;
    let region = share.encryption.as_ref().map_or("", |e| e.region.as_str());
    let cure = match (service, trouble) {
        (Service::Metadata, T::Unreachable) => {
            "see that a route leads to 169.254.169.254 (ip route get 169.254.169.254), that no firewall \
             of the machine is before it, and that the instance's metadata service is on"
        }
        (Service::Metadata, T::Denied) => {
            "have the instance's metadata service turned on (HttpEndpoint=enabled), with version 2"
        }
        (Service::Metadata, T::Throttled) => {
            "find what on this machine asks 169.254.169.254 so often, and stop it"
        }
        (Service::Metadata, T::Failing | T::Tls) => {
            "see that nothing stands in for 169.254.169.254 on this machine (a proxy, a route); if it \
             is the instance's own, stop and start the instance"
        }
        (Service::Sts, T::Unreachable) => {
            return format!(
                "open a way to sts.{region}.{}, TCP 443: an interface VPC endpoint for sts with private \
                 DNS, whose security group lets this machine in, or a NAT gateway",
                dns_suffix(region)
            );
        }
        (Service::Sts, T::Throttled) => {
            "too many roles are assumed at once in this account: have sessions start less close together, \
             or do without role_arn: give the fleet itself the role"
        }
        (Service::Sts, T::Failing) => {
            return format!("look for a fault of STS in {region} (AWS Health Dashboard)");
        }
        (Service::Sts, T::Tls) => {
            "see that nothing on the way decrypts TLS to STS, unless the system trusts its root, and that \
             the clock here is right (chronyc tracking; timedatectl)"
        }
        (Service::Sts, T::Denied) => {
            "allow sts:AssumeRole to whoever assumes the role, in the role's trust policy and in a policy \
             of their own; and check that the clock here is right"
        }
        (Service::Container, T::Unreachable) => {
            "see that what AWS_CONTAINER_CREDENTIALS_… names runs, and that a route leads to it"
        }
        (Service::Container, T::Throttled | T::Failing | T::Tls) => {
            "see the log of what AWS_CONTAINER_CREDENTIALS_… names"
        }
        (Service::Container, T::Denied) => {
            "check the token in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN"
        }
    };
    match service {
        // It is asked last, where nothing else is there.
        Service::Metadata if !names_profile(share) => {
            format!("{}; for the role of an EC2 instance, {cure}", credentials(share))
        }
        _ => cure.to_owned(),
    }
}

fn issuer(share: &Share) -> String {
    let trust = share.encryption.as_ref().map(|e| &e.trust);
    match trust {
        Some(Trust::System) => {
            "add the issuer's root to those that the system trusts, or name a PEM file in `trust`".into()
        }
        Some(Trust::File(path)) => {
            format!("put the issuer's root into {}, or correct `trust`", path.display())
        }
        _ => "check that `endpoint` names an EFS file system, and that nothing on the way decrypts TLS; for \
              another server, name its root in `trust`"
            .to_owned(),
    }
}

/// What came of a mount after a good handshake with `peer`.
pub(super) fn refused(failure: &Failure, peer: &Peer, share: &Share, kernel: &str) -> Cause {
    let Some(encryption) = &share.encryption else {
        return explain(failure, share, kernel);
    };
    match failure {
        Failure::Mount(_, errno @ (Errno::EACCES | Errno::EPERM)) => {
            denied(*errno, peer, encryption, share)
        }
        Failure::Mount(_, errno @ Errno::ENOENT) => match &encryption.access_point {
            Some(access_point) => no_folder(*errno, access_point, share),
            None => explain(failure, share, kernel),
        },
        _ => explain(failure, share, kernel),
    }
}

fn denied(errno: Errno, peer: &Peer, encryption: &Encryption, share: &Share) -> Cause {
    let Encryption { file_system_id, access_point, iam, .. } = encryption;
    let path = &share.path;
    let who = match (&peer.identity, iam) {
        (Some(identity), true) => format!("the identity of {identity}"),
        (None, true) => "the identity that signed in".to_owned(),
        (_, false) => "an anonymous client (iam is false)".to_owned(),
    };
    let through = access_point.as_ref().map(|id| format!(" through {id}")).unwrap_or_default();
    let allow = match iam {
        true => {
            "allow elasticfilesystem:ClientMount to that identity, in the file system policy or in a \
             policy of its role"
        }
        false => {
            "set iam = true, or allow elasticfilesystem:ClientMount to everyone in the file system policy"
        }
    };
    let point = match access_point {
        Some(id) => format!(
            ", for elasticfilesystem:AccessPointArn of {id} if the policy has that condition; check that \
             {id} is of {file_system_id}"
        ),
        None => "; a policy that wants an access point needs `access_point`".to_owned(),
    };
    let clock = if *iam { ", and that the clock here is right" } else { "" };
    cause(
        Class::Permanent,
        format!("{file_system_id} denies {who} to mount {path}{through} ({errno:?})"),
        format!("{allow}{point}{clock}"),
    )
}

fn no_folder(errno: Errno, access_point: &str, share: &Share) -> Cause {
    if share.path == "/" {
        return cause(
            Class::Permanent,
            format!("the root folder of {access_point} does not exist ({errno:?})"),
            "make that folder on the file system, or make the access point anew with owner and \
             permissions for its root folder, so that EFS makes it",
        );
    }
    cause(
        Class::Permanent,
        format!("there is no {} below the root folder of {access_point} ({errno:?})", share.path),
        "correct `path`, which begins at the access point's root folder, or make that folder",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::encrypted_share as share;
    use std::net::IpAddr;
    use std::time::{Duration, UNIX_EPOCH};

    fn peer(identity: Option<&str>) -> Peer {
        Peer {
            address: "10.0.1.12".parse().unwrap(),
            version: "TLS 1.3".into(),
            cipher: "TLS13_AES_128_GCM_SHA256".into(),
            identity: identity.map(str::to_owned),
        }
    }

    fn after_handshake(errno: Errno, lines: &str, identity: Option<&str>) -> Cause {
        let address: IpAddr = "10.0.1.12".parse().unwrap();
        let failure = Failure::Encrypted(Box::new(Failure::Mount(address, errno)), peer(identity));
        explain(&failure, &share(lines), "5.10")
    }

    fn of(failure: TunnelFailure) -> Cause {
        explain(&Failure::Tunnel(failure), &share("iam = true\n"), "5.10")
    }

    #[test]
    fn a_refusal_after_a_good_handshake_names_the_identity_and_the_action() {
        let cause = after_handshake(
            Errno::EACCES,
            "iam = true\naccess_point = \"fsap-0123456789abcdef0\"\n",
            Some("profile appstream_machine_role, ASIAEXAMPLE"),
        );
        assert_eq!(cause.class, Class::Permanent);
        assert_eq!(
            cause.sentence,
            "fs-0123abcd denies the identity of profile appstream_machine_role, ASIAEXAMPLE to mount / \
             through fsap-0123456789abcdef0 (EACCES)"
        );
        assert_eq!(
            cause.cure,
            "allow elasticfilesystem:ClientMount to that identity, in the file system policy or in a \
             policy of its role, for elasticfilesystem:AccessPointArn of fsap-0123456789abcdef0 if the \
             policy has that condition; check that fsap-0123456789abcdef0 is of fs-0123abcd, and that \
             the clock here is right"
        );
        let cause = after_handshake(Errno::EACCES, "", None);
        assert_eq!(
            cause.sentence,
            "fs-0123abcd denies an anonymous client (iam is false) to mount / (EACCES)"
        );
        assert!(cause.cure.starts_with("set iam = true, or allow"), "{}", cause.cure);
    }

    #[test]
    fn a_folder_that_is_not_there_is_told_as_the_access_points_or_the_paths() {
        let point = "access_point = \"fsap-0123456789abcdef0\"\n";
        let cause = after_handshake(Errno::ENOENT, point, None);
        assert_eq!(cause.class, Class::Permanent);
        assert_eq!(
            cause.sentence,
            "the root folder of fsap-0123456789abcdef0 does not exist (ENOENT)"
        );
        let cause = after_handshake(Errno::ENOENT, &format!("{point}path = \"/a\"\n"), None);
        assert_eq!(
            cause.sentence,
            "there is no /a below the root folder of fsap-0123456789abcdef0 (ENOENT)"
        );
        let cause = after_handshake(Errno::ENOENT, "path = \"/a\"\n", None);
        assert_eq!(cause.sentence, "server 10.0.1.12 has no path /a (ENOENT)");
    }

    #[test]
    fn what_may_pass_is_waited_out_and_what_no_waiting_mends_ends_at_once() {
        use TunnelFailure as F;
        let name = || F::CertificateName {
            wanted: "a".into(),
            presented: vec!["fs-1.efs.eu-west-1.amazonaws.com".into()],
        };
        let times = (UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1));
        for failure in [
            F::NoTunnel(Errno::ECONNREFUSED),
            F::NoMeans(Errno::EMFILE),
            F::MakingKey,
            F::Name("a".into()),
            F::Reach("a".into()),
            F::Credentials("a".into()),
            F::NotYetValid { not_before: times.1, now: times.0 },
            F::Alert("internal_error".into()),
            F::Alert("certificate_expired".into()),
            F::Closed,
            F::Silent(Duration::from_secs(3)),
            F::Dropped,
            F::Mute(Duration::from_secs(3)),
        ] {
            assert!(of(failure.clone()).is_temporary(), "{failure:?}");
        }
        for failure in [
            name(),
            F::UnknownIssuer,
            F::Expired { not_after: times.0, now: times.1 },
            F::CaShown,
            F::Certificate("a".into()),
            F::Alert("handshake_failure".into()),
            F::Alert("access_denied".into()),
            F::Incompatible("a".into()),
            F::NotTls,
            F::Trust("a".into()),
            F::Profile("a".into()),
            F::Changeable { what: "a".into(), mend: "b".into() },
        ] {
            assert_eq!(of(failure.clone()).class, Class::Permanent, "{failure:?}");
        }
        assert_eq!(of(F::Key("a".into())).class, Class::Fault);
        assert_eq!(
            of(name()).cure,
            "check `endpoint` and `addresses`: they lead to another file system or region"
        );
        assert!(explain(&Failure::NoTunnel("x".into()), &share(""), "").is_temporary());
    }

    #[test]
    fn a_port_that_another_program_has_is_told_with_its_key_and_how_to_find_the_other() {
        let cause = explain(&Failure::TunnelPort(2050), &share("tunnel_port = 2050\n"), "5.10");
        assert_eq!(cause.class, Class::Temporary);
        assert_eq!(
            cause.sentence,
            "the tunnel for encryption in transit cannot be started: another program listens on its \
             port, 2050 of 127.0.0.1"
        );
        assert_eq!(
            cause.cure,
            "leave `tunnel_port` out to have a free port, or name another in it; who holds this one: \
             sudo ss -ltnp 'sport = :2050'"
        );
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_with_both_times() {
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        let cause =
            of(TunnelFailure::Expired { not_after: at(1_800_000_000), now: at(1_900_000_000) });
        assert_eq!(
            cause.sentence,
            "the server's certificate expired at 2027-01-15T08:00:00Z, and the clock here says \
             2030-03-17T17:46:40Z"
        );
        assert!(
            cause.cure.starts_with("if the clock here is wrong, have it set"),
            "{}",
            cause.cure
        );
    }

    #[test]
    fn a_file_that_others_can_change_has_one_cure() {
        let what = "/c is not read, since others than root can change it: /c has mode 0666".into();
        let cause = of(TunnelFailure::Changeable { what, mend: "chmod go-w /c".into() });
        assert!(cause.sentence.ends_with("/c has mode 0666"), "{}", cause.sentence);
        assert_eq!(cause.cure, "chmod go-w /c");
        let cause = of(TunnelFailure::Profile("it is half".into()));
        assert!(cause.cure.starts_with("correct that profile in root's ~/.aws"), "{}", cause.cure);
    }

    #[test]
    fn credentials_name_the_profile_if_one_was_asked_for() {
        let explained = |lines: &str| {
            let failure = Failure::Tunnel(TunnelFailure::Credentials("none".into()));
            explain(&failure, &share(lines), "").cure
        };
        assert!(explained("iam = true\n").starts_with("attach an IAM role to the fleet"));
        assert!(
            explained("iam = true\naws_profile = \"x\"\n")
                .starts_with("check the profile x in root's")
        );
        assert_eq!(
            explained("iam = true\naws_environment = true\n"),
            "set AWS's variables where the tunnel has them from (with systemd a drop-in of \
             efs-agent-tunnel@.service: see efs-agent.toml(5), Environment variables), and run `sudo \
             efs-agent unmount` when nobody works in a share; or attach an IAM role to the fleet (or image builder), or name a profile of \
             root's ~/.aws/credentials in `aws_profile`"
        );
    }

    #[test]
    fn a_service_that_gives_no_credentials_has_a_cure_of_its_own_for_each_trouble() {
        let explained = |service, trouble, lines: &str| {
            let what = "no credentials: it answered 503".to_owned();
            let failure = Failure::Tunnel(TunnelFailure::Service { what, service, trouble });
            let cause = explain(&failure, &share(lines), "");
            assert!(cause.is_temporary());
            assert_eq!(cause.sentence, "no credentials: it answered 503");
            cause.cure
        };
        let (iam, named) = ("iam = true\n", "iam = true\naws_profile = \"x\"\n");
        assert_eq!(
            explained(Service::Metadata, Trouble::Unreachable, named),
            "see that a route leads to 169.254.169.254 (ip route get 169.254.169.254), that no firewall of \
             the machine is before it, and that the instance's metadata service is on"
        );
        let last = explained(Service::Metadata, Trouble::Unreachable, iam);
        assert!(
            last.starts_with("attach an IAM role to the fleet (or image builder), or"),
            "{last}"
        );
        assert!(
            last.contains("; for the role of an EC2 instance, see that a route leads"),
            "{last}"
        );
        assert_eq!(
            explained(Service::Sts, Trouble::Unreachable, iam),
            "open a way to sts.eu-west-1.amazonaws.com, TCP 443: an interface VPC endpoint for sts with \
             private DNS, whose security group lets this machine in, or a NAT gateway"
        );
        assert_eq!(
            explained(Service::Sts, Trouble::Failing, iam),
            "look for a fault of STS in eu-west-1 (AWS Health Dashboard)"
        );
        assert!(explained(Service::Sts, Trouble::Throttled, iam).starts_with("too many roles are"));
        let mut all = std::collections::BTreeSet::new();
        for service in Service::ALL {
            all.extend(Trouble::ALL.map(|trouble| explained(service, trouble, named)));
        }
        // Of the container three go to its log, and the metadata service knows no TLS.
        assert_eq!(all.len(), 12, "{all:#?}");
    }
}
