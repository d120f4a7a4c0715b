//! `status`: how the shares are, and how the last session start ended. Changes nothing, and touches a
//! mount only in a process that can be cut off.

use super::Refusal;
use crate::cli::StatusArgs;
use crate::config::Share;
use crate::json::{Document, quoted};
use crate::log::plain;
use crate::report::Code;
use crate::retry::Deadline;
use crate::share::causes::explain;
use crate::share::linux::Linux;
use crate::share::{Failure, mount_point, table, worker};
use crate::status;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

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
    let (_, settings) = super::settings(root, args.config.as_deref())?;
    let machine = Linux::new(root, &clock, &stop, None);
    let stats = fs::read(root.join("proc/self/mountstats")).unwrap_or_default();
    let stats = String::from_utf8_lossy(&stats);
    // All shares at once: of several dead servers, each costs its time, and none the other's.
    let states: Vec<State> = std::thread::scope(|scope| {
        let look = |share: &Share| state(&machine, &clock, share, &stats);
        let thread = |share| {
            // No thread to be had: one after another is better than not at all.
            let thread = std::thread::Builder::new().spawn_scoped(scope, move || look(share));
            thread.map_err(|_| look(share))
        };
        let threads: Vec<_> = settings.shares.iter().map(thread).collect();
        let dead = |_| State::Failed("the look at it ended without a word".into());
        let end = |thread: Result<std::thread::ScopedJoinHandle<'_, State>, State>| match thread {
            Ok(thread) => thread.join().unwrap_or_else(dead),
            Err(state) => state,
        };
        threads.into_iter().map(end).collect()
    });
    // What was looked at when we were stopped says nothing.
    if let Some(signal) = stop.signal() {
        return Err((Code::signal(signal as i32), format!("stopped by {signal}")));
    }
    let last = status::read(root);
    let pairs = || settings.shares.iter().zip(&states);
    let text = if args.json {
        let shares: Vec<String> = pairs().map(|(share, state)| state.json(share)).collect();
        // What cannot be read would make the whole unreadable.
        let last = last.filter(|text| Document::parse(text).is_ok());
        let last = last.as_deref().map_or("null", str::trim_end);
        format!("{{\"shares\": [\n{}\n], \"last_start\": {last}}}\n", shares.join(",\n"))
    } else {
        let shares: String = pairs().map(|(share, state)| state.text(share)).collect();
        let last = last.as_deref().and_then(status::told).map(|told| plain(&told));
        let none = || "no session start since this machine was booted".into();
        format!("{shares}{}\n", last.unwrap_or_else(none))
    };
    super::print(&text);
    let well = states.iter().all(|state| matches!(state, State::Up { space: Ok(_), .. }));
    Ok(if well { Code::OK } else { Code::NOT_UP })
}

/// How one share is.
enum State {
    Up {
        address: String,
        options: String,
        /// Seconds since it was mounted, where the kernel tells.
        age: Option<u64>,
        /// Bytes in all and free; or why its root could not be looked at.
        space: Result<(u64, u64), String>,
    },
    Absent,
    Failed(String),
}

fn state(
    machine: &Linux<'_, SystemClock<'_>>,
    clock: &SystemClock<'_>,
    share: &Share,
    stats: &str,
) -> State {
    let until = Deadline::after(clock, ALIVE);
    let mounted = match machine.found(share, until) {
        Ok(Some(mounted)) => mounted,
        Ok(None) => return State::Absent,
        Err(Failure::Taken { source, fstype }) => {
            return State::Failed(plain(&format!("{source} ({fstype}) is mounted there")));
        }
        Err(failure) => {
            let kernel = sys::kernel_release();
            return State::Failed(plain(&explain(&failure, share, &kernel).sentence));
        }
    };
    let table = machine.table().unwrap_or_default();
    let table = table::parse(&table);
    let entry = table::top_at(&table, &share.mount_point);
    let options = entry.map_or(String::new(), |e| format!("{},{}", e.flags, e.options));
    let space = match mount_point::parent(machine.root, &share.mount_point) {
        Ok(parent) => match worker::space(&parent, &mounted.device, until, clock, machine.stop) {
            Ok(Ok(space)) => Ok(space),
            Ok(Err(errno)) => Err(format!("its root cannot be opened: {errno}")),
            Err(_) => Err(format!("its server {} does not answer", mounted.address)),
        },
        Err(e) => Err(e.to_string()),
    };
    State::Up { address: mounted.address, options, age: age(stats, &share.mount_point), space }
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

impl State {
    fn text(&self, share: &Share) -> String {
        match self {
            Self::Up { address, options, age, space } => {
                let since = age.map(|age| {
                    let span = humantime::format_duration(Duration::from_secs(age));
                    format!(" for {span}")
                });
                let space = match space {
                    Ok((all, free)) => format!("answers; {} of {} free", size(*free), size(*all)),
                    Err(why) => format!("NOT RESPONDING: {why}"),
                };
                format!(
                    "{share}: mounted from {address}{}; {space}\n  options: {options}\n",
                    since.unwrap_or_default()
                )
            }
            Self::Absent => format!("{share}: NOT MOUNTED\n"),
            Self::Failed(why) => format!("{share}: NOT USABLE: {why}\n"),
        }
    }

    fn json(&self, share: &Share) -> String {
        let head = format!(
            "  {{\"endpoint\": {}, \"path\": {}, \"mount_point\": {}",
            quoted(&share.endpoint.to_string()),
            quoted(&share.path),
            quoted(&share.mount_point.to_string_lossy())
        );
        let rest = match self {
            Self::Up { address, options, age, space } => {
                let (address, options) = (quoted(address), quoted(options));
                let age = age.map_or("null".into(), |age| age.to_string());
                let (responsive, all, free, why) = match space {
                    Ok((all, free)) => (true, all.to_string(), free.to_string(), "null".into()),
                    Err(why) => (false, "null".into(), "null".into(), quoted(why)),
                };
                format!(
                    "\"mounted\": true, \"responsive\": {responsive}, \"address\": {address}, \"options\": {options}, \
                     \"mounted_for_seconds\": {age}, \"bytes\": {all}, \"bytes_free\": {free}, \"problem\": {why}"
                )
            }
            Self::Absent => "\"mounted\": false, \"responsive\": false, \"problem\": null".into(),
            Self::Failed(why) => {
                format!("\"mounted\": false, \"responsive\": false, \"problem\": {}", quoted(why))
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
}
