//! Sockets: connections that are begun without waiting, and messages that are sent and received without waiting. No
//! deadline and no retry live here.
#![forbid(unsafe_code)]

use super::random;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind,
    connect, recv, send, sendto, socket,
};
use std::ffi::CStr;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

const NOT_BLOCKING: SockFlag = SockFlag::SOCK_CLOEXEC.union(SockFlag::SOCK_NONBLOCK);
const NOW: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// Starts a non-blocking TCP connection to `address`. If every port that anybody may use is taken, root gets one that
/// others cannot have.
///
/// # Errors
/// The errno of socket(2) or connect(2); EINPROGRESS is no error. EADDRNOTAVAIL: no port is left for it
/// ([`ports_are_taken`]), or this machine has no address to begin it at.
pub fn connect_tcp(address: SocketAddr) -> Result<TcpStream, Errno> {
    connect_tcp_by(address).map(|(stream, _)| stream)
}

/// Like [`connect_tcp`], and says whether it took a port that others cannot have.
///
/// # Errors
/// As [`connect_tcp`].
pub fn connect_tcp_by(address: SocketAddr) -> Result<(TcpStream, bool), Errno> {
    match connect_from_any(address, SockType::Stream) {
        Err(none @ Errno::EADDRNOTAVAIL) if ports_are_taken(address) => {
            let reserved = connect_from_reserved(address, SockType::Stream);
            reserved.ok().flatten().map(|fd| (fd.into(), true)).ok_or(none)
        }
        other => other.map(|fd| (fd.into(), false)),
    }
}

/// Like [`connect_tcp`], from a port that root alone can have, if this is root and one is free.
///
/// # Errors
/// The errno of socket(2) or connect(2); EINPROGRESS is no error.
pub fn connect_tcp_from_reserved(address: SocketAddr) -> Result<TcpStream, Errno> {
    match connect_from_reserved(address, SockType::Stream)? {
        Some(connected) => Ok(connected.into()),
        None => connect_tcp(address),
    }
}

/// A non-blocking UDP socket that was never open to any sender except `address`. If every port that anybody may use is
/// taken, root gets one that others cannot have.
///
/// # Errors
/// The errno of socket(2) or connect(2).
pub fn connect_udp(address: SocketAddr) -> Result<UdpSocket, Errno> {
    match connect_from_any(address, SockType::Datagram) {
        Err(none @ Errno::EAGAIN) => {
            let reserved = connect_from_reserved(address, SockType::Datagram);
            reserved.ok().flatten().map(Into::into).ok_or(none)
        }
        other => other.map(Into::into),
    }
}

/// Whether every port is taken that the kernel gives to a connection to `address` (net.ipv4.ip_local_port_range).
pub fn ports_are_taken(address: SocketAddr) -> bool {
    let unused = socket_for(address, SockType::Stream, SockFlag::SOCK_CLOEXEC)
        .and_then(|fd| bind(fd.as_raw_fd(), &from_port(address, 0)));
    unused == Err(Errno::EADDRINUSE)
}

/// Begins a connection from a port that root alone can have. Gives `None` if this is not root, or no such port is free.
fn connect_from_reserved(address: SocketAddr, kind: SockType) -> Result<Option<OwnedFd>, Errno> {
    const PORTS: std::ops::Range<u16> = 600..1024;
    /// So many ports may be refused because the last connection from them is not forgotten yet. After more refusals,
    /// there is another reason.
    const REFUSED: u32 = 8;

    let first = random() as usize % PORTS.len();
    let mut refused = 0;
    for port in PORTS.cycle().skip(first).take(PORTS.len()) {
        let fd = socket_for(address, kind, NOT_BLOCKING)?;
        match bind(fd.as_raw_fd(), &from_port(address, port)) {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => continue,
            Err(Errno::EACCES) => return Ok(None),
            Err(errno) => return Err(errno),
        }
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) | Err(Errno::EINPROGRESS) => return Ok(Some(fd)),
            Err(Errno::EADDRNOTAVAIL) if refused < REFUSED => refused += 1,
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

fn connect_from_any(address: SocketAddr, kind: SockType) -> Result<OwnedFd, Errno> {
    let fd = socket_for(address, kind, NOT_BLOCKING)?;
    begin(fd, &SockaddrStorage::from(address))
}

fn begin(fd: OwnedFd, address: &dyn SockaddrLike) -> Result<OwnedFd, Errno> {
    match connect(fd.as_raw_fd(), address) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// A socket of the same family as `address`.
fn socket_for(address: SocketAddr, kind: SockType, flags: SockFlag) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, flags, None)
}

/// A port on every address of this machine, in the same family as `address`.
fn from_port(address: SocketAddr, port: u16) -> SockaddrStorage {
    let from: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
    };
    from.into()
}

/// A non-blocking connection to the local socket at `path`; EAGAIN if its queue is full.
///
/// # Errors
/// The errno of socket(2) or connect(2); ENAMETOOLONG if no socket can have that path.
pub fn connect_unix(path: &Path) -> Result<UnixStream, Errno> {
    let address = UnixAddr::new(path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, NOT_BLOCKING, None)?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd.into())
}

/// Sends one datagram or a part of a stream without ever blocking or raising SIGPIPE.
///
/// # Errors
/// The errno, EAGAIN if the reader's queue is full.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    send(socket.as_raw_fd(), bytes, NOW)
}

/// Sends one datagram to the local socket at `path`, without ever blocking.
///
/// # Errors
/// The errno; ENAMETOOLONG if no socket can have that path.
pub fn send_to_path(socket: BorrowedFd<'_>, bytes: &[u8], path: &CStr) -> Result<usize, Errno> {
    sendto(socket.as_raw_fd(), bytes, &UnixAddr::new(path)?, NOW)
}

/// The next message on a socket, without waiting for one: how many bytes it has, 0 at the end.
///
/// # Errors
/// The errno, EAGAIN if there is none yet.
pub fn receive_now(from: BorrowedFd<'_>, bytes: &mut [u8]) -> Result<usize, Errno> {
    recv(from.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT)
}

/// Writes `bytes` to a descriptor once and ignores the outcome: a child's message to its parent.
pub fn reply(to: BorrowedFd<'_>, bytes: &[u8]) {
    let _ = nix::unistd::write(to, bytes);
}
