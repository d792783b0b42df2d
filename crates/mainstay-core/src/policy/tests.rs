//! The policy machine by events and what follows, with the stories of the catalogue by name.

use super::disk::{Crash, Disk};
use super::generation::{CANARY, SOAK};
use super::stage::Turns;
use super::*;
use crate::config::Service;
use crate::cost::CostRate;
use crate::fact::{BootWhy, Harm, NotTaken, Turn};
use crate::message::{OrderId, Verb};
use crate::names::SiteId;
use crate::orders::{LIFE_MAX, ORDERS_MAX};
use alloc::{format, vec};

mod hand;

const SECOND: Duration = Duration::from_secs(1);

/// One gateway's machine, and what it did last.
struct Bed {
    machine: Policy,
    now: Time,
    actions: Vec<Action>,
    disk: Disk,
}

fn snapshot(generation: u64, content: u64) -> Snapshot {
    Snapshot {
        generation,
        content,
        author: String::from("ann"),
        reason: String::from("a drill"),
        bytes: 1000,
        // Of the first two; others follow at a distance, where nothing is known of the one before.
        previous: if generation == 2 { snapshot(1, 100).hash() } else { 0 },
        ..Snapshot::default()
    }
}

fn config(me: u16, gateways: u16) -> PolicyConfig {
    let sites = vec![CostRate::whole(100); 3];
    let service = Service { sites, ..Service::default() };
    PolicyConfig { me: GatewayId(me), gateways, service, ..PolicyConfig::default() }
}

/// The gateway that tries a generation's content first, and one that does not.
fn canary_and_other(generation: u64, gateways: u16) -> (u16, u16) {
    let canary = Turns::new(generation * 100, gateways).canary().expect("somebody").0;
    (canary, (canary + 1) % gateways)
}

impl Bed {
    fn new(me: u16, gateways: u16) -> Bed {
        Bed::boot(config(me, gateways), Disk::new(snapshot(1, 100)), Duration::ZERO)
    }

    fn boot(config: PolicyConfig, disk: Disk, ago: Duration) -> Bed {
        let now = Time::ZERO + 1000 * SECOND;
        let mut actions = Vec::new();
        let machine = Policy::boot(config, Saved { disk, ago }, now, 1, &mut actions);
        let disk = machine.disk(now);
        Bed { machine, now, actions, disk }
    }

    fn hears(&mut self, event: Event) -> &mut Bed {
        self.actions.clear();
        self.machine.handle(self.now, event, &mut self.actions);
        if self.actions.contains_keep() {
            self.disk = self.machine.disk(self.now);
        }
        self
    }

    fn after(&mut self, time: Duration) -> &mut Bed {
        self.now = self.now + time;
        self.hears(Event::Tick)
    }

    /// The source offers it, and its taste is this.
    fn offered(&mut self, snapshot: Snapshot, taste: Taste) -> &mut Bed {
        let content = snapshot.content;
        self.hears(Event::Snapshot(snapshot));
        self.hears(Event::Tasted { content, taste })
    }

    fn digest(&mut self, from: u16, generation: u64, clean: Duration) -> &mut Bed {
        let from = GatewayId(from);
        self.hears(Event::Digest(Digest { from, generation, clean, ..Digest::default() }))
    }

    fn told(&self, what: &str, is: impl Fn(&PolicyFact) -> bool) {
        let facts = self.actions.iter().filter_map(|action| match action {
            Action::Fact(fact) => Some(fact),
            _ => None,
        });
        assert!(facts.into_iter().any(is), "{what} is not among {:?}", self.actions);
    }

    fn quiet(&self) {
        let facts = self.actions.iter().filter(|action| matches!(action, Action::Fact(_)));
        assert_eq!(facts.count(), 0, "{:?}", self.actions);
    }

    fn runs(&self) -> (u64, u64) {
        self.machine.current().map_or((0, 0), |current| (current.generation, current.content))
    }

    /// The process dies; another one starts so much later.
    fn crashes(&self, later: Duration) -> Bed {
        Bed::boot(self.machine.config.clone(), self.disk.clone(), later)
    }
}

trait Kept {
    fn contains_keep(&self) -> bool;
}

impl Kept for Vec<Action> {
    fn contains_keep(&self) -> bool {
        self.iter().any(|action| matches!(action, Action::Keep))
    }
}

fn order(seq: u32, verb: Verb, site: Option<u16>) -> Order {
    Order {
        id: OrderId { author: 7, seq },
        authority: 1,
        verb,
        site: site.map(SiteId),
        reason: String::from("a drill"),
        left: 3600 * SECOND,
    }
}

fn command(order: Order) -> Event {
    Event::Command { order, confirmed: false }
}

#[test]
fn polls_go_on_every_ten_seconds_give_or_take_a_fifth_whatever_happens() {
    let mut bed = Bed::new(0, 1);
    let mut last = bed.now;
    bed.after(Duration::ZERO);
    for _ in 0..50 {
        let (next, _) = bed.machine.deadline().expect("a poll");
        let wait = next.since(last);
        assert!(wait >= 8 * SECOND && wait <= 12 * SECOND, "{wait:?}");
        last = next;
        let wait = next.since(bed.now);
        assert!(bed.after(wait).actions.iter().any(|action| matches!(action, Action::Poll)));
    }
}

#[test]
fn a_lone_gateway_tastes_and_adopts() {
    let mut bed = Bed::new(0, 1);
    bed.hears(Event::Snapshot(snapshot(2, 200)));
    assert!(matches!(bed.actions[..], [Action::Taste(_), ..]), "{:?}", bed.actions);
    bed.hears(Event::Tasted { content: 200, taste: Taste::Good });
    bed.told("staged", |f| matches!(f, PolicyFact::Staged { generation: 2, stage: 0 }));
    bed.told("adopted", |f| matches!(f, PolicyFact::Adopted { turn: Turn::Canary, .. }));
    let keep = bed.actions.iter().position(|action| matches!(action, Action::Keep));
    let adopt = bed.actions.iter().position(|action| matches!(action, Action::Adopt(_)));
    assert!(keep < adopt, "the journal is written before the content runs: {:?}", bed.actions);
}

#[test]
fn others_wait_for_ten_clean_minutes_of_a_canary_that_is_heard() {
    let (canary, other) = canary_and_other(2, 6);
    let mut bed = Bed::new(other, 6);
    bed.offered(snapshot(2, 200), Taste::Good);
    assert_eq!(bed.digest(canary, 2, CANARY - SECOND).runs(), (1, 100));
    let stranger = (0..6).find(|g| *g != canary && *g != other).expect("more gateways");
    assert_eq!(bed.digest(canary, 1, CANARY).runs(), (1, 100), "the old generation");
    assert!(Turns::new(200, 6).stage(GatewayId(stranger)) > 0);
    bed.digest(canary, 2, CANARY);
    // Six gateways have a stage of a quarter between the canary and all.
    if bed.runs() == (1, 100) {
        let quarter = (0..6).find(|g| Turns::new(200, 6).stage(GatewayId(*g)) == 2);
        bed.digest(quarter.expect("a quarter"), 2, CANARY);
    }
    bed.told("adopted", |f| matches!(f, PolicyFact::Adopted { turn: Turn::After { .. }, .. }));
    assert_eq!(bed.runs(), (2, 200));
}

#[test]
fn a_canary_that_is_silent_for_a_quarter_of_an_hour_is_an_alarm_once() {
    let (canary, other) = canary_and_other(2, 3);
    let mut bed = Bed::new(other, 3);
    bed.offered(snapshot(2, 200), Taste::Good);
    bed.after(899 * SECOND).quiet();
    bed.after(SECOND).told(
        "silent",
        |f| matches!(f, PolicyFact::CanarySilent { generation: 2, canary: who } if who.0 == canary),
    );
    bed.after(SECOND).quiet();
    assert_eq!(bed.runs(), (1, 100));
}

/// Cloudflare, 18 November 2025.
#[test]
fn s07_oversized_and_good_in_turn_keep_what_runs_and_never_alternate() {
    let mut bed = Bed::new(0, 1);
    for generation in 2..20 {
        let content = if generation % 2 == 0 { 666 } else { 100 };
        let bytes = if content == 666 { 5 << 20 } else { 1000 };
        bed.after(300 * SECOND);
        bed.offered(
            Snapshot { bytes, previous: previous(&bed), ..snapshot(generation, content) },
            Taste::Good,
        );
        assert_eq!(bed.runs().1, 100, "generation {generation}");
        if content == 666 {
            bed.hears(Event::Snapshot(Snapshot { bytes, ..snapshot(generation, content) })).quiet();
        }
    }
}

fn previous(bed: &Bed) -> u64 {
    bed.machine.generations.newest().map_or(0, Snapshot::hash)
}

#[test]
fn what_is_too_large_or_unreadable_or_kills_its_taster_is_refused() {
    let mut bed = Bed::new(0, 1);
    bed.hears(Event::Snapshot(Snapshot { bytes: 5 << 20, ..snapshot(3, 300) }));
    bed.told("large", |f| {
        matches!(f, PolicyFact::Refused { why: NotTaken::TooLarge { bytes: 5_242_880 }, .. })
    });
    bed.offered(snapshot(5, 500), Taste::Refused(String::from("no sites")));
    bed.told("unreadable", |f| {
        matches!(f, PolicyFact::Refused { why: NotTaken::Unreadable(_), .. })
    });
    bed.offered(snapshot(7, 700), Taste::Crashed);
    bed.told("crashed", |f| matches!(f, PolicyFact::Refused { why: NotTaken::Crashed, .. }));
    bed.told("quarantine", |f| {
        matches!(f, PolicyFact::Quarantined { content: 700, why: Harm::CrashedWhenTasted })
    });
    bed.offered(snapshot(9, 700), Taste::Good);
    assert_eq!(bed.runs(), (1, 100));
    bed.hears(Event::Snapshot(snapshot(11, 800))).after(61 * SECOND);
    bed.told("hung", |f| matches!(f, PolicyFact::Quarantined { content: 800, .. }));
}

#[test]
fn quarantined_content_is_refused_under_whatever_number() {
    let mut bed = Bed::new(0, 1);
    bed.offered(snapshot(2, 666), Taste::Crashed);
    bed.hears(Event::Snapshot(snapshot(5, 666)));
    bed.told("quarantined", |f| {
        matches!(f, PolicyFact::Refused { generation: 5, why: NotTaken::Quarantined, .. })
    });
}

#[test]
fn a_large_change_waits_for_its_authors_token() {
    let mut bed = Bed::new(0, 1);
    bed.offered(snapshot(2, 200), Taste::Differs(String::from("site A goes")));
    bed.told("held", |f| matches!(f, PolicyFact::Unconfirmed { generation: 2, .. }));
    bed.hears(Event::Snapshot(snapshot(2, 200))).quiet();
    assert_eq!(bed.runs(), (1, 100));
    bed.hears(Event::Snapshot(Snapshot { confirmed: true, ..snapshot(2, 200) }));
    assert_eq!(bed.runs(), (2, 200));
}

#[test]
fn a_generation_whose_author_did_not_know_the_one_before_is_refused_and_the_next_is_not() {
    let mut bed = Bed::new(0, 1);
    bed.hears(Event::Snapshot(Snapshot { previous: 9, ..snapshot(2, 200) }));
    bed.told("broken", |f| matches!(f, PolicyFact::Refused { why: NotTaken::ChainBroken, .. }));
    bed.hears(Event::Snapshot(snapshot(2, 201)));
    bed.told("twice", |f| matches!(f, PolicyFact::Refused { why: NotTaken::Twice, .. }));
    bed.hears(Event::Snapshot(snapshot(2, 201))).quiet();
    bed.offered(Snapshot { previous: previous(&bed), ..snapshot(3, 300) }, Taste::Good);
    assert_eq!(bed.runs(), (3, 300));
}

#[test]
fn in_doubt_or_frozen_nothing_is_adopted() {
    let mut bed = Bed::new(0, 1);
    bed.hears(Event::Pulse { failing: 0, in_doubt: true });
    bed.offered(snapshot(3, 300), Taste::Good);
    assert_eq!(bed.runs(), (1, 100));
    bed.hears(Event::Pulse { failing: 0, in_doubt: false });
    bed.hears(command(order(1, Verb::Freeze, None)));
    bed.offered(snapshot(3, 300), Taste::Good);
    assert_eq!(bed.runs(), (1, 100));
    bed.hears(command(order(2, Verb::End(OrderId { author: 7, seq: 1 }), None)));
    assert_eq!(bed.runs(), (3, 300), "the freeze is over");
}

/// Google Cloud, 12 June 2025, with the validator off.
#[test]
fn s06_failures_above_peers_on_the_generation_before_bring_the_good_one_back_in_seconds() {
    let (canary, other) = canary_and_other(3, 3);
    let mut bed = Bed::new(canary, 3);
    bed.offered(snapshot(3, 300), Taste::Good);
    assert_eq!(bed.runs(), (3, 300));
    let symptom = bed.now;
    while bed.runs() == (3, 300) {
        bed.now = bed.now + SECOND;
        bed.digest(other, 1, SECOND);
        bed.hears(Event::Pulse { failing: 11, in_doubt: false });
        assert!(bed.now.since(symptom) <= 10 * SECOND);
    }
    bed.told("back", |f| {
        let why = Harm::Failing { here: 11, peers: 0 };
        *f == PolicyFact::RolledBack { from: 3, to: 1, why }
    });
    assert_eq!(bed.machine.standing(bed.now).quarantined, [300]);
    assert_eq!(bed.offered(snapshot(3, 300), Taste::Good).runs(), (1, 100));
}

#[test]
fn failures_that_peers_share_or_that_were_there_before_are_not_the_generations_fault() {
    let (canary, other) = canary_and_other(3, 3);
    let mut bed = Bed::new(canary, 3);
    bed.hears(Event::Pulse { failing: 500, in_doubt: false });
    bed.digest(other, 1, SECOND).offered(snapshot(3, 300), Taste::Good);
    assert_eq!(bed.runs(), (1, 100), "it could not tell what the new one adds");
    bed.hears(Event::Pulse { failing: 10, in_doubt: false });
    assert_eq!(bed.runs(), (3, 300));
    for _ in 0..60 {
        bed.now = bed.now + SECOND;
        let from = GatewayId(other);
        let digest = Digest { from, generation: 1, failing: 490, ..Digest::default() };
        bed.hears(Event::Digest(digest));
        bed.hears(Event::Pulse { failing: 500, in_doubt: false });
    }
    assert_eq!(bed.runs(), (3, 300));
}

#[test]
fn what_crashed_a_peer_is_not_adopted_and_what_runs_of_it_is_left() {
    let (canary, other) = canary_and_other(3, 3);
    let said = |from| Digest { from: GatewayId(from), quarantined: vec![300], ..Digest::default() };
    let mut waiting = Bed::new(other, 3);
    waiting.offered(snapshot(3, 300), Taste::Good).hears(Event::Digest(said(canary)));
    waiting
        .told("refused", |f| matches!(f, PolicyFact::Refused { why: NotTaken::Quarantined, .. }));
    let mut running = Bed::new(canary, 3);
    running.offered(snapshot(3, 300), Taste::Good).hears(Event::Digest(said(other)));
    running
        .told("back", |f| matches!(f, PolicyFact::RolledBack { to: 1, why: Harm::SaidBy(_), .. }));
    let said = Digest { from: GatewayId(other), quarantined: vec![100], ..Digest::default() };
    running.hears(Event::Digest(said)).quiet();
    assert_eq!(running.runs(), (1, 100), "what proved itself here stays");
}

/// Azure Front Door, 29 October 2025.
#[test]
fn s12_what_crashed_before_it_was_good_is_not_loaded_again_and_the_good_one_is_intact() {
    let mut bed = Bed::new(0, 1);
    bed.offered(snapshot(3, 300), Taste::Good).after(300 * SECOND);
    let after = bed.crashes(2 * SECOND);
    after.told("quarantine", |f| *f == PolicyFact::Quarantined { content: 300, why: Harm::Crash });
    after.told("booted", |f| {
        *f == PolicyFact::Booted { generation: 1, content: 100, why: BootWhy::OtherCrashed }
    });
    assert_eq!(after.runs(), (1, 100));
    let mut after = after;
    assert_eq!(after.offered(snapshot(3, 300), Taste::Good).runs(), (1, 100));
}

#[test]
fn an_hour_in_force_and_clean_makes_a_generation_good() {
    let mut bed = Bed::new(0, 1);
    bed.offered(snapshot(3, 300), Taste::Good);
    bed.after(SOAK - SECOND).quiet();
    bed.after(SECOND);
    bed.told("good", |f| *f == PolicyFact::Good { generation: 3, content: 300 });
    assert_eq!(bed.crashes(SECOND).runs(), (3, 300), "one crash of good content");
}

#[test]
fn good_content_that_crashes_twice_in_five_minutes_gives_way_to_other_good_content() {
    let good = vec![snapshot(4, 400), snapshot(3, 300)];
    let disk = Disk { current: Some(snapshot(4, 400)), is_running: true, good, ..Disk::default() };
    let once = Bed::boot(config(0, 1), disk.clone(), Duration::ZERO);
    assert_eq!(once.runs(), (4, 400));
    assert_eq!(once.crashes(301 * SECOND).runs(), (4, 400), "too long ago to count");
    let twice = once.crashes(100 * SECOND);
    assert_eq!(twice.runs(), (3, 300));
    let third = twice.crashes(SECOND).crashes(SECOND);
    third.told("alarm", |f| *f == PolicyFact::NothingElseGood { generation: 4 });
    third.told("last", |f| matches!(f, PolicyFact::Booted { why: BootWhy::Last, .. }));
    let crash = Crash { content: 400, ago: Duration::ZERO };
    assert!(once.disk.crashes.contains(&crash));
}

#[test]
fn a_process_that_stops_by_itself_has_not_crashed() {
    let mut bed = Bed::new(0, 1);
    bed.offered(snapshot(3, 300), Taste::Good);
    let disk = bed.machine.stopped(bed.now);
    let next = Bed::boot(config(0, 1), disk, Duration::ZERO);
    next.told("booted", |f| matches!(f, PolicyFact::Booted { why: BootWhy::InForce, .. }));
    assert_eq!(next.runs(), (3, 300));
}

#[test]
fn with_nothing_good_on_disk_nothing_runs_and_somebody_is_told() {
    let bed = Bed::boot(config(0, 1), Disk::default(), Duration::ZERO);
    bed.told("nothing", |f| *f == PolicyFact::NothingToRun);
    assert!(!bed.actions.iter().any(|action| matches!(action, Action::Adopt(_))));
}

#[test]
fn a_roll_back_skips_the_stages_but_not_the_taste() {
    let (_, other) = canary_and_other(5, 6);
    let mut bed = Bed::new(other, 6);
    bed.offered(snapshot(5, 100), Taste::Crashed);
    assert_eq!(bed.runs(), (1, 100));
    let (_, other) = canary_and_other(3, 6);
    let mut bed = Bed::new(other, 6);
    bed.offered(snapshot(3, 100), Taste::Good);
    bed.told("proven", |f| matches!(f, PolicyFact::Adopted { turn: Turn::Proven, .. }));
    assert_eq!(bed.runs(), (3, 100));
}

/// Cloudflare, 20 February 2026.
#[test]
fn s09_an_order_without_a_site_or_for_too_much_is_refused() {
    let mut bed = Bed::new(0, 3);
    let refused = |bed: &mut Bed, order: Order, why: OrderRefusal| {
        bed.hears(command(order));
        bed.told(
            &format!("{why:?}"),
            |fact| matches!(fact, PolicyFact::OrderRefused { why: said, .. } if *said == why),
        );
    };
    refused(&mut bed, order(1, Verb::Drain, None), OrderRefusal::Everywhere);
    refused(&mut bed, order(1, Verb::Kill, None), OrderRefusal::Everywhere);
    refused(&mut bed, order(1, Verb::Cap(0), None), OrderRefusal::Everywhere);
    refused(&mut bed, order(1, Verb::Drain, Some(9)), OrderRefusal::UnknownSite);
    refused(&mut bed, order(1, Verb::Cap(101), Some(0)), OrderRefusal::Cap);
    let long = Order { left: LIFE_MAX + SECOND, ..order(1, Verb::Drain, Some(0)) };
    refused(&mut bed, long, OrderRefusal::Life);
    let silent = Order { reason: String::new(), ..order(1, Verb::Drain, Some(0)) };
    refused(&mut bed, silent, OrderRefusal::NoReason);
    bed.hears(command(order(1, Verb::Drain, Some(0))));
    bed.told("taken", |f| matches!(f, PolicyFact::OrderTaken { .. }));
    refused(&mut bed, order(2, Verb::Drain, Some(1)), OrderRefusal::TooMuch { percent: 67 });
    refused(&mut bed, order(2, Verb::Cap(50), Some(1)), OrderRefusal::TooMuch { percent: 50 });
    refused(&mut bed, order(1, Verb::Kill, Some(0)), OrderRefusal::Twice);
    bed.hears(Event::Command { order: order(2, Verb::Drain, Some(1)), confirmed: true });
    bed.told("with the token", |f| matches!(f, PolicyFact::OrderTaken { .. }));
}

#[test]
fn an_order_is_forwarded_to_three_at_first_sight_and_a_different_hash_fetches_the_set() {
    let mut bed = Bed::new(0, 9);
    bed.hears(Event::Order(order(1, Verb::Drain, Some(0))));
    let forward = bed.actions.iter().find_map(|action| match action {
        Action::Forward { to, .. } => Some(to.clone()),
        _ => None,
    });
    let to = forward.expect("forwarded");
    assert!(to.len() == 3 && !to.contains(&GatewayId(0)), "{to:?}");
    bed.hears(Event::Order(order(1, Verb::Drain, Some(0))));
    bed.quiet();
    let same = bed.machine.standing(bed.now).orders;
    for (orders, fetches) in [(same, 0), (same + 1, 1), (same + 1, 0), (same + 2, 1)] {
        let digest = Digest { from: GatewayId(4), orders, ..Digest::default() };
        bed.hears(Event::Digest(digest));
        let fetch = bed.actions.iter().filter(|action| matches!(action, Action::Fetch(_)));
        assert_eq!(fetch.count(), fetches);
    }
    let orders = bed.machine.orders(bed.now);
    let mut other = Bed::new(4, 9);
    other.hears(Event::Orders(orders));
    assert_eq!(other.machine.standing(other.now).orders, same);
}

#[test]
fn an_order_ends_by_itself_on_each_nodes_own_clock_and_survives_a_restart() {
    let mut bed = Bed::new(0, 1);
    bed.hears(command(order(1, Verb::Drain, Some(0)))).after(600 * SECOND);
    let next = bed.crashes(600 * SECOND);
    let left = next.machine.orders(next.now)[0].left;
    assert_eq!(left, 3000 * SECOND, "it counts from when the disk was written");
    bed.after(3000 * SECOND);
    bed.told("lapsed", |f| matches!(f, PolicyFact::OrderLapsed { .. }));
    assert!(bed.actions.iter().any(|a| matches!(a, Action::InForce(orders) if orders.is_empty())));
    bed.hears(Event::Order(Order { left: SECOND, ..order(1, Verb::Drain, Some(0)) }));
    assert!(bed.machine.orders(bed.now).is_empty(), "a slower clock does not bring it back");
}

#[test]
fn of_too_many_orders_all_gateways_keep_the_same() {
    let many: Vec<Order> = (0..80).map(|seq| order(seq, Verb::Cap(99), Some(0))).collect();
    let (mut one, mut other) = (Bed::new(0, 3), Bed::new(1, 3));
    one.hears(Event::Orders(many.clone()));
    one.told("full", |f| matches!(f, PolicyFact::OrderRefused { why: OrderRefusal::TooMany, .. }));
    other.hears(Event::Orders(many.into_iter().rev().collect()));
    assert_eq!(one.machine.standing(one.now).orders, other.machine.standing(other.now).orders);
    assert_eq!(one.machine.orders(one.now).len(), 64);
}

/// Something that a process could hear, true or not.
fn anything(rng: &mut Rng) -> Event {
    let mut below = |bound| rng.below(bound);
    let content = 100 * below(5);
    let site = [None, Some(0), Some(1), Some(9)][below(4) as usize];
    let (author, seq) = (below(3), below(6) as u32);
    let verbs = [Verb::Freeze, Verb::Cap(70), Verb::Drain, Verb::Kill];
    let end = Verb::End(OrderId { author: below(3), seq: below(6) as u32 });
    let verb = verbs.get(below(5) as usize).copied().unwrap_or(end);
    let left = [0, 30, 3600, 90_000][below(4) as usize] * SECOND.as_secs();
    let id = OrderId { author, seq };
    let left = Duration::from_secs(left);
    let order = Order { id, authority: below(3) as u8, left, ..order(seq, verb, site) };
    match below(9) {
        0 | 1 => Event::Snapshot(Snapshot {
            bytes: below(2) * (5 << 20),
            confirmed: below(2) == 0,
            ..snapshot(below(12), content)
        }),
        2 | 3 => {
            let differs = Taste::Differs(String::new());
            let tastes = [Taste::Good, Taste::Good, differs, Taste::Crashed];
            Event::Tasted { content, taste: tastes[below(4) as usize].clone() }
        }
        4 => Event::Digest(Digest {
            from: GatewayId(below(5) as u16),
            generation: below(12),
            clean: Duration::from_secs(below(1200)),
            failing: below(40) as u16,
            quarantined: if below(8) == 0 { vec![content] } else { Vec::new() },
            orders: below(2),
            ..Digest::default()
        }),
        5 => Event::Pulse { failing: below(40) as u16, in_doubt: below(6) == 0 },
        6 => Event::Command { order, confirmed: below(2) == 0 },
        7 => Event::Order(order),
        _ => Event::Orders(vec![order]),
    }
}

#[test]
fn whatever_is_heard_there_is_a_later_deadline_and_good_content_to_go_back_to() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut bed = Bed::new(0, 1 + rng.below(4) as u16);
        for _ in 0..200 {
            let event = anything(&mut rng);
            bed.hears(event);
            let (deadline, what) = bed.machine.deadline().expect("polls never end");
            assert!(deadline > bed.now, "seed {seed}: {what} is overdue");
            let disk = bed.machine.disk(bed.now);
            assert!(disk.orders.len() <= ORDERS_MAX && disk.good.len() <= 5, "seed {seed}");
            assert!(!disk.good.is_empty() && disk.current.is_some(), "seed {seed}");
            if rng.below(20) == 0 {
                bed = bed.crashes(rng.below(600) as u32 * SECOND);
                assert_ne!(bed.runs(), (0, 0), "seed {seed}");
                bed.hears(Event::Tick);
            }
            bed.now = bed.now + Duration::from_secs([0, 1, 60, 4000][rng.below(4) as usize]);
            bed.hears(Event::Tick);
        }
    }
}
