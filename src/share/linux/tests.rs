//! What the real machine makes of a mount table that a test writes.

use super::existing::{ANNOUNCE_PAUSE, ANNOUNCE_TIMEOUT, OLD_LOOK, Provenance, off_way};
use super::*;
use crate::config::test::share_of;
use crate::retry::test::VirtualClock;
use crate::stop::SystemClock;
use crate::sys;
use nix::errno::Errno;
use std::fs;

#[test]
fn a_loopback_that_is_down_is_not_told_as_the_servers_fault() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, stop) = (VirtualClock::default(), Stop::install().unwrap());
    let machine = Linux::new(dir.path(), &clock, &stop);
    let server: IpAddr = "10.0.1.12".parse().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let share = crate::config::test::encrypted_share("");
    let call = crate::share::plan::tunnelled_call(&share, port, server, NfsClient::fake());
    let plain = crate::share::plan::mount_call(&share, server, NfsClient::fake());
    let lo = dir.path().join("sys/class/net/lo");
    fs::create_dir_all(&lo).unwrap();
    let cut_off = || Failure::CutOff(server, Duration::from_secs(10));
    let no_way = || Failure::Mount(server, Errno::ENETUNREACH);
    fs::write(lo.join("flags"), "0x9\n").unwrap();
    for failure in [cut_off(), no_way()] {
        assert_eq!(machine.on_loopback(&call, failure.clone()), failure, "all is well here");
    }
    fs::write(lo.join("flags"), "0x8\n").unwrap();
    for failure in [cut_off(), no_way(), Failure::Mount(server, Errno::EIO)] {
        assert_eq!(machine.on_loopback(&call, failure.clone()), Failure::Loopback(None));
        assert_eq!(machine.on_loopback(&plain, failure.clone()), failure);
    }
    let denied = Failure::Mount(server, Errno::EACCES);
    assert_eq!(machine.on_loopback(&call, denied.clone()), denied, "the server has spoken");
    let missing = Failure::Mount(server, Errno::ENOENT);
    assert_eq!(machine.on_loopback(&call, missing.clone()), missing, "the server has spoken");
}

#[test]
fn the_right_to_mount_is_that_of_the_effective_set() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    let effective = u64::from_str_radix(effective.trim(), 16).unwrap();
    assert_eq!(sys::capabilities(), Some(effective));
    assert_eq!(crate::kernel::namespace::may_mount(), effective & 1 << 21 != 0);
}

#[test]
fn a_mount_counts_only_if_it_is_encrypted_as_the_config_wants() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    let name = "fs-0123abcd.efs.eu-west-1.amazonaws.com";
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(std::time::Instant::now(), &stop);
    let machine = Linux::new(dir.path(), &clock, &stop);
    let until = Deadline::after(&clock, Duration::from_secs(1));
    let share = |line: &str| {
        let text = format!("[[share]]\nendpoint = \"{name}\"\nmount_point = \"/m\"\n{line}\n");
        share_of(&text)
    };
    let (plain, encrypted) = (share(""), share("encryption_in_transit = true"));
    let show = |source: &str, place: &str| {
        let line = format!(
            "1 0 8:1 / / rw - ext4 a rw\n5 1 0:31 / /m rw,nosuid,nodev - nfs4 {source}:/ rw,vers=4.1,hard,noresvport,timeo=600,retrans=2,{place}\n"
        );
        fs::write(dir.path().join("proc/self/mountinfo"), line).unwrap();
    };
    show(name, "addr=10.0.0.1");
    assert_eq!(machine.mounted(&encrypted, until), Err(Failure::OtherWay));
    assert!(matches!(machine.mounted(&plain, until), Ok(Some(m)) if m.port == 2049));
    show(name, "port=40001,addr=127.0.0.1");
    assert_eq!(machine.mounted(&plain, until), Err(Failure::OtherWay));
    let ours = machine.mounted(&encrypted, until).unwrap().unwrap();
    assert_eq!((ours.port, ours.already, ours.differs.len()), (40001, true, 0));
    // A command that takes it down or reports it finds it all the same.
    assert!(matches!(machine.found(&plain, until), Ok(Some(m)) if m.port == 40001));
    // The mount helper of amazon-efs-utils names the tunnel.
    show("127.0.0.1", "port=20049,addr=127.0.0.1");
    let taken = Failure::Taken { source: "127.0.0.1:/".into(), fstype: "nfs4".into() };
    assert_eq!(machine.mounted(&encrypted, until), Err(taken));
}

/// A machine whose mount table is what a test says.
fn with_table(f: impl FnOnce(&Linux<'_, VirtualClock>, &dyn Fn(&str))) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    let show = |more: &str| {
        let table = format!("1 0 8:1 / / rw - ext4 a rw\n{more}");
        fs::write(dir.path().join("proc/self/mountinfo"), table).unwrap();
    };
    let (stop, clock) = (Stop::install().unwrap(), VirtualClock::default());
    f(&Linux::new(dir.path(), &clock, &stop), &show);
}

const LED: &str = "5 1 0:31 / /m rw,nosuid,nodev - nfs4 fs-1.example:/releases/1 rw,vers=4.1,hard,noresvport,timeo=600,retrans=2,addr=10.0.0.1\n";

#[test]
fn what_the_run_has_mounted_is_its_own_wherever_the_server_leads_the_path() {
    with_table(|machine, show| {
        let share = share_of(
            "[[share]]\nendpoint = \"fs-1.example\"\npath = \"/current\"\nmount_point = \"/m\"\n",
        );
        let until = Deadline::after(machine.clock, Duration::from_secs(9));
        let from = |address: &str| Provenance::CutOff(address.parse().unwrap());
        let seen = |since| {
            let bytes = machine.table().unwrap();
            machine.find(&mount_table::parse(&bytes), &share, since, until)
        };
        let taken =
            |source: &str| Err(Failure::Taken { source: source.into(), fstype: "nfs4".into() });
        show(LED);
        let found = seen(Provenance::JustMounted).unwrap().unwrap();
        assert_eq!((found.id, found.already, found.differs.len()), (5, false, 0));
        assert_eq!(found.led_to(&share), Some("fs-1.example:/releases/1"));
        assert_eq!(seen(Provenance::Earlier), taken("fs-1.example:/releases/1"));
        // A call was cut off, and what is there may be another's mount. It counts as its own only
        // if it comes from where the call was to connect.
        assert!(seen(from("10.0.0.1:2049")).is_ok());
        for other in ["10.0.0.2:2049", "10.0.0.1:2050"] {
            assert_eq!(seen(from(other)), taken("fs-1.example:/releases/1"), "{other}");
        }
        show(&LED.replace("fs-1.example:", "fs-2.example:"));
        assert_eq!(seen(from("10.0.0.1:2049")), taken("fs-2.example:/releases/1"));
        // A referral has another server too.
        show(&LED.replace("fs-1.example:/releases", "fs-2:/data").replace("0.0.1", "0.0.3"));
        assert!(seen(Provenance::JustMounted).is_ok_and(|found| found.is_some()));
        assert_eq!(seen(from("10.0.0.1:2049")), taken("fs-2:/data/1"));
        // Where there are two mounts, one is somebody else's. And what is not NFS is not what
        // mount(2) was asked for.
        show(&format!("{LED}6 5 0:32 / /m rw - nfs4 fs-1.example:/home rw,addr=10.0.0.1\n"));
        assert_eq!(seen(Provenance::JustMounted), taken("fs-1.example:/home"));
        show(&LED.replace("nfs4", "tmpfs"));
        assert!(matches!(seen(Provenance::JustMounted), Err(Failure::Taken { .. })));
    });
}

#[test]
fn what_leads_out_of_a_tunnel_is_told_from_what_is_on_another_connection() {
    let share = crate::config::test::encrypted_share("path = \"/current\"");
    let entry = |place: &str| {
        let text = format!("5 1 0:31 / /m rw - nfs4 fs:/data rw,{place}\n");
        let table = mount_table::parse(text.as_bytes());
        off_way(&table[0], &share, None)
    };
    let referred = Failure::Referred { source: "fs:/data".into(), to: None };
    assert_eq!(entry("addr=10.0.0.3"), referred);
    assert_eq!(entry("port=40001,addr=127.0.0.1"), Failure::OffWay(None));
    let same = "5 1 0:31 / /m rw - nfs4 fs:/current rw,addr=10.0.0.3\n";
    assert_eq!(
        off_way(&mount_table::parse(same.as_bytes())[0], &share, None),
        Failure::OffWay(None)
    );
}

#[test]
fn a_share_does_not_take_what_another_one_has_mounted_for_what_was_there_before() {
    with_table(|machine, show| {
        let share = |point: &str| {
            share_of(&format!("[[share]]\nendpoint = \"a\"\nmount_point = \"{point}\"\n"))
        };
        let (one, two) = (share("/m"), share("/n"));
        let until = Deadline::after(machine.clock, Duration::from_secs(9));
        show("");
        assert_eq!(machine.mounted(&one, until), Ok(None));
        // This share is up. The other share, on another server, is looked for only now.
        show(LED);
        assert_eq!(machine.mounted(&two, until), Ok(None));
        let known = machine.existing.lock().unwrap();
        let has = |point: &str| known[Path::new(point)].ids.contains(&5);
        assert!(!has("/m"), "its own mount would stay where it must be taken away");
        assert!(has("/n"));
    });
}

#[test]
fn another_run_that_has_just_mounted_the_share_gets_the_time_to_say_so() {
    with_table(|machine, show| {
        let share = |path: &str| {
            share_of(&format!(
                "[[share]]\nendpoint = \"fs-1.example\"\npath = \"{path}\"\nmount_point = \"/m\"\n"
            ))
        };
        let until = Deadline::after(machine.clock, Duration::from_secs(9));
        show(&LED.replace("fs-1", "fs-2"));
        assert!(matches!(machine.mounted(&share("/x"), until), Err(Failure::Taken { .. })));
        assert_eq!(machine.clock.now(), Duration::ZERO, "of another server, it is nobody's");
        show(LED);
        assert!(matches!(machine.mounted(&share("/x"), until), Err(Failure::Taken { .. })));
        let waited = machine.clock.now();
        assert!(
            waited >= ANNOUNCE_TIMEOUT && waited < ANNOUNCE_TIMEOUT + ANNOUNCE_PAUSE * 2,
            "{waited:?}"
        );
    });
}

#[test]
fn what_somebody_else_mounts_between_two_attempts_is_his() {
    with_table(|machine, show| {
        let share = share_of("[[share]]\nendpoint = \"a\"\n");
        let known = || machine.existing.lock().unwrap()[&share.mount_point].ids.contains(&77);
        show("");
        let until = Deadline::after(machine.clock, Duration::from_secs(1));
        assert_eq!(machine.mounted(&share, until), Ok(None));
        show("77 1 0:31 / /home/a rw - nfs4 a:/ rw,addr=10.0.0.1\n");
        machine.note_existing_again(&share);
        assert!(!known(), "the table was read for nothing: it may be the run's own");
        machine.clock.wait(OLD_LOOK + Duration::from_millis(1)).unwrap();
        machine.note_existing_again(&share);
        assert!(known());
    });
}
