//! Finds out who is at the other end of a local connection: the kernel's NFS client, or anybody else. The kernel is
//! asked before a byte is read. sock_diag(7) looks up that one socket. Without it, the table of TCP sockets is
//! searched, which users can make long. What follows from the answer is decided in `serve`.
//!
//! Any user can connect to the local port. The kernel's own socket is shown as root's, established and with an inode. A
//! user's socket that was closed right after sending is shown as root's, too, but without an inode. Processes of root
//! are admitted: root could mount the share anyway.

use crate::config::encryption::RESERVED;
use crate::sys;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto,
    socket,
};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const TABLE: &str = "proc/net/tcp";
/// How much of the table is read at a time. No more of it is in memory, however long it is.
const PIECE: usize = 16 << 10;
/// How often the table is searched: a row can be missed while others come and go.
const LOOKS: u32 = 3;
/// TCP_ESTABLISHED.
const ESTABLISHED: u8 = 1;

/// Why a connection is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// Its socket is an ordinary user's.
    #[error("a process of user {0}")]
    User(u32),
    /// Its socket was closed already, so its owner is not known.
    #[error("a process that has closed it already")]
    Closed,
    /// There is no such socket on this machine.
    #[error("nobody on this machine")]
    Unknown,
    /// The table cannot be read.
    #[error("unknown, since /proc/net/tcp cannot be read: {}", .0.desc().to_lowercase())]
    NoTable(Errno),
    /// Its port is one that users can take, while the kernel connects from one below 1024.
    #[error("a process at port {0}, where the kernel comes from one below 1024")]
    Port(u16),
    /// It is no established TCP connection over IPv4.
    #[error("not there any more")]
    Gone,
}

/// Checks that the other end of `stream` belongs to root: to the kernel or a process of root. `reserved` says that the
/// kernel connects from a port below 1024 (the mount has resvport). `root` is `/` outside of tests.
///
/// # Errors
/// Who it is instead.
pub fn admit(root: &Path, stream: &TcpStream, reserved: bool) -> Result<(), AdmissionError> {
    // Both addresses as the other end's socket has them.
    let (local, remote) = (ipv4(stream.peer_addr())?, ipv4(stream.local_addr())?);

    // The port is checked first: that costs nothing, while users can make the table long.
    let port = local.port();
    if reserved && port >= RESERVED {
        return Err(AdmissionError::Port(port));
    }

    let row = match asked(root, local, remote) {
        Some(row) => row.ok_or(AdmissionError::Unknown)?,
        None => searched(&root.join(TABLE), local, remote)?,
    };
    row.judge()
}

fn ipv4(address: io::Result<SocketAddr>) -> Result<SocketAddrV4, AdmissionError> {
    match address {
        Ok(SocketAddr::V4(v4)) => Ok(v4),
        _ => Err(AdmissionError::Gone),
    }
}

/// What the kernel says about the socket at `local`. The outer `None` means that the kernel cannot be asked; the inner
/// one, that there is no such socket.
fn asked(root: &Path, local: SocketAddrV4, remote: SocketAddrV4) -> Option<Option<Row>> {
    /// Whether sock_diag has answered before. Without its module, the kernel says "no such socket", too.
    static ANSWERS: AtomicBool = AtomicBool::new(false);

    // A test's machine has only the table.
    if root != Path::new("/") {
        return None;
    }

    if !ANSWERS.load(Ordering::Relaxed) {
        // Our own end certainly exists.
        diagnosed(remote, local).ok()?;
        ANSWERS.store(true, Ordering::Relaxed);
    }

    match diagnosed(local, remote) {
        Ok(row) => Some(Some(row)),
        Err(Errno::ENOENT) => Some(None),
        Err(_) => None,
    }
}

/// Asks for the one socket whose own end is `local` (linux/inet_diag.h). Waits for nothing: the answer
/// is there when the question has been sent.
fn diagnosed(local: SocketAddrV4, remote: SocketAddrV4) -> Result<Row, Errno> {
    const HEAD: usize = 16;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLMSG_ERROR: u16 = 2;
    const NLM_F_REQUEST: u16 = 1;
    const ASKED: usize = HEAD + 8 + 48;

    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let kernel = NetlinkAddr::new(0, 0);
    let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkSockDiag);
    let socket = socket(family, SockType::Datagram, flags, protocol)?;

    let mut question = Vec::with_capacity(ASKED);
    question.extend((ASKED as u32).to_ne_bytes());
    question.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    question.extend(NLM_F_REQUEST.to_ne_bytes());
    question.extend([0; 8]); // sequence and port
    question.extend([nix::libc::AF_INET as u8, nix::libc::IPPROTO_TCP as u8, 0, 0]);
    question.extend(u32::MAX.to_ne_bytes()); // states
    let id = id(local, remote);
    question.extend(id);
    question.extend([0; 4]); // interface
    question.extend([0xff; 8]); // no cookie

    sendto(socket.as_raw_fd(), &question, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let (n, from) = recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut answer)?;
    if from.is_none_or(|from| from.pid() != 0) {
        return Err(Errno::EPROTO);
    }

    let answer = answer.get(..n).unwrap_or_default();
    let number = |at: usize| {
        let bytes = answer.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_ne_bytes(*bytes))
    };

    let kind = answer.get(4..).and_then(|rest| rest.first_chunk::<2>());
    match kind.map(|kind| u16::from_ne_bytes(*kind)).ok_or(Errno::EPROTO)? {
        NLMSG_ERROR => {
            let errno = number(HEAD).ok_or(Errno::EPROTO)? as i32;
            Err(Errno::from_raw(errno.wrapping_neg()))
        }
        SOCK_DIAG_BY_FAMILY => {
            // Where there is no connection, the kernel finds a listener at that port.
            if answer.get(HEAD + 4..HEAD + 8) != id.get(..4) {
                return Err(Errno::ENOENT);
            }
            let row = || {
                let state = *answer.get(HEAD + 1)?;
                let (uid, inode) = (number(HEAD + 64)?, number(HEAD + 68)?);
                Some(Row { state, uid, inode: inode.into() })
            };
            row().ok_or(Errno::EPROTO)
        }
        _ => Err(Errno::EPROTO),
    }
}

/// The two ends as `inet_diag_sockid` begins with them.
fn id(local: SocketAddrV4, remote: SocketAddrV4) -> [u8; 36] {
    let mut id = [0; 36];
    let ports = [local.port().to_be_bytes(), remote.port().to_be_bytes()].concat();
    let bytes = [ports, padded(*local.ip()), padded(*remote.ip())].concat();

    for (to, from) in id.iter_mut().zip(bytes) {
        *to = from;
    }
    id
}

/// An address in the room of an IPv6 one.
fn padded(ip: Ipv4Addr) -> Vec<u8> {
    [ip.octets().to_vec(), vec![0; 12]].concat()
}

/// The row of the socket at `local`, searched for in the table up to [`LOOKS`] times.
fn searched(
    table: &Path,
    local: SocketAddrV4,
    remote: SocketAddrV4,
) -> Result<Row, AdmissionError> {
    let mut verdict = AdmissionError::Unknown;
    for _ in 0..LOOKS {
        match look(table, local, remote) {
            Ok(Some(row)) => return Ok(row),
            Ok(None) => {}
            Err(errno) => verdict = AdmissionError::NoTable(errno),
        }
    }
    Err(verdict)
}

/// Reads the table piece by piece until the row is there.
fn look(table: &Path, local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<Row>, Errno> {
    let mut file = File::open(table).map_err(|e| sys::errno_of(&e))?;
    let mut bytes = vec![0; PIECE];
    let mut filled = 0;

    loop {
        let n = match file.read(bytes.get_mut(filled..).unwrap_or_default()) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(sys::errno_of(&e)),
        };
        filled += n;
        let piece = bytes.get(..filled).unwrap_or_default();
        if n == 0 {
            return Ok(find(piece, local, remote));
        }

        // Only whole lines are searched; the rest goes in front of the next piece.
        let end = piece.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if let Some(row) = find(piece.get(..end).unwrap_or_default(), local, remote) {
            return Ok(Some(row));
        }

        bytes.copy_within(end..filled, 0);
        filled -= end;
        if filled == bytes.len() {
            // No line is that long.
            return Err(Errno::EPROTO);
        }
    }
}

/// What the kernel says about a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    state: u8,
    uid: u32,
    inode: u64,
}

impl Row {
    fn judge(self) -> Result<(), AdmissionError> {
        match self {
            Self { state: ESTABLISHED, uid: 0, inode: 1.. } => Ok(()),
            // The kernel shows a socket that nobody owns any more as root's.
            Self { uid: 0, .. } => Err(AdmissionError::Closed),
            Self { uid, .. } => Err(AdmissionError::User(uid)),
        }
    }
}

/// The row of the socket whose own end is `local`, in whole lines of /proc/net/tcp.
pub fn find(table: &[u8], local: SocketAddrV4, remote: SocketAddrV4) -> Option<Row> {
    table.split(|byte| *byte == b'\n').find_map(|line| {
        let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let slot = words.next()?;

        if slot.last() != Some(&b':')
            || address(words.next()?)? != local
            || address(words.next()?)? != remote
        {
            return None;
        }

        let state = u8::from_str_radix(text(words.next()?)?, 16).ok()?;
        // tx_queue:rx_queue, tr:tm->when, retrnsmt
        let uid = text(words.nth(3)?)?.parse().ok()?;
        // timeout
        let inode = text(words.nth(1)?)?.parse().ok()?;
        Some(Row { state, uid, inode })
    })
}

fn text(word: &[u8]) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

/// `0100007F:0801`: the address's four bytes as this machine reads them as one number, and the port.
fn address(word: &[u8]) -> Option<SocketAddrV4> {
    let (ip, port) = text(word)?.split_once(':')?;
    let ip = u32::from_str_radix(ip, 16).ok()?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(ip.to_ne_bytes()), port))
}

/// Whether the numbers of users here are those of the machine. In a user namespace, the table's root may be anybody.
pub fn sees_real_users(root: &Path) -> bool {
    let map = crate::files::whole(&root.join("proc/self/uid_map")).unwrap_or_default();
    let map = String::from_utf8_lossy(&map);
    // Without user namespaces, the kernel has no such file.
    map.is_empty() || map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The address that tunnels listen on.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// As kernels 5.10 and 6.12 wrote it. There is a listener at 2050. The kernel's NFS client comes from 0x3a1 (665
    /// and above, without noresvport) and from 0xd2f4. Then come a user's client, one that has sent and closed, and
    /// both ends of each of them.
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode                                                     
   0: 0100007F:0802 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2107 1 00000000b3c8a0e5 100 0 0 10 0                       
   1: 0100007F:03A1 0100007F:0802 01 00000000:00000000 02:00000A3B 00000000     0        0 2204 2 0000000017d2f3f5 20 4 30 10 -1                    
   2: 0100007F:0802 0100007F:03A1 01 00000000:00000000 00:00000000 00000000     0        0 2206 1 00000000d8a1c0a7 20 4 29 10 -1                    
   3: 0100007F:D2F4 0100007F:0802 01 00000010:00000000 01:00000014 00000000     0        0 2301 3 00000000aa10c0a7 20 4 30 10 -1                    
   4: 0100007F:9C40 0100007F:0802 01 00000000:00000000 00:00000000 00000000  1000        0 2410 1 00000000e0b1c2d3 20 4 30 10 -1                    
   5: 0100007F:9C42 0100007F:0802 05 00000000:00000000 00:00000DEA 00000000     0        0 0 1 00000000c5f7a9bb 20 4 30 10 -1                    
   6: 0100007F:9C44 0100007F:0802 06 00000000:00000000 03:00001770 00000000     0        0 0 3 0000000059d6b3c1                                      
   7: 0100007F:9C46 0100007F:0802 08 00000000:00000001 00:00000000 00000000     0        0 2500 1 00000000c5f7a9bc 20 4 30 10 -1                    
";

    fn judged(local: u16, remote: u16) -> Result<(), AdmissionError> {
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        find(TABLE.as_bytes(), at(local), at(remote)).ok_or(AdmissionError::Unknown)?.judge()
    }

    #[test]
    fn the_kernels_socket_is_let_in_from_any_port() {
        assert_eq!(judged(0x3a1, 0x802), Ok(()));
        assert_eq!(judged(0xd2f4, 0x802), Ok(()));
    }

    #[test]
    fn a_user_is_not_nor_who_has_closed_already_and_shows_as_root() {
        assert_eq!(judged(0x9c40, 0x802), Err(AdmissionError::User(1000)));
        assert_eq!(judged(0x9c42, 0x802), Err(AdmissionError::Closed), "FIN_WAIT2, inode 0");
        assert_eq!(judged(0x9c44, 0x802), Err(AdmissionError::Closed), "TIME_WAIT");
        assert_eq!(judged(0x9c46, 0x802), Err(AdmissionError::Closed), "not established");
        assert_eq!(judged(0x9c48, 0x802), Err(AdmissionError::Unknown));
    }

    #[test]
    fn both_ends_must_be_those_of_the_connection() {
        assert_eq!(judged(0x3a1, 0x801), Err(AdmissionError::Unknown));
        // The listener, and our own end, are not the other end.
        assert_eq!(judged(0x802, 0), Err(AdmissionError::Unknown));
        let other = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0x3a1);
        assert_eq!(
            find(TABLE.as_bytes(), other, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0x802)),
            None
        );
    }

    #[test]
    fn a_table_cut_anywhere_gives_the_row_or_none() {
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        for end in 0..TABLE.len() {
            let row = find(&TABLE.as_bytes()[..end], at(0x9c40), at(0x802));
            if let Some(row) = row {
                assert_eq!(row.uid, 1000, "cut at {end}");
                // The inode's digits may be cut off; it is never another row's.
                assert!("2410".starts_with(&row.inode.to_string()), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_long_table_is_read_in_pieces() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/net")).unwrap();
        let table = dir.path().join(TABLE_AT);
        let at = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let (head, rows) = TABLE.split_once('\n').unwrap();
        let filler = rows.lines().next().unwrap();
        let long = format!("{head}\n{}{rows}", format!("{filler}\n").repeat(5000));
        std::fs::write(&table, &long).unwrap();
        let row = look(&table, at(0xd2f4), at(0x802)).unwrap().unwrap();
        assert_eq!(row, Row { state: 1, uid: 0, inode: 2301 });
        assert_eq!(look(&table, at(0xd2f5), at(0x802)), Ok(None));
        std::fs::write(&table, "x".repeat(1 << 20)).unwrap();
        assert_eq!(look(&table, at(0xd2f4), at(0x802)), Err(Errno::EPROTO));
        let missing = dir.path().join("none");
        assert_eq!(look(&missing, at(1), at(2)), Err(Errno::ENOENT));
    }

    const TABLE_AT: &str = super::TABLE;

    #[test]
    fn this_kernels_own_table_is_understood() {
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let uid = nix::unistd::getuid().as_raw();
        let expected = if uid == 0 { Ok(()) } else { Err(AdmissionError::User(uid)) };
        assert_eq!(admit(Path::new("/"), &accepted, false), expected);
        if expected.is_ok() {
            let port = client.local_addr().unwrap().port();
            assert_eq!(admit(Path::new("/"), &accepted, true), Err(AdmissionError::Port(port)));
        }
        drop(client);
        // Without an inode, the socket counts as closed, even if it was root's.
        let verdict = admit(Path::new("/"), &accepted, false);
        assert!(matches!(verdict, Err(AdmissionError::Closed)), "{verdict:?}");
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            admit(empty.path(), &accepted, false),
            Err(AdmissionError::NoTable(Errno::ENOENT))
        );
    }

    #[test]
    fn the_kernel_says_of_one_socket_what_its_table_says() {
        let v4 = |address| match address {
            Ok(SocketAddr::V4(v4)) => v4,
            other => panic!("{other:?}"),
        };
        let listener = TcpListener::bind((LOCAL, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let (local, remote) = (v4(client.local_addr()), v4(client.peer_addr()));
        let row = match diagnosed(remote, local) {
            // This kernel has no sock_diag.
            Err(Errno::ENOENT | Errno::EPROTONOSUPPORT) => return,
            row => row.unwrap(),
        };
        let table = Path::new("/proc/net/tcp");
        assert_eq!(searched(table, remote, local), Ok(row));
        assert_eq!(searched(table, local, remote), Ok(diagnosed(local, remote).unwrap()));
        // Neither a listener nor a port without a socket is a connection.
        assert_eq!(
            diagnosed(remote, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1)),
            Err(Errno::ENOENT)
        );
        let other = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), local.port());
        assert_eq!(diagnosed(other, remote), Err(Errno::ENOENT));
        drop(client);
        let gone = diagnosed(local, remote).unwrap();
        assert_eq!((gone.uid, gone.inode), (0, 0));
        assert_eq!(gone.judge(), Err(AdmissionError::Closed));
        drop(accepted);
    }

    #[test]
    fn a_user_namespace_is_told_by_its_map() {
        let dir = tempfile::tempdir().unwrap();
        assert!(sees_real_users(dir.path()));
        std::fs::create_dir_all(dir.path().join("proc/self")).unwrap();
        let map = |text| std::fs::write(dir.path().join("proc/self/uid_map"), text).unwrap();
        map("         0          0 4294967295\n");
        assert!(sees_real_users(dir.path()));
        map("         0       1000          1\n");
        assert!(!sees_real_users(dir.path()));
    }
}
