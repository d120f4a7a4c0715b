//! The tunnel measured against stunnel on loopback, on the same bytes and against the same server:
//! throughput and CPU time each way, with AES-128 and AES-256, the time of a small request, memory. The
//! two take turns within each round, since whatever else runs on a machine slows both down: it is
//! the ratios that count. `tunnel ROUNDS MIB` prints one JSON object, and a table on standard error.
//! EFS_AGENT_BIN names the program; it must run as root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)]
#[path = "../common/tls.rs"]
mod tls;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::time::ClockId;
use nix::unistd::Pid;
use rustls::CipherSuite;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const CHUNK: usize = 256 << 10;
/// In front of each transfer: what it is, and how many bytes.
const HEAD: usize = 9;
const SMALL: usize = 128;

/// A server that is faster than what is measured: it only decrypts, or only encrypts.
struct Server {
    stream: TcpStream,
    tls: UnbufferedServerConnection,
    incoming: Vec<u8>,
    filled: usize,
    outgoing: Vec<u8>,
}

impl Server {
    /// Takes in what is there, waiting for more where `wait`; `each` is given the data.
    fn take(&mut self, wait: bool, mut each: impl FnMut(&[u8])) -> io::Result<()> {
        if wait {
            let n = self.stream.read(&mut self.incoming[self.filled..])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.filled += n;
        }
        let mut start = 0;
        loop {
            // One record at a time.
            let rest = &self.incoming[start..self.filled];
            let length = match rest {
                [_, _, _, high, low, ..] => 5 + usize::from(u16::from_be_bytes([*high, *low])),
                _ => 0,
            };
            let whole = length > 0 && length <= rest.len();
            let shown = if whole { length } else { 0 };
            let slice = &mut self.incoming[start..start + shown];
            let UnbufferedStatus { mut discard, state, .. } = self.tls.process_tls_records(slice);
            let mut again = true;
            match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        each(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut message) => {
                    let n = message.encode(&mut self.outgoing).map_err(io::Error::other)?;
                    self.stream.write_all(&self.outgoing[..n])?;
                }
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                _ => again = discard > 0,
            }
            start += discard;
            if !again {
                break;
            }
        }
        self.incoming.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }

    fn give(&mut self, data: &[u8]) -> io::Result<()> {
        for data in data.chunks(CHUNK) {
            match self.tls.process_tls_records(&mut []).state.map_err(io::Error::other)? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let n = traffic.encrypt(data, &mut self.outgoing).map_err(io::Error::other)?;
                    self.stream.write_all(&self.outgoing[..n])?;
                }
                _ => return Err(io::Error::other("not open")),
            }
        }
        Ok(())
    }

    fn serve(&mut self) -> io::Result<()> {
        let data = vec![0x5a; CHUNK];
        let mut head = Vec::new();
        loop {
            while head.len() < HEAD {
                self.take(true, |bytes| head.extend_from_slice(bytes))?;
            }
            let mut came = (head.len() - HEAD) as u64;
            let wanted = u64::from_le_bytes(head[1..HEAD].try_into().unwrap());
            match head[0] {
                b'u' => {
                    while came < wanted {
                        self.take(true, |bytes| came += bytes.len() as u64)?;
                    }
                    self.give(b"k")?;
                }
                b'd' => {
                    let mut left = wanted as usize;
                    while left > 0 {
                        let n = left.min(CHUNK);
                        self.give(&data[..n])?;
                        left -= n;
                    }
                }
                // So many small requests, one after another.
                _ => {
                    let mut answered = 0;
                    while answered < wanted {
                        while came < (answered + 1) * SMALL as u64 {
                            self.take(true, |bytes| came += bytes.len() as u64)?;
                        }
                        self.give(&data[..SMALL])?;
                        answered += 1;
                    }
                }
            }
            head.clear();
        }
    }
}

fn start_server(shown: &tls::Shown, suite: CipherSuite) -> u16 {
    let (config, _) = tls::server(shown, &[&rustls::version::TLS13], &[suite]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, config) = (stream.unwrap(), Arc::clone(&config));
            let _ = stream.set_nodelay(true);
            thread::spawn(move || {
                let tls = UnbufferedServerConnection::new(config).unwrap();
                let (incoming, outgoing) = (vec![0; 2 * CHUNK], vec![0; 2 * CHUNK]);
                // It ends when the client does.
                let _ = Server { stream, tls, incoming, filled: 0, outgoing }.serve();
            });
        }
    });
    port
}

/// What is measured: a process that takes connections on a local port.
struct Client {
    process: Child,
    port: u16,
}

impl Client {
    fn efs_agent(folder: &Path, server: u16) -> Self {
        let config = format!(
            "[[share]]\nendpoint = \"127.0.0.1\"\noptions = \"port={server}\"\n\
             mount_point = \"/mnt/efs-agent-bench\"\nencryption_in_transit = true\n\
             file_system_id = \"fs-0123abcd\"\nregion = \"eu-west-1\"\ntrust = \"{}\"\n",
            folder.join("roots.pem").display()
        );
        let path = folder.join(format!("{server}.toml"));
        fs::write(&path, config).unwrap();
        let nfs = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = UnixListener::bind(folder.join(format!("{server}.sock"))).unwrap();
        fcntl(&nfs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        fcntl(&control, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let script = format!(
            "exec {{a}}<&{} {{b}}<&{}; exec 3<&$a 4<&$b; export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$@\"",
            nfs.as_raw_fd(),
            control.as_raw_fd()
        );
        let program = std::env::var_os("EFS_AGENT_BIN").expect("EFS_AGENT_BIN");
        let mut command = Command::new("/bin/bash");
        command.args(["-c", &script, "bash"]).arg(program);
        command.args(["tunnel", "/mnt/efs-agent-bench", "--config"]).arg(path);
        command.stdout(Stdio::null());
        let port = nfs.local_addr().unwrap().port();
        Self { process: command.spawn().unwrap(), port }
    }

    /// As amazon-efs-utils sets it up.
    fn stunnel(folder: &Path, server: u16) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let roots = folder.join("roots.pem");
        let shown = folder.join("client.pem");
        let config = format!(
            "fips = no\nforeground = quiet\nsocket = l:SO_REUSEADDR=yes\nsocket = l:TCP_NODELAY=1\n\
             socket = r:TCP_NODELAY=1\nsyslog = no\n[efs]\nclient = yes\naccept = 127.0.0.1:{port}\n\
             connect = 127.0.0.1:{server}\nsslVersionMin = TLSv1.2\nrenegotiation = no\n\
             TIMEOUTbusy = 20\nTIMEOUTclose = 0\nTIMEOUTidle = 70\ndelay = yes\nverify = 2\n\
             CAfile = {}\ncert = {}\ncheckHost = {}\nsni = {}\n",
            roots.display(),
            shown.display(),
            tls::NAME,
            tls::NAME
        );
        let path = folder.join(format!("{server}.stunnel"));
        fs::write(&path, config).unwrap();
        let mut command = Command::new("stunnel4");
        command.arg(path).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().expect("stunnel4"), port }
    }

    fn connect(&self) -> TcpStream {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(stream) => {
                    stream.set_nodelay(true).unwrap();
                    return stream;
                }
                Err(e) if Instant::now() > end => panic!("{e}"),
                Err(_) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// CPU time so far.
    fn cpu(&self) -> Duration {
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(self.process.id() as i32)).unwrap();
        clock.now().unwrap().into()
    }

    /// Memory that it has had at most, in KiB.
    fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn head(what: u8, n: u64) -> [u8; HEAD] {
    let mut head = [what; HEAD];
    head[1..].copy_from_slice(&n.to_le_bytes());
    head
}

fn up(stream: &mut TcpStream, bytes: u64) {
    let data = vec![0x5a; 1 << 20];
    stream.write_all(&head(b'u', bytes)).unwrap();
    for _ in 0..bytes >> 20 {
        stream.write_all(&data).unwrap();
    }
    stream.read_exact(&mut [0]).unwrap();
}

fn down(stream: &mut TcpStream, bytes: u64) {
    let mut data = vec![0; 1 << 20];
    stream.write_all(&head(b'd', bytes)).unwrap();
    for _ in 0..bytes >> 20 {
        stream.read_exact(&mut data).unwrap();
    }
}

/// The median time of a small request, in microseconds.
fn small(stream: &mut TcpStream) -> f64 {
    const TIMES: u64 = 3000;
    stream.write_all(&head(b's', TIMES)).unwrap();
    let mut bytes = [0; SMALL];
    let mut times: Vec<f64> = (0..TIMES)
        .map(|_| {
            let started = Instant::now();
            stream.write_all(&bytes).unwrap();
            stream.read_exact(&mut bytes).unwrap();
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&mut times)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of one way of one suite: MiB/s and seconds of CPU for each GiB, by both, in each round.
#[derive(Default)]
struct Row {
    rate: [Vec<f64>; 2],
    cpu: [Vec<f64>; 2],
}

impl Row {
    /// The median of the ratios within rounds, and its quartiles.
    fn ratio(of: &[Vec<f64>; 2]) -> [f64; 3] {
        let mut ratios: Vec<f64> = of[0].iter().zip(&of[1]).map(|(ours, its)| ours / its).collect();
        ratios.sort_by(f64::total_cmp);
        let n = ratios.len();
        [ratios[n / 4], ratios[n / 2], ratios[n * 3 / 4]]
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut number = |default| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (rounds, mib): (u64, u64) = (number(15), number(256));
    // Below /run, where every folder is root's.
    let temporary = tempfile::tempdir_in("/run").unwrap();
    fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = temporary.path();
    let authority = tls::Authority::new();
    let shown = authority.good();
    let own = authority.issue(&["client"], (2000, 2099));
    fs::write(folder.join("roots.pem"), &authority.pem).unwrap();
    fs::write(folder.join("client.pem"), format!("{}{}", own.pem, own.key.serialize_pem()))
        .unwrap();
    fs::set_permissions(folder.join("client.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let suites = [
        ("AES-128", CipherSuite::TLS13_AES_128_GCM_SHA256),
        ("AES-256", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ];
    let mut lines = Vec::new();
    for (name, suite) in suites {
        let server = start_server(&shown, suite);
        let clients = [Client::efs_agent(folder, server), Client::stunnel(folder, server)];
        let mut streams = clients.each_ref().map(Client::connect);
        let mut direct = [Row::default(), Row::default()];
        let mut latency = [Vec::new(), Vec::new()];
        for stream in &mut streams {
            up(stream, 16 << 20);
            down(stream, 16 << 20);
        }
        for round in 0..rounds {
            for (way, row) in direct.iter_mut().enumerate() {
                for turn in 0..2 {
                    // Who comes first changes from round to round.
                    let who = (turn + round as usize) % 2;
                    let (cpu, started) = (clients[who].cpu(), Instant::now());
                    [up, down][way](&mut streams[who], mib << 20);
                    let took = started.elapsed().as_secs_f64();
                    let cpu = (clients[who].cpu() - cpu).as_secs_f64();
                    row.rate[who].push(mib as f64 / took);
                    row.cpu[who].push(cpu * 1024.0 / mib as f64);
                }
            }
            for (who, stream) in streams.iter_mut().enumerate() {
                latency[who].push(small(stream));
            }
        }
        for (way, row) in ["up", "down"].iter().zip(&mut direct) {
            let (rate, cpu) = (Row::ratio(&row.rate), Row::ratio(&row.cpu));
            let medians = |of: &mut [Vec<f64>; 2]| of.each_mut().map(|values| median(values));
            let (rates, cpus) = (medians(&mut row.rate), medians(&mut row.cpu));
            eprintln!(
                "{name} {way:<4} {:6.0} MiB/s, stunnel {:6.0}: ratio {:.2} ({:.2} to {:.2}); \
                 {:.2} s CPU/GiB, stunnel {:.2}: ratio {:.2} ({:.2} to {:.2})",
                rates[0],
                rates[1],
                rate[1],
                rate[0],
                rate[2],
                cpus[0],
                cpus[1],
                cpu[1],
                cpu[0],
                cpu[2]
            );
            lines.push(format!(
                "{{\"suite\": \"{name}\", \"way\": \"{way}\", \"mib_per_s\": [{:.1}, {:.1}], \
                 \"rate_ratio\": {:.3}, \"cpu_s_per_gib\": [{:.4}, {:.4}], \"cpu_ratio\": {:.3}}}",
                rates[0], rates[1], rate[1], cpus[0], cpus[1], cpu[1]
            ));
        }
        let times = latency.each_mut().map(|values| median(values));
        eprintln!("{name} small request {:.0} µs, stunnel {:.0} µs", times[0], times[1]);
        let one = clients.each_ref().map(Client::peak);
        // Thirty-two at the same time, each with data both ways.
        for client in &clients {
            let mut many: Vec<TcpStream> = (0..31).map(|_| client.connect()).collect();
            for stream in &mut many {
                up(stream, 4 << 20);
                down(stream, 4 << 20);
            }
        }
        let all = clients.each_ref().map(Client::peak);
        eprintln!(
            "{name} memory {} KiB with 1 connection, {} with 32; stunnel {} and {}",
            one[0], all[0], one[1], all[1]
        );
        lines.push(format!(
            "{{\"suite\": \"{name}\", \"small_request_us\": [{:.1}, {:.1}], \"peak_kib_1\": [{}, {}], \
             \"peak_kib_32\": [{}, {}]}}",
            times[0], times[1], one[0], one[1], all[0], all[1]
        ));
    }
    println!(
        "{{\"rounds\": {rounds}, \"mib\": {mib}, \"order\": [\"efs-agent\", \"stunnel\"], \"rows\": [\n{}\n]}}",
        lines.join(",\n")
    );
}
