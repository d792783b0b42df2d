//! Steps of the engine, on a thread of their own, and what becomes of one that hangs.
//!
//! A thread cannot be ended from outside. So the engine goes to a thread for each step and comes
//! back after it; if it does not, the thread is given up with the engine it has, and another engine
//! is made of the same weights. Threads given up are few: a process with many of them has to end.

use mainstay_core::worker::{BEAT_EVERY, HANGS_AFTER, HUNG_MAX};
use mainstay_engine::{Engine, Progress, Twin};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// What computes a step.
pub type Step = Arc<dyn Fn(&mut Engine, &mut Vec<Progress>) + Send + Sync>;
/// Whether a step hangs, in which nothing was finished for so many looks.
pub type Hangs = Box<dyn Fn(u32) -> bool + Send>;

/// How steps are computed.
pub struct Steps {
    step: Step,
    hangs: Hangs,
    hands: Option<Hands>,
    given_up: Vec<JoinHandle<()>>,
}

/// The thread that computes.
struct Hands {
    give: SyncSender<Held>,
    back: Receiver<(Held, bool)>,
    thread: JoinHandle<()>,
}

/// An engine on its way, and its reports.
type Held = (Box<Engine>, Vec<Progress>);

/// How a step went.
pub enum Stepped {
    /// These are its reports.
    Done(Box<Engine>, Vec<Progress>),
    /// The engine is not to be trusted any more.
    Panicked,
    /// The engine is lost; another can be made of this.
    Hung(Twin),
    /// The end was asked for meanwhile, and the engine is of no more use.
    Stopped,
    /// There is no thread for it.
    NoThread(Box<Engine>),
}

impl Default for Steps {
    fn default() -> Steps {
        let step: Step = Arc::new(|engine: &mut Engine, out: &mut _| engine.step(out));
        Steps::new(step, Box::new(|looks| looks >= HANGS_AFTER))
    }
}

impl Steps {
    /// Steps that are computed so.
    pub fn new(step: Step, hangs: Hangs) -> Steps {
        Steps { step, hangs, hands: None, given_up: Vec::new() }
    }

    /// The same, where a step is seen to hang otherwise.
    pub fn until(self, hangs: Hangs) -> Steps {
        Steps { hangs, ..self }
    }

    /// Whether there are too many threads already that never came back.
    pub fn is_over(&mut self) -> bool {
        self.given_up.retain(|thread| !thread.is_finished());
        self.given_up.len() > HUNG_MAX
    }

    /// Computes a step; `reports` is what the engine writes into.
    pub fn step(
        &mut self,
        engine: Box<Engine>,
        reports: Vec<Progress>,
        stop: &AtomicBool,
    ) -> Stepped {
        let Some(hands) = self.hands.take().or_else(|| hands(&self.step)) else {
            return Stepped::NoThread(engine);
        };
        let (twin, pulse) = (engine.twin(), engine.pulse());
        // Its thread waits for this and does nothing else, so it is there.
        if hands.give.send((engine, reports)).is_err() {
            return Stepped::Panicked;
        }
        let (mut looks, mut seen) = (0, pulse.load(Ordering::Relaxed));
        loop {
            match hands.back.recv_timeout(BEAT_EVERY) {
                Ok(((engine, reports), is_whole)) => {
                    self.hands = Some(hands);
                    return match is_whole {
                        true => Stepped::Done(engine, reports),
                        false => Stepped::Panicked,
                    };
                }
                Err(RecvTimeoutError::Disconnected) => return Stepped::Panicked,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if stop.load(Ordering::Relaxed) {
                return Stepped::Stopped;
            }
            let now = pulse.load(Ordering::Relaxed);
            looks = if now == seen { looks + 1 } else { 0 };
            seen = now;
            if (self.hangs)(looks) {
                self.given_up.push(hands.thread);
                return Stepped::Hung(twin);
            }
        }
    }
}

/// A thread that computes what it is handed, until nobody hands it anything.
fn hands(step: &Step) -> Option<Hands> {
    let (give, take) = sync_channel::<Held>(1);
    let (hand, back) = sync_channel(1);
    let step = step.clone();
    let work = move || {
        while let Ok((mut engine, mut reports)) = take.recv() {
            let stepped = catch_unwind(AssertUnwindSafe(|| step(&mut engine, &mut reports)));
            if hand.send(((engine, reports), stepped.is_ok())).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("engine-step".into()).spawn(work);
    thread.ok().map(|thread| Hands { give, back, thread })
}
