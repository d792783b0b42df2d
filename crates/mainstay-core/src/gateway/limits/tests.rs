//! What callers may use, at one gateway and shared out between sixteen.

use super::*;
use crate::gateway::quota::{Listing, home};
use crate::lease::Terms;
use crate::message::{QuotaGrant, QuotaReport};
use crate::names::GatewayId;
use crate::rng::Rng;

fn at(micros: u64) -> Time {
    Time::from_micros(1_000_000_000 + micros)
}

fn alone() -> Limits {
    let listing = Listing { generation: 1, gateways: 1 };
    Limits::new(Quota::new(at(0), GatewayId(0), listing, Terms::QUOTA))
}

fn party(contract: Contract) -> Party {
    Party { id: 42, contract }
}

fn tokens(tokens: u64) -> Use {
    Use { tokens, cost: CostUnits::ZERO }
}

#[test]
fn a_rate_of_three_a_minute_is_exact_however_often_is_asked() {
    let bound = [party(Contract { requests: Some(3), ..Contract::default() })];
    let mut limits = alone();
    let mut admitted = 0;
    // Ten minutes, asked a thousand times a second.
    for n in 0..600_000u64 {
        admitted += u32::from(limits.admit(at(n * 1000 + n % 7), &bound, Use::default()).is_ok());
    }
    // Three a minute, a quarter at once, and the one that is under way.
    assert_eq!(admitted, 30 + 1);
}

#[test]
fn who_comes_back_when_told_is_let_in_and_not_a_microsecond_sooner() {
    let bound = [party(Contract { requests: Some(7), ..Contract::default() })];
    let mut limits = alone();
    let mut now = 0;
    for _ in 0..50 {
        match limits.admit(at(now), &bound, Use::default()) {
            Ok(()) => now += 1,
            Err(beyond) => {
                let wait = u64::try_from(beyond.wait.as_micros()).unwrap();
                assert!(limits.admit(at(now + wait - 1), &bound, Use::default()).is_err());
                assert_eq!(limits.admit(at(now + wait), &bound, Use::default()), Ok(()));
                now += wait;
            }
        }
    }
}

#[test]
fn a_request_takes_all_it_needs_or_nothing() {
    let key = party(Contract { requests: Some(60), ..Contract::default() });
    let tenant =
        Party { id: 43, contract: Contract { concurrency: Some(1), ..Contract::default() } };
    let bound = [key, tenant];
    let mut limits = alone();
    assert_eq!(limits.admit(at(0), &bound, Use::default()), Ok(()));
    for n in 0..20 {
        let beyond = limits.admit(at(n), &bound, Use::default()).unwrap_err();
        assert_eq!((beyond.dimension, beyond.party), (Dimension::Concurrency, 1));
    }
    let room = limits.room(at(20), &bound, Dimension::Requests).unwrap();
    assert_eq!((room.limit, room.remaining), (60, 5), "four seconds' worth and what came in");
    limits.end(&bound);
    assert_eq!(limits.admit(at(21), &bound, Use::default()), Ok(()));
    assert_eq!(limits.room(at(21), &bound, Dimension::Tokens), None);
}

#[test]
fn tokens_are_taken_as_predicted_and_settled_as_used() {
    let bound = [party(Contract { tokens: Some(6000), ..Contract::default() })];
    let mut limits = alone();
    assert_eq!(limits.admit(at(0), &bound, tokens(400)), Ok(()));
    assert_eq!(limits.room(at(0), &bound, Dimension::Tokens).unwrap().remaining, 100);
    // It used a quarter of what it was taken to use.
    limits.settle(at(0), &bound, (tokens(400), tokens(100)));
    let room = limits.room(at(0), &bound, Dimension::Tokens).unwrap();
    assert_eq!((room.limit, room.remaining), (6000, 400));
    assert_eq!(room.reset, Duration::from_secs(1));
    // One that nobody predicted keeps the next ones waiting, and is not cut itself.
    assert_eq!(limits.admit(at(0), &bound, tokens(100)), Ok(()));
    limits.settle(at(0), &bound, (tokens(100), tokens(1300)));
    let beyond = limits.admit(at(0), &bound, tokens(1)).unwrap_err();
    assert_eq!(beyond.wait.as_micros(), 9_000_001 - 1 + 1, "900 tokens at 100 a second");
}

/// A request that runs: when it ends, where, how many tokens it uses and is taken to.
struct Running {
    until: u64,
    at: usize,
    used: u64,
}

/// Gateways that share limits over a network which loses a message in fifty, for so many seconds.
struct Fleet {
    rng: Rng,
    all: Vec<Limits>,
    wire: Vec<(u64, usize, usize, Said)>,
    running: Vec<Running>,
    bound: [Party; 1],
    /// Cut off from all others.
    cut: Vec<usize>,
    requests: u64,
    tokens: u64,
}

enum Said {
    Report(QuotaReport),
    Grant(QuotaGrant),
}

/// Of a stream whose length nobody knows, so much is taken.
const PREDICTED: u64 = 50;

impl Fleet {
    fn new(gateways: u16, contract: Contract) -> Fleet {
        let listing = Listing { generation: 1, gateways };
        let limits = |n| Limits::new(Quota::new(at(0), GatewayId(n), listing, Terms::QUOTA));
        Fleet {
            rng: Rng::new(1),
            all: (0..gateways).map(limits).collect(),
            wire: Vec::new(),
            running: Vec::new(),
            bound: [party(contract)],
            cut: Vec::new(),
            requests: 0,
            tokens: 0,
        }
    }

    fn send(&mut self, millis: u64, (from, to): (usize, usize), said: Said) {
        let is_cut = self.cut.contains(&from) != self.cut.contains(&to);
        if !is_cut && self.rng.below(50) > 0 {
            self.wire.push((millis + 1 + self.rng.below(80), to, from, said));
        }
    }

    /// Milliseconds from `from` to `to`, with so many requests a second offered in all.
    fn play(&mut self, from: u64, to: u64, offered: u64) {
        for millis in from..to {
            let now = at(millis * 1000);
            let due = millis * offered / 1000 - (millis.max(1) - 1) * offered / 1000;
            for _ in 0..due {
                let gateway = self.rng.below(self.all.len() as u64) as usize;
                self.offer(millis, gateway);
            }
            let ended = self.running.extract_if(.., |one| one.until <= millis);
            for one in ended.collect::<Vec<_>>() {
                let settled = (tokens(PREDICTED), tokens(one.used));
                self.all[one.at].settle(now, &self.bound, settled);
                self.all[one.at].end(&self.bound);
                self.tokens += one.used;
            }
            self.talk(millis);
        }
    }

    fn offer(&mut self, millis: u64, gateway: usize) {
        let wanted = tokens(PREDICTED);
        if self.all[gateway].admit(at(millis * 1000), &self.bound, wanted).is_ok() {
            self.requests += 1;
            let used = 1 + self.rng.below(2 * PREDICTED - 1);
            self.running.push(Running { until: millis + used * 20, at: gateway, used });
        }
    }

    fn talk(&mut self, millis: u64) {
        let now = at(millis * 1000);
        let (due, left) =
            core::mem::take(&mut self.wire).into_iter().partition(|it| it.0 <= millis);
        self.wire = left;
        let due: Vec<(u64, usize, usize, Said)> = due;
        for (_, to, from, said) in due {
            match said {
                Said::Grant(grant) => self.all[to].quota.granted(now, grant),
                Said::Report(report) => {
                    let quotas = self.bound[0].quotas();
                    let quota = quotas.into_iter().find(|(_, key, _)| *key == report.key);
                    let quota = quota.expect("one of its quotas").2;
                    let from_id = GatewayId(from as u16);
                    let quotas = &mut self.all[to].quota;
                    let grant = quotas.report(now, (from_id, report), quota, &|_| true);
                    if let Some(grant) = grant {
                        self.send(millis, (to, from), Said::Grant(grant));
                    }
                }
            }
        }
        for n in 0..self.all.len() {
            if self.all[n].quota.deadline().is_some_and(|next| next <= now) {
                for (to, report) in self.all[n].quota.reports(now, &|_| true) {
                    self.send(millis, (n, usize::from(to.0)), Said::Report(report));
                }
            }
        }
    }
}

#[test]
fn sixteen_gateways_offered_ten_times_the_limit_admit_it_within_a_slice() {
    let contract = Contract { requests: Some(6000), ..Contract::default() };
    let mut fleet = Fleet::new(16, contract);
    // Who starts waits until what a gateway before it may have granted has lapsed.
    fleet.play(0, 30_000, 1000);
    let before = fleet.requests;
    fleet.play(30_000, 90_000, 1000);
    let admitted = fleet.requests - before;
    // A slice is a sixteenth of ten seconds' worth.
    let slice = 6000 / 6 / 16;
    assert!((6000 - slice..=6000 + slice).contains(&admitted), "{admitted} of 6000");
}

#[test]
fn while_four_are_cut_off_no_more_is_admitted_than_the_bound_says() {
    let contract = Contract { requests: Some(6000), ..Contract::default() };
    let key = party(contract).key(Dimension::Requests);
    let house = usize::from(home(key, 16).0);
    // With the home among the four, or not.
    for first in [house, house + 1] {
        let mut fleet = Fleet::new(16, contract);
        fleet.play(0, 30_000, 1000);
        let before = fleet.requests;
        fleet.cut = (first..first + 4).map(|n| n % 16).collect();
        fleet.play(30_000, 90_000, 1000);
        let admitted = fleet.requests - before;
        // Quota, one lease of it, and a tenth of it while cut off.
        assert!(admitted <= 6000 + 1000 + 600, "{admitted}");
        fleet.cut.clear();
        let before = fleet.requests;
        fleet.play(90_000, 150_000, 1000);
        let admitted = fleet.requests - before;
        // What the others hold comes back within a lease.
        assert!((6000 - 1000..=6000 + 1000).contains(&admitted), "{admitted} after it healed");
    }
}

#[test]
fn tokens_of_streams_of_unknown_length_stay_within_the_limit_and_what_runs() {
    let contract = Contract { tokens: Some(300_000), ..Contract::default() };
    let mut fleet = Fleet::new(16, contract);
    fleet.play(0, 30_000, 1000);
    let (before, under_way) = (fleet.tokens, fleet.running.len() as u64);
    fleet.play(30_000, 90_000, 1000);
    let used = fleet.tokens - before;
    // What runs at either end is counted where it ends.
    let slack = 300_000 / 6 / 16 + under_way.max(fleet.running.len() as u64) * PREDICTED;
    assert!((300_000 - slack..=300_000 + slack).contains(&used), "{used} of 300000 ± {slack}");
}

#[test]
fn how_long_a_callers_answers_are_is_learned_and_longer_ones_sooner() {
    let (mut limits, parties) = (alone(), [party(Contract::default())]);
    assert_eq!(limits.predict(&parties, 1000), 1000);
    limits.learn(&parties, 100);
    // A request that got nothing says nothing.
    limits.learn(&parties, 0);
    assert_eq!((limits.predict(&parties, 1000), limits.predict(&parties, 20)), (100, 20));
    limits.learn(&parties, 900);
    assert_eq!(limits.predict(&parties, 1000), 500);
    limits.learn(&parties, 100);
    assert_eq!(limits.predict(&parties, 1000), 450);
    assert_eq!(limits.predict(&[], 1000), 1000);
}

#[test]
fn at_once_no_more_run_than_the_limit_or_one_at_each_gateway() {
    for (most, bound) in [(40, 40 + 16), (4, 16)] {
        let contract = Contract { concurrency: Some(most), ..Contract::default() };
        let mut fleet = Fleet::new(16, contract);
        let mut worst = 0;
        for second in 0..60 {
            fleet.play(second * 1000, second * 1000 + 1000, 200);
            worst = worst.max(fleet.running.len());
        }
        assert!(worst <= bound, "{worst} at once of {most}");
        assert!(worst >= most as usize, "{worst} at once of {most}");
    }
}
