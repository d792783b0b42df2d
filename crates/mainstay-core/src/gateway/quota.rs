//! Quotas of keys, shared out between gateways without asking at each request.
//!
//! A key's *home* is one of the gateways that the policy lists, alive or not. It leases slices of
//! the quota for ten seconds by the rules of `lease`, in proportion to demand, for keys in use
//! only. A gateway that cannot reach the home spends its slice, then its part of a tenth of the
//! quota. Where the policy moves a home, the new one grants nothing until the old one has said that
//! it runs the new generation, and until what that granted has lapsed; until then all borrow at the
//! old one. Alone, a gateway is every key's home and exact.
//!
//! A quota is of one of two kinds. What flows, such as requests or tokens in a minute, has a bucket
//! that fills at the rate of the slice. What is held, such as running requests, has a number: the
//! slice says how many may run here, and one always may, since a whole one cannot be divided.
//!
//! Call `look` and `take` for each request after its key's quota is known (or `admit`, which is
//! both), `hold` and `let_go` for what is held, `reports` at `deadline`, `report` and `granted` for
//! what comes from other gateways, `adopt` when another generation is in force. `moved` answers
//! whether a gateway has said in a digest that it runs the present generation (or is known to be
//! gone for good).

use crate::cost::{CostRate, CostUnits};
use crate::lease::{Granter, Holder, Terms};
use crate::message::{QuotaGrant, QuotaReport};
use crate::mutant::Mutant;
use crate::names::GatewayId;
use crate::rng::mix;
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Between two reports of a key in use: so many in a lease, which may lose two of them.
const REPORTS: u32 = 4;
/// Keys in use at one gateway, and keys of which it is home and that are in use. Beyond, the
/// one unused for longest makes room here; a home takes no more, since what it granted counts.
/// A caller's key has up to four quotas, and its tenant as many.
const KEYS: usize = 4096;
/// Reports of keys that begin to be used are made together: each look goes through all keys.
const TOGETHER: Duration = Duration::from_millis(50);
/// Without a slice: this share of the quota, in hundredths, divided among all gateways.
const FLOOR: u32 = 10;
/// A slice is not lowered to more than this share of it, in hundredths. Of requests that come by
/// chance, 16 gateways see 150 in a report each, give or take a twelfth.
const KEPT: u32 = 75;
/// Listings remembered: more changes than this are not under way at once.
const LISTINGS: usize = 3;
/// A gateway that is not listed any more had been taken out of use by the generation before. After
/// this its keys do not wait for its word: it is likely gone.
const GONE: Duration = Duration::from_secs(60);
/// A gateway may spend this part of a lease at once. All gateways together so spend half a lease
/// at most, which leaves the other half of the allowance for requests larger than what is left.
const BURST: u32 = 2;

/// The home of a key among so many gateways: rendezvous hashing moves as few keys as can be when
/// the list changes.
pub fn home(key: u64, gateways: u16) -> GatewayId {
    let ids = (0..gateways.max(1)).map(GatewayId);
    ids.max_by_key(|id| (mix(key, u64::from(id.0)), *id)).unwrap_or_default()
}

/// Which gateways the policy lists, and in which generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The generation.
    pub generation: u32,
    /// So many gateways.
    pub gateways: u16,
}

/// Whether a request may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the quota.
    Within,
    /// Not before so long: the exact time until enough has come in.
    Beyond(Duration),
}

/// Both sides of all quotas at one gateway.
#[derive(Clone, Debug)]
pub struct Quota {
    me: GatewayId,
    terms: Terms,
    listing: Listing,
    /// Listings that some gateway may still go by, the newest last.
    before: Vec<Listing>,
    /// When this one came into force here, and since when every gateway goes by it.
    adopted: Time,
    settled: Option<Time>,
    since: Time,
    used: BTreeMap<u64, Borrower>,
    homes: BTreeMap<u64, Home>,
    next: Option<Time>,
    looked: Time,
}

/// One key at the gateway that uses it: a bucket filled at the rate of its slice.
#[derive(Clone, Debug)]
struct Borrower {
    quota: CostRate,
    holder: Holder<CostRate>,
    /// Added to the holder's numbers on the wire: a late answer to an earlier use of the key, which
    /// was forgotten since, must not count for this one.
    base: u64,
    /// Thousandths of a cost unit; below nothing after a request larger than what was left.
    level: i64,
    /// Millionths of that, which are not lost however often is looked.
    rest: u64,
    filled: Time,
    /// Of what is held, so many.
    held: Option<u64>,
    /// How much of its rate it may spend at once.
    burst: Duration,
    asked: CostUnits,
    reported: Time,
    last_used: Time,
}

/// One key at its home.
#[derive(Clone, Debug)]
struct Home {
    quota: CostRate,
    granter: Granter<GatewayId>,
    demand: BTreeMap<GatewayId, Wanted>,
    heard: Time,
}

/// What a gateway wanted of a key, when, and what it was granted then.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    demand: CostRate,
    at: Time,
    slice: CostRate,
}

impl Quota {
    /// A gateway that starts now. It may have granted before it crashed, and so is silent first.
    pub fn new(now: Time, me: GatewayId, listing: Listing, terms: Terms) -> Quota {
        Quota {
            me,
            terms,
            listing,
            before: Vec::new(),
            adopted: now,
            settled: None,
            since: now,
            used: BTreeMap::new(),
            homes: BTreeMap::new(),
            next: None,
            looked: Time::ZERO,
        }
    }

    /// Another generation of policy is in force here.
    pub fn adopt(&mut self, now: Time, listing: Listing) {
        if listing.gateways != self.listing.gateways {
            if self.before.len() == LISTINGS {
                self.before.remove(0);
            }
            self.before.push(self.listing);
            // Granters of keys that stay are kept: what they granted still counts.
            let me = self.me;
            self.homes.retain(|key, _| home(*key, listing.gateways) == me);
        }
        self.listing = listing;
        self.adopted = now;
        self.settled = None;
        self.next = self.next.map(|next| next.min(now));
    }

    /// A request of a key with this quota wants to go on.
    pub fn admit(&mut self, now: Time, key: u64, cost: CostUnits, quota: CostRate) -> Verdict {
        let said = self.look(now, key, cost, quota);
        if said == Verdict::Within {
            self.take(now, key, whole(cost));
        }
        said
    }

    /// The same, and nothing is taken yet. What is wanted counts as demand either way.
    pub fn look(&mut self, now: Time, key: u64, cost: CostUnits, quota: CostRate) -> Verdict {
        let rate = self.rate_of(now, key, quota);
        let Some(borrower) = self.used.get_mut(&key) else { return Verdict::Within };
        borrower.asked += cost;
        borrower.last_used = now;
        borrower.fill(now, rate);
        if borrower.level > 0 {
            return Verdict::Within;
        }
        let missing = u128::from(borrower.level.unsigned_abs()) + 1;
        if rate == CostRate::ZERO {
            return Verdict::Beyond(self.terms.lease / REPORTS);
        }
        // To the microsecond in which it has come in, less what is there of the next thousandth.
        let missing = (missing * 1_000_000).saturating_sub(u128::from(borrower.rest));
        let micros = missing.div_ceil(u128::from(rate.0));
        Verdict::Beyond(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    /// Takes so much, in thousandths, or gives so much back where it is less than nothing. Of a key
    /// that was not used for long nothing is known any more, and nothing is taken.
    pub fn take(&mut self, now: Time, key: u64, cost: i64) {
        let rate = self.rate_of_known(now, key);
        let Some(borrower) = self.used.get_mut(&key) else { return };
        borrower.fill(now, rate);
        let most = borrower.most(rate).max(borrower.level);
        borrower.level = borrower.level.saturating_sub(cost).min(most);
    }

    /// One more is to be held, of at most so many; false if that is too many here.
    pub fn hold(&mut self, now: Time, key: u64, most: u64) -> bool {
        let share = self.rate_of(now, key, CostRate::whole(most));
        let Some(borrower) = self.used.get_mut(&key) else { return true };
        let held = *borrower.held.get_or_insert(0);
        borrower.last_used = now;
        borrower.asked = borrower.asked.max(CostUnits::whole(held + 1));
        let is_within = held < share.0.div_ceil(CostRate::whole(1).0).max(1);
        if is_within {
            borrower.held = Some(held + 1);
        }
        is_within
    }

    /// One less is held.
    pub fn let_go(&mut self, key: u64) {
        let held = self.used.get_mut(&key).and_then(|borrower| borrower.held.as_mut());
        held.into_iter().for_each(|held| *held = held.saturating_sub(1));
    }

    /// What is left of a key's bucket here, how much it can hold, and at which rate it fills.
    pub fn left(&mut self, now: Time, key: u64) -> Option<(i64, CostUnits, CostRate)> {
        let rate = self.rate_of_known(now, key);
        let borrower = self.used.get_mut(&key)?;
        borrower.fill(now, rate);
        Some((borrower.level, rate.over(borrower.burst), rate))
    }

    /// The reports that are due, and to whom. Of keys whose home is here, none: they are granted
    /// at once.
    pub fn reports(
        &mut self,
        now: Time,
        moved: &dyn Fn(GatewayId) -> bool,
    ) -> Vec<(GatewayId, QuotaReport)> {
        let lease = self.terms.lease;
        let every = lease / REPORTS;
        let gateways = self.listing.gateways;
        self.used
            .retain(|_, one| now.since(one.last_used) < lease || one.is_in_debt(now, gateways));
        // Twice the lease: whatever such a home granted has lapsed.
        self.homes.retain(|_, one| now.since(one.heard) < lease * 2);
        self.settle(now, moved);
        let mut out = Vec::new();
        self.next = None;
        self.looked = now;
        if gateways <= 1 {
            return out;
        }
        let keys: Vec<u64> = self.used.keys().copied().collect();
        for key in keys {
            let to = self.home_now(now, key, moved);
            let Some(one) = self.used.get_mut(&key) else { continue };
            if now < one.reported + every && one.reported != Time::ZERO {
                continue;
            }
            let report = one.report(now, key, every);
            if to != self.me {
                out.push((to, report));
                continue;
            }
            let quota = one.quota;
            if let Some(grant) = self.report(now, (to, report), quota, moved) {
                self.granted(now, grant);
            }
        }
        let next = self.used.values().map(|one| one.reported + every).min();
        self.next = next.map(|next| next.max(now + TOGETHER));
        out
    }

    /// A gateway reports a key with this quota; the answer, if this is the key's home and may
    /// grant.
    pub fn report(
        &mut self,
        now: Time,
        (from, report): (GatewayId, QuotaReport),
        quota: CostRate,
        moved: &dyn Fn(GatewayId) -> bool,
    ) -> Option<QuotaGrant> {
        let key = report.key;
        if home(key, self.listing.gateways) != self.me {
            return None;
        }
        if !self.homes.contains_key(&key) {
            let granter = self.granter(now, key, moved)?;
            if self.homes.len() >= KEYS {
                return None;
            }
            let home = Home { quota, granter, demand: BTreeMap::new(), heard: now };
            self.homes.insert(key, home);
        }
        let (terms, gateways) = (self.terms, self.listing.gateways);
        let home = self.homes.get_mut(&key)?;
        home.quota = quota;
        home.heard = now;
        home.demand.retain(|_, wanted| now.since(wanted.at) < terms.lease);
        let wanted = home.demand.entry(from).or_default();
        (wanted.demand, wanted.at) = (report.demand, now);
        if home.granter.is_silent(now, &terms) {
            return None;
        }
        let rate = home.slice(now, from, (gateways, &terms));
        home.granter.record(now, from, rate.0, &terms);
        home.demand.entry(from).or_default().slice = rate;
        home.granter.tidy(now);
        Some(QuotaGrant { key, epoch: home.granter.epoch(), nonce: report.nonce, rate })
    }

    /// A home answered.
    pub fn granted(&mut self, now: Time, grant: QuotaGrant) {
        let terms = self.terms;
        let rate = self.rate_of_known(now, grant.key);
        if let Some(one) = self.used.get_mut(&grant.key) {
            // What came in until now came in at the rate before.
            one.fill(now, rate);
            let nonce = grant.nonce.wrapping_sub(one.base);
            one.holder.grant(now, (grant.epoch, nonce), grant.rate, &terms);
        }
    }

    /// When `reports` must be called.
    pub fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// Keys in use here, and keys whose home is here.
    pub fn keys(&self) -> (usize, usize) {
        (self.used.len(), self.homes.len())
    }

    fn rate_of(&mut self, now: Time, key: u64, quota: CostRate) -> CostRate {
        if !self.used.contains_key(&key) {
            self.make_room(now);
            let burst = self.terms.lease / BURST;
            let level = whole(bare(quota, self.listing.gateways).over(burst));
            let one = Borrower {
                quota,
                holder: Holder::default(),
                base: mix(now.as_micros(), key),
                level,
                rest: 0,
                filled: now,
                held: None,
                burst,
                asked: CostUnits::ZERO,
                reported: Time::ZERO,
                last_used: now,
            };
            self.used.insert(key, one);
            let soon = now.max(self.looked + TOGETHER);
            self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        }
        if let Some(one) = self.used.get_mut(&key) {
            one.quota = quota;
        }
        self.rate_of_known(now, key)
    }

    fn rate_of_known(&self, now: Time, key: u64) -> CostRate {
        let Some(one) = self.used.get(&key) else { return CostRate::ZERO };
        let slice = one.holder.held(now).copied();
        slice.unwrap_or(bare(one.quota, self.listing.gateways))
    }

    /// Where to borrow now.
    fn home_now(&self, now: Time, key: u64, moved: &dyn Fn(GatewayId) -> bool) -> GatewayId {
        let next = home(key, self.listing.gateways);
        self.waits_for(now, key, moved).unwrap_or(next)
    }

    /// A gateway that was the key's home and may still grant.
    fn waits_for(
        &self,
        now: Time,
        key: u64,
        moved: &dyn Fn(GatewayId) -> bool,
    ) -> Option<GatewayId> {
        if self.terms.mutants.removes(Mutant::NewHomeGrants) {
            return None;
        }
        let next = home(key, self.listing.gateways);
        let old = self.before.iter().rev().map(|before| home(key, before.gateways));
        old.filter(|old| *old != next).find(|old| !self.has_moved(now, *old, moved))
    }

    fn has_moved(&self, now: Time, gateway: GatewayId, moved: &dyn Fn(GatewayId) -> bool) -> bool {
        let is_gone = gateway.0 >= self.listing.gateways && now.since(self.adopted) >= GONE;
        gateway == self.me || is_gone || moved(gateway)
    }

    /// Forgets older listings when nobody goes by them and what they granted has lapsed.
    fn settle(&mut self, now: Time, moved: &dyn Fn(GatewayId) -> bool) {
        let Some(most) = self.before.iter().map(|before| before.gateways).max() else { return };
        if !(0..most).map(GatewayId).all(|id| self.has_moved(now, id, moved)) {
            self.settled = None;
            return;
        }
        let settled = *self.settled.get_or_insert(now);
        if now.since(settled) >= self.terms.lease + self.terms.drift {
            self.before.clear();
        }
    }

    /// A granter for a key that has none here; `None` while the home before may still grant.
    fn granter(
        &self,
        now: Time,
        key: u64,
        moved: &dyn Fn(GatewayId) -> bool,
    ) -> Option<Granter<GatewayId>> {
        let epoch = self.listing.generation;
        if self.terms.mutants.removes(Mutant::NewHomeGrants) {
            return Some(Granter::first(epoch));
        }
        if self.waits_for(now, key, moved).is_some() {
            return None;
        }
        let is_old = |before: &Listing| home(key, before.gateways) == self.me;
        if self.before.iter().all(is_old) {
            return Some(Granter::new(self.since, epoch));
        }
        // What another granted before it moved on is in use for a lease from now at most.
        Some(Granter::new(now, epoch))
    }

    fn make_room(&mut self, now: Time) {
        if self.used.len() < KEYS {
            return;
        }
        let lease = self.terms.lease;
        self.used.retain(|_, one| now.since(one.last_used) < lease);
        let oldest = self.used.iter().min_by_key(|(_, one)| (one.is_held(), one.last_used));
        let oldest = oldest.map(|(key, _)| *key);
        if let Some(key) = oldest.filter(|_| self.used.len() >= KEYS) {
            self.used.remove(&key);
        }
    }
}

impl Borrower {
    /// Lets in what came since the last time, at this rate. What a larger slice left is cut.
    fn fill(&mut self, now: Time, rate: CostRate) {
        let micros = now.since(self.filled).as_micros();
        let came = u128::from(rate.0) * micros + u128::from(self.rest);
        self.rest = u64::try_from(came % 1_000_000).unwrap_or(0);
        let came = i64::try_from(came / 1_000_000).unwrap_or(i64::MAX);
        self.filled = now;
        self.level = self.level.saturating_add(came).min(self.most(rate));
    }

    fn most(&self, rate: CostRate) -> i64 {
        whole(rate.over(self.burst))
    }

    fn is_held(&self) -> bool {
        self.held.is_some_and(|held| held > 0)
    }

    /// Whether something is held, or a request larger than what was left still being paid for.
    fn is_in_debt(&mut self, now: Time, gateways: u16) -> bool {
        self.fill(now, bare(self.quota, gateways));
        self.level < 0 || self.is_held()
    }

    fn report(&mut self, now: Time, key: u64, every: Duration) -> QuotaReport {
        let over = now.since(self.reported).clamp(every / 10, every * 2).as_micros();
        let demand = u128::from(self.asked.0) * 1_000_000 / over;
        let demand = CostRate(u64::try_from(demand).unwrap_or(u64::MAX));
        self.reported = now;
        // What is held is wanted further on, and is no rate.
        let demand = self.held.map_or(demand, |_| CostRate(self.asked.0));
        self.asked = CostUnits::whole(self.held.unwrap_or(0));
        let nonce = self.base.wrapping_add(self.holder.report(now));
        QuotaReport { key, nonce, demand }
    }
}

impl Home {
    /// By demand and half again; half of what nobody wants is handed out too, for bursts, and the
    /// rest stays for a gateway that begins to use the key. A slice that is hardly too large stays
    /// as it is: what is given back counts as used for a lease, and demand that comes by chance
    /// would have much of the quota lie between gateways always.
    fn slice(&self, now: Time, of: GatewayId, (gateways, terms): (u16, &Terms)) -> CostRate {
        let least = CostRate(self.quota.0 / (2 * u64::from(gateways.max(1))));
        let want = |demand: CostRate| demand.percent(150).max(least);
        let all: CostRate = self.demand.values().map(|wanted| want(wanted.demand)).sum();
        let of_mine = self.demand.get(&of).copied().unwrap_or_default();
        let mine = want(of_mine.demand);
        let slice = match all > self.quota {
            true => self.quota.share(mine, all),
            false => mine + self.quota.less(all).percent(50).share(mine, all),
        };
        let kept = of_mine.slice;
        let slice = if slice >= kept.percent(KEPT) { slice.max(kept) } else { slice };
        slice.min(CostRate(self.granter.room(now, of, self.quota.0, terms)))
    }
}

/// What may be used without a slice: alone, everything.
fn bare(quota: CostRate, gateways: u16) -> CostRate {
    match gateways {
        0 | 1 => quota,
        all => CostRate(quota.percent(FLOOR).0 / u64::from(all)),
    }
}

fn whole(amount: CostUnits) -> i64 {
    i64::try_from(amount.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
