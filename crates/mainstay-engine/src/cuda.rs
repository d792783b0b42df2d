//! The model on an NVIDIA card: the same decoder, the same page tables, other arithmetic.
//!
//! Weights, keys and values live in the card's memory; what crosses the bus in a step are the
//! tokens, the page tables and the logits. The kernels are CUDA C, compiled when a model is loaded
//! for the card that is there; neither a compiler nor a driver is needed to build this crate.
//!
//! Single tokens and prompts take different ways through a layer: the first read each weight once
//! at the speed of memory, the second compute at the speed of the matrix units. A step's single
//! tokens never share a product with its prompts, so a token's bits do not depend on batch mates.
//! They do differ from the processor's: weights, activations and cached rows are bf16 here, sums
//! f32. With [`crate::KvPrecision::F32`] all is f32 instead, for comparing with a reference.

pub mod bench;

mod arguments;
mod attention;
mod card;
#[cfg(test)]
mod checks;
mod feed;
mod load;
mod model;
mod product;

pub use card::Card;
pub use model::{CardModel, Room};
