//! A profile that nobody gave, learned from what prompts took.
//!
//! A prefill of k chunks takes `k·base + token·u`, so time and tokens for each chunk lie on a line:
//! the median of the slopes between all pairs of samples (Theil, 1950; Sen, 1968), which a third of
//! wild ones do not move. What decodes beside it add is in the constant part.

use super::profile::Profile;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Samples kept,
const KEPT: usize = 64;
/// how many make a line,
const ENOUGH: usize = 50;
/// and after how many more it is drawn anew.
const EVERY: usize = 16;
/// Tokens in a step: what vLLM and llama.cpp begin with.
const CHUNK: u32 = 2048;
/// Tokens by which two prompts differ that tell of a slope.
const APART: f64 = 64.0;
/// Off the line by more than this part of the time in the median, it is no line.
const OFF: f64 = 0.5;

/// What prompts of one model took, on workers alike.
#[derive(Clone, Debug, Default)]
pub struct Learner {
    /// Tokens and milliseconds of a chunk.
    samples: VecDeque<(f64, f64)>,
    since: usize,
}

impl Learner {
    /// So many tokens took so many milliseconds; a profile, if it is time for another one.
    pub fn observe(&mut self, tokens: u32, millis: f64) -> Option<Profile> {
        let chunks = f64::from(tokens.div_ceil(CHUNK).max(1));
        self.samples.push_back((f64::from(tokens) / chunks, millis / chunks));
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
        self.since += 1;
        if self.samples.len() < ENOUGH || self.since < EVERY {
            return None;
        }
        self.since = 0;
        self.line()
    }

    fn line(&self) -> Option<Profile> {
        let all = &self.samples;
        let mut slopes: Vec<f64> = Vec::new();
        for (at, (x, y)) in all.iter().enumerate() {
            let others = all.iter().skip(at + 1).filter(|other| apart(other.0, *x));
            slopes.extend(others.map(|(u, v)| (v - y) / (u - x)));
        }
        // Prompts that are all alike tell nothing.
        if slopes.len() < ENOUGH {
            return None;
        }
        let token = median(slopes);
        let base = median(all.iter().map(|(x, y)| y - token * x).collect()).max(0.0);
        let off = |(x, y): &(f64, f64)| distance(*y, base + token * x);
        let is_line = median(all.iter().map(off).collect())
            <= OFF * median(all.iter().map(|(_, y)| *y).collect());
        (token > 0.0 && is_line).then_some(Profile {
            floor: base,
            base,
            token,
            chunk: CHUNK,
            sequences: u32::MAX,
            blocks: u32::MAX,
            ..Profile::default()
        })
    }
}

fn apart(a: f64, b: f64) -> bool {
    distance(a, b) >= APART
}

fn distance(a: f64, b: f64) -> f64 {
    (a - b).max(b - a)
}

fn median(mut all: Vec<f64>) -> f64 {
    let middle = all.len() / 2;
    if all.is_empty() {
        return 0.0;
    }
    *all.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_line_is_found_though_a_fifth_of_all_is_wild() {
        let (mut learner, mut rng, mut found) = (Learner::default(), Rng::new(1), None);
        for number in 0..200 {
            let tokens = 50 + rng.below(6000) as u32;
            let chunks = f64::from(tokens.div_ceil(CHUNK));
            let truth = 9.0 * chunks + 0.0425 * f64::from(tokens);
            let wild = if number % 5 == 0 { 4.0 } else { 0.95 + 0.1 * rng.unit() };
            found = learner.observe(tokens, truth * wild).or(found);
        }
        let Profile { base, token, .. } = found.expect("a profile");
        assert!((0.040..0.046).contains(&token) && (6.0..14.0).contains(&base), "{base} {token}");
    }

    #[test]
    fn prompts_alike_and_times_that_have_nothing_to_do_with_them_teach_nothing() {
        let (mut alike, mut any, mut rng) = (Learner::default(), Learner::default(), Rng::new(2));
        for _ in 0..500 {
            let time = 300.0 + 10.0 * rng.unit();
            assert_eq!(alike.observe(1000, time), None);
            assert_eq!(any.observe(1 + rng.below(3) as u32, 40.0 * time * rng.unit()), None);
        }
    }
}
