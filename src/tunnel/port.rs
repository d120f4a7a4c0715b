//! Chooses the local port of a tunnel: one below 1024, where root alone can listen. So no user can take it before the
//! tunnel listens or after it has ended. Nothing here listens.

use super::peer::LOCAL;
use crate::config::encryption::RESERVED;
use crate::files;
use crate::sys;
use nix::errno::Errno;
use std::net::TcpListener;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

/// The range of the kernel's NFS client (sunrpc.min_resvport). Below it are the well-known services.
const PORTS: Range<u16> = 665..RESERVED;
/// Services in this range that a small /etc/services may not name: DNS over TLS, rsync, iSCSI and others.
const KNOWN: &[u16] = &[
    666, 674, 691, 749, 750, 830, 831, 832, 833, 847, 853, 860, 861, 862, 873, 888, 902, 903, 953,
    989, 990, 991, 992, 993, 994, 995,
];
/// The lowest port that users may take; 1024 unless an administrator has changed it.
const UNPRIVILEGED: &str = "proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Ports that an administrator keeps for other services: numbers and ranges, as "665-700,1010".
const KEPT: &str = "proc/sys/net/ipv4/ip_local_reserved_ports";

/// Whether root alone can listen at `port`, as far as the kernel says. `root` is `/` outside of tests.
pub fn is_roots(root: &Path, port: u16) -> bool {
    let text = files::whole(&root.join(UNPRIVILEGED)).unwrap_or_default();
    let first = String::from_utf8_lossy(&text).trim().parse().unwrap_or(RESERVED);
    port < first
}

/// A port that nobody listens at now, chosen at random among those that no service has.
///
/// # Errors
/// EADDRINUSE if each of them is taken, or another errno of bind(2).
pub fn free(root: &Path) -> Result<u16, Errno> {
    let services = files::whole(&root.join("etc/services")).unwrap_or_default();
    let services = services_of(&String::from_utf8_lossy(&services));

    let kept = files::whole(&root.join(KEPT)).unwrap_or_default();
    let kept = ranges_of(&String::from_utf8_lossy(&kept));
    let is_kept = |port: &u16| kept.iter().any(|range| range.contains(port));

    let fit: Vec<u16> = PORTS
        .filter(|port| !KNOWN.contains(port) && !services.contains(port) && !is_kept(port))
        .collect();

    let first = (sys::random() as usize).checked_rem(fit.len()).unwrap_or(0);
    for port in fit.iter().cycle().skip(first).take(fit.len()) {
        match TcpListener::bind((LOCAL, *port)) {
            Ok(_) => return Ok(*port),
            Err(e) => match sys::errno_of(&e) {
                Errno::EADDRINUSE => {}
                // This process may not listen there, so it cannot find out. systemd may.
                Errno::EACCES => return Ok(*port),
                errno => return Err(errno),
            },
        }
    }
    Err(Errno::EADDRINUSE)
}

/// The ranges of a list like "665-700,1010".
fn ranges_of(text: &str) -> Vec<RangeInclusive<u16>> {
    text.trim().split(',').filter_map(range_of).collect()
}

fn range_of(word: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = word.split_once('-').unwrap_or((word, word));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// The ports that a file like /etc/services names: `name 636/tcp alias`.
fn services_of(text: &str) -> Vec<u16> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            line.split_whitespace().nth(1)?.split_once('/')?.0.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_port_is_below_1024_and_no_services() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("etc")).unwrap();
        // All but two.
        let named: String = PORTS
            .filter(|port| ![700, 701].contains(port))
            .map(|port| format!("service{port}\t{port}/tcp # x\n"))
            .collect();
        fs::write(dir.path().join("etc/services"), format!("# none\n\nodd\nodd 1\n{named}"))
            .unwrap();
        for _ in 0..20 {
            assert!([700, 701].contains(&free(dir.path()).unwrap()));
        }
        let kept = dir.path().join(KEPT);
        fs::create_dir_all(kept.parent().unwrap()).unwrap();
        fs::write(&kept, "665-700,1010,odd\n").unwrap();
        for _ in 0..20 {
            assert_eq!(free(dir.path()), Ok(701));
        }
        fs::write(&kept, "\n").unwrap();
        let _taken = TcpListener::bind((LOCAL, 700)).unwrap();
        assert_eq!(free(dir.path()), Ok(701));
        let _taken = TcpListener::bind((LOCAL, 701)).unwrap();
        assert_eq!(free(dir.path()), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn two_tunnels_seldom_begin_at_the_same_port() {
        let ports: Vec<u16> = (0..20).map(|_| free(Path::new("/")).unwrap()).collect();
        assert!(ports.iter().all(|port| PORTS.contains(port) && !KNOWN.contains(port)));
        assert!(ports.iter().any(|port| *port != ports[0]), "{ports:?}");
    }

    #[test]
    fn a_port_is_roots_alone_where_users_may_not_take_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(is_roots(dir.path(), 1023) && !is_roots(dir.path(), 1024));
        let file = dir.path().join(UNPRIVILEGED);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "80\n").unwrap();
        assert!(is_roots(dir.path(), 79) && !is_roots(dir.path(), 849));
    }
}
