//! What the public is told beyond the moment: what users report, incidents, and what was.

use super::crowd::{Crowd, Minute, minutes};
use super::history::History;
use super::incident::{Incident, Incidents, Seen, Unwilling, Wish};
use super::maintenance::{Maintenance, Plan, Untold, Windows};
use super::{
    Action, Because, Component, Config, ModelId, SiteId, State, Status, StatusFact, Which,
};
use crate::message::Short;
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// What has to be kept over a restart, with components at their positions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// All incidents.
    pub incidents: Vec<Incident>,
    /// All maintenance windows.
    pub maintenances: Vec<Maintenance>,
    /// How each component was, and what users reported of it.
    pub components: Vec<KeptComponent>,
}

/// What is kept of a component.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptComponent {
    /// Which.
    pub component: Which,
    /// How it was.
    pub history: History,
    /// The first minute in which reports were counted, since 1970.
    pub began: Option<u64>,
    /// What was reported.
    pub reports: Vec<Minute>,
}

impl Status {
    /// Seconds since 1970.
    pub fn wall(&self, now: Time) -> u64 {
        self.zero + now.as_micros() / 1_000_000
    }

    pub(super) fn minute(&self, now: Time) -> u64 {
        minutes(Duration::from_secs(self.wall(now)))
    }

    pub(super) fn component(&mut self, which: Which) -> Option<&mut Component> {
        match which {
            Which::Api => Some(&mut self.api),
            Which::Model(model) => self.models.get_mut(usize::from(model.0)),
            Which::Site(site) => self.sites.get_mut(usize::from(site.0)),
        }
    }

    /// All incidents that are kept, the oldest first.
    pub fn incidents(&self) -> &[Incident] {
        self.incidents.all()
    }

    /// Whom the loss of a site would leave refused now, as gateways say.
    pub fn short(&self, now: Time) -> Vec<Short> {
        self.ears.short(now)
    }

    /// Of the requests of the key that lists show with this number, how many failed in the last ten
    /// minutes, and all of them.
    pub fn failing(&self, now: Time, key: u64) -> (u64, u64) {
        self.ears.failing(now, key)
    }

    /// How a component was.
    pub fn history(&self, which: Which) -> Option<&History> {
        self.all().find(|(each, _)| *each == which).map(|(_, component)| &component.history)
    }

    /// Reports of a component by ten minutes of the last day, and what is usual for each.
    pub fn reports(&self, now: Time, which: Which) -> Vec<(u32, f64)> {
        let found = self.all().find(|(each, _)| *each == which);
        found.map_or_else(Vec::new, |(_, component)| component.crowd.day(self.minute(now)))
    }

    /// Somebody reports trouble: it counts for the API as well.
    pub(super) fn report(
        &mut self,
        now: Time,
        (model, site): (Option<ModelId>, Option<SiteId>),
        reporter: u64,
        actions: &mut Vec<Action>,
    ) {
        let minute = self.minute(now);
        let of = [Some(Which::Api), model.map(Which::Model), site.map(Which::Site)];
        let mut counts = false;
        for which in of.into_iter().flatten() {
            let component = self.component(which);
            counts |= component.is_some_and(|each| each.crowd.report(minute, reporter));
        }
        if counts {
            self.look_at_reports(minute, actions);
        }
    }

    /// Time passed: takes note of how all components are, and of what that makes of incidents.
    pub(super) fn pass(&mut self, now: Time, lasted: u64, actions: &mut Vec<Action>) {
        let (wall, minute) = (self.wall(now), self.minute(now));
        if !self.ears.is_stale(now) {
            let shown: Vec<State> = self.all().map(|each| self.shown(each)).collect();
            for ((_, component), shown) in self.components().zip(shown) {
                for second in 0..lasted.min(60) {
                    component.history.lasted(wall - second, shown);
                }
            }
        }
        self.look_at_reports(minute, actions);
        let seen = self.seen(now);
        for id in self.windows.watch(wall, &seen) {
            self.tell_work(now, id, actions);
        }
        // Work that began or ended just now counts at once.
        let seen = self.seen(now);
        for id in self.incidents.watch(wall, &seen) {
            self.tell(now, id, actions);
        }
    }

    fn look_at_reports(&mut self, minute: u64, actions: &mut Vec<Action>) {
        for (component, each) in self.components() {
            let Some(began) = each.crowd.judge(minute, each.shown.is_impaired()) else { continue };
            let reports = each.crowd.shown(minute).lately;
            actions.push(Action::Fact(StatusFact::Surge { component, reports, began }));
        }
    }

    /// How all components are, to incidents. Where nobody is heard all are in doubt.
    fn seen(&self, now: Time) -> Vec<Seen> {
        let is_lost = self.ears.is_lost();
        let promise = self.config.first_token;
        let seen = |(component, each): (Which, &Component)| Seen {
            component,
            shown: if is_lost { State::NoData } else { self.shown((component, each)) },
            lasts: match is_lost {
                true => 0,
                false => now.since(each.since.unwrap_or(self.began)).as_secs(),
            },
            because: each.because.filter(|_| !is_lost).unwrap_or(Because::Quiet),
            is_doubtful: is_lost || each.is_doubtful(now, promise),
            is_surge: each.crowd.is_surge(),
            is_covered: self.windows.covers(component),
        };
        self.all().map(seen).collect()
    }

    /// Does what a person wants of an incident; its number.
    ///
    /// # Errors
    /// If that would tell the public what is not so, or cannot be told.
    pub fn wish(
        &mut self,
        now: Time,
        wish: Wish,
        actions: &mut Vec<Action>,
    ) -> Result<u32, Unwilling> {
        let seen = self.seen(now);
        let id = self.incidents.wish(self.wall(now), wish, &seen)?;
        self.tell(now, id, actions);
        Ok(id)
    }

    /// What is shown of a component while gateways are heard.
    pub(super) fn shown(&self, (which, each): (Which, &Component)) -> State {
        if self.windows.covers(which) { State::Maintenance } else { each.shown }
    }

    /// All maintenance windows that are kept, in the order in which they were announced.
    pub fn maintenances(&self) -> &[Maintenance] {
        self.windows.all()
    }

    /// Does what a person wants of a maintenance window; its number.
    ///
    /// # Errors
    /// If it cannot be told so.
    pub fn plan(
        &mut self,
        now: Time,
        plan: Plan,
        actions: &mut Vec<Action>,
    ) -> Result<u32, Untold> {
        let id = self.windows.plan(self.wall(now), plan)?;
        self.tell_work(now, id, actions);
        Ok(id)
    }

    fn tell_work(&mut self, now: Time, id: u32, actions: &mut Vec<Action>) {
        let Some(one) = self.windows.all().iter().find(|each| each.id == id) else { return };
        actions.push(Action::Fact(StatusFact::Maintenance { id, step: one.step() }));
        self.changed = now;
    }

    fn tell(&mut self, now: Time, id: u32, actions: &mut Vec<Action>) {
        let Some(one) = self.incidents.all().iter().find(|each| each.id == id) else { return };
        let Some(last) = one.updates.last() else { return };
        let (stage, cause) = (last.stage, last.cause);
        actions.push(Action::Fact(StatusFact::Incident { id, stage, cause }));
        self.changed = now;
    }

    /// What has to be kept.
    pub fn kept(&self) -> Kept {
        let component = |(component, each): (Which, &Component)| {
            let (began, reports) = each.crowd.kept();
            KeptComponent { component, history: each.history.clone(), began, reports }
        };
        Kept {
            incidents: self.incidents.all().to_vec(),
            maintenances: self.windows.all().to_vec(),
            components: self.all().map(component).collect(),
        }
    }

    pub(super) fn restore(&mut self, kept: Kept) {
        self.incidents = Incidents::of(kept.incidents);
        self.windows = Windows::of(kept.maintenances);
        for each in kept.components {
            if let Some(component) = self.component(each.component) {
                component.crowd = Crowd::of(each.began, &each.reports);
                component.history = each.history;
            }
        }
    }

    /// What is called the same is the same part of an incident, or of announced work, under its
    /// new position.
    pub(super) fn move_incidents(&mut self, config: &Config) {
        let old = &self.config;
        let at = |names: &[alloc::string::String], was: &[alloc::string::String], at: u16| {
            let name = was.get(usize::from(at))?;
            let now = names.iter().position(|each| each == name)?;
            u16::try_from(now).ok()
        };
        let lead = |component: Which| match component {
            Which::Api => Some(Which::Api),
            Which::Model(model) => {
                at(&config.models, &old.models, model.0).map(|at| Which::Model(ModelId(at)))
            }
            Which::Site(site) => {
                at(&config.sites, &old.sites, site.0).map(|at| Which::Site(SiteId(at)))
            }
        };
        self.incidents.adopt(lead);
        self.windows.adopt(lead);
    }
}
