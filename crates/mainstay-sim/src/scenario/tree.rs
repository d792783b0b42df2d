//! The text of a scenario file as a tree of values, each with its place in the text.
//!
//! A tree of its own, so that a sweep can set a value and read the file again as if it had been
//! written there. It is as deep as the TOML reader allows, and as large as a file may be.

use super::problem::Problem;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Far more than a story needs; a larger file is not one.
pub const FILE_MAX: usize = 1 << 20;

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Byte of the text.
    pub at: usize,
    /// What.
    pub value: Value,
}

/// A value of TOML, as far as scenarios use it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"…"`.
    Text(String),
    /// `1`, `-1.5`; the second says whether it was written whole.
    Number(f64, bool),
    /// `true`.
    Flag(bool),
    /// `[…]`, or tables of one name.
    List(Vec<Node>),
    /// A table.
    Table(Table),
    /// Dates, and numbers out of all bounds.
    Other,
}

/// Keys in the order of their names, with their places.
pub type Table = Vec<(String, usize, Node)>;

impl Value {
    /// What it is, for messages.
    pub fn word(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Number(..) => "a number",
            Value::Flag(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other => "neither text, number, list nor table",
        }
    }
}

/// Takes `text` apart.
///
/// # Errors
/// What makes it no TOML, in one problem.
pub fn parse(name: &str, text: &str) -> Result<Node, Problem> {
    if text.len() > FILE_MAX {
        let what = format!("{} bytes; a scenario has at most {FILE_MAX}", text.len());
        return Err(Problem { place: name.into(), key: String::new(), what, offset: 0 });
    }
    match DeTable::parse(text) {
        Ok(parsed) => Ok(Node { at: 0, value: Value::Table(table(parsed.get_ref())) }),
        Err(error) => {
            let offset = error.span().map_or(0, |span| span.start);
            let what = error.message().lines().next().unwrap_or("no TOML").to_string();
            Err(Problem { place: place(name, text, offset), key: String::new(), what, offset })
        }
    }
}

/// `file:line` of a byte of the text.
pub fn place(name: &str, text: &str, offset: usize) -> String {
    format!("{name}:{}", line(text, offset))
}

/// The line of a byte of the text.
pub fn line(text: &str, offset: usize) -> u32 {
    let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
    before.iter().filter(|byte| **byte == b'\n').count() as u32 + 1
}

fn table(from: &DeTable<'_>) -> Table {
    let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
        (key.get_ref().to_string(), key.span().start, node(value))
    };
    from.iter().map(entry).collect()
}

fn node(from: &Spanned<DeValue<'_>>) -> Node {
    let value = match from.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or(Value::Other, |number| Value::Number(number as f64, true)),
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Number(number, false),
            Ok(_) | Err(_) => Value::Other,
        },
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Other,
        DeValue::Array(items) => Value::List(items.iter().map(node).collect()),
        DeValue::Table(inner) => Value::Table(table(inner)),
    };
    Node { at: from.span().start, value }
}

/// Sets what the dotted `path` names, as if it stood in the text where `value` does.
///
/// # Errors
/// Which step of the path does not exist.
pub fn set(root: &mut Node, path: &str, value: Node) -> Result<(), String> {
    let mut here = root;
    for step in path.split('.') {
        here = match &mut here.value {
            Value::List(items) => {
                let many = items.len();
                let found = step.parse::<usize>().ok().and_then(|at| items.get_mut(at));
                found.ok_or_else(|| format!("`{step}` is none of {many}; they count from 0"))?
            }
            Value::Table(entries) => {
                let known = entries.iter().position(|(key, ..)| key == step);
                let at = known.unwrap_or_else(|| {
                    // What is not there yet may still be a key: reading tells.
                    let empty = Node { at: value.at, value: Value::Table(Vec::new()) };
                    entries.push((step.to_string(), value.at, empty));
                    entries.len() - 1
                });
                &mut entries[at].2
            }
            Value::Text(_) | Value::Number(..) | Value::Flag(_) | Value::Other => {
                return Err(format!("`{step}` is below a single value"));
            }
        };
    }
    *here = value;
    Ok(())
}
