//! What one attempt will be told, with when: the items that the server's attempt reads from a
//! socket, without the socket.

use mainstay_core::gateway::request::Sent;
use mainstay_core::names::{ErrorClass, Failure, Scope};
use std::time::Duration;

/// One thing an attempt tells.
#[derive(Clone, Debug)]
pub enum Item {
    /// It lives; no token came.
    Life,
    /// A piece of the answer.
    Piece(Piece),
    /// How many tokens the provider says it made.
    Usage(u32),
    /// It ended as the protocol says it should.
    End,
    /// It broke.
    Broken(Fault),
}

/// A piece of one choice.
#[derive(Clone, Debug, Default)]
pub struct Piece {
    /// Index of the choice.
    pub choice: u32,
    /// Text of the answer.
    pub content: String,
    /// Text of the reasoning.
    pub reasoning: String,
    /// The finish reason, if this is its last.
    pub finish: Option<Finish>,
}

/// Why a choice ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// By itself.
    Stop,
    /// At a token limit.
    Length,
    /// By the provider's filter.
    Filter,
}

/// How an attempt breaks.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it means.
    pub failure: Failure,
    /// How much the upstream can have seen.
    pub sent: Sent,
    /// A pooled connection had been dead already.
    pub stale: bool,
    /// Whether the transport broke after the reply had begun.
    pub cut: bool,
}

/// How an answer under way breaks.
#[derive(Clone, Debug)]
pub enum Break {
    /// The connection closes.
    Close,
    /// The stream ends in good order, but without a finish reason.
    End,
    /// Nothing more comes; after half a minute it closes.
    Stall,
    /// A token each so often, with comments between.
    Drip(Duration),
    /// An event that cannot be read.
    Poison,
    /// An error as an event.
    Error(Failure),
    /// A finish reason, too early.
    Finish(Finish),
    /// Only this choice ends; the others go on to their end, then the connection closes.
    Choice(u32),
}

/// Items with their distance from the moment of sending.
#[derive(Clone, Debug, Default)]
pub struct Script {
    /// In order of time.
    pub items: Vec<(Duration, Item)>,
}

impl Fault {
    /// A fault that came as a reply.
    pub fn reply(failure: Failure) -> Fault {
        Fault { failure, sent: Sent::Maybe, stale: false, cut: false }
    }

    /// No connection came about.
    pub fn refused() -> Fault {
        let failure = Failure::ours(ErrorClass::Dead(Scope::Site), "connection refused");
        Fault { sent: Sent::Nothing, ..Fault::reply(failure) }
    }

    /// The connection broke before any byte of a reply.
    pub fn reset() -> Fault {
        Fault::reply(Failure::ours(ErrorClass::Transient, "connection reset"))
    }

    /// The connection broke within the reply.
    pub fn cut() -> Fault {
        Fault { cut: true, ..Fault::reset() }
    }
}

impl Script {
    /// Only `item`, after this time.
    pub fn only(after: Duration, item: Item) -> Script {
        Script { items: vec![(after, item)] }
    }

    /// Adds `item`, this long after the last one.
    pub fn then(&mut self, later: Duration, item: Item) {
        let last = self.items.last().map_or(Duration::ZERO, |(at, _)| *at);
        self.items.push((last + later, item));
    }
}

/// The timing of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From sending to the first token.
    pub first: Duration,
    /// Between tokens.
    pub gap: Duration,
}

/// An answer of several choices, whose tokens come in turn, breaking after `after` tokens of each
/// choice if `breaks` says how.
pub fn play(choices: &[Vec<String>], pace: Pace, breaks: Option<(u32, &Break)>) -> Script {
    let mut script = Script::only(pace.first.min(Duration::from_millis(20)), Item::Life);
    let longest = choices.iter().map(Vec::len).max().unwrap_or(0);
    let mut wait = pace.first.saturating_sub(Duration::from_millis(20));
    let mut made = 0;
    for at in 0..=longest {
        if let Some((after, how)) = breaks
            && at >= after as usize
            && !matches!(how, Break::Choice(_))
        {
            return break_off(script, choices, (after, how));
        }
        for (choice, words) in (0u32..).zip(choices) {
            let is_over = matches!(breaks, Some((after, Break::Choice(gone)))
                if choice == *gone && at >= after as usize);
            let Some(word) = words.get(at).filter(|_| !is_over) else { continue };
            let piece = Piece { choice, content: word.clone(), ..Piece::default() };
            script.then(wait, Item::Piece(piece));
            wait = Duration::ZERO;
            made += 1;
        }
        wait = if at < longest { pace.gap } else { Duration::ZERO };
    }
    let is_gone = |choice: u32| matches!(breaks, Some((_, Break::Choice(gone))) if choice == *gone);
    for choice in (0..choices.len() as u32).filter(|choice| !is_gone(*choice)) {
        script.then(Duration::ZERO, finish(choice, Finish::Stop));
    }
    if let Some((_, Break::Choice(_))) = breaks {
        script.then(pace.gap, Item::Broken(Fault::cut()));
        return script;
    }
    script.then(Duration::ZERO, Item::Usage(made));
    script.then(Duration::from_millis(1), Item::End);
    script
}

fn finish(choice: u32, why: Finish) -> Item {
    Item::Piece(Piece { choice, finish: Some(why), ..Piece::default() })
}

fn break_off(mut script: Script, choices: &[Vec<String>], (after, how): (u32, &Break)) -> Script {
    let soon = Duration::from_millis(5);
    let poisoned = || Failure::ours(ErrorClass::PoisonedStream, "broken JSON");
    match how {
        Break::Close | Break::Choice(_) => script.then(soon, Item::Broken(Fault::cut())),
        Break::End => script.then(soon, Item::End),
        Break::Stall => script.then(Duration::from_secs(30), Item::Broken(Fault::cut())),
        Break::Poison => script.then(soon, Item::Broken(Fault::reply(poisoned()))),
        Break::Error(failure) => script.then(soon, Item::Broken(Fault::reply(failure.clone()))),
        Break::Drip(gap) => {
            for word in choices.iter().flat_map(|words| words.iter().skip(after as usize)) {
                script.then(*gap / 2, Item::Life);
                let piece = Piece { content: word.clone(), ..Piece::default() };
                script.then(*gap / 2, Item::Piece(piece));
            }
            script.then(*gap, finish(0, Finish::Stop));
            script.then(Duration::ZERO, Item::End);
        }
        Break::Finish(why) => {
            script.then(soon, finish(0, *why));
            script.then(Duration::ZERO, Item::Usage(after));
            script.then(Duration::ZERO, Item::End);
        }
    }
    script
}
