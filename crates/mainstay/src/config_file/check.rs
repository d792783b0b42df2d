//! `[check]`: what the audit cannot know from the rest of the file.

use super::value::Wait;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the audit cannot know from the rest of the file. The server does not read it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Check {
    /// Load at peak. Unset: assumed, and said so.
    pub peak: Option<Peak>,
    /// How long clients wait for a whole answer before they give up. Unset: not compared.
    pub client_timeout: Option<Wait>,
    /// How many gateways run this file, behind one address. Unset: one is assumed.
    pub gateways: Option<u32>,
}

/// Load at peak: `0.6`, or `{ enterprise = 2.0, free = 10 }`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Peak {
    /// As a share of what the sites in `served_by` carry together.
    Share(f64),
    /// In requests a second, by tier; a tier that is left out asks for nothing.
    ByTier(BTreeMap<String, f64>),
}

/// Words for `[[model]].needs`.
pub const NEEDS: [&str; 5] = ["tools", "media", "json", "embeddings", "completions"];
