//! How fast one core plays scenarios: `cargo run --release -p mainstay-sim --example fleet_speed`,
//! with ids of the catalogue behind it, else S01. The digest tells whether two builds play alike.

use mainstay_sim::fleet::{PolicyKind, play};
use mainstay_sim::scenario::catalogue::CATALOGUE;
use mainstay_sim::scenario::read;
use std::time::Instant;

/// Every run here has this seed.
const SEED: u64 = 1;

fn main() {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    if wanted.is_empty() {
        wanted.push("S01".into());
    }
    for (id, text) in CATALOGUE.iter().filter(|(id, _)| wanted.iter().any(|one| one == id)) {
        let scenario = match read::scenario(id, text) {
            Ok(scenario) => scenario,
            Err(problems) => return eprintln!("{id}: {problems:?}"),
        };
        let began = Instant::now();
        let played = play(&scenario, SEED, PolicyKind::Mainstay);
        let took = began.elapsed().as_secs_f64();
        let requests: u64 = played.run.by_tier.values().map(|tier| tier.offered).sum();
        let (a_second, moments) = (requests as f64 / took, played.moments);
        println!(
            "{id}: {requests} requests, {moments} moments in {took:.2} s: {a_second:.0} requests \
             and {:.0} moments a second; digest {}",
            moments as f64 / took,
            played.run.facts_digest,
        );
    }
}
