//! How much a peer may say: a token bucket over frames and bytes.

use std::time::Duration;
use tokio::time::Instant;

/// Frames of this size cost as much to carry as one frame costs to handle.
const BYTES_EACH: u64 = 1024;

/// What may be said in a second, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    /// Frames a second; a KiB counts as one more.
    pub rate: u64,
    /// As many at once.
    pub burst: u64,
}

#[derive(Debug)]
pub(super) struct Bucket {
    allowance: Allowance,
    /// In thousandths of a frame.
    level: u64,
    filled: Instant,
}

const THOUSANDTHS: u64 = 1000;

impl Bucket {
    pub(super) fn new(allowance: Allowance) -> Bucket {
        let level = allowance.burst.saturating_mul(THOUSANDTHS);
        Bucket { allowance, level, filled: Instant::now() }
    }

    /// Takes what a frame of `bytes` costs; false if it is not there.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.fill();
        let size = u64::try_from(bytes).unwrap_or(u64::MAX) / BYTES_EACH;
        let cost = size.saturating_add(1).saturating_mul(THOUSANDTHS);
        match self.level.checked_sub(cost) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self) {
        // Whole milliseconds, so that nothing is lost by rounding when frames come quickly.
        let whole = self.filled.elapsed().as_millis();
        let millis = u64::try_from(whole).unwrap_or(u64::MAX);
        self.filled += Duration::from_millis(millis);
        let most = self.allowance.burst.saturating_mul(THOUSANDTHS);
        self.level =
            self.level.saturating_add(millis.saturating_mul(self.allowance.rate)).min(most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_the_rate() {
        let mut bucket = Bucket::new(Allowance { rate: 10, burst: 3 });
        assert_eq!([(); 4].map(|()| bucket.take(100)), [true, true, true, false]);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert!(!bucket.take(0));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(bucket.take(0));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(bucket.take(2048), "three at once");
        assert!(!bucket.take(0));
    }
}
