//! Time as an argument: the clock, the deadline made from it once, and the pauses between attempts. Knows nothing of
//! mounts.

use std::time::Duration;

/// A signal (SIGTERM, SIGINT, SIGHUP) asked the run to end while it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stopped by a signal")]
pub struct Stopped;

/// The one source of time, and the only thing that sleeps.
pub trait Clock {
    /// Time since the clock's own origin; never goes back.
    fn now(&self) -> Duration;

    /// Lets `pause` go by.
    ///
    /// # Errors
    /// [`Stopped`] as soon as a signal asks the run to end.
    fn wait(&self, pause: Duration) -> Result<(), Stopped>;
}

/// An instant that nothing may outlast, made once and handed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// The instant `span` from now.
    pub fn after(clock: &dyn Clock, span: Duration) -> Self {
        Self(clock.now().saturating_add(span))
    }

    /// The earlier of this and the instant `span` from now.
    pub fn within(self, clock: &dyn Clock, span: Duration) -> Self {
        self.min(Self::after(clock, span))
    }

    /// Time left; zero once it has passed.
    pub fn left(self, clock: &dyn Clock) -> Duration {
        self.0.saturating_sub(clock.now())
    }

    /// Whether it has passed.
    pub fn passed(self, clock: &dyn Clock) -> bool {
        self.left(clock).is_zero()
    }
}

/// Arithmetic with spans that never ends the program, as an overflow or a division by zero would.
pub trait Span {
    /// The `n`th part; of no parts at all, the whole.
    #[must_use]
    fn part(self, n: usize) -> Self;

    /// Twice as long, up to a day.
    #[must_use]
    fn doubled(self) -> Self;
}

impl Span for Duration {
    fn part(self, n: usize) -> Self {
        self.checked_div(u32::try_from(n).unwrap_or(u32::MAX)).unwrap_or(self)
    }

    fn doubled(self) -> Self {
        self.saturating_mul(2).min(DAY)
    }
}

/// Longer than any wait.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A span for people: one decimal.
pub fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// The first pause between two attempts, before jitter.
pub const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two attempts, before jitter.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Pauses that double from [`FIRST_PAUSE`] to [`LONGEST_PAUSE`], each cut by a random share of up to a half. So a fleet
/// whose sessions start together does not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    /// Starts anew. Instances with different seeds differ.
    pub fn new(seed: u64) -> Self {
        Self { next: FIRST_PAUSE, random: seed | 1 }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = whole.doubled().min(LONGEST_PAUSE);
        whole.saturating_sub(self.jitter(whole.part(2)))
    }

    /// A random span below `most`.
    pub fn jitter(&mut self, most: Duration) -> Duration {
        // xorshift64 is enough, since the spans need only be spread out.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        most.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
pub mod test {
    //! A clock for tests.
    use super::*;
    use std::sync::Mutex;

    /// A clock whose waits take no time.
    #[derive(Default)]
    pub struct VirtualClock(Mutex<Duration>);

    impl Clock for VirtualClock {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait(&self, pause: Duration) -> Result<(), Stopped> {
            *self.0.lock().unwrap() += pause;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_100_ms_to_1_s_and_jitter_takes_at_most_half() {
        for seed in 0..1000 {
            let mut backoff = Backoff::new(crate::sys::random() ^ seed);
            for whole in [100, 200, 400, 800, 1000, 1000, 1000] {
                let pause = backoff.pause();
                let whole = Duration::from_millis(whole);
                assert!(pause <= whole && pause >= whole / 2, "{pause:?} for {whole:?}");
            }
        }
    }

    #[test]
    fn two_seeds_do_not_march_in_step() {
        let pauses = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..5).map(|_| backoff.pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(1), pauses(0x9e37_79b9_7f4a_7c15));
    }
}
