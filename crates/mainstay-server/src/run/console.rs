//! The console of this process, and what it looks at by itself.

use crate::console::Console;
use crate::console::flow::Flow;
use crate::drive::Drive;
use crate::setup::Setup;
use mainstay_core::console::FLOW_EVERY;
use std::sync::Arc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// The console.
pub(super) fn open(setup: &Setup, drive: &Drive, last: &CancellationToken) -> Console {
    let (token, ledger) = (setup.listen.admin_token, setup.ledger.clone());
    Console::new((token, drive.clock()), ledger, (setup.bounds.clone(), last.clone()))
}

/// What flows from tiers to sites, watched until `last`.
pub(super) fn watched(drive: &Arc<Drive>, last: &CancellationToken) -> Arc<Flow> {
    let (flow, drive, last) = (Arc::new(Flow::default()), drive.clone(), last.clone());
    let looking = flow.clone();
    tokio::spawn(async move {
        let mut beat = tokio::time::interval(FLOW_EVERY);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = last.cancelled() => return,
                _ = beat.tick() => looking.look(drive.clock().now(), drive.telemetry()),
            }
        }
    });
    flow
}
