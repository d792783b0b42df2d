//! What must hold at every step of every run, checked where it could break.

use super::clients::User;
use super::digest::{Digest, Kinds, Said};
use super::nodes::SiteNode;
use crate::outcome::Violation;
use crate::world::START;
use mainstay_core::config::Service;
use mainstay_core::cost::CostRate;
use mainstay_core::fact::{Fact, How, Verdict};
use mainstay_core::gateway::health::INDIRECT;
use mainstay_core::gateway::{Event, Start};
use mainstay_core::message::Grant;
use mainstay_core::names::{AttemptId, ErrorClass, SiteId, TargetId};
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
/// Hundredths of capacity that indirect evidence removes within `WINDOW`, or one site (I6).
const INDIRECT_MOST: u64 = 34;
/// Bytes that a gateway may hold.
const HELD_MOST: usize = 256 << 20;
/// An order reaches every gateway within two seconds (L6), and every site from there: sites that
/// obey more than they may for longer were not told apart.
const ORDERED: u8 = 3;
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
    /// Sites that probes alone removed, and when.
    removed: Vec<(TargetId, Time)>,
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
    service: Service,
    /// Seconds in which sites that take work were too few.
    closed: u8,
    blamed: Option<&'static str>,
    is_full: bool,
}

impl Checks {
    /// For so many gateways, and sites of these names.
    pub fn new(gateways: usize, sites: &[String], tiers: usize, service: Service) -> Checks {
        let mut names: Vec<String> = (1..=gateways).map(|g| format!("gateway {g}")).collect();
        names.extend(sites.iter().cloned());
        let habit = || Habit {
            changes: vec![VecDeque::new(); sites.len()],
            tries: vec![(0, 0); tiers],
            removed: Vec::new(),
            since: START,
        };
        Checks {
            violations: Vec::new(),
            digest: Digest::default(),
            kinds: Kinds::default(),
            rings: names.iter().map(|_| Ring::default()).collect(),
            habits: (0..gateways).map(|_| habit()).collect(),
            epochs: vec![0; sites.len()],
            service,
            closed: 0,
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
        if let Said::Gateway(Fact::Health { target, from, to, why }) = &said {
            self.health(now, node, *target, (*from, *to));
            if *why == INDIRECT {
                self.removes(now, node, *target);
            }
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

    /// A gateway takes a site out because of what probes say (I6). Positions of sites and targets
    /// are the same here.
    fn removes(&mut self, now: Time, gateway: usize, target: TargetId) {
        let removed = &mut self.habits[gateway].removed;
        removed.retain(|(each, at)| *each != target && now.since(*at) < WINDOW);
        removed.push((target, now));
        let carries = |target: &TargetId| self.service.planned(SiteId(target.0)).0;
        let sum: u64 = removed.iter().map(|(each, _)| carries(each)).sum();
        let all: u64 = self.service.sites.iter().map(|site| site.0).sum();
        let count = removed.iter().filter(|(each, _)| carries(each) > 0).count();
        if count > 1 && sum * 100 > all * INDIRECT_MOST {
            let detail = format!("probes removed {removed:?}, {sum} of {all}, within 10 min");
            self.breach(now, "I6", gateway, detail);
        }
    }

    /// A gateway sends nothing new to the sites that are `out` by orders (I5).
    pub fn candidates(&mut self, now: Time, gateway: usize, out: &[bool]) {
        if let Some(detail) = too_few(&self.service, out) {
            self.breach(now, "I5", gateway, detail);
        }
    }

    /// The sites that are `out` take nothing new, by orders that they obey (I5).
    pub fn open_sites(&mut self, now: Time, out: &[bool]) {
        let found = too_few(&self.service, out);
        self.closed = if found.is_some() { self.closed.saturating_add(1) } else { 0 };
        let first = out.iter().position(|out| *out);
        if let (Some(detail), Some(site)) = (found.filter(|_| self.closed == ORDERED), first) {
            self.breach(now, "I5", self.habits.len() + site, detail);
        }
    }

    /// A gateway holds so many bytes.
    pub fn holds(&mut self, now: Time, gateway: usize, bytes: usize) {
        if bytes > HELD_MOST {
            self.breach(now, "memory", gateway, format!("{bytes} bytes held"));
        }
    }

    /// A gateway process starts: what it did before counts no more.
    pub fn restarts(&mut self, now: Time, gateway: usize) {
        let habit = &mut self.habits[gateway];
        habit.changes.iter_mut().for_each(VecDeque::clear);
        habit.removed.clear();
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

/// What is wrong if only the sites that are not `out` are in service, counted by hand.
fn too_few(service: &Service, out: &[bool]) -> Option<String> {
    let all = service.sites.iter().zip(out).filter(|(carries, _)| **carries > CostRate::ZERO);
    let stays = all.clone().filter(|(_, out)| !**out);
    let sum = |sites: &mut dyn Iterator<Item = u64>| -> u64 { sites.sum() };
    let capacity = sum(&mut all.clone().map(|(carries, _)| carries.0));
    let left = sum(&mut stays.clone().map(|(carries, _)| carries.0));
    let least = if all.count() > 2 { usize::from(service.min_sites) } else { 1 };
    let count = stays.count();
    let is_enough = count >= least && left * 100 >= capacity * u64::from(service.min_capacity);
    (!is_enough && capacity > 0).then(|| format!("{count} sites stay, {left} of {capacity}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Checks {
        let names = ["A", "B", "C", "P"].map(String::from);
        let sites = [100, 100, 100, 0].map(CostRate::whole).to_vec();
        Checks::new(2, &names, 3, Service { sites, ..Service::default() })
    }

    fn broken(checks: &Checks) -> Vec<(&str, &str)> {
        let all = checks.violations.iter();
        all.map(|wrong| (wrong.rule.as_str(), wrong.node.as_str())).collect()
    }

    #[test]
    fn a_gateway_that_leaves_itself_one_site_of_three_breaks_i5_and_a_provider_does_not_count() {
        let mut checks = checks();
        checks.candidates(START, 0, &[true, false, false, true]);
        assert_eq!(broken(&checks), []);
        checks.candidates(START, 1, &[true, true, false, false]);
        assert_eq!(broken(&checks), [("I5", "gateway 2")]);
    }

    #[test]
    fn sites_that_obey_too_many_orders_for_three_seconds_break_i5() {
        let mut checks = checks();
        let out = [false, true, true, false];
        checks.open_sites(START, &out);
        checks.open_sites(START, &out);
        checks.open_sites(START, &[false, true, false, false]);
        checks.open_sites(START, &out);
        checks.open_sites(START, &out);
        assert_eq!(broken(&checks), []);
        checks.open_sites(START, &out);
        assert_eq!(broken(&checks), [("I5", "B")]);
    }

    #[test]
    fn probes_that_remove_two_sites_of_three_within_ten_minutes_break_i6() {
        let mut checks = checks();
        let removes = |checks: &mut Checks, target, second| {
            let (target, from, to) = (TargetId(target), Verdict::Up, Verdict::Suspect);
            let fact = Fact::Health { target, from, to, why: INDIRECT };
            checks.fact(START + Duration::from_secs(second), 0, Said::Gateway(fact));
        };
        removes(&mut checks, 0, 0);
        removes(&mut checks, 3, 1);
        removes(&mut checks, 1, 600);
        assert_eq!(broken(&checks), [], "one, and later another");
        removes(&mut checks, 2, 601);
        assert_eq!(broken(&checks), [("I6", "gateway 1")]);
    }

    #[test]
    fn a_gateway_that_holds_more_than_256_mib_is_told() {
        let mut checks = checks();
        checks.holds(START, 0, 256 << 20);
        assert_eq!(broken(&checks), []);
        checks.holds(START, 0, (256 << 20) + 1);
        assert_eq!(broken(&checks), [("memory", "gateway 1")]);
    }
}
