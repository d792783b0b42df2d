//! What must be true of every world at every event, whatever is played.
//!
//! The rules are those of the faults' conduct list (C1 to C8): they are written here once more,
//! in their own words and by their own counts, so that the machine is not judged by itself.

use crate::relay::{Relay, is_charged};
use crate::script::Finish;
use mainstay_core::config::Config;
use mainstay_core::fact::{Fact, How, Rung, Verdict};
use mainstay_core::gateway::{Action, Close, Event, Start};
use mainstay_core::names::{ErrorClass, RequestId, Scope, TargetId};
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A request ends this long after its deadline at the latest.
const GRACE: Duration = Duration::from_secs(1);
/// Changes between up and not up that a target may make within `MEMORY`.
const MOVES: usize = 6;
const MEMORY: Duration = Duration::from_secs(600);

/// What is watched, and what was found.
#[derive(Debug, Default)]
pub struct Checks {
    /// Each breach in words.
    pub violations: Vec<String>,
    /// How often each fact was told.
    pub facts: BTreeMap<&'static str, u32>,
    /// Times when a target went out of use or came back, by target.
    pub moves: BTreeMap<TargetId, Vec<Time>>,
    open: BTreeMap<RequestId, Watched>,
    closed: BTreeSet<RequestId>,
    recent: BTreeMap<TargetId, VecDeque<Time>>,
    windows: BTreeMap<TargetId, u64>,
    budgets: BTreeMap<u8, Budget>,
    began: Option<Time>,
}

#[derive(Debug)]
struct Watched {
    tier: u8,
    deadline: Time,
    tried: Vec<TargetId>,
    charged: bool,
}

#[derive(Debug, Default)]
struct Budget {
    firsts: u32,
    retries: u32,
}

impl Checks {
    /// A breach that somebody else found.
    pub fn breach(&mut self, now: Time, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(format!("{:.3} s: {what}", now.as_micros() as f64 / 1e6));
        }
    }

    /// The machine is about to hear of `event`.
    pub fn hears(&mut self, now: Time, event: &Event, config: &Config) {
        self.began.get_or_insert(now);
        if let Event::Arrive { request, ask } = event {
            let most = config.limits.request;
            let deadline = now + ask.deadline.map_or(most, |own| own.min(most));
            let tier = ask.tier.0;
            let life = Watched { tier, deadline, tried: Vec::new(), charged: false };
            self.open.insert(*request, life);
        }
        if let Event::Broken { attempt, broken } = event
            && let Some(life) = self.open.get_mut(&attempt.request)
        {
            life.charged = is_charged(broken);
        }
    }

    /// The machine answered `event` with `actions`.
    pub fn decided(&mut self, now: Time, blamed: Option<ErrorClass>, actions: &[Action]) {
        let is_strike = blamed.is_none_or(|class| {
            let dead = ErrorClass::Dead(Scope::Site);
            class == dead || [ErrorClass::Transient, ErrorClass::PoisonedStream].contains(&class)
        });
        for action in actions {
            let Action::Fact(fact) = action else { continue };
            *self.facts.entry(name(fact)).or_default() += 1;
            match fact {
                Fact::Health { target, from, to, .. } => {
                    if !is_strike {
                        self.breach(now, format!("{blamed:?} changed the health of {target:?}"));
                    }
                    self.moved(now, *target, (*from, *to));
                }
                Fact::Learned { target, window: Some(window), .. } => {
                    self.windows.insert(*target, *window);
                }
                _ => {}
            }
        }
    }

    /// An attempt is to be opened.
    pub fn starts(&mut self, now: Time, start: &Start, relay: &Relay, config: &Config) {
        let request = start.attempt.request;
        let target = start.target;
        let mut wrong = Vec::new();
        let Some(life) = self.open.get_mut(&request) else {
            return self.breach(now, format!("an attempt of {request:?}, which is closed"));
        };
        let budget = self.budgets.entry(life.tier).or_default();
        match start.how {
            How::First => budget.firsts += 1,
            How::Retry => budget.retries += u32::from(life.charged),
            How::Resume(_) => {}
        }
        let passed = self.began.map_or(Duration::ZERO, |began| now.since(began)).as_secs_f64();
        if f64::from(budget.retries) > 10.0 + passed + 0.1 * f64::from(budget.firsts) {
            wrong.push(format!("retry {} beyond the budget", budget.retries));
        }
        let returns = life.tried.len() - life.tried.iter().collect::<BTreeSet<_>>().len();
        let is_return = life.tried.contains(&target);
        life.tried.push(target);
        if life.tried.len() > 3 || (is_return && returns > 0) {
            wrong.push(format!("attempts at {:?}", life.tried));
        }
        if now >= life.deadline {
            wrong.push("an attempt after the deadline".into());
        }
        let model = &config.models[usize::from(relay.ask.model.0)];
        let fixed = &config.targets[usize::from(target.0)];
        let known = model.served_by.contains(&target) || model.substitutes.contains(&target);
        let window = fixed.window.map(u64::from).or(self.windows.get(&target).copied());
        let told: u32 = relay.choices.iter().map(|choice| choice.relayed.tokens).sum();
        let fits = window.is_none_or(|most| u64::from(relay.ask.prompt + told) <= most);
        let answers = match (fixed.output_max, relay.ask.max_tokens) {
            (Some(most), Some(asked)) => asked.saturating_sub(told).max(1) <= most,
            _ => true,
        };
        if !known || !fits || !answers || !fixed.offers.covers(relay.ask.needs) {
            wrong.push(format!("{target:?} cannot serve it"));
        }
        let is_resume = matches!(start.how, How::Resume(Rung::Native | Rung::Regenerate));
        if is_resume != (told > 0 || relay.choices.iter().any(|c| c.relayed.reasoning)) {
            wrong.push(format!("{:?} with {told} tokens relayed", start.how));
        }
        wrong.into_iter().for_each(|what| self.breach(now, format!("{request:?}: {what}")));
    }

    /// The request is closed.
    pub fn closes(&mut self, now: Time, relay: &Relay, close: &Close) {
        let request = relay.request;
        let Some(life) = self.open.remove(&request) else {
            return self.breach(now, format!("{request:?} closed twice"));
        };
        self.closed.insert(request);
        if now > life.deadline + GRACE {
            self.breach(now, format!("{request:?} outlived its deadline"));
        }
        for choice in &relay.choices {
            let text = &choice.relayed.content;
            let is_prefix = choice.truth.starts_with(text.as_str());
            let is_whole = match (close, choice.held) {
                (Close::Done, Some(Finish::Stop)) => *text == choice.truth,
                (Close::Done, Some(Finish::Length | Finish::Filter)) => true,
                (Close::Done, None) => false,
                (Close::Filtered | Close::Error(_) | Close::Gone, _) => true,
            };
            if !is_prefix || !is_whole {
                let truth = &choice.truth;
                let what = format!("{request:?} {close:?}: {text:?} is not of {truth:?}");
                self.breach(now, what);
            }
        }
    }

    /// Nothing more will happen.
    pub fn end(&mut self, now: Time) {
        let open: Vec<_> = self.open.keys().copied().collect();
        if !open.is_empty() {
            self.breach(now, format!("never closed: {open:?}"));
        }
    }

    fn moved(&mut self, now: Time, target: TargetId, (from, to): (Verdict, Verdict)) {
        if (from == Verdict::Up) == (to == Verdict::Up) {
            return;
        }
        self.moves.entry(target).or_default().push(now);
        let recent = self.recent.entry(target).or_default();
        recent.push_back(now);
        while recent.front().is_some_and(|at| now.since(*at) >= MEMORY) {
            recent.pop_front();
        }
        if recent.len() > MOVES {
            self.breach(now, format!("{target:?} went in and out of use too often"));
        }
    }
}

/// The name of a fact.
pub fn name(fact: &Fact) -> &'static str {
    match fact {
        Fact::Arrived { .. } => "Arrived",
        Fact::AttemptStarted { .. } => "AttemptStarted",
        Fact::FirstToken { .. } => "FirstToken",
        Fact::AttemptWhole { .. } => "AttemptWhole",
        Fact::Miscounted { .. } => "Miscounted",
        Fact::AttemptFailed { .. } => "AttemptFailed",
        Fact::AttemptLeft { .. } => "AttemptLeft",
        Fact::Waiting { .. } => "Waiting",
        Fact::Closed { .. } => "Closed",
        Fact::Health { .. } => "Health",
        Fact::Paused { .. } => "Paused",
        Fact::Limited { .. } => "Limited",
        Fact::Parked { .. } => "Parked",
        Fact::Unparked { .. } => "Unparked",
        Fact::Learned { .. } => "Learned",
        Fact::ContinuationOff { .. } => "ContinuationOff",
        Fact::RetriesExhausted { .. } => "RetriesExhausted",
        Fact::Credit(_) => "Credit",
        Fact::Drill(_) => "Drill",
    }
}
