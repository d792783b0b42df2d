//! How far a long command is, on a terminal only; and a clean end when it is interrupted.

use std::io::{IsTerminal, Write};
use std::process;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Fast enough for the eye.
const EVERY: Duration = Duration::from_millis(200);
/// An estimate from less tells nothing.
const LEAST: Duration = Duration::from_secs(3);
/// Exit code of a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// A line that is written over and over.
#[derive(Debug)]
pub struct Progress {
    total: usize,
    begun: Instant,
    is_watched: bool,
    /// When it was written last, and how much is done.
    last: Mutex<(Option<Instant>, usize)>,
}

impl Progress {
    /// Of so many runs. Nothing is told where nobody watches.
    pub fn new(total: usize) -> Progress {
        let is_watched = std::io::stderr().is_terminal();
        if is_watched {
            std::thread::spawn(leave_cleanly);
        }
        Progress { total, begun: Instant::now(), is_watched, last: Mutex::new((None, 0)) }
    }

    /// So many are done, and this share of the work.
    pub fn tell(&self, done: usize, share: f64) {
        if !self.is_watched {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if last.0.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        *last = (Some(Instant::now()), done);
        write(&line((done, self.total), share, self.begun.elapsed()));
    }

    /// Takes the line away.
    pub fn end(&self) {
        if self.is_watched {
            write("");
        }
    }
}

fn line((done, total): (usize, usize), share: f64, passed: Duration) -> String {
    let left = match share > 0.0 && passed >= LEAST {
        true => format!(", {} left", words(passed.mul_f64(((1.0 - share) / share).max(0.0)))),
        false => String::new(),
    };
    format!("{done} of {total} runs, {:.0} %{left}", (share * 100.0).floor())
}

fn words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..=99 => format!("{seconds} s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// In place of what stands there.
fn write(line: &str) {
    eprint!("\r\x1b[K{line}");
    let _ = std::io::stderr().flush();
}

/// At Ctrl-C the line is taken away and the process ends: half a sweep is no verdict.
fn leave_cleanly() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    let Ok(runtime) = runtime else { return };
    if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
        write("");
        eprintln!("mainstay: interrupted; nothing was judged");
        process::exit(INTERRUPTED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_once_there_is_something_to_tell_by() {
        let secs = Duration::from_secs;
        assert_eq!(line((1, 9), 0.1, secs(1)), "1 of 9 runs, 10 %");
        assert_eq!(line((3, 9), 0.25, secs(20)), "3 of 9 runs, 25 %, 60 s left");
        assert_eq!(line((9, 9000), 0.01, secs(20)), "9 of 9000 runs, 1 %, 33 min left");
        assert_eq!(line((9, 9), 1.0, secs(20)), "9 of 9 runs, 100 %, 0 s left");
    }
}
