//! Faults told in whole events: keep-alive without progress, error events, empty answers, drips,
//! cuts inside structures, wrong indices, missing usage, streams without an end.

use std::time::Duration;

use serde_json::{Value, json};

use super::bench::{FOR_EVER, opened_then};
use super::normal::{answer, error_event, normal, plain_head, spoken, stream_head};
use super::{Behavior, Framing, Head, Play, Stage, Step, When, text};
use crate::faults::answer::{answer_tokens, reasoning_tokens};
use crate::faults::ask::Api;
use crate::faults::reply::{Answer, event};

/// Tokens before most of these faults strike.
const AFTER: usize = 20;

/// F17, F19 to F21, F28, F29, F31 to F37, F49.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "f17a",
        when: When::Always,
        does: ": keep-alive every 1 s for 600 s / 60 s, never a token; plain: blank lines",
        play: |s| keep_alive(s, ": keep-alive\n\n"),
    },
    Behavior {
        name: "f17b",
        when: When::Always,
        does: "as f17a with : OPENROUTER PROCESSING",
        play: |s| keep_alive(s, ": OPENROUTER PROCESSING\n\n"),
    },
    Behavior {
        name: "f17c",
        when: When::Always,
        does: "as f17a with role-only and empty deltas",
        play: empty_deltas,
    },
    Behavior {
        name: "f17d",
        when: When::Always,
        does: "as f17a with event: ping",
        play: |s| keep_alive(s, "event: ping\ndata: {\"type\":\"ping\"}\n\n"),
    },
    Behavior {
        name: "f19a",
        when: When::Always,
        does: "data: {\"error\"} after 20 tokens, then [DONE]",
        play: error_then_done,
    },
    Behavior {
        name: "f19b",
        when: When::Always,
        does: "chunk with top-level error and finish_reason error after 20 tokens",
        play: error_chunk,
    },
    Behavior {
        name: "f19c",
        when: When::Always,
        does: "event: error after 20 tokens",
        play: named_error,
    },
    Behavior {
        name: "f19d",
        when: When::Always,
        does: "finish_reason abort after 20 tokens",
        play: |s| finished_as(s, AFTER, "abort"),
    },
    Behavior {
        name: "f19d2",
        when: When::Always,
        does: "finish_reason insufficient_system_resource after 20 tokens",
        play: |s| finished_as(s, AFTER, "insufficient_system_resource"),
    },
    Behavior {
        name: "f20",
        when: When::Always,
        does: "200, role, finish_reason stop, no content, 0 tokens (f20@1: first attempt only)",
        play: |s| empty(s, 0),
    },
    Behavior {
        name: "f20b",
        when: When::Always,
        does: "no content, but 3 tokens counted: lawful where a stop string was asked",
        play: |s| empty(s, 3),
    },
    Behavior {
        name: "f21a",
        when: When::Always,
        does: "Responses: response.created, then response.failed with server_error",
        play: |s| failed_response(s, "server_error"),
    },
    Behavior {
        name: "f21b",
        when: When::Always,
        does: "Responses: response.failed with rate_limit_exceeded",
        play: |s| failed_response(s, "rate_limit_exceeded"),
    },
    Behavior {
        name: "f21c",
        when: When::Always,
        does: "Responses: 20 tokens, response.incomplete with max_output_tokens",
        play: |s| incomplete_response(s, "max_output_tokens", "length"),
    },
    Behavior {
        name: "f21d",
        when: When::Always,
        does: "Responses: 20 tokens, response.incomplete with content_filter",
        play: |s| incomplete_response(s, "content_filter", "content_filter"),
    },
    Behavior {
        name: "f28",
        when: When::Always,
        does: "first token normal, then 1/s (fast: 5/s), comments between (setting `drip`)",
        play: drip,
    },
    Behavior {
        name: "f29",
        when: When::Always,
        does: "a tool call that ends after {\"city\":\"Bei of its arguments",
        play: cut_call,
    },
    Behavior {
        name: "f31",
        when: When::Always,
        does: "30 reasoning tokens, then closes",
        play: cut_reasoning,
    },
    Behavior {
        name: "f32a",
        when: When::Always,
        does: "token 20 twice, with sequence_number",
        play: |s| doubled(s, true),
    },
    Behavior {
        name: "f32b",
        when: When::Always,
        does: "token 20 twice, byte for byte, nothing to tell it by",
        play: |s| doubled(s, false),
    },
    Behavior {
        name: "f33a",
        when: When::Always,
        does: "choice index 1 with n = 1 after 20 tokens",
        play: stray_choice,
    },
    Behavior {
        name: "f33b",
        when: When::Always,
        does: "tool-call index 0, then 2",
        play: stray_call,
    },
    Behavior {
        name: "f33c",
        when: When::Always,
        does: "sequence_number 41, 43, 42",
        play: shuffled,
    },
    Behavior {
        name: "f34",
        when: When::Always,
        does: "finish_reason length after 40 tokens, whatever was asked",
        play: |s| finished_as(s, 40, "length"),
    },
    Behavior {
        name: "f35",
        when: When::Always,
        does: "usage asked for, never sent",
        play: no_usage,
    },
    Behavior {
        name: "f36",
        when: When::Always,
        does: "n = 2: choice 0 finishes, choice 1 stops at 20 tokens, the stream closes",
        play: one_choice_cut,
    },
    Behavior {
        name: "f37a",
        when: When::Always,
        does: "tokens go on past max_tokens",
        play: endless_tokens,
    },
    Behavior {
        name: "f37b",
        when: When::Always,
        does: "finish reason, then comments for ever",
        play: endless_comments,
    },
    Behavior {
        name: "f49a",
        when: When::Always,
        does: "finish_reason content_filter after 20 tokens",
        play: |s| finished_as(s, AFTER, "content_filter"),
    },
    Behavior {
        name: "f49b",
        when: When::Always,
        does: "policy error as an event after 20 tokens",
        play: policy_event,
    },
];

fn repeated(step: Step, every: Duration, lasting: Duration) -> Step {
    let times = (lasting.as_millis() / every.as_millis().max(1)) as u64;
    Step::Repeat(Box::new(step), every, times)
}

fn keep_alive(stage: &Stage, comment: &str) -> Play {
    let every = Duration::from_secs(1);
    let lasting = stage.seconds(600.0, 60.0);
    if stage.ask.stream {
        return Play::fault(vec![
            stream_head(),
            repeated(text(comment), every, lasting),
            Step::Close,
        ]);
    }
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    let head = Head { status: 200, headers: vec![kind], framing: Framing::Chunked };
    Play::fault(vec![Step::Head(head), repeated(text("\n"), every, lasting), Step::Close])
}

fn empty_deltas(stage: &Stage) -> Play {
    if !stage.ask.stream {
        return keep_alive(stage, "\n");
    }
    let role = stage.answer.chunk(0, json!({"role": "assistant", "content": ""}), None);
    let nothing = stage.answer.chunk(0, json!({}), None);
    let both = text(role + &nothing);
    let lasting = stage.seconds(600.0, 60.0);
    Play::fault(vec![stream_head(), repeated(both, Duration::from_secs(1), lasting), Step::Close])
}

/// The first `AFTER` tokens, then `tail`; a plain request gets `body` at the normal time.
fn broken(stage: &Stage, tail: Vec<Step>, body: Value) -> Play {
    if stage.ask.stream {
        return normal(stage).broken_after(AFTER, tail);
    }
    plain_late(stage, body.to_string())
}

fn plain_late(stage: &Stage, body: String) -> Play {
    let wait = stage.pace.first + stage.pace.gap * AFTER as u32;
    let steps = vec![plain_head(body.len()), text(body), Step::End];
    Play::fault([vec![Step::Wait(wait)], steps].concat())
}

fn error_then_done(stage: &Stage) -> Play {
    let object = super::refusals::error_body("server_error", "internal_error", "EngineDeadError");
    let tail = vec![text(event(&object)), text("data: [DONE]\n\n"), Step::End];
    broken(stage, tail, object)
}

fn error_chunk(stage: &Stage) -> Play {
    let chunk = json!({"id": stage.answer.id, "object": "chat.completion.chunk",
        "model": stage.ask.model, "provider": "some",
        "error": {"code": 502, "message": "Provider disconnected"},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]});
    let mut plain: Value = first_tokens_plain(stage, "error");
    plain["error"] = chunk["error"].clone();
    broken(stage, vec![text(event(&chunk)), Step::End], plain)
}

fn named_error(stage: &Stage) -> Play {
    let object = json!({"type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let tail = vec![text(format!("event: error\ndata: {object}\n\n")), Step::End];
    broken(stage, tail, object)
}

fn policy_event(stage: &Stage) -> Play {
    let object = super::refusals::error_body(
        "invalid_request_error",
        "content_policy_violation",
        "The answer was stopped by our safety system.",
    );
    let event = error_event(
        "invalid_request_error",
        "content_policy_violation",
        "The answer was stopped by our safety system.",
    );
    broken(stage, vec![text(event), Step::End], object)
}

fn first_tokens_plain(stage: &Stage, reason: &str) -> Value {
    let count = AFTER.min(stage.answer.tokens.len());
    let body = stage.answer.plain(&stage.answer.tokens[..count], reason);
    serde_json::from_str(&body).expect("our own JSON")
}

/// The first `count` tokens, then `reason` and a proper end. An answer that is no longer than
/// that ends by itself.
fn finished_as(stage: &Stage, count: usize, reason: &str) -> Play {
    if stage.answer.tokens.len() <= count {
        return normal(stage);
    }
    let mut said = stage.answer.clone();
    said.tokens.truncate(count);
    if stage.ask.stream {
        let mut steps = vec![stream_head()];
        steps.extend(said.opening().into_iter().map(text));
        steps.extend(spoken(&said, stage.pace));
        steps.extend(super::normal::ending(&said, reason));
        return Play::fault(steps);
    }
    plain_late(stage, said.plain(&said.tokens, reason))
}

fn empty(stage: &Stage, counted: usize) -> Play {
    let mut said = stage.answer.clone();
    said.tokens = vec![String::new(); counted];
    said.call = false;
    if !stage.ask.stream {
        return plain_late(stage, said.plain(&said.tokens, "stop"));
    }
    let mut steps = vec![stream_head()];
    steps.extend(said.opening().into_iter().map(text));
    steps.extend(super::normal::ending(&said, "stop"));
    Play::fault(steps)
}

fn failed_response(stage: &Stage, code: &str) -> Play {
    let why = json!({"code": code, "message": "The response failed."});
    if stage.ask.api != Api::Responses {
        let object = super::refusals::error_body(code, code, "The response failed.");
        return match stage.ask.stream {
            true => Play::fault(vec![stream_head(), text(event(&object)), Step::End]),
            false => Play::json(200, &[], &object),
        };
    }
    let response = stage.answer.ended_response("failed", "error", why);
    if !stage.ask.stream {
        return Play::json(200, &[], &response);
    }
    let created = stage.answer.opening().swap_remove(0);
    let failed = stage.answer.named("response.failed", json!({"response": response}));
    Play::fault(vec![
        stream_head(),
        text(created),
        Step::Wait(stage.pace.first),
        text(failed),
        Step::End,
    ])
}

fn incomplete_response(stage: &Stage, why: &str, chat_reason: &str) -> Play {
    if stage.ask.api != Api::Responses {
        return finished_as(stage, AFTER, chat_reason);
    }
    let response =
        stage.answer.ended_response("incomplete", "incomplete_details", json!({"reason": why}));
    let last = stage.answer.named("response.incomplete", json!({"response": response}));
    broken(stage, vec![text(last), Step::End], response)
}

fn drip(stage: &Stage) -> Play {
    if stage.settings.get("drip").is_some_and(|value| value == "off") {
        return normal(stage);
    }
    let gap = stage.seconds(1.0, 0.2);
    if !stage.ask.stream {
        let mut slow = stage.clone();
        slow.pace.gap = gap;
        return normal(&slow);
    }
    let mut steps = Vec::new();
    let mut tokens = 0;
    for step in normal(stage).steps {
        match step {
            Step::Wait(_) if tokens > 0 => {
                steps.push(Step::Wait(gap / 2));
                steps.push(text(": keep-alive\n\n"));
                steps.push(Step::Wait(gap / 2));
            }
            step => {
                tokens += usize::from(matches!(step, Step::Body(_, 1)));
                steps.push(step);
            }
        }
    }
    Play::fault(steps)
}

fn cut_call(stage: &Stage) -> Play {
    let play = normal(stage);
    if !stage.ask.stream {
        let most = play.body_len() * 60 / 100;
        return play.broken_at_byte(most, vec![Step::Close]);
    }
    // The head of the call and two pieces of its arguments.
    let count = if stage.answer.call { 3 } else { AFTER };
    play.broken_after(count, vec![Step::Close])
}

fn cut_reasoning(stage: &Stage) -> Play {
    let mut said = stage.answer.clone();
    said.reasoning = reasoning_tokens(&stage.ask.prompt, 30);
    let play = answer(&said, stage);
    if stage.ask.stream {
        return play.broken_after(30, vec![Step::Close]);
    }
    let most = play.body_len() * 30 / 100;
    play.broken_at_byte(most, vec![Step::Close])
}

/// Gives the chunks of `steps` their running number.
fn numbered(steps: Vec<Step>) -> Vec<Step> {
    let mut number = 0;
    steps
        .into_iter()
        .map(|step| match step {
            Step::Body(bytes, tokens) if bytes.starts_with(b"data: {") => {
                let mut with = format!("data: {{\"sequence_number\":{number},").into_bytes();
                number += 1;
                with.extend_from_slice(&bytes[b"data: {".len()..]);
                Step::Body(with, tokens)
            }
            step => step,
        })
        .collect()
}

fn doubled(stage: &Stage, with_numbers: bool) -> Play {
    let mut play = normal(stage);
    if with_numbers {
        play.steps = numbered(play.steps);
    }
    let Some(position) = play.position_after(AFTER) else { return play };
    let Step::Body(bytes, _) = play.steps[position - 1].clone() else { return play };
    // Not counted: the model wrote it once.
    play.steps.insert(position, Step::Body(bytes, 0));
    play.good = false;
    play
}

fn stray_choice(stage: &Stage) -> Play {
    normal(stage).with_after(AFTER, vec![text(stage.answer.token(1, " stray"))])
}

fn stray_call(stage: &Stage) -> Play {
    let piece = text(stage.answer.call_piece(2, "{\"x\":"));
    normal(stage).with_after(if stage.answer.call { 2 } else { AFTER }, vec![piece])
}

fn shuffled(stage: &Stage) -> Play {
    let mut play = normal(stage);
    play.steps = numbered(play.steps);
    // The opening chunk is number 0, so token `k` has number `k`.
    if let (Some(a), Some(b)) = (play.position_after(42), play.position_after(43)) {
        play.steps.swap(a - 1, b - 1);
        play.good = false;
    }
    play
}

fn no_usage(stage: &Stage) -> Play {
    let mut said = stage.answer.clone();
    said.ask.include_usage = false;
    let mut play = answer(&said, stage);
    if !stage.ask.stream {
        let whole = said.plain(&said.tokens, said.finish);
        let mut body: Value = serde_json::from_str(&whole).expect("our own JSON");
        body.as_object_mut().expect("an object").remove("usage");
        play = plain_late(stage, body.to_string());
    }
    play
}

fn one_choice_cut(stage: &Stage) -> Play {
    if !stage.ask.stream || stage.ask.n < 2 {
        return normal(stage);
    }
    let said = &stage.answer;
    let mut steps = vec![stream_head()];
    steps.extend(said.opening().into_iter().map(text));
    for (i, word) in said.tokens.iter().enumerate() {
        steps.push(Step::Wait(if i == 0 { stage.pace.first } else { stage.pace.gap }));
        steps.push(Step::Body(said.token(0, word).into_bytes(), 1));
        if i < AFTER {
            steps.push(Step::Body(said.token(1, word).into_bytes(), 1));
        }
    }
    steps.push(text(said.closing(0, said.finish)));
    steps.push(Step::Close);
    Play::fault(steps)
}

fn endless_tokens(stage: &Stage) -> Play {
    let most = stage.ask.max_tokens.unwrap_or(100);
    let mut said: Answer = stage.answer.clone();
    said.tokens = answer_tokens(&stage.ask.prompt, most.min(100_000) + 12_000);
    if !stage.ask.stream {
        return plain_late(stage, said.plain(&said.tokens[..most + 40], "stop"));
    }
    opened_then(stage, spoken(&said, stage.pace)).then(Step::Close)
}

fn endless_comments(stage: &Stage) -> Play {
    if !stage.ask.stream {
        return normal(stage);
    }
    let mut play = normal(stage);
    let closing = text(stage.answer.closing(0, stage.answer.finish));
    if let Some(position) = play.steps.iter().position(|step| *step == closing) {
        play.steps.truncate(position + 1);
    }
    play.good = false;
    play.then(repeated(text(": keep-alive\n\n"), Duration::from_secs(1), FOR_EVER))
}
