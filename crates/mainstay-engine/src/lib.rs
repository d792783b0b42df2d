//! Computes tokens: weights, tokenizer, chat template, batched forward pass, sampling.
//!
//! It knows no tenants, no sites and no HTTP.
