//! A generation on its way through three gateways: polls, digests, crashes and waits in any order.
//!
//! The worst content there is: every taste finds it good, and it crashes its process within five
//! minutes. Digests are lost, late, or heard twice. One process may crash for no fault of its
//! content.

use crate::table;
use mainstay_core::config::PolicyConfig;
use mainstay_core::message::Digest;
use mainstay_core::mutant::{Mutant, Mutants};
use mainstay_core::names::GatewayId;
use mainstay_core::policy::disk::Disk;
use mainstay_core::policy::generation::Generations;
use mainstay_core::policy::{Action, Snapshot, Taste};
use mainstay_core::time::{Duration, Time};
use stateright::{Model, Property};

const GATEWAYS: usize = 3;
/// Time passes in steps of so long; bad content does not survive one.
const STEP: Duration = Duration::from_secs(300);
/// Steps: five minutes in which bad content shows itself, and a canary's ten.
const STEPS: u8 = 3;

/// The generation at first: of the two after it, canaries are different gateways.
const BEGUN: u64 = 4;

/// What runs everywhere at first, what crashes, and what is new and sound.
const FIRST: u64 = 100;
const BAD: u64 = 666;
const NEW: u64 = 200;

const FEW: &str = "I11: bad content reaches one gateway at most";
const ONCE: &str = "I11: content that crashed before it was good is not loaded again";
const GOOD: &str = "I11: bad content is nowhere good";
const RUNS: &str = "Q9: every gateway always has something to run";
const ARRIVES: &str = "L7: the last generation runs everywhere";

#[derive(Clone)]
struct Adoption {
    configs: [PolicyConfig; GATEWAYS],
    /// What is published, one after the other.
    script: Vec<Snapshot>,
    /// Crashes that are nobody's fault.
    accidents: u8,
    /// The network may keep a digest back.
    may_keep_back: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    steps: u8,
    /// Generations published so far.
    published: usize,
    gateways: [Gateway; GATEWAYS],
    accidents: u8,
    /// One digest that the network keeps back, and whether it may still keep one.
    late: Option<Said>,
    has_kept_back: bool,
    is_reloaded: bool,
}

/// What a gateway says: from whom, its generation, for how long clean, what is in quarantine.
type Said = (GatewayId, u64, Duration, Vec<u64>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Gateway {
    machine: Generations,
    /// As it was when it was last written.
    disk: Disk,
    has_loaded_bad: bool,
    has_crashed_by_it: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Publish,
    Poll(u16),
    /// A digest comes at once.
    Hear {
        from: u16,
        to: u16,
    },
    /// The network keeps a digest back.
    KeepBack {
        from: u16,
    },
    /// It comes after all, and may come again.
    HearLate {
        to: u16,
    },
    Crash(u16),
    Wait,
}

fn snapshot(generation: u64, content: u64, before: Option<&Snapshot>) -> Snapshot {
    let previous = before.map_or(0, Snapshot::hash);
    let (author, reason) = (String::from("author"), String::from("reason"));
    Snapshot { generation, content, previous, author, reason, bytes: 1, confirmed: true }
}

impl Adoption {
    /// Publishes these contents one after the other over the first.
    fn new(contents: &[u64], mutants: Mutants) -> Adoption {
        let mut script = vec![snapshot(BEGUN, FIRST, None)];
        for content in contents {
            let before = script.last();
            let generation = BEGUN + script.len() as u64;
            script.push(snapshot(generation, *content, before));
        }
        let config = |me| PolicyConfig {
            me: GatewayId(me),
            gateways: GATEWAYS as u16,
            mutants,
            ..PolicyConfig::default()
        };
        let configs = [config(0), config(1), config(2)];
        Adoption { configs, script, accidents: 0, may_keep_back: false }
    }

    fn now(&self, state: &State) -> Time {
        // Not the start of the clock, where ages would be cut off.
        Time::ZERO + STEP * (u32::from(state.steps) + 1)
    }

    /// Does what the machine of a gateway asked for.
    fn act(&self, gateway: &mut Gateway, actions: Vec<Action>) -> bool {
        let mut is_reloaded = false;
        for action in actions {
            match action {
                Action::Keep => gateway.disk = gateway.machine.disk().clone(),
                Action::Adopt(snapshot) if snapshot.content == BAD => {
                    gateway.has_loaded_bad = true;
                    is_reloaded |= gateway.has_crashed_by_it;
                }
                _ => {}
            }
        }
        is_reloaded
    }

    fn boot(&self, index: usize, now: Time, disk: Disk) -> (Gateway, bool) {
        let (mut disk, mut actions) = (disk, Vec::new());
        disk.start(Duration::ZERO, &self.configs[index], &mut Vec::new());
        let machine = Generations::boot(now, disk.clone(), &mut actions);
        let (has_loaded_bad, has_crashed_by_it) = (false, false);
        let mut gateway = Gateway { machine, disk, has_loaded_bad, has_crashed_by_it };
        let is_reloaded = self.act(&mut gateway, actions);
        (gateway, is_reloaded)
    }

    fn said(&self, state: &State, from: u16) -> Said {
        let machine = &state.gateways[usize::from(from)].machine;
        let generation = machine.current().map_or(0, |current| current.generation);
        let clean = machine.clean(self.now(state));
        (GatewayId(from), generation, clean, machine.quarantined().to_vec())
    }

    /// Whether a digest can change anything: it tells of what waits here, or of new harm. What is
    /// heard before it matters could as well be heard when it does, for no time passes between.
    fn matters(&self, gateway: &Gateway, said: &Said) -> bool {
        let (_, generation, _, quarantined) = said;
        let machine = &gateway.machine;
        machine.staged().is_some_and(|staged| staged.generation == *generation)
            || quarantined.iter().any(|content| machine.disk().may_load(*content))
    }

    fn hear(&self, state: &mut State, to: u16, said: Said) {
        let now = self.now(state);
        let (from, generation, clean, quarantined) = said;
        let digest = Digest { from, generation, clean, quarantined, ..Digest::default() };
        let config = &self.configs[usize::from(to)];
        let gateway = &mut state.gateways[usize::from(to)];
        let mut actions = Vec::new();
        gateway.machine.digest(now, &digest, config, &mut actions);
        state.is_reloaded |= self.act(gateway, actions);
    }

    fn crash(&self, state: &mut State, index: usize) {
        let now = self.now(state);
        let before = state.gateways[index].clone();
        let is_bad = before.machine.current().is_some_and(|current| current.content == BAD);
        state.accidents += u8::from(!is_bad);
        let (mut after, loads_bad) = self.boot(index, now, before.disk);
        after.has_crashed_by_it = before.has_crashed_by_it || is_bad;
        let boots_bad = after.machine.current().is_some_and(|current| current.content == BAD);
        state.is_reloaded |= loads_bad || (after.has_crashed_by_it && boots_bad);
        after.has_loaded_bad |= before.has_loaded_bad;
        state.gateways[index] = after;
    }
}

impl Model for Adoption {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let boot = |index| {
            let now = Time::ZERO + STEP;
            self.boot(index, now, Disk::new(self.script[0].clone())).0
        };
        let gateways = [boot(0), boot(1), boot(2)];
        vec![State {
            steps: 0,
            published: 1,
            gateways,
            accidents: 0,
            late: None,
            has_kept_back: false,
            is_reloaded: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.published < self.script.len() {
            steps.push(Step::Publish);
        }
        let mut may_wait = state.steps < STEPS;
        for (index, gateway) in state.gateways.iter().enumerate() {
            let at = index as u16;
            let runs_bad = gateway.machine.current().is_some_and(|c| c.content == BAD);
            steps.push(Step::Poll(at));
            let said = self.said(state, at);
            for (to, other) in state.gateways.iter().enumerate().filter(|(to, _)| *to != index) {
                let to = to as u16;
                if self.matters(other, &said) {
                    steps.push(Step::Hear { from: at, to });
                }
                if index == 0 && state.late.as_ref().is_some_and(|late| self.matters(other, late)) {
                    steps.push(Step::HearLate { to });
                }
            }
            if self.may_keep_back && !state.has_kept_back && said.1 > BEGUN {
                steps.push(Step::KeepBack { from: at });
            }
            if runs_bad || state.accidents < self.accidents {
                steps.push(Step::Crash(at));
            }
            may_wait &= !(runs_bad && gateway.machine.clean(self.now(state)) >= STEP);
        }
        if may_wait {
            steps.push(Step::Wait);
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        let now = self.now(before);
        let mut actions = Vec::new();
        match step {
            Step::Publish => state.published += 1,
            Step::Wait => state.steps += 1,
            Step::Crash(at) => self.crash(&mut state, usize::from(at)),
            Step::Poll(at) => {
                let config = &self.configs[usize::from(at)];
                let gateway = &mut state.gateways[usize::from(at)];
                let newest = self.script[before.published - 1].clone();
                let content = newest.content;
                gateway.machine.snapshot(now, newest, config, &mut actions);
                gateway.machine.tasted(now, (content, Taste::Good), config, &mut actions);
                state.is_reloaded |= self.act(gateway, actions);
            }
            Step::Hear { from, to } => {
                let said = self.said(before, from);
                self.hear(&mut state, to, said);
            }
            Step::KeepBack { from } => {
                state.late = Some(self.said(before, from));
                state.has_kept_back = true;
            }
            Step::HearLate { to } => self.hear(&mut state, to, before.late.clone()?),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(FEW, |_, state: &State| {
                state.gateways.iter().filter(|gateway| gateway.has_loaded_bad).count() <= 1
            }),
            Property::always(ONCE, |_, state: &State| !state.is_reloaded),
            Property::always(GOOD, |_, state: &State| {
                state.gateways.iter().all(|gateway| !gateway.machine.disk().is_good(BAD))
            }),
            Property::always(RUNS, |_, state: &State| {
                state.gateways.iter().all(|gateway| gateway.machine.current().is_some())
            }),
            Property::sometimes(ARRIVES, |model: &Self, state: &State| {
                let last = BEGUN + model.script.len() as u64 - 1;
                let runs_last = |gateway: &Gateway| {
                    gateway.machine.current().is_some_and(|current| current.generation == last)
                };
                state.gateways.iter().all(runs_last)
            }),
        ]
    }
}

#[test]
fn new_content_runs_everywhere_after_the_canary_ran_it_clean() {
    let model = Adoption::new(&[NEW], Mutants::NONE);
    let model = Adoption { accidents: 1, may_keep_back: true, ..model };
    table::holds("new content, one accident", model);
}

/// Azure Front Door, 29 October 2025: content that crashes minutes after it was loaded.
#[test]
fn s12_bad_content_reaches_one_gateway_and_the_way_back_reaches_all() {
    table::holds("bad content, then the old again", Adoption::new(&[BAD, FIRST], Mutants::NONE));
}

#[test]
fn bad_content_reaches_one_gateway_and_its_repair_waits_for_a_canary_of_its_own() {
    table::holds("bad content, then a repair", Adoption::new(&[BAD, NEW], Mutants::NONE));
}

#[test]
fn content_that_is_good_when_loaded_takes_the_place_of_what_was() {
    let mutants = Mutants::without(Mutant::GoodAtLoad);
    table::breaks("GoodAtLoad", GOOD, Adoption::new(&[BAD], mutants));
    table::breaks("GoodAtLoad", ONCE, Adoption::new(&[BAD], mutants));
}

#[test]
fn content_whose_crash_is_forgotten_crashes_again() {
    let mutants = Mutants::without(Mutant::CrashForgotten);
    table::breaks("CrashForgotten", ONCE, Adoption::new(&[BAD], mutants));
}
