//! The sacrificial process: this program once more, with little memory and time, which loads a new
//! content and decides the recent requests by it. What kills it kills nobody else.

use mainstay_core::policy::{Snapshot, Taste};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// The running program, also after its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// What the process gets on its standard input.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Trial {
    /// The text of the own file.
    pub own: String,
    /// The content in force; none if the own file alone is.
    pub before: Option<String>,
    /// The content to try.
    pub after: String,
    /// Recent requests.
    pub asked: Vec<Asked>,
}

/// A recent request, as far as decisions need it: no prompt, and nobody's key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The model's name.
    pub model: String,
    /// The tier's name.
    pub tier: String,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Most tokens of its answer.
    pub max_tokens: Option<u32>,
}

/// What the process says on its standard output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// It loads and answers like the present one.
    Good,
    /// It cannot be loaded, and why.
    Refused(String),
    /// What a person must confirm.
    Differs(String),
}

/// How the process is started.
#[derive(Clone, Debug)]
pub struct Table {
    /// The own file, if there is one.
    pub config: Option<PathBuf>,
    /// Most memory, in bytes.
    pub memory: u64,
    /// Most time.
    pub time: Duration,
}

/// Tries a content. Whatever is no answer is a crash.
pub async fn taste(table: Table, snapshot: &Snapshot, trial: &Trial) -> Taste {
    let said = tokio::time::timeout(table.time, run(&table, trial)).await;
    let generation = snapshot.generation;
    match said {
        Ok(Ok(Said::Good)) => Taste::Good,
        Ok(Ok(Said::Refused(why))) => Taste::Refused(why),
        Ok(Ok(Said::Differs(what))) => Taste::Differs(what),
        Ok(Err(why)) => {
            tracing::warn!(fact = "tasted", generation, "the sacrificial process died: {why}");
            Taste::Crashed
        }
        Err(_) => {
            let seconds = table.time.as_secs();
            tracing::warn!(fact = "tasted", generation, "no taste within {seconds} s");
            Taste::Crashed
        }
    }
}

async fn run(table: &Table, trial: &Trial) -> Result<Said, String> {
    let mut command = Command::new(PROGRAM);
    command.args(["taste", "--memory", &table.memory.to_string()]);
    command.args(["--seconds", &table.time.as_secs().max(1).to_string()]);
    if let Some(config) = &table.config {
        command.arg("--config").arg(config);
    }
    // The allocator's first reservation would count as memory in use.
    command.env("MIMALLOC_ARENA_RESERVE", "0");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("it cannot be started: {error}"))?;
    let trial = serde_json::to_vec(trial).map_err(|error| error.to_string())?;
    let input = child.stdin.take();
    let feed = async move {
        if let Some(mut input) = input {
            // Whoever dies before reading says so by its end.
            let _ = input.write_all(&trial).await;
        }
    };
    let (output, ()) = tokio::join!(child.wait_with_output(), feed);
    let output = output.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(output.status.to_string());
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("it said nothing: {error}"))
}
