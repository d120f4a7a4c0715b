//! Dials the file system: name, address, TCP, TLS. Everything is looked up again for each connection, so a mount target
//! that moves, or a zone that fails, costs one reconnection. What is sent over the connection does not belong here.

use super::buffer::Buffer;
use super::identity::Identity;
use super::protocol::{Peer, TunnelError};
use super::relay;
use super::tls::{TlsClient, TlsSession};
use crate::config::Share;
use crate::net::names::{By, Found, NAME_WITH_FALLBACK, NameError, Resolver};
use crate::net::reach::{self, ReachError};
use crate::net::{IPV4_ALONE, IPV6_QUESTION};
use crate::retry::Span;
use crate::sys;
use crate::wait::Wait;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// Keepalive of an idle connection: how long nothing is sent before the first probe, how many probes follow, and how far
/// apart. While something is sent, `relay` watches the server instead. TCP_USER_TIMEOUT would also end a connection
/// to a server that is only throttled and accepts nothing for a while.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);

/// What is needed to dial.
pub struct Dialer<'a> {
    /// `/` outside of tests.
    pub root: &'a Path,
    pub share: &'a Share,
    pub client: &'a TlsClient,
    pub identity: &'a Identity,
}

/// A connection to the file system on which the handshake is done.
pub struct ServerSide {
    pub stream: TcpStream,
    pub session: TlsSession,
    /// Data that arrived with the end of the handshake.
    pub plain: Buffer,
    pub peer: Peer,
}

impl Dialer<'_> {
    /// Dials each address that answers in turn.
    ///
    /// # Errors
    /// See [`TunnelError`]; with several addresses, the error of the last one.
    pub fn dial(&self, wait: Wait<'_>) -> Result<ServerSide, TunnelError> {
        let found = self.addresses(wait)?;
        let mut left = found.addresses.clone();
        let mut may_ask = found.ipv4_alone;
        // The error of the IPv4 addresses, once only IPv6 addresses are left to try.
        let mut before: Option<TunnelError> = None;

        loop {
            let port = self.share.options.port;
            // If there may be IPv6 addresses, too, the IPv4 ones are tried alone only for a moment.
            let window = if may_ask { wait.within(IPV4_ALONE) } else { wait };

            let failure = match reach::first_that_answers(&left, port, window) {
                Ok((address, _)) => {
                    left.retain(|other| *other != address);
                    // Only a part of the time left, if other addresses follow.
                    let parts = left.len().saturating_add(1);
                    match self.connect(address, wait.within(wait.left().part(parts))) {
                        Err(e) if e.is_of_the_server() => e,
                        other => return other,
                    }
                }
                Err(ReachError::Stopped(stopped)) => return Err(stopped.into()),
                Err(other) => {
                    // Silent addresses are tried again, together with the others.
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
                let question = wait.within(IPV6_QUESTION);
                let resolver = self.resolver(question);
                let further = resolver.further(&self.share.endpoint, &found, question.until)?;
                left.extend(further.unwrap_or_default());
            }

            if left.is_empty() || wait.passed() {
                return Err(joined(before, failure));
            }
        }
    }

    fn resolver<'b>(&'b self, wait: Wait<'b>) -> Resolver<'b> {
        Resolver { root: self.root, clock: wait.clock, stop: wait.stop }
    }

    fn addresses(&self, wait: Wait<'_>) -> Result<Found, TunnelError> {
        let discovers = self.identity.discovers();
        let patience = if discovers { wait.within(NAME_WITH_FALLBACK) } else { wait };
        let (name, listed) = (&self.share.endpoint, &self.share.addresses);

        match self.resolver(wait).resolve_or_listed(name, listed, patience.until) {
            Ok(found) => Ok(found),
            Err(NameError::Stopped(stopped)) => Err(stopped.into()),
            Err(e) => {
                let what = format!("the name {name} does not resolve: {e}");
                if !discovers {
                    return Err(TunnelError::Name(what));
                }

                let found =
                    self.identity.mount_targets(self.root, wait).map_err(|why| match why {
                        TunnelError::Stopped(stopped) => stopped.into(),
                        why => TunnelError::Undiscovered { what, why: Box::new(why) },
                    })?;
                Ok(Found::new(found, By::Listed(e)))
            }
        }
    }

    fn connect(&self, address: IpAddr, wait: Wait<'_>) -> Result<ServerSide, TunnelError> {
        let port = self.share.options.port;
        let stream = sys::connect_tcp(SocketAddr::new(address, port))
            .map_err(|errno| unreached(address, port, errno))?;

        // The certificate is made while the server's answer is on its way.
        let minted = self.identity.mint(wait)?;
        let mut session = self.client.begin(minted.certificate)?;

        let fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
        if wait.poll(&fds)? != [true] {
            return Err(unreached(address, port, Errno::ETIMEDOUT));
        }
        if let Ok(Some(e)) | Err(e) = stream.take_error() {
            let errno = sys::errno_of(&e);
            return Err(unreached(address, port, errno));
        }

        // The connection works without these, too.
        let _ = stream.set_nodelay(true);
        let _ = setsockopt(&stream, sockopt::KeepAlive, &true);
        let _ = setsockopt(&stream, sockopt::TcpKeepIdle, &(KEEPALIVE_IDLE.as_secs() as u32));
        let _ =
            setsockopt(&stream, sockopt::TcpKeepInterval, &(KEEPALIVE_INTERVAL.as_secs() as u32));
        let _ = setsockopt(&stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES);

        let mut plain = relay::plain();
        relay::handshake(&mut session, &mut plain, &stream, wait)?;

        let peer = session.peer(address, minted.identity);
        Ok(ServerSide { stream, session, plain, peer })
    }

    /// Dials, makes sure that the server lets us in, and hangs up.
    ///
    /// # Errors
    /// See [`TunnelError`].
    pub fn try_out(&self, wait: Wait<'_>) -> Result<Peer, TunnelError> {
        let ServerSide { stream, mut session, mut plain, peer } = self.dial(wait)?;
        relay::confirm(&mut session, &mut plain, &stream, wait)?;
        relay::hang_up(&mut session, &stream);
        Ok(peer)
    }
}

/// The error that is reported if neither the IPv4 addresses (`before`) nor the others lead to a connection.
fn joined(before: Option<TunnelError>, failure: TunnelError) -> TunnelError {
    match (before, failure) {
        (Some(TunnelError::Reach(first)), TunnelError::Reach(last)) if first != last => {
            TunnelError::Reach(format!("{first}; {last}"))
        }
        // An answer of a server says more than that another one cannot be reached.
        (Some(first), TunnelError::Reach(_)) => first,
        (_, failure) => failure,
    }
}

/// The error for an address that answered a moment ago and cannot be connected to now.
fn unreached(address: IpAddr, port: u16, errno: Errno) -> TunnelError {
    let problem = reach::Problem::Errno(errno);
    let failure = ReachError::NoneAnswers { port, tried: vec![(address, problem)] };
    TunnelError::Reach(failure.to_string())
}
