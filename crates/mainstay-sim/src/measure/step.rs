//! Q6 after a step: shares of traffic go to their new place, and beyond it by a tenth at most.
//!
//! A step is the beginning or the end of a fault. It is looked at where nothing else changes for
//! long enough that the new place can be told: no fault, no step of a ramp, no verdict. A share
//! that ends where it was has no new place: where a flood fills every site for some seconds, the
//! emptier one takes more of it, and that is right.

use super::rules::WARM_UP;
use super::span::{Look, fault_end};
use super::{short, violation};
use crate::outcome::{Run, Second};
use crate::scenario::FaultKind;
use std::ops::Range;

/// The most of all traffic by which a share may exceed its new place.
const OVERSHOOT: f64 = 0.10;
/// Verdicts and ramps that follow within so many seconds belong to the step.
const NOTICED: usize = 10;
/// For so long nothing else must change, and the overshoot is looked for.
const REST: usize = 60;
/// The old and the new place are means over so many seconds.
const PLACE: usize = 30;
/// Requests in a window: the standard deviation of a share among a thousand is a hundredth and a
/// half.
const ENOUGH: f64 = 1000.0;
/// A share that ends as near as this to where it was has no new place.
const SAME: f64 = 0.02;

/// One violation for each site, at most.
pub fn overshoot(look: &Look<'_>, run: &mut Run) {
    let steps = steps(look);
    let changes = changes(look, &steps);
    for site in (0..look.timeline.sites.len()).filter(|at| look.counts(*at)) {
        for step in &steps {
            let next = changes.iter().find(|at| **at >= step + NOTICED).copied();
            let end = next.unwrap_or(look.len());
            let rests = *step..end.min(step + NOTICED + 2 * REST);
            if rests.len() < NOTICED + REST || *step < WARM_UP + PLACE {
                continue;
            }
            let Some(beyond) = beyond(look, site, rests) else { continue };
            if beyond > OVERSHOOT {
                let name = look.timeline.sites[site].clone();
                let detail =
                    format!("share of traffic overshoots its new place by {}", short(beyond));
                run.violations.push(violation((*step, "Q6"), &name, detail));
                break;
            }
        }
    }
}

/// How far the share of a site goes beyond its new place after a step at the stretch's beginning.
fn beyond(look: &Look<'_>, site: usize, rests: Range<usize>) -> Option<f64> {
    let before = look.share(site, rests.start - PLACE..rests.start)?;
    let place = look.share(site, rests.end - PLACE..rests.end)?;
    let span = look.of(rests.clone());
    let requests: u32 = span.iter().flat_map(|s| &s.tiers).map(|tier| tier.offered).sum();
    let wide = ENOUGH * span.len() as f64 / f64::from(requests.max(1));
    let wide = (wide.ceil() as usize).max(5);
    let windows = rests.start..(rests.start + REST).saturating_sub(wide);
    // Where nobody lets anything in, the share of the last three requests says nothing.
    let is_telling = |window: &Range<usize>| {
        let let_in = |second: &Second| look.admitted(second, true) + look.admitted(second, false);
        look.of(window.clone()).iter().map(let_in).sum::<f64>() >= ENOUGH / 2.0 * look.cost()
    };
    let windows = windows.map(|at| at..at + wide).filter(is_telling);
    let shares = windows.filter_map(|window| look.share(site, window));
    let moved = place - before;
    if moved.abs() <= SAME {
        return None;
    }
    shares.map(|share| (share - place) * moved.signum()).max_by(f64::total_cmp)
}

fn steps(look: &Look<'_>) -> Vec<usize> {
    let mut steps = Vec::new();
    for fault in &look.scenario.faults {
        let end = match &fault.kind {
            FaultKind::Override { life, .. } => (fault.at + *life).as_secs() as usize,
            // What crashed starts again: another step.
            _ => fault_end(fault),
        };
        steps.extend([fault.at.as_secs() as usize, end]);
    }
    steps.sort_unstable();
    steps.dedup();
    steps
}

/// Seconds in which anything changes.
fn changes(look: &Look<'_>, steps: &[usize]) -> Vec<usize> {
    let mut changes = steps.to_vec();
    let ramps = |second: &Second| second.sites.iter().map(|site| site.ramp).collect::<Vec<_>>();
    let pairs = look.timeline.seconds.windows(2).enumerate();
    changes
        .extend(pairs.filter(|(_, pair)| ramps(&pair[0]) != ramps(&pair[1])).map(|(at, _)| at + 1));
    changes.extend(look.timeline.health.iter().map(|each| each.0 as usize));
    changes.sort_unstable();
    changes
}
