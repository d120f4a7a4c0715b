//! The links of the chain as they were found, for people while they come, or for programs at the
//! end. The looks themselves are in the files beside.

use crate::config::Share;
use crate::share::Failure;
use crate::text::plain;
use serde::{Serialize, Serializer};
use std::time::{Duration, Instant};

/// The state in which a link was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    Ok,
    Warning,
    Fault,
    /// It was not looked at.
    Skipped,
}

impl LinkState {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "FAULT",
            Self::Skipped => "skipped",
        }
    }

    /// The state of a link that does not hold: a session start goes on without an optional share.
    pub fn broken(share: &Share) -> Self {
        if share.required { Self::Fault } else { Self::Warning }
    }
}

/// What a look at a link has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub state: LinkState,
    pub what: String,
    /// What helps, where something is wrong.
    pub cure: Option<String>,
}

/// One link of the chain that was looked at.
#[derive(Debug, Serialize)]
pub struct Link {
    #[serde(rename = "link")]
    name: &'static str,
    /// The mount point of the share that it is about.
    share: Option<String>,
    state: LinkState,
    #[serde(rename = "seconds", serialize_with = "milliseconds")]
    took: Duration,
    what: String,
    cure: Option<String>,
}

fn milliseconds<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(span.as_millis() as f64 / 1000.0)
}

impl Link {
    /// Whether nothing is wrong with it.
    pub fn is_ok(&self) -> bool {
        self.state == LinkState::Ok
    }

    fn text(&self) -> String {
        let share = self.share.as_ref().map(|share| format!("{share}: ")).unwrap_or_default();
        let cure = self.cure.as_ref().map(|cure| format!("\n           to mend it: {cure}"));
        format!(
            "{:<8} {:<13} {share}{} ({:.3} s){}\n",
            self.state.word(),
            self.name,
            self.what,
            self.took.as_secs_f64(),
            cure.unwrap_or_default()
        )
    }
}

/// The links so far.
#[derive(Debug)]
pub struct Links {
    all: Vec<Link>,
    /// Whether nothing is printed before the end.
    json: bool,
    /// When the look at the next link began.
    began: Instant,
}

impl Links {
    /// No link yet. The look at the first one began at `began`.
    pub fn new(json: bool, began: Instant) -> Self {
        Self { all: Vec::new(), json, began }
    }

    /// All links, in the order in which they were looked at.
    pub fn all(&self) -> &[Link] {
        &self.all
    }

    /// Whether a link was found in this state.
    pub fn any(&self, state: LinkState) -> bool {
        self.all.iter().any(|link| link.state == state)
    }

    /// Adds the link `name`, which may be about a share.
    pub fn add(&mut self, name: &'static str, share: Option<&Share>, finding: Finding) {
        let link = Link {
            name,
            share: share.map(|share| share.mount_point.display().to_string()),
            state: finding.state,
            took: self.began.elapsed(),
            what: plain(&finding.what),
            cure: finding.cure.map(|cure| plain(&cure)),
        };

        self.began = Instant::now();
        if !self.json {
            crate::commands::print(&link.text());
        }
        self.all.push(link);
    }

    pub fn ok(&mut self, name: &'static str, share: Option<&Share>, what: impl Into<String>) {
        let what = what.into();
        self.add(name, share, Finding { state: LinkState::Ok, what, cure: None });
    }

    /// Adds a link that a session start may do without.
    pub fn warn(
        &mut self,
        name: &'static str,
        share: Option<&Share>,
        what: impl Into<String>,
        cure: impl Into<Option<String>>,
    ) {
        let (what, cure) = (what.into(), cure.into());
        self.add(name, share, Finding { state: LinkState::Warning, what, cure });
    }

    /// Adds a link of the machine that does not hold.
    pub fn fault(&mut self, name: &'static str, what: impl Into<String>, cure: impl Into<String>) {
        let (what, cure) = (what.into(), Some(cure.into()));
        self.add(name, None, Finding { state: LinkState::Fault, what, cure });
    }

    pub fn skipped(&mut self, name: &'static str, share: Option<&Share>) {
        let what = "not tried, because of the FAULT above".to_owned();
        self.add(name, share, Finding { state: LinkState::Skipped, what, cure: None });
    }
}

/// A link does not hold, and was added as such. The links behind it would say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// Whether a signal has cut the look short: then it says nothing about the link.
pub fn is_stopped(failure: &Failure) -> bool {
    matches!(failure, Failure::Stopped(_))
}
