//! Who owns which page, and which pages may serve again: accounting only, no bytes.
//!
//! A page is free, used (held by one sequence or more), or cached: held by nobody, but full of
//! tokens that the next request may begin with. A cached page is as good as a free one to whoever
//! needs room; the one that was let go longest ago goes first.
//!
//! **The index.** A full page is found again by what is in it and by the page before it, down to
//! the beginning of the sequence and its salt. Content is compared itself, not a hash of it: the
//! number of the page before stands for everything before, and is never given twice. So nobody can
//! make two prompts meet that differ, and nobody finds a page of another salt.
//!
//! **Only whole pages are shared.** A shared last page would have to be copied at the first token
//! that differs, in every place that keeps bytes (memory, a device); it would save at most one
//! page's tokens of computing, a part of one step. So no page is ever written after it is shared,
//! and nothing is ever copied.
//!
//! Two sequences that compute the same beginning side by side each fill pages of their own; whoever
//! is second to finish one gives it back for the first one's. Both hold the same bits, because a
//! token's bits depend on nothing but its own sequence.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Index of a page.
pub type Page = u32;

/// What stands before a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// Nothing: it is a sequence's first page. Sequences of different salts share none.
    Salt(u64),
    /// A page that is in the index.
    Page(Page),
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    before: Place,
    tokens: Box<[u32]>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Salt(u64),
    /// The number of an entry of the index.
    Entry(u64),
}

/// A page's place in the index.
struct Entry {
    number: u64,
    key: Arc<Key>,
}

/// The accounts of all pages.
pub struct Ledger {
    page_tokens: usize,
    free: Vec<Page>,
    /// How many hold each page.
    holders: Vec<u32>,
    entries: Vec<Option<Entry>>,
    index: HashMap<Arc<Key>, Page>,
    /// Pages in the index that nobody holds, by when they were let go.
    cached: BTreeMap<u64, Page>,
    /// When each page was let go, as far as it is cached.
    let_go: Vec<u64>,
    /// Counts events, for an order among them.
    clock: u64,
}

impl Ledger {
    /// Accounts of so many pages of so many tokens, all of them free.
    pub fn new(pages: Page, page_tokens: usize) -> Ledger {
        let count = pages as usize;
        Ledger {
            page_tokens,
            free: (0..pages).rev().collect(),
            holders: vec![0; count],
            entries: (0..count).map(|_| None).collect(),
            index: HashMap::new(),
            cached: BTreeMap::new(),
            let_go: vec![0; count],
            clock: 0,
        }
    }

    /// Tokens in a page.
    pub fn page_tokens(&self) -> usize {
        self.page_tokens
    }

    /// Pages needed for so many tokens.
    pub fn pages_for(&self, tokens: usize) -> usize {
        tokens.div_ceil(self.page_tokens)
    }

    /// Pages in all.
    pub fn total(&self) -> usize {
        self.holders.len()
    }

    /// Pages with nothing in them.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Pages held by nobody that may serve again.
    pub fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Pages held, counted one by one.
    pub fn used(&self) -> usize {
        self.holders.iter().filter(|holders| **holders > 0).count()
    }

    /// Pages that `take` can give.
    pub fn available(&self) -> usize {
        self.free.len() + self.cached.len()
    }

    /// How many hold this page.
    pub fn holders(&self, page: Page) -> u32 {
        self.holders[page as usize]
    }

    /// Takes a page for one holder: a free one, else the cached one let go longest ago.
    pub fn take(&mut self) -> Option<Page> {
        let page = match self.free.pop() {
            Some(page) => page,
            None => {
                let (_, page) = self.cached.pop_first()?;
                self.forget(page);
                page
            }
        };
        self.holders[page as usize] = 1;
        Some(page)
    }

    /// One holder more.
    pub fn share(&mut self, page: Page) {
        let at = page as usize;
        if self.holders[at] == 0 {
            let cached = self.cached.remove(&self.let_go[at]);
            assert!(cached == Some(page), "page {page} is free and cannot be shared");
        }
        self.holders[at] += 1;
    }

    /// One holder less. Without any it is cached if it is in the index, and else free. A sequence
    /// lets its last page go first: then what stands before a cached page always goes after it.
    pub fn release(&mut self, page: Page) {
        let at = page as usize;
        assert!(self.holders[at] > 0, "page {page} released twice");
        self.holders[at] -= 1;
        if self.holders[at] > 0 {
            return;
        }
        if self.entries[at].is_none() {
            return self.free.push(page);
        }
        self.clock += 1;
        self.let_go[at] = self.clock;
        self.cached.insert(self.clock, page);
    }

    /// The page with these tokens behind `before`, if there is one.
    pub fn find(&self, before: Before, tokens: &[u32]) -> Option<Page> {
        let before = self.place(before)?;
        self.index.get(&Key { before, tokens: tokens.into() }).copied()
    }

    /// Puts a full page into the index and returns the page to use from now on: `page` itself, or
    /// one with the same content that is there already, whose holder the caller then is instead.
    pub fn publish(&mut self, before: Before, tokens: &[u32], page: Page) -> Page {
        let Some(before) = self.place(before) else { return page };
        let key = Key { before, tokens: tokens.into() };
        if let Some(there) = self.index.get(&key).copied() {
            if there != page {
                self.share(there);
                self.release(page);
            }
            return there;
        }
        let key = Arc::new(key);
        self.clock += 1;
        self.index.insert(key.clone(), page);
        self.entries[page as usize] = Some(Entry { number: self.clock, key });
        page
    }

    fn place(&self, before: Before) -> Option<Place> {
        Some(match before {
            Before::Salt(salt) => Place::Salt(salt),
            Before::Page(page) => Place::Entry(self.entries[page as usize].as_ref()?.number),
        })
    }

    fn forget(&mut self, page: Page) {
        if let Some(entry) = self.entries[page as usize].take() {
            self.index.remove(&entry.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence's pages, each published; `tokens` has two for each page.
    fn hold(ledger: &mut Ledger, salt: u64, tokens: &[u32]) -> Vec<Page> {
        let mut before = Before::Salt(salt);
        let mut pages = Vec::new();
        for tokens in tokens.chunks_exact(2) {
            let page = match ledger.find(before, tokens) {
                Some(page) => {
                    ledger.share(page);
                    page
                }
                None => {
                    let page = ledger.take().unwrap();
                    ledger.publish(before, tokens, page)
                }
            };
            before = Before::Page(page);
            pages.push(page);
        }
        pages
    }

    fn let_go(ledger: &mut Ledger, pages: Vec<Page>) {
        pages.into_iter().rev().for_each(|page| ledger.release(page));
    }

    fn counts(ledger: &Ledger) -> [usize; 3] {
        [ledger.free(), ledger.used(), ledger.cached()]
    }

    #[test]
    fn a_beginning_is_found_again_and_only_as_far_as_it_is_the_same() {
        let mut ledger = Ledger::new(8, 2);
        let first = hold(&mut ledger, 0, &[1, 2, 3, 4, 5, 6]);
        let_go(&mut ledger, first.clone());
        assert_eq!(counts(&ledger), [5, 0, 3]);
        let second = hold(&mut ledger, 0, &[1, 2, 3, 4, 5, 7]);
        assert_eq!(second[..2], first[..2]);
        assert_ne!(second[2], first[2]);
        assert_eq!(counts(&ledger), [4, 3, 1]);
        // The same tokens behind others are another page.
        assert_eq!(ledger.find(Before::Salt(0), &[3, 4]), None);
    }

    #[test]
    fn salts_share_nothing() {
        let mut ledger = Ledger::new(8, 2);
        let one = hold(&mut ledger, 1, &[1, 2, 3, 4]);
        let two = hold(&mut ledger, 2, &[1, 2, 3, 4]);
        assert!(one.iter().all(|page| !two.contains(page)));
        assert_eq!(counts(&ledger), [4, 4, 0]);
    }

    #[test]
    fn the_page_let_go_longest_ago_goes_first_and_ends_before_beginnings() {
        let mut ledger = Ledger::new(4, 2);
        let old = hold(&mut ledger, 0, &[1, 2, 3, 4]);
        let young = hold(&mut ledger, 0, &[5, 6, 7, 8]);
        let_go(&mut ledger, old.clone());
        let_go(&mut ledger, young.clone());
        let taken: Vec<Page> = (0..4).map(|_| ledger.take().unwrap()).collect();
        assert_eq!(taken, [old[1], old[0], young[1], young[0]]);
        assert_eq!(ledger.take(), None);
        assert!(ledger.index.is_empty() && ledger.entries.iter().all(Option::is_none));
    }

    #[test]
    fn a_page_computed_twice_is_given_back_for_the_first() {
        let mut ledger = Ledger::new(4, 2);
        let (one, two) = (ledger.take().unwrap(), ledger.take().unwrap());
        assert_eq!(ledger.publish(Before::Salt(0), &[1, 2], one), one);
        assert_eq!(ledger.publish(Before::Salt(0), &[1, 2], two), one);
        assert_eq!((ledger.holders(one), counts(&ledger)), (2, [3, 1, 0]));
        ledger.release(one);
        ledger.release(one);
        assert_eq!(counts(&ledger), [3, 0, 1]);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn releasing_a_free_page_is_a_bug_that_shows() {
        let mut ledger = Ledger::new(4, 2);
        let page = ledger.take().unwrap();
        ledger.release(page);
        ledger.release(page);
    }

    #[test]
    fn whatever_happens_every_page_is_free_used_or_cached_and_none_is_orphaned() {
        for seed in 0..20 {
            let mut random = seed * 7919 + 1;
            let mut next = |below: u64| {
                random = u64::wrapping_mul(random, 6_364_136_223_846_793_005) + 1;
                (random >> 33) % below
            };
            let mut ledger = Ledger::new(12, 2);
            let mut alive: Vec<Vec<Page>> = Vec::new();
            for _ in 0..400 {
                if next(3) > 0 && ledger.available() >= 5 {
                    let length = 2 * (1 + next(5));
                    let tokens: Vec<u32> = (0..length).map(|_| next(2) as u32).collect();
                    alive.push(hold(&mut ledger, next(2), &tokens));
                } else if !alive.is_empty() {
                    let gone = alive.swap_remove(next(alive.len() as u64) as usize);
                    let_go(&mut ledger, gone);
                }
                assert_eq!(counts(&ledger).iter().sum::<usize>(), 12, "seed {seed}");
                // What stands before a page in the index is in the index.
                let numbers: Vec<u64> =
                    ledger.entries.iter().flatten().map(|entry| entry.number).collect();
                for entry in ledger.entries.iter().flatten() {
                    if let Place::Entry(before) = entry.key.before {
                        assert!(numbers.contains(&before), "seed {seed}: an orphan");
                    }
                }
            }
        }
    }
}
