//! The route from this machine to a server. The kernel is asked, and nothing is sent.

use crate::sys;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Where the route to a server begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// This machine's address on it.
    pub from: IpAddr,
    /// The interface that has that address.
    pub on: Option<String>,
    /// Whether the interface is a bridge, such as containers and virtual machines use.
    pub is_bridge: bool,
}

/// The route to `to`, if there is one; `root` is `/` outside of tests.
pub fn to(root: &Path, to: SocketAddr) -> Option<Route> {
    let from = sys::connect_udp(to).ok()?.local_addr().ok()?.ip();
    let on = interface(from);
    let is_bridge = on
        .as_ref()
        .is_some_and(|name| root.join("sys/class/net").join(name).join("bridge").exists());
    Some(Route { from, on, is_bridge })
}

/// The name of the interface that has the address `of`.
fn interface(of: IpAddr) -> Option<String> {
    let mut all = nix::ifaddrs::getifaddrs().ok()?;
    let has = |address: &nix::sys::socket::SockaddrStorage| match of {
        IpAddr::V4(v4) => address.as_sockaddr_in().is_some_and(|a| a.ip() == v4),
        IpAddr::V6(v6) => address.as_sockaddr_in6().is_some_and(|a| a.ip() == v6),
    };
    let entry = all.find(|entry| entry.address.as_ref().is_some_and(has))?;
    Some(entry.interface_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_machine_is_the_loopback_and_a_bridge_is_known_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let here = || to(dir.path(), "127.0.0.1:2049".parse().unwrap()).unwrap();
        let from = "127.0.0.1".parse().unwrap();
        let on = Some("lo".to_owned());
        assert_eq!(here(), Route { from, on, is_bridge: false });
        std::fs::create_dir_all(dir.path().join("sys/class/net/lo/bridge")).unwrap();
        assert!(here().is_bridge);
    }
}
