//! Two authors of policy: every order of edit, publish and adopt, at one store and one gateway.
//!
//! An author reads the newest generation, edits it, and publishes the edit at some later time. A
//! gateway polls whenever it likes.

use crate::table;
use mainstay_core::config::PolicyConfig;
use mainstay_core::fact::{NotTaken, PolicyFact};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::generation::Generations;
use mainstay_core::policy::{Action, Snapshot, Taste};
use mainstay_core::publish::{Published, write};
use mainstay_core::time::{Duration, Time};
use stateright::{Model, Property};

const NOW: Time = Time::from_micros(1_000_000);
/// Edits of each author.
const EDITS: u8 = 2;

const CHAIN: &str = "I15: every generation names the one before it";
const KEPT: &str = "S33: no edit that was published is lost";
const WHOLE: &str = "S33: what is adopted is what one author published";
const ALL: &str = "all edits of both authors are in force";

#[derive(Clone)]
struct Authors {
    config: PolicyConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// The newest generation; its content is the set of edits, a bit each.
    store: Published<Snapshot>,
    authors: [Author; 2],
    /// All that ever was in the store.
    history: Vec<Snapshot>,
    gateway: Generations,
    has_broken: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Author {
    begun: u8,
    /// What was read, and the edit of it.
    draft: Option<(u64, Snapshot)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Edit(usize),
    /// Publishes the draft; if it was overtaken, the author begins that edit anew.
    Publish(usize),
    Poll,
}

fn bit(author: usize, edit: u8) -> u64 {
    1 << (author as u32 * u32::from(EDITS) + u32::from(edit))
}

impl Authors {
    fn new(mutants: Mutants) -> Authors {
        Authors { config: PolicyConfig { mutants, ..PolicyConfig::default() } }
    }
}

impl Model for Authors {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let first = Snapshot { generation: 1, ..Snapshot::default() };
        let mut disk = Disk::new(first.clone());
        disk.start(Duration::ZERO, &self.config, &mut Vec::new());
        vec![State {
            store: Published { generation: 1, set: vec![first.clone()] },
            authors: Default::default(),
            history: vec![first],
            gateway: Generations::boot(NOW, disk, &mut Vec::new()),
            has_broken: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (at, author) in state.authors.iter().enumerate() {
            if author.draft.is_some() {
                steps.push(Step::Publish(at));
            } else if author.begun < EDITS {
                steps.push(Step::Edit(at));
            }
        }
        steps.push(Step::Poll);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Edit(at) => {
                let read = &before.store.set[0];
                let draft = Snapshot {
                    generation: read.generation + 1,
                    content: read.content | bit(at, state.authors[at].begun),
                    previous: read.hash(),
                    author: at.to_string(),
                    ..read.clone()
                };
                state.authors[at].draft = Some((read.generation, draft));
            }
            Step::Publish(at) => {
                let (read, draft) = state.authors[at].draft.take()?;
                let next = Published { generation: draft.generation, set: vec![draft.clone()] };
                if write(&mut state.store, read, next, self.config.mutants).is_ok() {
                    state.history.push(draft);
                    state.authors[at].begun += 1;
                }
            }
            Step::Poll => {
                let newest = before.store.set[0].clone();
                let content = newest.content;
                let mut actions = Vec::new();
                state.gateway.snapshot(NOW, newest, &self.config, &mut actions);
                state.gateway.tasted(NOW, (content, Taste::Good), &self.config, &mut actions);
                state.has_broken |= actions.iter().any(is_broken);
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(CHAIN, |_, state: &State| {
                let pairs = state.history.windows(2);
                !state.has_broken && pairs.into_iter().all(|two| two[1].previous == two[0].hash())
            }),
            Property::always(KEPT, |_, state: &State| {
                let newest = state.store.set[0].content;
                let published = state
                    .authors
                    .iter()
                    .enumerate()
                    .flat_map(|(at, author)| (0..author.begun).map(move |edit| bit(at, edit)));
                published.into_iter().all(|edit| newest & edit != 0)
            }),
            Property::always(WHOLE, |_, state: &State| {
                state.gateway.current().is_some_and(|current| state.history.contains(current))
            }),
            Property::sometimes(ALL, |_, state: &State| {
                let all = (1 << (2 * EDITS)) - 1;
                state.gateway.current().is_some_and(|current| current.content == all)
            }),
        ]
    }
}

fn is_broken(action: &Action) -> bool {
    let Action::Fact(PolicyFact::Refused { why, .. }) = action else { return false };
    matches!(why, NotTaken::ChainBroken | NotTaken::Twice)
}

/// Google load balancing, 16 November 2021: a race published a broken configuration.
#[test]
fn s33_two_authors_never_lose_an_edit_and_the_chain_never_breaks() {
    table::holds("two authors", Authors::new(Mutants::NONE));
}

#[test]
fn s33_without_comparing_an_edit_is_lost_and_the_chain_breaks() {
    let mutants = Mutants::without(Mutant::PublishWithoutCompare);
    table::breaks("PublishWithoutCompare", KEPT, Authors::new(mutants));
    table::breaks("PublishWithoutCompare", CHAIN, Authors::new(mutants));
}
