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
    /// What each is: a model on a machine, by name, or what its steps take. Unset: what prompts
    /// take is learned, from the first 50 answers that tell of cached tokens.
    pub profile: Option<Profile>,
    /// Environment variable that holds its key, where it wants one.
    pub key_env: Option<String>,
    /// File that holds its key.
    pub key_file: Option<String>,
}

/// What a worker is: `"llama-70b-h100-tp8"`, or `{ base = 9.0, token = 0.0425 }`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged)]
pub enum Profile {
    /// One that is known.
    Named(String),
    /// Another one.
    Steps(Steps),
}

/// What a step of a worker takes, in milliseconds: `base + token · tokens`, at least `least`, and
/// what attention adds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Steps {
    /// What it takes however few tokens are in it.
    pub base: Option<f64>,
    /// For each token in it, of prompts and of answers.
    pub token: Option<f64>,
    /// The shortest there is. Unset: as `base`.
    pub least: Option<f64>,
    /// For each token of context of each answer that is written. Unset: nothing.
    pub context: Option<f64>,
    /// For each pair of a token that is read and one before it. Unset: nothing.
    pub pair: Option<f64>,
    /// Tokens in a step at most. Unset: 2048, which vLLM and llama.cpp begin with.
    pub chunk: Option<u32>,
    /// Tokens that its KV cache holds. Unset: as many as come.
    pub kv_tokens: Option<u32>,
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
