//! The recent requests, as far as decisions need them, so that a new policy can be asked what it
//! would have done. No prompt, and nobody's key.

use crate::policy::taste::Asked;
use mainstay_core::config::Config;
use mainstay_core::gateway::request::Ask;
use mainstay_core::names::{ModelId, TierId};
use mainstay_core::policy::compare::REPLAYED;
use std::collections::VecDeque;

/// The recent requests, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(ModelId, TierId, u32, Option<u32>)>);

impl Recent {
    /// A request arrives.
    pub(super) fn note(&mut self, ask: &Ask) {
        if self.0.len() == REPLAYED {
            self.0.pop_front();
        }
        self.0.push_back((ask.model, ask.tier, ask.prompt, ask.max_tokens));
    }

    /// Models and tiers have other positions; requests of those that are gone go too.
    pub(super) fn rename(&mut self, old: &Config, new: &Config) {
        let moved = |asked: &mut (ModelId, TierId, u32, Option<u32>)| {
            let model = old.models.get(usize::from(asked.0.0))?;
            let model = new.models.iter().position(|each| each.name == model.name)?;
            let tier = old.tiers.get(usize::from(asked.1.0))?;
            let tier = new.tiers.iter().position(|each| each.name == tier.name)?;
            asked.0 = ModelId(u16::try_from(model).ok()?);
            asked.1 = TierId(u8::try_from(tier).ok()?);
            Some(())
        };
        self.0.retain_mut(|asked| moved(asked).is_some());
    }

    /// The same by name.
    pub(super) fn told(&self, config: &Config) -> Vec<Asked> {
        let told = self.0.iter().filter_map(|(model, tier, prompt, max_tokens)| {
            Some(Asked {
                model: config.models.get(usize::from(model.0))?.name.clone(),
                tier: config.tiers.get(usize::from(tier.0))?.name.clone(),
                prompt: *prompt,
                max_tokens: *max_tokens,
            })
        });
        told.collect()
    }
}
