//! Every input sequence of the health automaton, breadth first over its ages.
//!
//! I12: at most six moves between up and not up in any half-open ten minutes. L5: from any state a
//! target that answers again is back in time, whatever its probes say.
//!
//! The automaton runs as it is, with the times of `Timing` scaled to a few ticks. Nothing but
//! differences of times and `Timing`'s constants enters its rules, so scaling both changes no
//! decision; what a coarse clock leaves out is events between two ticks. For those I12 follows
//! from two facts that the search checks at every step: a third departure within `memory` latches,
//! and a latched target returns no sooner than `memory` after its departure. Seven moves in a row
//! hold three departures and a return after the third; all within `memory`, the third latched, and
//! the return came `memory` later, outside of the half-open window.

use mainstay_core::fact::Verdict;
use mainstay_core::gateway::health::{Aged, Change, Health, Timing, Views};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::time::{Duration, Time};
use std::collections::{HashSet, VecDeque};
use std::time::Instant;

const fn ticks(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// One strike condemns and one good answer clears: whatever the real counts and windows allow at
/// some moment, this allows at that moment.
const COARSE: Timing = Timing {
    strikes: 1,
    strike_span: ticks(0),
    windows: [(ticks(0), u32::MAX); 2],
    moment: ticks(0),
    kept: 1,
    missed: [1, 1],
    idle: ticks(0),
    clearing: 1,
    down_after: ticks(1),
    hold: [ticks(1), ticks(2)],
    unproved: ticks(2),
    proving: (1, ticks(1)),
    memory: ticks(7),
    pace: [ticks(1), ticks(1)],
    lacking: ticks(2),
};

/// The counts and windows themselves, over a shorter memory.
const FINE: Timing = Timing {
    strikes: 2,
    strike_span: ticks(1),
    windows: [(ticks(1), 2), (ticks(2), 3)],
    kept: 3,
    missed: [2, 2],
    idle: ticks(1),
    clearing: 2,
    proving: (2, ticks(1)),
    memory: ticks(4),
    ..COARSE
};

/// Moves that a window may hold.
const MOVES: usize = 6;

#[derive(Clone, Copy, Debug)]
enum Input {
    Tick,
    Good,
    Strike(Views),
    Shallow(bool),
    Token(bool),
    Pass,
}

const PEERS_UP: Views = Views { up: 2, not_up: 0, in_doubt: false };
const IN_DOUBT: Views = Views { up: 0, not_up: 2, in_doubt: true };
const INPUTS: [Input; 10] = [
    Input::Tick,
    Input::Good,
    Input::Strike(Views::ALONE),
    Input::Strike(PEERS_UP),
    Input::Strike(IN_DOUBT),
    Input::Shallow(true),
    Input::Shallow(false),
    Input::Token(true),
    Input::Token(false),
    Input::Pass,
];

/// The automaton, and what a watcher remembers of the present window.
#[derive(Clone)]
struct Node {
    health: Health,
    now: Time,
    moves: VecDeque<Time>,
    left: Time,
    depth: u32,
}

#[derive(PartialEq, Eq, Hash)]
struct Key(Aged, Vec<Duration>, Duration);

struct Search {
    timing: &'static Timing,
    states: usize,
    broken: Option<(&'static str, u32)>,
}

impl Node {
    fn first(timing: &'static Timing, mutants: Mutants) -> Node {
        Node {
            health: Health::new(timing, mutants),
            now: Time::ZERO,
            moves: VecDeque::new(),
            left: Time::ZERO,
            depth: 0,
        }
    }

    fn key(&self, timing: &Timing) -> Key {
        let moves = self.moves.iter().map(|at| self.now.since(*at)).collect();
        let is_gone = self.health.verdict() != Verdict::Up;
        let left = if is_gone { self.now.since(self.left).min(timing.memory) } else { ticks(0) };
        Key(self.health.aged(self.now), moves, left)
    }

    fn apply(&mut self, input: Input) -> Option<Change> {
        let (health, now) = (&mut self.health, self.now);
        match input {
            Input::Tick => {
                self.now = now + ticks(1);
                None
            }
            Input::Good => health.good(now),
            Input::Strike(views) => health.strike(now, views),
            Input::Shallow(good) => health.shallow(now, good, true),
            Input::Token(good) => health.token(now, good, true),
            Input::Pass => health.pass(now),
        }
    }

    /// Takes one input and says which rule it broke.
    fn step(&mut self, input: Input, timing: &Timing) -> Option<&'static str> {
        self.depth += 1;
        let was_latched = self.health.is_latched();
        let change = self.apply(input);
        while self.moves.front().is_some_and(|at| self.now.since(*at) >= timing.memory) {
            self.moves.pop_front();
        }
        let change = change?;
        if (change.from == Verdict::Up) == (change.to == Verdict::Up) {
            return None;
        }
        self.moves.push_back(self.now);
        if self.moves.len() > MOVES {
            return Some("I12: seven moves in a window");
        }
        if change.from == Verdict::Up {
            self.left = self.now;
            return None;
        }
        let is_soon = self.now.since(self.left) < timing.memory;
        (was_latched && is_soon).then_some("a latched target returned within the memory")
    }

    /// Only good answers from now on, whenever the trickle lets a request through, while probes go
    /// on failing: how long until it is up.
    fn recovers_after(&self, most: u64) -> Option<u64> {
        let mut node = self.clone();
        // The worst case: the trickle's turn has just been used.
        node.health.takes_trickle(node.now);
        for waited in 0..=most {
            if node.health.verdict() == Verdict::Up {
                return Some(waited);
            }
            node.health.token(node.now, false, true);
            node.health.pass(node.now);
            // A scaled trickle may let one request through in a tick where the real one lets
            // through thirty, so that one stands for as many as are counted.
            if node.health.takes_trickle(node.now) {
                for _ in 0..2 {
                    node.health.good(node.now);
                }
            }
            node.now = node.now + ticks(1);
        }
        None
    }
}

/// Longest way back in ticks: the longer hold, a turn of the single tries, one of the trickle, and
/// the proof; for a latched target the proof takes the whole memory.
fn bound(timing: &Timing, is_latched: bool) -> u64 {
    let proof = if is_latched { timing.memory } else { timing.proving.1 };
    (timing.hold[1] + timing.pace[1] + timing.pace[0] * 2 + proof).as_secs()
}

fn search(timing: &'static Timing, mutants: Mutants) -> Search {
    let first = Node::first(timing, mutants);
    let mut seen = HashSet::from([first.key(timing)]);
    let mut front = VecDeque::from([first]);
    let mut broken = None;
    let mut returned: HashSet<Aged> = HashSet::new();
    'all: while let Some(node) = front.pop_front() {
        // The way back does not depend on what the watcher remembers.
        let is_new = returned.insert(node.health.aged(node.now));
        if is_new && node.recovers_after(bound(timing, node.health.is_latched())).is_none() {
            broken = Some(("L5: not back in time", node.depth));
            break;
        }
        for input in INPUTS {
            let mut next = node.clone();
            if let Some(rule) = next.step(input, timing) {
                broken = Some((rule, next.depth));
                break 'all;
            }
            if seen.insert(next.key(timing)) {
                front.push_back(next);
            }
        }
    }
    Search { timing, states: seen.len(), broken }
}

fn told(name: &str, began: Instant, search: &Search) {
    let seconds = began.elapsed().as_secs_f64();
    let memory = search.timing.memory.as_secs();
    println!("{name}: memory {memory}, {} states, {seconds:.1} s", search.states);
    if let Some((rule, inputs)) = search.broken {
        println!("{name}: {rule}, after {inputs} inputs");
    }
}

#[test]
fn no_sequence_moves_a_target_more_than_six_times_in_a_window_and_all_lead_back_in_time() {
    for (name, timing) in [("coarse", &COARSE), ("fine", &FINE)] {
        let began = Instant::now();
        let search = search(timing, Mutants::NONE);
        told(name, began, &search);
        assert_eq!(search.broken, None);
    }
}

#[test]
fn published_times_bring_a_target_back_in_five_minutes_or_fifteen_when_latched() {
    let timing = &Timing::PUBLISHED;
    // The ramp of the site itself, five steps of thirty seconds, comes on top.
    let proved = u64::from(timing.proving.0) * timing.pace[0].as_secs();
    assert!(bound(timing, false) + proved + 150 <= 300);
    assert!(bound(timing, true) + proved + 150 <= 900);
}

#[test]
fn each_rule_taken_away_has_a_counter_example() {
    for rule in [Mutant::LatchCountsOnlyDown, Mutant::NoLatch, Mutant::ProbeVetoesReturn] {
        let began = Instant::now();
        let search = search(&COARSE, Mutants::without(rule));
        told(&format!("{rule:?}"), began, &search);
        assert!(search.broken.is_some(), "{rule:?} survived");
    }
}
