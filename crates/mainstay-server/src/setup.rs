//! What the binary hands the server: addresses, credentials and files, checked and resolved.
//!
//! Decisions' settings are in `mainstay_core::config`; here is only what acting needs.

pub mod terms;

use crate::ledger::{Keeping, Tariff};
use crate::letters::{Hook, Post};
use crate::link::{Book, Identity, NodeName, Peer};
use crate::policy::rehearsal::Rehearsal;
use crate::site::engine::Engine;
use mainstay_core::config::Contract;
use mainstay_core::names::SiteId;
use mainstay_core::site::schedule::profile::Profile;
pub use mainstay_engine::{Device, Precision};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
pub use terms::{Network, Terms, date, format_date, mark, mark_of, shown, unix_now};

/// Everything a server needs to start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What all of it was read from.
    pub written: Written,
    /// Where it listens.
    pub listen: Listen,
    /// What the machines decide by.
    pub core: mainstay_core::config::Config,
    /// How to reach each site, in the order of `core.sites`.
    pub upstreams: Vec<Upstream>,
    /// Who may call. Empty: anyone who reaches the listener.
    pub keys: Vec<Key>,
    /// What tiers and tenants may use.
    pub contracts: Contracts,
    /// Where this process keeps what must outlive it.
    pub data_dir: Option<PathBuf>,
    /// Tier (position in `core.tiers`) of callers when no key is configured.
    pub anonymous_tier: u8,
    /// Bounds on what a client may send.
    pub bounds: Bounds,
    /// How long running answers may take after SIGTERM.
    pub drain: Duration,
    /// What is logged, and how.
    pub log: Log,
    /// The names that are answered with gateways, if any.
    pub dns: Option<crate::gateway::dns::Settings>,
    /// This node among others, if there are any.
    pub node: Option<Node>,
    /// How it breaks on purpose, if it does.
    pub rehearsal: Option<Rehearsal>,
    /// What the public is shown.
    pub status: StatusPage,
    /// Where the ledger is kept, if one is.
    pub ledger: Option<Keeping>,
    /// What callers pay, and what providers want.
    pub tariff: Arc<Tariff>,
}

/// What a gateway is called that stands alone and has no name.
pub const ALONE: &str = "here";

/// What the public is shown, wherever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusPage {
    /// The nodes that show it, which gateways tell how it goes.
    pub nodes: Vec<NodeName>,
    /// What the service is called.
    pub title: String,
    /// Where the public finds the page, if that is known.
    pub url: Option<String>,
    /// How long a component must be well before it is shown as well again.
    pub green: Duration,
    /// First tokens are promised within this time.
    pub first_token: Duration,
    /// What the public calls each site, in the order of `core.sites`; none keeps one off the page.
    pub sites: Vec<Option<String>>,
    /// Whether the public is told whom the loss of a site would leave refused.
    pub publish_capacity: bool,
    /// Who is told what the page tells.
    pub webhooks: Vec<Hook>,
    /// Who is written to, if anybody is.
    pub mail: Option<Post>,
}

/// Reads configurations while the process runs, and checks them as at the start. An error has a
/// line for each thing that is wrong: where, and how to mend it.
#[derive(Clone)]
pub struct Reader(Arc<Read>);

/// Reads this text instead of the own file's, if there is one, with this policy, if there is one.
type Read = dyn Fn(Option<&str>, Option<&[u8]>) -> Result<Setup, String> + Send + Sync;

impl Reader {
    /// A reader that reads so: the text of an own file, or else the file as it is now; and the
    /// text of a policy that takes the place of what the own file says of the same.
    pub fn new(
        read: impl Fn(Option<&str>, Option<&[u8]>) -> Result<Setup, String> + Send + Sync + 'static,
    ) -> Reader {
        Reader(Arc::new(read))
    }

    /// This node's own file as it is now, with `policy`, if there is one.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn read(&self, policy: Option<&[u8]>) -> Result<Setup, String> {
        (self.0)(None, policy)
    }

    /// The own file as it was when it was taken, whatever was written into it since, with `policy`.
    ///
    /// # Errors
    /// What is wrong with either.
    pub fn with(&self, own: &Written, policy: Option<&[u8]>) -> Result<Setup, String> {
        (self.0)(Some(own.text.reveal()), policy)
    }
}

/// How a configuration was written down.
#[derive(Clone, Debug)]
pub struct Written {
    /// The file's name, or nothing if the environment alone says it.
    pub name: String,
    /// The file's text. It may hold keys.
    pub text: Secret,
    /// Whether a policy that came from elsewhere is part of it.
    pub has_policy: bool,
    /// SHA-256 of all of it.
    pub hash: [u8; 32],
    /// What works, but probably not as meant.
    pub warnings: Vec<String>,
    /// Why the file is not what it was read from, but the last one that worked.
    pub trouble: Option<String>,
}

impl Written {
    /// A file's text, and that of a policy.
    pub fn new(name: &str, own: &str, policy: Option<&str>) -> Written {
        let mut hash = Sha256::new_with_prefix(own);
        // No file has this byte: what ends one and begins the other is part of the hash.
        policy.into_iter().for_each(|policy| hash.update(["\0", policy].concat()));
        Written {
            name: name.into(),
            text: Secret::new(own),
            has_policy: policy.is_some(),
            hash: hash.finalize().into(),
            warnings: Vec::new(),
            trouble: None,
        }
    }

    /// Where the file says `key`, e.g. `listen.api`: its name and line, or its name alone.
    pub fn place(&self, key: &str) -> String {
        if self.name.is_empty() {
            return String::from("configuration");
        }
        let (section, last) = key.split_once('.').unwrap_or(("", key));
        let mut here = "";
        for (line, text) in (1..).zip(self.text.reveal().lines()) {
            let text = text.trim();
            if let Some(name) = text.strip_prefix('[').and_then(|text| text.split(']').next()) {
                here = name.trim();
                if here == key {
                    return format!("{}:{line}", self.name);
                }
            }
            let word = text.split('=').next().unwrap_or_default().trim();
            if word == key || (here == section && word == last) {
                return format!("{}:{line}", self.name);
            }
        }
        self.name.clone()
    }
}

/// One node among others.
#[derive(Clone, Debug)]
pub struct Node {
    /// Who it is.
    pub identity: Identity,
    /// What it does.
    pub roles: Roles,
    /// The site it controls, by its position in `core.sites`.
    pub site: Option<usize>,
    /// The gateways, in the order of their positions.
    pub gateways: Vec<NodeName>,
    /// Whom it talks to.
    pub peers: Vec<Peer>,
    /// Where it keeps what must outlive it.
    pub data_dir: Option<PathBuf>,
    /// Where generations of policy come from, if anywhere.
    pub policy: Option<Source>,
}

/// Where generations of policy come from, and how they are taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The node that publishes them.
    pub node: NodeName,
    /// Most memory in bytes, and most time, for trying a content.
    pub taste: (u64, Duration),
    /// Contents that break on purpose are taken, and these times hold.
    pub rehearses: Option<Times>,
}

/// Times of a rehearsal, in which nobody waits for an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Between two polls, give or take a fifth.
    pub poll: Duration,
    /// How long a gateway of the stage before must have run a generation clean.
    pub canary: Duration,
    /// How long until it counts as good.
    pub soak: Duration,
}

impl Setup {
    /// What the status role decides by. A node that gateways do not know to show the page shows
    /// what its own gateway sees.
    pub fn status_config(&self) -> mainstay_core::status::Config {
        let told = |node: &Node| match self.status.nodes.contains(node.identity.name()) {
            true => node.gateways.iter().map(NodeName::to_string).collect(),
            false => vec![node.identity.name().to_string()],
        };
        mainstay_core::status::Config {
            gateways: self.node.as_ref().map_or_else(|| vec![String::from(ALONE)], told),
            models: self.core.models.iter().map(|model| model.name.clone()).collect(),
            sites: self.core.sites.iter().map(|site| site.name.clone()).collect(),
            green: self.status.green,
            first_token: self.status.first_token,
        }
    }
}

impl Node {
    /// What positions are called here, and which node controls which site.
    pub fn book(&self, setup: &Setup) -> Book {
        let position = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let node = |(at, upstream): (usize, &Upstream)| match upstream {
            Upstream::Node(site) => Some((position(at), site.name.clone())),
            Upstream::Provider(_) | Upstream::Engine(_) => None,
        };
        Book {
            nodes: setup.upstreams.iter().enumerate().filter_map(node).collect(),
            home: self.site.map(|at| SiteId(position(at))),
            ..Book::of(&setup.core, &self.gateways)
        }
    }
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes clients' requests.
    pub gateway: bool,
    /// Controls a site.
    pub site: bool,
    /// Computes in a site.
    pub worker: bool,
    /// Hands out the policy.
    pub policy: bool,
    /// Serves the status page.
    pub status: bool,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// Least level that is written: `error`, `warn`, `info`, `debug`, or a filter such as
    /// `info,mainstay_server=debug`.
    pub level: String,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The listeners, bound by whoever starts the server, so that a port in use is known before
/// anything else happens.
#[derive(Debug)]
pub struct Listeners {
    /// The OpenAI-compatible API.
    pub api: std::net::TcpListener,
    /// Metrics, health, explain.
    pub admin: std::net::TcpListener,
    /// Names that are answered with gateways.
    pub dns: Option<crate::gateway::dns::sockets::Sockets>,
    /// Other nodes.
    pub link: Option<std::net::TcpListener>,
    /// The public's page.
    pub status: Option<std::net::TcpListener>,
}

/// Addresses to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The OpenAI-compatible API.
    pub api: SocketAddr,
    /// Metrics, health, explain.
    pub admin: SocketAddr,
    /// SHA-256 of the token without which the admin listener tells and does little, if there is
    /// one.
    pub admin_token: Option<[u8; 32]>,
    /// Certificate chain and key (PEM files) for the API listener.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Names that are answered with gateways; none unless told.
    pub dns: Vec<SocketAddr>,
    /// Other nodes; none unless told.
    pub link: Option<SocketAddr>,
    /// The public's page, where this process shows it.
    pub status: Option<SocketAddr>,
    /// Whether it must: somebody asked for it by name.
    pub is_status_asked: bool,
}

/// How to reach a site.
#[derive(Clone, Debug)]
pub enum Upstream {
    /// A provider account or any server of its dialect.
    Provider(Provider),
    /// The embedded engine.
    Engine(EngineModel),
    /// A site of ours.
    Node(NodeSite),
}

/// The node that controls a site of ours.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeSite {
    /// Its name, as its certificate must have it.
    pub name: NodeName,
    /// `host:port` of its link.
    pub address: String,
    /// What it computes with, as far as this file says.
    pub workers: Option<Workers>,
}

/// The workers of a site.
#[derive(Clone, Debug, PartialEq)]
pub enum Workers {
    /// The embedded engine.
    Embedded(Embedded),
    /// Servers of their own.
    Outside(Vec<Outside>),
}

/// The embedded engine as a site's worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// The embedded engine's model.
    pub model: EngineModel,
    /// Answers at once.
    pub streams: u32,
    /// Output tokens a second, of all answers together, where the operator said; else they are
    /// measured.
    pub tokens_per_second: Option<u32>,
    /// Not more, even if the machine could.
    pub hold_to_rate: bool,
}

/// Inference servers that are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Outside {
    /// Which server it is.
    pub engine: Engine,
    /// Where they are.
    pub place: Place,
    /// The site's model that they serve.
    pub serves: String,
    /// Its name there.
    pub model: String,
    /// Answers at once, of each, where the operator said.
    pub sequences: Option<u32>,
    /// Output tokens a second, of each, where the operator said.
    pub tokens_per_second: Option<u32>,
    /// What steps take there, where the operator said.
    pub profile: Option<Profile>,
    /// The key that they want.
    pub key: Option<Secret>,
}

/// Where inference servers are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One, at this URL, e.g. `http://10.0.0.5:8000`.
    Address(String),
    /// One at each address of a name.
    Dns {
        /// The name.
        host: String,
        /// Their port.
        port: u16,
        /// Whom to ask; `None` is the system's.
        resolver: Option<SocketAddr>,
    },
    /// Pods of Kubernetes.
    Kubernetes(Kubernetes),
}

/// Which pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The label selector, e.g. `app=vllm`.
    pub selector: String,
    /// Their namespace.
    pub namespace: String,
    /// Their port.
    pub port: u16,
    /// The API server's URL.
    pub api: String,
    /// The file with the token that is shown to it.
    pub token_file: Option<PathBuf>,
    /// More certificate authorities to trust.
    pub ca_file: Option<PathBuf>,
}

impl NodeSite {
    /// A node that nobody reaches: what stands where none could be read.
    pub fn nowhere() -> NodeSite {
        NodeSite { name: NodeName::nobody(), address: String::new(), workers: None }
    }
}

/// A provider account.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The dialect's name, e.g. `deepseek`.
    pub dialect: Arc<crate::dialect::Dialect>,
    /// Base URL without trailing slash, e.g. `https://api.deepseek.com`.
    pub base_url: String,
    /// The key, if the provider wants one.
    pub key: Option<Secret>,
    /// More certificate authorities to trust (a PEM file).
    pub ca_file: Option<PathBuf>,
    /// DNS server to ask for this site's name; `None` is the system's.
    pub resolver: Option<SocketAddr>,
    /// Whether HTTP/2 is spoken to it.
    pub http2: Http2,
    /// Whether a client's plain request may go upstream as a stream, so that its progress is seen.
    pub stream: bool,
}

/// Whether HTTP/2 is spoken to a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2 {
    /// As TLS negotiates; HTTP/1.1 without TLS.
    Auto,
    /// With prior knowledge, also without TLS.
    Always,
    /// HTTP/1.1 only.
    Never,
}

/// The name of the model in a directory or GGUF file.
pub fn model_name(path: &Path) -> String {
    let is_gguf = path.extension().is_some_and(|end| end == "gguf");
    let name = if is_gguf { path.file_stem() } else { path.file_name() };
    name.unwrap_or_default().to_string_lossy().into_owned()
}

/// What the embedded engine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineModel {
    /// The model that is compiled in.
    Builtin,
    /// A directory of safetensors, tokenizer.json and config.json, or a GGUF file; how its weights
    /// are kept, and where it is computed.
    Files(PathBuf, Precision, Device),
    /// The same in a process of its own.
    Apart(PathBuf, Precision, Device),
    /// None: numbers at a steady pace, a token of each answer every so often.
    Rehearsal(Duration),
    /// None: a report of the sites' state, always.
    Status,
}

/// A caller.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name in logs and usage.
    pub name: String,
    /// Position of its tier in `core.tiers`.
    pub tier: u8,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// What it is for.
    pub terms: Terms,
}

/// What may be used of what is limited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contracts {
    /// By each key of a tier that says nothing else, in the order of `core.tiers`.
    pub tiers: Vec<Contract>,
    /// By all keys of a tenant together.
    pub tenants: BTreeMap<String, Contract>,
}

/// Bounds on what a client may send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Largest request body in bytes.
    pub body: usize,
    /// Largest request head in bytes.
    pub head: usize,
    /// Longest wait for a request's head.
    pub head_time: Duration,
    /// Longest wait for a request's body.
    pub body_time: Duration,
    /// Connections at once.
    pub connections: usize,
}

/// A string that never shows itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}
