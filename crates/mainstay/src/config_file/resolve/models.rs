//! The names clients ask for, and which model at which site answers.

use super::Resolver;
use super::sites::Made;
use crate::catalog::{self, Offer};
use crate::config_file::problem::{hint, nearest};
use mainstay_core::config::{ALL_TIERS, Continuation, Family, Model, SiteKind, Target};
use mainstay_core::names::{SiteId, TargetId};

/// Models and what they resolve to.
#[derive(Default)]
pub(super) struct Plan {
    pub targets: Vec<Target>,
    pub models: Vec<Model>,
    pub families: Vec<Family>,
}

impl Resolver<'_> {
    /// The file's models, or else one for every model that the sites offer.
    pub(super) fn models(&mut self, sites: &[Made]) -> Plan {
        let mut plan = Plan::default();
        if self.file.model.is_empty() {
            plan.offered(sites)
        } else {
            self.written(sites, &mut plan)
        }
        if plan.targets.len() > usize::from(u16::MAX) || sites.len() > usize::from(u16::MAX) {
            self.wrong("model", "more than 65535 models at sites; have fewer");
        }
        plan
    }

    fn written(&mut self, sites: &[Made], plan: &mut Plan) {
        for (at, file) in self.file.model.clone().into_iter().enumerate() {
            let path = format!("model.{at}");
            let name = file.name.unwrap_or_default();
            if name.is_empty() {
                self.wrong(&path, "has no name; add name = \"…\"");
            } else if plan.models.iter().any(|model| model.name == name) {
                let what = format!("`{name}` is there twice; give each model its own name");
                self.wrong(&format!("{path}.name"), what);
            }
            if file.served_by.is_empty() {
                let what = "served_by is empty; name at least one \"site/model\"";
                self.wrong(&format!("{path}.served_by"), what);
            }
            let served_by = self.references(&format!("{path}.served_by"), &file.served_by, sites);
            let substitutes =
                self.references(&format!("{path}.substitutes"), &file.substitutes, sites);
            let served_by = plan.targets_of(served_by, sites);
            let substitutes = plan.targets_of(substitutes, sites);
            if let Some(twice) = substitutes.iter().find(|each| served_by.contains(each)) {
                let twice = plan.shown(*twice, sites);
                let what = format!("{twice} is in served_by too; keep it in one of the two");
                self.wrong(&format!("{path}.substitutes"), what);
            }
            let may_finish = file.substitutes_may_finish.unwrap_or(true);
            plan.models.push(Model {
                name,
                served_by,
                substitutes,
                substitutes_may_finish: may_finish,
            });
        }
    }

    /// The sites and models that `list` names; a problem for each that is unknown or there twice.
    fn references(&mut self, path: &str, list: &[String], sites: &[Made]) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        for (at, text) in list.iter().enumerate() {
            let path = format!("{path}.{at}");
            if list[..at].contains(text) {
                self.wrong(&path, format!("`{text}` is there twice; take one away"));
                continue;
            }
            let Some((site, model)) = text.split_once('/').filter(|(_, model)| !model.is_empty())
            else {
                self.wrong(&path, format!("`{text}` names no model; write it as \"site/model\""));
                continue;
            };
            let Some(index) = sites.iter().position(|each| each.core.name == site) else {
                let hint = hint(site, sites.iter().map(|each| each.core.name.as_str()));
                self.wrong(&path, format!("no site `{site}` (in `{text}`); {hint}"));
                continue;
            };
            self.check_model(&path, &sites[index], model);
            found.push((index, model.to_string()));
        }
        found
    }

    /// Providers add models faster than we list them, so an unknown name is only a warning. Our
    /// own engine has what it has.
    fn check_model(&mut self, path: &str, site: &Made, model: &str) {
        let known: Vec<&str> = site.offers.iter().map(|offer| offer.name.as_str()).collect();
        let name = &site.core.name;
        match site.dialect() {
            _ if known.contains(&model) => {}
            None => {
                let has = known.join(", ");
                self.wrong(path, format!("{name} has no model `{model}`; it has {has}"));
            }
            Some(dialect) if known.is_empty() || dialect.may_serve(model) => {}
            Some(_) => {
                let hint = match nearest(model, known.iter().copied()) {
                    Some(each) => format!("did you mean `{each}`?"),
                    None => String::from("say what it can do in the site's `models`"),
                };
                let what = format!("`{model}` is not among the models known of {name}; {hint}");
                self.warn(path, what);
            }
        }
    }
}

impl Plan {
    /// Every model that a site offers, under its own name; `chat`, answered by the first site's
    /// chat model; and the looks of names that sites serve without a list.
    fn offered(&mut self, sites: &[Made]) {
        let chats: Vec<(usize, String)> = sites
            .iter()
            .enumerate()
            .filter_map(|(at, site)| Some((at, site.chat.clone()?)))
            .collect();
        if let Some((_, first)) = chats.first() {
            self.offer("chat", first, &chats, sites);
        }
        for site in sites {
            for offer in &site.offers {
                self.offer(&offer.name, &offer.name, &chats, sites);
            }
        }
        for (at, site) in sites.iter().enumerate() {
            let families = site.dialect().map(|dialect| catalog::families(dialect));
            for (pattern, continues) in families.unwrap_or_default() {
                let continuation = continuation(false, continues);
                self.families.push(Family { pattern, site: site_id(at), continuation });
            }
        }
    }

    /// A model called `name`: equals are the sites that offer `wanted`, substitutes the other
    /// sites' chat models.
    fn offer(&mut self, name: &str, wanted: &str, chats: &[(usize, String)], sites: &[Made]) {
        if self.models.iter().any(|model| model.name == name) {
            return;
        }
        let has = |site: &Made| {
            site.offers.iter().any(|offer| offer.name == wanted)
                || site.chat.as_deref() == Some(wanted)
        };
        let equals: Vec<(usize, String)> = sites
            .iter()
            .enumerate()
            .filter(|(_, site)| has(site))
            .map(|(at, _)| (at, wanted.to_string()))
            .collect();
        let vectors = equals.first().is_some_and(|(at, _)| {
            let offer = sites[*at].offers.iter().find(|offer| offer.name == wanted);
            offer.is_some_and(|offer| offer.offers.embeddings && !sites[*at].core.is_embedded())
        });
        // Vectors of another model mean nothing beside those that the caller has stored.
        let elsewhere = |at: usize| equals.iter().all(|(equal, _)| *equal != at);
        let others = chats.iter().filter(|(at, _)| !vectors && elsewhere(*at));
        // The engine is the last of all, and where it is asked for by name nobody else is meant.
        let by_name = equals.iter().all(|(at, _)| sites[*at].core.is_embedded()) && name != "chat";
        let others: Vec<_> = others.filter(|_| !by_name).cloned().collect();
        let served_by = self.targets_of(equals, sites);
        let substitutes = self.targets_of(others, sites);
        self.models.push(Model {
            name: name.to_string(),
            served_by,
            substitutes,
            substitutes_may_finish: true,
        });
    }

    fn targets_of(&mut self, list: Vec<(usize, String)>, sites: &[Made]) -> Vec<TargetId> {
        list.into_iter().map(|(at, model)| self.target(at, &model, &sites[at])).collect()
    }

    /// The target for `model` at the site in place `at`; there is one for each pair.
    fn target(&mut self, at: usize, model: &str, site: &Made) -> TargetId {
        let id = site_id(at);
        let there = |target: &Target| target.site == id && target.model == model;
        let position = self.targets.iter().position(there).unwrap_or_else(|| {
            self.targets.push(target(id, model, site));
            self.targets.len() - 1
        });
        TargetId(u16::try_from(position).unwrap_or(u16::MAX))
    }

    fn shown(&self, id: TargetId, sites: &[Made]) -> String {
        let target = &self.targets[usize::from(id.0)];
        format!("{}/{}", sites[usize::from(target.site.0)].core.name, target.model)
    }
}

fn site_id(at: usize) -> SiteId {
    SiteId(u16::try_from(at).unwrap_or(u16::MAX))
}

/// Sessions are at home at sites of ours in equal parts: by latency alone nearly all of them would
/// go to the nearest, and its loss would be everybody's. Only the proportion counts.
const EVEN: u16 = 1000;

fn target(id: SiteId, model: &str, site: &Made) -> Target {
    let known = site.offers.iter().find(|offer| offer.name == model).cloned();
    let unknown = || site.dialect().map(|dialect| catalog::offer(dialect, model));
    let Offer { name, window, output_max, offers, continues } =
        known.or_else(unknown).unwrap_or_else(|| Offer {
            name: model.to_string(),
            window: None,
            output_max: None,
            offers: Default::default(),
            continues: false,
        });
    let continuation = continuation(site.core.is_embedded(), continues);
    Target {
        site: id,
        model: name,
        window,
        output_max,
        offers,
        continuation,
        labels: 0,
        home: if site.core.kind == SiteKind::Node { EVEN } else { 0 },
        tiers: ALL_TIERS,
    }
}

fn continuation(embedded: bool, continues: bool) -> Continuation {
    match (embedded, continues) {
        (true, true) => Continuation::Journal,
        (false, true) => Continuation::Native,
        (_, false) => Continuation::None,
    }
}
