//! Maintenance windows: work that was announced, with its beginning and its end.
//!
//! While a window lasts its components are shown as under maintenance and open no incident; what
//! else fails does. After its end they count again, whatever became of the work: it is called
//! completed when they are well, and what still fails then is an incident. A window that ends
//! early, or never begins, is told so and stays in the list.

use super::incident::{Seen, TEXT, TITLE};
use crate::fact::Component;
use alloc::string::String;
use alloc::vec::Vec;

/// Windows kept. One that is not over yet is never dropped for another.
pub const KEPT: usize = 100;
/// What people say of one; its steps are told beside that.
const SAID: usize = 50;
/// Longer work is no window but a state: in seconds, thirty days.
const LONGEST: u64 = 30 * 24 * 3600;
/// So far ahead one may be announced, in seconds: a year.
const AHEAD: u64 = 366 * 24 * 3600;
/// Its components must be well for so long after its end before it is called completed, in seconds.
const VERIFIED: u64 = 60;

/// How far the work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// It is announced.
    Scheduled,
    /// It is under way.
    InProgress,
    /// It is done, and its components are looked at.
    Verifying,
    /// It is over.
    Completed,
}

/// Why something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// By a person.
    Person,
    /// Its time came.
    Time,
    /// Its components are well.
    Well,
    /// A person took it back before it began.
    Cancelled,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// In seconds since 1970.
    pub at: u64,
    /// From then on it is so far.
    pub step: Step,
    /// Why.
    pub reason: Reason,
    /// In a person's words, if it was one.
    pub text: String,
}

/// A maintenance window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Its number.
    pub id: u32,
    /// What is done.
    pub title: String,
    /// What it takes out.
    pub components: Vec<Component>,
    /// When it begins, in seconds since 1970.
    pub from: u64,
    /// When it ends.
    pub until: u64,
    /// What was said, the oldest first; never empty.
    pub notes: Vec<Note>,
    /// Since when its components are well after its end.
    pub well: Option<u64>,
}

/// What a person wants of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Announce one.
    Announce {
        /// What is done.
        title: String,
        /// What it takes out.
        components: Vec<Component>,
        /// When it begins, in seconds since 1970, and when it ends.
        span: (u64, u64),
        /// What is said of it.
        text: String,
    },
    /// Say how it goes.
    Say {
        /// Which.
        id: u32,
        /// What is said.
        text: String,
    },
    /// End it now; take it back if it has not begun.
    End {
        /// Which.
        id: u32,
        /// What is said.
        text: String,
    },
}

/// Why a plan cannot be told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untold {
    /// There is none of this number.
    Unknown,
    /// It is over.
    Over,
    /// It ends before it begins, or has ended already.
    Backwards,
    /// It is longer than thirty days, or begins later than in a year.
    TooFar,
    /// It takes nothing out.
    Nothing,
    /// As many as can be kept are not over yet, or it has been told as often as it can be.
    Full,
    /// The text is too long.
    TooLong,
}

/// All windows.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    all: Vec<Maintenance>,
}

impl Maintenance {
    /// How far it is.
    pub fn step(&self) -> Step {
        self.notes.last().map_or(Step::Completed, |note| note.step)
    }

    /// When anything was said last.
    pub fn told(&self) -> u64 {
        self.notes.last().map_or(0, |note| note.at)
    }

    /// When it was announced.
    pub fn announced(&self) -> u64 {
        self.notes.first().map_or(0, |note| note.at)
    }

    /// Whether it was taken back before it began.
    pub fn is_cancelled(&self) -> bool {
        self.notes.last().is_some_and(|note| note.reason == Reason::Cancelled)
    }

    fn has(&self, component: Component) -> bool {
        self.components.contains(&component)
    }

    fn say(&mut self, at: u64, (step, reason): (Step, Reason), text: String) {
        self.notes.push(Note { at, step, reason, text });
    }

    /// Looks at the time and at how its components are; whether it says something new.
    fn look(&mut self, at: u64, all: &[Seen]) -> bool {
        let next = match self.step() {
            Step::Scheduled if at >= self.from => (Step::InProgress, Reason::Time),
            Step::InProgress if at >= self.until => (Step::Verifying, Reason::Time),
            Step::Verifying => {
                let mut of = all.iter().filter(|seen| self.has(seen.component));
                self.well = of.all(|seen| !seen.fails()).then(|| self.well.unwrap_or(at));
                if self.well.is_none_or(|since| at < since + VERIFIED) {
                    return false;
                }
                (Step::Completed, Reason::Well)
            }
            Step::Scheduled | Step::InProgress | Step::Completed => return false,
        };
        self.say(at, next, String::new());
        true
    }
}

impl Windows {
    pub(super) fn of(kept: Vec<Maintenance>) -> Windows {
        Windows { all: kept.into_iter().filter(|each| !each.notes.is_empty()).collect() }
    }

    pub(super) fn all(&self) -> &[Maintenance] {
        &self.all
    }

    /// Whether work on it is under way.
    pub(super) fn covers(&self, component: Component) -> bool {
        self.all.iter().any(|each| each.step() == Step::InProgress && each.has(component))
    }

    /// Time passed; the windows of which something was said now.
    pub(super) fn watch(&mut self, at: u64, all: &[Seen]) -> Vec<u32> {
        let told = self.all.iter_mut().filter_map(|each| each.look(at, all).then_some(each.id));
        told.collect()
    }

    /// Does what a person wants; which window it is about.
    pub(super) fn plan(&mut self, at: u64, plan: Plan) -> Result<u32, Untold> {
        let is_long = |text: &str| text.chars().count() > TEXT;
        match plan {
            Plan::Announce { title, components, span, text } => {
                if is_long(&text) || title.chars().count() > TITLE {
                    return Err(Untold::TooLong);
                }
                self.announce(at, (title, components), span, text)
            }
            Plan::Say { text, .. } | Plan::End { text, .. } if is_long(&text) => {
                Err(Untold::TooLong)
            }
            Plan::Say { id, text } => {
                let one = self.open(id)?;
                let step = one.step();
                if one.notes.len() >= SAID {
                    return Err(Untold::Full);
                }
                one.say(at, (step, Reason::Person), text);
                Ok(id)
            }
            Plan::End { id, text } => {
                let one = self.open(id)?;
                let next = match one.step() {
                    Step::Scheduled => (Step::Completed, Reason::Cancelled),
                    Step::InProgress => (Step::Verifying, Reason::Person),
                    Step::Verifying | Step::Completed => (Step::Completed, Reason::Person),
                };
                one.until = one.until.min(at.max(one.from));
                one.say(at, next, text);
                Ok(id)
            }
        }
    }

    fn announce(
        &mut self,
        at: u64,
        (title, components): (String, Vec<Component>),
        (from, until): (u64, u64),
        text: String,
    ) -> Result<u32, Untold> {
        if components.is_empty() {
            return Err(Untold::Nothing);
        }
        if from >= until || until <= at {
            return Err(Untold::Backwards);
        }
        if until - from > LONGEST || from > at + AHEAD {
            return Err(Untold::TooFar);
        }
        if self.all.len() >= KEPT {
            let over = self.all.iter().position(|each| each.step() == Step::Completed);
            self.all.remove(over.ok_or(Untold::Full)?);
        }
        let id = self.all.iter().map(|each| each.id).max().unwrap_or(0) + 1;
        let note = Note { at, step: Step::Scheduled, reason: Reason::Person, text };
        let notes = alloc::vec![note];
        self.all.push(Maintenance { id, title, components, from, until, notes, well: None });
        Ok(id)
    }

    fn open(&mut self, id: u32) -> Result<&mut Maintenance, Untold> {
        let one = self.all.iter_mut().find(|each| each.id == id).ok_or(Untold::Unknown)?;
        if one.step() == Step::Completed { Err(Untold::Over) } else { Ok(one) }
    }

    /// Positions lead elsewhere now.
    pub(super) fn adopt(&mut self, to: impl Fn(Component) -> Option<Component>) {
        for each in &mut self.all {
            each.components = each.components.iter().filter_map(|each| to(*each)).collect();
        }
    }
}
