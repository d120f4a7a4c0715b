//! Finds a server that answers: its name becomes addresses, and one of them takes a connection.
//! Shares, tunnels, mounting and the log do not belong here.

pub mod names;
pub mod probe;
pub mod reach;

use std::time::Duration;

/// The IPv4 addresses of a name are tried alone for this long. Then its IPv6 addresses are asked for.
pub const IPV4_ALONE: Duration = Duration::from_secs(1);
/// The question for the IPv6 addresses may take this long.
pub const IPV6_QUESTION: Duration = Duration::from_secs(1);
