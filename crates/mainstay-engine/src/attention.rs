//! Attention over the paged cache: what grouped and latent attention share.
//!
//! Both come down to one loop: some query vectors look at one stretch of every cached row of their
//! sequence (the keys), and mix another stretch (the values). Grouped attention runs it for each
//! key-value head; absorbed latent attention once, with all heads over the same latent row.

mod grouped;
mod latent;

use crate::cache::{Cache, Page};
use crate::kernels::{self, Rows, vector};
use crate::pool::Pool;
use crate::rope::Angles;
pub use grouped::Grouped;
pub use latent::Latent;
use std::ops::Range;

/// One token of a step.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub token: u32,
    /// Its place in its sequence, from 0.
    pub position: usize,
    /// Which of the step's page tables is its sequence's.
    pub table: usize,
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

/// Where one sequence's rows lie, and which part of each is key and value.
struct View<'a> {
    cache: &'a Cache,
    table: &'a [Page],
    layer: usize,
    /// Tokens to look at.
    count: usize,
    key: Range<usize>,
    value: Range<usize>,
}

impl Pass<'_> {
    /// Stores the row of slot `index`.
    fn store(&mut self, layer: usize, index: usize, row: &[f32]) {
        let Slot { position, table, .. } = self.slots[index];
        let element = self.cache.element();
        kernels::store(element, row, self.cache.row_mut(self.tables[table], layer, position));
    }

    /// What slot `index` may look at: itself and all before it.
    fn view(&self, layer: usize, index: usize, key: Range<usize>, value: Range<usize>) -> View<'_> {
        let Slot { position, table, .. } = self.slots[index];
        let table = self.tables[table];
        View { cache: self.cache, table, layer, count: position + 1, key, value }
    }
}

impl View<'_> {
    /// For each query in `queries` (`key` numbers each, one after another), the mix of the values.
    fn attend(&self, queries: &[f32], scale: f32) -> Vec<f32> {
        let (element, width) = (self.cache.element(), self.cache.element().bytes());
        let heads = queries.len() / self.key.len();
        let key = self.key.start * width..self.key.end * width;
        let value = self.value.start * width..self.value.end * width;
        let mut scores = vec![0.0; heads * self.count];
        let mut products = vec![0.0; heads];
        for (position, row) in self.cache.rows(self.table, self.layer, self.count).enumerate() {
            let row = Rows { element, bytes: &row[key.clone()], columns: self.key.len() };
            kernels::products(row, queries, &mut products);
            for (head, product) in products.iter().enumerate() {
                scores[head * self.count + position] = product * scale;
            }
        }
        scores.chunks_exact_mut(self.count).for_each(vector::softmax);
        let mut mixed = vec![0.0; heads * self.value.len()];
        for (position, row) in self.cache.rows(self.table, self.layer, self.count).enumerate() {
            for (head, mixed) in mixed.chunks_exact_mut(self.value.len()).enumerate() {
                let share = scores[head * self.count + position];
                kernels::add_scaled(element, &row[value.clone()], share, mixed);
            }
        }
        mixed
    }
}
