//! The demo on a terminal: the view of `top`, the processes below it, and keys to break them.

use super::fleet::{Fleet, Role, State};
use crate::top::sample::{Sample, Trend};
use crate::top::screen;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::style::{Color, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::Paragraph;
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// How many times slower `x` makes a process.
const SLOWER: u32 = 10;

/// Shows the fleet until `q`, or for so long.
pub fn watch(fleet: &Fleet, lasts: Option<Duration>) -> std::io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let result = look(&mut terminal, fleet, lasts);
    ratatui::restore();
    result
}

fn look(
    terminal: &mut ratatui::DefaultTerminal,
    fleet: &Fleet,
    lasts: Option<Duration>,
) -> std::io::Result<()> {
    let (mut trend, began, mut next) = (Trend::default(), Instant::now(), Instant::now());
    let (mut chosen, mut said) = (0, String::new());
    while lasts.is_none_or(|lasts| began.elapsed() < lasts) {
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            trend.add(sample(fleet));
        }
        terminal.draw(|frame| {
            let area = frame.area();
            let lines = nodes(fleet, chosen, &said);
            let height = u16::try_from(lines.len()).unwrap_or(0).min(area.height);
            let mut below = area;
            below.y = area.height - height;
            below.height = height;
            screen::draw(frame, &trend, "demo");
            frame.render_widget(ratatui::widgets::Clear, below);
            frame.render_widget(Paragraph::new(Text::from(lines)), below);
        })?;
        if !event::poll(next.saturating_duration_since(Instant::now()))? {
            continue;
        }
        let Event::Key(key) = event::read()? else { continue };
        if key.kind != KeyEventKind::Press {
            continue;
        }
        let is_break =
            key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
        let name = fleet.nodes()[chosen].name.clone();
        let done = match key.code {
            _ if is_break => return Ok(()),
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Left => {
                chosen = (chosen + fleet.len() - 1) % fleet.len();
                continue;
            }
            KeyCode::Right => {
                chosen = (chosen + 1) % fleet.len();
                continue;
            }
            KeyCode::Char(digit @ '1'..='9') => {
                chosen = (digit as usize - '1' as usize).min(fleet.len() - 1);
                continue;
            }
            KeyCode::Char('k') => fleet.kill(&name).map(|()| format!("{name}: kill -9")),
            KeyCode::Char('s') => fleet.pause(&name).map(|()| format!("{name}: stopped")),
            KeyCode::Char('x') => {
                fleet.slow(&name, SLOWER).map(|()| format!("{name}: {SLOWER} times slower"))
            }
            KeyCode::Char('r') => mend(fleet, &name).map(|()| format!("{name}: mended")),
            _ => continue,
        };
        said = done.unwrap_or_else(|why| why);
    }
    Ok(())
}

fn mend(fleet: &Fleet, name: &str) -> Result<(), String> {
    match fleet.node(name)?.state() {
        State::Dead => fleet.start(name),
        State::Up | State::Stopped | State::Slow(_) => fleet.resume(name),
    }
}

/// The view of the first gateway that answers.
fn sample(fleet: &Fleet) -> Result<Sample, String> {
    let gateways = fleet.of(Role::Gateway);
    let mut last = Err(String::from("no gateway"));
    for gateway in gateways.filter(|gateway| matches!(gateway.state(), State::Up)) {
        last = Sample::take(&format!("http://{}", gateway.admin));
        if last.is_ok() {
            break;
        }
    }
    last
}

fn nodes(fleet: &Fleet, chosen: usize, said: &str) -> Vec<Line<'static>> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    for (at, node) in fleet.nodes().iter().enumerate() {
        let (word, colour) = match node.state() {
            State::Up => ("up", Color::Green),
            State::Dead => ("dead", Color::Red),
            State::Stopped => ("stopped", Color::Yellow),
            State::Slow(_) => ("slow", Color::Yellow),
        };
        let mark = if at == chosen { '>' } else { ' ' };
        spans.push(format!("{mark}{} {} ", at + 1, node.name).into());
        spans.push(Span::styled(format!("{word}  "), Style::new().fg(colour)));
    }
    vec![
        Line::from(spans),
        Line::from("1-9 choose  k kill -9  s stop  x slow  r mend  q quit".to_owned()),
        Line::from(said.to_owned()),
    ]
}
