//! Answers that are cut at random places: one process writes and is killed, another takes its
//! journal up. What both wrote must be what one alone writes, byte for byte.

use mainstay_engine::{Engine, Form, Grammar, Journal, Progress, Sampling, Settings, Work};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

/// What a process is to do.
#[derive(Serialize, Deserialize)]
pub struct Errand {
    pub case: u64,
    pub journal: Option<Journal>,
}

/// What it says after each token.
#[derive(Serialize, Deserialize)]
struct Line {
    text: String,
    journal: Option<Journal>,
}

/// Stands before each line, so that whatever else is written does no harm.
const MARK: &str = "@line ";

/// How the first and the second process are set up: nothing of this may show in the answer.
pub fn settings(is_second: bool) -> Settings {
    let usual = Settings { cache_bytes: 8 << 20, threads: 1, ..Settings::default() };
    match is_second {
        false => usual,
        true => Settings { page_tokens: 8, prefill_chunk: 7, threads: 2, ..usual },
    }
}

/// The process that is killed, and the one that goes on: reads its errand, writes its lines.
pub fn work_on_errand(load: impl Fn(Settings) -> Engine) {
    let mut errand = String::new();
    std::io::stdin().read_line(&mut errand).expect("an errand");
    let Errand { case, journal } = serde_json::from_str(&errand).expect("an errand");
    let mut engine = load(settings(journal.is_some()));
    let work = Work { journal, ..work(case, &engine) };
    write(&mut engine, work, |line| {
        let line = serde_json::to_string(&line).expect("text and numbers");
        let mut out = std::io::stdout().lock();
        // Whoever read enough kills this process; until then it may write into nothing.
        let _ = writeln!(out, "{MARK}{line}").and_then(|()| out.flush());
    });
}

/// The same answer without a cut.
pub fn whole(engine: &mut Engine, case: u64) -> (String, usize) {
    let (mut text, mut tokens) = (String::new(), 0);
    let work = work(case, engine);
    write(engine, work, |line| {
        text.push_str(&line.text);
        tokens += 1;
    });
    (text, tokens)
}

/// What two processes write together when the first is killed after `cut` tokens. `command` starts
/// one that calls `work_on_errand`.
pub fn cut(command: &dyn Fn() -> Command, case: u64, cut: usize) -> String {
    let (mut text, journal) = run(command(), &Errand { case, journal: None }, cut);
    if let Some(journal) = journal {
        assert_eq!(journal.tokens.len(), cut, "a journal after each token");
        text += &run(command(), &Errand { case, journal: Some(journal) }, usize::MAX).0;
    }
    text
}

/// The first `most` lines of a process, which is then killed, and its journal where it was.
fn run(mut command: Command, errand: &Errand, most: usize) -> (String, Option<Journal>) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("another process");
    let mut input = child.stdin.take().expect("its input");
    let errand = serde_json::to_string(errand).expect("numbers");
    writeln!(input, "{errand}").expect("it reads its errand");
    let output = BufReader::new(child.stdout.take().expect("its output"));
    let lines = output.lines().map_while(Result::ok);
    let (mut text, mut journal) = (String::new(), None);
    let lines = lines.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned()));
    for line in lines.take(most) {
        let line: Line = serde_json::from_str(&line).expect("a whole line");
        text.push_str(&line.text);
        journal = line.journal;
    }
    // SIGKILL: nothing of it gets to say goodbye.
    let _ = child.kill();
    child.wait().expect("it ends");
    (text, journal)
}

fn write(engine: &mut Engine, work: Work, mut tell: impl FnMut(Line)) {
    let id = engine.submit(work).expect("the request is right");
    let mut reports: Vec<Progress> = Vec::new();
    while !engine.is_idle() {
        reports.clear();
        engine.step(&mut reports);
        for report in reports.drain(..) {
            tell(Line { text: report.text, journal: engine.journal(id) });
        }
    }
}

/// Requests that use everything an answer's future depends on: sampling, penalties, biases, stop
/// strings, a grammar.
fn work(case: u64, engine: &Engine) -> Work {
    let vocabulary = engine.model().vocabulary as u64;
    let id = |at: u64| (20 + (at * (case * 37 + 11)) % (vocabulary - 20)) as u32;
    let schema = json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 24 },
            "up": { "type": "boolean" },
            "counts": { "type": "array", "items": { "type": "integer" }, "maxItems": 4 },
        },
        "required": ["name", "up", "counts"],
        "additionalProperties": false,
    });
    let held = case
        .is_multiple_of(3)
        .then(|| Grammar { form: Form::JsonSchema(schema), begun: String::new() });
    let penalty = if case.is_multiple_of(2) { 0.3 } else { 0.0 };
    let stop = if case % 4 == 1 { vec!["e t".into(), "zz".into(), "11".into()] } else { vec![] };
    Work {
        prompt: (1..5 + case % 60).map(id).collect(),
        sampling: Sampling {
            temperature: 0.9,
            top_k: 60,
            top_p: 0.95,
            min_p: 0.01,
            presence_penalty: penalty,
            frequency_penalty: penalty,
            repetition_penalty: 1.0 + penalty / 2.0,
            bias: vec![(id(1), 1.5), (id(2), -100.0)],
            seed: Some(case),
        },
        max_tokens: 12 + (case * 7 % 50) as usize,
        stop,
        grammar: held,
        ..Work::default()
    }
}
