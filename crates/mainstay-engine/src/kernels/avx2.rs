//! The kernels with AVX2, FMA and F16C: eight numbers at a time.
//!
//! A tile of rows and vectors is computed at once, so that each number loaded is used several
//! times. Whatever the tile, the sum of one dot product is kept in two registers and a scalar
//! tail, in the same order: the result of one vector never depends on the others.
#![allow(unsafe_code)]

use super::blend::{Softmax, ValueRows};
use super::quantised::{self, Quantised};
use super::{Element, Rows, Width, blend};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2, FMA and F16C: only `detect` makes one.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// Numbers in a register, and numbers one round of a dot product takes.
const LANES: usize = 8;
const ROUND: usize = 2 * LANES;

impl Avx2 {
    pub fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        (has && super::may_use(Width::Avx2)).then_some(Avx2(()))
    }

    /// The products of each row with each vector of `x`; those of one row lie together in `out`.
    pub fn multiply(self, rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
        let vectors = x.len() / rows.columns;
        assert_eq!(x.len(), vectors * rows.columns);
        assert_eq!(out.len(), vectors * rows.count());
        // SAFETY: `self` proves the processor features; the kernels take their rows and vectors by
        // safe slicing and read only inside them.
        unsafe {
            match rows.element {
                Element::F32 => multiply::<F32>(rows, x, out),
                Element::Bf16 => multiply::<Bf16>(rows, x, out),
                Element::F16 => multiply::<F16>(rows, x, out),
            }
        }
    }

    pub fn quantise(self, x: &[f32], out: &mut Quantised) {
        // SAFETY: `self` proves the processor features; the code itself is safe.
        unsafe { quantise(x, out) }
    }

    pub fn silu_times(self, gate: &mut [f32], up: &[f32]) {
        // SAFETY: as above.
        unsafe { silu_times(gate, up) }
    }

    pub fn take(self, softmax: &mut Softmax, scores: &mut [f32]) -> f32 {
        // SAFETY: as above.
        unsafe { take(softmax, scores) }
    }

    pub fn join(self, softmax: &mut Softmax, mixed: &mut [f32], other: (&Softmax, &[f32])) {
        // SAFETY: as above.
        unsafe { join(softmax, mixed, other) }
    }

    /// See [`super::blend::mix`], which has checked the sizes.
    pub(super) fn mix(self, rows: &ValueRows<'_>, shares: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` proves the processor's features; sizes were checked.
        unsafe { mix(rows, shares, sums) }
    }

    /// Widens a row of the length of `out`.
    pub fn widen(self, element: Element, row: &[u8], out: &mut [f32]) {
        assert_eq!(row.len(), out.len() * element.bytes());
        // SAFETY: features proven by `self`, lengths checked above.
        unsafe {
            match element {
                Element::F32 => widen::<F32>(row, out),
                Element::Bf16 => widen::<Bf16>(row, out),
                Element::F16 => widen::<F16>(row, out),
            }
        }
    }

    /// Narrows to f16, to the nearest, of two as near to the even one.
    pub fn store_f16(self, values: &[f32], row: &mut [u8]) {
        assert_eq!(row.len(), values.len() * 2);
        // SAFETY: features proven by `self`, lengths checked above.
        unsafe { store_f16(values, row) }
    }

    /// Adds `scale` times the row to `sum`, of the row's length.
    pub fn add_scaled(self, element: Element, row: &[u8], scale: f32, sum: &mut [f32]) {
        assert_eq!(row.len(), sum.len() * element.bytes());
        // SAFETY: features proven by `self`, lengths checked above.
        unsafe {
            match element {
                Element::F32 => add_scaled::<F32>(row, scale, sum),
                Element::Bf16 => add_scaled::<Bf16>(row, scale, sum),
                Element::F16 => add_scaled::<F16>(row, scale, sum),
            }
        }
    }
}

/// The plain code, compiled for this processor.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantise(x: &[f32], out: &mut Quantised) {
    quantised::quantise(x, out);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn silu_times(gate: &mut [f32], up: &[f32]) {
    blend::plain_silu_times(gate, up);
}

#[target_feature(enable = "avx2,fma,f16c")]
fn take(softmax: &mut Softmax, scores: &mut [f32]) -> f32 {
    softmax.plain_take(scores)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn join(softmax: &mut Softmax, mixed: &mut [f32], other: (&Softmax, &[f32])) {
    softmax.plain_join(mixed, other);
}

/// Two queries by four registers of columns at a time; what is left over, one by one.
///
/// # Safety
/// AVX2, FMA and F16C are present; sizes are as [`super::blend::mix`] checks them.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn mix(rows: &ValueRows<'_>, shares: &[f32], sums: &mut [f32]) {
    let queries = shares.len() / rows.keys;
    let width = sums.len() / queries;
    let wide = width / (4 * LANES) * (4 * LANES);
    for column in (0..wide).step_by(4 * LANES) {
        let mut query = 0;
        while query < queries {
            // SAFETY: the queries are in range, and the columns within the width.
            unsafe {
                match query + 2 <= queries {
                    true => mix_tile::<2>(rows, shares, sums, [query, column, width]),
                    false => mix_tile::<1>(rows, shares, sums, [query, column, width]),
                }
            }
            query += 2;
        }
    }
    for (shares, sums) in shares.chunks_exact(rows.keys).zip(sums.chunks_exact_mut(width)) {
        for (share, row) in shares.iter().zip(rows.values.chunks(rows.stride)) {
            let row = blend::as_bytes(&row[wide..width]);
            // SAFETY: the row holds as many numbers as are left of the sums.
            unsafe { add_scaled::<F32>(row, *share, &mut sums[wide..]) };
        }
    }
}

/// # Safety
/// As for [`mix`]; the queries from `query` on and 32 columns from `column` on are there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // as in `tile`
unsafe fn mix_tile<const Q: usize>(
    rows: &ValueRows<'_>,
    shares: &[f32],
    sums: &mut [f32],
    [query, column, width]: [usize; 3],
) {
    let mut totals = [[_mm256_setzero_ps(); 4]; Q];
    for q in 0..Q {
        for c in 0..4 {
            let at = (query + q) * width + column + c * LANES;
            // SAFETY: inside `sums`, by the caller's promise.
            totals[q][c] = unsafe { _mm256_loadu_ps(sums.as_ptr().add(at)) };
        }
    }
    for key in 0..rows.keys {
        let at = key * rows.stride + column;
        for q in 0..Q {
            let share = _mm256_set1_ps(shares[(query + q) * rows.keys + key]);
            for c in 0..4 {
                // SAFETY: inside the key's row, by the caller's promise.
                let row = unsafe { _mm256_loadu_ps(rows.values.as_ptr().add(at + c * LANES)) };
                totals[q][c] = _mm256_fmadd_ps(share, row, totals[q][c]);
            }
        }
    }
    for q in 0..Q {
        for c in 0..4 {
            let at = (query + q) * width + column + c * LANES;
            // SAFETY: as for the loads.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr().add(at), totals[q][c]) };
        }
    }
}

/// # Safety
/// AVX2, FMA and F16C are present; the row holds `out.len()` numbers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn widen<S: Stored>(row: &[u8], out: &mut [f32]) {
    let mut at = 0;
    while at + LANES <= out.len() {
        // SAFETY: at + 8 <= out.len(), which is also the row's count of numbers.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr().add(at), S::eight(row.as_ptr().add(at * S::BYTES)));
        }
        at += LANES;
    }
    for (index, out) in out.iter_mut().enumerate().skip(at) {
        *out = S::one(&row[index * S::BYTES..]);
    }
}

/// # Safety
/// AVX2, FMA and F16C are present; the row has room for `values.len()` numbers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn store_f16(values: &[f32], row: &mut [u8]) {
    let mut at = 0;
    while at + LANES <= values.len() {
        // SAFETY: at + 8 <= values.len(), which is also the row's count of numbers.
        unsafe {
            let wide = _mm256_loadu_ps(values.as_ptr().add(at));
            let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(wide);
            _mm_storeu_si128(row.as_mut_ptr().add(at * 2).cast(), halves);
        }
        at += LANES;
    }
    for (value, to) in values.iter().zip(row.chunks_exact_mut(2)).skip(at) {
        to.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
    }
}

/// One way to store a number, and how to widen it.
trait Stored {
    const BYTES: usize;
    /// Widens the eight numbers at `at`.
    ///
    /// # Safety
    /// `at` points to `8 * BYTES` readable bytes (any alignment); AVX2 and F16C are present.
    unsafe fn eight(at: *const u8) -> __m256;
    fn one(at: &[u8]) -> f32;
}

struct F32;
struct Bf16;
struct F16;

impl Stored for F32 {
    const BYTES: usize = 4;
    // SAFETY: unsafe as the trait says: whoever calls has checked the processor and the bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller grants 32 readable bytes; the load asks for no alignment.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
    fn one(at: &[u8]) -> f32 {
        f32::from_le_bytes([at[0], at[1], at[2], at[3]])
    }
}

impl Stored for Bf16 {
    const BYTES: usize = 2;
    // SAFETY: unsafe as the trait says: whoever calls has checked the processor and the bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller grants 16 readable bytes; the load asks for no alignment.
        let halves = unsafe { _mm_loadu_si128(at.cast()) };
        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
    }
    fn one(at: &[u8]) -> f32 {
        bf16::from_le_bytes([at[0], at[1]]).to_f32()
    }
}

impl Stored for F16 {
    const BYTES: usize = 2;
    // SAFETY: unsafe as the trait says: whoever calls has checked the processor and the bytes.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn eight(at: *const u8) -> __m256 {
        // SAFETY: the caller grants 16 readable bytes; the load asks for no alignment.
        let halves = unsafe { _mm_loadu_si128(at.cast()) };
        _mm256_cvtph_ps(halves)
    }
    fn one(at: &[u8]) -> f32 {
        f16::from_le_bytes([at[0], at[1]]).to_f32()
    }
}

/// Walks the rows in tiles that fill the registers: four rows by one vector while decoding, two by
/// two in larger batches.
///
/// # Safety
/// AVX2, FMA and F16C are present.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn multiply<S: Stored>(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    let (height, vectors) = (rows.count(), x.len() / rows.columns);
    let mut row = 0;
    // SAFETY: the features are the caller's promise.
    unsafe {
        if vectors == 1 {
            while row + 4 <= height {
                strip::<S, 4>(rows, row, x, &mut out[row..row + 4]);
                row += 4;
            }
        } else {
            while row + 2 <= height {
                strip::<S, 2>(rows, row, x, &mut out[row * vectors..(row + 2) * vectors]);
                row += 2;
            }
        }
        while row < height {
            strip::<S, 1>(rows, row, x, &mut out[row * vectors..(row + 1) * vectors]);
            row += 1;
        }
    }
}

/// `R` rows from `first` with all vectors.
///
/// # Safety
/// AVX2, FMA and F16C are present.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn strip<S: Stored, const R: usize>(
    rows: Rows<'_>,
    first: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let vectors = x.len() / rows.columns;
    let mut stored: [&[u8]; R] = [&[]; R];
    for (row, stored) in stored.iter_mut().enumerate() {
        *stored = rows.row(first + row);
    }
    let vector = |index: usize| &x[index * rows.columns..(index + 1) * rows.columns];
    let mut at = 0;
    while R < 4 && at + 2 <= vectors {
        // SAFETY: the features are the caller's promise; rows and vectors have `columns` numbers.
        let tile = unsafe { tile::<S, R, 2>(&stored, &[vector(at), vector(at + 1)]) };
        for (row, products) in tile.iter().enumerate() {
            out[row * vectors + at..row * vectors + at + 2].copy_from_slice(products);
        }
        at += 2;
    }
    while at < vectors {
        // SAFETY: as above.
        let tile = unsafe { tile::<S, R, 1>(&stored, &[vector(at)]) };
        for (row, products) in tile.iter().enumerate() {
            out[row * vectors + at] = products[0];
        }
        at += 1;
    }
}

/// The products of `R` rows with `V` vectors.
///
/// # Safety
/// AVX2, FMA and F16C are present; all rows and vectors hold the same count of numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // counted loops unroll, and the sums stay in registers
unsafe fn tile<S: Stored, const R: usize, const V: usize>(
    rows: &[&[u8]; R],
    x: &[&[f32]; V],
) -> [[f32; V]; R] {
    let columns = x[0].len();
    let mut sums = [[[_mm256_setzero_ps(); 2]; V]; R];
    let mut at = 0;
    while at + ROUND <= columns {
        // SAFETY: at + 16 <= columns, so both halves stay inside every row and vector.
        unsafe {
            eight_columns::<S, R, V, 0>(rows, x, at, &mut sums);
            eight_columns::<S, R, V, 1>(rows, x, at + LANES, &mut sums);
        }
        at += ROUND;
    }
    if at + LANES <= columns {
        // SAFETY: at + 8 <= columns.
        unsafe { eight_columns::<S, R, V, 0>(rows, x, at, &mut sums) };
        at += LANES;
    }
    let mut out = [[0.0; V]; R];
    for row in 0..R {
        for vector in 0..V {
            let mut total = total(sums[row][vector]);
            for index in at..columns {
                total += S::one(&rows[row][index * S::BYTES..]) * x[vector][index];
            }
            out[row][vector] = total;
        }
    }
    out
}

/// Adds the products of the eight columns from `at` to register `HALF` of every sum.
///
/// # Safety
/// AVX2, FMA and F16C are present; all rows and vectors hold at least `at + 8` numbers.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // as in `tile`
unsafe fn eight_columns<S: Stored, const R: usize, const V: usize, const HALF: usize>(
    rows: &[&[u8]; R],
    x: &[&[f32]; V],
    at: usize,
    sums: &mut [[[__m256; 2]; V]; R],
) {
    let mut values = [_mm256_setzero_ps(); V];
    for vector in 0..V {
        // SAFETY: the caller grants eight numbers from `at`.
        values[vector] = unsafe { _mm256_loadu_ps(x[vector].as_ptr().add(at)) };
    }
    for row in 0..R {
        // SAFETY: as above, in the row's width.
        let stored = unsafe { S::eight(rows[row].as_ptr().add(at * S::BYTES)) };
        for vector in 0..V {
            let sum = &mut sums[row][vector][HALF];
            *sum = _mm256_fmadd_ps(stored, values[vector], *sum);
        }
    }
}

/// The sum over two registers, always in the same order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn total(sum: [__m256; 2]) -> f32 {
    let all = _mm256_add_ps(sum[0], sum[1]);
    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// # Safety
/// AVX2, FMA and F16C are present; the row holds `sum.len()` numbers.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn add_scaled<S: Stored>(row: &[u8], scale: f32, sum: &mut [f32]) {
    let factor = _mm256_set1_ps(scale);
    let mut at = 0;
    while at + LANES <= sum.len() {
        // SAFETY: at + 8 <= sum.len(), which is also the row's count of numbers.
        unsafe {
            let to = sum.as_mut_ptr().add(at);
            let stored = S::eight(row.as_ptr().add(at * S::BYTES));
            _mm256_storeu_ps(to, _mm256_fmadd_ps(factor, stored, _mm256_loadu_ps(to)));
        }
        at += LANES;
    }
    for (index, sum) in sum.iter_mut().enumerate().skip(at) {
        *sum = scale.mul_add(S::one(&row[index * S::BYTES..]), *sum);
    }
}
