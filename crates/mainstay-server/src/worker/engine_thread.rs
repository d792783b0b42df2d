//! The loop of the thread that owns the engine: hear orders, step, tell.
//!
//! Each round looks at those who left, so a cancelled request costs at most the step under way.
//! A panic, wherever it comes from, costs the requests it touched and nothing else.

use super::loading::{Found, Loading};
use super::prompt::{self, prepare};
use super::request::Request;
use super::slots::Scene;
use super::status_answer;
use super::steps::{Stepped, Steps};
use super::words::Language;
use crate::embedded::{Job, Message, full};
use mainstay_core::gateway::outlook::Outlook;
use mainstay_core::names::{ErrorClass, Failure, Scope};
use mainstay_core::worker::{LOOK_AGAIN, ORDERS_MAX};
use mainstay_engine::{Engine, Progress, Twin};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

/// How the sites stand, for whoever asked for this model.
pub type Look = Box<dyn Fn(&str) -> Outlook + Send>;

/// What the thread knows of the world.
pub struct Surroundings {
    /// The name that answers carry.
    pub name: String,
    /// Whether it is the built-in model.
    pub is_builtin: bool,
    /// How the sites stand; it is given the model that was asked for. Nothing where that is not
    /// known: no report of it is given then.
    pub outlook: Option<Look>,
    /// Where the API listens.
    pub url: Option<String>,
    /// Who hears how many drafts of a step were kept and dropped.
    pub drafts: Option<Box<dyn Fn(u64, u64) + Send>>,
}

/// The thread's state.
pub struct EngineThread {
    inbox: Receiver<Message>,
    stop: Arc<AtomicBool>,
    loading: Loading,
    steps: Steps,
    around: Surroundings,
    requests: Vec<Request>,
    /// Reports of the last step.
    reports: Vec<Progress>,
}

/// What was heard.
enum Heard {
    Something,
    Stop,
}

impl EngineThread {
    /// A thread that has not begun.
    pub fn new(
        (inbox, stop): (Receiver<Message>, Arc<AtomicBool>),
        (loading, steps): (Loading, Steps),
        around: Surroundings,
    ) -> EngineThread {
        let (requests, reports) = (Vec::new(), Vec::new());
        EngineThread { inbox, stop, loading, steps, around, requests, reports }
    }

    /// Works until it is stopped.
    pub fn run(mut self) {
        loop {
            let worked = catch_unwind(AssertUnwindSafe(|| self.work()));
            match worked {
                Ok(()) => return,
                // What was under way cannot be trusted; what comes next starts from nothing.
                Err(_) => {
                    tracing::error!(model = self.around.name, "the embedded engine panicked");
                    self.loading.forget();
                    self.requests.iter_mut().for_each(Request::break_off);
                }
            }
        }
    }

    fn work(&mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            if let Heard::Stop = self.listen() {
                return;
            }
            self.let_go();
            self.begin();
            self.step();
            for request in &mut self.requests {
                request.flush();
            }
            self.requests.retain(|request| !request.is_done());
        }
    }

    /// Takes in all orders that wait; sleeps if there is nothing else to do.
    fn listen(&mut self) -> Heard {
        let is_busy = self.requests.iter().any(Request::runs);
        if !is_busy && self.requests.is_empty() && !self.loading.is_under_way() {
            match self.inbox.recv() {
                Ok(Message::Order(job)) => self.take(*job),
                Ok(Message::Stop) | Err(_) => return Heard::Stop,
            }
        } else if !is_busy {
            match self.inbox.recv_timeout(LOOK_AGAIN) {
                Ok(Message::Order(job)) => self.take(*job),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return Heard::Stop,
            }
        }
        loop {
            match self.inbox.try_recv() {
                Ok(Message::Order(job)) => self.take(*job),
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => return Heard::Stop,
                Err(TryRecvError::Empty) => return Heard::Something,
            }
        }
    }

    fn take(&mut self, job: Job) {
        let mut request = Request::new(job);
        if self.requests.iter().filter(|other| other.is_queued()).count() >= ORDERS_MAX {
            request.fail(full());
        }
        self.requests.push(request);
    }

    /// Forgets requests whose clients left.
    fn let_go(&mut self) {
        let Some(engine) = self.loading.engine() else {
            return self.requests.retain(|request| !request.is_done());
        };
        self.requests.retain_mut(|request| {
            let is_done = request.is_done();
            if is_done {
                request.cancel(engine);
            }
            !is_done
        });
    }

    /// Begins what is queued, as soon as there is an engine or the certainty that there is none.
    fn begin(&mut self) {
        if !self.requests.iter().any(Request::is_queued) {
            return;
        }
        let around = &self.around;
        let queued = self.requests.iter_mut().filter(|request| request.is_queued());
        match self.loading.want(&around.name) {
            Found::Soon => {}
            Found::Engine(engine) => queued.for_each(|request| begin(engine, request, around)),
            Found::Never(why) => queued.for_each(|request| {
                let what = format!("the embedded engine cannot load its model: {why}");
                let failure = Failure::ours(ErrorClass::Dead(Scope::Model), what);
                answer_otherwise(request, around, failure);
            }),
        }
    }

    /// One step of the engine, if a sequence is in it.
    fn step(&mut self) {
        let Some(engine) = self.loading.engine() else { return };
        for request in &mut self.requests {
            request.balance(engine);
        }
        if !self.requests.iter().any(Request::runs) {
            return;
        }
        let Some(engine) = self.loading.take() else { return };
        let mut reports = std::mem::take(&mut self.reports);
        reports.clear();
        let before = engine.drafted();
        match self.steps.step(engine, reports, &self.stop) {
            Stepped::Done(engine, reports) => {
                let now = engine.drafted();
                let (made, kept) = (now.made - before.made, now.kept - before.kept);
                if let Some(drafts) = self.around.drafts.as_ref().filter(|_| made > 0) {
                    drafts(kept, made - kept);
                }
                self.reports = reports;
                self.loading.put_back(engine);
            }
            Stepped::Panicked => {
                tracing::error!(model = self.around.name, "a step of the embedded engine panicked");
                self.lost("the embedded engine panicked");
            }
            Stepped::Hung(twin) => self.hung(&twin),
            Stepped::Stopped => self.requests.iter_mut().for_each(Request::break_off),
            Stepped::NoThread(engine) => {
                self.loading.put_back(engine);
                self.lost("the embedded engine could not start the thread of its steps");
            }
        }
        let Some(engine) = self.loading.engine() else { return };
        for report in self.reports.drain(..) {
            hear(&mut self.requests, &report, engine, &self.around);
        }
    }

    /// A step came to no end. Its requests fail, for it may have been one of them; the others go on
    /// with another engine.
    fn hung(&mut self, twin: &Twin) {
        tracing::error!(
            model = self.around.name,
            "a step of the embedded engine hangs: its thread is given up, and the engine restarted"
        );
        self.lost(HUNG);
        match self.steps.is_over() {
            true => self.loading.give_up(GIVEN_UP),
            false => self.loading.replace(twin),
        }
    }

    /// The engine is lost, and with it what ran in it.
    fn lost(&mut self, what: &str) {
        for request in self.requests.iter_mut().filter(|request| request.runs()) {
            let failure = Failure::ours(ErrorClass::Transient, what);
            answer_otherwise(request, &self.around, failure);
        }
    }
}

/// What a request hears that was in a step that hangs.
const HUNG: &str = "a step of the embedded engine hung; the engine was restarted, try again";
/// What requests hear after the last step that could be given up.
const GIVEN_UP: &str = "its steps hung too often; restart this process";

fn begin(engine: &mut Engine, request: &mut Request, around: &Surroundings) {
    let order = &request.order;
    let outlook = around.outlook.as_ref().filter(|_| around.is_builtin);
    let scene = outlook.map(|outlook| {
        let outlook = outlook(&order.asked);
        let language = Language::of(&prompt::question(&order.prompt));
        Scene::of(&outlook, around.url.as_deref(), language)
    });
    let ready = catch_unwind(AssertUnwindSafe(|| prepare(engine, order, scene.as_ref())));
    let failure = match ready {
        Ok(Ok(prepared)) => match request.begin(engine, (&around.name, prepared)) {
            Ok(()) => return,
            Err(refusal) => prompt::refused(&refusal),
        },
        Ok(Err(failure)) => failure,
        Err(_) => Failure::ours(ErrorClass::Transient, "the prompt could not be prepared"),
    };
    request.fail(failure);
}

fn hear(requests: &mut [Request], report: &Progress, engine: &mut Engine, around: &Surroundings) {
    for request in requests {
        match request.hear(report, engine) {
            Ok(true) => return,
            Ok(false) => {}
            Err(()) => {
                tracing::warn!(model = around.name, "the embedded engine failed a request");
                request.cancel(engine);
                let what = "the embedded engine failed in a step";
                let failure = Failure::ours(ErrorClass::Transient, what);
                return answer_otherwise(request, around, failure);
            }
        }
    }
}

/// The engine cannot answer. The built-in model, and any that stands in for another, is followed
/// by the report of the sites' state; a model that was asked for by name is not replaced, and
/// neither is half an answer.
pub fn answer_otherwise(request: &mut Request, around: &Surroundings, failure: Failure) {
    let may_report = around.is_builtin || request.order.stands_in;
    let outlook = around.outlook.as_ref().filter(|_| may_report && request.is_silent());
    let Some(outlook) = outlook.filter(|_| request.order.prefix.is_none()) else {
        return request.fail(failure);
    };
    let outlook = outlook(&request.order.asked);
    let language = Language::of(&prompt::question(&request.order.prompt));
    let (asked, url) = (&request.order.asked, around.url.as_deref());
    let text = status_answer::text(&outlook, asked, url, language);
    request.recite(status_answer::NAME, status_answer::pieces(&text));
}
