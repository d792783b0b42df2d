//! Has the engine write for a moment, and counts. What follows from it, core says.

use super::loading::{self, Loader};
use crate::setup::EngineModel;
use mainstay_core::site::calibration::{TRIAL, TRIALS, Trial};
use mainstay_engine::{Engine, Sampling, Settings, Work};
use std::time::Instant;

/// What is asked: any text does.
const QUESTION: &str = "What is up?";

/// Loads `model` once more and makes the trials, on a thread of their own, with the engine's
/// priority; `then` hears of them. Nothing where the model cannot be loaded: whoever asks it next
/// hears why.
pub fn begin(model: &EngineModel, then: impl FnOnce(&[Trial]) + Send + 'static) {
    let is_elsewhere = matches!(model, EngineModel::Apart(..));
    if is_elsewhere || matches!(model, EngineModel::Rehearsal(_) | EngineModel::Status) {
        return;
    }
    let loader: Loader = loading::loader(model.clone());
    let thread = std::thread::Builder::new().name("engine-trial".into());
    let work = move || {
        super::lower_priority();
        let Ok(mut engine) = loader() else { return };
        then(&(0..TRIALS).map(|_| trial(&mut engine)).collect::<Vec<_>>());
    };
    if let Err(error) = thread.spawn(work) {
        tracing::warn!(%error, "the engine's speed is not measured");
    }
}

/// As many answers side by side as the engine writes.
fn trial(engine: &mut Engine) -> Trial {
    let prompt = engine.tokenize(QUESTION);
    let work = || Work {
        prompt: prompt.clone(),
        sampling: Sampling { temperature: 0.0, ..Sampling::default() },
        ..Work::default()
    };
    let mut open = Vec::new();
    let (mut reports, mut tokens) = (Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed() < TRIAL {
        while open.len() < Settings::default().batch_max {
            match engine.submit(work()) {
                Ok(id) => open.push(id),
                Err(_) => break,
            }
        }
        reports.clear();
        engine.step(&mut reports);
        tokens += reports.len() as u64;
        open.retain(|id| !reports.iter().any(|at| at.id == *id && at.finish.is_some()));
    }
    let took = began.elapsed();
    open.into_iter().for_each(|id| engine.cancel(id));
    Trial { tokens, took }
}
