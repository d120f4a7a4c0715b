use super::*;
use crate::retry::Deadline;
use crate::stop::{Stop, SystemClock};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Instant;

const POINT: &str = "/mnt/a";

#[test]
fn a_command_line_is_quoted_as_units_want_it() {
    for (path, expected) in [
        ("/usr/sbin/efs-agent", "/usr/sbin/efs-agent"),
        ("/a b", "\"/a\\x20b\""),
        ("/100%/$x", "/100%%/$$x"),
        ("/a\"b\\c\n", "\"/a\\x22b\\x5cc\\x0a\""),
    ] {
        assert_eq!(quoted_word(Path::new(path)), expected);
    }
}

/// A machine whose systemctl is a script of the test's.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(systemd: bool) -> Self {
        let dir = tempfile::tempdir_in("/run").unwrap();
        for folder in ["run", "usr/bin", "usr/lib/systemd/system"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        if systemd {
            fs::create_dir_all(dir.path().join("run/systemd/system")).unwrap();
        }
        Self(dir)
    }

    /// In the script, systemctl's command is `$3`, since two options stand before it.
    fn systemctl(&self, script: &str) -> PathBuf {
        let program = self.0.path().join("usr/bin/systemctl");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn within<T>(&self, millis: u64, f: impl FnOnce(Systemd<'_>, Wait<'_>) -> T) -> T {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let until = Deadline::after(&clock, Duration::from_millis(millis));
        f(Systemd { root: self.0.path() }, Wait { until, clock: &clock, stop: &stop })
    }

    fn start(&self, port: Option<u16>) -> Result<u16, UnitError> {
        self.within(60_000, |systemd, wait| systemd.start(&unit(port), wait))
    }

    fn end(&self) -> Result<(), UnitError> {
        self.within(60_000, |systemd, wait| systemd.end(Path::new(POINT), wait))
    }
}

fn unit(port: Option<u16>) -> TunnelUnit<'static> {
    TunnelUnit {
        mount_point: Path::new(POINT),
        port,
        program: Path::new("/opt/efs-agent"),
        config: Path::new("/opt/efs-agent.toml"),
    }
}

#[test]
fn what_a_program_prints_is_told_when_it_fails() {
    let machine = Machine::new(false);
    let run_for = |millis, script: &str| {
        let mut command = programs::bare("/bin/sh");
        command.args(["-c", script]);
        machine.within(millis, |_, wait| run(command, wait))
    };
    let run_shell = |script: &str| run_for(60_000, script);
    assert_eq!(run_shell("exit 0"), Ok(()));
    let failed = |said: &str, script: &str| {
        let command = format!("/bin/sh -c {script}");
        Err(UnitError::Failed { command, said: said.into() })
    };
    let script = "echo one; echo 'two  three' >&2; exit 3";
    assert_eq!(run_shell(script), failed("one two three", script));
    assert_eq!(run_shell("exit 3"), failed("exit status: 3", "exit 3"));
    let late = run_for(1000, "exec sleep 60");
    assert_eq!(late, Err(UnitError::Late("/bin/sh -c exec sleep 60".into())));
    assert_eq!(run_shell("yes | head -c 1000000"), Ok(()));
}

#[test]
fn units_are_written_where_none_is_installed_and_drop_ins_always() {
    let machine = Machine::new(true);
    // There is no systemctl, so the start ends once the files are written.
    assert_eq!(machine.start(Some(2050)), Err(UnitError::NoSystemctl));
    let units = machine.path("run/systemd/system");
    let read = |name: &str| fs::read_to_string(units.join(name)).unwrap();
    assert_eq!(read("efs-agent-tunnel@.socket"), SOCKET_UNIT);
    assert_eq!(read("efs-agent-tunnel@.service"), SERVICE_UNIT);
    assert_eq!(
        read("efs-agent-tunnel@mnt-a.socket.d/port.conf"),
        "# Written by efs-agent at the start of this tunnel.\n[Socket]\nListenStream=\n\
         ListenStream=127.0.0.1:2050\n\
         ListenStream=/run/efs-agent/tunnel/mnt-a.sock\n"
    );
    assert_eq!(
        read("efs-agent-tunnel@mnt-a.service.d/run.conf"),
        "# Written by efs-agent at the start of this tunnel.\n[Service]\nExecStart=\n\
         ExecStart=/opt/efs-agent tunnel /mnt/a --config /opt/efs-agent.toml\n"
    );
    let folder = fs::metadata(machine.path("run/efs-agent/tunnel")).unwrap();
    assert_eq!(folder.permissions().mode() & 0o7777, 0o700);

    let installed = Machine::new(true);
    for name in ["efs-agent-tunnel@.socket", "efs-agent-tunnel@.service"] {
        fs::write(installed.path("usr/lib/systemd/system").join(name), "").unwrap();
    }
    assert_eq!(installed.start(Some(2050)), Err(UnitError::NoSystemctl));
    let units = installed.path("run/systemd/system");
    assert!(!units.join("efs-agent-tunnel@.socket").exists());
    assert!(units.join("efs-agent-tunnel@mnt-a.socket.d/port.conf").exists());
}

#[test]
fn without_systemd_nothing_is_started_and_what_nobody_listens_at_is_cleared_away() {
    let machine = Machine::new(false);
    machine.systemctl("exit 0");
    assert_eq!(machine.start(None), Err(UnitError::NoSystemd));
    assert_eq!(machine.end(), Ok(()));
    assert!(!machine.path("run/efs-agent/tunnel/mnt-a.port").exists());
    // An earlier version holds a tunnel in another way. It must not be reported as ended.
    let socket = machine.path("run/efs-agent/tunnel/mnt-a.sock");
    let _listener = UnixListener::bind(socket).unwrap();
    assert_eq!(machine.end(), Err(UnitError::NoSystemd));
}

#[test]
fn whenever_a_start_is_given_up_the_port_that_it_may_still_get_is_written_down() {
    let machine = Machine::new(true);
    let ports = machine.path("ports");
    let written = machine.path("run/efs-agent/tunnel/mnt-a.port");
    let script = |then: &str| {
        let (written, ports) = (written.display(), ports.display());
        machine.systemctl(&format!("[ $3 = start ] || exit 0\ncat {written} >> {ports}\n{then}"));
    };
    let start = |millis| machine.within(millis, |systemd, wait| systemd.start(&unit(None), wait));
    let asked = |n: usize| fs::read_to_string(&ports).unwrap().lines().nth(n).unwrap().to_owned();
    script("exec sleep 60");
    assert!(matches!(start(5000), Err(UnitError::Late(_))));
    let given_up = asked(0);
    // The start is carried out after all, or the next one asks for the same port.
    script("exit 0");
    assert_eq!(start(60_000).unwrap().to_string(), given_up);
    assert_eq!(asked(1), given_up);
    // Another program has taken that port meanwhile.
    script("test \"$(wc -l < $0.n 2> /dev/null)\" && exit 0; echo > $0.n; exit 1");
    let port = start(60_000).unwrap().to_string();
    assert_ne!(port, given_up);
    let _listener = UnixListener::bind(machine.path("run/efs-agent/tunnel/mnt-a.sock")).unwrap();
    let instance = Instance::of(Path::new(POINT));
    let found = machine.within(500, |systemd, _| systemd.port(&instance));
    assert_eq!(found.unwrap().to_string(), port);
}

#[test]
fn what_fails_although_it_has_its_port_is_told_at_once_and_tried_at_no_other() {
    let machine = Machine::new(true);
    let socket = machine.path("run/efs-agent/tunnel/mnt-a.sock");
    // systemd has the listeners, but cannot start the tunnel behind them.
    let program = machine.systemctl(
        "[ $3 = start ] || exit 0\necho >> $0.runs\n\
         while [ ! -e $0.held ]; do sleep 0.01; done\necho no environment; exit 1",
    );
    let (runs, held) = (program.with_extension("runs"), program.with_extension("held"));
    let (counted, bound) = (runs.clone(), socket.clone());
    let systemd = std::thread::spawn(move || {
        while !counted.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let listener = UnixListener::bind(bound).unwrap();
        fs::write(held, "").unwrap();
        listener
    });
    let started = machine.start(None);
    let Err(UnitError::Failed { said, .. }) = started else { panic!("{started:?}") };
    assert_eq!(said, "no environment");
    assert_eq!(fs::read_to_string(runs).unwrap().lines().count(), 1);
    drop(systemd.join().unwrap());
}

#[test]
fn a_port_that_another_program_holds_is_told_as_that() {
    let other = TcpListener::bind((peer::LOCAL, 0)).unwrap();
    let port = other.local_addr().unwrap().port();
    let machine = Machine::new(true);
    machine.systemctl("[ $3 = start ] || exit 0\necho no; exit 1");
    assert_eq!(machine.start(Some(port)), Err(UnitError::PortTaken(port)));
    drop(other);
    assert!(matches!(machine.start(Some(port)), Err(UnitError::Failed { .. })));
    assert_eq!(
        UnitError::PortTaken(2050).to_string(),
        "port 2050 of 127.0.0.1, where it is to listen, is held by another program"
    );
}

#[test]
fn a_tunnel_is_ended_by_its_units_and_what_has_none_is_not_called_ended() {
    let machine = Machine::new(true);
    let socket = machine.path("run/efs-agent/tunnel/mnt-a.sock");
    let remove = format!("rm {}", socket.display());
    machine.systemctl(&format!("echo $@ >> $0.log\n[ $3 = stop ] && {remove}\nexit 0"));
    machine.start(Some(2050)).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(machine.end(), Ok(()));
    let log = fs::read_to_string(machine.path("usr/bin/systemctl.log")).unwrap();
    assert!(
        log.ends_with(
            "stop --no-block efs-agent-tunnel@mnt-a.socket efs-agent-tunnel@mnt-a.service\n"
        ),
        "{log}"
    );
    let units = machine.path("run/systemd/system");
    assert!(!units.join("efs-agent-tunnel@mnt-a.socket.d").exists());
    assert!(!machine.path("run/efs-agent/tunnel/mnt-a.port").exists());
    drop(listener);

    // This tunnel is not held by units, so systemd does not know it.
    let _listener = UnixListener::bind(&socket).unwrap();
    machine.systemctl("echo not loaded; exit 5");
    let ended = machine.end();
    assert!(matches!(&ended, Err(UnitError::Failed { said, .. }) if said == "not loaded"));
}

#[test]
fn a_port_counts_as_long_as_the_listener_is_held() {
    let machine = Machine::new(false);
    let instance = Instance::of(Path::new(POINT));
    let port = || machine.within(500, |systemd, _| systemd.port(&instance));
    assert_eq!(port(), None);
    run_files::write_port(machine.0.path(), Path::new(POINT), 2050).unwrap();
    assert_eq!(port(), None, "nobody listens");
    let socket = machine.path("run/efs-agent/tunnel/mnt-a.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    assert_eq!(port(), Some(2050));
    drop(listener);
    assert_eq!(port(), None);
    machine.end().unwrap();
    assert!(!socket.exists());
    assert!(!machine.path("run/efs-agent/tunnel/mnt-a.port").exists());
}
