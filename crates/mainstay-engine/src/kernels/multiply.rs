//! Products of large matrices with vectors, several at a time, on the threads of a pool.
#![allow(unsafe_code)]

use super::quantised::{Input, Quantised};
use super::tiles::{TILE, Tiles};
use super::{Rows, products};
use crate::pool::{Pool, Shares};
use std::borrow::Cow;
use std::ops::Range;

/// A matrix as it is stored.
#[derive(Clone, Copy)]
pub enum Grid<'a> {
    Rows(Rows<'a>),
    Tiles(&'a Tiles),
}

/// One product to compute: a matrix with some of the vectors of an input.
pub struct Task<'a> {
    pub grid: Grid<'a>,
    pub input: &'a Input<'a>,
    /// Which vectors of the input, in which order; nothing means all.
    pub vectors: Option<&'a [usize]>,
    /// One number for each row, vector after vector.
    pub out: &'a mut [f32],
}

/// Below this many multiply-adds another thread costs more than it saves.
const THREAD_WORTH: usize = 1 << 17;

/// Chunks for each thread: enough that one that is held up leaves the rest to the others.
const CHUNKS_PER_THREAD: usize = 8;

/// A task made ready: `units` are groups of [`TILE`] rows.
struct Work<'a> {
    grid: Grid<'a>,
    x: Cow<'a, [f32]>,
    quantised: Option<&'a Quantised>,
    vectors: Cow<'a, [usize]>,
    out: Shares<'a, f32>,
    rows: usize,
}

impl Grid<'_> {
    fn size(&self) -> [usize; 2] {
        match self {
            Grid::Rows(rows) => [rows.count(), rows.columns],
            Grid::Tiles(tiles) => [tiles.rows, tiles.columns],
        }
    }
}

/// Computes all tasks. Each output depends on its row and its vector only.
pub fn multiply(tasks: Vec<Task<'_>>, pool: &Pool) {
    let works: Vec<Work<'_>> = tasks.into_iter().map(Work::new).collect();
    let costs: Vec<usize> = works.iter().map(Work::unit_cost).collect();
    let total: usize = works.iter().zip(&costs).map(|(work, cost)| work.units() * cost).sum();
    if total < THREAD_WORTH || pool.threads() == 1 {
        return works.iter().for_each(|work| work.compute(0..work.units()));
    }
    let share = total / (pool.threads() * CHUNKS_PER_THREAD);
    let mut chunks: Vec<(&Work<'_>, Range<usize>)> = Vec::new();
    for (work, cost) in works.iter().zip(&costs) {
        let units = (share / cost.max(&1)).max(1);
        let starts = (0..work.units()).step_by(units);
        chunks.extend(starts.map(|first| (work, first..(first + units).min(work.units()))));
    }
    pool.run(chunks.len(), &|chunk| {
        let (work, units) = &chunks[chunk];
        work.compute(units.clone());
    });
}

impl<'a> Work<'a> {
    fn new(task: Task<'a>) -> Work<'a> {
        let [rows, columns] = task.grid.size();
        let input = task.input;
        assert_eq!(input.columns, columns);
        let vectors = match task.vectors {
            Some(vectors) => Cow::Borrowed(vectors),
            None => (0..input.vectors()).collect(),
        };
        assert_eq!(task.out.len(), rows * vectors.len());
        let (x, quantised) = match (task.grid, task.vectors) {
            (Grid::Tiles(_), _) if vectors.is_empty() => (Cow::Borrowed(input.x), None),
            (Grid::Tiles(_), _) => (Cow::Borrowed(input.x), Some(input.quantised())),
            (Grid::Rows(_), None) => (Cow::Borrowed(input.x), None),
            (Grid::Rows(_), Some(vectors)) => {
                let mut own = Vec::with_capacity(vectors.len() * columns);
                for vector in vectors {
                    own.extend_from_slice(&input.x[vector * columns..][..columns]);
                }
                (Cow::Owned(own), None)
            }
        };
        Work { grid: task.grid, x, quantised, vectors, out: Shares::new(task.out), rows }
    }

    fn units(&self) -> usize {
        if self.vectors.is_empty() { 0 } else { self.rows.div_ceil(TILE) }
    }

    fn unit_cost(&self) -> usize {
        TILE * self.grid.size()[1] * self.vectors.len()
    }

    fn compute(&self, units: Range<usize>) {
        match (self.grid, self.quantised) {
            // SAFETY: chunks are of different rows, so their places in `out` are different.
            (Grid::Tiles(tiles), Some(x)) => unsafe {
                tiles.multiply(units, x, &self.vectors, &self.out);
            },
            (Grid::Tiles(_), None) => {}
            (Grid::Rows(rows), _) => {
                for unit in units {
                    let first = unit * TILE;
                    self.rows(rows.part(first, (first + TILE).min(self.rows)), first);
                }
            }
        }
    }

    /// The products of the rows from `first` on, which `rows` are.
    fn rows(&self, rows: Rows<'_>, first: usize) {
        let (vectors, height) = (self.vectors.len(), rows.count());
        let mut by_row = vec![0.0; height * vectors];
        products(rows, &self.x, &mut by_row);
        for vector in 0..vectors {
            // SAFETY: as in `compute`.
            let out = unsafe { self.out.part(vector * self.rows + first, height) };
            for (row, out) in out.iter_mut().enumerate() {
                *out = by_row[row * vectors + vector];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tiles::blocks::{Q4Blocks, Q8Block};
    use crate::kernels::{Element, store};

    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mix = |index: usize| (index as u32 + salt).wrapping_mul(2_654_435_761) >> 8;
        (0..count).map(|index| mix(index) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn product(grid: Grid<'_>, input: &Input<'_>, vectors: &[usize], pool: &Pool) -> Vec<f32> {
        let mut out = vec![9.0; grid.size()[0] * vectors.len()];
        multiply(vec![Task { grid, input, vectors: Some(vectors), out: &mut out }], pool);
        out
    }

    #[test]
    fn a_product_does_not_depend_on_the_vectors_beside_it_or_on_threads() {
        let (height, columns) = (333, 256);
        let values = numbers(height * columns, 4);
        let row = |row: usize| &values[row * columns..][..columns];
        let (one, three) = (Pool::new(1), Pool::new(3));
        let q8 = Tiles::q8([height, columns], &three, &|at, blocks| {
            for (block, x) in blocks.iter_mut().zip(row(at).as_chunks().0) {
                *block = Q8Block::quantise(x);
            }
        });
        let q4 = Tiles::q4([height, columns], &three, &|at, blocks| {
            for (block, x) in blocks.iter_mut().zip(row(at).as_chunks().0) {
                *block = Q4Blocks::quantise(x);
            }
        });
        let mut stored = vec![0; values.len() * 2];
        store(Element::Bf16, &values, &mut stored);
        let rows = Rows { element: Element::Bf16, bytes: &stored, columns };
        let x = numbers(columns * 19, 5);
        let input = Input::new(&x, columns);
        for grid in [Grid::Rows(rows), Grid::Tiles(&q8), Grid::Tiles(&q4)] {
            let all: Vec<usize> = (0..19).collect();
            let together = product(grid, &input, &all, &three);
            assert_eq!(together, product(grid, &input, &all, &one));
            for vector in 0..19 {
                let alone = product(grid, &input, &[vector], &one);
                assert_eq!(alone, together[vector * height..][..height]);
            }
            let picked = product(grid, &input, &[7, 3], &three);
            assert_eq!(picked[..height], together[7 * height..][..height]);
            assert_eq!(picked[height..], together[3 * height..][..height]);
        }
    }
}
