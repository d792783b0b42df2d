//! Walks a model to its end or to a counter-example, and prints what was walked.

use stateright::{Checker, HasDiscoveries, Model, Path};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Longest walk: a model that needs more is too large for `cargo test`.
const LONGEST: Duration = Duration::from_secs(120);
/// Longest visit of a model that is too large to be walked whole.
const VISIT: Duration = Duration::from_secs(600);

/// Every state is visited: what must always hold does, and what must be possible is.
pub fn holds<M>(name: &str, model: M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    assert!(walks(name, model, LONGEST), "{name}: not all states were visited");
}

/// As many states as there is time for are visited, nearest first.
#[allow(dead_code)] // each test compiles this file for itself
pub fn visits<M>(name: &str, model: M)
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let is_whole = walks(name, model, VISIT);
    println!("  all of it: {is_whole}");
}

/// True if no state was left out.
fn walks<M>(name: &str, model: M, longest: Duration) -> bool
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let all = model.clone().checker().threads(2).timeout(longest).spawn_bfs().join();
    let took = begun.elapsed();
    println!(
        "{name}: {} states, {} steps, depth {}, {:.1} s",
        all.unique_state_count(),
        all.state_count(),
        all.max_depth(),
        took.as_secs_f64(),
    );
    for property in model.properties() {
        if let Some(path) = all.discovery(property.name)
            && property.expectation.discovery_is_failure()
        {
            panic!("{name} breaks `{}`:\n{}", property.name, story::<M>(path));
        }
    }
    all.assert_properties();
    took < longest
}

/// The walk must find a state where `property` is broken; the shortest way to it is printed.
pub fn breaks<M>(mutant: &str, property: &'static str, model: M) -> Vec<M::Action>
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let until = HasDiscoveries::AnyOf([property].into());
    let walk = model.checker().finish_when(until).timeout(LONGEST).spawn_bfs().join();
    let Some(path) = walk.discovery(property) else {
        panic!("{mutant}: no counter-example to `{property}` in {} states", walk.state_count());
    };
    let states = walk.unique_state_count();
    let took = begun.elapsed().as_secs_f64();
    let steps = path.clone().into_actions();
    println!("  | {mutant} | {} steps | {states} states | {took:.1} s |", steps.len());
    println!("{}", story::<M>(path));
    steps
}

fn story<M: Model>(path: Path<M::State, M::Action>) -> String
where
    M::State: Clone + Debug + PartialEq,
    M::Action: Clone + Debug + PartialEq,
{
    let lines = path.into_actions();
    let lines = lines.iter().enumerate().map(|(n, step)| format!("      {} {step:?}", n + 1));
    lines.collect::<Vec<_>>().join("\n")
}
