//! How a look is drawn: readable at 80 columns, and without colour.

use super::sample::{Fact, Target, Trend};
use ratatui::Frame;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;
use std::time::Instant;

/// Cells of a bar.
const BAR: usize = 10;
/// Lines kept for what was decided last, if the screen has them.
const FACTS: usize = 8;

/// Draws `trend` over the whole of `frame`.
pub fn draw(frame: &mut Frame<'_>, trend: &Trend, admin: &str) {
    let area = frame.area();
    let mut lines = vec![title(trend, admin)];
    lines.extend(body(trend, usize::from(area.width), usize::from(area.height)));
    frame.render_widget(Paragraph::new(Text::from(lines)), area);
}

/// The same as plain text.
pub fn text(trend: &Trend, width: usize) -> String {
    let mut text = String::new();
    for line in body(trend, width, usize::MAX) {
        let line: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn title(trend: &Trend, admin: &str) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![Span::styled("mainstay", bold), format!("  {admin}  ").into()];
    if let Some((_, since)) = &trend.wrong {
        let seconds = Instant::now().duration_since(*since).as_secs();
        let what = format!("does not answer since {seconds} s");
        spans.push(Span::styled(what, Style::new().fg(Color::Red)));
    }
    spans.push("  q quits".into());
    Line::from(spans)
}

fn body(trend: &Trend, width: usize, height: usize) -> Vec<Line<'static>> {
    let Some(now) = &trend.now else {
        let why = trend.wrong.as_ref().map_or("asking …", |(why, _)| why.as_str());
        return vec![Line::from(why.to_owned())];
    };
    let view = &now.view;
    let mut lines = vec![Line::from(format!(
        "{} open, {} waiting for room, {} orders in force{}",
        view.open,
        view.waiting,
        view.orders,
        if view.in_doubt { ", in doubt about itself" } else { "" }
    ))];
    lines.push(Line::default());
    lines.push(head(&format!(
        "{:<22} {:<9} {:>5} {:>6} {:>6}  {:<10} {:>7}",
        "SITE/MODEL", "STATE", "OPEN", "PER S", "SHARE", "CREDIT", "TTFT"
    )));
    let rate = |target: &Target| trend.attempts(&target.site, &target.model);
    let all: f64 = view.targets.iter().filter_map(rate).sum();
    lines.extend(view.targets.iter().map(|target| of_target(target, rate(target), all)));
    lines.push(Line::default());
    lines.push(head(&format!(
        "{:<22} {:>9} {:>9} {:>9} {:>9}",
        "TIER", "ASKS CU/S", "DONE/S", "GOOD/S", "SHED/S"
    )));
    lines.extend(tiers(trend));
    let room = height.saturating_sub(lines.len() + 3).min(FACTS);
    if room > 0 && !view.facts.is_empty() {
        lines.push(Line::default());
        lines.push(head("DECIDED LAST"));
        let newest = view.facts.iter().rev().take(room);
        lines.extend(newest.map(|fact| of_fact(fact, width)));
    }
    lines
}

fn head(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), Style::new().add_modifier(Modifier::DIM))
}

fn of_target(target: &Target, rate: Option<f64>, all: f64) -> Line<'static> {
    let name = cut(&format!("{}/{}", target.site, target.model), 22);
    let share = rate.filter(|_| all > 0.0).map(|rate| format!("{:.0} %", 100.0 * rate / all));
    let colour = match target.state.as_str() {
        "up" => Color::Green,
        "down" | "parked" => Color::Red,
        _ => Color::Yellow,
    };
    let state = match target.ramp {
        ramp if ramp < 100 && target.state == "up" => format!("ramp {ramp}%"),
        _ => target.state.clone(),
    };
    Line::from(vec![
        format!("{name:<22} ").into(),
        Span::styled(format!("{state:<9}"), Style::new().fg(colour)),
        format!(
            " {:>5} {:>6} {:>6}  {:<BAR$} {:>7}",
            target.in_flight,
            rate.map_or("-".into(), |rate| format!("{rate:.1}")),
            share.unwrap_or_else(|| "-".into()),
            bar(target.wanted, target.held),
            target.first_token_ms.map_or("-".into(), |ms| format!("{ms:.0} ms")),
        )
        .into(),
    ])
}

fn tiers(trend: &Trend) -> Vec<Line<'static>> {
    let Some(now) = &trend.now else { return Vec::new() };
    let asked = |tier: &str| -> f64 {
        let of = |demand: &super::sample::Demand| demand.cu_per_second.get(tier).copied();
        now.view.demand.iter().filter_map(of).sum()
    };
    let mut names: Vec<&String> = now.requests.keys().collect();
    for demand in &now.view.demand {
        names.extend(demand.cu_per_second.keys().filter(|tier| asked(tier) > 0.0));
    }
    names.sort_unstable();
    names.dedup();
    let line = |tier: &String| {
        let shown = |rate: f64| format!("{rate:.1}");
        let rates = trend.requests(tier);
        let [done, good, shed] =
            rates.map_or(["-", "-", "-"].map(str::to_owned), |all| all.map(shown));
        let text =
            format!("{:<22} {:>9.1} {done:>9} {good:>9} {shed:>9}", cut(tier, 22), asked(tier));
        let is_shed = rates.is_some_and(|[.., shed]| shed > 0.0);
        let colour = if is_shed { Style::new().fg(Color::Yellow) } else { Style::new() };
        Line::styled(text, colour)
    };
    names.into_iter().map(line).collect()
}

fn of_fact(fact: &Fact, width: usize) -> Line<'static> {
    let age = match fact.age_s {
        age if age < 60.0 => format!("{age:>3.0} s"),
        age => format!("{:>3.0} m", age / 60.0),
    };
    Line::from(cut(&format!("{age}  {}", fact.text), width.max(20)))
}

/// How much of `held` is wanted, in cells; more than all of it ends in a mark.
fn bar(wanted: f64, held: f64) -> String {
    if held <= 0.0 {
        return "-".into();
    }
    let cells = (wanted / held * BAR as f64).round() as usize;
    let full = "█".repeat(cells.min(BAR));
    let open = "·".repeat(BAR - cells.min(BAR));
    let mut bar = full + &open;
    if cells > BAR {
        bar.pop();
        bar.push('▶');
    }
    bar
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::{Sample, View};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn trend() -> Trend {
        let view = serde_json::json!({
            "targets": [
                { "site": "a-site-with-a-long-name", "model": "deepseek-v4-flash", "state": "up",
                  "in_flight": 12, "held": 40.0, "wanted": 20.0, "capacity": 100.0, "ramp": 100,
                  "first_token_ms": 310.0 },
                { "site": "b", "model": "m", "state": "down", "in_flight": 0, "held": 0.0,
                  "wanted": 5.0, "capacity": 0.0, "ramp": 100, "first_token_ms": null },
            ],
            "demand": [{ "model": "chat", "cu_per_second": { "pro": 20.0, "free": 0.0 } }],
            "open": 12, "waiting": 1, "orders": 0, "in_doubt": false,
            "facts": [{ "age_s": 3.0, "fact": "health", "text": "b/m: up -> down ".repeat(20) }],
        });
        let view: View = serde_json::from_value(view).unwrap();
        let (attempts, requests) = Default::default();
        Trend::of(Sample { at: Instant::now(), view, attempts, requests })
    }

    #[test]
    fn everything_fits_into_eighty_columns() {
        let text = text(&trend(), 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        for word in ["a-site-with-a-long-na…", "down", "█████·····", "pro", "DECIDED LAST"]
        {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }

    #[test]
    fn a_small_terminal_shows_sites_first() {
        let mut terminal = Terminal::new(TestBackend::new(40, 6)).unwrap();
        terminal.draw(|frame| draw(frame, &trend(), "http://x")).unwrap();
        let shown = terminal.backend().to_string();
        assert!(shown.contains("SITE/MODEL") && shown.contains("a-site"), "{shown}");
    }

    #[test]
    fn a_server_that_does_not_answer_is_said_to() {
        let mut trend = trend();
        trend.add(Err("cannot ask".into()));
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &trend, "http://x")).unwrap();
        assert!(terminal.backend().to_string().contains("does not answer"));
    }
}
