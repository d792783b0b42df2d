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
    /// The whole answer is `{"name": …, "parameters": …}`, or several of them in a list or with `;`
    /// or blanks between them: Llama, and every forced call.
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
    let one = match calls.as_slice() {
        [one] => one.clone(),
        _ => json!({ "anyOf": calls }),
    };
    // Who is forced to call calls once, unless the client asks for several.
    Some(Form::JsonSchema(match (name, order.parallel) {
        (None, Some(true)) => json!({ "type": "array", "items": one, "minItems": 1 }),
        (_, _) => one,
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
    /// Whether the first call is the last.
    is_single: bool,
    /// Whether the answer is over, for its only call is made.
    is_over: bool,
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
        let is_single = order.parallel == Some(false);
        Calls { manner, known, held: String::new(), is_inside: false, is_single, is_over: false }
    }

    /// Takes the next piece; returns the text that is certain to be none of a call, and the calls
    /// that are whole.
    pub fn push(&mut self, piece: &str) -> (String, Vec<Called>) {
        if self.is_over {
            return (String::new(), Vec::new());
        }
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
                Some(more) => calls.extend(self.allowed(more)),
                None => text.push_str(&block),
            }
            if self.is_over {
                return (text, calls);
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
        match self.read(body).filter(|_| !self.is_over) {
            Some(calls) => (String::new(), self.allowed(calls)),
            None => (rest, Vec::new()),
        }
    }

    /// Whether what may still come is of no use to anybody.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Those of a block's calls that may be made.
    fn allowed(&mut self, mut calls: Vec<Called>) -> Vec<Called> {
        if self.is_single {
            calls.truncate(1);
            self.is_over = true;
            self.held.clear();
        }
        calls
    }

    /// Text of a bare answer that cannot be a call: everything, unless it begins as an object or a
    /// list of some.
    fn bare(&mut self) -> String {
        let begins = self.held.trim_start();
        let in_list = begins.strip_prefix('[').unwrap_or(begins).trim_start();
        match in_list.is_empty() || in_list.starts_with('{') {
            true => String::new(),
            false => std::mem::take(&mut self.held),
        }
    }

    /// The calls in a block; nothing if it is no block of calls.
    fn read(&self, block: &str) -> Option<Vec<Called>> {
        let calls: Vec<Called> = match self.manner {
            Manner::Tagged => vec![object(&serde_json::from_str(block.trim()).ok()?)?],
            Manner::Bare => {
                let calls = objects(block)?.iter().map(object).collect::<Option<Vec<Called>>>()?;
                let all_known = calls.iter().all(|call| self.known.contains(&call.name));
                Some(calls).filter(|_| all_known)?
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
fn object(value: &Value) -> Option<Called> {
    let name = value["name"].as_str()?.to_owned();
    let arguments = value.get("arguments").or(value.get("parameters"))?;
    let arguments = match arguments {
        Value::String(text) => text.clone(),
        Value::Object(_) => arguments.to_string(),
        _ => return None,
    };
    Some(Called { name, arguments })
}

/// Objects in a list, or one after another.
fn objects(text: &str) -> Option<Vec<Value>> {
    if let Ok(Value::Array(list)) = serde_json::from_str(text.trim()) {
        return Some(list);
    }
    let (mut objects, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let mut values = serde_json::Deserializer::from_str(rest).into_iter();
        objects.push(values.next()?.ok()?);
        rest = rest[values.byte_offset()..].trim_start_matches([';', ' ', '\n', '\r', '\t']);
    }
    Some(objects)
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
        let (held, is_inside, is_single, is_over) = (String::new(), false, false, false);
        Calls { manner, known, held, is_inside, is_single, is_over }
    }

    /// What comes of a text, wherever it is cut in two.
    fn read(manner: Manner, text: &str) -> (String, Vec<Called>) {
        read_by(&calls(manner), text)
    }

    fn read_by(calls: &Calls, text: &str) -> (String, Vec<Called>) {
        let mut seen = None;
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let mut calls = calls.clone();
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
    fn several_calls_are_taken_or_the_first_alone_in_each_familys_form() {
        let v3 = |arguments: &str| {
            format!("<｜tool▁call▁begin｜>weather<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>")
        };
        let one = |arguments: &str| format!("{{\"name\":\"weather\",\"parameters\":{arguments}}}");
        let tagged = |arguments: &str| format!("<tool_call>{}</tool_call>", one(arguments));
        let (a, b) = ("{\"a\":1}", "{\"b\":2}");
        for (manner, text) in [
            (Manner::Tagged, format!("{}\n{}", tagged(a), tagged(b))),
            (Manner::Fenced, format!("{}{}{}{}", FENCED[0], v3(a), v3(b), FENCED[1])),
            (Manner::Bare, format!("{}; {}", one(a), one(b))),
            (Manner::Bare, format!(" {}\n{}", one(a), one(b))),
            (Manner::Bare, format!("[{}, {}]", one(a), one(b))),
        ] {
            let (rest, found) = read(manner, &text);
            assert_eq!((rest.trim(), found), ("", vec![weather(a), weather(b)]), "{text}");
            let single = Calls { is_single: true, ..calls(manner) };
            assert_eq!(read_by(&single, &text), (String::new(), vec![weather(a)]), "{text}");
        }
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
            (Manner::Bare, "[1, 2]"),
            (Manner::Bare, "{\"name\": \"weather\", \"parameters\": {}}; and"),
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
