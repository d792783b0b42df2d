//! What the queue knows of one that waits, and where in a tier it does.

use crate::names::{TierId, Work};
use crate::time::Time;

/// What the queue knows of one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub work: Work,
    /// Its tier,
    pub tier: TierId,
    /// and tenant.
    pub tenant: u32,
    /// When it came.
    pub arrived: Time,
    /// Its aged deadline: the smallest goes first.
    pub key: Time,
    /// Its predicted work, in microseconds of a worker.
    pub cost: u64,
    /// By then it should begin, to be in time with some time to spare.
    pub latest: Time,
    /// Where it waits.
    pub lane: Lane,
}

/// Where one waits in its tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Before all others: part of its answer was relayed.
    Moving,
    /// By its key.
    Normal,
    /// It could be in time, but not all can: it gets what is left over.
    Yielding,
    /// Behind its promise.
    Late,
}

impl Lane {
    /// Whether it waits for its turn, rather than for what is left over.
    pub const fn is_in_line(self) -> bool {
        match self {
            Lane::Moving | Lane::Normal => true,
            Lane::Yielding | Lane::Late => false,
        }
    }
}

/// One that is to be in time, as in `Waiting`: those who go through all of them look up nothing.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// Its work,
    pub cost: u64,
    /// and by when it should begin.
    pub latest: Time,
}
