//! What attention is made of: sums of value rows, and exponentials.

#![allow(unsafe_code)]

use super::{Element, Rows};

/// The value rows of some keys: each begins `stride` numbers after the one before.
pub(super) struct ValueRows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub keys: usize,
}

/// Adds to each query's sum the value rows of `keys` keys, each times its share.
///
/// `shares` has `keys` numbers for each query, `sums` a vector for each; a value row begins each
/// `stride` numbers of `values`. Rows are added one after another, whatever the queries beside.
pub fn mix(values: &[f32], stride: usize, shares: &[f32], sums: &mut [f32], keys: usize) {
    if keys == 0 || shares.is_empty() {
        return;
    }
    let queries = shares.len() / keys;
    let width = sums.len() / queries;
    assert!(shares.len() == queries * keys && sums.len() == queries * width);
    assert!(width <= stride && values.len() >= (keys - 1) * stride + width);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = super::tiles::avx512::Avx512::detect() {
        return avx512.mix(&ValueRows { values, stride, keys }, shares, sums);
    } else if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.mix(&ValueRows { values, stride, keys }, shares, sums);
    }
    for (shares, sums) in shares.chunks_exact(keys).zip(sums.chunks_exact_mut(width)) {
        for (share, row) in shares.iter().zip(values.chunks(stride)) {
            super::add_scaled_f32(&row[..width], *share, sums);
        }
    }
}

/// Widens the numbers of `row` to f32.
pub fn widen(element: Element, row: &[u8], out: &mut [f32]) {
    assert_eq!(row.len(), out.len() * element.bytes());
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = super::tiles::avx512::Avx512::detect() {
        return avx512.widen(element, row, out);
    } else if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.widen(element, row, out);
    }
    super::load(element, row, out);
}

/// Asks for a row, to be in the second-level cache when it is loaded.
pub fn fetch(row: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in row.chunks(64) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = row;
}

/// Products of f32 rows (`columns` to a row) with f32 vectors: those of one vector lie together in
/// `out`.
pub fn scores(rows: &[f32], columns: usize, x: &[f32], out: &mut [f32]) {
    let (height, vectors) = (rows.len() / columns, x.len() / columns);
    assert_eq!((rows.len(), x.len()), (height * columns, vectors * columns));
    assert_eq!(out.len(), height * vectors);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = super::tiles::avx512::Avx512::detect() {
        return avx512.scores([rows, x], columns, out);
    }
    let mut by_row = vec![0.0; out.len()];
    let rows = Rows { element: Element::F32, bytes: as_bytes(rows), columns };
    super::products(rows, x, &mut by_row);
    for (row, by_row) in by_row.chunks_exact(vectors.max(1)).enumerate() {
        let places = out[row..].iter_mut().step_by(height);
        places.zip(by_row).for_each(|(out, product)| *out = *product);
    }
}

/// The bytes of numbers, as they are on a little-endian processor.
#[allow(unsafe_code)]
pub(super) fn as_bytes(numbers: &[f32]) -> &[u8] {
    const { assert!(cfg!(target_endian = "little"), "stored numbers are little-endian") };
    // SAFETY: the same memory, with no demand on alignment, for as long.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// e to the power of `x`, within 2 units in the last place; 0 below about -87. The compiler makes
/// vector code of loops over it. Cephes' polynomial.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Above this the result is no f32, below it no normal one.
    let x = x.clamp(-87.3, 88.7);
    // Adding 1.5 * 2^23 leaves no bits behind the point: rounded, of two as near to the even one.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let rest = (-whole).mul_add(0.693_359_4, x);
    let rest = (-whole).mul_add(-2.121_944_4e-4, rest);
    let mut power = 1.987_569_1e-4f32;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        power = power.mul_add(rest, factor);
    }
    let power = power.mul_add(rest * rest, rest) + 1.0;
    // The lowest bits of `shifted` are the whole number: into the exponent with it.
    power * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

/// `silu(gate) * up`, in place of `gate`.
pub fn silu_times(gate: &mut [f32], up: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.silu_times(gate, up);
    }
    plain_silu_times(gate, up);
}

#[inline(always)]
pub(super) fn plain_silu_times(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// What a query has seen of the softmax over its scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Softmax {
    pub highest: f32,
    /// Of `exp(score - highest)`.
    pub sum: f32,
}

impl Softmax {
    pub const NOTHING: Softmax = Softmax { highest: f32::NEG_INFINITY, sum: 0.0 };

    /// Takes `scores` in and turns them into shares, `exp(score - highest)`. Returns what shares
    /// from before must be multiplied by.
    pub fn take(&mut self, scores: &mut [f32]) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx512) = super::tiles::avx512::Avx512::detect() {
            return avx512.take(self, scores);
        } else if let Some(avx2) = super::avx2::Avx2::detect() {
            return avx2.take(self, scores);
        }
        self.plain_take(scores)
    }

    /// Sums are kept in lanes and folded, always in the same order.
    #[inline(always)]
    pub(super) fn plain_take(&mut self, scores: &mut [f32]) -> f32 {
        let higher = |a: f32, b: f32| if b > a { b } else { a };
        let mut lanes = [self.highest; LANES];
        let (whole, rest) = scores.as_chunks::<LANES>();
        for chunk in whole {
            lanes.iter_mut().zip(chunk).for_each(|(lane, score)| *lane = higher(*lane, *score));
        }
        lanes.iter_mut().zip(rest).for_each(|(lane, score)| *lane = higher(*lane, *score));
        let highest = lanes.into_iter().fold(self.highest, higher);
        let mut lanes = [0.0; LANES];
        let (whole, rest) = scores.as_chunks_mut::<LANES>();
        for chunk in whole {
            chunk.iter_mut().for_each(|score| *score = exp(*score - highest));
            lanes.iter_mut().zip(chunk).for_each(|(lane, share)| *lane += *share);
        }
        rest.iter_mut().for_each(|score| *score = exp(*score - highest));
        lanes.iter_mut().zip(rest).for_each(|(lane, share)| *lane += *share);
        let kept = exp(self.highest - highest);
        self.highest = highest;
        self.sum = self.sum * kept + fold(lanes);
        kept
    }

    /// Adds what was seen of other keys, with the values mixed there, to this and `mixed`.
    pub fn join(&mut self, mixed: &mut [f32], other: &Softmax, others: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = super::avx2::Avx2::detect() {
            return avx2.join(self, mixed, (other, others));
        }
        self.plain_join(mixed, (other, others));
    }

    #[inline(always)]
    pub(super) fn plain_join(&mut self, mixed: &mut [f32], other: (&Softmax, &[f32])) {
        let (other, others) = other;
        let highest = if other.highest > self.highest { other.highest } else { self.highest };
        let (own, new) = (exp(self.highest - highest), exp(other.highest - highest));
        for (mixed, other) in mixed.iter_mut().zip(others) {
            *mixed = other.mul_add(new, *mixed * own);
        }
        *self = Softmax { highest, sum: self.sum * own + other.sum * new };
    }
}

/// Numbers that are summed side by side: the widest register.
const LANES: usize = 16;

/// The sum over lanes: halves are added until one is left.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_near_the_librarys() {
        for step in -8000..800 {
            let x = step as f32 * 0.01;
            let error = (exp(x) - x.exp()).abs() / x.exp();
            assert!(error < 3e-7, "{x}: {error}");
        }
        assert_eq!((exp(0.0), exp(-1e9)), (1.0, exp(-87.3)));
    }

    fn number(at: usize) -> f32 {
        (at * 7919 % 101) as f32 * 0.02 - 1.0
    }

    #[test]
    fn scores_are_the_plain_products_bit_for_bit() {
        for (columns, height, vectors) in [(576, 32, 16), (16, 7, 5), (24, 9, 4), (37, 6, 9)] {
            let rows: Vec<f32> = (0..height * columns).map(number).collect();
            let x: Vec<f32> = (0..vectors * columns).map(|at| number(at + 11)).collect();
            let mut out = vec![9.0; height * vectors];
            scores(&rows, columns, &x, &mut out);
            for (at, out) in out.iter().enumerate() {
                let (vector, row) = (at / height, at % height);
                let row = as_bytes(&rows[row * columns..][..columns]);
                let plain =
                    super::super::scalar::dot(Element::F32, row, &x[vector * columns..][..columns]);
                assert_eq!(*out, plain, "{columns} columns");
            }
        }
    }

    #[test]
    fn a_softmax_in_parts_is_that_of_the_plain_code_and_near_the_whole() {
        let scores: Vec<f32> = (0..77).map(|at| number(at) * 9.0).collect();
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let whole: f32 = scores.iter().map(|score| (score - highest).exp()).sum();
        let mut softmax = Softmax::NOTHING;
        let mut plain = Softmax::NOTHING;
        for part in scores.chunks(21) {
            let (mut one, mut two) = (part.to_vec(), part.to_vec());
            #[cfg(target_arch = "x86_64")]
            if let Some(avx2) = crate::kernels::avx2::Avx2::detect() {
                let (mut softmax, mut one) = (softmax, one.clone());
                avx2.take(&mut softmax, &mut one);
                let mut plain = plain;
                plain.plain_take(&mut two.clone());
                assert_eq!(softmax, plain, "AVX2");
            }
            assert_eq!(softmax.take(&mut one), plain.plain_take(&mut two));
            assert_eq!((one, softmax), (two, plain));
        }
        assert!((softmax.sum - whole).abs() < 1e-4 && softmax.highest == highest);
        let other = Softmax { highest: 3.0, sum: 2.5 };
        let (mut mixed, others): (Vec<f32>, Vec<f32>) =
            (0..37).map(|at| (number(at), number(at + 5))).unzip();
        let mut slowly = mixed.clone();
        softmax.join(&mut mixed, &other, &others);
        plain.plain_join(&mut slowly, (&other, &others));
        assert_eq!((mixed, softmax), (slowly, plain));
    }

    #[test]
    fn a_mix_is_the_sum_of_rows_whatever_the_queries_beside() {
        for (width, stride, keys) in [(5, 9, 3), (16, 16, 32), (64, 80, 7), (133, 140, 32)] {
            let values: Vec<f32> = (0..keys * stride).map(number).collect();
            let shares: Vec<f32> = (0..7 * keys).map(|at| number(at + 50)).collect();
            let mut sums: Vec<f32> = (0..7 * width).map(|at| number(at + 9)).collect();
            let (mut plain, mut narrow) = (sums.clone(), sums.clone());
            mix(&values, stride, &shares, &mut sums, keys);
            for (shares, sums) in shares.chunks(keys).zip(plain.chunks_mut(width)) {
                for (share, row) in shares.iter().zip(values.chunks(stride)) {
                    let row = as_bytes(&row[..width]);
                    super::super::scalar::add_scaled(Element::F32, row, *share, sums);
                }
            }
            assert_eq!(sums, plain);
            #[cfg(target_arch = "x86_64")]
            if let Some(avx2) = crate::kernels::avx2::Avx2::detect() {
                avx2.mix(&ValueRows { values: &values, stride, keys }, &shares, &mut narrow);
                assert_eq!(narrow, plain, "AVX2");
            }
        }
    }
}
