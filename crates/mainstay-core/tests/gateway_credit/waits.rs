//! Who waits for credit, in which order, and who is told at once that it would be in vain.

use super::*;
use mainstay_core::rng::{Rng, mix};

const ASKED: u64 = 2000;
/// So many come before what is short is known.
const FIRST: u64 = 200;

/// Sites take what is paid and refuse the rest, since they have no room for more.
fn sites_answer(rig: &mut Rig, from: usize) {
    let mut next = from;
    while let Some(start) = rig.starts.get(next).cloned() {
        match start.open.expect("to a site of ours").credited {
            true => rig.whole(&start),
            false => rig.refuses(&start, Reason::Overloaded, false),
        }
        next += 1;
    }
}

/// About a hundred requests a second come by chance for 20 s, of up to nine CU each, where each
/// site grants `rate` CU/s.
fn crowd(rig: &mut Rig, seed: u64, rate: u64) {
    let mut random = Rng::new(seed);
    for step in 0..ASKED {
        if step % 50 == 0 {
            for target in 0..3 {
                rig.grants(target, rates(0, 0, rate), 0);
            }
        }
        if step == FIRST {
            rig.facts.clear();
            rig.starts.clear();
        }
        let before = rig.starts.len();
        rig.pass(millis(random.below(21)));
        sites_answer(rig, before);
        rig.cost = CostUnits::whole(1 + random.below(9));
        let before = rig.starts.len();
        rig.asks(FREE, random.below(1 << 30));
        sites_answer(rig, before);
    }
}

/// How many were refused at once, and how many after they had waited.
fn refused(rig: &Rig) -> (usize, usize) {
    let after = |fact: &Fact| match fact {
        Fact::Closed { outcome: Outcome::Refused, after, .. } => Some(*after),
        _ => None,
    };
    let all = rig.facts.iter().filter_map(after);
    let (waited, at_once): (Vec<_>, Vec<_>) = all.partition(|after| *after > millis(25));
    (at_once.len(), waited.len())
}

/// The how-manieth it was.
fn came(request: RequestId) -> u64 {
    (1..=ASKED).find(|at| mix(*at, 1) == request.0).expect("one that was asked")
}

#[test]
fn hardly_anybody_waits_for_credit_that_does_not_come() {
    for rate in [1, 2, 5, 20] {
        let (mut at_once, mut in_vain, mut served, mut overtaken) = (0, 0, 0, 0);
        for seed in 0..10 {
            let mut rig = Rig::new();
            crowd(&mut rig, seed, rate);
            let (told, waited) = refused(&rig);
            (at_once, in_vain) = (at_once + told, in_vain + waited);
            let is_paid = |start: &&Start| start.open.is_some_and(|open| open.credited);
            let paid = rig.starts.iter().filter(is_paid);
            let order: Vec<u64> = paid.map(|start| came(start.attempt.request)).collect();
            served += order.len();
            overtaken += order.windows(2).filter(|two| two[0] > two[1]).count();
        }
        let told = format!(
            "at {rate} CU/s: {served} served, {overtaken} overtaken, {at_once} refused at once, \
             {in_vain} after they had waited"
        );
        assert!(in_vain * 300 < at_once, "{told}");
        // Who was refused somewhere waits until that is forgotten, whoever comes meanwhile.
        assert!(overtaken * 20 < served, "{told}");
        // 18 s at three sites, ten times; each costs five at the mean.
        let granted = rate as usize * 18 * 3 * 10 / 5;
        assert!(served * 100 >= granted * 95, "{told}");
    }
}
