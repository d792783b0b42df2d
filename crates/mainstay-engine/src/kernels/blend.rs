//! What attention is made of: sums of value rows, and exponentials.

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
    if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.widen(element, row, out);
    }
    super::load(element, row, out);
}

/// Products of f32 rows with f32 vectors: those of one row lie together in `out`.
pub fn products_f32(rows: &[f32], columns: usize, x: &[f32], out: &mut [f32]) {
    super::products(Rows { element: Element::F32, bytes: as_bytes(rows), columns }, x, out);
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
    let whole = (x * std::f32::consts::LOG2_E).round_ties_even();
    let rest = (-whole).mul_add(0.693_359_4, x);
    let rest = (-whole).mul_add(-2.121_944_4e-4, rest);
    let mut power = 1.987_569_1e-4f32;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
        power = power.mul_add(rest, factor);
    }
    let power = power.mul_add(rest * rest, rest) + 1.0;
    power * f32::from_bits(((whole as i32 + 127) << 23) as u32)
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

/// Turns scores into `exp(score - highest)` and returns their sum, in rising order.
pub fn weigh(scores: &mut [f32], highest: f32) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = super::avx2::Avx2::detect() {
        avx2.weigh(scores, highest);
        return scores.iter().sum();
    }
    plain_weigh(scores, highest);
    scores.iter().sum()
}

#[inline(always)]
pub(super) fn plain_weigh(scores: &mut [f32], highest: f32) {
    scores.iter_mut().for_each(|score| *score = exp(*score - highest));
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

    #[test]
    fn a_mix_is_the_sum_of_rows_whatever_the_queries_beside() {
        let number = |at: usize| (at * 7919 % 101) as f32 * 0.02 - 1.0;
        for (width, stride, keys) in [(5, 9, 3), (16, 16, 32), (64, 80, 7), (133, 140, 32)] {
            let values: Vec<f32> = (0..keys * stride).map(number).collect();
            let shares: Vec<f32> = (0..7 * keys).map(|at| number(at + 50)).collect();
            let mut sums: Vec<f32> = (0..7 * width).map(|at| number(at + 9)).collect();
            let mut plain = sums.clone();
            mix(&values, stride, &shares, &mut sums, keys);
            for (shares, sums) in shares.chunks(keys).zip(plain.chunks_mut(width)) {
                mix(&values, stride, shares, sums, keys);
            }
            assert_eq!(sums, plain);
        }
    }
}
