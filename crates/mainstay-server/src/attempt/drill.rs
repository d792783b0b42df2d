//! Breaks an attempt on purpose, as a drill wants it.
//!
//! What comes of it is what would come of a site that really broke so, and nobody behind it can
//! tell the difference. Nothing is decided here: core says which attempt, and how.

use super::{Attempt, Fault, Item, Question, Refused, Site, Source, engine, order, provider};
use crate::embedded;
use crate::upstream;
use http::{HeaderMap, StatusCode};
use mainstay_core::drill::Breakage;
use mainstay_core::gateway::request::Sent;
use mainstay_core::names::{ErrorClass, Failure};
use std::collections::VecDeque;
use tokio::time::{Instant, sleep_until};

/// Things said too early that are kept until their time; a source that says more waits.
const HELD_MAX: usize = 1024;

/// What is done to an attempt under way.
pub(super) enum Breaking {
    /// Nothing ever comes of it.
    Silent,
    /// It broke before it began.
    Stillborn(Option<Box<Fault>>),
    /// What comes is held back.
    Slow(Slow),
    /// It is cut off after so many more tokens.
    Cut(u32),
}

/// What was said too early.
pub(super) struct Slow {
    factor: u32,
    began: Instant,
    held: VecDeque<(Instant, Item)>,
    is_over: bool,
}

/// Opens an attempt that is broken so.
pub(super) fn open(site: &Site, question: &Question<'_>, breakage: Breakage) -> Attempt {
    let nothing = Source::Stillborn(None);
    let (source, breaking) = match breakage {
        Breakage::Down => (nothing, Breaking::Stillborn(Some(Box::new(refused(site))))),
        Breakage::Errors => (nothing, Breaking::Stillborn(Some(Box::new(unavailable(site))))),
        Breakage::Blackhole => (nothing, Breaking::Silent),
        Breakage::Slow(factor) => {
            let (began, held) = (Instant::now(), VecDeque::new());
            let slow = Slow { factor, began, held, is_over: false };
            (real(site, question), Breaking::Slow(slow))
        }
        Breakage::Cut(tokens) => (real(site, question), Breaking::Cut(tokens)),
    };
    Attempt { source, breaking: Some(breaking) }
}

/// What an attempt is that nobody breaks.
pub(super) fn real(site: &Site, question: &Question<'_>) -> Source {
    match site {
        Site::Provider(account) | Site::Node(account) => provider(account, question),
        Site::Engine(desk) => match engine::Answer::begin(desk, order(question)) {
            Ok(answer) => Source::Engine(answer),
            Err(failure) => Source::Stillborn(Some(failure)),
        },
    }
}

impl Breaking {
    /// What is told next instead of what `source` says. May be dropped and called again.
    pub(super) async fn next(&mut self, source: &mut Source) -> Item {
        match self {
            Breaking::Silent => std::future::pending().await,
            Breaking::Stillborn(fault) => match fault.take() {
                Some(fault) => Item::Broken(*fault),
                None => Item::End,
            },
            Breaking::Slow(slow) => slow.next(source).await,
            Breaking::Cut(0) => cut(source),
            Breaking::Cut(left) => {
                let item = source.next().await;
                count(left, item, source)
            }
        }
    }

    /// What is told next without waiting, if anything.
    pub(super) fn ready(&mut self, source: &mut Source) -> Option<Item> {
        match self {
            Breaking::Cut(0) => Some(cut(source)),
            Breaking::Cut(left) => {
                let item = source.ready()?;
                Some(count(left, item, source))
            }
            Breaking::Silent | Breaking::Stillborn(_) | Breaking::Slow(_) => None,
        }
    }
}

impl Slow {
    async fn next(&mut self, source: &mut Source) -> Item {
        loop {
            let first = self.held.front().map(|(due, _)| *due);
            let due = async {
                match first {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            if first.is_none() && self.is_over {
                return Item::End;
            }
            let has_room = !self.is_over && self.held.len() < HELD_MAX;
            tokio::select! {
                biased;
                () = due => {
                    if let Some((_, item)) = self.held.pop_front() {
                        return item;
                    }
                }
                item = source.next(), if has_room => self.hold(item),
            }
        }
    }

    /// What came after a time is told after so many times that time.
    fn hold(&mut self, item: Item) {
        self.is_over = matches!(item, Item::End | Item::Broken(_) | Item::Whole(_));
        let due = self.began + self.began.elapsed() * self.factor;
        self.held.push_back((due, item));
    }
}

/// Takes the tokens of `item` from those that are `left`.
fn count(left: &mut u32, item: Item, source: &mut Source) -> Item {
    match item {
        Item::Chunk(chunk) => {
            let tokens: u32 = chunk.deltas.iter().map(|delta| delta.tokens()).sum();
            *left = left.saturating_sub(tokens);
            Item::Chunk(chunk)
        }
        // A plain reply is cut before its end.
        Item::Whole(_) => cut(source),
        other => other,
    }
}

fn cut(source: &mut Source) -> Item {
    *source = Source::Stillborn(None);
    Item::Broken(Fault { cut: true, ..Fault::sending(upstream::cut_off()) })
}

fn refused(site: &Site) -> Fault {
    match site {
        Site::Provider(_) | Site::Node(_) => Fault::sending(upstream::refused()),
        Site::Engine(_) => {
            let what = "the embedded engine has stopped";
            Fault::of(Failure::ours(ErrorClass::Transient, what), Sent::Nothing)
        }
    }
}

fn unavailable(site: &Site) -> Fault {
    match site {
        Site::Provider(account) | Site::Node(account) => {
            let status = StatusCode::SERVICE_UNAVAILABLE.as_u16();
            let reply = Refused { status, headers: &HeaderMap::new(), body: b"" };
            Fault::of(account.dialect.classify(&reply), Sent::Maybe)
        }
        Site::Engine(_) => Fault::of_engine(embedded::full()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::event::{Chunk, Delta};
    use std::time::Duration;

    fn chunk(content: &str) -> Item {
        let delta = Delta { content: content.into(), ..Delta::default() };
        Item::Chunk(Chunk { deltas: vec![delta], ..Chunk::default() })
    }

    #[test]
    fn a_stream_is_cut_after_its_tokens_and_a_plain_reply_before_its_end() {
        let mut source = Source::Stillborn(None);
        let mut left = 2;
        for after in [1, 0] {
            assert!(matches!(count(&mut left, chunk("x"), &mut source), Item::Chunk(_)));
            assert_eq!(left, after);
        }
        let mut breaking = Breaking::Cut(left);
        let item = breaking.ready(&mut source);
        assert!(matches!(item, Some(Item::Broken(Fault { cut: true, .. }))), "{item:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_a_second_is_told_after_ten_and_the_rest_in_step() {
        let began = Instant::now();
        let mut slow = Slow { factor: 10, began, held: VecDeque::new(), is_over: false };
        for millis in [1000, 500] {
            tokio::time::advance(Duration::from_millis(millis)).await;
            slow.hold(chunk("x"));
        }
        slow.hold(Item::End);
        let mut source = Source::Stillborn(None);
        for seconds in [10, 15, 15] {
            slow.next(&mut source).await;
            assert_eq!(began.elapsed().as_secs(), seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_black_hole_says_nothing_and_a_closed_door_says_so_once() {
        let mut source = Source::Stillborn(None);
        let mut hole = Breaking::Silent;
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, hole.next(&mut source)).await.is_err());
        let fault = Fault::sending(upstream::refused());
        let mut breaking = Breaking::Stillborn(Some(Box::new(fault)));
        let item = breaking.next(&mut source).await;
        let Item::Broken(Fault { sent: Sent::Nothing, cut: false, .. }) = item else {
            panic!("{item:?}");
        };
        assert!(matches!(breaking.next(&mut source).await, Item::End));
    }
}
