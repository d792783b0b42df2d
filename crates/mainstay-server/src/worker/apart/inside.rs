//! The engine's process: the engine's thread as ever, told by lines.

use super::wire::{self, Told};
use crate::embedded::{Desk, Said};
use crate::setup::{EngineModel, LogFormat};
use crate::telemetry::log::Log;
use crate::worker::engine_thread::Surroundings;
use crate::worker::loading::{Loading, loader};
use crate::worker::steps::Steps;
use crate::worker::{Worker, name};
use mainstay_core::worker::{HANGS_AFTER, PIECES};
use std::collections::BTreeMap;
use std::io::Write;
use std::rc::Rc;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::{AbortHandle, LocalSet, spawn_local};

/// Runs until standard input ends.
///
/// # Errors
/// What keeps it from running at all.
pub fn run(model: &EngineModel) -> Result<(), String> {
    let _log = Log::start(tracing::Level::INFO, LogFormat::Auto)?;
    go_first_when_memory_is_short();
    let around = Surroundings {
        name: name(model),
        is_builtin: false,
        // Who started this process knows, and reports where that is wanted.
        outlook: None,
        url: None,
        drafts: None,
    };
    let worker = Worker::spawn(around, Loading::new(loader(model.clone())), steps())?;
    let (lines, told) = unbounded_channel();
    let read = move || {
        for line in std::io::stdin().lines() {
            let Some(told) = line.ok().and_then(|line| wire::told(&line)) else { break };
            if lines.send(told).is_err() {
                break;
            }
        }
        // Nobody is left who wants anything; a step under way is not waited for.
        std::process::exit(0);
    };
    std::thread::Builder::new().name("told".into()).spawn(read).map_err(|e| e.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    LocalSet::new().block_on(&runtime, serve(worker.desk(), told));
    Ok(())
}

/// A step that hangs ends this process: its memory and threads are free at once, and whoever
/// started it starts another.
fn steps() -> Steps {
    let usual = Steps::default();
    usual.until(Box::new(|looks| {
        if looks >= HANGS_AFTER {
            tracing::error!("a step of the embedded engine hangs: its process ends");
            std::process::exit(1);
        }
        false
    }))
}

/// The system is to take this process before the one that started it.
fn go_first_when_memory_is_short() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "500") {
        tracing::debug!(%error, "the engine's process is as dear to the system as any");
    }
}

async fn serve(desk: Desk, mut told: UnboundedReceiver<Told>) {
    let mut open: BTreeMap<u64, (Rc<Semaphore>, AbortHandle)> = BTreeMap::new();
    while let Some(told) = told.recv().await {
        open.retain(|_, (_, task)| !task.is_finished());
        match told {
            Told::Order(id, order) => {
                let room = Rc::new(Semaphore::new(PIECES));
                let said = desk.place(*order);
                let mine = room.clone();
                let task = spawn_local(async move {
                    let mut said = match said {
                        Ok(said) => said,
                        Err(failure) => return say(id, &Said::Failed(failure)),
                    };
                    while let Ok(permit) = mine.acquire().await {
                        permit.forget();
                        let Some(next) = said.recv().await else { return };
                        say(id, &next);
                    }
                });
                open.insert(id, (room, task.abort_handle()));
            }
            Told::Taken(id, more) => {
                if let Some((room, _)) = open.get(&id) {
                    room.add_permits(more);
                }
            }
            // What hears of it is dropped with its task, and the engine forgets it.
            Told::Left(id) => {
                if let Some((_, task)) = open.remove(&id) {
                    task.abort();
                }
            }
        }
    }
}

fn say(id: u64, said: &Said) {
    let Some(line) = wire::line(&(id, said)) else { return };
    let mut out = std::io::stdout().lock();
    if out.write_all(&line).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}
