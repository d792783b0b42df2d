//! Whether a site's clock runs at the pace of ours, within what the lease allows for.
//!
//! Each grant says how long ago, by the site's clock, the one before was made. By our clock each
//! was made between the report it answers and its coming, so a run of grants gives the least and
//! the most that the site may have counted. Only what lies outside both is drift: delay, however
//! large or changing, is never taken for it.

use crate::time::{Duration, Time};

/// Drift beyond this is more than the lease allows for, in hundredths.
const DRIFT: u64 = 2;
/// A shorter run proves nothing.
const RUN_MIN: Duration = Duration::from_secs(10);
/// A run of this length within bounds takes the suspicion back, and a new one begins.
const RUN: Duration = Duration::from_secs(60);

/// The watch over one site's clock.
#[derive(Clone, Debug, Default)]
pub struct Drift {
    run: Option<Run>,
    is_off: bool,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The report that the last grant of the run answers.
    nonce: u64,
    /// When the run's first report was sent and its grant came.
    first: (Time, Time),
    /// Sum of what the site counted since.
    told: Duration,
}

impl Drift {
    /// Whether the site's clock is off.
    pub fn is_off(&self) -> bool {
        self.is_off
    }

    /// A grant came now for the report `nonce`, sent at `sent`; the site counted `elapsed` since
    /// its grant before. Tells a change of opinion.
    pub fn grant(
        &mut self,
        (sent, now): (Time, Time),
        nonce: u64,
        elapsed: Duration,
    ) -> Option<bool> {
        let fresh = Run { nonce, first: (sent, now), told: Duration::ZERO };
        // A grant that was lost takes its share of the count with it.
        let Some(mut run) = self.run.filter(|run| run.nonce + 1 == nonce) else {
            self.run = Some(fresh);
            return None;
        };
        run.nonce = nonce;
        run.told += elapsed;
        self.run = Some(run);
        let most = now.since(run.first.0).as_micros() as u64;
        let least = sent.since(run.first.1).as_micros() as u64;
        let told = run.told.as_micros() as u64;
        if Duration::from_micros(least) < RUN_MIN {
            return None;
        }
        let is_off = told * 100 > most * (100 + DRIFT) || told * (100 + DRIFT) < least * 100;
        let is_long = Duration::from_micros(least) >= RUN;
        if is_long {
            self.run = Some(fresh);
        }
        if is_off == self.is_off || !(is_off || is_long) {
            return None;
        }
        self.is_off = is_off;
        Some(is_off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    /// Grants of a site whose clock counts `counted` ms in 500, each as late as `late` says.
    fn play(counted: u64, late: impl Fn(u64) -> u64) -> Option<u64> {
        let mut drift = Drift::default();
        (1..400u64).find(|n| {
            let times = (at(n * 500), at(n * 500 + late(*n)));
            drift.grant(times, *n, Duration::from_millis(counted));
            drift.is_off()
        })
    }

    #[test]
    fn five_percent_are_found_within_a_minute_and_one_percent_never() {
        assert!(play(525, |_| 60).is_some_and(|n| n <= 120));
        assert!(play(475, |_| 60).is_some_and(|n| n <= 120));
        assert_eq!(play(505, |_| 60), None);
    }

    #[test]
    fn delay_is_not_taken_for_drift() {
        assert_eq!(play(500, |n| if n < 100 { 40 } else { 1900 }), None);
        assert_eq!(play(500, |n| 20 + n % 7 * 250), None);
    }
}
