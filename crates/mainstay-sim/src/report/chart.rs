//! Charts over time: areas, lines and bands on common axes, as SVG.

use super::escaped;
use std::fmt::Write;

/// Width of every picture, so that times stand below each other.
pub const WIDTH: f64 = 960.0;
/// Room at the left, for names and numbers.
pub const LEFT: f64 = 92.0;
/// Room at the right, for the last number of the axis.
pub const RIGHT: f64 = 14.0;
/// Room at the top of a chart, and at its bottom for times.
const TOP: f64 = 8.0;
const BOTTOM: f64 = 20.0;
/// Points of a curve at most: a third of the picture's width.
const POINTS: usize = 300;
/// Arrivals come by chance; a curve of single seconds is all noise.
const SMOOTH: usize = 3;

/// Where things stand on a picture.
#[derive(Clone, Copy, Debug)]
pub struct Axes {
    /// Seconds from left to right.
    pub seconds: f64,
    /// Value at the top.
    pub top: f64,
    /// Height of the plot.
    pub height: f64,
}

impl Axes {
    /// Across, of a second.
    pub fn x(&self, at: f64) -> f64 {
        let share = (at / self.seconds.max(1.0)).clamp(0.0, 1.0);
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// Down, of a value.
    fn y(&self, value: f64) -> f64 {
        TOP + self.height * (1.0 - (value / self.top.max(1e-9)).clamp(0.0, 1.0))
    }
}

/// A curve: its name, its class for colours, and a value a second.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What the reader calls it.
    pub name: String,
    /// Its colour.
    pub class: &'static str,
    /// Its values.
    pub values: Vec<f64>,
}

/// What one chart shows.
#[derive(Clone, Debug)]
pub struct Chart<'a> {
    /// What is measured, for those who cannot see it.
    pub label: &'a str,
    /// Where things stand.
    pub axes: Axes,
    /// Unit of the values.
    pub unit: &'static str,
    /// Filled, from the bottom, each on top of the one before.
    pub stacked: &'a [Curve],
    /// Drawn as lines.
    pub lines: &'a [Curve],
    /// Stretches that are shaded: from, until.
    pub bands: &'a [(f64, f64)],
}

/// Means over as many seconds as leave a readable number of points: the start of each, the value.
pub fn smooth(values: &[f64]) -> Vec<(f64, f64)> {
    let step = values.len().div_ceil(POINTS).max(SMOOTH);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    values
        .chunks(step)
        .enumerate()
        .map(|(at, part)| ((at * step) as f64 + part.len() as f64 / 2.0, mean(part)))
        .collect()
}

/// A number just above `value` that people count in.
pub fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let ten = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * ten).find(|most| *most >= value).unwrap_or(10.0 * ten)
}

/// The chart as SVG.
pub fn chart(chart: &Chart<'_>) -> String {
    let axes = chart.axes;
    let all = axes.height + TOP + BOTTOM;
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {all}\" role=\"img\" aria-label=\"{}\" \
         data-left=\"{LEFT}\" data-right=\"{}\" data-seconds=\"{}\" data-rows=\"{}\">",
        escaped(chart.label),
        WIDTH - RIGHT,
        axes.seconds,
        escaped(&rows(chart)),
    );
    for (from, until) in chart.bands {
        let (x, wide) = (axes.x(*from), (axes.x(*until) - axes.x(*from)).max(1.0));
        let height = axes.height;
        let _ = write!(
            svg,
            "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" \
             height=\"{height}\"/>"
        );
    }
    grid(&mut svg, chart);
    areas(&mut svg, chart);
    for curve in chart.lines {
        let points: Vec<String> = smooth(&curve.values)
            .iter()
            .map(|(at, value)| format!("{:.1},{:.1}", axes.x(*at), axes.y(*value)))
            .collect();
        let class = curve.class;
        let _ = write!(svg, "<polyline class=\"line {class}\" points=\"{}\"/>", points.join(" "));
    }
    let _ = write!(
        svg,
        "<line class=\"cross\" x1=\"0\" x2=\"0\" y1=\"{TOP}\" y2=\"{:.0}\"/></svg>",
        axes.height + TOP
    );
    svg
}

fn areas(svg: &mut String, chart: &Chart<'_>) {
    let axes = chart.axes;
    let count = chart.stacked.iter().map(|curve| curve.values.len()).max().unwrap_or(0);
    let mut below = smooth(&vec![0.0; count]);
    for curve in chart.stacked {
        let above: Vec<(f64, f64)> = below
            .iter()
            .zip(smooth(&curve.values))
            .map(|((at, base), (_, value))| (*at, base + value))
            .collect();
        let point = |(at, value): &(f64, f64)| format!("{:.1},{:.1}", axes.x(*at), axes.y(*value));
        let there: Vec<String> = above.iter().map(point).collect();
        let back: Vec<String> = below.iter().rev().map(point).collect();
        let class = curve.class;
        let _ = write!(
            svg,
            "<polygon class=\"area {class}\" points=\"{} {}\"/>",
            there.join(" "),
            back.join(" ")
        );
        below = above;
    }
}

/// Lines at round values, and the times below.
fn grid(svg: &mut String, chart: &Chart<'_>) {
    let axes = chart.axes;
    let parts = if axes.height < 60.0 { 1 } else { 2 };
    for part in 0..=parts {
        let value = axes.top * f64::from(part) / f64::from(parts);
        let y = axes.y(value);
        let right = WIDTH - RIGHT;
        let unit = if part == parts { chart.unit } else { "" };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{} {unit}</text>",
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    times(svg, &axes, axes.height + TOP);
}

/// Times below a picture, at round steps.
pub fn times(svg: &mut String, axes: &Axes, bottom: f64) {
    let steps = [10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 86400.0];
    let step = steps.iter().find(|step| axes.seconds / **step <= 14.0).unwrap_or(&86400.0);
    let mut at = 0.0;
    while at <= axes.seconds {
        let x = axes.x(at);
        // Words at the edge would be cut.
        let anchor = if x > WIDTH - RIGHT - 12.0 { "end" } else { "middle" };
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            bottom + 4.0,
            bottom + 16.0,
            clock(at)
        );
        at += step;
    }
}

/// `90 s`, `12 min`, `2 h`.
pub fn clock(seconds: f64) -> String {
    let whole = |unit: f64| (seconds / unit).fract() == 0.0;
    match seconds {
        seconds if seconds >= 7200.0 && whole(3600.0) => format!("{} h", seconds / 3600.0),
        seconds if seconds >= 120.0 && whole(60.0) => format!("{} min", seconds / 60.0),
        seconds if seconds >= 120.0 => {
            format!("{:.0}:{:02.0} min", (seconds / 60.0).floor(), seconds % 60.0)
        }
        seconds => format!("{seconds:.0} s"),
    }
}

fn short(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        value if value.fract() == 0.0 || value >= 100.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}

/// What the pointer reads: for each curve `name=value,value,…`, on the points that are drawn.
fn rows(chart: &Chart<'_>) -> String {
    let curves = chart.stacked.iter().chain(chart.lines);
    let row = |curve: &Curve| {
        let values: Vec<String> =
            smooth(&curve.values).iter().map(|(_, value)| format!("{value:.0}")).collect();
        format!("{}={}", curve.name.replace(['=', ';', ','], " "), values.join(","))
    };
    curves.map(row).collect::<Vec<_>>().join(";")
}

/// A picture of the whole run in the size of a stamp: asked, and answered well.
pub fn stamp(offered: &[f64], good: &[f64]) -> String {
    const WIDE: f64 = 180.0;
    const HIGH: f64 = 44.0;
    let most = offered.iter().chain(good).copied().fold(1.0, f64::max);
    let count = offered.len().max(1) as f64;
    let point = |(at, value): &(f64, f64)| {
        format!("{:.1},{:.1}", at / count * WIDE, HIGH - value / most * (HIGH - 2.0))
    };
    let line = |values: &[f64]| smooth(values).iter().map(point).collect::<Vec<_>>().join(" ");
    format!(
        "<svg class=\"stamp\" viewBox=\"0 0 {WIDE} {HIGH}\" aria-hidden=\"true\">\
         <polygon class=\"area good\" points=\"0,{HIGH} {} {WIDE},{HIGH}\"/>\
         <polyline class=\"line offered\" points=\"{}\"/></svg>",
        line(good),
        line(offered)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_numbers_that_people_count_in() {
        let cases = [(0.0, 1.0), (93.0, 100.0), (241.0, 250.0), (301.0, 400.0), (0.7, 0.8)];
        for (value, wanted) in cases {
            assert!((round_up(value) - wanted).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }

    #[test]
    fn curves_keep_their_mean_and_stay_short() {
        let values = vec![2.0; 100_000];
        let points = smooth(&values);
        assert!(points.len() <= POINTS && points.iter().all(|(_, value)| *value == 2.0));
        assert_eq!(clock(90.0), "90 s");
        assert_eq!(clock(720.0), "12 min");
        assert_eq!(clock(150.0), "2:30 min");
        assert_eq!(clock(7200.0), "2 h");
    }
}
