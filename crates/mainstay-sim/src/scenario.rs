//! A story that the system must survive: what is there, who asks, what breaks when, what must hold.
//!
//! The types that a scenario file is read into. Times are since the start of the run.

pub mod cast;
pub mod catalogue;
pub mod fault;
mod part;
pub mod problem;
pub mod read;
pub mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One scenario, read and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// `S01`; a sweep's point adds what it sets.
    pub id: String,
    /// In a sentence.
    pub title: String,
    /// The outage it tells, with its date and what is known of its cause.
    pub after: String,
    /// Who is there.
    pub bench: Bench,
    /// How long it is played.
    pub duration: Duration,
    /// How many seeds, unless the command line says otherwise.
    pub seeds: u32,
    /// What the naive baseline must do in it.
    pub baseline: Baseline,
    /// Who asks.
    pub load: Load,
    /// How clients behave.
    pub clients: Clients,
    /// What breaks.
    pub faults: Vec<Fault>,
    /// What must hold beyond the rules that always do.
    pub expects: Vec<Expect>,
    /// Values to play it with: dotted path of a key in the file, and the values it takes.
    pub sweep: BTreeMap<String, Vec<Setting>>,
}

/// A value that a sweep sets.
#[derive(Clone, Debug, PartialEq)]
pub enum Setting {
    /// A number.
    Number(f64),
    /// A text, such as a time.
    Text(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Setting::Number(number) => write!(f, "{number}"),
            Setting::Text(text) => write!(f, "{text}"),
        }
    }
}

/// What the naive baseline must do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Baseline {
    /// It is not played.
    #[default]
    Absent,
    /// It is played and reported.
    Reported,
    /// It must fail; the scenario is too kind if it does not.
    MustFail,
}

/// Sites, gateways and the network between them.
#[derive(Clone, Debug)]
pub struct Bench {
    /// `T1`, `T3`, `T60`, or the configuration file it was made from.
    pub name: String,
    /// Sites of ours and provider accounts.
    pub sites: Vec<BenchSite>,
    /// Gateways.
    pub gateways: u16,
    /// Round trip from each gateway to each site, `[gateway][site]`.
    pub round_trip: Vec<Vec<Duration>>,
    /// Service classes, the highest first: name, floor, share of users, patience for a first token.
    pub tiers: Vec<BenchTier>,
    /// Everything is divided by this: the same story with fewer requests, for sweeps.
    pub scale: f64,
}

/// One site of a bench.
#[derive(Clone, Debug)]
pub struct BenchSite {
    /// Its name.
    pub name: String,
    /// A provider account rather than a data center of ours.
    pub is_provider: bool,
    /// What it carries, in CU a second.
    pub capacity: f64,
    /// Answers it can have open at once.
    pub streams: u32,
    /// Workers that carry it.
    pub workers: u16,
    /// Share of sessions that are at home here.
    pub home: f64,
    /// Tiers that may use it, by position; all if empty.
    pub tiers: Vec<u8>,
    /// A controller stands by.
    pub has_stand_by: bool,
    /// Its workers compute as this profile of `service` says; the bench's own simple ones if none.
    pub profile: Option<String>,
    /// The only gateway whose sessions are at home here, and where its users ask; any if none.
    pub region: Option<u16>,
    /// Degrees east: its users' day begins so much earlier.
    pub longitude: f64,
}

/// One service class of a bench.
#[derive(Clone, Debug)]
pub struct BenchTier {
    /// Its name.
    pub name: String,
    /// Share of capacity that cannot be taken from it.
    pub floor: f64,
    /// Share of offered requests.
    pub share: f64,
    /// How long an attempt may wait for its first token.
    pub patience: Duration,
}

/// Who asks for how much.
#[derive(Clone, Debug)]
pub struct Load {
    /// Share of the bench's own capacity that is offered.
    pub level: f64,
    /// Where lengths, bursts and prefixes come from.
    pub workload: Workload,
    /// Tenants, and turns of one session.
    pub tenants: u32,
    /// See `tenants`.
    pub turns: u32,
}

/// Where requests come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Poisson arrivals of like requests.
    Alike,
    /// A trace: `conversation`, `synthetic`, `azure-conv`, `azure-code`, `servegen-…`, or a path.
    Trace(String),
    /// Requests of a trace, as often as the day of a ServeGen model has it where each site lies.
    Day { model: String, requests: String },
}

/// How clients behave.
#[derive(Clone, Copy, Debug)]
pub struct Clients {
    /// How long they wait for a first token.
    pub patience: Duration,
    /// How often their library tries again.
    pub retries: u32,
    /// Its first pause; doubled each time, with jitter.
    pub pause: Duration,
    /// The longest Retry-After they honour.
    pub retry_after_max: Duration,
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Fault {
    /// From when.
    pub at: Duration,
    /// Until when; what happens once has none.
    pub until: Option<Duration>,
    /// What.
    pub kind: FaultKind,
    /// Line of the scenario file, for messages.
    pub line: u32,
}

/// Names of sites, or numbers of gateways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    All,
    /// These positions.
    These(Vec<u16>),
}

impl Which {
    /// Whether this position is among them.
    pub fn has(&self, at: usize) -> bool {
        match self {
            Which::All => true,
            Which::These(those) => those.iter().any(|each| usize::from(*each) == at),
        }
    }
}

/// How much longer prefill takes with empty caches, unless a fault says otherwise. A turn of a
/// session of ten has 4.5 before it on average, and a warm cache has most of them.
pub const COLD: f64 = 5.0;

/// What breaks.
#[derive(Clone, Debug)]
pub enum FaultKind {
    /// Controller and workers are gone; back with the next epoch. Where caches come back empty,
    /// prefill takes this many times longer until they have refilled.
    SiteDown { sites: Which, how: Loss, cold: Option<f64> },
    /// The controllers are gone, the workers stay.
    ControllerDown { sites: Which },
    /// The controllers are cut off from their workers, and gateways reach them.
    ControllerCut { sites: Which },
    /// This share of a site's workers goes, one after the other until `until`.
    WorkersLost { sites: Which, share: f64 },
    /// This share of a site's workers takes work and does nothing more, until they are restarted.
    WorkersHung { sites: Which, share: f64 },
    /// Service takes this many times longer at this share of workers.
    Slow { sites: Which, share: f64, factor: f64 },
    /// Prefill takes this many times longer until the prefix cache has refilled.
    ColdCache { sites: Which, factor: f64 },
    /// This share of sessions has a new home.
    MoveSessions { share: f64, to: u16 },
    /// Messages between gateways and sites are lost or late.
    Link { gateways: Which, sites: Which, effect: LinkEffect, direction: Direction, part: Part },
    /// Gateways reach only sites and peers of their own group: each a list of gateways and sites.
    Partition { groups: Vec<(Vec<u16>, Vec<u16>)> },
    /// Probes of these sites say this, whatever is true.
    LyingHealth { sites: Which, pattern: Lie },
    /// A site announces labels that its workers do not have.
    WrongLabel { site: u16 },
    /// The model of a site cannot be loaded; nobody noticed, for nobody asked.
    Unloadable { site: u16 },
    /// A generation of policy is published.
    PolicyPush { content: Content, author: String, force: bool, validator: bool },
    /// An operator's order.
    Override { verb: String, target: String, life: Duration, gateway: u16, percent: u8 },
    /// Nothing answers polls for snapshots.
    PolicySourceDown,
    /// Nothing knows new keys.
    KeyStoreDown,
    /// Nothing takes rows.
    LedgerDown,
    /// Login and console are down, or a client loop calls the key store this many times as often.
    ConsoleDown { factor: f64 },
    /// Nothing takes logs and metrics.
    TelemetryStuck,
    /// These gateways hear nothing of their peers, the policy source, and (where set) of control
    /// messages from sites.
    PeersCut { gateways: Which, control: bool },
    /// New connections wait this long for a name.
    ResolverBlackhole { delay: Duration },
    /// This publisher holds its pending write.
    PublisherPause { publisher: u16 },
    /// Offered load is multiplied, within `ramp`; of all tiers or of one.
    Surge { factor: f64, tier: Option<u8>, ramp: Duration },
    /// So many waiting requests are released within this time.
    Release { requests: u32, within: Duration },
    /// Clients wait so long for a first token.
    Patience { patience: Duration },
    /// Clients try again so often.
    Retries { retries: u32 },
    /// All processes of a kind crash at once.
    CrashAll { what: Process, restart: Duration },
    /// The loops of these gateways stand still, again and again for so long.
    LoopLag { gateways: Which, delay: Duration },
    /// One gateway process crashes and restarts.
    GatewayCrash { gateways: Which, restart: Duration },
    /// Requests of one tenant crash what parses them.
    Poison { tenant: u32 },
    /// Clocks jump or drift.
    Clock { gateways: Which, jump_seconds: f64, drift: f64 },
    /// A provider account misbehaves.
    Provider { site: u16, how: Trouble },
    /// Gateways from so many to so many.
    Scale { from: u16, to: u16 },
    /// DNS queries are multiplied, with retransmits.
    DnsSurge { factor: f64, retransmits: u32 },
    /// One tenant asks for this many times as much.
    Tenant { tenant: u32, factor: f64 },
}

/// How a site is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Connections are refused.
    Refuse,
    /// It accepts and never answers.
    Blackhole,
}

/// What a link does to messages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LinkEffect {
    /// Share that is lost.
    pub loss: f64,
    /// Added delay, one way.
    pub delay: Duration,
    /// Share that comes twice.
    pub duplicate: f64,
    /// Up to this much is added at random, so that messages overtake each other.
    pub reorder: Duration,
}

/// Which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    /// Both.
    #[default]
    Both,
    /// From gateway to site.
    ToSite,
    /// From site to gateway.
    ToGateway,
}

/// Which messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All.
    #[default]
    All,
    /// Reports, grants, digests, probes.
    Control,
    /// Attempts and what is inside them.
    Data,
}

/// What lying probes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Down.
    Down,
    /// Down and up in turn.
    Alternating,
    /// Up.
    Up,
}

/// What a pushed policy is like.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Right.
    Good,
    /// A field is blank that the reader needs.
    MissingField,
    /// Over a limit.
    Oversized,
    /// Right and oversized in turn, every so often.
    Alternating { every: Duration },
    /// Sends most traffic where it should not go.
    WrongRoute,
    /// One site's weight is absurd.
    Weight { site: u16, weight: u32 },
    /// Removes what is in use.
    RemovesInUse { site: u16 },
    /// Removes it in two generations.
    RemovesInTwo { site: u16 },
    /// Loses so many megabytes a second.
    Leaks { megabytes: u32 },
    /// Runs well, then crashes.
    CrashesAfter { delay: Duration },
}

/// What crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// Every gateway.
    Gateways,
    /// Every site controller.
    Controllers,
    /// Every worker.
    Workers,
}

/// What a provider does.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// Refuses beyond this many CU a second.
    Throttle { above: f64 },
    /// Its spend cap is reached.
    SpendCap,
    /// It refuses the account.
    AccountRefused,
    /// It holds requests open and says nothing but that it lives.
    KeepAlives,
    /// It cuts streams.
    Cut,
}

/// One thing that must hold.
#[derive(Clone, Debug)]
pub struct Expect {
    /// What is measured; the names are in `measure.rs`.
    pub metric: String,
    /// Of these tiers; all, each by itself, if empty.
    pub tiers: Vec<u8>,
    /// Of these sites; all, each by itself, if empty.
    pub sites: Vec<u16>,
    /// From when.
    pub from: Duration,
    /// Until when.
    pub until: Option<Duration>,
    /// At least.
    pub min: Option<f64>,
    /// At most.
    pub max: Option<f64>,
    /// Line of the scenario file.
    pub line: u32,
}

#[cfg(test)]
mod tests;
