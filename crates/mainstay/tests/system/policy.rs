//! Generations of policy between real processes: how a good one spreads, how far a bad one comes,
//! and what is left when all else is dead. Times are those of a rehearsal: 4 s for the 10 minutes
//! of the first gateway, 8 s for the hour until a generation counts as good.

mod fleet;

use bytes::Bytes;
use fleet::{Clients, Fleet, GATEWAYS, SOURCE, STATUS};
use mainstay_server::policy::source::{Publication, Source};
use std::time::{Duration, Instant};

/// The first gateway runs a generation for so long before others do.
const CANARY: u64 = 4;
/// A process starts from its disk within this time, whatever else is dead.
const BOOT: Duration = Duration::from_secs(2);
/// What was wrong is undone within this time.
const UNDONE: Duration = Duration::from_secs(10);

/// A promise of so much time, on a machine on which even a process that does nothing takes this
/// long: ten times that is more than any start needs on a quiet one.
fn promised(time: Duration, busy: Duration) -> Duration {
    time.max(busy * 10)
}

/// Which gateways run this generation.
fn running(fleet: &Fleet, generation: u64) -> Vec<&'static str> {
    GATEWAYS.into_iter().filter(|name| fleet.runs(name) == Some(generation)).collect()
}

/// A first generation, in force and good everywhere.
fn with_a_good_generation() -> Fleet {
    let fleet = Fleet::start();
    let (is_out, said) = fleet.publish(&fleet.policy("9m", ""), &[]);
    assert!(is_out, "{said}");
    let is_good = |name: &str| {
        let standing = fleet.standing(name);
        standing.is_some_and(|told| {
            told["in_force"]["generation"] == 1 && told["in_force"]["is_good"] == true
        })
    };
    fleet.until("generation 1 is good everywhere", || GATEWAYS.iter().all(|name| is_good(name)));
    fleet
}

#[test]
fn a_good_generation_reaches_one_gateway_first_and_then_all_nodes() {
    let fleet = Fleet::start();
    let clients = Clients::start(&fleet);
    assert_eq!(running(&fleet, 0).len(), GATEWAYS.len());
    let (is_out, said) = fleet.publish(&fleet.policy("9m", ""), &[]);
    assert!(is_out && said.contains("generation 1"), "{said}");
    fleet.until("somebody tries it", || !running(&fleet, 1).is_empty());
    let first = running(&fleet, 1);
    assert_eq!(first.len(), 1, "one gateway tries it first");
    let waits = |name: &&str| {
        let told = fleet.standing(name).expect("it runs");
        told["staged"]["waits"].as_str().is_some_and(|waits| waits.contains(first[0]))
    };
    // One whose own loop is late waits for itself first.
    fleet.until("another says for whom it waits", || {
        GATEWAYS.iter().filter(|name| **name != first[0]).any(&waits)
    });
    fleet.until("a second gateway runs it", || running(&fleet, 1).len() > 1);
    let told = fleet.standing(first[0]).expect("it runs");
    assert!(told["in_force"]["clean_s"].as_u64() >= Some(CANARY), "{told}");
    let everybody = ["site-a", SOURCE].into_iter().chain(GATEWAYS);
    fleet.until("all nodes run it", || everybody.clone().all(|name| fleet.runs(name) == Some(1)));
    clients.lost_nothing();
    let admin = format!("http://{}", fleet.admin(GATEWAYS[1]));
    let (_, said) = fleet.mainstay(&["policy", "show", "--admin", &admin]);
    assert!(said.contains("in force    generation 1"), "{said}");
}

#[test]
fn a_policy_with_a_missing_field_is_refused_by_its_writer_and_by_every_node() {
    let fleet = with_a_good_generation();
    let clients = Clients::start(&fleet);
    let broken = fleet.policy("8m", "[[site]]\nprovider = \"openai\"\nname = \"B\"\n");
    let broken = broken.replace("served_by = [\"A/builtin\"]", "served_by = [\"C/builtin\"]");
    for more in [&[][..], &["--force"]] {
        let (is_out, said) = fleet.publish(&broken, more);
        assert!(!is_out && said.contains("policy:"), "{said}");
    }
    // A writer with a defect of its own: the generation is on the source's disk all the same.
    fleet.kill(SOURCE);
    let mut source = Source::open(&fleet.data(SOURCE)).expect("its disk");
    let publication = Publication {
        author: "a defect".into(),
        reason: "a test".into(),
        content: Bytes::from(broken),
        confirmed: true,
    };
    source.publish(publication).expect("published");
    fleet.up(SOURCE);
    let refuses = |name: &str| {
        let told = fleet.standing(name).expect("it runs");
        assert_eq!(told["in_force"]["generation"], 1, "{told}");
        told["refused"].as_str().is_some_and(|why| why.contains("generation 2"))
    };
    fleet.until("every gateway refuses it", || GATEWAYS.iter().all(|name| refuses(name)));
    assert!(GATEWAYS.iter().all(|name| !fleet.has_died(name)));
    clients.lost_nothing();
}

/// Publishes a content that kills the gateway that tries it first, and sees it undone; the gateway
/// is started again at once. Returns how long a process took from its start to serving.
fn kills_its_first_gateway(fleet: &Fleet, generation: u64, dies: &str) -> Duration {
    let content = fleet.policy(&format!("{generation}m"), &format!("[rehearsal]\n{dies}\n"));
    let (is_out, said) = fleet.publish(&content, &[]);
    assert!(is_out, "{said}");
    let mut dead = None;
    fleet.until("a gateway dies of it", || {
        dead = GATEWAYS.into_iter().find(|name| fleet.has_died(name));
        dead.is_some()
    });
    let (dead, died) = (dead.expect("one"), Instant::now());
    fleet.up(dead);
    let others = || GATEWAYS.into_iter().filter(|name| *name != dead);
    fleet.until("it serves by what was good", || fleet.ask(dead, &fleet.keys[1].0) == Some(200));
    let took = died.elapsed();
    assert!(took <= promised(UNDONE, fleet.busy()), "undone after {took:?}");
    let told = fleet.standing(dead).expect("it runs");
    assert_eq!(told["in_force"]["generation"], 1, "{told}");
    assert_eq!(told["quarantine"].as_array().map(Vec::len), Some(generation as usize - 1));
    let quarantined = |name: &str| {
        assert!(!fleet.has_died(name), "{name} died too");
        let told = fleet.standing(name).expect("it runs");
        assert_eq!(told["in_force"]["generation"], 1, "{name}: {told}");
        told["quarantine"].as_array().map(Vec::len) == Some(generation as usize - 1)
    };
    fleet.until("the others hear of it", || others().all(quarantined));
    took
}

#[test]
fn a_policy_that_kills_its_process_reaches_one_gateway_and_is_undone_in_seconds() {
    let fleet = with_a_good_generation();
    let clients = Clients::start(&fleet);
    let at_load = kills_its_first_gateway(&fleet, 2, "dies = \"loaded\"");
    let later = kills_its_first_gateway(&fleet, 3, "dies_after = \"2s\"");
    println!("back and serving after {at_load:?} and {later:?}");
    clients.lost_nothing();
}

#[test]
fn a_policy_that_kills_or_swells_when_it_is_tried_reaches_nobody() {
    let fleet = with_a_good_generation();
    for (at, dies) in ["tasted", "swells"].into_iter().enumerate() {
        let more = format!("[rehearsal]\ndies = \"{dies}\"\n");
        let (is_out, said) = fleet.publish(&fleet.policy(&format!("{}m", at + 2), &more), &[]);
        assert!(is_out, "{said}");
        let quarantined = |name: &&str| {
            let told = fleet.standing(name).expect("it runs");
            assert_eq!(told["in_force"]["generation"], 1, "{told}");
            told["quarantine"].as_array().map(Vec::len) == Some(at + 1)
        };
        fleet.until(dies, || GATEWAYS.iter().all(&quarantined));
    }
    assert!(GATEWAYS.iter().all(|name| !fleet.has_died(name)));
    // And what would lose a tier of service or a site waits for its author.
    let without = fleet.policy("5m", "").replace("name = \"chat\"", "name = \"talk\"");
    assert!(fleet.publish(&without, &[]).0);
    let waits = |name: &&str| {
        let told = fleet.standing(name).expect("it runs");
        told["staged"]["changes"].as_str() == Some("model chat is gone")
    };
    fleet.until("it waits for its author", || GATEWAYS.iter().all(&waits));
    assert!(fleet.publish(&without, &["--confirm"]).0);
    fleet.until("somebody tries it", || !running(&fleet, 4).is_empty());
    let admin = format!("http://{}", fleet.admin(SOURCE));
    let back = ["policy", "rollback", "1", "--reason", "a slip", "--admin", &admin];
    let (is_out, said) = fleet.mainstay(&back);
    assert!(is_out, "{said}");
    // Its content has proved itself: nobody waits for anybody.
    fleet.until("all are back", || running(&fleet, 5).len() == GATEWAYS.len());
}

#[test]
fn with_everything_dead_a_gateway_starts_from_its_disk_and_serves_the_keys_it_knew() {
    let fleet = with_a_good_generation();
    fleet.up(STATUS);
    fleet.until("a gateway tells the status page how it goes", || fleet.is_told(STATUS));
    let everybody = || GATEWAYS.into_iter().chain(["site-a", SOURCE, STATUS]);
    everybody().for_each(|name| fleet.kill(name));
    let began = Instant::now();
    fleet.up(GATEWAYS[0]);
    fleet.until("it knows what it ran", || fleet.runs(GATEWAYS[0]) == Some(1));
    let took = began.elapsed();
    assert!(took <= promised(BOOT, fleet.busy()), "{took:?} to start from the disk");
    println!("from the disk in {took:?}");
    fleet.up("site-a");
    // The key is in no file of this node: only the policy that was kept has it.
    let key = &fleet.keys[1].0;
    let mut said = Vec::new();
    fleet.until("it serves", || {
        said.extend(fleet.ask(GATEWAYS[0], key));
        said.last() == Some(&200)
    });
    assert!(said.iter().all(|status| ![401, 402, 403, 404].contains(status)), "{said:?}");
    for _ in 0..20 {
        assert_eq!(fleet.ask(GATEWAYS[0], key), Some(200));
    }
}

#[test]
fn the_kill_switch_reaches_all_gateways_within_two_seconds_with_the_source_dead() {
    let fleet = Fleet::start();
    fleet.kill(SOURCE);
    let admin = |name: &str| format!("http://{}", fleet.admin(name));
    let (first, began) = (admin(GATEWAYS[0]), Instant::now());
    let order = ["kill", "A", "--reason", "a test", "--confirm", "--admin", &first];
    let (is_taken, said) = fleet.mainstay(&order);
    assert!(is_taken, "{said}");
    let knows = |name: &&str| {
        let told = fleet.orders(name);
        told.contains("\"kill\"") && told.contains("\"A\"")
    };
    fleet.until("all know", || GATEWAYS.iter().all(&knows));
    let took = began.elapsed();
    assert!(took <= promised(Duration::from_secs(2), fleet.busy()), "{took:?}");
    println!("the kill switch reached {} gateways in {took:?}", GATEWAYS.len());
}
