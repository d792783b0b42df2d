//! A loaded model with its cache and its requests: the engine's whole public face.

mod computer;
mod drafting;
mod entry;
pub(crate) mod files;
#[cfg(test)]
mod tests;
mod twin;

use crate::attention::Slot;
use crate::cache::{Cache, Ledger, Page};
use crate::error::{LoadError, Refusal, TemplateError};
use crate::gguf::Gguf;
use crate::grammar::{Grammar, Grammars, Held};
use crate::journal::Journal;
use crate::kernels::Element;
use crate::model::{self, Batch, Passage, Passed};
use crate::pool::Pool;
use crate::sequence::{Bounds, Progress, Sequence, SequenceId, Work};
use crate::shape::{AttentionShape, Shape};
use crate::step::{Line, Pace, Share};
use crate::tokenizer::Hide;
use crate::weights::{Precision, Weights};
use computer::Computer;
pub use computer::Device;
use drafting::Drafting;
pub use drafting::{Drafted, Drafts};
use entry::Entry;
pub use files::Files;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use twin::Shared;
pub use twin::Twin;

/// What operators may choose; each has a default that suits one machine with one model.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory for keys and values at most. No more is taken than `batch_max` full contexts need.
    pub cache_bytes: usize,
    /// How keys and values are kept.
    pub kv: KvPrecision,
    /// How the weights are kept.
    pub weights: Precision,
    /// Tokens in a page of the cache.
    pub page_tokens: usize,
    /// Sequences that run at the same time.
    pub batch_max: usize,
    /// Requests that wait for a place; more are refused.
    pub waiting_max: usize,
    /// Tokens of prompts that go through the layers together at most. More are read faster, fewer
    /// cancel sooner.
    pub prefill_chunk: usize,
    /// How long a step may take while somebody's answer is being written: prompts get what is
    /// left of it, so that the gap between the tokens of others stays short.
    pub step_time: Duration,
    /// Threads for large matrices.
    pub threads: usize,
    /// Where the model is computed.
    pub device: Device,
    /// When a model that can guess the token after the next does so.
    pub drafts: Drafts,
    pub hide: Hide,
}

/// Heads that look at one latent row before its products cost more than reading and widening it.
/// The built-in model has fewer, and published ones 16 and more.
const PAIRED_HEADS: usize = 8;

/// Memory of a card for keys and values, sequences at once, and tokens of a prompt in a step: what
/// a card of 80 GB has room for beside a model of some gigabytes, and what keeps it busy.
const ON_CARD: (usize, usize, usize) = (8 << 30, 64, 2048);

impl Settings {
    /// What suits this device.
    pub fn on(device: Device) -> Settings {
        let settings = Settings { device, ..Settings::default() };
        match device {
            Device::Cpu => settings,
            Device::Cuda(_) => {
                let (cache_bytes, batch_max, prefill_chunk) = ON_CARD;
                Settings { cache_bytes, batch_max, prefill_chunk, ..settings }
            }
        }
    }
}

impl Settings {
    /// How numbers in the cache are kept where it is computed, for this kind of attention.
    fn element(&self, attention: &AttentionShape) -> Element {
        let is_busy = match attention {
            AttentionShape::Latent { heads, .. } => *heads >= PAIRED_HEADS,
            AttentionShape::Grouped { .. } => false,
        };
        match (self.kv, self.device) {
            (KvPrecision::F32, _) => Element::F32,
            (KvPrecision::F16, Device::Cpu) => Element::F16,
            (KvPrecision::Half, Device::Cpu) if !is_busy => Element::F16,
            (KvPrecision::Half | KvPrecision::F16 | KvPrecision::Bf16, _) => Element::Bf16,
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Settings {
            cache_bytes: 256 << 20,
            kv: KvPrecision::Half,
            weights: Precision::Stored,
            page_tokens: 32,
            batch_max: 8,
            waiting_max: 64,
            prefill_chunk: 64,
            // Below what a reader notices between two words.
            step_time: Duration::from_millis(40),
            // One core is left to the gateway: its clients must not feel the engine.
            threads: (cores - 1).max(1),
            device: Device::Cpu,
            drafts: Drafts::Measured,
            hide: Hide::Control,
        }
    }
}

/// How a cached number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    /// Exact; for comparing with a reference.
    F32,
    /// In two bytes, as suits who computes: on a processor `Bf16` for latent attention of many
    /// heads, which is bound by its products, and else `F16`.
    Half,
    /// Half the memory and traffic, 11 significant bits.
    F16,
    /// As small, 8 significant bits, never overflows. A card's rows are always so, if not exact.
    Bf16,
}

impl KvPrecision {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            KvPrecision::F32 => 4,
            KvPrecision::Half | KvPrecision::F16 | KvPrecision::Bf16 => 2,
        }
    }
}

/// What the engine knows of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    pub name: String,
    /// As in `config.json`.
    pub architecture: String,
    /// Tokens a sequence may hold, prompt and answer.
    pub context: usize,
    pub vocabulary: usize,
    pub layers: usize,
    /// Numbers in the weights.
    pub parameters: usize,
    pub kv_bytes_per_token: usize,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
}

/// Pages of the cache; `free + used + cached = total` between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub free: usize,
    /// Held by requests.
    pub used: usize,
    /// Held by nobody, kept for requests that begin with the same; as good as free.
    pub cached: usize,
    pub total: usize,
    pub tokens_per_page: usize,
    /// Memory of all pages together.
    pub bytes: usize,
}

/// A loaded model with its cache and its requests. Owned and driven by one thread.
pub struct Engine {
    /// What all engines of the same loaded model have in common.
    shared: Arc<Shared>,
    computer: Computer,
    /// Made at the first request that needs it.
    grammars: Option<Result<Grammars, String>>,
    cache: Cache,
    ledger: Ledger,
    line: Line,
    pace: Pace,
    drafting: Drafting,
    entry: Option<Entry>,
    pulse: Arc<AtomicU64>,
    last_id: u64,
    computed: u64,
}

impl Engine {
    /// Loads a GGUF file, or a model directory: `config.json`, `*.safetensors`, `tokenizer.json`,
    /// and if present `generation_config.json`, `tokenizer_config.json` and `chat_template.jinja`.
    pub fn load(path: &Path, settings: Settings) -> Result<Engine, LoadError> {
        if path.is_file() {
            let (file, tokenizer) = files::gguf(path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let gguf = Gguf::read(file, &tokenizer, &path.display().to_string())?;
            return Engine::from_parts(&name, gguf, settings);
        }
        let read = files::Directory::read(path)?;
        Engine::build(&read.files(), Weights::open(path)?, settings)
    }

    /// Loads a GGUF file that is in memory.
    pub fn from_gguf(
        name: &str,
        bytes: Cow<'static, [u8]>,
        settings: Settings,
    ) -> Result<Engine, LoadError> {
        Engine::from_parts(name, Gguf::read(bytes.into(), &[], name)?, settings)
    }

    fn from_parts(name: &str, gguf: Gguf, settings: Settings) -> Result<Engine, LoadError> {
        let files = Files {
            name,
            config: &gguf.config,
            tokenizer: &gguf.tokenizer,
            tokenizer_config: &gguf.tokenizer_config,
            ..Files::default()
        };
        Engine::build(&files, gguf.weights, settings)
    }

    /// Loads a model whose files are in memory, for example compiled into the binary.
    pub fn from_files(mut files: Files<'_>, settings: Settings) -> Result<Engine, LoadError> {
        let weights = std::mem::take(&mut files.weights);
        Engine::build(&files, Weights::from_source(weights.into())?, settings)
    }

    fn build(files: &Files<'_>, weights: Weights, settings: Settings) -> Result<Engine, LoadError> {
        let shape = Shape::read(files.config)?;
        let text = files::read_text(files, &shape, settings.hide)?;
        let pool = Pool::new(settings.threads);
        let page_tokens = settings.page_tokens.max(1);
        let settings = Settings {
            page_tokens,
            batch_max: settings.batch_max.max(1),
            prefill_chunk: settings.prefill_chunk.max(1),
            ..settings
        };
        let drafts = settings.device == Device::Cpu && model::drafts(&weights, &shape);
        let element = settings.element(&shape.attention);
        let [heads, row] = shape.attention.rows();
        let rows = [shape.layers + usize::from(drafts), heads, row];
        let mut card = ModelCard {
            name: files.name.to_owned(),
            architecture: shape.architecture.clone(),
            context: shape.context,
            vocabulary: shape.vocabulary,
            layers: shape.layers,
            parameters: 0,
            kv_bytes_per_token: rows.iter().product::<usize>() * element.bytes(),
            end_tokens: text.end_tokens,
        };
        let hidden = shape.hidden;
        let cache = twin::cache(&card, (rows, element), &settings)?;
        let weights = weights.prepared(settings.weights, pool);
        let computer = Computer::load(&weights, shape, &settings, cache.total() as usize)?;
        card.parameters = computer.parameters();
        let (vocabulary, template) = (text.vocabulary, text.template);
        let model = computer.model();
        let rows = (rows, element);
        let shared = Shared { card, vocabulary, template, settings, rows, hidden, drafts, model };
        Ok(Engine::around(Arc::new(shared), computer, cache))
    }

    fn around(shared: Arc<Shared>, computer: Computer, cache: Cache) -> Engine {
        Engine {
            computer,
            grammars: None,
            ledger: Ledger::new(cache.total(), shared.settings.page_tokens),
            cache,
            line: Line::default(),
            pace: Pace::default(),
            drafting: Drafting::default(),
            entry: None,
            pulse: Arc::default(),
            last_id: 0,
            computed: 0,
            shared,
        }
    }

    /// Counts parts of steps as they are done: who sees it stand still sees a step that hangs,
    /// however slow the model is.
    pub fn pulse(&self) -> Arc<AtomicU64> {
        self.pulse.clone()
    }

    /// What another engine of the same weights can be made of, should this one be lost.
    pub fn twin(&self) -> Twin {
        Twin(self.shared.clone())
    }

    pub fn model(&self) -> &ModelCard {
        &self.shared.card
    }

    pub fn pages(&self) -> Pages {
        Pages {
            free: self.ledger.free(),
            used: self.ledger.used(),
            cached: self.ledger.cached(),
            total: self.ledger.total(),
            tokens_per_page: self.shared.settings.page_tokens,
            bytes: self.cache.bytes(),
        }
    }

    /// Tokens that went through the model since it was loaded; those found in the cache did not.
    pub fn computed_tokens(&self) -> u64 {
        self.computed
    }

    /// How often a sequence was swapped out for want of pages since the model was loaded.
    pub fn swaps(&self) -> u64 {
        self.line.swaps
    }

    /// How many drafts were computed along since the model was loaded, and how many were kept.
    pub fn drafted(&self) -> Drafted {
        self.drafting.seen
    }

    /// The prompt text for OpenAI messages and tools, by the model's own chat template.
    pub fn render_chat(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.shared.template.render(messages, tools, add_generation_prompt)
    }

    /// Whether the chat template's own text holds `text`.
    pub fn template_mentions(&self, text: &str) -> bool {
        self.shared.template.mentions(text)
    }

    /// The tokens of a rendered prompt: special tokens in it are recognised, none are added.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.shared.vocabulary.tokenize(text)
    }

    /// The id of a token by its exact text, for building [`Work::allowed`].
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.shared.vocabulary.id(text)
    }

    /// The bytes of a token as they stand in a text; of a special token, its name.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        self.shared.vocabulary.bytes(token)
    }

    /// Takes a request in. It waits for a place if it must; its first token comes from a later
    /// [`Engine::step`].
    pub fn submit(&mut self, work: Work) -> Result<SequenceId, Refusal> {
        let waiting = self.line.waiting.len();
        if waiting >= self.shared.settings.waiting_max.max(1) {
            return Err(Refusal::Busy { waiting, again: self.pace.next_end() });
        }
        let held = self.ledger.total() * self.shared.settings.page_tokens;
        let bounds = Bounds {
            vocabulary: self.shared.card.vocabulary,
            tokens: self.shared.card.context.min(held),
        };
        let id = SequenceId(self.last_id + 1);
        let held = work.grammar.as_ref().map(|grammar| self.hold(grammar)).transpose()?;
        let sequence = Sequence::new(id, work, &bounds, &self.shared.vocabulary, held)?;
        self.line.waiting.push_back(sequence);
        self.last_id = id.0;
        Ok(id)
    }

    fn hold(&mut self, grammar: &Grammar) -> Result<Held, Refusal> {
        let size = self.shared.card.vocabulary;
        let grammars =
            self.grammars.get_or_insert_with(|| Grammars::new(&self.shared.vocabulary, size));
        let grammars = grammars.as_ref().map_err(|why| Refusal::BadGrammar(why.clone()))?;
        grammars.hold(grammar, &self.shared.vocabulary).map_err(Refusal::BadGrammar)
    }

    /// Ends a request without a further report. Its pages may be taken at once.
    pub fn cancel(&mut self, id: SequenceId) {
        self.line.remove(id, &mut self.ledger);
    }

    pub fn is_idle(&self) -> bool {
        self.line.is_empty()
    }

    /// What a request needs to go on elsewhere; nothing once it has finished.
    pub fn journal(&self, id: SequenceId) -> Option<Journal> {
        self.line.find(id).map(Sequence::journal)
    }

    /// Computes a token of each answer and a part of the prompts behind them, and appends a report
    /// for each token that came of it.
    ///
    /// A panic on the way ends the request that caused it with [`crate::Finish::Failed`], leaves
    /// the others as they are, and the engine usable.
    pub fn step(&mut self, out: &mut Vec<Progress>) {
        self.line.admit(self.shared.settings.batch_max, &mut self.ledger);
        let (first, began) = (out.len(), Instant::now());
        let drafts = self.shared.settings.drafts;
        let is_on = self.shared.drafts && self.drafting.is_worth(drafts, self.line.decoding());
        self.answer(is_on, out);
        self.enter(began, is_on, out);
        let ends = out[first..].iter().filter(|progress| progress.finish.is_some()).count();
        self.pace.end(began.elapsed(), ends);
    }

    /// The answers' part of a step.
    fn answer(&mut self, is_on: bool, out: &mut Vec<Progress>) {
        let shares = self.line.answers(&mut self.ledger);
        if shares.is_empty() {
            return;
        }
        let began = Instant::now();
        let passed = self.try_compute(&shares, &mut Passage::default(), &mut || true);
        self.take_in(&shares, passed.flatten(), (is_on, out));
        let took = began.elapsed();
        self.pace.answered(took);
        self.drafting.learn(&shares, (is_on, took));
    }

    /// What came of shares: tokens are chosen, drafts made behind them, and who has ended leaves.
    /// If nothing came because the model panicked, whose fault it was shows when each is computed
    /// by itself, which changes no bit. What is half done are rows of pages that nobody shares yet;
    /// whoever goes on writes them anew.
    fn take_in(
        &mut self,
        shares: &[Share],
        passed: Option<Passed>,
        (is_on, out): (bool, &mut Vec<Progress>),
    ) {
        let first = out.len();
        match passed {
            Some(passed) => self.choose_all(shares, passed, (is_on, out)),
            None => shares.iter().for_each(|share| self.step_alone(*share, (is_on, out))),
        }
        for progress in out[first..].iter().filter(|progress| progress.finish.is_some()) {
            self.line.remove(progress.id, &mut self.ledger);
        }
    }

    fn step_alone(&mut self, share: Share, (is_on, out): (bool, &mut Vec<Progress>)) {
        match self.try_compute(&[share], &mut Passage::default(), &mut || true).flatten() {
            Some(passed) => self.choose_all(&[share], passed, (is_on, out)),
            None => out.push(self.line.running[share.sequence].failed()),
        }
    }

    fn choose_all(
        &mut self,
        shares: &[Share],
        mut passed: Passed,
        (is_on, out): (bool, &mut Vec<Progress>),
    ) {
        let first = out.len();
        self.sample(shares, &mut passed.logits, out);
        self.draft(shares, &passed.states, (is_on, &out[first..]));
    }

    /// See [`Engine::compute`]; nothing if the model panicked.
    fn try_compute(
        &mut self,
        shares: &[Share],
        passage: &mut Passage,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Option<Passed>> {
        catch_unwind(AssertUnwindSafe(|| self.compute(shares, passage, go_on))).ok()
    }

    /// Takes the shares through the model, as far as `go_on` lets them; logits come back for the
    /// sequences that are then complete.
    fn compute(
        &mut self,
        shares: &[Share],
        passage: &mut Passage,
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Passed> {
        let (mut slots, mut wanted) = (Vec::new(), Vec::new());
        for (table, share) in shares.iter().enumerate() {
            let sequence = &self.line.running[share.sequence];
            let span = sequence.computed..sequence.computed + share.tokens;
            slots.extend(span.map(|position| Slot {
                token: sequence.tokens[position],
                position,
                table,
                is_answer: position >= sequence.prompt(),
            }));
            if share.tokens == sequence.pending() {
                wanted.push(slots.len() - 1);
            }
            if let Some(token) = share.draft {
                let position = sequence.computed + share.tokens;
                wanted.push(slots.len());
                slots.push(Slot { token, position, table, is_answer: true });
            }
        }
        let page_table = |share: &Share| self.line.running[share.sequence].pages.as_slice();
        let tables: Vec<&[Page]> = shares.iter().map(page_table).collect();
        self.computed += if passage.layers == 0 { slots.len() as u64 } else { 0 };
        let batch = Batch { slots: &slots, tables: &tables, wanted: &wanted };
        self.computer.forward(&batch, passage, (&mut self.cache, &self.pulse), go_on)
    }

    /// Chooses a token for each sequence that is complete, in the order of their logits.
    fn sample(&mut self, shares: &[Share], logits: &mut [f32], out: &mut Vec<Progress>) {
        let mut rows = logits.chunks_exact_mut(self.shared.card.vocabulary);
        for share in shares {
            let sequence = &mut self.line.running[share.sequence];
            sequence.computed += share.tokens;
            sequence.is_entering = false;
            sequence.publish(&mut self.ledger);
            if sequence.pending() > 0 {
                continue;
            }
            let Some(logits) = rows.next() else { continue };
            let progress = self.choose(share.sequence, logits);
            let token = progress.finish.is_none().then_some(progress.token);
            out.push(progress);
            let (Some(draft), Some(logits)) = (share.draft, share.draft.and_then(|_| rows.next()))
            else {
                continue;
            };
            self.drafting.judge(token == Some(draft));
            if token == Some(draft) {
                // It was computed along, behind exactly what the model then said.
                let sequence = &mut self.line.running[share.sequence];
                sequence.computed += 1;
                sequence.publish(&mut self.ledger);
                out.push(self.choose(share.sequence, logits));
            }
        }
    }

    fn choose(&mut self, sequence: usize, logits: &mut [f32]) -> Progress {
        let (vocabulary, end) = (&self.shared.vocabulary, &self.shared.card.end_tokens);
        let sequence = &mut self.line.running[sequence];
        // `allowed` is the caller's code: its panic is this request's failure alone.
        let next = AssertUnwindSafe(|| sequence.advance(logits, vocabulary, end));
        catch_unwind(next).unwrap_or_else(|_| sequence.failed())
    }
}
