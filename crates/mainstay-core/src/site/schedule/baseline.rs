//! How others choose a worker: published formulas, on arrival, without a queue of ours. They are
//! here to be compared with, in the same code, with the same view of caches, and with our exact
//! ledger where they would have their own.

use super::cost::Asked;
use super::worker::Worker;
use crate::time::Time;

/// Whose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Baseline {
    /// Next in turn.
    RoundRobin,
    /// Least in flight.
    Least,
    /// SGLang's and SMG's router: longest match while loads are alike, else least in flight. A miss
    /// goes to the smallest tree of those that the router keeps itself, as it was published first;
    /// or by load, with the caches that workers really have.
    CacheAware {
        /// Whether a miss goes to the smallest tree.
        smallest_tree: bool,
    },
    /// AIBrix: longest match among those not far above the mean.
    Aibrix,
    /// llm-d: prefix, queue and KV, weighted 3, 2, 2.
    Weighted,
    /// Dynamo: blocks to prefill, queued ones too, less what is cached, and blocks that decode.
    Dynamo,
    /// LMetric (arXiv 2603.15202): new prefill tokens times batch size.
    Lmetric {
        /// Whether it refuses what would come later than this part of its promise.
        refuse: Option<f64>,
    },
    /// Mooncake (FAST '25): least time to the first token.
    Mooncake {
        /// See `Lmetric::refuse`.
        refuse: Option<f64>,
    },
    /// Our own cost, on arrival.
    Cost {
        /// See `Lmetric::refuse`.
        refuse: Option<f64>,
    },
}

/// Loads apart by more than this, and by a tenth, are evened out first (SGLang's defaults).
const UNEVEN: f64 = 32.0;
const UNEVEN_RATIO: f64 = 1.1;
/// Part of a prompt that must match (SGLang's default).
const MATCH_LEAST: f64 = 0.5;
/// AIBrix's own.
const AIBRIX_UNEVEN: f64 = 16.0;
/// llm-d's weights of prefix, queue and KV.
const WEIGHTS: (f64, f64, f64) = (3.0, 2.0, 2.0);

/// One worker, as a formula sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// In flight, by our ledger.
    pub in_flight: f64,
    /// Running and waiting in the engine, as it last said; ours where it did not.
    pub running: f64,
    /// See `running`.
    pub waiting: f64,
    /// Part of KV in use; the ledger's where the engine does not say.
    pub kv: f64,
    /// Tokens of the prompt that match.
    pub matched: f64,
    /// Tokens of ours that are still to prefill there.
    pub undone: f64,
    /// Blocks that its legs hold.
    pub blocks: f64,
    /// Prefixes it holds in all.
    pub tree: f64,
    /// Forecast TTFT in milliseconds.
    pub ttft: f64,
    /// Our cost.
    pub cost: f64,
}

impl Seen {
    /// A worker, for what is asked of it.
    pub fn of(worker: &Worker, now: Time, asked: &Asked, (matched, tree): (u32, u32)) -> Seen {
        let load = worker.report().unwrap_or_default();
        let in_flight = f64::from(worker.in_flight());
        let cost = asked.on(worker, now, matched, 0.05);
        Seen {
            in_flight,
            running: load.running.map_or(f64::from(worker.batch().decodes), f64::from),
            waiting: load.waiting.map_or(0.0, f64::from),
            kv: load.kv_used.unwrap_or_else(|| {
                f64::from(worker.blocks()) / f64::from(worker.profile.blocks.max(1))
            }),
            matched: f64::from(matched),
            undone: worker.undone_tokens() as f64,
            blocks: f64::from(worker.blocks()),
            tree: f64::from(tree),
            ttft: cost.ttft,
            cost: cost.total,
        }
    }
}

impl Baseline {
    /// Whether it goes by a tree of its own, of what it sent, instead of by what workers have.
    pub const fn has_own_tree(self) -> bool {
        matches!(self, Baseline::CacheAware { smallest_tree: true })
    }

    /// The position of the worker it takes, and whether it takes the request at all.
    pub fn choose(&self, seen: &[Seen], (turn, prompt): (u64, u32), promise: f64) -> (usize, bool) {
        let prompt = f64::from(prompt.max(1));
        let at = match self {
            Baseline::RoundRobin => (turn % seen.len().max(1) as u64) as usize,
            Baseline::Least => least(seen, turn, |each| each.in_flight),
            Baseline::CacheAware { smallest_tree } => {
                cache_aware(seen, (turn, prompt), *smallest_tree)
            }
            Baseline::Aibrix => aibrix(seen, turn),
            Baseline::Weighted => weighted(seen, turn, prompt),
            Baseline::Dynamo => least(seen, turn, |each| {
                (each.undone + prompt - each.matched).max(0.0) + 512.0 * each.blocks
            }),
            Baseline::Lmetric { .. } => least(seen, turn, |each| {
                (each.undone + prompt - each.matched) * (each.in_flight + 1.0)
            }),
            Baseline::Mooncake { .. } => least(seen, turn, |each| each.ttft),
            Baseline::Cost { .. } => least(seen, turn, |each| each.cost),
        };
        let refuse = match self {
            Baseline::Lmetric { refuse }
            | Baseline::Mooncake { refuse }
            | Baseline::Cost { refuse } => *refuse,
            Baseline::RoundRobin
            | Baseline::Least
            | Baseline::CacheAware { .. }
            | Baseline::Aibrix
            | Baseline::Weighted
            | Baseline::Dynamo => None,
        };
        let is_late = refuse.is_some_and(|part| seen[at].ttft > part * promise);
        (at, !is_late)
    }
}

/// The least of all; of equal ones the first from the turn on.
fn least(seen: &[Seen], turn: u64, of: impl Fn(&Seen) -> f64) -> usize {
    let from = (turn % seen.len().max(1) as u64) as usize;
    let order = (from..seen.len()).chain(0..from);
    order.min_by(|a, b| of(&seen[*a]).total_cmp(&of(&seen[*b]))).unwrap_or(0)
}

fn bounds(seen: &[Seen], of: impl Fn(&Seen) -> f64) -> (f64, f64) {
    seen.iter().map(of).fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(x), high.max(x)))
}

fn cache_aware(seen: &[Seen], (turn, prompt): (u64, f64), smallest_tree: bool) -> usize {
    let (low, high) = bounds(seen, |each| each.in_flight);
    if high - low > UNEVEN && high > UNEVEN_RATIO * low {
        return least(seen, turn, |each| each.in_flight);
    }
    let best = least(seen, turn, |each| -each.matched);
    if seen[best].matched / prompt > MATCH_LEAST {
        return best;
    }
    least(seen, turn, |each| if smallest_tree { each.tree } else { each.in_flight })
}

fn aibrix(seen: &[Seen], turn: u64) -> usize {
    let (low, high) = bounds(seen, |each| each.running);
    if high - low > AIBRIX_UNEVEN {
        return least(seen, turn, |each| each.running);
    }
    let count = seen.len().max(1) as f64;
    let mean = seen.iter().map(|each| each.running).sum::<f64>() / count;
    let square = |x: f64| x * x;
    let variance = seen.iter().map(|each| square(each.running - mean)).sum::<f64>() / count;
    // Within mean + 2σ, without a root. Longest match, then least running.
    least(seen, turn, |each| {
        let is_far = each.running > mean && square(each.running - mean) > 4.0 * variance;
        if is_far { f64::MAX } else { each.running - 1e6 * each.matched }
    })
}

fn weighted(seen: &[Seen], turn: u64, prompt: f64) -> usize {
    let (low, high) = bounds(seen, |each| each.waiting);
    least(seen, turn, |each| {
        let queue = if high > low { (high - each.waiting) / (high - low) } else { 1.0 };
        let (prefix, free) = (each.matched / prompt, 1.0 - each.kv);
        -(WEIGHTS.0 * prefix + WEIGHTS.1 * queue + WEIGHTS.2 * free)
    })
}
