//! Decisions about configuration and orders.

use crate::message::{OrderId, Verb};
use crate::names::{GatewayId, SiteId};
use crate::time::Duration;
use alloc::string::String;

/// One decision about configuration or orders.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyFact {
    /// The process starts with this generation.
    Booted { generation: u64, content: u64, why: BootWhy },
    /// A generation is not taken in. An operator must know.
    Refused { generation: u64, author: String, why: NotTaken },
    /// It changes so much that it waits for its author's token.
    Unconfirmed { generation: u64, author: String, change: String },
    /// It tasted well and waits for its turn.
    Staged { generation: u64, stage: u8 },
    /// It is in force here.
    Adopted {
        generation: u64,
        content: u64,
        previous: u64,
        author: String,
        reason: String,
        turn: Turn,
    },
    /// The newest good generation is in force again.
    RolledBack { from: u64, to: u64, why: Harm },
    /// This content is never loaded again by itself.
    Quarantined { content: u64, why: Harm },
    /// It ran clean for so long that it is kept for when all else is gone.
    Good { generation: u64, content: u64 },
    /// The gateway that should try it first has not been heard to. Publish again.
    CanarySilent { generation: u64, canary: GatewayId },
    /// Everything good crashed; the newest of it runs. Wake someone.
    NothingElseGood { generation: u64 },
    /// Nothing on disk may be run. Wake someone.
    NothingToRun,
    /// An order is in the set.
    OrderTaken {
        id: OrderId,
        authority: u8,
        verb: Verb,
        site: Option<SiteId>,
        reason: String,
        left: Duration,
    },
    /// An order is not.
    OrderRefused { id: OrderId, why: OrderRefusal },
    /// An order's life is over.
    OrderLapsed { id: OrderId },
}

/// Why a process starts with what it starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BootWhy {
    /// It was in force.
    InForce,
    /// What was in force crashed the process.
    OtherCrashed,
    /// Nothing else was left.
    Last,
}

/// Why a generation is not taken in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NotTaken {
    /// Over the limit of size.
    TooLarge { bytes: u64 },
    /// It cannot be read, or is over another limit.
    Unreadable(String),
    /// It killed the process that tasted it.
    Crashed,
    /// Its author did not know the generation before it: somebody's change would be lost.
    ChainBroken,
    /// Another content bears the same number.
    Twice,
    /// Its content is in quarantine.
    Quarantined,
}

/// By what right a generation came in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turn {
    /// Its content has proved itself here before.
    Proven,
    /// This gateway tries it first.
    Canary,
    /// A gateway of an earlier stage has run it clean.
    After { stage: u8, peer: GatewayId },
}

/// What content did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Harm {
    /// It crashed the process.
    Crash,
    /// It crashed a sacrificial process.
    CrashedWhenTasted,
    /// More requests fail here than at peers on the generation before.
    Failing { here: u16, peers: u16 },
    /// A peer has put it into quarantine.
    SaidBy(GatewayId),
    /// It could not be run, although it tasted well.
    Unfit,
}

/// Why an order is not in the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderRefusal {
    /// It names no site, and only a freeze may be everywhere.
    Everywhere,
    /// It names a site that the policy does not have.
    UnknownSite,
    /// It has no reason.
    NoReason,
    /// It has no end within a day, or is over.
    Life,
    /// A cap above the whole.
    Cap,
    /// So many hundredths of capacity would be out that the confirm token is needed.
    TooMuch { percent: u8 },
    /// So many orders are in force that this one, by its rank, has no place.
    TooMany,
    /// Another order bears the same name.
    Twice,
}
