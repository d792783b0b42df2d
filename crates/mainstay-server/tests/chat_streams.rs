//! What streams on OpenAI's own wire say, fault by fault.

use bytes::Bytes;
use mainstay_core::names::{ErrorClass, Failure};
use mainstay_server::dialect::Dialect;
use mainstay_server::dialect::event::{Chunk, Endpoint, Event, Finish, Usage};
use mainstay_server::dialect::reader::Reader;

fn read_as(dialect: &str, choices: u32, stream: &str) -> Vec<Event> {
    let dialect = Dialect::builtin(dialect).unwrap();
    let mut reader = Reader::new(dialect, Endpoint::Chat, choices);
    reader.push(&Bytes::copy_from_slice(stream.as_bytes()));
    let mut events: Vec<Event> = reader.by_ref().collect();
    events.extend(std::iter::from_fn(|| reader.finish()));
    events
}

fn read(stream: &str) -> Vec<Event> {
    read_as("generic", 1, stream)
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

fn text(events: &[Event]) -> String {
    chunks(events).iter().flat_map(|c| &c.deltas).map(|d| d.content.as_str()).collect()
}

fn failure(events: &[Event]) -> &Failure {
    match events.last() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("no failure at the end: {other:?}"),
    }
}

fn class(events: &[Event]) -> ErrorClass {
    failure(events).class
}

fn token(text: &str) -> String {
    format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\
         \"finish_reason\":null}}]}}\n\n"
    )
}

const STOP: &str =
    "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const DONE: &str = "data: [DONE]\n\n";

#[test]
fn an_answer_is_its_chunks_as_received_and_the_sentinel() {
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\
                \"content\":\"\"},\"finish_reason\":null}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\
                 \"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n";
    let events = read(&[role, &token("海"), &token("\\n"), STOP, usage, DONE].concat());
    assert_eq!(events[0], Event::Life);
    assert_eq!(text(&events), "海\n");
    let chunks = chunks(&events);
    assert_eq!(chunks[0].json, token("海").trim().strip_prefix("data: ").unwrap());
    assert_eq!(chunks[2].deltas[0].finish, Some(Finish::Stop));
    let counted = Usage { prompt: 9, cached: Some(4), completion: 2, reasoning: 0 };
    assert_eq!((chunks[3].usage, chunks[3].deltas.len()), (Some(counted), 0));
    assert_eq!(events.last(), Some(&Event::Done));
}

#[test]
fn what_adds_nothing_is_life() {
    let stream = ": keep-alive\n\nevent: ping\ndata: {\"choices\":7}\n\ndata:\n\ndata: {}\n\n\
                  data: {\"choices\":[]}\n\ndata: {\"type\":\"ping\"}\n\n\
                  data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":null}}]}\n\n";
    let events = read(stream);
    assert!(events.iter().all(|event| *event == Event::Life), "{events:?}");
    assert!(events.len() >= 7);
}

#[test]
fn broken_json_and_wrong_types_poison_the_stream() {
    for bad in [
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x",
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":7}}]}",
        "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\\ud83d\"}}]}",
        "{\"choices\":{}}",
        "{\"choices\":[{\"index\":-1,\"delta\":{\"content\":\"x\"}}]}",
        "[]",
        "7",
        "<html>",
    ] {
        let events = read(&format!("{}data: {bad}\n\n{}", token("a"), token("b")));
        assert_eq!(class(&events), ErrorClass::PoisonedStream, "{bad}");
        assert_eq!(text(&events), "a", "{bad}");
    }
    let dialect = Dialect::builtin("generic").unwrap();
    let mut reader = Reader::new(dialect, Endpoint::Chat, 1);
    reader.push(&Bytes::from_static(
        b"data: {\"x\":\"\xff\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n",
    ));
    assert!(matches!(reader.next(), Some(Event::Failed(_))));
}

#[test]
fn an_index_that_was_not_asked_for_or_jumps_poisons_the_stream() {
    let other = "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"x\"}}]}\n\n";
    assert_eq!(class(&read(other)), ErrorClass::PoisonedStream);
    assert_eq!(text(&read_as("generic", 2, other)), "x");
    let tool = |index: u32| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{index},\
             \"id\":\"i\",\"function\":{{\"name\":\"f\",\"arguments\":\"\"}}}}]}}}}]}}\n\n"
        )
    };
    assert_eq!(class(&read(&[tool(0), tool(2)].concat())), ErrorClass::PoisonedStream);
    assert_eq!(chunks(&read(&[tool(0), tool(1), tool(0)].concat())).len(), 3);
}

fn numbered(key: &str, number: u64) -> String {
    format!(
        "data: {{\"{key}\":{number},\"choices\":[{{\"index\":0,\"delta\":{{\
         \"content\":\"{number} \"}}}}]}}\n\n"
    )
}

#[test]
fn sequence_numbers_show_a_loss_and_a_repeat() {
    for key in ["sequence", "seq", "sequence_number"] {
        let stream = |numbers: &[u64]| -> String {
            numbers.iter().map(|number| numbered(key, *number)).collect()
        };
        let events = read(&stream(&[40, 41, 43, 42]));
        assert_eq!((class(&events), text(&events)), (ErrorClass::PoisonedStream, "40 41 ".into()));
        let events = read(&stream(&[40, 41, 41, 42]));
        assert_eq!(text(&events), "40 41 42 ");
        assert_eq!(events[2], Event::Life);
    }
    assert_eq!(text(&read(&token("so ").repeat(2))), "so so ");
}

#[test]
fn an_error_in_an_event_is_a_failure_and_nothing_follows() {
    let flat = "data: {\"error\":{\"message\":\"m\",\"type\":\"server_error\",\"code\":500}}\n\n";
    let beside = "data: {\"error\":{\"code\":502,\"message\":\"m\"},\"choices\":[{\"index\":0,\
                  \"delta\":{\"content\":\"\"},\"finish_reason\":\"error\"}]}\n\n";
    let named = "event: error\ndata: {\"message\":\"m\",\"code\":\"internal\"}\n\n";
    let words = "event: error\ndata: upstream gone\n\n";
    for error in [flat, beside, named, words] {
        let events = read(&[&token("a"), error, DONE].concat());
        assert_eq!(text(&events), "a");
        assert_eq!(class(&events), ErrorClass::Transient, "{error}");
    }
}

#[test]
fn a_full_queue_told_in_the_first_event_is_overload() {
    let stream = "data: {\"error\":{\"message\":\"queue full\"},\"code\":503}\n\n";
    assert_eq!(class(&read_as("sglang", 1, stream)), ErrorClass::Overload);
}

#[test]
fn a_failed_finish_gives_its_text_without_the_finish() {
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\
                  \"finish_reason\":\"insufficient_system_resource\"}]}\n\n";
    let events = read_as("deepseek", 1, &[&token("a"), stream, DONE].concat());
    assert_eq!(text(&events), "ab");
    assert_eq!(class(&events), ErrorClass::Overload);
    let chunks = chunks(&events);
    assert_eq!(chunks[1].deltas[0].finish, None);
    assert!(std::str::from_utf8(&chunks[1].json).unwrap().contains("\"finish_reason\":null"));
}

#[test]
fn a_missing_finish_reason_becomes_null() {
    let stream = "data: {\"x\":1,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let events = read(stream);
    let value: serde_json::Value = serde_json::from_slice(&chunks(&events)[0].json).unwrap();
    assert_eq!(value.pointer("/choices/0/finish_reason"), Some(&serde_json::Value::Null));
    assert_eq!(value["x"], 1);
}

#[test]
fn text_after_the_end_is_not_believed() {
    let events = read(&[&token("a"), STOP, &token("b")].concat());
    assert_eq!((class(&events), text(&events)), (ErrorClass::PoisonedStream, "a".into()));
}

#[test]
fn usage_is_found_where_it_hides() {
    for place in [
        "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"usage\":U}]",
        "\"choices\":[],\"x_groq\":{\"usage\":U}",
        "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":U",
        "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":null}],\"usage\":U",
        "\"usage\":U",
    ] {
        let place = place.replace('U', "{\"prompt_tokens\":3,\"total_tokens\":5}");
        let events = read(&format!("data: {{{place}}}\n\n"));
        let usage = chunks(&events)[0].usage;
        assert_eq!(usage.map(|u| (u.prompt, u.completion)), Some((3, 2)), "{place}");
    }
}

#[test]
fn reasoning_comes_under_any_of_its_names_once() {
    for (delta, reasoning) in [
        ("\"reasoning_content\":\"r\",\"content\":null", "r"),
        ("\"reasoning\":\"r\",\"reasoning_details\":[{\"type\":\"t\",\"text\":\"r\"}]", "r"),
        ("\"reasoning_details\":[{\"summary\":\"s\"},{\"text\":\"t\"}]", "st"),
        ("\"reasoning\":\"r\",\"reasoning_content\":\"r\"", "r"),
    ] {
        let events =
            read(&format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{{delta}}}}}]}}\n\n"));
        assert_eq!(chunks(&events)[0].deltas[0].reasoning, reasoning);
    }
}

#[test]
fn log_probabilities_and_unknown_parts_are_passed_on() {
    for choice in [
        "\"delta\":{\"content\":\"\"},\"logprobs\":{\"content\":[]}",
        "\"delta\":{\"audio\":{\"data\":\"x\"}}",
    ] {
        let stream = format!("data: {{\"choices\":[{{\"index\":0,{choice}}}]}}\n\n");
        assert_eq!(chunks(&read(&stream)).len(), 1);
    }
}

#[test]
fn text_completions_and_old_function_calls_are_read() {
    let events =
        read("data: {\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":null}]}\n\n");
    assert_eq!(text(&events), "a");
    let stream = "data: {\"choices\":[{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\",\
                  \"arguments\":\"{\"}},\"finish_reason\":\"function_call\"}]}\n\n";
    let events = read(stream);
    let delta = &chunks(&events)[0].deltas[0];
    assert_eq!((delta.tools[0].name.as_str(), delta.tools[0].arguments.as_str()), ("f", "{"));
    assert_eq!(delta.finish, Some(Finish::ToolCalls));
}

#[test]
fn an_error_body_instead_of_a_stream_is_a_failure() {
    let body = "{\"error\":{\"message\":\"m\",\"type\":\"rate_limit_error\",\"code\":\
                \"rate_limit_exceeded\"}}";
    assert_eq!(class(&read_as("openai", 1, body)), ErrorClass::ThrottleAccount);
    let qianfan = "{\"error_code\":336501,\"error_msg\":\"m\"}";
    assert_eq!(class(&read_as("qianfan", 1, qianfan)), ErrorClass::ThrottleAccount);
    let event = format!("data: {qianfan}\n\n");
    assert_eq!(class(&read_as("qianfan", 1, &event)), ErrorClass::ThrottleAccount);
    assert_eq!(class(&read("<!doctype html><p>log in")), ErrorClass::PoisonedStream);
    assert_eq!(class(&read("\n\n{\"choices\":[{\"index\"")), ErrorClass::PoisonedStream);
}

#[test]
fn a_whole_answer_instead_of_a_stream_is_one_chunk() {
    let body = "\n\n{\"id\":\"c\",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\
                \"message\":{\"role\":\"assistant\",\"content\":\"ab\"},\
                \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\
                \"completion_tokens\":2}}";
    let events = read(body);
    assert_eq!(events[..2], [Event::Life, Event::Life]);
    assert_eq!(text(&events), "ab");
    let chunk = chunks(&events)[0];
    assert_eq!(chunk.deltas[0].finish, Some(Finish::Stop));
    let value: serde_json::Value = serde_json::from_slice(&chunk.json).unwrap();
    assert_eq!(value["object"], "chat.completion.chunk");
    assert_eq!(value["choices"][0]["delta"]["content"], "ab");
    assert_eq!(value["choices"][0]["finish_reason"], "stop");
}

#[test]
fn an_event_over_the_bound_poisons_the_stream() {
    let events = read(&token(&"x".repeat(2 << 20)));
    assert_eq!(class(&events), ErrorClass::PoisonedStream);
}
