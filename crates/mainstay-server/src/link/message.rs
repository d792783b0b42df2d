//! What can be said over the link, and what of it a newer word replaces.

use super::frame::Kind;
use crate::ledger::Payer;
use bytes::Bytes;
use mainstay_core::gateway::keyring::Entry;
use mainstay_core::message::{Digest, Grant, Order, QuotaGrant, QuotaReport, Report, Summary};
use mainstay_core::plan::Spending;
use mainstay_core::policy::Snapshot;
use mainstay_core::rng::mix;

/// A message between two nodes. Positions in it are the owner's: the link translates them by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Gateway to site.
    Report(Report),
    /// Site to gateway.
    Grant(Grant),
    /// Gateway to gateway.
    Digest(Digest),
    /// An order, at first sight.
    Order(Order),
    /// A whole set of orders, asked for by `Fetch`.
    Orders(Vec<Order>),
    /// Asks for the set of orders whose hash a digest told.
    Fetch(u64),
    /// Gateway to a key's home.
    QuotaReport(QuotaReport),
    /// A key's home to a gateway.
    QuotaGrant(QuotaGrant),
    /// Asks the policy source for its snapshot.
    Poll,
    /// The policy source's snapshot: taken only after a `Poll` on the same connection.
    Snapshot(Generation),
    /// Gateway to status node.
    Summary(Box<Summary>),
    /// Gateway to gateway: what it has heard of keys, a number for each part.
    KeyMarks(Vec<u64>),
    /// Gateway to gateway: keys, at most `KEYS_MAX` of them.
    Keys(Vec<Entry>),
    /// Gateway to gateway: what went through itself, at most `SPENT_MAX` sums.
    Spent(Vec<(Payer, Spending)>),
}

/// Keys in one message.
pub const KEYS_MAX: usize = 64;
/// Sums in one message.
pub const SPENT_MAX: usize = 64;
/// Longest name of who has a sum, in bytes.
pub const PAYER_MAX: usize = 512;
/// Longest body of a key, in bytes.
pub const KEY_BODY_MAX: usize = 4096;

/// One generation of policy with its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Generation {
    /// What the machine knows of it.
    pub snapshot: Snapshot,
    /// What it says.
    pub content: Bytes,
}

/// What a message is about: a newer one about the same takes an older one's place.
pub(super) type About = (Kind, u64, u32);

impl Message {
    /// Of which kind.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Report(_) => Kind::Report,
            Message::Grant(_) => Kind::Grant,
            Message::Digest(_) => Kind::Digest,
            Message::Order(_) => Kind::Order,
            Message::Orders(_) => Kind::Orders,
            Message::Fetch(_) => Kind::Fetch,
            Message::QuotaReport(_) => Kind::QuotaReport,
            Message::QuotaGrant(_) => Kind::QuotaGrant,
            Message::Poll => Kind::Poll,
            Message::Snapshot(_) => Kind::Snapshot,
            Message::Summary(_) => Kind::Summary,
            Message::KeyMarks(_) => Kind::KeyMarks,
            Message::Keys(_) => Kind::Keys,
            Message::Spent(_) => Kind::Spent,
        }
    }

    pub(super) fn about(&self) -> About {
        let (key, part) = match self {
            Message::Report(report) => (u64::from(report.target.0), 0),
            Message::Grant(grant) => (u64::from(grant.target.0), 0),
            Message::Order(order) => (order.id.author, order.id.seq),
            Message::QuotaReport(report) => (report.key, 0),
            Message::QuotaGrant(grant) => (grant.key, 0),
            // A newer word on the very same keys.
            Message::Keys(keys) => (keys.iter().fold(0, |all, key| mix(all, key.id)), 0),
            Message::Spent(sums) => {
                (sums.iter().fold(0, |all, (payer, _)| of_payer(all, payer)), 0)
            }
            Message::KeyMarks(_)
            | Message::Digest(_)
            | Message::Orders(_)
            | Message::Fetch(_)
            | Message::Poll
            | Message::Snapshot(_)
            | Message::Summary(_) => (0, 0),
        };
        (self.kind(), key, part)
    }
}

fn of_payer(all: u64, payer: &Payer) -> u64 {
    let (kind, name) = payer.told();
    name.bytes().fold(mix(all, kind.len() as u64), |all, byte| mix(all, u64::from(byte)))
}
