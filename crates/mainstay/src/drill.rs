//! `mainstay drill`: breaks a site on purpose at every gateway, watches, and reports what was
//! forecast and what happened.
//!
//! Each gateway decides for itself which attempts break and when to stop, and ends by itself: this
//! command begins it, and tells.

pub mod counts;
pub mod foretold;
pub mod gateways;
pub mod report;

use crate::check::with_scene;
use crate::command_line::{Drill, DrillFault, WRONG};
use crate::config_file::value::time;
use crate::stdout::say;
use foretold::Foretold;
use gateways::Gateways;
use report::Report;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the gateways.
const LOOK: Duration = Duration::from_secs(1);
/// How soon somebody who wants to stop it is heard.
const HEAR: Duration = Duration::from_millis(100);
/// A site is well again within this time, or that is what the report says. Gateways count as long.
const WELL_WITHIN: Duration = Duration::from_secs(120);
/// Where nothing else is said.
const ADMIN: &str = "http://127.0.0.1:8081";

/// Runs a drill.
pub fn drill(options: &Drill) -> ExitCode {
    let order = match order(options) {
        Ok(order) => order,
        Err(lines) => return wrong(&lines),
    };
    let gateways = match admins(options) {
        Ok(urls) => Gateways::new(urls, order.id),
        Err(lines) => return wrong(&lines),
    };
    let stop = hear_stop();
    match gateways.site_is_known(&options.site) {
        Ok(None) => {}
        Ok(Some(there)) => {
            let site = &options.site;
            return wrong(&[format!("--site {site}: there is no such site; there are {there}")]);
        }
        Err(why) => return failed(&why),
    }
    if let Err(why) = gateways.begin(&order.body) {
        return failed(&format!("the drill is not begun: {why}"));
    }
    let watched = watch(&gateways, &order, &stop);
    let foretold = foretell(options, &watched);
    let report = Report::of(options, &watched, foretold);
    match tell(options, &report) {
        Err(why) => failed(&why),
        Ok(()) if report.held() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
    }
}

fn wrong(lines: &[String]) -> ExitCode {
    lines.iter().for_each(|line| eprintln!("mainstay: {line}"));
    ExitCode::from(WRONG)
}

fn failed(why: &str) -> ExitCode {
    eprintln!("mainstay: {why}");
    ExitCode::FAILURE
}

/// What every gateway is asked.
struct Order {
    id: u64,
    body: Value,
}

fn order(options: &Drill) -> Result<Order, Vec<String>> {
    let mut lines = Vec::new();
    let mut wait = |name: &str, text: &str| {
        time(text).unwrap_or_else(|| {
            lines.push(format!("--{name} {text}: write a time like 30s or 2m"));
            Duration::ZERO
        })
    };
    let (lasts, before) = (wait("for", &options.lasts), wait("before", &options.before));
    let mut floors = serde_json::Map::new();
    for text in &options.floors {
        let read = text.split_once('=').and_then(|(tier, floor)| {
            let floor: u8 = floor.trim_end_matches('%').trim().parse().ok()?;
            (floor <= 100 && !tier.is_empty()).then(|| (tier.to_owned(), json!(floor)))
        });
        match read {
            Some((tier, floor)) => drop(floors.insert(tier, floor)),
            None => lines.push(format!("--floor {text}: write TIER=PERCENT, like free=30")),
        }
    }
    let mut random = [0; 6];
    if let Err(error) = getrandom::fill(&mut random) {
        lines.push(format!("the system gives no randomness: {error}"));
    }
    if !lines.is_empty() {
        return Err(lines);
    }
    let id = random.iter().fold(0, |id, byte| id << 8 | u64::from(*byte));
    let fault = match options.fault {
        DrillFault::Down => "down",
        DrillFault::Blackhole => "blackhole",
        DrillFault::Slow => "slow",
        DrillFault::Errors => "errors",
        DrillFault::Cut => "cut",
    };
    let body = json!({
        "id": id,
        "site": options.site,
        "fault": fault,
        "percent": options.percent,
        "for_ms": millis(lasts),
        "before_ms": millis(before),
        "blast_cap": options.blast_cap,
        "factor": options.factor,
        "tokens": options.after_tokens,
        "floors": floors,
    });
    Ok(Order { id, body })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Where the gateways are asked.
fn admins(options: &Drill) -> Result<Vec<String>, Vec<String>> {
    let of_file = match &options.config {
        // It is read even where the gateways are named, so that a wrong one is told before.
        Some(path) => Some(with_scene(Some(path), |scene, _| {
            format!("http://{}", scene.resolved.setup.listen.admin)
        })?),
        None => None,
    };
    if !options.admin.is_empty() {
        return Ok(options.admin.clone());
    }
    Ok(vec![of_file.unwrap_or_else(|| ADMIN.to_owned())])
}

/// Whether somebody asked this process to stop.
fn hear_stop() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    // Ends with the process. Without it Ctrl-C ends this command, and the drill ends by itself.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            if let Ok(heard) = crate::start::asked_to_stop() {
                heard.await;
                asked.store(true, Ordering::Relaxed);
            }
        });
    });
    stop
}

/// Everything that was seen of a drill.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// What each gateway said last.
    pub gateways: Vec<gateways::Known>,
    /// What was asked of what.
    pub load: counts::Load,
    /// Seconds from its end until every gateway held the site for well again.
    pub well_after: Option<f64>,
}

/// Looks at the gateways until the drill is over and the site is well again.
fn watch(gateways: &Gateways, order: &Order, stop: &AtomicBool) -> Watched {
    let mut watched = Watched { gateways: gateways.unknown(), ..Watched::default() };
    let is_terminal = std::io::stderr().is_terminal();
    let site = order.body["site"].as_str().unwrap_or_default();
    let (began, mut over): (Instant, Option<Instant>) = (Instant::now(), None);
    let lasts = [&order.body["for_ms"], &order.body["before_ms"]];
    let lasts: u64 = lasts.iter().filter_map(|time| time.as_u64()).sum();
    loop {
        gateways.look(&mut watched.gateways);
        watched.load.look(&watched.gateways);
        progress(is_terminal, &watched, began.elapsed());
        let is_asked = stop.load(Ordering::Relaxed);
        let harm = watched.gateways.iter().any(|known| known.ended_by_itself_early());
        if over.is_none() && (is_asked || harm) {
            // Where it does harm at one gateway it ends at all of them.
            gateways.stop();
            gateways.look(&mut watched.gateways);
        }
        // A gateway that does not answer has no drill, or ends it by itself.
        let is_late = began.elapsed() > Duration::from_millis(lasts) + LOOK * 5;
        if is_late || watched.gateways.iter().all(|known| known.state.phase == "after") {
            over.get_or_insert_with(Instant::now);
        }
        if let Some(at) = over {
            let is_well = watched.gateways.iter().all(|known| known.is_well(site));
            if is_well {
                watched.well_after = Some(at.elapsed().as_secs_f64());
            }
            if is_well || at.elapsed() >= WELL_WITHIN || (is_asked && at.elapsed() >= LOOK) {
                break;
            }
        }
        let next = Instant::now() + LOOK;
        while Instant::now() < next && !(over.is_none() && stop.load(Ordering::Relaxed)) {
            std::thread::sleep(HEAR);
        }
    }
    if is_terminal {
        eprint!("\r\x1b[K");
    }
    watched
}

/// How it stands, in one line.
fn progress(is_terminal: bool, watched: &Watched, since: Duration) {
    /// Without a terminal a line is written so often.
    const EVERY: u64 = 10;
    let phase = watched.gateways.first().map_or("", |known| known.state.phase.as_str());
    let tiers: Vec<String> = counts::figures(&watched.gateways)
        .iter()
        .map(|tier| match phase {
            "before" => (tier, tier.before.share()),
            "during" => (tier, tier.all_during().share()),
            _ => (tier, tier.after.share()),
        })
        .map(|(tier, share)| format!("{} {}", tier.name, counts::percent(share)))
        .collect();
    let line = format!("{:>4} s  {phase:<6}  good: {}", since.as_secs(), tiers.join(", "));
    if is_terminal {
        eprint!("\r\x1b[K{line}");
        let _ = std::io::stderr().flush();
    } else if since.as_secs().is_multiple_of(EVERY) {
        eprintln!("{line}");
    }
}

/// What `check` says of the loss of this site under the load that was there.
fn foretell(options: &Drill, watched: &Watched) -> Result<Foretold, String> {
    if options.config.is_none() && counts::figures(&watched.gateways).is_empty() {
        return Err("no gateway said what it counted".to_owned());
    }
    let told = with_scene(options.config.as_deref(), |scene, _| {
        foretold::foretell(scene, &options.site, watched)
    });
    told.unwrap_or_else(|lines| Err(lines.join("; ")))
}

fn tell(options: &Drill, report: &Report) -> Result<(), String> {
    let text = report.markdown();
    if let Some(path) = &options.report {
        std::fs::write(path, &text)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    match options.json {
        true => say(&format!("{}\n", report.json())),
        false if options.report.is_none() => say(&text),
        false => eprintln!("{}", report.summary()),
    }
    Ok(())
}
