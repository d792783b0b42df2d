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
//! - `unsafe` occurs only in `avx2` (and in `weights/source.rs`, for mapping files).
//!
//! Left out for now: quantised rows, re-tiled weights, a standing pool. They come in behind
//! [`multiply`], which is all the model calls for large matrices.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod scalar;
pub mod vector;

use half::{bf16, f16};

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

/// Below this many multiply-adds a second thread costs more to start (about 30 µs) than it saves.
const THREAD_WORTH: usize = 1 << 21;

/// Adds `scale` times a stored row to `sum`. Panics unless the row holds `sum.len()` numbers.
pub fn add_scaled(element: Element, row: &[u8], scale: f32, sum: &mut [f32]) {
    assert_eq!(row.len(), sum.len() * element.bytes());
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = avx2::Avx2::detect() {
        return avx2.add_scaled(element, row, scale, sum);
    }
    scalar::add_scaled(element, row, scale, sum);
}

/// Widens a stored row to f32.
pub fn load(element: Element, row: &[u8], out: &mut [f32]) {
    out.fill(0.0);
    add_scaled(element, row, 1.0, out);
}

/// Narrows `values` into a stored row (round to nearest even).
pub fn store(element: Element, values: &[f32], row: &mut [u8]) {
    assert_eq!(row.len(), values.len() * element.bytes());
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

/// Multiplies every vector of `x` (`columns` numbers each, one after another) by `rows`.
/// Returns one output vector of `rows.count()` numbers per input vector, one after another.
pub fn multiply(rows: Rows<'_>, x: &[f32], threads: usize) -> Vec<f32> {
    let height = rows.count();
    let vectors = x.len() / rows.columns.max(1);
    assert_eq!(x.len(), vectors * rows.columns);
    let mut by_row = vec![0.0; height * vectors];
    let work = height * vectors * rows.columns;
    let threads = threads.min(work / THREAD_WORTH + 1).max(1);
    if threads == 1 || height < threads || vectors == 0 {
        products(rows, x, &mut by_row);
    } else {
        let share = height.div_ceil(threads);
        std::thread::scope(|scope| {
            for (part, out) in by_row.chunks_mut(share * vectors).enumerate() {
                let first = part * share;
                let rows = rows.part(first, first + out.len() / vectors);
                scope.spawn(move || products(rows, x, out));
            }
        });
    }
    if vectors == 1 { by_row } else { transpose(&by_row, vectors) }
}

/// Fills `out` with the products of each row with each vector of `x`, all of one row together.
pub fn products(rows: Rows<'_>, x: &[f32], out: &mut [f32]) {
    let vectors = x.len() / rows.columns.max(1);
    if vectors == 0 || rows.columns == 0 {
        return out.fill(0.0);
    }
    assert_eq!(out.len(), rows.count() * vectors);
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = avx2::Avx2::detect() {
        return avx2.multiply(rows, x, out);
    }
    for (row, out) in out.chunks_exact_mut(vectors).enumerate() {
        for (out, vector) in out.iter_mut().zip(x.chunks_exact(rows.columns)) {
            *out = scalar::dot(rows.element, rows.row(row), vector);
        }
    }
}

/// Turns rows of `width` numbers into columns.
fn transpose(by_row: &[f32], width: usize) -> Vec<f32> {
    let height = by_row.len() / width.max(1);
    let mut out = vec![0.0; by_row.len()];
    for (row, values) in by_row.chunks_exact(width.max(1)).enumerate() {
        for (column, value) in values.iter().enumerate() {
            out[column * height + row] = *value;
        }
    }
    out
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
    fn every_kernel_agrees_with_its_scalar_oracle() {
        for element in KINDS {
            for length in [0, 1, 7, 8, 9, 31, 32, 33, 64, 100, 257] {
                let row = stored(element, &numbers(length, 1));
                let x = numbers(length, 2);
                let mut fast = [0.0];
                products(Rows { element, bytes: &row, columns: length }, &x, &mut fast);
                let difference = fast[0] - scalar::dot(element, &row, &x);
                assert!(difference.abs() < 1e-5 * (length as f32 + 1.0), "{element:?} {length}");
                let mut fast = numbers(length, 3);
                let mut plain = fast.clone();
                add_scaled(element, &row, 0.3, &mut fast);
                scalar::add_scaled(element, &row, 0.3, &mut plain);
                for (fast, plain) in fast.iter().zip(&plain) {
                    assert!((fast - plain).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_vectors_beside_it_or_on_threads() {
        for element in KINDS {
            let (columns, height) = (75, 40);
            let bytes = stored(element, &numbers(columns * height, 4));
            let rows = Rows { element, bytes: &bytes, columns };
            let x = numbers(columns * 8, 5);
            let together = multiply(rows, &x, 1);
            for (index, vector) in x.chunks(columns).enumerate() {
                assert_eq!(multiply(rows, vector, 1), together[index * height..][..height]);
            }
        }
        let bytes = stored(Element::Bf16, &numbers(1024 * 1501, 6));
        let rows = Rows { element: Element::Bf16, bytes: &bytes, columns: 1024 };
        let x = numbers(1024 * 4, 7);
        assert_eq!(multiply(rows, &x, 1), multiply(rows, &x, 3));
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
