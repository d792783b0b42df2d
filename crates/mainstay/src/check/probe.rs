//! Asks the sites themselves: are they there, do they take our key, which models do they have, and
//! do they answer from one network.
//!
//! One `GET` of the list of models for each site, and one look-up of its name. No tokens are
//! spent, nothing is changed, and no key or body of an error is shown. Who issued a certificate is
//! left out: a lost authority takes nobody down before a certificate ends.

mod name;

use super::fate;
use super::finding::{Finding, Severity, listed};
use super::scene::Scene;
use crate::config_file::problem::nearest;
use bytes::Bytes;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use mainstay_core::names::ErrorClass;
use mainstay_server::attempt::head;
use mainstay_server::dialect::{Reply, Wire};
use mainstay_server::setup::{self, Provider};
use mainstay_server::upstream::{Http2, Origin, OriginOptions, Outbound, ReplyBody};
use name::Found;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// The longest that a site may take for its list of models, and the largest list that is read.
const PATIENCE: Duration = Duration::from_secs(10);
const LIST_MAX: usize = 4 << 20;
/// A list of models is a small thing: a site that takes longer is far away or in trouble.
const SLOW: Duration = Duration::from_secs(2);
/// Where a list says how large a model's window is, by provider.
const WINDOWS: [&str; 4] =
    ["context_length", "max_model_len", "context_window", "max_input_tokens"];
/// Headers by which a CDN gives itself away.
const CDNS: [(&str, &str); 5] = [
    ("cf-ray", "Cloudflare"),
    ("x-amz-cf-id", "CloudFront"),
    ("x-fastly-request-id", "Fastly"),
    ("x-azure-ref", "Azure Front Door"),
    ("eagleid", "Alibaba Cloud CDN"),
];

/// How a site took the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It has a list of models.
    Reachable,
    /// It is there and has no list.
    Unlisted,
    /// It is there and wants another key, or money.
    Refused,
    /// It is not there, or does not answer.
    Unreachable,
    /// It was not asked.
    Skipped,
}

/// What a site said.
#[derive(Clone, Debug, Serialize)]
pub struct Probed {
    /// Its name.
    pub site: String,
    /// Its host.
    pub host: String,
    /// How it took the question.
    pub outcome: Outcome,
    /// Why, in our words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How long it took, connecting included.
    pub took_ms: u64,
    /// Where its name leads.
    pub addresses: Vec<IpAddr>,
    /// Other names on the way there.
    pub aliases: Vec<String>,
    /// The CDN in front of it, if it gives itself away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cdn: Option<String>,
    /// Its models, and the window of each where the list says it.
    pub models: BTreeMap<String, Option<u32>>,
    /// Limits that its headers told, as they are.
    pub limits: BTreeMap<String, String>,
    #[serde(skip)]
    at: usize,
}

/// Asks every site, all at once.
pub fn probe(scene: &Scene<'_>) -> Vec<Probed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let asked = scene.remote().into_iter().filter_map(|at| {
        let provider = scene.provider(at)?.clone();
        Some((at, scene.site(at).to_string(), provider))
    });
    let asked: Vec<_> = asked.collect();
    let mut probed: Vec<Probed> = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (at, site, provider) in asked {
            tasks.spawn(ask(at, site, provider));
        }
        tasks.join_all().await
    });
    probed.sort_by_key(|each| each.at);
    probed
}

async fn ask(at: usize, site: String, provider: Provider) -> Probed {
    let mut probed = Probed {
        site,
        host: fate::host(&provider.base_url),
        outcome: Outcome::Skipped,
        why: String::new(),
        took_ms: 0,
        addresses: Vec::new(),
        aliases: Vec::new(),
        cdn: None,
        models: BTreeMap::new(),
        limits: BTreeMap::new(),
        at,
    };
    if provider.key.as_ref().is_some_and(|key| key.reveal().starts_with("presumed:")) {
        probed.why = String::from("its key is not here");
        return probed;
    }
    let Found { addresses, aliases } = name::look_up(&probed.host, provider.resolver).await;
    (probed.addresses, probed.aliases) = (addresses, aliases);
    let start = Instant::now();
    let answer = timeout(PATIENCE, models(&provider, &mut probed)).await;
    probed.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if answer.is_err() {
        probed.outcome = Outcome::Unreachable;
        probed.why = format!("no answer within {} s", PATIENCE.as_secs());
    }
    probed
}

/// Asks for the list of models.
async fn models(provider: &Provider, probed: &mut Probed) {
    let options = OriginOptions {
        ca_file: provider.ca_file.clone(),
        resolver: provider.resolver,
        http2: match provider.http2 {
            setup::Http2::Auto => Http2::Auto,
            setup::Http2::Always => Http2::PriorKnowledge,
            setup::Http2::Never => Http2::Never,
        },
        ..OriginOptions::default()
    };
    let origin = match Origin::new(&provider.base_url, options) {
        Ok(origin) => origin,
        Err(words) => {
            (probed.outcome, probed.why) = (Outcome::Unreachable, words);
            return;
        }
    };
    let path = match provider.dialect.wire {
        Wire::Messages => "/v1/models",
        Wire::Chat | Wire::Responses => "/models",
    };
    let (method, body) = (Method::GET, Bytes::new());
    let dialect = &provider.dialect;
    let headers = head(dialect, provider.key.as_ref(), dialect.headers.clone());
    let outbound = Outbound { path, method, headers, body };
    match origin.send(outbound).await {
        Err(error) => {
            probed.outcome = Outcome::Unreachable;
            probed.why = error.alarm.unwrap_or(error.failure.message);
        }
        Ok(mut reply) => {
            let redirect = reply.redirect();
            learn(&reply.headers, probed);
            let list = read(&mut reply.body).await;
            match redirect {
                Some(words) => (probed.outcome, probed.why) = (Outcome::Unreachable, words),
                None => judge(provider, (reply.status, &reply.headers, &list), probed),
            }
        }
    }
    origin.shutdown().await;
}

/// What the reply means, in the dialect's words.
fn judge(
    provider: &Provider,
    (status, headers, body): (StatusCode, &HeaderMap, &[u8]),
    probed: &mut Probed,
) {
    let list = serde_json::from_slice::<Value>(body).ok();
    let entries = list.as_ref().and_then(|list| list.get("data")?.as_array());
    if let (StatusCode::OK, Some(entries)) = (status, entries) {
        probed.models = entries.iter().filter_map(entry).collect();
        probed.outcome = Outcome::Reachable;
        return;
    }
    let failure = provider.dialect.classify(&Reply { status: status.as_u16(), headers, body });
    let status = status.as_u16();
    (probed.outcome, probed.why) = match failure.class {
        ErrorClass::OurAuth => (Outcome::Refused, format!("it refuses our key ({status})")),
        ErrorClass::OurBilling => (Outcome::Refused, format!("it wants to be paid ({status})")),
        _ if status >= 500 => (Outcome::Unreachable, format!("it answers {status}")),
        _ => (Outcome::Unlisted, format!("it has no list of models ({status})")),
    };
}

fn entry(entry: &Value) -> Option<(String, Option<u32>)> {
    let name = entry.get("id")?.as_str()?.to_string();
    let window = WINDOWS.iter().find_map(|key| entry.get(*key)?.as_u64());
    Some((name, window.and_then(|window| u32::try_from(window).ok()).filter(|window| *window > 0)))
}

fn learn(headers: &HeaderMap, probed: &mut Probed) {
    let cdn = CDNS.iter().find(|(header, _)| headers.contains_key(*header));
    probed.cdn = cdn.map(|(_, name)| (*name).to_string());
    for (name, value) in headers {
        let name = name.as_str();
        if let (true, Ok(value)) = (name.contains("ratelimit-limit"), value.to_str()) {
            probed.limits.insert(name.to_string(), value.chars().take(40).collect());
        }
    }
}

async fn read(body: &mut ReplyBody) -> Vec<u8> {
    let mut list = Vec::new();
    while let Some(Ok(bytes)) = body.next().await {
        list.extend_from_slice(&bytes);
        if list.len() > LIST_MAX {
            return Vec::new();
        }
    }
    list
}

/// What follows from what they said.
pub fn findings(scene: &Scene<'_>, probed: &[Probed]) -> Vec<Finding> {
    let mut found: Vec<Finding> = probed.iter().filter_map(|each| answered(scene, each)).collect();
    for each in probed.iter().filter(|each| each.outcome == Outcome::Reachable) {
        found.extend(offered(scene, each));
    }
    for (at, one) in probed.iter().enumerate() {
        found.extend(probed[at + 1..].iter().filter_map(|other| near(scene, one, other)));
    }
    found
}

fn answered(scene: &Scene<'_>, probed: &Probed) -> Option<Finding> {
    let Probed { site, why, took_ms, .. } = probed;
    let key = if scene.file.site.get(probed.at).is_some_and(|s| s.base_url.is_some()) {
        "base_url"
    } else {
        ""
    };
    let place = scene.site_place(probed.at, key);
    Some(match probed.outcome {
        Outcome::Unreachable => Finding::new("MS701", Severity::Warning, place).saying(
            format!("{site} cannot be reached: {why}"),
            "As long as this lasts it is no second site for anybody.",
            "mend its address, or wait until it is back",
        ),
        Outcome::Refused => {
            Finding::new("MS702", Severity::Warning, scene.site_place(probed.at, "")).saying(
                format!("{site} is there, but {why}"),
                "It is no second site for anybody until that is mended.",
                "mend the key or the account",
            )
        }
        Outcome::Skipped => Finding::new("MS708", Severity::Note, place).saying(
            format!("{site} was not asked: {why}"),
            "",
            "run it where the key is",
        ),
        Outcome::Reachable | Outcome::Unlisted if u128::from(*took_ms) > SLOW.as_millis() => {
            Finding::new("MS703", Severity::Warning, place).saying(
                format!("{site} took {took_ms} ms for its list of models"),
                "Connecting alone may use up limits.connect, and the site then counts as dead.",
                "look at the way there; [limits] connect is the time that it may take",
            )
        }
        Outcome::Reachable | Outcome::Unlisted => return None,
    })
}

/// Models that the site does not list, and windows smaller than what the file says.
fn offered(scene: &Scene<'_>, probed: &Probed) -> Vec<Finding> {
    let mut found = Vec::new();
    let core = scene.core();
    let here = core.targets.iter().enumerate().filter(|(_, t)| usize::from(t.site.0) == probed.at);
    for (id, target) in here {
        let shown = format!("{}/{}", probed.site, target.model);
        let place = written(scene, id).unwrap_or_else(|| scene.site_place(probed.at, ""));
        let listed = probed.models.get(&target.model);
        // Ollama lists what is pulled as `name:tag`.
        let listed = listed.or_else(|| probed.models.get(&format!("{}:latest", target.model)));
        match listed {
            None if !probed.models.is_empty() => {
                let names = probed.models.keys().map(String::as_str);
                let near = nearest(&target.model, names);
                let near = near.map_or(String::new(), |near| format!("was `{near}` meant? "));
                let finding = Finding::new("MS704", Severity::Warning, place);
                found.push(finding.saying(
                    format!("{} does not list {}", probed.site, target.model),
                    "Whoever counts on it in an outage gets 404 from there and nothing else.",
                    format!("{near}`mainstay check --probe --json` has the whole list"),
                ));
            }
            Some(Some(window)) if target.window.is_some_and(|said| said > *window) => {
                let said = target.window.unwrap_or_default();
                let finding = Finding::new("MS707", Severity::Warning, place);
                found.push(finding.saying(
                    format!("{shown} has a window of {window} tokens, not {said}"),
                    "Longer requests are sent there and refused.",
                    format!("models = [{{ name = \"{}\", window = {window} }}]", target.model),
                ));
            }
            Some(_) | None => {}
        }
    }
    found
}

/// Where a target is written in the lists of models.
fn written(scene: &Scene<'_>, id: usize) -> Option<super::finding::Place> {
    if scene.file.model.is_empty() {
        return None;
    }
    scene.core().models.iter().enumerate().find_map(|(at, model)| {
        let lists = [("served_by", &model.served_by), ("substitutes", &model.substitutes)];
        lists.iter().find_map(|(key, list)| {
            let which = list.iter().position(|each| usize::from(each.0) == id)?;
            Some(scene.place(&format!("model.{at}.{key}.{which}")))
        })
    })
}

/// Whether two sites answer from one network, or from behind one name.
fn near(scene: &Scene<'_>, one: &Probed, other: &Probed) -> Option<Finding> {
    if one.host == other.host {
        // That is known without asking.
        return None;
    }
    let both = listed(&[&one.site, &other.site]);
    let place = scene.site_place(other.at, "");
    let network = one.addresses.iter().filter_map(network);
    let network = network
        .into_iter()
        .find(|net| other.addresses.iter().filter_map(self::network).any(|each| each == *net));
    if let Some(network) = network {
        let finding = Finding::new("MS705", Severity::Warning, place);
        let finding = finding.saying(
            format!("{both} answer from one network, {network}"),
            "One router or one data center there takes both away.",
            format!("say it, so that it is counted: fate = [\"net:{network}\"] at both"),
        );
        return Some(finding.at_loss(format!("net:{network}"), true));
    }
    let domains = |probed: &Probed| -> Vec<String> {
        probed.aliases.iter().filter_map(|name| fate::domain(name)).collect()
    };
    let alias = domains(one).into_iter().find(|each| domains(other).contains(each));
    let cdn = one.cdn.clone().filter(|cdn| other.cdn.as_ref() == Some(cdn));
    let shared = alias.or(cdn)?;
    let finding = Finding::new("MS706", Severity::Warning, place).saying(
        format!("{both} are behind {shared}"),
        "Its outage takes both away, as those of large CDNs did more than once.",
        format!("say it, so that it is counted: fate = [\"cdn:{}\"] at both", word(&shared)),
    );
    Some(finding.at_loss(format!("cdn:{}", word(&shared)), true))
}

fn word(name: &str) -> String {
    name.to_lowercase().replace(' ', "-")
}

/// The network that is announced as one: /24, or /48 of IPv6. Private ones say nothing here.
fn network(address: &IpAddr) -> Option<String> {
    match address {
        IpAddr::V4(ip) if ip.is_loopback() => None,
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Some(format!("{a}.{b}.{c}.0/24"))
        }
        IpAddr::V6(ip) if ip.is_loopback() => None,
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Some(format!("{a:x}:{b:x}:{c:x}::/48"))
        }
    }
}
