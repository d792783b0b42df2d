//! The status role: runs its machine, and shows the public what it decides.
//!
//! Gateways push what they counted; nobody is asked. The page, the JSON and the badge are written
//! from one look at the machine, so they never differ. Names are what operators call things in
//! public; no request, key or tenant is known here.

mod badge;
mod dates;
mod door;
mod html;
mod json;
mod style;
mod words;

pub use door::Door;

use crate::drive::{Clock, at_deadlines};
use crate::setup::Setup;
use mainstay_core::fact::{Because, Component, State, StatusFact};
use mainstay_core::message::Summary;
use mainstay_core::names::GatewayId;
use mainstay_core::status::{Action, Config, Event, Page, Row, Status};
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
}

/// What the public calls things.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    title: String,
    url: Option<String>,
    models: Vec<String>,
    /// None: it is not shown.
    sites: Vec<Option<String>>,
}

/// Everything that is shown at one moment.
struct View {
    page: Page,
    names: Arc<Names>,
}

impl Desk {
    /// A status role that begins now.
    pub fn new(setup: &Setup) -> Arc<Desk> {
        Desk::of(setup.status_config(), Names::of(setup))
    }

    fn of(config: Config, names: Names) -> Arc<Desk> {
        let clock = Clock::new();
        let machine = Status::new(clock.now(), config.clone());
        let shared = Shared { machine, config, names: Arc::new(names) };
        Arc::new(Desk { clock, shared: Mutex::new(shared), wake: Notify::new() })
    }

    /// The gateway of this name tells how it goes.
    pub fn hear(&self, gateway: &str, summary: Summary) {
        let at = self.lock().config.gateways.iter().position(|name| name == gateway);
        if let Some(at) = at.and_then(|at| u16::try_from(at).ok()) {
            self.tell(Event::Summary(GatewayId(at), summary));
        }
    }

    /// Another configuration is in force.
    pub fn adopt(&self, setup: &Setup) {
        let config = setup.status_config();
        self.tell(Event::Adopt(config.clone()));
        let mut shared = self.lock();
        (shared.config, shared.names) = (config, Arc::new(Names::of(setup)));
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
        for Action::Fact(fact) in actions {
            log(&shared.config, &fact);
        }
    }

    fn view(&self) -> View {
        let now = self.clock.now();
        let shared = self.lock();
        View { page: shared.machine.page(now), names: shared.names.clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        // As in `Drive`: showing on is better than failing every reader from then on.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn of(setup: &Setup) -> Names {
        Names {
            title: setup.status.title.clone(),
            url: setup.status.url.clone(),
            models: setup.core.models.iter().map(|model| model.name.clone()).collect(),
            sites: setup.status.sites.clone(),
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
        self.page.rows.iter().filter_map(|row| Some((self.names.name(row.component)?, row)))
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
