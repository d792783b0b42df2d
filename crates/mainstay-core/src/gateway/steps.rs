//! From one event to the next step of a request: start, wait, hold, resume or end.

use crate::config::Continuation;
use crate::cost::CostUnits;
use crate::fact::{Fact, How, Outcome, Rung, Why};
use crate::gateway::choose::HOLD;
use crate::gateway::ours::spread;
use crate::gateway::refusal::{self, Tried};
use crate::gateway::request::{
    ATTEMPTS, Ask, Broken, Lesson, Life, Report, Running, Same, Sent, State, lesson,
};
use crate::gateway::{Action, Close, Gateway, Start};
use crate::mutant::Mutant;
use crate::names::{AttemptId, ClientFault, ErrorClass, RequestId, TargetId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// A stream that broke another one this short a time ago is not resumed at the same site.
const BROKE_LATELY: Duration = Duration::from_secs(60);
/// Patience of the embedded engine, which says itself that it is at work.
const EMBEDDED_FIRST_TOKEN: Duration = Duration::from_secs(60);
const EMBEDDED_STALL: Duration = Duration::from_secs(30);
/// Times that one answer may be moved, in the highest tier and in the others.
const RESUMES: [u8; 2] = [2, 1];

impl Gateway {
    pub(super) fn arrive(
        &mut self,
        now: Time,
        (request, mut ask): (RequestId, Ask),
        actions: &mut Vec<Action>,
    ) {
        let longest = self.config.limits.request;
        let deadline = now + ask.deadline.map_or(longest, |own| own.min(longest));
        if ask.cost == CostUnits::ZERO {
            let price = self.config.fleet.price.predicted(ask.prompt, ask.max_tokens);
            ask.cost = price.max(CostUnits(1));
        }
        let (model, tier) = (ask.model, ask.tier);
        actions.push(Action::Fact(Fact::Arrived { request, model, tier }));
        let session = spread(ask.session.unwrap_or(request.0));
        let group = &self.config.models[usize::from(model.0)].served_by;
        let home = self.targets.home(&self.config, group, session);
        let is_shed = self.sheds(now, &ask, actions);
        let state = State::Holding { again: deadline, give_up: now + HOLD };
        let life = Life {
            ask,
            arrived: now,
            deadline,
            first_token: None,
            attempts: 0,
            resumes: 0,
            returned: false,
            moved: false,
            asked: Default::default(),
            session,
            home,
            paid_only: false,
            counted: None,
            no_native: Vec::new(),
            story: Vec::new(),
            standing: Default::default(),
            state,
            planned: None,
        };
        if let Some(drill) = &mut self.drill {
            drill.arrived(now, tier, life.ask.cost);
        }
        self.lives.insert(request, life);
        self.count_home(request);
        if is_shed {
            self.count_unplaced(request);
            let message = "not enough capacity for this tier now; higher tiers come first";
            let refusal = refusal::overloaded(message.into(), self.back(now, request));
            self.close(now, request, (Close::Error(refusal), Outcome::Refused), actions);
            return;
        }
        self.look(now, request, actions);
    }

    pub(super) fn first_token(
        &mut self,
        now: Time,
        attempt: AttemptId,
        after: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = self.running(attempt) else { return };
        let is_first = !core::mem::replace(&mut running.has_token, true);
        let target = running.target;
        if is_first {
            if let Some(life) = self.lives.get_mut(&attempt.request) {
                life.first_token.get_or_insert(now.since(life.arrived));
            }
            self.targets.get_mut(target).latency.first_token(after);
            self.learn_served(now, target);
            actions.push(Action::Fact(Fact::FirstToken { attempt, target, after }));
        }
    }

    pub(super) fn flowing(&mut self, now: Time, attempt: AttemptId, actions: &mut Vec<Action>) {
        let Some(running) = self.running(attempt) else { return };
        if running.flowed.replace(now).is_none() {
            let good = (running.target, running.started);
            self.learn_good(now, good, actions);
        }
    }

    pub(super) fn whole(
        &mut self,
        now: Time,
        attempt: AttemptId,
        report: Report,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = self.end_attempt(now, attempt) else { return };
        self.tell_whole(now, &running, &report, actions);
        let Some(life) = self.lives.get_mut(&attempt.request) else { return };
        life.standing = report.standing;
        if life.standing.open.is_empty() {
            let end = (Close::Done, Outcome::Done);
            return self.close(now, attempt.request, end, actions);
        }
        // One choice of several was mended; the next open one is resumed by itself.
        if life.attempts >= ATTEMPTS {
            return self.fail(now, attempt.request, actions);
        }
        let lesson = Lesson { same: Same::After(Duration::ZERO, Duration::ZERO), ..ELSEWHERE };
        self.next_step(now, attempt.request, Some((running.target, lesson)), actions);
    }

    pub(super) fn short(
        &mut self,
        now: Time,
        attempt: AttemptId,
        report: Report,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = self.end_attempt(now, attempt) else { return };
        self.tell_whole(now, &running, &report, actions);
        let target = running.target;
        let continues = self.targets.continues(&self.config, target, now);
        let Some(life) = self.lives.get_mut(&attempt.request) else { return };
        life.standing = report.standing;
        let may = continues == Continuation::Native
            && life.attempts < ATTEMPTS
            && life.resumes == 0
            && !life.standing.tools
            && !life.ask.needs.json
            && !life.no_native.contains(&target);
        if may {
            self.start(now, attempt.request, (target, How::Resume(Rung::Native)), actions);
        } else {
            self.close(now, attempt.request, (Close::Done, Outcome::Done), actions);
        }
    }

    pub(super) fn broken(
        &mut self,
        now: Time,
        attempt: AttemptId,
        broken: Broken,
        actions: &mut Vec<Action>,
    ) {
        let Some(running) = self.end_attempt(now, attempt) else { return };
        let target = running.target;
        self.allow_unpaid(attempt.request);
        let before = self.targets.get(target).broke_stream;
        let broke_lately = before.is_some_and(|at| now.since(at) < BROKE_LATELY);
        self.learn_broken(now, &running, &broken, actions);
        actions.push(Action::Fact(Fact::AttemptFailed {
            attempt,
            target,
            after: now.since(running.started),
            tokens: broken.report.tokens,
            class: broken.failure.class,
            why: broken.why,
        }));
        let seen_in = if running.has_token { broken.quiet } else { now.since(running.started) };
        let mut lesson = lesson(&broken, seen_in, &self.config.limits);
        if running.has_token && broke_lately {
            lesson.same = Same::Never;
        }
        self.remember(now, &running, &broken);
        if broken.failure.class == ErrorClass::Policy && broken.report.standing.relayed {
            return self.close(now, attempt.request, (Close::Filtered, Outcome::Done), actions);
        }
        if self.falls_one_rung(now, &running, &broken, actions) {
            return;
        }
        if !self.may_go_on(now, attempt.request, (&broken, &lesson), actions) {
            return;
        }
        if lesson.avoid_site {
            let site = self.config.targets[usize::from(target.0)].site;
            if let Some(life) = self.lives.get_mut(&attempt.request) {
                life.asked.site(site);
            }
        }
        self.next_step(now, attempt.request, Some((target, lesson)), actions);
    }

    pub(super) fn gone(
        &mut self,
        now: Time,
        request: RequestId,
        report: Report,
        actions: &mut Vec<Action>,
    ) {
        let Some(life) = self.lives.get(&request) else { return };
        if let State::Running(running) = &life.state {
            let (attempt, target) = (running.attempt, running.target);
            let (after, tokens) = (now.since(running.started), report.tokens);
            self.targets.get_mut(target).latency.flow(&report.gaps, report.rate);
            self.end_attempt(now, attempt);
            actions.push(Action::Fact(Fact::AttemptLeft { attempt, target, after, tokens }));
        }
        self.close(now, request, (Close::Gone, Outcome::Gone), actions);
    }

    pub(super) fn expire(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&request) else { return };
        if let State::Running(running) = &life.state {
            let attempt = running.attempt;
            self.end_attempt(now, attempt);
        }
        let Some(life) = self.lives.get(&request) else { return };
        let refusal = refusal::expired(&life.story, now.since(life.arrived));
        self.close(now, request, (Close::Error(refusal), Outcome::Expired), actions);
    }

    pub(super) fn wait_over(
        &mut self,
        now: Time,
        request: RequestId,
        target: TargetId,
        actions: &mut Vec<Action>,
    ) {
        let how = self.how(now, request, target);
        match how {
            Some(how) => self.start(now, request, (target, how), actions),
            None => self.next_step(now, request, None, actions),
        }
    }

    /// What an attempt at `target` would be to this request; `None` if it could not go on there.
    pub(super) fn how(&self, now: Time, request: RequestId, target: TargetId) -> Option<How> {
        let life = self.lives.get(&request)?;
        if life.attempts == 0 {
            return Some(How::First);
        }
        if !life.standing.relayed {
            return Some(How::Retry);
        }
        if life.standing.too_long {
            return None;
        }
        let continues = self.targets.continues(&self.config, target, now);
        let is_native = continues != Continuation::None
            && life.standing.answered
            && !life.standing.tools
            && !life.ask.needs.json
            && !life.no_native.contains(&target);
        Some(How::Resume(if is_native { Rung::Native } else { Rung::Regenerate }))
    }

    pub(super) fn start(
        &mut self,
        now: Time,
        request: RequestId,
        (target, how): (TargetId, How),
        actions: &mut Vec<Action>,
    ) {
        self.unplan(request);
        self.release(request);
        let Some(life) = self.lives.get_mut(&request) else { return };
        life.attempts += 1;
        life.resumes += u8::from(matches!(how, How::Resume(_)));
        life.asked.target(target);
        let attempt = AttemptId { request, number: life.attempts };
        let relayed = life.standing.tokens;
        let several = life.ask.choices > 1 && life.standing.relayed;
        let only_choice = if several { life.standing.open.first().copied() } else { None };
        life.state = State::Running(Running {
            attempt,
            target,
            started: now,
            how,
            has_token: false,
            flowed: None,
            acked: false,
        });
        if how == How::First {
            self.budgets[usize::from(life.ask.tier.0)].earn(now);
        }
        self.targets.take(&self.config, target, now);
        self.targets.get_mut(target).health.attempted(now);
        let probe = self.config.limits.probe_auth;
        if let Some((class, _)) = self.targets.get(target).parked {
            // This attempt is the probe; the next one must wait its turn.
            for id in self.parked_with(target, class) {
                self.targets.get_mut(id).parked = Some((class, now + probe));
            }
        }
        let fixed = &self.config.targets[usize::from(target.0)];
        let (site, model) = (fixed.site, fixed.model.clone());
        let mut patience = self.targets.get(target).latency.patience(&self.config.limits);
        if self.config.sites[usize::from(site.0)].is_embedded() {
            patience.first_token = EMBEDDED_FIRST_TOKEN;
            patience.stall = EMBEDDED_STALL;
            patience.drip_rate = 0.0;
        }
        actions.push(Action::Fact(Fact::AttemptStarted { attempt, target, how, relayed }));
        let open = self.pay(now, attempt, target, &mut patience);
        let broken = self.break_on_purpose(now, attempt, target, actions);
        let start =
            Start { attempt, target, site, model, how, patience, only_choice, open, broken };
        actions.push(Action::Start(start));
        self.plan(request);
    }

    /// Takes the attempt out of its request and gives its credit back.
    pub(super) fn end_attempt(&mut self, now: Time, attempt: AttemptId) -> Option<Running> {
        let running = self.running(attempt)?.clone();
        self.unplan(attempt.request);
        let took = now.since(running.started);
        self.targets.give_back(&self.config, running.target, now, took);
        if let Some(life) = self.lives.get_mut(&attempt.request) {
            life.state = State::Holding { again: life.deadline, give_up: now + HOLD };
            self.plan(attempt.request);
        }
        Some(running)
    }

    /// Notes the failure for the message the client may read.
    pub(super) fn remember(&mut self, now: Time, running: &Running, broken: &Broken) {
        let site = self.config.targets[usize::from(running.target.0)].site;
        let name = self.config.sites[usize::from(site.0)].name.clone();
        let known = self.targets.get(running.target);
        let paused = known.credit.paused_until(now);
        let parked = known.parked.map(|(_, until)| until).filter(|until| *until > now);
        let back = paused.max(parked).map(|until| until.since(now));
        let Some(life) = self.lives.get_mut(&running.attempt.request) else { return };
        life.standing = broken.report.standing.clone();
        if let How::Resume(Rung::Native) = running.how {
            life.no_native.push(running.target);
        }
        life.story.push(Tried {
            site: name,
            why: broken.why,
            quiet: broken.quiet,
            failure: broken.failure.clone(),
            back: back.filter(|b| *b >= Duration::from_secs(1)),
        });
    }

    /// A continuation that this target refused or botched is followed by hidden regeneration at
    /// the same target, which is alive and may well know the answer.
    fn falls_one_rung(
        &mut self,
        now: Time,
        running: &Running,
        broken: &Broken,
        actions: &mut Vec<Action>,
    ) -> bool {
        let refused = matches!(broken.failure.class, ErrorClass::ClientFault(f)
            if f != ClientFault::Context && f != ClientFault::Size);
        if running.how != How::Resume(Rung::Native) || !(refused || broken.why == Why::Mismatch) {
            return false;
        }
        let request = running.attempt.request;
        let Some(life) = self.lives.get_mut(&request) else { return false };
        if life.attempts >= ATTEMPTS || life.returned {
            return false;
        }
        life.returned = true;
        self.start(now, request, (running.target, How::Resume(Rung::Regenerate)), actions);
        true
    }

    /// Ends the request if nothing more may be tried for it; true if something may.
    pub(super) fn may_go_on(
        &mut self,
        now: Time,
        request: RequestId,
        (broken, lesson): (&Broken, &Lesson),
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(life) = self.lives.get_mut(&request) else { return false };
        let is_fault = matches!(broken.failure.class, ErrorClass::ClientFault(_));
        let moved = life.moved;
        life.moved |= is_fault;
        let tier = life.ask.tier;
        let is_resume = life.standing.relayed;
        let is_spent = is_resume && life.resumes >= RESUMES[usize::from(tier.0 > 0)];
        let is_last =
            life.attempts >= ATTEMPTS || !lesson.elsewhere || (is_fault && moved) || is_spent;
        let is_rationed = !self.config.fleet.credit.mutants.removes(Mutant::NoRetryBudget);
        let is_charged = is_rationed && !is_resume && broken.sent != Sent::Nothing;
        if !is_last && (!is_charged || self.budgets[usize::from(tier.0)].spend(now)) {
            return true;
        }
        if !is_last {
            actions.push(Action::Fact(Fact::RetriesExhausted { request, tier }));
        }
        self.fail(now, request, actions);
        false
    }

    pub(super) fn fail(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let back = self.back(now, request);
        let Some(life) = self.lives.get(&request) else { return };
        let took = now.since(life.arrived);
        let mut refusal = refusal::after_attempts(&life.story, took, Some(back));
        refusal.message.push_str(&self.what_fits(life, refusal.status));
        let outcome = match refusal.status {
            400..=499 => Outcome::Rejected,
            503 => Outcome::Refused,
            _ => Outcome::Failed,
        };
        self.close(now, request, (Close::Error(refusal), outcome), actions);
    }
}

/// A lesson that only sends elsewhere.
pub(super) const ELSEWHERE: Lesson =
    Lesson { same: Same::Never, elsewhere: true, avoid_site: false };
