//! The engine through its public face, on tiny random models whose right answers are stored.

mod fixture;

mod gguf;
mod invariants;
mod journal;
mod reference;
mod text;
