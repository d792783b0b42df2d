//! One request inside the engine: its tokens, its pages, and the way of its answer to text.

use crate::cache::{Before, Ledger, Page};
use crate::error::Refusal;
use crate::grammar::{Grammar, Held, Next};
use crate::journal::Journal;
use crate::sampler::{Allowed, Past, Sampling, Scores, Thoughts};
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
    /// What the answer is held to.
    pub grammar: Option<Grammar>,
    /// Report what the model thought of each token, and of so many of the likeliest others.
    pub scores: Option<usize>,
    /// Requests of different salts never share what is cached, so that the time of an answer tells
    /// nobody what others asked.
    pub salt: u64,
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
            grammar: None,
            scores: None,
            salt: 0,
        }
    }
}

/// One more token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub id: SequenceId,
    pub token: u32,
    /// Tokens of the answer so far, this one included; the sampler's position in the journal.
    pub tokens: usize,
    /// Tokens of the prompt that were in the cache when the request began.
    pub cached: usize,
    /// The text that became certain with it: empty while a character is incomplete, a stop string
    /// is possible, or the token is hidden.
    pub text: String,
    /// What the model thought of the token, if [`Work::scores`] asked for it.
    pub scores: Option<Scores>,
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
    /// Tokens that were computed before this step.
    pub step_from: usize,
    /// Whether a part of it is on its way through the layers, from one step to the next.
    pub is_entering: bool,
    /// A guess of the token behind the last one.
    pub draft: Option<u32>,
    /// Tokens that the drafting layer took in, and what left the model's last layer at the last
    /// computed one; nothing where that is not known.
    pub drafted: usize,
    pub state: Vec<f32>,
    /// How many of them, from the first, are full and in the index.
    published: usize,
    salt: u64,
    /// Tokens found in the cache, and whether more of them still count: what a sequence finds of
    /// its own when it starts over does not.
    found: usize,
    is_fresh: bool,
    sampling: Sampling,
    seed: u64,
    /// Length of prompt and answer at which the answer is cut off.
    tokens_max: usize,
    allowed: Option<Allowed>,
    held: Option<Held>,
    /// How many of the likeliest tokens are told.
    scores: Option<usize>,
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
    /// Checks a request and makes it ready to run. `held` is its grammar at its beginning.
    pub fn new(
        id: SequenceId,
        work: Work,
        bounds: &Bounds,
        vocabulary: &Vocabulary,
        held: Option<Held>,
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
            step_from: 0,
            is_entering: false,
            draft: None,
            drafted: 0,
            state: Vec::new(),
            published: 0,
            salt: work.salt,
            found: 0,
            is_fresh: true,
            sampling: work.sampling,
            seed: journal.seed,
            tokens_max,
            allowed: work.allowed,
            held,
            scores: work.scores,
            text: Detokenizer::default(),
            stops: StopFilter::new(work.stop).map_err(Refusal::BadSetting)?,
        };
        for token in &journal.tokens {
            if !sequence.held.as_mut().is_none_or(|held| held.push(*token)) {
                let what = "the journal's tokens do not fit the grammar".to_owned();
                return Err(Refusal::BadGrammar(what));
            }
            // Replayed for the state it leaves behind; this text was handed out by the first run.
            let text = sequence.text.push(vocabulary, *token);
            if let Passed::Stop(_) = sequence.stops.push(&text) {
                return Err(Refusal::AlreadyFinished);
            }
        }
        sequence.tokens.extend(journal.tokens);
        let unknown = |token: &&u32| **token as usize >= bounds.vocabulary;
        let biased = sequence.sampling.bias.iter().map(|(token, _)| token);
        match sequence.tokens.iter().chain(biased).find(unknown) {
            Some(token) => Err(Refusal::UnknownToken(*token)),
            None => Ok(sequence),
        }
    }

    /// Tokens of the prompt.
    pub fn prompt(&self) -> usize {
        self.prompt
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

    /// Whether all but its last token is in the cache: each step gives it one more.
    pub fn is_decoding(&self) -> bool {
        self.pending() == 1 && !self.is_entering
    }

    /// The pages in the index that it may go on with, in order. One token at least is left to
    /// compute: without one there are no logits.
    pub fn known(&self, ledger: &Ledger) -> Vec<Page> {
        let (size, mut at) = (ledger.page_tokens(), self.computed);
        let mut known = Vec::new();
        if at != self.pages.len() * size {
            return known;
        }
        let mut before = self.before(self.pages.len());
        while at + size < self.tokens.len() {
            let Some(page) = ledger.find(before, &self.tokens[at..at + size]) else { break };
            known.push(page);
            before = Before::Page(page);
            at += size;
        }
        known
    }

    /// Goes on with the pages in the index instead of computing them.
    pub fn adopt(&mut self, ledger: &mut Ledger) {
        for page in self.known(ledger) {
            ledger.share(page);
            self.pages.push(page);
            self.published += 1;
            self.computed += ledger.page_tokens();
            // Whoever computed the page took it in as well.
            self.drafted = self.computed;
            self.state.clear();
            self.found += if self.is_fresh { ledger.page_tokens() } else { 0 };
        }
    }

    /// Puts the pages that are full by now into the index.
    pub fn publish(&mut self, ledger: &mut Ledger) {
        let size = ledger.page_tokens();
        while (self.published + 1) * size <= self.computed {
            let at = self.published;
            let tokens = &self.tokens[at * size..(at + 1) * size];
            self.pages[at] = ledger.publish(self.before(at), tokens, self.pages[at]);
            self.published += 1;
        }
    }

    /// What stands before its page `at`.
    fn before(&self, at: usize) -> Before {
        match at.checked_sub(1) {
            Some(before) => Before::Page(self.pages[before]),
            None => Before::Salt(self.salt),
        }
    }

    /// Sees to pages for so many tokens, as far as there are any that nobody holds.
    pub fn grow(&mut self, tokens: usize, ledger: &mut Ledger) -> bool {
        while self.pages.len() < ledger.pages_for(tokens) {
            let Some(page) = ledger.take() else { return false };
            self.pages.push(page);
        }
        true
    }

    /// Whether so many more tokens may follow the last.
    pub fn has_room(&self, tokens: usize) -> bool {
        self.tokens.len() + tokens <= self.tokens_max
    }

    /// What it would choose if the logits behind its last token were these: a guess of it where
    /// they are a guess. A grammar is not asked.
    pub fn guess(&self, logits: &mut [f32]) -> Option<u32> {
        let (prompt, answer) = self.tokens.split_at(self.prompt);
        self.sampling.pick(self.seed, &Past { prompt, answer }, logits, self.allowed.as_ref())
    }

    /// Gives all pages back. The sequence can start over: its tokens are kept.
    pub fn release(&mut self, ledger: &mut Ledger) {
        self.pages.drain(..).rev().for_each(|page| ledger.release(page));
        (self.computed, self.published, self.is_fresh) = (0, 0, false);
        self.is_entering = false;
        (self.draft, self.drafted) = (None, 0);
        self.state.clear();
    }

    /// Chooses the next token and reports it.
    pub fn advance(
        &mut self,
        logits: &mut [f32],
        vocabulary: &Vocabulary,
        end_tokens: &[u32],
    ) -> Progress {
        let thoughts = self.scores.map(|top| Thoughts::of(logits, top));
        let next = self.held.as_mut().map_or(Next::Some, |held| held.restrict(logits, end_tokens));
        let (prompt, answer) = self.tokens.split_at(self.prompt);
        let past = Past { prompt, answer };
        let picked = match next {
            Next::Some => self.sampling.pick(self.seed, &past, logits, self.allowed.as_ref()),
            // Without an end token of its own the model cannot say so, but it is the end.
            Next::End => Some(end_tokens.first().copied().unwrap_or_default()),
            Next::Stuck => None,
        };
        let Some(token) = picked else { return self.failed() };
        self.tokens.push(token);
        let progress = self.told(token, next == Next::End, vocabulary, end_tokens);
        Progress { scores: thoughts.map(|thoughts| thoughts.about(token)), ..progress }
    }

    /// What the token just chosen means for the answer.
    fn told(
        &mut self,
        token: u32,
        is_end: bool,
        vocabulary: &Vocabulary,
        end_tokens: &[u32],
    ) -> Progress {
        if is_end || end_tokens.contains(&token) {
            let rest = self.text.finish(vocabulary);
            return self.last(token, rest, Finish::Stop);
        }
        if !self.held.as_mut().is_none_or(|held| held.push(token)) {
            return self.failed();
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
        self.progress(token, text, finish)
    }

    /// The report of a failure.
    pub fn failed(&self) -> Progress {
        self.progress(0, String::new(), Some(Finish::Failed))
    }

    /// The last report: the rest of the text, with nothing held back.
    fn last(&mut self, token: u32, rest: String, finish: Finish) -> Progress {
        let (text, finish) = match self.stops.push(&rest) {
            Passed::Text(text) => (text + &self.stops.finish(), finish),
            Passed::Stop(text) => (text, Finish::Stop),
        };
        self.progress(token, text, Some(finish))
    }

    fn progress(&self, token: u32, text: String, finish: Option<Finish>) -> Progress {
        let (tokens, cached) = (self.answer().len(), self.found.min(self.prompt));
        Progress { id: self.id, token, tokens, cached, text, scores: None, finish }
    }
}

/// The standard library's hash keys are random in each process and differ from call to call.
fn fresh_seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
