//! Name servers for tests. A script says what each does with each query, and they have a clock on
//! which no test waits. No socket is opened.

use crate::config::Endpoint;
use crate::net::names::files::ResolvConf;
use crate::net::names::message::test::{address, alias, reply};
use crate::net::names::wire::{DnsTransport, Received};
use crate::net::names::{Found, LookUp, NameError, Spelling, usable};
use crate::retry::{Clock, Deadline, Stopped};
use nix::errno::Errno;
use simple_dns::{Packet, QTYPE, RCODE, TYPE};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// How long a datagram and its answer travel.
pub const TRIP: Duration = Duration::from_millis(1);

/// xorshift64: the same numbers for the same seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // This spreads small seeds far apart, and gives no zero.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }

    pub fn millis(&mut self, most: usize) -> Duration {
        Duration::from_millis(self.below(most) as u64)
    }
}

/// A query as it came to a server.
#[derive(Debug, Clone)]
pub struct Query {
    pub at: Duration,
    pub to: IpAddr,
    /// The name in lower case.
    pub name: String,
    /// The name in the letters in which it was asked for.
    pub spelled: String,
    pub kind: TYPE,
    pub id: u16,
    pub bytes: Vec<u8>,
    pub by_tcp: bool,
    /// How many queries for this name and kind came to this server this way before.
    pub repeats: usize,
}

impl Query {
    pub fn reply(&self, change: impl FnOnce(&mut Packet<'static>)) -> Vec<u8> {
        reply(self.id, &self.spelled, self.kind, change)
    }

    /// Those of `addresses` that are of the kind asked for.
    pub fn addresses(&self, addresses: &[&str]) -> Vec<u8> {
        self.reply(|p| {
            let fitting = addresses.iter().filter(|a| (self.kind == TYPE::AAAA) == a.contains(':'));
            p.answers.extend(fitting.map(|a| address(&self.name, a)));
        })
    }

    pub fn alias(&self, to: &str) -> Vec<u8> {
        self.reply(|p| p.answers.push(alias(&self.name, to)))
    }

    pub fn code(&self, code: RCODE) -> Vec<u8> {
        self.reply(|p| *p.rcode_mut() = code)
    }
}

/// What a server does with one query.
#[derive(Debug, Clone)]
pub enum Does {
    /// Sends these bytes after this time.
    Send(Duration, Vec<u8>),
    /// The way to the server reports an error after this time.
    Fail(Duration, Errno),
    /// Sends garbage from now on without end, as fast as it is read.
    Flood(Vec<u8>),
}

/// The server answers after [`TRIP`].
pub fn says(bytes: Vec<u8>) -> Vec<Does> {
    vec![Does::Send(TRIP, bytes)]
}

/// The query or its answer is lost.
pub fn silence() -> Vec<Does> {
    Vec::new()
}

/// Port 53 is closed.
pub fn refused() -> Vec<Does> {
    vec![Does::Fail(TRIP, Errno::ECONNREFUSED)]
}

type Scripted<'a, T> = RefCell<Box<dyn FnMut(&Query) -> T + 'a>>;

/// Name servers, and the machine that asks them.
pub struct NameServers<'a> {
    conf: ResolvConf,
    udp: Scripted<'a, Vec<Does>>,
    tcp: Scripted<'a, Option<(Duration, Vec<u8>)>>,
    traffic: RefCell<Traffic>,
}

#[derive(Default)]
struct Traffic {
    now: Duration,
    /// What is on its way, by its time of arrival and then in the order in which it was sent.
    coming: BTreeMap<(Duration, usize), Received>,
    floods: Vec<Received>,
    /// Whether the last turn was a flood's.
    flooded: bool,
    queries: Vec<Query>,
    /// How many datagrams and errors were sent.
    sent: usize,
    reads: usize,
    stopped: bool,
}

impl<'a> NameServers<'a> {
    /// A machine with this resolv.conf. The servers do as `udp` says.
    pub fn new(resolv_conf: &str, udp: impl FnMut(&Query) -> Vec<Does> + 'a) -> Self {
        Self {
            conf: ResolvConf::parse(resolv_conf, |_| None),
            udp: RefCell::new(Box::new(udp)),
            tcp: RefCell::new(Box::new(|_| None)),
            traffic: RefCell::default(),
        }
    }

    /// What servers do with a query over TCP. Without this, they do nothing.
    pub fn tcp(mut self, script: impl FnMut(&Query) -> Option<(Duration, Vec<u8>)> + 'a) -> Self {
        self.tcp = RefCell::new(Box::new(script));
        self
    }

    /// A signal comes, and ends the wait for whatever would come next.
    pub fn stop(&self) {
        self.traffic.borrow_mut().stopped = true;
    }

    /// Looks `name` up within `window`. Returns also how long that took, to the nanosecond.
    pub fn look_up(&self, name: &str, window: Duration) -> (Result<Found, NameError>, Duration) {
        self.timed(window, |until| {
            usable(self.within(until, Path::new("/"), &mut &*self).ask(&self.conf, name)?, true)
        })
    }

    /// Looks `name` up with the files below `root`.
    pub fn resolve(
        &self,
        root: &Path,
        name: &str,
        window: Duration,
    ) -> (Result<Found, NameError>, Duration) {
        let endpoint = Endpoint::Name(name.to_owned());
        self.timed(window, |until| self.within(until, root, &mut &*self).resolve(&endpoint))
    }

    fn within<'b>(
        &'b self,
        until: Deadline,
        root: &'b Path,
        wire: &'b mut dyn DnsTransport,
    ) -> LookUp<'b> {
        LookUp { root, spelling: Spelling::Mixed, until, clock: self, wire }
    }

    fn timed(
        &self,
        window: Duration,
        what: impl FnOnce(Deadline) -> Result<Found, NameError>,
    ) -> (Result<Found, NameError>, Duration) {
        let started = self.now();
        let result = what(Deadline::after(self, window));
        (result, self.now() - started)
    }

    /// The queries so far, also those over TCP.
    pub fn queries(&self) -> Vec<Query> {
        self.traffic.borrow().queries.clone()
    }

    /// How often something was waited for.
    pub fn reads(&self) -> usize {
        self.traffic.borrow().reads
    }

    fn take_in(&self, to: SocketAddr, bytes: &[u8], by_tcp: bool) -> Query {
        let packet = Packet::parse(bytes).unwrap();
        let question = packet.questions.first().unwrap();
        let (spelled, to) = (question.qname.to_string(), to.ip());
        let name = spelled.to_lowercase();
        let QTYPE::TYPE(kind) = question.qtype else { panic!("{question:?}") };
        let mut traffic = self.traffic.borrow_mut();
        let same = |q: &&Query| (q.to, q.kind, q.by_tcp) == (to, kind, by_tcp) && q.name == name;
        let repeats = traffic.queries.iter().filter(same).count();
        let (id, at, bytes) = (packet.id(), traffic.now, bytes.to_vec());
        let query = Query { at, to, name, spelled, kind, id, bytes, by_tcp, repeats };
        traffic.queries.push(query.clone());
        assert!(traffic.queries.len() < 1000, "floods");
        query
    }
}

impl Clock for NameServers<'_> {
    fn now(&self) -> Duration {
        self.traffic.borrow().now
    }

    fn wait(&self, pause: Duration) -> Result<(), Stopped> {
        self.traffic.borrow_mut().now += pause;
        Ok(())
    }
}

impl DnsTransport for &NameServers<'_> {
    fn send(&mut self, server: SocketAddr, message: &[u8]) -> Result<(), Errno> {
        let query = self.take_in(server, message, false);
        let does = (self.udp.borrow_mut())(&query);
        let mut traffic = self.traffic.borrow_mut();
        let mut result = Ok(());
        for one in does {
            let heard = |what| Received { from: server, what };
            let (after, heard) = match one {
                Does::Send(after, bytes) => (after, heard(Ok(bytes))),
                // Without a delay, sending itself fails: there is no route.
                Does::Fail(Duration::ZERO, errno) => {
                    result = Err(errno);
                    continue;
                }
                Does::Fail(after, errno) => (after, heard(Err(errno))),
                Does::Flood(bytes) => {
                    traffic.floods.push(heard(Ok(bytes)));
                    continue;
                }
            };
            traffic.sent += 1;
            let key = (query.at + after, traffic.sent);
            traffic.coming.insert(key, heard);
        }
        result
    }

    fn receive(&mut self, until: Deadline) -> Result<Option<Received>, Stopped> {
        let end = self.now() + until.left(*self);
        let mut traffic = self.traffic.borrow_mut();
        traffic.reads += 1;
        assert!(traffic.reads < 1_000_000, "spins");
        if traffic.stopped {
            return Err(Stopped);
        }
        let due = traffic.coming.first_key_value().map(|((at, _), _)| *at);
        let heard = due.is_some_and(|at| at <= traffic.now);
        // Floods and other datagrams take turns, because the real wire is fair.
        traffic.flooded = !(traffic.floods.is_empty() || heard && traffic.flooded);
        if traffic.flooded {
            traffic.floods.rotate_left(1);
            return Ok(traffic.floods.last().cloned());
        }
        match due {
            Some(at) if at <= end => {
                traffic.now = traffic.now.max(at);
                Ok(traffic.coming.pop_first().map(|(_, heard)| heard))
            }
            _ => {
                traffic.now = end;
                Ok(None)
            }
        }
    }

    fn exchange(
        &mut self,
        server: SocketAddr,
        message: &[u8],
        until: Deadline,
    ) -> Result<Option<Vec<u8>>, Stopped> {
        let query = self.take_in(server, message, true);
        let answer = (self.tcp.borrow_mut())(&query);
        let left = until.left(*self);
        match answer {
            Some((after, bytes)) if after <= left => {
                self.wait(after)?;
                Ok(Some(bytes))
            }
            _ => {
                self.wait(left)?;
                Ok(None)
            }
        }
    }
}
