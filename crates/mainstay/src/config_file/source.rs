//! The text of a configuration file with the place of every key, and the environment variables
//! that override it.
//!
//! Reading stops only where nothing can follow: text that is no TOML, or a value of the wrong
//! type. Unknown keys are all found in one walk.

use super::check::Check;
use super::merge::{self, Joined, POLICY};
use super::problem::{Problem, hint};
use super::{Engine, File, Key, Limits, Listen, Log, Model, Site, SiteModel, Tier};
use super::{dns, node, policy, worker};
use mainstay_server::setup::Written;
use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What an environment variable that overrides a key begins with: `MAINSTAY__LISTEN__API`.
pub const OVERRIDE: &str = "MAINSTAY__";

/// A key set from outside the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// What messages call it: the variable, or the option of the command line.
    pub shown: String,
    /// The key, e.g. `listen.api`.
    pub path: String,
    /// The value: TOML, or else a string as it stands.
    pub value: String,
}

/// A configuration file as text, with the overrides of the environment.
#[derive(Debug)]
pub struct Source<'t> {
    name: &'t str,
    text: &'t str,
    /// Where the text of a policy begins, if there is one behind that of the file.
    policy: Option<usize>,
    overrides: &'t [Override],
    table: DeTable<'t>,
}

impl<'t> Source<'t> {
    /// Takes `text` apart; `name` is the file's name in messages. Overrides replace what the
    /// file says.
    pub fn parse(
        name: &'t str,
        text: &'t str,
        overrides: &'t [Override],
    ) -> Result<Source<'t>, Problem> {
        let table = DeTable::default();
        let mut source = Source { name, text, policy: None, overrides, table };
        source.table = source.table_of(text)?;
        source.override_all()?;
        Ok(source)
    }

    /// Takes a node's own file and a policy apart, and puts them together as `merge` says.
    pub fn joined(
        name: &'t str,
        texts: &'t Joined,
        overrides: &'t [Override],
    ) -> Result<Source<'t>, Vec<Problem>> {
        let (text, policy) = (texts.text.as_str(), Some(texts.at));
        let mut source = Source { name, text, policy, overrides, table: DeTable::default() };
        let own = source.table_of(text.get(..texts.at).unwrap_or_default());
        let policy = source.table_of(&texts.masked);
        let (own, policy) = match (own, policy) {
            (Ok(own), Ok(policy)) => (own, policy),
            (own, policy) => return Err([own.err(), policy.err()].into_iter().flatten().collect()),
        };
        let wrong = merge::forbidden(&policy);
        if !wrong.is_empty() {
            let problem = |(offset, key, what): (usize, String, String)| {
                let offset = offset.max(texts.at + 1);
                let place = source.place(offset, false);
                Problem { place, key, what, offset }
            };
            return Err(wrong.into_iter().map(problem).collect());
        }
        source.table = merge::merged(own, policy);
        source.override_all().map_err(|problem| vec![problem])?;
        Ok(source)
    }

    fn table_of(&self, text: &'t str) -> Result<DeTable<'t>, Problem> {
        DeTable::parse(text).map(Spanned::into_inner).map_err(|error| self.wrong_text(&error))
    }

    fn override_all(&mut self) -> Result<(), Problem> {
        for (at, each) in self.overrides.iter().enumerate() {
            self.set(at, each)?;
        }
        Ok(())
    }

    /// What was written, for whoever shows or keeps it.
    pub fn written(&self) -> Written {
        let at = self.policy.unwrap_or(self.text.len());
        let own = self.text.get(..at).unwrap_or_default();
        let policy = self.policy.and_then(|at| self.text.get(at + 1..));
        Written::new(self.name, own, policy)
    }

    /// The file as one struct, and every key that it does not know.
    pub fn read(&self) -> Result<(File, Vec<Problem>), Problem> {
        let mut unknown = Vec::new();
        self.walk_root(&mut unknown);
        let table = Spanned::new(0..self.text.len(), self.table.clone());
        match File::deserialize(toml::de::Deserializer::from(table)) {
            Ok(file) => Ok((file, unknown)),
            Err(error) => Err(self.wrong_text(&error)),
        }
    }

    /// A problem with the value at `path`, e.g. `site.1.capacity`, or with the nearest thing above
    /// it that is written down.
    pub fn problem(&self, path: &str, what: impl Into<String>) -> Problem {
        let span = self.find(path);
        let offset = span.start;
        let key: Vec<&str> =
            path.split('.').filter(|step| step.parse::<usize>().is_err()).collect();
        Problem { place: self.place(offset, false), key: key.join("."), what: what.into(), offset }
    }

    /// `file:line`, `file:line:column`, or the environment variable that stands for `offset`.
    fn place(&self, offset: usize, with_column: bool) -> String {
        if offset > self.text.len() {
            let variable = self.overrides.get(offset - self.text.len() - 1);
            return variable.map_or_else(String::new, |each| each.shown.clone());
        }
        let begin = self.policy.map(|at| at + 1).filter(|begin| offset >= *begin);
        let name = if begin.is_some() { POLICY } else { self.name };
        if name.is_empty() {
            return String::from("configuration");
        }
        let before = self.text.get(begin.unwrap_or(0)..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        match with_column {
            true => format!("{name}:{line}:{column}"),
            false => format!("{name}:{line}"),
        }
    }

    fn wrong_text(&self, error: &toml::de::Error) -> Problem {
        let offset = error.span().map_or(0, |span| span.start);
        Problem {
            place: self.place(offset, offset <= self.text.len()),
            key: self.path_at(offset),
            what: plain_words(error.message()),
            offset,
        }
    }

    /// Puts the value of an override where its name says. Its span lies behind the text: one place
    /// for each variable, so that a message can name it.
    fn set(&mut self, at: usize, each: &'t Override) -> Result<(), Problem> {
        let offset = self.text.len() + 1 + at;
        let place = offset..offset;
        let mut tables: Vec<&str> = each.path.split('.').collect();
        let last = tables.pop().unwrap_or_default();
        let mut table = &mut self.table;
        for step in tables {
            let fresh = || Spanned::new(place.clone(), DeValue::Table(DeTable::default()));
            let key = Spanned::new(place.clone(), step.into());
            let entry = table.entry(key).or_insert_with(fresh);
            let DeValue::Table(inner) = entry.get_mut() else {
                return Err(Problem {
                    place: each.shown.clone(),
                    key: each.path.clone(),
                    what: String::from(
                        "only single values can be set from outside; lists such as [[site]] \
                         belong in the file",
                    ),
                    offset,
                });
            };
            table = inner;
        }
        // What reads as TOML is taken as such, `true` or `["1s", "60s"]`; all else is a string.
        let value = match DeValue::parse(&each.value) {
            Ok(parsed) => parsed.into_inner(),
            Err(_) => DeValue::String(each.value.as_str().into()),
        };
        table.remove(last);
        let key = Spanned::new(place.clone(), last.into());
        table.insert(key, Spanned::new(place, value));
        Ok(())
    }

    /// Where `path` is written, or the nearest thing above it.
    fn find(&self, path: &str) -> Range<usize> {
        let mut steps = path.split('.');
        let Some((key, value)) = steps.next().and_then(|step| self.table.get_key_value(step))
        else {
            return 0..0;
        };
        let (mut span, mut value) = (key.span(), value);
        for step in steps {
            if let Ok(index) = step.parse::<usize>()
                && let Some(item) = value.get_ref().get(index)
            {
                (span, value) = (item.span(), item);
                continue;
            }
            let table = value.get_ref().as_table();
            let Some((key, item)) = table.and_then(|table| table.get_key_value(step)) else {
                break;
            };
            (span, value) = (key.span(), item);
        }
        span
    }

    /// The key whose value holds `offset`.
    fn path_at(&self, offset: usize) -> String {
        let mut path = Vec::new();
        in_table(&self.table, offset, &mut path);
        path.join(".")
    }

    fn walk_root(&self, unknown: &mut Vec<Problem>) {
        let root = &self.table;
        self.unknown_in::<File>(root, "", unknown);
        self.walk::<Listen>(root, "listen", unknown);
        self.walk::<Limits>(root, "limits", unknown);
        self.walk::<Log>(root, "log", unknown);
        self.walk::<Check>(root, "check", unknown);
        self.walk::<Model>(root, "model", unknown);
        self.walk::<Tier>(root, "tier", unknown);
        self.walk::<Key>(root, "key", unknown);
        self.walk::<Site>(root, "site", unknown);
        self.walk::<node::Node>(root, "node", unknown);
        self.walk::<node::Gateway>(root, "gateway", unknown);
        self.walk::<policy::Policy>(root, "policy", unknown);
        self.walk::<policy::Rehearsal>(root, "rehearsal", unknown);
        self.walk::<dns::Dns>(root, "dns", unknown);
        for dns in tables(root.get("dns")) {
            self.walk_at::<dns::Target>(dns.get("target"), "dns.target", unknown);
            self.walk_at::<dns::Region>(dns.get("region"), "dns.region", unknown);
            self.walk_at::<dns::Host>(dns.get("host"), "dns.host", unknown);
        }
        for site in tables(root.get("site")) {
            self.walk_at::<Engine>(site.get("engine"), "site.engine", unknown);
            self.walk_at::<SiteModel>(site.get("models"), "site.models", unknown);
            self.walk_at::<worker::Worker>(site.get("worker"), "site.worker", unknown);
            for worker in tables(site.get("worker")) {
                let (pods, path) = (worker.get("kubernetes"), "site.worker.kubernetes");
                self.walk_at::<worker::Kubernetes>(pods, path, unknown);
                let (steps, path) = (worker.get("profile"), "site.worker.profile");
                self.walk_at::<worker::Steps>(steps, path, unknown);
            }
        }
    }

    fn walk<T: for<'de> Deserialize<'de>>(
        &self,
        root: &DeTable<'_>,
        name: &str,
        unknown: &mut Vec<Problem>,
    ) {
        self.walk_at::<T>(root.get(name), name, unknown);
    }

    fn walk_at<T: for<'de> Deserialize<'de>>(
        &self,
        value: Option<&Spanned<DeValue<'_>>>,
        path: &str,
        unknown: &mut Vec<Problem>,
    ) {
        for table in tables(value) {
            self.unknown_in::<T>(table, path, unknown);
        }
    }

    fn unknown_in<T: for<'de> Deserialize<'de>>(
        &self,
        table: &DeTable<'_>,
        path: &str,
        unknown: &mut Vec<Problem>,
    ) {
        let known = keys_of::<T>();
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let offset = key.span().start;
            let path = if path.is_empty() { name.into() } else { format!("{path}.{name}") };
            let what = format!("unknown key; {}", hint(name, known.iter().copied()));
            unknown.push(Problem { place: self.place(offset, false), key: path, what, offset });
        }
    }
}

/// The table at a key, or each table of a list of tables.
fn tables<'a, 't>(value: Option<&'a Spanned<DeValue<'t>>>) -> Vec<&'a DeTable<'t>> {
    match value.map(Spanned::get_ref) {
        Some(DeValue::Table(table)) => vec![table],
        Some(DeValue::Array(items)) => {
            items.iter().filter_map(|item| item.get_ref().as_table()).collect()
        }
        _ => Vec::new(),
    }
}

fn in_table(table: &DeTable<'_>, offset: usize, path: &mut Vec<String>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(key.get_ref().to_string());
        let found = key.span().contains(&offset) || in_value(value, offset, path);
        if !found {
            path.pop();
        }
        found
    })
}

fn in_value(value: &Spanned<DeValue<'_>>, offset: usize, path: &mut Vec<String>) -> bool {
    let within = value.span().contains(&offset) || value.span().start == offset;
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, offset, path) || within,
        DeValue::Array(items) => items.iter().any(|item| in_value(item, offset, path)) || within,
        _ => within,
    }
}

/// What serde says, in the words of someone who writes a file.
fn plain_words(message: &str) -> String {
    let mut words = message.replace("invalid type: ", "").replace("invalid value: ", "");
    for (from, to) in [
        ("expected u32", "expected a whole number"),
        ("expected f64", "expected a number"),
        ("expected a boolean", "expected true or false"),
        ("expected a sequence", "expected a list in brackets"),
        ("unknown variant", "unknown value"),
        ("expected struct Engine", "expected { model = \"builtin\" }"),
        (
            "data did not match any variant of untagged enum Peak",
            "expected a share such as 0.6, or { free = 10 } in requests a second",
        ),
        (
            "data did not match any variant of untagged enum Profile",
            "expected a name such as \"llama-70b-h100-tp8\", or { base = 9.0, token = 0.0425 } in \
             milliseconds",
        ),
        ("expected struct SiteModel", "expected { name = \"…\", window = … }"),
    ] {
        words = words.replace(from, to);
    }
    words.lines().next().unwrap_or_default().to_string()
}

/// The keys that `T` knows, as its derived `Deserialize` names them.
pub fn keys_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // It always fails: asking for the keys is all it does.
    let _ = T::deserialize(Keys(&mut keys));
    keys
}

struct Keys<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keys<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(serde::de::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(serde::de::Error::custom("only asked for its keys"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
