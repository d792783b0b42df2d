//! Every order of events in the life of one request, from its arrival to its end and beyond: the
//! real gateway machine, three sites that fit and one that does not, and whatever can happen to an
//! attempt at every step.
//!
//! The machine is cloned at each branch. Branches that lead to machines with the same text are one
//! branch. What an attempt given up still says arrives after it too.
//!
//! `cargo test -p mainstay-sim --test model_request -- --nocapture` prints what was walked.
//! Tokens are relayed here as the server relays them, which core does not see: what is checked of
//! core is that each attempt starts from the right count. Time passes from one deadline of the
//! machine to the next.

use mainstay_core::fact::{Fact, Why};
use mainstay_core::gateway::joint::Standing;
use mainstay_core::gateway::request::{Broken, Report, Sent};
use mainstay_core::gateway::{Action, Event, Gateway};
use mainstay_core::lease::Terms;
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::{AttemptId, ErrorClass, Failure, RequestId};
use mainstay_core::time::{Duration, Time};
use mainstay_sim::load::ask;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::Upstream;
use mainstay_sim::world::START;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, VecDeque};
use std::fmt::Write;
use std::hash::{Hash, Hasher};
use std::time::Instant;

const REQUEST: RequestId = RequestId(1);
/// The client's patience: the wait for the deadline is one step.
const DEADLINE: Duration = Duration::from_secs(20);
/// The fourth site does not offer what the request needs.
const UNFIT: usize = 3;
/// Tokens of the whole answer.
const TOKENS: u32 = 2;

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Attempt number so gives its next token.
    Token(u8),
    /// It ends whole,
    Whole(u8),
    /// breaks,
    Broken(u8, ErrorClass, Why),
    /// or is refused by a host that is not there: not a byte was sent.
    Unsent(u8),
    /// The client leaves.
    Gone,
    /// Nothing, until the machine's next deadline.
    Wait,
}

/// The machine, the client, and what is left of the attempts.
#[derive(Clone, Debug)]
struct World {
    gateway: Gateway,
    now: Time,
    end: Time,
    /// For each attempt started: the number of its next token.
    attempts: Vec<u32>,
    /// Where each was sent.
    tried: Vec<usize>,
    /// Tokens at the client.
    relayed: u32,
    /// The attempt that runs; 0 if none does.
    runs: u8,
    closed: u8,
    /// Hash of the machine's whole text.
    text: u64,
    wrong: Option<String>,
}

impl World {
    fn new(mutants: Mutants) -> World {
        let sound = || Upstream::new(WEIGHTS[0]);
        let setup = Setup::new(Arrangement::Equal, sound()).equal(sound()).equal(sound());
        let mut setup = setup.target(UNFIT, |target| target.offers.tools = false);
        setup.config.fleet.credit = Terms { mutants, ..Terms::CREDIT };
        let mut world = World {
            gateway: Gateway::new(setup.config, 1),
            now: START,
            end: START + DEADLINE,
            attempts: Vec::new(),
            tried: Vec::new(),
            relayed: 0,
            runs: 0,
            closed: 0,
            text: 0,
            wrong: None,
        };
        let mut ask = ask();
        ask.deadline = Some(DEADLINE);
        ask.needs.tools = true;
        world.tell(Event::Arrive { request: REQUEST, ask });
        world.text = text(&world.gateway);
        world
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.gateway.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Start(start) => {
                    // An attempt goes on from the tokens that were relayed before it.
                    self.attempts.push(self.relayed + 1);
                    self.runs = start.attempt.number;
                    let target = usize::from(start.target.0);
                    self.tried.push(target);
                    let places: BTreeSet<usize> = self.tried.iter().copied().collect();
                    self.claim(target != UNFIT, "I8: only where the request fits");
                    let returns = self.tried.len() - places.len();
                    self.claim(returns <= 1, "I9: at most one return to a site tried before");
                    let number = usize::from(self.runs);
                    self.claim(number == self.attempts.len(), "attempts are numbered in order");
                    self.claim(self.attempts.len() <= 3, "I9: at most three attempts");
                    self.claim(self.closed == 0, "I10: nothing starts after the end");
                }
                Action::Close { .. } => {
                    self.closed += 1;
                    self.runs = 0;
                    self.claim(self.closed == 1, "I10: one outcome");
                    let latest = self.end + Duration::from_secs(1);
                    self.claim(self.now <= latest, "I10: by deadline + 1 s");
                }
                Action::Fact(Fact::AttemptStarted { relayed, .. }) => {
                    let is_known = relayed == self.relayed;
                    self.claim(is_known, "I10: a resume goes on from what the client has");
                }
                Action::Fact(Fact::Closed { attempts, resumes, .. }) => {
                    self.claim(usize::from(attempts) == self.attempts.len(), "all are counted");
                    self.claim(resumes <= 2, "I9: at most two resumes");
                }
                _ => {}
            }
        }
    }

    fn claim(&mut self, is_true: bool, what: &str) {
        if !is_true && self.wrong.is_none() {
            self.wrong = Some(what.into());
        }
    }
}

impl World {
    /// What can happen now. An attempt that was given up may still say anything.
    fn steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Gone, Step::Wait];
        for number in 1..=self.attempts.len() as u8 {
            steps.extend([Step::Token(number), Step::Whole(number), Step::Unsent(number)]);
            for (class, why) in
                [(ErrorClass::Transient, Why::Cut), (ErrorClass::Overload, Why::Reply)]
            {
                steps.push(Step::Broken(number, class, why));
            }
        }
        steps
    }

    fn take(&mut self, step: Step) {
        let before = self.text;
        let by = match step {
            Step::Token(by) | Step::Whole(by) | Step::Unsent(by) | Step::Broken(by, ..) => by,
            Step::Gone | Step::Wait => 0,
        };
        let is_old = by != 0 && by != self.runs;
        if !is_old && !matches!(step, Step::Token(_) | Step::Wait) {
            self.runs = 0;
        }
        match step {
            Step::Token(number) => self.token(number),
            Step::Whole(number) => {
                let report = self.report();
                self.tell(Event::Whole { attempt: attempt(number), report });
            }
            Step::Broken(number, class, why) => self.broken(number, class, why, Sent::Maybe),
            Step::Unsent(number) => {
                self.broken(number, ErrorClass::Transient, Why::Reply, Sent::Nothing);
            }
            Step::Gone => {
                let report = self.report();
                self.tell(Event::Gone { request: REQUEST, report });
            }
            Step::Wait => {
                let Some((at, _)) = self.gateway.deadline() else { return };
                self.now = self.now.max(at);
                self.tell(Event::Tick);
            }
        }
        self.text = text(&self.gateway);
        let is_fenced = !is_old || before == self.text;
        self.claim(is_fenced, "I10: what an attempt given up says changes nothing");
        let is_late = self.now >= self.end;
        self.claim(!is_late || self.closed == 1, "I10: by deadline + 1 s");
    }

    /// A token comes. As the relay does: only the next number goes to the client, and only of the
    /// attempt that runs.
    fn token(&mut self, number: u8) {
        let next = self.attempts[usize::from(number) - 1];
        let runs = number == self.runs;
        let after = Duration::from_millis(100);
        self.tell(Event::FirstToken { attempt: attempt(number), after });
        self.attempts[usize::from(number) - 1] = (next + 1).min(TOKENS + 1);
        if runs && next <= TOKENS {
            self.claim(next == self.relayed + 1, "I10: no token twice, none left out");
            self.relayed = next;
        }
    }

    fn broken(&mut self, number: u8, class: ErrorClass, why: Why, sent: Sent) {
        let broken = Broken {
            failure: Failure::ours(class, ""),
            why,
            sent,
            stale: false,
            quiet: Duration::from_millis(100),
            report: self.report(),
        };
        self.tell(Event::Broken { attempt: attempt(number), broken });
    }

    fn report(&self) -> Report {
        let has_some = self.relayed > 0;
        let standing = Standing {
            tokens: self.relayed,
            answered: has_some,
            relayed: has_some,
            ..Standing::default()
        };
        Report { tokens: self.relayed, standing, ..Report::default() }
    }

    /// The same number for worlds that say the same of themselves. How far attempts given up have
    /// come is left out: they never run again, and nothing they say may change anything.
    fn print(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let runs = usize::from(self.runs).checked_sub(1).map(|at| self.attempts[at]);
        (self.text, self.now, self.attempts.len(), runs, &self.tried).hash(&mut hasher);
        (self.relayed, self.runs, self.closed).hash(&mut hasher);
        hasher.finish()
    }
}

/// Writes text into a hash.
struct Hashed(DefaultHasher);

impl Write for Hashed {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn text(gateway: &Gateway) -> u64 {
    let mut hashed = Hashed(DefaultHasher::new());
    write!(hashed, "{gateway:?}").expect("a hash takes everything");
    hashed.0.finish()
}

fn attempt(number: u8) -> AttemptId {
    AttemptId { request: REQUEST, number }
}

/// What a walk found.
struct Walk {
    states: usize,
    depth: usize,
    wrong: Option<(String, Vec<Step>)>,
}

/// Walks breadth-first; the first breach with the shortest way to it, or how many worlds there are.
fn walk(mutants: Mutants) -> Walk {
    let mut seen = BTreeSet::new();
    let mut depth = 0;
    let mut open = VecDeque::from([(World::new(mutants), Vec::new())]);
    while let Some((world, story)) = open.pop_front() {
        for step in world.steps() {
            let mut next = world.clone();
            next.take(step);
            let mut told: Vec<Step> = story.clone();
            told.push(step);
            if let Some(wrong) = next.wrong.take() {
                return Walk { states: seen.len(), depth, wrong: Some((wrong, told)) };
            }
            if seen.insert(next.print()) {
                depth = told.len();
                open.push_back((next, told));
            }
        }
    }
    Walk { states: seen.len(), depth, wrong: None }
}

#[test]
fn a_request_ends_once_after_at_most_three_attempts_whatever_happens_to_them() {
    let begun = Instant::now();
    let Walk { states, depth, wrong } = walk(Mutants::NONE);
    let took = begun.elapsed().as_secs_f64();
    println!("request: {states} states, depth {depth}, {took:.1} s");
    assert_eq!(wrong, None);
}

#[test]
fn the_fence_and_the_one_outcome_are_needed() {
    println!("  | without | counter-example |");
    for rule in [Mutant::OldAttemptUnfenced, Mutant::OutcomeByBoth] {
        let Some((wrong, story)) = walk(Mutants::without(rule)).wrong else {
            panic!("{rule:?} survives")
        };
        println!("  | {rule:?} | {} steps |\n      {wrong}: {story:?}", story.len());
    }
}

/// A hundred requests at once, each of which fails wherever it is tried.
fn retries(mutants: Mutants) -> usize {
    let mut setup = Setup::new(Arrangement::Equal, Upstream::new(WEIGHTS[0]));
    setup.config.fleet.credit = Terms { mutants, ..Terms::CREDIT };
    let mut gateway = Gateway::new(setup.config, 1);
    let mut retries = 0;
    for number in 0..100 {
        let request = RequestId(number);
        let mut actions = Vec::new();
        gateway.handle(START, Event::Arrive { request, ask: ask() }, &mut actions);
        for number in 1..=3 {
            let broken = Broken {
                failure: Failure::ours(ErrorClass::Transient, ""),
                why: Why::Mismatch,
                sent: Sent::Maybe,
                stale: false,
                quiet: Duration::ZERO,
                report: Report::default(),
            };
            let attempt = AttemptId { request, number };
            gateway.handle(START, Event::Broken { attempt, broken }, &mut actions);
        }
        let starts = actions.iter().filter(|action| matches!(action, Action::Start(_))).count();
        retries += starts.saturating_sub(1);
    }
    retries
}

#[test]
fn retries_stay_within_a_tenth_and_the_bucket_only_because_they_are_rationed() {
    let (with, without) =
        (retries(Mutants::NONE), retries(Mutants::without(Mutant::NoRetryBudget)));
    println!("  | NoRetryBudget | {without} retries of 100 requests instead of {with} |");
    assert!(with <= 20, "{with}");
    assert!(without > 20, "{without}");
}
