//! What came of a run: counts, verdicts and a timeline, for people and for `--json`.

use std::collections::BTreeMap;

/// One run, as `mainstay simulate --json` prints it. Times are seconds of virtual time.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Run {
    /// Which scenario, and which point of its sweep.
    pub scenario: String,
    /// Which seed.
    pub seed: u64,
    /// `mainstay` or `naive`.
    pub policy: &'static str,
    /// Whether nothing was violated.
    pub passed: bool,
    /// What was.
    pub violations: Vec<Violation>,
    /// Each user's request, once, by tier.
    pub by_tier: BTreeMap<String, Tier>,
    /// What each site saw.
    pub sites: BTreeMap<String, Site>,
    /// From the last fault's end with load at most 90 % of the capacity on offer, until goodput
    /// stays at 99 % of offered for a minute; null if never.
    pub recovery_s: Option<f64>,
    /// Good by offered, all tiers, from the first fault to the end of the last; null where faults
    /// take no time.
    pub good_during: Option<f64>,
    /// The same in the fourth minute after the last fault's end.
    pub good_after: Option<f64>,
    /// Changes between up and not up, over all gateways, sites and models.
    pub transitions: u64,
    /// Attempts at sites by client tries.
    pub attempts_per_request: f64,
    /// Of all facts in order.
    pub facts_digest: String,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Violation {
    /// When.
    pub at_s: f64,
    /// `I7`, `L3`, `expect.2`, `ledger`.
    pub rule: String,
    /// At which node.
    pub node: String,
    /// What was seen, and what should have been.
    pub detail: String,
}

/// Requests of one tier, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Tier {
    /// Asked.
    pub offered: u64,
    /// Answered within the promise.
    pub good: u64,
    /// The last try was told no, with a time to come back.
    pub shed: u64,
    /// All else.
    pub failed: u64,
    /// Good by offered; 1 where nothing was offered.
    pub goodput_ratio: f64,
}

/// What one site saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Site {
    /// Work that came.
    pub offered_cu: f64,
    /// Work that was let in.
    pub admitted_cu: f64,
    /// Attempts refused.
    pub refused: u64,
    /// Share of capacity in use, 99th percentile of seconds.
    pub utilisation_p99: f64,
    /// Credited arrivals above capacity, the worst second, as a share of it.
    pub overshoot_max: f64,
    /// Share of all traffic, peak to peak while nothing changes.
    pub share_swing: f64,
    /// Changes between up and not up.
    pub transitions: u64,
}

/// How the mark begins that a site makes where it grants a gateway nothing for its clock.
pub const NO_CREDIT: &str = "its clock runs apart: no credit";

/// What happened second by second, for measuring and for the report.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// Names of the tiers.
    pub tiers: Vec<String>,
    /// Names of the sites.
    pub sites: Vec<String>,
    /// One for each second.
    pub seconds: Vec<Second>,
    /// Health as each gateway saw it: (second, gateway, site, verdict word).
    pub health: Vec<(f64, u16, u16, &'static str)>,
    /// What gateways say would survive the loss of a site: (second, site, hundredths by tier).
    pub readiness: Vec<(f64, u16, Vec<u8>)>,
    /// Faults: what, from, until.
    pub faults: Vec<(String, f64, Option<f64>)>,
    /// Decisions worth a mark: when, node, words. Bounded.
    pub marks: Vec<(f64, String, String)>,
}

/// One second.
#[derive(Clone, Debug, Default)]
pub struct Second {
    /// By tier: requests whose first try began in this second, and what became of them.
    pub tiers: Vec<TierSecond>,
    /// By site.
    pub sites: Vec<SiteSecond>,
    /// Attempts at sites that began.
    pub attempts: u32,
    /// Client tries that began.
    pub tries: u32,
    /// Work offered by users, in CU.
    pub offered_cu: f64,
    /// Work of requests that were offered before, while something was broken, and come now: tries
    /// that follow a failed one, and those that found no gateway.
    pub put_off_cu: f64,
    /// Answers that broke off in this second with tokens out;
    pub broken: u32,
    /// of those, that went on within two seconds.
    pub resumed: u32,
    /// Capacity on offer: capacity by ramp, over sites of ours that are there, in CU/s.
    pub on_offer: f64,
}

/// One tier in one second.
#[derive(Clone, Copy, Debug, Default)]
pub struct TierSecond {
    /// Began.
    pub offered: u32,
    /// Of those, in the end.
    pub good: u32,
    /// See `good`.
    pub shed: u32,
    /// See `good`.
    pub failed: u32,
    /// Answers that became good in this second.
    pub completed: u32,
    /// Work of what began, in CU: requests of a trace cost from one to a hundred.
    pub offered_cu: f64,
    /// Work of answers that became good in this second, in CU.
    pub completed_cu: f64,
    /// Sum and count of first-token times of answers that began, in milliseconds.
    pub ttft_ms: (f64, u32),
}

/// One site in one second.
#[derive(Clone, Debug, Default)]
pub struct SiteSecond {
    /// Work that came, in CU.
    pub offered_cu: f64,
    /// Of it, with credit.
    pub credited_cu: f64,
    /// Let in, by tier.
    pub admitted_cu: Vec<f64>,
    /// Attempts refused.
    pub refused: u32,
    /// What its workers can read at the end of the second, in CU/s; nothing when it is gone.
    pub capacity: f64,
    /// What it can carry of such requests: its streams may be fewer than that needs.
    pub carries: f64,
    /// Hundredths of it on offer.
    pub ramp: u8,
    /// Attempts that wait there.
    pub queued: u32,
    /// Attempts that run there.
    pub running: u32,
    /// Credit out, in CU/s.
    pub granted: f64,
    /// Workers that its controller says would be the right number.
    pub wanted: u16,
    /// Gateways that hold it for up.
    pub up: u16,
    /// Reports of gateways that it answered.
    pub reports: u32,
    /// First-token times of answers that began here, in milliseconds. Those of a tenant that a
    /// fault makes loud are left out: the question is what others see of it.
    pub first_ms: Vec<f32>,
}
