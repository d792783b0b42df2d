//! Drives the gateways' machines, as the server does: clock, events, actions to whom they concern.

use super::digest::Said;
use super::hangs::Standstill;
use super::moment::{Harm, Message, Moment, position};
use super::network::Way;
use super::nodes::{Clock, Front, GatewayNode, Reach};
use super::policies::{NEVER, Pulse, fresh_disk};
use super::{PolicyKind, World};
use crate::naive::NaiveGateway;
use crate::scenario::{FaultKind, Lie};
use mainstay_core::fact::{CreditFact, Fact, Verdict};
use mainstay_core::gateway::{Action, Event, Gateway, Probe};
use mainstay_core::message::Report;
use mainstay_core::names::{GatewayId, SiteId, TargetId, Work};
use mainstay_core::time::Duration;
use mainstay_core::{policy, site};

/// A probe that has no answer by then has failed.
const PROBE_WAIT: Duration = Duration::from_secs(1);
/// A token takes so long where it is computed.
const PROBE_TOKEN: Duration = Duration::from_millis(300);
/// Lying probes that alternate say down for so long, then up.
const ALTERNATE: Duration = Duration::from_secs(5);

impl World<'_> {
    /// One more gateway process; it runs if it is among the first ones.
    pub(super) fn add_gateway(&mut self, at: usize) {
        let config = self.plan.gateway(&self.scenario.bench, at);
        self.gateways.push(GatewayNode {
            front: None,
            config,
            clock: Clock::sound(self.now),
            tick: None,
            life: 0,
            up: vec![true; self.sites.len()],
            answers: vec![1; self.plan.gateways],
            policy: None,
            policy_tick: None,
            disk: fresh_disk(&self.policy_source),
            stopped: NEVER,
            pulse: Pulse::default(),
            failing: 0,
            in_doubt: false,
            standstill: None,
            runs: (0, NEVER),
            deadly: Vec::new(),
            suspects: (0, 0),
        });
        if at < self.plan.first_gateways {
            self.gateway_starts(at);
        }
    }

    /// A gateway process starts, believing every site up.
    pub(super) fn gateway_starts(&mut self, at: usize) {
        if self.gateways[at].front.is_some() {
            return;
        }
        let seed = self.rng.bits();
        if self.policy == PolicyKind::Mainstay {
            self.boot_policy(at, seed);
        }
        let node = &mut self.gateways[at];
        node.in_doubt = false;
        node.life += 1;
        node.tick = None;
        let is_again = node.life > 1;
        let unwell: Vec<usize> = (0..node.up.len()).filter(|site| !node.up[*site]).collect();
        node.up.fill(true);
        node.front = Some(match self.policy {
            PolicyKind::Mainstay => Front::Ours(Box::new(Gateway::new(node.config.clone(), seed))),
            PolicyKind::Naive => {
                Front::Naive(Box::new(NaiveGateway::new(node.config.clone(), seed)))
            }
        });
        for site in unwell {
            self.note_health(at, site, "up");
        }
        if is_again {
            self.checks.restarts(self.now, at);
        }
        self.tell_gateway(at, Event::Tick);
        let node = &self.gateways[at];
        let orders = node.policy.as_ref().map(|p| p.in_force(node.clock.local(self.now)));
        if let Some(orders) = orders.filter(|orders| !orders.is_empty()) {
            self.tell_gateway(at, Event::Orders(orders));
        }
    }

    /// A gateway process dies; its clients and its attempts lose their connections.
    pub(super) fn gateway_dies(&mut self, at: usize, again: Option<Duration>) {
        if self.gateways[at].front.take().is_none() {
            return;
        }
        self.gateways[at].policy = None;
        self.gateways[at].standstill.iter_mut().for_each(Standstill::dies);
        self.gateways[at].stopped = self.now;
        let of_it = self
            .attempts
            .iter()
            .filter(|(_, attempt)| usize::from(attempt.gateway) == at && attempt.at_gateway);
        let keys: Vec<_> = of_it.map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.hang_up(key));
        self.lose_clients(at);
        if let Some(again) = again {
            self.calendar.put(self.now + again, Moment::GatewayStarts(at as u16));
        }
    }

    pub(super) fn gateway_tick(&mut self, at: usize) {
        let node = &mut self.gateways[at];
        if node.tick != Some(self.now) {
            return;
        }
        node.tick = None;
        if node.standstill.is_some() {
            // It looks at its timers when it goes on.
            return;
        }
        let due = node.front.as_ref().and_then(Front::deadline);
        if due.is_some_and(|due| due <= node.clock.local(self.now)) {
            self.tell_gateway(at, Event::Tick);
        } else {
            self.rearm_gateway(at);
        }
    }

    /// Asks to be called when the machine wants it, if that is sooner than already planned.
    pub(super) fn rearm_gateway(&mut self, at: usize) {
        let node = &mut self.gateways[at];
        let Some(due) = node.front.as_ref().and_then(Front::deadline) else { return };
        // A machine that wants to be called at once is called a little later, or time would stop.
        let due = node.clock.world(due).max(self.now + Duration::from_micros(1));
        if node.tick.is_none_or(|tick| due < tick) {
            node.tick = Some(due);
            self.calendar.put(due, Moment::GatewayTick(at as u16));
        }
    }

    /// A gateway hears of something.
    pub(super) fn tell_gateway(&mut self, at: usize, event: Event) {
        let node = &mut self.gateways[at];
        let Some(front) = &mut node.front else { return };
        if let Some(standstill) = node.standstill.as_mut().filter(|still| still.stands()) {
            return standstill.comes(event);
        }
        self.checks.hears(&event);
        let local = node.clock.local(self.now);
        let mut actions = std::mem::take(&mut self.gateway_actions);
        front.handle(local, event, &mut actions);
        for action in actions.drain(..) {
            self.gateway_acts(at, action);
        }
        self.gateway_actions = actions;
        self.rearm_gateway(at);
    }

    fn gateway_acts(&mut self, at: usize, action: Action) {
        match action {
            Action::Start(start) => self.start(at, start),
            Action::Close { request, close } => self.closed(at, request, close),
            Action::GiveUp { attempt } => {
                let work = Work { from: GatewayId(at as u16), attempt };
                if let Some(key) = self.index.get(&work).copied() {
                    self.harmed(key, Harm::Back);
                }
            }
            Action::Report { site, report } => self.report(at, site, report),
            Action::Digest { to, mut digest } => {
                self.fill_digest(at, &mut digest);
                let to = position(to);
                if let Some(arrives) = self.network.peer(self.now, at, to) {
                    let message = Message::Digest { to: to as u16, digest: Box::new(digest) };
                    self.post(arrives, message);
                }
            }
            Action::Probe { target, probe } => self.probe(at, target, probe),
            Action::Answers(answers) => {
                if answers.iter().all(|(_, weight)| *weight == 0) {
                    self.breach("I4", at, "no gateway is named any more".into());
                }
                let weights = &mut self.gateways[at].answers;
                weights.fill(0);
                for (gateway, weight) in answers {
                    if let Some(place) = weights.get_mut(position(gateway)) {
                        *place = weight;
                    }
                }
            }
            Action::Fact(fact) => self.gateway_fact(at, fact),
        }
    }

    fn gateway_fact(&mut self, at: usize, fact: Fact) {
        if let Fact::Health { target, from: _, to, why } = &fact {
            let site = usize::from(target.0);
            let word = match to {
                Verdict::Up => "up",
                Verdict::Suspect => "suspect",
                Verdict::Down => "down",
                Verdict::Probation => "probation",
            };
            self.gateways[at].up[site] = *to == Verdict::Up;
            self.note_health(at, site, word);
            let name = &self.scenario.bench.sites[site].name;
            let words = format!("{name} is {word}: {why}");
            self.ledger.mark(
                self.now.since(crate::world::START),
                format!("gateway {}", at + 1),
                words,
            );
        }
        if let Fact::Credit(CreditFact::Readiness { model: _, lost, survives }) = &fact {
            let all = survives[..self.scenario.bench.tiers.len()].to_vec();
            let seconds = self.since().as_secs_f64();
            self.ledger.timeline.readiness.push((seconds, lost.0, all));
        }
        self.fact(at, Said::Gateway(fact));
    }

    fn note_health(&mut self, at: usize, site: usize, word: &'static str) {
        let seconds = self.since().as_secs_f64();
        self.ledger.timeline.health.push((seconds, at as u16, site as u16, word));
    }

    fn report(&mut self, at: usize, site: SiteId, report: Report) {
        let site = usize::from(site.0);
        for arrives in self.network.control(self.now, (at, site), Way::Out).into_iter().flatten() {
            let message = Message::Report { from: at as u16, site: site as u16, report };
            self.post(arrives, message);
        }
    }

    fn probe(&mut self, at: usize, target: TargetId, probe: Probe) {
        let site = usize::from(target.0);
        let node = &self.sites[site];
        let has_worker = node.workers.each.iter().any(|worker| worker.is_up);
        let is_served = node.account.is_some()
            || (node.house.is_some() && has_worker && self.plan.unloadable != Some(site));
        let is_well = node.reach == Reach::Open
            && match probe {
                Probe::Shallow => {
                    let house = node.house.as_ref();
                    node.account.is_some() || house.is_some_and(|h| h.is_healthy(self.now))
                }
                Probe::Token => is_served,
            };
        let in_time = self.now + PROBE_WAIT;
        let is_silent = node.reach == Reach::Swallows;
        let comes = self.network.probe(self.now, at, site);
        let comes = comes.filter(|comes| !is_silent && *comes <= in_time);
        let good = self.lie(site).unwrap_or(is_well && comes.is_some());
        let takes = if probe == Probe::Token { PROBE_TOKEN } else { Duration::ZERO };
        let ends = comes.map_or(in_time, |comes| comes + takes);
        self.post(ends, Message::Probed { to: at as u16, target, probe, good });
    }

    /// What lying probes of this site say now.
    fn lie(&self, site: usize) -> Option<bool> {
        let faults = self.scenario.faults.iter().zip(&self.in_force);
        let mut lies =
            faults.filter(|(_, in_force)| **in_force).filter_map(|(fault, _)| match &fault.kind {
                FaultKind::LyingHealth { sites, pattern } => {
                    super::network::holds(sites, site).then_some((fault.at, *pattern))
                }
                _ => None,
            });
        let (since, pattern) = lies.next_back()?;
        Some(match pattern {
            Lie::Down => false,
            Lie::Up => true,
            Lie::Alternating => {
                let lied = self.since().saturating_sub(since);
                lied.as_micros() / ALTERNATE.as_micros() % 2 == 1
            }
        })
    }

    /// A message arrives.
    pub(super) fn deliver(&mut self, key: super::slab::Key) {
        let Some(message) = self.messages.take(key) else { return };
        match message {
            Message::Report { from, site, report } => self.reported(from, site, report),
            Message::Grant { to, grant } => self.tell_gateway(usize::from(to), Event::Grant(grant)),
            Message::Ack { to, key, ack } => {
                if self.acked(key) {
                    self.tell_gateway(usize::from(to), Event::Ack(ack));
                }
            }
            Message::Refuse { to, key, refuse } => self.refused(usize::from(to), key, refuse),
            Message::Digest { to, digest } => {
                let to = usize::from(to);
                self.tell_policy(to, policy::Event::Digest((*digest).clone()));
                self.tell_gateway(to, Event::Digest(*digest));
            }
            Message::SiteOrders { site, orders } => {
                let site = usize::from(site);
                if self.sites[site].reach == Reach::Open {
                    self.tell_site(site, site::Event::Orders(orders));
                }
            }
            Message::Probed { to, target, probe, good } => {
                let site = usize::from(target.0);
                let node = &self.sites[site];
                let runs = node.house.as_ref().is_some_and(|h| !h.is_healthy(self.now));
                if !good && node.reach == Reach::Open && runs && self.lie(site).is_none() {
                    self.checks.is_full();
                }
                self.tell_gateway(usize::from(to), Event::Probed { target, probe, good });
            }
            message @ (Message::Order { .. }
            | Message::Fetch { .. }
            | Message::Orders { .. }
            | Message::Snapshot { .. }
            | Message::Tasted { .. }) => self.deliver_policy(message),
        }
    }
}
