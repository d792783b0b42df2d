//! What streams and replies on Anthropic's Messages wire and OpenAI's Responses wire say.

use bytes::Bytes;
use mainstay_core::names::ErrorClass;
use mainstay_server::dialect::event::{Chunk, Delta, Endpoint, Event, Finish, Usage};
use mainstay_server::dialect::reader::Reader;
use mainstay_server::dialect::{Dialect, plain};
use serde_json::{Value, json};
use std::sync::Arc;

fn responses() -> Arc<Dialect> {
    let text = "auth = \"bearer\"\nwire = \"responses\"\nlimits = { scope = \"account\" }\n";
    Arc::new(Dialect::parse("responses", text).unwrap())
}

fn read(dialect: Arc<Dialect>, events: &[Value]) -> Vec<Event> {
    let mut reader = Reader::new(dialect, Endpoint::Chat, 1);
    for event in events {
        let name = event["type"].as_str().unwrap_or_default();
        reader.push(&Bytes::from(format!("event: {name}\ndata: {event}\n\n")));
    }
    reader.collect()
}

fn chunks(events: &[Event]) -> Vec<&Chunk> {
    let mut chunks = Vec::new();
    for event in events {
        if let Event::Chunk(chunk) = event {
            chunks.push(chunk);
        }
    }
    chunks
}

fn deltas(events: &[Event]) -> Vec<&Delta> {
    chunks(events).into_iter().flat_map(|chunk| &chunk.deltas).collect()
}

fn class(events: &[Event]) -> ErrorClass {
    match events.last() {
        Some(Event::Failed(failure)) => failure.class,
        other => panic!("no failure at the end: {other:?}"),
    }
}

fn anthropic() -> Arc<Dialect> {
    Dialect::builtin("anthropic").unwrap()
}

fn message_start() -> Value {
    json!({ "type": "message_start", "message": {
        "id": "msg_1", "model": "claude", "content": [], "stop_reason": null,
        "usage": { "input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1 } } })
}

fn block(index: u32, block: Value) -> Value {
    json!({ "type": "content_block_start", "index": index, "content_block": block })
}

fn delta(index: u32, delta: Value) -> Value {
    json!({ "type": "content_block_delta", "index": index, "delta": delta })
}

fn message_delta(reason: &str) -> Value {
    json!({ "type": "message_delta", "delta": { "stop_reason": reason },
            "usage": { "output_tokens": 9 } })
}

#[test]
fn anthropic_text_thinking_tools_and_usage_become_openai_chunks() {
    let events = read(
        anthropic(),
        &[
            message_start(),
            block(0, json!({ "type": "thinking", "thinking": "" })),
            json!({ "type": "ping" }),
            delta(0, json!({ "type": "thinking_delta", "thinking": "hm" })),
            delta(0, json!({ "type": "signature_delta", "signature": "c2ln" })),
            json!({ "type": "content_block_stop", "index": 0 }),
            block(1, json!({ "type": "text", "text": "" })),
            delta(1, json!({ "type": "text_delta", "text": "海" })),
            block(2, json!({ "type": "tool_use", "id": "t1", "name": "f", "input": {} })),
            delta(2, json!({ "type": "input_json_delta", "partial_json": "" })),
            delta(2, json!({ "type": "input_json_delta", "partial_json": "{\"a\":1}" })),
            message_delta("tool_use"),
            json!({ "type": "message_stop" }),
        ],
    );
    let said = deltas(&events);
    assert_eq!(said[0].reasoning, "hm");
    assert_eq!(said[1].content, "海");
    assert_eq!((said[2].tools[0].index, said[2].tools[0].name.as_str()), (0, "f"));
    assert_eq!(said[3].tools[0].arguments, "{\"a\":1}");
    assert_eq!(said[4].finish, Some(Finish::ToolCalls));
    let all = chunks(&events);
    let counted = Usage { prompt: 12, cached: Some(7), completion: 9, reasoning: 0 };
    assert_eq!(all[5].usage, Some(counted));
    assert_eq!(events.last(), Some(&Event::Done));
    let first: Value = serde_json::from_slice(&all[1].json).unwrap();
    assert_eq!((&first["id"], &first["model"]), (&json!("msg_1"), &json!("claude")));
    assert_eq!(
        first["choices"],
        json!([{ "index": 0, "delta": { "content": "海" }, "finish_reason": null }])
    );
}

#[test]
fn anthropic_stop_reasons_are_told_truly() {
    for (reason, finish) in [
        ("end_turn", Finish::Stop),
        ("stop_sequence", Finish::Stop),
        ("max_tokens", Finish::Length),
        ("refusal", Finish::ContentFilter),
    ] {
        let events = read(anthropic(), &[message_start(), message_delta(reason)]);
        assert_eq!(deltas(&events)[0].finish, Some(finish));
    }
    let events = read(anthropic(), &[message_start(), message_delta("pause_turn")]);
    assert!(deltas(&events).is_empty());
    assert_eq!(class(&events), ErrorClass::Transient);
}

#[test]
fn anthropic_errors_in_a_stream_have_their_class() {
    let error = json!({ "type": "error",
        "error": { "type": "overloaded_error", "message": "Overloaded" } });
    assert_eq!(class(&read(anthropic(), &[message_start(), error])), ErrorClass::Overload);
}

#[test]
fn anthropic_blocks_that_jump_or_do_not_exist_poison_the_stream() {
    let text = json!({ "type": "text", "text": "" });
    let said = json!({ "type": "text_delta", "text": "x" });
    for events in [
        vec![block(1, text.clone())],
        vec![block(0, text.clone()), delta(1, said)],
        vec![block(0, text), delta(0, json!({ "type": "input_json_delta", "partial_json": "{" }))],
    ] {
        assert_eq!(class(&read(anthropic(), &events)), ErrorClass::PoisonedStream);
    }
}

#[test]
fn an_anthropic_reply_becomes_a_chat_completion() {
    let reply = json!({ "id": "msg_1", "type": "message", "model": "claude",
        "content": [{ "type": "text", "text": "a" },
                    { "type": "tool_use", "id": "t", "name": "f", "input": { "x": 1 } }],
        "stop_reason": "tool_use", "usage": { "input_tokens": 3, "output_tokens": 4 } });
    let answer = plain::answer(&anthropic(), Endpoint::Chat, reply.to_string().as_bytes()).unwrap();
    let value: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], "a");
    assert_eq!(
        value["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"],
        "{\"x\":1}"
    );
    assert_eq!(value["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(value["usage"]["total_tokens"], 7);
}

#[test]
fn responses_text_reasoning_tools_and_usage_become_openai_chunks() {
    let response = json!({ "id": "resp_1", "model": "gpt", "created_at": 7,
                           "status": "in_progress", "error": null, "output": [] });
    let mut whole = response.clone();
    whole["status"] = "completed".into();
    whole["usage"] = json!({ "input_tokens": 3, "output_tokens": 4,
        "input_tokens_details": { "cached_tokens": 1 },
        "output_tokens_details": { "reasoning_tokens": 2 } });
    let events = read(
        responses(),
        &[
            json!({ "type": "response.created", "sequence_number": 0, "response": response }),
            json!({ "type": "response.reasoning_summary_text.delta", "sequence_number": 1,
                    "delta": "hm" }),
            json!({ "type": "response.output_text.delta", "sequence_number": 2, "delta": "a" }),
            json!({ "type": "response.output_text.done", "sequence_number": 3, "text": "a" }),
            json!({ "type": "response.output_item.added", "sequence_number": 4,
                    "output_index": 2, "item": { "type": "function_call", "id": "fc",
                    "call_id": "call", "name": "f", "arguments": "" } }),
            json!({ "type": "response.function_call_arguments.delta", "sequence_number": 5,
                    "output_index": 2, "delta": "{}" }),
            json!({ "type": "response.completed", "sequence_number": 6, "response": whole }),
        ],
    );
    let said = deltas(&events);
    assert_eq!((said[0].reasoning.as_str(), said[1].content.as_str()), ("hm", "a"));
    assert_eq!((said[2].tools[0].id.as_str(), said[3].tools[0].arguments.as_str()), ("call", "{}"));
    assert_eq!(said[4].finish, Some(Finish::ToolCalls));
    let counted = Usage { prompt: 3, cached: Some(1), completion: 4, reasoning: 2 };
    assert_eq!(chunks(&events)[5].usage, Some(counted));
    assert_eq!(events.last(), Some(&Event::Done));
}

fn ended(kind: &str, response: Value) -> Vec<Event> {
    let created = json!({ "type": "response.created", "response": { "id": "r" } });
    read(responses(), &[created, json!({ "type": kind, "response": response })])
}

#[test]
fn a_failed_response_has_the_class_of_its_inner_code() {
    for (code, class_of) in [
        ("server_error", ErrorClass::Transient),
        ("rate_limit_exceeded", ErrorClass::ThrottleAccount),
    ] {
        let error = json!({ "code": code, "message": "m" });
        let events = ended("response.failed", json!({ "status": "failed", "error": error }));
        assert_eq!((class(&events), deltas(&events).len()), (class_of, 0), "{code}");
    }
}

#[test]
fn an_incomplete_response_is_told_truly() {
    for (reason, finish) in
        [("max_output_tokens", Finish::Length), ("content_filter", Finish::ContentFilter)]
    {
        let details = json!({ "status": "incomplete", "incomplete_details": { "reason": reason } });
        assert_eq!(deltas(&ended("response.incomplete", details))[0].finish, Some(finish));
    }
}

#[test]
fn a_responses_reply_becomes_a_chat_completion() {
    let reply = json!({ "id": "r", "object": "response", "model": "gpt", "status": "completed",
        "error": null, "output": [{ "type": "message", "content":
            [{ "type": "output_text", "text": "a", "annotations": [] }] }],
        "usage": { "input_tokens": 3, "output_tokens": 4 } });
    let answer = plain::answer(&responses(), Endpoint::Chat, reply.to_string().as_bytes()).unwrap();
    let value: Value = serde_json::from_slice(&answer.json).unwrap();
    assert_eq!(value["choices"][0]["message"]["content"], "a");
    assert_eq!(answer.finishes().collect::<Vec<_>>(), [Finish::Stop]);
}
