//! Step times of one model on one kind of worker:
//! `T_step(B, K, x, a) = o + L(B + x) + c_d·K + c_p·a` for B decodes with K tokens of context, x
//! tokens of prefill and the a pairs they make.

/// Chunk of prefill that still goes with ever so many decodes.
const CHUNK_MIN: u32 = 256;
/// Layers of the 70B model; of the 8B.
const LAYERS: (f64, f64) = (80.0, 32.0);
/// Measured operators; see `traces/README.md`.
const MEASURED: &str = include_str!("../../traces/vidur/layer_ms.csv");

/// Step-time coefficients, in milliseconds, and limits of one worker.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name; for measured operators, theirs.
    pub name: &'static str,
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
    /// Tokens of KV it holds.
    pub kv_tokens: u64,
    /// Tokens in a step, decodes included.
    pub chunk: u32,
    /// Sequences at once.
    pub sequences: u32,
    /// Measured `L`, by tokens; replaces `floor`, `base` and `token` where it is there.
    pub measured: Vec<(f64, f64)>,
}

const fn profile(name: &'static str, layers: [f64; 3], rest: (f64, f64, u64)) -> Profile {
    Profile {
        name,
        overhead: 0.0,
        floor: layers[0],
        base: layers[1],
        token: layers[2],
        context: rest.0,
        pair: rest.1,
        kv_tokens: rest.2,
        chunk: 2048,
        sequences: 256,
        measured: Vec::new(),
    }
}

/// The workers there are. For DeepSeek-V3 one is one GPU of its group (EP128 or 144 to decode,
/// EP32 to prefill).
pub const PROFILES: [Profile; 6] = [
    profile("llama-70b-h100-tp8", [14.5, 9.0, 0.0425], (1.6e-5, 8.3e-7, 1_300_000)),
    profile("llama-70b-h100-tp4", [21.5, 6.0, 0.0667], (3.3e-5, 1.7e-6, 450_000)),
    profile("llama-70b-a100-tp8", [21.0, 20.0, 0.1105], (2.7e-5, 2.6e-6, 1_300_000)),
    profile("llama-8b-a100", [10.0, 2.0, 0.0672], (8.6e-5, 4.2e-6, 400_000)),
    profile("deepseek-v3-decode-h800", [0.0, 25.2, 0.1375], (2.34e-5, 0.0, 600_000)),
    profile("deepseek-v3-prefill-h800", [0.0, 0.0, 0.107], (0.0, 1.0e-5, 600_000)),
];

/// `L` of the Llama-70B workers as the design lists it: name, tokens, milliseconds.
pub const LISTED: [(&str, [(u32, f64); 7]); 2] = [
    (
        "llama-70b-h100-tp8",
        [
            (64, 14.6),
            (128, 16.5),
            (256, 20.0),
            (512, 30.1),
            (1024, 52.2),
            (2048, 97.5),
            (4096, 178.0),
        ],
    ),
    (
        "llama-70b-a100-tp8",
        [
            (64, 25.7),
            (128, 30.1),
            (256, 46.8),
            (512, 77.6),
            (1024, 138.0),
            (2048, 254.0),
            (4096, 464.0),
        ],
    ),
];

/// Measured `L` of this worker by tokens: its layers' operators and two all-reduces of each.
pub fn table(name: &str) -> Vec<(f64, f64)> {
    let layers = if name.contains("8b") { LAYERS.1 } else { LAYERS.0 };
    let rows = MEASURED.lines().filter_map(|line| {
        let (of, rest) = line.split_once(',')?;
        let mut rest = rest.split(',').map(|field| field.parse::<f64>().ok());
        let (tokens, layer, reduce) = (rest.next()??, rest.next()??, rest.next()??);
        (of == name).then_some((tokens, layers * (layer + 2.0 * reduce)))
    });
    rows.collect()
}

impl Profile {
    /// The worker of this name, by the formula.
    pub fn named(name: &str) -> Option<Profile> {
        PROFILES.into_iter().find(|profile| profile.name == name)
    }

    /// The same with measured operators where there are any.
    pub fn measured(mut self) -> Profile {
        self.measured = table(self.name);
        self
    }

    /// `L`: the layers' time for so many tokens in a step.
    pub fn layers(&self, tokens: f64) -> f64 {
        let points = &self.measured;
        if points.len() < 2 {
            return self.floor.max(self.base + self.token * tokens);
        }
        // Beyond the last point the last stretch goes on.
        let above = points.partition_point(|(at, _)| *at < tokens).clamp(1, points.len() - 1);
        let ((low, from), (high, to)) = (points[above - 1], points[above]);
        (from + (to - from) * (tokens - low) / (high - low)).max(points[0].1)
    }

    /// A step with this many decodes, of so much context together, and this much prefill: its
    /// tokens, and the pairs they make with the tokens before them.
    pub fn step(&self, decodes: u32, context: f64, prefill: u32, pairs: f64) -> f64 {
        let tokens = f64::from(decodes) + f64::from(prefill);
        self.overhead + self.layers(tokens) + self.context * context + self.pair * pairs
    }

    /// Tokens of prefill that go into a step with this many decodes.
    pub fn budget(&self, decodes: u32) -> u32 {
        self.chunk.saturating_sub(decodes).max(CHUNK_MIN)
    }

    /// Whether KV in use leaves room for a prompt, and a hundredth for the tokens of those that
    /// run: else what was just put off would come back at once.
    pub fn fits(&self, used: u64, prompt: u32) -> bool {
        used + u64::from(prompt) <= self.kv_tokens - self.kv_tokens / 100
    }

    /// `T_pre`: to prefill `uncached` tokens after `cached` ones, beside so many decodes and their
    /// context.
    pub fn prefill(&self, uncached: u32, cached: u32, beside: (u32, f64)) -> f64 {
        self.backlog(u64::from(uncached), pairs(uncached, cached), beside)
    }

    /// The same for many prompts, which share steps: their tokens and their pairs.
    pub fn backlog(&self, tokens: u64, pairs: f64, (decodes, context): (u32, f64)) -> f64 {
        let budget = u64::from(self.budget(decodes));
        let (whole, rest) = (tokens / budget, tokens % budget);
        let steps = (whole + u64::from(rest > 0)) as f64;
        let decodes = f64::from(decodes);
        let mut layers = whole as f64 * self.layers(decodes + budget as f64);
        if rest > 0 {
            layers += self.layers(decodes + rest as f64);
        }
        steps * (self.overhead + self.context * context) + layers + self.pair * pairs
    }
}

/// Pairs that `new` tokens make with those before them and among themselves.
pub fn pairs(new: u32, before: u32) -> f64 {
    f64::from(new) * (f64::from(before) + f64::from(new) / 2.0)
}
