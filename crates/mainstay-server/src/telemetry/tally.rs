//! What this gateway tells status pages and operators: how requests and attempts turned out, and
//! which tier's went where, counted since one configuration is in force. Only atomics are touched,
//! so no page costs a request anything.

use super::Names;
use super::record::Closing;
use mainstay_core::fact::Fact;
use mainstay_core::message::{
    Count, FIRST_TOKENS, GAP_ENDS, SUMMARY_MAX, Standing, Summary, class_of,
};
use mainstay_core::names::{ModelId, SiteId, TargetId, TierId};
use mainstay_core::status::counted;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) struct Tally {
    run: u64,
    began: Instant,
    api: Cell,
    models: Vec<Cell>,
    sites: Vec<Cell>,
    /// Attempts of each tier at each site.
    flows: Vec<AtomicU64>,
    gaps: [AtomicU64; GAP_ENDS.len() + 1],
}

#[derive(Default)]
struct Cell {
    good: AtomicU64,
    failed: AtomicU64,
    first_tokens: [AtomicU64; FIRST_TOKENS],
}

impl Tally {
    /// Counts that begin at nothing.
    pub(super) fn new(names: &Names) -> Tally {
        let cells = |count: usize| (0..count.min(SUMMARY_MAX)).map(|_| Cell::default()).collect();
        Tally {
            run: RandomState::new().hash_one("tally"),
            began: Instant::now(),
            api: Cell::default(),
            models: cells(names.models.len()),
            sites: cells(names.sites.len()),
            flows: (0..names.tiers.len() * sites(names)).map(|_| AtomicU64::new(0)).collect(),
            gaps: Default::default(),
        }
    }

    /// An attempt for a request of this tier begins.
    pub(super) fn flow(&self, names: &Names, (tier, target): (TierId, TargetId)) {
        let Some((site, _)) = names.targets.get(usize::from(target.0)) else { return };
        let (site, all) = (usize::from(site.0), sites(names));
        let flow = self.flows.get(usize::from(tier.0) * all + site).filter(|_| site < all);
        if let Some(flow) = flow {
            flow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Attempts so far, the sites of the first tier first.
    pub(super) fn flows(&self) -> Vec<u64> {
        self.flows.iter().map(|flow| flow.load(Ordering::Relaxed)).collect()
    }

    /// An attempt's part.
    pub(super) fn fact(&self, names: &Names, fact: &Fact) {
        let site = |target: &TargetId| {
            let (site, _) = names.targets.get(usize::from(target.0))?;
            self.sites.get(usize::from(site.0))
        };
        match fact {
            Fact::FirstToken { target, after, .. } => {
                site(target).into_iter().for_each(|cell| cell.first_token(*after));
            }
            Fact::AttemptWhole { target, .. } => {
                site(target).into_iter().for_each(|cell| cell.count(Some(true)));
            }
            Fact::AttemptFailed { target, class, .. } => {
                site(target).into_iter().for_each(|cell| cell.count(counted::attempt(*class)));
            }
            _ => {}
        }
    }

    /// A request's part.
    pub(super) fn closed(&self, names: &Arc<Names>, closing: &Closing) {
        let good = counted::request(closing.outcome, closing.first_token, closing.after);
        let model = closing.asked.as_ref().and_then(|(model, _, asked)| {
            // It may have come under another configuration.
            let is_same = Arc::ptr_eq(asked, names);
            let found = || names.models.iter().position(|name| name == asked.model(*model));
            self.models.get(if is_same { usize::from(model.0) } else { found()? })
        });
        closing.per_token.into_iter().for_each(|gap| self.flowed(gap));
        for cell in [Some(&self.api), model].into_iter().flatten() {
            cell.count(good);
            closing.first_token.into_iter().for_each(|after| cell.first_token(after));
        }
    }

    /// How far apart the tokens of an answer were.
    fn flowed(&self, gap: Duration) {
        if let Some(class) = self.gaps.get(class_of(gap, &GAP_ENDS)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All of it, with how the sites stand, by position.
    pub(super) fn summary(&self, standings: &[Standing]) -> Summary {
        let of = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
        let models = self.models.iter().enumerate();
        let sites = self.sites.iter().enumerate().map(|(at, cell)| {
            let standing = standings.get(at).copied().unwrap_or_default();
            (SiteId(of(at)), standing, cell.now())
        });
        Summary {
            run: self.run,
            elapsed: self.began.elapsed(),
            api: self.api.now(),
            models: models.map(|(at, cell)| (ModelId(of(at)), cell.now())).collect(),
            sites: sites.collect(),
            gaps: std::array::from_fn(|at| self.gaps[at].load(Ordering::Relaxed)),
            failing: Vec::new(),
            short: Vec::new(),
        }
    }
}

/// Sites that are counted.
fn sites(names: &Names) -> usize {
    names.sites.len().min(SUMMARY_MAX)
}

impl Cell {
    fn count(&self, good: Option<bool>) {
        match good {
            Some(true) => self.good.fetch_add(1, Ordering::Relaxed),
            Some(false) => self.failed.fetch_add(1, Ordering::Relaxed),
            None => return,
        };
    }

    fn first_token(&self, after: Duration) {
        if let Some(class) = self.first_tokens.get(Count::class_of(after)) {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn now(&self) -> Count {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut first_tokens = [0; FIRST_TOKENS];
        first_tokens.iter_mut().zip(&self.first_tokens).for_each(|(to, from)| *to = read(from));
        Count { good: read(&self.good), failed: read(&self.failed), first_tokens }
    }
}
