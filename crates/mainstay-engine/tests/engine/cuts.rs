//! Continuation by another process: the short form of `examples/engine_cuts`.

use crate::fixture::engine;
use crate::other::{cut, settings, whole, work_on_errand};
use std::process::Command;

/// Set where this test binary is the other process.
const OTHER: &str = "MAINSTAY_ENGINE_TEST_OTHER";

#[test]
fn a_killed_engines_journal_is_taken_up_by_another_process_byte_for_byte() {
    let program = std::env::current_exe().unwrap();
    let command = || {
        let mut command = Command::new(&program);
        command.args(["--exact", "cuts::the_other_process", "--nocapture"]).env(OTHER, "1");
        command
    };
    let mut engine = engine("deepseek-v3", settings(false));
    let mut random = 1u64;
    for case in 1..=24 {
        let (expected, length) = whole(&mut engine, case);
        random = crate::fixture::random_after(random);
        let at = 1 + (random >> 33) as usize % length;
        assert_eq!(cut(&command, case, at), expected, "case {case} cut after {at} of {length}");
    }
}

/// Does nothing unless it was started by the test above.
#[test]
fn the_other_process() {
    if std::env::var_os(OTHER).is_some() {
        work_on_errand(|settings| engine("deepseek-v3", settings));
    }
}
