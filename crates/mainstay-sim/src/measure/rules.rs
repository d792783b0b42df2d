//! The rules that always hold, as far as a timeline shows them: ledger, L1, L3, L5, Q5, Q6, and
//! the counts of the outcome.

use super::metric::{Ask, excess, overshoot, share_swing};
use super::span::{Look, fault_end, last_fault_end};
use super::{short, violation};
use crate::outcome::{Run, Second, Site, Tier};
use crate::scenario::FaultKind;
use std::ops::Range;

/// Load up to this share of the capacity on offer must be served.
const SERVABLE: f64 = 0.9;
/// At least this share of it must be good.
const GOOD: f64 = 0.99;
/// Seconds within which it must be again (L3).
const SOON: usize = 10;
/// Goodput must stay for so long to count as recovered.
const STAYS: usize = 60;
/// Arrivals come by chance: load is the mean of so many seconds.
const SMOOTH: usize = 10;
/// Seconds to full share after a return, and when latched (L5).
const FULL_SHARE: usize = 300;
/// See `FULL_SHARE`.
const FULL_SHARE_LATCHED: usize = 900;
/// Departures after which a site is latched.
const LATCHES: usize = 3;
/// Credited arrivals above capacity (Q5), and swing of shares at rest (Q6).
const EXCESS: f64 = 0.05;
/// See `EXCESS`.
const SWING: f64 = 0.05;
/// Seconds after which an answer is over: eight on the bench, and some waiting.
pub const ANSWERED: usize = 12;
/// The bench fills within its warm-up; shares mean nothing before.
pub const WARM_UP: usize = 30;

/// Fills what the outcome counts, site by site.
pub fn counts(look: &Look<'_>, run: &mut Run) {
    let all = look.of(0..look.len());
    for (at, name) in look.timeline.sites.iter().enumerate() {
        let mut site = Site::default();
        for second in all.iter().filter_map(|second| second.sites.get(at)) {
            site.offered_cu += second.offered_cu;
            site.admitted_cu += second.admitted_cu.iter().sum::<f64>();
            site.refused += u64::from(second.refused);
        }
        site.utilisation_p99 = utilisation_p99(all, at);
        site.overshoot_max = overshoot(look, Ask::of(at, 0..look.len())).unwrap_or(0.0);
        let rest = at_rest(look);
        site.share_swing = share_swing(look, Ask::of(at, rest)).unwrap_or(0.0);
        site.transitions = look.transitions(at, &(0..look.len() + 1)) as u64;
        run.sites.insert(name.clone(), site);
    }
    run.transitions = run.sites.values().map(|site| site.transitions).sum();
    for (at, name) in look.timeline.tiers.iter().enumerate() {
        let seen = seen(all, at);
        run.by_tier.entry(name.clone()).or_insert(seen);
    }
}

fn utilisation_p99(all: &[Second], at: usize) -> f64 {
    let used = |second: &Second| {
        let site = second.sites.get(at)?;
        (site.capacity > 0.0).then(|| site.admitted_cu.iter().sum::<f64>() / site.capacity)
    };
    let mut shares: Vec<f64> = all.iter().filter_map(used).collect();
    shares.sort_by(f64::total_cmp);
    shares.get((shares.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0)
}

/// What the seconds say of a tier.
fn seen(all: &[Second], at: usize) -> Tier {
    let mut sum = Tier::default();
    for tier in all.iter().filter_map(|second| second.tiers.get(at)) {
        sum.offered += u64::from(tier.offered);
        sum.good += u64::from(tier.good);
        sum.shed += u64::from(tier.shed);
        sum.failed += u64::from(tier.failed);
    }
    let ratio = sum.good as f64 / sum.offered.max(1) as f64;
    sum.goodput_ratio = if sum.offered == 0 { 1.0 } else { ratio };
    sum
}

/// Every request has one outcome, and the seconds know as many as the counts.
pub fn ledger(look: &Look<'_>, run: &mut Run) {
    let mut wrong = Vec::new();
    for (at, name) in look.timeline.tiers.iter().enumerate() {
        let Some(told) = run.by_tier.get(name) else { continue };
        let outcomes = told.good + told.shed + told.failed;
        if outcomes != told.offered {
            wrong.push((name.clone(), format!("{} offered, {outcomes} outcomes", told.offered)));
        }
        let seen = seen(look.of(0..look.len()), at);
        if (seen.offered, seen.good) != (told.offered, told.good) {
            let what = format!(
                "{} offered and {} good in the timeline, {} and {} in the counts",
                seen.offered, seen.good, told.offered, told.good
            );
            wrong.push((name.clone(), what));
        }
    }
    let node = |(name, what)| violation((look.len(), "ledger"), name, what);
    run.violations.extend(wrong.iter().map(|(name, what)| node((name, what.clone()))));
}

/// L1, L3 and L5.
pub fn liveness(look: &Look<'_>, run: &mut Run) {
    let end = last_fault_end(look.scenario);
    // Answers that a fault breaks began before it.
    let calm = 0..look.first_fault().map_or(look.len(), |at| at.saturating_sub(ANSWERED));
    served(look, (calm, "L1", WARM_UP), run);
    if let Some(end) = end {
        served(look, (end..look.len(), "L3", SOON), run);
    }
    full_share(look, run);
}

/// Wherever load has been servable for `soon` seconds of `range`, nearly all of it is good.
fn served(look: &Look<'_>, (range, rule, soon): (Range<usize>, &str, usize), run: &mut Run) {
    let mut began = None;
    let mut at = range.start;
    while at + SMOOTH <= range.end.min(look.len()) {
        let window = at..at + SMOOTH;
        if !is_servable(look, window.clone()) {
            (began, at) = (None, at + 1);
            continue;
        }
        let since = *began.get_or_insert(at);
        if at < since + soon {
            at += 1;
            continue;
        }
        if let Some(good) = good(look.of(window.clone()))
            && good < GOOD
        {
            let detail = format!(
                "good {} of offered for {SMOOTH} s, at load {} of the capacity on offer",
                short(good),
                short(load(look, window))
            );
            // One is enough: a run that never recovers would fill pages.
            return run.violations.push(violation((at, rule), "", detail));
        }
        at += SMOOTH;
    }
}

fn is_servable(look: &Look<'_>, window: Range<usize>) -> bool {
    let load = load(look, window);
    load.is_finite() && load <= SERVABLE
}

/// Load by the capacity on offer; endless where nothing is. What a fault made come later, such as
/// answers that broke and are asked for anew, is load when it comes; what fails afterwards and is
/// repeated is not, for that is how a metastable state feeds itself.
fn load(look: &Look<'_>, window: Range<usize>) -> f64 {
    let span = look.of(window);
    let offered: f64 = span.iter().map(asked).sum();
    let on_offer: f64 = span.iter().map(|second| second.on_offer).sum();
    if on_offer > 0.0 { offered / on_offer } else { f64::INFINITY }
}

/// Work that is asked for in a second.
fn asked(second: &Second) -> f64 {
    second.offered_cu + second.put_off_cu
}

/// Good by offered, all tiers; nothing where nobody asked.
fn good(span: &[Second]) -> Option<f64> {
    let tiers = span.iter().flat_map(|second| &second.tiers);
    let (good, all) =
        tiers.fold((0, 0), |(good, all), tier| (good + tier.good, all + tier.offered));
    (all > 0).then(|| f64::from(good) / f64::from(all))
}

/// A site that came back is at full share in time.
fn full_share(look: &Look<'_>, run: &mut Run) {
    let mut returns = Vec::new();
    for fault in &look.scenario.faults {
        let (FaultKind::SiteDown { sites, .. }, Some(until)) = (&fault.kind, fault.until) else {
            continue;
        };
        let named = (0..look.timeline.sites.len()).filter(|at| look.counts(*at));
        returns.extend(named.filter(|at| sites.has(*at)).map(|at| (at, until.as_secs() as usize)));
    }
    for (at, back) in &returns {
        // Lost again before it was due: the later return is judged.
        let again = returns.iter().any(|(site, later)| site == at && later > back);
        let departures = look.transitions(*at, &(back.saturating_sub(600)..*back + 1))
            / (2 * usize::from(look.scenario.bench.gateways).max(1));
        let limit = if departures >= LATCHES { FULL_SHARE_LATCHED } else { FULL_SHARE };
        let due = back + limit;
        if again || due >= look.len() {
            continue;
        }
        let site = &look.timeline.seconds[due].sites[*at];
        let gateways = look.scenario.bench.gateways;
        // Who departed often for its own part is latched, and has longer.
        let own = (0..gateways).filter(|gateway| {
            let left = look.departures((*gateway, *at), &(back.saturating_sub(600)..due));
            limit == FULL_SHARE && left >= LATCHES
        });
        let latched = own.count() as u16;
        if site.ramp < 100 || site.up + latched < gateways {
            let detail = format!(
                "{limit} s after its return {} % is on offer, and {} of {gateways} gateways have \
                 it up",
                site.ramp, site.up
            );
            let name = look.timeline.sites[*at].clone();
            run.violations.push(violation((due, "L5"), &name, detail));
        }
    }
}

/// Q5 and Q6.
pub fn bounds(look: &Look<'_>, run: &mut Run) {
    for site in (0..look.timeline.sites.len()).filter(|at| look.counts(*at)) {
        let name = look.timeline.sites[site].clone();
        // More than a second: two in a row.
        let pair = |at: usize| Some(excess(look, site, at)?.min(excess(look, site, at + 1)?));
        let breach = (0..look.len().saturating_sub(1))
            .find(|at| pair(*at).is_some_and(|above| above > EXCESS));
        if let Some(at) = breach {
            let above = short(pair(at).unwrap_or(0.0));
            let detail = format!("credited arrivals above capacity by {above} of it for 2 s");
            run.violations.push(violation((at, "Q5"), &name, detail));
        }
        let rest = at_rest(look);
        if let Some(swing) = share_swing(look, Ask::of(site, rest.clone()))
            && swing > SWING
        {
            let detail = format!("share of traffic swings by {} at rest", short(swing));
            run.violations.push(violation((rest.start, "Q6"), &name, detail));
        }
    }
}

/// The longest stretch in which nothing changes: no fault, no step of a ramp, no verdict. Whom a
/// fault sent away comes back within the time that clients honour, and is load until then.
fn at_rest(look: &Look<'_>) -> Range<usize> {
    let mut changes = vec![WARM_UP, look.len()];
    let returning = look.scenario.clients.retry_after_max.as_secs() as usize;
    for fault in &look.scenario.faults {
        let end = match &fault.kind {
            // An order ends by itself.
            FaultKind::Override { life, .. } => (fault.at + *life).as_secs() as usize,
            _ => fault_end(fault),
        };
        let end = end + returning;
        changes.extend((fault.at.as_secs() as usize..=end).step_by(1));
    }
    for (at, pair) in look.timeline.seconds.windows(2).enumerate() {
        let ramps = |second: &Second| second.sites.iter().map(|s| s.ramp).collect::<Vec<_>>();
        if ramps(&pair[0]) != ramps(&pair[1]) {
            changes.push(at + 1);
        }
    }
    changes.extend(look.timeline.health.iter().map(|each| each.0 as usize));
    changes.retain(|at| *at >= WARM_UP && *at <= look.len());
    changes.sort_unstable();
    let longest = changes.windows(2).max_by_key(|pair| pair[1] - pair[0]);
    // What was moved by the change settles first.
    longest.map_or(0..0, |pair| (pair[0] + SOON).min(pair[1])..pair[1])
}

/// From the last fault's end with servable load, until nearly all is good for a minute.
pub fn recovery(look: &Look<'_>) -> Option<f64> {
    let end = last_fault_end(look.scenario)?;
    let servable = |at: &usize| is_servable(look, *at..at + SMOOTH);
    let from = (end..look.len().saturating_sub(STAYS)).find(servable)?;
    let stays = |at: &usize| good(look.of(*at..at + STAYS)).is_some_and(|good| good >= GOOD);
    // The minute as a whole may hide its bad beginning: its first seconds must be good as well.
    let begins = |at: &usize| good(look.of(*at..at + 1)).is_none_or(|good| good >= GOOD);
    let until = (from..=look.len().saturating_sub(STAYS)).find(|at| stays(at) && begins(at))?;
    Some((until - from) as f64)
}

/// Seconds of servable load that tell all about a point: a minute that must be good after at most
/// `SOON`, and the last window.
const SETTLED: usize = STAYS + SOON + SMOOTH;

/// Whether all that `recovery` and `is_metastable` ask lies before second `played`.
pub fn is_settled(look: &Look<'_>, played: usize) -> bool {
    let Some(end) = last_fault_end(look.scenario) else { return false };
    let begins = played.saturating_sub(SETTLED);
    begins >= end && (begins..=played - SMOOTH).all(|at| is_servable(look, at..at + SMOOTH))
}

/// Whether sites that were there could have carried what was asked, for a minute after the last
/// fault.
pub fn could_recover(look: &Look<'_>) -> bool {
    let Some(end) = last_fault_end(look.scenario) else { return false };
    let fits = |at: usize| {
        let span = look.of(at..at + SMOOTH);
        let offered: f64 = span.iter().map(asked).sum();
        let there: f64 = span.iter().map(|second| look.capacity(second)).sum();
        there > 0.0 && offered <= SERVABLE * there
    };
    let mut stretch = 0;
    (end..look.len().saturating_sub(SMOOTH)).any(|at| {
        stretch = if fits(at) { stretch + 1 } else { 0 };
        stretch > STAYS
    })
}

/// Good by offered while faults act, and in the fourth minute after the last has ended; in the
/// last minute, where fewer were played. Nothing where nobody asked or nothing breaks.
pub fn around_faults(look: &Look<'_>) -> (Option<f64>, Option<f64>) {
    let (Some(first), Some(end)) = (look.first_fault(), last_fault_end(look.scenario)) else {
        return (None, None);
    };
    let from = (end + 3 * 60).min(look.len().saturating_sub(60));
    (good(look.of(first..end)), good(look.of(from..from + 60)))
}

/// Whether a point is metastable: load has been servable for a minute, and over the last half of it
/// goodput is not back. What dips for ten seconds and rises again stays nowhere; L3 tells of it.
pub fn is_metastable(look: &Look<'_>) -> bool {
    let Some(end) = last_fault_end(look.scenario) else { return false };
    let mut since = None;
    for at in end..look.len().saturating_sub(SMOOTH) {
        let window = at..at + SMOOTH;
        if !is_servable(look, window.clone()) {
            since = None;
            continue;
        }
        let began = *since.get_or_insert(at);
        if at == began + STAYS {
            let half = (window.end - STAYS / 2)..window.end;
            return good(look.of(half)).is_some_and(|good| good < GOOD);
        }
    }
    false
}
