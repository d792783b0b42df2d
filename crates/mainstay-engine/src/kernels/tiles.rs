//! Quantised matrices, laid out for the kernels: 16 rows side by side.
//!
//! A tile is 16 rows; of each it holds 4 numbers, then the next 4 of each, so that one register
//! has a place for every row and sums stay in their places. Numbers come in blocks of 32 columns:
//! - `Q8` (8.5 bits a number): a scale for each row and block; numbers are stored with 128 added,
//!   which is what the processors' instructions for such sums want. GGUF's `Q8_0`, exactly.
//! - `Q4` (4.6 bits): numbers from 0 to 15, `scale * number - least`; scale and least are 6-bit
//!   parts of two numbers that 8 blocks share. GGUF's `Q4_K`, exactly.
//! - `Q6` (6.6 bits): numbers from -32 to 31, stored with 32 added; halves of a block have a scale
//!   of 8 bits each, under one that 8 blocks share. GGUF's `Q6_K`, exactly.
//!
//! The order of summation is one for all kernels: exact within a block, then block after block,
//! each by one fused multiply-add.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
pub mod blocks;
pub mod large;
pub mod scalar;

use super::quantised::{BLOCK, Quantised};
use crate::pool::{Pool, Shares};
use blocks::{Q4Blocks, Q6Blocks, Q8Block};
use large::Large;
use std::ops::Range;

/// Rows in a tile: the 32-bit places of the widest register.
pub const TILE: usize = 16;

/// Blocks that share a pair of large scales in `Q4`.
pub const GROUP: usize = 8;

/// 64 bytes: 4 columns of a tile (`Q8`), or 8 of them (`Q4`: the low halves are 4 columns, the high
/// halves the 4 columns 16 further on). `Q6` has its low 4 bits like `Q4`, and behind them in two
/// lines its high 2 bits: a line for each half of the block, a pair of bits for each 4 columns.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub struct Line(pub [u8; 64]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    Q8,
    Q6,
    Q4,
}

/// A matrix in tiles.
pub struct Tiles {
    pub bits: Bits,
    pub rows: usize,
    pub columns: usize,
    /// [tile, block, line]
    pub lines: Large<Line>,
    /// f16. `Q8`: [tile, block, row]. `Q6`: [tile, group, row]. `Q4`: [tile, group, (scale,
    /// least), row].
    pub scales: Large<[u16; TILE]>,
    /// `Q6` (signed): [tile, block, half, row]. `Q4`: [tile, block, (scale, least), row].
    pub parts: Large<[u8; TILE]>,
}

/// One tile's share of a [`Tiles`].
#[derive(Clone, Copy)]
pub struct Tile<'a> {
    pub lines: &'a [Line],
    pub scales: &'a [[u16; TILE]],
    pub parts: &'a [[u8; TILE]],
}

/// The sums of 16 rows with one vector.
pub type Sums = [f32; TILE];

impl Bits {
    /// Columns must be a multiple of this.
    pub const fn columns(self) -> usize {
        match self {
            Bits::Q8 => BLOCK,
            Bits::Q6 | Bits::Q4 => BLOCK * GROUP,
        }
    }

    /// Lines of a block.
    const fn lines(self) -> usize {
        match self {
            Bits::Q8 => 8,
            Bits::Q6 => 6,
            Bits::Q4 => 4,
        }
    }

    /// Entries of `scales` and of `parts`, for so many blocks of one tile.
    const fn scales(self, blocks: usize) -> [usize; 2] {
        match self {
            Bits::Q8 => [blocks, 0],
            Bits::Q6 => [blocks / GROUP, blocks * 2],
            Bits::Q4 => [blocks / GROUP * 2, blocks * 2],
        }
    }
}

impl Tiles {
    fn empty(bits: Bits, rows: usize, columns: usize) -> Tiles {
        assert!(columns > 0 && columns.is_multiple_of(bits.columns()));
        let (tiles, blocks) = (rows.div_ceil(TILE), columns / BLOCK);
        let [scales, parts] = bits.scales(blocks);
        Tiles {
            bits,
            rows,
            columns,
            lines: Large::zeroed(tiles * blocks * bits.lines()),
            scales: Large::zeroed(tiles * scales),
            parts: Large::zeroed(tiles * parts),
        }
    }

    /// `fill` writes the blocks of one row.
    pub fn q8(
        [rows, columns]: [usize; 2],
        pool: &Pool,
        fill: &(dyn Fn(usize, &mut [Q8Block]) + Sync),
    ) -> Tiles {
        let mut tiles = Tiles::empty(Bits::Q8, rows, columns);
        let blocks = columns / BLOCK;
        let (lines, scales) = (Shares::new(&mut tiles.lines), Shares::new(&mut tiles.scales));
        pool.run(rows.div_ceil(TILE), &|tile| {
            // SAFETY: chunks are tiles, and each has lines and scales of its own.
            let (lines, scales) = unsafe {
                (lines.part(tile * blocks * 8, blocks * 8), scales.part(tile * blocks, blocks))
            };
            let mut row_blocks = vec![Q8Block::default(); blocks];
            #[allow(clippy::needless_range_loop)] // a place in each of several lists
            for row in 0..TILE.min(rows - tile * TILE) {
                fill(tile * TILE + row, &mut row_blocks);
                for (at, block) in row_blocks.iter().enumerate() {
                    scales[at][row] = block.scale;
                    let lines = &mut lines[at * 8..][..8];
                    for (line, four) in lines.iter_mut().zip(block.numbers.as_chunks::<4>().0) {
                        let biased = four.map(|number| number as u8 ^ 0x80);
                        line.0[row * 4..][..4].copy_from_slice(&biased);
                    }
                }
            }
        });
        tiles
    }

    /// `fill` writes the groups of blocks of one row.
    pub fn q4(
        [rows, columns]: [usize; 2],
        pool: &Pool,
        fill: &(dyn Fn(usize, &mut [Q4Blocks]) + Sync),
    ) -> Tiles {
        let mut tiles = Tiles::empty(Bits::Q4, rows, columns);
        let groups = columns / (BLOCK * GROUP);
        let lines = Shares::new(&mut tiles.lines);
        let (scales, parts) = (Shares::new(&mut tiles.scales), Shares::new(&mut tiles.parts));
        pool.run(rows.div_ceil(TILE), &|tile| {
            let [line_count, scale_count, part_count] =
                [groups * GROUP * 4, groups * 2, groups * GROUP * 2];
            // SAFETY: chunks are tiles, and each has lines, scales and parts of its own.
            let (lines, scales, parts) = unsafe {
                (
                    lines.part(tile * line_count, line_count),
                    scales.part(tile * scale_count, scale_count),
                    parts.part(tile * part_count, part_count),
                )
            };
            let mut row_groups = vec![Q4Blocks::default(); groups];
            #[allow(clippy::needless_range_loop)] // a place in each of several lists
            for row in 0..TILE.min(rows - tile * TILE) {
                fill(tile * TILE + row, &mut row_groups);
                for (at, group) in row_groups.iter().enumerate() {
                    scales[at * 2][row] = group.scale;
                    scales[at * 2 + 1][row] = group.least;
                    for block in 0..GROUP {
                        let place = at * GROUP + block;
                        parts[place * 2][row] = group.scales[block];
                        parts[place * 2 + 1][row] = group.leasts[block];
                        let (low, high) = group.numbers[block].split_at(BLOCK / 2);
                        let lines = &mut lines[place * 4..][..4];
                        for (byte, (low, high)) in low.iter().zip(high).enumerate() {
                            lines[byte / 4].0[row * 4 + byte % 4] = low | high << 4;
                        }
                    }
                }
            }
        });
        tiles
    }

    /// `fill` writes the groups of blocks of one row.
    pub fn q6(
        [rows, columns]: [usize; 2],
        pool: &Pool,
        fill: &(dyn Fn(usize, &mut [Q6Blocks]) + Sync),
    ) -> Tiles {
        let mut tiles = Tiles::empty(Bits::Q6, rows, columns);
        let groups = columns / (BLOCK * GROUP);
        let lines = Shares::new(&mut tiles.lines);
        let (scales, parts) = (Shares::new(&mut tiles.scales), Shares::new(&mut tiles.parts));
        pool.run(rows.div_ceil(TILE), &|tile| {
            let [line_count, part_count] = [groups * GROUP * 6, groups * GROUP * 2];
            // SAFETY: chunks are tiles, and each has lines, scales and parts of its own.
            let (lines, scales, parts) = unsafe {
                (
                    lines.part(tile * line_count, line_count),
                    scales.part(tile * groups, groups),
                    parts.part(tile * part_count, part_count),
                )
            };
            let mut row_groups = vec![Q6Blocks::default(); groups];
            #[allow(clippy::needless_range_loop)] // a place in each of several lists
            for row in 0..TILE.min(rows - tile * TILE) {
                fill(tile * TILE + row, &mut row_groups);
                for (at, group) in row_groups.iter().enumerate() {
                    scales[at][row] = group.scale;
                    for block in 0..GROUP {
                        let place = at * GROUP + block;
                        parts[place * 2][row] = group.scales[block * 2] as u8;
                        parts[place * 2 + 1][row] = group.scales[block * 2 + 1] as u8;
                        let lines = &mut lines[place * 6..][..6];
                        for (column, number) in group.numbers[block].iter().enumerate() {
                            let (four, byte) = (column / 4, row * 4 + column % 4);
                            lines[four % 4].0[byte] |= (number & 15) << (four / 4 * 4);
                            lines[4 + four / 4].0[byte] |= number >> 4 << (four % 4 * 2);
                        }
                    }
                }
            }
        });
        tiles
    }

    /// Tile number `index`.
    pub fn tile(&self, index: usize) -> Tile<'_> {
        let blocks = self.columns / BLOCK;
        let [scales, parts] = self.bits.scales(blocks);
        let lines = blocks * self.bits.lines();
        Tile {
            lines: &self.lines[index * lines..][..lines],
            scales: &self.scales[index * scales..][..scales],
            parts: &self.parts[index * parts..][..parts],
        }
    }

    /// Multiplies the given tiles with the given vectors of `x`, and writes the product of row `r`
    /// and the vector in place `v` of `vectors` to number `v * rows + r` of `out`.
    ///
    /// # Safety
    /// Nobody else uses those places of `out` meanwhile.
    pub unsafe fn multiply(
        &self,
        tiles: Range<usize>,
        x: &Quantised,
        vectors: &[usize],
        out: &Shares<'_, f32>,
    ) {
        let panel = (PANEL_BYTES / self.columns).max(PANEL_MIN);
        for first in (0..vectors.len()).step_by(panel) {
            let vectors = &vectors[first..(first + panel).min(vectors.len())];
            for tile in tiles.clone() {
                let height = TILE.min(self.rows - tile * TILE);
                sums(self.bits, self.tile(tile), x, vectors, &mut |vector, sums| {
                    let place = (first + vector) * self.rows + tile * TILE;
                    // SAFETY: these rows of this vector, which are ours by the caller's promise.
                    let out = unsafe { out.part(place, height) };
                    out.copy_from_slice(&sums[..height]);
                });
            }
        }
    }

    /// Row `index` as f32.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        scalar::row(self.bits, self.tile(index / TILE), index % TILE, out);
    }
}

/// So many bytes of vectors are read again and again from the second-level cache.
const PANEL_BYTES: usize = 128 << 10;

/// Fewer vectors at once would read the tiles too often.
const PANEL_MIN: usize = 16;

/// How far ahead of the numbers in use the next ones are asked for. Processors do so by themselves,
/// but stop at each page of 4 KiB; asked for in time, memory is read a third faster.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 2048;

/// Asks for what lies [`AHEAD`] of these lines: of this tile or the next, which lies behind it.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(lines: &[Line]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for line in lines {
        // SAFETY: a hint reads nothing, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.0.as_ptr().wrapping_add(AHEAD).cast()) };
    }
}

/// The sums of one tile with each of `vectors`.
fn sums(
    bits: Bits,
    tile: Tile<'_>,
    x: &Quantised,
    vectors: &[usize],
    give: &mut dyn FnMut(usize, &Sums),
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = avx512::Avx512::detect() {
        return avx512.sums(bits, tile, x, vectors, give);
    } else if let Some(avx2) = super::avx2::Avx2::detect() {
        return avx2.sums(bits, tile, x, vectors, give);
    }
    for (at, vector) in vectors.iter().enumerate() {
        give(at, &scalar::sums(bits, tile, x, *vector));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mix = |index: usize| (index as u32 + salt).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|index| mix(index) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn tiles(bits: Bits, size: [usize; 2], values: &[f32]) -> Tiles {
        let row = |row: usize| &values[row * size[1]..][..size[1]];
        let pool = Pool::new(2);
        match bits {
            Bits::Q8 => Tiles::q8(size, &pool, &|at, blocks| {
                for (to, from) in blocks.iter_mut().zip(row(at).as_chunks().0) {
                    *to = Q8Block::quantise(from);
                }
            }),
            Bits::Q6 => Tiles::q6(size, &pool, &|at, groups| {
                for (to, from) in groups.iter_mut().zip(row(at).as_chunks().0) {
                    *to = six_bits(from);
                }
            }),
            Bits::Q4 => Tiles::q4(size, &pool, &|at, groups| {
                for (to, from) in groups.iter_mut().zip(row(at).as_chunks().0) {
                    *to = Q4Blocks::quantise(from);
                }
            }),
        }
    }

    /// Numbers of all sizes, with scales of either sign: for comparing kernels, not for accuracy.
    fn six_bits(x: &[f32; BLOCK * GROUP]) -> Q6Blocks {
        let mut out = Q6Blocks { scale: 0x1c00, ..Q6Blocks::default() };
        for (block, x) in x.as_chunks::<BLOCK>().0.iter().enumerate() {
            out.scales[block * 2] = (x[0] * 127.0) as i8;
            out.scales[block * 2 + 1] = (x[1] * 127.0) as i8;
            out.numbers[block] = x.map(|x| (x * 31.9 + 32.0) as u8);
        }
        out
    }

    fn all_sums(
        vectors: usize,
        run: impl FnOnce(&[usize], &mut dyn FnMut(usize, &Sums)),
    ) -> Vec<Sums> {
        let mut out = vec![[9.0; TILE]; vectors];
        let list: Vec<usize> = (0..vectors).rev().collect();
        run(&list, &mut |at, sums| out[list[at]] = *sums);
        out
    }

    #[test]
    fn every_kernel_gives_the_bits_of_its_scalar_oracle() {
        for (bits, columns) in [
            (Bits::Q8, 32),
            (Bits::Q8, 416),
            (Bits::Q6, 256),
            (Bits::Q6, 768),
            (Bits::Q4, 256),
            (Bits::Q4, 768),
        ] {
            // Numbers at the very ends of their range, in one row, try the 16-bit sums.
            let mut values = numbers(17 * columns, 1);
            values[..columns].fill(-1.0);
            let mut x = numbers(15 * columns, 2);
            x[..columns].fill(1.0);
            let tiles = tiles(bits, [17, columns], &values);
            let x = Quantised::new(&x, columns);
            for tile in [tiles.tile(0), tiles.tile(1)] {
                let plain: Vec<Sums> =
                    (0..15).map(|vector| scalar::sums(bits, tile, &x, vector)).collect();
                #[cfg(target_arch = "x86_64")]
                if let Some(avx2) = crate::kernels::avx2::Avx2::detect() {
                    let fast = all_sums(15, |list, give| avx2.sums(bits, tile, &x, list, give));
                    assert_eq!(fast, plain, "AVX2, {bits:?}, {columns} columns");
                }
                #[cfg(target_arch = "x86_64")]
                if let Some(avx512) = avx512::Avx512::detect() {
                    let fast = all_sums(15, |list, give| avx512.sums(bits, tile, &x, list, give));
                    assert_eq!(fast, plain, "AVX-512, {bits:?}, {columns} columns");
                }
            }
        }
    }

    #[test]
    fn a_quantised_row_is_within_its_step_of_the_row() {
        let values = numbers(20 * 512, 3);
        for (bits, step) in [(Bits::Q8, 1.0 / 127.0), (Bits::Q4, 2.0 / 15.0)] {
            let tiles = tiles(bits, [20, 512], &values);
            let mut row = vec![0.0; 512];
            for (at, exact) in values.chunks(512).enumerate() {
                tiles.row(at, &mut row);
                for (ours, exact) in row.iter().zip(exact) {
                    assert!((ours - exact).abs() < step * 0.8, "{bits:?} {ours} {exact}");
                }
            }
        }
    }

    #[test]
    fn products_of_tiles_are_near_those_of_the_numbers() {
        // Five standard deviations of the rounding of 1024 uniform numbers.
        let (values, x) = (numbers(16 * 1024, 5), numbers(1024, 6));
        for (bits, tolerance) in [(Bits::Q8, 0.2), (Bits::Q4, 3.5)] {
            let tiles = tiles(bits, [16, 1024], &values);
            let sums = scalar::sums(bits, tiles.tile(0), &Quantised::new(&x, 1024), 0);
            for (sum, row) in sums.iter().zip(values.chunks(1024)) {
                let exact: f32 = row.iter().zip(&x).map(|(row, x)| row * x).sum();
                assert!((sum - exact).abs() < tolerance, "{bits:?} {sum} {exact}");
            }
        }
    }
}
