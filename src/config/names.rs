//! Names and addresses of servers: what DNS allows, and which addresses a server can have. Nothing is looked up.

use crate::partitions::is_of_aws;
use std::net::IpAddr;
use std::str::FromStr;

/// Whether `name` is whole: a search domain would only make another name of it. It has a dot at its end then, or ends
/// like the names of AWS.
pub fn is_whole(name: &str) -> bool {
    name.ends_with('.') || name.ends_with(".aws") || is_of_aws(name)
}

/// An address that a server can have, as people write it: also IPv6 in brackets, and IPv4 inside of IPv6.
pub fn address_from(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let address = IpAddr::from_str(bare).ok()?.to_canonical();
    why_no_server(address).is_none().then_some(address)
}

/// Whether `name` can be looked up. A literal address, and what may be meant for one, cannot.
pub fn is_dns_name(name: &str) -> bool {
    let digits_only = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    name.len() <= 253 && !digits_only && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let fits = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits && !label.is_empty() && label.len() <= 63 && !label.starts_with('-')
}

/// Why `address` cannot be a server's, if it cannot.
pub fn why_no_server(address: IpAddr) -> Option<String> {
    let address = address.to_canonical();
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Some(
            "is a link-local address, which needs an interface beside it and cannot be used: write another address of \
             the server"
                .into(),
        );
    }
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    (address.is_unspecified() || address.is_multicast() || broadcast)
        .then(|| "cannot be a server's address: write one like \"10.0.1.12\"".into())
}
