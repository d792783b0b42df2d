//! Brings weights onto the card, in the layouts its kernels read.

use super::arguments::Random;
use super::card::{Buffer, Card, Grid, Pointer};
use crate::error::LoadError;
use crate::kernels::Element;
use crate::weights::Weights;
use half::bf16;
use std::cell::Cell;

/// Rows of a gate and of its counterpart take turns of so many: one tile of the matrix unit holds
/// both.
const TURN: usize = 8;

/// Where weights come from.
pub struct Loader<'a> {
    pub card: &'a Card,
    /// None: random ones, for measuring speed.
    pub weights: Option<&'a Weights>,
    seed: Cell<u32>,
}

/// A matrix on the card: f32 where all is exact, else bf16.
pub struct Matrix {
    buffer: Buffer,
    pub rows: usize,
    pub columns: usize,
    pub element: Element,
}

impl Matrix {
    pub fn pointer(&self) -> Pointer {
        self.buffer.pointer
    }

    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

impl<'a> Loader<'a> {
    pub fn new(card: &'a Card, weights: Option<&'a Weights>) -> Loader<'a> {
        Loader { card, weights, seed: Cell::new(1) }
    }

    pub fn element(&self) -> Element {
        if self.card.is_exact { Element::F32 } else { Element::Bf16 }
    }

    /// Matrices of these names and heights, one under the other.
    pub fn stacked(&self, parts: &[(&str, usize)], columns: usize) -> Result<Matrix, LoadError> {
        let rows = parts.iter().map(|part| part.1).sum();
        self.matrix(rows, columns, |weights| {
            let mut all = Vec::new();
            for (name, rows) in parts {
                all.extend(self.stored(weights, name, [*rows, columns])?);
            }
            Ok(all)
        })
    }

    /// A matrix whose bytes are made from the stored ones.
    pub fn matrix(
        &self,
        rows: usize,
        columns: usize,
        make: impl FnOnce(&Weights) -> Result<Vec<u8>, LoadError>,
    ) -> Result<Matrix, LoadError> {
        let element = self.element();
        let buffer = match self.weights {
            Some(weights) => self.card.upload(&make(weights)?)?,
            None => self.random(rows * columns, 1.7 / (columns as f32).sqrt())?,
        };
        Ok(Matrix { buffer, rows, columns, element })
    }

    /// A matrix of these bytes.
    pub fn made(&self, rows: usize, columns: usize, bytes: Vec<u8>) -> Result<Matrix, LoadError> {
        let buffer = self.card.upload(&bytes)?;
        Ok(Matrix { buffer, rows, columns, element: self.element() })
    }

    /// A vector, widened to f32; ones where weights are random.
    pub fn vector(&self, name: &str, length: usize) -> Result<Buffer, LoadError> {
        let numbers = match self.weights {
            Some(weights) => weights.vector(name, length)?,
            None => vec![1.0; length],
        };
        self.numbers(&numbers)
    }

    /// These numbers.
    pub fn numbers(&self, numbers: &[f32]) -> Result<Buffer, LoadError> {
        let mut buffer = self.card.zeros(size_of_val(numbers))?;
        self.card.write(&mut buffer, 0, numbers);
        Ok(buffer)
    }

    /// The stored matrix of this name, in the card's element.
    pub fn stored(
        &self,
        weights: &Weights,
        name: &str,
        [rows, columns]: [usize; 2],
    ) -> Result<Vec<u8>, LoadError> {
        let matrix = weights.matrix(name, rows, columns)?;
        if let Some(stored) = matrix.rows().filter(|stored| stored.element == self.element()) {
            return Ok(stored.bytes.to_vec());
        }
        let mut bytes = Vec::with_capacity(rows * columns * self.element().bytes());
        let mut wide = vec![0.0; columns];
        for row in 0..rows {
            matrix.row(row, &mut wide);
            match self.element() {
                Element::Bf16 => {
                    bytes.extend(wide.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()));
                }
                _ => bytes.extend(wide.iter().flat_map(|x| x.to_le_bytes())),
            }
        }
        Ok(bytes)
    }

    fn random(&self, count: usize, scale: f32) -> Result<Buffer, LoadError> {
        if self.card.is_exact {
            return Err(LoadError::Card("random weights are bf16: do not ask for f32".into()));
        }
        let buffer = self.card.zeros(count * 2)?;
        let seed = self.seed.replace(self.seed.get() + 1);
        let argument = Random { y: buffer.pointer, count: count as u64, seed, scale };
        self.card.launch("random", Grid::new([4096, 1, 1], 256), &argument);
        Ok(buffer)
    }
}

/// Rows of `gate` and `up`, each of so many bytes, in turns.
pub fn in_turns(gate: &[u8], up: &[u8], row: usize) -> Vec<u8> {
    let turns = gate.chunks(row * TURN).zip(up.chunks(row * TURN));
    turns.flat_map(|(gate, up)| gate.iter().chain(up)).copied().collect()
}

/// Columns `from..to` of a matrix, by bytes.
pub fn columns(matrix: &[u8], row: usize, from: usize, to: usize) -> Vec<u8> {
    matrix.chunks_exact(row).flat_map(|row| &row[from..to]).copied().collect()
}

/// Rows and columns exchanged; numbers are so many bytes wide.
pub fn transposed(matrix: &[u8], columns: usize, width: usize) -> Vec<u8> {
    let rows = matrix.len() / (columns * width);
    let mut out = vec![0; matrix.len()];
    for (from, number) in matrix.chunks_exact(width).enumerate() {
        let to = (from % columns * rows + from / columns) * width;
        out[to..to + width].copy_from_slice(number);
    }
    out
}

/// A model whose inner width does not fit the layout of a gate and its counterpart.
pub fn check_inner(inner: usize) -> Result<(), LoadError> {
    match inner.is_multiple_of(TURN) {
        true => Ok(()),
        false => Err(LoadError::Card(format!(
            "an inner width of {inner} is no multiple of {TURN}: compute on the processor"
        ))),
    }
}
