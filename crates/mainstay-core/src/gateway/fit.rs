//! What a client is told of limits: which windows and sizes there are for its model, and that sites
//! were left out for them.

use crate::gateway::Gateway;
use crate::gateway::refusal::{self, Refusal};
use crate::gateway::request::Life;
use crate::names::{ClientFault, ErrorClass, RequestId, TargetId};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

impl Gateway {
    /// The refusal of a request that no target of its model could ever serve.
    pub(super) fn impossible(&self, request: RequestId) -> Refusal {
        let Some(life) = self.lives.get(&request) else {
            return refusal::impossible(None, 0, true);
        };
        let all = self.targets_for(life);
        let mut lacks = true;
        for id in &all {
            lacks &= !self.config.targets[usize::from(id.0)].offers.covers(life.ask.needs);
        }
        let bodies: Vec<u64> = all.iter().filter_map(|id| self.targets.get(*id).body_max).collect();
        let is_too_large = bodies.len() == all.len() && bodies.iter().all(|b| *b < life.ask.body);
        match bodies.iter().max() {
            Some(most) if is_too_large => refusal::too_large(*most),
            _ => {
                refusal::impossible(self.window_max(life), life.demand(life.arrived).prompt, lacks)
            }
        }
    }

    /// Words for the end of a refusal with `status`: the largest limit on offer where the request
    /// was too large, and that other targets were never asked because it could not fit there.
    pub(super) fn what_fits(&self, life: &Life, status: u16) -> String {
        let class = life.story.first().map(|tried| tried.failure.class);
        let known = match class {
            Some(ErrorClass::ClientFault(ClientFault::Context)) => {
                self.window_max(life).map(refusal::largest_window)
            }
            Some(ErrorClass::ClientFault(ClientFault::Size)) => {
                self.body_max(life).map(refusal::largest_body)
            }
            _ if status < 500 => None,
            _ => {
                let demand = life.demand(life.arrived);
                let fits = |id: &TargetId| self.targets.is_eligible(&self.config, *id, &demand);
                let all = self.targets_for(life);
                let unfit = all
                    .iter()
                    .filter(|id| !life.asked.has(&self.config, **id) && !fits(id))
                    .count();
                let words = "too small for this request or without a feature it needs";
                (unfit > 0).then(|| format!("{unfit} more not asked: {words}"))
            }
        };
        known.map_or_else(String::new, |words| format!("; {words}"))
    }

    fn window_max(&self, life: &Life) -> Option<u64> {
        self.targets_for(life).iter().filter_map(|id| self.targets.get(*id).window).max()
    }

    fn body_max(&self, life: &Life) -> Option<u64> {
        self.targets_for(life).iter().filter_map(|id| self.targets.get(*id).body_max).max()
    }

    /// All targets that may answer for the model it asked for.
    fn targets_for(&self, life: &Life) -> Vec<TargetId> {
        let model = &self.config.models[usize::from(life.ask.model.0)];
        [&model.served_by[..], &model.substitutes[..]].concat()
    }
}
