//! The kernels of [`super::paired`] with AVX-512's products of bf16 pairs.
#![allow(unsafe_code)]

use super::avx512::totals;
use super::lined::Lined;
use super::paired::narrow;
use super::{Width, may_use};
use std::arch::x86_64::*;
use std::ops::Range;

/// Proof that this processor has AVX-512 (F, BW, VL) and its bf16: only `detect` makes one.
#[derive(Clone, Copy)]
pub struct Fast(());

/// Columns of a register of bf16, and of one of f32.
const WIDE: usize = 32;
const LANES: usize = 16;

/// Rows and queries of a tile: its sums fill half the registers.
const TILE: usize = 4;

/// Queries and rows in bf16, and the rows pair by pair.
pub struct Pairs<'a> {
    queries: Lined<u16>,
    rows: StoredRows<'a>,
    /// A number of a row below the same one of the next. Of each group of 32 the odd columns come
    /// first.
    pairs: Lined<u32>,
    width: usize,
    columns: usize,
    /// Shares of a call, of an even count for each query.
    shares: Vec<u16>,
}

/// Rows where they lie, or copies of them that are filled up to the width.
struct StoredRows<'a> {
    lie: Vec<&'a [u8]>,
    filled: Lined<u8>,
    /// Bytes.
    width: usize,
}

impl StoredRows<'_> {
    /// A row of the width; behind the last comes the last again.
    fn row(&self, at: usize) -> &[u8] {
        let at = at.min(self.lie.len() - 1);
        match self.filled.is_empty() {
            true => self.lie[at],
            false => &self.filled[at * self.width..][..self.width],
        }
    }
}

impl Fast {
    pub fn detect() -> Option<Fast> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        (has && may_use(Width::Avx512)).then_some(Fast(()))
    }
}

impl<'a> Pairs<'a> {
    pub fn new(_: Fast, queries: &[f32], columns: usize, rows: usize) -> Pairs<'a> {
        let width = columns.next_multiple_of(WIDE);
        let mut narrowed = Lined::zeroed(queries.len() / columns * width);
        for (from, to) in queries.chunks_exact(columns).zip(narrowed.chunks_exact_mut(width)) {
            // SAFETY: a `Fast` proves the processor's features; the code itself is safe.
            unsafe { narrow_all(from, &mut to[..columns]) };
        }
        let filled = Lined::zeroed(if columns < width { 2 * rows * width } else { 0 });
        Pairs {
            queries: narrowed,
            rows: StoredRows { lie: Vec::new(), filled, width: 2 * width },
            pairs: Lined::zeroed(rows.div_ceil(2) * width),
            width,
            columns,
            shares: Vec::new(),
        }
    }

    /// Takes rows, as they are stored, in place of those before, and puts them together in pairs.
    pub fn load(&mut self, stored: impl Iterator<Item = &'a [u8]>) {
        let (columns, width) = (2 * self.columns, 2 * self.width);
        self.rows.lie.clear();
        self.rows.lie.extend(stored);
        assert!(self.rows.lie.iter().all(|row| row.len() == columns));
        if columns < width {
            for (from, to) in self.rows.lie.iter().zip(self.rows.filled.chunks_exact_mut(width)) {
                to[..columns].copy_from_slice(from);
            }
        }
        for (at, pairs) in
            (0..self.rows.lie.len().div_ceil(2)).zip(self.pairs.chunks_exact_mut(self.width))
        {
            // SAFETY: there is a `Pairs` where the features are; all are `width` long, a multiple
            // of 32.
            unsafe { pair(self.rows.row(2 * at), self.rows.row(2 * at + 1), pairs) };
        }
    }

    /// The products of some queries with the first `seen` rows, query by query.
    pub fn scores(&self, queries: Range<usize>, seen: usize, out: &mut [f32]) {
        let queries = &self.queries[queries.start * self.width..queries.end * self.width];
        assert!(seen <= self.rows.lie.len());
        assert_eq!(out.len() * self.width, queries.len() * seen);
        // SAFETY: as above; the sizes were just checked.
        unsafe { scores(&self.rows, queries, seen, out) }
    }

    /// Adds the first `seen` rows, each times its share, to each query's sums.
    pub fn mix(&mut self, shares: &[f32], seen: usize, sums: &mut [f32]) {
        let (queries, places) = (shares.len() / seen, seen.next_multiple_of(2));
        self.shares.clear();
        self.shares.resize(queries * places, 0);
        for (from, to) in shares.chunks_exact(seen).zip(self.shares.chunks_exact_mut(places)) {
            // SAFETY: there is a `Pairs` where the features are; the code itself is safe.
            unsafe { narrow_all(from, &mut to[..seen]) };
        }
        let value = sums.len() / queries;
        assert!(value.is_multiple_of(WIDE) && value <= self.width);
        assert!(seen.div_ceil(2) * self.width <= self.pairs.len());
        let rows = PairRows { pairs: &self.pairs, width: self.width, seen };
        // SAFETY: as above; the sizes were just checked.
        unsafe { mix(rows, &self.shares, sums, value) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn narrow_all(from: &[f32], to: &mut [u16]) {
    from.iter().zip(to).for_each(|(from, to)| *to = narrow(*from));
}

/// # Safety
/// The features of [`Fast`] are present; all are of as many numbers, a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn pair(one: &[u8], other: &[u8], out: &mut [u32]) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    for at in (0..out.len()).step_by(WIDE) {
        // SAFETY: 32 numbers from `at` are in each.
        unsafe {
            let first = _mm512_loadu_si512(one.as_ptr().add(2 * at).cast());
            let second = _mm512_loadu_si512(other.as_ptr().add(2 * at).cast());
            let odd =
                _mm512_or_si512(_mm512_srli_epi32::<16>(first), _mm512_and_si512(second, upper));
            let even =
                _mm512_or_si512(_mm512_andnot_si512(upper, first), _mm512_slli_epi32::<16>(second));
            let place = out.as_mut_ptr().add(at);
            _mm512_storeu_si512(place.cast(), odd);
            _mm512_storeu_si512(place.add(LANES).cast(), even);
        }
    }
}

/// # Safety
/// The features of [`Fast`] are present; there are rows for `seen`, as wide as queries.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn scores(rows: &StoredRows<'_>, queries: &[u16], seen: usize, out: &mut [f32]) {
    let width = rows.width / 2;
    let count = queries.len() / width;
    let row = |row: usize| rows.row(row);
    // Of a tile that is not full the last query is computed again.
    let query = |query: usize| &queries[query.min(count - 1) * width..][..width];
    for first in (0..seen).step_by(TILE) {
        let four = [row(first), row(first + 1), row(first + 2), row(first + 3)];
        let height = TILE.min(seen - first);
        for at in (0..count).step_by(TILE) {
            let some = [query(at), query(at + 1), query(at + 2), query(at + 3)];
            // SAFETY: the features are the caller's promise; all are `width` long.
            let tile = unsafe { square(&four, &some) };
            let products = tile.as_chunks::<TILE>().0.iter().take(count - at);
            for (part, products) in products.enumerate() {
                let out = &mut out[(at + part) * seen + first..][..height];
                match height {
                    // Of a known length: one load and one store.
                    TILE => out[..TILE].copy_from_slice(products),
                    _ => out.copy_from_slice(&products[..height]),
                }
            }
        }
    }
}

/// The products of four rows with four queries, query by query.
///
/// # Safety
/// The features of [`Fast`] are present; all are of as many numbers, a multiple of 32.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[allow(clippy::needless_range_loop)] // counted loops unroll, and the sums stay in registers
unsafe fn square(rows: &[&[u8]; TILE], queries: &[&[u16]; TILE]) -> [f32; LANES] {
    let mut sums = [[_mm512_setzero_ps(); TILE]; TILE];
    for at in (0..queries[0].len()).step_by(WIDE) {
        let mut some = [halves(_mm512_setzero_si512()); TILE];
        for query in 0..TILE {
            // SAFETY: 32 numbers from `at` are there.
            let bits = unsafe { _mm512_loadu_si512(queries[query].as_ptr().add(at).cast()) };
            some[query] = halves(bits);
        }
        for row in 0..TILE {
            // SAFETY: as above.
            let bits = unsafe { _mm512_loadu_si512(rows[row].as_ptr().add(2 * at).cast()) };
            let stored = halves(bits);
            for query in 0..TILE {
                sums[row][query] = _mm512_dpbf16_ps(sums[row][query], stored, some[query]);
            }
        }
    }
    totals(&sums)
}

/// The same bits, as numbers of bf16.
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which any are allowed.
    unsafe { std::mem::transmute(bits) }
}

#[derive(Clone, Copy)]
struct PairRows<'a> {
    pairs: &'a [u32],
    width: usize,
    seen: usize,
}

/// # Safety
/// The features of [`Fast`] are present; sizes are as [`Pairs::mix`] checks them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn mix(rows: PairRows<'_>, shares: &[u16], sums: &mut [f32], value: usize) {
    let queries = sums.len() / value;
    let mut column = 0;
    while column < value {
        // Some columns of all rows stay in the nearest cache while all queries pass.
        let is_wide = value - column >= 4 * LANES;
        let mut query = 0;
        while query < queries {
            let is_four = query + TILE <= queries;
            let place = [query, column, value];
            // SAFETY: `query` and, for four, the three behind it are in range, and so are the
            // columns: the width is a multiple of 32.
            unsafe {
                match (is_four, is_wide) {
                    (true, true) => mix_tile::<4, 4>(rows, shares, sums, place),
                    (true, false) => mix_tile::<4, 2>(rows, shares, sums, place),
                    (false, true) => mix_tile::<1, 4>(rows, shares, sums, place),
                    (false, false) => mix_tile::<1, 2>(rows, shares, sums, place),
                }
            }
            query += if is_four { TILE } else { 1 };
        }
        column += if is_wide { 4 * LANES } else { 2 * LANES };
    }
}

/// `Q` queries by `C` registers of columns.
///
/// # Safety
/// As for [`mix`]; all columns are within the width.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[allow(clippy::needless_range_loop)] // as in `square`
unsafe fn mix_tile<const Q: usize, const C: usize>(
    rows: PairRows<'_>,
    shares: &[u16],
    sums: &mut [f32],
    [query, column, value]: [usize; 3],
) {
    let mut totals = [[_mm512_setzero_ps(); C]; Q];
    for q in 0..Q {
        for c in 0..C {
            let at = (query + q) * value + column + c * LANES;
            // SAFETY: inside `sums`, by the caller's promise.
            totals[q][c] = unsafe { _mm512_loadu_ps(sums.as_ptr().add(at)) };
        }
    }
    let pairs = rows.seen.div_ceil(2);
    for pair in 0..pairs {
        // Of an odd count the last has no second row, whatever lies there.
        let is_whole = 2 * pair + 1 < rows.seen;
        let mask = _mm512_set1_epi32(if is_whole { -1 } else { 0xffff });
        let mut row = [halves(mask); C];
        for c in 0..C {
            let at = pair * rows.width + column + c * LANES;
            // SAFETY: inside the pair's numbers, by the caller's promise.
            let both = unsafe { _mm512_loadu_si512(rows.pairs.as_ptr().add(at).cast()) };
            row[c] = halves(_mm512_and_si512(both, mask));
        }
        for q in 0..Q {
            let at = 2 * ((query + q) * pairs + pair);
            // SAFETY: one pair of shares for each query and pair of rows, read wherever it lies.
            let share = unsafe { shares.as_ptr().add(at).cast::<i32>().read_unaligned() };
            let share = halves(_mm512_set1_epi32(share));
            for c in 0..C {
                totals[q][c] = _mm512_dpbf16_ps(totals[q][c], row[c], share);
            }
        }
    }
    for q in 0..Q {
        for c in 0..C {
            let at = (query + q) * value + column + c * LANES;
            // SAFETY: as for the loads.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr().add(at), totals[q][c]) };
        }
    }
}
