//! How many attempts may be in flight at a target that is full now and then.

/// The bound is cut to this share at overload,
const CUT: f64 = 0.9;
/// and grows by so many in the time of one request:
const GROWTH: f64 = 1.0;
/// faster up to what was held when one more was refused, since so many were let in,
const RECOVERY: f64 = 4.0;
/// and slower by one to either side of it, where the next refusal is to be expected. To pass it
/// at full pace would cost a cut every few requests, and with it a tenth of what the target can do.
const PROBE: f64 = 0.25;
/// Share of the bound that only the highest tier may take, in whole places: of a small one none, as
/// one place of twelve is more than it needs to wait for the next that ends.
const KEPT: f64 = 0.05;

/// How many may be in flight.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency {
    most: f64,
    /// How many were in flight when the target last said that one of them was too many, that one
    /// included; 0 where it did not say so but was slow, which tells no number.
    refused: f64,
}

impl Concurrency {
    /// The bound after a refusal of one of so many, in words or by being slow.
    pub fn refused(in_flight: u32, is_told: bool) -> Concurrency {
        let in_flight = f64::from(in_flight.max(1));
        Concurrency {
            most: (in_flight * CUT).max(1.0),
            refused: if is_told { in_flight } else { 0.0 },
        }
    }

    /// At least one.
    pub fn most(self) -> f64 {
        self.most
    }

    /// Whether one more of the tier with this rank may join so many.
    pub fn has_room(self, in_flight: u32, rank: u8) -> bool {
        let kept = if rank == 0 { 0 } else { (self.most * KEPT) as u32 };
        f64::from(in_flight + 1 + kept) <= self.most
    }

    /// One more was served.
    pub fn grow(&mut self) {
        let pace = match self.most - self.refused {
            beyond if beyond > 1.0 => GROWTH,
            beyond if beyond > -1.0 => PROBE,
            _ => RECOVERY,
        };
        self.most += pace / self.most;
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use alloc::vec::Vec;

    fn refusal(started: Time) -> Refusal {
        Refusal { started, class: ErrorClass::Overload, retry_after: None, is_told: true }
    }

    /// What share of `holds` places is filled over a minute of more demand than that, and how many
    /// attempts are refused: each takes one second, one arrives every 20 ms.
    fn filled(holds: usize, credit: &mut Credit, from: Time) -> (f64, u32) {
        let (limits, mut rng) = (Limits::default(), Rng::new(7));
        let (mut ends, mut busy, mut refused) = (Vec::new(), 0usize, 0);
        for n in 0..3000u64 {
            let now = from + Duration::from_millis(n * 20);
            ends.retain(|end| {
                let is_over = *end <= now;
                if is_over {
                    credit.served(now);
                    credit.give_back();
                }
                !is_over
            });
            if credit.room(now, 0) == Room::Yes {
                credit.take(now);
                if ends.len() < holds {
                    ends.push(now + Duration::from_secs(1));
                } else {
                    refused += 1;
                    credit.refused(now, refusal(now), &limits, &mut rng);
                    credit.give_back();
                }
            }
            busy += ends.len();
        }
        ends.iter().for_each(|_| credit.give_back());
        (busy as f64 / 3000.0 / holds as f64, refused)
    }

    #[test]
    fn a_full_target_is_kept_full_and_seldom_asked_for_more() {
        let mut credit = Credit::new(Limits::default().growth);
        let mut from = Time::from_micros(9_000_000);
        // It browns out to a third, and comes back.
        for (holds, least, most) in [(36, 0.96, 15), (12, 0.99, 15), (36, 0.8, 15)] {
            let (share, refused) = filled(holds, &mut credit, from);
            from = from + Duration::from_secs(60);
            assert!(
                share >= least && refused <= most,
                "{holds}: {share} filled, {refused} refused"
            );
        }
    }
}
