//! Errors as OpenAI's clients read them.

use crate::http::ResponseBody;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use mainstay_core::gateway::refusal::Refusal;
use serde_json::{Value, json};

/// The body of `refusal`.
pub fn body(refusal: &Refusal) -> Value {
    json!({ "error": {
        "message": refusal.message,
        "type": refusal.kind,
        "param": refusal.param,
        "code": refusal.code,
    } })
}

/// The whole response.
pub fn response(refusal: &Refusal) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body(refusal).to_string()));
    let status = StatusCode::from_u16(refusal.status);
    *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait) = refusal.retry_after {
        let seconds = wait.as_millis().div_ceil(1000).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(1)));
    }
    response
}

/// A refusal of the caller's own making.
pub fn of_caller(status: u16, code: &str, message: impl Into<String>) -> Refusal {
    Refusal {
        status,
        kind: "invalid_request_error".into(),
        code: code.into(),
        message: message.into(),
        param: None,
        retry_after: None,
    }
}
