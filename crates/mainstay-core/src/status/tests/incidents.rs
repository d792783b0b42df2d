//! Incidents: who opens and closes them, and what counts as the same one.

use super::super::incident::{Cause, Stage, Unwilling, Wish};
use super::*;
use crate::fact::Component;

const BROKEN: Second = (1, 19, UP);

impl Fleet {
    /// Of each incident: its stage, its relapses and what was said of it.
    fn incidents(&self) -> Vec<(Stage, u32, Vec<Cause>)> {
        let causes = |each: &super::super::incident::Incident| {
            each.updates.iter().map(|update| update.cause).collect()
        };
        let all = self.status.incidents().iter();
        all.map(|each| (each.stage(), each.relapses, causes(each))).collect()
    }

    fn wish(&mut self, wish: Wish) -> Result<u32, Unwilling> {
        self.status.wish(self.now, wish, &mut Vec::new())
    }

    fn update(&mut self, stage: Stage, text: &str, force: bool) -> Result<u32, Unwilling> {
        self.wish(Wish::Update { id: 1, stage, text: text.into(), force })
    }

    fn report(&mut self, people: core::ops::Range<u64>) {
        for reporter in people {
            self.tell(Event::Report { model: Some(ModelId(0)), site: None, reporter });
        }
    }
}

#[test]
fn an_outage_is_one_incident_however_often_it_is_over() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    assert_eq!(fleet.incidents(), []);
    fleet.seconds(15, &[Some(BROKEN)]);
    let opened = vec![Cause::Seen];
    assert_eq!(fleet.incidents(), [(Stage::Investigating, 0, opened)], "API and model at once");
    fleet.seconds(120, &[Some(WELL)]);
    assert_eq!(fleet.incidents()[0].0, Stage::Monitoring, "before what is shown is well again");
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!(fleet.incidents().len(), 1);
    assert_eq!((fleet.incidents()[0].0, fleet.incidents()[0].1), (Stage::Investigating, 1));
    fleet.seconds(700, &[Some(WELL)]);
    assert_eq!(fleet.incidents()[0].0, Stage::Resolved);
    fleet.seconds(3600, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!((fleet.incidents().len(), fleet.incidents()[0].1), (1, 2), "within the day");
    fleet.seconds(24 * 3600 + 1200, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!(fleet.incidents().len(), 2, "a day later it is another");
    let told = |fact: &StatusFact| matches!(fact, StatusFact::Incident { id: 2, .. });
    assert!(fleet.facts.iter().any(|(_, fact)| told(fact)));
}

#[test]
fn nobody_calls_it_resolved_while_it_fails_but_by_force_and_with_a_word() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    let failing = vec![Api, Model(ModelId(0))];
    assert_eq!(
        fleet.update(Stage::Resolved, "fixed", false),
        Err(Unwilling::StillFailing(failing.clone()))
    );
    assert_eq!(fleet.update(Stage::Resolved, "  ", true), Err(Unwilling::NoWord));
    assert_eq!(fleet.update(Stage::Resolved, "only a test is failing", true), Ok(1));
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!(fleet.incidents()[0].0, Stage::Resolved, "a word is a word");
    assert_eq!(fleet.incidents()[0].2.last(), Some(&Cause::Forced));
    // Well, and broken again: that is a relapse.
    fleet.seconds(700, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    assert_eq!((fleet.incidents()[0].0, fleet.incidents()[0].1), (Stage::Investigating, 1));
    // A person took part, so a person ends it.
    fleet.seconds(700, &[Some(WELL)]);
    assert_eq!(fleet.incidents()[0].0, Stage::Monitoring);
    assert_eq!(fleet.update(Stage::Resolved, "", false), Ok(1));
    assert_eq!(fleet.wish(Wish::Report { id: 1, text: Some("why".into()) }), Ok(1));
    assert_eq!(fleet.wish(Wish::Report { id: 9, text: None }), Err(Unwilling::Unknown));
}

#[test]
fn a_site_that_others_stand_in_for_waits_a_minute() {
    let mut fleet = Fleet::new(&["a", "b"]);
    fleet.seconds(60, &[Some(WELL); 2]);
    let one_down = Some((20, 0, [Standing::Down, Standing::Up]));
    fleet.seconds(50, &[one_down; 2]);
    assert_eq!(fleet.incidents(), []);
    fleet.seconds(20, &[one_down; 2]);
    assert_eq!(fleet.status.incidents()[0].parts[0].component, Site(SiteId(0)));
}

#[test]
fn reports_alone_are_shown_and_with_one_sign_they_open_an_incident() {
    let mut fleet = Fleet::new(&["a"]);
    let few: Second = (1, 0, UP);
    fleet.seconds(120, &[Some(few)]);
    fleet.report(0..12);
    fleet.seconds(5, &[Some(few)]);
    let page = fleet.status.page(fleet.now);
    assert!(page.rows[1].reported.is_surge && page.rows[1].reported.lately == 12);
    assert_eq!(page.rows[1].state, State::Operational, "reports paint nothing red");
    assert_eq!(fleet.incidents(), []);
    let told = |fact: &&(u64, StatusFact)| matches!(fact.1, StatusFact::Surge { began: true, .. });
    assert_eq!(fleet.facts.iter().filter(told).count(), 2, "the API and the model");
    // Three failures among thirty requests are no state, but they agree.
    fleet.seconds(3, &[Some((0, 1, UP))]);
    assert_eq!(fleet.incidents(), [(Stage::Investigating, 0, vec![Cause::Reports])]);
}

#[test]
fn reports_while_nobody_is_heard_open_an_incident() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(100, &[None]);
    assert_eq!(fleet.incidents(), [], "that nothing is known is said elsewhere");
    fleet.report(0..12);
    fleet.seconds(1, &[None]);
    assert_eq!(fleet.incidents()[0].2[0], Cause::Reports);
}

#[test]
fn people_open_and_close_what_nothing_shows() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    let components: Vec<Component> = vec![Model(ModelId(0))];
    let open = |text: &str| Wish::Open {
        title: "Wrong answers".into(),
        components: components.clone(),
        text: text.into(),
    };
    assert_eq!(fleet.wish(open("Some answers are cut short.")), Ok(1));
    assert_eq!(fleet.wish(open(&"x".repeat(2001))), Err(Unwilling::TooLong));
    assert_eq!(fleet.wish(Wish::Report { id: 1, text: None }), Err(Unwilling::NotResolved));
    fleet.seconds(600, &[Some(WELL)]);
    assert_eq!(fleet.incidents()[0].0, Stage::Monitoring, "nothing speaks for it any more");
    assert_eq!(fleet.update(Stage::Resolved, "It was a tokenizer.", false), Ok(1));
    for _ in 0..300 {
        let _ = fleet.update(Stage::Resolved, "more", false);
    }
    assert_eq!(fleet.update(Stage::Resolved, "more", false), Err(Unwilling::Full));
}

#[test]
fn ninety_days_are_kept_with_their_gaps_and_over_a_restart() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    fleet.seconds(700, &[Some(WELL)]);
    fleet.seconds(300, &[None]);
    let wall = fleet.status.wall(fleet.now);
    let history = fleet.status.history(Api).expect("a history");
    let today = history.bars(wall)[89].expect("today");
    assert_eq!(today.seconds.iter().sum::<u32>(), 790 + 9, "silence is a gap");
    assert_eq!((today.good, today.failed), (20 * 760 + 30, 19 * 30));
    assert!(today.of(State::Major) > 0 && today.worst() >= Some(State::Degraded));
    assert!(history.bars(wall)[88].is_none());
    let drawn = history.drawn(wall);
    assert!(drawn.iter().any(|slot| slot.failed > Some(50)));
    assert!(drawn[0].failed.is_none() && drawn.len() == 288);

    let kept = fleet.status.kept();
    let again = Status::new(Time::ZERO, wall, config(&["a"]), kept.clone());
    assert_eq!(again.kept(), kept);
    assert_eq!(again.history(Api).map(|all| all.bars(wall)), Some(history.bars(wall)));
    let uptime = history::Day::uptime(history.bars(wall).into_iter().flatten());
    assert!(uptime.is_some_and(|of| (90_000..100_000).contains(&of)), "{uptime:?}");
}

#[test]
fn what_a_report_tells_is_counted_while_it_lasts() {
    let mut fleet = Fleet::new(&["a"]);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    fleet.seconds(700, &[Some(WELL)]);
    let one = fleet.status.incidents()[0].clone();
    assert_eq!(one.stage(), Stage::Resolved);
    let api = one.parts[0];
    assert_eq!((api.component, api.worst, api.now), (Api, State::Major, State::Operational));
    // It opens some seconds after it broke, and is told over when it was well for ten minutes.
    assert!((20 * 19..=30 * 19).contains(&api.failed), "{api:?}");
    assert!(api.good > 500 * 20 && api.good < 700 * 20, "{api:?}");
    let states: Vec<State> =
        one.moves.iter().filter(|each| each.component == Api).map(|each| each.to).collect();
    assert!(states[0].is_impaired() && states.contains(&State::Major), "{states:?}");
    assert_eq!(states.last(), Some(&State::Operational));
    assert!(one.moves.iter().all(|each| each.at <= one.told()));
    fleet.seconds(100, &[Some(BROKEN)]);
    assert_eq!(
        fleet.wish(Wish::Report { id: 1, text: Some("early".into()) }),
        Err(Unwilling::NotResolved)
    );
    fleet.seconds(700, &[Some(WELL)]);
    assert_eq!(fleet.wish(Wish::Report { id: 1, text: Some("why".into()) }), Ok(1));
    assert!(fleet.status.incidents()[0].published().is_some());
    // What the report does not know of takes it off the page until it is told anew.
    fleet.seconds(30, &[Some(BROKEN)]);
    fleet.seconds(700, &[Some(WELL)]);
    let one = &fleet.status.incidents()[0];
    assert!(one.stage() == Stage::Resolved && one.published().is_none() && one.report.is_some());
    // Days later another one, which is told how often it was before.
    let (wall, kept) = (fleet.status.wall(fleet.now), fleet.status.kept());
    fleet.status = Status::new(fleet.now, wall + 3 * 24 * 3600, config(&["a"]), kept);
    fleet.seconds(60, &[Some(WELL)]);
    fleet.seconds(30, &[Some(BROKEN)]);
    let all = fleet.status.incidents();
    let earlier = all[1].earlier(all);
    let of = |which| earlier.iter().find(|each| each.component == which).copied();
    let api = of(Api).expect("a part of it");
    assert_eq!((api.incidents, api.relapses), (1, 2));
    assert!((1500..2500).contains(&api.lasted), "{api:?}");
    assert_eq!(all[0].earlier(all)[0].incidents, 0);
}
