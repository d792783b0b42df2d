//! F01 to F16, the scenarios of Failover Bench (github.com/failoverbench/failoverbench, MIT).

use std::time::Duration;

use serde_json::json;

use super::normal::{normal, plain_head, stream_head};
use super::refusals::{context_length, error_body, failure};
use super::{Behavior, Play, Stage, Step, When, text};

/// Tokens before the cut of F08.
const CUT_AFTER: usize = 40;

/// The sixteen, and F04's relatives.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "f01",
        when: When::First,
        does: "first attempt 429 with Retry-After: 2, later ones normal",
        play: throttled_dated,
    },
    Behavior {
        name: "f02",
        when: When::Always,
        does: "429 without Retry-After, always",
        play: throttled,
    },
    Behavior {
        name: "f03",
        when: When::First,
        does: "first attempt 500 server_error, later ones normal",
        play: server_error,
    },
    Behavior { name: "f04", when: When::Always, does: "503 overloaded, always", play: overloaded },
    Behavior {
        name: "f05",
        when: When::First,
        does: "first attempt: TCP reset before any byte, later ones normal",
        play: reset,
    },
    Behavior {
        name: "f06",
        when: When::Always,
        does: "takes the request, then silence for 120 s / 15 s, then closes",
        play: silence,
    },
    Behavior {
        name: "f07",
        when: When::Always,
        does: "headers at once, first token after 20 s / 3 s, then normal",
        play: slow_first_token,
    },
    Behavior {
        name: "f08",
        when: When::Always,
        does: "closes after 40 tokens; plain: after 60 % of the declared body",
        play: cut,
    },
    Behavior {
        name: "f09",
        when: When::Always,
        does: "20 tokens, then silence for 30 s / 4 s, then closes; plain: headers, then silence",
        play: stall,
    },
    Behavior {
        name: "f10",
        when: When::Always,
        does: "an event of broken JSON after 10 tokens; plain: half a JSON body",
        play: malformed,
    },
    Behavior {
        name: "f11",
        when: When::Always,
        does: "a whole stream without [DONE]",
        play: no_sentinel,
    },
    Behavior {
        name: "f12",
        when: When::Always,
        does: "400 context_length_exceeded (8,192 against 9,631), always",
        play: too_long,
    },
    Behavior {
        name: "f13",
        when: When::Always,
        does: "400 content_policy_violation, always",
        play: refused_content,
    },
    Behavior {
        name: "f14",
        when: When::Always,
        does: "as f08; its fallback is ok-noprefill",
        play: cut,
    },
    Behavior {
        name: "f15",
        when: When::Always,
        does: "503 for 60 s / 6 s after the scope's reset, then normal",
        play: flap,
    },
    Behavior {
        name: "f16",
        when: When::Always,
        does: "503 overloaded, always (accounting)",
        play: overloaded,
    },
];

fn throttled_dated(_: &Stage) -> Play {
    let body = error_body("rate_limit_error", "rate_limit_exceeded", "Rate limit reached.");
    Play::json(429, &[("retry-after", "2")], &body)
}

/// 429 without a date.
pub fn throttled(_: &Stage) -> Play {
    failure(429, "rate_limit_error", "rate_limit_exceeded", "Rate limit reached.")
}

fn server_error(_: &Stage) -> Play {
    failure(500, "server_error", "server_error", "The server had an error.")
}

/// 503 `overloaded`.
pub fn overloaded(_: &Stage) -> Play {
    failure(503, "server_error", "overloaded", "The engine is currently overloaded.")
}

fn reset(_: &Stage) -> Play {
    Play::fault(vec![Step::Reset])
}

fn silence(stage: &Stage) -> Play {
    Play::fault(vec![Step::Wait(stage.seconds(120.0, 15.0)), Step::Close])
}

fn slow_first_token(stage: &Stage) -> Play {
    let wait = Step::Wait(stage.seconds(20.0, 3.0));
    let mut play = normal(stage);
    if stage.ask.stream {
        play.steps.insert(1, wait);
    } else {
        // Headers at once here too: the declared length is known beforehand.
        play.steps.swap(0, 1);
        play.steps.insert(1, wait);
    }
    play
}

/// Closes after 40 of 60 tokens, or 60 % of the body.
pub fn cut(stage: &Stage) -> Play {
    if stage.ask.stream {
        return normal(stage).broken_after(CUT_AFTER, vec![Step::Close]);
    }
    let play = normal(stage);
    let most = play.body_len() * 60 / 100;
    play.broken_at_byte(most, vec![Step::Close])
}

fn stall(stage: &Stage) -> Play {
    let silence = Step::Wait(stage.seconds(30.0, 4.0));
    if stage.ask.stream {
        return normal(stage).broken_after(20, vec![silence, Step::Close]);
    }
    let length = normal(stage).body_len();
    Play::fault(vec![plain_head(length), silence, Step::Close])
}

fn malformed(stage: &Stage) -> Play {
    if stage.ask.stream {
        let broken =
            format!("data: {{\"id\":\"chatcmpl-{}\",\"choices\":[{{\"ind\n\n", stage.answer.id);
        return normal(stage).with_after(10, vec![text(broken)]);
    }
    let body = stage.answer.plain(&stage.answer.tokens, stage.answer.finish);
    let mut half = body.len() / 2;
    while !body.is_char_boundary(half) {
        half -= 1;
    }
    Play::reply(200, &[], "application/json", &body[..half])
}

fn no_sentinel(stage: &Stage) -> Play {
    let mut play = normal(stage);
    play.steps.retain(|step| *step != text("data: [DONE]\n\n"));
    play
}

fn too_long(_: &Stage) -> Play {
    context_length(8192, 9631)
}

fn refused_content(_: &Stage) -> Play {
    let mut body = error_body(
        "invalid_request_error",
        "content_policy_violation",
        "Your request was rejected as a result of our safety system.",
    );
    body["error"]["param"] = json!("messages");
    Play::json(400, &[], &body)
}

fn flap(stage: &Stage) -> Play {
    if stage.age < stage.seconds(60.0, 6.0) { overloaded(stage) } else { normal(stage) }
}

/// The first token and then silence, for the models that stall in other ways.
pub fn opened_then(stage: &Stage, steps: Vec<Step>) -> Play {
    let mut all = vec![stream_head()];
    all.extend(stage.answer.opening().into_iter().map(text));
    all.extend(steps);
    Play::fault(all)
}

/// A pause that is far longer than any limit under test.
pub const FOR_EVER: Duration = Duration::from_secs(3600);
