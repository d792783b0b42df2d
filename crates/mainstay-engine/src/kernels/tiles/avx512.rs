//! Tiles with AVX-512 and its sums of 8-bit products: a register is a line, 4 columns of 16 rows.

use super::{Bits, GROUP, Line, Sums, Tile, fetch};
use crate::kernels::quantised::{BLOCK, Quantised};
use crate::kernels::{self, Width};
use std::arch::x86_64::*;

/// Proof that this processor has AVX-512 (F, BW, VL) and VNNI: only `detect` makes one.
#[derive(Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    pub fn detect() -> Option<Avx512> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni");
        (has && kernels::may_use(Width::Avx512)).then_some(Avx512(()))
    }

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
                    8.. => {
                        some::<8>(bits, tile, x, left, &mut |vector, sums| give(at + vector, sums))
                    }
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
/// The features of [`Avx512`] are present.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
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
    let sums = unsafe {
        match bits {
            Bits::Q8 => q8::<V>(tile, x, blocks, first),
            Bits::Q6 => q6::<V>(tile, x, blocks, first),
            Bits::Q4 => q4::<V>(tile, x, blocks, first),
        }
    };
    for (vector, sums) in sums.into_iter().enumerate() {
        let mut out = [0.0; 16];
        // SAFETY: 16 numbers of room; the store asks for no alignment.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
        give(vector, &out);
    }
    V
}

/// # Safety
/// Features as above; the `blocks` blocks from each `first` lie in `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[allow(clippy::needless_range_loop)] // counted loops unroll, and the sums stay in registers
unsafe fn q8<const V: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m512; V] {
    let mut sums = [_mm512_setzero_ps(); V];
    let lines = tile.lines.as_chunks::<8>().0;
    assert!(lines.len() == blocks && tile.scales.len() == blocks);
    for block in 0..blocks {
        fetch(&lines[block]);
        let mut whole = [_mm512_setzero_si512(); V];
        for vector in 0..V {
            // SAFETY: the block lies in `x`. Numbers are stored with 128 added; this takes
            // 128 times the vector's sum away again.
            let [low, high] = unsafe { *x.sums.get_unchecked(first[vector] + block) };
            whole[vector] = _mm512_set1_epi32((low + high) * -128);
        }
        for four in 0..8 {
            let line = load(&lines[block][four]);
            for vector in 0..V {
                // SAFETY: the block's 32 numbers lie in `x`.
                let x = unsafe { broadcast(x, first[vector] + block, four) };
                whole[vector] = _mm512_dpbusd_epi32(whole[vector], line, x);
            }
        }
        let scale = widen(&tile.scales[block]);
        for vector in 0..V {
            // SAFETY: the block lies in `x`.
            let x_scale = unsafe { *x.scales.get_unchecked(first[vector] + block) };
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
            sums[vector] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[vector]), scale, sums[vector]);
        }
    }
    sums
}

/// # Safety
/// As for [`q8`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q4<const V: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m512; V] {
    let mut sums = [_mm512_setzero_ps(); V];
    let low_half = _mm512_set1_epi8(15);
    let lines = tile.lines.as_chunks::<4>().0;
    let (scales, parts) = (tile.scales.as_chunks::<2>().0, tile.parts.as_chunks::<2>().0);
    assert!(lines.len() == blocks && parts.len() == blocks && scales.len() * GROUP == blocks);
    for block in 0..blocks {
        fetch(&lines[block]);
        let mut whole = [_mm512_setzero_si512(); V];
        for four in 0..4 {
            let both = load(&lines[block][four]);
            let low = _mm512_and_si512(both, low_half);
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(both), low_half);
            for vector in 0..V {
                // SAFETY: the block's 32 numbers lie in `x`.
                unsafe {
                    let (x_low, x_high) = (
                        broadcast(x, first[vector] + block, four),
                        broadcast(x, first[vector] + block, four + 4),
                    );
                    whole[vector] = _mm512_dpbusd_epi32(whole[vector], low, x_low);
                    whole[vector] = _mm512_dpbusd_epi32(whole[vector], high, x_high);
                }
            }
        }
        let [scale, least] = scales[block / GROUP];
        let scale = _mm512_mul_ps(widen(&scale), count(&parts[block][0]));
        let least = _mm512_mul_ps(widen(&least), count(&parts[block][1]));
        for vector in 0..V {
            // SAFETY: the block lies in `x`.
            let (x_scale, [x_low, x_high]) = unsafe {
                let place = first[vector] + block;
                (*x.scales.get_unchecked(place), *x.sums.get_unchecked(place))
            };
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
            sums[vector] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[vector]), scale, sums[vector]);
            let shift = _mm512_set1_ps(x_scale * (x_low + x_high) as f32);
            sums[vector] = _mm512_fnmadd_ps(least, shift, sums[vector]);
        }
    }
    sums
}

/// # Safety
/// As for [`q8`].
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q6<const V: usize>(
    tile: Tile<'_>,
    x: &Quantised,
    blocks: usize,
    first: [usize; V],
) -> [__m512; V] {
    let mut sums = [_mm512_setzero_ps(); V];
    let lines = tile.lines.as_chunks::<6>().0;
    let parts = tile.parts.as_chunks::<2>().0;
    assert!(lines.len() == blocks && parts.len() == blocks && tile.scales.len() * GROUP == blocks);
    for block in 0..blocks {
        fetch(&lines[block]);
        let mut whole = [_mm512_setzero_si512(); V];
        for half in 0..2 {
            // SAFETY: features and blocks are as the caller promises.
            let halves =
                unsafe { q6_half::<V>(&lines[block], half, x, first.map(|at| at + block)) };
            let part = signed(&parts[block][half]);
            for vector in 0..V {
                let product = _mm512_mullo_epi32(halves[vector], part);
                whole[vector] = _mm512_add_epi32(whole[vector], product);
            }
        }
        let scale = widen(&tile.scales[block / GROUP]);
        for vector in 0..V {
            // SAFETY: the block lies in `x`.
            let x_scale = unsafe { *x.scales.get_unchecked(first[vector] + block) };
            let scale = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale));
            sums[vector] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[vector]), scale, sums[vector]);
        }
    }
    sums
}

/// The whole sums of half a block; `places` are the vectors' blocks.
///
/// # Safety
/// As for [`q8`]: the places lie in `x`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
#[allow(clippy::needless_range_loop)] // as in `q8`
unsafe fn q6_half<const V: usize>(
    lines: &[Line; 6],
    half: usize,
    x: &Quantised,
    places: [usize; V],
) -> [__m512i; V] {
    let (low_bits, high_bits) = (_mm512_set1_epi8(0x0f), _mm512_set1_epi8(0x30));
    let mut whole = [_mm512_setzero_si512(); V];
    for vector in 0..V {
        // SAFETY: the block lies in `x`. Numbers are stored with 32 added.
        let sum = unsafe { x.sums.get_unchecked(places[vector])[half] };
        whole[vector] = _mm512_set1_epi32(sum * -32);
    }
    let high = load(&lines[4 + half]);
    for four in 0..4 {
        let both = load(&lines[four]);
        let low = if half == 0 { both } else { _mm512_srli_epi16::<4>(both) };
        let high = match four {
            0 => _mm512_slli_epi16::<4>(high),
            1 => _mm512_slli_epi16::<2>(high),
            2 => high,
            _ => _mm512_srli_epi16::<2>(high),
        };
        let numbers =
            _mm512_or_si512(_mm512_and_si512(low, low_bits), _mm512_and_si512(high, high_bits));
        for vector in 0..V {
            // SAFETY: the block's 32 numbers lie in `x`.
            let x = unsafe { broadcast(x, places[vector], half * 4 + four) };
            whole[vector] = _mm512_dpbusd_epi32(whole[vector], numbers, x);
        }
    }
    whole
}

/// Four numbers of a block of `x`, in every place.
///
/// # Safety
/// The block lies in `x`, and `four` is below 8.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn broadcast(x: &Quantised, block: usize, four: usize) -> __m512i {
    // SAFETY: inside `numbers`, by the caller's promise; read without alignment.
    let numbers =
        unsafe { x.numbers.as_ptr().add(block * BLOCK + four * 4).cast::<i32>().read_unaligned() };
    _mm512_set1_epi32(numbers)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(line: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes, aligned to as many.
    unsafe { _mm512_load_si512(line.0.as_ptr().cast()) }
}

/// 16 scales as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn widen(scales: &[u16; 16]) -> __m512 {
    // SAFETY: 32 bytes; the load asks for no alignment.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(scales.as_ptr().cast()) })
}

/// 16 small whole numbers as f32.
#[inline]
#[target_feature(enable = "avx512f")]
fn count(parts: &[u8; 16]) -> __m512 {
    // SAFETY: 16 bytes; the load asks for no alignment.
    let bytes = unsafe { _mm_loadu_si128(parts.as_ptr().cast()) };
    _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes))
}

/// 16 small whole numbers, of either sign.
#[inline]
#[target_feature(enable = "avx512f")]
fn signed(parts: &[u8; 16]) -> __m512i {
    // SAFETY: 16 bytes; the load asks for no alignment.
    _mm512_cvtepi8_epi32(unsafe { _mm_loadu_si128(parts.as_ptr().cast()) })
}
