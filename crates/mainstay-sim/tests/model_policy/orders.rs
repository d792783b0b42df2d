//! Three sites, two operators, two gateways: orders given on either side of a partition and
//! delivered in any order, with an operator's second thoughts among them.
//!
//! Each operator checks against what their own gateway knows, has the token, and may give any
//! drain or kill. What keeps enough in service is the rule at the point of use.

use crate::table;
use mainstay_core::config::PolicyConfig;
use mainstay_core::cost::CostRate;
use mainstay_core::gateway::in_service::{InService, Least, in_service};
use mainstay_core::message::{Order, OrderId, Verb};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::SiteId;
use mainstay_core::policy::order::Orders;
use mainstay_core::time::{Duration, Time};
use stateright::{Model, Property};

const NOW: Time = Time::ZERO;
/// What each site carries. No two are alike, so that it matters which one goes.
const SITES: [(SiteId, CostRate); 3] = [
    (SiteId(0), CostRate::whole(50)),
    (SiteId(1), CostRate::whole(30)),
    (SiteId(2), CostRate::whole(20)),
];
/// What must stay of them.
const LEAST_SITES: u8 = 2;
const LEAST_PERCENT: u8 = 60;
/// Orders that each operator gives.
const ORDERS: u32 = 2;

const ENOUGH: &str = "I5: enough stays in service at every gateway";
const AGREE: &str = "I5: gateways that know the same orders keep the same sites";
const SPREAD: &str = "L6: both gateways know all orders of both operators";
const ENDS: &str = "an order that was ended rules nowhere";

#[derive(Clone)]
struct Ordering {
    mutants: Mutants,
    config: PolicyConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// What each gateway knows.
    gateways: [Orders; 2],
    /// What each operator has given so far; gateway and operator go together.
    given: [Vec<Order>; 2],
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// An operator gives an order at their gateway.
    Give { operator: usize, verb: Verb, site: Option<SiteId> },
    /// A gateway hears of an order, late, doubled or out of turn.
    Hear { gateway: usize, order: OrderId },
    /// A gateway fetches the whole set of the other one.
    Fetch { gateway: usize },
}

impl Ordering {
    fn new(mutants: Mutants) -> Ordering {
        let sites = SITES.map(|(_, capacity)| capacity).to_vec();
        Ordering { mutants, config: PolicyConfig { sites, gateways: 2, ..PolicyConfig::default() } }
    }

    fn kept(&self, orders: &Orders) -> InService {
        let least = Least { sites: LEAST_SITES, capacity: LEAST_PERCENT, mutants: self.mutants };
        in_service(&SITES, &orders.in_force(NOW), &[], least)
    }
}

fn has_enough(kept: u64) -> bool {
    let capacity: u64 = SITES
        .iter()
        .enumerate()
        .filter(|(at, _)| kept & (1 << at) != 0)
        .map(|(_, (_, capacity))| capacity.0)
        .sum();
    let all: u64 = SITES.iter().map(|(_, capacity)| capacity.0).sum();
    kept.count_ones() >= u32::from(LEAST_SITES) && capacity * 100 >= all * u64::from(LEAST_PERCENT)
}

impl Model for Ordering {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State { gateways: Default::default(), given: Default::default() }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for operator in 0..2 {
            if state.given[operator].len() < ORDERS as usize {
                for (site, _) in SITES {
                    let site = Some(site);
                    steps.push(Step::Give { operator, verb: Verb::Drain, site });
                    if operator == 0 {
                        steps.push(Step::Give { operator, verb: Verb::Kill, site });
                    }
                }
                let known = state.gateways[operator].in_force(NOW);
                let ends = known.iter().map(|order| Verb::End(order.id));
                steps.extend(ends.map(|verb| Step::Give { operator, verb, site: None }));
            }
        }
        for gateway in 0..2 {
            let given = state.given[1 - gateway].iter().map(|order| order.id);
            steps.extend(given.map(|order| Step::Hear { gateway, order }));
            steps.push(Step::Fetch { gateway });
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Give { operator, verb, site } => {
                let seq = state.given[operator].len() as u32 + 1;
                let order = Order {
                    id: OrderId { author: operator as u64, seq },
                    authority: operator as u8,
                    verb,
                    site,
                    reason: String::from("a drill"),
                    left: Duration::from_secs(3600),
                };
                let gateway = &mut state.gateways[operator];
                gateway.command(NOW, (order.clone(), true), &self.config).ok()?;
                state.given[operator].push(order);
            }
            Step::Hear { gateway, order } => {
                let order = state.given.iter().flatten().find(|given| given.id == order)?.clone();
                state.gateways[gateway].take(NOW, order, &self.config).ok()?;
            }
            Step::Fetch { gateway } => {
                for order in state.gateways[1 - gateway].set(NOW) {
                    state.gateways[gateway].take(NOW, order, &self.config).ok()?;
                }
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ENOUGH, |model: &Self, state: &State| {
                state.gateways.iter().all(|orders| has_enough(model.kept(orders).kept))
            }),
            Property::always(AGREE, |model: &Self, state: &State| {
                let [one, other] = &state.gateways;
                one.hash() != other.hash() || model.kept(one).kept == model.kept(other).kept
            }),
            Property::always(ENDS, |_, state: &State| {
                state.gateways.iter().all(|orders| {
                    let in_force = orders.in_force(NOW);
                    let ended = orders.set(NOW).into_iter().filter_map(|order| match order.verb {
                        Verb::End(id) => Some(id),
                        Verb::Freeze | Verb::Cap(_) | Verb::Drain | Verb::Kill => None,
                    });
                    ended.into_iter().all(|id| in_force.iter().all(|order| order.id != id))
                })
            }),
            Property::sometimes(SPREAD, |_, state: &State| {
                state.given.iter().all(|given| given.len() == ORDERS as usize)
                    && state.gateways.iter().all(|orders| orders.set(NOW).len() == 4)
            }),
        ]
    }
}

#[test]
fn enough_stays_in_service_and_gateways_agree_whatever_two_operators_order() {
    table::holds("orders", Ordering::new(Mutants::NONE));
}

#[test]
fn judged_by_the_sender_two_partial_drains_leave_too_little() {
    let mutants = Mutants::without(Mutant::InServiceBySender);
    table::breaks("InServiceBySender", ENOUGH, Ordering::new(mutants));
}

#[test]
fn in_the_order_of_arrival_two_gateways_keep_different_sites() {
    let mutants = Mutants::without(Mutant::OrdersByArrival);
    table::breaks("OrdersByArrival", AGREE, Ordering::new(mutants));
}
