//! The model that is compiled in.

use crate::engine::Files;

/// Its files.
pub fn files() -> Files<'static> {
    Files { name: "builtin", ..Files::default() }
}
