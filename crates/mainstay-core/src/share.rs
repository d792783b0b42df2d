//! How an amount is shared between tiers: to each its floor first, then the highest first.

use crate::cost::CostRate;

/// Floors are told in thousandths of what is shared.
const WHOLE: u64 = 1000;

/// A share from 0 to 1 in thousandths, rounded to the nearest.
pub fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * WHOLE as f64 + 0.5) as u16
}

/// How much of `supply` each tier gets of what it wants. No tier gets more than it wants, no floor
/// is taken from a tier that wants it, nothing is left while somebody wants it, and the sum never
/// exceeds `supply`, whatever the floors sum to. `floors` are thousandths; a tier without one has
/// none.
pub fn tiers<const N: usize>(
    demand: &[CostRate; N],
    floors: &[u16],
    supply: CostRate,
) -> [CostRate; N] {
    let mut granted = [CostRate::ZERO; N];
    let mut left = supply;
    for (tier, grant) in granted.iter_mut().enumerate() {
        let floor = u64::from(floors.get(tier).copied().unwrap_or(0));
        let kept = supply.share(CostRate(floor), CostRate(WHOLE));
        *grant = demand[tier].min(kept).min(left);
        left -= *grant;
    }
    for (tier, grant) in granted.iter_mut().enumerate() {
        let more = demand[tier].less(*grant).min(left);
        *grant += more;
        left -= more;
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn floors_come_first_and_the_rest_goes_from_the_top() {
        let whole = CostRate::whole;
        let floors = [400, 250, 50];
        let got = tiers(&[whole(80), whole(50), whole(50)], &floors, whole(100));
        assert_eq!(got, [whole(70), whole(25), whole(5)]);
        let little = [whole(10); 3];
        assert_eq!(tiers(&little, &floors, whole(100)), little);
    }

    #[test]
    fn shares_keep_floors_waste_nothing_and_never_exceed_the_supply() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let demand: [CostRate; 4] = core::array::from_fn(|_| CostRate(rng.below(90_000)));
            let floors = [rng.below(500) as u16, rng.below(400) as u16, rng.below(101) as u16];
            let supply = CostRate(rng.below(150_000));
            let got = tiers(&demand, &floors, supply);
            let sum: CostRate = got.iter().copied().sum();
            let wanted: CostRate = demand.iter().copied().sum();
            assert_eq!(sum, wanted.min(supply), "seed {seed}: nothing wasted, nothing above");
            for tier in 0..4 {
                let floor = u64::from(floors.get(tier).copied().unwrap_or(0));
                let kept = CostRate(supply.0 * floor / 1000);
                assert!(got[tier] >= demand[tier].min(kept), "seed {seed}: a floor");
                let above = got[tier] > kept;
                let higher = (0..tier).all(|h| got[h] == demand[h]);
                assert!(!above || higher, "seed {seed}: a higher tier is short");
            }
        }
    }

    #[test]
    fn a_share_is_rounded_to_the_nearest_thousandth() {
        assert_eq!([thousandths(0.4), thousandths(0.0499), thousandths(7.0)], [400, 50, 1000]);
    }
}
