//! How an answer is spelled: the events of a stream and the body of a plain reply, for the four
//! interfaces. What is said is decided in `answer`; in which order and how broken, in `play`.

use serde_json::{Value, json};

use super::answer::{after_prefix, answer_tokens, json_tokens, seed_of};
use super::ask::{Api, Ask};

/// Replies carry a fixed time, so that two runs give the same bytes.
const CREATED: u64 = 1_790_000_000;

/// Arguments of the one tool call the fault server makes, in the pieces it sends. F29 cuts inside
/// the second piece.
pub const CALL_PIECES: [&str; 6] = [
    "{\"city\":\"",
    "Bei",
    "jing\",\"unit\":",
    "\"celsius\",",
    "\"note\":\"海风\\n\\\"强\\\"\"",
    "}",
];

/// What a model can do with a trailing assistant message, and how its words are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voice {
    /// Takes it as a finished turn and answers anew, in the same words as before.
    #[default]
    Regenerates,
    /// Continues it from its last character.
    Continues,
    /// Refuses it with 400 `invalid_prefill`.
    Refuses,
    /// Answers anew, in other words each time.
    Unseeded,
    /// Answers anew, always in the same words, which are not those of the other models.
    Other,
}

/// One answer, ready to be spelled.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The request.
    pub ask: Ask,
    /// Identity in the reply, different for each attempt.
    pub id: String,
    /// Thinking that comes before the answer.
    pub reasoning: Vec<String>,
    /// What is said.
    pub tokens: Vec<String>,
    /// Whether it is a tool call instead.
    pub call: bool,
    /// Why it ends.
    pub finish: &'static str,
    /// Whether chunks of a chat stream carry `sequence_number`.
    pub numbered: bool,
}

impl Answer {
    /// The whole answer of `length` tokens that `voice` gives to `ask` at its `attempt`-th try.
    pub fn of(ask: &Ask, voice: Voice, length: usize, attempt: u64) -> Answer {
        let prompt = match voice {
            Voice::Unseeded => format!("{}\u{1}attempt {attempt}", ask.prompt),
            Voice::Other => format!("{}\u{1}other", ask.prompt),
            Voice::Regenerates | Voice::Continues | Voice::Refuses => ask.prompt.clone(),
        };
        let spoken =
            if ask.json { json_tokens(&prompt, length) } else { answer_tokens(&prompt, length) };
        let left = match (&ask.prefix, voice) {
            (Some(prefix), Voice::Continues) => after_prefix(&spoken, prefix).unwrap_or(spoken),
            _ => spoken,
        };
        let call = ask.wants_call();
        let (tokens, finish) = if call { (Vec::new(), "tool_calls") } else { limit(left, ask) };
        let id = seed_of(&format!("{} {} {attempt}", ask.model, ask.prompt));
        Answer {
            ask: ask.clone(),
            id: format!("{id:016x}"),
            reasoning: Vec::new(),
            tokens,
            call,
            finish,
            numbered: false,
        }
    }

    /// Output tokens of the whole answer, over all choices.
    pub fn output_tokens(&self) -> usize {
        let said = if self.call { CALL_PIECES.len() } else { self.tokens.len() };
        (said + self.reasoning.len()) * self.ask.n
    }

    /// The events before the first token.
    pub fn opening(&self) -> Vec<String> {
        match self.ask.api {
            Api::Chat => (0..self.ask.n)
                .map(|i| self.chunk(i, json!({"role": "assistant", "content": ""}), None))
                .collect(),
            Api::Completions | Api::Embeddings => Vec::new(),
            Api::Responses if self.call => vec![self.created()],
            Api::Responses => vec![
                self.created(),
                self.named(
                    "response.output_item.added",
                    json!({"output_index": 0, "item": {"type": "message", "id": self.item_id(),
                        "status": "in_progress", "role": "assistant", "content": []}}),
                ),
                self.named(
                    "response.content_part.added",
                    json!({"item_id": self.item_id(), "output_index": 0, "content_index": 0,
                        "part": {"type": "output_text", "text": "", "annotations": []}}),
                ),
            ],
        }
    }

    /// The event with one token of choice `choice`.
    pub fn token(&self, choice: usize, text: &str) -> String {
        match self.ask.api {
            Api::Chat => self.chunk(choice, json!({"content": text}), None),
            Api::Completions | Api::Embeddings => self.text_chunk(choice, text, None),
            Api::Responses => self.named(
                "response.output_text.delta",
                json!({"item_id": self.item_id(), "output_index": 0, "content_index": 0,
                    "delta": text}),
            ),
        }
    }

    /// What stands before and behind the JSON of a token in its event. A long answer is made of
    /// the same event over and over.
    pub fn token_form(&self, choice: usize) -> (String, String) {
        let event = self.token(choice, "\u{1}");
        let (before, behind) = event.split_once("\\u0001").expect("the token stands there once");
        (before.to_owned(), behind.to_owned())
    }

    /// The event with one token of thinking.
    pub fn thought(&self, text: &str) -> String {
        match self.ask.api {
            Api::Responses => self.named(
                "response.reasoning_text.delta",
                json!({"item_id": self.item_id(), "output_index": 0, "delta": text}),
            ),
            Api::Chat | Api::Completions | Api::Embeddings => {
                self.chunk(0, json!({"reasoning_content": text}), None)
            }
        }
    }

    /// The events of the tool call, under `index`: its head, then the pieces of its arguments.
    pub fn call_events(&self, index: usize) -> Vec<String> {
        let name = self.ask.tool.as_deref().unwrap_or("tool");
        if self.ask.api == Api::Responses {
            let head = json!({"output_index": index, "item": self.call_item("in_progress", "")});
            let mut events = vec![self.named("response.output_item.added", head)];
            events.extend(CALL_PIECES.iter().map(|piece| self.call_piece(index, piece)));
            return events;
        }
        let head = json!({"tool_calls": [{"index": index, "id": self.call_id(),
            "type": "function", "function": {"name": name, "arguments": ""}}]});
        let mut events = vec![self.chunk(0, head, None)];
        events.extend(CALL_PIECES.iter().map(|piece| self.call_piece(index, piece)));
        events
    }

    /// The event with one piece of the tool call's arguments.
    pub fn call_piece(&self, index: usize, piece: &str) -> String {
        if self.ask.api == Api::Responses {
            let fields =
                json!({"item_id": self.call_item_id(), "output_index": index, "delta": piece});
            return self.named("response.function_call_arguments.delta", fields);
        }
        let call = json!({"index": index, "function": {"arguments": piece}});
        self.chunk(0, json!({"tool_calls": [call]}), None)
    }

    /// The event with the finish reason of choice `choice`.
    pub fn closing(&self, choice: usize, reason: &str) -> String {
        match self.ask.api {
            Api::Chat => self.chunk(choice, json!({}), Some(reason)),
            Api::Completions | Api::Embeddings => self.text_chunk(choice, "", Some(reason)),
            Api::Responses => {
                let status = if reason == "length" { "incomplete" } else { "completed" };
                let mut response = self.response(status);
                response["usage"] = self.usage(self.output_tokens());
                if reason == "length" {
                    response["incomplete_details"] = json!({"reason": "max_output_tokens"});
                }
                self.named(&format!("response.{status}"), json!({"response": response}))
            }
        }
    }

    /// The event with the usage, if the request asked for one.
    pub fn usage_event(&self) -> Option<String> {
        if !self.ask.include_usage || self.ask.api == Api::Responses {
            return None;
        }
        let mut chunk = self.frame("chat.completion.chunk");
        chunk["choices"] = json!([]);
        chunk["usage"] = self.usage(self.output_tokens());
        Some(event(&chunk))
    }

    /// The sentinel, where the interface has one.
    pub fn done(&self) -> Option<String> {
        (self.ask.api != Api::Responses).then(|| "data: [DONE]\n\n".to_owned())
    }

    /// The body of a plain reply that says `tokens` and ends for `reason`.
    pub fn plain(&self, tokens: &[String], reason: &str) -> String {
        let text = tokens.concat();
        let spent = if self.call { CALL_PIECES.len() } else { tokens.len() };
        let usage = self.usage((spent + self.reasoning.len()) * self.ask.n);
        let body = match self.ask.api {
            Api::Embeddings => self.embedding(),
            Api::Responses => {
                let mut response = self.response("completed");
                response["output"] = json!([if self.call {
                    self.call_item("completed", &CALL_PIECES.concat())
                } else {
                    json!({"type": "message", "id": self.item_id(), "status": "completed",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": text, "annotations": []}]})
                }]);
                response["usage"] = usage;
                response
            }
            Api::Completions => {
                let mut whole = self.frame("text_completion");
                whole["choices"] = (0..self.ask.n)
                    .map(|i| {
                        json!({"text": text, "index": i, "logprobs": null,
                        "finish_reason": reason})
                    })
                    .collect();
                whole["usage"] = usage;
                whole
            }
            Api::Chat => {
                let mut whole = self.frame("chat.completion");
                whole["choices"] = (0..self.ask.n)
                    .map(|i| {
                        json!({"index": i, "message": self.message(&text), "logprobs": null,
                        "finish_reason": reason})
                    })
                    .collect();
                whole["usage"] = usage;
                whole
            }
        };
        body.to_string()
    }

    /// One chunk of a chat stream.
    pub fn chunk(&self, choice: usize, delta: Value, reason: Option<&str>) -> String {
        if self.ask.api == Api::Completions {
            let text = delta["content"].as_str().unwrap_or_default();
            return self.text_chunk(choice, text, reason);
        }
        let mut chunk = self.frame("chat.completion.chunk");
        chunk["choices"] =
            json!([{"index": choice, "delta": delta, "logprobs": null, "finish_reason": reason}]);
        event(&chunk)
    }

    fn message(&self, text: &str) -> Value {
        if self.call {
            let name = self.ask.tool.as_deref().unwrap_or("tool");
            return json!({"role": "assistant", "content": null, "tool_calls": [{
                "id": self.call_id(), "type": "function",
                "function": {"name": name, "arguments": CALL_PIECES.concat()}}]});
        }
        let mut message = json!({"role": "assistant", "content": text});
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = json!(self.reasoning.concat());
        }
        message
    }

    fn text_chunk(&self, choice: usize, text: &str, reason: Option<&str>) -> String {
        let mut chunk = self.frame("text_completion");
        chunk["choices"] =
            json!([{"text": text, "index": choice, "logprobs": null, "finish_reason": reason}]);
        event(&chunk)
    }

    fn embedding(&self) -> Value {
        let seed = seed_of(&self.ask.prompt);
        let numbers: Vec<f64> = (0..8u32)
            .map(|i| {
                f64::from((super::answer::mix(seed, u64::from(i)) >> 40) as u32) / 16_777_216.0
            })
            .collect();
        let tokens = self.ask.prompt_tokens();
        json!({"object": "list", "model": self.ask.model,
            "data": [{"object": "embedding", "index": 0, "embedding": numbers}],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
    }

    fn response(&self, status: &str) -> Value {
        json!({"id": format!("resp_{}", self.id), "object": "response", "created_at": CREATED,
            "model": self.ask.model, "status": status, "error": null,
            "incomplete_details": null, "output": []})
    }

    fn frame(&self, object: &str) -> Value {
        json!({"id": format!("chatcmpl-{}", self.id), "object": object, "created": CREATED,
            "model": self.ask.model})
    }

    /// Usage after `output` tokens.
    pub fn usage(&self, output: usize) -> Value {
        let input = self.ask.prompt_tokens();
        if self.ask.api == Api::Responses {
            return json!({"input_tokens": input, "output_tokens": output,
                "total_tokens": input + output as u64});
        }
        json!({"prompt_tokens": input, "completion_tokens": output,
            "total_tokens": input + output as u64,
            "completion_tokens_details": {"reasoning_tokens": self.reasoning.len()}})
    }

    /// A typed event of the Responses interface.
    pub fn named(&self, kind: &str, mut fields: Value) -> String {
        fields["type"] = json!(kind);
        format!("event: {kind}\ndata: {fields}\n\n")
    }

    /// A `response` object that failed or is incomplete, for F21.
    pub fn ended_response(&self, status: &str, key: &str, why: Value) -> Value {
        let mut response = self.response(status);
        response[key] = why;
        response
    }

    fn created(&self) -> String {
        self.named("response.created", json!({"response": self.response("in_progress")}))
    }

    fn call_item(&self, status: &str, arguments: &str) -> Value {
        let name = self.ask.tool.as_deref().unwrap_or("tool");
        json!({"type": "function_call", "id": self.call_item_id(), "call_id": self.call_id(),
            "name": name, "arguments": arguments, "status": status})
    }

    fn call_item_id(&self) -> String {
        format!("fc_{}", self.id)
    }

    fn item_id(&self) -> String {
        format!("msg_{}", self.id)
    }

    fn call_id(&self) -> String {
        format!("call_{}", self.id)
    }
}

/// `value` as a nameless event.
pub fn event(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// Applies stop strings and `max_tokens`.
fn limit(tokens: Vec<String>, ask: &Ask) -> (Vec<String>, &'static str) {
    let text = tokens.concat();
    let stops = ask.stop.iter().filter(|stop| !stop.is_empty());
    let end = stops.filter_map(|stop| text.find(stop.as_str())).min().unwrap_or(text.len());
    let mut kept = Vec::new();
    let mut length = 0;
    for token in tokens {
        if length >= end {
            break;
        }
        if ask.max_tokens.is_some_and(|most| kept.len() >= most) {
            return (kept, "length");
        }
        let room = (end - length).min(token.len());
        length += token.len();
        kept.push(token[..room].to_owned());
    }
    (kept, "stop")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(body: Value) -> Ask {
        Ask::read(Api::Chat, body.to_string().as_bytes()).expect("a request")
    }

    #[test]
    fn stop_strings_and_max_tokens_end_the_answer() {
        let tokens: Vec<String> = ["ab", "cd", "ef"].map(str::to_owned).to_vec();
        let stopped = ask(json!({"model": "ok", "messages": [], "stop": "de"}));
        assert_eq!(limit(tokens.clone(), &stopped), (vec!["ab".into(), "c".into()], "stop"));
        let short = ask(json!({"model": "ok", "messages": [], "max_tokens": 2}));
        assert_eq!(limit(tokens.clone(), &short), (vec!["ab".into(), "cd".into()], "length"));
        let exact = ask(json!({"model": "ok", "messages": [], "max_tokens": 3}));
        assert_eq!(limit(tokens, &exact).1, "stop");
    }

    #[test]
    fn a_continuation_starts_where_the_prefix_ends() {
        let user = json!({"role": "user", "content": "hi"});
        let whole =
            Answer::of(&ask(json!({"model": "ok", "messages": [user]})), Voice::Continues, 60, 1);
        let text = whole.tokens.concat();
        let cut = text.char_indices().nth(70).expect("long enough").0;
        let messages = json!([user, {"role": "assistant", "content": &text[..cut]}]);
        let rest =
            Answer::of(&ask(json!({"model": "ok", "messages": messages})), Voice::Continues, 60, 2);
        assert_eq!(rest.tokens.concat(), text[cut..]);
    }
}
