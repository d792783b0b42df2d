//! The loop of attention: queries look at the cached rows of their sequence, block by block.
//!
//! Rows are made ready once for all queries that look at them: all heads that share a key, and the
//! neighbouring tokens of a prompt. Blocks begin at fixed positions and the softmax is carried from
//! one to the next, so what a token gets depends neither on pages nor on the tokens beside it.
#![allow(unsafe_code)]

use super::Pass;
use crate::kernels::Element;
use crate::kernels::blend::{self, Softmax};
use crate::kernels::paired::{self, Paired};
use crate::pool::Shares;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

/// What the rows of the cache hold, and who looks at them.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Keys and values of a row.
    pub kv_heads: usize,
    /// Queries that look at each.
    pub group: usize,
    /// Numbers of a key, which lies at the beginning of a row.
    pub key: usize,
    /// Numbers of a value, and where it lies in the row.
    pub value: usize,
    pub value_start: usize,
    pub scale: f32,
}

/// Positions whose rows are widened at once. Sums are carried across blocks, so this is part of
/// what a token's bits are.
const BLOCK: usize = 32;

/// Positions that are summed on their own, so that threads can share a long sequence; sums of spans
/// are joined in rising order, whoever made them. Part of what a token's bits are, too.
const SPAN: usize = 8 * BLOCK;

/// Queries for which rows are widened at once: enough that widening costs little, few enough that
/// their sums stay in the second-level cache.
const QUERIES: usize = 64;

/// Fewer queries of a key do not make up for widening it.
const QUERIES_MIN: usize = 4;

/// Pieces of work for each thread, so that a thread that is held up leaves the rest to others.
const UNITS_PER_THREAD: usize = 4;

/// Some neighbouring slots of one sequence, one key-value head, some of its queries.
struct Unit {
    slots: Range<usize>,
    kv_head: usize,
    queries: Range<usize>,
    /// Spans that the last of the slots sees.
    spans: usize,
}

/// What the queries of a unit have seen, slot by slot.
struct Seen {
    softmax: Vec<Softmax>,
    /// A vector of values for each query, as its block leaves them.
    mixed: Vec<f32>,
}

impl Unit {
    /// Its queries of those of all slots and heads, slot by slot.
    fn own<'a>(&self, heads: Heads, queries: &'a [f32]) -> Cow<'a, [f32]> {
        let of = |slot: usize| {
            let head = (slot * heads.kv_heads + self.kv_head) * heads.group;
            let first = (head + self.queries.start) * heads.key;
            &queries[first..][..self.queries.len() * heads.key]
        };
        match self.slots.len() {
            1 => Cow::Borrowed(of(self.slots.start)),
            _ => Cow::Owned(self.slots.clone().map(of).collect::<Vec<_>>().concat()),
        }
    }
}

impl Heads {
    /// Whether rows are looked at in pairs: those of bf16 whose values are part of their keys.
    pub fn is_paired(&self, element: Element) -> bool {
        self.value_start == 0 && element == Element::Bf16
    }

    /// Numbers of a mixed value on its way.
    fn mixed(&self, element: Element) -> usize {
        if self.is_paired(element) { paired::filled(self.value) } else { self.value }
    }

    /// Mixed values as they are wanted.
    fn values(&self, mixed: Vec<f32>, element: Element) -> Vec<f32> {
        if !self.is_paired(element) {
            return mixed;
        }
        let width = self.mixed(element);
        let mut values = vec![0.0; mixed.len() / width * self.value];
        for (mixed, values) in mixed.chunks_exact(width).zip(values.chunks_exact_mut(self.value)) {
            paired::in_order(mixed, values);
        }
        values
    }
}

impl Pass<'_> {
    /// The mixed values of all slots and heads. `queries` lie slot by slot, head by head.
    pub(super) fn attend(&self, layer: usize, heads: Heads, mut queries: Vec<f32>) -> Vec<f32> {
        queries.iter_mut().for_each(|query| *query *= heads.scale);
        let mut out = vec![0.0; self.slots.len() * heads.kv_heads * heads.group * heads.value];
        let units = self.units(heads);
        let places = Shares::new(&mut out);
        let see = |unit: &Unit, span| self.seen(layer, heads, (unit, span), &queries);
        let element = self.cache.element();
        let mixed = heads.mixed(element);
        let give = |unit: &Unit, seen: Seen| {
            let width = unit.queries.len() * heads.value;
            let values = heads.values(seen.normed(mixed), element);
            for (slot, values) in unit.slots.clone().zip(values.chunks_exact(width)) {
                let head = (slot * heads.kv_heads + unit.kv_head) * heads.group;
                let first = (head + unit.queries.start) * heads.value;
                // SAFETY: these heads of this slot are in no other unit.
                unsafe { places.part(first, width) }.copy_from_slice(values);
            }
        };
        let spans: usize = units.iter().map(|unit| unit.spans).sum();
        if spans == units.len() {
            self.pool.run(units.len(), &|at| {
                let unit = &units[at];
                give(unit, Seen::joined((0..unit.spans).map(|span| see(unit, span)), mixed));
            });
            return out;
        }
        // Units share rows: those of one span are read one after another.
        let firsts: Vec<usize> = units
            .iter()
            .scan(0, |all, unit| Some(std::mem::replace(all, *all + unit.spans)))
            .collect();
        let mut parts: Vec<(usize, usize)> = (0..units.len())
            .flat_map(|at| (0..units[at].spans).map(move |span| (span, at)))
            .collect();
        parts.sort_unstable();
        let seen: Vec<OnceLock<Seen>> = parts.iter().map(|_| OnceLock::new()).collect();
        self.pool.run(parts.len(), &|at| {
            let (span, unit) = parts[at];
            let _ = seen[firsts[unit] + span].set(see(&units[unit], span));
        });
        let mut seen = seen.into_iter().filter_map(OnceLock::into_inner);
        for unit in &units {
            give(unit, Seen::joined(seen.by_ref().take(unit.spans), mixed));
        }
        drop(seen);
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
        let spans = |run: &Range<usize>| self.slots[run.end - 1].position / SPAN + 1;
        let wanted = match self.pool.threads() {
            1 => 1,
            threads => threads * UNITS_PER_THREAD,
        };
        let units = runs.iter().map(spans).sum::<usize>() * heads.kv_heads;
        let queries = heads.group.div_ceil(wanted.div_ceil(units.max(1))).max(QUERIES_MIN);
        let mut units = Vec::new();
        for slots in runs {
            for kv_head in 0..heads.kv_heads {
                for first in (0..heads.group).step_by(queries) {
                    let queries = first..(first + queries).min(heads.group);
                    let spans = spans(&slots);
                    units.push(Unit { slots: slots.clone(), kv_head, queries, spans });
                }
            }
        }
        units
    }

    /// The cached rows of a unit's sequence.
    fn rows(
        &self,
        layer: usize,
        unit: &Unit,
        positions: Range<usize>,
    ) -> impl Iterator<Item = &[u8]> {
        let table = self.tables[self.slots[unit.slots.start].table];
        let place = [layer, unit.kv_head];
        positions.map(move |position| self.cache.row(table, place, position))
    }

    /// What a unit's queries see of one span.
    fn seen(
        &self,
        layer: usize,
        heads: Heads,
        (unit, span): (&Unit, usize),
        queries: &[f32],
    ) -> Seen {
        let each = unit.queries.len();
        let own = unit.own(heads, queries);
        let (count, value) = (unit.slots.len() * each, heads.mixed(self.cache.element()));
        let mut mixed = vec![0.0; count * value];
        let mut softmax = vec![Softmax::NOTHING; count];
        let mut block = Block::new(heads, self.cache.element(), own);
        let first = self.slots[unit.slots.start].position;
        let end = self.slots[unit.slots.end - 1].position + 1;
        let span = span * SPAN..end.min((span + 1) * SPAN);
        for start in span.clone().step_by(BLOCK) {
            block.load(self, layer, unit, start..end.min(start + BLOCK));
            let next = span.end.min(start + BLOCK)..span.end.min(start + 2 * BLOCK);
            // Pages end, and with them what the processor foresees.
            self.rows(layer, unit, next).for_each(blend::fetch);
            if start + BLOCK <= first + 1 {
                block.add(0..count, BLOCK, &mut softmax, &mut mixed);
                continue;
            }
            for (at, slot) in unit.slots.clone().enumerate() {
                let seen = (self.slots[slot].position + 1).saturating_sub(start).min(BLOCK);
                let its = at * each..(at + 1) * each;
                let mixed = &mut mixed[its.start * value..its.end * value];
                block.add(its.clone(), seen, &mut softmax[its], mixed);
            }
        }
        Seen { softmax, mixed }
    }
}

impl Seen {
    /// What was seen of several spans, in their order; `value` numbers to a query.
    fn joined(spans: impl Iterator<Item = Seen>, value: usize) -> Seen {
        let join = |mut all: Seen, span: Seen| {
            let new = span.softmax.iter().zip(span.mixed.chunks_exact(value));
            let old = all.softmax.iter_mut().zip(all.mixed.chunks_exact_mut(value));
            for ((old, mixed), (new, others)) in old.zip(new) {
                // A slot in the span before has seen nothing of this one.
                if new.sum > 0.0 {
                    old.join(mixed, new, others);
                }
            }
            all
        };
        let nothing = Seen { softmax: Vec::new(), mixed: Vec::new() };
        spans.reduce(join).unwrap_or(nothing)
    }

    /// The mixed values, divided by the sums of their shares.
    fn normed(mut self, value: usize) -> Vec<f32> {
        for (softmax, mixed) in self.softmax.iter().zip(self.mixed.chunks_exact_mut(value)) {
            let inverse = 1.0 / softmax.sum;
            mixed.iter_mut().for_each(|mixed| *mixed *= inverse);
        }
        self.mixed
    }
}

/// Queries, and the keys and values of some positions, as they are looked at.
enum Block<'a> {
    Wide(Wide<'a>),
    Paired(Paired<'a>),
}

impl<'a> Block<'a> {
    fn new(heads: Heads, element: Element, queries: Cow<'a, [f32]>) -> Block<'a> {
        match heads.is_paired(element) {
            true => Block::Paired(Paired::new(&queries, heads.key, BLOCK)),
            false => Block::Wide(Wide::new(heads, queries)),
        }
    }

    fn load(&mut self, pass: &'a Pass<'_>, layer: usize, unit: &Unit, positions: Range<usize>) {
        let rows = pass.rows(layer, unit, positions);
        match self {
            Block::Wide(wide) => wide.load(pass.cache.element(), rows),
            Block::Paired(paired) => paired.load(rows),
        }
    }

    /// Lets some of the queries look at the first `seen` positions.
    fn add(
        &mut self,
        queries: Range<usize>,
        seen: usize,
        softmax: &mut [Softmax],
        mixed: &mut [f32],
    ) {
        match self {
            Block::Wide(wide) => wide.add(queries, seen, softmax, mixed),
            Block::Paired(paired) => paired.add(queries, seen, softmax, mixed),
        }
    }
}

/// Widened to f32.
struct Wide<'a> {
    heads: Heads,
    queries: Cow<'a, [f32]>,
    keys: Vec<f32>,
    /// Empty where values are the beginnings of keys.
    values: Vec<f32>,
    shares: Vec<f32>,
}

impl<'a> Wide<'a> {
    fn new(heads: Heads, queries: Cow<'a, [f32]>) -> Wide<'a> {
        let is_within_key = heads.value_start == 0;
        let values = if is_within_key { 0 } else { BLOCK * heads.value };
        let keys = vec![0.0; BLOCK * heads.key];
        Wide { heads, queries, keys, values: vec![0.0; values], shares: Vec::new() }
    }

    fn load<'b>(&mut self, element: Element, rows: impl Iterator<Item = &'b [u8]>) {
        let (key, value, width) = (self.heads.key, self.heads.value, element.bytes());
        for (at, row) in rows.enumerate() {
            let part = |first: usize, length: usize| &row[first * width..(first + length) * width];
            let keys = &mut self.keys[at * key..][..key];
            blend::widen(element, part(0, key), keys);
            if !self.values.is_empty() {
                let values = &mut self.values[at * value..][..value];
                blend::widen(element, part(self.heads.value_start, value), values);
            }
        }
    }

    fn add(
        &mut self,
        queries: Range<usize>,
        seen: usize,
        softmax: &mut [Softmax],
        mixed: &mut [f32],
    ) {
        if seen == 0 {
            return;
        }
        let Heads { key, value, .. } = self.heads;
        self.shares.resize(seen * softmax.len(), 0.0);
        let queries = &self.queries[queries.start * key..queries.end * key];
        blend::scores(&self.keys[..seen * key], key, queries, &mut self.shares);
        let shares = self.shares.chunks_exact_mut(seen);
        for ((softmax, shares), mixed) in
            softmax.iter_mut().zip(shares).zip(mixed.chunks_exact_mut(value))
        {
            let kept = softmax.take(shares);
            if kept != 1.0 {
                mixed.iter_mut().for_each(|mixed| *mixed *= kept);
            }
        }
        match self.values.is_empty() {
            true => blend::mix(&self.keys, key, &self.shares, mixed, seen),
            false => blend::mix(&self.values, value, &self.shares, mixed, seen),
        }
    }
}
