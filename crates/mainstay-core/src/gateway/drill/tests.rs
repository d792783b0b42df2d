//! Whatever comes, a drill breaks no more than it may, spares nobody by luck, and has an end.

use super::*;
use crate::drill::{BLAST_CAP, CUT_TOKENS};
use crate::gateway::request::{Ask, State};
use crate::rng::Rng;

fn at(millis: u64) -> Time {
    Time::from_micros(1_000_000_000 + millis * 1000)
}

fn plan(percent: u8, blast_cap: u8) -> Plan {
    Plan {
        id: 7,
        site: SiteId(1),
        breakage: Breakage::Cut(CUT_TOKENS),
        percent,
        before: Duration::from_secs(5),
        lasts: Duration::from_secs(30),
        blast_cap,
        floors: alloc::vec![95, 0],
    }
}

fn life(arrived: Time, tier: u8, waited: Option<Duration>) -> Life {
    Life {
        ask: Ask { tier: TierId(tier), ..Ask::default() },
        arrived,
        deadline: arrived + Duration::from_secs(60),
        first_token: waited,
        attempts: 1,
        resumes: 0,
        returned: false,
        moved: false,
        asked: Default::default(),
        session: 0,
        home: None,
        paid_only: false,
        counted: None,
        no_native: Vec::new(),
        story: Vec::new(),
        standing: Default::default(),
        state: State::Holding { again: arrived, give_up: arrived },
        planned: None,
    }
}

const SOON: Option<Duration> = Some(Duration::from_millis(80));

#[test]
fn it_breaks_only_its_site_only_in_its_time_and_the_same_requests_again() {
    let mut drill = Drill::new(at(0), plan(30, 100), 2);
    let who = |request: u64| (RequestId(request), TierId(0));
    assert!((0..100).all(|r| drill.judge(at(4999), who(r), SiteId(1)) == Fate::Whole));
    assert!((0..100).all(|r| drill.judge(at(5000), who(r), SiteId(0)) == Fate::Whole));
    let broken = |drill: &mut Drill, when| -> Vec<u64> {
        let hit = |r: &u64| drill.judge(when, who(*r), SiteId(1)) != Fate::Whole;
        (0..1000).filter(hit).collect()
    };
    let first = broken(&mut drill, at(6000));
    assert!((250..350).contains(&first.len()), "{}", first.len());
    assert_eq!(first, broken(&mut drill, at(34_000)), "nobody is spared who comes back");
    assert!(broken(&mut drill, at(35_000)).is_empty(), "its time is over");
}

#[test]
fn the_blast_cap_holds_whatever_comes() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let cap = 1 + rng.below(100) as u8;
        let mut drill = Drill::new(at(0), plan(1 + rng.below(100) as u8, cap), 2);
        let mut told = 0;
        for _ in 0..2000 {
            let when = at(5000 + rng.below(30_000));
            let who = (RequestId(rng.bits()), TierId(rng.below(2) as u8));
            let fate = drill.judge(when, who, SiteId(rng.below(3) as u16));
            told += u32::from(fate == Fate::Spared(true));
            let (attempts, broken) = drill.blast();
            let may = (u64::from(attempts) * u64::from(cap) / 100).max(u64::from(BURST));
            assert!(u64::from(broken) <= may, "seed {seed}: {broken} of {attempts} at {cap} %");
        }
        assert!(told <= 1, "seed {seed}: told once");
        let sum = |of: fn(&Tally) -> u32| drill.tiers().iter().map(of).sum::<u32>();
        assert_eq!((sum(|t| t.attempts), sum(|t| t.broken)), drill.blast(), "seed {seed}");
    }
}

#[test]
fn a_tier_below_its_floor_is_seen_after_twenty_ends_and_what_came_before_does_not_count() {
    let mut drill = Drill::new(at(0), plan(100, BLAST_CAP), 2);
    for n in 0..50 {
        drill.closed(at(5000 + n), &life(at(4000), 0, None), Outcome::Failed);
        drill.closed(at(5000 + n), &life(at(5000), 1, None), Outcome::Failed);
    }
    assert_eq!(drill.below_floor(), None, "before it began, and a tier without a floor");
    for n in 0..u64::from(ENDS_MIN) {
        assert_eq!(drill.below_floor(), None, "{n}");
        let outcome = if n < 2 { Outcome::Refused } else { Outcome::Done };
        drill.closed(at(6000 + n), &life(at(6000), 0, SOON), outcome);
    }
    assert_eq!(drill.below_floor(), Some((TierId(0), 90)));
    for n in 0..100 {
        drill.closed(at(20_000 + n), &life(at(20_000), 0, SOON), Outcome::Done);
    }
    assert_eq!(drill.below_floor(), None, "what ended long ago is forgotten");
}

#[test]
fn what_came_is_what_became_of_it_by_the_second_of_its_coming() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let mut drill = Drill::new(at(0), plan(100, BLAST_CAP), 2);
        let mut lives: Vec<Life> = Vec::new();
        for millis in 0..3000u64 {
            let tier = rng.below(2) as u8;
            let life = life(at(millis * 20), tier, SOON.filter(|_| rng.below(2) == 0));
            drill.arrived(life.arrived, TierId(tier), CostUnits::whole(1));
            lives.push(life);
        }
        drill.end(at(40_000), End::Stopped);
        drill.end(at(41_000), End::Time);
        for life in &lives {
            let outcomes = [Outcome::Done, Outcome::Refused, Outcome::Failed, Outcome::Gone];
            let ended = life.arrived + Duration::from_millis(rng.below(9000));
            drill.closed(ended, life, outcomes[rng.below(4) as usize]);
        }
        for (at, second) in drill.seconds().iter().enumerate() {
            for tier in second {
                let ends = tier.good + tier.shed + tier.failed;
                assert_eq!(ends, tier.asked, "seed {seed}, second {at}");
            }
        }
        assert_eq!(drill.seconds().len(), 60, "seed {seed}");
        assert_eq!(drill.ended(), Some((at(40_000), End::Stopped)), "it ends once");
    }
}

#[test]
fn an_answer_whose_first_token_is_late_is_not_good() {
    let mut drill = Drill::new(at(0), plan(100, BLAST_CAP), 2);
    let late = Some(PROMISE + Duration::from_millis(1));
    for waited in [SOON, late] {
        drill.arrived(at(7000), TierId(0), CostUnits::whole(2));
        drill.closed(at(16_000), &life(at(7000), 0, waited), Outcome::Done);
    }
    let second = Second { asked: 2, good: 1, shed: 0, failed: 1, cost: CostUnits::whole(4) };
    assert_eq!(drill.seconds()[7][0], second);
}

#[test]
fn only_a_site_that_is_gone_for_everybody_grants_nothing() {
    let down = Plan { breakage: Breakage::Down, ..plan(100, 100) };
    let drill = Drill::new(at(0), down.clone(), 2);
    let heard = |drill: &Drill, when, site| !drill.silences(when, SiteId(site));
    assert!(heard(&drill, at(4000), 1) && heard(&drill, at(6000), 0));
    assert!(!heard(&drill, at(6000), 1) && heard(&drill, at(36_000), 1));
    let part = Drill::new(at(0), Plan { percent: 99, ..down }, 2);
    assert!(heard(&part, at(6000), 1));
    assert!(heard(&Drill::new(at(0), plan(100, 100), 2), at(6000), 1), "its streams are cut");
}

#[test]
fn it_has_a_beginning_and_an_end_that_are_asked_for() {
    let mut drill = Drill::new(at(0), plan(5, BLAST_CAP), 2);
    assert_eq!((drill.phase(at(0)), drill.deadline()), (Phase::Before, Some(at(5000))));
    assert!(!drill.begins(at(4999)) && drill.begins(at(5001)) && !drill.begins(at(5002)));
    assert_eq!((drill.phase(at(5002)), drill.deadline()), (Phase::During, Some(at(35_000))));
    assert!(!drill.is_due(at(34_999)) && drill.is_due(at(35_000)));
    drill.end(at(35_000), End::Time);
    assert_eq!((drill.phase(at(35_000)), drill.deadline()), (Phase::After, None));
    drill.arrived(at(35_000) + AFTER, TierId(0), CostUnits::whole(1));
    assert!(drill.seconds().is_empty(), "not for ever");
}

#[test]
fn a_probe_finds_what_clients_find_and_is_not_counted() {
    let mut drill = Drill::new(at(0), plan(50, 100), 2);
    let broken = drill.plan().breakage;
    for request in (0..200).map(RequestId) {
        assert_eq!(drill.found(at(4999), request, SiteId(1)), None, "it has not begun");
        let found = drill.found(at(6000), request, SiteId(1));
        assert_eq!(drill.found(at(6000), request, SiteId(0)), None);
        let (_, before) = drill.blast();
        let fate = drill.judge(at(6000), (request, TierId(0)), SiteId(1));
        assert_eq!(drill.blast().1, before + u32::from(found.is_some()));
        assert_eq!(fate, found.map_or(Fate::Whole, |_| Fate::Broken(broken)));
    }
}
