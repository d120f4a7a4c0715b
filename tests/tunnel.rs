//! The tunnel as a program, on loopback: started with its listeners as systemd would, against servers
//! that demand a client's certificate. What goes through must come out, whatever is done to it.

// A test file that clippy does not know as one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
mod common;
#[allow(dead_code)]
#[path = "common/tls.rs"]
mod tls;

use common::agent;
use efs_agent::stop::{Stop, SystemClock};
use efs_agent::tunnel::protocol::{self, Peer, TunnelError, TunnelStatus};
use efs_agent::wait::Wait;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tls::{Authority, NAME};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const MIB: usize = 1 << 20;

/// What a server does with a connection on which TLS stands.
type Work = fn(StreamOwned<ServerConnection, TcpStream>) -> io::Result<()>;

/// A server with threads, until it is dropped.
struct Server {
    port: u16,
    ended: Arc<AtomicBool>,
    /// Connections that were taken.
    taken: Arc<AtomicUsize>,
}

impl Server {
    fn start(config: Arc<ServerConfig>, work: Work) -> Self {
        Self::raw(move |stream| {
            let connection = ServerConnection::new(config.clone()).unwrap();
            work(StreamOwned::new(connection, stream))
        })
    }

    /// One that does `work` with the bare connection.
    fn raw(work: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ended, taken) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (until, count, work) = (ended.clone(), taken.clone(), Arc::new(work));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                // Only looked at (reach): nothing comes.
                let (stream, work) = (stream.unwrap(), work.clone());
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                thread::spawn(move || work(stream));
            }
        });
        Self { port, ended, taken }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// Sends back what comes, and ends as the client does.
fn echo(mut tls: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
    let mut bytes = vec![0; 65_536];
    loop {
        match tls.read(&mut bytes)? {
            0 => {
                tls.conn.send_close_notify();
                tls.flush()?;
                return tls.sock.shutdown(Shutdown::Write);
            }
            n => tls.write_all(&bytes[..n])?,
        }
    }
}

/// A tunnel, with its listeners in our hands as they would be in systemd's.
struct Tunnel {
    folder: tempfile::TempDir,
    nfs: TcpListener,
    control: UnixListener,
    program: PathBuf,
    worker: Option<Child>,
}

impl Tunnel {
    /// To `port` of this machine, trusting `authority`.
    fn to(port: u16, authority: &Authority) -> Self {
        let folder = common::folder();
        fs::write(folder.path().join("roots.pem"), &authority.pem).unwrap();
        let config = format!(
            "[log]\nlevel = \"debug\"\n[[share]]\nendpoint = \"127.0.0.1\"\noptions = \"port={port}\"\n\
             mount_point = \"/mnt/efs-agent-test\"\nencryption_in_transit = true\n\
             file_system_id = \"fs-0123abcd\"\nregion = \"eu-west-1\"\ntrust = \"{}\"\n",
            folder.path().join("roots.pem").display()
        );
        fs::write(folder.path().join("c.toml"), config).unwrap();
        let nfs = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = UnixListener::bind(folder.path().join("t.sock")).unwrap();
        let program = agent().get_program().into();
        let mut tunnel = Self { folder, nfs, control, program, worker: None };
        tunnel.start();
        tunnel
    }

    fn start(&mut self) {
        self.run("/bin/bash", &[], "");
    }

    /// Starts it in mounts of its own, which `script` has made.
    fn start_in(&mut self, script: &str) {
        self.run("unshare", &["--mount", "/bin/bash"], script);
    }

    /// The program gets the listeners as descriptors 3 and 4.
    fn run(&mut self, shell: &str, args: &[&str], before: &str) {
        let numbers = [self.nfs.as_raw_fd(), self.control.as_raw_fd()];
        fcntl(&self.nfs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        fcntl(&self.control, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let script = format!(
            "{before}\nexec {{a}}<&{} {{b}}<&{}; exec 3<&$a 4<&$b; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\"",
            numbers[0], numbers[1]
        );
        let mut command = Command::new(shell);
        command.args(args).args(["-c", &script, "bash"]).arg(&self.program);
        command.args(["tunnel", "/mnt/efs-agent-test", "--config"]);
        command.arg(self.folder.path().join("c.toml")).env_clear().stdin(Stdio::null());
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.worker = Some(command.spawn().unwrap());
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap()
    }

    fn pid(&self) -> u32 {
        self.worker.as_ref().unwrap().id()
    }

    fn kill(&mut self, signal: Signal) -> Option<i32> {
        let mut worker = self.worker.take().unwrap();
        kill(Pid::from_raw(worker.id() as i32), signal).unwrap();
        worker.wait().unwrap().code()
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.nfs.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn handshake(&self, millis: u64) -> Result<Peer, TunnelError> {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let wait = Wait::of(Duration::from_millis(millis), &clock, &stop);
        protocol::handshake(&self.folder.path().join("t.sock"), wait)
    }

    fn status(&self) -> TunnelStatus {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let wait = Wait::of(Duration::from_secs(20), &clock, &stop);
        protocol::status(&self.folder.path().join("t.sock"), wait).unwrap()
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the tunnel said:\n{}", self.log());
        }
        if self.worker.is_some() {
            self.kill(Signal::SIGKILL);
        }
    }
}

/// `n` bytes that are not all alike.
fn data(n: usize, seed: u8) -> Vec<u8> {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..n).map(|_| next()).collect()
}

/// Sends `bytes` and takes back as many, at the same time.
fn there_and_back(stream: &TcpStream, bytes: &[u8]) -> Vec<u8> {
    thread::scope(|scope| {
        let mut up = stream;
        scope.spawn(move || up.write_all(bytes).unwrap());
        let mut got = vec![0; bytes.len()];
        let mut down = stream;
        down.read_exact(&mut got).unwrap();
        got
    })
}

fn good(work: Work) -> (Server, Tunnel) {
    let authority = Authority::new();
    let (config, _) = tls::server(&authority.good(), BOTH, &[]);
    let server = Server::start(config, work);
    let tunnel = Tunnel::to(server.port, &authority);
    (server, tunnel)
}

#[test]
fn data_is_carried_both_ways_at_once_and_counted() {
    let authority = Authority::new();
    let (config, anyone) = tls::server(&authority.good(), BOTH, &[]);
    let server = Server::start(config, echo);
    let tunnel = Tunnel::to(server.port, &authority);
    let peer = tunnel.handshake(20_000).unwrap();
    assert_eq!((peer.address.to_string().as_str(), peer.identity.as_ref()), ("127.0.0.1", None));
    let bytes = data(8 * MIB, 1);
    let stream = tunnel.connect();
    assert!(there_and_back(&stream, &bytes) == bytes);
    // One certificate for the question, another for the connection; that of efs-utils' form.
    let seen = anyone.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    let has = |words: &[u8]| seen[1].windows(words.len()).any(|w| w == words);
    assert!(has(b"fs-0123abcd") && has(b"efs-agent"));
    let status = tunnel.status();
    assert_eq!((status.connections, status.refused, status.last_failure), (1, 0, None));
    assert_eq!((status.sent, status.received), (8 * MIB as u64, 8 * MIB as u64));
    assert_eq!(status.peer, Some(peer));
}

#[test]
fn whoever_does_not_take_holds_up_the_other_and_nothing_is_lost_or_heaped_up() {
    let (_server, tunnel) = good(|mut tls| {
        let mut first = [0];
        tls.read_exact(&mut first)?;
        if first == *b"d" {
            tls.write_all(&data(32 * MIB, 9))?;
        } else {
            // Takes nothing for a while, and then a little at a time.
            thread::sleep(Duration::from_millis(700));
            let mut got = vec![0; 32 * MIB];
            for chunk in got.chunks_mut(50_021) {
                tls.read_exact(chunk)?;
            }
            tls.write_all(if got == data(32 * MIB, 8) { b"good" } else { b"BAD!" })?;
        }
        tls.conn.send_close_notify();
        tls.flush()?;
        // Until the client has ended too, so that nothing is cut off.
        let _ = tls.read(&mut first);
        Ok(())
    });
    let mut up = tunnel.connect();
    up.write_all(b"u").unwrap();
    up.write_all(&data(32 * MIB, 8)).unwrap();
    let mut answer = [0; 4];
    up.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"good");
    let mut down = tunnel.connect();
    down.write_all(b"d").unwrap();
    thread::sleep(Duration::from_millis(700));
    let mut got = vec![0; 32 * MIB];
    for (n, chunk) in got.chunks_mut(50_021).enumerate() {
        if n % 100 == 0 {
            thread::sleep(Duration::from_millis(30));
        }
        down.read_exact(chunk).unwrap();
    }
    assert!(got == data(32 * MIB, 9));
    let status = fs::read_to_string(format!("/proc/{}/status", tunnel.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 30 * 1024, "{peak} KiB");
}

#[test]
fn thirty_two_connections_at_once_each_get_their_own_bytes() {
    let (server, tunnel) = good(echo);
    thread::scope(|scope| {
        for n in 0..32 {
            let stream = tunnel.connect();
            scope.spawn(move || {
                let bytes = data(MIB, n);
                assert!(there_and_back(&stream, &bytes) == bytes);
                // Held until all are there.
                thread::sleep(Duration::from_millis(300));
            });
        }
    });
    // Each with its own, and each looked for first.
    assert!(server.taken.load(Ordering::SeqCst) >= 32);
    let status = fs::read_to_string(format!("/proc/{}/status", tunnel.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 32 * 3 * 1024, "{peak} KiB");
}

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    kib: u64,
    descriptors: usize,
    threads: usize,
}

fn held(pid: u32) -> Held {
    let of = |what: &str| format!("/proc/{pid}/{what}");
    let status = fs::read_to_string(of("status")).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    Held {
        kib: kib.trim().trim_end_matches(" kB").parse().unwrap(),
        descriptors: fs::read_dir(of("fd")).unwrap().count(),
        threads: fs::read_dir(of("task")).unwrap().count(),
    }
}

/// Sends what comes of `data` for ever, and checks each byte that comes back, until `ended`.
fn full_rate(stream: &TcpStream, ended: &AtomicBool) {
    let bytes = data(MIB, 11);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                let mut up = stream;
                up.write_all(&bytes).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = vec![0; MIB];
        let mut down = stream;
        // All that was sent comes back, in whole rounds, and then the end.
        while down.peek(&mut [0]).unwrap() > 0 {
            down.read_exact(&mut got).unwrap();
            assert!(got == bytes, "what comes back is not what was sent");
        }
    });
}

/// A few seconds of it; `make soak` has it go on for an hour (SOAK, in seconds).
#[test]
fn at_full_rate_and_with_ever_new_connections_nothing_grows() {
    let seconds = std::env::var("SOAK").map_or(8, |seconds| seconds.parse().unwrap());
    let span = Duration::from_secs(seconds);
    let between = (span / 40).min(Duration::from_secs(10));
    let (server, tunnel) = good(echo);
    let ended = AtomicBool::new(false);
    // One for each direction's own sake: TLS is spoken on two connections at the same time.
    let streams = [tunnel.connect(), tunnel.connect()];
    let mut seen: Vec<Held> = Vec::new();
    let began = Instant::now();
    thread::scope(|scope| {
        let busy = streams.iter().map(|stream| scope.spawn(|| full_rate(stream, &ended)));
        let busy: Vec<_> = busy.collect();
        let mut next = between;
        while began.elapsed() < span && !busy.iter().any(|one| one.is_finished()) {
            // What comes and goes beside them: a connection with its data, a handshake, questions.
            let bytes = data(300_000, 12);
            let brief = tunnel.connect();
            assert!(there_and_back(&brief, &bytes) == bytes);
            drop(brief);
            tunnel.handshake(20_000).unwrap();
            let end = Instant::now() + Duration::from_secs(20);
            while tunnel.status().connections > 2 {
                assert!(Instant::now() < end, "a connection is not let go");
                thread::sleep(Duration::from_millis(5));
            }
            if began.elapsed() >= next {
                next = began.elapsed() + between;
                // The thread that has answered may not have ended yet, nor one that was carrying: on a busy
                // machine that takes a while, but what has grown stays.
                let first = seen.first().copied();
                let same = |at: Held| {
                    first.is_none_or(|f| (f.descriptors, f.threads) == (at.descriptors, at.threads))
                };
                let end = Instant::now() + Duration::from_secs(5);
                thread::sleep(Duration::from_millis(200));
                while !same(held(tunnel.pid())) && Instant::now() < end {
                    thread::sleep(Duration::from_millis(50));
                }
                seen.push(held(tunnel.pid()));
            }
        }
        ended.store(true, Ordering::Relaxed);
    });
    let status = tunnel.status();
    let warm = &seen[seen.len() / 10..];
    let (least, most) = (warm.iter().map(|at| at.kib).min(), warm.iter().map(|at| at.kib).max());
    let (least, most) = (least.unwrap(), most.unwrap());
    println!(
        "{:.0} s: {:.1} GiB to the server and as much back, {} connections; {} samples: memory {least} to \
         {most} KiB, {} descriptors, {} threads",
        began.elapsed().as_secs_f64(),
        status.sent as f64 / (1u64 << 30) as f64,
        server.taken.load(Ordering::SeqCst),
        seen.len(),
        warm[0].descriptors,
        warm[0].threads,
    );
    assert!(seen.len() >= 10, "{seen:?}");
    assert_eq!(status.sent, status.received);
    assert!(status.sent > 100 * MIB as u64, "{status:?}");
    for at in warm {
        let same = (at.descriptors, at.threads) == (warm[0].descriptors, warm[0].threads);
        assert!(same, "descriptors or threads grow: {warm:?}");
    }
    // A thread's stack and the buffers of a connection, which come and go, are some hundred KiB.
    assert!(most <= least + 1536, "memory grows: {warm:?}");
    let half = warm.len() / 2;
    let mean = |part: &[Held]| part.iter().map(|at| at.kib).sum::<u64>() / part.len() as u64;
    let (first, second) = (mean(&warm[..half]), mean(&warm[half..]));
    // The heap takes a step or two whenever more connections than ever come at once; that may fall into either
    // half of a few seconds, but not into those of a minute.
    let step = if seconds >= 60 { 256 } else { 1024 };
    assert!(second <= first + step, "memory grows, from {first} to {second} KiB: {warm:?}");
}

#[test]
fn a_failure_that_lasts_is_not_written_of_again_and_again() {
    let authority = Authority::new();
    let (config, _) = tls::server(&authority.issue(&[NAME], (2000, 2010)), BOTH, &[]);
    let server = Server::start(config, echo);
    let tunnel = Tunnel::to(server.port, &authority);
    // It says what time it is, which is another one each time.
    let _waits = tunnel.connect();
    thread::sleep(Duration::from_secs(5));
    let log = tunnel.log();
    assert_eq!(log.matches("expired at 2010-01-01T00:00:00Z").count(), 1, "{log}");
}

#[test]
fn servers_that_are_none_or_stop_on_the_way_are_told_apart() {
    let authority = Authority::new();
    let failure = |server: &Server, millis| {
        Tunnel::to(server.port, &authority).handshake(millis).unwrap_err()
    };
    let server = Server::raw(|mut stream| {
        let mut bytes = [0; 100];
        let _ = stream.read(&mut bytes)?;
        stream.write_all(b"220 mail.example ESMTP\r\n")?;
        thread::sleep(Duration::from_secs(5));
        Ok(())
    });
    assert_eq!(failure(&server, 20_000), TunnelError::NotTls);
    let server = Server::raw(|mut stream| stream.read(&mut [0; 10]).map(|_| ()));
    assert_eq!(failure(&server, 20_000), TunnelError::Closed);
    // The handshake stops half-way, and after its end: each for the time there is.
    let server = Server::raw(|stream| {
        thread::sleep(Duration::from_secs(60));
        drop(stream);
        Ok(())
    });
    let silent = failure(&server, 3000);
    assert!(matches!(silent, TunnelError::Silent(_)), "{silent:?}");
    let (config, _) = tls::server(&authority.good(), BOTH, &[]);
    let server = Server::start(config.clone(), |mut tls| {
        tls.conn.complete_io(&mut tls.sock)?;
        thread::sleep(Duration::from_secs(60));
        Ok(())
    });
    let mute = failure(&server, 3000);
    assert!(matches!(mute, TunnelError::Mute(_)), "{mute:?}");
    let server = Server::start(config, |mut tls| {
        tls.conn.complete_io(&mut tls.sock)?;
        tls.conn.send_close_notify();
        tls.flush()
    });
    assert_eq!(failure(&server, 20_000), TunnelError::Dropped);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refused = Tunnel::to(closed, &authority).handshake(20_000).unwrap_err();
    assert_eq!(
        refused,
        TunnelError::Reach(format!(
            "TCP {closed} to 127.0.0.1 was refused (nothing listens there)"
        ))
    );
}

#[test]
fn a_server_that_goes_mad_in_mid_stream_costs_its_own_connection_alone() {
    let (_server, tunnel) = good(|mut tls| {
        let mut first = [0];
        tls.read_exact(&mut first)?;
        match first[0] {
            b'g' => tls.sock.write_all(&data(100_000, 1))?,
            // A record that never ends, a record of nothing, half a record and the end.
            b'l' => tls.sock.write_all(&[23, 3, 3, 0xff, 0xff])?,
            b'n' => tls.sock.write_all(&[23, 3, 3, 0, 0])?,
            b'h' => return tls.sock.write_all(&[23, 3, 3, 0x10, 0]),
            _ => return echo(tls),
        }
        thread::sleep(Duration::from_secs(20));
        Ok(())
    });
    for first in [b'g', b'l', b'n', b'h'] {
        let mut stream = tunnel.connect();
        stream.write_all(&[first]).unwrap();
        let began = Instant::now();
        // The end, or a reset: but no byte that the server has not encrypted.
        let ended = stream.read(&mut [0; 100]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{}", char::from(first));
    }
    let mut stream = tunnel.connect();
    stream.write_all(b"!").unwrap();
    assert_eq!(there_and_back(&stream, b"well"), b"well");
    assert!(tunnel.status().last_failure.is_some());
}

#[test]
fn a_connection_that_the_kernel_gives_up_is_let_go_while_the_server_is_still_waited_for() {
    let server = Server::raw(|mut stream| stream.read_to_end(&mut Vec::new()).map(|_| ()));
    let tunnel = Tunnel::to(server.port, &Authority::new());
    tunnel.status();
    let until = |n: u64| {
        let end = Instant::now() + Duration::from_secs(7);
        while tunnel.status().connections != n {
            assert!(Instant::now() < end, "{:?}", tunnel.status());
            thread::sleep(Duration::from_millis(20));
        }
    };
    let stream = tunnel.connect();
    // What it sends meanwhile is no end of it.
    (&stream).write_all(b"a call").unwrap();
    until(1);
    thread::sleep(Duration::from_millis(500));
    until(1);
    drop(stream);
    until(0);
    // Nor is it written of: nobody has failed.
    assert_eq!(tunnel.status().last_failure, None);
}

#[test]
fn a_server_that_comes_late_serves_the_connection_that_was_waiting() {
    let authority = Authority::new();
    let (config, _) = tls::server(&authority.good(), BOTH, &[]);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tunnel = Tunnel::to(port, &authority);
    tunnel.status();
    let stream = tunnel.connect();
    let bytes = data(MIB, 4);
    thread::scope(|scope| {
        scope.spawn(|| assert!(there_and_back(&stream, &bytes) == bytes));
        thread::sleep(Duration::from_millis(1500));
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let config = config.clone();
        scope.spawn(move || {
            loop {
                let (stream, _) = listener.accept().unwrap();
                let connection = ServerConnection::new(config.clone()).unwrap();
                if echo(StreamOwned::new(connection, stream)).is_ok() {
                    return;
                }
            }
        });
        // Once it has all come back, the end goes through.
        let end = Instant::now() + Duration::from_secs(20);
        while tunnel.status().received < MIB as u64 {
            assert!(Instant::now() < end);
            thread::sleep(Duration::from_millis(20));
        }
        stream.shutdown(Shutdown::Write).unwrap();
    });
    assert!(tunnel.status().last_failure.is_some());
    let log = tunnel.log();
    let told = log.matches("was refused (nothing listens there); tried again").count();
    assert_eq!(told, 1, "said once, however often it is tried: {log}");
}

#[test]
fn a_worker_that_is_killed_costs_a_reconnection_and_no_refusal() {
    let (_server, mut tunnel) = good(echo);
    let bytes = data(24 * MIB, 5);
    let mut got = Vec::new();
    let mut kills = 0;
    // Like the kernel's client: what was not answered is asked again on a new connection.
    let mut stream = tunnel.connect();
    for chunk in bytes.chunks(MIB) {
        if got.len() % (4 * MIB) == MIB {
            tunnel.kill(Signal::SIGKILL);
            kills += 1;
            // The listener is held: nobody is refused meanwhile.
            let waiting = tunnel.connect();
            tunnel.start();
            let mut answer = vec![0; MIB];
            let broken =
                (&stream).write_all(chunk).and_then(|()| (&stream).read_exact(&mut answer));
            assert!(broken.is_err(), "the old connection went with the worker");
            stream = waiting;
        }
        let answer = there_and_back(&stream, chunk);
        got.extend(answer);
    }
    assert!(kills >= 5);
    assert!(got == bytes);
}

#[test]
fn whoever_is_not_root_is_turned_away_before_the_server_hears_of_it() {
    let (server, tunnel) = good(echo);
    tunnel.status();
    let port = tunnel.nfs.local_addr().unwrap().port();
    let before = server.taken.load(Ordering::SeqCst);
    for script in [
        // Sends, and waits for what comes back.
        format!("exec 9<>/dev/tcp/127.0.0.1/{port}; echo hello >&9; timeout 5 cat <&9 | wc -c"),
        // Sends and closes at once: such a socket shows as root's.
        format!("exec 9<>/dev/tcp/127.0.0.1/{port}; echo hello >&9; exec 9>&-; sleep 0.3; echo 0"),
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=12345", "--regid=12345", "--clear-groups", "bash", "-c", &script]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.trim(), "0", "{output:?}");
    }
    // Root of a user namespace of its own is the same user.
    let script =
        format!("exec 9<>/dev/tcp/127.0.0.1/{port}; echo hello >&9; timeout 5 cat <&9 | wc -c");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=12345", "--regid=12345", "--clear-groups"]);
    command.args(["unshare", "--user", "--map-root-user", "bash", "-c", &script]);
    let output = command.output().unwrap();
    let namespaces = output.status.success();
    let refused = if namespaces { 3 } else { 2 };
    let end = Instant::now() + Duration::from_secs(10);
    while tunnel.status().refused < refused {
        assert!(Instant::now() < end, "{:?}", tunnel.status());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(server.taken.load(Ordering::SeqCst), before, "nothing has reached the server");
    let status = tunnel.status();
    assert_eq!((status.refused, status.connections, status.sent), (refused, 0, 0));
    let log = tunnel.log();
    assert_eq!(log.matches("refused a connection").count(), 1, "not a line for each: {log}");
    // And root is let in all the same.
    assert_eq!(there_and_back(&tunnel.connect(), b"root"), b"root");
}

#[test]
fn the_worker_is_nobody_without_any_rights_and_sleeps_when_nothing_flows() {
    let (_server, mut tunnel) = good(echo);
    let stream = tunnel.connect();
    there_and_back(&stream, b"up");
    let status = || fs::read_to_string(format!("/proc/{}/status", tunnel.pid())).unwrap();
    let line = |name: &str| {
        let status = status();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let user = user_of(tunnel.pid() as i32);
    assert_eq!(
        (line("Uid:"), line("Gid:")),
        (format!("{user} {user} {user} {user}"), line("Uid:"))
    );
    assert!(USERS.contains(&user), "{user}");
    assert_eq!(line("Groups:"), "");
    assert_eq!(line("NoNewPrivs:"), "1");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(line(set), "0000000000000000");
    }
    // Without IAM there is no second process.
    let children = format!("/proc/{0}/task/{0}/children", tunnel.pid());
    assert_eq!(fs::read_to_string(children).unwrap(), "");
    let switches = || -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", tunnel.pid())).unwrap();
        let of = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
            format!("{:?} {}", task.file_name(), line.unwrap())
        };
        let mut all: Vec<_> = tasks.flatten().map(of).collect();
        all.sort();
        all
    };
    // Once more after the last bytes, it sees to it that they have arrived.
    thread::sleep(Duration::from_secs(5));
    let before = switches();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(switches(), before);
    assert_eq!(tunnel.kill(Signal::SIGTERM), Some(143));
}

#[test]
fn what_keeps_a_tunnel_from_its_work_is_told_to_whoever_asks() {
    let authority = Authority::new();
    let mut tunnel = Tunnel::to(1, &authority);
    tunnel.status();
    tunnel.kill(Signal::SIGKILL);
    let roots = tunnel.folder.path().join("roots.pem");
    fs::write(&roots, "nothing").unwrap();
    tunnel.start();
    let Err(TunnelError::Trust(why)) = tunnel.handshake(20_000) else { panic!() };
    let path = roots.display();
    let expected =
        format!("{path} holds no certificate (they begin with -----BEGIN CERTIFICATE-----)");
    assert_eq!(why, expected);
}

#[test]
fn credentials_come_from_a_second_process_that_stays_root_and_ends_with_the_first() {
    let authority = Authority::new();
    let (config, anyone) = tls::server(&authority.good(), BOTH, &[]);
    let server = Server::start(config, echo);
    let mut tunnel = Tunnel::to(server.port, &authority);
    tunnel.status();
    tunnel.kill(Signal::SIGKILL);
    let path = tunnel.folder.path().join("c.toml");
    let iam = fs::read_to_string(&path).unwrap() + "iam = true\naws_profile = \"test\"\n";
    fs::write(&path, iam).unwrap();
    let profile = tunnel.folder.path().join("credentials");
    fs::write(
        &profile,
        "[test]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = not/told\n",
    )
    .unwrap();
    fs::set_permissions(&profile, fs::Permissions::from_mode(0o600)).unwrap();
    // Root's home is another one, for this process and its children alone; the program may be below it.
    tunnel.program = common::copy(&tunnel.folder);
    let script = format!(
        "mount -t tmpfs -o mode=0700 none /root && install -D -m 0600 {} /root/.aws/credentials",
        profile.display()
    );
    let began = Instant::now();
    tunnel.start_in(&script);
    let peer = tunnel.handshake(20_000).unwrap();
    assert_eq!(
        peer.identity.as_deref(),
        Some("profile \"test\" of /root/.aws/credentials, access key AKIDEXAMPLE")
    );
    let bytes = data(MIB, 7);
    assert!(there_and_back(&tunnel.connect(), &bytes) == bytes);
    let seen = anyone.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|shown| shown.windows(11).any(|w| w == b"AKIDEXAMPLE")));
    assert_eq!(seen.len(), 2);
    // Two processes: one of nobody's, one of root's, which goes with it.
    let children = format!("/proc/{0}/task/{0}/children", tunnel.pid());
    let broker: i32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    let uid = |pid: String| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.lines().find(|line| line.starts_with("Uid:")).unwrap().to_owned()
    };
    assert!(USERS.contains(&user_of(tunnel.pid() as i32)), "{}", uid(tunnel.pid().to_string()));
    assert_eq!(uid(broker.to_string()), "Uid:\t0\t0\t0\t0");
    has_few_rights(broker);
    assert!(!tunnel.log().contains("not/told"));
    // Without it there is nothing to be done but to start again, though not again and again at once.
    kill(Pid::from_raw(broker), Signal::SIGKILL).unwrap();
    assert_eq!(tunnel.worker.take().unwrap().wait().unwrap().code(), Some(70));
    assert!(tunnel.log().contains("the process that reads the credentials has gone (exit 70)"));
    assert!(began.elapsed() >= Duration::from_secs(5), "{:?}", began.elapsed());
    let broker = |tunnel: &Tunnel| -> i32 {
        let children = format!("/proc/{0}/task/{0}/children", tunnel.pid());
        fs::read_to_string(children).unwrap().trim().parse().unwrap()
    };
    // One that has served for as long is not kept waiting.
    tunnel.start_in(&script);
    tunnel.handshake(20_000).unwrap();
    thread::sleep(Duration::from_secs(5));
    let killed = Instant::now();
    kill(Pid::from_raw(broker(&tunnel)), Signal::SIGKILL).unwrap();
    assert_eq!(tunnel.worker.take().unwrap().wait().unwrap().code(), Some(70));
    assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
    tunnel.start_in(&script);
    tunnel.handshake(20_000).unwrap();
    let broker = broker(&tunnel);
    tunnel.kill(Signal::SIGKILL);
    let end = Instant::now() + Duration::from_secs(10);
    while kill(Pid::from_raw(broker), None).is_ok() {
        assert!(Instant::now() < end, "the broker stays behind");
        thread::sleep(Duration::from_millis(20));
    }
    // And where there are none, it is said.
    fs::write(&profile, "[other]\n").unwrap();
    tunnel.start_in(&script);
    let failure = tunnel.handshake(20_000).unwrap_err();
    let TunnelError::Source { what, lasts: true, .. } = failure else { panic!("{failure:?}") };
    assert!(what.contains("profile \"test\"") && what.contains("no such profile"), "{what}");
}

/// Whether the memory of a process holds `wanted` anywhere.
fn is_in_memory(pid: u32, wanted: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| line.contains(" rw")).any(|line| {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let number = |hex| u64::from_str_radix(hex, 16).unwrap();
        let (from, to) = (number(from), number(to));
        let mut bytes = vec![0; (to - from) as usize];
        // What was mapped, but never touched, may be of a kind that cannot be read.
        let read = memory.read_at(&mut bytes, from).unwrap_or(0);
        bytes[..read].windows(wanted.len()).any(|window| window == wanted)
    })
}

#[test]
fn variables_count_where_the_config_says_so_and_only_the_second_process_keeps_them() {
    let (_server, mut tunnel) = good(echo);
    tunnel.status();
    tunnel.kill(Signal::SIGKILL);
    let path = tunnel.folder.path().join("c.toml");
    let text = fs::read_to_string(&path).unwrap();
    let profile = tunnel.folder.path().join("credentials");
    let keys =
        "[efs-agent-test]\naws_access_key_id = AKIDFILE\naws_secret_access_key = of/a/file\n";
    fs::write(&profile, keys).unwrap();
    let file = format!("export AWS_SHARED_CREDENTIALS_FILE={}", profile.display());
    // Not in one piece, or the test would find its own script.
    let secret = ["not/told/", "to/anybody+1"].concat();
    let keys =
        "export AWS_ACCESS_KEY_ID=AKIDVARIABLE AWS_SECRET_ACCESS_KEY=not/told/\"to/anybody+1\"";
    // A profile that nobody has, so that no other source is asked where the variables do not count.
    let named = "iam = true\naws_profile = \"efs-agent-test\"\n";
    let on = "aws_environment = true\n";
    for (config, variables, expected) in [
        (named.to_owned(), file.as_str(), None),
        (
            format!("{named}{on}"),
            &file,
            Some(format!(
                "profile \"efs-agent-test\" of {}, access key AKIDFILE",
                profile.display()
            )),
        ),
        (
            format!("iam = true\n{on}"),
            keys,
            Some("the environment, access key AKIDVARIABLE".to_owned()),
        ),
    ] {
        fs::write(&path, format!("{text}{config}")).unwrap();
        tunnel.run("/bin/bash", &[], variables);
        match (tunnel.handshake(20_000), expected) {
            (Ok(peer), Some(expected)) => assert_eq!(peer.identity.unwrap(), expected),
            (Err(TunnelError::Source { what, .. }), None) => {
                assert!(what.contains("there is no such profile in /"), "{what}");
            }
            (other, _) => panic!("{config}: {other:?}"),
        }
        if variables == keys {
            let children = format!("/proc/{0}/task/{0}/children", tunnel.pid());
            let broker: u32 = fs::read_to_string(children).unwrap().trim().parse().unwrap();
            assert!(is_in_memory(broker, secret.as_bytes()), "it is looked for in vain");
            // Of the credentials themselves it wipes what it was given when it has signed.
            assert!(!is_in_memory(tunnel.pid(), secret.as_bytes()));
        }
        assert!(!tunnel.log().contains("anybody"), "{}", tunnel.log());
        tunnel.kill(Signal::SIGKILL);
    }
}

/// The users that tunnels become.
const USERS: std::ops::RangeInclusive<u32> = 70_000..=99_999;

fn status_of(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

/// The number of the user that a process is.
fn user_of(pid: i32) -> u32 {
    status_of(pid, "Uid:").split_whitespace().next().unwrap().parse().unwrap()
}

/// A process that stays root may give up root's rights and read root's files, and cannot be looked into.
fn has_few_rights(pid: i32) {
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(status_of(pid, set), "00000000000000c4", "{set}");
    }
    assert_eq!(status_of(pid, "NoNewPrivs:"), "1");
}

#[test]
fn a_tunnel_that_is_killed_while_its_broker_is_busy_leaves_the_listeners_free() {
    let authority = Authority::new();
    let server = Server::raw(|mut stream| stream.read_to_end(&mut Vec::new()).map(|_| ()));
    let mut tunnel = Tunnel::to(server.port, &authority);
    tunnel.status();
    tunnel.kill(Signal::SIGKILL);
    let path = tunnel.folder.path().join("c.toml");
    let iam = fs::read_to_string(&path).unwrap() + "iam = true\naws_profile = \"slow\"\n";
    fs::write(&path, iam).unwrap();
    tunnel.program = common::copy(&tunnel.folder);
    let script = "mount -t tmpfs -o mode=0700 none /root && mkdir /root/.aws && \
                  printf '#!/bin/sh\\nexec sleep 9\\n' > /root/slow && chmod 0700 /root/slow && \
                  printf '[profile slow]\\ncredential_process = /root/slow\\n' > /root/.aws/config";
    tunnel.start_in(script);
    tunnel.status();
    let broker = broker_of(&tunnel);
    has_few_rights(broker);
    let sockets = |pid: i32| -> Vec<PathBuf> {
        let all = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        all.filter_map(|fd| fs::read_link(fd.path()).ok())
            .filter(|to| to.to_string_lossy().starts_with("socket:"))
            .collect()
    };
    // Ours are the listeners, as systemd's would be.
    let ours = sockets(std::process::id() as i32);
    let listeners = |pid: i32| sockets(pid).into_iter().filter(|one| ours.contains(one)).count();
    assert_eq!((listeners(tunnel.pid() as i32), listeners(broker)), (2, 0));
    thread::scope(|scope| {
        // The broker waits for the program by now.
        let asks = scope.spawn(|| tunnel.handshake(20_000));
        thread::sleep(Duration::from_millis(700));
        kill(Pid::from_raw(tunnel.pid() as i32), Signal::SIGKILL).unwrap();
        assert_eq!(asks.join().unwrap(), Err(TunnelError::NoTunnel(Errno::ECONNRESET)));
    });
    tunnel.worker.take().unwrap().wait().unwrap();
    tunnel.start_in(script);
    let started = Instant::now();
    tunnel.status();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // One that is asked to end by hand does, so that another is begun with.
    let broker = broker_of(&tunnel);
    kill(Pid::from_raw(broker), Signal::SIGTERM).unwrap();
    assert!(ends(broker), "the broker goes on, and every wait of it would end at once");
}

/// The process that reads credentials for a tunnel.
fn broker_of(tunnel: &Tunnel) -> i32 {
    let children = format!("/proc/{0}/task/{0}/children", tunnel.pid());
    fs::read_to_string(children).unwrap().trim().parse().unwrap()
}

/// Whether a process ends within 5 s, reaped or not.
fn ends(pid: i32) -> bool {
    (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    })
}

#[test]
fn a_tunnel_is_of_an_encrypted_share_of_the_config_alone() {
    let mut tunnel = Tunnel::to(9, &Authority::new());
    tunnel.status();
    tunnel.kill(Signal::SIGKILL);
    let config = tunnel.folder.path().join("c.toml");
    let encrypted = fs::read_to_string(&config).unwrap();
    let plain = "[[share]]\nendpoint = \"127.0.0.1\"\nmount_point = \"/mnt/efs-agent-test\"\n";
    for (text, said) in [
        (encrypted.replace("/mnt/efs-agent-test", "/mnt/adm-9"), "mounted on"),
        (plain.to_owned(), "encrypted on"),
    ] {
        fs::write(&config, text).unwrap();
        tunnel.start();
        assert_eq!(tunnel.worker.take().unwrap().wait().unwrap().code(), Some(78));
        let log = tunnel.log();
        let line = format!(": no [[share]] is {said} /mnt/efs-agent-test (exit 78)");
        assert!(log.contains(&line), "{log}");
    }
}

#[test]
fn without_listeners_it_says_who_starts_it() {
    let folder = common::folder();
    let mut command = agent();
    command.args(["tunnel", "/mnt/a", "--config"]).arg(folder.path().join("c.toml"));
    let (code, text) = common::ended(command.output().unwrap());
    assert_eq!(code, 64);
    assert!(
        text.ends_with(
            "error   a tunnel is started by its systemd unit, with two listeners: there are 0; \
             nobody need start one by hand: sudo efs-agent --once does (exit 64)\n"
        ),
        "{text}"
    );
}
