//! Operators' orders, as they bear on where requests go.

use crate::cost::CostRate;
use crate::fact::{CreditFact, Fact};
use crate::gateway::request::State;
use crate::gateway::{Action, Gateway};
use crate::in_service::{CONSIDERED_MAX, Evidence, in_service, judge};
use crate::message::{Offer, Order, Verb, ruling};
use crate::names::{AttemptId, RequestId, SiteId, TargetId};
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

    /// Which of these orders stand, and what they leave of each target.
    pub(super) fn obey(&mut self, orders: Vec<Order>, actions: &mut Vec<Action>) {
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
}

fn ignored(order: &Order) -> Action {
    let fact = CreditFact::OrderIgnored { id: order.id, site: order.site };
    Action::Fact(Fact::Credit(fact))
}
