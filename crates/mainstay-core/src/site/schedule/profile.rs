//! Step times of a model on a kind of worker, as the scheduler predicts them:
//! `T_step(B, K, x, a) = o + L(B + x) + c_d·K + c_p·a`, all in milliseconds.
//!
//! Rooflines of Sarathi-Serve (arXiv 2403.02310) and Vidur (arXiv 2405.05465) in four
//! coefficients: what a worker does in fact is measured and corrected, see `pace`.

use crate::time::Duration;

/// A chunk of prefill that goes with ever so many decodes: engines keep prefill from starving.
const CHUNK_MIN: u32 = 256;

/// Coefficients, in milliseconds, and limits of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Profile {
    /// Fixed part of a step.
    pub overhead: f64,
    /// Least time of the linear layers,
    pub floor: f64,
    /// and else a constant
    pub base: f64,
    /// and so much for each token in the step.
    pub token: f64,
    /// For each token of context of each decoding sequence.
    pub context: f64,
    /// For each pair of a prefilled token and a token before it.
    pub pair: f64,
    /// Tokens in a step, decodes included.
    pub chunk: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Blocks of KV, each of the scheduler's own block size.
    pub blocks: u32,
}

/// Sequences that decode on a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// How many.
    pub decodes: u32,
    /// Tokens of their contexts together.
    pub context: u64,
}

impl Batch {
    /// With one more of so much context.
    pub fn plus(self, context: u64) -> Batch {
        Batch { decodes: self.decodes + 1, context: self.context + context }
    }
}

impl Profile {
    /// `L`: the linear layers for so many tokens in a step.
    pub fn layers(&self, tokens: f64) -> f64 {
        self.floor.max(self.base + self.token * tokens)
    }

    /// A step of decodes alone.
    pub fn step(&self, batch: Batch) -> f64 {
        self.step_with(batch, 0.0, 0.0)
    }

    /// A step with so many tokens of prefill, which make so many pairs.
    pub fn step_with(&self, batch: Batch, prefill: f64, pairs: f64) -> f64 {
        let tokens = f64::from(batch.decodes) + prefill;
        self.overhead
            + self.layers(tokens)
            + self.context * batch.context as f64
            + self.pair * pairs
    }

    /// Tokens of prefill that go into a step beside a batch.
    pub fn budget(&self, batch: Batch) -> u32 {
        self.chunk.saturating_sub(batch.decodes).max(CHUNK_MIN)
    }

    /// Steps that a prefill of so many tokens takes beside a batch.
    pub fn chunks(&self, uncached: u32, batch: Batch) -> u32 {
        uncached.div_ceil(self.budget(batch)).max(1)
    }

    /// `T_pre`: to prefill `uncached` tokens after `cached` ones beside a batch.
    pub fn prefill(&self, uncached: u32, cached: u32, batch: Batch) -> f64 {
        let (budget, chunks) = (self.budget(batch), self.chunks(uncached, batch));
        let last = uncached - (chunks - 1) * budget;
        let (new, decodes) = (f64::from(uncached), f64::from(batch.decodes));
        f64::from(chunks) * (self.overhead + self.context * batch.context as f64)
            + f64::from(chunks - 1) * self.layers(decodes + f64::from(budget))
            + self.layers(decodes + f64::from(last))
            + self.pair * new * (f64::from(cached) + new / 2.0)
    }

    /// Tokens of prompts that it reads in a second, in full chunks and with nothing beside them.
    pub fn reads(&self) -> f64 {
        let chunk = f64::from(self.chunk.max(1));
        chunk * 1000.0 / self.step_with(Batch::default(), chunk, 0.0).max(f64::MIN_POSITIVE)
    }

    /// `T0`: a prompt on an idle worker with an empty cache.
    pub fn unloaded(&self, prompt: u32) -> f64 {
        self.prefill(prompt.max(1), 0, Batch::default())
    }

    /// The work of a request: milliseconds of a worker that does nothing else, in microseconds.
    /// What a step costs beyond its tokens is left out, since steps are shared.
    pub fn work(&self, (uncached, cached): (u32, u32), prompt: u32, output: u32) -> u64 {
        let (new, output) = (f64::from(uncached), f64::from(output));
        let prefill = self.token * new + self.pair * new * (f64::from(cached) + new / 2.0);
        let decode = output * (self.token + self.context * (f64::from(prompt) + output / 2.0));
        micros(prefill + decode)
    }
}

/// Milliseconds as whole microseconds.
pub fn micros(millis: f64) -> u64 {
    // Casts of floats saturate; a half is added because core has no `round`.
    (millis.max(0.0) * 1000.0 + 0.5) as u64
}

/// Microseconds as milliseconds.
pub fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

/// A duration in milliseconds.
pub fn millis_of(time: Duration) -> f64 {
    millis(time.as_micros() as u64)
}

/// Milliseconds as a duration.
pub fn duration(millis: f64) -> Duration {
    Duration::from_micros(micros(millis))
}

/// A 70B model on eight H100, for tests.
#[cfg(test)]
pub const H100: Profile = Profile {
    overhead: 0.0,
    floor: 14.5,
    base: 9.0,
    token: 0.0425,
    context: 1.6e-5,
    pair: 8.3e-7,
    chunk: 2048,
    sequences: 256,
    blocks: 2600,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefill_is_the_sum_of_its_chunks() {
        let batch = Batch { decodes: 48, context: 400_000 };
        let (mut left, mut before, mut sum) = (9_000u32, 3_000u32, 0.0);
        while left > 0 {
            let chunk = left.min(H100.budget(batch));
            let pairs = f64::from(chunk) * (f64::from(before) + f64::from(chunk) / 2.0);
            sum += H100.step_with(batch, f64::from(chunk), pairs);
            (left, before) = (left - chunk, before + chunk);
        }
        assert!((H100.prefill(9_000, 3_000, batch) - sum).abs() < 1e-6);
    }

    #[test]
    fn work_is_less_where_a_prefix_is_cached() {
        let whole = H100.work((12_000, 0), 12_000, 350);
        let part = H100.work((4_000, 8_000), 12_000, 350);
        assert!(part < whole / 2, "{part} of {whole}");
    }
}
