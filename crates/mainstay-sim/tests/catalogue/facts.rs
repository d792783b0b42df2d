//! Every kind of decision occurs somewhere in the catalogue, but for those listed with the reason.

use super::played::told;
use mainstay_sim::scenario::catalogue::CATALOGUE;
use std::collections::BTreeSet;

/// The enums of decisions, with their source.
const FAMILIES: [(&str, &str); 4] = [
    ("Fact", include_str!("../../../mainstay-core/src/fact.rs")),
    ("CreditFact", include_str!("../../../mainstay-core/src/fact/credit.rs")),
    ("SiteFact", include_str!("../../../mainstay-core/src/fact/site.rs")),
    ("PolicyFact", include_str!("../../../mainstay-core/src/fact/policy.rs")),
];

/// Decisions that no scenario brings about, each with the reason. One that occurs after all must
/// leave the list.
const ABSENT: &[(&str, &str)] = &[
    ("Fact::Miscounted", "only the text of a reply can be counted: tests/faults, gateway_facts"),
    ("Fact::Learned", "a provider says in its reply what is too long for it: gateway_facts"),
    ("Fact::ContinuationOff", "only the text of a provider's reply shows it: gateway_facts"),
    ("Fact::Drill", "people give it to a running gateway: gateway_drill"),
    ("CreditFact::Slow", "no outage makes a site slow that has room beside it: tests/slow"),
    ("SiteFact::GivesWay", "their workers tell nothing that times are learned from: site/learns"),
    ("SiteFact::Preempted", "for the same reason: site/preempts"),
    ("SiteFact::Late", "clients there wait no longer than a first token is in time: site/late"),
    ("PolicyFact::NothingToRun", "disks are whole when a process boots: policy/tests"),
];

/// Names of an enum's variants, as `rustfmt` lays them out.
fn variants(name: &str, source: &str) -> Vec<String> {
    let head = format!("pub enum {name} {{\n");
    let (_, rest) = source.split_once(&head).unwrap_or_else(|| panic!("no enum {name}"));
    let (body, _) = rest.split_once("\n}").expect("its end");
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let lines = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let word = |line: &str| line.split(|c: char| !c.is_alphanumeric()).next().map(String::from);
    lines.filter_map(word).collect()
}

#[test]
fn every_kind_of_decision_occurs_in_a_scenario() {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    // From the end: the tests of single scenarios begin at the other one.
    for at in (0..CATALOGUE.len()).rev() {
        seen.extend(told(at).facts.iter().map(String::as_str));
    }
    let mut silent = Vec::new();
    for (family, source) in FAMILIES {
        let names = variants(family, source);
        assert!(names.len() > 5, "{family} was not read");
        let all = names.iter().map(|name| format!("{family}::{name}"));
        // It only holds those of another family.
        silent.extend(all.filter(|name| !seen.contains(name.as_str()) && name != "Fact::Credit"));
    }
    println!("  | decision that occurs in no scenario | why |");
    for name in &silent {
        let why = ABSENT.iter().find(|(absent, _)| absent == name).map_or("?", |(_, why)| why);
        println!("  | {name} | {why} |");
    }
    let listed: Vec<&str> = ABSENT.iter().map(|(name, _)| *name).collect();
    assert_eq!(silent, listed, "mend a scenario, or the list");
}
