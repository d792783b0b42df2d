//! The world of many gateways and sites, played short: what must hold in the plainest stories,
//! and what the baseline must not survive.

use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_sim::bench::t3;
use mainstay_sim::fleet::{Played, PolicyKind, play, play_with};
use mainstay_sim::outcome::{Second, Tier};
use mainstay_sim::scenario::{
    Baseline, COLD, Clients, Content, Direction, Fault, FaultKind, LinkEffect, Load, Loss, Part,
    Process, Scenario, Trouble, Which, Workload,
};
use std::time::Duration;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// T3 at this level, for so many seconds.
fn story(level: f64, length: u64, faults: Vec<Fault>) -> Scenario {
    Scenario {
        id: String::from("test"),
        title: String::from("A test"),
        after: String::from("none"),
        bench: t3(),
        duration: secs(length),
        seeds: 1,
        baseline: Baseline::Absent,
        load: Load { level, workload: Workload::Alike, tenants: 1000, turns: 10 },
        clients: Clients {
            patience: secs(5),
            retries: 2,
            pause: Duration::from_millis(500),
            retry_after_max: secs(60),
        },
        faults,
        expects: Vec::new(),
        sweep: Default::default(),
    }
}

fn during(at: u64, until: u64, kind: FaultKind) -> Fault {
    Fault { at: secs(at), until: Some(secs(until)), kind, line: 0 }
}

fn once(at: u64, kind: FaultKind) -> Fault {
    Fault { at: secs(at), until: None, kind, line: 0 }
}

fn lost(site: u16, how: Loss) -> FaultKind {
    FaultKind::SiteDown { sites: Which::These(vec![site]), how, cold: Some(COLD) }
}

fn surge(factor: f64) -> FaultKind {
    FaultKind::Surge { factor, tier: None, ramp: Duration::ZERO }
}

fn ours(scenario: &Scenario) -> Played {
    play(scenario, 1, PolicyKind::Mainstay)
}

/// Share of what was offered in these seconds that became good, of one tier or of all.
fn good(played: &Played, seconds: std::ops::Range<usize>, tier: Option<usize>) -> f64 {
    let all = |second: &Second| match tier {
        Some(tier) => vec![second.tiers[tier]],
        None => second.tiers.clone(),
    };
    let counts = played.timeline.seconds[seconds].iter().flat_map(all);
    let (mut offered, mut good) = (0, 0);
    for count in counts {
        offered += count.offered;
        good += count.good;
    }
    f64::from(good) / f64::from(offered.max(1))
}

/// Rules of the machines, not bars over the whole run.
fn breaches<'a>(played: &'a Played, rules: &[&str]) -> Vec<&'a str> {
    let found = played.run.violations.iter().filter(|v| rules.contains(&v.rule.as_str()));
    found.map(|v| v.detail.as_str()).collect()
}

const ALWAYS: [&str; 12] =
    ["I1", "I2", "I3", "I7", "I8", "I9", "I10", "I12", "I14", "ledger", "memory", "I5"];

#[track_caller]
fn sound(played: &Played) {
    let found = breaches(played, &ALWAYS);
    assert!(found.is_empty(), "seed 1: {}", found[0]);
    for (name, Tier { offered, good, shed, failed, .. }) in &played.run.by_tier {
        assert_eq!(*offered, good + shed + failed, "{name}");
    }
}

#[test]
fn at_two_thirds_of_its_capacity_the_bench_serves_everybody_and_nothing_moves() {
    let story = story(0.65, 180, Vec::new());
    let played = ours(&story);
    sound(&played);
    assert!(good(&played, 0..180, None) >= 0.999);
    assert_eq!(played.run.transitions, 0);
    assert!(played.run.attempts_per_request < 1.01);
}

#[test]
fn the_same_seed_tells_the_same_story_and_another_seed_another() {
    let story = story(0.8, 40, vec![during(10, 20, lost(0, Loss::Refuse))]);
    let digest = |seed| play(&story, seed, PolicyKind::Mainstay).run.facts_digest;
    assert_eq!(digest(7), digest(7));
    assert_ne!(digest(7), digest(8));
}

#[test]
fn a_lost_site_takes_no_other_with_it() {
    for how in [Loss::Refuse, Loss::Blackhole] {
        let played = ours(&story(0.65, 480, vec![during(60, 180, lost(0, how))]));
        sound(&played);
        for site in ["B", "C"] {
            assert_eq!(played.run.sites[site].transitions, 0, "{site} left UP, {how:?}");
        }
        assert!(good(&played, 60..180, Some(0)) >= 0.99, "enterprise, {how:?}");
        assert!(good(&played, 380..470, None) >= 0.99, "not back, {how:?}");
        assert!(played.run.sites["A"].transitions >= 12, "each gateway saw it go and come");
    }
}

/// Verdicts of a gateway that were not UP, by the word.
fn verdicts(played: &Played, gateway: u16) -> Vec<&'static str> {
    let of_it = played.timeline.health.iter().filter(|each| each.1 == gateway);
    of_it.map(|each| each.3).filter(|word| *word != "up").collect()
}

#[test]
fn workers_that_hang_are_given_up_and_their_site_is_not() {
    let hung = |share| {
        let hang = FaultKind::WorkersHung { sites: Which::These(vec![0]), share };
        let played = ours(&story(0.55, 240, vec![during(60, 120, hang)]));
        sound(&played);
        played
    };
    assert_eq!(hung(0.1).run.transitions, 0, "a site is more than one of its workers");
    // A third of what is under way breaks at once: the site may be suspect for a moment.
    let played = hung(0.3);
    let away = |second: &Second| second.sites[0].up < 6;
    let seconds = played.timeline.seconds.iter().filter(|second| away(second)).count();
    assert!(seconds <= 8, "away for {seconds} s");
    // What hung was noticed after two seconds, and is moved.
    assert!(good(&played, 64..230, None) >= 0.99, "{}", good(&played, 64..230, None));
    assert!(good(&played, 58..64, Some(0)) >= 0.95, "{}", good(&played, 58..64, Some(0)));
    let capacity = |at: usize| played.timeline.seconds[at].sites[0].capacity;
    assert!(capacity(100) < 75.0 && capacity(125) > 95.0);
}

#[test]
fn a_gateway_whose_loop_stands_still_doubts_itself_and_blames_no_site() {
    let lag = FaultKind::LoopLag { gateways: Which::These(vec![0]), delay: secs(3) };
    let story = story(0.5, 200, vec![during(60, 100, lag)]);
    let played = ours(&story);
    sound(&played);
    assert!(played.facts.contains("CreditFact::Doubt"), "{:?}", played.facts);
    assert_eq!(verdicts(&played, 0), [""; 0]);
    assert_eq!(played.run.transitions, 0);
    assert!(good(&played, 130..190, None) >= 0.99);
    let rule = Mutants::without(Mutant::NoSelfDoubt);
    let without = play_with(&story, 1, PolicyKind::Mainstay, rule);
    assert!(!verdicts(&without, 0).is_empty(), "nothing is blamed without doubt either");
}

/// T3 whose first site has a controller that stands by.
fn with_stand_by(faults: Vec<Fault>) -> Scenario {
    let mut story = story(0.5, 240, faults);
    story.bench.sites[0].has_stand_by = true;
    story
}

#[test]
fn a_controller_that_stands_by_takes_over_when_the_other_is_dead_or_cut_off() {
    let sites = || Which::These(vec![0]);
    let (down, cut) =
        (FaultKind::ControllerDown { sites: sites() }, FaultKind::ControllerCut { sites: sites() });
    for kind in [down, cut] {
        let played = ours(&with_stand_by(vec![during(60, 180, kind)]));
        sound(&played);
        // What was lent lapses, then what was granted does; then gateways come back.
        let served = |seconds: std::ops::Range<usize>| {
            let work = |second: &Second| second.sites[0].admitted_cu.iter().sum::<f64>();
            let length = seconds.len() as f64;
            played.timeline.seconds[seconds].iter().map(work).sum::<f64>() / length
        };
        let (before, during) = (served(30..55), served(120..170));
        assert!(during >= 0.8 * before, "{during} CU/s after the takeover, {before} before");
        assert!(good(&played, 75..230, None) >= 0.99, "{}", good(&played, 75..230, None));
    }
}

#[test]
fn a_controller_that_believes_in_votes_it_never_heard_grants_beside_the_other() {
    let cut = FaultKind::ControllerCut { sites: Which::These(vec![0]) };
    let story = with_stand_by(vec![during(60, 180, cut)]);
    assert_eq!(breaches(&ours(&story), &["I3"]), [""; 0]);
    let rule = Mutants::without(Mutant::OneWayControllerLease);
    let without = play_with(&story, 1, PolicyKind::Mainstay, rule);
    assert!(!breaches(&without, &["I3"]).is_empty(), "two controllers, and nobody saw it");
}

#[test]
fn the_baseline_goes_down_with_the_site_and_stays_down() {
    let faults = vec![during(60, 180, lost(0, Loss::Refuse)), during(60, 180, surge(1.3))];
    let story = story(0.8, 420, faults);
    let naive = play(&story, 1, PolicyKind::Naive);
    assert!(good(&naive, 65..180, None) < 0.3, "{}", good(&naive, 65..180, None));
    assert!(good(&naive, 360..420, None) < 0.1, "{}", good(&naive, 360..420, None));
    assert!(!breaches(&naive, &["I7"]).is_empty(), "it takes a full queue for death");
    let ours = ours(&story);
    sound(&ours);
    assert!(good(&ours, 380..410, None) >= 0.98, "{}", good(&ours, 380..410, None));
}

#[test]
fn ten_times_the_load_is_refused_without_a_verdict() {
    let played = ours(&story(0.65, 120, vec![during(30, 90, surge(10.0))]));
    sound(&played);
    assert_eq!(played.run.transitions, 0);
    let served: u32 = played.timeline.seconds[40..85]
        .iter()
        .flat_map(|second| second.tiers.iter().map(|tier| tier.good))
        .sum();
    assert!(served >= 45 * 240, "{served} of a capacity of 300 a second");
    assert!(good(&played, 100..115, None) >= 0.99);
}

#[test]
fn without_control_messages_the_fleet_serves_on() {
    let effect = LinkEffect { loss: 1.0, ..LinkEffect::default() };
    let (gateways, sites) = (Which::All, Which::All);
    let direction = Direction::Both;
    let link = FaultKind::Link { gateways, sites, effect, direction, part: Part::Control };
    let played = ours(&story(0.65, 150, vec![during(60, 120, link)]));
    sound(&played);
    assert!(good(&played, 0..150, None) >= 0.99);
}

#[test]
fn clients_of_a_dead_gateway_go_to_another() {
    let kind = FaultKind::GatewayCrash { gateways: Which::These(vec![2]), restart: secs(30) };
    let played = ours(&story(0.6, 150, vec![once(60, kind)]));
    sound(&played);
    assert!(good(&played, 0..150, None) >= 0.99);
}

#[test]
fn what_crashes_all_gateways_is_over_when_they_are_back() {
    let kind = FaultKind::CrashAll { what: Process::Gateways, restart: secs(5) };
    let played = ours(&story(0.6, 180, vec![once(60, kind)]));
    sound(&played);
    assert!(good(&played, 130..175, None) >= 0.99);
}

#[test]
fn a_bad_policy_harms_one_gateway_at_most() {
    let push = FaultKind::PolicyPush {
        content: Content::MissingField,
        author: String::from("somebody"),
        force: false,
        validator: false,
    };
    let played = ours(&story(0.6, 240, vec![once(60, push)]));
    sound(&played);
    assert!(good(&played, 0..240, None) >= 0.99);
}

#[test]
fn an_order_drains_a_site_without_harm() {
    let order = FaultKind::Override {
        verb: String::from("drain"),
        target: String::from("A"),
        life: secs(3600),
        gateway: 3,
        percent: 0,
    };
    let played = ours(&story(0.5, 150, vec![once(60, order)]));
    sound(&played);
    assert!(good(&played, 0..150, None) >= 0.99);
    let after: f64 = played.timeline.seconds[80..140]
        .iter()
        .map(|second| second.sites[0].admitted_cu.iter().sum::<f64>())
        .sum();
    assert!(after < 60.0, "A still gets {after}");
}

#[test]
fn a_wrong_label_is_found_out_by_the_receiver() {
    let played = ours(&story(0.6, 150, vec![during(60, 120, FaultKind::WrongLabel { site: 1 })]));
    sound(&played);
    assert!(good(&played, 0..150, None) >= 0.99);
}

#[test]
fn a_rule_taken_away_is_missed() {
    let gone = FaultKind::ControllerDown { sites: Which::All };
    let story = story(0.8, 60, vec![during(10, 50, surge(3.0)), during(30, 31, gone)]);
    sound(&ours(&story));
    let missed = |rule: Mutant, found: &str| {
        let mutants = Mutants::without(rule);
        let played = play_with(&story, 1, PolicyKind::Mainstay, mutants);
        assert!(!breaches(&played, &[found]).is_empty(), "{rule:?} breaks no {found}");
    };
    missed(Mutant::OverloadIsStrike, "I7");
    missed(Mutant::RecordIsLastGrant, "I2");
    missed(Mutant::NoSilenceAfterTakeover, "I2");
}

#[test]
fn every_other_fault_is_played_to_its_end() {
    let some = Which::These(vec![1]);
    let (sites, gateways) = (some.clone(), some);
    let faults = [
        FaultKind::Slow { sites: sites.clone(), share: 0.5, factor: 10.0 },
        FaultKind::WorkersLost { sites: sites.clone(), share: 0.5 },
        FaultKind::ControllerDown { sites: sites.clone() },
        FaultKind::ColdCache { sites, factor: 3.0 },
        FaultKind::MoveSessions { share: 0.4, to: 2 },
        FaultKind::Partition { groups: vec![((0..6).collect(), vec![1, 2, 3]), (vec![], vec![0])] },
        FaultKind::PeersCut { gateways: gateways.clone(), control: true },
        FaultKind::Clock { gateways, jump_seconds: 3600.0, drift: 0.05 },
        FaultKind::Release { requests: 2000, within: secs(1) },
        FaultKind::Patience { patience: secs(30) },
        FaultKind::Retries { retries: 5 },
        FaultKind::Tenant { tenant: 500, factor: 100.0 },
        FaultKind::Poison { tenant: 500 },
        FaultKind::Provider { site: 3, how: Trouble::Throttle { above: 2.0 } },
        FaultKind::Scale { from: 6, to: 12 },
        FaultKind::LedgerDown,
    ];
    for kind in faults {
        let name = format!("{kind:?}");
        let played = ours(&story(0.6, 60, vec![during(15, 40, kind)]));
        let found = breaches(&played, &ALWAYS);
        assert!(found.is_empty(), "{name}: {}", found[0]);
    }
}

#[test]
fn where_there_is_room_answers_broken_by_a_sites_loss_go_on_within_two_seconds() {
    let played = ours(&story(0.25, 80, vec![during(50, 79, lost(0, Loss::Refuse))]));
    let span = &played.timeline.seconds[50..60];
    let broken: u32 = span.iter().map(|second| second.broken).sum();
    let resumed: u32 = span.iter().map(|second| second.resumed).sum();
    assert!(broken > 100 && resumed * 100 >= broken * 99, "{resumed} of {broken}");
}

#[test]
fn a_tenant_at_a_hundred_times_its_rate_slows_nobody_else_by_a_twentieth() {
    let loud = FaultKind::Tenant { tenant: 500, factor: 100.0 };
    let played = ours(&story(0.65, 240, vec![during(120, 239, loud)]));
    let p99 = |range: std::ops::Range<usize>| {
        let sites = played.timeline.seconds[range].iter().flat_map(|second| &second.sites);
        let mut times: Vec<f32> = sites.flat_map(|site| site.first_ms.iter().copied()).collect();
        times.sort_unstable_by(f32::total_cmp);
        times[times.len() * 99 / 100]
    };
    let (before, then) = (p99(20..120), p99(125..235));
    assert!(then < before * 1.05, "{then} ms, {before} ms before");
}
