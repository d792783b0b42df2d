//! What is left of each model when something is lost.

use super::fate::{self, Loss};
use super::finding::{Finding, Severity, listed};
use super::scene::Scene;
use super::substitute::fits;
use mainstay_core::config::Model;
use mainstay_core::names::TargetId;
use std::collections::BTreeSet;

/// Who answers after a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The same weights, elsewhere.
    Equal(TargetId),
    /// Another model of another site.
    Substitute(TargetId),
    /// A model of the operator's own in this process.
    Engine(TargetId),
    /// The model that is compiled in, which only tells what is down.
    Builtin(TargetId),
    /// Nobody.
    Nothing,
}

impl Left {
    /// Whether the model is down for those who use it.
    pub fn is_down(self) -> bool {
        matches!(self, Left::Builtin(_) | Left::Nothing)
    }
}

/// Models that every loss leaves with the same sites.
#[derive(Clone, Debug)]
pub struct Group {
    /// Their positions; never empty.
    pub models: BTreeSet<usize>,
    /// For each loss: who answers, or `None` if it does not touch them.
    pub left: Vec<Option<Left>>,
}

/// Models that need a provider, in groups, in the order of the file.
pub fn groups(scene: &Scene<'_>, losses: &[Loss]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let core = scene.core();
    for at in (0..core.models.len()).filter(|at| !scene.needs_no_provider(&core.models[*at])) {
        let left: Vec<Option<Left>> = losses.iter().map(|loss| left(scene, at, loss)).collect();
        let key = |left: &[Option<Left>]| -> Vec<Option<(u8, usize)>> {
            left.iter().map(|each| each.map(|left| rank(scene, left))).collect()
        };
        match groups.iter_mut().find(|group| key(&group.left) == key(&left)) {
            Some(group) => drop(group.models.insert(at)),
            None => groups.push(Group { models: BTreeSet::from([at]), left }),
        }
    }
    groups
}

/// Which way out, and by which site.
fn rank(scene: &Scene<'_>, left: Left) -> (u8, usize) {
    match left {
        Left::Equal(id) => (0, scene.site_of(id)),
        Left::Substitute(id) => (1, scene.site_of(id)),
        Left::Engine(id) => (2, scene.site_of(id)),
        Left::Builtin(id) => (3, scene.site_of(id)),
        Left::Nothing => (4, 0),
    }
}

/// Who answers for the model after the loss; `None` if it uses nothing of what is lost.
fn left(scene: &Scene<'_>, at: usize, loss: &Loss) -> Option<Left> {
    let model = &scene.core().models[at];
    let all = || model.served_by.iter().chain(&model.substitutes);
    if !all().any(|id| loss.targets.contains(&id.0)) {
        return None;
    }
    let stays = |id: &&TargetId| !loss.targets.contains(&id.0) && fits(scene, at, **id);
    let remote = |id: &&TargetId| !scene.is_embedded(scene.site_of(**id));
    if let Some(id) = model.served_by.iter().filter(remote).find(stays) {
        return Some(Left::Equal(*id));
    }
    if let Some(id) = model.substitutes.iter().filter(remote).find(stays) {
        return Some(Left::Substitute(*id));
    }
    let here = |id: &&TargetId| !remote(id) && stays(id);
    let own = all().filter(here).find(|id| !scene.is_builtin(scene.site_of(**id)));
    let builtin = all().find(here);
    Some(match (own, builtin) {
        (Some(id), _) => Left::Engine(*id),
        (None, Some(id)) => Left::Builtin(*id),
        (None, None) => Left::Nothing,
    })
}

/// What the losses do to the models.
pub fn findings(scene: &Scene<'_>, losses: &[Loss], groups: &[Group]) -> Vec<Finding> {
    if groups.is_empty() {
        return vec![no_provider(scene)];
    }
    let mut found = Vec::new();
    for (which, loss) in losses.iter().enumerate() {
        let with = |wanted: fn(Left) -> bool| -> BTreeSet<usize> {
            let hit = groups.iter().filter(|group| group.left[which].is_some_and(wanted));
            // A fate is told where no single site of it would have done the same.
            let is_news = |group: &&Group| {
                loss.is_site
                    || !losses.iter().zip(&group.left).any(|(other, left)| {
                        other.is_site
                            && other.targets.is_subset(&loss.targets)
                            && left.is_some_and(wanted)
                    })
            };
            hit.filter(is_news).flat_map(|group| group.models.iter().copied()).collect()
        };
        let nothing = with(|left| left == Left::Nothing);
        let builtin = with(|left| matches!(left, Left::Builtin(_)));
        let engine = with(|left| matches!(left, Left::Engine(_)));
        let other = with(|left| matches!(left, Left::Substitute(_)));
        if !nothing.is_empty() {
            found.push(down(scene, loss, &nothing));
        }
        if !builtin.is_empty() {
            found.push(only_builtin(scene, loss, &builtin));
        }
        if !engine.is_empty() {
            found.push(only_engine(scene, loss, &engine));
        }
        if !other.is_empty() && loss.is_site {
            found.push(stands_in(scene, loss, (&other, groups, which)));
        }
    }
    found
}

fn no_provider(scene: &Scene<'_>) -> Finding {
    let place = scene.place("site");
    Finding::new("MS100", Severity::Error, place).saying(
        "no provider is configured",
        "There is nothing to lose: the built-in model answers, and it knows only Mainstay and the \
         state of its sites.",
        "set a provider's key, e.g. DEEPSEEK_API_KEY, or write a [[site]]",
    )
}

/// How bad it is that a model goes down: an error, unless it rests on an assumption.
fn severity(loss: &Loss) -> Severity {
    if loss.assumed { Severity::Warning } else { Severity::Error }
}

fn down(scene: &Scene<'_>, loss: &Loss, models: &BTreeSet<usize>) -> Finding {
    let names = scene.names(models);
    let shown = counted(&names);
    let id = if loss.is_site { "MS101" } else { "MS102" };
    let title = match loss.is_site {
        true => format!("{} is all that answers {shown}", loss.name),
        false => format!("{} takes {shown} down", loss.called(scene)),
    };
    let happens = format!(
        "{}Until it is back every request for {} fails with 503, and answers under way end \
         in an error. Nobody else is configured{}.",
        because(loss),
        again(&names),
        for_what(scene, models),
    );
    told(scene, (id, loss, models), title).of(names).with(happens)
}

fn only_builtin(scene: &Scene<'_>, loss: &Loss, models: &BTreeSet<usize>) -> Finding {
    let names = scene.names(models);
    let shown = counted(&names);
    let title = match loss.is_site {
        true => format!("without {} only the built-in model answers {shown}", loss.name),
        false => format!("{} leaves the built-in model for {shown}", loss.called(scene)),
    };
    let happens = format!(
        "{}Until it is back nobody gets a real answer from {}. The built-in model tells users \
         what is down and since when, marked x-mainstay-degraded; requests that it cannot take, \
         such as those with tools, get 503.",
        because(loss),
        again(&names),
    );
    told(scene, ("MS103", loss, models), title).of(names).with(happens)
}

fn only_engine(scene: &Scene<'_>, loss: &Loss, models: &BTreeSet<usize>) -> Finding {
    let names = scene.names(models);
    let shown = counted(&names);
    let title = format!("without {} an embedded engine answers {shown}", loss.called(scene));
    let happens = format!(
        "{}Your own weights on this machine's CPU then carry {}: a few answers at once, without \
         tools. The rest is refused with 503 and a time to come back.",
        because(loss),
        again(&names),
    );
    let severity = Severity::Warning;
    Finding { severity, ..told(scene, ("MS104", loss, models), title) }.of(names).with(happens)
}

fn stands_in(
    scene: &Scene<'_>,
    loss: &Loss,
    (models, groups, which): (&BTreeSet<usize>, &[Group], usize),
) -> Finding {
    let names = scene.names(models);
    let shown = counted(&names);
    let by = groups.iter().find_map(|group| match group.left[which] {
        Some(Left::Substitute(id)) => Some(scene.shown(id)),
        Some(_) | None => None,
    });
    let by = by.unwrap_or_default();
    let first = models.first().copied().unwrap_or_default();
    Finding::new("MS105", Severity::Note, scene.model_place(first, "substitutes"))
        .saying(
            format!("without {} {shown} is answered by {by}", loss.name),
            format!(
                "The outage of {} costs nobody an answer, but it is another model's; `model` in \
                 the response says so.",
                loss.name
            ),
            "if that matters, add a site with the same weights to served_by",
        )
        .of(names)
        .at_loss(&loss.name, false)
}

impl Finding {
    fn with(mut self, happens: String) -> Finding {
        self.happens = happens;
        self
    }
}

/// The part of the finding that all losses have alike.
fn told(
    scene: &Scene<'_>,
    (id, loss, models): (&'static str, &Loss, &BTreeSet<usize>),
    title: String,
) -> Finding {
    let first = models.first().copied().unwrap_or_default();
    let place = match loss.is_site {
        true => scene.model_place(first, "served_by"),
        false => loss.place.clone(),
    };
    let mend = match loss.unless.is_empty() {
        true => second_site(scene, loss, models),
        false => format!("{}; {}", second_site(scene, loss, models), loss.unless),
    };
    let finding = Finding::new(id, severity(loss), place).saying(title, "", mend);
    finding.at_loss(&loss.name, loss.assumed)
}

fn because(loss: &Loss) -> String {
    match (loss.is_site, loss.assumed) {
        (true, _) => String::new(),
        (false, false) => format!("One loss: {}. ", loss.why),
        (false, true) => format!("Assumed to be one loss: {}. ", loss.why),
    }
}

/// What a model is used for that another site would have to be able to do.
fn for_what(scene: &Scene<'_>, models: &BTreeSet<usize>) -> String {
    let uses = |at: &usize| -> Option<&crate::config_file::Model> { scene.file.model.get(*at) };
    let with_others = models.iter().any(|at| {
        let model: &Model = &scene.core().models[*at];
        model.served_by.len() + model.substitutes.len() > 1
            && uses(at).is_some_and(|each| !each.needs.is_empty() || each.window_min.is_some())
    });
    let text = if with_others { " who can do what it is used for" } else { "" };
    text.to_string()
}

/// Models in a title: their names, or how many there are.
fn counted(names: &[String]) -> String {
    match names.len() {
        0..=2 => listed(names),
        many => format!("{many} models"),
    }
}

/// Models that were just named.
fn again(names: &[String]) -> String {
    if let [one] = names { one.clone() } else { String::from("them") }
}

/// The cheapest way out: an account that costs nothing until it is used.
fn second_site(scene: &Scene<'_>, loss: &Loss, models: &BTreeSet<usize>) -> String {
    if let Some(variable) = scene.resolved.missing.first() {
        return format!(
            "set {variable} or another provider's key: billed by use, it costs nothing until the \
             outage, which then becomes answers by another model"
        );
    }
    let elsewhere: Vec<usize> =
        scene.remote().into_iter().filter(|at| !loss.sites.contains(at)).collect();
    let all = models.iter().filter_map(|at| scene.core().models.get(*at));
    let asked: BTreeSet<usize> = all
        .flat_map(|model| model.served_by.iter().chain(&model.substitutes))
        .map(|id| scene.site_of(*id))
        .collect();
    if let Some(at) = elsewhere.iter().find(|at| !asked.contains(at)) {
        return format!("name a model of {} in substitutes", scene.site(*at));
    }
    if let Some(at) = elsewhere.first() {
        return format!(
            "have {} serve a model that can do it (see below), or add another site",
            scene.site(*at)
        );
    }
    let mut text = String::from(
        "add a [[site]] of another provider and name it in substitutes: billed by use, it costs \
         nothing until the outage, which then becomes answers by another model",
    );
    if !(0..scene.core().sites.len()).any(|at| scene.is_embedded(at)) {
        text.push_str(
            "; a site with engine = { model = \"builtin\" } would at least tell users what is down",
        );
    }
    text
}

/// Keys of one account that are counted as several sites.
pub fn accounts(scene: &Scene<'_>) -> Vec<Finding> {
    let is_account = |loss: &&Loss| loss.name.starts_with("account:");
    let fates = fate::fates(scene);
    let same_key: Vec<&Loss> = fates.iter().filter(|loss| loss.name.starts_with("key:")).collect();
    let mut told = same_key.clone();
    // By one key it is told already.
    let is_new = |loss: &&Loss| !same_key.iter().any(|key| key.sites == loss.sites);
    told.extend(fates.iter().filter(is_account).filter(is_new));
    told.into_iter().map(|loss| one_account(scene, loss)).collect()
}

fn one_account(scene: &Scene<'_>, loss: &Loss) -> Finding {
    let sites: Vec<&str> = loss.sites.iter().map(|at| scene.site(*at)).collect();
    let shown = listed(&sites);
    let assumed = if loss.assumed { "Assumed: " } else { "" };
    let unless = match loss.unless.is_empty() {
        true => String::new(),
        false => format!("; {}", loss.unless),
    };
    Finding::new("MS106", Severity::Warning, loss.place.clone())
        .saying(
            format!("{shown} are one account"),
            format!(
                "{assumed}{}. Limits are counted over the whole account, so the sites together \
                 carry what one of them does, and a bill or a block ends them together.",
                loss.why
            ),
            format!("keep one of them, and add a site elsewhere{unless}"),
        )
        .at_loss(&loss.name, loss.assumed)
}

/// The loss of a gateway, of a name server, and what is not said of payment.
pub fn around(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(one_gateway(scene));
    found.extend(one_resolver(scene));
    found.extend(payment_unsaid(scene));
    found
}

fn one_gateway(scene: &Scene<'_>) -> Option<Finding> {
    let said = scene.gateways();
    if said.is_some_and(|count| count > 1) {
        return None;
    }
    let severity = if said.is_some() { Severity::Error } else { Severity::Warning };
    let assumed = if said.is_some() { "" } else { "Assumed: one process runs this file. " };
    let key = match scene.file.check.gateways {
        None if !scene.file.gateway.is_empty() => "gateway.0",
        Some(_) | None => "check.gateways",
    };
    let finding = Finding::new("MS107", severity, scene.place(key)).saying(
        "one gateway",
        format!(
            "{assumed}While it restarts, or its machine is down, nobody reaches any model, however \
             many sites there are."
        ),
        "run it on two machines behind one address, and say so: [check] gateways = 2, or a \
         [[gateway]] for each",
    );
    Some(finding.at_loss("gateway", said.is_none()))
}

fn one_resolver(scene: &Scene<'_>) -> Option<Finding> {
    let asks = |at: &usize| scene.provider(*at).and_then(|each| each.resolver);
    let remote = scene.remote();
    let twice = remote.iter().find_map(|at| {
        let server = asks(at)?;
        remote.iter().find(|other| *other > at && asks(other) == Some(server))
    })?;
    let server = asks(twice)?;
    let finding = Finding::new("MS108", Severity::Note, scene.site_place(*twice, "resolver"));
    Some(finding.saying(
        format!("several sites are found by the name server {}", server.ip()),
        "Running gateways keep the last good answer for a day, so its loss is not noticed; one \
         that starts without it finds none of these sites.",
        "give one of them another resolver, or none",
    ))
}

fn payment_unsaid(scene: &Scene<'_>) -> Option<Finding> {
    let paid = |at: &usize| {
        scene
            .provider(*at)
            .is_some_and(|each| each.key.is_some() && !fate::is_private_url(&each.base_url))
    };
    let says =
        |at: &usize| scene.resolved.origins[*at].fate.iter().any(|each| fate::kind(each) == "pay");
    let silent: Vec<usize> =
        scene.remote().into_iter().filter(paid).filter(|at| !says(at)).collect();
    let [first, _, ..] = silent.as_slice() else { return None };
    // One account is paid in one way.
    let is_one = |loss: &Loss| {
        let kinds = ["account:", "key:"];
        kinds.iter().any(|kind| loss.name.starts_with(kind))
            && silent.iter().all(|at| loss.sites.contains(at))
    };
    if fate::fates(scene).iter().any(is_one) {
        return None;
    }
    let names: Vec<&str> = silent.iter().map(|at| scene.site(*at)).collect();
    let finding = Finding::new("MS109", Severity::Note, scene.site_place(*first, "fate"));
    Some(finding.saying(
        format!("nobody said how {} are paid", listed(&names)),
        "One card that expires, or one balance, ends every account behind it at once. It is \
         counted as several until you say otherwise.",
        "say it at each site: fate = [\"pay:card-1\"]",
    ))
}
