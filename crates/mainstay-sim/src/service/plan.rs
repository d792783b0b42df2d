//! A run of steps that are alike but for their growing context, in closed form.

use super::profile::Profile;

/// Steps with the same decodes and one prompt under way.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// How many.
    pub steps: u32,
    decodes: u32,
    /// Context of all decodes in the first of them.
    context: f64,
    /// Tokens of prefill in each step but the last.
    chunk: u32,
    /// KV of the prompt under way before the first of them.
    before: f64,
    /// In the last: tokens of prefill, and their pairs.
    last: (u32, f64),
    /// Slowness and noise of this run.
    factor: f64,
}

impl Plan {
    /// So many steps of this many decodes and their context.
    pub fn new(steps: u32, (decodes, context): (u32, f64), factor: f64) -> Plan {
        Plan { steps, decodes, context, factor, ..Plan::default() }
    }

    /// The same with so much prefill in each step but the last, after so much, and in the last.
    pub fn with_prefill(self, chunk: u32, before: u32, last: (u32, f64)) -> Plan {
        Plan { chunk, before: f64::from(before), last, ..self }
    }

    /// Tokens of prefill in the first `steps`.
    pub fn prefill(&self, steps: u32) -> u32 {
        if steps < self.steps {
            return self.chunk * steps;
        }
        self.chunk * self.steps.saturating_sub(1) + self.last.0
    }

    /// Milliseconds until the end of step `steps`.
    pub fn time(&self, profile: &Profile, steps: u32) -> f64 {
        if steps == 0 {
            return 0.0;
        }
        let is_last = steps >= self.steps;
        let alike = if is_last { self.steps - 1 } else { steps };
        let n = f64::from(steps.min(self.steps));
        let decodes = f64::from(self.decodes);
        let context = n * self.context + decodes * n * (n - 1.0) / 2.0;
        let mut took = n * profile.overhead + profile.context * context;
        let (chunk, m) = (f64::from(self.chunk), f64::from(alike));
        took += m * profile.layers(decodes + chunk);
        let new = chunk * m;
        took += profile.pair * new * (self.before + new / 2.0);
        if is_last {
            took += profile.layers(decodes + f64::from(self.last.0)) + profile.pair * self.last.1;
        }
        took * self.factor
    }

    /// Steps that are over after so many milliseconds.
    pub fn over(&self, profile: &Profile, millis: f64) -> u32 {
        let (mut low, mut high) = (0, self.steps);
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            if self.time(profile, middle) <= millis {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }
}
