//! What is done to one request: a list of steps, from the status line to the way the connection
//! ends. Composed before the first byte is sent, so that a behavior is a value that can be read
//! and tested; played by `wire` (HTTP/1.1) and `http2`.

pub mod bench;
pub mod bytes;
pub mod normal;
pub mod refusals;
pub mod streams;
pub mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use super::Profile;
use super::ask::Ask;
use super::reply::{Answer, Voice};
use super::scope::Admission;

/// How the end of a body is known in HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Transfer-Encoding: chunked`
    Chunked,
    /// `Content-Length`
    Length(usize),
    /// The end of the connection.
    UntilClose,
}

/// A status line and headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Headers besides `Date` and those of the framing.
    pub headers: Vec<(String, String)>,
    /// How the body ends.
    pub framing: Framing,
}

/// One thing to do. The peer is watched throughout: when it hangs up the play ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sends the head.
    Head(Head),
    /// Sends body bytes at once, framed as the head said; they hold so many output tokens.
    Body(Vec<u8>, usize),
    /// Sends bytes outside all framing.
    Raw(Vec<u8>),
    /// Does a step so many times, with a pause before each.
    Repeat(Box<Step>, Duration, u64),
    /// Sends nothing for a while.
    Wait(Duration),
    /// Ends the body properly.
    End,
    /// Closes the connection (FIN; HTTP/2: RST_STREAM INTERNAL_ERROR).
    Close,
    /// Resets the connection (RST; HTTP/2: RST_STREAM CANCEL).
    Reset,
    /// Drops everything that arrives from here on and holds the socket open.
    Vanish(Duration),
    /// Lets the kept connection vanish once this reply is over.
    VanishIdle,
    /// HTTP/2: GOAWAY with this error code, covering this stream or not.
    GoAway { code: u32, covers: bool },
    /// HTTP/2: RST_STREAM with this error code (HTTP/1.1: closes).
    ResetStream(u32),
}

/// The steps, and whether they amount to a normal answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Play {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// Logged as `served` rather than `fault` when it plays to its end.
    pub good: bool,
}

/// When a behavior shows; the normal answer otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At every attempt.
    Always,
    /// At the first attempt for this model since the scope's reset.
    First,
    /// At the first attempt of each conversation (its last user message).
    FirstOfConversation,
}

/// One behavior, chosen by model name.
pub struct Behavior {
    /// The model name.
    pub name: &'static str,
    /// When it shows.
    pub when: When,
    /// What it does, in a line.
    pub does: &'static str,
    /// Composes it.
    pub play: fn(&Stage) -> Play,
}

/// What a composer sees: the request, and the state of its scope at this moment.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The request.
    pub ask: Ask,
    /// The normal answer to it.
    pub answer: Answer,
    /// What the model does with a trailing assistant message.
    pub voice: Voice,
    /// Time to the first token, and between tokens.
    pub pace: Pace,
    /// The timings in force.
    pub profile: Profile,
    /// The number in the model's name, e.g. 40 in `cut-40`; 0 without one.
    pub number: u64,
    /// Which attempt this is for the model since the scope's reset, from 1.
    pub attempt: u64,
    /// Which attempt this is of the conversation at the model, from 1.
    pub conversation_attempt: u64,
    /// Time since the scope's reset.
    pub age: Duration,
    /// Whether the scope's limits let it in.
    pub admission: Admission,
    /// What the control interface set.
    pub settings: BTreeMap<String, String>,
    /// Where this server listens under the scope, for redirects.
    pub trap_url: String,
}

/// Speed of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// To the first token.
    pub first: Duration,
    /// Between tokens.
    pub gap: Duration,
}

impl Stage {
    /// `full` or `fast`, whichever profile is in force; in seconds.
    pub fn seconds(&self, full: f64, fast: f64) -> Duration {
        Duration::from_secs_f64(self.profile.pick(full, fast))
    }
}

impl Play {
    /// A fault.
    pub fn fault(steps: Vec<Step>) -> Play {
        Play { steps, good: false }
    }

    /// A normal answer.
    pub fn good(steps: Vec<Step>) -> Play {
        Play { steps, good: true }
    }

    /// A complete plain reply.
    pub fn reply(status: u16, headers: &[(&str, &str)], kind: &str, body: &str) -> Play {
        let mut all = vec![("content-type".to_owned(), kind.to_owned())];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let framing = Framing::Length(body.len());
        let head = Head { status, headers: all, framing };
        Play::fault(vec![Step::Head(head), Step::Body(body.as_bytes().to_vec(), 0), Step::End])
    }

    /// A complete JSON reply.
    pub fn json(status: u16, headers: &[(&str, &str)], body: &serde_json::Value) -> Play {
        Play::reply(status, headers, "application/json", &body.to_string())
    }

    /// Adds a step.
    pub fn then(mut self, step: Step) -> Play {
        self.steps.push(step);
        self
    }

    /// Position just behind the step that completes `count` tokens, if this is a stream that has
    /// so many. A plain body has no place between its tokens.
    pub fn position_after(&self, count: usize) -> Option<usize> {
        let streams = |step: &Step| matches!(step, Step::Head(h) if h.framing == Framing::Chunked);
        if !self.steps.iter().any(streams) {
            return None;
        }
        let mut seen = 0;
        for (i, step) in self.steps.iter().enumerate() {
            if let Step::Body(_, tokens) = step {
                seen += tokens;
                if seen >= count && *tokens > 0 {
                    return Some(i + 1);
                }
            }
        }
        None
    }

    /// The first `count` tokens and then `steps`; the whole play if it has no more tokens than
    /// that, because then nothing is left to break.
    pub fn broken_after(mut self, count: usize, steps: Vec<Step>) -> Play {
        let Some(position) = self.position_after(count) else { return self };
        if self.position_after(count + 1).is_none() {
            return self;
        }
        self.steps.truncate(position);
        self.steps.extend(steps);
        self.good = false;
        self
    }

    /// The whole play with `steps` put in after `count` tokens.
    pub fn with_after(mut self, count: usize, steps: Vec<Step>) -> Play {
        let Some(position) = self.position_after(count) else { return self };
        self.steps.splice(position..position, steps);
        self.good = false;
        self
    }

    /// The first `count` bytes of the body and then `steps`; the whole play if it is shorter.
    pub fn broken_at_byte(mut self, count: usize, steps: Vec<Step>) -> Play {
        let mut left = count;
        for i in 0..self.steps.len() {
            let Step::Body(bytes, tokens) = &mut self.steps[i] else { continue };
            if left >= bytes.len() {
                left -= bytes.len();
                continue;
            }
            bytes.truncate(left);
            *tokens = 0;
            let kept = if left == 0 { i } else { i + 1 };
            self.steps.truncate(kept);
            self.steps.extend(steps);
            self.good = false;
            return self;
        }
        self
    }

    /// Bytes of the body, all told.
    pub fn body_len(&self) -> usize {
        self.steps.iter().map(|s| if let Step::Body(bytes, _) = s { bytes.len() } else { 0 }).sum()
    }
}

/// A body step with `text` that holds no token.
pub fn text(text: impl Into<String>) -> Step {
    Step::Body(text.into().into_bytes(), 0)
}
