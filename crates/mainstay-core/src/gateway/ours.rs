//! Which site of ours gets an attempt.
//!
//! Where there is credit, the session's home comes first, for its prefix cache; else the site that
//! is expected to answer first among those with some credit left. Without credit one unpaid
//! attempt may be made, and the site decides. Health fails open when what is held does not
//! suffice; admission never.

use crate::config::Config;
use crate::cost::CostRate;
use crate::fact::Verdict;
use crate::gateway::placement::{Absent, Demand, Targets};
use crate::message::Offer;
use crate::names::TargetId;
use crate::time::{Duration, Time};

/// A site with more of its held credit in use than this, in hundredths, is hot: others come first.
const HOT: u64 = 85;

/// Where nothing answers, one attempt in so long: as often as a trickle, whatever is asked. It took
/// half of all attempts where a controller was gone for hours.
const ANYWAY: Duration = Duration::from_secs(1);

impl Targets {
    /// The node of `group` where the session is at home. Homes are ranges of one circle, in the
    /// operator's order, so that a small change of shares moves few sessions.
    pub fn home(&self, config: &Config, group: &[TargetId], session: u64) -> Option<TargetId> {
        let share = |id: &TargetId| match self.is_node(*id) {
            true => u64::from(config.targets[usize::from(id.0)].home),
            false => 0,
        };
        place(group, session, share)
    }

    /// Where a request is wanted that is not placed: at home, or where its session falls among
    /// the sites that are up, by what they carry.
    pub fn wanted_at(
        &self,
        group: &[TargetId],
        (home, session): (Option<TargetId>, u64),
    ) -> Option<TargetId> {
        let is_up = |id: TargetId| {
            let known = self.get(id);
            self.is_node(id) && !known.shut && known.verdict() == Verdict::Up
        };
        if let Some(home) = home.filter(|home| is_up(*home)) {
            return Some(home);
        }
        let share = |id: &TargetId| match is_up(*id) {
            true => self.get(*id).held.capacity().0.max(1),
            false => 0,
        };
        place(group, session, share)
    }

    /// A node that is not up and should get this request to be tried again.
    pub fn pick_trickle(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
    ) -> Option<TargetId> {
        if !demand.may_trickle {
            return None;
        }
        let suits = |all: &mut Targets, id: TargetId| {
            all.is_open_node(config, id, demand)
                && all.get(id).verdict() != Verdict::Up
                && all.get_mut(id).health.takes_trickle(now)
        };
        group.iter().copied().find(|id| suits(self, *id))
    }

    /// The node of `group` that should get the attempt, paid for with credit.
    pub fn pick_credited(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
        absent: &mut Absent,
    ) -> Option<TargetId> {
        let tier = usize::from(demand.rank);
        let mut found: Option<(bool, bool, Duration, u64, TargetId)> = None;
        for &id in group {
            if !self.is_node(id) {
                continue;
            }
            if !self.is_eligible(config, id, demand) {
                absent.never += 1;
                continue;
            }
            let known = self.get(id);
            if known.shut || known.verdict() != Verdict::Up {
                absent.gone = true;
                continue;
            }
            absent.full = true;
            let first = known.held.first_token();
            if demand.asked.has(config, id) || first > demand.left {
                continue;
            }
            if self.is_at_capacity(config, id) || !self.get_mut(id).held.has_credit(now, tier) {
                continue;
            }
            let known = self.get(id);
            if demand.home == Some(id) && known.spill.keeps(spread(demand.session)) {
                return Some(id);
            }
            let (slow, used) = (known.slow.is_slow(), known.held.used(now));
            let rank = match used <= HOT {
                true => (slow, false, first, 0, id),
                false => (slow, true, Duration::ZERO, used, id),
            };
            found = Some(found.map_or(rank, |best| best.min(rank)));
        }
        let (slow, .., found) = found?;
        let unpaid = match slow {
            // By chance there is credit only where it is slow: others may have room all the same.
            true => self.pick_unpaid(config, group, (now, demand)),
            false => self.pick_home(config, group, (now, demand)),
        };
        Some(unpaid.unwrap_or(found))
    }

    /// The home, for an attempt that could only be paid for elsewhere: of a few requests in half a
    /// second chance alone leaves a tenth without credit, and their prefix caches are at home.
    /// Only while credit suffices on the whole; the site decides, and a refusal sends it to where
    /// there is credit.
    pub fn pick_home(
        &self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
    ) -> Option<TargetId> {
        let home = demand.home.filter(|home| group.contains(home))?;
        let known = self.get(home);
        known.held.rates(now)?;
        let is_calm = known.spill.keeps(spread(demand.session)) && known.spill.has_room();
        let may = is_calm && !demand.paid_only && self.may_unpaid(config, home, (now, demand));
        may.then_some(home)
    }

    /// Whether an unpaid attempt may be made at this node.
    fn may_unpaid(&self, config: &Config, id: TargetId, (now, demand): (Time, &Demand)) -> bool {
        let known = self.get(id);
        self.is_open_node(config, id, demand)
            && known.verdict() == Verdict::Up
            && known.held.may_speculate(now, usize::from(demand.rank))
            && known.cap == 100
            && known.held.first_token() <= demand.left
    }

    /// The node that should get an unpaid attempt: the home if it is up, else one by lot, weighed
    /// by the room known: many that lose their site at once must not all go to the same other one.
    /// A request makes one, and none after a site refused it for load.
    pub fn pick_unpaid(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
    ) -> Option<TargetId> {
        if demand.paid_only {
            return None;
        }
        let may = |id: TargetId| self.may_unpaid(config, id, (now, demand));
        // What was moved away for want of credit stays away without any: no load changes.
        let keeps = |id: TargetId| self.get(id).spill.keeps(spread(demand.session));
        if let Some(home) = demand.home.filter(|id| group.contains(id) && may(*id) && keeps(*id)) {
            return Some(home);
        }
        // By known room; where none is known by what they carry, and else evenly. Slow ones only
        // where no other may.
        let is_slow = |id: TargetId| self.get(id).slow.is_slow();
        let has_other = group.iter().any(|id| may(*id) && !is_slow(*id));
        let room = |id: &TargetId| match may(*id) && !(has_other && is_slow(*id)) {
            true => {
                let held = &self.get(*id).held;
                held.spare(config.fleet.gateways).max(held.offered().percent(1)).0.max(1)
            }
            false => 0,
        };
        place(group, spread(demand.session), room)
    }

    /// Whether what is held at the nodes of `group` that are up falls short of `wanted` while
    /// others are not up.
    pub fn is_panic(&self, group: &[TargetId], now: Time, wanted: CostRate) -> bool {
        let (mut usable, mut has_failed) = (CostRate::ZERO, false);
        for &id in group {
            let known = self.get(id);
            if !self.is_node(id) || known.shut {
                continue;
            }
            match known.verdict() {
                Verdict::Up => {
                    let held = known.held.rates(now);
                    usable += held.map_or(CostRate::ZERO, |(rates, standby)| rates + standby);
                }
                Verdict::Suspect | Verdict::Down | Verdict::Probation => has_failed = true,
            }
        }
        has_failed && usable < wanted
    }

    /// The node to try although it is not up: one that still grants first, then by last outcomes.
    /// One that gave the last attempt no sign of life gets few, and more as soon as it gives one.
    pub fn pick_failed(
        &mut self,
        config: &Config,
        group: &[TargetId],
        (now, demand): (Time, &Demand),
    ) -> Option<TargetId> {
        let tier = usize::from(demand.rank);
        let fits = |id: &TargetId| {
            let known = self.get(*id);
            self.is_open_node(config, *id, demand)
                && known.verdict() != Verdict::Up
                && known.held.may_speculate(now, tier)
                && (known.last_good || now.since(known.tried_anyway) >= ANYWAY)
        };
        let rank = |id: &TargetId| {
            let known = self.get(*id);
            (known.held.rates(now).is_none(), !known.last_good, known.held.srtt(), *id)
        };
        let found = group.iter().copied().filter(fits).min_by_key(rank)?;
        self.get_mut(found).tried_anyway = now;
        Some(found)
    }

    /// Work a second that the nodes of `group` will take from this gateway; `None` where one of
    /// them that is up has not said. One that is not up and still grants is there: in a panic it
    /// is tried, so nothing is refused at the door that it has room for.
    pub fn supply_of_nodes(
        &self,
        group: &[TargetId],
        (now, gateways): (Time, u16),
    ) -> Option<CostRate> {
        let mut sum = CostRate::ZERO;
        for &id in group {
            let known = self.get(id);
            if !self.is_node(id) || known.shut || known.held.offer() != Offer::Open {
                continue;
            }
            sum += match (known.verdict(), known.held.rates(now)) {
                (Verdict::Up, _) => known.held.supply(now)?,
                (_, Some((rates, standby))) => known.held.part(gateways).max(rates + standby),
                (_, None) => CostRate::ZERO,
            };
        }
        Some(sum)
    }

    /// Whether credit of this tier lies unused at a node of `group` that takes work.
    pub fn has_unused(&mut self, group: &[TargetId], (now, tier): (Time, usize)) -> bool {
        group.iter().any(|id| {
            let known = self.get(*id);
            let is_open =
                !known.shut && known.verdict() == Verdict::Up && known.held.offer() == Offer::Open;
            self.is_node(*id) && is_open && self.get_mut(*id).held.has_unused(now, tier)
        })
    }

    /// What the nodes of `group` that are there, as far as their grants tell, offer to all
    /// gateways; of those that are not, what they did, if none is.
    pub fn offered(&self, group: &[TargetId], now: Time) -> CostRate {
        let nodes = group.iter().filter(|id| self.is_node(**id) && !self.get(**id).shut);
        let is_there = |id: &&TargetId| {
            let known = self.get(**id);
            known.verdict() == Verdict::Up || known.held.rates(now).is_some()
        };
        let offer = |id: &TargetId| self.get(*id).held.offered();
        let there: CostRate = nodes.clone().filter(is_there).map(offer).sum();
        if there > CostRate::ZERO { there } else { nodes.map(offer).sum() }
    }

    fn is_open_node(&self, config: &Config, id: TargetId, demand: &Demand) -> bool {
        self.is_node(id)
            && !self.get(id).shut
            && !demand.asked.has(config, id)
            && !self.is_at_capacity(config, id)
            && self.is_eligible(config, id, demand)
    }
}

/// Another hash of the same thing, so that two choices by it do not go together. The finalizer of
/// SplitMix64.
pub fn spread(hash: u64) -> u64 {
    let z = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The one of `group` in whose range of the circle `session` falls; ranges are as wide as shares.
fn place(group: &[TargetId], session: u64, share: impl Fn(&TargetId) -> u64) -> Option<TargetId> {
    let whole: u64 = group.iter().map(&share).sum();
    let mut point = ((u128::from(session) * u128::from(whole)) >> 64) as u64;
    group.iter().copied().find(|id| {
        let share = share(id);
        let is_here = point < share;
        point = point.saturating_sub(share);
        is_here
    })
}
