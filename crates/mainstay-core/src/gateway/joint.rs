//! Where one attempt's answer ends and another's goes on: no token lost, none twice.
//!
//! `Relayed` is what was written towards the client. A `Joint` stands between a new attempt and
//! the client: it holds the new text back until it has repeated, exactly, what the client already
//! has (hidden regeneration), or checks that a continuation does not begin all over again.

use crate::fact::Rung;
use alloc::string::String;
use alloc::vec::Vec;

/// A continuation that repeats this many characters of the answer's beginning has restarted;
/// fewer may be chance.
const RESTART: usize = 24;
/// An answer longer than this is not kept for going on; 1 MiB is far beyond a model's output.
pub const RELAYED_MAX: usize = 1 << 20;

/// What one choice of an answer has relayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relayed {
    /// Text of the answer.
    pub content: String,
    /// Tool calls, by index.
    pub tools: Vec<ToolCall>,
    /// Whether some reasoning was relayed.
    pub reasoning: bool,
    /// Output tokens, at least.
    pub tokens: u32,
    /// Whether its finish reason was relayed.
    pub finished: bool,
}

/// A tool call as far as it was relayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ToolCall {
    /// The function's name.
    pub name: String,
    /// Its arguments.
    pub arguments: String,
}

impl Relayed {
    /// Whether nothing of the answer itself was relayed; reasoning is no part of it.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty() && self.tools.is_empty()
    }

    /// Whether it grew too long to be kept.
    pub fn is_too_long(&self) -> bool {
        self.content.len() > RELAYED_MAX
    }

    /// A piece of text was relayed.
    pub fn content(&mut self, text: &str) {
        if !self.is_too_long() {
            self.content.push_str(text);
        }
    }

    /// A piece of a tool call was relayed.
    pub fn tool(&mut self, index: u32, name: &str, arguments: &str) {
        let index = index as usize;
        if index > self.tools.len() {
            return;
        }
        if index == self.tools.len() {
            self.tools.push(ToolCall::default());
        }
        self.tools[index].name.push_str(name);
        if self.tools[index].arguments.len() <= RELAYED_MAX {
            self.tools[index].arguments.push_str(arguments);
        }
    }
}

/// How an answer stands: what the machines must know of it, without its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Output tokens relayed, reasoning included, at least.
    pub tokens: u32,
    /// Whether any text or tool call of the answer was relayed.
    pub answered: bool,
    /// Whether anything at all was relayed, reasoning included.
    pub relayed: bool,
    /// Whether parts of a tool call were relayed that is not finished.
    pub tools: bool,
    /// Choices that are not finished.
    pub open: Vec<u32>,
    /// Whether it grew too long to be gone on with.
    pub too_long: bool,
}

/// How `choices` stand together.
pub fn standing(choices: &[Relayed]) -> Standing {
    let open = |c: &&Relayed| !c.finished;
    Standing {
        tokens: choices.iter().map(|c| c.tokens).fold(0, u32::saturating_add),
        answered: choices.iter().any(|c| !c.is_empty()),
        relayed: choices.iter().any(|c| !c.is_empty() || c.reasoning || c.finished),
        tools: choices.iter().filter(open).any(|c| !c.tools.is_empty()),
        open: (0u32..).zip(choices).filter(|(_, c)| !c.finished).map(|(n, _)| n).collect(),
        too_long: choices.iter().filter(open).any(Relayed::is_too_long),
    }
}

/// What may be relayed of a piece that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// This much of it.
    Relay(String),
    /// Nothing yet, or nothing new.
    Hold,
    /// It does not fit what the client has: give the attempt up.
    Mismatch,
    /// A stop string ended across the joint: this much, and then the answer is whole.
    Stop(String),
}

#[derive(Clone, Debug)]
enum State {
    /// Everything passes.
    Open,
    /// The first `at` bytes of what the client has were repeated so far.
    Repeating { at: usize },
    /// A continuation that may turn out to repeat the answer from its beginning.
    Continuing { held: String },
}

/// The joint of one choice.
#[derive(Clone, Debug)]
pub struct Joint {
    expected: Relayed,
    state: State,
    /// Bytes of arguments repeated, for each expected tool call.
    repeated: Vec<usize>,
    stops: Vec<String>,
    tail: String,
}

impl Joint {
    /// The joint between `relayed` and an attempt that goes on by `rung`.
    pub fn new(relayed: &Relayed, rung: Option<Rung>, stops: &[String]) -> Joint {
        let state = match rung {
            None | Some(Rung::Journal) => State::Open,
            Some(_) if relayed.is_empty() => State::Open,
            Some(Rung::Native) => State::Continuing { held: String::new() },
            Some(Rung::Regenerate) => State::Repeating { at: 0 },
        };
        let is_open = matches!(state, State::Open);
        let tools = if is_open { Vec::new() } else { relayed.tools.clone() };
        let longest = stops.iter().map(String::len).max().unwrap_or(0);
        let tail = match state {
            State::Continuing { .. } => ending(&relayed.content, longest),
            _ => String::new(),
        };
        let repeated = alloc::vec![0; tools.len()];
        let expected = Relayed { tools, ..relayed.clone() };
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Joint { expected, state, repeated, stops, tail }
    }

    /// A piece of text came.
    pub fn content(&mut self, text: &str) -> Fed {
        let fed = match &mut self.state {
            State::Open => return self.across(text),
            State::Repeating { at } => {
                let rest = &self.expected.content.as_bytes()[*at..];
                let common = rest.len().min(text.len());
                if rest[..common] != text.as_bytes()[..common] {
                    return Fed::Mismatch;
                }
                *at += common;
                if text.len() == common {
                    return Fed::Hold;
                }
                if self.tools_missing() {
                    return Fed::Mismatch;
                }
                String::from(&text[common..])
            }
            State::Continuing { held } => {
                held.push_str(text);
                let whole = self.expected.content.as_str();
                let common = common_prefix(held, whole);
                if common == held.len() && common < whole.len() {
                    return Fed::Hold;
                }
                if common == whole.len() && whole.len() >= RESTART / 3 {
                    // The dialect repeats the prefix although it should not.
                    String::from(&held[common..])
                } else if common >= RESTART {
                    return Fed::Mismatch;
                } else {
                    core::mem::take(held)
                }
            }
        };
        self.state = State::Open;
        if fed.is_empty() { Fed::Hold } else { self.across(&fed) }
    }

    /// A piece of a tool call came.
    pub fn tool(&mut self, index: u32, name: &str, arguments: &str) -> Fed {
        let Some(expected) = self.expected.tools.get(index as usize) else {
            let fits = self.is_caught_up();
            return if fits { Fed::Relay(String::from(arguments)) } else { Fed::Mismatch };
        };
        if !name.is_empty() && name != expected.name {
            return Fed::Mismatch;
        }
        let at = &mut self.repeated[index as usize];
        let rest = &expected.arguments.as_bytes()[*at..];
        let common = rest.len().min(arguments.len());
        if rest[..common] != arguments.as_bytes()[..common] {
            return Fed::Mismatch;
        }
        *at += common;
        let new = &arguments[common..];
        if new.is_empty() { Fed::Hold } else { Fed::Relay(String::from(new)) }
    }

    /// The attempt says it is finished. Returns what was still held back; `None` if it ended
    /// before it had repeated everything.
    pub fn finish(&mut self) -> Option<String> {
        if let State::Continuing { held } = &mut self.state {
            let held = core::mem::take(held);
            self.state = State::Open;
            return Some(held);
        }
        self.is_caught_up().then(String::new)
    }

    /// Whether the client's tool call at `index` was opened by an earlier attempt, so that its id
    /// and name must not be sent again.
    pub fn has_opened(&self, index: u32) -> bool {
        (index as usize) < self.expected.tools.len()
    }

    /// Whether everything the client has was repeated, so that what comes now is new.
    pub fn is_caught_up(&self) -> bool {
        let content = match self.state {
            State::Open => true,
            State::Repeating { at } => at == self.expected.content.len(),
            State::Continuing { .. } => false,
        };
        content && !self.tools_missing()
    }

    fn tools_missing(&self) -> bool {
        let mut pairs = self.expected.tools.iter().zip(&self.repeated);
        pairs.any(|(tool, at)| *at < tool.arguments.len())
    }

    fn across(&mut self, text: &str) -> Fed {
        if self.tail.is_empty() {
            return Fed::Relay(String::from(text));
        }
        let known = self.tail.len();
        self.tail.push_str(text);
        let found = self.stops.iter().filter_map(|stop| self.tail.find(stop.as_str())).min();
        if let Some(at) = found {
            let end = at.max(known);
            return Fed::Stop(String::from(&self.tail[known..end]));
        }
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        // Once a stop string can no longer begin before the joint, upstream matches it alone.
        if self.tail.len() - known >= longest {
            self.tail.clear();
        }
        Fed::Relay(String::from(text))
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let is_edge = |n: &usize| a.is_char_boundary(*n) && b.is_char_boundary(*n);
    (0..=same).rev().find(is_edge).unwrap_or(0)
}

fn ending(text: &str, bytes: usize) -> String {
    let mut from = text.len().saturating_sub(bytes.saturating_sub(1));
    while !text.is_char_boundary(from) {
        from += 1;
    }
    String::from(&text[from..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn relayed(content: &str) -> Relayed {
        Relayed { content: content.to_string(), tokens: 1, ..Relayed::default() }
    }

    fn feed(joint: &mut Joint, pieces: &[&str]) -> Result<String, Fed> {
        let mut out = String::new();
        for piece in pieces {
            match joint.content(piece) {
                Fed::Relay(text) => out.push_str(&text),
                Fed::Hold => {}
                other => return Err(other),
            }
        }
        Ok(out)
    }

    #[test]
    fn regeneration_relays_only_what_is_new_however_it_is_cut() {
        let whole = "the sea 海 is wide";
        for split in (0..=whole.len()).filter(|n| whole.is_char_boundary(*n)) {
            for cut in (0..=whole.len()).filter(|n| whole.is_char_boundary(*n)) {
                let mut joint = Joint::new(&relayed(&whole[..cut]), Some(Rung::Regenerate), &[]);
                let out = feed(&mut joint, &[&whole[..split], &whole[split..]]);
                assert_eq!(out.as_deref(), Ok(&whole[cut..]), "split {split} cut {cut}");
                assert!(joint.finish().is_some());
            }
        }
    }

    #[test]
    fn regeneration_that_differs_or_ends_early_is_given_up() {
        let mut joint = Joint::new(&relayed("one two"), Some(Rung::Regenerate), &[]);
        assert_eq!(feed(&mut joint, &["one three"]), Err(Fed::Mismatch));
        let mut joint = Joint::new(&relayed("one two"), Some(Rung::Regenerate), &[]);
        assert_eq!(feed(&mut joint, &["one"]).as_deref(), Ok(""));
        assert_eq!(joint.finish(), None);
    }

    #[test]
    fn a_continuation_that_repeats_is_stripped_and_one_that_restarts_is_given_up() {
        let had = "It was a bright cold day in April, and";
        let mut joint = Joint::new(&relayed(had), Some(Rung::Native), &[]);
        let out = feed(&mut joint, &["It was a bright cold ", "day in April, and the clocks"]);
        assert_eq!(out.as_deref(), Ok(" the clocks"));
        let mut joint = Joint::new(&relayed(had), Some(Rung::Native), &[]);
        let out = feed(&mut joint, &["It was a bright cold ", "day in May"]);
        assert_eq!(out, Err(Fed::Mismatch));
        let mut joint = Joint::new(&relayed(had), Some(Rung::Native), &[]);
        let out = feed(&mut joint, &["It", " struck thirteen"]);
        assert_eq!(out.as_deref(), Ok("It struck thirteen"));
        let mut joint = Joint::new(&relayed(had), Some(Rung::Native), &[]);
        assert_eq!(joint.content("It was"), Fed::Hold);
        assert_eq!(joint.finish().as_deref(), Some("It was"));
    }

    #[test]
    fn a_stop_string_is_found_across_the_joint() {
        let stops = ["END.".to_string()];
        let mut joint = Joint::new(&relayed("so it goes EN"), Some(Rung::Native), &stops);
        assert_eq!(joint.content("D. and more"), Fed::Stop(String::new()));
        let mut joint = Joint::new(&relayed("so it goes"), Some(Rung::Native), &stops);
        assert_eq!(joint.content(" on and on"), Fed::Relay(" on and on".to_string()));
    }

    #[test]
    fn tool_arguments_are_joined_only_where_name_and_text_agree() {
        let mut had = relayed("");
        had.tool(0, "weather", "{\"city\":\"Bei");
        let mut joint = Joint::new(&had, Some(Rung::Regenerate), &[]);
        assert_eq!(joint.tool(0, "weather", ""), Fed::Hold);
        assert_eq!(joint.tool(0, "", "{\"city\":\"Beijing\"}"), Fed::Relay("jing\"}".to_string()));
        assert!(joint.has_opened(0) && joint.is_caught_up());
        let mut joint = Joint::new(&had, Some(Rung::Regenerate), &[]);
        assert_eq!(joint.tool(0, "time", ""), Fed::Mismatch);
    }
}
