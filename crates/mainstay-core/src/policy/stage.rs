//! In which order gateways take a new generation in.
//!
//! Each generation draws its own order, so that no gateway is always the first to suffer. Nobody
//! hands out turns: every gateway computes the same order from the list in the policy.

use crate::names::GatewayId;
use crate::rng::Rng;
use alloc::vec::Vec;

/// Hundredths of the gateways that may run a generation when the canary has run it clean. New
/// content must not reach more than this before, one gateway aside, so it is rounded down.
const EARLY_PERCENT: u32 = 5;

/// And then: enough to meet rare requests, few enough to lose.
const QUARTER_PERCENT: u32 = 25;

/// The stages: the canary, 5 %, 25 %, all.
pub const STAGES: u8 = 4;

/// How many of `gateways` are in `stage` or an earlier one.
pub fn reach(stage: u8, gateways: u16) -> u16 {
    let all = u32::from(gateways);
    let reach = match stage {
        0 => 1,
        1 => (all * EARLY_PERCENT / 100).max(1),
        2 => (all * QUARTER_PERCENT).div_ceil(100).max(1),
        _ => all,
    };
    reach.min(all) as u16
}

/// The turns of one generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turns {
    order: Vec<GatewayId>,
}

impl Turns {
    /// Those of `generation` among so many gateways.
    pub fn new(generation: u64, gateways: u16) -> Turns {
        let mut order: Vec<GatewayId> = (0..gateways).map(GatewayId).collect();
        order.sort_by_key(|gateway| (draw(generation, *gateway), *gateway));
        Turns { order }
    }

    /// Who tries it first.
    pub fn canary(&self) -> Option<GatewayId> {
        self.order.first().copied()
    }

    /// The stage of a gateway; the last one for a gateway that is not listed.
    pub fn stage(&self, gateway: GatewayId) -> u8 {
        let listed = self.order.len() as u16;
        let place = self.order.iter().position(|each| *each == gateway);
        let place = place.map_or(u16::MAX, |place| place as u16);
        (0..STAGES).find(|stage| place < reach(*stage, listed)).unwrap_or(STAGES - 1)
    }

    /// The nearest earlier stage that has somebody in it; `None` for the canary.
    pub fn before(&self, stage: u8) -> Option<u8> {
        let listed = self.order.len() as u16;
        let is_filled = |each: &u8| match each {
            0 => true,
            _ => reach(*each, listed) > reach(*each - 1, listed),
        };
        (0..stage).rev().find(is_filled)
    }
}

fn draw(generation: u64, gateway: GatewayId) -> u64 {
    Rng::new(generation.rotate_left(16) ^ u64::from(gateway.0)).bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_canary_ran_clean_one_gateway_or_a_twentieth_runs_it() {
        for gateways in 1..=400u16 {
            let early = reach(1, gateways);
            assert!(early == 1 || u32::from(early) * 100 <= u32::from(gateways) * 5);
            let turns = Turns::new(7, gateways);
            for stage in 0..STAGES {
                let within = (0..gateways).filter(|g| turns.stage(GatewayId(*g)) <= stage);
                assert_eq!(within.count(), usize::from(reach(stage, gateways)), "{gateways}");
            }
        }
    }

    #[test]
    fn every_gateway_but_the_canary_has_somebody_to_wait_for() {
        for gateways in 1..=100u16 {
            let turns = Turns::new(3, gateways);
            for gateway in (0..gateways).map(GatewayId) {
                let before = turns.before(turns.stage(gateway));
                let Some(before) = before else {
                    assert_eq!(turns.canary(), Some(gateway));
                    continue;
                };
                let waits = (0..gateways).any(|g| turns.stage(GatewayId(g)) == before);
                assert!(waits, "{gateways} gateways, {gateway:?}");
            }
        }
    }

    #[test]
    fn the_canary_changes_from_generation_to_generation() {
        let firsts: Vec<_> = (1..40).map(|g| Turns::new(g, 6).canary()).collect();
        for gateway in (0..6).map(GatewayId) {
            assert!(firsts.contains(&Some(gateway)), "{gateway:?} is never first: {firsts:?}");
        }
    }
}
