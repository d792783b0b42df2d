//! One model at one site, as it is played: what it says, how fast, and when it does what wrong.
//!
//! Its rules are read from the top; the first whose conditions all hold says what an attempt gets.
//! It counts as a provider would: what it let in, a second, at once, and lately.

use crate::script::{Break, Fault, Item, Pace, Piece, Script, play};
use crate::words::{answer, continuation};
use mainstay_core::fact::{How, Rung};
use mainstay_core::gateway::Start;
use mainstay_core::gateway::request::Ask;
use mainstay_core::names::{AttemptId, ErrorClass, Failure};
use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, VecDeque};

/// How it takes a request to go on from a partial answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefill {
    /// Goes on.
    Takes,
    /// Goes on, but says the partial answer again first, if it has eight bytes: of a shorter one
    /// nobody can tell whether it is an echo or a word said twice.
    Echoes,
    /// Ignores it and begins anew.
    Restarts,
    /// Refuses it.
    Refuses,
}

/// When a rule holds.
#[derive(Clone, Debug)]
pub enum When {
    /// For its first attempts.
    First(u32),
    /// After so many attempts.
    After(u32),
    /// Between these times since the start.
    Within(Duration, Duration),
    /// For the first part of every period.
    Flap { period: Duration, down: Duration },
    /// Once so many were let in this second.
    PerSecond(u32),
    /// While so many are in flight.
    Concurrent(u32),
    /// Where it would let in this many times what it let in over the ten seconds before the last
    /// ten; below `free` in ten seconds never.
    Growth { times: f64, free: u32 },
    /// With this chance.
    Chance(f64),
    /// For a prompt longer than this.
    Prompt(u32),
    /// For a body larger than this.
    Body(u64),
    /// While nothing has been relayed.
    Fresh,
}

/// What an attempt gets.
#[derive(Clone, Debug)]
pub enum Does {
    /// The answer, whole.
    Answers,
    /// The answer, with its first token this late.
    Late(Duration),
    /// An error as its reply.
    Refuses(Failure),
    /// An error as its reply, this late.
    RefusesLate(Failure, Duration),
    /// A connection reset before any reply.
    Resets,
    /// No connection.
    Unreachable,
    /// No byte.
    Silent,
    /// Comments without end.
    Comments(Duration),
    /// A whole answer with nothing in it.
    Empty,
    /// Some tokens of the answer, then a fault.
    Breaks(u32, Break),
    /// So many tokens of reasoning; then the answer, or a cut.
    Thinks { tokens: u32, cut: bool },
}

/// One rule: what happens when.
#[derive(Clone, Debug)]
pub struct Rule {
    /// All must hold.
    pub when: Vec<When>,
    /// Then this is what an attempt gets.
    pub does: Does,
}

/// What an upstream saw of one attempt.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Whose.
    pub attempt: AttemptId,
    /// When it came.
    pub at: Time,
    /// As what.
    pub how: How,
    /// Whether it was let in.
    pub let_in: bool,
    /// When it was closed by either side.
    pub closed: Option<Time>,
}

/// One upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Equal numbers say equal words.
    pub weights: u64,
    /// How fast it answers.
    pub pace: Pace,
    /// Tokens of its answers.
    pub tokens: u32,
    /// What it makes of a partial answer.
    pub prefill: Prefill,
    /// What goes wrong.
    pub rules: Vec<Rule>,
    /// What it saw.
    pub seen: Vec<Seen>,
    open: BTreeMap<AttemptId, usize>,
    in_flight: u32,
    second: (u64, u32),
    accepted: VecDeque<Time>,
}

/// What is asked in one attempt.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The machine's order.
    pub start: &'a Start,
    /// What the client asked.
    pub ask: &'a Ask,
    /// Text and tokens that the client has.
    pub relayed: (&'a str, u32),
}

/// What an attempt gets, and what its answer would be if it came whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What comes.
    pub script: Script,
    /// The whole text of each choice, or of what it would add to a partial answer.
    pub texts: Vec<String>,
}

const ROUND_TRIP: Duration = Duration::from_millis(10);
const TEN: Duration = Duration::from_secs(10);

impl Upstream {
    /// One that answers sixty tokens in a second.
    pub fn new(weights: u64) -> Upstream {
        let pace = Pace { first: Duration::from_millis(100), gap: Duration::from_millis(15) };
        Upstream {
            weights,
            pace,
            tokens: 60,
            prefill: Prefill::Takes,
            rules: Vec::new(),
            seen: Vec::new(),
            open: BTreeMap::new(),
            in_flight: 0,
            second: (0, 0),
            accepted: VecDeque::new(),
        }
    }

    /// With one more rule, read after those before it.
    pub fn rule(mut self, when: &[When], does: Does) -> Upstream {
        self.rules.push(Rule { when: when.to_vec(), does });
        self
    }

    /// With answers of so many tokens.
    pub fn tokens(mut self, tokens: u32, gap: Duration) -> Upstream {
        self.tokens = tokens;
        self.pace.gap = gap;
        self
    }

    /// With another way to take a partial answer.
    pub fn prefill(mut self, prefill: Prefill) -> Upstream {
        self.prefill = prefill;
        self
    }

    /// Attempts begun between two times.
    pub fn attempts(&self, from: Time, until: Time) -> usize {
        self.seen.iter().filter(|seen| seen.at >= from && seen.at < until).count()
    }

    /// An attempt comes in, `age` after the start of everything.
    pub fn open(&mut self, now: Time, age: Duration, call: &Call<'_>, rng: &mut Rng) -> Reply {
        let does = self.judge(now, age, call, rng);
        let let_in = !matches!(
            does,
            Does::Refuses(_) | Does::RefusesLate(..) | Does::Unreachable | Does::Resets
        );
        let attempt = call.start.attempt;
        self.open.insert(attempt, self.seen.len());
        self.seen.push(Seen { attempt, at: now, how: call.start.how, let_in, closed: None });
        if let_in {
            self.in_flight += 1;
            self.second.1 += 1;
            self.accepted.push_back(now);
        }
        let choices = self.answers(call);
        let mut texts: Vec<String> = choices.iter().map(|words| words.concat()).collect();
        let is_native = call.start.how == How::Resume(Rung::Native);
        if is_native && self.prefill == Prefill::Restarts {
            // It should have gone on; whatever else it says must not reach the client.
            let request = (attempt.request, call.ask.choices.max(1));
            let (rest, _) = continuation(self.weights, request, self.tokens, call.relayed);
            texts = vec![rest.concat()];
        }
        if is_native && self.prefill == Prefill::Refuses && let_in {
            let class = ErrorClass::ClientFault(mainstay_core::names::ClientFault::Unsupported);
            let refusal = Failure::ours(class, "the last message must be the user's");
            return Reply { script: refuse(refusal, ROUND_TRIP), texts };
        }
        Reply { script: self.script(does, &choices, call), texts }
    }

    /// The attempt is over, by whoever's hand.
    pub fn close(&mut self, now: Time, attempt: AttemptId) {
        let Some(at) = self.open.remove(&attempt) else { return };
        self.seen[at].closed = Some(now);
        self.in_flight -= u32::from(self.seen[at].let_in);
    }

    fn answers(&self, call: &Call<'_>) -> Vec<Vec<String>> {
        let (request, asked) = (call.start.attempt.request, call.ask.choices.max(1));
        let is_native = call.start.how == How::Resume(Rung::Native);
        if is_native && self.prefill != Prefill::Restarts {
            let told = call.relayed;
            return vec![continuation(self.weights, (request, asked), self.tokens, told).0];
        }
        let choices = if call.start.only_choice.is_some() { 1 } else { asked };
        let words = |choice| answer(self.weights, (request, choice), self.tokens);
        (0..choices).map(|c| words(c).iter().map(|word| word.to_string()).collect()).collect()
    }

    fn judge(&mut self, now: Time, age: Duration, call: &Call<'_>, rng: &mut Rng) -> Does {
        let second = now.as_micros() / 1_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        while self.accepted.front().is_some_and(|at| now.since(*at) >= 2 * TEN) {
            self.accepted.pop_front();
        }
        let rules = std::mem::take(&mut self.rules);
        let holds = |rule: &&Rule| rule.when.iter().all(|when| self.holds(when, (now, age), call));
        let chance = |rule: &&Rule, rng: &mut Rng| {
            rule.when.iter().all(|when| match when {
                When::Chance(chance) => rng.unit() < *chance,
                _ => true,
            })
        };
        let first = rules.iter().filter(holds).find(|rule| chance(rule, rng));
        let does = first.map_or(Does::Answers, |rule| rule.does.clone());
        self.rules = rules;
        does
    }

    fn holds(&self, when: &When, (now, age): (Time, Duration), call: &Call<'_>) -> bool {
        match when {
            When::First(most) => self.seen.len() < *most as usize,
            When::After(least) => self.seen.len() >= *least as usize,
            When::Within(from, until) => age >= *from && age < *until,
            When::Flap { period, down } => age.as_micros() % period.as_micros() < down.as_micros(),
            When::PerSecond(most) => self.second.1 >= *most,
            When::Concurrent(most) => self.in_flight >= *most,
            When::Growth { times, free } => {
                let lately = self.accepted.iter().filter(|at| now.since(**at) < TEN).count();
                let before = self.accepted.len() - lately;
                lately >= *free as usize && lately as f64 >= times * before as f64
            }
            When::Chance(_) => true,
            When::Prompt(most) => call.ask.prompt > *most,
            When::Body(most) => call.ask.body > *most,
            When::Fresh => call.relayed.1 == 0,
        }
    }

    fn script(&self, does: Does, choices: &[Vec<String>], call: &Call<'_>) -> Script {
        let pace = self.pace;
        let mut choices = choices.to_vec();
        let is_native = call.start.how == How::Resume(Rung::Native);
        if is_native && self.prefill == Prefill::Echoes && call.relayed.0.len() >= 8 {
            choices[0].insert(0, call.relayed.0.to_string());
        }
        match does {
            Does::Answers => play(&choices, pace, None),
            Does::Late(first) => play(&choices, Pace { first, ..pace }, None),
            Does::Refuses(failure) => refuse(failure, ROUND_TRIP),
            Does::RefusesLate(failure, after) => refuse(failure, after),
            Does::Resets => Script::only(ROUND_TRIP, Item::Broken(Fault::reset())),
            Does::Unreachable => Script::only(ROUND_TRIP / 5, Item::Broken(Fault::refused())),
            Does::Silent => Script::only(Duration::from_secs(120), Item::Broken(Fault::cut())),
            Does::Comments(every) => {
                let mut script = Script::default();
                (0..200).for_each(|_| script.then(every, Item::Life));
                script
            }
            Does::Empty => {
                let stop = crate::script::Finish::Stop;
                let last = Piece { finish: Some(stop), ..Piece::default() };
                let mut script = Script::only(pace.first, Item::Piece(last));
                script.then(Duration::ZERO, Item::Usage(0));
                script.then(Duration::ZERO, Item::End);
                script
            }
            Does::Breaks(after, how) => play(&choices, pace, Some((after, &how))),
            Does::Thinks { tokens, cut } => think(&choices, pace, (tokens, cut)),
        }
    }
}

fn refuse(failure: Failure, after: Duration) -> Script {
    Script::only(after, Item::Broken(Fault::reply(failure)))
}

fn think(choices: &[Vec<String>], pace: Pace, (tokens, cut): (u32, bool)) -> Script {
    let mut script = Script::only(pace.first, Item::Life);
    for _ in 0..tokens {
        let piece = Piece { reasoning: "hm ".into(), ..Piece::default() };
        script.then(pace.gap, Item::Piece(piece));
    }
    if cut {
        script.then(pace.gap, Item::Broken(Fault::cut()));
        return script;
    }
    let start = script.items.last().map_or(pace.first, |(at, _)| *at);
    let rest = play(choices, Pace { first: pace.gap, ..pace }, None);
    script.items.extend(rest.items.into_iter().map(|(at, item)| (start + at, item)));
    script
}
