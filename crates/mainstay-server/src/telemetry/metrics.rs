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
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
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

pub(super) struct Metrics {
    registry: Registry,
    requests: Slots,
    attempts: Slots,
    resumes: Slots,
    tokens: Slots,
    probes: Slots,
    probe_tokens: Slots,
    inflight: Gauge,
    retry_budget: Ratio,
    site_state: Vec<[Gauge; VERDICTS.len()]>,
    duration: Histogram,
    first_token: Histogram,
    per_token: Histogram,
}

impl Metrics {
    pub(super) fn new(names: &Names) -> Metrics {
        let mut registry = Registry::with_prefix("mainstay");
        let build: Labels = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        registry.register("build", "What is running", Info::new(build));
        let tiers_and_models = names.tiers.len() * names.models.len();
        let retry_budget =
            add(&mut registry, "retry_budget_ratio", "Retries left", Ratio::default());
        retry_budget.set(1.0);
        let inflight = Gauge::default();
        let inflight = add(&mut registry, "inflight_requests", "Requests in progress", inflight);
        Metrics {
            requests: Slots::new(
                &mut registry,
                "requests",
                "Requests closed, by outcome",
                OUTCOMES.len() * tiers_and_models,
            ),
            attempts: Slots::new(
                &mut registry,
                "upstream_attempts",
                "Attempts ended, by result",
                RESULTS.len() * names.targets.len(),
            ),
            resumes: Slots::new(&mut registry, "stream_resumes", "Answers resumed, by result", 2),
            tokens: Slots::new(&mut registry, "tokens", "Tokens of clients' answers", 2),
            probes: Slots::new(
                &mut registry,
                "probes",
                "Probes ended, by what they said",
                PROBED.len() * names.targets.len(),
            ),
            probe_tokens: Slots::new(
                &mut registry,
                "probe_tokens",
                "Tokens that probes took",
                2 * names.targets.len(),
            ),
            inflight,
            retry_budget,
            site_state: site_state(&mut registry, names),
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

    pub(super) fn fact(&self, names: &Names, fact: &Fact) {
        match fact {
            Fact::Arrived { .. } => {
                self.inflight.inc();
            }
            Fact::Closed { .. } => {
                self.inflight.dec();
            }
            Fact::AttemptWhole { target, .. } => self.attempt(names, *target, "ok"),
            Fact::AttemptLeft { target, .. } => self.attempt(names, *target, "client_gone"),
            Fact::AttemptFailed { target, class, .. } => self.attempt(names, *target, class.word()),
            Fact::Health { target, to, .. } => self.state(*target, *to),
            _ => {}
        }
    }

    pub(super) fn closed(&self, names: &Names, closing: &Closing) {
        if let (Some(tier), Some(model)) = (closing.tier, closing.model) {
            self.outcome(names, words::of_outcome(closing.outcome), tier, model);
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
            self.resumes.add(slot, 1, || vec![("result", result.to_owned())]);
        }
    }

    pub(super) fn outcome(&self, names: &Names, outcome: &str, tier: TierId, model: ModelId) {
        let which = OUTCOMES.iter().position(|o| *o == outcome).unwrap_or(0);
        let (tiers, models) = (names.tiers.len(), names.models.len());
        let slot = (which * tiers + usize::from(tier.0)) * models + usize::from(model.0);
        self.requests.add(slot, 1, || {
            vec![
                ("outcome", outcome.to_owned()),
                ("tier", names.tier(tier).to_owned()),
                ("model", names.model(model).to_owned()),
            ]
        });
    }

    pub(super) fn tokens(&self, direction: Direction, count: u64) {
        let (slot, word) = match direction {
            Direction::Input => (0, "input"),
            Direction::Output => (1, "output"),
        };
        self.tokens.add(slot, count, || vec![("direction", word.to_owned())]);
    }

    pub(super) fn probed(
        &self,
        names: &Names,
        target: TargetId,
        (probe, good): (Probe, Option<bool>),
    ) {
        let is_it = |of: &(Probe, &str, Option<bool>, &str)| (of.0, of.2) == (probe, good);
        let which = PROBED.iter().position(is_it).unwrap_or(0);
        let (_, depth, _, result) = PROBED[which];
        self.probes.add(usize::from(target.0) * PROBED.len() + which, 1, || {
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
        names: &Names,
        target: TargetId,
        (input, output): (u64, u64),
    ) {
        for (way, word, count) in [(0, "input", input), (1, "output", output)] {
            if count == 0 {
                continue;
            }
            self.probe_tokens.add(usize::from(target.0) * 2 + way, count, || {
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

    fn attempt(&self, names: &Names, target: TargetId, result: &str) {
        let which = RESULTS.iter().position(|r| *r == result).unwrap_or(0);
        let slot = usize::from(target.0) * RESULTS.len() + which;
        self.attempts.add(slot, 1, || {
            let (site, model) = names.target(target);
            vec![
                ("site", site.to_owned()),
                ("model", model.to_owned()),
                ("result", result.to_owned()),
            ]
        });
    }

    fn state(&self, target: TargetId, now: Verdict) {
        let Some(states) = self.site_state.get(usize::from(target.0)) else { return };
        for (verdict, gauge) in VERDICTS.iter().zip(states) {
            gauge.set(i64::from(*verdict == now));
        }
    }

    pub(super) fn exposition(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# metrics cannot be written: {error}\n# EOF\n"),
        }
    }
}

/// Counters of one name, one per set of labels, each found once.
struct Slots {
    family: Family<Labels, Counter>,
    found: Vec<OnceLock<Counter>>,
}

impl Slots {
    fn new(registry: &mut Registry, name: &str, help: &str, count: usize) -> Slots {
        let family = add(registry, name, help, Family::<Labels, Counter>::default());
        Slots { family, found: (0..count).map(|_| OnceLock::new()).collect() }
    }

    fn add(&self, slot: usize, count: u64, labels: impl FnOnce() -> Labels) {
        let Some(slot) = self.found.get(slot) else { return };
        slot.get_or_init(|| self.family.get_or_create(&labels()).clone()).inc_by(count);
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

/// One gauge per target and verdict, 1 for the one that holds. All begin as up.
fn site_state(registry: &mut Registry, names: &Names) -> Vec<[Gauge; VERDICTS.len()]> {
    let help = "What this gateway believes of a target: 1 for the state it is in";
    let family = add(registry, "site_state", help, Family::<Labels, Gauge>::default());
    let series = |target: usize, verdict: Verdict| {
        let (site, model) = names.target(TargetId(target as u16));
        let gauge = family
            .get_or_create(&vec![
                ("site", site.to_owned()),
                ("model", model.to_owned()),
                ("state", words::of_verdict(verdict).to_owned()),
            ])
            .clone();
        gauge.set(i64::from(verdict == Verdict::Up));
        gauge
    };
    (0..names.targets.len()).map(|target| VERDICTS.map(|v| series(target, v))).collect()
}
