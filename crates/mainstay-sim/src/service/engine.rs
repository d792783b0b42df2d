//! A worker step by step, with its prefix cache: what a scheduler is judged by, and the measure for
//! the worker that jumps.
//!
//! Each step takes all decodes, then chunks of prefill in the order of arrival up to the budget; an
//! engine that runs out of KV puts the newest off, which is computed again. Step times come from
//! measured operators where there are any, with noise, while a scheduler knows coefficients.

use super::cache::Cache;
use super::profile::pairs;
use super::{Noise, Profile, millis};
use mainstay_core::rng::Rng;
use mainstay_core::site::schedule::worker::Load;
use mainstay_core::time::Time;
use std::collections::VecDeque;
use std::sync::Arc;

/// What an engine is asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whose, for the caller.
    pub id: usize,
    /// Tokens of the prompt; at least one.
    pub prompt: u32,
    /// Of these, found in the cache whatever the keys say, for whoever keeps no keys.
    pub cached: u32,
    /// Tokens of the answer; at least one comes.
    pub output: u32,
    /// Keys of the prompt's blocks.
    pub keys: Arc<[u64]>,
}

/// What happened to a sequence at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Its first token came; so many tokens of its prompt had been cached.
    FirstToken {
        /// How many.
        cached: u32,
    },
    /// Its last token came.
    Ended,
}

#[derive(Debug)]
struct Sequence {
    asked: Asked,
    /// Tokens to prefill in all: the prompt, and after having been put off what was made too.
    prompt: u32,
    /// Tokens whose KV is there.
    done: u32,
    made: u32,
    cached: u32,
    /// Leading keys whose blocks it uses together with others.
    pinned: usize,
    /// Keys looked at so far: those that were there already have a block of its own.
    published: usize,
    /// Blocks of its own.
    own: u32,
    /// Tokens of prefill in the step under way.
    chunk: u32,
}

impl Sequence {
    fn is_decoding(&self) -> bool {
        self.done >= self.prompt
    }
}

/// The worker.
#[derive(Debug)]
pub struct Engine {
    profile: Profile,
    block: u32,
    noise: Noise,
    rng: Rng,
    cache: Cache,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    until: Option<Time>,
    /// Steps take this many times as long.
    slowness: f64,
    put_off: u64,
    steps: u64,
}

impl Engine {
    /// An idle worker with blocks of so many tokens.
    pub fn new(profile: Profile, block: u32, (noise, seed): (Noise, u64)) -> Engine {
        let blocks = (profile.kv_tokens / u64::from(block)) as u32;
        Engine {
            profile,
            block,
            noise,
            rng: Rng::new(seed),
            cache: Cache::new(blocks),
            waiting: VecDeque::new(),
            running: Vec::new(),
            until: None,
            slowness: 1.0,
            put_off: 0,
            steps: 0,
        }
    }

    /// From the next step on, steps take this many times as long.
    pub fn slow(&mut self, slowness: f64) {
        self.slowness = slowness;
    }

    /// Takes a sequence in; it joins the next step that has room.
    pub fn admit(&mut self, now: Time, asked: Asked) {
        let prompt = asked.prompt.max(1);
        self.waiting.push_back(Sequence {
            asked,
            prompt,
            done: 0,
            made: 0,
            cached: 0,
            pinned: 0,
            published: 0,
            own: 0,
            chunk: 0,
        });
        if self.until.is_none() {
            self.step(now);
        }
    }

    /// Forgets a sequence.
    pub fn abort(&mut self, id: usize) {
        self.waiting.retain(|one| one.asked.id != id);
        if let Some(at) = self.running.iter().position(|one| one.asked.id == id) {
            let one = self.running.remove(at);
            self.leave(&one);
        }
    }

    /// When the present step ends.
    pub fn next(&self) -> Option<Time> {
        self.until
    }

    /// Sequences not ended.
    pub fn sequences(&self) -> usize {
        self.waiting.len() + self.running.len()
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Tokens of KV that its sequences use, to a block.
    pub fn kv_used(&self) -> u64 {
        u64::from(self.cache.used()) * u64::from(self.block)
    }

    /// How often a sequence was put off because KV was full.
    pub fn put_off(&self) -> u64 {
        self.put_off
    }

    /// Ends the step that is over by `now`, if one is, and begins the next.
    pub fn advance(&mut self, now: Time, happened: &mut Vec<(usize, Told)>) {
        if self.until.is_some_and(|until| until <= now) {
            self.finish(happened);
            self.step(now);
        }
    }

    /// Keys that came into its cache, and that left it, since this was asked last.
    pub fn news(&mut self) -> (Vec<u64>, Vec<u64>) {
        self.cache.news()
    }

    /// What it says of its load.
    pub fn load(&self) -> Load {
        let undone = |one: &Sequence| u64::from(one.prompt.saturating_sub(one.done));
        let all = self.waiting.iter().chain(&self.running);
        let room = (self.profile.kv_tokens / u64::from(self.block)).max(1);
        Load {
            running: Some(self.running.len() as u32),
            waiting: Some(self.waiting.len() as u32),
            kv_used: Some(f64::from(self.cache.used()) / room as f64),
            prefill: Some(all.map(undone).sum()),
        }
    }

    fn step(&mut self, now: Time) {
        self.grow();
        let (mut decodes, mut context) = (0u32, 0u64);
        for one in self.running.iter().filter(|one| one.is_decoding()) {
            decodes += 1;
            context += u64::from(one.done);
        }
        let whole = self.profile.budget(decodes);
        let (mut budget, mut all_pairs, mut at) = (whole, 0.0, 0);
        while budget > 0 {
            if at == self.running.len() && !self.join() {
                break;
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
            let took = self.profile.step(decodes, context as f64, whole - budget, all_pairs);
            let took = took * self.slowness * self.noise.draw(&mut self.rng, 1);
            self.until = Some(now + millis(took));
            self.steps += 1;
        }
    }

    /// The first that waits begins to run, if it has room.
    fn join(&mut self) -> bool {
        if self.running.len() >= self.profile.sequences as usize {
            return false;
        }
        let Some(mut one) = self.waiting.pop_front() else { return false };
        let keys = one.asked.keys.clone();
        // The last token is always computed: it gives the first of the answer.
        let most = ((one.prompt - 1) / self.block) as usize;
        one.pinned = self.cache.matches(&keys).min(most);
        self.cache.pin(&keys[..one.pinned]);
        let mut own = one.prompt.div_ceil(self.block) - one.pinned as u32;
        let mut spare = self.blocks() / 100;
        if self.running.is_empty() {
            // Alone it gets all there is, and one that does not fit at all must still end.
            spare = 0;
            own = own.min(self.blocks() - self.cache.used());
        }
        // A hundredth stays free for the answers of those that run.
        if self.cache.used() + own + spare > self.blocks() || !self.cache.take(own) {
            self.cache.unpin(&keys[..one.pinned]);
            one.pinned = 0;
            self.waiting.push_front(one);
            return false;
        }
        one.own = own;
        one.published = one.pinned;
        let given = if one.made == 0 { one.asked.cached.min(one.prompt - 1) } else { 0 };
        one.done = (one.pinned as u32 * self.block).max(given);
        one.cached = if one.made == 0 { one.done } else { one.cached };
        self.running.push(one);
        true
    }

    fn blocks(&self) -> u32 {
        (self.profile.kv_tokens / u64::from(self.block)) as u32
    }

    /// Room for every decode's next token; the newest are put off until there is.
    fn grow(&mut self) {
        loop {
            let block = self.block;
            let full = |one: &Sequence| {
                one.is_decoding() && one.done == (one.own + one.pinned as u32) * block
            };
            let need: Vec<usize> =
                (0..self.running.len()).filter(|at| full(&self.running[*at])).collect();
            if self.cache.take(need.len() as u32) {
                need.into_iter().for_each(|at| self.running[at].own += 1);
                return;
            }
            if self.running.len() <= 1 {
                // Alone and larger than everything: it goes on without more.
                return;
            }
            let Some(mut newest) = self.running.pop() else { return };
            self.leave(&newest);
            newest.prompt = newest.prompt.max(newest.done);
            (newest.done, newest.own, newest.pinned, newest.published) = (0, 0, 0, 0);
            self.put_off += 1;
            self.waiting.push_front(newest);
        }
    }

    fn leave(&mut self, one: &Sequence) {
        self.cache.unpin(&one.asked.keys[..one.pinned]);
        self.cache.give(one.own);
    }

    fn finish(&mut self, happened: &mut Vec<(usize, Told)>) {
        for one in &mut self.running {
            let chunk = std::mem::take(&mut one.chunk);
            let was_decoding = one.is_decoding();
            one.done += if was_decoding { 1 } else { chunk };
            if !was_decoding {
                publish(one, &mut self.cache, self.block);
            }
            // Out of budget: it neither prefilled nor decoded.
            if !one.is_decoding() {
                continue;
            }
            one.made += 1;
            if one.made == 1 {
                happened.push((one.asked.id, Told::FirstToken { cached: one.cached }));
            }
            if one.made >= one.asked.output {
                happened.push((one.asked.id, Told::Ended));
            }
        }
        let mut at = 0;
        while at < self.running.len() {
            if self.running[at].made >= self.running[at].asked.output {
                let one = self.running.remove(at);
                self.leave(&one);
            } else {
                at += 1;
            }
        }
    }
}

/// Blocks of the prompt that are computed now are found by others. Where another sequence was
/// faster, its block has the key, and all after it stay this one's own.
fn publish(one: &mut Sequence, cache: &mut Cache, block: u32) {
    let whole = ((one.done / block) as usize).min(one.asked.keys.len());
    while one.published < whole {
        let is_own = one.pinned == one.published && one.own > 0;
        if is_own && cache.publish(one.asked.keys[one.published]) {
            one.pinned += 1;
            one.own -= 1;
        }
        one.published += 1;
    }
}
