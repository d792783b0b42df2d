//! The form that a call wants its answer in, under the names it goes by: OpenAI's
//! `response_format` and `tools`, and vLLM's `guided_…`.

use super::{invalid, read, unsupported};
use crate::dialect::request::{Call, Format};
use crate::embedded::{Form, ToolChoice};
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

/// The tools that `call` offers.
pub fn tools(call: &Call) -> Result<Option<Value>, Failure> {
    if call.value("functions").is_some() {
        return Err(unsupported("the embedded engine takes `tools`, not the older `functions`"));
    }
    let Some(tools) = read::<Value>(call, "tools")? else { return Ok(None) };
    let list = tools.as_array().ok_or(invalid("tools"))?;
    match list.iter().all(|tool| tool["function"]["name"].is_string()) {
        true => Ok((!list.is_empty()).then_some(tools)),
        false => Err(invalid("tools")),
    }
}

/// Whether `call` wants one called.
pub fn tool_choice(call: &Call) -> Result<ToolChoice, Failure> {
    let tools = tools(call)?;
    let choice: Option<Value> = read(call, "tool_choice")?;
    let Some(choice) = choice.filter(|_| tools.is_some()) else { return Ok(ToolChoice::May) };
    let offers = |name: &str| {
        let all = tools.as_ref().and_then(Value::as_array);
        all.is_some_and(|all| all.iter().any(|tool| tool["function"]["name"] == name))
    };
    match (&choice, choice["function"]["name"].as_str()) {
        (Value::String(word), _) if word == "auto" => Ok(ToolChoice::May),
        (Value::String(word), _) if word == "none" => Ok(ToolChoice::Never),
        (Value::String(word), _) if word == "required" => Ok(ToolChoice::Must(None)),
        (_, Some(name)) if offers(name) => Ok(ToolChoice::Must(Some(name.to_owned()))),
        (_, _) => Err(invalid("tool_choice")),
    }
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
