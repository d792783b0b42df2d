//! What the ledger says when somebody asks: sums by key, tenant, tier, model, site, day or hour.
//! The same questions go to SQLite and to PostgreSQL.

use super::postgres::Postgres;
use super::store::{Store, Sums};
use crate::setup::Secret;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Which ledger is asked.
#[derive(Clone, Debug)]
pub enum Place {
    /// A node's own file.
    File(PathBuf),
    /// That of all nodes.
    Postgres(Secret),
}

/// What is summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The key's name.
    Key,
    /// Whose key it is.
    Tenant,
    /// The tier.
    Tier,
    /// The model that was asked for.
    Model,
    /// Where answers came from, and where attempts went.
    Site,
    /// The day, UTC, as days since 1970.
    Day,
    /// The hour, UTC, as hours since 1970.
    Hour,
    /// All of it.
    Nothing,
}

impl By {
    fn column(self) -> &'static str {
        match self {
            By::Key => "key",
            By::Tenant => "tenant",
            By::Tier => "tier",
            By::Model => "model",
            By::Site => "site",
            By::Day => "CAST(at / 86400000000 AS TEXT)",
            By::Hour => "CAST(at / 3600000000 AS TEXT)",
            By::Nothing => "CAST('all' AS TEXT)",
        }
    }
}

/// The sums of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Requests.
    pub requests: i64,
    /// Of those, answered whole.
    pub answered: i64,
    /// Of those, neither answered nor the caller's own fault nor left by it.
    pub failed: i64,
    /// Billed tokens of prompts.
    pub prompt: i64,
    /// Of those, out of a cache.
    pub cached: i64,
    /// Billed tokens of answers.
    pub output: i64,
    /// To be paid, in millionths.
    pub price: i64,
    /// Paid by allowances.
    pub free: i64,
    /// Attempts.
    pub attempts: i64,
    /// Of those, not whole.
    pub attempts_failed: i64,
    /// What providers want for all of them.
    pub cost: i64,
    /// Of that, for attempts that were not whole.
    pub cost_failed: i64,
}

/// The sums from `from` to before `to`, in microseconds since 1970, by group.
///
/// # Errors
/// Why the ledger cannot be read.
pub fn usage(place: &Place, by: By, range: (i64, i64)) -> Result<BTreeMap<String, Sum>, String> {
    let column = by.column();
    let requests = format!(
        "SELECT {column} AS name, COUNT(*), {}, {}, {}, {}, {}, {}, {}
         FROM mainstay_request WHERE at >= $1 AND at < $2 GROUP BY 1",
        sum("CASE WHEN outcome = 'done' THEN 1 ELSE 0 END"),
        sum("CASE WHEN outcome IN ('done', 'gone', 'rejected') THEN 0 ELSE 1 END"),
        sum("prompt"),
        sum("cached"),
        sum("output"),
        sum("price"),
        sum("free"),
    );
    let attempts = format!(
        "SELECT {column} AS name, COUNT(*), {}, {}, {}
         FROM mainstay_attempt WHERE at >= $1 AND at < $2 GROUP BY 1",
        sum("CASE WHEN outcome = 'whole' THEN 0 ELSE 1 END"),
        sum("cost"),
        sum("CASE WHEN outcome = 'whole' THEN 0 ELSE cost END"),
    );
    let mut found = ask(place, &[&requests, &attempts], range)?.into_iter();
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for (name, numbers) in found.next().unwrap_or_default() {
        let sum = sums.entry(name).or_default();
        let fields = [
            &mut sum.requests,
            &mut sum.answered,
            &mut sum.failed,
            &mut sum.prompt,
            &mut sum.cached,
            &mut sum.output,
            &mut sum.price,
            &mut sum.free,
        ];
        fields.into_iter().zip(numbers).for_each(|(field, number)| *field = number);
    }
    for (name, numbers) in found.next().unwrap_or_default() {
        let sum = sums.entry(name).or_default();
        let fields =
            [&mut sum.attempts, &mut sum.attempts_failed, &mut sum.cost, &mut sum.cost_failed];
        fields.into_iter().zip(numbers).for_each(|(field, number)| *field = number);
    }
    Ok(sums)
}

/// One line of the costs of attempts, for comparing with invoices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Days since 1970.
    pub day: i64,
    /// Attempts.
    pub attempts: i64,
    /// Tokens of their prompts and answers.
    pub tokens: (i64, i64),
    /// What their provider wants, by our prices.
    pub cost: i64,
}

/// The costs of attempts by site, model there, and day.
///
/// # Errors
/// Why the ledger cannot be read.
pub fn costs(
    place: &Place,
    range: (i64, i64),
) -> Result<BTreeMap<(String, String), Vec<Cost>>, String> {
    // A line feed is in no name.
    let sql = format!(
        "SELECT site || CAST('\n' AS TEXT) || target AS name, at / 86400000000, COUNT(*),
         {}, {}, {} FROM mainstay_attempt WHERE at >= $1 AND at < $2 GROUP BY 1, 2 ORDER BY 1, 2",
        sum("prompt"),
        sum("output"),
        sum("cost"),
    );
    let mut costs: BTreeMap<(String, String), Vec<Cost>> = BTreeMap::new();
    for (name, numbers) in ask(place, &[&sql], range)?.into_iter().flatten() {
        let (site, target) = name.split_once('\n').unwrap_or((&name, ""));
        let [day, attempts, prompt, output, cost] = numbers[..] else { continue };
        let line = Cost { day, attempts, tokens: (prompt, output), cost };
        costs.entry((site.into(), target.into())).or_default().push(line);
    }
    Ok(costs)
}

fn sum(what: &str) -> String {
    format!("CAST(SUM({what}) AS BIGINT)")
}

/// The answers to these questions.
fn ask(place: &Place, questions: &[&str], range: (i64, i64)) -> Result<Vec<Vec<Sums>>, String> {
    match place {
        Place::File(file) => {
            let said = |error: rusqlite::Error| format!("{}: {error}", file.display());
            let store = Store::look(file).map_err(said)?;
            questions.iter().map(|sql| store.sums(sql, range).map_err(said)).collect()
        }
        Place::Postgres(url) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let postgres =
                    Postgres::connect(url).await.map_err(|e| format!("postgres: {e}"))?;
                let mut answers = Vec::new();
                for sql in questions {
                    answers.push(postgres.sums(sql, range).await?);
                }
                Ok(answers)
            })
        }
    }
}
