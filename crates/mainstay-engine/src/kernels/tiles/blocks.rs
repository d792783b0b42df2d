//! Blocks of one row on their way into tiles: quantised here, or read from a GGUF file.

use super::GROUP;
use crate::kernels::quantised::BLOCK;
use half::f16;

/// 32 numbers with one scale.
#[derive(Clone, Copy, Default)]
pub struct Q8Block {
    /// f16
    pub scale: u16,
    pub numbers: [i8; BLOCK],
}

/// 8 blocks of 32 numbers from 0 to 15, each number standing for
/// `scale * scales[block] * number - least * leasts[block]`.
#[derive(Clone, Copy, Default)]
pub struct Q4Blocks {
    /// f16
    pub scale: u16,
    /// f16
    pub least: u16,
    /// From 0 to 63, as are `leasts`.
    pub scales: [u8; GROUP],
    pub leasts: [u8; GROUP],
    pub numbers: [[u8; BLOCK]; GROUP],
}

/// 8 blocks of 32 numbers from 0 to 63, each standing for `scale * scales[half block] * (number -
/// 32)`.
#[derive(Clone, Copy, Default)]
pub struct Q6Blocks {
    /// f16
    pub scale: u16,
    pub scales: [i8; 2 * GROUP],
    pub numbers: [[u8; BLOCK]; GROUP],
}

/// Highest number of `Q4`, and highest part of a scale.
const NUMBER_MAX: f32 = 15.0;
const PART_MAX: f32 = 63.0;

impl Q8Block {
    pub fn quantise(x: &[f32; BLOCK]) -> Q8Block {
        let highest = x.iter().fold(0.0f32, |highest, x| highest.max(x.abs()));
        let (scale, wide) = narrow(highest / 127.0);
        let inverse = if wide > 0.0 { 1.0 / wide } else { 0.0 };
        let number = |x: f32| (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        Q8Block { scale, numbers: x.map(number) }
    }

    /// GGUF's `Q8_0`: a scale, then the numbers.
    pub fn from_q8_0(bytes: &[u8; Q8_0_BYTES]) -> Q8Block {
        let mut numbers = [0; BLOCK];
        numbers.iter_mut().zip(&bytes[2..]).for_each(|(number, byte)| *number = *byte as i8);
        Q8Block { scale: u16::from_le_bytes([bytes[0], bytes[1]]), numbers }
    }
}

/// A scale as f16, and what that stands for.
fn narrow(scale: f32) -> (u16, f32) {
    let scale = f16::from_f32(scale.min(f16::MAX.to_f32()));
    (scale.to_bits(), scale.to_f32())
}

impl Q4Blocks {
    pub fn quantise(x: &[f32; BLOCK * GROUP]) -> Q4Blocks {
        let (mut steps, mut depths) = ([0.0f32; GROUP], [0.0f32; GROUP]);
        let blocks = x.as_chunks::<BLOCK>().0;
        for (block, x) in blocks.iter().enumerate() {
            let lowest = x.iter().fold(0.0f32, |lowest, x| lowest.min(*x));
            let highest = x.iter().fold(0.0f32, |highest, x| highest.max(*x));
            steps[block] = (highest - lowest) / NUMBER_MAX;
            depths[block] = -lowest;
        }
        let highest = |of: &[f32; GROUP]| of.iter().fold(0.0f32, |highest, x| highest.max(*x));
        let (scale, wide_scale) = narrow(highest(&steps) / PART_MAX);
        let (least, wide_least) = narrow(highest(&depths) / PART_MAX);
        let part = |of: f32, unit: f32| match unit > 0.0 {
            true => (of / unit).round_ties_even().clamp(0.0, PART_MAX) as u8,
            false => 0,
        };
        let mut out = Q4Blocks { scale, least, ..Q4Blocks::default() };
        for (block, x) in blocks.iter().enumerate() {
            out.scales[block] = part(steps[block], wide_scale);
            out.leasts[block] = part(depths[block], wide_least);
            let step = wide_scale * f32::from(out.scales[block]);
            let depth = wide_least * f32::from(out.leasts[block]);
            let inverse = if step > 0.0 { 1.0 / step } else { 0.0 };
            out.numbers[block] =
                x.map(|x| ((x + depth) * inverse).round_ties_even().clamp(0.0, NUMBER_MAX) as u8);
        }
        out
    }

    /// The numbers they stand for.
    pub fn load(&self, out: &mut [f32; K_NUMBERS]) {
        let (scale, least) = (f16::from_bits(self.scale), f16::from_bits(self.least));
        for (block, out) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            let scale = scale.to_f32() * f32::from(self.scales[block]);
            let least = least.to_f32() * f32::from(self.leasts[block]);
            *out = self.numbers[block].map(|number| f32::from(number) * scale - least);
        }
    }

    /// GGUF's `Q4_K`: two scales, 16 six-bit parts in 12 bytes, numbers in pairs of blocks.
    pub fn from_q4_k(bytes: &[u8; Q4_K_BYTES]) -> Q4Blocks {
        let parts = &bytes[4..16];
        let mut out = Q4Blocks {
            scale: u16::from_le_bytes([bytes[0], bytes[1]]),
            least: u16::from_le_bytes([bytes[2], bytes[3]]),
            ..Q4Blocks::default()
        };
        for block in 0..GROUP / 2 {
            let high = parts[block + 8];
            out.scales[block] = parts[block] & 63;
            out.leasts[block] = parts[block + 4] & 63;
            out.scales[block + 4] = high & 15 | parts[block] >> 6 << 4;
            out.leasts[block + 4] = high >> 4 | parts[block + 4] >> 6 << 4;
        }
        for (at, byte) in bytes[16..].iter().enumerate() {
            let (pair, column) = (at / BLOCK, at % BLOCK);
            out.numbers[pair * 2][column] = byte & 15;
            out.numbers[pair * 2 + 1][column] = byte >> 4;
        }
        out
    }
}

pub const Q8_0_BYTES: usize = 34;
pub const Q4_K_BYTES: usize = 144;
pub const Q6_K_BYTES: usize = 210;

/// Numbers in a `Q4_K` or `Q6_K` block of a GGUF file.
pub const K_NUMBERS: usize = BLOCK * GROUP;

impl Q6Blocks {
    /// GGUF's `Q6_K`: low halves, high quarters, 16 scales, one scale over all.
    pub fn from_q6_k(bytes: &[u8; Q6_K_BYTES]) -> Q6Blocks {
        let (low, rest) = bytes.split_at(128);
        let (high, rest) = rest.split_at(64);
        let mut out =
            Q6Blocks { scale: u16::from_le_bytes([rest[16], rest[17]]), ..Q6Blocks::default() };
        out.scales.iter_mut().zip(rest).for_each(|(scale, byte)| *scale = *byte as i8);
        for (block, numbers) in out.numbers.iter_mut().enumerate() {
            // Two halves of 128 numbers, each of four blocks; a byte of `high` serves all four and
            // a byte of `low` two.
            let (half, run) = (block / 4, block % 4);
            for (column, number) in numbers.iter_mut().enumerate() {
                let low = low[half * 64 + run % 2 * 32 + column] >> (run / 2 * 4) & 15;
                let high = high[half * 32 + column] >> (run * 2) & 3;
                *number = low | high << 4;
            }
        }
        out
    }

    /// The numbers they stand for.
    pub fn load(&self, out: &mut [f32; K_NUMBERS]) {
        let scale = f16::from_bits(self.scale).to_f32();
        for (at, out) in out.iter_mut().enumerate() {
            let number = f32::from(self.numbers[at / BLOCK][at % BLOCK]) - 32.0;
            *out = scale * f32::from(self.scales[at / (BLOCK / 2)]) * number;
        }
    }
}
