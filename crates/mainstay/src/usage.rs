//! What the ledger says: sums of requests, tokens and money, as a table, CSV or JSON.

mod dates;
mod reconcile;

use crate::command_line::{LedgerPlace, Serve, Usage, UsageBy, UsageCommand, WRONG};
use crate::environment::Environment;
use crate::start::configuration;
use crate::stdout::say;
use mainstay_core::money::Money;
use mainstay_server::ledger::usage::{By, Place, Sum, usage as ask};
use mainstay_server::setup::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

/// Columns, but for the first, whose name says what is summed up together.
const COLUMNS: [&str; 12] = [
    "requests",
    "answered",
    "failed",
    "prompt_tokens",
    "cached_tokens",
    "output_tokens",
    "price",
    "free",
    "attempts",
    "attempts_failed",
    "cost",
    "cost_failed",
];

/// What ends a command: its code, and a line that says why.
pub(crate) type Stop = (u8, String);

/// Prints what the ledger says.
pub fn usage(options: &Usage) -> ExitCode {
    let done = match &options.command {
        Some(UsageCommand::Reconcile(options)) => reconcile::reconcile(options),
        None => sums(options).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|(code, line)| {
        eprintln!("mainstay: {line}");
        ExitCode::from(code)
    })
}

fn sums(options: &Usage) -> Result<(), Stop> {
    let range = dates::span(&options.span, mainstay_server::ledger::now());
    let range = range.map_err(|line| (WRONG, line))?;
    let (place, spare) = place(&options.place)?;
    let (by, name) = match options.by {
        None => (By::Nothing, "all"),
        Some(UsageBy::Key) => (By::Key, "key"),
        Some(UsageBy::Tenant) => (By::Tenant, "tenant"),
        Some(UsageBy::Tier) => (By::Tier, "tier"),
        Some(UsageBy::Model) => (By::Model, "model"),
        Some(UsageBy::Site) => (By::Site, "site"),
        Some(UsageBy::Day) => (By::Day, "day"),
        Some(UsageBy::Hour) => (By::Hour, "hour"),
    };
    let found = match (ask(&place, by, range), spare) {
        (Err(why), Some(spare)) => {
            eprintln!(
                "mainstay: warning: {why}; this node's own file answers, which has its own \
                 requests alone"
            );
            ask(&spare, by, range)
        }
        (found, _) => found,
    };
    let found = found.map_err(|why| (1, format!("cannot read the ledger: {why}")))?;
    let rows = named(by, found);
    say(&match (options.json, options.csv) {
        (true, _) => format!("{:#}\n", as_json((name, &rows), range)),
        (false, true) => as_csv(name, &rows),
        (false, false) => as_table(name, &rows),
    });
    Ok(())
}

/// Rows with names for people: dates in place of numbers.
fn named(by: By, found: BTreeMap<String, Sum>) -> Vec<(String, Sum)> {
    let name = |name: String| match (by, name.parse::<u64>()) {
        (By::Day, Ok(day)) => dates::day(day),
        (By::Hour, Ok(hour)) => format!("{}T{:02}:00", dates::day(hour / 24), hour % 24),
        _ => name,
    };
    let mut rows: Vec<_> = found.into_iter().map(|(key, sum)| (name(key), sum)).collect();
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

/// The ledger that is asked, and the node's own file where PostgreSQL does not answer.
pub(crate) fn place(options: &LedgerPlace) -> Result<(Place, Option<Place>), Stop> {
    let is_url = |text: &str| text.starts_with("postgres://") || text.starts_with("postgresql://");
    match &options.ledger {
        Some(text) if is_url(text) => return Ok((Place::Postgres(Secret::new(text)), None)),
        Some(path) => return file(PathBuf::from(path)).map(|place| (place, None)),
        None => {}
    }
    let serve = Serve { config: options.config.clone(), ..Serve::default() };
    let resolved = configuration(&serve, &Environment::of_process()).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (WRONG, lines.join("\nmainstay: "))
    })?;
    match resolved.setup.ledger {
        None => {
            let line = "this configuration keeps no ledger; set ledger or node.data_dir in it, or \
                        name one with --ledger";
            Err((WRONG, line.into()))
        }
        Some(keeping) => match keeping.postgres {
            Some(url) => Ok((Place::Postgres(url), Some(Place::File(keeping.file)))),
            None => file(keeping.file).map(|place| (place, None)),
        },
    }
}

fn file(path: PathBuf) -> Result<Place, Stop> {
    match path.is_file() {
        true => Ok(Place::File(path)),
        false => Err((WRONG, format!("{} is no ledger: there is no such file", path.display()))),
    }
}

/// The numbers of a row as text, in the order of `COLUMNS`.
fn cells(sum: &Sum) -> [String; 12] {
    let money = |millionths: i64| Money(millionths).to_string();
    [
        sum.requests.to_string(),
        sum.answered.to_string(),
        sum.failed.to_string(),
        sum.prompt.to_string(),
        sum.cached.to_string(),
        sum.output.to_string(),
        money(sum.price),
        money(sum.free),
        sum.attempts.to_string(),
        sum.attempts_failed.to_string(),
        money(sum.cost),
        money(sum.cost_failed),
    ]
}

fn as_json((by, rows): (&str, &[(String, Sum)]), (from, to): (i64, i64)) -> Value {
    let row = |(name, sum): &(String, Sum)| {
        let counts = COLUMNS.iter().zip(cells(sum)).map(|(column, cell)| {
            // Money stays text: no program rounds it by reading it.
            let number = cell.parse::<i64>().map(Value::from);
            (column.to_string(), number.unwrap_or(Value::String(cell)))
        });
        let mut row = serde_json::Map::from_iter([(by.to_string(), json!(name))]);
        row.extend(counts);
        Value::Object(row)
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({ "by": by, "from": dates::moment(from), "to": dates::moment(to), "rows": rows })
}

fn as_csv(by: &str, rows: &[(String, Sum)]) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Writing into memory does not fail.
    let _ = writer.write_record(std::iter::once(by).chain(COLUMNS));
    for (name, sum) in rows {
        let _ = writer.write_record(std::iter::once(name.clone()).chain(cells(sum)));
    }
    String::from_utf8(writer.into_inner().unwrap_or_default()).unwrap_or_default()
}

fn as_table(by: &str, rows: &[(String, Sum)]) -> String {
    let mut lines = vec![std::iter::once(by).chain(COLUMNS).map(str::to_string).collect()];
    lines.extend(rows.iter().map(|(name, sum)| {
        // A name may hold what moves a terminal's cursor.
        let name: String = name.chars().filter(|c| !c.is_control()).collect();
        let shown = if name.is_empty() { String::from("-") } else { name };
        std::iter::once(shown).chain(cells(sum)).collect::<Vec<_>>()
    }));
    table(&lines)
}

/// Columns side by side: the first to the left, numbers to the right.
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        let cells: Vec<String> = cells.collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_same_in_every_form() {
        let sum = Sum { requests: 2, answered: 1, price: 1_500_000, cost: 7, ..Sum::default() };
        let rows = named(By::Day, BTreeMap::from([("19782".into(), sum)]));
        let csv = as_csv("day", &rows);
        assert!(csv.starts_with("day,requests,answered,failed,prompt_tokens"), "{csv}");
        assert!(csv.ends_with("2024-02-29,2,1,0,0,0,0,1.500000,0.000000,0,0,0.000007,0.000000\n"));
        let json = as_json(("day", &rows), (0, 3_600_000_000));
        assert_eq!(json["rows"][0]["price"], "1.500000");
        assert_eq!(json["rows"][0]["requests"], 2);
        assert_eq!(json["to"], "1970-01-01T01:00:00Z");
        let table = as_table("day", &rows);
        assert_eq!(table.lines().count(), 2);
        assert!(table.lines().nth(1).is_some_and(|line| line.starts_with("2024-02-29")), "{table}");
    }
}
