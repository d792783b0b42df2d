//! `[[site.worker]]`: inference servers behind a site of ours. What is wrong with them is said in
//! `resolve/workers`.

use serde::{Deserialize, Serialize};

/// Inference servers that are alike, and where they are: one address, a name, or pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Worker {
    /// Which server it is: `vllm`, `sglang`, `llama.cpp`, or `openai` for any other.
    pub engine: Option<String>,
    /// Where it is, `http://host:port`.
    pub address: Option<String>,
    /// Or: a name and a port, `name:port`, with a worker at each address.
    pub dns: Option<String>,
    /// Or: pods.
    pub kubernetes: Option<Kubernetes>,
    /// DNS server to ask for the name. Unset: the system's.
    pub resolver: Option<String>,
    /// Which of the site's models it serves. Unset: its only one.
    pub serves: Option<String>,
    /// That model's name there. Unset: the same.
    pub model: Option<String>,
    /// Answers that each computes at once. Unset: what it tells of itself, or 64.
    pub sequences: Option<u32>,
    /// Output tokens a second that each writes, of all its answers together. Unset: found out.
    pub tokens_per_second: Option<u32>,
    /// Environment variable that holds its key, where it wants one.
    pub key_env: Option<String>,
    /// File that holds its key.
    pub key_file: Option<String>,
}

/// Which pods.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Kubernetes {
    /// Label selector, e.g. `app=vllm`.
    pub selector: Option<String>,
    /// Their namespace. Unset: that of this process.
    pub namespace: Option<String>,
    /// Their port.
    pub port: Option<u16>,
    /// URL of the API server. Unset: the one of the cluster that this process runs in.
    pub api: Option<String>,
}
