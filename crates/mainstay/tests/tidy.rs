//! Keeps the house in order: what CONVENTIONS.md asks for and a machine can check.
//!
//! Each test is one rule and reports all its breaches at once, from the syntax tree where it can.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
const LINE_COLUMNS: usize = 100;
const PARAMETERS: usize = 5;
const ARCHITECTURE_LINES: usize = 250;

/// Who may depend on whom; arrows point down.
const ARROWS: [(&str, &[&str]); 5] = [
    ("mainstay-core", &[]),
    ("mainstay-engine", &[]),
    ("mainstay-sim", &["mainstay-core"]),
    ("mainstay-server", &["mainstay-core", "mainstay-engine"]),
    ("mainstay", &["mainstay-core", "mainstay-engine", "mainstay-server", "mainstay-sim"]),
];

/// Rooms of one floor send messages; they do not import each other.
const ROOMS: [&str; 6] = ["gateway", "site", "worker", "policy", "status", "console"];

/// Names that say nothing about what is in the file.
const EMPTY_NAMES: [&str; 9] =
    ["util", "utils", "helper", "helpers", "common", "misc", "manager", "handler", "wrapper"];

/// Files of the server with times or shares of their own, and why; all others are core's to have.
const SERVER_NUMBERS: &[(&str, &str)] = &[
    ("attempt/engine/scores.rs", "what OpenAI's API says of log probabilities and biases"),
    ("attempt/roster.rs", "how long a list of names may take"),
    ("dialect", "what headers and wire formats can mean"),
    ("drive.rs", "where a process's clock starts, and how often its lateness is measured"),
    ("gateway/dns", "how long a flood, a connection and a kept file are waited for"),
    ("gateway/stream", "what is waited for on the client's and the upstream's wire"),
    ("http", "how long clients' connections last"),
    ("ledger", "how often a disk or a database that is gone is asked again"),
    ("letters", "how often a server that does not take a message is asked again"),
    ("link", "how long connections between nodes last, and how large what they carry may be"),
    ("run.rs", "how long the end may take"),
    ("status/reports.rs", "how long one network's reports count together"),
    ("site/engine", "what a number in an engine's metrics can be"),
    ("telemetry.rs", "how often the same line is written"),
    ("telemetry/scribe.rs", "how long lines are gathered before they are written"),
    ("upstream", "how long connections, names and their probes last"),
];

/// Files of core with what crosses between machines or outlives one: these types of it, or all.
const WIRED: [(&str, &[&str]); 7] = [
    ("message.rs", &[]),
    ("names.rs", &[]),
    ("cost.rs", &[]),
    ("policy.rs", &["Snapshot", "Saved"]),
    ("policy/disk.rs", &[]),
    ("office.rs", &["Ask", "Answer"]),
    ("publish.rs", &[]),
];

/// One Rust file.
struct File {
    /// Path from the root of the repository, with `/`.
    path: String,
    text: String,
    tree: syn::File,
}

#[test]
fn arrows_between_crates_point_down() {
    let mut wrong = Vec::new();
    for (name, may) in ARROWS {
        let manifest = manifest(&format!("crates/{name}/Cargo.toml"));
        for table in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let there = manifest.get(table).and_then(toml::Value::as_table);
            for dependency in there.into_iter().flat_map(|table| table.keys()) {
                if dependency.starts_with("mainstay") && !may.contains(&dependency.as_str()) {
                    wrong.push(format!("{name} has {dependency} in [{table}]"));
                }
            }
        }
    }
    none(wrong, "crates may depend only downwards, see ARCHITECTURE.md");
}

#[test]
fn core_knows_no_machine_and_no_iteration_order_of_hashes() {
    let mut wrong = Vec::new();
    let root = read("crates/mainstay-core/src/lib.rs");
    if !root.contains("#![no_std]") {
        wrong.push(String::from("crates/mainstay-core/src/lib.rs lacks #![no_std]"));
    }
    for file in rust_files().iter().filter(|file| file.path.starts_with("crates/mainstay-core/")) {
        for (line, path) in paths(file) {
            let foreign = path.first().is_some_and(|first| first == "std");
            let hashed = path.iter().any(|part| part == "HashMap" || part == "HashSet");
            if (foreign || hashed) && !is_test(file, line) {
                wrong.push(format!("{}:{line}: {}", file.path, path.join("::")));
            }
        }
    }
    none(wrong, "core has no std and no hash maps");
}

#[test]
fn rooms_of_one_floor_do_not_import_each_other() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let floor = ["crates/mainstay-core/src/", "crates/mainstay-server/src/"]
            .iter()
            .find_map(|floor| file.path.strip_prefix(floor));
        let Some(inside) = floor else { continue };
        let room = inside.split(['/', '.']).next().unwrap_or_default();
        if !ROOMS.contains(&room) {
            continue;
        }
        for (line, path) in paths(&file) {
            let other = match path.as_slice() {
                [first, second, ..] if first == "crate" => second,
                _ => continue,
            };
            if other != room && ROOMS.contains(&other.as_str()) {
                wrong.push(format!("{}:{line}: {room} imports {}", file.path, path.join("::")));
            }
        }
    }
    none(wrong, "rooms send messages and share only the shared words");
}

#[test]
fn files_functions_and_lines_stay_short() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES}", file.path));
        }
        for (at, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS {
                wrong.push(format!("{}:{}: {columns} columns", file.path, at + 1));
            }
        }
        let mut functions = Functions::default();
        functions.visit_file(&file.tree);
        for Function { name, line, lines, parameters } in functions.0 {
            if lines > FUNCTION_LINES {
                wrong.push(format!("{}:{line}: {name} has {lines} lines", file.path));
            }
            if parameters > PARAMETERS {
                wrong.push(format!("{}:{line}: {name} has {parameters} parameters", file.path));
            }
        }
    }
    none(wrong, "split at a name that means something");
}

#[test]
fn every_file_says_what_it_is_for_and_has_a_name_that_does() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        if !file.text.starts_with("//!") {
            wrong.push(format!("{} does not open with //!", file.path));
        }
        let stem = Path::new(&file.path).file_stem().unwrap_or_default().to_string_lossy();
        if stem == "mod" || stem.split('_').any(|word| EMPTY_NAMES.contains(&word)) {
            wrong.push(format!("{}: its name says nothing", file.path));
        }
    }
    none(wrong, "open with //! and name the file after what it decides or does");
}

#[test]
fn nothing_is_left_undone_or_skipped() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let mut idents = Vec::new();
        identifiers(file.text.parse().expect("tokens"), &mut idents);
        for (at, (line, word)) in idents.iter().enumerate() {
            let next = idents.get(at + 1).map(|(_, word)| word.as_str());
            let macro_call = next == Some("!");
            if macro_call && ["todo", "unimplemented"].contains(&word.as_str()) {
                wrong.push(format!("{}:{line}: {word}!", file.path));
            }
            let attribute = at > 0 && idents[at - 1].1 == "#";
            if attribute && word == "ignore" {
                wrong.push(format!("{}:{line}: an ignored test", file.path));
            }
        }
        for (at, line) in file.text.lines().enumerate() {
            let mark = concat!("TO", "DO");
            if let Some((_, rest)) = line.split_once(mark) {
                let numbered = rest.trim_start_matches(['(', ' ']).strip_prefix('#');
                let numbered =
                    numbered.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()));
                if !numbered {
                    wrong.push(format!("{}:{}: {mark} without (#issue)", file.path, at + 1));
                }
            }
        }
    }
    none(wrong, "finish it, or write an issue");
}

#[test]
fn tests_wait_for_something_and_say_what() {
    let mut wrong = Vec::new();
    let marks = [concat!("sle", "ep("), concat!("sleep_", "until(")];
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let sleeps = marks.iter().any(|mark| line.contains(mark));
            let said = lines[at.saturating_sub(2)..=at].iter().any(|l| l.contains("// waits for:"));
            if sleeps && !said && is_test(&file, at + 1) {
                wrong.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    none(wrong, "a sleep in a test needs `// waits for: …`; better, wait for the event itself");
}

#[test]
fn unsafe_code_is_in_the_engine_and_says_why_it_is_sound() {
    let mut wrong = Vec::new();
    for file in rust_files() {
        let lines: Vec<&str> = file.text.lines().collect();
        let mut idents = Vec::new();
        identifiers(file.text.parse().expect("tokens"), &mut idents);
        for (line, _) in idents.iter().filter(|(_, word)| word == "unsafe") {
            let engine = file.path.starts_with("crates/mainstay-engine/");
            let before = &lines[line.saturating_sub(8)..*line];
            let why = before.iter().any(|l| l.contains("// SAFETY:") || l.contains("# Safety"));
            if !engine || !why {
                wrong.push(format!("{}:{line}: unsafe", file.path));
            }
        }
    }
    none(wrong, "unsafe only in mainstay-engine, below a // SAFETY: comment");
}

#[test]
fn every_dependency_has_its_reason_beside_it() {
    let mut wrong = Vec::new();
    let mut shared = BTreeSet::new();
    let mut files = vec![String::from("Cargo.toml")];
    files.extend(ARROWS.iter().map(|(name, _)| format!("crates/{name}/Cargo.toml")));
    for path in files {
        for (name, line, reason) in dependencies(&read(&path)) {
            if path == "Cargo.toml" && reason {
                shared.insert(name.clone());
            }
            if !reason && !name.starts_with("mainstay") && !shared.contains(&name) {
                wrong.push(format!("{path}:{line}: {name}"));
            }
        }
    }
    none(wrong, "say why it is worth having, beside it or above");
}

#[test]
fn the_documents_keep_their_promises() {
    let mut wrong = Vec::new();
    let lines = read("ARCHITECTURE.md").lines().count();
    if lines > ARCHITECTURE_LINES {
        wrong.push(format!("ARCHITECTURE.md has {lines} lines, at most {ARCHITECTURE_LINES}"));
    }
    let readme = read("README.md");
    let blocks: Vec<Vec<&str>> = readme
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default().lines().collect())
        .collect();
    if blocks != [vec!["cargo run --release"], vec!["./test"]] {
        wrong.push(format!("README.md has other set-up commands than the two: {blocks:?}"));
    }
    none(wrong, "mend the document");
}

#[test]
fn no_path_of_anyones_machine_is_written_down() {
    let mut wrong = Vec::new();
    let places = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    for path in all_files() {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (at, line) in text.lines().enumerate() {
            if places.iter().any(|place| begins_a_path(line, place)) {
                wrong.push(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    none(wrong, "write paths from the root of the repository");
}

#[test]
fn every_fact_that_is_pushed_occurs_by_name_in_a_test() {
    let mut pushed = BTreeMap::new();
    let mut tested = BTreeSet::new();
    for file in rust_files() {
        let core = file.path.starts_with("crates/mainstay-core/");
        for (line, path) in paths(&file) {
            let [.., kind, variant] = path.as_slice() else { continue };
            let capital = |word: &String| word.starts_with(|c: char| c.is_ascii_uppercase());
            if !kind.ends_with("Fact") || !capital(variant) {
                continue;
            }
            let name = format!("{kind}::{variant}");
            if is_test(&file, line) {
                tested.insert(name);
            } else if core {
                pushed.entry(name).or_insert(format!("{}:{line}", file.path));
            }
        }
    }
    let silent = pushed.iter().filter(|(name, _)| !tested.contains(*name));
    let wrong = silent.map(|(name, place)| format!("{place}: {name}")).collect();
    none(wrong, "add the test that produces it");
}

#[test]
fn ages_cross_the_wire_and_never_times() {
    let mut wrong = Vec::new();
    let files = rust_files();
    for (path, types) in WIRED {
        let path = format!("crates/mainstay-core/src/{path}");
        let Some(file) = files.iter().find(|file| file.path == path) else {
            wrong.push(format!("{path} is not there: mend the list"));
            continue;
        };
        let items = file.tree.items.iter().filter_map(|item| match item {
            syn::Item::Struct(each) => Some((each.ident.to_string(), item)),
            syn::Item::Enum(each) => Some((each.ident.to_string(), item)),
            _ => None,
        });
        let items: Vec<_> = items.collect();
        for name in types.iter().filter(|name| !items.iter().any(|(each, _)| each == *name)) {
            wrong.push(format!("{path} has no {name}: mend the list"));
        }
        let wired = items.iter().filter(|(each, _)| types.is_empty() || types.contains(&&**each));
        for (name, item) in wired {
            let mut found = Paths::default();
            found.visit_item(item);
            let times = found.0.iter().filter(|(_, path)| path.iter().any(|part| part == "Time"));
            wrong.extend(times.map(|(line, _)| format!("{path}:{line}: {name} holds a Time")));
        }
    }
    none(wrong, "say how long ago it was: no two machines' clocks agree");
}

#[test]
fn the_server_holds_no_thresholds_of_its_own() {
    let mut wrong = Vec::new();
    for file in rust_files().iter().filter(|file| floor_of_server(file)) {
        let inside = file.path.trim_start_matches("crates/mainstay-server/src/");
        if SERVER_NUMBERS.iter().any(|(path, _)| inside.starts_with(path)) {
            continue;
        }
        let mut constants = Constants::default();
        constants.visit_file(&file.tree);
        for (line, name) in constants.0 {
            if !is_test(file, line) {
                wrong.push(format!("{}:{line}: {name}", file.path));
            }
        }
    }
    none(wrong, "decide in core, or list the file in SERVER_NUMBERS with its reason");
}

// What the rules are built from.

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn manifest(path: &str) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(wrong: Vec<String>, remedy: &str) {
    assert!(wrong.is_empty(), "\n  {}\n{remedy}", wrong.join("\n  "));
}

/// All files of the repository, but not what building and installing leave in it.
fn all_files() -> Vec<String> {
    fn walk(directory: &Path, root: &Path, found: &mut Vec<String>) {
        let made = ["target", "node_modules", "__pycache__", "shared"];
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type().expect("a type");
            let hidden = name.starts_with('.') && name != ".ci";
            if kind.is_dir() && !hidden && !made.contains(&name.as_str()) {
                walk(&path, root, found);
            } else if kind.is_file() && name != ".git" {
                let path = path.strip_prefix(root).expect("inside");
                found.push(path.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &root(), &mut found);
    found.sort();
    found
}

fn floor_of_server(file: &File) -> bool {
    file.path.starts_with("crates/mainstay-server/src/")
}

fn rust_files() -> Vec<File> {
    let rust = |path: &String| path.starts_with("crates/") && path.ends_with(".rs");
    let parse = |path: String| {
        let text = read(&path);
        let tree = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        File { path, text, tree }
    };
    all_files().into_iter().filter(rust).map(parse).collect()
}

/// Whether `line` of `file` is part of a test: its own file, or behind `#[cfg(test)]`, which stands
/// last in a file.
fn is_test(file: &File, line: usize) -> bool {
    let in_directory = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let start = file.text.lines().position(|each| each.trim() == "#[cfg(test)]");
    in_directory || start.is_some_and(|start| line > start)
}

/// Whether `place` stands at the start of a path in `line`, not in the middle of one.
fn begins_a_path(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && !"./_-}".contains(c))
    })
}

/// Name, line, and whether there is a reason, for each dependency of a manifest. A comment above
/// holds for the lines that follow it without a gap.
fn dependencies(text: &str) -> Vec<(String, usize, bool)> {
    let mut found = Vec::new();
    let (mut inside, mut above) = (false, false);
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.trim_end_matches(']').ends_with("dependencies");
            above = false;
        } else if line.is_empty() {
            above = false;
        } else if line.starts_with('#') {
            above = true;
        } else if inside && let Some((key, value)) = line.split_once('=') {
            let name = key.trim().split('.').next().unwrap_or_default().to_string();
            found.push((name, at + 1, above || value.contains(" # ")));
        }
    }
    found
}

/// Every path in the file with its line: `use` trees spread out, and paths in expressions, types
/// and patterns.
fn paths(file: &File) -> Vec<(usize, Vec<String>)> {
    let mut paths = Paths::default();
    paths.visit_file(&file.tree);
    paths.0
}

#[derive(Default)]
struct Paths(Vec<(usize, Vec<String>)>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let parts = path.segments.iter().map(|part| part.ident.to_string()).collect();
        self.0.push((path.span().start().line, parts));
        visit::visit_path(self, path);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        spread(&item.tree, &mut Vec::new(), &mut self.0);
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        // What a macro is given is tokens; paths in it are found by their `::`.
        let mut words = Vec::new();
        identifiers(mac.tokens.clone(), &mut words);
        let mut path: Vec<String> = Vec::new();
        let (mut line, mut joined) = (0, false);
        for (at, word) in words {
            if word == ":" {
                joined = true;
            } else if joined && !path.is_empty() {
                path.push(word);
                joined = false;
            } else {
                self.0.push((line, std::mem::replace(&mut path, vec![word])));
                (line, joined) = (at, false);
            }
        }
        self.0.push((line, path));
        visit::visit_macro(self, mac);
    }
}

fn spread(tree: &syn::UseTree, head: &mut Vec<String>, found: &mut Vec<(usize, Vec<String>)>) {
    let mut leaf = |ident: &syn::Ident| {
        let parts = head.iter().cloned().chain([ident.to_string()]).collect();
        found.push((ident.span().start().line, parts));
    };
    match tree {
        syn::UseTree::Name(name) => leaf(&name.ident),
        syn::UseTree::Rename(rename) => leaf(&rename.ident),
        syn::UseTree::Glob(glob) => found.push((glob.span().start().line, head.clone())),
        syn::UseTree::Path(path) => {
            head.push(path.ident.to_string());
            spread(&path.tree, head, found);
            head.pop();
        }
        syn::UseTree::Group(group) => {
            group.items.iter().for_each(|item| spread(item, head, found));
        }
    }
}

/// All words and marks of `tokens`, with their lines.
fn identifiers(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => identifiers(group.stream(), found),
            TokenTree::Literal(_) => {}
            TokenTree::Ident(ident) => found.push((ident.span().start().line, ident.to_string())),
            TokenTree::Punct(mark) => {
                found.push((mark.span().start().line, mark.as_char().to_string()));
            }
        }
    }
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    parameters: usize,
}

#[derive(Default)]
struct Functions(Vec<Function>);

impl Functions {
    fn add(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let line = signature.span().start().line;
        let typed = |input: &&syn::FnArg| matches!(input, syn::FnArg::Typed(_));
        self.0.push(Function {
            name: signature.ident.to_string(),
            line,
            lines: body.span().end().line + 1 - line,
            parameters: signature.inputs.iter().filter(typed).count(),
        });
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.add(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }
}

/// Constants whose type is a time or a share.
#[derive(Default)]
struct Constants(Vec<(usize, String)>);

impl Constants {
    fn add(&mut self, name: &syn::Ident, kind: &syn::Type) {
        let syn::Type::Path(path) = kind else { return };
        let last = path.path.segments.last().map(|part| part.ident.to_string());
        if last.is_some_and(|last| ["Duration", "f64", "f32"].contains(&last.as_str())) {
            self.0.push((name.span().start().line, name.to_string()));
        }
    }
}

impl<'ast> Visit<'ast> for Constants {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.add(&item.ident, &item.ty);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.add(&item.ident, &item.ty);
    }
}
