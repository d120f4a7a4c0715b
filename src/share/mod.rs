//! The steps that a share needs, one in each file. They do not know each other's order:
//! `commands::session` has that, and sees them through [`Machine`].

pub mod after;
pub mod causes;
pub mod client;
mod failure;
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
use crate::retry::Deadline;
use crate::tunnel::protocol::Peer;
use client::NfsClient;
pub use failure::Failure;
use nix::errno::Errno;
use plan::MountCall;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a session start asks of the machine that it runs on. The real one is [`linux::Linux`]; unit
/// tests script another under a virtual clock.
pub trait Machine: Sync {
    /// A mount point that was checked.
    type Point;

    /// Who this machine is to its servers. The first time it is asked for, the kernel's NFS client gets an
    /// identity if it has none.
    fn client(&self) -> &NfsClient;

    /// The share, if it is mounted already; something else mounted there is a failure.
    ///
    /// # Errors
    /// [`Failure::Taken`], [`Failure::ReadOnly`], [`Failure::NoTable`]. [`Failure::Name`] where the
    /// name must be asked for, before `until`, to distinguish one server from another.
    fn mounted(&self, share: &Share, until: Deadline) -> Result<Option<Mounted>, Failure>;

    /// The share, if somebody else has mounted it at the mount point, though the mount table shows
    /// another path. It is known by its root: `call` mounts the same root where nobody sees it,
    /// before `until`.
    ///
    /// # Errors
    /// Those of [`Machine::mounted`].
    fn recognized(
        &self,
        share: &Share,
        call: &MountCall,
        until: Deadline,
    ) -> Result<Option<Mounted>, Failure>;

    /// Whether a mounted share can be used, as its server says before `until`. Does not touch the mount in a way that
    /// could block the caller.
    ///
    /// # Errors
    /// [`Failure::Stopped`], [`Failure::Point`]; [`Failure::Hidden`] where something else is seen there.
    fn responds(
        &self,
        share: &Share,
        mounted: &Mounted,
        until: Deadline,
    ) -> Result<ServerAnswer, Failure>;

    /// The processes that have something of a mounted share open.
    fn held_by(&self, share: &Share) -> Vec<Holder>;

    /// The server's end of the connection that a mounted share is on, if the kernel shows it.
    fn leads_to(&self, mounted: &Mounted) -> Option<SocketAddr>;

    /// Takes away a mount that is of no use. Processes that have something on it open keep that, and nobody else sees
    /// it.
    ///
    /// # Errors
    /// [`Failure::Dead`].
    fn detach(&self, share: &Share, mounted: &Mounted, until: Deadline) -> Result<(), Failure>;

    /// Makes or checks the mount point.
    ///
    /// # Errors
    /// [`Failure::Point`].
    fn prepare(&self, share: &Share) -> Result<Self::Point, Failure>;

    /// The route from this machine to a server now, if there is one.
    fn route(&self, to: SocketAddr) -> Option<Route>;

    /// Takes back what [`Machine::prepare`], or a run that was killed, made for the share.
    fn discard(&self, share: &Share, point: Self::Point);

    /// Takes away the mount point that this run (`made`) or an earlier one made for the share.
    /// Users must not write into an empty folder where a share should be: that would be lost.
    fn abandon(&self, share: &Share, made: bool);

    /// The addresses to try, in order, before `until`.
    ///
    /// # Errors
    /// [`Failure::Name`].
    fn resolve(&self, share: &Share, until: Deadline) -> Result<Found, Failure>;

    /// The addresses of the other family, if a name server was asked for IPv4 alone; `None` if that
    /// was not answered before `until`.
    ///
    /// # Errors
    /// [`Failure::Stopped`].
    fn further(
        &self,
        share: &Share,
        found: &Found,
        until: Deadline,
    ) -> Result<Option<Vec<IpAddr>>, Failure>;

    /// The addresses that the name servers give for the share's name as it is written, whatever
    /// /etc/hosts says. With `ipv6`, these are its IPv6 addresses.
    ///
    /// # Errors
    /// See [`NameError`].
    fn past_hosts(&self, share: &Share, ipv6: bool, until: Deadline) -> Result<Found, NameError>;

    /// A value that changes when hosts or resolv.conf change.
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

    /// Calls mount(2), for as long as `limit` allows. Proves that the mount shows in the mount
    /// table and goes the way that the call names.
    ///
    /// # Errors
    /// Any failure that is not named above.
    fn mount(
        &self,
        share: &Share,
        call: &MountCall,
        point: &Self::Point,
        limit: MountLimit,
    ) -> Result<Mounted, Failure>;

    /// Does what is left to do once it is mounted, before `until`. Returns what a person should
    /// know.
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

/// How long one mount(2) may take.
#[derive(Debug, Clone, Copy)]
pub struct MountLimit {
    /// It is cut off then.
    pub until: Deadline,
    /// It is cut off earlier if the server leaves an NFS NULL call without an answer for this long.
    pub silence: Option<Duration>,
}

/// What the server of a mounted share answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAnswer {
    /// It can be used.
    Well,
    /// The answer is this error, which everybody who wants a file gets too.
    Fault(Errno),
    /// There is no answer.
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
    /// Whether it was mounted before this run.
    pub already: bool,
    /// Whether it replaced a mount that was of no use.
    pub anew: bool,
    /// How it differs from the config.
    pub differs: Vec<String>,
    /// Whether the folder that it is mounted on has files, which cannot be seen now.
    pub hides: bool,
    /// Whether the folder that it is mounted on was made for it.
    pub made: bool,
    /// The identity of that folder, if it was there before.
    pub over: Option<FolderId>,
    /// What the process that mounted it saw of its root, if there was time to look.
    pub root: Option<worker::RootLook>,
    /// The port that the kernel has for it: the server's, or the tunnel's.
    pub port: u16,
    /// The far end of the tunnel, if it goes through one.
    pub peer: Option<Peer>,
    /// Why it could not be mounted under a host name that stands for its way alone, if so.
    pub nameless: Option<Errno>,
    /// Why its server may be another machine than the config means, if so.
    pub doubt: Option<String>,
}

impl Mounted {
    /// The address of the server, also behind a tunnel.
    pub fn server(&self) -> String {
        self.peer.as_ref().map_or_else(|| self.address.clone(), |peer| peer.address.to_string())
    }

    /// What the mount table (df, findmnt) shows instead of the share's path, if a link or a
    /// referral on the server has led that elsewhere.
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
