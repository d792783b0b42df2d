//! With which gateways names are answered, and by what weight. Names move clients between
//! gateways; sites move per request.
//!
//! A gateway weighs by the credit it has to spare, and nothing while it is silent, doubts itself or
//! cannot reach what its peers can: unless all do. When more than half fall silent at once it is
//! likelier that this gateway is cut off, so the set stays as it was; so it does while this gateway
//! doubts itself. The set is never empty, and has two gateways where there are two.
//!
//! Call `decide` with how every listed gateway stands, this one among them with heard age zero,
//! whenever a digest or a policy changes and once a second; it returns the set when it changed.
//! `part` is what one name is answered with in one region, `turns` the answers given in rotation,
//! `shard` is for names of single tenants. Duplicates and floods are the server's.

use crate::gateway::peers::Standing;
use crate::names::GatewayId;
use crate::rng::mix;
use crate::time::Duration;
use alloc::vec::Vec;

/// Not heard of for longer than this is silent.
const SILENT: Duration = Duration::from_secs(6);
/// Those that fell silent within this fell silent at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Targets of an answer where there are so many.
const LEAST: usize = 2;
/// The weight of the gateway with most to spare; others are shares of it.
const FULL: u64 = 100;
/// The weight of one that is in the set only for lack of better ones.
const FILLER: u32 = 1;
/// Gateways of a tenant's own name, and no more than half of all.
const SHARD: usize = 4;
/// Answers of a rotation, and so many for each gateway where there are many: weights are kept to a
/// part in so many.
const TURNS: (usize, usize) = (64, 4);

/// The set in force.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    set: Vec<(GatewayId, u32)>,
    /// More than half fell silent at once, and have not been heard since.
    frozen: bool,
}

impl Answers {
    /// The set as it was last kept, for a gateway that starts. Peers it has not heard of yet are
    /// silent to it, which says nothing of them: the set stays until half of all were heard.
    pub fn kept(set: Vec<(GatewayId, u32)>) -> Answers {
        Answers { frozen: !set.is_empty(), set }
    }

    /// The set in force; empty only before the first decision.
    pub fn set(&self) -> &[(GatewayId, u32)] {
        &self.set
    }

    /// Decides anew; the set if it changed.
    pub fn decide(&mut self, all: &[Standing], me: GatewayId) -> Option<&[(GatewayId, u32)]> {
        let next = self.next(all, me);
        if next.is_empty() || next == self.set {
            return None;
        }
        self.set = next;
        Some(&self.set)
    }

    fn next(&mut self, all: &[Standing], me: GatewayId) -> Vec<(GatewayId, u32)> {
        let mine = usize::from(me.0);
        let silent = all.iter().filter(|one| is_silent(one)).count();
        let lately = all.iter().filter(|one| is_silent(one) && fell_lately(one)).count();
        let is_most = |count: usize| count * 2 > all.len();
        self.frozen = is_most(silent) && (self.frozen || is_most(lately));
        let is_doubting = all.get(mine).is_some_and(|one| one.in_doubt);
        if self.set.is_empty() || !(self.frozen || is_doubting) {
            return weigh(all);
        }
        let others = || all.iter().enumerate().filter(|(n, _)| *n != mine);
        let is_other_sure = others().any(|(_, one)| !is_silent(one) && !one.in_doubt);
        let mut kept = self.set.clone();
        kept.retain(|(id, _)| usize::from(id.0) < all.len());
        if is_doubting && is_other_sure && kept.len() > 1 {
            kept.retain(|(id, _)| *id != me);
        }
        kept
    }
}

/// All `gateways` alike, for a gateway that starts and has nothing kept.
pub fn alike(gateways: u16) -> Vec<(GatewayId, u32)> {
    (0..gateways).map(|at| (GatewayId(at), FULL as u32)).collect()
}

/// What one name is answered with in one region, out of the `set` in force: those of its
/// `gateways` that `may` answer for it, the `near` ones first. The far ones come in only where
/// fewer than two near ones are well. Empty only if none may.
///
/// The rules are those of the whole set: two where there are two, and who is silent only if all
/// are.
pub fn part(
    set: &[(GatewayId, u32)],
    gateways: u16,
    may: impl Fn(GatewayId) -> bool,
    near: impl Fn(GatewayId) -> bool,
) -> Vec<(GatewayId, u32)> {
    let mut there: Vec<(GatewayId, u32)> = set.to_vec();
    there.retain(|(id, weight)| id.0 < gateways && *weight > 0 && may(*id));
    // Who is in the set for lack of better ones is not well, however near.
    let well = |weight: u32| weight > FILLER;
    let is_near = |one: &(GatewayId, u32)| near(one.0) && well(one.1);
    let mut part = there.clone();
    part.retain(is_near);
    if part.is_empty() {
        part = there;
    } else {
        there.retain(|one| !is_near(one));
        there.sort_by_key(|(id, weight)| (core::cmp::Reverse(*weight), *id));
        let missing = LEAST.saturating_sub(part.len());
        part.extend(there.iter().take(missing).map(|(id, _)| (*id, FILLER)));
    }
    let is_none_well = part.is_empty();
    let rest: Vec<GatewayId> = (0..gateways)
        .map(GatewayId)
        .filter(|id| may(*id) && !part.iter().any(|(other, _)| other == id))
        .collect();
    // Unless all are silent; then none is better than another.
    let missing = if is_none_well { rest.len() } else { LEAST.saturating_sub(part.len()) };
    part.extend(rest.into_iter().take(missing).map(|id| (id, FILLER)));
    part.sort_unstable();
    part
}

/// The answers to give in turn: the gateways of each, at most `LEAST`, the one to try first
/// first. Each gateway comes first in proportion to its weight, spread evenly (smooth weighted
/// round robin, as in nginx), and nobody is named twice in one answer.
pub fn turns(part: &[(GatewayId, u32)]) -> Vec<Vec<GatewayId>> {
    let count = TURNS.0.max(part.len() * TURNS.1);
    let mut wheels: [Vec<i64>; LEAST] = core::array::from_fn(|_| [0].repeat(part.len()));
    let turn = |_| {
        let mut named: Vec<usize> = Vec::new();
        for wheel in &mut wheels {
            named.extend(next_on(wheel, part, &named));
        }
        named.into_iter().map(|at| part[at].0).collect()
    };
    match part {
        [] => Vec::new(),
        [(only, _)] => [[*only].to_vec()].to_vec(),
        _ => (0..count).map(turn).collect(),
    }
}

/// Who comes next on a wheel, among those not named yet.
fn next_on(wheel: &mut [i64], part: &[(GatewayId, u32)], named: &[usize]) -> Option<usize> {
    let free = |at: &usize| !named.contains(at);
    for at in (0..part.len()).filter(free) {
        wheel[at] += i64::from(part[at].1);
    }
    let next = (0..part.len()).filter(free).max_by_key(|at| (wheel[*at], usize::MAX - at))?;
    let whole: i64 = (0..part.len()).filter(free).map(|at| i64::from(part[at].1)).sum();
    wheel[next] -= whole;
    Some(next)
}

/// The gateways of a tenant's own name: few tenants share all of theirs, so one that crashes what
/// it touches leaves others something.
pub fn shard(tenant: u64, gateways: u16) -> Vec<GatewayId> {
    let mut ranked: Vec<GatewayId> = (0..gateways).map(GatewayId).collect();
    ranked.sort_by_key(|id| (mix(tenant, u64::from(id.0)), *id));
    ranked.truncate(SHARD.min(usize::from(gateways) / 2).max(1));
    ranked
}

fn weigh(all: &[Standing]) -> Vec<(GatewayId, u32)> {
    let most = all.iter().map(|one| one.spare.0).max().unwrap_or(0);
    let share = |one: &Standing| match most {
        0 => FULL as u32,
        // Twice the filler's weight at least: who is well comes before who is not.
        _ => (u128::from(one.spare.0) * u128::from(FULL) / u128::from(most)).max(2) as u32,
    };
    let listed = || all.iter().enumerate().map(|(n, one)| (GatewayId(n as u16), one));
    let well = listed().filter(|(_, one)| flaw(one) == 0);
    let mut set: Vec<(GatewayId, u32)> = well.map(|(id, one)| (id, share(one))).collect();
    if set.is_empty() {
        return listed().map(|(id, one)| (id, share(one))).collect();
    }
    let mut rest: Vec<(u8, GatewayId)> = listed().map(|(id, one)| (flaw(one), id)).collect();
    rest.retain(|(flaw, _)| *flaw > 0);
    rest.sort_unstable();
    let missing = LEAST.saturating_sub(set.len());
    set.extend(rest.iter().take(missing).map(|(_, id)| (*id, FILLER)));
    set.sort_unstable();
    set
}

/// What keeps a gateway out, the least first.
fn flaw(one: &Standing) -> u8 {
    match one {
        one if is_silent(one) => 3,
        one if one.in_doubt => 2,
        one if one.path => 1,
        _ => 0,
    }
}

fn is_silent(one: &Standing) -> bool {
    one.heard.is_none_or(|age| age > SILENT)
}

fn fell_lately(one: &Standing) -> bool {
    one.heard.is_some_and(|age| age <= SILENT + AT_ONCE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::CostRate;
    use alloc::vec;

    const ME: GatewayId = GatewayId(0);

    fn well(spare: u64) -> Standing {
        let heard = Some(Duration::from_secs(1));
        Standing { spare: CostRate::whole(spare), heard, in_doubt: false, path: false }
    }

    fn silent() -> Standing {
        Standing { heard: Some(Duration::from_millis(6001)), ..well(10) }
    }

    fn ids(set: &[(GatewayId, u32)]) -> Vec<u16> {
        set.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn gateways_weigh_by_what_they_have_to_spare() {
        let mut answers = Answers::default();
        let set = answers.decide(&[well(50), well(100), well(0)], ME).expect("the first");
        assert_eq!(set, [(ME, 50), (GatewayId(1), 100), (GatewayId(2), 2)]);
        assert_eq!(answers.decide(&[well(50), well(100), well(0)], ME), None, "unchanged");
    }

    #[test]
    fn a_silent_a_doubting_and_a_path_suspecting_gateway_are_left_out_unless_all_are() {
        let doubting = Standing { in_doubt: true, ..well(10) };
        let path = Standing { path: true, ..well(10) };
        let mut answers = Answers::default();
        let all = [well(10), well(10), silent(), doubting, path];
        assert_eq!(ids(answers.decide(&all, ME).expect("a set")), [0, 1]);
        let mut answers = Answers::default();
        assert_eq!(ids(answers.decide(&[path, path, path], ME).expect("a set")), [0, 1, 2]);
    }

    #[test]
    fn two_gateways_are_named_where_there_are_two() {
        let path = Standing { path: true, ..well(10) };
        let mut answers = Answers::default();
        let set = answers.decide(&[well(10), silent(), path], ME).expect("a set");
        assert_eq!(set, [(ME, 100), (GatewayId(2), FILLER)]);
    }

    #[test]
    fn when_more_than_half_fall_silent_at_once_nothing_changes_until_they_are_back() {
        let mut answers = Answers::default();
        answers.decide(&[well(10); 4], ME);
        let cut = [well(10), silent(), silent(), silent()];
        for _ in 0..10 {
            assert_eq!(answers.decide(&cut, ME), None);
        }
        let back = [well(10), silent(), well(10), well(10)];
        assert_eq!(ids(answers.decide(&back, ME).expect("a set")), [0, 2, 3]);
    }

    #[test]
    fn a_gateway_in_doubt_keeps_the_set_and_leaves_itself_out_if_a_peer_is_sure() {
        let doubting = Standing { in_doubt: true, ..well(10) };
        let mut answers = Answers::default();
        answers.decide(&[well(10); 3], ME);
        assert_eq!(answers.decide(&[doubting; 3], ME), None, "all doubt");
        let set = answers.decide(&[doubting, silent(), well(10)], ME).expect("a set");
        assert_eq!(ids(set), [1, 2], "kept but for itself");
    }

    #[test]
    fn no_state_of_four_gateways_makes_the_set_empty() {
        let doubting = Standing { in_doubt: true, ..well(10) };
        let kinds = [well(10), silent(), doubting, Standing { path: true, ..well(0) }];
        let mut answers = Answers::default();
        answers.decide(&[well(10); 4], ME);
        for code in 0..256usize {
            let all: Vec<Standing> = (0..4).map(|n| kinds[code >> (2 * n) & 3]).collect();
            answers.decide(&all, ME);
            assert!(!answers.set().is_empty(), "{code}");
            assert!(answers.set().iter().any(|(_, weight)| *weight > 0));
        }
    }

    #[test]
    fn a_gateway_that_starts_keeps_the_kept_set_until_half_were_heard() {
        let unheard = Standing { heard: None, ..well(0) };
        let mut answers = Answers::kept(alike(4));
        assert_eq!(answers.decide(&[well(10), unheard, unheard, unheard], ME), None);
        let set = answers.decide(&[well(10), well(10), unheard, unheard], ME).expect("half");
        assert_eq!(ids(set), [0, 1]);
    }

    fn named(part: &[(GatewayId, u32)]) -> Vec<(u16, u32)> {
        part.iter().map(|(id, weight)| (id.0, *weight)).collect()
    }

    #[test]
    fn a_region_is_answered_with_its_own_gateways_and_far_ones_only_fill() {
        let set = [(GatewayId(0), 50), (GatewayId(1), 100), (GatewayId(2), 80), (GatewayId(3), 9)];
        let any = |_: GatewayId| true;
        let near = |ids: &'static [u16]| move |id: GatewayId| ids.contains(&id.0);
        assert_eq!(named(&part(&set, 4, any, near(&[0, 3]))), [(0, 50), (3, 9)]);
        assert_eq!(named(&part(&set, 4, any, near(&[0]))), [(0, 50), (1, FILLER)]);
        assert_eq!(part(&set, 4, any, near(&[])), set, "nobody is near: all");
        // Gateway 0 is in the set for lack of better ones, so its being near counts for nothing.
        let lacking = [(GatewayId(0), FILLER), (GatewayId(1), 100)];
        assert_eq!(part(&lacking, 4, any, near(&[0])), lacking);
    }

    #[test]
    fn who_may_not_answer_for_a_name_does_not_and_two_may_where_two_can() {
        let set = [(GatewayId(0), 50), (GatewayId(1), 100)];
        let of = |ids: &'static [u16]| move |id: GatewayId| ids.contains(&id.0);
        assert_eq!(named(&part(&set, 4, of(&[1, 3]), of(&[]))), [(1, 100), (3, FILLER)]);
        assert_eq!(named(&part(&set, 4, of(&[2, 3]), of(&[]))), [(2, FILLER), (3, FILLER)]);
        assert_eq!(named(&part(&set, 4, of(&[2]), of(&[]))), [(2, FILLER)]);
        assert_eq!(part(&set, 4, of(&[]), of(&[])), []);
    }

    #[test]
    fn no_part_of_a_set_is_empty_or_lacks_the_second_while_somebody_may_answer() {
        for code in 0..4u32.pow(4) {
            let weight = |at: u32| [0, FILLER, 2, 100][(code >> (2 * at) & 3) as usize];
            let mut set: Vec<(GatewayId, u32)> =
                (0..4).map(|at| (GatewayId(at as u16), weight(at))).collect();
            set.retain(|(_, weight)| *weight > 0);
            for masks in 0..256u16 {
                let has = |mask: u16| move |id: GatewayId| mask >> id.0 & 1 == 1;
                let (may, near) = (masks & 15, masks >> 4);
                let part = part(&set, 4, has(may), has(near));
                assert!(part.len() >= LEAST.min(may.count_ones() as usize), "{set:?} {masks:08b}");
                assert!(part.iter().all(|(id, weight)| has(may)(*id) && *weight > 0));
            }
        }
    }

    #[test]
    fn a_rotation_names_two_each_time_and_keeps_the_weights() {
        let part = [(GatewayId(0), 50), (GatewayId(1), 100), (GatewayId(2), 10)];
        let turns = turns(&part);
        assert_eq!(turns.len(), TURNS.0);
        assert!(turns.iter().all(|turn| turn.len() == 2 && turn[0] != turn[1]));
        let first = |id| turns.iter().filter(|turn| turn[0] == GatewayId(id)).count();
        assert_eq!([first(0), first(1), first(2)], [20, 40, 4]);
        let second = |id| turns.iter().filter(|turn| turn[1] == GatewayId(id)).count();
        assert!(second(0) > second(2) && second(2) > 0, "{turns:?}");
        assert_eq!(super::turns(&part[..1]), [[GatewayId(0)]]);
        assert_eq!(super::turns(&[]), Vec::<Vec<GatewayId>>::new());
    }

    #[test]
    fn every_one_of_many_equals_comes_first() {
        let part = alike(60);
        let turns = turns(&part);
        for (id, _) in part {
            assert_eq!(turns.iter().filter(|turn| turn[0] == id).count(), TURNS.1);
        }
    }

    #[test]
    fn a_tenants_shard_is_four_or_half_and_shards_differ() {
        assert_eq!(shard(1, 60).len(), 4);
        assert_eq!(shard(1, 6).len(), 3);
        assert_eq!(shard(1, 1), vec![GatewayId(0)]);
        let same = (2..500).filter(|tenant| shard(*tenant, 60) == shard(1, 60)).count();
        assert_eq!(same, 0);
    }
}
