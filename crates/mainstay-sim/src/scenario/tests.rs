//! Reading scenario files: the right one, the wrong ones, and bytes that are none.

use super::read::{self, File, With};
use super::*;
use mainstay_core::rng::Rng;

const WORKED: &str = r#"
id = "S01"
title = "A site is lost under a surge and comes back cold"
after = "DeepSeek, 29-30 March 2026 (cause undisclosed; reported, unconfirmed)"
bench = "T3"
duration = "12m"
seeds = 20
baseline = "must-fail"
load = { level = 0.80 }
[[fault]]
kind = "site-down"
site = "A"
how = "refuse"
at = "60s"
until = "180s"
returns = "cold"
[[fault]]
kind = "surge"
factor = 1.3
at = "60s"
until = "180s"
[[expect]]
metric = "good_ratio"
tier = ["enterprise", "pro"]
from = "60s"
min = 0.99
[[expect]]
metric = "transitions"
site = ["B", "C"]
max = 0
[sweep]
"fault.0.until" = ["70s", "180s", "660s"]
"fault.1.factor" = [1.0, 1.3, 2.0, 5.0, 10.0]
"clients.retries" = [0, 2, 5]
"#;

fn told(text: &str) -> Vec<String> {
    let problems = read::scenario("X.toml", text).expect_err("it is wrong");
    problems.iter().map(ToString::to_string).collect()
}

fn story(more: &str) -> String {
    format!("id = \"X\"\ntitle = \"x\"\n{more}")
}

#[test]
fn the_worked_example_is_read() {
    let scenario = read::scenario("S01.toml", WORKED).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!((scenario.id.as_str(), scenario.seeds), ("S01", 20));
    assert_eq!(scenario.duration, Duration::from_secs(720));
    assert_eq!(scenario.baseline, Baseline::MustFail);
    assert_eq!(scenario.load.level, 0.8);
    let FaultKind::SiteDown { sites, how: Loss::Refuse, cold: Some(_) } = &scenario.faults[0].kind
    else {
        panic!("{:?}", scenario.faults[0]);
    };
    assert_eq!(*sites, Which::These(vec![0]));
    assert_eq!(scenario.faults[0].line, 10);
    assert_eq!(scenario.expects[0].tiers, [0, 1]);
    assert_eq!(scenario.expects[1].sites, [1, 2]);
}

#[test]
fn a_sweep_is_every_combination_and_prolongs_the_run() {
    let file = File::parse("S01.toml", WORKED).unwrap();
    let points = file.points().unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(points.len(), 3 * 5 * 3);
    let ids: std::collections::BTreeSet<&str> = points.iter().map(|p| p.id.as_str()).collect();
    assert_eq!(ids.len(), points.len());
    let first = &points[0];
    assert_eq!(first.id, "S01[clients.retries=0 fault.0.until=70s fault.1.factor=1]");
    assert_eq!(first.faults[0].until, Some(Duration::from_secs(70)));
    assert_eq!(first.clients.retries, 0);
    assert!(first.expects.is_empty(), "they are of the file's own script");
    let longest = points.iter().map(|point| point.duration).max();
    assert_eq!(longest, Some(Duration::from_secs(660 + 360)));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_line_and_remedy() {
    let text = "\
id = \"X\"
title = \"x\"
durration = \"12m\"
[[fault]]
kind = \"site-donw\"
at = \"60s\"
[[fault]]
kind = \"site-down\"
site = \"D\"
at = \"12x\"
until = \"-5s\"
[[fault]]
kind = \"surge\"
factor = \"two\"
at = \"60s\"
until = \"50s\"
tier = \"fre\"
[[expect]]
metric = \"good_rato\"
min = 0.9
[sweep]
\"fault.1.nosuch\" = [1]
\"fault.9.at\" = [\"1s\"]
\"load.level\" = []
";
    let told = told(text);
    let all = told.join("\n");
    for wanted in [
        "X.toml:3: durration: unknown key; did you mean `duration`?",
        "X.toml:5: fault.kind: no fault `site-donw`; did you mean `site-down`?",
        "X.toml:9: fault.site: no site `D`; did you mean `A`?",
        "X.toml:10: fault.at: \"12x\" is not a time",
        "X.toml:11: fault.until: is before the start",
        "X.toml:14: fault.factor: is a text; write a number",
        "X.toml:16: fault.until: is not after at",
        "X.toml:17: fault.tier: no tier `fre`; did you mean `free`?",
        "X.toml:19: expect.metric: no metric `good_rato`; did you mean `good_ratio`?",
        "X.toml:24: sweep.\"load.level\": needs a list of values",
    ] {
        assert!(all.contains(wanted), "{wanted}\n---\n{all}");
    }
}

#[test]
fn a_sweep_of_what_does_not_exist_is_refused() {
    let fault = "[[fault]]\nkind = \"surge\"\nfactor = 2.0\nat = \"60s\"\n[sweep]\n";
    let told = told(&story(&format!(
        "{fault}\"fault.0.factr\" = [1.0]\n\"fault.3.at\" = [\"1s\"]\n\"clients.retries\" = [1.5]\n"
    )));
    let all = told.join("\n");
    assert!(all.contains("fault.factr: unknown key; did you mean `factor`?"), "{all}");
    assert!(all.contains("`3` is none of 1; they count from 0"), "{all}");
    assert!(all.contains("clients.retries: 1.5 does not fit"), "{all}");
}

#[test]
fn times_that_cannot_be_are_refused() {
    let late = "duration = \"10m\"\n[[fault]]\nkind = \"ledger-down\"\nat = \"11m\"\n";
    assert!(told(&story(late))[0].contains("X.toml:4: fault.at: is after the end"));
    let never = "duration = \"10m\"\n[[expect]]\nmetric = \"share\"\nmin = 0.1\nfrom = \"11m\"\n";
    assert!(told(&story(never))[0].contains("asks for a time after the end, 600 s"));
    let both = "[[fault]]\nkind = \"ledger-down\"\nat = \"1m\"\nuntil = \"2m\"\nfor = \"1m\"\n";
    assert!(told(&story(both))[0].contains("stands beside another end"));
}

#[test]
fn what_hangs_and_what_comes_back_cold_is_read_and_checked() {
    let fault = |more: &str| story(&format!("[[fault]]\nat = \"60s\"\nuntil = \"90s\"\n{more}"));
    let read = |more: &str| {
        let scenario = read::scenario("X.toml", &fault(more)).unwrap_or_else(|p| panic!("{p:?}"));
        scenario.faults[0].kind.clone()
    };
    let kind = read("kind = \"workers-hung\"\nsite = \"B\"\nshare = 0.2\n");
    assert!(
        matches!(kind, FaultKind::WorkersHung { sites: Which::These(b), share: 0.2 } if b == [1])
    );
    let kind = read("kind = \"loop-lag\"\ngateway = 2\ndelay = \"3s\"\n");
    let three = Duration::from_secs(3);
    assert!(matches!(kind, FaultKind::LoopLag { delay, .. } if delay == three));
    let kind = read("kind = \"site-down\"\nsite = \"A\"\nreturns = \"cold\"\nfactor = 7\n");
    assert!(matches!(kind, FaultKind::SiteDown { cold: Some(7.0), .. }));
    for (more, wanted) in [
        ("kind = \"workers-hung\"\nsite = \"B\"\n", "fault.share"),
        ("kind = \"controller-cut\"\nsite = \"A\"\n", "nobody stands by there"),
        ("kind = \"loop-lag\"\ngateway = 2\n", "fault.delay"),
        ("kind = \"loop-lag\"\ndelay = \"3s\"\n", "fault.gateway"),
        ("kind = \"loop-lag\"\ngateway = 2\ndelay = \"0s\"\n", "no loop is ever sooner"),
        ("kind = \"site-down\"\nsite = \"A\"\nfactor = 7\n", "is that of empty caches"),
    ] {
        let all = told(&fault(more)).join("\n");
        assert!(all.contains(wanted), "{wanted}\n---\n{all}");
    }
}

#[test]
fn groups_of_a_partition_leave_nobody_out() {
    let text = story("[[fault]]\nkind = \"partition\"\ngroups = [[1, \"A\"]]\nat = \"60s\"\n");
    let scenario = read::scenario("X.toml", &text).unwrap_or_else(|p| panic!("{p:?}"));
    let FaultKind::Partition { groups } = &scenario.faults[0].kind else { panic!() };
    let wanted = [(vec![0], vec![0]), (vec![1, 2, 3, 4, 5], vec![1, 2, 3])];
    assert_eq!(groups[..], wanted);
}

#[test]
fn a_bench_may_be_changed_and_gateways_may_come_later() {
    let text = story(
        "[bench]\nbase = \"T3\"\nsites = [\"A\", \"B\"]\ngateways = 4\nscale = 10\n\
         [[bench.site]]\nname = \"D\"\ncapacity = 50.0\nhome = 0.25\nround_trip = \"90ms\"\n\
         [[fault]]\nkind = \"scale\"\nto = 12\nat = \"60s\"\n\
         [[fault]]\nkind = \"peers-cut\"\nmask = 5\nat = \"60s\"\n",
    );
    let scenario = read::scenario("X.toml", &text).unwrap_or_else(|p| panic!("{p:?}"));
    let bench = &scenario.bench;
    let names: Vec<&str> = bench.sites.iter().map(|site| site.name.as_str()).collect();
    assert_eq!((names, bench.gateways, bench.scale), (vec!["A", "B", "D"], 4, 10.0));
    assert_eq!(bench.round_trip.len(), 12, "room for those who come later");
    assert!(bench.round_trip.iter().all(|row| row[2] == Duration::from_millis(90)));
    assert!((bench.sites.iter().map(|site| site.home).sum::<f64>() - 1.0).abs() < 1e-9);
    let FaultKind::PeersCut { gateways, .. } = &scenario.faults[1].kind else { panic!() };
    assert_eq!(*gateways, Which::These(vec![0, 2]));
}

#[test]
fn another_bench_plays_the_sites_of_the_file_in_order() {
    let mut other = crate::bench::t3();
    for (site, name) in other.sites.iter_mut().zip(["fra", "iad", "sin", "deepseek"]) {
        site.name = name.into();
    }
    let file = File::parse("S01.toml", WORKED).unwrap();
    let scenario = file.scenario(With::Other(&other)).unwrap_or_else(|p| panic!("{p:?}"));
    assert_eq!(scenario.expects[1].sites, [1, 2]);
    assert_eq!(scenario.bench.sites[0].name, "fra");
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut rng = Rng::new(7);
    let mut below = |most: usize| (rng.unit() * most as f64) as usize;
    let pieces = ["[", "]", "\"", "=", "9e99", "-1s", "\n", "[[fault]]", "{", "é", "\0", ".", "#"];
    for _ in 0..3000 {
        let mut bytes = WORKED.as_bytes().to_vec();
        for _ in 0..=below(4) {
            let at = below(bytes.len().max(1));
            match below(4) {
                0 => bytes.truncate(at),
                1 => bytes[at.min(WORKED.len() / 2)] ^= 1 << below(8),
                2 => {
                    let piece = pieces[below(pieces.len())].bytes();
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let end = (at + below(40)).min(bytes.len());
                    bytes.drain(at..end);
                }
            }
            if bytes.len() < WORKED.len() / 2 + 1 {
                break;
            }
        }
        read::any(&bytes);
    }
    read::any(&[b'['; 100_000]);
    read::any(&"a.".repeat(50_000).into_bytes());
    read::any(&"x = {".repeat(20_000).into_bytes());
}
