//! Where a request goes next: to a target, to wait a moment, or back to its client.

use crate::cost::{CostRate, CostUnits};
use crate::fact::{CreditFact, Fact, How, Outcome, Verdict};
use crate::gateway::nodes::tier_index;
use crate::gateway::placement::Absent;
use crate::gateway::refusal;
use crate::gateway::request::{Lesson, Life, Same, State};
use crate::gateway::{Action, Close, Gateway};
use crate::message::Offer;
use crate::names::{ModelId, RequestId, TargetId, TierId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Longest wait for room anywhere before a request is refused, and the pause between looks.
pub(super) const HOLD: Duration = Duration::from_millis(500);
const HOLD_LOOK: Duration = Duration::from_millis(25);
/// Requests of one tier that may wait for the next grant. A grant comes twice a second, so more
/// than this could not be placed in time by a gateway of a thousand requests a second.
const HELD_BACK_MAX: usize = 256;
/// Shortest time to come back that is told where none is known.
const BACK_UNKNOWN: Duration = Duration::from_secs(5);

impl Gateway {
    /// The step after a failure at `failed`, or the first step.
    pub(super) fn next_step(
        &mut self,
        now: Time,
        request: RequestId,
        failed: Option<(TargetId, Lesson)>,
        actions: &mut Vec<Action>,
    ) {
        self.unplan(request);
        self.judge_orders(request, actions);
        let mut absent = Absent::default();
        if let Some(chosen) = self.among_equals(now, request, &mut absent) {
            return self.start(now, request, chosen, actions);
        }
        if let Some((target, lesson)) = failed
            && self.returns(now, request, (target, lesson), actions)
        {
            return;
        }
        if let Some(chosen) = self.among_substitutes(now, request, &mut absent) {
            return self.start(now, request, chosen, actions);
        }
        if let Some(chosen) = self.in_panic(now, request, actions) {
            return self.start(now, request, chosen, actions);
        }
        self.hold_or_refuse(now, request, absent, actions);
    }

    /// A request looks for room, behind those of its tier and model that wait longer: what has come
    /// in since they looked is theirs first. Else each who arrives would take it, and they wait in
    /// vain.
    pub(super) fn look(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&request) else { return };
        self.wake_line(now, (life.ask.tier, life.ask.model), actions);
        // It may have been one of them.
        let still = |life: &Life| matches!(life.state, State::Holding { .. });
        if self.lives.get(&request).is_some_and(|life| still(life) && life.planned.is_none()) {
            self.next_step(now, request, None, actions);
        }
    }

    fn among_equals(
        &mut self,
        now: Time,
        request: RequestId,
        absent: &mut Absent,
    ) -> Option<(TargetId, How)> {
        let life = self.lives.get(&request)?;
        let mut demand = life.demand(now);
        // A trickle takes the lowest tier there is.
        let lowest = |known: &super::shed::Shedding| !known.has_below(demand.rank);
        demand.may_trickle &= self.demand.get(&life.ask.model.0).is_none_or(lowest);
        let group = &self.config.models[usize::from(life.ask.model.0)].served_by;
        let (config, targets, when) = (&self.config, &mut self.targets, (now, &demand));
        let chosen = targets
            .pick_trickle(config, group, when)
            .or_else(|| targets.pick_credited(config, group, when, absent))
            .or_else(|| targets.pick(config, group, when, absent))
            .or_else(|| targets.pick_unpaid(config, group, when))?;
        self.how(now, request, chosen).map(|how| (chosen, how))
    }

    fn among_substitutes(
        &mut self,
        now: Time,
        request: RequestId,
        absent: &mut Absent,
    ) -> Option<(TargetId, How)> {
        let life = self.lives.get(&request)?;
        let demand = life.demand(now);
        let model = &self.config.models[usize::from(life.ask.model.0)];
        if life.standing.answered && !model.substitutes_may_finish {
            return None;
        }
        let group = &model.substitutes;
        let (config, targets, when) = (&self.config, &mut self.targets, (now, &demand));
        let chosen = targets
            .pick_credited(config, group, when, absent)
            .or_else(|| targets.pick(config, group, when, absent))?;
        self.how(now, request, chosen).map(|how| (chosen, how))
    }

    /// Health fails open: a target that is not up, where those that are do not suffice.
    fn in_panic(
        &mut self,
        now: Time,
        request: RequestId,
        actions: &mut Vec<Action>,
    ) -> Option<(TargetId, How)> {
        let life = self.lives.get(&request)?;
        let (demand, asked) = (life.demand(now), life.ask.model);
        let model = &self.config.models[usize::from(asked.0)];
        let may_substitute = !life.standing.answered || model.substitutes_may_finish;
        let others = if may_substitute { &model.substitutes[..] } else { &[] };
        let wanted = self.demand.get(&asked.0).map_or(CostRate::ZERO, |known| known.all());
        let is_panic = self.targets.is_panic(&model.served_by, now, wanted);
        let failed = match is_panic {
            true => self.targets.pick_failed(&self.config, &model.served_by, (now, &demand)),
            false => None,
        };
        if failed.is_some() && self.panics.insert(asked) {
            actions.push(Action::Fact(Fact::Credit(CreditFact::PanicBegan { model: asked })));
        }
        let groups = [&model.served_by[..], others];
        let when = (now, &demand);
        let chosen = failed.or_else(|| self.targets.pick_anyway(&self.config, groups, when))?;
        self.how(now, request, chosen).map(|how| (chosen, how))
    }

    /// Waits at the same target, or starts there at once, where the lesson and the rule of one
    /// return per request allow it.
    fn returns(
        &mut self,
        now: Time,
        request: RequestId,
        (target, lesson): (TargetId, Lesson),
        actions: &mut Vec<Action>,
    ) -> bool {
        let wait = match lesson.same {
            Same::Never => return false,
            Same::After(low, high) => self.rng.between(low, high),
            // Up to a twentieth later than the site asked, never earlier.
            Same::WaitOut(wait) => self.rng.between(wait, wait.mul_f64(1.05)),
        };
        let Some(life) = self.lives.get_mut(&request) else { return false };
        if life.returned || now + wait >= life.deadline || self.targets.get(target).shut {
            return false;
        }
        life.returned = true;
        if wait.is_zero() {
            let how = self.how(now, request, target);
            return match how {
                Some(how) => {
                    self.start(now, request, (target, how), actions);
                    true
                }
                None => false,
            };
        }
        life.state = State::Waiting { target, until: now + wait };
        actions.push(Action::Fact(Fact::Waiting { request, target, wait }));
        self.plan(request);
        true
    }

    /// No target now: waits a moment for room, or ends the request.
    fn hold_or_refuse(
        &mut self,
        now: Time,
        request: RequestId,
        absent: Absent,
        actions: &mut Vec<Action>,
    ) {
        self.count_unplaced(request);
        let Some(life) = self.lives.get(&request) else { return };
        let State::Holding { give_up, .. } = life.state else {
            return self.fail(now, request, actions);
        };
        let soon = absent.at.is_none_or(|at| at <= give_up) && now < give_up;
        if absent.full && soon && self.may_hold(now, request) {
            let again = absent.at.map_or(now + HOLD_LOOK, |at| at.max(now + HOLD_LOOK / 25));
            return self.hold(request, (again.min(give_up), give_up));
        }
        self.release(request);
        let Some(life) = self.lives.get(&request) else { return };
        if !life.story.is_empty() {
            return self.fail(now, request, actions);
        }
        let model = &self.config.models[usize::from(life.ask.model.0)];
        let may_substitute = !life.standing.answered || model.substitutes_may_finish;
        let others = if may_substitute { model.substitutes.len() } else { 0 };
        let considered = model.served_by.len() + others;
        let has_prompt = life.demand(now).prompt > 0;
        let is_impossible = absent.never as usize >= considered && considered > 0;
        let back = self.back(now, request);
        let refusal = if is_impossible {
            self.impossible(request)
        } else if absent.full && !absent.gone {
            refusal::overloaded("every site for this model is full".into(), back)
        } else if absent.never > 0 && has_prompt {
            let message = "the sites that could take this request are not usable now, and the \
                           others are too small for it or lack a feature it needs";
            refusal::no_site(message, Some(back))
        } else if absent.full && self.is_ours(request) {
            refusal::overloaded("the sites that are left for this model are full".into(), back)
        } else {
            refusal::no_site("no site for this model is usable now", Some(back))
        };
        let is_mine = refusal.status >= 500;
        let outcome = if is_mine { Outcome::Refused } else { Outcome::Rejected };
        self.close(now, request, (Close::Error(refusal), outcome), actions);
    }

    /// Whether this request may wait for room: at providers, where more is asked than there is
    /// room for, only one of the highest tier; at sites of ours as many as there are places.
    fn may_hold(&mut self, now: Time, request: RequestId) -> bool {
        let Some(life) = self.lives.get(&request) else { return false };
        let tier = life.ask.tier;
        if self.is_ours(request) {
            let (asked, place) = (life.ask.model, life.place(request));
            return self.held_back.contains(&place) || self.has_place(now, asked, tier);
        }
        let is_short = self.demand.get(&life.ask.model.0).is_some_and(|known| known.is_short);
        !is_short || tier.0 == 0
    }

    /// Whether one more request of this tier may wait for credit: where every site that is well
    /// gave the tier less than was asked for, only one that what comes in half the time that it may
    /// wait leaves anything for. Whoever waits for nothing is better told so at once.
    fn has_place(&mut self, now: Time, asked: ModelId, tier: TierId) -> bool {
        let (mut waiting, mut ahead) = (0, CostUnits::ZERO);
        for request in self.line(tier, asked) {
            waiting += 1;
            ahead += self.lives.get(&request).map_or(CostUnits::ZERO, |life| life.ask.cost);
        }
        if waiting >= HELD_BACK_MAX {
            return false;
        }
        let (mut is_known, mut coming) = (false, CostUnits::ZERO);
        for id in &self.config.models[usize::from(asked.0)].served_by {
            let is_ours = self.targets.is_node(*id);
            let known = self.targets.get_mut(*id);
            let is_open = known.held.offer() == Offer::Open && !known.shut;
            if is_ours && is_open && known.verdict() == Verdict::Up {
                match known.held.coming(now, tier_index(tier), HOLD / 2) {
                    Some(more) => (is_known, coming) = (true, coming + more),
                    None => return true,
                }
            }
        }
        !is_known || coming > ahead
    }

    fn hold(&mut self, request: RequestId, (again, give_up): (Time, Time)) {
        let is_ours = self.is_ours(request);
        let Some(life) = self.lives.get_mut(&request) else { return };
        life.state = State::Holding { again, give_up };
        if is_ours {
            self.held_back.insert(life.place(request));
        }
        self.plan(request);
    }

    /// The request waits no more for a grant.
    pub(super) fn release(&mut self, request: RequestId) {
        if self.held_back.is_empty() {
            return;
        }
        if let Some(life) = self.lives.get(&request) {
            self.held_back.remove(&life.place(request));
        }
    }

    /// Whether sites of ours serve the model it asked for.
    pub(super) fn is_ours(&self, request: RequestId) -> bool {
        let Some(life) = self.lives.get(&request) else { return false };
        let model = &self.config.models[usize::from(life.ask.model.0)];
        model.served_by.iter().any(|id| self.targets.is_node(*id))
    }

    /// When a request like this one may come back. Where sites of ours are full, returns are
    /// spread over the time it takes to serve them; else it is the soonest end of a pause, a
    /// parking or a hold among its targets.
    pub(super) fn back(&mut self, now: Time, request: RequestId) -> Duration {
        let Some(life) = self.lives.get(&request) else { return BACK_UNKNOWN };
        let asked = life.ask.model;
        let what = (asked, life.ask.tier, life.ask.cost);
        if self.is_ours(request) {
            return self.back_after(now, what);
        }
        let model = &self.config.models[usize::from(asked.0)];
        let all = model.served_by.iter().chain(&model.substitutes);
        let times = all.filter_map(|id| {
            let known = self.targets.get(*id);
            let parked = known.parked.map(|(_, until)| until).filter(|until| *until > now);
            let paused = known.credit.paused_until(now);
            let is_up = known.health.verdict() == Verdict::Up;
            match (parked, paused) {
                (Some(at), _) => Some(at.since(now)),
                (None, Some(at)) => Some(at.since(now)),
                (None, None) => is_up.then_some(Duration::from_secs(1)),
            }
        });
        let soonest = times.min().unwrap_or(BACK_UNKNOWN);
        let spread = self.rng.between(soonest.mul_f64(0.8), soonest.mul_f64(1.2));
        spread.max(Duration::from_secs(1))
    }
}
