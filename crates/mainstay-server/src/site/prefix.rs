//! Keys for the beginnings of prompts, by which a site finds the worker that has computed one.
//!
//! They are of the text, not of tokens: what a client sent before and sends again is the same text,
//! and no tokenizer has to be known for it. Tools stand before messages because templates put them
//! there. Nothing is copied, and a key does not tell what it stands for.

use crate::dialect::request::Call;
use mainstay_core::cost::CostUnits;
use mainstay_core::site::prefixes::Prefix;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// Bytes of text that one key stands for: about 500 tokens.
const BLOCK: usize = 2048;

/// What a prompt is made of, in the order in which a model reads it.
const PARTS: [&str; 6] = ["model", "tools", "instructions", "messages", "prompt", "input"];

/// Makes keys that nobody outside can foresee.
#[derive(Clone, Debug, Default)]
pub struct Prefixes(RandomState);

impl Prefixes {
    /// What the prompt of this call begins with, which has so many tokens of this price.
    pub fn of(&self, call: &Call, (tokens, token): (u32, CostUnits)) -> Prefix {
        let parts = PARTS.map(|part| call.value(part).unwrap_or_default());
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let keys = keys(&self.0, &parts, length);
        let block = u64::from(tokens) * BLOCK as u64 / length.max(1) as u64;
        let block = u32::try_from(block).unwrap_or(u32::MAX);
        Prefix { keys: Arc::from(keys), block, token }
    }
}

/// A key for each whole block of `length` bytes of text: each byte is hashed once.
fn keys(fresh: &impl BuildHasher, parts: &[&str], length: usize) -> Vec<u64> {
    let mut keys = Vec::with_capacity(length / BLOCK);
    let (mut hasher, mut room) = (fresh.build_hasher(), BLOCK);
    for part in parts {
        let mut rest = part.as_bytes();
        while rest.len() >= room {
            let (block, after) = rest.split_at(room);
            hasher.write(block);
            let key = hasher.finish();
            keys.push(key);
            hasher = fresh.build_hasher();
            hasher.write_u64(key);
            (rest, room) = (after, BLOCK);
        }
        hasher.write(rest);
        room -= rest.len();
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::event::Endpoint;
    use bytes::Bytes;
    use serde_json::{Value, json};
    use std::cell::Cell;
    use std::hash::DefaultHasher;
    use std::rc::Rc;

    /// Counts the bytes that are hashed.
    #[derive(Default)]
    struct Counting(Rc<Cell<usize>>);

    struct Counter(DefaultHasher, Rc<Cell<usize>>);

    impl BuildHasher for Counting {
        type Hasher = Counter;

        fn build_hasher(&self) -> Counter {
            Counter(DefaultHasher::new(), self.0.clone())
        }
    }

    impl Hasher for Counter {
        fn write(&mut self, bytes: &[u8]) {
            self.1.set(self.1.get() + bytes.len());
            self.0.write(bytes);
        }

        fn finish(&self) -> u64 {
            self.0.finish()
        }
    }

    /// llm-d/llm-d-router#1109, #2024.
    #[test]
    fn a_prompt_of_220_kilobytes_is_hashed_once_where_it_lies() {
        let said = "a b c ".repeat(220_000 / 6);
        let body = json!({"model": "m", "messages": [{"role": "user", "content": said}]});
        let body = Bytes::from(body.to_string());
        let call = Call::parse(Endpoint::Chat, body.clone()).expect("a call");
        let messages = call.value("messages").expect("there are some");
        let lies = body.as_ptr() as usize..body.as_ptr() as usize + body.len();
        assert!(lies.contains(&(messages.as_ptr() as usize)), "nothing is copied");
        let counting = Counting::default();
        let keys = super::keys(&counting, &[messages], messages.len());
        assert_eq!(keys.len(), messages.len() / BLOCK);
        // Of each block after the first, the key of the one before.
        assert_eq!(counting.0.get(), messages.len() + 8 * keys.len());
    }

    fn call(body: &Value) -> Call {
        Call::parse(Endpoint::Chat, Bytes::from(body.to_string())).expect("a call")
    }

    fn said(count: usize) -> Vec<Value> {
        let text = |at: usize| format!("{at}: {}", "words ".repeat(200 + at));
        (0..count).map(|at| json!({"role": "user", "content": text(at)})).collect()
    }

    fn keys(prefixes: &Prefixes, body: &Value) -> Prefix {
        prefixes.of(&call(body), (3000, CostUnits(1)))
    }

    #[test]
    fn a_next_turn_begins_with_the_keys_of_the_turn_before() {
        let prefixes = Prefixes::default();
        let turn = |count| json!({"model": "m", "messages": said(count), "stream": count > 5});
        let (before, after) = (keys(&prefixes, &turn(5)), keys(&prefixes, &turn(9)));
        assert!(before.keys.len() >= 2, "{before:?}");
        assert!(after.keys.len() > before.keys.len());
        assert!(after.keys.starts_with(&before.keys));
    }

    #[test]
    fn another_beginning_has_no_key_in_common_whatever_follows() {
        let prefixes = Prefixes::default();
        let with = |model: &str, tools: Value| {
            let body = json!({"model": model, "tools": tools, "messages": said(9)});
            keys(&prefixes, &body).keys
        };
        let tool = |name: &str| json!([{"type": "function", "function": {"name": name}}]);
        let all = [with("m", tool("a")), with("m", tool("b")), with("n", tool("a"))];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert!(one.iter().all(|key| !other.contains(key)));
            }
        }
    }

    #[test]
    fn a_block_stands_for_its_share_of_the_tokens() {
        let prefixes = Prefixes::default();
        let body = json!({"model": "m", "messages": said(9)});
        let found = keys(&prefixes, &body);
        let told = u64::from(found.block) * found.keys.len() as u64;
        assert!(told <= 3000 && told > 3000 - 2 * u64::from(found.block), "{found:?}");
        let short = keys(&prefixes, &json!({"model": "m", "messages": said(1)}));
        assert!(short.keys.is_empty());
    }

    #[test]
    fn keys_are_of_one_process_and_no_one_else_can_make_them() {
        let body = json!({"model": "m", "messages": said(9)});
        let (one, other) = (Prefixes::default(), Prefixes::default());
        assert_eq!(keys(&one, &body), keys(&one, &body));
        assert_ne!(keys(&one, &body).keys, keys(&other, &body).keys);
    }
}
