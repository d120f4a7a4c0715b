//! Simulates a fleet whose sessions start at the same instant, against a server that admits only
//! some connections a second. The real session code runs under one virtual clock. Each instance is
//! a thread, and only the one whose time has come runs. So a run is the same each time except for
//! its jitter.

use crate::commands::session::SessionRun;
use crate::config::{Level, Settings, Share};
use crate::kernel::holders::Holder;
use crate::kernel::route::Route;
use crate::log::{Log, Style};
use crate::net::names::{Answered, By, Found, NameError, Stamp};
use crate::net::reach::{FRESH, Problem, ReachError};
use crate::report::Report;
use crate::retry::{Clock, Deadline, Stopped};
use crate::share::client::{ClientIdentity, NfsClient};
use crate::share::plan::MountCall;
use crate::share::{Failure, Machine, MountLimit, Mounted, ServerAnswer};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const NAME_SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
/// How long a name server takes to answer.
const ANSWER: Duration = Duration::from_millis(1);

/// Virtual time, the instants that instances wait for, and the server.
struct World {
    now: Duration,
    waiting: BinaryHeap<Reverse<(Duration, usize)>>,
    /// Whose turn it is.
    turn: Option<usize>,
    /// How many connections the server admits in a second.
    rate: f64,
    /// How many connections it would admit now.
    tokens: f64,
    filled: Duration,
    /// Connections begun in each second.
    begun: Vec<u32>,
    /// When the name server knows the name.
    name_from: Duration,
    /// How often it was asked in each second.
    asked: Vec<u32>,
}

impl World {
    /// Asks the name server. Returns whether it knows the name.
    fn ask(&mut self) -> bool {
        count(&mut self.asked, self.now);
        self.now >= self.name_from
    }

    /// Begins a connection. Returns whether the server takes it.
    fn connect(&mut self) -> bool {
        count(&mut self.begun, self.now);
        let gained = (self.now - self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + gained).min(self.rate / 10.0);
        self.filled = self.now;
        let admitted = self.tokens >= 1.0;
        if admitted {
            self.tokens -= 1.0;
        }
        admitted
    }

    /// Gives the turn to the instance whose time comes next.
    fn next(&mut self) {
        self.turn = self.waiting.pop().map(|Reverse((at, who))| {
            self.now = self.now.max(at);
            who
        });
    }
}

/// Counts one more in the current second.
fn count(each_second: &mut Vec<u32>, now: Duration) {
    let second = now.as_secs() as usize;
    each_second.resize(each_second.len().max(second + 1), 0);
    each_second[second] += 1;
}

struct Shared {
    world: Mutex<World>,
    /// One for each instance, so that no other one is woken.
    turns: Vec<Condvar>,
}

#[derive(Clone)]
struct Instance {
    shared: Arc<Shared>,
    id: usize,
}

impl Instance {
    fn hand_over(&self, world: &mut World) {
        world.next();
        if let Some(next) = world.turn {
            self.shared.turns[next].notify_one();
        }
    }
}

impl Clock for Instance {
    fn now(&self) -> Duration {
        self.shared.world.lock().unwrap().now
    }

    fn wait(&self, pause: Duration) -> Result<(), Stopped> {
        let mut world = self.shared.world.lock().unwrap();
        let at = world.now + pause;
        world.waiting.push(Reverse((at, self.id)));
        self.hand_over(&mut world);
        while world.turn != Some(self.id) {
            world = self.shared.turns[self.id].wait(world).unwrap();
        }
        Ok(())
    }
}

impl Machine for Instance {
    type Point = ();

    fn mounted(&self, _: &Share, _: Deadline) -> Result<Option<Mounted>, Failure> {
        Ok(None)
    }

    fn recognized(
        &self,
        _: &Share,
        _: &MountCall,
        _: Deadline,
    ) -> Result<Option<Mounted>, Failure> {
        Ok(None)
    }

    fn responds(&self, _: &Share, _: &Mounted, _: Deadline) -> Result<ServerAnswer, Failure> {
        Ok(ServerAnswer::Well)
    }

    fn held_by(&self, _: &Share) -> Vec<Holder> {
        Vec::new()
    }

    fn detach(&self, _: &Share, _: &Mounted, _: Deadline) -> Result<(), Failure> {
        Ok(())
    }

    fn prepare(&self, _: &Share) -> Result<(), Failure> {
        Ok(())
    }

    fn route(&self, _: SocketAddr) -> Option<Route> {
        None
    }

    fn discard(&self, _: &Share, (): ()) {}

    fn abandon(&self, _: &Share, _: bool) {}

    fn resolve(&self, _: &Share, _: Deadline) -> Result<Found, Failure> {
        let known = self.shared.world.lock().unwrap().ask();
        self.wait(ANSWER)?;
        let by = || By::Server(Answered::by(NAME_SERVER));
        if known {
            Ok(Found::new(vec![ADDRESS], by()))
        } else {
            Err(NameError::NoSuchName(NAME_SERVER).into())
        }
    }

    fn further(&self, _: &Share, _: &Found, _: Deadline) -> Result<Option<Vec<IpAddr>>, Failure> {
        Ok(Some(Vec::new()))
    }

    fn past_hosts(&self, _: &Share, _: bool, _: Deadline) -> Result<Found, NameError> {
        Err(NameError::NoServers("does not exist"))
    }

    fn names_stamp(&self) -> Stamp {
        Stamp::default()
    }

    /// Begins a fresh connection every so often, as `net::reach` does.
    fn reach(&self, _: &Share, _: &[IpAddr], until: Deadline) -> Result<IpAddr, Failure> {
        let began = self.now();
        loop {
            if self.shared.world.lock().unwrap().connect() {
                return Ok(ADDRESS);
            }
            let left = until.left(self);
            if left < FRESH {
                self.wait(left)?;
                let tried =
                    vec![(ADDRESS, Problem::Silent { span: self.now() - began, from: None })];
                return Err(Failure::Reach(ReachError::NoneAnswers { port: 2049, tried }));
            }
            self.wait(FRESH)?;
        }
    }

    /// The kernel's own connection needs a second admission, which it asks for after 0, 1, 3 and 7
    /// s.
    fn mount(
        &self,
        _: &Share,
        _: &MountCall,
        (): &(),
        MountLimit { until, .. }: MountLimit,
    ) -> Result<Mounted, Failure> {
        let mut pause = Duration::from_secs(1);
        while !self.shared.world.lock().unwrap().connect() {
            let left = until.left(self);
            if left < pause {
                self.wait(left)?;
                return Err(Failure::CutOff(ADDRESS, left));
            }
            self.wait(pause)?;
            pause *= 2;
        }
        Ok(Mounted::fake(false))
    }

    fn client(&self) -> &NfsClient {
        NfsClient::fake()
    }

    fn leads_to(&self, _: &Mounted) -> Option<SocketAddr> {
        None
    }

    fn settle(&self, _: &Share, _: &Mounted, _: Deadline) -> Result<Vec<(Level, String)>, Failure> {
        Ok(Vec::new())
    }
}

/// What became of a fleet.
struct Ended {
    /// Instances that have their share.
    up: usize,
    /// When the last one ended.
    last: Duration,
    /// Connections begun in each second.
    begun: Vec<u32>,
    /// Questions to the name server in each second.
    asked: Vec<u32>,
}

/// Mounts on all `instances` at once, against a name server that knows the name from `name_from`
/// on.
fn fleet(instances: usize, rate: f64, name_from: Duration) -> Ended {
    let world = World {
        now: Duration::ZERO,
        waiting: (0..instances).map(|id| Reverse((Duration::ZERO, id))).collect(),
        turn: None,
        rate,
        tokens: 0.0,
        filled: Duration::ZERO,
        begun: Vec::new(),
        name_from,
        asked: Vec::new(),
    };
    let turns = (0..instances).map(|_| Condvar::new()).collect();
    let shared = Arc::new(Shared { world: Mutex::new(world), turns });
    let start = |id: usize| {
        let me = Instance { shared: Arc::clone(&shared), id };
        move || {
            {
                let mut world = me.shared.world.lock().unwrap();
                while world.turn != Some(me.id) {
                    world = me.shared.turns[me.id].wait(world).unwrap();
                }
            }
            let config = "[[share]]\nendpoint = \"fs-1.example\"\n";
            let settings = Settings::parse(Path::new("c"), config).unwrap();

            let log = Log::new(Box::new(std::io::sink()), Style::Stamped);
            let run = SessionRun {
                machine: &me,
                tunnels: &None::<Infallible>,
                clock: &me,
                log: &log,
                deadline: Deadline::after(&me, settings.deadline),
                attempt_timeout: settings.attempt_timeout,
                once: false,
                kernel: || "5.10".into(),
            };
            let outcomes = run.all(settings.shares, &|_| {});
            let report = Report { outcomes, stopped_by: None, client: ClientIdentity::NoClient };
            let took = me.now();
            me.hand_over(&mut me.shared.world.lock().unwrap());
            (report.mounted(), took)
        }
    };
    let threads: Vec<_> = (0..instances)
        .map(|id| std::thread::Builder::new().stack_size(128 * 1024).spawn(start(id)).unwrap())
        .collect();
    {
        let mut world = shared.world.lock().unwrap();
        world.next();
        shared.turns[world.turn.unwrap()].notify_one();
    }

    let ended: Vec<(usize, Duration)> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let up = ended.iter().map(|(up, _)| up).sum();
    let last = ended.iter().map(|(_, took)| *took).max().unwrap();
    let world = shared.world.lock().unwrap();
    Ended { up, last, begun: world.begun.clone(), asked: world.asked.clone() }
}

/// The same server, with instances that ask again each second, as a loop with sleep 1 does. Returns
/// when the last is mounted, and the most connections begun in one second. No threads are needed,
/// because all do the same at the same time.
fn fleet_with_fixed_interval(instances: usize, rate: f64) -> (f64, usize) {
    let (mut waiting, mut second, mut peak) = (instances * 2, 0.0, 0);
    while waiting > 0 {
        // All that wait begin a connection at once. The server admits as many as a tenth of a
        // second allows.
        let begun = waiting.min(instances);
        peak = peak.max(begun);
        waiting -= begun.min((rate / 10.0) as usize).max(1);
        second += 1.0;
    }
    (second - 1.0, peak)
}

#[test]
fn a_fleet_that_starts_at_one_instant_comes_up_inside_the_deadline_at_a_bounded_rate() {
    // FLEET=10000 is the full number. A tenth of it takes a tenth of the time.
    let instances: usize = std::env::var("FLEET").map_or(1000, |n| n.parse().unwrap());
    // Each instance needs two connections (the look and the mount), which take at least 14 s at
    // this rate.
    let rate = instances as f64 / 7.0;
    let Ended { up, last, begun, .. } = fleet(instances, rate, Duration::ZERO);
    let peak = begun.iter().max().copied().unwrap();
    println!(
        "{instances} instances, {rate:.0} connections admitted a second: {up} mounted, the last after \
         {:.1} s; connections begun a second, at the most {peak} ({:.1} an instance); by second {begun:?}",
        last.as_secs_f64(),
        f64::from(peak) / instances as f64,
    );
    // `make bench` reads these lines.
    let (fixed_last, fixed_peak) = fleet_with_fixed_interval(instances, rate);
    let peak_each = f64::from(peak) / instances as f64;
    for (who, last, peak) in [
        ("efs-agent", last.as_secs_f64(), peak_each),
        ("every second, in step", fixed_last, fixed_peak as f64 / instances as f64),
    ] {
        println!(
            "figure simulated fleet: until the last is mounted, s\t{who}, {instances}\t{last:.1}"
        );
        println!(
            "figure simulated fleet: connections begun in a second, at the most, an instance\t{who}, {instances}\t{peak:.1}"
        );
    }
    assert_eq!(up, instances, "all inside the deadline");
    assert!(last <= Duration::from_secs(25), "{last:?}");
    // An instance begins a fresh connection every 150 ms, and the kernel begins some of its own.
    assert!(f64::from(peak) <= 8.0 * instances as f64, "{peak}");
}

#[test]
fn a_fleet_whose_name_is_not_known_yet_asks_for_it_about_once_a_second_and_machine() {
    let instances: usize = std::env::var("FLEET").map_or(1000, |n| n.parse().unwrap());
    let name_from = Duration::from_secs(12);
    let Ended { up, last, asked, .. } = fleet(instances, instances as f64, name_from);
    let each = |n: u32| f64::from(n) / instances as f64;
    let peak = asked.iter().copied().max().map_or(0.0, each);
    let later = asked.iter().skip(2).take(9).copied().max().map_or(0.0, each);
    println!(
        "{instances} instances whose name is known after {name_from:?}: questions a second and instance, at the \
         most {peak:.1}, after two seconds {later:.1}; all mounted after {:.1} s; by second {asked:?}",
        last.as_secs_f64()
    );
    for (when, figure) in [("at the most", peak), ("after two seconds", later)] {
        println!(
            "figure simulated fleet: questions to the name server in a second, {when}, an instance\tefs-agent, {instances}\t{figure:.1}"
        );
    }
    assert_eq!(up, instances, "all inside the deadline");
    assert!(peak <= 5.0 && later <= 2.0, "{peak} {later}");
}
