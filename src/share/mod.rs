//! What a share needs, one step a file. The steps do not know each other's
//! order: that is `commands::session`, which sees them through [`Machine`].

pub mod after;
pub mod causes;
pub mod client;
pub mod linux;
pub mod locate;
pub mod mount_point;
pub mod plan;
pub mod release;
pub mod worker;

use crate::config::{Level, Share};
use crate::files::FolderId;
use crate::kernel::holders::Holder;
use crate::kernel::mount_table;
use crate::kernel::route::Route;
use crate::net::names::{Found, NameError, Stamp};
use crate::net::probe::Heard;
use crate::net::reach::ReachError;
use crate::retry::{Deadline, Stopped};
use crate::tunnel::contract::TunnelsError;
use crate::tunnel::protocol::{Peer, TunnelError};
use client::Client;
use locate::Origin;
use mount_point::PointError;
use nix::errno::Errno;
use plan::MountCall;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use worker::WorkerError;

/// What the session asks of the machine it runs on. The real one is [`linux::Linux`];
/// unit tests script another under a virtual clock.
pub trait Machine: Sync {
    /// A mount point that was checked.
    type Point;

    /// Who this machine is to its servers. The first time it is asked for, the kernel's NFS client gets an
    /// identity if it has none.
    fn client(&self) -> &Client;

    /// The share, if it is mounted already; something else mounted there is a failure.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::ReadOnly`], [`Failure::NoTable`]; [`Failure::Name`] where the
    /// name must be asked for, before `until`, to tell one server from another.
    fn mounted(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure>;

    /// The share, if it is what somebody else has mounted at the mount point, though the mount table shows another
    /// path: what `call` mounts before `until`, where nobody sees it, has the same root.
    ///
    /// # Errors
    /// Those of [`Machine::mounted`].
    fn recognized(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure>;

    /// Whether a mounted share can be used, as its server tells before `until`. Does not touch the mount in a way
    /// that could block the caller.
    ///
    /// # Errors
    /// [`Failure::Stopped`], [`Failure::Point`]; [`Failure::Hidden`] where something else is seen there.
    fn responds(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Answer, Failure>;

    /// Who has something of a mounted share open.
    fn held_by(&self, share: &Share) -> Vec<Holder>;

    /// The server's end of the connection that a mounted share is on, if the kernel tells.
    fn leads_to(&self, mounted: &Mounted) -> Option<SocketAddr>;

    /// Takes away a mount that is of no use: whoever has something of it open keeps that, and nobody else sees it.
    ///
    /// # Errors
    /// [`Failure::Dead`].
    fn detach(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<(), Failure>;

    /// Makes or checks the mount point.
    ///
    /// # Errors
    /// [`Failure::Point`].
    fn prepare(&self, share: &Share) -> Result<Self::Point, Failure>;

    /// The way that this machine takes to a server now, if there is one.
    fn route(&self, to: SocketAddr) -> Option<Route>;

    /// Takes back what [`Machine::prepare`] made for the share, and what a run did that was killed.
    fn discard(&self, share: &Share, point: Self::Point);

    /// Takes away the mount point that this run (`made`) or an earlier one made for the share: what is written into
    /// an empty folder where a share should be is lost.
    fn abandon(&self, share: &Share, made: bool);

    /// The addresses to try, in order, before `until`.
    ///
    /// # Errors
    /// [`Failure::Name`].
    fn resolve(&self, share: &Share, until: Deadline) -> Result<Found, Failure>;

    /// The addresses of the other family, where a name server was asked for IPv4 ones alone; nothing, if that was
    /// not answered before `until`.
    ///
    /// # Errors
    /// [`Failure::Stopped`].
    fn further(
        &self,
        share: &Share,
        found: &Found,
        until: Deadline,
    ) -> Result<Option<Vec<IpAddr>>, Failure>;

    /// What the name servers say of the share's name as it is written, whatever /etc/hosts says; with `ipv6`, of its
    /// IPv6 addresses.
    ///
    /// # Errors
    /// See [`NameError`].
    fn past_hosts(&self, share: &Share, ipv6: bool, until: Deadline) -> Result<Found, NameError>;

    /// Changes when the files do that names are looked up by.
    fn names_stamp(&self) -> Stamp;

    /// The address that answers on the share's port before `until`.
    ///
    /// # Errors
    /// [`Failure::Reach`].
    fn reach(
        &self,
        share: &Share,
        addresses: &[IpAddr],
        until: Deadline,
    ) -> Result<IpAddr, Failure>;

    /// mount(2), before `until`, and the proof that it shows in the mount table, and goes the way that the
    /// call names. With `silence` it is
    /// cut off earlier if the server leaves an NFS NULL call without an answer for that long.
    ///
    /// # Errors
    /// All but the above.
    fn mount(
        &self,
        share: &Share,
        call: &MountCall,
        point: &Self::Point,
        silence: Option<Duration>,
        until: Deadline,
    ) -> Result<Mounted, Failure>;

    /// What is left to do once it is mounted, before `until`; tells what a person should know.
    ///
    /// # Errors
    /// [`Failure::Unusable`].
    fn settle(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<Vec<(Level, String)>, Failure>;
}

/// What came of asking for a mounted share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It can be used.
    Well,
    /// There is an answer, and it is this error: whoever wants a file gets it too.
    Fault(Errno),
    /// There is none.
    Silence,
}

/// A share that shows in the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// The mount's number in the mount table, unique on the machine.
    pub id: u32,
    /// What it is mounted from, as the mount table shows it.
    pub source: String,
    /// The server's address, as the kernel has it.
    pub address: String,
    /// The NFS version in use.
    pub version: String,
    /// `major:minor` of the file system.
    pub device: String,
    /// The kernel's rsize, in bytes.
    pub rsize: u32,
    /// It was there before we asked.
    pub already: bool,
    /// It took the place of one that was of no use.
    pub anew: bool,
    /// In what it differs from the config.
    pub differs: Vec<String>,
    /// Files were in the folder that it was mounted on, and cannot be seen now.
    pub hides: bool,
    /// The folder that it was mounted on was made for it.
    pub made: bool,
    /// Which folder that is, if it was there before.
    pub over: Option<FolderId>,
    /// What the process that mounted it saw of its root, if it had the time to look.
    pub root: Option<worker::Seen>,
    /// The port that the kernel has for it: the server's, or the tunnel's.
    pub port: u16,
    /// The far end of the tunnel, if it goes through one.
    pub peer: Option<Peer>,
    /// Why it could not be mounted under a host name of its way, if so.
    pub nameless: Option<Errno>,
    /// Why its server may be another machine than the config means, if so.
    pub doubt: Option<String>,
}

impl Mounted {
    /// The address of the server, behind the tunnel too.
    pub fn server(&self) -> String {
        self.peer.as_ref().map_or_else(|| self.address.clone(), |peer| peer.address.to_string())
    }

    /// What the mount table (df, findmnt) shows instead of the share's path, if the server has led that elsewhere: by
    /// a link, or by a referral.
    pub fn led_to(&self, share: &Share) -> Option<&str> {
        (!mount_table::has_path(&self.source, share)).then_some(self.source.as_str())
    }

    /// Where it is mounted from, for people.
    pub fn from(&self) -> String {
        match &self.peer {
            Some(peer) => format!("{}, {}", peer.address, peer.version),
            None => self.address.clone(),
        }
    }
}

#[cfg(test)]
impl Mounted {
    /// A share mounted from 10.0.0.1, as a scripted machine has it.
    pub fn fake(already: bool) -> Self {
        Self {
            id: 40,
            source: "fs-1.example:/".into(),
            address: "10.0.0.1".into(),
            version: "4.1".into(),
            device: "0:45".into(),
            rsize: 1 << 20,
            already,
            anew: false,
            differs: vec![],
            hides: false,
            made: false,
            over: None,
            port: 2049,
            peer: None,
            root: None,
            nameless: None,
            doubt: None,
        }
    }
}

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
    /// It was mounted, but not by its way: the kernel is connected to this for it (or does not tell).
    OffWay(Option<SocketAddr>),
    /// It is mounted, but the kernel does not tell whether by its way.
    Unverified,
    /// It was not mounted, for the process that mounts may not have a host name of its own.
    NoHostName(Errno),
    /// The share is mounted, but a later mount over it or above it hides it.
    Hidden,
    /// The share is mounted, but its server (at this address) does not answer.
    Dead(String),
    /// The share is mounted, but what its server (at this address) answers is this error.
    Unusable(String, Errno),
    /// It was mounted, but that is what the server answered from then on.
    BadRoot(IpAddr, Errno),
    /// It was mounted, but the server had referred the kernel to this source, which is not behind the share's tunnel.
    Referred {
        /// What the mount table showed.
        source: String,
        /// Where the kernel was connected to, if it told.
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
    /// Nor is it, since others than root could change the program that it would run as root.
    Program {
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// Nor is it, since nothing but systemd could hold it.
    NoSystemd,
    /// Nor can it be as long as another program holds the local port that the config names.
    TunnelPort(u16),
    /// The tunnel has no encrypted connection to the file system.
    Tunnel(TunnelError),
    /// What came of a mount through the tunnel, when its handshake with this peer had gone well.
    Encrypted(Box<Failure>, Peer),
    /// mount(2) said no.
    Mount(IpAddr, Errno),
    /// The kernel's NFS client is there, but its module for version 4 cannot be loaded.
    NoModule,
    /// The kernel does not take the SELinux options of the share, and SELinux is off, or not there.
    NoSelinux,
    /// It cannot be loaded since a setting of this machine forbids it: where that is.
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
    /// One of the two above, and what the server then made of an NFS NULL call.
    Probed(Box<Failure>, Heard),
    /// The process around mount(2) failed.
    Worker(WorkerError),
    /// The deadline had passed before this share's first attempt.
    NoTime,
    /// Taken down before its server, which answers, had all that was written; the time it had.
    NotWritten(String, Duration),
    /// Taken down although its server does not answer.
    Lost(String),
    /// Taken down although what was written could go nowhere: the tunnel has gone from this port, which any user
    /// can take.
    PortLost(u16),
    /// The server refused some of what was written.
    Refused(Errno),
    /// umount2(2) does not take it away.
    Stays,
    /// The run was told to end; what the last attempt failed for.
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
    /// Whether a cheap look (name, TCP) can tell when the cause is gone.
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

    /// Whether it is the server's doing, or that of the way to it.
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

    /// The first address that it is about, if it is about one.
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

    /// Whether the server took a connection and then fell silent or broke off: a NULL call can tell
    /// whether it is an NFS server at all.
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

    /// Whether it only says that time ran out: an earlier failure says more.
    pub fn is_by_time(&self) -> bool {
        match self.unprobed() {
            Self::Name(NameError::Silent(..)) | Self::CutOff(..) | Self::NoTime => true,
            Self::Tunnel(TunnelError::Silent(_) | TunnelError::NoTunnel(Errno::ETIMEDOUT)) => true,
            Self::Reach(error) => error.has_silence(),
            _ => false,
        }
    }
}
