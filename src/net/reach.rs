//! Finds out which of some addresses answers on its TCP port, before mount(2) connects to it. The
//! kernel's own attempts pause for seconds, and cannot be ended early. Nothing is sent on the
//! connection.

use crate::retry::{Span, Stopped, seconds};
use crate::sys;
use crate::text::unconnected;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

/// While nothing answers, a fresh connection is begun this often for each address.
pub(crate) const FRESH: Duration = Duration::from_millis(150);
/// A later address gets its first attempt this much after the one before it, or sooner if there are many. All of them have
/// begun when half of the time is over.
const STAGGER: Duration = Duration::from_millis(100);
/// The most connections under way to one address. The oldest is given up for a new one.
const MOST: usize = 4;

/// Why no address answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReachError {
    /// No address answered.
    #[error("{}", problems(.port, .tried))]
    NoneAnswers {
        port: u16,
        /// Each address with its problem, in the order they were given; never empty.
        tried: Vec<(IpAddr, Problem)>,
    },
    /// A signal ended the run.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Why one address does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Nothing came back.
    Silent {
        /// How long it was silent.
        span: Duration,
        /// The address of this machine that the route to it starts from, where there is one.
        from: Option<IpAddr>,
    },
    /// The connection was rejected, here or on the way.
    Errno(Errno),
    /// This machine has no port left to begin a connection at.
    NoPort,
}

impl ReachError {
    /// Whether an address was silent, so that it may still answer.
    pub fn has_silence(&self) -> bool {
        match self {
            Self::NoneAnswers { tried, .. } => {
                tried.iter().any(|(_, problem)| matches!(problem, Problem::Silent { .. }))
            }
            Self::Stopped(_) => false,
        }
    }
}

fn problems(port: &u16, tried: &[(IpAddr, Problem)]) -> String {
    let all = tried.iter().map(|(address, problem)| describe(*port, *address, problem));
    all.collect::<Vec<_>>().join("; ")
}

/// What came of the connections to one address, in words.
pub fn describe(port: u16, address: IpAddr, problem: &Problem) -> String {
    match problem {
        Problem::Silent { span, from } => {
            let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
            let span = seconds(*span);
            format!("TCP {port} to {address}{from} timed out (nothing came back for {span})")
        }
        Problem::NoPort => format!(
            "no connection to {address} can be begun: other programs of this machine have taken every port for it (net.ipv4.ip_local_port_range)"
        ),
        Problem::Errno(Errno::ECONNREFUSED) => {
            format!("TCP {port} to {address} was refused (nothing listens there)")
        }
        Problem::Errno(errno) => {
            let why = unconnected(*errno).unwrap_or(errno.desc());
            format!("TCP {port} to {address} failed: {why} ({errno:?})")
        }
    }
}

/// The first of `addresses` that takes a TCP connection on `port` in time. The flag says whether it
/// took a port that root alone can use, because users have taken all others.
///
/// Returns early if every address has rejected its connection.
///
/// # Errors
/// See [`ReachError`].
pub fn first_that_answers(
    addresses: &[IpAddr],
    port: u16,
    wait: Wait<'_>,
) -> Result<(IpAddr, bool), ReachError> {
    let started = wait.clock.now();
    let stagger = STAGGER.min(wait.left().part(2).part(addresses.len()));
    let mut all: Vec<Candidate> = addresses
        .iter()
        .zip(0u32..)
        .map(|(address, n)| Candidate {
            address: *address,
            due: started.saturating_add(stagger.saturating_mul(n)),
            under_way: Vec::new(),
            from_reserved: false,
            problem: None,
        })
        .collect();

    loop {
        let now = wait.clock.now();
        for candidate in &mut all {
            candidate.begin(now, port);
        }
        if all.iter().any(|candidate| candidate.problem.is_none()) && !wait.passed() {
            hurry(&mut all, now);
            let due = all.iter().map(|candidate| candidate.due).min();
            let pause = due.unwrap_or(now).saturating_sub(now);
            let fds: Vec<PollFd<'_>> = all
                .iter()
                .flat_map(|candidate| &candidate.under_way)
                .map(|stream| PollFd::new(stream.as_fd(), PollFlags::POLLOUT))
                .collect();

            let mut ready = wait.within(pause).events(&fds)?.into_iter();
            drop(fds);
            for candidate in &mut all {
                if candidate.answered(&mut ready) {
                    return Ok((candidate.address, candidate.from_reserved));
                }
            }
        } else {
            let span = now.saturating_sub(started);
            let tried = all.iter().map(|c| (c.address, c.problem_after(span))).collect();
            return Err(ReachError::NoneAnswers { port, tried });
        }
    }
}

/// After one address has rejected its connection, the next need not wait for its turn.
fn hurry(all: &mut [Candidate], now: Duration) {
    let waiting = all.iter().any(|c| c.problem.is_none() && !c.under_way.is_empty());
    if !waiting && let Some(next) = all.iter_mut().find(|c| c.problem.is_none()) {
        next.due = now;
    }
}

struct Candidate {
    address: IpAddr,
    due: Duration,
    under_way: Vec<TcpStream>,
    from_reserved: bool,
    problem: Option<Problem>,
}

impl Candidate {
    fn begin(&mut self, now: Duration, port: u16) {
        // An address that has rejected a connection is asked again as long as others are silent.
        if self.due > now {
            return;
        }
        self.due = now.saturating_add(FRESH);
        if self.under_way.len() >= MOST {
            self.under_way.remove(0);
        }

        let to = SocketAddr::new(self.address, port);
        let connected = sys::connect_tcp_by(to).map_err(|errno| match errno {
            Errno::EADDRNOTAVAIL if sys::ports_are_taken(to) => Problem::NoPort,
            other => Problem::Errno(other),
        });

        match connected {
            Ok((stream, from_reserved)) => {
                self.from_reserved |= from_reserved;
                self.under_way.push(stream);
            }
            // No descriptor or memory is left, but a connection that is under way may still answer.
            Err(Problem::Errno(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS))
                if !self.under_way.is_empty() =>
            {
                self.under_way.remove(0);
            }
            Err(problem) => self.problem = Some(problem),
        }
    }

    /// Its problem, if it has not answered in all of `span`.
    fn problem_after(&self, span: Duration) -> Problem {
        self.problem.unwrap_or_else(|| Problem::Silent { span, from: self.from() })
    }

    /// This machine's address on the route to it.
    fn from(&self) -> Option<IpAddr> {
        let from = self.under_way.last()?.local_addr().ok()?.ip();
        (!from.is_unspecified()).then_some(from)
    }

    /// Whether one of the connections under way stands by now. `ready` yields the events of each.
    fn answered(&mut self, ready: &mut impl Iterator<Item = PollFlags>) -> bool {
        let mut stands = false;
        let mut failed = None;
        for stream in &self.under_way {
            match ready.next() {
                Some(PollFlags::POLLOUT) => {
                    stands = true;
                    continue;
                }
                Some(events) if !events.is_empty() => {}
                _ => continue,
            }

            match stream.take_error() {
                Ok(None) => stands = true,
                Ok(Some(e)) | Err(e) => failed = e.raw_os_error(),
            }
        }

        if let (Some(raw), false) = (failed, stands) {
            self.under_way.clear();
            self.problem = Some(Problem::Errno(Errno::from_raw(raw)));
        }
        stands
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Clock;
    use crate::stop::{Stop, SystemClock};
    use std::net::TcpListener;
    use std::time::Instant;

    fn reach(addresses: &[&str], port: u16, window: u64) -> (Result<IpAddr, ReachError>, Duration) {
        let (result, took) = reached(addresses, port, window);
        (result.map(|(address, _)| address), took)
    }

    fn reached(
        addresses: &[&str],
        port: u16,
        window: u64,
    ) -> (Result<(IpAddr, bool), ReachError>, Duration) {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let wait = Wait::of(Duration::from_millis(window), &clock, &stop);
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let result = first_that_answers(&addresses, port, wait);
        (result, clock.now())
    }

    #[test]
    fn a_refusal_is_told_at_once_with_each_address() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (result, took) = reach(&["127.0.0.1", "127.0.0.2"], port, 60_000);
        let text = result.unwrap_err().to_string();
        assert_eq!(
            text,
            format!(
                "TCP {port} to 127.0.0.1 was refused (nothing listens there); \
                 TCP {port} to 127.0.0.2 was refused (nothing listens there)"
            )
        );
        assert!(took < Duration::from_secs(30), "it waited for nothing: {took:?}");
    }

    #[test]
    fn a_port_that_opens_is_seen_while_another_address_is_silent() {
        // A full backlog of a listener that accepts nothing is as silent as a dropped SYN.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = silent.local_addr().unwrap().port();
        nix::sys::socket::listen(&silent, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let _full: Vec<_> =
            (0..3).map(|_| sys::connect_tcp(silent.local_addr().unwrap()).unwrap()).collect();
        let opens = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(700));
            (TcpListener::bind(("127.0.0.2", port)).unwrap(), Instant::now())
        });
        let (result, _) = reach(&["127.0.0.1", "127.0.0.2"], port, 60_000);
        let seen = Instant::now();
        assert_eq!(result.unwrap(), "127.0.0.2".parse::<IpAddr>().unwrap());
        let (_listener, opened) = opens.join().unwrap();
        assert!(seen.duration_since(opened) < Duration::from_secs(30), "it was not asked again");
    }

    #[test]
    fn a_second_address_answers_when_the_first_is_refused() {
        let server = TcpListener::bind("127.0.0.2:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let (result, _) = reach(&["127.0.0.77", "127.0.0.2"], port, 3000);
        assert_eq!(result.unwrap(), "127.0.0.2".parse::<IpAddr>().unwrap());
    }
}
