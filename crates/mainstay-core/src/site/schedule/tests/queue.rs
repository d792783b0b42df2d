//! What the queue owes: tiers their floors (K6), tenants like parts, everyone an end.

use super::super::queue::{Lane, Queue, Waiting};
use super::*;

fn waiting(number: u64, (tier, tenant): (u8, u32), cost: u64) -> Waiting {
    let arrived = at(number);
    let key = arrived + Duration::from_micros(500_000 + cost);
    let work = work(number);
    Waiting {
        work,
        tier: TierId(tier),
        tenant,
        arrived,
        key,
        cost,
        latest: key,
        lane: Lane::Normal,
    }
}

fn serve(queue: &mut Queue) -> Waiting {
    let one = queue.next().expect("somebody waits");
    queue.take(one.work);
    queue.served(&one, one.cost);
    one
}

const LARGEST: u64 = 400_000;
/// Work of a round over all tiers, see `QUANTUM` there.
const ROUND: u64 = 50_000;

#[test]
fn over_any_time_a_backlogged_tier_gets_its_floor() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let tier = |floor, weight| TierSettings { floor, weight, ..TierSettings::default() };
        let tiers = alloc::vec![tier(0.2, 64.0), tier(0.1, 16.0), tier(0.3, 4.0), tier(0.05, 1.0)];
        let mut queue = Queue::new(&Settings { tiers: tiers.clone(), ..Settings::default() });
        let mut number = 0;
        let mut put = |queue: &mut Queue, rng: &mut Rng, tier: u8| {
            number += 1;
            queue.put(waiting(number, (tier, rng.below(5) as u32), 1 + rng.below(LARGEST)));
        };
        for tier in 0..4 {
            (0..20).for_each(|_| put(&mut queue, &mut rng, tier));
        }
        let mut served = alloc::vec![[0u64; 4]];
        for _ in 0..2_000 {
            let one = serve(&mut queue);
            put(&mut queue, &mut rng, one.tier.0);
            let mut sums = served[served.len() - 1];
            sums[usize::from(one.tier.0)] += one.cost;
            served.push(sums);
        }
        for _ in 0..2_000 {
            let from = rng.below(served.len() as u64) as usize;
            let to = from + rng.below((served.len() - from) as u64) as usize;
            let got: Vec<u64> = (0..4).map(|at| served[to][at] - served[from][at]).collect();
            let all: u64 = got.iter().sum();
            for (at, tier) in tiers.iter().enumerate() {
                let floor = (tier.floor * all as f64) as u64;
                assert!(got[at] + ROUND + 2 * LARGEST >= floor, "seed {seed}, tier {at}: {got:?}");
            }
        }
    }
}

#[test]
fn what_backlogged_tenants_were_served_differs_by_two_of_the_largest_at_most() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut queue = Queue::new(&Settings::default());
        let mut number = 0;
        // The first sends a hundred times as many, and the least.
        for tenant in 0..6 {
            for _ in 0..if tenant == 0 { 4_000 } else { 400 } {
                number += 1;
                let most = if tenant == 0 { LARGEST / 20 } else { LARGEST };
                queue.put(waiting(number, (0, tenant), 1 + rng.below(most)));
            }
        }
        let (mut served, mut left) = ([0u64; 6], [4_000, 400, 400, 400, 400, 400]);
        while left.iter().all(|left| *left > 0) {
            let one = serve(&mut queue);
            let tenant = one.tenant as usize;
            (served[tenant], left[tenant]) = (served[tenant] + one.cost, left[tenant] - 1);
            let (least, most) = (served.iter().min(), served.iter().max());
            let gap = most.unwrap_or(&0) - least.unwrap_or(&0);
            assert!(gap <= 2 * LARGEST, "seed {seed}: {served:?}");
        }
        assert!(served.iter().sum::<u64>() > 100 * LARGEST);
    }
}

/// Keys never change, and those who come later have later keys: whoever's key has passed is behind
/// nobody who comes from then on, but for tenants that were served less.
#[test]
fn nobody_starves_behind_shorter_ones() {
    for seed in 0..6 {
        let mut rng = Rng::new(seed);
        let mut queue = Queue::new(&Settings::default());
        let long = waiting(1, (0, 0), 60 * LARGEST);
        queue.put(long);
        let (mut number, mut after) = (1, 0u64);
        while queue.get(long.work).is_some() {
            // Twice as many come as are served.
            for _ in 0..2 {
                number += 40;
                queue.put(waiting(number, (0, rng.below(3) as u32), 1 + rng.below(LARGEST / 20)));
            }
            let one = serve(&mut queue);
            after += u64::from(one.arrived > long.key);
            assert!(after < 100, "seed {seed}: passed by {after} that came after its key");
        }
    }
}

#[test]
fn moving_work_waits_for_no_lower_tier_and_its_own_pays_later() {
    let tier = |weight| TierSettings { floor: 0.5, weight, ..TierSettings::default() };
    let tiers = alloc::vec![tier(1.0), tier(1.0)];
    let mut queue = Queue::new(&Settings { tiers, ..Settings::default() });
    for number in 0..40 {
        let lane = if number < 10 { Lane::Moving } else { Lane::Normal };
        queue.put(Waiting { lane, ..waiting(number, (0, 1), LARGEST) });
        queue.put(waiting(100 + number, (1, 1), LARGEST));
    }
    assert_eq!(queue.ahead_of_moving(TierId(0)), 10 * LARGEST);
    let order: Vec<u64> = (0..18).map(|_| serve(&mut queue).work.attempt.request.0).collect();
    let lower = |order: &[u64]| order.iter().filter(|number| **number >= 100).count();
    assert!(order.iter().position(|number| *number == 9) < Some(12), "{order:?}");
    assert!(lower(&order[12..]) >= 5, "what others are owed: {order:?}");
}

#[test]
fn what_goes_after_it_is_not_before_it() {
    let mut queue = Queue::new(&Settings::default());
    (0..10).for_each(|number| queue.put(waiting(number * 1000, (0, number as u32), 100)));
    let ahead = |seconds: u64| queue.ahead((TierId(0), Some(3)), at(seconds * 1000 + 500));
    assert_eq!((ahead(20), ahead(4), ahead(0)), (1000, 500, 100));
    // Of one with much to do others wait for no more than they have.
    (0..50).for_each(|number| queue.put(waiting(number, (0, 99), 100)));
    let before = |tenant| queue.ahead((TierId(0), Some(tenant)), at(30_000));
    assert!(before(50) <= 1000 + 125 && before(99) == 6000, "{} {}", before(50), before(99));
    assert_eq!(queue.cost(), 6000);
}

#[test]
fn debts_of_absent_tenants_are_bounded() {
    let mut queue = Queue::new(&Settings::default());
    for number in 0..20_000u64 {
        queue.put(waiting(number, (0, number as u32), 1 + number % 977));
        serve(&mut queue);
    }
    assert!(queue.remembered() <= 1025, "{}", queue.remembered());
}
