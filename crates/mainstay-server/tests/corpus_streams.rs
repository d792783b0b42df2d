//! Every recorded stream says what stands beside it, however the network cuts it; and nothing
//! that a network can deliver makes the reader panic or invent a token.

use bytes::Bytes;
use mainstay_server::dialect::event::{Delta, Endpoint, Event};
use mainstay_server::dialect::reader::Reader;
use mainstay_server::dialect::{Dialect, Wire, plain};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Case {
    path: PathBuf,
    dialect: Arc<Dialect>,
    choices: u32,
    body: Vec<u8>,
    expected: Value,
}

fn cases() -> Vec<Case> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus");
    let mut cases = Vec::new();
    for folder in std::fs::read_dir(corpus).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "sse") {
                cases.push(case(path));
            }
        }
    }
    assert!(cases.len() > 50, "the corpus is gone");
    cases.sort_by(|a, b| a.path.cmp(&b.path));
    cases
}

fn case(path: PathBuf) -> Case {
    let expected = std::fs::read(path.with_extension("expect.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let mut dialect = Dialect::clone(&Dialect::builtin(text_of(&expected["dialect"])).unwrap());
    dialect.wire = match text_of(&expected["wire"]) {
        "messages" => Wire::Messages,
        "responses" => Wire::Responses,
        _ => Wire::Chat,
    };
    let choices = expected["n"].as_u64().unwrap_or(1) as u32;
    let body = std::fs::read(&path).unwrap();
    Case { dialect: Arc::new(dialect), choices, body, expected, path }
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

impl Case {
    fn reader(&self) -> Reader {
        Reader::new(self.dialect.clone(), Endpoint::Chat, self.choices)
    }

    /// What `pieces` say, without the end of the body.
    fn read<'a>(&self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
        let mut reader = self.reader();
        let mut events = Vec::new();
        for piece in pieces {
            reader.push(&Bytes::copy_from_slice(piece));
            events.extend(reader.by_ref());
        }
        if self.dialect.wire != Wire::Chat {
            events.iter_mut().for_each(forget_time);
        }
        events
    }
}

/// A translated chunk may say when it was made.
fn forget_time(event: &mut Event) {
    if let Event::Chunk(chunk) = event {
        let mut value: Value = serde_json::from_slice(&chunk.json).unwrap();
        value["created"] = 0.into();
        chunk.json = Bytes::from(value.to_string());
    }
}

/// What events say, in the words of the corpus.
fn told(events: &[Event], choices: u32) -> Value {
    let mut wholes = vec![Delta::default(); choices as usize];
    let mut failed = Value::Null;
    let mut usage = Value::Null;
    for event in events {
        match event {
            Event::Failed(failure) => failed = failure.class.word().into(),
            Event::Chunk(chunk) => {
                chunk.deltas.iter().for_each(|delta| add(&mut wholes, delta));
                if let Some(counted) = chunk.usage {
                    usage = json!({ "prompt": counted.prompt, "completion": counted.completion });
                }
            }
            Event::Life | Event::Done => {}
        }
    }
    let finish: Vec<Value> =
        wholes.iter().map(|whole| whole.finish.map_or(Value::Null, |f| f.word().into())).collect();
    let tools = wholes.iter().flat_map(|whole| &whole.tools).map(|tool| {
        json!({ "index": tool.index, "id": tool.id, "name": tool.name,
                "arguments": tool.arguments })
    });
    json!({
        "content": wholes.iter().map(|whole| whole.content.as_str()).collect::<Vec<_>>(),
        "reasoning": wholes.iter().map(|whole| whole.reasoning.as_str()).collect::<String>(),
        "tools": tools.collect::<Vec<_>>(),
        "finish": finish,
        "failed": failed,
        "usage": usage,
    })
}

fn add(wholes: &mut [Delta], delta: &Delta) {
    let whole = &mut wholes[delta.choice as usize];
    whole.content.push_str(&delta.content);
    whole.reasoning.push_str(&delta.reasoning);
    for tool in &delta.tools {
        match whole.tools.iter_mut().find(|known| known.index == tool.index) {
            Some(known) => known.arguments.push_str(&tool.arguments),
            None => whole.tools.push(tool.clone()),
        }
    }
    if delta.finish.is_some() {
        assert!(whole.finish.is_none(), "a choice finished twice");
        whole.finish = delta.finish;
    }
}

#[test]
fn every_stream_says_what_stands_beside_it() {
    for case in cases() {
        let mut reader = case.reader();
        reader.push(&Bytes::copy_from_slice(&case.body));
        let mut events: Vec<Event> = reader.by_ref().collect();
        events.extend(std::iter::from_fn(|| reader.finish()));
        let told = told(&events, case.choices);
        for (key, told) in told.as_object().unwrap() {
            let mut expected = case.expected[key].clone();
            if key == "finish" && expected.is_null() {
                expected = vec![Value::Null; case.choices as usize].into();
            }
            assert_eq!(*told, expected, "{key} of {}", case.path.display());
        }
    }
}

#[test]
fn a_stream_cut_at_any_byte_says_the_beginning_and_nothing_else() {
    for case in cases() {
        let whole = case.read([&case.body[..]]);
        assert!(!format!("{whole:?}").contains('\u{fffd}'), "{}", case.path.display());
        for cut in 0..case.body.len() {
            // Equal to the whole when the rest comes, so its beginning if the rest never does.
            let (before, after) = case.body.split_at(cut);
            let joined = case.read([before, after]);
            assert_eq!(joined, whole, "{} split at {cut}", case.path.display());
        }
        assert_eq!(case.read(case.body.chunks(1)), whole, "{}", case.path.display());
    }
}

fn any_dialect() -> impl Strategy<Value = Arc<Dialect>> {
    prop_oneof![Just("generic"), Just("anthropic"), Just("responses")].prop_map(|name| {
        let base = if name == "anthropic" { "anthropic" } else { "generic" };
        let mut dialect = Dialect::clone(&Dialect::builtin(base).unwrap());
        if name == "responses" {
            dialect.wire = Wire::Responses;
        }
        Arc::new(dialect)
    })
}

/// Reads everything twice: in `cuts` pieces and at once.
fn read_twice(dialect: &Arc<Dialect>, body: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<Event>) {
    let case = Case {
        path: PathBuf::new(),
        dialect: dialect.clone(),
        choices: 2,
        body: Vec::new(),
        expected: Value::Null,
    };
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|place| &body[place[0]..place[1]]);
    (case.read(pieces), case.read([body]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn garbage_never_panics_and_is_read_alike_in_any_pieces(
        dialect in any_dialect(),
        body in prop::collection::vec(any::<u8>(), 0..400),
        prefix in prop_oneof![Just("data: "), Just("data: {\"choices\":["), Just(""), Just("{")],
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let body = [prefix.as_bytes(), &body, b"\n\n"].concat();
        let (pieces, whole) = read_twice(&dialect, &body, &cuts);
        prop_assert_eq!(pieces, whole);
        let _ = plain::answer(&dialect, Endpoint::Chat, &body);
    }

    #[test]
    fn recorded_streams_with_broken_bytes_never_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        thread_local!(static CASES: Vec<Case> = cases());
        CASES.with(|cases| {
            let case = which.get(cases);
            let mut body = case.body.clone();
            for (place, byte) in &changes {
                body[place.index(case.body.len())] = *byte;
            }
            let (pieces, whole) = read_twice(&case.dialect, &body, &cuts);
            prop_assert_eq!(pieces, whole);
            Ok(())
        })?;
    }

    #[test]
    fn any_text_comes_through_unchanged(
        texts in prop::collection::vec(".{0,20}", 1..6),
        end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let dialect = Dialect::builtin("generic").unwrap();
        let events = texts.iter().map(|text| {
            let choice = json!({ "index": 0, "delta": { "content": text },
                                 "finish_reason": null });
            format!("data: {}{end}{end}", json!({ "choices": [choice] }))
        });
        let body: String = events.collect();
        let (pieces, whole) = read_twice(&dialect, body.as_bytes(), &cuts);
        prop_assert_eq!(&pieces, &whole);
        let told = told(&pieces, 2);
        prop_assert_eq!(&told["content"][0], &Value::from(texts.concat()));
    }
}
