//! Turns a share and an address into the arguments of mount(2). Nothing is called, read or asked
//! here.

use crate::config::Share;
use crate::share::client::{NfsClient, Way};
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
    /// How its bytes get there.
    pub way: Way,
    /// The host name of the process that calls, by which the server knows this way from all others.
    pub host_name: CString,
}

impl MountCall {
    /// The same call, but the kernel connects from a port that root alone can use.
    #[must_use]
    pub fn from_reserved(self) -> Self {
        let data = self.data.to_string_lossy();
        let words: Vec<&str> = data
            .split(',')
            .map(|word| if word == "noresvport" { "resvport" } else { word })
            .collect();
        let data = CString::new(words.join(",")).unwrap_or_default();
        Self { data, ..self }
    }

    /// Whether it goes through a tunnel.
    pub fn is_tunnelled(&self) -> bool {
        matches!(self.way, Way::Tunnel(_))
    }
}

/// The call that mounts `share` from `address`, as `client`.
pub fn mount_call(share: &Share, address: IpAddr, client: &NfsClient) -> MountCall {
    // The config refuses control characters, so no string holds a NUL.
    let way = Way::Plain(share.options.port);
    let c = |text: String| CString::new(text).unwrap_or_default();
    MountCall {
        source: c(share.source()),
        flags: share.options.flags,
        data: c(share.options.data(address)),
        address,
        connects_to: SocketAddr::new(address, share.options.port),
        way,
        host_name: client.host_name(way),
    }
}

/// The call that mounts `share` through its tunnel at the local `port`, which leads to `server`.
pub fn tunnelled_call(share: &Share, port: u16, server: IpAddr, client: &NfsClient) -> MountCall {
    let way = Way::Tunnel(port);
    MountCall {
        data: CString::new(share.options.data_through(TUNNEL, port)).unwrap_or_default(),
        connects_to: SocketAddr::new(TUNNEL, port),
        way,
        host_name: client.host_name(way),
        ..mount_call(share, server, client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::test::{encrypted_share, share};

    #[test]
    fn the_source_keeps_the_name_and_the_data_holds_the_address() {
        let share = share("path = \"/home\"\noptions = \"ro\"");
        let call = mount_call(&share, "2001:db8::1".parse().unwrap(), NfsClient::fake());
        assert_eq!(call.source.to_str().unwrap(), "fs-1.example:/home");
        assert!(call.data.to_str().unwrap().ends_with(",noresvport,addr=2001:db8::1"));
        assert_eq!(call.flags & nix::libc::MS_RDONLY, nix::libc::MS_RDONLY);
        let reserved = call.clone().from_reserved();
        assert!(reserved.data.to_str().unwrap().ends_with(",resvport,addr=2001:db8::1"));
        assert_eq!(MountCall { data: call.data.clone(), ..reserved }, call);
    }

    #[test]
    fn through_a_tunnel_the_source_is_the_shares_own_and_the_data_holds_the_local_port() {
        let share = encrypted_share("options = \"port=2050\"\n");
        let server = "10.0.1.12".parse().unwrap();
        let client = NfsClient::fake();
        let call = tunnelled_call(&share, 849, server, client);
        assert_eq!(call.source.to_str().unwrap(), "fs-0123abcd.efs.eu-west-1.amazonaws.com:/");
        assert!(call.data.to_str().unwrap().ends_with(",resvport,port=849,addr=127.0.0.1"));
        assert_eq!((call.address, call.connects_to), (server, "127.0.0.1:849".parse().unwrap()));
        assert_eq!(call.host_name, client.host_name(Way::Tunnel(849)));
        assert_ne!(call.host_name, mount_call(&share, server, client).host_name);
    }
}
