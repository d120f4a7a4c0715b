//! Turns an endpoint into addresses: it is an address, or the hosts file or DNS knows it. All of it is bounded in time, and
//! no connection is opened to an address that is found.
//!
//! libc's resolver is not used: it reads resolv.conf once, loads the system's NSS modules, and waits 5 s for a lost packet.
//!
//! The order of the steps is here. `files` reads hosts and resolv.conf, `ask` decides which server is asked when, `message`
//! reads and writes DNS, and `wire` has the sockets.

pub(crate) mod ask;
pub(crate) mod files;
pub(crate) mod message;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use crate::config::Endpoint;
use crate::retry::{Clock, Deadline, Span, Stopped, seconds};
use crate::stop::Stop;
use ask::Asker;
use files::{ResolvConf, in_hosts};
use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::stat::stat;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use wire::{DnsTransport, Sockets};

/// How long a silent name server gets where the config has addresses to fall back on.
pub const NAME_WITH_FALLBACK: Duration = Duration::from_secs(1);
/// The most addresses that are kept. No file system has as many mount targets, and over TCP a name
/// server can send thousands.
const MOST_ADDRESSES: usize = 16;

/// The addresses of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// At least one, the best first.
    pub addresses: Vec<IpAddr>,
    pub by: By,
    /// How many of the addresses are the config's `addresses`. These are the last ones.
    pub listed: usize,
    /// The name has IPv4 addresses, and its IPv6 addresses were not asked for.
    pub ipv4_alone: bool,
}

impl Found {
    /// Addresses after which no further ones need be asked for.
    pub fn new(addresses: Vec<IpAddr>, by: By) -> Self {
        Self { addresses, by, listed: 0, ipv4_alone: false }
    }

    /// Puts the addresses of the other family behind those that the name server gave.
    pub fn add(&mut self, further: Vec<IpAddr>) {
        self.ipv4_alone = false;
        let place = self.addresses.len().saturating_sub(self.listed);
        let listed = self.addresses.split_off(place);
        for address in further.into_iter().chain(listed.iter().copied()) {
            if !self.addresses.contains(&address) {
                self.addresses.push(address);
            }
        }
        self.listed = self.addresses.iter().filter(|a| listed.contains(a)).count();
    }

    /// Adds the config's `addresses` at the end, except those that the name has given.
    pub fn list(&mut self, listed: &[IpAddr]) {
        let mut listed = listed.to_vec();
        listed.retain(|address| !self.addresses.contains(address));
        self.listed = listed.len();
        self.addresses.extend(listed);
    }

    /// The name with a search domain added, if that is the one that has the addresses.
    pub fn completed(&self) -> Option<&str> {
        match &self.by {
            By::Server(answered) => answered.completed.as_deref(),
            _ => None,
        }
    }
}

/// Where addresses come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// The endpoint is an address.
    Literal,
    /// /etc/hosts.
    Hosts,
    /// A name server.
    Server(Answered),
    /// The config's `addresses`, because the name gave none.
    Listed(NameError),
    /// The config's `addresses`, beside those of the name.
    Config,
}

/// Which name server answered, and for which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    pub server: IpAddr,
    /// The name with a search domain added, if that is the one that has the addresses.
    pub completed: Option<String>,
    /// The name that has the addresses, if the name in the question is an alias of it.
    pub alias_of: Option<String>,
}

impl Answered {
    /// `server` answered, and the name itself has the addresses.
    pub fn by(server: IpAddr) -> Self {
        Self { server, completed: None, alias_of: None }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "name server {}", self.server)?;
        if let Some(name) = &self.completed {
            write!(f, ", which knows it as {name}, by a search domain")?;
        }
        if let Some(name) = &self.alias_of {
            write!(f, ", as an alias of {name}")?;
        }
        Ok(())
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal => f.write_str("as configured"),
            Self::Listed(why) => {
                write!(f, "from `addresses`, since the name does not resolve: {why}")
            }
            Self::Hosts => f.write_str("/etc/hosts"),
            Self::Config => f.write_str("`addresses`"),
            Self::Server(answered) => answered.fmt(f),
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
    /// The query could not be sent to these, or was rejected on the way.
    #[error("{}", unreached(.servers, .silent))]
    Unreachable {
        /// The name servers, and why.
        servers: Vec<(IpAddr, Errno)>,
        /// Others from which nothing came back.
        silent: Vec<IpAddr>,
    },
    /// The name is an alias that leads back to itself, or on without end.
    #[error("name server {0} has aliases without end for it")]
    Circle(IpAddr),
    /// NXDOMAIN.
    #[error("name server {0} says that there is no such name (NXDOMAIN)")]
    NoSuchName(IpAddr),
    /// The name exists, but has neither an IPv4 nor an IPv6 address.
    #[error("name server {0} knows the name, but no address for it")]
    NoAddress(IpAddr),
    /// The name is an alias that leads to no address.
    #[error("it is an alias of {to}, and {why}")]
    Alias {
        /// Where the alias leads.
        to: String,
        /// What became of that name.
        why: Box<NameError>,
    },
    /// SERVFAIL, REFUSED, ….
    #[error("name server {0} answers {1}")]
    Failed(IpAddr, &'static str),
    /// The answer is an address that no server can have.
    #[error("{0} says {1}, which cannot be a server's address")]
    Unusable(Box<By>, IpAddr),
    /// The name cannot be put into a query.
    #[error("the name is too long for DNS")]
    BadName,
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl NameError {
    /// Whether a server has answered.
    fn is_an_answer(&self) -> bool {
        match self {
            Self::NoSuchName(_) | Self::NoAddress(_) | Self::Circle(_) | Self::Failed(..) => true,
            Self::Alias { why, .. } => why.is_an_answer(),
            _ => false,
        }
    }

    /// Whether nothing was sent to another machine, so that the look-up may be repeated at once and
    /// often.
    pub fn costs_nobody(&self) -> bool {
        match self {
            Self::NoServers(_) | Self::BadName => true,
            Self::Unusable(by, _) => **by == By::Hosts,
            Self::Unreachable { servers, silent } => {
                silent.is_empty()
                    && servers.iter().all(|(server, errno)| {
                        server.is_loopback()
                            || matches!(errno, Errno::ENETUNREACH | Errno::ENETDOWN)
                    })
            }
            _ => false,
        }
    }
}

fn unreached(servers: &[(IpAddr, Errno)], silent: &[IpAddr]) -> String {
    let mut all = Vec::new();
    for (server, errno) in servers {
        let why = errno.desc().to_lowercase();
        all.push(format!("name server {server} cannot be reached: {why} ({errno:?})"));
    }
    if !silent.is_empty() {
        all.push(format!("no answer from name server {}", join(silent)));
    }
    all.join("; ")
}

fn join(servers: &[IpAddr]) -> String {
    servers.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" or ")
}

/// The machine that a look-up is made on.
#[derive(Clone, Copy)]
pub struct Resolver<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    pub clock: &'a dyn Clock,
    pub stop: &'a Stop,
}

impl Resolver<'_> {
    /// The addresses of `endpoint`, found before `until`. hosts and resolv.conf are read each time, because they change
    /// during a session start.
    ///
    /// # Errors
    /// See [`NameError`]. Each of them may go away by itself.
    pub fn resolve(&self, endpoint: &Endpoint, until: Deadline) -> Result<Found, NameError> {
        LETTERS.by_turns(|spelling| {
            let mut wire = Sockets::new(self.clock, self.stop);
            let result = self.look_up(spelling, until, &mut wire).resolve(endpoint);
            (result, until.passed(self.clock))
        })
    }

    /// The addresses of `endpoint`, followed by those of the config's addresses (`listed`) that the
    /// name did not give. If the name does not resolve, these are all. Because of them, a silent
    /// name server gets no more than [`NAME_WITH_FALLBACK`].
    ///
    /// # Errors
    /// See [`NameError`]. Each of them may go away by itself.
    pub fn resolve_or_listed(
        &self,
        endpoint: &Endpoint,
        listed: &[IpAddr],
        until: Deadline,
    ) -> Result<Found, NameError> {
        if listed.is_empty() {
            return self.resolve(endpoint, until);
        }

        match self.resolve(endpoint, until.within(self.clock, NAME_WITH_FALLBACK)) {
            Ok(mut found) => {
                found.list(listed);
                Ok(found)
            }
            Err(stopped @ NameError::Stopped(_)) => Err(stopped),
            Err(e) => Ok(Found::new(listed.to_vec(), By::Listed(e))),
        }
    }

    /// The addresses that the name servers give for a name as it is written, whatever /etc/hosts
    /// says. With `ipv6` these are its IPv6 addresses, else those that a look-up would give.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn past_hosts(
        &self,
        endpoint: &Endpoint,
        ipv6: bool,
        until: Deadline,
    ) -> Result<Found, NameError> {
        let Endpoint::Name(name) = endpoint else {
            return self.resolve(endpoint, until);
        };
        let mut wire = Sockets::new(self.clock, self.stop);
        let whole = format!("{}.", name.strip_suffix('.').unwrap_or(name));
        let look_up = self.look_up(LETTERS.next(), until, &mut wire);
        if ipv6 { look_up.ipv6(&whole) } else { look_up.by_servers(&whole) }
    }

    /// The IPv6 addresses of a name whose IPv4 addresses were found; `None` if no server answered that.
    ///
    /// # Errors
    /// A signal ended the run.
    pub fn further(
        &self,
        endpoint: &Endpoint,
        found: &Found,
        until: Deadline,
    ) -> Result<Option<Vec<IpAddr>>, Stopped> {
        let (Endpoint::Name(name), true) = (endpoint, found.ipv4_alone) else {
            return Ok(Some(Vec::new()));
        };
        let mut wire = Sockets::new(self.clock, self.stop);
        let name = found.completed().unwrap_or(name);
        self.look_up(LETTERS.next(), until, &mut wire).further(name)
    }

    fn look_up<'b>(
        &'b self,
        spelling: Spelling,
        until: Deadline,
        wire: &'b mut dyn DnsTransport,
    ) -> LookUp<'b> {
        LookUp { root: self.root, spelling, until, clock: self.clock, wire }
    }

    /// A value that changes when hosts or resolv.conf change.
    pub fn stamp(root: &Path) -> Stamp {
        ["etc/hosts", "etc/resolv.conf"].map(|file| {
            let found = stat(&root.join(file)).ok()?;
            Some((found.st_dev, found.st_ino, found.st_size, found.st_mtime, found.st_mtime_nsec))
        })
    }
}

/// Device, inode, size and time of change (seconds, nanoseconds) of /etc/hosts and /etc/resolv.conf, if they are there.
pub type Stamp = [Option<(u64, u64, i64, i64, i64)>; 2];

/// The letters in which names are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Upper and lower case at random: a forger of answers must guess it.
    Mixed,
    /// As written.
    Plain,
}

impl Spelling {
    fn plain(plain: bool) -> Self {
        if plain { Self::Plain } else { Self::Mixed }
    }
}

/// The letters for the next look-up of this process.
static LETTERS: Letters = Letters::new();

/// Chooses the spelling of each look-up. Some name servers know no name in mixed letters, answer in
/// others, or are silent. A look-up that fails in one spelling is followed by one in the other: the
/// first time at once, later only at the next look-up. So a name that does not exist is not asked
/// for twice each time.
struct Letters {
    plain: AtomicBool,
    /// Whether both spellings have been tried.
    both: AtomicBool,
}

impl Letters {
    const fn new() -> Self {
        Self { plain: AtomicBool::new(false), both: AtomicBool::new(false) }
    }

    /// The letters whose turn it is.
    fn next(&self) -> Spelling {
        Spelling::plain(self.plain.load(Ordering::Relaxed))
    }

    /// The result of `ask` in the letters whose turn it is. `ask` also returns whether its time is over.
    fn by_turns(
        &self,
        mut ask: impl FnMut(Spelling) -> (Result<Found, NameError>, bool),
    ) -> Result<Found, NameError> {
        let plain = self.plain.load(Ordering::Relaxed);
        let (result, is_late) = ask(Spelling::plain(plain));

        let Err(
            NameError::Silent(..)
            | NameError::NoSuchName(_)
            | NameError::NoAddress(_)
            | NameError::Alias { .. }
            | NameError::Circle(_)
            | NameError::Failed(..),
        ) = result
        else {
            return result;
        };

        self.plain.store(!plain, Ordering::Relaxed);
        if is_late || self.both.swap(true, Ordering::Relaxed) {
            return result;
        }

        match ask(Spelling::plain(!plain)).0 {
            Err(stopped @ NameError::Stopped(_)) => Err(stopped),
            found => found.or(result),
        }
    }
}

/// One look-up: where its files are, how it asks, and for how long.
pub(crate) struct LookUp<'a> {
    /// `/` outside of tests.
    pub(crate) root: &'a Path,
    pub(crate) spelling: Spelling,
    pub(crate) until: Deadline,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) wire: &'a mut dyn DnsTransport,
}

impl LookUp<'_> {
    pub(crate) fn resolve(self, endpoint: &Endpoint) -> Result<Found, NameError> {
        let name = match endpoint {
            Endpoint::Address(address) => return Ok(Found::new(vec![*address], By::Literal)),
            Endpoint::Name(name) => name,
        };

        let hosts = read_lossy(&self.root.join("etc/hosts")).unwrap_or_default();
        let addresses = in_hosts(&hosts, name);
        if !addresses.is_empty() {
            return usable(Found::new(addresses, By::Hosts), false);
        }
        self.by_servers(name)
    }

    fn by_servers(self, name: &str) -> Result<Found, NameError> {
        let conf = resolv_conf(self.root)?;
        usable(self.ask(&conf, name)?, true)
    }

    fn ipv6(self, name: &str) -> Result<Found, NameError> {
        let conf = resolv_conf(self.root)?;
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut asker = Asker::new(&conf.servers, self.spelling, self.clock, self.wire);
        usable(asker.ipv6(name, self.until)?, true)
    }

    fn further(self, name: &str) -> Result<Option<Vec<IpAddr>>, Stopped> {
        match self.ipv6(name) {
            Ok(found) => Ok(Some(found.addresses)),
            Err(NameError::Stopped(stopped)) => Err(stopped),
            Err(NameError::Unusable(..)) => Ok(Some(Vec::new())),
            Err(error) if error.is_an_answer() => Ok(Some(Vec::new())),
            Err(_) => Ok(None),
        }
    }

    /// Asks for `name`, and for what search domains make of it.
    pub(crate) fn ask(self, conf: &ResolvConf, name: &str) -> Result<Found, NameError> {
        if conf.servers.is_empty() {
            return Err(NameError::NoServers(match conf.odd_servers {
                true => "has no address in its `nameserver` lines",
                false => "names no name server",
            }));
        }

        let Self { until, clock, .. } = self;
        let mut asker = Asker::new(&conf.servers, self.spelling, clock, self.wire);
        let candidates = conf.candidates(name);
        let written = name.strip_suffix('.').unwrap_or(name);
        let mut left = candidates.len();
        let mut error = None;
        for candidate in &candidates {
            let as_it_is = candidate == written;
            // A short name that search domains complete is a row of guesses: silence about one must leave time for
            // the others. A name that comes first as it is written has all the time there is. Only an answer leads
            // on from it, because what a search domain makes of it may be another machine.
            let share = if as_it_is { 1 } else { left };
            left -= 1;

            match asker.addresses(candidate, until.within(clock, until.left(clock).part(share))) {
                Ok(mut found) => {
                    if let By::Server(answered) = &mut found.by
                        && asker.wanted() != written
                    {
                        answered.completed = Some(asker.wanted().to_owned());
                    }
                    return Ok(found);
                }
                Err(stopped @ NameError::Stopped(_)) => return Err(stopped),
                Err(e) => {
                    // An error that a server answered counts most. Among equal ones, the error
                    // about the name as written counts.
                    let rank = (e.is_an_answer(), as_it_is);
                    if error.as_ref().is_none_or(|(best, _)| rank > *best) {
                        error = Some((rank, e));
                    }
                    if rank == (false, true) || until.passed(clock) {
                        break;
                    }
                }
            }
        }
        Err(error.map_or(NameError::BadName, |(_, e)| e))
    }
}

fn resolv_conf(root: &Path) -> Result<ResolvConf, NameError> {
    match read_lossy(&root.join("etc/resolv.conf")) {
        Ok(text) => Ok(ResolvConf::parse(&text, scope)),
        Err(Errno::ENOENT) => Err(NameError::NoServers("does not exist")),
        Err(_) => Err(NameError::NoServers("cannot be read")),
    }
}

/// The number of a network interface; resolv.conf has its name or its number.
fn scope(interface: &str) -> Option<u32> {
    if_nametoindex(interface).ok().or_else(|| interface.parse().ok())
}

/// Drops addresses that no server can have, and those above [`MOST_ADDRESSES`]. Loopback is dropped
/// if it comes from DNS: sinkholes and resolvers that are still starting answer with it.
pub(crate) fn usable(found: Found, from_dns: bool) -> Result<Found, NameError> {
    let mut addresses = Vec::new();
    // ::ffff:127.0.0.1 is 127.0.0.1.
    for address in found.addresses.iter().map(IpAddr::to_canonical) {
        let fits = can_be_a_servers(address) && !(from_dns && address.is_loopback());
        if fits && addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }

    match found.addresses.first() {
        Some(first) if addresses.is_empty() => {
            Err(NameError::Unusable(found.by.into(), first.to_canonical()))
        }
        _ => Ok(Found { addresses, ..found }),
    }
}

fn can_be_a_servers(address: IpAddr) -> bool {
    let special = match address {
        IpAddr::V4(v4) => v4.is_broadcast(),
        // A link-local address is useless without its interface, which no answer gives.
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(special || address.is_unspecified() || address.is_multicast())
}

/// The text of a system file, even if a comment in it is no UTF-8. Zeros, which a crash may leave, become blanks.
fn read_lossy(path: &Path) -> Result<String, Errno> {
    Ok(String::from_utf8_lossy(&crate::files::whole(path)?).replace('\0', " "))
}
