//! Real steps are not all alike: most vary a little, a few take much longer.

use mainstay_core::rng::Rng;

/// Steps of which each draws its own slowness; of more, the expected share is slow.
const DRAWN: u32 = 64;

/// How step times vary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Standard deviation of the logarithm.
    pub spread: f64,
    /// Share of steps that take longer,
    pub slow: f64,
    /// by this factor.
    pub factor: f64,
}

impl Noise {
    /// Steps as computed.
    pub const NONE: Noise = Noise { spread: 0.0, slow: 0.0, factor: 1.0 };
    /// As the design has it: 5 %, and one step in a hundred three times as long.
    pub const USUAL: Noise = Noise { spread: 0.05, slow: 0.01, factor: 3.0 };

    /// By what the time of so many steps is multiplied.
    pub(crate) fn draw(&self, rng: &mut Rng, steps: u32) -> f64 {
        if *self == Noise::NONE {
            return 1.0;
        }
        let many = f64::from(steps.max(1));
        let spread = self.spread / many.sqrt();
        let normal =
            (-2.0 * (1.0 - rng.unit()).ln()).sqrt() * (std::f64::consts::TAU * rng.unit()).cos();
        let slow = if steps <= DRAWN {
            (0..steps).filter(|_| rng.unit() < self.slow).count() as f64 / many
        } else {
            self.slow
        };
        (spread * normal).exp() * (1.0 + slow * (self.factor - 1.0))
    }
}
