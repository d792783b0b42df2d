//! The bytes of the paged key-value cache. Who owns which page is decided in `ledger` and nowhere
//! else.
//!
//! A page holds a fixed number of tokens over all layers. A row is whatever the attention stores
//! for one token in one layer: keys and values of all key-value heads, or one latent vector.
//!
//! Left out: moving rows elsewhere. What would hold them is memory as well, and serves more as
//! pages. A sequence that must make room is computed anew, from whatever of its pages is still
//! there.

mod ledger;

use crate::error::LoadError;
use crate::kernels::Element;
pub use ledger::{Before, Ledger, Page};

pub struct Cache {
    element: Element,
    layers: usize,
    page_tokens: usize,
    /// Bytes of one row.
    stride: usize,
    bytes: Vec<u8>,
    pages: Page,
}

/// What one cache is made for.
pub struct CacheShape {
    pub element: Element,
    pub layers: usize,
    /// Numbers in a row.
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
        let page_bytes = shape.layers.saturating_mul(stride.saturating_mul(shape.page_tokens));
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
            page_tokens: shape.page_tokens,
            stride,
            bytes: vec![0; size],
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

    /// The row of the token at `position`, of the sequence that owns `table`.
    pub fn row_mut(&mut self, table: &[Page], layer: usize, position: usize) -> &mut [u8] {
        let start = self.start(table, layer, position);
        &mut self.bytes[start..start + self.stride]
    }

    /// The row of the token at `position`, to read.
    pub fn row(&self, table: &[Page], layer: usize, position: usize) -> &[u8] {
        let start = self.start(table, layer, position);
        &self.bytes[start..start + self.stride]
    }

    fn start(&self, table: &[Page], layer: usize, position: usize) -> usize {
        let page = table[position / self.page_tokens] as usize;
        let row = (page * self.layers + layer) * self.page_tokens + position % self.page_tokens;
        row * self.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(bytes_max: usize) -> Result<Cache, LoadError> {
        let (layers, row, page_tokens) = (3, 4, 2);
        let element = Element::F32;
        let is_elsewhere = false;
        let (bytes_max, pages_max) = (bytes_max, 5);
        Cache::new(&CacheShape {
            element,
            layers,
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
            cache.row_mut(&table, 1, position).fill(position as u8);
        }
        for position in 0..5 {
            assert_eq!(cache.row(&table, 1, position)[0], position as u8);
            assert!(cache.row(&table, 0, position).iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_cache_without_room_for_a_page_says_what_to_do() {
        let error = cache(95).err().unwrap().to_string();
        assert!(error.contains("more memory"), "{error}");
        assert_eq!(cache(usize::MAX).unwrap().total(), 5);
    }
}
