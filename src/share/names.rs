//! An endpoint becomes addresses: a literal, the hosts file, or DNS over our
//! own sockets, bounded in time. libc's resolver is not used: it reads
//! resolv.conf once, loads the system's NSS modules, and waits 5 s where a
//! packet is lost. Opens no connection to what it finds.

use crate::config::Endpoint;
use crate::retry::{Clock, Deadline, Stopped};
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, TYPE};
use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// How long one query waits before the next is sent, to the next server in turn.
/// Earlier ones are still listened for.
const QUERY: Duration = Duration::from_millis(300);
/// How long a truncated answer is asked for again over TCP.
const TCP: Duration = Duration::from_millis(600);
const TRUNCATED: &str = "with a truncated answer, and does not give it over TCP";
/// As many name servers as libc takes from resolv.conf.
const MOST_SERVERS: usize = 3;
const MOST_ALIASES: usize = 8;
const DNS_PORT: u16 = 53;

/// The addresses of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At least one, the best first.
    pub addresses: Vec<IpAddr>,
    /// Who said so.
    pub by: By,
}

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The endpoint is an address.
    Literal,
    /// /etc/hosts.
    Hosts,
    /// The name server at this address.
    Server(IpAddr),
    /// The config's `addresses`, because the name gave none.
    Listed(NameError),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal => f.write_str("as configured"),
            Self::Listed(why) => {
                write!(f, "from `addresses`, since the name does not resolve: {why}")
            }
            Self::Hosts => f.write_str("/etc/hosts"),
            Self::Server(server) => write!(f, "name server {server}"),
        }
    }
}

/// Why a name gave no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// resolv.conf is absent, empty or names no server.
    #[error("/etc/resolv.conf {0}")]
    NoServers(&'static str),
    /// Queries were sent and nothing came back.
    #[error("no answer from name server {} within {}", join(.0), seconds(*.1))]
    Silent(Vec<IpAddr>, Duration),
    /// The query could not be sent, or was rejected on the way.
    #[error("name server {server} cannot be reached: {} ({errno:?})", errno.desc().to_lowercase())]
    Unreachable {
        /// The name server.
        server: IpAddr,
        /// Why.
        errno: Errno,
    },
    /// NXDOMAIN.
    #[error("name server {0} says that there is no such name (NXDOMAIN)")]
    NoSuchName(IpAddr),
    /// The name exists, but has neither an IPv4 nor an IPv6 address.
    #[error("name server {0} knows the name, but no address for it")]
    NoAddress(IpAddr),
    /// SERVFAIL, REFUSED, ….
    #[error("name server {0} answers {1}")]
    Failed(IpAddr, &'static str),
    /// Answered with an address that no server can have.
    #[error("{0} says {1}, which cannot be a server's address")]
    Unusable(Box<By>, IpAddr),
    /// The name cannot be put into a query.
    #[error("the name is too long for DNS")]
    BadName,
    /// The run was told to end.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

fn join(servers: &[IpAddr]) -> String {
    servers.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" or ")
}

/// A span for people: one decimal.
pub fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// What a look-up needs of its surroundings.
#[derive(Clone, Copy)]
pub struct Resolver<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// The signals.
    pub stop: &'a Stop,
}

impl Resolver<'_> {
    /// The addresses of `endpoint`, found before `until`. hosts and resolv.conf are read
    /// anew each time: at a session start they change under us.
    ///
    /// # Errors
    /// See [`NameError`]; all may pass.
    pub fn resolve(&self, endpoint: &Endpoint, until: Deadline) -> Result<Found, NameError> {
        let name = match endpoint {
            Endpoint::Address(address) => {
                return Ok(Found { addresses: vec![*address], by: By::Literal });
            }
            Endpoint::Name(name) => name,
        };
        let hosts = read_lossy(&self.root.join("etc/hosts")).unwrap_or_default();
        let addresses = in_hosts(&hosts, name);
        if !addresses.is_empty() {
            return usable(Found { addresses, by: By::Hosts }, false);
        }
        let conf = match read_lossy(&self.root.join("etc/resolv.conf")) {
            Ok(text) => ResolvConf::parse(&text),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(NameError::NoServers("does not exist"));
            }
            Err(_) => return Err(NameError::NoServers("cannot be read")),
        };
        if conf.servers.is_empty() {
            return Err(NameError::NoServers("names no name server"));
        }
        let mut first = None;
        for candidate in conf.candidates(name) {
            match self.look_up(&conf.servers, &candidate, until) {
                Ok(found) => return usable(found, true),
                Err(stopped @ NameError::Stopped(_)) => return Err(stopped),
                // No time is left for another candidate.
                Err(e @ (NameError::Silent(..) | NameError::Unreachable { .. })) => {
                    return Err(first.unwrap_or(e));
                }
                // What the name itself got says more than what a search domain made of it got.
                Err(e) if candidate == *name => first = Some(e),
                Err(e) => {
                    first.get_or_insert(e);
                }
            }
        }
        Err(first.unwrap_or(NameError::BadName))
    }

    /// IPv4 first; IPv6 where there is no IPv4 address.
    fn look_up(
        &self,
        servers: &[SocketAddr],
        name: &str,
        until: Deadline,
    ) -> Result<Found, NameError> {
        match self.follow(servers, name, TYPE::A, until) {
            Err(NameError::NoAddress(_)) => self.follow(servers, name, TYPE::AAAA, until),
            other => other,
        }
    }

    /// Asks on where a server gave only an alias (CNAME).
    fn follow(
        &self,
        servers: &[SocketAddr],
        name: &str,
        kind: TYPE,
        until: Deadline,
    ) -> Result<Found, NameError> {
        let mut name = name.to_owned();
        let mut last = NameError::BadName;
        for _ in 0..MOST_ALIASES {
            match self.ask(servers, &name, kind, until)? {
                (server, Answer::Addresses(addresses)) => {
                    return Ok(Found { addresses, by: By::Server(server) });
                }
                (server, Answer::Alias(alias)) => {
                    name = alias;
                    last = NameError::NoAddress(server);
                }
                (server, Answer::NoSuchName) => return Err(NameError::NoSuchName(server)),
                (server, _) => return Err(NameError::NoAddress(server)),
            }
        }
        Err(last)
    }

    /// One question, asked of all servers in turn until one answers it.
    fn ask(
        &self,
        servers: &[SocketAddr],
        name: &str,
        kind: TYPE,
        until: Deadline,
    ) -> Result<(IpAddr, Answer), NameError> {
        let started = self.clock.now();
        let id = sys::random() as u16;
        let query = query(id, name, kind).ok_or(NameError::BadName)?;
        let mut asked: Vec<Asked> = servers.iter().map(|server| Asked::new(*server)).collect();
        for turn in 0.. {
            let live = asked.iter().filter(|a| a.fault.is_none()).count();
            if live == 0 {
                break;
            }
            if let Some(next) = asked.iter_mut().filter(|a| a.fault.is_none()).nth(turn % live) {
                next.send(&query);
            }
            let round = until.within(self.clock, QUERY);
            while !round.passed(self.clock) {
                let open: Vec<usize> = (0..asked.len())
                    .filter(|i| asked.get(*i).is_some_and(Asked::listening))
                    .collect();
                if open.is_empty() {
                    break;
                }
                let fds: Vec<PollFd<'_>> = asked
                    .iter()
                    .filter(|a| a.listening())
                    .filter_map(|a| {
                        Some(PollFd::new(a.socket.as_ref()?.as_fd(), PollFlags::POLLIN))
                    })
                    .collect();
                let ready = self.stop.poll(&fds, round.left(self.clock))?;
                drop(fds);
                let mut failed = false;
                for (i, _) in open.iter().zip(ready).filter(|(_, ready)| *ready) {
                    let Some(server) = asked.get_mut(*i) else {
                        continue;
                    };
                    let answer = match server.receive(id, name, kind) {
                        Some(Answer::Truncated) => {
                            let until = until.within(self.clock, TCP);
                            let whole = self.ask_by_tcp(server.address, &query, until)?;
                            whole.or(Some(Answer::Failed(TRUNCATED)))
                        }
                        other => other,
                    };
                    match answer {
                        Some(Answer::Failed(why)) => {
                            server.fault = Some(NameError::Failed(server.address.ip(), why));
                        }
                        Some(answer) => return Ok((server.address.ip(), answer)),
                        None => {}
                    }
                    failed |= server.fault.is_some();
                }
                if failed {
                    break; // on to the next server at once
                }
            }
            if until.passed(self.clock) {
                break;
            }
        }
        let silent = asked.iter().filter(|a| a.fault.is_none()).map(|a| a.address.ip()).collect();
        let fault = asked.into_iter().rev().find_map(|a| a.fault);
        Err(fault.unwrap_or(NameError::Silent(silent, self.clock.now().saturating_sub(started))))
    }

    /// The same question over TCP, where the answer did not fit a datagram. `None`: no luck.
    fn ask_by_tcp(
        &self,
        server: SocketAddr,
        query: &[u8],
        until: Deadline,
    ) -> Result<Option<Answer>, NameError> {
        let Ok(mut stream) = sys::connect_tcp(server) else {
            return Ok(None);
        };
        let mut message = (query.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(query);
        let wait = |stream: &std::net::TcpStream, what| {
            let fds = [PollFd::new(stream.as_fd(), what)];
            self.stop.poll(&fds, until.left(self.clock)).map(|r| r.contains(&true))
        };
        if !wait(&stream, PollFlags::POLLOUT)? || stream.write_all(&message).is_err() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some((size, body)) = bytes.split_first_chunk::<2>()
                && let Some(whole) = body.get(..usize::from(u16::from_be_bytes(*size)))
            {
                let asked = Packet::parse(query).ok();
                let question = asked.as_ref().and_then(|p| p.questions.first());
                return Ok(
                    question.and_then(|q| answer(whole, None, &q.qname.to_string(), q.qtype))
                );
            }
            if !wait(&stream, PollFlags::POLLIN)? {
                return Ok(None);
            }
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
        }
    }
}

/// One name server and the socket that its answers come in on.
struct Asked {
    address: SocketAddr,
    socket: Option<UdpSocket>,
    fault: Option<NameError>,
}

impl Asked {
    fn new(address: SocketAddr) -> Self {
        Self { address, socket: None, fault: None }
    }

    fn listening(&self) -> bool {
        self.socket.is_some() && self.fault.is_none()
    }

    /// A connected socket takes datagrams from this server alone, and hears of ICMP errors.
    fn send(&mut self, query: &[u8]) {
        if self.socket.is_none() {
            match sys::connect_udp(self.address) {
                Ok(socket) => self.socket = Some(socket),
                Err(errno) => return self.broken(&errno.into()),
            }
        }
        if let Some(Err(e)) = self.socket.as_ref().map(|socket| socket.send(query)) {
            self.broken(&e);
        }
    }

    fn broken(&mut self, error: &std::io::Error) {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        self.fault = Some(NameError::Unreachable { server: self.address.ip(), errno });
    }

    /// What came in, if it is an answer to our question.
    fn receive(&mut self, id: u16, name: &str, kind: TYPE) -> Option<Answer> {
        let mut buffer = [0; 4096];
        match self.socket.as_ref()?.recv(&mut buffer) {
            Ok(n) => answer(buffer.get(..n)?, Some(id), name, QTYPE::TYPE(kind)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => None,
            Err(e) => {
                self.broken(&e);
                None
            }
        }
    }
}

/// What a DNS message says to our question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Addresses(Vec<IpAddr>),
    /// Only an alias, whose own addresses are to be asked for.
    Alias(String),
    NoSuchName,
    NoAddress,
    Truncated,
    Failed(&'static str),
}

pub(crate) fn query(id: u16, name: &str, kind: TYPE) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, kind.into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// `None`: not an answer to this question (garbage, or somebody else's).
pub(crate) fn answer(bytes: &[u8], id: Option<u16>, name: &str, kind: QTYPE) -> Option<Answer> {
    let packet = Packet::parse(bytes).ok()?;
    let question = packet.questions.first()?;
    let name = Name::new(name).ok()?;
    let ours = packet.has_flags(PacketFlag::RESPONSE)
        && id.is_none_or(|id| packet.id() == id)
        && question.qname == name
        && question.qtype == kind
        && question.qclass == QCLASS::CLASS(CLASS::IN);
    if !ours {
        return None;
    }
    // The header's own four bits: the library adds reserved ones of an OPT record, which we never
    // asked for and which some middlebox may fill.
    match RCODE::from(u16::from(bytes.get(3)? & 0x0f)) {
        RCODE::NoError => {}
        RCODE::NameError => return Some(Answer::NoSuchName),
        RCODE::ServerFailure => return Some(Answer::Failed("SERVFAIL")),
        RCODE::Refused => return Some(Answer::Failed("REFUSED")),
        RCODE::FormatError => return Some(Answer::Failed("FORMERR")),
        RCODE::NotImplemented => return Some(Answer::Failed("NOTIMP")),
        _ => return Some(Answer::Failed("an error")),
    }
    // Follow the aliases that came along, then take the addresses of the last name.
    let mut owner = name.clone();
    for _ in 0..MOST_ALIASES {
        let alias = packet.answers.iter().find_map(|record| match &record.rdata {
            RData::CNAME(alias) if record.name == owner => Some(alias.0.clone()),
            _ => None,
        });
        match alias {
            Some(alias) => owner = alias,
            None => break,
        }
    }
    let addresses: Vec<IpAddr> = packet
        .answers
        .iter()
        .filter(|record| record.name == owner && record.class == CLASS::IN)
        .filter_map(|record| match (&record.rdata, kind) {
            (RData::A(a), QTYPE::TYPE(TYPE::A)) => Some(IpAddr::V4(a.address.into())),
            (RData::AAAA(a), QTYPE::TYPE(TYPE::AAAA)) => Some(IpAddr::V6(a.address.into())),
            _ => None,
        })
        .collect();
    Some(match addresses.is_empty() {
        // Of an answer that was cut short, the addresses that came are as good as the rest.
        false => Answer::Addresses(addresses),
        true if packet.has_flags(PacketFlag::TRUNCATION) => Answer::Truncated,
        true if owner != name => Answer::Alias(owner.to_string()),
        true => Answer::NoAddress,
    })
}

/// Drops addresses that no server can have. From DNS, loopback is one of them: it is
/// what sinkholes and half-started resolvers answer.
pub(crate) fn usable(found: Found, from_dns: bool) -> Result<Found, NameError> {
    let Found { addresses, by } = found;
    // ::ffff:127.0.0.1 is 127.0.0.1.
    let addresses: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
    let bad = |address: &IpAddr| {
        address.is_unspecified()
            || address.is_multicast()
            || matches!(address, IpAddr::V4(v4) if v4.is_broadcast())
            || from_dns && address.is_loopback()
    };
    let first = addresses.first().copied();
    let addresses: Vec<IpAddr> = addresses.into_iter().filter(|a| !bad(a)).collect();
    match first {
        Some(first) if addresses.is_empty() => Err(NameError::Unusable(by.into(), first)),
        _ => Ok(Found { addresses, by }),
    }
}

/// The addresses of `name` in a hosts file, IPv4 first.
pub(crate) fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses
}

/// A system file's text, whatever a byte of it in a comment may be.
fn read_lossy(path: &Path) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// What we take from resolv.conf.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResolvConf {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) ndots: usize,
}

impl ResolvConf {
    pub(crate) fn parse(text: &str) -> Self {
        let mut conf = Self { servers: Vec::new(), search: Vec::new(), ndots: 1 };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    conf.servers.extend(server.map(|ip| SocketAddr::new(ip, DNS_PORT)));
                }
                Some("search" | "domain") => {
                    let domains = words.map(|d| d.trim_end_matches('.').to_owned());
                    // "search ." is systemd-resolved's way to say that there is none.
                    conf.search = domains.filter(|d| !d.is_empty()).collect();
                }
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    conf.ndots = ndots.unwrap_or(conf.ndots);
                }
                _ => {}
            }
        }
        conf.servers.truncate(MOST_SERVERS);
        conf
    }

    /// The names to ask for, in order.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        let mut names: Vec<String> = self.search.iter().map(|d| format!("{name}.{d}")).collect();
        let first = name.matches('.').count() >= self.ndots;
        names.insert(if first { 0 } else { names.len() }, name.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simple_dns::ResourceRecord;
    use simple_dns::rdata::{A, AAAA, CNAME};

    const NAME: &str = "fs-1.efs.eu-west-1.amazonaws.com";

    fn reply(change: impl FnOnce(&mut Packet<'static>)) -> Vec<u8> {
        let mut packet = Packet::new_reply(7);
        let name = Name::new_unchecked(NAME);
        packet.questions.push(Question::new(name, TYPE::A.into(), CLASS::IN.into(), false));
        change(&mut packet);
        packet.build_bytes_vec_compressed().unwrap()
    }

    fn record(name: &'static str, data: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 60, data)
    }

    fn a(name: &'static str, last: u8) -> ResourceRecord<'static> {
        record(name, RData::A(A { address: u32::from_be_bytes([10, 0, 1, last]) }))
    }

    fn alias(from: &'static str, to: &'static str) -> ResourceRecord<'static> {
        record(from, RData::CNAME(CNAME(Name::new_unchecked(to))))
    }

    fn read(bytes: &[u8]) -> Option<Answer> {
        answer(bytes, Some(7), NAME, QTYPE::TYPE(TYPE::A))
    }

    #[test]
    fn addresses_come_in_order_through_aliases_and_only_for_the_name_asked() {
        let bytes = reply(|p| {
            p.answers.push(alias("b.example", "c.example"));
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(a("other.example", 9));
            p.answers.push(a("c.example", 2));
            p.answers.push(a("c.example", 1));
        });
        let expected = ["10.0.1.2", "10.0.1.1"].map(|a| a.parse().unwrap()).to_vec();
        assert_eq!(read(&bytes), Some(Answer::Addresses(expected)));
    }

    #[test]
    fn an_alias_without_an_address_is_asked_for_and_no_answer_is_no_address() {
        let bytes = reply(|p| p.answers.push(alias(NAME, "b.example")));
        assert_eq!(read(&bytes), Some(Answer::Alias("b.example".into())));
        assert_eq!(read(&reply(|_| {})), Some(Answer::NoAddress));
        let looped = reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(alias("b.example", NAME));
        });
        assert!(matches!(read(&looped), Some(Answer::Alias(_) | Answer::NoAddress)));
    }

    #[test]
    fn an_address_of_another_kind_than_asked_for_is_no_answer() {
        let v6 = record(NAME, RData::AAAA(AAAA { address: 1 << 120 }));
        let both = reply(|p| p.answers.extend([v6.clone(), a(NAME, 1)]));
        assert_eq!(read(&both), Some(Answer::Addresses(vec!["10.0.1.1".parse().unwrap()])));
        assert_eq!(read(&reply(|p| p.answers.push(v6))), Some(Answer::NoAddress));
    }

    #[test]
    fn response_codes_and_truncation_are_told_apart() {
        for (rcode, expected) in [
            (RCODE::NameError, Answer::NoSuchName),
            (RCODE::ServerFailure, Answer::Failed("SERVFAIL")),
            (RCODE::Refused, Answer::Failed("REFUSED")),
            (RCODE::YXDOMAIN, Answer::Failed("an error")),
        ] {
            assert_eq!(read(&reply(|p| *p.rcode_mut() = rcode)), Some(expected));
        }
        let cut = reply(|p| p.set_flags(PacketFlag::TRUNCATION));
        assert_eq!(read(&cut), Some(Answer::Truncated));
        let some = reply(|p| {
            p.set_flags(PacketFlag::TRUNCATION);
            p.answers.push(a(NAME, 1));
        });
        assert!(matches!(read(&some), Some(Answer::Addresses(_))));
    }

    #[test]
    fn an_opt_record_that_nobody_asked_for_changes_no_response_code() {
        let mut bytes = reply(|p| *p.rcode_mut() = RCODE::NameError);
        bytes[11] = 1; // one additional record: OPT, 1232 bytes, flags with reserved bits
        bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0x03, 0, 0]);
        assert_eq!(read(&bytes), Some(Answer::NoSuchName));
    }

    #[test]
    fn what_does_not_answer_our_question_is_passed_over() {
        let good = reply(|p| p.answers.push(a(NAME, 1)));
        assert!(read(&good).is_some());
        assert_eq!(answer(&good, Some(8), NAME, QTYPE::TYPE(TYPE::A)), None, "another id");
        assert_eq!(answer(&good, Some(7), "x.example", QTYPE::TYPE(TYPE::A)), None);
        assert_eq!(answer(&good, Some(7), NAME, QTYPE::TYPE(TYPE::AAAA)), None);
        assert_eq!(read(&query(7, NAME, TYPE::A).unwrap()), None, "a query is no answer");
        let upper = NAME.to_ascii_uppercase();
        assert!(answer(&good, Some(7), &upper, QTYPE::TYPE(TYPE::A)).is_some());
    }

    /// A name server on loopback that answers each query over UDP as `say` has it.
    fn server(at: &str, say: fn(&mut Packet<'static>)) -> SocketAddr {
        let socket = UdpSocket::bind((at, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let asked = Packet::parse(&buffer[..n]).unwrap();
                let mut bytes = reply(say);
                bytes[..2].copy_from_slice(&asked.id().to_be_bytes());
                socket.send_to(&bytes, from).unwrap();
            }
        });
        address
    }

    fn look_up(servers: &[SocketAddr]) -> (Result<Found, NameError>, Duration) {
        let stop = Stop::install().unwrap();
        let clock = crate::stop::SystemClock::new(std::time::Instant::now(), &stop);
        let resolver = Resolver { root: Path::new("/"), clock: &clock, stop: &stop };
        let until = Deadline::after(&clock, Duration::from_secs(2));
        (resolver.look_up(servers, NAME, until), clock.now())
    }

    fn good(p: &mut Packet<'static>) {
        p.answers.push(a(NAME, 7));
    }

    #[test]
    fn a_server_that_is_silent_refuses_fails_or_truncates_gives_way_to_the_next() {
        let good = server("127.0.0.1", good);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fails = server("127.0.0.1", |p| *p.rcode_mut() = RCODE::ServerFailure);
        let refuses = server("127.0.0.1", |p| *p.rcode_mut() = RCODE::Refused);
        let truncates = server("127.0.0.1", |p| p.set_flags(PacketFlag::TRUNCATION));
        let tcp = std::net::TcpListener::bind(truncates).unwrap();
        for bad in [silent, mute.local_addr().unwrap(), fails, refuses, truncates] {
            let (found, took) = look_up(&[bad, good]);
            assert_eq!(found.unwrap().addresses, ["10.0.1.7".parse::<IpAddr>().unwrap()]);
            assert!(took < Duration::from_secs(3), "{took:?}");
        }
        drop(tcp);
        assert_eq!(look_up(&[fails]).0, Err(NameError::Failed(fails.ip(), "SERVFAIL")));
        assert_eq!(look_up(&[truncates]).0, Err(NameError::Failed(fails.ip(), TRUNCATED)));
        assert!(matches!(look_up(&[silent]).0, Err(NameError::Unreachable { .. })));
        let (result, took) = look_up(&[mute.local_addr().unwrap()]);
        assert!(matches!(result, Err(NameError::Silent(..))));
        assert!(took >= Duration::from_secs(2), "{took:?}");
    }

    #[test]
    fn a_truncated_answer_is_asked_for_again_over_tcp() {
        let truncates = server("127.0.0.1", |p| p.set_flags(PacketFlag::TRUNCATION));
        let tcp = std::net::TcpListener::bind(truncates).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = tcp.accept().unwrap();
            let mut query = [0; 512];
            let n = stream.read(&mut query).unwrap();
            assert_eq!(usize::from(u16::from_be_bytes([query[0], query[1]])), n - 2);
            let bytes = reply(good);
            let whole = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            // In two pieces, the cut in the length itself.
            stream.write_all(&whole[..1]).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(&whole[1..]).unwrap();
        });
        assert_eq!(look_up(&[truncates]).0.unwrap().by, By::Server(truncates.ip()));
    }

    #[test]
    fn no_message_makes_the_reader_panic() {
        let good = reply(|p| {
            p.answers.push(alias(NAME, "b.example"));
            p.answers.push(a("b.example", 1));
            p.answers.push(record("b.example", RData::AAAA(AAAA { address: 1 })));
        });
        let mut seed = 1u64;
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as usize
        };
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=next() % 4 {
                let at = next() % bytes.len();
                bytes[at] = next() as u8;
            }
            bytes.truncate(bytes.len() - next() % 20);
            read(&bytes);
        }
        for size in 0..good.len() {
            read(&good[..size]);
        }
    }

    #[test]
    fn hosts_are_found_in_any_case_with_comments_passed_over_ipv4_first() {
        let hosts = "::1 fs-1\n127.0.0.1 localhost # fs-1\n10.0.1.12\tx FS-1 # c\nbad fs-1\n#10.0.0.9 fs-1\n";
        let found: Vec<String> = in_hosts(hosts, "fs-1").iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["10.0.1.12", "::1"]);
        assert!(in_hosts(hosts, "fs").is_empty());
    }

    #[test]
    fn resolv_conf_gives_three_servers_search_and_ndots() {
        let conf = ResolvConf::parse(
            "# c\nnameserver 10.0.0.2 ; x\nnameserver fe80::1%eth0\nnameserver ::1\nsearch a.example b.example.\n\
             options edns0 ndots:2\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(|s| s.ip().to_string()).collect();
        assert_eq!(servers, ["10.0.0.2", "::1", "1.1.1.1"]);
        assert_eq!(conf.candidates("h.x"), ["h.x.a.example", "h.x.b.example", "h.x"]);
        assert_eq!(conf.candidates("h.x.y"), ["h.x.y", "h.x.y.a.example", "h.x.y.b.example"]);
        assert!(ResolvConf::parse("").servers.is_empty());
        assert_eq!(ResolvConf::parse("search .").candidates("h.x"), ["h.x"]);
    }

    #[test]
    fn an_address_that_no_server_has_is_refused_and_loopback_only_from_dns() {
        let found = |address: &str, by| Found { addresses: vec![address.parse().unwrap()], by };
        let dns = By::Server("10.0.0.2".parse().unwrap());
        assert_eq!(
            usable(found("0.0.0.0", dns.clone()), true).unwrap_err().to_string(),
            "name server 10.0.0.2 says 0.0.0.0, which cannot be a server's address"
        );
        assert!(usable(found("127.0.0.1", dns.clone()), true).is_err());
        assert!(usable(found("::ffff:127.0.0.1", dns), true).is_err());
        assert!(usable(found("127.0.0.1", By::Hosts), false).is_ok());
        assert!(usable(found("224.0.0.1", By::Hosts), false).is_err());
    }
}
