//! The status role: runs its machine, and shows the public what it decides.
//!
//! Gateways push what they counted; nobody is asked. The page, the JSON and the badge are written
//! from one look at the machine, so they never differ. Names are what operators call things in
//! public; no request, key or tenant is known here.

mod alert;
mod badge;
mod bars;
mod dates;
mod door;
mod draft;
mod feed;
mod html;
mod json;
mod kept;
pub mod operate;
mod reports;
mod style;
mod tell;
mod words;
mod works;

pub use door::{Door, Still};

use crate::drive::{Clock, at_deadlines};
use crate::setup::Setup;
use alert::Alerts;
use kept::Store;
use mainstay_core::fact::{Because, Component, State, StatusFact};
use mainstay_core::message::{Short, Summary};
use mainstay_core::names::GatewayId;
use mainstay_core::status::history::{Day, Drawn};
use mainstay_core::status::incident::Incident;
use mainstay_core::status::incident::{Unwilling, Wish};
use mainstay_core::status::maintenance::{Maintenance, Plan, Untold};
use mainstay_core::status::{Action, Config, Event, Page, Row, Status};
use mainstay_core::time::Time;
use reports::Gate;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The machine and what its positions are called.
pub struct Desk {
    clock: Clock,
    shared: Mutex<Shared>,
    wake: Notify,
}

struct Shared {
    machine: Status,
    config: Config,
    names: Arc<Names>,
    gate: Gate,
    alerts: Alerts,
    store: Store,
    /// The minute in which everything was kept last.
    stored: u64,
}

/// What the public calls things.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    title: String,
    url: Option<String>,
    models: Vec<String>,
    /// None: it is not shown.
    sites: Vec<Option<String>>,
    tiers: Vec<String>,
    /// Whether the public is told whom the loss of a site would leave refused.
    is_open: bool,
}

/// Everything that is shown at one moment.
struct View {
    page: Page,
    names: Arc<Names>,
    incidents: Vec<Incident>,
    maintenances: Vec<Maintenance>,
    /// Whom the loss of a site would leave refused, where the public is told.
    short: Vec<Short>,
    /// Ninety days of the first components, by row.
    days: Vec<Vec<Option<Day>>>,
    /// The last day of the API.
    drawn: Vec<Drawn>,
    /// Seconds since 1970.
    wall: u64,
    /// Which page is asked for, as it is called below a language: the first one is called nothing.
    here: String,
}

/// So many components have their bars on the page, which has to stay small.
const BARS_MAX: usize = 24;

impl Desk {
    /// A status role that begins now.
    pub fn new(setup: &Setup) -> Arc<Desk> {
        let store = Store::of(setup.data_dir.as_deref());
        let desk = Desk::of(setup.status_config(), Names::of(setup), store);
        desk.lock().alerts.adopt(setup);
        desk
    }

    fn of(config: Config, names: Names, store: Store) -> Arc<Desk> {
        let clock = Clock::new();
        let wall = dates::now();
        let machine = Status::new(clock.now(), wall, config.clone(), store.read(&config));
        let (names, gate, alerts) = (Arc::new(names), Gate::default(), Alerts::default());
        let shared = Shared { machine, config, names, gate, alerts, store, stored: wall / 60 };
        Arc::new(Desk { clock, shared: Mutex::new(shared), wake: Notify::new() })
    }

    /// The gateway of this name tells how it goes.
    pub fn hear(&self, gateway: &str, summary: Summary) {
        let at = self.lock().config.gateways.iter().position(|name| name == gateway);
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()) {
            self.tell(Event::Summary(GatewayId(at), Box::new(summary)));
        }
    }

    /// Another configuration is in force.
    pub fn adopt(&self, setup: &Setup) {
        let config = setup.status_config();
        self.tell(Event::Adopt(config.clone()));
        let mut shared = self.lock();
        (shared.config, shared.names) = (config, Arc::new(Names::of(setup)));
        shared.alerts.adopt(setup);
    }

    /// Calls the machine at its deadlines until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let next = || self.lock().machine.deadline().map(|(at, _)| at);
        let tick = || self.tell(Event::Tick);
        at_deadlines((self.clock, &self.wake), next, tick, shutdown).await;
    }

    fn tell(&self, event: Event) {
        let now = self.clock.now();
        let mut actions = Vec::new();
        let mut shared = self.lock();
        shared.machine.handle(now, event, &mut actions);
        shared.carry_out(now, actions);
    }

    /// Does what a person wants of an incident; its number, or why not.
    fn wish(&self, wish: Wish) -> Result<u32, Unwilling> {
        self.change(|machine, now, actions| machine.wish(now, wish, actions))
    }

    /// Does what a person wants of a maintenance window; its number, or why not.
    fn plan(&self, plan: Plan) -> Result<u32, Untold> {
        self.change(|machine, now, actions| machine.plan(now, plan, actions))
    }

    fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Status, Time, &mut Vec<Action>) -> Result<T, E>,
    ) -> Result<T, E> {
        let now = self.clock.now();
        let mut actions = Vec::new();
        let mut shared = self.lock();
        let done = change(&mut shared.machine, now, &mut actions);
        shared.carry_out(now, actions);
        if done.is_ok() {
            shared.keep();
        }
        done
    }

    fn view(&self) -> View {
        let now = self.clock.now();
        self.lock().view(now)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // As in `Drive`: showing on is better than failing every reader from then on.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn view(&self, now: Time) -> View {
        let (machine, names) = (&self.machine, self.names.clone());
        let (page, wall) = (machine.page(now), machine.wall(now));
        let history = |row: &Row| machine.history(row.component);
        let days = page
            .rows
            .iter()
            .take(BARS_MAX)
            .map(|row| history(row).map_or_else(Vec::new, |history| history.bars(wall)));
        let days = days.collect();
        let drawn = page.rows.first().and_then(history);
        let drawn = drawn.map_or_else(Vec::new, |history| history.drawn(wall));
        let incidents = machine.incidents().to_vec();
        let maintenances = machine.maintenances().to_vec();
        let short = if names.is_open { machine.short(now) } else { Vec::new() };
        let here = String::new();
        View { page, names, incidents, maintenances, short, days, drawn, wall, here }
    }

    fn carry_out(&mut self, now: Time, actions: Vec<Action>) {
        let is_told = actions.iter().any(|Action::Fact(fact)| {
            matches!(fact, StatusFact::Incident { .. } | StatusFact::Maintenance { .. })
        });
        for Action::Fact(fact) in actions {
            log(&self.config, &fact);
            if self.alerts.concern(&fact) {
                self.alerts.tell(&fact, &self.view(now));
            }
        }
        let minute = self.machine.wall(now) / 60;
        if is_told || minute > self.stored {
            self.stored = minute;
            self.keep();
        }
    }

    fn keep(&self) {
        self.store.write(&self.machine.kept(), &self.config);
    }
}

impl Names {
    fn of(setup: &Setup) -> Names {
        Names {
            title: setup.status.title.clone(),
            url: setup.status.url.clone(),
            models: setup.core.models.iter().map(|model| model.name.clone()).collect(),
            sites: setup.status.sites.clone(),
            tiers: setup.core.tiers.iter().map(|tier| tier.name.clone()).collect(),
            is_open: setup.status.publish_capacity,
        }
    }

    /// What the public calls a component; none if it is not shown.
    fn name(&self, component: Component) -> Option<&str> {
        match component {
            Component::Api => Some("API"),
            Component::Model(model) => self.models.get(usize::from(model.0)).map(String::as_str),
            Component::Site(site) => self.sites.get(usize::from(site.0))?.as_deref(),
        }
    }
}

impl View {
    /// What is shown, in its order, with its names.
    fn rows(&self) -> impl Iterator<Item = (&str, &Row)> {
        self.numbered().map(|(_, row)| row)
    }

    /// The same, each with its number among all.
    fn numbered(&self) -> impl Iterator<Item = (usize, (&str, &Row))> {
        let rows = self.page.rows.iter().enumerate();
        rows.filter_map(|(at, row)| Some((at, (self.names.name(row.component)?, row))))
    }

    /// Whether the API as a whole is well.
    fn is_answering(&self) -> bool {
        self.page
            .rows
            .iter()
            .any(|row| (row.component, row.state) == (Component::Api, State::Operational))
    }
}

/// Says what was decided, to the operator.
fn log(config: &Config, fact: &StatusFact) {
    let at = |names: &[String], at: u16| names.get(usize::from(at)).cloned().unwrap_or_default();
    match fact {
        StatusFact::Moved { component, from, to, because } => {
            let what = match component {
                Component::Api => String::from("the API"),
                Component::Model(model) => format!("model {}", at(&config.models, model.0)),
                Component::Site(site) => format!("site {}", at(&config.sites, site.0)),
            };
            let (was, is) = (json::word(*from), json::word(*to));
            let text = format!("{what} is {is}, was {was}: {}", why(*because));
            match to {
                State::Degraded | State::Partial | State::Major => {
                    tracing::warn!(fact = "status_moved", "{text}");
                }
                State::NoData | State::Maintenance | State::Operational => {
                    tracing::info!(fact = "status_moved", "{text}");
                }
            }
        }
        StatusFact::Silent { gateway, lasts } => {
            let (name, seconds) = (at(&config.gateways, gateway.0), lasts.as_secs());
            tracing::warn!(fact = "status_silent", "gateway {name} was not heard for {seconds} s");
        }
        StatusFact::Heard { gateway } => {
            let name = at(&config.gateways, gateway.0);
            tracing::info!(fact = "status_heard", "gateway {name} is heard");
        }
        StatusFact::Lost { lasts } => {
            let seconds = lasts.as_secs();
            tracing::error!(
                fact = "status_lost",
                "no data for {seconds} s: fewer than half of the gateways are heard"
            );
        }
        StatusFact::Found => tracing::info!(fact = "status_found", "there are data again"),
        StatusFact::Surge { component, reports, began: true } => {
            let what = kept::path(*component, config);
            tracing::warn!(
                fact = "status_surge",
                "users report problems with {what}: {reports} in half an hour"
            );
        }
        StatusFact::Surge { component, began: false, .. } => {
            let what = kept::path(*component, config);
            tracing::info!(fact = "status_surge", "reports of {what} are as usual again");
        }
        StatusFact::Incident { id, stage, cause } => {
            let (stage, cause) = (kept::word(&kept::STAGES, stage), kept::cause(*cause));
            let next = match stage {
                "resolved" => format!("; a draft of its report: mainstay incident report {id}"),
                _ => String::new(),
            };
            tracing::warn!(fact = "status_incident", "incident {id} is {stage}: {cause}{next}");
        }
        StatusFact::Maintenance { id, step } => {
            let step = kept::word(&works::STEPS, step);
            tracing::info!(fact = "status_maintenance", "maintenance {id} is {step}");
        }
    }
}

fn why(because: Because) -> String {
    match because {
        Because::Failures { failed, of } => format!("{failed} of {of} failed lately"),
        Because::Late => "first tokens are late".into(),
        Because::NoSuccess { lasts } => format!("nothing succeeded for {} s", lasts.as_secs()),
        Because::Down { gateways, of } => format!("{gateways} of {of} gateways find it down"),
        Because::Shut => "an operator took it out".into(),
        Because::Answers => "it answers".into(),
        Because::Green => "it was well for long enough".into(),
        Because::Milder => "less is wrong than was".into(),
        Because::Quiet => "too little is seen to tell".into(),
    }
}

#[cfg(test)]
mod tests;
