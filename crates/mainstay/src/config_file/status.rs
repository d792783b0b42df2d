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
    /// Whether the page says whom the loss of a site would leave refused. Some promise it, others
    /// would rather not tell.
    pub publish_capacity: Option<bool>,
    /// Servers that are told of incidents, announced work and surges of reports.
    pub webhook: Vec<Webhook>,
    /// Operators who are written to, by e-mail, of the same.
    pub mail: Option<Mail>,
    /// The nodes that show it, beside those that gateways have in them.
    pub node: Vec<Shows>,
}

/// A server that is told what the page tells.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Webhook {
    /// URL that is told, by POST.
    pub url: Option<String>,
    /// Environment variable with what such messages are signed with; only nodes that show the page
    /// need it.
    pub secret_env: Option<String>,
}

/// Who is written to, by e-mail, and by what server.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Mail {
    /// The SMTP server, `host:port`.
    pub server: Option<String>,
    /// `starttls`, `tls`, or `none` for a server on this machine.
    pub tls: Option<String>,
    /// The user there, if it wants one; and
    pub user: Option<String>,
    /// environment variable with the password; only nodes that show the page need it.
    pub password_env: Option<String>,
    /// Who writes.
    pub from: Option<String>,
    /// Who reads.
    pub to: Vec<String>,
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
