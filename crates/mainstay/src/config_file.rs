//! The configuration file: one struct, its keys, and why each exists.
//!
//! A key is here only because two operators would choose differently. Every key has a default and
//! a line in `mainstay.example.toml`; a test keeps that true both ways. What the keys mean
//! together, and what can be wrong with them, is in `resolve`.

pub mod check;
pub mod dns;
pub mod merge;
pub mod money;
pub mod node;
pub mod policy;
pub mod problem;
pub mod resolve;
pub mod source;
pub mod status;
pub mod value;
pub mod worker;

use dns::Dns;
use node::{Gateway, Node};
use serde::{Deserialize, Serialize};
use value::{OneOrMore, Size, Wait};
use worker::Worker;

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct File {
    /// Serve callers without a key although the API listens beyond loopback. Off, because an open
    /// API on a network spends the operator's money for anyone.
    pub allow_anonymous: Option<bool>,
    /// Directory of TOML files that add dialects or replace built-in ones of the same name. For a
    /// provider that changed its errors before the next release, or one that only you have.
    pub dialects_dir: Option<String>,
    /// Where what was asked, given and owed is written down: a path, `off`, or the URL of a
    /// PostgreSQL. Unset: in `node.data_dir`, if there is one.
    pub ledger: Option<String>,
    /// Rows of requests that ended longer ago than so many days are taken out of the ledger's file,
    /// those that PostgreSQL does not have yet excepted. Unset: none is, and the file grows.
    pub ledger_days: Option<u32>,
    /// Where to listen.
    pub listen: Listen,
    /// The failure domains that can answer. None: what the environment offers.
    pub site: Vec<Site>,
    /// The names clients ask for. None: every model the sites offer, `chat` and `builtin`.
    pub model: Vec<Model>,
    /// Service classes, the highest first. The four of the default are always there.
    pub tier: Vec<Tier>,
    /// Who may call. None: anyone who reaches the listener.
    pub key: Vec<Key>,
    /// What all keys of one tenant may use together.
    pub tenant: Vec<Tenant>,
    /// What callers pay. None: nothing.
    pub plan: Vec<money::Plan>,
    /// What callers may spend.
    pub budget: Vec<money::Budget>,
    /// Times and bounds.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// What `mainstay check` cannot know from the rest.
    pub check: check::Check,
    /// Names that are answered with gateways.
    pub dns: Dns,
    /// This process among several.
    pub node: Node,
    /// The nodes that take clients' requests. None: this one alone.
    pub gateway: Vec<Gateway>,
    /// Where generations of policy come from.
    pub policy: policy::Policy,
    /// How this policy breaks on purpose.
    pub rehearsal: Option<policy::Rehearsal>,
    /// The public status page.
    pub status: status::Status,
}

/// Where to listen.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Listen {
    /// The OpenAI-compatible API. Loopback unless told otherwise.
    pub api: Option<String>,
    /// Metrics, health, explain and the console. Without a token it has no login: keep it on
    /// loopback or a private network.
    pub admin: Option<String>,
    /// Environment variable that holds the admin token. With one, nobody sees or changes anything
    /// there without it, but for metrics and health. Unset: the console is for this machine alone.
    pub admin_token_env: Option<String>,
    /// File that holds it, e.g. a mounted secret.
    pub admin_token_file: Option<String>,
    /// PEM file with the certificate chain of the API listener; with `tls_key`.
    pub tls_cert: Option<String>,
    /// PEM file with its private key.
    pub tls_key: Option<String>,
    /// Questions to the names of `[dns]`, by UDP and TCP: one address, or a list. Unset: nobody
    /// listens.
    pub dns: Option<OneOrMore>,
    /// Other nodes, with certificates on both sides. Unset: this node only dials others.
    pub link: Option<String>,
    /// The public status page, at nodes with the role `status`.
    pub status: Option<String>,
}

/// A failure domain that can answer: a provider account, or the embedded engine.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Site {
    /// Its name in `served_by`, messages and metrics.
    pub name: Option<String>,
    /// Its dialect: a built-in one, one of `dialects_dir`, or `openai` for any compatible server.
    pub provider: Option<String>,
    /// The account's key. In a file that others may read, prefer one of the next two.
    pub key: Option<String>,
    /// Environment variable that holds the key. Default: the dialect's own.
    pub key_env: Option<String>,
    /// File that holds the key, e.g. a mounted secret.
    pub key_file: Option<String>,
    /// Only to override the dialect's own, e.g. another region or a server of yours.
    pub base_url: Option<String>,
    /// Concurrent requests the account allows. Unset: unknown, and learned.
    pub capacity: Option<u32>,
    /// Output tokens a second that its workers write together; only its own node uses it. Unset:
    /// measured when the node starts.
    pub tokens_per_second: Option<u32>,
    /// Hold its workers to that, though the machine could do more: for trials on one machine.
    pub hold_to_rate: Option<bool>,
    /// What the public status page calls it. Empty: the page leaves it out. Unset: its name.
    pub public_name: Option<String>,
    /// What it shares with other sites: what dies together, e.g. one payment card.
    pub fate: Vec<String>,
    /// What its models can do, where the dialect does not know or is wrong.
    pub models: Vec<SiteModel>,
    /// What its provider wants, for the ledger. None: nothing.
    pub price: Vec<money::Price>,
    /// PEM file with more certificate authorities to trust, for a server of yours.
    pub ca_file: Option<String>,
    /// The embedded engine instead of a provider.
    pub engine: Option<Engine>,
    /// Inference servers that compute for a site of ours; only its own node uses them.
    pub worker: Vec<Worker>,
    /// A site of ours instead of a provider: where its node is reached, `https://host:port`.
    pub node: Option<String>,
    /// The node's name, where it is not the site's.
    pub node_name: Option<String>,
    /// DNS server to ask for this site's name. Unset: the system's.
    pub resolver: Option<String>,
    /// Whether HTTP/2 is spoken: as TLS negotiates, always, or never.
    pub http2: Option<Http2>,
    /// Whether plain requests may go upstream as streams, so that silence is noticed in seconds.
    /// Off for a server that streams badly.
    pub stream: Option<bool>,
}

/// What one model of a site can do.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SiteModel {
    /// The model's name there.
    pub name: Option<String>,
    /// Context window in tokens, prompt and answer together.
    pub window: Option<u32>,
    /// Most tokens it will answer.
    pub output_max: Option<u32>,
    /// Whether it takes tools.
    pub tools: Option<bool>,
    /// Whether it takes images or other media.
    pub media: Option<bool>,
    /// Whether it has a JSON mode.
    pub json: Option<bool>,
    /// Whether it answers `/v1/embeddings`.
    pub embeddings: Option<bool>,
    /// Whether it answers the legacy `/v1/completions`.
    pub completions: Option<bool>,
    /// Whether it goes on from a partial answer in its dialect's form.
    #[serde(rename = "continue")]
    pub continues: Option<bool>,
}

/// The embedded engine of a site.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Engine {
    /// `builtin`, a directory with `config.json`, `tokenizer.json` and `*.safetensors`, a `.gguf`
    /// file, `status`, which tells the sites' state and nothing else, or `rehearsal`, which writes
    /// numbers at a steady pace.
    pub model: Option<String>,
    /// How the weights are kept in memory.
    pub weights: Option<Weights>,
    /// Where it is computed: `cpu`, or a card of NVIDIA's, `cuda` or `cuda:1`.
    pub device: Option<String>,
    /// Whether it runs in a process of its own, whose end ends nothing else.
    pub process: Option<bool>,
}

/// How an embedded engine keeps weights of your own.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// As the files have them.
    Stored,
    /// In 8 bits, where that is less.
    Q8,
    /// In 4 bits, where that is less.
    Q4,
}

/// Whether HTTP/2 is spoken to a site.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// As TLS negotiates.
    Auto,
    /// Also without TLS.
    Always,
    /// HTTP/1.1 only.
    Never,
}

/// A name clients ask for.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Model {
    /// The name.
    pub name: Option<String>,
    /// `site/model` with the same weights, in order of preference.
    pub served_by: Vec<String>,
    /// `site/model` of other models, in order, for when no equal can answer.
    pub substitutes: Vec<String>,
    /// Whether a substitute may finish an answer that another model began. Off where a reader must
    /// never meet two authors in one answer: it then ends with an error.
    pub substitutes_may_finish: Option<bool>,
    /// What its clients use beyond text. `mainstay check` counts on nobody who lacks it.
    pub needs: Vec<String>,
    /// Tokens of context that its clients use. `mainstay check` counts on nobody with fewer.
    pub window_min: Option<u32>,
}

/// A service class.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tier {
    /// Its name. One of the default's changes it; a new one ranks just below the tier before it.
    pub name: Option<String>,
    /// Share of capacity that other tiers cannot take from it, 0 to 1.
    pub floor: Option<f64>,
    /// What its callers pay, the name of a `[[plan]]`.
    pub plan: Option<String>,
    /// What each key of it may use that says nothing else. Unset: without a bound.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers.
    pub tokens_per_minute: Option<u64>,
    /// Cost units, which weigh tokens by the work that they are.
    pub cost_units_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u32>,
}

/// A tenant: several keys of one customer.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tenant {
    /// Its name, as keys have it.
    pub name: Option<String>,
    /// What all its keys may use together. Unset: without a bound.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers.
    pub tokens_per_minute: Option<u64>,
    /// Cost units.
    pub cost_units_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u32>,
}

/// A caller.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Key {
    /// Its name in logs and usage.
    pub name: Option<String>,
    /// Its service class.
    pub tier: Option<String>,
    /// SHA-256 of the key in hex; `mainstay keys create` prints it.
    pub hash: Option<String>,
    /// Whose it is: keys of one tenant share its limits and its turn. Unset: its name.
    pub tenant: Option<String>,
    /// The models it may ask for. Unset: all.
    pub models: Vec<String>,
    /// Where its requests may come from, e.g. `10.0.0.0/8`. Unset: anywhere.
    pub networks: Vec<String>,
    /// The date from which it is not let in any more.
    pub expires: Option<String>,
    /// What it may use, instead of what its tier says.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers.
    pub tokens_per_minute: Option<u64>,
    /// Cost units.
    pub cost_units_per_minute: Option<u64>,
    /// Requests at once.
    pub concurrency: Option<u32>,
    /// Money it may use a day, in the currency of the prices.
    pub budget_per_day: Option<f64>,
    /// And a month.
    pub budget_per_month: Option<f64>,
    /// What it pays, the name of a `[[plan]]`. Unset: as its tier says.
    pub plan: Option<String>,
}

/// Times and bounds. What each is for is said at `mainstay_core::config::Limits`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Limits {
    /// `full`, or `fast`: our own waits divided by five, for trying faults.
    pub profile: Option<Profile>,
    /// Longest life of a request whose client set no limit. Raise it for very long answers.
    pub request: Option<Wait>,
    /// DNS, TCP and TLS together. Raise it for sites far away.
    pub connect: Option<Wait>,
    /// Wait for a first token while there are few samples. Raise it for slow hardware.
    pub first_token_unmeasured: Option<Wait>,
    /// Least and most that the measured wait may be.
    pub first_token: Option<[Wait; 2]>,
    /// Wait between tokens without samples.
    pub stall_unmeasured: Option<Wait>,
    /// Least and most that the measured wait may be.
    pub stall: Option<[Wait; 2]>,
    /// How long an answer must drip before it is given up.
    pub drip: Option<Wait>,
    /// Waits after the first, second and every further overload.
    pub back_off: Option<[Wait; 3]>,
    /// Between two probes of a site that refuses our key.
    pub probe_auth: Option<Wait>,
    /// Between two probes of a site that wants to be paid.
    pub probe_billing: Option<Wait>,
    /// Longest Retry-After that is believed before the site is probed.
    pub retry_after_max: Option<Wait>,
    /// Longest Retry-After that is waited out for the sake of the same model.
    pub wait_max: Option<Wait>,
    /// Pause before the same site is tried again.
    pub retry_pause: Option<[Wait; 2]>,
    /// Largest request body. Raise it for many images.
    pub body: Option<Size>,
    /// Largest request head.
    pub head: Option<Size>,
    /// Longest wait for a request's head.
    pub head_time: Option<Wait>,
    /// Longest wait for a request's body. Raise it for slow uplinks.
    pub body_time: Option<Wait>,
    /// Connections at once. Each needs a file descriptor or two.
    pub connections: Option<u32>,
    /// How long running answers may take after SIGTERM. Keep it below the supervisor's own limit.
    pub drain: Option<Wait>,
}

/// Which set of our own waits.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// For serving.
    Full,
    /// For trying faults.
    Fast,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// `text` for people, `json` for machines, `auto`: text on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
    /// `error`, `warn`, `info` or `debug`, or a filter such as `info,mainstay_server=debug`.
    pub level: Option<String>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
