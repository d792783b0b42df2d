//! Ten thousand answers cut at random: every one ends whole or in an explicit error, no token
//! lost and none twice, whoever finishes it and however.

use mainstay_core::config::Continuation;
use mainstay_core::fact::{How, Rung};
use mainstay_core::names::{ErrorClass, Failure};
use mainstay_core::rng::Rng;
use mainstay_sim::load::Load;
use mainstay_sim::script::Break;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::{Does, Prefill, Upstream, When};
use mainstay_sim::world::{Outcome, run};
use std::collections::BTreeMap;
use std::time::Duration;

const CUTS: u64 = 10_000;

/// One cut, as its seed chose it.
struct Cut {
    arrangement: Arrangement,
    how: &'static str,
    /// Whether the second site can finish the answer.
    is_capable: bool,
    setup: Setup,
}

fn breaks(rng: &mut Rng) -> (&'static str, Break) {
    let error = |class| Break::Error(Failure::ours(class, "error event"));
    match rng.below(7) {
        0 => ("close", Break::Close),
        1 => ("end", Break::End),
        2 => ("stall", Break::Stall),
        3 => ("poison", Break::Poison),
        4 => ("error", error(ErrorClass::Transient)),
        5 => ("overload", error(ErrorClass::Overload)),
        _ => ("drip", Break::Drip(Duration::from_millis(1200))),
    }
}

fn upstream(rng: &mut Rng, weights: u64, tokens: u32) -> (Upstream, Continuation) {
    let prefill = match rng.below(8) {
        0 => Prefill::Refuses,
        1 => Prefill::Echoes,
        _ => Prefill::Takes,
    };
    let declared = if rng.below(3) == 0 { Continuation::None } else { Continuation::Native };
    let gap = Duration::from_millis(15);
    (Upstream::new(weights).tokens(tokens, gap).prefill(prefill), declared)
}

fn cut(seed: u64) -> Cut {
    let mut rng = Rng::new(seed);
    let arrangement = match rng.below(5) {
        0 => Arrangement::Alone,
        1 | 2 => Arrangement::Substitute,
        _ => Arrangement::Equal,
    };
    let tokens = 2 + rng.below(100) as u32;
    let at = 1 + rng.below(u64::from(tokens)) as u32;
    let (how, breaks_so) = breaks(&mut rng);
    let (primary, declared) = upstream(&mut rng, WEIGHTS[0], tokens);
    let primary = primary.rule(&[When::Fresh], Does::Breaks(at, breaks_so));
    let mut setup = Setup::new(arrangement, primary).load(Load::one());
    setup.config.targets[0].continuation = declared;
    let mut is_capable = false;
    if arrangement != Arrangement::Alone {
        let is_equal = arrangement == Arrangement::Equal;
        let (second, declared) = upstream(&mut rng, WEIGHTS[usize::from(!is_equal)], tokens);
        let takes = second.prefill != Prefill::Refuses;
        is_capable = is_equal || (declared == Continuation::Native && takes);
        // Now and then the second site breaks the answer as well; then a third try is left.
        let (again, later) = (rng.below(8) == 0, 1 + rng.below(20) as u32);
        let (_, breaks_too) = breaks(&mut rng);
        setup.upstreams[1] = match again {
            true => second.rule(&[When::First(1)], Does::Breaks(later, breaks_too)),
            false => second,
        };
        is_capable &= !again;
        setup.config.targets[1].continuation = declared;
    }
    Cut { arrangement, how, is_capable, setup }
}

/// By whom and how the answer was finished, or that it was not.
fn rung(out: &Outcome) -> &'static str {
    let ended = &out.ended[0];
    if !ended.is_whole() {
        return "error event";
    }
    match ended.tried.last().map(|tried| tried.how) {
        Some(How::Resume(Rung::Native)) => "native",
        Some(How::Resume(Rung::Regenerate)) => "regenerated",
        Some(How::Resume(Rung::Journal)) => "journal",
        Some(How::First | How::Retry) | None => "never broke",
    }
}

#[test]
fn ten_thousand_cuts_end_whole_or_in_an_explicit_error() {
    let mut rungs: BTreeMap<(String, &str), u32> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    let (mut capable, mut mended) = (0u32, 0u32);
    let mut wrong = Vec::new();
    for seed in 0..CUTS {
        let Cut { arrangement, how, is_capable, setup } = cut(seed);
        let out = run(seed, setup);
        for violation in out.checks.violations.iter().take(1) {
            wrong.push(format!("seed {seed} ({arrangement:?}, {how}): {violation}"));
        }
        let rung = rung(&out);
        *rungs.entry((format!("{arrangement:?}"), rung)).or_default() += 1;
        let kind = kinds.entry(how).or_default();
        kind.0 += 1;
        kind.1 += u32::from(out.ended[0].is_whole());
        capable += u32::from(is_capable);
        mended += u32::from(is_capable && out.ended[0].is_whole());
        if is_capable && !out.ended[0].is_whole() && wrong.len() < 5 {
            println!("seed {seed} {arrangement:?} {how}: {:?}", out.ended[0].close);
        }
    }
    println!("{CUTS} cuts; {mended} of {capable} whole where a capable site lives");
    rungs.iter().for_each(|((who, how), n)| println!("  {who:<10} {how:<12} {n:>5}"));
    kinds.iter().for_each(|(how, (n, ok))| println!("  {how:<10} {ok:>5} of {n:>5} whole"));
    let some: Vec<_> = wrong.iter().take(10).collect();
    assert!(wrong.is_empty(), "{} wrong, e.g. {some:#?}", wrong.len());
    assert!(f64::from(mended) >= 0.99 * f64::from(capable), "{mended} of {capable}");
}
