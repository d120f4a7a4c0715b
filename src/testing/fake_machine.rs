//! A machine for unit tests of a session start: it answers by a script, under a virtual clock, and
//! notes what it was asked for. It touches nothing of the real machine, and asserts nothing.

use crate::commands::session::{SessionRun, log_end};
use crate::config::{Level, Settings, Share};
use crate::kernel::holders::Holder;
use crate::kernel::route::Route;
use crate::log::Log;
use crate::log::test::Lines;
use crate::net::names::{Answered, By, Found, NameError, Stamp};
use crate::net::reach::{Problem, ReachError};
use crate::report::Report;
use crate::retry::test::VirtualClock;
use crate::retry::{Clock, Deadline};
use crate::share::client::{ClientIdentity, NfsClient};
use crate::share::mount_point::PointError;
use crate::share::plan::{self, MountCall};
use crate::share::{Failure, Machine, MountLimit, Mounted, ServerAnswer};
use crate::tunnel::contract::{Tunnels, TunnelsError};
use crate::tunnel::protocol::{Peer, TunnelError, TunnelStatus};
use nix::errno::Errno;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

/// A span of `n` seconds.
pub fn seconds_of(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

/// A machine on which things begin to work at given times.
#[derive(Default)]
pub struct FakeMachine {
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
    /// From when on a tunnel can be started.
    pub no_tunnel_until: Duration,
    /// Whether the config has changed since the tunnel was started.
    pub changed: bool,
    pub tunnel_port: AtomicU16,
    /// The ports at which a tunnel was asked to listen.
    pub asked_at: Mutex<Vec<Option<u16>>>,
    /// How handshakes fail, in turn; then they succeed. Questions to the tunnel fail as `statuses`
    /// says.
    pub handshakes: Mutex<Vec<TunnelError>>,
    pub statuses: Mutex<Vec<TunnelError>>,
    /// Whether failed handshakes take all the time that they are given.
    pub slow_answers: bool,
    /// How long each handshake was given.
    pub spans: Mutex<Vec<Duration>>,
    /// The calls of mount(2).
    pub calls: Mutex<Vec<MountCall>>,
    /// The address that it is mounted from.
    pub old_address: Option<String>,
    /// Further addresses of the name.
    pub more: Vec<IpAddr>,
    /// The address of each mount(2); `paces` has the silence and the time that it was given.
    pub mounted_from: Mutex<Vec<IpAddr>>,
    pub paces: Mutex<Vec<(Option<Duration>, Duration)>>,
    /// Where the first attempts of two servers meet. Without it, one server's pause, which moves
    /// the only clock, may come between another's deadline and its first attempt.
    pub first_attempts: Option<Barrier>,
    pub prepare: Option<PointError>,
    /// Where an existing mount leads, if not to its tunnel.
    pub astray: Option<SocketAddr>,
    /// Each step with its time, for tests to look at.
    pub seen: Mutex<Vec<(&'static str, Duration)>>,
    pub notes: Vec<(Level, String)>,
    /// The error with which the server of an existing mount answers.
    pub fault: Option<Errno>,
    pub holders: Vec<i32>,
    /// Whether it makes the mount point.
    pub makes: bool,
    /// How the last look at a mount fails, if it does not give the notes.
    pub unsettled: Option<Failure>,
    /// Whether something is mounted there that does not show whose it is. It is the share if
    /// `led_to` is set.
    pub taken: bool,
    /// What the mount table shows instead of the share's own source.
    pub led_to: Option<String>,
    /// What a search domain makes of the name.
    pub completed: Option<String>,
    /// The addresses of the other family, which only a second question finds.
    pub further: Vec<IpAddr>,
    /// How long that question takes.
    pub slow_further: Duration,
    /// When hosts or resolv.conf change.
    pub files_change: Option<Duration>,
    /// The address that the name servers give, if the hosts file has the name too.
    pub hosts: Option<IpAddr>,
    /// The mode that each mount(2) and each look at the root was to set.
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

    fn client(&self) -> &NfsClient {
        NfsClient::fake()
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

    fn responds(&self, _: &Share, _: &Mounted, until: Deadline) -> Result<ServerAnswer, Failure> {
        let alive = self.see("responds") >= self.alive_from;
        if let Some(errno) = self.fault {
            return Ok(ServerAnswer::Fault(errno));
        }
        let _ = if alive { Ok(()) } else { self.clock.wait(until.left(&self.clock)) };
        Ok(if alive { ServerAnswer::Well } else { ServerAnswer::Silence })
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

    fn reach(&self, _: &Share, addresses: &[IpAddr], until: Deadline) -> Result<IpAddr, Failure> {
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
        MountLimit { until, silence }: MountLimit,
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

/// A session start on `machine`.
pub(crate) fn run_on<'a>(
    machine: &'a FakeMachine,
    log: &'a Log,
    settings: &Settings,
    once: bool,
) -> SessionRun<'a, FakeMachine> {
    SessionRun {
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

/// Starts the shares of `config`. Returns the report and the log.
pub fn start_on(machine: &FakeMachine, config: &str, once: bool) -> (Report, String) {
    let (log, lines) = Lines::log();
    let settings = Settings::parse(Path::new("c"), config).unwrap();
    let run = run_on(machine, &log, &settings, once);
    let outcomes = run.all(settings.shares, &|_| {});
    let report = Report { outcomes, stopped_by: None, client: ClientIdentity::NoClient };
    log_end(&report, once, &log);
    (report, lines.text())
}
