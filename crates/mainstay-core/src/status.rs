//! The status role: what the public reads of the service, from what gateways push.
//!
//! It hears a summary of every gateway each second, adds them up, and shows a state for the API,
//! each model and each site. It asks nobody and nobody waits for it. Few requests are told as no
//! data, and where gateways fall silent it says since when nothing is known. Ages cross the wire:
//! what is older than a window is never taken for now.
//!
//! A site that is down gets no requests, so its own counts say nothing after a second; what says
//! it then is how gateways believe that it stands, which comes from their attempts and probes.
//!
//! What users report is counted beside it (`crowd`), what lasts is told as an incident
//! (`incident`), and what was is kept in short (`history`). Days and hours are the role's own wall
//! clock, which only names times and decides nothing that gateways do.

pub mod callers;
mod component;
pub mod counted;
pub mod crowd;
mod ears;
pub mod history;
pub mod incident;
pub mod maintenance;
mod told;

use crate::fact::{Because, Component as Which, State, StatusFact};
use crate::message::{Count, SUMMARY_MAX, Standing, Summary};
use crate::names::{GatewayId, ModelId, SiteId};
use crate::time::{Duration, Time};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use component::{Component, Sign};
use crowd::Reported;
use ears::Ears;
use incident::Incidents;
use maintenance::Windows;

pub use ears::Data;
pub use told::{Kept, KeptComponent};

/// First tokens later than this break the promise of any tier.
pub const PROMISE: Duration = Duration::from_secs(5);
/// How long a component must be well before it is shown as well again: as operations teams wait
/// before they call an incident resolved.
pub const GREEN: Duration = Duration::from_secs(600);
/// Components are judged so often.
const JUDGE_EVERY: Duration = Duration::from_secs(1);
/// The last minute is what is told in numbers.
const TOLD: (u64, u64) = (0, 60);
/// One gateway that finds a site down is believed after this time, two at once.
const ALONE: Duration = Duration::from_secs(5);

/// What the operator decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The gateways that push, by position.
    pub gateways: Vec<String>,
    /// The models that clients ask for, by position.
    pub models: Vec<String>,
    /// The sites, by position.
    pub sites: Vec<String>,
    /// How long a component must be well before it is shown as well again.
    pub green: Duration,
    /// First tokens are promised within this time.
    pub first_token: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            gateways: Vec::new(),
            models: Vec::new(),
            sites: Vec::new(),
            green: GREEN,
            first_token: PROMISE,
        }
    }
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A gateway tells how it goes.
    Summary(GatewayId, Box<Summary>),
    /// Another configuration is in force.
    Adopt(Config),
    /// A user reports trouble with a model, a site, both or the API as such.
    Report {
        /// Which model.
        model: Option<ModelId>,
        /// Which site.
        site: Option<SiteId>,
        /// A number for who reports, the same for half an hour at least.
        reporter: u64,
    },
    /// The deadline came.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Tell this decision.
    Fact(StatusFact),
}

/// How bad it is as a whole; a later one is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overall {
    /// Everything that is known of is well.
    Well,
    /// Something is impaired that most do not notice.
    Minor,
    /// Part of the service fails.
    Major,
    /// The service fails.
    Critical,
}

/// Everything that is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// How fresh it is.
    pub data: Data,
    /// Gateways heard lately, of so many.
    pub heard: (usize, usize),
    /// How bad it is.
    pub overall: Overall,
    /// Whether anything is known of the API.
    pub is_known: bool,
    /// Since anything changed.
    pub changed: Duration,
    /// The API, then models, then sites.
    pub rows: Vec<Row>,
}

/// One component as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which.
    pub component: Which,
    /// How it is.
    pub state: State,
    /// For how long.
    pub lasts: Duration,
    /// Of a thousand requests of the last minute, how many were good.
    pub good: Option<u16>,
    /// Within this time 95 of 100 first tokens came in the last minute.
    pub first_token: Option<Duration>,
    /// What users report of it.
    pub reported: Reported,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Status {
    config: Config,
    ears: Ears,
    api: Component,
    models: Vec<Component>,
    sites: Vec<Component>,
    incidents: Incidents,
    windows: Windows,
    /// Seconds since 1970 when its time was zero.
    zero: u64,
    began: Time,
    judged: Time,
    changed: Time,
}

impl Status {
    /// One that begins now, so many seconds since 1970, and knows what was kept.
    pub fn new(now: Time, wall: u64, config: Config, kept: Kept) -> Status {
        let config = within_bounds(config);
        let components = |names: &[String]| names.iter().map(|_| Component::default()).collect();
        let mut status = Status {
            ears: Ears::new(now, config.gateways.len()),
            api: Component::default(),
            models: components(&config.models),
            sites: components(&config.sites),
            incidents: Incidents::default(),
            windows: Windows::default(),
            zero: wall.saturating_sub(now.as_micros() / 1_000_000),
            config,
            began: now,
            judged: now,
            changed: now,
        };
        status.restore(kept);
        status
    }

    /// Takes in an event.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Summary(from, summary) => self.hear(now, from, *summary, actions),
            Event::Adopt(config) => self.adopt(now, config),
            Event::Report { model, site, reporter } => {
                self.report(now, (model, site), reporter, actions);
            }
            Event::Tick => {}
        }
        if now.since(self.judged) >= JUDGE_EVERY {
            let lasted = now.since(self.judged).as_secs();
            // The rest of a second counts for the next time.
            self.judged = self.judged + Duration::from_secs(lasted);
            self.judge(now, actions);
            self.pass(now, lasted, actions);
        }
    }

    /// When to call again, and what for.
    pub fn deadline(&self) -> Option<(Time, &'static str)> {
        Some((self.judged + JUDGE_EVERY, "judge the components"))
    }

    /// What is shown now.
    pub fn page(&self, now: Time) -> Page {
        let data = self.ears.data(now);
        let is_lost = matches!(data, Data::Lost(_) | Data::None(_));
        let rows: Vec<Row> = self.all().map(|(which, each)| self.row(now, which, each)).collect();
        let rows: Vec<Row> = match is_lost {
            true => rows.into_iter().map(Row::unknown).collect(),
            false => rows,
        };
        let overall = rows.iter().map(Row::weighs).max().unwrap_or(Overall::Well);
        Page {
            overall: match data {
                Data::Lost(_) => Overall::Major,
                Data::Stale(_) => overall.max(Overall::Minor),
                Data::None(_) | Data::Fresh(_) => overall,
            },
            data,
            heard: self.ears.heard(now),
            is_known: rows.first().is_some_and(|row| row.state != State::NoData),
            changed: now.since(self.changed),
            rows,
        }
    }

    fn row(&self, now: Time, component: Which, each: &Component) -> Row {
        let told = each.count(now, TOLD);
        Row {
            component,
            state: self.shown((component, each)),
            lasts: now.since(each.since.unwrap_or(self.began)),
            good: told.good_per_mille(),
            first_token: told.first_token_p95(),
            reported: each.crowd.shown(self.minute(now)),
        }
    }

    fn all(&self) -> impl Iterator<Item = (Which, &Component)> {
        let models = (0..).map(|at| Which::Model(ModelId(at))).zip(&self.models);
        let sites = (0..).map(|at| Which::Site(SiteId(at))).zip(&self.sites);
        [(Which::Api, &self.api)].into_iter().chain(models).chain(sites)
    }

    fn hear(&mut self, now: Time, from: GatewayId, summary: Summary, actions: &mut Vec<Action>) {
        let Some(more) = self.ears.hear(now, from, summary, actions) else { return };
        let wall = self.wall(now);
        let models = more.models.iter().map(|(model, count)| (Which::Model(*model), count));
        let sites = more.sites.iter().map(|(site, _, count)| (Which::Site(*site), count));
        let all: Vec<(Which, &Count)> =
            [(Which::Api, &more.api)].into_iter().chain(models).chain(sites).collect();
        self.incidents.counted(&all);
        self.api.history.flowed(wall, &more.gaps);
        for (which, count) in all {
            if let Some(component) = self.component(which) {
                component.add(now, count);
                component.history.counted(wall, count);
            }
        }
    }

    fn judge(&mut self, now: Time, actions: &mut Vec<Action>) {
        let was_lost = self.ears.is_lost();
        self.ears.watch(now, actions);
        if was_lost != self.ears.is_lost() {
            self.changed = now;
        }
        // What nobody tells of gets neither worse nor better.
        if self.ears.is_stale(now) {
            self.components().for_each(|(_, component)| component.forget_green());
            return;
        }
        let promise = self.config.first_token;
        let green = self.config.green;
        let votes: Vec<Option<Sign>> =
            (0..self.sites.len()).map(|site| self.ears.votes(now, site, ALONE)).collect();
        let mut moved = Vec::new();
        for (which, component) in self.components() {
            let counted = component.judge(now, promise);
            let sign = match which {
                Which::Site(site) => of_site(counted, votes[usize::from(site.0)]),
                Which::Api | Which::Model(_) => counted,
            };
            let from = component.shown;
            if let Some((to, because)) = component.settle(now, sign, green) {
                moved.push(StatusFact::Moved { component: which, from, to, because });
            }
        }
        if !moved.is_empty() {
            self.changed = now;
        }
        actions.extend(moved.into_iter().map(Action::Fact));
    }

    fn components(&mut self) -> impl Iterator<Item = (Which, &mut Component)> {
        let models = (0..).map(|at| Which::Model(ModelId(at))).zip(&mut self.models);
        let sites = (0..).map(|at| Which::Site(SiteId(at))).zip(&mut self.sites);
        [(Which::Api, &mut self.api)].into_iter().chain(models).chain(sites)
    }

    /// What is called the same goes on under its new position.
    fn adopt(&mut self, now: Time, config: Config) {
        let config = within_bounds(config);
        self.models = moved((&self.config.models, &self.models), &config.models);
        self.sites = moved((&self.config.sites, &self.sites), &config.sites);
        self.ears.adopt(now, &self.config.gateways, &config.gateways);
        self.move_incidents(&config);
        self.config = config;
    }
}

impl Row {
    /// The same where nobody knows.
    fn unknown(self) -> Row {
        Row { state: State::NoData, good: None, first_token: None, ..self }
    }

    /// What its state means for the whole. A site that is down is made up for by others, as far as
    /// they can; where they cannot, models tell.
    fn weighs(&self) -> Overall {
        match (self.component, self.state) {
            (_, State::NoData | State::Maintenance | State::Operational) => Overall::Well,
            (Which::Api, State::Major) => Overall::Critical,
            (Which::Api, State::Partial) | (Which::Model(_), State::Major) => Overall::Major,
            (_, State::Degraded | State::Partial | State::Major) => Overall::Minor,
        }
    }
}

/// What a site's counts and gateways' belief come to: the worse of the two.
fn of_site(counted: Option<Sign>, believed: Option<Sign>) -> Option<Sign> {
    match (counted, believed) {
        (Some((counted, _)), Some(believed)) if counted < believed.0 => Some(believed),
        (_, Some(shut)) if shut.0 == State::Maintenance => Some(shut),
        (counted, believed) => counted.or(believed),
    }
}

fn within_bounds(mut config: Config) -> Config {
    config.models.truncate(SUMMARY_MAX);
    config.sites.truncate(SUMMARY_MAX);
    config
}

/// What is kept for names, for other names.
fn moved<T: Clone + Default>((names, kept): (&[String], &[T]), now: &[String]) -> Vec<T> {
    let find = |name: &String| {
        let at = names.iter().position(|other| other == name)?;
        kept.get(at).cloned()
    };
    now.iter().map(|name| find(name).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests;
