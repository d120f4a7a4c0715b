//! Shares with encryption in transit, through the whole program, for all that needs no mount: a session
//! start that gets as far as the handshake with a stand-in on loopback, `check`, and the tunnel's end.
//! Needs root, like the program.

// Test files that clippy does not know as such.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod common;
#[path = "common/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "common/tls.rs"]
mod tls;

use common::{agent, ended, folder};
use efs_agent::aws::certificate::Key;
use machine::Namespaces;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tls::{Authority, NAME, Shown};

/// A server on loopback that does `work` with each connection, until the test program ends.
fn server(work: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let work = Arc::new(work);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let work = work.clone();
            thread::spawn(move || work(stream));
        }
    });
    port
}

/// One that speaks TLS, and closes when the client has said something.
fn tls_server(shown: &Shown) -> u16 {
    let (config, _): (Arc<ServerConfig>, _) = tls::server(shown, &[&TLS12, &TLS13], &[]);
    server(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut tls = StreamOwned::new(connection, stream);
        let _ = tls.read(&mut [0; 64]);
        let _ = tls.flush();
    })
}

/// A machine with one encrypted share.
struct Machine {
    namespaces: Namespaces,
    folder: tempfile::TempDir,
}

impl Machine {
    fn new(port: u16, authority: &Authority, more: &str) -> Self {
        Self::among(Namespaces::with_systemd(), port, authority, more)
    }

    fn among(namespaces: Namespaces, port: u16, authority: &Authority, more: &str) -> Self {
        let folder = folder();
        fs::write(folder.path().join("roots.pem"), &authority.pem).unwrap();
        let config = format!(
            "deadline = \"5s\"\n[log]\nsyslog = false\n[[share]]\nendpoint = \"127.0.0.1\"\n\
             mount_point = \"{}\"\noptions = \"port={port}\"\nencryption_in_transit = true\n\
             file_system_id = \"fs-0123abcd\"\nregion = \"eu-west-1\"\ntrust = \"{}\"\n{more}\n",
            folder.path().join("mnt").display(),
            folder.path().join("roots.pem").display()
        );
        fs::write(folder.path().join("c.toml"), config).unwrap();
        Self { namespaces, folder }.with_key()
    }

    fn run(&self, args: &[&str]) -> (i32, String) {
        let config = self.folder.path().join("c.toml");
        let mut command = agent();
        command.args(args).arg("--config").arg(config);
        ended(self.namespaces.command(&command).output().unwrap())
    }

    fn once(&self) -> (i32, String) {
        self.run(&["--once"])
    }

    /// On a busy machine, it takes a while until it answers.
    fn wait_for_tunnel(&self) {
        let until = Instant::now() + Duration::from_secs(120);
        let answers = || self.run(&["status"]).1.contains("no handshake yet");
        while !answers() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Gives its tunnel a key: that takes long to make on a busy machine, and is not what is looked at.
    fn with_key(self) -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        let key = KEY.get_or_init(|| Key::generate().unwrap().pkcs8().unwrap().to_vec());
        let path = self.tunnel("key");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, key).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
        self
    }

    /// A file of the tunnel's.
    fn tunnel(&self, kind: &str) -> PathBuf {
        let point = self.folder.path().join("mnt").display().to_string();
        let name = point.trim_start_matches('/').replace('-', "\\x2d").replace('/', "-");
        self.namespaces.path(&Path::new("/run/efs-agent/tunnel").join(format!("{name}.{kind}")))
    }

    /// The command lines of its tunnel's processes.
    fn processes(&self) -> Vec<String> {
        let point = self.folder.path().join("mnt").display().to_string();
        let all = fs::read_dir("/proc").unwrap().flatten();
        let lines = all.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        // Not that of whoever has it run.
        let is_tunnel = |line: &String| {
            line.contains(&format!("/efs-agent tunnel {point} ")) && !line.starts_with("nsenter")
        };
        lines.filter(is_tunnel).collect()
    }

    fn has_tunnel(&self) -> bool {
        self.tunnel("sock").exists()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.run(&["unmount"]);
        let until = Instant::now() + Duration::from_secs(2);
        while !self.processes().is_empty() && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let left = self.processes();
        assert!(left.is_empty() || thread::panicking(), "left behind: {left:?}");
    }
}

#[test]
fn a_handshake_that_fails_ends_the_start_before_anything_is_mounted() {
    let ours = Authority::new();
    let wrong_name = ours.issue(&["nfs.example"], (2000, 2099));
    let strange = Authority::new().good();
    for (port, code, sentence, cure) in [
        (
            tls_server(&wrong_name),
            69,
            format!("the server's certificate is for nfs.example, not for {NAME}; after 1 attempt"),
            "if the server is a stand-in for EFS, name it in `tls_name`",
        ),
        (
            tls_server(&strange),
            69,
            "the server's certificate was issued by nobody that is trusted; after 1 attempt".into(),
            "put the issuer's root into ",
        ),
        (
            server(|mut stream| drop(stream.read(&mut [0; 16]))),
            75,
            "the server closed the connection in the middle of the TLS handshake; after 1".into(),
            "an NFS server without TLS does this",
        ),
    ] {
        let machine = Machine::new(port, &ours, "");
        let (exit, out) = machine.once();
        assert_eq!(exit, code, "{out}");
        assert!(out.contains(&sentence), "{out}");
        assert!(out.contains(cure), "{out}");
        assert!(!machine.folder.path().join("mnt").exists(), "the mount point is taken back");
        // It has read the roots when it began: one that is added to them counts for the next alone.
        let stays = !sentence.contains("nobody that is trusted");
        assert_eq!(machine.has_tunnel(), stays, "the next start finds it");
        let (exit, out) = machine.run(&["unmount"]);
        assert_eq!(exit, 0, "{out}");
        assert_eq!(out.contains("; its tunnel was ended\n"), stays, "{out}");
        assert!(!machine.has_tunnel(), "{out}");
        assert!(!machine.tunnel("port").exists());
    }
}

#[test]
fn a_start_tries_again_until_its_deadline_and_says_why() {
    let ours = Authority::new();
    let port = server(|mut stream| drop(stream.read(&mut [0; 16])));
    let machine = Machine::new(port, &ours, "");
    let started = Instant::now();
    let (exit, out) = machine.run(&["--allow-private-namespace"]);
    let took = started.elapsed().as_secs_f64();
    assert_eq!(exit, 75, "{out}");
    assert!((4.0..6.0).contains(&took), "{took}");
    assert!(out.lines().filter(|line| line.contains(": attempt ")).count() > 3, "{out}");
    let last = out.lines().last().unwrap();
    assert!(last.contains("in the middle of the TLS handshake; after "), "{last}");
}

#[test]
fn check_names_the_link_and_leaves_no_tunnel_behind() {
    let ours = Authority::new();
    let port = tls_server(&ours.issue(&["nfs.example"], (2000, 2099)));
    let machine = Machine::new(port, &ours, "");
    let (exit, out) = machine.run(&["check"]);
    assert_eq!(exit, 1);
    let line = |link: &str| {
        let found = out.lines().find(|line| line.split_whitespace().nth(1) == Some(link));
        found.unwrap_or_else(|| panic!("no {link} in {out}"))
    };
    // Elsewhere than in a container, the mount table is everybody's.
    if line("privileges").starts_with("ok") {
        assert!(line("tunnel").contains("; was started for this check"), "{out}");
        let handshake = line("handshake");
        assert!(handshake.starts_with("FAULT"), "{handshake}");
        assert!(handshake.contains("certificate is for nfs.example, not for "), "{handshake}");
        assert!(!machine.has_tunnel(), "{out}");
    }
}

#[test]
fn check_leaves_the_tunnel_that_it_has_started_to_a_session_start_that_has_begun_with_it() {
    let ours = Authority::new();
    let (config, _) = tls::server(&ours.good(), &[&TLS12, &TLS13], &[]);
    let hellos = Arc::new(AtomicUsize::new(0));
    let count = hellos.clone();
    // The first handshake ends as soon as there is a second one, which is let wait for a second.
    let port = server(move |stream| {
        let mut hello = [0; 1];
        if stream.peek(&mut hello).is_ok_and(|n| n == 1) {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                let until = Instant::now() + Duration::from_secs(4);
                while count.load(Ordering::SeqCst) == 1 && Instant::now() < until {
                    thread::sleep(Duration::from_millis(10));
                }
                return;
            }
            thread::sleep(Duration::from_secs(1));
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut tls = StreamOwned::new(connection, stream);
            let _ = tls.read(&mut [0; 64]);
            let _ = tls.flush();
        }
    });
    let machine = Machine::new(port, &ours, "");
    thread::scope(|scope| {
        let check = scope.spawn(|| machine.run(&["check"]).1);
        let until = Instant::now() + Duration::from_secs(10);
        while hellos.load(Ordering::SeqCst) == 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(10));
        }
        let (exit, out) = machine.once();
        let check = check.join().unwrap();
        // Elsewhere than in a container, the mount table is everybody's.
        if check.contains("FAULT    privileges") {
            return;
        }
        assert!(check.contains("; was started for this check"), "{check}");
        assert!(
            check.contains("closed the connection in the middle of the TLS handshake"),
            "{check}"
        );
        assert_eq!(exit, 75, "{out}");
        assert!(out.contains("the server closed the connection right after the TLS"), "{out}");
        assert!(machine.has_tunnel());
    });
}

#[test]
fn all_tunnels_can_be_started_beforehand_and_a_start_uses_them() {
    let ours = Authority::new();
    let port = server(|mut stream| drop(stream.read(&mut [0; 16])));
    let machine = Machine::new(port, &ours, "");
    let (exit, out) = machine.run(&["tunnel", "--all"]);
    assert_eq!(exit, 0, "{out}");
    let listens = out.split_once("its tunnel listens on 127.0.0.1:").unwrap().1.trim().to_owned();
    assert!(listens.parse::<u16>().is_ok(), "{out}");
    assert_eq!(fs::read_to_string(machine.tunnel("port")).unwrap().trim(), listens);
    machine.wait_for_tunnel();
    let (exit, out) = machine.run(&["status"]);
    assert_eq!(exit, 1);
    let line = format!(
        ": NOT MOUNTED\n  tunnel: runs, though nothing is mounted through it: port {listens}, no handshake yet; "
    );
    assert!(out.contains(&line), "{out}");
    let (_, json) = machine.run(&["status", "--json"]);
    assert!(json.contains(&format!("\"tunnel\": {{\"port\": {listens}, ")), "{json}");
    let (exit, out) = machine.once();
    assert_eq!(exit, 75, "{out}");
    let (_, again) = machine.run(&["tunnel", "--all"]);
    assert!(again.trim_end().ends_with(&format!("127.0.0.1:{listens}")), "{again}");
}

#[test]
fn a_tunnel_of_an_earlier_config_makes_way() {
    let ours = Authority::new();
    let port = tls_server(&ours.issue(&["nfs.example"], (2000, 2099)));
    let machine = Machine::new(port, &ours, "");
    let (exit, out) = machine.once();
    assert!(exit == 69 && out.contains("certificate is for nfs.example, not for "), "{out}");
    let port_before = fs::read_to_string(machine.tunnel("port")).unwrap();
    let config = machine.folder.path().join("c.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "tls_name = \"nfs.example\"\n").unwrap();
    // The handshake is finished now; behind it is no NFS server.
    let (exit, out) = machine.once();
    assert!(
        exit == 75 && out.contains("closed the connection right after the TLS handsh"),
        "{out}"
    );
    assert_ne!(fs::read_to_string(machine.tunnel("port")).unwrap(), port_before);
    // Nor does a root that was exchanged count any longer.
    fs::write(machine.folder.path().join("roots.pem"), &Authority::new().pem).unwrap();
    let (exit, out) = machine.once();
    assert!(exit == 69 && out.contains("was issued by nobody that is trusted"), "{out}");
}

#[test]
fn no_tunnel_is_left_behind_however_fast_one_takes_the_place_of_another() {
    let ours = Authority::new();
    let machine = Machine::new(9, &ours, "");
    let config = machine.folder.path().join("c.toml");
    let text = fs::read_to_string(&config).unwrap();
    for n in 0..10 {
        fs::write(&config, format!("{text}tls_name = \"nfs-{n}.example\"\n")).unwrap();
        let (exit, out) = machine.run(&["tunnel", "--all"]);
        assert_eq!(exit, 0, "{out}");
        assert!(machine.has_tunnel());
    }
    let (exit, out) = machine.run(&["unmount"]);
    assert_eq!(exit, 0, "{out}");
}

#[test]
fn of_many_runs_at_the_same_moment_one_tunnel_is_left_which_all_know() {
    let ours = Authority::new();
    let port = tls_server(&ours.issue(&["nfs.example"], (2000, 2099)));
    for round in 0..5 {
        let machine = Machine::new(port, &ours, "");
        thread::scope(|scope| {
            let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| machine.once())).collect();
            for run in runs {
                // Each comes as far as the certificate.
                let (exit, out) = run.join().unwrap();
                assert!(
                    exit == 69 && out.contains("is for nfs.example, not for "),
                    "{round}: {out}"
                );
            }
        });
        let at = fs::read_to_string(machine.tunnel("port")).unwrap().trim().to_owned();
        let processes = machine.processes();
        assert_eq!(processes.len(), 1, "{round}: {processes:?}");
        assert!(TcpStream::connect(format!("127.0.0.1:{at}")).is_ok(), "{round}");
        assert_eq!(machine.run(&["unmount"]).0, 0);
        assert!(machine.processes().is_empty() && !machine.has_tunnel());
    }
}

#[test]
fn a_tunnel_whose_port_nobody_wrote_down_is_begun_anew() {
    let machine = Machine::new(9, &Authority::new(), "");
    let all = || {
        let (exit, out) = machine.run(&["tunnel", "--all"]);
        assert_eq!(exit, 0, "{out}");
        out.trim_end().rsplit_once(':').unwrap().1.to_owned()
    };
    let is_there = |port: &str| TcpStream::connect(format!("127.0.0.1:{port}")).is_ok();
    let first = all();
    assert!(is_there(&first));
    fs::remove_file(machine.tunnel("port")).unwrap();
    let second = all();
    assert!(is_there(&second), "{second}");
    assert!(second == first || !is_there(&first), "the other one is gone");
    assert_eq!(all(), second, "it is found again");
    // Nor does a port that nobody knows hinder the end.
    fs::remove_file(machine.tunnel("port")).unwrap();
    assert_eq!(machine.run(&["unmount"]).0, 0);
    assert!(!machine.has_tunnel() && !is_there(&second));
}

#[test]
fn without_systemd_an_encrypted_share_is_refused_for_good_in_one_sentence() {
    let ours = Authority::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let port = server(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let machine = Machine::among(Namespaces::without_systemd(), port, &ours, "");
    let sentence = "an encrypted share needs systemd, which is not the init system here (no \
                    /run/systemd/system)";
    let cure = "run it where systemd is PID 1, as on every AppStream image; or set \
                encryption_in_transit = false";
    let began = Instant::now();
    let (exit, out) = machine.run(&[]);
    assert!(exit == 69 && began.elapsed() < Duration::from_secs(3), "{out}");
    assert!(out.contains(sentence) && out.contains(&format!("to mend it: {cure}")), "{out}");
    assert!(!machine.folder.path().join("mnt").exists(), "the mount point is taken back");
    let (exit, out) = machine.run(&["tunnel", "--all"]);
    assert_eq!(exit, 69, "{out}");
    assert!(out.contains(&format!("{sentence}; to mend it: {cure}\n")), "{out}");
    assert_eq!(taken.load(Ordering::SeqCst), 0, "nothing has reached the server");
    let (exit, out) = machine.run(&["check"]);
    assert!(exit == 1 && out.contains(sentence) && out.contains(cure), "{out}");
    let (exit, out) = machine.run(&["unmount"]);
    assert_eq!(exit, 0, "{out}");
}

#[test]
fn credentials_that_are_not_there_are_what_is_said() {
    let ours = Authority::new();
    let port = tls_server(&ours.good());
    let machine = Machine::new(port, &ours, "iam = true\naws_profile = \"efs-agent-test-none\"\n");
    let (exit, out) = machine.once();
    // A name that nobody has written is a slip, and no waiting mends it.
    assert_eq!(exit, 69, "{out}");
    assert!(out.contains("efs-agent-test-none"), "{out}");
    assert!(out.contains("to mend it: check the profile efs-agent-test-none in root's"), "{out}");
}

#[test]
fn files_that_others_can_change_end_the_start_with_the_one_command_that_mends_it() {
    let ours = Authority::new();
    let machine = Machine::new(tls_server(&ours.good()), &ours, "");
    let roots = machine.folder.path().join("roots.pem");
    std::os::unix::fs::chown(&roots, Some(65534), None).unwrap();
    let (exit, out) = machine.once();
    assert_eq!(exit, 69, "{out}");
    assert!(out.contains("roots.pem belongs to user 65534; after 1 attempt in "), "{out}");
    let end = format!(" s\n  to mend it: chown root:root {}\n  exit 69\n", roots.display());
    assert!(out.ends_with(&end), "{out}");
}

#[test]
fn certificates_that_are_missing_or_none_are_said_before_the_server_hears_of_us() {
    let ours = Authority::new();
    let taken = Arc::new(AtomicUsize::new(0));
    let count = taken.clone();
    let port = server(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let machine = Machine::new(port, &ours, "");
    let roots = machine.folder.path().join("roots.pem");
    for (text, sentence) in [
        (None, "roots.pem are missing: the file cannot be opened: No such file or directory"),
        (Some("no certificate\n"), "roots.pem holds no certificate (they begin with -----BEGIN"),
    ] {
        let _ = fs::remove_file(&roots);
        if let Some(text) = text {
            fs::write(&roots, text).unwrap();
        }
        let (exit, out) = machine.once();
        assert!(exit == 69 && out.contains(sentence), "{out}");
        assert!(
            out.contains("\n  to mend it: correct `trust`: a PEM file that root alone"),
            "{out}"
        );
        let (exit, out) = machine.run(&["tunnel", "--all"]);
        assert!(exit == 69 && out.contains(sentence), "{out}");
        let (exit, out) = machine.run(&["check"]);
        assert_eq!(exit, 1);
        // Elsewhere than in a container, the mount table is everybody's.
        if !out.contains("FAULT    privileges") {
            assert!(out.contains(sentence) && !out.contains("name  "), "{out}");
        }
        assert!(!machine.has_tunnel());
    }
    assert_eq!(taken.load(Ordering::SeqCst), 0);
}

#[test]
fn the_config_says_at_once_what_does_not_go_together() {
    let folder = folder();
    let path = folder.path().join("c.toml");
    let path = path.to_str().unwrap();
    fs::write(path, "[[share]]\nendpoint = \"fs-1.example\"\niam = true\n").unwrap();
    let (exit, out) = ended(agent().args(["--once", "--config", path]).output().unwrap());
    assert_eq!(exit, 78);
    assert_eq!(
        out,
        format!(
            "error: {path}:3:7: iam needs encryption_in_transit = true in the same [[share]] (exit 78)\n"
        )
    );
}
