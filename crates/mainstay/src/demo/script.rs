//! A scenario's faults as things that can be done to processes.

use super::fleet;
use crate::load::plan::Surge;
use mainstay_sim::scenario::read::{File, With};
use mainstay_sim::scenario::{Bench, Direction, FaultKind, Loss, Process, Scenario, Which};
use std::path::Path;
use std::time::Duration;

/// Something to do at a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When, since the load began.
    pub at: Duration,
    /// What.
    pub act: Act,
    /// To which processes.
    pub nodes: Vec<String>,
}

/// What is done to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Killed at once.
    Kill,
    /// Started again.
    Start,
    /// Stopped where it stands.
    Stop,
    /// Let go on.
    Go,
    /// Slowed down so many times.
    Slow(u32),
    /// Cut off from the whole fleet, not from its clients.
    Cut,
    /// It hears nothing of the second any more, which still hears of it.
    Deafen,
    /// Joined again.
    Join,
}

impl Step {
    /// In words.
    pub fn words(&self) -> String {
        let what = match self.act {
            Act::Kill => "kill -9".to_owned(),
            Act::Start => "start".to_owned(),
            Act::Stop => "stop (accepts, never answers)".to_owned(),
            Act::Go => "go on".to_owned(),
            Act::Slow(factor) => format!("{factor} times slower"),
            Act::Cut => "cut off from the fleet".to_owned(),
            Act::Deafen => "nothing comes back from the second".to_owned(),
            Act::Join => "joined again".to_owned(),
        };
        format!("{}: {what}", self.nodes.join(", "))
    }
}

/// What a script asks for.
pub struct Script {
    /// The story as the simulator plays it.
    pub scenario: Scenario,
    /// What is done to processes.
    pub steps: Vec<Step>,
    /// When more requests come than usual.
    pub surges: Vec<Surge>,
}

/// The scenario in `path` on the demo's bench, its steps and surges.
///
/// # Errors
/// What is wrong in the file, or cannot be done to processes.
pub fn read(path: &Path, bench: &Bench) -> Result<Script, Vec<String>> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| vec![format!("{shown} cannot be read: {error}; mend --script")])?;
    let lines = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let file = File::parse(&shown, &text).map_err(lines)?;
    let scenario = file.scenario(With::Other(bench)).map_err(lines)?;
    let (mut steps, mut surges, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for fault in &scenario.faults {
        let done = |act: Act, nodes: Vec<String>, undone: Act| {
            let first = Step { at: fault.at, act, nodes: nodes.clone() };
            let second = fault.until.map(|at| Step { at, act: undone, nodes });
            [Some(first), second].into_iter().flatten().collect::<Vec<_>>()
        };
        let sites =
            |which: &Which| names(which, bench.sites.len(), |at| fleet::site_name(at as u8));
        let gateways = |which: &Which| {
            names(which, usize::from(bench.gateways), |at| format!("gw-{}", at + 1))
        };
        match &fault.kind {
            FaultKind::SiteDown { sites: which, how: Loss::Refuse, .. } => {
                steps.extend(done(Act::Kill, sites(which), Act::Start));
            }
            FaultKind::SiteDown { sites: which, how: Loss::Blackhole, .. } => {
                steps.extend(done(Act::Stop, sites(which), Act::Go));
            }
            FaultKind::Slow { sites: which, share, factor } if *share >= 1.0 => {
                let factor = factor.round().clamp(1.0, 100.0) as u32;
                steps.extend(done(Act::Slow(factor), sites(which), Act::Go));
            }
            FaultKind::GatewayCrash { gateways: which, restart } => {
                let nodes = gateways(which);
                steps.push(Step { at: fault.at, act: Act::Kill, nodes: nodes.clone() });
                steps.push(Step { at: fault.at + *restart, act: Act::Start, nodes });
            }
            FaultKind::CrashAll { what: Process::Gateways, restart } => {
                let nodes = gateways(&Which::All);
                steps.push(Step { at: fault.at, act: Act::Kill, nodes: nodes.clone() });
                steps.push(Step { at: fault.at + *restart, act: Act::Start, nodes });
            }
            FaultKind::Partition { groups } if alone(groups).is_some() => {
                let nodes = gateways(&Which::These(alone(groups).unwrap_or_default()));
                steps.extend(done(Act::Cut, nodes, Act::Join));
            }
            FaultKind::Link { gateways: from, sites: to, effect, direction, .. }
                if effect.loss >= 1.0 && *direction == Direction::ToGateway =>
            {
                for (gateway, site) in pairs(&gateways(from), &sites(to)) {
                    steps.extend(done(Act::Deafen, vec![gateway, site], Act::Join));
                }
            }
            FaultKind::Surge { factor, tier, ramp } => surges.push(Surge {
                tier: tier.map(|tier| bench.tiers[usize::from(tier)].name.to_string()),
                factor: *factor,
                from: fault.at,
                until: fault.until,
                ramp: *ramp,
            }),
            _ => wrong.push(format!(
                "{shown}:{}: this fault cannot be done to processes; use site-down, slow, \
                 gateway-crash, crash-all of gateways, surge, or with --namespaces a partition of \
                 single gateways, or a link with loss = 1 and direction = \"to-gateway\"",
                fault.line
            )),
        }
    }
    steps.sort_by_key(|step| step.at);
    if wrong.is_empty() { Ok(Script { scenario, steps, surges }) } else { Err(wrong) }
}

/// The gateways that are cut off, if each is alone on its side.
fn alone(groups: &[(Vec<u16>, Vec<u16>)]) -> Option<Vec<u16>> {
    let (cut, rest): (Vec<_>, Vec<_>) = groups.iter().partition(|(_, sites)| sites.is_empty());
    let cut: Vec<u16> = cut.into_iter().flat_map(|(gateways, _)| gateways.clone()).collect();
    (rest.len() == 1 && !cut.is_empty()).then_some(cut)
}

fn pairs(from: &[String], to: &[String]) -> Vec<(String, String)> {
    let each = |from: &String| to.iter().map(|to| (from.clone(), to.clone())).collect::<Vec<_>>();
    from.iter().flat_map(each).collect()
}

fn names(which: &Which, count: usize, name: impl Fn(usize) -> String) -> Vec<String> {
    match which {
        Which::All => (0..count).map(name).collect(),
        Which::These(these) => these.iter().map(|at| name(usize::from(*at))).collect(),
    }
}
