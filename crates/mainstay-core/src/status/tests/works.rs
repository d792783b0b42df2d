//! Announced work: what it covers, what it does not, and how it is told.

use super::super::incident::{Cause, Stage};
use super::super::maintenance::{Plan, Reason, Step, Untold};
use super::*;
use crate::fact::Component;

const BROKEN: Second = (1, 19, UP);
const A_DOWN: Second = (20, 0, [Standing::Down, Standing::Up]);

impl Fleet {
    fn plan(&mut self, plan: Plan) -> Result<u32, Untold> {
        let mut actions = Vec::new();
        let done = self.status.plan(self.now, plan, &mut actions);
        let told = actions.into_iter().map(|Action::Fact(fact)| (0, fact));
        self.facts.extend(told);
        done
    }

    /// Announces work on these, from so many seconds until so many from now.
    fn announce(&mut self, of: &[Component], (from, until): (u64, u64)) -> Result<u32, Untold> {
        let wall = self.status.wall(self.now);
        let span = (wall + from, wall + until);
        let (title, components) = ("New racks".into(), of.to_vec());
        self.plan(Plan::Announce { title, components, span, text: "soon".into() })
    }

    fn steps(&self, at: usize) -> Vec<(Step, Reason)> {
        let notes = self.status.maintenances()[at].notes.iter();
        notes.map(|note| (note.step, note.reason)).collect()
    }
}

#[test]
fn announced_work_opens_no_incident_and_what_else_fails_does() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    assert_eq!(fleet.announce(&[A], (30, 330)), Ok(1));
    fleet.seconds(29, &[Some(WELL)]);
    assert_eq!((fleet.state(A), fleet.steps(0).len()), (State::Operational, 1));
    fleet.seconds(240, &[Some(A_DOWN)]);
    assert_eq!(fleet.state(A), State::Maintenance);
    assert_eq!(fleet.page().overall, Overall::Well);
    assert!(fleet.status.incidents().is_empty());
    // The work takes the API with it, which nobody announced.
    fleet.seconds(20, &[Some((1, 19, [Standing::Down, Standing::Up]))]);
    let opened: Vec<Component> =
        fleet.status.incidents()[0].parts.iter().map(|part| part.component).collect();
    assert_eq!(opened, [Api, CHAT]);
    // Its time is over; the site is not.
    fleet.seconds(60, &[Some(A_DOWN)]);
    assert_eq!(fleet.state(A), State::Major);
    assert_eq!(fleet.steps(0).last(), Some(&(Step::Verifying, Reason::Time)));
    assert!(fleet.status.incidents()[0].parts.iter().any(|part| part.component == A));
    fleet.seconds(800, &[Some(WELL)]);
    assert_eq!(fleet.steps(0).last(), Some(&(Step::Completed, Reason::Well)));
    let told = |fact: &StatusFact| {
        matches!(fact, StatusFact::Maintenance { id: 1, step: Step::Completed })
    };
    assert!(fleet.facts.iter().any(|(_, fact)| told(fact)));
    let today = fleet.status.history(A).expect("a history");
    let today = today.bars(fleet.status.wall(fleet.now))[89].expect("today");
    assert!((295..=301).contains(&today.of(State::Maintenance)), "{today:?}");
}

#[test]
fn work_on_what_is_broken_does_not_end_its_incident() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!(fleet.announce(&[Api, CHAT], (0, 600)), Ok(1));
    fleet.seconds(500, &[Some(WELL)]);
    assert_eq!(fleet.state(Api), State::Maintenance);
    let stage = |fleet: &Fleet| fleet.status.incidents()[0].stage();
    assert_eq!(stage(&fleet), Stage::Investigating, "nobody sees how it is");
    fleet.seconds(900, &[Some(WELL)]);
    assert_eq!(stage(&fleet), Stage::Resolved);
    assert!(fleet.status.incidents()[0].updates.iter().all(|each| each.cause != Cause::Relapse));
}

#[test]
fn a_window_ends_early_or_is_taken_back_and_is_kept_over_a_restart() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    assert_eq!(fleet.announce(&[A], (0, 3600)), Ok(1));
    assert_eq!(fleet.announce(&[CHAT], (600, 3600)), Ok(2));
    fleet.seconds(5, &[Some(WELL)]);
    let (wall, kept) = (fleet.status.wall(fleet.now), fleet.status.kept());
    let again = Status::new(Time::ZERO, wall, config(&["a"]), kept.clone());
    assert_eq!(again.kept(), kept);
    assert_eq!(again.page(Time::ZERO).rows[2].component, A);
    assert_eq!(fleet.plan(Plan::Say { id: 1, text: "half".into() }), Ok(1));
    assert_eq!(fleet.plan(Plan::End { id: 1, text: "done".into() }), Ok(1));
    assert_eq!(fleet.plan(Plan::End { id: 2, text: "not today".into() }), Ok(2));
    assert!(fleet.status.maintenances()[1].is_cancelled());
    fleet.seconds(70, &[Some(WELL)]);
    assert_eq!(fleet.steps(0).last(), Some(&(Step::Completed, Reason::Well)));
    assert_eq!(fleet.plan(Plan::End { id: 1, text: String::new() }), Err(Untold::Over));
    assert_eq!(fleet.plan(Plan::Say { id: 9, text: "x".into() }), Err(Untold::Unknown));
    assert_eq!(fleet.announce(&[], (0, 60)), Err(Untold::Nothing));
    assert_eq!(fleet.announce(&[A], (60, 60)), Err(Untold::Backwards));
    assert_eq!(fleet.announce(&[A], (0, 40 * 86_400)), Err(Untold::TooFar));
    let long = Plan::Say { id: 1, text: "x".repeat(2001) };
    assert_eq!(fleet.plan(long), Err(Untold::TooLong));
    // As many as can be kept; those that are over make room.
    let more: Vec<_> = (0..120).map(|_| fleet.announce(&[A], (600, 700))).collect();
    assert_eq!(more.iter().filter(|each| each.is_ok()).count(), 100);
    assert_eq!(more.last(), Some(&Err(Untold::Full)));
    // Positions lead elsewhere: what is called the same stays announced.
    let mut other = config(&["a"]);
    other.sites.reverse();
    fleet.tell(Event::Adopt(other));
    let moved = &fleet.status.maintenances()[50].components;
    assert_eq!(moved, &[Site(SiteId(1))]);
}
