//! Options of `mainstay keys`.

use clap::{Args, Subcommand};

/// `mainstay keys …`.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key: it is shown once, and only its hash is kept
    Create(Box<CreateKey>),
    /// List the keys that a gateway knows; never a key itself
    List {
        /// Any gateway's admin listener
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
        admin: String,
        /// One JSON document on stdout
        #[arg(long)]
        json: bool,
    },
    /// Let a key in never again, at every gateway
    Revoke(ChangeKey),
    /// Give a key another secret; the old one is let in for a while
    Rotate {
        #[command(flatten)]
        change: ChangeKey,
        /// How long the old one is let in
        #[arg(long, value_name = "TIME", default_value = "24h")]
        grace: String,
    },
}

/// Options of `mainstay keys create`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "\
Examples:
  mainstay keys create --name acme-prod --tier enterprise >> mainstay.toml
                                              the key itself goes to the terminal, the [[key]]
                                              lines to the file
  mainstay keys create --name acme-prod --tier pro --admin http://127.0.0.1:8081
                                              at once, at every gateway, without any file

See docs/guide/keys.md.")]
pub struct CreateKey {
    /// Its name in logs and usage
    #[arg(long, default_value = "key-1")]
    pub name: String,
    /// Its service class: enterprise, pro, free, batch, or one of your file
    #[arg(long, default_value = "pro")]
    pub tier: String,
    /// Whose it is [default: its name]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// A model that it may ask for; once for each [default: all]
    #[arg(long = "model", value_name = "NAME")]
    pub models: Vec<String>,
    /// Where its requests may come from, e.g. 10.0.0.0/8; once for each [default: anywhere]
    #[arg(long = "network", value_name = "NETWORK")]
    pub networks: Vec<String>,
    /// The date from which it is not let in any more, e.g. 2027-01-31
    #[arg(long, value_name = "DATE")]
    pub expires: Option<String>,
    /// Instead of what its tier says
    #[arg(long, value_name = "N")]
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers
    #[arg(long, value_name = "N")]
    pub tokens_per_minute: Option<u64>,
    /// Cost units, which weigh tokens by the work that they are
    #[arg(long, value_name = "N")]
    pub cost_units_per_minute: Option<u64>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    pub concurrency: Option<u32>,
    /// Money that it may use a day, in the currency of the prices
    #[arg(long, value_name = "MONEY")]
    pub budget_per_day: Option<f64>,
    /// And a month
    #[arg(long, value_name = "MONEY")]
    pub budget_per_month: Option<f64>,
    /// The admin listener of a running gateway, which keeps the key and tells all others
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Who makes it [default: the USER of the environment, or `operator`]
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// One JSON document on stdout; it holds the key
    #[arg(long, requires = "admin")]
    pub json: bool,
}

/// Which key is meant, and where it is changed.
#[derive(Args, Clone, Debug)]
pub struct ChangeKey {
    /// Its name, its id, or what the key begins with: see `mainstay keys list`
    #[arg(value_name = "KEY")]
    pub key: String,
    /// Any gateway's admin listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// Who decides it [default: the USER of the environment, or `operator`]
    #[arg(long, value_name = "NAME")]
    pub author: Option<String>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}
