//! Asks a server one question that costs it nothing, an NFS NULL call, over a connection of its own. The answer
//! distinguishes a server that hangs, or is none, from one whose larger packets are lost. What it means for a mount does
//! not belong here.

use crate::sys;
use crate::wait::Wait;
use nix::poll::{PollFd, PollFlags};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// What came back after an NFS NULL call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullCallAnswer {
    /// The answer of an NFS server.
    Nfs,
    /// The answer of an RPC server without NFS version 4.
    OtherRpc,
    /// Bytes that no RPC server would send.
    NotRpc,
    /// The connection was closed without an answer.
    Closed,
    /// Nothing, though the connection was there.
    Nothing,
}

/// Makes a NULL call of NFS version 4 and waits for the answer, or until `or` is readable. Returns
/// `None` where nothing is known, because there was no connection or the wait ended early.
pub fn null_call(
    server: SocketAddr,
    or: Option<BorrowedFd<'_>>,
    wait: Wait<'_>,
) -> Option<NullCallAnswer> {
    // A tunnel only accepts connections from ports that root alone can use.
    let mut stream = match server.ip().is_loopback() {
        true => sys::connect_tcp_from_reserved(server),
        false => sys::connect_tcp(server),
    }
    .ok()?;

    let xid = sys::random() as u32;
    if !is_ready(&stream, PollFlags::POLLOUT, or, wait)? || !matches!(stream.take_error(), Ok(None))
    {
        return None;
    }
    if stream.write_all(&null_call_record(xid)).is_err() {
        return Some(NullCallAnswer::Closed);
    }

    let mut bytes = Vec::new();
    let mut chunk = [0; 256];
    while is_ready(&stream, PollFlags::POLLIN, or, wait)? {
        match stream.read(&mut chunk) {
            Ok(0) => return Some(NullCallAnswer::Closed),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return Some(NullCallAnswer::Closed),
        }

        if let Some(heard) = answer(&bytes, xid) {
            return Some(heard);
        }
        // An endless answer is no NFS server's, and must not keep us waiting.
        if bytes.len() > LONGEST {
            return Some(NullCallAnswer::NotRpc);
        }
        if wait.passed() {
            break;
        }
    }
    Some(NullCallAnswer::Nothing)
}

/// Whether the stream is ready. `None` if `or` is readable, or a signal came.
fn is_ready(
    stream: &TcpStream,
    what: PollFlags,
    or: Option<BorrowedFd<'_>>,
    wait: Wait<'_>,
) -> Option<bool> {
    let mut fds = vec![PollFd::new(stream.as_fd(), what)];
    fds.extend(or.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    match wait.poll(&fds).ok()?.as_slice() {
        [_, true] | [] => None,
        [ours, ..] => Some(*ours),
    }
}

/// The NFS program (RFC 7530), and the RPC message types (RFC 5531).
const NFS: u32 = 100_003;
const CALL: u32 = 0;
const REPLY: u32 = 1;
/// No answer to a NULL call is longer than this.
const LONGEST: usize = 1024;
/// Marks a record's last fragment.
const LAST: u32 = 1 << 31;

/// The call as one record: NFS version 4, procedure NULL, no credentials.
pub fn null_call_record(xid: u32) -> Vec<u8> {
    let body = [xid, CALL, 2, NFS, 4, 0, 0, 0, 0, 0];
    let mark = LAST | (4 * body.len() as u32);
    std::iter::once(mark).chain(body).flat_map(u32::to_be_bytes).collect()
}

/// The answer in `bytes` to the call `xid`; `None` while it is not complete.
fn answer(bytes: &[u8], xid: u32) -> Option<NullCallAnswer> {
    let mut words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    if words.next()? & !LAST > LONGEST as u32 || words.next()? != xid || words.next()? != REPLY {
        return Some(NullCallAnswer::NotRpc);
    }
    match words.next()? {
        0 => {}
        // The server rejects the credentials, so it is one that reads them.
        1 => return Some(NullCallAnswer::Nfs),
        _ => return Some(NullCallAnswer::NotRpc),
    }

    let (_flavour, length) = (words.next()?, words.next()?);
    let mut words = words.skip(length.div_ceil(4) as usize);
    match words.next()? {
        // PROG_UNAVAIL and PROG_MISMATCH.
        1 | 2 => Some(NullCallAnswer::OtherRpc),
        _ => Some(NullCallAnswer::Nfs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Deadline;
    use crate::stop::{Stop, SystemClock};
    use std::net::TcpListener;
    use std::time::{Duration, Instant};

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().copied().flat_map(u32::to_be_bytes).collect()
    }

    #[test]
    fn answers_are_told_apart_by_their_bytes_and_half_of_one_is_waited_for() {
        let good = words(&[LAST | 24, 7, REPLY, 0, 0, 0, 0]);
        assert_eq!(answer(&good, 7), Some(NullCallAnswer::Nfs));
        assert_eq!(answer(&good, 8), Some(NullCallAnswer::NotRpc), "another call's");
        for size in 0..good.len() {
            assert_eq!(answer(&good[..size], 7), None, "{size} bytes");
        }
        let with_verifier = words(&[LAST | 28, 7, REPLY, 0, 1, 3, 0x6162_6300, 2, 3, 3]);
        assert_eq!(answer(&with_verifier, 7), Some(NullCallAnswer::OtherRpc));
        assert_eq!(answer(&words(&[LAST | 20, 7, REPLY, 1, 1, 1]), 7), Some(NullCallAnswer::Nfs));
        assert_eq!(answer(b"HTTP/1.1 400 Bad Request\r\n", 7), Some(NullCallAnswer::NotRpc));
        assert_eq!(answer(&words(&[LAST | 24, 7, REPLY, 0, 0, u32::MAX, 0]), 7), None);
    }

    /// What is heard from a listener that does `serve` with its first connection.
    fn heard(serve: impl FnOnce(TcpStream) + Send + 'static) -> Option<NullCallAnswer> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || serve(listener.accept().unwrap().0));
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let until = Deadline::after(&clock, Duration::from_secs(1));
        null_call(address, None, Wait { until, clock: &clock, stop: &stop })
    }

    #[test]
    fn a_server_is_told_from_silence_a_closed_door_and_another_service() {
        let nfs = |mut stream: TcpStream| {
            let mut asked = [0; 44];
            stream.read_exact(&mut asked).unwrap();
            let xid = u32::from_be_bytes(asked[4..8].try_into().unwrap());
            assert_eq!(asked, *null_call_record(xid));
            assert_eq!(asked[..4], (LAST | 40).to_be_bytes(), "one record of the rest");
            stream.write_all(&words(&[LAST | 24, xid, REPLY, 0, 0, 0, 0])).unwrap();
        };
        assert_eq!(heard(nfs), Some(NullCallAnswer::Nfs));
        assert_eq!(heard(drop), Some(NullCallAnswer::Closed));
        let silent = |stream| {
            std::thread::sleep(Duration::from_secs(5));
            drop(stream);
        };
        assert_eq!(heard(silent), Some(NullCallAnswer::Nothing));
        let chatter = |mut stream: TcpStream| {
            stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
            std::thread::sleep(Duration::from_secs(1));
        };
        assert_eq!(heard(chatter), Some(NullCallAnswer::NotRpc));
        let flood = |mut stream: TcpStream| {
            let mut asked = [0; 44];
            stream.read_exact(&mut asked).unwrap();
            let xid = u32::from_be_bytes(asked[4..8].try_into().unwrap());
            let head = words(&[LAST | 1024, xid, REPLY, 0, 0, u32::MAX]);
            let mut sent = stream.write_all(&head);
            while sent.is_ok() {
                sent = stream.write_all(&[0; 4096]);
            }
        };
        assert_eq!(heard(flood), Some(NullCallAnswer::NotRpc));
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let stop = Stop::install().unwrap();
        let clock = SystemClock::new(Instant::now(), &stop);
        let until = Deadline::after(&clock, Duration::from_secs(1));
        assert_eq!(null_call(nobody, None, Wait { until, clock: &clock, stop: &stop }), None);
    }
}
