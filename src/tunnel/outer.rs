//! Dials the file system: name, address, TCP, TLS. Everything is found anew for each connection, so that
//! a mount target that moves, or a zone that fails, costs one reconnection.

use super::aws::At;
use super::buffer::Buffer;
use super::identity::Identity;
use super::protocol::{Peer, TunnelError};
use super::relay;
use super::tls::{Client, Session};
use crate::config::Share;
use crate::net::names::{By, Found, NAME_WITH_FALLBACK, NameError, Resolver};
use crate::net::reach::{self, ReachError};
use crate::net::{IPV4_ALONE, IPV6_QUESTION};
use crate::retry::{Clock, Deadline, Span};
use crate::stop::Stop;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// On a connection on which nothing is sent, the kernel looks this often whether the server is still there,
/// and, if it says nothing, so many times more, so far apart. Where something is sent, `relay` looks: with
/// TCP_USER_TIMEOUT, the kernel would also end a connection on which a server that is there, but throttled,
/// takes nothing for a while.
const PROBED: Duration = Duration::from_secs(10);
const PROBES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(3);

/// What it takes to dial.
pub struct Dialer<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    /// Where to.
    pub share: &'a Share,
    /// How TLS is spoken.
    pub client: &'a Client,
    /// Who we are.
    pub identity: &'a Identity,
    /// The clock.
    pub clock: &'a dyn Clock,
    /// The signals.
    pub stop: &'a Stop,
}

/// A connection to the file system on which the handshake is done.
pub struct Outer {
    /// The socket.
    pub stream: TcpStream,
    /// TLS on it.
    pub session: Session,
    /// What has come on it already.
    pub plain: Buffer,
    /// Who is there.
    pub peer: Peer,
}

impl Dialer<'_> {
    /// Dials until `until`, each address that answers in turn.
    ///
    /// # Errors
    /// See [`TunnelError`]: of several addresses, what the last said.
    pub fn dial(&self, until: Deadline) -> Result<Outer, TunnelError> {
        let found = self.addresses(until)?;
        let mut left = found.addresses.clone();
        let mut may_ask = found.ipv4_alone;
        // What became of the IPv4 addresses, where only others are left.
        let mut before: Option<TunnelError> = None;
        loop {
            let port = self.share.options.port;
            // Where there may be IPv6 addresses too, the IPv4 ones are tried alone for a moment only.
            let window = if may_ask { until.within(self.clock, IPV4_ALONE) } else { until };
            let tried = reach::first_that_answers(
                &left,
                port,
                Wait { until: window, clock: self.clock, stop: self.stop },
            );
            let failure = match tried {
                Ok((address, _)) => {
                    left.retain(|other| *other != address);
                    // A part of the time that there is, if others come after this one.
                    let parts = left.len().saturating_add(1);
                    let share = until.within(self.clock, until.left(self.clock).part(parts));
                    match self.connect(address, share) {
                        Err(e) if e.is_of_the_server() => e,
                        other => return other,
                    }
                }
                Err(ReachError::Stopped(stopped)) => return Err(stopped.into()),
                Err(other) => {
                    // Those that are silent are tried on, beside the others.
                    if !may_ask || !other.has_silence() {
                        left.clear();
                    }
                    TunnelError::Reach(other.to_string())
                }
            };
            if may_ask && (left.is_empty() || matches!(failure, TunnelError::Reach(_))) {
                may_ask = false;
                if left.is_empty() {
                    before = Some(failure.clone());
                }
                let question = until.within(self.clock, IPV6_QUESTION);
                let further = self.resolver().further(&self.share.endpoint, &found, question)?;
                left.extend(further.unwrap_or_default());
            }
            if left.is_empty() || until.passed(self.clock) {
                return Err(match (before, failure) {
                    (Some(TunnelError::Reach(first)), TunnelError::Reach(last))
                        if first != last =>
                    {
                        TunnelError::Reach(format!("{first}; {last}"))
                    }
                    // What a server has said is more than that another cannot be reached.
                    (Some(first), TunnelError::Reach(_)) => first,
                    (_, failure) => failure,
                });
            }
        }
    }

    fn resolver(&self) -> Resolver<'_> {
        Resolver { root: self.root, clock: self.clock, stop: self.stop }
    }

    fn addresses(&self, until: Deadline) -> Result<Found, TunnelError> {
        let discovers = self.identity.discovers();
        let patience = match discovers {
            true => until.within(self.clock, NAME_WITH_FALLBACK),
            false => until,
        };
        let (name, listed) = (&self.share.endpoint, &self.share.addresses);
        match self.resolver().resolve_or_listed(name, listed, patience) {
            Ok(found) => Ok(found),
            Err(NameError::Stopped(stopped)) => Err(stopped.into()),
            Err(e) => {
                let what = format!("the name {name} does not resolve: {e}");
                if !discovers {
                    return Err(TunnelError::Name(what));
                }
                let at = At { root: self.root, clock: self.clock, stop: self.stop };
                let found = self.identity.mount_targets(at, until).map_err(|why| match why {
                    TunnelError::Stopped(stopped) => stopped.into(),
                    why => TunnelError::Undiscovered { what, why: Box::new(why) },
                })?;
                Ok(Found::new(found, By::Listed(e)))
            }
        }
    }

    fn connect(&self, address: IpAddr, until: Deadline) -> Result<Outer, TunnelError> {
        let port = self.share.options.port;
        let stream = sys::connect_tcp(SocketAddr::new(address, port))
            .map_err(|errno| unreached(address, port, errno))?;
        // Made while the server's answer is on its way.
        let minted = self.identity.mint(until, self.clock, self.stop)?;
        let mut session = self.client.begin(minted.certificate)?;
        let fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        if self.stop.poll(&fds, until.left(self.clock))? != [true] {
            return Err(unreached(address, port, Errno::ETIMEDOUT));
        }
        if let Ok(Some(e)) | Err(e) = stream.take_error() {
            let errno = sys::errno_of(&e);
            return Err(unreached(address, port, errno));
        }
        // Without one of these, the connection is as good as most.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &(PROBED.as_secs() as u32));
        let _ = setsockopt(&stream, sockopt::TcpKeepInterval, &(BETWEEN.as_secs() as u32));
        let _ = setsockopt(&stream, sockopt::TcpKeepCount, &PROBES);
        let mut plain = relay::plain();
        relay::handshake(&mut session, &mut plain, &stream, until, self.clock, self.stop)?;
        let peer = session.peer(address, minted.identity);
        Ok(Outer { stream, session, plain, peer })
    }

    /// Dials, makes sure that the server lets us in, and hangs up.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub fn try_out(&self, until: Deadline) -> Result<Peer, TunnelError> {
        let Outer { stream, mut session, mut plain, peer } = self.dial(until)?;
        relay::confirm(&mut session, &mut plain, &stream, until, self.clock, self.stop)?;
        relay::hang_up(&mut session, &stream);
        Ok(peer)
    }
}

/// It answered a moment ago.
fn unreached(address: IpAddr, port: u16, errno: Errno) -> TunnelError {
    let problem = reach::Problem::Errno(errno);
    let failure = ReachError::NoneAnswers { port, tried: vec![(address, problem)] };
    TunnelError::Reach(failure.to_string())
}
