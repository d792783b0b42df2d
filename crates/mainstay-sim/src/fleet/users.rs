//! Plays the clients: each user's request goes to a gateway, and again if the library says so.

use super::World;
use super::attempts::report;
use super::clients::{LONG_EVERY, Next, Said, Stream, User};
use super::ledger::Fate;
use super::moment::Moment;
use super::plan::LONG;
use super::slab::Key;
use crate::scenario::{FaultKind, Workload};
use crate::world::START;
use mainstay_core::config::Needs;
use mainstay_core::cost::CostUnits;
use mainstay_core::gateway::request::Ask;
use mainstay_core::gateway::{Close, Event};
use mainstay_core::names::{ModelId, RequestId, TierId};
use mainstay_core::time::Duration;

/// A gateway that does not answer a connection is left after this.
const CONNECT: Duration = Duration::from_secs(1);
/// First token of a good answer, from its try's start.
const PROMISE: Duration = Duration::from_secs(5);
/// What the bench's own request costs, and how much longer than its prompt a longer one may take.
const ALIKE: CostUnits = CostUnits::whole(1);
/// See `ALIKE`.
const LONGER: f64 = 3.0;
/// Longest pause in a good answer.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of a request's body for each token of its prompt.
const BYTES: u64 = 4;
/// Number of the trace among streams of arrivals.
const TRACE: u16 = u16::MAX;
/// Bits of a request's number that tell the try, and those that tell the slot.
const TRY_BITS: u32 = 4;
/// See `TRY_BITS`.
const SLOT_BITS: u32 = 32;

/// The number of a user's try.
fn request_of(user: Key, number: u8) -> RequestId {
    let turn = u64::from(user.turn) << (TRY_BITS + SLOT_BITS);
    RequestId(turn | u64::from(user.slot) << TRY_BITS | u64::from(number & 0xf))
}

/// Whose try it is.
pub(super) fn user_of(request: RequestId) -> (Key, u8) {
    let slot = (request.0 >> TRY_BITS) as u32;
    let turn = (request.0 >> (TRY_BITS + SLOT_BITS)) as u32;
    (Key { slot, turn }, (request.0 & 0xf) as u8)
}

impl World<'_> {
    /// Opens the usual streams of arrivals.
    pub(super) fn open_streams(&mut self) {
        self.source = super::source(self.scenario, self.seed);
        if self.source.is_none() && self.scenario.load.workload != Workload::Alike {
            let detail = format!("{:?} cannot be read", self.scenario.load.workload);
            return self.breach("workload", 0, detail);
        }
        if let Some(source) = &mut self.source {
            if let Some(offer) = source.peek() {
                let first = Moment::Arrive { stream: TRACE, turn: 0 };
                self.calendar.put(START + offer.at, first);
            }
            return;
        }
        for tier in 0..self.scenario.bench.tiers.len() as u8 {
            self.add_stream(Stream {
                tier: Some(tier),
                tenant: None,
                rate: 0.0,
                turn: 0,
                left: None,
            });
        }
        self.refresh_streams();
    }

    /// One more stream; it begins with its first rate.
    pub(super) fn add_stream(&mut self, stream: Stream) -> usize {
        let at = self.crowd.streams.len();
        let rate = stream.rate;
        self.crowd.streams.push(stream);
        if rate > 0.0 {
            self.plan_arrival(at);
        }
        at
    }

    /// Sets each stream's rate to what is offered now. Arrivals have no memory: one that was
    /// planned at another rate is planned anew.
    pub(super) fn refresh_streams(&mut self) {
        for at in 0..self.crowd.streams.len() {
            let stream = &self.crowd.streams[at];
            if stream.left.is_some() {
                continue;
            }
            let rate = self.rate(stream);
            if (rate - stream.rate).abs() > 1e-9 {
                let stream = &mut self.crowd.streams[at];
                stream.rate = rate;
                stream.turn += 1;
                self.plan_arrival(at);
            }
        }
    }

    /// Requests a second of a tier at the scenario's level.
    fn usual(&self, tier: u8) -> f64 {
        let own = self.scenario.bench.sites.iter().filter(|site| !site.is_provider);
        let capacity: f64 = own.map(|site| self.plan.capacity(site)).sum();
        let share = self.scenario.bench.tiers[usize::from(tier)].share;
        self.scenario.load.level * capacity * share
    }

    fn rate(&self, stream: &Stream) -> f64 {
        let now = self.since();
        let mut factor = 1.0;
        let mut extra = 0.0;
        let faults = self.scenario.faults.iter().zip(&self.in_force);
        for (fault, _) in faults.filter(|(_, in_force)| **in_force) {
            match &fault.kind {
                FaultKind::Surge { factor: k, tier, ramp } => {
                    let is_meant = tier.is_none() || *tier == stream.tier;
                    let passed = now.saturating_sub(fault.at).as_secs_f64();
                    let share = (passed / ramp.as_secs_f64().max(1e-6)).min(1.0);
                    let share = if ramp.is_zero() { 1.0 } else { share };
                    factor *= if is_meant { 1.0 + (k - 1.0) * share } else { 1.0 };
                }
                FaultKind::Tenant { tenant, factor } if stream.tenant == Some(*tenant) => {
                    extra += factor - 1.0;
                }
                _ => {}
            }
        }
        let Some(tier) = stream.tier else { return stream.rate };
        let usual = self.usual(tier);
        match stream.tenant {
            Some(_) => usual / f64::from(self.crowd.tenants(tier)) * extra,
            None => usual * factor,
        }
    }

    fn plan_arrival(&mut self, at: usize) {
        if let Some(pause) = self.crowd.pause(at) {
            let turn = self.crowd.streams[at].turn;
            self.calendar.put(self.now + pause, Moment::Arrive { stream: at as u16, turn });
        }
    }

    /// The next request of a stream.
    pub(super) fn arrive(&mut self, stream: u16, turn: u32) {
        if self.now >= self.end {
            return;
        }
        if stream == TRACE {
            return self.arrive_of_trace();
        }
        let at = usize::from(stream);
        if self.crowd.streams[at].turn != turn {
            return;
        }
        if let Some(left) = &mut self.crowd.streams[at].left {
            if *left == 0 {
                return;
            }
            *left -= 1;
        }
        let user = self.crowd.arrive(self.now, at);
        self.plan_arrival(at);
        self.offer(user);
    }

    fn arrive_of_trace(&mut self) {
        let Some(source) = &mut self.source else { return };
        let Some(offer) = source.next() else { return };
        if let Some(next) = source.peek() {
            let next = (START + next.at).max(self.now);
            self.calendar.put(next, Moment::Arrive { stream: TRACE, turn: 0 });
        }
        let user = self.crowd.from_trace(self.now, &offer);
        self.offer(user);
    }

    fn offer(&mut self, mut user: User) {
        if self.plan.mislabelled.is_some() && user.session.0.is_multiple_of(LONG_EVERY) {
            user.labels = LONG;
        }
        let since = self.since();
        self.ledger.offered(since, user.tier, user.cost.as_f64());
        let key = self.users.put(user);
        self.begin_try(key);
    }

    /// The library tries, or tries again.
    pub(super) fn begin_try(&mut self, key: Key) {
        let Some(user) = self.users.get_mut(key) else { return };
        user.begin_try(self.now);
        let (number, cost) = (user.number, user.cost);
        self.ledger.tries += 1;
        let since = self.since();
        self.ledger.second(since).tries += 1;
        let longer = self.longer(cost);
        let patience = self.now + self.crowd.habits.patience + longer;
        self.calendar.put(patience, Moment::Impatient { user: key, number });
        self.connect(key, number);
    }

    /// A long prompt may take three times longer by what it takes longer to read than the bench's
    /// own (`scheduler.md` §10). A worker reads ten thousand tokens a second: twenty thousand more
    /// could never begin within the bench's five seconds and leave time for a queue.
    fn longer(&self, cost: CostUnits) -> Duration {
        let read = self.sites.first().and_then(|site| site.workers.each.first());
        let rate = read.map_or(f64::MAX, |worker| worker.capacity.max(0.001));
        Duration::from_secs_f64(LONGER * (cost - ALIKE).as_f64() / rate)
    }

    /// Connects to the user's gateway, or after a time-out to another.
    pub(super) fn connect(&mut self, key: Key, number: u8) {
        let Some(user) = self.users.get_mut(key) else { return };
        if user.number != number || !user.is_trying || user.is_open {
            return;
        }
        let at = usize::from(user.gateway);
        if self.gateways[at].front.is_none() {
            // Names are answered by the gateways; a client hears whoever lives.
            let answers = self.gateways.iter().find(|gateway| gateway.front.is_some());
            let is_answer =
                |other: &u16| answers.is_none_or(|a| a.answers[usize::from(*other)] > 0);
            let others: Vec<u16> = (0..self.gateways.len() as u16)
                .filter(|other| usize::from(*other) != at && is_answer(other))
                .collect();
            user.gateway = self.crowd.any(&others).unwrap_or(user.gateway);
            let again = self.now + CONNECT;
            return self.calendar.put(again, Moment::Connect { user: key, number });
        }
        user.is_open = true;
        let (tenant, asked, cost) = (user.tenant, user.asked.since(START), user.cost.as_f64());
        self.ledger.comes((asked, self.now.since(START)), cost);
        if self.is_poison(tenant) && !self.poisoned(at, tenant) {
            if let Some(user) = self.users.get_mut(key) {
                user.is_open = false;
            }
            return self.try_over(key, Said::Status(503, None, false));
        }
        if self.gateways[at].front.is_none() {
            return;
        }
        let Some(user) = self.users.get(key) else { return };
        let ask = Ask {
            model: ModelId(0),
            tier: TierId(user.tier),
            needs: Needs::default(),
            prompt: user.size.0,
            body: u64::from(user.size.0) * BYTES,
            max_tokens: Some(user.size.1),
            choices: 1,
            deadline: None,
            tenant: user.tenant,
            session: Some(user.session.0),
            labels: user.labels,
            cost: user.cost,
        };
        let request = request_of(key, number);
        self.tell_gateway(at, Event::Arrive { request, ask });
    }

    /// A client has waited long enough.
    pub(super) fn impatient(&mut self, key: Key, number: u8) {
        let Some(user) = self.users.get_mut(key) else { return };
        if user.number != number || !user.is_trying || user.first.is_some() {
            return;
        }
        let at = usize::from(user.gateway);
        if std::mem::replace(&mut user.is_open, false) {
            let request = request_of(key, number);
            self.tell_gateway(at, Event::Gone { request, report: report(0, 0, false) });
        }
        self.try_over(key, Said::TimeOut);
    }

    /// A gateway ends a request.
    pub(super) fn closed(&mut self, at: usize, request: RequestId, close: Close) {
        let (key, number) = user_of(request);
        let Some(user) = self.users.get_mut(key).filter(|user| user.number == number) else {
            return;
        };
        let took = self.now.since(user.started);
        let attempt = user.attempt.take();
        let was_open = std::mem::replace(&mut user.is_open, false);
        let relayed = user.relayed > 0;
        attempt.into_iter().for_each(|attempt| self.hang_up(attempt));
        let longest = self.gateways[at].config.limits.request;
        self.checks.closes(self.now, at, took, longest);
        if !was_open {
            return;
        }
        self.gateways[at].pulse.ended(close != Close::Done);
        match close {
            Close::Done => {
                let Some(user) = self.users.get(key) else { return };
                let first = user.first.map(|first| first.since(user.started));
                let promise = PROMISE + self.longer(user.cost);
                let is_good = first.is_some_and(|first| first <= promise) && user.gap <= PAUSE;
                self.settle(key, if is_good { Fate::Good } else { Fate::Failed });
            }
            Close::Error(refusal) => {
                self.try_over(key, Said::Status(refusal.status, refusal.retry_after, relayed));
            }
            Close::Filtered => self.settle(key, Fate::Failed),
            Close::Gone => {}
        }
    }

    /// A gateway died: the connections of its clients are lost.
    pub(super) fn lose_clients(&mut self, at: usize) {
        let of_it = |user: &User| user.is_open && usize::from(user.gateway) == at;
        let lost: Vec<Key> =
            self.users.iter().filter(|(_, user)| of_it(user)).map(|(key, _)| key).collect();
        for key in lost {
            if let Some(user) = self.users.get_mut(key) {
                user.is_open = false;
                user.attempt = None;
            }
            self.try_over(key, Said::Lost);
        }
    }

    fn try_over(&mut self, key: Key, said: Said) {
        let Some(user) = self.users.get_mut(key) else { return };
        user.is_trying = false;
        match self.crowd.next(user.number, said) {
            Next::Again(pause) => self.calendar.put(self.now + pause, Moment::Try(key)),
            Next::Shed => self.settle(key, Fate::Shed),
            Next::Failed => self.settle(key, Fate::Failed),
        }
    }

    fn settle(&mut self, key: Key, fate: Fate) {
        let Some(user) = self.users.take(key) else { return };
        let times = (user.asked.since(START), self.since());
        self.ledger.ended(times, (user.tier, user.cost.as_f64()), fate);
    }
}
