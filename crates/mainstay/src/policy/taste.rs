//! The sacrificial process: loads a new content beside the present one, with little memory and
//! time, and lets both decide the recent requests. It may die; nobody else does.

use super::replay::decided;
use crate::command_line::{self, Serve};
use crate::environment::Environment;
use crate::start::read_as;
use crate::stdout::say;
use mainstay_core::policy::compare::difference;
use mainstay_server::policy::boot::within;
use mainstay_server::policy::rehearsal::{Dies, die};
use mainstay_server::policy::taste::{Said, Trial};
use mainstay_server::setup::Setup;
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

/// Tries the content that standard input holds.
pub fn taste(options: &command_line::Taste) -> ExitCode {
    let seconds = options.seconds;
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(seconds));
        std::process::abort();
    });
    if let Err(error) = bound_memory(options.memory) {
        eprintln!("mainstay: the memory of a taste cannot be bounded: {error}");
        return ExitCode::FAILURE;
    }
    let mut text = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut text);
    let trial = read
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_slice::<Trial>(&text).map_err(|error| error.to_string()));
    let trial = match trial {
        Ok(trial) => trial,
        Err(error) => {
            eprintln!("mainstay: there is nothing to taste: {error}");
            return ExitCode::FAILURE;
        }
    };
    let serve = Serve { config: options.config.clone(), ..Serve::default() };
    let environment = Environment::of_process();
    let config = options.config.as_ref();
    let name = config.map_or_else(String::new, |path| path.display().to_string());
    let load = |content: Option<&str>| {
        let resolved = read_as((&serve, &environment), (&name, &trial.own), content);
        let setup = resolved.map(|resolved| resolved.setup);
        setup.map_err(|problems| {
            problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        })
    };
    let said = try_out(load, &trial);
    say(&format!("{}\n", serde_json::to_string(&said).unwrap_or_default()));
    ExitCode::SUCCESS
}

fn try_out(load: impl Fn(Option<&str>) -> Result<Setup, String>, trial: &Trial) -> Said {
    let after = match load(Some(&trial.after)).and_then(within) {
        Ok(after) => after,
        Err(why) => return Said::Refused(why),
    };
    suffer(&after);
    // What is in force could be read once; where it cannot any more, there is nothing to compare.
    let before = match load(trial.before.as_deref()) {
        Ok(before) => before,
        Err(_) => return Said::Good,
    };
    let decided = |setup: &Setup| decided(&setup.core, &trial.asked);
    match difference(&decided(&before), &decided(&after)) {
        Some(change) => Said::Differs(change),
        None => Said::Good,
    }
}

/// Breaks as the content says that it does.
fn suffer(setup: &Setup) {
    match setup.rehearsal.and_then(|rehearsal| rehearsal.dies) {
        Some(Dies::Tasted) => die("when it was tried"),
        Some(Dies::Hangs) => loop {
            std::thread::park();
        },
        Some(Dies::Swells) => {
            let mut held: Vec<Vec<u8>> = Vec::new();
            loop {
                held.push(vec![1; SWELL]);
            }
        }
        Some(Dies::Loaded) | None => {}
    }
}

/// Bytes that a swelling content takes at once.
const SWELL: usize = 1 << 20;

/// The address space may grow by so much from here: what is there already is the program.
fn bound_memory(bytes: u64) -> Result<(), String> {
    let pages = std::fs::read_to_string("/proc/self/statm").map_err(|error| error.to_string())?;
    let pages = pages.split(' ').next().and_then(|pages| pages.parse::<u64>().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(u64::MAX);
    let there = pages.ok_or("no size")?.saturating_mul(page);
    let most = Some(there.saturating_add(bytes));
    let limit = Rlimit { current: most, maximum: most };
    setrlimit(Resource::As, limit).map_err(|error| error.to_string())?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // A content that kills many processes must not fill the disk.
    setrlimit(Resource::Core, none).map_err(|error| error.to_string())
}
