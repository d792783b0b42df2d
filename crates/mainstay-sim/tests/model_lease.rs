//! Every order of events that a site and its gateways can live through while credit is leased:
//! what may be spent never exceeds what there is, and each rule of the lease is needed for that.
//!
//! The holder and the granter are those of `mainstay_core::lease`. One microsecond of theirs is
//! one tick here; ticks pass at any point of any order. The network is a set of all that was ever
//! said: whatever is in it may be delivered again, late, in any order, or never.
//!
//! `cargo test -p mainstay-sim --test model_lease -- --nocapture` prints states and
//! counter-examples. `MAINSTAY_MODEL=large` adds a third gateway and a second crash.

#[path = "model/table.rs"]
mod table;

use mainstay_core::lease::{Granter, Holder, Terms, lower};
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::time::{Duration, Time};
use stateright::{Model, Property};
use std::collections::BTreeSet;

/// Present, on everybody's clock: states are kept relative to it.
const NOW: Time = Time::from_micros(100);
/// Ticks of a lease, and of its drift allowance.
const LEASE: u8 = 2;
const DRIFT: u8 = 1;
/// What there is to grant, before and after it shrinks.
const AMOUNT: u64 = 2;
const SHRUNK: u64 = 1;
/// Most reports of one gateway.
const REPORTS: u8 = 3;

const SUM: &str = "I2: what holders may use never exceeds what there is";
const BACK: &str = "L2: lost credit is back within lease + drift";

/// One configuration.
#[derive(Clone)]
struct Lease {
    terms: Terms,
    gateways: u8,
    /// Controllers that may die.
    crashes: u8,
    /// Gateways that may die.
    restarts: u8,
    /// Reports that all gateways together may send.
    reports: u8,
    /// Reports that the network may double.
    doubles: u8,
    /// Refusals.
    refusals: u8,
    /// Whether what there is may shrink.
    shrinks: bool,
    /// Least grant: a grant of nothing takes credit away.
    least: u64,
    /// The first gateway's clock loses two ticks a lease, which is above the bound.
    is_bad_clock: bool,
    /// A gateway that starts again counts its reports from one.
    is_nonce_reused: bool,
}

impl Lease {
    fn new(mutants: Mutants) -> Lease {
        let micros = |ticks: u8| Duration::from_micros(u64::from(ticks));
        Lease {
            terms: Terms { lease: micros(LEASE), drift: micros(DRIFT), mutants },
            gateways: 2,
            crashes: 1,
            restarts: 0,
            reports: 3,
            doubles: 0,
            refusals: 0,
            shrinks: true,
            least: 1,
            is_bad_clock: false,
            is_nonce_reused: false,
        }
    }

    fn without(rule: Mutant) -> Lease {
        Lease::new(Mutants::without(rule))
    }

    /// Whether this gateway's clock may lose the next tick.
    fn may_lose(&self, index: usize, gateway: &Gateway) -> bool {
        let pause = if self.is_bad_clock && index == 0 { 1 } else { LEASE };
        gateway.steady >= pause
    }

    /// What the site may grant to `to` now: any amount up to this, whatever computes it.
    fn room(&self, state: &State, to: u8) -> u64 {
        let is_watched = !self.terms.mutants.removes(Mutant::DriftUnwatched);
        if self.is_bad_clock && to == 0 && is_watched {
            return 0;
        }
        state.site.room(NOW, to, state.amount, &self.terms)
    }

    /// A grant that its holder does not take now it never takes: it makes no difference whether
    /// the network still has it. Only where numbers come twice it does.
    fn forget_refused(&self, state: &mut State) {
        if self.is_nonce_reused {
            return;
        }
        let State { said, gateways, .. } = state;
        said.retain(|message| match *message {
            Message::Report { .. } => true,
            Message::Grant { to, epoch, nonce, amount } => {
                let mut holder = gateways[usize::from(to)].holder.clone();
                holder.grant(NOW, (epoch, nonce), amount, &self.terms)
            }
        });
    }

    fn tick(&self, state: &mut State, lost: u8) {
        let later = NOW + Duration::from_micros(1);
        state.site = state.site.clone().moved(later, NOW, &self.terms);
        state.shrunk = state.shrunk.map(|ago| (ago + 1).min(LEASE + DRIFT));
        for (index, gateway) in state.gateways.iter_mut().enumerate() {
            if lost & (1 << index) != 0 {
                gateway.steady = 0;
                continue;
            }
            gateway.steady = (gateway.steady + 1).min(LEASE);
            gateway.holder = gateway.holder.clone().moved(later, NOW, &self.terms);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    site: Granter<u8>,
    /// What it may grant in all.
    amount: u64,
    /// Ticks since that fell.
    shrunk: Option<u8>,
    crashes: u8,
    restarts: u8,
    doubles: u8,
    refusals: u8,
    gateways: Vec<Gateway>,
    said: BTreeSet<Message>,
}

impl State {
    fn held(&self) -> u64 {
        self.gateways.iter().filter_map(|gateway| gateway.holder.held(NOW)).sum()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway {
    holder: Holder<u64>,
    reports: u8,
    /// Ticks since its clock lost one.
    steady: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Message {
    Report { from: u8, nonce: u64 },
    Grant { to: u8, epoch: u32, nonce: u64, amount: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// Time passes; the clocks of these gateways (one bit each) do not notice.
    Tick { lost: u8 },
    /// A gateway sends a report.
    Report { from: u8 },
    /// The site hears a report, perhaps not for the last time, and grants so much.
    Heard { from: u8, nonce: u64, amount: u64, is_last: bool },
    /// A gateway hears a grant.
    Granted { to: u8, epoch: u32, nonce: u64, amount: u64 },
    /// A refusal asks a gateway to hold no more than this.
    Refused { to: u8, most: u64 },
    /// The site can carry less.
    Shrink,
    /// The controller dies; another takes over and knows nothing.
    TakeOver,
    /// A gateway dies and starts again.
    Restart { gateway: u8 },
}

impl Model for Lease {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let gateway = Gateway { holder: Holder::default(), reports: 0, steady: LEASE };
        vec![State {
            site: Granter::first(1),
            amount: AMOUNT,
            shrunk: None,
            crashes: 0,
            restarts: 0,
            doubles: 0,
            refusals: 0,
            gateways: vec![gateway; usize::from(self.gateways)],
            said: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let may_lose = |lost: u8| {
            let mut all = state.gateways.iter().enumerate();
            all.all(|(n, gateway)| lost & (1 << n) == 0 || self.may_lose(n, gateway))
        };
        steps.extend(
            (0..1 << self.gateways).filter(|lost| may_lose(*lost)).map(|lost| Step::Tick { lost }),
        );
        let sent: u8 = state.gateways.iter().map(|gateway| gateway.reports).sum();
        for (from, gateway) in (0..).zip(&state.gateways) {
            if gateway.reports < REPORTS && sent < self.reports {
                steps.push(Step::Report { from });
            }
            if state.restarts < self.restarts && gateway.reports > 0 {
                steps.push(Step::Restart { gateway: from });
            }
            if state.refusals < self.refusals && gateway.holder.held(NOW).is_some() {
                steps.extend((0..=AMOUNT).map(|most| Step::Refused { to: from, most }));
            }
        }
        for message in &state.said {
            match *message {
                Message::Report { from, nonce } => {
                    let room = self.room(state, from);
                    for amount in self.least..=room {
                        steps.push(Step::Heard { from, nonce, amount, is_last: true });
                        if state.doubles < self.doubles {
                            steps.push(Step::Heard { from, nonce, amount, is_last: false });
                        }
                    }
                }
                Message::Grant { to, epoch, nonce, amount } => {
                    steps.push(Step::Granted { to, epoch, nonce, amount });
                }
            }
        }
        if self.shrinks && state.shrunk.is_none() {
            steps.push(Step::Shrink);
        }
        if state.crashes < self.crashes {
            steps.push(Step::TakeOver);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Tick { lost } => self.tick(&mut state, lost),
            Step::Report { from } => {
                let gateway = &mut state.gateways[usize::from(from)];
                gateway.reports += 1;
                let nonce = gateway.holder.report(NOW);
                state.said.insert(Message::Report { from, nonce });
            }
            Step::Heard { from, nonce, amount, is_last } => {
                state.site.record(NOW, from, amount, &self.terms);
                if is_last {
                    state.said.remove(&Message::Report { from, nonce });
                } else {
                    state.doubles += 1;
                }
                let epoch = state.site.epoch();
                state.said.insert(Message::Grant { to: from, epoch, nonce, amount });
            }
            Step::Granted { to, epoch, nonce, amount } => {
                let holder = &mut state.gateways[usize::from(to)].holder;
                holder.grant(NOW, (epoch, nonce), amount, &self.terms);
            }
            Step::Refused { to, most } => {
                let holder = &mut state.gateways[usize::from(to)].holder;
                let held = holder.held_mut(NOW)?;
                state.refusals += 1;
                *held = lower(*held, most, &self.terms);
            }
            Step::Shrink => {
                state.amount = SHRUNK;
                state.shrunk = Some(0);
            }
            Step::TakeOver => {
                state.crashes += 1;
                state.site = Granter::new(NOW, state.site.epoch() + 1);
            }
            Step::Restart { gateway } => {
                state.restarts += 1;
                let used = if self.is_nonce_reused { 0 } else { u64::from(REPORTS) };
                state.gateways[usize::from(gateway)].holder = Holder::starting_after(used);
            }
        }
        self.forget_refused(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Lease>> {
        let always = [
            Property::always(SUM, |_, state: &State| {
                let is_lapsed = state.shrunk.is_some_and(|ago| ago >= LEASE + DRIFT);
                state.held() <= if is_lapsed { SHRUNK } else { AMOUNT }
            }),
            Property::always(BACK, |model: &Lease, state: &State| {
                let then = NOW + model.terms.lease + model.terms.drift;
                let is_back = state.site.used(then, &model.terms) == 0;
                is_back && !state.site.is_silent(then, &model.terms)
            }),
        ];
        let sometimes = [
            Property::sometimes("two gateways hold at once", |_, state: &State| {
                state.gateways.iter().filter(|one| one.holder.held(NOW) == Some(&1)).count() == 2
            }),
            Property::sometimes("a successor's grant is held", |_, state: &State| {
                let mut all = state.gateways.iter();
                all.any(|one| one.holder.epoch() == 2 && one.holder.held(NOW) == Some(&AMOUNT))
            }),
        ];
        // Whose clock is watched gets nothing, so that only one gateway is left.
        let possible = if self.is_bad_clock { &[][..] } else { &sometimes[..] };
        [&always[..], possible].concat()
    }
}

#[test]
fn what_holders_may_use_never_exceeds_what_there_is_in_any_order_of_events() {
    table::holds("lease: shrink, take-over", Lease::new(Mutants::NONE));
    let gateways = Lease { shrinks: false, reports: 2, restarts: 1, doubles: 1, ..lease() };
    table::holds("lease: restart, doubled reports, take-over", gateways);
    let refusals = Lease { least: 0, reports: 2, refusals: 1, ..lease() };
    table::holds("lease: refusals, grants of nothing, shrink, take-over", refusals);
    let watched = Lease { is_bad_clock: true, reports: 2, ..lease() };
    table::holds("lease: a clock above the bound, watched", watched);
    if std::env::var("MAINSTAY_MODEL").is_ok_and(|size| size == "large") {
        let more = Lease { gateways: 3, crashes: 2, ..lease() };
        table::visits("lease: 3 gateways, 2 take-overs", more);
        let all = Lease { reports: 4, restarts: 1, doubles: 1, refusals: 1, least: 0, ..lease() };
        table::visits("lease: everything at once", all);
    }
}

fn lease() -> Lease {
    Lease::new(Mutants::NONE)
}

#[test]
fn each_rule_of_the_lease_is_needed() {
    println!("  | without | counter-example | states | time |");
    for rule in [
        Mutant::LeaseFromReceipt,
        Mutant::GrantWithoutNonce,
        Mutant::NoSilenceAfterTakeover,
        Mutant::RecordWithoutDrift,
        Mutant::RecordIsLastGrant,
    ] {
        table::breaks(&format!("{rule:?}"), SUM, Lease::without(rule));
    }
    let rule = Mutant::DriftUnwatched;
    let drift = Lease { is_bad_clock: true, ..Lease::without(rule) };
    table::breaks(&format!("{rule:?}"), SUM, drift);
    let rule = Mutant::RefusalRaisesCredit;
    let refusal = Lease { refusals: 1, ..Lease::without(rule) };
    table::breaks(&format!("{rule:?}"), SUM, refusal);
    let reused = Lease { reports: 2, crashes: 0, restarts: 1, is_nonce_reused: true, ..lease() };
    table::breaks("numbers used again after a restart", SUM, reused);
}
