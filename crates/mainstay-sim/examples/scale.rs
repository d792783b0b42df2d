//! An hour of a hundred sites with ten thousand GPUs on one core, and of thirty and ten:
//! `MAINSTAY_TRACES=FOLDER cargo run --release -p mainstay-sim --example scale -- 10 30 100`.
//!
//! Users ask as those of ServeGen's `m-large` do over their day, each site's by its own longitude,
//! for what Mooncake's conversation trace asks, at seven tenths of what all workers serve.

use mainstay_sim::bench::t100;
use mainstay_sim::fleet::{PolicyKind, play};
use mainstay_sim::scenario::read::{File, With};
use mainstay_sim::scenario::{Scenario, Workload};
use mainstay_sim::workload::{Options, aggregate};
use std::process::ExitCode;
use std::time::Instant;

/// Whose day it is, and whose requests.
const MODEL: &str = "m-large";
/// See `MODEL`.
const REQUESTS: &str = "conversation";
/// The hour. Prompts of a hundred thousand tokens take longer than five seconds to read, so
/// people wait for thirty.
const HOUR: &str = "id = \"T100\"\ntitle = \"An hour of a large fleet\"\nduration = \"60m\"\n\
                    load = { level = 0.7 }\nclients = { patience = \"30s\" }\n\
                    [[expect]]\nmetric = \"good_ratio\"\nmin = 0.0\n";

fn main() -> ExitCode {
    if let Err(problem) = aggregate(MODEL, &Options::default()) {
        eprintln!(
            "scale: {problem}: the traces of ServeGen are not part of the program; set \
             MAINSTAY_TRACES to a folder with servegen/{MODEL}_rates.csv.zst"
        );
        return ExitCode::from(2);
    }
    let wanted = std::env::args().skip(1).map(|word| word.parse::<u16>());
    let sizes: Vec<u16> = wanted.filter_map(Result::ok).filter(|n| *n >= 10).collect();
    for sites in if sizes.is_empty() { vec![10, 30, 100] } else { sizes } {
        match hour(sites) {
            Ok(scenario) => tell(&scenario),
            Err(problem) => {
                eprintln!("scale: {problem}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

fn hour(sites: u16) -> Result<Scenario, String> {
    let mut bench = t100(sites);
    let patience = std::time::Duration::from_secs(30);
    bench.tiers.iter_mut().for_each(|tier| tier.patience = patience);
    let lines = |problems: Vec<_>| format!("{problems:?}");
    let file = File::parse("scale", HOUR).map_err(lines)?;
    let mut scenario = file.scenario(With::Other(&bench)).map_err(lines)?;
    scenario.load.workload = Workload::Day { model: MODEL.into(), requests: REQUESTS.into() };
    Ok(scenario)
}

fn tell(scenario: &Scenario) {
    let bench = &scenario.bench;
    let workers: u32 = bench.sites.iter().map(|site| u32::from(site.workers)).sum();
    let began = Instant::now();
    let played = play(scenario, 1, PolicyKind::Mainstay);
    let took = began.elapsed().as_secs_f64();
    let tiers = played.run.by_tier.values();
    let (offered, good) = tiers.fold((0, 0), |sum, tier| (sum.0 + tier.offered, sum.1 + tier.good));
    println!(
        "{} sites, {} gateways, {} GPUs: {offered} requests, {} moments, {took:.1} s on one core \
         ({:.0} requests and {:.0} moments a second, {:.0} x real time), processor {:.1} s, peak \
         memory {:.0} MiB; good {:.4}, {:.3} attempts a request, {} changes of health; digest {}",
        bench.sites.len(),
        bench.gateways,
        workers * 8,
        played.moments,
        offered as f64 / took,
        played.moments as f64 / took,
        scenario.duration.as_secs_f64() / took,
        processor(),
        peak_memory(),
        good as f64 / offered.max(1) as f64,
        played.run.attempts_per_request,
        played.run.transitions,
        played.run.facts_digest,
    );
    for violation in played.run.violations.iter().take(3) {
        let first = violation.detail.lines().next().unwrap_or_default();
        println!("  {} at {:.1} s, {}: {first}", violation.rule, violation.at_s, violation.node);
    }
}

/// Seconds of processor this process has used; the machine may have other work.
fn processor() -> f64 {
    /// Linux counts in hundredths of a second.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let fields = after.split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// The most memory this process had, in MiB.
fn peak_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}
