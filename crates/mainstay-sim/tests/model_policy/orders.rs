//! Three sites, two operators, two gateways: orders given on either side of a partition and
//! delivered in any order, to the gateways and to the sites, with an operator's second thoughts
//! among them.
//!
//! Each operator checks against what their own gateway knows, has the token, and may give any
//! drain or kill. What keeps enough in service is the rule at the point of use.

use crate::table;
use mainstay_core::config::{PolicyConfig, Service};
use mainstay_core::cost::CostRate;
use mainstay_core::in_service::judge;
use mainstay_core::message::{Order, OrderId, Verb};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::SiteId;
use mainstay_core::orders::Orders;
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
/// Orders that each operator gives, where sites are not told, and where they are: with all four
/// the walk would take ten times as long.
const ORDERS: [usize; 2] = [2, 2];
const ORDERS_TOLD: [usize; 2] = [2, 1];

const ENOUGH: &str = "I5: enough stays in service, at every gateway and by what sites obey";
const AGREE: &str = "I5: gateways and sites that know the same orders keep the same sites";
const SPREAD: &str = "L6: both gateways and the sites know all orders of both operators";
const ENDS: &str = "an order that was ended rules nowhere";

#[derive(Clone)]
struct Ordering {
    mutants: Mutants,
    orders: [usize; 2],
    config: PolicyConfig,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    /// What each gateway knows.
    gateways: [Orders; 2],
    /// What one of the sites knows; each judges for itself, so one stands for all.
    site: Orders,
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
    /// A gateway tells the sites its whole set.
    Tell { gateway: usize },
}

impl Ordering {
    fn new(mutants: Mutants, orders: [usize; 2]) -> Ordering {
        let sites = SITES.map(|(_, capacity)| capacity).to_vec();
        let service = Service { sites, min_sites: LEAST_SITES, min_capacity: LEAST_PERCENT };
        let config = PolicyConfig { service, gateways: 2, ..PolicyConfig::default() };
        Ordering { mutants, orders, config }
    }

    /// The sites that stay, by what a node knows: bit by bit.
    fn kept(&self, orders: &Orders) -> u64 {
        let judged = judge(orders.in_force(NOW), &self.config.service, self.mutants);
        let is_out = |order: &Order| matches!(order.verb, Verb::Drain | Verb::Kill);
        let out = judged.stand.iter().filter(|order| is_out(order)).filter_map(|order| order.site);
        out.fold((1 << SITES.len()) - 1, |kept, site| kept & !(1 << site.0))
    }

    /// Whether gateways tell the sites.
    fn tells(&self) -> bool {
        self.orders == ORDERS_TOLD
    }

    /// All who judge orders.
    fn nodes<'a>(&self, state: &'a State) -> impl Iterator<Item = &'a Orders> {
        state.gateways.iter().chain(self.tells().then_some(&state.site))
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
        vec![State {
            gateways: Default::default(),
            site: Orders::default(),
            given: Default::default(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for operator in 0..2 {
            if state.given[operator].len() < self.orders[operator] {
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
            if self.tells() {
                steps.push(Step::Tell { gateway });
            }
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
                gateway.command(NOW, (order.clone(), true), &self.config.service).ok()?;
                state.given[operator].push(order);
            }
            Step::Hear { gateway, order } => {
                let order = state.given.iter().flatten().find(|given| given.id == order)?.clone();
                state.gateways[gateway].take(NOW, order, &self.config.service).ok()?;
            }
            Step::Fetch { gateway } => {
                for order in state.gateways[1 - gateway].set(NOW) {
                    state.gateways[gateway].take(NOW, order, &self.config.service).ok()?;
                }
            }
            Step::Tell { gateway } => {
                for order in state.gateways[gateway].set(NOW) {
                    state.site.take(NOW, order, &self.config.service).ok()?;
                }
            }
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ENOUGH, |model: &Self, state: &State| {
                model.nodes(state).all(|orders| has_enough(model.kept(orders)))
            }),
            Property::always(AGREE, |model: &Self, state: &State| {
                let nodes: Vec<&Orders> = model.nodes(state).collect();
                let agree = |one: &Orders, other: &Orders| {
                    one.hash() != other.hash() || model.kept(one) == model.kept(other)
                };
                nodes.iter().all(|one| nodes.iter().all(|other| agree(one, other)))
            }),
            Property::always(ENDS, |model: &Self, state: &State| {
                model.nodes(state).all(|orders| {
                    let in_force = orders.in_force(NOW);
                    let ended = orders.set(NOW).into_iter().filter_map(|order| match order.verb {
                        Verb::End(id) => Some(id),
                        Verb::Freeze | Verb::Cap(_) | Verb::Drain | Verb::Kill => None,
                    });
                    ended.into_iter().all(|id| in_force.iter().all(|order| order.id != id))
                })
            }),
            Property::sometimes(SPREAD, |model: &Self, state: &State| {
                let all: usize = model.orders.iter().sum();
                state.given.iter().map(Vec::len).sum::<usize>() == all
                    && model.nodes(state).all(|orders| orders.set(NOW).len() == all)
            }),
        ]
    }
}

#[test]
fn enough_stays_in_service_and_all_nodes_agree_whatever_two_operators_order() {
    table::holds("orders", Ordering::new(Mutants::NONE, ORDERS));
    table::holds("orders, told to sites", Ordering::new(Mutants::NONE, ORDERS_TOLD));
}

#[test]
fn judged_by_the_sender_two_partial_drains_leave_too_little() {
    let mutants = Mutants::without(Mutant::InServiceBySender);
    table::breaks("InServiceBySender", ENOUGH, Ordering::new(mutants, ORDERS_TOLD));
}

#[test]
fn in_the_order_of_arrival_two_gateways_keep_different_sites() {
    let mutants = Mutants::without(Mutant::OrdersByArrival);
    table::breaks("OrdersByArrival", AGREE, Ordering::new(mutants, ORDERS_TOLD));
}
