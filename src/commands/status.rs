//! `status`: how the shares are, and how the last session start ended. Changes nothing, and touches a
//! mount only in a process that can be cut off.

use super::Refusal;
use super::left::{self, Known};
use crate::cli::StatusArgs;
use crate::config::Share;
use crate::json::{Document, quoted};
use crate::kernel::mount_table;
use crate::kernel::mount_table::Entry;
use crate::report::Code;
use crate::retry::Deadline;
use crate::share::causes::{explain, is_there, no_use};
use crate::share::client::Identity;
use crate::share::linux::{Linux, Root};
use crate::share::plan::TUNNEL;
use crate::share::{Failure, Mounted};
use crate::status;
use crate::status::remembered;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::text::plain;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::protocol::{Peer, TunnelStatus};
use crate::tunnel::units::Units;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// What helps where a mount is of no use.
pub(super) const ANEW: &str = "sudo efs-agent --once, which mounts it anew";
/// How long the server of one share gets to answer.
const ALIVE: Duration = Duration::from_millis(1500);

/// Tells how the shares are, and returns the exit code.
pub fn run(args: &StatusArgs, started: Instant) -> Code {
    match start(args, started) {
        Ok(code) => code,
        Err((code, text)) => {
            if args.json {
                super::print(&format!("{{\"error\": {}, \"exit\": {}}}\n", quoted(&text), code.0));
                return code;
            }
            let log = super::log(false);
            log.drop_syslog();
            log.error(format_args!("{text} (exit {})", code.0));
            code
        }
    }
}

fn start(args: &StatusArgs, started: Instant) -> Result<Code, Refusal> {
    let root = Path::new("/");
    if !sys::is_root() {
        return Err((Code::PERMISSION, "only root can look at all of it: use sudo".into()));
    }
    let stop = Stop::install().map_err(|e| (Code::FAULT, format!("cannot set signals: {e}")))?;
    let clock = SystemClock::new(started, &stop);
    let machine = Linux::new(root, &clock, &stop);
    let Known { config, settings, left, refused } = left::known(&machine, args.config.as_deref())?;
    let tunnels = Units::new(root, &clock, &stop, &config);
    let in_config = settings.shares.len();
    let shares: Vec<Share> = settings.shares.into_iter().chain(left).collect();
    let stats = fs::read(root.join("proc/self/mountstats")).unwrap_or_default();
    let stats = String::from_utf8_lossy(&stats);
    // All shares at once: of several dead servers, each costs its time, and none the other's.
    let states: Vec<State> = std::thread::scope(|scope| {
        let look = |share: &Share| state(&machine, &tunnels, &clock, share, &stats);
        let thread = |share| {
            // No thread to be had: one after another is better than not at all.
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || look(share));
            thread.map_err(|_| Box::new(look(share)))
        };
        let threads: Vec<_> = shares.iter().map(thread).collect();
        let dead = |_| State::Failed("the look at it ended without a word".into());
        let end = |thread: Result<ScopedJoinHandle<'_, State>, Box<State>>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(dead),
            Err(state) => *state,
        };
        threads.into_iter().map(end).collect()
    });
    // What was looked at when we were stopped says nothing.
    if let Some(signal) = stop.signal() {
        return Err((Code::signal(signal as i32), format!("stopped by {signal}")));
    }
    let last = remembered::read(root);
    let client = Identity::read(root);
    let in_config = |n: usize| n < in_config;
    let pairs = || shares.iter().zip(&states).enumerate();
    let text = if args.json {
        let shares: Vec<String> =
            pairs().map(|(n, (share, state))| state.json(share, in_config(n))).collect();
        // What cannot be read would make the whole unreadable.
        let last = last.as_deref().and_then(|text| Document::parse(text).ok());
        let last = last.as_ref().map_or("null", |last| last.slice(last.root.span.clone()));
        let client = status::client(&client);
        format!(
            "{{\"shares\": [\n{}\n], \"client\": {client}, \"last_start\": {last}, \"problem\": {}}}\n",
            shares.join(",\n"),
            refused.as_ref().map_or("null".into(), |(_, why)| quoted(why))
        )
    } else {
        let shares: String =
            pairs().map(|(n, (share, state))| state.text(share, in_config(n))).collect();
        let refused = refused.as_ref().map_or(String::new(), |(_, why)| format!("{why}\n"));
        let shares: String =
            (refused + &shares).lines().map(|line| format!("{}\n", plain(line))).collect();
        let last =
            last.as_deref().and_then(|last| status::told(root, last)).map(|told| plain(&told));
        let none = || "no session start since this machine was booted".into();
        let client = plain(&client.told(&sys::host_name()));
        format!("{shares}{client}\n{}\n", last.unwrap_or_else(none))
    };
    super::print(&text);
    if let Some((code, _)) = refused {
        return Ok(code);
    }
    let well = pairs().all(|(n, (_, state))| !in_config(n) || state.is_well());
    Ok(if well { Code::OK } else { Code::NOT_UP })
}

/// How one share is.
enum State {
    Up {
        address: String,
        options: String,
        /// Seconds since it was mounted, where the kernel tells.
        age: Option<u64>,
        /// What the kernel shows as its source, as df and findmnt print it.
        source: String,
        /// Bytes in all and free; or why it cannot be used.
        space: Result<(u64, u64), Problem>,
        /// The tunnel that it goes through, if it is to; or what is wrong with that.
        tunnel: Option<Result<Box<Tunnel>, String>>,
    },
    Absent {
        /// A tunnel of its that runs all the same.
        tunnel: Option<Result<Box<Tunnel>, String>>,
    },
    Failed(String),
}

/// Why a share that is mounted cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// Its server does not answer.
    Silence(String),
    /// It does, and says that; what helps.
    Fault(String, &'static str),
}

impl Problem {
    fn why(&self) -> &str {
        match self {
            Self::Silence(why) | Self::Fault(why, _) => why,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Silence(why) => format!("NOT RESPONDING: {why}"),
            Self::Fault(why, cure) => format!("NOT USABLE: {why}; to mend it: {cure}"),
        }
    }
}

/// A tunnel that could be asked.
struct Tunnel {
    port: u16,
    is: TunnelStatus,
}

fn tunnel(
    machine: &Linux<'_, SystemClock<'_>>,
    tunnels: &dyn Tunnels,
    share: &Share,
    entry: &Entry,
    until: Deadline,
) -> Option<Result<Box<Tunnel>, String>> {
    let way = machine.connected_to(entry.device);
    match (mount_table::is_tunnelled(entry, share), share.encryption.is_some()) {
        (false, false) => None,
        (false, true) => Some(Err("NOT ENCRYPTED, which the config wants".into())),
        (true, false) => Some(Err("encrypted, which the config does not want".into())),
        (true, true) => Some(match tunnels.port(share) {
            _ if way != Some(SocketAddr::new(TUNNEL, entry.port())) => Err(past(way)),
            Some(port) if port == entry.port() => ask(tunnels, share, port, until),
            at => Err(elsewhere(entry.port(), at)),
        }),
    }
}

/// What it means that the kernel is connected to something else than the port of this machine that the mount
/// table shows.
pub(super) fn past(way: Option<SocketAddr>) -> String {
    match way {
        Some(to) => {
            format!("NOT ENCRYPTED, which the config wants: the kernel is connected to {to}")
        }
        None => "the kernel does not tell whether it is used".to_owned(),
    }
}

/// What it means that a share is mounted through a port at which its tunnel is not: whoever is there may be
/// anybody.
pub(super) fn elsewhere(mounted: u16, tunnel: Option<u16>) -> String {
    match tunnel {
        Some(port) => {
            format!(
                "NOT THERE: the share is mounted through port {mounted}, and its tunnel is at {port}"
            )
        }
        None => format!("NOT RUNNING, and the share is mounted through port {mounted}"),
    }
}

fn ask(
    tunnels: &dyn Tunnels,
    share: &Share,
    port: u16,
    until: Deadline,
) -> Result<Box<Tunnel>, String> {
    match tunnels.status(share, until) {
        Ok(is) => Ok(Box::new(Tunnel { port, is })),
        Err(failure) => Err(plain(&failure.to_string())),
    }
}

fn state(
    machine: &Linux<'_, SystemClock<'_>>,
    tunnels: &dyn Tunnels,
    clock: &SystemClock<'_>,
    share: &Share,
    stats: &str,
) -> State {
    let until = Deadline::after(clock, ALIVE);
    let mounted = match machine.found(share, until) {
        Ok(Some(mounted)) => mounted,
        Ok(None) => {
            let port = share.encryption.as_ref().and_then(|_| tunnels.port(share));
            return State::Absent { tunnel: port.map(|port| ask(tunnels, share, port, until)) };
        }
        Err(Failure::Taken { source, fstype }) => {
            return State::Failed(plain(&is_there(&source, &fstype)));
        }
        Err(failure) => {
            let kernel = sys::kernel_release();
            return State::Failed(plain(&explain(&failure, share, &kernel).sentence));
        }
    };
    let table = machine.table().unwrap_or_default();
    let table = mount_table::parse(&table);
    let entry = mount_table::top_at(&table, &share.mount_point);
    let tunnel = entry.and_then(|entry| tunnel(machine, tunnels, share, entry, until));
    let options = entry.map_or(String::new(), |e| format!("{},{}", e.flags, e.options));
    let space = match machine.root(share, &mounted, until) {
        Ok(Root::Well(all, free)) => Ok((all, free)),
        Ok(Root::Fault(errno)) => Err(Problem::Fault(no_use(errno), ANEW)),
        Ok(Root::Over) => Err(Problem::Fault(
            "something else was put over it".into(),
            "see what that is (findmnt), and unmount it",
        )),
        Ok(Root::Silence) => {
            Err(Problem::Silence(format!("its server {} does not answer", mounted.address)))
        }
        Err(failure) => Err(Problem::Silence(explain(&failure, share, "").sentence)),
    };
    let age = age(stats, &share.mount_point);
    let Mounted { address, source, .. } = mounted;
    State::Up { address, source, options, age, space, tunnel }
}

/// How long ago `point` was mounted, in seconds, as /proc/self/mountstats has it for NFS.
fn age(stats: &str, point: &Path) -> Option<u64> {
    let point = format!(" mounted on {} with fstype nfs", point.display());
    let (_, rest) = stats.rsplit_once(&point)?;
    let mut lines = rest.lines().skip(1).take_while(|line| !line.starts_with("device "));
    lines.find_map(|line| line.trim().strip_prefix("age:")?.trim().parse().ok())
}

fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = units.iter();
    let mut name = unit.next().unwrap_or(&"B");
    while value >= 1024.0
        && let Some(next) = unit.next()
    {
        value /= 1024.0;
        name = next;
    }
    format!("{value:.1} {name}")
}

impl Tunnel {
    fn text(&self) -> String {
        let TunnelStatus { peer, connections, sent, received, refused, last_failure } = &self.is;
        let peer = match peer {
            Some(Peer { address, version, cipher, identity }) => {
                let who = identity.as_ref().map(|who| format!(", as {who}")).unwrap_or_default();
                format!("{version} ({cipher}) with {address}{who}")
            }
            None => "no handshake yet".to_owned(),
        };
        let failure = last_failure.as_ref().map(|f| format!("; last failure: {f}"));
        let (sent, received, port) = (size(*sent), size(*received), self.port);
        plain(&format!(
            "port {port}, {peer}; connections: {connections}; {sent} sent, {received} received; \
             {refused} connections of others refused{}",
            failure.unwrap_or_default()
        ))
    }

    fn json(&self) -> String {
        let TunnelStatus { peer, connections, sent, received, refused, last_failure } = &self.is;
        let text = |text: Option<String>| text.map_or("null".into(), |text| quoted(&text));
        let of = |part: fn(&Peer) -> Option<String>| text(peer.as_ref().and_then(part));
        format!(
            "{{\"port\": {}, \"peer\": {}, \"version\": {}, \"cipher\": {}, \"identity\": {}, \
             \"connections\": {connections}, \"bytes_sent\": {sent}, \"bytes_received\": {received}, \
             \"refused\": {refused}, \"last_failure\": {}, \"problem\": null}}",
            self.port,
            of(|peer| Some(peer.address.to_string())),
            of(|peer| Some(peer.version.clone())),
            of(|peer| Some(peer.cipher.clone())),
            of(|peer| peer.identity.clone()),
            text(last_failure.as_ref().map(ToString::to_string)),
        )
    }
}

fn text_of(tunnel: &Result<Box<Tunnel>, String>) -> String {
    match tunnel {
        Ok(tunnel) => tunnel.text(),
        Err(problem) => problem.clone(),
    }
}

fn json_of(tunnel: Option<&Result<Box<Tunnel>, String>>) -> String {
    match tunnel {
        None => "null".to_owned(),
        Some(Ok(tunnel)) => tunnel.json(),
        Some(Err(problem)) => format!("{{\"problem\": {}}}", quoted(problem)),
    }
}

impl State {
    fn is_well(&self) -> bool {
        matches!(self, Self::Up { space: Ok(_), tunnel: None | Some(Ok(_)), .. })
    }

    fn text(&self, share: &Share, in_config: bool) -> String {
        let text = self.told(share);
        match in_config {
            true => text,
            false => {
                format!("{text}  it is not in the config: sudo efs-agent unmount takes it away\n")
            }
        }
    }

    fn told(&self, share: &Share) -> String {
        match self {
            Self::Up { address, source, options, age, space, tunnel } => {
                let tunnel =
                    tunnel.as_ref().map(|tunnel| format!("  tunnel: {}\n", text_of(tunnel)));
                let tunnel = tunnel.unwrap_or_default();
                let since = age.map(|age| {
                    let span = humantime::format_duration(Duration::from_secs(age));
                    format!(" for {span}")
                });
                let space = match space {
                    Ok((all, free)) => {
                        let full = match *free == 0 && *all > 0 {
                            true => " (FULL: nothing can be written; make room on the server)",
                            false => "",
                        };
                        format!("answers; {} of {} free{full}", size(*free), size(*all))
                    }
                    Err(problem) => problem.text(),
                };
                let led = match mount_table::has_path(source, share) {
                    false => format!(
                        "  the server leads {} to {source}, which is what df and findmnt show\n",
                        share.path
                    ),
                    true => String::new(),
                };
                format!(
                    "{share}: mounted from {address}{}; {space}\n{led}  options: {options}\n{tunnel}",
                    since.unwrap_or_default()
                )
            }
            Self::Absent { tunnel } => {
                let tunnel = tunnel.as_ref().map(|tunnel| {
                    let text = text_of(tunnel);
                    format!("  tunnel: runs, though nothing is mounted through it: {text}\n")
                });
                format!("{share}: NOT MOUNTED\n{}", tunnel.unwrap_or_default())
            }
            Self::Failed(why) => format!("{share}: NOT USABLE: {why}\n"),
        }
    }

    fn json(&self, share: &Share, in_config: bool) -> String {
        let head = format!(
            "  {{\"endpoint\": {}, \"path\": {}, \"mount_point\": {}, \"in_config\": {in_config}",
            quoted(&share.endpoint.to_string()),
            quoted(&share.path),
            quoted(&share.mount_point.to_string_lossy())
        );
        let rest = match self {
            Self::Up { address, source, options, age, space, tunnel } => {
                let tunnel = json_of(tunnel.as_ref());
                let (address, source, options) = (quoted(address), quoted(source), quoted(options));
                let age = age.map_or("null".into(), |age| age.to_string());
                let (all, free, why) = match space {
                    Ok((all, free)) => (all.to_string(), free.to_string(), "null".into()),
                    Err(problem) => ("null".into(), "null".into(), quoted(problem.why())),
                };
                let usable = space.is_ok();
                let responsive = !matches!(space, Err(Problem::Silence(_)));
                format!(
                    "\"mounted\": true, \"responsive\": {responsive}, \"usable\": {usable}, \"address\": {address}, \
                     \"source\": {source}, \"options\": {options}, \
                     \"mounted_for_seconds\": {age}, \"bytes\": {all}, \"bytes_free\": {free}, \"problem\": {why}, \"tunnel\": {tunnel}"
                )
            }
            Self::Absent { tunnel } => format!(
                "\"mounted\": false, \"responsive\": false, \"usable\": false, \"problem\": null, \"tunnel\": {}",
                json_of(tunnel.as_ref())
            ),
            Self::Failed(why) => {
                format!(
                    "\"mounted\": false, \"responsive\": false, \"usable\": false, \"problem\": {}",
                    quoted(why)
                )
            }
        };
        format!("{head}, {rest}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_mount_is_read_from_its_own_block() {
        let stats = "device a:/ mounted on /mnt/a with fstype nfs4 statvers=1.1\n\topts:\trw\n\tage:\t77\n\
                     device tmpfs mounted on /mnt/b with fstype tmpfs\n\
                     device a:/ mounted on /mnt/ab with fstype nfs4 statvers=1.1\n\tage:\t78\n";
        assert_eq!(age(stats, Path::new("/mnt/a")), Some(77));
        assert_eq!(age(stats, Path::new("/mnt/ab")), Some(78));
        assert_eq!(age(stats, Path::new("/mnt/b")), None);
    }

    #[test]
    fn sizes_have_one_decimal_and_a_binary_unit() {
        assert_eq!(size(0), "0.0 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(u64::MAX), "16.0 EiB");
    }

    fn up(tunnel: Option<Result<Box<Tunnel>, String>>) -> State {
        State::Up {
            address: "127.0.0.1".into(),
            source: "fs-0123abcd.efs.eu-west-1.amazonaws.com:/".into(),
            options: "rw".into(),
            age: Some(61),
            space: Ok((2048, 1024)),
            tunnel,
        }
    }

    #[test]
    fn a_tunnel_is_told_with_its_far_end_and_what_went_through() {
        let share = crate::config::test::encrypted_share("");
        let peer = Peer {
            address: "10.0.1.12".parse().unwrap(),
            version: "TLS 1.3".into(),
            cipher: "TLS13_AES_128_GCM_SHA256".into(),
            identity: Some("profile x, AKIDEXAMPLE".into()),
        };
        let is = TunnelStatus {
            peer: Some(peer),
            connections: 1,
            sent: 1536,
            received: 5,
            refused: 3,
            last_failure: Some(crate::tunnel::protocol::TunnelError::Closed),
        };
        let state = up(Some(Ok(Box::new(Tunnel { port: 40001, is }))));
        assert!(state.is_well());
        assert_eq!(
            state.text(&share, true),
            "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share: mounted from 127.0.0.1 for 1m 1s; \
             answers; 1.0 KiB of 2.0 KiB free\n  options: rw\n  tunnel: port 40001, TLS 1.3 \
             (TLS13_AES_128_GCM_SHA256) with 10.0.1.12, as profile x, AKIDEXAMPLE; connections: 1; 1.5 KiB \
             sent, 5.0 B received; 3 connections of others refused; last failure: the server closed the \
             connection in the middle of the TLS handshake\n"
        );
        let json: serde_json::Value = serde_json::from_str(&state.json(&share, true)).unwrap();
        let tunnel = &json["tunnel"];
        assert_eq!((&tunnel["port"], &tunnel["bytes_sent"]), (&40001.into(), &1536.into()));
        assert_eq!(tunnel["peer"], "10.0.1.12");
        assert_eq!(tunnel["problem"], serde_json::Value::Null);

        let plain = up(Some(Err("NOT ENCRYPTED, which the config wants".into())));
        assert!(!plain.is_well());
        assert!(
            plain
                .text(&share, true)
                .ends_with("\n  tunnel: NOT ENCRYPTED, which the config wants\n")
        );
        let json: serde_json::Value = serde_json::from_str(&plain.json(&share, true)).unwrap();
        assert_eq!(json["tunnel"]["problem"], "NOT ENCRYPTED, which the config wants");

        let State::Up { address, options, age, .. } = up(None) else { unreachable!() };
        let stale = State::Up {
            space: Err(Problem::Fault(no_use(nix::errno::Errno::ESTALE), ANEW)),
            source: "fs:/releases/1".into(),
            tunnel: None,
            address,
            options,
            age,
        };
        assert!(!stale.is_well());
        assert_eq!(
            stale.text(&share, true),
            "fs-0123abcd.efs.eu-west-1.amazonaws.com:/ on /mnt/efs_share: mounted from 127.0.0.1 for 1m 1s; NOT USABLE: its \
             folder is gone from the server, or was made anew there (ESTALE); to mend it: sudo efs-agent --once, which \
             mounts it anew\n  the server leads / to fs:/releases/1, which is what df and findmnt show\n  options: rw\n"
        );
        let json: serde_json::Value = serde_json::from_str(&stale.json(&share, true)).unwrap();
        assert_eq!((&json["responsive"], &json["usable"]), (&true.into(), &false.into()));
        assert_eq!(json["source"], "fs:/releases/1");
        assert!(json["problem"].as_str().unwrap().ends_with("(ESTALE)"), "{json}");

        let State::Up { address, source, options, age, .. } = up(None) else { unreachable!() };
        let full = State::Up { space: Ok((2048, 0)), tunnel: None, address, source, options, age };
        assert!(
            full.text(&share, true).contains("0.0 B of 2.0 KiB free (FULL: nothing can be written")
        );
        assert!(!up(None).text(&share, true).contains("FULL"));

        let without = up(None);
        assert!(without.is_well() && !without.text(&share, true).contains("tunnel"));
        let json: serde_json::Value = serde_json::from_str(&without.json(&share, true)).unwrap();
        assert_eq!(json["tunnel"], serde_json::Value::Null);
    }
}
