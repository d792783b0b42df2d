//! Faults below the event: cuts inside characters and line ends, oversized replies, dripping
//! headers, wrong content types, and the generic cuts at a token, at a byte, or by a seed.

use std::time::Duration;

use super::normal::{error_event, normal};
use super::{Behavior, Framing, Head, Play, Stage, Step, When, text};
use crate::faults::answer::{SPLIT_TOKEN, mix, seed_of};

/// F30, F38, F39, F45 and the generic cuts.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "f30a",
        when: When::Always,
        does: "closes after 1 of the 3 bytes of 海",
        play: |s| cut_in(s, Place::Character),
    },
    Behavior {
        name: "f30b",
        when: When::Always,
        does: "closes inside `data: {\"cho`",
        play: |s| cut_in(s, Place::Event),
    },
    Behavior {
        name: "f30c",
        when: When::Always,
        does: "CRLF line ends; closes between CR and LF",
        play: |s| cut_in(s, Place::LineEnd),
    },
    Behavior {
        name: "f30d",
        when: When::Always,
        does: "the same three splits, 50 ms apart, no cut",
        play: splits,
    },
    Behavior {
        name: "f38a",
        when: When::Always,
        does: "one event of 10 MB after 10 tokens",
        play: huge_event,
    },
    Behavior {
        name: "f38b",
        when: When::Always,
        does: "gzip that opens a thousandfold, to 10 GB",
        play: gzip_bomb,
    },
    Behavior { name: "f38c", when: When::Always, does: "a header block of 20 MB", play: huge_head },
    Behavior {
        name: "f39",
        when: When::Always,
        does: "status line and headers at 1 byte/s",
        play: slow_head,
    },
    Behavior {
        name: "f45a",
        when: When::Always,
        does: "502 with HTML",
        play: |_| Play::reply(502, &[], "text/html", BAD_GATEWAY),
    },
    Behavior {
        name: "f45b",
        when: When::Always,
        does: "200 with HTML: a login page",
        play: |_| Play::reply(200, &[], "text/html; charset=utf-8", LOGIN_PAGE),
    },
    Behavior {
        name: "f45c",
        when: When::Always,
        does: "a good stream labelled text/plain",
        play: mislabelled,
    },
    Behavior {
        name: "cut-40",
        when: When::FirstOfConversation,
        does: "cut-N: closes after N tokens, at a conversation's first attempt; cut-N@9 for \
               the first 9",
        play: cut_at_token,
    },
    Behavior {
        name: "cutbytes-1000",
        when: When::FirstOfConversation,
        does: "cutbytes-N: closes after N bytes of the body, likewise",
        play: cut_at_byte,
    },
    Behavior {
        name: "seeded-1",
        when: When::FirstOfConversation,
        does: "seeded-N: a cut, reset, stall, broken JSON or error event at a byte drawn \
               from N and the prompt",
        play: seeded,
    },
];

const BAD_GATEWAY: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n\
    </body>\r\n</html>\r\n";

const LOGIN_PAGE: &str = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head>\n<body>\
    <form action=\"/login\" method=\"post\"><input name=\"user\"></form></body></html>\n";

/// A deflate stream whose Huffman codes give one zero bit to "258 times the last byte" and one to
/// its distance, after a literal zero: from here on every zero byte opens to 1,032.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

#[derive(Clone, Copy)]
enum Place {
    Character,
    Event,
    LineEnd,
}

/// Where the event of token `SPLIT_TOKEN` is cut.
fn offset(event: &str, place: Place) -> usize {
    match place {
        Place::Character => event.find('海').map_or(event.len() / 2, |start| start + 1),
        Place::Event => event.len().min("data: {\"cho".len()),
        Place::LineEnd => event.find('\r').map_or(event.len(), |start| start + 1),
    }
}

/// `steps` with line ends of two characters.
fn with_crlf(steps: Vec<Step>) -> Vec<Step> {
    steps
        .into_iter()
        .map(|step| match step {
            Step::Body(bytes, tokens) => {
                // Line ends inside JSON strings are escaped, so every one here ends a line.
                let wide = String::from_utf8_lossy(&bytes).replace('\n', "\r\n");
                Step::Body(wide.into_bytes(), tokens)
            }
            step => step,
        })
        .collect()
}

/// Chunks that begin with `{"choices"`, so that F30b's cut reads as it is written.
fn choices_first(steps: Vec<Step>) -> Vec<Step> {
    steps
        .into_iter()
        .map(|step| {
            let Step::Body(bytes, tokens) = &step else { return step };
            let Some(json) = bytes.strip_prefix(b"data: ") else { return step };
            let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(json) else {
                return step;
            };
            let Some(choices) = value.as_object_mut().and_then(|object| object.remove("choices"))
            else {
                return step;
            };
            let mut first = serde_json::Map::new();
            first.insert("choices".to_owned(), choices);
            first.extend(value.as_object().cloned().unwrap_or_default());
            let event = crate::faults::reply::event(&first.into());
            Step::Body(event.into_bytes(), *tokens)
        })
        .collect()
}

fn shaped(stage: &Stage) -> Play {
    let mut play = normal(stage);
    play.steps = choices_first(play.steps);
    play
}

fn cut_in(stage: &Stage, place: Place) -> Play {
    if !stage.ask.stream {
        let play = normal(stage);
        let at = match place {
            Place::Character => stage.answer.plain(&stage.answer.tokens, "stop").find('海'),
            Place::Event | Place::LineEnd => None,
        };
        let most = at.map_or(play.body_len() / 2, |start| start + 1);
        return play.broken_at_byte(most, vec![Step::Close]);
    }
    let mut play = shaped(stage);
    if matches!(place, Place::LineEnd) {
        play.steps = with_crlf(play.steps);
    }
    let Some(position) = play.position_after(SPLIT_TOKEN + 1) else { return play };
    let Step::Body(bytes, _) = &play.steps[position - 1] else { return play };
    let event = String::from_utf8_lossy(bytes).into_owned();
    let kept = event.as_bytes()[..offset(&event, place)].to_vec();
    play.steps.truncate(position - 1);
    play.steps.extend([Step::Body(kept, 0), Step::Close]);
    play.good = false;
    play
}

fn splits(stage: &Stage) -> Play {
    let mut play = shaped(stage);
    if !stage.ask.stream {
        return play;
    }
    play.steps = with_crlf(play.steps);
    for (token, place) in
        [(45, Place::LineEnd), (33, Place::Event), (SPLIT_TOKEN + 1, Place::Character)]
    {
        let Some(position) = play.position_after(token) else { continue };
        let Step::Body(bytes, tokens) = play.steps[position - 1].clone() else { continue };
        let event = String::from_utf8_lossy(&bytes).into_owned();
        let (head, tail) = bytes.split_at(offset(&event, place));
        let parts = [
            Step::Body(head.to_vec(), 0),
            Step::Wait(Duration::from_millis(50)),
            Step::Body(tail.to_vec(), tokens),
        ];
        play.steps.splice(position - 1..position, parts);
    }
    play
}

fn huge_event(stage: &Stage) -> Play {
    let block = Step::Body(vec![b'x'; 65_536], 0);
    // As a network brings it: at once, the kernel takes in all of it before anybody can close.
    let pause = Duration::from_millis(1);
    let event = vec![
        text("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\""),
        Step::Repeat(Box::new(block), pause, 160),
        text("\"},\"finish_reason\":null}]}\n\n"),
    ];
    if stage.ask.stream {
        return normal(stage).with_after(10, event);
    }
    let kind = ("content-type".to_owned(), "application/json".to_owned());
    let head = Head { status: 200, headers: vec![kind], framing: Framing::Chunked };
    // A plain body may be 64 MiB: this one has 80.
    let block = Step::Body(vec![b'x'; 65_536], 0);
    Play::fault(vec![
        Step::Head(head),
        text("{\"choices\":[{\"index\":0,\"message\":{\"content\":\""),
        Step::Repeat(Box::new(block), Duration::ZERO, 1280),
        text("\"},\"finish_reason\":\"stop\"}]}"),
        Step::End,
    ])
}

fn gzip_bomb(stage: &Stage) -> Play {
    let kind = if stage.ask.stream { "text/event-stream" } else { "application/json" };
    let head = Head {
        status: 200,
        headers: vec![
            ("content-type".to_owned(), kind.to_owned()),
            ("content-encoding".to_owned(), "gzip".to_owned()),
        ],
        framing: Framing::Chunked,
    };
    let block = Step::Body(vec![0; 65_536], 0);
    Play::fault(vec![
        Step::Head(head),
        Step::Body([&GZIP_HEAD[..], &deflate_head()].concat(), 0),
        Step::Repeat(Box::new(block), Duration::ZERO, 160),
        Step::Close,
    ])
}

/// The head of one dynamic block (RFC 1951 §3.2.7). Literal/length code lengths: 0 and 256 have
/// 2 bits, 285 has 1; the one distance code has 1.
fn deflate_head() -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(1, 1); // last block
    bits.put(2, 2); // dynamic codes
    bits.put(29, 5); // 286 literal/length codes
    bits.put(0, 5); // 1 distance code
    bits.put(14, 4); // 18 code-length codes, up to symbol 1
    // In the order 16 17 18 0 8 7 9 6 10 5 11 4 12 3 13 2 14 1: lengths of 18, 2 and 1.
    for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
        bits.put(
            match symbol {
                18 => 1,
                1 | 2 => 2,
                _ => 0,
            },
            3,
        );
    }
    // Canonical codes: 18 is 0, 1 is 10, 2 is 11; codes go out from their first bit on.
    let zeros = |bits: &mut Bits, count: u32| {
        bits.put(0, 1);
        bits.put(count - 11, 7);
    };
    bits.put(0b11, 2); // literal 0: two bits
    zeros(&mut bits, 138);
    zeros(&mut bits, 117); // literals 1 to 255
    bits.put(0b11, 2); // end of block: two bits
    zeros(&mut bits, 28); // lengths 257 to 284
    bits.put(0b01, 2); // 285: one bit
    bits.put(0b01, 2); // distance 0: one bit
    // 285 is 0, literal 0 is 10, the end is 11.
    bits.put(0b01, 2); // a literal zero to repeat
    bits.into_whole_bytes()
}

/// Bits packed from the lowest on, as deflate wants them.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        for i in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            let bit = ((value >> i) & 1) as u8;
            *self.bytes.last_mut().expect("pushed above") |= bit << (self.used % 8);
            self.used += 1;
        }
    }

    /// The rest of the last byte stays zero: more repetitions.
    fn into_whole_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn huge_head(_: &Stage) -> Play {
    let line = format!("x-padding: {}\r\n", "p".repeat(8000));
    Play::fault(vec![
        Step::Raw(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n".to_vec()),
        Step::Repeat(Box::new(Step::Raw(line.into_bytes())), Duration::ZERO, 2500),
        Step::Raw(b"\r\n".to_vec()),
        Step::Close,
    ])
}

fn slow_head(_: &Stage) -> Play {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n\
                connection: close\r\n\r\n";
    let mut steps = Vec::new();
    for byte in head.bytes() {
        steps.push(Step::Wait(Duration::from_secs(1)));
        steps.push(Step::Raw(vec![byte]));
    }
    steps.push(Step::Close);
    Play::fault(steps)
}

fn mislabelled(stage: &Stage) -> Play {
    let mut play = normal(stage);
    if let Some(Step::Head(head)) = play.steps.iter_mut().find(|s| matches!(s, Step::Head(_))) {
        head.headers[0].1 = "text/plain; charset=utf-8".to_owned();
    }
    play
}

fn cut_at_token(stage: &Stage) -> Play {
    let count = stage.number as usize;
    if !stage.ask.stream {
        let play = normal(stage);
        let all = stage.answer.output_tokens().max(1);
        let most = play.body_len() * count.min(all) / all;
        return play.broken_at_byte(most, vec![Step::Close]);
    }
    if count == 0 {
        return super::bench::opened_then(stage, vec![Step::Close]);
    }
    normal(stage).broken_after(count, vec![Step::Close])
}

fn cut_at_byte(stage: &Stage) -> Play {
    normal(stage).broken_at_byte(stage.number as usize, vec![Step::Close])
}

fn seeded(stage: &Stage) -> Play {
    let seed = stage.number ^ seed_of(&stage.ask.prompt);
    let play = normal(stage);
    let length = play.body_len().max(1) as u64;
    let at = (mix(seed, 0) % length) as usize;
    match mix(seed, 1) % 5 {
        0 => play.broken_at_byte(at, vec![Step::Close]),
        1 => play.broken_at_byte(at, vec![Step::Reset]),
        2 => {
            let silence = Step::Wait(stage.seconds(30.0, 4.0));
            play.broken_at_byte(at, vec![silence, Step::Close])
        }
        kind if stage.ask.stream => {
            // These strike between events: inside one they would be a cut.
            let most = stage.answer.output_tokens().saturating_sub(1).max(1) as u64;
            let count = 1 + (mix(seed, 2) % most) as usize;
            let event = if kind == 3 {
                "data: {\"choices\":[{\"index\":0,\"del\n\n".to_owned()
            } else {
                error_event("server_error", "internal_error", "The engine failed.")
            };
            play.broken_after(count, vec![text(event), Step::End])
        }
        _ => play.broken_at_byte(at, vec![Step::Close]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_the_bomb_is_a_dynamic_block() {
        let head = deflate_head();
        // Checked once against zlib: with 1,000 zero bytes behind it, it opens to 1,032,000 zeros
        // and more.
        assert_eq!(head[0] & 0b111, 0b101);
        assert!(head.len() < 24, "{}", head.len());
    }
}
