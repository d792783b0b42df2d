//! The world of many gateways and many sites: the real machines of core, a network, clients and
//! faults, in virtual time, from a seed.
//!
//! One calendar holds all moments. A token is no moment: an attempt has the time of its first
//! token, a rate and an end, and what was relayed when it is cut is computed. Beats are none
//! either: only where a fault makes an attempt silent is the moment computed at which its gateway
//! notices. So a request costs about a dozen moments.

pub mod clients;
pub mod network;
pub mod plan;
pub mod workers;

mod attempts;
mod breaks;
mod day;
mod desks;
mod digest;
mod engines;
mod faults;
mod floors;
mod fronts;
mod hangs;
mod houses;
mod invariants;
mod ledger;
mod moment;
mod nodes;
mod policies;
mod slab;
mod users;

use crate::calendar::Calendar;
use crate::outcome::{Run, Timeline};
use crate::scenario::{FaultKind, Scenario, Workload};
use crate::workload::{self, Arrival, Options};
use crate::world::START;
use attempts::Attempt;
use clients::{Crowd, Offer, Source, User};
use digest::Said;
use invariants::Checks;
use ledger::Ledger;
use mainstay_core::gateway::placement::Target;
use mainstay_core::mutant::Mutants;
use mainstay_core::names::{TargetId, Work};
use mainstay_core::rng::Rng;
use mainstay_core::table::Table;
use mainstay_core::time::{Duration, Time};
use mainstay_core::{gateway, site};
use moment::{Message, Moment};
use network::Network;
use nodes::{Front, GatewayNode, House, SiteNode};
use plan::Plan;
use slab::{Key, Slab};
use std::collections::BTreeSet;
use std::iter::Peekable;
use std::ops::Range;

/// After the scenario's end nobody asks any more; what is open may take its deadline and this.
const DRAIN: Duration = Duration::from_secs(11 * 60);

/// Requests of a trace by which its load is measured.
const MEASURED: usize = 20_000;

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyKind {
    /// The machines of core.
    Mainstay,
    /// The usual set-up, which must fail where a pass is to mean something.
    Naive,
}

/// What came of a run.
#[derive(Debug)]
pub struct Played {
    /// Totals and what was violated.
    pub run: Run,
    /// Second by second.
    pub timeline: Timeline,
    /// Kinds of decision that were told, by name.
    pub facts: BTreeSet<String>,
    /// Moments that happened, for whoever measures the simulator itself.
    pub moments: u64,
}

/// Plays the scenario with a seed.
pub fn play(scenario: &Scenario, seed: u64, policy: PolicyKind) -> Played {
    play_with(scenario, seed, policy, Mutants::NONE)
}

/// The same with rules of core taken away.
pub fn play_with(scenario: &Scenario, seed: u64, policy: PolicyKind, mutants: Mutants) -> Played {
    let mut world = World::new(scenario, seed, policy, mutants);
    world.play();
    world.finish()
}

/// Plays a point of a sweep: until its verdict is in, see `measure::is_settled`.
pub fn play_point(scenario: &Scenario, seed: u64, policy: PolicyKind) -> Played {
    let mut world = World::new(scenario, seed, policy, Mutants::NONE);
    world.is_point = true;
    world.play();
    world.finish()
}

/// Finds attempts by what a site calls them. Nobody iterates over it.
type Index = Table<Work, Key>;

/// A run under way.
struct World<'a> {
    scenario: &'a Scenario,
    plan: Plan,
    policy: PolicyKind,
    seed: u64,
    /// It ends when its verdict is in.
    is_point: bool,
    now: Time,
    end: Time,
    calendar: Calendar<Moment>,
    gateways: Vec<GatewayNode>,
    sites: Vec<SiteNode>,
    network: Network,
    crowd: Crowd,
    source: Option<Peekable<Source>>,
    policy_source: policies::Source,
    users: Slab<User>,
    attempts: Slab<Attempt>,
    index: Index,
    messages: Slab<Message>,
    ledger: Ledger,
    checks: Checks,
    in_force: Vec<bool>,
    rng: Rng,
    moments: u64,
    gateway_actions: Vec<gateway::Action>,
    site_actions: Vec<site::Action>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, policy: PolicyKind, mutants: Mutants) -> World<'a> {
        let plan = Plan::new(scenario, mutants);
        let network = Network::new(&scenario.bench, plan.gateways, seed);
        let near: Vec<usize> =
            (0..plan.first_gateways).map(|gateway| network.nearest(gateway)).collect();
        let names: Vec<String> = scenario.bench.sites.iter().map(|s| s.name.clone()).collect();
        let mut world = World {
            scenario,
            policy,
            seed,
            is_point: false,
            now: START,
            end: START + scenario.duration,
            calendar: Calendar::default(),
            gateways: Vec::new(),
            sites: Vec::new(),
            crowd: Crowd::new(scenario, &near, seed),
            source: None,
            policy_source: policies::Source::new(),
            users: Slab::default(),
            attempts: Slab::default(),
            index: Index::default(),
            messages: Slab::default(),
            ledger: Ledger::new(scenario),
            checks: Checks::new(
                plan.gateways,
                &names,
                scenario.bench.tiers.len(),
                plan.service(&scenario.bench),
            ),
            in_force: vec![false; scenario.faults.len()],
            rng: Rng::new(seed ^ 0x776f_726c_6400_0000),
            moments: 0,
            gateway_actions: Vec::new(),
            site_actions: Vec::new(),
            network,
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for at in 0..self.scenario.bench.sites.len() {
            self.add_site(at);
        }
        for at in 0..self.plan.gateways {
            self.add_gateway(at);
        }
        self.open_streams();
        for (at, fault) in self.scenario.faults.iter().enumerate() {
            self.calendar.put(START + fault.at, Moment::FaultBegins(at as u16));
            if let Some(until) = fault.until {
                self.calendar.put(START + until, Moment::FaultEnds(at as u16));
            }
        }
        self.calendar.put(START + Duration::from_secs(1), Moment::Second);
    }

    fn play(&mut self) {
        while let Some((at, moment)) = self.calendar.take() {
            if at > self.end && (self.ledger.open == 0 || at > self.end + DRAIN) {
                return;
            }
            self.now = at;
            self.moments += 1;
            self.happens(moment);
        }
    }

    fn happens(&mut self, moment: Moment) {
        match moment {
            Moment::Arrive { stream, turn } => self.arrive(stream, turn),
            Moment::Try(user) => self.begin_try(user),
            Moment::Connect { user, number } => self.connect(user, number),
            Moment::Impatient { user, number } => self.impatient(user, number),
            Moment::GatewayTick(gateway) => self.gateway_tick(usize::from(gateway)),
            Moment::SiteTick(site) => self.site_tick(usize::from(site)),
            Moment::EngineTick { site, worker } => {
                self.engine_tick(usize::from(site), usize::from(worker));
            }
            Moment::PolicyTick(gateway) => self.policy_tick(usize::from(gateway)),
            Moment::Message(key) => self.deliver(key),
            Moment::Opened(key) => self.opened(key),
            Moment::Worked(key, leg) => self.worked(key, leg),
            Moment::Ended(key, leg) => self.ended(key, leg),
            Moment::First(key, leg) => self.first(key, leg),
            Moment::Flowing(key, leg) => self.flowing(key, leg),
            Moment::Whole(key, leg) => self.whole(key, leg),
            Moment::Watch(key) => self.watch(key),
            Moment::Broken(key, harm) => self.harmed(key, harm),
            Moment::Cancel(key) => self.cancelled(key),
            Moment::FaultBegins(at) => self.fault_begins(usize::from(at)),
            Moment::FaultEnds(at) => self.fault_ends(usize::from(at)),
            Moment::WorkerGoes { site, worker } => {
                self.worker_goes(usize::from(site), usize::from(worker));
            }
            Moment::WorkerStill { site, worker } => {
                self.worker_still(usize::from(site), usize::from(worker));
            }
            Moment::DeskRound(site) => self.desk_round(usize::from(site)),
            Moment::LoopGoesOn(gateway) => self.loop_goes_on(usize::from(gateway)),
            Moment::GatewayStarts(gateway) => self.gateway_starts(usize::from(gateway)),
            Moment::GatewayDies { gateway, again } => {
                self.content_kills(usize::from(gateway), u64::from(again));
            }
            Moment::ControllerStarts(site) => self.controller_starts(usize::from(site)),
            Moment::WorkersStart { site, cold } => self.workers_start(usize::from(site), cold),
            Moment::Second => self.second(),
        }
    }

    /// Since the start.
    fn since(&self) -> Duration {
        self.now.since(START)
    }

    fn breach(&mut self, rule: &str, node: usize, detail: String) {
        self.checks.breach(self.now, rule, node, detail);
    }

    fn fact(&mut self, node: usize, said: Said) {
        self.checks.fact(self.now, node, said);
    }

    /// Puts a message on its way.
    fn post(&mut self, at: Time, message: Message) {
        let key = self.messages.put(message);
        self.calendar.put(at, Moment::Message(key));
    }

    /// A second is over: how things stand goes into the timeline.
    fn second(&mut self) {
        let next = self.now + Duration::from_secs(1);
        if self.now < self.end + DRAIN {
            self.calendar.put(next, Moment::Second);
        }
        self.refresh_streams();
        self.pulses();
        for gateway in 0..self.gateways.len() {
            self.checks.retries(self.now, gateway);
        }
        self.bounds();
        if self.now > self.end {
            return;
        }
        let ups: Vec<u16> = (0..self.sites.len())
            .map(|site| {
                let live = self.gateways.iter().filter(|gateway| gateway.front.is_some());
                live.filter(|gateway| gateway.up[site]).count() as u16
            })
            .collect();
        let just = self.now - Duration::from_micros(1);
        let second = self.ledger.second(just.since(START));
        for (at, node) in self.sites.iter().enumerate() {
            let seen = &mut second.sites[at];
            let is_there = node.reach == nodes::Reach::Open;
            let can_serve = self.plan.unloadable != Some(at);
            seen.capacity = match (&node.account, is_there) {
                (Some(account), true) => account.quota,
                (None, true) if can_serve => node.workers.capacity(),
                (None, true) => 0.0,
                (_, false) => 0.0,
            };
            seen.carries = match &self.scenario.load.workload {
                Workload::Alike => seen.capacity.min(node.workers.carries(clients::ANSWER)),
                Workload::Trace(_) | Workload::Day { .. } => seen.capacity,
            };
            seen.ramp = node.ramp;
            let target = TargetId(at as u16);
            seen.wanted = node.house.as_ref().map_or(0, |house| house.wanted(self.now, target));
            let is_account = node.account.is_some();
            seen.running = if is_account { node.attempts } else { node.workers.open() };
            seen.queued = node.attempts.saturating_sub(seen.running);
            seen.granted = node.granted(self.now) as f64 / 1000.0;
            seen.up = ups[at];
            if node.house.as_ref().is_some_and(House::is_open) {
                second.on_offer += seen.capacity * f64::from(node.ramp) / 100.0;
            }
        }
        self.end_if_judged();
    }

    /// A point of a sweep ends here, if nothing that comes later changes its verdict.
    fn end_if_judged(&mut self) {
        let played = self.since().as_secs() as usize;
        let timeline = &mut self.ledger.timeline;
        if self.is_point && crate::measure::is_settled(self.scenario, timeline, played) {
            self.end = self.now;
            timeline.seconds.truncate(played);
        }
    }

    /// No table is over its bound, and enough is in service.
    fn bounds(&mut self) {
        for at in 0..self.gateways.len() {
            if let Some(Front::Ours(gateway)) = &self.gateways[at].front {
                let out = |(_, known): (_, &Target)| known.shut;
                let out: Vec<bool> = gateway.targets().iter().map(out).collect();
                let bytes = gateway.held_bytes();
                self.checks.candidates(self.now, at, &out);
                self.checks.holds(self.now, at, bytes);
            }
        }
        // A site whose controller is gone is closed by nobody's order.
        let is_out = |node: &SiteNode| node.house.as_ref().is_some_and(|house| !house.is_open());
        let out: Vec<bool> = self.sites.iter().map(is_out).collect();
        self.checks.open_sites(self.now, &out);
        for at in 0..self.sites.len() {
            let target = TargetId(at as u16);
            let house = self.sites[at].house.as_ref();
            if let Some(over) = house.and_then(|house| house.over_bound(self.now, target)) {
                self.breach("memory", self.plan.gateways + at, over);
            }
            let house = self.sites[at].house.as_ref();
            if let Some(broken) = house.and_then(|house| house.broken(self.now)) {
                self.breach("ledger", self.plan.gateways + at, broken.to_owned());
            }
        }
    }

    /// At the end nothing is left: what no request needs any more and is still kept, leaks.
    fn leaks(&mut self) {
        if self.ledger.open > 0 {
            let detail = format!("{} requests have no outcome", self.ledger.open);
            return self.breach("ledger", 0, detail);
        }
        for at in 0..self.gateways.len() {
            let open = self.gateways[at].front.as_ref().map_or(0, nodes::Front::open_requests);
            if open > 0 {
                self.breach("memory", at, format!("{open} requests that nobody waits for"));
            }
        }
    }

    /// Seconds in which a gateway's own loop stands still.
    fn lagging(&self) -> Vec<Range<usize>> {
        let lags = self.scenario.faults.iter().filter_map(|fault| match fault.kind {
            FaultKind::LoopLag { .. } => {
                let until = fault.until.unwrap_or(self.scenario.duration);
                Some(fault.at.as_secs() as usize..until.as_secs() as usize + 1)
            }
            _ => None,
        });
        lags.collect()
    }

    fn finish(mut self) -> Played {
        self.leaks();
        let floors: Vec<f64> = self.scenario.bench.tiers.iter().map(|tier| tier.floor).collect();
        let gateways = self.gateways.iter().filter(|gateway| gateway.front.is_some()).count();
        let lagging = self.lagging();
        let shed = floors::floors(&self.ledger.timeline, &floors, (gateways as u16, &lagging));
        self.checks.violations.extend(shed);
        let policy = match self.policy {
            PolicyKind::Mainstay => "mainstay",
            PolicyKind::Naive => "naive",
        };
        let mut run = Run {
            scenario: self.scenario.id.clone(),
            seed: self.seed,
            policy,
            passed: self.checks.violations.is_empty(),
            violations: std::mem::take(&mut self.checks.violations),
            by_tier: Default::default(),
            sites: Default::default(),
            recovery_s: None,
            good_during: None,
            good_after: None,
            transitions: 0,
            attempts_per_request: 0.0,
            facts_digest: format!("{:016x}", self.checks.digest.value()),
        };
        self.ledger.fill(&mut run);
        crate::measure::judge(self.scenario, &self.ledger.timeline, &mut run);
        let facts = self.checks.kinds.names;
        Played { run, timeline: self.ledger.timeline, facts, moments: self.moments }
    }
}

/// Requests of a trace, where the scenario plays one: as fast as its level says. None if it cannot
/// be read.
fn source(scenario: &Scenario, seed: u64) -> Option<Peekable<Source>> {
    let name = match &scenario.load.workload {
        Workload::Alike => return None,
        Workload::Trace(name) => name,
        Workload::Day { model, requests } => {
            let day = day::open(scenario, (model, requests), seed).ok()?;
            return Some(day.peekable());
        }
    };
    let load = &scenario.load;
    let wanted = load.level * scenario.bench.capacity() / scenario.bench.scale.max(1.0);
    let options = |speed: f64| Options {
        seed,
        speed,
        rate: wanted,
        tenants: load.tenants,
        turns: load.turns,
        ..Options::default()
    };
    let offer = |arrival: Arrival| Offer {
        at: arrival.at,
        tenant: arrival.tenant,
        session: arrival.session,
        prompt: arrival.prompt,
        output: arrival.output,
        cached: arrival.cached,
        gateway: None,
    };
    // How much it asks as it is: one unit for a thousand uncached tokens.
    let (mut units, mut last) = (0.0, Duration::ZERO);
    for arrival in workload::open(name, &options(1.0)).ok()?.take(MEASURED) {
        units += f64::from(arrival.prompt.saturating_sub(arrival.cached)) / 1000.0;
        last = arrival.at;
    }
    let speed = wanted * last.as_secs_f64().max(1e-3) / f64::max(units, 1e-3);
    let arrivals = workload::open(name, &options(speed)).ok()?.map(offer);
    let all: Vec<Offer> = arrivals.take_while(|next| next.at <= scenario.duration).collect();
    // One that ends before the scenario does begins again.
    let length = all.last()?.at.max(Duration::from_millis(1));
    let again = (0u32..).flat_map(move |round| {
        let later = move |next: &Offer| Offer { at: next.at + length * round, ..*next };
        all.iter().map(later).collect::<Vec<Offer>>()
    });
    let source: Source = Box::new(again);
    Some(source.peekable())
}
