//! The form that a call wants its answer in, under the names it goes by: OpenAI's
//! `response_format`, and vLLM's `guided_…`.

use super::{invalid, read, unsupported};
use crate::dialect::request::{Call, Format};
use crate::embedded::Form;
use mainstay_core::names::Failure;
use serde_json::Value;

/// What the answer to `call` is held to.
pub fn of(call: &Call) -> Result<Option<Form>, Failure> {
    match call.format {
        Format::Text => return Ok(None),
        Format::JsonObject => return Ok(Some(Form::JsonObject)),
        Format::JsonSchema => {}
    }
    let format: Option<Value> = read(call, "response_format")?;
    if let Some(format) = format.filter(|format| format["type"] != "text") {
        let schema = format["json_schema"]["schema"].clone();
        return match (format["type"].as_str(), schema) {
            (Some("json_schema"), schema @ Value::Object(_)) => Ok(Some(Form::JsonSchema(schema))),
            (_, _) => Err(invalid("response_format")),
        };
    }
    if let Some(schema) = read::<Value>(call, "guided_json")? {
        // It may come as JSON in a string.
        let schema = match &schema {
            Value::String(text) => {
                serde_json::from_str(text).map_err(|_| invalid("guided_json"))?
            }
            _ => schema,
        };
        return Ok(Some(Form::JsonSchema(schema)));
    }
    if let Some(regex) = read::<String>(call, "guided_regex")? {
        return Ok(Some(Form::Regex(regex)));
    }
    if let Some(choices) = read::<Vec<String>>(call, "guided_choice")? {
        return choice(&choices).map(Some);
    }
    Err(unsupported("the embedded engine keeps no grammars but JSON schemas and guided_regex"))
}

/// One of these texts.
fn choice(choices: &[String]) -> Result<Form, Failure> {
    if choices.is_empty() || choices.iter().any(String::is_empty) {
        return Err(invalid("guided_choice"));
    }
    let texts: Vec<String> = choices.iter().map(|text| escape(text)).collect();
    Ok(Form::Regex(format!("(?:{})", texts.join("|"))))
}

/// A text as a regular expression that matches nothing else.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$#&-~/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
