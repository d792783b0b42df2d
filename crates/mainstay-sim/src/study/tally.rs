//! What became of each request, and what it comes to.

use crate::service::Profile;
use crate::workload::Chained;
use mainstay_core::names::TierId;
use mainstay_core::site::schedule::settings::TierSettings;
use mainstay_core::time::{Duration, Time};
use serde::Serialize;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Whole.
    Done {
        /// When.
        at: Time,
    },
    /// Not taken.
    Refused,
    /// Given back.
    HandedBack,
}

/// One request.
#[derive(Clone, Copy, Debug)]
struct Told {
    tier: TierId,
    prompt: u32,
    output: u32,
    /// Its prefill on an idle worker with an empty cache.
    unloaded: Duration,
    /// What its first token may take, and the time between its tokens, as its tier has it.
    promise: (Duration, Duration),
    arrived: Time,
    sent: Option<Time>,
    /// Milliseconds to the first token as they were foreseen then: likely, and at most.
    foreseen: Option<(f64, f64)>,
    /// When the scheduler heard of it.
    heard: Option<Time>,
    first: Option<(Time, u32)>,
    fate: Option<Fate>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Tally {
    all: Vec<Told>,
    tiers: Vec<TierSettings>,
    /// Requests that can be good no more, and their tokens.
    bad: (usize, f64),
    /// Of all.
    tokens: f64,
    /// Legs that gave way to a higher tier.
    pub(super) preempted: usize,
}

/// What goodput is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Requests.
    Requests,
    /// Their tokens, of prompts and answers.
    Tokens,
}

/// What it comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Part of the requests that was good,
    pub good: f64,
    /// and of their tokens.
    pub good_tokens: f64,
    /// Parts that were refused, whose first token was late, whose tokens were slow.
    pub refused: f64,
    /// See `refused`.
    pub late: f64,
    /// See `refused`.
    pub slow: f64,
    /// Part of the prompts' tokens that was cached.
    pub hits: f64,
    /// Seconds to the first token: mean, median, 95th and 99th percentiles.
    pub ttft_mean: f64,
    /// See `ttft_mean`.
    pub ttft_p50: f64,
    /// See `ttft_mean`.
    pub ttft_p95: f64,
    /// See `ttft_mean`.
    pub ttft_p99: f64,
    /// Milliseconds between tokens, in the mean.
    pub tpot_mean: f64,
    /// Tokens computed for prompts, a second of the whole run.
    pub prefill_rate: f64,
    /// Tokens of the prompts that were refused, in the mean; of those that were not.
    pub refused_prompt: f64,
    /// See `refused_prompt`.
    pub taken_prompt: f64,
    /// Part that was good, by tier.
    pub by_tier: Vec<f64>,
    /// Legs that gave way to a higher tier.
    pub preempted: usize,
}

impl Tally {
    /// Nothing has happened yet.
    pub fn new(trace: &[Chained], tiers: &[TierSettings], truth: &Profile) -> Tally {
        let told = |one: &Chained| Told {
            tier: TierId(0),
            prompt: one.prompt,
            output: one.output,
            unloaded: unloaded(truth, one.prompt),
            promise: (Duration::ZERO, Duration::ZERO),
            arrived: Time::ZERO,
            sent: None,
            foreseen: None,
            heard: None,
            first: None,
            fate: None,
        };
        let all: Vec<Told> = trace.iter().map(told).collect();
        let tokens = all.iter().map(Told::tokens).sum();
        Tally { all, tiers: tiers.to_vec(), bad: (0, 0.0), tokens, preempted: 0 }
    }

    /// Part of all that can be good no more.
    pub fn bad(&self, weight: Weight) -> f64 {
        match weight {
            Weight::Requests => self.bad.0 as f64 / self.all.len().max(1) as f64,
            Weight::Tokens => self.bad.1 / self.tokens.max(1.0),
        }
    }

    pub(super) fn arrived(&mut self, at: usize, now: Time, tier: TierId) {
        let one = &mut self.all[at];
        let promised = &self.tiers[usize::from(tier.0)];
        let first = promised.ttft_base + one.unloaded.mul_f64(promised.ttft_factor);
        (one.arrived, one.tier, one.promise) = (now, tier, (first, promised.tpot));
    }

    pub(super) fn sent(&mut self, at: usize, now: Time, foreseen: Option<(f64, f64)>) {
        (self.all[at].sent, self.all[at].foreseen) = (Some(now), foreseen);
    }

    pub(super) fn heard(&mut self, at: usize, now: Time) {
        self.all[at].heard = Some(now);
    }

    /// How good forecasts were of first tokens sent for from then on: the median of what they were
    /// off by, as a part, and the part that came within what nine of ten should.
    pub fn forecasts(&self, from: Time) -> (f64, f64) {
        let told = |one: &Told| {
            let sent = one.sent.filter(|sent| *sent >= from)?;
            let (likely, most) = one.foreseen?;
            let took = one.heard?.since(sent).as_secs_f64() * 1000.0;
            Some(((likely / took - 1.0).abs(), took <= most))
        };
        let (mut off, within): (Vec<f64>, Vec<bool>) = self.all.iter().filter_map(told).unzip();
        off.sort_by(f64::total_cmp);
        let covered = within.iter().filter(|is| **is).count() as f64 / within.len().max(1) as f64;
        (off.get(off.len() / 2).copied().unwrap_or(f64::NAN), covered)
    }

    pub(super) fn first_token(&mut self, at: usize, now: Time, cached: u32) {
        let one = &mut self.all[at];
        if one.first.is_none() {
            one.first = Some((now, cached));
            if one.is_late() {
                let tokens = one.tokens();
                self.spoilt(tokens);
            }
        }
    }

    pub(super) fn ended(&mut self, at: usize, fate: Fate) {
        let one = &mut self.all[at];
        one.fate = Some(fate);
        if !one.is_good() && !one.is_late() {
            let tokens = one.tokens();
            self.spoilt(tokens);
        }
    }

    fn spoilt(&mut self, tokens: f64) {
        self.bad.0 += 1;
        self.bad.1 += tokens;
    }

    /// What it comes to.
    pub fn summary(&self) -> Summary {
        let count = |is: fn(&Told) -> bool| {
            self.all.iter().filter(|one| is(one)).count() as f64 / self.all.len().max(1) as f64
        };
        let good_tokens =
            self.all.iter().filter(|one| one.is_good()).map(Told::tokens).sum::<f64>();
        let ttft = self.ttft(|_| true);
        let at = |part: f64| {
            ttft.get((part * ttft.len().saturating_sub(1) as f64) as usize).copied().unwrap_or(0.0)
        };
        let tpot: Vec<f64> = self.all.iter().filter_map(Told::tpot).collect();
        let firsts = self.all.iter().filter_map(|one| Some((one.first?.1, one.prompt)));
        let (cached, prompts) = firsts.fold((0.0, 0.0), |(cached, prompts), one| {
            (cached + f64::from(one.0), prompts + f64::from(one.1))
        });
        let is_refused = |one: &&Told| matches!(one.fate, Some(Fate::Refused | Fate::HandedBack));
        let prompts_of = |is: bool| {
            let of = self.all.iter().filter(|one| is_refused(one) == is);
            mean(&of.map(|one| f64::from(one.prompt)).collect::<Vec<_>>())
        };
        let last = self.all.iter().map(|one| one.arrived).max().unwrap_or_default();
        let spent = last.since(Time::ZERO).as_secs_f64().max(f64::MIN_POSITIVE);
        Summary {
            prefill_rate: (prompts - cached) / spent,
            refused_prompt: prompts_of(true),
            taken_prompt: prompts_of(false),
            good: count(Told::is_good),
            good_tokens: good_tokens / self.tokens.max(1.0),
            refused: count(|one| matches!(one.fate, Some(Fate::Refused | Fate::HandedBack))),
            late: count(Told::is_late),
            slow: count(|one| !one.is_late() && one.is_slow()),
            hits: cached / f64::max(prompts, 1.0),
            ttft_mean: mean(&ttft),
            ttft_p50: at(0.5),
            ttft_p95: at(0.95),
            ttft_p99: at(0.99),
            tpot_mean: mean(&tpot) * 1000.0,
            by_tier: self.by_tier(),
            preempted: self.preempted,
        }
    }

    /// How long after its promise the last of those was sent that were sent at all.
    pub fn longest_wait(&self) -> Duration {
        let wait = |one: &Told| Some(one.sent?.since(one.arrived + one.promise.0));
        self.all.iter().filter_map(wait).max().unwrap_or_default()
    }

    /// Part of some of the requests that was good.
    pub fn good(&self, which: impl Fn(usize) -> bool) -> f64 {
        let some = self.all.iter().enumerate().filter(|(at, _)| which(*at));
        let some: Vec<f64> = some.map(|(_, one)| f64::from(u8::from(one.is_good()))).collect();
        mean(&some)
    }

    /// Seconds to the first token of some of the requests, in order.
    pub fn ttft(&self, which: impl Fn(usize) -> bool) -> Vec<f64> {
        let some = self.all.iter().enumerate().filter(|(at, _)| which(*at));
        let mut ttft: Vec<f64> = some.filter_map(|(_, one)| one.ttft()).collect();
        ttft.sort_by(f64::total_cmp);
        ttft
    }

    fn by_tier(&self) -> Vec<f64> {
        let tiers = self.all.iter().map(|one| one.tier).max().map_or(0, |tier| tier.0 + 1);
        let good = |tier: u8| {
            let of = self.all.iter().filter(|one| one.tier == TierId(tier));
            let (good, all) =
                of.fold((0, 0), |(good, all), one| (good + usize::from(one.is_good()), all + 1));
            good as f64 / f64::from(all.max(1))
        };
        (0..tiers).map(good).collect()
    }
}

fn unloaded(truth: &Profile, prompt: u32) -> Duration {
    Duration::from_secs_f64(truth.prefill(prompt.max(1), 0, (0, 0.0)) / 1000.0)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

impl Told {
    fn tokens(&self) -> f64 {
        f64::from(self.prompt) + f64::from(self.output)
    }

    fn ttft(&self) -> Option<f64> {
        Some(self.first?.0.since(self.arrived).as_secs_f64())
    }

    fn tpot(&self) -> Option<f64> {
        let (Some(Fate::Done { at }), Some((first, _))) = (self.fate, self.first) else {
            return None;
        };
        (self.output > 1).then(|| at.since(first).as_secs_f64() / f64::from(self.output - 1))
    }

    fn is_late(&self) -> bool {
        self.first.is_some_and(|(at, _)| at.since(self.arrived) > self.promise.0)
    }

    fn is_slow(&self) -> bool {
        self.tpot().is_some_and(|tpot| tpot > self.promise.1.as_secs_f64())
    }

    fn is_good(&self) -> bool {
        matches!(self.fate, Some(Fate::Done { .. })) && !self.is_late() && !self.is_slow()
    }
}
