//! Lanes over time: what broke, what each gateway believed, what was decided.

use super::chart::{Axes, LEFT, RIGHT, WIDTH, clock, times};
use super::{View, escaped, words};
use crate::measure;
use crate::outcome::Timeline;
use std::fmt::Write;

/// Height of a lane with words in it, and of one that is only a colour.
const WORDS: f64 = 22.0;
const COLOUR: f64 = 9.0;
/// More lanes than this are not looked at one by one.
const LANES_MAX: usize = 48;
/// Rows of marks.
const MARK_ROWS: usize = 6;

/// A bar on a lane.
struct Bar {
    from: f64,
    until: f64,
    words: String,
}

/// What broke, from when until when.
pub fn faults(view: &View<'_>, seconds: f64) -> String {
    let mut bars: Vec<Bar> = view
        .scenario
        .faults
        .iter()
        .map(|fault| {
            let from = fault.at.as_secs_f64();
            let until = fault.until.map_or(from, |until| until.as_secs_f64());
            Bar { from, until, words: words::fault(&fault.kind, &view.scenario.bench) }
        })
        .collect();
    bars.sort_by(|a, b| a.from.total_cmp(&b.from));
    let axes = Axes { seconds, top: 1.0, height: 0.0 };
    let rows = packed(&axes, &bars);
    let count = rows.iter().max().map_or(0, |row| row + 1);
    let height = count as f64 * WORDS + 22.0;
    let mut svg = open("faults", "what broke, and when", height);
    for (bar, row) in bars.iter().zip(&rows) {
        let y = *row as f64 * WORDS + 2.0;
        let x = axes.x(bar.from);
        let wide = (axes.x(bar.until) - x).max(3.0);
        let span = match bar.until > bar.from {
            true => format!("{} to {}", clock(bar.from), clock(bar.until)),
            false => format!("at {}", clock(bar.from)),
        };
        let text = escaped(&bar.words);
        // Words that would leave the picture stand before their bar.
        let (at, anchor) = match x + room(&bar.words) > WIDTH - RIGHT {
            true if x + wide > WIDTH - RIGHT - 2.0 && wide > room(&bar.words) => (x + 6.0, "start"),
            true => (x - 5.0, "end"),
            false => (x + 6.0, "start"),
        };
        let _ = write!(
            svg,
            "<g><title>{text}, {span}</title><rect class=\"fault\" x=\"{x:.1}\" y=\"{y}\" \
             width=\"{wide:.1}\" height=\"{}\" rx=\"3\"/><text class=\"said\" x=\"{at:.1}\" \
             y=\"{}\" text-anchor=\"{anchor}\">{text}</text></g>",
            WORDS - 4.0,
            y + 13.0
        );
    }
    times(&mut svg, &axes, height - 20.0);
    svg + "</svg>"
}

/// The stretches in which something is broken.
pub fn bands(view: &View<'_>, seconds: f64) -> Vec<(f64, f64)> {
    let band = |fault: &crate::scenario::Fault| {
        let from = fault.at.as_secs_f64();
        (from, fault.until.map_or(from + seconds / 400.0, |until| until.as_secs_f64()))
    };
    let mut all: Vec<(f64, f64)> = view.scenario.faults.iter().map(band).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Shades of overlapping faults would add up.
    let mut merged: Vec<(f64, f64)> = Vec::new();
    for (from, until) in all {
        match merged.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(until),
            Some(_) | None => merged.push((from, until)),
        }
    }
    merged
}

/// How wide words are, about.
fn room(words: &str) -> f64 {
    words.chars().count() as f64 * 6.6 + 14.0
}

/// The row of each bar: the first in which neither the bar nor its words meet another.
fn packed(axes: &Axes, bars: &[Bar]) -> Vec<usize> {
    let mut ends: Vec<f64> = Vec::new();
    let mut rows = Vec::new();
    for bar in bars {
        let from = axes.x(bar.from);
        let until = axes.x(bar.until).max(from + room(&bar.words));
        let row = ends.iter().position(|end| *end < from).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0.0);
        }
        ends[row] = until + 4.0;
        rows.push(row);
    }
    rows
}

fn open(class: &str, label: &str, height: f64) -> String {
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"{}\">",
        escaped(label)
    )
}

/// What each gateway believed of each site; by site alone where there are too many.
pub fn health(view: &View<'_>, timeline: &Timeline, seconds: f64) -> String {
    let gateways = usize::from(view.scenario.bench.gateways);
    let sites = timeline.sites.len();
    if gateways * sites > LANES_MAX || gateways == 0 {
        return crowd(view, timeline, seconds);
    }
    let group = gateways as f64 * COLOUR + 10.0;
    let height = sites as f64 * group + 20.0;
    let axes = Axes { seconds, top: 1.0, height: 0.0 };
    let mut svg = open("health", "health of each site, as each gateway believes it", height);
    for (at, name) in timeline.sites.iter().enumerate() {
        let y = at as f64 * group + 4.0;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            y + group / 2.0 - 1.0,
            escaped(name)
        );
        for gateway in 0..gateways {
            let lane = y + gateway as f64 * COLOUR;
            for (from, until, word) in stretches(timeline, (gateway, at), seconds) {
                let x = axes.x(from);
                let wide = (axes.x(until) - x).max(1.0);
                let class = word.to_lowercase();
                let _ = write!(
                    svg,
                    "<rect class=\"verdict {}\" x=\"{x:.1}\" y=\"{lane:.1}\" \
                     width=\"{wide:.1}\" height=\"{}\"><title>gateway {}: {} {}, {} to \
                     {}</title></rect>",
                    escaped(&class),
                    COLOUR - 1.5,
                    gateway + 1,
                    escaped(name),
                    escaped(&class),
                    clock(from.round()),
                    clock(until.round())
                );
            }
        }
    }
    times(&mut svg, &axes, height - 20.0);
    svg + "</svg>"
}

/// What one gateway believed of one site, stretch by stretch. It begins with UP.
fn stretches(
    timeline: &Timeline,
    (gateway, site): (usize, usize),
    seconds: f64,
) -> Vec<(f64, f64, &'static str)> {
    let mut all = Vec::new();
    let mut since = (0.0, "up");
    let own = timeline.health.iter();
    let own = own.filter(|each| (usize::from(each.1), usize::from(each.2)) == (gateway, site));
    for (at, _, _, word) in own {
        if *at > since.0 {
            all.push((since.0, *at, since.1));
        }
        since = (*at, word);
    }
    if seconds > since.0 {
        all.push((since.0, seconds, since.1));
    }
    all
}

/// One lane a site: the share of gateways that do not have it up.
fn crowd(view: &View<'_>, timeline: &Timeline, seconds: f64) -> String {
    let gateways = f64::from(view.scenario.bench.gateways).max(1.0);
    let height = timeline.sites.len() as f64 * (WORDS - 6.0) + 24.0;
    let axes = Axes { seconds, top: 1.0, height: 0.0 };
    let mut svg = open("health", "share of gateways that do not have a site up", height);
    for (at, name) in timeline.sites.iter().enumerate() {
        let y = at as f64 * (WORDS - 6.0) + 2.0;
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\
             <rect class=\"verdict up\" x=\"{LEFT}\" y=\"{y}\" width=\"{}\" height=\"12\"/>",
            LEFT - 8.0,
            y + 10.0,
            escaped(name),
            WIDTH - LEFT - RIGHT
        );
        let away: Vec<f64> = timeline
            .seconds
            .iter()
            .map(|second| second.sites.get(at).map_or(0.0, |s| 1.0 - f64::from(s.up) / gateways))
            .collect();
        let step = away.len().div_ceil(300).max(1);
        for (part, chunk) in away.chunks(step).enumerate() {
            let share = chunk.iter().copied().fold(0.0, f64::max);
            if share > 0.0 {
                let from = (part * step) as f64;
                let x = axes.x(from);
                let wide = axes.x(from + step as f64) - x;
                let _ = write!(
                    svg,
                    "<rect class=\"verdict down\" fill-opacity=\"{share:.2}\" x=\"{x:.1}\" \
                     y=\"{y}\" width=\"{wide:.1}\" height=\"12\"><title>{}: {:.0} % of gateways \
                     do not have it up, {}</title></rect>",
                    escaped(name),
                    share * 100.0,
                    clock(from)
                );
            }
        }
    }
    times(&mut svg, &axes, height - 20.0);
    svg + "</svg>"
}

/// Decisions worth a mark, in rows by node, as many as can be told apart.
pub fn marks(timeline: &Timeline, seconds: f64) -> String {
    let mut nodes: Vec<&str> = timeline.marks.iter().map(|mark| mark.1.as_str()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return String::new();
    }
    let axes = Axes { seconds, top: 1.0, height: 0.0 };
    // Nodes beyond the last row share it.
    let rows = nodes.len().min(MARK_ROWS);
    let height = rows as f64 * 18.0 + 24.0;
    let mut svg = open("marks", "decisions", height);
    for (row, node) in nodes.iter().take(rows).enumerate() {
        let name = if row + 1 == rows && nodes.len() > rows { "others" } else { node };
        let _ = write!(
            svg,
            "<text class=\"name\" x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
            LEFT - 8.0,
            row as f64 * 18.0 + 14.0,
            escaped(name)
        );
    }
    for (at, node, what) in &timeline.marks {
        let row = nodes.iter().position(|each| each == node).unwrap_or(0).min(rows - 1);
        let (x, y) = (axes.x(*at), row as f64 * 18.0 + 10.0);
        let _ = write!(
            svg,
            "<circle class=\"mark\" cx=\"{x:.1}\" cy=\"{y}\" r=\"3\"><title>{} {}: \
             {}</title></circle>",
            clock(at.round()),
            escaped(node),
            escaped(what)
        );
    }
    times(&mut svg, &axes, height - 20.0);
    svg + "</svg>"
}

/// When the last fault is over, as people read it.
pub fn over(view: &View<'_>) -> Option<String> {
    measure::last_fault_end(view.scenario).map(|end| clock(end as f64))
}
