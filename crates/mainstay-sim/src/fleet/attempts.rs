//! The life of one attempt: from its gateway over the network to a worker and back.
//!
//! Both ends are kept in one place, but each end knows only what has reached it. What a gateway
//! notices by itself (no ack, no beat, no token) is what core's own watch would notice.

use super::World;
use super::desks::Desk;
use super::moment::{Harm, Moment};
use super::network::{Carried, Way};
use super::nodes::Reach;
use super::slab::Key;
use super::users::{PAUSE, user_of};
use super::workers::{Served, TOKEN};
use crate::scenario::{Fault, FaultKind, Trouble};
use crate::service::SequenceId;
use mainstay_core::cost::CostUnits;
use mainstay_core::gateway::joint::Standing;
use mainstay_core::gateway::latency::{Histogram, Patience};
use mainstay_core::gateway::request::Report;
use mainstay_core::gateway::{Event, FLOWING, Start};
use mainstay_core::message::{BEAT, Open};
use mainstay_core::names::{GatewayId, Work};
use mainstay_core::site;
use mainstay_core::time::{Duration, Time};

/// Where a provider cuts streams: after so many tokens.
const CUT_AFTER: u32 = 50;

/// An attempt at a worker.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Which.
    pub worker: u16,
    /// Since when.
    pub since: Time,
    /// What it does.
    pub served: Served,
    /// What its engine calls it, where it has one.
    pub sequence: Option<SequenceId>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What its site calls it.
    pub work: Work,
    /// Whose it is.
    pub user: Key,
    /// Its gateway.
    pub gateway: u16,
    /// Its site.
    pub site: u16,
    /// Its tier.
    pub tier: u8,
    /// What it needs.
    pub labels: u64,
    /// Its session and when that began.
    pub session: (u64, Time),
    /// What the site is told.
    pub open: Option<Open>,
    /// How long it may take to show progress.
    pub patience: Patience,
    /// When it was sent.
    pub started: Time,
    /// Which leg at the site it is on; one more for each change.
    pub leg: u8,
    /// The worker that has it.
    pub place: Option<Place>,
    /// Whether its site took it in.
    pub is_taken: bool,
    /// Whether its gateway waits for it.
    pub at_gateway: bool,
    /// Whether its site has it.
    pub at_site: bool,
    pub(super) cost: CostUnits,
    /// Tokens the client had before this leg, and those of the whole answer.
    pub(super) before: u32,
    pub(super) wanted: u32,
    /// Tokens of this attempt before this leg.
    pub(super) poured: u32,
    /// On its way to the site.
    pub(super) is_sent: bool,
    pub(super) arrives: Time,
    pub(super) acked: Option<Time>,
    /// When the first token of this leg came to the gateway.
    pub(super) seen: Option<Time>,
    pub(super) has_token: bool,
    /// When the last token before this leg came.
    pub(super) last: Option<Time>,
    /// From this moment on nothing of it is heard.
    pub(super) quiet: Option<Time>,
}

impl Attempt {
    /// What the work really costs: a resumed answer is read again.
    pub fn real_cost(&self) -> CostUnits {
        self.cost + CostUnits(u64::from(self.before))
    }

    /// Tokens still to come.
    pub fn left(&self) -> u32 {
        self.wanted.saturating_sub(self.before)
    }

    pub(super) fn token(&self) -> Duration {
        self.place.map_or(TOKEN, |place| place.served.token)
    }

    /// Tokens of this leg that had come by `now`, and when the last of them did.
    pub(super) fn came(&self, now: Time) -> Option<(u32, Time)> {
        let seen = self.seen?;
        let until = self.quiet.map_or(now, |quiet| quiet.min(now));
        let token = self.token().as_micros().max(1) as u64;
        let count = 1 + until.since(seen).as_micros() as u64 / token;
        let count = count.min(u64::from(self.left())) as u32;
        let last = seen + Duration::from_micros(token * u64::from(count.saturating_sub(1)));
        Some((count, last))
    }

    /// When the gateway last heard of it.
    pub(super) fn heard(&self, now: Time) -> Time {
        let until = self.quiet.map_or(now, |quiet| quiet.min(now));
        let beat = self.acked.map(|acked| {
            let beats = until.since(acked).as_micros() / BEAT.as_micros();
            acked + BEAT * beats as u32
        });
        let token = self.came(now).map(|(_, last)| last);
        beat.max(token).max(self.last).unwrap_or(self.started)
    }
}

impl World<'_> {
    /// A gateway opens an attempt; an older one of the same request is given up.
    pub(super) fn start(&mut self, at: usize, start: Start) {
        let (owner, number) = user_of(start.attempt.request);
        let site = usize::from(start.site.0);
        let Some(user) = self.users.get_mut(owner).filter(|u| u.is_open && u.number == number)
        else {
            // A loop that stood still may not have read yet that the client left.
            if self.gateways[at].standstill.is_none() {
                self.breach("I10", at, format!("{:?} is of nobody", start.attempt));
            }
            return;
        };
        let old = user.attempt.take();
        user.returns += u8::from(user.sites & (1 << site) != 0);
        user.sites |= 1 << site;
        self.checks.starts(self.now, at, &start, user);
        let work = Work { from: GatewayId(at as u16), attempt: start.attempt };
        let attempt = Attempt {
            work,
            user: owner,
            gateway: at as u16,
            site: site as u16,
            tier: user.tier,
            labels: user.labels,
            session: user.session,
            open: start.open,
            patience: start.patience,
            started: self.now,
            leg: 0,
            place: None,
            is_taken: false,
            at_gateway: true,
            at_site: false,
            cost: user.cost,
            before: user.relayed,
            wanted: user.size.1,
            poured: 0,
            is_sent: false,
            arrives: self.now,
            acked: None,
            seen: None,
            has_token: false,
            last: None,
            quiet: None,
        };
        let key = self.attempts.put(attempt);
        if let Some(user) = self.users.get_mut(owner) {
            user.attempt = Some(key);
        }
        self.index.insert(work, key);
        self.ledger.attempts += 1;
        let since = self.since();
        self.ledger.second(since).attempts += 1;
        self.send_open(key, (at, site));
        self.calendar.put(self.now + start.patience.first_token, Moment::Watch(key));
        old.into_iter().for_each(|old| self.hang_up(old));
    }

    fn send_open(&mut self, key: Key, line: (usize, usize)) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        match self.network.data(self.now, line, Way::Out) {
            Carried::At(arrives) => {
                attempt.is_sent = true;
                attempt.arrives = arrives;
                self.calendar.put(arrives, Moment::Opened(key));
            }
            Carried::Never => {}
            Carried::Reset(at) => self.calendar.put(at, Moment::Broken(key, Harm::Reset)),
        }
    }

    /// An attempt arrives at its site.
    pub(super) fn opened(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.is_sent = false;
        let at = usize::from(attempt.site);
        let (cost, is_credited) = (attempt.cost, attempt.open.is_some_and(|o| o.credited));
        let open = attempt.open;
        let node = &self.sites[at];
        let is_lost = node.account.is_none() && node.house.is_none();
        if node.reach == Reach::Swallows {
            return self.forget(key);
        }
        if node.reach == Reach::Refuses || is_lost {
            return self.tell_harm(key, Harm::Refused);
        }
        if let Some(harm) = self.at_desk(at) {
            return self.tell_harm(key, harm);
        }
        if self.sites[at].desk.as_ref().is_some_and(Desk::is_cut) {
            // It would have to come to a worker.
            return self.forget(key);
        }
        let since = self.since();
        let seen = &mut self.ledger.second(since).sites[at];
        seen.offered_cu += cost.as_f64();
        seen.credited_cu += if is_credited { cost.as_f64() } else { 0.0 };
        if self.sites[at].account.is_some() {
            return self.at_provider(key, at);
        }
        let Some(open) = open else {
            return self.breach("I8", at, "work for a site of ours without its words".into());
        };
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.at_site = true;
        }
        self.sites[at].attempts += 1;
        self.tell_site(at, site::Event::Open(open));
    }

    fn at_provider(&mut self, key: Key, at: usize) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let Some(account) = &mut self.sites[at].account else { return };
        let cost = attempt.real_cost();
        let served = match account.serve(self.now, cost) {
            Ok(served) => served,
            Err(harm) => {
                let since = self.now.since(crate::world::START);
                self.ledger.second(since).sites[at].refused += 1;
                return self.tell_harm(key, harm);
            }
        };
        let trouble = account.trouble.clone();
        attempt.at_site = true;
        attempt.leg = 1;
        attempt.place = Some(Place { worker: 0, since: self.now, served, sequence: None });
        let (left, tier) = (attempt.left(), usize::from(attempt.tier));
        self.sites[at].attempts += 1;
        let since = self.since();
        self.ledger.second(since).sites[at].admitted_cu[tier] += cost.as_f64();
        if trouble == Some(Trouble::KeepAlives) {
            return;
        }
        self.calendar.put(served.first, Moment::Worked(key, 1));
        if trouble == Some(Trouble::Cut) {
            let cut = served.first + served.token * CUT_AFTER;
            return self.calendar.put(cut, Moment::Broken(key, Harm::Reset));
        }
        self.calendar.put(served.first + served.token * (left.max(1) - 1), Moment::Ended(key, 1));
    }

    /// Bad news goes from the site to the gateway.
    pub(super) fn tell_harm(&mut self, key: Key, harm: Harm) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let line = (usize::from(attempt.gateway), usize::from(attempt.site));
        if !attempt.at_gateway {
            return self.forget(key);
        }
        if let Carried::At(arrives) = self.network.data(self.now, line, Way::Back) {
            self.calendar.put(arrives, Moment::Broken(key, harm));
        }
    }

    /// A worker's first token of a leg.
    pub(super) fn worked(&mut self, key: Key, leg: u8) {
        if self.is_hung(key) {
            return;
        }
        let Some(attempt) = self.attempts.get(key) else { return };
        let Some(place) = attempt.place.filter(|_| attempt.at_site && attempt.leg == leg) else {
            return;
        };
        let (at, work) = (usize::from(attempt.site), attempt.work);
        let line = (usize::from(attempt.gateway), at);
        let after = self.now.since(place.since);
        match self.network.data(self.now, line, Way::Back) {
            Carried::At(arrives) => self.calendar.put(arrives, Moment::First(key, leg)),
            Carried::Never => {}
            Carried::Reset(when) => self.calendar.put(when, Moment::Broken(key, Harm::Reset)),
        }
        self.tell_site(at, site::Event::FirstToken { work, after });
    }

    /// A worker is done with a leg, or finds that it cannot do it.
    pub(super) fn ended(&mut self, key: Key, leg: u8) {
        if self.is_hung(key) {
            return;
        }
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if !attempt.at_site || attempt.leg != leg {
            return;
        }
        let (at, work) = (usize::from(attempt.site), attempt.work);
        let line = (usize::from(attempt.gateway), at);
        let Some(place) = attempt.place.take() else {
            self.tell_site(at, site::Event::Lost(work));
            return self.after_loss(key);
        };
        let cost = attempt.real_cost();
        // What is on its way keeps its pace.
        attempt.place = Some(place);
        self.sites[at].workers.release(self.now, usize::from(place.worker), place.served.read);
        self.tell_site(at, site::Event::Ended { work, cost });
        match self.network.data(self.now, line, Way::Back) {
            Carried::At(arrives) => self.calendar.put(arrives, Moment::Whole(key, leg)),
            Carried::Never => {}
            Carried::Reset(when) => self.calendar.put(when, Moment::Broken(key, Harm::Reset)),
        }
        self.leave_site(key);
    }

    /// The first token of a leg comes to the gateway.
    pub(super) fn first(&mut self, key: Key, leg: u8) {
        let now = self.now;
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let is_heard = attempt.quiet.is_none_or(|quiet| now < quiet);
        if !attempt.at_gateway || attempt.leg != leg || !is_heard || attempt.seen.is_some() {
            return;
        }
        attempt.seen = Some(now);
        let is_first = !std::mem::replace(&mut attempt.has_token, true);
        let (at, id, owner) = (usize::from(attempt.gateway), attempt.work.attempt, attempt.user);
        let line = (at, usize::from(attempt.site));
        let after = now.since(attempt.started);
        self.stall(key, line);
        if let Some(user) = self.users.get_mut(owner) {
            if user.first.is_none() {
                user.first = Some(now);
                let (tier, took) = (usize::from(user.tier), now.since(user.started));
                let since = user.asked.since(crate::world::START);
                let counts = &mut self.ledger.second(since).tiers[tier];
                counts.ttft_ms.0 += took.as_secs_f64() * 1000.0;
                counts.ttft_ms.1 += 1;
                let is_loud = |fault: &Fault| match fault.kind {
                    FaultKind::Tenant { tenant, .. } => tenant == user.tenant,
                    _ => false,
                };
                if !self.scenario.faults.iter().any(is_loud) {
                    let site = &mut self.ledger.second(since).sites[line.1];
                    site.first_ms.push(took.as_secs_f32() * 1000.0);
                }
            } else {
                user.gap = user.gap.max(now.since(user.last));
            }
            if let Some(broke) = user.broke.take().filter(|at| now.since(*at) <= PAUSE) {
                self.ledger.second(broke.since(crate::world::START)).resumed += 1;
            }
            user.last = now;
        }
        self.calendar.put(now + FLOWING, Moment::Flowing(key, leg));
        if is_first {
            self.tell_gateway(at, Event::FirstToken { attempt: id, after });
        }
    }

    /// On a line that loses packets, an answer stalls.
    pub(super) fn stall(&mut self, key: Key, line: (usize, usize)) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let (stall, share) = self.network.longest_stall(line, attempt.left());
        if stall.is_zero() {
            return;
        }
        if stall >= attempt.patience.stall {
            let begins = self.now + (attempt.token() * attempt.left()).mul_f64(share);
            attempt.quiet = Some(begins);
            let noticed = begins + attempt.patience.stall;
            self.calendar.put(noticed, Moment::Watch(key));
        } else if let Some(user) = self.users.get_mut(attempt.user) {
            user.gap = user.gap.max(stall);
        }
    }

    pub(super) fn flowing(&mut self, key: Key, leg: u8) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let is_heard = attempt.quiet.is_none_or(|quiet| self.now < quiet);
        if attempt.at_gateway && attempt.leg == leg && is_heard {
            let event = Event::Flowing { attempt: attempt.work.attempt };
            self.tell_gateway(usize::from(attempt.gateway), event);
        }
    }

    /// The whole answer has come to the gateway.
    pub(super) fn whole(&mut self, key: Key, leg: u8) {
        self.first(key, leg);
        let now = self.now;
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let is_heard = attempt.quiet.is_none_or(|quiet| now < quiet);
        if !attempt.at_gateway || attempt.leg != leg || !is_heard {
            return;
        }
        let (at, id, owner) = (usize::from(attempt.gateway), attempt.work.attempt, attempt.user);
        // The end says that all tokens came, also those that waited behind a lost packet.
        let (count, _) = (attempt.left(), attempt.seen.take());
        attempt.before += count;
        attempt.poured += count;
        let tokens = attempt.poured;
        attempt.at_gateway = false;
        let Some(user) = self.users.get_mut(owner).filter(|u| u.attempt == Some(key)) else {
            return self.forget(key);
        };
        user.relayed += count;
        user.attempt = None;
        let (relayed, wanted) = (user.relayed, user.size.1);
        self.checks.whole(now, at, id, (relayed, wanted));
        self.forget(key);
        let report = report(tokens, relayed, true);
        self.tell_gateway(at, Event::Whole { attempt: id, report });
    }
}

/// What an attempt leaves behind.
pub(super) fn report(tokens: u32, relayed: u32, is_whole: bool) -> Report {
    let mut gaps = Histogram::default();
    gaps.add(TOKEN.as_secs_f64());
    Report {
        tokens,
        standing: Standing {
            tokens: relayed,
            answered: relayed > 0,
            relayed: relayed > 0,
            tools: false,
            open: if is_whole { Vec::new() } else { vec![0] },
            too_long: false,
        },
        gaps,
        rate: Some(1.0 / TOKEN.as_secs_f64()).filter(|_| tokens > 16),
        counted: None,
    }
}
