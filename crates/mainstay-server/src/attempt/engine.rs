//! An attempt at the embedded engine: the client's call as an order, and what the engine says as
//! an attempt's items.

mod form;
mod scores;

use super::{Fault, Item};
use crate::dialect::event::{Chunk, Delta, Endpoint, Finish, ToolDelta, Usage};
use crate::dialect::request::{Call, Relayed};
use crate::dialect::shape::{self, Head};
use crate::embedded::{self, Called, Counted, Desk, Order, Prompt, Raw, Said, Taste};
use mainstay_core::names::{ClientFault, ErrorClass, Failure};
use mainstay_core::worker::{ANSWER_TOKENS, CHOICES_MAX};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// What an attempt at the engine is to ask.
pub struct Question<'a> {
    /// The client's call.
    pub call: &'a Call,
    /// What was relayed of the answer that is to be continued.
    pub relayed: Option<Relayed<'a>>,
    /// Only this choice is wanted.
    pub only_choice: Option<u32>,
    /// Whose call it is.
    pub tenant: u32,
    /// Whether the engine answers in place of the model that was asked for.
    pub stands_in: bool,
    /// Under which name the answer goes.
    pub id: String,
}

/// An answer under way.
pub struct Answer {
    said: mpsc::Receiver<Said>,
    endpoint: Endpoint,
    head: Head,
    /// Characters written of each choice, as far as scores are told.
    written: BTreeMap<u32, usize>,
    /// Calls of tools in each choice.
    called: BTreeMap<u32, u32>,
}

impl Answer {
    /// Hands `question` in at `desk`.
    pub fn begin(desk: &Desk, question: Question<'_>) -> Result<Answer, Failure> {
        let endpoint = question.call.endpoint;
        let head = Head { id: question.id.clone(), created: shape::now(), model: String::new() };
        let said = desk.place(order(&question)?)?;
        let (written, called) = (BTreeMap::new(), BTreeMap::new());
        Ok(Answer { said, endpoint, head, written, called })
    }

    /// What it says next. May be dropped and called again.
    pub async fn next(&mut self) -> Item {
        match self.said.recv().await {
            Some(Said::Beat) => Item::Beat,
            Some(Said::By(model)) => {
                self.head.model = model;
                Item::Life
            }
            Some(Said::Text(choice, content)) => {
                self.chunk(Delta { choice, content, ..Delta::default() }, None)
            }
            Some(Said::Scored(choice, content, scored)) => {
                let from = self.written.entry(choice).or_default();
                let scores = scores::json(self.endpoint, *from, &scored);
                *from += content.chars().count();
                let delta = Delta { choice, content, ..Delta::default() };
                Item::Chunk(scores::with(self.make(delta, None), scores))
            }
            Some(Said::Call(choice, called)) => {
                let index = self.called.entry(choice).or_default();
                let id = format!(
                    "call_{}_{choice}_{index}",
                    self.head.id.trim_start_matches("chatcmpl-")
                );
                let Called { name, arguments } = called;
                let tools = vec![ToolDelta { index: *index, id, name, arguments }];
                *index += 1;
                self.chunk(Delta { choice, tools, ..Delta::default() }, None)
            }
            Some(Said::End(choice, finish, counted)) => {
                let finish = match finish {
                    embedded::Finish::Stop => Finish::Stop,
                    embedded::Finish::Length => Finish::Length,
                    embedded::Finish::Calls => Finish::ToolCalls,
                };
                let delta = Delta { choice, finish: Some(finish), ..Delta::default() };
                self.chunk(delta, counted.map(usage))
            }
            Some(Said::Failed(failure)) => Item::Broken(Fault::of_engine(failure)),
            None => Item::End,
        }
    }

    fn chunk(&self, delta: Delta, usage: Option<Usage>) -> Item {
        Item::Chunk(self.make(delta, usage))
    }

    fn make(&self, delta: Delta, usage: Option<Usage>) -> Chunk {
        shape::chunk(self.endpoint, &self.head, vec![delta], usage)
    }
}

fn usage(counted: Counted) -> Usage {
    let Counted { prompt, cached, completion } = counted;
    Usage { prompt, cached: Some(cached), completion, ..Usage::default() }
}

fn order(question: &Question<'_>) -> Result<Order, Failure> {
    let call = question.call;
    check(question)?;
    let mut begun = String::new();
    let prompt = match call.endpoint {
        Endpoint::Chat => {
            let mut messages: Value = read(call, "messages")?.unwrap_or_default();
            if read(call, "continue_final_message")? == Some(true) {
                begun = take_begun(&mut messages)?;
            }
            Prompt::Chat(messages)
        }
        Endpoint::Completions => Prompt::Raw(raw(read(call, "prompt")?)?),
        Endpoint::Embeddings => return Err(unsupported("the embedded engine makes no embeddings")),
    };
    begun.push_str(question.relayed.as_ref().map_or("", |relayed| relayed.text));
    let taste = Taste {
        temperature: call.temperature.map(|value| value as f32),
        top_p: read(call, "top_p")?,
        top_k: read::<i64>(call, "top_k")?.map(|k| u32::try_from(k).unwrap_or(0)),
        min_p: read(call, "min_p")?,
        presence_penalty: read(call, "presence_penalty")?,
        frequency_penalty: read(call, "frequency_penalty")?,
        repetition_penalty: read(call, "repetition_penalty")?,
        bias: scores::bias(read(call, "logit_bias")?)?,
        seed: call.seed,
    };
    let relayed = question.relayed.as_ref().map_or(0, |relayed| relayed.tokens);
    // Without a limit of the client's own the whole answer still has one.
    let most = call.max_tokens.unwrap_or(ANSWER_TOKENS.max(relayed.saturating_add(1)));
    Ok(Order {
        prompt,
        bytes: call.body.len(),
        n: call.n,
        only_choice: question.only_choice,
        max_tokens: Some(most.saturating_sub(relayed)),
        taste,
        stop: call.stop.clone(),
        tools: form::tools(call)?,
        tool_choice: form::tool_choice(call)?,
        parallel: read(call, "parallel_tool_calls")?,
        form: form::of(call)?,
        scores: scores::wanted(call)?,
        prefix: (!begun.is_empty()).then_some(begun),
        tenant: question.tenant,
        asked: call.model.clone(),
        stands_in: question.stands_in,
    })
}

/// Takes the beginning of the answer away from the end of `messages`: vLLM's form of continuing,
/// in which one of our own gateways asks.
fn take_begun(messages: &mut Value) -> Result<String, Failure> {
    let last = messages.as_array_mut().and_then(Vec::pop).unwrap_or_default();
    let is_assistant = last["role"] == "assistant";
    match last["content"].as_str().filter(|_| is_assistant) {
        Some(text) => Ok(text.to_owned()),
        None => Err(invalid("continue_final_message")),
    }
}

/// What the engine cannot give. Who stands in for another gives what it can; who was asked by
/// name says no.
fn check(question: &Question<'_>) -> Result<(), Failure> {
    let call = question.call;
    if call.choices() > CHOICES_MAX && question.only_choice.is_none() {
        return Err(unsupported("the embedded engine gives at most 32 choices"));
    }
    let lacks = [
        (call.echo, "the embedded engine does not repeat prompts"),
        (call.best_of.is_some_and(|best| best > call.n), "the embedded engine has no best_of"),
    ];
    match lacks.into_iter().find(|(asked, _)| *asked && !question.stands_in) {
        Some((_, what)) => Err(unsupported(what)),
        None => Ok(()),
    }
}

fn raw(prompt: Option<Value>) -> Result<Vec<Raw>, Failure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Tokens(Vec<u32>),
        Texts(Vec<String>),
        Many(Vec<Vec<u32>>),
    }
    let form = serde_json::from_value(prompt.unwrap_or_default());
    Ok(match form.map_err(|_| invalid("prompt"))? {
        Form::Text(text) => vec![Raw::Text(text)],
        Form::Tokens(tokens) => vec![Raw::Tokens(tokens)],
        Form::Texts(texts) => texts.into_iter().map(Raw::Text).collect(),
        Form::Many(many) => many.into_iter().map(Raw::Tokens).collect(),
    })
}

fn read<'a, T: Deserialize<'a>>(call: &'a Call, key: &'static str) -> Result<Option<T>, Failure> {
    let Some(value) = call.value(key) else { return Ok(None) };
    serde_json::from_str(value).map(Some).map_err(|_| invalid(key))
}

fn unsupported(what: &str) -> Failure {
    Failure::ours(ErrorClass::ClientFault(ClientFault::Unsupported), what)
}

fn invalid(param: &'static str) -> Failure {
    let message = format!("Invalid value for '{param}'.");
    Failure {
        param: Some(param.into()),
        ..Failure::ours(ErrorClass::ClientFault(ClientFault::Invalid), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Form, ToolChoice};
    use bytes::Bytes;

    fn ask(endpoint: Endpoint, body: &str, relayed: Option<Relayed<'_>>) -> Result<Order, Failure> {
        let call = Call::parse(endpoint, Bytes::copy_from_slice(body.as_bytes())).unwrap();
        let id = "x".to_owned();
        let (only_choice, stands_in, tenant) = (None, false, 0);
        order(&Question { call: &call, relayed, only_choice, tenant, stands_in, id })
    }

    #[test]
    fn a_call_becomes_an_order_with_its_own_taste() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":0,
            "top_p":0.5,"top_k":-1,"seed":7,"stop":"x","max_tokens":9}"#;
        let relayed = Some(Relayed { text: "so far", tokens: 4 });
        let order = ask(Endpoint::Chat, body, relayed).unwrap();
        assert_eq!((order.max_tokens, order.prefix.as_deref()), (Some(5), Some("so far")));
        assert_eq!((order.taste.top_k, order.taste.top_p), (Some(0), Some(0.5)));
        assert_eq!(order.stop, ["x"]);
    }

    #[test]
    fn an_answer_begun_is_gone_on_with() {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"},
            {"role":"assistant","content":"so "}],"continue_final_message":true,"max_tokens":9}"#;
        let relayed = Some(Relayed { text: "far", tokens: 4 });
        let order = ask(Endpoint::Chat, body, relayed).unwrap();
        assert_eq!(order.prefix.as_deref(), Some("so far"));
        assert_eq!(order.prompt, Prompt::Chat(serde_json::json!([{"role":"user","content":"hi"}])));
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],
            "continue_final_message":true}"#;
        assert!(ask(Endpoint::Chat, body, None).is_err());
    }

    #[test]
    fn prompts_come_as_text_tokens_and_lists_of_both() {
        for (json, count) in [("\"a\"", 1), ("[1,2]", 1), ("[\"a\",\"b\"]", 2), ("[[1],[2]]", 2)] {
            let body = format!(r#"{{"model":"m","prompt":{json}}}"#);
            match ask(Endpoint::Completions, &body, None).unwrap().prompt {
                Prompt::Raw(prompts) => assert_eq!(prompts.len(), count, "{json}"),
                Prompt::Chat(_) => panic!("{json}"),
            }
        }
    }

    #[test]
    fn whether_tools_are_called_is_read_as_openai_says_it() {
        let tools = r#""tools":[{"type":"function","function":{"name":"f"}}]"#;
        let read = |choice: &str| with(&format!("{tools}{choice}")).map(|order| order.tool_choice);
        assert_eq!(read("").unwrap(), ToolChoice::May);
        assert_eq!(read(r#","tool_choice":"none""#).unwrap(), ToolChoice::Never);
        assert_eq!(read(r#","tool_choice":"required""#).unwrap(), ToolChoice::Must(None));
        let named = r#","tool_choice":{"type":"function","function":{"name":"f"}}"#;
        assert_eq!(read(named).unwrap(), ToolChoice::Must(Some("f".into())));
        for wrong in [r#","tool_choice":"often""#, &named.replace("\"f\"", "\"g\"")] {
            assert_eq!(read(wrong).unwrap_err().param.as_deref(), Some("tool_choice"), "{wrong}");
        }
        let parallel = |word: &str| with(&format!("{tools},\"parallel_tool_calls\":{word}"));
        assert_eq!(parallel("false").unwrap().parallel, Some(false));
        let wrong = parallel("1").unwrap_err();
        assert_eq!(wrong.param.as_deref(), Some("parallel_tool_calls"));
        assert!(with(r#""tools":[{"type":"function"}]"#).is_err());
        assert!(with(r#""functions":[{"name":"f"}]"#).is_err());
        assert_eq!(with(r#""tools":[]"#).unwrap().tools, None);
    }

    #[test]
    fn what_the_engine_lacks_is_said() {
        let body = r#"{"model":"m","prompt":"hi","echo":true}"#;
        let failure = ask(Endpoint::Completions, body, None).unwrap_err();
        assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Unsupported));
    }

    fn with(keys: &str) -> Result<Order, Failure> {
        let body = r#"{"model":"m","messages":[{"role":"user","content":"hi"}],KEYS}"#;
        ask(Endpoint::Chat, &body.replace("KEYS", keys), None)
    }

    #[test]
    fn scores_and_biases_are_read_within_openais_bounds() {
        let order = with(r#""logprobs":true,"top_logprobs":3,"logit_bias":{"7":-100,"9":2.5}"#);
        let order = order.unwrap();
        assert_eq!(order.scores, Some(3));
        assert_eq!(order.taste.bias, [(7, -100.0), (9, 2.5)]);
        assert_eq!(with(r#""logprobs":true"#).unwrap().scores, Some(0));
        assert_eq!(with(r#""logprobs":false"#).unwrap().scores, None);
        let text = r#"{"model":"m","prompt":"hi","logprobs":2}"#;
        assert_eq!(ask(Endpoint::Completions, text, None).unwrap().scores, Some(2));
        for (wrong, param) in [
            (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
            (r#""top_logprobs":2"#, "top_logprobs"),
            (r#""logit_bias":{"x":1}"#, "logit_bias"),
            (r#""logit_bias":{"1":101}"#, "logit_bias"),
        ] {
            assert_eq!(with(wrong).unwrap_err().param.as_deref(), Some(param), "{wrong}");
        }
    }

    #[test]
    fn forms_are_read_under_every_name_they_go_by() {
        let schema = serde_json::json!({"type":"object"});
        let read = |keys: &str| with(keys).unwrap().form;
        assert_eq!(read(r#""response_format":{"type":"text"}"#), None);
        assert_eq!(read(r#""response_format":{"type":"json_object"}"#), Some(Form::JsonObject));
        let named = r#""response_format":{"type":"json_schema","json_schema":{"name":"s",
            "strict":true,"schema":{"type":"object"}}}"#;
        assert_eq!(read(named), Some(Form::JsonSchema(schema.clone())));
        let text = r#""guided_json":"{\"type\":\"object\"}""#;
        assert_eq!(read(text), Some(Form::JsonSchema(schema)));
        assert_eq!(read(r#""guided_regex":"a+""#), Some(Form::Regex("a+".into())));
        let choice = Some(Form::Regex(r"(?:a\.b|c\|d)".into()));
        assert_eq!(read(r#""guided_choice":["a.b","c|d"]"#), choice);
        for wrong in
            [r#""response_format":{"type":"json_schema"}"#, r#""response_format":{"type":"yaml"}"#]
        {
            let failure = with(wrong).unwrap_err();
            assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Invalid), "{wrong}");
        }
        let failure = with(r#""guided_grammar":"root ::= x""#).unwrap_err();
        assert_eq!(failure.class, ErrorClass::ClientFault(ClientFault::Unsupported));
    }
}
