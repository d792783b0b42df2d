//! The engine through its public face, on tiny random models whose right answers are stored.

mod fixture;

mod invariants;
mod journal;
mod prefix;
mod reference;
mod text;
