//! The site controller's decisions: what it grants to whom, what it lets in, queues or refuses,
//! and which worker gets it.
//!
//! The receiver law: the site alone decides, at one point, what it admits. Gateways may disagree
//! about it, lose its messages or hold credit of a dead controller, and it still never runs more
//! than it can carry.

use crate::config::SiteConfig;
use crate::cost::{CostRate, CostUnits};
use crate::fact::SiteFact;
use crate::message::{Ack, Grant, Open, Order, Refuse, Report};
use crate::names::{GatewayId, TargetId, Work, WorkerId};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What the controller hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// A gateway tells what it wants.
    Report {
        /// Who.
        from: GatewayId,
        /// What.
        report: Report,
    },
    /// An attempt comes in.
    Open(Open),
    /// An attempt is not wanted any more.
    Cancel(Work),
    /// The worker gave its first token, this long after it got the work.
    FirstToken {
        /// Of what.
        work: Work,
        /// How long it took.
        after: Duration,
    },
    /// The worker ended it; what it really cost.
    Ended {
        /// What.
        work: Work,
        /// Its cost.
        cost: CostUnits,
    },
    /// The worker lost it, or refused it.
    Lost(Work),
    /// A worker is there, changed, or gone.
    Worker {
        /// Which.
        worker: WorkerId,
        /// How it stands.
        state: WorkerState,
    },
    /// The orders in force for this site.
    Orders(Vec<Order>),
    /// A deadline passed.
    Tick,
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    /// It takes work.
    Up {
        /// For which model.
        target: TargetId,
        /// What it can carry, by its calibration.
        capacity: CostRate,
        /// Answers it can have open at once.
        streams: u32,
        /// Whether its caches are empty.
        cold: bool,
    },
    /// It does not.
    Down,
}

/// What the server must do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Answer a report.
    Grant {
        /// To whom.
        to: GatewayId,
        /// With what.
        grant: Grant,
    },
    /// Tell the gateway that its attempt is in.
    Ack {
        /// To whom.
        to: GatewayId,
        /// What.
        ack: Ack,
    },
    /// Tell the gateway that its attempt is not, or no longer, in.
    Refuse {
        /// To whom.
        to: GatewayId,
        /// What.
        refuse: Refuse,
    },
    /// Give work to a worker.
    Dispatch {
        /// What.
        work: Work,
        /// To which.
        worker: WorkerId,
    },
    /// Take work back from a worker.
    Abort {
        /// What.
        work: Work,
        /// From which.
        worker: WorkerId,
    },
    /// Tell of a decision.
    Fact(SiteFact),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Site {
    config: SiteConfig,
}

impl Site {
    /// A controller that starts now with this epoch, one above any before it.
    pub fn new(config: SiteConfig, _now: Time, _epoch: u32, _seed: u64) -> Site {
        Site { config }
    }

    /// Takes one event and says what follows.
    pub fn handle(&mut self, _now: Time, _event: Event, _actions: &mut Vec<Action>) {}

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        None
    }

    /// What it decides by.
    pub fn config(&self) -> &SiteConfig {
        &self.config
    }
}
