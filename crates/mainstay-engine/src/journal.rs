//! What a request needs to go on elsewhere exactly as it would have gone on here.
//!
//! The answer's tokens and the seed are enough: the random number of each position follows from
//! them, and so do held-back text and the state of a constraint. The prompt, the sampling settings
//! and the stop strings are the caller's and come with the request.

use serde::{Deserialize, Serialize};

/// The answer so far. The continuation is identical on the same weights, cache precision and kind
/// of processor (another kind sums in another order).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub seed: u64,
    /// The answer's tokens; their count is the sampler's position.
    pub tokens: Vec<u32>,
}
