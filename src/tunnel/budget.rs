//! How often a tunnel may log what happens again and again: a user, or a server in trouble, must not fill the disk. It
//! only counts; the lines are written elsewhere.

use std::time::Duration;

/// The time in which lines are counted.
const SPAN: Duration = Duration::from_secs(30);
/// The most lines in that time, with at most one of each kind.
const MOST: usize = 5;

/// The lines of the last [`SPAN`]: their kinds, and when they were written.
#[derive(Debug)]
pub struct Budget<K> {
    written: Vec<(Option<K>, Duration)>,
}

impl<K> Default for Budget<K> {
    fn default() -> Self {
        Self { written: Vec::new() }
    }
}

impl<K: PartialEq> Budget<K> {
    /// Whether a line of this kind may be written now. If so, it counts as written. `now` never goes back.
    pub fn allows(&mut self, kind: K, now: Duration) -> bool {
        self.written.retain(|(_, at)| now.saturating_sub(*at) < SPAN);

        let kind = Some(kind);
        let may =
            self.written.len() < MOST && !self.written.iter().any(|(other, _)| *other == kind);

        if may {
            self.written.push((kind, now));
        }
        may
    }

    /// All is well again, so what happens next is news, whatever its kind. The limit for all lines still holds.
    pub fn well_again(&mut self) {
        for (kind, _) in &mut self.written {
            *kind = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(hours: u64, mut kind: impl FnMut(u64, &mut Budget<u64>) -> u64) -> usize {
        let mut budget = Budget::default();
        let mut told = 0;
        for n in 0..hours * 3600 * 10 {
            let kind = kind(n, &mut budget);
            told += usize::from(budget.allows(kind, Duration::from_millis(n * 100)));
        }
        told
    }

    #[test]
    fn what_happens_again_is_told_once_in_half_a_minute() {
        assert_eq!(lines(1, |_, _| 0), 120);
    }

    #[test]
    fn two_in_turn_or_ever_new_ones_or_a_success_between_do_not_defeat_it() {
        assert_eq!(lines(1, |n, _| n % 2), 240);
        assert!(lines(1, |n, _| n) <= 605);
        let with_successes = lines(1, |_, budget| {
            budget.well_again();
            0
        });
        assert!(with_successes <= 605, "{with_successes}");
    }

    #[test]
    fn after_a_success_the_same_is_news() {
        let mut budget = Budget::default();
        assert!(budget.allows("a", Duration::ZERO) && !budget.allows("a", Duration::ZERO));
        budget.well_again();
        assert!(budget.allows("a", Duration::ZERO));
    }
}
