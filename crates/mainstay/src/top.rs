//! Live terminal view of a gateway: its sites with health, credit, load and share, its tiers with
//! what they ask for and what is refused, and what was decided last.
//!
//! It asks the admin listener once a second and shows what it got; nothing is shown that was not
//! measured. When the server does not answer, it says since when.

pub mod sample;
pub mod screen;

use crate::command_line::Top;
use crate::stdout::say;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use sample::{Sample, Trend};
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Keys are looked for so often.
const KEYS: Duration = Duration::from_millis(100);

/// Shows how the server stands, until `q`.
pub fn top(options: &Top) -> ExitCode {
    if options.once || options.json || !std::io::stdout().is_terminal() {
        return once(options);
    }
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            eprintln!("mainstay: this terminal cannot be drawn on: {error}; --once prints instead");
            return ExitCode::FAILURE;
        }
    };
    let result = watch(&mut terminal, &options.admin);
    ratatui::restore();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mainstay: the terminal failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One look, printed: for pipes, and for programs as JSON.
fn once(options: &Top) -> ExitCode {
    match Sample::take(&options.admin) {
        Ok(sample) if options.json => {
            say(&format!("{}\n", sample.json()));
            ExitCode::SUCCESS
        }
        Ok(sample) => {
            say(&screen::text(&Trend::of(sample), 80));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("mainstay: {why}");
            ExitCode::FAILURE
        }
    }
}

fn watch(terminal: &mut ratatui::DefaultTerminal, admin: &str) -> std::io::Result<()> {
    let mut trend = Trend::default();
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            trend.add(Sample::take(admin));
            terminal.draw(|frame| screen::draw(frame, &trend, admin))?;
        }
        if !event::poll(KEYS.min(next.saturating_duration_since(Instant::now())))? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let is_break =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_break || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(());
                }
            }
            Event::Resize(..) => {
                terminal.draw(|frame| screen::draw(frame, &trend, admin))?;
            }
            _ => {}
        }
    }
}
