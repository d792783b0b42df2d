//! What only the audit reads: its words are known and its numbers are possible.

use super::Resolver;
use crate::config_file::check::{NEEDS, Peak};
use crate::config_file::problem::hint;
use mainstay_core::config::Tier;

/// Above this a share of capacity is a slip of the pen, such as 60 for 0.60.
const SHARE_MAX: f64 = 10.0;

/// More requests a second than anybody's peak.
const RATE_MAX: f64 = 1e6;

impl Resolver<'_> {
    pub(super) fn check(&mut self, tiers: &[Tier]) {
        for (at, model) in self.file.model.clone().into_iter().enumerate() {
            for (which, word) in model.needs.iter().enumerate() {
                if !NEEDS.contains(&word.as_str()) {
                    let what = format!("no feature `{word}`; {}", hint(word, NEEDS));
                    self.wrong(&format!("model.{at}.needs.{which}"), what);
                }
            }
            if model.window_min == Some(0) {
                let what = "0 tokens are no use; take the line away if any window will do";
                self.wrong(&format!("model.{at}.window_min"), what);
            }
        }
        let check = self.file.check.clone();
        match check.peak {
            Some(Peak::Share(share)) if !(share > 0.0 && share <= SHARE_MAX) => {
                let what = format!("{share} is no share of capacity; write it like 0.6");
                self.wrong("check.peak", what);
            }
            Some(Peak::ByTier(rates)) => self.check_rates(rates, tiers),
            Some(Peak::Share(_)) | None => {}
        }
        if check.gateways == Some(0) {
            self.wrong("check.gateways", "0 would answer nothing; write how many run this file");
        }
        if check.client_timeout.is_some_and(|wait| wait.0.is_zero()) {
            let what = "must be longer than 0; take the line away if it is not known";
            self.wrong("check.client_timeout", what);
        }
    }

    fn check_rates(&mut self, rates: std::collections::BTreeMap<String, f64>, tiers: &[Tier]) {
        if rates.values().all(|rate| *rate == 0.0) {
            self.wrong("check.peak", "nobody asks for anything; write requests a second by tier");
        }
        for (tier, rate) in rates {
            let path = format!("check.peak.{tier}");
            if !tiers.iter().any(|each| each.name == tier) {
                let hint = hint(&tier, tiers.iter().map(|each| each.name.as_str()));
                self.wrong(&path, format!("no tier `{tier}`; {hint}"));
            } else if !(0.0..=RATE_MAX).contains(&rate) {
                self.wrong(&path, format!("{rate} is no number of requests a second"));
            }
        }
    }
}
