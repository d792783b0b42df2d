//! Calls of tools in an answer's text, in the form in which each family of models writes them.
//!
//! The model's own template shows it the tools; what it then writes is text, and here the calls are
//! taken out of it while it comes. What looks like a call and is none stays text: nothing is lost.

use crate::embedded::{Called, Form, Order, ToolChoice};
use mainstay_engine::Engine;
use serde_json::{Value, json};

/// How a family writes a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`: Qwen, Hermes.
    Tagged,
    /// `<｜tool▁calls▁begin｜>…`, a name and fenced or plain JSON in each: DeepSeek.
    Fenced,
    /// The whole answer is `{"name": …, "parameters": …}`: Llama, and every forced call.
    Bare,
}

const TAGGED: [&str; 2] = ["<tool_call>", "</tool_call>"];
const FENCED: [&str; 2] = ["<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"];
const CALL: [&str; 2] = ["<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"];
const SEPARATOR: &str = "<｜tool▁sep｜>";

/// How the loaded model writes calls; nothing if its template shows it no tools.
pub fn manner(engine: &Engine) -> Option<Manner> {
    if !engine.template_mentions("tools") {
        return None;
    }
    Some(match engine.template_mentions(FENCED[0]) {
        true => Manner::Fenced,
        false if engine.template_mentions(TAGGED[0]) => Manner::Tagged,
        false => Manner::Bare,
    })
}

/// The form of an answer that must be a call; nothing where it need not be.
pub fn forced(order: &Order) -> Option<Form> {
    let ToolChoice::Must(name) = &order.tool_choice else { return None };
    let calls: Vec<Value> = functions(order)
        .filter(|function| name.as_ref().is_none_or(|name| function["name"] == *name.as_str()))
        .map(|function| {
            let parameters = match &function["parameters"] {
                parameters @ Value::Object(_) => parameters.clone(),
                _ => json!({ "type": "object" }),
            };
            json!({
                "type": "object",
                "properties": { "name": { "const": function["name"] }, "arguments": parameters },
                "required": ["name", "arguments"],
                "additionalProperties": false,
            })
        })
        .collect();
    Some(Form::JsonSchema(match calls.as_slice() {
        [one] => one.clone(),
        _ => json!({ "anyOf": calls }),
    }))
}

fn functions(order: &Order) -> impl Iterator<Item = &Value> {
    order
        .tools
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|tool| &tool["function"])
}

/// Takes calls out of an answer that comes in pieces.
#[derive(Clone, Debug)]
pub struct Calls {
    manner: Manner,
    /// Names that a bare object must have to be a call.
    known: Vec<String>,
    held: String,
    is_inside: bool,
}

impl Calls {
    /// For the answer to `order`, of a model that writes calls so.
    pub fn new(manner: Manner, order: &Order) -> Calls {
        let known = functions(order).filter_map(|one| one["name"].as_str().map(str::to_owned));
        let manner = match order.tool_choice {
            ToolChoice::Must(_) => Manner::Bare,
            ToolChoice::May | ToolChoice::Never => manner,
        };
        let known = known.collect();
        Calls { manner, known, held: String::new(), is_inside: false }
    }

    /// Takes the next piece; returns the text that is certain to be none of a call, and the calls
    /// that are whole.
    pub fn push(&mut self, piece: &str) -> (String, Vec<Called>) {
        self.held.push_str(piece);
        let [open, close] = match self.manner {
            Manner::Tagged => TAGGED,
            Manner::Fenced => FENCED,
            Manner::Bare => return (self.bare(), Vec::new()),
        };
        let (mut text, mut calls) = (String::new(), Vec::new());
        loop {
            if !self.is_inside {
                let Some(at) = self.held.find(open) else {
                    let keep = overlap(&self.held, open);
                    let rest = self.held.split_off(self.held.len() - keep);
                    text.push_str(&std::mem::replace(&mut self.held, rest));
                    return (text, calls);
                };
                text.push_str(&self.held[..at]);
                self.held.drain(..at);
                self.is_inside = true;
            }
            let Some(end) = self.held.find(close) else { return (text, calls) };
            let block: String = self.held.drain(..end + close.len()).collect();
            self.is_inside = false;
            match self.read(&block[open.len()..end]) {
                Some(more) => calls.extend(more),
                None => text.push_str(&block),
            }
        }
    }

    /// What is left at the end.
    pub fn finish(&mut self) -> (String, Vec<Called>) {
        let rest = std::mem::take(&mut self.held);
        let body = match self.manner {
            Manner::Bare => rest.as_str(),
            // The last closing mark may be the token that ended the answer.
            Manner::Tagged => rest.strip_prefix(TAGGED[0]).unwrap_or_default(),
            Manner::Fenced => rest.strip_prefix(FENCED[0]).unwrap_or_default(),
        };
        match self.read(body) {
            Some(calls) => (String::new(), calls),
            None => (rest, Vec::new()),
        }
    }

    /// Text of a bare answer that cannot be a call: everything, unless it begins as an object.
    fn bare(&mut self) -> String {
        let begins = self.held.trim_start();
        match begins.is_empty() || begins.starts_with('{') {
            true => String::new(),
            false => std::mem::take(&mut self.held),
        }
    }

    /// The calls in a block; nothing if it is no block of calls.
    fn read(&self, block: &str) -> Option<Vec<Called>> {
        let calls: Vec<Called> = match self.manner {
            Manner::Tagged => vec![object(block)?],
            Manner::Bare => {
                let call = object(block)?;
                vec![call].into_iter().filter(|call| self.known.contains(&call.name)).collect()
            }
            Manner::Fenced => {
                let calls = block.split(CALL[0]).skip(1);
                calls.map(|call| fenced(call.split(CALL[1]).next()?)).collect::<Option<_>>()?
            }
        };
        (!calls.is_empty()).then_some(calls)
    }
}

/// `{"name": …, "arguments": …}`; Llama says `parameters`.
fn object(text: &str) -> Option<Called> {
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    let name = value["name"].as_str()?.to_owned();
    let arguments = value.get("arguments").or(value.get("parameters"))?;
    let arguments = match arguments {
        Value::String(text) => text.clone(),
        Value::Object(_) => arguments.to_string(),
        _ => return None,
    };
    Some(Called { name, arguments })
}

/// V3 writes `function`, the separator, a name and fenced JSON; V3.1 a name, the separator, JSON.
fn fenced(text: &str) -> Option<Called> {
    let (before, behind) = text.split_once(SEPARATOR)?;
    let (name, arguments) = match behind.split_once("```json") {
        Some((name, fenced)) => (name, fenced.trim().trim_end_matches('`')),
        None => (before, behind),
    };
    let arguments: Value = serde_json::from_str(arguments.trim()).ok()?;
    let name = name.trim().to_owned();
    (arguments.is_object() && !name.is_empty())
        .then(|| Called { name, arguments: arguments.to_string() })
}

/// Length of the longest end of `text` that is a beginning of `mark`.
fn overlap(text: &str, mark: &str) -> usize {
    let longest = text.len().min(mark.len() - 1);
    let ends = |length: &usize| text.as_bytes().ends_with(&mark.as_bytes()[..*length]);
    (1..=longest).rev().find(ends).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(manner: Manner) -> Calls {
        let known = vec!["weather".to_owned()];
        Calls { manner, known, held: String::new(), is_inside: false }
    }

    /// What comes of a text, wherever it is cut in two.
    fn read(manner: Manner, text: &str) -> (String, Vec<Called>) {
        let mut seen = None;
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let mut calls = calls(manner);
            let parts = [calls.push(&text[..cut]), calls.push(&text[cut..]), calls.finish()];
            let whole = parts.into_iter().fold((String::new(), vec![]), |mut all, part| {
                all.0 += &part.0;
                all.1.extend(part.1);
                all
            });
            assert_eq!(seen.get_or_insert(whole.clone()), &whole, "cut at {cut}");
        }
        seen.unwrap()
    }

    fn weather(arguments: &str) -> Called {
        Called { name: "weather".into(), arguments: arguments.into() }
    }

    #[test]
    fn calls_are_taken_out_in_each_familys_form_wherever_the_stream_is_cut() {
        let tagged = "I look.\n<tool_call>\n\
                      {\"name\": \"weather\", \"arguments\": {\"in\": \"Bonn\"}}\
                      \n</tool_call>\n\
                      <tool_call>{\"name\":\"weather\",\"arguments\":{}}</tool_call>";
        let (text, found) = read(Manner::Tagged, tagged);
        assert_eq!(text, "I look.\n\n");
        assert_eq!(found, [weather("{\"in\":\"Bonn\"}"), weather("{}")]);

        let v3 = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n\
                  {\"in\": \"Bonn\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        assert_eq!(read(Manner::Fenced, v3), (String::new(), vec![weather("{\"in\":\"Bonn\"}")]));
        let newer = "So:<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{}\
                     <｜tool▁call▁end｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"a\":1}\
                     <｜tool▁call▁end｜><｜tool▁calls▁end｜>";
        let (text, found) = read(Manner::Fenced, newer);
        assert_eq!((text.as_str(), found), ("So:", vec![weather("{}"), weather("{\"a\":1}")]));

        let bare = " {\"name\": \"weather\", \"parameters\": {\"in\": \"Bonn\"}}";
        assert_eq!(read(Manner::Bare, bare), (String::new(), vec![weather("{\"in\":\"Bonn\"}")]));
    }

    #[test]
    fn what_only_looks_like_a_call_stays_text() {
        for (manner, text) in [
            (Manner::Tagged, "a < b <tool_ <tool_call>no JSON</tool_call> more"),
            (Manner::Tagged, "<tool_call>{\"name\": \"weather\", \"argu"),
            (Manner::Fenced, "<｜tool▁calls▁begin｜>nothing<｜tool▁calls▁end｜>"),
            (Manner::Bare, "{\"name\": \"other\", \"parameters\": {}}"),
            (Manner::Bare, "{\"answer\": 42}"),
            (Manner::Bare, "plain words {}"),
        ] {
            assert_eq!(read(manner, text), (text.to_owned(), vec![]), "{manner:?}");
        }
    }

    #[test]
    fn text_that_cannot_begin_a_call_is_not_held_back() {
        assert_eq!(calls(Manner::Tagged).push("one <to").0, "one ");
        assert_eq!(calls(Manner::Bare).push("one").0, "one");
    }
}
