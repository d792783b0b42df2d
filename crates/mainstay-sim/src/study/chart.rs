//! A picture of what policies carry: good requests by speed, one line for each policy.

use super::compare::{Compared, Row};
use std::fmt::Write;

/// Size of the picture; of what is around the lines.
const SIZE: (f64, f64) = (760.0, 400.0);
const LEFT: f64 = 46.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;
/// Names at the right end stand at least so far apart.
const APART: f64 = 14.0;
/// What must be good for a load to count as carried.
const BAR: f64 = 0.95;

/// The picture alone, readable on light and on dark ground.
pub fn picture(of: &Compared) -> String {
    let most = of.policies.iter().flat_map(|row| &row.points).map(|point| point.speed);
    let most = most.fold(1.0, f64::max);
    let x = |speed: f64| LEFT + (SIZE.0 - LEFT - RIGHT) * speed / most;
    let y = |good: f64| TOP + (SIZE.1 - TOP - BOTTOM) * (1.0 - good);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-label=\"Good requests by speed of the trace\" font-family=\"system-ui,sans-serif\" \
         font-size=\"12\" fill=\"none\">\n<style>text{{fill:#444}}.grid{{stroke:#8884}}\
         .them{{stroke:#8b929a;stroke-width:1.3}}.us{{stroke:#2f8f6b;stroke-width:2.6}}\
         .bar{{stroke:#c8403a;stroke-dasharray:5 4}}.us-name{{fill:#2f8f6b;font-weight:600}}\
         @media (prefers-color-scheme:dark){{text{{fill:#bbb}}}}</style>\n",
        SIZE.0, SIZE.1
    );
    let title = format!("{}, {} workers: part of the requests that is good", of.trace, of.workers);
    let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"18\">{}</text>", crate::report::escaped(&title));
    for good in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (y, end) = (y(good), x(most));
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{end:.1}\"/>\
             <text x=\"8\" y=\"{:.1}\">{good}</text>",
            y + 4.0
        );
    }
    let bar = (y(BAR), x(most));
    let _ = writeln!(svg, "<path class=\"bar\" d=\"M{LEFT} {:.1}H{:.1}\"/>", bar.0, bar.1);
    if let Some(row) = of.policies.first() {
        for point in &row.points {
            let (x, y) = (x(point.speed), SIZE.1 - 20.0);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}×</text>",
                point.speed
            );
        }
    }
    let mut ends: Vec<(f64, &Row)> =
        of.policies.iter().map(|row| (y(row.points.last().map_or(0.0, |p| p.good)), row)).collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    names(&mut svg, x(most) + 8.0, &ends);
    for row in &of.policies {
        let points =
            row.points.iter().map(|point| format!("{:.1},{:.1}", x(point.speed), y(point.good)));
        let points: Vec<String> = points.collect();
        let class = class(row);
        let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", points.join(" "));
    }
    svg + "</svg>\n"
}

/// Names beside the ends of their lines, moved apart where they would lie on each other.
fn names(svg: &mut String, x: f64, ends: &[(f64, &Row)]) {
    let room = (SIZE.1 - 4.0) - APART * ends.len() as f64;
    let mut last = f64::MIN;
    for (at, (y, row)) in ends.iter().enumerate() {
        // Those below need room too.
        let y = y.min(room + APART * (at as f64 + 1.0)).max(last + APART);
        last = y;
        let class = if class(row) == "us" { " class=\"us-name\"" } else { "" };
        let (y, policy, cap) = (y + 4.0, row.policy, row.cap95);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\"{class}>{policy} {cap:.1}×</text>");
    }
}

fn class(row: &Row) -> &'static str {
    if row.policy.starts_with("late") { "us" } else { "them" }
}

/// A page with the picture and the table, for any browser, without a network.
pub fn page(of: &Compared) -> String {
    let trace = crate::report::escaped(&of.trace);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{trace}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>:root{{color-scheme:light \
         dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:32px auto;\
         padding:0 20px}}svg{{width:100%;height:auto}}pre{{overflow-x:auto}}</style>\
         <h1>What policies carry of {trace}</h1>\n{}\n<pre>{}</pre></html>\n",
        picture(of),
        crate::report::escaped(&of.text())
    )
}
