//! What operators decide of the scheduler, with the defaults and their reasons.

use super::baseline::Baseline;
use crate::mutant::Mutants;
use crate::time::Duration;
use alloc::vec::Vec;

/// Who decides where an attempt goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// Late binding: our queue, worker credit, engine queues near empty.
    Late,
    /// The same inside a site, which lets in, gives back and says what workers carry. What it is
    /// not told of profiles and caches it learns.
    Site,
    /// On arrival, without a queue of ours: what others do, to compare with.
    OnArrival(Baseline),
}

/// One service class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierSettings {
    /// Share of the workers that it gets whenever it has work waiting.
    pub floor: f64,
    /// Its part of what is above the floors, against other tiers.
    pub weight: f64,
    /// Constant part of the TTFT promise,
    pub ttft_base: Duration,
    /// and so many times the prefill of the prompt on an idle worker with an empty cache.
    pub ttft_factor: f64,
    /// Longest mean time between tokens.
    pub tpot: Duration,
    /// How long beyond its promise a request is still wanted. Zero refuses what would be late.
    pub patience: Duration,
    /// Whether its legs give way at workers to higher tiers that would else be late, before their
    /// first token.
    pub preemptible: bool,
}

impl Default for TierSettings {
    /// Two seconds is what people wait before they look elsewhere; three times the unloaded
    /// prefill grants a long prompt what it needs; 150 ms a token is faster than people read.
    fn default() -> TierSettings {
        TierSettings {
            floor: 0.0,
            weight: 1.0,
            ttft_base: Duration::from_secs(2),
            ttft_factor: 3.0,
            tpot: Duration::from_millis(150),
            patience: Duration::from_secs(60),
            preemptible: false,
        }
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Who decides.
    pub policy: Policy,
    /// Tokens for which a prompt has one key.
    pub block: u32,
    /// 0 is earliest deadline first; the more, the closer to first come, first served. A quarter
    /// costs little and lets nobody starve behind shorter prompts.
    pub aging: f64,
    /// A tenant goes by its deadlines while it was served at most so many times the largest request
    /// of its tier beyond the one that was served least.
    pub window: f64,
    /// Part of a promise that is kept to spare when not all can be in time.
    pub slack: f64,
    /// Weight of the delay that a prefill gives to running streams.
    pub externality_weight: f64,
    /// Part of its tier's work that those get who are late and still wanted, while others wait.
    pub late_share: f64,
    /// Longest wait for a worker that is busy and yet costs least, most often because it holds the
    /// prefix. A promise ends a hold sooner; this is for tiers that promise little.
    pub hold_max: Duration,
    /// Candidates by prefix, and as many by load; with at most four times as many workers, all.
    pub candidates: usize,
    /// To a worker and back.
    pub round_trip: Duration,
    /// Service classes, the highest first.
    pub tiers: Vec<TierSettings>,
    /// For seeded ties.
    pub seed: u64,
    /// Rules that a test takes away.
    pub mutants: Mutants,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            policy: Policy::Late,
            block: 512,
            aging: 0.25,
            window: 0.25,
            slack: 0.1,
            externality_weight: 0.05,
            late_share: 0.1,
            hold_max: Duration::from_secs(60),
            candidates: 4,
            round_trip: Duration::from_millis(4),
            tiers: alloc::vec![TierSettings::default()],
            seed: 1,
            mutants: Mutants::NONE,
        }
    }
}

/// Steps of a worker may take this part of the promised time between tokens in the mean. One
/// answer differs from the mean of all: a long prompt computed beside it slows it more than others.
const TPOT_KEPT: f64 = 0.8;

impl Settings {
    /// What steps may take in the mean, in milliseconds: what the strictest tier was promised,
    /// since streams of all tiers share the steps of a worker.
    pub fn step_max(&self) -> f64 {
        let least = self.tiers.iter().map(|tier| tier.tpot).min().unwrap_or(Duration::MAX);
        TPOT_KEPT * least.as_secs_f64() * 1000.0
    }
}
