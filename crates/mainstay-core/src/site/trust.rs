//! How far it is believed what a worker is thought to have cached.

/// Weight of one observation.
const GAIN: f64 = 0.1;
/// Below it nothing is believed.
const LEAST: f64 = 0.5;

/// Trust in one worker's cache, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub struct Trust(f64);

impl Default for Trust {
    fn default() -> Trust {
        Trust(1.0)
    }
}

impl Trust {
    /// Tokens of a match that are believed.
    pub fn believed(self, matched: u32) -> u32 {
        if self.0 < LEAST { 0 } else { (f64::from(matched) * self.0) as u32 }
    }

    /// An answer told how many tokens were cached. It counts whether it was believed or not: trust
    /// can return.
    pub fn measured(&mut self, matched: u32, cached: u32) {
        if matched > 0 {
            let part = (f64::from(cached) / f64::from(matched)).min(1.0);
            self.0 += GAIN * (part - self.0);
        }
    }
}
