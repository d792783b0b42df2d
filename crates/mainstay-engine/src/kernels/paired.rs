//! Attention over rows of bf16: scores and mixed values from pairs of products.
//!
//! AVX-512 has an instruction that multiplies pairs of bf16 numbers and adds both products to an
//! f32, twice as many multiply-adds as others do in that time. Its order is stated to the bit: of
//! each pair the second product is added first, each sum rounded to the nearest. Where it is
//! missing, two fused multiply-adds in that order give the same bits, so rows are widened with the
//! odd of their columns before the even, and the second of two rows before the first: the kernels
//! for f32 do the rest.
//!
//! The instruction takes numbers below the normal ones for zero. None comes about here: what is
//! below [`LEAST`] is taken for zero before, so products and sums are multiples of 2^-124.

use super::{add_scaled_f32, blend};
use std::marker::PhantomData;
use std::ops::Range;

/// Columns that are put in order together: a register of bf16. Rows are filled up to a multiple.
const GROUP: usize = 32;

/// 2^-48. No share, no query and no latent of a model comes near it but zero.
pub const LEAST: f32 = 1.0 / (1u64 << 48) as f32;

/// Below this a sum that was scaled down is zero: 2^-100.
const LEAST_SUM: f32 = LEAST * LEAST / 16.0;

/// Queries, and the rows of some positions that they look at, values at their beginning.
pub struct Paired<'a> {
    /// Numbers of a row, filled up.
    width: usize,
    /// Positions loaded.
    height: usize,
    form: Form<'a>,
    shares: Vec<f32>,
}

enum Form<'a> {
    #[cfg(target_arch = "x86_64")]
    Pairs(super::pairs::Pairs<'a>),
    Wide {
        queries: Vec<f32>,
        rows: Vec<f32>,
        /// Rows are copied here.
        lie: PhantomData<&'a [u8]>,
    },
}

/// Numbers of a value that is filled up.
pub fn filled(value: usize) -> usize {
    value.next_multiple_of(GROUP)
}

/// Sets to zero what is too small to be told from it.
pub fn clean(row: &mut [f32]) {
    row.iter_mut().for_each(|x| *x = if x.abs() < LEAST { 0.0 } else { *x });
}

/// The bf16 number nearest to `x`, of two as near the even one; zero below [`LEAST`].
#[inline(always)]
pub(super) fn narrow(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    match x {
        x if x.abs() < LEAST => 0,
        x if x.is_nan() => 0x7fc0,
        _ => rounded as u16,
    }
}

fn widened(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// Widens a stored row into `out`, the odd columns of each group first.
fn spread(row: &[u8], out: &mut [f32]) {
    for (group, out) in row.chunks(2 * GROUP).zip(out.chunks_exact_mut(GROUP)) {
        let (odd, even) = out.split_at_mut(GROUP / 2);
        let (twos, rest) = group.as_chunks::<4>();
        for ((two, odd), even) in twos.iter().zip(odd).zip(even.iter_mut()) {
            let two = u32::from_le_bytes(*two);
            *odd = f32::from_bits(two & 0xffff_0000);
            *even = f32::from_bits(two << 16);
        }
        if let [low, high] = rest {
            even[twos.len()] = widened(u16::from_le_bytes([*low, *high]));
        }
    }
}

/// Puts mixed values that were filled up back into the order of their columns.
pub fn in_order(mixed: &[f32], out: &mut [f32]) {
    for (group, out) in mixed.chunks_exact(GROUP).zip(out.chunks_mut(GROUP)) {
        for (column, out) in out.iter_mut().enumerate() {
            *out = group[(column + 1) % 2 * (GROUP / 2) + column / 2];
        }
    }
}

impl<'a> Paired<'a> {
    /// For queries of `columns` numbers, and up to `rows` positions at once.
    pub fn new(queries: &[f32], columns: usize, rows: usize) -> Paired<'a> {
        #[cfg(target_arch = "x86_64")]
        if let Some(fast) = super::pairs::Fast::detect() {
            let form = Form::Pairs(super::pairs::Pairs::new(fast, queries, columns, rows));
            return Paired::of(form, columns);
        }
        Paired::wide(queries, columns, rows)
    }

    fn wide(queries: &[f32], columns: usize, rows: usize) -> Paired<'a> {
        let width = columns.next_multiple_of(GROUP);
        let mut wide = vec![0.0; queries.len() / columns * width];
        for (query, wide) in queries.chunks_exact(columns).zip(wide.chunks_exact_mut(width)) {
            let query: Vec<u8> = query.iter().flat_map(|x| narrow(*x).to_le_bytes()).collect();
            spread(&query, wide);
        }
        let rows = vec![0.0; rows.next_multiple_of(2) * width];
        Paired::of(Form::Wide { queries: wide, rows, lie: PhantomData }, columns)
    }

    fn of(form: Form<'a>, columns: usize) -> Paired<'a> {
        let width = columns.next_multiple_of(GROUP);
        Paired { width, height: 0, form, shares: Vec::new() }
    }

    /// Takes the stored rows of some positions in place of those before.
    pub fn load(&mut self, stored: impl Iterator<Item = &'a [u8]>) {
        self.height = 0;
        let counted = stored.inspect(|_| self.height += 1);
        match &mut self.form {
            #[cfg(target_arch = "x86_64")]
            Form::Pairs(pairs) => pairs.load(counted),
            Form::Wide { rows, .. } => {
                for (at, row) in counted.enumerate() {
                    spread(row, &mut rows[(at ^ 1) * self.width..][..self.width]);
                }
            }
        }
    }

    /// Lets some of the queries look at the first `seen` positions.
    pub fn add(
        &mut self,
        queries: Range<usize>,
        seen: usize,
        softmax: &mut [blend::Softmax],
        mixed: &mut [f32],
    ) {
        if seen == 0 {
            return;
        }
        assert!(seen <= self.height && softmax.len() == queries.len());
        let value = mixed.len() / queries.len();
        assert!(value.is_multiple_of(GROUP) && value <= self.width);
        self.shares.resize(seen * queries.len(), 0.0);
        self.scores(queries, seen);
        let shares = self.shares.chunks_exact_mut(seen);
        for ((softmax, shares), mixed) in
            softmax.iter_mut().zip(shares).zip(mixed.chunks_exact_mut(value))
        {
            let kept = softmax.take(shares);
            if kept != 1.0 {
                let less = |x: f32| if x.abs() < LEAST_SUM { 0.0 } else { x };
                mixed.iter_mut().for_each(|mixed| *mixed = less(*mixed * kept));
            }
        }
        self.mix(seen, value, mixed);
    }

    fn scores(&mut self, queries: Range<usize>, seen: usize) {
        match &self.form {
            #[cfg(target_arch = "x86_64")]
            Form::Pairs(pairs) => pairs.scores(queries, seen, &mut self.shares),
            Form::Wide { queries: all, rows, .. } => {
                let (width, places) = (self.width, seen.next_multiple_of(2));
                let mut out = vec![0.0; places * queries.len()];
                let queries = &all[queries.start * width..queries.end * width];
                blend::scores(&rows[..places * width], width, queries, &mut out);
                let shares = self.shares.chunks_exact_mut(seen);
                for (shares, out) in shares.zip(out.chunks_exact(places)) {
                    shares.iter_mut().enumerate().for_each(|(at, share)| *share = out[at ^ 1]);
                }
            }
        }
    }

    fn mix(&mut self, seen: usize, value: usize, mixed: &mut [f32]) {
        match &mut self.form {
            #[cfg(target_arch = "x86_64")]
            Form::Pairs(pairs) => pairs.mix(&self.shares, seen, mixed),
            Form::Wide { rows, .. } => {
                let (even, width) = (seen / 2 * 2, self.width);
                let shares = self.shares.chunks_exact(seen);
                let near = |share: f32| widened(narrow(share));
                let swapped = shares.clone().flat_map(|shares| (0..even).map(|at| shares[at ^ 1]));
                let swapped: Vec<f32> = swapped.map(near).collect();
                blend::mix(rows, width, &swapped, mixed, even);
                if even < seen {
                    let row = &rows[(even ^ 1) * width..][..value];
                    for (shares, mixed) in shares.zip(mixed.chunks_exact_mut(value)) {
                        add_scaled_f32(row, near(shares[even]), mixed);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::blend::Softmax;
    use super::*;
    use crate::kernels::{Element, store};

    /// From tiny to large, with zeros, in no order.
    fn numbers(count: usize, salt: u32) -> Vec<f32> {
        let mix = |index: usize| (index as u32 + salt).wrapping_mul(2_654_435_761) >> 8;
        let number = |index: usize| {
            let x = mix(index) as f32 / (1 << 23) as f32 - 1.0;
            match mix(index + 1_000_003) % 16 {
                0 => 0.0,
                1 => x * 1e-14,
                2 => x * 1e-30,
                3 => x * 8.0,
                _ => x,
            }
        };
        (0..count).map(number).collect()
    }

    fn looked<'a>(
        mut paired: Paired<'a>,
        rows: &'a [Vec<u8>],
        seen: &[usize],
    ) -> (Vec<Softmax>, Vec<f32>) {
        let (queries, value) = (7, 64);
        let mut softmax = vec![Softmax::NOTHING; queries];
        let mut mixed = vec![0.0; queries * value];
        for seen in seen {
            paired.load(rows.iter().take(*seen + 1).map(Vec::as_slice));
            paired.add(0..5, *seen, &mut softmax[..5], &mut mixed[..5 * value]);
            paired.add(5..7, *seen, &mut softmax[5..], &mut mixed[5 * value..]);
        }
        (softmax, mixed)
    }

    #[test]
    fn pairs_give_the_bits_of_two_additions_whatever_computes_them() {
        for (columns, salt) in [(48, 0), (96, 1), (576, 2), (70, 3)] {
            let queries = numbers(7 * columns, salt);
            let stored = |at: u32| {
                let mut row = numbers(columns, 77 * at + salt);
                clean(&mut row);
                let mut bytes = vec![0; columns * 2];
                store(Element::Bf16, &row, &mut bytes);
                bytes
            };
            let rows: Vec<Vec<u8>> = (0..33).map(stored).collect();
            for seen in [[32, 32], [1, 31], [7, 2]] {
                let fast = looked(Paired::new(&queries, columns, 33), &rows, &seen);
                let wide = looked(Paired::wide(&queries, columns, 33), &rows, &seen);
                assert_eq!(fast, wide, "{columns} columns, {seen:?} positions");
            }
        }
    }

    #[test]
    fn what_is_mixed_is_near_the_softmax_over_the_rows() {
        let (columns, height, value) = (96, 21, 64);
        let round = |x: &f32| half::bf16::from_f32(*x).to_f32();
        let query: Vec<f32> = numbers(columns, 9).iter().map(|x| round(&(x * 0.3))).collect();
        let rows: Vec<Vec<f32>> =
            (0..height).map(|at| numbers(columns, at * 31).iter().map(round).collect()).collect();
        let bytes = rows.iter().map(|row| {
            let mut bytes = vec![0; columns * 2];
            store(Element::Bf16, row, &mut bytes);
            bytes
        });
        let bytes: Vec<Vec<u8>> = bytes.collect();
        let mut paired = Paired::new(&query, columns, height as usize);
        paired.load(bytes.iter().map(Vec::as_slice));
        let (mut softmax, mut mixed) = ([Softmax::NOTHING], vec![0.0; value]);
        paired.add(0..1, height as usize, &mut softmax, &mut mixed);
        let mut out = vec![0.0; value];
        in_order(&mixed, &mut out);
        let score = |row: &Vec<f32>| row.iter().zip(&query).map(|(x, y)| x * y).sum::<f32>();
        let shares: Vec<f32> = rows.iter().map(|row| score(row).exp()).collect();
        let sum: f32 = shares.iter().sum();
        for (column, out) in out.iter().enumerate() {
            let exact: f32 = shares.iter().zip(&rows).map(|(s, row)| s / sum * row[column]).sum();
            assert!((out / softmax[0].sum - exact).abs() < 2e-2, "{column}: {out} {exact}");
        }
    }

    #[test]
    fn narrowing_is_to_the_nearest_even_and_small_is_nothing() {
        for x in numbers(5000, 3).into_iter().chain([f32::INFINITY, 3e38, -0.0]) {
            let exact = if x.abs() < LEAST { 0.0 } else { half::bf16::from_f32(x).to_f32() };
            assert_eq!(widened(narrow(x)), exact, "{x}");
        }
        assert!(widened(narrow(f32::NAN)).is_nan());
    }
}
