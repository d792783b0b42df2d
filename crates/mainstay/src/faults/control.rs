//! The control interface, under `/control/`: resets and sets scopes, tells the log.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::play::Play;
use super::scope::MAIN_SCOPE;
use super::server::{Flap, Shared};

/// Settings that `set` takes, with what they do.
pub const SETTINGS: &[(&str, &str)] = &[
    ("profile", "fast or full, for this scope alone"),
    ("down", "503, 500, 429, reset or silent for every model; off"),
    ("key", "revoked: 401 for every model (F24); ok"),
    ("good_answers", "f24 answers so many before it turns to 401 (1000)"),
    ("quota", "clear: f22 is normal from now on"),
    ("drip", "off: f28 is normal, so that its usual rate can be learned; on"),
    ("rate", "429 above so many requests per second, every model (f25: 30)"),
    ("concurrent", "503 above so many at once, every model (f52: 4)"),
    ("ramp_seconds", "429 when requests grow by more than half from one such window to the next"),
    ("ramp_floor", "requests per window that the ramp always allows (10)"),
    ("first_token_ms", "time to the first token"),
    ("token_ms", "time between tokens"),
    ("first_token_factor", "times the first token's time (f52: 5)"),
    ("size_limit", "bytes above which f47 answers 413 (10000000)"),
    ("dns", "good, servfail, silent, nxdomain or empty for names that begin with this scope"),
];

/// Answers `command` with its `query`.
pub fn answer(shared: &Shared, method: &str, command: &str, query: &str) -> Play {
    let query = parse(query);
    let scope = query.get("scope").map_or(MAIN_SCOPE, String::as_str);
    if matches!(command, "reset" | "set" | "flap") && method != "POST" {
        return error(405, "This changes something: POST it.");
    }
    match command {
        "reset" => {
            shared.board.reset(scope);
            done()
        }
        "set" => set(shared, scope, &query),
        "flap" => flap(shared, &query),
        "log" => Play::json(200, &[], &json!(shared.board.log(scope))),
        "body" => body(shared, scope, &query),
        "open" => Play::json(200, &[], &json!({"open": shared.board.open()})),
        _ => error(404, "Commands: reset, set, flap, log, body, open."),
    }
}

/// An error in OpenAI's shape.
pub fn error(status: u16, message: &str) -> Play {
    let body = super::play::refusals::error_body("invalid_request_error", "bad_request", message);
    Play::json(status, &[], &body)
}

fn done() -> Play {
    Play::json(200, &[], &json!({"ok": true}))
}

fn set(shared: &Shared, scope: &str, query: &BTreeMap<String, String>) -> Play {
    let (Some(key), Some(value)) = (query.get("key"), query.get("value")) else {
        return error(400, "Give scope, key and value.");
    };
    if !SETTINGS.iter().any(|(name, _)| name == key) {
        let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
        return error(400, &format!("No such key. Keys: {}.", names.join(", ")));
    }
    shared.board.set(scope, key, value);
    done()
}

fn flap(shared: &Shared, query: &BTreeMap<String, String>) -> Play {
    let number = |key: &str| query.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    shared.flap.send_replace(Flap { down_ms: number("down_ms"), up_ms: number("up_ms") });
    done()
}

fn body(shared: &Shared, scope: &str, query: &BTreeMap<String, String>) -> Play {
    let n = query.get("n").and_then(|text| text.parse().ok()).unwrap_or(0);
    match shared.board.body(scope, n).map(|body| serde_json::from_slice::<Value>(&body)) {
        Some(Ok(value)) => Play::json(200, &[], &value),
        _ => error(404, "No body is kept of that attempt."),
    }
}

/// A query string as pairs, percent signs decoded.
pub fn parse(query: &str) -> BTreeMap<String, String> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let digits = bytes.get(i + 1..i + 3).and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
        match (bytes[i], byte) {
            (b'%', Some(byte)) => {
                plain.push(byte);
                i += 3;
                continue;
            }
            (b'+', _) => plain.push(b' '),
            (other, _) => plain.push(other),
        }
        i += 1;
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded() {
        let query = parse("scope=a%2Fb&value=x+y%25&bad");
        assert_eq!(query["scope"], "a/b");
        assert_eq!(query["value"], "x y%");
    }
}
