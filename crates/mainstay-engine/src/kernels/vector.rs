//! Small loops over f32 vectors: norms, softmax, activation. Plain code; the compiler does well.

/// Root-mean-square norm of each `weight.len()`-long vector in `x`, scaled by `weight`.
pub fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) {
    for x in x.chunks_exact_mut(weight.len().max(1)) {
        let square = sum_of_squares(x) / x.len() as f32;
        let scale = 1.0 / (square + epsilon).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = weight * (*x * scale);
        }
    }
}

/// Summed in lanes of their own, which is vector code, and always in the same order.
fn sum_of_squares(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane += x * x);
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>()
}

/// Enough independent sums to hide the time that one addition takes.
const LANES: usize = 32;

/// Softmax in place. An empty vector stays empty.
pub fn softmax(x: &mut [f32]) {
    let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for x in x.iter_mut() {
        *x = (*x - highest).exp();
        sum += *x;
    }
    for x in x.iter_mut() {
        *x /= sum;
    }
}

/// Adds `y` to `x`.
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_sums_to_one_and_survives_large_numbers() {
        let mut x = [1000.0, 1001.0, 1002.0];
        softmax(&mut x);
        assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!(x[0] < x[1] && x[1] < x[2]);
    }

    #[test]
    fn rms_norm_makes_the_mean_square_one() {
        let mut x = [3.0, -4.0, 3.0, -4.0];
        rms_norm(&mut x, &[1.0, 1.0], 0.0);
        assert!((x.iter().map(|x| x * x).sum::<f32>() - 4.0).abs() < 1e-5);
    }
}
