//! What this gateway may send to a target that issues no credit itself, such as a provider account.
//!
//! Three things bound it. A *pause* closes it for a time: the provider's Retry-After, or after
//! refusals without a date 1, 4, 15 s, then one real request as a probe. A *rate* keeps what is
//! still served when only the excess is refused, and bounds growth where growth is refused. A
//! *concurrency* limit shrinks at overload and grows again by use. None of this is health: a full
//! target is alive.

mod concurrency;

use crate::config::Limits;
use crate::names::ErrorClass;
use crate::rng::Rng;
use crate::time::{Duration, Time};
use concurrency::Concurrency;

/// A first undated refusal while others are served holds new work back for this long only.
/// Half a second reaches the next second of a limit that is counted by seconds.
const REFUSED_HOLD: Duration = Duration::from_millis(500);
/// Back-offs are spread by this share either way. A tenth would make seven attempts of six in an
/// unlucky minute, and bring a target back later than 16 s after it recovered.
const SPREAD: f64 = 0.05;
/// Served and sent work is counted over this window, in slots.
const WINDOW: Duration = Duration::from_secs(2);
const SLOTS: usize = 10;
/// A rate that was refused is cut to this share of what was served.
const RATE_CUT: f64 = 0.97;
/// And grows by this share a second while it is in use.
const RATE_GROWTH: f64 = 0.01;
/// Below `RECOVERED` of what was last refused it grows this much faster: a cut that was too deep,
/// taken from a second in which little was asked, is mended in seconds.
const RECOVERY: f64 = 0.06;
const RECOVERED: f64 = 0.92;
/// A refusal far below the last one lowers what is remembered of it by at most this much: it may
/// be chance, but a limit that really fell is found in a few steps.
const REFUSED_FADE: f64 = 0.8;
/// Growth of a rate within `Limits::growth` where growth itself was refused.
const BURST_GROWTH: f64 = 0.4;
/// What was served when growth was refused is cut to this share: it had grown too far already.
const BURST_CUT: f64 = 0.85;
/// A rate unused to less than this share for `FORGET` is lifted.
const RATE_IDLE: f64 = 0.5;
/// See `RATE_IDLE`.
const FORGET: Duration = Duration::from_secs(60);
/// A rate was in force if at least this share of it was served.
const IN_FORCE: f64 = 0.6;
/// Seconds of a rate that may be taken at once: after a hold they come on top of the rate, and a
/// provider that counts by seconds sees both.
const RATE_DEPTH: f64 = 0.1;
/// More where growth was refused: that is counted over seconds, and of a small bucket the lower
/// tiers, which leave half of it, would get nothing while the rate is low.
const GROWTH_DEPTH: f64 = 0.25;

/// A whole rate counts as this share of a credit: the bucket keeps to it by itself, so others come
/// first only where less than a twentieth of it is left.
const RATE_SHARE: f64 = 0.86;

/// Counts over the last two seconds.
#[derive(Clone, Debug, Default)]
pub struct Window {
    slots: [u32; SLOTS],
    at: u64,
    since: Option<Time>,
}

impl Window {
    /// Counts one now.
    pub fn add(&mut self, now: Time) {
        if self.count(now) == 0 {
            self.since = Some(now);
        }
        self.slots[(self.at % SLOTS as u64) as usize] += 1;
    }

    /// How many in the window.
    pub fn count(&mut self, now: Time) -> u32 {
        self.roll(now);
        self.slots.iter().sum()
    }

    /// How many a second, of the time since the first where that is shorter than the window.
    pub fn per_second(&mut self, now: Time) -> f64 {
        let age = self.since.map_or(WINDOW, |since| now.since(since)).min(WINDOW);
        f64::from(self.count(now)) / age.max(WINDOW / SLOTS as u32).as_secs_f64()
    }

    /// How many in the last second, or a second over the whole window if that is more: what a
    /// limit by the second let in, however short the burst was that met it or the hold before.
    fn most_per_second(&mut self, now: Time) -> f64 {
        let all = f64::from(self.count(now)) / WINDOW.as_secs_f64();
        let slots = SLOTS as u64;
        let recent = (0..slots / 2).map(|back| (self.at + slots - back) % slots);
        let recent: u32 = recent.map(|slot| self.slots[slot as usize]).sum();
        all.max(f64::from(recent) * 2.0 / WINDOW.as_secs_f64())
    }

    fn roll(&mut self, now: Time) {
        let slot = now.as_micros() / (WINDOW.as_micros() as u64 / SLOTS as u64);
        for passed in self.at + 1..=slot.min(self.at + SLOTS as u64) {
            self.slots[(passed % SLOTS as u64) as usize] = 0;
        }
        self.at = self.at.max(slot);
    }
}

#[derive(Clone, Debug)]
struct Rate {
    per_second: f64,
    level: f64,
    filled: Time,
    grows: f64,
    used: Time,
    /// The rate that was last refused; 0 where growth is what was refused.
    refused: f64,
}

/// The credit of one target.
#[derive(Clone, Debug, Default)]
pub struct Credit {
    in_flight: u32,
    concurrency: Option<Concurrency>,
    rate: Option<Rate>,
    paused_until: Time,
    /// Undated refusals in a row without a served request between them.
    refusals: u32,
    /// Attempts started before this moment belong to a refusal already answered.
    answered: Time,
    /// Over this time growth is measured; ten seconds unless the limits are divided.
    growth: Duration,
    /// Served work, fading over `growth`, and when it last faded.
    pace: f64,
    paced: Time,
    /// When a rate was last cut for its growth.
    burst_cut: Option<Time>,
    /// Reopening after a pause: how many may be in flight, doubled by each served request.
    reopening: Option<u32>,
    served: Window,
    sent: Window,
    turned_away: Window,
    peak: u32,
}

/// What a refusal did to the credit, for the facts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// It belongs to a refusal already answered.
    Nothing,
    /// Closed for this long.
    Paused(Duration),
    /// New bounds.
    Limited(Option<u32>, Option<f64>),
}

/// Whether one more attempt may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Yes.
    Yes,
    /// Not before this moment.
    At(Time),
    /// Not before something in flight ends.
    Full,
}

impl Credit {
    /// The credit of a target nothing is known of, whose growth is measured over this time.
    pub fn new(growth: Duration) -> Credit {
        Credit { growth, ..Credit::default() }
    }

    /// Whether one more attempt of the tier with this rank (0 is the highest) may be sent.
    pub fn room(&mut self, now: Time, rank: u8) -> Room {
        if now < self.paused_until {
            return Room::At(self.paused_until);
        }
        if self.reopening.is_some_and(|most| self.in_flight >= most) {
            return Room::Full;
        }
        if self.concurrency.is_some_and(|bound| !bound.has_room(self.in_flight, rank)) {
            return Room::Full;
        }
        let Some(rate) = &mut self.rate else { return Room::Yes };
        rate.fill(now);
        // The highest tier may take the last of it; lower ones leave half of what is beyond one.
        let least = if rank == 0 { 0.0 } else { (rate.depth() - 1.0) / 2.0 };
        if rate.level >= least + 1.0 - f64::EPSILON {
            return Room::Yes;
        }
        let wait = (least + 1.0 - rate.level) / rate.per_second.max(0.01);
        Room::At(now + Duration::from_secs_f64(wait.clamp(0.001, 60.0)))
    }

    /// An attempt is sent.
    pub fn take(&mut self, now: Time) {
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
        self.sent.add(now);
        if let Some(rate) = &mut self.rate {
            rate.fill(now);
            rate.level -= 1.0;
            if self.sent.per_second(now) > rate.per_second * RATE_IDLE {
                rate.used = now;
            }
        }
    }

    /// An attempt ended, however it did.
    pub fn give_back(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// An attempt was let in: its first token came, or its whole answer.
    pub fn served(&mut self, now: Time) {
        self.served.add(now);
        self.decay(now);
        self.pace += 1.0;
        self.refusals = 0;
        if let Some(concurrency) = &mut self.concurrency {
            concurrency.grow();
        }
        if let Some(most) = &mut self.reopening {
            *most = most.saturating_mul(2);
            if *most >= self.peak.max(8) {
                self.reopening = None;
            }
        }
        if self.rate.as_ref().is_some_and(|r| now.since(r.used) > FORGET) {
            self.rate = None;
        }
        if self.concurrency.is_some_and(|bound| bound.most() > 2.0 * f64::from(self.peak.max(8))) {
            self.concurrency = None;
        }
    }

    /// An attempt sent at `started` was refused for load.
    pub fn refused(&mut self, now: Time, refusal: Refusal, limits: &Limits, rng: &mut Rng) -> Cut {
        if let Some(after) = refusal.retry_after {
            let wait = after.min(limits.retry_after_max);
            return self.pause(now, wait);
        }
        self.turned_away.add(now);
        if refusal.started < self.answered {
            return Cut::Nothing;
        }
        self.answered = now;
        let step = self.refusals as usize;
        self.refusals += 1;
        let was_serving = self.served.count(now) > 0;
        if refusal.class == ErrorClass::ThrottleBurst && was_serving {
            self.refusals = 0;
            return self.bound_growth(now, limits);
        }
        if step > 0 || !was_serving {
            let wait = limits.back_off[step.min(limits.back_off.len() - 1)];
            let spread = rng.between(wait.mul_f64(1.0 - SPREAD), wait.mul_f64(1.0 + SPREAD));
            return self.pause(now, spread);
        }
        if refusal.class == ErrorClass::Overload {
            // Room comes again as what is in flight ends; no hold is needed.
            self.concurrency = Some(Concurrency::refused(self.in_flight, refusal.is_told));
        } else {
            self.paused_until = now + REFUSED_HOLD;
            self.bound_rate(now, RATE_CUT, RATE_GROWTH);
        }
        self.bounds()
    }

    /// Nothing before `wait` is over, then one request as a probe.
    pub fn pause(&mut self, now: Time, wait: Duration) -> Cut {
        self.paused_until = self.paused_until.max(now + wait);
        self.reopening = Some(1);
        self.answered = now;
        Cut::Paused(wait)
    }

    /// When the pause ends, if there is one.
    pub fn paused_until(&self, now: Time) -> Option<Time> {
        (now < self.paused_until).then_some(self.paused_until)
    }

    /// Attempts in flight are counted anew.
    pub fn forget_in_flight(&mut self) {
        self.in_flight = 0;
    }

    /// Attempts in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Share of the credit in use; 0 where nothing bounds it.
    pub fn use_share(&mut self, now: Time) -> f64 {
        let mut share = 0.0f64;
        if let Some(bound) = self.concurrency {
            share = share.max(f64::from(self.in_flight) / bound.most());
        }
        if let Some(rate) = &self.rate {
            share = share.max(self.sent.per_second(now) / rate.per_second.max(0.1) * RATE_SHARE);
        }
        share
    }

    /// Requests a second it will take, if that is known to be bounded.
    pub fn supply(&mut self, now: Time, usual: Duration) -> Option<f64> {
        if now < self.paused_until && self.reopening.is_some() {
            return Some(0.0);
        }
        let by_rate = self.rate.as_ref().map(|r| r.per_second);
        let usual = usual.as_secs_f64().max(0.001);
        let by_concurrency = self.concurrency.map(|bound| bound.most() / usual);
        match (by_rate, by_concurrency) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn decay(&mut self, now: Time) {
        let gone = now.since(self.paced).as_secs_f64();
        self.pace *= (1.0 - gone / self.growth.as_secs_f64().max(0.1)).max(0.0);
        self.paced = now;
    }

    fn bound_rate(&mut self, now: Time, cut: f64, grows: f64) {
        // What was sent and not refused, since what was let in just now has no first token yet.
        let let_in = self.sent.most_per_second(now) - self.turned_away.most_per_second(now);
        let served = let_in.max(self.served.most_per_second(now));
        // A rate is never used to its last tenth (others come first at a hot target), so where it
        // was in force it is the rate that was too high, not what was served by it.
        let in_force = self.rate.as_ref().map(|rate| rate.per_second);
        let base = in_force.filter(|rate| served >= rate * IN_FORCE).unwrap_or(served);
        let per_second = (base * cut).max(0.5);
        let before = self.rate.as_ref().map_or(0.0, |rate| rate.refused * REFUSED_FADE);
        let refused = base.max(before);
        self.rate = Some(Rate { per_second, level: 0.0, filled: now, grows, used: now, refused });
    }

    fn bound_growth(&mut self, now: Time, limits: &Limits) -> Cut {
        self.paused_until = now + REFUSED_HOLD;
        // A provider that counts growth over ten seconds goes on refusing for a while after the
        // cut; to cut again for each of these refusals would leave nothing.
        let is_fresh = self.burst_cut.is_none_or(|at| now.since(at) >= limits.growth / 2);
        if !is_fresh {
            return Cut::Nothing;
        }
        self.burst_cut = Some(now);
        let growth = BURST_GROWTH / limits.growth.as_secs_f64().max(0.1);
        // What was usual over the time that the provider compares with. What was served in the
        // last second says less: holds and refusals have emptied it.
        self.decay(now);
        let usual = self.pace / self.growth.as_secs_f64().max(0.1);
        let in_force = self.rate.as_ref().map(|rate| rate.per_second * BURST_CUT);
        let per_second = in_force.map_or(usual, |rate| rate.min(usual)).max(0.5);
        self.rate = Some(Rate {
            per_second,
            level: 0.0,
            filled: now,
            grows: growth * 0.8,
            used: now,
            refused: 0.0,
        });
        self.bounds()
    }

    fn bounds(&self) -> Cut {
        let concurrency = self.concurrency.map(|bound| bound.most() as u32);
        Cut::Limited(concurrency, self.rate.as_ref().map(|r| r.per_second))
    }
}

/// A refusal for load.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// When the refused attempt was sent.
    pub started: Time,
    /// Throttle or overload.
    pub class: ErrorClass,
    /// The provider's own date.
    pub retry_after: Option<Duration>,
    /// Whether the target said so; else it was only too slow.
    pub is_told: bool,
}

impl Rate {
    fn fill(&mut self, now: Time) {
        let gone = now.since(self.filled).as_secs_f64();
        self.filled = now;
        if now.since(self.used) < WINDOW {
            let is_low = self.per_second < self.refused * RECOVERED;
            let grows = if is_low { RECOVERY } else { self.grows };
            self.per_second *= 1.0 + grows * gone;
        }
        self.level = (self.level + self.per_second * gone).min(self.depth());
    }

    fn depth(&self) -> f64 {
        let seconds = if self.refused > 0.0 { RATE_DEPTH } else { GROWTH_DEPTH };
        (self.per_second * seconds).max(2.0)
    }
}

/// How much of `supply` each tier gets: its floor first, then the highest first.
pub fn tiers(demand: &[f64], floors: &[f64], supply: f64, granted: &mut [f64]) {
    let mut left = supply;
    for ((grant, want), floor) in granted.iter_mut().zip(demand).zip(floors) {
        *grant = want.min(floor * supply);
        left -= *grant;
    }
    for (grant, want) in granted.iter_mut().zip(demand) {
        let more = (want - *grant).min(left.max(0.0));
        *grant += more;
        left -= more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload(started: Time) -> Refusal {
        Refusal { started, class: ErrorClass::Overload, retry_after: None, is_told: true }
    }

    fn throttle(started: Time) -> Refusal {
        Refusal { started, class: ErrorClass::ThrottleAccount, retry_after: None, is_told: true }
    }

    #[test]
    fn a_target_that_serves_nothing_is_asked_six_times_in_its_first_minute() {
        let limits = Limits::default();
        let mut rng = Rng::new(1);
        let mut credit = Credit::new(Limits::default().growth);
        let mut asked = 0;
        for n in 0..600u64 {
            let now = Time::from_micros(1_000_000 + n * 100_000);
            if credit.room(now, 0) == Room::Yes {
                credit.take(now);
                asked += 1;
                credit.refused(now, overload(now), &limits, &mut rng);
                credit.give_back();
            }
        }
        assert!((4..=6).contains(&asked), "{asked}");
    }

    #[test]
    fn an_undated_throttle_keeps_what_is_still_served() {
        let limits = Limits::default();
        let mut rng = Rng::new(7);
        let mut credit = Credit::new(Limits::default().growth);
        // The provider lets 30 in each second; 50 a second are offered for a minute.
        let (mut second, mut let_in, mut sent, mut refused) = (0, 0, 0, 0);
        for n in 0..3000u64 {
            let now = Time::from_micros(5_000_000 + n * 20_000);
            if now.as_micros() / 1_000_000 != second {
                second = now.as_micros() / 1_000_000;
                let_in = 0;
            }
            if credit.room(now, 0) != Room::Yes {
                continue;
            }
            credit.take(now);
            let counts = n > 100;
            sent += u32::from(counts);
            if let_in < 30 {
                let_in += 1;
                credit.served(now);
            } else {
                refused += u32::from(counts);
                credit.refused(now, throttle(now), &limits, &mut rng);
            }
            credit.give_back();
        }
        let share = f64::from(sent - refused) / 58.0;
        assert!(f64::from(refused) <= 0.1 * f64::from(sent), "{refused} of {sent}");
        assert!((23.0..=30.0).contains(&share), "{share} a second");
    }

    #[test]
    fn growth_that_was_refused_stays_below_forty_percent_in_ten_seconds() {
        let limits = Limits::default();
        let mut rng = Rng::new(7);
        let mut credit = Credit::new(Limits::default().growth);
        let mut now = Time::from_micros(9_000_000);
        for _ in 0..100 {
            credit.take(now);
            credit.served(now);
            credit.give_back();
            now = now + Duration::from_millis(20);
        }
        let burst = Refusal {
            started: now,
            class: ErrorClass::ThrottleBurst,
            retry_after: None,
            is_told: true,
        };
        credit.refused(now, burst, &limits, &mut rng);
        let mut counts = [0u32; 4];
        for n in 0..4000 {
            let at = now + Duration::from_millis(n * 10);
            if credit.room(at, 0) == Room::Yes {
                credit.take(at);
                credit.served(at);
                credit.give_back();
                counts[(n / 1000) as usize] += 1;
            }
        }
        for pair in counts.windows(2) {
            assert!(f64::from(pair[1]) <= 1.45 * f64::from(pair[0]), "{counts:?}");
        }
        assert!(counts[3] > counts[0] * 3 / 2, "{counts:?}");
    }

    #[test]
    fn floors_come_first_and_the_rest_goes_from_the_top() {
        let mut granted = [0.0; 3];
        tiers(&[80.0, 50.0, 50.0], &[0.4, 0.25, 0.05], 100.0, &mut granted);
        assert_eq!(granted, [70.0, 25.0, 5.0]);
        tiers(&[10.0, 10.0, 10.0], &[0.4, 0.25, 0.05], 100.0, &mut granted);
        assert_eq!(granted, [10.0, 10.0, 10.0]);
    }
}
