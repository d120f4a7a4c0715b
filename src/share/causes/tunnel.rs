//! Words for a share without an encrypted connection, and for a mount that was refused through a
//! good one. Part of the one place that explains; no tunnel is asked here.

use super::{BY_ADDRESS, MachineFacts, SECURITY_GROUP, Words, words, words_for};
use crate::aws::credentials::{Service, Trouble, odd_in, profile_in};
use crate::config::Share;
use crate::config::encryption::{Encryption, TrustSource};
use crate::partitions::dns_suffix;
use crate::share::Failure;
use crate::text::word;
use crate::tunnel::protocol::{Peer, TunnelError};
use nix::errno::Errno;

/// Where a tunnel writes its own messages.
const LOG: &str = "see the tunnel's lines in the system's log (journalctl -t efs-agent)";

/// A tunnel that could not be started.
pub(super) fn not_started(why: &str) -> Words {
    words(format!("the tunnel for encryption in transit cannot be started: {why}"), LOG)
}

/// A tunnel whose port another program holds.
pub(super) fn port_taken(port: u16) -> Words {
    words(
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
pub(super) fn failed(failure: &TunnelError, share: &Share) -> Words {
    use TunnelError as F;
    let cure = match failure {
                F::NoTunnel(_) => LOG.to_owned(),
        F::MakingKey => format!(
                "start it again: it is made once a boot, in a second or two on a machine that is not busy; to \
                 have it before the session starts, enable efs-agent-tunnels.service; if it is never made, {LOG}"
            ),
        F::NoMeans(_) => {
            "check the machine's limits on descriptors and memory".into()
        }
        F::Name(_) => format!(
                "the network interface may not be attached yet; else check the spelling of `endpoint` \
                 and the VPC's DNS, {BY_ADDRESS}"
            ),
        F::Reach(why) => unreached(why).to_owned(),
        F::Credentials(_) => credentials(share),
        F::Service { service, trouble, .. } => {
            in_trouble(*service, *trouble, share)
        }
        F::Source { mend, .. } => {
            mend.clone()
        }
        F::Undiscovered { what, why } => {
            let Words { sentence, cure } = failed(why, share);
            return words(format!("{what}; {sentence}"), cure);
        }
        // The cure is the command itself, and is said once.
        F::Changeable { what, mend } => {
            return words(what.clone(), mend.clone());
        }
        F::CertificateName { presented, .. } => match presented.iter().any(|name| name.contains(".efs.")) {
                true => "check `endpoint` and `addresses`: they lead to another file system or region; or \
                         else `file_system_id`, `region` and `tls_name`, if they are there"
                    .into(),
                false => "check `endpoint` and `addresses`; if the server is a stand-in for EFS, name \
                          it in `tls_name`"
                    .to_owned(),
            },
        F::UnknownIssuer => issuer(share),
        F::Expired { .. } => "if the clock here is wrong, have it set (chronyc makestep; timedatectl); else the server \
             needs a new certificate"
                .to_owned(),
        F::NotYetValid { .. } => "the clock here is slow, or not set yet: check chronyd (chronyc tracking; timedatectl)"
                .to_owned(),
        F::CaShown => "give it a certificate that was issued by a CA, and name that CA in `trust`".into(),
        F::Certificate(_) => "check that `endpoint` names an EFS file system, or else the server's certificate".into(),
        F::Alert(name) => alert(name).to_owned(),
        F::Incompatible(_) => "check that `endpoint` names an EFS file system, or else that the server takes TLS 1.2 or 1.3 \
             with ECDHE and AES-GCM"
                .to_owned(),
        F::NotTls => "check `endpoint`: an NFS server that is not EFS needs a TLS end of its own, or \
             encryption_in_transit = false"
                .to_owned(),
        F::Closed => "check `endpoint`: an NFS server without TLS does this; and whether the file system was just \
             made, or the server is overloaded"
                .to_owned(),
        F::Silent(_) => "look for a firewall, network ACL or MTU mismatch on the way that swallows larger packets, \
             and at the server's load"
                .to_owned(),
        F::Dropped => format!(
                "check that `file_system_id`, `access_point` and the file system policy let this client in{}, \
                 and the server behind the TLS end",
                match share.encryption.as_ref().is_some_and(|e| e.iam) {
                    true => ", that the credentials are right",
                    false => "",
                }
            ),
        F::Mute(_) => {
            "check that what is behind the TLS end is an NFS server, not hung".into()
        }
        F::Trust(_) => match share.encryption.as_ref().map(|e| &e.trust) {
                Some(TrustSource::System) => {
                    "install the certificates that the system trusts (the package ca-certificates), or name \
                     a PEM file in `trust`"
                        .into()
                }
                _ => "correct `trust`: a PEM file that root alone can change, \"system\" or \"amazon\""
                    .to_owned(),
            },
        F::Key(_) => {
            "check that /run has room and that root can write there".to_owned()
        }
        // This is never handed on as a tunnel's failure.
        F::Stopped(_) => "start it again".to_owned(),
    };

    words(failure.to_string(), cure)
}

fn alert(name: &str) -> &'static str {
    match name {
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
    }
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
        // Variables that are set where efs-agent is started by hand do not reach what systemd
        // starts.
        None if share.encryption.as_ref().is_some_and(|e| e.aws_environment) => format!(
            "set AWS's variables where the tunnel has them from (with systemd a drop-in of \
             efs-agent-tunnel@.service: see efs-agent.toml(5), Environment variables), and run `sudo \
             efs-agent unmount` when nobody works in a share; or {ROLE}"
        ),
        None => ROLE.to_owned(),
    }
}

/// What helps where no address answers the tunnel. It goes by the words of [`crate::net::reach`],
/// which are all that the tunnel hands on.
fn unreached(why: &str) -> &'static str {
    if why.contains("timed out") {
        SECURITY_GROUP
    } else if why.contains("was refused") {
        "check that `endpoint` names an EFS file system, and that a server runs there"
    } else {
        "check this machine's subnet and route tables, and that they lead to the file system's VPC"
    }
}

/// What to do about a service that gives no credentials.
fn in_trouble(service: Service, trouble: Trouble, share: &Share) -> String {
    match service {
        Service::Metadata => match names_profile(share) || trouble == Trouble::Untrusted {
            true => of_metadata(trouble).to_owned(),
            // This service is asked last, where there is no other source.
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

/// What to do about AWS's APIs: STS, which hands out roles, and that of EFS, which lists the mount targets.
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
        Some(TrustSource::System) => {
            "add the issuer's root to those that the system trusts, or name a PEM file in `trust`".into()
        }
        Some(TrustSource::File(path)) => {
            format!("put the issuer's root into {}, or correct `trust`", path.display())
        }
        _ => "check that `endpoint` names an EFS file system, and that nothing on the way decrypts TLS; for \
              another server, name its root in `trust`"
            .to_owned(),
    }
}

/// What came of a mount after a good handshake with `peer`.
pub(super) fn refused(
    failure: &Failure,
    peer: &Peer,
    share: &Share,
    facts: &MachineFacts,
) -> Words {
    let Some(encryption) = &share.encryption else {
        return words_for(failure, share, facts);
    };
    match failure {
        Failure::Mount(_, errno @ (Errno::EACCES | Errno::EPERM)) => {
            denied(*errno, peer, encryption, share)
        }
        Failure::Mount(_, errno @ Errno::ENOENT) => match &encryption.access_point {
            Some(access_point) => no_folder(*errno, access_point, share),
            None => words_for(failure, share, facts),
        },
        _ => words_for(failure, share, facts),
    }
}

fn denied(errno: Errno, peer: &Peer, encryption: &Encryption, share: &Share) -> Words {
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

    let condition = match access_point {
        Some(id) => {
            format!(
                ", for elasticfilesystem:AccessPointArn of {id} if the policy has that condition"
            )
        }
        None => "; a policy that wants an access point needs `access_point`".to_owned(),
    };

    let mut checks = Vec::new();
    checks.extend(access_point.as_ref().map(|id| format!("that {id} is of {file_system_id}")));
    if *iam {
        checks.extend(peer.identity.as_deref().and_then(keys_to_check));
        checks.push("that the clock here is right".to_owned());
    }
    let check = match checks.as_slice() {
        [] => String::new(),
        [one] => format!("; check {one}"),
        [first @ .., last] => format!("; check {}, and {last}", first.join(", ")),
    };

    words(
        format!("{file_system_id} denies {who} to mount {path}{through} ({errno:?})"),
        format!("{allow}{condition}{check}"),
    )
}

/// What may be wrong with the keys of `identity`. EFS does not distinguish wrong keys from keys
/// that lack a right. Keys that a service has just given are right.
fn keys_to_check(identity: &str) -> Option<String> {
    if odd_in(identity).is_some() {
        return Some("that its keys are whole".to_owned());
    }
    match profile_in(identity) {
        Some(profile) => Some(format!(
            "that its keys are right and have not expired (where the AWS CLI is: sudo aws sts get-caller-identity \
             --profile {})",
            word(profile)
        )),
        None if identity.starts_with("the environment") => {
            Some("that its keys are right and have not expired".to_owned())
        }
        None => None,
    }
}

fn no_folder(errno: Errno, access_point: &str, share: &Share) -> Words {
    if share.path == "/" {
        return words(
            format!("the root folder of {access_point} does not exist ({errno:?})"),
            "make that folder on the file system, or make the access point anew with owner and \
             permissions for its root folder, so that EFS makes it",
        );
    }

    words(
        format!("there is no {} below the root folder of {access_point} ({errno:?})", share.path),
        "correct `path`, which begins at the access point's root folder, or make that folder",
    )
}

#[cfg(test)]
mod tests;
