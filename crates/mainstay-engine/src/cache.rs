//! The paged key-value cache: who owns which page is decided here and nowhere else.
//!
//! A page holds a fixed number of tokens over all layers. Free pages are a list, used ones carry a
//! reference count, so that sequences may share a prefix. A row is whatever the attention stores
//! for one token in one layer: keys and values of all key-value heads, or one latent vector.
//!
//! Left out for now: the prefix index, copy-on-write of a shared last page, swapping to memory.

use crate::error::LoadError;
use crate::kernels::Element;

/// Index of a page.
pub type Page = u32;

pub struct Cache {
    element: Element,
    layers: usize,
    page_tokens: usize,
    /// Bytes of one row.
    stride: usize,
    bytes: Vec<u8>,
    free: Vec<Page>,
    references: Vec<u32>,
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
        let size = pages * page_bytes;
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
            free: (0..pages).rev().collect(),
            references: vec![0; pages as usize],
        })
    }

    pub fn element(&self) -> Element {
        self.element
    }

    /// Pages in all.
    pub fn total(&self) -> usize {
        self.references.len()
    }

    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages held by at least one owner.
    pub fn used(&self) -> usize {
        self.references.iter().filter(|count| **count > 0).count()
    }

    /// Pages needed for so many tokens.
    pub fn pages_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.page_tokens)
    }

    /// Takes a free page for one owner.
    pub fn take(&mut self) -> Option<Page> {
        let page = self.free.pop()?;
        self.references[page as usize] = 1;
        Some(page)
    }

    /// Gives up one ownership; the page is free when it was the last.
    pub fn release(&mut self, page: Page) {
        let count = &mut self.references[page as usize];
        assert!(*count > 0, "page {page} released twice");
        *count -= 1;
        if *count == 0 {
            self.free.push(page);
        }
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
        Cache::new(&CacheShape { element, layers, row, page_tokens, bytes_max, pages_max: 5 })
    }

    #[test]
    fn rows_of_a_sequence_come_back_in_order_across_pages() {
        let mut cache = cache(96 * 5).unwrap();
        let table: Vec<Page> = (0..3).map(|_| cache.take().unwrap()).collect();
        let table = [table[2], table[0], table[1]];
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

    #[test]
    #[should_panic(expected = "released twice")]
    fn releasing_a_free_page_is_a_bug_that_shows() {
        let mut cache = cache(1 << 20).unwrap();
        let page = cache.take().unwrap();
        cache.release(page);
        cache.release(page);
    }
}
