//! A site that serves takes another policy: what it granted and took in stays, under new positions.

use crate::bench::{at, config, open, up};
use crate::tells::{dispatched, facts, tell, worker};
use mainstay_core::cost::CostRate;
use mainstay_core::fact::SiteFact;
use mainstay_core::message::{Offer, Order, OrderId, Report, TIERS_MAX, Verb};
use mainstay_core::names::{GatewayId, SiteId, TargetId};
use mainstay_core::site::{Action, Event, Site};
use mainstay_core::time::Duration;

/// The same site, one position further, as is its target; gateway 6 is new.
fn moved() -> Event {
    let mut config = config(7);
    config.site = SiteId(2);
    config.pools[0].target = TargetId(9);
    config.service.sites = vec![CostRate::whole(100); 4];
    let sites = vec![Some(SiteId(0)), Some(SiteId(2)), Some(SiteId(3))];
    Event::Adopt { config, sites }
}

fn report(from: u16, target: u16, nonce: u64) -> Event {
    let mut demand = [CostRate::ZERO; TIERS_MAX];
    demand[0] = CostRate::whole(5);
    let report = Report {
        target: TargetId(target),
        nonce,
        elapsed: Duration::ZERO,
        demand,
        total: demand,
        in_flight: 0,
    };
    Event::Report { from: GatewayId(from), report }
}

fn granted(actions: &[Action]) -> Vec<(u16, TargetId, u32)> {
    let grant = |action: &Action| match action {
        Action::Grant { to, grant } => Some((to.0, grant.target, grant.epoch)),
        _ => None,
    };
    actions.iter().filter_map(grant).collect()
}

#[test]
fn a_site_goes_on_under_another_policy_with_its_epoch_and_what_it_granted() {
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, worker(0, up(10, 1, false)));
    let first = tell(&mut site, 10, report(0, 3, 1));
    assert_eq!(granted(&first), [(0, TargetId(3), 1)]);
    let running = tell(&mut site, 20, Event::Open(open(1)));
    assert_eq!(dispatched(&running), [1]);
    tell(&mut site, 21, Event::Open(open(2)));
    let used = site.standing(at(22), TargetId(3)).expect("it is here").granted;
    assert!(used > CostRate::ZERO);
    tell(&mut site, 30, moved());
    assert!(site.standing(at(30), TargetId(3)).is_none());
    let standing = site.standing(at(30), TargetId(9)).expect("it is there now");
    assert_eq!((standing.running, standing.queued, standing.granted), (1, 1, used));
    assert!(granted(&tell(&mut site, 40, report(0, 3, 2))).is_empty(), "that is another's now");
    assert_eq!(granted(&tell(&mut site, 50, report(0, 9, 3))), [(0, TargetId(9), 1)]);
    assert_eq!(granted(&tell(&mut site, 60, report(6, 9, 1))), [(6, TargetId(9), 1)]);
    let cost = open(1).cost;
    let ended = tell(&mut site, 70, Event::Ended { work: open(1).work, cost });
    assert_eq!(dispatched(&ended), [2], "what waited gets its turn");
}

#[test]
fn an_order_about_a_site_stays_with_it_under_another_policy() {
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, worker(0, up(10, 1, false)));
    let order = Order {
        id: OrderId { author: 1, seq: 1 },
        authority: 0,
        verb: Verb::Drain,
        site: Some(SiteId(1)),
        reason: "a test".into(),
        left: Duration::from_secs(3600),
    };
    tell(&mut site, 10, Event::Orders(vec![order]));
    assert_eq!(site.offer(), Offer::Draining);
    let told = tell(&mut site, 20, moved());
    assert_eq!(site.offer(), Offer::Draining);
    assert!(!facts(&told).iter().any(|fact| matches!(fact, SiteFact::Offered { .. })));
}

#[test]
fn other_models_or_classes_of_service_are_not_let_in() {
    let mut site = Site::first(config(6), 1);
    let mut other = config(6);
    other.tiers.swap(0, 1);
    assert!(!site.may_adopt(&other));
    let before = site.config().clone();
    tell(&mut site, 1, Event::Adopt { config: other, sites: Vec::new() });
    assert_eq!(*site.config(), before);
    let mut more = config(6);
    more.pools.push(more.pools[0]);
    assert!(!site.may_adopt(&more));
    let mut floors = config(6);
    floors.tiers[0].floor = 0.1;
    assert!(site.may_adopt(&floors));
}
