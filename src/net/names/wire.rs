//! The sockets to the name servers: datagrams, and TCP for what does not fit one. All that is known
//! of DNS here is that a message over TCP begins with its length. Which server is asked when is
//! decided in [`super::ask`].

use crate::retry::{Clock, Deadline, Stopped};
use crate::stop::Stop;
use crate::sys;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;

/// The longest answer over TCP that is read. The addresses of any name need less, and a hostile
/// answer of 64 KB takes long to read.
const LARGEST: usize = 16 * 1024;

/// What came from a server: a datagram, or the error that the way to it reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub from: SocketAddr,
    /// The datagram's bytes, whatever they are.
    pub what: Result<Vec<u8>, Errno>,
}

/// The way to the name servers. The real one is [`Sockets`]; unit tests script another under a
/// virtual clock.
pub trait DnsTransport {
    /// Sends one datagram. A datagram that gets lost is no error.
    ///
    /// # Errors
    /// The errno, where no datagram can be sent to that server.
    fn send(&mut self, server: SocketAddr, message: &[u8]) -> Result<(), Errno>;

    /// Waits until `until` for whatever comes next from a server that was sent something.
    ///
    /// # Errors
    /// [`Stopped`].
    fn receive(&mut self, until: Deadline) -> Result<Option<Received>, Stopped>;

    /// Sends one message over TCP and returns the one that comes back before `until`, if one does.
    ///
    /// # Errors
    /// [`Stopped`].
    fn exchange(
        &mut self,
        server: SocketAddr,
        message: &[u8],
        until: Deadline,
    ) -> Result<Option<Vec<u8>>, Stopped>;
}

/// Our own sockets, one for each server. A socket is connected, so that it takes datagrams from its
/// server alone and hears of ICMP errors. Nobody can guess its port.
pub struct Sockets<'a> {
    clock: &'a dyn Clock,
    stop: &'a Stop,
    /// The socket that was used last is at the end, so that a server which never falls silent
    /// cannot keep us from the others.
    open: Vec<(SocketAddr, UdpSocket)>,
}

impl<'a> Sockets<'a> {
    /// No socket is open yet.
    pub fn new(clock: &'a dyn Clock, stop: &'a Stop) -> Self {
        Self { clock, stop, open: Vec::new() }
    }

    fn wait(&self, stream: &TcpStream, what: PollFlags, until: Deadline) -> Result<bool, Stopped> {
        let fds = [PollFd::new(stream.as_fd(), what)];
        Ok(self.stop.poll(&fds, until.left(self.clock))?.contains(&true))
    }
}

impl DnsTransport for Sockets<'_> {
    fn send(&mut self, server: SocketAddr, message: &[u8]) -> Result<(), Errno> {
        let (server, socket) = match self.open.iter().position(|(address, _)| *address == server) {
            Some(place) => self.open.remove(place),
            None => (server, sys::connect_udp(server)?),
        };

        match sys::send_now(socket.as_fd(), message) {
            // A full queue loses the datagram, as the network may.
            Ok(_) | Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EINTR) => {
                self.open.push((server, socket));
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    fn receive(&mut self, until: Deadline) -> Result<Option<Received>, Stopped> {
        let fds: Vec<PollFd<'_>> = self
            .open
            .iter()
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let ready = self.stop.poll(&fds, until.left(self.clock))?;
        drop(fds);
        let Some(place) = ready.iter().position(|ready| *ready) else {
            return Ok(None);
        };

        let (from, socket) = self.open.remove(place);
        let mut buffer = [0; 4096];
        let what = match socket.recv(&mut buffer) {
            Ok(n) => Ok(buffer.get(..n).unwrap_or_default().to_vec()),
            Err(e) => Err(Errno::try_from(e).unwrap_or(Errno::EIO)),
        };
        // After an error, the next datagram gets a new socket, with the route and the source
        // address of that moment.
        if matches!(what, Ok(_) | Err(Errno::EAGAIN)) {
            self.open.push((from, socket));
        }
        Ok(Some(Received { from, what }).filter(|heard| heard.what != Err(Errno::EAGAIN)))
    }

    fn exchange(
        &mut self,
        server: SocketAddr,
        message: &[u8],
        until: Deadline,
    ) -> Result<Option<Vec<u8>>, Stopped> {
        let Ok(mut stream) = sys::connect_tcp(server) else {
            return Ok(None);
        };

        let whole = [&(message.len() as u16).to_be_bytes(), message].concat();
        if !self.wait(&stream, PollFlags::POLLOUT, until)?
            || sys::send_now(stream.as_fd(), &whole) != Ok(whole.len())
        {
            return Ok(None);
        }

        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some((size, body)) = bytes.split_first_chunk::<2>() {
                let size = usize::from(u16::from_be_bytes(*size));
                if size > LARGEST {
                    return Ok(None);
                }
                if let Some(whole) = body.get(..size) {
                    return Ok(Some(whole.to_vec()));
                }
            }
            if until.passed(self.clock) || !self.wait(&stream, PollFlags::POLLIN, until)? {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stop::SystemClock;
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(60);

    fn with_sockets<T>(test: impl FnOnce(&mut Sockets<'_>, Deadline) -> T) -> T {
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        test(&mut Sockets::new(&clock, &stop), Deadline::after(&clock, LONG))
    }

    fn server() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn a_refusal_is_heard_and_another_server_all_the_same() {
        let (refusing, closed) = server();
        drop(refusing);
        let (open, address) = server();
        with_sockets(|sockets, until| {
            sockets.send(closed, b"a").unwrap();
            let refused = Received { from: closed, what: Err(Errno::ECONNREFUSED) };
            assert_eq!(sockets.receive(until).unwrap(), Some(refused));
            sockets.send(address, b"b").unwrap();
            let mut buffer = [0; 9];
            let (n, peer) = open.recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..n], b"b");
            // A datagram from a stranger is not accepted.
            server().0.send_to(b"forged", peer).unwrap();
            open.send_to(b"c", peer).unwrap();
            let answer = Received { from: address, what: Ok(b"c".to_vec()) };
            assert_eq!(sockets.receive(until).unwrap(), Some(answer));
        });
    }

    #[test]
    fn a_server_that_floods_does_not_drown_the_other() {
        let (flood, first) = server();
        let (good, second) = server();
        with_sockets(|sockets, until| {
            let mut buffer = [0; 9];
            sockets.send(first, b"a").unwrap();
            let (_, peer) = flood.recv_from(&mut buffer).unwrap();
            for _ in 0..20 {
                flood.send_to(b"garbage", peer).unwrap();
            }
            sockets.send(second, b"a").unwrap();
            let (_, peer) = good.recv_from(&mut buffer).unwrap();
            good.send_to(b"answer", peer).unwrap();
            let heard: Vec<Received> =
                (0..2).filter_map(|_| sockets.receive(until).unwrap()).collect();
            assert!(heard.iter().any(|heard| heard.from == second), "{heard:?}");
        });
    }

    #[test]
    fn a_message_over_tcp_may_come_in_pieces_and_an_unfinished_one_is_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut queries = Vec::new();
            for pieces in [&[&b"\0"[..], b"\x03an", b"s"][..], &[b"\0\x03an"]] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_nodelay(true).unwrap();
                let mut query = [0; 7];
                stream.read_exact(&mut query).unwrap();
                queries.push(query);
                for piece in pieces {
                    stream.write_all(piece).unwrap();
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            queries
        });
        with_sockets(|sockets, until| {
            assert_eq!(sockets.exchange(address, b"query", until), Ok(Some(b"ans".to_vec())));
            assert_eq!(sockets.exchange(address, b"query", until), Ok(None));
            assert_eq!(thread.join().unwrap(), [*b"\0\x05query"; 2]);
            assert_eq!(sockets.exchange(address, b"query", until), Ok(None), "nobody listens");
        });
    }
}
