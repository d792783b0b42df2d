//! Tests that load the machine, or that measure what a load does to others: they run after the
//! others of the whole program, and take turns.

#[path = "../system/bed.rs"]
mod bed;
mod brownout;
mod flap;
mod many;
mod readers;

use tokio::sync::RwLock;

/// Held by a test that needs all processors, and shared by those that need them to be idle.
static PROCESSORS: RwLock<()> = RwLock::const_new(());
