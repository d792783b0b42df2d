//! A small site whose workers are killed one after another, and clients that it has streams for.

use crate::bench::{TARGET, config, open};
use crate::tells::tell;
use mainstay_core::cost::{CostRate, Price};
use mainstay_core::lease::{Holder, Terms};
use mainstay_core::message::{Grant, Open, Reason, Report, TIERS_MAX};
use mainstay_core::names::{GatewayId, Work, WorkerId};
use mainstay_core::rng::Rng;
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::{Duration, Time};
use std::collections::BTreeMap;

/// Workers, answers that each can have open, and clients.
const WORKERS: u16 = 3;
const STREAMS: u32 = 8;
const CLIENTS: u64 = 6;
/// Limits of answers in tokens, one of which takes so many milliseconds.
const LENGTHS: [u32; 5] = [60, 150, 300, 450, 600];
const TOKEN: u64 = 7;
/// Milliseconds to a first token, the least and the most: servers without other work, and such as
/// are slowed. With more than the slowest a request is late for two others before it.
const FIRST: [(u64, u64); 4] = [(100, 100), (50, 500), (100, 1500), (100, 3000)];
/// Answers in the time that is played, of the slowest.
const LEAST: u32 = 400;
/// Milliseconds between two kills, and until a killed worker is back.
const KILL: u64 = 20_000;
const BACK: u64 = 10_000;
/// It is played so long.
const END: u64 = 300_000;

/// What is to happen, and to whom.
#[derive(Clone, Copy, Debug)]
enum Next {
    Asks(u64),
    First(Work, u32, u64),
    Ends(Work, u32),
    Report,
    Kill(u16),
    Back(u16),
}

/// What a client waits for.
struct Asked {
    client: u64,
    length: u32,
    begun: Time,
    leg: u32,
    worker: WorkerId,
}

struct Small {
    site: Site,
    millis: u64,
    calendar: BTreeMap<(u64, u64), Next>,
    numbers: u64,
    live: BTreeMap<Work, Asked>,
    clean: BTreeMap<WorkerId, u32>,
    rng: Rng,
    holder: Holder<Grant>,
    level: (f64, u64),
    demand: f64,
    whole: u32,
    shed: Vec<(u64, Reason)>,
    /// Milliseconds to a first token, the least and the most.
    first: (u64, u64),
}

impl Small {
    fn new(seed: u64, first: (u64, u64)) -> Small {
        let mut small = Small {
            site: Site::first(config(1), seed),
            millis: 1,
            calendar: BTreeMap::new(),
            numbers: 0,
            live: BTreeMap::new(),
            clean: BTreeMap::new(),
            rng: Rng::new(seed),
            holder: Holder::default(),
            level: (0.0, 0),
            demand: 0.0,
            whole: 0,
            shed: Vec::new(),
            first,
        };
        (0..WORKERS).for_each(|worker| small.up(worker));
        small.plan(2, Next::Report);
        (0..CLIENTS).for_each(|client| small.plan(3 + client, Next::Asks(client)));
        small.plan(KILL / 2, Next::Kill(0));
        small
    }

    fn plan(&mut self, at: u64, next: Next) {
        self.numbers += 1;
        self.calendar.insert((at, self.numbers), next);
    }

    fn up(&mut self, worker: u16) {
        let streams =
            self.clean.get(&WorkerId(worker)).map_or(STREAMS, |clean| STREAMS.min(1 + clean));
        let capacity = CostRate::whole(20);
        let state = WorkerState::Up { target: TARGET, capacity, streams, cold: false };
        self.hear(Event::Worker { worker: WorkerId(worker), state });
    }

    fn hear(&mut self, event: Event) {
        let millis = self.millis;
        for action in tell(&mut self.site, millis, event) {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Dispatch { work, worker } => {
                let asked = self.live.get_mut(&work).expect("asked for");
                asked.leg += 1;
                asked.worker = worker;
                let leg = asked.leg;
                let (least, most) = self.first;
                let took = least + self.rng.below(most - least + 1);
                self.plan(self.millis + took, Next::First(work, leg, took));
            }
            Action::Refuse { to, refuse } => {
                let work = Work { from: to, attempt: refuse.attempt };
                let asked = self.live.remove(&work).expect("asked for");
                self.shed.push((self.millis, refuse.reason));
                self.plan(self.millis + 1000, Next::Asks(asked.client));
            }
            Action::Grant { grant, .. } => {
                let now = Time::from_micros(self.millis * 1000);
                self.holder.grant(now, (grant.epoch, grant.nonce), grant, &Terms::CREDIT);
            }
            Action::Ack { .. } | Action::Abort { .. } | Action::Fact(_) => {}
        }
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Asks(client) => self.ask(client),
            Next::First(work, leg, took) => {
                let Some(asked) = self.live.get(&work).filter(|asked| asked.leg == leg) else {
                    return;
                };
                let length = u64::from(asked.length);
                self.hear(Event::FirstToken { work, after: Duration::from_millis(took) });
                self.plan(self.millis + length * TOKEN, Next::Ends(work, leg));
            }
            Next::Ends(work, leg) => {
                if self.live.get(&work).is_none_or(|asked| asked.leg != leg) {
                    return;
                }
                let asked = self.live.remove(&work).expect("it is there");
                let cost = Price::default().of(20, asked.length.into());
                self.whole += 1;
                if let Some(clean) = self.clean.get_mut(&asked.worker) {
                    *clean += 1;
                    self.up(asked.worker.0);
                }
                self.hear(Event::Ended { work, cost });
                self.plan(self.millis + 1, Next::Asks(asked.client));
            }
            Next::Report => self.report(),
            Next::Kill(worker) => self.kill(worker),
            Next::Back(worker) => {
                self.clean.insert(WorkerId(worker), 0);
                self.up(worker);
            }
        }
    }

    fn kill(&mut self, worker: u16) {
        let here: Vec<Work> = self
            .live
            .iter()
            .filter(|(_, asked)| asked.worker == WorkerId(worker))
            .map(|(work, _)| *work)
            .collect();
        for work in here {
            let asked = self.live.get_mut(&work).expect("it is there");
            asked.leg += 1;
            let begun = asked.begun;
            let relayed = (self.millis - begun.as_micros() / 1000) / TOKEN;
            self.hear(Event::Moving { work, relayed: relayed as u32 });
        }
        self.hear(Event::Worker { worker: WorkerId(worker), state: WorkerState::Down });
        // Whoever went there just then gets nothing from it.
        let there = |asked: &&mut Asked| asked.worker == WorkerId(worker);
        self.live.values_mut().filter(there).for_each(|asked| asked.leg += 1);
        self.plan(self.millis + BACK, Next::Back(worker));
        self.plan(self.millis + KILL, Next::Kill((worker + 1) % WORKERS));
    }

    fn ask(&mut self, client: u64) {
        self.numbers += 1;
        let length = LENGTHS[self.rng.below(5) as usize];
        let cost = Price::default().of(20, length.into());
        let credited = self.spend(cost.as_f64());
        let known = Open { cost, credited, output: length, prompt: 20, ..open(self.numbers) };
        let opened = Open { tenant: 0, ..known };
        let begun = Time::from_micros(self.millis * 1000);
        self.live
            .insert(opened.work, Asked { client, length, begun, leg: 0, worker: WorkerId(99) });
        self.hear(Event::Open(opened));
    }

    fn spend(&mut self, cost: f64) -> bool {
        self.demand += cost;
        let now = Time::from_micros(self.millis * 1000);
        let Some(held) = self.holder.held(now) else { return false };
        let rate = held.rate.iter().copied().sum::<CostRate>().as_f64();
        let passed = (self.millis - self.level.1) as f64 / 1000.0;
        self.level = ((self.level.0 + rate * passed).min(rate * 0.5), self.millis);
        let may = self.level.0 > 0.0;
        self.level.0 -= if may { cost } else { 0.0 };
        may
    }

    fn report(&mut self) {
        let now = Time::from_micros(self.millis * 1000);
        let nonce = self.holder.report(now);
        let mut demand = [CostRate::ZERO; TIERS_MAX];
        demand[0] = CostRate((self.demand * 2000.0) as u64);
        self.demand = 0.0;
        let elapsed = Duration::from_millis(self.millis);
        let report = Report { target: TARGET, nonce, demand, total: demand, in_flight: 0, elapsed };
        self.hear(Event::Report { from: GatewayId(0), report });
        self.plan(self.millis + 500, Next::Report);
    }
}

/// What became of five minutes with these times to a first token.
fn played(seed: u64, first: (u64, u64)) -> Small {
    let mut small = Small::new(seed, first);
    let end = |((at, _), _): &((u64, u64), Next)| *at < END;
    while let Some(((at, _), next)) = small.calendar.pop_first().filter(end) {
        small.millis = at;
        small.step(next);
    }
    small
}

#[test]
fn where_streams_are_free_nothing_is_shed_while_workers_are_killed() {
    for first in FIRST {
        for seed in 1..=20 {
            let small = played(seed, first);
            assert!(small.whole > LEAST, "{first:?}, seed {seed}: {}", small.whole);
            assert_eq!(small.shed, [], "{first:?}, seed {seed}: shed of {}", small.whole);
        }
    }
}
