//! Options of the commands about a running fleet: orders, policy, the demo, the live view, load.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// As many processes of a kind as a key can name.
fn few() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=9)
}

/// How an order is given.
#[derive(Args, Debug)]
pub struct Given {
    /// Why; kept in the log of orders
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// How long it lasts, at most a day
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    pub lasts: String,
    /// Who gives it [default: the USER of the environment, or `operator`]
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// It is meant, though it takes more than 34 % of the capacity out
    #[arg(long)]
    pub confirm: bool,
    /// Any node's admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  mainstay demo                               three sites, two gateways; keys kill and mend them
  mainstay demo --script scenarios/demo/site-lost.toml
                                              the same outage, predicted and real, side by side

Every process listens on loopback only, and ends with the demo.
Exit codes: 0 all good, or refused with a date; 1 some requests failed; 2 the script is wrong.")]
pub struct Demo {
    /// A scenario whose faults are done to the processes, instead of keys
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Sites, each with the embedded engine
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = few())]
    pub sites: u8,
    /// Gateways
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = few())]
    pub gateways: u8,
    /// Requests a second
    #[arg(long, value_name = "N", default_value_t = 4.0)]
    pub rate: f64,
    /// Keep so many answers open instead: whoever has one asks for the next
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "rate")]
    pub keep: u32,
    /// How long; without a script until you quit
    #[arg(long = "for", value_name = "TIME")]
    pub lasts: Option<String>,
    /// Tokens of a prompt, about
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub prompt_tokens: u32,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_tokens: u32,
    /// Tokens a second that a site writes [default: as measured when it starts; to rehearse, 300]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens_per_second: Option<u32>,
    /// Answers a site can have open at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub streams: u32,
    /// What sites compute with: `builtin`, or `rehearsal`, which writes numbers at a steady pace
    #[arg(long, value_name = "MODEL", default_value = "builtin",
          value_parser = ["builtin", "rehearsal"])]
    pub engine: String,
    /// Play the script so often, each time with a fresh fleet, and judge what each fault cost
    #[arg(long, value_name = "N", requires = "script",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runs: Option<u16>,
    /// Give each process a network of its own, whose links a script can cut
    #[arg(long, requires = "script")]
    pub namespaces: bool,
    /// Keep configuration, certificates and logs in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// `mainstay policy …`.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Publish a generation at the node that is the source; others take it in, in turn
    Publish(Publish),
    /// What is in force at a node, what waits and for what, what is good, what is in quarantine
    Show {
        /// Any node's admin listener
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
        admin: String,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Publish the content of an earlier generation again, as a new one
    Rollback {
        /// Its number [default: the newest with another content]
        generation: Option<u64>,
        #[command(flatten)]
        by: By,
    },
}

/// Options of `mainstay policy publish`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mainstay policy publish policy.toml --reason \"fra gets more\"
  mainstay policy show                        what it changes, and what it waits for
  mainstay policy publish policy.toml --reason \"fra gets more\" --confirm
                                              that change is meant

See docs/guide/policy.md for what a policy may say.")]
pub struct Publish {
    /// The policy: sites, models, tiers, keys, limits
    pub file: PathBuf,
    #[command(flatten)]
    pub by: By,
    /// The change that the newest generation waits for is meant
    #[arg(long)]
    pub confirm: bool,
    /// Do not wait for the confirmation; limits, tasting and turns stay
    #[arg(long, conflicts_with = "confirm")]
    pub force: bool,
}

/// By whom a generation is published, and where.
#[derive(Args, Debug)]
pub struct By {
    /// Why; every node keeps it
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Who publishes [default: the USER of the environment, or `operator`]
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// The admin listener of the node that is the source
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay taste`, which a node starts by itself.
#[derive(Args, Debug)]
pub struct Taste {
    /// The node's own file
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// Most memory, in bytes
    #[arg(long)]
    pub memory: u64,
    /// Most seconds
    #[arg(long)]
    pub seconds: u64,
}

/// Options of `mainstay top`.
#[derive(Args, Debug)]
pub struct Top {
    /// The running server's admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// Print one look and end, as without a terminal
    #[arg(long)]
    pub once: bool,
    /// Print one look as one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay load`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  mainstay load --rate 5 --for 30s
  mainstay load --url http://10.0.0.1:8080 --url http://10.0.0.2:8080 \\
      --tier pro=$PRO_KEY@30 --tier free=$FREE_KEY@70 --rate 50 --for 5m --json
  mainstay load --trace azure-conv --speed 0.1 --for 10m

An answer is good if its first token comes within --patience and no later gap exceeds --gap.
Exit codes: 0 all good, or refused with a date; 1 some failed; 2 the command line is wrong.")]
pub struct Load {
    /// Address of the service; several are several doors to the same one
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// More certificate authorities to trust (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The model that is asked for
    #[arg(long, value_name = "NAME", default_value = "chat")]
    pub model: String,
    /// A tier's clients, their key and their part of all requests; once for each
    #[arg(long = "tier", value_name = "NAME=KEY[@SHARE]")]
    pub tiers: Vec<String>,
    /// Requests a second, which come by chance
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    pub rate: f64,
    /// Keep so many answers open instead: whoever has one asks for the next
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["rate", "trace"])]
    pub keep: u32,
    /// How long requests are sent
    #[arg(long = "for", value_name = "TIME", default_value = "30s")]
    pub lasts: String,
    /// Play the arrivals and lengths of a trace instead: conversation, azure-conv, a file, …
    #[arg(long, value_name = "NAME")]
    pub trace: Option<String>,
    /// How many times as fast the trace is played
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, requires = "trace")]
    pub speed: f64,
    /// Tokens of a prompt, about
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub prompt_tokens: u32,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_tokens: u32,
    /// Ask that answers end before this text, however many tokens are allowed
    #[arg(long, value_name = "TEXT")]
    pub stop: Option<String>,
    /// Different prompts; answers to the same one are compared
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub prompts: u32,
    /// How long a client waits for the first token
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub patience: String,
    /// And for each further one
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub gap: String,
    /// How often a client's library asks again
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub retries: u32,
    /// Share of clients that read slowly
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub slow: f64,
    /// Share of clients that leave in the middle
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub hang_up: f64,
    /// Ask for whole answers instead of streams
    #[arg(long)]
    pub plain: bool,
    /// Requests open at once; more are not sent, and counted
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub open_max: u32,
    /// Repeats the same arrivals
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

impl Default for Load {
    fn default() -> Load {
        Load {
            urls: vec![String::from("http://127.0.0.1:8080")],
            ca_file: None,
            model: String::from("chat"),
            tiers: Vec::new(),
            rate: 1.0,
            keep: 0,
            lasts: String::from("30s"),
            trace: None,
            speed: 1.0,
            prompt_tokens: 50,
            max_tokens: 64,
            stop: None,
            prompts: 16,
            patience: String::from("10s"),
            gap: String::from("5s"),
            retries: 2,
            slow: 0.0,
            hang_up: 0.0,
            plain: false,
            open_max: 2000,
            seed: 1,
            json: false,
        }
    }
}
