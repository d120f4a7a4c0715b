//! The sentences and cures of a tunnel's failures, as a person reads them.

use super::*;
use crate::config::test::encrypted_share as share;
use crate::share::causes::{Cause, Class, explain};
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
    assert_eq!(cause.sentence, "the root folder of fsap-0123456789abcdef0 does not exist (ENOENT)");
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
    let cause = of(TunnelError::Expired { not_after: at(1_800_000_000), now: at(1_900_000_000) });
    assert_eq!(
        cause.sentence,
        "the server's certificate expired at 2027-01-15T08:00:00Z, and the clock here says \
         2030-03-17T17:46:40Z"
    );
    assert!(cause.cure.starts_with("if the clock here is wrong, have it set"), "{}", cause.cure);
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
        explained("iam = true\naws_profile = \"x\"\n").starts_with("check the profile x in root's")
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
    assert!(last.starts_with("attach an IAM role to the fleet (or image builder), or"), "{last}");
    assert!(last.contains("; for the role of an EC2 instance, see that a route leads"), "{last}");
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
        (T::Denied, Class::Permanent, "allow sts:AssumeRole to whoever assumes the role, in the"),
        (T::Region, Class::Permanent, "activate STS for eu-west-1 in the account that the"),
        (T::Keys, Class::Permanent, "correct the keys that have signed: AWS does not know them"),
        (T::Secret, Class::Permanent, "correct aws_secret_access_key where those keys are from"),
        (T::Expired, Class::Permanent, "put new keys, with their aws_session_token, where"),
        (T::Stale, Class::Temporary, "see why what renews the keys that have signed has stopped"),
        (T::Clock, Class::Temporary, "the clock here is wrong: have it set (chronyc makestep;"),
        (T::Parameters, Class::Permanent, "correct what STS names there: role_arn,"),
        (T::Refused, Class::Temporary, "do what STS says there; if those are not its words"),
    ] {
        let cause = in_trouble(Service::Sts, trouble, NAMED);
        assert_eq!(cause.class, class, "{trouble:?}");
        assert!(cause.cure.starts_with(start), "{trouble:?}: {}", cause.cure);
        // This is said only where it applies.
        assert_eq!(cause.cure.contains("clock"), trouble == T::Clock, "{}", cause.cure);
    }
    for (trouble, class, start) in [
        (T::Denied, Class::Permanent, "allow sts:AssumeRoleWithWebIdentity in the role's trust"),
        (T::Expired, Class::Temporary, "the token in web_identity_token_file (or AWS_WEB_"),
        (T::Token, Class::Permanent, "see that the token is of the identity provider that the"),
        (T::Provider, Class::Temporary, "see that the identity provider's OpenID Connect address"),
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
fn what_keeps_efs_from_telling_its_mount_targets_has_its_own_cure_while_the_name_is_waited_for() {
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
    // Wrong credentials have the cure for credentials.
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
    // Keys that a service has just given are right.
    for who in [
        "role \"r\" of this instance (IMDSv2), access key ASIA",
        "role arn:x by source profile \"a\", access key ASIA",
    ] {
        assert_eq!(cure(IAM, who), format!("{allow}{point}; check that the clock here is right"));
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
