//! `[status]`: the public status page. What it means together, and what can be wrong, is in
//! `resolve/status`.

use super::value::Wait;
use serde::{Deserialize, Serialize};

/// What the public status page shows, and who shows it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// What the service is called there.
    pub title: Option<String>,
    /// Where the public finds the page, for links and programs. Unset: links are relative.
    pub url: Option<String>,
    /// How long a component must be well before it is shown as operational again. Shorter hides a
    /// relapse, longer shows an outage that is over.
    pub green: Option<Wait>,
    /// First tokens are promised within this time; one in twenty three times as late is degraded.
    pub first_token: Option<Wait>,
    /// The nodes that show it, beside those that gateways have in them.
    pub node: Vec<Shows>,
}

/// A node that shows the page.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Shows {
    /// Its name.
    pub name: Option<String>,
    /// Where its link is reached, `https://host:port`. Unset: it only dials the gateways.
    pub link: Option<String>,
}
