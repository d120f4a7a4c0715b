//! Reads the text of hosts and resolv.conf. No file is opened here and no server is asked.

use crate::config::is_whole;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The most name servers from resolv.conf, as in libc.
pub const MOST_SERVERS: usize = 3;
/// The most search domains, as in libc for decades.
pub const MOST_DOMAINS: usize = 6;
const DNS_PORT: u16 = 53;

/// The addresses of `name` in a hosts file, IPv4 first.
pub fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let name = relative(name);
    let (mut addresses, v6): (Vec<IpAddr>, Vec<IpAddr>) = hosts
        .lines()
        .filter_map(|line| {
            let mut words = line.split('#').next()?.split_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| relative(word).eq_ignore_ascii_case(name)).then_some(address)
        })
        .partition(IpAddr::is_ipv4);
    addresses.extend(v6);
    addresses
}

/// A name without the dot that marks it as whole.
fn relative(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// What is used from resolv.conf. Of its options, only `ndots` changes which names are asked for.
/// The others (`timeout`, `attempts`, `rotate`, `use-vc`, `edns0`) say how libc should ask, and
/// [`super::ask`] has its own schedule.
#[derive(Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// In the order of the file, each once.
    pub servers: Vec<SocketAddr>,
    /// Whether a `nameserver` line has no address.
    pub odd_servers: bool,
    /// The search domains, without a trailing dot, each once.
    pub search: Vec<String>,
    /// A name with this many dots is asked for as it is before search domains are tried.
    pub ndots: usize,
}

impl ResolvConf {
    /// Reads the text of the file. `scope` gives the number of a network interface, such as the
    /// `eth0` of `nameserver fe80::1%eth0`.
    pub fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Self {
        let mut conf =
            Self { servers: Vec::new(), odd_servers: false, search: Vec::new(), ndots: 1 };

        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or("").split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| server(word, &scope));
                    conf.odd_servers |= server.is_none();
                    add(&mut conf.servers, server, MOST_SERVERS);
                }
                Some("search" | "domain") => {
                    conf.search.clear();
                    let domains = words.map(|d| d.trim_end_matches('.').to_ascii_lowercase());
                    // "search ." is systemd-resolved's way to say that there is none.
                    add(&mut conf.search, domains.filter(|d| !d.is_empty()), MOST_DOMAINS);
                }
                Some("options") => {
                    let ndots = words.find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    conf.ndots = ndots.unwrap_or(conf.ndots);
                }
                _ => {}
            }
        }

        conf
    }

    /// The names to ask for, in order. No domain completes a name that is whole.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        if is_whole(name) {
            return vec![relative(name).to_owned()];
        }
        let mut names: Vec<String> = self.search.iter().map(|d| format!("{name}.{d}")).collect();
        let first = name.matches('.').count() >= self.ndots;
        names.insert(if first { 0 } else { names.len() }, name.to_owned());
        names
    }
}

/// Adds what is new, as long as there are fewer than `most`.
fn add<T: PartialEq>(to: &mut Vec<T>, more: impl IntoIterator<Item = T>, most: usize) {
    for one in more {
        if to.len() < most && !to.contains(&one) {
            to.push(one);
        }
    }
}

/// Reads an address, or a link-local one with its interface. A server whose interface is not there
/// (yet) stays in the list: that it cannot be reached says more than that there is none.
fn server(word: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DNS_PORT));
    }
    let (address, interface) = word.split_once('%')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = scope(interface).unwrap_or(0);
    Some(SocketAddrV6::new(address, DNS_PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, |interface| (interface == "eth0").then_some(7))
    }

    fn found(hosts: &str, name: &str) -> Vec<String> {
        in_hosts(hosts, name).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn hosts_are_found_in_any_case_with_comments_passed_over_ipv4_first() {
        let hosts = "::1 fs-1\n127.0.0.1 localhost # fs-1\n10.0.1.12\tx FS-1 # c\nbad fs-1\n#10.0.0.9 fs-1\n";
        assert_eq!(found(hosts, "fs-1"), ["10.0.1.12", "::1"]);
        assert!(found(hosts, "fs").is_empty());
    }

    #[test]
    fn a_trailing_dot_makes_no_difference_to_hosts() {
        let hosts = "10.0.0.1 fs-1.example.\n10.0.0.2 fs-1.example\n10.0.0.3 fs-1.example..\n";
        for name in ["fs-1.example", "fs-1.example."] {
            assert_eq!(found(hosts, name), ["10.0.0.1", "10.0.0.2"]);
        }
    }

    #[test]
    fn resolv_conf_gives_three_servers_search_and_ndots() {
        let conf = parse(
            "# c\nnameserver 10.0.0.2 ; x\nnameserver eth0\nnameserver ::1\nsearch a.example b.example.\n\
             options edns0 ndots:2\nnameserver 10.0.0.2\nnameserver 1.1.1.1\nnameserver 2.2.2.2\n",
        );
        let servers: Vec<String> = conf.servers.iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[::1]:53", "1.1.1.1:53"]);
        assert_eq!(conf.candidates("h.x"), ["h.x.a.example", "h.x.b.example", "h.x"]);
        assert_eq!(conf.candidates("h.x.y"), ["h.x.y", "h.x.y.a.example", "h.x.y.b.example"]);
        assert_eq!(conf.candidates("h."), ["h"], "a whole name");
        assert!(parse("").servers.is_empty());
    }

    #[test]
    fn a_link_local_server_has_the_number_of_its_interface_or_none() {
        let conf =
            parse("nameserver fe80::1%eth0\nnameserver fe80::1%gone\nnameserver 10.0.0.2%eth0");
        let scopes: Vec<_> = conf
            .servers
            .iter()
            .map(|server| match server {
                SocketAddr::V6(v6) => (v6.ip().to_string(), v6.port(), v6.scope_id()),
                SocketAddr::V4(v4) => panic!("{v4}"),
            })
            .collect();
        assert_eq!(scopes, [("fe80::1".into(), 53, 7), ("fe80::1".into(), 53, 0)]);
    }

    #[test]
    fn search_domains_are_the_last_lines_each_once_and_six_at_most() {
        let search = |text: &str| parse(text).search.join(" ");
        assert_eq!(search("search ."), "");
        assert_eq!(search("search a.example . A.example. b"), "a.example b");
        assert_eq!(search("domain x\nsearch a\nsearch 1 2 3 4 5 6 7"), "1 2 3 4 5 6");
        assert_eq!(parse("options ndots:x\noptions rotate").ndots, 1);
    }
}
