//! What a site learns of its workers' times, and what it does then.

use crate::bench::{TARGET, config, open};
use crate::tells::{facts, tell, worker};
use mainstay_core::cost::{CostRate, CostUnits};
use mainstay_core::fact::SiteFact;
use mainstay_core::message::Open;
use mainstay_core::names::{TierId, WorkerId};
use mainstay_core::site::prefixes::Prefix;
use mainstay_core::site::schedule::profile::Profile;
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::Duration;

/// A worker that reads 20,000 tokens a second, and as many thousandths of cost units.
fn one_worker() -> Site {
    let mut site = Site::first(config(6), 1);
    let capacity = CostRate::whole(20);
    let state = WorkerState::Up { target: TARGET, capacity, streams: 256, cold: false };
    tell(&mut site, 1, worker(0, state));
    site
}

/// A prompt of so many tokens that costs nothing beyond them.
pub fn prompt(number: u64, tokens: u32) -> Open {
    let cost = CostUnits(tokens.into());
    Open { tier: TierId(1), tenant: 0, cost, prompt: tokens, ..open(number) }
}

/// Prompts of many lengths, one after another, each of which tells what was cached of it.
pub fn teach(site: &mut Site, count: u64) -> u64 {
    let mut millis = 10;
    for number in 0..count {
        let open = prompt(number, 100 + 37 * (number as u32 % 50));
        tell(site, millis, Event::Open(open));
        let took = 10 + u64::from(open.prompt) / 20;
        millis += took;
        let after = Duration::from_millis(took);
        tell(site, millis, Event::FirstToken { work: open.work, after });
        tell(site, millis, Event::Cached { work: open.work, tokens: 0 });
        tell(site, millis, Event::Ended { work: open.work, cost: open.cost });
        millis += 5;
    }
    millis
}

/// Six long prompts at once, which could just be in time, and then many short ones that go first.
fn crowd(site: &mut Site, millis: u64) -> Vec<Action> {
    let mut actions = Vec::new();
    for number in 0..70 {
        let (at, tokens) = if number < 6 { (0, 30_000) } else { (number * 50, 1000) };
        actions.extend(tell(site, millis + at, Event::Open(prompt(1000 + number, tokens))));
    }
    actions
}

fn gives_way(actions: &[Action]) -> usize {
    facts(actions).iter().filter(|fact| matches!(fact, SiteFact::GivesWay { .. })).count()
}

/// What `teach` and `one_worker` make of it: ten milliseconds, and one for twenty tokens.
const TAUGHT: Profile = Profile {
    overhead: 0.0,
    floor: 10.0,
    base: 10.0,
    token: 0.05,
    context: 0.0,
    pair: 0.0,
    chunk: 2048,
    sequences: 256,
    blocks: 4096,
};

#[test]
fn a_site_that_was_told_what_its_worker_is_foresees_from_the_first_request() {
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, Event::Described { worker: WorkerId(0), profile: TAUGHT });
    let capacity = CostRate::whole(20);
    let state = WorkerState::Up { target: TARGET, capacity, streams: 256, cold: false };
    tell(&mut site, 1, worker(0, state));
    assert!(gives_way(&crowd(&mut site, 10)) > 0);
    // One of which nobody said is taken to be alike.
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, worker(0, state));
    tell(&mut site, 1, Event::Described { worker: WorkerId(1), profile: TAUGHT });
    tell(&mut site, 1, worker(1, state));
    tell(&mut site, 2, worker(1, WorkerState::Down));
    assert!(gives_way(&crowd(&mut site, 10)) > 0);
}

/// A worker that takes twice as long as an operator said, or half: after as many answers as a site
/// without any word needs to learn, the same is foreseen.
#[test]
fn what_was_said_of_a_worker_is_corrected_by_what_it_takes() {
    for times in [0.5, 2.0] {
        let (token, base) = (TAUGHT.token * times, TAUGHT.base * times);
        let profile = Profile { token, base, floor: base, ..TAUGHT };
        let mut site = Site::first(config(6), 1);
        tell(&mut site, 1, Event::Described { worker: WorkerId(0), profile });
        let capacity = CostRate::whole(20);
        let state = WorkerState::Up { target: TARGET, capacity, streams: 256, cold: false };
        tell(&mut site, 1, worker(0, state));
        let millis = teach(&mut site, 120);
        let told = gives_way(&crowd(&mut site, millis));
        let mut knows = one_worker();
        let millis = teach(&mut knows, 120);
        let learned = gives_way(&crowd(&mut knows, millis));
        assert!(told.abs_diff(learned) <= 1, "{times}: {told} for {learned}");
    }
}

#[test]
fn a_site_that_learned_what_prompts_take_lets_long_ones_give_way() {
    let mut knows = one_worker();
    let millis = teach(&mut knows, 60);
    let did = crowd(&mut knows, millis);
    assert!(gives_way(&did) > 0);
    // One to whom nobody tells of caches knows what is done in a second, and nothing of prompts.
    let mut site = one_worker();
    assert_eq!(gives_way(&crowd(&mut site, 10)), 0);
}

#[test]
fn a_site_that_learned_what_prompts_take_says_when_a_first_token_comes() {
    let ttft = |actions: &[Action]| {
        let acks = actions.iter().find_map(|action| match action {
            Action::Ack { ack, .. } => Some(ack.ttft.as_millis()),
            _ => None,
        });
        acks.expect("it is let in")
    };
    let turn = |site: &mut Site, millis: u64, number: u64, blocks: u32| {
        let open = prompt(number, blocks * 500);
        let keys = (1..=u64::from(blocks)).collect();
        let prefix = Prefix { keys, block: 500, token: CostUnits(1) };
        tell(site, millis, Event::Prefix { work: open.work, prefix });
        ttft(&tell(site, millis, Event::Open(open)))
    };
    let ends = |site: &mut Site, millis: u64, number: u64, cached: u32| {
        let work = prompt(number, 0).work;
        tell(site, millis, Event::FirstToken { work, after: Duration::from_millis(1_000) });
        tell(site, millis, Event::Cached { work, tokens: cached });
        tell(site, millis, Event::Ended { work, cost: CostUnits(20_000) });
    };
    let mut site = one_worker();
    let millis = teach(&mut site, 60) + 1000;
    // 20,000 tokens a second, and then what is not cached of it.
    let first = turn(&mut site, millis, 500, 40);
    assert!((900..1_200).contains(&first), "{first} ms");
    ends(&mut site, millis + 1_000, 500, 0);
    let second = turn(&mut site, millis + 2_000, 501, 44);
    assert!((90..300).contains(&second), "{second} ms");
    // Who does not know takes it for one like others.
    let plain = turn(&mut one_worker(), 10, 500, 40);
    assert!(plain < 500, "{plain} ms");
}
