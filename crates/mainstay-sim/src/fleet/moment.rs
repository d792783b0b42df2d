//! What can happen, small enough to be copied; what is too large for it waits in a slab.

use super::slab::Key;
use mainstay_core::gateway::Probe;
use mainstay_core::message::{Ack, Digest, Grant, Order, Refuse, Report};
use mainstay_core::names::{GatewayId, TargetId};
use mainstay_core::policy::{Snapshot, Taste};

/// What happens at some moment.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// The next request of a stream of arrivals comes, unless its rate has changed since.
    Arrive { stream: u16, turn: u32 },
    /// A client's library tries, or tries again.
    Try(Key),
    /// A client that could not connect asks another gateway.
    Connect { user: Key, number: u8 },
    /// A client has waited long enough for a first token.
    Impatient { user: Key, number: u8 },
    /// A gateway's machine wants to be called.
    GatewayTick(u16),
    /// A site's machine wants to be called.
    SiteTick(u16),
    /// Something may have happened at a worker's engine.
    EngineTick { site: u16, worker: u16 },
    /// A policy machine wants to be called.
    PolicyTick(u16),
    /// A message arrives.
    Message(Key),
    /// An attempt arrives at its site.
    Opened(Key),
    /// A worker's first token, of this leg.
    Worked(Key, u8),
    /// A worker is done, of this leg.
    Ended(Key, u8),
    /// The first token of a leg arrives at the gateway.
    First(Key, u8),
    /// Its tokens have been flowing for a while.
    Flowing(Key, u8),
    /// The whole answer has arrived.
    Whole(Key, u8),
    /// The gateway looks whether an attempt made progress.
    Watch(Key),
    /// Bad news of an attempt arrives at its gateway.
    Broken(Key, Harm),
    /// A cancel arrives at the site.
    Cancel(Key),
    /// A fault begins.
    FaultBegins(u16),
    /// A fault ends.
    FaultEnds(u16),
    /// One worker goes.
    WorkerGoes { site: u16, worker: u16 },
    /// One worker's steps have stood still for long.
    WorkerStill { site: u16, worker: u16 },
    /// Controllers of a site ask its workers for their votes.
    DeskRound(u16),
    /// A gateway's loop, which stood still, goes on.
    LoopGoesOn(u16),
    /// A gateway process starts.
    GatewayStarts(u16),
    /// A gateway process dies of the content it runs, and starts again so many milliseconds later.
    GatewayDies { gateway: u16, again: u32 },
    /// A site's controller starts.
    ControllerStarts(u16),
    /// Workers of a site start.
    WorkersStart { site: u16, cold: bool },
    /// A second is over.
    Second,
}

/// How an attempt breaks, as its gateway gets to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The connection was refused: nothing was sent.
    Refused,
    /// The connection broke.
    Reset,
    /// A site gives an answer under way back, without a fault.
    Back,
    /// A provider's limit; when to come back, in milliseconds.
    Throttled(Option<u32>),
    /// A provider's spend cap.
    Billing,
    /// A provider refuses the account.
    Account,
}

/// What is on its way.
#[derive(Clone, Debug)]
pub enum Message {
    /// Gateway to site.
    Report { from: u16, site: u16, report: Report },
    /// Site to gateway.
    Grant { to: u16, grant: Grant },
    /// Site to gateway, inside an attempt.
    Ack { to: u16, key: Key, ack: Ack },
    /// Site to gateway, inside an attempt.
    Refuse { to: u16, key: Key, refuse: Refuse },
    /// Gateway to gateway.
    Digest { to: u16, digest: Box<Digest> },
    /// Gateway to gateway.
    Order { to: u16, order: Box<Order> },
    /// Gateway to gateway: asks for the set of orders.
    Fetch { from: u16, to: u16 },
    /// Gateway to gateway: the set of orders.
    Orders { to: u16, orders: Vec<Order> },
    /// Gateway to site: the orders in force.
    SiteOrders { site: u16, orders: Vec<Order> },
    /// A probe's end, at its gateway.
    Probed { to: u16, target: TargetId, probe: Probe, good: bool },
    /// The policy source's answer.
    Snapshot { to: u16, snapshot: Box<Snapshot> },
    /// What the sacrificial process found.
    Tasted { to: u16, content: u64, taste: Taste },
}

/// A gateway's position.
pub fn position(gateway: GatewayId) -> usize {
    usize::from(gateway.0)
}
