//! Random numbers of the distributions that arrivals and lengths follow.

use mainstay_core::rng::Rng;

/// From above 0 up to 1.
fn positive(rng: &mut Rng) -> f64 {
    1.0 - rng.unit()
}

/// Of mean 1.
pub fn exponential(rng: &mut Rng) -> f64 {
    -positive(rng).ln()
}

/// Of mean 0 and variance 1 (Box and Muller, 1958).
pub fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * positive(rng).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.unit()).cos()
}

/// Of scale 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
pub fn gamma(rng: &mut Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = positive(rng).powf(1.0 / shape);
        return boost * gamma(rng, shape + 1.0);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && positive(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// Of scale 1.
pub fn weibull(rng: &mut Rng, shape: f64) -> f64 {
    exponential(rng).powf(1.0 / shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_those_of_the_distributions() {
        let mut rng = Rng::new(3);
        let mut mean = |draw: fn(&mut Rng) -> f64| {
            (0..100_000).map(|_| draw(&mut rng)).sum::<f64>() / 100_000.0
        };
        for (measured, expected) in [
            (mean(exponential), 1.0),
            (mean(normal) + 1.0, 1.0),
            (mean(|rng| gamma(rng, 0.3)), 0.3),
            (mean(|rng| gamma(rng, 2.5)), 2.5),
            (mean(|rng| weibull(rng, 0.5)), 2.0),
        ] {
            assert!((measured - expected).abs() < 0.05 * expected, "{measured} {expected}");
        }
    }
}
