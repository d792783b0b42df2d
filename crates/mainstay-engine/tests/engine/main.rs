//! The engine through its public face, on tiny random models whose right answers are stored.

mod describe;
mod fixture;
mod grammar;
#[path = "../../examples/engine_cuts/cuts.rs"]
mod other;
#[path = "../../examples/engine_load/streams.rs"]
mod streams;

mod cuts;
mod drafts;
mod gguf;
mod invariants;
mod journal;
mod load;
mod prefix;
mod pressure;
mod reference;
mod text;
