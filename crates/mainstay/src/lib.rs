//! What the `mainstay` binary is made of, so that its tests can start the parts in-process.

pub mod faults;
