//! A provider's invoice beside what our attempts should have cost, line by line.

use super::{Stop, dates, place, table};
use crate::command_line::{Reconcile, WRONG};
use crate::stdout::say;
use mainstay_core::money::Money;
use mainstay_server::ledger::usage::costs;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

/// A site, a model there (or nothing for all of them), and a day since 1970.
type Line = (String, String, i64);

/// Compares, prints, and says no where they differ.
pub(super) fn reconcile(options: &Reconcile) -> Result<ExitCode, Stop> {
    let text = std::fs::read(&options.file)
        .map_err(|error| (WRONG, format!("{}: cannot be read: {error}", options.file.display())))?;
    let invoice = read(&options.file, &text).map_err(|line| (WRONG, line))?;
    let (place, _) = place(&options.place)?;
    let days = invoice.keys().map(|(.., day)| *day);
    let range = days.clone().min().zip(days.max()).unwrap_or_default();
    let day = 86_400_000_000;
    let ours = costs(&place, (range.0 * day, (range.1 + 1) * day));
    let ours = ours.map_err(|why| (1, format!("cannot read the ledger: {why}")))?;
    let mut own: BTreeMap<Line, i64> = BTreeMap::new();
    for ((site, model), costs) in ours {
        for cost in costs {
            // An invoice without models has the sum of them.
            let by_model = (site.clone(), model.clone(), cost.day);
            let has_models = invoice.keys().any(|line| line.0 == site && !line.1.is_empty());
            let line = if has_models { by_model } else { (site.clone(), String::new(), cost.day) };
            *own.entry(line).or_default() += cost.cost;
        }
    }
    Ok(show(options, &compare(&invoice, &own, options.tolerance)))
}

/// One line of the comparison.
struct Compared {
    line: Line,
    invoice: i64,
    own: i64,
    differs: bool,
}

fn compare(
    invoice: &BTreeMap<Line, i64>,
    own: &BTreeMap<Line, i64>,
    tolerance: u8,
) -> Vec<Compared> {
    let sites: BTreeSet<&str> = invoice.keys().map(|line| line.0.as_str()).collect();
    let lines: BTreeSet<&Line> = invoice.keys().chain(own.keys()).collect();
    let ours = lines.into_iter().filter(|line| sites.contains(line.0.as_str()));
    ours.map(|line| {
        let of = |sums: &BTreeMap<Line, i64>| sums.get(line).copied().unwrap_or(0);
        let (invoice, own) = (of(invoice), of(own));
        let most = Money(invoice.max(own)).percent(tolerance);
        let differs = (invoice - own).abs() > most.0;
        Compared { line: line.clone(), invoice, own, differs }
    })
    .collect()
}

fn show(options: &Reconcile, compared: &[Compared]) -> ExitCode {
    let day = |day: i64| dates::day(u64::try_from(day).unwrap_or(0));
    if options.json {
        let rows: Vec<_> = compared
            .iter()
            .map(|each| {
                let (site, model, at) = &each.line;
                json!({
                    "site": site,
                    "model": if model.is_empty() { json!(null) } else { json!(model) },
                    "day": day(*at),
                    "invoice": Money(each.invoice).to_string(),
                    "ledger": Money(each.own).to_string(),
                    "difference": Money(each.invoice - each.own).to_string(),
                    "differs": each.differs,
                })
            })
            .collect();
        say(&format!("{:#}\n", json!({ "tolerance_percent": options.tolerance, "rows": rows })));
    } else {
        let head = ["site", "model", "day", "invoice", "ledger", "difference", ""];
        let mut lines = vec![head.map(str::to_string).to_vec()];
        lines.extend(compared.iter().map(|each| {
            let (site, model, at) = &each.line;
            vec![
                site.clone(),
                if model.is_empty() { "all".into() } else { model.clone() },
                day(*at),
                Money(each.invoice).to_string(),
                Money(each.own).to_string(),
                Money(each.invoice - each.own).to_string(),
                if each.differs { "differs".into() } else { String::new() },
            ]
        }));
        say(&table(&lines));
    }
    match compared.iter().any(|each| each.differs) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// The costs of an invoice.
fn read(file: &Path, text: &[u8]) -> Result<BTreeMap<Line, i64>, String> {
    let name = file.display();
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let head = reader.headers().map_err(|error| format!("{name}: {error}"))?.clone();
    let column = |wanted: &str| head.iter().position(|head| head.eq_ignore_ascii_case(wanted));
    let needed = |wanted: &str| {
        column(wanted).ok_or_else(|| {
            format!(
                "{name}: no column `{wanted}`; the first line names the columns site (as in \
                 [[site]]), day (2026-11-30) and cost (12.34), and model if the invoice has it"
            )
        })
    };
    let (site, day, cost) = (needed("site")?, needed("day")?, needed("cost")?);
    let model = column("model");
    let mut costs = BTreeMap::new();
    for (number, row) in (2..).zip(reader.records()) {
        let row = row.map_err(|error| format!("{name}: {error}"))?;
        let cell = |at: usize| row.get(at).unwrap_or_default();
        let wrong = |what: &str, cell: &str, like: &str| {
            let cell: String = cell.chars().filter(|c| !c.is_control()).take(40).collect();
            format!("{name}:{number}: `{cell}` is no {what}; write it like {like}")
        };
        let seconds = dates::start_of(cell(day));
        let seconds = seconds.ok_or_else(|| wrong("day", cell(day), "2026-11-30"))?;
        let money = Money::parse(cell(cost)).ok_or_else(|| wrong("cost", cell(cost), "12.34"))?;
        let at = i64::try_from(seconds / 86_400).unwrap_or(0);
        let line = (cell(site).to_string(), model.map_or("", cell).to_string(), at);
        *costs.entry(line).or_default() += money.0;
    }
    match costs.is_empty() {
        true => Err(format!("{name}: has no lines beside its first; nothing to compare")),
        false => Ok(costs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invoice(text: &str) -> Result<BTreeMap<Line, i64>, String> {
        read(Path::new("i.csv"), text.as_bytes())
    }

    #[test]
    fn an_invoice_is_read_by_the_names_of_its_columns() {
        let text =
            "Day, note, cost,site,model\n2024-02-29,x,\"1.50\",fra,m\n2024-02-29,,0.5,fra,m\n";
        let line = ("fra".to_string(), "m".to_string(), 19_782);
        assert_eq!(invoice(text), Ok(BTreeMap::from([(line, 2_000_000)])));
    }

    #[test]
    fn what_is_wrong_with_one_is_told_with_its_place() {
        let told = |text: &str| invoice(text).expect_err("wrong");
        assert!(told("site,cost\nfra,1\n").contains("no column `day`; the first line names"));
        let day = told("site,day,cost\nfra,29.2.2024,1\n");
        assert_eq!(day, "i.csv:2: `29.2.2024` is no day; write it like 2026-11-30");
        let cost = told("site,day,cost\nfra,2024-02-29,1\nfra,2024-02-29,\"1,5\"\n");
        assert_eq!(cost, "i.csv:3: `1,5` is no cost; write it like 12.34");
        assert!(told("site,day,cost\n").ends_with("nothing to compare"));
    }

    #[test]
    fn a_difference_beyond_the_tolerance_is_one_and_a_missing_line_too() {
        let line = |site: &str, day: i64| (site.to_string(), String::new(), day);
        let of = |lines: &[(Line, i64)]| lines.iter().cloned().collect::<BTreeMap<_, _>>();
        let invoice = of(&[(line("a", 1), 1000), (line("a", 2), 1000)]);
        let own = of(&[(line("a", 1), 995), (line("a", 3), 10), (line("b", 1), 5)]);
        let compared = compare(&invoice, &own, 1);
        let told: Vec<_> = compared.iter().map(|each| (each.line.2, each.differs)).collect();
        assert_eq!(told, [(1, false), (2, true), (3, true)]);
    }
}
