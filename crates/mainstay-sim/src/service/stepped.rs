//! A worker computed step by step: the measure for the one that jumps.

use super::profile::pairs;
use super::{Happened, Noise, Profile, Sequence, SequenceId, What, millis};
use mainstay_core::rng::Rng;
use mainstay_core::time::Time;
use std::collections::VecDeque;

/// One sequence that holds KV, or waits for it.
#[derive(Clone, Copy, Debug)]
struct Running {
    id: SequenceId,
    /// Tokens to prefill in all: the prompt, and after having been put off what was made too.
    prompt: u32,
    /// Tokens whose KV is there.
    done: u32,
    output: u32,
    made: u32,
    /// Tokens of prefill in the step under way.
    chunk: u32,
}

impl Running {
    fn is_decoding(&self) -> bool {
        self.done >= self.prompt
    }
}

/// The worker.
#[derive(Clone, Debug)]
pub struct Stepped {
    profile: Profile,
    noise: Noise,
    rng: Rng,
    waiting: VecDeque<Running>,
    running: Vec<Running>,
    until: Option<Time>,
    admitted: u64,
    put_off: u64,
    steps: u64,
}

impl Stepped {
    /// An idle worker.
    pub fn new(profile: Profile, noise: Noise, seed: u64) -> Stepped {
        Stepped {
            profile,
            noise,
            rng: Rng::new(seed),
            waiting: VecDeque::new(),
            running: Vec::new(),
            until: None,
            admitted: 0,
            put_off: 0,
            steps: 0,
        }
    }

    /// Takes a sequence in; it joins the next step that has room.
    pub fn admit(&mut self, now: Time, sequence: Sequence) -> SequenceId {
        self.admitted += 1;
        let id = SequenceId(self.admitted);
        let prompt = sequence.prompt.max(1);
        let done = sequence.cached.min(prompt - 1);
        let output = sequence.output.max(1);
        self.waiting.push_back(Running { id, prompt, done, output, made: 0, chunk: 0 });
        if self.until.is_none() {
            self.step(now);
        }
        id
    }

    /// When the present step ends.
    pub fn next(&self) -> Option<Time> {
        self.until
    }

    /// Ends every step that is over by `now`, and begins those after them.
    pub fn advance(&mut self, now: Time, happened: &mut Vec<Happened>) {
        while let Some(until) = self.until
            && until <= now
        {
            self.finish(until, happened);
            self.step(until);
        }
    }

    /// Sequences not ended.
    pub fn outstanding(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Tokens of KV in use.
    pub fn kv_used(&self) -> u64 {
        self.running.iter().map(|one| u64::from(one.done.max(one.prompt))).sum()
    }

    /// How often a sequence was put off because KV was full.
    pub fn put_off(&self) -> u64 {
        self.put_off
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Begins a step: all decodes, then chunks of prefill up to the budget.
    pub fn step(&mut self, now: Time) {
        self.make_room();
        let decoding = |one: &&Running| one.is_decoding();
        let decodes = self.running.iter().filter(decoding).count() as u32;
        let context: f64 =
            self.running.iter().filter(decoding).map(|one| f64::from(one.done)).sum();
        let mut budget = self.profile.budget(decodes);
        let whole = budget;
        let mut all_pairs = 0.0;
        let mut used = self.kv_used();
        let mut at = 0;
        while budget > 0 {
            if at == self.running.len() {
                let fits = |one: &&Running| self.profile.fits(used, one.prompt);
                let has_room = self.running.len() < self.profile.sequences as usize;
                // Alone, one that does not fit at all must still end.
                let next = self.waiting.front().filter(|one| fits(one) || used == 0);
                let Some(next) = next.filter(|_| has_room).copied() else { break };
                self.waiting.pop_front();
                used += u64::from(next.prompt);
                self.running.push(next);
            }
            let one = &mut self.running[at];
            at += 1;
            if one.is_decoding() {
                continue;
            }
            one.chunk = budget.min(one.prompt - one.done);
            all_pairs += pairs(one.chunk, one.done);
            budget -= one.chunk;
        }
        self.until = None;
        if !self.running.is_empty() {
            let took = self.profile.step(decodes, context, whole - budget, all_pairs);
            let took = took * self.noise.draw(&mut self.rng, 1);
            self.until = Some(now + millis(took));
            self.steps += 1;
        }
    }

    /// Puts the newest off until every decode has room for its next token.
    fn make_room(&mut self) {
        loop {
            let decodes = self.running.iter().filter(|one| one.is_decoding()).count() as u64;
            if self.running.len() <= 1 || self.kv_used() + decodes <= self.profile.kv_tokens {
                return;
            }
            let newest = (0..self.running.len()).max_by_key(|at| self.running[*at].id);
            let Some(mut put_off) = newest.map(|at| self.running.remove(at)) else { return };
            put_off.prompt = put_off.prompt.max(put_off.done);
            put_off.done = 0;
            self.put_off += 1;
            self.waiting.push_front(put_off);
        }
    }

    fn finish(&mut self, at: Time, happened: &mut Vec<Happened>) {
        for one in &mut self.running {
            let chunk = std::mem::take(&mut one.chunk);
            let was_decoding = one.is_decoding();
            one.done += if was_decoding { 1 } else { chunk };
            if !one.is_decoding() {
                continue;
            }
            one.made += 1;
            if one.made == 1 {
                happened.push(Happened { id: one.id, at, what: What::FirstToken });
            }
            if one.made >= one.output {
                happened.push(Happened { id: one.id, at, what: What::Ended });
            }
        }
        self.running.retain(|one| one.made < one.output);
    }
}
