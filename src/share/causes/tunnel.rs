//! What it means that there is no encrypted connection, or that what was
//! mounted through a good one was refused. Part of the one place that explains.

use super::{BY_ADDRESS, Cause, Class, SECURITY_GROUP, cause, explain};
use crate::aws::credentials::{Service, Trouble, odd_in, profile_in};
use crate::config::Share;
use crate::config::encryption::{Encryption, Trust};
use crate::partitions::dns_suffix;
use crate::share::Failure;
use crate::text::word;
use crate::tunnel::protocol::{Peer, TunnelError};
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
pub(super) fn failed(failure: &TunnelError, share: &Share) -> Cause {
    use TunnelError as F;
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
        F::Reach(why) => (Class::Temporary, unreached(why).to_owned()),
        F::Credentials(_) => (Class::Temporary, credentials(share)),
        F::Service { service, trouble, .. } => {
            (class_of(*service, *trouble, share), in_trouble(*service, *trouble, share))
        }
        F::Source { mend, lasts, .. } => {
            (if *lasts { Class::Permanent } else { Class::Temporary }, mend.clone())
        }
        // The name may get an address yet, and then nothing of this matters.
        F::Undiscovered { what, why } => {
            let Cause { sentence, cure, .. } = failed(why, share);
            return cause(Class::Temporary, format!("{what}; {sentence}"), cure);
        }
        // The command is the cure, and is said once.
        F::Changeable { what, mend } => {
            return cause(Class::Permanent, what.clone(), mend.clone());
        }
        F::CertificateName { presented, .. } => (
            Class::Permanent,
            match presented.iter().any(|name| name.contains(".efs.")) {
                true => "check `endpoint` and `addresses`: they lead to another file system or region; or \
                         else `file_system_id`, `region` and `tls_name`, if they are there"
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
            format!(
                "check that `file_system_id`, `access_point` and the file system policy let this client in{}, \
                 and the server behind the TLS end",
                match share.encryption.as_ref().is_some_and(|e| e.iam) {
                    true => ", that the credentials are right",
                    false => "",
                }
            ),
        ),
        F::Mute(_) => {
            (Class::Temporary, "check that what is behind the TLS end is an NFS server, not hung".into())
        }
        F::Trust(_) => (
            Class::Permanent,
            match share.encryption.as_ref().map(|e| &e.trust) {
                Some(Trust::System) => {
                    "install the certificates that the system trusts (the package ca-certificates), or name \
                     a PEM file in `trust`"
                        .into()
                }
                _ => "correct `trust`: a PEM file that root alone can change, \"system\" or \"amazon\""
                    .to_owned(),
            },
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

/// What helps where no address answers the tunnel, by the words of [`crate::net::reach`].
fn unreached(why: &str) -> &'static str {
    if why.contains("timed out") {
        SECURITY_GROUP
    } else if why.contains("was refused") {
        "check that `endpoint` names an EFS file system, and that a server runs there"
    } else {
        "check this machine's subnet and route tables, and that they lead to the file system's VPC"
    }
}

/// Whether a service's trouble may pass by itself.
fn class_of(service: Service, trouble: Trouble, share: &Share) -> Class {
    use Trouble as T;
    match (service, trouble) {
        // Asked last, where nothing else is there: the profile of the fleet may be written yet.
        (Service::Metadata, _) if !names_profile(share) => Class::Temporary,
        (Service::Metadata, T::Denied | T::Untrusted) => Class::Permanent,
        (
            Service::Sts | Service::WebIdentity,
            T::Denied | T::Keys | T::Secret | T::Region | T::Token | T::Parameters,
        )
        | (Service::Sts, T::Expired) => Class::Permanent,
        _ => Class::Temporary,
    }
}

/// What to do about a service that gives no credentials.
fn in_trouble(service: Service, trouble: Trouble, share: &Share) -> String {
    match service {
        Service::Metadata => match names_profile(share) || trouble == Trouble::Untrusted {
            true => of_metadata(trouble).to_owned(),
            // It is asked last, where nothing else is there.
            false => format!(
                "{}; for the role of an EC2 instance, {}",
                credentials(share),
                of_metadata(trouble)
            ),
        },
        Service::Sts | Service::WebIdentity | Service::Efs => of_api(service, trouble, share),
        Service::Container => of_container(trouble).to_owned(),
    }
}

fn of_metadata(trouble: Trouble) -> &'static str {
    use Trouble as T;
    match trouble {
        T::Unreachable => {
            "see that a route leads to 169.254.169.254 (ip route get 169.254.169.254), that no firewall \
             of the machine is before it, and that the instance's metadata service is on"
        }
        T::Denied => {
            "have the instance's metadata service turned on (HttpEndpoint=enabled), with version 2"
        }
        T::Throttled => "find what on this machine asks 169.254.169.254 so often, and stop it",
        T::Untrusted => {
            "let EC2 assume the instance's role: its trust policy must allow sts:AssumeRole to the service \
             ec2.amazonaws.com, and the role must not have been deleted or made anew since the instance got it; the \
             instance sees that when it next renews them"
        }
        _ => {
            "see that nothing stands in for 169.254.169.254 on this machine (a proxy, a route); if it \
             is the instance's own, stop and start the instance"
        }
    }
}

fn of_container(trouble: Trouble) -> &'static str {
    use Trouble as T;
    match trouble {
        T::Unreachable => {
            "see that what AWS_CONTAINER_CREDENTIALS_… names runs, and that a route leads to it"
        }
        T::Denied => {
            "check the token in AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN"
        }
        _ => "see the log of what AWS_CONTAINER_CREDENTIALS_… names",
    }
}

/// Of AWS's APIs: STS, which hands out roles, and that of EFS, which tells the mount targets.
fn of_api(service: Service, trouble: Trouble, share: &Share) -> String {
    use Trouble as T;
    const CLOCK: &str = "the clock here is wrong: have it set (chronyc makestep; timedatectl)";
    let region = share.encryption.as_ref().map_or("", |e| e.region.as_str());
    let suffix = dns_suffix(region);
    let is_efs = service == Service::Efs;
    let (name, short) = if is_efs { ("elasticfilesystem", "EFS's API") } else { ("sts", "STS") };
    let cure = match trouble {
        T::Unreachable => format!(
            "open a way to {name}.{region}.{suffix}, TCP 443: an interface VPC endpoint for {name} with private \
             DNS, whose security group lets this machine in, or a NAT gateway; efs-agent uses no proxy \
             (HTTPS_PROXY does not count)"
        ),
        T::Throttled if is_efs => {
            "EFS's API is asked too often in this account: have sessions start less close together".to_owned()
        }
        T::Throttled => {
            "too many roles are assumed at once in this account: have sessions start less close together, \
             or do without role_arn: give the fleet itself the role"
                .to_owned()
        }
        T::Tls => format!(
            "see that nothing on the way decrypts TLS to {short}, unless the system trusts its root, and that \
             the clock here is right (chronyc tracking; timedatectl)"
        ),
        T::Denied if is_efs => {
            "allow elasticfilesystem:DescribeMountTargets to that identity, in a policy of its role or user (and \
             in the policy of the VPC endpoint, if there is one)"
                .to_owned()
        }
        T::Denied if service == Service::WebIdentity => {
            "allow sts:AssumeRoleWithWebIdentity in the role's trust policy to that identity provider, with \
             conditions (aud, sub) that the token meets"
                .to_owned()
        }
        T::Denied => {
            "allow sts:AssumeRole to whoever assumes the role, in the role's trust policy (with its external_id, \
             if it wants one) and in a policy of their own; no policy of the organization or of a VPC endpoint \
             may deny it"
                .to_owned()
        }
        T::Keys => format!(
            "correct the keys that have signed: AWS does not know them (deleted, turned off, cut off in copying, \
             or without their aws_session_token), or not in {region}, if the account has not turned that region on"
        ),
        T::Secret => {
            "correct aws_secret_access_key where those keys are from: it is not the one of that access key"
                .to_owned()
        }
        T::Expired if service == Service::WebIdentity => {
            "the token in web_identity_token_file (or AWS_WEB_IDENTITY_TOKEN_FILE) is old: see why what writes it \
             has stopped; if the clock of that is wrong, have it set"
                .to_owned()
        }
        T::Expired => {
            "put new keys, with their aws_session_token, where those have expired; or take a source that is \
             renewed without a person (credential_process, a role)"
                .to_owned()
        }
        T::Stale => {
            "see why what renews the keys that have signed has stopped (on AppStream its agent does so each hour)"
                .to_owned()
        }
        T::Clock => CLOCK.to_owned(),
        T::Region if is_efs => {
            format!("turn on the region {region} for the account (Account, AWS Regions, in the console)")
        }
        T::Region => format!(
            "activate STS for {region} in the account that the identity is of (IAM, Account settings, Security \
             Token Service); a region that is off by default must be turned on for the account first"
        ),
        T::Token => {
            "see that the token is of the identity provider that the role's trust policy names, for that audience, \
             and that IAM has that provider"
                .to_owned()
        }
        T::Provider => {
            "see that the identity provider's OpenID Connect address answers from the internet: STS asks it for its \
             keys"
                .to_owned()
        }
        T::Parameters if is_efs => "correct `file_system_id`".to_owned(),
        T::Parameters => {
            "correct what STS names there: role_arn, role_session_name, external_id or duration_seconds (no longer \
             than the role's maximum, and one hour where a role assumes a role)"
                .to_owned()
        }
        T::Missing => format!(
            "correct `file_system_id` and `region`: the account of that identity has no such file system in \
             {region}; of another account's, write the whole ARN into `file_system_id`, and allow \
             elasticfilesystem:DescribeMountTargets in its policy"
        ),
        T::Empty => format!(
            "make a mount target for the file system in this machine's VPC, or wait until it is available; {BY_ADDRESS}"
        ),
        T::Failing => return format!("look for a fault of {short} in {region} (AWS Health Dashboard)"),
        T::Refused | T::Untrusted => format!(
            "do what {short} says there; if those are not its words, see what answers in its place (a proxy, a portal)"
        ),
    };
    match (service, trouble) {
        (Service::Efs, T::Empty) => cure,
        (Service::Efs, _) => format!("{cure}; {BY_ADDRESS}"),
        _ => cure,
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
    let keys = match (iam, &peer.identity) {
        (true, Some(identity)) => right_keys(identity),
        _ => String::new(),
    };
    let more = match (iam, access_point) {
        (false, _) => String::new(),
        (true, Some(_)) => format!("{keys}, and that the clock here is right"),
        (true, None) if keys.is_empty() => "; check that the clock here is right".to_owned(),
        (true, None) => {
            format!("; check{}, and that the clock here is right", keys.trim_start_matches(','))
        }
    };
    cause(
        Class::Permanent,
        format!("{file_system_id} denies {who} to mount {path}{through} ({errno:?})"),
        format!("{allow}{point}{more}"),
    )
}

/// What else it may be, for EFS tells keys that are wrong from those that lack a right to nobody. What a service has
/// just given is right.
fn right_keys(identity: &str) -> String {
    if odd_in(identity).is_some() {
        return ", that its keys are whole".to_owned();
    }
    match profile_in(identity) {
        Some(profile) => format!(
            ", that its keys are right and have not expired (where the AWS CLI is: sudo aws sts get-caller-identity \
             --profile {})",
            word(profile)
        ),
        None if identity.starts_with("the environment") => {
            ", that its keys are right and have not expired".to_owned()
        }
        None => String::new(),
    }
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

    fn of(failure: TunnelError) -> Cause {
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
        use TunnelError as F;
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
            F::Source { what: "a".into(), mend: "b".into(), lasts: false },
            F::Undiscovered {
                what: "a".into(),
                why: Box::new(F::Source { what: "b".into(), mend: "c".into(), lasts: true }),
            },
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
            F::Source { what: "a".into(), mend: "b".into(), lasts: true },
            F::Changeable { what: "a".into(), mend: "b".into() },
        ] {
            assert_eq!(of(failure.clone()).class, Class::Permanent, "{failure:?}");
        }
        assert_eq!(of(F::Key("a".into())).class, Class::Fault);
        assert_eq!(
            of(name()).cure,
            "check `endpoint` and `addresses`: they lead to another file system or region; or else \
             `file_system_id`, `region` and `tls_name`, if they are there"
        );
        assert!(explain(&Failure::NoTunnel("x".into()), &share(""), "").is_temporary());
    }

    #[test]
    fn a_port_that_another_program_has_is_told_with_its_key_and_how_to_find_the_other() {
        let cause = explain(&Failure::TunnelPort(850), &share("tunnel_port = 850\n"), "5.10");
        assert_eq!(cause.class, Class::Temporary);
        assert_eq!(
            cause.sentence,
            "the tunnel for encryption in transit cannot be started: another program listens on its \
             port, 850 of 127.0.0.1"
        );
        assert_eq!(
            cause.cure,
            "leave `tunnel_port` out to have a free port, or name another in it; who holds this one: \
             sudo ss -ltnp 'sport = :850'"
        );
    }

    #[test]
    fn a_clock_that_is_wrong_is_told_with_both_times() {
        let at = |n| UNIX_EPOCH + Duration::from_secs(n);
        let cause =
            of(TunnelError::Expired { not_after: at(1_800_000_000), now: at(1_900_000_000) });
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
        let cause = of(TunnelError::Changeable { what, mend: "chmod go-w /c".into() });
        assert!(cause.sentence.ends_with("/c has mode 0666"), "{}", cause.sentence);
        assert_eq!(cause.cure, "chmod go-w /c");
        let mend = "correct line 2 of /c".to_owned();
        let cause = of(TunnelError::Source { what: "it is half".into(), mend, lasts: true });
        assert_eq!(
            (cause.sentence.as_str(), cause.cure.as_str()),
            ("it is half", "correct line 2 of /c")
        );
    }

    #[test]
    fn credentials_name_the_profile_if_one_was_asked_for() {
        let explained = |lines: &str| {
            let failure = Failure::Tunnel(TunnelError::Credentials("none".into()));
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

    fn in_trouble(service: Service, trouble: Trouble, lines: &str) -> Cause {
        let what = "no credentials: it answered 503".to_owned();
        let failure = Failure::Tunnel(TunnelError::Service { what, service, trouble });
        let cause = explain(&failure, &share(lines), "");
        assert_eq!(cause.sentence, "no credentials: it answered 503");
        cause
    }

    const IAM: &str = "iam = true\n";
    const NAMED: &str = "iam = true\naws_profile = \"x\"\n";

    #[test]
    fn a_service_that_gives_no_credentials_has_a_cure_of_its_own_for_each_trouble() {
        let explained = |service, trouble, lines: &str| {
            let cause = in_trouble(service, trouble, lines);
            assert!(cause.is_temporary());
            cause.cure
        };
        assert_eq!(
            explained(Service::Metadata, Trouble::Unreachable, NAMED),
            "see that a route leads to 169.254.169.254 (ip route get 169.254.169.254), that no firewall of \
             the machine is before it, and that the instance's metadata service is on"
        );
        let last = explained(Service::Metadata, Trouble::Unreachable, IAM);
        assert!(
            last.starts_with("attach an IAM role to the fleet (or image builder), or"),
            "{last}"
        );
        assert!(
            last.contains("; for the role of an EC2 instance, see that a route leads"),
            "{last}"
        );
        // It has a role, which is the fault: to attach one is no cure.
        assert!(
            explained(Service::Metadata, Trouble::Untrusted, IAM)
                .starts_with("let EC2 assume the instance's role: its trust policy")
        );
        assert_eq!(
            explained(Service::Sts, Trouble::Unreachable, IAM),
            "open a way to sts.eu-west-1.amazonaws.com, TCP 443: an interface VPC endpoint for sts with \
             private DNS, whose security group lets this machine in, or a NAT gateway; efs-agent uses no \
             proxy (HTTPS_PROXY does not count)"
        );
        assert_eq!(
            explained(Service::Sts, Trouble::Failing, IAM),
            "look for a fault of STS in eu-west-1 (AWS Health Dashboard)"
        );
        assert!(explained(Service::Sts, Trouble::Throttled, IAM).starts_with("too many roles are"));
    }

    #[test]
    fn each_refusal_of_sts_has_a_class_and_a_cure_of_its_own() {
        use Trouble as T;
        for (trouble, class, start) in [
            (
                T::Denied,
                Class::Permanent,
                "allow sts:AssumeRole to whoever assumes the role, in the",
            ),
            (T::Region, Class::Permanent, "activate STS for eu-west-1 in the account that the"),
            (
                T::Keys,
                Class::Permanent,
                "correct the keys that have signed: AWS does not know them",
            ),
            (
                T::Secret,
                Class::Permanent,
                "correct aws_secret_access_key where those keys are from",
            ),
            (T::Expired, Class::Permanent, "put new keys, with their aws_session_token, where"),
            (
                T::Stale,
                Class::Temporary,
                "see why what renews the keys that have signed has stopped",
            ),
            (T::Clock, Class::Temporary, "the clock here is wrong: have it set (chronyc makestep;"),
            (T::Parameters, Class::Permanent, "correct what STS names there: role_arn,"),
            (T::Refused, Class::Temporary, "do what STS says there; if those are not its words"),
        ] {
            let cause = in_trouble(Service::Sts, trouble, NAMED);
            assert_eq!(cause.class, class, "{trouble:?}");
            assert!(cause.cure.starts_with(start), "{trouble:?}: {}", cause.cure);
            // Only where that is the matter.
            assert_eq!(cause.cure.contains("clock"), trouble == T::Clock, "{}", cause.cure);
        }
        for (trouble, class, start) in [
            (
                T::Denied,
                Class::Permanent,
                "allow sts:AssumeRoleWithWebIdentity in the role's trust",
            ),
            (T::Expired, Class::Temporary, "the token in web_identity_token_file (or AWS_WEB_"),
            (T::Token, Class::Permanent, "see that the token is of the identity provider that the"),
            (
                T::Provider,
                Class::Temporary,
                "see that the identity provider's OpenID Connect address",
            ),
        ] {
            let cause = in_trouble(Service::WebIdentity, trouble, NAMED);
            assert_eq!(cause.class, class, "{trouble:?}");
            assert!(cause.cure.starts_with(start), "{trouble:?}: {}", cause.cure);
        }
        // The profile of the fleet may come yet, but not where another is named.
        for trouble in [T::Denied, T::Untrusted] {
            assert!(in_trouble(Service::Metadata, trouble, IAM).is_temporary());
            assert!(!in_trouble(Service::Metadata, trouble, NAMED).is_temporary());
        }
    }

    #[test]
    fn what_keeps_efs_from_telling_its_mount_targets_has_its_own_cure_while_the_name_is_waited_for()
    {
        let explained = |trouble| {
            let what = "the mount targets of fs-1 cannot be listed: it answered 403".to_owned();
            let why = TunnelError::Service { what, service: Service::Efs, trouble };
            let what = "the name x does not resolve: no such name".to_owned();
            of(TunnelError::Undiscovered { what, why: Box::new(why) })
        };
        let cause = explained(Trouble::Denied);
        assert_eq!(cause.class, Class::Temporary);
        assert_eq!(
            cause.sentence,
            "the name x does not resolve: no such name; the mount targets of fs-1 cannot be listed: it \
             answered 403"
        );
        assert_eq!(
            cause.cure,
            "allow elasticfilesystem:DescribeMountTargets to that identity, in a policy of its role or user \
             (and in the policy of the VPC endpoint, if there is one); or list the mount targets' addresses \
             in `addresses`"
        );
        for (trouble, start) in [
            (
                Trouble::Missing,
                "correct `file_system_id` and `region`: the account of that identity has no",
            ),
            (
                Trouble::Unreachable,
                "open a way to elasticfilesystem.eu-west-1.amazonaws.com, TCP 443: an",
            ),
            (Trouble::Empty, "make a mount target for the file system in this machine's VPC, or"),
            (Trouble::Clock, "the clock here is wrong"),
            (Trouble::Failing, "look for a fault of EFS's API in eu-west-1"),
        ] {
            let cure = explained(trouble).cure;
            assert!(cure.starts_with(start), "{trouble:?}: {cure}");
        }
        // Credentials that are wrong have the cure of these.
        let why = TunnelError::Source { what: "slip".into(), mend: "mend it".into(), lasts: true };
        let cause = of(TunnelError::Undiscovered { what: "no name".into(), why: Box::new(why) });
        assert_eq!((cause.sentence.as_str(), cause.cure.as_str()), ("no name; slip", "mend it"));
    }

    #[test]
    fn an_address_that_does_not_answer_the_tunnel_has_the_cure_of_what_it_did() {
        let cure = |why: &str| of(TunnelError::Reach(why.into())).cure;
        assert_eq!(
            cure("TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s)"),
            SECURITY_GROUP
        );
        assert!(
            cure("TCP 2049 to 10.0.0.1 was refused (nothing listens there)")
                .starts_with("check that `endpoint` names an EFS")
        );
        assert!(
            cure("TCP 2049 to 10.0.0.1 failed: there is no route to it (ENETUNREACH)")
                .starts_with("check this machine's subnet and route tables")
        );
    }

    #[test]
    fn a_refusal_of_keys_from_a_profile_has_the_second_possibility() {
        let cure = |lines: &str, who: &str| after_handshake(Errno::EACCES, lines, Some(who)).cure;
        let allow = "allow elasticfilesystem:ClientMount to that identity, in the file system policy or in a \
                     policy of its role";
        let of_profile = "that its keys are right and have not expired (where the AWS CLI is: sudo aws sts \
                          get-caller-identity --profile";
        let point = "; a policy that wants an access point needs `access_point`";
        let file = "of /root/.aws/credentials, access key AKIDEXAMPLE";
        assert_eq!(
            cure(IAM, &format!("profile \"default\" {file}")),
            format!(
                "{allow}{point}; check that its keys are right and have not expired (where the AWS CLI is: \
                     sudo aws sts get-caller-identity --profile default), and that the clock here is right"
            )
        );
        let two = cure(IAM, &format!("profile \"two words\" {file}"));
        assert!(two.contains(&format!("{of_profile} 'two words')")), "{two}");
        // What a service has just given is right.
        for who in [
            "role \"r\" of this instance (IMDSv2), access key ASIA",
            "role arn:x by source profile \"a\", access key ASIA",
        ] {
            assert_eq!(
                cure(IAM, who),
                format!("{allow}{point}; check that the clock here is right")
            );
        }
        let odd = "profile \"a\" of /c, access key AKIA (it has 4 characters, where AWS's have 20)";
        assert!(cure(IAM, odd).contains("; check that its keys are whole, and that the clock"));
        let access_point = "iam = true\naccess_point = \"fsap-0123456789abcdef0\"\n";
        let cure = cure(access_point, &format!("profile \"default\" {file}"));
        assert!(
            cure.ends_with(
                "; check that fsap-0123456789abcdef0 is of fs-0123abcd, that its keys are right and have not \
                 expired (where the AWS CLI is: sudo aws sts get-caller-identity --profile default), and that \
                 the clock here is right"
            ),
            "{cure}"
        );
    }
}
