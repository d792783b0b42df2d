//! What positions lead to while one configuration is in force: sites, names, other nodes.
//!
//! The machine's decisions are positions. Each attempt that it starts carries the places that its
//! positions mean, so that an answer that began before another configuration came goes on with its
//! own site and connection; they are let go with the last answer that has them.

use crate::attempt::Site;
use crate::ledger::Tariff;
use crate::link::NodeName;
use crate::setup::Bounds;
use crate::telemetry::Names;
use crate::worker::Worker;
use mainstay_core::names::SiteId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What positions lead to.
#[derive(Default)]
pub struct Places {
    /// What things are called.
    pub names: Names,
    /// How each door reaches the sites, with connections of its own: by door, then by `SiteId`.
    pub doors: Vec<Vec<Site>>,
    /// The embedded engines, by `SiteId`. One stops when the last places that have it are let go.
    pub engines: Vec<Option<Arc<Worker>>>,
    /// What callers pay, and what providers want.
    pub tariff: Arc<Tariff>,
    /// Bounds on what a client may send.
    pub bounds: Bounds,
    /// The gateways, by `GatewayId`.
    pub gateways: Vec<NodeName>,
    /// Who controls which site of ours, by the site's position.
    pub nodes: BTreeMap<u16, NodeName>,
    /// Who shows a status page.
    pub pages: Vec<NodeName>,
}

impl Places {
    /// The site at this position, as the door of this number reaches it.
    pub fn site(&self, door: usize, id: SiteId) -> Option<&Site> {
        self.doors.get(door)?.get(usize::from(id.0))
    }

    /// The same as probes reach it: by the connections of the last door, which no client uses.
    pub fn probed(&self, id: SiteId) -> Option<&Site> {
        self.doors.last()?.get(usize::from(id.0))
    }
}
