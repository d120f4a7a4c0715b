//! A session start without encryption, on a machine that is scripted.

use super::pace::ANSWER_TIMEOUT;
use crate::config::{Level, Settings};
use crate::log::test::Lines;
use crate::net::probe::NullCallAnswer;
use crate::report::Code;
use crate::retry::Clock;
use crate::share::Failure;
use crate::share::mount_point::PointError;
use crate::testing::fake_machine::{FakeMachine, run_on, seconds_of, start_on};
use crate::tunnel::protocol::TunnelError;
use nix::errno::Errno;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

const ONE: &str = "[[share]]\nendpoint = \"fs-1.example\"\n";

#[test]
fn a_good_start_takes_one_attempt_and_says_so_in_one_line() {
    let machine = FakeMachine::default();
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(
        text,
        "mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
    );
    assert_eq!(machine.times("settle").len(), 1);
    assert!(machine.times("discard").is_empty());
}

#[test]
fn what_is_mounted_already_is_settled_and_not_mounted_again() {
    let machine = FakeMachine { already: true, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.starts_with("already mounted: fs-1.example:/ on /mnt/efs_share"), "{text}");
    assert!(machine.times("mount").is_empty());
    assert_eq!(machine.times("settle").len(), 1);
}

#[test]
fn a_dead_mount_is_replaced_if_another_address_answers_and_left_alone_if_none_does() {
    let never = Duration::MAX / 2;
    let machine = FakeMachine {
        already: true,
        alive_from: never,
        old_address: Some("10.0.0.9".into()),
        ..Default::default()
    };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.starts_with("warning: /mnt/efs_share is mounted from 10.0.0.9, which does not answer: replaced by 10.0.0.1\nmounted "), "{text}");
    assert_eq!(machine.times("detach").len(), 1);

    let machine =
        FakeMachine { already: true, alive_from: never, port_from: never, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert!(machine.clock.now() <= seconds_of(25.0), "{:?}", machine.clock.now());
    assert!(
        text.lines()
            .last()
            .unwrap()
            .contains("is mounted already, but its server 10.0.0.1 does not answer"),
        "{text}"
    );
    assert!(machine.times("detach").is_empty());

    let alive_from = seconds_of(4.0);
    let machine = FakeMachine { already: true, alive_from, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");
}

#[test]
fn a_mount_that_answers_with_an_error_is_mounted_anew_and_who_uses_it_is_named() {
    let machine = FakeMachine { already: true, fault: Some(Errno::ESTALE), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(
        text,
        "warning: /mnt/efs_share is mounted from 10.0.0.1, but its folder is gone from the server, or was made \
         anew there (ESTALE): mounted anew\n\
         mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
    );
    assert!(report.outcomes[0].result.as_ref().is_ok_and(|mounted| mounted.anew));
    let steps: Vec<&str> = machine.seen.lock().unwrap().iter().map(|(step, _)| *step).collect();
    assert_eq!(
        steps,
        ["responds", "resolve", "reach", "held_by", "detach", "prepare", "mount", "settle"]
    );
    let fault = Some(Errno::EIO);
    let holders = vec![101, 102];
    let machine = FakeMachine { already: true, fault, holders, ..Default::default() };
    let (_, text) = start_on(&machine, ONE, false);
    assert!(text.contains(
        "but its root cannot be used: i/o error (EIO): mounted anew\nwarning: /mnt/efs_share is in use by 101 (vi), \
         102 (vi): what they have open stays on the old mount until they close it\n"
    ), "{text}");
}

#[test]
fn a_mount_that_answers_with_an_error_stays_while_its_server_cannot_be_reached() {
    let machine = FakeMachine {
        already: true,
        fault: Some(Errno::ESTALE),
        port_from: Duration::MAX / 2,
        ..Default::default()
    };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert!(machine.times("detach").is_empty() && machine.times("mount").is_empty());
    let last = text.lines().last().unwrap();
    assert!(last.contains("is mounted already from 10.0.0.1, but its folder is gone"), "{last}");
}

#[test]
fn where_a_new_mount_is_no_better_nothing_is_left_to_write_into() {
    let address = "10.0.0.1".parse().unwrap();
    for (failure, code) in [
        (Failure::BadRoot(address, Errno::ESTALE), Code::DEADLINE),
        (Failure::Mount(address, Errno::ENOENT), Code::REFUSED),
    ] {
        let machine = FakeMachine {
            already: true,
            fault: Some(Errno::ESTALE),
            mounts: Mutex::new(vec![failure; 400]),
            ..Default::default()
        };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), code, "{text}");
        assert_eq!((machine.times("detach").len(), machine.times("abandon").len()), (1, 1));
    }
    // A mount that turns out to be of no use at the last look is no success either.
    let unsettled = Some(Failure::Unusable("10.0.0.1".into(), Errno::EIO));
    let machine = FakeMachine { unsettled, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE, "{text}");
    assert_eq!((machine.times("detach").len(), machine.times("abandon").len()), (1, 1));
    let unsettled = Some(Failure::Unusable("10.0.0.1".into(), Errno::EIO));
    let machine = FakeMachine { unsettled, makes: true, ..Default::default() };
    start_on(&machine, ONE, false);
    assert_eq!(machine.times("abandon made").len(), 1, "its own mount point is left");
}

#[test]
fn where_the_server_leads_a_path_is_told_and_remembered_at_once() {
    let led_to = Some("fs-1.example:/releases/1".to_owned());
    let machine = FakeMachine { led_to: led_to.clone(), ..Default::default() };
    let (_, text) = start_on(&machine, ONE, false);
    assert!(
        text.starts_with(
            "/mnt/efs_share: the server leads / to fs-1.example:/releases/1, which is what df and findmnt show\nmounted "
        ),
        "{text}"
    );
    let machine = FakeMachine { already: true, led_to, ..machine };
    let (_, text) = start_on(&machine, ONE, false);
    assert!(
        text.contains(" show; where it leads by now counts from the next mount on\n"),
        "{text}"
    );
    assert!(!text.contains("unmount it and run again"), "{text}");
}

#[test]
fn what_somebody_else_has_mounted_over_a_link_is_compared_with_the_share() {
    let led_to = Some("fs-1.example:/releases/1".to_owned());
    let machine = FakeMachine { taken: true, led_to, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.contains("already mounted: fs-1.example:/ on /mnt/efs_share"), "{text}");
    let other = FakeMachine { taken: true, ..Default::default() };
    let (report, text) = start_on(&other, ONE, false);
    assert_eq!(report.code(), Code::REFUSED);
    assert!(text.contains("is taken: fs-1.example:/releases/1 (nfs4) is mounted there"), "{text}");
    // Nothing to compare with is no reason to wait.
    let port_from = Duration::MAX / 2;
    let silent = FakeMachine { taken: true, port_from, ..Default::default() };
    let (report, text) = start_on(&silent, ONE, false);
    assert_eq!(report.code(), Code::REFUSED, "{text}");
    assert!(silent.clock.now() <= ANSWER_TIMEOUT, "{:?}", silent.clock.now());
}

#[test]
fn a_port_that_comes_good_is_seen_within_300_ms_and_a_name_within_a_second_at_any_time() {
    for tenth in 1..240 {
        let at = seconds_of(f64::from(tenth) / 10.0);
        for (name_from, port_from, most) in [(at, Duration::ZERO, 1.0), (Duration::ZERO, at, 0.3)] {
            let machine = FakeMachine { name_from, port_from, ..Default::default() };
            let (report, text) = start_on(&machine, ONE, false);
            assert_eq!(report.code(), Code::OK, "{text}");
            let took = machine.times("mount")[0].saturating_sub(at);
            assert!(took <= seconds_of(most), "good at {at:?}, seen {took:?} later");
        }
        // A change of hosts or resolv.conf is seen as soon as an open port.
        let (name_from, files_change) = (at, Some(at));
        let machine = FakeMachine { name_from, files_change, ..Default::default() };
        start_on(&machine, ONE, false);
        let took = machine.times("mount")[0].saturating_sub(at);
        assert!(took <= seconds_of(0.3), "written at {at:?}, seen {took:?} later");
    }
}

#[test]
fn a_name_that_fails_is_asked_for_about_once_a_second_and_one_that_is_known_less_often() {
    let never = Duration::MAX / 2;
    let machine = FakeMachine { name_from: never, ..Default::default() };
    start_on(&machine, ONE, false);
    let asked = machine.times("resolve");
    assert!((20..50).contains(&asked.len()), "{} questions in 25 s", asked.len());
    let machine = FakeMachine { port_from: never, ..Default::default() };
    start_on(&machine, ONE, false);
    let asked = machine.times("resolve");
    assert!((2..=13).contains(&asked.len()), "{asked:?}");
}

#[test]
fn shares_of_one_name_share_a_look_up() {
    let config: String = (0..16).map(|n| format!("{ONE}mount_point = \"/mnt/s{n}\"\n")).collect();
    let machine = FakeMachine::default();
    let (report, _) = start_on(&machine, &config, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!((machine.times("resolve").len(), machine.times("mount").len()), (1, 16));
    // This does not hold if they are found or tried by other means.
    let others =
        ["options = \"port=2050\"", "addresses = [\"10.0.0.8\"]", "options = \"proto=tcp\""];
    for lines in others {
        let config = format!("{ONE}{ONE}mount_point = \"/mnt/b\"\n{lines}\n");
        let machine = FakeMachine::default();
        start_on(&machine, &config, false);
        assert_eq!(machine.times("resolve").len(), 2, "{lines}");
    }
}

#[test]
fn ipv6_addresses_are_tried_in_the_same_attempt_where_no_ipv4_one_takes_connections() {
    let ipv6: IpAddr = "fd00::1".parse().unwrap();
    let machine = FakeMachine { further: vec![ipv6], answers: Some(ipv6), ..Default::default() };
    let (report, _) = start_on(&machine, ONE, false);
    assert_eq!((report.code(), report.outcomes[0].attempts), (Code::OK, 1));
    assert_eq!(*machine.mounted_from.lock().unwrap(), [ipv6]);
    // Where they are silent too, the attempt takes no longer than without them.
    let never = Duration::MAX / 2;
    let machine = FakeMachine { further: vec![ipv6], port_from: never, ..Default::default() };
    let (_, text) = start_on(&machine, ONE, true);
    assert_eq!(machine.clock.now(), seconds_of(3.0));
    assert!(text.contains("10.0.0.1 timed out (nothing came back for 3.0 s)"), "{text}");
    // A name server that takes longer is asked again by the next attempt, and holds up nothing.
    let slow_further = seconds_of(5.0);
    let machine =
        FakeMachine { further: vec![ipv6], port_from: never, slow_further, ..Default::default() };
    let (_, text) = start_on(&machine, ONE, false);
    assert!(machine.times("further").len() > 3);
    assert!(text.starts_with("warning: /mnt/efs_share: attempt 1: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s)"), "{text}");
    // The kernel would not take it.
    let machine = FakeMachine { further: vec![ipv6], answers: Some(ipv6), ..Default::default() };
    start_on(&machine, &format!("{ONE}options = \"proto=tcp\"\n"), false);
    assert!(machine.times("further").is_empty() && machine.times("mount").is_empty());
    // Nothing is asked in a look between two attempts either.
    let machine = FakeMachine { more: vec![ipv6], answers: Some(ipv6), ..Default::default() };
    start_on(&machine, &format!("{ONE}options = \"proto=tcp\"\n"), false);
    assert!(machine.times("mount").is_empty() && machine.times("reach").len() > 20);
    let machine = FakeMachine { further: vec![ipv6], ..Default::default() };
    start_on(&machine, &format!("{ONE}options = \"proto=tcp6\"\n"), false);
    assert_eq!(*machine.mounted_from.lock().unwrap(), [ipv6]);
    let machine = FakeMachine::default();
    let (report, text) = start_on(&machine, &format!("{ONE}options = \"proto=tcp6\"\n"), true);
    assert_eq!(report.code(), Code::DEADLINE);
    assert!(text.contains("fs-1.example has no IPv6 address, which proto=tcp6 in `options` asks for; after 1 attempt"), "{text}");
    assert!(machine.times("mount").is_empty());
    // Nothing is asked where nothing is wrong.
    let machine = FakeMachine { further: vec![ipv6], ..Default::default() };
    start_on(&machine, ONE, false);
    assert!(machine.times("further").is_empty());
}

#[test]
fn where_an_address_came_from_is_told_where_it_fails() {
    let never = Duration::MAX / 2;
    let last = |machine: &FakeMachine, config: &str| {
        let (_, text) = start_on(machine, config, true);
        text.split_once("; after ").unwrap().0.to_owned()
            + text.split_once("  to mend it: ").unwrap().1
    };
    let hosts = Some("10.0.0.9".parse().unwrap());
    let machine = FakeMachine { port_from: never, hosts, ..Default::default() };
    let text = last(&machine, ONE);
    assert!(text.contains("(nothing came back for 3.0 s); the address is from /etc/hosts, and the name server says 10.0.0.9"), "{text}");
    assert!(
        text.contains(
            "correct the line of fs-1.example in /etc/hosts, or take it out; else the file"
        ),
        "{text}"
    );
    // The name server says the same, so the line is not what is wrong.
    let hosts = Some("10.0.0.1".parse().unwrap());
    let machine = FakeMachine { port_from: never, hosts, ..Default::default() };
    let text = last(&machine, ONE);
    assert!(
        text.contains("/etc/hosts, and the name server says 10.0.0.1the file system's"),
        "{text}"
    );
    // The same is said of a server that takes connections and refuses the mount.
    let mounts = || Mutex::new(vec![Failure::Mount("10.0.0.1".parse().unwrap(), Errno::EACCES)]);
    let hosts = Some("10.0.0.9".parse().unwrap());
    let text = last(&FakeMachine { mounts: mounts(), hosts, ..Default::default() }, ONE);
    assert!(
        text.contains(
            "for / (EACCES); the address is from /etc/hosts, and the name server says 10.0.0.9"
        ),
        "{text}"
    );
    let text = last(&FakeMachine { mounts: mounts(), ..Default::default() }, ONE);
    assert!(text.contains("for / (EACCES)if the file"), "{text}");
    let completed = Some("fs-1.example.lab.example".to_owned());
    let text = last(&FakeMachine { mounts: mounts(), completed, ..Default::default() }, ONE);
    assert!(text.contains("; the address is from name server 10.0.0.2, which knows it as fs-1.example.lab.example, by a search domain"), "{text}");
    assert!(text.contains("if fs-1.example.lab.example is not the server that you mean, write its whole name as `endpoint`, with a dot at its end; else if"), "{text}");
    // A fault of this machine's has nothing to do with it.
    let mounts = || Mutex::new(vec![Failure::Mount("10.0.0.1".parse().unwrap(), Errno::ENODEV)]);
    let hosts = Some("10.0.0.9".parse().unwrap());
    let text = last(&FakeMachine { mounts: mounts(), hosts, ..Default::default() }, ONE);
    assert!(!text.contains("the address is from"), "{text}");
}

#[test]
fn the_mode_of_a_root_is_not_set_where_it_may_be_another_machines() {
    let config = format!("{ONE}root_mode = \"1777\"\n");
    let completed = || Some("fs-1.example.lab.example".to_owned());
    let machine = FakeMachine { completed: completed(), ..Default::default() };
    let (report, text) = start_on(&machine, &config, false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.contains(
        "fs-1.example: 10.0.0.1 (name server 10.0.0.2, which knows it as fs-1.example.lab.example, by a search domain) \
         answers on TCP 2049\n"
    ), "{text}");
    assert!(text.contains(
        "warning: root_mode 1777 of /mnt/efs_share is not set: a search domain made fs-1.example.lab.example of \
         fs-1.example, which may be another machine (10.0.0.1); if it is the right one, write endpoint = \
         \"fs-1.example.lab.example.\"\n"
    ), "{text}");
    assert_eq!(*machine.modes.lock().unwrap(), [None, None]);
    // It was mounted earlier, and nobody knows by which name.
    let machine = FakeMachine { completed: completed(), already: true, ..Default::default() };
    let (_, text) = start_on(&machine, &config, false);
    assert!(text.contains("root_mode 1777 of /mnt/efs_share is not set: "), "{text}");
    assert_eq!(*machine.modes.lock().unwrap(), [None]);
    let old_address = Some("10.0.0.66".to_owned());
    let machine = FakeMachine { old_address, already: true, ..Default::default() };
    let (_, text) = start_on(&machine, &config, false);
    assert!(
        text.contains(
            "is not set: fs-1.example does not lead to 10.0.0.66, where it is mounted from; "
        ),
        "{text}"
    );
    for good in [FakeMachine { already: true, ..Default::default() }, FakeMachine::default()] {
        let (_, text) = start_on(&good, &config, false);
        assert!(!text.contains("not set"), "{text}");
        assert!(good.modes.lock().unwrap().iter().all(|mode| *mode == Some(0o1777)));
    }
}

#[test]
fn a_port_that_never_answers_ends_at_the_deadline_with_the_cause_and_exit_75() {
    let machine = FakeMachine { port_from: Duration::MAX / 2, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    assert_eq!(machine.clock.now(), seconds_of(25.0));
    assert_eq!(machine.times("discard").len(), 1);
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("error: cannot mount fs-1.example:/ on /mnt/efs_share: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s); the address is from name server 10.0.0.2; after "),
        "{last}"
    );
    assert!(
        last.ends_with("; to mend it: the file system's security group must allow NFS (TCP 2049) from the fleet's security group (on an image builder: from the image builder's) (exit 75)"),
        "{last}"
    );
    assert!(text.starts_with("warning: /mnt/efs_share: attempt 1: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s); the address is from name server 10.0.0.2; 22.0 s left\n"), "{text}");
}

#[test]
fn a_failure_for_good_ends_at_once_with_exit_69() {
    let address = "10.0.0.1".parse().unwrap();
    let mounts = Mutex::new(vec![Failure::Mount(address, Errno::EACCES)]);
    let machine = FakeMachine { mounts, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::REFUSED);
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains("access denied by server 10.0.0.1 for / (EACCES); after 1 attempt"),
        "{text}"
    );
}

#[test]
fn errors_that_pass_are_retried_with_growing_pauses() {
    let address = "10.0.0.1".parse().unwrap();
    let script =
        [Errno::EIO, Errno::ECONNREFUSED, Errno::ENETUNREACH, Errno::EAGAIN, Errno::ESTALE];
    let mounts = Mutex::new(script.map(|errno| Failure::Mount(address, errno)).to_vec());
    let machine = FakeMachine { mounts, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(text.matches("warning: ").count(), 5);
    let times = machine.times("mount");
    for (pair, whole) in times.windows(2).zip([0.1, 0.2, 0.4, 0.8, 1.0]) {
        let pause = pair[1] - pair[0];
        assert!(pause >= seconds_of(whole / 2.0) && pause <= seconds_of(whole), "{pause:?}");
    }
    assert_eq!(report.outcomes[0].attempts, 6);
}

#[test]
fn a_mount_point_that_another_run_removed_is_made_again() {
    let encrypted = "[[share]]\nendpoint = \"fs-0123abcd.efs.eu-west-1.amazonaws.com\"\nencryption_in_transit = true\n";
    for config in [ONE, encrypted] {
        let mounts = Mutex::new(vec![Failure::PointGone]);
        let machine = FakeMachine { mounts, ..Default::default() };
        let (report, _) = start_on(&machine, config, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(machine.times("prepare").len(), 2);
    }
}

#[test]
fn an_address_that_takes_connections_but_does_not_mount_gives_way_to_the_next() {
    let (first, second) = ("10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap());
    let script = vec![Failure::CutOff(first, seconds_of(10.0)), Failure::Mount(second, Errno::EIO)];
    let machine =
        FakeMachine { more: vec![second], mounts: Mutex::new(script), ..Default::default() };
    let (report, _) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(*machine.mounted_from.lock().unwrap(), [first, second, first]);
}

#[test]
fn what_the_server_was_once_asked_about_is_not_forgotten_for_want_of_time_to_ask_again() {
    let address = "10.0.0.1".parse().unwrap();
    let asked =
        Failure::Probed(Box::new(Failure::Mount(address, Errno::EIO)), NullCallAnswer::Closed);
    // The last of these come in the last half second.
    let mut script = vec![asked];
    script.extend(vec![Failure::Mount(address, Errno::EPIPE); 100]);
    let machine = FakeMachine { mounts: Mutex::new(script), ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::DEADLINE);
    let last = text.lines().last().unwrap();
    assert!(last.contains("takes connections on TCP 2049 and closes them without"), "{last}");
}

#[test]
fn once_makes_one_attempt_and_speaks_to_a_person() {
    let machine = FakeMachine { name_from: Duration::MAX / 2, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, true);
    assert_eq!(report.code(), Code::DEADLINE);
    assert_eq!(machine.times("resolve").len(), 1);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[0],
        "error: cannot mount fs-1.example:/ on /mnt/efs_share: fs-1.example does not resolve: name \
         server 10.0.0.2 says that there is no such name (NXDOMAIN); after 1 attempt in 0.000 s"
    );
    assert!(lines[1].starts_with("  to mend it: check the spelling"), "{text}");
    assert_eq!(lines[2], "  exit 75: a session start would try again until its deadline");
}

#[test]
fn a_mount_point_that_cannot_be_one_ends_before_any_packet() {
    let prepare = Some(PointError::Symlink("/mnt".into()));
    let machine = FakeMachine { prepare, ..Default::default() };
    let (report, text) = start_on(&machine, ONE, false);
    assert_eq!(report.code(), Code::REFUSED);
    assert!(text.contains("/mnt is a symlink"), "{text}");
    assert!(machine.times("resolve").is_empty());
}

#[test]
fn of_several_servers_a_silent_one_is_cut_off_early_and_none_at_the_same_time_as_another() {
    let address = "10.0.0.1".parse().unwrap();
    let cut_off = Failure::CutOff(address, seconds_of(2.0));
    let cut_off = || Failure::Probed(Box::new(cut_off.clone()), NullCallAnswer::Nothing);
    let script = || Mutex::new(vec![cut_off(), cut_off()]);
    let first_attempts = Some(Barrier::new(2));
    let machine = FakeMachine { mounts: script(), first_attempts, ..Default::default() };
    let two = format!("{ONE}[[share]]\nendpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n");
    let (report, _) = start_on(&machine, &two, false);
    assert_eq!(report.code(), Code::OK);
    let mut paces = machine.paces.lock().unwrap().clone();
    paces.sort();
    let seconds = |span, silence| (Some(seconds_of(silence)), seconds_of(span));
    assert_eq!(paces[..2], [seconds(9.5, 1.0), seconds(10.0, 1.0)], "the first of each");
    assert!(paces[2..].iter().all(|(silence, _)| *silence >= Some(seconds_of(2.0))), "{paces:?}");
    // A single server holds up nobody.
    let machine = FakeMachine { mounts: script(), ..Default::default() };
    start_on(&machine, ONE, false);
    assert_eq!(machine.paces.lock().unwrap()[..2], [(None, seconds_of(10.0)); 2]);
}

#[test]
fn a_server_that_hangs_as_often_as_the_deadline_allows_does_not_end_the_run() {
    let address = "10.0.0.1".parse().unwrap();
    let hung = Failure::CutOff(address, seconds_of(0.1));
    let slow = Failure::Tunnel(TunnelError::Silent(seconds_of(0.1)));
    for failure in [hung, slow] {
        let machine = FakeMachine { mounts: Mutex::new(vec![failure; 400]), ..Default::default() };
        let config = format!(
            "deadline = \"3m\"\nattempt_timeout = \"100ms\"\n{ONE}[[share]]\n\
             endpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n"
        );
        let (report, text) = start_on(&machine, &config, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(text.ends_with("(exit 75)\n"), "{text}");
        let attempts: u32 = report.outcomes.iter().map(|outcome| outcome.attempts).sum();
        assert!(attempts > 2 * 64, "{attempts}");
    }
}

#[test]
fn several_shares_have_a_line_each_and_a_summary() {
    let machine = FakeMachine::default();
    let config = "[[share]]\nendpoint = \"a\"\nmount_point = \"/mnt/a\"\n\
                  [[share]]\nendpoint = \"b\"\nmount_point = \"/mnt/b\"\n\
                  [[share]]\nendpoint = \"a\"\nmount_point = \"/mnt/c\"\npath = \"/c\"\n";
    let (report, text) = start_on(&machine, config, false);
    assert_eq!(report.code(), Code::OK);
    assert_eq!(text.matches("NFS 4.1, attempt 1").count(), 3);
    assert!(text.ends_with("3 of 3 shares mounted (exit 0)\n"), "{text}");
    let points: Vec<_> = report.outcomes.iter().map(|o| o.share.mount_point.clone()).collect();
    assert_eq!(points, ["/mnt/a", "/mnt/b", "/mnt/c"].map(PathBuf::from));
}

#[test]
fn a_share_that_is_up_is_remembered_while_others_are_awaited() {
    let config = format!("{ONE}[[share]]\nendpoint = \"b\"\nmount_point = \"/mnt/b\"\n");
    let remembered = |machine: &FakeMachine, config: &str| {
        let (log, _) = Lines::log();
        let settings = Settings::parse(Path::new("c"), config).unwrap();
        let points = Mutex::new(vec![]);
        run_on(machine, &log, &settings, false).all(settings.shares.clone(), &|outcome| {
            points.lock().unwrap().push(outcome.share.mount_point.clone());
        });
        points.into_inner().unwrap().len()
    };
    assert_eq!(remembered(&FakeMachine::default(), &config), 1);
    assert_eq!(remembered(&FakeMachine::default(), ONE), 0, "the end of the run is near");
    let already = FakeMachine { already: true, ..Default::default() };
    assert_eq!(remembered(&already, &config), 0, "an earlier run has it");
    // The mount table does not show whose mounts these are.
    let led_to = || Some("fs-1.example:/releases/1".to_owned());
    let led = || FakeMachine { led_to: led_to(), ..Default::default() };
    assert_eq!((remembered(&led(), &config), remembered(&led(), ONE)), (2, 1));
    let already = FakeMachine { already: true, ..led() };
    assert_eq!(remembered(&already, ONE), 0);
}

#[test]
fn an_optional_share_that_fails_is_said_and_costs_no_exit_code() {
    let address = "10.0.0.1".parse().unwrap();
    let mounts = Mutex::new(vec![Failure::Mount(address, Errno::ENOENT)]);
    let machine = FakeMachine { mounts, ..Default::default() };
    let (report, text) = start_on(&machine, &format!("{ONE}required = false\n"), false);
    assert_eq!(report.code(), Code::OK);
    assert!(text.starts_with("warning: cannot mount optional share fs-1.example:/"), "{text}");
}

#[test]
fn warnings_of_the_last_step_come_before_the_outcome() {
    let notes = vec![(Level::Warning, "users cannot write".to_owned())];
    let machine = FakeMachine { notes, ..Default::default() };
    let (_, text) = start_on(&machine, ONE, false);
    assert!(text.starts_with("warning: users cannot write\nmounted "), "{text}");
}
