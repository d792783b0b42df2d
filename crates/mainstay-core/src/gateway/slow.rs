//! When a site of ours is too slow for its own sessions.
//!
//! A site that is ten times as slow as usual still carries the few that are at home there, each of
//! whom waits ten times as long: credit alone would never tell. It says itself how slow it is, by
//! first tokens against what is usual there and not by bare times, which vary a hundredfold with
//! prompts. No verdict follows: it lives, and is tried where others have no room.

use crate::time::{Duration, Time};

/// From so many times what is usual on a site is slow;
const SLOW: u8 = 3;
/// and below this no more. In between it stays what it was, so that nobody moves twice.
const AS_USUAL: u8 = 2;
/// A difference below this is worth no cold cache: readers hardly notice it.
const ALIKE: Duration = Duration::from_millis(250);
/// For so long it must last: one pause of a second takes longer to be told than to be over.
const LASTS: Duration = Duration::from_secs(2);

/// What is known of one site.
#[derive(Clone, Copy, Debug, Default)]
pub struct Slow {
    since: Option<Time>,
    is_slow: bool,
}

impl Slow {
    /// Whether its sessions go elsewhere.
    pub fn is_slow(self) -> bool {
        self.is_slow
    }

    /// A look, with each report: the site is so many times as `slow` as usual, a first token is
    /// expected there after `here`, and after `there` at the best equal that has room. True if it
    /// changed.
    pub fn look(&mut self, now: Time, slow: u8, here: Duration, there: Option<Duration>) -> bool {
        let before = self.is_slow;
        let is_later = there.is_some_and(|there| here > there + ALIKE);
        self.since = (slow >= SLOW && is_later).then(|| self.since.unwrap_or(now));
        self.is_slow = match self.is_slow {
            true => slow >= AS_USUAL,
            false => self.since.is_some_and(|since| now.since(since) >= LASTS),
        };
        self.is_slow != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Time {
        Time::from_micros(100_000_000 + millis * 1000)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Looks twice a second; how many until it is slow.
    fn looks(slow: u8, here: u64, there: Option<u64>) -> Option<u64> {
        let mut known = Slow::default();
        (0..20).find(|n| known.look(at(n * 500), slow, ms(here), there.map(ms)))
    }

    #[test]
    fn a_site_three_times_as_slow_as_usual_is_left_after_two_seconds() {
        assert_eq!(looks(3, 600, Some(200)), Some(4));
        assert_eq!(looks(2, 600, Some(200)), None, "not so slow");
        assert_eq!(looks(0, 600, Some(200)), None, "it does not say");
    }

    #[test]
    fn a_site_is_not_left_for_one_that_is_no_faster_or_where_none_has_room() {
        assert_eq!(looks(10, 450, Some(200)), None, "readers would not notice");
        assert_eq!(looks(10, 2000, Some(1800)), None, "all are slow");
        assert_eq!(looks(10, 2000, None), None, "nobody has room");
    }

    #[test]
    fn a_pause_that_is_soon_over_moves_nobody() {
        let mut known = Slow::default();
        for n in 0..40 {
            let slow = if n % 4 == 3 { 2 } else { 6 };
            assert!(!known.look(at(n * 500), slow, ms(900), Some(ms(100))), "look {n}");
        }
    }

    #[test]
    fn it_is_slow_until_it_is_nearly_as_fast_as_usual_whatever_others_are() {
        let mut known = Slow::default();
        (0..5).for_each(|n| _ = known.look(at(n * 500), 9, ms(900), Some(ms(100))));
        assert!(known.is_slow());
        assert!(!known.look(at(3000), 2, ms(400), None));
        assert!(known.look(at(3500), 1, ms(200), None) && !known.is_slow());
        assert!(!known.look(at(4000), 9, ms(900), Some(ms(100))), "it must last again");
    }

    #[test]
    fn whatever_is_told_it_changes_no_more_than_once_in_two_seconds_each_way() {
        for seed in 0..200 {
            let (mut rng, mut known, mut began) = (Rng::new(seed), Slow::default(), None);
            for n in 0..400 {
                let (slow, here) = (rng.below(16) as u8, ms(rng.below(3000)));
                let there = (rng.below(8) > 0).then(|| ms(rng.below(500)));
                let is_news = known.look(at(n * 500), slow, here, there);
                if is_news && known.is_slow() {
                    let long = began.is_none_or(|ended: u64| n - ended >= 4);
                    assert!(long, "seed {seed}: look {n}");
                }
                if is_news && !known.is_slow() {
                    assert!(slow < AS_USUAL, "seed {seed}: look {n}");
                    began = Some(n);
                }
            }
        }
    }
}
