//! The played policy source, and what a generation's content does to the process that runs it.
//!
//! The machine knows a content by its hash alone. Here each hash stands for one of a scenario's
//! contents: sound, unreadable, too large, wrong, or deadly after a while.

use super::World;
use super::digest::Said;
use super::moment::{Message, Moment, position};
use crate::scenario::{Bench, Content, FaultKind};
use mainstay_core::config::{Config, PolicyConfig};
use mainstay_core::gateway;
use mainstay_core::message::{Digest, Order, OrderId, Verb};
use mainstay_core::names::{GatewayId, SiteId, TargetId};
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::{Action, Event, Policy, Saved, Snapshot, Taste};
use mainstay_core::time::{Duration, Time};

/// From a gateway to the policy source and back.
const SOURCE: Duration = Duration::from_millis(40);
/// A sacrificial process needs this long to load a content and to answer a thousand requests.
const TASTE: Duration = Duration::from_secs(2);
/// A process that died while it loaded a content is started again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Size of a usual content, in bytes.
const USUAL: u64 = 64 << 10;
/// Seconds over which a gateway's share of failures is told.
const MINUTE: usize = 60;
/// Content that has run for so long is good.
const PROVEN: Duration = Duration::from_secs(3600);
/// Between the two generations of a removal in two steps.
const SECOND_STEP: Duration = Duration::from_secs(300);

/// One generation as it was published.
#[derive(Clone, Debug)]
struct Published {
    snapshot: Snapshot,
    content: Content,
    /// Whether what a sacrificial process would see is looked at.
    validator: bool,
}

/// The source of policy.
#[derive(Debug)]
pub struct Source {
    history: Vec<Published>,
}

impl Source {
    /// With the generation that everybody runs at the start.
    pub fn new() -> Source {
        let snapshot = Snapshot {
            generation: 1,
            content: 1,
            previous: 0,
            author: String::from("bench"),
            reason: String::from("the start"),
            bytes: USUAL,
            confirmed: true,
        };
        Source { history: vec![Published { snapshot, content: Content::Good, validator: true }] }
    }

    /// The first generation.
    pub fn first(&self) -> Snapshot {
        self.history[0].snapshot.clone()
    }

    fn newest(&self) -> &Published {
        &self.history[self.history.len() - 1]
    }

    fn publish(&mut self, content: Content, author: &str, (force, validator): (bool, bool)) {
        let before = &self.newest().snapshot;
        let generation = before.generation + 1;
        let is_oversized = content == Content::Oversized;
        let snapshot = Snapshot {
            generation,
            content: generation,
            previous: before.hash(),
            author: author.into(),
            reason: format!("{content:?}"),
            bytes: if is_oversized { u64::MAX } else { USUAL },
            confirmed: force,
        };
        self.history.push(Published { snapshot, content, validator });
    }

    fn content(&self, hash: u64) -> Option<&Published> {
        self.history.iter().rev().find(|published| published.snapshot.content == hash)
    }
}

/// What a gateway process counts for its pulse.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    seconds: Vec<(u32, u32)>,
}

impl Pulse {
    /// A request ended, well or not.
    pub fn ended(&mut self, is_bad: bool) {
        if self.seconds.is_empty() {
            self.seconds.push((0, 0));
        }
        if let Some(last) = self.seconds.last_mut() {
            last.0 += 1;
            last.1 += u32::from(is_bad);
        }
    }

    /// Thousandths of the last minute's requests that ended badly; another second begins.
    fn beat(&mut self) -> u16 {
        let all: u32 = self.seconds.iter().map(|second| second.0).sum();
        let bad: u32 = self.seconds.iter().map(|second| second.1).sum();
        if self.seconds.len() == MINUTE {
            self.seconds.remove(0);
        }
        self.seconds.push((0, 0));
        (bad * 1000).checked_div(all).unwrap_or(0) as u16
    }
}

impl World<'_> {
    /// The policy machine of a process that starts; what it runs is in the node's configuration
    /// after this.
    pub(super) fn boot_policy(&mut self, at: usize, seed: u64) {
        let config = policy_config(&self.scenario.bench, &self.plan, at);
        let local = self.gateways[at].clock.local(self.now);
        let mut actions = Vec::new();
        let disk = self.gateways[at].disk.clone();
        let ago = self.now.since(self.gateways[at].stopped);
        let machine = Policy::boot(config, Saved { disk, ago }, local, seed, &mut actions);
        self.gateways[at].policy = Some(machine);
        self.gateways[at].policy_tick = None;
        for action in actions {
            self.policy_acts(at, action);
        }
        self.rearm_policy(at);
    }

    pub(super) fn policy_tick(&mut self, at: usize) {
        let node = &mut self.gateways[at];
        if node.policy_tick != Some(self.now) {
            return;
        }
        node.policy_tick = None;
        self.tell_policy(at, Event::Tick);
    }

    fn rearm_policy(&mut self, at: usize) {
        let node = &mut self.gateways[at];
        let Some((due, _)) = node.policy.as_ref().and_then(Policy::deadline) else { return };
        let due = node.clock.world(due).max(self.now + Duration::from_micros(1));
        if node.policy_tick.is_none_or(|tick| due < tick) {
            node.policy_tick = Some(due);
            self.calendar.put(due, Moment::PolicyTick(at as u16));
        }
    }

    /// A gateway's policy machine hears of something.
    pub(super) fn tell_policy(&mut self, at: usize, event: Event) {
        let node = &mut self.gateways[at];
        if node.front.is_none() {
            return;
        }
        let Some(policy) = &mut node.policy else { return };
        let mut actions = Vec::new();
        policy.handle(node.clock.local(self.now), event, &mut actions);
        for action in actions {
            self.policy_acts(at, action);
        }
        self.rearm_policy(at);
    }

    fn policy_acts(&mut self, at: usize, action: Action) {
        let me = at as u16;
        match action {
            Action::Poll => {
                if self.reaches_source(at) {
                    let snapshot = Box::new(self.policy_source.newest().snapshot.clone());
                    self.post(self.now + SOURCE, Message::Snapshot { to: me, snapshot });
                }
            }
            Action::Taste(snapshot) => {
                let taste = self.taste(snapshot.content);
                let content = snapshot.content;
                self.post(self.now + TASTE, Message::Tasted { to: me, content, taste });
            }
            Action::Adopt(snapshot) => self.run_content(at, snapshot.content),
            Action::Keep => self.keep(at),
            Action::Forward { to, order } => {
                for peer in to {
                    let to = position(peer);
                    if let Some(arrives) = self.network.peer(self.now, at, to) {
                        let order = Box::new(order.clone());
                        self.post(arrives, Message::Order { to: to as u16, order });
                    }
                }
            }
            Action::Fetch(peer) => {
                let to = position(peer);
                if let Some(arrives) = self.network.peer(self.now, at, to) {
                    self.post(arrives, Message::Fetch { from: me, to: to as u16 });
                }
            }
            Action::InForce(orders) => self.tell_gateway(at, gateway::Event::Orders(orders)),
            Action::TellSites(set) => self.tell_sites_of_orders(at, &set),
            Action::Fact(fact) => self.fact(at, Said::Policy(fact)),
        }
    }

    fn keep(&mut self, at: usize) {
        let node = &mut self.gateways[at];
        if let Some(policy) = &node.policy {
            node.disk = policy.disk(node.clock.local(self.now));
        }
    }

    fn tell_sites_of_orders(&mut self, at: usize, set: &[Order]) {
        for site in 0..self.sites.len() {
            if self.sites[site].account.is_some() {
                continue;
            }
            let orders = set.to_vec();
            let way = super::network::Way::Out;
            if let [Some(arrives), _] = self.network.control(self.now, (at, site), way) {
                self.post(arrives, Message::SiteOrders { site: site as u16, orders });
            }
        }
    }

    fn reaches_source(&self, at: usize) -> bool {
        let faults = self.scenario.faults.iter().zip(&self.in_force);
        !faults.filter(|(_, in_force)| **in_force).any(|(fault, _)| match &fault.kind {
            FaultKind::PolicySourceDown => true,
            FaultKind::PeersCut { gateways, .. } => super::network::holds(gateways, at),
            _ => false,
        })
    }

    fn taste(&self, content: u64) -> Taste {
        let Some(published) = self.policy_source.content(content) else { return Taste::Good };
        let confirmed = published.snapshot.confirmed;
        match &published.content {
            Content::Leaks { .. } => Taste::Crashed,
            _ if !published.validator => Taste::Good,
            Content::MissingField => Taste::Refused("a field is missing".into()),
            Content::Oversized => Taste::Refused("too large".into()),
            Content::WrongRoute
            | Content::Weight { .. }
            | Content::RemovesInUse { .. }
            | Content::RemovesInTwo { .. }
                if !confirmed =>
            {
                Taste::Differs("much traffic would move".into())
            }
            Content::Good
            | Content::Alternating { .. }
            | Content::WrongRoute
            | Content::Weight { .. }
            | Content::RemovesInUse { .. }
            | Content::RemovesInTwo { .. }
            | Content::CrashesAfter { .. } => Taste::Good,
        }
    }

    /// A process dies of the content it runs.
    pub(super) fn content_kills(&mut self, at: usize, again: u64) {
        let (hash, since) = self.gateways[at].runs;
        if self.now.since(since) < PROVEN {
            self.gateways[at].deadly.push(hash);
        }
        self.gateway_dies(at, Some(Duration::from_millis(again)));
    }

    /// A process runs a content from now on.
    fn run_content(&mut self, at: usize, hash: u64) {
        if self.gateways[at].deadly.contains(&hash) {
            self.breach("I11", at, format!("content {hash} that killed it is loaded again"));
        }
        if self.gateways[at].runs.0 != hash {
            self.gateways[at].runs = (hash, self.now);
        }
        let content = self.policy_source.content(hash).map(|published| published.content.clone());
        let mut config = self.plan.gateway(&self.scenario.bench, at);
        match content {
            Some(Content::MissingField | Content::Oversized) => {
                let again = AGAIN.as_millis() as u32;
                let dies = Moment::GatewayDies { gateway: at as u16, again };
                self.calendar.put(self.now + Duration::from_micros(1), dies);
            }
            Some(Content::CrashesAfter { delay }) => {
                let again = AGAIN.as_millis() as u32;
                let dies = Moment::GatewayDies { gateway: at as u16, again };
                self.calendar.put(self.now + delay, dies);
            }
            Some(content) => change(&mut config, &content),
            None => {}
        }
        self.gateways[at].config = config.clone();
        if self.gateways[at].front.is_some() {
            self.tell_gateway(at, gateway::Event::Adopt(config.into()));
        }
    }

    /// A gateway's digest goes out: what concerns policy is filled in.
    pub(super) fn fill_digest(&mut self, at: usize, digest: &mut Digest) {
        let node = &mut self.gateways[at];
        node.in_doubt = digest.in_doubt;
        digest.failing = node.failing;
        if let Some(policy) = &node.policy {
            let standing = policy.standing(node.clock.local(self.now));
            digest.generation = standing.generation;
            digest.clean = standing.clean;
            digest.orders = standing.orders;
            digest.quarantined = standing.quarantined;
        }
    }

    /// Every second each process feels its pulse; publishers that alternate publish.
    pub(super) fn pulses(&mut self) {
        for at in 0..self.gateways.len() {
            let node = &mut self.gateways[at];
            node.failing = node.pulse.beat();
            let (failing, in_doubt) = (node.failing, node.in_doubt);
            self.tell_policy(at, Event::Pulse { failing, in_doubt });
        }
        for fault in 0..self.scenario.faults.len() {
            if self.in_force[fault] {
                self.publishes_again(fault);
            }
        }
    }

    /// A push begins.
    pub(super) fn publishes(&mut self, content: &Content, author: &str, how: (bool, bool)) {
        let first = match content {
            Content::Alternating { .. } => Content::Oversized,
            other => other.clone(),
        };
        // The first step of two takes the site out of use, which its author confirms.
        let force = how.0 || matches!(content, Content::RemovesInTwo { .. });
        self.policy_source.publish(first, author, (force, how.1));
    }

    fn publishes_again(&mut self, fault: usize) {
        let FaultKind::PolicyPush { content, author, force, validator } =
            &self.scenario.faults[fault].kind
        else {
            return;
        };
        let passed = self.since().saturating_sub(self.scenario.faults[fault].at).as_secs();
        let is_due = |every: Duration| passed > 0 && passed.is_multiple_of(every.as_secs().max(1));
        match content {
            Content::Alternating { every } if is_due(*every) => {
                let is_good = self.policy_source.newest().content == Content::Good;
                let next = if is_good { Content::Oversized } else { Content::Good };
                self.policy_source.publish(next, author, (*force, *validator));
            }
            Content::RemovesInTwo { site } if passed == SECOND_STEP.as_secs() => {
                let next = Content::RemovesInUse { site: *site };
                self.policy_source.publish(next, author, (true, *validator));
            }
            _ => {}
        }
    }

    /// An operator gives an order at a gateway.
    pub(super) fn commands(&mut self, fault: usize) {
        let FaultKind::Override { verb, target, life, gateway, percent } =
            &self.scenario.faults[fault].kind
        else {
            return;
        };
        let named = self.scenario.bench.sites.iter().position(|site| site.name == *target);
        let id = OrderId { author: fault as u64 + 1, seq: 1 };
        let verb = match verb.as_str() {
            "kill" => Verb::Kill,
            "cap" => Verb::Cap(*percent),
            "freeze" => Verb::Freeze,
            "undrain" => Verb::End(OrderId { author: fault as u64, seq: 1 }),
            _ => Verb::Drain,
        };
        let order = Order {
            id,
            authority: 1,
            verb,
            site: named.map(|site| SiteId(site as u16)),
            reason: String::from("a drill"),
            left: *life,
        };
        let at = usize::from(*gateway).min(self.gateways.len() - 1);
        self.tell_policy(at, Event::Command { order, confirmed: false });
    }

    /// A message for a policy machine arrives.
    pub(super) fn deliver_policy(&mut self, message: Message) {
        match message {
            Message::Order { to, order } => self.tell_policy(usize::from(to), Event::Order(*order)),
            Message::Orders { to, orders } => {
                self.tell_policy(usize::from(to), Event::Orders(orders));
            }
            Message::Fetch { from, to } => {
                let (from, to) = (usize::from(from), usize::from(to));
                let node = &self.gateways[to];
                let Some(policy) = node.policy.as_ref().filter(|_| node.front.is_some()) else {
                    return;
                };
                let orders = policy.orders(node.clock.local(self.now));
                if let Some(arrives) = self.network.peer(self.now, to, from) {
                    self.post(arrives, Message::Orders { to: from as u16, orders });
                }
            }
            Message::Snapshot { to, snapshot } => {
                self.tell_policy(usize::from(to), Event::Snapshot(*snapshot));
            }
            Message::Tasted { to, content, taste } => {
                self.tell_policy(usize::from(to), Event::Tasted { content, taste });
            }
            _ => {}
        }
    }
}

fn policy_config(bench: &Bench, plan: &super::plan::Plan, at: usize) -> PolicyConfig {
    PolicyConfig {
        me: GatewayId(at as u16),
        gateways: plan.gateways as u16,
        service: plan.service(bench),
        mutants: plan.mutants,
        ..PolicyConfig::default()
    }
}

/// What a content that can be run does to routes.
fn change(config: &mut Config, content: &Content) {
    match content {
        Content::WrongRoute => {
            let model = &mut config.models[0];
            model.served_by.truncate(1);
            model.substitutes.clear();
            config.targets[0].model = String::from("nowhere");
        }
        Content::Weight { site, weight } => {
            for (at, target) in config.targets.iter_mut().enumerate() {
                let mine = if at == usize::from(*site) { *weight } else { 1 };
                target.home = (1000 * mine / (weight + 2)).min(1000) as u16;
            }
        }
        Content::RemovesInUse { site } => {
            config.models[0].served_by.retain(|target| *target != TargetId(*site));
        }
        Content::RemovesInTwo { site } => config.targets[usize::from(*site)].home = 0,
        Content::Good
        | Content::MissingField
        | Content::Oversized
        | Content::Alternating { .. }
        | Content::Leaks { .. }
        | Content::CrashesAfter { .. } => {}
    }
}

/// The disk of a process that never ran.
pub fn fresh_disk(source: &Source) -> Disk {
    Disk::new(source.first())
}

/// When a process that never ran stopped: long ago.
pub const NEVER: Time = Time::ZERO;
