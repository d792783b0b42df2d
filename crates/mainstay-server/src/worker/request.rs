//! One request at the engine: its sequences, and what waits to be told.
//!
//! A client that does not take is never waited for. What it has not taken is kept up to a bound;
//! beyond that its sequences give their memory back and wait with their journals.

use super::prompt::Prepared;
use super::slots::Filler;
use super::tools::Calls;
use crate::embedded::{Called, Counted, Finish, Job, Order, Said, Scored, Word};
use mainstay_core::names::{ErrorClass, Failure};
use mainstay_core::worker::{BEAT_EVERY, PIECES_AHEAD};
use mainstay_engine::{Engine, Journal, Progress, Refusal, SequenceId, Work};
use std::collections::VecDeque;
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// A request.
pub struct Request {
    /// What is wanted.
    pub order: Order,
    reply: mpsc::Sender<Said>,
    outbox: VecDeque<Said>,
    lanes: Vec<Lane>,
    counted: Counted,
    told: Instant,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was begun.
    Queued,
    /// Its sequences run, and no text came yet.
    Silent,
    /// Text came.
    Speaking,
    /// All is said; only handing over is left.
    Over,
}

/// One choice.
struct Lane {
    choice: u32,
    /// Whether it is the first with its prompt, and nothing was heard of it.
    counts: bool,
    work: Work,
    filler: Option<Filler>,
    calls: Option<Calls>,
    /// Whether a tool was called.
    has_called: bool,
    /// Scores of tokens whose text is not certain yet.
    scored: Vec<Scored>,
    run: Run,
}

enum Run {
    Running(SequenceId),
    /// Its memory went back; the client must take first.
    Paused(Journal),
    Done,
}

impl Request {
    /// A request that has just come in.
    pub fn new(job: Job) -> Request {
        Request {
            order: job.order,
            reply: job.reply,
            outbox: VecDeque::new(),
            lanes: Vec::new(),
            counted: Counted::default(),
            told: Instant::now(),
            phase: Phase::Queued,
        }
    }

    /// Whether nothing was begun.
    pub fn is_queued(&self) -> bool {
        self.phase == Phase::Queued
    }

    /// Whether no text came yet, so that it can be answered otherwise.
    pub fn is_silent(&self) -> bool {
        matches!(self.phase, Phase::Queued | Phase::Silent)
    }

    /// Whether everything is handed over, or nobody takes it.
    pub fn is_done(&self) -> bool {
        self.reply.is_closed() || (self.phase == Phase::Over && self.outbox.is_empty())
    }

    /// Whether one of its sequences is in the engine.
    pub fn runs(&self) -> bool {
        self.lanes.iter().any(|lane| matches!(lane.run, Run::Running(_)))
    }

    /// Hands its sequences to the engine.
    pub fn begin(
        &mut self,
        engine: &mut Engine,
        (name, prepared): (&str, Vec<Prepared>),
    ) -> Result<(), Refusal> {
        for Prepared { choice, is_first, work, filler, calls } in prepared {
            if is_first {
                self.counted.prompt += work.prompt.len() as u64;
            }
            let id = match engine.submit(work.clone()) {
                Ok(id) => id,
                Err(refusal) => {
                    self.cancel(engine);
                    return Err(refusal);
                }
            };
            let run = Run::Running(id);
            self.lanes.push(Lane {
                choice,
                counts: is_first,
                work,
                filler,
                calls,
                has_called: false,
                scored: Vec::new(),
                run,
            });
        }
        self.phase = Phase::Silent;
        self.outbox.push_back(Said::By(name.to_owned()));
        Ok(())
    }

    /// Takes a report of the engine in, if it is about one of its sequences. `Err` where the
    /// engine failed.
    pub fn hear(&mut self, progress: &Progress, engine: &mut Engine) -> Result<bool, ()> {
        let is_it = |lane: &&mut Lane| matches!(lane.run, Run::Running(id) if id == progress.id);
        let Some(lane) = self.lanes.iter_mut().find(is_it) else { return Ok(false) };
        if std::mem::take(&mut lane.counts) {
            self.counted.cached += progress.cached as u64;
        }
        lane.scored.extend(scored(progress, engine));
        let finish = match progress.finish {
            None => None,
            Some(mainstay_engine::Finish::Stop) => Some(Finish::Stop),
            Some(mainstay_engine::Finish::Length) => Some(Finish::Length),
            Some(mainstay_engine::Finish::Failed) => {
                lane.run = Run::Done;
                return Err(());
            }
        };
        let (choice, (text, called)) = (lane.choice, lane.write(&progress.text, finish.is_some()));
        let is_over = finish.is_none() && lane.calls.as_ref().is_some_and(Calls::is_over);
        if is_over {
            engine.cancel(progress.id);
        }
        let finish = finish.or(is_over.then_some(Finish::Stop));
        if finish.is_some() {
            lane.run = Run::Done;
            self.counted.completion += progress.tokens as u64;
        }
        let is_due = !text.is_empty() || finish.is_some();
        let scored = if is_due { std::mem::take(&mut lane.scored) } else { Vec::new() };
        lane.has_called |= !called.is_empty();
        let finish = finish.map(|finish| match finish {
            Finish::Stop if lane.has_called => Finish::Calls,
            other => other,
        });
        match scored.is_empty() {
            true => self.text(choice, text),
            false => {
                self.phase = Phase::Speaking;
                self.outbox.push_back(Said::Scored(choice, text, scored));
            }
        }
        for call in called {
            self.phase = Phase::Speaking;
            self.outbox.push_back(Said::Call(choice, call));
        }
        if let Some(finish) = finish {
            self.end(choice, finish);
        }
        Ok(true)
    }

    /// Says a whole text that no sequence made.
    pub fn recite(&mut self, by: &str, pieces: Vec<String>) {
        let most = self.order.max_tokens.map_or(usize::MAX, |most| most as usize);
        let finish = if pieces.len() > most { Finish::Length } else { Finish::Stop };
        self.lanes.clear();
        self.outbox.clear();
        self.outbox.push_back(Said::By(by.to_owned()));
        let choices = self.order.choices();
        let taken = pieces.len().min(most);
        self.counted =
            Counted { prompt: 0, cached: 0, completion: taken as u64 * u64::from(choices) };
        for choice in 0..choices {
            let texts = pieces.iter().take(most).cloned();
            self.outbox.extend(texts.map(|text| Said::Text(choice, text)));
            let counted = (choice + 1 == choices).then_some(self.counted);
            self.outbox.push_back(Said::End(choice, finish, counted));
        }
        self.phase = Phase::Over;
    }

    /// There is no answer, or no more of it.
    pub fn fail(&mut self, failure: Failure) {
        if self.phase == Phase::Over {
            return;
        }
        self.lanes.clear();
        self.outbox.push_back(Said::Failed(failure));
        self.phase = Phase::Over;
    }

    /// The engine broke under it, and another attempt may do better.
    pub fn break_off(&mut self) {
        self.fail(Failure::ours(ErrorClass::Transient, "the embedded engine failed in a step"));
    }

    /// Takes its sequences out of the engine.
    pub fn cancel(&mut self, engine: &mut Engine) {
        for lane in &mut self.lanes {
            if let Run::Running(id) = std::mem::replace(&mut lane.run, Run::Done) {
                engine.cancel(id);
            }
        }
    }

    /// What the engine says of it in another process.
    pub fn pass_on(&mut self, said: Said) {
        self.phase = match &said {
            Said::Beat | Said::By(_) => self.phase,
            Said::Text(..) | Said::Scored(..) | Said::Call(..) | Said::End(_, _, None) => {
                Phase::Speaking
            }
            Said::End(_, _, Some(_)) | Said::Failed(_) => Phase::Over,
        };
        self.outbox.push_back(said);
    }

    /// Hands over what the client takes, without waiting for it; how much that was.
    pub fn hand_over(&mut self) -> usize {
        let mut taken = 0;
        while let Some(said) = self.outbox.pop_front() {
            match self.reply.try_send(said) {
                Ok(()) => (self.told, taken) = (Instant::now(), taken + 1),
                Err(TrySendError::Full(said)) => {
                    self.outbox.push_front(said);
                    return taken;
                }
                Err(TrySendError::Closed(_)) => return taken,
            }
        }
        taken
    }

    /// The same, and tells a client who hears nothing that its request is at work.
    pub fn flush(&mut self) {
        self.hand_over();
        if !self.outbox.is_empty() {
            return;
        }
        if self.phase != Phase::Over && self.told.elapsed() >= BEAT_EVERY {
            self.told = Instant::now();
            let _ = self.reply.try_send(Said::Beat);
        }
    }

    /// Sends sequences to rest whose client does not take, and wakes them when it does.
    pub fn balance(&mut self, engine: &mut Engine) {
        if self.outbox.len() >= PIECES_AHEAD {
            for lane in &mut self.lanes {
                let Run::Running(id) = lane.run else { continue };
                if let Some(journal) = engine.journal(id) {
                    engine.cancel(id);
                    lane.run = Run::Paused(journal);
                }
            }
        }
        if !self.outbox.is_empty() {
            return;
        }
        for lane in &mut self.lanes {
            let Run::Paused(journal) = &lane.run else { continue };
            let work = Work { journal: Some(journal.clone()), ..lane.work.clone() };
            match engine.submit(work) {
                Ok(id) => lane.run = Run::Running(id),
                Err(Refusal::Busy { .. }) => return,
                // It ran before with the same settings, so only an end is left.
                Err(_) => return self.break_off(),
            }
        }
    }

    fn text(&mut self, choice: u32, text: String) {
        if !text.is_empty() {
            self.phase = Phase::Speaking;
            self.outbox.push_back(Said::Text(choice, text));
        }
    }

    fn end(&mut self, choice: u32, finish: Finish) {
        let is_last = self.lanes.iter().all(|lane| matches!(lane.run, Run::Done));
        if is_last {
            self.phase = Phase::Over;
        }
        self.outbox.push_back(Said::End(choice, finish, is_last.then_some(self.counted)));
    }
}

impl Lane {
    /// What the client reads of the next piece of text: slots filled, calls taken out.
    fn write(&mut self, piece: &str, is_last: bool) -> (String, Vec<Called>) {
        let text = match &mut self.filler {
            Some(filler) if is_last => filler.push(piece) + &filler.finish(),
            Some(filler) => filler.push(piece),
            None => piece.to_owned(),
        };
        let Some(calls) = &mut self.calls else { return (text, Vec::new()) };
        let (mut text, mut called) = calls.push(&text);
        if is_last {
            let rest = calls.finish();
            text.push_str(&rest.0);
            called.extend(rest.1);
        }
        (text, called)
    }
}

/// What is told of the token. Of one that only ends the answer, nothing.
fn scored(progress: &Progress, engine: &Engine) -> Option<Scored> {
    let scores = progress.scores.as_ref()?;
    let is_end = progress.finish.is_some() && engine.model().end_tokens.contains(&progress.token);
    let word = |(token, logprob)| Word { bytes: engine.token_bytes(token), logprob };
    (!is_end).then(|| Scored {
        token: word((progress.token, scores.chosen)),
        top: scores.top.iter().copied().map(word).collect(),
    })
}
