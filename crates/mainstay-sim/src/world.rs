//! One run: the machine, the upstreams and the clients, from a seed to an outcome.

use crate::calendar::Calendar;
use crate::checks::Checks;
use crate::relay::Relay;
use crate::setup::Setup;
use crate::upstream::{Call, Upstream};
use mainstay_core::fact::{Fact, How, Rung};
use mainstay_core::gateway::{Action, Close, Event, Gateway, Start};
use mainstay_core::names::{AttemptId, RequestId, TargetId};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use std::collections::BTreeMap;

/// The clock begins a day after zero, as the server's does, so that "never" lies before all.
pub const START: Time = Time::from_micros(86_400_000_000);

/// What happens.
#[derive(Debug)]
enum Moment {
    /// The next request of this load comes.
    Arrive(usize),
    /// The client leaves.
    Leave(RequestId),
    /// An attempt's item comes.
    Item(AttemptId, usize),
    /// A relay wants to be woken.
    Wake(RequestId),
    /// The machine wants to be called.
    Tick,
}

/// One attempt, as its request remembers it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Where.
    pub target: TargetId,
    /// As what.
    pub how: How,
    /// When.
    pub at: Time,
}

/// One request that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its id.
    pub request: RequestId,
    /// Its tier.
    pub tier: u8,
    /// When it came.
    pub arrived: Time,
    /// When it was closed.
    pub at: Time,
    /// When the first piece of the answer was relayed.
    pub first_content: Option<Time>,
    /// The longest pause between two pieces of the answer.
    pub gap: Duration,
    /// Output tokens relayed.
    pub tokens: u32,
    /// What was tried.
    pub tried: Vec<Tried>,
    /// How it ended.
    pub close: Close,
}

impl Ended {
    /// How long it took.
    pub fn took(&self) -> Duration {
        self.at.since(self.arrived)
    }

    /// Whether the client got the whole answer.
    pub fn is_whole(&self) -> bool {
        self.close == Close::Done
    }

    /// Status of the error, if it ended in one.
    pub fn status(&self) -> Option<u16> {
        match &self.close {
            Close::Error(refusal) => Some(refusal.status),
            Close::Done | Close::Filtered | Close::Gone => None,
        }
    }
}

/// What came of a world.
#[derive(Debug)]
pub struct Outcome {
    /// All requests, in the order of their ends.
    pub ended: Vec<Ended>,
    /// The upstreams, with what they saw.
    pub upstreams: Vec<Upstream>,
    /// The checks, with what they found.
    pub checks: Checks,
    /// Every fact with its time, one a line.
    pub timeline: String,
    /// Facts, with their times.
    pub facts: Vec<(Time, Fact)>,
}

/// A run under way.
#[derive(Debug)]
pub struct World {
    setup: Setup,
    gateway: Gateway,
    rng: Rng,
    now: Time,
    calendar: Calendar<Moment>,
    relays: BTreeMap<RequestId, (Relay, Time, Vec<Tried>)>,
    open: BTreeMap<AttemptId, (TargetId, Time)>,
    tick: Option<Time>,
    asked: u64,
    ended: Vec<Ended>,
    facts: Vec<(Time, Fact)>,
    checks: Checks,
}

/// Plays `setup` with `seed` to its end.
pub fn run(seed: u64, setup: Setup) -> Outcome {
    let mut world = World::new(seed, setup);
    world.play();
    world.finish()
}

impl World {
    fn new(seed: u64, setup: Setup) -> World {
        let mut calendar = Calendar::default();
        for (at, load) in setup.loads.iter().enumerate() {
            calendar.put(START + load.from, Moment::Arrive(at));
        }
        World {
            gateway: Gateway::new(setup.config.clone(), seed),
            rng: Rng::new(seed ^ 0x5eed_fa11_7e57_0001),
            now: START,
            calendar,
            relays: BTreeMap::new(),
            open: BTreeMap::new(),
            tick: None,
            asked: seed << 32,
            ended: Vec::new(),
            facts: Vec::new(),
            checks: Checks::default(),
            setup,
        }
    }

    fn play(&mut self) {
        while let Some((at, moment)) = self.calendar.take() {
            if at > START + self.setup.until {
                return;
            }
            self.now = at;
            match moment {
                Moment::Arrive(load) => self.arrive(load),
                Moment::Leave(request) => self.leave(request),
                Moment::Item(attempt, index) => self.item(attempt, index),
                Moment::Wake(request) => self.wake(request),
                Moment::Tick => {
                    if self.tick == Some(at) {
                        self.tick = None;
                        self.tell(Event::Tick);
                    }
                }
            }
        }
        self.checks.end(self.now);
        if self.gateway.open_requests() > 0 || !self.open.is_empty() {
            self.checks.breach(self.now, format!("left open: {:?}", self.open));
        }
    }

    fn finish(self) -> Outcome {
        let line =
            |(at, fact): &(Time, Fact)| format!("{} {fact:?}\n", at.since(START).as_micros());
        Outcome {
            timeline: self.facts.iter().map(line).collect(),
            ended: self.ended,
            upstreams: self.setup.upstreams,
            checks: self.checks,
            facts: self.facts,
        }
    }

    fn arrive(&mut self, at: usize) {
        let load = &self.setup.loads[at];
        if self.now >= START + load.until {
            return;
        }
        let (ask, leaves) = (load.ask.clone(), load.leaves);
        let next = self.now + load.pause(&mut self.rng);
        self.calendar.put(next, Moment::Arrive(at));
        self.asked += 1;
        let request = RequestId(self.asked);
        if let Some(after) = leaves {
            self.calendar.put(self.now + after, Moment::Leave(request));
        }
        self.relays.insert(request, (Relay::new(request, ask.clone()), self.now, Vec::new()));
        self.tell(Event::Arrive { request, ask });
    }

    fn leave(&mut self, request: RequestId) {
        let Some((relay, ..)) = self.relays.get_mut(&request) else { return };
        let report = relay.report();
        let attempt = relay.leg.take().map(|leg| leg.start.attempt);
        attempt.into_iter().for_each(|attempt| self.hang_up(attempt));
        self.tell(Event::Gone { request, report });
    }

    fn item(&mut self, attempt: AttemptId, index: usize) {
        let Some((relay, ..)) = self.relays.get_mut(&attempt.request) else { return };
        if relay.attempt() != Some(attempt) {
            return;
        }
        let Some(leg) = &mut relay.leg else { return };
        let item = leg.script.items[index].1.clone();
        if let Some((after, _)) = leg.script.items.get(index + 1)
            && let Some((_, began)) = self.open.get(&attempt)
        {
            self.calendar.put(*began + *after, Moment::Item(attempt, index + 1));
        }
        let mut events = Vec::new();
        relay.item(self.now, item, &mut events);
        self.after(attempt.request, Some(attempt), events);
    }

    fn wake(&mut self, request: RequestId) {
        let Some((relay, ..)) = self.relays.get_mut(&request) else { return };
        if relay.timer() != Some(self.now) {
            return;
        }
        let before = relay.attempt();
        let mut events = Vec::new();
        relay.wake(self.now, &mut events);
        if relay.timer().is_some_and(|at| at <= self.now) {
            self.checks.breach(self.now, format!("the watch of {request:?} wakes without end"));
            return;
        }
        self.rearm(request);
        self.after(request, before, events);
    }

    /// A relay has moved: tells the machine, and hangs up where the attempt is over.
    fn after(&mut self, request: RequestId, before: Option<AttemptId>, events: Vec<Event>) {
        let relay = self.relays.get(&request).map(|(relay, ..)| relay);
        if let Some(attempt) = before
            && relay.is_some_and(|relay| relay.attempt().is_none())
        {
            self.hang_up(attempt);
        }
        if events.iter().any(|event| matches!(event, Event::FirstToken { .. })) {
            self.rearm(request);
        }
        if relay_settles(self.relays.get(&request), self.now) {
            self.rearm(request);
        }
        events.into_iter().for_each(|event| self.tell(event));
    }

    fn rearm(&mut self, request: RequestId) {
        let timer = self.relays.get(&request).and_then(|(relay, ..)| relay.timer());
        if let Some(at) = timer {
            self.calendar.put(at, Moment::Wake(request));
        }
    }

    fn hang_up(&mut self, attempt: AttemptId) {
        if let Some((target, _)) = self.open.remove(&attempt) {
            self.setup.upstreams[usize::from(target.0)].close(self.now, attempt);
        }
    }

    fn tell(&mut self, event: Event) {
        self.checks.hears(self.now, &event, self.gateway.config());
        let blamed = match &event {
            Event::Broken { broken, .. } => Some(broken.failure.class),
            _ => None,
        };
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        self.checks.decided(self.now, blamed, &actions);
        for action in actions {
            match action {
                Action::Start(start) => self.start(start),
                Action::Close { request, close } => self.close(request, close),
                Action::Fact(fact) => self.facts.push((self.now, fact)),
                // One gateway in front of providers has nobody to say these to.
                Action::GiveUp { .. }
                | Action::Report { .. }
                | Action::Digest { .. }
                | Action::Probe { .. }
                | Action::Answers(_) => {}
            }
        }
        let next = self.gateway.deadline().map(|(at, _)| at);
        if let Some(at) = next
            && self.tick.is_none_or(|tick| at < tick)
        {
            self.tick = Some(at);
            self.calendar.put(at, Moment::Tick);
        }
    }

    fn start(&mut self, start: Start) {
        let attempt = start.attempt;
        let Some((relay, _, tried)) = self.relays.get_mut(&attempt.request) else {
            return self.checks.breach(self.now, format!("{attempt:?} of nobody"));
        };
        self.checks.starts(self.now, &start, relay, self.gateway.config());
        tried.push(Tried { target: start.target, how: start.how, at: self.now });
        let before = relay.attempt();
        let upstream = &mut self.setup.upstreams[usize::from(start.target.0)];
        let call =
            Call { start: &start, ask: &relay.ask, relayed: relay.relayed(start.only_choice) };
        let reply = upstream.open(self.now, self.now.since(START), &call, &mut self.rng);
        expect(relay, &start, &reply.texts);
        if let Some((after, _)) = reply.script.items.first() {
            self.calendar.put(self.now + *after, Moment::Item(attempt, 0));
        }
        self.open.insert(attempt, (start.target, self.now));
        relay.start(self.now, start, reply.script);
        before.into_iter().for_each(|old| self.hang_up(old));
        self.rearm(attempt.request);
    }

    fn close(&mut self, request: RequestId, close: Close) {
        let Some((mut relay, arrived, tried)) = self.relays.remove(&request) else {
            return self.checks.breach(self.now, format!("{request:?} closed, of nobody"));
        };
        self.checks.closes(self.now, &relay, &close);
        let attempt = relay.leg.take().map(|leg| leg.start.attempt);
        attempt.into_iter().for_each(|attempt| self.hang_up(attempt));
        self.ended.push(Ended {
            request,
            tier: relay.ask.tier.0,
            arrived,
            at: self.now,
            first_content: relay.first_content,
            gap: relay.gap,
            tokens: relay.choices.iter().map(|choice| choice.relayed.tokens).sum(),
            tried,
            close,
        });
    }
}

/// Whether a finished answer began to wait for its usage just now.
fn relay_settles(relay: Option<&(Relay, Time, Vec<Tried>)>, now: Time) -> bool {
    relay.and_then(|(relay, ..)| relay.settles()).is_some_and(|until| until > now)
}

/// Notes what the client should have in the end, now that this attempt writes it.
fn expect(relay: &mut Relay, start: &Start, texts: &[String]) {
    let is_native = start.how == How::Resume(Rung::Native);
    for (index, choice) in relay.choices.iter_mut().enumerate() {
        let is_asked = start.only_choice.is_none_or(|only| only as usize == index);
        if !is_asked || choice.held.is_some() {
            continue;
        }
        let told = if start.only_choice.is_some() { texts.first() } else { texts.get(index) };
        let Some(told) = told else { continue };
        // Regeneration that repeats what the client has is that attempt's whole answer.
        let repeats = !is_native && told.starts_with(&choice.relayed.content);
        if choice.relayed.content.is_empty() || repeats {
            choice.truth.clone_from(told);
        } else if is_native {
            choice.truth = format!("{}{told}", choice.relayed.content);
        }
    }
}
