//! Holds a worker to the rate that it is said to have, where the machine could do more: a fleet on
//! one machine then behaves as its configuration says, and what is measured there is no luck.
//!
//! As a worker that reads prompts one after another at that rate: nothing that it says of a piece
//! of work is heard before the work in front of it and its own have had their time.

use mainstay_core::cost::{CostRate, CostUnits};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// One worker's pace.
#[derive(Debug)]
pub struct Pace {
    rate: CostRate,
    /// When it is through with all that it was given.
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// So much a second.
    pub fn new(rate: CostRate) -> Pace {
        Pace { rate, free_at: Mutex::default() }
    }

    /// When it is through with work of this cost that it is given now.
    pub fn through(&self, now: Instant, cost: CostUnits) -> Instant {
        let takes = Duration::from_secs_f64(cost.as_f64() / self.rate.as_f64().max(f64::EPSILON));
        let mut free_at = self.free_at.lock().expect("no panic under this lock");
        let through = free_at.map_or(now, |at| at.max(now)) + takes;
        *free_at = Some(through);
        through
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_waits_for_what_was_given_before_it_and_not_for_what_is_through() {
        let pace = Pace::new(CostRate::whole(10));
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(pace.through(now, CostUnits::whole(20)), after(2));
        assert_eq!(pace.through(now, CostUnits::whole(10)), after(3));
        assert_eq!(pace.through(after(8), CostUnits::whole(10)), after(9));
    }
}
