//! The kernels on f32 with AVX-512: sixteen numbers at a time.
//!
//! They give the bits of those with AVX2: one register here is the two sums there.
#![allow(unsafe_code)]

use super::blend::{Softmax, ValueRows};
use super::tiles::avx512::Avx512;
use super::{Element, Rows};
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Numbers in a register.
const LANES: usize = 16;

/// The lower half of a register.
const LOWER: __mmask16 = 0xff;

/// Rows and vectors of a tile: its sums fill half the registers.
const TILE_ROWS: usize = 4;
const TILE_VECTORS: usize = 4;

impl Avx512 {
    /// The products of each row with each vector of `x`; those of one row lie together in `out`.
    pub fn multiply(self, rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
        let vectors = x.len() / rows.columns;
        assert_eq!(x.len(), vectors * rows.columns);
        assert_eq!(out.len(), vectors * rows.count());
        // SAFETY: `self` proves the processor's features; rows and vectors are sliced safely.
        unsafe {
            match rows.element {
                Element::F32 => multiply::<F32>(rows, x, out),
                Element::Bf16 => multiply::<Bf16>(rows, x, out),
                Element::F16 => multiply::<F16>(rows, x, out),
            }
        }
    }

    /// The products of rows with vectors, all of `columns` numbers; those of one vector lie
    /// together in `out`.
    pub(super) fn scores(self, [rows, x]: [&[f32]; 2], columns: usize, out: &mut [f32]) {
        // SAFETY: `self` proves the processor's features; rows and vectors are sliced safely.
        unsafe { scores([rows, x], columns, out) }
    }

    /// Widens a row of the length of `out`.
    pub(super) fn widen(self, element: Element, row: &[u8], out: &mut [f32]) {
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

    /// See [`Softmax::take`].
    pub(super) fn take(self, softmax: &mut Softmax, scores: &mut [f32]) -> f32 {
        // SAFETY: `self` proves the processor's features; the code itself is safe.
        unsafe { take(softmax, scores) }
    }

    /// See [`super::blend::mix`], which has checked the sizes.
    pub(super) fn mix(self, rows: &ValueRows<'_>, shares: &[f32], sums: &mut [f32]) {
        // SAFETY: `self` proves the processor's features; sizes were checked.
        unsafe { mix(rows, shares, sums) }
    }
}

/// The plain code, compiled for this processor.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn take(softmax: &mut Softmax, scores: &mut [f32]) -> f32 {
    softmax.plain_take(scores)
}

/// One way to store a number, and how to widen it.
trait Stored {
    const BYTES: usize;
    /// Widens the numbers at `at` whose bit in `mask` is set; others become zero.
    ///
    /// # Safety
    /// The numbers asked for are readable; the features of [`Avx512`] are present.
    unsafe fn sixteen(at: *const u8, mask: __mmask16) -> __m512;
    fn one(at: &[u8]) -> f32;
}

struct F32;
struct Bf16;
struct F16;

impl Stored for F32 {
    const BYTES: usize = 4;
    // SAFETY: unsafe as the trait says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn sixteen(at: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: what the mask asks for is readable, by the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, at.cast()) }
    }
    fn one(at: &[u8]) -> f32 {
        f32::from_le_bytes([at[0], at[1], at[2], at[3]])
    }
}

impl Stored for Bf16 {
    const BYTES: usize = 2;
    // SAFETY: unsafe as the trait says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn sixteen(at: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: as above.
        let halves = unsafe { _mm256_maskz_loadu_epi16(mask, at.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
    fn one(at: &[u8]) -> f32 {
        bf16::from_le_bytes([at[0], at[1]]).to_f32()
    }
}

impl Stored for F16 {
    const BYTES: usize = 2;
    // SAFETY: unsafe as the trait says.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    unsafe fn sixteen(at: *const u8, mask: __mmask16) -> __m512 {
        // SAFETY: as above.
        _mm512_cvtph_ps(unsafe { _mm256_maskz_loadu_epi16(mask, at.cast()) })
    }
    fn one(at: &[u8]) -> f32 {
        f16::from_le_bytes([at[0], at[1]]).to_f32()
    }
}

/// # Safety
/// The features of [`Avx512`] are present.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn multiply<S: Stored>(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    let (height, vectors) = (rows.count(), x.len() / rows.columns);
    let mut row = 0;
    // SAFETY: the features are the caller's promise.
    unsafe {
        while row + TILE_ROWS <= height {
            let out = &mut out[row * vectors..(row + TILE_ROWS) * vectors];
            strip::<S, TILE_ROWS>(rows, row, x, out);
            row += TILE_ROWS;
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
/// The features of [`Avx512`] are present.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
    while at + TILE_VECTORS <= vectors {
        let some = [vector(at), vector(at + 1), vector(at + 2), vector(at + 3)];
        // SAFETY: the features are the caller's promise; rows and vectors have `columns` numbers.
        let tile = unsafe { tile::<S, R, TILE_VECTORS>(&stored, &some) };
        for (row, products) in tile.iter().enumerate() {
            out[row * vectors + at..][..TILE_VECTORS].copy_from_slice(products);
        }
        at += TILE_VECTORS;
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
/// The features of [`Avx512`] are present; rows and vectors hold the same count of numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[allow(clippy::needless_range_loop)] // counted loops unroll, and the sums stay in registers
unsafe fn tile<S: Stored, const R: usize, const V: usize>(
    rows: &[&[u8]; R],
    x: &[&[f32]; V],
) -> [[f32; V]; R] {
    let columns = x[0].len();
    let mut sums = [[_mm512_setzero_ps(); V]; R];
    let mut at = 0;
    while at + LANES / 2 <= columns {
        // What is left over in eights goes to the lower half, as with AVX2.
        let mask = if at + LANES <= columns { !0 } else { LOWER };
        let mut values = [_mm512_setzero_ps(); V];
        for vector in 0..V {
            // SAFETY: the mask asks for no number behind `columns`.
            values[vector] = unsafe { _mm512_maskz_loadu_ps(mask, x[vector].as_ptr().add(at)) };
        }
        for row in 0..R {
            // SAFETY: as above, in the row's width.
            let stored = unsafe { S::sixteen(rows[row].as_ptr().add(at * S::BYTES), mask) };
            for vector in 0..V {
                sums[row][vector] = _mm512_fmadd_ps(stored, values[vector], sums[row][vector]);
            }
        }
        at += if mask == LOWER { LANES / 2 } else { LANES };
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

/// # Safety
/// The features of [`Avx512`] are present; the row holds `out.len()` numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn widen<S: Stored>(row: &[u8], out: &mut [f32]) {
    let (whole, rest) = out.as_chunks_mut::<LANES>();
    let from = |at: usize| row.as_ptr().wrapping_add(at * LANES * S::BYTES);
    for (at, out) in whole.iter_mut().enumerate() {
        // SAFETY: the row has sixteen numbers for each sixteen of `out`. The mask is known when
        // this is compiled, and so no mask is used.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), S::sixteen(from(at), !0)) };
    }
    let mask: __mmask16 = (1 << rest.len()) - 1;
    // SAFETY: the mask asks for the numbers that `out` and the row have, and no more.
    unsafe {
        _mm512_mask_storeu_ps(rest.as_mut_ptr(), mask, S::sixteen(from(whole.len()), mask));
    }
}

/// # Safety
/// The features of [`Avx512`] are present.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn scores([rows, x]: [&[f32]; 2], columns: usize, out: &mut [f32]) {
    let (height, vectors) = (rows.len() / columns, x.len() / columns);
    let row = |row: usize| &rows[row * columns..][..columns];
    let vector = |vector: usize| &x[vector * columns..][..columns];
    // Four rows stay in the nearest cache while all vectors pass.
    for first in (0..height).step_by(TILE_ROWS) {
        let is_whole = first + TILE_ROWS <= height && columns.is_multiple_of(LANES);
        let mut at = 0;
        while is_whole && at < vectors {
            let four = [row(first), row(first + 1), row(first + 2), row(first + 3)];
            let some = &x[at * columns..];
            // SAFETY: features by the caller's promise; rows and vectors have `columns` numbers,
            // and so many vectors are left.
            let (products, count) = unsafe {
                match vectors - at {
                    1 => (square::<1>(&four, some), 1),
                    2 | 3 => (square::<2>(&four, some), 2),
                    _ => (square::<TILE_VECTORS>(&four, some), TILE_VECTORS),
                }
            };
            let parts = &products.as_chunks::<TILE_ROWS>().0[..count];
            for (part, products) in parts.iter().enumerate() {
                out[(at + part) * height + first..][..TILE_ROWS].copy_from_slice(products);
            }
            at += count;
        }
        for vector_at in at..vectors {
            for row_at in first..height.min(first + TILE_ROWS) {
                let stored = [super::blend::as_bytes(row(row_at))];
                // SAFETY: as above.
                let [[product]] = unsafe { tile::<F32, 1, 1>(&stored, &[vector(vector_at)]) };
                out[vector_at * height + row_at] = product;
            }
        }
    }
}

/// The products of four rows with the first `V` vectors of `x`, vector by vector.
///
/// # Safety
/// The features of [`Avx512`] are present; all rows hold the same count of numbers, a multiple of
/// 16, and `x` holds `V` times as many.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[allow(clippy::needless_range_loop)] // as in `tile`
unsafe fn square<const V: usize>(rows: &[&[f32]; TILE_ROWS], x: &[f32]) -> [f32; LANES] {
    let columns = rows[0].len();
    let mut sums = [[_mm512_setzero_ps(); TILE_VECTORS]; TILE_ROWS];
    for at in (0..columns).step_by(LANES) {
        let mut values = [_mm512_setzero_ps(); V];
        for vector in 0..V {
            // SAFETY: 16 numbers from `at` are there.
            values[vector] = unsafe { _mm512_loadu_ps(x.as_ptr().add(vector * columns + at)) };
        }
        for row in 0..TILE_ROWS {
            // SAFETY: as above.
            let stored = unsafe { _mm512_loadu_ps(rows[row].as_ptr().add(at)) };
            for vector in 0..V {
                sums[row][vector] = _mm512_fmadd_ps(stored, values[vector], sums[row][vector]);
            }
        }
    }
    totals(&sums)
}

/// The sums over 16 registers at once, each in the order of [`total`], vector by vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[allow(clippy::needless_range_loop)] // as in `tile`
pub(super) fn totals(sums: &[[__m512; TILE_VECTORS]; TILE_ROWS]) -> [f32; LANES] {
    let mut fours = [_mm512_setzero_ps(); TILE_ROWS];
    for row in 0..TILE_ROWS {
        let eight = |a: __m512, b: __m512| {
            let lower = _mm512_shuffle_f32x4::<0x44>(a, b);
            _mm512_add_ps(lower, _mm512_shuffle_f32x4::<0xee>(a, b))
        };
        let [first, second, third, fourth] = sums[row];
        let (a, b) = (eight(first, second), eight(third, fourth));
        let lower = _mm512_shuffle_f32x4::<0x88>(a, b);
        fours[row] = _mm512_add_ps(lower, _mm512_shuffle_f32x4::<0xdd>(a, b));
    }
    // From here on each quarter of a register is one vector's.
    let two = |a: __m512, b: __m512| {
        let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
        let (lower, upper) = (_mm512_unpacklo_pd(a, b), _mm512_unpackhi_pd(a, b));
        _mm512_add_ps(_mm512_castpd_ps(lower), _mm512_castpd_ps(upper))
    };
    let (a, b) = (two(fours[0], fours[1]), two(fours[2], fours[3]));
    let even = _mm512_shuffle_ps::<0x88>(a, b);
    let all = _mm512_add_ps(even, _mm512_shuffle_ps::<0xdd>(a, b));
    let mut out = [0.0; LANES];
    // SAFETY: 16 numbers of room; the store asks for no alignment.
    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), all) };
    out
}

/// The sum over a register, always in the same order.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn total(sum: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(sum)));
    let all = _mm256_add_ps(_mm512_castps512_ps256(sum), upper);
    let four = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps::<1>(all));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// # Safety
/// The features of [`Avx512`] are present; sizes are as [`super::blend::mix`] checks them.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn mix(rows: &ValueRows<'_>, shares: &[f32], sums: &mut [f32]) {
    let queries = shares.len() / rows.keys;
    let width = sums.len() / queries;
    let mut column = 0;
    while column < width {
        // Some columns of all rows stay in the nearest cache while all queries pass.
        let is_wide = width - column >= 4 * LANES;
        let mut query = 0;
        while query < queries {
            let some = [4, 2].into_iter().find(|some| query + some <= queries).unwrap_or(1);
            let place = [query, column, width];
            // SAFETY: `query` and those behind it are in range; columns behind the width are masked
            // out.
            unsafe {
                match (some, is_wide) {
                    (4, true) => mix_tile::<4, 4>(rows, shares, sums, place),
                    (4, false) => mix_tile::<4, 1>(rows, shares, sums, place),
                    (2, true) => mix_tile::<2, 4>(rows, shares, sums, place),
                    (2, false) => mix_tile::<2, 1>(rows, shares, sums, place),
                    (_, true) => mix_tile::<1, 4>(rows, shares, sums, place),
                    (_, false) => mix_tile::<1, 1>(rows, shares, sums, place),
                }
            }
            query += some;
        }
        column += if is_wide { 4 * LANES } else { LANES };
    }
}

/// `Q` queries by `C` registers of columns.
///
/// # Safety
/// As for [`mix`]; with more than one register, all columns are within the width.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[allow(clippy::needless_range_loop)] // as in `tile`
unsafe fn mix_tile<const Q: usize, const C: usize>(
    rows: &ValueRows<'_>,
    shares: &[f32],
    sums: &mut [f32],
    [query, column, width]: [usize; 3],
) {
    let ValueRows { values, stride, keys } = *rows;
    let left = width - column;
    let mask: __mmask16 = if left >= LANES { !0 } else { (1 << left) - 1 };
    let mut totals = [[_mm512_setzero_ps(); C]; Q];
    for q in 0..Q {
        for c in 0..C {
            let at = (query + q) * width + column + c * LANES;
            // SAFETY: inside `sums`, as the mask has it.
            totals[q][c] = unsafe { _mm512_maskz_loadu_ps(mask, sums.as_ptr().add(at)) };
        }
    }
    for key in 0..keys {
        let mut row = [_mm512_setzero_ps(); C];
        for c in 0..C {
            let at = key * stride + column + c * LANES;
            // SAFETY: inside the key's row, as the mask has it.
            row[c] = unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr().add(at)) };
        }
        for q in 0..Q {
            // SAFETY: one share for each query and key.
            let share = unsafe { *shares.get_unchecked((query + q) * keys + key) };
            let share = _mm512_set1_ps(share);
            for c in 0..C {
                totals[q][c] = _mm512_fmadd_ps(share, row[c], totals[q][c]);
            }
        }
    }
    for q in 0..Q {
        for c in 0..C {
            let at = (query + q) * width + column + c * LANES;
            // SAFETY: as for the loads.
            unsafe { _mm512_mask_storeu_ps(sums.as_mut_ptr().add(at), mask, totals[q][c]) };
        }
    }
}
