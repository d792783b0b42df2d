//! The command line: what can be asked, and the exit codes 0 done, 1 failed or no, 2 wrong command
//! line or configuration.

mod drill;
mod fleet;
mod incident;
mod keys;
mod model;
mod usage;

use crate::orders::{self, What};
use crate::stdout::say;
use crate::{
    check, demo, drill as drills, explain, faults, incident as incidents, keys as callers, load,
    model as models, node, policy, simulate, snapshot, start, top, usage as used,
};
use clap::{Args, Parser, Subcommand};
pub use drill::{Drill, DrillFault};
pub use fleet::{By, Demo, Given, Load, Policy, Publish, Taste, Top};
pub use incident::{AtPage, Export, Incident, Maintenance, Status};
pub use keys::{ChangeKey, CreateKey, Keys};
pub use model::{BenchModel, Engine, Model, ShowModel};
use std::path::PathBuf;
use std::process::ExitCode;
pub use usage::{LedgerPlace, Reconcile, Span, Usage, UsageBy, UsageCommand};

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
    /// No new work at a site; what runs there is finished, or moves
    Drain {
        /// The site
        site: String,
        #[command(flatten)]
        given: Given,
    },
    /// End an order
    Undrain {
        /// Its name, from `mainstay orders`
        order: String,
        #[command(flatten)]
        given: Given,
    },
    /// No new work at a site; what runs there moves at once
    Kill {
        /// The site
        site: String,
        #[command(flatten)]
        given: Given,
    },
    /// Not more than this much of a site
    Cap {
        /// The site
        site: String,
        /// From 0 to 100
        #[arg(value_parser = clap::value_parser!(u8).range(0..=100))]
        percent: u8,
        #[command(flatten)]
        given: Given,
    },
    /// Nothing changes by itself at a site, or at all of them
    Freeze {
        /// The site, or all
        site: String,
        #[command(flatten)]
        given: Given,
    },
    /// Tell the public of an outage: list, open, update, report
    Incident {
        #[command(subcommand)]
        command: Incident,
    },
    /// The public status page as plain files: export
    Status {
        #[command(subcommand)]
        command: Status,
    },
    /// Tell the public of announced work: list, announce, say, end
    Maintenance {
        #[command(subcommand)]
        command: Maintenance,
    },
    /// List the orders in force
    Orders {
        /// Any node's admin listener
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
        admin: String,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Publish generations of policy, and see which one is in force
    Policy {
        #[command(subcommand)]
        command: Policy,
    },
    /// Try a policy in this process, which may die of it
    #[command(hide = true)]
    Taste(Taste),
    /// Run a model for the process that started this one
    #[command(hide = true)]
    Engine(Engine),
    /// Watch a running gateway: sites, tiers, and what is decided
    Top(Top),
    /// Audit the configuration: what each loss would do to you, and the line to change
    Check(Check),
    /// Break a site on purpose for part of the traffic, within bounds, and report what came of it
    Drill(Drill),
    /// Rehearse outages: the real decisions, in virtual time, with a verdict
    Simulate(Simulate),
    /// Send requests as clients do, good and bad ones, and judge every answer
    Load(Load),
    /// A provider that fails on demand, for trying what happens
    Faults {
        #[command(subcommand)]
        command: Faults,
    },
    /// What a model takes, and how fast it is here
    Model {
        #[command(subcommand)]
        command: Model,
    },
    /// Keys of those who may call
    Keys {
        #[command(subcommand)]
        command: Keys,
    },
    /// What was asked, given and owed: sums of the ledger
    Usage(Usage),
    /// Nodes of one fleet, and their certificates
    Node {
        #[command(subcommand)]
        command: Node,
    },
}

/// Options of `mainstay serve`.
#[derive(Args, Clone, Debug, Default)]
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
  mainstay simulate --trace conversation --policy late,lmetric,rr --report carried.html
                                              what ways to schedule workers carry of a trace

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
    /// Who decides: mainstay or naive, both where the scenario compares them; for a trace a list
    /// such as late,lmetric,rr, or all
    #[arg(long, value_name = "WHO")]
    pub policy: Option<String>,
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
    /// Play this trace on workers of one site, instead of a scenario: conversation, synthetic,
    /// azure-conv, azure-code, arxiv, servegen-MODEL, or a file like theirs
    #[arg(long, value_name = "NAME|FILE", conflicts_with_all = ["scenarios", "lose", "config"])]
    pub trace: Option<String>,
    /// Workers, each 8 H100 with a 70B model
    #[arg(long, value_name = "N", default_value_t = 16, requires = "trace",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub workers: u16,
    /// How many times as fast as the trace to look at each policy
    #[arg(long, value_name = "LIST", default_value = "2,4,6,8,10,12", requires = "trace")]
    pub speeds: String,
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
        Some(Command::Drill(options)) => drills::drill(&options),
        Some(Command::Simulate(options)) => simulate::simulate(&options),
        Some(Command::Load(options)) => load::load(&options),
        Some(Command::Drain { site, given }) => orders::give(&What::Drain(site), &given),
        Some(Command::Undrain { order, given }) => orders::give(&What::Undrain(order), &given),
        Some(Command::Kill { site, given }) => orders::give(&What::Kill(site), &given),
        Some(Command::Cap { site, percent, given }) => {
            orders::give(&What::Cap(site, percent), &given)
        }
        Some(Command::Freeze { site, given }) => {
            orders::give(&What::Freeze(Some(site).filter(|site| site != "all")), &given)
        }
        Some(Command::Incident { command }) => incidents::incident(&command),
        Some(Command::Maintenance { command }) => incidents::work::maintenance(&command),
        Some(Command::Status { command: Status::Export(options) }) => snapshot::export(&options),
        Some(Command::Orders { admin, json }) => orders::list(&admin, json),
        Some(Command::Policy { command }) => policy::policy(&command),
        Some(Command::Taste(options)) => policy::taste::taste(&options),
        Some(Command::Engine(options)) => models::apart::engine(&options),
        Some(Command::Top(options)) => top::top(&options),
        Some(Command::Demo(options)) => demo::demo(&options),
        Some(Command::Faults { command: Faults::Serve(options) }) => faults_serve(&options),
        Some(Command::Faults { command: Faults::List }) => {
            say(&faults::list());
            ExitCode::SUCCESS
        }
        Some(Command::Model { command }) => models::model(&command),
        Some(Command::Keys { command }) => callers::keys(command),
        Some(Command::Usage(options)) => used::usage(&options),
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
    fn every_command_that_the_built_in_model_quotes_is_one() {
        let guide: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(mainstay_engine::builtin::guide()).expect("JSON");
        let quoted = guide.iter().filter(|(slot, _)| slot.starts_with("[run:"));
        let texts = quoted.filter_map(|(_, text)| text.as_str());
        let commands = texts.filter_map(|text| Some(&text[text.find("mainstay")?..]));
        let commands: Vec<&str> = commands.filter(|text| text.starts_with("mainstay")).collect();
        assert!(commands.len() > 10);
        for command in commands {
            let typed = command.split(" >> ").next().unwrap_or(command);
            CommandLine::try_parse_from(typed.split(' ')).unwrap_or_else(|error| {
                panic!("{command}: {error}");
            });
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
