//! Which configuration a process runs, and what an operator's order may and may not do.
//!
//! Nobody pushes: each process polls the whole snapshot, tastes new content where a crash costs
//! nothing, adopts it in its turn, and keeps what has proved itself for when all else is gone.

use crate::fact::PolicyFact;
use crate::message::{Digest, Order};
use crate::names::GatewayId;
use crate::time::{Duration, Time};
use alloc::string::String;
use alloc::vec::Vec;

/// One generation of policy, as the machine knows it. What it says is the server's to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// Its number.
    pub generation: u64,
    /// Hash of its content.
    pub content: u64,
    /// Hash of the generation before it, content and number.
    pub previous: u64,
    /// Who.
    pub author: String,
    /// Why.
    pub reason: String,
    /// Size of its content.
    pub bytes: u64,
    /// The author gave the confirm token.
    pub confirmed: bool,
}

/// What a sacrificial process found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taste {
    /// It can be loaded and answers like the present one.
    Good,
    /// It cannot be read, or is over a limit.
    Refused(String),
    /// The process died, or used more memory or time than it may.
    Crashed,
    /// It changes so much that a person must confirm it.
    Differs(String),
}

/// What the machine hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// The source answered a poll.
    Snapshot(Snapshot),
    /// A sacrificial process is done.
    Tasted {
        /// With what.
        content: u64,
        /// What came of it.
        taste: Taste,
    },
    /// A peer's digest.
    Digest(Digest),
    /// Share of this process's requests of the last minute that were shed or failed, in
    /// thousandths, and whether the gateway doubts itself. Told every second.
    Pulse {
        /// The share.
        failing: u16,
        /// The doubt.
        in_doubt: bool,
    },
    /// An operator's order, from here or from a peer.
    Order(Order),
    /// A peer's whole set of orders.
    Orders(Vec<Order>),
    /// A deadline passed.
    Tick,
}

/// What the server must do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Ask the source for its snapshot.
    Poll,
    /// Load this content in a sacrificial process.
    Taste(Snapshot),
    /// Run this generation from now on; it is on disk, and so is the journal of it.
    Adopt(Snapshot),
    /// Write the state to disk.
    Keep,
    /// Tell these gateways of an order.
    Forward {
        /// Whom.
        to: Vec<GatewayId>,
        /// What.
        order: Order,
    },
    /// Ask a peer for its set of orders.
    Fetch(GatewayId),
    /// These orders are in force now.
    InForce(Vec<Order>),
    /// Tell of a decision.
    Fact(PolicyFact),
}

/// What of it goes into this process's digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The generation in force.
    pub generation: u64,
    /// How long it has run clean.
    pub clean: Duration,
    /// Hash of the orders in force.
    pub orders: u64,
    /// Content in quarantine.
    pub quarantined: Vec<u64>,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Policy {}

impl Policy {
    /// Takes one event and says what follows.
    pub fn handle(&mut self, _now: Time, _event: Event, _actions: &mut Vec<Action>) {}

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }
}
