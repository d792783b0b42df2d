//! Every order of events, in small configurations, of what concerns policy: publishing and
//! deleting answer sets, orders of two operators at two gateways, a generation on its way.
//!
//! The functions walked are those of `mainstay_core`, and each rule is needed: without it a walk
//! ends in a counter-example. `cargo test -p mainstay-sim --test model_policy -- --nocapture`
//! prints states and counter-examples.

#[path = "model/table.rs"]
mod table;

//A
//B
#[path = "model_policy/orders.rs"]
mod orders;
#[path = "model_policy/publisher.rs"]
mod publisher;
