//! Watches the progress of one attempt, counted in tokens.
//!
//! Bytes prove life, not progress: comments, pings and empty deltas keep a connection but do not
//! extend patience. While the client is the slow one, the upstream is not blamed.

use crate::fact::Why;
use crate::gateway::latency::{Histogram, Patience};
use crate::names::{ErrorClass, Failure, Scope};
use crate::time::{Duration, Time};

/// Slots of the window over which a drip is judged.
const SLOTS: u32 = 10;

/// The watch over one attempt.
#[derive(Clone, Debug)]
pub struct Watch {
    patience: Patience,
    started: Time,
    has_bytes: bool,
    /// Whether the site said that it is at work.
    is_beating: bool,
    /// Whether something came since the last token.
    lives: bool,
    first_token: Option<Time>,
    /// The last progress, moved on by time the client took.
    progress: Time,
    /// When the last token really came.
    last_token: Time,
    blocked: Option<Time>,
    tokens: u32,
    gaps: Histogram,
    slots: [u32; SLOTS as usize],
    slot: u64,
    /// Since when tokens have been counted without a pause for the client.
    counted_since: Time,
    /// When it was last checked for nothing.
    checked: Time,
}

impl Watch {
    /// An attempt is sent now.
    pub fn new(now: Time, patience: Patience) -> Watch {
        Watch {
            patience,
            started: now,
            has_bytes: false,
            is_beating: false,
            lives: false,
            first_token: None,
            progress: now,
            last_token: now,
            blocked: None,
            tokens: 0,
            gaps: Histogram::default(),
            slots: [0; SLOTS as usize],
            slot: 0,
            counted_since: now,
            checked: now,
        }
    }

    /// Something came that is not a token.
    pub fn byte(&mut self) {
        self.has_bytes = true;
        self.lives = true;
    }

    /// A site or worker of ours says that it took this attempt in or is at work on it: as good
    /// as a token.
    pub fn beat(&mut self, now: Time) {
        self.has_bytes = true;
        self.is_beating = true;
        self.progress = now;
    }

    /// Tokens came. Returns how long the first took, if these hold the first.
    pub fn tokens(&mut self, now: Time, count: u32) -> Option<Duration> {
        self.has_bytes = true;
        if self.first_token.is_some() {
            self.gaps.add(now.since(self.last_token).as_secs_f64());
        }
        self.tokens = self.tokens.saturating_add(count);
        self.lives = false;
        self.progress = now;
        self.last_token = now;
        self.roll(now);
        self.slots[(self.slot % u64::from(SLOTS)) as usize] += count;
        if self.first_token.is_some() {
            return None;
        }
        self.first_token = Some(now);
        self.counted_since = now;
        Some(now.since(self.started))
    }

    /// The client does not take what there is: from now on it is the slow one.
    pub fn client_blocks(&mut self, now: Time) {
        self.blocked.get_or_insert(now);
    }

    /// The client takes again.
    pub fn client_takes(&mut self, now: Time) {
        if let Some(since) = self.blocked.take() {
            self.progress = self.progress + now.since(since);
            self.counted_since = now;
        }
    }

    /// When to check again.
    pub fn deadline(&self) -> Option<Time> {
        if self.blocked.is_some() {
            return None;
        }
        let Some(first) = self.first_token else {
            return Some(self.progress + self.first_token());
        };
        let drip = self.counted_since.max(first) + self.patience.drip;
        let stall = self.progress + self.patience.stall;
        // Past its first window a drip is judged slot by slot.
        let slot = self.patience.drip / SLOTS;
        let judged = self.last_token.max(drip).max(self.checked) + slot;
        Some(stall.min(judged))
    }

    /// Whether patience is over, and why.
    pub fn check(&mut self, now: Time) -> Option<Why> {
        if self.blocked.is_some() {
            return None;
        }
        if self.first_token.is_none() {
            let is_over = now.since(self.progress) >= self.first_token();
            // Of a site that beats, silence is the end of its beats.
            let why = match (self.is_beating, self.has_bytes) {
                (true, _) => Why::Stalled,
                (false, true) => Why::NoFirstToken,
                (false, false) => Why::Silent,
            };
            return is_over.then_some(why);
        }
        if now.since(self.progress) >= self.patience.stall {
            return Some(Why::Stalled);
        }
        if now.since(self.counted_since) < self.patience.drip {
            return None;
        }
        self.checked = now;
        self.roll(now);
        let recent: u32 = self.slots.iter().sum();
        let least = self.patience.drip_rate * self.patience.drip.as_secs_f64();
        (f64::from(recent) < least).then_some(Why::Dripped)
    }

    /// What running out of patience means: without a byte the target is silent, as good as dead;
    /// where something still comes, it is alive and too slow.
    pub fn failure(&self, why: Why) -> Failure {
        let is_silent = match why {
            Why::Silent => true,
            Why::Stalled => !self.lives,
            Why::NoFirstToken | Why::Dripped => false,
            Why::Reply | Why::Cut | Why::Empty | Why::Mismatch => false,
        };
        let dead = ErrorClass::Dead(Scope::Site);
        Failure::ours(if is_silent { dead } else { ErrorClass::Overload }, "no progress")
    }

    /// Tokens so far.
    pub fn count(&self) -> u32 {
        self.tokens
    }

    /// How long it has been quiet since the last token, or since sending.
    pub fn quiet(&self, now: Time) -> Duration {
        now.since(self.progress)
    }

    /// Gaps between tokens.
    pub fn gaps(&self) -> &Histogram {
        &self.gaps
    }

    /// Tokens a second, once there are enough to say.
    pub fn rate(&self) -> Option<f64> {
        let first = self.first_token?;
        let took = self.last_token.since(first).as_secs_f64();
        (self.tokens >= 16 && took > 0.0).then(|| f64::from(self.tokens - 1) / took)
    }

    /// How long to wait for a first token, or for the next beat where there was one.
    fn first_token(&self) -> Duration {
        match self.is_beating {
            true => self.patience.first_token.max(self.patience.stall),
            false => self.patience.first_token,
        }
    }

    fn roll(&mut self, now: Time) {
        let length = (self.patience.drip.as_micros() as u64 / u64::from(SLOTS)).max(1);
        let slot = now.as_micros() / length;
        for passed in self.slot + 1..=slot.min(self.slot + u64::from(SLOTS)) {
            self.slots[(passed % u64::from(SLOTS)) as usize] = 0;
        }
        self.slot = self.slot.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::gateway::latency::Latency;
    use crate::rng::Rng;

    fn patience() -> Patience {
        Latency::default().patience(&Limits::default())
    }

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn silence_and_comments_end_at_the_same_limit_by_different_names() {
        let mut silent = Watch::new(at(0), patience());
        assert_eq!(silent.deadline(), Some(at(10_000)));
        assert_eq!(silent.check(at(9_999)), None);
        assert_eq!(silent.check(at(10_000)), Some(Why::Silent));
        let mut talking = Watch::new(at(0), patience());
        (1..10).for_each(|_| talking.byte());
        assert_eq!(talking.check(at(10_000)), Some(Why::NoFirstToken));
    }

    #[test]
    fn one_token_a_second_is_a_drip_after_ten_seconds() {
        let mut watch = Watch::new(at(0), patience());
        let mut verdict = None;
        for second in 0..30 {
            watch.tokens(at(second * 1000), 1);
            verdict = watch.check(at(second * 1000 + 500));
            if verdict.is_some() {
                assert!((10..=12).contains(&second), "{second}");
                break;
            }
        }
        assert_eq!(verdict, Some(Why::Dripped));
    }

    #[test]
    fn a_check_that_finds_nothing_is_followed_by_a_later_one() {
        let mut watch = Watch::new(at(0), patience());
        for n in 0..110 {
            watch.tokens(at(n * 100), 1);
        }
        let mut now = at(11_000);
        for _ in 0..20 {
            let Some(next) = watch.deadline() else { break };
            assert!(next > now, "asked again at {now:?} without a pause");
            now = next;
            if watch.check(now).is_some() {
                return;
            }
        }
        panic!("a stall must be found within twenty looks");
    }

    #[test]
    fn a_slow_client_is_not_held_against_the_upstream() {
        let mut watch = Watch::new(at(0), patience());
        watch.tokens(at(100), 1);
        watch.client_blocks(at(200));
        assert_eq!(watch.check(at(60_000)), None);
        assert_eq!(watch.deadline(), None);
        watch.client_takes(at(60_000));
        assert_eq!(watch.check(at(61_000)), None);
        assert_eq!(watch.check(at(70_000)), Some(Why::Stalled));
    }

    #[test]
    fn whatever_comes_patience_ends_by_its_limits_and_never_while_the_client_is_slow() {
        for seed in 0..300 {
            let (mut rng, mut millis) = (Rng::new(seed), 0);
            let mut watch = Watch::new(at(0), patience());
            let (mut count, mut is_blocked) = (0, false);
            for _ in 0..200 {
                let short = rng.below(12);
                millis += rng.below(1 << short);
                let now = at(millis);
                match rng.below(6) {
                    0 => watch.byte(),
                    1 => watch.beat(now),
                    2 | 3 => {
                        let some = 1 + rng.below(9) as u32;
                        count += some;
                        watch.tokens(now, some);
                    }
                    4 => {
                        watch.client_blocks(now);
                        is_blocked = true;
                    }
                    _ => {
                        watch.client_takes(now);
                        is_blocked = false;
                    }
                }
                assert_eq!(watch.count(), count, "seed {seed}");
                let (due, quiet) = (watch.deadline(), watch.quiet(now));
                let found = watch.check(now);
                assert_eq!(due.is_none(), is_blocked, "seed {seed}");
                let least = patience().stall.min(patience().first_token);
                let is_over = match found {
                    Some(Why::Dripped) => count > 0,
                    Some(_) => quiet >= least,
                    None => true,
                };
                assert!(is_over && !(is_blocked && found.is_some()), "seed {seed}: {found:?}");
                if found.is_some() {
                    // Given up when it was due, and not before.
                    assert!(due.is_some_and(|due| due <= now), "seed {seed}: {found:?}");
                    break;
                }
                let next = watch.deadline();
                assert!(next.is_none_or(|next| next > now), "seed {seed}: due at once again");
            }
        }
    }
}
