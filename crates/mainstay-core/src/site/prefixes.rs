//! What a prompt begins with: a conversation's next turn begins with all that was said before, and
//! who has that computed already need not do it again.

use crate::cost::CostUnits;
use alloc::sync::Arc;

/// Blocks of a prompt that are looked at: beyond them it is not worth more to be right.
const BLOCKS_MAX: usize = 4096;

/// What a prompt begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    /// A key for each of its blocks, which stands for all of the prompt up to there: equal keys,
    /// equal beginnings.
    pub keys: Arc<[u64]>,
    /// Tokens of a block,
    pub block: u32,
    /// and what one of them costs.
    pub token: CostUnits,
}

impl Prefix {
    /// As much of it as is looked at.
    pub fn bounded(mut self) -> Prefix {
        if self.keys.len() > BLOCKS_MAX {
            self.keys = self.keys.iter().take(BLOCKS_MAX).copied().collect();
        }
        self
    }
}
