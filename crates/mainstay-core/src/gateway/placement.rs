//! Which target gets an attempt.
//!
//! The table of all targets with what this gateway believes and may send, and the pick: among the
//! eligible ones that are up, not tried and have room, the first in the operator's order that is
//! about as fast as the fastest. Health fails open when nothing else is left; admission never.

use crate::config::{Config, Continuation, Needs};
use crate::cost::CostUnits;
use crate::fact::Verdict;
use crate::gateway::credit::{Credit, Room, Window};
use crate::gateway::health::{Health, Timing};
use crate::gateway::held::Held;
use crate::gateway::latency::Latency;
use crate::gateway::request::Asked;
use crate::gateway::slow::Slow;
use crate::gateway::spill::Spill;
use crate::names::{ErrorClass, ModelId, SiteId, TargetId};
use crate::rng::Rng;
use crate::time::{Duration, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A target this many times slower to its first token than the fastest loses its place in the
/// operator's order; differences below `ALIKE` never count.
const SLOWER: u32 = 2;
/// See `SLOWER`.
const ALIKE: Duration = Duration::from_millis(200);
/// A target with more of its credit in use than this is hot: others come first.
const HOT: f64 = 0.85;
/// A prompt longer than this many times the window is believed not to fit; estimates are rough.
const ESTIMATE_SLACK: f64 = 1.0;
/// Pairings of labels and targets that are remembered as wrong: a policy has a handful of labels,
/// and what is forgotten is refused again.
const UNPAIRED_MAX: usize = 1024;

/// The part of a report's number that tells one life of this process from another; the rest is
/// enough for sixty years of reports.
const LIFE: u64 = !(u32::MAX as u64);

/// What a request needs of a target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Features.
    pub needs: Needs,
    /// Tokens of the prompt, estimated, and of what was relayed.
    pub prompt: u32,
    /// Most tokens the client wants, where it said so.
    pub max_tokens: Option<u32>,
    /// Size of the request's body.
    pub body: u64,
    /// Rank of its tier; 0 is the highest.
    pub rank: u8,
    /// What its target must have, see `config::Target::labels`.
    pub labels: u64,
    /// What it is predicted to cost a site of ours.
    pub cost: CostUnits,
    /// Hash of its session.
    pub session: u64,
    /// Where that session is at home.
    pub home: Option<TargetId>,
    /// Time left until its deadline.
    pub left: Duration,
    /// Where it was tried.
    pub asked: Asked,
    /// Whether only a site with credit may be asked.
    pub paid_only: bool,
    /// Whether it may be used to try a site that is not up.
    pub may_trickle: bool,
}

/// One target as this gateway sees it.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// What is believed of it.
    pub health: Health,
    /// What may be sent.
    pub credit: Credit,
    /// What is usual.
    pub latency: Latency,
    /// Refused for our key, bill or its name: not asked before this moment.
    pub parked: Option<(ErrorClass, Time)>,
    /// Refusals of our key, seen without a success since, and when the first was.
    pub auth_refusals: (u8, Time),
    /// When our key, bill or its name was last refused.
    pub refused_us: Time,
    /// Continuation was refused: off until then.
    pub continuation_off: Time,
    /// When it last broke a stream.
    pub broke_stream: Option<Time>,
    /// Context window, configured or learned.
    pub window: Option<u64>,
    /// Largest body, learned.
    pub body_max: Option<u64>,
    /// Whether its last outcome was good, or a site of ours replied at all: for when nothing better
    /// is left.
    pub last_good: bool,
    /// When it was last tried although it was not up and had not answered since.
    pub tried_anyway: Time,
    /// Average duration of an attempt.
    pub usual: Duration,
    /// Attempts that ended in the last two seconds.
    pub ended: Window,
    /// What a site of ours granted.
    pub held: Held,
    /// Its sessions that go elsewhere,
    pub spill: Spill,
    /// and whether all do, since it is slow.
    pub slow: Slow,
    /// Whether an order keeps new work from it.
    pub shut: bool,
    /// The most of it that an order lets be used, in hundredths.
    pub cap: u8,
    /// Whether it stays in use although probes speak against it: too little would be left.
    pub spared: bool,
    /// The verdict by which its spill was last steered.
    pub steered: Verdict,
    /// Whether its last probe failed, shallow and token, whatever own attempts say.
    pub fails_probes: [bool; 2],
}

impl Target {
    /// The verdict by which it is used.
    pub fn verdict(&self) -> Verdict {
        if self.spared { Verdict::Up } else { self.health.verdict() }
    }
}

/// Why no target was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absent {
    /// The soonest moment one may have room again.
    pub at: Option<Time>,
    /// Whether some eligible target was only full, not gone.
    pub full: bool,
    /// Whether some eligible target is parked, paused or not up.
    pub gone: bool,
    /// Targets that can never serve it: too small or without a feature.
    pub never: u32,
}

/// All targets.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    all: Vec<Target>,
    nodes: Vec<bool>,
    /// The first model that each serves as an equal.
    models: Vec<Option<ModelId>>,
    site_in_flight: Vec<u32>,
    has_indirect: bool,
    /// Labels that a site said are not its own.
    unpaired: BTreeSet<(u64, TargetId)>,
    /// Room for what a pick considers, kept so that it need not be allocated.
    usable: Vec<(TargetId, Duration, f64)>,
}

impl Targets {
    /// The targets of a configuration, all up and unmeasured.
    pub fn new(config: &Config) -> Targets {
        let mut targets = Targets::default();
        targets.site_in_flight.resize(config.sites.len(), 0);
        targets.grow(config);
        targets
    }

    /// Adds what the configuration has more than the table.
    pub fn grow(&mut self, config: &Config) {
        for target in &config.targets[self.all.len()..] {
            let window = target.window.map(u64::from);
            let usual = Duration::from_secs(1);
            let credit = Credit::new(config.limits.growth);
            let health = Health::new(&Timing::PUBLISHED, config.fleet.credit.mutants);
            let fresh = Target { health, ..Target::default() };
            self.all.push(Target { credit, window, last_good: true, usual, cap: 100, ..fresh });
            self.nodes.push(config.sites[usize::from(target.site.0)].is_node());
        }
        self.models.resize(self.all.len(), None);
        for (model, listed) in (0u16..).map(ModelId).zip(&config.models) {
            for id in &listed.served_by {
                self.models[usize::from(id.0)].get_or_insert(model);
            }
        }
    }

    /// Numbers the reports of targets of which nothing is known from a place of this life's own,
    /// see `Holder::starting_after`.
    pub fn number_reports(&mut self, rng: &mut Rng) {
        for known in self.all.iter_mut().filter(|known| known.held.reported().is_none()) {
            known.held = Held::starting_after(rng.bits() & LIFE);
        }
    }

    /// One target.
    pub fn get(&self, id: TargetId) -> &Target {
        &self.all[usize::from(id.0)]
    }

    /// One target, to change it.
    pub fn get_mut(&mut self, id: TargetId) -> &mut Target {
        &mut self.all[usize::from(id.0)]
    }

    /// Every target with its id.
    pub fn iter(&self) -> impl Iterator<Item = (TargetId, &Target)> {
        (0u16..).map(TargetId).zip(&self.all)
    }

    /// What was known of the same target before another policy.
    pub fn inherit(&mut self, id: TargetId, known: &mut Target, config: &Config) {
        let window = config.targets[usize::from(id.0)].window.map(u64::from);
        let fresh = self.get_mut(id);
        let mut kept = core::mem::take(known);
        kept.credit.forget_in_flight();
        *fresh = Target { window: window.or(kept.window), ..kept };
    }

    /// Looks whether probes alone took something out of use.
    pub fn note_indirect(&mut self) {
        self.has_indirect = self.all.iter().any(|known| known.health.is_indirect());
        if !self.has_indirect {
            self.all.iter_mut().for_each(|known| known.spared = false);
        }
    }

    /// Whether probes alone took something out of use, as of the last look.
    pub fn has_indirect(&self) -> bool {
        self.has_indirect
    }

    /// Whether it is at a site of ours.
    pub fn is_node(&self, id: TargetId) -> bool {
        self.nodes[usize::from(id.0)]
    }

    /// The first model that it serves as an equal.
    pub fn model_of(&self, id: TargetId) -> Option<ModelId> {
        self.models[usize::from(id.0)]
    }

    /// The site said that requests with these labels are not for it. True if that is news.
    pub fn unpair(&mut self, labels: u64, id: TargetId) -> bool {
        self.unpaired.len() < UNPAIRED_MAX && self.unpaired.insert((labels, id))
    }

    /// Whether its site has as many attempts in flight as it may.
    pub fn is_at_capacity(&self, config: &Config, id: TargetId) -> bool {
        let site = site_index(config, id);
        config.sites[site].capacity.is_some_and(|most| self.site_in_flight[site] >= most)
    }

    /// An attempt is sent.
    pub fn take(&mut self, config: &Config, id: TargetId, now: Time) {
        self.get_mut(id).credit.take(now);
        self.site_in_flight[site_index(config, id)] += 1;
    }

    /// An attempt ended after this long.
    pub fn give_back(&mut self, config: &Config, id: TargetId, now: Time, took: Duration) {
        let target = self.get_mut(id);
        target.credit.give_back();
        target.ended.add(now);
        target.usual = (target.usual * 7 + took) / 8;
        let site = site_index(config, id);
        self.site_in_flight[site] = self.site_in_flight[site].saturating_sub(1);
    }

    /// Whether `id` could ever serve `demand`.
    pub fn is_eligible(&self, config: &Config, id: TargetId, demand: &Demand) -> bool {
        let fixed = &config.targets[usize::from(id.0)];
        let target = self.get(id);
        let prompt = f64::from(demand.prompt);
        fixed.offers.covers(demand.needs)
            && fixed.labels & demand.labels == demand.labels
            && fixed.tiers & (1 << demand.rank.min(7)) != 0
            && !self.unpaired.contains(&(demand.labels, id))
            && target.window.is_none_or(|most| prompt <= most as f64 * ESTIMATE_SLACK)
            && target.body_max.is_none_or(|most| demand.body <= most)
            && match (fixed.output_max, demand.max_tokens) {
                (Some(most), Some(asked)) => asked <= most,
                _ => true,
            }
    }

    /// Whether `id` may be asked to continue a partial answer.
    pub fn continues(&self, config: &Config, id: TargetId, now: Time) -> Continuation {
        if now < self.get(id).continuation_off {
            return Continuation::None;
        }
        config.targets[usize::from(id.0)].continuation
    }

    /// Whether an attempt may be sent to `id` now; where not, `absent` learns why.
    pub fn has_room(
        &mut self,
        config: &Config,
        id: TargetId,
        (now, rank): (Time, u8),
        absent: &mut Absent,
    ) -> bool {
        if let Some((_, until)) = self.get(id).parked
            && now < until
        {
            absent.gone = true;
            absent.sooner(until);
            return false;
        }
        if self.is_at_capacity(config, id) {
            absent.full = true;
            return false;
        }
        match self.get_mut(id).credit.room(now, rank) {
            Room::Yes => true,
            Room::At(at) => {
                absent.full = true;
                absent.sooner(at);
                false
            }
            Room::Full => {
                absent.full = true;
                false
            }
        }
    }

    /// The target of `group` that should get the attempt, sites of ours left out.
    pub fn pick(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
        absent: &mut Absent,
    ) -> Option<TargetId> {
        let mut trickle = None;
        let mut usable = core::mem::take(&mut self.usable);
        usable.clear();
        for &id in group {
            let first = self.get(id).latency.first_token_usual();
            if self.is_node(id) || first > demand.left {
                continue;
            }
            if !self.is_eligible(config, id, demand) {
                absent.never += 1;
                continue;
            }
            if demand.asked.has(config, id)
                || self.is_shut(id, absent)
                || !self.has_room(config, id, (now, demand.rank), absent)
            {
                continue;
            }
            if self.get(id).verdict() == Verdict::Up {
                usable.push((id, first, self.use_share(config, id, now)));
            } else {
                absent.gone = true;
                trickle.get_or_insert(id);
            }
        }
        let best = best(&usable);
        self.usable = usable;
        trickle.filter(|id| self.get_mut(*id).health.takes_trickle(now)).or(best)
    }

    /// The target to fall back on when none is up, sites of ours left out: the one whose last
    /// outcome was best.
    pub fn pick_anyway(
        &mut self,
        config: &Config,
        groups: [&[TargetId]; 2],
        (now, demand): (Time, &Demand),
    ) -> Option<TargetId> {
        let mut absent = Absent::default();
        let mut found: Option<TargetId> = None;
        for &id in groups.into_iter().flatten() {
            let fits = !self.is_node(id)
                && self.is_eligible(config, id, demand)
                && !demand.asked.has(config, id)
                && !self.is_shut(id, &mut absent);
            if !fits || !self.has_room(config, id, (now, demand.rank), &mut absent) {
                continue;
            }
            if found.is_none_or(|f| self.get(id).last_good && !self.get(f).last_good) {
                found = Some(id);
            }
        }
        found
    }

    fn is_shut(&self, id: TargetId, absent: &mut Absent) -> bool {
        let is_shut = self.get(id).shut;
        absent.gone |= is_shut;
        is_shut
    }

    /// Requests a second that these will take of a tier, sites of ours left out; `None` where
    /// nothing bounds it.
    pub fn supply(
        &mut self,
        config: &Config,
        groups: [&[TargetId]; 2],
        (now, rank): (Time, u8),
    ) -> Option<f64> {
        let mut sum = 0.0;
        for &id in groups.into_iter().flatten() {
            let takes_tier = config.targets[usize::from(id.0)].tiers & (1 << rank.min(7)) != 0;
            if self.is_node(id) || !takes_tier {
                continue;
            }
            let target = self.get_mut(id);
            let usual = target.usual;
            let is_gone = target.shut
                || target.verdict() != Verdict::Up
                || target.parked.is_some_and(|(_, until)| now < until);
            let by_capacity = config.sites[site_index(config, id)]
                .capacity
                .map(|most| f64::from(most) / usual.as_secs_f64().max(0.001));
            let supply = match (target.credit.supply(now, usual), by_capacity) {
                (Some(a), Some(b)) => a.min(b),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) if is_gone => 0.0,
                (None, None) => return None,
            };
            sum += if is_gone { 0.0 } else { supply };
        }
        Some(sum)
    }

    fn use_share(&mut self, config: &Config, id: TargetId, now: Time) -> f64 {
        let site = site_index(config, id);
        let by_capacity = match config.sites[site].capacity {
            Some(most) => f64::from(self.site_in_flight[site]) / f64::from(most.max(1)),
            None => 0.0,
        };
        self.get_mut(id).credit.use_share(now).max(by_capacity)
    }
}

impl Absent {
    fn sooner(&mut self, at: Time) {
        self.at = Some(self.at.map_or(at, |known| known.min(at)));
    }
}

fn site_index(config: &Config, id: TargetId) -> usize {
    let SiteId(site) = config.targets[usize::from(id.0)].site;
    usize::from(site)
}

fn best(usable: &[(TargetId, Duration, f64)]) -> Option<TargetId> {
    let cold = usable.iter().filter(|(_, _, share)| *share <= HOT);
    let fastest = cold.clone().map(|(_, first, _)| *first).min();
    let Some(fastest) = fastest else {
        let by_share = |a: &&(TargetId, Duration, f64), b: &&(_, _, f64)| a.2.total_cmp(&b.2);
        return usable.iter().min_by(by_share).map(|(id, _, _)| *id);
    };
    let bound = (fastest * SLOWER).max(ALIKE);
    let mut alike = cold.filter(|(_, first, _)| *first <= bound);
    alike.next().map(|(id, _, _)| *id)
}
