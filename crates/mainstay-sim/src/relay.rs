//! Carries one request as the server's relay does, without sockets: feeds the watch and the
//! joints, keeps what was relayed, and tells the machine how each attempt ends.
//!
//! It is a second telling of the server's `stream.rs` and `answer.rs`, on purpose with the core's
//! own `Watch`, `Joint` and `Relayed`: those decide, and are what is tried here.

use crate::script::{Fault, Finish, Item, Piece, Script};
use mainstay_core::fact::{How, Why};
use mainstay_core::gateway::joint::{Fed, Joint, Relayed, Standing, standing};
use mainstay_core::gateway::request::{Ask, Broken, Report, Sent};
use mainstay_core::gateway::watch::Watch;
use mainstay_core::gateway::{Event, FLOWING, Start};
use mainstay_core::names::{AttemptId, ErrorClass, Failure, RequestId};
use mainstay_core::time::{Duration, Time};

/// The server waits so long for the provider's count of a finished answer's tokens.
const USAGE_WAIT: Duration = Duration::from_millis(800);

/// One choice of the answer.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What the client has.
    pub relayed: Relayed,
    /// Its finish reason, kept until the answer is settled.
    pub held: Option<Finish>,
    /// What the client should have in the end, by what the upstreams meant to say.
    pub truth: String,
}

/// The attempt under way.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The machine's order.
    pub start: Start,
    /// What will come.
    pub script: Script,
    watch: Watch,
    joints: Vec<Joint>,
    transparent: bool,
    before: u32,
    began: Time,
    flowed: bool,
    settled: Option<Time>,
}

/// One request under way.
#[derive(Clone, Debug)]
pub struct Relay {
    /// Its id.
    pub request: RequestId,
    /// What it asks.
    pub ask: Ask,
    /// The answer so far.
    pub choices: Vec<Choice>,
    /// The attempt under way.
    pub leg: Option<Leg>,
    /// When the first piece of the answer was relayed.
    pub first_content: Option<Time>,
    /// When the last one was.
    pub last_content: Option<Time>,
    /// The longest pause between two pieces of the answer.
    pub gap: Duration,
    counted: Option<u32>,
    timer: Option<Time>,
}

struct Mismatch;

impl Relay {
    /// A request that came now.
    pub fn new(request: RequestId, ask: Ask) -> Relay {
        let choices = vec![Choice::default(); ask.choices.max(1) as usize];
        Relay {
            request,
            ask,
            choices,
            leg: None,
            first_content: None,
            last_content: None,
            gap: Duration::ZERO,
            counted: None,
            timer: None,
        }
    }

    /// Text and tokens that the client has of the choice to be gone on with.
    pub fn relayed(&self, only_choice: Option<u32>) -> (&str, u32) {
        let index = only_choice.unwrap_or(0) as usize;
        self.choices.get(index).map_or(("", 0), |c| (&c.relayed.content, c.relayed.tokens))
    }

    /// Opens the attempt that the machine ordered.
    pub fn start(&mut self, now: Time, start: Start, script: Script) {
        self.forget_finish();
        let rung = match start.how {
            How::Resume(rung) => Some(rung),
            How::First | How::Retry => None,
        };
        let stands = self.standing();
        let joint = |choice: &Choice| Joint::new(&choice.relayed, rung, &[]);
        self.leg = Some(Leg {
            watch: Watch::new(now, start.patience),
            joints: self.choices.iter().map(joint).collect(),
            transparent: !stands.relayed,
            before: stands.tokens,
            began: now,
            flowed: false,
            settled: None,
            start,
            script,
        });
        self.set_timer();
    }

    /// The attempt under way.
    pub fn attempt(&self) -> Option<AttemptId> {
        self.leg.as_ref().map(|leg| leg.start.attempt)
    }

    /// When it wants to be woken.
    pub fn timer(&self) -> Option<Time> {
        self.leg.as_ref().and(self.timer)
    }

    /// Until when a finished answer waits for its usage.
    pub fn settles(&self) -> Option<Time> {
        self.leg.as_ref().and_then(|leg| leg.settled)
    }

    /// Something came from the attempt under way.
    pub fn item(&mut self, now: Time, item: Item, events: &mut Vec<Event>) {
        let Some(leg) = &mut self.leg else { return };
        match item {
            Item::Life => leg.watch.byte(),
            Item::Piece(piece) => self.piece(now, &piece, events),
            Item::Usage(tokens) => {
                self.counted = Some(tokens);
                self.settle(now, events);
            }
            Item::Broken(fault) if fault.cut && self.is_finished() => self.finish(now, events),
            Item::Broken(fault) => {
                let why = if fault.cut { Why::Cut } else { Why::Reply };
                self.broke(now, why, fault, events);
            }
            Item::End => self.finish(now, events),
        }
    }

    /// Its time has come.
    pub fn wake(&mut self, now: Time, events: &mut Vec<Event>) {
        let Some(leg) = &mut self.leg else { return };
        if leg.settled.is_some_and(|until| now >= until) {
            return self.finish(now, events);
        }
        if let Some(why) = leg.watch.check(now) {
            let failure = leg.watch.failure(why);
            self.give_up(now, why, failure, events);
        }
        self.set_timer();
    }

    /// What the attempt under way leaves behind.
    pub fn report(&self) -> Report {
        let standing = self.standing();
        match &self.leg {
            Some(leg) => Report {
                tokens: leg.watch.count(),
                standing,
                gaps: leg.watch.gaps().clone(),
                rate: leg.watch.rate(),
                counted: None,
            },
            None => Report { standing, ..Report::default() },
        }
    }

    /// The client gets what finish reasons there are: the answer is done.
    pub fn finish_reasons(&self) -> Vec<Option<Finish>> {
        self.choices.iter().map(|choice| choice.held).collect()
    }

    fn standing(&self) -> Standing {
        let all: Vec<Relayed> = self.choices.iter().map(|c| c.relayed.clone()).collect();
        let is_held = |index: &u32| self.choices[*index as usize].held.is_some();
        let mut stands = standing(&all);
        stands.open.retain(|index| !is_held(index));
        stands
    }

    fn piece(&mut self, now: Time, piece: &Piece, events: &mut Vec<Event>) {
        let tokens = u32::from(!piece.content.is_empty() || !piece.reasoning.is_empty());
        let had = self.texts();
        if self.take(piece, tokens).is_err() {
            let failure = Failure::ours(ErrorClass::Transient, "no match");
            return self.give_up(now, Why::Mismatch, failure, events);
        }
        self.note_content(now, had);
        let Some(leg) = &mut self.leg else { return };
        let attempt = leg.start.attempt;
        if tokens == 0 {
            leg.watch.byte();
        } else if let Some(after) = leg.watch.tokens(now, tokens) {
            leg.began = now;
            events.push(Event::FirstToken { attempt, after });
            self.set_timer();
        } else if !leg.flowed && now.since(leg.began) >= FLOWING {
            leg.flowed = true;
            events.push(Event::Flowing { attempt });
        }
        self.settle(now, events);
    }

    fn settle(&mut self, now: Time, events: &mut Vec<Event>) {
        if !self.is_finished() {
            return;
        }
        if self.counted.is_some() {
            return self.finish(now, events);
        }
        if let Some(leg) = &mut self.leg {
            leg.settled.get_or_insert(now + USAGE_WAIT);
        }
        self.set_timer();
    }

    fn texts(&self) -> usize {
        self.choices.iter().map(|choice| choice.relayed.content.len()).sum()
    }

    fn note_content(&mut self, now: Time, had: usize) {
        if self.texts() == had {
            return;
        }
        self.first_content.get_or_insert(now);
        if let Some(last) = self.last_content.replace(now) {
            self.gap = self.gap.max(now.since(last));
        }
    }

    fn take(&mut self, piece: &Piece, tokens: u32) -> Result<(), Mismatch> {
        let Some(leg) = &mut self.leg else { return Ok(()) };
        let index = leg.start.only_choice.unwrap_or(piece.choice) as usize;
        let (Some(choice), Some(joint)) = (self.choices.get_mut(index), leg.joints.get_mut(index))
        else {
            return Ok(());
        };
        if choice.held.is_some() || choice.relayed.finished {
            return Ok(());
        }
        if self.ask.max_tokens.is_some_and(|most| choice.relayed.tokens >= most && tokens > 0) {
            choice.held = Some(Finish::Length);
            return Ok(());
        }
        let mut new = String::new();
        if !piece.content.is_empty() {
            match joint.content(&piece.content) {
                Fed::Relay(text) | Fed::Stop(text) => new = text,
                Fed::Hold => {}
                Fed::Mismatch => return Err(Mismatch),
            }
        }
        if let Some(finish) = piece.finish {
            new.push_str(&joint.finish().ok_or(Mismatch)?);
            choice.held = Some(finish);
        }
        let shows_reasoning = leg.transparent && !piece.reasoning.is_empty();
        if !new.is_empty() || shows_reasoning {
            choice.relayed.content(&new);
            choice.relayed.reasoning |= shows_reasoning;
            choice.relayed.tokens += tokens;
        }
        Ok(())
    }

    fn is_finished(&self) -> bool {
        let Some(leg) = &self.leg else { return false };
        let done = |choice: &Choice| choice.held.is_some() || choice.relayed.finished;
        match leg.start.only_choice {
            Some(index) => self.choices.get(index as usize).is_some_and(done),
            None => self.choices.iter().all(done),
        }
    }

    fn finish(&mut self, now: Time, events: &mut Vec<Event>) {
        let Some(leg) = &self.leg else { return };
        let stopped = |c: &Choice| c.relayed.is_empty() && c.held == Some(Finish::Stop);
        if !self.is_finished() {
            let failure = Failure::ours(ErrorClass::Transient, "no finish reason");
            return self.give_up(now, Why::Cut, failure, events);
        }
        if self.choices.iter().all(stopped) {
            let failure = Failure::ours(ErrorClass::PoisonedStream, "the answer is empty");
            return self.give_up(now, Why::Empty, failure, events);
        }
        let (attempt, is_short) = (leg.start.attempt, self.is_short(leg.before));
        let report = self.report();
        self.leg = None;
        events.push(match is_short {
            true => Event::Short { attempt, report },
            false => Event::Whole { attempt, report },
        });
    }

    fn is_short(&self, before: u32) -> bool {
        let (Some(most), Some(counted)) = (self.ask.max_tokens, self.counted) else { return false };
        let [only] = &self.choices[..] else { return false };
        let is_length = only.held == Some(Finish::Length);
        is_length && only.relayed.tokens < most && counted + before < most
    }

    fn give_up(&mut self, now: Time, why: Why, failure: Failure, events: &mut Vec<Event>) {
        self.broke(now, why, Fault::reply(failure), events);
    }

    fn broke(&mut self, now: Time, why: Why, fault: Fault, events: &mut Vec<Event>) {
        let Some(leg) = &self.leg else { return };
        let (attempt, quiet) = (leg.start.attempt, leg.watch.quiet(now));
        self.forget_finish();
        let report = self.report();
        self.leg = None;
        let Fault { failure, sent, stale, cut: _ } = fault;
        let broken = Broken { failure, why, sent, stale, quiet, report };
        events.push(Event::Broken { attempt, broken });
    }

    /// The attempt failed to keep its promise: its finish reason is void. One choice of several
    /// that finished is whole all the same.
    fn forget_finish(&mut self) {
        if let [only] = &mut self.choices[..] {
            only.held = None;
        }
    }

    fn set_timer(&mut self) {
        let Some(leg) = &self.leg else { return };
        self.timer = match (leg.watch.deadline(), leg.settled) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
}

/// How much of a failed attempt had been sent, as the budget of retries counts it.
pub fn is_charged(broken: &Broken) -> bool {
    !broken.report.standing.relayed && broken.sent != Sent::Nothing
}
