//! The embedded engine's thread, and how an attempt talks to it.

mod status_answer;

use crate::drive::Drive;
use crate::gateway::attempt::Item;
use crate::gateway::dialect::event::{Chunk, Delta, Finish, Usage};
use crate::gateway::dialect::request::Call;
use crate::gateway::dialect::shape::{self, Head};
use crate::setup::EngineModel;
use mainstay_core::names::Failure;
use std::collections::VecDeque;
use std::sync::Arc;

/// What the engine is asked.
pub struct Work {
    /// The client's call.
    pub call: Arc<Call>,
    /// Text and tokens of the answer that another site began.
    pub prefix: Option<(String, u32)>,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Worker {
    drive: Arc<Drive>,
}

/// An answer under way.
pub struct Answer {
    ready: VecDeque<Item>,
}

impl Worker {
    /// Starts the engine's thread.
    pub fn start(_model: EngineModel, drive: &Arc<Drive>) -> Worker {
        Worker { drive: drive.clone() }
    }

    /// Begins an answer.
    pub fn begin(&self, work: Work) -> Result<Answer, Failure> {
        let text = status_answer::text(&self.drive);
        let head =
            Head { id: "chatcmpl-status".into(), created: shape::now(), model: "status".into() };
        let mut ready = VecDeque::new();
        for word in text.split_inclusive(' ') {
            let delta = Delta { content: word.to_owned(), ..Delta::default() };
            ready.push_back(Item::Chunk(shape::chunk(
                work.call.endpoint,
                &head,
                vec![delta],
                None,
            )));
        }
        let delta = Delta { finish: Some(Finish::Stop), ..Delta::default() };
        ready.push_back(Item::Chunk(shape::chunk(work.call.endpoint, &head, vec![delta], None)));
        let _: Option<(Chunk, Usage)> = None;
        Ok(Answer { ready })
    }
}

impl Answer {
    /// What it says next.
    pub async fn next(&mut self) -> Item {
        self.ready.pop_front().unwrap_or(Item::End)
    }
}
