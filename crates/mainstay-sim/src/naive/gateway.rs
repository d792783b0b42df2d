//! The naive front door: home first, then a fixed chain, whatever the bit of health says.

use super::{BAD_CHECKS, CHECK, GOOD_CHECKS, PAUSE, PAUSE_REFUSED, TIME_OUT, TRIES};
use mainstay_core::config::Config;
use mainstay_core::fact::{Fact, How, Outcome, Verdict, Why};
use mainstay_core::gateway::latency::Latency;
use mainstay_core::gateway::refusal::Refusal;
use mainstay_core::gateway::request::Ask;
use mainstay_core::gateway::{Action, Close, Event, Probe, Start};
use mainstay_core::message::Open;
use mainstay_core::names::{AttemptId, ErrorClass, RequestId, TargetId, Work};
use mainstay_core::rng::Rng;
use mainstay_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Asked for a request's output where its client set no limit.
const OUTPUT_UNSAID: u32 = 4096;

/// One target, as its checks say.
#[derive(Clone, Copy, Debug)]
struct Health {
    is_up: bool,
    /// Checks in a row that speak against `is_up`.
    against: u8,
    /// A check is under way.
    asked: bool,
}

const HEALTHY: Health = Health { is_up: true, against: 0, asked: false };

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    /// The first token of its attempt, until then.
    Token(Time),
    /// The next attempt.
    Pause(Time),
    /// The end of an answer that has begun.
    End,
}

#[derive(Clone, Debug)]
struct Life {
    ask: Ask,
    arrived: Time,
    deadline: Time,
    tries: u8,
    target: TargetId,
    started: Time,
    wait: Wait,
    status: u16,
}

/// The machine, in place of `core::gateway::Gateway`.
#[derive(Clone, Debug)]
pub struct NaiveGateway {
    config: Config,
    health: Vec<Health>,
    lives: BTreeMap<RequestId, Life>,
    deadlines: BTreeSet<(Time, RequestId)>,
    check: Option<Time>,
    rng: Rng,
}

impl NaiveGateway {
    /// A gateway that believes every target up. Its checks begin with its first event.
    pub fn new(config: Config, seed: u64) -> NaiveGateway {
        let health = vec![HEALTHY; config.targets.len()];
        NaiveGateway {
            config,
            health,
            lives: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            check: None,
            rng: Rng::new(seed),
        }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Arrive { request, ask } => self.arrive(now, (request, ask), actions),
            Event::FirstToken { attempt, after } => {
                if let Some(life) = self.running(attempt)
                    && matches!(life.wait, Wait::Token(_))
                {
                    let target = life.target;
                    self.replan(attempt.request, Wait::End);
                    actions.push(Action::Fact(Fact::FirstToken { attempt, target, after }));
                }
            }
            Event::Whole { attempt, .. } | Event::Short { attempt, .. } => {
                if self.running(attempt).is_some() {
                    self.close(now, attempt.request, (Close::Done, Outcome::Done), actions);
                }
            }
            Event::Broken { attempt, broken } => {
                let class = broken.failure.class;
                let has_token = broken.report.standing.relayed;
                self.failed(now, attempt, (class, broken.why, has_token), actions);
            }
            Event::Refused(refuse) => {
                let what = (ErrorClass::Overload, Why::Reply, false);
                self.failed(now, refuse.attempt, what, actions);
            }
            Event::Gone { request, .. } => {
                self.close(now, request, (Close::Gone, Outcome::Gone), actions);
            }
            Event::Probed { target, probe: Probe::Shallow, good } => {
                self.checked(target, good, actions);
            }
            Event::Adopt(config) => {
                self.health.resize(config.targets.len(), HEALTHY);
                self.config = *config;
            }
            // It knows nothing of credit, peers, orders and its own trouble.
            Event::Flowing { .. }
            | Event::Grant(_)
            | Event::Ack(_)
            | Event::Digest(_)
            | Event::Orders(_)
            | Event::Probed { .. }
            | Event::Lag(_)
            | Event::Drill(_)
            | Event::StopDrill(_)
            | Event::Tick => {}
        }
        self.pass_checks(now, actions);
        self.pass_deadlines(now, actions);
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        let request = self.deadlines.first().map(|(at, _)| (*at, "a request's wait"));
        let check = self.check.map(|at| (at, "a check of health"));
        request.into_iter().chain(check).min_by_key(|(at, _)| *at)
    }

    /// What the machine decides by.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether it holds this target for up.
    pub fn is_up(&self, target: TargetId) -> bool {
        self.health.get(usize::from(target.0)).is_some_and(|health| health.is_up)
    }

    /// Requests that have not ended.
    pub fn open_requests(&self) -> usize {
        self.lives.len()
    }

    fn arrive(&mut self, now: Time, arrived: (RequestId, Ask), actions: &mut Vec<Action>) {
        let (request, ask) = arrived;
        let longest = self.config.limits.request;
        let deadline = now + ask.deadline.map_or(longest, |own| own.min(longest));
        let (model, tier) = (ask.model, ask.tier);
        actions.push(Action::Fact(Fact::Arrived { request, model, tier }));
        let life = Life {
            ask,
            arrived: now,
            deadline,
            tries: 0,
            target: TargetId(0),
            started: now,
            wait: Wait::End,
            status: 503,
        };
        self.deadlines.insert((deadline, request));
        self.lives.insert(request, life);
        self.start(now, request, actions);
    }

    fn start(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&request) else { return };
        let session = life.ask.session.unwrap_or(request.0);
        let Some(target) = self.choose(&life.ask, session) else {
            return self.fail(now, request, actions);
        };
        self.replan(request, Wait::Token(now + TIME_OUT));
        let Some(life) = self.lives.get_mut(&request) else { return };
        life.tries += 1;
        life.target = target;
        life.started = now;
        let attempt = AttemptId { request, number: life.tries };
        let how = if life.tries == 1 { How::First } else { How::Retry };
        actions.push(Action::Fact(Fact::AttemptStarted { attempt, target, how, relayed: 0 }));
        let fixed = &self.config.targets[usize::from(target.0)];
        let work = Work { from: self.config.fleet.me, attempt };
        let mut patience = Latency::default().patience(&self.config.limits);
        patience.first_token = TIME_OUT;
        let open = Open {
            work,
            target,
            tier: life.ask.tier,
            cost: life.ask.cost,
            credited: true,
            moving: false,
            left: life.deadline.since(now),
            tenant: life.ask.tenant,
            session,
            labels: life.ask.labels,
            prompt: life.ask.prompt,
            output: life.ask.max_tokens.unwrap_or(OUTPUT_UNSAID),
            elsewhere: false,
        };
        let (site, model) = (fixed.site, fixed.model.clone());
        let is_node = self.config.sites[usize::from(site.0)].is_node();
        let open = is_node.then_some(open);
        let only_choice = None;
        let broken = None;
        let start =
            Start { attempt, target, site, model, how, patience, only_choice, open, broken };
        actions.push(Action::Start(start));
    }

    /// Home, else the first in the chain that is up, else home.
    fn choose(&self, ask: &Ask, session: u64) -> Option<TargetId> {
        let model = self.config.models.get(usize::from(ask.model.0))?;
        let fixed = |target: &TargetId| &self.config.targets[usize::from(target.0)];
        let is_ours =
            |target: &&TargetId| self.config.sites[usize::from(fixed(target).site.0)].is_node();
        let mut chain: Vec<TargetId> = model.served_by.iter().filter(is_ours).copied().collect();
        if chain.is_empty() {
            chain.clone_from(&model.served_by);
        }
        let shares: u64 = chain.iter().map(|target| u64::from(fixed(target).home)).sum();
        // One draw of a generator seeded with it spreads whatever the hash looks like.
        let mut point = Rng::new(session).below(shares);
        let mut home = *chain.first()?;
        for target in &chain {
            let share = u64::from(fixed(target).home);
            if point < share {
                home = *target;
                break;
            }
            point -= share;
        }
        if self.is_up(home) {
            return Some(home);
        }
        Some(chain.into_iter().find(|target| self.is_up(*target)).unwrap_or(home))
    }

    fn failed(
        &mut self,
        now: Time,
        attempt: AttemptId,
        (class, why, has_token): (ErrorClass, Why, bool),
        actions: &mut Vec<Action>,
    ) {
        let Some(life) = self.running(attempt) else { return };
        let has_token = has_token || life.wait == Wait::End;
        let (target, after) = (life.target, now.since(life.started));
        let is_refused = class == ErrorClass::Overload && why == Why::Reply;
        life.status = match why {
            Why::Reply if is_refused => 503,
            Why::Silent | Why::NoFirstToken => 504,
            _ => 502,
        };
        let is_last = has_token || life.tries >= TRIES;
        let tokens = u32::from(has_token);
        actions.push(Action::Fact(Fact::AttemptFailed {
            attempt,
            target,
            after,
            tokens,
            class,
            why,
        }));
        if is_last {
            return self.fail(now, attempt.request, actions);
        }
        let pause = match why {
            Why::Reply => PAUSE_REFUSED,
            _ => self.rng.between(PAUSE.0, PAUSE.1),
        };
        self.replan(attempt.request, Wait::Pause(now + pause));
    }

    fn fail(&mut self, now: Time, request: RequestId, actions: &mut Vec<Action>) {
        let Some(life) = self.lives.get(&request) else { return };
        let (status, outcome) = match life.status {
            503 => (503, Outcome::Refused),
            504 => (504, Outcome::Expired),
            other => (other, Outcome::Failed),
        };
        // It does not say when to come back: nothing here knows.
        let refusal = Refusal {
            status,
            kind: "service_error".into(),
            code: "upstream_failed".into(),
            message: format!("{} attempts failed", life.tries),
            param: None,
            retry_after: None,
        };
        self.close(now, request, (Close::Error(refusal), outcome), actions);
    }

    fn close(
        &mut self,
        now: Time,
        request: RequestId,
        (close, outcome): (Close, Outcome),
        actions: &mut Vec<Action>,
    ) {
        let Some(life) = self.lives.remove(&request) else { return };
        self.deadlines.remove(&(life.next(), request));
        let (attempts, after) = (life.tries, now.since(life.arrived));
        let fact = Fact::Closed { request, outcome, attempts, resumes: 0, after };
        actions.push(Action::Fact(fact));
        actions.push(Action::Close { request, close });
    }

    fn pass_checks(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(at) = self.check else {
            // Gateways that started together do not all check at the same moment.
            self.check = Some(now + CHECK.mul_f64(self.rng.unit()));
            return;
        };
        if now < at {
            return;
        }
        self.check = Some(at.max(now - CHECK) + CHECK);
        for index in 0..self.health.len() {
            let target = TargetId(index as u16);
            if self.health[index].asked {
                self.checked(target, false, actions);
            }
            self.health[index].asked = true;
            actions.push(Action::Probe { target, probe: Probe::Shallow });
        }
    }

    fn checked(&mut self, target: TargetId, is_good: bool, actions: &mut Vec<Action>) {
        let Some(health) = self.health.get_mut(usize::from(target.0)) else { return };
        health.asked = false;
        if health.is_up == is_good {
            health.against = 0;
            return;
        }
        health.against += 1;
        if health.against < if is_good { GOOD_CHECKS } else { BAD_CHECKS } {
            return;
        }
        *health = Health { is_up: is_good, against: 0, asked: false };
        let (from, to, why) = match is_good {
            true => (Verdict::Down, Verdict::Up, "checks were good"),
            false => (Verdict::Up, Verdict::Down, "checks were bad"),
        };
        actions.push(Action::Fact(Fact::Health { target, from, to, why }));
    }

    fn pass_deadlines(&mut self, now: Time, actions: &mut Vec<Action>) {
        while let Some(&(at, request)) = self.deadlines.first()
            && at <= now
        {
            let Some(life) = self.lives.get_mut(&request) else {
                self.deadlines.remove(&(at, request));
                continue;
            };
            let attempt = AttemptId { request, number: life.tries };
            if now >= life.deadline {
                life.status = 504;
                self.fail(now, request, actions);
                continue;
            }
            match life.wait {
                Wait::Pause(_) => self.start(now, request, actions),
                Wait::Token(_) | Wait::End => {
                    let what = (ErrorClass::Transient, Why::NoFirstToken, false);
                    self.failed(now, attempt, what, actions);
                }
            }
        }
    }

    /// The request with this attempt under way.
    fn running(&mut self, attempt: AttemptId) -> Option<&mut Life> {
        let life = self.lives.get_mut(&attempt.request)?;
        let is_paused = matches!(life.wait, Wait::Pause(_));
        (life.tries == attempt.number && !is_paused).then_some(life)
    }

    fn replan(&mut self, request: RequestId, wait: Wait) {
        let Some(life) = self.lives.get_mut(&request) else { return };
        self.deadlines.remove(&(life.next(), request));
        life.wait = wait;
        self.deadlines.insert((life.next(), request));
    }
}

impl Life {
    fn next(&self) -> Time {
        match self.wait {
            Wait::Token(at) | Wait::Pause(at) => at.min(self.deadline),
            Wait::End => self.deadline,
        }
    }
}
