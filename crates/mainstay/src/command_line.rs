//! The command line: what can be asked, and the exit codes 0 done, 1 failed or no, 2 wrong command
//! line or configuration.

use crate::stdout::say;
use crate::{check, demo, explain, faults, keys, load, node, simulate, start, top};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Wrong command line or configuration.
pub const WRONG: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  mainstay                                    start with what the environment offers
  DEEPSEEK_API_KEY=… DASHSCOPE_API_KEY=… mainstay
                                              one URL that survives the loss of either
  mainstay serve --config mainstay.toml       start from a file
  mainstay serve --config F --check           look at a file without starting
  mainstay check --config F                   what the next outage would do to you
  mainstay explain req-…                      why a request went where it went
  mainstay simulate S01 --report S01.html     rehearse an outage, and look at it

Exit codes: 0 done, 1 it failed or the answer is no, 2 wrong command line or configuration.";

/// An LLM gateway that stays up: one OpenAI-compatible URL in front of several providers, which
/// goes on elsewhere when one of them fails, in the middle of an answer too.
#[derive(Debug, Parser)]
#[command(name = "mainstay", version, after_help = EXAMPLES, max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server (also what `mainstay` alone does)
    Serve(Serve),
    /// Tell how one request was answered: each attempt, why it ended, what came next
    Explain(Explain),
    /// A fleet on this machine, a steady load, and things to kill
    Demo(Demo),
    /// Watch a running gateway: sites, tiers, and what is decided
    Top(Top),
    /// Audit the configuration: what each loss would do to you, and the line to change
    Check(Check),
    /// Rehearse outages: the real decisions, in virtual time, with a verdict
    Simulate(Simulate),
    /// Send requests as clients do, good and bad ones, and judge every answer
    Load(Load),
    /// A provider that fails on demand, for trying what happens
    Faults {
        #[command(subcommand)]
        command: Faults,
    },
    /// Keys of those who may call
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// Nodes of one fleet, and their certificates
    Node {
        #[command(subcommand)]
        command: Node,
    },
}

/// Options of `mainstay serve`.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Any single value of the file can come from the environment, which wins over the file:
  MAINSTAY__LISTEN__API=127.0.0.1:9000 MAINSTAY__LIMITS__REQUEST=2m mainstay serve

Every key is explained in mainstay.example.toml.")]
pub struct Serve {
    /// Configuration file; without one, provider keys in the environment become sites
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address of the API, instead of the file's [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<String>,
    /// Check the configuration, print what would start, and exit: 0 if it is right, 2 if not
    #[arg(long)]
    pub check: bool,
    /// End when standard input does: for whoever starts this as its child
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

/// Options of `mainstay check`.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  mainstay check                              what provider keys in the environment survive
  mainstay check --config mainstay.toml       the same for a file
  mainstay check --config F --probe           ask the sites as well
  mainstay check --config F --json            for a pipeline

Exit codes: 0 no single loss takes a model down, 1 one does, 2 the configuration is wrong.")]
pub struct Check {
    /// Configuration file; without one, provider keys in the environment become sites
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Ask each site for its models with its key, and compare names and addresses
    #[arg(long)]
    pub probe: bool,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
    /// Leave out the forecast, which plays each loss in virtual time
    #[arg(long)]
    pub no_forecast: bool,
}

/// Options of `mainstay explain`.
#[derive(Args, Debug)]
#[command(after_help = "\
The request's id is in the response header x-mainstay-request-id.

Example:
  mainstay explain req-0123456789abcdef --json")]
pub struct Explain {
    /// The request's id
    #[arg(value_name = "REQUEST_ID")]
    pub request: String,
    /// The running server's admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Options of `mainstay simulate`.
#[derive(Args, Debug, Default)]
#[command(after_help = "\
Examples:
  mainstay simulate                           list the scenarios
  mainstay simulate S01                       play one with its seeds, beside the naive baseline
  mainstay simulate S01 --seed 7 --report S01.html
                                              one run, and a page that shows it
  mainstay simulate S01/sweep                 its sweep, and a map of what stays down
  mainstay simulate sweeps --seeds 30         all sweeps, ten thousand runs
  mainstay simulate my.toml scenarios/        files, and all files of a directory
  mainstay simulate --config mainstay.toml --lose fra
                                              what would happen to us without that site

Exit codes: 0 all passed, 1 some failed, 2 a file or the command line is wrong.")]
pub struct Simulate {
    /// Names such as S01 or S01/sweep, scenario files, or directories of them
    #[arg(value_name = "SCENARIO")]
    pub scenarios: Vec<String>,
    /// Play with the sites and tiers of this configuration instead of the standard bench
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How many seeds, 1, 2, 3 …, instead of the scenario's own number
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub seeds: Option<u32>,
    /// Only this seed
    #[arg(long, value_name = "N", conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Who decides; both where the scenario compares them
    #[arg(long, value_enum, value_name = "WHO")]
    pub policy: Option<Decider>,
    /// One JSON document on stdout: the run, or all of them
    #[arg(long)]
    pub json: bool,
    /// Write a page that shows the runs, for any browser, without a network
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Runs at once [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Lose this site at peak load, instead of a scenario
    #[arg(long, value_name = "SITE", conflicts_with = "scenarios")]
    pub lose: Option<String>,
    /// When it is lost
    #[arg(long, value_name = "TIME", default_value = "60s", requires = "lose")]
    pub at: String,
    /// For how long
    #[arg(long = "for", value_name = "TIME", default_value = "2m", requires = "lose")]
    pub lasts: String,
    /// Peak load, as a share of what the sites carry together
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, requires = "lose")]
    pub load: f64,
}

/// As many processes of a kind as a key can name.
fn few() -> clap::builder::RangedI64ValueParser<u8> {
    clap::value_parser!(u8).range(1..=9)
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
    /// How long; without a script until you quit
    #[arg(long = "for", value_name = "TIME")]
    pub lasts: Option<String>,
    /// Tokens of a prompt, about
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub prompt_tokens: u32,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub max_tokens: u32,
    /// Tokens a second that a site is taken to write
    #[arg(long, value_name = "N", default_value_t = 300)]
    pub tokens_per_second: u32,
    /// Answers a site can have open at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub streams: u32,
    /// Keep configuration, certificates and logs in this directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
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
            lasts: String::from("30s"),
            trace: None,
            speed: 1.0,
            prompt_tokens: 50,
            max_tokens: 64,
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

/// Who decides in a simulated run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Decider {
    /// The protocol
    Mainstay,
    /// Health checks and a fixed chain, as usual
    Naive,
}

#[derive(Debug, Subcommand)]
enum Faults {
    /// Serve: the model's name in a request chooses how it fails; `ok` answers properly
    Serve(FaultServer),
    /// List the names of models and what each does
    List,
}

/// Options of `mainstay faults serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mainstay faults serve --listen 127.0.0.1:9100
  OPENAI_API_KEY=any OPENAI_BASE_URL=http://127.0.0.1:9100/v1 mainstay")]
struct FaultServer {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9100")]
    listen: std::net::SocketAddr,
    /// full: waits of tens of seconds; fast: waits of seconds
    #[arg(long, value_enum, default_value_t = Pace::Fast)]
    profile: Pace,
    /// Print the addresses as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Pace {
    Full,
    Fast,
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make a key: it is shown once, the file keeps only its hash
    Create(CreateKey),
}

/// Options of `mainstay keys create`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  mainstay keys create --name acme-prod --tier enterprise >> mainstay.toml
  (the key itself goes to the terminal, the [[key]] lines to the file)")]
pub struct CreateKey {
    /// Its name in logs and usage
    #[arg(long, default_value = "key-1")]
    pub name: String,
    /// Its service class: enterprise, pro, free, batch, or one of your file
    #[arg(long, default_value = "pro")]
    pub tier: String,
}

#[derive(Debug, Subcommand)]
enum Node {
    /// Make a node's certificate; the first call also makes the authority that signs them all
    Init(InitNode),
}

/// Options of `mainstay node init`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  mainstay node init --name edge-1 --address 10.0.0.1:8443
                                              the authority and the first node, in ./edge-1
  mainstay node init --name edge-2 --address 10.0.0.2:8443 --ca edge-1
                                              a second node that the first one trusts

The lines for the configuration files go to stdout. See docs/guide/nodes.md.")]
pub struct InitNode {
    /// The node's name: a-z, 0-9 and -, as one label of DNS
    #[arg(long)]
    pub name: String,
    /// Where the files go [default: a directory called like the node]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Directory with the authority's ca.pem and ca.key, from the first `node init`
    #[arg(long, value_name = "DIR")]
    pub ca: Option<PathBuf>,
    /// Where other nodes reach it, for the lines of the configuration [default: NAME:8443]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// How long the certificate is good for; it is no means to remove a node
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub days: u32,
    /// Replace the node's certificate and key; never the authority
    #[arg(long)]
    pub force: bool,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Runs the program on the arguments of this process.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(told) => {
            // Help and version come this way too, and are no error.
            if !told.use_stderr() {
                let _ = told.print();
                return ExitCode::SUCCESS;
            }
            eprintln!("mainstay: {}", one_line(&told.to_string()));
            return ExitCode::from(WRONG);
        }
    };
    match line.command {
        None => start::serve(&Serve::default()),
        Some(Command::Serve(options)) => start::serve(&options),
        Some(Command::Explain(options)) => explain::explain(&options),
        Some(Command::Check(options)) => check::check(&options),
        Some(Command::Simulate(options)) => simulate::simulate(&options),
        Some(Command::Load(options)) => load::load(&options),
        Some(Command::Top(options)) => top::top(&options),
        Some(Command::Demo(options)) => demo::demo(&options),
        Some(Command::Faults { command: Faults::Serve(options) }) => faults_serve(&options),
        Some(Command::Faults { command: Faults::List }) => {
            say(&faults::list());
            ExitCode::SUCCESS
        }
        Some(Command::Keys { command: Keys::Create(options) }) => keys::create(&options),
        Some(Command::Node { command: Node::Init(options) }) => node::init(&options),
    }
}

fn faults_serve(options: &FaultServer) -> ExitCode {
    let profile = match options.profile {
        Pace::Full => faults::Profile::Full,
        Pace::Fast => faults::Profile::Fast,
    };
    let options = faults::Options { listen: options.listen, profile, json: options.json };
    let served = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(faults::run(options)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "mainstay: cannot serve on {}: {error}; choose another address with --listen",
                options.listen
            );
            ExitCode::FAILURE
        }
    }
}

/// What clap says over several lines, in one: the error, its tips, and where to read more.
fn one_line(told: &str) -> String {
    let lines = told.lines().map(str::trim).filter(|line| !line.is_empty());
    let parts: Vec<&str> = lines
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .map(|line| line.trim_start_matches("error: ").trim_start_matches("tip: "))
        .collect();
    match parts.is_empty() {
        true => String::from("wrong command line; see mainstay --help"),
        false => format!("{}; see mainstay --help", parts.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_wrong_command_line_is_told_in_one_line() {
        let told = CommandLine::try_parse_from(["mainstay", "keyz"]).unwrap_err().to_string();
        assert_eq!(
            one_line(&told),
            "unrecognized subcommand 'keyz'; a similar subcommand exists: 'keys'; \
             see mainstay --help"
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
