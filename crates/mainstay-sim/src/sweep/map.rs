//! The map of a sweep: what became of each point, ours beside the baseline's. A row has the values
//! of the last key side by side; where a point was played with several seeds it shows the worst.

use super::{Done, Verdict};
use crate::scenario::{FaultKind, Scenario};
use std::fmt::Write;

/// A point, over all its seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Of its worst run.
    pub verdict: Verdict,
    /// Runs that did not pass.
    pub missed: usize,
    /// Runs.
    pub runs: usize,
    /// The slowest recovery; none if one never came.
    pub recovery: Option<f64>,
}

/// Points that differ in the last key only.
#[derive(Clone, Debug)]
pub struct Row {
    /// Values of the other keys.
    pub labels: Vec<String>,
    /// Ours; empty if they were not played.
    pub ours: Vec<Cell>,
    /// The baseline's; empty if it was not played.
    pub baseline: Vec<Cell>,
}

/// All points of a sweep.
#[derive(Clone, Debug)]
pub struct Map {
    /// `S01/sweep`.
    pub id: String,
    /// What it tells.
    pub title: String,
    /// The key that turns fastest, and its values.
    pub column: String,
    /// See `column`.
    pub columns: Vec<String>,
    /// The other keys.
    pub keys: Vec<String>,
    /// The points.
    pub rows: Vec<Row>,
    /// Points of ours that did not pass: which, and the first thing that was wrong.
    pub misses: Vec<(String, String)>,
}

impl Map {
    /// The map of `points`; each was played with the same number of seeds, or not at all.
    pub fn new(id: &str, points: &[Scenario], ours: &[&Done], baseline: &[&Done]) -> Map {
        let turning = turning(points);
        let values = |point: &Scenario| -> Vec<String> {
            turning.iter().map(|at| settings(point).swap_remove(*at).1).collect()
        };
        let first = points.first();
        let mut keys: Vec<String> = first.map_or(Vec::new(), |point| {
            turning.iter().map(|at| settings(point).swap_remove(*at).0).collect()
        });
        let column = keys.pop().unwrap_or_default();
        let all: Vec<Vec<String>> = points.iter().map(values).collect();
        let head = |values: &[String]| values[..values.len().saturating_sub(1)].to_vec();
        let wide = all.iter().take_while(|values| head(values) == head(&all[0])).count().max(1);
        let columns = all.iter().take(wide).filter_map(|values| values.last().cloned()).collect();
        let (own, other) = (cells(points.len(), ours), cells(points.len(), baseline));
        let row = |(at, values): (usize, &[Vec<String>])| Row {
            labels: head(&values[0]),
            ours: own.iter().skip(at * wide).take(values.len()).copied().collect(),
            baseline: other.iter().skip(at * wide).take(values.len()).copied().collect(),
        };
        let rows = all.chunks(wide).enumerate().map(row).collect();
        let title = first.map_or(String::new(), |point| point.title.clone());
        Map { id: id.into(), title, column, columns, keys, rows, misses: misses(ours) }
    }

    /// Of ours or of the baseline: how many points have each verdict.
    pub fn counts(&self, is_ours: bool) -> Vec<(Verdict, usize)> {
        let cells = |row: &'_ Row| if is_ours { row.ours.clone() } else { row.baseline.clone() };
        let all: Vec<Cell> = self.rows.iter().flat_map(cells).collect();
        let count = |verdict| all.iter().filter(|cell| cell.verdict == verdict).count();
        let each = Verdict::ALL.into_iter().map(|verdict| (verdict, count(verdict)));
        each.filter(|(_, count)| *count > 0).collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut table: Vec<Vec<String>> = vec![self.keys.clone()];
        let mut last: Vec<String> = Vec::new();
        for row in &self.rows {
            // What stands above holds until something else does.
            let same = row.labels.iter().zip(&last).take_while(|(a, b)| a == b).count();
            let shown = row.labels.iter().enumerate();
            table
                .push(shown.map(|(at, l)| if at < same { "".into() } else { l.clone() }).collect());
            last.clone_from(&row.labels);
        }
        let wide = |at: usize| table.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.keys.len()).map(wide).collect();
        let labels = |row: &[String]| -> String {
            row.iter().zip(&widths).map(|(label, wide)| format!("{label:<wide$}  ")).collect()
        };
        let cell = self.columns.iter().map(|value| value.chars().count()).max().unwrap_or(1) + 1;
        let block = (cell * self.columns.len()).max("mainstay".len() + 1);
        let sides: Vec<&str> = [("mainstay", true), ("baseline", false)]
            .into_iter()
            .filter(|(_, is_ours)| !self.counts(*is_ours).is_empty())
            .map(|(name, _)| name)
            .collect();
        let margin = labels(&table[0]).chars().map(|_| ' ').collect::<String>();
        let mut text = format!("\n{}: {}\n", self.id, self.title);
        let line = |text: &str, line: String| format!("{text}{}\n", line.trim_end());
        let names = sides.iter().map(|name| format!("{name:<block$}  "));
        text = line(&text, format!("{margin}{}", names.collect::<String>()));
        let row = self.columns.iter().map(|value| format!("{value:<cell$}")).collect::<String>();
        let heads = sides.iter().map(|_| format!("{row:<block$}  ")).collect::<String>();
        text = line(&text, format!("{}{heads}{}", labels(&table[0]), self.column));
        for (row, shown) in self.rows.iter().zip(&table[1..]) {
            let signs = |cells: &[Cell]| {
                let row = cells.iter().map(|c| format!("{:<cell$}", c.verdict.sign()));
                format!("{:<block$}  ", row.collect::<String>())
            };
            let both = [&row.ours, &row.baseline].into_iter().filter(|cells| !cells.is_empty());
            let both: String = both.map(|cells| signs(cells)).collect();
            text = line(&text, format!("{}{both}", labels(shown)));
        }
        text + &self.sums()
    }

    /// What the signs mean, and how often each is there.
    fn sums(&self) -> String {
        let mut text = String::new();
        for (name, is_ours) in [("mainstay", true), ("baseline", false)] {
            let counts = self.counts(is_ours);
            if counts.is_empty() {
                continue;
            }
            let each = counts
                .iter()
                .map(|(verdict, count)| format!("{} {count} {}", verdict.sign(), verdict.words()));
            let _ = writeln!(text, "{name}:  {}", each.collect::<Vec<_>>().join("   "));
        }
        text
    }
}

/// Keys and values that a sweep set, in words.
fn settings(point: &Scenario) -> Vec<(String, String)> {
    let inside = point.id.split_once('[').map_or("", |(_, rest)| rest.trim_end_matches(']'));
    let each = inside.split(' ').filter_map(|set| set.split_once('='));
    each.map(|(key, value)| words(point, key, value)).collect()
}

/// Positions of the keys that have several values.
fn turning(points: &[Scenario]) -> Vec<usize> {
    let all: Vec<Vec<(String, String)>> = points.iter().map(settings).collect();
    let Some(first) = all.first() else { return Vec::new() };
    let turns = |at: &usize| all.iter().any(|point| point[*at].1 != first[*at].1);
    (0..first.len()).filter(turns).collect()
}

/// `fault.0.until=70s` is how long that fault lasts.
fn words(point: &Scenario, key: &str, value: &str) -> (String, String) {
    let last = key.rsplit('.').next().unwrap_or(key).replace('_', " ");
    let fault = key.strip_prefix("fault.").and_then(|rest| {
        let at: usize = rest.split_once('.')?.0.parse().ok()?;
        point.faults.get(at)
    });
    let Some(fault) = fault else {
        let key = if key == "load.level" { String::from("load") } else { last };
        return (key, value.to_string());
    };
    let kind = kind(&fault.kind);
    match (last.as_str(), fault.until) {
        ("until", Some(until)) => {
            let seconds = until.saturating_sub(fault.at).as_secs();
            let lasts = match seconds {
                0..=90 => format!("{seconds}s"),
                91..=7199 => format!("{}m", seconds / 60),
                _ => format!("{}h", seconds / 3600),
            };
            (format!("{kind} for"), lasts)
        }
        _ => (format!("{kind} {last}"), value.to_string()),
    }
}

/// As scenario files write it.
fn kind(kind: &FaultKind) -> String {
    let mut name = String::new();
    for c in format!("{kind:?}").chars().take_while(|c| c.is_alphanumeric()) {
        if c.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(c.to_lowercase());
    }
    name
}

/// Of each point what all its runs come to.
fn cells(points: usize, runs: &[&Done]) -> Vec<Cell> {
    let seeds = (runs.len() / points.max(1)).max(1);
    let cell = |runs: &[&Done]| {
        let recoveries = runs.iter().map(|done| done.run.recovery_s);
        Some(Cell {
            verdict: runs.iter().map(|done| done.verdict).max()?,
            missed: runs.iter().filter(|done| !done.run.passed).count(),
            runs: runs.len(),
            recovery: recoveries.reduce(|a, b| Some(a?.max(b?))).flatten(),
        })
    };
    runs.chunks(seeds).filter_map(cell).collect()
}

/// Runs that did not pass: which, and what was wrong first.
fn misses(runs: &[&Done]) -> Vec<(String, String)> {
    let missed = runs.iter().filter(|done| !done.run.passed);
    let told = missed.map(|done| {
        let which = format!("{} seed {}", done.run.scenario, done.run.seed);
        let first = done.run.violations.first().map_or(String::new(), |v| {
            let what = v.detail.lines().next().unwrap_or_default();
            let node = if v.node.is_empty() { "" } else { " at " };
            format!("{}{node}{}, {:.0} s: {what}", v.rule, v.node, v.at_s)
        });
        (which, first)
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{PolicyKind, play};
    use crate::scenario::read::File;

    /// Six points, and results of which one run stands for all.
    fn story() -> (Vec<Scenario>, Done) {
        let text = "id = \"X\"\ntitle = \"x\"\n[bench]\nscale = 100\n[[fault]]\nkind = \"surge\"\n\
                    factor = 2\nat = \"60s\"\nuntil = \"70s\"\n[sweep]\n\
                    \"clients.retries\" = [0, 2]\n\"fault.0.until\" = [\"70s\"]\n\
                    \"fault.0.factor\" = [1, 2]\n\"load.level\" = [0.5, 0.8]\n";
        let points = File::parse("X.toml", text).unwrap().points().unwrap();
        let mut run = play(&points[0], 1, PolicyKind::Mainstay).run;
        run.passed = true;
        (points, Done { run, verdict: Verdict::Passed, timeline: None })
    }

    #[test]
    fn the_map_has_a_row_for_each_combination_of_the_other_keys() {
        let (points, passed) = story();
        let down = Done { verdict: Verdict::Metastable, ..passed.clone() };
        let ours: Vec<&Done> = points.iter().map(|_| &passed).collect();
        let mut baseline = ours.clone();
        baseline[5] = &down;
        let map = Map::new("X/sweep", &points, &ours, &baseline);
        assert_eq!(
            map.text(),
            "\nX/sweep: x\n\
             \x20                      mainstay   baseline\n\
             retries  surge factor  0.5 0.8    0.5 0.8    load\n\
             0        1             .   .      .   .\n\
             \x20        2             .   .      .   .\n\
             2        1             .   .      .   M\n\
             \x20        2             .   .      .   .\n\
             mainstay:  . 8 passed\n\
             baseline:  . 7 passed   M 1 stayed down\n"
        );
    }

    #[test]
    fn of_a_point_with_several_seeds_the_worst_is_shown() {
        let (points, passed) = story();
        let mut failed = Done { verdict: Verdict::Failed, ..passed.clone() };
        failed.run.passed = false;
        let mut ours = vec![&passed; 3 * points.len()];
        ours[4] = &failed;
        let map = Map::new("X/sweep", &points, &ours, &[]);
        let cell = map.rows[0].ours[1];
        assert_eq!((cell.verdict, cell.missed, cell.runs), (Verdict::Failed, 1, 3));
        assert_eq!(map.counts(true), [(Verdict::Passed, 7), (Verdict::Failed, 1)]);
        assert_eq!(map.misses.len(), 1);
    }
}
