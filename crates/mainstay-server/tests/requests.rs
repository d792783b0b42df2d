//! What a client's request is read as, and what each upstream is sent for it.

use bytes::Bytes;
use mainstay_core::names::{ClientFault, ErrorClass};
use mainstay_server::dialect::Dialect;
use mainstay_server::dialect::event::Endpoint;
use mainstay_server::dialect::request::{
    Call, Edit, Format, Invalid, Outgoing, Relayed, url, write,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const UNSUPPORTED: ErrorClass = ErrorClass::ClientFault(ClientFault::Unsupported);

fn parse(body: &str) -> Result<Call, Invalid> {
    Call::parse(Endpoint::Chat, Bytes::copy_from_slice(body.as_bytes()))
}

fn call(body: Value) -> Call {
    parse(&body.to_string()).unwrap()
}

fn plain(base: &str) -> Edit<'_> {
    Edit { model: "there", stream: true, only_choice: false, relayed: None, base }
}

fn dialect(name: &str) -> Arc<Dialect> {
    Dialect::builtin(name).unwrap()
}

fn responses() -> Dialect {
    let text = "auth = \"bearer\"\nwire = \"responses\"\nlimits = { scope = \"account\" }\n";
    Dialect::parse("responses", text).unwrap()
}

fn body(outgoing: &Outgoing) -> Value {
    serde_json::from_slice(&outgoing.body).unwrap()
}

fn hello() -> Value {
    json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] })
}

fn with(extra: Value) -> Call {
    let mut body = hello();
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    call(body)
}

#[test]
fn the_keys_that_decide_are_read() {
    let read = with(json!({
        "stream": true, "stream_options": { "include_usage": true }, "n": 2, "max_tokens": 9,
        "max_completion_tokens": 7, "temperature": 0, "seed": -1, "stop": ["a", "b"],
        "tools": [{}], "tool_choice": "auto", "response_format": { "type": "json_object" },
        "logprobs": true, "top_p": null,
    }));
    assert!(read.stream && read.include_usage && read.tools && read.tool_choice && read.logprobs);
    assert_eq!((read.n, read.max_tokens, read.temperature), (2, Some(7), Some(0.0)));
    assert_eq!((read.seed, read.format), (Some(-1), Format::JsonObject));
    assert_eq!((read.stop, read.model.as_str()), (vec!["a".into(), "b".into()], "m"));
    let least = call(hello());
    assert!(!least.stream && !least.tools && least.stop.is_empty());
    assert_eq!((least.choices(), least.max_tokens, least.format), (1, None, Format::Text));
    assert_eq!(with(json!({ "stop": "x" })).stop, ["x"]);
}

#[test]
fn what_cannot_be_served_is_refused_in_openai_words() {
    for (extra, param) in [
        ("\"messages\":[]", Some("messages")),
        ("\"messages\":\"x\"", Some("messages")),
        ("\"messages\":null", Some("messages")),
        ("\"messages\":[{}],\"model\":7", Some("model")),
        ("\"messages\":[{}],\"stream\":\"yes\",\"model\":\"m\"", Some("stream")),
        ("\"messages\":[{}],\"temperature\":\"hot\",\"model\":\"m\"", Some("temperature")),
        ("\"messages\":[{}],\"n\":0,\"model\":\"m\"", Some("n")),
        ("\"messages\":[{}],\"n\":1000,\"model\":\"m\"", Some("n")),
        ("\"messages\":[{}],\"max_tokens\":-1,\"model\":\"m\"", Some("max_tokens")),
        ("\"messages\":[{}],\"stop\":7,\"model\":\"m\"", Some("stop")),
        ("\"messages\":[{}],\"messages\":[{}],\"model\":\"m\"", None),
        ("\"messages\":[{}", None),
    ] {
        let refused = parse(&format!("{{{extra}}}")).unwrap_err();
        assert_eq!(refused.param, param, "{extra}: {refused:?}");
        assert!(!refused.message.contains("hot") && !refused.message.contains("yes"));
    }
    let empty = parse("{\"messages\":[]}").unwrap_err();
    assert_eq!(empty.message, "messages must be a non-empty array");
    let deep = format!("{{\"messages\":[{}{}]}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message.contains("too deep"));
    let deep =
        format!("{{\"x\":{}{}}}", "{\"a\":".repeat(100_000), "1".to_owned() + &"}".repeat(100_000));
    assert!(parse(&deep).unwrap_err().message.contains("too deep"));
    assert!(Call::parse(Endpoint::Chat, Bytes::from_static(b"{\"\xff\":1}")).is_err());
}

#[test]
fn text_completions_count_their_prompts() {
    let prompts = |prompt: &str| {
        let body = format!("{{\"model\":\"m\",\"n\":2,\"prompt\":{prompt}}}");
        Call::parse(Endpoint::Completions, Bytes::from(body)).map(|call| call.choices())
    };
    assert_eq!(prompts("\"a\""), Ok(2));
    assert_eq!(prompts("[\"a\",\"b\",\"c\"]"), Ok(6));
    assert_eq!(prompts("[1,2,3]"), Ok(2));
    assert_eq!(prompts("[[1,2],[3]]"), Ok(4));
    assert!(prompts("7").is_err() && prompts("[]").is_err());
}

#[test]
fn a_request_keeps_every_byte_but_those_that_must_change() {
    let text = "{ \"messages\" : [ {\"role\":\"user\",  \"content\":\"\\u6d77 海\"} ],\n \
                \"model\":\"m\", \"zzz\": {\"a\": 1.50}, \"stream_options\":{ \"x\": 1 } }";
    let sent = write(&parse(text).unwrap(), &dialect("openai"), &plain("https://a/v1")).unwrap();
    let sent_text = std::str::from_utf8(&sent.body).unwrap();
    assert_eq!(
        sent_text,
        "{\"messages\" : [ {\"role\":\"user\",  \"content\":\"\\u6d77 海\"} ],\"model\":\"there\",\
         \"zzz\": {\"a\": 1.50},\"stream_options\":{\"x\": 1,\"include_usage\":true},\
         \"stream\":true}"
    );
    assert_eq!(url("https://a/v1/", &sent.path), "https://a/v1/chat/completions");
}

#[test]
fn a_plain_request_has_no_stream_options() {
    let read = with(json!({ "stream": true, "stream_options": { "include_usage": true } }));
    let edit = Edit { stream: false, ..plain("") };
    let sent = body(&write(&read, &dialect("openai"), &edit).unwrap());
    assert_eq!((sent.get("stream_options"), &sent["stream"]), (None, &json!(false)));
}

#[test]
fn one_choice_can_be_asked_for_alone() {
    let read = with(json!({ "n": 3, "best_of": 5 }));
    let edit = Edit { only_choice: true, ..plain("") };
    let sent = body(&write(&read, &dialect("openai"), &edit).unwrap());
    assert_eq!((&sent["n"], sent.get("best_of")), (&json!(1), None));
}

fn continued<'a>(text: &'a str, base: &'a str, model: &'a str) -> Edit<'a> {
    let relayed = Some(Relayed { text, tokens: 4 });
    Edit { model, relayed, ..plain(base) }
}

#[test]
fn an_answer_is_continued_in_the_way_of_the_dialect() {
    let read = with(json!({ "max_tokens": 10 }));
    let edit = continued("a\n \"海", "https://api.deepseek.com", "deepseek-flash");
    let sent = write(&read, &dialect("deepseek"), &edit).unwrap();
    assert_eq!(sent.path, "/beta/chat/completions");
    let sent = body(&sent);
    assert_eq!(
        sent["messages"],
        json!([{ "role": "user", "content": "hi" },
               { "role": "assistant", "content": "a\n \"海", "prefix": true }])
    );
    assert_eq!(sent["max_tokens"], 6);
    let edit = continued("a", "https://api.deepseek.com/beta/", "deepseek-flash");
    assert_eq!(write(&read, &dialect("deepseek"), &edit).unwrap().path, "/chat/completions");
    let sent = body(&write(&read, &dialect("vllm"), &continued("a", "", "m")).unwrap());
    assert_eq!(sent["continue_final_message"], true);
    assert_eq!(sent["add_generation_prompt"], false);
    let least = with(json!({ "max_completion_tokens": 2 }));
    let sent = body(&write(&least, &dialect("vllm"), &continued("a", "", "m")).unwrap());
    assert_eq!(sent["max_completion_tokens"], 1);
    // Core asks only who can; where the dialect names no form but the operator says so, the plain
    // form is sent: the text as the last message, and nothing else.
    let sent = body(&write(&read, &dialect("openai"), &continued("a", "", "gpt")).unwrap());
    assert_eq!(sent["messages"][1], json!({ "role": "assistant", "content": "a" }));
}

#[test]
fn the_clients_messages_stay_byte_for_byte_when_continued() {
    let messages = "[ {\"role\": \"user\",\"content\":\"\\u6d77]\"} , {\"role\":\"user\"}\n]";
    let read = parse(&format!("{{\"model\":\"m\",\"messages\":{messages}}}")).unwrap();
    let sent = write(&read, &dialect("vllm"), &continued("x", "", "m")).unwrap();
    let kept = messages.trim_end_matches("\n]");
    assert!(std::str::from_utf8(&sent.body).unwrap().contains(kept));
}

#[test]
fn a_beginning_that_the_client_gave_grows() {
    let read = call(json!({ "model": "m", "messages": [
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "One ", "x": 1 }] }));
    let sent = body(&write(&read, &dialect("moonshot"), &continued("two", "", "kimi-k3")).unwrap());
    assert_eq!(
        sent["messages"][1],
        json!({ "role": "assistant", "content": "One two", "x": 1, "partial": true })
    );
}

#[test]
fn a_text_completion_continues_from_a_longer_prompt() {
    let text = |body: &str| {
        let body = Bytes::copy_from_slice(body.as_bytes());
        Call::parse(Endpoint::Completions, body).unwrap()
    };
    let read = text("{\"model\":\"m\",\"prompt\":\"a\\\"\",\"max_tokens\":9}");
    let sent = write(&read, &dialect("openai"), &continued("\"b", "", "m")).unwrap();
    assert_eq!((sent.path.as_str(), &body(&sent)["prompt"]), ("/completions", &json!("a\"\"b")));
    assert_eq!(body(&sent)["max_tokens"], 5);
    let list = text("{\"model\":\"m\",\"prompt\":[\"a\"]}");
    assert!(write(&list, &dialect("openai"), &continued("b", "", "m")).is_err());
}

#[test]
fn anthropic_gets_a_translation() {
    let read = call(json!({
        "model": "m", "max_completion_tokens": 50, "temperature": 0.5, "stop": "END",
        "logit_bias": {}, "tool_choice": "required", "parallel_tool_calls": false,
        "tools": [{ "type": "function", "function": {
            "name": "f", "description": "d", "parameters": { "type": "object" } } }],
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [
                { "type": "text", "text": "see" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,QUJD" } },
                { "type": "image_url", "image_url": { "url": "https://x/y.png" } }] },
            { "role": "assistant", "content": null, "tool_calls": [
                { "id": "t1", "type": "function",
                  "function": { "name": "f", "arguments": "{\"a\":1}" } }] },
            { "role": "tool", "tool_call_id": "t1", "content": "ok" },
            { "role": "user", "content": "go on" }],
    }));
    let sent = write(&read, &dialect("anthropic"), &plain("https://api.anthropic.com")).unwrap();
    assert_eq!(
        (sent.path.as_str(), sent.dropped.as_slice()),
        ("/v1/messages", &["logit_bias".to_owned()][..])
    );
    assert!(sent.headers.iter().any(|(name, _)| name == "anthropic-version"));
    let text = |text: &str| json!({ "type": "text", "text": text });
    assert_eq!(
        body(&sent),
        json!({
            "model": "there", "max_tokens": 50, "system": [text("be brief")],
            "messages": [
                { "role": "user", "content": [
                    text("see"),
                    { "type": "image", "source": { "type": "base64", "media_type": "image/png",
                                                   "data": "QUJD" } },
                    { "type": "image", "source": { "type": "url", "url": "https://x/y.png" } }] },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": "t1", "name": "f", "input": { "a": 1 } }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "t1", "content": [text("ok")] },
                    text("go on")] }],
            "stream": true, "stop_sequences": ["END"], "temperature": 0.5,
            "tools": [{ "name": "f", "description": "d", "input_schema": { "type": "object" } }],
            "tool_choice": { "type": "any", "disable_parallel_tool_use": true },
        })
    );
}

#[test]
fn anthropic_is_not_asked_what_it_cannot_do() {
    let ask = |extra: Value| write(&with(extra), &dialect("anthropic"), &plain(""));
    for extra in [
        json!({ "n": 2 }),
        json!({ "logprobs": true }),
        json!({ "response_format": { "type": "json_object" } }),
        json!({ "messages": [{ "role": "user", "content": [{ "type": "input_audio" }] }] }),
        json!({ "messages": [{ "role": "bard", "content": "x" }] }),
    ] {
        assert_eq!(ask(extra.clone()).unwrap_err().class, UNSUPPORTED, "{extra}");
    }
    assert_eq!(body(&ask(json!({})).unwrap())["max_tokens"], 4096);
    let edit = |text| continued(text, "", "claude-3-opus");
    let sent = write(&call(hello()), &dialect("anthropic"), &edit("so far")).unwrap();
    assert_eq!(body(&sent)["messages"][1]["content"][0]["text"], "so far");
    assert!(write(&call(hello()), &dialect("anthropic"), &edit("so far ")).is_err());
}

#[test]
fn the_responses_api_gets_a_translation() {
    let read = call(json!({
        "model": "m", "max_tokens": 50, "top_p": 0.5, "reasoning_effort": "low", "seed": 1,
        "tools": [{ "type": "function", "function": { "name": "f", "parameters": {} } }],
        "tool_choice": { "type": "function", "function": { "name": "f" } },
        "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": {} } },
        "messages": [
            { "role": "system", "content": "be brief" },
            { "role": "user", "content": [
                { "type": "image_url", "image_url": { "url": "https://x/y.png" } }] },
            { "role": "assistant", "content": "a", "tool_calls": [
                { "id": "t1", "type": "function",
                  "function": { "name": "f", "arguments": "{" } }] },
            { "role": "tool", "tool_call_id": "t1", "content": "ok" }],
    }));
    let sent = write(&read, &responses(), &plain("https://api.openai.com/v1")).unwrap();
    assert_eq!(
        (sent.path.as_str(), sent.dropped.as_slice()),
        ("/responses", &["seed".to_owned()][..])
    );
    assert_eq!(
        body(&sent),
        json!({
            "model": "there",
            "input": [
                { "role": "system", "content": [{ "type": "input_text", "text": "be brief" }] },
                { "role": "user", "content": [{ "type": "input_image",
                    "image_url": "https://x/y.png", "detail": "auto" }] },
                { "role": "assistant", "content": [{ "type": "output_text", "text": "a" }] },
                { "type": "function_call", "call_id": "t1", "name": "f", "arguments": "{" },
                { "type": "function_call_output", "call_id": "t1", "output": "ok" }],
            "store": false, "stream": true, "max_output_tokens": 50, "top_p": 0.5,
            "reasoning": { "effort": "low" },
            "text": { "format": { "type": "json_schema", "name": "s", "schema": {} } },
            "tools": [{ "type": "function", "name": "f", "parameters": {}, "strict": false }],
            "tool_choice": { "type": "function", "name": "f" },
        })
    );
    let stop = with(json!({ "stop": "x" }));
    assert_eq!(write(&stop, &responses(), &plain("")).unwrap_err().class, UNSUPPORTED);
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_of_requests_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        prefix in prop_oneof![Just("{\"model\":\"m\",\"messages\":["), Just("{"), Just("")],
    ) {
        let body = Bytes::from([prefix.as_bytes(), &bytes].concat());
        for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings] {
            let _ = Call::parse(endpoint, body.clone());
        }
    }

    #[test]
    fn any_lawful_request_is_written_as_lawful_json(
        texts in prop::collection::vec(".{0,30}", 1..4),
        relayed in ".{1,20}",
        extra in "[a-z]{1,5}",
    ) {
        let messages: Vec<Value> =
            texts.iter().map(|text| json!({ "role": "user", "content": text })).collect();
        let mut whole = json!({ "model": "m", "max_tokens": 9, "messages": messages });
        whole[format!("x_{extra}")] = json!({ "kept": [1.5, null] });
        let read = call(whole.clone());
        for name in ["deepseek", "vllm", "generic", "openai"] {
            let dialect = dialect(name);
            let model = "deepseek-flash";
            let base = dialect.base_url.as_deref().unwrap_or("http://h/v1");
            let sent = body(&write(&read, &dialect, &Edit { model, ..plain(base) }).unwrap());
            prop_assert_eq!(&sent["messages"], &whole["messages"]);
            prop_assert_eq!(&sent[format!("x_{extra}")], &whole[format!("x_{extra}")]);
            if dialect.can_continue(model) {
                let edit = continued(&relayed, base, model);
                let sent = body(&write(&read, &dialect, &edit).unwrap());
                let last = sent["messages"].as_array().unwrap().last().unwrap();
                prop_assert_eq!(&last["content"], &Value::from(relayed.as_str()));
            }
        }
    }
}
