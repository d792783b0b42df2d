//! Options of `mainstay drill`.

use clap::Args;
use std::path::PathBuf;

/// How attempts are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum DrillFault {
    /// Connections are refused
    Down,
    /// They are accepted, and nothing ever comes
    Blackhole,
    /// All that comes takes --factor times as long
    Slow,
    /// 503s
    Errors,
    /// Streams are cut after --after-tokens
    Cut,
}

/// Options of `mainstay drill`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  mainstay drill --site fra --fault blackhole          5 % of what goes there, for 2 minutes
  mainstay drill --site fra --fault down --percent 100 --config mainstay.toml --report drill.md
                                                       all of it, beside what check forecasts
  mainstay drill --site A --fault slow --admin http://10.0.0.1:8081 --admin http://10.0.0.2:8081

It stops by itself when a tier falls below its floor (95 % answered well of tiers that were promised
a fifth of the capacity or more, 50 % of others with a floor, 0 of the rest), when another site goes
out, when a gateway doubts itself, and at its end, even if this command is gone by then.

Exit codes: 0 it held, 1 a floor broke or the drill was refused or stopped, 2 the command line is
wrong.")]
pub struct Drill {
    /// The site
    #[arg(long, value_name = "SITE")]
    pub site: String,
    /// How it breaks
    #[arg(long, value_enum, value_name = "FAULT")]
    pub fault: DrillFault,
    /// Share of the requests sent there that find it broken
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u8).range(1..=100))]
    pub percent: u8,
    /// For how long, at most 10 minutes
    #[arg(long = "for", value_name = "TIME", default_value = "2m")]
    pub lasts: String,
    /// For how long it is only counted how things are, before anything is broken
    #[arg(long, value_name = "TIME", default_value = "10s")]
    pub before: String,
    /// Not more of all attempts than this share is broken [default: 34]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub blast_cap: Option<u8>,
    /// Below this share of good answers of a tier it stops; once for each tier
    #[arg(long = "floor", value_name = "TIER=N")]
    pub floors: Vec<String>,
    /// With slow: how many times as slow [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub factor: Option<u32>,
    /// With cut: after so many tokens [default: 5]
    #[arg(long, value_name = "N")]
    pub after_tokens: Option<u32>,
    /// The gateways' configuration: for the forecast, and for the admin listener
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A gateway's admin listener, once for each gateway [default: that of --config, else
    /// http://127.0.0.1:8081]
    #[arg(long, value_name = "URL")]
    pub admin: Vec<String>,
    /// Write the report here instead of to stdout
    #[arg(long, value_name = "FILE.md")]
    pub report: Option<PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}
