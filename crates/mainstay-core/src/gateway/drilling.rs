//! Whether a drill may begin and go on at this gateway.
//!
//! It may not where it would take out what must stay, as with orders; while another site is out, or
//! this gateway doubts itself, because then the next loss is no drill; and one at a time.

use crate::config::Config;
use crate::cost::CostRate;
use crate::drill::{BEFORE_MAX, Breakage, End, LASTS_MAX, Plan, Refusal};
use crate::fact::{DrillFact, Fact, Verdict};
use crate::gateway::drill::{Drill, Fate};
use crate::gateway::{Action, Gateway, Start, probe};
use crate::in_service::{CONSIDERED_MAX, Evidence, in_service};
use crate::message::{Offer, Order, OrderId, Verb};
use crate::names::{AttemptId, ModelId, RequestId, SiteId, TargetId};
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

impl Gateway {
    /// The drill under way, or the last one.
    pub fn drill(&self) -> Option<&Drill> {
        self.drill.as_deref()
    }

    /// A probe of `target` as an attempt, broken like those of clients; `None` if there is no such
    /// target.
    pub fn start_probe(&self, now: Time, target: TargetId, request: RequestId) -> Option<Start> {
        let start = probe::start(&self.config, target, request)?;
        let drill = self.drill();
        let broken = drill.and_then(|drill| drill.found(now, request, start.site));
        Some(Start { broken, ..start })
    }

    /// Why a drill may not begin now.
    pub fn drill_refusal(&self, now: Time, plan: &Plan) -> Option<Refusal> {
        let is_share = |percent: u8| (1..=100).contains(&percent);
        if usize::from(plan.site.0) >= self.config.sites.len() {
            return Some(Refusal::UnknownSite);
        }
        if !is_share(plan.percent) || !is_share(plan.blast_cap) {
            return Some(Refusal::Share);
        }
        if plan.lasts == Duration::ZERO || plan.lasts > LASTS_MAX || plan.before > BEFORE_MAX {
            return Some(Refusal::Time);
        }
        if self.drill.as_ref().is_some_and(|drill| drill.ended().is_none()) {
            return Some(Refusal::Running);
        }
        if let Some(site) = self.gone_beside(plan.site) {
            return Some(Refusal::Gone(site));
        }
        if self.hearsay.doubt.is_in_doubt(now) {
            return Some(Refusal::Doubt);
        }
        if let Some(refusal) = self.takes_too_much(plan.site) {
            return Some(refusal);
        }
        let blast = blast(&self.config, plan);
        (blast > plan.blast_cap).then_some(Refusal::BlastCap(blast))
    }

    pub(super) fn begin_drill(&mut self, now: Time, plan: Plan, actions: &mut Vec<Action>) {
        let site = plan.site;
        if let Some(why) = self.drill_refusal(now, &plan) {
            return actions.push(told(DrillFact::Refused { site, why }));
        }
        let Plan { breakage, percent, before, .. } = plan;
        actions.push(told(DrillFact::Accepted { site, breakage, percent, before }));
        self.drill = Some(Box::new(Drill::new(now, plan, self.config.tiers.len())));
    }

    pub(super) fn stop_drill(&mut self, now: Time, id: u64, actions: &mut Vec<Action>) {
        if self.drill.as_ref().is_some_and(|drill| drill.plan().id == id) {
            self.end_drill(now, End::Stopped, actions);
        }
    }

    pub(super) fn end_drill(&mut self, now: Time, why: End, actions: &mut Vec<Action>) {
        if let Some(drill) = self.drill.as_mut().filter(|drill| drill.ended().is_none()) {
            drill.end(now, why);
            let site = drill.plan().site;
            actions.push(told(DrillFact::Ended { site, why }));
        }
    }

    /// Begins and ends the drill when it is time, and stops it where it does harm.
    pub(super) fn watch_drill(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(drill) = self.drill.as_mut().filter(|drill| drill.ended().is_none()) else {
            return;
        };
        let (site, lasts) = (drill.plan().site, drill.plan().lasts);
        if drill.begins(now) {
            actions.push(told(DrillFact::Began { site, lasts }));
        }
        let why = if drill.is_due(now) {
            Some(End::Time)
        } else if let Some((tier, share)) = drill.below_floor() {
            Some(End::Floor(tier, share))
        } else if let Some(other) = self.gone_beside(site) {
            // Two sites that go at once raise doubt as well; the other one's name says more.
            Some(End::Gone(other))
        } else {
            self.hearsay.doubt.is_in_doubt(now).then_some(End::Doubt)
        };
        if let Some(why) = why {
            self.end_drill(now, why, actions);
        }
    }

    /// How an attempt is to be broken, if it is.
    pub(super) fn break_on_purpose(
        &mut self,
        now: Time,
        attempt: AttemptId,
        target: TargetId,
        actions: &mut Vec<Action>,
    ) -> Option<Breakage> {
        let drill = self.drill.as_mut()?;
        let tier = self.lives.get(&attempt.request)?.ask.tier;
        let site = self.config.targets[usize::from(target.0)].site;
        match drill.judge(now, (attempt.request, tier), site) {
            Fate::Whole | Fate::Spared(false) => None,
            Fate::Spared(true) => {
                actions.push(told(DrillFact::Capped { site }));
                None
            }
            Fate::Broken(breakage) => {
                actions.push(told(DrillFact::Broke { attempt, target, breakage }));
                Some(breakage)
            }
        }
    }

    /// Whether a grant of this target is not heard.
    pub(super) fn is_silenced(&self, now: Time, target: TargetId) -> bool {
        let site = self.config.targets.get(usize::from(target.0)).map(|target| target.site);
        let drill = self.drill.as_ref().zip(site);
        drill.is_some_and(|(drill, site)| drill.silences(now, site))
    }

    /// Another site that answers for the same models and is out.
    fn gone_beside(&self, site: SiteId) -> Option<SiteId> {
        let is_out = |id: &TargetId| {
            let verdict = self.targets.get(*id).health.verdict();
            matches!(verdict, Verdict::Suspect | Verdict::Down)
        };
        let beside = |model: &crate::config::Model| {
            let all = || model.served_by.iter().chain(&model.substitutes);
            all().any(|id| self.place(*id) == site).then(|| {
                all().find(|id| self.place(**id) != site && is_out(id)).map(|id| self.place(*id))
            })
        };
        self.config.models.iter().find_map(|model| beside(model).flatten())
    }

    /// Whether too little of a model would stay without the site, as orders are judged.
    fn takes_too_much(&self, site: SiteId) -> Option<Refusal> {
        let last = Order {
            id: OrderId { author: u64::MAX, seq: u32::MAX },
            authority: 0,
            verb: Verb::Kill,
            site: Some(site),
            reason: String::new(),
            left: LASTS_MAX,
        };
        let mut orders: Vec<Order> = self.orders.iter().take(CONSIDERED_MAX - 1).cloned().collect();
        orders.push(last);
        let fleet = &self.config.fleet;
        let least = fleet.service.least(fleet.credit.mutants);
        for (model, known) in (0..).map(ModelId).zip(&self.config.models) {
            let (mut there, mut closed) = (Vec::new(), Vec::new());
            for id in known.served_by.iter().chain(&known.substitutes) {
                let place = self.place(*id);
                let is_embedded = self.config.sites[usize::from(place.0)].is_embedded();
                let is_known = there.iter().any(|(known, _)| *known == place);
                // The engine in this process carries a few answers: it is no other site.
                if is_known || (is_embedded && place != site) {
                    continue;
                }
                let known = self.targets.get(*id);
                there.push((place, fleet.service.planned(place)));
                if known.held.offer() != Offer::Open || known.parked.is_some() {
                    closed.push(place);
                }
            }
            if !there.iter().any(|(place, _): &(SiteId, CostRate)| *place == site) {
                continue;
            }
            let stays = |(place, _): &(SiteId, CostRate)| *place != site && !closed.contains(place);
            if !there.iter().any(stays) {
                return Some(Refusal::LastSite(model));
            }
            let evidence = Evidence { closed: &closed, indirect: &[] };
            let judged = in_service(&there, &orders, &evidence, least);
            if judged.ignored & (1 << (orders.len() - 1)) != 0 {
                return Some(Refusal::TooLittle(model));
            }
        }
        None
    }

    fn place(&self, target: TargetId) -> SiteId {
        self.config.targets[usize::from(target.0)].site
    }
}

/// The share of all attempts that a drill would break, in hundredths and rounded up: by what sites
/// carry by plan, and alike where nothing is known of that.
fn blast(config: &Config, plan: &Plan) -> u8 {
    let own = usize::from(plan.site.0);
    let counts = |at: &usize| *at == own || !config.sites[*at].is_embedded();
    let carries = |at: usize| config.fleet.service.planned(SiteId(at as u16)).0;
    let there: Vec<usize> = (0..config.sites.len()).filter(counts).collect();
    let all: u64 = there.iter().map(|at| carries(*at)).sum();
    let (part, all) = match carries(own) {
        // What others own is not in the plan: it may get as much as any.
        0 => (1, there.len() as u64),
        carried => (carried, all),
    };
    (part * u64::from(plan.percent)).div_ceil(all.max(1)).min(100) as u8
}

fn told(fact: DrillFact) -> Action {
    Action::Fact(Fact::Drill(fact))
}
