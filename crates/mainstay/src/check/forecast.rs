//! What share of each tier is served while something is lost at peak: the machines of the server
//! are played in virtual time with the sites of the configuration.
//!
//! Each group of models is played by itself, as if the whole peak asked for it; its equals are
//! sites that grant credit, its substitutes are metered. What is not said is assumed and told.

use super::fate::{self, Loss};
use super::finding::{Finding, Severity, listed};
use super::scene::Scene;
use super::substitute::fits;
use super::survival::{Group, Left};
use crate::config_file::check::Peak;
use mainstay_core::names::TargetId;
use mainstay_sim::bench::{ANSWER_SECONDS, site, tiers};
use mainstay_sim::fleet::PolicyKind;
use mainstay_sim::scenario::read::{File, With};
use mainstay_sim::scenario::{
    Bench, BenchTier, COLD, Fault, FaultKind, Loss as How, Scenario, Which,
};
use mainstay_sim::sweep::{self, Done, Job};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Peak load where nobody said it, as a share of what the sites of a model carry. Two equal sites
/// then carry each other with a fifth to spare: who runs hotter should know it.
pub const PEAK: f64 = 0.4;
/// Open answers of a site whose capacity is not known, where no other is.
const CAPACITY: u32 = 100;
/// Requests a second that are played; a larger peak is played at a smaller scale. Fewer make the
/// result a matter of luck.
const PLAYED: f64 = 100.0;
/// See `PLAYED`.
const PLAYED_MIN: f64 = 25.0;
/// So many runs take seconds; more are played at a smaller scale still.
const RUNS: f64 = 30.0;
/// Requests a second of a worker, at least: those of the standard bench.
const WORKER: f64 = 5.0;
/// More open answers than a site needs for what it carries, where it was measured what that is.
const ROOM: u32 = 4;
/// When it is lost, and for how long: longer than every wait that a loss starts.
const LOST_AT: Duration = Duration::from_secs(60);
const LOST_FOR: Duration = Duration::from_secs(120);
/// Answers that are under way when a site goes are told as a cut, not as the outage: the share
/// served is counted from so long after it.
pub const SETTLED: Duration = Duration::from_secs(10);
/// Luck differs between runs.
const SEEDS: u64 = 3;
/// More runs than this take longer than anybody waits for an answer; fewer seeds are played then.
const RUNS_MAX: usize = 240;
/// A tier of which less than this is served has to be told.
pub const SERVED: f64 = 0.97;
/// Below this for every tier the model counts as down.
const DOWN: f64 = 0.5;
/// Most gateways that are played.
const GATEWAYS_MAX: u32 = 8;

/// What was played.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    /// Tiers that ask for something: position and what it is called.
    pub tiers: Vec<(usize, String)>,
    /// For each group and each loss.
    pub cells: Vec<Vec<Option<Cell>>>,
    /// Peak by what all equals carry, for each group.
    pub level: Vec<f64>,
    /// Runs that were played.
    pub runs: usize,
}

/// One loss at peak.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Share served during the loss, for each of `Forecast::tiers`.
    pub good: Vec<f64>,
    /// Seconds after its end until all is well again; nothing if that was not seen.
    pub recovery: Option<f64>,
    /// What is left carries this many times the peak.
    pub left: f64,
}

/// What is asked, and of what.
#[derive(Clone, Debug)]
pub struct Load {
    /// Tiers that ask, what they are called, and how much: requests a second, or shares.
    pub rates: Vec<(usize, String, f64)>,
    /// All of it, as a share of what the sites of a model carry.
    pub level: Option<f64>,
    /// The open answers that a site is counted with, and whether anybody said so.
    pub capacities: BTreeMap<usize, (f64, bool)>,
    /// How often a client asks again, where it is not as usual.
    pub retries: Option<u32>,
    /// What sites carry was measured: it is not their open answers that bound them.
    pub is_measured: bool,
}

impl Load {
    /// The peak, as the file has it.
    pub fn of(scene: &Scene<'_>) -> Load {
        let level = match &scene.file.check.peak {
            Some(Peak::Share(share)) => Some(*share),
            Some(Peak::ByTier(_)) => None,
            None => Some(PEAK),
        };
        let (rates, capacities) = (rates(scene), capacities(scene));
        Load { rates, level, capacities, retries: None, is_measured: false }
    }
}

/// Plays what can be played under `load`.
pub fn play(
    scene: &Scene<'_>,
    (losses, groups): (&[Loss], &[Group]),
    load: &Load,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Forecast {
    let tiers: Vec<(usize, String)> =
        load.rates.iter().map(|(at, name, _)| (*at, name.clone())).collect();
    let stages: Vec<Option<Stage>> =
        groups.iter().map(|group| Stage::new(scene, group, load)).collect();
    let mut plots: Vec<(usize, usize, Scenario)> = Vec::new();
    for (at, (group, stage)) in groups.iter().zip(&stages).enumerate() {
        for (which, left) in group.left.iter().enumerate() {
            let goes_on = matches!(left, Some(Left::Equal(_) | Left::Substitute(_)));
            if let (true, Some(stage)) = (goes_on, stage) {
                plots.extend(stage.losing(&losses[which]).map(|story| (at, which, story)));
            }
        }
    }
    let crowd = (plots.len() as f64 * SEEDS as f64 / RUNS).max(1.0);
    for (_, _, story) in &mut plots {
        let offered = story.load.level * story.bench.capacity();
        let smallest = (offered / PLAYED_MIN).max(story.bench.scale);
        story.bench.scale = (story.bench.scale * crowd).min(smallest);
    }
    let seeds = (RUNS_MAX / plots.len().max(1)).clamp(1, SEEDS as usize) as u64;
    let jobs: Vec<Job<'_>> = plots
        .iter()
        .flat_map(|(_, _, scenario)| (1..=seeds).map(move |seed| (scenario, seed)))
        .map(|(scenario, seed)| Job {
            scenario,
            seed,
            policy: PolicyKind::Mainstay,
            is_point: false,
            is_told: true,
        })
        .take(RUNS_MAX)
        .collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let done = sweep::run_all(&jobs, threads, &|done, _| progress(done, jobs.len()));
    let level =
        stages.iter().map(|stage| stage.as_ref().map_or(0.0, |stage| stage.level)).collect();
    let mut forecast = Forecast { cells: Vec::new(), level, runs: jobs.len(), tiers };
    for group in groups {
        forecast
            .cells
            .push(group.left.iter().map(|left| without(*left, &forecast.tiers)).collect());
    }
    for ((at, which, _), runs) in plots.iter().zip(done.chunks(seeds as usize)) {
        let left = stages[*at].as_ref().map_or(0.0, |stage| stage.left(&losses[*which]));
        forecast.cells[*at][*which] = Some(measured(runs, left, &forecast.tiers));
    }
    forecast
}

/// What need not be played: where nobody is left, nobody is served.
fn without(left: Option<Left>, tiers: &[(usize, String)]) -> Option<Cell> {
    let nothing = left.is_some_and(Left::is_down);
    nothing.then(|| Cell { good: vec![0.0; tiers.len()], recovery: None, left: 0.0 })
}

/// What the runs of one loss show together.
fn measured(runs: &[Done], left: f64, tiers: &[(usize, String)]) -> Cell {
    let span = (LOST_AT + SETTLED).as_secs() as usize..(LOST_AT + LOST_FOR).as_secs() as usize;
    let good = tiers.iter().map(|(at, _)| {
        let seconds =
            runs.iter().filter_map(|done| done.timeline.as_ref()?.seconds.get(span.clone()));
        let counts = seconds.flatten().filter_map(|second| second.tiers.get(*at));
        let (good, offered) =
            counts.fold((0, 0), |(good, all), each| (good + each.good, all + each.offered));
        if offered == 0 { 1.0 } else { f64::from(good) / f64::from(offered) }
    });
    let good = good.collect();
    let mut each: Vec<Option<f64>> = runs.iter().map(|done| done.run.recovery_s).collect();
    each.sort_by(|a, b| a.unwrap_or(f64::MAX).total_cmp(&b.unwrap_or(f64::MAX)));
    Cell { good, recovery: each.get(each.len() / 2).copied().flatten(), left }
}

/// Tiers that ask, what they are called, and how much: requests a second, or shares of the peak.
fn rates(scene: &Scene<'_>) -> Vec<(usize, String, f64)> {
    let all = &scene.core().tiers;
    if let Some(Peak::ByTier(rates)) = &scene.file.check.peak {
        let asks = all.iter().enumerate().filter_map(|(at, tier)| {
            let rate = rates.get(&tier.name).copied().filter(|rate| *rate > 0.0)?;
            Some((at, tier.name.clone(), rate))
        });
        return asks.collect();
    }
    let setup = &scene.resolved.setup;
    if setup.keys.is_empty() {
        return vec![(usize::from(setup.anonymous_tier), String::from("everybody"), 1.0)];
    }
    let used: BTreeSet<usize> = setup.keys.iter().map(|key| usize::from(key.tier)).collect();
    let standard = tiers();
    let share = |name: &str| {
        let known = standard.iter().find(|tier| tier.name == name);
        // A tenth for a tier that the standard bench does not have.
        known.map_or(0.1, |tier| tier.share)
    };
    let each = used.into_iter().filter_map(|at| Some((at, all.get(at)?.name.clone())));
    let mut each: Vec<_> = each.map(|(at, name)| (at, name.clone(), share(&name))).collect();
    let sum: f64 = each.iter().map(|(_, _, share)| share).sum();
    each.iter_mut().for_each(|(_, _, share)| *share /= sum);
    each
}

/// The open answers that a site is counted with; the second is whether anybody said so.
pub fn capacities(scene: &Scene<'_>) -> BTreeMap<usize, (f64, bool)> {
    let said = |at: usize| scene.core().sites[at].capacity;
    let sites = scene.remote();
    let known = sites.iter().filter_map(|at| said(*at)).max().unwrap_or(CAPACITY);
    let mut all: BTreeMap<usize, (f64, bool)> = sites
        .iter()
        .map(|at| (*at, (f64::from(said(*at).unwrap_or(known)), said(*at).is_some())))
        .collect();
    // The keys of one account share what the largest of them was said to carry.
    let is_account =
        |loss: &Loss| loss.name.starts_with("account:") || loss.name.starts_with("key:");
    let mut counted: Vec<BTreeSet<usize>> = Vec::new();
    for account in fate::fates(scene).into_iter().filter(is_account) {
        if counted.contains(&account.sites) {
            continue;
        }
        let each = || account.sites.iter().filter_map(|at| all.get(at)).map(|(count, _)| *count);
        let (sum, most) = (each().sum::<f64>(), each().fold(0.0, f64::max));
        for at in &account.sites {
            if let Some((count, _)) = all.get_mut(at) {
                *count *= most / sum.max(1.0);
            }
        }
        counted.push(account.sites);
    }
    all
}

/// The sites of a group of models with the peak in front of them.
struct Stage {
    bench: Bench,
    /// Position in the configuration of each site of the bench, and the targets played there.
    sites: Vec<(usize, BTreeSet<u16>)>,
    level: f64,
    retries: Option<u32>,
    /// Who asks, where only that is known and no sessions.
    tenants: Option<u32>,
}

impl Stage {
    fn new(scene: &Scene<'_>, group: &Group, load: &Load) -> Option<Stage> {
        let capacities = &load.capacities;
        let at = *group.models.first()?;
        let model = &scene.core().models[at];
        let mut sites: Vec<(usize, BTreeSet<u16>, bool)> = Vec::new();
        let lists = [(&model.served_by, false), (&model.substitutes, true)];
        for (id, is_substitute) in lists.iter().flat_map(|(l, s)| l.iter().map(|id| (*id, *s))) {
            let id: TargetId = id;
            let place = scene.site_of(id);
            if scene.is_embedded(place) || !fits(scene, at, id) {
                continue;
            }
            match sites.iter_mut().find(|(site, ..)| *site == place) {
                Some((_, targets, _)) => drop(targets.insert(id.0)),
                None => sites.push((place, BTreeSet::from([id.0]), is_substitute)),
            }
        }
        let equals: f64 = sites.iter().filter(|(.., s)| !s).map(|(at, ..)| capacities[at].0).sum();
        if equals == 0.0 {
            return None;
        }
        let made = sites.iter().map(|(place, _, is_substitute)| {
            let streams = capacities[place].0.max(1.0);
            let home = if *is_substitute { 0.0 } else { streams / equals };
            let mut made = site(scene.site(*place), home);
            let room = if load.is_measured { ROOM } else { 1 };
            made.streams = (streams as u32).saturating_mul(room);
            made.capacity = streams / ANSWER_SECONDS;
            made.is_provider = *is_substitute;
            // A worker that is too small reads a prompt for seconds, which no real one does.
            made.workers = ((made.capacity / WORKER) as u16).clamp(1, made.workers);
            made
        });
        let gateways = scene.gateways().unwrap_or(1).clamp(1, GATEWAYS_MAX) as u16;
        let mut bench = Bench {
            name: String::from("check"),
            sites: made.collect(),
            gateways,
            round_trip: Vec::new(),
            tiers: classes(scene, &load.rates),
            scale: 1.0,
        };
        bench.lay_out(gateways);
        let asked = || load.rates.iter().map(|(_, _, rate)| rate).sum::<f64>();
        let level = load.level.unwrap_or_else(|| asked() / bench.capacity());
        bench.scale = (level * bench.capacity() / PLAYED).max(1.0);
        let sites = sites.into_iter().map(|(place, targets, _)| (place, targets)).collect();
        // The keys are the tenants; requests that were counted one by one are no sessions.
        let keys = scene.resolved.setup.keys.len().max(1) as u32;
        let tenants = load.is_measured.then_some(keys);
        Some(Stage { bench, sites, level, retries: load.retries, tenants })
    }

    /// Positions in the bench of the sites that go, with all that is played there.
    fn gone(&self, loss: &Loss) -> Vec<u16> {
        let goes = |targets: &BTreeSet<u16>| targets.is_subset(&loss.targets);
        let all = self.sites.iter().enumerate().filter(|(_, (_, targets))| goes(targets));
        all.filter_map(|(at, _)| u16::try_from(at).ok()).collect()
    }

    /// What is left after a loss, in peaks.
    fn left(&self, loss: &Loss) -> f64 {
        let gone = self.gone(loss);
        let all = self.bench.sites.iter().enumerate();
        let stays = all.filter(|(at, _)| !gone.iter().any(|each| usize::from(*each) == *at));
        let left: f64 = stays.map(|(_, site)| site.capacity).sum();
        left / (self.level * self.bench.capacity())
    }

    /// The story of a loss.
    fn losing(&self, loss: &Loss) -> Option<Scenario> {
        const STORY: &str = "id = \"check\"\ntitle = \"A loss at peak\"\nduration = \"5m\"\n";
        let file = File::parse("check", STORY).ok()?;
        let mut story = file.scenario(With::Other(&self.bench)).ok()?;
        story.load.level = self.level;
        story.clients.retries = self.retries.unwrap_or(story.clients.retries);
        if let Some(tenants) = self.tenants {
            (story.load.tenants, story.load.turns) = (tenants, 1);
        }
        let sites = Which::These(self.gone(loss));
        story.faults.push(Fault {
            at: LOST_AT,
            until: Some(LOST_AT + LOST_FOR),
            kind: FaultKind::SiteDown { sites, how: How::Refuse, cold: Some(COLD) },
            line: 0,
        });
        Some(story)
    }
}

/// All tiers with their floors; those that do not ask have no share.
fn classes(scene: &Scene<'_>, rates: &[(usize, String, f64)]) -> Vec<BenchTier> {
    let sum: f64 = rates.iter().map(|(_, _, rate)| rate).sum();
    let patience = tiers()[0].patience;
    let all = scene.core().tiers.iter().enumerate();
    all.map(|(at, tier)| {
        let rate = rates.iter().find(|(each, ..)| *each == at).map_or(0.0, |(_, _, rate)| *rate);
        BenchTier { name: tier.name.clone(), floor: tier.floor, share: rate / sum, patience }
    })
    .collect()
}

/// What the forecast finds, and what it had to assume.
pub fn findings(
    scene: &Scene<'_>,
    (losses, groups): (&[Loss], &[Group]),
    forecast: &Forecast,
) -> Vec<Finding> {
    let capacities = capacities(scene);
    let used: BTreeSet<usize> =
        scene.core().targets.iter().map(|t| usize::from(t.site.0)).collect();
    let unknown: Vec<usize> = used
        .iter()
        .copied()
        .filter(|at| capacities.get(at).is_some_and(|(_, said)| !said))
        .collect();
    let assumed = scene.file.check.peak.is_none() || !unknown.is_empty();
    let mut found = Vec::new();
    for (group, (cells, level)) in groups.iter().zip(forecast.cells.iter().zip(&forecast.level)) {
        let over = above(scene, group, *level);
        let is_over = over.is_some();
        found.extend(over);
        if is_over {
            continue;
        }
        let low = losses.iter().zip(cells).filter_map(|(loss, cell)| {
            let cell = cell.as_ref().filter(|cell| cell.left > 0.0)?;
            cell.good.iter().any(|good| *good < SERVED).then_some((loss, cell))
        });
        // What a fate takes with it is told where its sites alone would not.
        let (sites, fates): (Vec<_>, Vec<_>) = low.partition(|(loss, _)| loss.is_site);
        for low in [sites, fates] {
            found.extend(unserved(scene, (group, &low), (forecast, assumed)));
        }
    }
    // Assumptions matter where something was played.
    if forecast.runs > 0 {
        found.extend(unknowns(scene, &unknown, &capacities));
        if scene.file.check.peak.is_none() {
            found.push(Finding::new("MS203", Severity::Note, scene.place("check.peak")).saying(
                "the load at peak is not known",
                format!(
                    "The forecast assumes {:.0} % of what the sites of a model carry together.",
                    PEAK * 100.0
                ),
                "say it: [check] peak = 0.6, or requests a second by tier: peak = { free = 10 }",
            ));
        }
    }
    found
}

fn unknowns(
    scene: &Scene<'_>,
    unknown: &[usize],
    capacities: &BTreeMap<usize, (f64, bool)>,
) -> Option<Finding> {
    let first = unknown.first()?;
    let names: Vec<&str> = unknown.iter().map(|at| scene.site(*at)).collect();
    let finding = Finding::new("MS202", Severity::Note, scene.site_place(*first, "capacity"));
    Some(finding.saying(
        format!("the capacity of {} is not known", listed(&names)),
        format!("The forecast assumes {:.0} open answers at once.", capacities[first].0),
        "say what the account or the server allows: capacity = N in its [[site]]",
    ))
}

/// The peak is more than all sites carry: no loss is needed.
fn above(scene: &Scene<'_>, group: &Group, level: f64) -> Option<Finding> {
    let names = scene.names(&group.models);
    let finding = Finding::new("MS204", Severity::Warning, scene.place("check.peak"));
    (level > 1.0).then(|| {
        finding
            .saying(
                format!("the peak is {:.0} % of what {} has", level * 100.0, listed(&names)),
                "At peak, lower tiers are refused with a time to come back although nothing is \
                 broken.",
                "add capacity, or mend peak or the capacity of the sites",
            )
            .of(names)
    })
}

fn unserved(
    scene: &Scene<'_>,
    (group, low): (&Group, &[(&Loss, &Cell)]),
    (forecast, assumed): (&Forecast, bool),
) -> Option<Finding> {
    let worst = low.iter().min_by(|a, b| a.1.left.total_cmp(&b.1.left))?;
    let (loss, cell) = *worst;
    let names: Vec<String> = low.iter().map(|(loss, _)| loss.called(scene)).collect();
    let without = listed(&names).replace(" and ", " or ");
    let short = |at: &usize| low.iter().any(|(_, cell)| cell.good[*at] < SERVED);
    let tiers: Vec<&str> =
        (0..forecast.tiers.len()).filter(short).map(|at| forecast.tiers[at].1.as_str()).collect();
    let each: Vec<String> = forecast
        .tiers
        .iter()
        .zip(&cell.good)
        .map(|((_, name), good)| format!("{name} {:.0} %", (good * 100.0).floor()))
        .collect();
    let is_down = cell.good.iter().all(|good| *good < DOWN);
    let assumed = assumed || loss.assumed;
    let severity = if is_down && !assumed { Severity::Error } else { Severity::Warning };
    let models = scene.names(&group.models);
    let spare = scene.remote().into_iter().find(|at| !loss.sites.contains(at)).unwrap_or(0);
    let place = match scene.file.check.peak {
        Some(_) => scene.place("check.peak"),
        None => scene.site_place(spare, "capacity"),
    };
    let finding = Finding::new("MS201", severity, place).saying(
        format!(
            "without {without} not all of {} is served at peak: {}",
            listed(&models),
            listed(&tiers)
        ),
        format!(
            "Without {} the rest carries {:.0} % of the peak, and served are: {}. Who is not is \
             refused with 429 or 503 and a time to come back, the lowest tier first.",
            loss.called(scene),
            cell.left * 100.0,
            listed(&each)
        ),
        format!(
            "{:.0} % more capacity elsewhere, or a substitute with room",
            ((1.0 / cell.left.max(0.01) - 1.0) * 100.0).max(5.0).ceil(),
        ),
    );
    Some(finding.of(models).at_loss(&loss.name, assumed))
}
