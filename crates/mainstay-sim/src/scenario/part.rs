//! Reads one table of a scenario file: each key by its kind, every mistake noted, unknown keys
//! told with the nearest known one.
//!
//! A key is known because it was asked for, so that the list of keys cannot drift from the reader.

use super::problem::{Problem, hint};
use super::tree::{Node, Table, Value, line, place};
use std::cell::RefCell;
use std::time::Duration;

/// No run is longer, nor anything in it: a month, far below where sums of times could overflow.
pub const TIME_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// No number in a story is larger: counts of requests, factors, capacities.
pub const NUMBER_MAX: f64 = 1e9;

/// Units of time and their microseconds, the longest spelling first where one ends another.
const TIMES: [(&str, f64); 5] = [("ms", 1e3), ("us", 1.0), ("s", 1e6), ("m", 6e7), ("h", 3.6e9)];

/// The file that is read, and what is wrong with it.
#[derive(Debug)]
pub struct Desk<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
    /// What is wrong.
    pub problems: RefCell<Vec<Problem>>,
}

impl Desk<'_> {
    /// Notes what is wrong at a byte of the text.
    pub fn wrong(&self, offset: usize, key: &str, what: impl Into<String>) {
        let place = place(self.name, self.text, offset);
        self.problems.borrow_mut().push(Problem {
            place,
            key: key.into(),
            what: what.into(),
            offset,
        });
    }
}

/// One table.
#[derive(Debug)]
pub struct Part<'a> {
    /// The file.
    pub desk: &'a Desk<'a>,
    /// The table's own key, e.g. `fault`; empty for the file itself.
    pub path: &'a str,
    /// Where it begins.
    pub at: usize,
    table: &'a [(String, usize, Node)],
    asked: Vec<&'static str>,
}

impl<'a> Part<'a> {
    /// The table `node`; nothing, and a problem, if it is none.
    pub fn of(desk: &'a Desk<'a>, path: &'a str, node: &'a Node) -> Option<Part<'a>> {
        match &node.value {
            Value::Table(table) => Some(Part::new(desk, path, (node.at, table))),
            other => {
                desk.wrong(node.at, path, format!("is {}; it must be a table", other.word()));
                None
            }
        }
    }

    fn new(desk: &'a Desk<'a>, path: &'a str, (at, table): (usize, &'a Table)) -> Part<'a> {
        Part { desk, path, at, table, asked: Vec::new() }
    }

    /// Line of the text where it begins.
    pub fn line(&self) -> u32 {
        line(self.desk.text, self.at)
    }

    /// Notes what is wrong with `key`.
    pub fn wrong(&self, key: &str, what: impl Into<String>) {
        let at = self.table.iter().find(|(name, ..)| name == key).map_or(self.at, |(_, at, _)| *at);
        self.desk.wrong(at, &self.key(key), what);
    }

    fn key(&self, key: &str) -> String {
        match (self.path, key) {
            ("", key) => key.to_string(),
            (path, "") => path.to_string(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// The value of `key`, if it is there.
    pub fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.push(key);
        self.table.iter().find(|(name, ..)| name == key).map(|(_, _, node)| node)
    }

    /// Whether `key` is there.
    pub fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(name, ..)| name == key)
    }

    /// Says that `key` is missing, unless it is there and only wrong.
    pub fn missing(&self, key: &str, how: &str) {
        if !self.has(key) {
            self.desk.wrong(self.at, &self.key(key), format!("is missing; add {how}"));
        }
    }

    fn unfit(&self, key: &str, node: &Node, wanted: &str) {
        self.wrong(key, format!("is {}; {wanted}", node.value.word()));
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.unfit(key, node, "write a text in quotes");
                None
            }
        }
    }

    /// A number within bounds.
    pub fn number(&mut self, key: &'static str, least: f64, most: f64) -> Option<f64> {
        let node = self.node(key)?;
        match node.value {
            Value::Number(number, _) if (least..=most).contains(&number) => Some(number),
            Value::Number(number, _) => {
                self.wrong(key, format!("{number} is out of bounds; {least} to {most} is meant"));
                None
            }
            _ => {
                self.unfit(key, node, "write a number");
                None
            }
        }
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, key: &'static str, least: u32, most: u32) -> Option<u32> {
        let node = self.node(key)?;
        match node.value {
            Value::Number(number, true)
                if (f64::from(least)..=f64::from(most)).contains(&number) =>
            {
                Some(number as u32)
            }
            Value::Number(number, _) => {
                let what = format!("{number} does not fit; a whole number, {least} to {most}");
                self.wrong(key, what);
                None
            }
            _ => {
                self.unfit(key, node, "write a whole number");
                None
            }
        }
    }

    /// A share, 0 to 1.
    pub fn share(&mut self, key: &'static str) -> Option<f64> {
        self.number(key, 0.0, 1.0)
    }

    /// True or false; `"on"` and `"off"` too.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match &node.value {
            Value::Flag(flag) => Some(*flag),
            Value::Text(text) if text == "on" => Some(true),
            Value::Text(text) if text == "off" => Some(false),
            _ => {
                self.unfit(key, node, "write true or false");
                None
            }
        }
    }

    /// One word of these.
    pub fn word<T: Copy>(&mut self, key: &'static str, known: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = known.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
            self.wrong(key, format!("unknown `{text}`; {}", hint(&text, &words)));
        }
        found
    }

    /// A time, such as `"90s"`.
    pub fn time(&mut self, key: &'static str) -> Option<Duration> {
        let seconds = self.seconds(key)?;
        if seconds < 0.0 {
            self.wrong(key, "is before the start of the run; times are not negative");
            return None;
        }
        Some(Duration::from_micros((seconds * 1e6).round() as u64))
    }

    /// A time that may be negative, in seconds.
    pub fn seconds(&mut self, key: &'static str) -> Option<f64> {
        let node = self.node(key)?;
        let Value::Text(text) = &node.value else {
            self.unfit(key, node, "write a time such as \"500ms\", \"90s\" or \"10m\"");
            return None;
        };
        let micros = micros(text);
        if micros.is_none() {
            let most = TIME_MAX.as_secs() / 3600;
            let what = format!(
                "\"{text}\" is not a time; write it like \"500ms\", \"90s\", \"10m\" or \"2h\", \
                 at most {most} h"
            );
            self.wrong(key, what);
        }
        micros.map(|micros| micros / 1e6)
    }

    /// One node, or several in a list.
    pub fn several(&mut self, key: &'static str) -> Option<Vec<&'a Node>> {
        let node = self.node(key)?;
        Some(match &node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![node],
        })
    }

    /// The tables of this name, `[[name]]`.
    pub fn parts(&mut self, key: &'static str, most: usize) -> Vec<Part<'a>> {
        let nodes = self.several(key).unwrap_or_default();
        if nodes.len() > most {
            self.wrong(key, format!("{} of them; a scenario has at most {most}", nodes.len()));
            return Vec::new();
        }
        nodes.into_iter().filter_map(|node| Part::of(self.desk, key, node)).collect()
    }

    /// The table of this name, `[name]` or `name = { … }`.
    pub fn part(&mut self, key: &'static str) -> Option<Part<'a>> {
        let node = self.node(key)?;
        Part::of(self.desk, key, node)
    }

    /// Every key with its place and value, for tables whose keys are names.
    pub fn entries(&self) -> &'a [(String, usize, Node)] {
        self.table
    }

    /// Notes the keys that nobody asked for.
    pub fn finish(self) {
        for (key, at, _) in self.table {
            if !self.asked.contains(&key.as_str()) {
                let what = format!("unknown key; {}", hint(key, &self.asked));
                self.desk.wrong(*at, &self.key(key), what);
            }
        }
    }
}

/// Microseconds of a time such as `"1.5s"` or `"-1h"`; nothing if it is none or out of bounds.
fn micros(text: &str) -> Option<f64> {
    TIMES.iter().find_map(|(unit, factor)| {
        let digits = text.strip_suffix(unit)?;
        let body = digits.strip_prefix('-').unwrap_or(digits);
        let is_plain = body.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        if !is_plain || !body.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let micros = digits.parse::<f64>().ok()? * factor;
        (micros.abs() <= TIME_MAX.as_micros() as f64).then_some(micros)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_bounds() {
        for (text, wanted) in [("500ms", 5e5), ("1.5s", 1.5e6), ("-1h", -3.6e9), ("0s", 0.0)] {
            assert_eq!(micros(text), Some(wanted), "{text}");
        }
        for text in ["", "s", "12x", "12", ".s", "1..2s", "--1s", "1e9s", "99999h", "é", "١s"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
