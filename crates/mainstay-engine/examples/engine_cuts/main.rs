//! Answers of the built-in model, each cut at a random token: the process that writes is killed,
//! and another takes its journal up.
//!
//! ```sh
//! cargo run --release -p mainstay-engine --example engine_cuts -- 1000
//! ```
//!
//! Ends with an error at the first answer that is not byte for byte the one without a cut.

mod cuts;

use mainstay_engine::{Engine, Settings, builtin};
use std::process::Command;

/// What this program is called with as the other process.
const OTHER: &str = "--other-process";

fn load(settings: Settings) -> Engine {
    Engine::from_files(builtin::files(), settings).expect("the built-in model")
}

fn main() {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some(OTHER) {
        return cuts::work_on_errand(load);
    }
    let count = argument.and_then(|text| text.parse().ok()).unwrap_or(100);
    let program = std::env::current_exe().expect("this program");
    let command = || {
        let mut command = Command::new(&program);
        command.arg(OTHER);
        command
    };
    let mut engine = load(cuts::settings(false));
    let (mut random, mut tokens, mut bytes) = (0x9e37_79b9_7f4a_7c15_u64, 0, 0);
    for case in 1..=count {
        let (whole, length) = cuts::whole(&mut engine, case);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(case);
        let at = 1 + (random >> 33) as usize % length;
        assert_eq!(cuts::cut(&command, case, at), whole, "case {case} cut after {at} tokens");
        (tokens, bytes) = (tokens + length, bytes + whole.len());
        if case % 100 == 0 {
            println!("{case} cuts: {tokens} tokens, {bytes} bytes, all identical");
        }
    }
    println!("{count} answers, each cut once and gone on with by another process: identical");
}
