//! Why a step of a share failed, as a value. It holds what was seen, and not what that means: the
//! words and the classes are made in `share::causes`.

use super::locate::Origin;
use super::mount_point::PointError;
use super::worker::WorkerError;
use crate::net::names::NameError;
use crate::net::probe::NullCallAnswer;
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
        /// As the mount table shows it.
        source: String,
        fstype: String,
    },
    /// The share is mounted, but read-only where the config wants to write.
    ReadOnly,
    /// The share is mounted, but encrypted where the config wants it plain, or the other way round.
    OtherWay,
    /// It was mounted, but does not go its way. The kernel is connected to this address for it, or
    /// does not show to which.
    OffWay(Option<SocketAddr>),
    /// It is mounted, but the kernel does not show whether it goes through its tunnel.
    Unverified,
    /// It was not mounted, because the process that mounts may not have its own host name.
    NoHostName(Errno),
    /// The share is mounted, but a later mount over it or above it hides it.
    Hidden,
    /// The share is mounted, but its server (at this address) does not answer.
    Dead(String),
    /// The share is mounted, but its server (at this address) answers with this error.
    Unusable(String, Errno),
    /// It was mounted, but the server (at this address) answers with this error since then.
    BadRoot(IpAddr, Errno),
    /// It was mounted, but the server referred the kernel to this source, which is not behind the share's tunnel.
    Referred {
        /// What the mount table showed.
        source: String,
        /// Where the kernel was connected to, if it shows that.
        to: Option<SocketAddr>,
    },
    /// The mount point cannot be used.
    Point(PointError),
    /// The mount point was removed after it was checked (by another run that failed, most likely).
    PointGone,
    /// The endpoint has no address.
    Name(NameError),
    /// No address answers.
    Reach(ReachError),
    /// The name has addresses, but none that the kernel takes with this `proto=`.
    NoFamily(&'static str),
    /// Something failed with an address; the origin says where that came from.
    Led(Box<Failure>, Box<Origin>),
    /// The share's tunnel cannot be started, for this reason.
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
    /// A mount through the tunnel failed, after a good handshake with this peer.
    Encrypted(Box<Failure>, Peer),
    /// mount(2) failed with this errno; the address is the server's.
    Mount(IpAddr, Errno),
    /// The kernel's NFS client is there, but its module for version 4 cannot be loaded.
    NoModule,
    /// The kernel does not take the SELinux options of the share, and SELinux is off or missing.
    NoSelinux,
    /// The kernel's NFS client cannot be loaded, because a setting of this machine forbids it. The
    /// string is the place of that setting.
    ModuleForbidden(String),
    /// mount(2) is forbidden on this machine, before anything is sent to a server.
    Forbidden(Errno),
    /// This machine closes the way to the tunnel: its loopback is down, or it blocks connections to
    /// this port.
    Loopback(Option<u16>),
    /// mount(2) returned neither 0 nor an error, and mounted nothing.
    Odd(i32),
    /// mount(2) returned 0, but the mount table does not show the mount.
    NotShown,
    /// mount(2) took too long and was killed.
    CutOff(IpAddr, Duration),
    /// A [`Failure::Mount`] or [`Failure::CutOff`], and what the server then answered to an NFS
    /// NULL call.
    Probed(Box<Failure>, NullCallAnswer),
    /// The process around mount(2) failed.
    Worker(WorkerError),
    /// The deadline passed before this share's first attempt.
    NoTime,
    /// The share was taken down before its server (at this address) received all that was written.
    /// The server answers, but was not done within this time.
    NotWritten(String, Duration),
    /// The share was taken down although its server (at this address) does not answer.
    Lost(String),
    /// The share was taken down although what was written could not be sent. The tunnel has gone
    /// from this port, which any user can take.
    PortLost(u16),
    /// The server refused some of what was written.
    Refused(Errno),
    /// umount2(2) does not take it away.
    Stays,
    /// A signal ended the run. The inner failure is that of the last attempt.
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

    /// Why no address answers, if that is the failure, or what a stopped run was waiting for.
    pub fn reach(&self) -> Option<&ReachError> {
        match self.unprobed() {
            Self::Reach(error) => Some(error),
            Self::Stopped(Some(before)) => before.reach(),
            _ => None,
        }
    }

    /// The failure itself, without the wrappers that say what else was found out.
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

    /// Whether the server was sent an NFS NULL call about it.
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
