//! Chooses the next token from the logits.
//!
//! The random number of a choice is computed from the request's seed and the token's position in
//! the answer, with no state in between: batch mates cannot shift it, and a continuation elsewhere
//! draws what the first run would have drawn.

use crate::kernels::vector;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How a request wants its tokens chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// 0 always takes the likeliest token.
    pub temperature: f32,
    /// Keep only so many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the likeliest tokens that together have this probability.
    pub top_p: f32,
    /// Drop tokens less likely than this share of the likeliest one's probability.
    pub min_p: f32,
    /// Taken off the logit of every token that the answer already holds.
    pub presence_penalty: f32,
    /// Taken off once for each time the answer holds it.
    pub frequency_penalty: f32,
    /// The logit of every token that prompt or answer hold is divided by this if it is positive,
    /// and else multiplied (Keskar and others, arXiv:1909.05858, with the usual change); 1 is none.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens.
    pub bias: Vec<(u32, f32)>,
    /// Unset: a fresh one is drawn, and the journal tells which.
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            bias: Vec::new(),
            seed: None,
        }
    }
}

/// The tokens before the next one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Past<'a> {
    pub prompt: &'a [u32],
    pub answer: &'a [u32],
}

/// What the model itself thought of a token and of the likeliest others: natural logarithms of
/// probabilities, before temperature, penalties, biases and constraints.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    pub chosen: f32,
    /// The likeliest first; of equals, the lowest token.
    pub top: Vec<(u32, f32)>,
}

/// Log-probabilities by token, to be asked once the token is chosen.
pub(crate) struct Thoughts {
    scores: Vec<f32>,
    top: Vec<(u32, f32)>,
}

/// Constrained decoding: given the answer's tokens so far, may this one be next?
pub type Allowed = Arc<dyn Fn(&[u32], u32) -> bool + Send + Sync>;

/// Tokens this much (in nats) less likely than the best have together less than one part in
/// 10⁸ of a usual vocabulary; leaving them out spares sorting them.
const DEPTH: f32 = 32.0;

impl Sampling {
    pub fn check(&self) -> Result<(), &'static str> {
        let penalties = [self.presence_penalty, self.frequency_penalty];
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return Err("temperature must be 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err("top_p must be above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return Err("min_p must be from 0 to 1");
        }
        if !penalties.iter().all(|penalty| penalty.is_finite()) {
            return Err("penalties must be numbers");
        }
        if !(self.repetition_penalty > 0.0 && self.repetition_penalty.is_finite()) {
            return Err("repetition_penalty must be above 0");
        }
        if !self.bias.iter().all(|(_, bias)| bias.is_finite()) {
            return Err("biases must be numbers");
        }
        Ok(())
    }

    /// The next token, or nothing if no token is possible (the logits are not numbers, or `allowed`
    /// allows none). The logits are used up.
    pub fn pick(
        &self,
        seed: u64,
        past: &Past<'_>,
        logits: &mut [f32],
        allowed: Option<&Allowed>,
    ) -> Option<u32> {
        for logit in logits.iter_mut().filter(|logit| logit.is_nan()) {
            *logit = f32::NEG_INFINITY;
        }
        self.penalise(past, logits);
        for (token, bias) in &self.bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        let answer = past.answer;
        if self.temperature == 0.0 {
            return likeliest_allowed(answer, logits, allowed);
        }
        if let Some(allowed) = allowed {
            for (token, logit) in logits.iter_mut().enumerate() {
                if *logit > f32::NEG_INFINITY && !allowed(answer, token as u32) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let candidates = self.candidates(logits)?;
        Some(draw(&candidates, random(seed, answer.len() as u64)))
    }

    fn penalise(&self, past: &Past<'_>, logits: &mut [f32]) {
        if self.repetition_penalty != 1.0 {
            let held: HashSet<u32> = past.prompt.iter().chain(past.answer).copied().collect();
            for token in held {
                let Some(logit) = logits.get_mut(token as usize) else { continue };
                match *logit > 0.0 {
                    true => *logit /= self.repetition_penalty,
                    false => *logit *= self.repetition_penalty,
                }
            }
        }
        if self.presence_penalty == 0.0 && self.frequency_penalty == 0.0 {
            return;
        }
        let mut counts: HashMap<u32, f32> = HashMap::new();
        past.answer.iter().for_each(|token| *counts.entry(*token).or_default() += 1.0);
        for (token, count) in counts {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit -= self.presence_penalty + self.frequency_penalty * count;
            }
        }
    }

    /// What is left after all cuts, with probabilities that need not sum to one, likeliest first.
    fn candidates(&self, logits: &[f32]) -> Option<Vec<(u32, f32)>> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !highest.is_finite() {
            return None;
        }
        let floor = highest - DEPTH * self.temperature;
        let mut left: Vec<(u32, f32)> =
            (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| *logit >= floor).collect();
        left.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if self.top_k > 0 {
            left.truncate(self.top_k);
        }
        let mut shares: Vec<f32> =
            left.iter().map(|(_, logit)| (logit - highest) / self.temperature).collect();
        vector::softmax(&mut shares);
        left.iter_mut().zip(shares).for_each(|(candidate, share)| candidate.1 = share);
        let mut sum = 0.0;
        let within = |(_, share): &(u32, f32)| {
            let before = sum;
            sum += share;
            before < self.top_p
        };
        let kept = left.iter().copied().take_while(within).count().max(1);
        left.truncate(kept);
        let least = self.min_p * left[0].1;
        left.retain(|(_, share)| *share >= least);
        Some(left)
    }
}

impl Thoughts {
    /// The model's logits as log-probabilities, with the `top` likeliest tokens.
    pub fn of(logits: &[f32], top: usize) -> Thoughts {
        let number = |logit: &f32| if logit.is_nan() { f32::NEG_INFINITY } else { *logit };
        let highest = logits.iter().map(number).fold(f32::NEG_INFINITY, f32::max);
        let parts = logits.iter().map(|logit| f64::from(number(logit) - highest).exp());
        let log_sum = parts.sum::<f64>().ln() as f32;
        let scores: Vec<f32> =
            logits.iter().map(|logit| number(logit) - highest - log_sum).collect();
        let mut best: Vec<(u32, f32)> = Vec::with_capacity(top + 1);
        for (token, score) in (0u32..).zip(scores.iter().copied()) {
            if best.len() < top || best.last().is_some_and(|last| score > last.1) {
                let at = best.partition_point(|other| other.1 >= score);
                best.insert(at, (token, score));
                best.truncate(top);
            }
        }
        Thoughts { scores, top: best }
    }

    /// What is told of `token`.
    pub fn about(self, token: u32) -> Scores {
        let chosen = self.scores.get(token as usize).copied().unwrap_or(f32::NEG_INFINITY);
        Scores { chosen, top: self.top }
    }
}

/// The highest logit whose token is allowed; of equals, the lowest token.
fn likeliest_allowed(answer: &[u32], logits: &mut [f32], allowed: Option<&Allowed>) -> Option<u32> {
    loop {
        let mut best = (0, f32::NEG_INFINITY);
        for (token, logit) in logits.iter().enumerate() {
            if *logit > best.1 {
                best = (token, *logit);
            }
        }
        if !best.1.is_finite() {
            return None;
        }
        if allowed.is_none_or(|allowed| allowed(answer, best.0 as u32)) {
            return Some(best.0 as u32);
        }
        logits[best.0] = f32::NEG_INFINITY;
    }
}

/// The candidate at `point` (0 to 1) of the summed probabilities.
fn draw(candidates: &[(u32, f32)], point: f32) -> u32 {
    let total: f32 = candidates.iter().map(|(_, share)| share).sum();
    let mut left = point * total;
    for (token, share) in candidates {
        left -= share;
        if left < 0.0 {
            return *token;
        }
    }
    candidates[candidates.len() - 1].0
}

/// A number from 0 to 1 (excluded) that depends on nothing but its two keys: two rounds of
/// SplitMix64's finaliser (Steele, Lea, Flood 2014).
fn random(seed: u64, position: u64) -> f32 {
    let mixed = mix(mix(seed ^ 0x9e37_79b9_7f4a_7c15).wrapping_add(position));
    (mixed >> 40) as f32 / (1u64 << 24) as f32
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(sampling: &Sampling, logits: &[f32], draws: u64) -> Vec<u32> {
        (0..draws)
            .map(|seed| sampling.pick(seed, &Past::default(), &mut logits.to_vec(), None).unwrap())
            .collect()
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.7f32.ln(), 0.2f32.ln(), 0.1f32.ln(), f32::NEG_INFINITY, f32::NAN];
        let picks = picks(&Sampling::default(), &logits, 20_000);
        for (token, share) in [(0, 0.7), (1, 0.2), (2, 0.1), (3, 0.0), (4, 0.0)] {
            let seen = picks.iter().filter(|pick| **pick == token).count() as f32 / 20_000.0;
            assert!((seen - share).abs() < 0.02, "token {token}: {seen} for {share}");
        }
    }

    #[test]
    fn each_cut_keeps_what_it_says() {
        let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|share| share.ln()).collect();
        let kept = |sampling: Sampling| {
            let mut seen = picks(&sampling, &logits, 2_000);
            seen.sort();
            seen.dedup();
            seen
        };
        let all = Sampling::default();
        assert_eq!(kept(all.clone()), [0, 1, 2, 3]);
        assert_eq!(kept(Sampling { top_k: 2, ..all.clone() }), [0, 1]);
        assert_eq!(kept(Sampling { top_p: 0.7, ..all.clone() }), [0, 1]);
        assert_eq!(kept(Sampling { min_p: 0.29, ..all.clone() }), [0, 1, 2]);
        assert_eq!(kept(Sampling { temperature: 0.0, ..all.clone() }), [0]);
        assert_eq!(kept(Sampling { top_p: 1e-9, ..all }), [0]);
    }

    #[test]
    fn penalties_count_only_the_answer() {
        let sampling = Sampling { temperature: 0.0, frequency_penalty: 0.4, ..Sampling::default() };
        let past = |answer| Past { prompt: &[0, 0, 0], answer };
        let pick = |answer| sampling.pick(0, &past(answer), &mut [1.0, 0.5], None);
        assert_eq!(pick(&[]), Some(0));
        assert_eq!(pick(&[0]), Some(0));
        assert_eq!(pick(&[0, 0]), Some(1));
        let sampling = Sampling { presence_penalty: 0.6, frequency_penalty: 0.0, ..sampling };
        assert_eq!(sampling.pick(0, &past(&[0]), &mut [1.0, 0.5], None), Some(1));
    }

    #[test]
    fn only_allowed_tokens_are_chosen_and_none_allowed_is_said() {
        let odd: Allowed = Arc::new(|answer, token| answer.is_empty() && token % 2 == 1);
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, ..Sampling::default() };
            for seed in 0..50 {
                let logits = &mut [9.0, 1.0, 5.0, 2.0];
                let pick = sampling.pick(seed, &Past::default(), logits, Some(&odd));
                assert!(matches!(pick, Some(1 | 3)));
            }
            let after_one = Past { answer: &[1], ..Past::default() };
            assert_eq!(sampling.pick(0, &after_one, &mut [9.0, 1.0], Some(&odd)), None);
            assert_eq!(sampling.pick(0, &Past::default(), &mut [f32::NAN; 3], None), None);
        }
    }

    #[test]
    fn repetition_counts_the_prompt_too_and_pushes_both_signs_down() {
        let greedy = Sampling { temperature: 0.0, repetition_penalty: 2.0, ..Sampling::default() };
        let past = |prompt| Past { prompt, answer: &[] };
        let pick =
            |prompt, logits: &[f32]| greedy.pick(0, &past(prompt), &mut logits.to_vec(), None);
        assert_eq!(pick(&[], &[1.0, 0.6]), Some(0));
        assert_eq!(pick(&[0], &[1.0, 0.6]), Some(1));
        assert_eq!(pick(&[0], &[-1.0, -1.5]), Some(1));
        let wrong = Sampling { repetition_penalty: 0.0, ..Sampling::default() };
        assert!(wrong.check().is_err());
    }

    #[test]
    fn a_bias_moves_its_token_and_no_other() {
        let bias = vec![(1, 5.0), (0, -100.0), (77, 1.0)];
        let biased = Sampling { temperature: 0.0, bias, ..Sampling::default() };
        let mut logits = [3.0, 0.0, 4.0];
        assert_eq!(biased.pick(0, &Past::default(), &mut logits, None), Some(1));
        assert_eq!(logits, [-97.0, 5.0, 4.0]);
    }

    #[test]
    fn scores_are_the_models_own_probabilities() {
        let logits = [0.7f32.ln() + 3.0, 0.2f32.ln() + 3.0, f32::NAN, 0.1f32.ln() + 3.0];
        let scores = Thoughts::of(&logits, 2).about(3);
        assert!((scores.chosen - 0.1f32.ln()).abs() < 1e-5, "{scores:?}");
        assert_eq!(scores.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 1]);
        assert!((scores.top[0].1 - 0.7f32.ln()).abs() < 1e-5, "{scores:?}");
        assert!(Thoughts::of(&logits, 0).about(0).top.is_empty());
        assert_eq!(Thoughts::of(&logits, 9).about(2).top.len(), 4);
    }
}
