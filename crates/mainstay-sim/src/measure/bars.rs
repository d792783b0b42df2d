//! The standing bars: what overload may cost, and what each tier is promised.

use super::rules::WARM_UP;
use super::span::Look;
use super::{short, violation};
use crate::outcome::{Run, Second};
use std::ops::Range;

/// Load by capacity, and the share of peak goodput that must be kept, the heaviest first.
const OVERLOADS: [(f64, f64); 3] = [(10.0, 0.90), (5.0, 0.93), (2.0, 0.95)];
/// How long a load must stand to be judged as steady.
const STEADY: usize = 30;
/// Attempts at sites by tries of clients.
const ATTEMPTS: f64 = 1.1;

/// What the first tiers are promised: those down to `depth`, while their demand together is at
/// most `demand` of the capacity on offer.
struct Promise {
    depth: usize,
    demand: f64,
    good: f64,
}

const PROMISES: [Promise; 2] =
    [Promise { depth: 0, demand: 0.6, good: 0.999 }, Promise { depth: 1, demand: 0.9, good: 0.99 }];

/// Under 2, 5 and 10 times what can be carried, goodput stays near its peak.
pub fn overload(look: &Look<'_>, run: &mut Run) {
    let by_capacity = |window: Range<usize>| {
        let span = look.of(window.clone());
        let capacity: f64 = span.iter().map(|s| look.capacity(s)).sum::<f64>();
        let capacity = capacity / span.len().max(1) as f64;
        (capacity > 0.0).then(|| look.goodput(window) / capacity)
    };
    let windows = || (WARM_UP..look.len().saturating_sub(STEADY)).step_by(STEADY / 3);
    let peak = windows().filter_map(|at| by_capacity(at..at + STEADY)).max_by(f64::total_cmp);
    let Some(peak) = peak.filter(|peak| *peak > 0.0) else { return };
    for at in windows() {
        let window = at..at + STEADY;
        let is_changing = window.clone().any(|second| look.is_step(second) || look.is_cut(second));
        let Some(load) = heaviest(look, window.clone()).filter(|_| !is_changing) else { continue };
        let Some((times, kept)) = OVERLOADS.iter().find(|(times, _)| load >= *times) else {
            continue;
        };
        let Some(good) = by_capacity(window) else { continue };
        if good < kept * peak {
            let detail = format!(
                "goodput {} of its peak under {times} times the capacity, at least {kept}",
                short(good / peak)
            );
            return run.violations.push(violation((at, "overload"), "", detail));
        }
    }
}

/// The load that every second of a window has at least, by the capacity there.
fn heaviest(look: &Look<'_>, window: Range<usize>) -> Option<f64> {
    let load = |second: &Second| {
        let capacity = look.capacity(second);
        if capacity > 0.0 { second.offered_cu / capacity } else { 0.0 }
    };
    look.of(window).iter().map(load).min_by(f64::total_cmp)
}

/// Enterprise and pro keep their promise while there is room for them.
pub fn tiers(look: &Look<'_>, run: &mut Run) {
    for Promise { depth, demand, good } in PROMISES {
        // The lowest tier has no promise; benches with fewer tiers have fewer promises.
        if depth + 1 >= look.timeline.tiers.len() {
            continue;
        }
        let mut seen = (0u32, 0u32, None);
        for at in WARM_UP..look.len() {
            let second = &look.timeline.seconds[at];
            let window = look.of(at.saturating_sub(4)..at + 1);
            let has_room = share_wanted(window, depth).is_some_and(|share| share <= demand);
            if look.is_step(at) || look.is_cut(at) || !has_room {
                continue;
            }
            let Some(tier) = second.tiers.get(depth) else { continue };
            seen.0 += tier.good;
            seen.1 += tier.offered;
            if tier.good < tier.offered {
                seen.2.get_or_insert(at);
            }
        }
        let bad = f64::from(seen.1 - seen.0.min(seen.1));
        // A single one is no ratio.
        if bad > (f64::from(seen.1) * (1.0 - good)).max(1.0) {
            let name = look.timeline.tiers[depth].clone();
            let ratio = f64::from(seen.0) / f64::from(seen.1);
            let detail = format!(
                "good {} of offered while its tier and those above want at most {demand} of what \
                 is on offer, at least {good}",
                short(ratio)
            );
            let at = seen.2.unwrap_or(0);
            run.violations.push(violation((at, "tier"), &name, detail));
        }
    }
}

/// What the tiers down to `depth` want, by the capacity on offer.
fn share_wanted(window: &[Second], depth: usize) -> Option<f64> {
    let on_offer: f64 = window.iter().map(|second| second.on_offer).sum();
    let wanted: f64 = window
        .iter()
        .flat_map(|second| second.tiers.iter().take(depth + 1))
        .map(|tier| tier.offered_cu)
        .sum();
    (on_offer > 0.0).then(|| wanted / on_offer)
}

/// One retry layer, with a budget.
pub fn attempts(look: &Look<'_>, run: &mut Run) {
    let span = look.of(0..look.len());
    let tries: u64 = span.iter().map(|second| u64::from(second.tries)).sum();
    let attempts: u64 = span.iter().map(|second| u64::from(second.attempts)).sum();
    if tries == 0 {
        return;
    }
    run.attempts_per_request = attempts as f64 / tries as f64;
    if run.attempts_per_request > ATTEMPTS {
        let detail = format!(
            "{} attempts at sites by tries of clients, at most {ATTEMPTS}",
            short(run.attempts_per_request)
        );
        run.violations.push(violation((look.len(), "attempts"), "", detail));
    }
}
