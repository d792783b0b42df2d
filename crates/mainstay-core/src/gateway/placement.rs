//! Which target gets an attempt.
//!
//! The table of all targets with what this gateway believes and may send, and the pick: among the
//! eligible ones that are up, not tried and have room, the first in the operator's order that is
//! about as fast as the fastest. Health fails open when nothing else is left; admission never.

use crate::config::{Config, Continuation, Needs};
use crate::fact::Verdict;
use crate::gateway::credit::{Credit, Room, Window};
use crate::gateway::health::Health;
use crate::gateway::latency::Latency;
use crate::names::{ErrorClass, SiteId, TargetId};
use crate::time::{Duration, Time};
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
    /// Whether its last outcome was good, for when nothing better is left.
    pub last_good: bool,
    /// Average duration of an attempt.
    pub usual: Duration,
    /// Attempts that ended in the last two seconds.
    pub ended: Window,
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
#[derive(Clone, Debug)]
pub struct Targets {
    all: Vec<Target>,
    site_in_flight: Vec<u32>,
}

impl Targets {
    /// The targets of a configuration, all up and unmeasured.
    pub fn new(config: &Config) -> Targets {
        let mut targets = Targets { all: Vec::new(), site_in_flight: Vec::new() };
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
            let known = Target { credit, window, last_good: true, usual, ..Target::default() };
            self.all.push(known);
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
        let site = &config.sites[site_index(config, id)];
        let in_flight = self.site_in_flight[site_index(config, id)];
        if let Some((_, until)) = self.get(id).parked
            && now < until
        {
            absent.gone = true;
            absent.sooner(until);
            return false;
        }
        if site.capacity.is_some_and(|most| in_flight >= most) {
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

    /// The target of `group` that should get the attempt, not one for which `avoid` is true.
    pub fn pick(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
        avoid: &dyn Fn(TargetId) -> bool,
        absent: &mut Absent,
    ) -> Option<TargetId> {
        let mut trickle = None;
        let mut usable: Vec<(TargetId, Duration, f64)> = Vec::new();
        for &id in group {
            if !self.is_eligible(config, id, demand) {
                absent.never += 1;
                continue;
            }
            if avoid(id) || !self.has_room(config, id, (now, demand.rank), absent) {
                continue;
            }
            if self.get(id).health.verdict() == Verdict::Up {
                let share = self.use_share(config, id, now);
                usable.push((id, self.get(id).latency.first_token_usual(), share));
            } else {
                absent.gone = true;
                trickle.get_or_insert(id);
            }
        }
        if let Some(id) = trickle
            && self.get_mut(id).health.takes_trickle(now)
        {
            return Some(id);
        }
        best(&usable)
    }

    /// The target to fall back on when none is up: the one whose last outcome was best.
    pub fn pick_anyway(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
        avoid: &dyn Fn(TargetId) -> bool,
    ) -> Option<TargetId> {
        let mut absent = Absent::default();
        let mut found: Option<TargetId> = None;
        for &id in group {
            let fits = self.is_eligible(config, id, demand) && !avoid(id);
            if !fits || !self.has_room(config, id, (now, demand.rank), &mut absent) {
                continue;
            }
            if found.is_none_or(|f| self.get(id).last_good && !self.get(f).last_good) {
                found = Some(id);
            }
        }
        found
    }

    /// Requests a second that `group` will take; `None` where nothing bounds it.
    pub fn supply(&mut self, config: &Config, group: &[TargetId], now: Time) -> Option<f64> {
        let mut sum = 0.0;
        for &id in group {
            let target = self.get_mut(id);
            let usual = target.usual;
            let is_gone = target.health.verdict() != Verdict::Up
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
