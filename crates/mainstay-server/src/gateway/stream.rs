//! Carries one request: opens the attempts that the machine orders, relays what they say, and
//! tells the machine how they end.
//!
//! One task per request. Tokens go from the attempt through the answer to the client; the machine
//! hears only of the first token, of steady flow and of ends.

pub mod client;

use super::limiter::Reservation;
use super::meter::{self, Ended, Meter};
use crate::answer::{Answer, Leg};
use crate::attempt::roster;
use crate::attempt::{Attempt, Fault, Item, Question, Site};
use crate::dialect::event::{Chunk, Endpoint, Finish, Usage};
use crate::dialect::plain::Plain;
use crate::dialect::request::{Call, Relayed};
use crate::drive::{Command, Drive};
use crate::error;
use crate::places::Places;
use crate::telemetry::Direction;
use bytes::Bytes;
use client::{Client, Marks, Slowness, Stop};
use mainstay_core::fact::{Outcome, Why};
use mainstay_core::gateway::request::{Ask, Broken, Report, Sent};
use mainstay_core::gateway::watch::Watch;
use mainstay_core::gateway::{Close, Event, FLOWING, Start};
use mainstay_core::money::Tokens;
use mainstay_core::names::{ErrorClass, Failure, RequestId, Scope};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a finished answer waits for the provider's count of its tokens (F35, F37).
const USAGE_WAIT: Duration = Duration::from_millis(800);
/// How long a client waits without a word before it gets headers and comments (C11).
const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// The first time it is a little longer, because the usual limit for a first token is the same ten
/// seconds, and a refusal then should still have a status of its own.
const FIRST_COMMENT: Duration = Duration::from_millis(10_500);

/// One request.
pub struct Relay {
    drive: Arc<Drive>,
    /// Which door's connections it uses.
    door: usize,
    request: RequestId,
    call: Arc<Call>,
    answer: Answer,
    client: Client,
    meter: Meter,
    /// Whose request it is.
    tenant: u32,
    marks: Marks,
    leg: Option<Running>,
    /// A reply that can go to the client as it came.
    verbatim: Option<Bytes>,
    timer: std::pin::Pin<Box<Sleep>>,
    comment_at: Instant,
    /// Whether the machine has let go of the request.
    over: bool,
    /// What it took of its caller's limits.
    reservation: Option<Reservation>,
}

/// The attempt under way.
struct Running {
    attempt: Attempt,
    /// What the positions in `start` lead to.
    places: Arc<Places>,
    start: Start,
    watch: Watch,
    leg: Leg,
    began: Instant,
    flowed: bool,
    /// Everything but usage has come; not waited for beyond this.
    settled: Option<Instant>,
}

enum Step {
    Command(Option<Command>),
    Left,
    Item(Item),
    Timer,
}

impl Relay {
    /// The relay of `call` for `client`.
    pub fn new(
        (drive, door): (Arc<Drive>, usize),
        (request, name): (RequestId, String),
        call: Arc<Call>,
        (client, meter): (Client, Meter),
    ) -> Relay {
        let id = format!("chatcmpl-{}", name.trim_start_matches("req-"));
        let far = Instant::now() + FIRST_COMMENT;
        Relay {
            answer: Answer::new(&call, id),
            drive,
            door,
            request,
            call,
            client,
            meter,
            tenant: 0,
            marks: Marks::default(),
            leg: None,
            verbatim: None,
            timer: Box::pin(sleep_until(far)),
            comment_at: far,
            over: false,
            reservation: None,
        }
    }

    /// The same, which settles what it took of its caller's limits.
    pub fn holding(mut self, reservation: Option<Reservation>) -> Relay {
        self.reservation = reservation;
        self
    }

    /// Carries the request to its end; the positions in `ask` are those of `places`.
    pub async fn run(mut self, ask: Ask, places: Arc<Places>) {
        self.tenant = ask.tenant;
        let call = self.call.clone();
        let Some(mut inbox) = self.drive.arrive(self.request, (ask, &call.model), &places) else {
            self.over = true;
            let what = format!("The model '{}' was taken away just now.", call.model);
            let refusal = error::of_caller(404, "model_not_found", what);
            return self.client.refuse(&refusal, &self.marks).await;
        };
        drop(places);
        loop {
            let step = self.wait(&mut inbox).await;
            let is_over = match step {
                Step::Command(Some(Command::Start(start, places))) => {
                    self.start(*start, places);
                    false
                }
                Step::Command(Some(Command::GiveUp(attempt))) => {
                    if self.leg.as_ref().is_some_and(|leg| leg.start.attempt == attempt) {
                        let what = "its site is to do nothing more for us";
                        self.give_up(Why::Reply, Failure::ours(ErrorClass::Overload, what));
                    }
                    false
                }
                Step::Command(Some(Command::Close(close))) => {
                    self.close(close).await;
                    true
                }
                // The machine lets go of a request only by closing it.
                Step::Command(None) => true,
                Step::Left => {
                    self.leave();
                    true
                }
                Step::Item(item) => self.item(item).await.is_err() && self.leave(),
                Step::Timer => self.timer().await.is_err() && self.leave(),
            };
            if is_over {
                self.over = true;
                return;
            }
        }
    }

    async fn wait(&mut self, inbox: &mut mpsc::Receiver<Command>) -> Step {
        let attempt = async {
            match &mut self.leg {
                Some(running) => running.attempt.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = inbox.recv() => Step::Command(command),
            item = attempt => Step::Item(item),
            () = self.client.left() => Step::Left,
            () = self.timer.as_mut() => Step::Timer,
        }
    }

    fn start(&mut self, start: Start, places: Arc<Places>) {
        let clock = self.drive.clock();
        let names = &places.names;
        let Some(site) = places.site(self.door, start.site) else {
            let failure = Failure::ours(ErrorClass::Transient, "its site is not there any more");
            let report = Report { standing: self.answer.standing(), ..Report::default() };
            let (sent, quiet) = (Sent::Nothing, Duration::ZERO);
            let broken = Broken { failure, why: Why::Reply, sent, stale: false, quiet, report };
            return self.drive.tell(Event::Broken { attempt: start.attempt, broken });
        };
        self.answer.forget_finish();
        self.verbatim = None;
        self.marks.attempts = start.attempt.number;
        names.site(start.site).clone_into(&mut self.marks.site);
        let is_engine = matches!(site, Site::Engine(_));
        self.marks.degraded = is_engine && start.model != self.call.model;
        let (text, tokens) = self.answer.relayed(start.only_choice);
        let relayed = (!text.is_empty()).then_some(Relayed { text, tokens });
        let stream = self.client.is_stream();
        let tier = start.open.map_or("", |open| names.tier(open.tier));
        let tenant = self.tenant;
        let question = Question { call: &self.call, start: &start, relayed, stream, tier, tenant };
        let attempt = Attempt::open(site, &question);
        self.meter.begin(&start, names.site(start.site));
        let watch = Watch::new(clock.now(), start.patience);
        let leg = self.answer.leg(start.how, start.only_choice);
        let began = Instant::now();
        let settled = None;
        let flowed = false;
        self.leg = Some(Running { attempt, places, start, watch, leg, began, flowed, settled });
        self.set_timer();
    }

    /// The client left: `true`, so that the caller stops.
    fn leave(&mut self) -> bool {
        let report = self.report();
        self.meter_end("left", true);
        self.meter.settle(Outcome::Gone, self.given());
        self.leg = None;
        self.drive.tell(Event::Gone { request: self.request, report });
        true
    }

    /// Takes what the attempt said, and whatever more of it is at hand.
    async fn item(&mut self, item: Item) -> Result<(), Left> {
        let mut next = Some(item);
        while let Some(item) = next.take() {
            next = self.one(item).await?;
        }
        Ok(())
    }

    async fn one(&mut self, item: Item) -> Result<Option<Item>, Left> {
        let now = self.drive.clock().now();
        let Some(running) = &mut self.leg else { return Ok(None) };
        match item {
            Item::Life => running.watch.byte(),
            Item::Beat => running.watch.beat(now),
            Item::Ack(ack) => {
                running.watch.beat(now);
                self.drive.tell(Event::Ack(ack));
            }
            Item::Refused(refuse) => {
                self.meter_end("refused", false);
                self.leg = None;
                self.drive.tell(Event::Refused(refuse));
            }
            Item::Chunk(chunk) => return self.chunks(chunk).await,
            Item::Whole(plain) => return self.whole(plain).await.map(|()| None),
            Item::Broken(fault) if fault.cut && self.is_finished() => self.finish(),
            Item::Broken(fault) => self.broke(fault),
            Item::End => self.finish(),
        }
        Ok(None)
    }

    /// Takes a chunk and all that came with it, and hands them over together.
    async fn chunks(&mut self, first: Chunk) -> Result<Option<Item>, Left> {
        let mut next = Some(Item::Chunk(first));
        let mut out = Vec::new();
        let mut tokens = 0;
        let mut is_misfit = false;
        while let Some(Item::Chunk(chunk)) = next {
            let Some(running) = &mut self.leg else { return Ok(None) };
            let mut taken = self.answer.take(&mut running.leg, &chunk);
            out.append(&mut taken.out);
            is_misfit = taken.mismatch;
            if is_misfit {
                next = None;
                break;
            }
            tokens += taken.tokens;
            let is_over = self.is_finished() && self.answer.has_usage();
            let more = self.leg.as_mut().filter(|_| !is_over);
            next = more.and_then(|running| running.attempt.ready());
        }
        self.progress(tokens);
        if !out.is_empty() {
            self.client.begin(&self.marks);
            let slow = self.client.chunks(out).await;
            self.handed_over(slow)?;
        }
        if is_misfit {
            self.give_up(Why::Mismatch, Failure::ours(ErrorClass::Transient, "no match"));
        } else if self.is_finished() {
            if self.answer.has_usage() {
                self.finish();
                return Ok(None);
            }
            if let Some(running) = &mut self.leg {
                running.settled.get_or_insert(Instant::now() + USAGE_WAIT);
            }
            self.set_timer();
        }
        Ok(next)
    }

    /// So many output tokens came.
    fn progress(&mut self, tokens: u32) {
        let drive = &self.drive;
        let now = drive.clock().now();
        if let Some(reservation) = &mut self.reservation {
            reservation.flow(u64::from(tokens));
        }
        let Some(running) = &mut self.leg else { return };
        let attempt = running.start.attempt;
        if tokens == 0 {
            running.watch.byte();
        } else if let Some(after) = running.watch.tokens(now, tokens) {
            drive.tell(Event::FirstToken { attempt, after });
            running.began = Instant::now();
            self.set_timer();
        } else if !running.flowed && running.began.elapsed() >= FLOWING {
            running.flowed = true;
            drive.tell(Event::Flowing { attempt });
        }
    }

    /// A plain reply came whole.
    async fn whole(&mut self, plain: Plain) -> Result<(), Left> {
        if self.call.endpoint == Endpoint::Embeddings {
            self.answer.count_embeddings(plain.usage);
            self.verbatim = Some(plain.json);
            self.tell_whole(End::Whole);
            return Ok(());
        }
        let is_length = plain.finishes().any(|finish| finish == Finish::Length);
        let is_fresh = !self.client.is_stream() && !self.answer.standing().relayed;
        // One that may be gone on with, or lacks a count, is put together by us.
        if is_fresh && plain.usage.is_some() && !is_length {
            let tokens = self.answer.take_whole(&plain);
            self.verbatim = Some(plain.json);
            self.progress(tokens);
            self.finish();
            return Ok(());
        }
        let Some(running) = &mut self.leg else { return Ok(()) };
        let taken = self.answer.take(&mut running.leg, &plain.into_chunk());
        if taken.mismatch {
            self.give_up(Why::Mismatch, Failure::ours(ErrorClass::Transient, "no match"));
            return Ok(());
        }
        self.answer.count_at_once();
        self.progress(taken.tokens);
        if !taken.out.is_empty() {
            self.client.begin(&self.marks);
            let slow = self.client.chunks(taken.out).await;
            self.handed_over(slow)?;
        }
        self.finish();
        Ok(())
    }

    /// The attempt has no more to say.
    fn finish(&mut self) {
        let Some(running) = &self.leg else { return };
        if !self.answer.is_finished(&running.leg) {
            let what = "the stream ended without a finish reason";
            self.give_up(Why::Cut, Failure::ours(ErrorClass::Transient, what));
        } else if self.answer.is_empty() {
            let what = "the answer is empty";
            self.give_up(Why::Empty, Failure::ours(ErrorClass::PoisonedStream, what));
        } else if self.answer.is_short(&running.leg) {
            self.tell_whole(End::Short);
        } else {
            self.tell_whole(End::Whole);
        }
    }

    /// The attempt is over and good; what becomes of the request is the machine's to say.
    fn tell_whole(&mut self, end: End) {
        let report = self.report();
        self.meter_end("whole", true);
        let Some(running) = self.leg.take() else { return };
        let attempt = running.start.attempt;
        // A stream that did not end while its usage was waited for gets no more time to do so.
        if running.settled.is_none_or(|until| Instant::now() < until) {
            running.attempt.finish();
        }
        self.drive.tell(match end {
            End::Whole => Event::Whole { attempt, report },
            End::Short => Event::Short { attempt, report },
        });
    }

    fn broke(&mut self, fault: Fault) {
        let why = if fault.cut { Why::Cut } else { Why::Reply };
        if let Some(running) = &self.leg {
            let (start, places) = (&running.start, &running.places);
            let name = places.names.site(start.site);
            if let Some(alarm) = &fault.alarm {
                self.drive.telemetry().alarm(name, alarm);
            }
            if fault.failure.class == ErrorClass::Dead(Scope::Model)
                && let Some(Site::Provider(account)) = places.site(self.door, start.site)
            {
                roster::suggest((name, account), &self.drive, start);
            }
        }
        self.tell_broken(why, fault.failure, (fault.sent, fault.stale));
    }

    fn give_up(&mut self, why: Why, failure: Failure) {
        self.tell_broken(why, failure, (Sent::Maybe, false));
    }

    fn tell_broken(&mut self, why: Why, failure: Failure, (sent, stale): (Sent, bool)) {
        let now = self.drive.clock().now();
        let quiet = self.leg.as_ref().map_or(Duration::ZERO, |r| r.watch.quiet(now));
        self.answer.forget_finish();
        let report = self.report();
        // A reply that is an error, and a request that never went out, cost nothing.
        let is_reply = failure.status.is_some_and(|status| status >= 300);
        self.meter_end(failure.class.word(), !is_reply && sent != Sent::Nothing);
        let Some(running) = self.leg.take() else { return };
        let attempt = running.start.attempt;
        drop(running);
        let broken = Broken { failure, why, sent, stale, quiet, report };
        self.drive.tell(Event::Broken { attempt, broken });
    }

    async fn timer(&mut self) -> Result<(), Left> {
        let now = self.drive.clock().now();
        let instant = Instant::now();
        if let Some(running) = &mut self.leg {
            if running.settled.is_some_and(|until| instant >= until) {
                self.finish();
                return Ok(());
            }
            if let Some(why) = running.watch.check(now) {
                let failure = running.watch.failure(why);
                self.give_up(why, failure);
                self.set_timer();
                return Ok(());
            }
        }
        if instant >= self.comment_at {
            self.comment_at = instant + COMMENT_EVERY;
            self.client.begin(&self.marks);
            let slow = self.client.comment().await;
            self.handed_over(slow)?;
        }
        self.set_timer();
        Ok(())
    }

    fn set_timer(&mut self) {
        let clock = self.drive.clock();
        let mut next = self.comment_at;
        if let Some(running) = &self.leg {
            if let Some(at) = running.watch.deadline() {
                next = next.min(clock.instant(at));
            }
            if let Some(at) = running.settled {
                next = next.min(at);
            }
        }
        self.timer.as_mut().reset(next);
    }

    fn handed_over(&mut self, handed: Result<Slowness, Stop>) -> Result<(), Left> {
        match handed {
            Ok(None) => {
                self.comment_at = Instant::now() + COMMENT_EVERY;
                Ok(())
            }
            Ok(Some(took)) => {
                if let Some(running) = &mut self.leg {
                    let now = self.drive.clock().now();
                    running.watch.client_blocks(now - took);
                    running.watch.client_takes(now);
                }
                Ok(())
            }
            Err(Stop::Left) => Err(Left),
            Err(Stop::TooBig(failure)) => {
                self.give_up(Why::Reply, failure);
                Ok(())
            }
        }
    }

    async fn close(&mut self, close: Close) {
        self.meter_end("left", true);
        self.leg = None;
        // Before its last byte: who has a whole answer has a row, whatever ends this process.
        self.meter.settle(meter::outcome(&close), self.given());
        match close {
            Close::Done if self.verbatim.is_some() => self.end(Vec::new()).await,
            Close::Done => {
                let endings = self.answer.settle();
                self.end(endings).await;
            }
            Close::Filtered => {
                let endings = self.answer.filtered();
                self.end(endings).await;
            }
            Close::Error(refusal) => {
                self.reservation.iter_mut().for_each(Reservation::excuse);
                // Whoever has read that may ask again at once.
                self.reservation = None;
                self.client.refuse(&refusal, &self.marks).await;
            }
            Close::Gone => {}
        }
    }

    async fn end(&mut self, mut endings: Vec<Bytes>) {
        if self.call.endpoint != Endpoint::Embeddings && self.verbatim.is_none() {
            if self.call.include_usage || !self.client.is_stream() {
                endings.push(self.answer.usage_chunk(self.call.prompt_tokens));
            }
            self.client.begin(&self.marks);
            if self.client.chunks(endings).await.is_err() {
                return;
            }
        }
        let usage = self.answer.usage(self.call.prompt_tokens);
        let telemetry = self.drive.telemetry();
        telemetry.tokens(Direction::Input, usage.prompt);
        telemetry.tokens(Direction::Output, usage.completion);
        if let Some(reservation) = &mut self.reservation {
            reservation.count(usage.prompt, usage.completion);
        }
        // As above.
        self.reservation = None;
        let name = (self.answer.id(), self.answer.model());
        self.client.done(self.verbatim.take(), name, &self.marks).await;
    }

    /// Tokens that the client has been given, or is about to be.
    fn given(&self) -> Tokens {
        tokens(self.answer.usage(self.call.prompt_tokens))
    }

    /// The attempt under way, if there is one, ends for the ledger. One that may have been worked
    /// at cost its prompt at least.
    fn meter_end(&mut self, outcome: &str, may_cost: bool) {
        let Some(running) = &self.leg else { return };
        let written = u64::from(running.watch.count());
        let counted = self.answer.usage_here();
        let own = Tokens { prompt: self.call.prompt_tokens, cached: 0, output: written };
        let none = Tokens::default();
        let is_free = !may_cost && written == 0;
        let tokens = counted.map_or(if is_free { none } else { own }, tokens);
        self.meter.end(&Ended { outcome, tokens, estimated: counted.is_none() && !is_free });
    }

    fn is_finished(&self) -> bool {
        self.leg.as_ref().is_some_and(|running| self.answer.is_finished(&running.leg))
    }

    fn report(&self) -> Report {
        let standing = self.answer.standing();
        match &self.leg {
            Some(running) => Report {
                tokens: running.watch.count(),
                standing,
                gaps: running.watch.gaps().clone(),
                rate: running.watch.rate(),
                counted: self.answer.counted_here(),
            },
            None => Report { standing, ..Report::default() },
        }
    }
}

/// Usage as the ledger has it.
fn tokens(usage: Usage) -> Tokens {
    Tokens { prompt: usage.prompt, cached: usage.cached.unwrap_or(0), output: usage.completion }
}

/// A task that ends in any other way, by a panic or at shutdown, must not leave the machine waiting
/// for it.
impl Drop for Relay {
    fn drop(&mut self) {
        if !self.over {
            self.leave();
        }
    }
}

/// How a good attempt ended.
enum End {
    /// With everything the client wanted.
    Whole,
    /// At a token limit that was not the client's.
    Short,
}

/// The client left.
struct Left;
