//! The schedule: which server is asked when, how long it is waited for, and when the look-up ends. The messages are in
//! [`super::message`], the sockets in [`super::wire`].
//!
//! A question goes to one server after the other, in turn, until one answers it or the time is over. Answers are accepted
//! from every server that was asked, so a slow answer counts as much as a quick one. A lost datagram or a dead server costs
//! one turn ([`TURN`]). Garbage costs nothing and ends nothing.
//!
//! If letters are mixed, each server is asked in its own mixture, and its answer must have the same. An answer in other
//! letters may be forged, or the server may spell as it likes. That server is then asked over TCP, where a forger would have
//! to see the packets.

use super::message::{DnsAnswer, MOST_ALIASES, answer, echoes, query, spelled};
use super::wire::{DnsTransport, Received};
use super::{Answered, By, Found, NameError, Spelling};
use crate::retry::{Clock, Deadline, Span};
use crate::sys;
use simple_dns::TYPE;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long one server is waited for before the next is asked too. It is less where time is so
/// short that not every server would get a turn.
pub const TURN: Duration = Duration::from_millis(300);
const SHORTEST_TURN: Duration = Duration::from_millis(1);
/// How long a truncated answer is asked for again over TCP.
pub const TCP: Duration = Duration::from_millis(600);
const TRUNCATED: &str = "with a truncated answer, and does not give it over TCP";
const RESPELLED: &str = "with the name spelled in other letters than it was asked for, as a forger would, and does not give it over TCP";
/// After this many datagrams that settle nothing there is a pause, because a flood of them must not
/// take the processor.
pub const BURST: usize = 32;
/// How long that pause is.
pub const BREATH: Duration = Duration::from_millis(10);

/// Asks name servers. Each look-up makes one, so that a question benefits from what the one before
/// it has shown.
pub struct Asker<'a> {
    /// In the order to ask them: the one that answered last comes first.
    servers: Vec<SocketAddr>,
    spelling: Spelling,
    clock: &'a dyn Clock,
    wire: &'a mut dyn DnsTransport,
    /// The name that is looked up, before any alias. After a late answer, it is the name that this
    /// answer is about.
    wanted: String,
    /// Questions whose time was up. A late answer with addresses is still accepted.
    late: Vec<Question>,
}

impl<'a> Asker<'a> {
    /// Sends nothing yet.
    pub fn new(
        servers: &[SocketAddr],
        spelling: Spelling,
        clock: &'a dyn Clock,
        wire: &'a mut dyn DnsTransport,
    ) -> Self {
        Self {
            servers: servers.to_vec(),
            spelling,
            clock,
            wire,
            wanted: String::new(),
            late: Vec::new(),
        }
    }

    /// The addresses of `name`, found before `until`: IPv4, or IPv6 where a server says that there
    /// is no IPv4 address. So a fault with AAAA never costs an A that is there.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn addresses(&mut self, name: &str, until: Deadline) -> Result<Found, NameError> {
        self.follow(name, TYPE::A, until)
    }

    /// The IPv6 addresses of `name`, found before `until`.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn ipv6(&mut self, name: &str, until: Deadline) -> Result<Found, NameError> {
        self.follow(name, TYPE::AAAA, until)
    }

    /// The name that the last addresses belong to. A late answer may belong to an earlier name than
    /// the one asked for last.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// The addresses of `name`, wherever aliases lead. They are of this `kind`, or IPv6 if no IPv4
    /// address exists.
    fn follow(&mut self, name: &str, mut kind: TYPE, until: Deadline) -> Result<Found, NameError> {
        self.wanted = name.to_owned();
        let mut alias_of: Option<String> = None;
        let mut aliases = 0;
        // Once a server says that there is no IPv4 address, that counts, whatever becomes of the
        // question for IPv6.
        let mut no_ipv4 = None;

        loop {
            let asked = alias_of.as_deref().unwrap_or(name).to_owned();

            let (server, answer) = match self.ask(&asked, kind, until) {
                Ok(answered) => answered,
                Err(stopped @ NameError::Stopped(_)) => return Err(stopped),
                Err(e) => return Err(no_ipv4.unwrap_or_else(|| about(e, alias_of))),
            };

            match answer {
                DnsAnswer::Addresses { addresses, of } => {
                    let alias_of = of.or(alias_of);
                    let by = By::Server(Answered { alias_of, ..Answered::by(server) });
                    let ipv4_alone = kind == TYPE::A;
                    return Ok(Found { ipv4_alone, ..Found::new(addresses, by) });
                }
                DnsAnswer::Alias(alias) if aliases >= MOST_ALIASES || alias == name => {
                    return Err(NameError::Circle(server));
                }
                DnsAnswer::Circle => return Err(NameError::Circle(server)),
                DnsAnswer::Alias(alias) => {
                    aliases += 1;
                    alias_of = Some(alias);
                }
                DnsAnswer::NoAddress if kind == TYPE::A => {
                    no_ipv4 = Some(about(NameError::NoAddress(server), alias_of.clone()));
                    kind = TYPE::AAAA;
                }
                DnsAnswer::NoSuchName(of) if no_ipv4.is_none() => {
                    return Err(about(NameError::NoSuchName(server), of.or(alias_of)));
                }
                _ => return Err(no_ipv4.unwrap_or(NameError::NoAddress(server))),
            }
        }
    }

    /// Asks one question, until a server answers it. A server's word about the name is final, as it
    /// is to libc, even if another might know better. A server's word about itself (SERVFAIL,
    /// REFUSED) makes it the next server's turn. So does an error that the way to it reports.
    ///
    /// Sends one datagram each [`TURN`], and one more for each server that left its turn to the
    /// next. Where time is short, it sends one to each server, and one more.
    fn ask(
        &mut self,
        name: &str,
        kind: TYPE,
        until: Deadline,
    ) -> Result<(IpAddr, DnsAnswer), NameError> {
        let wanted = self.wanted.clone();
        let mut question = Question::new(&self.servers, self.spelling, wanted, name, kind);
        let started = self.clock.now();
        let share = until.left(self.clock).part(self.servers.len() + 1);
        let turn = TURN.min(share).max(SHORTEST_TURN);

        let mut turns = self.servers.clone().into_iter().cycle();
        let mut due = Deadline::after(self.clock, Duration::ZERO);
        let mut idle = 0;
        let mut last: Option<Deadline> = None;

        while question.is_new() || !until.passed(self.clock) {
            // Only misspelled answers have come, and each server got one more turn to be heard
            // beside a forger.
            if last.is_some_and(|last| last.passed(self.clock)) {
                break;
            }

            let heard = if due.passed(self.clock) {
                due = Deadline::after(self.clock, turn);
                idle = 0;
                let Some(server) = turns.next() else {
                    break;
                };
                self.send(&mut question, server)?
            } else {
                self.wire.receive(until.min(due))?
            };

            let fault = match heard {
                Some(Received { from, what: Ok(bytes) }) => {
                    match self.read(&mut question, from, &bytes, until)? {
                        Some(DnsAnswer::Failed(why)) => {
                            Some((from, NameError::Failed(from.ip(), why)))
                        }
                        Some(answer) => {
                            if let Some(place) = self.servers.iter().position(|s| *s == from) {
                                self.servers.swap(0, place);
                            }
                            return Ok((from.ip(), answer));
                        }
                        None => None,
                    }
                }
                Some(Received { from, what: Err(errno) }) => {
                    let servers = vec![(from.ip(), errno)];
                    Some((from, NameError::Unreachable { servers, silent: Vec::new() }))
                }
                None => None,
            };

            if last.is_none() && question.is_respelled_by_all() {
                last = Some(Deadline::after(self.clock, turn));
            }
            if let Some((server, fault)) = fault {
                question.blame(server, fault);
                if question.asked.iter().all(|asked| asked.fault.is_some()) {
                    break;
                }
                // A server that was not asked yet need not wait for its turn.
                if question.asked.iter().any(|asked| !asked.sent) {
                    due = Deadline::after(self.clock, Duration::ZERO);
                }
            }

            idle += 1;
            if idle % BURST == 0 {
                self.clock.wait(BREATH.min(until.left(self.clock)))?;
            }
        }
        let error = question.error(self.clock.now().saturating_sub(started));
        self.late.push(question);
        Err(error)
    }

    /// Sends the question to `server`. If it cannot be sent, that counts as an error heard from
    /// there.
    fn send(
        &mut self,
        question: &mut Question,
        server: SocketAddr,
    ) -> Result<Option<Received>, NameError> {
        let Some(asked) = question.asked.iter_mut().find(|asked| asked.server == server) else {
            return Ok(None);
        };
        asked.sent = true;
        let message = asked.query(question.kind).ok_or(NameError::BadName)?;

        let result = self.wire.send(server, &message);
        Ok(result.err().map(|errno| Received { from: server, what: Err(errno) }))
    }

    /// What a datagram answers to the question, or to an earlier one that was given up.
    fn read(
        &mut self,
        question: &mut Question,
        from: SocketAddr,
        bytes: &[u8],
        until: Deadline,
    ) -> Result<Option<DnsAnswer>, NameError> {
        match question.read(from, bytes) {
            Some(Read::Whole(DnsAnswer::Truncated)) => {
                let answer = self.ask_by_tcp(question, from, ByTcp::Truncated, until)?;
                Ok(answer.map(|answer| answer.unwrap_or(DnsAnswer::Failed(TRUNCATED))))
            }
            Some(Read::Whole(answer)) => Ok(Some(answer)),
            Some(Read::Respelled) => {
                let answer = self.ask_by_tcp(question, from, ByTcp::Respelled, until)?;
                // A forger may have sent it. It settles nothing, and the server can still be heard.
                if answer == Some(None) {
                    question.blame(from, NameError::Failed(from.ip(), RESPELLED));
                }
                Ok(answer.flatten())
            }
            None => {
                let late = self.late.iter().find_map(|late| match late.read(from, bytes) {
                    Some(Read::Whole(answer @ DnsAnswer::Addresses { .. })) => Some((late, answer)),
                    _ => None,
                });
                Ok(late.map(|(late, answer)| {
                    self.wanted = late.wanted.clone();
                    answer
                }))
            }
        }
    }

    /// Asks once over TCP for each server and `reason`: the result holds for the server's next
    /// answers of that kind too. The outer `None` says that it was asked before, the inner one that
    /// it does not answer.
    fn ask_by_tcp(
        &mut self,
        question: &mut Question,
        server: SocketAddr,
        reason: ByTcp,
        until: Deadline,
    ) -> Result<Option<Option<DnsAnswer>>, NameError> {
        let asked = question.asked.iter_mut().find(|asked| asked.server == server);
        let Some(asked) = asked.filter(|asked| !asked.by_tcp.contains(&reason)) else {
            return Ok(None);
        };
        asked.by_tcp.push(reason);
        let message = asked.query(question.kind).ok_or(NameError::BadName)?;

        let id = asked.id;
        let until = until.within(self.clock, TCP);
        let bytes = self.wire.exchange(server, &message, until)?;
        let answer = bytes.and_then(|bytes| answer(&bytes, id, &question.name, question.kind));
        Ok(Some(answer.filter(|answer| *answer != DnsAnswer::Truncated)))
    }
}

/// The error, as one about the name `alias_of` if an alias led there.
fn about(error: NameError, alias_of: Option<String>) -> NameError {
    match alias_of {
        Some(to) if error.is_an_answer() => NameError::Alias { to, why: error.into() },
        _ => error,
    }
}

/// A question, and the servers that were asked.
struct Question {
    /// The name that was looked up, from which aliases led to this one.
    wanted: String,
    name: String,
    kind: TYPE,
    asked: Vec<AskedServer>,
}

/// Why a server is asked over TCP.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ByTcp {
    Truncated,
    Respelled,
}

/// How a datagram relates to a question.
enum Read {
    /// It is an answer, in the letters in which the server was asked.
    Whole(DnsAnswer),
    /// It could be an answer, but is not in the letters in which the server was asked.
    Respelled,
}

/// One server, and what has come of asking it so far.
struct AskedServer {
    server: SocketAddr,
    /// The name in the letters in which this server is asked for it.
    spelled: String,
    /// The id of the messages to this server with this question, and of no others. It stays when
    /// the question is repeated, because the answer may be to any of them. More valid ids at once
    /// would make a forger's guess easier.
    id: u16,
    sent: bool,
    /// Why it was asked over TCP so far. A forger can cause [`ByTcp::Respelled`], but not
    /// [`ByTcp::Truncated`].
    by_tcp: Vec<ByTcp>,
    /// The last thing that went wrong. The server is still asked again as long as others keep us
    /// waiting.
    fault: Option<NameError>,
}

impl AskedServer {
    fn query(&self, kind: TYPE) -> Option<Vec<u8>> {
        query(self.id, &self.spelled, kind)
    }
}

impl Question {
    fn new(
        servers: &[SocketAddr],
        spelling: Spelling,
        wanted: String,
        name: &str,
        kind: TYPE,
    ) -> Self {
        let asked = servers.iter().map(|server| {
            let random = sys::random();
            AskedServer {
                server: *server,
                spelled: match spelling {
                    Spelling::Mixed => spelled(name, random >> 16),
                    Spelling::Plain => name.to_owned(),
                },
                id: random as u16,
                sent: false,
                by_tcp: Vec::new(),
                fault: None,
            }
        });
        Self { wanted, name: name.to_owned(), kind, asked: asked.collect() }
    }

    fn is_new(&self) -> bool {
        !self.asked.iter().any(|asked| asked.sent)
    }

    fn read(&self, from: SocketAddr, bytes: &[u8]) -> Option<Read> {
        let asked = self.asked.iter().find(|asked| asked.server == from)?;
        let answer = answer(bytes, asked.id, &self.name, self.kind)?;
        Some(match echoes(bytes, &asked.query(self.kind)?) {
            true => Read::Whole(answer),
            false => Read::Respelled,
        })
    }

    /// Whether every server has so far failed by an answer in other letters.
    fn is_respelled_by_all(&self) -> bool {
        let mut faults = self.asked.iter().map(|asked| &asked.fault);
        faults.all(|fault| matches!(fault, Some(NameError::Failed(_, RESPELLED))))
    }

    fn blame(&mut self, server: SocketAddr, fault: NameError) {
        if let Some(asked) = self.asked.iter_mut().find(|asked| asked.server == server) {
            asked.fault = Some(fault);
        }
    }

    /// Why it was not answered within `span`. A server's answer says more than a server that cannot
    /// be reached, and that says more than silence.
    fn error(&self, span: Duration) -> NameError {
        let faults = self.asked.iter().filter_map(|asked| asked.fault.as_ref());
        let worst = faults.min_by_key(|fault| !matches!(fault, NameError::Failed(..)));

        match worst {
            Some(NameError::Unreachable { .. }) => self.unreachable(),
            Some(other) => other.clone(),
            None => {
                let silent = self.asked.iter().filter(|asked| asked.sent);
                NameError::Silent(silent.map(|asked| asked.server.ip()).collect(), span)
            }
        }
    }

    /// The error that names all servers, because each may be the one that matters.
    fn unreachable(&self) -> NameError {
        let (mut servers, mut silent) = (Vec::new(), Vec::new());
        for asked in self.asked.iter().filter(|asked| asked.sent) {
            match &asked.fault {
                Some(NameError::Unreachable { servers: more, .. }) => servers.extend(more),
                _ => silent.push(asked.server.ip()),
            }
        }
        NameError::Unreachable { servers, silent }
    }
}
