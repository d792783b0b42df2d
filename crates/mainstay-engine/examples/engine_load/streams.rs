//! Many streams at once on one engine, some of which leave early and some of which break.
//!
//! After every step everything that must hold is checked: each page is free, used or cached, no
//! stream but a broken one fails, and none waits longer than those before it take together.
//!
//! Waiting is counted in steps, in two kinds: for a first token, in a line of all who came before,
//! and between tokens, where only who had to make room for others waits for long.

use mainstay_engine::{Engine, Finish, Progress, Refusal, Sampling, SequenceId, Work};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a load is made of.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub streams: usize,
    pub seed: u64,
    /// Tokens of a prompt and of an answer at most.
    pub prompt_max: usize,
    pub answer_max: usize,
    /// Token ids to make prompts of: from the first of these to below the second.
    pub ids: (u32, u32),
    /// One in so many streams is left by its client; one in so many panics in its own constraint.
    pub leaves: u64,
    pub breaks: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Seen {
    pub steps: u64,
    pub tokens: u64,
    pub whole: u64,
    pub left: u64,
    pub broken: u64,
    /// Tokens of prompts, and those of them found in the cache.
    pub prompts: u64,
    pub cached: u64,
    /// Times to first tokens, and between tokens.
    pub ttft: Vec<Duration>,
    pub itl: Vec<Duration>,
    /// Most steps that a stream waited for its first token, and for any other.
    pub line_max: u64,
    pub wait_max: u64,
    /// Most steps that a first token took, in what those before it take together.
    pub line_share_max: f64,
}

struct Stream {
    id: SequenceId,
    work: Work,
    is_broken: bool,
    /// It leaves after so many tokens.
    leaves_at: Option<usize>,
    answer: Vec<u32>,
    heard: Instant,
    heard_at: u64,
    /// Steps in which all before it and itself are done, if only the oldest goes on in each.
    patience: u64,
}

/// The streams of one engine.
pub struct Streams {
    load: Load,
    random: u64,
    open: Vec<Stream>,
    reports: Vec<Progress>,
    /// Some whole answers, to be compared with the same request alone.
    pub kept: Vec<(Work, Vec<u32>)>,
    pub seen: Seen,
}

/// Whole answers to keep.
const KEPT: usize = 8;

impl Streams {
    pub fn new(load: Load) -> Streams {
        let (open, reports, kept) = (Vec::new(), Vec::new(), Vec::new());
        Streams { load, random: load.seed, open, reports, kept, seen: Seen::default() }
    }

    /// Keeps all streams open for one step.
    pub fn step(&mut self, engine: &mut Engine) {
        while self.open.len() < self.load.streams {
            self.submit(engine);
        }
        self.once(engine);
    }

    /// Steps until all streams have ended.
    pub fn drain(&mut self, engine: &mut Engine) {
        while !self.open.is_empty() {
            self.once(engine);
        }
        assert!(engine.is_idle());
        let pages = engine.pages();
        assert_eq!((pages.used, pages.free + pages.cached), (0, pages.total), "pages are lost");
    }

    fn submit(&mut self, engine: &mut Engine) {
        let is_broken = self.below(self.load.breaks) == 0;
        let leaves = self.below(self.load.leaves) == 0;
        let work = self.work(is_broken);
        let leaves_at = leaves.then(|| self.below(work.max_tokens as u64) as usize);
        let before: u64 = self.open.iter().map(|stream| steps(&stream.work)).sum();
        let patience = before + steps(&work);
        match engine.submit(work.clone()) {
            Ok(id) => self.open.push(Stream {
                id,
                work,
                is_broken,
                leaves_at,
                answer: Vec::new(),
                heard: Instant::now(),
                heard_at: self.seen.steps,
                patience,
            }),
            Err(Refusal::Busy { .. }) => panic!("the line must be as long as there are streams"),
            Err(refusal) => panic!("refused: {refusal}"),
        }
    }

    /// Half of all prompts begin with one of four beginnings; lengths spread over two magnitudes.
    fn work(&mut self, is_broken: bool) -> Work {
        let spread = |most: usize, part: u64| (most as u64 >> part).max(1);
        let part = self.below(5);
        let length = 1 + self.below(spread(self.load.prompt_max, part)) as usize;
        let salt = match self.below(2) {
            0 => self.below(4),
            _ => 4 + self.below(1 << 20),
        };
        let (first, end) = self.load.ids;
        let id = |at: u64| first + ((at + 1) * (salt * 37 + 11) % u64::from(end - first)) as u32;
        let mut prompt: Vec<u32> = (0..length as u64).map(id).collect();
        prompt.push(first + self.below(u64::from(end - first)) as u32);
        let part = self.below(5);
        let max_tokens = 1 + self.below(spread(self.load.answer_max, part)) as usize;
        let break_at = self.below(max_tokens as u64) as usize;
        let breaks = move |answer: &[u32], _: u32| match answer.len() == break_at {
            true => panic!("a stream that breaks on purpose"),
            false => true,
        };
        let seed = Some(self.below(1 << 30));
        Work {
            prompt,
            max_tokens,
            sampling: Sampling { temperature: 0.8, seed, ..Sampling::default() },
            allowed: is_broken.then(|| Arc::new(breaks) as _),
            ..Work::default()
        }
    }

    fn once(&mut self, engine: &mut Engine) {
        let random = &mut self.random;
        for stream in &mut self.open {
            if stream.leaves_at == Some(0) && next(random).is_multiple_of(4) {
                engine.cancel(stream.id);
                stream.leaves_at = None;
                stream.answer.push(u32::MAX);
                self.seen.left += 1;
            }
        }
        self.open.retain(|stream| stream.answer.last() != Some(&u32::MAX));
        let mut reports = std::mem::take(&mut self.reports);
        reports.clear();
        engine.step(&mut reports);
        self.seen.steps += 1;
        reports.iter().for_each(|report| self.hear(report));
        self.reports = reports;
        self.check(engine);
    }

    fn hear(&mut self, report: &Progress) {
        let at = self.open.iter().position(|stream| stream.id == report.id);
        let at = at.expect("a report about no open stream");
        let stream = &mut self.open[at];
        let (now, step) = (Instant::now(), self.seen.steps);
        let gap = now - std::mem::replace(&mut stream.heard, now);
        let waited = step - std::mem::replace(&mut stream.heard_at, step);
        match stream.answer.is_empty() {
            true => {
                self.seen.ttft.push(gap);
                self.seen.line_max = self.seen.line_max.max(waited);
                let share = waited as f64 / stream.patience as f64;
                self.seen.line_share_max = self.seen.line_share_max.max(share);
            }
            false => {
                self.seen.itl.push(gap);
                self.seen.wait_max = self.seen.wait_max.max(waited);
            }
        }
        if report.finish == Some(Finish::Failed) {
            assert!(stream.is_broken, "a stream failed that does nothing wrong");
            self.seen.broken += 1;
            self.open.remove(at);
            return;
        }
        stream.answer.push(report.token);
        stream.leaves_at = stream.leaves_at.map(|left| left.saturating_sub(1));
        self.seen.tokens += 1;
        if report.finish.is_some() {
            let stream = self.open.remove(at);
            self.seen.whole += 1;
            self.seen.prompts += stream.work.prompt.len() as u64;
            self.seen.cached += report.cached as u64;
            if self.kept.len() < KEPT && !stream.is_broken {
                self.kept.push((stream.work, stream.answer));
            }
        }
    }

    fn check(&self, engine: &Engine) {
        let pages = engine.pages();
        assert_eq!(pages.free + pages.used + pages.cached, pages.total, "a page is lost");
        // The oldest goes on in every step, so nobody waits longer than all before it compute.
        let starved = |stream: &Stream| self.seen.steps - stream.heard_at > stream.patience;
        assert!(!self.open.iter().any(starved), "a stream starves");
    }

    fn below(&mut self, bound: u64) -> u64 {
        next(&mut self.random) % bound.max(1)
    }
}

/// Steps that a request takes by itself at most: its prompt one token at a time, its answer, and
/// all of it once more if it had to make room before it was the oldest.
fn steps(work: &Work) -> u64 {
    2 * (work.prompt.len() + work.max_tokens + 1) as u64
}

/// Knuth's linear congruential generator.
fn next(random: &mut u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}
