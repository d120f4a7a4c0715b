//! The sentences and cures of failures, as a person reads them; those of tunnels are in `tunnel/tests.rs`.

use super::*;
use crate::config::test::share;
use crate::kernel::route::Route;
use crate::net::names::NameError;
use crate::net::probe::NullCallAnswer;
use crate::net::reach::Problem;
use std::net::SocketAddr;
use std::time::Duration;

fn explained(failure: Failure) -> Cause {
    explain(&failure, &share("path = \"/home\""), "4.18.0-553")
}

fn address() -> IpAddr {
    "10.0.1.12".parse().unwrap()
}

#[test]
fn a_silent_port_2049_names_the_security_group() {
    let from = Some("10.0.3.4".parse().unwrap());
    let silent = Problem::Silent { span: Duration::from_secs(3), from };
    let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), silent)] };
    let cause = explained(Failure::Reach(error));
    assert!(cause.is_temporary());
    assert_eq!(
        cause.sentence,
        "TCP 2049 to 10.0.1.12 from 10.0.3.4 timed out (nothing came back for 3.0 s)"
    );
    assert_eq!(
        cause.cure,
        "the file system's security group must allow NFS (TCP 2049) from the fleet's security group (on an image builder: from the image builder's)"
    );
}

#[test]
fn a_silence_on_the_way_out_of_appstreams_own_network_names_that_network() {
    let from = Some("198.19.7.8".parse().unwrap());
    let silent = Problem::Silent { span: Duration::from_secs(3), from };
    let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), silent)] };
    let cure = explained(Failure::Reach(error)).cure;
    assert!(cure.starts_with("198.19.7.8 is of AppStream's management network, "), "{cure}");
}

fn explained_by(
    failure: &Failure,
    share: &Share,
    route: impl Fn(SocketAddr) -> Option<Route>,
) -> Cause {
    explain_with(failure, share, &MachineFacts::about(failure, String::new(), route))
}

/// The words where the kernel has this route to the server.
fn on(problem: Problem, name: &str, is_bridge: bool) -> Cause {
    let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), problem)] };
    let stopped = Failure::Stopped(Some(Failure::Reach(error.clone()).into()));
    let route = |to: SocketAddr| {
        assert_eq!(to, SocketAddr::new(address(), 2049));
        Some(Route { from: "10.0.3.4".parse().unwrap(), on: Some(name.into()), is_bridge })
    };
    let share = share("");
    let cause = explained_by(&Failure::Reach(error), &share, route);
    let killed = explained_by(&stopped, &share, route);
    assert!(killed.sentence.ends_with(&cause.sentence) && killed.cure == cause.cure);
    cause
}

#[test]
fn a_way_that_is_there_is_not_called_missing() {
    let Cause { sentence, cure, .. } = on(Problem::Errno(Errno::EHOSTUNREACH), "eth1", false);
    assert_eq!(
        sentence,
        "TCP 2049 to 10.0.1.12 failed: a route to it starts from 10.0.3.4 on eth1, but it was turned back on the \
         way, or nobody there has that address (EHOSTUNREACH)"
    );
    assert!(cure.contains("a firewall or router on the way that rejects it"), "{cure}");
    for errno in [Errno::ENETUNREACH, Errno::EACCES, Errno::EPERM] {
        let Cause { sentence, cure, .. } = on(Problem::Errno(errno), "eth1", false);
        assert!(sentence.contains("starts from 10.0.3.4 on eth1, but "), "{sentence}");
        assert!(cure.contains("firewall"), "{cure}");
    }
    // Nor is it said where the server itself rejects the connection.
    let refused = on(Problem::Errno(Errno::ECONNREFUSED), "eth1", false);
    assert!(refused.sentence.ends_with("was refused (nothing listens there)"));
    let error = ReachError::NoneAnswers {
        port: 2049,
        tried: vec![(address(), Problem::Errno(Errno::ENETUNREACH))],
    };
    let none = explained_by(&Failure::Reach(error), &share(""), |_| None);
    assert!(
        none.sentence.contains("there is no route to it") && none.cure.contains("route tables")
    );
}

#[test]
fn a_bridge_of_this_machine_that_covers_the_server_is_named() {
    let silent = Problem::Silent { span: Duration::from_secs(3), from: None };
    for problem in [silent, Problem::Errno(Errno::EHOSTUNREACH)] {
        let Cause { sentence, cure, .. } = on(problem, "docker0", true);
        let bridge =
            "the way to 10.0.1.12 starts from 10.0.3.4 on docker0, a bridge of this machine";
        assert!(sentence.ends_with(bridge), "{sentence}");
        assert!(
            cure.starts_with("the network of that bridge covers the server's address"),
            "{cure}"
        );
    }
    assert!(!on(silent, "eth1", false).sentence.contains("eth1"));
}

#[test]
fn a_path_on_a_server_that_is_not_efs_may_begin_at_its_fsid_0() {
    let missing = Failure::Mount(address(), Errno::ENOENT);
    assert!(explained(missing.clone()).cure.contains("fsid=0"));
    let efs = crate::config::test::encrypted_share("");
    assert!(!explain(&missing, &efs, "").cure.contains("fsid=0"));
}

#[test]
fn what_a_null_call_told_decides_between_a_hung_server_none_at_all_and_lost_packets() {
    let cut_off = Failure::CutOff(address(), Duration::from_secs(10));
    let broken = Failure::Mount(address(), Errno::EIO);
    for (failure, heard, sentence) in [
        (
            &cut_off,
            NullCallAnswer::Nfs,
            "server 10.0.1.12 answers an NFS NULL call, but did not finish the mount within 10.0 s",
        ),
        (
            &cut_off,
            NullCallAnswer::Nothing,
            "server 10.0.1.12 takes connections on TCP 2049, but answers nothing, not even an NFS NULL call",
        ),
        (
            &broken,
            NullCallAnswer::NotRpc,
            "what answers on TCP 2049 of 10.0.1.12 is not an NFS server",
        ),
        (
            &broken,
            NullCallAnswer::Nfs,
            "server 10.0.1.12 broke the mount off or gave no sensible answer (EIO), though it answers an NFS NULL call",
        ),
    ] {
        let cause = explained(Failure::Probed(failure.clone().into(), heard));
        assert!(cause.is_temporary());
        assert_eq!(cause.sentence, sentence);
    }
}

#[test]
fn network_errors_that_mount_nfs_holds_permanent_are_waited_out() {
    for errno in [
        Errno::ENETUNREACH,
        Errno::EHOSTUNREACH,
        Errno::ECONNRESET,
        Errno::EIO,
        Errno::ECONNREFUSED,
        Errno::ETIMEDOUT,
        Errno::EAGAIN,
        Errno::ESTALE,
        Errno::ENOMEM,
    ] {
        assert!(explained(Failure::Mount(address(), errno)).is_temporary(), "{errno:?}");
    }
    assert!(explained(Failure::Name(NameError::NoSuchName(address()))).is_temporary());
    assert!(explained(Failure::Name(NameError::NoServers("does not exist"))).is_temporary());
}

#[test]
fn a_port_below_1024_that_was_asked_for_in_vain_names_the_earlier_mount() {
    let refused = Failure::Mount(address(), Errno::EPERM);
    let cure = explained(refused.clone()).cure;
    assert!(cure.contains("add sec=sys; else put resvport into `options`, or export"), "{cure}");
    let cure = explain(&refused, &share("options = \"resvport\""), "4.18.0-553").cure;
    assert_eq!(
        cure,
        "export with sec=sys on the server. If it does: resvport is in `options`, but the kernel has put the share \
         onto the connection of an earlier mount of this server: unmount that, or give it resvport too; or export \
         with \"insecure\""
    );
}

#[test]
fn options_of_selinux_have_causes_of_their_own() {
    let labelled = share("options = 'context=\"system_u:object_r:nfs_t:s0:c1,c2\"'");
    let told = |failure: &Failure, share: &Share| explain(failure, share, "4.18.0-553");
    let off = told(&Failure::NoSelinux, &labelled);
    assert_eq!(off.class, Class::Permanent);
    assert_eq!(
        off.sentence,
        "this kernel (4.18.0-553) does not take context= (EINVAL): SELinux is off, or not in it"
    );
    assert!(
        off.cure.starts_with("take context= out of `options`, or have SELinux on"),
        "{}",
        off.cure
    );
    let invalid = Failure::Mount(address(), Errno::EINVAL);
    assert!(told(&invalid, &labelled).cure.starts_with("look at what SELinux says of it (dmesg)"));
    let busy = told(&Failure::Mount(address(), Errno::EBUSY), &labelled);
    assert!(
        busy.cure.contains("all its mounts may have to have the same context="),
        "{}",
        busy.cure
    );
    let young = share("options = \"softerr,max_connect=2\"");
    assert_eq!(
        told(&invalid, &young).cure,
        "take out of `options` what this kernel may not know (softerr, max_connect)"
    );
}

#[test]
fn what_no_waiting_mends_ends_at_once() {
    for errno in [
        Errno::EACCES,
        Errno::EPERM,
        Errno::ENOENT,
        Errno::ENOTDIR,
        Errno::EPROTONOSUPPORT,
        Errno::ENODEV,
        Errno::EINVAL,
        Errno::EBUSY,
    ] {
        assert_eq!(
            explained(Failure::Mount(address(), errno)).class,
            Class::Permanent,
            "{errno:?}"
        );
    }
    assert_eq!(
        explained(Failure::Mount(address(), Errno::ENOENT)).sentence,
        "server 10.0.1.12 has no path /home (ENOENT)"
    );
    assert_eq!(
        explained(Failure::Mount(address(), Errno::ENODEV)).sentence,
        "this kernel (4.18.0-553) has no NFS client (ENODEV)"
    );
    assert_eq!(explained(Failure::NoTable(Errno::ENOENT)).class, Class::Fault);
}

#[test]
fn an_automount_has_words_of_its_own_that_help_beyond_the_next_boot() {
    let taken = |source: &str, fstype: &str| {
        explained(Failure::Taken { source: source.into(), fstype: fstype.into() })
    };
    let systemd = taken("systemd-1", "autofs");
    assert_eq!(systemd.class, Class::Permanent);
    assert_eq!(
        systemd.sentence,
        "/mnt/efs_share is taken: an automount of systemd (systemd-1, autofs) is there"
    );
    assert_eq!(
        systemd.cure,
        "take the line out of /etc/fstab that has /mnt/efs_share (or disable mnt-efs_share.automount), then \
         sudo systemctl daemon-reload and sudo systemctl stop 'mnt-efs_share.automount', or give the share \
         another mount_point"
    );
    let other = taken("/etc/auto.nfs", "autofs");
    assert!(other.sentence.ends_with("an automount of autofs (/etc/auto.nfs, autofs) is there"));
    assert!(other.cure.contains("/etc/auto.master or the map /etc/auto.nfs"), "{}", other.cure);
    let tmpfs = taken("systemd-1", "tmpfs");
    assert!(tmpfs.sentence.ends_with("systemd-1 (tmpfs) is mounted there"));
    assert!(taken("127.0.0.1:/", "nfs4").cure.contains("amazon-efs-utils"));
    let share = share("mount_point = \"/mnt/Course Material\"");
    let mine = Failure::Taken { source: "mine".into(), fstype: "tmpfs".into() };
    let cure = explain(&mine, &share, "").cure;
    assert!(cure.starts_with("unmount it (umount '/mnt/Course Material'), "), "{cure}");
}

#[test]
fn what_a_mounted_shares_server_answers_is_waited_out_unless_it_lets_nobody_in() {
    let stale = explained(Failure::Unusable("10.0.1.12".into(), Errno::ESTALE));
    assert!(stale.is_temporary());
    assert_eq!(
        stale.sentence,
        "/mnt/efs_share is mounted already from 10.0.1.12, but its folder is gone from the server, or was made \
         anew there (ESTALE)"
    );
    let io = explained(Failure::BadRoot(address(), Errno::EIO));
    assert!(io.is_temporary());
    assert_eq!(
        io.sentence,
        "server 10.0.1.12 lets /home be mounted, but its root cannot be used: i/o error (EIO): taken away again"
    );
    let denied = explained(Failure::BadRoot(address(), Errno::EACCES));
    assert_eq!(denied.class, Class::Permanent);
    assert_eq!(explained(Failure::Mount(address(), Errno::ELOOP)).class, Class::Permanent);
}

#[test]
fn every_sentence_and_cure_is_one_line_without_a_full_stop() {
    let mut failures = vec![
        Failure::NotShown,
        Failure::PointGone,
        Failure::NoModule,
        Failure::NoSelinux,
        Failure::ModuleForbidden("/etc/modprobe.d/a.conf, line 1: blacklist nfs".into()),
        Failure::Forbidden(Errno::EACCES),
        Failure::Loopback(None),
        Failure::Loopback(Some(849)),
        Failure::Mount(address(), Errno::ENOSPC),
        Failure::Dead("10.0.1.12".into()),
        Failure::NoTime,
        Failure::ReadOnly,
        Failure::OtherWay,
        Failure::OffWay(None),
        Failure::Unverified,
        Failure::Program { what: "x".into(), cure: "y".into() },
        Failure::NoSystemd,
        Failure::PortLost(40001),
        Failure::NoHostName(Errno::EPERM),
        Failure::NoTunnel("systemctl: no such unit".into()),
        Failure::TunnelPort(2050),
        Failure::Hidden,
        Failure::Unusable("10.0.1.12".into(), Errno::ESTALE),
        Failure::Unusable("10.0.1.12".into(), Errno::EIO),
        Failure::BadRoot(address(), Errno::EACCES),
        Failure::BadRoot(address(), Errno::ESTALE),
        Failure::Referred { source: "fs-1:/data".into(), to: None },
        Failure::Taken { source: "systemd-1".into(), fstype: "autofs".into() },
        Failure::Taken { source: "/etc/auto.nfs".into(), fstype: "autofs".into() },
        Failure::Taken { source: "127.0.0.1:/".into(), fstype: "nfs4".into() },
        Failure::Odd(1),
        Failure::Stopped(None),
        Failure::Taken { source: "tmpfs".into(), fstype: "tmpfs".into() },
        Failure::Worker(WorkerError::Died),
        Failure::Worker(WorkerError::Fork(Errno::EAGAIN)),
        Failure::CutOff(address(), Duration::from_secs(10)),
        Failure::Point(PointError::Symlink("/mnt".into())),
    ];
    let cut_off = Failure::CutOff(address(), Duration::from_secs(10));
    for heard in [
        NullCallAnswer::Nfs,
        NullCallAnswer::OtherRpc,
        NullCallAnswer::NotRpc,
        NullCallAnswer::Closed,
        NullCallAnswer::Nothing,
    ] {
        failures.push(Failure::Probed(cut_off.clone().into(), heard));
    }
    failures.extend((1..134).map(|raw| Failure::Mount(address(), Errno::from_raw(raw))));
    for failure in failures {
        let Cause { sentence, cure, .. } = explained(failure.clone());
        for text in [&sentence, &cure] {
            assert!(
                !text.is_empty() && !text.contains('\n') && !text.contains("  "),
                "{failure:?}: {text}"
            );
            assert!(!text.ends_with('.'), "{failure:?}: {text}");
        }
    }
}
