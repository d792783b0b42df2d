//! Incidents: opened by what is seen, told and closed by people.
//!
//! One that was called over and whose parts fail again is the same one with a relapse, never a new
//! one: "fixed" and fallen again is one outage to who uses the service. What fails while one is
//! open joins it. Nobody can call one resolved while its parts still fail, but by force and with a
//! word why.

use crate::fact::{Because, Component, State};
use crate::message::Count;
use alloc::string::String;
use alloc::vec::Vec;

/// A degraded component, or a site that others stand in for, opens one after so many seconds. What
/// fails at worse opens one at once: what is shown has waited already.
const PATIENCE: u64 = 60;
/// All parts must be well for so long before it says so, in seconds.
const MONITOR: u64 = 60;
/// Parts that fail again within this time after it was resolved make a relapse, in seconds.
pub const RELAPSE: u64 = 24 * 3600;
/// Incidents kept, what is said of one, and what is noted of how its parts were.
pub const KEPT: usize = 200;
const UPDATES: usize = 200;
const MOVES: usize = 100;
/// Letters of a title, a text, and the report after an incident.
pub const TITLE: usize = 200;
/// Letters of a text.
pub const TEXT: usize = 2_000;
/// Letters of a report.
pub const REPORT: usize = 20_000;
/// What failed in so many seconds before an incident is told beside it: ninety days.
const QUARTER: u64 = 90 * 24 * 3600;

/// How far people are with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// It is looked for.
    Investigating,
    /// The cause is known.
    Identified,
    /// It seems to be over.
    Monitoring,
    /// It is over.
    Resolved,
}

/// Why something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// By a person.
    Person,
    /// Counts or gateways say that a part fails.
    Seen,
    /// Users report it, and one sign agrees.
    Reports,
    /// Its parts are well again.
    Recovered,
    /// They fail again after they were called well.
    Relapse,
    /// By a person, though parts still fail.
    Forced,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// In seconds since 1970.
    pub at: u64,
    /// From then on it is in this stage.
    pub stage: Stage,
    /// Why.
    pub cause: Cause,
    /// In a person's words, if it was one.
    pub text: String,
}

/// One part of the service in an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub component: Component,
    /// The worst that was shown of it.
    pub worst: State,
    /// What was shown of it last while it was open.
    pub now: State,
    /// Requests that were answered while it was open.
    pub good: u64,
    /// Requests that failed.
    pub failed: u64,
}

/// A part was shown in another state from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// In seconds since 1970.
    pub at: u64,
    /// Which part.
    pub component: Component,
    /// How it was from then on.
    pub to: State,
    /// Why.
    pub because: Because,
}

/// The report after an incident, in an operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postmortem {
    /// When it was made public, in seconds since 1970.
    pub at: u64,
    /// What it says.
    pub text: String,
}

/// How often one part failed in the ninety days before an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Which part.
    pub component: Component,
    /// Other incidents of it.
    pub incidents: u32,
    /// How often those came back.
    pub relapses: u32,
    /// How long they lasted in all, in seconds.
    pub lasted: u64,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// Its number.
    pub id: u32,
    /// A person's title, or empty.
    pub title: String,
    /// What fails or failed.
    pub parts: Vec<Part>,
    /// What was said, the oldest first; never empty.
    pub updates: Vec<Update>,
    /// How often it came back after it was called over.
    pub relapses: u32,
    /// Whether a person took part: then a person closes it.
    pub is_led: bool,
    /// Whether it was resolved by force and its parts have not been well since.
    pub is_forced: bool,
    /// How its parts were, the oldest first.
    pub moves: Vec<Move>,
    /// The report after it, once there is one.
    pub report: Option<Postmortem>,
    /// Since when all its parts are well, in seconds since 1970.
    pub well: Option<u64>,
}

/// What a person wants of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Say that there is one.
    Open {
        /// What it is called.
        title: String,
        /// What fails.
        components: Vec<Component>,
        /// What is said of it.
        text: String,
    },
    /// Say how it goes.
    Update {
        /// Which.
        id: u32,
        /// How far it is.
        stage: Stage,
        /// What is said.
        text: String,
        /// Whether that may be resolved while its parts still fail.
        force: bool,
    },
    /// Make the report after it public, or take it back with none.
    Report {
        /// Which.
        id: u32,
        /// The report.
        text: Option<String>,
    },
}

/// Why a wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unwilling {
    /// There is none of this number.
    Unknown,
    /// These parts still fail.
    StillFailing(Vec<Component>),
    /// By force, but without a word why.
    NoWord,
    /// It has been told as often as it can be.
    Full,
    /// The text is too long.
    TooLong,
    /// It is not resolved yet.
    NotResolved,
}

/// How a component is just now, to incidents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) component: Component,
    pub(super) shown: State,
    /// In seconds.
    pub(super) lasts: u64,
    /// Why it is shown so.
    pub(super) because: Because,
    /// Whether anything speaks against it now, which is less than what makes a state.
    pub(super) is_doubtful: bool,
    pub(super) is_surge: bool,
    /// Whether announced work takes it out: then what fails of it is no incident.
    pub(super) is_covered: bool,
}

/// All incidents.
#[derive(Clone, Debug, Default)]
pub(super) struct Incidents {
    all: Vec<Incident>,
}

impl Incident {
    /// When it began.
    pub fn began(&self) -> u64 {
        self.updates.first().map_or(0, |update| update.at)
    }

    /// What was said last.
    pub fn stage(&self) -> Stage {
        self.updates.last().map_or(Stage::Resolved, |update| update.stage)
    }

    /// When anything was said last.
    pub fn told(&self) -> u64 {
        self.updates.last().map_or(0, |update| update.at)
    }

    /// When it was resolved, if it is.
    pub fn resolved(&self) -> Option<u64> {
        (self.stage() == Stage::Resolved).then(|| self.told())
    }

    /// The worst state of its parts.
    pub fn worst(&self) -> State {
        self.parts.iter().map(|part| part.worst).max().unwrap_or_default()
    }

    /// The report, if it tells of all of it: what came back since then it does not know.
    pub fn published(&self) -> Option<&Postmortem> {
        let resolved = self.resolved()?;
        self.report.as_ref().filter(|report| report.at >= resolved)
    }

    /// How often each of its parts failed in the ninety days before it.
    pub fn earlier(&self, all: &[Incident]) -> Vec<Earlier> {
        let began = self.began();
        let of = |part: &Part| {
            let component = part.component;
            let mut sum = Earlier { component, incidents: 0, relapses: 0, lasted: 0 };
            let is_earlier = |each: &&Incident| {
                let began_then = each.began();
                each.id != self.id && began_then <= began && began_then + QUARTER > began
            };
            for each in all.iter().filter(is_earlier).filter(|each| each.has(component)) {
                sum.incidents += 1;
                sum.relapses += each.relapses;
                let until = each.resolved().unwrap_or(began).max(each.began());
                sum.lasted += until - each.began();
            }
            sum
        };
        self.parts.iter().map(of).collect()
    }

    fn say(&mut self, at: u64, (stage, cause): (Stage, Cause), text: String) {
        if self.updates.len() < UPDATES {
            self.updates.push(Update { at, stage, cause, text });
        }
    }

    fn take(&mut self, at: u64, seen: &Seen) {
        if !self.has(seen.component) {
            self.parts.push(Part::of(seen.component));
        }
        self.follow(at, seen);
    }

    /// Notes how one of its parts is.
    fn follow(&mut self, at: u64, seen: &Seen) {
        let mut parts = self.parts.iter_mut();
        let Some(part) = parts.find(|part| part.component == seen.component) else { return };
        part.worst = part.worst.max(seen.shown);
        if part.now != seen.shown && self.moves.len() < MOVES {
            let (at, to) = (at.saturating_sub(seen.lasts), seen.shown);
            let (component, because) = (seen.component, seen.because);
            self.moves.push(Move { at, component, to, because });
        }
        part.now = seen.shown;
    }

    /// Looks at how its parts are now; whether it says something new.
    fn look(&mut self, at: u64, all: &[Seen]) -> bool {
        if self.stage() != Stage::Resolved {
            all.iter().for_each(|seen| self.follow(at, seen));
        }
        let mut parts = all.iter().filter(|seen| self.has(seen.component));
        let is_well = parts.clone().all(Seen::is_well);
        let is_failing = parts.any(Seen::fails);
        self.is_forced &= is_failing;
        self.well = if is_well { Some(self.well.unwrap_or(at)) } else { None };
        let lasts = self.well.map_or(0, |since| at.saturating_sub(since));
        let next = match self.stage() {
            Stage::Investigating | Stage::Identified if lasts >= MONITOR => Stage::Monitoring,
            Stage::Monitoring if is_well && !is_failing && !self.is_led => Stage::Resolved,
            _ => return false,
        };
        self.say(at, (next, Cause::Recovered), String::new());
        true
    }

    fn has(&self, component: Component) -> bool {
        self.parts.iter().any(|part| part.component == component)
    }
}

impl Part {
    fn of(component: Component) -> Part {
        let (worst, now) = Default::default();
        Part { component, worst, now, good: 0, failed: 0 }
    }
}

impl Seen {
    /// What makes it a reason for an incident, if it is one.
    fn breaks(&self) -> Option<Cause> {
        if self.is_covered {
            return None;
        }
        let site = matches!(self.component, Component::Site(_));
        let patience = if site || self.shown == State::Degraded { PATIENCE } else { 0 };
        if self.shown.is_impaired() && self.lasts >= patience {
            return Some(Cause::Seen);
        }
        let is_reported = self.is_surge && (self.is_doubtful || self.shown.is_impaired());
        is_reported.then_some(Cause::Reports)
    }

    fn is_well(&self) -> bool {
        // While it is worked on nobody sees how it is.
        !self.is_doubtful && !self.is_surge && !self.is_covered
    }
}

impl Incidents {
    pub(super) fn of(kept: Vec<Incident>) -> Incidents {
        let all = kept.into_iter().filter(|each| !each.updates.is_empty()).collect();
        Incidents { all }
    }

    pub(super) fn all(&self) -> &[Incident] {
        &self.all
    }

    /// This was counted just now.
    pub(super) fn counted(&mut self, more: &[(Component, &Count)]) {
        for each in self.all.iter_mut().filter(|each| each.stage() != Stage::Resolved) {
            for part in &mut each.parts {
                let of = |(component, _): &&(Component, &Count)| *component == part.component;
                if let Some((_, count)) = more.iter().find(of) {
                    part.good = part.good.saturating_add(count.good);
                    part.failed = part.failed.saturating_add(count.failed);
                }
            }
        }
    }

    /// Looks at how all components are; the incidents of which something was said now.
    pub(super) fn watch(&mut self, at: u64, all: &[Seen]) -> Vec<u32> {
        let mut told = Vec::new();
        let breaking = all.iter().filter_map(|seen| Some((seen, seen.breaks()?)));
        for (seen, cause) in breaking {
            told.extend(self.breaks(at, seen, cause));
        }
        for each in &mut self.all {
            told.extend(each.look(at, all).then_some(each.id));
        }
        told
    }

    /// A component breaks: the incident that says so now, if anything is new in it.
    fn breaks(&mut self, at: u64, seen: &Seen, cause: Cause) -> Option<u32> {
        let recent = |each: &&mut Incident| {
            let resolved = each.resolved();
            resolved.is_none_or(|then| each.has(seen.component) && at < then + RELAPSE)
        };
        let Some(one) = self.all.iter_mut().rfind(recent) else {
            let of = (String::new(), alloc::vec![*seen]);
            return Some(self.open(at, of, cause, String::new()));
        };
        let is_new = !one.has(seen.component);
        one.take(at, seen);
        if one.is_forced {
            return None;
        }
        let was_over = one.stage() >= Stage::Monitoring;
        // What is shown gets better slowly: while it was said to seem over, only what is seen
        // now speaks against that.
        if was_over && (seen.is_doubtful || is_new) {
            one.relapses += 1;
            one.say(at, (Stage::Investigating, Cause::Relapse), String::new());
            return Some(one.id);
        }
        // What breaks together is told together.
        let is_told = one.told() == at && one.updates.last().is_some_and(|it| it.cause == cause);
        if is_new && !was_over && !is_told {
            let stage = one.stage();
            one.say(at, (stage, cause), String::new());
            return Some(one.id);
        }
        None
    }

    fn open(&mut self, at: u64, of: (String, Vec<Seen>), cause: Cause, text: String) -> u32 {
        let (title, seen) = of;
        let id = self.all.iter().map(|each| each.id).max().unwrap_or(0) + 1;
        if self.all.len() >= KEPT {
            let oldest = self.all.iter().position(|each| each.resolved().is_some()).unwrap_or(0);
            self.all.remove(oldest);
        }
        let update = Update { at, stage: Stage::Investigating, cause, text };
        let mut one = Incident {
            id,
            title,
            parts: Vec::new(),
            updates: alloc::vec![update],
            relapses: 0,
            is_led: cause == Cause::Person,
            is_forced: false,
            moves: Vec::new(),
            report: None,
            well: None,
        };
        seen.iter().for_each(|seen| one.take(at, seen));
        self.all.push(one);
        id
    }

    /// Does what a person wants; which incident it is about.
    pub(super) fn wish(&mut self, at: u64, wish: Wish, all: &[Seen]) -> Result<u32, Unwilling> {
        let is_long = |text: &str| text.chars().count() > TEXT;
        match wish {
            Wish::Open { title, components, text } => {
                if is_long(&text) || title.chars().count() > TITLE {
                    return Err(Unwilling::TooLong);
                }
                let seen = all.iter().filter(|seen| components.contains(&seen.component));
                let of = (title, seen.copied().collect());
                Ok(self.open(at, of, Cause::Person, text))
            }
            Wish::Update { id, stage, text, force } => {
                if is_long(&text) {
                    return Err(Unwilling::TooLong);
                }
                self.update(at, id, (stage, text, force), all)
            }
            Wish::Report { id, text } => {
                if text.as_deref().is_some_and(|text| text.chars().count() > REPORT) {
                    return Err(Unwilling::TooLong);
                }
                let one = self.find(id)?;
                if one.resolved().is_none() {
                    return Err(Unwilling::NotResolved);
                }
                one.report = text.map(|text| Postmortem { at, text });
                Ok(id)
            }
        }
    }

    fn update(
        &mut self,
        at: u64,
        id: u32,
        (stage, text, force): (Stage, String, bool),
        all: &[Seen],
    ) -> Result<u32, Unwilling> {
        let one = self.find(id)?;
        if one.updates.len() >= UPDATES {
            return Err(Unwilling::Full);
        }
        let is_failing = |seen: &&Seen| one.has(seen.component) && seen.fails();
        let failing: Vec<Component> =
            all.iter().filter(is_failing).map(|seen| seen.component).collect();
        let mut cause = Cause::Person;
        if stage == Stage::Resolved && !failing.is_empty() {
            match force {
                false => return Err(Unwilling::StillFailing(failing)),
                true if text.trim().is_empty() => return Err(Unwilling::NoWord),
                true => cause = Cause::Forced,
            }
        }
        // By hand: what was called over is not, so it counts as a relapse all the same.
        if one.stage() >= Stage::Monitoring && stage < Stage::Monitoring {
            one.relapses += 1;
        }
        (one.is_led, one.is_forced) = (true, cause == Cause::Forced);
        one.say(at, (stage, cause), text);
        Ok(id)
    }

    fn find(&mut self, id: u32) -> Result<&mut Incident, Unwilling> {
        self.all.iter_mut().find(|each| each.id == id).ok_or(Unwilling::Unknown)
    }

    /// Positions lead elsewhere now; what is not there any more is no part of it any more.
    pub(super) fn adopt(&mut self, to: impl Fn(Component) -> Option<Component>) {
        let lead = |component: &mut Component| {
            let now = to(*component);
            *component = now.unwrap_or(*component);
            now.is_some()
        };
        for each in &mut self.all {
            each.parts.retain_mut(|part| lead(&mut part.component));
            each.moves.retain_mut(|each| lead(&mut each.component));
        }
    }
}

impl Seen {
    pub(super) fn fails(&self) -> bool {
        self.is_doubtful || self.shown.is_impaired()
    }
}
