//! The embedded engine as a site: its thread, and everything that makes it answer for itself.
//!
//! One thread owns the engine. The model is loaded at the first request, so that a gateway that
//! never needs it starts at once and stays small. What cannot be answered by a model is answered
//! by a report of the sites' state, which needs none: the last site always answers.

pub mod apart;
mod engine_thread;
mod loading;
mod prompt;
pub mod rehearsal;
mod request;
mod slots;
mod status_answer;
mod steps;
mod tools;
pub mod trial;
mod truth;
mod words;

use crate::drive::Drive;
use crate::embedded::{Desk, Message};
use crate::setup::{EngineModel, model_name};
use apart::{Apart, Launch};
use engine_thread::{EngineThread, Surroundings};
use loading::Loading;
use rehearsal::Rehearsal;
pub use status_answer::NAME as STATUS;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use steps::Steps;

/// The engine's thread, for its owner.
pub struct Worker {
    desk: Desk,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    /// Starts the thread. `url` is where the API listens, without a path.
    pub fn start(model: &EngineModel, drive: &Arc<Drive>, url: String) -> Result<Worker, String> {
        if let EngineModel::Rehearsal(gap) = *model {
            return Worker::thread(move |inbox, stop| Rehearsal::new(inbox, stop, gap).run());
        }
        let (drive, telemetry) = (drive.clone(), drive.shared_telemetry());
        let outlook =
            move |asked: &str| drive.read(|gateway| gateway.outlook(drive.clock().now(), asked));
        let around = Surroundings {
            name: name(model),
            is_builtin: matches!(model, EngineModel::Builtin | EngineModel::Status),
            outlook: Some(Box::new(outlook)),
            url: Some(url),
            drafts: Some(Box::new(move |kept, dropped| telemetry.drafts(kept, dropped))),
        };
        if let EngineModel::Apart(path, weights, device) = model {
            let launch = Launch::new(path, *weights, *device);
            return Worker::thread(move |inbox, stop| Apart::new(launch, around).run(inbox, &stop));
        }
        let loading = match model {
            EngineModel::Status => Loading::none(),
            _ => Loading::new(loading::loader(model.clone())),
        };
        Worker::spawn(around, loading, Steps::default())
    }

    fn spawn(around: Surroundings, loading: Loading, steps: Steps) -> Result<Worker, String> {
        Worker::thread(move |inbox, stop| {
            lower_priority();
            EngineThread::new((inbox, stop), (loading, steps), around).run();
        })
    }

    /// A thread that takes orders and does `work`.
    fn thread(
        work: impl FnOnce(Receiver<Message>, Arc<AtomicBool>) + Send + 'static,
    ) -> Result<Worker, String> {
        let (desk, inbox) = Desk::open();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread =
            std::thread::Builder::new().name("engine".into()).spawn(move || work(inbox, seen));
        let thread =
            thread.map_err(|error| format!("cannot start the engine's thread: {error}"))?;
        Ok(Worker { desk, stop, thread: Mutex::new(Some(thread)) })
    }

    /// Where orders are handed in.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }

    /// Ends the thread after its step and waits for it.
    pub async fn shutdown(&self) {
        self.stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // A panic in it was told when it happened.
        let _ = tokio::task::spawn_blocking(move || thread.join().is_ok()).await;
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.desk.stop();
    }
}

/// Nobody wants it any more: its thread ends after its step.
impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The name that answers carry, as the configuration names it.
fn name(model: &EngineModel) -> String {
    match model {
        EngineModel::Builtin => "builtin".to_owned(),
        EngineModel::Rehearsal(_) => rehearsal::NAME.to_owned(),
        EngineModel::Status => STATUS.to_owned(),
        EngineModel::Files(path, ..) | EngineModel::Apart(path, ..) => model_name(path),
    }
}

/// The gateway's own threads go first; those that the engine starts inherit this.
#[cfg(target_os = "linux")]
fn lower_priority() {
    let this = rustix::thread::gettid();
    let own = rustix::process::getpriority_process(Some(this)).unwrap_or_default();
    if let Err(error) = rustix::process::setpriority_process(Some(this), own + LOWER) {
        tracing::debug!(%error, "the engine's thread keeps its priority");
    }
}

/// Elsewhere a priority belongs to the whole process.
#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

/// So much below that of the process: low enough that the gateway is served first, not so low that
/// other processes starve it.
#[cfg(target_os = "linux")]
const LOWER: i32 = 5;

#[cfg(test)]
mod held_out;
#[cfg(test)]
mod tests;
