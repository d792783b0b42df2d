//! Contents that break on purpose: the harm of a bad policy can be seen, and how it is undone.
//!
//! `[rehearsal]` in a content does something only at nodes whose own file says `rehearse = true`;
//! all others refuse such a content as a whole.

use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How a content breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rehearsal {
    /// When it kills its process.
    pub dies: Option<Dies>,
    /// Or so long after it came in force.
    pub dies_after: Option<Duration>,
}

/// When a content kills the process that loads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dies {
    /// In the sacrificial process, and anywhere else.
    Tasted,
    /// It takes memory without end there.
    Swells,
    /// It never ends there.
    Hangs,
    /// When it is to be put in force, which no sacrificial process can find.
    Loaded,
}

/// Ends the harm of a content that is not in force any more.
#[derive(Debug, Default)]
pub struct Stage {
    over: Option<Arc<AtomicBool>>,
}

impl Stage {
    /// Another content is about to be put in force.
    pub fn play(&mut self, rehearsal: Option<Rehearsal>) {
        if let Some(over) = self.over.take() {
            over.store(true, Ordering::Relaxed);
        }
        let Some(Rehearsal { dies, dies_after }) = rehearsal else { return };
        if dies.is_some() {
            die("when it was put in force");
        }
        let Some(after) = dies_after else { return };
        let over = Arc::new(AtomicBool::new(false));
        self.over = Some(over.clone());
        std::thread::spawn(move || {
            std::thread::sleep(after);
            if !over.load(Ordering::Relaxed) {
                die("after a while");
            }
        });
    }
}

/// Ends the process as a defect would.
pub fn die(when: &str) -> ! {
    eprintln!("mainstay: a rehearsed policy kills this process {when}");
    std::process::abort()
}
