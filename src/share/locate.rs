//! From a share's name to the address that takes connections: one rule for session starts, with and without
//! encryption, and for `check`. Also where an address came from, for who reads that it failed. The names themselves
//! are looked up in `names`, and connections are begun in `reach`.

use super::names::{By, Found, NameError};
use super::reach::{Problem, ReachError};
use super::{Failure, Machine};
use crate::config::Share;
use crate::retry::{Clock, Deadline};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// So long the IPv4 addresses of a name are tried alone, before it is asked whether there are IPv6 ones.
const AHEAD: Duration = Duration::from_secs(1);
/// So long that question may take: who asks it has addresses to try meanwhile.
pub const QUESTION: Duration = Duration::from_millis(300);
/// So long the name servers are asked what they say beside /etc/hosts.
const BESIDE: Duration = Duration::from_millis(500);

/// Where an address came from that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who said so.
    pub by: By,
    /// Some are the config's `addresses`.
    pub listed: bool,
    /// Of an address from /etc/hosts: what the name servers say of that name.
    pub beside: Option<Result<Vec<IpAddr>, NameError>>,
}

impl Origin {
    /// Whether /etc/hosts says otherwise than the name servers, or they do not tell.
    pub fn may_be_stale(&self, address: Option<IpAddr>) -> bool {
        let same = |found: &Vec<IpAddr>| address.is_some_and(|a| found.contains(&a));
        self.by == By::Hosts && !matches!(&self.beside, Some(Ok(found)) if same(found))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the address is from {}", self.by)?;
        match &self.beside {
            Some(Ok(found)) => {
                let found: Vec<String> = found.iter().map(IpAddr::to_string).collect();
                write!(f, ", and the name server says {}", found.join(", "))?;
            }
            Some(Err(NameError::NoSuchName(_))) => {
                f.write_str(", and the name server knows no such name")?;
            }
            Some(Err(_)) | None => {}
        }
        if self.listed { f.write_str(" or `addresses`") } else { Ok(()) }
    }
}

/// The first address of a share that takes a connection within `window`. Where no IPv4 address of a name does, its
/// IPv6 ones are asked for and tried too; they are in `found` from then on.
///
/// # Errors
/// [`Failure::Reach`], with where the addresses came from.
pub fn reach<M: Machine>(
    machine: &M,
    share: &Share,
    found: &mut Found,
    window: Duration,
    deadline: Deadline,
    clock: &dyn Clock,
) -> Result<IpAddr, Failure> {
    let (started, until) = (clock.now(), deadline.within(clock, window));
    if share.encryption.is_none() && share.options.value("proto") == Some("tcp6") {
        // The kernel takes no other kind.
        if found.ipv4_alone {
            found.add(machine.further(share, found, until.within(clock, QUESTION))?);
        }
        if found.addresses.iter().any(IpAddr::is_ipv6) {
            found.addresses.retain(IpAddr::is_ipv6);
        }
    }
    let led = |failure, found: &Found| led(machine, share, failure, found, deadline, clock);
    // The kernel takes an IPv6 address only for proto=tcp6, or for no proto at all.
    let of_ipv4 = share.encryption.is_none() && share.options.value("proto") == Some("tcp");
    if !found.ipv4_alone || of_ipv4 {
        let reached = machine.reach(share, &found.addresses, until);
        return reached.map_err(|failure| led(failure, found));
    }
    let first = machine.reach(share, &found.addresses, until.within(clock, AHEAD));
    let Err(failure @ Failure::Reach(_)) = first else {
        return first;
    };
    let ahead = found.addresses.clone();
    found.add(machine.further(share, found, until.within(clock, QUESTION))?);
    let is_final = !failure.is_by_time() && found.addresses.len() == ahead.len();
    if is_final || until.passed(clock) {
        return Err(led(failure, found));
    }
    machine.reach(share, &found.addresses, until).map_err(|mut failure| {
        // Those that were tried before have been silent for longer.
        if let Failure::Reach(ReachError::NoneAnswers { tried, .. }) = &mut failure {
            for (address, problem) in tried {
                if let Problem::Silent { span, .. } = problem
                    && ahead.contains(address)
                {
                    *span = clock.now().saturating_sub(started);
                }
            }
        }
        led(failure, found)
    })
}

/// The failure, with where the address came from that it is about; nothing, where that is as anybody would expect.
pub fn led<M: Machine>(
    machine: &M,
    share: &Share,
    failure: Failure,
    found: &Found,
    deadline: Deadline,
    clock: &dyn Clock,
) -> Failure {
    let as_expected = match &found.by {
        By::Literal => true,
        By::Server(answered) => {
            let plain = answered.completed.is_none() && answered.alias_of.is_none();
            plain && found.listed == 0 && !matches!(failure, Failure::Reach(_))
        }
        By::Hosts | By::Listed(_) => false,
    };
    let of_the_server = match &failure {
        Failure::Reach(_) => true,
        Failure::Tunnel(failure) => failure.is_of_the_server(),
        other => other.failed_address().is_some(),
    };
    if as_expected || !of_the_server {
        return failure;
    }
    let beside = (found.by == By::Hosts).then(|| {
        machine.past_hosts(share, deadline.within(clock, BESIDE)).map(|found| found.addresses)
    });
    let origin = Origin { by: found.by.clone(), listed: found.listed > 0, beside };
    Failure::Led(failure.into(), origin.into())
}
