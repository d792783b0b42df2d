//! What of one piece of an attempt is new to the client, and how it is written.

use crate::dialect::event::{Delta, Finish, ToolDelta};
use mainstay_core::gateway::joint::{Fed, Joint};
use serde_json::{Map, Value, json};

/// Names under which reasoning travels.
const REASONING: [&str; 3] = ["reasoning_content", "reasoning", "reasoning_details"];

/// What came does not fit what the client has.
pub(super) struct Mismatch;

/// What of a delta is new to the client.
pub(super) struct New {
    pub(super) content: String,
    /// With whether the client knows the call already.
    pub(super) tools: Vec<(ToolDelta, bool)>,
    pub(super) stop: Option<Finish>,
}

/// Passes a delta through the joint.
pub(super) fn feed(joint: &mut Joint, delta: &Delta) -> Result<New, Mismatch> {
    let mut new = New { content: String::new(), tools: Vec::new(), stop: None };
    if !delta.content.is_empty() {
        match joint.content(&delta.content) {
            Fed::Relay(text) => new.content = text,
            Fed::Hold => {}
            Fed::Stop(text) => {
                new.content = text;
                new.stop = Some(Finish::Stop);
            }
            Fed::Mismatch => return Err(Mismatch),
        }
    }
    for tool in &delta.tools {
        let opened = joint.has_opened(tool.index);
        match joint.tool(tool.index, &tool.name, &tool.arguments) {
            Fed::Relay(arguments) => {
                let name = if opened { String::new() } else { tool.name.clone() };
                new.tools.push((ToolDelta { arguments, name, ..tool.clone() }, opened));
            }
            Fed::Hold | Fed::Stop(_) => {}
            Fed::Mismatch => return Err(Mismatch),
        }
    }
    Ok(new)
}

/// The delta with only what is new in it.
pub(super) fn new_delta(given: Value, new: &New, (role, transparent): (bool, bool)) -> Value {
    let Value::Object(mut delta) = given else { return json!({ "content": new.content }) };
    if !transparent {
        REASONING.iter().for_each(|name| drop(delta.shift_remove(*name)));
    }
    delta.shift_remove("role");
    if !new.content.is_empty() || delta.contains_key("content") {
        delta.insert("content".into(), new.content.clone().into());
    }
    let given = match delta.shift_remove("tool_calls") {
        Some(Value::Array(given)) => given,
        Some(_) | None => Vec::new(),
    };
    let mut calls = Vec::new();
    for (tool, opened) in &new.tools {
        let same = |call: &&Value| call["index"].as_u64() == Some(u64::from(tool.index));
        let mut call = given.iter().find(same).cloned().unwrap_or_else(|| json!({}));
        call["index"] = tool.index.into();
        call["function"]["arguments"] = tool.arguments.clone().into();
        if *opened {
            let fields = call.as_object_mut();
            fields.map(|f| (f.shift_remove("id"), f.shift_remove("type")));
            call["function"].as_object_mut().map(|f| f.shift_remove("name"));
        }
        calls.push(call);
    }
    if !calls.is_empty() {
        delta.insert("tool_calls".into(), calls.into());
    }
    if role {
        let mut first = Map::new();
        first.insert("role".into(), "assistant".into());
        first.extend(delta);
        return Value::Object(first);
    }
    Value::Object(delta)
}
