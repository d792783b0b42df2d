//! Every order of events in which two controllers and the workers of a site decide who controls
//! it: never two at once, and no worker goes back to the work of an earlier term.
//!
//! The controllers and workers are those of `mainstay_core::office`. Any message may be lost, late
//! or overtaken, which contains every link that works one way only. Both controllers ask whenever
//! they like: when a stand-by should is not part of what is proved.
//!
//! `cargo test -p mainstay-sim --test model_office -- --nocapture` prints states and
//! counter-examples; `MAINSTAY_MODEL=large` adds asks, work and faults.

#[path = "model/table.rs"]
mod table;

use mainstay_core::lease::Terms;
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::office::{Answer, Ask, Office, Vote};
use mainstay_core::time::{Duration, Time};
use stateright::{Model, Property};
use std::collections::BTreeSet;

/// Present, on everybody's clock: states are kept relative to it.
const NOW: Time = Time::from_micros(100);
const TICK: Duration = Duration::from_micros(1);
const WORKERS: usize = 3;
/// Asks of one life are numbered below this.
const LIFE: u64 = 100;

const ONE: &str = "I3: at most one controller can grant";
const RISING: &str = "I3: a later term has a higher epoch";
const ORDER: &str = "I3: no worker goes back to the work of an earlier term";

/// One configuration.
#[derive(Clone)]
struct Votes {
    terms: Terms,
    /// Epoch on the stand-by's disk.
    last: u32,
    /// Rounds of asks of each controller.
    asks: [u8; 2],
    /// Pieces of work that are sent out.
    works: u8,
    /// Workers that work is sent to, first to last.
    employed: usize,
    /// Nothing more is asked while so many asks and answers are under way.
    flight: usize,
    /// Controllers that die, and lose their disk.
    crashes: u8,
    /// Workers that die; what they have seen is on their disk,
    restarts: u8,
    /// or not.
    is_disk_lost: bool,
}

impl Votes {
    fn new(mutants: Mutants) -> Votes {
        let terms = Terms { lease: TICK, drift: TICK, mutants };
        let (asks, works, flight) = ([1, 1], 2, 1);
        Votes {
            terms,
            last: 2,
            asks,
            works,
            flight,
            employed: 1,
            crashes: 0,
            restarts: 0,
            is_disk_lost: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    offices: [Office; 2],
    votes: [Vote; WORKERS],
    /// Epoch of the last work that each worker took.
    ran: [u32; WORKERS],
    is_backwards: bool,
    /// Epochs of the terms there were and lives of their controllers, in order.
    terms: Vec<(u32, u8)>,
    lives: [u8; 2],
    asked: [u8; 2],
    works: u8,
    crashes: u8,
    restarts: u8,
    said: BTreeSet<Message>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Ask { from: usize, worker: usize, ask: Ask },
    Answer { worker: usize, to: usize, answer: Answer },
    Work { worker: usize, epoch: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Tick,
    /// A controller asks all workers.
    Ask {
        from: usize,
    },
    /// A controller sends out work.
    Dispatch {
        from: usize,
        worker: usize,
    },
    /// A message arrives.
    Arrives(Message),
    /// A message is lost.
    Lost(Message),
    /// A controller starts again and knows nothing.
    Crash {
        controller: usize,
    },
    /// A worker starts again.
    Restart {
        worker: usize,
    },
}

impl Votes {
    fn arrives(&self, state: &mut State, message: Message) {
        state.said.remove(&message);
        match message {
            Message::Ask { from, worker, ask } => {
                let answer = state.votes[worker].ask(NOW, from as u32, ask, &self.terms);
                state.said.insert(Message::Answer { worker, to: from, answer });
            }
            Message::Answer { worker, to, answer } => {
                state.offices[to].answer(NOW, worker, answer, &self.terms);
            }
            Message::Work { worker, epoch } => {
                if state.votes[worker].takes(epoch, &self.terms) {
                    state.is_backwards |= epoch < state.ran[worker];
                    state.ran[worker] = epoch;
                }
            }
        }
    }

    /// An answer that changes nothing now never will, and need not be kept.
    fn forget_void(&self, state: &mut State) {
        let State { said, offices, .. } = state;
        said.retain(|message| match *message {
            Message::Ask { .. } | Message::Work { .. } => true,
            Message::Answer { worker, to, answer } => {
                let mut office = offices[to].clone();
                office.answer(NOW, worker, answer, &self.terms);
                office != offices[to] || answer.seen > office.epoch()
            }
        });
    }
}

impl Model for Votes {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let office = |place, last| Office::new((place, 2), WORKERS as u16, last, 0);
        vec![State {
            offices: [office(0, 1), office(1, self.last)],
            votes: [Vote::first(), Vote::first(), Vote::first()],
            ran: [0; WORKERS],
            is_backwards: false,
            terms: Vec::new(),
            lives: [0; 2],
            asked: [0; 2],
            works: 0,
            crashes: 0,
            restarts: 0,
            said: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        steps.push(Step::Tick);
        let talk = state.said.iter().filter(|said| !matches!(said, Message::Work { .. }));
        let has_room = talk.count() < self.flight;
        for from in 0..2 {
            if has_room && state.asked[from] < self.asks[from] {
                steps.push(Step::Ask { from });
            }
            for worker in 0..WORKERS {
                if worker < self.employed
                    && state.works < self.works
                    && state.offices[from].term(NOW).is_some()
                {
                    steps.push(Step::Dispatch { from, worker });
                }
            }
            if state.crashes < self.crashes && state.asked[from] > 0 {
                steps.push(Step::Crash { controller: from });
            }
        }
        if state.restarts < self.restarts {
            steps.extend((0..WORKERS).map(|worker| Step::Restart { worker }));
        }
        for message in &state.said {
            steps.extend([Step::Arrives(*message), Step::Lost(*message)]);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Tick => {
                let later = NOW + TICK;
                state.offices = state.offices.map(|one| one.moved(later, NOW, &self.terms));
                state.votes = state.votes.map(|one| one.moved(later, NOW, &self.terms));
            }
            Step::Ask { from } => {
                state.asked[from] += 1;
                for worker in 0..WORKERS {
                    let ask = state.offices[from].ask(NOW, worker, &self.terms);
                    state.said.insert(Message::Ask { from, worker, ask });
                }
            }
            Step::Dispatch { from, worker } => {
                let epoch = state.offices[from].term(NOW)?;
                state.works += 1;
                state.said.insert(Message::Work { worker, epoch });
            }
            Step::Arrives(message) => self.arrives(&mut state, message),
            Step::Lost(message) => {
                state.said.remove(&message);
            }
            Step::Crash { controller } => {
                state.crashes += 1;
                state.lives[controller] += 1;
                let place = (controller as u32, 2);
                state.offices[controller] = Office::new(place, WORKERS as u16, 0, LIFE);
            }
            Step::Restart { worker } => {
                state.restarts += 1;
                let seen = if self.is_disk_lost { 0 } else { state.votes[worker].seen() };
                state.votes[worker] = Vote::again(NOW, seen);
            }
        }
        self.forget_void(&mut state);
        for (office, life) in state.offices.iter().zip(state.lives) {
            if let Some(epoch) = office.term(NOW)
                && state.terms.last() != Some(&(epoch, life))
            {
                state.terms.push((epoch, life));
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Votes>> {
        vec![
            Property::always(ONE, |_: &Votes, state: &State| {
                !state.offices.iter().all(|office| office.term(NOW).is_some())
            }),
            Property::always(RISING, |_: &Votes, state: &State| {
                state.terms.windows(2).all(|two| two[0].0 < two[1].0)
            }),
            Property::always(ORDER, |_: &Votes, state: &State| !state.is_backwards),
            Property::sometimes("one term follows another", |_: &Votes, state: &State| {
                state.terms.len() == 2
            }),
        ]
    }
}

fn is_large() -> bool {
    std::env::var("MAINSTAY_MODEL").is_ok_and(|size| size == "large")
}

#[test]
fn never_two_controllers_and_no_work_out_of_order_in_any_order_of_events() {
    let votes = || Votes::new(Mutants::NONE);
    table::holds("office: take-over, late work", votes());
    let worker = Votes { works: 0, restarts: 1, ..votes() };
    table::holds("office: a worker starts again", worker);
    let same = Votes { asks: [3, 0], works: 0, crashes: 1, ..votes() };
    table::holds("office: a controller starts again without its file", same);
    if is_large() {
        let lost = Votes { last: 0, asks: [1, 2], works: 0, ..votes() };
        table::holds("office: a stand-by without its epoch file", lost);
        let more = Votes { asks: [2, 2], flight: 3, ..votes() };
        let more = Votes { employed: 3, crashes: 1, restarts: 1, ..more };
        table::visits("office: everything at once", more);
    }
}

#[test]
fn each_rule_of_the_votes_is_needed() {
    println!("  | without | counter-example | states | time |");
    let one_way = Votes::new(Mutants::without(Mutant::OneWayControllerLease));
    table::breaks("OneWayControllerLease", ONE, one_way);
    let deaf = Votes::new(Mutants::without(Mutant::WorkersIgnoreEpochs));
    table::breaks("WorkersIgnoreEpochs", ORDER, deaf);
    if !is_large() {
        return;
    }
    let votes = Votes::new(Mutants::NONE);
    let forgetful = Votes { works: 0, last: 0, asks: [1, 2], restarts: 1, ..votes };
    let forgetful = Votes { is_disk_lost: true, ..forgetful };
    table::breaks("workers forget what they have seen", RISING, forgetful);
}

/// One link works one way only, as at Cloudflare on 2 November 2020: the controller hears the
/// workers, and they do not hear it.
#[test]
fn s35_a_controller_that_is_not_heard_stops_before_another_begins() {
    let story = |mutants| {
        let terms = Terms { mutants, ..Terms::CREDIT };
        let at = |millis: u64| Time::from_micros(1_000_000_000 + millis * 1000);
        let (mut first, mut second) = (Office::new((0, 2), 3, 1, 0), Office::new((1, 2), 3, 2, 0));
        let mut votes = [Vote::first(), Vote::first(), Vote::first()];
        let mut together = 0;
        for millis in (0..6000).step_by(500) {
            for (worker, vote) in votes.iter_mut().enumerate() {
                let asked = first.ask(at(millis), worker, &terms);
                // From one second on nothing that the first one says arrives.
                if millis < 1000 {
                    let answer = vote.ask(at(millis), 0, asked, &terms);
                    first.answer(at(millis), worker, answer, &terms);
                }
                let asked = second.ask(at(millis), worker, &terms);
                let answer = vote.ask(at(millis), 1, asked, &terms);
                second.answer(at(millis), worker, answer, &terms);
            }
            let both = first.term(at(millis)).is_some() && second.term(at(millis)).is_some();
            together += u32::from(both);
        }
        assert_eq!(second.term(at(5999)), Some(3));
        let late = votes.map(|mut vote| vote.takes(2, &terms));
        (together, late)
    };
    assert_eq!(story(Mutants::NONE), (0, [false; 3]));
    assert_ne!(story(Mutants::without(Mutant::OneWayControllerLease)).0, 0);
    assert_eq!(story(Mutants::without(Mutant::WorkersIgnoreEpochs)).1, [true; 3]);
}
