//! Whether a tier that wants no more than its floor is served (I14).
//!
//! Looked for where every gateway holds every site for up, in spans of seconds in each of which the
//! tier wants no more than its floor. The first seconds of a span are those in which credit moves;
//! after them nearly all of it must be served while another tier gets more than its own floor. A
//! jump within the floor begins a new span: until then the floor was lent out.

use crate::outcome::{Second, SiteSecond, Timeline, Violation};
use std::ops::Range;

/// Seconds that a lent floor may take to come back: lease and drift, and the second they begin in.
const MOVES: usize = 4;
/// A tier that asks for so much of what is on offer more than twice what it lately asked for jumps.
const JUMP: f64 = 0.1;
/// A ratio is taken over so many seconds: of fewer, a request or two by chance is a share.
const WINDOW: usize = 10;
/// Of what a tier within its floor asks, not more than this share is shed in the long run,
const SHED_MOST: f64 = 0.01;
/// and in one window by so many standard deviations more: windows are many, and each is a draw.
const CHANCE: f64 = 2.0;
/// Another tier gains if it gets this much more than its floor.
const GAINS: f64 = 1.1;
/// Seconds after which an answer of the bench is over: eight, and some waiting.
const ANSWERED: usize = 12;

/// The first breach of each tier. `floors` are shares of capacity, by tier; in the seconds of
/// `lagging` a gateway's own loop stands still, and what it sheds then is shed for its own fault.
pub fn floors(
    timeline: &Timeline,
    floors: &[f64],
    (gateways, lagging): (u16, &[Range<usize>]),
) -> Vec<Violation> {
    let is_lagging = |at: &usize| lagging.iter().any(|seconds| seconds.contains(at));
    let seconds = timeline.seconds.iter().enumerate();
    let all_up: Vec<bool> = seconds
        .map(|(at, second)| !is_lagging(&at) && second.sites.iter().all(is_up(gateways)))
        .collect();
    (0..floors.len()).filter_map(|tier| broken(timeline, floors, tier, &all_up)).collect()
}

fn is_up(gateways: u16) -> impl Fn(&SiteSecond) -> bool {
    move |site| site.capacity <= 0.0 || site.up == gateways
}

fn broken(timeline: &Timeline, floors: &[f64], tier: usize, all_up: &[bool]) -> Option<Violation> {
    let mut within = 0;
    for (at, second) in timeline.seconds.iter().enumerate() {
        // An answer may break as long as it lasts; it is asked for anew in a later second.
        let later = &all_up[at..all_up.len().min(at + ANSWERED)];
        let is_calm = later.iter().all(|up| *up);
        let is_within = second.tiers[tier].offered_cu <= floors[tier] * second.on_offer;
        let is_jump = jumps(&timeline.seconds[at.saturating_sub(WINDOW)..=at], tier);
        within = if is_calm && is_within && !is_jump { within + 1 } else { 0 };
        if within < MOVES + WINDOW {
            continue;
        }
        let window = &timeline.seconds[at + 1 - WINDOW..=at];
        let (offered, shed) = window.iter().fold((0, 0), |sum, second| {
            (sum.0 + second.tiers[tier].offered, sum.1 + second.tiers[tier].shed)
        });
        // A tier that takes more than its floor takes it from this one as well.
        let mut others = (0..floors.len()).filter(|other| *other != tier);
        let is_lost = others.any(|other| gains(window, floors[other], other));
        let usual = SHED_MOST * f64::from(offered);
        if shed > 2 && f64::from(shed) > usual + CHANCE * usual.sqrt() && is_lost {
            let detail = format!(
                "{shed} of {offered} shed within its floor in {WINDOW} s, and others served above \
                 theirs"
            );
            let (rule, node) = (String::from("I14"), timeline.tiers[tier].clone());
            return Some(Violation { at_s: at as f64, rule, node, detail });
        }
    }
    None
}

/// Whether the last of these seconds brings much more of a tier than those before it.
fn jumps(seconds: &[Second], tier: usize) -> bool {
    let Some((last, before)) = seconds.split_last() else { return false };
    let lately: f64 = before.iter().map(|second| second.tiers[tier].offered_cu).sum();
    let usual = lately / before.len().max(1) as f64;
    !before.is_empty() && last.tiers[tier].offered_cu > 2.0 * usual + JUMP * last.on_offer
}

fn gains(window: &[Second], floor: f64, tier: usize) -> bool {
    let good: u32 = window.iter().map(|second| second.tiers[tier].good).sum();
    let on_offer: f64 = window.iter().map(|second| second.on_offer).sum();
    f64::from(good) > GAINS * floor * on_offer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::TierSecond;

    const FLOORS: [f64; 2] = [0.4, 0.25];

    /// Two tiers on a hundred units: the second wants a fifth, and loses so many of its requests.
    fn timeline(lost: impl Fn(usize) -> u32) -> Timeline {
        let tier = |offered: u32, shed: u32| TierSecond {
            offered,
            shed,
            good: offered - shed,
            offered_cu: f64::from(offered),
            ..TierSecond::default()
        };
        let second = |at| Second {
            tiers: vec![tier(200, 120), tier(20, lost(at))],
            sites: vec![SiteSecond { capacity: 100.0, up: 6, ..SiteSecond::default() }],
            on_offer: 100.0,
            ..Second::default()
        };
        Timeline {
            tiers: vec![String::from("enterprise"), String::from("pro")],
            seconds: (0..60).map(second).collect(),
            ..Timeline::default()
        }
    }

    fn found(timeline: &Timeline) -> Vec<String> {
        floors(timeline, &FLOORS, (6, &[])).into_iter().map(|wrong| wrong.node).collect()
    }

    #[test]
    fn a_tier_within_its_floor_that_loses_one_of_twenty_breaks_i14() {
        assert_eq!(found(&timeline(|_| 1)), ["pro"]);
        let second_by_second = timeline(|at| if at % 2 == 0 { 2 } else { 0 });
        assert_eq!(found(&second_by_second), ["pro"]);
    }

    #[test]
    fn the_seconds_in_which_credit_moves_and_a_request_by_chance_do_not() {
        assert!(found(&timeline(|at| if at < MOVES { 20 } else { 0 })).is_empty());
        assert!(found(&timeline(|at| u32::from(at % 30 == 29))).is_empty());
    }

    #[test]
    fn a_tier_above_its_floor_and_one_whose_sites_fail_are_not_looked_at() {
        let mut above = timeline(|_| 5);
        above.seconds.iter_mut().for_each(|second| second.tiers[1].offered_cu = 30.0);
        assert!(found(&above).is_empty());
        let mut fails = timeline(|_| 5);
        fails.seconds.iter_mut().for_each(|second| second.sites[0].up = 5);
        assert!(found(&fails).is_empty());
    }

    #[test]
    fn a_jump_within_the_floor_takes_its_credit_back_first() {
        // Ten requests of a hundred, then twenty-five: its floor.
        let jumping = |lost_at: usize, from: f64| {
            let mut told = timeline(|at| if at == lost_at { 5 } else { 0 });
            for (at, second) in told.seconds.iter_mut().enumerate() {
                second.tiers[1].offered_cu = if at < 30 { from } else { 25.0 };
            }
            found(&told)
        };
        assert!(jumping(30, 5.0).is_empty());
        assert_eq!(jumping(30, 20.0), ["pro"], "no jump");
        assert_eq!(jumping(36, 5.0), ["pro"], "its credit was back");
    }
}
