//! Words for a mount(2) that did not mount the share, by its errno and by what its server answers
//! to an NFS NULL call. Part of the one place that explains; no server is asked here.

use super::{MachineFacts, NO_CLIENT, SECURITY_GROUP, Words, is_of_aws, words, words_for};
use crate::config::Share;
use crate::net::probe::NullCallAnswer;
use crate::retry::seconds;
use crate::share::Failure;
use nix::errno::Errno;
use std::net::IpAddr;

const LARGER: &str = "look for a firewall, network ACL or MTU mismatch on the way that swallows larger \
                      packets (does it work after: sudo ip link set dev eth0 mtu 1300), and at the \
                      server's load";

/// The words for a mount that failed, and whose server was then sent an NFS NULL call.
pub(super) fn probed(
    failure: &Failure,
    heard: NullCallAnswer,
    share: &Share,
    facts: &MachineFacts,
) -> Words {
    let Some(address) = failure.failed_address() else {
        return words_for(failure, share, facts);
    };
    let port = share.options.port;
    let another = format!(
        "check `endpoint`, and that the NFS server listens on TCP {port} (`options` can name another port)"
    );
    let (sentence, cure) = match (heard, failure) {
        (NullCallAnswer::Nfs, Failure::CutOff(_, span)) => (
            format!(
                "server {address} answers an NFS NULL call, but did not finish the mount within {}",
                seconds(*span)
            ),
            LARGER.to_owned(),
        ),
        (NullCallAnswer::Nfs, _) => {
            let sentence = words_for(failure, share, facts).sentence;
            (format!("{sentence}, though it answers an NFS NULL call"), LARGER.to_owned())
        }
        (NullCallAnswer::OtherRpc, _) => {
            (format!("server {address} has no NFS version 4 on TCP {port}"), another)
        }
        (NullCallAnswer::NotRpc, _) => {
            (format!("what answers on TCP {port} of {address} is not an NFS server"), another)
        }
        (NullCallAnswer::Closed, _) => (
            format!("{address} takes connections on TCP {port} and closes them without an answer"),
            format!("{another}; a proxy or firewall that ends connections does the same"),
        ),
        (NullCallAnswer::Nothing, _) => (
            format!(
                "server {address} takes connections on TCP {port}, but answers nothing, not even an \
                 NFS NULL call"
            ),
            format!("{another}, and that it is not hung"),
        ),
    };

    words(sentence, cure)
}

/// The words for an errno of mount(2).
pub(super) fn refused(address: IpAddr, errno: Errno, share: &Share, kernel: &str) -> Words {
    let path = &share.path;
    let version = share.options.version();
    let data = share.options.data(address);
    match errno {
        Errno::EACCES => words(
            format!("access denied by server {address} for {path} (EACCES)"),
            "if the file system policy demands encryption or IAM, set encryption_in_transit = true (and iam \
             = true); else allow elasticfilesystem:ClientMount to everyone there or, on another NFS server, \
             this client in its exports",
        ),
        Errno::EPERM => words(
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
        Errno::ENOENT => words(
            format!("server {address} has no path {path} (ENOENT)"),
            match &share.endpoint {
                endpoint if is_of_aws(endpoint) => {
                    "correct `path`, or make that folder on the file system (mount \"/\" once and mkdir)"
                }
                // A server other than EFS may export a root that is not its own root folder.
                _ => {
                    "correct `path`, or make that folder on the server; if /etc/exports there has fsid=0 (or fsid=root), \
                     `path` begins at that export: /srv/nfs/a is \"/a\" where /srv/nfs has it"
                }
            },
        ),
        Errno::ENOTDIR => words(
            format!("{path} on server {address} is not a folder (ENOTDIR)"),
            "correct `path`",
        ),
        Errno::ELOOP => words(
            format!("{path} on server {address} leads through too many links or referrals (ELOOP)"),
            "correct `path`, or the link on the file system that leads back to itself",
        ),
        Errno::EPROTONOSUPPORT => words(
            format!("server {address} does not speak NFS {version} (EPROTONOSUPPORT)"),
            "check `endpoint`, or put another nfsvers= into `options`",
        ),
        Errno::ENODEV => words(
            format!("this kernel ({kernel}) has no NFS client (ENODEV)"),
            NO_CLIENT,
        ),
        Errno::EINVAL => words(
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
            words(format!("{path} is too long (ENAMETOOLONG)"), "correct `path`")
        }
        Errno::EBUSY => words(
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
        Errno::ECONNREFUSED => words(
            format!("server {address} turned the mount's connection down (ECONNREFUSED)"),
            "check that the NFS server is running",
        ),
        Errno::ETIMEDOUT => words(
            format!("server {address} stopped answering during the mount (ETIMEDOUT)"),
            SECURITY_GROUP,
        ),
        Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::ENETDOWN | Errno::EHOSTDOWN => words(
            format!("the way to server {address} was lost during the mount ({errno:?})"),
            "check the network interface and the route tables",
        ),
        Errno::EIO | Errno::ECONNRESET | Errno::EPIPE | Errno::ECONNABORTED | Errno::EPROTO => {
            words(
                format!(
                    "server {address} broke the mount off or gave no sensible answer ({errno:?})"
                ),
                "check that it is an NFS server, and its log",
            )
        }
        // The server did not cause this: a mount writes nothing there.
        Errno::ENOSPC => words(
            "this machine has as many mounts as it may have, fs.mount-max (ENOSPC)".to_owned(),
            "see what mounts so much (findmnt | wc -l, sysctl fs.mount-max) and unmount it, or raise fs.mount-max",
        ),
        // These are shortages, a server in its grace period, and whatever else may pass.
        other => words(
            format!("mount(2) from {address} failed: {} ({other:?})", other.desc().to_lowercase()),
            "see the kernel log (dmesg)",
        ),
    }
}
