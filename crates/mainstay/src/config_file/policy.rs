//! `[policy]`, where a node's generations of policy come from, and `[rehearsal]`, how one of them
//! breaks on purpose. What they mean together, and what can be wrong, is in `resolve/policy`.

use super::value::{Size, Wait};
use mainstay_server::policy::rehearsal::Dies;
use serde::{Deserialize, Serialize};

/// Where generations of policy come from. It belongs to the node's own file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Policy {
    /// The node that publishes them; its own file says so too. Unset: this file is all there is.
    pub source: Option<String>,
    /// Where that node's link is reached, `https://host:port`. Unset: where a `[[gateway]]` or
    /// `[[site]]` of this name is.
    pub link: Option<String>,
    /// Most memory for trying a content in a process of its own. Lower it on a small machine.
    pub taste_memory: Option<Size>,
    /// Most time for that. Raise it for a slow one.
    pub taste_time: Option<Wait>,
    /// Take contents with a `[rehearsal]`, which break on purpose, and the times below. Never where
    /// anybody is served.
    pub rehearse: Option<bool>,
    /// In a rehearsal: between two polls, give or take a fifth.
    pub poll: Option<Wait>,
    /// In a rehearsal: how long the gateway before must have run a generation clean.
    pub canary: Option<Wait>,
    /// In a rehearsal: how long until a generation counts as good.
    pub soak: Option<Wait>,
}

/// How a content breaks on purpose, at nodes that `rehearse`; others refuse it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Rehearsal {
    /// When it kills its process: `tasted`, `swells`, `hangs` (all when it is tried), or `loaded`.
    pub dies: Option<Dies>,
    /// Or so long after it came in force.
    pub dies_after: Option<Wait>,
}
