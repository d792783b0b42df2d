//! Drills at the operator's door: begun and stopped by POST, looked at by GET.
//!
//! Each gateway runs its own; whoever wants one everywhere asks every gateway. It ends by itself,
//! whatever becomes of who asked.

use crate::admin::Builder;
use crate::drive::Drive;
use crate::telemetry::Names;
use crate::telemetry::drills::{end, end_word, of_breakage, refusal, word};
use bytes::Bytes;
use mainstay_core::config::Tier;
use mainstay_core::drill::{BLAST_CAP, Breakage, CUT_TOKENS, Plan, SLOW_FACTOR, floor};
use mainstay_core::gateway::Event;
use mainstay_core::gateway::drill::{Drill, Phase, Second, Tally};
use mainstay_core::names::SiteId;
use mainstay_core::time::Time;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// Names it; so that it can be stopped, and not another.
    id: u64,
    /// Ends the one of this name. Nothing else counts then.
    #[serde(default)]
    stop: bool,
    #[serde(default)]
    site: String,
    #[serde(default)]
    fault: String,
    percent: Option<u8>,
    for_ms: Option<u64>,
    before_ms: Option<u64>,
    blast_cap: Option<u8>,
    factor: Option<u32>,
    tokens: Option<u32>,
    #[serde(default)]
    floors: BTreeMap<String, u8>,
}

/// Where drills are asked for.
#[derive(Clone)]
struct Desk {
    drive: Arc<Drive>,
    /// What positions were called when the last drill began: another configuration ends it, but it
    /// is told of as it was.
    names: Arc<Mutex<Arc<Names>>>,
}

/// Adds what belongs to drills to the operator's door.
pub(super) fn shown(admin: Builder, drive: &Arc<Drive>) -> Builder {
    let names = Arc::new(Mutex::new(drive.telemetry().names()));
    let looks = Desk { drive: drive.clone(), names };
    let asks = looks.clone();
    admin.show("/-/drill", "the drill under way, or the last one", move || state(&looks)).change(
        "/-/drill",
        "begin or stop a drill",
        move |body| ask(&asks, &body),
    )
}

fn ask(desk: &Desk, body: &Bytes) -> Result<Value, String> {
    let drive = &desk.drive;
    let asked: Asked = serde_json::from_slice(body).map_err(|error| format!("drill: {error}"))?;
    if asked.stop {
        drive.tell(Event::StopDrill(asked.id));
        return Ok(state(desk));
    }
    let places = drive.places();
    let names = &places.names;
    let tiers = drive.read(|gateway| gateway.config().tiers.clone());
    let id = asked.id;
    let plan = plan(asked, &names.sites, &tiers)?;
    let now = drive.clock().now();
    if let Some(why) = drive.read(|gateway| gateway.drill_refusal(now, &plan)) {
        return Err(refusal(names, why));
    }
    let names = drive.telemetry().names();
    drive.tell_of(&places, Event::Drill(plan));
    // Between the look and the order something may have happened, another configuration for one.
    match drive.read(|gateway| gateway.drill().is_some_and(|drill| drill.plan().id == id)) {
        true => {
            *desk.names() = names;
            Ok(state(desk))
        }
        false => Err("it was refused at the last moment; see the log".to_owned()),
    }
}

impl Desk {
    fn names(&self) -> MutexGuard<'_, Arc<Names>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn plan(asked: Asked, sites: &[String], tiers: &[Tier]) -> Result<Plan, String> {
    let site = sites.iter().position(|name| *name == asked.site);
    let site = site.ok_or_else(|| {
        format!("there is no site `{}`; there are {}", asked.site, sites.join(", "))
    })?;
    let breakage = match asked.fault.as_str() {
        "down" => Breakage::Down,
        "blackhole" => Breakage::Blackhole,
        "slow" => Breakage::Slow(asked.factor.unwrap_or(SLOW_FACTOR).max(1)),
        "errors" => Breakage::Errors,
        "cut" => Breakage::Cut(asked.tokens.unwrap_or(CUT_TOKENS)),
        other => {
            let there = "down, blackhole, slow, errors, cut";
            return Err(format!("there is no fault `{other}`; there are {there}"));
        }
    };
    let mut floors: Vec<u8> = tiers.iter().map(floor).collect();
    for (name, percent) in &asked.floors {
        let Some(at) = tiers.iter().position(|tier| tier.name == *name) else {
            let there: Vec<&str> = tiers.iter().map(|tier| tier.name.as_str()).collect();
            return Err(format!("there is no tier `{name}`; there are {}", there.join(", ")));
        };
        floors[at] = *percent;
    }
    Ok(Plan {
        id: asked.id,
        site: SiteId(u16::try_from(site).unwrap_or(u16::MAX)),
        breakage,
        percent: asked.percent.unwrap_or(0),
        before: Duration::from_millis(asked.before_ms.unwrap_or(0)),
        lasts: Duration::from_millis(asked.for_ms.unwrap_or(0)),
        blast_cap: asked.blast_cap.unwrap_or(BLAST_CAP),
        floors,
    })
}

/// How it stands, as one document.
fn state(desk: &Desk) -> Value {
    let drive = &desk.drive;
    let now = drive.clock().now();
    let drill = drive.read(|gateway| gateway.drill().cloned());
    match drill {
        Some(drill) => told((drive, &desk.names()), &drill, now),
        None => json!({ "phase": "none" }),
    }
}

fn told((drive, names): (&Drive, &Names), drill: &Drill, now: Time) -> Value {
    let plan = drill.plan();
    let secs = |at: Time| at.since(drill.accepted()).as_secs_f64();
    let phase = match drill.phase(now) {
        Phase::Before => "before",
        Phase::During => "during",
        Phase::After => "after",
    };
    let ended = drill.ended().map(
        |(at, why)| json!({ "at_s": secs(at), "why": end_word(why), "text": end(names, why) }),
    );
    let named = || names.tiers.iter();
    let floors: Map<String, Value> =
        named().cloned().zip(plan.floors.iter().map(|floor| json!(floor))).collect();
    let tiers: Map<String, Value> = named().cloned().zip(drill.tiers().iter().map(tier)).collect();
    let seconds: Vec<Value> = drill
        .seconds()
        .iter()
        .map(|second| second.iter().map(counts).collect::<Vec<Value>>().into())
        .collect();
    let since = |at: &Time| *at >= drill.accepted();
    let facts: Vec<Value> = drive
        .telemetry()
        .recent()
        .into_iter()
        .filter(|(at, _, _)| since(at))
        .map(|(at, kind, text)| json!({ "at_s": secs(at), "fact": kind, "text": text }))
        .collect();
    let (attempts, broken) = drill.blast();
    json!({
        "id": plan.id,
        "site": names.site(plan.site),
        "fault": word(plan.breakage),
        "how": of_breakage(plan.breakage),
        "percent": plan.percent,
        "before_s": plan.before.as_secs_f64(),
        "for_s": plan.lasts.as_secs_f64(),
        "blast_cap": plan.blast_cap,
        "floors": floors,
        "phase": phase,
        "since_s": secs(now),
        "ended": ended,
        "attempts": attempts,
        "broken": broken,
        "tiers": tiers,
        "seconds": {
            "columns": ["asked", "good", "shed", "failed", "cost_milli"],
            "rows": seconds,
        },
        "facts": facts,
    })
}

fn tier(tally: &Tally) -> Value {
    let waits = |at: usize| {
        let waits = &tally.first_tokens[at];
        let millis = |share: f64| (!waits.is_empty()).then(|| waits.quantile(share) * 1000.0);
        json!({ "p50": millis(0.5), "p95": millis(0.95) })
    };
    json!({
        "attempts": tally.attempts,
        "broken": tally.broken,
        "spared": tally.spared,
        "ttft_ms": { "before": waits(0), "during": waits(1), "after": waits(2) },
    })
}

fn counts(second: &Second) -> Value {
    json!([second.asked, second.good, second.shed, second.failed, second.cost.0])
}
