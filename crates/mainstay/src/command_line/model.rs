//! Options of `mainstay model`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What is asked about a model.
#[derive(Debug, Subcommand)]
pub enum Model {
    /// What a model is and what it takes: parameters, cache, memory, tokenizer, template
    Show(ShowModel),
    /// How fast it reads and writes here, beside the memory's bandwidth
    Bench(BenchModel),
}

/// Options of `mainstay model show`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mainstay model show models/qwen3-0.6b
  mainstay model show config.json --batch 32 --context 8192
                                              from the description alone, without weights
  mainstay model show builtin --json

Exit codes: 0 done, 1 the model's files are wrong, 2 the command line is wrong.")]
pub struct ShowModel {
    /// A model's directory, its config.json, a GGUF file, or builtin
    #[arg(value_name = "DIR|FILE")]
    pub model: PathBuf,
    /// Sequences at the same time, for the memory they take
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Tokens of each, prompt and answer [default: the model's window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub context: Option<u32>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay model bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mainstay model bench models/qwen3-0.6b --seconds 5

Figures of a machine that does something else besides are worth nothing.")]
pub struct BenchModel {
    /// A model's directory, a GGUF file, or builtin
    #[arg(value_name = "DIR|FILE")]
    pub model: PathBuf,
    /// How long each figure is measured at least
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=600))]
    pub seconds: u32,
    /// Tokens of a prompt [default: 512, or half of the model's window]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub prompt: Option<u32>,
    /// How the weights are kept in memory: stored, q8 or q4
    #[arg(long, value_name = "HOW", default_value = "stored",
          value_parser = ["stored", "q8", "q4"])]
    pub weights: String,
    /// Threads that compute [default: one for each core but one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay engine`, which the server starts by itself.
#[derive(Args, Debug)]
pub struct Engine {
    /// A model's directory or a GGUF file
    #[arg(value_name = "DIR|FILE")]
    pub model: PathBuf,
    /// How the weights are kept in memory
    #[arg(long)]
    pub weights: String,
    /// Where it is computed
    #[arg(long)]
    pub device: String,
}
