//! The whole catalogue, with seed 1: each scenario is passed and tells the same story twice, the
//! baseline falls, every kind of decision occurs somewhere, and every rule of the protocol that is
//! taken away is missed.

mod baseline;
mod each;
mod facts;
mod mutants;
mod played;
