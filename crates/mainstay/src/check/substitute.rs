//! Whether who stands in can do what a model is used for: context window, tools, media, JSON.
//!
//! What it is used for is what the file says (`needs`, `window_min`). Where it says nothing, those
//! who stand in are compared with the first of `served_by`, and still counted on.

use super::finding::{Finding, Severity, listed};
use super::scene::Scene;
use mainstay_core::config::Needs;
use mainstay_core::names::TargetId;

/// Whether a target can do what the file says the model is used for. A window that is not known
/// is hoped to be large enough.
pub fn fits(scene: &Scene<'_>, model: usize, id: TargetId) -> bool {
    let target = scene.target(id);
    let window = window_min(scene, model);
    target.offers.covers(needs(scene, model))
        && window.is_none_or(|least| target.window.is_none_or(|has| has >= least))
}

/// What the file says the model is used for, beyond text.
fn needs(scene: &Scene<'_>, model: usize) -> Needs {
    let words = scene.file.model.get(model).map(|each| each.needs.as_slice()).unwrap_or_default();
    let has = |word: &str| words.iter().any(|each| each == word);
    Needs {
        tools: has("tools"),
        media: has("media"),
        json: has("json"),
        embeddings: has("embeddings"),
        completions: has("completions"),
    }
}

fn window_min(scene: &Scene<'_>, model: usize) -> Option<u32> {
    scene.file.model.get(model).and_then(|each| each.window_min)
}

/// Whoever is too small for the model that it answers for.
pub fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    // What nobody wrote nobody can change: models of the environment differ as they do.
    for at in 0..scene.file.model.len().min(scene.core().models.len()) {
        let model = &scene.core().models[at];
        let lists = [("served_by", &model.served_by), ("substitutes", &model.substitutes)];
        for (key, list) in lists {
            for (which, id) in list.iter().enumerate() {
                // The built-in model is told of by itself: it fits nothing.
                if scene.is_builtin(scene.site_of(*id)) {
                    continue;
                }
                let seat = Seat { model: at, id: *id, path: format!("model.{at}.{key}.{which}") };
                found.extend(window(scene, &seat));
                found.extend(features(scene, &seat));
            }
        }
        found.extend(vectors(scene, at));
    }
    found
}

/// A target in a list of a model.
struct Seat {
    model: usize,
    id: TargetId,
    path: String,
}

fn window(scene: &Scene<'_>, seat: &Seat) -> Option<Finding> {
    let name = &scene.core().models[seat.model].name;
    let shown = scene.shown(seat.id);
    let has = scene.target(seat.id).window?;
    let (severity, least, happens) = match window_min(scene, seat.model) {
        Some(least) if has < least => (
            Severity::Warning,
            least,
            format!(
                "{name} is used with up to {least} tokens. {shown} refuses what is longer than \
                 {has}, so it is not counted on."
            ),
        ),
        Some(_) => return None,
        None => {
            let first = scene.core().models[seat.model].served_by.first()?;
            let least = scene.target(*first).window?;
            if has >= least {
                return None;
            }
            let happens = format!(
                "Requests of more than {has} tokens cannot go there in an outage and fail; {} \
                 takes {least}.",
                scene.shown(*first)
            );
            (Severity::Note, least, happens)
        }
    };
    let mend = format!(
        "name a model with {least} tokens, or say what is used: window_min = {has} in its [[model]]"
    );
    let title = format!("{shown} has a window of {has} tokens, {name} needs {least}");
    let finding = Finding::new("MS301", severity, scene.place(&seat.path));
    Some(finding.saying(title, happens, mend).of(vec![name.clone()]))
}

fn features(scene: &Scene<'_>, seat: &Seat) -> Option<Finding> {
    let model = &scene.core().models[seat.model];
    let offers = scene.target(seat.id).offers;
    let shown = scene.shown(seat.id);
    let said = lacks(offers, needs(scene, seat.model));
    if !said.is_empty() {
        let words = listed(&said);
        let finding = Finding::new("MS302", Severity::Warning, scene.place(&seat.path));
        let happens = format!(
            "{} is used with {words}. {shown} refuses such requests, so it is not counted on.",
            model.name
        );
        let title = format!("{shown} has no {words}, {} needs it", model.name);
        let mend = format!("name a model with {words}, or take it from needs");
        return Some(finding.saying(title, happens, mend).of(vec![model.name.clone()]));
    }
    let first = scene.target(*model.served_by.first()?).offers;
    // Tools, media and JSON are what chats use; the other two are endpoints of their own.
    let chat = Needs { embeddings: false, completions: false, ..first };
    let unlike = lacks(offers, chat);
    let is_said = scene.file.model.get(seat.model).is_some_and(|each| !each.needs.is_empty());
    if unlike.is_empty() || is_said {
        return None;
    }
    let words = listed(&unlike);
    let finding = Finding::new("MS302", Severity::Note, scene.place(&seat.path));
    let title = format!("{shown} has no {words}");
    let happens = format!("In an outage requests of {} that need {words} fail.", model.name);
    let mend = String::from("say what the model is used for: needs = [\"tools\"], or needs = […]");
    Some(finding.saying(title, happens, mend).of(vec![model.name.clone()]))
}

/// What is asked and not offered.
fn lacks(offers: Needs, asked: Needs) -> Vec<&'static str> {
    let each = [
        ("tools", asked.tools && !offers.tools),
        ("media", asked.media && !offers.media),
        ("JSON mode", asked.json && !offers.json),
        ("embeddings", asked.embeddings && !offers.embeddings),
        ("completions", asked.completions && !offers.completions),
    ];
    each.into_iter().filter(|(_, lacks)| *lacks).map(|(word, _)| word).collect()
}

/// Vectors of another model mean nothing beside those that are stored.
fn vectors(scene: &Scene<'_>, at: usize) -> Option<Finding> {
    let model = &scene.core().models[at];
    if !needs(scene, at).embeddings || model.substitutes.is_empty() {
        return None;
    }
    let finding =
        Finding::new("MS303", Severity::Warning, scene.place(&format!("model.{at}.substitutes")));
    Some(
        finding
            .saying(
                format!("{} gives vectors, and another model stands in", model.name),
                "Vectors of another model mean nothing beside those that are stored: searches \
                 find the wrong things, and nobody is told.",
                "take its substitutes away; a refusal is better, and served_by may have more sites",
            )
            .of(vec![model.name.clone()]),
    )
}
