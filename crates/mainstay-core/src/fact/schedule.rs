//! Decisions of a site's scheduler.

use crate::names::{TierId, Work, WorkerId};
use crate::time::Duration;

/// One decision of the scheduler. An attempt that is served in time has none: there are too many.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleFact {
    /// Not all that wait can be in time, and this attempt is among those that get what is left.
    GivesWay {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Its first token would have to come within this time.
        after: Duration,
    },
    /// It cannot have its first token in time, and waits in the late lane.
    Late {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// It is wanted for so long.
        left: Duration,
    },
    /// It was refused.
    Refused {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// When it may come again.
        after: Duration,
    },
    /// It went back to its gateway.
    HandedBack {
        /// Which.
        work: Work,
        /// Why, in a word.
        why: &'static str,
    },
    /// A worker lost it in mid-answer, and it waits for another.
    Moved {
        /// Which.
        work: Work,
        /// From where.
        from: WorkerId,
        /// Tokens that its client has.
        relayed: u32,
    },
    /// Before its first token it gave way to an attempt of a higher tier that would have been late
    /// everywhere else, and waits again.
    Preempted {
        /// Which.
        work: Work,
        /// Its tier.
        tier: TierId,
        /// Who had it,
        worker: WorkerId,
        /// and who has its place.
        by: Work,
    },
    /// What is believed of a worker changed.
    WorkerVerdict {
        /// Which.
        worker: WorkerId,
        /// Whether it is used now.
        is_used: bool,
    },
    /// A worker began another life: what it held is forgotten.
    Incarnation {
        /// Which.
        worker: WorkerId,
        /// The number of that life.
        incarnation: u16,
    },
    /// What a worker is thought to have cached is not what it has, or it tells nothing of it any
    /// more; or that is over.
    IndexDrift {
        /// Which.
        worker: WorkerId,
        /// What is seen, in a few words.
        why: &'static str,
    },
    /// An attempt whose prompt and answer were to be computed by two workers is taken back from
    /// both.
    PairAborted {
        /// Which.
        work: Work,
        /// Who had its prompt,
        prefill: WorkerId,
        /// and who was to answer.
        decode: WorkerId,
        /// How far it was, in a word.
        at: &'static str,
        /// Why, in a few words.
        why: &'static str,
    },
}
