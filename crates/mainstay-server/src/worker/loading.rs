//! Loads the model when it is first wanted, on a thread of its own, so that those who wait hear
//! that something is at work.

use crate::setup::EngineModel;
use mainstay_core::worker::LOAD_AGAIN;
use mainstay_engine::{Engine, Settings, Twin, builtin};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

/// Loads the model, or says why not.
pub type Loader = Arc<dyn Fn() -> Result<Engine, String> + Send + Sync>;

/// Where the model is on its way into memory.
pub struct Loading {
    /// What loads it; nothing where there is no model.
    loader: Option<Loader>,
    /// Why there is none.
    never: &'static str,
    phase: Phase,
}

enum Phase {
    Absent,
    Under(JoinHandle<Result<Engine, String>>, Instant),
    Ready(Box<Engine>),
    Failed(String, Instant),
}

/// What there is now.
pub enum Found<'a> {
    /// The engine.
    Engine(&'a mut Engine),
    /// It is being loaded.
    Soon,
    /// It cannot be loaded.
    Never(&'a str),
}

/// What loads `model`.
pub fn loader(model: EngineModel) -> Loader {
    Arc::new(move || {
        let loaded = match &model {
            EngineModel::Builtin => Engine::from_files(builtin::files(), Settings::default()),
            EngineModel::Files(path, weights, device) => {
                Engine::load(path, Settings { weights: *weights, ..Settings::on(*device) })
            }
            EngineModel::Apart(..) | EngineModel::Rehearsal(_) | EngineModel::Status => {
                return Err("there is nothing to load".into());
            }
        };
        loaded.map_err(|error| error.to_string())
    })
}

impl Loading {
    /// Nothing is loaded yet.
    pub fn new(loader: Loader) -> Loading {
        Loading { loader: Some(loader), ..Loading::none() }
    }

    /// Nothing will ever be.
    pub fn none() -> Loading {
        let never = "the sites' state is all it tells";
        Loading { loader: None, never, phase: Phase::Absent }
    }

    /// The engine, which begins to load if it is not there.
    pub fn want(&mut self, name: &str) -> Found<'_> {
        let Some(loader) = self.loader.clone() else {
            return Found::Never(self.never);
        };
        self.advance(name);
        let is_due = match &self.phase {
            Phase::Absent => true,
            Phase::Failed(_, at) => at.elapsed() >= LOAD_AGAIN,
            Phase::Under(..) | Phase::Ready(_) => false,
        };
        if is_due {
            let thread = std::thread::Builder::new().name("engine-load".into());
            self.phase = match thread.spawn(move || loader()) {
                Ok(handle) => Phase::Under(handle, Instant::now()),
                Err(error) => Phase::Failed(error.to_string(), Instant::now()),
            };
        }
        match &mut self.phase {
            Phase::Ready(engine) => Found::Engine(engine),
            Phase::Absent | Phase::Under(..) => Found::Soon,
            Phase::Failed(why, _) => Found::Never(why),
        }
    }

    /// The engine, if it is there.
    pub fn engine(&mut self) -> Option<&mut Engine> {
        match &mut self.phase {
            Phase::Ready(engine) => Some(engine),
            Phase::Absent | Phase::Under(..) | Phase::Failed(..) => None,
        }
    }

    /// Takes the engine out for a step.
    pub fn take(&mut self) -> Option<Box<Engine>> {
        match std::mem::replace(&mut self.phase, Phase::Absent) {
            Phase::Ready(engine) => Some(engine),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Puts it back.
    pub fn put_back(&mut self, engine: Box<Engine>) {
        self.phase = Phase::Ready(engine);
    }

    /// The engine is lost in a thread that hangs: another is made of the same weights, or where
    /// that cannot be, loaded at the next want.
    pub fn replace(&mut self, twin: &Twin) {
        self.phase = match twin.engine() {
            Some(Ok(engine)) => Phase::Ready(Box::new(engine)),
            Some(Err(error)) => Phase::Failed(error.to_string(), Instant::now()),
            None => Phase::Absent,
        };
    }

    /// Nothing is ever loaded again, for this reason.
    pub fn give_up(&mut self, why: &'static str) {
        *self = Loading { never: why, ..Loading::none() };
    }

    /// Whether it is being loaded.
    pub fn is_under_way(&self) -> bool {
        matches!(self.phase, Phase::Under(..))
    }

    /// The engine broke in a way that leaves nothing to trust: the next want loads it anew.
    pub fn forget(&mut self) {
        self.phase = Phase::Absent;
    }

    fn advance(&mut self, name: &str) {
        let is_done = matches!(&self.phase, Phase::Under(handle, _) if handle.is_finished());
        if !is_done {
            return;
        }
        let Phase::Under(handle, since) = std::mem::replace(&mut self.phase, Phase::Absent) else {
            return;
        };
        let loaded = handle.join().unwrap_or_else(|_| Err("the loader panicked".into()));
        self.phase = match loaded {
            Ok(engine) => {
                let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                let parameters = engine.model().parameters;
                tracing::info!(model = name, millis, parameters, "the embedded engine is loaded");
                Phase::Ready(Box::new(engine))
            }
            Err(why) => {
                tracing::warn!(model = name, why, "the embedded engine cannot be loaded");
                Phase::Failed(why, Instant::now())
            }
        };
    }
}
