//! Faults that are a status and a body: errors in the words of several providers, refusals under
//! load, odd Retry-After headers, redirects, and error bodies behind a 200.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::normal::{normal, stream_head};
use super::{Behavior, Play, Stage, Step, When, text};
use crate::faults::scope::Admission;

/// F12-like, F18, F22 to F27, F46, F47, F52 to F55.
pub const BEHAVIORS: &[Behavior] = &[
    Behavior {
        name: "f18a",
        when: When::Always,
        does: "200 with {\"code\":\"rpm_rate_limit_exceeded\"}",
        play: masked_code,
    },
    Behavior {
        name: "f18b",
        when: When::Always,
        does: "200 with {\"error_code\":336501}",
        play: masked_number,
    },
    Behavior {
        name: "f18c",
        when: When::Always,
        does: "200 with {\"error\":{\"code\":503}}",
        play: masked_error,
    },
    Behavior {
        name: "f18d",
        when: When::Always,
        does: "as f18a, as the only event of a stream",
        play: masked_code_event,
    },
    Behavior {
        name: "f18e",
        when: When::Always,
        does: "as f18b, as the only event of a stream",
        play: masked_number_event,
    },
    Behavior {
        name: "f18f",
        when: When::Always,
        does: "as f18c, as the only event of a stream",
        play: masked_error_event,
    },
    Behavior {
        name: "f22",
        when: When::Always,
        does: "DashScope 429 insufficient_quota until 60 s / 12 s after the reset, or until \
               `quota` is set to clear",
        play: quota,
    },
    Behavior {
        name: "f23a",
        when: When::Always,
        does: "402 Insufficient Balance",
        play: |_| failure(402, "unknown_error", "invalid_request_error", "Insufficient Balance"),
    },
    Behavior {
        name: "f23b",
        when: When::Always,
        does: "Qianfan 403 account_overdue",
        play: |_| failure(403, "access_denied", "account_overdue", "Account is overdue."),
    },
    Behavior {
        name: "f23c",
        when: When::Always,
        does: "OpenAI 429 credit_balance_exhausted",
        play: |_| {
            failure(
                429,
                "insufficient_quota",
                "credit_balance_exhausted",
                "You exceeded your current quota, please check your plan and billing details.",
            )
        },
    },
    Behavior {
        name: "f23d",
        when: When::Always,
        does: "Moonshot 429 exceeded_current_quota_error, no code",
        play: moonshot_quota,
    },
    Behavior {
        name: "f23e",
        when: When::Always,
        does: "DashScope 400 Arrearage",
        play: |_| {
            failure(
                400,
                "Arrearage",
                "Arrearage",
                "Access denied, please make sure your account is in good standing.",
            )
        },
    },
    Behavior {
        name: "f23f",
        when: When::Always,
        does: "Anthropic 429 with enforced_spend_limit_reached, no Retry-After",
        play: anthropic_spend,
    },
    Behavior {
        name: "f24",
        when: When::Always,
        does: "1,000 good answers (setting `good_answers`), then 401 for all; or at once \
               when `key` is set to revoked",
        play: limited,
    },
    Behavior {
        name: "f25",
        when: When::Always,
        does: "429 without header above 30/s (setting `rate`)",
        play: limited,
    },
    Behavior {
        name: "f26a",
        when: When::First,
        does: "first attempt 429, Retry-After a date 2 s ahead of Date, both 1 h wrong; \
               later ones normal",
        play: dated_wrong_clock,
    },
    Behavior {
        name: "f26b",
        when: When::Always,
        does: "429, Retry-After: 86400",
        play: |_| retry_after(&["86400"]),
    },
    Behavior {
        name: "f26c",
        when: When::Always,
        does: "429, Retry-After: 0",
        play: |_| retry_after(&["0"]),
    },
    Behavior {
        name: "f26d",
        when: When::Always,
        does: "429, Retry-After: -5",
        play: |_| retry_after(&["-5"]),
    },
    Behavior {
        name: "f26d2",
        when: When::Always,
        does: "429, Retry-After: soon",
        play: |_| retry_after(&["soon"]),
    },
    Behavior {
        name: "f26d3",
        when: When::Always,
        does: "429, Retry-After: 1e99",
        play: |_| retry_after(&["1e99"]),
    },
    Behavior {
        name: "f26d4",
        when: When::Always,
        does: "429, Retry-After empty",
        play: |_| retry_after(&[""]),
    },
    Behavior {
        name: "f26d5",
        when: When::Always,
        does: "429, Retry-After twice (2 and 40)",
        play: |_| retry_after(&["2", "40"]),
    },
    Behavior {
        name: "f27a",
        when: When::Always,
        does: "429 limit_burst_rate when requests grow > 50 % in 10 s (settings \
               `ramp_floor`, `ramp_seconds`)",
        play: limited,
    },
    Behavior {
        name: "f27b",
        when: When::Always,
        does: "as f27a with 429 slow_down",
        play: limited,
    },
    Behavior {
        name: "f46a",
        when: When::Always,
        does: "301 to another host; the control log tells whether it was followed",
        play: |s| redirect(s, 301),
    },
    Behavior {
        name: "f46b",
        when: When::Always,
        does: "302 to another host",
        play: |s| redirect(s, 302),
    },
    Behavior {
        name: "f46c",
        when: When::Always,
        does: "307 to another host",
        play: |s| redirect(s, 307),
    },
    Behavior {
        name: "f46d",
        when: When::Always,
        does: "308 to another host",
        play: |s| redirect(s, 308),
    },
    Behavior {
        name: "f47",
        when: When::Always,
        does: "413 to a body above 10 MB (setting `size_limit`, bytes)",
        play: too_large,
    },
    Behavior {
        name: "f52",
        when: When::Always,
        does: "503 above 4 at once (setting `concurrent`), first tokens 5 x later (setting \
               `first_token_factor`)",
        play: limited,
    },
    Behavior {
        name: "f53",
        when: When::Always,
        does: "as ok-noprefill: declared able to continue, answers 400 invalid_prefill",
        play: normal,
    },
    Behavior { name: "f55a", when: When::Always, does: "404 model_not_found", play: model_gone },
    Behavior {
        name: "f55b",
        when: When::Always,
        does: "Qianfan 401 invalid_model",
        play: |_| {
            failure(
                401,
                "invalid_request_error",
                "invalid_model",
                "The model does not exist or you have no permission.",
            )
        },
    },
];

/// An error body in OpenAI's shape.
pub fn error_body(kind: &str, code: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// An error reply in OpenAI's shape, without any dated header.
pub fn failure(status: u16, kind: &str, code: &str, message: &str) -> Play {
    Play::json(status, &[], &error_body(kind, code, message))
}

/// 400 `context_length_exceeded`.
pub fn context_length(window: u64, asked: u64) -> Play {
    let message = format!(
        "This model's maximum context length is {window} tokens. However, your messages resulted \
         in {asked} tokens. Please reduce the length of the messages."
    );
    let mut body = error_body("invalid_request_error", "context_length_exceeded", &message);
    body["error"]["param"] = json!("messages");
    Play::json(400, &[], &body)
}

/// 400 `invalid_prefill`.
pub fn invalid_prefill() -> Play {
    failure(
        400,
        "invalid_request_error",
        "invalid_prefill",
        "The last message must have role user: this model does not support assistant prefill.",
    )
}

/// 404 `model_not_found`.
pub fn model_gone(stage: &Stage) -> Play {
    let message = format!("The model `{}` does not exist.", stage.ask.model);
    failure(404, "invalid_request_error", "model_not_found", &message)
}

/// What the scope's limits answer; `None` when they let the request in.
pub fn refused_by_limits(stage: &Stage) -> Option<Play> {
    let play = match stage.admission {
        Admission::In => return None,
        Admission::Revoked => {
            failure(401, "authentication_error", "invalid_api_key", "Incorrect API key provided.")
        }
        Admission::OverRate => super::bench::throttled(stage),
        Admission::OverConcurrent => super::bench::overloaded(stage),
        Admission::OverRamp if stage.ask.model.starts_with("f27b") => {
            failure(429, "requests", "slow_down", "Please slow down: your rate grew too fast.")
        }
        Admission::OverRamp => failure(
            429,
            "limit_burst_rate",
            "limit_burst_rate",
            "Request rate increased too quickly. To ensure system stability, please adjust your \
             client logic to scale requests more smoothly over time.",
        ),
    };
    Some(play)
}

/// What `down` was set to answers; `None` when it is not set.
pub fn down(stage: &Stage) -> Option<Play> {
    let play = match stage.settings.get("down")?.as_str() {
        "off" => return None,
        "reset" => Play::fault(vec![Step::Reset]),
        "silent" => Play::fault(vec![Step::Wait(super::bench::FOR_EVER), Step::Close]),
        "429" => super::bench::throttled(stage),
        "500" => failure(500, "server_error", "server_error", "The server had an error."),
        _ => super::bench::overloaded(stage),
    };
    Some(play)
}

/// Nothing of its own: what it refuses, its scope's limits refuse.
fn limited(stage: &Stage) -> Play {
    normal(stage)
}

fn rpm_body() -> Value {
    json!({"code": "rpm_rate_limit_exceeded", "msg": "Rate limit reached for RPM", "id": "as-f18"})
}

fn number_body() -> Value {
    json!({"error_code": 336_501, "error_msg": "Rate limit reached for RPM"})
}

fn coded_body() -> Value {
    json!({"error": {"code": 503, "message": "The provider is overloaded", "metadata": {}}})
}

fn masked_code(_: &Stage) -> Play {
    Play::json(200, &[], &rpm_body())
}

fn masked_number(_: &Stage) -> Play {
    Play::json(200, &[], &number_body())
}

fn masked_error(_: &Stage) -> Play {
    Play::json(200, &[], &coded_body())
}

fn masked_code_event(stage: &Stage) -> Play {
    only_event(stage, &rpm_body())
}

fn masked_number_event(stage: &Stage) -> Play {
    only_event(stage, &number_body())
}

fn masked_error_event(stage: &Stage) -> Play {
    only_event(stage, &coded_body())
}

/// `body` as the only event of a stream that then ends properly, without a sentinel.
fn only_event(stage: &Stage, body: &Value) -> Play {
    if !stage.ask.stream {
        return Play::json(200, &[], body);
    }
    Play::fault(vec![stream_head(), text(crate::faults::reply::event(body)), Step::End])
}

fn quota(stage: &Stage) -> Play {
    let cleared = stage.settings.get("quota").is_some_and(|value| value == "clear");
    if cleared || stage.age >= stage.seconds(60.0, 12.0) {
        return normal(stage);
    }
    let message = "You exceeded your current quota, please check your plan and billing details. \
                   For more information on this error, read the docs: \
                   https://help.aliyun.com/zh/model-studio/error-code#token-limit";
    let mut body = error_body("insufficient_quota", "insufficient_quota", message);
    body["request_id"] = json!(format!("f22-{}", stage.answer.id));
    Play::json(429, &[], &body)
}

fn moonshot_quota(_: &Stage) -> Play {
    let message = "Your account is suspended, please check your plan and billing details";
    let body = json!({"error": {"type": "exceeded_current_quota_error", "message": message}});
    Play::json(429, &[], &body)
}

fn anthropic_spend(_: &Stage) -> Play {
    let body = json!({"type": "error", "request_id": "req_f23f", "error": {
        "type": "rate_limit_error", "message": "You have reached your spend limit.",
        "details": {"error_code": "enforced_spend_limit_reached"}}});
    Play::json(429, &[("request-id", "req_f23f")], &body)
}

fn retry_after(values: &[&str]) -> Play {
    let headers: Vec<(&str, &str)> = values.iter().map(|value| ("retry-after", *value)).collect();
    let body = error_body("rate_limit_error", "rate_limit_exceeded", "Rate limit reached.");
    Play::json(429, &headers, &body)
}

fn dated_wrong_clock(_: &Stage) -> Play {
    // An hour slow: read against the client's own clock, the date lies in the past.
    let theirs = SystemTime::now() - Duration::from_secs(3600);
    let date = httpdate::fmt_http_date(theirs);
    let until = httpdate::fmt_http_date(theirs + Duration::from_secs(2));
    let body = error_body("rate_limit_error", "rate_limit_exceeded", "Rate limit reached.");
    Play::json(429, &[("date", &date), ("retry-after", &until)], &body)
}

fn redirect(stage: &Stage, status: u16) -> Play {
    Play::reply(status, &[("location", &stage.trap_url)], "text/plain", "Moved.\n")
}

fn too_large(stage: &Stage) -> Play {
    let limit = stage.settings.get("size_limit").and_then(|text| text.parse().ok());
    if stage.ask.body_bytes <= limit.unwrap_or(10_000_000) {
        return normal(stage);
    }
    failure(413, "invalid_request_error", "request_too_large", "Request Entity Too Large")
}
