//! Vectors in 8 bits: each block of 32 numbers has a scale, and whole numbers from -127 to 127.
//!
//! Products of whole numbers are exact, so every kernel on every processor gives the same bits.

use std::sync::OnceLock;

/// Numbers that share a scale, of vectors and of weights.
pub const BLOCK: usize = 32;

/// Some vectors of `columns` numbers each (a multiple of [`BLOCK`]), one after another.
pub struct Quantised {
    pub columns: usize,
    pub numbers: Vec<i8>,
    /// One for each block.
    pub scales: Vec<f32>,
    /// Of each block, the sums of the first and of the second half of its whole numbers.
    pub sums: Vec<[i32; 2]>,
}

/// Vectors on their way into matrices: as they are, and quantised once some matrix wants that.
pub struct Input<'a> {
    pub x: &'a [f32],
    pub columns: usize,
    quantised: OnceLock<Quantised>,
}

impl<'a> Input<'a> {
    pub fn new(x: &'a [f32], columns: usize) -> Input<'a> {
        assert_eq!(x.len() % columns.max(1), 0);
        Input { x, columns, quantised: OnceLock::new() }
    }

    pub fn vectors(&self) -> usize {
        self.x.len() / self.columns.max(1)
    }

    pub fn quantised(&self) -> &Quantised {
        self.quantised.get_or_init(|| Quantised::new(self.x, self.columns))
    }
}

impl Quantised {
    pub fn new(x: &[f32], columns: usize) -> Quantised {
        assert!(columns > 0 && columns.is_multiple_of(BLOCK) && x.len().is_multiple_of(columns));
        let blocks = x.len() / BLOCK;
        let mut out = Quantised {
            columns,
            numbers: vec![0; x.len()],
            scales: vec![0.0; blocks],
            sums: vec![[0; 2]; blocks],
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = super::avx2::Avx2::detect() {
            avx2.quantise(x, &mut out);
            return out;
        }
        quantise(x, &mut out);
        out
    }
}

/// Fills `out`. Written so that the compiler makes vector code of it where it may.
#[inline(always)]
pub fn quantise(x: &[f32], out: &mut Quantised) {
    let places = out.scales.iter_mut().zip(&mut out.sums);
    let blocks = x.as_chunks::<BLOCK>().0.iter().zip(out.numbers.as_chunks_mut::<BLOCK>().0);
    for ((x, numbers), (scale, sum)) in blocks.zip(places) {
        let highest = x.iter().fold(0.0f32, |highest, x| highest.max(x.abs()));
        *scale = highest / 127.0;
        let inverse = if highest > 0.0 { 127.0 / highest } else { 0.0 };
        for (number, x) in numbers.iter_mut().zip(x) {
            // A vector that holds NaN or infinity becomes something harmless: weights are checked
            // for them.
            *number = (x * inverse).round_ties_even().clamp(-127.0, 127.0) as i8;
        }
        for (half, sum) in numbers.as_chunks::<{ BLOCK / 2 }>().0.iter().zip(sum) {
            *sum = half.iter().map(|number| i32::from(*number)).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantised_vector_is_within_half_a_step_of_the_vector() {
        let x: Vec<f32> = (0..64).map(|at| ((at * 37 % 64) as f32 - 31.0) * 0.11).collect();
        let quantised = Quantised::new(&x, 64);
        for (at, x) in x.iter().enumerate() {
            let scale = quantised.scales[at / BLOCK];
            assert!((f32::from(quantised.numbers[at]) * scale - x).abs() <= scale * 0.501);
        }
        let sum: i32 = quantised.numbers[..16].iter().map(|number| i32::from(*number)).sum();
        assert_eq!(quantised.sums[0][0], sum);
    }

    #[test]
    fn zeros_and_numbers_that_are_none_become_harmless() {
        let mut x = [0.0; 64];
        x[40] = f32::NAN;
        let quantised = Quantised::new(&x, 32);
        assert!(quantised.numbers.iter().all(|number| *number == 0));
        assert!(quantised.scales.iter().all(|scale| *scale == 0.0));
    }
}
