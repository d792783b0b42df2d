//! Another policy comes into force at a site that serves.
//!
//! Its epoch and what it granted stay: a gateway may use what it was promised until that lapses,
//! whatever positions mean now. So the models and classes of service must be those of before, in
//! their order; shares, gateways and what other sites carry may change. What cannot be changed so
//! needs a new controller, which waits until older grants have lapsed.

use super::{Action, Site};
use crate::config::SiteConfig;
use crate::names::SiteId;
use crate::time::Time;
use alloc::vec::Vec;

impl Site {
    /// Whether this controller can go on under `config`.
    pub fn may_adopt(&self, config: &SiteConfig) -> bool {
        let now = &self.config;
        let names = |config: &SiteConfig| -> Vec<_> {
            config.tiers.iter().map(|tier| tier.name.clone()).collect()
        };
        now.pools.len() == config.pools.len() && names(now) == names(config)
    }

    /// Another policy is in force.
    pub(super) fn adopt(
        &mut self,
        now: Time,
        config: SiteConfig,
        sites: &[Option<SiteId>],
        actions: &mut Vec<Action>,
    ) {
        if !self.may_adopt(&config) {
            return;
        }
        self.config = config;
        for (position, pool) in self.pools.iter_mut().enumerate() {
            pool.adopt(&self.config, position);
        }
        self.orders.renumber(sites);
        self.obey(now, actions);
        for position in 0..self.pools.len() {
            self.pump(now, position, actions);
        }
    }
}
