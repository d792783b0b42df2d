//! Where a batch is computed: by the processor, or by a card.

use super::Settings;
use crate::cache::Cache;
use crate::error::LoadError;
use crate::model::{Batch, DraftBatch, Model, Passage, Passed};
use crate::pool::Pool;
use crate::shape::Shape;
use crate::weights::Weights;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    #[default]
    Cpu,
    /// The NVIDIA card of this number; only in a build with the feature `cuda`.
    Cuda(usize),
}

impl Device {
    /// Whether this build computes on cards.
    pub const HAS_CUDA: bool = cfg!(feature = "cuda");
}

/// A model where it is computed.
pub enum Computer {
    /// With the threads that large matrices are shared among.
    Cpu(Arc<Model>, Arc<Pool>),
    #[cfg(feature = "cuda")]
    Cuda(Box<crate::cuda::CardModel>),
}

impl Computer {
    /// Brings the model there, with a cache of so many pages.
    pub fn load(
        weights: &Weights,
        shape: Shape,
        settings: &Settings,
        pages: usize,
    ) -> Result<Computer, LoadError> {
        match settings.device {
            Device::Cpu => {
                Ok(Computer::Cpu(Arc::new(Model::load(weights, shape)?), weights.pool()))
            }
            Device::Cuda(number) => on_card(weights, &shape, settings, [number, pages]),
        }
    }

    /// Numbers in all matrices together.
    pub fn parameters(&self) -> usize {
        match self {
            Computer::Cpu(model, _) => model.parameters,
            #[cfg(feature = "cuda")]
            Computer::Cuda(model) => model.parameters,
        }
    }

    /// The model, if it can be shared.
    pub fn model(&self) -> Option<Arc<Model>> {
        match self {
            Computer::Cpu(model, _) => Some(model.clone()),
            #[cfg(feature = "cuda")]
            Computer::Cuda(_) => None,
        }
    }

    /// See [`Model::forward`]; a card is not held up on the way.
    pub fn forward(
        &mut self,
        batch: &Batch<'_>,
        passage: &mut Passage,
        (cache, pulse): (&mut Cache, &AtomicU64),
        go_on: &mut dyn FnMut() -> bool,
    ) -> Option<Passed> {
        let passed = match self {
            Computer::Cpu(model, pool) => {
                model.forward(batch, passage, (cache, pool, pulse), go_on)
            }
            #[cfg(feature = "cuda")]
            Computer::Cuda(model) => {
                Some(Passed { logits: model.forward(batch), states: Vec::new() })
            }
        };
        pulse.fetch_add(1, Ordering::Relaxed);
        passed
    }

    /// Stretches of a batch's way, between which it can be held up.
    pub fn layers(&self) -> usize {
        match self {
            Computer::Cpu(model, _) => model.shape.layers,
            #[cfg(feature = "cuda")]
            Computer::Cuda(_) => 1,
        }
    }

    /// See [`Model::draft`]; a card drafts nothing.
    pub fn draft(&self, batch: &DraftBatch<'_>, cache: &mut Cache) -> Vec<f32> {
        match self {
            Computer::Cpu(model, pool) => model.draft(batch, cache, pool),
            #[cfg(feature = "cuda")]
            Computer::Cuda(_) => Vec::new(),
        }
    }
}

#[cfg(feature = "cuda")]
fn on_card(
    weights: &Weights,
    shape: &Shape,
    settings: &Settings,
    [number, pages]: [usize; 2],
) -> Result<Computer, LoadError> {
    use crate::cuda::{Card, CardModel, Room};
    let is_exact = settings.kv == super::KvPrecision::F32;
    let room = Room {
        pages,
        page_tokens: settings.page_tokens,
        positions: shape.context.min(pages * settings.page_tokens),
        prompt: settings.prefill_chunk,
    };
    let model = CardModel::load(Card::open(number, is_exact)?, Some(weights), shape, room)?;
    Ok(Computer::Cuda(Box::new(model)))
}

#[cfg(not(feature = "cuda"))]
fn on_card(
    _: &Weights,
    _: &Shape,
    _: &Settings,
    [number, _]: [usize; 2],
) -> Result<Computer, LoadError> {
    Err(LoadError::Card(format!(
        "card {number} is asked for, but this build has no kernels for cards: \
         build with `--features cuda`, or compute on the processor"
    )))
}
