//! Session starts whose shares go through a tunnel, on a scripted machine.

use super::*;
use crate::aws::credentials::Service;
use crate::report::Code;
use crate::retry::Clock;
use crate::testing::fake_machine::{FakeMachine, seconds_of, start_on};
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;

const ONE: &str = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\n\
                   encryption_in_transit = true\n";
const SHARE: &str = "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share";

fn no_tunnel() -> TunnelError {
    TunnelError::NoTunnel(Errno::ECONNREFUSED)
}

/// The share is there already, through port 40001.
fn mounted() -> FakeMachine {
    FakeMachine { already: true, old_port: 40001, ..Default::default() }
}

#[test]
fn a_good_start_has_its_tunnel_and_a_handshake_before_it_mounts() {
    let machine = FakeMachine::default();
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(
        text,
        format!(
            "mounted {SHARE} from 10.0.0.7, TLS 1.3, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
        )
    );
    let seen = machine.seen.lock().unwrap();
    let steps: Vec<&str> = seen.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["prepare", "tunnel", "resolve", "reach", "handshake", "mount", "settle"]);
    let call = &machine.calls.lock().unwrap()[0];
    assert!(call.data.to_str().unwrap().ends_with(",port=40001,addr=127.0.0.1"), "{call:?}");
}

#[test]
fn a_share_without_encryption_asks_for_no_tunnel() {
    let machine = FakeMachine::default();
    start_on(&machine, "[[share]]\nendpoint = \"fs-1.example\"\n", false);
    assert!(machine.times("tunnel").is_empty() && machine.times("handshake").is_empty());
}

#[test]
fn handshakes_that_fail_for_a_time_are_tried_again_and_each_is_told() {
    let script = vec![
        TunnelError::Closed,
        TunnelError::Credentials("no answer from 169.254.169.254".into()),
        TunnelError::Alert("internal_error".into()),
    ];
    let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(report.outcomes[0].attempts, 4);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("warning: /mnt/efs_share: attempt 1: the server closed the connection in the middle of the TLS handshake; 25"),
        "{text}"
    );
    assert!(lines[1].contains("attempt 2: no answer from 169.254.169.254; "), "{text}");
    assert_eq!(machine.times("mount").len(), 1);
}

#[test]
fn a_handshake_that_no_waiting_mends_ends_at_once_and_nothing_is_mounted() {
    let script = vec![TunnelError::CertificateName {
        wanted: "fs-0123abcd.efs.eu-west-1.amazonaws.com".into(),
        presented: vec!["nfs.example".into()],
    }];
    let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::REFUSED);
    assert_eq!(
        text,
        format!(
            "error: cannot mount {SHARE}: the server's certificate is for nfs.example, not for \
             fs-0123abcd.efs.eu-west-1.amazonaws.com; after 1 attempt in 0.000 s; to mend it: check \
             `endpoint` and `addresses`; if the server is a stand-in for EFS, name it in `tls_name` \
             (exit 69)\n"
        )
    );
    assert!(machine.times("mount").is_empty());
    assert_eq!(machine.times("discard").len(), 1);
}

#[test]
fn a_server_that_stops_in_mid_handshake_gets_more_time_each_time_and_ends_at_the_deadline() {
    let script = vec![TunnelError::Silent(Duration::ZERO); 100];
    let machine = FakeMachine { handshakes: Mutex::new(script), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert_eq!(machine.clock.now(), seconds_of(25.0));
    let spans: Vec<Duration> = machine.spans.lock().unwrap().clone();
    assert_eq!(spans[..2], [seconds_of(5.0), seconds_of(10.0)]);
    let last = text.lines().last().unwrap();
    assert!(last.contains("did not finish the TLS handshake within 10.0 s"), "{last}");
}

#[test]
fn what_may_be_the_share_is_compared_with_it_through_its_tunnel() {
    let led_to = Some("fs-0123abcd:/releases/1".to_owned());
    let machine = FakeMachine { taken: true, led_to, ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK, "{text}");
    let call = &machine.calls.lock().unwrap()[0];
    assert!(call.data.to_str().unwrap().ends_with(",port=40001,addr=127.0.0.1"), "{call:?}");
    assert!(machine.times("mount").is_empty());
}

#[test]
fn a_mount_that_answers_with_an_error_is_mounted_anew_once_the_file_system_answers() {
    let machine = FakeMachine { fault: Some(Errno::ESTALE), ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(
        text.starts_with(
            "warning: /mnt/efs_share is mounted from 10.0.0.1, but its folder is gone from the server, or was made \
             anew there (ESTALE): mounted anew\nmounted "
        ),
        "{text}"
    );
    assert_eq!(machine.times("detach").len(), 1);
    let handshakes = Mutex::new(vec![TunnelError::Closed; 2000]);
    let machine = FakeMachine { fault: Some(Errno::ESTALE), handshakes, ..mounted() };
    let (report, _) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert!(machine.times("detach").is_empty(), "taken away, and nothing to replace it with");
}

#[test]
fn a_tunnel_that_cannot_be_started_is_tried_again() {
    let machine = FakeMachine { no_tunnel_until: seconds_of(3.0), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(
        text.starts_with("warning: /mnt/efs_share: attempt 1: the tunnel for encryption in transit cannot be started: not yet; 25"),
        "{text}"
    );
}

#[test]
fn a_refused_mount_after_a_good_handshake_names_who_was_refused() {
    let address = "10.0.0.7".parse().unwrap();
    let mounts = Mutex::new(vec![Failure::Mount(address, Errno::EACCES)]);
    let machine = FakeMachine { mounts, ..Default::default() };
    let (report, text) = start_on(&machine, &format!("{ONE}iam = true\n"), false);
    assert_eq!(report.code(), Code::REFUSED);
    assert!(
        text.contains(
            "fs-0123abcd denies the identity of profile x, AKIDEXAMPLE to mount / (EACCES)"
        ),
        "{text}"
    );
    assert!(text.contains("allow elasticfilesystem:ClientMount to that identity"), "{text}");
}

#[test]
fn a_name_that_does_not_resolve_is_the_tunnels_to_find_if_it_may_ask_aws() {
    let never = Duration::MAX / 2;
    let machine = FakeMachine { name_from: never, ..Default::default() };
    let (report, text) = start_on(&machine, &format!("{ONE}discover = true\n"), false);
    assert_eq!(report.code(), Code::OK, "{text}");
    let machine = FakeMachine { name_from: never, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert!(text.contains("does not resolve"), "{text}");
    assert!(machine.times("handshake").is_empty());
}

#[test]
fn a_name_or_a_port_that_comes_good_is_seen_as_soon_as_without_encryption() {
    for tenth in (1..240).step_by(7) {
        let at = seconds_of(f64::from(tenth) / 10.0);
        for (name_from, port_from, most) in [(at, Duration::ZERO, 1.0), (Duration::ZERO, at, 0.3)] {
            let machine = FakeMachine { name_from, port_from, ..Default::default() };
            let (report, text) = start_on(&machine, ONE, false);
            assert_eq!(report.code(), Code::OK, "{text}");
            let took = machine.times("mount")[0].saturating_sub(at);
            assert!(took <= seconds_of(most), "good at {at:?}, seen {took:?} later");
        }
    }
}

#[test]
fn what_is_mounted_already_stays_and_its_far_end_is_told() {
    let machine = mounted();
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(
        text,
        format!(
            "already mounted: {SHARE}, from 10.0.0.7, TLS 1.3, NFS 4.1; nothing was done (exit 0)\n"
        )
    );
    for step in ["tunnel", "mount", "handshake", "detach"] {
        assert!(machine.times(step).is_empty(), "{step}");
    }
}

#[test]
fn a_mount_of_an_earlier_config_is_kept_and_told() {
    let machine = FakeMachine { changed: true, ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(
        text.starts_with("warning: /mnt/efs_share is mounted with the tunnel of an earlier config: unmount it and run again to have what the config says\nalready mounted"),
        "{text}"
    );
}

#[test]
fn a_tunnel_that_has_read_wrong_files_is_ended_so_that_mended_ones_count() {
    let what = || "no credentials".to_owned();
    let tls = |trouble| TunnelError::Service { what: what(), service: Service::Sts, trouble };
    for (failure, stops) in [
        (TunnelError::Trust("no file".into()), 1),
        (TunnelError::Key("no room".into()), 1),
        (TunnelError::Changeable { what: "a".into(), mend: "b".into() }, 1),
        // The trusted roots are read at the start too: a person adds to the file or to the
        // system's.
        (TunnelError::UnknownIssuer, 1),
        (tls(Trouble::Tls), 1),
        (tls(Trouble::Denied), 0),
        (TunnelError::CaShown, 0),
    ] {
        let handshakes = Mutex::new(vec![failure]);
        let machine = FakeMachine { handshakes, ..Default::default() };
        let (report, _) = start_on(&machine, ONE, true);
        assert_ne!(report.code(), Code::OK);
        assert_eq!(machine.times("stop").len(), stops);
    }
}

#[test]
fn a_tunnel_that_has_ended_under_a_mount_is_started_at_the_port_of_the_mount() {
    let machine = FakeMachine { statuses: Mutex::new(vec![no_tunnel()]), ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(
        text.starts_with("warning: /mnt/efs_share: its tunnel was not running, and was started again at port 40001\nalready mounted"),
        "{text}"
    );
    assert_eq!(*machine.asked_at.lock().unwrap(), [Some(40001)]);
    assert!(machine.times("mount").is_empty());
}

#[test]
fn a_tunnel_that_is_too_busy_to_answer_is_left_as_it_is() {
    for failure in [TunnelError::NoTunnel(Errno::ETIMEDOUT), TunnelError::MakingKey] {
        let machine = FakeMachine { statuses: Mutex::new(vec![failure]), ..mounted() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.starts_with("already mounted: "), "{text}");
        assert!(machine.times("tunnel").is_empty(), "none is started");
    }
}

#[test]
fn a_key_that_is_being_made_is_waited_for_and_counts_as_no_attempt() {
    for once in [false, true] {
        let handshakes = Mutex::new(vec![TunnelError::MakingKey; 3]);
        let machine = FakeMachine { handshakes, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, once);
        assert_eq!(report.code(), Code::OK);
        let waits = "/mnt/efs_share: the tunnel is still making its RSA key, which is waited for\n";
        assert!(text.contains(waits), "{text}");
        assert_eq!(text.matches("RSA").count(), 1, "{text}");
        assert!(text.contains("attempt 1, in 0.000 s"), "{text}");
    }
    // It is waited for until no time is left: here the machine is too slow to make the key.
    let handshakes = Mutex::new(vec![TunnelError::MakingKey; 100]);
    let machine = FakeMachine { handshakes, slow_answers: true, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert_eq!(machine.clock.now(), seconds_of(25.0));
    let last = text.lines().last().unwrap();
    assert!(
        last.contains(
            "the tunnel is still making its RSA key; after 3 attempts in 25.0 s; to mend it: start \
             it again: it is made once a boot, in a second or two on a machine that is not busy; to \
             have it before the session starts, enable efs-agent-tunnels.service; if it is never made, \
             see the tunnel's lines in the system's log (journalctl -t efs-agent) (exit 75)"
        ),
        "{last}"
    );
}

#[test]
fn a_mount_whose_port_the_tunnel_cannot_have_is_replaced() {
    let statuses = || Mutex::new(vec![no_tunnel()]);
    let elsewhere = || AtomicU16::new(40002);
    let never = Duration::MAX / 2;
    let dead = || FakeMachine { alive_from: never, tunnel_port: elsewhere(), ..mounted() };
    let restarted = FakeMachine { statuses: statuses(), ..dead() };
    for machine in [restarted, dead()] {
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(
            text.contains("warning: /mnt/efs_share is mounted through port 40001, where its tunnel is no longer, but at 40002: replaced\nmounted "),
            "{text}"
        );
        assert_eq!(machine.times("detach").len(), 1);
        assert_eq!(machine.times("mount").len(), 1);
    }
}

#[test]
fn a_mount_that_goes_past_its_tunnel_is_replaced_although_it_answers() {
    let astray = Some("10.0.0.1:2049".parse().unwrap());
    let machine = FakeMachine { astray, ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(
        text.starts_with(
            "warning: /mnt/efs_share is mounted from 10.0.0.1:2049, past its tunnel: replaced\nmounted "
        ),
        "{text}"
    );
    assert_eq!((machine.times("detach").len(), machine.times("mount").len()), (1, 1));
}

#[test]
fn a_mount_that_lives_on_another_shares_tunnel_is_left_alone() {
    let machine = FakeMachine {
        statuses: Mutex::new(vec![no_tunnel()]),
        tunnel_port: AtomicU16::new(40002),
        ..mounted()
    };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");
    assert!(machine.times("detach").is_empty());
}

#[test]
fn a_mount_that_does_not_answer_is_waited_for_and_never_taken_away() {
    let machine = FakeMachine { alive_from: seconds_of(4.0), ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");

    let machine = FakeMachine { alive_from: Duration::MAX / 2, ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    let last = text.lines().last().unwrap();
    assert!(last.contains("is mounted already, but its server 10.0.0.7 does not answer"), "{last}");
    assert!(machine.times("detach").is_empty());

    // The way to the tunnel is what is wrong.
    let handshakes = Mutex::new(vec![TunnelError::UnknownIssuer]);
    let machine = FakeMachine { alive_from: Duration::MAX / 2, handshakes, ..mounted() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::REFUSED);
    assert!(text.contains("was issued by nobody that is trusted; after 1 attempt"), "{text}");
    assert!(machine.times("detach").is_empty());
}
