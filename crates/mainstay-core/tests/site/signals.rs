//! What whoever buys machines is told, and what comes of doing as it says.

use crate::bench::{TARGET, at, config, open, up};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::message::Open;
use mainstay_core::names::{TierId, Work, WorkerId};
use mainstay_core::rng::Rng;
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::{Duration, Time};
use std::collections::{BTreeMap, BTreeSet};

/// An answer takes so long, whatever else there is to do, and a worker writes so many at once: four
/// a second.
const ANSWER: Duration = Duration::from_secs(8);
const STREAMS: u32 = 32;
/// What a worker carries by its calibration, in cost units a second.
const CARRIES: u64 = 4;

#[derive(Debug)]
enum Next {
    Arrives,
    FirstToken(Work),
    Ends(Work),
    Tick,
}

/// A site whose workers answer each request in the same time.
struct Play {
    site: Site,
    now: Time,
    calendar: BTreeMap<(Time, u64), Next>,
    numbers: u64,
    count: u16,
    rng: Rng,
    /// Requests a second.
    load: f64,
    given: BTreeSet<Work>,
}

impl Play {
    fn new(workers: u16, load: f64, seed: u64) -> Play {
        let mut play = Play {
            site: Site::first(config(1), seed),
            now: at(1),
            calendar: BTreeMap::new(),
            numbers: 0,
            count: 0,
            rng: Rng::new(seed),
            load,
            given: BTreeSet::new(),
        };
        play.have(workers, false);
        play.put(Duration::from_millis(5), Next::Arrives);
        play.put(Duration::from_millis(1), Next::Tick);
        play
    }

    fn put(&mut self, after: Duration, next: Next) {
        self.numbers += 1;
        self.calendar.insert((self.now + after, self.numbers), next);
    }

    /// So many workers are there from now on.
    fn have(&mut self, workers: u16, cold: bool) {
        for id in self.count..workers {
            let state = up(CARRIES, STREAMS, cold);
            self.tell(Event::Worker { worker: WorkerId(id), state });
        }
        for id in workers..self.count {
            self.tell(Event::Worker { worker: WorkerId(id), state: WorkerState::Down });
        }
        self.count = workers;
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.site.handle(self.now, event, &mut actions);
        for action in actions {
            match action {
                Action::Dispatch { work, .. } => {
                    self.given.insert(work);
                    self.put(Duration::from_millis(100), Next::FirstToken(work));
                    self.put(ANSWER, Next::Ends(work));
                }
                Action::Abort { work, .. } => {
                    self.given.remove(&work);
                }
                _ => {}
            }
        }
    }

    fn run(&mut self, until: Time) {
        while let Some(((at, _), next)) = self.calendar.pop_first() {
            self.now = at;
            match next {
                Next::Arrives => {
                    self.numbers += 1;
                    let one = open(self.numbers);
                    self.tell(Event::Open(Open { left: Duration::from_secs(600), ..one }));
                    let gap = -(1.0 - self.rng.unit()).ln() / self.load;
                    self.put(Duration::from_secs_f64(gap), Next::Arrives);
                }
                Next::FirstToken(work) if self.given.contains(&work) => {
                    self.tell(Event::FirstToken { work, after: Duration::from_millis(100) });
                }
                Next::Ends(work) if self.given.remove(&work) => {
                    self.tell(Event::Ended { work, cost: CostUnits::whole(1) });
                }
                Next::FirstToken(_) | Next::Ends(_) => {}
                Next::Tick => {
                    self.tell(Event::Tick);
                    self.put(Duration::from_secs(1), Next::Tick);
                }
            }
            if self.now >= until {
                return;
            }
        }
    }

    fn p95(&self) -> Option<Duration> {
        let signal = self.site.signal(TARGET).expect("a pool");
        signal.delays(TierId(0)).map(|(_, p95)| p95)
    }

    fn wanted(&self) -> u16 {
        self.site.standing(self.now, TARGET).expect("a pool").wanted
    }
}

/// ai-dynamo/dynamo#10528: an answer takes as long as ever, and who waits for it waits longer and
/// longer.
#[test]
fn the_signal_rises_with_the_wait_though_answers_take_as_long_as_ever() {
    let mut play = Play::new(2, 4.0, 1);
    play.run(at(60_000));
    let quiet = play.p95().expect("work was given out");
    assert!(quiet < Duration::from_millis(100), "{quiet:?}");
    assert_eq!(play.wanted(), 2);
    let headroom = play.site.signal(TARGET).expect("a pool").headroom();
    assert!(headroom > CostRate::whole(2) && headroom < CostRate::whole(6), "{headroom:?}");
    // Ten a second for eight.
    play.load = 10.0;
    let mut waits = Vec::new();
    for second in [75, 85, 95] {
        play.run(at(second * 1000));
        waits.push(play.p95().expect("work was given out"));
    }
    assert!(waits.is_sorted() && waits[2] > Duration::from_millis(2_500), "{waits:?}");
    assert_eq!(play.wanted(), 3, "{waits:?}");
    let headroom = play.site.signal(TARGET).expect("a pool").headroom();
    assert!(headroom < CostRate(500), "{headroom:?}");
    assert!(play.site.signal(TARGET).expect("a pool").delays(TierId(2)).is_none());
}

/// Where nothing is given out there is no wait that ended, and the longest there are.
#[test]
fn who_is_given_nothing_at_all_counts_too() {
    let mut play = Play::new(1, 4.0, 1);
    play.run(at(20_000));
    // All of its streams hang.
    play.calendar.retain(|_, next| !matches!(next, Next::Ends(_)));
    play.given.clear();
    play.run(at(30_000));
    assert!(play.p95() > Some(Duration::from_secs(4)), "{:?}", play.p95());
    assert_eq!(play.wanted(), 2);
}

/// ai-dynamo/dynamo#12430, #9294, #12428: whoever does as it says gets as many workers as it takes,
/// and keeps them. A worker takes two minutes until it is there, and begins cold.
#[test]
fn workers_wanted_does_not_swing_when_one_does_as_it_says() {
    for (load, enough) in [(1.2, 1), (3.0, 2), (5.6, 2), (8.8, 3)] {
        let mut play = Play::new(2, load, 1);
        let mut changes = vec![(0, 2)];
        // Started, and there from then on.
        let mut comes: Option<(u64, u16)> = None;
        for second in (30..3_600).step_by(15) {
            play.run(at(second * 1000));
            let (wanted, count) = (play.wanted(), play.count);
            assert!(wanted.abs_diff(count) <= 1 && wanted <= enough + 1, "{load}: {wanted}");
            if let Some((_, count)) = comes.filter(|(then, _)| *then <= second) {
                play.have(count, true);
                comes = None;
            } else if comes.is_none() && wanted != count {
                changes.push((second, wanted));
                match wanted > count {
                    true => comes = Some((second + 120, wanted)),
                    false => play.have(wanted, false),
                }
            }
        }
        println!("{load} requests/s: {} workers in the end, {changes:?}", play.count);
        let ups: Vec<bool> = changes.windows(2).map(|two| two[1].1 > two[0].1).collect();
        let turns = ups.windows(2).filter(|two| two[0] != two[1]).count();
        // What gathered while the first was started may ask for one more, once.
        assert!(play.count == enough && turns <= 1, "{load}: {changes:?}");
        assert!(changes.last().is_some_and(|(second, _)| *second < 1_800), "{load}: {changes:?}");
    }
}
