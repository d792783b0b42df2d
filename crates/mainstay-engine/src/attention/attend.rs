//! The loop of attention: queries look at the cached rows of their sequence, block by block.
//!
//! Rows are widened once for all queries that look at them: all heads that share a key, and the
//! neighbouring tokens of a prompt. Blocks begin at fixed positions and the softmax is carried from
//! one to the next, so what a token gets depends neither on pages nor on the tokens beside it.
#![allow(unsafe_code)]

use super::Pass;
use crate::kernels::{self, blend};
use crate::pool::Shares;
use std::ops::Range;

/// What the rows of the cache hold, and who looks at them.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Keys and values of a row.
    pub kv_heads: usize,
    /// Queries that look at each.
    pub group: usize,
    /// Numbers of a key; keys lie at the beginning of a row.
    pub key: usize,
    /// Numbers of a value, and where the first lies.
    pub value: usize,
    pub value_start: usize,
    pub scale: f32,
}

/// Positions whose rows are widened at once. Sums are carried across blocks, so this is part of
/// what a token's bits are.
const BLOCK: usize = 32;

/// Queries for which rows are widened at once: enough that widening costs little, few enough that
/// their sums stay in the second-level cache.
const QUERIES: usize = 64;

/// Pieces of work for each thread, so that a thread that is held up leaves the rest to others.
const UNITS_PER_THREAD: usize = 2;

/// Some neighbouring slots of one sequence, one key-value head, some of its queries.
struct Unit {
    slots: Range<usize>,
    kv_head: usize,
    queries: Range<usize>,
}

/// What one query has so far.
#[derive(Clone)]
struct Softmax {
    highest: f32,
    sum: f32,
}

impl Pass<'_> {
    /// The mixed values of all slots and heads. `queries` lie slot by slot, head by head.
    pub(super) fn attend(&self, layer: usize, heads: Heads, mut queries: Vec<f32>) -> Vec<f32> {
        queries.iter_mut().for_each(|query| *query *= heads.scale);
        let mut out = vec![0.0; self.slots.len() * heads.kv_heads * heads.group * heads.value];
        let units = self.units(heads);
        let places = Shares::new(&mut out);
        self.pool.run(units.len(), &|unit| {
            let unit = &units[unit];
            let mixed = self.mixed(layer, heads, unit, &queries);
            let width = unit.queries.len() * heads.value;
            for (slot, mixed) in unit.slots.clone().zip(mixed.chunks_exact(width)) {
                let head = (slot * heads.kv_heads + unit.kv_head) * heads.group;
                let first = (head + unit.queries.start) * heads.value;
                // SAFETY: these heads of this slot are in no other unit.
                unsafe { places.part(first, width) }.copy_from_slice(mixed);
            }
        });
        out
    }

    fn units(&self, heads: Heads) -> Vec<Unit> {
        let slots_max = (QUERIES / heads.group).max(1);
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            match runs.last_mut() {
                Some(run) if run.len() < slots_max && self.slots[run.start].table == slot.table => {
                    run.end = index + 1;
                }
                _ => runs.push(index..index + 1),
            }
        }
        let wanted = match self.pool.threads() {
            1 => 1,
            threads => threads * UNITS_PER_THREAD,
        };
        let parts = wanted.div_ceil((runs.len() * heads.kv_heads).max(1));
        let queries = heads.group.div_ceil(parts).max(1);
        let mut units = Vec::new();
        for slots in runs {
            for kv_head in 0..heads.kv_heads {
                for first in (0..heads.group).step_by(queries) {
                    let queries = first..(first + queries).min(heads.group);
                    units.push(Unit { slots: slots.clone(), kv_head, queries });
                }
            }
        }
        units
    }

    /// The mixed values of a unit, slot by slot, query by query.
    fn mixed(&self, layer: usize, heads: Heads, unit: &Unit, queries: &[f32]) -> Vec<f32> {
        let each = unit.queries.len();
        let mut own = Vec::with_capacity(unit.slots.len() * each * heads.key);
        for slot in unit.slots.clone() {
            let head = (slot * heads.kv_heads + unit.kv_head) * heads.group;
            let first = (head + unit.queries.start) * heads.key;
            own.extend_from_slice(&queries[first..first + each * heads.key]);
        }
        let count = unit.slots.len() * each;
        let mut mixed = vec![0.0; count * heads.value];
        let mut softmax = vec![Softmax { highest: f32::NEG_INFINITY, sum: 0.0 }; count];
        let mut block = Block::new(heads);
        let first = self.slots[unit.slots.start].position;
        let end = self.slots[unit.slots.end - 1].position + 1;
        for start in (0..end).step_by(BLOCK) {
            block.load(self, layer, unit, start..end.min(start + BLOCK));
            if start + BLOCK <= first + 1 {
                block.add(&own, BLOCK, &mut softmax, &mut mixed);
                continue;
            }
            for (at, slot) in unit.slots.clone().enumerate() {
                let seen = (self.slots[slot].position + 1).saturating_sub(start).min(BLOCK);
                block.add(
                    &own[at * each * heads.key..][..each * heads.key],
                    seen,
                    &mut softmax[at * each..][..each],
                    &mut mixed[at * each * heads.value..][..each * heads.value],
                );
            }
        }
        for (softmax, mixed) in softmax.iter().zip(mixed.chunks_exact_mut(heads.value)) {
            let inverse = 1.0 / softmax.sum;
            mixed.iter_mut().for_each(|mixed| *mixed *= inverse);
        }
        mixed
    }
}

/// The widened keys and values of some positions.
struct Block {
    heads: Heads,
    keys: Vec<f32>,
    /// Empty where values are the beginnings of keys.
    values: Vec<f32>,
    scores: Vec<f32>,
    shares: Vec<f32>,
}

impl Block {
    fn new(heads: Heads) -> Block {
        let is_within_key = heads.value_start == 0;
        let values = if is_within_key { 0 } else { BLOCK * heads.value };
        let keys = vec![0.0; BLOCK * heads.key];
        let (values, scores, shares) = (vec![0.0; values], Vec::new(), Vec::new());
        Block { heads, keys, values, scores, shares }
    }

    fn load(&mut self, pass: &Pass<'_>, layer: usize, unit: &Unit, positions: Range<usize>) {
        let (key, value) = (self.heads.key, self.heads.value);
        let (element, width) = (pass.cache.element(), pass.cache.element().bytes());
        let table = pass.tables[pass.slots[unit.slots.start].table];
        for (at, position) in positions.enumerate() {
            let row = pass.cache.row(table, layer, position);
            let part = |first: usize, length: usize| &row[first * width..(first + length) * width];
            let keys = &mut self.keys[at * key..][..key];
            blend::widen(element, part(unit.kv_head * key, key), keys);
            if !self.values.is_empty() {
                let first = self.heads.value_start + unit.kv_head * value;
                let values = &mut self.values[at * value..][..value];
                blend::widen(element, part(first, value), values);
            }
        }
    }

    /// Lets each of `queries` look at the first `seen` positions.
    fn add(&mut self, queries: &[f32], seen: usize, softmax: &mut [Softmax], mixed: &mut [f32]) {
        if seen == 0 {
            return;
        }
        let Heads { key, value, .. } = self.heads;
        let count = softmax.len();
        self.scores.resize(seen * count, 0.0);
        self.shares.resize(seen * count, 0.0);
        blend::products_f32(&self.keys[..seen * key], key, queries, &mut self.scores);
        for (at, softmax) in softmax.iter_mut().enumerate() {
            let shares = &mut self.shares[at * seen..][..seen];
            for (share, scores) in shares.iter_mut().zip(self.scores.chunks_exact(count)) {
                *share = scores[at];
            }
            let highest = shares.iter().fold(softmax.highest, |highest, score| highest.max(*score));
            let kept = blend::exp(softmax.highest - highest);
            softmax.sum = softmax.sum * kept + blend::weigh(shares, highest);
            softmax.highest = highest;
            if kept != 1.0 {
                mixed[at * value..][..value].iter_mut().for_each(|mixed| *mixed *= kept);
            }
        }
        match self.values.is_empty() {
            true => kernels::blend::mix(&self.keys, key, &self.shares, mixed, seen),
            false => kernels::blend::mix(&self.values, value, &self.shares, mixed, seen),
        }
    }
}
