//! The machine of a whole site in the place of the scheduler: what processes run today, on the same
//! traces. It knows no formula of its workers, only what they carry, and hears nothing of their
//! caches but what answers say.

use mainstay_core::config::{Pool, Service, SiteConfig, Tier};
use mainstay_core::cost::{CostRate, CostUnits, Price};
use mainstay_core::lease::Terms;
use mainstay_core::message::Open;
use mainstay_core::names::{SiteId, TargetId, Work, WorkerId};
use mainstay_core::site::prefixes::Prefix;
use mainstay_core::site::schedule::profile::Profile;
use mainstay_core::site::schedule::{Action, Attempt, End, Event};
use mainstay_core::site::{self, Site, WorkerState};
use mainstay_core::time::{Duration, Time};
use std::collections::BTreeMap;

/// The model.
const TARGET: TargetId = TargetId(0);
/// What a first token may take, before what a long prompt takes longer.
const BASE: Duration = Duration::from_secs(2);
/// Where the answer's length is not known, it is taken to be so long: the mean of the traces.
const OUTPUT: u64 = 350;

/// A site between clients and workers.
pub struct WholeSite {
    site: Site,
    price: Price,
    /// Tokens of a block.
    block: u32,
    /// When each was given out, and what it was.
    given: BTreeMap<Work, (Time, u32, u32)>,
}

impl WholeSite {
    /// A site without workers.
    pub fn new(seed: u64, block: u32) -> WholeSite {
        let tier = Tier { name: "all".to_owned(), floor: 0.0 };
        let price = Price { prompt: CostUnits(1), output: CostUnits(5), ..Price::default() };
        let config = SiteConfig {
            site: SiteId(0),
            pools: vec![Pool {
                target: TARGET,
                labels: 0,
                median: price.of(4000, OUTPUT),
                promise: BASE,
            }],
            tiers: vec![tier],
            in_time: vec![BASE],
            patience: vec![BASE],
            gateways: 1,
            service: Service::default(),
            credit: Terms::CREDIT,
            overcommit: 5,
            slack: 25,
            standby: 10,
        };
        WholeSite { site: Site::first(config, seed), price, block, given: BTreeMap::new() }
    }

    /// As the scheduler's.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        let mut did = Vec::new();
        match event {
            Event::Arrived(attempt) => self.arrived(now, &attempt, &mut did),
            Event::FirstToken { work, cached } => {
                if let Some((since, _, held)) = self.given.get_mut(&work) {
                    let after = now.since(*since);
                    *held = cached.unwrap_or(0);
                    self.site.handle(now, site::Event::FirstToken { work, after }, &mut did);
                }
                if let Some(tokens) = cached {
                    self.site.handle(now, site::Event::Cached { work, tokens }, &mut did);
                }
            }
            Event::LegEnded { work, end: End::Done { output } } => {
                let (_, prompt, cached) = self.given.remove(&work).unwrap_or_default();
                let cost = self.price.of((prompt - cached).into(), output.into());
                self.site.handle(now, site::Event::Ended { work, cost }, &mut did);
            }
            Event::LegEnded { work, .. } => {
                self.site.handle(now, site::Event::Lost(work), &mut did);
            }
            Event::WorkerSeen { worker, profile } => self.seen(now, worker, &profile, &mut did),
            Event::Cancelled(work) => {
                self.site.handle(now, site::Event::Cancel(work), &mut did);
            }
            // Nobody tells a site such things.
            Event::Load { .. } | Event::Kv { .. } | Event::Progress { .. } => {}
            Event::Verdict { .. } | Event::Override { .. } => {}
            Event::Tick => self.site.handle(now, site::Event::Tick, &mut did),
        }
        did.into_iter().for_each(|action| self.act(now, &action, actions));
    }

    /// As the scheduler's.
    pub fn check(&self, now: Time) -> Result<(), &'static str> {
        self.site.check(now)
    }

    /// As the scheduler's.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        self.site.deadline()
    }

    fn arrived(&mut self, now: Time, attempt: &Attempt, did: &mut Vec<site::Action>) {
        let work = attempt.work;
        let open = Open {
            work,
            target: TARGET,
            tier: attempt.tier,
            cost: self.price.of(attempt.prompt.into(), OUTPUT),
            credited: true,
            moving: false,
            left: attempt.expires,
            tenant: attempt.tenant,
            session: 0,
            labels: 0,
            prompt: attempt.prompt,
            output: attempt.limit,
            elsewhere: attempt.elsewhere,
        };
        let token = self.price.prompt;
        let prefix = Prefix { keys: attempt.keys.clone(), block: self.block, token };
        self.given.insert(work, (now, attempt.prompt, 0));
        self.site.handle(now, site::Event::Prefix { work, prefix }, did);
        self.site.handle(now, site::Event::Open(open), did);
    }

    /// What it carries of prompts alone, in cost units: a thousand of their tokens are one.
    fn seen(
        &mut self,
        now: Time,
        worker: WorkerId,
        profile: &Profile,
        did: &mut Vec<site::Action>,
    ) {
        let chunk = f64::from(profile.chunk);
        let rate = chunk * 1000.0 / profile.layers(chunk);
        let state = WorkerState::Up {
            target: TARGET,
            capacity: CostRate(rate as u64),
            streams: profile.sequences,
            cold: false,
        };
        self.site.handle(now, site::Event::Worker { worker, state }, did);
    }

    fn act(&mut self, now: Time, action: &site::Action, actions: &mut Vec<Action>) {
        match action {
            site::Action::Dispatch { work, worker } => {
                if let Some((since, ..)) = self.given.get_mut(work) {
                    *since = now;
                }
                let (work, worker) = (*work, *worker);
                actions.push(Action::StartLeg { work, worker, incarnation: 1, relayed: 0 });
            }
            site::Action::Abort { work, worker } => {
                actions.push(Action::AbortLeg { work: *work, worker: *worker });
            }
            site::Action::Refuse { to, refuse } => {
                let work = Work { from: *to, attempt: refuse.attempt };
                self.given.remove(&work);
                actions.push(Action::Refuse { work, after: refuse.retry_after });
            }
            site::Action::Grant { .. } | site::Action::Ack { .. } | site::Action::Fact(_) => {}
        }
    }
}
