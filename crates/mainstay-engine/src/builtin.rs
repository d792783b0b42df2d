//! The model that is compiled in, so that a fresh start answers without a network or a file.
//!
//! Its directory holds the weights, how they were made (`MODEL_CARD.md`) and the form of the system
//! message that it was trained on (`slots.json`), which its caller must write.

use crate::engine::Files;
use std::borrow::Cow;

/// Its files, read from the binary itself: nothing is copied before the engine is built from them.
pub fn files() -> Files<'static> {
    Files {
        name: "builtin",
        config: include_bytes!("../builtin/config.json"),
        weights: Cow::Borrowed(include_bytes!("../builtin/model.safetensors")),
        tokenizer: include_bytes!("../builtin/tokenizer.json"),
        tokenizer_config: include_bytes!("../builtin/tokenizer_config.json"),
        ..Files::default()
    }
}

/// What its slots of commands and lines of configuration stand for: one JSON object, by slot.
pub fn guide() -> &'static str {
    include_str!("../builtin/guide.json")
}
