//! Leases of a bounded amount, over a network that loses, delays, doubles and reorders, between
//! clocks that drift: what a site grants its gateways, and what a quota's home grants its users.
//!
//! Four rules, each of them necessary: the holder times its lease from *sending* its report; a
//! grant echoes the report's nonce and counts for that report alone; a granter that took over is
//! silent until every older grant has lapsed; and it remembers each grant longer than the holder
//! may use it, a renewal counting as the largest of those unexpired. `docs/protocol.md` has the
//! checked model, which runs these functions.

use crate::mutant::{Mutant, Mutants};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Reports whose grants are still awaited.
const AWAITED: usize = 5;

/// How long leases last, for both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// What the holder may use a grant for, from sending its report.
    pub lease: Duration,
    /// What the granter waits longer. At least `2 · drift · lease` plus a tenth of a second.
    pub drift: Duration,
    /// Rules taken away, in tests only.
    pub mutants: Mutants,
}

impl Terms {
    /// For credit: two seconds, and two tenths of drift allowance.
    pub const CREDIT: Terms = Terms {
        lease: Duration::from_secs(2),
        drift: Duration::from_millis(200),
        mutants: Mutants::NONE,
    };
    /// For slices of a quota: ten seconds, and one.
    pub const QUOTA: Terms = Terms {
        lease: Duration::from_secs(10),
        drift: Duration::from_secs(1),
        mutants: Mutants::NONE,
    };

    /// How long a granter must count a grant as used.
    pub fn kept(&self) -> Duration {
        if self.mutants.removes(Mutant::RecordWithoutDrift) {
            return self.lease;
        }
        self.lease + self.drift
    }
}

/// The side that uses what is granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder<G> {
    epoch: u32,
    nonce: u64,
    sent: Vec<(u64, Time)>,
    held: Option<Held<G>>,
}

/// A grant in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Held<G> {
    /// The report it answers.
    pub nonce: u64,
    /// Used up to this moment, not at it.
    pub until: Time,
    /// What was granted.
    pub grant: G,
}

impl<G> Default for Holder<G> {
    fn default() -> Holder<G> {
        Holder { epoch: 0, nonce: 0, sent: Vec::new(), held: None }
    }
}

impl<G> Holder<G> {
    /// A holder whose reports are numbered from `nonce` + 1. A process that starts again must not
    /// use a number of its life before: a grant still under way to that life would count for the
    /// new one, long after its granter has forgotten it.
    pub fn starting_after(nonce: u64) -> Holder<G> {
        Holder { nonce, ..Holder::default() }
    }

    /// A report is sent now; the number it must carry.
    pub fn report(&mut self, now: Time) -> u64 {
        self.nonce += 1;
        if self.sent.len() == AWAITED {
            self.sent.remove(0);
        }
        self.sent.push((self.nonce, now));
        self.nonce
    }

    /// A grant came; true if it now counts.
    pub fn grant(&mut self, now: Time, from: (u32, u64), grant: G, terms: &Terms) -> bool {
        let (epoch, nonce) = from;
        let is_unbound = terms.mutants.removes(Mutant::GrantWithoutNonce);
        let sent = self.sent.iter().find(|(n, _)| *n == nonce).map(|(_, at)| *at);
        let Some(sent) = sent.or(is_unbound.then_some(now)) else { return false };
        let is_newer = self.held.as_ref().is_none_or(|held| nonce > held.nonce);
        if now >= sent + terms.lease || epoch < self.epoch || !(is_newer || is_unbound) {
            return false;
        }
        let is_late = terms.mutants.removes(Mutant::LeaseFromReceipt) || is_unbound;
        let until = if is_late { now } else { sent } + terms.lease;
        self.epoch = epoch;
        self.held = Some(Held { nonce, until, grant });
        self.sent.retain(|(n, _)| *n > nonce);
        true
    }

    /// What may be used now.
    pub fn held(&self, now: Time) -> Option<&G> {
        self.held.as_ref().filter(|held| now < held.until).map(|held| &held.grant)
    }

    /// What may be used now, to lower it.
    pub fn held_mut(&mut self, now: Time) -> Option<&mut G> {
        self.held.as_mut().filter(|held| now < held.until).map(|held| &mut held.grant)
    }

    /// When the awaited report with this number was sent.
    pub fn sent(&self, nonce: u64) -> Option<Time> {
        self.sent.iter().find(|(n, _)| *n == nonce).map(|(_, at)| *at)
    }

    /// When it lapses, if something is held.
    pub fn until(&self) -> Option<Time> {
        self.held.as_ref().map(|held| held.until)
    }

    /// The highest epoch that granted.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }
}

/// What is held of `held` after a refusal that asks for no more than `most`: a refusal may lower
/// it, never raise it, for the granter has no record of what it says.
pub fn lower(held: u64, most: u64, terms: &Terms) -> u64 {
    if terms.mutants.removes(Mutant::RefusalRaisesCredit) {
        return most;
    }
    held.min(most)
}

/// The side that owns the amount.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Granter<K: Ord> {
    epoch: u32,
    since: Time,
    /// In the order of holders.
    records: Vec<(K, Vec<(u64, Time)>)>,
}

impl<K: Ord + Copy> Granter<K> {
    /// A granter that begins now, with an epoch above all before it.
    pub fn new(now: Time, epoch: u32) -> Granter<K> {
        Granter { epoch, since: now, records: Vec::new() }
    }

    /// The very first one: nobody granted before it, so it need not be silent.
    pub fn first(epoch: u32) -> Granter<K> {
        Granter { epoch, since: Time::ZERO, records: Vec::new() }
    }

    /// Its epoch.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Whether older grants of others may still be in use, so that none may be made.
    pub fn is_silent(&self, now: Time, terms: &Terms) -> bool {
        if terms.mutants.removes(Mutant::NoSilenceAfterTakeover) || self.since == Time::ZERO {
            return false;
        }
        now < self.since + terms.lease + terms.drift
    }

    /// What `holder` may still be using.
    pub fn used_by(&self, now: Time, holder: K, terms: &Terms) -> u64 {
        let Ok(at) = self.place(&holder) else { return 0 };
        live_of(now, &self.records[at].1, terms)
    }

    /// What all together may still be using.
    pub fn used(&self, now: Time, terms: &Terms) -> u64 {
        self.records.iter().map(|(_, record)| live_of(now, record, terms)).sum()
    }

    /// What may be granted to `holder`, of `amount` in all.
    pub fn room(&self, now: Time, holder: K, amount: u64, terms: &Terms) -> u64 {
        if self.is_silent(now, terms) {
            return 0;
        }
        let others = self.used(now, terms) - self.used_by(now, holder, terms);
        amount.saturating_sub(others)
    }

    /// Remembers that `amount` was granted now. The caller has looked for room.
    pub fn record(&mut self, now: Time, holder: K, amount: u64, terms: &Terms) {
        let expires = now + terms.kept();
        let at = self.place(&holder).unwrap_or_else(|at| {
            self.records.insert(at, (holder, Vec::new()));
            at
        });
        let record = &mut self.records[at].1;
        record.retain(|(_, expires)| now < *expires);
        // Of two grants the smaller and older one can never count again.
        if !terms.mutants.removes(Mutant::RecordIsLastGrant) {
            record.retain(|(before, _)| *before > amount);
        }
        record.push((amount, expires));
    }

    /// Forgets holders of whom nothing is left.
    pub fn tidy(&mut self, now: Time) {
        self.records.retain(|(_, record)| record.iter().any(|(_, expires)| now < *expires));
    }

    fn place(&self, holder: &K) -> Result<usize, usize> {
        self.records.binary_search_by_key(holder, |(known, _)| *known)
    }
}

/// What of a holder's grants counts now.
fn live_of(now: Time, record: &[(u64, Time)], terms: &Terms) -> u64 {
    let mut live = record.iter().filter(|(_, expires)| now < *expires).map(|(n, _)| *n);
    if terms.mutants.removes(Mutant::RecordIsLastGrant) {
        return live.next_back().unwrap_or(0);
    }
    live.max().unwrap_or(0)
}

/// For the model checker: two states that differ only in when they were reached are one.
#[cfg(feature = "mutants")]
impl<G: Default> Holder<G> {
    /// The same holder with `now` moved to `base`; what has lapsed is gone.
    pub fn moved(mut self, now: Time, base: Time, terms: &Terms) -> Holder<G> {
        self.sent.retain(|(_, sent)| now < *sent + terms.lease);
        for (_, sent) in &mut self.sent {
            *sent = base - now.since(*sent);
        }
        if let Some(held) = &mut self.held {
            held.until = base + held.until.since(now);
            if held.until == base {
                held.grant = G::default();
            }
        }
        self
    }
}

#[cfg(feature = "mutants")]
impl<K: Ord + Copy> Granter<K> {
    /// The same granter with `now` moved to `base`; what has lapsed is gone.
    pub fn moved(mut self, now: Time, base: Time, terms: &Terms) -> Granter<K> {
        let is_silent = now < self.since + terms.lease + terms.drift;
        self.since = if is_silent { base - now.since(self.since) } else { Time::ZERO };
        for (_, record) in &mut self.records {
            record.retain(|(_, expires)| now < *expires);
            for (_, expires) in record {
                *expires = base + expires.since(now);
            }
        }
        self.tidy(base);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms::CREDIT;

    fn at(millis: u64) -> Time {
        Time::from_micros(1_000_000_000 + millis * 1000)
    }

    #[test]
    fn a_lease_runs_from_the_report_and_a_grant_counts_once() {
        let mut holder = Holder::default();
        let nonce = holder.report(at(0));
        assert!(holder.grant(at(900), (1, nonce), 7u64, &TERMS));
        assert!(!holder.grant(at(950), (1, nonce), 9, &TERMS), "the nonce is used");
        assert_eq!(holder.held(at(1999)), Some(&7));
        assert_eq!(holder.held(at(2000)), None);
    }

    #[test]
    fn a_grant_that_took_longer_than_the_lease_or_is_of_an_older_epoch_is_dropped() {
        let mut holder = Holder::default();
        let (first, second) = (holder.report(at(0)), holder.report(at(500)));
        assert!(!holder.grant(at(2000), (1, first), 1u64, &TERMS));
        assert!(holder.grant(at(2100), (3, second), 2, &TERMS));
        let third = holder.report(at(2200));
        assert!(!holder.grant(at(2300), (2, third), 3, &TERMS), "an older controller");
    }

    #[test]
    fn what_was_granted_counts_until_no_clock_can_still_use_it() {
        let mut granter = Granter::first(1);
        granter.record(at(0), 1, 60, &TERMS);
        assert_eq!(granter.room(at(100), 2, 100, &TERMS), 40);
        granter.record(at(100), 1, 10, &TERMS);
        assert_eq!(granter.room(at(2199), 2, 100, &TERMS), 40, "the larger one still counts");
        assert_eq!(granter.room(at(2200), 2, 100, &TERMS), 90);
        granter.tidy(at(9000));
        assert_eq!(granter.used(at(9000), &TERMS), 0);
    }

    #[test]
    fn a_grant_to_a_life_before_does_not_count_for_this_one() {
        let mut before = Holder::<u64>::starting_after(0);
        let nonce = before.report(at(0));
        let mut after = Holder::starting_after(1 << 32);
        after.report(at(5000));
        assert!(!after.grant(at(5100), (1, nonce), 7, &TERMS));
    }

    #[test]
    fn a_refusal_lowers_what_is_held_and_never_raises_it() {
        assert_eq!(lower(7, 3, &TERMS), 3);
        assert_eq!(lower(3, 7, &TERMS), 3);
    }

    #[test]
    fn who_takes_over_is_silent_until_older_grants_have_lapsed() {
        let granter: Granter<u8> = Granter::new(at(0), 2);
        assert_eq!(granter.room(at(2199), 1, 100, &TERMS), 0);
        assert_eq!(granter.room(at(2200), 1, 100, &TERMS), 100);
    }
}
