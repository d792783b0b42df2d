//! The status machine by events and what it shows.

use super::*;
use crate::fact::Component::{Api, Model, Site};
use crate::rng::Rng;
use alloc::vec;
use alloc::vec::Vec;

mod crowds;
mod incidents;
mod works;

fn config(gateways: &[&str]) -> Config {
    let names = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
    Config {
        gateways: names(gateways),
        models: names(&["chat"]),
        sites: names(&["A", "B"]),
        ..Config::default()
    }
}

/// A fleet whose gateways tell how it goes, second by second.
struct Fleet {
    status: Status,
    now: Time,
    gateways: Vec<Summary>,
    facts: Vec<(u64, StatusFact)>,
}

/// Seconds since 1970 at the beginning: a Thursday.
const WALL: u64 = 20_000 * 86_400;

/// What one gateway counts in a second: good, failed, and how A and B stand.
type Second = (u64, u64, [Standing; 2]);

const UP: [Standing; 2] = [Standing::Up; 2];
const WELL: Second = (20, 0, UP);

impl Fleet {
    fn new(gateways: &[&str]) -> Fleet {
        let now = Time::ZERO + Duration::from_secs(86_400);
        let status = Status::new(now, WALL, config(gateways), Kept::default());
        let gateways = (1..).zip(gateways).map(|(run, _)| Summary { run, ..Summary::default() });
        Fleet { status, now, gateways: gateways.collect(), facts: Vec::new() }
    }

    /// Lets a second pass in which gateways count this; one that counts `None` is silent.
    fn second(&mut self, counted: &[Option<Second>]) {
        self.now = self.now + Duration::from_secs(1);
        for (at, counted) in counted.iter().enumerate() {
            self.gateways[at].elapsed += Duration::from_secs(1);
            let Some((good, failed, standing)) = counted else { continue };
            let summary = &mut self.gateways[at];
            let mut count = summary.api;
            count.good += good;
            count.failed += failed;
            count.first_tokens[3] += good;
            summary.api = count;
            summary.models = vec![(ModelId(0), count)];
            summary.sites = vec![
                (SiteId(0), standing[0], Count::default()),
                (SiteId(1), standing[1], Count::default()),
            ];
            let event = Event::Summary(GatewayId(at as u16), Box::new(summary.clone()));
            self.tell(event);
        }
        self.tell(Event::Tick);
    }

    fn seconds(&mut self, count: u64, counted: &[Option<Second>]) {
        (0..count).for_each(|_| self.second(counted));
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.status.handle(self.now, event, &mut actions);
        let second = self.now.as_micros() / 1_000_000 - 86_400;
        let told = actions.into_iter().map(|Action::Fact(fact)| (second, fact));
        self.facts.extend(told);
    }

    fn page(&self) -> Page {
        self.status.page(self.now)
    }

    fn state(&self, which: Which) -> State {
        let page = self.page();
        page.rows.iter().find(|row| row.component == which).expect("a row").state
    }

    /// Seconds until `which` is in this state while gateways go on counting so.
    fn until(&mut self, which: Which, state: State, counted: &[Option<Second>]) -> u64 {
        let waits = (1..=2000).find(|_| {
            self.second(counted);
            self.state(which) == state
        });
        waits.unwrap_or_else(|| panic!("never {state:?}: {:?}", self.facts))
    }
}

const CHAT: Which = Model(ModelId(0));
const A: Which = Site(SiteId(0));

#[test]
fn nothing_is_claimed_before_enough_was_seen() {
    let mut fleet = Fleet::new(&["g"]);
    assert_eq!(fleet.page().data, Data::None(Duration::ZERO));
    assert!(!fleet.page().is_known);
    fleet.second(&[Some((1, 0, [Standing::Unknown; 2]))]);
    fleet.seconds(30, &[Some((0, 0, [Standing::Unknown; 2]))]);
    assert_eq!((fleet.state(Api), fleet.state(A)), (State::NoData, State::NoData));
    assert_eq!(fleet.page().rows[0].good, None, "one of one is no share");
    let took = fleet.until(Api, State::Operational, &[Some(WELL)]);
    assert!(took <= 3, "60 requests are enough");
    assert_eq!((fleet.state(CHAT), fleet.state(A)), (State::Operational, State::Operational));
    assert_eq!(fleet.page().overall, Overall::Well);
    assert_eq!(fleet.page().rows[0].good, Some(1000));
    assert_eq!(fleet.page().rows[0].first_token, Some(Duration::from_millis(350)));
}

#[test]
fn an_outage_of_real_traffic_shows_within_ten_seconds() {
    for (rate, bound) in [(4, 6), (20, 6), (500, 6)] {
        let mut fleet = Fleet::new(&["g"]);
        fleet.seconds(40, &[Some((rate, 0, UP))]);
        let dead = [Some((0, rate, UP))];
        let shown = (1..=20).find(|_| {
            fleet.second(&dead);
            fleet.state(Api).is_impaired()
        });
        assert_eq!(shown, Some(bound), "{rate} a second");
        let worst = fleet.until(Api, State::Major, &dead);
        assert!(worst <= 6, "{rate} a second: {worst} s more until it is major");
        assert_eq!(fleet.page().overall, Overall::Critical);
    }
}

#[test]
fn one_short_burst_of_failures_shows_nothing() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(40, &[Some(WELL)]);
    fleet.seconds(2, &[Some((0, 20, UP))]);
    fleet.seconds(60, &[Some(WELL)]);
    let is_moved =
        |fact: &StatusFact| matches!(fact, StatusFact::Moved { to, .. } if to.is_impaired());
    assert!(!fleet.facts.iter().any(|(_, fact)| is_moved(fact)), "{:?}", fleet.facts);
}

#[test]
fn a_steady_share_of_failures_makes_the_state_of_its_size() {
    let cases = [(1, 24, State::Operational), (2, 23, State::Degraded), (9, 16, State::Partial)];
    for (failed, good, state) in cases {
        let mut fleet = Fleet::new(&["g"]);
        fleet.seconds(60, &[Some((good, failed, UP))]);
        assert_eq!(fleet.state(CHAT), state, "{failed} of 25");
    }
}

#[test]
fn late_first_tokens_are_degraded_and_nothing_worse() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(30, &[Some(WELL)]);
    for _ in 0..40 {
        let summary = &mut fleet.gateways[0];
        summary.api.first_tokens[FIRST_TOKEN_LATE] += 2;
        fleet.second(&[Some((18, 0, UP))]);
    }
    assert_eq!(fleet.state(Api), State::Degraded);
    let late = fleet.facts.iter().any(|(_, fact)| {
        matches!(fact, StatusFact::Moved { component: Api, because: Because::Late, .. })
    });
    assert!(late, "{:?}", fleet.facts);
}

/// The first class of times that are three times what is promised.
const FIRST_TOKEN_LATE: usize = 14;

#[test]
fn the_class_of_a_first_token_ends_where_the_next_begins() {
    assert_eq!(Count::class_of(Duration::ZERO), 0);
    assert_eq!(Count::class_of(Duration::from_millis(50)), 0);
    assert_eq!(Count::class_of(Duration::from_millis(51)), 1);
    assert_eq!(Count::class_of(Duration::from_secs(15)), FIRST_TOKEN_LATE - 1);
    assert_eq!(Count::class_of(Duration::from_millis(15_001)), FIRST_TOKEN_LATE);
    assert_eq!(Count::class_of(Duration::MAX), 15);
}

#[test]
fn a_few_failures_without_success_for_a_minute_are_an_outage_whatever_the_traffic() {
    let mut fleet = Fleet::new(&["g"]);
    let known = [Standing::Unknown; 2];
    for _ in 0..4 {
        fleet.second(&[Some((0, 1, known))]);
        fleet.seconds(19, &[Some((0, 0, known))]);
    }
    assert_eq!(fleet.state(CHAT), State::Major);
    let why = fleet.facts.iter().any(|(_, fact)| {
        matches!(fact, StatusFact::Moved { because: Because::NoSuccess { .. }, .. })
    });
    assert!(why, "{:?}", fleet.facts);
}

#[test]
fn it_is_well_again_only_after_the_whole_green_time() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(40, &[Some(WELL)]);
    fleet.until(Api, State::Major, &[Some((0, 20, UP))]);
    let milder = fleet.until(Api, State::Degraded, &[Some(WELL)]);
    assert!((30..=75).contains(&milder), "{milder}");
    // It relapses for a while: the green time begins anew.
    fleet.seconds(300, &[Some(WELL)]);
    fleet.until(Api, State::Partial, &[Some((5, 15, UP))]);
    let took = fleet.until(Api, State::Operational, &[Some(WELL)]);
    assert!((600..=630).contains(&took), "{took}");
    let green = fleet
        .facts
        .iter()
        .any(|(_, fact)| matches!(fact, StatusFact::Moved { because: Because::Green, .. }));
    assert!(green, "{:?}", fleet.facts);
}

#[test]
fn a_site_that_two_gateways_find_down_is_shown_at_once_and_by_one_after_a_while() {
    let down = [Standing::Down, Standing::Up];
    let mut fleet = Fleet::new(&["g", "h"]);
    fleet.seconds(20, &[Some(WELL), Some(WELL)]);
    let seen = [Some((20, 0, down)), Some((20, 0, down))];
    assert!(fleet.until(A, State::Major, &seen) <= 2);
    assert_eq!(fleet.state(Api), State::Operational);
    assert_eq!(fleet.page().overall, Overall::Minor, "others make up for it");
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(20, &[Some(WELL)]);
    assert!((5..=7).contains(&fleet.until(A, State::Major, &[Some((20, 0, down))])));
    // One of three: a path of its own may be broken.
    let mut fleet = Fleet::new(&["g", "h", "i"]);
    fleet.seconds(20, &[Some(WELL); 3]);
    fleet.seconds(10, &[Some(WELL), Some(WELL), Some((20, 0, down))]);
    assert_eq!(fleet.state(A), State::Partial);
}

#[test]
fn a_site_that_was_taken_out_is_in_maintenance_and_no_outage() {
    let shut = [Standing::Shut, Standing::Up];
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(20, &[Some(WELL)]);
    assert_eq!(fleet.until(A, State::Maintenance, &[Some((20, 0, shut))]), 1);
    assert_eq!(fleet.page().overall, Overall::Well);
    assert_eq!(fleet.until(A, State::Operational, &[Some(WELL)]), 1);
}

#[test]
fn silent_gateways_are_told_and_fewer_than_half_of_them_for_90_s_are_no_data() {
    let mut fleet = Fleet::new(&["g", "h"]);
    fleet.seconds(20, &[Some(WELL), Some(WELL)]);
    fleet.seconds(200, &[Some(WELL), None]);
    assert_eq!((fleet.page().heard, fleet.state(Api)), ((1, 2), State::Operational));
    fleet.seconds(11, &[None, None]);
    assert!(matches!(fleet.page().data, Data::Stale(_)));
    assert_eq!(fleet.page().overall, Overall::Minor);
    fleet.seconds(78, &[None, None]);
    assert_ne!(fleet.page().data, Data::Lost(Duration::from_secs(89)));
    fleet.second(&[None, None]);
    assert_eq!(fleet.page().data, Data::Lost(Duration::from_secs(90)));
    assert!(!fleet.page().is_known && fleet.page().rows.iter().all(|row| row.good.is_none()));
    fleet.second(&[None, Some(WELL)]);
    assert!(matches!(fleet.page().data, Data::Fresh(_)), "{:?}", fleet.page());
    let told = |fact: &StatusFact| match fact {
        StatusFact::Silent { gateway, .. } => Some((gateway.0, 's')),
        StatusFact::Heard { gateway } => Some((gateway.0, 'h')),
        StatusFact::Lost { .. } => Some((9, 'l')),
        StatusFact::Found => Some((9, 'f')),
        StatusFact::Moved { .. }
        | StatusFact::Surge { .. }
        | StatusFact::Incident { .. }
        | StatusFact::Maintenance { .. } => None,
    };
    let told: Vec<_> = fleet.facts.iter().filter_map(|(_, fact)| told(fact)).collect();
    let all = [(0, 'h'), (1, 'h'), (1, 's'), (0, 's'), (9, 'l'), (1, 'h'), (9, 'f')];
    assert_eq!(told, all);
}

#[test]
fn what_nobody_tells_of_gets_neither_worse_nor_better() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.status.config.green = Duration::from_secs(20);
    fleet.seconds(20, &[Some(WELL)]);
    fleet.until(Api, State::Major, &[Some((0, 20, UP))]);
    fleet.seconds(85, &[None]);
    assert!(matches!(fleet.page().data, Data::Stale(_)));
    assert_eq!(fleet.state(Api), State::Major);
    // Green begins when it is seen to be well, not before.
    let took = fleet.until(Api, State::Operational, &[Some(WELL)]);
    assert!((20..=30).contains(&took), "{took}");
}

#[test]
fn a_gateway_that_was_never_heard_is_missed_after_the_same_time() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(89, &[None]);
    assert!(matches!(fleet.page().data, Data::None(_)));
    fleet.second(&[None]);
    assert!(matches!(fleet.page().data, Data::Lost(_)));
    assert_eq!(fleet.page().overall, Overall::Major);
}

#[test]
fn what_is_older_than_a_window_is_never_taken_for_now() {
    // A status node that starts beside a gateway of a day.
    let mut fleet = Fleet::new(&["g"]);
    fleet.gateways[0].elapsed = Duration::from_secs(86_400);
    fleet.gateways[0].api.failed = 1_000_000;
    fleet.second(&[Some(WELL)]);
    fleet.seconds(20, &[Some(WELL)]);
    assert_eq!(fleet.state(Api), State::Operational);
    // A cut of a minute: what failed meanwhile is past.
    fleet.seconds(60, &[None]);
    fleet.gateways[0].api.failed += 10_000;
    fleet.seconds(30, &[Some(WELL)]);
    assert_eq!(fleet.state(Api), State::Operational);
    // A gateway that starts anew counts from nothing.
    fleet.gateways[0] = Summary { run: 77, ..Summary::default() };
    fleet.seconds(30, &[Some((0, 20, UP))]);
    assert_eq!(fleet.state(Api), State::Major);
    assert!(fleet.page().rows[0].good < Some(600));
}

#[test]
fn under_another_configuration_what_has_the_same_name_goes_on() {
    let mut fleet = Fleet::new(&["g"]);
    fleet.seconds(20, &[Some(WELL)]);
    fleet.until(CHAT, State::Major, &[Some((0, 20, UP))]);
    let mut next = config(&["new", "g"]);
    next.models = vec!["other".into(), "chat".into()];
    next.sites = vec!["B".into()];
    fleet.tell(Event::Adopt(next));
    assert_eq!(fleet.state(Model(ModelId(1))), State::Major);
    assert_eq!(fleet.state(CHAT), State::NoData);
    assert_eq!((fleet.page().rows.len(), fleet.page().heard), (4, (2, 2)));
    // What is said of positions that are not there has no effect.
    let summary = Summary {
        sites: vec![(SiteId(9), Standing::Down, Count::default())],
        models: vec![(ModelId(9), Count::default())],
        ..Summary::default()
    };
    fleet.tell(Event::Summary(GatewayId(1), Box::new(summary.clone())));
    fleet.tell(Event::Summary(GatewayId(9), Box::new(summary)));
}

/// A story that chance tells.
fn told(seed: u64) -> (Fleet, Vec<Page>) {
    let mut rng = Rng::new(seed);
    let mut fleet = Fleet::new(&["g", "h", "i"]);
    fleet.status.config.green = Duration::from_secs(20);
    let mut pages = Vec::new();
    for _ in 0..40 {
        let lasts = 1 + rng.below(40);
        let mut chapter = || {
            let standing = || Standing::Up;
            let mut stands = [standing(); 2];
            for stand in &mut stands {
                let all = [Standing::Unknown, Standing::Up, Standing::Down, Standing::Shut];
                *stand = all[rng.below(4) as usize];
            }
            let rate = rng.below(30);
            let failed = if rng.below(2) == 0 { 0 } else { rng.below(rate + 1) };
            (rng.below(5) > 0).then_some((rate - failed, failed, stands))
        };
        let counted = [chapter(), chapter(), chapter()];
        for _ in 0..lasts {
            fleet.second(&counted);
            pages.push(fleet.page());
        }
    }
    (fleet, pages)
}

#[test]
fn whatever_happens_the_same_events_give_the_same_facts_and_the_rules_hold() {
    for seed in 0..60 {
        let (fleet, pages) = told(seed);
        assert_eq!(fleet.facts, told(seed).0.facts, "seed {seed}");
        let mut shown = [(Api, State::NoData, 0), (CHAT, State::NoData, 0)];
        for (at, fact) in &fleet.facts {
            let StatusFact::Moved { component, from, to, because } = fact else { continue };
            assert_ne!(from, to, "seed {seed}");
            let failed = matches!(because, Because::Failures { failed: 1.., of: 50.. });
            let dry = matches!(because, Because::NoSuccess { .. });
            let known = shown.iter_mut().find(|(which, ..)| which == component);
            let Some((_, state, since)) = known else { continue };
            assert_eq!(state, from, "seed {seed}");
            let is_worse = to.is_impaired() && (to > from || !from.is_impaired());
            assert!(!is_worse || failed || dry, "seed {seed}: {fact:?} without failures");
            let is_well = from.is_impaired() && !to.is_impaired();
            assert!(!is_well || at - *since >= 20, "seed {seed}: {fact:?} too soon");
            *state = *to;
            if is_worse {
                *since = *at;
            }
        }
        for page in pages {
            let is_lost = matches!(page.data, Data::Lost(_) | Data::None(_));
            assert!(!is_lost || !page.is_known, "seed {seed}: {page:?}");
            let is_bad = page.rows.iter().any(|row| row.state.is_impaired());
            assert!(!is_bad || page.overall > Overall::Well, "seed {seed}: {page:?}");
        }
    }
}
