//! Another policy comes into force while requests run.
//!
//! Positions change their meaning, names do not. What is known of a target stays with its site's
//! and model's names. No request ends for it that can go on: an attempt that runs runs to its end,
//! also where the new policy does not know its site or its model any more; only nothing new goes
//! there. What did not run yet and waits for a model that is gone ends with an error.

use crate::config::{Config, Model, Site, Target};
use crate::drill::End;
use crate::fact::Outcome;
use crate::gateway::catalog::learn;
use crate::gateway::choose::HOLD;
use crate::gateway::hearsay::Hearsay;
use crate::gateway::placement::Targets;
use crate::gateway::refusal;
use crate::gateway::request::State;
use crate::gateway::retry_budget::RetryBudget;
use crate::gateway::{Action, Close, Gateway};
use crate::names::{ModelId, RequestId, SiteId, TargetId, TierId};
use crate::time::Time;
use alloc::string::String;
use alloc::vec::Vec;

/// Where positions of the policy before are now.
struct Moved {
    targets: Vec<Option<TargetId>>,
    models: Vec<Option<ModelId>>,
    tiers: Vec<TierId>,
}

impl Moved {
    fn target(&self, id: TargetId) -> Option<TargetId> {
        self.targets.get(usize::from(id.0)).copied().flatten()
    }

    fn model(&self, id: ModelId) -> Option<ModelId> {
        self.models.get(usize::from(id.0)).copied().flatten()
    }

    /// A tier that is gone counts as the lowest.
    fn tier(&self, id: TierId) -> TierId {
        self.tiers.get(usize::from(id.0)).copied().unwrap_or_default()
    }
}

impl Gateway {
    /// Another policy is in force.
    pub(super) fn adopt(&mut self, now: Time, config: Config, actions: &mut Vec<Action>) {
        self.end_drill(now, End::Policy, actions);
        let old = core::mem::replace(&mut self.config, config);
        self.listed = self.config.models.len();
        let moved = self.keep_what_runs(&old);
        let mut targets = Targets::new(&self.config);
        for (at, to) in moved.targets.iter().enumerate() {
            if let Some(to) = to {
                targets.inherit(*to, self.targets.get_mut(TargetId(at as u16)), &self.config);
            }
        }
        targets.number_reports(&mut self.rng);
        self.targets = targets;
        self.move_budgets(&old);
        self.has_nodes = self.config.sites.iter().any(|site| site.is_node());
        self.is_fleet = self.has_nodes || self.config.fleet.gateways > 1;
        self.panics.clear();
        self.demand = core::mem::take(&mut self.demand)
            .into_iter()
            .filter_map(|(model, known)| Some((moved.model(ModelId(model))?.0, known)))
            .collect();
        match &mut self.hearsay {
            known if known.peers_are(&self.config) => known.adopt(&self.config),
            known => *known = Hearsay::new(&self.config),
        }
        let mut orders = core::mem::take(&mut self.ordered);
        orders.retain_mut(|order| match order.site {
            Some(site) => {
                order.site = same_site(&old, &self.config, site);
                order.site.is_some()
            }
            None => true,
        });
        self.obey(orders, actions);
        self.move_lives(now, &moved, actions);
    }

    /// Where everything is now. What runs where the new policy knows no target gets one behind the
    /// others, which no model leads to, and so does a model without a name.
    fn keep_what_runs(&mut self, old: &Config) -> Moved {
        let config = &mut self.config;
        let models = old.models.iter().map(|model| same_model(config, &model.name));
        let mut models: Vec<_> = models.collect();
        for (_, life) in self.lives.sorted() {
            let asked = usize::from(life.ask.model.0);
            let Some(before) = old.models.get(asked) else { continue };
            if models[asked].is_none() {
                models[asked] = learn(config, self.listed, &before.name);
            }
            if models[asked].is_none() && matches!(life.state, State::Running(_)) {
                models[asked] = nameless(config);
            }
        }
        // Only now: what was learned above may be where something runs.
        let mut targets: Vec<_> =
            (0..old.targets.len()).map(|at| same_target(old, config, at)).collect();
        for (_, life) in self.lives.sorted() {
            let State::Running(running) = &life.state else { continue };
            let at = usize::from(running.target.0);
            if targets.get(at).is_some_and(Option::is_none) {
                targets[at] = unlisted(config, old, at);
            }
        }
        let last = TierId(config.tiers.len().saturating_sub(1) as u8);
        let tiers = old.tiers.iter().map(|tier| {
            let at = config.tiers.iter().position(|other| other.name == tier.name);
            at.map_or(last, |at| TierId(at as u8))
        });
        Moved { targets, models, tiers: tiers.collect() }
    }

    fn move_budgets(&mut self, old: &Config) {
        let known = core::mem::take(&mut self.budgets);
        let budget = |tier: &crate::config::Tier| {
            let at = old.tiers.iter().position(|other| other.name == tier.name);
            at.and_then(|at| known.get(at)).cloned().unwrap_or_default()
        };
        self.budgets = self.config.tiers.iter().map(budget).collect::<Vec<RetryBudget>>();
    }

    fn move_lives(&mut self, now: Time, moved: &Moved, actions: &mut Vec<Action>) {
        let requests: Vec<RequestId> = self.lives.sorted().iter().map(|(id, _)| *id).collect();
        for request in requests {
            let Some(life) = self.lives.get_mut(&request) else { continue };
            let was_held = self.held_back.remove(&life.place(request));
            let model = moved.model(life.ask.model);
            life.ask.tier = moved.tier(life.ask.tier);
            life.home = life.home.and_then(|id| moved.target(id));
            life.counted = None;
            life.asked.rename(|id| moved.target(id));
            life.no_native = life.no_native.iter().filter_map(|id| moved.target(*id)).collect();
            let mut is_homeless = false;
            match &mut life.state {
                State::Running(running) => match moved.target(running.target) {
                    Some(to) => running.target = to,
                    None => is_homeless = true,
                },
                State::Waiting { target, .. } => match moved.target(*target) {
                    Some(to) => *target = to,
                    // It need not wait for that one any more: it looks for another at once.
                    None => life.state = State::Holding { again: now, give_up: now + HOLD },
                },
                State::Holding { .. } => {}
            }
            let Some(model) = model.filter(|_| !is_homeless) else {
                let message = "the model that this request asked for is no longer configured";
                let end = (Close::Error(refusal::no_site(message, None)), Outcome::Failed);
                self.close(now, request, end, actions);
                continue;
            };
            life.ask.model = model;
            let (place, is_running) =
                (life.place(request), matches!(life.state, State::Running(_)));
            if let State::Running(running) = &life.state {
                let target = running.target;
                self.targets.take(&self.config, target, now);
            }
            if was_held && self.is_ours(request) {
                self.held_back.insert(place);
            }
            if !is_running {
                self.unplan(request);
                self.plan(request);
            }
        }
    }
}

fn same_model(config: &Config, name: &str) -> Option<ModelId> {
    let at = config.models.iter().position(|model| model.name == name && !name.is_empty())?;
    u16::try_from(at).ok().map(ModelId)
}

/// Where the target at this position is now: the same model at the site of the same name.
fn same_target(old: &Config, new: &Config, at: usize) -> Option<TargetId> {
    let before = &old.targets[at];
    let site = &old.sites[usize::from(before.site.0)];
    let is_same = |target: &Target| {
        let there = &new.sites[usize::from(target.site.0)];
        target.model == before.model && is_same_site(site, there)
    };
    new.targets.iter().position(is_same).and_then(|at| u16::try_from(at).ok()).map(TargetId)
}

fn same_site(old: &Config, new: &Config, id: SiteId) -> Option<SiteId> {
    let name = &old.sites.get(usize::from(id.0))?.name;
    let at = new.sites.iter().position(|site| site.name == *name)?;
    u16::try_from(at).ok().map(SiteId)
}

fn is_same_site(one: &Site, other: &Site) -> bool {
    one.name == other.name && one.kind == other.kind
}

/// A model that nobody can ask for, for an answer that was begun when it had a name.
fn nameless(config: &mut Config) -> Option<ModelId> {
    let id = u16::try_from(config.models.len()).ok().map(ModelId)?;
    config.models.push(Model {
        name: String::new(),
        served_by: Vec::new(),
        substitutes: Vec::new(),
        substitutes_may_finish: true,
    });
    Some(id)
}

/// The target that was at this position, at its site, as nothing leads there any more.
fn unlisted(config: &mut Config, old: &Config, at: usize) -> Option<TargetId> {
    let before = &old.targets[at];
    let site = &old.sites[usize::from(before.site.0)];
    let known = config.sites.iter().position(|there| is_same_site(site, there));
    let place = known.unwrap_or(config.sites.len());
    let target = Target { site: SiteId(u16::try_from(place).ok()?), ..before.clone() };
    if known.is_none() {
        config.sites.push(site.clone());
    }
    let id = u16::try_from(config.targets.len()).ok().map(TargetId)?;
    config.targets.push(target);
    Some(id)
}
