//! Faults of the transport that a model name can ask for: HTTP/2 frames (F43), half-open
//! connections (F44), a flapping port (F54). F40 to F42 are listeners and names of their own.

use std::time::Duration;

use super::bench::{FOR_EVER, opened_then};
use super::normal::normal;
use super::{Behavior, Play, Stage, Step, When};

/// HTTP/2 error codes (RFC 9113 §7).
const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

/// F43, F44, F54.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "f43a",
        when: When::Always,
        does: "HTTP/2: GOAWAY that covers our stream after 20 tokens; the stream finishes, \
               the connection closes",
        play: leaving,
    },
    Behavior {
        name: "f43b",
        when: When::FirstOfConversation,
        does: "HTTP/2: GOAWAY that does not cover our stream, no answer; next attempt normal",
        play: |_| Play::fault(vec![Step::GoAway { code: NO_ERROR, covers: false }, Step::Close]),
    },
    Behavior {
        name: "f43c",
        when: When::FirstOfConversation,
        does: "HTTP/2: RST_STREAM REFUSED_STREAM; next attempt normal",
        play: |_| Play::fault(vec![Step::ResetStream(REFUSED_STREAM)]),
    },
    Behavior {
        name: "f43d",
        when: When::Always,
        does: "HTTP/2: RST_STREAM INTERNAL_ERROR after 20 tokens",
        play: broken_stream,
    },
    Behavior {
        name: "f43e",
        when: When::Always,
        does: "HTTP/2: RST_STREAM ENHANCE_YOUR_CALM",
        play: |_| Play::fault(vec![Step::ResetStream(ENHANCE_YOUR_CALM)]),
    },
    Behavior {
        name: "f43e2",
        when: When::Always,
        does: "HTTP/2: GOAWAY ENHANCE_YOUR_CALM, then closes",
        play: |_| {
            Play::fault(vec![Step::GoAway { code: ENHANCE_YOUR_CALM, covers: false }, Step::Close])
        },
    },
    Behavior {
        name: "f44a",
        when: When::Always,
        does: "half-open: after the request everything is dropped, no RST",
        play: |_| Play::fault(vec![Step::Vanish(FOR_EVER)]),
    },
    Behavior {
        name: "f44b",
        when: When::Always,
        does: "half-open after 20 tokens",
        play: |s| half_open(s),
    },
    Behavior {
        name: "f44c",
        when: When::Always,
        does: "a normal answer, then the kept connection goes half-open",
        play: |s| normal(s).then(Step::VanishIdle),
    },
    Behavior {
        name: "f54",
        when: When::Always,
        does: "reset for 5 s, normal for 5 s, in turn; the `flap` port refuses instead",
        play: flap,
    },
];

fn leaving(stage: &Stage) -> Play {
    let farewell = Step::GoAway { code: NO_ERROR, covers: true };
    let mut play = normal(stage);
    let position = play.position_after(20).unwrap_or(play.steps.len() - 1);
    play.steps.insert(position, farewell);
    play
}

fn broken_stream(stage: &Stage) -> Play {
    let reset = vec![Step::ResetStream(INTERNAL_ERROR)];
    let play = normal(stage);
    if stage.ask.stream {
        return play.broken_after(20, reset);
    }
    let half = play.body_len() / 2;
    play.broken_at_byte(half, reset)
}

fn half_open(stage: &Stage) -> Play {
    if stage.ask.stream {
        return normal(stage).broken_after(20, vec![Step::Vanish(FOR_EVER)]);
    }
    opened_then(stage, vec![Step::Vanish(FOR_EVER)])
}

fn flap(stage: &Stage) -> Play {
    let phase = stage.age.as_millis() / Duration::from_secs(5).as_millis();
    if phase.is_multiple_of(2) { Play::fault(vec![Step::Reset]) } else { normal(stage) }
}
