//! Faults: what a `[[fault]]` table may say, kind by kind. `docs/guide` and `scenarios.md` §2 name
//! the same words.

use super::cast::{Cast, GATEWAYS_MAX};
use super::part::{NUMBER_MAX, Part};
use super::problem::hint;
use super::tree::Value;
use super::{
    COLD, Content, Direction, Fault, FaultKind, Lie, LinkEffect, Loss, Part as Messages, Process,
    Trouble, Which,
};
use std::time::Duration;

/// A loop that is this late is as good as one that is not; one that stood still for nothing at all
/// would never end.
const LAG_LEAST: Duration = Duration::from_millis(10);

/// Every kind of fault.
pub const KINDS: [&str; 36] = [
    "site-down",
    "controller-down",
    "controller-cut",
    "workers-lost",
    "workers-hung",
    "slow",
    "cold-cache",
    "move-sessions",
    "link",
    "partition",
    "lying-health",
    "wrong-label",
    "unloadable",
    "policy-push",
    "override",
    "policy-source-down",
    "key-store-down",
    "ledger-down",
    "console-down",
    "telemetry-stuck",
    "peers-cut",
    "resolver-blackhole",
    "publisher-pause",
    "surge",
    "release",
    "patience",
    "retries",
    "crash-all",
    "gateway-crash",
    "poison",
    "clock",
    "loop-lag",
    "provider",
    "scale",
    "dns-surge",
    "tenant",
];

/// How many times slower, larger or more: a thousandfold is beyond any story.
const FACTOR_MAX: f64 = 10_000.0;

/// Reads one fault.
pub fn fault(mut part: Part<'_>, cast: &Cast) -> Option<Fault> {
    let line = part.line();
    let Some(kind) = part.text("kind") else {
        part.missing("kind", "kind = \"site-down\" or another");
        return None;
    };
    let (at, until) = when(&mut part);
    let read = match group(&kind) {
        Family::Place => place(&mut part, &kind, cast),
        Family::Network => network(&mut part, &kind, cast),
        Family::Control => control(&mut part, &kind, cast),
        Family::Crowd => crowd(&mut part, &kind, cast),
        Family::Process => process(&mut part, &kind, cast),
        Family::Unknown => {
            part.wrong("kind", format!("no fault `{kind}`; {}", hint(&kind, &KINDS)));
            return None;
        }
    };
    part.finish();
    Some(Fault { at: at?, until, kind: read?, line })
}

enum Family {
    Place,
    Network,
    Control,
    Crowd,
    Process,
    Unknown,
}

fn group(kind: &str) -> Family {
    match kind {
        "site-down" | "controller-down" | "controller-cut" | "workers-lost" | "workers-hung"
        | "slow" | "cold-cache" | "move-sessions" | "wrong-label" | "unloadable" | "provider" => {
            Family::Place
        }
        "link" | "partition" | "lying-health" | "peers-cut" | "resolver-blackhole" => {
            Family::Network
        }
        "policy-push" | "override" | "policy-source-down" | "key-store-down" | "ledger-down"
        | "console-down" | "telemetry-stuck" | "publisher-pause" => Family::Control,
        "surge" | "release" | "patience" | "retries" | "poison" | "tenant" | "dns-surge" => {
            Family::Crowd
        }
        "crash-all" | "gateway-crash" | "clock" | "loop-lag" | "scale" => Family::Process,
        _ => Family::Unknown,
    }
}

/// From when until when: `at`, and one of `until`, `for` and `over`.
fn when(part: &mut Part<'_>) -> (Option<Duration>, Option<Duration>) {
    part.missing("at", "at = \"60s\"");
    let at = part.time("at");
    let until = part.time("until");
    let lasts = part.time("for");
    let over = part.time("over");
    if [part.has("until"), part.has("for"), part.has("over")].iter().filter(|has| **has).count() > 1
    {
        part.wrong("until", "stands beside another end; keep one of until, for and over");
    }
    let lasts = lasts.or(over).zip(at).map(|(lasts, at)| at + lasts);
    let until = until.or(lasts);
    if let (Some(at), Some(until)) = (at, until)
        && until <= at
    {
        part.wrong("until", "is not after at; a fault takes time, or has no end");
    }
    (at, until)
}

/// What happens at a site.
fn place(part: &mut Part<'_>, kind: &str, cast: &Cast) -> Option<FaultKind> {
    Some(match kind {
        "site-down" => {
            let how = [("refuse", Loss::Refuse), ("blackhole", Loss::Blackhole)];
            let how = part.word("how", &how).unwrap_or(Loss::Refuse);
            let cold = part.word("returns", &[("warm", false), ("cold", true)]).unwrap_or(false);
            if part.has("factor") && !cold {
                part.wrong("factor", "is that of empty caches; add returns = \"cold\"");
            }
            let factor = part.number("factor", 1.0, FACTOR_MAX).unwrap_or(COLD);
            let sites = cast.some_sites(part, "site")?;
            FaultKind::SiteDown { sites, how, cold: cold.then_some(factor) }
        }
        "controller-down" => FaultKind::ControllerDown { sites: cast.some_sites(part, "site")? },
        "controller-cut" => FaultKind::ControllerCut { sites: cast.with_stand_by(part)? },
        "workers-lost" => {
            let share = needed(part, "share", (0.0, 1.0));
            FaultKind::WorkersLost { sites: cast.some_sites(part, "site")?, share: share? }
        }
        "workers-hung" => {
            let share = needed(part, "share", (0.0, 1.0));
            FaultKind::WorkersHung { sites: cast.some_sites(part, "site")?, share: share? }
        }
        "slow" => {
            let share = part.share("share").unwrap_or(1.0);
            let factor = needed(part, "factor", (1.0, FACTOR_MAX));
            FaultKind::Slow { sites: cast.some_sites(part, "site")?, share, factor: factor? }
        }
        "cold-cache" => {
            let factor = needed(part, "factor", (1.0, FACTOR_MAX));
            FaultKind::ColdCache { sites: cast.some_sites(part, "site")?, factor: factor? }
        }
        "move-sessions" => {
            let share = needed(part, "share", (0.0, 1.0));
            FaultKind::MoveSessions { to: cast.one_site(part, "to")?, share: share? }
        }
        "wrong-label" => FaultKind::WrongLabel { site: cast.one_site(part, "site")? },
        "unloadable" => FaultKind::Unloadable { site: cast.one_site(part, "site")? },
        _ => {
            let how = trouble(part);
            FaultKind::Provider { site: cast.one_site(part, "site")?, how: how? }
        }
    })
}

fn trouble(part: &mut Part<'_>) -> Option<Trouble> {
    part.missing("how", "how = \"throttle\" or another");
    let known = ["throttle", "spend-cap", "account-refused", "keep-alives", "cut"];
    let above = part.number("above", 0.0, NUMBER_MAX);
    let how = part.text("how")?;
    Some(match how.as_str() {
        // Nothing named: it throttles everything.
        "throttle" => Trouble::Throttle { above: above.unwrap_or(0.0) },
        "spend-cap" => Trouble::SpendCap,
        "account-refused" => Trouble::AccountRefused,
        "keep-alives" => Trouble::KeepAlives,
        "cut" => Trouble::Cut,
        _ => {
            part.wrong("how", format!("unknown `{how}`; {}", hint(&how, &known)));
            return None;
        }
    })
}

/// What happens between nodes.
fn network(part: &mut Part<'_>, kind: &str, cast: &Cast) -> Option<FaultKind> {
    Some(match kind {
        "link" => link(part, cast)?,
        "partition" => FaultKind::Partition { groups: groups(part, cast)? },
        "lying-health" => {
            let known = [("down", Lie::Down), ("alternating", Lie::Alternating), ("up", Lie::Up)];
            part.missing("pattern", "pattern = \"down\", \"alternating\" or \"up\"");
            let pattern = part.word("pattern", &known);
            FaultKind::LyingHealth { sites: cast.some_sites(part, "site")?, pattern: pattern? }
        }
        "peers-cut" => {
            let control = part.flag("control").unwrap_or(false);
            let gateways = cast.gateways(part, "gateway").or_else(|| everyone(part, "gateway"))?;
            FaultKind::PeersCut { gateways, control }
        }
        _ => {
            part.missing("delay", "delay = \"30s\"");
            FaultKind::ResolverBlackhole { delay: part.time("delay")? }
        }
    })
}

/// All, if nobody is named.
fn everyone(part: &Part<'_>, key: &str) -> Option<Which> {
    (!part.has(key) && !part.has("mask")).then_some(Which::All)
}

fn link(part: &mut Part<'_>, cast: &Cast) -> Option<FaultKind> {
    let effect = LinkEffect {
        loss: part.share("loss").unwrap_or(0.0),
        delay: part.time("delay").unwrap_or_default(),
        duplicate: part.share("duplicate").unwrap_or(0.0),
        reorder: part.time("reorder").unwrap_or_default(),
    };
    let has_effect = ["loss", "delay", "duplicate", "reorder"].iter().any(|key| part.has(key));
    if !has_effect {
        part.wrong("", "does nothing; add loss, delay, duplicate or reorder");
    }
    let ways = [
        ("both", Direction::Both),
        ("to-site", Direction::ToSite),
        ("to-gateway", Direction::ToGateway),
    ];
    let direction = part.word("direction", &ways).unwrap_or_default();
    let parts = [("all", Messages::All), ("control", Messages::Control), ("data", Messages::Data)];
    let of = part.word("part", &parts).unwrap_or_default();
    let gateways = cast.gateways(part, "gateway").or_else(|| everyone(part, "gateway"));
    let sites = cast.sites(part, "site").or_else(|| everyone(part, "site"));
    Some(FaultKind::Link { gateways: gateways?, sites: sites?, effect, direction, part: of })
}

/// Gateways and sites that reach each other.
type Group = (Vec<u16>, Vec<u16>);

/// Lists of names of sites and numbers of gateways. Whoever is in none of them is in one more.
fn groups(part: &mut Part<'_>, cast: &Cast) -> Option<Vec<Group>> {
    part.missing("groups", "groups = [[1, 2, \"A\"]]; whoever is not named is the other side");
    let mut groups = Vec::new();
    let (mut gateways, mut sites) = (0..cast.gateways, 0..cast.sites.len() as u16);
    for node in part.several("groups")? {
        let Value::List(members) = &node.value else {
            part.wrong("groups", "is a list of lists, such as [[1, 2, \"A\"], [3, \"B\"]]");
            return None;
        };
        let mut group = (Vec::new(), Vec::new());
        for member in members {
            match &member.value {
                Value::Text(_) => group.1.push(cast.site(part, "groups", member)?),
                _ => group.0.push(cast.gateway(part, "groups", member)?),
            }
        }
        groups.push(group);
    }
    let named = |of: fn(&Group) -> &Vec<u16>, at: &u16| {
        groups.iter().filter(|group| of(group).contains(at)).count()
    };
    if gateways.clone().any(|at| named(|g| &g.0, &at) > 1)
        || sites.clone().any(|at| named(|g| &g.1, &at) > 1)
    {
        part.wrong("groups", "somebody is in two groups; name each once");
    }
    let others_gateways: Vec<u16> =
        gateways.by_ref().filter(|at| named(|g| &g.0, at) == 0).collect();
    let others_sites: Vec<u16> = sites.by_ref().filter(|at| named(|g| &g.1, at) == 0).collect();
    if !others_gateways.is_empty() || !others_sites.is_empty() {
        groups.push((others_gateways, others_sites));
    }
    Some(groups)
}

/// What happens to those who only matter for changes.
fn control(part: &mut Part<'_>, kind: &str, cast: &Cast) -> Option<FaultKind> {
    Some(match kind {
        "policy-push" => {
            let author = part.text("author").unwrap_or_else(|| String::from("ops"));
            let force = part.flag("force").unwrap_or(false);
            let validator = part.flag("validator").unwrap_or(true);
            FaultKind::PolicyPush { content: content(part, cast)?, author, force, validator }
        }
        "override" => {
            part.missing("verb", "verb = \"drain\", \"undrain\", \"kill\", \"cap\" or \"freeze\"");
            let target = part.text("target").unwrap_or_default();
            let life = part.time("life").unwrap_or(Duration::from_secs(3600));
            let gateway =
                part.node("gateway").map_or(Some(0), |node| cast.gateway(part, "gateway", node));
            let percent = part.whole("percent", 0, 100).unwrap_or(100) as u8;
            let verb = part.text("verb")?;
            FaultKind::Override { verb, target, life, gateway: gateway?, percent }
        }
        "policy-source-down" => FaultKind::PolicySourceDown,
        "key-store-down" => FaultKind::KeyStoreDown,
        "ledger-down" => FaultKind::LedgerDown,
        "console-down" => {
            FaultKind::ConsoleDown { factor: part.number("factor", 0.0, FACTOR_MAX).unwrap_or(1.0) }
        }
        "telemetry-stuck" => FaultKind::TelemetryStuck,
        _ => {
            let publisher = part.whole("publisher", 1, 16).unwrap_or(1) as u16;
            FaultKind::PublisherPause { publisher: publisher - 1 }
        }
    })
}

fn content(part: &mut Part<'_>, cast: &Cast) -> Option<Content> {
    const KNOWN: [&str; 10] = [
        "good",
        "missing-field",
        "oversized",
        "alternating",
        "wrong-route",
        "weight",
        "removes-in-use",
        "removes-in-two",
        "leaks",
        "crashes-after",
    ];
    part.missing("content", "content = \"good\" or another");
    let word = part.text("content")?;
    let minutes = |count: u64| Duration::from_secs(60 * count);
    Some(match word.as_str() {
        "good" => Content::Good,
        "missing-field" => Content::MissingField,
        "oversized" => Content::Oversized,
        "alternating" => Content::Alternating { every: part.time("every").unwrap_or(minutes(5)) },
        "wrong-route" => Content::WrongRoute,
        "weight" => {
            let weight = part.whole("weight", 0, u32::MAX).unwrap_or(10_000);
            Content::Weight { site: cast.one_site(part, "site")?, weight }
        }
        "removes-in-use" => Content::RemovesInUse { site: cast.one_site(part, "site")? },
        "removes-in-two" => Content::RemovesInTwo { site: cast.one_site(part, "site")? },
        "leaks" => {
            Content::Leaks { megabytes: part.whole("megabytes", 1, 1_000_000).unwrap_or(100) }
        }
        "crashes-after" => {
            Content::CrashesAfter { delay: part.time("delay").unwrap_or(minutes(5)) }
        }
        _ => {
            part.wrong("content", format!("unknown `{word}`; {}", hint(&word, &KNOWN)));
            return None;
        }
    })
}

/// What those do who ask.
fn crowd(part: &mut Part<'_>, kind: &str, cast: &Cast) -> Option<FaultKind> {
    Some(match kind {
        "surge" => {
            let ramp = part.time("ramp").unwrap_or_default();
            let tier = match cast.tiers(part, "tier") {
                Some(tiers) if tiers.len() > 1 => {
                    part.wrong("tier", "is one tier; leave it out for all");
                    None
                }
                tiers => tiers.and_then(|tiers| tiers.first().copied()),
            };
            FaultKind::Surge { factor: needed(part, "factor", (0.0, FACTOR_MAX))?, tier, ramp }
        }
        "release" => {
            part.missing("requests", "requests = 10000");
            let within = part.time("within").unwrap_or(Duration::from_secs(1));
            FaultKind::Release { requests: part.whole("requests", 0, 10_000_000)?, within }
        }
        "patience" => {
            part.missing("patience", "patience = \"600s\"");
            FaultKind::Patience { patience: part.time("patience")? }
        }
        "retries" => {
            part.missing("retries", "retries = 5");
            FaultKind::Retries { retries: part.whole("retries", 0, 100)? }
        }
        "poison" => FaultKind::Poison { tenant: part.whole("tenant", 0, 1_000_000).unwrap_or(0) },
        "tenant" => {
            let tenant = part.whole("tenant", 0, 1_000_000).unwrap_or(0);
            FaultKind::Tenant { tenant, factor: needed(part, "factor", (0.0, FACTOR_MAX))? }
        }
        _ => {
            let retransmits = part.whole("retransmits", 0, 100).unwrap_or(5);
            FaultKind::DnsSurge { factor: needed(part, "factor", (0.0, FACTOR_MAX))?, retransmits }
        }
    })
}

/// What happens to processes of ours.
fn process(part: &mut Part<'_>, kind: &str, cast: &Cast) -> Option<FaultKind> {
    let restart = |part: &mut Part<'_>| part.time("restart").unwrap_or(Duration::from_secs(2));
    Some(match kind {
        "crash-all" => {
            let known = [
                ("gateways", Process::Gateways),
                ("controllers", Process::Controllers),
                ("workers", Process::Workers),
            ];
            part.missing("what", "what = \"gateways\", \"controllers\" or \"workers\"");
            let restart = restart(part);
            FaultKind::CrashAll { what: part.word("what", &known)?, restart }
        }
        "gateway-crash" => {
            part.missing("gateway", "gateway = 1, or a list, or \"all\"");
            let restart = restart(part);
            FaultKind::GatewayCrash { gateways: cast.gateways(part, "gateway")?, restart }
        }
        "loop-lag" => {
            part.missing("gateway", "gateway = 1, or a list, or \"all\"");
            part.missing("delay", "delay = \"3s\"");
            let gateways = cast.gateways(part, "gateway");
            let delay = part.time("delay")?;
            if delay < LAG_LEAST {
                part.wrong("delay", "is below 10ms: no loop is ever sooner");
                return None;
            }
            FaultKind::LoopLag { gateways: gateways?, delay }
        }
        "clock" => {
            let jump_seconds = part.seconds("jump").unwrap_or(0.0);
            let drift = part.number("drift", -0.5, 0.5).unwrap_or(0.0);
            if !part.has("jump") && !part.has("drift") {
                part.wrong("", "does nothing; add jump = \"1h\" or drift = 0.05");
            }
            let gateways = cast.gateways(part, "gateway").or_else(|| everyone(part, "gateway"));
            FaultKind::Clock { gateways: gateways?, jump_seconds, drift }
        }
        _ => {
            let most = u32::from(GATEWAYS_MAX);
            part.missing("to", "to = 60");
            let from = part.whole("from", 1, most).map_or(cast.gateways, |n| n as u16);
            FaultKind::Scale { from, to: part.whole("to", 1, most)? as u16 }
        }
    })
}

/// A number that must be there.
fn needed(part: &mut Part<'_>, key: &'static str, (least, most): (f64, f64)) -> Option<f64> {
    part.missing(key, &format!("{key} = {}", if most > 1.0 { "2.0" } else { "0.35" }));
    part.number(key, least, most)
}
