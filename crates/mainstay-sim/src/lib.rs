//! Rehearses: the core machines in virtual time, with faults.
