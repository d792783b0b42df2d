//! The normal answer, as a stream and as a plain reply, and the models that differ from it only
//! in what they say, how long and how fast.

use std::time::Duration;

use super::{Behavior, Framing, Head, Pace, Play, Stage, Step, When, text};
use crate::faults::answer::{NORMAL_TOKENS, reasoning_tokens};
use crate::faults::ask::Api;
use crate::faults::reply::{Answer, event};

/// Models that answer.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "ok",
        when: When::Always,
        does: "the normal answer; a trailing assistant message is answered anew, in the same words",
        play: normal,
    },
    Behavior {
        name: "ok-native",
        when: When::Always,
        does: "continues a trailing assistant message from its last character",
        play: normal,
    },
    Behavior {
        name: "ok-noprefill",
        when: When::Always,
        does: "400 invalid_prefill if the last message is the assistant's (F14, F53)",
        play: normal,
    },
    Behavior {
        name: "ok-unseeded",
        when: When::Always,
        does: "other words at every attempt; cannot be continued",
        play: normal,
    },
    Behavior {
        name: "ok-other",
        when: When::Always,
        does: "always the same words, but not those of `ok`: another model",
        play: normal,
    },
    Behavior {
        name: "ok-reasoning",
        when: When::Always,
        does: "30 tokens of thinking, then the normal answer",
        play: reasoning,
    },
    Behavior {
        name: "long-600-5ms",
        when: When::Always,
        does: "long-N-Gms: N tokens, G ms apart",
        play: normal,
    },
    Behavior {
        name: "window-131072",
        when: When::Always,
        does: "window-N: 400 context_length_exceeded above N prompt tokens, 4 bytes each (F48)",
        play: window,
    },
    Behavior {
        name: "f50",
        when: When::Always,
        does: "the normal answer: it is the client that leaves",
        play: normal,
    },
    Behavior {
        name: "f51",
        when: When::Always,
        does: "200 tokens/s for 10 min / 30 s: it is the client that reads slowly",
        play: normal,
    },
    Behavior {
        name: "f56",
        when: When::Always,
        does: "the normal answer: it is the clock that jumps",
        play: normal,
    },
];

/// Number of tokens that `model` says in its whole answer.
pub fn length_of(model: &str, profile: crate::faults::Profile) -> usize {
    match model {
        "f51" => profile.pick(120_000.0, 6_000.0) as usize,
        _ => long(model).map_or(NORMAL_TOKENS, |(count, _)| count),
    }
}

/// Speed at which `model` answers when nothing slows it.
pub fn pace_of(model: &str, profile: crate::faults::Profile) -> Pace {
    let first = Duration::from_secs_f64(profile.pick(0.06, 0.01));
    let gap = match model {
        "f51" => Duration::from_millis(5),
        _ => {
            long(model).map_or(Duration::from_secs_f64(profile.pick(0.015, 0.005)), |(_, gap)| gap)
        }
    };
    Pace { first, gap }
}

/// Reads `long-600-5ms`; the length is bounded so that a typing error costs no memory.
fn long(model: &str) -> Option<(usize, Duration)> {
    let (count, gap) = model.strip_prefix("long-")?.split_once('-')?;
    let count: usize = count.parse().ok()?;
    let gap: u64 = gap.strip_suffix("ms")?.parse().ok()?;
    Some((count.min(200_000), Duration::from_millis(gap)))
}

/// The normal answer.
pub fn normal(stage: &Stage) -> Play {
    answer(&stage.answer, stage)
}

/// `said`, as the request wants it.
pub fn answer(said: &Answer, stage: &Stage) -> Play {
    if stage.ask.stream && stage.ask.api != Api::Embeddings {
        Play::good(stream(said, stage.pace))
    } else {
        Play::good(plain(said, stage.pace))
    }
}

/// The head of a stream.
pub fn stream_head() -> Step {
    let kind = ("content-type".to_owned(), "text/event-stream; charset=utf-8".to_owned());
    let cache = ("cache-control".to_owned(), "no-cache".to_owned());
    Step::Head(Head { status: 200, headers: vec![kind, cache], framing: Framing::Chunked })
}

/// A whole stream: head, role, tokens, finish reason, usage, sentinel, end.
pub fn stream(said: &Answer, pace: Pace) -> Vec<Step> {
    let mut steps = vec![stream_head()];
    steps.extend(said.opening().into_iter().map(text));
    steps.extend(spoken(said, pace));
    steps.extend(ending(said, said.finish));
    steps
}

/// The tokens of a stream, with the waits before them.
pub fn spoken(said: &Answer, pace: Pace) -> Vec<Step> {
    let mut events: Vec<String> = said.reasoning.iter().map(|word| said.thought(word)).collect();
    if said.call {
        events.extend(said.call_events(0));
    } else {
        let forms: Vec<_> = (0..said.ask.n).map(|choice| said.token_form(choice)).collect();
        for word in &said.tokens {
            let quoted = serde_json::to_string(word).expect("a string is JSON");
            let text = &quoted[1..quoted.len() - 1];
            events.extend(forms.iter().map(|(before, behind)| format!("{before}{text}{behind}")));
        }
    }
    let mut steps = Vec::with_capacity(events.len() * 2);
    for (i, event) in events.into_iter().enumerate() {
        if i == 0 {
            steps.push(Step::Wait(pace.first));
        } else if said.ask.n == 1 || i % said.ask.n == 0 {
            steps.push(Step::Wait(pace.gap));
        }
        steps.push(Step::Body(event.into_bytes(), 1));
    }
    steps
}

/// Finish reason, usage, sentinel, end.
pub fn ending(said: &Answer, reason: &str) -> Vec<Step> {
    let mut steps: Vec<Step> =
        (0..said.ask.n).map(|choice| text(said.closing(choice, reason))).collect();
    steps.extend(said.usage_event().map(text));
    steps.extend(said.done().map(text));
    steps.push(Step::End);
    steps
}

/// A whole plain reply, after the time its tokens take.
pub fn plain(said: &Answer, pace: Pace) -> Vec<Step> {
    let count = said.output_tokens();
    let wait = if said.ask.api == Api::Embeddings {
        pace.first
    } else {
        pace.first + pace.gap * u32::try_from(count).unwrap_or(u32::MAX)
    };
    let body = said.plain(&said.tokens, said.finish);
    vec![Step::Wait(wait), plain_head(body.len()), Step::Body(body.into_bytes(), count), Step::End]
}

/// The head of a plain reply of `length` bytes.
pub fn plain_head(length: usize) -> Step {
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    Step::Head(Head { status: 200, headers: vec![kind], framing: Framing::Length(length) })
}

fn reasoning(stage: &Stage) -> Play {
    let mut said = stage.answer.clone();
    said.reasoning = reasoning_tokens(&stage.ask.prompt, 30);
    answer(&said, stage)
}

fn window(stage: &Stage) -> Play {
    if stage.ask.prompt_tokens() > stage.number {
        return super::refusals::context_length(stage.number, stage.ask.prompt_tokens());
    }
    normal(stage)
}

/// An error object as a nameless event.
pub fn error_event(kind: &str, code: &str, message: &str) -> String {
    event(&super::refusals::error_body(kind, code, message))
}
