//! Leads from a share's name to the address that takes connections. It is one rule for session
//! starts, with and without encryption, and for `check`. It also says where an address came from,
//! for a reader who learns that it failed. Looking names up (`net::names`) and connecting
//! (`net::reach`) do not belong here.

use super::{Failure, Machine};
use crate::config::Share;
use crate::net::names::{By, Found, NameError};
use crate::net::reach::{Problem, ReachError};
use crate::net::{IPV4_ALONE, IPV6_QUESTION};
use crate::retry::{Clock, Deadline};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How long name servers are asked about a name that /etc/hosts has.
const BESIDE_HOSTS_TIMEOUT: Duration = Duration::from_millis(300);

/// Where an address that failed came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who gave the address.
    pub by: By,
    /// For an address from /etc/hosts: what the name servers say about that name.
    pub beside: Option<Result<Vec<IpAddr>, NameError>>,
}

impl Origin {
    /// Whether the name servers contradict /etc/hosts, or do not answer.
    pub fn may_be_stale(&self, address: Option<IpAddr>) -> bool {
        let same = |found: &Vec<IpAddr>| address.is_some_and(|a| found.contains(&a));
        self.by == By::Hosts && !matches!(&self.beside, Some(Ok(found)) if same(found))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            By::Config => return f.write_str("the address is from `addresses`"),
            by => write!(f, "the address is from {by}")?,
        }

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

        Ok(())
    }
}

/// The addresses that the kernel takes with the share's options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
    Both,
}

impl Family {
    /// A tunnel goes to any address, whatever the kernel's way to the tunnel is.
    fn of(share: &Share) -> Self {
        match share.options.value("proto") {
            _ if share.encryption.is_some() => Self::Both,
            Some("tcp") => Self::Ipv4,
            Some("tcp6") => Self::Ipv6,
            _ => Self::Both,
        }
    }

    fn takes(self, address: IpAddr) -> bool {
        match self {
            Self::Ipv4 => address.is_ipv4(),
            Self::Ipv6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// The search for one share's server.
pub struct ServerLocator<'a, M> {
    /// The machine that asks and connects.
    pub machine: &'a M,
    /// The share.
    pub share: &'a Share,
    /// No step lasts longer than this.
    pub deadline: Deadline,
    /// The clock that the deadline goes by.
    pub clock: &'a dyn Clock,
}

impl<M: Machine> ServerLocator<'_, M> {
    /// The first address of the share that takes a connection within `window`. If no IPv4 address
    /// of a name does, its IPv6 addresses are asked for and tried too. They are in `found` from
    /// then on.
    ///
    /// # Errors
    /// [`Failure::Reach`], with where the addresses came from; [`Failure::NoFamily`].
    pub fn reach(&self, found: &mut Found, window: Duration) -> Result<IpAddr, Failure> {
        let Self { machine, share, clock, .. } = *self;
        let (started, until) = (clock.now(), self.deadline.within(clock, window));
        let family = Family::of(share);
        if family == Family::Ipv6 {
            ask_further(machine, share, found, until.within(clock, IPV6_QUESTION))?;
        }
        let ahead = fitting(share, found);
        if ahead.is_empty() {
            let wanted = if family == Family::Ipv6 { "tcp6" } else { "tcp" };
            return Err(Failure::NoFamily(wanted));
        }

        // In a short look, or where only one family counts, these addresses get all the time.
        if family != Family::Both || !found.ipv4_alone || window < IPV4_ALONE {
            let reached = machine.reach(share, &ahead, until);
            return reached.map_err(|failure| self.with_origin(failure, found));
        }
        let first = machine.reach(share, &ahead, until.within(clock, IPV4_ALONE));
        let Err(failure @ Failure::Reach(_)) = first else {
            return first;
        };

        ask_further(machine, share, found, until.within(clock, IPV6_QUESTION))?;
        let is_final = !failure.is_by_time() && found.addresses.len() == ahead.len();
        if is_final || until.passed(clock) {
            return Err(self.with_origin(failure, found));
        }
        machine.reach(share, &found.addresses, until).map_err(|mut failure| {
            // The addresses that were tried before have been silent for longer.
            lengthen_silence(&mut failure, &ahead, clock.now().saturating_sub(started));
            self.with_origin(failure, found)
        })
    }

    /// Adds to a failure where its address came from, unless that is as anybody would expect.
    pub fn with_origin(&self, failure: Failure, found: &Found) -> Failure {
        let of_the_server = match &failure {
            Failure::Reach(_) => true,
            Failure::Tunnel(failure) => failure.is_of_the_server(),
            other => other.is_of_the_server(),
        };

        if !of_the_server || is_as_expected(found, &failure) {
            return failure;
        }
        let beside = (found.by == By::Hosts).then(|| {
            let ipv6 = failure.first_address().is_some_and(|address| address.is_ipv6());
            let until = self.deadline.within(self.clock, BESIDE_HOSTS_TIMEOUT);
            let found = self.machine.past_hosts(self.share, ipv6, until);
            found.map(|found| found.addresses)
        });

        let origin = Origin { by: by_of(found, failure.first_address()), beside };
        Failure::Led(failure.into(), origin.into())
    }
}

/// Whether anybody would expect the addresses of a failure to come from there.
fn is_as_expected(found: &Found, failure: &Failure) -> bool {
    match &found.by {
        By::Literal => true,
        By::Server(answered) => {
            let plain = answered.completed.is_none() && answered.alias_of.is_none();
            plain && found.listed == 0 && !matches!(failure, Failure::Reach(_))
        }
        By::Hosts | By::Listed(_) | By::Config => false,
    }
}

fn lengthen_silence(failure: &mut Failure, addresses: &[IpAddr], silence: Duration) {
    if let Failure::Reach(ReachError::NoneAnswers { tried, .. }) = failure {
        for (address, problem) in tried {
            if let Problem::Silent { span, .. } = problem
                && addresses.contains(address)
            {
                *span = silence;
            }
        }
    }
}

/// Those of the addresses that the kernel takes.
pub fn fitting(share: &Share, found: &Found) -> Vec<IpAddr> {
    let family = Family::of(share);
    found.addresses.iter().copied().filter(|address| family.takes(*address)).collect()
}

/// Asks for the addresses of the other family, if that was not answered yet.
fn ask_further<M: Machine>(
    machine: &M,
    share: &Share,
    found: &mut Found,
    until: Deadline,
) -> Result<(), Failure> {
    if found.ipv4_alone
        && let Some(further) = machine.further(share, found, until)?
    {
        found.add(further);
    }
    Ok(())
}

/// The addresses of the share's name, to compare with `address`. IPv6 addresses are asked for only
/// if `address` is one.
///
/// # Errors
/// Those of [`Machine::resolve`].
pub fn leads_to<M: Machine>(
    machine: &M,
    share: &Share,
    address: &str,
    until: Deadline,
) -> Result<Found, Failure> {
    let mut found = machine.resolve(share, until)?;
    if address.contains(':') {
        ask_further(machine, share, &mut found, until)?;
    }
    Ok(found)
}

/// Who has given an address.
pub fn by_of(found: &Found, address: Option<IpAddr>) -> By {
    let first_listed = found.addresses.len().saturating_sub(found.listed);
    let listed = found.addresses.iter().skip(first_listed);
    match address.is_some_and(|address| listed.into_iter().any(|one| *one == address)) {
        true => By::Config,
        false => found.by.clone(),
    }
}
