//! Carries one attempt at this site: waits for the machine's word, has a worker answer, relays
//! what it says, and tells the machine of its first token and its end.
//!
//! It keeps what was relayed. When a worker is lost in the middle of an answer, the next one that
//! the machine names is asked to go on behind it, as a gateway asks another site: no token comes
//! twice and none is lost. Answers that no worker could go on with exactly are left to the gateway.

use super::Node;
use super::controller::Word;
use super::reply::{Left, Reply};
use super::worker::Ticket;
use crate::answer::{self, Answer};
use crate::attempt::{Attempt, Fault, Item, Question};
use crate::dialect::event::{Chunk, Endpoint};
use crate::dialect::request::{Call, Format, Relayed};
use crate::http::ResponseBody;
use bytes::Bytes;
use http::Response;
use mainstay_core::cost::CostUnits;
use mainstay_core::fact::{How, Rung};
use mainstay_core::gateway::Start;
use mainstay_core::gateway::latency::Patience;
use mainstay_core::gateway::request::Sent;
use mainstay_core::message::{BEAT, Open, Refuse};
use mainstay_core::names::{ErrorClass, Failure, Scope, SiteId, WorkerId};
use mainstay_core::site::Event;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};

/// One attempt.
pub struct Relay {
    node: Arc<Node>,
    /// The position of its pool.
    pool: usize,
    open: Open,
    call: Arc<Call>,
    reply: Reply,
    /// What the gateway has of it.
    answer: Answer,
    leg: Option<Leg>,
    /// A failure that the machine has not answered yet.
    failure: Option<Failure>,
    /// Whether the machine has let go of it.
    is_over: bool,
}

/// A worker's try.
struct Leg {
    attempt: Attempt,
    part: answer::Leg,
    ticket: Ticket,
    since: Instant,
    /// Nothing is heard of it before.
    held: Option<Instant>,
    /// It goes on with what another worker began.
    goes_on: bool,
    has_token: bool,
}

enum Step {
    Word(Option<Word>),
    Item(Item),
    /// Its worker is taken for gone.
    Lost,
    Left,
    Beat,
}

impl Relay {
    /// The relay of `open` for who waits at `head`.
    pub fn new(
        node: Arc<Node>,
        (pool, open): (usize, Open),
        call: Call,
        head: oneshot::Sender<Response<ResponseBody>>,
    ) -> Relay {
        let reply = Reply::new(head, call.endpoint);
        // Workers give answers ids of their own.
        let answer = Answer::new(&call, String::from("chatcmpl-0"));
        Relay {
            node,
            pool,
            open,
            call: Arc::new(call),
            reply,
            answer,
            leg: None,
            failure: None,
            is_over: false,
        }
    }

    /// Carries it to its end.
    pub async fn run(mut self) {
        let prefix = self.node.prefixes.of(&self.call, (self.open.prompt, self.node.price.prompt));
        let mut inbox = self.node.controller.open(self.open, prefix, self.pool);
        let mut beats = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.is_over {
            match self.wait(&mut inbox, &mut beats).await {
                Step::Word(Some(word)) => self.word(word).await,
                Step::Word(None) => self.is_over = true,
                Step::Item(item) => {
                    if self.item(item).await.is_err() {
                        self.leave();
                    }
                }
                Step::Lost => {
                    let what = "the worker is gone";
                    self.broken(Failure::ours(ErrorClass::Transient, what)).await;
                }
                Step::Left => self.leave(),
                Step::Beat => {
                    if self.reply.beat().await.is_err() {
                        self.leave();
                    }
                }
            }
        }
    }

    async fn wait(&mut self, inbox: &mut mpsc::Receiver<Word>, beats: &mut Interval) -> Step {
        let attempt = async {
            let Some(leg) = &mut self.leg else { return std::future::pending().await };
            let item = async {
                if let Some(until) = leg.held {
                    tokio::time::sleep_until(until).await;
                }
                leg.attempt.next().await
            };
            tokio::select! {
                biased;
                item = item => Step::Item(item),
                () = leg.ticket.lost() => Step::Lost,
            }
        };
        tokio::select! {
            biased;
            word = inbox.recv() => Step::Word(word),
            step = attempt => step,
            () = self.reply.left() => Step::Left,
            _ = beats.tick() => Step::Beat,
        }
    }

    async fn word(&mut self, word: Word) {
        match word {
            Word::Ack(ack) => self.reply.begin(&ack),
            Word::Dispatch(worker) => self.dispatch(worker).await,
            Word::Abort => self.leg = None,
            Word::Refuse(refuse) => self.refused(refuse).await,
        }
    }

    async fn dispatch(&mut self, id: WorkerId) {
        let Some(worker) = self.node.crew.get(id) else {
            // It went in the moment in which it was chosen.
            return self.tell_lost();
        };
        let (text, tokens) = self.answer.relayed(None);
        let relayed = (!text.is_empty()).then_some(Relayed { text, tokens });
        let how = relayed.map_or(How::First, |_| How::Resume(Rung::Native));
        // It may have begun in the moment in which it was taken from the worker before.
        let has_begun = self.answer.standing().tokens > 0;
        if has_begun && !(worker.continues() && self.may_go_on()) {
            let what = "no worker can go on with the answer";
            return self.give_up(Failure::ours(ErrorClass::Transient, what)).await;
        }
        let start = Start {
            attempt: self.open.work.attempt,
            target: self.open.target,
            site: SiteId(0),
            model: worker.model.clone(),
            how,
            patience: Patience::NONE,
            only_choice: None,
            open: None,
            broken: None,
        };
        let (tier, tenant) = ("", self.open.tenant);
        let question =
            Question { call: &self.call, start: &start, relayed, stream: true, tier, tenant };
        let attempt = Attempt::open(&worker.site, &question);
        self.failure = None;
        let since = Instant::now();
        let held = worker.pace.as_ref().map(|pace| pace.through(since, self.open.cost));
        let goes_on = relayed.is_some();
        let part = self.answer.leg(how, None);
        let ticket = Ticket::new((id, worker), self.node.controller.clone());
        self.leg = Some(Leg { attempt, part, ticket, since, held, has_token: false, goes_on });
    }

    /// The machine lets go of it without an answer.
    async fn refused(&mut self, refuse: Refuse) {
        self.leg = None;
        self.is_over = true;
        match self.failure.take() {
            Some(failure) => self.reply.broken(&failure).await,
            // What the gateway has is a beginning: it goes on elsewhere.
            None if self.answer.standing().relayed => {
                let what = "the site gave the answer up";
                self.reply.broken(&Failure::ours(ErrorClass::Transient, what)).await;
            }
            None => self.reply.refuse(&refuse).await,
        }
    }

    async fn item(&mut self, item: Item) -> Result<(), Left> {
        match item {
            // What the worker says of its life is not passed on: the site says so of itself.
            Item::Life | Item::Beat | Item::Ack(_) | Item::Refused(_) => Ok(()),
            Item::Chunk(chunk) => self.chunks(chunk).await,
            Item::Whole(plain) => {
                self.answer.take_whole(&plain);
                self.first_token();
                self.reply.whole(plain.json).await;
                self.ended(false);
                Ok(())
            }
            Item::Broken(fault) if fault.cut && self.has_finish() => self.end().await,
            Item::Broken(fault) => {
                self.look_at(&fault);
                self.broken(fault.failure).await;
                Ok(())
            }
            Item::End => self.end().await,
        }
    }

    /// What a fault says of the worker, beside the answer.
    fn look_at(&self, fault: &Fault) {
        let Some(leg) = &self.leg else { return };
        let is_transport = fault.failure.status.is_none();
        match fault.failure.class {
            // Nobody listens there.
            ErrorClass::Dead(Scope::Site) if fault.sent == Sent::Nothing => leg.ticket.refused(),
            ErrorClass::Transient if is_transport => leg.ticket.broke(),
            ErrorClass::Overload if !is_transport && !leg.has_token => leg.ticket.full(),
            // It answers: that it is full, or that it cannot do this, says nothing of its life.
            _ => {}
        }
    }

    /// Hands on a chunk and what came with it.
    async fn chunks(&mut self, first: Chunk) -> Result<(), Left> {
        let mut out: Vec<Bytes> = Vec::new();
        let mut next = Some(Item::Chunk(first));
        while let Some(Item::Chunk(chunk)) = next {
            let Some(leg) = &mut self.leg else { return Ok(()) };
            let mut taken = self.answer.take(&mut leg.part, &chunk);
            out.append(&mut taken.out);
            if taken.mismatch {
                self.reply.events(&out).await?;
                let what = "another worker's answer does not fit what was relayed";
                self.broken(Failure::ours(ErrorClass::Transient, what)).await;
                return Ok(());
            }
            if taken.tokens > 0 {
                leg.ticket.tokens(u64::from(taken.tokens));
                self.first_token();
            }
            next = self.leg.as_mut().and_then(|leg| leg.attempt.ready());
        }
        let is_whole = self.has_finish();
        if is_whole {
            out.append(&mut self.answer.settle());
        }
        if !out.is_empty() {
            self.reply.events(&out).await?;
        }
        match next {
            None if is_whole && self.answer.has_usage() => self.end().await,
            None => Ok(()),
            Some(item) => Box::pin(self.item(item)).await,
        }
    }

    fn first_token(&mut self) {
        let Some(leg) = &mut self.leg else { return };
        if std::mem::replace(&mut leg.has_token, true) {
            return;
        }
        leg.ticket.first_token(u64::from(self.open.prompt));
        let after = leg.since.elapsed();
        self.node.controller.tell(Event::FirstToken { work: self.open.work, after });
    }

    /// The worker has no more to say.
    async fn end(&mut self) -> Result<(), Left> {
        if !self.has_finish() {
            let what = "the worker's answer ended without a finish reason";
            self.broken(Failure::ours(ErrorClass::Transient, what)).await;
            return Ok(());
        }
        let mut out = self.answer.settle();
        if self.answer.has_usage() {
            out.push(self.answer.usage_chunk(u64::from(self.open.prompt)));
        }
        if !out.is_empty() {
            self.reply.events(&out).await?;
        }
        self.reply.done().await;
        let goes_on = self.leg.as_ref().is_some_and(|leg| leg.goes_on);
        if let Some(leg) = self.leg.take() {
            leg.attempt.finish();
        }
        self.ended(goes_on);
        Ok(())
    }

    /// The worker broke. The machine may give it to another, one that was begun too, if what was
    /// relayed can be gone on with.
    async fn broken(&mut self, failure: Failure) {
        let is_fault = matches!(failure.class, ErrorClass::ClientFault(_) | ErrorClass::Policy);
        let standing = self.answer.standing();
        // A worker that cannot go on with what another began is asked what no client asked.
        if is_fault && self.leg.as_ref().is_some_and(|leg| leg.goes_on) {
            let what = format!("no worker goes on with the answer: {}", failure.message);
            return self.give_up(Failure::ours(ErrorClass::Transient, what)).await;
        }
        if is_fault {
            // Not the worker's fault: it is answered, with a no.
            return self.give_up(failure).await;
        }
        self.answer.forget_finish();
        let work = self.open.work;
        self.failure = Some(failure);
        self.node.controller.tell(match self.may_go_on() {
            true => Event::Moving { work, relayed: standing.tokens },
            false => Event::Lost(work),
        });
        // Only now, so that the machine hears of the leg before it hears that its worker is gone.
        self.leg = None;
    }

    fn tell_lost(&mut self) {
        self.node.controller.tell(Event::Lost(self.open.work));
    }

    /// It ends here without being whole.
    async fn give_up(&mut self, failure: Failure) {
        self.leg = None;
        self.is_over = true;
        self.reply.broken(&failure).await;
        let work = self.open.work;
        self.node.controller.tell(Event::Ended { work, cost: CostUnits::ZERO });
    }

    /// Whether another worker can go on with what was relayed, exactly: plain text, and one answer.
    fn may_go_on(&self) -> bool {
        let (call, standing) = (&self.call, self.answer.standing());
        let has_text = !self.answer.relayed(None).0.is_empty();
        let is_one = call.choices() == 1 && call.best_of.is_none_or(|best| best <= 1);
        call.endpoint != Endpoint::Embeddings
            && standing.answered
            && has_text
            && !standing.tools
            && !standing.too_long
            && is_one
            && !call.echo
            && call.format == Format::Text
    }

    /// `goes_on` says that others began it: what was cached is then not of the prompt alone.
    fn ended(&mut self, goes_on: bool) {
        self.leg = None;
        self.is_over = true;
        let usage = self.answer.usage(u64::from(self.open.prompt));
        let cached = usage.cached.unwrap_or(0);
        let prompt = usage.prompt.max(u64::from(self.open.prompt)).saturating_sub(cached);
        let tokens = u64::from(self.answer.standing().tokens);
        let cost = self.node.price.of(prompt, usage.completion.max(tokens));
        let work = self.open.work;
        if let Some(cached) = usage.cached.filter(|_| !goes_on) {
            let tokens = u32::try_from(cached).unwrap_or(u32::MAX);
            self.node.controller.tell(Event::Cached { work, tokens });
        }
        self.node.controller.tell(Event::Ended { work, cost });
    }

    fn leave(&mut self) {
        self.leg = None;
        if !std::mem::replace(&mut self.is_over, true) {
            self.node.controller.tell(Event::Cancel(self.open.work));
        }
    }

    fn has_finish(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| self.answer.is_finished(&leg.part))
    }
}

/// A task that ends in any other way must not leave the machine waiting for it.
impl Drop for Relay {
    fn drop(&mut self) {
        self.leave();
        self.node.controller.forget(self.open.work);
    }
}
