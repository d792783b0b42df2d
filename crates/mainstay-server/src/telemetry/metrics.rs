//! Counts and measures under the names of operations §3, which dashboards rely on.
//!
//! Labels are sites, models, tiers and outcomes only: things an operator configured, so their
//! number is bounded. Each series is looked up once and then kept in a slot, so that a request
//! touches atomics and no map.

use super::record::Closing;
use super::{Names, words};
use mainstay_core::fact::{Fact, Verdict};
use mainstay_core::gateway::Probe;
use mainstay_core::names::{ModelId, TargetId, TierId};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

type Labels = Vec<(&'static str, String)>;
type Ratio = Gauge<f64, AtomicU64>;

/// The time of a whole answer: from a refusal to ten minutes.
const DURATION_BUCKETS: [f64; 15] =
    [0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0, 240.0, 480.0, 600.0];
/// The buckets of OpenTelemetry's GenAI conventions.
const FIRST_TOKEN_BUCKETS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
const PER_TOKEN_BUCKETS: [f64; 13] =
    [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
const OUTCOMES: [&str; 7] =
    ["ok", "shed", "quota", "rejected", "upstream_error", "deadline", "client_gone"];
/// Everything an attempt can end as: `ok`, left with its client, and the words of `ErrorClass`.
const RESULTS: [&str; 16] = [
    "ok",
    "client_gone",
    "client_fault/invalid",
    "client_fault/context",
    "client_fault/size",
    "client_fault/unsupported",
    "policy",
    "our_auth",
    "our_billing",
    "throttle_account",
    "throttle_burst",
    "overload",
    "transient",
    "dead",
    "dead/model",
    "poisoned_stream",
];
/// What a probe can end as. Overload says nothing.
const PROBED: [(Probe, &str, Option<bool>, &str); 6] = [
    (Probe::Shallow, "shallow", Some(true), "good"),
    (Probe::Shallow, "shallow", Some(false), "bad"),
    (Probe::Shallow, "shallow", None, "nothing"),
    (Probe::Token, "token", Some(true), "good"),
    (Probe::Token, "token", Some(false), "bad"),
    (Probe::Token, "token", None, "nothing"),
];
const VERDICTS: [Verdict; 4] = [Verdict::Up, Verdict::Suspect, Verdict::Down, Verdict::Probation];

/// Which way tokens went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Prompt tokens.
    Input,
    /// Answer tokens.
    Output,
}

/// The series of one configuration.
pub(super) struct Found {
    requests: Slots,
    attempts: Slots,
    probes: Slots,
    probe_tokens: Slots,
    site_state: Vec<[Gauge; VERDICTS.len()]>,
}

/// One slot for each set of labels of a name, filled when it is first counted.
type Slots = Vec<OnceLock<Counter>>;

fn slots(count: usize) -> Slots {
    (0..count).map(|_| OnceLock::new()).collect()
}

/// A configuration's names and series.
pub(super) type Under<'a> = (&'a Arc<Names>, &'a Found);

pub(super) struct Metrics {
    registry: Registry,
    requests: Counts,
    attempts: Counts,
    resumes: Counts,
    tokens: Counts,
    drafts: Counts,
    /// Of the last three: they are the same whatever is configured.
    always: [Slots; 3],
    probes: Counts,
    probe_tokens: Counts,
    inflight: Gauge,
    retry_budget: Ratio,
    /// One gauge per target and verdict, 1 for the one that holds.
    site_state: Family<Labels, Gauge>,
    duration: Histogram,
    first_token: Histogram,
    per_token: Histogram,
}

impl Metrics {
    pub(super) fn new() -> Metrics {
        let mut registry = Registry::with_prefix("mainstay");
        let build: Labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        registry.register("build", "What is running", Info::new(build));
        let retry_budget =
            add(&mut registry, "retry_budget_ratio", "Retries left", Ratio::default());
        retry_budget.set(1.0);
        let inflight = Gauge::default();
        let inflight = add(&mut registry, "inflight_requests", "Requests in progress", inflight);
        Metrics {
            requests: counts(&mut registry, "requests", "Requests closed, by outcome"),
            attempts: counts(&mut registry, "upstream_attempts", "Attempts ended, by result"),
            resumes: counts(&mut registry, "stream_resumes", "Answers resumed, by result"),
            tokens: counts(&mut registry, "tokens", "Tokens of clients' answers"),
            drafts: counts(
                &mut registry,
                "engine_drafts",
                "Tokens guessed, by what became of them",
            ),
            always: [slots(2), slots(2), slots(2)],
            probes: counts(&mut registry, "probes", "Probes ended, by what they said"),
            probe_tokens: counts(&mut registry, "probe_tokens", "Tokens that probes took"),
            inflight,
            retry_budget,
            site_state: add(
                &mut registry,
                "site_state",
                "What this gateway believes of a target: 1 for the state it is in",
                Family::default(),
            ),
            duration: seconds(
                &mut registry,
                "request_duration",
                "From arrival to close",
                &DURATION_BUCKETS,
            ),
            first_token: seconds(
                &mut registry,
                "time_to_first_token",
                "From arrival to the first token",
                &FIRST_TOKEN_BUCKETS,
            ),
            per_token: seconds(
                &mut registry,
                "time_per_output_token",
                "Between tokens, as the mean over an answer",
                &PER_TOKEN_BUCKETS,
            ),
            registry,
        }
    }

    /// The series of what `names` names. A target that is new begins as up.
    pub(super) fn find(&self, names: &Names) -> Found {
        let state = |target: usize| {
            let labels = VERDICTS.map(|verdict| state_labels(names, target, verdict));
            let is_new = self.site_state.get(&labels[0]).is_none();
            let gauges = labels.map(|labels| self.site_state.get_or_create(&labels).clone());
            if is_new {
                mark(&gauges, Verdict::Up);
            }
            gauges
        };
        Found {
            requests: slots(OUTCOMES.len() * names.tiers.len() * names.models.len()),
            attempts: slots(RESULTS.len() * names.targets.len()),
            probes: slots(PROBED.len() * names.targets.len()),
            probe_tokens: slots(2 * names.targets.len()),
            site_state: (0..names.targets.len()).map(state).collect(),
        }
    }

    /// Nothing is believed any more of targets that `old` names and `new` does not.
    pub(super) fn forget(&self, old: &Names, new: &Names) {
        let known = |names: &Names, at: usize| {
            let (site, model) = names.target(target_id(at));
            (site.to_owned(), model.to_owned())
        };
        let stays: Vec<_> = (0..new.targets.len()).map(|at| known(new, at)).collect();
        for at in 0..old.targets.len() {
            if !stays.contains(&known(old, at)) {
                for verdict in VERDICTS {
                    self.site_state.remove(&state_labels(old, at, verdict));
                }
            }
        }
    }

    pub(super) fn fact(&self, under: Under<'_>, fact: &Fact) {
        match fact {
            Fact::Arrived { .. } => {
                self.inflight.inc();
            }
            Fact::Closed { .. } => {
                self.inflight.dec();
            }
            Fact::AttemptWhole { target, .. } => self.attempt(under, *target, "ok"),
            Fact::AttemptLeft { target, .. } => self.attempt(under, *target, "client_gone"),
            Fact::AttemptFailed { target, class, .. } => self.attempt(under, *target, class.word()),
            Fact::Health { target, to, .. } => {
                if let Some(gauges) = under.1.site_state.get(usize::from(target.0)) {
                    mark(gauges, *to);
                }
            }
            _ => {}
        }
    }

    pub(super) fn closed(&self, (names, found): Under<'_>, closing: &Closing) {
        if let Some((model, tier, asked)) = &closing.asked {
            let outcome = words::of_outcome(closing.outcome);
            match Arc::ptr_eq(asked, names) {
                true => self.outcome((names, found), outcome, (*tier, *model)),
                // It came under another configuration, whose slots are gone.
                false => self.requests.count(outcome_labels(asked, outcome, (*tier, *model))),
            }
        }
        self.duration.observe(closing.after.as_secs_f64());
        let observe = |histogram: &Histogram, time: Option<Duration>| {
            if let Some(time) = time {
                histogram.observe(time.as_secs_f64());
            }
        };
        observe(&self.first_token, closing.first_token);
        observe(&self.per_token, closing.per_token);
        if closing.resumes > 0 {
            let (slot, result) = if closing.resumed_whole { (0, "ok") } else { (1, "failed") };
            let labels = || vec![("result", result.to_owned())];
            self.resumes.add(&self.always[0], (slot, 1), labels);
        }
    }

    pub(super) fn outcome(
        &self,
        (names, found): Under<'_>,
        outcome: &str,
        (tier, model): (TierId, ModelId),
    ) {
        let which = OUTCOMES.iter().position(|o| *o == outcome).unwrap_or(0);
        let (tiers, models) = (names.tiers.len(), names.models.len());
        let slot = (which * tiers + usize::from(tier.0)) * models + usize::from(model.0);
        let labels = || outcome_labels(names, outcome, (tier, model));
        self.requests.add(&found.requests, (slot, 1), labels);
    }

    pub(super) fn tokens(&self, direction: Direction, count: u64) {
        let (slot, word) = match direction {
            Direction::Input => (0, "input"),
            Direction::Output => (1, "output"),
        };
        let labels = || vec![("direction", word.to_owned())];
        self.tokens.add(&self.always[1], (slot, count), labels);
    }

    pub(super) fn drafts(&self, kept: u64, dropped: u64) {
        for (slot, word, count) in [(0, "kept", kept), (1, "dropped", dropped)] {
            if count > 0 {
                let labels = || vec![("result", word.to_owned())];
                self.drafts.add(&self.always[2], (slot, count), labels);
            }
        }
    }

    pub(super) fn probed(
        &self,
        (names, found): Under<'_>,
        target: TargetId,
        (probe, good): (Probe, Option<bool>),
    ) {
        let is_it = |of: &(Probe, &str, Option<bool>, &str)| (of.0, of.2) == (probe, good);
        let which = PROBED.iter().position(is_it).unwrap_or(0);
        let (_, depth, _, result) = PROBED[which];
        let slot = usize::from(target.0) * PROBED.len() + which;
        self.probes.add(&found.probes, (slot, 1), || {
            let (site, model) = names.target(target);
            vec![
                ("site", site.to_owned()),
                ("model", model.to_owned()),
                ("probe", depth.to_owned()),
                ("result", result.to_owned()),
            ]
        });
    }

    pub(super) fn probe_tokens(
        &self,
        (names, found): Under<'_>,
        target: TargetId,
        (input, output): (u64, u64),
    ) {
        for (way, word, count) in [(0, "input", input), (1, "output", output)] {
            if count == 0 {
                continue;
            }
            let slot = usize::from(target.0) * 2 + way;
            self.probe_tokens.add(&found.probe_tokens, (slot, count), || {
                let (site, model) = names.target(target);
                vec![
                    ("site", site.to_owned()),
                    ("model", model.to_owned()),
                    ("direction", word.to_owned()),
                ]
            });
        }
    }

    pub(super) fn retry_budget(&self, ratio: f64) {
        self.retry_budget.set(ratio);
    }

    fn attempt(&self, (names, found): Under<'_>, target: TargetId, result: &str) {
        let which = RESULTS.iter().position(|r| *r == result).unwrap_or(0);
        let slot = usize::from(target.0) * RESULTS.len() + which;
        self.attempts.add(&found.attempts, (slot, 1), || {
            let (site, model) = names.target(target);
            vec![
                ("site", site.to_owned()),
                ("model", model.to_owned()),
                ("result", result.to_owned()),
            ]
        });
    }

    pub(super) fn exposition(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n# EOF\n"),
        }
    }
}

/// Counters of one name, one per set of labels.
struct Counts(Family<Labels, Counter>);

fn counts(registry: &mut Registry, name: &str, help: &str) -> Counts {
    Counts(add(registry, name, help, Family::default()))
}

impl Counts {
    /// Adds to the counter of this slot, which is found once.
    fn add(&self, slots: &Slots, (slot, count): (usize, u64), labels: impl FnOnce() -> Labels) {
        let Some(slot) = slots.get(slot) else { return };
        slot.get_or_init(|| self.0.get_or_create(&labels()).clone()).inc_by(count);
    }

    fn count(&self, labels: Labels) {
        self.0.get_or_create(&labels).inc();
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn seconds(registry: &mut Registry, name: &str, help: &str, buckets: &[f64]) -> Histogram {
    let histogram = Histogram::new(buckets.iter().copied());
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn outcome_labels(names: &Names, outcome: &str, (tier, model): (TierId, ModelId)) -> Labels {
    vec![
        ("outcome", outcome.to_owned()),
        ("tier", names.tier(tier).to_owned()),
        ("model", names.model(model).to_owned()),
    ]
}

fn state_labels(names: &Names, target: usize, verdict: Verdict) -> Labels {
    let (site, model) = names.target(target_id(target));
    vec![
        ("site", site.to_owned()),
        ("model", model.to_owned()),
        ("state", words::of_verdict(verdict).to_owned()),
    ]
}

fn mark(gauges: &[Gauge; VERDICTS.len()], now: Verdict) {
    for (verdict, gauge) in VERDICTS.iter().zip(gauges) {
        gauge.set(i64::from(*verdict == now));
    }
}

fn target_id(at: usize) -> TargetId {
    TargetId(u16::try_from(at).unwrap_or(u16::MAX))
}
