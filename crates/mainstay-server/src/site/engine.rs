//! What inference servers say of themselves, each in its own words, as one `Report`.
//!
//! Everything here is a function of bytes. What an engine does not say is `None`: neither zero nor
//! full, and nobody invents a number for it. Names of series change from release to release, and a
//! router that takes a missing one for zero sends everything to the worker it knows least of.

pub mod events;
mod exposition;
mod llama_cpp;
pub mod residency;
mod sglang;
mod vllm;

use std::collections::BTreeMap;

/// Which inference server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// vLLM.
    Vllm,
    /// SGLang.
    Sglang,
    /// llama.cpp's server.
    LlamaCpp,
    /// Any other that speaks OpenAI's API: of its load nothing is known.
    OpenAi,
}

/// What a worker said of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Its levels, by data-parallel rank. An endpoint without ranks has the one rank 0.
    pub ranks: BTreeMap<u32, Levels>,
    /// Size of a KV block in tokens.
    pub block_tokens: Option<u32>,
    /// How many blocks there are.
    pub blocks: Option<u64>,
    /// Answers that it computes at once, as it was started.
    pub slots: Option<u32>,
    /// Slots at work, where it tells them apart.
    pub slots_busy: Option<u32>,
    /// Tokens that one answer can have, with its prompt.
    pub context: Option<u32>,
    /// Whether its weights are put away.
    pub is_asleep: Option<bool>,
    /// The model it says it has.
    pub model: Option<String>,
    /// Tokens since its start, over all ranks.
    pub counted: Counted,
}

/// How full one rank is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Levels {
    /// Answers it computes.
    pub running: Option<u32>,
    /// Answers that wait for room.
    pub waiting: Option<u32>,
    /// Answers that wait for something else, e.g. for KV blocks that another worker sends.
    pub deferred: Option<u32>,
    /// Tokens of waiting prompts that it has to compute.
    pub waiting_tokens: Option<u64>,
    /// KV blocks in use, 0 to 1.
    pub kv_use: Option<f64>,
}

/// What only grows while a worker lives: a counter that falls tells of another life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Tokens of prompts.
    pub prompt: Option<u64>,
    /// Tokens of answers.
    pub output: Option<u64>,
    /// Answers put back for want of KV blocks.
    pub preempted: Option<u64>,
    /// Tokens of prompts that were looked for in the prefix cache.
    pub looked_up: Option<u64>,
    /// Those that were there.
    pub cached: Option<u64>,
}

impl Engine {
    /// The word for it in configurations.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Vllm => "vllm",
            Engine::Sglang => "sglang",
            Engine::LlamaCpp => "llama.cpp",
            Engine::OpenAi => "openai",
        }
    }

    /// All words.
    pub const WORDS: [&str; 4] = ["vllm", "sglang", "llama.cpp", "openai"];

    /// The engine that a configuration names so.
    pub fn named(word: &str) -> Option<Engine> {
        let all = [Engine::Vllm, Engine::Sglang, Engine::LlamaCpp, Engine::OpenAi];
        all.into_iter().find(|engine| engine.word() == word)
    }

    /// The dialect of its API.
    pub fn dialect(self) -> &'static str {
        match self {
            Engine::LlamaCpp => "llamacpp",
            Engine::Vllm | Engine::Sglang | Engine::OpenAi => self.word(),
        }
    }

    /// What is asked first, to see whether it works: what costs it nothing. SGLang may compute a
    /// token to answer `/health`.
    pub fn first_path(self) -> &'static str {
        match self {
            Engine::Vllm | Engine::LlamaCpp => "/health",
            Engine::Sglang => "/v1/loads?include=core,queues,disagg",
            Engine::OpenAi => "/v1/models",
        }
    }

    /// Where it tells of its load, at its root, the most telling first.
    pub fn paths(self) -> &'static [&'static str] {
        match self {
            Engine::Vllm => &["/metrics"],
            Engine::Sglang => &["/v1/loads?include=core,queues,disagg", "/metrics"],
            Engine::LlamaCpp => &["/metrics", "/slots"],
            Engine::OpenAi => &[],
        }
    }

    /// Where it tells of what stays as it is while it lives.
    pub fn fixed_path(self) -> Option<&'static str> {
        match self {
            Engine::LlamaCpp => Some("/props"),
            Engine::Vllm | Engine::Sglang | Engine::OpenAi => None,
        }
    }

    /// Adds what the reply at `path` says to `report`. What is unreadable says nothing.
    pub fn read(self, path: &str, body: &[u8], report: &mut Report) {
        let Ok(text) = std::str::from_utf8(body) else { return };
        match (self, path) {
            (Engine::Vllm, _) => vllm::metrics(text, report),
            (Engine::Sglang, "/metrics") => sglang::metrics(text, report),
            (Engine::Sglang, _) => sglang::loads(text, report),
            (Engine::LlamaCpp, "/metrics") => llama_cpp::metrics(text, report),
            (Engine::LlamaCpp, "/slots") => llama_cpp::slots(text, report),
            (Engine::LlamaCpp, _) => llama_cpp::props(text, report),
            (Engine::OpenAi, _) => {}
        }
    }
}

impl Report {
    /// The fullest of its ranks in each respect. Levels are never added up: half of eight ranks
    /// full is no worker that is four times full.
    pub fn fullest(&self) -> Levels {
        let all = || self.ranks.values();
        Levels {
            running: all().filter_map(|levels| levels.running).max(),
            waiting: all().filter_map(|levels| levels.waiting).max(),
            deferred: all().filter_map(|levels| levels.deferred).max(),
            waiting_tokens: all().filter_map(|levels| levels.waiting_tokens).max(),
            kv_use: all().filter_map(|levels| levels.kv_use).max_by(f64::total_cmp),
        }
    }

    /// Whether this is another life than that of `before`: something it counts has fallen, or it
    /// has another model.
    pub fn is_another_life(&self, before: &Report) -> bool {
        let fell = |now: Option<u64>, then: Option<u64>| {
            now.zip(then).is_some_and(|(now, then)| now < then)
        };
        let (now, then) = (&self.counted, &before.counted);
        fell(now.prompt, then.prompt)
            || fell(now.output, then.output)
            || fell(now.preempted, then.preempted)
            || fell(now.looked_up, then.looked_up)
            || matches!((&self.model, &before.model), (Some(now), Some(then)) if now != then)
    }

    fn rank(&mut self, rank: u32) -> &mut Levels {
        self.ranks.entry(rank).or_default()
    }
}

#[cfg(test)]
mod tests;
