//! A loaded model with its cache and its requests: the engine's whole public face.

mod files;

use crate::attention::Slot;
use crate::cache::{Cache, CacheShape, Page};
use crate::error::{LoadError, Refusal, TemplateError};
use crate::gguf::Gguf;
use crate::journal::Journal;
use crate::kernels::Element;
use crate::model::{Batch, Model};
use crate::pool::Pool;
use crate::sequence::{Bounds, Progress, Sequence, SequenceId, Work};
use crate::shape::Shape;
use crate::step::{Line, Share};
use crate::template::ChatTemplate;
use crate::tokenizer::{Hide, Vocabulary};
use crate::weights::{Precision, Weights};
pub use files::Files;
use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

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
    /// Tokens computed in one step, decoding and prompts together. Smaller steps keep the gap
    /// between the tokens of others short and cancel sooner; larger ones read prompts faster.
    pub prefill_chunk: usize,
    /// Threads for large matrices.
    pub threads: usize,
    pub hide: Hide,
}

impl Default for Settings {
    fn default() -> Settings {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        Settings {
            cache_bytes: 256 << 20,
            kv: KvPrecision::F16,
            weights: Precision::Stored,
            page_tokens: 32,
            batch_max: 8,
            waiting_max: 64,
            prefill_chunk: 64,
            // One core is left to the gateway: its clients must not feel the engine.
            threads: (cores - 1).max(1),
            hide: Hide::Control,
        }
    }
}

/// How a cached number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvPrecision {
    /// Exact; for comparing with a reference.
    F32,
    /// Half the memory and traffic, 11 significant bits.
    F16,
    /// As small, 8 significant bits, never overflows.
    Bf16,
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

/// Pages of the cache; `free + used = total` between steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    pub free: usize,
    pub used: usize,
    pub total: usize,
    pub tokens_per_page: usize,
}

/// A loaded model with its cache and its requests. Owned and driven by one thread.
pub struct Engine {
    card: ModelCard,
    model: Model,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    cache: Cache,
    line: Line,
    settings: Settings,
    last_id: u64,
}

impl Engine {
    /// Loads a GGUF file, or a model directory: `config.json`, `*.safetensors`, `tokenizer.json`,
    /// and if present `generation_config.json`, `tokenizer_config.json`, `chat_template.jinja`.
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
        let model = Model::load(&weights.prepared(settings.weights, pool), shape)?;
        let element = match settings.kv {
            KvPrecision::F32 => Element::F32,
            KvPrecision::F16 => Element::F16,
            KvPrecision::Bf16 => Element::Bf16,
        };
        let (layers, row) = (model.shape.layers, model.shape.attention.row());
        let page_tokens = settings.page_tokens.max(1);
        let cache = Cache::new(&CacheShape {
            element,
            layers,
            row,
            page_tokens,
            bytes_max: settings.cache_bytes,
            pages_max: model.shape.context.div_ceil(page_tokens) * settings.batch_max.max(1),
        })?;
        let card = ModelCard {
            name: files.name.to_owned(),
            architecture: model.shape.architecture.clone(),
            context: model.shape.context,
            vocabulary: model.shape.vocabulary,
            layers,
            parameters: model.parameters,
            kv_bytes_per_token: layers * row * element.bytes(),
            end_tokens: text.end_tokens,
        };
        let settings = Settings {
            page_tokens,
            batch_max: settings.batch_max.max(1),
            prefill_chunk: settings.prefill_chunk.max(1),
            ..settings
        };
        let (vocabulary, template) = (text.vocabulary, text.template);
        let line = Line::default();
        Ok(Engine { card, model, vocabulary, template, cache, line, settings, last_id: 0 })
    }

    pub fn model(&self) -> &ModelCard {
        &self.card
    }

    pub fn pages(&self) -> Pages {
        Pages {
            free: self.cache.free(),
            used: self.cache.used(),
            total: self.cache.total(),
            tokens_per_page: self.settings.page_tokens,
        }
    }

    /// The prompt text for OpenAI messages and tools, by the model's own chat template.
    pub fn render_chat(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        self.template.render(messages, tools, add_generation_prompt)
    }

    /// The tokens of a rendered prompt: special tokens in it are recognised, none are added.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.vocabulary.tokenize(text)
    }

    /// The id of a token by its exact text, for building [`Work::allowed`].
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.vocabulary.id(text)
    }

    /// Takes a request in. It waits for a place if it must; its first token comes from a later
    /// [`Engine::step`].
    pub fn submit(&mut self, work: Work) -> Result<SequenceId, Refusal> {
        let waiting = self.line.waiting.len();
        if waiting >= self.settings.waiting_max.max(1) {
            return Err(Refusal::Busy { waiting });
        }
        let held = self.cache.total() * self.settings.page_tokens;
        let bounds =
            Bounds { vocabulary: self.card.vocabulary, tokens: self.card.context.min(held) };
        let id = SequenceId(self.last_id + 1);
        self.line.waiting.push_back(Sequence::new(id, work, &bounds, &self.vocabulary)?);
        self.last_id = id.0;
        Ok(id)
    }

    /// Ends a request without a further report. Its pages are free at once.
    pub fn cancel(&mut self, id: SequenceId) {
        self.line.remove(id, &mut self.cache);
    }

    pub fn is_idle(&self) -> bool {
        self.line.is_empty()
    }

    /// What a request needs to go on elsewhere; nothing once it has finished.
    pub fn journal(&self, id: SequenceId) -> Option<Journal> {
        self.line.find(id).map(Sequence::journal)
    }

    /// Computes one batch and appends a report for each token it gave.
    ///
    /// A panic on the way ends the requests of this step with [`crate::Finish::Failed`] and leaves
    /// the engine usable.
    pub fn step(&mut self, out: &mut Vec<Progress>) {
        self.line.admit(self.settings.batch_max, &self.cache);
        let shares = self.line.plan(self.settings.prefill_chunk, &mut self.cache);
        if shares.is_empty() {
            return;
        }
        let first = out.len();
        // Whatever a panic left half done belongs to this step's sequences, and they are dropped.
        let logits = catch_unwind(AssertUnwindSafe(|| self.compute(&shares)));
        match logits {
            Ok(mut logits) => self.sample(&shares, &mut logits, out),
            Err(_) => {
                out.extend(shares.iter().map(|share| self.line.running[share.sequence].failed()));
            }
        }
        for progress in out[first..].iter().filter(|progress| progress.finish.is_some()) {
            self.line.remove(progress.id, &mut self.cache);
        }
    }

    /// Runs the model over the shares; logits come back for the sequences that are then complete.
    fn compute(&mut self, shares: &[Share]) -> Vec<f32> {
        let (mut slots, mut wanted) = (Vec::new(), Vec::new());
        for (table, share) in shares.iter().enumerate() {
            let sequence = &self.line.running[share.sequence];
            let span = sequence.computed..sequence.computed + share.tokens;
            slots.extend(span.map(|position| Slot {
                token: sequence.tokens[position],
                position,
                table,
            }));
            if share.tokens == sequence.pending() {
                wanted.push(slots.len() - 1);
            }
        }
        let page_table = |share: &Share| self.line.running[share.sequence].pages.as_slice();
        let tables: Vec<&[Page]> = shares.iter().map(page_table).collect();
        let batch = Batch { slots: &slots, tables: &tables, wanted: &wanted };
        self.model.forward(&batch, &mut self.cache)
    }

    /// Chooses a token for each sequence that is complete, in the order of their logits.
    fn sample(&mut self, shares: &[Share], logits: &mut [f32], out: &mut Vec<Progress>) {
        let mut rows = logits.chunks_exact_mut(self.card.vocabulary);
        for share in shares {
            let sequence = &mut self.line.running[share.sequence];
            sequence.computed += share.tokens;
            if sequence.pending() > 0 {
                continue;
            }
            let Some(logits) = rows.next() else { continue };
            let (vocabulary, end) = (&self.vocabulary, &self.card.end_tokens);
            // `allowed` is the caller's code: its panic is this request's failure alone.
            let next = AssertUnwindSafe(|| sequence.advance(logits, vocabulary, end));
            let progress = catch_unwind(next);
            out.push(progress.unwrap_or_else(|_| self.line.running[share.sequence].failed()));
        }
    }
}
