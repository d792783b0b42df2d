//! Tiles with AVX2: a line is two registers, rows 0 to 7 and rows 8 to 15.

use super::{Bits, GROUP, Line, Sums, Tile, fetch};
use crate::kernels::avx2::Avx2;
use crate::kernels::quantised::{BLOCK, Quantised};
use std::arch::x86_64::*;

impl Avx2 {
    /// The sums of one tile with each of `vectors`.
    pub fn sums(
        self,
        bits: Bits,
        tile: Tile<'_>,
        x: &Quantised,
        vectors: &[usize],
        give: &mut dyn FnMut(usize, &Sums),
    ) {
        let mut at = 0;
        while at < vectors.len() {
            let left = &vectors[at..];
            // SAFETY: `self` proves the processor's features.
            at += unsafe {
                match left.len() {
                    4.. => {
                        some::<4>(bits, tile, x, left, &mut |vector, sums| give(at + vector, sums))
                    }
                    2.. => {
                        some::<2>(bits, tile, x, left, &mut |vector, sums| give(at + vector, sums))
                    }
                    _ => {
                        some::<1>(bits, tile, x, left, &mut |vector, sums| give(at + vector, sums))
                    }
                }
            };
        }
    }
}

/// The first `V` of `vectors`.
///
/// # Safety
/// The features of [`Avx2`] are present.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn some<const V: usize>(
    bits: Bits,
    tile: Tile<'_>,
    x: &Quantised,
    vectors: &[usize],
    give: &mut dyn FnMut(usize, &Sums),
) -> usize {
    let blocks = x.columns / BLOCK;
    let mut first = [0; V];
    for (first, vector) in first.iter_mut().zip(vectors) {
        *first = vector * blocks;
        assert!(*first + blocks <= x.scales.len());
    }
    assert_eq!((x.numbers.len(), x.sums.len()), (x.scales.len() * BLOCK, x.scales.len()));
    // SAFETY: features by the caller's promise; every vector's blocks lie in `x`, as just checked.
    let halves = unsafe {
        match bits {
            Bits::Q8 => [q8::<V, 0>(tile, x, blocks, first), q8::<V, 1>(tile, x, blocks, first)],
            Bits::Q6 => [q6::<V, 0>(tile, x, blocks, first), q6::<V, 1>(tile, x, blocks, first)],
            Bits::Q4 => [q4::<V, 0>(tile, x, blocks, first), q4::<V, 1>(tile, x, blocks, first)],
        }
    };
    let [lower, upper] = halves;
    for (vector, (lower, upper)) in lower.into_iter().zip(upper).enumerate() {
        let mut out = [0.0; 16];
        // SAFETY: 8 numbers of room behind each place; the stores ask for no alignment.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), lower);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), upper);
        }
        give(vector, &out);
    }
    V
}

/// # Safety
/// Features as above; the `blocks` blocks from each `first` lie in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // counted loops unroll, and the sums stay in registers
unsafe fn q8<const V: usize, const HALF: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m256; V] {
    let mut sums = [_mm256_setzero_ps(); V];
    let (bias, ones) = (_mm256_set1_epi8(-128), _mm256_set1_epi16(1));
    let lines = tile.lines.as_chunks::<8>().0;
    assert!(lines.len() == blocks && tile.scales.len() == blocks);
    for block in 0..blocks {
        if HALF == 0 {
            fetch(&lines[block]);
        }
        let mut whole = [_mm256_setzero_si256(); V];
        for four in 0..8 {
            let numbers = _mm256_xor_si256(load::<HALF>(&lines[block][four]), bias);
            let sizes = _mm256_abs_epi8(numbers);
            for vector in 0..V {
                // SAFETY: the block's 32 numbers lie in `x`.
                let x = unsafe { broadcast(x, first[vector] + block, four) };
                // Pairs of products stay within 16 bits: 2 * 128 * 127 < 2^15.
                let pairs = _mm256_maddubs_epi16(sizes, _mm256_sign_epi8(x, numbers));
                whole[vector] = _mm256_add_epi32(whole[vector], _mm256_madd_epi16(pairs, ones));
            }
        }
        let scale = widen::<HALF>(&tile.scales[block]);
        for vector in 0..V {
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[first[vector] + block]));
            sums[vector] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[vector]), scale, sums[vector]);
        }
    }
    sums
}

/// # Safety
/// As for [`q8`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q4<const V: usize, const HALF: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m256; V] {
    let mut sums = [_mm256_setzero_ps(); V];
    let (low_half, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let lines = tile.lines.as_chunks::<4>().0;
    let (scales, parts) = (tile.scales.as_chunks::<2>().0, tile.parts.as_chunks::<2>().0);
    assert!(lines.len() == blocks && parts.len() == blocks && scales.len() * GROUP == blocks);
    for block in 0..blocks {
        if HALF == 0 {
            fetch(&lines[block]);
        }
        // 16 bits hold 8 pairs of products: 16 * 15 * 127 < 2^15.
        let mut pairs = [_mm256_setzero_si256(); V];
        for four in 0..4 {
            let both = load::<HALF>(&lines[block][four]);
            let low = _mm256_and_si256(both, low_half);
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(both), low_half);
            for vector in 0..V {
                // SAFETY: the block's 32 numbers lie in `x`.
                let (x_low, x_high) = unsafe {
                    let place = first[vector] + block;
                    (broadcast(x, place, four), broadcast(x, place, four + 4))
                };
                let both = _mm256_add_epi16(
                    _mm256_maddubs_epi16(low, x_low),
                    _mm256_maddubs_epi16(high, x_high),
                );
                pairs[vector] = _mm256_add_epi16(pairs[vector], both);
            }
        }
        let [scale, least] = &scales[block / GROUP];
        let scale = _mm256_mul_ps(widen::<HALF>(scale), count::<HALF>(&parts[block][0]));
        let least = _mm256_mul_ps(widen::<HALF>(least), count::<HALF>(&parts[block][1]));
        for vector in 0..V {
            let place = first[vector] + block;
            let whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs[vector], ones));
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[place]));
            sums[vector] = _mm256_fmadd_ps(whole, scale, sums[vector]);
            let [x_low, x_high] = x.sums[place];
            let shift = _mm256_set1_ps(x.scales[place] * (x_low + x_high) as f32);
            sums[vector] = _mm256_fnmadd_ps(least, shift, sums[vector]);
        }
    }
    sums
}

/// # Safety
/// As for [`q8`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q6<const V: usize, const HALF: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m256; V] {
    let mut sums = [_mm256_setzero_ps(); V];
    let lines = tile.lines.as_chunks::<6>().0;
    let parts = tile.parts.as_chunks::<2>().0;
    assert!(lines.len() == blocks && parts.len() == blocks && tile.scales.len() * GROUP == blocks);
    for block in 0..blocks {
        if HALF == 0 {
            fetch(&lines[block]);
        }
        let mut whole = [_mm256_setzero_si256(); V];
        for half in 0..2 {
            // SAFETY: features and blocks are as the caller promises.
            let halves =
                unsafe { q6_half::<V, HALF>(&lines[block], half, x, first.map(|at| at + block)) };
            let part = signed::<HALF>(&parts[block][half]);
            for vector in 0..V {
                let product = _mm256_mullo_epi32(halves[vector], part);
                whole[vector] = _mm256_add_epi32(whole[vector], product);
            }
        }
        let scale = widen::<HALF>(&tile.scales[block / GROUP]);
        for vector in 0..V {
            let scale = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[first[vector] + block]));
            sums[vector] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[vector]), scale, sums[vector]);
        }
    }
    sums
}

/// The whole sums of half a block; `places` are the vectors' blocks.
///
/// # Safety
/// As for [`q8`]: the places lie in `x`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q6_half<const V: usize, const HALF: usize>(
    lines: &[Line; 6],
    half: usize,
    x: &Quantised,
    places: [usize; V],
) -> [__m256i; V] {
    let (low_bits, high_bits) = (_mm256_set1_epi8(0x0f), _mm256_set1_epi8(0x30));
    let ones = _mm256_set1_epi16(1);
    // Numbers are stored with 32 added; this takes it away again.
    let mut whole = places.map(|place| _mm256_set1_epi32(x.sums[place][half] * -32));
    let high = load::<HALF>(&lines[4 + half]);
    for four in 0..4 {
        let both = load::<HALF>(&lines[four]);
        let low = if half == 0 { both } else { _mm256_srli_epi16::<4>(both) };
        let high = match four {
            0 => _mm256_slli_epi16::<4>(high),
            1 => _mm256_slli_epi16::<2>(high),
            2 => high,
            _ => _mm256_srli_epi16::<2>(high),
        };
        let numbers =
            _mm256_or_si256(_mm256_and_si256(low, low_bits), _mm256_and_si256(high, high_bits));
        for vector in 0..V {
            // SAFETY: the block's 32 numbers lie in `x`.
            let x = unsafe { broadcast(x, places[vector], half * 4 + four) };
            // Pairs of products stay within 16 bits: 2 * 63 * 127 < 2^15.
            let pairs = _mm256_maddubs_epi16(numbers, x);
            whole[vector] = _mm256_add_epi32(whole[vector], _mm256_madd_epi16(pairs, ones));
        }
    }
    whole
}

/// Four numbers of a block of `x`, in every place.
///
/// # Safety
/// The block lies in `x`, and `four` is below 8.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn broadcast(x: &Quantised, block: usize, four: usize) -> __m256i {
    // SAFETY: inside `numbers`, by the caller's promise; read without alignment.
    let numbers =
        unsafe { x.numbers.as_ptr().add(block * BLOCK + four * 4).cast::<i32>().read_unaligned() };
    _mm256_set1_epi32(numbers)
}

/// The half of a line that is rows `HALF * 8` and the 7 behind.
#[inline]
#[target_feature(enable = "avx2")]
fn load<const HALF: usize>(line: &Line) -> __m256i {
    const { assert!(HALF < 2) };
    // SAFETY: 32 of the line's 64 bytes, aligned to as many.
    unsafe { _mm256_load_si256(line.0.as_ptr().add(HALF * 32).cast()) }
}

/// 8 of 16 scales as f32.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn widen<const HALF: usize>(scales: &[u16; 16]) -> __m256 {
    const { assert!(HALF < 2) };
    // SAFETY: 16 of the 32 bytes; the load asks for no alignment.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(scales.as_ptr().add(HALF * 8).cast()) })
}

/// 8 of 16 small whole numbers as f32.
#[inline]
#[target_feature(enable = "avx2")]
fn count<const HALF: usize>(parts: &[u8; 16]) -> __m256 {
    const { assert!(HALF < 2) };
    // SAFETY: 8 of the 16 bytes; the load asks for no alignment.
    let bytes = unsafe { _mm_loadl_epi64(parts.as_ptr().add(HALF * 8).cast()) };
    _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes))
}

/// 8 of 16 small whole numbers, of either sign.
#[inline]
#[target_feature(enable = "avx2")]
fn signed<const HALF: usize>(parts: &[u8; 16]) -> __m256i {
    const { assert!(HALF < 2) };
    // SAFETY: 8 of the 16 bytes; the load asks for no alignment.
    _mm256_cvtepi8_epi32(unsafe { _mm_loadl_epi64(parts.as_ptr().add(HALF * 8).cast()) })
}
