//! Whether this gateway should doubt itself rather than the sites.
//!
//! When most of what it uses fails at once, or its own loop is late, the fault is likelier here
//! than everywhere else (Lifeguard, DSN'18). In doubt it still steers around what failed, but it
//! calls nothing down, waits longer, adopts no policy, and says so to its peers.
//!
//! Call `outcome` at every good answer and strike with the target's site, `left` when a target of
//! a site left UP, `lag` whenever the loop measured its lateness (zero too), `answered` when a site
//! that is UP gave a good answer, and `is_in_doubt` wherever one of the answers is needed.

use crate::mutant::{Mutant, Mutants};
use crate::names::SiteId;
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;

/// Sites with own outcomes, and departures, are counted over this.
const WINDOW: Duration = Duration::from_secs(5);
/// Fewer sites that left say nothing of this gateway.
const LEAST: usize = 2;
/// A loop later than this,
const LATE: Duration = Duration::from_millis(100);
/// for so long, cannot judge anybody.
const LATE_FOR: Duration = Duration::from_secs(1);
/// Lateness is forgotten when it was not seen again for so long.
const LATE_AGAIN: Duration = Duration::from_millis(500);
/// How long doubt lasts.
const LASTS: Duration = Duration::from_secs(10);
/// Time-outs for acks and beats are so much longer meanwhile.
const FACTOR: u32 = 3;

/// What speaks for and against this gateway itself.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    /// For each site: the last own outcome, and when it last left UP. At most one entry a site.
    sites: BTreeMap<SiteId, (Time, Option<Time>)>,
    late_since: Option<(Time, Time)>,
    until: Option<Time>,
    /// Most sites left, and none that is UP has answered since. That a site is UP of which nothing
    /// was asked proves nothing: a gateway that is cut off from everything has such sites too.
    is_blind: bool,
    /// When a site last answered after such a time.
    answered: Time,
    mutants: Mutants,
}

impl Doubt {
    /// A gateway that trusts itself, with these rules taken away.
    pub fn new(mutants: Mutants) -> Doubt {
        Doubt { mutants, ..Doubt::default() }
    }

    /// Sites are other ones now.
    pub fn forget(&mut self) {
        self.sites.clear();
    }

    /// An own attempt at a site ended good or as a strike.
    pub fn outcome(&mut self, now: Time, site: SiteId) {
        self.sites.entry(site).or_insert((now, None)).0 = now;
    }

    /// A target of the site left UP by own evidence.
    pub fn left(&mut self, now: Time, site: SiteId) {
        self.outcome(now, site);
        self.sites.insert(site, (now, Some(now)));
        let is_fresh = |at: Time| now.since(at) <= WINDOW;
        self.sites.retain(|_, (seen, left)| is_fresh(*seen) || left.is_some_and(is_fresh));
        let seen = self.sites.values().filter(|(seen, _)| is_fresh(*seen)).count();
        let gone = self.sites.values().filter(|(_, left)| left.is_some_and(is_fresh)).count();
        if gone >= LEAST && gone * 2 > seen {
            self.begin(now);
            self.is_blind = true;
        }
    }

    /// A site that is UP gave a good answer: this gateway can reach something.
    pub fn answered(&mut self, now: Time) {
        if core::mem::take(&mut self.is_blind) {
            self.answered = now;
        }
    }

    /// The loop was late by so much.
    pub fn lag(&mut self, now: Time, late: Duration) {
        if late <= LATE {
            self.late_since = None;
            return;
        }
        let since = match self.late_since {
            Some((since, last)) if now.since(last) <= LATE_AGAIN + late => since,
            // A loop that was late by two seconds was so for two seconds.
            Some(_) | None => now - late,
        };
        self.late_since = Some((since, now));
        if now.since(since) >= LATE_FOR {
            self.begin(now);
        }
    }

    /// Whether this gateway doubts itself: nothing goes down, nothing is adopted, peers are told.
    pub fn is_in_doubt(&self, now: Time) -> bool {
        if self.mutants.removes(Mutant::NoSelfDoubt) {
            return false;
        }
        self.until.is_some_and(|until| now < until || self.is_blind)
    }

    /// Whether what was sent at `sent` and failed now speaks for nothing: this gateway doubts
    /// itself, or did when it sent that.
    pub fn excuses(&self, now: Time, sent: Time) -> bool {
        let trusted = self.until.map(|until| until.max(self.answered));
        let is_on = !self.mutants.removes(Mutant::NoSelfDoubt);
        self.is_in_doubt(now) || (is_on && trusted.is_some_and(|since| sent < since))
    }

    /// Whether a time-out that passes now says nothing, because this loop was late.
    pub fn ignores_timeouts(&self, now: Time) -> bool {
        let is_late = self.late_since.is_some_and(|(_, last)| now.since(last) <= LATE_AGAIN);
        is_late && !self.mutants.removes(Mutant::NoSelfDoubt)
    }

    /// How many times longer acks and beats are waited for.
    pub fn factor(&self, now: Time) -> u32 {
        if self.is_in_doubt(now) { FACTOR } else { 1 }
    }

    fn begin(&mut self, now: Time) {
        self.until = Some(now + LASTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn at(millis: u64) -> Time {
        Time::from_micros(100_000_000 + millis * 1000)
    }

    #[test]
    fn one_site_of_three_that_leaves_is_its_own_fault_two_are_mine() {
        let mut doubt = Doubt::default();
        for site in 0..3 {
            doubt.outcome(at(0), SiteId(site));
        }
        doubt.left(at(1000), SiteId(0));
        assert!(!doubt.is_in_doubt(at(1000)));
        doubt.left(at(1500), SiteId(1));
        assert_eq!((doubt.is_in_doubt(at(1500)), doubt.factor(at(1500))), (true, 3));
        doubt.answered(at(1600));
        assert!(doubt.is_in_doubt(at(11_499)) && !doubt.is_in_doubt(at(11_500)));
    }

    #[test]
    fn the_only_site_in_use_and_departures_far_apart_raise_no_doubt() {
        let mut doubt = Doubt::default();
        doubt.left(at(0), SiteId(0));
        assert!(!doubt.is_in_doubt(at(0)));
        doubt.left(at(5001), SiteId(1));
        assert!(!doubt.is_in_doubt(at(5001)));
    }

    #[test]
    fn doubt_lasts_until_a_site_that_is_up_has_answered() {
        let mut doubt = Doubt::default();
        doubt.left(at(0), SiteId(0));
        doubt.left(at(10), SiteId(1));
        assert!(doubt.is_in_doubt(at(60_000)), "a third site that nobody asked is no proof");
        doubt.answered(at(60_000));
        assert!(!doubt.is_in_doubt(at(60_000)));
        assert!(doubt.excuses(at(61_000), at(59_999)), "what was sent in doubt proves nothing");
        assert!(!doubt.excuses(at(61_000), at(60_000)));
    }

    #[test]
    fn a_loop_late_for_a_second_doubts_itself_and_its_time_outs() {
        let mut doubt = Doubt::default();
        for n in 0..5 {
            doubt.lag(at(n * 200), Duration::from_millis(150));
        }
        assert!(!doubt.is_in_doubt(at(800)) && doubt.ignores_timeouts(at(800)));
        doubt.lag(at(1000), Duration::from_millis(150));
        assert!(doubt.is_in_doubt(at(1000)));
        doubt.lag(at(1200), Duration::ZERO);
        assert!(!doubt.ignores_timeouts(at(1200)) && doubt.is_in_doubt(at(1200)));
    }

    #[test]
    fn a_late_loop_needs_no_answer_to_trust_itself_again() {
        let mut doubt = Doubt::default();
        doubt.lag(at(2000), Duration::from_secs(2));
        assert!(doubt.is_in_doubt(at(11_999)) && !doubt.is_in_doubt(at(12_000)));
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn without_self_doubt_the_sites_are_blamed_for_everything() {
        let mut doubt = Doubt::new(Mutants::without(Mutant::NoSelfDoubt));
        doubt.left(at(0), SiteId(0));
        doubt.left(at(10), SiteId(1));
        doubt.lag(at(20), Duration::from_secs(3));
        assert!(!doubt.is_in_doubt(at(20)) && !doubt.ignores_timeouts(at(20)));
    }

    #[test]
    fn whatever_is_seen_doubt_has_a_cause_and_an_end() {
        for seed in 0..300 {
            let (mut rng, mut doubt) = (Rng::new(seed), Doubt::default());
            let (mut millis, mut lefts, mut lags) = (0, alloc::vec::Vec::new(), 0);
            for _ in 0..400 {
                millis += rng.below(3000);
                let (now, was) = (at(millis), doubt.is_in_doubt(at(millis)));
                let site = SiteId(rng.below(5) as u16);
                match rng.below(8) {
                    0 => {
                        doubt.left(now, site);
                        lefts.push((millis, site));
                    }
                    1 if seed % 2 == 0 => {
                        doubt.lag(now, Duration::from_millis(rng.below(1500)));
                        lags = millis;
                    }
                    2 => doubt.answered(now),
                    _ => doubt.outcome(now, site),
                }
                if doubt.is_in_doubt(now) && !was {
                    let recent = lefts.iter().filter(|(left, _)| millis - left <= 5000);
                    let gone: alloc::collections::BTreeSet<SiteId> =
                        recent.map(|(_, site)| *site).collect();
                    let is_late = seed % 2 == 0 && lags == millis;
                    assert!(gone.len() >= LEAST || is_late, "seed {seed}: without a cause");
                }
            }
            doubt.answered(at(millis));
            assert!(!doubt.is_in_doubt(at(millis) + LASTS), "seed {seed}: without an end");
        }
    }
}
