//! Why a step of a share failed, as a value: what was seen, and nothing of what it means. Its words are made in
//! `share::causes`.

use super::locate::Origin;
use super::mount_point::PointError;
use super::worker::WorkerError;
use crate::net::names::NameError;
use crate::net::probe::Heard;
use crate::net::reach::ReachError;
use crate::retry::Stopped;
use crate::tunnel::contract::TunnelsError;
use crate::tunnel::protocol::{Peer, TunnelError};
use nix::errno::Errno;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Why a step failed. [`causes::explain`] says what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The mount table cannot be read.
    NoTable(Errno),
    /// Something else is mounted on the mount point.
    Taken {
        /// Its source.
        source: String,
        /// Its type.
        fstype: String,
    },
    /// The share is mounted, but read-only where the config wants to write.
    ReadOnly,
    /// The share is mounted, but encrypted where the config wants it plain, or the other way round.
    OtherWay,
    /// It was mounted, but does not go its way: the kernel is connected to this for it, or does not show to what.
    OffWay(Option<SocketAddr>),
    /// It is mounted, but the kernel does not show whether it goes its way.
    Unverified,
    /// It was not mounted, because the process that mounts may not have its own host name.
    NoHostName(Errno),
    /// The share is mounted, but a later mount over it or above it hides it.
    Hidden,
    /// The share is mounted, but its server (at this address) does not answer.
    Dead(String),
    /// The share is mounted, but what its server (at this address) answers is this error.
    Unusable(String, Errno),
    /// It was mounted, but that is what the server answered from then on.
    BadRoot(IpAddr, Errno),
    /// It was mounted, but the server referred the kernel to this source, which is not behind the share's tunnel.
    Referred {
        /// What the mount table showed.
        source: String,
        /// Where the kernel was connected to, if it shows that.
        to: Option<SocketAddr>,
    },
    /// The mount point cannot be one.
    Point(PointError),
    /// The mount point was removed after it was checked (by another run that failed, most likely).
    PointGone,
    /// The endpoint has no address.
    Name(NameError),
    /// No address answers.
    Reach(ReachError),
    /// The name has addresses, but none that the kernel takes with this `proto=`.
    NoFamily(&'static str),
    /// Something failed with an address that came from there.
    Led(Box<Failure>, Box<Origin>),
    /// The share's tunnel cannot be started; why.
    NoTunnel(String),
    /// The share's tunnel is not started, because others than root could change the program that it would run as root.
    Program {
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// The share's tunnel is not started, because only systemd can hold it and this machine does not run it.
    NoSystemd,
    /// The share's tunnel cannot be started as long as another program holds the local port that the config names.
    TunnelPort(u16),
    /// The tunnel has no encrypted connection to the file system.
    Tunnel(TunnelError),
    /// What came of a mount through the tunnel, after a good handshake with this peer.
    Encrypted(Box<Failure>, Peer),
    /// mount(2) said no.
    Mount(IpAddr, Errno),
    /// The kernel's NFS client is there, but its module for version 4 cannot be loaded.
    NoModule,
    /// The kernel does not take the SELinux options of the share, and SELinux is off, or not there.
    NoSelinux,
    /// The kernel's NFS client cannot be loaded, because a setting of this machine forbids it: where that is.
    ModuleForbidden(String),
    /// mount(2) is forbidden on this machine, before anything is sent to a server.
    Forbidden(Errno),
    /// The way to the tunnel is closed on this machine: its loopback is down, or connections to this port of it
    /// come to nothing.
    Loopback(Option<u16>),
    /// mount(2) returned neither 0 nor an error, and mounted nothing.
    Odd(i32),
    /// mount(2) returned 0, but the mount table does not show the mount.
    NotShown,
    /// mount(2) took too long and was killed.
    CutOff(IpAddr, Duration),
    /// A [`Failure::Mount`] or [`Failure::CutOff`], and what the server then made of an NFS NULL call.
    Probed(Box<Failure>, Heard),
    /// The process around mount(2) failed.
    Worker(WorkerError),
    /// The deadline passed before this share's first attempt.
    NoTime,
    /// Taken down before its server, which answers, received all that was written, in this time.
    NotWritten(String, Duration),
    /// Taken down although its server does not answer.
    Lost(String),
    /// Taken down although what was written could go nowhere. The tunnel has gone from this port, which any user can
    /// take.
    PortLost(u16),
    /// The server refused some of what was written.
    Refused(Errno),
    /// umount2(2) does not take it away.
    Stays,
    /// A signal ended the run; what the last attempt failed for.
    Stopped(Option<Box<Failure>>),
}

impl From<Stopped> for Failure {
    fn from(_: Stopped) -> Self {
        Self::Stopped(None)
    }
}

impl From<NameError> for Failure {
    fn from(e: NameError) -> Self {
        match e {
            NameError::Stopped(stopped) => stopped.into(),
            other => Self::Name(other),
        }
    }
}

impl From<ReachError> for Failure {
    fn from(e: ReachError) -> Self {
        match e {
            ReachError::Stopped(stopped) => stopped.into(),
            other => Self::Reach(other),
        }
    }
}

impl From<TunnelsError> for Failure {
    fn from(e: TunnelsError) -> Self {
        match e {
            TunnelsError::NotHeld(why) => Self::NoTunnel(why),
            TunnelsError::Program { what, cure } => Self::Program { what, cure },
            TunnelsError::NoSystemd => Self::NoSystemd,
            TunnelsError::PortTaken(port) => Self::TunnelPort(port),
            TunnelsError::Tunnel(e) => e.into(),
            TunnelsError::Stopped(stopped) => stopped.into(),
        }
    }
}

impl From<TunnelError> for Failure {
    fn from(e: TunnelError) -> Self {
        match e {
            TunnelError::Stopped(stopped) => stopped.into(),
            other => Self::Tunnel(other),
        }
    }
}

impl Failure {
    /// Whether a cheap look (name, TCP) can see when the cause is gone.
    pub fn can_be_watched(&self) -> bool {
        match self.unprobed() {
            Self::Name(error) => error.costs_nobody(),
            Self::Reach(_) => true,
            _ => false,
        }
    }

    /// The server's address that took a connection and then failed, in a way that may pass:
    /// another address may do better.
    pub fn failed_address(&self) -> Option<IpAddr> {
        match self.unprobed() {
            Self::Mount(address, _) | Self::CutOff(address, _) | Self::BadRoot(address, _) => {
                Some(*address)
            }
            _ => None,
        }
    }

    /// Whether the server has caused it, or the way to the server.
    pub fn is_of_the_server(&self) -> bool {
        let of_it = [
            Errno::EACCES,
            Errno::EPERM,
            Errno::ENOENT,
            Errno::ENOTDIR,
            Errno::ELOOP,
            Errno::ESTALE,
            Errno::EIO,
            Errno::EPROTO,
            Errno::EPROTONOSUPPORT,
            Errno::ECONNREFUSED,
            Errno::ECONNRESET,
            Errno::ECONNABORTED,
            Errno::EPIPE,
            Errno::ETIMEDOUT,
            Errno::EHOSTUNREACH,
            Errno::ENETUNREACH,
            Errno::EHOSTDOWN,
        ];
        match self.unprobed() {
            Self::Mount(_, errno) => of_it.contains(errno),
            Self::CutOff(..) | Self::BadRoot(..) => true,
            _ => false,
        }
    }

    /// The first of the addresses that failed, if any did.
    pub fn first_address(&self) -> Option<IpAddr> {
        match self.unprobed() {
            Self::Reach(ReachError::NoneAnswers { tried, .. }) => {
                tried.first().map(|(address, _)| *address)
            }
            other => other.failed_address(),
        }
    }

    /// Why no address answers, if that is what it is about, in the end.
    pub fn reach(&self) -> Option<&ReachError> {
        match self.unprobed() {
            Self::Reach(error) => Some(error),
            Self::Stopped(Some(before)) => before.reach(),
            _ => None,
        }
    }

    /// The failure itself, without what was found out besides.
    pub fn unprobed(&self) -> &Self {
        match self {
            Self::Probed(failure, _) | Self::Encrypted(failure, _) | Self::Led(failure, _) => {
                failure.unprobed()
            }
            _ => self,
        }
    }

    /// Whether the server took a connection and then fell silent or broke off. A NULL call can show whether it is an
    /// NFS server at all.
    pub fn wants_null_call(&self) -> bool {
        let broken = [
            Errno::EIO,
            Errno::ECONNRESET,
            Errno::ECONNABORTED,
            Errno::EPIPE,
            Errno::EPROTO,
            Errno::ETIMEDOUT,
        ];
        match self {
            Self::Encrypted(failure, _) | Self::Led(failure, _) => failure.wants_null_call(),
            Self::CutOff(..) => true,
            Self::Mount(_, errno) => broken.contains(errno),
            _ => false,
        }
    }

    /// Whether the server was asked about it.
    pub fn was_probed(&self) -> bool {
        match self {
            Self::Encrypted(failure, _) | Self::Led(failure, _) => failure.was_probed(),
            _ => matches!(self, Self::Probed(..)),
        }
    }

    /// Whether it says no more than that time ran out: an earlier failure says more.
    pub fn is_by_time(&self) -> bool {
        match self.unprobed() {
            Self::Name(NameError::Silent(..)) | Self::CutOff(..) | Self::NoTime => true,
            Self::Tunnel(TunnelError::Silent(_) | TunnelError::NoTunnel(Errno::ETIMEDOUT)) => true,
            Self::Reach(error) => error.has_silence(),
            _ => false,
        }
    }
}
