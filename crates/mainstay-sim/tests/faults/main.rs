//! The faults that are about decisions, over seeds and in full-profile times: what the client
//! gets, what the upstream sees, the bounds and the facts, as the table of faults states them.

mod bench;
mod load;
mod own;
mod play;
mod squeeze;
mod tell;
