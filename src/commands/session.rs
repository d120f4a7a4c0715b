//! A session start: it brings every share of the config from its name to its mount, inside one
//! deadline. Here is the order: what must be right first, the shares of all servers, and the end.
//! One share's way is in [`share_run`], the attempts to mount it in [`attempt`], a look at what is
//! mounted already in [`look`]. [`encrypted`] is for shares that go through a tunnel, and
//! [`search`] finds a server. [`pace`] says how long each step may take, and [`outcome`] has the
//! words.

mod attempt;
mod encrypted;
mod look;
mod outcome;
mod pace;
mod search;
mod share_run;
#[cfg(test)]
mod tests;

pub(super) use encrypted::unguarded;
#[cfg(test)]
pub(crate) use outcome::log_end;

use super::error::CommandError;
use super::frame::{self, Frame};
use crate::appstream;
use crate::cli::SessionArgs;
use crate::config::Share;
use crate::kernel::namespace::{Namespace, may_mount, namespace};
use crate::log::Log;
use crate::report::{Code, MountError, Outcome, Report};
use crate::retry::{Clock, Deadline};
use crate::share::causes::{Cause, MachineFacts, explain_with};
use crate::share::{Failure, Machine};
use crate::status;
use crate::sys;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units::Units;
use pace::Pace;
use search::Search;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A run that has waited this long is noted before it ends, because it may be killed.
const NOTE_AFTER: Duration = Duration::from_millis(500);
/// The stack of a thread. With several servers, the shares of each have a thread of their own.
const STACK: usize = 256 * 1024;

/// Runs a session start and returns its exit code.
pub fn run(args: &SessionArgs, started: Instant) -> Code {
    let log = super::log(!args.once);
    let without_root = Some("only root can mount: use sudo");
    let result = Frame::run(started, without_root, |frame| {
        let (config, report) = start(args, frame, &log)?;

        // This comes before the last line, which must be the outcome.
        if let Err(why) = status::write(frame.root, report.ended(&config, args.once, now())) {
            log.warning(why);
        }
        Ok(outcome::log_end(&report, args.once, &log))
    });

    frame::concluded(result, &log)
}

/// The time of day, for what is written down.
fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Checks what must be right before the first share is touched, and then brings up all shares.
fn start(
    args: &SessionArgs,
    frame: &Frame<'_>,
    log: &Log,
) -> Result<(PathBuf, Report), CommandError> {
    let (root, clock, stop) = (frame.root, &frame.clock, frame.stop);
    let (path, settings) = frame.settings(args.config.as_deref(), args.once, log)?;
    let left = settings.deadline.saturating_sub(frame.started.elapsed());
    let deadline = Deadline::after(clock, left);
    outcome::log_start(&path, &settings, appstream::Session::read(root), log);
    check_namespace(args.allow_private_namespace)?;

    let machine = frame.machine();
    let begun = status::Begun::new(root, &path, args.once, now(), Arc::clone(&machine.made));
    stop.when_waited_for(NOTE_AFTER, Box::new(move || begun.note()));
    outcome::log_client(machine.client(), log);

    let tunnels = Units::new(root, clock, stop, &path);
    let run = SessionRun {
        machine: &machine,
        tunnels: &tunnels,
        clock,
        log,
        deadline,
        attempt_timeout: settings.attempt_timeout,
        once: args.once,
        kernel: sys::kernel_release,
    };

    let outcomes = run.all(settings.shares, &|outcome| status::remember(root, outcome.into()));

    let failed = outcomes.iter().any(|outcome| outcome.result.is_err());
    let stopped_by = if failed { stop.signal() } else { None };
    let client = machine.client().identity.clone();
    Ok((path, Report { outcomes, stopped_by, client }))
}

/// Whether this process may mount, and others will see what it mounts.
fn check_namespace(allow_private: bool) -> Result<(), CommandError> {
    if !may_mount() {
        let text = "root may not mount here (CAP_SYS_ADMIN is missing): run outside of the container, \
                    or give the unit CapabilityBoundingSet=CAP_SYS_ADMIN";
        return Err(CommandError::new(Code::PERMISSION, text));
    }

    if namespace(Path::new("/proc")) == Namespace::Private && !allow_private {
        let text = "nobody would see the mounts: this process has a mount namespace of its own. A systemd \
                    unit gets one from PrivateTmp=, ProtectSystem=, ProtectHome=, PrivateDevices=, \
                    ReadOnlyPaths= and their like (take these out); so do unshare and containers. If it is \
                    meant so, give --allow-private-namespace";
        return Err(CommandError::new(Code::FAULT, text));
    }

    Ok(())
}

/// What all shares of a session start have in common.
pub(crate) struct SessionRun<'a, M> {
    pub(crate) machine: &'a M,
    pub(crate) tunnels: &'a dyn Tunnels,
    pub(crate) clock: &'a (dyn Clock + Sync),
    pub(crate) log: &'a Log,
    pub(crate) deadline: Deadline,
    pub(crate) attempt_timeout: Duration,
    pub(crate) once: bool,
    /// The running kernel's release, for messages.
    pub(crate) kernel: fn() -> String,
}

/// Writes down a share that is up while others are not yet.
pub(crate) type Remember<'a> = &'a (dyn Fn(&Outcome) + Sync);

/// What the shares of a session start know of each other.
struct AllShares<'a> {
    /// How many there are.
    count: usize,
    /// How many have not ended yet.
    pending: AtomicUsize,
    remember: Remember<'a>,
}

/// The shares of one server, each with its place in the config.
type ServerShares = Vec<(usize, Share)>;

impl<M: Machine> SessionRun<'_, M> {
    /// Brings up all shares: different servers side by side, the shares of one server one after
    /// another. Mounts from one server at the same time can fail in the kernel's trunking
    /// discovery.
    pub(crate) fn all(&self, shares: Vec<Share>, remember: Remember<'_>) -> Vec<Outcome> {
        let (count, pending) = (shares.len(), AtomicUsize::new(shares.len()));
        let all = AllShares { count, pending, remember };
        let servers = by_server(shares);
        let mut outcomes = match servers.len() {
            1 => servers
                .into_iter()
                .flat_map(|shares| {
                    self.one_server(shares, Pace::of_one(self.attempt_timeout), &all)
                })
                .collect(),
            _ => self.side_by_side(servers, &all),
        };

        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    fn side_by_side(
        &self,
        servers: Vec<ServerShares>,
        all: &AllShares<'_>,
    ) -> Vec<(usize, Outcome)> {
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            let mut outcomes = Vec::new();

            for (shares, n) in servers.into_iter().zip(0..) {
                let pace = Pace::of_several(self.attempt_timeout, n);
                let again = shares.clone();
                let thread = std::thread::Builder::new().stack_size(STACK);
                match thread.spawn_scoped(scope, move || self.one_server(shares, pace, all)) {
                    Ok(thread) => threads.push(thread),
                    // No thread can be started: one after another is better than not at all.
                    Err(_) => outcomes.extend(self.one_server(again, pace, all)),
                }
            }

            outcomes
                .extend(threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
            outcomes
        })
    }

    fn one_server(
        &self,
        shares: ServerShares,
        pace: Pace,
        all: &AllShares<'_>,
    ) -> Vec<(usize, Outcome)> {
        // These shares have one name, so the next one's server is where the last one's was.
        let mut search = Search::default();
        let mut outcomes = Vec::new();
        for (place, share) in shares {
            let outcome = self.bring_up(share, pace, &mut search, all.remember);
            if all.count > 1 {
                outcome::log_one_of_several(&outcome, self.once, self.log);
            }

            let is_last = all.pending.fetch_sub(1, Ordering::Relaxed) == 1;
            let is_new = outcome
                .result
                .as_ref()
                .is_ok_and(|mounted| !mounted.already && mounted.led_to(&outcome.share).is_none());
            if is_new && !is_last {
                (all.remember)(&outcome);
            }
            outcomes.push((place, outcome));
        }

        outcomes
    }

    /// The failure of a share that is given up, with the facts that its explanation needs.
    fn given_up(&self, failure: Failure) -> MountError {
        MountError { facts: self.facts(&failure), failure }
    }

    /// The words of `failure` for the log.
    fn explain(&self, failure: &Failure, share: &Share) -> Cause {
        explain_with(failure, share, &self.facts(failure))
    }

    fn facts(&self, failure: &Failure) -> MachineFacts {
        MachineFacts::about(failure, (self.kernel)(), |to| self.machine.route(to))
    }
}

fn by_server(shares: Vec<Share>) -> Vec<ServerShares> {
    let mut servers: Vec<(String, ServerShares)> = Vec::new();
    for (place, share) in shares.into_iter().enumerate() {
        // A name with a dot at its end is shown without it, and names the same server.
        let name = share.endpoint.to_string();
        match servers.iter_mut().find(|(server, _)| *server == name) {
            Some((_, shares)) => shares.push((place, share)),
            None => servers.push((name, vec![(place, share)])),
        }
    }

    servers.into_iter().map(|(_, shares)| shares).collect()
}
