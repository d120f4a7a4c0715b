use super::*;
use crate::config::test::encrypted_share;
use crate::stop::SystemClock;
use crate::tunnel::run_files::write_port;
use std::os::unix::net::UnixListener;
use std::time::Instant;

const SHARE: &str = "mount_point = \"/mnt/a\"\n";

/// A machine on which systemd holds a tunnel at port 40001, and this is mounted.
fn machine(mounted: &str) -> (tempfile::TempDir, UnixListener) {
    let dir = tempfile::tempdir_in("/run").unwrap();
    fs::create_dir_all(dir.path().join("proc/self")).unwrap();
    fs::create_dir_all(dir.path().join("run/efs-agent/tunnel")).unwrap();
    let line = format!("5 1 0:31 / /mnt/b rw - nfs4 fs:/ rw,vers=4.1,{mounted}\n");
    fs::write(dir.path().join("proc/self/mountinfo"), line).unwrap();
    let units = dir.path().join("run/systemd/system");
    fs::create_dir_all(units.join("efs-agent-tunnel@mnt-a.socket.d")).unwrap();
    write_port(dir.path(), Path::new("/mnt/a"), 40001).unwrap();
    let socket = dir.path().join("run/efs-agent/tunnel/mnt-a.sock");
    let listener = UnixListener::bind(socket).unwrap();
    (dir, listener)
}

#[test]
fn a_tunnel_that_another_run_has_begun_with_is_not_ours_to_end() {
    let (machine, _listener) = machine("addr=10.0.0.1");
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let (config, share) = (Path::new("/c"), encrypted_share(SHARE));
    let run = || Units::new(machine.path(), &clock, &stop, config);
    let soon = || Deadline::after(&clock, Duration::from_millis(300));
    let (check, start) = (run(), run());
    check.lock(&share, soon()).unwrap();
    start.lock(&share, soon()).unwrap();
    assert!(!check.claim(&share), "the start may mount any moment");
    drop(start);
    assert!(check.claim(&share));
    // A run that comes now waits until the tunnel is released.
    let late = run();
    let (began, until) = (clock.now(), Deadline::after(&clock, Duration::from_secs(20)));
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| late.lock(&share, until));
        std::thread::sleep(Duration::from_millis(200));
        check.release(&share);
        waits.join().unwrap().unwrap();
        assert!(clock.now() - began >= Duration::from_millis(200));
    });
    assert!(!check.claim(&share), "it has begun");
    drop(late);
    assert!(check.claim(&share));
    // It does not wait for ever: a start must not fail because of that.
    let other = run();
    other.lock(&share, soon()).unwrap();
    assert!(other.locks().is_empty() && !other.claim(&share));
}

#[test]
fn a_tunnel_that_something_is_mounted_through_is_not_ours_to_end() {
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let share = encrypted_share(SHARE);
    for (mounted, free) in [
        ("addr=10.0.0.1", true),
        ("port=40001,addr=10.0.0.1", true),
        ("port=40002,addr=127.0.0.1", true),
        ("port=40001,addr=127.0.0.1", false),
    ] {
        let (machine, _listener) = machine(mounted);
        let units = Units::new(machine.path(), &clock, &stop, Path::new("/c"));
        assert_eq!(units.claim(&share), free, "{mounted}");
        assert_eq!(units.locks().is_empty(), !free, "{mounted}");
    }
}

#[test]
fn a_tunnel_of_an_earlier_config_is_not_ended_under_a_mount_or_another_start() {
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let share = encrypted_share(SHARE);
    let soon = || Deadline::after(&clock, Duration::from_millis(300));
    let config = Path::new("/c");
    let (mounted, _listener) = machine("port=40001,addr=127.0.0.1");
    let units = Units::new(mounted.path(), &clock, &stop, config);
    assert!(!units.is_current(&share));
    assert_eq!(units.start(&share, None, soon()), Ok(40001));
    assert!(!units.locks().is_empty(), "it counts as used by this run");
    let (machine, _listener) = machine("addr=10.0.0.1");
    let run = || Units::new(machine.path(), &clock, &stop, config);
    let (other, units) = (run(), run());
    other.lock(&share, soon()).unwrap();
    assert_eq!(units.start(&share, None, soon()), Ok(40001));
    drop(other);
    assert!(units.claim(&share), "nobody else uses it now");
}

#[test]
fn a_tunnel_that_does_not_answer_and_has_no_key_yet_is_making_it() {
    let dir = tempfile::tempdir_in("/run").unwrap();
    let share = encrypted_share("");
    let stop = Stop::install().unwrap();
    let clock = SystemClock::new(Instant::now(), &stop);
    let units = Units::new(dir.path(), &clock, &stop, Path::new("/c"));
    let soon = || Deadline::after(&clock, Duration::from_millis(100));
    let (socket, key) = (units.socket(&share), Instance::of(&share.mount_point).key());
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let gone = TunnelError::NoTunnel(Errno::ENOENT);
    assert_eq!(units.status(&share, soon()), Err(gone));
    // Something listens, but does not answer.
    let _listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(units.status(&share, soon()), Err(TunnelError::MakingKey));
    let failure = TunnelError::MakingKey;
    assert_eq!(units.handshake(&share, soon()), Err(failure));
    fs::write(dir.path().join(key.strip_prefix("/").unwrap()), "key").unwrap();
    let late = TunnelError::NoTunnel(Errno::ETIMEDOUT);
    assert_eq!(units.status(&share, soon()), Err(late.clone()));
    assert_eq!(units.handshake(&share, soon()), Err(late));
}
