//! Looks at stretches of a timeline: sums, means over windows, what was there.

use super::rules::ANSWERED;
use super::seconds;
use crate::outcome::{Second, Timeline};
use crate::scenario::{Fault, FaultKind, Part, Scenario};
use std::ops::Range;

/// Arrivals come by chance: shares over fewer requests than this swing by themselves. With four
/// thousand the standard deviation of a share is below 0.8 %.
const ENOUGH: f64 = 4000.0;
/// Shares are looked at over half a minute at least: a step of the ramp takes as long.
const WINDOW: usize = 30;

/// A scenario and what happened in it.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// What was played.
    pub scenario: &'a Scenario,
    /// What happened.
    pub timeline: &'a Timeline,
}

impl<'a> Look<'a> {
    /// The seconds of a stretch that were played.
    pub fn of(&self, range: Range<usize>) -> &'a [Second] {
        let end = range.end.min(self.timeline.seconds.len());
        self.timeline.seconds.get(range.start.min(end)..end).unwrap_or_default()
    }

    /// How many seconds were played.
    pub fn len(&self) -> usize {
        self.timeline.seconds.len()
    }

    /// Whether the site's capacity counts.
    pub fn counts(&self, site: usize) -> bool {
        self.scenario.bench.counts(site)
    }

    /// Capacity of the sites that are there, in CU/s.
    pub fn capacity(&self, second: &Second) -> f64 {
        let ours = second.sites.iter().enumerate().filter(|(at, _)| self.counts(*at));
        ours.map(|(_, site)| site.capacity).sum()
    }

    /// What they can carry of such requests, in CU/s.
    pub fn carries(&self, second: &Second) -> f64 {
        let ours = second.sites.iter().enumerate().filter(|(at, _)| self.counts(*at));
        ours.map(|(_, site)| site.carries).sum()
    }

    /// CU of one request, on the average of the whole run.
    pub fn cost(&self) -> f64 {
        let all = self.of(0..self.len());
        let cu: f64 = all.iter().map(|second| second.offered_cu).sum();
        let requests: u32 = all.iter().flat_map(|s| &s.tiers).map(|tier| tier.offered).sum();
        if requests == 0 { 1.0 } else { cu / f64::from(requests) }
    }

    /// Work of answers that became good in a stretch, at sites that count, in CU/s. The last
    /// second is left out: all that ends after the end is written there.
    pub fn goodput(&self, range: Range<usize>) -> f64 {
        let range = range.start..range.end.min(self.len().saturating_sub(1));
        let span = self.of(range);
        let good: f64 = span.iter().flat_map(|s| &s.tiers).map(|tier| tier.completed_cu).sum();
        let elsewhere: f64 = span.iter().map(|second| self.admitted(second, false)).sum();
        (good - elsewhere).max(0.0) / span.len().max(1) as f64
    }

    /// Work let in during a second, at sites that count or at the others.
    pub fn admitted(&self, second: &Second, counted: bool) -> f64 {
        let sites = second.sites.iter().enumerate().filter(|(at, _)| self.counts(*at) == counted);
        sites.flat_map(|(_, site)| &site.admitted_cu).sum()
    }

    /// Share of all admitted work that a site got in a stretch.
    pub fn share(&self, site: usize, range: Range<usize>) -> Option<f64> {
        let span = self.of(range);
        let work = |second: &Second, at: usize| -> f64 {
            second.sites.get(at).map_or(0.0, |site| site.admitted_cu.iter().sum())
        };
        let own: f64 = span.iter().map(|second| work(second, site)).sum();
        let all: f64 =
            span.iter().flat_map(|s| (0..s.sites.len()).map(move |at| work(s, at))).sum();
        (all > 0.0).then_some(own / all)
    }

    /// Windows in which shares can be told from chance, one after the other.
    pub fn windows(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let end = range.end.min(self.len());
        let span = self.of(range.clone());
        let requests: u32 = span.iter().flat_map(|s| &s.tiers).map(|tier| tier.offered).sum();
        let rate = f64::from(requests) / span.len().max(1) as f64;
        let wide = if rate > 0.0 { (ENOUGH / rate).ceil() as usize } else { usize::MAX };
        let wide = wide.max(WINDOW);
        let mut windows = Vec::new();
        let mut at = range.start;
        while at.checked_add(wide).is_some_and(|next| next <= end) {
            windows.push(at..at + wide);
            at += wide;
        }
        windows
    }

    /// How often a gateway let a site go in a stretch.
    pub fn departures(&self, (gateway, site): (u16, usize), range: &Range<usize>) -> usize {
        let own = self.verdicts().filter(|e| e.1 == gateway && usize::from(e.2) == site);
        let mut before = true;
        let mut count = 0;
        for (at, _, _, word) in own {
            let inside = (range.start as f64..range.end as f64).contains(at);
            count += usize::from(before && !is_up(word) && inside);
            before = is_up(word);
        }
        count
    }

    /// Changes between up and not up at a site, by any gateway.
    pub fn transitions(&self, site: usize, range: &Range<usize>) -> usize {
        let changes = |gateway: u16| {
            let own = self.verdicts().filter(move |each| each.1 == gateway);
            let own: Vec<&(f64, u16, u16, &str)> =
                own.filter(|each| usize::from(each.2) == site).collect();
            let mut before = true;
            let mut count = 0;
            for (at, _, _, word) in own {
                let is_up = is_up(word);
                let inside = (range.start as f64..range.end as f64).contains(at);
                count += usize::from(is_up != before && inside);
                before = is_up;
            }
            count
        };
        let mut gateways: Vec<u16> = self.verdicts().map(|each| each.1).collect();
        gateways.sort_unstable();
        gateways.dedup();
        gateways.into_iter().map(changes).sum()
    }

    fn verdicts(&self) -> impl Iterator<Item = &'a (f64, u16, u16, &'static str)> {
        self.timeline.health.iter()
    }

    /// When the first fault begins, in seconds.
    pub fn first_fault(&self) -> Option<usize> {
        self.scenario.faults.iter().map(|fault| fault.at.as_secs() as usize).min()
    }

    /// Whether faults that keep requests from sites act at this second, or did until a moment
    /// ago. What is promised to tiers is promised of capacity that can be reached.
    pub fn is_cut(&self, second: usize) -> bool {
        let acts = |fault: &&Fault| {
            let end = fault.until.unwrap_or(fault.at) + self.settles(fault);
            second + ANSWERED >= fault.at.as_secs() as usize && second < seconds(end)
        };
        self.scenario.faults.iter().filter(acts).any(|fault| keeps_away(&fault.kind))
    }

    /// How long a fault's end takes to be noticed.
    fn settles(&self, fault: &Fault) -> std::time::Duration {
        let restart = match fault.kind {
            FaultKind::CrashAll { restart, .. } | FaultKind::GatewayCrash { restart, .. } => {
                restart
            }
            _ => std::time::Duration::ZERO,
        };
        restart + std::time::Duration::from_secs(10)
    }

    /// Whether capacity is lost or comes back near this second: while answers that began now still
    /// run, or so lately that nobody can have reacted.
    pub fn is_step(&self, second: usize) -> bool {
        let near = |at: usize| (at.saturating_sub(ANSWERED)..at + 5).contains(&second);
        let step = |fault: &Fault| {
            near(fault.at.as_secs() as usize)
                || fault.until.is_some_and(|until| near(until.as_secs() as usize))
        };
        self.scenario.faults.iter().any(step)
    }
}

/// Whether a verdict is UP. Words are written as the facts have them, or as the documents do.
pub fn is_up(word: &str) -> bool {
    word.eq_ignore_ascii_case("up")
}

/// When the last fault has ended, in seconds; nothing where there is none.
pub fn last_fault_end(scenario: &Scenario) -> Option<usize> {
    scenario.faults.iter().map(fault_end).max()
}

/// When a fault has ended, in seconds: what crashed has started again, who was
/// released has asked.
pub fn fault_end(fault: &Fault) -> usize {
    let takes = match fault.kind {
        FaultKind::CrashAll { restart, .. } | FaultKind::GatewayCrash { restart, .. } => restart,
        FaultKind::Release { within, .. } => within,
        _ => std::time::Duration::ZERO,
    };
    seconds(fault.until.unwrap_or(fault.at) + takes)
}

fn keeps_away(kind: &FaultKind) -> bool {
    match kind {
        FaultKind::Link { part, .. } => *part != Part::Control,
        FaultKind::Partition { .. }
        | FaultKind::CrashAll { .. }
        | FaultKind::GatewayCrash { .. }
        | FaultKind::SiteDown { .. }
        | FaultKind::ControllerDown { .. }
        | FaultKind::ControllerCut { .. }
        | FaultKind::ResolverBlackhole { .. }
        | FaultKind::Poison { .. }
        | FaultKind::LoopLag { .. }
        | FaultKind::Slow { .. } => true,
        _ => false,
    }
}
