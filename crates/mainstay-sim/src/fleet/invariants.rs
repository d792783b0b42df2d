//! What must hold at every step of every run, checked where it could break.

use super::clients::User;
use super::digest::{Digest, Kinds, Said};
use super::nodes::SiteNode;
use crate::outcome::{SiteSecond, Timeline, Violation};
use crate::world::START;
use mainstay_core::fact::{Fact, How, Verdict};
use mainstay_core::gateway::{Event, Start};
use mainstay_core::message::Grant;
use mainstay_core::names::{AttemptId, ErrorClass, TargetId};
use mainstay_core::time::{Duration, Time};
use std::collections::VecDeque;

/// Facts of a node that a violation shows.
const SHOWN: usize = 50;
/// Violations of one rule that a run keeps; the first tells the most.
const KEPT: usize = 5;
/// Attempts of all kinds a request may have (I9).
const ATTEMPTS: u8 = 3;
/// Changes between up and not up in ten minutes (I12).
const TRANSITIONS: usize = 6;
/// See `TRANSITIONS`.
const WINDOW: Duration = Duration::from_secs(600);
/// Hundredths of its capacity that a site may grant (I2).
const GRANTED: u64 = 105;
/// Seconds that a lent floor may take to come back (I14): lease and drift, and the second they
/// begin in.
const FLOOR_SLACK: u32 = 4;
/// Seconds after which an answer of the bench is over: eight, and some waiting.
const ANSWERED: usize = 12;
/// A request ends by its deadline and this (I10).
const LATE: Duration = Duration::from_secs(1);

/// The last facts of a node.
#[derive(Debug, Default)]
struct Ring(VecDeque<(Time, Said)>);

/// What a gateway did lately.
#[derive(Debug, Default)]
struct Habit {
    /// By site: when its verdict changed between up and not up.
    changes: Vec<VecDeque<Time>>,
    /// By tier: first attempts, and retries that burdened a site.
    tries: Vec<(u64, u64)>,
    since: Time,
}

/// All checks.
#[derive(Debug)]
pub struct Checks {
    /// What was broken.
    pub violations: Vec<Violation>,
    /// Of all facts.
    pub digest: Digest,
    /// Which kinds of them there were.
    pub kinds: Kinds,
    rings: Vec<Ring>,
    habits: Vec<Habit>,
    names: Vec<String>,
    epochs: Vec<u32>,
    blamed: Option<&'static str>,
    is_full: bool,
}

impl Checks {
    /// For so many gateways, and sites of these names.
    pub fn new(gateways: usize, sites: &[String], tiers: usize) -> Checks {
        let mut names: Vec<String> = (1..=gateways).map(|g| format!("gateway {g}")).collect();
        names.extend(sites.iter().cloned());
        let habit = || Habit {
            changes: vec![VecDeque::new(); sites.len()],
            tries: vec![(0, 0); tiers],
            since: START,
        };
        Checks {
            violations: Vec::new(),
            digest: Digest::default(),
            kinds: Kinds::default(),
            rings: names.iter().map(|_| Ring::default()).collect(),
            habits: (0..gateways).map(|_| habit()).collect(),
            epochs: vec![0; sites.len()],
            names,
            blamed: None,
            is_full: false,
        }
    }

    /// Notes a broken rule, with the last facts of its node.
    pub fn breach(&mut self, now: Time, rule: &str, node: usize, detail: String) {
        if self.violations.iter().filter(|before| before.rule == rule).count() >= KEPT {
            return;
        }
        let mut detail = detail;
        for (at, said) in &self.rings[node].0 {
            detail.push_str(&format!("\n  {:.6} {said:?}", at.since(START).as_secs_f64()));
        }
        self.violations.push(Violation {
            at_s: now.since(START).as_secs_f64(),
            rule: rule.into(),
            node: self.names[node].clone(),
            detail,
        });
    }

    /// A gateway is told something that by itself must not change a verdict (I7), or something
    /// else.
    pub fn hears(&mut self, event: &Event) {
        let is_full = std::mem::take(&mut self.is_full);
        self.blamed = match event {
            Event::Probed { good: false, .. } if is_full => Some("a probe of a full site"),
            Event::Refused(_) => Some("a refusal"),
            Event::FirstToken { .. } => Some("a first token"),
            Event::Grant(_) => Some("a grant"),
            Event::Broken { broken, .. } => match broken.failure.class {
                ErrorClass::Overload | ErrorClass::ThrottleAccount | ErrorClass::ThrottleBurst => {
                    Some("an overload")
                }
                _ => None,
            },
            _ => None,
        };
    }

    /// The probe that ends now failed at a site that has nothing but too much work.
    pub fn is_full(&mut self) {
        self.is_full = true;
    }

    /// A node tells of a decision.
    pub fn fact(&mut self, now: Time, node: usize, said: Said) {
        self.digest.fact(now.as_micros(), node as u64, &said);
        self.kinds.fact(&said);
        if let Said::Gateway(Fact::Health { target, from, to, .. }) = &said {
            self.health(now, node, *target, (*from, *to));
        }
        let ring = &mut self.rings[node].0;
        if ring.len() == SHOWN {
            ring.pop_front();
        }
        ring.push_back((now, said));
    }

    fn health(&mut self, now: Time, node: usize, target: TargetId, step: (Verdict, Verdict)) {
        let (from, to) = step;
        if from == Verdict::Up
            && let Some(blamed) = self.blamed
        {
            self.breach(now, "I7", node, format!("{target:?} left UP after {blamed}"));
        }
        if (from == Verdict::Up) == (to == Verdict::Up) {
            return;
        }
        let changes = &mut self.habits[node].changes[usize::from(target.0)];
        changes.retain(|at| now.since(*at) < WINDOW);
        changes.push_back(now);
        let count = changes.len();
        if count > TRANSITIONS {
            self.breach(now, "I12", node, format!("{count} changes of {target:?} in 10 min"));
        }
    }

    /// A gateway process starts: what it did before counts no more.
    pub fn restarts(&mut self, now: Time, gateway: usize) {
        let habit = &mut self.habits[gateway];
        habit.changes.iter_mut().for_each(VecDeque::clear);
        habit.tries.iter_mut().for_each(|tries| *tries = (0, 0));
        habit.since = now;
    }

    /// A gateway starts an attempt (I9, I10).
    pub fn starts(&mut self, now: Time, gateway: usize, start: &Start, user: &User) {
        let attempt = start.attempt;
        if attempt.number > ATTEMPTS {
            self.breach(now, "I9", gateway, format!("{attempt:?} is beyond {ATTEMPTS}"));
        }
        if user.returns > 1 {
            self.breach(now, "I9", gateway, format!("{attempt:?} returns a second time"));
        }
        let is_resume = matches!(start.how, How::Resume(_));
        if is_resume != (user.relayed > 0) {
            let how = format!("{attempt:?} is {:?} with {} relayed", start.how, user.relayed);
            self.breach(now, "I10", gateway, how);
        }
        let tries = &mut self.habits[gateway].tries[usize::from(user.tier)];
        match start.how {
            How::First => tries.0 += 1,
            How::Retry if user.is_charged => tries.1 += 1,
            How::Retry | How::Resume(_) => {}
        }
    }

    /// Retries are within a tenth of first attempts and what the bucket holds (I9).
    pub fn retries(&mut self, now: Time, gateway: usize) {
        for tier in 0..self.habits[gateway].tries.len() {
            let habit = &self.habits[gateway];
            let (firsts, retries) = habit.tries[tier];
            let lived = now.since(habit.since).as_secs_f64();
            let firsts = firsts as f64;
            // At least one a second accrues, and the bucket holds a minute of accrual.
            let accrued = 0.1 * firsts + lived;
            let depth = 60.0 * (0.1 * firsts / lived.max(1.0)).max(1.0);
            if retries as f64 > accrued + depth + 1.0 {
                let detail = format!("{retries} retries of tier {tier} after {firsts} firsts");
                self.breach(now, "I9", gateway, detail);
            }
        }
    }

    /// A site grants (I2, I3).
    pub fn grants(&mut self, now: Time, site: usize, node: &SiteNode, to: (usize, &Grant)) {
        let at = self.habits.len() + site;
        let (gateway, grant) = to;
        let amount: u64 = grant.rate.iter().map(|rate| rate.0).sum::<u64>() + grant.standby.0;
        if grant.epoch < self.epochs[site] && amount > 0 {
            let detail = format!("epoch {} grants after {}", grant.epoch, self.epochs[site]);
            self.breach(now, "I3", at, detail);
        }
        self.epochs[site] = self.epochs[site].max(grant.epoch);
        let before = node.granted_to(now, gateway);
        let others = node.granted(now) - before;
        let most = grant.capacity.0 * GRANTED / 100;
        if amount > 0 && others + amount > most {
            let detail = format!("{amount} to {gateway} and {others} to others, of {most}");
            self.breach(now, "I2", at, detail);
        }
    }

    /// A site gives work to a worker (I1, I8).
    pub fn dispatches(&mut self, now: Time, site: usize, node: &SiteNode, labels: (u64, u64)) {
        let at = self.habits.len() + site;
        let (open, streams) = (node.workers.open(), node.workers.streams());
        if open > streams {
            self.breach(now, "I1", at, format!("{open} streams of {streams}"));
        }
        let (asked, has) = labels;
        if asked & !has != 0 {
            self.breach(now, "I8", at, format!("served labels {asked:b} with {has:b}"));
        }
    }

    /// A gateway ends a request (I10).
    pub fn closes(&mut self, now: Time, gateway: usize, took: Duration, longest: Duration) {
        if took > longest + LATE {
            self.breach(now, "I10", gateway, format!("a request ended after {took:?}"));
        }
    }

    /// An answer ended whole with so many of its tokens (I10).
    pub fn whole(&mut self, now: Time, gateway: usize, attempt: AttemptId, tokens: (u32, u32)) {
        let (relayed, wanted) = tokens;
        if relayed != wanted {
            let detail = format!("{attempt:?} whole with {relayed} of {wanted} tokens");
            self.breach(now, "I10", gateway, detail);
        }
    }
}

/// A tier that wants no more than its floor is shed for another for longer than it takes to move
/// credit (I14). Looked for in whole seconds, where every gateway holds every site for up.
pub fn floors(timeline: &Timeline, floors: &[f64], gateways: u16) -> Vec<Violation> {
    let mut found = Vec::new();
    for tier in 0..floors.len() {
        let mut since = 0;
        for (at, second) in timeline.seconds.iter().enumerate() {
            // An answer may break as long as it lasts; it is asked for anew in a later second.
            let later = &timeline.seconds[at..timeline.seconds.len().min(at + ANSWERED)];
            let is_up = |site: &SiteSecond| site.capacity <= 0.0 || site.up == gateways;
            let all_up = later.iter().all(|second| second.sites.iter().all(is_up));
            let own = &second.tiers[tier];
            let within = f64::from(own.offered) <= floors[tier] * second.on_offer;
            // More than a request or two by chance.
            let is_shed = own.shed > 2 && f64::from(own.shed) > 0.02 * f64::from(own.offered);
            // A higher tier that takes more than its floor takes it from this one as well.
            let mut others = (0..floors.len()).filter(|other| *other != tier);
            let gains = others.any(|other| {
                let good = f64::from(second.tiers[other].good);
                good > 1.1 * floors[other] * second.on_offer
            });
            let is_wrong = all_up && within && is_shed && gains;
            since = if is_wrong { since + 1 } else { 0 };
            if since == FLOOR_SLACK {
                let detail =
                    format!("{own:?} shed below its floor, and others served above theirs");
                found.push(Violation {
                    at_s: at as f64,
                    rule: "I14".into(),
                    node: timeline.tiers[tier].clone(),
                    detail,
                });
            }
        }
    }
    found
}
