//! The one place that explains: a failed step becomes what is wrong, what to
//! do about it, and whether waiting may help. mount.nfs gives up at once on
//! several of the errors here that a session start must wait out, because the
//! network interface is attached while it runs.

mod route;
mod tunnel;

pub use route::explain_by;

use crate::config::{Endpoint, Share, encryption};
use crate::kernel::connections::VOLUMES;
use crate::kernel::mount_table::AUTOFS;
use crate::net::names::{Answered, By, NameError};
use crate::net::probe::Heard;
use crate::net::reach::{Problem, ReachError};
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
use std::net::{IpAddr, Ipv4Addr};

/// What kind of an end a cause is; `report` turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may pass: try again until the deadline.
    Temporary,
    /// Only a person can mend it.
    Permanent,
    /// A fault of ours or of the machine's, not of the share's.
    Fault,
}

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

fn cause(class: Class, sentence: impl Into<String>, cure: impl Into<String>) -> Cause {
    Cause { class, sentence: sentence.into(), cure: cure.into() }
}

const SECURITY_GROUP: &str = "the file system's security group must allow NFS (TCP 2049) from the \
                              fleet's security group (on an image builder: from the image builder's)";
const NO_CLIENT: &str =
    "install the kernel's nfsv4 module (modprobe nfsv4 must succeed) and create the image anew";
const LARGER: &str = "look for a firewall, network ACL or MTU mismatch on the way that swallows larger \
                      packets (does it work after: sudo ip link set dev eth0 mtu 1300), and at the \
                      server's load";
const WHOLE_PROC: &str = "let the process see all of /proc (no ProcSubset=pid in its unit, nothing mounted over /proc/fs)";
const SPELLING: &str = "check the spelling of `endpoint`";
const BY_ADDRESS: &str = "or list the mount targets' addresses in `addresses`";

/// Explains `failure` of `share`; `kernel` is the running kernel's release.
pub fn explain(failure: &Failure, share: &Share, kernel: &str) -> Cause {
    let at = share.mount_point.display();
    let word = word(share.mount_point.display());
    match failure {
        Failure::Name(error) => name(error, &share.endpoint),
        Failure::Reach(error) => reach(error, share),
        Failure::NoFamily(proto) => {
            let kind = if *proto == "tcp6" { "IPv6" } else { "IPv4" };
            cause(
                Class::Temporary,
                format!(
                    "{} has no {kind} address, which proto={proto} in `options` asks for",
                    share.endpoint
                ),
                format!("take proto={proto} out of `options`"),
            )
        }
        Failure::Led(failure, origin) => {
            led(explain(failure, share, kernel), failure, origin, share)
        }
        Failure::NoTunnel(why) => tunnel::not_started(why),
        Failure::Program { what, cure } => {
            let what = format!("the tunnel for encryption in transit is not started: {what}");
            cause(Class::Permanent, what, cure)
        }
        Failure::NoSystemd => {
            cause(Class::Permanent, TunnelsError::NoSystemd.to_string(), USE_SYSTEMD)
        }
        Failure::TunnelPort(port) => tunnel::port_taken(*port),
        Failure::Tunnel(failure) => tunnel::failed(failure, share),
        Failure::Encrypted(failure, peer) => tunnel::refused(failure, peer, share, kernel),
        Failure::Mount(address, errno) => mount(*address, *errno, share, kernel),
        Failure::NoSelinux => {
            let keys: Vec<String> =
                share.options.contexts().map(|(key, _)| format!("{key}=")).collect();
            let keys = match keys.join(" and ") {
                none if none.is_empty() => "context=".into(),
                keys => keys,
            };
            cause(
                Class::Permanent,
                format!(
                    "this kernel ({kernel}) does not take {keys} (EINVAL): SELinux is off, or not in it"
                ),
                format!(
                    "take {keys} out of `options`, or have SELinux on (SELINUX=permissive or enforcing in \
                     /etc/selinux/config, and boot anew)"
                ),
            )
        }
        Failure::NoModule => cause(
            Class::Permanent,
            format!(
                "this kernel ({kernel}) has no NFS client for version 4: its module nfsv4 cannot be loaded"
            ),
            NO_CLIENT,
        ),
        Failure::ModuleForbidden(place) => cause(
            Class::Permanent,
            format!("this kernel ({kernel}) may not load its NFS client: {place}"),
            "take that out, see that modprobe nfsv4 succeeds, and create the image anew",
        ),
        Failure::Forbidden(errno) => cause(
            Class::Permanent,
            format!(
                "this machine forbids efs-agent to mount NFS on {at} ({errno:?}); no server was asked"
            ),
            "see what denied it (sudo dmesg | grep -i denied, sudo ausearch -m avc -ts recent): SELinux, AppArmor, \
             or SystemCallFilter= of the unit that starts it",
        ),
        Failure::Loopback(None) => cause(
            Class::Temporary,
            "the loopback interface lo is down, by which the kernel comes to the tunnel".to_owned(),
            "sudo ip link set lo up, and see what takes it down",
        ),
        Failure::Loopback(Some(port)) => cause(
            Class::Temporary,
            format!(
                "this machine blocks connections to its own port {port} of 127.0.0.1, by which the kernel comes to the \
                 tunnel"
            ),
            "let its firewall accept all that comes in on lo (sudo nft list ruleset, sudo iptables -S)",
        ),
        Failure::CutOff(address, span) => cause(
            Class::Temporary,
            format!(
                "server {address} takes connections on TCP {}, but did not finish the mount within {}",
                share.options.port,
                seconds(*span)
            ),
            "check that it is an NFS server and not overloaded, and that no firewall, network ACL or \
             MTU mismatch on the way swallows larger packets",
        ),
        Failure::Probed(failure, heard) => probed(failure, *heard, share, kernel),
        Failure::Point(error) => point(error),
        Failure::PointGone => cause(
            Class::Temporary,
            format!("{at} was removed while it was being mounted on"),
            "check whether another run of efs-agent or a clean-up script removes it",
        ),
        Failure::Taken { source, fstype } => cause(
            Class::Permanent,
            format!("{at} is taken: {}", is_there(source, fstype)),
            freed(source, fstype, share),
        ),
        Failure::Dead(address) => cause(
            Class::Temporary,
            format!("{at} is mounted already, but its server {address} does not answer"),
            format!(
                "check that server; {SECURITY_GROUP}; umount -l {word} takes the dead mount away"
            ),
        ),
        Failure::Unusable(address, errno) => cause(
            Class::Temporary,
            format!("{at} is mounted already from {address}, but {}", no_use(*errno)),
            format!(
                "the share is mounted anew as soon as {} can be reached (sudo efs-agent --once); {}",
                share.endpoint,
                look_there(*errno)
            ),
        ),
        Failure::BadRoot(address, errno) => cause(
            match errno {
                Errno::EACCES | Errno::EPERM => Class::Permanent,
                _ => Class::Temporary,
            },
            format!(
                "server {address} lets {} be mounted, but {}: taken away again",
                share.path,
                no_use(*errno)
            ),
            look_there(*errno),
        ),
        Failure::Referred { source, to } => cause(
            Class::Permanent,
            format!(
                "{at} is to be encrypted, but the server refers {} to {source}{}, which is not behind its tunnel: \
                 taken away again",
                share.path,
                to.map(|to| format!(" at {to}")).unwrap_or_default()
            ),
            "write the file system that it leads to as `endpoint`, and its `path` there",
        ),
        Failure::ReadOnly => cause(
            Class::Permanent,
            format!("{at} is mounted already, but read-only, and the config wants to write"),
            format!("unmount it (umount {word}) and run again, or put ro into `options`"),
        ),
        Failure::OtherWay => {
            let (is, wants) = match share.encryption {
                Some(_) => ("without encryption in transit", "wants it"),
                None => ("through a tunnel that encrypts", "wants it plain"),
            };
            cause(
                Class::Permanent,
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
            cause(
                Class::Permanent,
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
        Failure::Unverified => cause(
            Class::Permanent,
            format!(
                "{at} is mounted already, but the kernel does not show in /{VOLUMES} whether it goes through its \
                 tunnel: left as it is"
            ),
            WHOLE_PROC,
        ),
        Failure::NoHostName(errno) => cause(
            Class::Permanent,
            format!(
                "{at} cannot be kept apart from other mounts of its server: a host name of its own is refused \
                 to the process that mounts ({errno:?})"
            ),
            "if a unit starts it, let it have RestrictNamespaces=uts or none, no ProtectHostname=, and no \
             SystemCallFilter= against unshare and sethostname",
        ),
        Failure::Hidden => cause(
            Class::Permanent,
            format!("{at} is mounted, but a later mount hides it"),
            format!(
                "see what lies over it (findmnt --target {word}), unmount that, and run this again"
            ),
        ),
        Failure::NoTable(errno) => cause(
            Class::Fault,
            format!("/proc/self/mountinfo cannot be read: {errno}"),
            "mount /proc: without it nothing can tell whether a share is mounted",
        ),
        Failure::NotShown => cause(
            Class::Fault,
            format!("mount(2) reported success, but no such mount shows at {at}"),
            "check whether the folder was renamed or moved during the mount",
        ),
        Failure::Odd(returned) => cause(
            Class::Permanent,
            format!("mount(2) returned {returned} and mounted nothing"),
            "take unusual words out of `options`",
        ),
        Failure::Worker(WorkerError::Fork(errno)) => cause(
            Class::Temporary,
            format!("the process that mounts cannot be started: {errno}"),
            "check the machine's limits on processes and memory",
        ),
        Failure::Worker(error) => cause(
            Class::Temporary,
            error.to_string(),
            "check the kernel log (dmesg) for an out-of-memory kill or a fault of the NFS client",
        ),
        Failure::NoTime => cause(
            Class::Temporary,
            format!(
                "no time was left for it: the shares of {} are mounted one after another",
                share.endpoint
            ),
            "see the lines above for the share before it",
        ),
        Failure::NotWritten(address, span) => cause(
            Class::Temporary,
            format!(
                "server {address} did not take all that was written within {}; the share is detached, and \
                 the kernel goes on writing for as long as the machine runs",
                seconds(*span)
            ),
            "raise `unmount_deadline`, and with it waitingTime of SessionTermination",
        ),
        Failure::Lost(address) => cause(
            Class::Temporary,
            format!(
                "server {address} does not answer: taken away by force, and what it had not got yet is lost"
            ),
            format!("check that server; {SECURITY_GROUP}"),
        ),
        Failure::PortLost(port) => cause(
            Class::Temporary,
            format!(
                "its tunnel has gone from port {port}, which any user can take: taken away by force, and what \
                 the server had not got yet is lost"
            ),
            "nothing more: from the next start on, the tunnel is at a port that root alone can take",
        ),
        Failure::Refused(errno) => cause(
            Class::Permanent,
            format!(
                "the server refused some of what was written: {} ({errno:?})",
                errno.desc().to_lowercase()
            ),
            "look for a full file system or quota on the server, and at its log",
        ),
        Failure::Stays => cause(
            Class::Fault,
            format!("umount2(2) does not take {at} away"),
            format!("see the kernel log (dmesg); umount -l {word} detaches it"),
        ),
        Failure::Stopped(before) => stopped(before.as_deref(), share, kernel),
    }
}

/// What failed with an address, and where that came from: the address may be what is wrong.
fn led(of_it: Cause, failure: &Failure, origin: &Origin, share: &Share) -> Cause {
    let Cause { class, sentence, cure } = of_it;
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
    cause(class, sentence, cure)
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

/// How the mount point gets free, for longer than until the next boot.
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
        // The mount helper of amazon-efs-utils names its tunnel.
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

/// A run that was ended from outside: what it was waiting for is what matters.
fn stopped(before: Option<&Failure>, share: &Share, kernel: &str) -> Cause {
    match before.map(|before| explain(before, share, kernel)) {
        None => {
            cause(Class::Temporary, "stopped by a signal before it was mounted", "start it again")
        }
        Some(Cause { sentence, cure, .. }) => {
            let sentence =
                format!("stopped by a signal before it was mounted; until then: {sentence}");
            cause(Class::Temporary, sentence, cure)
        }
    }
}

fn name(error: &NameError, endpoint: &Endpoint) -> Cause {
    if let NameError::Alias { to, why } = error {
        let Cause { class, cure, .. } = name(why, &Endpoint::Name(to.clone()));
        let cure = match to.contains(".amazonaws.") && !partitions::is_of_aws(to) {
            true => format!(
                "put a dot at the end of what the alias (CNAME record) of {endpoint} leads to"
            ),
            false => cure
                .replacen(
                    SPELLING,
                    &format!("check where the alias (CNAME record) of {endpoint} leads to"),
                    1,
                )
                .replacen(" and its region", "", 1),
        };
        return cause(class, format!("{endpoint} does not resolve: {error}"), cure);
    }
    let wait = "the network interface may not be attached yet; else check that the VPC's DHCP options name a DNS server";
    let cure = match error {
        NameError::NoServers(_) => format!("{wait}, {BY_ADDRESS}"),
        NameError::Unreachable { servers, .. } => match servers.first() {
            Some((server, _)) if server.is_loopback() => {
                format!(
                    "check what should answer there (systemctl status systemd-resolved), {BY_ADDRESS}"
                )
            }
            _ => format!(
                "the network interface may not be attached yet; else check that name server and the way to it (ip \
                 route), {BY_ADDRESS}"
            ),
        },
        NameError::Circle(_) => format!("correct the alias (CNAME record), {BY_ADDRESS}"),
        NameError::Silent(..) => {
            format!("check that this machine's subnet can reach that name server, {BY_ADDRESS}")
        }
        NameError::NoSuchName(_) | NameError::NoAddress(_) if !is_of_aws(endpoint) => {
            format!("{SPELLING}, and that this machine's DNS knows the name, {BY_ADDRESS}")
        }
        NameError::NoSuchName(_) | NameError::NoAddress(_) if !is_of_efs(endpoint) => {
            format!(
                "{SPELLING} and its region, and that this machine is in its VPC, with DNS resolution on, {BY_ADDRESS}"
            )
        }
        NameError::NoSuchName(_) | NameError::NoAddress(_) => format!(
            "{SPELLING} and its region, that this machine is in the file system's VPC, with DNS resolution and DNS \
             hostnames on, and that the file system has a mount target in this machine's Availability Zone, \
             {BY_ADDRESS}"
        ),
        NameError::Failed(..) => format!("check the VPC's name server, {BY_ADDRESS}"),
        NameError::Unusable(..) => {
            format!("check /etc/hosts and the VPC's DNS rules, {BY_ADDRESS}")
        }
        NameError::BadName | NameError::Alias { .. } | NameError::Stopped(_) => {
            "check the spelling of `endpoint`".to_owned()
        }
    };
    cause(Class::Temporary, format!("{endpoint} does not resolve: {error}"), cure)
}

/// Other file systems of AWS have no mount targets.
fn is_of_efs(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Name(name) if name.contains(".efs."))
}

fn is_of_aws(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Name(name) if partitions::is_of_aws(name))
}

fn reach(error: &ReachError, share: &Share) -> Cause {
    let ReachError::NoneAnswers { tried, .. } = error else {
        return stopped(None, share, "");
    };
    let silent = tried.iter().any(|(_, problem)| matches!(problem, Problem::Silent { .. }));
    let from_management = |problem: &Problem| match problem {
        Problem::Silent { from: Some(IpAddr::V4(from)), .. } if is_management(from) => Some(*from),
        _ => None,
    };
    // Those that were turned down tell nothing of where the silent ones went.
    let is_silent = |(_, problem): &&(IpAddr, Problem)| matches!(problem, Problem::Silent { .. });
    let gone = tried.iter().filter(is_silent);
    let astray: Option<Vec<Ipv4Addr>> = gone.map(|(_, p)| from_management(p)).collect();
    let refused = tried.iter().any(|(_, p)| *p == Problem::Errno(Errno::ECONNREFUSED));
    let no_port = tried.iter().any(|(_, problem)| *problem == Problem::NoPort);
    let cure = if no_port {
        "end the program that has taken them: ss -Htanp | grep -o 'users:.*' | sort | uniq -c | sort -n | tail -n 3"
            .to_owned()
    } else if let Some(from) = astray.and_then(|from| from.first().copied()) {
        format!(
            "{from} is of AppStream's management network, which does not lead to your VPC: the \
             fleet's own network interface may not be attached yet; else check that the fleet's \
             subnets are in the file system's VPC, or have a route to it"
        )
    } else if silent {
        SECURITY_GROUP.to_owned()
    } else if refused {
        format!(
            "check that `endpoint` names an NFS server and that it is running, with TCP {} open",
            share.options.port
        )
    } else {
        "the network interface may not be attached yet; else check this machine's subnet and route \
         tables, and that they lead to the file system's VPC"
            .to_owned()
    };
    cause(Class::Temporary, error.to_string(), cure)
}

/// AppStream's own network, 198.19.0.0/16, which each instance has beside the one in the customer's VPC.
fn is_management(from: &Ipv4Addr) -> bool {
    matches!(from.octets(), [198, 19, ..])
}

/// A mount that did not come about, and what the server made of an NFS NULL call right after.
fn probed(failure: &Failure, heard: Heard, share: &Share, kernel: &str) -> Cause {
    let Some(address) = failure.failed_address() else {
        return explain(failure, share, kernel);
    };
    let port = share.options.port;
    let another = format!(
        "check `endpoint`, and that the NFS server listens on TCP {port} (`options` can name another port)"
    );
    let (sentence, cure) = match (heard, failure) {
        (Heard::Nfs, Failure::CutOff(_, span)) => (
            format!(
                "server {address} answers an NFS NULL call, but did not finish the mount within {}",
                seconds(*span)
            ),
            LARGER.to_owned(),
        ),
        (Heard::Nfs, _) => {
            let sentence = explain(failure, share, kernel).sentence;
            (format!("{sentence}, though it answers an NFS NULL call"), LARGER.to_owned())
        }
        (Heard::OtherRpc, _) => {
            (format!("server {address} has no NFS version 4 on TCP {port}"), another)
        }
        (Heard::NotRpc, _) => {
            (format!("what answers on TCP {port} of {address} is not an NFS server"), another)
        }
        (Heard::Closed, _) => (
            format!("{address} takes connections on TCP {port} and closes them without an answer"),
            format!("{another}; a proxy or firewall that ends connections does the same"),
        ),
        (Heard::Nothing, _) => (
            format!(
                "server {address} takes connections on TCP {port}, but answers nothing, not even an \
                 NFS NULL call"
            ),
            format!("{another}, and that it is not hung"),
        ),
    };
    cause(Class::Temporary, sentence, cure)
}

fn mount(address: IpAddr, errno: Errno, share: &Share, kernel: &str) -> Cause {
    let path = &share.path;
    let version = share.options.version();
    let data = share.options.data(address);
    match errno {
        Errno::EACCES => cause(
            Class::Permanent,
            format!("access denied by server {address} for {path} (EACCES)"),
            "if the file system policy demands encryption or IAM, set encryption_in_transit = true (and iam \
             = true); else allow elasticfilesystem:ClientMount to everyone there or, on another NFS server, \
             this client in its exports",
        ),
        Errno::EPERM => cause(
            Class::Permanent,
            format!(
                "server {address} refuses this client (EPERM): it may take only ports below 1024, or want Kerberos \
                 (sec=krb5), which efs-agent does not speak"
            ),
            if data.split(',').any(|word| word == "resvport") {
                "export with sec=sys on the server. If it does: resvport is in `options`, but the kernel has put the \
                 share onto the connection of an earlier mount of this server: unmount that, or give it resvport too; \
                 or export with \"insecure\""
            } else {
                "see how the server exports it (exportfs -v): with sec=krb5, krb5i or krb5p alone, add sec=sys; else \
                 put resvport into `options`, or export with \"insecure\""
            },
        ),
        Errno::ENOENT => cause(
            Class::Permanent,
            format!("server {address} has no path {path} (ENOENT)"),
            match &share.endpoint {
                endpoint if is_of_aws(endpoint) => {
                    "correct `path`, or make that folder on the file system (mount \"/\" once and mkdir)"
                }
                // What is not EFS may have a root of its own making.
                _ => {
                    "correct `path`, or make that folder on the server; if /etc/exports there has fsid=0 (or fsid=root), \
                     `path` begins at that export: /srv/nfs/a is \"/a\" where /srv/nfs has it"
                }
            },
        ),
        Errno::ENOTDIR => cause(
            Class::Permanent,
            format!("{path} on server {address} is not a folder (ENOTDIR)"),
            "correct `path`",
        ),
        Errno::ELOOP => cause(
            Class::Permanent,
            format!("{path} on server {address} leads through too many links or referrals (ELOOP)"),
            "correct `path`, or the link on the file system that leads back to itself",
        ),
        Errno::EPROTONOSUPPORT => cause(
            Class::Permanent,
            format!("server {address} does not speak NFS {version} (EPROTONOSUPPORT)"),
            "check `endpoint`, or put another nfsvers= into `options`",
        ),
        Errno::ENODEV => cause(
            Class::Permanent,
            format!("this kernel ({kernel}) has no NFS client (ENODEV)"),
            NO_CLIENT,
        ),
        Errno::EINVAL => cause(
            Class::Permanent,
            format!("this kernel ({kernel}) does not take the mount options {data} (EINVAL)"),
            match (share.options.contexts().next(), share.options.young().join(", ")) {
                (Some((key, _)), _) => format!(
                    "look at what SELinux says of it (dmesg): {key}= in `options` must be a context of this machine's \
                     policy (ls -Z / shows some)"
                ),
                (None, young) if !young.is_empty() => {
                    format!("take out of `options` what this kernel may not know ({young})")
                }
                _ => "take out of `options` what this kernel may not know (softerr, nconnect, write, …)".into(),
            },
        ),
        Errno::ENAMETOOLONG => {
            cause(Class::Permanent, format!("{path} is too long (ENAMETOOLONG)"), "correct `path`")
        }
        Errno::EBUSY => cause(
            Class::Permanent,
            format!("{} is busy (EBUSY)", share.mount_point.display()),
            match share.options.contexts().next() {
                // On kernels before 5.13 all mounts of one file system share their labels.
                Some((key, _)) => format!(
                    "see what else is mounted from this server (findmnt -t nfs4): on this kernel ({kernel}) all its \
                     mounts may have to have the same {key}=, or none"
                ),
                None => {
                    "see what is mounted there (findmnt), or give the share another mount_point".into()
                }
            },
        ),
        Errno::ECONNREFUSED => cause(
            Class::Temporary,
            format!("server {address} turned the mount's connection down (ECONNREFUSED)"),
            "check that the NFS server is running",
        ),
        Errno::ETIMEDOUT => cause(
            Class::Temporary,
            format!("server {address} stopped answering during the mount (ETIMEDOUT)"),
            SECURITY_GROUP,
        ),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN => cause(
            Class::Temporary,
            format!("the way to server {address} was lost during the mount ({errno:?})"),
            "check the network interface and the route tables",
        ),
        Errno::EIO | Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED | Errno::EPROTO => {
            cause(
                Class::Temporary,
                format!(
                    "server {address} broke the mount off or gave no sensible answer ({errno:?})"
                ),
                "check that it is an NFS server, and its log",
            )
        }
        // The server has no part in it: nothing is written by a mount.
        Errno::ENOSPC => cause(
            Class::Temporary,
            "this machine has as many mounts as it may have, fs.mount-max (ENOSPC)".to_owned(),
            "see what mounts so much (findmnt | wc -l, sysctl fs.mount-max) and unmount it, or raise fs.mount-max",
        ),
        // Shortages, a server in its grace period, and whatever else may pass.
        other => cause(
            Class::Temporary,
            format!("mount(2) from {address} failed: {} ({other:?})", other.desc().to_lowercase()),
            "see the kernel log (dmesg)",
        ),
    }
}

fn point(error: &PointError) -> Cause {
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
    // A shortage may pass.
    let short = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM];
    let class = match error {
        PointError::Failed { errno, .. } if short.contains(errno) => Class::Temporary,
        _ => Class::Permanent,
    };
    cause(class, error.to_string(), cure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::share;
    use crate::kernel::route::Route;
    use std::net::SocketAddr;
    use std::time::Duration;

    fn explained(failure: Failure) -> Cause {
        explain(&failure, &share("path = \"/home\""), "4.18.0-553")
    }

    fn address() -> IpAddr {
        "10.0.1.12".parse().unwrap()
    }

    #[test]
    fn a_silent_port_2049_names_the_security_group() {
        let from = Some("10.0.3.4".parse().unwrap());
        let silent = Problem::Silent { span: Duration::from_secs(3), from };
        let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), silent)] };
        let cause = explained(Failure::Reach(error));
        assert!(cause.is_temporary());
        assert_eq!(
            cause.sentence,
            "TCP 2049 to 10.0.1.12 from 10.0.3.4 timed out (nothing came back for 3.0 s)"
        );
        assert_eq!(
            cause.cure,
            "the file system's security group must allow NFS (TCP 2049) from the fleet's security group (on an image builder: from the image builder's)"
        );
    }

    #[test]
    fn a_silence_on_the_way_out_of_appstreams_own_network_names_that_network() {
        let from = Some("198.19.7.8".parse().unwrap());
        let silent = Problem::Silent { span: Duration::from_secs(3), from };
        let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), silent)] };
        let cure = explained(Failure::Reach(error)).cure;
        assert!(cure.starts_with("198.19.7.8 is of AppStream's management network, "), "{cure}");
    }

    /// What is said where the kernel has this way to the server.
    fn on(problem: Problem, name: &str, is_bridge: bool) -> Cause {
        let error = ReachError::NoneAnswers { port: 2049, tried: vec![(address(), problem)] };
        let stopped = Failure::Stopped(Some(Failure::Reach(error.clone()).into()));
        let route = |to: SocketAddr| {
            assert_eq!(to, SocketAddr::new(address(), 2049));
            Some(Route { from: "10.0.3.4".parse().unwrap(), on: Some(name.into()), is_bridge })
        };
        let share = share("");
        let cause = explain_by(&Failure::Reach(error), &share, "", &route);
        let killed = explain_by(&stopped, &share, "", &route);
        assert!(killed.sentence.ends_with(&cause.sentence) && killed.cure == cause.cure);
        cause
    }

    #[test]
    fn a_way_that_is_there_is_not_called_missing() {
        let Cause { sentence, cure, .. } = on(Problem::Errno(Errno::EHOSTUNREACH), "eth1", false);
        assert_eq!(
            sentence,
            "TCP 2049 to 10.0.1.12 failed: a route to it starts from 10.0.3.4 on eth1, but it was turned back on the \
             way, or nobody there has that address (EHOSTUNREACH)"
        );
        assert!(cure.contains("a firewall or router on the way that rejects it"), "{cure}");
        for errno in [Errno::ENETUNREACH, Errno::EACCES, Errno::EPERM] {
            let Cause { sentence, cure, .. } = on(Problem::Errno(errno), "eth1", false);
            assert!(sentence.contains("starts from 10.0.3.4 on eth1, but "), "{sentence}");
            assert!(cure.contains("firewall"), "{cure}");
        }
        // Nor where it is turned down by the server itself.
        let refused = on(Problem::Errno(Errno::ECONNREFUSED), "eth1", false);
        assert!(refused.sentence.ends_with("was refused (nothing listens there)"));
        let error = ReachError::NoneAnswers {
            port: 2049,
            tried: vec![(address(), Problem::Errno(Errno::ENETUNREACH))],
        };
        let none = explain_by(&Failure::Reach(error), &share(""), "", &|_| None);
        assert!(
            none.sentence.contains("there is no route to it") && none.cure.contains("route tables")
        );
    }

    #[test]
    fn a_bridge_of_this_machine_that_covers_the_server_is_named() {
        let silent = Problem::Silent { span: Duration::from_secs(3), from: None };
        for problem in [silent, Problem::Errno(Errno::EHOSTUNREACH)] {
            let Cause { sentence, cure, .. } = on(problem, "docker0", true);
            let bridge =
                "the way to 10.0.1.12 starts from 10.0.3.4 on docker0, a bridge of this machine";
            assert!(sentence.ends_with(bridge), "{sentence}");
            assert!(
                cure.starts_with("the network of that bridge covers the server's address"),
                "{cure}"
            );
        }
        assert!(!on(silent, "eth1", false).sentence.contains("eth1"));
    }

    #[test]
    fn a_path_on_a_server_that_is_not_efs_may_begin_at_its_fsid_0() {
        let missing = Failure::Mount(address(), Errno::ENOENT);
        assert!(explained(missing.clone()).cure.contains("fsid=0"));
        let efs = crate::config::test::encrypted_share("");
        assert!(!explain(&missing, &efs, "").cure.contains("fsid=0"));
    }

    #[test]
    fn what_a_null_call_told_decides_between_a_hung_server_none_at_all_and_lost_packets() {
        let cut_off = Failure::CutOff(address(), Duration::from_secs(10));
        let broken = Failure::Mount(address(), Errno::EIO);
        for (failure, heard, sentence) in [
            (
                &cut_off,
                Heard::Nfs,
                "server 10.0.1.12 answers an NFS NULL call, but did not finish the mount within 10.0 s",
            ),
            (
                &cut_off,
                Heard::Nothing,
                "server 10.0.1.12 takes connections on TCP 2049, but answers nothing, not even an NFS NULL call",
            ),
            (&broken, Heard::NotRpc, "what answers on TCP 2049 of 10.0.1.12 is not an NFS server"),
            (
                &broken,
                Heard::Nfs,
                "server 10.0.1.12 broke the mount off or gave no sensible answer (EIO), though it answers an NFS NULL call",
            ),
        ] {
            let cause = explained(Failure::Probed(failure.clone().into(), heard));
            assert!(cause.is_temporary());
            assert_eq!(cause.sentence, sentence);
        }
    }

    #[test]
    fn network_errors_that_mount_nfs_holds_permanent_are_waited_out() {
        for errno in [
            Errno::ENETUNREACH,
            Errno::EHOSTUNREACH,
            Errno::ECONNRESET,
            Errno::EIO,
            Errno::ECONNREFUSED,
            Errno::ETIMEDOUT,
            Errno::EAGAIN,
            Errno::ESTALE,
            Errno::ENOMEM,
        ] {
            assert!(explained(Failure::Mount(address(), errno)).is_temporary(), "{errno:?}");
        }
        assert!(explained(Failure::Name(NameError::NoSuchName(address()))).is_temporary());
        assert!(explained(Failure::Name(NameError::NoServers("does not exist"))).is_temporary());
    }

    #[test]
    fn a_port_below_1024_that_was_asked_for_in_vain_names_the_earlier_mount() {
        let refused = Failure::Mount(address(), Errno::EPERM);
        let cure = explained(refused.clone()).cure;
        assert!(
            cure.contains("add sec=sys; else put resvport into `options`, or export"),
            "{cure}"
        );
        let cure = explain(&refused, &share("options = \"resvport\""), "4.18.0-553").cure;
        assert_eq!(
            cure,
            "export with sec=sys on the server. If it does: resvport is in `options`, but the kernel has put the share \
             onto the connection of an earlier mount of this server: unmount that, or give it resvport too; or export \
             with \"insecure\""
        );
    }

    #[test]
    fn options_of_selinux_have_causes_of_their_own() {
        let labelled = share("options = 'context=\"system_u:object_r:nfs_t:s0:c1,c2\"'");
        let told = |failure: &Failure, share: &Share| explain(failure, share, "4.18.0-553");
        let off = told(&Failure::NoSelinux, &labelled);
        assert_eq!(off.class, Class::Permanent);
        assert_eq!(
            off.sentence,
            "this kernel (4.18.0-553) does not take context= (EINVAL): SELinux is off, or not in it"
        );
        assert!(
            off.cure.starts_with("take context= out of `options`, or have SELinux on"),
            "{}",
            off.cure
        );
        let invalid = Failure::Mount(address(), Errno::EINVAL);
        assert!(
            told(&invalid, &labelled).cure.starts_with("look at what SELinux says of it (dmesg)")
        );
        let busy = told(&Failure::Mount(address(), Errno::EBUSY), &labelled);
        assert!(
            busy.cure.contains("all its mounts may have to have the same context="),
            "{}",
            busy.cure
        );
        let young = share("options = \"softerr,max_connect=2\"");
        assert_eq!(
            told(&invalid, &young).cure,
            "take out of `options` what this kernel may not know (softerr, max_connect)"
        );
    }

    #[test]
    fn what_no_waiting_mends_ends_at_once() {
        for errno in [
            Errno::EACCES,
            Errno::EPERM,
            Errno::ENOENT,
            Errno::ENOTDIR,
            Errno::EPROTONOSUPPORT,
            Errno::ENODEV,
            Errno::EINVAL,
            Errno::EBUSY,
        ] {
            assert_eq!(
                explained(Failure::Mount(address(), errno)).class,
                Class::Permanent,
                "{errno:?}"
            );
        }
        assert_eq!(
            explained(Failure::Mount(address(), Errno::ENOENT)).sentence,
            "server 10.0.1.12 has no path /home (ENOENT)"
        );
        assert_eq!(
            explained(Failure::Mount(address(), Errno::ENODEV)).sentence,
            "this kernel (4.18.0-553) has no NFS client (ENODEV)"
        );
        assert_eq!(explained(Failure::NoTable(Errno::ENOENT)).class, Class::Fault);
    }

    #[test]
    fn an_automount_has_words_of_its_own_that_help_beyond_the_next_boot() {
        let taken = |source: &str, fstype: &str| {
            explained(Failure::Taken { source: source.into(), fstype: fstype.into() })
        };
        let systemd = taken("systemd-1", "autofs");
        assert_eq!(systemd.class, Class::Permanent);
        assert_eq!(
            systemd.sentence,
            "/mnt/efs_share is taken: an automount of systemd (systemd-1, autofs) is there"
        );
        assert_eq!(
            systemd.cure,
            "take the line out of /etc/fstab that has /mnt/efs_share (or disable mnt-efs_share.automount), then \
             sudo systemctl daemon-reload and sudo systemctl stop 'mnt-efs_share.automount', or give the share \
             another mount_point"
        );
        let other = taken("/etc/auto.nfs", "autofs");
        assert!(
            other.sentence.ends_with("an automount of autofs (/etc/auto.nfs, autofs) is there")
        );
        assert!(other.cure.contains("/etc/auto.master or the map /etc/auto.nfs"), "{}", other.cure);
        let tmpfs = taken("systemd-1", "tmpfs");
        assert!(tmpfs.sentence.ends_with("systemd-1 (tmpfs) is mounted there"));
        assert!(taken("127.0.0.1:/", "nfs4").cure.contains("amazon-efs-utils"));
        let share = share("mount_point = \"/mnt/Course Material\"");
        let mine = Failure::Taken { source: "mine".into(), fstype: "tmpfs".into() };
        let cure = explain(&mine, &share, "").cure;
        assert!(cure.starts_with("unmount it (umount '/mnt/Course Material'), "), "{cure}");
    }

    #[test]
    fn what_a_mounted_shares_server_answers_is_waited_out_unless_it_lets_nobody_in() {
        let stale = explained(Failure::Unusable("10.0.1.12".into(), Errno::ESTALE));
        assert!(stale.is_temporary());
        assert_eq!(
            stale.sentence,
            "/mnt/efs_share is mounted already from 10.0.1.12, but its folder is gone from the server, or was made \
             anew there (ESTALE)"
        );
        let io = explained(Failure::BadRoot(address(), Errno::EIO));
        assert!(io.is_temporary());
        assert_eq!(
            io.sentence,
            "server 10.0.1.12 lets /home be mounted, but its root cannot be used: i/o error (EIO): taken away again"
        );
        let denied = explained(Failure::BadRoot(address(), Errno::EACCES));
        assert_eq!(denied.class, Class::Permanent);
        assert_eq!(explained(Failure::Mount(address(), Errno::ELOOP)).class, Class::Permanent);
    }

    #[test]
    fn every_sentence_and_cure_is_one_line_without_a_full_stop() {
        let mut failures = vec![
            Failure::NotShown,
            Failure::PointGone,
            Failure::NoModule,
            Failure::NoSelinux,
            Failure::ModuleForbidden("/etc/modprobe.d/a.conf, line 1: blacklist nfs".into()),
            Failure::Forbidden(Errno::EACCES),
            Failure::Loopback(None),
            Failure::Loopback(Some(849)),
            Failure::Mount(address(), Errno::ENOSPC),
            Failure::Dead("10.0.1.12".into()),
            Failure::NoTime,
            Failure::ReadOnly,
            Failure::OtherWay,
            Failure::OffWay(None),
            Failure::Unverified,
            Failure::Program { what: "x".into(), cure: "y".into() },
            Failure::NoSystemd,
            Failure::PortLost(40001),
            Failure::NoHostName(Errno::EPERM),
            Failure::NoTunnel("systemctl: no such unit".into()),
            Failure::TunnelPort(2050),
            Failure::Hidden,
            Failure::Unusable("10.0.1.12".into(), Errno::ESTALE),
            Failure::Unusable("10.0.1.12".into(), Errno::EIO),
            Failure::BadRoot(address(), Errno::EACCES),
            Failure::BadRoot(address(), Errno::ESTALE),
            Failure::Referred { source: "fs-1:/data".into(), to: None },
            Failure::Taken { source: "systemd-1".into(), fstype: "autofs".into() },
            Failure::Taken { source: "/etc/auto.nfs".into(), fstype: "autofs".into() },
            Failure::Taken { source: "127.0.0.1:/".into(), fstype: "nfs4".into() },
            Failure::Odd(1),
            Failure::Stopped(None),
            Failure::Taken { source: "tmpfs".into(), fstype: "tmpfs".into() },
            Failure::Worker(WorkerError::Died),
            Failure::Worker(WorkerError::Fork(Errno::EAGAIN)),
            Failure::CutOff(address(), Duration::from_secs(10)),
            Failure::Point(PointError::Symlink("/mnt".into())),
        ];
        let cut_off = Failure::CutOff(address(), Duration::from_secs(10));
        for heard in [Heard::Nfs, Heard::OtherRpc, Heard::NotRpc, Heard::Closed, Heard::Nothing] {
            failures.push(Failure::Probed(cut_off.clone().into(), heard));
        }
        failures.extend((1..134).map(|raw| Failure::Mount(address(), Errno::from_raw(raw))));
        for failure in failures {
            let Cause { sentence, cure, .. } = explained(failure.clone());
            for text in [&sentence, &cure] {
                assert!(
                    !text.is_empty() && !text.contains('\n') && !text.contains("  "),
                    "{failure:?}: {text}"
                );
                assert!(!text.ends_with('.'), "{failure:?}: {text}");
            }
        }
    }
}
