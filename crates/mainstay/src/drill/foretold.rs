//! What `check` says of the loss of the drilled site, under the load that gateways saw.

use super::Watched;
use super::counts::{demand, mean_cost};
use crate::check::fate;
use crate::check::forecast::{self, Load};
use crate::check::scene::Scene;
use crate::check::survival::{self, Left};
use mainstay_sim::bench::ANSWER_SECONDS;

/// A forecast.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foretold {
    /// Share of each tier that is answered well.
    pub tiers: Vec<(String, f64)>,
    /// The load, as a share of what all sites carry.
    pub level: f64,
    /// What is left carries so many times the load.
    pub left: f64,
    /// Seconds after its end until all is well again.
    pub recovery: Option<f64>,
    /// Models it is for.
    pub models: Vec<String>,
    /// What had to be assumed.
    pub assumed: Option<String>,
}

/// What `check` says of the loss of `site`.
///
/// # Errors
/// Why it says nothing.
pub fn foretell(scene: &Scene<'_>, site: &str, watched: &Watched) -> Result<Foretold, String> {
    let all = fate::losses(scene);
    let loss = all.into_iter().find(|loss| loss.is_site && loss.name == site);
    let loss = loss.ok_or_else(|| {
        format!("this configuration has no site {site} outside this process; give --config")
    })?;
    let losses = [loss];
    let groups = survival::groups(scene, &losses);
    let touched: Vec<_> = groups.into_iter().filter(|group| group.left[0].is_some()).collect();
    let group = touched.into_iter().max_by_key(|group| group.models.len());
    let group = group.ok_or_else(|| format!("no model is answered by {site}"))?;
    let (load, assumed) = load(scene, watched);
    let groups = [group];
    let played = forecast::play(scene, (&losses, &groups), &load, &|_, _| {});
    let cell = played.cells.first().and_then(|cells| cells.first()).cloned().flatten();
    let cell = cell.ok_or_else(|| match groups[0].left[0] {
        Some(Left::Engine(_)) => "an embedded engine answers then, which is not played".to_owned(),
        _ => "nothing was played".to_owned(),
    })?;
    let names = played.tiers.into_iter().map(|(_, name)| name);
    Ok(Foretold {
        tiers: names.zip(cell.good).collect(),
        level: played.level.first().copied().unwrap_or_default(),
        left: cell.left,
        recovery: cell.recovery,
        models: scene.names(&groups[0].models),
        assumed,
    })
}

/// The load that was there, as far as it was seen, and what is assumed of it.
fn load(scene: &Scene<'_>, watched: &Watched) -> (Load, Option<String>) {
    // Gateways count a client that comes again as another request.
    let mut load = Load { retries: Some(0), ..Load::of(scene) };
    let demand = demand(&watched.gateways);
    let place = |name: &str| scene.core().tiers.iter().position(|tier| tier.name == name);
    let rates = demand.iter().filter(|(_, rate)| *rate > 0.0);
    let mut rates: Vec<(usize, String, f64)> =
        rates.filter_map(|(name, rate)| Some((place(name)?, name.clone(), *rate))).collect();
    rates.sort_by_key(|(at, ..)| *at);
    let asked: f64 = rates.iter().map(|(_, _, rate)| rate).sum();
    let sites = scene.remote();
    let carries = |at: &usize| watched.load.capacity.get(scene.site(*at)).copied().unwrap_or(0.0);
    let carried: f64 = sites.iter().map(carries).sum();
    if asked > 0.0 && sites.iter().all(|at| carries(at) > 0.0) {
        // In requests of their mean cost: a site of few large ones is not one of many small ones.
        let mean = mean_cost(&watched.gateways);
        let open = |at: &usize| carries(at) / mean * ANSWER_SECONDS;
        load.capacities = sites.iter().map(|at| (*at, (open(at), true))).collect();
        load.is_measured = true;
        load.level = Some(asked / carried);
        load.rates = rates;
        return (load, None);
    }
    if !rates.is_empty() {
        // Their shares; how much that is of what sites carry is not known in cost units.
        let level = load.level.unwrap_or_else(|| {
            load.rates.iter().map(|(_, _, rate)| rate).sum::<f64>() / known(&load)
        });
        (load.level, load.rates) = (Some(level), rates);
    }
    let open: f64 = sites.iter().filter_map(|at| watched.load.open(scene.site(*at))).sum();
    if open > 0.0 && sites.iter().all(|at| load.capacities.get(at).is_some_and(|(_, said)| *said)) {
        load.level = Some(open / sites.iter().map(|at| load.capacities[at].0).sum::<f64>());
        return (load, None);
    }
    let level = load.level.unwrap_or_default() * 100.0;
    let assumed = format!(
        "what the sites carry was not measured: the load is taken as {level:.0} % of it; say \
         capacity in each [[site]]"
    );
    (load, Some(assumed))
}

/// Requests a second that the sites carry, as the forecast counts them.
fn known(load: &Load) -> f64 {
    let open: f64 = load.capacities.values().map(|(open, _)| open).sum();
    (open / ANSWER_SECONDS).max(1.0)
}
