//! The page: whole, by itself, and safe against what it is given.

use super::*;
use crate::fleet::{PolicyKind, play};
use crate::measure::judge;
use crate::scenario::read;
use crate::sweep::{Done, Verdict};

fn short_story() -> Scenario {
    let text = "id = \"X\"\ntitle = \"A <b>bold</b> & 'quoted' loss\"\nafter = \"<script>\"\n\
                [bench]\nscale = 50\n[[fault]]\nkind = \"site-down\"\nsite = \"A\"\nat = \"60s\"\n\
                until = \"120s\"\n[[expect]]\nmetric = \"good_ratio\"\nmin = 0.99\n";
    read::scenario("X.toml", text).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows() {
    let scenario = short_story();
    let mut played = play(&scenario, 1, PolicyKind::Mainstay);
    played.timeline.marks.push((61.0, "A\"".into(), "<img src=x onerror=alert(1)>".into()));
    judge(&scenario, &played.timeline, &mut played.run);
    let (run, timeline) = (&played.run, &played.timeline);
    let view = View { scenario: &scenario, run, timeline, baseline: Some((run, timeline)) };
    let html = page(&[view, view], &[]);
    assert!(html.contains("A &lt;b&gt;bold&lt;/b&gt; &amp; &#39;quoted&#39; loss"));
    assert!(!html.contains("<img"), "markup of a mark is text");
    assert_eq!(html.matches("<script>").count(), 1, "only our own");
    for foreign in ["http://", "https://", "src=", "@import", "url("] {
        let found = html.matches(foreign).count()
            - html.matches("&lt;img src=x").count() * usize::from(foreign == "src=");
        assert_eq!(found, 0, "{foreign}");
    }
    for tag in ["svg", "section", "table", "main", "div", "g", "title", "h1", "h2", "details"] {
        let opened =
            html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(!html.contains("NaN") && !html.contains("inf,"));
}

#[test]
fn an_empty_run_has_a_page_too() {
    let scenario = short_story();
    let mut played = play(&scenario, 1, PolicyKind::Mainstay);
    played.timeline = Timeline::default();
    let view =
        View { scenario: &scenario, run: &played.run, timeline: &played.timeline, baseline: None };
    assert!(page(&[view], &[]).contains("What breaks"));
    assert!(page(&[], &[]).contains("0 of 0 runs passed"));
}

#[test]
fn the_maps_of_sweeps_stand_on_a_page_of_their_own_with_a_sign_in_every_field() {
    let text = "id = \"X\"\ntitle = \"<i>\"\n[bench]\nscale = 100\n[[fault]]\nkind = \"surge\"\n\
                factor = 2\nat = \"60s\"\nuntil = \"70s\"\n[sweep]\n\
                \"clients.retries\" = [0, 2]\n\"load.level\" = [0.5, 0.8]\n";
    let points = read::File::parse("X.toml", text).unwrap().points().unwrap();
    let run = play(&points[0], 1, PolicyKind::Mainstay).run;
    let done = |verdict| Done { run: run.clone(), verdict, timeline: None };
    let (passed, down) = (done(Verdict::Passed), done(Verdict::Metastable));
    let map = Map::new("X/sweep", &points, &[&passed; 4], &[&passed, &down, &down, &passed]);
    let html = page(&[], &[map]);
    assert!(html.contains("<h1>0 of 4 points stayed down</h1>"));
    assert!(html.contains("With the naive baseline 2 of 4."), "{html}");
    assert_eq!(html.matches("class=\"field map-passed\"").count(), 6);
    assert_eq!(html.matches("class=\"field map-down\"").count(), 2);
    assert!(!html.contains("<i>") && !html.contains("0 of 0 runs"));
    for tag in ["section", "table", "tr", "td", "th", "details"] {
        let opened =
            html.matches(&format!("<{tag} ")).count() + html.matches(&format!("<{tag}>")).count();
        assert_eq!(opened, html.matches(&format!("</{tag}>")).count(), "{tag}");
    }
}
