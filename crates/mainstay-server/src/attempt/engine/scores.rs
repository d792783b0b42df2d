//! What the model thought of its tokens, in OpenAI's two forms, and what a client makes of tokens
//! beforehand.

use super::{invalid, read};
use crate::dialect::event::{Chunk, Endpoint};
use crate::dialect::request::Call;
use crate::embedded::{Scored, Word};
use bytes::Bytes;
use mainstay_core::names::Failure;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// As many alternatives as OpenAI gives (its API reference, `top_logprobs`).
const TOP_MAX: usize = 20;
/// OpenAI's bound on a bias (its API reference, `logit_bias`): beyond it a token is as good as
/// forbidden, or forced.
const BIAS_MAX: f32 = 100.0;
/// What OpenAI writes for a token that could not have been.
const NEVER: f32 = -9999.0;

/// How many alternatives are wanted, if scores are wanted at all.
pub fn wanted(call: &Call) -> Result<Option<usize>, Failure> {
    let (count, param) = match call.endpoint {
        Endpoint::Completions => (read::<Value>(call, "logprobs")?, "logprobs"),
        Endpoint::Chat | Endpoint::Embeddings => (read(call, "top_logprobs")?, "top_logprobs"),
    };
    if !call.logprobs {
        return if count.is_some_and(|count| count != false) {
            Err(invalid(param))
        } else {
            Ok(None)
        };
    }
    match count {
        None | Some(Value::Bool(true)) => Ok(Some(0)),
        Some(count) => {
            let count = count.as_u64().and_then(|count| usize::try_from(count).ok());
            count.filter(|count| *count <= TOP_MAX).map(Some).ok_or(invalid(param))
        }
    }
}

/// `logit_bias` as tokens.
pub fn bias(given: Option<BTreeMap<String, f32>>) -> Result<Vec<(u32, f32)>, Failure> {
    let mut biases = Vec::new();
    for (token, bias) in given.into_iter().flatten() {
        match token.parse() {
            Ok(token) if bias.abs() <= BIAS_MAX => biases.push((token, bias)),
            Ok(_) | Err(_) => return Err(invalid("logit_bias")),
        }
    }
    Ok(biases)
}

/// `scored` as OpenAI writes it; the first token begins behind `from` characters.
pub fn json(endpoint: Endpoint, mut from: usize, scored: &[Scored]) -> Value {
    if endpoint != Endpoint::Completions {
        let content: Vec<Value> = scored
            .iter()
            .map(|one| {
                let mut entry = entry(&one.token);
                entry["top_logprobs"] = one.top.iter().map(self::entry).collect();
                entry
            })
            .collect();
        return json!({ "content": content, "refusal": null });
    }
    let (mut tokens, mut own, mut top, mut offsets) = (vec![], vec![], vec![], vec![]);
    for one in scored {
        let text = text(&one.token);
        offsets.push(from);
        from += text.chars().count();
        tokens.push(text);
        own.push(number(&one.token));
        let others = one.top.iter().map(|word| (self::text(word), json!(number(word))));
        top.push(Value::Object(others.collect::<Map<_, _>>()));
    }
    json!({ "tokens": tokens, "token_logprobs": own, "top_logprobs": top, "text_offset": offsets })
}

/// `chunk` with `scores` at its only choice.
pub fn with(chunk: Chunk, scores: Value) -> Chunk {
    // What we have just written is JSON.
    let mut written: Value = serde_json::from_slice(&chunk.json).unwrap_or_default();
    written["choices"][0]["logprobs"] = scores;
    Chunk { json: Bytes::from(written.to_string()), ..chunk }
}

fn entry(word: &Word) -> Value {
    json!({ "token": text(word), "logprob": number(word), "bytes": word.bytes })
}

fn text(word: &Word) -> String {
    String::from_utf8_lossy(&word.bytes).into_owned()
}

fn number(word: &Word) -> f32 {
    word.logprob.max(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::event::Delta;
    use crate::dialect::shape::{self, Head};

    fn scored() -> Vec<Scored> {
        let word = |text: &str, logprob| Word { bytes: text.into(), logprob };
        vec![
            Scored { token: word("he", -0.5), top: vec![word("he", -0.5), word("a", -1.0)] },
            Scored { token: word("y", f32::NEG_INFINITY), top: vec![] },
        ]
    }

    #[test]
    fn chats_and_completions_are_told_in_their_own_form() {
        let chat = json(Endpoint::Chat, 0, &scored());
        assert_eq!(chat["content"][0]["top_logprobs"][1]["token"], "a");
        assert_eq!(chat["content"][0]["bytes"], json!([104, 101]));
        assert_eq!(chat["content"][1]["logprob"], -9999.0);
        let text = json(Endpoint::Completions, 3, &scored());
        assert_eq!(text["tokens"], json!(["he", "y"]));
        assert_eq!(text["text_offset"], json!([3, 5]));
        assert_eq!(text["top_logprobs"][0]["a"], -1.0);
    }

    #[test]
    fn a_chunk_keeps_what_it_has() {
        let delta = Delta { content: "hey".into(), ..Delta::default() };
        let chunk = shape::chunk(Endpoint::Chat, &Head::default(), vec![delta], None);
        let written = with(chunk, json(Endpoint::Chat, 0, &scored()));
        let value: Value = serde_json::from_slice(&written.json).unwrap();
        assert_eq!(value["choices"][0]["delta"]["content"], "hey");
        assert_eq!(value["choices"][0]["logprobs"]["content"].as_array().unwrap().len(), 2);
        assert_eq!(written.deltas[0].content, "hey");
    }
}
