//! `[node]` and `[[gateway]]`: one process among several. What they mean together, and what can
//! be wrong with them, is in `resolve/node`.

use serde::{Deserialize, Serialize};

/// This process among several. Without a name it stands alone.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Node {
    /// Its name, as its certificate has it.
    pub name: Option<String>,
    /// PEM file with the authority that all nodes have their certificates from.
    pub ca_file: Option<String>,
    /// PEM file with this node's certificate.
    pub cert_file: Option<String>,
    /// PEM file with its private key.
    pub key_file: Option<String>,
    /// Directory for what must outlive the process, such as the last configuration that worked.
    /// Unset: nothing does.
    pub data_dir: Option<String>,
    /// What it does: all, unless one machine does only a part.
    pub roles: Option<Vec<Role>>,
    /// The `[[site]]` that it controls.
    pub site: Option<String>,
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes clients' requests.
    Gateway,
    /// Controls a site.
    Site,
    /// Computes in a site.
    Worker,
    /// Hands out the policy.
    Policy,
    /// Shows the public status page.
    Status,
}

/// A node that takes clients' requests.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Gateway {
    /// The node's name.
    pub name: Option<String>,
    /// Where its link is reached, `https://host:port`. Unset: it can only dial others.
    pub link: Option<String>,
}
