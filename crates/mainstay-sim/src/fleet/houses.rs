//! Drives the sites' machines, and plays their workers.

use super::attempts::Place;
use super::desks::Desk;
use super::digest::Said;
use super::engines::{self, Engine};
use super::moment::{Message, Moment, position};
use super::network::{Carried, Way};
use super::nodes::{Account, House, Reach, SiteNode};
use super::slab::Key;
use super::workers::Workers;
use super::{PolicyKind, World};
use crate::naive::NaiveSite;
use crate::outcome::NO_CREDIT;
use crate::scenario::COLD;
use crate::service::Sequence;
use mainstay_core::cost::CostRate;
use mainstay_core::fact::SiteFact;
use mainstay_core::lease::Terms;
use mainstay_core::message::{Ack, Grant, Refuse, Report};
use mainstay_core::names::{GatewayId, TargetId, Work, WorkerId};
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::Duration;

/// A model that cannot be loaded is found out so long after the first work for it.
const UNLOADABLE: Duration = Duration::from_secs(1);

impl World<'_> {
    /// One more site of the bench, with warm workers.
    pub(super) fn add_site(&mut self, at: usize) {
        let bench = &self.scenario.bench.sites[at];
        let (workers, streams) = self.plan.workers(bench);
        let capacity = self.plan.capacity(bench);
        let seed = self.seed ^ (at as u64) << 16;
        self.sites.push(SiteNode {
            house: None,
            desk: (bench.has_stand_by && self.policy == PolicyKind::Mainstay)
                .then(|| Desk::new(usize::from(workers), self.plan.terms(Terms::CREDIT))),
            account: bench.is_provider.then(|| Account::new(self.now, capacity)),
            reach: Reach::Open,
            epoch: 0,
            workers: Workers::new(workers, capacity, streams),
            is_cold: false,
            engines: Engine::all(bench.profile.as_deref(), usize::from(workers), seed),
            tick: None,
            attempts: 0,
            ramp: 100,
            capacity: CostRate::ZERO,
            granted: vec![Vec::new(); self.plan.gateways],
        });
        if !bench.is_provider {
            self.controller_starts(at);
            self.desk_opens(at);
        }
    }

    /// A controller starts, one epoch above the last.
    pub(super) fn controller_starts(&mut self, at: usize) {
        let is_cold = self.sites[at].is_cold;
        self.controller_begins(at, is_cold);
    }

    /// The same; its workers' caches may be empty.
    pub(super) fn controller_begins(&mut self, at: usize, cold: bool) {
        let node = &mut self.sites[at];
        if node.account.is_some() || (node.house.is_some() && node.desk.is_none()) {
            return;
        }
        node.is_cold = cold;
        if node.desk.is_some() {
            return self.desk_begins(at);
        }
        self.sites[at].epoch += 1;
        self.controller_seated(at);
    }

    /// A controller takes over, with the site's epoch.
    pub(super) fn controller_seated(&mut self, at: usize) {
        let cold = self.sites[at].is_cold;
        let seed = self.rng.bits();
        let config = self.plan.site(&self.scenario.bench, at);
        let node = &mut self.sites[at];
        node.tick = None;
        node.house = Some(match self.policy {
            PolicyKind::Mainstay => House::Ours(Box::new(match node.epoch {
                1 => Site::first(config, seed),
                epoch => Site::new(config, self.now, epoch, seed),
            })),
            PolicyKind::Naive => {
                House::Naive(Box::new(NaiveSite::new(config, self.now, node.epoch, seed)))
            }
        });
        self.announce_workers(at, cold);
        self.tell_site(at, Event::Tick);
    }

    /// Tells a controller of all workers that are there.
    pub(super) fn announce_workers(&mut self, at: usize, cold: bool) {
        self.sites[at].is_cold = cold && self.sites[at].house.is_none();
        for worker in 0..self.sites[at].workers.each.len() {
            let known = &self.sites[at].workers.each[worker];
            let state = match known.is_up {
                true => WorkerState::Up {
                    target: TargetId(at as u16),
                    capacity: CostRate((known.capacity * 1000.0).round() as u64),
                    streams: known.streams,
                    cold,
                },
                false => WorkerState::Down,
            };
            self.tell_site(at, Event::Worker { worker: WorkerId(worker as u16), state });
        }
    }

    /// All workers of a site start.
    pub(super) fn workers_start(&mut self, at: usize, cold: bool) {
        let node = &mut self.sites[at];
        for worker in 0..node.workers.each.len() {
            if !node.workers.each[worker].is_up {
                node.workers.start(self.now, worker);
            }
        }
        if cold {
            node.workers.chill(self.now, COLD);
        }
        self.announce_workers(at, cold);
    }

    /// A worker goes, and with it what it was doing.
    pub(super) fn worker_goes(&mut self, at: usize, worker: usize) {
        self.sites[at].workers.lose(worker);
        let lost = self.at_worker(at, worker);
        lost.iter().for_each(|key| self.lose_leg(*key));
        let state = WorkerState::Down;
        self.tell_site(at, Event::Worker { worker: WorkerId(worker as u16), state });
        lost.into_iter().for_each(|key| self.after_loss(key));
    }

    pub(super) fn site_tick(&mut self, at: usize) {
        let node = &mut self.sites[at];
        if node.tick != Some(self.now) {
            return;
        }
        node.tick = None;
        let due = node.house.as_ref().and_then(House::deadline);
        if due.is_some_and(|due| due <= self.now) {
            self.tell_site(at, Event::Tick);
        } else {
            self.rearm_site(at);
        }
    }

    fn rearm_site(&mut self, at: usize) {
        let node = &mut self.sites[at];
        let Some(due) = node.house.as_ref().and_then(House::deadline) else { return };
        // As in `rearm_gateway`.
        let due = due.max(self.now + Duration::from_micros(1));
        if node.tick.is_none_or(|tick| due < tick) {
            node.tick = Some(due);
            self.calendar.put(due, Moment::SiteTick(at as u16));
        }
    }

    /// A site's controller hears of something.
    pub(super) fn tell_site(&mut self, at: usize, event: Event) {
        let Some(house) = &mut self.sites[at].house else { return };
        let mut actions = std::mem::take(&mut self.site_actions);
        house.handle(self.now, event, &mut actions);
        for action in actions.drain(..) {
            self.site_acts(at, action);
        }
        self.site_actions = actions;
        self.rearm_site(at);
    }

    fn site_acts(&mut self, at: usize, action: Action) {
        match action {
            Action::Grant { to, grant } => self.grant(at, to, grant),
            Action::Ack { to, ack } => self.ack(at, to, ack),
            Action::Refuse { to, refuse } => self.refuse(at, to, refuse),
            Action::Dispatch { work, worker } => self.dispatch(at, work, worker),
            Action::Abort { work, worker: _ } => {
                if let Some(key) = self.index.get(&work).copied() {
                    self.lose_leg(key);
                }
            }
            Action::Fact(fact) => {
                let node = self.gateways_in_all() + at;
                if let SiteFact::Drift { from, is_closed: true, .. } = &fact {
                    let words = format!("{NO_CREDIT} for gateway {}", from.0 + 1);
                    let name = self.scenario.bench.sites[at].name.clone();
                    self.ledger.mark(self.since(), name, words);
                }
                self.fact(node, Said::Site(fact));
            }
        }
    }

    fn gateways_in_all(&self) -> usize {
        self.plan.gateways
    }

    /// A report arrives.
    pub(super) fn reported(&mut self, from: u16, site: u16, report: Report) {
        let site = usize::from(site);
        if self.sites[site].reach == Reach::Open {
            let since = self.since();
            self.ledger.second(since).sites[site].reports += 1;
            if self.desk_hears(site, from, report) {
                return;
            }
            self.tell_site(site, Event::Report { from: GatewayId(from), report });
        }
    }

    pub(super) fn grant(&mut self, at: usize, to: GatewayId, grant: Grant) {
        let to = position(to);
        self.checks.grants(self.now, at, &self.sites[at], (to, &grant));
        let amount: u64 = grant.rate.iter().map(|rate| rate.0).sum::<u64>() + grant.standby.0;
        let until = self.now + self.plan.lease();
        let node = &mut self.sites[at];
        node.ramp = grant.ramp;
        node.capacity = grant.capacity;
        let live = &mut node.granted[to];
        live.retain(|(before, until)| self.now < *until && *before > amount);
        live.push((amount, until));
        for arrives in self.network.control(self.now, (to, at), Way::Back).into_iter().flatten() {
            self.post(arrives, Message::Grant { to: to as u16, grant });
        }
    }

    fn ack(&mut self, at: usize, to: GatewayId, ack: Ack) {
        let work = Work { from: to, attempt: ack.attempt };
        let Some(key) = self.index.get(&work).copied() else { return };
        let to = to.0;
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.is_taken = true;
        }
        let sent = self.network.data(self.now, (usize::from(to), at), Way::Back);
        if let Carried::At(arrives) = sent {
            self.post(arrives, Message::Ack { to, key, ack });
        }
    }

    fn refuse(&mut self, at: usize, to: GatewayId, refuse: Refuse) {
        let work = Work { from: to, attempt: refuse.attempt };
        let Some(key) = self.index.get(&work).copied() else { return };
        let to = to.0;
        let since = self.since();
        self.ledger.second(since).sites[at].refused += 1;
        self.lose_leg(key);
        self.leave_site(key);
        let sent = self.network.data(self.now, (usize::from(to), at), Way::Back);
        if let Carried::At(arrives) = sent {
            self.post(arrives, Message::Refuse { to, key, refuse });
        }
    }

    /// The attempt's prompt and what is left of its answer go to a worker's engine.
    fn give_engine(&mut self, (at, worker): (usize, WorkerId), (key, leg): (Key, u8)) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let prompt = attempt.open.map_or(1, |open| open.prompt);
        // A cost unit is a thousand uncached tokens.
        let uncached = u32::try_from(attempt.real_cost().0).unwrap_or(u32::MAX);
        let cached = prompt.saturating_sub(uncached);
        let sequence = Sequence { prompt, cached, output: attempt.left() };
        let id = self.compute((at, usize::from(worker.0)), (key, leg), sequence);
        let attempt = self.attempts.get_mut(key);
        if let Some(place) = attempt.and_then(|attempt| attempt.place.as_mut()) {
            place.sequence = Some(id);
        }
    }

    fn dispatch(&mut self, at: usize, work: Work, worker: WorkerId) {
        let Some(key) = self.index.get(&work).copied() else { return };
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if self.plan.unloadable == Some(at) {
            attempt.leg += 1;
            let leg = attempt.leg;
            self.calendar.put(self.now + UNLOADABLE, Moment::Ended(key, leg));
            return;
        }
        let (cost, session) = (attempt.real_cost(), attempt.session);
        let (asked, left) = (attempt.labels, attempt.left());
        let tier = usize::from(attempt.tier);
        let is_first = attempt.leg == 0;
        let node = &mut self.sites[at];
        let served = node.workers.serve(self.now, usize::from(worker.0), cost, session);
        let Some(served) = served else { return };
        attempt.leg += 1;
        let leg = attempt.leg;
        let place = Place { worker: worker.0, since: self.now, served, sequence: None };
        if node.engines.is_empty() {
            attempt.place = Some(place);
            let ends = served.first + served.token * (left.max(1) - 1);
            self.calendar.put(served.first, Moment::Worked(key, leg));
            self.calendar.put(ends, Moment::Ended(key, leg));
        } else {
            let served = engines::not_yet(self.now);
            attempt.place = Some(Place { served, ..place });
            self.give_engine((at, worker), (key, leg));
        }
        self.is_placed(key);
        let has = self.plan.true_labels(at);
        self.checks.dispatches(self.now, at, &self.sites[at], (asked, has));
        if is_first {
            let since = self.since();
            self.ledger.second(since).sites[at].admitted_cu[tier] += cost.as_f64();
        }
    }
}
