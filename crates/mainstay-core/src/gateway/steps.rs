//! From one event to the next step of a request: start, wait, hold, resume or end.

use crate::config::Continuation;
use crate::fact::{Fact, How, Outcome, Rung, Verdict, Why};
use crate::gateway::evidence::siblings;
use crate::gateway::placement::Absent;
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
/// Longest wait for room anywhere before a request is refused, and the pause between looks.
const HOLD: Duration = Duration::from_millis(500);
const HOLD_LOOK: Duration = Duration::from_millis(25);
/// Patience of the embedded engine, which says itself that it is at work.
const EMBEDDED_FIRST_TOKEN: Duration = Duration::from_secs(60);
const EMBEDDED_STALL: Duration = Duration::from_secs(30);
/// Shortest time to come back that is told where none is known.
const BACK_UNKNOWN: Duration = Duration::from_secs(5);

impl Gateway {
    pub(super) fn arrive(
        &mut self,
        now: Time,
        (request, ask): (RequestId, Ask),
        actions: &mut Vec<Action>,
    ) {
        let longest = self.config.limits.request;
        let deadline = now + ask.deadline.map_or(longest, |own| own.min(longest));
        let (model, tier) = (ask.model, ask.tier);
        actions.push(Action::Fact(Fact::Arrived { request, model, tier }));
        let is_shed = self.sheds(now, &ask);
        let state = State::Holding { again: deadline, give_up: now + HOLD };
        let life = Life {
            ask,
            arrived: now,
            deadline,
            attempts: 0,
            resumes: 0,
            returned: false,
            moved: false,
            tried: Vec::new(),
            no_native: Vec::new(),
            story: Vec::new(),
            standing: Default::default(),
            state,
        };
        self.lives.insert(request, life);
        self.plan(request);
        if is_shed {
            let message = "not enough capacity for this tier now; higher tiers come first";
            let refusal = refusal::overloaded(message.into(), self.back(now, request));
            self.close(now, request, (Close::Error(refusal), Outcome::Refused), actions);
            return;
        }
        self.next_step(now, request, None, actions);
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
            self.targets.get_mut(target).latency.first_token(after);
            self.learn_served(now, target);
            actions.push(Action::Fact(Fact::FirstToken { attempt, target, after }));
        }
    }

    pub(super) fn flowing(&mut self, now: Time, attempt: AttemptId, actions: &mut Vec<Action>) {
        let Some(running) = self.running(attempt) else { return };
        if !core::mem::replace(&mut running.flowed, true) {
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
            let gone = siblings(&self.config, target);
            if let Some(life) = self.lives.get_mut(&attempt.request) {
                life.tried.extend(gone);
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

    /// The step after a failure at `failed`, or the first step.
    pub(super) fn next_step(
        &mut self,
        now: Time,
        request: RequestId,
        failed: Option<(TargetId, Lesson)>,
        actions: &mut Vec<Action>,
    ) {
        self.unplan(request);
        let Some(life) = self.lives.get(&request) else { return };
        let model = &self.config.models[usize::from(life.ask.model.0)];
        let (equals, substitutes) = (model.served_by.clone(), model.substitutes.clone());
        let may_substitute = !life.standing.answered || model.substitutes_may_finish;
        let mut absent = Absent::default();
        if let Some(target) = self.pick(now, request, &equals, &mut absent)
            && let Some(how) = self.how(now, request, target)
        {
            return self.start(now, request, (target, how), actions);
        }
        if let Some((target, lesson)) = failed
            && self.returns(now, request, (target, lesson), actions)
        {
            return;
        }
        let others = if may_substitute { &substitutes[..] } else { &[] };
        if let Some(target) = self.pick(now, request, others, &mut absent)
            && let Some(how) = self.how(now, request, target)
        {
            return self.start(now, request, (target, how), actions);
        }
        let all = [&equals[..], others].concat();
        if let Some(target) = self.pick_anyway(now, request, &all)
            && let Some(how) = self.how(now, request, target)
        {
            return self.start(now, request, (target, how), actions);
        }
        self.hold_or_refuse(now, request, (absent, all.len()), actions);
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
        if life.returned || now + wait >= life.deadline {
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

    fn pick(
        &mut self,
        now: Time,
        request: RequestId,
        group: &[TargetId],
        absent: &mut Absent,
    ) -> Option<TargetId> {
        let life = self.lives.get(&request)?;
        let demand = life.demand();
        let tried = life.tried.clone();
        let left = life.deadline.since(now);
        let usual: Vec<TargetId> = group
            .iter()
            .copied()
            .filter(|id| self.targets.get(*id).latency.first_token_usual() <= left)
            .collect();
        let avoid = |id: TargetId| tried.contains(&id);
        self.targets.pick(&self.config, &usual, (now, &demand), &avoid, absent)
    }

    fn pick_anyway(
        &mut self,
        now: Time,
        request: RequestId,
        group: &[TargetId],
    ) -> Option<TargetId> {
        let life = self.lives.get(&request)?;
        let demand = life.demand();
        let tried = life.tried.clone();
        let avoid = |id: TargetId| tried.contains(&id);
        self.targets.pick_anyway(&self.config, group, (now, &demand), &avoid)
    }

    /// What an attempt at `target` would be to this request; `None` if it could not go on there.
    fn how(&self, now: Time, request: RequestId, target: TargetId) -> Option<How> {
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
        let Some(life) = self.lives.get_mut(&request) else { return };
        life.attempts += 1;
        life.resumes += u8::from(matches!(how, How::Resume(_)));
        life.tried.push(target);
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
            flowed: false,
        });
        if how == How::First {
            self.budgets[usize::from(life.ask.tier.0)].earn(now);
        }
        self.targets.take(&self.config, target, now);
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
        let start = Start { attempt, target, site, model, how, patience, only_choice, open: None };
        actions.push(Action::Start(start));
        self.plan(request);
    }

    /// Takes the attempt out of its request and gives its credit back.
    fn end_attempt(&mut self, now: Time, attempt: AttemptId) -> Option<Running> {
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
    fn remember(&mut self, now: Time, running: &Running, broken: &Broken) {
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
    fn may_go_on(
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
        let is_last = life.attempts >= ATTEMPTS || !lesson.elsewhere || (is_fault && moved);
        let is_free = self.config.fleet.credit.mutants.removes(Mutant::NoRetryBudget);
        let is_charged = !life.standing.relayed && broken.sent != Sent::Nothing && !is_free;
        let tier = life.ask.tier;
        if !is_last && (!is_charged || self.budgets[usize::from(tier.0)].spend(now)) {
            return true;
        }
        if !is_last {
            actions.push(Action::Fact(Fact::RetriesExhausted { request, tier }));
        }
        self.fail(now, request, actions);
        false
    }

    fn fail(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
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

    /// No target now: waits a moment for room, or ends the request.
    fn hold_or_refuse(
        &mut self,
        now: Time,
        request: RequestId,
        (absent, considered): (Absent, usize),
        actions: &mut Vec<Action>,
    ) {
        let back = self.back(now, request);
        let Some(life) = self.lives.get_mut(&request) else { return };
        let State::Holding { give_up, .. } = life.state else {
            return self.fail(now, request, actions);
        };
        // Where more is asked than there is room for, only the highest tier waits for some.
        let is_short = self.demand.get(&life.ask.model.0).is_some_and(|known| known.is_short);
        let may_hold = !is_short || life.ask.tier.0 == 0;
        let soon = absent.at.is_none_or(|at| at <= give_up) && now < give_up;
        if absent.full && soon && may_hold {
            let again = absent.at.map_or(now + HOLD_LOOK, |at| at.max(now + HOLD_LOOK / 25));
            life.state = State::Holding { again: again.min(give_up), give_up };
            return self.plan(request);
        }
        if !life.story.is_empty() {
            return self.fail(now, request, actions);
        }
        let demand = life.demand();
        let is_impossible = absent.never as usize >= considered && considered > 0;
        let refusal = if is_impossible {
            self.impossible(request)
        } else if absent.full && !absent.gone {
            refusal::overloaded("every site for this model is full".into(), back)
        } else if absent.never > 0 && demand.prompt > 0 {
            let message = "the sites that could take this request are not usable now, and the \
                           others are too small for it or lack a feature it needs";
            refusal::no_site(message, Some(back))
        } else {
            refusal::no_site("no site for this model is usable now", Some(back))
        };
        let is_mine = refusal.status >= 500;
        let outcome = if is_mine { Outcome::Refused } else { Outcome::Rejected };
        self.close(now, request, (Close::Error(refusal), outcome), actions);
    }

    /// When a request like this one may come back: the soonest end of a pause, a parking or a hold
    /// among its targets.
    fn back(&mut self, now: Time, request: RequestId) -> Duration {
        let Some(life) = self.lives.get(&request) else { return BACK_UNKNOWN };
        let model = &self.config.models[usize::from(life.ask.model.0)];
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

/// A lesson that only sends elsewhere.
const ELSEWHERE: Lesson = Lesson { same: Same::Never, elsewhere: true, avoid_site: false };
