//! A chat request as OpenAI's Responses API takes it.
//!
//! System messages stay where they stand, as items with their role: `instructions` would move
//! them. Nothing is stored at the provider unless the client asks for it; the API would by itself.

use super::Call;
use super::conversation::{Conversation, Message, Part, tokens_left};
use super::write::{Edit, unsupported};
use mainstay_core::names::Failure;
use serde_json::{Map, Value, json};

/// Keys that mean the same in both APIs.
const SAME: [&str; 11] = [
    "temperature",
    "top_p",
    "user",
    "metadata",
    "parallel_tool_calls",
    "service_tier",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "instructions",
    "include",
];

pub(super) fn body(
    call: &Call,
    edit: &Edit<'_>,
    dropped: &mut Vec<String>,
) -> Result<Vec<u8>, Failure> {
    if edit.relayed.is_some() {
        return Err(unsupported("it cannot continue an answer"));
    }
    if !call.stop.is_empty() {
        return Err(unsupported("it has no stop strings"));
    }
    let mut talk = Conversation::of(call, edit)?;
    let mut input = Vec::new();
    for message in std::mem::take(&mut talk.messages) {
        add(&mut input, message)?;
    }
    let mut body = Map::new();
    body.insert("model".into(), edit.model.into());
    body.insert("input".into(), input.into());
    body.insert("store".into(), false.into());
    if edit.stream {
        body.insert("stream".into(), true.into());
    }
    if let Some(limit) = tokens_left(call, edit) {
        body.insert("max_output_tokens".into(), limit.into());
    }
    talk.pass(&SAME, &mut body);
    if let Some(effort) = talk.take("reasoning_effort") {
        body.insert("reasoning".into(), json!({ "effort": effort }));
    }
    text(&mut talk, &mut body);
    tools(&mut talk, &mut body);
    dropped.extend(talk.rest.into_iter().map(|(key, _)| key));
    Ok(Value::Object(body).to_string().into_bytes())
}

fn add(input: &mut Vec<Value>, mut message: Message) -> Result<(), Failure> {
    let parts = message.parts()?;
    match message.role.as_str() {
        "tool" => {
            let id = message.tool_call_id.unwrap_or_default();
            let output: Vec<Value> = parts.into_iter().map(|part| content(part, false)).collect();
            let output = match output.as_slice() {
                [] => Value::from(""),
                [one] if one["type"] == "input_text" => one["text"].clone(),
                _ => Value::Array(output),
            };
            input.push(json!({ "type": "function_call_output", "call_id": id, "output": output }));
        }
        role @ ("system" | "developer" | "user" | "assistant") => {
            let written = role == "assistant";
            let content: Vec<Value> = parts.into_iter().map(|p| content(p, written)).collect();
            if !content.is_empty() {
                input.push(json!({ "role": role, "content": content }));
            }
            for call in message.calls() {
                let (name, arguments) = (call.function.name, call.function.arguments);
                input.push(json!({
                    "type": "function_call", "call_id": call.id,
                    "name": name, "arguments": arguments,
                }));
            }
        }
        _ => return Err(unsupported("a message has a role it does not know")),
    }
    Ok(())
}

fn content(part: Part, written: bool) -> Value {
    match part {
        Part::Text(text) if written => json!({ "type": "output_text", "text": text }),
        Part::Text(text) => json!({ "type": "input_text", "text": text }),
        Part::Image { url, detail } => {
            let detail = detail.unwrap_or_else(|| "auto".into());
            json!({ "type": "input_image", "image_url": url, "detail": detail })
        }
    }
}

/// The answer's form and length: `text.format` and `text.verbosity`.
fn text(talk: &mut Conversation, body: &mut Map<String, Value>) {
    let mut text = Map::new();
    if let Some(mut format) = talk.take("response_format") {
        // The schema's own keys stand beside the type here, not below it.
        if let Some(fields) = format.as_object_mut()
            && let Some(Value::Object(schema)) = fields.shift_remove("json_schema")
        {
            fields.extend(schema);
        }
        text.insert("format".into(), format);
    }
    talk.pass(&["verbosity"], &mut text);
    if !text.is_empty() {
        body.insert("text".into(), text.into());
    }
}

fn tools(talk: &mut Conversation, body: &mut Map<String, Value>) {
    if let Some(Value::Array(offered)) = talk.take("tools") {
        let mut tools: Vec<Value> = offered.into_iter().map(flat).collect();
        for tool in tools.iter_mut().filter_map(Value::as_object_mut) {
            // Chat completions are lax unless told otherwise, and this API is strict.
            tool.entry("strict").or_insert(false.into());
        }
        body.insert("tools".into(), tools.into());
    }
    if let Some(choice) = talk.take("tool_choice") {
        body.insert("tool_choice".into(), flat(choice));
    }
}

/// `{type, function: {…}}` as `{type, …}`.
fn flat(mut tool: Value) -> Value {
    if let Some(fields) = tool.as_object_mut()
        && let Some(Value::Object(function)) = fields.shift_remove("function")
    {
        fields.extend(function);
    }
    tool
}
