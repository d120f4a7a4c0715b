//! Which server the kernel's NFS client is connected to for a mount. The mount table shows only the
//! server that was asked for, and the kernel may put a mount on the connection of another mount.
//! These functions read text that they are given; no file is opened here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The file with a line for each file system that is mounted over NFS in this network namespace.
pub const VOLUMES: &str = "proc/fs/nfsfs/volumes";

/// The file with a line for each server that the kernel's NFS client uses in this network namespace, also for mounts that
/// are detached.
pub const SERVERS: &str = "proc/fs/nfsfs/servers";

/// Whether `server` is in the contents of [`SERVERS`]: `v4 7f000001  349   1 127.0.0.1`.
pub fn has_server(servers: &[u8], server: SocketAddr) -> bool {
    let text = String::from_utf8_lossy(servers);
    text.lines().any(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        words.next().zip(words.next()).and_then(|(address, port)| at(address, port)) == Some(server)
    })
}

/// The server's end of the connection that the file system `device` (`major:minor`) uses. `volumes` is the contents of
/// [`VOLUMES`]: `v4 7f000001 9c41 0:45 …`.
pub fn of_device(volumes: &[u8], device: &str) -> Option<SocketAddr> {
    String::from_utf8_lossy(volumes).lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (_version, address, port) = (words.next()?, words.next()?, words.next()?);
        if words.next()? != device {
            return None;
        }
        at(address, port)
    })
}

/// Whether two file systems of this machine are one file system of one server. They are if they
/// have the same connection, and the server gives them the same number. `volumes` is the contents
/// of [`VOLUMES`].
pub fn is_one(volumes: &[u8], devices: (&str, &str)) -> bool {
    let text = String::from_utf8_lossy(volumes);
    let one = file_system(&text, devices.0);
    one.is_some() && one == file_system(&text, devices.1)
}

/// The server of `device`, and the number (FSID) by which the server knows the file system.
fn file_system<'v>(volumes: &'v str, device: &str) -> Option<(SocketAddr, &'v str)> {
    volumes.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            [_version, address, port, of, number, ..] if of == device => {
                at(address, port).map(|server| (server, number))
            }
            _ => None,
        }
    })
}

/// An address and a port in hexadecimal.
fn at(address: &str, port: &str) -> Option<SocketAddr> {
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?)),
        32 => IpAddr::V6(Ipv6Addr::from(u128::from_str_radix(address, 16).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Linux 5.10 and 6.12 write it.
    const TABLE: &[u8] = b"NV SERVER   PORT DEV          FSID                              FSC
v4 0a000001  801 0:35         0:0                               no 
v4 7f000001 9c41 0:36         1a2b:3c                           no 
v4 fd000000000000000000000000000001  801 0:37         0:0       no 
v4 7f000001 zzzz 0:38         0:0                               no 
v4 7f01 801 0:39         0:0                               no 
";

    #[test]
    fn each_file_system_has_the_servers_end_of_its_own_connection() {
        let at = |device| of_device(TABLE, device).map(|at| at.to_string());
        assert_eq!(at("0:35").as_deref(), Some("10.0.0.1:2049"));
        assert_eq!(at("0:36").as_deref(), Some("127.0.0.1:40001"));
        assert_eq!(at("0:37").as_deref(), Some("[fd00::1]:2049"));
        for device in ["0:3", "0:38", "0:39", "DEV", ""] {
            assert_eq!(at(device), None, "{device}");
        }
        assert_eq!(of_device(b"", "0:35"), None);
    }

    #[test]
    fn two_devices_of_one_file_system_are_told_from_those_of_two() {
        let more =
            b"v4 0a000001  801 0:45         0:0     no\nv4 0a000001  801 0:46         7:1     no\n\
                     v4 0a000002  801 0:47         0:0     no\n";
        let table = [TABLE, more].concat();
        let is_one = |one, other| is_one(&table, (one, other));
        assert!(is_one("0:35", "0:45") && is_one("0:35", "0:35"));
        for other in ["0:46", "0:47", "0:36", "0:38", "0:99", "DEV", ""] {
            assert!(!is_one("0:35", other) && !is_one(other, "0:35"), "{other}");
        }
    }

    #[test]
    fn a_server_is_known_as_long_as_anything_uses_it() {
        let servers = b"NV SERVER   PORT USE HOSTNAME\nv4 7f000001  349   1 127.0.0.1\nv4 0a000001  801   2 fs\n";
        let has = |server: &str| has_server(servers, server.parse().unwrap());
        assert!(has("127.0.0.1:841") && has("10.0.0.1:2049"));
        assert!(
            !has("127.0.0.1:2049")
                && !has("127.0.0.2:841")
                && !has_server(b"", "10.0.0.1:1".parse().unwrap())
        );
    }
}
