//! Attention over the paged cache: what grouped and latent attention share.
//!
//! Both come down to one loop (`attend`): some query vectors look at one stretch of every cached
//! row of their sequence (the keys), and mix another stretch (the values). Grouped attention runs
//! it for each key-value head; absorbed latent attention once, with all heads over the same row.

mod attend;
mod grouped;
mod latent;

use crate::cache::{Cache, Page};
use crate::kernels;
use crate::pool::Pool;
use crate::rope::Angles;
pub use grouped::Grouped;
pub use latent::Latent;

/// One token of a step.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub token: u32,
    /// Its place in its sequence, from 0.
    pub position: usize,
    /// Which of the step's page tables is its sequence's.
    pub table: usize,
    /// Whether it is of the answer; a card computes those another way than prompts.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code))]
    pub is_answer: bool,
}

/// All the tokens of a step on their way through the layers.
///
/// Slots of one sequence come in rising position, and every earlier position is either in the cache
/// already or an earlier slot of this pass.
pub struct Pass<'a> {
    pub slots: &'a [Slot],
    pub tables: &'a [&'a [Page]],
    pub angles: &'a Angles,
    pub cache: &'a mut Cache,
    pub pool: &'a Pool,
}

impl Pass<'_> {
    /// Stores the row of slot `index` under a head of a layer.
    fn store(&mut self, place: [usize; 2], index: usize, row: &[f32]) {
        let Slot { position, table, .. } = self.slots[index];
        let element = self.cache.element();
        kernels::store(element, row, self.cache.row_mut(self.tables[table], place, position));
    }
}
