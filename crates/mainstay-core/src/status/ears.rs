//! Who was heard, and when: what each gateway said last, what is new in what it says now, and
//! whether enough of them are heard for anything to be known.

use super::component::{Sign, failing};
use super::moved;
use super::{Action, Because, Count, GatewayId, Standing, State, StatusFact, Summary};
use crate::message::Short;
use crate::time::{Duration, Time};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// A gateway that says nothing for so long is called silent: ten summaries.
const SILENT: Duration = Duration::from_secs(10);
/// Fewer than half of them heard for so long: nobody knows how things are.
const LOST: Duration = Duration::from_secs(90);
/// Counts of a longer time than this are not taken for now.
const SPAN: Duration = Duration::from_secs(15);

/// How fresh what is known is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Nobody was heard since this role began, so long ago.
    None(Duration),
    /// So old.
    Fresh(Duration),
    /// Too few gateways are heard, for so long; soon nothing will be known.
    Stale(Duration),
    /// For so long nothing is known.
    Lost(Duration),
}

/// All gateways.
#[derive(Clone, Debug)]
pub(super) struct Ears {
    gateways: Vec<Gateway>,
    began: Time,
    is_lost: bool,
}

/// One gateway.
#[derive(Clone, Debug, Default)]
struct Gateway {
    heard: Option<Time>,
    is_heard: bool,
    /// What it said last.
    last: Summary,
    /// By site: since when it finds it down.
    down: Vec<Option<Time>>,
}

impl Ears {
    pub(super) fn new(now: Time, gateways: usize) -> Ears {
        let gateways = (0..gateways).map(|_| Gateway::default()).collect();
        Ears { gateways, began: now, is_lost: false }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Whether too few gateways are heard.
    pub(super) fn is_stale(&self, now: Time) -> bool {
        now.since(self.known(now)) >= SILENT
    }

    /// Takes in what a gateway says; what is new in it, if anything counts for now.
    pub(super) fn hear(
        &mut self,
        now: Time,
        from: GatewayId,
        summary: Summary,
        actions: &mut Vec<Action>,
    ) -> Option<Summary> {
        let gateway = self.gateways.get_mut(usize::from(from.0))?;
        if !gateway.is_heard {
            gateway.is_heard = true;
            actions.push(Action::Fact(StatusFact::Heard { gateway: from }));
        }
        let is_known = gateway.heard.is_some();
        gateway.heard = Some(now);
        gateway.stand(now, &summary);
        let last = core::mem::replace(&mut gateway.last, summary);
        let (summary, is_same) = (&gateway.last, gateway.last.run == last.run && is_known);
        let span = match is_same {
            true => summary.elapsed.saturating_sub(last.elapsed),
            false => summary.elapsed,
        };
        if span > SPAN {
            return None;
        }
        Some(if is_same { summary.since(&last) } else { summary.clone() })
    }

    /// Notes who fell silent, and whether enough are heard.
    pub(super) fn watch(&mut self, now: Time, actions: &mut Vec<Action>) {
        for (at, gateway) in (0..).zip(&mut self.gateways) {
            let lasts = gateway.heard.map_or(Duration::ZERO, |heard| now.since(heard));
            if gateway.is_heard && lasts >= SILENT {
                gateway.is_heard = false;
                let gateway = GatewayId(at);
                actions.push(Action::Fact(StatusFact::Silent { gateway, lasts }));
            }
        }
        let lasts = now.since(self.known(now));
        let fact = match (self.is_lost, lasts >= LOST) {
            (false, true) => StatusFact::Lost { lasts },
            (true, false) => StatusFact::Found,
            (true, true) | (false, false) => return,
        };
        self.is_lost = !self.is_lost;
        actions.push(Action::Fact(fact));
    }

    /// Until when at least half of the gateways were heard.
    fn known(&self, now: Time) -> Time {
        let mut heard: Vec<Time> =
            self.gateways.iter().map(|each| each.heard.unwrap_or(self.began)).collect();
        heard.sort_unstable();
        // Of the latest half the one that was heard the longest ago.
        let half = self.gateways.len().div_ceil(2);
        heard.len().checked_sub(half).and_then(|at| heard.get(at)).copied().unwrap_or(now)
    }

    /// How fresh what is known is.
    pub(super) fn data(&self, now: Time) -> Data {
        let lasts = now.since(self.known(now));
        let newest = self.gateways.iter().filter_map(|gateway| gateway.heard).max();
        match newest {
            _ if self.is_lost => Data::Lost(lasts),
            None => Data::None(now.since(self.began)),
            Some(_) if lasts >= SILENT => Data::Stale(lasts),
            Some(newest) => Data::Fresh(now.since(newest)),
        }
    }

    /// How many are heard, of how many.
    pub(super) fn heard(&self, now: Time) -> (usize, usize) {
        let fresh = self.gateways.iter().filter(|gateway| gateway.is_fresh(now)).count();
        (fresh, self.gateways.len())
    }

    /// Of the requests of this key in the last ten minutes, how many failed, and all of them, at
    /// the gateways that are heard; nothing where none failed.
    pub(super) fn failing(&self, now: Time, key: u64) -> (u64, u64) {
        let heard = self.gateways.iter().filter(|gateway| gateway.is_fresh(now));
        let told = heard.flat_map(|gateway| &gateway.last.failing).filter(|each| each.key == key);
        told.fold((0, 0), |sum, each| (sum.0 + u64::from(each.failed), sum.1 + u64::from(each.all)))
    }

    /// Whom the loss of a site would leave refused, as the gateway says that would refuse the most.
    pub(super) fn short(&self, now: Time) -> Vec<Short> {
        let heard = self.gateways.iter().filter(|gateway| gateway.is_fresh(now));
        let mut told: Vec<Short> = heard.flat_map(|gateway| &gateway.last.short).copied().collect();
        told.sort_unstable_by_key(|each| (each.site, each.tier, Reverse(each.refused)));
        told.dedup_by_key(|each| (each.site, each.tier));
        told
    }

    /// What gateways believe of a site; nothing if none saw anything of it. One alone that finds
    /// it down is believed after `alone`.
    pub(super) fn votes(&self, now: Time, site: usize, alone: Duration) -> Option<Sign> {
        let (mut up, mut down, mut believed, mut shut) = (0u16, 0u16, 0u16, 0u16);
        for gateway in self.gateways.iter().filter(|gateway| gateway.is_fresh(now)) {
            match gateway.standing(site) {
                Standing::Unknown => {}
                Standing::Up => up += 1,
                Standing::Shut => shut += 1,
                Standing::Down => {
                    down += 1;
                    let since = gateway.down.get(site).copied().flatten();
                    let is_long = since.is_some_and(|since| now.since(since) >= alone);
                    believed += u16::from(is_long);
                }
            }
        }
        if shut > up + down {
            return Some((State::Maintenance, Because::Shut));
        }
        let of = up + down;
        // Two see the same by themselves.
        let counts = if down > 1 { down } else { believed };
        match failing(counts.into(), of.into()) {
            _ if of == 0 => None,
            State::Operational => Some((State::Operational, Because::Answers)),
            state => Some((state, Because::Down { gateways: counts, of })),
        }
    }

    /// Who is called the same goes on under its new position. What they said spoke of positions as
    /// they were, so the next word of each is a beginning.
    pub(super) fn adopt(&mut self, now: Time, old: &[String], new: &[String]) {
        let begins = |gateway: Gateway| Gateway {
            // A newcomer has as long to be heard as everybody had at the beginning.
            heard: gateway.heard.or(Some(now)),
            is_heard: gateway.is_heard,
            ..Gateway::default()
        };
        let all = moved((old, &self.gateways), new);
        self.gateways = all.into_iter().map(begins).collect();
    }
}

impl Gateway {
    fn is_fresh(&self, now: Time) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < SILENT)
    }

    fn standing(&self, site: usize) -> Standing {
        let of = self.last.sites.iter().find(|(id, ..)| usize::from(id.0) == site);
        of.map_or(Standing::Unknown, |(_, standing, _)| *standing)
    }

    /// Notes since when it finds which sites down.
    fn stand(&mut self, now: Time, summary: &Summary) {
        let sites = summary.sites.iter().map(|(site, ..)| usize::from(site.0) + 1).max();
        let mut down = alloc::vec![None; sites.unwrap_or(0)];
        for (site, standing, _) in &summary.sites {
            let site = usize::from(site.0);
            if *standing == Standing::Down {
                down[site] = self.down.get(site).copied().flatten().or(Some(now));
            }
        }
        self.down = down;
    }
}

impl Summary {
    /// What was counted since `last`.
    fn since(&self, last: &Summary) -> Summary {
        fn before<K: PartialEq>(mut all: impl Iterator<Item = (K, Count)>, key: &K) -> Count {
            all.find(|(other, _)| other == key).map_or(Count::default(), |(_, count)| count)
        }
        let model =
            |(id, count): &(_, Count)| (*id, count.since(&before(last.models.iter().copied(), id)));
        let site = |(id, standing, count): &(_, Standing, Count)| {
            let sites = last.sites.iter().map(|(id, _, count)| (*id, *count));
            (*id, *standing, count.since(&before(sites, id)))
        };
        Summary {
            run: self.run,
            elapsed: self.elapsed,
            api: self.api.since(&last.api),
            models: self.models.iter().map(model).collect(),
            sites: self.sites.iter().map(site).collect(),
            gaps: core::array::from_fn(|at| self.gaps[at].saturating_sub(last.gaps[at])),
            failing: Vec::new(),
            short: Vec::new(),
        }
    }
}
