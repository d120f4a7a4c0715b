//! The two listeners of a tunnel, as systemd hands them over (sd_listen_fds(3)): one for the kernel's NFS client and
//! one for questions. Binds nothing itself.

use super::peer;
use crate::sys;
use nix::sys::socket::sockopt;
use nix::sys::socket::{
    AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt,
};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

const LISTENERS: usize = 2;
/// The most descriptors that are taken over. More than [`LISTENERS`] are counted so that the error can name the number.
const MOST_DESCRIPTORS: u8 = 8;

/// Where a tunnel listens.
pub struct Listeners {
    /// For the kernel's NFS client.
    pub nfs: TcpListener,
    /// For questions.
    pub control: UnixListener,
}

/// The tunnel was not started with its listeners.
#[derive(Debug, thiserror::Error)]
#[error("a tunnel is started by its systemd unit, with two listeners: {0}")]
pub struct ListenersError(String);

/// How many descriptors a service manager has handed to this process.
pub fn handed_over() -> u8 {
    match (number_in("LISTEN_PID"), number_in("LISTEN_FDS")) {
        (Some(pid), Some(n)) if pid == std::process::id() => {
            u8::try_from(n).unwrap_or(MOST_DESCRIPTORS).min(MOST_DESCRIPTORS)
        }
        _ => 0,
    }
}

fn number_in(variable: &str) -> Option<u32> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Takes the listeners from the `count` descriptors that were handed over.
///
/// # Errors
/// They are not what a tunnel needs.
pub fn take(count: u8) -> Result<Listeners, ListenersError> {
    let handed = sys::handed_over(count);
    if handed.is_empty() {
        return Err(wrong(
            "there are 0; nobody need start one by hand: sudo efs-agent --once does",
        ));
    }
    if handed.len() != LISTENERS {
        return Err(wrong(format!("there are {}", handed.len())));
    }

    // The listeners are distinguished by their kind: systemd gives them no names before version 227.
    let (mut nfs, mut control) = (None, None);
    for fd in handed {
        match family_of(&fd)? {
            AddressFamily::Inet => nfs = Some(TcpListener::from(fd)),
            AddressFamily::Unix => control = Some(UnixListener::from(fd)),
            _ => return Err(wrong("one is neither of TCP over IPv4 nor local")),
        }
    }
    let (Some(nfs), Some(control)) = (nfs, control) else {
        return Err(wrong("one of TCP over IPv4 and one local"));
    };

    // The kernel says who is at the other end only if that is on this machine.
    if !nfs.local_addr().is_ok_and(|address| address.ip() == peer::LOCAL) {
        return Err(wrong(format!("the port must be of {} alone", peer::LOCAL)));
    }
    Ok(Listeners { nfs, control })
}

fn family_of(fd: &OwnedFd) -> Result<AddressFamily, ListenersError> {
    if getsockopt(fd, sockopt::AcceptConn) != Ok(true)
        || getsockopt(fd, sockopt::SockType) != Ok(SockType::Stream)
    {
        return Err(wrong("a descriptor is no listener"));
    }

    let address = getsockname::<SockaddrStorage>(fd.as_raw_fd());
    Ok(address.ok().and_then(|address| address.family()).unwrap_or(AddressFamily::Unspec))
}

fn wrong(what: impl Into<String>) -> ListenersError {
    ListenersError(what.into())
}
