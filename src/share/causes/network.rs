//! Words for a server that is not found or not reached: its name, the connections to its addresses,
//! and the routes to them. Part of the one place that explains; nothing is looked up or connected
//! to here.

use super::{BY_ADDRESS, MachineFacts, SECURITY_GROUP, Words, is_of_aws, stopped, words};
use crate::config::{Endpoint, Share};
use crate::kernel::route::Route;
use crate::net::names::NameError;
use crate::net::reach::{Problem, ReachError, describe};
use crate::partitions;
use nix::errno::Errno;
use std::net::{IpAddr, Ipv4Addr};

const SPELLING: &str = "check the spelling of `endpoint`";

/// A name that has no address.
pub(super) fn name(error: &NameError, endpoint: &Endpoint) -> Words {
    words(format!("{endpoint} does not resolve: {error}"), name_cure(error, endpoint, None))
}

/// What helps where `name` has no address. If `alias` is given, it is the name from which an alias
/// led to `name`.
fn name_cure(error: &NameError, name: &Endpoint, alias: Option<&Endpoint>) -> String {
    let what_to_check = match alias {
        Some(alias) => format!("check where the alias (CNAME record) of {alias} leads to"),
        None => SPELLING.to_owned(),
    };
    let and_region = if alias.is_some() { "" } else { " and its region" };
    match error {
        NameError::Alias { to, .. } if to.contains(".amazonaws.") && !partitions::is_of_aws(to) => {
            format!("put a dot at the end of what the alias (CNAME record) of {name} leads to")
        }
        NameError::Alias { to, why } => name_cure(why, &Endpoint::Name(to.clone()), Some(name)),
        NameError::NoServers(_) => format!(
            "the network interface may not be attached yet; else check that the VPC's DHCP options name a DNS \
             server, {BY_ADDRESS}"
        ),
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
        NameError::NoSuchName(_) | NameError::NoAddress(_) if !is_of_aws(name) => {
            format!("{what_to_check}, and that this machine's DNS knows the name, {BY_ADDRESS}")
        }
        NameError::NoSuchName(_) | NameError::NoAddress(_) if !is_of_efs(name) => format!(
            "{what_to_check}{and_region}, and that this machine is in its VPC, with DNS resolution on, {BY_ADDRESS}"
        ),
        NameError::NoSuchName(_) | NameError::NoAddress(_) => format!(
            "{what_to_check}{and_region}, that this machine is in the file system's VPC, with DNS resolution and DNS \
             hostnames on, and that the file system has a mount target in this machine's Availability Zone, \
             {BY_ADDRESS}"
        ),
        NameError::Failed(..) => format!("check the VPC's name server, {BY_ADDRESS}"),
        NameError::Unusable(..) => {
            format!("check /etc/hosts and the VPC's DNS rules, {BY_ADDRESS}")
        }
        NameError::BadName | NameError::Stopped(_) => what_to_check,
    }
}

/// Whether it is a name of EFS. Other file systems of AWS have no mount targets.
fn is_of_efs(endpoint: &Endpoint) -> bool {
    matches!(endpoint, Endpoint::Name(name) if name.contains(".efs."))
}

/// A server none of whose addresses answers.
pub(super) fn reach(error: &ReachError, share: &Share, facts: &MachineFacts) -> Words {
    let ReachError::NoneAnswers { port, tried } = error else {
        return stopped(None, share, facts);
    };
    let mut parts = Vec::new();
    let mut bridges = Vec::new();
    let mut cure = None;
    for (address, problem) in tried {
        let part = describe(*port, *address, problem);
        let Some(route) = facts.route_to(*address) else {
            parts.push(part);
            continue;
        };
        let start = start_of(route);

        if route.is_bridge {
            parts.push(part);
            bridges.push(format!(
                "the way to {address} starts from {start}, a bridge of this machine"
            ));
            cure = Some(format!(
                "the network of that bridge covers the server's address: give Docker (bip and default-address-pools in \
                 /etc/docker/daemon.json), or whoever made the bridge, another network; see ip route get {address}"
            ));
        } else if let Problem::Errno(errno) = problem
            && let Some((what, look)) = refused_on_the_way(*errno)
        {
            parts.push(format!(
                "TCP {port} to {address} failed: a route to it starts from {start}, but {what} ({errno:?})"
            ));
            // If another address is silent, its cure is kept: silence is the more common trouble.
            if !error.has_silence() {
                cure = Some(look.to_owned());
            }
        } else {
            parts.push(part);
        }
    }

    parts.append(&mut bridges);
    words(parts.join("; "), cure.unwrap_or_else(|| reach_cure(tried, share)))
}

fn start_of(route: &Route) -> String {
    match &route.on {
        Some(interface) => format!("{} on {interface}", route.from),
        None => route.from.to_string(),
    }
}

/// What helps where nothing is known of the way to the addresses.
fn reach_cure(tried: &[(IpAddr, Problem)], share: &Share) -> String {
    let problems = || tried.iter().map(|(_, problem)| *problem);
    let is_silent = |problem: &Problem| matches!(problem, Problem::Silent { .. });
    // Addresses that rejected a connection do not show where the packets to silent ones went.
    let astray: Option<Vec<Ipv4Addr>> = problems().filter(is_silent).map(from_management).collect();

    if problems().any(|problem| problem == Problem::NoPort) {
        "end the program that has taken them: ss -Htanp | grep -o 'users:.*' | sort | uniq -c | sort -n | tail -n 3"
            .to_owned()
    } else if let Some(from) = astray.and_then(|from| from.first().copied()) {
        format!(
            "{from} is of AppStream's management network, which does not lead to your VPC: the \
             fleet's own network interface may not be attached yet; else check that the fleet's \
             subnets are in the file system's VPC, or have a route to it"
        )
    } else if problems().any(|problem| is_silent(&problem)) {
        SECURITY_GROUP.to_owned()
    } else if problems().any(|problem| problem == Problem::Errno(Errno::ECONNREFUSED)) {
        format!(
            "check that `endpoint` names an NFS server and that it is running, with TCP {} open",
            share.options.port
        )
    } else {
        "the network interface may not be attached yet; else check this machine's subnet and route \
         tables, and that they lead to the file system's VPC"
            .to_owned()
    }
}

/// The address that a silent connection began at, if that is in AppStream's own network, 198.19.0.0/16. Each instance
/// has that beside the one in the customer's VPC.
fn from_management(problem: Problem) -> Option<Ipv4Addr> {
    match problem {
        Problem::Silent { from: Some(IpAddr::V4(from)), .. } => {
            matches!(from.octets(), [198, 19, ..]).then_some(from)
        }
        _ => None,
    }
}

/// What it means that a connection could not be made although there is a route: what was found, and where to look.
fn refused_on_the_way(errno: Errno) -> Option<(&'static str, &'static str)> {
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
