//! What was given by hand, what cannot be run, and what a staged generation waits for.

use super::*;

/// What an operator gave by hand: its content is this node's own.
fn given(content: u64) -> Snapshot {
    Snapshot { generation: 0, content, ..Snapshot::default() }
}

fn by_hand(me: u16, gateways: u16) -> Bed {
    Bed::boot(config(me, gateways), Disk::new(given(7)), Duration::ZERO)
}

#[test]
fn the_first_generation_need_not_name_what_was_given_by_hand() {
    let mut bed = by_hand(0, 1);
    let first = Snapshot { previous: 99, ..snapshot(1, 100) };
    bed.offered(first, Taste::Good);
    bed.told("adopted", |f| matches!(f, PolicyFact::Adopted { generation: 1, .. }));
    bed.hears(Event::Snapshot(Snapshot { previous: 99, ..snapshot(2, 200) }));
    let is_broken =
        |f: &PolicyFact| matches!(f, PolicyFact::Refused { why: NotTaken::ChainBroken, .. });
    bed.told("a hole in the chain", is_broken);
}

#[test]
fn what_cannot_be_run_is_left_for_what_was_good_and_not_loaded_again() {
    let mut bed = by_hand(0, 1);
    bed.offered(snapshot(1, 100), Taste::Good);
    assert_eq!(bed.hears(Event::Unfit { content: 5 }).runs(), (1, 100), "not what runs");
    assert_eq!(bed.hears(Event::Unfit { content: 100 }).runs(), (0, 7));
    let is_back =
        |f: &PolicyFact| matches!(f, PolicyFact::RolledBack { from: 1, to: 0, why: Harm::Unfit });
    bed.told("rolled back", is_back);
    assert_eq!(bed.machine.standing(bed.now).quarantined, [100]);
}

#[test]
fn a_file_that_was_mended_takes_the_place_of_what_was_given_before() {
    let mut disk = Disk::new(given(7));
    disk.condemn(8);
    disk.give(given(8));
    assert_eq!((disk.current.clone(), disk.good.clone()), (Some(given(8)), vec![given(8)]));
    assert!(disk.may_load(8));
    let mut published = Disk::new(given(7));
    published.current = Some(snapshot(3, 300));
    (1..9).for_each(|g| published.keep_good(snapshot(g, g * 100)));
    published.give(given(9));
    assert_eq!(published.current, Some(snapshot(3, 300)), "what was published stays in force");
    assert_eq!(published.good.last(), Some(&given(9)));
    assert_eq!(published.good.len(), 6);
}

#[test]
fn where_there_is_nothing_else_a_crash_decides_nothing() {
    let mut disk = Disk::new(given(7));
    for _ in 0..3 {
        disk.is_running = true;
        disk.give(given(7));
        let mut facts = Vec::new();
        disk.start(SECOND, &config(0, 1), &mut facts);
        let booted = PolicyFact::Booted { generation: 0, content: 7, why: BootWhy::InForce };
        assert_eq!(facts, [booted]);
    }
}

#[test]
fn what_a_staged_generation_waits_for_is_told() {
    let (canary, other) = canary_and_other(2, 4);
    let mut bed = Bed::new(other, 4);
    let waits = |bed: &Bed| bed.machine.waits(bed.now);
    assert_eq!(waits(&bed), None);
    bed.hears(Event::Snapshot(snapshot(2, 200)));
    assert_eq!(waits(&bed), Some(Waits::Taste));
    bed.hears(Event::Tasted { content: 200, taste: Taste::Good });
    let turn = Waits::After { stage: 0, canary: Some(GatewayId(canary)) };
    assert_eq!(waits(&bed), Some(turn));
    bed.hears(Event::Pulse { failing: 0, in_doubt: true });
    assert_eq!(waits(&bed), Some(Waits::Doubt));
    bed.hears(Event::Pulse { failing: 0, in_doubt: false });
    bed.hears(command(order(1, Verb::Freeze, None)));
    assert_eq!(waits(&bed), Some(Waits::Freeze));
    let mut bed = Bed::new(other, 4);
    bed.offered(snapshot(2, 200), Taste::Differs(String::from("site A is gone")));
    assert_eq!(waits(&bed), Some(Waits::Token));
    let mut bed = Bed::new(canary, 4);
    bed.digest(other, 1, SECOND).hears(Event::Pulse { failing: 500, in_doubt: false });
    bed.offered(snapshot(2, 200), Taste::Good);
    assert_eq!(waits(&bed), Some(Waits::Failing));
}

#[test]
fn a_rehearsal_has_shorter_times() {
    let (canary, other) = canary_and_other(2, 4);
    let short = PolicyConfig { canary: SECOND, soak: 2 * SECOND, ..config(other, 4) };
    let mut bed = Bed::boot(short, Disk::new(snapshot(1, 100)), Duration::ZERO);
    bed.offered(snapshot(2, 200), Taste::Good);
    assert_eq!(bed.digest(canary, 2, SECOND).runs(), (2, 200));
    bed.after(2 * SECOND).told("good", |f| matches!(f, PolicyFact::Good { generation: 2, .. }));
}

#[test]
fn orders_follow_their_sites_to_other_positions_and_go_with_them() {
    let mut bed = Bed::new(0, 1);
    bed.hears(command(order(1, Verb::Drain, Some(0))));
    bed.hears(command(order(2, Verb::Cap(50), Some(1))));
    bed.hears(command(order(3, Verb::Freeze, None)));
    bed.actions.clear();
    let (now, moved) = (bed.now, [Some(SiteId(2)), None, Some(SiteId(0))]);
    bed.machine.configure(now, config(0, 1), &moved, &mut bed.actions);
    let sites: Vec<_> = bed.machine.in_force(now).iter().map(|order| order.site).collect();
    assert_eq!(sites, [Some(SiteId(2)), None]);
    let is_told = |action: &Action| matches!(action, Action::InForce(all) if all.len() == 2);
    assert!(bed.actions.iter().any(is_told), "{:?}", bed.actions);
}
