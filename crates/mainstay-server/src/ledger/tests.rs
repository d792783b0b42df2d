//! What the ledger keeps, through kills, broken disks and other processes.

use super::row::{Attempt, Counted, Who};
use super::store::Store;
use super::usage::{By, Place, costs, usage};
use super::*;
use crate::gateway::auth::{Caller, Known};
use crate::link::NodeName;
use crate::telemetry::Names;
use mainstay_core::money::Money;
use mainstay_core::names::TierId;
use mainstay_core::plan::{Budget, Level, Period, Plan, Spending};
use std::path::Path;

const DAY: u64 = 86_400_000_000;

fn keeping(directory: &Path) -> Keeping {
    Keeping { file: directory.join("ledger.db"), postgres: None, node: "here".into(), days: None }
}

fn begin(directory: &Path) -> Ledger {
    begin_so(keeping(directory))
}

fn begin_so(keeping: Keeping) -> Ledger {
    let telemetry = Arc::new(Telemetry::new(Names::default()));
    Ledger::begin(keeping, telemetry)
}

fn who(key: &str) -> Who {
    Who { key: key.into(), tenant: "acme".into(), tier: "pro".into(), rank: 1 }
}

fn attempt(number: u8, site: &str, outcome: &str, cost: i64) -> Attempt {
    let tokens = Counted { prompt: 10, cached: 0, output: 5 };
    let (site, outcome) = (site.to_string(), outcome.to_string());
    Attempt { number, at: DAY, site, target: "m".into(), outcome, tokens, estimated: false, cost }
}

fn entry(id: u64, key: &str) -> Entry {
    Entry {
        id,
        at: DAY.wrapping_add(id),
        who: who(key),
        model: "chat".into(),
        site: "b".into(),
        target: "m".into(),
        outcome: "done".into(),
        tokens: Counted { prompt: 10, cached: 2, output: 5 },
        price: 7,
        free: 1,
        attempts: vec![attempt(1, "a", "overload", 3), attempt(2, "b", "whole", 4)],
    }
}

fn opening(id: u64) -> Opening {
    let attempt = attempt(1, "a", "lost", 2);
    Opening { id, who: who("k"), model: "chat".into(), attempt }
}

/// All of it.
fn all(directory: &Path, by: By) -> Vec<(String, usage::Sum)> {
    let place = Place::File(directory.join("ledger.db"));
    usage(&place, by, (0, i64::MAX)).expect("a ledger").into_iter().collect()
}

#[test]
fn a_request_is_billed_once_however_often_it_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&directory.path().join("ledger.db"), "here").expect("a file");
    let entries = [entry(1, "k"), entry(u64::MAX, "k")];
    assert_eq!(store.commit(&entries).expect("written"), 2);
    assert_eq!(store.commit(&entries).expect("written"), 0);
    let rows = store.after(0, 10).expect("rows");
    assert_eq!(rows.iter().map(|(_, _, entry)| entry.id).collect::<Vec<_>>(), [1, u64::MAX]);
    let expected = Entry { who: Who { rank: 0, ..who("k") }, ..entry(1, "k") };
    assert_eq!(rows[0].2, expected);
    assert_eq!(store.behind(rows[0].0).expect("a count"), (1, Some(DAY.wrapping_add(u64::MAX))));
}

#[test]
fn failed_attempts_are_cost_and_no_completion() {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = begin(directory.path());
    ledger.settle(entry(1, "k"));
    ledger.settle(entry(2, "other"));
    ledger.settle(Entry { outcome: "gone".into(), ..entry(3, "k") });
    ledger.end();
    let sums = all(directory.path(), By::Key);
    let [(key, sum), _] = &sums[..] else { panic!("{sums:?}") };
    assert_eq!(key, "k");
    assert_eq!((sum.requests, sum.answered, sum.failed), (2, 1, 0));
    assert_eq!((sum.prompt, sum.cached, sum.output), (20, 4, 10));
    assert_eq!((sum.price, sum.free), (14, 2));
    assert_eq!((sum.attempts, sum.attempts_failed), (4, 2));
    assert_eq!((sum.cost, sum.cost_failed), (14, 6));
    let sites = all(directory.path(), By::Site);
    let told: Vec<_> = sites.iter().map(|(s, sum)| (s.as_str(), sum.requests, sum.cost)).collect();
    assert_eq!(told, [("a", 0, 9), ("b", 3, 12)]);
    assert_eq!(all(directory.path(), By::Day)[0].0, "1");
    let place = Place::File(directory.path().join("ledger.db"));
    let costs = costs(&place, (0, i64::MAX)).expect("costs");
    let of_a = &costs[&("a".to_string(), "m".to_string())];
    assert_eq!((of_a[0].day, of_a[0].attempts, of_a[0].cost), (1, 3, 9));
}

#[test]
fn what_was_over_when_the_process_was_killed_is_billed_and_what_was_open_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::new(&directory.path().join("ledger.db"));
    assert!(journal.opened(&opening(1)) && journal.opened(&opening(2)));
    assert!(journal.settled(&entry(1, "k"), || {}));
    // Attempts under way are written into each file anew.
    journal.turn();
    journal.forget();
    assert!(journal.settled(&entry(3, "k"), || {}));
    drop(journal);
    let ledger = begin(directory.path());
    ledger.end();
    let sums = all(directory.path(), By::Nothing);
    let (_, sum) = &sums[0];
    // The first was queued and forgotten, as if the database had it.
    assert_eq!((sum.requests, sum.answered, sum.failed), (2, 1, 1));
    assert_eq!((sum.price, sum.cost), (7, 9));
    let again = begin(directory.path());
    again.end();
    assert_eq!(all(directory.path(), By::Nothing), sums);
}

#[test]
fn a_journal_outlives_its_directory_by_a_week_and_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let journal = Journal::new(&path);
    journal.opened(&opening(1));
    drop(journal);
    drop(directory);
    let other = tempfile::tempdir().expect("a directory");
    let sweep = || Journal::new(&other.path().join("ledger.db")).end();
    // Its disk was not mounted yet.
    sweep();
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    let left = Journal::new(&path);
    assert_eq!(left.left().open.len(), 1);
    drop(left);
    std::fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
    // Nobody came for long.
    let told = path.display().to_string();
    let mut aged = 0;
    for entry in std::fs::read_dir("/dev/shm").expect("the system's memory").flatten() {
        if std::fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(&told)) {
            let file = std::fs::File::options().write(true).open(entry.path()).expect("ours");
            file.set_modified(std::time::UNIX_EPOCH).expect("aged");
            aged += 1;
        }
    }
    assert_ne!(aged, 0);
    sweep();
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    let left = Journal::new(&path);
    assert_eq!(left.left().open, []);
    left.end();
    std::fs::remove_dir_all(path.parent().expect("a directory")).expect("removed");
}

#[test]
fn a_ledger_that_cannot_be_written_waits_in_memory_and_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    // A directory stands where the file should be.
    std::fs::create_dir(directory.path().join("ledger.db")).expect("made");
    let ledger = begin(directory.path());
    (0..10).for_each(|id| ledger.settle(entry(id, "k")));
    let until = Instant::now() + Duration::from_secs(5);
    while !ledger.lines().contains("mainstay_ledger_failing 1") {
        assert!(Instant::now() < until, "{}", ledger.lines());
        std::thread::yield_now();
    }
    assert!(ledger.lines().contains("mainstay_ledger_queued 10"), "{}", ledger.lines());
    std::fs::remove_dir(directory.path().join("ledger.db")).expect("removed");
    while !ledger.lines().contains("mainstay_ledger_requests_total 10") {
        assert!(Instant::now() < until, "{}", ledger.lines());
        std::thread::yield_now();
    }
    assert!(ledger.lines().contains("mainstay_ledger_failing 0"), "{}", ledger.lines());
    ledger.end();
}

#[test]
fn two_processes_do_not_keep_one_ledger() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = begin(directory.path());
    first.settle(entry(1, "k"));
    let until = Instant::now() + Duration::from_secs(5);
    while !first.lines().contains("mainstay_ledger_requests_total 1") {
        assert!(Instant::now() < until);
        std::thread::yield_now();
    }
    let second = begin(directory.path());
    while !second.lines().contains("mainstay_ledger_failing 1") {
        assert!(Instant::now() < until, "{}", second.lines());
        std::thread::yield_now();
    }
    second.settle(entry(2, "k"));
    first.end();
    while !second.lines().contains("mainstay_ledger_requests_total 1") {
        assert!(Instant::now() < until, "{}", second.lines());
        std::thread::yield_now();
    }
    second.end();
    assert_eq!(all(directory.path(), By::Nothing)[0].1.requests, 2);
}

fn tariff() -> Tariff {
    let budget = Budget { day: Some(Money(10)), month: None, is_hard: true, warn: 50 };
    let payer = Payer::Key("k".into());
    Tariff {
        plans: vec![Plan { name: "pay".into(), allowance: Money(4), prices: Vec::new() }],
        of_tier: [("pro".to_string(), 0)].into(),
        budgets: [(payer.clone(), BudgetLine { payer, budget, hook: None })].into(),
        ..Tariff::default()
    }
}

/// A key of one tenant, which may spend this much in a day.
fn caller(key: &str, budget_per_day: Option<f64>) -> Caller {
    let tenant = Some("acme".into());
    let terms = crate::setup::Terms { tenant, budget_per_day, ..Default::default() };
    let known = Known {
        id: 0,
        name: key.into(),
        tier: "pro".into(),
        prefix: String::new(),
        terms,
        is_revoked: false,
        parties: Arc::default(),
    };
    Caller { tier: TierId(1), tenant: 0, key: Some(Arc::new(known)), mark: None }
}

#[test]
fn budgets_are_held_in_memory_from_what_the_ledger_had_and_what_came_since() {
    let tariff = tariff();
    let one = caller("k", None);
    let terms = tariff.terms(&one, "pro");
    let purse = Purse::default();
    let at = Moment(1_709_208_000);
    assert_eq!(purse.pay(at, &terms, Money(3)), (Money(0), Money(3), vec![]));
    // Of another key of the tenant; and of this one, before this process began.
    let had = |key: &str, paid: i64| ("acme".to_string(), key.to_string(), paid, 0);
    purse.learn(at, vec![had("k", 2), had("l", 9)], vec![had("k", 2), had("l", 9)]);
    let told = |level: Level| Notice { payer: terms.key(), period: Period::Day, level };
    assert_eq!(purse.pay(at, &terms, Money(4)), (Money(3), Money(1), vec![told(Level::Near)]));
    assert_eq!(purse.refused(at, &terms), None);
    assert_eq!(purse.pay(at, &terms, Money(6)), (Money(6), Money(0), vec![told(Level::Spent)]));
    assert_eq!(purse.pay(at, &terms, Money(1)).2, []);
    let stop = purse.refused(at, &terms).expect("refused");
    assert_eq!((stop.period, stop.left), (Period::Day, 12 * 3600));
    assert_eq!(purse.refused(at, &tariff.terms(&caller("l", None), "pro")), None);
    // A budget that was given to a key when it was made holds as well.
    let small = caller("m", Some(0.000_002));
    let terms = tariff.terms(&small, "pro");
    assert_eq!(purse.refused(at, &terms), None);
    purse.pay(at, &terms, Money(2));
    assert!(purse.refused(at, &terms).is_some());
}

#[test]
fn what_went_through_other_gateways_counts_whatever_becomes_of_their_words() {
    let tariff = tariff();
    let one = caller("k", None);
    let terms = tariff.terms(&one, "pro");
    let (here, there, late) = (Purse::default(), Purse::default(), Purse::default());
    here.pay(Moment(0), &terms, Money(1));
    assert_eq!(here.news(), [], "what the ledger had is not known");
    for purse in [&here, &there, &late] {
        purse.learn(Moment(0), Vec::new(), Vec::new());
    }
    let (a, b) = (NodeName::new("a").expect("a name"), NodeName::new("b").expect("a name"));
    let at = Moment(1_709_208_000);
    // Four of the allowance are free, wherever.
    assert_eq!(here.pay(at, &terms, Money(3)).1, Money(3));
    there.hear(&a, here.news());
    assert_eq!(there.pay(at, &terms, Money(10)), (Money(9), Money(1), there_told(&terms)));
    let old = there.news();
    assert_eq!(there.pay(at, &terms, Money::ZERO).0, Money::ZERO);
    let words = [there.news(), old.clone()].concat();
    for _ in 0..3 {
        here.hear(&b, words.clone());
    }
    // Said three times, it is still nine of ten; and what is older or of yesterday says nothing.
    let less = |(payer, sum): &(Payer, Spending)| {
        let yesterday = Spending { day: (sum.day.0 - 1, Money(99)), ..*sum };
        [(payer.clone(), Spending { month: (sum.month.0, Money(1)), ..yesterday })]
    };
    here.hear(&b, old.iter().flat_map(less).collect());
    assert_eq!((here.refused(at, &terms), there.refused(at, &terms)), (None, None));
    assert_eq!(here.pay(at, &terms, Money(1)).0, Money(1));
    assert!(here.refused(at, &terms).is_some());
    assert_eq!(there.refused(at, &terms), None, "not told yet");
    let lost = here.news();
    assert_eq!(lost.len(), 2, "tenant and key");
    // What is lost is said again in turn; and nobody tells what another said.
    let again: Vec<_> = (0..10).flat_map(|_| here.news()).collect();
    for (peer, purse) in [(&a, &there), (&a, &late)] {
        purse.hear(peer, again.clone());
    }
    assert!(there.refused(at, &terms).is_some());
    assert_eq!(late.refused(at, &terms), None, "only one of ten went through there");
    late.hear(&b, words);
    assert!(late.refused(at, &terms).is_some());
    // Tomorrow is another day.
    assert_eq!(late.refused(Moment(at.0 + 86_400), &terms), None);
}

fn there_told(terms: &Terms<'_>) -> Vec<Notice> {
    vec![Notice { payer: terms.key(), period: Period::Day, level: Level::Near }]
}

#[test]
fn old_rows_go_with_their_attempts_and_those_postgresql_does_not_have_stay() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut store = Store::open(&directory.path().join("ledger.db"), "here").expect("opened");
    let at = |day: u64| Entry { at: day * DAY, ..entry(day, "k") };
    store.commit(&(1..=10).map(at).collect::<Vec<_>>()).expect("written");
    // Of nine that are old enough PostgreSQL has seven, and five go at once.
    let forget = |store: &mut Store| store.forget(10 * DAY, (7, 5)).expect("gone");
    assert_eq!([(); 3].map(|()| forget(&mut store)), [5, 2, 0]);
    let left = store.after(0, 100).expect("rows");
    assert_eq!(left.iter().map(|(_, _, entry)| entry.id).collect::<Vec<_>>(), [8, 9, 10]);
    assert!(left.iter().all(|(_, _, entry)| entry.attempts.len() == 2));
    let sum = all(directory.path(), By::Nothing)[0].1;
    assert_eq!((sum.requests, sum.attempts), (3, 6));
    // All of them: nothing is behind, and numbers go on.
    assert_eq!(store.forget(u64::MAX >> 1, (i64::MAX, 100)).expect("gone"), 3);
    assert_eq!(store.behind(10).expect("a count"), (0, None));
    store.commit(&[entry(11, "k")]).expect("written");
    assert_eq!(store.after(0, 100).expect("rows")[0].0, 11);
}

#[test]
fn a_ledger_keeps_rows_for_so_many_days_and_without_a_word_for_ever() {
    for (days, kept) in [(Some(62), 1), (None, 2)] {
        let directory = tempfile::tempdir().expect("a directory");
        let ledger = begin_so(Keeping { days, ..keeping(directory.path()) });
        ledger.settle(Entry { at: now(), ..entry(2, "k") });
        ledger.settle(Entry { at: now() - 63 * DAY, ..entry(1, "k") });
        let until = Instant::now() + Duration::from_secs(10);
        while !ledger.lines().contains("mainstay_ledger_requests_total 2") {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        let requests = || all(directory.path(), By::Nothing)[0].1.requests;
        while requests() > kept {
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
        ledger.end();
        assert_eq!(requests(), kept);
    }
}

#[test]
fn of_however_many_so_many_are_told_in_a_second_and_all_in_turn() {
    let purse = Purse::default();
    let at = Moment(1_709_208_000);
    let had = |n: i64| (format!("t{}", n % 7), format!("k{n}"), n, 0);
    let all: Vec<_> = (1..=5000).map(had).collect();
    purse.learn(at, all.clone(), all);
    let told: Vec<_> = (0..10).map(|_| purse.news()).collect();
    assert!(told.iter().all(|some| some.len() <= 502), "no more at the start than later");
    let whose: std::collections::BTreeSet<_> =
        told.into_iter().flatten().map(|(payer, _)| payer).collect();
    assert_eq!(whose.len(), 5007);
}
