//! The site controller: what must hold by events, and what it does with a load.

mod adopts;
mod bench;
mod carries;
mod late;
mod learns;
mod loses;
mod preempts;
mod prefers;
#[cfg(feature = "mutants")]
mod removed;
mod signals;
mod small;
mod tells;
