//! What upstreams say and what it means: one data file per provider, read by the same few rules.
//!
//! A dialect names the class of a failure; what to do about it is decided in core. A new provider
//! is one file in `dialects/` and its corpus in `tests/corpus/`, unless its stream has a new
//! framing. What a file may say is `Dialect` itself, field for field.

pub mod event;
pub mod reader;
pub mod sse;

pub mod assemble;
pub mod object;
pub mod plain;
pub mod request;
pub mod shape;

mod chat;
mod messages;
mod responses;

mod builtin;
mod classify;
mod evidence;
mod retry_after;
mod rule;
mod wording;

pub use classify::{Basis, Reply};
pub use evidence::{ErrorShape, Mark, Place};
pub use retry_after::retry_after;
pub use rule::{Rule, StatusPattern, fits};

pub use builtin::of_nodes;

use mainstay_core::names::ErrorClass;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// One upstream dialect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dialect {
    /// Its name, e.g. `deepseek`; not in the file.
    #[serde(skip)]
    pub name: String,
    /// Base URL without trailing slash; `None` where only the operator knows it.
    #[serde(default, deserialize_with = "url")]
    pub base_url: Option<String>,
    /// Environment variable that holds the key by the provider's own convention.
    pub key_env: Option<String>,
    /// How the key is sent.
    pub auth: Auth,
    /// Headers sent with every request, whatever it asks.
    #[serde(default, deserialize_with = "pairs")]
    pub headers: Vec<(String, String)>,
    /// Format of requests and streams.
    pub wire: Wire,
    /// Whether chat can be streamed.
    #[serde(default = "yes")]
    pub streams: bool,
    /// A plain reply that took about this long and has no `stop` was cut by the provider.
    #[serde(default, deserialize_with = "seconds")]
    pub plain_limit: Option<Duration>,
    /// Identical refusals of our key that are needed before it is believed.
    #[serde(default = "one")]
    pub auth_strikes: u8,
    /// What the limits are counted by.
    pub limits: Limits,
    /// Where things sit in an error body, before the places of the `generic` dialect.
    #[serde(default)]
    pub error: ErrorShape,
    /// What is an error in a body that came with HTTP 200, besides the marks of `generic`.
    #[serde(default)]
    pub ok_error: Vec<Mark>,
    /// From evidence to class; the first match wins, and the rules of `generic` follow.
    #[serde(default)]
    pub class: Vec<Rule>,
    /// Finish reasons that are failures. A reason of neither the success set nor this is
    /// `transient`.
    #[serde(default, deserialize_with = "class_map")]
    pub finish: BTreeMap<String, ErrorClass>,
    /// Where usage may sit in a reply or a chunk, as JSON pointers, the likeliest first.
    #[serde(default = "usage_at", deserialize_with = "pointers")]
    pub usage_at: Vec<String>,
    /// Models known to be offered.
    #[serde(default)]
    pub models: Vec<OfferedModel>,
    /// Patterns of further names that it may serve.
    #[serde(default)]
    pub families: Vec<String>,
    /// The model that answers to the alias `chat`.
    pub chat: Option<String>,
    /// How a partial answer is continued; `None`: it cannot be, or nobody knows.
    pub continuation: Option<ContinueForm>,
    /// How reasoning is turned on and off.
    pub reasoning: Option<Reasoning>,
}

/// Format of requests and streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// OpenAI `POST /chat/completions`.
    Chat,
    /// Anthropic `POST /v1/messages`.
    Messages,
    /// OpenAI `POST /responses`.
    Responses,
}

/// How the key is sent. In a file: `"none"`, `"bearer"` or the name of a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub enum Auth {
    /// No key is wanted. One that is configured all the same goes as a bearer token.
    None,
    /// `Authorization: Bearer …`
    Bearer,
    /// The key alone in the header of this name.
    Header(String),
}

impl From<String> for Auth {
    fn from(word: String) -> Auth {
        match word.as_str() {
            "none" => Auth::None,
            "bearer" => Auth::Bearer,
            _ => Auth::Header(word),
        }
    }
}

/// What a provider's limits are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Who shares them.
    pub scope: LimitScope,
    /// How long a used-up limit takes to refill, where that is documented.
    #[serde(default, deserialize_with = "seconds")]
    pub refill: Option<Duration>,
}

/// Who shares a provider's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitScope {
    /// Every key of the account.
    Account,
    /// Every key of the organization.
    Organization,
    /// This key alone.
    Key,
    /// Whoever uses this server: it is one of our own, and its slots are the limit.
    Worker,
}

/// A model known to be offered, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedModel {
    /// Its name there.
    pub name: String,
    /// Context window in tokens, prompt and answer together.
    pub window: Option<u32>,
    /// Most tokens it will answer.
    pub output_max: Option<u32>,
    /// Whether it calls tools.
    #[serde(default = "yes")]
    pub tools: bool,
    /// Whether it reads images or other media.
    #[serde(default)]
    pub media: bool,
    /// Whether it has a JSON mode.
    #[serde(default = "yes")]
    pub json: bool,
}

/// How a partial answer, put last as an assistant message, is continued.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContinueForm {
    /// Fields added to that last message.
    #[serde(default)]
    pub message: Map<String, Value>,
    /// Fields added to the request.
    #[serde(default)]
    pub body: Map<String, Value>,
    /// What the base URL gets at its end, e.g. `/beta`.
    pub base_suffix: Option<String>,
    /// Whether the continuation repeats the partial answer first.
    #[serde(default)]
    pub repeats_prefix: bool,
    /// Patterns of the models that can; empty: all.
    #[serde(default)]
    pub only: Vec<String>,
    /// Patterns of the models that cannot.
    #[serde(default)]
    pub except: Vec<String>,
    /// Patterns of the models that begin the continuation on a new line of their own accord
    /// unless the prefix ends in one.
    #[serde(default)]
    pub newline: Vec<String>,
}

/// How reasoning is turned on and off, as fields of the request.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reasoning {
    /// Fields that turn it on.
    #[serde(default)]
    pub on: Map<String, Value>,
    /// Fields that turn it off.
    #[serde(default)]
    pub off: Map<String, Value>,
}

impl Dialect {
    /// Reads a dialect file.
    ///
    /// # Errors
    /// One message with the dialect's name and the line that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Dialect, String> {
        let of = |why: &str| format!("dialect {name}: {}", why.trim());
        rule::check(text).map_err(|why| of(&why))?;
        let read: Result<Dialect, toml::de::Error> = toml::from_str(text);
        let mut dialect = read.map_err(|e| of(&e.to_string()))?;
        name.clone_into(&mut dialect.name);
        Ok(dialect)
    }

    /// Whether it may serve a model of this name: one that is known, or one of a family.
    pub fn may_serve(&self, model: &str) -> bool {
        self.models.iter().any(|m| m.name == model) || self.families.iter().any(|f| fits(f, model))
    }

    /// Whether it continues a partial answer of this model natively. Unknown is no.
    pub fn can_continue(&self, model: &str) -> bool {
        self.continuation.as_ref().is_some_and(|form| {
            (form.only.is_empty() || form.only.iter().any(|p| fits(p, model)))
                && !form.except.iter().any(|p| fits(p, model))
        })
    }

    /// What is known of the model of this name.
    pub fn model(&self, name: &str) -> Option<&OfferedModel> {
        self.models.iter().find(|m| m.name == name)
    }
}

fn yes() -> bool {
    true
}

fn one() -> u8 {
    1
}

fn usage_at() -> Vec<String> {
    vec!["/usage".into()]
}

fn url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let url = String::deserialize(from)?;
    let scheme = url.starts_with("https://") || url.starts_with("http://");
    if !scheme || url.ends_with('/') {
        return Err(D::Error::custom(format!("\"{url}\" is not like \"https://host/v1\"")));
    }
    Ok(Some(url))
}

fn pointers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts: Vec<String> = Vec::deserialize(from)?;
    for text in &texts {
        Place::try_from(text.clone()).map_err(D::Error::custom)?;
    }
    Ok(texts)
}

fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(String, String)>, D::Error> {
    Ok(BTreeMap::deserialize(from)?.into_iter().collect())
}

fn seconds<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let number = text.strip_suffix('s').and_then(|n| n.parse().ok());
    let number = number.ok_or_else(|| D::Error::custom(format!("\"{text}\" is not like \"60s\"")));
    number.map(|n| Some(Duration::from_secs(n)))
}

fn class_map<'de, D>(from: D) -> Result<BTreeMap<String, ErrorClass>, D::Error>
where
    D: Deserializer<'de>,
{
    let words: BTreeMap<String, String> = BTreeMap::deserialize(from)?;
    words
        .into_iter()
        .map(|(reason, word)| match rule::class_named(&word) {
            Ok(class) => Ok((reason, class)),
            Err(why) => Err(D::Error::custom(why)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "auth = \"bearer\"\nwire = \"chat\"\nlimits = { scope = \"account\" }\n";

    fn refusal(more: &str) -> String {
        Dialect::parse("x", &format!("{LEAST}{more}")).unwrap_err()
    }

    #[test]
    fn the_least_file_is_three_lines() {
        let dialect = Dialect::parse("x", LEAST).unwrap();
        assert_eq!((dialect.name.as_str(), dialect.auth_strikes), ("x", 1));
        assert!(dialect.streams && !dialect.can_continue("m") && !dialect.may_serve("m"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        let said = refusal("colour = \"red\"\n");
        assert!(said.contains("line 4") && said.contains("colour"), "{said}");
    }

    #[test]
    fn values_of_the_wrong_form_are_refused_with_their_line() {
        for wrong in [
            "base_url = \"https://host/v1/\"",
            "base_url = \"host\"",
            "usage_at = [\"usage\"]",
            "plain_limit = \"5 minutes\"",
            "finish = { abort = \"sad\" }",
            "error = { code = [\"code\"] }",
            "class = [{ status = 42, is = \"dead\" }]",
        ] {
            let said = refusal(wrong);
            assert!(said.contains("line 4"), "{wrong}: {said}");
        }
    }

    #[test]
    fn an_unknown_class_is_refused_with_its_line() {
        let said = refusal(
            "[[class]]\nstatus = 400\nis = \"dead\"\n[[class]]\nstatus = 400\nis = \"sad\"\n",
        );
        assert!(said.contains("line 7") && said.contains("sad"), "{said}");
    }

    #[test]
    fn a_rule_that_matches_text_alone_is_refused() {
        for rule in [
            "{ message_has = \"full\", is = \"overload\" }",
            "{ status = 503, message_has = \"full\", is = \"overload\" }",
            "{ code = \"x\", message_has = \"full\", is = \"overload\" }",
            "{ codeless = true, message_has = \"full\", is = \"overload\" }",
            "{ status = 429, code = \"x\", message_has = \"\", is = \"overload\" }",
            "{ header = \"x-full\", is = \"overload\" }",
            "{ is = \"overload\" }",
        ] {
            let said = refusal(&format!("class = [{rule}]\n"));
            assert!(said.contains("line 4"), "{rule}: {said}");
        }
    }

    #[test]
    fn a_fragment_beside_status_and_code_is_allowed() {
        for rule in [
            "{ status = 429, code = \"x\", message_has = \"full\", is = \"overload\" }",
            "{ status = 429, kind = \"x\", message_has = [\"full\"], is = \"overload\" }",
            "{ status = 429, codeless = true, message_has = \"full\", is = \"overload\" }",
        ] {
            Dialect::parse("x", &format!("{LEAST}class = [{rule}]\n")).unwrap();
        }
    }

    #[test]
    fn a_continuation_is_for_the_models_that_are_named() {
        let text = format!(
            "{LEAST}continuation = {{ only = [\"a-*\"], except = [\"a-2*\"] }}\nfamilies = [\"a*\"]"
        );
        let dialect = Dialect::parse("x", &text).unwrap();
        assert!(dialect.can_continue("a-1") && dialect.may_serve("a-1"));
        assert!(!dialect.can_continue("a-2.1") && !dialect.can_continue("b"));
        assert!(!dialect.may_serve("b"));
    }
}
