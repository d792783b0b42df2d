//! What is said at the start: what was found and why, what serves what, what each model survives,
//! and one line that can be pasted.

use crate::config_file::resolve::Resolved;
use mainstay_core::config::{Config, Model};
use mainstay_core::names::TargetId;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;

/// More models than this are counted rather than listed: providers offer dozens.
const MODELS_SHOWN: usize = 12;

/// More ways out than this do not make a line clearer.
const TARGETS_SHOWN: usize = 3;

/// The whole text but for the last line; `api` is where the API listens.
pub fn text(resolved: &Resolved, api: SocketAddr) -> String {
    let core = &resolved.setup.core;
    let mut text = format!("mainstay {}\n\n", env!("CARGO_PKG_VERSION"));
    sites(resolved, &mut text);
    text.push('\n');
    models(core, &mut text);
    text.push('\n');
    let mut losses = core.models.iter().filter(|model| shown(core, model)).collect::<Vec<_>>();
    losses.truncate(MODELS_SHOWN);
    for (at, model) in losses.into_iter().enumerate() {
        let head = if at == 0 { "survives" } else { "" };
        let _ = writeln!(text, "{head:<10}{}", survives(resolved, model));
    }
    if !is_gateway(resolved) {
        text.push_str("\nThis node takes no clients: gateways reach it by its link.\n");
        text.push_str(&page(resolved));
        text.push('\n');
        return text;
    }
    let _ = writeln!(text, "\nOpenAI-compatible API at {}", url(resolved, api));
    text.push_str(&page(resolved));
    let _ = writeln!(text, "Try it:\n\n  {}\n", curl(resolved, api));
    text
}

/// Where the public's page is, if it is shown, and the operators' console, in a line each.
fn page(resolved: &Resolved) -> String {
    let (status, admin) = (resolved.setup.listen.status, resolved.setup.listen.admin);
    let status = status.map(|status| format!("Status page at http://{status}/\n"));
    format!("{}Console at http://{admin}/\n", status.unwrap_or_default())
}

fn is_gateway(resolved: &Resolved) -> bool {
    resolved.setup.node.as_ref().is_none_or(|node| node.roles.gateway)
}

/// The line for machines: where the listeners are, with real ports.
pub fn listening(resolved: &Resolved) -> String {
    let listen = &resolved.setup.listen;
    let scheme = if listen.tls.is_some() { "https" } else { "http" };
    let mut line = match is_gateway(resolved) {
        true => format!("listening api={scheme}://{} admin=http://{}", listen.api, listen.admin),
        false => format!("listening admin=http://{}", listen.admin),
    };
    for address in listen.dns.iter().filter(|_| resolved.setup.dns.is_some()) {
        let _ = write!(line, " dns={address}");
    }
    if let Some(link) = listen.link {
        let _ = write!(line, " link=https://{link}");
    }
    if let Some(status) = listen.status {
        let _ = write!(line, " status=http://{status}");
    }
    line
}

fn sites(resolved: &Resolved, text: &mut String) {
    let names = resolved.setup.core.sites.iter().map(|site| site.name.as_str());
    let width = names.clone().map(str::len).max().unwrap_or(0);
    for (at, (name, origin)) in names.zip(&resolved.origins).enumerate() {
        let head = if at == 0 { "sites" } else { "" };
        let _ = writeln!(text, "{head:<10}{name:<width$}  {}", origin.why);
    }
    if !resolved.missing.is_empty() {
        let _ = writeln!(text, "{:<10}not set: {}", "", resolved.missing.join(", "));
    }
}

fn models(core: &Config, text: &mut String) {
    let width = core.models.iter().map(|model| model.name.len()).max().unwrap_or(0).min(32);
    for (at, model) in core.models.iter().take(MODELS_SHOWN).enumerate() {
        let head = if at == 0 { "models" } else { "" };
        let list = |targets: &[TargetId]| {
            let shown = targets.iter().take(TARGETS_SHOWN).map(|id| name_of(core, *id));
            let mut text = shown.collect::<Vec<_>>().join(", ");
            if targets.len() > TARGETS_SHOWN {
                let _ = write!(text, " and {} more", targets.len() - TARGETS_SHOWN);
            }
            text
        };
        let mut line = format!("{head:<10}{:<width$}  {}", model.name, list(&model.served_by));
        if !model.substitutes.is_empty() {
            let _ = write!(line, "; else {}", list(&model.substitutes));
        }
        let _ = writeln!(text, "{line}");
    }
    if let Some(more) = core.models.len().checked_sub(MODELS_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "{:<10}and {more} more: GET /v1/models", "");
    }
}

/// Models that differ in what they survive. Those that are named like one of a site and have the
/// same way out as `chat` would only repeat its line.
fn shown(core: &Config, model: &Model) -> bool {
    let chat = core.models.iter().find(|each| each.name == "chat");
    let Some(chat) = chat.filter(|chat| chat.name != model.name) else { return true };
    let sites = |model: &Model| -> BTreeSet<u16> {
        let all = model.served_by.iter().chain(&model.substitutes);
        all.filter_map(|id| Some(core.targets.get(usize::from(id.0))?.site.0)).collect()
    };
    sites(chat) != sites(model)
}

/// What `model` does when one thing is lost: each provider, and each fate that sites share. The
/// embedded engine is not lost alone; it goes when Mainstay goes.
fn survives(resolved: &Resolved, model: &Model) -> String {
    let core = &resolved.setup.core;
    let sites = core.sites.iter().enumerate().filter(|(_, site)| !site.is_embedded());
    let mut lost: Vec<(String, Vec<usize>)> =
        sites.map(|(at, site)| (site.name.clone(), vec![at])).collect();
    let fates: BTreeSet<&String> =
        resolved.origins.iter().flat_map(|origin| &origin.fate).collect();
    for fate in fates {
        let shares = |at: &usize| resolved.origins[*at].fate.contains(fate);
        let sites: Vec<usize> = (0..core.sites.len()).filter(shares).collect();
        if sites.len() > 1 {
            lost.push((fate.clone(), sites));
        }
    }
    let mut whole = Vec::new();
    let mut other = Vec::new();
    let mut dead = Vec::new();
    for (name, sites) in lost {
        let left = |id: &&TargetId| {
            core.targets
                .get(usize::from(id.0))
                .is_some_and(|target| !sites.contains(&usize::from(target.site.0)))
        };
        let uses = |ids: &[TargetId]| ids.iter().any(|id| !left(&id));
        if !uses(&model.served_by) && !uses(&model.substitutes) {
            continue;
        }
        if model.served_by.iter().any(|id| left(&id)) {
            whole.push(name);
        } else if let Some(id) = model.substitutes.iter().find(left) {
            other.push(format!("{name} (by {})", name_of(core, *id)));
        } else {
            dead.push(name);
        }
    }
    whole.extend(other);
    if whole.is_empty() && dead.is_empty() {
        return format!("{} needs no provider", model.name);
    }
    let mut line = match whole.is_empty() {
        true => format!("{} survives no loss", model.name),
        false => format!("{} survives the loss of: {}", model.name, whole.join(", ")),
    };
    if !dead.is_empty() {
        let _ = write!(line, "; not of: {}", dead.join(", "));
    }
    line
}

fn name_of(core: &Config, id: TargetId) -> String {
    let target = core.targets.get(usize::from(id.0));
    target.map_or_else(String::new, |target| {
        let site = core.sites.get(usize::from(target.site.0));
        format!("{}/{}", site.map_or("?", |site| &site.name), target.model)
    })
}

/// Where a client on this machine reaches the API.
fn url(resolved: &Resolved, api: SocketAddr) -> String {
    let scheme = if resolved.setup.listen.tls.is_some() { "https" } else { "http" };
    let mut here = api;
    if here.ip().is_unspecified() {
        here.set_ip(match api {
            SocketAddr::V4(_) => [127, 0, 0, 1].into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("{scheme}://{here}/v1")
}

/// A line that works as it is printed, but for the key where one is needed: it is not ours to know.
fn curl(resolved: &Resolved, api: SocketAddr) -> String {
    let setup = &resolved.setup;
    let models = &setup.core.models;
    let chat = models.iter().find(|model| model.name == "chat").or(models.first());
    let model = chat.map_or("chat", |model| &model.name);
    let key =
        if setup.keys.is_empty() { "" } else { " -H \"authorization: Bearer $MAINSTAY_KEY\"" };
    // The certificate of a first trial is rarely one that this machine trusts.
    let flags = if setup.listen.tls.is_some() { "-kN" } else { "-N" };
    format!(
        "curl {flags} {}/chat/completions{key} -H 'content-type: application/json' -d \
         '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\
         \"Which providers are down?\"}}]}}'",
        url(resolved, api)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::Serve;
    use crate::environment::Environment;
    use crate::start::configuration;

    fn said(environment: Environment) -> String {
        let resolved = configuration(&Serve::default(), &environment).expect("right");
        text(&resolved, ([127, 0, 0, 1], 8080).into())
    }

    #[test]
    fn a_loss_is_told_with_who_stands_in_and_the_engine_is_never_lost_alone() {
        let keys = [("DEEPSEEK_API_KEY", "a"), ("DASHSCOPE_API_KEY", "b")];
        let said = said(Environment::from(keys));
        let line = said.lines().find(|line| line.starts_with("survives")).expect("a line");
        let told = "survives  chat survives the loss of: dashscope, deepseek (by dashscope/";
        assert!(line.starts_with(told) && !line.contains("builtin"), "{line}");
        assert!(said.contains("builtin needs no provider"), "{said}");
    }

    #[test]
    fn with_nothing_at_all_it_says_that_no_provider_is_needed() {
        let said = said(Environment::default());
        assert!(said.contains("survives  chat needs no provider\n"), "{said}");
        assert!(said.contains("not set: DEEPSEEK_API_KEY"), "{said}");
        assert!(said.contains("\nConsole at http://127.0.0.1:8081/\n"), "{said}");
        assert!(said.contains("curl -N http://127.0.0.1:8080/v1/chat/completions"), "{said}");
    }
}
