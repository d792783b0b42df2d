//! Who asks, and what a client's library does with an answer that is none.

use super::slab::Key;
use super::workers::{FIRST_TOKEN, TOKEN};
use crate::scenario::{Clients, Scenario};
use mainstay_core::cost::CostUnits;
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};

/// Sessions a tenant has at a time.
const SESSIONS: usize = 4;
/// Prompt and answer of the bench's own request: one cost unit.
const PROMPT: u32 = 1000;
/// See `PROMPT`.
const OUTPUT: u32 = 200;
/// How long its answer keeps a stream of an idle worker.
pub const ANSWER: Duration = FIRST_TOKEN.saturating_add(TOKEN.saturating_mul(OUTPUT - 1));
/// One session in so many has long prompts, where a scenario tells of sites that cannot take them.
pub const LONG_EVERY: u64 = 5;

/// One request as a trace tells it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Since the start.
    pub at: Duration,
    /// Whose.
    pub tenant: u32,
    /// Of which session.
    pub session: u64,
    /// Tokens of its prompt,
    pub prompt: u32,
    /// tokens of its answer,
    pub output: u32,
    /// and how many of the prompt a prefix cache has, if it is the session's home.
    pub cached: u32,
    /// The gateway its user is near to, where that is known.
    pub gateway: Option<u16>,
}

/// A trace's requests in order.
pub type Source = Box<dyn Iterator<Item = Offer>>;

/// A stream of arrivals at a rate that may change.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Of which tier; of all by their shares if none.
    pub tier: Option<u8>,
    /// Of one tenant.
    pub tenant: Option<u32>,
    /// Requests a second.
    pub rate: f64,
    /// Counts changes of the rate.
    pub turn: u32,
    /// Requests left, where they are counted.
    pub left: Option<u32>,
}

/// A session under way.
#[derive(Clone, Copy, Debug)]
struct Session {
    hash: u64,
    began: Time,
    left: u32,
    gateway: u16,
}

/// One request of a user, through all tries of its library.
#[derive(Clone, Debug)]
pub struct User {
    /// Its tier.
    pub tier: u8,
    /// Whose.
    pub tenant: u32,
    /// Hash of its session, and when that began.
    pub session: (u64, Time),
    /// What its target must have.
    pub labels: u64,
    /// Tokens of its prompt and of its answer.
    pub size: (u32, u32),
    /// What it costs.
    pub cost: CostUnits,
    /// When it was offered.
    pub asked: Time,
    /// The try under way, counted from 1.
    pub number: u8,
    /// When that began,
    pub started: Time,
    /// at which gateway.
    pub gateway: u16,
    /// Whether a try is under way,
    pub is_trying: bool,
    /// and whether its gateway has it.
    pub is_open: bool,
    /// The attempt under way.
    pub attempt: Option<Key>,
    /// Tokens the client has of this try,
    pub relayed: u32,
    /// when the first came,
    pub first: Option<Time>,
    /// when the last came,
    pub last: Time,
    /// and the longest pause between two.
    pub gap: Duration,
    /// When the answer broke off, until it goes on.
    pub broke: Option<Time>,
    /// Sites that this try was at.
    pub sites: u128,
    /// Attempts of this try that went back to a site.
    pub returns: u8,
    /// Whether the last failure burdened the site, so that another attempt counts as a retry.
    pub is_charged: bool,
}

impl User {
    /// Another try begins, with nothing in hand.
    pub fn begin_try(&mut self, now: Time) {
        self.number += 1;
        self.started = now;
        self.is_trying = true;
        self.is_open = false;
        self.attempt = None;
        self.relayed = 0;
        self.first = None;
        self.last = now;
        self.gap = Duration::ZERO;
        self.broke = None;
        self.sites = 0;
        self.returns = 0;
        self.is_charged = false;
    }
}

/// What a try ended with, as far as a library cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A status, when to come back, and whether tokens had come before it.
    Status(u16, Option<Duration>, bool),
    /// No first token in time.
    TimeOut,
    /// The connection was lost.
    Lost,
}

/// What the library does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Tries again after this pause.
    Again(Duration),
    /// Gives up, and was told when to come back.
    Shed,
    /// Gives up.
    Failed,
}

/// All clients.
#[derive(Debug)]
pub struct Crowd {
    /// How they behave now.
    pub habits: Clients,
    /// Where they come from.
    pub streams: Vec<Stream>,
    tenants: Vec<[Option<Session>; SESSIONS]>,
    turns: u32,
    /// For each tier, its first tenant and how many it has.
    ranges: Vec<(u32, u32)>,
    shares: Vec<f64>,
    /// Gateways by the site they are near to, and shares of sessions by site.
    regions: Vec<(f64, Vec<u16>)>,
    rng: Rng,
    sessions: u64,
}

impl Crowd {
    /// The scenario's clients; `near` has the nearest site of each gateway.
    pub fn new(scenario: &Scenario, near: &[usize], seed: u64) -> Crowd {
        let bench = &scenario.bench;
        let tenants = scenario.load.tenants.max(bench.tiers.len() as u32);
        let mut ranges = Vec::new();
        let mut next = 0;
        for tier in &bench.tiers {
            let count = ((f64::from(tenants) * tier.share) as u32).max(1);
            ranges.push((next, count));
            next += count;
        }
        let regions = bench.sites.iter().enumerate().map(|(site, bench)| {
            let close = near.iter().enumerate().filter(|(_, nearest)| **nearest == site);
            (bench.home, close.map(|(gateway, _)| gateway as u16).collect())
        });
        Crowd {
            habits: scenario.clients,
            streams: Vec::new(),
            tenants: vec![[None; SESSIONS]; next as usize],
            turns: scenario.load.turns.max(1),
            ranges,
            shares: bench.tiers.iter().map(|tier| tier.share).collect(),
            regions: regions.collect(),
            rng: Rng::new(seed ^ 0x636c_6965_6e74_7300),
            sessions: seed << 20,
        }
    }

    /// Time until the next arrival of a stream, if there will be one.
    pub fn pause(&mut self, stream: usize) -> Option<Duration> {
        let rate = self.streams.get(stream)?.rate;
        if rate <= 0.0 {
            return None;
        }
        let drawn = 1.0 - self.rng.unit();
        Some(Duration::from_secs_f64(-drawn.ln() / rate))
    }

    /// The next user of a stream.
    pub fn arrive(&mut self, now: Time, stream: usize) -> User {
        let (tier, tenant) = (self.streams[stream].tier, self.streams[stream].tenant);
        let tier = tier.unwrap_or_else(|| self.draw_tier());
        let (first, count) = self.ranges[usize::from(tier)];
        let tenant = tenant.unwrap_or_else(|| first + self.rng.below(u64::from(count)) as u32);
        let session = self.session(now, tenant);
        user(now, (tier, tenant), session, (PROMPT, OUTPUT, PROMPT))
    }

    /// The user of a trace's request.
    pub fn from_trace(&mut self, now: Time, offer: &Offer) -> User {
        let tenant = offer.tenant % self.tenants.len() as u32;
        let tier = self.tier_of(tenant);
        let near = offer.gateway.unwrap_or_else(|| self.near());
        let session = Session { hash: offer.session, began: now, left: 1, gateway: near };
        let uncached = offer.prompt.saturating_sub(offer.cached).max(1);
        user(now, (tier, tenant), session, (offer.prompt, offer.output.max(1), uncached))
    }

    /// The tier a tenant has.
    pub fn tier_of(&self, tenant: u32) -> u8 {
        let at = self.ranges.iter().rposition(|(first, _)| tenant >= *first);
        at.unwrap_or(0) as u8
    }

    /// How many tenants a tier has.
    pub fn tenants(&self, tier: u8) -> u32 {
        self.ranges[usize::from(tier)].1
    }

    fn draw_tier(&mut self) -> u8 {
        let mut left = self.rng.unit();
        for (tier, share) in self.shares.iter().enumerate() {
            if left < *share {
                return tier as u8;
            }
            left -= share;
        }
        self.shares.len() as u8 - 1
    }

    fn session(&mut self, now: Time, tenant: u32) -> Session {
        let which = self.rng.below(SESSIONS as u64) as usize;
        let known = self.tenants[tenant as usize][which].filter(|session| session.left > 0);
        let mut session = known.unwrap_or_else(|| {
            self.sessions += 1;
            let hash = Rng::new(self.sessions).bits();
            Session { hash, began: now, left: self.turns, gateway: self.near() }
        });
        session.left -= 1;
        self.tenants[tenant as usize][which] = Some(session);
        session
    }

    /// A gateway near to where a new session's user lives.
    fn near(&mut self) -> u16 {
        let mut left = self.rng.unit();
        for (share, gateways) in &self.regions {
            if left < *share && !gateways.is_empty() {
                return gateways[self.rng.below(gateways.len() as u64) as usize];
            }
            left -= share;
        }
        let all: usize = self.regions.iter().map(|(_, gateways)| gateways.len()).sum();
        self.rng.below(all as u64) as u16
    }

    /// One more gateway, near this site.
    pub fn add_gateway(&mut self, site: usize, gateway: u16) {
        let known = &mut self.regions[site].1;
        if !known.contains(&gateway) {
            known.push(gateway);
        }
    }

    /// One of these gateways, at random.
    pub fn any(&mut self, gateways: &[u16]) -> Option<u16> {
        let at = self.rng.below(gateways.len() as u64) as usize;
        gateways.get(at).copied()
    }

    /// What the library does after its try number `number` ended so.
    pub fn next(&mut self, number: u8, said: Said) -> Next {
        let is_retried = match said {
            Said::Status(status, _, has_tokens) => {
                !has_tokens && matches!(status, 408 | 409 | 429 | 500..=599)
            }
            Said::TimeOut | Said::Lost => true,
        };
        if is_retried && u32::from(number) <= self.habits.retries {
            let pause = self.habits.pause * 2u32.saturating_pow(u32::from(number) - 1);
            // As the OpenAI libraries do it: up to a quarter less.
            let pause = pause.mul_f64(1.0 - 0.25 * self.rng.unit());
            let told = match said {
                Said::Status(_, Some(back), _) if back <= self.habits.retry_after_max => back,
                Said::Status(..) | Said::TimeOut | Said::Lost => Duration::ZERO,
            };
            return Next::Again(pause.max(told));
        }
        match said {
            Said::Status(429 | 503, Some(_), false) => Next::Shed,
            Said::Status(..) | Said::TimeOut | Said::Lost => Next::Failed,
        }
    }
}

fn user(now: Time, whose: (u8, u32), session: Session, size: (u32, u32, u32)) -> User {
    User {
        tier: whose.0,
        tenant: whose.1,
        session: (session.hash, session.began),
        size: (size.0, size.1),
        // One unit for a thousand uncached tokens, as the bench's own profile has it.
        cost: CostUnits(u64::from(size.2)),
        asked: now,
        number: 0,
        started: now,
        gateway: session.gateway,
        is_trying: false,
        is_open: false,
        labels: 0,
        attempt: None,
        relayed: 0,
        first: None,
        last: now,
        gap: Duration::ZERO,
        broke: None,
        sites: 0,
        returns: 0,
        is_charged: false,
    }
}
