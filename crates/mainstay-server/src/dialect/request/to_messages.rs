//! A chat request as Anthropic's Messages API takes it.
//!
//! System messages become the system prompt, one block each, so that no text is joined or added;
//! tool results become blocks of a user's message, and neighbours of one role become one message.

use super::super::ContinueForm;
use super::conversation::{Conversation, Message, Part, tokens_left};
use super::write::{Edit, unsupported};
use super::{Call, Format};
use mainstay_core::names::Failure;
use serde_json::{Map, Value, json};

/// The API demands a limit; this is what is asked for a client that names none.
const MAX_TOKENS: u32 = 4096;

/// The API's highest temperature; OpenAI's is 2.
const TEMPERATURE_MAX: f64 = 1.0;

pub(super) fn body(
    call: &Call,
    edit: &Edit<'_>,
    form: Option<&ContinueForm>,
    dropped: &mut Vec<String>,
) -> Result<Vec<u8>, Failure> {
    if call.format != Format::Text {
        return Err(unsupported("it has no JSON mode"));
    }
    let mut talk = Conversation::of(call, edit)?;
    let mut turns = Turns::default();
    for message in std::mem::take(&mut talk.messages) {
        turns.add(message)?;
    }
    if let Some(relayed) = edit.relayed {
        turns.relayed(relayed.text, form)?;
    }
    let mut body = Map::new();
    body.insert("model".into(), edit.model.into());
    body.insert("max_tokens".into(), tokens_left(call, edit).unwrap_or(MAX_TOKENS).into());
    if !turns.system.is_empty() {
        body.insert("system".into(), turns.system.into());
    }
    body.insert("messages".into(), turns.messages.into());
    if edit.stream {
        body.insert("stream".into(), true.into());
    }
    if !call.stop.is_empty() {
        body.insert("stop_sequences".into(), json!(call.stop));
    }
    talk.take("temperature");
    if let Some(temperature) = call.temperature {
        if temperature > TEMPERATURE_MAX {
            dropped.push("temperature".into());
        }
        body.insert("temperature".into(), temperature.min(TEMPERATURE_MAX).into());
    }
    talk.pass(&["top_p", "top_k"], &mut body);
    if let Some(user) = talk.take("user") {
        body.insert("metadata".into(), json!({ "user_id": user }));
    }
    tools(&mut talk, &mut body)?;
    body.extend(form.into_iter().flat_map(|form| form.body.clone()));
    dropped.extend(talk.rest.into_iter().map(|(key, _)| key));
    Ok(Value::Object(body).to_string().into_bytes())
}

#[derive(Default)]
struct Turns {
    system: Vec<Value>,
    messages: Vec<Value>,
}

impl Turns {
    fn add(&mut self, mut message: Message) -> Result<(), Failure> {
        let mut blocks = Vec::new();
        for part in message.parts()? {
            blocks.push(block(part)?);
        }
        match message.role.as_str() {
            "system" | "developer" => self.system.extend(blocks),
            "user" => self.say("user", blocks),
            "assistant" => {
                for call in message.calls() {
                    let arguments = call.function.arguments.trim();
                    let arguments = if arguments.is_empty() { "{}" } else { arguments };
                    let input: Value = serde_json::from_str(arguments)
                        .map_err(|_| unsupported("a tool call's arguments are not JSON"))?;
                    let name = call.function.name;
                    blocks.push(json!({
                        "type": "tool_use", "id": call.id, "name": name, "input": input,
                    }));
                }
                self.say("assistant", blocks);
            }
            "tool" => {
                let id = message.tool_call_id.unwrap_or_default();
                let result = json!({
                    "type": "tool_result", "tool_use_id": id, "content": blocks,
                });
                self.say("user", vec![result]);
            }
            _ => return Err(unsupported("a message has a role it does not know")),
        }
        Ok(())
    }

    fn say(&mut self, role: &str, blocks: Vec<Value>) {
        if blocks.is_empty() {
            return;
        }
        if let Some(last) = self.messages.last_mut()
            && last["role"] == role
            && let Some(content) = last["content"].as_array_mut()
        {
            return content.extend(blocks);
        }
        self.messages.push(json!({ "role": role, "content": blocks }));
    }

    /// Puts the answer's beginning last.
    fn relayed(&mut self, text: &str, form: Option<&ContinueForm>) -> Result<(), Failure> {
        if text.ends_with(|end: char| end.is_whitespace()) {
            // Documented: "final assistant content cannot end with trailing whitespace".
            return Err(unsupported("it does not continue a text that ends in space"));
        }
        match self.messages.last_mut() {
            Some(last) if last["role"] == "assistant" => {
                let block = last["content"].as_array_mut().and_then(|blocks| blocks.last_mut());
                let open = block.filter(|block| block["type"] == "text");
                let open = open.ok_or_else(|| unsupported("it cannot continue a tool call"))?;
                let begun = open["text"].as_str().unwrap_or_default();
                open["text"] = format!("{begun}{text}").into();
            }
            Some(_) | None => self.say("assistant", vec![json!({ "type": "text", "text": text })]),
        }
        if let (Some(Value::Object(last)), Some(form)) = (self.messages.last_mut(), form) {
            last.extend(form.message.clone());
        }
        Ok(())
    }
}

fn block(part: Part) -> Result<Value, Failure> {
    let url = match part {
        Part::Text(text) => return Ok(json!({ "type": "text", "text": text })),
        Part::Image { url, .. } => url,
    };
    let Some(inline) = url.strip_prefix("data:") else {
        return Ok(json!({ "type": "image", "source": { "type": "url", "url": url } }));
    };
    let (kind, data) = inline
        .split_once(";base64,")
        .ok_or_else(|| unsupported("a picture is encoded in a way it does not know"))?;
    let source = json!({ "type": "base64", "media_type": kind, "data": data });
    Ok(json!({ "type": "image", "source": source }))
}

fn tools(talk: &mut Conversation, body: &mut Map<String, Value>) -> Result<(), Failure> {
    let Some(offered) = talk.take("tools") else { return Ok(()) };
    let mut tools = Vec::new();
    for tool in offered.as_array().into_iter().flatten() {
        let function = tool.get("function").and_then(Value::as_object);
        let function = function.ok_or_else(|| unsupported("it knows functions as tools only"))?;
        let mut written = Map::new();
        for key in ["name", "description"] {
            if let Some(value) = function.get(key) {
                written.insert(key.into(), value.clone());
            }
        }
        let empty = || json!({ "type": "object", "properties": {} });
        let schema = function.get("parameters").filter(|schema| !schema.is_null());
        written.insert("input_schema".into(), schema.cloned().unwrap_or_else(empty));
        tools.push(Value::Object(written));
    }
    if tools.is_empty() {
        return Ok(());
    }
    body.insert("tools".into(), tools.into());
    let single = talk.take("parallel_tool_calls") == Some(Value::Bool(false));
    let choice = match talk.take("tool_choice") {
        None if !single => return Ok(()),
        None => json!({ "type": "auto" }),
        Some(choice) => match (choice.as_str(), choice.pointer("/function/name")) {
            (Some("none"), _) => json!({ "type": "none" }),
            (Some("required"), _) => json!({ "type": "any" }),
            (None, Some(name)) => json!({ "type": "tool", "name": name }),
            (Some(_), _) => json!({ "type": "auto" }),
            (None, None) => return Err(unsupported("it does not know this tool choice")),
        },
    };
    body.insert("tool_choice".into(), choice);
    if single && body["tool_choice"]["type"] != "none" {
        body["tool_choice"]["disable_parallel_tool_use"] = true.into();
    }
    Ok(())
}
