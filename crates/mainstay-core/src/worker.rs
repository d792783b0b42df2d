//! What the embedded engine's thread works by: times and bounds.

use crate::time::Duration;

/// How often a request hears that it is at work. Well below the shortest patience of anybody who
/// waits, and rare enough to cost nothing.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);
/// Pause between looks while nothing is computed but something is awaited: a client that takes, a
/// model that loads. Below what a person notices.
pub const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A model that could not be loaded is tried again this long after; files do not mend themselves
/// sooner.
pub const LOAD_AGAIN: Duration = Duration::from_secs(30);
/// Orders that may wait at the engine's door, and beyond it while a model loads.
pub const ORDERS_MAX: usize = 64;
/// Pieces of an answer on their way to a client that takes them.
pub const PIECES: usize = 64;
/// Pieces kept for a client that does not take. Its sequences then give their memory back, and go
/// on exactly where they were when it does.
pub const PIECES_AHEAD: usize = 256;
/// Tokens of an answer whose client set no limit.
pub const ANSWER_TOKENS: u32 = 1024;
/// Answers to one request; each is a sequence of its own.
pub const CHOICES_MAX: u32 = 32;
/// A prompt of more bytes than this for each token of the window is too long whatever it says;
/// tokenising it would only take time from others.
pub const TOKEN_BYTES_MAX: usize = 64;
/// The rehearsal model's step of time. Far shorter than between two tokens of any model, so that a
/// process that runs only part of the time is slowed by as much; long enough to cost nothing.
pub const TURN: Duration = Duration::from_millis(2);
/// Answers that the rehearsal model writes at once: some hundred bytes each.
pub const REHEARSED_MAX: usize = 4096;
/// A step in which nothing was finished for so many times `BEAT_EVERY`, one minute, hangs. The
/// slowest part of a step, a layer for some dozen tokens, takes seconds of the largest model on the
/// slowest machine. Counted in looks and not by the clock: a process that was stopped for an hour
/// finds no step that hangs.
pub const HANGS_AFTER: u32 = 240;
/// Threads that hang and were given up, with the memory of an engine each. After one more nothing
/// new is begun: what hangs so often hangs again, and only a process that ends frees its threads.
pub const HUNG_MAX: usize = 3;

/// How long after its process ended the engine starts again, where this was its `deaths`-th end in
/// a row: at once the first time, for answers wait to be continued, and then later and later, for
/// what ends it each time is not to take the machine from others.
pub fn restart_after(deaths: u32) -> Duration {
    match deaths {
        0 | 1 => Duration::ZERO,
        more => Duration::from_secs(1 << (more - 2).min(5)).min(LOAD_AGAIN),
    }
}

/// A process that lived so long did not end for what it did at its start: the count begins anew.
pub const LIVED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_that_ends_again_and_again_starts_later_and_later() {
        let seconds: [u64; 9] = core::array::from_fn(|n| restart_after(n as u32).as_secs());
        assert_eq!(seconds, [0, 0, 1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(restart_after(u32::MAX), LOAD_AGAIN);
    }
}
