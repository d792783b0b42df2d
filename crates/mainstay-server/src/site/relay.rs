//! Carries one attempt at this site: waits for the machine's word, has a worker answer, relays
//! what it says, and tells the machine of its first token and its end.

use super::Node;
use super::controller::Word;
use super::reply::{Left, Reply};
use crate::attempt::{Attempt, Item, Question};
use crate::dialect::event::{Chunk, Usage};
use crate::dialect::request::Call;
use crate::http::ResponseBody;
use bytes::Bytes;
use http::Response;
use mainstay_core::cost::CostUnits;
use mainstay_core::fact::How;
use mainstay_core::gateway::Start;
use mainstay_core::gateway::latency::Patience;
use mainstay_core::message::{BEAT, Open, Refuse};
use mainstay_core::names::{ErrorClass, Failure, SiteId, WorkerId};
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
    leg: Option<Leg>,
    /// Whether a token of it went out.
    has_token: bool,
    /// Output tokens so far, and the worker's own count.
    tokens: u64,
    usage: Option<Usage>,
    /// A failure that the machine has not answered yet.
    failure: Option<Failure>,
    /// Whether the machine has let go of it.
    is_over: bool,
}

/// A worker's try.
struct Leg {
    attempt: Attempt,
    since: Instant,
    /// Nothing is heard of it before.
    held: Option<Instant>,
    has_finish: bool,
}

enum Step {
    Word(Option<Word>),
    Item(Item),
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
        Relay {
            node,
            pool,
            open,
            call: Arc::new(call),
            reply,
            leg: None,
            has_token: false,
            tokens: 0,
            usage: None,
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
            match &mut self.leg {
                Some(leg) => {
                    if let Some(until) = leg.held {
                        tokio::time::sleep_until(until).await;
                    }
                    leg.attempt.next().await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            word = inbox.recv() => Step::Word(word),
            item = attempt => Step::Item(item),
            () = self.reply.left() => Step::Left,
            _ = beats.tick() => Step::Beat,
        }
    }

    async fn word(&mut self, word: Word) {
        match word {
            Word::Ack(ack) => self.reply.begin(&ack),
            Word::Dispatch(worker) => self.dispatch(worker),
            Word::Abort => self.leg = None,
            Word::Refuse(refuse) => self.refused(refuse).await,
        }
    }

    fn dispatch(&mut self, worker: WorkerId) {
        let Some(worker) = self.node.workers.get(usize::from(worker.0)) else { return };
        let start = Start {
            attempt: self.open.work.attempt,
            target: self.open.target,
            site: SiteId(0),
            model: worker.model.clone(),
            how: How::First,
            patience: Patience::NONE,
            only_choice: None,
            open: None,
            broken: None,
        };
        let question =
            Question { call: &self.call, start: &start, relayed: None, stream: true, tier: "" };
        let attempt = Attempt::open(&worker.site, &question);
        self.failure = None;
        let since = Instant::now();
        let held = worker.pace.as_ref().map(|pace| pace.through(since, self.open.cost));
        self.leg = Some(Leg { attempt, since, held, has_finish: false });
    }

    /// The machine lets go of it without an answer.
    async fn refused(&mut self, refuse: Refuse) {
        self.leg = None;
        self.is_over = true;
        match self.failure.take() {
            Some(failure) => self.reply.broken(&failure).await,
            // What the gateway has is a beginning: it goes on elsewhere.
            None if self.has_token => {
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
                self.first_token();
                self.usage = plain.usage;
                self.reply.whole(plain.json).await;
                self.ended();
                Ok(())
            }
            Item::Broken(fault) if fault.cut && self.has_finish() => self.end().await,
            Item::Broken(fault) => {
                self.broken(fault.failure).await;
                Ok(())
            }
            Item::End => self.end().await,
        }
    }

    /// Hands on a chunk and what came with it.
    async fn chunks(&mut self, first: Chunk) -> Result<(), Left> {
        let mut out: Vec<Bytes> = Vec::new();
        let mut next = Some(first);
        while let Some(chunk) = next.take() {
            let tokens: u32 = chunk.deltas.iter().map(|delta| delta.tokens()).sum();
            self.tokens += u64::from(tokens);
            if tokens > 0 {
                self.first_token();
            }
            self.usage = chunk.usage.or(self.usage);
            let Some(leg) = &mut self.leg else { break };
            leg.has_finish |= chunk.deltas.iter().any(|delta| delta.finish.is_some());
            out.push(chunk.json);
            match leg.attempt.ready() {
                Some(Item::Chunk(more)) => next = Some(more),
                Some(other) => {
                    self.reply.events(&out).await?;
                    return Box::pin(self.item(other)).await;
                }
                None => {}
            }
        }
        self.reply.events(&out).await
    }

    fn first_token(&mut self) {
        if std::mem::replace(&mut self.has_token, true) {
            return;
        }
        let Some(leg) = &self.leg else { return };
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
        self.reply.done().await;
        self.ended();
        Ok(())
    }

    /// The worker broke. Before the first token the machine may give it to another.
    async fn broken(&mut self, failure: Failure) {
        self.leg = None;
        let work = self.open.work;
        if matches!(failure.class, ErrorClass::ClientFault(_) | ErrorClass::Policy) {
            // Not the worker's fault: it is answered, with a no.
            self.reply.broken(&failure).await;
            self.is_over = true;
            self.node.controller.tell(Event::Ended { work, cost: CostUnits::ZERO });
            return;
        }
        self.failure = Some(failure);
        self.node.controller.tell(Event::Lost(work));
    }

    fn ended(&mut self) {
        self.leg = None;
        self.is_over = true;
        let usage = self.usage.unwrap_or_default();
        let cached = usage.cached.unwrap_or(0);
        let prompt = usage.prompt.max(u64::from(self.open.prompt)).saturating_sub(cached);
        let cost = self.node.price.of(prompt, usage.completion.max(self.tokens));
        let work = self.open.work;
        if let Some(cached) = usage.cached {
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
        self.leg.as_ref().is_some_and(|leg| leg.has_finish)
    }
}

/// A task that ends in any other way must not leave the machine waiting for it.
impl Drop for Relay {
    fn drop(&mut self) {
        self.leave();
        self.node.controller.forget(self.open.work);
    }
}
