//! A matrix of the model, in rows as they were stored or in quantised tiles.

use super::{Format, Precision, Source, Tensor};
use crate::kernels::quantised::BLOCK;
use crate::kernels::tiles::blocks::{K_NUMBERS, Q4Blocks, Q6Blocks, Q8Block};
use crate::kernels::tiles::{Bits, Tiles};
use crate::kernels::{self, Element, Grid, Input, Rows, Task};
use crate::pool::Pool;
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone)]
pub struct Matrix {
    store: Store,
    height: usize,
    columns: usize,
}

#[derive(Clone)]
enum Store {
    /// Row by row somewhere in a [`Source`].
    Rows {
        source: Arc<Source>,
        range: Range<usize>,
        element: Element,
    },
    Tiles(Arc<Tiles>),
}

impl Matrix {
    /// The tensor as it lies.
    pub(super) fn rows_of(
        tensor: &Tensor,
        element: Element,
        [height, columns]: [usize; 2],
    ) -> Matrix {
        let (source, range) = (tensor.source.clone(), tensor.range.clone());
        Matrix { store: Store::Rows { source, range, element }, height, columns }
    }

    /// Tiles of a tensor in blocks, the same numbers; of plain numbers, in 8 bits.
    pub(super) fn tiles_of(
        tensor: &Tensor,
        format: Format,
        [height, columns]: [usize; 2],
        pool: &Pool,
    ) -> Matrix {
        let bytes = tensor.bytes();
        let [numbers, block] = format.block();
        let stride = columns / numbers * block;
        let row = |row: usize| &bytes[row * stride..][..stride];
        let size = [height, columns];
        let tiles = match format {
            Format::Q8_0 => Tiles::q8(size, pool, &|at, blocks| {
                for (to, from) in blocks.iter_mut().zip(row(at).as_chunks().0) {
                    *to = Q8Block::from_q8_0(from);
                }
            }),
            Format::Q4K => Tiles::q4(size, pool, &|at, groups| {
                for (to, from) in groups.iter_mut().zip(row(at).as_chunks().0) {
                    *to = Q4Blocks::from_q4_k(from);
                }
            }),
            Format::Q6K => Tiles::q6(size, pool, &|at, groups| {
                for (to, from) in groups.iter_mut().zip(row(at).as_chunks().0) {
                    *to = Q6Blocks::from_q6_k(from);
                }
            }),
            Format::Rows(_) => {
                quantised(Bits::Q8, size, pool, &|at, out| format.load(row(at), out))
            }
        };
        Matrix { store: Store::Tiles(Arc::new(tiles)), height, columns }
    }

    /// Rows of f32 of a tensor in blocks.
    pub(super) fn widened(
        tensor: &Tensor,
        format: Format,
        [height, columns]: [usize; 2],
    ) -> Matrix {
        let mut numbers = vec![0.0; height * columns];
        format.load(tensor.bytes(), &mut numbers);
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Matrix::owned(bytes, Element::F32, [height, columns])
    }

    fn owned(bytes: Vec<u8>, element: Element, [height, columns]: [usize; 2]) -> Matrix {
        let range = 0..bytes.len();
        let source = Arc::new(Source::Owned(bytes));
        Matrix { store: Store::Rows { source, range, element }, height, columns }
    }

    /// This matrix as it shall be kept: quantised if that is asked for and makes it smaller.
    pub(super) fn kept(self, precision: Precision, pool: &Pool) -> Matrix {
        let fits = |bits: Bits| self.columns > 0 && self.columns.is_multiple_of(bits.columns());
        let bits = match precision {
            Precision::Stored => return self,
            Precision::Q4 if fits(Bits::Q4) => Bits::Q4,
            Precision::Q4 | Precision::Q8 if fits(Bits::Q8) => Bits::Q8,
            Precision::Q4 | Precision::Q8 => return self,
        };
        if let Store::Tiles(tiles) = &self.store
            && (tiles.bits == Bits::Q4 || bits == Bits::Q8)
        {
            return self;
        }
        let size = [self.height, self.columns];
        let tiles = quantised(bits, size, pool, &|row, out| self.row(row, out));
        Matrix { store: Store::Tiles(Arc::new(tiles)), ..self }
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The stored rows, unless the matrix is in tiles.
    pub fn rows(&self) -> Option<Rows<'_>> {
        match &self.store {
            Store::Rows { source, range, element } => {
                let bytes = &source.bytes()[range.clone()];
                Some(Rows { element: *element, bytes, columns: self.columns })
            }
            Store::Tiles(_) => None,
        }
    }

    pub fn grid(&self) -> Grid<'_> {
        match (&self.store, self.rows()) {
            (Store::Tiles(tiles), _) => Grid::Tiles(tiles),
            (Store::Rows { .. }, Some(rows)) => Grid::Rows(rows),
            (Store::Rows { .. }, None) => unreachable!("rows have rows"),
        }
    }

    /// Row `index` as f32.
    pub fn row(&self, index: usize, out: &mut [f32]) {
        match self.grid() {
            Grid::Rows(rows) => kernels::load(rows.element, rows.row(index), out),
            Grid::Tiles(tiles) => tiles.row(index, out),
        }
    }

    /// Rows `rows` of a matrix that is stored in rows, without a copy.
    pub fn part(&self, rows: Range<usize>) -> Matrix {
        let Store::Rows { source, range, element } = &self.store else {
            unreachable!("only exact matrices are taken apart")
        };
        let stride = self.columns * element.bytes();
        let part = range.start + rows.start * stride..range.start + rows.end * stride;
        assert!(part.end <= range.end);
        let store = Store::Rows { source: source.clone(), range: part, element: *element };
        Matrix { store, height: rows.len(), columns: self.columns }
    }

    /// A copy, of a matrix that is stored in rows, with rows and columns exchanged.
    pub fn transposed(&self) -> Matrix {
        let Some(rows) = self.rows() else { unreachable!("only exact matrices are transposed") };
        let (height, width) = (self.height, rows.element.bytes());
        let mut bytes = vec![0; rows.bytes.len()];
        for row in 0..height {
            for (column, number) in rows.row(row).chunks_exact(width).enumerate() {
                let to = (column * height + row) * width;
                bytes[to..to + width].copy_from_slice(number);
            }
        }
        Matrix::owned(bytes, rows.element, [self.columns, height])
    }

    /// The product with all vectors of `input`, to be computed beside others.
    pub fn task<'a>(&'a self, input: &'a Input<'a>, out: &'a mut [f32]) -> Task<'a> {
        Task { grid: self.grid(), input, vectors: None, out }
    }

    /// This matrix times each vector of `input`; see [`kernels::multiply`].
    pub fn multiply(&self, input: &Input<'_>, pool: &Pool) -> Vec<f32> {
        let mut out = vec![0.0; self.height * input.vectors()];
        kernels::multiply(vec![self.task(input, &mut out)], pool);
        out
    }
}

/// Tiles of the rows that `load` gives.
fn quantised(
    bits: Bits,
    size: [usize; 2],
    pool: &Pool,
    load: &(dyn Fn(usize, &mut [f32]) + Sync),
) -> Tiles {
    let wide = |row: usize| {
        let mut wide = vec![0.0; size[1]];
        load(row, &mut wide);
        wide
    };
    match bits {
        // Six bits come out of files only.
        Bits::Q8 | Bits::Q6 => Tiles::q8(size, pool, &|row, blocks| {
            for (to, from) in blocks.iter_mut().zip(wide(row).as_chunks::<BLOCK>().0) {
                *to = Q8Block::quantise(from);
            }
        }),
        Bits::Q4 => Tiles::q4(size, pool, &|row, groups| {
            for (to, from) in groups.iter_mut().zip(wide(row).as_chunks::<K_NUMBERS>().0) {
                *to = Q4Blocks::quantise(from);
            }
        }),
    }
}
