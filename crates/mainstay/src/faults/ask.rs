//! What a request asks for, read from its path and body. Lenient on purpose: the fault server
//! judges clients by what they do, not by how they spell a request.

use serde_json::Value;

use super::answer::sha256_hex;

/// Which interface the request used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `/v1/chat/completions`; and `/v1/messages`, where only refusals make sense (F23f)
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/responses`
    Responses,
    /// `/v1/embeddings`
    Embeddings,
}

impl Api {
    /// The interface behind a path, e.g. `/v1/chat/completions`, `/beta/chat/completions`.
    pub fn of_path(path: &str) -> Option<Api> {
        let path = path.trim_end_matches('/');
        if path.ends_with("/chat/completions") || path.ends_with("/messages") {
            Some(Api::Chat)
        } else if path.ends_with("/completions") {
            Some(Api::Completions)
        } else if path.ends_with("/responses") {
            Some(Api::Responses)
        } else if path.ends_with("/embeddings") {
            Some(Api::Embeddings)
        } else {
            None
        }
    }
}

/// A request for an answer.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The interface.
    pub api: Api,
    /// The model name, which chooses the behavior.
    pub model: String,
    /// Whether events were asked for.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// Number of messages.
    pub messages: usize,
    /// Role of the last message.
    pub last_role: String,
    /// Text of the last user message; the answer is a function of it.
    pub prompt: String,
    /// Text of a trailing assistant message, if there is one.
    pub prefix: Option<String>,
    /// `max_tokens` or `max_completion_tokens`.
    pub max_tokens: Option<usize>,
    /// Stop strings.
    pub stop: Vec<String>,
    /// Choices wanted, 1 to 8.
    pub n: usize,
    /// Name of the first tool, if tools were given.
    pub tool: Option<String>,
    /// `response_format` asks for JSON.
    pub json: bool,
    /// Size of the request body in bytes.
    pub body_bytes: usize,
}

impl Ask {
    /// Reads `body`; `None` if it is not a JSON object with a model name.
    pub fn read(api: Api, body: &[u8]) -> Option<Ask> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let model = value.get("model")?.as_str()?.to_owned();
        let messages = messages_of(&value);
        let last_user = messages.iter().rev().find(|(role, _)| role == "user");
        let (last_role, last_text) =
            messages.last().cloned().unwrap_or_else(|| ("none".to_owned(), String::new()));
        let format = &value["response_format"]["type"];
        Some(Ask {
            api,
            model,
            stream: value["stream"].as_bool().unwrap_or(false),
            include_usage: value["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            messages: messages.len(),
            prompt: last_user.map(|(_, text)| text.clone()).unwrap_or_default(),
            prefix: (last_role == "assistant").then_some(last_text),
            last_role,
            max_tokens: ["max_tokens", "max_completion_tokens", "max_output_tokens"]
                .iter()
                .find_map(|key| value[*key].as_u64())
                .map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
            stop: strings(&value["stop"]),
            n: usize::try_from(value["n"].as_u64().unwrap_or(1)).unwrap_or(1).clamp(1, 8),
            tool: tool_name(&value["tools"]),
            json: format == "json_object" || format == "json_schema",
            body_bytes: body.len(),
        })
    }

    /// What makes two attempts the same conversation: the last user message.
    pub fn conversation(&self) -> String {
        sha256_hex(&self.prompt)
    }

    /// A rough count of prompt tokens: four bytes each, as providers' own rules of thumb go.
    pub fn prompt_tokens(&self) -> u64 {
        (self.body_bytes as u64).div_ceil(4)
    }

    /// Whether the answer is a tool call.
    pub fn wants_call(&self) -> bool {
        self.tool.is_some() && self.prompt.contains("call")
    }
}

/// The messages as pairs of role and text, from whichever field the interface uses.
fn messages_of(value: &Value) -> Vec<(String, String)> {
    let list = value.get("messages").or_else(|| value.get("input")).or_else(|| value.get("prompt"));
    match list {
        Some(Value::Array(items)) if items.iter().all(Value::is_object) => items
            .iter()
            .map(|item| {
                let role = item["role"].as_str().unwrap_or("user").to_owned();
                (role, text_of(&item["content"]))
            })
            .collect(),
        Some(other) => vec![("user".to_owned(), text_of(other))],
        None => Vec::new(),
    }
}

/// The text in a content field: a string, or the text parts of a list joined.
fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(|part| part.as_str().or_else(|| part["text"].as_str()).unwrap_or_default())
            .collect(),
        _ => String::new(),
    }
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn tool_name(tools: &Value) -> Option<String> {
    let first = tools.as_array()?.first()?;
    let name = first["function"]["name"].as_str().or_else(|| first["name"].as_str());
    Some(name.unwrap_or("tool").to_owned())
}
