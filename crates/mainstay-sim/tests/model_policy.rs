//! Every order of events, in small configurations, of what concerns policy: publishing and
//! deleting answer sets, orders of two operators at two gateways, lying probes, two authors, a
//! generation on its way.
//!
//! The functions walked are those of `mainstay_core`, and each rule is needed: without it a walk
//! ends in a counter-example. `cargo test -p mainstay-sim --test model_policy -- --nocapture`
//! prints states and counter-examples.

#[path = "model/table.rs"]
mod table;

#[path = "model_policy/adoption.rs"]
mod adoption;
#[path = "model_policy/authors.rs"]
mod authors;
#[path = "model_policy/evidence.rs"]
mod evidence;
#[path = "model_policy/orders.rs"]
mod orders;
#[path = "model_policy/publisher.rs"]
mod publisher;
