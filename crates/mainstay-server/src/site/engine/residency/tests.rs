//! An engine that is played, with a cache of one or two groups, and what is foreseen of it.

use super::*;
use mainstay_core::names::WorkerId;
use mainstay_core::rng::Rng;
use mainstay_core::site::schedule::kv_index::{Held, KvIndex, Matches, Slot};
use std::collections::{BTreeMap, BTreeSet};

/// Tokens of the engine's blocks.
const BLOCK: u32 = 64;
const ROOT: u64 = 3;

/// An engine's cache: for each group the blocks that it holds, by when they were used last.
struct Played {
    groups: Vec<(Option<u32>, BTreeMap<u64, u64>)>,
    /// Blocks that fit into each.
    most: usize,
    used: u64,
}

fn hashes(prompt: &[u32]) -> Vec<u64> {
    let mut hash = 99;
    let blocks = prompt.chunks_exact(BLOCK as usize);
    blocks
        .map(|block| {
            hash = block.iter().fold(hash, |hash, token| mix(hash ^ 7, u64::from(*token)));
            hash
        })
        .collect()
}

impl Played {
    fn new(windows: &[Option<u32>], most: usize) -> Played {
        let groups = windows.iter().map(|window| (*window, BTreeMap::new())).collect();
        Played { groups, most, used: 0 }
    }

    /// Tokens of a prompt that need not be computed again.
    fn cached(&self, prompt: &[u32]) -> u32 {
        let all = hashes(prompt);
        let holds = |upto: usize| {
            self.groups.iter().all(|(window, held)| {
                let needed = window.map_or(upto, |tokens| tokens.div_ceil(BLOCK) as usize);
                all[upto.saturating_sub(needed)..upto].iter().all(|hash| held.contains_key(hash))
            })
        };
        (0..=all.len()).rev().find(|upto| holds(*upto)).unwrap_or(0) as u32 * BLOCK
    }

    /// Computes a prompt, and tells what that changes.
    fn compute(&mut self, prompt: &[u32]) -> Vec<Change> {
        let (all, most, mut told) = (hashes(prompt), self.most, Vec::new());
        for (group, (window, held)) in (0..).zip(&mut self.groups) {
            let kept = window.map_or(all.len(), |tokens| tokens.div_ceil(BLOCK) as usize);
            for (at, hash) in all.iter().enumerate() {
                self.used += 1;
                if held.insert(*hash, self.used).is_none() {
                    let tokens = &prompt[at * BLOCK as usize..][..BLOCK as usize];
                    told.push(Change::Stored {
                        blocks: vec![*hash],
                        parent: at.checked_sub(1).map(|before| all[before]),
                        tokens: tokens.to_vec(),
                        block_tokens: BLOCK,
                        medium: Some("GPU".into()),
                        group: Some(group),
                        sliding: *window,
                    });
                }
                let mut gone = Vec::new();
                // Out of the window, and beyond what fits.
                if at >= kept && held.remove(&all[at - kept]).is_some() {
                    gone.push(all[at - kept]);
                }
                while held.len() > most {
                    let oldest = held.iter().min_by_key(|(_, used)| **used);
                    let Some(oldest) = oldest.map(|(hash, _)| *hash) else { break };
                    held.remove(&oldest);
                    gone.push(oldest);
                }
                if !gone.is_empty() {
                    let medium = Some("GPU".into());
                    told.push(Change::Removed { blocks: gone, medium, group: Some(group) });
                }
            }
        }
        told
    }
}

/// What is thought of one worker.
struct View {
    index: KvIndex,
    slot: Slot,
    residency: Residency,
}

impl View {
    fn new() -> View {
        let mut index = KvIndex::default();
        let slot = index.begin(WorkerId(0));
        View { index, slot, residency: Residency::new(ROOT) }
    }

    fn hear(&mut self, changes: &[Change]) {
        for change in changes {
            let mut news = News::default();
            self.residency.hear(change, &mut news);
            if news.begins {
                self.index.end(self.slot);
                self.slot = self.index.begin(WorkerId(0));
            }
            let (slot, index) = (self.slot, &mut self.index);
            news.removed.iter().for_each(|key| index.remove(slot, *key, Held::Stored));
            news.stored.iter().for_each(|key| index.store(slot, *key, Held::Stored));
        }
    }

    fn foreseen(&self, prompt: &[u32]) -> u32 {
        let mut found = Matches::default();
        self.index.matches(&keys(ROOT, prompt), &mut found);
        found.of(self.slot) * KEY_TOKENS
    }
}

/// Conversations that grow, in no order.
struct Talks(Vec<Vec<u32>>, Rng);

impl Talks {
    fn next(&mut self) -> Vec<u32> {
        let Talks(all, rng) = self;
        let at = rng.below(all.len() as u64) as usize;
        let more = KEY_TOKENS * (1 + rng.below(3) as u32);
        // Too long, and another one begins in its place.
        if all[at].len() > 12 * KEY_TOKENS as usize {
            all[at].clear();
        }
        all[at].extend((0..more).map(|_| rng.below(50_000) as u32));
        all[at].clone()
    }
}

fn talks(seed: u64) -> Talks {
    Talks(vec![Vec::new(); 24], Rng::new(seed))
}

/// Foreseen and found of some prompts.
fn compare(view: &mut View, engine: &mut Played, talks: &mut Talks, count: usize) -> (u32, u32) {
    let (mut foreseen, mut found) = (0, 0);
    for _ in 0..count {
        let prompt = talks.next();
        foreseen += view.foreseen(&prompt);
        found += engine.cached(&prompt);
        view.hear(&engine.compute(&prompt));
    }
    (foreseen, found)
}

fn is_close((foreseen, found): (u32, u32)) -> bool {
    found > 0 && foreseen.abs_diff(found) * 20 <= found
}

/// llm-d/llm-d-router#2362: caches of several kinds of layers, of which one evicts sooner.
#[test]
fn of_a_hybrid_cache_that_is_foreseen_which_all_its_groups_hold() {
    let two_kinds: [&[Option<u32>]; 4] =
        [&[None], &[None, None], &[None, Some(1024)], &[None, Some(1024), Some(1024)]];
    for windows in two_kinds {
        for most in [600, 1200, 20_000] {
            let (mut view, mut talks) = (View::new(), talks(5));
            let mut engine = Played::new(windows, most);
            let told = compare(&mut view, &mut engine, &mut talks, 120);
            println!("{windows:?} of {most} blocks: {told:?}");
            assert!(is_close(told), "{windows:?} of {most} blocks: {told:?}");
        }
    }
    // A group that has room for less than the other.
    let (mut view, mut talks) = (View::new(), talks(6));
    let mut engine = Played::new(&[None, None], 1200);
    let mut told = (0, 0);
    for _ in 0..120 {
        let prompt = talks.next();
        told = (told.0 + view.foreseen(&prompt), told.1 + engine.cached(&prompt));
        let mut changes = engine.compute(&prompt);
        let small = &mut engine.groups[1].1;
        while small.len() > 500 {
            let oldest = *small.iter().min_by_key(|(_, used)| **used).unwrap().0;
            small.remove(&oldest);
            let (blocks, medium) = (vec![oldest], Some("GPU".into()));
            changes.push(Change::Removed { blocks, medium, group: Some(1) });
        }
        view.hear(&changes);
    }
    assert!(is_close(told), "{told:?}");
}

/// llm-d/llm-d-router#2853, #1581; vllm-project/aibrix#2287: after a restart or sleep, or when we
/// begin to listen late, what is foreseen is what is found again.
#[test]
fn after_a_restart_or_a_late_beginning_it_is_foreseen_what_is_found() {
    let (mut view, mut talks) = (View::new(), talks(7));
    let mut engine = Played::new(&[None], 1200);
    compare(&mut view, &mut engine, &mut talks, 100);
    engine = Played::new(&[None], 1200);
    view.hear(&[Change::Cleared]);
    assert_eq!(view.residency.held(), 0);
    let told = compare(&mut view, &mut engine, &mut talks, 100);
    assert!(is_close(told), "{told:?}");
    // Nobody listened so far, and nothing is told again.
    view = View::new();
    let first: Vec<u32> = talks.0[0].clone();
    let goes_on: Vec<u32> = first.iter().copied().chain(0..KEY_TOKENS).collect();
    view.hear(&engine.compute(&goes_on));
    assert_eq!(view.foreseen(&goes_on) % KEY_TOKENS, 0);
    compare(&mut view, &mut engine, &mut talks, 30);
    assert!(view.residency.is_lost(), "all must be told again, or forgotten on both sides");
}

#[test]
fn what_lies_elsewhere_than_on_the_gpu_is_not_held() {
    let mut view = View::new();
    let mut engine = Played::new(&[None], 1200);
    let prompt: Vec<u32> = (0..4 * KEY_TOKENS).collect();
    let mut changes = engine.compute(&prompt);
    for change in &mut changes {
        if let Change::Stored { medium, .. } = change {
            *medium = Some("CPU".into());
        }
    }
    view.hear(&changes);
    assert_eq!((view.foreseen(&prompt), view.residency.held()), (0, 0));
}

/// However events come, nothing is told as held twice or removed that was not, and nothing is left
/// of blocks that are gone.
#[test]
fn news_is_news_and_what_is_gone_takes_no_room() {
    let mut rng = Rng::new(9);
    let mut residency = Residency::new(ROOT);
    let mut held: BTreeSet<u64> = BTreeSet::new();
    let prompt: Vec<u32> = (0..8 * KEY_TOKENS).collect();
    let all = hashes(&prompt);
    let mut told = Vec::new();
    for _ in 0..20_000 {
        let at = rng.below(all.len() as u64) as usize;
        let group = rng.below(2) as u32;
        let change = if rng.below(5) < 3 {
            Change::Stored {
                blocks: vec![all[at]],
                parent: at.checked_sub(1).map(|before| all[before]),
                tokens: prompt[at * BLOCK as usize..][..BLOCK as usize].to_vec(),
                block_tokens: BLOCK,
                medium: None,
                group: Some(group),
                sliding: (group == 1).then_some(1024),
            }
        } else {
            Change::Removed { blocks: vec![all[at]], medium: None, group: Some(group) }
        };
        let mut news = News::default();
        residency.hear(&change, &mut news);
        news.removed.iter().for_each(|key| assert!(held.remove(key)));
        news.stored.iter().for_each(|key| assert!(held.insert(*key)));
        told.push(news);
    }
    assert_eq!(residency.held(), held.len());
    assert!(told.iter().any(|news| !news.removed.is_empty()));
    for hash in all.iter().rev() {
        for group in [None, Some(0)] {
            let change = Change::Removed { blocks: vec![*hash], medium: None, group };
            residency.hear(&change, &mut News::default());
        }
    }
    assert!(residency.blocks.is_empty(), "{}", residency.blocks.len());
}
