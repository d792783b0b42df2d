//! The books: every request a user offered has exactly one outcome, however often a library
//! repeats it.

use crate::outcome::{Run, Second, Site, SiteSecond, Tier, TierSecond, Timeline};
use crate::scenario::Scenario;
use mainstay_core::time::Duration;
use std::collections::BTreeMap;

/// Marks a timeline keeps.
const MARKS_MAX: usize = 2000;

/// What became of one offered request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A whole answer within the promise.
    Good,
    /// The last try was told no, with a time to come back.
    Shed,
    /// All else.
    Failed,
}

/// Counts and the timeline.
#[derive(Debug)]
pub struct Ledger {
    /// Second by second.
    pub timeline: Timeline,
    /// Client tries.
    pub tries: u64,
    /// Attempts at sites.
    pub attempts: u64,
    /// Requests offered and not ended.
    pub open: u64,
    /// When the last fault ends.
    calm: Duration,
    names: Vec<String>,
}

impl Ledger {
    /// Empty books for the scenario's length.
    pub fn new(scenario: &Scenario) -> Ledger {
        let bench = &scenario.bench;
        let site = SiteSecond { admitted_cu: vec![0.0; bench.tiers.len()], ..Default::default() };
        let second = Second {
            tiers: vec![TierSecond::default(); bench.tiers.len()],
            sites: vec![site; bench.sites.len()],
            ..Second::default()
        };
        let names: Vec<String> = bench.tiers.iter().map(|t| t.name.clone()).collect();
        let seconds = scenario.duration.as_secs_f64().ceil() as usize;
        let faults = scenario.faults.iter().map(|fault| {
            let name: String =
                format!("{:?}", fault.kind).chars().take_while(|c| c.is_alphanumeric()).collect();
            (name, fault.at.as_secs_f64(), fault.until.map(|until| until.as_secs_f64()))
        });
        Ledger {
            timeline: Timeline {
                tiers: names.clone(),
                sites: bench.sites.iter().map(|s| s.name.clone()).collect(),
                seconds: vec![second; seconds.max(1)],
                faults: faults.collect(),
                ..Timeline::default()
            },
            tries: 0,
            attempts: 0,
            open: 0,
            calm: Duration::from_secs(crate::measure::last_fault_end(scenario).unwrap_or(0) as u64),
            names,
        }
    }

    /// The second that `since` the start lies in; what comes after the end counts into the last.
    pub fn second(&mut self, since: Duration) -> &mut Second {
        let last = self.timeline.seconds.len() - 1;
        &mut self.timeline.seconds[(since.as_secs() as usize).min(last)]
    }

    /// A user asks.
    pub fn offered(&mut self, since: Duration, tier: u8, cost: f64) {
        self.open += 1;
        let second = self.second(since);
        second.offered_cu += cost;
        let counts = &mut second.tiers[usize::from(tier)];
        counts.offered += 1;
        counts.offered_cu += cost;
    }

    /// A try reaches a gateway: of a request that was offered earlier, while something was broken,
    /// it is work that was put off.
    pub fn comes(&mut self, (asked, now): (Duration, Duration), cost: f64) {
        if asked < self.calm && asked.as_secs() < now.as_secs() {
            self.second(now).put_off_cu += cost;
        }
    }

    /// What became of it.
    pub fn ended(&mut self, (asked, now): (Duration, Duration), what: (u8, f64), fate: Fate) {
        self.open -= 1;
        let (tier, cost) = (usize::from(what.0), what.1);
        let counts = &mut self.second(asked).tiers[tier];
        match fate {
            Fate::Good => counts.good += 1,
            Fate::Shed => counts.shed += 1,
            Fate::Failed => counts.failed += 1,
        }
        if fate == Fate::Good {
            let counts = &mut self.second(now).tiers[tier];
            counts.completed += 1;
            counts.completed_cu += cost;
        }
    }

    /// A decision worth a mark.
    pub fn mark(&mut self, since: Duration, node: String, words: String) {
        if self.timeline.marks.len() < MARKS_MAX {
            self.timeline.marks.push((since.as_secs_f64(), node, words));
        }
    }

    /// Totals into the run.
    pub fn fill(&self, run: &mut Run) {
        run.by_tier = self.tiers();
        run.sites = self.sites();
        run.attempts_per_request = self.attempts as f64 / (self.tries.max(1)) as f64;
        let ups = transitions(&self.timeline);
        run.transitions = ups.values().sum();
        for (site, count) in ups {
            let name = &self.timeline.sites[usize::from(site)];
            if let Some(site) = run.sites.get_mut(name) {
                site.transitions = count;
            }
        }
    }

    fn tiers(&self) -> BTreeMap<String, Tier> {
        let mut all = BTreeMap::new();
        for (at, name) in self.names.iter().enumerate() {
            let mut tier = Tier::default();
            for counts in self.timeline.seconds.iter().map(|second| second.tiers[at]) {
                tier.offered += u64::from(counts.offered);
                tier.good += u64::from(counts.good);
                tier.shed += u64::from(counts.shed);
                tier.failed += u64::from(counts.failed);
            }
            let offered = tier.offered as f64;
            tier.goodput_ratio = if offered > 0.0 { tier.good as f64 / offered } else { 1.0 };
            all.insert(name.clone(), tier);
        }
        all
    }

    fn sites(&self) -> BTreeMap<String, Site> {
        let names = self.timeline.sites.iter().enumerate();
        names.map(|(at, name)| (name.clone(), self.site(at))).collect()
    }

    fn site(&self, at: usize) -> Site {
        let mut site = Site::default();
        let mut used: Vec<f64> = Vec::new();
        for second in self.timeline.seconds.iter().map(|second| &second.sites[at]) {
            let admitted: f64 = second.admitted_cu.iter().sum();
            site.offered_cu += second.offered_cu;
            site.admitted_cu += admitted;
            site.refused += u64::from(second.refused);
            if second.capacity > 0.0 {
                used.push(admitted / second.capacity);
                let over = second.credited_cu / second.capacity - 1.0;
                site.overshoot_max = site.overshoot_max.max(over);
            }
        }
        used.sort_unstable_by(f64::total_cmp);
        site.utilisation_p99 = used.get(used.len() * 99 / 100).copied().unwrap_or(0.0);
        site.share_swing = self.swing(at);
        site
    }

    /// Peak to peak of the site's share of all work over ten seconds each, before the first fault.
    fn swing(&self, at: usize) -> f64 {
        const WINDOW: usize = 10;
        let all = &self.timeline.seconds;
        let first = self.timeline.faults.iter().map(|fault| fault.1).fold(f64::MAX, f64::min);
        let sound = &all[..all.len().min(first as usize)];
        let shares = sound.windows(WINDOW).skip(2 * WINDOW).map(|window| {
            let admitted = |site: &SiteSecond| site.admitted_cu.iter().sum::<f64>();
            let mine: f64 = window.iter().map(|s| admitted(&s.sites[at])).sum();
            let total: f64 = window.iter().flat_map(|s| s.sites.iter().map(admitted)).sum();
            if total > 0.0 { mine / total } else { 0.0 }
        });
        let (low, high) = shares.fold((f64::MAX, 0.0f64), |(l, h), s| (l.min(s), h.max(s)));
        (high - low).max(0.0)
    }
}

/// Changes between up and not up, by site.
fn transitions(timeline: &Timeline) -> BTreeMap<u16, u64> {
    let mut before: BTreeMap<(u16, u16), bool> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for (_, gateway, site, verdict) in &timeline.health {
        let is_up = *verdict == "up";
        if before.insert((*gateway, *site), is_up).unwrap_or(true) != is_up {
            *counts.entry(*site).or_default() += 1;
        }
    }
    counts
}
