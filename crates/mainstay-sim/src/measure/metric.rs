//! The metrics that an expectation may name.

use super::span::{Look, is_up};
use crate::outcome::{NO_CREDIT, Second, TierSecond};
use crate::scenario::Expect;
use std::ops::Range;

/// What one value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A tier.
    Tier,
    /// A site.
    Site,
    /// The whole run.
    Run,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name in scenario files.
    pub name: &'static str,
    /// What one value is of.
    pub per: Per,
    /// What it measures, over the seconds of the expectation.
    pub what: &'static str,
    value: fn(&Look<'_>, Ask) -> Option<f64>,
}

/// What is asked of a metric.
#[derive(Clone, Debug)]
pub struct Ask {
    at: usize,
    range: Range<usize>,
    recovery: Option<f64>,
}

impl Ask {
    /// Of a tier or site, over a stretch of seconds.
    pub fn of(at: usize, range: Range<usize>) -> Ask {
        Ask { at, range, recovery: None }
    }
}

impl Metric {
    /// Whether tiers can be named.
    pub fn is_of_tiers(&self) -> bool {
        self.per == Per::Tier
    }

    /// Whether sites can be named.
    pub fn is_of_sites(&self) -> bool {
        self.per == Per::Site
    }
}

const fn of_tier(
    name: &'static str,
    what: &'static str,
    value: fn(&Look<'_>, Ask) -> Option<f64>,
) -> Metric {
    Metric { name, per: Per::Tier, what, value }
}

const fn of_site(
    name: &'static str,
    what: &'static str,
    value: fn(&Look<'_>, Ask) -> Option<f64>,
) -> Metric {
    Metric { name, per: Per::Site, what, value }
}

const fn of_run(
    name: &'static str,
    what: &'static str,
    value: fn(&Look<'_>, Ask) -> Option<f64>,
) -> Metric {
    Metric { name, per: Per::Run, what, value }
}

/// Every metric.
pub const METRICS: &[Metric] = &[
    of_tier("good_ratio", "good by offered, of requests that came then", |look, ask| {
        ratio(look, ask, |tier| tier.good)
    }),
    of_tier("shed_ratio", "shed by offered, of requests that came then", |look, ask| {
        ratio(look, ask, |tier| tier.shed)
    }),
    of_tier("failed_ratio", "failed by offered, of requests that came then", |look, ask| {
        ratio(look, ask, |tier| tier.failed)
    }),
    of_tier(
        "good_ratio_drop",
        "good ratio of the time before the first fault, less that of then",
        good_ratio_drop,
    ),
    of_tier("ttft_mean_s", "mean first-token time, seconds", |look, ask| {
        first_tokens(look.of(ask.range), ask.at)
    }),
    of_tier("readiness", "least that gateways say would survive the loss of a site", readiness),
    of_site("ttft_p99_s", "99th percentile of first-token times there, seconds", |look, ask| {
        ttft_p99(look.of(ask.range), ask.at)
    }),
    of_site("ttft_p99_change", "that by that before the first fault, less 1", |look, ask| {
        let before = ttft_p99(look.of(0..look.first_fault()?), ask.at)?;
        Some(ttft_p99(look.of(ask.range), ask.at)? / before - 1.0)
    }),
    of_tier("ttft_worst_s", "mean first-token time of the worst second", ttft_worst),
    of_run("good_of_capacity", "good CU/s by what the sites there can carry", of_capacity),
    of_run("goodput_of_peak", "good CU/s by that of the run's best half minute or more", of_peak),
    of_run("goodput_of_before", "good CU/s by that before the first fault", of_before),
    of_run("attempts_per_try", "attempts at sites by tries of clients", attempts_per_try),
    of_run("resumed_ratio", "answers that went on within 2 s, by those that broke then", resumed),
    of_run("recovery_s", "as in the outcome; must exist", |_, ask| ask.recovery),
    of_run("removed_of_capacity", "most capacity that gateways hold for not up", removed),
    of_site("transitions", "changes between up and not up, all gateways", |look, ask| {
        (!look.of(ask.range.clone()).is_empty())
            .then(|| look.transitions(ask.at, &ask.range) as f64)
    }),
    of_site("downs", "verdicts DOWN, all gateways", |look, ask| {
        let is_down = |each: &&(f64, u16, u16, &'static str)| {
            let inside = (ask.range.start as f64..ask.range.end as f64).contains(&each.0);
            inside && usize::from(each.2) == ask.at && each.3.eq_ignore_ascii_case("down")
        };
        (!look.of(ask.range.clone()).is_empty())
            .then(|| look.timeline.health.iter().filter(is_down).count() as f64)
    }),
    of_site("overshoot", "credited arrivals above capacity, worst second, by it", overshoot),
    of_site(
        "beyond_credit",
        "credited arrivals above what credit lets be spent in a second, worst second, by it",
        beyond_credit,
    ),
    of_site("share", "share of all admitted work", |look, ask| look.share(ask.at, ask.range)),
    of_site("share_swing", "share of admitted work, peak to peak", share_swing),
    of_site(
        "share_change",
        "share of admitted work less that before the first fault",
        share_change,
    ),
    of_site("utilisation_swing", "admitted work by capacity, peak to peak", utilisation_swing),
    of_site("queued_max", "most attempts that wait there", |look, ask| {
        greatest(look, &ask, |second| Some(f64::from(second.sites.get(ask.at)?.queued)))
    }),
    of_site("refused", "attempts refused there", |look, ask| {
        let span = look.of(ask.range);
        let refused = span.iter().filter_map(|s| s.sites.get(ask.at)).map(|site| site.refused);
        (!span.is_empty()).then(|| f64::from(refused.sum::<u32>()))
    }),
    of_site("granted_of_capacity", "most credit out by capacity while it is there", granted),
    of_site("reports_of_before", "most reports in ten seconds, by those before a fault", reports),
    of_site("credit_back_s", "seconds from then until 90 % of its credit is out", credit_back),
    of_site(
        "drift_closed_s",
        "seconds from then until a gateway whose clock runs apart gets no credit there",
        |look, ask| {
            let name = look.timeline.sites.get(ask.at)?;
            let mut marks = look.timeline.marks.iter();
            let from = ask.range.start as f64;
            let is_it = |mark: &&(f64, String, String)| {
                mark.0 >= from && mark.1 == *name && mark.2.starts_with(NO_CREDIT)
            };
            marks.find(is_it).map(|mark| mark.0 - from)
        },
    ),
    of_site("full_share_s", "seconds from then until all of it is on offer", full_share),
    of_site("workers_wanted_falls", "how often fewer workers are wanted there", wanted_falls),
    of_site("ramp_falls", "how often its share on offer falls", ramp_falls),
    of_site(
        "leaves_after_s",
        "seconds from then until a gateway no longer has it up",
        leaves_after,
    ),
    of_site("up_min", "fewest gateways that hold it for up", |look, ask| {
        let up = |second: &Second| Some(-f64::from(second.sites.get(ask.at)?.up));
        greatest(look, &ask, up).map(|up| -up)
    }),
];

/// The values that `expect` asks of `metric`, each with the node it is of.
pub fn measure(
    metric: &Metric,
    look: &Look<'_>,
    (expect, recovery): (&Expect, Option<f64>),
    range: Range<usize>,
) -> Vec<(String, Option<f64>)> {
    let ask = |at| Ask { at, range: range.clone(), recovery };
    let timeline = look.timeline;
    match metric.per {
        Per::Run => vec![(String::new(), (metric.value)(look, ask(0)))],
        Per::Tier => {
            let all = (0..timeline.tiers.len()).collect();
            let asked: Vec<usize> = expect.tiers.iter().map(|at| usize::from(*at)).collect();
            let value = |at: usize| (timeline.tiers[at].clone(), (metric.value)(look, ask(at)));
            let known = |at: &usize| *at < timeline.tiers.len();
            chosen(asked, all).into_iter().filter(known).map(value).collect()
        }
        Per::Site => {
            let all = (0..timeline.sites.len()).filter(|at| look.counts(*at)).collect();
            let asked: Vec<usize> = expect.sites.iter().map(|at| usize::from(*at)).collect();
            let value = |at: usize| (timeline.sites[at].clone(), (metric.value)(look, ask(at)));
            let known = |at: &usize| *at < timeline.sites.len();
            chosen(asked, all).into_iter().filter(known).map(value).collect()
        }
    }
}

fn chosen(asked: Vec<usize>, all: Vec<usize>) -> Vec<usize> {
    if asked.is_empty() { all } else { asked }
}

fn ratio(look: &Look<'_>, ask: Ask, of: fn(&TierSecond) -> u32) -> Option<f64> {
    let tiers = look.of(ask.range).iter().filter_map(|second| second.tiers.get(ask.at));
    let (part, whole) =
        tiers.fold((0, 0), |(part, whole), tier| (part + of(tier), whole + tier.offered));
    (whole > 0).then(|| f64::from(part) / f64::from(whole))
}

fn good_ratio_drop(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let before = Ask { range: 0..look.first_fault()?, ..ask.clone() };
    let good: fn(&TierSecond) -> u32 = |tier| tier.good;
    Some(ratio(look, before, good)? - ratio(look, ask, good)?)
}

fn first_tokens(span: &[Second], tier: usize) -> Option<f64> {
    let times = span.iter().filter_map(|second| second.tiers.get(tier)).map(|tier| tier.ttft_ms);
    let (sum, count) = times.fold((0.0, 0), |all, time| (all.0 + time.0, all.1 + time.1));
    (count > 0).then(|| sum / f64::from(count) / 1000.0)
}

fn ttft_p99(span: &[Second], site: usize) -> Option<f64> {
    let all = span.iter().filter_map(|second| second.sites.get(site));
    let mut times: Vec<f32> = all.flat_map(|site| site.first_ms.iter().copied()).collect();
    times.sort_unstable_by(f32::total_cmp);
    let place = (times.len() * 99 / 100).min(times.len().checked_sub(1)?);
    Some(f64::from(times[place]) / 1000.0)
}

fn readiness(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let inside = |at: f64| (ask.range.start as f64..ask.range.end as f64).contains(&at);
    let told = look.timeline.readiness.iter().filter(|(at, ..)| inside(*at));
    let least = told.filter_map(|(.., all)| all.get(ask.at)).min()?;
    Some(f64::from(*least) / 100.0)
}

fn resumed(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let span = look.of(ask.range);
    let broken: u32 = span.iter().map(|second| second.broken).sum();
    let resumed: u32 = span.iter().map(|second| second.resumed).sum();
    (broken > 0).then(|| f64::from(resumed) / f64::from(broken))
}

fn reports(look: &Look<'_>, ask: Ask) -> Option<f64> {
    const WINDOW: usize = 10;
    let of = |second: &Second| second.sites.get(ask.at).map_or(0, |site| site.reports);
    let before = look.of(0..look.first_fault()?);
    let usual = f64::from(before.iter().map(of).sum::<u32>()) / before.len() as f64;
    // What comes after the end is written into the last second.
    let end = ask.range.end.min(look.len().saturating_sub(1));
    let windows = look.of(ask.range.start..end).windows(WINDOW);
    let most = windows.map(|window| window.iter().map(of).sum::<u32>()).max()?;
    (usual > 0.0).then(|| f64::from(most) / WINDOW as f64 / usual)
}

fn ttft_worst(look: &Look<'_>, ask: Ask) -> Option<f64> {
    greatest(look, &ask, |second| first_tokens(std::slice::from_ref(second), ask.at))
}

fn greatest(look: &Look<'_>, ask: &Ask, of: impl Fn(&Second) -> Option<f64>) -> Option<f64> {
    look.of(ask.range.clone()).iter().filter_map(of).max_by(f64::total_cmp)
}

fn of_capacity(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let span = look.of(ask.range.clone());
    let capacity: f64 = span.iter().map(|second| look.carries(second)).sum();
    let mean = capacity / span.len().max(1) as f64;
    (mean > 0.0).then(|| look.goodput(ask.range) / mean)
}

fn of_peak(look: &Look<'_>, ask: Ask) -> Option<f64> {
    // As long as shares need: of few and unlike requests the best half minute is chance.
    let window = look.windows(0..look.len()).first()?.len();
    let starts = (0..look.len().saturating_sub(window)).step_by(window / 3);
    let peak = starts.map(|at| look.goodput(at..at + window)).max_by(f64::total_cmp)?;
    (peak > 0.0 && !look.of(ask.range.clone()).is_empty()).then(|| look.goodput(ask.range) / peak)
}

fn of_before(look: &Look<'_>, ask: Ask) -> Option<f64> {
    // The first answers end only after a while.
    const STARTED: usize = 20;
    let before = look.goodput(STARTED..look.first_fault()?);
    (before > 0.0 && !look.of(ask.range.clone()).is_empty())
        .then(|| look.goodput(ask.range) / before)
}

fn attempts_per_try(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let span = look.of(ask.range);
    let tries: u32 = span.iter().map(|second| second.tries).sum();
    let attempts: u32 = span.iter().map(|second| second.attempts).sum();
    (tries > 0).then(|| f64::from(attempts) / f64::from(tries))
}

fn removed(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let gateways = f64::from(look.scenario.bench.gateways);
    greatest(look, &ask, |second| {
        let all = look.capacity(second);
        let ours = second.sites.iter().enumerate().filter(|(at, _)| look.counts(*at));
        let away = ours.map(|(_, site)| site.capacity * (1.0 - f64::from(site.up) / gateways));
        (all > 0.0).then(|| away.sum::<f64>() / all)
    })
}

/// Arrivals with credit above what could be carried, of the worst second. Capacity is the largest
/// of the last three seconds: credit of before a loss lapses only after a lease.
pub fn overshoot(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let seconds = ask.range.clone().take_while(|at| *at < look.len());
    seconds.filter_map(|at| excess(look, ask.at, at)).max_by(f64::total_cmp)
}

/// Arrivals with credit above capacity in one second, as a share of it. Where a second carries
/// only a few requests, the mean of as many as carry a hundred: the last one may overdraw.
pub fn excess(look: &Look<'_>, site: usize, at: usize) -> Option<f64> {
    const REQUESTS: f64 = 100.0;
    let span = look.of(at.saturating_sub(3)..at + 1);
    let capacities = span.iter().filter_map(|s| s.sites.get(site)).map(|site| site.capacity);
    let capacity = capacities.max_by(f64::total_cmp)?;
    let seconds = (REQUESTS * look.cost() / capacity.max(0.001)).round().clamp(1.0, 60.0) as usize;
    // In the last second stands all that came after the end.
    let span = look.of(at..(at + seconds).min(look.len().saturating_sub(1)));
    let credited = span.iter().filter_map(|s| s.sites.get(site)).map(|site| site.credited_cu);
    let mean = credited.sum::<f64>() / span.len().max(1) as f64;
    (capacity > 0.0).then(|| ((mean - capacity) / capacity).max(0.0))
}

/// Half a second of unspent credit may be spent with that of the second itself. Credit that was
/// out a lease ago may be spent by work that is still on its way.
fn beyond_credit(look: &Look<'_>, ask: Ask) -> Option<f64> {
    const SPENT_AT_ONCE: f64 = 1.5;
    const LEASE: usize = 2;
    // In the last second stands all that came after the end.
    let end = ask.range.end.min(look.len().saturating_sub(1));
    let above = |at: usize| {
        let lately = look.of(at.saturating_sub(LEASE)..at + 1);
        let granted = lately.iter().filter_map(|s| Some(s.sites.get(ask.at)?.granted));
        let most = SPENT_AT_ONCE * granted.max_by(f64::total_cmp)?;
        let spent = look.timeline.seconds.get(at)?.sites.get(ask.at)?.credited_cu;
        (most > 0.0).then(|| (spent / most - 1.0).max(0.0))
    };
    (ask.range.start..end).filter_map(above).max_by(f64::total_cmp)
}

/// Share of all admitted work, peak to peak over windows that chance does not move.
pub fn share_swing(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let windows = look.windows(ask.range);
    swing(windows.into_iter().filter_map(|window| look.share(ask.at, window)))
}

fn share_change(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let before = look.share(ask.at, 0..look.first_fault()?)?;
    Some((look.share(ask.at, ask.range)? - before).abs())
}

fn utilisation_swing(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let used = |window: Range<usize>| {
        let sites = look.of(window).iter().filter_map(|second| second.sites.get(ask.at));
        let (work, capacity) = sites.fold((0.0, 0.0), |(work, capacity), site| {
            (work + site.admitted_cu.iter().sum::<f64>(), capacity + site.capacity)
        });
        (capacity > 0.0).then(|| work / capacity)
    };
    swing(look.windows(ask.range.clone()).into_iter().filter_map(used))
}

/// Peak to peak; nothing of fewer than two.
fn swing(values: impl Iterator<Item = f64>) -> Option<f64> {
    let all: Vec<f64> = values.collect();
    let most = all.iter().copied().max_by(f64::total_cmp)?;
    let least = all.iter().copied().min_by(f64::total_cmp)?;
    (all.len() > 1).then_some(most - least)
}

fn granted(look: &Look<'_>, ask: Ask) -> Option<f64> {
    greatest(look, &ask, |second| {
        let site = second.sites.get(ask.at)?;
        (site.capacity > 0.0).then(|| site.granted / site.capacity)
    })
}

fn credit_back(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let granted = |second: &Second| second.sites.get(ask.at).map_or(0.0, |site| site.granted);
    let before = look.of(0..look.first_fault()?);
    let usual =
        before.iter().rev().take(30).map(granted).sum::<f64>() / before.len().clamp(1, 30) as f64;
    let span = look.of(ask.range);
    span.iter().position(|second| granted(second) >= 0.9 * usual).map(|at| at as f64)
}

fn full_share(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let is_full = |second: &Second| {
        second.sites.get(ask.at).is_some_and(|site| site.ramp >= 100 && site.capacity > 0.0)
    };
    look.of(ask.range).iter().position(is_full).map(|at| at as f64)
}

fn ramp_falls(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let ramps: Vec<u8> =
        look.of(ask.range).iter().filter_map(|s| Some(s.sites.get(ask.at)?.ramp)).collect();
    let falls = ramps.windows(2).filter(|pair| pair[1] < pair[0]).count();
    (ramps.len() > 1).then_some(falls as f64)
}

fn wanted_falls(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let of = |second: &Second| second.sites.get(ask.at).map(|site| site.wanted);
    let wanted: Vec<u16> = look.of(ask.range).iter().filter_map(of).collect();
    let falls = wanted.windows(2).filter(|pair| pair[1] < pair[0]).count();
    wanted.iter().any(|count| *count > 0).then_some(falls as f64)
}

fn leaves_after(look: &Look<'_>, ask: Ask) -> Option<f64> {
    let left = |each: &&(f64, u16, u16, &'static str)| {
        usize::from(each.2) == ask.at && !is_up(each.3) && each.0 >= ask.range.start as f64
    };
    look.timeline.health.iter().find(left).map(|each| each.0 - ask.range.start as f64)
}
