//! How long each step of a share may take. The steps themselves do not belong here.

use crate::retry::{Clock, Deadline, Span};
use crate::share::{Failure, MountLimit};
use std::time::Duration;

/// How long the server of a share that is mounted already gets to answer one question.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long the first handshake may take, in which credentials are found and a key is made. This
/// doubles after each handshake that took longer.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt gives the name, and then again the connection.
pub(super) const LOCATE_TIMEOUT: Duration = Duration::from_secs(3);
/// With several servers, a mount(2) is cut off when its server leaves a NULL call without an answer
/// for this long. The next time it gets twice as long, and so on. The kernel makes itself known to
/// one new server at a time. So one that is silent holds up the mounts of all others.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(1);
/// How much earlier each server's mount(2) is cut off than that of the server before it. If one
/// hangs in spite of an answer, another waits in the kernel when the first is cut off, and comes
/// first then.
const CUT_OFF_DISTANCE: Duration = Duration::from_millis(500);

/// How long one mount(2) may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    span: Duration,
    /// It is cut off earlier if the server is silent for this long.
    silence: Option<Duration>,
    /// How long a TLS handshake before it may take.
    pub(super) handshake: Duration,
}

impl Pace {
    /// The pace of the only server.
    pub(super) fn of_one(attempt_timeout: Duration) -> Self {
        Self { span: attempt_timeout, silence: None, handshake: HANDSHAKE_TIMEOUT }
    }

    /// The pace of the `n`th of several servers.
    pub(super) fn of_several(attempt_timeout: Duration, n: u32) -> Self {
        let less = CUT_OFF_DISTANCE.saturating_mul(n).min(attempt_timeout.part(2));
        Self {
            span: attempt_timeout.saturating_sub(less),
            silence: Some(SILENCE_TIMEOUT),
            handshake: HANDSHAKE_TIMEOUT,
        }
    }

    /// The time of a mount(2) that begins now.
    pub(super) fn limit(self, deadline: Deadline, clock: &dyn Clock) -> MountLimit {
        MountLimit { until: deadline.within(clock, self.span), silence: self.silence }
    }

    /// Doubles the time for what took longer than it may.
    pub(super) fn adapt_to(&mut self, failure: &Failure) {
        match failure.unprobed() {
            Failure::CutOff(..) => self.silence = self.silence.map(Span::doubled),
            Failure::Tunnel(_) if failure.is_by_time() => self.handshake = self.handshake.doubled(),
            _ => {}
        }
    }
}
