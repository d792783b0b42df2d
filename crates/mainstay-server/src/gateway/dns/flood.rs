//! What is left unanswered when more comes than can be answered: duplicates first.
//!
//! Resolvers that hear nothing ask again, so that a flood feeds itself (Azure, 1 April 2021). The
//! kernel tells when it had to throw datagrams away; from then on, for a second, each asker is
//! answered each question once, and whatever asks the same again is dropped. One who has an answer
//! keeps it for the time to live and has no need of another.
//!
//! There is no limit per network besides: an answer is hardly larger than what it takes to ask for
//! it, so that these names are no lever against others.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A flood lasts so long after the last sign of it, and a question is answered once in it.
const WINDOW: Duration = Duration::from_secs(1);
/// Questions that are remembered; one that takes another's place only lets that be asked again.
const REMEMBERED: usize = 1 << 14;

/// What one socket knows of floods.
pub(super) struct Flood {
    keys: RandomState,
    began: Instant,
    /// Datagrams that the kernel has dropped so far.
    dropped: u32,
    until: Option<Instant>,
    seen: Box<[(u32, u32)]>,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Flood {
        Flood {
            keys: RandomState::new(),
            began: now,
            dropped: 0,
            until: None,
            seen: vec![(0, 0); REMEMBERED].into(),
        }
    }

    /// The kernel has dropped so many datagrams since the socket was made.
    pub(super) fn dropped(&mut self, now: Instant, dropped: u32) {
        if dropped != std::mem::replace(&mut self.dropped, dropped) {
            self.until = Some(now + WINDOW);
        }
    }

    /// Whether there is a flood.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether `asker` has asked this in the present window already. Only the id of the packet and
    /// the case of letters may differ.
    pub(super) fn is_duplicate(&mut self, now: Instant, asker: IpAddr, packet: &[u8]) -> bool {
        let mut question = [0; 64];
        let rest = packet.get(2..).unwrap_or_default();
        let length = rest.len().min(question.len());
        question[..length].copy_from_slice(&rest[..length]);
        question.make_ascii_lowercase();
        let long = rest.get(length..).unwrap_or_default();
        let hash = self.keys.hash_one((asker, question, long));
        let window = now.duration_since(self.began).as_secs() / WINDOW.as_secs();
        // Zero is no window, so that nothing is taken for seen that never was.
        let mark = ((hash >> 32) as u32, window as u32 + 1);
        let slot = &mut self.seen[hash as usize % REMEMBERED];
        std::mem::replace(slot, mark) == mark
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_begins_with_a_loss_and_passes() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        assert!(!flood.is_on(start));
        flood.dropped(start, 7);
        assert!(flood.is_on(start) && flood.is_on(start + WINDOW / 2));
        flood.dropped(start + WINDOW / 2, 7);
        assert!(!flood.is_on(start + WINDOW), "no more was lost");
    }

    #[test]
    fn the_same_question_of_the_same_asker_is_a_duplicate_within_the_window_only() {
        let start = Instant::now();
        let mut flood = Flood::new(start);
        let (one, other): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert!(!flood.is_duplicate(start, one, b"\x00\x01api.example.com"));
        assert!(flood.is_duplicate(start, one, b"\x00\x02aPi.Example.com"), "id and case differ");
        assert!(!flood.is_duplicate(start, other, b"\x00\x01api.example.com"));
        assert!(!flood.is_duplicate(start, one, b"\x00\x01api.example.net"));
        assert!(!flood.is_duplicate(start + WINDOW, one, b"\x00\x01api.example.com"));
    }
}
