//! How the numbers of a tensor are stored in a file.

use crate::kernels::quantised::BLOCK;
use crate::kernels::tiles::blocks::{
    K_NUMBERS, Q4_K_BYTES, Q4Blocks, Q6_K_BYTES, Q6Blocks, Q8_0_BYTES, Q8Block,
};
use crate::kernels::{self, Element};
use crate::pool::Pool;
use half::f16;
use std::sync::atomic::{AtomicBool, Ordering};

/// Plain numbers, or one of GGUF's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Rows(Element),
    Q8_0,
    Q4K,
    Q6K,
}

impl Format {
    /// Numbers that are stored together, and the bytes they take.
    pub const fn block(self) -> [usize; 2] {
        match self {
            Format::Rows(element) => [1, element.bytes()],
            Format::Q8_0 => [BLOCK, Q8_0_BYTES],
            Format::Q4K => [K_NUMBERS, Q4_K_BYTES],
            Format::Q6K => [K_NUMBERS, Q6_K_BYTES],
        }
    }

    /// Bytes that a tensor of this shape takes; nothing if it cannot be.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let [numbers, bytes] = self.block();
        let columns = shape.last().copied().unwrap_or(1);
        let all = shape.iter().try_fold(1usize, |all, part| all.checked_mul(*part))?;
        let is_whole = columns % numbers == 0;
        is_whole.then_some(all / numbers)?.checked_mul(bytes)
    }

    /// Widens all numbers in `bytes` to f32.
    pub fn load(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Format::Rows(element) => kernels::load(element, bytes, out),
            Format::Q8_0 => {
                let blocks = bytes.as_chunks().0.iter().map(Q8Block::from_q8_0);
                for (block, out) in blocks.zip(out.as_chunks_mut::<BLOCK>().0) {
                    let scale = f16::from_bits(block.scale).to_f32();
                    *out = block.numbers.map(|number| f32::from(number) * scale);
                }
            }
            Format::Q4K => {
                let groups = bytes.as_chunks().0.iter().map(Q4Blocks::from_q4_k);
                for (group, out) in groups.zip(out.as_chunks_mut::<K_NUMBERS>().0) {
                    group.load(out);
                }
            }
            Format::Q6K => {
                let groups = bytes.as_chunks().0.iter().map(Q6Blocks::from_q6_k);
                for (group, out) in groups.zip(out.as_chunks_mut::<K_NUMBERS>().0) {
                    group.load(out);
                }
            }
        }
    }

    /// Whether all is finite: the numbers, or the scales that they are multiplied by.
    pub fn is_finite(self, bytes: &[u8], pool: &Pool) -> bool {
        let [_, block] = self.block();
        let piece = PIECE / block * block;
        let found = AtomicBool::new(false);
        pool.run(bytes.len().div_ceil(piece), &|chunk| {
            let bytes = &bytes[chunk * piece..bytes.len().min((chunk + 1) * piece)];
            if !self.is_piece_finite(bytes) {
                found.store(true, Ordering::Relaxed);
            }
        });
        !found.into_inner()
    }

    fn is_piece_finite(self, bytes: &[u8]) -> bool {
        // Everything is looked at without a branch, so that it becomes vector code.
        let halves = |exponent: u16| {
            let halves = bytes.as_chunks().0.iter();
            !halves.fold(false, |found, half| {
                found | (u16::from_le_bytes(*half) & exponent == exponent)
            })
        };
        let scales = |at: &[usize]| {
            let blocks = bytes.chunks_exact(self.block()[1]);
            let is_finite = |block: &[u8], at: usize| {
                f16::from_le_bytes([block[at], block[at + 1]]).is_finite()
            };
            blocks.fold(true, |so_far, block| so_far & at.iter().all(|at| is_finite(block, *at)))
        };
        match self {
            Format::Rows(Element::F32) => {
                let exponent = 0x7f80_0000;
                let words = bytes.as_chunks().0.iter();
                !words.fold(false, |found, word| {
                    found | (u32::from_le_bytes(*word) & exponent == exponent)
                })
            }
            Format::Rows(Element::Bf16) => halves(0x7f80),
            Format::Rows(Element::F16) => halves(0x7c00),
            Format::Q8_0 => scales(&[0]),
            Format::Q4K => scales(&[0, 2]),
            Format::Q6K => scales(&[Q6_K_BYTES - 2]),
        }
    }
}

/// Bytes that one chunk looks at.
const PIECE: usize = 1 << 20;
