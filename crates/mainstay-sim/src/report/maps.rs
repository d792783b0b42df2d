//! Maps of sweeps as tables: ours and the baseline's side by side. Each field has a sign as well
//! as a colour.

use super::escaped;
use crate::sweep::{Cell, Map, Row, Verdict};
use std::fmt::Write;

/// Misses that are told one by one.
const ROWS_MAX: usize = 40;

/// All maps, with their sum in front.
pub fn all(html: &mut String, maps: &[Map]) {
    if maps.is_empty() {
        return;
    }
    let points = |is_ours: bool, which: fn(Verdict) -> bool| -> usize {
        let each = maps.iter().flat_map(|map| map.counts(is_ours));
        each.filter(|(verdict, _)| which(*verdict)).map(|(_, count)| count).sum()
    };
    let down = |verdict| verdict == Verdict::Metastable;
    let (ours, baseline) = (points(true, |_| true), points(false, |_| true));
    let runs: usize = maps.iter().flat_map(|map| &map.rows).map(runs).sum();
    let _ = write!(
        html,
        "<p class=\"eyebrow\">mainstay simulate · {runs} runs</p><h1>{} of {ours} points stayed \
         down</h1>",
        points(true, down)
    );
    if baseline > 0 {
        let _ =
            write!(html, "<p>With the naive baseline {} of {baseline}.</p>", points(false, down));
    }
    html.push_str(
        "<p>A field is a point: one set of values, played with every seed; it shows the worst. A \
         point stays down if less than 99 % of what is asked is answered well after a minute of a \
         load that the capacity on offer can carry.</p><div class=\"key signs\">",
    );
    for verdict in Verdict::ALL {
        let _ = write!(
            html,
            "<span><b class=\"{}\">{}</b>{}</span>",
            class(verdict),
            sign(verdict),
            verdict.words()
        );
    }
    html.push_str("</div>");
    maps.iter().for_each(|map| one(html, map));
}

/// Runs of a row.
fn runs(row: &Row) -> usize {
    row.ours.iter().chain(&row.baseline).map(|cell| cell.runs).sum()
}

fn one(html: &mut String, map: &Map) {
    let _ = write!(
        html,
        "<section class=\"run\"><p class=\"eyebrow\">{}</p><h2 class=\"first\">{}</h2>",
        escaped(&map.id),
        escaped(&map.title)
    );
    for (name, is_ours) in [("mainstay", true), ("baseline", false)] {
        let counts = map.counts(is_ours);
        if !counts.is_empty() {
            let each = counts.iter().map(|(verdict, count)| format!("{count} {}", verdict.words()));
            let each = each.collect::<Vec<_>>().join(", ");
            let _ = write!(html, "<p>{name}: {each}</p>");
        }
    }
    html.push_str("<div class=\"wide\"><table class=\"map\">");
    head(html, map);
    let mut last: Vec<String> = Vec::new();
    for row in &map.rows {
        let same = row.labels.iter().zip(&last).take_while(|(a, b)| a == b).count();
        html.push_str("<tr>");
        for (at, label) in row.labels.iter().enumerate() {
            let label = if at < same { "" } else { label };
            let _ = write!(html, "<th>{}</th>", escaped(label));
        }
        for cells in [&row.ours, &row.baseline].into_iter().filter(|cells| !cells.is_empty()) {
            html.push_str("<td class=\"gap\"></td>");
            cells.iter().for_each(|cell| field(html, cell));
        }
        html.push_str("</tr>");
        last.clone_from(&row.labels);
    }
    html.push_str("</table></div>");
    misses(html, map);
    html.push_str("</section>");
}

/// Who is below, and which values.
fn head(html: &mut String, map: &Map) {
    let wide = map.columns.len();
    let sides = [("mainstay", true), ("baseline", false)];
    let shown = || sides.iter().filter(|(_, is_ours)| !map.counts(*is_ours).is_empty());
    html.push_str("<tr>");
    map.keys.iter().for_each(|_| html.push_str("<th></th>"));
    for (name, _) in shown() {
        let _ = write!(
            html,
            "<td class=\"gap\"></td><th colspan=\"{wide}\"><b>{name}</b> by {}</th>",
            escaped(&map.column)
        );
    }
    html.push_str("</tr><tr>");
    for key in &map.keys {
        let _ = write!(html, "<th>{}</th>", escaped(key));
    }
    for _ in shown() {
        html.push_str("<td class=\"gap\"></td>");
        for value in &map.columns {
            let _ = write!(html, "<th class=\"value\">{}</th>", escaped(value));
        }
    }
    html.push_str("</tr>");
}

fn field(html: &mut String, cell: &Cell) {
    let recovery = match cell.recovery {
        Some(seconds) => format!("slowest recovery {seconds:.0} s"),
        None => String::from("no recovery"),
    };
    let _ = write!(
        html,
        "<td class=\"field {}\" title=\"{}: {} of {} runs did not pass, {recovery}\">{}</td>",
        class(cell.verdict),
        cell.verdict.words(),
        cell.missed,
        cell.runs,
        sign(cell.verdict)
    );
}

fn misses(html: &mut String, map: &Map) {
    if map.misses.is_empty() {
        return;
    }
    let _ = write!(
        html,
        "<details><summary>{} of our runs did not pass</summary><div class=\"wide\"><table>",
        map.misses.len()
    );
    for (which, what) in map.misses.iter().take(ROWS_MAX) {
        let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escaped(which), escaped(what));
    }
    html.push_str("</table></div>");
    if map.misses.len() > ROWS_MAX {
        let _ = write!(html, "<p>and {} more</p>", map.misses.len() - ROWS_MAX);
    }
    html.push_str("</details>");
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "map-passed",
        Verdict::Overloaded => "map-over",
        Verdict::Failed => "map-failed",
        Verdict::Metastable => "map-down",
    }
}

/// A page has finer signs than a terminal.
fn sign(verdict: Verdict) -> char {
    match verdict {
        Verdict::Passed => '·',
        other => other.sign(),
    }
}
