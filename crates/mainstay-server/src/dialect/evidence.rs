//! What a reply shows: status, code, type, message, each wherever this dialect keeps it.
//!
//! Nothing here is trusted: every field may be missing, of another type, or hostile.

use super::{Dialect, builtin, wording};
use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

/// Where things sit in an error body: JSON pointers, the first that holds something counts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ErrorShape {
    /// The HTTP status it would have had, where it came inside a 200.
    pub status: Vec<Place>,
    /// The code, a word or a number.
    pub code: Vec<Place>,
    /// The type.
    pub kind: Vec<Place>,
    /// The sentence.
    pub message: Vec<Place>,
    /// The request parameter at fault.
    pub param: Vec<Place>,
    /// The provider's own name for the request.
    pub request_id: Vec<Place>,
    /// The context window, as a number.
    pub window: Vec<Place>,
    /// Fragments of the message that are followed by the context window.
    pub window_after: Vec<String>,
    /// Fragments of the message that are followed by the largest body.
    pub size_after: Vec<String>,
}

/// What makes a body that came with HTTP 200 an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// Something must stand here: not null, empty, zero or false.
    pub at: Place,
    /// The pattern it must fit.
    #[serde(default = "anything")]
    pub is: String,
    /// Words it must not be: the provider's own for success.
    #[serde(default)]
    pub not: Vec<String>,
    /// Where something must stand beside it, at one of these if there are any.
    #[serde(default)]
    pub with: Vec<Place>,
    /// Where nothing may stand: an answer has something there.
    #[serde(default)]
    pub unless: Vec<Place>,
}

/// A JSON pointer (RFC 6901), taken apart once: marks are looked for in every event of a stream.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Place(Vec<String>);

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Place, String> {
        let path = text.strip_prefix('/').ok_or_else(|| format!("\"{text}\" has no / in front"))?;
        Ok(Place(path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl Place {
    /// What stands here in `value`, null counting as nothing.
    pub(super) fn find<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        let found = self.0.iter().try_fold(value, |value, step| match value {
            Value::Object(map) => map.get(step),
            Value::Array(list) => list.get(step.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        });
        found.filter(|value| !value.is_null())
    }
}

/// What one reply or one event shows, in a dialect's terms.
pub(super) struct Evidence<'a> {
    /// Its HTTP status, or the one it names inside a 200.
    pub(super) status: Option<u16>,
    /// The provider's code.
    pub(super) code: Option<String>,
    /// The provider's type.
    pub(super) kind: Option<String>,
    /// The provider's sentence, whole.
    pub(super) message: String,
    headers: Option<&'a HeaderMap>,
    value: &'a Value,
    dialect: &'a Dialect,
}

impl<'a> Evidence<'a> {
    /// What `value` shows. Without a `status` of its own it has the one it names, if any.
    pub(super) fn of(
        dialect: &'a Dialect,
        status: Option<u16>,
        headers: Option<&'a HeaderMap>,
        value: &'a Value,
    ) -> Evidence<'a> {
        let mut seen = Evidence {
            status,
            code: None,
            kind: None,
            message: String::new(),
            headers,
            value,
            dialect,
        };
        seen.status = status.or_else(|| seen.first(|s| &s.status, inner_status));
        seen.code = seen.first(|s| &s.code, word);
        seen.kind = seen.first(|s| &s.kind, |v| v.as_str().and_then(some));
        seen.message =
            seen.first(|s| &s.message, |v| v.as_str().and_then(some)).unwrap_or_default();
        seen
    }

    /// What stands at one place, as text; a list or an object is empty text.
    pub(super) fn text_at(&self, place: &Place) -> Option<String> {
        place.find(self.value).and_then(|value| match value {
            Value::Array(_) | Value::Object(_) => says_something(value).then(String::new),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => word(value),
        })
    }

    /// Whether the reply has this header.
    pub(super) fn has_header(&self, name: &str) -> bool {
        self.headers.is_some_and(|headers| headers.contains_key(name))
    }

    /// The parameter at fault.
    pub(super) fn param(&self) -> Option<String> {
        self.first(|s| &s.param, word)
    }

    /// The provider's name for the request.
    pub(super) fn request_id(&self) -> Option<String> {
        self.first(|s| &s.request_id, word)
    }

    /// The context window that a refusal names.
    pub(super) fn window(&self) -> Option<u64> {
        let number = self.first(|s| &s.window, |v| v.as_u64().and_then(|n| wording::window(n, "")));
        number.or_else(|| {
            wording::number_after(
                &self.message,
                &self.fragments(|s| &s.window_after),
                wording::window,
            )
        })
    }

    /// The largest body that a refusal names.
    pub(super) fn size(&self) -> Option<u64> {
        wording::number_after(&self.message, &self.fragments(|s| &s.size_after), wording::size)
    }

    fn first<T>(
        &self,
        places: impl Fn(&ErrorShape) -> &Vec<Place>,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let places = places(&self.dialect.error).iter().chain(places(&builtin::generic().error));
        places.filter_map(|place| place.find(self.value)).find_map(read)
    }

    fn fragments(&self, of: impl Fn(&ErrorShape) -> &Vec<String>) -> Vec<&str> {
        let all = of(&self.dialect.error).iter().chain(of(&builtin::generic().error));
        all.map(String::as_str).collect()
    }
}

/// Whether `value`, which came with HTTP 200, is an error in this dialect.
pub(super) fn is_error(dialect: &Dialect, value: &Value) -> bool {
    let marks = dialect.ok_error.iter().chain(&builtin::generic().ok_error);
    value.is_object() && marks.into_iter().any(|mark| mark.stands_in(value))
}

impl Mark {
    fn stands_in(&self, value: &Value) -> bool {
        self.at.find(value).filter(|found| says_something(found)).is_some_and(|found| {
            let text = word(found).unwrap_or_default();
            super::fits(&self.is, &text)
                && !self.not.iter().any(|harmless| super::fits(harmless, &text))
                && (self.with.is_empty() || self.with.iter().any(|p| p.find(value).is_some()))
                && self.unless.iter().all(|place| place.find(value).is_none())
        })
    }
}

fn anything() -> String {
    "*".into()
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "0",
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// A word, or a number in decimal.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn inner_status(value: &Value) -> Option<u16> {
    let number = word(value)?.parse().ok()?;
    (400..600).contains(&number).then_some(number)
}
