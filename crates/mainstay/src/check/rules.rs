//! What stands in the file and can never happen, and limits that do not fit together.

use super::fate;
use super::finding::{Finding, Place, Severity, listed};
use super::scene::Scene;
use crate::config_file::problem::nearest;
use mainstay_core::config::Limits;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// Rules that can never fire.
pub fn findings(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = scene.resolved.warnings.iter().map(as_told).collect();
    found.extend(unused_sites(scene));
    found.extend(substitutes(scene));
    found.extend(tiers(scene));
    found.extend(limits(scene));
    found.extend(lone_fates(scene));
    found.extend(settings(scene));
    found
}

/// Limits that outlast the clients.
pub fn times(scene: &Scene<'_>) -> Vec<Finding> {
    let Some(patience) = scene.file.check.client_timeout else { return Vec::new() };
    let Limits { request, first_token, first_token_unmeasured, connect, .. } = scene.core().limits;
    let patience = patience.0;
    let mut found = Vec::new();
    if request > patience {
        let key = match scene.file.limits.request {
            Some(_) => "limits.request",
            None => "check.client_timeout",
        };
        let finding = Finding::new("MS501", Severity::Warning, scene.place(key));
        found.push(finding.saying(
            format!("requests live for {}, clients wait {}", shown(request), shown(patience)),
            format!(
                "After {} the client has left, and its library asks again. Whatever is tried in \
                 the last {} of a request's life is for nobody, just when sites are slow.",
                shown(patience),
                shown(request - patience)
            ),
            format!(
                "[limits] request = \"{}\", or a longer timeout in the client",
                shown(patience)
            ),
        ));
    }
    let longest = first_token.1.max(first_token_unmeasured) + connect;
    if longest * 2 > patience {
        let half = Duration::from_secs((patience / 2).saturating_sub(connect).as_secs().max(1));
        let file = &scene.file.limits;
        let key = match first_token.1 >= first_token_unmeasured {
            true if file.first_token.is_some() => "limits.first_token",
            false if file.first_token_unmeasured.is_some() => "limits.first_token_unmeasured",
            true | false => "check.client_timeout",
        };
        let finding = Finding::new("MS502", Severity::Warning, scene.place(key));
        found.push(finding.saying(
            format!(
                "a silent site may be waited for {} of a client's {}",
                shown(longest),
                shown(patience)
            ),
            "A site that is slow by habit is given up so late that the second one has less time \
             than the first had: the client leaves before it can answer.",
            format!("[limits] first_token = [\"1s\", \"{}\"]", shown(half)),
        ));
    }
    found
}

fn shown(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        _ if !millis.is_multiple_of(1_000) => format!("{millis}ms"),
        _ if millis.is_multiple_of(60_000) && millis > 60_000 => format!("{}m", millis / 60_000),
        _ => format!("{}s", millis / 1_000),
    }
}

/// What `serve` warns of as well.
fn as_told(warning: &crate::config_file::problem::Problem) -> Finding {
    let (what, mend) = warning.what.split_once("; ").unwrap_or((&warning.what, ""));
    let place = Place { line: warning.place.clone(), key: warning.key.clone() };
    Finding::new("MS001", Severity::Warning, place).saying(what, "", mend)
}

fn unused_sites(scene: &Scene<'_>) -> Vec<Finding> {
    let used: BTreeSet<u16> = scene.core().targets.iter().map(|target| target.site.0).collect();
    let unused =
        scene.remote().into_iter().filter(|at| !used.iter().any(|u| usize::from(*u) == *at));
    unused
        .map(|at| {
            let name = scene.site(at);
            let finding = Finding::new("MS401", Severity::Warning, scene.site_place(at, "name"));
            finding.saying(
                format!("no model uses {name}"),
                "It is in the file and helps nobody: no [[model]] names it in served_by or \
                 substitutes.",
                format!("name one of its models: substitutes = [\"{name}/…\"], or take it away"),
            )
        })
        .collect()
}

fn substitutes(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, file) in scene.file.model.iter().enumerate() {
        let Some(model) = scene.core().models.get(at) else { continue };
        let equals: BTreeSet<usize> = model.served_by.iter().map(|id| scene.site_of(*id)).collect();
        for (which, id) in model.substitutes.iter().enumerate() {
            let site = scene.site_of(*id);
            if equals.len() != 1 || !equals.contains(&site) {
                continue;
            }
            let place = scene.place(&format!("model.{at}.substitutes.{which}"));
            let shown = scene.shown(*id);
            found.push(
                Finding::new("MS402", Severity::Warning, place)
                    .saying(
                        format!("{shown} stands in for what dies with it"),
                        format!(
                            "It is at {}, like all that serves {}: when that site is lost, so is \
                             the substitute. It helps only when the one model has trouble.",
                            scene.site(site),
                            model.name
                        ),
                        "name a model of another site after it",
                    )
                    .of(vec![model.name.clone()]),
            );
        }
        if file.substitutes_may_finish.is_some() && model.substitutes.is_empty() {
            let place = scene.place(&format!("model.{at}.substitutes_may_finish"));
            found.push(
                Finding::new("MS405", Severity::Warning, place)
                    .saying(
                        format!("{} has no substitutes that could finish anything", model.name),
                        "substitutes_may_finish says what substitutes may do, and there is none.",
                        "add substitutes, or take the line away",
                    )
                    .of(vec![model.name.clone()]),
            );
        }
    }
    found
}

/// A class with a share of its own that no key is of: the share is kept from others for nobody.
fn tiers(scene: &Scene<'_>) -> Vec<Finding> {
    let keys = &scene.resolved.setup.keys;
    let mut found = Vec::new();
    for (at, file) in scene.file.tier.iter().enumerate() {
        let Some(name) = &file.name else { continue };
        let position = scene.core().tiers.iter().position(|tier| tier.name == *name);
        if keys.iter().any(|key| Some(usize::from(key.tier)) == position) {
            continue;
        }
        let finding =
            Finding::new("MS403", Severity::Warning, scene.place(&format!("tier.{at}.name")));
        let why = match keys.is_empty() {
            true => "Without any [[key]] everybody is of the highest tier",
            false => "No [[key]] is of this tier",
        };
        found.push(finding.saying(
            format!("nobody is of tier {name}"),
            format!("{why}, so its rules never apply to anyone."),
            format!("make a key: mainstay keys create --tier {name}, or take the tier away"),
        ));
    }
    found
}

/// Waits that end later than what they are part of.
fn limits(scene: &Scene<'_>) -> Vec<Finding> {
    let Limits { request, first_token, first_token_unmeasured, stall, drip, .. } =
        scene.core().limits;
    let waits = [
        ("first_token", first_token.0),
        ("first_token_unmeasured", first_token_unmeasured),
        ("stall", stall.0),
        ("drip", drip),
        ("wait_max", scene.core().limits.wait_max),
    ];
    let late: Vec<&str> =
        waits.into_iter().filter(|(_, wait)| *wait >= request).map(|(key, _)| key).collect();
    if late.is_empty() {
        return Vec::new();
    }
    let finding = Finding::new("MS404", Severity::Warning, scene.place("limits.request"));
    vec![finding.saying(
        format!("a request ends after {}, before {}", shown(request), listed(&late)),
        "It is over before these limits are reached: a site that fails this way is never left for \
         another one.",
        "lower them below limits.request, or raise that",
    )]
}

/// A fate of one site is shared with nobody: a slip of the pen, or a site that is gone.
fn lone_fates(scene: &Scene<'_>) -> Vec<Finding> {
    let remote = scene.remote().len();
    let others: Vec<String> = fate::fates(scene).into_iter().map(|loss| loss.name).collect();
    let alone = fate::alone(scene);
    let mut found = Vec::new();
    for (at, which, name) in &alone {
        let rest = alone.iter().filter(|(_, _, other)| other != name).map(|(_, _, other)| other);
        let known = rest.chain(&others).map(String::as_str);
        // Words of one kind differ on purpose, e.g. pay:card-1 and pay:card-2; a slip is nearer.
        let near = known.filter(|other| slipped(name, other));
        let near = nearest(name, near);
        if let Some(near) = near.filter(|_| remote > 1) {
            let place = scene.site_place(*at, &format!("fate.{which}"));
            found.push(Finding::new("MS406", Severity::Warning, place).saying(
                format!("only {} has the fate {name}", scene.site(*at)),
                "A fate that one site alone has is never lost with another; what it was meant to \
                 say is not counted.",
                format!("was `{near}` meant?"),
            ));
        }
    }
    found
}

/// Whether one of two fates is likely the other one, misspelt: letters differ, not numbers.
fn slipped(a: &str, b: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let kinds = |text: &str| text.split_once(':').map(|(kind, _)| kind.to_string());
    a != b && digits(a) == digits(b) && strsim::damerau_levenshtein(a, b) <= 2 && {
        let rest = |text: &str| text.rsplit(':').next().unwrap_or_default().to_string();
        kinds(a) != kinds(b) || rest(a).len() > 3
    }
}

/// Settings of a site that nothing asks for.
fn settings(scene: &Scene<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, file) in scene.file.site.iter().enumerate() {
        let Some(provider) = scene.provider(at) else { continue };
        let is_plain = provider.base_url.starts_with("http://");
        let is_literal = fate::host(&provider.base_url).parse::<IpAddr>().is_ok();
        let idle = [
            ("ca_file", file.ca_file.is_some() && is_plain, "the address is http, without TLS"),
            ("resolver", file.resolver.is_some() && is_literal, "the address is no name"),
        ];
        let idle: Vec<_> = idle.into_iter().filter(|(_, idle, _)| *idle).collect();
        let keys: Vec<&str> = idle.iter().map(|(key, ..)| *key).collect();
        let Some((key, _, why)) = idle.first() else { continue };
        let finding = Finding::new("MS407", Severity::Warning, scene.site_place(at, key));
        found.push(finding.saying(
            format!("{} of {} has no effect", listed(&keys), scene.site(at)),
            format!("It is never asked for, because {why}."),
            "take it away, or mend base_url",
        ));
    }
    found
}
