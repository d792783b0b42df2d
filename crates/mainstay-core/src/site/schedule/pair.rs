//! Prompt and answer on two workers: one transaction of two legs, whole or not at all.
//!
//! Both ledgers are charged before anything is sent, or neither; whatever ends one leg ends the
//! other in the same step, so that no worker computes, keeps or awaits what nobody wants any more.
//! Other projects send two independent requests, and whoever is left of a broken pair waits for
//! many minutes (sgl-project/sglang#31206, vllm-project/aibrix#2289).
//!
//! The scheduler plans no pairs yet, and no process sends one: what engines want to be told for it
//! (`kv_transfer_params` of vLLM, `bootstrap_room` of SGLang) is not written. Here are the states,
//! the deadlines, and who is chosen.

use super::cost::Asked;
use super::worker::{Forecast, Leg, Order, Part, Reservation, Verdict, Worker};
use crate::cost::CostUnits;
use crate::fact::ScheduleFact;
use crate::names::{Work, WorkerId};
use crate::rng::mix;
use crate::site::schedule::profile::{duration, micros};
use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Workers by name, with their ledgers.
pub type Crew = BTreeMap<WorkerId, Worker>;

/// In which order an engine wants its halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The answer's half is sent when the prompt's half has replied, with what the reply said
    /// (vLLM). Until it is fetched, the prompt is kept and may be fetched by another.
    OneByOne,
    /// Both at once; they find each other (SGLang).
    Together,
}

/// What operators decide of pairs, with the defaults and their reasons.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// How the engine wants it.
    pub form: Form,
    /// A transfer that takes longer is broken: 100 times what 12,000 tokens of a 70B model take
    /// over RDMA (Mooncake), and still within what a reader waits.
    pub transfer_max: Duration,
    /// A prompt is overdue after so many times its forecast, and a constant.
    pub overdue: (f64, Duration),
    /// Bytes of KV for each token,
    pub token_bytes: f64,
    /// bytes that the link carries in a millisecond,
    pub link: f64,
    /// and what a transfer takes however small it is, in milliseconds.
    pub latency: f64,
    /// Weight of the delay given to running streams, as for whole legs.
    pub externality_weight: f64,
    /// Tokens of a block.
    pub block: u32,
}

impl Default for Terms {
    /// 87 GB/s over 4 × 200 Gb/s (Mooncake, FAST '25), for a 70B model in half precision.
    fn default() -> Terms {
        Terms {
            form: Form::OneByOne,
            transfer_max: Duration::from_secs(5),
            overdue: (3.0, Duration::from_secs(2)),
            token_bytes: 327_680.0,
            link: 87e6,
            latency: 1.0,
            externality_weight: 0.05,
            block: 512,
        }
    }
}

/// One worker that may have a half, and the tokens of the prompt that it is believed to hold.
pub type Candidate<'a> = (WorkerId, &'a Worker, u32);

/// Who is to have the halves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// Who computes the prompt,
    pub prefill: WorkerId,
    /// and has so many tokens of it.
    pub hit: u32,
    /// Who writes the answer.
    pub decode: WorkerId,
    /// Forecast of the prompt in milliseconds: its wait, and itself.
    pub queue: f64,
    /// See `queue`.
    pub compute: f64,
    /// Forecast of the first token,
    pub ttft: f64,
    /// and what is compared with a whole leg's cost.
    pub total: f64,
}

impl Choice {
    /// Whether two workers are better than the best single one, if there is one.
    pub fn is_worth(&self, whole: Option<f64>) -> bool {
        whole.is_none_or(|whole| self.total < whole)
    }
}

/// Who gets the halves: the prompt whoever has it computed first; the answer whoever writes it
/// fastest. Engines write a small batch as fast as an empty one, so that many are alike: of those
/// the one with the fewest answers, then the fewest blocks, then by `seed`, which differs from
/// attempt to attempt. So idle ones are found (ai-dynamo/dynamo#7836).
pub fn choose(
    now: Time,
    (asked, seed): (&Asked, u64),
    (prefill, decode): (&[Candidate<'_>], &[Candidate<'_>]),
    terms: &Terms,
) -> Option<Choice> {
    let blocks = (asked.prompt + asked.output).div_ceil(terms.block);
    let takes = |worker: &Worker, blocks: u32| is_usable(worker) && worker.fits(blocks);
    let turn = |id: WorkerId| mix(seed, u64::from(id.0));
    let prompt_blocks = asked.prompt.div_ceil(terms.block);
    let first = prefill.iter().filter(|(_, worker, _)| takes(worker, prompt_blocks));
    let first = first.map(|(id, worker, hit)| (*id, *worker, asked.on(worker, now, *hit, 0.0)));
    let first = first.min_by(|a, b| {
        let order = a.2.ttft.total_cmp(&b.2.ttft);
        order.then(a.1.undone_tokens().cmp(&b.1.undone_tokens())).then(turn(a.0).cmp(&turn(b.0)))
    })?;
    let (source, cost) = (first.0, first.2);
    // One worker has a leg of an attempt or none.
    let others = decode.iter().filter(|(id, worker, _)| *id != source && takes(worker, blocks));
    let rated = others.map(|(id, worker, hit)| {
        let tpot = asked.on(worker, now, *hit, 0.0).tpot;
        (*id, *worker, tpot, *hit)
    });
    let least = rated.min_by(|a, b| {
        let order = a.2.total_cmp(&b.2).then(a.1.in_flight().cmp(&b.1.in_flight()));
        order.then(a.1.blocks().cmp(&b.1.blocks())).then(turn(a.0).cmp(&turn(b.0)))
    });
    let (target, worker, step, held) = least?;
    let moved = f64::from(asked.prompt.saturating_sub(held)) * terms.token_bytes;
    let ttft = cost.ttft + moved / terms.link + terms.latency + step;
    Some(Choice {
        prefill: source,
        hit: cost.hit,
        decode: target,
        queue: cost.queue,
        compute: cost.prefill,
        ttft,
        total: ttft + terms.externality_weight * asked.crowds(worker),
    })
}

fn is_usable(worker: &Worker) -> bool {
    let is_well = matches!(worker.verdict, Verdict::Up | Verdict::Probation);
    is_well && worker.order == Order::Active && worker.in_flight() < worker.profile.sequences
}

/// One of the two legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The prompt's.
    Prefill,
    /// The answer's.
    Decode,
}

/// How far a pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Both have a place for it, and nothing was sent.
    Reserved,
    /// The prompt is computed.
    Prefill,
    /// It is computed, and the other worker fetches it.
    Transfer,
    /// The first token came: the answer's leg is one like any other now.
    Committed,
    /// It was taken back from both.
    Over,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            State::Reserved => "reserved",
            State::Prefill => "prefill",
            State::Transfer => "transfer",
            State::Committed => "committed",
            State::Over => "over",
        }
    }
}

/// What happens to a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The prompt's half replied.
    Prefilled,
    /// The answer's half gave its first token.
    FirstToken,
    /// A half is lost: refused, broken, or its worker is gone.
    Lost(Half),
    /// Nobody wants it any more.
    Cancelled,
    /// Time has passed.
    Tick,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It goes on, or is over already.
    Goes,
    /// The answer is being written.
    Committed,
    /// The prompt is kept, and somebody else must answer: see `Pair::redirect`.
    WantsDecode,
    /// Both legs are gone: the attempt waits again.
    Again,
    /// Both are gone, and so is who wanted it.
    Over,
}

/// What must be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Send a half.
    Send {
        /// Which.
        half: Half,
        /// Where.
        worker: WorkerId,
        /// The life of the worker that it was planned for.
        incarnation: u16,
    },
    /// Take a half back that was sent.
    Abort {
        /// Which.
        half: Half,
        /// From where.
        worker: WorkerId,
    },
    /// Tell of a decision.
    Fact(ScheduleFact),
}

/// A half at its worker.
#[derive(Clone, Copy, Debug)]
struct Side {
    worker: WorkerId,
    incarnation: u16,
    is_sent: bool,
}

/// Two legs of one attempt.
#[derive(Debug)]
pub struct Pair {
    work: Work,
    asked: Asked,
    terms: Terms,
    prefill: Side,
    decode: Side,
    state: State,
    /// The prompt's forecast in milliseconds.
    forecast: f64,
    /// When the wait under way is over.
    until: Time,
}

impl Pair {
    /// Takes a place at both workers, or at neither: `None` if one of them cannot have it.
    pub fn reserve(
        now: Time,
        (work, asked): (Work, Asked),
        choice: &Choice,
        terms: Terms,
        crew: &mut Crew,
    ) -> Option<Pair> {
        let side = |id: WorkerId| {
            let worker = crew.get(&id).filter(|worker| is_usable(worker))?;
            Some(Side { worker: id, incarnation: worker.incarnation, is_sent: false })
        };
        let (prefill, decode) = (side(choice.prefill)?, side(choice.decode)?);
        if prefill.worker == decode.worker {
            return None;
        }
        let mut pair = Pair {
            work,
            asked,
            terms,
            prefill,
            decode,
            state: State::Reserved,
            forecast: choice.queue + choice.compute,
            until: now + terms.transfer_max,
        };
        let (uncached, _) = asked.uncached(choice.hit);
        let reservation = Reservation {
            prefill: micros(choice.compute).max(1),
            tokens: u64::from(uncached),
            blocks: asked.prompt.div_ceil(terms.block),
            context: 0,
            ..Reservation::default()
        };
        let forecast = Forecast {
            ttft: pair.forecast,
            queue: choice.queue,
            matched: choice.hit,
            hit: choice.hit,
            slowness: 1.0,
        };
        pair.put(now, Half::Prefill, (reservation, forecast), crew);
        pair.put_decode(now, crew);
        Some(pair)
    }

    /// Sends what is to be sent first, if both workers are still well: with one half refused, the
    /// other would wait for it.
    pub fn send(&mut self, now: Time, crew: &mut Crew, acts: &mut Vec<Act>) -> Next {
        if self.state != State::Reserved {
            return Next::Goes;
        }
        if !self.are_sound(crew) {
            return self.abort(now, "a worker is not well", crew, acts);
        }
        self.state = State::Prefill;
        let (times, constant) = self.terms.overdue;
        self.until = now + duration(self.forecast * times) + constant;
        self.go(Half::Prefill, acts);
        if self.terms.form == Form::Together {
            self.go(Half::Decode, acts);
        }
        Next::Goes
    }

    /// Something happened to it.
    pub fn hear(&mut self, now: Time, step: Step, crew: &mut Crew, acts: &mut Vec<Act>) -> Next {
        match (self.state, step) {
            (State::Committed | State::Over, _) => Next::Goes,
            (_, Step::Cancelled) => {
                self.abort(now, "it is not wanted any more", crew, acts);
                Next::Over
            }
            (_, Step::Tick) if now < self.until => Next::Goes,
            (State::Reserved, Step::Tick) => self.abort(now, "it was not sent", crew, acts),
            (State::Prefill, Step::Tick) => self.abort(now, "its prompt is overdue", crew, acts),
            (State::Transfer, Step::Tick) => {
                self.abort(now, "its prompt was not fetched", crew, acts)
            }
            (_, Step::Lost(Half::Prefill)) => {
                self.prefill.is_sent = false;
                self.abort(now, "its prompt's worker lost it", crew, acts)
            }
            (State::Prefill | State::Transfer, Step::Lost(Half::Decode))
                if self.terms.form == Form::OneByOne =>
            {
                self.take(now, Half::Decode, crew);
                self.decode.is_sent = false;
                Next::WantsDecode
            }
            (_, Step::Lost(Half::Decode)) => {
                self.decode.is_sent = false;
                self.abort(now, "its answer's worker lost it", crew, acts)
            }
            (State::Prefill, Step::Prefilled) => self.prefilled(now, crew, acts),
            (State::Transfer, Step::FirstToken) => self.commit(now, crew, acts),
            // The halves' replies pass each other.
            (State::Prefill, Step::FirstToken) if self.decode.is_sent => {
                self.commit(now, crew, acts)
            }
            (State::Reserved | State::Transfer, Step::Prefilled)
            | (State::Reserved | State::Prefill, Step::FirstToken) => Next::Goes,
        }
    }

    /// Another worker answers, while the first keeps the prompt; or nobody does, and the prompt's
    /// worker is to forget it.
    pub fn redirect(
        &mut self,
        now: Time,
        to: Option<WorkerId>,
        crew: &mut Crew,
        acts: &mut Vec<Act>,
    ) -> Next {
        if !matches!(self.state, State::Prefill | State::Transfer) {
            return Next::Goes;
        }
        let blocks = (self.asked.prompt + self.asked.output).div_ceil(self.terms.block);
        let found = to.filter(|id| *id != self.prefill.worker).and_then(|id| {
            let worker = crew.get(&id)?;
            let incarnation = worker.incarnation;
            let may = is_usable(worker) && worker.fits(blocks);
            may.then_some(Side { worker: id, incarnation, is_sent: false })
        });
        let Some(side) = found else {
            return self.abort(now, "nobody else can answer", crew, acts);
        };
        self.decode = side;
        self.put_decode(now, crew);
        if self.state == State::Transfer {
            self.until = now + self.terms.transfer_max;
            self.go(Half::Decode, acts);
        }
        Next::Goes
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Where its halves are.
    pub fn workers(&self) -> (WorkerId, WorkerId) {
        (self.prefill.worker, self.decode.worker)
    }

    /// When it must be looked at again; none when its fate is known.
    pub fn deadline(&self) -> Option<Time> {
        match self.state {
            State::Reserved | State::Prefill | State::Transfer => Some(self.until),
            State::Committed | State::Over => None,
        }
    }

    fn prefilled(&mut self, now: Time, crew: &mut Crew, acts: &mut Vec<Act>) -> Next {
        if let Some(worker) = crew.get_mut(&self.prefill.worker) {
            worker.first_token(now, self.work);
        }
        self.state = State::Transfer;
        self.until = now + self.terms.transfer_max;
        if self.decode.is_sent {
            return Next::Goes;
        }
        if !self.is_sound(self.prefill, crew) {
            return self.abort(now, "its prompt's worker is not well", crew, acts);
        }
        if !self.is_sound(self.decode, crew) {
            self.take(now, Half::Decode, crew);
            return Next::WantsDecode;
        }
        self.go(Half::Decode, acts);
        Next::Goes
    }

    /// The first token came. What a worker computed that is not believed to be well, in another
    /// life or not at all, is not relayed.
    fn commit(&mut self, now: Time, crew: &mut Crew, acts: &mut Vec<Act>) -> Next {
        if !self.are_sound(crew) {
            return self.abort(now, "a worker is not well", crew, acts);
        }
        self.state = State::Committed;
        self.take(now, Half::Prefill, crew);
        if let Some(worker) = crew.get_mut(&self.decode.worker) {
            worker.first_token(now, self.work);
        }
        Next::Committed
    }

    /// Takes it back from both, whatever each of them has.
    fn abort(
        &mut self,
        now: Time,
        why: &'static str,
        crew: &mut Crew,
        acts: &mut Vec<Act>,
    ) -> Next {
        for half in [Half::Prefill, Half::Decode] {
            self.take(now, half, crew);
            let side = self.side(half);
            if core::mem::take(&mut side.is_sent) {
                acts.push(Act::Abort { half, worker: side.worker });
            }
        }
        let (prefill, decode) = self.workers();
        let (work, at) = (self.work, self.state.word());
        acts.push(Act::Fact(ScheduleFact::PairAborted { work, prefill, decode, at, why }));
        self.state = State::Over;
        Next::Again
    }

    fn go(&mut self, half: Half, acts: &mut Vec<Act>) {
        let side = self.side(half);
        side.is_sent = true;
        let Side { worker, incarnation, .. } = *side;
        acts.push(Act::Send { half, worker, incarnation });
    }

    fn side(&mut self, half: Half) -> &mut Side {
        match half {
            Half::Prefill => &mut self.prefill,
            Half::Decode => &mut self.decode,
        }
    }

    fn put_decode(&mut self, now: Time, crew: &mut Crew) {
        let reservation = Reservation {
            blocks: (self.asked.prompt + self.asked.output).div_ceil(self.terms.block),
            context: u64::from(self.asked.prompt + self.asked.output / 2),
            ..Reservation::default()
        };
        self.put(now, Half::Decode, (reservation, Forecast::default()), crew);
    }

    fn put(
        &mut self,
        now: Time,
        half: Half,
        (reservation, forecast): (Reservation, Forecast),
        crew: &mut Crew,
    ) {
        let part = match half {
            Half::Prefill => Part::Prefill,
            Half::Decode => Part::Decode,
        };
        let (work, Side { worker, incarnation, .. }) = (self.work, *self.side(half));
        let leg = Leg {
            part,
            incarnation,
            reservation,
            started: now,
            forecast,
            // The pair keeps its deadlines itself.
            overdue: self.until,
            has_first_token: false,
            seen: None,
            ahead: CostUnits::ZERO,
            is_sooner: false,
        };
        if let Some(worker) = crew.get_mut(&worker) {
            worker.add(now, work, leg);
        }
    }

    /// Gives back what it has of a worker, if that is still the worker it was planned for.
    fn take(&mut self, now: Time, half: Half, crew: &mut Crew) {
        let (work, Side { worker, incarnation, .. }) = (self.work, *self.side(half));
        let worker = crew.get_mut(&worker).filter(|worker| worker.incarnation == incarnation);
        if let Some(worker) = worker {
            worker.take(now, work);
        }
    }

    fn are_sound(&self, crew: &Crew) -> bool {
        self.is_sound(self.prefill, crew) && self.is_sound(self.decode, crew)
    }

    fn is_sound(&self, side: Side, crew: &Crew) -> bool {
        crew.get(&side.worker).is_some_and(|worker| {
            let is_well = matches!(worker.verdict, Verdict::Up | Verdict::Probation);
            is_well && worker.incarnation == side.incarnation
        })
    }
}
