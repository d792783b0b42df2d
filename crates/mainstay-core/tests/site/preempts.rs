//! Who gives way at a worker for the sake of a higher tier, as its site tells it.

use crate::bench::{TARGET, at, config};
use crate::learns::{prompt, teach};
use crate::tells::{facts, tell, worker};
use mainstay_core::config::Tier;
use mainstay_core::cost::CostRate;
use mainstay_core::fact::SiteFact;
use mainstay_core::message::Open;
use mainstay_core::names::{TierId, WorkerId};
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::Duration;

const HIGH: TierId = TierId(0);
const BATCH: TierId = TierId(3);

/// With a tier that lives on what others leave, and one worker that reads 20,000 tokens a second.
fn site() -> Site {
    let mut config = config(6);
    config.tiers.push(Tier { name: "batch".into(), floor: 0.0 });
    config.patience.push(Duration::from_secs(3600));
    let mut site = Site::first(config, 1);
    let capacity = CostRate::whole(20);
    let state = WorkerState::Up { target: TARGET, capacity, streams: 256, cold: false };
    tell(&mut site, 1, worker(0, state));
    site
}

fn of(tier: TierId, number: u64, tokens: u32) -> Event {
    let left = Duration::from_secs(3600);
    Event::Open(Open { tier, left, elsewhere: tier == HIGH, ..prompt(number, tokens) })
}

fn given(actions: &[Action]) -> Vec<u64> {
    let number = |action: &Action| match action {
        Action::Dispatch { work, .. } => Some(work.attempt.request.0),
        _ => None,
    };
    actions.iter().filter_map(number).collect()
}

#[test]
fn a_long_prompt_of_batch_is_taken_back_for_who_would_be_late_and_is_served_later() {
    let mut site = site();
    let now = teach(&mut site, 60);
    assert_eq!(given(&tell(&mut site, now, of(BATCH, 1_000, 200_000))), [1_000]);
    let did = tell(&mut site, now + 200, of(HIGH, 1_001, 1_000));
    let (long, short) = (prompt(1_000, 1).work, prompt(1_001, 1).work);
    let place = |is: &dyn Fn(&Action) -> bool| did.iter().position(is);
    let of = (long, WorkerId(0));
    let abort = place(&|it| matches!(it, Action::Abort { work, worker } if (*work, *worker) == of));
    let sent = place(&|it| matches!(it, Action::Dispatch { work, .. } if *work == short));
    assert!(abort.is_some() && abort < sent, "{did:?}");
    let fact = SiteFact::Preempted { work: long, tier: BATCH, worker: WorkerId(0), by: short };
    assert!(facts(&did).contains(&&fact), "{did:?}");
    assert!(!did.iter().any(|it| matches!(it, Action::Refuse { .. })), "it stays let in");
    // What its old leg still says is nobody's; it is served, and ends like any other.
    let after = Duration::from_millis(70);
    let mut did = tell(&mut site, now + 270, Event::FirstToken { work: short, after });
    did.extend(tell(&mut site, now + 300, Event::Ended { work: short, cost: prompt(1, 9).cost }));
    let is_there = |did: &[Action]| given(did).contains(&1_000);
    assert!(
        is_there(&did) || site.standing(at(now + 300), TARGET).is_some_and(|it| it.running == 1)
    );
    let after = Duration::from_secs(10);
    tell(&mut site, now + 11_000, Event::FirstToken { work: long, after });
    let did = tell(&mut site, now + 12_000, Event::Ended { work: long, cost: prompt(1, 9).cost });
    assert!(facts(&did).is_empty(), "{did:?}");
    let standing = site.standing(at(now + 12_000), TARGET).expect("its model");
    assert_eq!((standing.running, standing.queued), (0, 0));
}

/// As long as nothing is known of times nothing is foreseen, and nobody gives way.
#[test]
fn a_site_that_has_not_learned_what_prompts_take_takes_nothing_back() {
    let mut site = site();
    let now = teach(&mut site, 30);
    tell(&mut site, now, of(BATCH, 1_000, 200_000));
    let did = tell(&mut site, now + 200, of(HIGH, 1_001, 1_000));
    assert!(!did.iter().any(|it| matches!(it, Action::Abort { .. })), "{did:?}");
}
