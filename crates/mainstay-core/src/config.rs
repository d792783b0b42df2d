//! What the operator decided, in the form the machines read.
//!
//! The file a person writes is turned into this by the binary, which checks it and names line and
//! key of what is wrong. Here everything is present, resolved and within bounds.

use crate::cost::{CostRate, CostUnits, Price};
use crate::in_service::Least;
use crate::lease::Terms;
use crate::mutant::Mutants;
use crate::names::{GatewayId, SiteId, TargetId};
use crate::policy::generation::{CANARY, SOAK};
use crate::time::Duration;
use alloc::string::String;
use alloc::vec::Vec;

/// Everything the gateway decides by.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The failure domains that can answer.
    pub sites: Vec<Site>,
    /// The models at those sites.
    pub targets: Vec<Target>,
    /// The names clients ask for.
    pub models: Vec<Model>,
    /// Names a site may serve although they are not listed.
    pub families: Vec<Family>,
    /// The service classes, the highest first. Never empty.
    pub tiers: Vec<Tier>,
    /// Times and bounds.
    pub limits: Limits,
    /// This gateway among others, and sites of ours.
    pub fleet: Fleet,
}

/// What a caller may use: a key, or all keys of a tenant together. `None`: without a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// Requests a minute.
    pub requests: Option<u32>,
    /// Tokens a minute, of prompts and answers together.
    pub tokens: Option<u64>,
    /// Cost units a minute.
    pub cost: Option<u64>,
    /// Requests that run at once.
    pub concurrency: Option<u32>,
}

impl Contract {
    /// This one, and where it says nothing, `other`.
    pub fn or(self, other: Contract) -> Contract {
        Contract {
            requests: self.requests.or(other.requests),
            tokens: self.tokens.or(other.tokens),
            cost: self.cost.or(other.cost),
            concurrency: self.concurrency.or(other.concurrency),
        }
    }
}

/// How gateways and sites of ours share load.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// This gateway,
    pub me: GatewayId,
    /// of so many that the policy lists.
    pub gateways: u16,
    /// Terms of credit.
    pub credit: Terms,
    /// Terms of quota slices.
    pub quota: Terms,
    /// Between two reports to each site of ours.
    pub report: Duration,
    /// Between two digests to peers, and how many get each.
    pub digest: (Duration, u8),
    /// What stays in service.
    pub service: Service,
    /// What work is taken to cost.
    pub price: Price,
}

impl Default for Fleet {
    fn default() -> Fleet {
        Fleet {
            me: GatewayId(0),
            gateways: 1,
            credit: Terms::CREDIT,
            quota: Terms::QUOTA,
            report: Duration::from_millis(500),
            digest: (Duration::from_secs(1), 3),
            service: Service::default(),
            price: Price::default(),
        }
    }
}

/// What the sites carry by plan, and how much of that stays in service whatever is ordered. The
/// same at gateways and sites: so they judge orders alike without asking each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What each site carries, by `SiteId`. Where some carry something, those of nothing
    /// (providers, which others own) do not count; where all are nothing, all count alike.
    pub sites: Vec<CostRate>,
    /// Sites that orders and indirect evidence leave in service where there are more than two
    /// eligible ones; of two or fewer, one.
    pub min_sites: u8,
    /// Share of capacity that they leave, in hundredths.
    pub min_capacity: u8,
}

impl Service {
    /// What must stay of it.
    pub fn least(&self, mutants: Mutants) -> Least {
        Least { sites: self.min_sites, capacity: self.min_capacity, mutants }
    }

    /// What a site carries by plan.
    pub fn planned(&self, site: SiteId) -> CostRate {
        self.sites.get(usize::from(site.0)).copied().unwrap_or(CostRate::ZERO)
    }
}

impl Default for Service {
    fn default() -> Service {
        Service { sites: Vec::new(), min_sites: 2, min_capacity: 30 }
    }
}

/// What a site controller decides by.
#[derive(Clone, Debug, PartialEq)]
pub struct SiteConfig {
    /// Which site this is.
    pub site: SiteId,
    /// The models it serves.
    pub pools: Vec<Pool>,
    /// The service classes, the highest first. Never empty.
    pub tiers: Vec<Tier>,
    /// For each tier: within what time a first token is in time,
    pub in_time: Vec<Duration>,
    /// and how long an attempt may wait for it. What cannot be in time waits behind what can.
    pub patience: Vec<Duration>,
    /// Gateways that the policy lists.
    pub gateways: u16,
    /// What stays in service whatever is ordered.
    pub service: Service,
    /// Terms of credit.
    pub credit: Terms,
    /// Grants may exceed capacity by this much, in hundredths.
    pub overcommit: u8,
    /// More than its demand that a gateway may hold, in hundredths.
    pub slack: u8,
    /// Standby, in hundredths of a gateway's whole demand.
    pub standby: u8,
}

impl SiteConfig {
    /// Largest share of capacity, in hundredths, by which grants exceed it, by which a gateway's
    /// credit exceeds its demand, and that stands by.
    const OVERCOMMIT: u8 = 5;
    const SLACK: u8 = 25;
    const STANDBY: u8 = 10;
    /// First tokens later than this break the promise of any tier.
    const PROMISE: Duration = Duration::from_secs(5);
    /// How long an attempt may wait for its first token: of tiers that were promised much, of those
    /// with a floor, and of those that fill what others leave.
    const PATIENCE: [Duration; 3] =
        [Duration::from_secs(60), Duration::from_secs(5), Duration::from_secs(3600)];
    /// Who waits for long is in time within so much of that: five seconds of a minute, and five
    /// minutes of an hour.
    const IN_TIME: u32 = 12;
    /// What a median request costs: a prompt of a thousand tokens, or an answer of a hundred. The
    /// longest usual answer in its place, ten times as much, left a site of less than a hundred
    /// cost units a second with credit for one of two gateways, and a small one with none at all.
    const MEDIAN: CostUnits = CostUnits::whole(1);
    /// From this floor on much was promised.
    const PROMISED: f64 = 0.2;

    /// Within what time a first token is in time for who waits so long for it.
    pub fn in_time(patience: Duration) -> Duration {
        (patience / SiteConfig::IN_TIME).max(SiteConfig::PROMISE).min(patience)
    }

    /// What the controller of `site` decides by, where `config` is in force.
    pub fn of(config: &Config, site: SiteId) -> SiteConfig {
        let here = config.targets.iter().enumerate().filter(|(_, target)| target.site == site);
        let pool = |(at, target): (usize, &Target)| Pool {
            target: TargetId(u16::try_from(at).unwrap_or(u16::MAX)),
            labels: target.labels,
            median: SiteConfig::MEDIAN,
            promise: SiteConfig::PROMISE,
        };
        let patience = |tier: &Tier| match tier.floor {
            floor if floor >= SiteConfig::PROMISED => SiteConfig::PATIENCE[0],
            floor if floor > 0.0 => SiteConfig::PATIENCE[1],
            _ => SiteConfig::PATIENCE[2],
        };
        SiteConfig {
            site,
            pools: here.map(pool).collect(),
            tiers: config.tiers.clone(),
            in_time: config.tiers.iter().map(|tier| SiteConfig::in_time(patience(tier))).collect(),
            patience: config.tiers.iter().map(patience).collect(),
            gateways: config.fleet.gateways,
            credit: config.fleet.credit,
            overcommit: SiteConfig::OVERCOMMIT,
            slack: SiteConfig::SLACK,
            standby: SiteConfig::STANDBY,
            service: config.fleet.service.clone(),
        }
    }
}

/// One model at a site, with workers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Which.
    pub target: TargetId,
    /// What its workers really have, see `Target::labels`.
    pub labels: u64,
    /// A median request: no grant is smaller, unless it is nothing.
    pub median: CostUnits,
    /// First tokens later than this break the promise.
    pub promise: Duration,
}

/// What the policy machine of a process decides by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// This gateway,
    pub me: GatewayId,
    /// of so many that the policy lists.
    pub gateways: u16,
    /// What the sites carry: an order that takes out much of it needs a token.
    pub service: Service,
    /// Between two polls of the source, give or take a fifth.
    pub poll: Duration,
    /// Largest content of a generation, in bytes.
    pub bytes_max: u64,
    /// The canary may be silent for so long before somebody is told.
    pub silence_max: Duration,
    /// A gateway of the stage before must have run a generation clean for so long. Another time
    /// than `generation::CANARY` is for rehearsals.
    pub canary: Duration,
    /// A generation is good when it has been in force and clean for so long. Another time than
    /// `generation::SOAK` is for rehearsals.
    pub soak: Duration,
    /// Rules taken away, in tests only.
    pub mutants: Mutants,
}

impl Default for PolicyConfig {
    fn default() -> PolicyConfig {
        PolicyConfig {
            me: GatewayId(0),
            gateways: 1,
            service: Service::default(),
            poll: Duration::from_secs(10),
            bytes_max: 4 << 20,
            silence_max: Duration::from_secs(900),
            canary: CANARY,
            soak: SOAK,
            mutants: Mutants::NONE,
        }
    }
}

/// A failure domain that can answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name in messages and metrics.
    pub name: String,
    /// Concurrent requests it may have in flight for us; `None` is unknown.
    pub capacity: Option<u32>,
    /// Who admits work there.
    pub kind: SiteKind,
    /// Identical refusals of our key needed before it is believed, e.g. 2 for OpenRouter.
    pub auth_strikes: u8,
}

impl Site {
    /// Whether it is the engine in this process.
    pub fn is_embedded(&self) -> bool {
        self.kind == SiteKind::Embedded
    }

    /// Whether it is a data center of ours.
    pub fn is_node(&self) -> bool {
        self.kind == SiteKind::Node
    }
}

/// Who admits work into a site, and so what this gateway may know of its room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SiteKind {
    /// A provider account: the gateway plays its controller, from limits and replies.
    #[default]
    Provider,
    /// The engine in this process, which can go on from a token journal.
    Embedded,
    /// A data center of ours: its controller grants credit, acknowledges and beats.
    Node,
}

/// Every tier, see `Target::tiers`.
pub const ALL_TIERS: u8 = 0xff;

/// One model at one site: what an attempt is sent to, and what health is kept for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where.
    pub site: SiteId,
    /// The model's name there.
    pub model: String,
    /// Context window in tokens, prompt and answer together; `None` is unknown: tried and learned.
    pub window: Option<u32>,
    /// Most tokens it will answer.
    pub output_max: Option<u32>,
    /// What it offers beyond text.
    pub offers: Needs,
    /// Whether it can go on from a partial answer.
    pub continuation: Continuation,
    /// What it has beyond features, one bit each: build, context class, residency, tenant pin.
    pub labels: u64,
    /// Share of the model's sessions that are at home here, in thousandths.
    pub home: u16,
    /// Tiers that may use it, one bit each, the highest tier the lowest bit.
    pub tiers: u8,
}

/// Features a request needs, or a target offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Tool calls.
    pub tools: bool,
    /// Images or other media in the prompt.
    pub media: bool,
    /// JSON mode or JSON schema.
    pub json: bool,
    /// The embeddings endpoint.
    pub embeddings: bool,
    /// The legacy completions endpoint.
    pub completions: bool,
}

impl Needs {
    /// Every feature: what is assumed of a target nothing is known of.
    pub const fn all() -> Needs {
        Needs { tools: true, media: true, json: true, embeddings: true, completions: true }
    }

    /// Whether everything `asked` is among what `self` offers.
    pub fn covers(self, asked: Needs) -> bool {
        (self.tools || !asked.tools)
            && (self.media || !asked.media)
            && (self.json || !asked.json)
            && (self.embeddings || !asked.embeddings)
            && (self.completions || !asked.completions)
    }
}

/// Whether a target continues a prefix of an answer in its dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuation {
    /// From a token journal, exactly.
    Journal,
    /// The dialect has a form for it.
    Native,
    /// It has none: only hidden regeneration is left.
    None,
}

/// A name clients ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The name.
    pub name: String,
    /// Targets with the same weights, in order.
    pub served_by: Vec<TargetId>,
    /// Other models that may answer when no equal can, in order.
    pub substitutes: Vec<TargetId>,
    /// Whether a substitute may finish an answer that another model began.
    pub substitutes_may_finish: bool,
}

/// A family of model names that a site may serve although they are not listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The names, with `*` for any text.
    pub pattern: String,
    /// Where.
    pub site: SiteId,
    /// Whether it continues a prefix of an answer.
    pub continuation: Continuation,
}

/// A service class.
#[derive(Clone, Debug, PartialEq)]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// Share of capacity that higher tiers cannot take from it, 0 to 1.
    pub floor: f64,
}

/// Times and bounds. `Default` gives the published ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// DNS, TCP and TLS together.
    pub connect: Duration,
    /// Wait for a first token with fewer than 20 recent samples.
    pub first_token_unmeasured: Duration,
    /// Least and most that a measured wait for a first token may be.
    pub first_token: (Duration, Duration),
    /// Wait between tokens without samples.
    pub stall_unmeasured: Duration,
    /// Least and most that a measured wait between tokens may be.
    pub stall: (Duration, Duration),
    /// How long an answer must drip before it is given up.
    pub drip: Duration,
    /// Fewer tokens a second than this are a drip at any target,
    pub drip_rate: f64,
    /// and fewer than this share of the target's usual rate.
    pub drip_share: f64,
    /// Longest life of a request whose client set no limit.
    pub request: Duration,
    /// Waits after the first, second and every further overload or undated throttle.
    pub back_off: [Duration; 3],
    /// Growth of a rate is measured over this time: a provider that refuses growth gets 40 % in it.
    pub growth: Duration,
    /// Between two probes of a target that is parked for its key or its name, and for its bill.
    pub probe_auth: Duration,
    /// See `probe_auth`.
    pub probe_billing: Duration,
    /// Longest Retry-After that is believed before the target is probed.
    pub retry_after_max: Duration,
    /// Longest Retry-After that is waited out for the sake of the same model.
    pub wait_max: Duration,
    /// Pause before the same site is tried again after a fast and transient fault.
    pub retry_pause: (Duration, Duration),
}

impl Default for Limits {
    fn default() -> Limits {
        let secs = Duration::from_secs;
        Limits {
            connect: secs(2),
            first_token_unmeasured: secs(10),
            first_token: (secs(1), secs(60)),
            stall_unmeasured: secs(5),
            stall: (secs(2), secs(10)),
            drip: secs(10),
            drip_rate: 2.0,
            drip_share: 0.1,
            request: secs(600),
            back_off: [secs(1), secs(4), secs(15)],
            growth: secs(10),
            probe_auth: secs(60),
            probe_billing: secs(300),
            retry_after_max: secs(60),
            wait_max: secs(3),
            retry_pause: (Duration::from_millis(250), Duration::from_millis(500)),
        }
    }
}

impl Limits {
    /// The same limits with our own times divided by `by`, for trying faults in less time. What
    /// is promised to a client (the wait of three seconds, the request's life) stays.
    pub fn divided(self, by: u32) -> Limits {
        Limits {
            connect: self.connect / by,
            first_token_unmeasured: self.first_token_unmeasured / by,
            first_token: (self.first_token.0 / by, self.first_token.1 / by),
            stall_unmeasured: self.stall_unmeasured / by,
            stall: (self.stall.0 / by, self.stall.1 / by),
            drip: self.drip / by,
            back_off: self.back_off.map(|wait| wait / by),
            growth: self.growth / by,
            probe_auth: self.probe_auth / by,
            probe_billing: self.probe_billing / by,
            retry_after_max: self.retry_after_max / by,
            ..self
        }
    }
}
