//! What engines of one loaded model have in common: everything that no step changes.
//!
//! An engine whose step hangs cannot be taken back from the thread that it hangs in. Another one is
//! made of the same weights, with a cache, a line and threads of its own.

use super::computer::Computer;
use super::{Engine, ModelCard, Settings};
use crate::cache::{Cache, CacheShape};
use crate::error::LoadError;
use crate::kernels::Element;
use crate::model::Model;
use crate::pool::Pool;
use crate::template::ChatTemplate;
use crate::tokenizer::Vocabulary;
use std::sync::Arc;

pub struct Shared {
    pub card: ModelCard,
    pub vocabulary: Vocabulary,
    pub template: ChatTemplate,
    pub settings: Settings,
    /// Layers that have rows in the cache, one more where the model drafts; numbers in a row, and
    /// how they are kept.
    pub rows: ([usize; 3], Element),
    /// Numbers of a token between layers.
    pub hidden: usize,
    /// Whether it drafts.
    pub drafts: bool,
    /// Where the processor computes; a card's model is written to in each step.
    pub model: Option<Arc<Model>>,
}

/// What another engine of the same weights is made of.
#[derive(Clone)]
pub struct Twin(pub(super) Arc<Shared>);

impl Twin {
    /// Another engine, with nothing in it. The weights are those in memory already; the cache is
    /// one more. Nothing on a card, whose model has to be loaded again.
    pub fn engine(&self) -> Option<Result<Engine, LoadError>> {
        let shared = self.0.clone();
        let model = shared.model.clone()?;
        let pool = Arc::new(Pool::new(shared.settings.threads));
        let cache = cache(&shared.card, shared.rows, &shared.settings);
        Some(cache.map(|cache| Engine::around(shared, Computer::Cpu(model, pool), cache)))
    }
}

/// A cache for this model.
pub fn cache(
    card: &ModelCard,
    ([layers, heads, row], element): ([usize; 3], Element),
    settings: &Settings,
) -> Result<Cache, LoadError> {
    Cache::new(&CacheShape {
        element,
        layers,
        heads,
        row,
        page_tokens: settings.page_tokens,
        bytes_max: settings.cache_bytes,
        pages_max: card.context.div_ceil(settings.page_tokens) * settings.batch_max,
        is_elsewhere: settings.device != super::Device::Cpu,
    })
}
