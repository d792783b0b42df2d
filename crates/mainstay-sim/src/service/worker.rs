//! A worker that jumps from one first token or end to the next.
//!
//! Between two such moments all steps are alike but for their context, so their time has a closed
//! form. A newcomer waits for the end of the step under way, as at a real engine.

use super::plan::Plan;
use super::profile::pairs;
use super::{Happened, Noise, Profile, Sequence, SequenceId, What, millis};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A sequence before its first token, or put off.
#[derive(Clone, Copy, Debug)]
struct Prefill {
    id: SequenceId,
    prompt: u32,
    done: u32,
    output: u32,
    made: u32,
}

/// Prefill not yet done, of all: kept as sums, since whoever chooses a worker asks often.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    tokens: u64,
    /// Twice the pairs: those of tokens from `a` up to `b` are half of b² − a².
    squares: u64,
}

impl Left {
    fn add(&mut self, from: u32, to: u32) {
        self.tokens += u64::from(to - from);
        self.squares += u64::from(to).pow(2) - u64::from(from).pow(2);
    }

    fn take(&mut self, from: u32, to: u32) {
        self.tokens -= u64::from(to - from);
        self.squares -= u64::from(to).pow(2) - u64::from(from).pow(2);
    }
}

/// A sequence that gives tokens.
#[derive(Clone, Copy, Debug)]
struct Decode {
    /// The step with its last token.
    end: u64,
    /// Its context after step `since`.
    context: u32,
    since: u64,
    made: u32,
    output: u32,
}

/// The worker.
#[derive(Clone, Debug)]
pub struct Worker {
    profile: Profile,
    noise: Noise,
    rng: Rng,
    slowness: f64,
    waiting: VecDeque<Prefill>,
    /// Those with KV, the first of which is under way.
    prefills: VecDeque<Prefill>,
    decodes: BTreeMap<SequenceId, Decode>,
    ends: BTreeSet<(u64, SequenceId)>,
    /// Tokens of context of all decodes.
    context: u64,
    /// KV that prefills hold.
    reserved: u64,
    left: Left,
    /// Steps so far.
    step: u64,
    /// The run of steps under way, and when it began.
    plan: Plan,
    began: Time,
    admitted: u64,
    put_off: u64,
}

impl Worker {
    /// An idle worker whose steps take what its profile says.
    pub fn new(profile: Profile) -> Worker {
        Worker::with_noise(profile, Noise::NONE, 0)
    }

    /// An idle worker whose steps vary.
    pub fn with_noise(profile: Profile, noise: Noise, seed: u64) -> Worker {
        Worker {
            profile,
            noise,
            rng: Rng::new(seed),
            slowness: 1.0,
            waiting: VecDeque::new(),
            prefills: VecDeque::new(),
            decodes: BTreeMap::new(),
            ends: BTreeSet::new(),
            context: 0,
            reserved: 0,
            left: Left::default(),
            step: 0,
            plan: Plan::default(),
            began: Time::ZERO,
            admitted: 0,
            put_off: 0,
        }
    }

    /// Takes a sequence in. Whatever is over by `now` must have been taken by `advance`.
    pub fn admit(&mut self, now: Time, sequence: Sequence) -> SequenceId {
        self.admitted += 1;
        let id = SequenceId(self.admitted);
        let prompt = sequence.prompt.max(1);
        let done = sequence.cached.min(prompt - 1);
        let output = sequence.output.max(1);
        self.left.add(done, prompt);
        self.waiting.push_back(Prefill { id, prompt, done, output, made: 0 });
        self.interrupt(now);
        id
    }

    /// Takes a sequence out whose answer nobody wants any more.
    pub fn abort(&mut self, now: Time, id: SequenceId) {
        self.interrupt_with(now, |worker| {
            let at = |all: &VecDeque<Prefill>| all.iter().position(|one| one.id == id);
            if let Some(one) = at(&worker.waiting).and_then(|at| worker.waiting.remove(at)) {
                worker.left.take(one.done, one.prompt);
            }
            if let Some(one) = at(&worker.prefills).and_then(|at| worker.prefills.remove(at)) {
                worker.left.take(one.done, one.prompt);
                worker.reserved -= u64::from(one.prompt);
            }
            worker.drop_decode(id);
        });
    }

    /// From now on every step takes so many times as long.
    pub fn slow(&mut self, now: Time, slowness: f64) {
        self.interrupt_with(now, |worker| worker.slowness = slowness);
    }

    /// The next moment a first token or an end happens.
    pub fn next(&self) -> Option<Time> {
        (self.plan.steps > 0).then(|| self.after(self.plan.steps))
    }

    /// Lets happen what is over by `now`.
    pub fn advance(&mut self, now: Time, happened: &mut Vec<Happened>) {
        while let Some(at) = self.next()
            && at <= now
        {
            self.take(self.plan.steps, Some((at, &mut *happened)));
            self.began = at;
            self.replan();
        }
    }

    /// Time that prefill not yet done would take now, without anything after it.
    pub fn outstanding(&self) -> Duration {
        let beside = (self.decodes.len() as u32, self.context as f64);
        let pairs = self.left.squares as f64 / 2.0;
        millis(self.slowness * self.profile.backlog(self.left.tokens, pairs, beside))
    }

    /// How long a step takes now with nothing but the answers under way: the pace of their tokens.
    pub fn pace(&self) -> Duration {
        let decodes = (self.decodes.len() as u32).max(1);
        millis(self.slowness * self.profile.step(decodes, self.context as f64, 0, 0.0))
    }

    /// Sequences not ended.
    pub fn sequences(&self) -> usize {
        self.waiting.len() + self.prefills.len() + self.decodes.len()
    }

    /// Tokens of KV in use.
    pub fn kv_used(&self) -> u64 {
        self.context + self.reserved
    }

    /// How often a sequence was put off because KV was full.
    pub fn put_off(&self) -> u64 {
        self.put_off
    }

    /// Steps so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    fn after(&self, steps: u32) -> Time {
        self.began + millis(self.plan.time(&self.profile, steps))
    }

    fn interrupt(&mut self, now: Time) {
        self.interrupt_with(now, |_| ());
    }

    /// Ends the run at the end of the step under way, makes a change, and plans anew.
    fn interrupt_with(&mut self, now: Time, change: impl FnOnce(&mut Worker)) {
        if self.plan.steps == 0 {
            self.began = self.began.max(now);
        } else if self.began <= now {
            let passed = now.since(self.began).as_secs_f64() * 1000.0;
            let steps = self.plan.over(&self.profile, passed) + 1;
            if steps < self.plan.steps {
                let at = self.after(steps);
                self.take(steps, None);
                self.began = at;
            } else {
                // Its last step is under way: what happens at its end is as planned, unless the
                // change takes it away.
                change(self);
                return;
            }
        }
        change(self);
        self.replan();
    }

    /// Counts the run's first `steps` as done; what happens at their end is told.
    fn take(&mut self, steps: u32, told: Option<(Time, &mut Vec<Happened>)>) {
        let is_whole = steps == self.plan.steps;
        let tokens = self.plan.prefill(steps);
        self.step += u64::from(steps);
        self.context += self.decodes.len() as u64 * u64::from(steps);
        let mut sink = Vec::new();
        let (at, happened) = told.unwrap_or((self.began, &mut sink));
        if is_whole {
            while let Some(&(end, id)) = self.ends.first()
                && end <= self.step
            {
                self.drop_decode(id);
                happened.push(Happened { id, at, what: What::Ended });
            }
        }
        self.prefill(tokens, at, happened);
    }

    /// Spends so many tokens of prefill on those that are first.
    fn prefill(&mut self, mut tokens: u32, at: Time, happened: &mut Vec<Happened>) {
        while tokens > 0
            && let Some(first) = self.prefills.front_mut()
        {
            let some = tokens.min(first.prompt - first.done);
            tokens -= some;
            self.left.take(first.done, first.done + some);
            first.done += some;
            if first.done < first.prompt {
                return;
            }
            let Some(one) = self.prefills.pop_front() else { return };
            self.reserved -= u64::from(one.prompt);
            let made = one.made + 1;
            if made == 1 {
                happened.push(Happened { id: one.id, at, what: What::FirstToken });
            }
            if made >= one.output {
                happened.push(Happened { id: one.id, at, what: What::Ended });
                continue;
            }
            let end = self.step + u64::from(one.output - made);
            let (context, since, output) = (one.prompt, self.step, one.output);
            self.decodes.insert(one.id, Decode { end, context, since, made, output });
            self.ends.insert((end, one.id));
            self.context += u64::from(context);
        }
    }

    /// Removes a decode, and says how it stood: context and tokens made.
    fn drop_decode(&mut self, id: SequenceId) -> Option<(u32, u32, u32)> {
        let one = self.decodes.remove(&id)?;
        self.ends.remove(&(one.end, id));
        let more = (self.step - one.since) as u32;
        self.context -= u64::from(one.context + more);
        Some((one.context + more, one.made + more, one.output))
    }

    /// The next run: until the first prompt is done, the first answer ends, or KV is full.
    fn replan(&mut self) {
        self.make_room();
        self.begin_prefills();
        let decodes = self.decodes.len() as u32;
        let budget = self.profile.budget(decodes);
        let mut steps = u32::MAX;
        if let Some((end, _)) = self.ends.first() {
            steps = (end - self.step).clamp(1, u64::from(u32::MAX)) as u32;
            let room = self.profile.kv_tokens.saturating_sub(self.kv_used()) / u64::from(decodes);
            steps = steps.min(room.clamp(1, u64::from(u32::MAX)) as u32);
        }
        let Some(first) = self.prefills.front() else {
            let steps = if decodes == 0 { 0 } else { steps };
            let factor = self.factor(steps);
            self.plan = Plan::new(steps, (decodes, self.context as f64), factor);
            return;
        };
        let left = first.prompt - first.done;
        let before = first.done;
        steps = steps.min(left.div_ceil(budget));
        let last = self.last_chunk(budget, steps);
        let factor = self.factor(steps);
        let plan = Plan::new(steps, (decodes, self.context as f64), factor);
        self.plan = plan.with_prefill(budget, before, last);
    }

    /// Prefill in the last of so many steps: what is left of the first prompt, and others behind
    /// it if that leaves room.
    fn last_chunk(&self, budget: u32, steps: u32) -> (u32, f64) {
        let (mut room, mut all) = (budget, 0.0);
        let mut spent = budget.saturating_mul(steps - 1);
        for one in &self.prefills {
            let left = one.prompt - one.done - spent;
            let some = room.min(left);
            all += pairs(some, one.done + spent);
            room -= some;
            spent = 0;
            if room == 0 {
                break;
            }
        }
        (budget - room, all)
    }

    fn factor(&mut self, steps: u32) -> f64 {
        self.slowness * self.noise.draw(&mut self.rng, steps)
    }

    /// Gives KV to those that wait, as many as the next steps can use.
    fn begin_prefills(&mut self) {
        let budget = u64::from(self.profile.budget(self.decodes.len() as u32));
        let left = |one: &Prefill| u64::from(one.prompt - one.done);
        // The first prompt's last step has room for less than one budget of others.
        let mut others: u64 = self.prefills.iter().skip(1).map(left).sum();
        while (others < budget || self.prefills.is_empty())
            && let Some(next) = self.waiting.front()
        {
            let held = self.decodes.len() + self.prefills.len();
            let fits = self.profile.fits(self.kv_used(), next.prompt) || held == 0;
            if !fits || held >= self.profile.sequences as usize {
                return;
            }
            others += if self.prefills.is_empty() { 0 } else { left(next) };
            self.reserved += u64::from(next.prompt);
            self.prefills.extend(self.waiting.pop_front());
        }
    }

    /// Puts the newest off until every decode has room for its next token.
    fn make_room(&mut self) {
        while self.kv_used() + self.decodes.len() as u64 > self.profile.kv_tokens
            && self.decodes.len() + self.prefills.len() > 1
        {
            let newest = self.decodes.last_key_value().map(|(id, _)| *id);
            let prefill = self.prefills.back().filter(|one| newest.is_none_or(|id| one.id > id));
            let put_off = match (prefill.is_some(), newest) {
                (false, Some(id)) => {
                    let Some((context, made, output)) = self.drop_decode(id) else { return };
                    Prefill { id, prompt: context, done: 0, output, made }
                }
                _ => {
                    let Some(one) = self.prefills.pop_back() else { return };
                    self.reserved -= u64::from(one.prompt);
                    self.left.take(one.done, one.prompt);
                    Prefill { done: 0, ..one }
                }
            };
            self.put_off += 1;
            self.left.add(0, put_off.prompt);
            self.waiting.push_front(put_off);
        }
    }
}
