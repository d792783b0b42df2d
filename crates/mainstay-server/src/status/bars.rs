//! Ninety days of a component as bars, and its last day as lines: small drawings with their gaps.
//!
//! Days that follow each other in the same state are one shape under a mask that cuts it into days,
//! so that a page of many components stays small.

use super::words::Language;
use mainstay_core::fact::State;
use mainstay_core::status::history::{DAYS, Day, Drawn};
use std::fmt::Write;

/// Width of a day, its bar and all of them.
const WIDTH: usize = 4;
const HEIGHT: usize = 20;
const ALL: usize = DAYS * WIDTH;

/// Put once on a page that has bars.
pub(super) fn mask() -> String {
    format!(
        "<svg width=\"0\" height=\"0\" style=\"position:absolute\" aria-hidden=\"true\"><defs>\
         <pattern id=\"day\" width=\"{WIDTH}\" height=\"{HEIGHT}\" patternUnits=\"userSpaceOnUse\">\
         <rect width=\"3\" height=\"{HEIGHT}\" fill=\"#fff\"/></pattern>\
         <mask id=\"days\"><rect width=\"{ALL}\" height=\"{HEIGHT}\" fill=\"url(#day)\"/></mask>\
         </defs></svg>"
    )
}

/// The bars of ninety days, and in words what they say; empty where nothing is known.
pub(super) fn uptime(days: &[Option<Day>], language: Language) -> Option<String> {
    let known = days.iter().flatten().count();
    let share = Day::uptime(days.iter().flatten().copied())?;
    let (good, failed) =
        days.iter().flatten().fold((0, 0), |sum, day| (sum.0 + day.good, sum.1 + day.failed));
    let up = format!("{}.{:03} %", share / 1000, share % 1000);
    let mut words = language.of(
        format!("{up} up, {known} of {DAYS} days known"),
        format!("可用率 {up}，{DAYS} 天中有 {known} 天的数据"),
    );
    if good + failed > 0 {
        let share = (u128::from(good) * 100_000 / u128::from(good + failed)) as u64;
        let all = good + failed;
        let share = format!("{}.{:03} %", share / 1000, share % 1000);
        let _ = match language {
            Language::English => write!(words, " · {share} of {all} requests answered"),
            Language::Chinese => write!(words, " · {all} 个请求成功率 {share}"),
        };
    }
    let mut shapes = String::new();
    let mut at = 0;
    while at < days.len() {
        let state = state_of(days[at]);
        let same = days[at..].iter().take_while(|day| state_of(**day) == state).count();
        // What is worse stands lower as well: colour is never all that tells.
        let top = match state {
            State::NoData => HEIGHT - 3,
            State::Maintenance => HEIGHT / 2,
            State::Operational => 0,
            State::Degraded => 4,
            State::Partial => 8,
            State::Major => 12,
        };
        let _ = write!(
            shapes,
            "<rect x=\"{}\" y=\"{top}\" width=\"{}\" height=\"{}\" class=\"f{}\"/>",
            at * WIDTH,
            same * WIDTH,
            HEIGHT - top,
            class(state)
        );
        at += same;
    }
    Some(format!(
        "<svg class=\"days\" viewBox=\"0 0 {ALL} {HEIGHT}\" preserveAspectRatio=\"none\" \
         role=\"img\" aria-label=\"{words}\"><g mask=\"url(#days)\">{shapes}</g></svg>\
         <span class=\"more\">{words}</span>"
    ))
}

fn state_of(day: Option<Day>) -> State {
    day.map_or(State::NoData, |day| day.worst().unwrap_or(State::Operational))
}

fn class(state: State) -> usize {
    State::ALL.iter().position(|each| *each == state).unwrap_or(0)
}

/// A line of one day in five minutes; where too little was counted there is a gap. None if there is
/// nothing to draw. `most` is what the top of the drawing stands for.
fn line(values: impl Iterator<Item = Option<f64>>, most: f64) -> Option<String> {
    let mut path = String::new();
    let mut is_drawn = false;
    for (at, value) in values.enumerate() {
        let Some(value) = value else {
            is_drawn = false;
            continue;
        };
        let y = 60.0 - (value / most).min(1.0) * 58.0;
        let _ = match is_drawn {
            true => write!(path, "L{at} {y:.0}"),
            false => write!(path, "M{at} {y:.0}h1"),
        };
        is_drawn = true;
    }
    (!path.is_empty()).then_some(path)
}

/// Failures, first tokens and times between tokens of the last day.
pub(super) fn day(drawn: &[Drawn], language: Language) -> Option<String> {
    let failed = || drawn.iter().map(|slot| slot.failed.map(|of| f64::from(of) / 10.0));
    let first = || drawn.iter().map(|slot| slot.first_token.map(|time| time.as_secs_f64()));
    let gap = || drawn.iter().map(|slot| slot.gap.map(|time| time.as_secs_f64() * 1000.0));
    let top = |values: &mut dyn Iterator<Item = Option<f64>>, least: f64| {
        values.flatten().fold(least, f64::max)
    };
    let draw = |what: &str, unit: &str, path: Option<String>, most: f64| {
        let path = path?;
        let words = language.of(
            format!("{what}, last 24 h; top of the drawing: {most:.1} {unit}"),
            format!("{what}，最近 24 小时；图顶为 {most:.1} {unit}"),
        );
        Some(format!(
            "<figure><figcaption>{words}</figcaption><svg class=\"line\" viewBox=\"0 0 288 62\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{words}\">\
             <path d=\"{path}\"/></svg></figure>"
        ))
    };
    let most = (top(&mut failed(), 1.0), top(&mut first(), 1.0), top(&mut gap(), 50.0));
    let what = language.of("Requests that failed", "失败请求占比");
    let failures = draw(what, "%", line(failed(), most.0), most.0);
    let what = language.of("First token within (95 %)", "首个 token 用时（95%）");
    let tokens = draw(what, language.of("s", "秒"), line(first(), most.1), most.1);
    let what = language.of("Time between tokens within (95 %)", "token 间隔（95%）");
    let gaps = draw(what, language.of("ms", "毫秒"), line(gap(), most.2), most.2);
    let all: String = [failures, tokens, gaps].into_iter().flatten().collect();
    (!all.is_empty()).then_some(all)
}
