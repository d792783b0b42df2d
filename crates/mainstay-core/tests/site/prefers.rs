//! Which worker gets an attempt, by what each holds of its prompt and by who lost it before.

use crate::bench::{COST, TARGET, at, config, open, up};
use crate::tells::{tell, worker};
use mainstay_core::cost::CostUnits;
use mainstay_core::message::Open;
use mainstay_core::names::Work;
use mainstay_core::site::prefixes::Prefix;
use mainstay_core::site::{Action, Event, Site, WorkerState};
use mainstay_core::time::Duration;

/// Tokens of a block.
const BLOCK: u32 = 500;

/// A site with so many workers of 100 CU/s each.
fn workers(count: u16) -> Site {
    let mut site = Site::first(config(6), 1);
    for id in 0..count {
        tell(&mut site, 1, worker(id, up(100, 32, false)));
    }
    site
}

/// A turn of a conversation that is so many blocks long.
fn turn(conversation: u64, blocks: u64) -> Prefix {
    let keys = (0..blocks).map(|at| (conversation << 32) | (at + 1)).collect();
    Prefix { keys, block: BLOCK, token: CostUnits(1) }
}

/// Where an attempt with this prompt goes.
fn goes(site: &mut Site, millis: u64, number: u64, prefix: &Prefix) -> Option<u16> {
    let prompt = prefix.keys.len() as u32 * BLOCK + 100;
    let open = Open { prompt, ..open(number) };
    tell(site, millis, Event::Prefix { work: open.work, prefix: prefix.clone() });
    given(&tell(site, millis, Event::Open(open)))
}

fn given(actions: &[Action]) -> Option<u16> {
    let to = |action: &Action| match action {
        Action::Dispatch { worker, .. } => Some(worker.0),
        _ => None,
    };
    actions.iter().find_map(to)
}

fn first_token(site: &mut Site, millis: u64, work: Work) {
    tell(site, millis, Event::FirstToken { work, after: Duration::from_millis(10) });
}

fn ends(site: &mut Site, millis: u64, number: u64, cached: u32) {
    let work = open(number).work;
    first_token(site, millis, work);
    tell(site, millis, Event::Cached { work, tokens: cached });
    tell(site, millis, Event::Ended { work, cost: COST });
}

#[test]
fn a_next_turn_goes_to_the_worker_that_has_the_conversation() {
    let mut site = workers(4);
    let mut homes = [None; 4];
    for conversation in 0..4 {
        let number = conversation + 1;
        homes[conversation as usize] = goes(&mut site, 10, number, &turn(number, 8));
    }
    let mut all = homes.map(Option::unwrap);
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3], "what nobody holds is spread");
    (1..=4).for_each(|number| ends(&mut site, 500, number, 0));
    // In another order than they came, each alone.
    for (at, conversation) in [3, 1, 4, 2].into_iter().enumerate() {
        let millis = 1000 + at as u64 * 100;
        let to = goes(&mut site, millis, 10 + conversation, &turn(conversation, 9));
        assert_eq!(to, homes[conversation as usize - 1], "conversation {conversation}");
        ends(&mut site, millis + 50, 10 + conversation, 8 * BLOCK);
    }
}

#[test]
fn a_busy_worker_is_not_made_busier_for_the_sake_of_a_common_beginning() {
    let mut site = workers(8);
    assert_eq!(goes(&mut site, 10, 1, &turn(1, 2)), Some(0));
    ends(&mut site, 20, 1, 0);
    let mut counts = [0u32; 8];
    for number in 0..800u64 {
        // The same system prompt, then something of its own each time.
        let own = turn(1000 + number, 2);
        let keys = turn(1, 2).keys.iter().chain(own.keys.iter()).copied().collect();
        let prefix = Prefix { keys, block: BLOCK, token: CostUnits(1) };
        let millis = 1000 + number * 10;
        let to = goes(&mut site, millis, 100 + number, &prefix).expect("room");
        counts[usize::from(to)] += 1;
        first_token(&mut site, millis, open(100 + number).work);
        if number >= 40 {
            ends(&mut site, millis, 60 + number, 0);
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    assert!(most * 10 <= 13 * 100, "none has more than 1.3 times the mean: {counts:?}");
}

#[test]
fn where_answers_say_that_nothing_is_cached_the_least_busy_one_is_taken() {
    let mut site = workers(2);
    for number in 1..40 {
        goes(&mut site, number * 100, number, &turn(1, number));
        ends(&mut site, number * 100 + 50, number, 0);
    }
    // One answer is under way at whoever held the conversation last.
    let first = goes(&mut site, 5000, 100, &turn(2, 4)).expect("room");
    first_token(&mut site, 5010, open(100).work);
    let other = goes(&mut site, 5020, 101, &turn(2, 5)).expect("room");
    assert_ne!(first, other);
}

#[test]
fn a_worker_that_came_back_holds_nothing_of_before() {
    let mut site = workers(2);
    assert_eq!(goes(&mut site, 10, 1, &turn(1, 20)), Some(0));
    ends(&mut site, 20, 1, 0);
    tell(&mut site, 30, worker(0, WorkerState::Down));
    tell(&mut site, 40, worker(0, up(100, 32, true)));
    // Something waits for its first token at it, nothing at the other.
    assert_eq!(goes(&mut site, 50, 2, &turn(2, 1)), Some(0));
    assert_eq!(goes(&mut site, 60, 3, &turn(1, 21)), Some(1));
}

#[test]
fn what_a_worker_lost_goes_to_another_even_if_that_one_holds_nothing_of_it() {
    let mut site = workers(2);
    assert_eq!(goes(&mut site, 10, 1, &turn(1, 20)), Some(0));
    ends(&mut site, 20, 1, 0);
    assert_eq!(goes(&mut site, 30, 2, &turn(1, 21)), Some(0));
    let again = tell(&mut site, 40, Event::Lost(open(2).work));
    assert_eq!(given(&again), Some(1));
    // And without any prefix, though the other has more to do.
    let open = open(3);
    let to = given(&tell(&mut site, 50, Event::Open(open))).expect("room");
    tell(&mut site, 55, worker(1 - to, up(60, 32, false)));
    let again = tell(&mut site, 60, Event::Lost(open.work));
    assert_eq!(given(&again), Some(1 - to));
    // Alone, it gets it again: that is better than nobody.
    tell(&mut site, 70, worker(to, WorkerState::Down));
    let last = tell(&mut site, 80, Event::Lost(open.work));
    assert_eq!(given(&last), Some(1 - to));
}

#[test]
fn what_is_said_of_a_prompt_that_never_comes_is_forgotten() {
    let mut site = workers(1);
    let stranger = open(7).work;
    for number in 0..1000 {
        let work = Work { attempt: open(number).work.attempt, ..stranger };
        tell(&mut site, 10, Event::Prefix { work, prefix: turn(number, 50) });
    }
    assert_eq!(goes(&mut site, 20, 2000, &turn(1, 3)), Some(0));
}

#[test]
fn a_worker_may_have_more_in_hand_by_what_it_need_not_compute() {
    let mut site = Site::first(config(6), 1);
    tell(&mut site, 1, worker(1, up(10, 32, false)));
    for number in 50..54 {
        let open = Open { cost: CostUnits(10), ..open(number) };
        assert_eq!(given(&tell(&mut site, 2, Event::Open(open))), Some(1));
        first_token(&mut site, 3, open.work);
    }
    tell(&mut site, 4, worker(0, up(10, 32, false)));
    // A thousand tokens are a unit of cost, and 3.5 of them keep a worker busy.
    let mut goes = |millis: u64, number: u64, prefix: &Prefix| {
        let prompt = prefix.keys.len() as u32 * BLOCK;
        let open = Open { prompt, cost: CostUnits(prompt.into()), ..open(number) };
        tell(&mut site, millis, Event::Prefix { work: open.work, prefix: prefix.clone() });
        let to = given(&tell(&mut site, millis, Event::Open(open)));
        let standing = site.standing(at(millis), TARGET).expect("the model");
        assert!(standing.ahead <= standing.ahead_bound, "{standing:?}");
        to
    };
    assert_eq!(goes(10, 1, &turn(1, 10)), Some(0), "five units: more than keeps it busy");
    assert_eq!(goes(20, 2, &turn(1, 12)), Some(0), "one unit is left to compute, at its holder");
    assert_eq!(goes(30, 3, &turn(2, 12)), Some(1), "six units, wherever there is room");
    assert_eq!(goes(40, 4, &turn(1, 13)), None, "nobody has room, whoever holds what");
}
