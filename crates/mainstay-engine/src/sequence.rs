//! One request inside the engine: its tokens, its pages, and the way of its answer to text.

use crate::cache::{Cache, Page};
use crate::error::Refusal;
use crate::journal::Journal;
use crate::sampler::{Allowed, Sampling};
use crate::stop::{Passed, StopFilter};
use crate::tokenizer::{Detokenizer, Vocabulary};
use std::hash::{BuildHasher, Hasher, RandomState};

/// Names a request inside one engine; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

/// A request.
#[derive(Clone)]
pub struct Work {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    /// Tokens of the answer at most, those of the journal included. What the context window does
    /// not hold is cut off.
    pub max_tokens: usize,
    /// The answer ends before the first of these.
    pub stop: Vec<String>,
    /// Go on where another run of the same request was.
    pub journal: Option<Journal>,
    pub allowed: Option<Allowed>,
}

impl Default for Work {
    fn default() -> Work {
        Work {
            prompt: Vec::new(),
            sampling: Sampling::default(),
            max_tokens: usize::MAX,
            stop: Vec::new(),
            journal: None,
            allowed: None,
        }
    }
}

/// One more token of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub id: SequenceId,
    pub token: u32,
    /// Tokens of the answer so far, this one included; the sampler's position in the journal.
    pub tokens: usize,
    /// The text that became certain with it: empty while a character is incomplete, a stop string
    /// is possible, or the token is hidden.
    pub text: String,
    /// Set on the last report of a request; its pages are free by then.
    pub finish: Option<Finish>,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it, or a stop string was met.
    Stop,
    /// `max_tokens` or the context window is used up.
    Length,
    /// The engine failed: the weights gave no numbers, no token was allowed, or a bug. `token` is
    /// meaningless. The same request may well succeed elsewhere.
    Failed,
}

pub(crate) struct Sequence {
    pub id: SequenceId,
    /// Prompt and answer.
    pub tokens: Vec<u32>,
    prompt: usize,
    /// Tokens whose keys and values are in the cache.
    pub computed: usize,
    pub pages: Vec<Page>,
    sampling: Sampling,
    seed: u64,
    /// Length of prompt and answer at which the answer is cut off.
    tokens_max: usize,
    allowed: Option<Allowed>,
    text: Detokenizer,
    stops: StopFilter,
}

/// What bounds a request.
pub(crate) struct Bounds {
    pub vocabulary: usize,
    /// Tokens a sequence may hold, by the model and by the cache.
    pub tokens: usize,
}

impl Sequence {
    /// Checks a request and makes it ready to run.
    pub fn new(
        id: SequenceId,
        work: Work,
        bounds: &Bounds,
        vocabulary: &Vocabulary,
    ) -> Result<Sequence, Refusal> {
        work.sampling.check().map_err(Refusal::BadSetting)?;
        if work.max_tokens == 0 {
            return Err(Refusal::BadSetting("max_tokens must be 1 or more"));
        }
        let prompt = work.prompt.len();
        if prompt == 0 {
            return Err(Refusal::EmptyPrompt);
        }
        if prompt >= bounds.tokens {
            return Err(Refusal::TooLong { tokens: prompt + 1, limit: bounds.tokens });
        }
        let seed = work.sampling.seed.unwrap_or_else(fresh_seed);
        let journal = work.journal.unwrap_or(Journal { seed, tokens: Vec::new() });
        let tokens_max = prompt.saturating_add(work.max_tokens).min(bounds.tokens);
        if prompt + journal.tokens.len() >= tokens_max {
            return Err(Refusal::AlreadyFinished);
        }
        let mut sequence = Sequence {
            id,
            tokens: work.prompt,
            prompt,
            computed: 0,
            pages: Vec::new(),
            sampling: work.sampling,
            seed: journal.seed,
            tokens_max,
            allowed: work.allowed,
            text: Detokenizer::default(),
            stops: StopFilter::new(work.stop).map_err(Refusal::BadSetting)?,
        };
        for token in &journal.tokens {
            // Replayed for the state it leaves behind; this text was handed out by the first run.
            let text = sequence.text.push(vocabulary, *token);
            if let Passed::Stop(_) = sequence.stops.push(&text) {
                return Err(Refusal::AlreadyFinished);
            }
        }
        sequence.tokens.extend(journal.tokens);
        let unknown = |token: &&u32| **token as usize >= bounds.vocabulary;
        match sequence.tokens.iter().find(unknown) {
            Some(token) => Err(Refusal::UnknownToken(*token)),
            None => Ok(sequence),
        }
    }

    pub fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    pub fn journal(&self) -> Journal {
        Journal { seed: self.seed, tokens: self.answer().to_vec() }
    }

    /// Tokens not yet in the cache; 1 while decoding.
    pub fn pending(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// Gives all pages back. The sequence can start over: its tokens are kept.
    pub fn release(&mut self, cache: &mut Cache) {
        self.pages.drain(..).for_each(|page| cache.release(page));
        self.computed = 0;
    }

    /// Chooses the next token and reports it.
    pub fn advance(
        &mut self,
        logits: &mut [f32],
        vocabulary: &Vocabulary,
        end_tokens: &[u32],
    ) -> Progress {
        let answer = &self.tokens[self.prompt..];
        let picked = self.sampling.pick(self.seed, answer, logits, self.allowed.as_ref());
        let Some(token) = picked else { return self.failed() };
        self.tokens.push(token);
        if end_tokens.contains(&token) {
            let rest = self.text.finish(vocabulary);
            return self.last(token, rest, Finish::Stop);
        }
        let text = self.text.push(vocabulary, token);
        if self.tokens.len() >= self.tokens_max {
            let rest = text + &self.text.finish(vocabulary);
            return self.last(token, rest, Finish::Length);
        }
        let (text, finish) = match self.stops.push(&text) {
            Passed::Text(text) => (text, None),
            Passed::Stop(text) => (text, Some(Finish::Stop)),
        };
        Progress { id: self.id, token, tokens: self.answer().len(), text, finish }
    }

    /// The report of a failure.
    pub fn failed(&self) -> Progress {
        let tokens = self.answer().len();
        let finish = Some(Finish::Failed);
        Progress { id: self.id, token: 0, tokens, text: String::new(), finish }
    }

    /// The last report: the rest of the text, with nothing held back.
    fn last(&mut self, token: u32, rest: String, finish: Finish) -> Progress {
        let (text, finish) = match self.stops.push(&rest) {
            Passed::Text(text) => (text + &self.stops.finish(), finish),
            Passed::Stop(text) => (text, Finish::Stop),
        };
        Progress { id: self.id, token, tokens: self.answer().len(), text, finish: Some(finish) }
    }
}

/// The standard library's hash keys are random in each process and differ from call to call.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
