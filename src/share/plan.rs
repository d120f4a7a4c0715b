//! A share and an address become the arguments of mount(2). Pure.

use crate::config::Share;
use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where tunnels listen.
pub const TUNNEL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The arguments of one mount(2) call, except for the target, which is an open descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountCall {
    /// `server:path`: the name, so that `df` shows it; the address is in the data.
    pub source: CString,
    /// MS_* bits.
    pub flags: u64,
    /// NFS options with `addr=`.
    pub data: CString,
    /// The server's address, for messages.
    pub address: IpAddr,
    /// What the kernel connects to: the server, or the tunnel that leads to it.
    pub connects_to: SocketAddr,
}

/// The call that mounts `share` from `address`.
pub fn mount_call(share: &Share, address: IpAddr) -> MountCall {
    // The config refuses control characters, so no string holds a NUL.
    let c = |text: String| CString::new(text).unwrap_or_default();
    MountCall {
        source: c(share.source()),
        flags: share.options.flags,
        data: c(share.options.data(address)),
        address,
        connects_to: SocketAddr::new(address, share.options.port),
    }
}

/// The call that mounts `share` through its tunnel at the local `port`, which leads to `server`.
pub fn tunnelled_call(share: &Share, port: u16, server: IpAddr) -> MountCall {
    let tunnel = SocketAddr::new(TUNNEL, port);
    let data = CString::new(share.options.data_at(TUNNEL, port)).unwrap_or_default();
    MountCall { data, connects_to: tunnel, ..mount_call(share, server) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::{encrypted_share, share};

    #[test]
    fn the_source_keeps_the_name_and_the_data_holds_the_address() {
        let share = share("path = \"/home\"\noptions = \"ro\"");
        let call = mount_call(&share, "2001:db8::1".parse().unwrap());
        assert_eq!(call.source.to_str().unwrap(), "fs-1.example:/home");
        assert!(call.data.to_str().unwrap().ends_with(",noresvport,addr=2001:db8::1"));
        assert_eq!(call.flags & nix::libc::MS_RDONLY, nix::libc::MS_RDONLY);
    }

    #[test]
    fn through_a_tunnel_the_source_is_the_shares_own_and_the_data_holds_the_local_port() {
        let share = encrypted_share("options = \"port=2050\"\n");
        let server = "10.0.1.12".parse().unwrap();
        let call = tunnelled_call(&share, 40001, server);
        assert_eq!(call.source.to_str().unwrap(), "fs-0123abcd.efs.eu-west-1.amazonaws.com:/");
        assert!(call.data.to_str().unwrap().ends_with(",noresvport,port=40001,addr=127.0.0.1"));
        assert_eq!((call.address, call.connects_to), (server, "127.0.0.1:40001".parse().unwrap()));
    }
}
