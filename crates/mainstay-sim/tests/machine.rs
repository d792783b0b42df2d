//! A first look.
use mainstay_sim::load::Load;
use mainstay_sim::setup::{Arrangement, Setup, WEIGHTS};
use mainstay_sim::upstream::Upstream;
use mainstay_sim::world::run;

#[test]
fn a_normal_answer_takes_a_second() {
    let out = run(1, Setup::new(Arrangement::Equal, Upstream::new(WEIGHTS[0])).load(Load::one()));
    println!("{}", out.timeline);
    assert_eq!(out.checks.violations, Vec::<String>::new());
    assert!(out.ended[0].is_whole());
}
