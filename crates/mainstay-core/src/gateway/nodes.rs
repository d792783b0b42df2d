//! What passes between this gateway and sites of ours: reports, grants, acknowledgements and
//! refusals.

use crate::cost::CostRate;
use crate::fact::{CreditFact, Fact, How, Verdict, Why};
use crate::gateway::evidence::tell;
use crate::gateway::health::Views;
use crate::gateway::latency::Patience;
use crate::gateway::request::{Broken, Report as Left, Sent};
use crate::gateway::spill::Pace;
use crate::gateway::steps::ELSEWHERE;
use crate::gateway::{Action, Gateway};
use crate::message::{Ack, Grant, Offer, Open, PerTier, Reason, Refuse, TIERS_MAX};
use crate::mutant::Mutant;
use crate::names::{AttemptId, ErrorClass, Failure, ModelId, RequestId, TargetId, TierId, Work};
use crate::time::{Duration, Time};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A site acknowledges or refuses within this time of an attempt's last byte.
const ACK: Duration = Duration::from_millis(250);
/// Least and most that is waited for it, with the round trip.
const ACK_WAIT: (Duration, Duration) = (Duration::from_millis(750), Duration::from_secs(2));
/// A site beats twice a second; silence of three beats is silence.
const BEATS_WAIT: Duration = Duration::from_millis(1500);
/// The first interval between reports is shortened by up to this share, so that gateways that
/// start together do not go on reporting together.
const STAGGER: f64 = 0.5;

impl Gateway {
    /// Tells each site of ours what is wanted there, if it is time.
    pub(super) fn report(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.has_nodes || now < self.next_report {
            return;
        }
        let interval = self.config.fleet.report;
        let is_first = self.next_report == Time::ZERO;
        let short = interval.mul_f64(1.0 - STAGGER);
        let wait = if is_first { self.rng.between(short, interval) } else { interval };
        self.next_report = now + wait;
        for at in 0..self.config.targets.len() {
            let id = TargetId(at as u16);
            if self.targets.is_node(id) {
                self.report_at(now, id, actions);
            }
        }
        self.calm(now, actions);
        self.tell_readiness(now, actions);
    }

    fn report_at(&mut self, now: Time, target: TargetId, actions: &mut Vec<Action>) {
        let interval = self.config.fleet.report;
        let mut total: PerTier<CostRate> = Default::default();
        if let Some(model) = self.targets.model_of(target)
            && let Some(known) = self.demand.get_mut(&model.0)
        {
            total = known.by_tier(now);
        }
        let beside = self.best_beside(target);
        let known = self.targets.get_mut(target);
        let elapsed = known.held.reported().map_or(interval, |at| now.since(at));
        known.held.measure(now);
        let verdict = known.health.verdict();
        let told = known.held.latest().filter(|_| known.held.rates(now).is_some());
        if let Some(slow) = told.map(|grant| grant.slow)
            && known.slow.look(now, slow, known.held.first_token(), beside)
        {
            let fact = CreditFact::Slow { target, is_slow: known.slow.is_slow(), slow };
            actions.push(Action::Fact(Fact::Credit(fact)));
        }
        let moved = match (verdict, known.held.rates(now)) {
            (Verdict::Up, Some(_)) if known.slow.is_slow() => known.spill.leave(elapsed),
            (Verdict::Up, Some(_)) => {
                let is_news = known.steered != verdict;
                let pace = match (beside, is_news) {
                    (None, _) => Pace::Return,
                    (Some(_), false) => Pace::Usual,
                    (Some(_), true) => Pace::AtOnce,
                };
                if beside.is_some() {
                    known.steered = verdict;
                }
                let may_use = known.held.may_use(now, self.config.fleet.gateways);
                known.spill.step(elapsed, may_use, pace)
            }
            (Verdict::Up, None) => {
                known.spill.count(elapsed);
                None
            }
            _ => {
                known.spill.count(elapsed);
                known.steered = verdict;
                None
            }
        };
        let is_lapsed = known.held.lapsed(now);
        let in_flight = known.credit.in_flight();
        let report = known.held.report(now, target, total, in_flight);
        if let Some(percent) = moved {
            actions.push(Action::Fact(Fact::Credit(CreditFact::Spilled { target, percent })));
        }
        if is_lapsed {
            actions.push(Action::Fact(Fact::Credit(CreditFact::Lapsed { target })));
        }
        let site = self.config.targets[usize::from(target.0)].site;
        actions.push(Action::Report { site, report });
    }

    /// How soon a first token is expected at the best equal of `target` that gave all that was
    /// asked of it; `None` if there is none.
    fn best_beside(&self, target: TargetId) -> Option<Duration> {
        let model = self.targets.model_of(target)?;
        let group = &self.config.models[usize::from(model.0)].served_by;
        let has_room = |id: &&TargetId| {
            let known = self.targets.get(**id);
            let is_there = **id != target && self.targets.is_node(**id) && !known.shut;
            is_there && known.verdict() == Verdict::Up && !known.held.is_full()
        };
        let all = group.iter().filter(has_room);
        all.map(|id| self.targets.get(*id).held.first_token()).min()
    }

    /// Takes back what was told and is over.
    fn calm(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (model, known) in &mut self.demand {
            let model = crate::names::ModelId(*model);
            known.calm(now, model, actions);
            if !self.panics.contains(&model) {
                continue;
            }
            let group = &self.config.models[usize::from(model.0)].served_by;
            if !self.targets.is_panic(group, now, known.all()) {
                self.panics.remove(&model);
                actions.push(Action::Fact(Fact::Credit(CreditFact::PanicEnded { model })));
            }
        }
    }

    /// A site answered a report.
    pub(super) fn granted(&mut self, now: Time, grant: Grant, actions: &mut Vec<Action>) {
        let target = grant.target;
        if !self.knows_node(target) {
            return;
        }
        let terms = self.config.fleet.credit;
        let known = self.targets.get_mut(target);
        let news = known.held.grant(now, grant, known.cap, &terms);
        if news.is_back {
            actions.push(Action::Fact(Fact::Credit(CreditFact::Regained { target })));
        }
        if let Some(is_off) = news.drift {
            let fact = CreditFact::Drift { target, is_off };
            actions.push(Action::Fact(Fact::Credit(fact)));
        }
        self.wake(now, actions);
    }

    /// Requests that wait for room look again, the highest tier first.
    fn wake(&mut self, now: Time, actions: &mut Vec<Action>) {
        let lines: BTreeSet<(TierId, ModelId)> =
            self.held_back.iter().map(|(tier, model, ..)| (*tier, *model)).collect();
        for line in lines {
            self.wake_line(now, line, actions);
        }
    }

    /// Those of a tier that wait for room for a model look again, who came first at first; no more
    /// once one of them finds none that had not been anywhere yet.
    pub(super) fn wake_line(
        &mut self,
        now: Time,
        (tier, model): (TierId, ModelId),
        actions: &mut Vec<Action>,
    ) {
        let all: Vec<RequestId> = self.line(tier, model).collect();
        for request in all {
            self.next_step(now, request, None, actions);
            let Some(life) = self.lives.get(&request) else { continue };
            if life.attempts == 0 && self.held_back.contains(&life.place(request)) {
                break;
            }
        }
    }

    /// Who waits for room for a model, of one tier.
    pub(super) fn line(
        &self,
        tier: TierId,
        model: ModelId,
    ) -> impl Iterator<Item = RequestId> + '_ {
        let first = (tier, model, Time::ZERO, RequestId(0));
        let line = self.held_back.range(first..);
        let is_in =
            move |place: &&(TierId, ModelId, Time, RequestId)| (place.0, place.1) == (tier, model);
        line.take_while(is_in).map(|place| place.3)
    }

    /// A site took an attempt in: a sign of life, and nothing more.
    pub(super) fn acked(&mut self, now: Time, ack: Ack) {
        let Some(running) = self.running(ack.attempt) else { return };
        let is_first = !core::mem::replace(&mut running.acked, true);
        let (target, started) = (running.target, running.started);
        if is_first && self.targets.is_node(target) {
            let known = self.targets.get_mut(target);
            known.last_good = true;
            let held = &mut known.held;
            held.round_trip(now.since(started));
            held.expects(ack.ttft);
        }
    }

    /// A site did not take an attempt in: no fault of its own, and no verdict follows.
    pub(super) fn refused(&mut self, now: Time, refuse: Refuse, actions: &mut Vec<Action>) {
        let attempt = refuse.attempt;
        let Some(running) = self.end_attempt(now, attempt) else { return };
        let target = running.target;
        let Some(life) = self.lives.get_mut(&attempt.request) else { return };
        let (tier, labels) = (life.ask.tier, life.ask.labels);
        let is_move = matches!(running.how, How::Resume(_));
        if is_move {
            // Nothing was resumed: that takes one of its attempts, not its move.
            life.resumes = life.resumes.saturating_sub(1);
        }
        // Sites rank a move before first attempts of its tier, credit or not: that one is full for
        // it says nothing of the next, and its reader waits in the middle of a sentence. One that
        // was let in and handed back has had its wait: a second one would come too late for its
        // reader, and push out a first attempt.
        let is_urgent = is_move && !running.acked;
        let is_full = matches!(refuse.reason, Reason::Overloaded | Reason::TooLate);
        life.paid_only = is_full && !is_urgent;
        let standing = life.standing.clone();
        let terms = self.config.fleet.credit;
        let known = self.targets.get_mut(target);
        known.last_good = true;
        known.held.refused(now, tier_index(tier), &refuse, &terms);
        if terms.mutants.removes(Mutant::OverloadIsStrike) {
            known.last_good = false;
            let change = known.health.strike(now, Views::ALONE);
            tell(target, change, actions);
        }
        if refuse.reason == Reason::NotMine && self.targets.unpair(labels, target) {
            let fact = CreditFact::PairingDropped { target, labels };
            actions.push(Action::Fact(Fact::Credit(fact)));
        }
        let class = ErrorClass::Overload;
        let retry_after = Some(refuse.retry_after);
        let failure = Failure { status: Some(503), retry_after, ..Failure::ours(class, "refused") };
        let broken = Broken {
            failure,
            why: Why::Reply,
            sent: Sent::Maybe,
            stale: false,
            quiet: Duration::ZERO,
            report: Left { standing, ..Left::default() },
        };
        let after = now.since(running.started);
        let (tokens, why) = (0, Why::Reply);
        let fact = Fact::AttemptFailed { attempt, target, after, tokens, class, why };
        actions.push(Action::Fact(fact));
        self.remember(now, &running, &broken);
        if self.may_go_on(now, attempt.request, (&broken, &ELSEWHERE), actions) {
            self.next_step(now, attempt.request, None, actions);
        }
    }

    /// Pays for an attempt at a site of ours and says what the site is told; `None` elsewhere.
    pub(super) fn pay(
        &mut self,
        now: Time,
        attempt: AttemptId,
        target: TargetId,
        patience: &mut Patience,
    ) -> Option<Open> {
        if !self.targets.is_node(target) {
            return None;
        }
        let equals = self.lives.get(&attempt.request).map(|life| life.ask.model);
        let elsewhere = equals.is_some_and(|model| self.has_other(now, attempt, (model, target)));
        let life = self.lives.get_mut(&attempt.request)?;
        let tier = tier_index(life.ask.tier);
        let known = self.targets.get_mut(target);
        if life.counted.take() != Some(target) {
            known.held.wanted(life.ask.cost, tier);
        }
        let is_up = known.health.verdict() == Verdict::Up;
        let is_open = self.config.fleet.credit.mutants.removes(Mutant::PanicOpensAdmission);
        let credited = known.held.spend(now, life.ask.cost, tier) || (is_open && !is_up);
        life.paid_only |= !credited && !life.standing.relayed;
        let srtt = known.held.srtt();
        // Who is judged already is waited for no longer in doubt: the client's patience runs.
        let doubt = if is_up { self.hearsay.doubt.factor(now) } else { 1 };
        patience.first_token = (3 * (srtt + ACK)).clamp(ACK_WAIT.0, ACK_WAIT.1) * doubt;
        patience.stall = (BEATS_WAIT + srtt) * doubt;
        patience.drip_rate = 0.0;
        Some(Open {
            work: Work { from: self.config.fleet.me, attempt },
            target,
            tier: life.ask.tier,
            cost: life.ask.cost,
            credited,
            moving: life.standing.relayed,
            left: life.deadline.since(now),
            tenant: life.ask.tenant,
            session: life.session,
            labels: life.ask.labels,
            prompt: life.ask.prompt.saturating_add(life.standing.tokens),
            output: life.ask.max_tokens.unwrap_or(0),
            elsewhere,
        })
    }

    /// Whether another site of ours that is up may take this request.
    fn has_other(
        &self,
        now: Time,
        attempt: AttemptId,
        (model, target): (crate::names::ModelId, TargetId),
    ) -> bool {
        let Some(life) = self.lives.get(&attempt.request) else { return false };
        let demand = life.demand(now);
        let group = &self.config.models[usize::from(model.0)].served_by;
        group.iter().any(|id| {
            let known = self.targets.get(*id);
            *id != target
                && self.targets.is_node(*id)
                && !known.shut
                && known.health.verdict() == Verdict::Up
                && known.held.offer() == Offer::Open
                && !life.asked.has(&self.config, *id)
                && self.targets.is_eligible(&self.config, *id, &demand)
        })
    }

    /// A request that finds no place is still wanted somewhere.
    pub(super) fn count_unplaced(&mut self, request: RequestId) {
        let Some(life) = self.lives.get_mut(&request) else { return };
        if !self.has_nodes || life.counted.is_some() || life.attempts > 0 {
            return;
        }
        let group = &self.config.models[usize::from(life.ask.model.0)].served_by;
        let Some(at) = self.targets.wanted_at(group, (life.home, life.session)) else { return };
        life.counted = Some(at);
        let tier = tier_index(life.ask.tier);
        self.targets.get_mut(at).held.wanted(life.ask.cost, tier);
    }

    /// A request is wanted at its home, wherever it will go: else a home that gave some of its
    /// sessions away would never be asked to take them back.
    pub(super) fn count_home(&mut self, request: RequestId) {
        let Some(life) = self.lives.get_mut(&request) else { return };
        let Some(home) = life.home else { return };
        let known = self.targets.get_mut(home);
        known.spill.wants(life.ask.cost);
        if known.health.verdict() == Verdict::Up && !known.shut {
            life.counted = Some(home);
            known.held.wanted(life.ask.cost, tier_index(life.ask.tier));
        }
    }

    /// The site never judged the load of this attempt: another unpaid one may be made.
    pub(super) fn allow_unpaid(&mut self, request: RequestId) {
        if let Some(life) = self.lives.get_mut(&request) {
            life.paid_only = false;
        }
    }

    fn knows_node(&self, target: TargetId) -> bool {
        usize::from(target.0) < self.config.targets.len() && self.targets.is_node(target)
    }
}

/// The tier's place in what is kept for each tier.
pub(super) fn tier_index(tier: TierId) -> usize {
    usize::from(tier.0).min(TIERS_MAX - 1)
}
