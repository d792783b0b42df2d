//! The plain statement of the kernels on tiles.

use super::{Bits, GROUP, Sums, TILE, Tile};
use crate::kernels::quantised::{BLOCK, Quantised};
use half::f16;

fn wide(scale: u16) -> f32 {
    f16::from_bits(scale).to_f32()
}

/// The whole number in `column` of block `block` of a row, without its scale.
fn number(bits: Bits, tile: Tile<'_>, row: usize, [block, column]: [usize; 2]) -> i32 {
    match bits {
        Bits::Q8 => {
            let line = &tile.lines[block * 8 + column / 4];
            i32::from(line.0[row * 4 + column % 4]) - 128
        }
        Bits::Q6 => {
            let (four, byte) = (column / 4, row * 4 + column % 4);
            let low = tile.lines[block * 6 + four % 4].0[byte] >> (four / 4 * 4) & 15;
            let high = tile.lines[block * 6 + 4 + four / 4].0[byte] >> (four % 4 * 2) & 3;
            i32::from(low | high << 4) - 32
        }
        Bits::Q4 => {
            let line = &tile.lines[block * 4 + column / 4 % 4];
            let both = line.0[row * 4 + column % 4];
            i32::from(if column < BLOCK / 2 { both & 15 } else { both >> 4 })
        }
    }
}

/// Scale of a block of a row, and what is taken away from each of its numbers.
fn scale(bits: Bits, tile: Tile<'_>, row: usize, block: usize) -> (f32, f32) {
    match bits {
        Bits::Q8 => (wide(tile.scales[block][row]), 0.0),
        Bits::Q6 => (wide(tile.scales[block / GROUP][row]), 0.0),
        Bits::Q4 => {
            let group = block / GROUP * 2;
            let part = |at: usize| f32::from(tile.parts[block * 2 + at][row]);
            (wide(tile.scales[group][row]) * part(0), wide(tile.scales[group + 1][row]) * part(1))
        }
    }
}

/// What the numbers in a column of a block are multiplied by before they are added up.
fn part(bits: Bits, tile: Tile<'_>, row: usize, [block, column]: [usize; 2]) -> i32 {
    match bits {
        Bits::Q6 => i32::from(tile.parts[block * 2 + column / (BLOCK / 2)][row] as i8),
        Bits::Q8 | Bits::Q4 => 1,
    }
}

pub fn sums(bits: Bits, tile: Tile<'_>, x: &Quantised, vector: usize) -> Sums {
    let blocks = x.columns / BLOCK;
    let mut sums = [0.0f32; TILE];
    for (row, sum) in sums.iter_mut().enumerate() {
        for block in 0..blocks {
            let place = vector * blocks + block;
            let x_numbers = &x.numbers[place * BLOCK..][..BLOCK];
            let product = |(column, x): (usize, &i8)| {
                let place = [block, column];
                number(bits, tile, row, place) * part(bits, tile, row, place) * i32::from(*x)
            };
            let whole: i32 = x_numbers.iter().enumerate().map(product).sum();
            let (scale, least) = scale(bits, tile, row, block);
            *sum = (whole as f32).mul_add(scale * x.scales[place], *sum);
            if bits == Bits::Q4 {
                let x_sum: i32 = x.sums[place].iter().sum();
                *sum = (-least).mul_add(x.scales[place] * x_sum as f32, *sum);
            }
        }
    }
    sums
}

pub fn row(bits: Bits, tile: Tile<'_>, row: usize, out: &mut [f32]) {
    for (block, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let (scale, least) = scale(bits, tile, row, block);
        for (column, out) in out.iter_mut().enumerate() {
            let place = [block, column];
            let number = number(bits, tile, row, place) * part(bits, tile, row, place);
            *out = number as f32 * scale - least;
        }
    }
}
