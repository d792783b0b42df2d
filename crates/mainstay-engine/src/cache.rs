//! The bytes of the paged key-value cache. Who owns which page is decided in `ledger` and nowhere
//! else.
//!
//! A page holds a fixed number of tokens over all layers. A row is whatever the attention stores
//! for one token under one key-value head of a layer: its key and value, or the one latent vector.
//! Rows of a head lie side by side, because they are read together.
//!
//! Left out: moving rows elsewhere. What would hold them is memory as well, and serves more as
//! pages. A sequence that must make room is computed anew, from whatever of its pages is still
//! there.

mod ledger;

use crate::error::LoadError;
use crate::kernels::Element;
use crate::kernels::tiles::large::Large;
pub use ledger::{Before, Ledger, Page};

pub struct Cache {
    element: Element,
    layers: usize,
    heads: usize,
    page_tokens: usize,
    /// Bytes of one row.
    stride: usize,
    bytes: Large<u8>,
    pages: Page,
}

/// What one cache is made for.
pub struct CacheShape {
    pub element: Element,
    pub layers: usize,
    /// Key-value heads of a layer, and numbers in the row of each.
    pub heads: usize,
    pub row: usize,
    pub page_tokens: usize,
    /// Memory to use at most, and pages that could ever be used.
    pub bytes_max: usize,
    pub pages_max: usize,
    /// The rows are in a card's memory: only who owns which page is kept here.
    pub is_elsewhere: bool,
}

impl Cache {
    pub fn new(shape: &CacheShape) -> Result<Cache, LoadError> {
        let stride = shape.row * shape.element.bytes();
        let page_bytes = [shape.layers, shape.heads, shape.page_tokens]
            .into_iter()
            .fold(stride, usize::saturating_mul);
        let pages = (shape.bytes_max / page_bytes.max(1)).min(shape.pages_max);
        if pages == 0 {
            return Err(LoadError::Memory(format!(
                "{} bytes of cache hold no page of {} tokens, which takes {page_bytes}: \
                 give the cache more memory",
                shape.bytes_max, shape.page_tokens
            )));
        }
        let size = if shape.is_elsewhere { 0 } else { pages * page_bytes };
        // Asked for first without touching it, because a failing `vec!` would end the process.
        if Vec::<u8>::new().try_reserve_exact(size).is_err() {
            return Err(LoadError::Memory(format!(
                "{size} bytes of cache are not to be had: give the cache less memory"
            )));
        }
        let pages = pages.min(Page::MAX as usize) as Page;
        Ok(Cache {
            element: shape.element,
            layers: shape.layers,
            heads: shape.heads,
            page_tokens: shape.page_tokens,
            stride,
            bytes: Large::zeroed(size),
            pages,
        })
    }

    pub fn element(&self) -> Element {
        self.element
    }

    /// Memory of all pages together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Pages in all.
    pub fn total(&self) -> Page {
        self.pages
    }

    /// The row of the token at `position`, of the sequence that owns `table`, under a head of a
    /// layer.
    pub fn row_mut(&mut self, table: &[Page], place: [usize; 2], position: usize) -> &mut [u8] {
        let start = self.start(table, place, position);
        &mut self.bytes[start..start + self.stride]
    }

    /// The same row, to read.
    pub fn row(&self, table: &[Page], place: [usize; 2], position: usize) -> &[u8] {
        let start = self.start(table, place, position);
        &self.bytes[start..start + self.stride]
    }

    fn start(&self, table: &[Page], [layer, head]: [usize; 2], position: usize) -> usize {
        let page = table[position / self.page_tokens] as usize;
        let first = ((page * self.layers + layer) * self.heads + head) * self.page_tokens;
        (first + position % self.page_tokens) * self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes_max: usize) -> Result<Cache, LoadError> {
        let (layers, heads, row, page_tokens) = (3, 2, 2, 2);
        let element = Element::F32;
        let is_elsewhere = false;
        let (bytes_max, pages_max) = (bytes_max, 5);
        Cache::new(&CacheShape {
            element,
            layers,
            heads,
            row,
            page_tokens,
            bytes_max,
            pages_max,
            is_elsewhere,
        })
    }

    #[test]
    fn rows_of_a_sequence_come_back_in_order_across_pages() {
        let mut cache = cache(96 * 5).unwrap();
        let table: [Page; 3] = [2, 4, 1];
        for position in 0..5 {
            for head in 0..2 {
                cache.row_mut(&table, [1, head], position).fill((2 * position + head) as u8);
            }
        }
        for position in 0..5 {
            for head in 0..2 {
                let row = cache.row(&table, [1, head], position);
                assert_eq!(row, [(2 * position + head) as u8; 8]);
                assert!(cache.row(&table, [0, head], position).iter().all(|byte| *byte == 0));
            }
        }
    }

    #[test]
    fn a_cache_without_room_for_a_page_says_what_to_do() {
        let error = cache(95).err().unwrap().to_string();
        assert!(error.contains("more memory"), "{error}");
        assert_eq!(cache(usize::MAX).unwrap().total(), 5);
    }
}
