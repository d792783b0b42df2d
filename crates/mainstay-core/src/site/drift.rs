//! Whether a gateway's monotonic clock and this one's run alike. Leases allow for two hundredths.
//!
//! Each report says how long ago its sender sent the one before; nonces tell how many were lost.
//! Over some blocks of time the fastest message of each is compared: delays vary, the fastest
//! little.

use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// The fastest message of so long counts.
const BLOCK: Duration = Duration::from_secs(10);
/// Blocks between the two compared, at most: a minute.
const BLOCKS_MAX: usize = 7;
/// And at least: then a strong drift is seen in half a minute.
const BLOCKS_MIN: usize = 3;
/// Fastest messages may differ by this much, in microseconds, with no drift at all.
const JITTER: i64 = 100_000;
/// Above this, in thousandths, an operator hears of it.
const ALARM: u32 = 10;
/// Above this the lease rules do not hold, and nothing is granted.
const APART: u32 = 20;
/// A gap of more reports than this is another process at the other end: two minutes of them.
const GAP_MAX: u64 = 240;

/// How far two clocks run apart changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drifted {
    /// Thousandths.
    pub thousandths: u32,
    /// Too much for leases.
    pub is_apart: bool,
}

/// What is known of one gateway's clock.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    nonce: u64,
    /// The sender's clock since the first report, in microseconds.
    theirs: i64,
    started: Option<Time>,
    block: Option<(Time, i64)>,
    /// Least offset of each complete block.
    blocks: VecDeque<i64>,
    is_told: bool,
    is_apart: bool,
}

impl Drift {
    /// Whether leases cannot be trusted between the two clocks.
    pub fn is_apart(&self) -> bool {
        self.is_apart
    }

    /// A report came; tells when the answer changes.
    pub fn hear(&mut self, now: Time, nonce: u64, elapsed: Duration) -> Option<Drifted> {
        let gap = nonce.saturating_sub(self.nonce);
        if gap == 0 && self.nonce - nonce < GAP_MAX {
            return None;
        }
        if self.started.is_none() || gap == 0 || gap > GAP_MAX {
            *self = Drift { is_told: self.is_told, is_apart: self.is_apart, ..Drift::default() };
            self.started = Some(now);
            self.nonce = nonce;
            return None;
        }
        self.nonce = nonce;
        let passed = i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX);
        self.theirs = self.theirs.saturating_add(passed.saturating_mul(gap as i64));
        let ours = now.since(self.started?).as_micros() as i64;
        let offset = ours.saturating_sub(self.theirs);
        let (since, least) = self.block.get_or_insert((now, offset));
        *least = offset.min(*least);
        if now.since(*since) < BLOCK {
            return None;
        }
        let least = *least;
        self.block = None;
        self.blocks.push_back(least);
        if self.blocks.len() > BLOCKS_MAX {
            self.blocks.pop_front();
        }
        self.judge()
    }

    fn judge(&mut self) -> Option<Drifted> {
        let (first, last) = (*self.blocks.front()?, *self.blocks.back()?);
        if self.blocks.len() < BLOCKS_MIN {
            return None;
        }
        let span = BLOCK.as_micros() as i64 * (self.blocks.len() as i64 - 1);
        let shift = last.saturating_sub(first).saturating_abs().saturating_sub(JITTER).max(0);
        let thousandths = u32::try_from(shift.saturating_mul(1000) / span).unwrap_or(u32::MAX);
        let (is_told, is_apart) = (thousandths > ALARM, thousandths > APART);
        let changed = (is_told, is_apart) != (self.is_told, self.is_apart);
        (self.is_told, self.is_apart) = (is_told, is_apart);
        changed.then_some(Drifted { thousandths, is_apart })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// Seconds until a drift of so many thousandths is noticed, in five minutes with a third of all
    /// reports lost and delays up to 80 ms.
    fn noticed(drift: i64) -> Option<(u64, bool)> {
        let (mut drifts, mut rng) = (Drift::default(), Rng::new(drift as u64 + 9));
        for n in 1..600u64 {
            let sent = n * 500_000 * 1000 / (1000 + drift) as u64;
            if rng.below(3) == 0 {
                continue;
            }
            let now = Time::from_micros(sent + 20_000 + rng.below(60_000));
            if let Some(found) = drifts.hear(now, n, Duration::from_millis(500)) {
                return Some((now.as_micros() / 1_000_000, found.is_apart));
            }
        }
        None
    }

    #[test]
    fn a_drift_of_five_hundredths_is_noticed_within_a_minute_and_small_ones_never() {
        let (after, is_apart) = noticed(50).unwrap_or((999, false));
        assert!(after <= 60 && is_apart, "{after}");
        assert!(noticed(15).is_some_and(|(_, is_apart)| !is_apart), "an alarm only");
        assert_eq!(noticed(5), None);
    }

    #[test]
    fn a_gateway_that_restarts_is_measured_anew() {
        let mut drift = Drift::default();
        for n in 1000..1100u64 {
            drift.hear(Time::from_micros(n * 500_000), n, Duration::from_millis(500));
        }
        for n in 1..200u64 {
            let now = Time::from_micros((1200 + n) * 500_000);
            assert_eq!(drift.hear(now, n, Duration::from_millis(500)), None);
        }
        assert!(!drift.is_apart());
    }
}
