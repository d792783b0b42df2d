//! Open-loop load: requests come when they come, whatever becomes of the ones before, from clients
//! with good and bad manners. Each answer is judged as its reader would, and counted by tier.
//!
//! Bounded in time, in number and in requests open at once. The prompts are made up here, and
//! neither they nor answers are kept beyond the comparison with each other.

pub mod client;
pub mod plan;
pub mod tally;

use crate::command_line::{Load, WRONG};
use crate::stdout::say;
use client::{Door, Told, User};
use mainstay_core::rng::Rng;
use plan::Plan;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tally::{Asked, Outcome, Tally, Times, Verdict};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// Who has no whole answer asks again after this time, more or less.
const LOOKS: Duration = Duration::from_secs(4);
/// How long the last answers may take once no more are asked for.
const TAIL: Duration = Duration::from_secs(120);

/// Sends the load that `options` asks for, and tells what came of it.
pub fn load(options: &Load) -> ExitCode {
    let plan = match Plan::of(options) {
        Ok(plan) => plan,
        Err(lines) => {
            lines.iter().for_each(|line| eprintln!("mainstay: {line}"));
            return ExitCode::from(WRONG);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mainstay: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let progress = std::io::stderr().is_terminal();
    let outcome = match runtime.block_on(async { run(plan, Instant::now(), progress).await }) {
        Ok(outcome) => outcome,
        Err(why) => {
            eprintln!("mainstay: {why}");
            return ExitCode::from(WRONG);
        }
    };
    match options.json {
        true => say(&format!("{}\n", outcome.json())),
        false => say(&outcome.table()),
    }
    match outcome.is_sound() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Sends the load of `plan` from `began` on; with `progress`, tells on stderr how it stands.
///
/// # Errors
/// An address that cannot be one.
pub async fn run(plan: Plan, began: Instant, progress: bool) -> Result<Outcome, String> {
    let door = Arc::new(Door::open(&plan)?);
    let names = plan.classes.iter().map(|class| class.name.clone()).collect();
    let tally = Arc::new(Tally::new(names, plan.records));
    let room = Arc::new(Semaphore::new(plan.open_max));
    let plan = Arc::new(plan);
    let mut users = JoinSet::new();
    let mut rng = Rng::new(plan.seed);
    let mut told = began;
    for due in plan.arrivals() {
        sleep_until(began + due.at).await;
        let (class, at) = (plan.class(due.at, &mut rng), began.elapsed());
        let user = User::new(&plan, class, &due, rng.bits());
        let Ok(permit) = room.clone().try_acquire_owned() else {
            let told = Told { verdict: Verdict::NotSent, times: Times::default() };
            tally.count(Asked { class, at, ended: at }, told);
            continue;
        };
        let (plan, door, count) = (plan.clone(), door.clone(), tally.clone());
        let mut rng = Rng::new(rng.bits());
        let fine = [Verdict::Good, Verdict::Left];
        users.spawn(async move {
            let (mut user, mut class, mut at) = (user, class, at);
            loop {
                let told = user.ask(&door).await;
                let verdict = told.verdict;
                count.count(Asked { class, at, ended: began.elapsed() }, told);
                if !fine.contains(&verdict) {
                    // A person looks at what broke before they ask again.
                    sleep(LOOKS.mul_f64(2.0 * rng.unit())).await;
                }
                at = began.elapsed();
                let Some(due) = plan.next(at, &mut rng) else { break };
                class = plan.class(at, &mut rng);
                user = User::new(&plan, class, &due, rng.bits());
            }
            drop(permit);
        });
        while users.try_join_next().is_some() {}
        if progress && told.elapsed() >= Duration::from_secs(1) {
            told = Instant::now();
            eprint!("\r\x1b[K{}", tally.line(began.elapsed()));
        }
    }
    sleep_until(began + plan.kept()).await;
    // Whose library would come again after the end does not.
    door.over.cancel();
    let all = async { while users.join_next().await.is_some() {} };
    // Whoever still waits then is counted as failed.
    let is_late = tokio::time::timeout(TAIL, all).await.is_err();
    if progress {
        eprint!("\r\x1b[K");
    }
    door.close().await;
    let unfinished = if is_late { users.len() } else { 0 };
    Ok(tally.outcome(began.elapsed(), unfinished))
}
