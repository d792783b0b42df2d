//! Faults in words.

use crate::scenario::{Bench, Content, FaultKind, Loss, Part, Process, Trouble, Which};

/// What broke, in a few words.
pub fn fault(kind: &FaultKind, bench: &Bench) -> String {
    let sites = |which: &Which| sites(which, bench);
    let site = |at: u16| bench.sites.get(usize::from(at)).map_or("?", |site| &site.name);
    match kind {
        FaultKind::SiteDown { sites: which, how, cold } => {
            let how = if *how == Loss::Blackhole { "swallows everything" } else { "is down" };
            let back = if cold.is_some() { ", returns cold" } else { "" };
            format!("{} {how}{back}", sites(which))
        }
        FaultKind::ControllerDown { sites: which } => format!("{}: no controller", sites(which)),
        FaultKind::ControllerCut { sites: which } => {
            format!("{}: controller cut off from its workers", sites(which))
        }
        FaultKind::WorkersLost { sites: which, share } => {
            format!("{} loses {} of its workers", sites(which), percent(*share))
        }
        FaultKind::WorkersHung { sites: which, share } => {
            format!("{}: {} of the workers hang", sites(which), percent(*share))
        }
        FaultKind::Slow { sites: which, factor, .. } => format!("{} ×{factor} slow", sites(which)),
        FaultKind::ColdCache { sites: which, factor } => {
            format!("{}: cold cache, prefill ×{factor}", sites(which))
        }
        FaultKind::MoveSessions { share, to } => {
            format!("{} of sessions move to {}", percent(*share), site(*to))
        }
        FaultKind::Link { gateways, sites: which, effect, part, .. } => {
            let part = match part {
                Part::All => "",
                Part::Control => "control ",
                Part::Data => "data ",
            };
            let loss = if effect.loss > 0.0 { percent(effect.loss) + " lost" } else { "".into() };
            let late = match effect.delay.as_secs_f64() {
                delay if delay > 0.0 => format!(" {delay} s late"),
                _ => String::new(),
            };
            format!("{part}link {} ↔ {}: {loss}{late}", numbers(gateways), sites(which))
        }
        FaultKind::Partition { groups } => format!("partition in {} groups", groups.len()),
        FaultKind::LyingHealth { sites: which, pattern } => {
            let said = format!("{pattern:?}").to_lowercase();
            format!("probes of {} say {said}", sites(which))
        }
        FaultKind::WrongLabel { site: at } => format!("{} announces a wrong label", site(*at)),
        FaultKind::Unloadable { site: at } => format!("{} cannot load its model", site(*at)),
        FaultKind::Provider { site: at, how } => format!("{} {}", site(*at), trouble(how)),
        other => elsewhere(other),
    }
}

/// Faults of those who only matter for changes, of the crowd, and of processes.
fn elsewhere(kind: &FaultKind) -> String {
    match kind {
        FaultKind::PolicyPush { content, force, .. } => {
            format!("policy: {}{}", pushed(content), if *force { ", forced" } else { "" })
        }
        FaultKind::Override { verb, target, .. } => format!("order: {verb} “{target}”"),
        FaultKind::PolicySourceDown => String::from("no policy source"),
        FaultKind::KeyStoreDown => String::from("no key store"),
        FaultKind::LedgerDown => String::from("no ledger"),
        FaultKind::ConsoleDown { .. } => String::from("no console"),
        FaultKind::TelemetryStuck => String::from("telemetry stuck"),
        FaultKind::PeersCut { gateways, .. } => format!("gateways {} alone", numbers(gateways)),
        FaultKind::ResolverBlackhole { .. } => String::from("resolver stalls"),
        FaultKind::PublisherPause { publisher } => format!("publisher {} sleeps", publisher + 1),
        FaultKind::Surge { factor, .. } => format!("load ×{factor}"),
        FaultKind::Release { requests, .. } => format!("{requests} requests released"),
        FaultKind::Patience { patience } => format!("clients wait {} s", patience.as_secs()),
        FaultKind::Retries { retries } => format!("clients try again {retries} times"),
        FaultKind::CrashAll { what, .. } => match what {
            Process::Gateways => String::from("all gateways crash"),
            Process::Controllers => String::from("all controllers crash"),
            Process::Workers => String::from("all workers crash"),
        },
        FaultKind::GatewayCrash { gateways, .. } => {
            format!("gateway {} crashes", numbers(gateways))
        }
        FaultKind::LoopLag { gateways, delay } => {
            format!("loop of gateway {} {} s late", numbers(gateways), delay.as_secs_f64())
        }
        FaultKind::Poison { tenant } => format!("tenant {tenant} poisons"),
        FaultKind::Clock { gateways, drift, .. } if *drift != 0.0 => {
            format!("clock of {} drifts {}", numbers(gateways), percent(*drift))
        }
        FaultKind::Clock { gateways, jump_seconds, .. } => {
            format!("clock of {} jumps {jump_seconds} s", numbers(gateways))
        }
        FaultKind::Scale { from, to } => format!("gateways {from} → {to}"),
        FaultKind::DnsSurge { factor, .. } => format!("name queries ×{factor}"),
        FaultKind::Tenant { tenant, factor } => format!("tenant {tenant} ×{factor}"),
        other => format!("{other:?}"),
    }
}

fn trouble(how: &Trouble) -> &'static str {
    match how {
        Trouble::Throttle { .. } => "throttles",
        Trouble::SpendCap => "is at its spend cap",
        Trouble::AccountRefused => "refuses the account",
        Trouble::KeepAlives => "only keeps alive",
        Trouble::Cut => "cuts streams",
    }
}

fn pushed(content: &Content) -> &'static str {
    match content {
        Content::Good => "good",
        Content::MissingField => "a field missing",
        Content::Oversized => "oversized",
        Content::Alternating { .. } => "good and oversized in turn",
        Content::WrongRoute => "wrong route",
        Content::Weight { .. } => "an absurd weight",
        Content::RemovesInUse { .. } => "removes what is in use",
        Content::RemovesInTwo { .. } => "removes in two steps",
        Content::Leaks { .. } => "leaks memory",
        Content::CrashesAfter { .. } => "crashes later",
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn sites(which: &Which, bench: &Bench) -> String {
    match which {
        Which::All => String::from("every site"),
        Which::These(those) if those.len() > 4 => format!("{} sites", those.len()),
        Which::These(those) => {
            let name = |at: &u16| {
                bench.sites.get(usize::from(*at)).map_or(String::new(), |site| site.name.clone())
            };
            those.iter().map(name).collect::<Vec<_>>().join(", ")
        }
    }
}

fn numbers(which: &Which) -> String {
    match which {
        Which::All => String::from("all"),
        Which::These(those) => {
            those.iter().map(|at| (at + 1).to_string()).collect::<Vec<_>>().join(", ")
        }
    }
}
