//! Options of `mainstay usage`.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What is summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum UsageBy {
    /// Keys
    Key,
    /// Tenants
    Tenant,
    /// Tiers
    Tier,
    /// Models that were asked for
    Model,
    /// Sites
    Site,
    /// Days of UTC
    Day,
    /// Hours of UTC
    Hour,
}

/// Options of `mainstay usage`.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  mainstay usage --config mainstay.toml                this month, all of it
  mainstay usage --config F --by tenant --from 2026-11-01 --to 2026-11-30 --csv
  mainstay usage --ledger /var/lib/mainstay/ledger.db --by hour --json
  mainstay usage reconcile invoice.csv --config F      a provider's invoice beside our own costs

Amounts are in the currency of your price lists. See docs/guide/usage.md.
Exit codes: 0 done, 1 the ledger cannot be read, 2 the command line is wrong."
)]
pub struct Usage {
    #[command(subcommand)]
    pub command: Option<UsageCommand>,
    /// What is summed up together [default: all of it]
    #[arg(long, value_enum)]
    pub by: Option<UsageBy>,
    #[command(flatten)]
    pub span: Span,
    /// Comma-separated values on stdout
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: LedgerPlace,
}

/// What of it is asked.
#[derive(Debug, Clone, Subcommand)]
pub enum UsageCommand {
    /// Compare a provider's invoice with what our attempts should have cost
    Reconcile(Reconcile),
}

/// Options of `mainstay usage reconcile`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
The file has a first line with the names of its columns: site, day and cost, and model if you like;
others are left alone. Days are written 2026-11-30, costs 12.34.

Exit codes: 0 all within the tolerance, 1 not, 2 the command line or the file is wrong.")]
pub struct Reconcile {
    /// The invoice
    #[arg(value_name = "FILE.csv")]
    pub file: PathBuf,
    /// Differences up to so many hundredths are none
    #[arg(long, value_name = "PERCENT", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub tolerance: u8,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: LedgerPlace,
}

/// A span of days.
#[derive(Args, Clone, Debug, Default)]
pub struct Span {
    /// The first day, or day and hour, of UTC: 2026-11-01 or 2026-11-01T08:00 [default: the first
    /// of this month]
    #[arg(long, value_name = "DATE")]
    pub from: Option<String>,
    /// The last day, all of it; or the hour before which it ends [default: now]
    #[arg(long, value_name = "DATE")]
    pub to: Option<String>,
}

/// Which ledger is asked.
#[derive(Args, Clone, Debug, Default)]
pub struct LedgerPlace {
    /// The configuration file whose ledger it is
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The ledger itself: a file, or the URL of a PostgreSQL
    #[arg(long, value_name = "PATH|URL", conflicts_with = "config")]
    pub ledger: Option<String>,
}
