//! What nodes say to each other. Ages, never times; the newest wins; nothing is queued for a dead
//! peer.
//!
//! Positions (`TargetId`, `SiteId`, `GatewayId`) are those of the policy both sides run; what
//! carries the messages translates names. Every message has a bounded size.

use crate::cost::{CostRate, CostUnits};
use crate::fact::Verdict;
use crate::names::{AttemptId, GatewayId, ModelId, SiteId, TargetId, TierId, Work};
use crate::time::Duration;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A site of ours says so often that it is at work on an attempt.
pub const BEAT: Duration = Duration::from_millis(500);
/// Tiers that a policy may have.
pub const TIERS_MAX: usize = 8;

/// One value for each tier, the highest first; beyond the policy's tiers it is the default.
pub type PerTier<T> = [T; TIERS_MAX];

/// Gateway to site, for each model there, at every beat of the report clock whatever happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// For which model there.
    pub target: TargetId,
    /// Which report this is; its grant echoes it.
    pub nonce: u64,
    /// What is wanted here now: placed since the last report, and held back.
    pub demand: PerTier<CostRate>,
    /// The same over all sites of the model.
    pub total: PerTier<CostRate>,
    /// Attempts of this gateway open here.
    pub in_flight: u32,
    /// Since the sender's first report here, by its clock.
    pub elapsed: Duration,
}

/// Site to gateway, in answer to a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// For which model there.
    pub target: TargetId,
    /// The controller's epoch.
    pub epoch: u32,
    /// The report it answers.
    pub nonce: u64,
    /// What may be sent, by tier.
    pub rate: PerTier<CostRate>,
    /// Spare that may be used by any tier when another site is lost.
    pub standby: CostRate,
    /// What the site can carry in all.
    pub capacity: CostRate,
    /// How much of it is on offer while the site returns, in hundredths.
    pub ramp: u8,
    /// Whether it takes new work.
    pub offer: Offer,
    /// Usual time to first token, queue included.
    pub ttft: Duration,
    /// Share of prompt tokens that a session new to the site finds uncached, in hundredths.
    pub miss: u8,
    /// Since the sender's first grant to this gateway, by its clock.
    pub elapsed: Duration,
    /// How many times as long as usual there first tokens take, the rest of it left out; at most
    /// `SLOW_MAX`.
    pub slow: u8,
}

/// More times as slow as usual is not told: a byte of the link holds it.
pub const SLOW_MAX: u8 = 127;

/// Whether a site takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Offer {
    /// Yes.
    #[default]
    Open,
    /// No; what runs is finished.
    Draining,
    /// No; what runs is to move elsewhere.
    Closed,
}

/// Gateway to site: an attempt. Not its content, which goes past the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Which.
    pub work: Work,
    /// For which model.
    pub target: TargetId,
    /// In which tier.
    pub tier: TierId,
    /// What it will cost, at its predicted 90th percentile.
    pub cost: CostUnits,
    /// Whether it is paid for with credit; else it is speculative.
    pub credited: bool,
    /// Whether it goes on with an answer begun elsewhere.
    pub moving: bool,
    /// Time left until the request's deadline.
    pub left: Duration,
    /// Whose: the fair share inside a tier is kept for tenants.
    pub tenant: u32,
    /// Hash of the session, for the prefix cache.
    pub session: u64,
    /// What the site must have, see `config::Target::labels`.
    pub labels: u64,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Most output tokens.
    pub output: u32,
    /// Whether other sites may have room: then the site hands back rather than queue long.
    pub elsewhere: bool,
}

/// Site to gateway: an attempt is taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which.
    pub attempt: AttemptId,
    /// Whether it waits in the site's queue.
    pub queued: bool,
    /// When its first token is expected.
    pub ttft: Duration,
}

/// Site to gateway: an attempt is not taken in, or is handed back before its first token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse {
    /// Which.
    pub attempt: AttemptId,
    /// Why.
    pub reason: Reason,
    /// Not before this time.
    pub retry_after: Duration,
    /// Whether the gateway holds more credit than the site can now honour: it must lower it.
    pub cut: bool,
}

impl Refuse {
    /// An attempt that came to the wrong site: whoever sent it knows a better one.
    pub fn not_mine(attempt: AttemptId) -> Refuse {
        let retry_after = Duration::from_secs(1);
        Refuse { attempt, reason: Reason::NotMine, retry_after, cut: false }
    }
}

/// Why a site does not take an attempt in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No room now.
    Overloaded,
    /// No worker of the model is alive.
    NoWorker,
    /// It would not be served before its deadline or its tier's patience.
    TooLate,
    /// The site takes no new work.
    Draining,
    /// The request is not for this site: wrong model, context class or residency.
    NotMine,
}

/// Gateway to three peers in rotation, every second, always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// Whose.
    pub from: GatewayId,
    /// Which of its digests since it started: an older one that comes later is dropped.
    pub nonce: u64,
    /// What it believes of each target that is not up, and for how long.
    pub verdicts: Vec<(TargetId, Verdict, Duration)>,
    /// Credit it holds and does not use.
    pub spare: CostRate,
    /// Whether it doubts itself.
    pub in_doubt: bool,
    /// Whether it fails to reach a site that its peers can use.
    pub path: bool,
    /// What probes of providers said, and how long ago.
    pub probed: Vec<(TargetId, bool, Duration)>,
    /// The generation it runs,
    pub generation: u64,
    /// for how long without a crash or excess of failures.
    pub clean: Duration,
    /// Content hashes it has put into quarantine since it runs.
    pub quarantined: Vec<u64>,
    /// Share of its requests of the last minute that were shed or failed, in thousandths.
    pub failing: u16,
    /// Hash of the orders in force; a difference fetches the set.
    pub orders: u64,
    /// Hours counted, by whoever counted most.
    pub hour: u32,
    /// For each gateway: quarters of a second since it was heard of, by anybody, rounded up; 255
    /// is never or long ago.
    pub heard: Vec<u8>,
    /// Since the digest before to this peer, by the sender's clock.
    pub elapsed: Duration,
}

/// Gateway to every status node, every second whatever happens. Counts only grow, so that one that
/// is lost, or replaced by the next, loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Drawn when these counts began. Another one: they began anew.
    pub run: u64,
    /// Since they began, by the sender's clock.
    pub elapsed: Duration,
    /// All requests.
    pub api: Count,
    /// Requests for each model that the policy lists.
    pub models: Vec<(ModelId, Count)>,
    /// Attempts at each site, and how it stands.
    pub sites: Vec<(SiteId, Standing, Count)>,
    /// Requests by class of the time between their tokens.
    pub gaps: Gaps,
    /// Keys that had failures lately, the most first; of all requests, not since counting began.
    pub failing: Vec<Failing>,
    /// Where the loss of a site would leave somebody refused now.
    pub short: Vec<Short>,
}

/// How requests of one key turned out in the last ten minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Failing {
    /// A number made of what lists show of the key.
    pub key: u64,
    /// Requests that failed,
    pub failed: u32,
    /// of so many.
    pub all: u32,
}

/// What the loss of a site would mean now: of a thousand requests of a tier so many would be
/// refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short {
    /// The site.
    pub site: SiteId,
    /// The tier.
    pub tier: TierId,
    /// Of a thousand requests, for the model that it is worst for.
    pub refused: u16,
}

/// Sites and tiers of which a summary tells that they would be short.
pub const SHORT_MAX: usize = 128;

/// Keys of which a summary tells.
pub const FAILING_MAX: usize = 256;

/// How often a summary is sent: an outage is to show within ten seconds, and it takes two looks.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(1);
/// Models, and sites, of which a summary tells; what the policy lists beyond is counted in all.
pub const SUMMARY_MAX: usize = 128;
/// Classes of times to first token.
pub const FIRST_TOKENS: usize = 16;
/// Where one class ends and the next begins, in milliseconds; the last has no end.
pub const FIRST_TOKEN_ENDS: [u64; FIRST_TOKENS - 1] =
    [50, 100, 200, 350, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000, 15_000, 30_000];

/// Requests by class of the time between their tokens, as its mean in one answer.
pub type Gaps = [u64; GAP_ENDS.len() + 1];
/// Where one class ends and the next begins, in milliseconds; the last has no end.
pub const GAP_ENDS: [u64; 11] = [5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 400];

/// How answers turned out since counting began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Count {
    /// Whole answers.
    pub good: u64,
    /// None, for a fault or for lack of capacity; whatever the caller caused is in neither.
    pub failed: u64,
    /// First tokens, by class of the time that they took.
    pub first_tokens: [u64; FIRST_TOKENS],
}

impl Count {
    /// Which class a time to first token is of.
    pub fn class_of(first_token: Duration) -> usize {
        class_of(first_token, &FIRST_TOKEN_ENDS)
    }
}

/// Which class a time is of, where classes end so, in milliseconds.
pub fn class_of(time: Duration, ends: &[u64]) -> usize {
    let millis = time.as_millis();
    ends.iter().take_while(|end| millis > u128::from(**end)).count()
}

/// How a gateway believes that a site stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// Nothing was seen of it yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
    /// An operator took it out.
    Shut,
}

/// An operator's order that works with everything else dead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Order {
    /// Who gave it, and which of theirs it is.
    pub id: OrderId,
    /// Higher ranks first.
    pub authority: u8,
    /// What.
    pub verb: Verb,
    /// Where; `None` is everywhere, which only a freeze may say.
    pub site: Option<SiteId>,
    /// Why.
    pub reason: String,
    /// What is left of its life, by the clock of whoever says it.
    pub left: Duration,
}

impl Order {
    /// Where it stands among others wherever they compete: higher authority first, then older.
    pub fn rank(&self) -> (Reverse<u8>, u32, u64) {
        (Reverse(self.authority), self.id.seq, self.id.author)
    }
}

/// What `orders` come to at `site`: the strictest of those that name it or name everywhere.
pub fn ruling(orders: &[Order], site: SiteId) -> Option<Verb> {
    let there = orders.iter().filter(|order| order.site.is_none_or(|named| named == site));
    let verbs = there.map(|order| order.verb).filter(|verb| !matches!(verb, Verb::End(_)));
    verbs.max_by_key(|verb| verb.strictness())
}

/// Names an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId {
    /// Hash of the author's name.
    pub author: u64,
    /// Their count.
    pub seq: u32,
}

/// What an order says. The stricter one rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// No automatic ramp, no new DOWN, no new generation.
    Freeze,
    /// Not more than this much of the site's capacity, in hundredths.
    Cap(u8),
    /// No new work; what runs is finished, or moves within the grace.
    Drain,
    /// No new work; what runs moves at once.
    Kill,
    /// Ends the order named.
    End(OrderId),
}

impl Verb {
    /// How strict it is: kill above drain above cap above freeze, a lower cap above a higher one.
    pub fn strictness(self) -> (u8, u8) {
        match self {
            Verb::End(_) => (0, 0),
            Verb::Freeze => (1, 0),
            Verb::Cap(percent) => (2, 100u8.saturating_sub(percent)),
            Verb::Drain => (3, 0),
            Verb::Kill => (4, 0),
        }
    }
}

/// Gateway to a key's home: how much of a quota is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaReport {
    /// Hash of the key's id.
    pub key: u64,
    /// Which report.
    pub nonce: u64,
    /// Cost a second that was asked for since the last.
    pub demand: CostRate,
}

/// A key's home to a gateway: its slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuotaGrant {
    /// Hash of the key's id.
    pub key: u64,
    /// The generation that made the granter this key's home.
    pub epoch: u32,
    /// The report it answers.
    pub nonce: u64,
    /// The slice.
    pub rate: CostRate,
}
