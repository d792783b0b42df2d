//! `ledger`, `[[plan]]`, `[[budget]]` and the prices of sites. What they mean together, and what
//! can be wrong, is in `resolve/money`.

use super::value::Amount;
use serde::{Deserialize, Serialize};

/// What callers pay.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Plan {
    /// Its name in `tier.plan` and `key.plan`.
    pub name: Option<String>,
    /// So much of what is asked for is free, for each tenant in each month.
    pub allowance: Option<Amount>,
    /// The price list: the first line that fits holds, and what none fits is free.
    pub price: Vec<Price>,
}

/// A line of a price list.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Price {
    /// For this model. Unset: for any.
    pub model: Option<String>,
    /// In these hours of the week, UTC, e.g. `mon-fri 08:00-18:00`. Unset: always.
    pub hours: Option<String>,
    /// A million tokens of prompts.
    pub input: Option<Amount>,
    /// A million tokens of prompts that came out of a cache. Unset: as `input`.
    pub cached: Option<Amount>,
    /// A million tokens of answers.
    pub output: Option<Amount>,
}

/// What somebody may spend.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Budget {
    /// The key whose budget it is; or
    pub key: Option<String>,
    /// the tenant, for all its keys together.
    pub tenant: Option<String>,
    /// In a day, UTC.
    pub day: Option<Amount>,
    /// In a month, UTC.
    pub month: Option<Amount>,
    /// Whether requests are refused when it is spent. Off: somebody is told, and they go on.
    pub hard: Option<bool>,
    /// Somebody is told before, at so many hundredths of it.
    pub warn: Option<u8>,
    /// URL that is told, by POST. Unset: only the log.
    pub webhook: Option<String>,
    /// Environment variable with what such messages are signed with.
    pub webhook_secret_env: Option<String>,
}
