//! The credit this gateway holds at one site of ours for one model, and what it asks of it.
//!
//! Whoever owns the capacity hands it out: a grant is a rate for each tier and a standby for any,
//! good for two seconds from the report it answers. Each level fills at its rate, half a second
//! deep, and may be overdrawn by its last request. Without credit an attempt may still be sent,
//! unpaid, and the site decides.

use crate::cost::{CostRate, CostUnits};
use crate::drift::{Drift, Level};
use crate::lease::{Holder, Terms, lower};
use crate::message::{Grant, Offer, PerTier, Refuse, Report, TIERS_MAX};
use crate::mutant::Mutant;
use crate::names::TargetId;
use crate::time::{Duration, Time};

/// What a level may hold: so much of its rate.
const DEPTH: Duration = Duration::from_millis(500);
/// After a refusal nothing unpaid is sent there for this long: the site's room does not come back
/// sooner than its next report of it.
const BARRED: Duration = Duration::from_millis(250);
/// A site that says it cannot honour what is held gets this much less of it, in hundredths, until
/// its next grant says how much it is.
const CUT: u32 = 50;
/// Levels are counted in thousandths of a cost unit times microseconds, so that none of a small
/// rate is lost however often they are filled.
const FINE: i64 = 1_000_000;
/// The end of a burst is believed at once where so much was to be expected since the last report:
/// of sixteen requests, a quarter comes by chance once in two thousand times.
const OVER_MIN: CostUnits = CostUnits::whole(16);
/// A grant of less than this share of what was asked for, in hundredths, says that the site is
/// full.
const SATISFIED: u64 = 98;
/// Round trips are averaged over so many.
const SRTT: u32 = 8;
/// Between two sites of one continent; until it is measured.
const SRTT_UNKNOWN: Duration = Duration::from_millis(100);

/// What is held.
#[derive(Clone, Debug, Default)]
pub struct Held {
    holder: Holder<Grant>,
    latest: Option<Grant>,
    levels: PerTier<i64>,
    standby: i64,
    filled: Time,
    barred: PerTier<Time>,
    placed: PerTier<CostUnits>,
    demand: PerTier<CostRate>,
    reported: Option<Time>,
    /// When the first report was sent: since then the reports count their time.
    began: Option<Time>,
    is_full: bool,
    /// By tier: the last grant was less than was asked for.
    is_short: PerTier<bool>,
    lapse_told: bool,
    srtt: Option<Duration>,
    ttft: Duration,
    drift: Drift,
}

/// Where a payment is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purse {
    Tier(usize),
    Standby,
}

/// What a grant changed that an operator would ask about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Whether the site's clock was found to be off, or right again.
    pub drift: Option<bool>,
    /// Credit is held again after it had lapsed.
    pub is_back: bool,
}

impl Held {
    /// Nothing held; reports are numbered from `nonce` + 1, see `Holder::starting_after`.
    pub fn starting_after(nonce: u64) -> Held {
        Held { holder: Holder::starting_after(nonce), ..Held::default() }
    }

    /// Whether an attempt of this tier can be paid for.
    pub fn has_credit(&mut self, now: Time, tier: usize) -> bool {
        self.purse(now, tier).is_some()
    }

    /// Pays for an attempt: from its tier, else from lower tiers, the lowest first, else from
    /// the standby. False where there is nothing.
    pub fn spend(&mut self, now: Time, cost: CostUnits, tier: usize) -> bool {
        let Some(purse) = self.purse(now, tier) else { return false };
        let level = match purse {
            Purse::Tier(of) => &mut self.levels[of],
            Purse::Standby => &mut self.standby,
        };
        *level -= fine(cost);
        true
    }

    /// A request of this tier is wanted here.
    pub fn wanted(&mut self, cost: CostUnits, tier: usize) {
        self.placed[tier] += cost;
    }

    /// What is wanted here by all tiers.
    pub fn demand(&self) -> &PerTier<CostRate> {
        &self.demand
    }

    /// Takes the demand since the last report into account.
    pub fn measure(&mut self, now: Time) {
        let elapsed = self.reported.map_or(DEPTH, |at| now.since(at)).max(DEPTH / 10);
        let micros = elapsed.as_micros() as u64;
        // Of one tier, more than all of the site is never given: asking for it says nothing, and
        // would outlast a burst.
        let most = match self.capacity() {
            CostRate::ZERO => u64::MAX,
            all => all.0,
        };
        let wanted = |cost: CostUnits| (cost.0.saturating_mul(1_000_000) / micros).min(most);
        let raw = self.placed.map(|cost| CostRate(wanted(cost)));
        self.placed = Default::default();
        let (sum, before): (CostRate, CostRate) = (all(&raw), all(&self.demand));
        // A step is believed at once; below it, half a second of a few requests is mostly chance.
        let is_step = sum.0 > before.0.saturating_mul(2);
        let is_over = is_over(before, sum, elapsed);
        for (known, raw) in self.demand.iter_mut().zip(raw) {
            let mean = CostRate((known.0 + raw.0) / 2);
            *known = match (is_step, is_over) {
                (true, _) => raw.max(*known),
                (_, true) => raw,
                _ => mean,
            };
        }
    }

    /// The report that is sent now.
    pub fn report(
        &mut self,
        now: Time,
        target: TargetId,
        total: PerTier<CostRate>,
        in_flight: u32,
    ) -> Report {
        let elapsed = now.since(*self.began.get_or_insert(now));
        self.reported = Some(now);
        let nonce = self.holder.report(now);
        Report { target, nonce, demand: self.demand, total, in_flight, elapsed }
    }

    /// When the last report was sent.
    pub fn reported(&self) -> Option<Time> {
        self.reported
    }

    /// A grant came. `cap` is the operator's bound on what may be used of the site, in
    /// hundredths.
    pub fn grant(&mut self, now: Time, mut grant: Grant, cap: u8, terms: &Terms) -> News {
        self.fill(now);
        let sent = self.holder.sent(grant.nonce);
        let was_live = self.holder.held(now).is_some();
        if cap < 100 {
            grant.rate = grant.rate.map(|rate| rate.percent(u32::from(cap)));
            grant.standby = CostRate::ZERO;
        }
        if !self.holder.grant(now, (grant.epoch, grant.nonce), grant, terms) {
            return News::default();
        }
        let mut news = News::default();
        if let Some(sent) = sent {
            self.round_trip(now.since(sent));
        }
        if !terms.mutants.removes(Mutant::DriftUnwatched) {
            news.drift = self.drifted(now, grant.elapsed);
        }
        if !was_live {
            self.levels = self.levels.map(|level| level.min(0));
            self.standby = self.standby.min(0);
        }
        let given = all(&grant.rate);
        let asked = all(&self.demand);
        let short = |tier: usize| grant.rate[tier].0 * 100 < self.demand[tier].0 * SATISFIED;
        self.is_short = core::array::from_fn(short);
        self.is_full = given != CostRate::ZERO && given.0 * 100 < asked.0 * SATISFIED;
        news.is_back = core::mem::take(&mut self.lapse_told);
        self.ttft = grant.ttft;
        self.latest = Some(grant);
        news
    }

    /// What the site says of its clock; whether it is off, if that changed.
    fn drifted(&mut self, now: Time, elapsed: Duration) -> Option<bool> {
        let was_off = self.is_off();
        self.drift.heard(now, elapsed);
        (self.is_off() != was_off).then_some(!was_off)
    }

    /// Whether the site's clock runs too far from ours for leases.
    fn is_off(&self) -> bool {
        self.drift.level() == Level::NoCredit
    }

    /// Whether the site gave less than was asked for.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether credit lapsed and nobody was told yet.
    pub fn lapsed(&mut self, now: Time) -> bool {
        let is_lapsed = self.latest.is_some() && self.holder.held(now).is_none();
        is_lapsed && !core::mem::replace(&mut self.lapse_told, true)
    }

    /// A site refused an attempt of this tier.
    pub fn refused(&mut self, now: Time, tier: usize, refuse: &Refuse, terms: &Terms) {
        self.fill(now);
        for barred in &mut self.barred[tier..] {
            *barred = (*barred).max(now + BARRED);
        }
        let raises = terms.mutants.removes(Mutant::RefusalRaisesCredit);
        let Some(grant) = self.holder.held_mut(now).filter(|_| refuse.cut) else { return };
        let share = if raises { 100 + CUT } else { CUT };
        let lowered = |held: CostRate, most: CostRate| CostRate(lower(held.0, most.0, terms));
        for rate in &mut grant.rate[tier..] {
            *rate = lowered(*rate, rate.percent(share));
        }
        grant.standby =
            lowered(grant.standby, grant.standby.percent(if raises { share } else { 0 }));
        if raises {
            return;
        }
        for level in &mut self.levels[tier..] {
            *level = (*level).min(0);
        }
        self.standby = self.standby.min(0);
    }

    /// Whether an unpaid attempt of this tier may be sent.
    pub fn may_speculate(&self, now: Time, tier: usize) -> bool {
        now >= self.barred[tier] && self.offer() == Offer::Open
    }

    /// What the site last said of itself.
    pub fn offer(&self) -> Offer {
        self.latest.as_ref().map_or(Offer::Open, |grant| grant.offer)
    }

    /// What the site last said.
    pub fn latest(&self) -> Option<&Grant> {
        self.latest.as_ref()
    }

    /// What is held now, if anything: all tiers, and the standby.
    pub fn rates(&self, now: Time) -> Option<(CostRate, CostRate)> {
        if self.is_off() {
            return None;
        }
        self.holder.held(now).map(|grant| (all(&grant.rate), grant.standby))
    }

    /// Share of what is held that is in use, in hundredths; 100 where nothing is held.
    pub fn used(&self, now: Time) -> u64 {
        let held = self.rates(now).map_or(0, |(rates, _)| rates.0);
        (all(&self.demand).0 * 100).checked_div(held).unwrap_or(100)
    }

    /// Whether credit of this very tier lies unused: for half a second nobody spent any.
    pub fn has_unused(&mut self, now: Time, tier: usize) -> bool {
        self.fill(now);
        let Some(grant) = self.holder.held(now) else { return false };
        let most = fine(grant.rate[tier].over(DEPTH));
        !self.is_off() && most > 0 && self.levels[tier] >= most
    }

    /// Work a second that sessions at home here may come to: what is held, and where the site gave
    /// all that was asked for, this gateway's even part of the offer. What is held follows demand
    /// at a fixed slack, so by it alone no home would ever be well used.
    pub fn may_use(&self, now: Time, gateways: u16) -> CostRate {
        let held = self.rates(now).map_or(CostRate::ZERO, |(rates, _)| rates);
        let is_short = self.is_full || held == CostRate::ZERO;
        if is_short { held } else { held.max(self.part(gateways)) }
    }

    /// Work a second this gateway may count on here; `None` where nothing is known. A site that
    /// gave less than was asked for has no more; any other may have all that it offers.
    pub fn supply(&self, now: Time) -> Option<CostRate> {
        let (rates, standby) = self.rates(now)?;
        let held = rates + standby;
        Some(if self.is_full { held } else { held.max(self.offered()) })
    }

    /// What there will be to spend after so long for a tier that was given less than it asked for;
    /// `None` where more may come.
    pub fn coming(&mut self, now: Time, tier: usize, after: Duration) -> Option<CostUnits> {
        self.fill(now);
        let grant = self.holder.held(now).filter(|_| self.is_short[tier] && !self.is_off())?;
        let purses = [(self.levels[tier], grant.rate[tier]), (self.standby, grant.standby)];
        let then = |(level, rate): (i64, CostRate)| {
            let level = level.saturating_add(fine(rate.over(after)));
            CostUnits(u64::try_from(level / FINE).unwrap_or(0))
        };
        Some(purses.map(then).into_iter().sum())
    }

    /// Room that may be left here for unpaid work: this gateway's even part of the offer, less
    /// what it uses.
    pub fn spare(&self, gateways: u16) -> CostRate {
        self.part(gateways).less(all(&self.demand))
    }

    /// This gateway's even part of the offer.
    pub fn part(&self, gateways: u16) -> CostRate {
        CostRate(self.offered().0 / u64::from(gateways.max(1)))
    }

    /// What the site can carry, as far as it said.
    pub fn capacity(&self) -> CostRate {
        self.latest.as_ref().map_or(CostRate::ZERO, |grant| grant.capacity)
    }

    /// What it offers to all gateways now.
    pub fn offered(&self) -> CostRate {
        let of = |grant: &Grant| grant.capacity.percent(u32::from(grant.ramp));
        self.latest.as_ref().map_or(CostRate::ZERO, of)
    }

    /// Expected time from sending to the first token.
    pub fn first_token(&self) -> Duration {
        self.srtt() + self.ttft
    }

    /// The site expects a first token after this long.
    pub fn expects(&mut self, ttft: Duration) {
        self.ttft = (self.ttft * 3 + ttft) / 4;
    }

    /// A message came back after this long.
    pub fn round_trip(&mut self, took: Duration) {
        self.srtt = Some(match self.srtt {
            Some(known) => (known * (SRTT - 1) + took) / SRTT,
            None => took,
        });
    }

    /// The usual round trip.
    pub fn srtt(&self) -> Duration {
        self.srtt.unwrap_or(SRTT_UNKNOWN)
    }

    fn purse(&mut self, now: Time, tier: usize) -> Option<Purse> {
        self.fill(now);
        if self.is_off() || self.offer() != Offer::Open {
            return None;
        }
        self.holder.held(now)?;
        if self.levels[tier] > 0 {
            return Some(Purse::Tier(tier));
        }
        // A site gives a tier less than it asks for only where lower ones have no more than their
        // floors: those are not for higher tiers, however much these still want.
        let may_take = |of: &usize| !self.is_short[tier] && self.levels[*of] > 0;
        let lower = (tier + 1..TIERS_MAX).rev().find(may_take);
        let standby = (self.standby > 0).then_some(Purse::Standby);
        lower.map(Purse::Tier).or(standby)
    }

    fn fill(&mut self, now: Time) {
        let gone = now.since(self.filled).min(DEPTH).as_micros() as i64;
        self.filled = self.filled.max(now);
        let Some(grant) = self.holder.held(now).filter(|_| gone > 0) else { return };
        let mut unused = 0;
        for (level, rate) in self.levels.iter_mut().zip(grant.rate) {
            unused = flow(level, rate, (gone, unused));
        }
        flow(&mut self.standby, grant.standby, (gone, 0));
    }
}

/// Fills a level at its rate for `gone` microseconds, with what a higher tier left `unused`; what
/// finds no room in it. Rates are shares of a few requests, and chance leaves one tier's full
/// while another's is empty: what flows over is for the tier below, not for nobody.
fn flow(level: &mut i64, rate: CostRate, (gone, unused): (i64, i64)) -> i64 {
    let rate = i64::try_from(rate.0).unwrap_or(i64::MAX / FINE);
    let most = rate.saturating_mul(DEPTH.as_micros() as i64);
    let gain = rate.saturating_mul(gone).saturating_add(unused);
    let kept = (*level).min(most);
    let taken = gain.min(most.saturating_sub(kept));
    *level = kept.saturating_add(taken);
    gain.saturating_sub(taken)
}

/// Whether a burst that made the mean demand what it was `before` has ended: no more than `now` was
/// asked for over `elapsed`.
pub fn is_over(before: CostRate, now: CostRate, elapsed: Duration) -> bool {
    now.0.saturating_mul(4) < before.0 && before.over(elapsed) >= OVER_MIN
}

/// The sum over all tiers.
pub fn all(rates: &PerTier<CostRate>) -> CostRate {
    rates.iter().copied().sum()
}

fn fine(cost: CostUnits) -> i64 {
    i64::try_from(cost.0).unwrap_or(i64::MAX / FINE).saturating_mul(FINE)
}
