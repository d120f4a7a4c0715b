//! The one place that explains: it turns a failed step into what is wrong and what to do about it.
//! Texts are made here alone, and only where one is reported: nothing takes them apart again.
//! Whether waiting may help is decided by [`class_of`].

mod class;
mod mounting;
mod network;
mod tunnel;

pub use class::{Class, class_of};

use crate::config::{Endpoint, Share, encryption};
use crate::kernel::connections::VOLUMES;
use crate::kernel::mount_table::AUTOFS;
use crate::kernel::route::Route;
use crate::net::names::{Answered, By};
use crate::net::reach::ReachError;
use crate::partitions;
use crate::retry::seconds;
use crate::share::Failure;
use crate::share::locate::Origin;
use crate::share::mount_point::PointError;
use crate::share::worker::WorkerError;
use crate::text::word;
use crate::tunnel::contract::{TunnelsError, USE_SYSTEMD};
use crate::tunnel::instance::escaped;
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};

/// What a failure means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Whether waiting may help.
    pub class: Class,
    /// What is wrong; lower case, no full stop.
    pub sentence: String,
    /// What an administrator can do.
    pub cure: String,
}

impl Cause {
    /// Whether trying again may help.
    pub fn is_temporary(&self) -> bool {
        self.class == Class::Temporary
    }
}

/// What was found out about this machine when something failed, as far as an explanation may
/// mention it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MachineFacts {
    /// The running kernel's release.
    pub kernel: String,
    /// The routes from this machine to the addresses that do not answer.
    pub routes: Vec<(IpAddr, Route)>,
    /// The signal that has ended the run, if one did.
    pub stopped_by: Option<Signal>,
}

impl MachineFacts {
    /// The facts that matter for `failure`. If no address answers, `route` is asked for the route
    /// to each.
    pub fn about(
        failure: &Failure,
        kernel: String,
        route: impl Fn(SocketAddr) -> Option<Route>,
    ) -> Self {
        let routes = match failure.reach() {
            Some(ReachError::NoneAnswers { port, tried }) => tried
                .iter()
                .filter_map(|(address, _)| {
                    Some((*address, route(SocketAddr::new(*address, *port))?))
                })
                .collect(),
            _ => Vec::new(),
        };
        Self { kernel, routes, stopped_by: None }
    }

    fn route_to(&self, address: IpAddr) -> Option<&Route> {
        self.routes.iter().find(|(to, _)| *to == address).map(|(_, route)| route)
    }
}

/// A sentence and a cure.
struct Words {
    sentence: String,
    cure: String,
}

fn words(sentence: impl Into<String>, cure: impl Into<String>) -> Words {
    Words { sentence: sentence.into(), cure: cure.into() }
}

const SECURITY_GROUP: &str = "the file system's security group must allow NFS (TCP 2049) from the \
                              fleet's security group (on an image builder: from the image builder's)";
const NO_CLIENT: &str =
    "install the kernel's nfsv4 module (modprobe nfsv4 must succeed) and create the image anew";
const WHOLE_PROC: &str = "let the process see all of /proc (no ProcSubset=pid in its unit, nothing mounted over /proc/fs)";
const BY_ADDRESS: &str = "or list the mount targets' addresses in `addresses`";

/// Explains `failure` of `share`; `kernel` is the running kernel's release.
pub fn explain(failure: &Failure, share: &Share, kernel: &str) -> Cause {
    explain_with(failure, share, &MachineFacts { kernel: kernel.to_owned(), ..Default::default() })
}

/// Explains `failure` of `share` by all that is known of the machine.
pub fn explain_with(failure: &Failure, share: &Share, facts: &MachineFacts) -> Cause {
    let Words { sentence, cure } = words_for(failure, share, facts);
    Cause { class: class_of(failure, share), sentence, cure }
}

fn words_for(failure: &Failure, share: &Share, facts: &MachineFacts) -> Words {
    let kernel = &facts.kernel;
    let at = share.mount_point.display();
    let word = word(share.mount_point.display());

    match failure {
        Failure::Name(error) => network::name(error, &share.endpoint),
        Failure::Reach(error) => network::reach(error, share, facts),
        Failure::NoFamily(proto) => {
            let kind = if *proto == "tcp6" { "IPv6" } else { "IPv4" };
            words(
                format!(
                    "{} has no {kind} address, which proto={proto} in `options` asks for",
                    share.endpoint
                ),
                format!("take proto={proto} out of `options`"),
            )
        }
        Failure::Led(failure, origin) => {
            led(words_for(failure, share, facts), failure, origin, share)
        }
        Failure::NoTunnel(why) => tunnel::not_started(why),
        Failure::Program { what, cure } => {
            let what = format!("the tunnel for encryption in transit is not started: {what}");
            words(what, cure)
        }
        Failure::NoSystemd => words(TunnelsError::NoSystemd.to_string(), USE_SYSTEMD),
        Failure::TunnelPort(port) => tunnel::port_taken(*port),
        Failure::Tunnel(failure) => tunnel::failed(failure, share),
        Failure::Encrypted(failure, peer) => tunnel::refused(failure, peer, share, facts),
        Failure::Mount(address, errno) => mounting::refused(*address, *errno, share, kernel),
        Failure::NoSelinux => {
            let keys: Vec<String> =
                share.options.contexts().map(|(key, _)| format!("{key}=")).collect();
            let keys = match keys.join(" and ") {
                none if none.is_empty() => "context=".into(),
                keys => keys,
            };
            words(
                format!(
                    "this kernel ({kernel}) does not take {keys} (EINVAL): SELinux is off, or not in it"
                ),
                format!(
                    "take {keys} out of `options`, or have SELinux on (SELINUX=permissive or enforcing in \
                     /etc/selinux/config, and boot anew)"
                ),
            )
        }
        Failure::NoModule => words(
            format!(
                "this kernel ({kernel}) has no NFS client for version 4: its module nfsv4 cannot be loaded"
            ),
            NO_CLIENT,
        ),
        Failure::ModuleForbidden(place) => words(
            format!("this kernel ({kernel}) may not load its NFS client: {place}"),
            "take that out, see that modprobe nfsv4 succeeds, and create the image anew",
        ),
        Failure::Forbidden(errno) => words(
            format!(
                "this machine forbids efs-agent to mount NFS on {at} ({errno:?}); no server was asked"
            ),
            "see what denied it (sudo dmesg | grep -i denied, sudo ausearch -m avc -ts recent): SELinux, AppArmor, \
             or SystemCallFilter= of the unit that starts it",
        ),
        Failure::Loopback(None) => words(
            "the loopback interface lo is down, by which the kernel comes to the tunnel".to_owned(),
            "sudo ip link set lo up, and see what takes it down",
        ),
        Failure::Loopback(Some(port)) => words(
            format!(
                "this machine blocks connections to its own port {port} of 127.0.0.1, by which the kernel comes to the \
                 tunnel"
            ),
            "let its firewall accept all that comes in on lo (sudo nft list ruleset, sudo iptables -S)",
        ),
        Failure::CutOff(address, span) => words(
            format!(
                "server {address} takes connections on TCP {}, but did not finish the mount within {}",
                share.options.port,
                seconds(*span)
            ),
            "check that it is an NFS server and not overloaded, and that no firewall, network ACL or \
             MTU mismatch on the way swallows larger packets",
        ),
        Failure::Probed(failure, heard) => mounting::probed(failure, *heard, share, facts),
        Failure::Point(error) => point(error),
        Failure::PointGone => words(
            format!("{at} was removed while it was being mounted on"),
            "check whether another run of efs-agent or a clean-up script removes it",
        ),
        Failure::Taken { source, fstype } => words(
            format!("{at} is taken: {}", is_there(source, fstype)),
            freed(source, fstype, share),
        ),
        Failure::Dead(address) => words(
            format!("{at} is mounted already, but its server {address} does not answer"),
            format!(
                "check that server; {SECURITY_GROUP}; umount -l {word} takes the dead mount away"
            ),
        ),
        Failure::Unusable(address, errno) => words(
            format!("{at} is mounted already from {address}, but {}", no_use(*errno)),
            format!(
                "the share is mounted anew as soon as {} can be reached (sudo efs-agent --once); {}",
                share.endpoint,
                look_there(*errno)
            ),
        ),
        Failure::BadRoot(address, errno) => words(
            format!(
                "server {address} lets {} be mounted, but {}: taken away again",
                share.path,
                no_use(*errno)
            ),
            look_there(*errno),
        ),
        Failure::Referred { source, to } => words(
            format!(
                "{at} is to be encrypted, but the server refers {} to {source}{}, which is not behind its tunnel: \
                 taken away again",
                share.path,
                to.map(|to| format!(" at {to}")).unwrap_or_default()
            ),
            "write the file system that it leads to as `endpoint`, and its `path` there",
        ),
        Failure::ReadOnly => words(
            format!("{at} is mounted already, but read-only, and the config wants to write"),
            format!("unmount it (umount {word}) and run again, or put ro into `options`"),
        ),
        Failure::OtherWay => {
            let (is, wants) = match share.encryption {
                Some(_) => ("without encryption in transit", "wants it"),
                None => ("through a tunnel that encrypts", "wants it plain"),
            };
            words(
                format!("{at} is mounted already, but {is}, and the config {wants}"),
                format!(
                    "unmount it (efs-agent unmount) and run again, or correct `{}`",
                    encryption::MAIN
                ),
            )
        }
        Failure::OffWay(to) => {
            let (wanted, not) = match share.encryption {
                Some(_) => ("encrypted", "which is not its tunnel"),
                None => ("plain", "which is a tunnel"),
            };
            let what = match to {
                Some(to) => format!("the kernel is connected to {to} for it, {not}"),
                None => format!("the kernel does not show in /{VOLUMES} where it is connected to"),
            };
            words(
                format!("{at} is to be {wanted}, but {what}: taken away again"),
                match to {
                    Some(_) => {
                        "see what else is mounted from this file system (findmnt -t nfs4), unmount that, and \
                         run this again"
                    }
                    None => WHOLE_PROC,
                },
            )
        }
        Failure::Unverified => words(
            format!(
                "{at} is mounted already, but the kernel does not show in /{VOLUMES} whether it goes through its \
                 tunnel: left as it is"
            ),
            WHOLE_PROC,
        ),
        Failure::NoHostName(errno) => words(
            format!(
                "{at} cannot be kept apart from other mounts of its server: a host name of its own is refused \
                 to the process that mounts ({errno:?})"
            ),
            "if a unit starts it, let it have RestrictNamespaces=uts or none, no ProtectHostname=, and no \
             SystemCallFilter= against unshare and sethostname",
        ),
        Failure::Hidden => words(
            format!("{at} is mounted, but a later mount hides it"),
            format!(
                "see what lies over it (findmnt --target {word}), unmount that, and run this again"
            ),
        ),
        Failure::NoTable(errno) => words(
            format!("/proc/self/mountinfo cannot be read: {errno}"),
            "mount /proc: without it nothing can tell whether a share is mounted",
        ),
        Failure::NotShown => words(
            format!("mount(2) reported success, but no such mount shows at {at}"),
            "check whether the folder was renamed or moved during the mount",
        ),
        Failure::Odd(returned) => words(
            format!("mount(2) returned {returned} and mounted nothing"),
            "take unusual words out of `options`",
        ),
        Failure::Worker(WorkerError::Fork(errno)) => words(
            format!("the process that mounts cannot be started: {errno}"),
            "check the machine's limits on processes and memory",
        ),
        Failure::Worker(error) => words(
            error.to_string(),
            "check the kernel log (dmesg) for an out-of-memory kill or a fault of the NFS client",
        ),
        Failure::NoTime => words(
            format!(
                "no time was left for it: the shares of {} are mounted one after another",
                share.endpoint
            ),
            "see the lines above for the share before it",
        ),
        Failure::NotWritten(address, span) => words(
            format!(
                "server {address} did not take all that was written within {}; the share is detached, and \
                 the kernel goes on writing for as long as the machine runs",
                seconds(*span)
            ),
            "raise `unmount_deadline`, and with it waitingTime of SessionTermination",
        ),
        Failure::Lost(address) => words(
            format!(
                "server {address} does not answer: taken away by force, and what it had not got yet is lost"
            ),
            format!("check that server; {SECURITY_GROUP}"),
        ),
        Failure::PortLost(port) => words(
            format!(
                "its tunnel has gone from port {port}, which any user can take: taken away by force, and what \
                 the server had not got yet is lost"
            ),
            "nothing more: from the next start on, the tunnel is at a port that root alone can take",
        ),
        Failure::Refused(errno) => words(
            format!(
                "the server refused some of what was written: {} ({errno:?})",
                errno.desc().to_lowercase()
            ),
            "look for a full file system or quota on the server, and at its log",
        ),
        Failure::Stays => words(
            format!("umount2(2) does not take {at} away"),
            format!("see the kernel log (dmesg); umount -l {word} detaches it"),
        ),
        Failure::Stopped(before) => stopped(before.as_deref(), share, facts),
    }
}

/// Adds to the words where the address came from, because the address may be what is wrong.
fn led(words_of_it: Words, failure: &Failure, origin: &Origin, share: &Share) -> Words {
    let Words { sentence, cure } = words_of_it;
    let name = &share.endpoint;
    let sentence = match &origin.by {
        By::Listed(why) => {
            format!("{name} does not resolve ({why}), and of `addresses`: {sentence}")
        }
        _ => format!("{sentence}; {origin}"),
    };

    let address = failure.first_address();
    let cure = match (&origin.by, &origin.beside) {
        (By::Hosts, _) if address.is_some_and(|address| address.is_loopback()) => {
            format!(
                "write the file system's DNS name as `endpoint`: {name} is this machine; else {cure}"
            )
        }
        (By::Hosts, Some(Ok(_))) if origin.may_be_stale(address) => {
            format!("correct the line of {name} in /etc/hosts, or take it out; else {cure}")
        }
        (By::Hosts, _) if origin.may_be_stale(address) => {
            format!("check the line of {name} in /etc/hosts; else {cure}")
        }
        (By::Listed(_) | By::Config, _) => format!("check `addresses`; else {cure}"),
        (By::Server(Answered { completed: Some(completed), .. }), _) => format!(
            "if {completed} is not the server that you mean, write its whole name as `endpoint`, with a dot at its \
             end; else {cure}"
        ),
        _ => cure,
    };

    words(sentence, cure)
}

/// What is mounted where the share should be.
pub fn is_there(source: &str, fstype: &str) -> String {
    match (fstype, source) {
        (AUTOFS, SYSTEMD) => format!("an automount of systemd ({source}, {fstype}) is there"),
        (AUTOFS, _) => format!("an automount of autofs ({source}, {fstype}) is there"),
        _ => format!("{source} ({fstype}) is mounted there"),
    }
}

/// The source that systemd gives its automounts.
const SYSTEMD: &str = "systemd-1";

/// How to free the mount point for good, and not only until the next boot.
fn freed(source: &str, fstype: &str, share: &Share) -> String {
    let (at, word) = (share.mount_point.display(), word(share.mount_point.display()));
    let other = "or give the share another mount_point";
    match (fstype, source) {
        (AUTOFS, SYSTEMD) => {
            let unit = format!("{}.automount", escaped(&share.mount_point));
            format!(
                "take the line out of /etc/fstab that has {at} (or disable {unit}), then sudo systemctl \
                 daemon-reload and sudo systemctl stop '{unit}', {other}"
            )
        }
        (AUTOFS, _) => format!(
            "take {at} out of /etc/auto.master or the map {source}, then sudo systemctl reload autofs, {other}"
        ),
        // The mount helper of amazon-efs-utils shows its tunnel as the source.
        (_, source) if source.starts_with("127.0.0.1:") => format!(
            "unmount it (umount {word}), and take its line out of /etc/fstab if amazon-efs-utils (mount.efs) \
             mounts it, {other}"
        ),
        _ => format!("unmount it (umount {word}), {other}"),
    }
}

/// What the server's answer means for a share that is mounted.
pub fn no_use(errno: Errno) -> String {
    match errno {
        Errno::ESTALE => {
            "its folder is gone from the server, or was made anew there (ESTALE)".to_owned()
        }
        Errno::EACCES | Errno::EPERM => {
            format!("the server does not let this machine in any more ({errno:?})")
        }
        _ => format!("its root cannot be used: {} ({errno:?})", errno.desc().to_lowercase()),
    }
}

fn look_there(errno: Errno) -> &'static str {
    match errno {
        Errno::ESTALE => "see on the server who removes that folder or makes it anew",
        Errno::EACCES | Errno::EPERM => {
            "check the file system policy and the access point or, on another NFS server, its exports"
        }
        _ => "see the server's log and its disks, and the kernel log here (dmesg)",
    }
}

/// The words for a run that a signal ended. They say above all what it was waiting for.
fn stopped(before: Option<&Failure>, share: &Share, facts: &MachineFacts) -> Words {
    let by = facts.stopped_by.map_or("a signal", Signal::as_str);
    let Words { sentence, cure } = match before.map(|before| words_for(before, share, facts)) {
        None => words(format!("stopped by {by} before it was mounted"), "start it again"),
        Some(Words { sentence, cure }) => {
            words(format!("stopped by {by} before it was mounted; until then: {sentence}"), cure)
        }
    };

    let hint = match facts.stopped_by {
        Some(Signal::SIGTERM) => {
            "; if AppStream stopped it, set `deadline` 2 s or more below its waitingTime"
        }
        _ => "",
    };

    words(sentence, format!("{cure}{hint}"))
}

fn is_of_aws(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Name(name) if partitions::is_of_aws(name))
}

fn point(error: &PointError) -> Words {
    let cure = match error {
        PointError::Symlink(_) => "write the real path as mount_point".to_owned(),
        PointError::NotAFolder { path, .. } => {
            format!("remove or rename {}, or give the share another mount_point", path.display())
        }
        PointError::UnsafeParent { path, parent } => format!(
            "make it in the image (sudo mkdir {}), or give {} to root alone",
            path.display(),
            parent.display()
        ),
        PointError::Remote { .. } => {
            "give the share a mount_point on a local file system".to_owned()
        }
        PointError::Failed { errno: Errno::EROFS, .. } => {
            "give the share a mount_point on a file system that can be written".to_owned()
        }
        PointError::Failed { path, .. } => {
            format!("look at {}, or give the share another mount_point", path.display())
        }
    };

    words(error.to_string(), cure)
}

#[cfg(test)]
mod tests;
