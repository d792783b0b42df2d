//! Throw-away: what a mutant breaks.
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_sim::fleet::{PolicyKind, play_with};
use mainstay_sim::scenario::{catalogue::CATALOGUE, read};
use std::collections::BTreeMap;
fn main() {
    let all = [
        Mutant::LeaseFromReceipt,
        Mutant::GrantWithoutNonce,
        Mutant::NoSilenceAfterTakeover,
        Mutant::RecordWithoutDrift,
        Mutant::RecordIsLastGrant,
        Mutant::DriftUnwatched,
        Mutant::RefusalRaisesCredit,
        Mutant::WorkersIgnoreEpochs,
        Mutant::OneWayControllerLease,
        Mutant::PublishWithoutCompare,
        Mutant::EmptySetPublished,
        Mutant::CollectByAge,
        Mutant::GoodAtLoad,
        Mutant::CrashForgotten,
        Mutant::InServiceBySender,
        Mutant::OrdersByArrival,
        Mutant::ProbesUncapped,
        Mutant::LatchCountsOnlyDown,
        Mutant::NoLatch,
        Mutant::OverloadIsStrike,
        Mutant::ProbeVetoesReturn,
        Mutant::NoSelfDoubt,
        Mutant::PanicOpensAdmission,
        Mutant::NoRetryBudget,
        Mutant::OldAttemptUnfenced,
        Mutant::OutcomeByBoth,
        Mutant::NoRamp,
        Mutant::NoDeadlineDrop,
        Mutant::NoFloors,
        Mutant::NewHomeGrants,
    ];
    for word in std::env::args().skip(1) {
        let (id, rule) = word.split_once(':').unwrap();
        let (_, text) = CATALOGUE.iter().find(|(each, _)| *each == id).unwrap();
        let scenario = read::scenario(id, text).unwrap();
        let mutants = all
            .iter()
            .find(|m| format!("{m:?}") == rule)
            .map_or(Mutants::NONE, |m| Mutants::without(*m));
        let t = std::time::Instant::now();
        let played = play_with(&scenario, 1, PolicyKind::Mainstay, mutants);
        let mut by: BTreeMap<String, (u32, String)> = BTreeMap::new();
        for v in &played.run.violations {
            let e = by.entry(v.rule.clone()).or_default();
            e.0 += 1;
            if e.0 == 1 {
                e.1 = format!("{} s {}: {}", v.at_s, v.node, v.detail.lines().next().unwrap_or(""));
            }
        }
        println!(
            "== {id} {rule} {:.1}s good {:?}",
            t.elapsed().as_secs_f64(),
            played
                .run
                .by_tier
                .iter()
                .map(|(n, t)| format!("{n} {:.4}", t.goodput_ratio))
                .collect::<Vec<_>>()
        );
        for (r, (n, d)) in by {
            println!("   {r} x{n}: {d}");
        }
    }
}
