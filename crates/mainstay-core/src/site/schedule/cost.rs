//! What it costs to send an attempt to a worker, in milliseconds: when its first token would come,
//! how far the streams there would be delayed, and how fast its own tokens would follow.

use super::profile::Batch;
use super::worker::{Worker, wait};
use crate::time::Time;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Tokens to prefill in all: the prompt, and what was relayed before.
    pub prompt: u32,
    /// Tokens of the answer, in the median.
    pub output: u32,
}

/// What it would cost on one worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Tokens of the prompt that are believed to be cached there.
    pub hit: u32,
    /// `T_queue`: until its prefill begins.
    pub queue: f64,
    /// `T_pre`: its prefill.
    pub prefill: f64,
    /// `F`: until the first token.
    pub ttft: f64,
    /// `P`: between its tokens.
    pub tpot: f64,
    /// `C`: what is compared.
    pub total: f64,
}

impl Asked {
    /// Tokens that a worker has to compute which has so many of them cached: at least the last.
    pub fn uncached(&self, hit: u32) -> (u32, u32) {
        let prompt = self.prompt.max(1);
        let hit = hit.min(prompt - 1);
        (prompt - hit, hit)
    }

    /// On a worker that holds so many tokens of its prompt.
    pub fn on(&self, worker: &Worker, now: Time, hit: u32, externality: f64) -> Cost {
        let (profile, batch) = (&worker.profile, worker.batch());
        let slowness = worker.slowness();
        let (uncached, hit) = self.uncached(hit);
        let step = profile.step(batch);
        let is_idle = worker.in_flight() == 0;
        // A step is under way, and on average half over.
        let rest = if is_idle { 0.0 } else { slowness * step / 2.0 };
        let queue = rest + wait(worker, now);
        let prefill = slowness * profile.prefill(uncached, hit, batch);
        let context = u64::from(self.prompt) + u64::from(self.output / 2);
        let after = batch.plus(context);
        let ttft = queue + prefill;
        let tpot = slowness * profile.step(after);
        let total = ttft + externality * self.delays(worker, (batch, step), (uncached, prefill));
        Cost { hit, queue, prefill, ttft, tpot, total }
    }

    /// `E`: by how much it delays the streams that run there, summed over their tokens.
    fn delays(&self, worker: &Worker, (batch, step): (Batch, f64), pre: (u32, f64)) -> f64 {
        let (profile, slowness) = (&worker.profile, worker.slowness());
        let decodes = f64::from(batch.decodes);
        let chunks = f64::from(profile.chunks(pre.0, batch));
        let prefill = decodes * (pre.1 - chunks * slowness * step).max(0.0);
        prefill + self.crowds(worker)
    }

    /// The part of it that its answer makes, wherever its prompt was computed.
    pub fn crowds(&self, worker: &Worker) -> f64 {
        let (profile, slowness) = (&worker.profile, worker.pace.slowness());
        let decodes = f64::from(worker.batch().decodes);
        let output = f64::from(self.output);
        let context = f64::from(self.prompt) + output / 2.0;
        decodes * output * slowness * (profile.token + profile.context * context)
    }
}
