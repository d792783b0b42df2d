//! Options of `mainstay incident`.

use clap::{Args, Subcommand};

/// Where the status page is asked.
#[derive(Args, Clone, Debug)]
pub struct AtPage {
    /// The admin listener of the node that shows the status page
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    pub admin: String,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// `mainstay status …`.
#[derive(Debug, Subcommand)]
pub enum Status {
    /// Write the page as plain files, for a host that runs nothing
    Export(Export),
}

/// Options of `mainstay status export`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  mainstay status export /srv/status --from http://127.0.0.1:8082
  mainstay status export /srv/status --config mainstay.toml

With --config it shows what that node has kept in its data_dir, which is without any state: nobody
is asked. Each file takes the place of the one before at once.")]
pub struct Export {
    /// Where the files go
    #[arg(value_name = "DIR")]
    pub directory: std::path::PathBuf,
    /// A running page
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    pub from: Option<String>,
    /// The configuration of a node that shows the page
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub config: Option<std::path::PathBuf>,
    /// One JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// `mainstay incident …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  mainstay incident list
  mainstay incident open \"Wrong answers\" --component model/chat --text \"We look into it.\"
  mainstay incident update 3 --stage identified --text \"A site lost its network.\"
  mainstay incident update 3 --stage resolved --text \"The network is back.\"
  mainstay incident report 3 > report.md
  mainstay incident report 3 --file report.md

What fails opens an incident by itself. It is not resolved while its components still fail, except
by --force with a word why. Give the same command at each node that shows the page.")]
pub enum Incident {
    /// List the incidents that are kept
    List {
        #[command(flatten)]
        at: AtPage,
    },
    /// Say that there is one
    Open {
        /// What it is called
        title: String,
        /// What fails: api, model/NAME or site/NAME; may be given several times
        #[arg(long, value_name = "COMPONENT", default_value = "api")]
        component: Vec<String>,
        /// What is said of it
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        at: AtPage,
    },
    /// Say how one goes
    Update {
        /// Its number, from `mainstay incident list`
        id: u32,
        /// How far it is
        #[arg(long, value_parser = ["investigating", "identified", "monitoring", "resolved"])]
        stage: String,
        /// What is said
        #[arg(long, default_value = "")]
        text: String,
        /// It is resolved though its components still fail; needs a word why
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: AtPage,
    },
    /// Print the report after one, a draft at first; with --file make it public
    Report {
        /// Its number
        id: u32,
        /// The report, edited, becomes public; an empty file takes it back
        #[arg(long, value_name = "FILE")]
        file: Option<std::path::PathBuf>,
        #[command(flatten)]
        at: AtPage,
    },
}

/// `mainstay maintenance …`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  mainstay maintenance announce \"New racks\" --component site/north \\
    --from 2027-01-31T02:00:00Z --for 4h --text \"No requests should fail.\"
  mainstay maintenance list
  mainstay maintenance say 2 --text \"Half of it is done.\"
  mainstay maintenance end 2

While a window lasts its components are shown as under maintenance, and open no incident. Ended
before it begins it is taken back. Give the same command at each node that shows the page.")]
pub enum Maintenance {
    /// List the windows that are kept
    List {
        #[command(flatten)]
        at: AtPage,
    },
    /// Announce one
    Announce {
        /// What is done
        title: String,
        /// What it takes out: api, model/NAME or site/NAME; may be given several times
        #[arg(long, value_name = "COMPONENT", required = true)]
        component: Vec<String>,
        /// When it begins, in UTC, e.g. 2027-01-31T02:00:00Z; now if it is not said
        #[arg(long, value_name = "DATE")]
        from: Option<String>,
        /// When it ends
        #[arg(long, value_name = "DATE", required_unless_present = "lasts")]
        until: Option<String>,
        /// How long it lasts, e.g. 4h
        #[arg(long = "for", value_name = "TIME", conflicts_with = "until")]
        lasts: Option<String>,
        /// What is said of it
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        at: AtPage,
    },
    /// Say how one goes
    Say {
        /// Its number, from `mainstay maintenance list`
        id: u32,
        /// What is said
        #[arg(long)]
        text: String,
        #[command(flatten)]
        at: AtPage,
    },
    /// End one now, or take it back before it begins
    End {
        /// Its number
        id: u32,
        /// What is said
        #[arg(long, default_value = "")]
        text: String,
        #[command(flatten)]
        at: AtPage,
    },
}
