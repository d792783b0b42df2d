//! The kernels with AVX2, FMA and F16C: eight numbers at a time.
//!
//! The sum of a dot product is kept in four registers and a scalar tail, whatever the number of
//! vectors that share the row, so that the result of one vector never depends on the others.
#![allow(unsafe_code)]

use super::Element;
use half::{bf16, f16};
use std::arch::x86_64::*;

/// Proof that this processor has AVX2, FMA and F16C: only `detect` makes one.
#[derive(Clone, Copy)]
pub struct Avx2(());

/// Numbers in a register, and numbers one round of a dot product takes.
const LANES: usize = 8;
const ROUND: usize = 4 * LANES;

impl Avx2 {
    pub fn detect() -> Option<Avx2> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Avx2(()))
    }

    /// Dot products of one stored row with `N` vectors, all of the row's length.
    pub fn dots<const N: usize>(self, element: Element, row: &[u8], x: [&[f32]; N]) -> [f32; N] {
        let columns = row.len() / element.bytes();
        assert!(x.iter().all(|x| x.len() == columns));
        // SAFETY: `self` proves the processor features. Every vector has `columns` numbers and the
        // row has `columns` elements (checked above), and the kernels read below `columns` only.
        unsafe {
            match element {
                Element::F32 => dots::<F32, N>(row, x),
                Element::Bf16 => dots::<Bf16, N>(row, x),
                Element::F16 => dots::<F16, N>(row, x),
            }
        }
    }

    /// Adds `scale` times the row to `sum`, of the row's length.
    pub fn add_scaled(self, element: Element, row: &[u8], scale: f32, sum: &mut [f32]) {
        assert_eq!(row.len(), sum.len() * element.bytes());
        // SAFETY: as in `dots`: features proven by `self`, lengths checked above.
        unsafe {
            match element {
                Element::F32 => add_scaled::<F32>(row, scale, sum),
                Element::Bf16 => add_scaled::<Bf16>(row, scale, sum),
                Element::F16 => add_scaled::<F16>(row, scale, sum),
            }
        }
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

/// # Safety
/// AVX2, FMA and F16C are present; the row holds at least as many numbers as each vector of `x`,
/// and the vectors are of equal length.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dots<S: Stored, const N: usize>(row: &[u8], x: [&[f32]; N]) -> [f32; N] {
    let columns = x.first().map_or(0, |x| x.len());
    let mut sums = [[_mm256_setzero_ps(); 4]; N];
    let mut at = 0;
    while at + ROUND <= columns {
        for lane in 0..4 {
            let from = at + lane * LANES;
            // SAFETY: from + 8 <= columns, so both reads stay inside the row and the vectors.
            unsafe {
                let stored = S::eight(row.as_ptr().add(from * S::BYTES));
                for (sum, x) in sums.iter_mut().zip(&x) {
                    let values = _mm256_loadu_ps(x.as_ptr().add(from));
                    sum[lane] = _mm256_fmadd_ps(stored, values, sum[lane]);
                }
            }
        }
        at += ROUND;
    }
    while at + LANES <= columns {
        // SAFETY: at + 8 <= columns, as above.
        unsafe {
            let stored = S::eight(row.as_ptr().add(at * S::BYTES));
            for (sum, x) in sums.iter_mut().zip(&x) {
                let values = _mm256_loadu_ps(x.as_ptr().add(at));
                sum[0] = _mm256_fmadd_ps(stored, values, sum[0]);
            }
        }
        at += LANES;
    }
    let mut out = [0.0; N];
    for ((out, sum), x) in out.iter_mut().zip(sums).zip(&x) {
        let mut total = total(sum);
        for (index, x) in x.iter().enumerate().skip(at) {
            total += S::one(&row[index * S::BYTES..]) * x;
        }
        *out = total;
    }
    out
}

/// The sum over four registers, always in the same order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn total(sum: [__m256; 4]) -> f32 {
    let all = _mm256_add_ps(_mm256_add_ps(sum[0], sum[1]), _mm256_add_ps(sum[2], sum[3]));
    let mut lanes = [0.0f32; LANES];
    // SAFETY: `lanes` is 32 writable bytes; the store asks for no alignment.
    unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), all) };
    let pairs =
        [lanes[0] + lanes[4], lanes[1] + lanes[5], lanes[2] + lanes[6], lanes[3] + lanes[7]];
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
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
