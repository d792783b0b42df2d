//! The inner loops: dot products of stored rows with f32 vectors, and what is built from them.
//!
//! A stored row (a weight row, a cached key) is bytes of one [`Element`] kind; it is widened to
//! f32 on the fly, so memory traffic stays at the stored width. `scalar` says what is meant,
//! `avx2` says it fast where the processor has it; which one runs is decided once per call, at run
//! time.
//!
//! Two promises the rest of the engine builds on:
//! - A product depends only on its row and its vector, never on how many other vectors share the
//!   call: the order of summation is fixed. So a batch mate, a chunk size or a thread changes no
//!   bit.
//! - `unsafe` occurs only here, in `pool.rs`, and in `weights/source.rs` for mapping files.
//!
//! Large matrices go through [`multiply`]; those in 8 and 4 bits are [`tiles`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod blend;
#[cfg(target_arch = "x86_64")]
mod lined;
pub mod multiply;
pub mod paired;
#[cfg(target_arch = "x86_64")]
mod pairs;
pub mod quantised;
mod scalar;
pub mod tiles;
pub mod vector;

use half::{bf16, f16};
pub use multiply::{Grid, Task, multiply};
pub use quantised::Input;
use std::sync::atomic::{AtomicU8, Ordering};

/// How wide the kernels may compute, for comparing them; wider ones run only where the processor
/// has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    Scalar,
    Avx2,
    Avx512,
}

static WIDEST: AtomicU8 = AtomicU8::new(Width::Avx512 as u8);

/// Holds all kernels of this process to at most this width. For benchmarks and comparisons.
pub fn limit_width(width: Width) {
    WIDEST.store(width as u8, Ordering::Relaxed);
}

fn may_use(width: Width) -> bool {
    WIDEST.load(Ordering::Relaxed) >= width as u8
}

/// How one number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    Bf16,
    F16,
}

impl Element {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 => 2,
        }
    }
}

/// Rows of stored numbers, `columns` to a row, without gaps.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub element: Element,
    pub bytes: &'a [u8],
    pub columns: usize,
}

impl<'a> Rows<'a> {
    pub fn count(&self) -> usize {
        self.bytes.len() / self.stride().max(1)
    }

    fn stride(&self) -> usize {
        self.columns * self.element.bytes()
    }

    /// Rows `first` to `end` (excluded).
    pub fn part(&self, first: usize, end: usize) -> Rows<'a> {
        Rows { bytes: &self.bytes[first * self.stride()..end * self.stride()], ..*self }
    }

    /// The bytes of row `index`.
    pub fn row(&self, index: usize) -> &'a [u8] {
        &self.bytes[index * self.stride()..(index + 1) * self.stride()]
    }
}

/// Adds `scale` times a stored row to `sum`. Panics unless the row holds `sum.len()` numbers.
pub fn add_scaled(element: Element, row: &[u8], scale: f32, sum: &mut [f32]) {
    assert_eq!(row.len(), sum.len() * element.bytes());
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = avx2::Avx2::detect() {
        return avx2.add_scaled(element, row, scale, sum);
    }
    scalar::add_scaled(element, row, scale, sum);
}

/// The same for a row of f32.
fn add_scaled_f32(row: &[f32], scale: f32, sum: &mut [f32]) {
    add_scaled(Element::F32, blend::as_bytes(row), scale, sum);
}

/// Widens a stored row to f32.
pub fn load(element: Element, row: &[u8], out: &mut [f32]) {
    out.fill(0.0);
    add_scaled(element, row, 1.0, out);
}

/// Narrows `values` into a stored row (round to nearest even).
pub fn store(element: Element, values: &[f32], row: &mut [u8]) {
    assert_eq!(row.len(), values.len() * element.bytes());
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = avx2::Avx2::detect()
        && element == Element::F16
    {
        return avx2.store_f16(values, row);
    }
    match element {
        Element::F32 => {
            for (to, value) in row.chunks_exact_mut(4).zip(values) {
                to.copy_from_slice(&value.to_le_bytes());
            }
        }
        Element::Bf16 => {
            for (to, value) in row.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&bf16::from_f32(*value).to_le_bytes());
            }
        }
        Element::F16 => {
            for (to, value) in row.chunks_exact_mut(2).zip(values) {
                to.copy_from_slice(&f16::from_f32(*value).to_le_bytes());
            }
        }
    }
}

/// Fills `out` with the products of each row with each vector of `x`, all of one row together.
pub fn products(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    let vectors = x.len() / rows.columns.max(1);
    if vectors == 0 || rows.columns == 0 {
        return out.fill(0.0);
    }
    assert_eq!(out.len(), rows.count() * vectors);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = tiles::avx512::Avx512::detect() {
        return avx512.multiply(rows, x, out);
    } else if let Some(avx2) = avx2::Avx2::detect() {
        return avx2.multiply(rows, x, out);
    }
    for (row, out) in out.chunks_exact_mut(vectors).enumerate() {
        for (out, vector) in out.iter_mut().zip(x.chunks_exact(rows.columns)) {
            *out = scalar::dot(rows.element, rows.row(row), vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Element; 3] = [Element::F32, Element::Bf16, Element::F16];

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mix = |index: usize| (index as u32 + salt).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|index| mix(index) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn stored(element: Element, values: &[f32]) -> Vec<u8> {
        let mut row = vec![0; values.len() * element.bytes()];
        store(element, values, &mut row);
        row
    }

    #[test]
    fn every_kernel_gives_the_bits_of_its_scalar_oracle() {
        for element in KINDS {
            for length in [0, 1, 7, 8, 9, 31, 32, 33, 64, 100, 257] {
                let row = stored(element, &numbers(length, 1));
                let x = numbers(length, 2);
                let mut fast = [0.0];
                products(Rows { element, bytes: &row, columns: length }, &x, &mut fast);
                let plain = scalar::dot(element, &row, &x);
                assert_eq!(fast[0], plain, "{element:?} {length}");
                #[cfg(target_arch = "x86_64")]
                if let (Some(avx2), 1..) = (avx2::Avx2::detect(), length) {
                    avx2.multiply(Rows { element, bytes: &row, columns: length }, &x, &mut fast);
                    assert_eq!(fast[0], plain, "AVX2, {element:?} {length}");
                }
                let mut fast = numbers(length, 3);
                let mut plain = fast.clone();
                add_scaled(element, &row, 0.3, &mut fast);
                scalar::add_scaled(element, &row, 0.3, &mut plain);
                assert_eq!(fast, plain, "{element:?} {length}");
            }
        }
    }

    #[test]
    fn storing_and_loading_keeps_the_value_within_the_kinds_precision() {
        let values = numbers(50, 8);
        for (element, tolerance) in KINDS.into_iter().zip([0.0, 4e-3, 5e-4]) {
            let mut back = vec![9.0; values.len()];
            load(element, &stored(element, &values), &mut back);
            for (back, value) in back.iter().zip(&values) {
                assert!((back - value).abs() <= tolerance, "{element:?} {value} {back}");
            }
        }
    }
}
