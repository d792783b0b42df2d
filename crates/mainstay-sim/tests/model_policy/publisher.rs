//! Three publishers, three plans, one store, a collector; any of them may pause anywhere.
//!
//! A planner numbers its plans; a publisher reads the store, takes a plan, and writes it at some
//! later time. Publishers and the store answer by the number of a plan: what the collector has
//! deleted answers nothing. What it knows of the publishers may be old.

use crate::table;
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::publish::{BEHIND, Needs, NotWritten, Published, filled, may_collect, write};
use stateright::{Model, Property};

const PUBLISHERS: usize = 3;
const PLANS: u64 = 3;
/// What a set says. That it says something is what matters, not what.
const FULL: [u8; 2] = [1, 2];
/// Answers that a set must have.
const LEAST: usize = 2;

const NEVER_EMPTY: &str = "I4: no answer is empty";
const NEVER_OLDER: &str = "I4: nobody answers older than it has published";
const NEVER_FALLS: &str = "I4: the store's generation never falls";
const ALL_SERVE: &str = "L7: all serve the newest plan, and the first one is deleted";

#[derive(Clone)]
struct Publishing {
    mutants: Mutants,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// What each plan says, as it was made.
    plans: Vec<Vec<u8>>,
    /// What was written of each number, the empty beginning among them.
    archive: Vec<Option<Vec<u8>>>,
    store: Published<u8>,
    /// Sorted: it makes no difference which of them is which.
    publishers: [Publisher; PUBLISHERS],
    has_fallen: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Publisher {
    /// What it has read, and will write.
    pending: Option<(u64, Published<u8>)>,
    serves: u64,
    published: u64,
    /// What the collector knows it to serve.
    known: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// The planner makes its next plan: a full one, or by a fault of its own an empty one.
    Plan { empty: bool },
    /// A publisher reads the store and takes this plan.
    Take { publisher: usize, plan: u64 },
    /// It writes what it took, however long ago.
    Write { publisher: usize },
    /// It serves what the store holds.
    Follow { publisher: usize },
    /// The collector asks a publisher what it serves.
    Ask { publisher: usize },
    /// The collector deletes a plan.
    Collect { plan: u64 },
}

impl Publishing {
    fn may_collect(&self, state: &State, plan: u64) -> bool {
        let newest = state.plans.len() as u64;
        // With nothing kept behind, the rule is as sharp as it can be.
        let known = state.publishers.each_ref().map(|publisher| publisher.known);
        let needs = Needs { served: &known, referenced: Some(&[]), newest, behind: 0 };
        state.archive[plan as usize].is_some() && may_collect(plan, needs, self.mutants)
    }
}

impl Model for Publishing {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let first = FULL.to_vec();
        vec![State {
            plans: Vec::new(),
            archive: vec![Some(first.clone())],
            store: Published { generation: 0, set: first },
            publishers: Default::default(),
            has_fallen: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let newest = state.plans.len() as u64;
        if newest < PLANS {
            steps.push(Step::Plan { empty: false });
            // One fault of the planner, between two good plans, shows all that more would.
            if newest == 1 {
                steps.push(Step::Plan { empty: true });
            }
        }
        for (publisher, each) in state.publishers.iter().enumerate() {
            if each.pending.is_some() {
                steps.push(Step::Write { publisher });
            } else {
                let newer = state.store.generation + 1..=newest;
                steps.extend(newer.map(|plan| Step::Take { publisher, plan }));
            }
            if each.serves != state.store.generation {
                steps.push(Step::Follow { publisher });
            }
            if each.known != Some(each.serves) {
                steps.push(Step::Ask { publisher });
            }
        }
        let old = (0..=newest).filter(|plan| (*plan as usize) < state.archive.len());
        steps.extend(
            old.filter(|plan| self.may_collect(state, *plan)).map(|plan| Step::Collect { plan }),
        );
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Plan { empty } => {
                state.plans.push(if empty { Vec::new() } else { FULL.to_vec() });
            }
            Step::Take { publisher, plan } => {
                let wanted = &state.plans[plan as usize - 1];
                let set = filled(wanted, &state.store.set, LEAST, self.mutants);
                let next = Published { generation: plan, set };
                state.publishers[publisher].pending = Some((state.store.generation, next));
            }
            Step::Write { publisher } => {
                let (read, next) = state.publishers[publisher].pending.take()?;
                let (generation, set) = (next.generation, next.set.clone());
                if write(&mut state.store, read, next, self.mutants).is_ok() {
                    let rows = state.archive.len().max(generation as usize + 1);
                    state.archive.resize(rows, None);
                    // Who finds its plan there already does not write its content again.
                    if generation > before.store.generation {
                        state.archive[generation as usize] = Some(set);
                    }
                    let by = &mut state.publishers[publisher];
                    by.serves = generation;
                    by.published = by.published.max(generation);
                }
            }
            Step::Follow { publisher } => {
                state.publishers[publisher].serves = state.store.generation;
            }
            Step::Ask { publisher } => {
                state.publishers[publisher].known = Some(state.publishers[publisher].serves);
            }
            Step::Collect { plan } => state.archive[plan as usize] = None,
        }
        state.has_fallen |= state.store.generation < before.store.generation;
        state.publishers.sort();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn answers(state: &State, generation: u64) -> usize {
            let kept = state.archive.get(generation as usize);
            kept.and_then(Option::as_ref).map_or(0, Vec::len)
        }
        vec![
            Property::always(NEVER_EMPTY, |_, state: &State| {
                let served = state.publishers.iter().map(|publisher| publisher.serves);
                let mut all = served.chain([state.store.generation]);
                all.all(|generation| answers(state, generation) >= LEAST)
            }),
            Property::always(NEVER_OLDER, |_, state: &State| {
                state.publishers.iter().all(|publisher| publisher.serves >= publisher.published)
            }),
            Property::always(NEVER_FALLS, |_, state: &State| !state.has_fallen),
            Property::sometimes(ALL_SERVE, |_, state: &State| {
                state.publishers.iter().all(|publisher| publisher.serves == PLANS)
                    && state.archive[0..2] == [None, None]
            }),
        ]
    }
}

#[test]
fn no_race_of_publishers_and_no_clean_up_empties_or_ages_an_answer() {
    table::holds("publishers", Publishing { mutants: Mutants::NONE });
}

#[test]
fn a_publisher_that_does_not_compare_puts_an_old_plan_over_a_new_one() {
    let mutants = Mutants::without(Mutant::PublishWithoutCompare);
    table::breaks("PublishWithoutCompare", NEVER_FALLS, Publishing { mutants });
    table::breaks("PublishWithoutCompare", NEVER_OLDER, Publishing { mutants });
}

#[test]
fn an_empty_set_published_as_it_is_empties_the_answers() {
    let mutants = Mutants::without(Mutant::EmptySetPublished);
    table::breaks("EmptySetPublished", NEVER_EMPTY, Publishing { mutants });
}

#[test]
fn a_collector_that_goes_by_age_deletes_what_is_served() {
    let mutants = Mutants::without(Mutant::CollectByAge);
    table::breaks("CollectByAge", NEVER_EMPTY, Publishing { mutants });
}

/// AWS, 19 October 2025: a publisher paused with plan n−1 in hand wrote it after n to n+4 were
/// published, and the clean-up then deleted it as too old.
#[test]
fn s03_a_late_plan_is_refused_and_what_is_served_is_not_deleted() {
    let (store, refused, deleted) = replay_s03(Mutants::NONE, Mutants::NONE);
    assert_eq!(refused, Some(NotWritten::Overtaken { by: 10 }));
    assert_eq!((store.generation, store.set), (10, vec![10, 11]));
    assert!(!deleted.contains(&10), "{deleted:?}");
}

/// The same without the two rules: the story as it was told.
#[test]
fn s03_without_comparing_and_with_age_alone_the_answer_is_empty() {
    let late = Mutants::without(Mutant::PublishWithoutCompare);
    let (store, refused, deleted) = replay_s03(late, Mutants::without(Mutant::CollectByAge));
    assert_eq!((store.generation, refused), (5, None));
    assert!(deleted.contains(&5), "what the store points at is gone: {deleted:?}");
}

fn replay_s03(
    writing: Mutants,
    collecting: Mutants,
) -> (Published<u64>, Option<NotWritten>, Vec<u64>) {
    let plan = |generation: u64| Published { generation, set: vec![generation, generation + 1] };
    let mut store = plan(4);
    let (read, held) = (store.generation, plan(5));
    for generation in 6..=10 {
        let read = store.generation;
        write(&mut store, read, plan(generation), writing).expect("nobody is in the way");
    }
    let refused = write(&mut store, read, held, writing).err();
    // One publisher follows slowly and still serves plan 9; the others serve what the store holds.
    let served = [Some(store.generation), Some(store.generation), Some(9)];
    let needs = Needs { served: &served, referenced: Some(&[]), newest: 10, behind: BEHIND };
    let deleted = (1..=10).filter(|plan| may_collect(*plan, needs, collecting)).collect();
    (store, refused, deleted)
}
