//! Operators' orders and new policy, as they bear on where requests go.

use crate::config::Config;
use crate::cost::CostRate;
use crate::drill::End;
use crate::fact::{CreditFact, Fact, Outcome};
use crate::gateway::hearsay::Hearsay;
use crate::gateway::placement::Targets;
use crate::gateway::refusal;
use crate::gateway::request::State;
use crate::gateway::retry_budget::RetryBudget;
use crate::gateway::{Action, Close, Gateway};
use crate::in_service::{CONSIDERED_MAX, Evidence, in_service, judge};
use crate::message::{Offer, Order, Verb, ruling};
use crate::names::{AttemptId, ModelId, RequestId, SiteId, TargetId};
use crate::time::Time;
use alloc::vec::Vec;

/// The whole of a site, in hundredths.
const WHOLE: u8 = 100;

impl Gateway {
    /// These orders are in force now. What runs at a site that is killed moves at once, unless too
    /// little would be left for it.
    pub(super) fn order(&mut self, orders: Vec<Order>, actions: &mut Vec<Action>) {
        self.obey(orders, actions);
        let is_killed = |id: TargetId| {
            let site = self.config.targets[usize::from(id.0)].site;
            ruling(&self.orders, site) == Some(Verb::Kill)
        };
        let mut there: Vec<(AttemptId, TargetId)> = Vec::new();
        for (_, life) in self.lives.sorted() {
            if let State::Running(running) = &life.state
                && is_killed(running.target)
            {
                there.push((running.attempt, running.target));
            }
        }
        for (attempt, target) in there {
            self.judge_orders(attempt.request, actions);
            if self.targets.get(target).shut {
                actions.push(Action::GiveUp { attempt });
            }
        }
    }

    fn obey(&mut self, orders: Vec<Order>, actions: &mut Vec<Action>) {
        self.ignored.retain(|id| orders.iter().any(|order| order.id == *id));
        let fleet = &self.config.fleet;
        let judged = judge(orders.clone(), &fleet.service, fleet.credit.mutants);
        (self.ordered, self.orders) = (orders, judged.stand);
        for order in judged.ignored {
            if self.ignored.insert(order.id) {
                actions.push(ignored(&order));
            }
        }
        for at in 0..self.config.targets.len() {
            let id = TargetId(at as u16);
            let verb = ruling(&self.orders, self.config.targets[at].site);
            let known = self.targets.get_mut(id);
            known.shut = matches!(verb, Some(Verb::Drain | Verb::Kill));
            known.cap = match verb {
                Some(Verb::Cap(percent)) => percent.min(WHOLE),
                _ => WHOLE,
            };
        }
    }

    /// Judges which sites this request may go to, at the point of use: orders and probes leave
    /// enough in service, whatever they say.
    pub(super) fn judge_orders(&mut self, request: RequestId, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&request).filter(|_| self.has_removals()) else { return };
        let demand = life.demand(life.arrived);
        let model = &self.config.models[usize::from(life.ask.model.0)];
        let group = model.served_by.iter().chain(&model.substitutes);
        let mut eligible = [(SiteId(0), CostRate::ZERO); CONSIDERED_MAX];
        let (mut count, mut closed) = (0, Vec::new());
        for id in group.clone() {
            let site = self.config.targets[usize::from(id.0)].site;
            if !self.targets.is_eligible(&self.config, *id, &demand) {
                continue;
            }
            let held = &self.targets.get(*id).held;
            let is_known = eligible[..count].iter().any(|(known, _)| *known == site);
            if !is_known && count < CONSIDERED_MAX {
                eligible[count] = (site, self.config.fleet.service.planned(site));
                count += 1;
                if held.offer() != Offer::Open {
                    closed.push(site);
                }
            }
        }
        let fleet = &self.config.fleet;
        let indirect = self.indirect(&eligible[..count]);
        let evidence = Evidence { closed: &closed, indirect: &indirect };
        let least = fleet.service.least(fleet.credit.mutants);
        let kept = in_service(&eligible[..count], &self.orders, &evidence, least);
        for id in group {
            let site = self.config.targets[usize::from(id.0)].site;
            let place = eligible[..count].iter().position(|(known, _)| *known == site);
            let is_spared = indirect.iter().position(|known| *known == site);
            let known = self.targets.get_mut(*id);
            known.spared = is_spared.is_some_and(|at| kept.spared & (1 << at) != 0);
            // A site that only probes speak against is not shut: it gets its trickle.
            known.shut = place.is_some_and(|at| !kept.keeps(at)) && is_spared.is_none();
        }
        for (at, order) in self.orders.iter().enumerate().take(CONSIDERED_MAX) {
            if kept.ignored & (1 << at) != 0 && self.ignored.insert(order.id) {
                actions.push(ignored(order));
            }
        }
    }

    /// Whether orders or probes keep anything out of service.
    fn has_removals(&self) -> bool {
        let removes = |order: &Order| matches!(order.verb, Verb::Drain | Verb::Kill);
        self.is_fleet && (self.orders.iter().any(removes) || self.targets.has_indirect())
    }

    /// The sites that probes alone took out of use, the longest ago first.
    fn indirect(&self, eligible: &[(SiteId, CostRate)]) -> Vec<SiteId> {
        let mut out: Vec<(Time, SiteId)> = Vec::new();
        for (id, known) in self.targets.iter().filter(|(_, known)| known.health.is_indirect()) {
            let site = self.config.targets[usize::from(id.0)].site;
            let is_there = eligible.iter().any(|(known, _)| *known == site);
            if is_there && out.iter().all(|(_, known)| *known != site) {
                out.push((known.health.since(), site));
            }
        }
        out.sort_unstable();
        out.into_iter().map(|(_, site)| site).collect()
    }

    /// Another policy is in force. What is known of a target stays with its site's and model's
    /// names; requests whose model or running target is gone end.
    pub(super) fn adopt(&mut self, now: Time, config: Config, actions: &mut Vec<Action>) {
        self.end_drill(now, End::Policy, actions);
        let old = core::mem::replace(&mut self.config, config);
        let mut targets = Targets::new(&self.config);
        let moved: Vec<Option<TargetId>> =
            (0..old.targets.len()).map(|at| same_target(&old, &self.config, at)).collect();
        for (at, to) in moved.iter().enumerate() {
            if let Some(to) = to {
                targets.inherit(*to, self.targets.get_mut(TargetId(at as u16)), &self.config);
            }
        }
        targets.number_reports(&mut self.rng);
        self.targets = targets;
        self.listed = self.config.models.len();
        self.budgets.resize(self.config.tiers.len(), RetryBudget::default());
        self.has_nodes = self.config.sites.iter().any(|site| site.is_node());
        self.is_fleet = self.has_nodes || self.config.fleet.gateways > 1;
        self.panics.clear();
        self.demand = core::mem::take(&mut self.demand)
            .into_iter()
            .filter_map(|(model, known)| {
                let to = self.same_model(&old, ModelId(model))?;
                Some((to.0, known))
            })
            .collect();
        match &mut self.hearsay {
            known if known.peers_are(&self.config) => known.adopt(&self.config),
            known => *known = Hearsay::new(&self.config),
        }
        let orders = core::mem::take(&mut self.ordered);
        self.obey(orders, actions);
        self.move_lives(now, (&old, &moved), actions);
    }

    fn move_lives(
        &mut self,
        now: Time,
        (old, moved): (&Config, &[Option<TargetId>]),
        actions: &mut Vec<Action>,
    ) {
        let to = |id: TargetId| moved.get(usize::from(id.0)).copied().flatten();
        let requests: Vec<RequestId> = self.lives.sorted().iter().map(|(id, _)| *id).collect();
        for request in requests {
            let Some(asked) = self.lives.get(&request).map(|life| life.ask.model) else { continue };
            let model = self.same_model(old, asked);
            let last = self.config.tiers.len().saturating_sub(1) as u8;
            self.release(request);
            let Some(life) = self.lives.get_mut(&request) else { continue };
            let at = match &mut life.state {
                State::Running(running) => Some(&mut running.target),
                State::Waiting { target, .. } => Some(target),
                State::Holding { .. } => None,
            };
            let is_there = match at {
                Some(at) => to(*at).inspect(|id| *at = *id).is_some(),
                None => true,
            };
            life.ask.tier.0 = life.ask.tier.0.min(last);
            life.home = life.home.and_then(to);
            life.counted = None;
            life.asked.rename(to);
            life.no_native = life.no_native.iter().copied().filter_map(to).collect();
            match model {
                Some(model) if is_there => {
                    life.ask.model = model;
                    if let State::Running(running) = &life.state {
                        self.targets.take(&self.config, running.target, now);
                    }
                }
                _ => {
                    let message = "what this request was sent to is no longer configured";
                    let refusal = refusal::no_site(message, None);
                    let end = (Close::Error(refusal), Outcome::Failed);
                    self.close(now, request, end, actions);
                }
            }
        }
    }

    fn same_model(&self, old: &Config, id: ModelId) -> Option<ModelId> {
        let name = &old.models.get(usize::from(id.0))?.name;
        let at = self.config.models.iter().position(|model| model.name == *name)?;
        u16::try_from(at).ok().map(ModelId)
    }
}

fn ignored(order: &Order) -> Action {
    let fact = CreditFact::OrderIgnored { id: order.id, site: order.site };
    Action::Fact(Fact::Credit(fact))
}

/// Where the target at this position is now: the same model at the site of the same name.
fn same_target(old: &Config, new: &Config, at: usize) -> Option<TargetId> {
    let before = &old.targets[at];
    let site = &old.sites[usize::from(before.site.0)];
    let is_same = |target: &crate::config::Target| {
        let there = &new.sites[usize::from(target.site.0)];
        target.model == before.model && there.name == site.name && there.kind == site.kind
    };
    new.targets.iter().position(is_same).and_then(|at| u16::try_from(at).ok()).map(TargetId)
}
