//! `[dns]`: names that are answered with gateways. What it all means together, and what can be
//! wrong with it, is in `resolve/dns`.

use crate::config_file::value::Wait;
use serde::{Deserialize, Serialize};

/// Names that are answered with gateways, where `listen.dns` says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Dns {
    /// The names clients use. Each is a zone of its own, to be delegated to the gateways.
    pub names: Vec<String>,
    /// Labels below each name, one for each tenant. Each gets a few of the gateways, few tenants
    /// the same ones, so that one that crashes what it touches does not take all.
    pub tenants: Vec<String>,
    /// Who serves these zones, as the parent zone has it: the NS records. Two are better than one.
    pub ns: Vec<String>,
    /// Whom to write to about these zones. Unset: hostmaster at the first name.
    pub contact: Option<String>,
    /// How long an answer may be kept. Shorter moves clients sooner and asks more often.
    pub ttl: Option<Wait>,
    /// File that keeps the last answers for the next start. Unset: a start begins with all
    /// gateways alike.
    pub kept_file: Option<String>,
    /// The gateways, as clients reach them.
    pub target: Vec<Target>,
    /// Which clients are near which gateways. None: all are alike.
    pub region: Vec<Region>,
    /// Names below the others with fixed addresses, e.g. of servers in `ns`.
    pub host: Vec<Host>,
}

/// A gateway, as clients reach it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Target {
    /// The gateway's name.
    pub gateway: Option<String>,
    /// Its public addresses.
    pub addresses: Vec<String>,
    /// The region it is in.
    pub region: Option<String>,
}

/// Clients that are near each other.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Region {
    /// Its name, for `dns.target.region`.
    pub name: Option<String>,
    /// Their networks. Of several that hold an address the longest counts.
    pub networks: Vec<String>,
    /// File with more of them, one a line; what follows a `#` is not read.
    pub networks_file: Option<String>,
}

/// A name with fixed addresses.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Host {
    /// The name.
    pub name: Option<String>,
    /// Its addresses.
    pub addresses: Vec<String>,
}
