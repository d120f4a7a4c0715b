//! Finds where a share's server is, and remembers that from one attempt and one share to the next.
//! Here is decided when a name server is asked, and when only a connection is tried. Which
//! addresses are tried in what order is decided in `share::locate`; mounting is in the parent.

use super::SessionRun;
use super::pace::ANSWER_TIMEOUT;
use crate::config::Share;
use crate::net::names::{By, Found};
use crate::retry::{Backoff, Span, Stopped};
use crate::share::linux::{shows_name, strays};
use crate::share::locate::{ServerLocator, by_of, fitting, leads_to};
use crate::share::plan::MountCall;
use crate::share::{Failure, Machine, Mounted};
use std::net::IpAddr;
use std::time::Duration;

/// How long one look at a port takes while an attempt is not due.
const PORT_LOOK_TIMEOUT: Duration = Duration::from_millis(120);
/// About how long the pause between two such looks is, so that what has come good is seen in 0.3 s.
const PORT_LOOK_PAUSE: Duration = Duration::from_millis(40);
/// How long a name whose address does not answer is not asked for again.
const ADDRESS_MAX_AGE: Duration = Duration::from_secs(2);

/// By what a share's address is found and tried, besides its name. The same address may be of no
/// use to a share with other means.
#[derive(Default, PartialEq)]
struct SearchMeans {
    port: u16,
    proto: Option<String>,
    listed: Vec<IpAddr>,
    /// Whether AWS may be asked; `None` where there is no tunnel.
    discover: Option<bool>,
}

/// What is known about where a share's server is.
#[derive(Default)]
pub(super) struct Search {
    /// The means of the share that it is about.
    means: SearchMeans,
    /// Where its name has led, and when that was found out.
    known: Option<(Found, Duration)>,
    /// Addresses that took a connection and did not mount, which are tried last from then on.
    pub(super) failed: Vec<IpAddr>,
    /// The address that a look between two attempts found, which need not be tried again.
    pub(super) seen: Option<IpAddr>,
}

impl Search {
    /// Forgets what was found by other means than this share has.
    pub(super) fn begin(&mut self, share: &Share) {
        let discover = share.encryption.as_ref().map(|encryption| encryption.discover);
        let proto = share.options.value("proto").map(str::to_owned);
        let (port, listed) = (share.options.port, share.addresses.clone());
        let means = SearchMeans { port, proto, listed, discover };
        if self.means != means {
            *self = Self { means, ..Self::default() };
        }
    }

    /// The known addresses, with those that failed at the end.
    fn found(&self) -> Option<Found> {
        let (mut found, _) = self.known.clone()?;
        let place = |a: &IpAddr| self.failed.iter().position(|f| f == a);
        found.addresses.sort_by_key(|a| place(a).map_or(0, |n| n.saturating_add(1)));
        Some(found)
    }

    /// Whether the name need not be asked for again. An answer from /etc/hosts is never fresh: to
    /// look at a file costs nobody anything.
    fn is_fresh(&self, now: Duration) -> bool {
        let is_young = |at: &Duration| now.saturating_sub(*at) < ADDRESS_MAX_AGE;
        self.known.as_ref().is_some_and(|(found, at)| found.by != By::Hosts && is_young(at))
    }

    pub(super) fn completed(&self) -> Option<String> {
        self.known.as_ref()?.0.completed().map(str::to_owned)
    }
}

impl<M: Machine> SessionRun<'_, M> {
    /// The share's address that answers. The name gets `window`, and the connections get as long
    /// again. Addresses that failed before come last, the latest at the end.
    pub(super) fn locate(
        &self,
        share: &Share,
        window: Duration,
        search: &mut Search,
    ) -> Result<IpAddr, Failure> {
        let now = self.clock.now();
        let found = search.found().filter(|_| search.is_fresh(now));

        let mut found = match found {
            Some(found) => found,
            None => {
                let until = self.deadline.within(self.clock, window);
                let found = self.machine.resolve(share, until).inspect_err(|_| search.known = None);
                search.known = Some((found?, now));
                search.found().unwrap_or_else(|| Found::new(Vec::new(), By::Literal))
            }
        };

        let reached = self.locator(share).reach(&mut found, window);
        let port = share.options.port;
        let told = reached.as_ref().ok().map(|address| {
            let by = by_of(&found, Some(*address));
            format!("{}: {address} ({by}) answers on TCP {port}", share.endpoint)
        });
        let completed = found.completed().is_some();
        search.known = search.known.take().map(|(_, at)| (found, at));

        match told {
            // A person who meant another machine must be able to see it.
            Some(text) if self.once || completed => self.log.info(text),
            Some(text) => self.log.debug(text),
            None => {}
        }

        reached
    }

    fn locator<'s>(&'s self, share: &'s Share) -> ServerLocator<'s, M> {
        ServerLocator { machine: self.machine, share, deadline: self.deadline, clock: self.clock }
    }

    /// The failure, with where the address came from.
    pub(super) fn with_origin(&self, share: &Share, failure: Failure, search: &Search) -> Failure {
        match &search.known {
            Some((found, _)) => self.locator(share).with_origin(failure, found),
            None => failure,
        }
    }

    /// Pauses before the next attempt. The pause ends early when a port has come good, whose
    /// address is then used. A name is asked for again in a pause only where that costs nobody
    /// anything. Else each machine of a fleet would ask its name server thirty times a second.
    pub(super) fn pause(
        &self,
        share: &Share,
        failure: &Failure,
        search: &mut Search,
        backoff: &mut Backoff,
    ) -> Result<(), Stopped> {
        let end = self.deadline.within(self.clock, backoff.pause());
        let stamp = self.machine.names_stamp();
        while !end.passed(self.clock) {
            let step = PORT_LOOK_PAUSE.saturating_sub(backoff.jitter(PORT_LOOK_PAUSE.part(2)));
            self.clock.wait(step.min(end.left(self.clock)))?;

            if end.passed(self.clock) {
                break;
            }
            if self.machine.names_stamp() != stamp {
                search.known = None;
                break;
            }

            if !failure.can_be_watched() {
                continue;
            }

            let seen = match search.found() {
                Some(found) => {
                    let until = self.deadline.within(self.clock, PORT_LOOK_TIMEOUT);
                    self.machine.reach(share, &fitting(share, &found), until)
                }
                None => self.locate(share, PORT_LOOK_TIMEOUT, search),
            };

            if let Ok(address) = seen {
                search.seen = Some(address);
                break;
            }
        }

        Ok(())
    }

    /// Why the server of a mount that was made just now may be another machine than the config means.
    pub(super) fn doubt_of_new(
        &self,
        share: &Share,
        call: &MountCall,
        completed: Option<String>,
        mounted: &Mounted,
    ) -> Option<String> {
        match completed {
            Some(completed) => Some(guessed(share, &completed, &mounted.address)),
            None if strays(share, call, mounted) => Some(format!(
                "the server has led {} to {}, at {}, which is another machine; write that one as `endpoint`",
                share.path, mounted.source, mounted.address
            )),
            None => None,
        }
    }

    /// Why the server of a share may not be the one that the config means, so that its root must stay as it is. There
    /// is no doubt about a whole name, or where a certificate was checked.
    pub(super) fn doubt(&self, share: &Share, mounted: &Mounted) -> Option<String> {
        let name = &share.endpoint;
        if share.encryption.is_some() {
            return None;
        }
        if !mounted.already {
            return mounted.doubt.clone();
        }

        // Otherwise nobody knows any more by which name it was mounted.
        if name.is_whole() && shows_name(share, mounted) {
            return None;
        }

        let until = self.deadline.within(self.clock, ANSWER_TIMEOUT);
        let address = &mounted.address;
        match leads_to(self.machine, share, address, until) {
            Ok(found) => match found.completed() {
                Some(completed) => Some(guessed(share, completed, address)),
                None if found.addresses.iter().any(|one| one.to_string() == *address) => None,
                None => Some(format!(
                    "{name} does not lead to {address}, where it is mounted from; unmount it and run again"
                )),
            },
            Err(failure) => Some(format!(
                "whether {address}, where it is mounted from, is {name}, cannot be told ({})",
                self.explain(&failure, share).sentence
            )),
        }
    }
}

/// What it means that a search domain completed the name.
fn guessed(share: &Share, completed: &str, address: &str) -> String {
    format!(
        "a search domain made {completed} of {}, which may be another machine ({address}); if it is the right one, \
         write endpoint = \"{completed}.\"",
        share.endpoint
    )
}
