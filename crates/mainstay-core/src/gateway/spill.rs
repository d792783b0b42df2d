//! How much of a site's own sessions go elsewhere because its credit is short.
//!
//! The share moved is the sessions whose hash is below it: the same ones move each time, and the
//! prefix caches of all others stay of use. It is judged by what those sessions ask for, not by
//! what was placed, so that moving some does not hide that there are too many.

use crate::cost::{CostRate, CostUnits};
use crate::gateway::held::is_over;
use crate::time::Duration;

/// The whole, for shares.
pub const WHOLE: u32 = 10_000;
/// More of the credit than this, in hundredths, and more sessions move away;
const HOT: u64 = 85;
/// less than this, and some come back.
const COLD: u64 = 70;
/// What a step aims at.
const AIM: u64 = 78;
/// Most that the share may change in a second: caches must fill where sessions go.
const PACE: u32 = WHOLE / 10;
/// The demand of sessions is averaged over about so many steps: of a few requests in half a
/// second one more or less says nothing. So is what is held, which follows demand: compared with
/// the mean of demand it would be short after each quiet half second.
const SMOOTH: u64 = 4;

/// Those that stay where all should leave: their answers tell when it is well again. As many as are
/// sent to a site that is not up.
const TRICKLE: u32 = WHOLE / 100;

/// How far the share may go in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A tenth of the whole in a second, either way.
    Usual,
    /// All the way: the verdict changed.
    AtOnce,
    /// Down alone, at the usual pace. Every equal is full, and what moves from one full site to
    /// another pushes out what is at home there. What moved there before may still come back: it
    /// makes room.
    Return,
}

/// The spill of one target.
#[derive(Clone, Debug, Default)]
pub struct Spill {
    moved: u32,
    wanted: CostUnits,
    demand: CostRate,
    held: CostRate,
    told: u32,
}

impl Spill {
    /// A session that is at home here asks for so much.
    pub fn wants(&mut self, cost: CostUnits) {
        self.wanted += cost;
    }

    /// Whether the session with this hash stays.
    pub fn keeps(&self, session: u64) -> bool {
        let place = (u128::from(session) * u128::from(WHOLE)) >> 64;
        place as u32 >= self.moved
    }

    /// Whether what is held leaves room beside what the sessions that stay ask for.
    pub fn has_room(&self) -> bool {
        self.stays().0.saturating_mul(100) <= self.held.0.saturating_mul(HOT)
    }

    /// The share moved, of `WHOLE`.
    pub fn moved(&self) -> u32 {
        self.moved
    }

    /// Takes in what was asked for over `elapsed`, and moves nobody: where nothing is held there is
    /// nothing to compare with, and what was asked for meanwhile must not count as one moment's.
    pub fn count(&mut self, elapsed: Duration) {
        let micros = (elapsed.as_micros() as u64).max(1);
        let raw = self.wanted.0.saturating_mul(1_000_000) / micros;
        self.wanted = CostUnits::ZERO;
        // The mean of a flood tells of it for many seconds, and all would have moved by then.
        let is_over = is_over(self.demand, CostRate(raw), elapsed);
        let before = if is_over { CostRate::ZERO } else { self.demand };
        self.demand = smooth(before, CostRate(raw));
        self.held = CostRate::ZERO;
    }

    /// All but a trickle go elsewhere, at once. Tells it as `step` does.
    pub fn leave(&mut self, elapsed: Duration) -> Option<u8> {
        self.count(elapsed);
        self.moved = WHOLE - TRICKLE;
        self.news()
    }

    /// Looks at what was asked for over `elapsed` against what is held. Both count in each step,
    /// whatever its pace: a mean that began anew whenever equals are not full any more would be
    /// one half-second. Tells a change of a tenth of the whole, in hundredths.
    pub fn step(&mut self, elapsed: Duration, held: CostRate, pace: Pace) -> Option<u8> {
        let before = if pace == Pace::AtOnce { CostRate::ZERO } else { self.held };
        self.count(elapsed);
        self.held = smooth(before, held);
        let micros = elapsed.as_micros() as u64;
        let most = (u64::from(PACE) * micros.min(1_000_000) / 1_000_000) as u32;
        self.moved = match (self.aim(), pace) {
            (Some(aim), Pace::AtOnce) => aim,
            (Some(aim), Pace::Usual) if aim > self.moved => aim.min(self.moved + most),
            (Some(aim), _) if aim < self.moved => aim.max(self.moved.saturating_sub(most)),
            (Some(_) | None, _) => self.moved,
        };
        self.news()
    }

    /// The share moved, in hundredths, if it changed by a tenth of the whole.
    fn news(&mut self) -> Option<u8> {
        let tenth = WHOLE / 10;
        let is_news = self.moved.abs_diff(self.told) >= tenth || (self.moved == 0 && self.told > 0);
        is_news.then(|| {
            self.told = self.moved / tenth * tenth;
            (self.moved / (WHOLE / 100)) as u8
        })
    }

    /// What the sessions that stay ask for.
    fn stays(&self) -> CostRate {
        let whole = u64::from(WHOLE);
        CostRate(self.demand.0.saturating_mul(whole - u64::from(self.moved)) / whole)
    }

    /// The share that would bring the use of what is held to its aim, where it is not well now.
    fn aim(&self) -> Option<u32> {
        let whole = u64::from(WHOLE);
        let is_cold = self.stays().0.saturating_mul(100) < self.held.0.saturating_mul(COLD);
        if self.has_room() && !is_cold {
            return None;
        }
        let kept = (self.held.0.saturating_mul(AIM) / 100).saturating_mul(whole);
        let share = kept / self.demand.0.max(1);
        Some(WHOLE - share.min(whole) as u32)
    }
}

/// The mean so far with one more value; the first one counts as it is.
fn smooth(mean: CostRate, value: CostRate) -> CostRate {
    let before = if mean == CostRate::ZERO { value } else { mean };
    CostRate(before.0.saturating_mul(SMOOTH - 1).saturating_add(value.0) / SMOOTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const STEP: Duration = Duration::from_millis(500);

    fn after(steps: u32, wanted: u64, held: u64, spill: &mut Spill) -> u32 {
        for _ in 0..steps {
            spill.wants(CostUnits(wanted / 2));
            spill.step(STEP, CostRate(held), Pace::Usual);
        }
        spill.moved()
    }

    #[test]
    fn an_hour_without_credit_does_not_count_as_one_moment() {
        let (mut spill, half) = (Spill::default(), Duration::from_millis(500));
        for _ in 0..7200 {
            spill.wants(CostUnits::whole(5));
            spill.count(half);
        }
        spill.wants(CostUnits::whole(5));
        spill.step(half, CostRate::whole(13), Pace::Usual);
        assert_eq!(spill.moved(), 0, "ten a second of thirteen is neither hot nor cold");
    }

    #[test]
    fn the_share_moved_follows_what_is_held_and_rests_in_between() {
        let mut spill = Spill::default();
        assert_eq!(after(20, 80_000, 100_000, &mut spill), 0);
        assert_eq!(after(1, 100_000, 50_000, &mut spill), WHOLE / 20, "a tenth in a second");
        let moved = after(40, 100_000, 50_000, &mut spill);
        assert!((5_500..=6_300).contains(&moved), "{moved}");
        assert_eq!(after(20, 100_000, 50_000, &mut spill), moved, "at rest");
        assert_eq!(after(60, 100_000, 200_000, &mut spill), 0);
    }

    #[test]
    fn a_flood_that_is_over_counts_no_more() {
        let mut spill = Spill::default();
        assert_eq!(after(20, 72_000, 100_000, &mut spill), 0);
        assert_eq!(after(2, 50_000_000, 100_000, &mut spill), WHOLE / 10);
        assert_eq!(after(2, 72_000, 100_000, &mut spill), 0, "of a mean it would be seconds");
    }

    #[test]
    fn half_a_second_with_little_credit_moves_nobody() {
        let mut spill = Spill::default();
        assert_eq!(after(20, 72_000, 100_000, &mut spill), 0);
        assert_eq!(after(1, 72_000, 60_000, &mut spill), 0);
        assert!(spill.has_room());
        assert!(after(4, 72_000, 60_000, &mut spill) > 0);
    }

    #[test]
    fn where_every_equal_is_full_nobody_leaves_and_who_left_comes_home() {
        let (demand, mut spill) = (100_000, Spill::default());
        let full = |steps: u32, held: u64, spill: &mut Spill| {
            for _ in 0..steps {
                spill.wants(CostUnits(demand / 2));
                spill.step(STEP, CostRate(held), Pace::Return);
            }
            spill.moved()
        };
        assert_eq!(full(20, 50_000, &mut spill), 0);
        let moved = after(40, demand, 50_000, &mut spill);
        assert_eq!(full(20, 30_000, &mut spill), moved, "no more");
        assert_eq!(full(60, 200_000, &mut spill), 0, "they make room where they were");
    }

    #[test]
    fn a_moment_in_which_every_equal_is_full_leaves_the_means_as_they_are() {
        let mut spill = Spill::default();
        assert_eq!(after(20, 72_000, 100_000, &mut spill), 0);
        spill.wants(CostUnits(36_000));
        spill.step(STEP, CostRate(100_000), Pace::Return);
        assert_eq!(after(1, 72_000, 60_000, &mut spill), 0, "one half-second");
    }

    #[test]
    fn a_session_that_was_moved_stays_moved_while_more_are() {
        let sessions: [u64; 64] = core::array::from_fn(|n| (n as u64) << 58);
        let mut before: usize = 64;
        let mut spill = Spill::default();
        for _ in 0..20 {
            after(1, 100_000, 20_000, &mut spill);
            let keeps: usize = sessions.iter().filter(|s| spill.keeps(**s)).count();
            let first = sessions.iter().position(|s| spill.keeps(*s));
            assert_eq!(first, Some(64 - keeps), "the lowest hashes moved");
            assert!(keeps <= before);
            before = keeps;
        }
    }

    #[test]
    fn who_left_at_once_comes_back_by_and_by() {
        let mut spill = Spill::default();
        after(20, 70_000, 100_000, &mut spill);
        assert_eq!((spill.leave(STEP), spill.moved()), (Some(99), WHOLE - TRICKLE));
        assert_eq!(spill.leave(STEP), None, "told once");
        assert!(spill.keeps(u64::MAX) && !spill.keeps(u64::MAX / 100 * 98));
        let back = after(10, 70_000, 100_000, &mut spill);
        assert_eq!(back, WHOLE / 2 - TRICKLE, "a tenth in a second");
        assert_eq!(after(10, 70_000, 100_000, &mut spill), 0);
    }

    #[test]
    fn a_verdict_moves_the_share_at_once() {
        let mut spill = Spill::default();
        spill.wants(CostUnits(50_000));
        let told = spill.step(STEP, CostRate(10_000), Pace::AtOnce);
        assert!(spill.moved() > 9_000);
        assert_eq!(told, Some((spill.moved() / 100) as u8));
    }

    #[test]
    fn whatever_is_asked_and_held_the_share_stays_a_share_and_keeps_its_pace() {
        for seed in 0..200 {
            let (mut rng, mut spill) = (Rng::new(seed), Spill::default());
            for _ in 0..500 {
                let (much, more) = (rng.below(60), rng.below(60));
                spill.wants(CostUnits(rng.below(1 << much)));
                let held = CostRate(rng.below(1 << more));
                let elapsed = Duration::from_micros(rng.below(3_000_000));
                let before = spill.moved();
                let pace = match rng.below(20) {
                    0 => Pace::AtOnce,
                    1..8 => Pace::Return,
                    _ => Pace::Usual,
                };
                let told = spill.step(elapsed, held, pace);
                assert!(spill.moved() <= WHOLE, "seed {seed}");
                let most = elapsed.as_secs_f64().min(1.0) * f64::from(PACE) + 1.0;
                let change = f64::from(spill.moved().abs_diff(before));
                let is_slow = pace == Pace::AtOnce || change <= most;
                assert!(is_slow, "seed {seed}: {change} in {elapsed:?}");
                assert!(pace != Pace::Return || spill.moved() <= before, "seed {seed}");
                assert!(told.is_none_or(|percent| percent <= 100), "seed {seed}");
            }
        }
    }
}
