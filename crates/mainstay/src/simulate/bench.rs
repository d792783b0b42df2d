//! A bench of the user's own: sites and tiers of a configuration file, and the loss of one site.

use crate::command_line::{Serve, Simulate};
use crate::config_file::problem::hint;
use crate::environment::Environment;
use crate::start;
use mainstay_core::config::Config;
use mainstay_sim::bench::{ANSWER_SECONDS, site, tiers};
use mainstay_sim::scenario::problem::Problem as Wrong;
use mainstay_sim::scenario::read::{File, With};
use mainstay_sim::scenario::{Bench, BenchTier, Scenario};
use std::path::Path;

/// The bench that a configuration makes. Capacity there is answers at once; what a site carries
/// in a second is that by the time of an answer. Every site plays one that admits its own work.
///
/// # Errors
/// What is wrong with the file, or missing in it.
pub fn of_configuration(path: &Path) -> Result<Bench, Vec<String>> {
    let serve = Serve { config: Some(path.to_path_buf()), ..Serve::default() };
    let resolved = start::configuration(&serve, &Environment::of_process())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    bench(&path.display().to_string(), &resolved.setup.core)
}

fn bench(name: &str, config: &Config) -> Result<Bench, Vec<String>> {
    let lacks = config.sites.iter().filter(|site| site.capacity.is_none());
    let lacks: Vec<String> = lacks
        .map(|site| {
            format!(
                "{name}: site {}: its capacity is not known; add capacity = N to its [[site]], the \
                 answers it can have open at once",
                site.name
            )
        })
        .collect();
    if !lacks.is_empty() {
        return Err(lacks);
    }
    let all: u32 = config.sites.iter().filter_map(|site| site.capacity).sum();
    let sites = config.sites.iter().map(|each| {
        let streams = each.capacity.unwrap_or(0).max(1);
        let mut made = site(&each.name, f64::from(streams) / f64::from(all.max(1)));
        made.streams = streams;
        made.capacity = f64::from(streams) / ANSWER_SECONDS;
        // A site of few answers has few workers.
        made.workers = made.workers.min(streams as u16).max(1);
        made
    });
    let mut bench = Bench {
        name: name.into(),
        sites: sites.collect(),
        gateways: 1,
        round_trip: Vec::new(),
        tiers: config.tiers.iter().map(|tier| class(&tier.name, tier.floor)).collect(),
        scale: 1.0,
    };
    let share: f64 = bench.tiers.iter().map(|tier| tier.share).sum();
    bench.tiers.iter_mut().for_each(|tier| tier.share /= share);
    bench.lay_out(1);
    Ok(bench)
}

/// A tier with the standard bench's share of users, or a tenth for one that it does not have.
fn class(name: &str, floor: f64) -> BenchTier {
    let standard = tiers();
    let known = standard.iter().find(|tier| tier.name == name);
    let patience = standard[0].patience;
    let share = match known {
        Some(known) => known.share,
        // Batch fills what others leave, so that it is nobody's peak.
        None if name == "batch" => 0.0,
        None => 0.1,
    };
    BenchTier { name: name.into(), floor, share, patience }
}

/// The loss of one site at peak.
///
/// # Errors
/// What is wrong with the command line.
pub fn loss(options: &Simulate, lost: &str, bench: Bench) -> Result<Scenario, Vec<String>> {
    let names: Vec<&str> = bench.sites.iter().map(|site| site.name.as_str()).collect();
    if !names.contains(&lost) {
        return Err(vec![format!("--lose: no site `{lost}`; {}", hint(lost, names))]);
    }
    let quoted = |text: &str| toml::Value::String(text.to_string()).to_string();
    let text = format!(
        "id = \"lose\"\ntitle = {}\nseeds = 5\nbaseline = \"reported\"\n[load]\nlevel = {:?}\n\
         [[fault]]\nkind = \"site-down\"\nsite = {}\nreturns = \"cold\"\nat = {}\nfor = {}\n",
        quoted(&format!("{lost} is lost at peak")),
        options.load,
        quoted(lost),
        quoted(&options.at),
        quoted(&options.lasts),
    );
    let lines = |problems: Vec<Wrong>| -> Vec<String> {
        problems.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect()
    };
    let file = File::parse("--lose", &text).map_err(lines)?;
    let mut scenario = file.scenario(With::Other(&bench)).map_err(lines)?;
    scenario.id = format!("lose-{lost}");
    Ok(scenario)
}
