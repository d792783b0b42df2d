//! The ledger: what was asked, tried, given and owed, one row for each attempt and one billed row
//! for each request.
//!
//! Rows are written behind requests. A request's own task puts its rows into the journal, which is
//! memory of the system that outlives this process, and into a queue; it waits for nothing. One
//! thread moves what is queued into SQLite, and another, where the operator has a PostgreSQL, from
//! there on. What is gone, full or slow holds up no request: rows wait on disk, or in memory where
//! the disk is full, those of higher tiers the longest.

mod flow;
mod journal;
mod postgres;
mod purse;
mod queue;
pub mod row;
mod secure;
mod store;
mod tariff;
pub mod usage;
mod writer;

pub use purse::{Notice, Purse, TOLD_EVERY};
pub use tariff::{BudgetLine, Payer, Stop, Tariff, Terms, WARN};

use crate::gateway::auth::Caller;
use crate::letters::Letters;
use crate::places::Places;
use crate::setup::Secret;
use crate::telemetry::Telemetry;
use journal::Journal;
use mainstay_core::plan::Moment;
use queue::Queue;
use row::{Entry, Opening};
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The end waits so long for what is still queued.
const END_TIME: Duration = Duration::from_secs(5);

/// Where rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeping {
    /// The SQLite file.
    pub file: PathBuf,
    /// The PostgreSQL that rows flow on to, as a URL with its password.
    pub postgres: Option<Secret>,
    /// This node's name in rows: request ids are its own.
    pub node: String,
    /// Rows older than so many days are taken out of the file.
    pub days: Option<u32>,
}

/// The ledger of this process. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

/// What requests and the ledger's threads share.
struct Shared {
    keeping: Keeping,
    journal: Journal,
    queue: Mutex<Queue>,
    /// Wakes the writer.
    wake: Condvar,
    ending: AtomicBool,
    purse: Purse,
    letters: Letters,
    counts: Counts,
    /// How far PostgreSQL has taken over our file, as we last knew.
    reached: AtomicI64,
    telemetry: Arc<Telemetry>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What operators see of it.
#[derive(Default)]
struct Counts {
    /// Requests written to SQLite.
    written: AtomicU64,
    /// Requests whose rows were dropped because the queue was full.
    dropped: AtomicU64,
    /// Rows that the journal had no room for.
    unjournaled: AtomicU64,
    /// Whether the last commit failed.
    failing: AtomicBool,
    /// Requests that PostgreSQL does not have yet, and the age of the oldest in seconds.
    unsynced: AtomicU64,
    oldest: AtomicU64,
}

impl Ledger {
    /// A ledger that is kept so. It is opened behind this call: requests are served before, and
    /// without it.
    pub fn begin(keeping: Keeping, telemetry: Arc<Telemetry>) -> Ledger {
        let shared = Arc::new(Shared {
            journal: Journal::new(&keeping.file),
            keeping,
            queue: Mutex::default(),
            wake: Condvar::new(),
            ending: AtomicBool::new(false),
            purse: Purse::default(),
            letters: Letters::begin(),
            counts: Counts::default(),
            reached: AtomicI64::new(0),
            telemetry,
            threads: Mutex::default(),
        });
        if !shared.journal.is_there() {
            let what = "no memory that outlives a process: rows of its last moments go with it";
            shared.telemetry.alarm("ledger", what);
        }
        let start = |name: &str, run: fn(&Shared)| {
            let shared = shared.clone();
            std::thread::Builder::new().name(name.into()).spawn(move || run(&shared)).ok()
        };
        let writer = start("ledger", writer::run);
        let flow = shared.keeping.postgres.as_ref().and_then(|_| start("ledger-flow", flow::run));
        shared.threads().extend([writer, flow].into_iter().flatten());
        Ledger { shared }
    }

    /// An attempt begins.
    pub fn opened(&self, opening: Opening) {
        if !self.shared.journal.opened(&opening) {
            self.shared.counts.unjournaled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request is over. From now on its rows outlive this process, unless the journal is full.
    pub fn settle(&self, entry: Entry) {
        let shared = &self.shared;
        let mut dropped = 0;
        let is_kept =
            shared.journal.settled(&entry, || dropped = shared.queue().push(entry.clone()));
        if !is_kept {
            shared.counts.unjournaled.fetch_add(1, Ordering::Relaxed);
        }
        if dropped > 0 {
            shared.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
            let what = "the queue is full and nothing can be written: rows of lower tiers are lost";
            shared.telemetry.alarm("ledger", what);
        }
        shared.wake.notify_one();
    }

    /// Why a request of this caller is refused now, if it is: a budget is spent.
    pub fn stop(&self, places: &Places, caller: &Caller) -> Option<Stop> {
        let tier = places.names.tier(caller.tier);
        let terms = places.tariff.terms(caller, tier);
        self.purse().refused(moment(now()), &terms)
    }

    /// Tells those who want to know how much of a budget is spent.
    pub fn notify(&self, notices: Vec<Notice>, terms: &Terms<'_>) {
        for notice in notices {
            let (kind, name) = notice.payer.told();
            let (period, level) = (notice.period_word(), notice.level_word());
            tracing::warn!("{kind} {name}: {level} of the budget for this {period} is spent");
            let line = terms.budgets.iter().find(|line| line.payer == notice.payer);
            let Some(hook) = line.and_then(|line| line.hook.as_ref()) else { continue };
            let at = now();
            // The same from each gateway that tells it.
            let number = moment(at).number(notice.period);
            let message = json!({
                "id": format!("budget-{kind}-{name}-{period}-{level}-{number}"),
                "kind": "budget",
                "at": at / 1_000_000,
                kind: name,
                "period": period,
                "spent": level,
                "node": self.shared.keeping.node,
            });
            self.shared.letters.tell(hook, &message);
        }
    }

    /// What tenants and keys have spent.
    pub fn purse(&self) -> &Purse {
        &self.shared.purse
    }

    /// Metrics, in the exposition format.
    pub fn lines(&self) -> String {
        let shared = &self.shared;
        let counts = &shared.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let queued = shared.queue().len() as u64;
        let failing = u64::from(counts.failing.load(Ordering::Relaxed));
        let mut lines = vec![
            ("mainstay_ledger_requests", "counter", "Requests written.", read(&counts.written)),
            (
                "mainstay_ledger_dropped",
                "counter",
                "Requests whose rows were lost because nothing could be written for long.",
                read(&counts.dropped),
            ),
            (
                "mainstay_ledger_unjournaled",
                "counter",
                "Rows that would not have outlived this process until they were written.",
                read(&counts.unjournaled),
            ),
            ("mainstay_ledger_queued", "gauge", "Requests that wait to be written.", queued),
            ("mainstay_ledger_failing", "gauge", "Whether writing fails.", failing),
        ];
        if shared.keeping.postgres.is_some() {
            let rows = "Requests that PostgreSQL does not have yet.";
            let age = "Age of the oldest of them.";
            lines.push(("mainstay_ledger_unsynced_rows", "gauge", rows, read(&counts.unsynced)));
            lines.push((
                "mainstay_ledger_oldest_unsynced_seconds",
                "gauge",
                age,
                read(&counts.oldest),
            ));
        }
        let line = |(name, kind, help, value): (&str, &str, &str, u64)| {
            let end = if kind == "counter" { "_total" } else { "" };
            format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{end} {value}\n")
        };
        lines.into_iter().map(line).collect()
    }

    /// Writes what is queued, within a few seconds.
    pub fn end(&self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.shared.wake.notify_all();
        let until = Instant::now() + END_TIME;
        let threads = std::mem::take(&mut *self.shared.threads());
        for thread in threads {
            while !thread.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }
}

/// Now, in microseconds since 1970. Rows are dated by it; what is decided by it are days, months
/// and hours of a price list.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The same for what a plan decides.
pub fn moment(micros: u64) -> Moment {
    Moment(micros / 1_000_000)
}

#[cfg(test)]
mod tests;
