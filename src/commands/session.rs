//! A session start: every share of the config from its name to its mount,
//! inside one deadline. Read [`run`] for the frame, [`bring_up`] for the way
//! of one share, [`attempt`] for one try; [`encrypted`] for those that go through a tunnel, and [`search`] for where the
//! server is.

mod encrypted;
mod search;

pub(super) use encrypted::unguarded;

use crate::appstream;
use crate::cli::{SessionArgs, VERSION};
use crate::config::{Level, Share, advice};
use crate::kernel::holders::list;
use crate::kernel::namespace::{Namespace, may_mount, namespace};
use crate::log::Log;
use crate::report::{Code, Outcome, Report};
use crate::retry::{Backoff, Clock, Deadline, Span, seconds};
use crate::share::causes::{Cause, explain_by, no_use};
use crate::share::client::{Client, Identity};
use crate::share::linux::Linux;
use crate::share::{Answer, Failure, Machine, Mounted, plan};
use crate::status;
use crate::stop::{Stop, SystemClock};
use crate::sys;
use crate::tunnel::contract::Tunnels;
use crate::tunnel::units::Units;
use search::Search;
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// One attempt gives the name this long, and then the connection as long again.
const LOCATE: Duration = Duration::from_secs(3);
/// How long the server of a share that is mounted already gets to answer one question.
const ALIVE: Duration = Duration::from_millis(1500);
/// With several servers, a mount(2) is cut off when its server leaves a NULL call without an answer
/// for this long (the next time for twice as long, and so on): the kernel makes itself known to one
/// new server at a time, so that one which is silent holds up the mounts of all others.
const SILENCE: Duration = Duration::from_secs(1);
/// And each server's mount(2) is cut off this much before the last one's: if one hangs in spite of an
/// answer, another is waiting in the kernel when it is cut off, and comes first.
const APART: Duration = Duration::from_millis(500);
/// A run that has waited this long is noted before it has ended: it may be killed.
const SLOW: Duration = Duration::from_millis(500);
/// Each server's shares have a thread of their own where there are several servers.
const STACK: usize = 256 * 1024;

/// Runs a session start and returns its exit code.
pub fn run(args: &SessionArgs, started: Instant) -> Code {
    let log = super::log(!args.once);
    let (code, text) = match start(args, started, &log) {
        Ok((config, report)) => {
            let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let (root, code) = (Path::new("/"), report.code());
            // Before the last line, which is the outcome.
            if let Err(why) = status::write(root, &config, &report, code, args.once, &at) {
                log.warning(why);
            }
            return finish(&report, args.once, &log);
        }
        Err(refusal) => refusal,
    };
    log.error(format_args!("{text} (exit {})", code.0));
    code
}

/// The frame of a run: what must be right before the first share is touched.
fn start(
    args: &SessionArgs,
    started: Instant,
    log: &Log,
) -> Result<(PathBuf, Report), (Code, String)> {
    let root = Path::new("/");
    let proc = Path::new("/proc");
    // First of all: nothing may be written before SIGPIPE is blocked.
    let stop = Stop::install().map_err(|e| (Code::FAULT, format!("cannot set signals: {e}")))?;
    // Its descriptor ends with the process, which has nothing to do afterwards but to say how it went.
    let stop = ManuallyDrop::new(stop);
    if !sys::is_root() {
        return Err((Code::PERMISSION, "only root can mount: use sudo".into()));
    }
    let clock = SystemClock::new(started, &stop);
    let (path, settings) = super::settings(root, args.config.as_deref())?;
    super::apply(&settings.log, args.once, log);
    let deadline = Deadline::after(&clock, settings.deadline.saturating_sub(started.elapsed()));
    log.info(format_args!(
        "{VERSION}: config {}, {}, deadline {}{}",
        path.display(),
        shares(settings.shares.len()),
        humantime::format_duration(settings.deadline),
        appstream::Session::read(root)
    ));
    if !may_mount() {
        let text = "root may not mount here (CAP_SYS_ADMIN is missing): run outside of the container, \
                    or give the unit CapabilityBoundingSet=CAP_SYS_ADMIN";
        return Err((Code::PERMISSION, text.into()));
    }
    if namespace(proc) == Namespace::Private && !args.allow_private_namespace {
        let text = "nobody would see the mounts: this process has a mount namespace of its own. A systemd \
                    unit gets one from PrivateTmp=, ProtectSystem=, ProtectHome=, PrivateDevices=, \
                    ReadOnlyPaths= and their like (take these out); so do unshare and containers. If it is \
                    meant so, give --allow-private-namespace";
        return Err((Code::FAULT, text.into()));
    }
    let machine = Linux::new(root, &clock, &stop);
    let at = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let begun = status::Begun::new(root, &path, args.once, at, Arc::clone(&machine.made));
    stop.when_waited_for(SLOW, Box::new(move || begun.note()));
    introduce(machine.client(), log);
    let tunnels = Units::new(root, &clock, &stop, &path);
    let run = Run {
        machine: &machine,
        tunnels: &tunnels,
        clock: &clock,
        log,
        deadline,
        attempt_timeout: settings.attempt_timeout,
        once: args.once,
        kernel: sys::kernel_release,
    };
    let outcomes = run.all(settings.shares, &|outcome| status::remember(root, outcome));
    let failed = outcomes.iter().any(|outcome| outcome.result.is_err());
    let stopped_by = if failed { stop.signal().map(|signal| signal as i32) } else { None };
    let client = machine.client().identity.clone();
    Ok((path, Report { outcomes, stopped_by, client }))
}

/// Tells who this machine is to its servers; aloud, where that leaves a risk.
fn introduce(client: &Client, log: &Log) {
    let level = match client.identity {
        Identity::Unset { .. } => Level::Warning,
        // What that means for a share is told when it is mounted.
        Identity::NoClient => return,
        Identity::Set { .. } => Level::Debug,
    };
    if log.takes(level) {
        log.line(level, client.identity.told(&sys::host_name()));
    }
    if client.earlier {
        let host = sys::host_name();
        log.warning(format_args!(
            "NFS was mounted on this machine before its client had an identity: these mounts, and shares from \
             the same server address, are known there as {host} alone, and another machine of that host name \
             would take their locks; unmount them and run this again, or run this before them"
        ));
    }
}

fn shares(n: usize) -> String {
    if n == 1 { "1 share".into() } else { format!("{n} shares") }
}

/// The last lines, and the exit code.
fn finish(report: &Report, once: bool, log: &Log) -> Code {
    let code = report.code();
    // Of several shares, each has had its line as it ended; of one, its line is the last.
    if let [outcome] = report.outcomes.as_slice() {
        tell(outcome, once, Some(code), report.stopped_by, log);
    } else {
        let text = format!("{} (exit {})", report.summary(), code.0);
        if code == Code::OK { log.info(text) } else { log.error(text) }
    }
    code
}

/// The outcome of one share: a line for the session log, or several for a person.
fn tell(outcome: &Outcome, once: bool, code: Option<Code>, stopped: Option<i32>, log: &Log) {
    let exit = code.map(|code| format!(" (exit {})", code.0)).unwrap_or_default();
    let Some(cure) = outcome.cure() else {
        return log.info(format_args!("{}{exit}", outcome.line()));
    };
    let signal = stopped.and_then(|n| nix::sys::signal::Signal::try_from(n).ok());
    let line = match signal {
        Some(signal) => {
            outcome.line().replacen("stopped by a signal", &format!("stopped by {signal}"), 1)
        }
        None => outcome.line(),
    };
    let cure = match signal {
        Some(nix::sys::signal::Signal::SIGTERM) => {
            let hint = "if AppStream stopped it, set `deadline` 2 s or more below its waitingTime";
            format!("{cure}; {hint}")
        }
        _ => cure.to_owned(),
    };
    let write = |text: String| {
        if outcome.share.required { log.error(text) } else { log.warning(text) }
    };
    if once {
        write(line);
        log.info(format_args!("  to mend it: {cure}"));
        if let Some(code) = code {
            let more = match code {
                Code::DEADLINE => ": a session start would try again until its deadline",
                Code::OK => ": the share is optional",
                _ => "",
            };
            log.info(format_args!("  exit {}{more}", code.0));
        }
    } else {
        write(format!("{line}; to mend it: {cure}{exit}"));
    }
}

/// How long one mount(2) may take.
#[derive(Debug, Clone, Copy)]
struct Pace {
    span: Duration,
    /// Less, if the server is silent for this long.
    silence: Option<Duration>,
    /// How long a TLS handshake before it may take.
    handshake: Duration,
}

impl Pace {
    fn of_one(attempt_timeout: Duration) -> Self {
        Self { span: attempt_timeout, silence: None, handshake: encrypted::HANDSHAKE }
    }

    /// Of the `n`th of several servers.
    fn of_several(attempt_timeout: Duration, n: u32) -> Self {
        let less = APART.saturating_mul(n).min(attempt_timeout.part(2));
        Self {
            span: attempt_timeout.saturating_sub(less),
            silence: Some(SILENCE),
            handshake: encrypted::HANDSHAKE,
        }
    }
}

/// What all shares of a run have in common.
pub(super) struct Run<'a, M> {
    pub(super) machine: &'a M,
    pub(super) tunnels: &'a dyn Tunnels,
    pub(super) clock: &'a (dyn Clock + Sync),
    pub(super) log: &'a Log,
    pub(super) deadline: Deadline,
    pub(super) attempt_timeout: Duration,
    pub(super) once: bool,
    /// The running kernel's release, for messages.
    pub(super) kernel: fn() -> String,
}

impl<M: Machine> Run<'_, M> {
    /// All shares: different servers side by side, the shares of one server one after another
    /// (mounts of one server at the same time can fail in the kernel's trunking discovery).
    /// `remember` is told of a share that is up while others are not yet.
    pub(super) fn all(
        &self,
        shares: Vec<Share>,
        remember: &(dyn Fn(&Outcome) + Sync),
    ) -> Vec<Outcome> {
        let several = shares.len() > 1;
        let awaited = AtomicUsize::new(shares.len());
        let mut servers: Vec<(String, Vec<(usize, Share)>)> = Vec::new();
        for (place, share) in shares.into_iter().enumerate() {
            // Without a dot at its end: it is one server all the same.
            let name = share.endpoint.to_string();
            match servers.iter_mut().find(|(server, _)| *server == name) {
                Some((_, of_it)) => of_it.push((place, share)),
                None => servers.push((name, vec![(place, share)])),
            }
        }
        let one_server = |shares: Vec<(usize, Share)>, pace| -> Vec<(usize, Outcome)> {
            // They have one name: where the last one's server was, the next one's is.
            let mut search = Search::default();
            let each = shares.into_iter().map(|(place, share)| {
                let outcome = self.bring_up(share, pace, &mut search, remember);
                if several {
                    tell(&outcome, self.once, None, None, self.log);
                }
                let is_last = awaited.fetch_sub(1, Ordering::Relaxed) == 1;
                let is_new = |mounted: &Mounted| {
                    !mounted.already && mounted.led_to(&outcome.share).is_none()
                };
                if !is_last && outcome.result.as_ref().is_ok_and(is_new) {
                    remember(&outcome);
                }
                (place, outcome)
            });
            each.collect()
        };
        let mut outcomes: Vec<(usize, Outcome)> = if servers.len() == 1 {
            servers
                .into_iter()
                .flat_map(|(_, shares)| one_server(shares, Pace::of_one(self.attempt_timeout)))
                .collect()
        } else {
            std::thread::scope(|scope| {
                let mut threads = Vec::new();
                let mut here = Vec::new();
                for ((_, shares), n) in servers.into_iter().zip(0..) {
                    let pace = Pace::of_several(self.attempt_timeout, n);
                    let again = shares.clone();
                    let thread = std::thread::Builder::new().stack_size(STACK);
                    match thread.spawn_scoped(scope, move || one_server(shares, pace)) {
                        Ok(thread) => threads.push(thread),
                        // No thread to be had: one after another is better than not at all.
                        Err(_) => here.extend(one_server(again, pace)),
                    }
                }
                here.extend(threads.into_iter().flat_map(|t| t.join().unwrap_or_default()));
                here
            })
        };
        outcomes.sort_by_key(|(place, _)| *place);
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// One share, from whatever is there to its mount.
    fn bring_up(
        &self,
        share: Share,
        pace: Pace,
        search: &mut Search,
        remember: &(dyn Fn(&Outcome) + Sync),
    ) -> Outcome {
        let started = self.clock.now();
        let mut attempts = 0;
        search.begin(&share);
        if !share.options.ignored.is_empty() {
            let words = share.options.ignored.join(", ");
            self.log.debug(format_args!("{share}: {words}: mean nothing here, passed over"));
        }
        for (word, why) in advice::on_efs(&share) {
            self.log.debug(format_args!("{share}: {word} in `options`: {why}"));
        }
        let found = match self.machine.mounted(&share, self.deadline) {
            Err(taken @ Failure::Taken { .. }) => match self.recognized(&share) {
                Some(mounted) => Ok(Some(mounted)),
                None => Err(taken),
            },
            found => found,
        };
        let result = match found {
            Ok(Some(mounted)) if share.encryption.is_some() => {
                self.keep_encrypted(&share, mounted, pace, search, &mut attempts)
            }
            Ok(Some(mounted)) => self.keep_or_replace(&share, mounted, pace, search, &mut attempts),
            Ok(None) => self.mount_new(&share, pace, search, &mut attempts),
            Err(failure) => Err(self.explain(&failure, &share)),
        };
        let took = || self.clock.now().saturating_sub(started);
        let mut outcome = Outcome { share, result, attempts, took: took() };
        let Ok(mounted) = &outcome.result else {
            return outcome;
        };
        if !mounted.already && mounted.led_to(&outcome.share).is_some() {
            // The mount table does not show whose it is: if this run is killed, nothing else would tell the next one.
            remember(&outcome);
        }
        if let Err(failure) = self.settle(&outcome.share, mounted) {
            // Nobody would have his files by it.
            if !mounted.already {
                let until = self.deadline.within(self.clock, ALIVE);
                let gone = self.machine.detach(&outcome.share, mounted, until);
                if gone.is_ok() {
                    self.machine.abandon(&outcome.share, mounted.made);
                }
            }
            outcome.result = Err(self.explain(&failure, &outcome.share));
        }
        Outcome { took: took(), ..outcome }
    }

    /// What somebody else has mounted there, if it is the share all the same: by a path that the server leads
    /// elsewhere, or a run that was killed before it could tell.
    fn recognized(&self, share: &Share) -> Option<Mounted> {
        let until = || self.deadline.within(self.clock, ALIVE);
        let call = match share.encryption {
            None => {
                let address = self.locate(share, ALIVE, &mut Search::default()).ok()?;
                plan::mount_call(share, address, self.machine.client())
            }
            // One that is not there any more cannot be compared with.
            Some(_) => {
                let port = self.tunnels.port(share)?;
                let peer = self.tunnels.handshake(share, until()).ok()?;
                plan::tunnelled_call(share, port, peer.address, self.machine.client())
            }
        };
        self.machine.recognized(share, &call, until()).ok().flatten()
    }

    /// A share that is mounted already stays, if it can be used. If its server does not answer, but another of
    /// the share's addresses does, the dead mount is of an earlier network and is replaced; if what it answers is
    /// an error (the folder was made anew on the server, say), only a new mount helps. If no address answers, the
    /// mount is left alone: the kernel takes it up again by itself once the server is back.
    fn keep_or_replace(
        &self,
        share: &Share,
        mounted: Mounted,
        pace: Pace,
        search: &mut Search,
        attempts: &mut u32,
    ) -> Result<Mounted, Cause> {
        let fail = |failure: Failure| self.explain(&failure, share);
        let mut backoff: Option<Backoff> = None;
        loop {
            let until = self.deadline.within(self.clock, ALIVE);
            let fault = match self.machine.responds(share, &mounted, until).map_err(fail)? {
                Answer::Well => return Ok(mounted),
                Answer::Fault(errno) => Some(errno),
                Answer::Silence => None,
            };
            let old = &mounted.address;
            let located = self.locate(share, ALIVE, search);
            search.seen = located.as_ref().ok().copied();
            match (located, fault) {
                (Ok(_), Some(errno)) => {
                    let what = format!("from {old}, but {}: mounted anew", no_use(errno));
                    return self.replace(share, &mounted, &what, pace, search, attempts);
                }
                (Ok(address), None) if address.to_string() != *old => {
                    let what = format!("from {old}, which does not answer: replaced by {address}");
                    return self.replace(share, &mounted, &what, pace, search, attempts);
                }
                (Err(stopped @ Failure::Stopped(_)), _) => return Err(fail(stopped)),
                _ => {}
            }
            let dead = match fault {
                Some(errno) => Failure::Unusable(old.clone(), errno),
                None => Failure::Dead(old.clone()),
            };
            *attempts += 1;
            if self.once || self.deadline.passed(self.clock) {
                return Err(fail(dead));
            }
            let cause = self.explain(&dead, share);
            let (at, left) = (share.mount_point.display(), seconds(self.deadline.left(self.clock)));
            self.log
                .warning(format_args!("{at}: attempt {attempts}: {}; {left} left", cause.sentence));
            let stopped = |_| fail(Failure::Stopped(Some(Box::new(dead.clone()))));
            let pause = backoff.get_or_insert_with(|| Backoff::new(sys::random())).pause();
            self.clock.wait(pause.min(self.deadline.left(self.clock))).map_err(stopped)?;
        }
    }

    /// Takes away a mount that is of no use, and mounts the share anew; `what` is told of the old one.
    fn replace(
        &self,
        share: &Share,
        mounted: &Mounted,
        what: &str,
        pace: Pace,
        search: &mut Search,
        attempts: &mut u32,
    ) -> Result<Mounted, Cause> {
        let at = share.mount_point.display();
        let holders = self.machine.held_by(share);
        self.log.warning(format_args!("{at} is mounted {what}"));
        if !holders.is_empty() {
            self.log.warning(format_args!(
                "{at} is in use by {}: what they have open stays on the old mount until they close it",
                list(&holders)
            ));
        }
        let until = self.deadline.within(self.clock, ALIVE);
        let detached = self.machine.detach(share, mounted, until);
        detached.map_err(|failure| self.explain(&failure, share))?;
        match self.mount_new(share, pace, search, attempts) {
            Ok(new) => Ok(Mounted { anew: true, ..new }),
            Err(cause) => {
                self.machine.abandon(share, false);
                Err(cause)
            }
        }
    }

    fn mount_new(
        &self,
        share: &Share,
        pace: Pace,
        search: &mut Search,
        attempts: &mut u32,
    ) -> Result<Mounted, Cause> {
        let mut point = match self.machine.prepare(share) {
            Ok(point) => point,
            Err(failure) => return Err(self.explain(&failure, share)),
        };
        let result = self.until_mounted(share, &mut point, pace, search, attempts);
        if result.is_err() {
            self.machine.discard(share, point);
        }
        result
    }

    /// Attempts with pauses between them, until one succeeds, fails for good, or time is up.
    fn until_mounted(
        &self,
        share: &Share,
        point: &mut M::Point,
        mut pace: Pace,
        search: &mut Search,
        attempts: &mut u32,
    ) -> Result<Mounted, Cause> {
        let mut backoff: Option<Backoff> = None;
        let mut before: Option<Failure> = None;
        loop {
            if self.deadline.passed(self.clock) {
                return Err(self.explain(&before.unwrap_or(Failure::NoTime), share));
            }
            *attempts += 1;
            let mut failure = match self.attempt(share, point, pace, search) {
                Ok(mounted) => return Ok(mounted),
                Err(failure) => failure,
            };
            if matches!(failure.unprobed(), Failure::CutOff(..)) {
                pace.silence = pace.silence.map(Span::doubled);
            }
            if let Failure::Tunnel(_) = failure.unprobed()
                && failure.is_by_time()
            {
                pace.handshake = pace.handshake.doubled();
            }
            // An attempt that the deadline cut short says less than a whole one.
            if self.deadline.passed(self.clock) && failure.is_by_time() {
                failure = before.take().unwrap_or(failure);
            }
            // Nor does one that there was no time to ask the server about.
            if failure.wants_null_call()
                && let Some(asked) = before.as_ref().filter(|before| before.was_probed())
                && asked.failed_address() == failure.failed_address()
            {
                failure = asked.clone();
            }
            let cause = self.explain(&failure, share);
            let last = self.once || self.deadline.passed(self.clock);
            if let Failure::Stopped(_) = failure {
                return Err(self.explain(&Failure::Stopped(before.map(Box::new)), share));
            }
            if last || !cause.is_temporary() {
                return Err(cause);
            }
            let left = seconds(self.deadline.left(self.clock));
            let (at, sentence) = (share.mount_point.display(), &cause.sentence);
            self.log.warning(format_args!("{at}: attempt {attempts}: {sentence}; {left} left"));
            let backoff = backoff.get_or_insert_with(|| Backoff::new(sys::random()));
            match self.pause(share, &failure, search, backoff) {
                Ok(()) => {}
                Err(_) => {
                    let stopped = Failure::Stopped(Some(Box::new(failure)));
                    return Err(self.explain(&stopped, share));
                }
            }
            if failure == Failure::PointGone {
                *point =
                    self.machine.prepare(share).map_err(|failure| self.explain(&failure, share))?;
            }
            if let Some(address) = failure.failed_address() {
                search.failed.retain(|other| *other != address);
                search.failed.push(address);
            }
            before = Some(failure);
        }
    }

    /// One try: name, address that answers, mount(2).
    fn attempt(
        &self,
        share: &Share,
        point: &M::Point,
        pace: Pace,
        search: &mut Search,
    ) -> Result<Mounted, Failure> {
        if share.encryption.is_some() {
            return self.encrypted_attempt(share, point, pace, search);
        }
        let address = match search.seen.take() {
            Some(address) => address,
            None => self.locate(share, LOCATE, search)?,
        };
        let call = plan::mount_call(share, address, self.machine.client());
        let until = self.deadline.within(self.clock, pace.span);
        let completed = search.completed();
        // The root of what may be another machine is left as it is.
        let careful = completed.is_some().then(|| Share { root_mode: None, ..share.clone() });
        let careful = careful.as_ref().unwrap_or(share);
        match self.machine.mount(careful, &call, point, pace.silence, until) {
            Ok(mounted) => {
                search.seen = Some(address);
                Ok(Mounted {
                    doubt: self.doubt_of_new(share, &call, completed, &mounted),
                    ..mounted
                })
            }
            Err(failure) => Err(self.led(share, failure, search)),
        }
    }

    fn settle(&self, share: &Share, mounted: &Mounted) -> Result<(), Failure> {
        if let Some(source) = mounted.led_to(share) {
            let (at, path) = (share.mount_point.display(), &share.path);
            let since = match mounted.already {
                false => "",
                true => "; where it leads by now counts from the next mount on",
            };
            self.log.info(format_args!(
                "{at}: the server leads {path} to {source}, which is what df and findmnt show{since}"
            ));
        }
        if !mounted.differs.is_empty() {
            let (at, differs) = (share.mount_point.display(), mounted.differs.join(", "));
            let hint = "unmount it and run again to have what the config says";
            self.log.warning(format_args!("{at} is mounted with {differs}: {hint}"));
        }
        if let Some(errno) = mounted.nameless {
            let cause = self.explain(&Failure::NoHostName(errno), share);
            self.log.warning(format_args!("{}: {}", cause.sentence, cause.cure));
        }
        if mounted.hides {
            let at = share.mount_point.display();
            let hint = "look at it with the share unmounted";
            self.log
                .warning(format_args!("{at} is not empty: the share hides what is in it ({hint})"));
        }
        let until = self.deadline.within(self.clock, self.attempt_timeout);
        let doubt = share.root_mode.and_then(|mode| Some((mode, self.doubt(share, mounted)?)));
        let careful = Share { root_mode: None, ..share.clone() };
        let share = if doubt.is_some() { &careful } else { share };
        for (level, text) in self.machine.settle(share, mounted, until)? {
            self.log.line(level, text);
        }
        if let Some((mode, doubt)) = doubt {
            let at = share.mount_point.display();
            self.log.warning(format_args!("root_mode {mode:04o} of {at} is not set: {doubt}"));
        }
        Ok(())
    }

    fn explain(&self, failure: &Failure, share: &Share) -> Cause {
        explain_by(failure, share, &(self.kernel)(), &|to| self.machine.route(to))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::kernel::holders::Holder;
    use crate::kernel::route::Route;
    use crate::log::test::Lines;
    use crate::net::names::{Answered, By, Found, NameError, Stamp};
    use crate::net::probe::Heard;
    use crate::net::reach::{Problem, ReachError};
    use crate::retry::test::VirtualClock;
    use crate::share::mount_point::PointError;
    use crate::share::plan::MountCall;
    use crate::tunnel::contract::TunnelsError;
    use crate::tunnel::protocol::{Peer, TunnelError, TunnelStatus};
    use nix::errno::Errno;
    use std::net::{IpAddr, SocketAddr};
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU16, Ordering};
    use std::sync::{Barrier, Mutex};

    pub(in super::super) fn seconds_of(n: f64) -> Duration {
        Duration::from_secs_f64(n)
    }

    /// A machine on which things come good at given times.
    #[derive(Default)]
    pub(in super::super) struct FakeMachine {
        pub clock: VirtualClock,
        pub name_from: Duration,
        pub port_from: Duration,
        /// What mount(2) answers, in turn; then success.
        pub mounts: Mutex<Vec<Failure>>,
        pub already: bool,
        /// The port that it is mounted from.
        pub old_port: u16,
        /// When the server of what is mounted already answers.
        pub alive_from: Duration,
        /// When a tunnel can be started, and its port; 40001 where that is 0.
        pub no_tunnel_until: Duration,
        /// The config has changed since it was started.
        pub changed: bool,
        pub tunnel_port: AtomicU16,
        /// The ports that a tunnel was asked to have.
        pub asked_at: Mutex<Vec<Option<u16>>>,
        /// What comes of handshakes, in turn, and of asking the tunnel; then all is well.
        pub handshakes: Mutex<Vec<TunnelError>>,
        pub statuses: Mutex<Vec<TunnelError>>,
        /// Handshakes take all the time that they are given.
        pub slow_answers: bool,
        /// How long each handshake was given.
        pub spans: Mutex<Vec<Duration>>,
        /// The calls of mount(2).
        pub calls: Mutex<Vec<MountCall>>,
        /// The address that it is mounted from.
        pub old_address: Option<String>,
        /// More addresses than the one.
        pub more: Vec<IpAddr>,
        /// The address of each mount(2), and the time it was given.
        pub mounted_from: Mutex<Vec<IpAddr>>,
        pub paces: Mutex<Vec<(Option<Duration>, Duration)>>,
        /// Where the first attempts meet: without it, one server's pause, which moves the one
        /// clock, may come between another's deadline and its first attempt.
        pub first_attempts: Option<Barrier>,
        pub prepare: Option<PointError>,
        /// Where a mount that is there leads, if not to its tunnel.
        pub astray: Option<SocketAddr>,
        /// Times of the steps, for looking at.
        pub seen: Mutex<Vec<(&'static str, Duration)>>,
        pub notes: Vec<(Level, String)>,
        /// What is mounted already has an answer, but it is this.
        pub fault: Option<Errno>,
        pub holders: Vec<i32>,
        /// It makes the mount point.
        pub makes: bool,
        /// What the last look at a mount comes to, if not to the notes.
        pub unsettled: Option<Failure>,
        /// Something is mounted there that does not show whose it is: the share, if that is led somewhere.
        pub taken: bool,
        /// What the mount table shows instead of the share's own source.
        pub led_to: Option<String>,
        /// What a search domain makes of the name.
        pub completed: Option<String>,
        /// The addresses of the other family, which a question of their own finds.
        pub further: Vec<IpAddr>,
        /// How long that question takes.
        pub slow_further: Duration,
        /// When the files change that names are looked up by.
        pub files_change: Option<Duration>,
        /// The address is from the hosts file, and the name servers say this.
        pub hosts: Option<IpAddr>,
        /// Whether each mount(2) and each look at the root was to set its mode.
        pub modes: Mutex<Vec<Option<u32>>>,
        /// Only this address takes connections.
        pub answers: Option<IpAddr>,
    }

    impl FakeMachine {
        fn port_now(&self) -> u16 {
            match self.tunnel_port.load(Ordering::Relaxed) {
                0 => 40001,
                port => port,
            }
        }

        fn see(&self, what: &'static str) -> Duration {
            let now = self.clock.now();
            self.seen.lock().unwrap().push((what, now));
            now
        }

        fn made(&self) -> Mounted {
            let mounted = Mounted::fake(false);
            let source = self.led_to.clone().unwrap_or(mounted.source.clone());
            Mounted { source, made: self.makes, ..mounted }
        }

        pub fn times(&self, what: &str) -> Vec<Duration> {
            let seen = self.seen.lock().unwrap();
            seen.iter().filter(|(w, _)| *w == what).map(|(_, t)| *t).collect()
        }
    }

    impl Tunnels for FakeMachine {
        fn start(&self, _: &Share, at: Option<u16>, _: Deadline) -> Result<u16, TunnelsError> {
            if self.see("tunnel") < self.no_tunnel_until {
                return Err(TunnelsError::NotHeld("not yet".into()));
            }
            self.asked_at.lock().unwrap().push(at);
            Ok(self.port_now())
        }

        fn port(&self, _: &Share) -> Option<u16> {
            Some(self.port_now())
        }

        fn is_current(&self, _: &Share) -> bool {
            !self.changed
        }

        fn handshake(&self, share: &Share, until: Deadline) -> Result<Peer, TunnelError> {
            self.see("handshake");
            let left = until.left(&self.clock);
            self.spans.lock().unwrap().push(left);
            let mut script = self.handshakes.lock().unwrap();
            match (!script.is_empty()).then(|| script.remove(0)) {
                Some(failure) if self.slow_answers => {
                    let _ = self.clock.wait(left);
                    Err(failure)
                }
                Some(TunnelError::Silent(_)) => {
                    let _ = self.clock.wait(left);
                    Err(TunnelError::Silent(left))
                }
                Some(failure) => Err(failure),
                None => Ok(far_end(share)),
            }
        }

        fn status(&self, share: &Share, _: Deadline) -> Result<TunnelStatus, TunnelError> {
            let mut script = self.statuses.lock().unwrap();
            match (!script.is_empty()).then(|| script.remove(0)) {
                Some(failure) => Err(failure),
                None => Ok(TunnelStatus { peer: Some(far_end(share)), ..Default::default() }),
            }
        }

        fn claim(&self, _: &Share) -> bool {
            true
        }

        fn release(&self, _: &Share) {}

        fn stop(&self, _: &Share, _: Deadline) -> Result<(), TunnelsError> {
            self.see("stop");
            Ok(())
        }
    }

    fn far_end(share: &Share) -> Peer {
        let iam = share.encryption.as_ref().is_some_and(|e| e.iam);
        Peer {
            address: "10.0.0.7".parse().unwrap(),
            version: "TLS 1.3".into(),
            cipher: "TLS13_AES_128_GCM_SHA256".into(),
            identity: iam.then(|| "profile x, AKIDEXAMPLE".into()),
        }
    }

    impl Machine for FakeMachine {
        type Point = ();

        fn client(&self) -> &Client {
            Client::fake()
        }

        fn leads_to(&self, mounted: &Mounted) -> Option<SocketAddr> {
            self.astray.or(Some(SocketAddr::new(plan::TUNNEL, mounted.port)))
        }

        fn mounted(&self, _: &Share, _: Deadline) -> Result<Option<Mounted>, Failure> {
            if self.taken {
                let (source, fstype) = ("fs-1.example:/releases/1".into(), "nfs4".into());
                return Err(Failure::Taken { source, fstype });
            }
            let address = self.old_address.clone().unwrap_or("10.0.0.1".into());
            let port = self.old_port;
            Ok(self.already.then(|| Mounted { address, port, already: true, ..self.made() }))
        }

        fn recognized(
            &self,
            _: &Share,
            call: &MountCall,
            _: Deadline,
        ) -> Result<Option<Mounted>, Failure> {
            self.see("recognized");
            self.calls.lock().unwrap().push(call.clone());
            let made = || Mounted { already: true, port: self.old_port, ..self.made() };
            Ok(self.led_to.is_some().then(made))
        }

        fn responds(&self, _: &Share, _: &Mounted, until: Deadline) -> Result<Answer, Failure> {
            let alive = self.see("responds") >= self.alive_from;
            if let Some(errno) = self.fault {
                return Ok(Answer::Fault(errno));
            }
            let _ = if alive { Ok(()) } else { self.clock.wait(until.left(&self.clock)) };
            Ok(if alive { Answer::Well } else { Answer::Silence })
        }

        fn held_by(&self, _: &Share) -> Vec<Holder> {
            self.see("held_by");
            let holder = |pid: &i32| Holder { pid: *pid, name: "vi".into(), since: None };
            self.holders.iter().map(holder).collect()
        }

        fn detach(&self, _: &Share, _: &Mounted, _: Deadline) -> Result<(), Failure> {
            self.see("detach");
            Ok(())
        }

        fn prepare(&self, _: &Share) -> Result<(), Failure> {
            self.see("prepare");
            self.prepare.clone().map_or(Ok(()), |e| Err(Failure::Point(e)))
        }

        fn route(&self, _: SocketAddr) -> Option<Route> {
            None
        }

        fn discard(&self, _: &Share, (): ()) {
            self.see("discard");
        }

        fn abandon(&self, _: &Share, made: bool) {
            self.see(if made { "abandon made" } else { "abandon" });
        }

        fn resolve(&self, _: &Share, _: Deadline) -> Result<Found, Failure> {
            let server: IpAddr = "10.0.0.2".parse().unwrap();
            if self.see("resolve") < self.name_from {
                return Err(Failure::Name(NameError::NoSuchName(server)));
            }
            let mut addresses = vec!["10.0.0.1".parse().unwrap()];
            addresses.extend(&self.more);
            let answered = Answered { completed: self.completed.clone(), ..Answered::by(server) };
            let by = if self.hosts.is_some() { By::Hosts } else { By::Server(answered) };
            let ipv4_alone = !self.further.is_empty();
            Ok(Found { ipv4_alone, ..Found::new(addresses, by) })
        }

        fn further(
            &self,
            _: &Share,
            found: &Found,
            until: Deadline,
        ) -> Result<Option<Vec<IpAddr>>, Failure> {
            assert!(found.ipv4_alone);
            self.see("further");
            if self.slow_further > until.left(&self.clock) {
                let _ = self.clock.wait(until.left(&self.clock));
                return Ok(None);
            }
            let _ = self.clock.wait(self.slow_further);
            Ok(Some(self.further.clone()))
        }

        fn past_hosts(&self, _: &Share, _: bool, _: Deadline) -> Result<Found, NameError> {
            self.see("past hosts");
            let server: IpAddr = "10.0.0.2".parse().unwrap();
            let address = self.hosts.ok_or(NameError::NoSuchName(server))?;
            Ok(Found::new(vec![address], By::Server(Answered::by(server))))
        }

        fn names_stamp(&self) -> Stamp {
            let changed = self.files_change.is_some_and(|at| self.clock.now() >= at);
            [changed.then_some((1, 2, 3, 4, 5)), None]
        }

        fn reach(
            &self,
            _: &Share,
            addresses: &[IpAddr],
            until: Deadline,
        ) -> Result<IpAddr, Failure> {
            let now = self.see("reach");
            let left = until.left(&self.clock);
            if let Some(answers) = self.answers
                && addresses.contains(&answers)
            {
                return Ok(answers);
            }
            if now + left < self.port_from || self.answers.is_some() {
                let _ = self.clock.wait(left);
                let tried = vec![(addresses[0], Problem::Silent { span: left, from: None })];
                return Err(Failure::Reach(ReachError::NoneAnswers { port: 2049, tried }));
            }
            let _ = self.clock.wait(self.port_from.saturating_sub(now));
            Ok(addresses[0])
        }

        fn mount(
            &self,
            share: &Share,
            call: &MountCall,
            (): &(),
            silence: Option<Duration>,
            until: Deadline,
        ) -> Result<Mounted, Failure> {
            self.see("mount");
            self.modes.lock().unwrap().push(share.root_mode);
            let attempts = {
                let mut paces = self.paces.lock().unwrap();
                paces.push((silence, until.left(&self.clock)));
                paces.len()
            };
            if let (1..=2, Some(barrier)) = (attempts, &self.first_attempts) {
                barrier.wait();
            }
            self.mounted_from.lock().unwrap().push(call.address);
            self.calls.lock().unwrap().push(call.clone());
            let mut script = self.mounts.lock().unwrap();
            if script.is_empty() { Ok(self.made()) } else { Err(script.remove(0)) }
        }

        fn settle(
            &self,
            share: &Share,
            _: &Mounted,
            _: Deadline,
        ) -> Result<Vec<(Level, String)>, Failure> {
            self.see("settle");
            self.modes.lock().unwrap().push(share.root_mode);
            self.unsettled.clone().map_or_else(|| Ok(self.notes.clone()), Err)
        }
    }

    fn run_on<'a>(
        machine: &'a FakeMachine,
        log: &'a Log,
        settings: &Settings,
        once: bool,
    ) -> Run<'a, FakeMachine> {
        Run {
            machine,
            tunnels: machine,
            clock: &machine.clock,
            log,
            deadline: Deadline::after(&machine.clock, settings.deadline),
            attempt_timeout: settings.attempt_timeout,
            once,
            kernel: || "5.10".into(),
        }
    }

    pub(in super::super) fn start_on(
        machine: &FakeMachine,
        config: &str,
        once: bool,
    ) -> (Report, String) {
        let (log, lines) = Lines::log();
        let settings = Settings::parse(Path::new("c"), config).unwrap();
        let run = run_on(machine, &log, &settings, once);
        let outcomes = run.all(settings.shares, &|_| {});
        let report = Report { outcomes, stopped_by: None, client: Identity::NoClient };
        finish(&report, once, &log);
        (report, lines.text())
    }

    const ONE: &str = "[[share]]\nendpoint = \"fs-1.example\"\n";

    #[test]
    fn a_good_start_takes_one_attempt_and_says_so_in_one_line() {
        let machine = FakeMachine::default();
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(
            text,
            "mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
        );
        assert_eq!(machine.times("settle").len(), 1);
        assert!(machine.times("discard").is_empty());
    }

    #[test]
    fn what_is_mounted_already_is_settled_and_not_mounted_again() {
        let machine = FakeMachine { already: true, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.starts_with("already mounted: fs-1.example:/ on /mnt/efs_share"), "{text}");
        assert!(machine.times("mount").is_empty());
        assert_eq!(machine.times("settle").len(), 1);
    }

    #[test]
    fn a_dead_mount_is_replaced_if_another_address_answers_and_left_alone_if_none_does() {
        let never = Duration::MAX / 2;
        let machine = FakeMachine {
            already: true,
            alive_from: never,
            old_address: Some("10.0.0.9".into()),
            ..Default::default()
        };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.starts_with("warning: /mnt/efs_share is mounted from 10.0.0.9, which does not answer: replaced by 10.0.0.1\nmounted "), "{text}");
        assert_eq!(machine.times("detach").len(), 1);

        let machine = FakeMachine {
            already: true,
            alive_from: never,
            port_from: never,
            ..Default::default()
        };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(machine.clock.now() <= seconds_of(25.0), "{:?}", machine.clock.now());
        assert!(
            text.lines()
                .last()
                .unwrap()
                .contains("is mounted already, but its server 10.0.0.1 does not answer"),
            "{text}"
        );
        assert!(machine.times("detach").is_empty());

        let alive_from = seconds_of(4.0);
        let machine = FakeMachine { already: true, alive_from, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.lines().last().unwrap().starts_with("already mounted"), "{text}");
    }

    #[test]
    fn a_mount_that_answers_with_an_error_is_mounted_anew_and_who_uses_it_is_named() {
        let machine =
            FakeMachine { already: true, fault: Some(Errno::ESTALE), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(
            text,
            "warning: /mnt/efs_share is mounted from 10.0.0.1, but its folder is gone from the server, or was made \
             anew there (ESTALE): mounted anew\n\
             mounted fs-1.example:/ on /mnt/efs_share from 10.0.0.1, NFS 4.1, attempt 1, in 0.000 s (exit 0)\n"
        );
        assert!(report.outcomes[0].result.as_ref().is_ok_and(|mounted| mounted.anew));
        let steps: Vec<&str> = machine.seen.lock().unwrap().iter().map(|(step, _)| *step).collect();
        assert_eq!(
            steps,
            ["responds", "resolve", "reach", "held_by", "detach", "prepare", "mount", "settle"]
        );
        let fault = Some(Errno::EIO);
        let holders = vec![101, 102];
        let machine = FakeMachine { already: true, fault, holders, ..Default::default() };
        let (_, text) = start_on(&machine, ONE, false);
        assert!(text.contains(
            "but its root cannot be used: i/o error (EIO): mounted anew\nwarning: /mnt/efs_share is in use by 101 (vi), \
             102 (vi): what they have open stays on the old mount until they close it\n"
        ), "{text}");
    }

    #[test]
    fn a_mount_that_answers_with_an_error_stays_while_its_server_cannot_be_reached() {
        let machine = FakeMachine {
            already: true,
            fault: Some(Errno::ESTALE),
            port_from: Duration::MAX / 2,
            ..Default::default()
        };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(machine.times("detach").is_empty() && machine.times("mount").is_empty());
        let last = text.lines().last().unwrap();
        assert!(
            last.contains("is mounted already from 10.0.0.1, but its folder is gone"),
            "{last}"
        );
    }

    #[test]
    fn where_a_new_mount_is_no_better_nothing_is_left_to_write_into() {
        let address = "10.0.0.1".parse().unwrap();
        for (failure, code) in [
            (Failure::BadRoot(address, Errno::ESTALE), Code::DEADLINE),
            (Failure::Mount(address, Errno::ENOENT), Code::REFUSED),
        ] {
            let machine = FakeMachine {
                already: true,
                fault: Some(Errno::ESTALE),
                mounts: Mutex::new(vec![failure; 400]),
                ..Default::default()
            };
            let (report, text) = start_on(&machine, ONE, false);
            assert_eq!(report.code(), code, "{text}");
            assert_eq!((machine.times("detach").len(), machine.times("abandon").len()), (1, 1));
        }
        // What turns out to be of no use at the last look is no success either.
        let unsettled = Some(Failure::Unusable("10.0.0.1".into(), Errno::EIO));
        let machine = FakeMachine { unsettled, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE, "{text}");
        assert_eq!((machine.times("detach").len(), machine.times("abandon").len()), (1, 1));
        let unsettled = Some(Failure::Unusable("10.0.0.1".into(), Errno::EIO));
        let machine = FakeMachine { unsettled, makes: true, ..Default::default() };
        start_on(&machine, ONE, false);
        assert_eq!(machine.times("abandon made").len(), 1, "its own mount point is left");
    }

    #[test]
    fn where_the_server_leads_a_path_is_told_and_remembered_at_once() {
        let led_to = Some("fs-1.example:/releases/1".to_owned());
        let machine = FakeMachine { led_to: led_to.clone(), ..Default::default() };
        let (_, text) = start_on(&machine, ONE, false);
        assert!(
            text.starts_with(
                "/mnt/efs_share: the server leads / to fs-1.example:/releases/1, which is what df and findmnt show\nmounted "
            ),
            "{text}"
        );
        let machine = FakeMachine { already: true, led_to, ..machine };
        let (_, text) = start_on(&machine, ONE, false);
        assert!(
            text.contains(" show; where it leads by now counts from the next mount on\n"),
            "{text}"
        );
        assert!(!text.contains("unmount it and run again"), "{text}");
    }

    #[test]
    fn what_somebody_else_has_mounted_over_a_link_is_compared_with_the_share() {
        let led_to = Some("fs-1.example:/releases/1".to_owned());
        let machine = FakeMachine { taken: true, led_to, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.contains("already mounted: fs-1.example:/ on /mnt/efs_share"), "{text}");
        let other = FakeMachine { taken: true, ..Default::default() };
        let (report, text) = start_on(&other, ONE, false);
        assert_eq!(report.code(), Code::REFUSED);
        assert!(
            text.contains("is taken: fs-1.example:/releases/1 (nfs4) is mounted there"),
            "{text}"
        );
        // Nothing to compare with is no reason to wait.
        let port_from = Duration::MAX / 2;
        let silent = FakeMachine { taken: true, port_from, ..Default::default() };
        let (report, text) = start_on(&silent, ONE, false);
        assert_eq!(report.code(), Code::REFUSED, "{text}");
        assert!(silent.clock.now() <= ALIVE, "{:?}", silent.clock.now());
    }

    #[test]
    fn a_port_that_comes_good_is_seen_within_300_ms_and_a_name_within_a_second_at_any_time() {
        for tenth in 1..240 {
            let at = seconds_of(f64::from(tenth) / 10.0);
            for (name_from, port_from, most) in
                [(at, Duration::ZERO, 1.0), (Duration::ZERO, at, 0.3)]
            {
                let machine = FakeMachine { name_from, port_from, ..Default::default() };
                let (report, text) = start_on(&machine, ONE, false);
                assert_eq!(report.code(), Code::OK, "{text}");
                let took = machine.times("mount")[0].saturating_sub(at);
                assert!(took <= seconds_of(most), "good at {at:?}, seen {took:?} later");
            }
            // What is written into hosts or resolv.conf is seen as soon as a port.
            let (name_from, files_change) = (at, Some(at));
            let machine = FakeMachine { name_from, files_change, ..Default::default() };
            start_on(&machine, ONE, false);
            let took = machine.times("mount")[0].saturating_sub(at);
            assert!(took <= seconds_of(0.3), "written at {at:?}, seen {took:?} later");
        }
    }

    #[test]
    fn a_name_that_fails_is_asked_for_about_once_a_second_and_one_that_is_known_less_often() {
        let never = Duration::MAX / 2;
        let machine = FakeMachine { name_from: never, ..Default::default() };
        start_on(&machine, ONE, false);
        let asked = machine.times("resolve");
        assert!((20..50).contains(&asked.len()), "{} questions in 25 s", asked.len());
        let machine = FakeMachine { port_from: never, ..Default::default() };
        start_on(&machine, ONE, false);
        let asked = machine.times("resolve");
        assert!((2..=13).contains(&asked.len()), "{asked:?}");
    }

    #[test]
    fn shares_of_one_name_share_a_look_up() {
        let config: String =
            (0..16).map(|n| format!("{ONE}mount_point = \"/mnt/s{n}\"\n")).collect();
        let machine = FakeMachine::default();
        let (report, _) = start_on(&machine, &config, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!((machine.times("resolve").len(), machine.times("mount").len()), (1, 16));
        // But not where they are found or tried by other means.
        let others =
            ["options = \"port=2050\"", "addresses = [\"10.0.0.8\"]", "options = \"proto=tcp\""];
        for lines in others {
            let config = format!("{ONE}{ONE}mount_point = \"/mnt/b\"\n{lines}\n");
            let machine = FakeMachine::default();
            start_on(&machine, &config, false);
            assert_eq!(machine.times("resolve").len(), 2, "{lines}");
        }
    }

    #[test]
    fn ipv6_addresses_are_tried_in_the_same_attempt_where_no_ipv4_one_takes_connections() {
        let ipv6: IpAddr = "fd00::1".parse().unwrap();
        let machine =
            FakeMachine { further: vec![ipv6], answers: Some(ipv6), ..Default::default() };
        let (report, _) = start_on(&machine, ONE, false);
        assert_eq!((report.code(), report.outcomes[0].attempts), (Code::OK, 1));
        assert_eq!(*machine.mounted_from.lock().unwrap(), [ipv6]);
        // Where they are silent too, the attempt takes no longer than without them.
        let never = Duration::MAX / 2;
        let machine = FakeMachine { further: vec![ipv6], port_from: never, ..Default::default() };
        let (_, text) = start_on(&machine, ONE, true);
        assert_eq!(machine.clock.now(), seconds_of(3.0));
        assert!(text.contains("10.0.0.1 timed out (nothing came back for 3.0 s)"), "{text}");
        // A name server that takes longer is asked again by the next attempt, and holds up nothing.
        let slow_further = seconds_of(5.0);
        let machine = FakeMachine {
            further: vec![ipv6],
            port_from: never,
            slow_further,
            ..Default::default()
        };
        let (_, text) = start_on(&machine, ONE, false);
        assert!(machine.times("further").len() > 3);
        assert!(text.starts_with("warning: /mnt/efs_share: attempt 1: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s)"), "{text}");
        // The kernel would not take it.
        let machine =
            FakeMachine { further: vec![ipv6], answers: Some(ipv6), ..Default::default() };
        start_on(&machine, &format!("{ONE}options = \"proto=tcp\"\n"), false);
        assert!(machine.times("further").is_empty() && machine.times("mount").is_empty());
        // Nor in a look between two attempts.
        let machine = FakeMachine { more: vec![ipv6], answers: Some(ipv6), ..Default::default() };
        start_on(&machine, &format!("{ONE}options = \"proto=tcp\"\n"), false);
        assert!(machine.times("mount").is_empty() && machine.times("reach").len() > 20);
        let machine = FakeMachine { further: vec![ipv6], ..Default::default() };
        start_on(&machine, &format!("{ONE}options = \"proto=tcp6\"\n"), false);
        assert_eq!(*machine.mounted_from.lock().unwrap(), [ipv6]);
        let machine = FakeMachine::default();
        let (report, text) = start_on(&machine, &format!("{ONE}options = \"proto=tcp6\"\n"), true);
        assert_eq!(report.code(), Code::DEADLINE);
        assert!(text.contains("fs-1.example has no IPv6 address, which proto=tcp6 in `options` asks for; after 1 attempt"), "{text}");
        assert!(machine.times("mount").is_empty());
        // Nothing is asked where nothing is wrong.
        let machine = FakeMachine { further: vec![ipv6], ..Default::default() };
        start_on(&machine, ONE, false);
        assert!(machine.times("further").is_empty());
    }

    #[test]
    fn where_an_address_came_from_is_told_where_it_fails() {
        let never = Duration::MAX / 2;
        let last = |machine: &FakeMachine, config: &str| {
            let (_, text) = start_on(machine, config, true);
            text.split_once("; after ").unwrap().0.to_owned()
                + text.split_once("  to mend it: ").unwrap().1
        };
        let hosts = Some("10.0.0.9".parse().unwrap());
        let machine = FakeMachine { port_from: never, hosts, ..Default::default() };
        let text = last(&machine, ONE);
        assert!(text.contains("(nothing came back for 3.0 s); the address is from /etc/hosts, and the name server says 10.0.0.9"), "{text}");
        assert!(
            text.contains(
                "correct the line of fs-1.example in /etc/hosts, or take it out; else the file"
            ),
            "{text}"
        );
        // It says the same: the line is not what is wrong.
        let hosts = Some("10.0.0.1".parse().unwrap());
        let machine = FakeMachine { port_from: never, hosts, ..Default::default() };
        let text = last(&machine, ONE);
        assert!(
            text.contains("/etc/hosts, and the name server says 10.0.0.1the file system's"),
            "{text}"
        );
        // Also of one that takes connections and refuses the mount.
        let mounts =
            || Mutex::new(vec![Failure::Mount("10.0.0.1".parse().unwrap(), Errno::EACCES)]);
        let hosts = Some("10.0.0.9".parse().unwrap());
        let text = last(&FakeMachine { mounts: mounts(), hosts, ..Default::default() }, ONE);
        assert!(
            text.contains(
                "for / (EACCES); the address is from /etc/hosts, and the name server says 10.0.0.9"
            ),
            "{text}"
        );
        let text = last(&FakeMachine { mounts: mounts(), ..Default::default() }, ONE);
        assert!(text.contains("for / (EACCES)if the file"), "{text}");
        let completed = Some("fs-1.example.lab.example".to_owned());
        let text = last(&FakeMachine { mounts: mounts(), completed, ..Default::default() }, ONE);
        assert!(text.contains("; the address is from name server 10.0.0.2, which knows it as fs-1.example.lab.example, by a search domain"), "{text}");
        assert!(text.contains("if fs-1.example.lab.example is not the server that you mean, write its whole name as `endpoint`, with a dot at its end; else if"), "{text}");
        // A fault of this machine's has nothing to do with it.
        let mounts =
            || Mutex::new(vec![Failure::Mount("10.0.0.1".parse().unwrap(), Errno::ENODEV)]);
        let hosts = Some("10.0.0.9".parse().unwrap());
        let text = last(&FakeMachine { mounts: mounts(), hosts, ..Default::default() }, ONE);
        assert!(!text.contains("the address is from"), "{text}");
    }

    #[test]
    fn the_mode_of_a_root_is_not_set_where_it_may_be_another_machines() {
        let config = format!("{ONE}root_mode = \"1777\"\n");
        let completed = || Some("fs-1.example.lab.example".to_owned());
        let machine = FakeMachine { completed: completed(), ..Default::default() };
        let (report, text) = start_on(&machine, &config, false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.contains(
            "fs-1.example: 10.0.0.1 (name server 10.0.0.2, which knows it as fs-1.example.lab.example, by a search domain) \
             answers on TCP 2049\n"
        ), "{text}");
        assert!(text.contains(
            "warning: root_mode 1777 of /mnt/efs_share is not set: a search domain made fs-1.example.lab.example of \
             fs-1.example, which may be another machine (10.0.0.1); if it is the right one, write endpoint = \
             \"fs-1.example.lab.example.\"\n"
        ), "{text}");
        assert_eq!(*machine.modes.lock().unwrap(), [None, None]);
        // Mounted earlier: by which name, nobody knows.
        let machine = FakeMachine { completed: completed(), already: true, ..Default::default() };
        let (_, text) = start_on(&machine, &config, false);
        assert!(text.contains("root_mode 1777 of /mnt/efs_share is not set: "), "{text}");
        assert_eq!(*machine.modes.lock().unwrap(), [None]);
        let old_address = Some("10.0.0.66".to_owned());
        let machine = FakeMachine { old_address, already: true, ..Default::default() };
        let (_, text) = start_on(&machine, &config, false);
        assert!(
            text.contains(
                "is not set: fs-1.example does not lead to 10.0.0.66, where it is mounted from; "
            ),
            "{text}"
        );
        for good in [FakeMachine { already: true, ..Default::default() }, FakeMachine::default()] {
            let (_, text) = start_on(&good, &config, false);
            assert!(!text.contains("not set"), "{text}");
            assert!(good.modes.lock().unwrap().iter().all(|mode| *mode == Some(0o1777)));
        }
    }

    #[test]
    fn a_port_that_never_answers_ends_at_the_deadline_with_the_cause_and_exit_75() {
        let machine = FakeMachine { port_from: Duration::MAX / 2, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        assert_eq!(machine.clock.now(), seconds_of(25.0));
        assert_eq!(machine.times("discard").len(), 1);
        let last = text.lines().last().unwrap();
        assert!(
            last.starts_with("error: cannot mount fs-1.example:/ on /mnt/efs_share: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s); the address is from name server 10.0.0.2; after "),
            "{last}"
        );
        assert!(
            last.ends_with("; to mend it: the file system's security group must allow NFS (TCP 2049) from the fleet's security group (on an image builder: from the image builder's) (exit 75)"),
            "{last}"
        );
        assert!(text.starts_with("warning: /mnt/efs_share: attempt 1: TCP 2049 to 10.0.0.1 timed out (nothing came back for 3.0 s); the address is from name server 10.0.0.2; 22.0 s left\n"), "{text}");
    }

    #[test]
    fn a_failure_for_good_ends_at_once_with_exit_69() {
        let address = "10.0.0.1".parse().unwrap();
        let mounts = Mutex::new(vec![Failure::Mount(address, Errno::EACCES)]);
        let machine = FakeMachine { mounts, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::REFUSED);
        assert_eq!(text.lines().count(), 1);
        assert!(
            text.contains("access denied by server 10.0.0.1 for / (EACCES); after 1 attempt"),
            "{text}"
        );
    }

    #[test]
    fn errors_that_pass_are_retried_with_growing_pauses() {
        let address = "10.0.0.1".parse().unwrap();
        let script =
            [Errno::EIO, Errno::ECONNREFUSED, Errno::ENETUNREACH, Errno::EAGAIN, Errno::ESTALE];
        let mounts = Mutex::new(script.map(|errno| Failure::Mount(address, errno)).to_vec());
        let machine = FakeMachine { mounts, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(text.matches("warning: ").count(), 5);
        let times = machine.times("mount");
        for (pair, whole) in times.windows(2).zip([0.1, 0.2, 0.4, 0.8, 1.0]) {
            let pause = pair[1] - pair[0];
            assert!(pause >= seconds_of(whole / 2.0) && pause <= seconds_of(whole), "{pause:?}");
        }
        assert_eq!(report.outcomes[0].attempts, 6);
    }

    #[test]
    fn a_mount_point_that_another_run_removed_is_made_again() {
        let machine =
            FakeMachine { mounts: Mutex::new(vec![Failure::PointGone]), ..Default::default() };
        let (report, _) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(machine.times("prepare").len(), 2);
    }

    #[test]
    fn an_address_that_takes_connections_but_does_not_mount_gives_way_to_the_next() {
        let (first, second) = ("10.0.0.1".parse().unwrap(), "10.0.0.3".parse().unwrap());
        let script =
            vec![Failure::CutOff(first, seconds_of(10.0)), Failure::Mount(second, Errno::EIO)];
        let machine =
            FakeMachine { more: vec![second], mounts: Mutex::new(script), ..Default::default() };
        let (report, _) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(*machine.mounted_from.lock().unwrap(), [first, second, first]);
    }

    #[test]
    fn what_the_server_was_once_asked_about_is_not_forgotten_for_want_of_time_to_ask_again() {
        let address = "10.0.0.1".parse().unwrap();
        let asked = Failure::Probed(Box::new(Failure::Mount(address, Errno::EIO)), Heard::Closed);
        // The last of these come in the last half second.
        let mut script = vec![asked];
        script.extend(vec![Failure::Mount(address, Errno::EPIPE); 100]);
        let machine = FakeMachine { mounts: Mutex::new(script), ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::DEADLINE);
        let last = text.lines().last().unwrap();
        assert!(last.contains("takes connections on TCP 2049 and closes them without"), "{last}");
    }

    #[test]
    fn once_makes_one_attempt_and_speaks_to_a_person() {
        let machine = FakeMachine { name_from: Duration::MAX / 2, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, true);
        assert_eq!(report.code(), Code::DEADLINE);
        assert_eq!(machine.times("resolve").len(), 1);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "error: cannot mount fs-1.example:/ on /mnt/efs_share: fs-1.example does not resolve: name \
             server 10.0.0.2 says that there is no such name (NXDOMAIN); after 1 attempt in 0.000 s"
        );
        assert!(lines[1].starts_with("  to mend it: check the spelling"), "{text}");
        assert_eq!(lines[2], "  exit 75: a session start would try again until its deadline");
    }

    #[test]
    fn a_mount_point_that_cannot_be_one_ends_before_any_packet() {
        let prepare = Some(PointError::Symlink("/mnt".into()));
        let machine = FakeMachine { prepare, ..Default::default() };
        let (report, text) = start_on(&machine, ONE, false);
        assert_eq!(report.code(), Code::REFUSED);
        assert!(text.contains("/mnt is a symlink"), "{text}");
        assert!(machine.times("resolve").is_empty());
    }

    #[test]
    fn of_several_servers_a_silent_one_is_cut_off_early_and_none_at_the_same_time_as_another() {
        let address = "10.0.0.1".parse().unwrap();
        let cut_off = Failure::CutOff(address, seconds_of(2.0));
        let cut_off = || Failure::Probed(Box::new(cut_off.clone()), Heard::Nothing);
        let script = || Mutex::new(vec![cut_off(), cut_off()]);
        let first_attempts = Some(Barrier::new(2));
        let machine = FakeMachine { mounts: script(), first_attempts, ..Default::default() };
        let two =
            format!("{ONE}[[share]]\nendpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n");
        let (report, _) = start_on(&machine, &two, false);
        assert_eq!(report.code(), Code::OK);
        let mut paces = machine.paces.lock().unwrap().clone();
        paces.sort();
        let seconds = |span, silence| (Some(seconds_of(silence)), seconds_of(span));
        assert_eq!(paces[..2], [seconds(9.5, 1.0), seconds(10.0, 1.0)], "the first of each");
        assert!(
            paces[2..].iter().all(|(silence, _)| *silence >= Some(seconds_of(2.0))),
            "{paces:?}"
        );
        // One server has nobody to hold up.
        let machine = FakeMachine { mounts: script(), ..Default::default() };
        start_on(&machine, ONE, false);
        assert_eq!(machine.paces.lock().unwrap()[..2], [(None, seconds_of(10.0)); 2]);
    }

    #[test]
    fn a_server_that_hangs_as_often_as_the_deadline_allows_does_not_end_the_run() {
        let address = "10.0.0.1".parse().unwrap();
        let hung = Failure::CutOff(address, seconds_of(0.1));
        let slow = Failure::Tunnel(TunnelError::Silent(seconds_of(0.1)));
        for failure in [hung, slow] {
            let machine =
                FakeMachine { mounts: Mutex::new(vec![failure; 400]), ..Default::default() };
            let config = format!(
                "deadline = \"3m\"\nattempt_timeout = \"100ms\"\n{ONE}[[share]]\n\
                 endpoint = \"fs-2.example\"\nmount_point = \"/mnt/b\"\n"
            );
            let (report, text) = start_on(&machine, &config, false);
            assert_eq!(report.code(), Code::DEADLINE);
            assert!(text.ends_with("(exit 75)\n"), "{text}");
            let attempts: u32 = report.outcomes.iter().map(|outcome| outcome.attempts).sum();
            assert!(attempts > 2 * 64, "{attempts}");
        }
    }

    #[test]
    fn several_shares_have_a_line_each_and_a_summary() {
        let machine = FakeMachine::default();
        let config = "[[share]]\nendpoint = \"a\"\nmount_point = \"/mnt/a\"\n\
                      [[share]]\nendpoint = \"b\"\nmount_point = \"/mnt/b\"\n\
                      [[share]]\nendpoint = \"a\"\nmount_point = \"/mnt/c\"\npath = \"/c\"\n";
        let (report, text) = start_on(&machine, config, false);
        assert_eq!(report.code(), Code::OK);
        assert_eq!(text.matches("NFS 4.1, attempt 1").count(), 3);
        assert!(text.ends_with("3 of 3 shares mounted (exit 0)\n"), "{text}");
        let points: Vec<_> = report.outcomes.iter().map(|o| o.share.mount_point.clone()).collect();
        assert_eq!(points, ["/mnt/a", "/mnt/b", "/mnt/c"].map(PathBuf::from));
    }

    #[test]
    fn a_share_that_is_up_is_remembered_while_others_are_awaited() {
        let config = format!("{ONE}[[share]]\nendpoint = \"b\"\nmount_point = \"/mnt/b\"\n");
        let remembered = |machine: &FakeMachine, config: &str| {
            let (log, _) = Lines::log();
            let settings = Settings::parse(Path::new("c"), config).unwrap();
            let points = Mutex::new(vec![]);
            run_on(machine, &log, &settings, false).all(settings.shares.clone(), &|outcome| {
                points.lock().unwrap().push(outcome.share.mount_point.clone());
            });
            points.into_inner().unwrap().len()
        };
        assert_eq!(remembered(&FakeMachine::default(), &config), 1);
        assert_eq!(remembered(&FakeMachine::default(), ONE), 0, "the end of the run is near");
        let already = FakeMachine { already: true, ..Default::default() };
        assert_eq!(remembered(&already, &config), 0, "an earlier run has it");
        // Of these the mount table does not show whose they are.
        let led_to = || Some("fs-1.example:/releases/1".to_owned());
        let led = || FakeMachine { led_to: led_to(), ..Default::default() };
        assert_eq!((remembered(&led(), &config), remembered(&led(), ONE)), (2, 1));
        let already = FakeMachine { already: true, ..led() };
        assert_eq!(remembered(&already, ONE), 0);
    }

    #[test]
    fn an_optional_share_that_fails_is_said_and_costs_no_exit_code() {
        let address = "10.0.0.1".parse().unwrap();
        let mounts = Mutex::new(vec![Failure::Mount(address, Errno::ENOENT)]);
        let machine = FakeMachine { mounts, ..Default::default() };
        let (report, text) = start_on(&machine, &format!("{ONE}required = false\n"), false);
        assert_eq!(report.code(), Code::OK);
        assert!(text.starts_with("warning: cannot mount optional share fs-1.example:/"), "{text}");
    }

    #[test]
    fn warnings_of_the_last_step_come_before_the_outcome() {
        let notes = vec![(Level::Warning, "users cannot write".to_owned())];
        let machine = FakeMachine { notes, ..Default::default() };
        let (_, text) = start_on(&machine, ONE, false);
        assert!(text.starts_with("warning: users cannot write\nmounted "), "{text}");
    }
}
