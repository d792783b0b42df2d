//! Turns a conversation into the text a model was trained on, with the model's own chat template.
//!
//! Templates are programs from outside. They get no files and no clock, and a budget that bounds
//! both the time they take and the memory they make. What published templates expect of Python
//! (string methods, `tojson` as `json.dumps`, `raise_exception`) is there; `strftime_now` is not.

use crate::error::{LoadError, TemplateError};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::io;

/// The largest published templates have about 20 KiB.
const SOURCE_MAX: usize = 1 << 20;

/// One unit is one instruction or 64 bytes made: about 0.1 s and 64 MiB at the very most.
const FUEL: u64 = 1 << 20;

/// Marks errors that the template raised itself.
const RAISED: &str = "raised: ";

/// A model's chat template, ready to render.
pub struct ChatTemplate {
    environment: Option<Environment<'static>>,
    special: serde_json::Map<String, serde_json::Value>,
}

impl ChatTemplate {
    /// `source` is the template, if the model has one; `special` the texts of its special tokens
    /// by name (`bos_token`, …).
    pub fn new(
        source: Option<String>,
        special: serde_json::Map<String, serde_json::Value>,
    ) -> Result<ChatTemplate, LoadError> {
        let Some(source) = source else { return Ok(ChatTemplate { environment: None, special }) };
        if source.len() > SOURCE_MAX {
            return Err(LoadError::Template(format!(
                "{} bytes long, {SOURCE_MAX} is the limit: take the model's own template",
                source.len()
            )));
        }
        let broken = |error: Error| {
            LoadError::Template(format!("{error:#}: take the template that came with the model"))
        };
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let mut environment = Environment::new();
        environment.set_syntax(syntax.map_err(broken)?);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", |text: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, format!("{RAISED}{text}")))
        });
        environment.add_template_owned("chat", source).map_err(broken)?;
        Ok(ChatTemplate { environment: Some(environment), special })
    }

    /// Whether the template's own text holds `text`; false without a template.
    pub fn mentions(&self, text: &str) -> bool {
        let template = self.environment.as_ref().and_then(|all| all.get_template("chat").ok());
        template.is_some_and(|template| template.source().contains(text))
    }

    /// Renders OpenAI messages. A list of text parts as content is joined, and the arguments of
    /// tool calls are given as objects; templates that want them as text get a second try.
    pub fn render(
        &self,
        messages: &serde_json::Value,
        tools: Option<&serde_json::Value>,
        add_generation_prompt: bool,
    ) -> Result<String, TemplateError> {
        let environment = self.environment.as_ref().ok_or(TemplateError::Missing)?;
        let template = environment.get_template("chat").map_err(|error| failed(&error))?;
        let context = |messages: serde_json::Value| {
            let mut context = self.special.clone();
            context.insert("messages".into(), messages);
            context.insert("add_generation_prompt".into(), add_generation_prompt.into());
            if let Some(tools) = tools {
                context.insert("tools".into(), tools.clone());
            }
            Value::from(Serde(context))
        };
        let plain = join_text_parts(messages);
        let first = match parse_arguments(&plain) {
            Some(parsed) => template.render(context(parsed)),
            None => return template.render(context(plain)).map_err(|error| failed(&error)),
        };
        first.or_else(|_| template.render(context(plain))).map_err(|error| failed(&error))
    }
}

fn failed(error: &Error) -> TemplateError {
    match error.detail().and_then(|detail| detail.strip_prefix(RAISED)) {
        Some(text) => TemplateError::Refused(text.to_owned()),
        None => TemplateError::Failed(error.to_string()),
    }
}

/// Content given as a list of text parts becomes one text; lists with other parts stay.
fn join_text_parts(messages: &serde_json::Value) -> serde_json::Value {
    let mut messages = messages.clone();
    for message in messages.as_array_mut().into_iter().flatten() {
        let Some(content) = message.get_mut("content") else { continue };
        let texts: Option<Vec<&str>> = content.as_array().and_then(|parts| {
            let is_text = |part: &serde_json::Value| part.get("type").is_some_and(|t| t == "text");
            parts.iter().map(|part| part.get("text")?.as_str().filter(|_| is_text(part))).collect()
        });
        if let Some(texts) = texts {
            *content = texts.join("\n").into();
        }
    }
    messages
}

/// Tool-call arguments as objects, or nothing if there are none to parse.
fn parse_arguments(messages: &serde_json::Value) -> Option<serde_json::Value> {
    let mut messages = messages.clone();
    let mut any = false;
    for message in messages.as_array_mut()? {
        let calls = message.get_mut("tool_calls").and_then(|calls| calls.as_array_mut());
        for call in calls.into_iter().flatten() {
            let Some(arguments) = call.pointer_mut("/function/arguments") else { continue };
            let parsed = arguments.as_str().and_then(|text| serde_json::from_str(text).ok());
            if let Some(parsed @ serde_json::Value::Object(_)) = parsed {
                *arguments = parsed;
                any = true;
            }
        }
    }
    any.then_some(messages)
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`; the built-in filter escapes for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let broken = |error: serde_json::Error| {
        Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}"))
    };
    let indent: Option<usize> = options.get("indent")?;
    let mut out = Vec::new();
    match indent {
        Some(indent) => {
            let spaces = " ".repeat(indent.min(16));
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            let mut to = serde_json::Serializer::with_formatter(&mut out, formatter);
            value.serialize(&mut to).map_err(broken)?;
        }
        None => {
            let mut to = serde_json::Serializer::with_formatter(&mut out, Spaced);
            value.serialize(&mut to).map_err(broken)?;
        }
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Python's default separators: `", "` and `": "`.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { to.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(source: &str, messages: &serde_json::Value) -> Result<String, TemplateError> {
        let mut special = serde_json::Map::new();
        special.insert("bos_token".into(), "<s>".into());
        let template = ChatTemplate::new(Some(source.into()), special).unwrap();
        template.render(messages, None, true)
    }

    #[test]
    fn a_usual_template_renders_as_the_reference_does() {
        let source = "{{ bos_token }}{% for message in messages %}\n  \
            {% if message.role == 'user' %}\nU:{{ message['content'].strip() }}\n  {% endif %}\n\
            {% endfor %}\n{% if add_generation_prompt %}A:{% endif %}";
        let messages = json!([
            {"role": "user", "content": " hi "},
            {"role": "user",
             "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        ]);
        assert_eq!(render(source, &messages).unwrap(), "<s>U:hi\nU:a\nb\nA:");
    }

    #[test]
    fn tojson_writes_what_python_writes() {
        let source = "{{ messages[0] | tojson }}";
        let text = render(source, &json!([{"b": [1, 2.5, "<é>"], "a": {"x": null}}])).unwrap();
        assert_eq!(text, r#"{"b": [1, 2.5, "<é>"], "a": {"x": null}}"#);
    }

    #[test]
    fn tool_arguments_come_as_objects_and_as_text_where_the_template_wants_text() {
        let call = json!({"function": {"name": "f", "arguments": "{\"x\": 1}"}});
        let messages = json!([{"role": "assistant", "tool_calls": [call]}]);
        let object = "{{ messages[0].tool_calls[0].function.arguments.x }}";
        assert_eq!(render(object, &messages).unwrap(), "1");
        let text = "{{ '>' + messages[0].tool_calls[0].function.arguments }}";
        assert_eq!(render(text, &messages).unwrap(), ">{\"x\": 1}");
    }

    #[test]
    fn a_refusal_by_the_template_is_told_from_its_failure() {
        let refused = render("{{ raise_exception('roles must alternate') }}", &json!([]));
        assert!(
            matches!(refused, Err(TemplateError::Refused(text)) if text == "roles must alternate")
        );
        let failed = render("{{ messages.nothing.at_all }}", &json!([]));
        assert!(matches!(failed, Err(TemplateError::Failed(_))));
    }

    #[test]
    fn endless_loops_and_exploding_strings_run_out_of_fuel() {
        let long = "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        let doubling = "{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(60) %}\
            {% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
        for source in [long, doubling, "{{ 'a' * 999999999 * 999999999 }}"] {
            assert!(matches!(render(source, &json!([])), Err(TemplateError::Failed(_))));
        }
    }
}
