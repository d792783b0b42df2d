//! Every decision is told: each fact that the machine has words for comes up in some story.

use crate::play::{failure, ms, play, primary, secs, told};
use mainstay_core::names::{ClientFault, ErrorClass};
use mainstay_sim::load::Load;
use mainstay_sim::script::Break;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::{Does, Prefill, Upstream, When};
use mainstay_sim::world::run;
use std::collections::BTreeSet;

/// A day in which most things happen to the primary, one after the other.
fn eventful() -> Setup {
    let between = |from, until| When::Within(secs(from), secs(until));
    let refuses = |class| Does::Refuses(failure(class, None));
    let waits = Does::Refuses(failure(ErrorClass::ThrottleAccount, Some(secs(2))));
    let primary = primary()
        .rule(&[When::Prompt(5000)], refuses(ErrorClass::ClientFault(ClientFault::Context)))
        .rule(&[between(10, 11)], waits)
        .rule(&[between(20, 21)], refuses(ErrorClass::ThrottleAccount))
        .rule(&[between(60, 62)], refuses(ErrorClass::OurAuth))
        .rule(&[between(200, 202), When::Fresh], Does::Breaks(30, Break::Stall))
        .rule(&[between(300, 340)], Does::Unreachable)
        .rule(&[between(400, 430)], Does::Resets)
        .prefill(Prefill::Takes);
    let mut long = Load::every(secs(50), secs(49));
    long.ask.prompt = 6000;
    let second = Upstream::new(WEIGHTS[1]).prefill(Prefill::Refuses);
    let mut setup = Setup::new(Arrangement::Substitute, primary)
        .load(Load::every(ms(400), secs(600)))
        .load(Load::rate(60.0, secs(402)).from(secs(400)))
        .load(long);
    setup.upstreams[1] = second;
    setup
}

#[test]
fn an_eventful_day_tells_of_every_kind_of_decision() {
    let out = run(1, eventful());
    assert_eq!(out.checks.violations, Vec::<String>::new());
    let told: BTreeSet<&str> = out.checks.facts.keys().copied().collect();
    let wanted = [
        "Arrived",
        "AttemptStarted",
        "FirstToken",
        "AttemptWhole",
        "AttemptFailed",
        "Waiting",
        "Closed",
        "Health",
        "Paused",
        "Limited",
        "Parked",
        "Unparked",
        "Learned",
        "ContinuationOff",
        "RetriesExhausted",
    ];
    let silent: Vec<_> = wanted.iter().filter(|fact| !told.contains(*fact)).collect();
    println!("{:?}", out.checks.facts);
    assert!(silent.is_empty(), "{silent:?}");
}

#[test]
fn a_storm_of_resets_is_held_to_the_retry_budget() {
    let primary =
        primary().rule(&[], Does::RefusesLate(failure(ErrorClass::Transient, None), ms(900)));
    let mut setup = Setup::new(Arrangement::Substitute, primary).load(Load::rate(100.0, secs(20)));
    setup.upstreams[1] = setup.upstreams[1].clone().tokens(8, ms(30));
    play(&setup, |out| {
        assert!(told(out, "RetriesExhausted") > 0);
        let after =
            out.ended.iter().filter(|ended| ended.arrived.since(out.ended[0].arrived) > secs(3));
        let bad = after.clone().filter(|ended| !ended.is_whole()).count();
        println!(
            "{} exhausted; {bad} of {} not whole after 3 s",
            told(out, "RetriesExhausted"),
            after.count()
        );
    });
}
