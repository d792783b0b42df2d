//! Which prefixes a worker holds, by what it tells of its blocks: engines name blocks by hashes of
//! their own and in sizes of their own, the scheduler asks for one key every 512 tokens.
//!
//! A key is the fold of all tokens up to its end, so that equal keys are equal prefixes whatever
//! the engine's block size; it is there as long as the engine's block that ends with it is.
//!
//! Models of several kinds of layers have a cache for each (groups). What only some of them hold is
//! computed anew, so a prefix is held where all of them hold it (llm-d/llm-d-router#2362). A group
//! with a sliding window gives its beginnings away on purpose: it holds a prefix as long as it
//! holds anything that goes on from there.

use super::events::Change;
use mainstay_core::rng::mix;
use std::collections::HashMap;

/// Tokens for which there is a key.
pub const KEY_TOKENS: u32 = 512;
/// Groups that are told apart. Models have two or three; what more there were would count as the
/// last.
const GROUPS: usize = 8;
/// Blocks of unknown parents, in a thousand, that are chance: beyond them something was missed.
const ORPHANS: u64 = 10;
/// Fewer blocks say nothing of that.
const JUDGED: u64 = 100;

/// What one worker holds.
#[derive(Clone, Debug)]
pub struct Residency {
    /// What no token was folded into yet: model, adapter, tenants that share.
    root: u64,
    blocks: HashMap<u64, Block>,
    /// Groups that were heard of, and of them those with a sliding window.
    groups: u8,
    sliding: u8,
    told: u64,
    orphans: u64,
}

/// One block of the engine.
#[derive(Clone, Debug)]
struct Block {
    parent: Option<u64>,
    /// Tokens up to its end, and their fold.
    end: u32,
    fold: u64,
    /// Groups that hold it,
    held: u8,
    /// and in how many blocks right behind it each group goes on.
    goes_on: [u16; GROUPS],
    /// Whether its key was told as held.
    is_told: bool,
}

/// What changes for the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Keys that are held now.
    pub stored: Vec<u64>,
    /// Keys that are not held any more.
    pub removed: Vec<u64>,
    /// All that was known holds no more: the worker's cache begins anew.
    pub begins: bool,
}

/// The key of each 512 tokens of a prompt, as events of an engine would give them.
pub fn keys(root: u64, tokens: &[u32]) -> Vec<u64> {
    let mut fold = root;
    let blocks = tokens.chunks_exact(KEY_TOKENS as usize);
    blocks
        .map(|block| {
            fold = block.iter().fold(fold, |fold, token| mix(fold, u64::from(*token)));
            fold
        })
        .collect()
}

impl Residency {
    /// Of an empty cache.
    pub fn new(root: u64) -> Residency {
        Residency { root, blocks: HashMap::new(), groups: 0, sliding: 0, told: 0, orphans: 0 }
    }

    /// A change, in the order in which the engine made them.
    pub fn hear(&mut self, change: &Change, news: &mut News) {
        match change {
            Change::Stored { blocks, parent, tokens, block_tokens, medium, group, sliding } => {
                if !is_gpu(medium.as_deref()) {
                    return;
                }
                let group = self.group(group.unwrap_or(0), sliding.is_some(), news);
                let mut parent = *parent;
                let tokens = tokens.chunks(*block_tokens.max(&1) as usize);
                for (hash, tokens) in blocks.iter().zip(tokens) {
                    self.told += 1;
                    let known = parent.map(|parent| self.blocks.get(&parent).map(|it| it.at()));
                    let Some((end, fold)) = known.unwrap_or(Some((0, self.root))) else {
                        // It came before we listened: where it stands is not known.
                        self.orphans += 1;
                        return;
                    };
                    self.store((*hash, parent), (end, fold), tokens, group, news);
                    parent = Some(*hash);
                }
            }
            Change::Removed { blocks, medium, group } => {
                if is_gpu(medium.as_deref()) {
                    // Who does not say of which group means all.
                    let mask = group.map_or(u8::MAX, |group| 1 << place(group));
                    blocks.iter().for_each(|hash| self.remove(*hash, mask, news));
                }
            }
            Change::Cleared => {
                *self = Residency::new(self.root);
                *news = News { begins: true, ..News::default() };
            }
        }
    }

    /// Whether so much is unknown that all must be told again.
    pub fn is_lost(&self) -> bool {
        self.told >= JUDGED && self.orphans * 1000 > self.told * ORPHANS
    }

    /// Keys that are held.
    pub fn held(&self) -> usize {
        self.blocks.values().filter(|block| block.is_told).count()
    }

    fn group(&mut self, group: u32, is_sliding: bool, news: &mut News) -> usize {
        let at = place(group);
        let bit = 1 << at;
        self.sliding |= if is_sliding { bit } else { 0 };
        if self.groups & bit == 0 {
            self.groups |= bit;
            // What was held by all groups is not held by this one yet.
            let all: Vec<u64> = self.blocks.keys().copied().collect();
            all.into_iter().for_each(|hash| self.weigh(hash, news));
        }
        at
    }

    fn store(
        &mut self,
        (hash, parent): (u64, Option<u64>),
        (end, fold): (u32, u64),
        tokens: &[u32],
        group: usize,
        news: &mut News,
    ) {
        let fresh = || Block {
            parent,
            end: end + tokens.len() as u32,
            fold: tokens.iter().fold(fold, |fold, token| mix(fold, u64::from(*token))),
            held: 0,
            goes_on: [0; GROUPS],
            is_told: false,
        };
        let block = self.blocks.entry(hash).or_insert_with(fresh);
        let was = block.has(group);
        block.held |= 1 << group;
        if !was {
            self.passes_on(hash, group, true, news);
        }
        self.weigh(hash, news);
    }

    fn remove(&mut self, hash: u64, mask: u8, news: &mut News) {
        for group in (0..GROUPS).filter(|group| mask & 1 << group != 0) {
            let Some(block) = self.blocks.get_mut(&hash) else { return };
            let was = block.has(group);
            block.held &= !(1 << group);
            if was && !block.has(group) {
                self.passes_on(hash, group, false, news);
            }
        }
        self.weigh(hash, news);
        self.forget(hash);
    }

    /// A group has a block now or has it no more, itself or by what goes on from it; so do those
    /// before it, as far as that is news.
    fn passes_on(&mut self, hash: u64, group: usize, has: bool, news: &mut News) {
        let mut at = self.blocks.get(&hash).and_then(|block| block.parent);
        while let Some(hash) = at {
            let Some(block) = self.blocks.get_mut(&hash) else { return };
            let was = block.has(group);
            let count = &mut block.goes_on[group];
            *count = if has { count.saturating_add(1) } else { count.saturating_sub(1) };
            at = if block.has(group) == was { None } else { block.parent };
            self.weigh(hash, news);
        }
        if !has {
            self.forget_chain(hash);
        }
    }

    /// Whether a block's key is held may have changed.
    fn weigh(&mut self, hash: u64, news: &mut News) {
        let (groups, sliding) = (self.groups, self.sliding);
        let Some(block) = self.blocks.get_mut(&hash) else { return };
        let holds = |group: usize| match sliding & 1 << group {
            0 => block.held & 1 << group != 0,
            _ => block.has(group),
        };
        let is_held = (0..GROUPS).filter(|group| groups & 1 << group != 0).all(holds);
        if !block.end.is_multiple_of(KEY_TOKENS) || is_held == block.is_told {
            return;
        }
        block.is_told = is_held;
        let to = if is_held { &mut news.stored } else { &mut news.removed };
        to.push(block.fold);
    }

    fn forget_chain(&mut self, hash: u64) {
        let mut at = self.blocks.get(&hash).and_then(|block| block.parent);
        while let Some(hash) = at {
            at = self.blocks.get(&hash).and_then(|block| block.parent);
            if !self.forget(hash) {
                return;
            }
        }
    }

    /// Nothing is left to know of it.
    fn forget(&mut self, hash: u64) -> bool {
        let is_gone = |block: &Block| block.held == 0 && block.goes_on == [0; GROUPS];
        let is_over = self.blocks.get(&hash).is_some_and(is_gone);
        if is_over {
            self.blocks.remove(&hash);
        }
        is_over
    }
}

impl Block {
    /// Whether a group has it, or something that goes on from it.
    fn has(&self, group: usize) -> bool {
        self.held & 1 << group != 0 || self.goes_on[group] > 0
    }

    fn at(&self) -> (u32, u64) {
        (self.end, self.fold)
    }
}

fn place(group: u32) -> usize {
    (group as usize).min(GROUPS - 1)
}

/// Older engines know nothing else; other media cost a transfer, and do not count.
fn is_gpu(medium: Option<&str>) -> bool {
    medium.is_none_or(|medium| medium.eq_ignore_ascii_case("gpu"))
}

#[cfg(test)]
mod tests;
