//! What the end of an attempt teaches about its target: health, credit, parking, limits.

use crate::config::Config;
use crate::fact::{Fact, How, Rung, Verdict, Why};
use crate::gateway::credit::{Cut, Refusal};
use crate::gateway::health::Change;
use crate::gateway::request::{Broken, Report, Running, is_strike};
use crate::gateway::{Action, Gateway};
use crate::names::{ClientFault, ErrorClass, Scope, TargetId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// A refused continuation switches the capability off for this long.
const CONTINUATION_OFF: Duration = Duration::from_secs(3600);
/// Two refusals of our key count as two only this far apart, where one is not believed: this share
/// of the time between two probes of a key that is known to be refused, usually 30 s.
const AUTH_APART: f64 = 0.5;
/// A context refusal is believed to tell the window if our own count is at least this share of
/// it; else the provider refused for another reason.
const CREDIBLE: f64 = 0.6;

impl Gateway {
    /// An attempt at `target` gave a whole answer, or tokens flowed.
    pub(super) fn learn_good(
        &mut self,
        now: Time,
        (target, started): (TargetId, Time),
        actions: &mut Vec<Action>,
    ) {
        let known = self.targets.get_mut(target);
        // What began before our key was refused says nothing of the key.
        let is_proof = started > known.refused_us;
        if is_proof {
            known.auth_refusals = (0, now);
        }
        let was_parked = known.parked.take_if(|_| is_proof);
        // Work that began before the target left UP may end well long after: it says how the target
        // was, and a controller that is gone leaves its workers' streams flowing.
        let is_stale = known.health.verdict() != Verdict::Up && started < known.health.since();
        let change = match is_stale {
            true => {
                known.health.attempted(now);
                None
            }
            false => known.health.good(now),
        };
        known.last_good |= !is_stale;
        self.note_good(now, target);
        if let Some((class, _)) = was_parked {
            for id in self.parked_with(target, class) {
                self.targets.get_mut(id).parked = None;
            }
            actions.push(Action::Fact(Fact::Unparked { target }));
        }
        tell(target, change, actions);
    }

    /// An attempt ended whole.
    pub(super) fn tell_whole(
        &mut self,
        now: Time,
        running: &Running,
        report: &Report,
        actions: &mut Vec<Action>,
    ) {
        let target = running.target;
        if !running.has_token {
            self.learn_served(now, target);
        }
        if running.flowed.is_none() {
            self.learn_good(now, (target, running.started), actions);
        }
        self.targets.get_mut(target).latency.flow(&report.gaps, report.rate);
        let (attempt, after) = (running.attempt, now.since(running.started));
        let tokens = report.tokens;
        actions.push(Action::Fact(Fact::AttemptWhole { attempt, target, after, tokens }));
        if let Some(counted) = report.counted
            && tokens > counted
        {
            actions.push(Action::Fact(Fact::Miscounted { attempt, target, tokens, counted }));
        }
    }

    /// An attempt was let in: credit hears of it once per attempt.
    pub(super) fn learn_served(&mut self, now: Time, target: TargetId) {
        self.targets.get_mut(target).credit.served(now);
    }

    /// An attempt broke.
    pub(super) fn learn_broken(
        &mut self,
        now: Time,
        running: &Running,
        broken: &Broken,
        actions: &mut Vec<Action>,
    ) {
        let target = running.target;
        let is_late = matches!(broken.why, Why::Silent | Why::NoFirstToken | Why::Stalled)
            && self.hearsay.doubt.ignores_timeouts(now);
        if is_strike(broken) && !is_late {
            if let Some(at) = running.flowed {
                self.targets.get_mut(target).health.take_back(now, at);
            }
            self.strike((now, running.started), target, broken, actions);
        }
        let known = self.targets.get_mut(target);
        known.latency.flow(&broken.report.gaps, broken.report.rate);
        if matches!(broken.why, Why::Silent | Why::NoFirstToken) {
            known.latency.no_first_token();
        }
        if running.has_token && broken.why != Why::Mismatch {
            known.broke_stream = Some(now);
        }
        match broken.failure.class {
            ErrorClass::ThrottleAccount | ErrorClass::ThrottleBurst | ErrorClass::Overload => {
                self.cut_credit(now, running, broken, actions);
            }
            ErrorClass::OurAuth => self.suspect_key(now, target, actions),
            ErrorClass::OurBilling => {
                let wait = self.config.limits.probe_billing;
                self.park(now, target, (ErrorClass::OurBilling, wait), actions);
            }
            ErrorClass::Dead(Scope::Model) => {
                let wait = self.config.limits.probe_billing;
                self.park(now, target, (ErrorClass::Dead(Scope::Model), wait), actions);
            }
            ErrorClass::ClientFault(fault) => {
                self.learn_fault(now, running, (broken, fault), actions);
            }
            ErrorClass::Policy
            | ErrorClass::Transient
            | ErrorClass::Dead(Scope::Site)
            | ErrorClass::PoisonedStream => {}
        }
    }

    fn strike(
        &mut self,
        (now, sent): (Time, Time),
        target: TargetId,
        broken: &Broken,
        actions: &mut Vec<Action>,
    ) {
        // What could not be reached could not be reached for any of its models.
        let is_site =
            broken.why == Why::Reply && broken.failure.class == ErrorClass::Dead(Scope::Site);
        let hit = if is_site { siblings(&self.config, target) } else { alloc::vec![target] };
        for id in hit {
            let known = self.targets.get_mut(id);
            known.last_good = false;
            let views = self.views((now, sent), id);
            let change = self.targets.get_mut(id).health.strike(now, views);
            let left = change.is_some_and(|change| change.from == Verdict::Up);
            self.note_strike(now, id, left);
            tell(id, change, actions);
        }
    }

    fn cut_credit(
        &mut self,
        now: Time,
        running: &Running,
        broken: &Broken,
        actions: &mut Vec<Action>,
    ) {
        let class = broken.failure.class;
        let retry_after = broken.failure.retry_after;
        let is_told = broken.why == Why::Reply;
        let refusal = Refusal { started: running.started, class, retry_after, is_told };
        let credit = &mut self.targets.get_mut(running.target).credit;
        let cut = credit.refused(now, refusal, &self.config.limits, &mut self.rng);
        let target = running.target;
        let fact = match cut {
            Cut::Nothing => return,
            Cut::Paused(wait) => Fact::Paused { target, class, wait },
            Cut::Limited(concurrency, per_second) => {
                Fact::Limited { target, concurrency, per_second }
            }
        };
        actions.push(Action::Fact(fact));
    }

    fn suspect_key(&mut self, now: Time, target: TargetId, actions: &mut Vec<Action>) {
        let site = self.config.targets[usize::from(target.0)].site;
        let needed = self.config.sites[usize::from(site.0)].auth_strikes.max(1);
        let wait = self.config.limits.probe_auth;
        let apart = wait.mul_f64(AUTH_APART);
        let known = self.targets.get_mut(target);
        let (seen, first) = known.auth_refusals;
        known.refused_us = now;
        known.auth_refusals = match seen {
            0 => (1, now),
            _ if now.since(first) >= apart => (seen.saturating_add(1), first),
            _ => (seen, first),
        };
        let class = ErrorClass::OurAuth;
        if known.auth_refusals.0 >= needed {
            // One key, so one alarm and one probe, however many models it is for.
            self.park(now, target, (class, wait), actions);
            for id in siblings(&self.config, target) {
                let known = self.targets.get_mut(id);
                known.refused_us = now;
                known.parked = Some((class, now + wait));
            }
            return;
        }
        // Not believed yet: the next to ask is the one whose answer may count.
        if seen == 0 {
            self.targets.get_mut(target).credit.pause(now, apart);
            actions.push(Action::Fact(Fact::Paused { target, class, wait: apart }));
        }
    }

    /// The targets that share the parking of `target` for `class`: where the key is refused, all
    /// at its site that are parked for it.
    pub(super) fn parked_with(&self, target: TargetId, class: ErrorClass) -> Vec<TargetId> {
        if class != ErrorClass::OurAuth {
            return alloc::vec![target];
        }
        let mut all = siblings(&self.config, target);
        all.retain(|id| self.targets.get(*id).parked.is_some_and(|(why, _)| why == class));
        all
    }

    fn park(
        &mut self,
        now: Time,
        target: TargetId,
        (class, wait): (ErrorClass, Duration),
        actions: &mut Vec<Action>,
    ) {
        let known = self.targets.get_mut(target);
        let is_new = known.parked.is_none_or(|(old, _)| old != class);
        known.refused_us = now;
        known.parked = Some((class, now + wait));
        if is_new {
            actions.push(Action::Fact(Fact::Parked { target, class, wait }));
        }
    }

    fn learn_fault(
        &mut self,
        now: Time,
        running: &Running,
        (broken, fault): (&Broken, ClientFault),
        actions: &mut Vec<Action>,
    ) {
        let target = running.target;
        let site = self.config.targets[usize::from(target.0)].site;
        if self.config.sites[usize::from(site.0)].is_embedded() {
            // Our own engine is configured, not guessed at: what it refused once it may answer
            // when it stands in for others.
            return;
        }
        let Some(life) = self.lives.get(&running.attempt.request) else { return };
        let (prompt, body) = (life.demand(now).prompt, life.ask.body);
        let known = self.targets.get_mut(target);
        match fault {
            ClientFault::Context => {
                let window = broken.failure.limit.unwrap_or(u64::from(prompt).saturating_sub(1));
                if f64::from(prompt) >= CREDIBLE * window as f64 && window > 0 {
                    known.window = Some(window);
                    let (window, body) = (Some(window), None);
                    actions.push(Action::Fact(Fact::Learned { target, window, body }));
                }
            }
            ClientFault::Size => {
                let most = broken.failure.limit.unwrap_or(body.saturating_sub(1));
                if body > most {
                    known.body_max = Some(most);
                    let (window, body) = (None, Some(most));
                    actions.push(Action::Fact(Fact::Learned { target, window, body }));
                }
            }
            ClientFault::Unsupported | ClientFault::Invalid => {
                if running.how == How::Resume(Rung::Native) {
                    known.continuation_off = now + CONTINUATION_OFF;
                    actions.push(Action::Fact(Fact::ContinuationOff { target }));
                }
            }
        }
    }
}

/// All targets at the site of `target`, itself included.
pub(super) fn siblings(config: &Config, target: TargetId) -> Vec<TargetId> {
    let site = config.targets[usize::from(target.0)].site;
    let all = (0u16..).map(TargetId).zip(&config.targets);
    all.filter(|(_, t)| t.site == site).map(|(id, _)| id).collect()
}

pub(super) fn tell(target: TargetId, change: Option<Change>, actions: &mut Vec<Action>) {
    if let Some(Change { from, to, why }) = change {
        actions.push(Action::Fact(Fact::Health { target, from, to, why }));
    }
}
