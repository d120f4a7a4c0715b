//! What it means that a server cannot be reached, to one who knows by which way this machine would go there.

use super::{Cause, cause, explain, led};
use crate::config::Share;
use crate::kernel::route::Route;
use crate::net::reach::{Problem, ReachError};
use crate::share::Failure;
use crate::text::unconnected;
use nix::errno::Errno;
use std::net::SocketAddr;

/// The same as [`explain`], by one who can ask for the way to a server.
pub fn explain_by(
    failure: &Failure,
    share: &Share,
    kernel: &str,
    route: &dyn Fn(SocketAddr) -> Option<Route>,
) -> Cause {
    if let Failure::Led(failure, origin) = failure {
        return led(explain_by(failure, share, kernel, route), failure, origin, share);
    }
    let Some(ReachError::NoneAnswers { port, tried }) = failure.reach() else {
        return explain(failure, share, kernel);
    };
    let routes = tried.iter().map(|(address, _)| route(SocketAddr::new(*address, *port)));
    let Cause { class, mut sentence, mut cure } = explain(failure, share, kernel);
    for ((address, problem), route) in tried.iter().zip(routes) {
        let Some(route) = route else { continue };
        let Route { from, on, is_bridge } = &route;
        let on = on.as_ref().map(|on| format!(" on {on}")).unwrap_or_default();
        let refused = match problem {
            Problem::Errno(errno) => closed(*errno),
            _ => None,
        };
        if *is_bridge {
            sentence = format!(
                "{sentence}; the way to {address} starts from {from}{on}, a bridge of this machine"
            );
            cure = format!(
                "the network of that bridge covers the server's address: give Docker (bip and default-address-pools in \
                 /etc/docker/daemon.json), or whoever made the bridge, another network; see ip route get {address}"
            );
        } else if let (Some((what, look)), Problem::Errno(errno)) = (refused, problem) {
            let why = unconnected(*errno).unwrap_or(errno.desc());
            let told = format!("{address} failed: {why} ({errno:?})");
            let anew = format!(
                "{address} failed: a route to it starts from {from}{on}, but {what} ({errno:?})"
            );
            sentence = sentence.replacen(&told, &anew, 1);
            // Silence is the commoner trouble.
            if !failure.is_by_time() {
                cure = look.to_owned();
            }
        }
    }
    cause(class, sentence, cure)
}

/// What it means that a connection could not be made although there is a route: what was found, and where to look.
fn closed(errno: Errno) -> Option<(&'static str, &'static str)> {
    Some(match errno {
        Errno::ENETUNREACH | Errno::EHOSTUNREACH => (
            "it was turned back on the way, or nobody there has that address",
            "look for a firewall or router on the way that rejects it (ICMP \"prohibited\"), this machine's own \
             too (sudo nft list ruleset); else check that the address is in use",
        ),
        Errno::EACCES | Errno::EPERM => (
            "this machine forbids the connection",
            "look at its firewall (sudo nft list ruleset, sudo iptables -S) and for a denial in the kernel log (sudo \
             dmesg)",
        ),
        _ => return None,
    })
}
