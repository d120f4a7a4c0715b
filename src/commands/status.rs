//! `status`: reports how the shares are, and how the last session start ended. Changes nothing, and
//! touches a mount only in a process that can be cut off. [`state`] turns what is found into words
//! and JSON.

mod state;

use super::error::CommandError;
use super::frame::Frame;
use super::left::{self, KnownShares};
use crate::cli::StatusArgs;
use crate::config::Share;
use crate::json;
use crate::kernel::mount_table::{self, Entry};
use crate::report::{Code, record};
use crate::retry::Deadline;
use crate::share::causes::{explain, is_there, no_use};
use crate::share::client::ClientIdentity;
use crate::share::linux::{Linux, RootState};
use crate::share::plan::TUNNEL;
use crate::share::{Failure, Mounted};
use crate::status;
use crate::status::record::{ClientRecord, Status};
use crate::stop::SystemClock;
use crate::sys;
use crate::text::plain;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units::Units;
use serde::Serialize;
use serde_json::value::RawValue;
use state::{MountProblem, MountState, ShareJson, ShareSpace, ShareState, TunnelState};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

/// What helps where a mount is of no use.
pub(super) const MOUNT_ANEW: &str = "sudo efs-agent --once, which mounts it anew";
/// How long the server of one share gets to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);

/// Reports how the shares are, and returns the exit code.
pub fn run(args: &StatusArgs, started: Instant) -> Code {
    let without_root = Some("only root can look at all of it: use sudo");
    let result = Frame::run(started, without_root, |frame| start(args, frame));
    result.unwrap_or_else(|CommandError { code, text }| {
        if args.json {
            super::print_json(&ErrorJson { error: &text, exit: code.0 });
            return code;
        }
        let log = super::log(false);
        log.drop_syslog();
        log.error(format_args!("{text} (exit {})", code.0));
        code
    })
}

/// What `--json` prints.
#[derive(Serialize)]
struct StatusJson<'a> {
    shares: Vec<ShareJson<'a>>,
    client: Option<ClientRecord>,
    /// All that status.json holds.
    last_start: Option<&'a RawValue>,
    /// Why the config cannot be used.
    problem: Option<&'a str>,
}

/// What `--json` prints where nothing is known.
#[derive(Serialize)]
struct ErrorJson<'a> {
    error: &'a str,
    exit: u8,
}

/// A share as it was found.
struct FoundShare<'a> {
    share: &'a Share,
    /// Whether the config has it; else an earlier run has mounted it.
    in_config: bool,
    state: ShareState,
}

fn start(args: &StatusArgs, frame: &Frame<'_>) -> Result<Code, CommandError> {
    let root = frame.root;
    let machine = frame.machine();
    let KnownShares { config, settings, left, refused } =
        left::known(&machine, args.config.as_deref())?;

    let tunnels = Units::new(root, &frame.clock, frame.stop, &config);
    let stats = fs::read(root.join("proc/self/mountstats")).unwrap_or_default();
    let stats = String::from_utf8_lossy(&stats);

    let look = StatusLook { machine: &machine, tunnels: &tunnels, stats: &stats };
    let in_config = settings.shares.iter().map(|share| (share, true));
    let found = look.at_all(in_config.chain(left.iter().map(|share| (share, false))).collect());
    // A look that a signal has cut short says nothing.
    if let Some(stopped) = frame.stopped() {
        return Err(stopped);
    }

    let last = status::text(root);
    let client = ClientIdentity::read(root);
    if args.json {
        super::print_json(&StatusJson {
            shares: found.iter().map(|one| one.state.json(one.share, one.in_config)).collect(),
            client: record::client(&client),
            // Text that is no JSON would make the whole output unreadable.
            last_start: last.as_deref().and_then(|text| json::read(text.as_bytes()).ok()),
            problem: refused.as_ref().map(|why| why.text.as_str()),
        });
    } else {
        let refused = refused.as_ref().map_or(String::new(), |why| format!("{why}\n"));
        let shares: String =
            found.iter().map(|one| one.state.text(one.share, one.in_config)).collect();
        let shares: String =
            (refused + &shares).lines().map(|line| format!("{}\n", plain(line))).collect();

        let client = plain(&client.sentence(&sys::host_name()));
        let last = last.and_then(|text| status::last_run(root, &Status::parse(&text)?));
        let last = last
            .map_or("no session start since this machine was booted".into(), |last| plain(&last));
        super::print(&format!("{shares}{client}\n{last}\n"));
    }

    if let Some(why) = refused {
        return Ok(why.code);
    }
    let well = found.iter().all(|one| !one.in_config || one.state.is_well());
    Ok(if well { Code::OK } else { Code::NOT_UP })
}

/// The words where the kernel is not connected to the port of this machine that the mount table
/// shows.
pub(super) fn past(way: Option<SocketAddr>) -> String {
    match way {
        Some(to) => {
            format!("NOT ENCRYPTED, which the config wants: the kernel is connected to {to}")
        }
        None => "the kernel does not tell whether it is used".to_owned(),
    }
}

/// The words where a share is mounted through a port at which its tunnel is not: anybody may be
/// there.
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

/// Looks at the shares of this machine.
struct StatusLook<'a> {
    machine: &'a Linux<'a, SystemClock<'a>>,
    tunnels: &'a (dyn Tunnels + Sync),
    /// The text of /proc/self/mountstats.
    stats: &'a str,
}

impl StatusLook<'_> {
    /// Looks at all shares at once, so that a dead server costs the others no time.
    fn at_all<'s>(&self, shares: Vec<(&'s Share, bool)>) -> Vec<FoundShare<'s>> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|(share, in_config)| {
                    let thread = std::thread::Builder::new();
                    let thread = thread.spawn_scoped(scope, move || self.at(share));
                    // If no thread can be started, one after another is better than not at all.
                    (share, in_config, thread.map_err(|_| self.at(share)))
                })
                .collect();

            let end = |(share, in_config, thread): (_, _, Result<_, _>)| {
                let state = thread.map_or_else(|state| state, joined);
                FoundShare { share, in_config, state }
            };
            threads.into_iter().map(end).collect()
        })
    }

    fn at(&self, share: &Share) -> ShareState {
        let until = Deadline::after(self.machine.clock, ANSWER_TIMEOUT);
        match self.machine.found(share, until) {
            Ok(Some(mounted)) => ShareState::Up(Box::new(self.at_mount(share, mounted, until))),
            Ok(None) => {
                let port = share.encryption.as_ref().and_then(|_| self.tunnels.port(share));
                ShareState::Absent { tunnel: port.map(|port| self.ask(share, port, until)) }
            }
            Err(Failure::Taken { source, fstype }) => {
                ShareState::Unusable(plain(&is_there(&source, &fstype)))
            }
            Err(failure) => {
                let kernel = sys::kernel_release();
                ShareState::Unusable(plain(&explain(&failure, share, &kernel).sentence))
            }
        }
    }

    fn at_mount(&self, share: &Share, mounted: Mounted, until: Deadline) -> MountState {
        let table = self.machine.table().unwrap_or_default();
        let table = mount_table::parse(&table);
        let entry = mount_table::top_at(&table, &share.mount_point);
        let tunnel = entry.and_then(|entry| self.tunnel(share, entry, until));
        let options = entry.map_or(String::new(), |e| format!("{},{}", e.flags, e.options));

        let space = match self.machine.root(share, &mounted, until) {
            Ok(RootState::Well(bytes, free)) => Ok(ShareSpace { bytes, free }),
            Ok(RootState::Fault(errno)) => Err(MountProblem::Fault(no_use(errno), MOUNT_ANEW)),
            Ok(RootState::Over) => Err(MountProblem::Fault(
                "something else was put over it".into(),
                "see what that is (findmnt), and unmount it",
            )),
            Ok(RootState::Silence) => Err(MountProblem::Silence(format!(
                "its server {} does not answer",
                mounted.address
            ))),
            Err(failure) => Err(MountProblem::Silence(explain(&failure, share, "").sentence)),
        };

        let age = age(self.stats, &share.mount_point);
        let Mounted { address, source, .. } = mounted;
        MountState { address, source, options, age, space, tunnel }
    }

    /// The tunnel that a mount goes through, or what is wrong with that. `None` if it neither does
    /// nor should.
    fn tunnel(
        &self,
        share: &Share,
        entry: &Entry<'_>,
        until: Deadline,
    ) -> Option<Result<TunnelState, String>> {
        match (mount_table::is_tunnelled(entry, share), share.encryption.is_some()) {
            (false, false) => return None,
            (false, true) => return Some(Err("NOT ENCRYPTED, which the config wants".into())),
            (true, false) => {
                return Some(Err("encrypted, which the config does not want".into()));
            }
            (true, true) => {}
        }

        let way = self.machine.connected_to(entry.device);
        if way != Some(SocketAddr::new(TUNNEL, entry.port())) {
            return Some(Err(past(way)));
        }
        Some(match self.tunnels.port(share) {
            Some(port) if port == entry.port() => self.ask(share, port, until),
            at => Err(elsewhere(entry.port(), at)),
        })
    }

    fn ask(&self, share: &Share, port: u16, until: Deadline) -> Result<TunnelState, String> {
        match self.tunnels.status(share, until) {
            Ok(status) => Ok(TunnelState { port, status }),
            Err(failure) => Err(plain(&failure.to_string())),
        }
    }
}

fn joined(thread: std::thread::ScopedJoinHandle<'_, ShareState>) -> ShareState {
    let dead = |_| ShareState::Unusable("the look at it ended without a word".into());
    thread.join().unwrap_or_else(dead)
}

/// How long ago `point` was mounted, in seconds, as /proc/self/mountstats has it for NFS.
fn age(stats: &str, point: &Path) -> Option<u64> {
    let point = format!(" mounted on {} with fstype nfs", point.display());
    let (_, rest) = stats.rsplit_once(&point)?;
    let mut lines = rest.lines().skip(1).take_while(|line| !line.starts_with("device "));
    lines.find_map(|line| line.trim().strip_prefix("age:")?.trim().parse().ok())
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
}
