//! What this gateway believes of one target, from its own attempts first.
//!
//! Three outcomes: *good* (a whole answer, or tokens flowing for a while), *strike* (refused,
//! reset, silent, cut, wrong) and *neutral*, which is never told to this automaton. Overload is
//! neutral: a 429 counted as success would wipe out real failures, counted as failure it would
//! turn overload into death. Every window is short and every return is slow, so that no sequence
//! of outcomes can move a target in and out of use more than six times in ten minutes.
//!
//! Which call belongs to which moment: `attempted` when an own attempt is sent there and when one
//! ends in whatever way; `good` and `strike` at its outcome, `strike` with what peers say of the
//! target and whether this gateway doubts itself; `shallow` and `token` when a probe ended, also
//! one whose result a peer told; `pass` at `returns_at`, which is the only rule of time alone;
//! `takes_trickle` for each request that could go here, the lowest tier first. A token probe
//! is due when `lacks_trickle`.
//!
//! Probes may shorten a wait. They never keep a target from returning: a checker that lies cannot
//! keep a site out.

use crate::fact::Verdict;
use crate::mutant::{Mutant, Mutants};
use crate::time::{Duration, Time};
use alloc::collections::VecDeque;

/// Why a target leaves UP that this gateway did not see fail itself.
pub const INDIRECT: &str = "probes failed and nothing was tried";

/// Times and counts of the automaton. `PUBLISHED` are those of `docs/protocol.md` §5.3; the
/// checker of every input sequence runs the same code with few and small ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Strikes in a row that make a target suspect,
    pub strikes: u32,
    /// if they span this: three attempts that were under way at one moment are one event.
    pub strike_span: Duration,
    /// If half of what ends in one of these windows strikes, it is suspect, from so many outcomes
    /// on. Of the first window the last so many outcomes suffice: what was good before the trouble
    /// began must not hide it.
    pub windows: [(Duration, u32); 2],
    /// What ends within this ends at one moment, and a moment counts once: a worker that is lost
    /// takes all its answers along, and is one event. Tokens are some 40 ms apart.
    pub moment: Duration,
    /// Moments kept for them: more than the first window holds.
    pub kept: usize,
    /// Probes failed in a row, shallow and token, that make an idle target suspect. A token probe
    /// is the real path and ten times rarer, so fewer of them say as much.
    pub missed: [u8; 2],
    /// No own attempt for so long: then probes are all that is known.
    pub idle: Duration,
    /// Good answers in a row that clear a suspect.
    pub clearing: u32,
    /// How long a suspect must strike without a good answer to be called down.
    pub down_after: Duration,
    /// First hold of a target that is down, and the hold from its second departure on.
    pub hold: [Duration; 2],
    /// After the hold: how much longer without a good token probe.
    pub unproved: Duration,
    /// Good answers and time that end probation.
    pub proving: (u32, Duration),
    /// How long departures are remembered, and how long a latched target must stay clean.
    pub memory: Duration,
    /// Least pace of a trickle, and of single tries at a target that is down, its hold over.
    pub pace: [Duration; 2],
    /// A trickle that got nothing for so long is replaced by a token probe.
    pub lacking: Duration,
}

impl Timing {
    /// Those of the protocol.
    pub const PUBLISHED: Timing = Timing {
        strikes: 3,
        strike_span: Duration::from_millis(300),
        windows: [(Duration::from_secs(2), 20), (Duration::from_secs(30), 10)],
        moment: Duration::from_millis(50),
        kept: 64,
        missed: [3, 2],
        idle: Duration::from_secs(5),
        clearing: 5,
        down_after: Duration::from_secs(3),
        hold: [Duration::from_secs(30), Duration::from_secs(60)],
        unproved: Duration::from_secs(60),
        proving: (10, Duration::from_secs(10)),
        memory: Duration::from_secs(600),
        pace: [Duration::from_secs(1), Duration::from_secs(15)],
        lacking: Duration::from_secs(2),
    };
}

/// Departures within `memory` that latch a target.
const LATCH: usize = 3;
/// Trickle while suspect or on fresh probation, and after five seconds of it, in hundredths.
const TRICKLE: [u32; 2] = [1, 5];
/// When probation widens its trickle.
const TRICKLE_WIDENS: Duration = Duration::from_secs(5);
/// Peers not up that confirm what this gateway saw.
const CONFIRMING: u16 = 2;

/// What others say of a target, and what this gateway says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Views {
    /// Peers with a digest at most five seconds old that hold it for up,
    pub up: u16,
    /// and that do not.
    pub not_up: u16,
    /// This gateway doubts itself, or an operator froze the site: nothing goes down.
    pub in_doubt: bool,
}

impl Views {
    /// No peer is heard, and no doubt.
    pub const ALONE: Views = Views { up: 0, not_up: 0, in_doubt: false };

    /// Whether the target itself is at fault as far as peers can tell, not the way to it.
    pub fn confirm(self) -> bool {
        self.not_up >= CONFIRMING || self.up == 0
    }
}

/// The automaton of one target.
#[derive(Clone, Debug)]
pub struct Health {
    timing: &'static Timing,
    mutants: Mutants,
    verdict: Verdict,
    since: Time,
    moments: VecDeque<Moment>,
    strikes: u32,
    first_strike: Time,
    good: u32,
    hold_until: Time,
    departures: VecDeque<Time>,
    latched: bool,
    last_trickle: Option<Time>,
    offered: u32,
    attempted: Option<Time>,
    missed: [u8; 2],
    /// What the last token probe since it went down said.
    token: Option<bool>,
    /// Peers can use it: the way there is at fault.
    path: bool,
    /// Probes alone made it suspect.
    indirect: bool,
}

/// What ended at one moment.
#[derive(Clone, Copy, Debug)]
struct Moment {
    began: Time,
    /// Outcomes, and strikes among them.
    all: u32,
    bad: u32,
    /// Good ones that do not speak for the target: see `take_back`.
    lent: u32,
}

/// What ended in the latest part of a window.
#[derive(Clone, Copy, Debug)]
struct Tally {
    /// Outcomes, and the moments of them.
    all: u32,
    moments: u32,
    /// Sum over the moments of the share of strikes in each, in parts of `WHOLE`.
    share: u32,
    /// Moments with a strike, and when the first of them began.
    strikes: u32,
    first_strike: Time,
}

/// More at one moment say nothing new.
const MOMENT_MAX: u32 = 10_000;
/// All of a moment: shares of up to ten outcomes are exact.
const WHOLE: u32 = 2520;

/// A change of verdict, for the fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Verdict,
    /// After.
    pub to: Verdict,
    /// The rule that did it.
    pub why: &'static str,
}

/// The state of the automaton without absolute times: two states that compare equal answer every
/// further sequence of inputs alike. For checkers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Aged {
    verdict: Verdict,
    flags: [bool; 3],
    token: Option<bool>,
    counts: [u32; 4],
    since: Duration,
    first_strike: Duration,
    hold_left: Duration,
    hold_over: Duration,
    idle: Option<Duration>,
    moments: alloc::vec::Vec<(Duration, u32, u32)>,
    departures: alloc::vec::Vec<Duration>,
}

impl Default for Health {
    fn default() -> Health {
        Health::new(&Timing::PUBLISHED, Mutants::NONE)
    }
}

impl Health {
    /// A target that is up, of which nothing was seen.
    pub fn new(timing: &'static Timing, mutants: Mutants) -> Health {
        Health {
            timing,
            mutants,
            verdict: Verdict::Up,
            since: Time::ZERO,
            moments: VecDeque::new(),
            strikes: 0,
            first_strike: Time::ZERO,
            good: 0,
            hold_until: Time::ZERO,
            departures: VecDeque::new(),
            latched: false,
            last_trickle: None,
            offered: 0,
            attempted: None,
            missed: [0; 2],
            token: None,
            path: false,
            indirect: false,
        }
    }

    /// The present belief.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Since when; what digests say as an age.
    pub fn since(&self) -> Time {
        self.since
    }

    /// Whether the target departed three times lately and must prove itself for ten minutes.
    pub fn is_latched(&self) -> bool {
        self.latched
    }

    /// Whether it fails from here while peers can use it: this gateway then counts for less in
    /// answers to names.
    pub fn is_path_suspect(&self) -> bool {
        self.verdict == Verdict::Suspect && self.path
    }

    /// Whether it is out of use by probes alone, which only a budget allows.
    pub fn is_indirect(&self) -> bool {
        self.verdict == Verdict::Suspect && self.indirect
    }

    /// While it is down: when it may be tried again.
    pub fn held_until(&self) -> Option<Time> {
        (self.verdict == Verdict::Down).then_some(self.hold_until)
    }

    /// While it is down: when `pass` brings it back, if nothing is heard before.
    pub fn returns_at(&self) -> Option<Time> {
        let more = if self.token == Some(true) { Duration::ZERO } else { self.timing.unproved };
        Some(self.held_until()? + more)
    }

    /// An own attempt was sent there, or ended with an outcome that says nothing of health.
    pub fn attempted(&mut self, now: Time) {
        self.attempted = Some(now);
    }

    /// A whole answer came, or tokens flowed for two seconds.
    pub fn good(&mut self, now: Time) -> Option<Change> {
        self.attempted(now);
        self.record(now, true);
        self.missed = [0; 2];
        self.count_good(now)
    }

    /// The attempt whose tokens had flowed for two seconds at `at` broke after all, `now`: it
    /// counts once, as the strike that follows. Where it counted too long ago to matter, the
    /// latest that flows does not speak for the target: streams live longer than the window, and
    /// of those that flow now as many will break. What breaks at one moment takes one back.
    pub fn take_back(&mut self, now: Time, at: Time) {
        let length = self.timing.moment;
        let (window, _) = self.timing.windows[0];
        let holds = |m: &&mut Moment| m.began <= at && at.since(m.began) < length && m.all > m.bad;
        if let Some(moment) = self.moments.iter_mut().find(holds) {
            moment.all -= 1;
            moment.lent = moment.lent.min(moment.all - moment.bad);
            if now.since(at) <= window {
                return;
            }
        }
        let is_now = |m: &Moment| m.bad > 0 && now.since(m.began) < length;
        if self.moments.back().is_some_and(is_now) {
            return;
        }
        let recent = self.moments.iter_mut().rev().take_while(|m| now.since(m.began) <= window);
        if let Some(moment) = recent.into_iter().find(|m| m.all > m.bad + m.lent) {
            moment.lent += 1;
        }
    }

    /// The target failed in a way that is its own.
    pub fn strike(&mut self, now: Time, views: Views) -> Option<Change> {
        self.attempted(now);
        self.record(now, false);
        self.good = 0;
        if self.strikes == 0 {
            self.first_strike = now;
        }
        self.strikes = self.strikes.saturating_add(1);
        match self.verdict {
            Verdict::Up => {
                let why = self.condemned(now)?;
                self.turn(now, Verdict::Suspect, why)
            }
            Verdict::Suspect => {
                let struck = now.since(self.since.max(self.first_strike));
                if struck < self.timing.down_after {
                    return None;
                }
                self.path = !views.confirm();
                if views.in_doubt || self.path {
                    return None;
                }
                self.hold_until = now + self.hold();
                self.turn(now, Verdict::Down, "strikes alone for three seconds")
            }
            Verdict::Down => {
                if now >= self.hold_until {
                    self.hold_until = now + self.timing.hold[0];
                }
                None
            }
            Verdict::Probation => {
                self.hold_until = now + self.timing.hold[0];
                self.turn(now, Verdict::Down, "a strike on probation")
            }
        }
    }

    /// A shallow probe ended. `may_remove`: this gateway does not doubt itself, and its budget for
    /// removing capacity by indirect evidence has room for this target.
    pub fn shallow(&mut self, now: Time, good: bool, may_remove: bool) -> Option<Change> {
        self.probed(now, (0, good), may_remove)
    }

    /// A token probe ended; `may_remove` as for `shallow`. A good one stands in for an answer
    /// where a target must prove itself and ends the wait of one that is down.
    pub fn token(&mut self, now: Time, good: bool, may_remove: bool) -> Option<Change> {
        match self.verdict {
            Verdict::Up => self.probed(now, (1, good), may_remove),
            Verdict::Down => {
                self.token = Some(good);
                self.pass(now)
            }
            Verdict::Suspect | Verdict::Probation if good => self.count_good(now),
            Verdict::Suspect | Verdict::Probation => None,
        }
    }

    /// Time has passed.
    pub fn pass(&mut self, now: Time) -> Option<Change> {
        if self.is_vetoed() || now < self.returns_at()? {
            return None;
        }
        let why = match self.token {
            Some(true) => "a token came after its hold",
            Some(false) | None => "a minute more than its hold",
        };
        self.turn(now, Verdict::Probation, why)
    }

    /// Whether one request should be sent here although the target is not up. Asking counts the
    /// request as offered, so call it once per request that could go here.
    pub fn takes_trickle(&mut self, now: Time) -> bool {
        let share = match self.verdict {
            Verdict::Up => return false,
            Verdict::Suspect => TRICKLE[0],
            Verdict::Down => return self.takes_single(now),
            Verdict::Probation if now.since(self.since) < TRICKLE_WIDENS => TRICKLE[0],
            Verdict::Probation => TRICKLE[1],
        };
        self.offered += share;
        if self.offered >= 100 || self.is_due(now, self.timing.pace[0]) {
            self.offered = self.offered.saturating_sub(100);
            self.last_trickle = Some(now);
            return true;
        }
        false
    }

    /// Whether a token probe must stand in, because no request has offered itself for its trickle.
    pub fn lacks_trickle(&self, now: Time) -> bool {
        matches!(self.verdict, Verdict::Suspect | Verdict::Probation)
            && self.is_due(now, self.timing.lacking)
    }

    /// The state as ages, for comparing; what no rule can tell apart any more is left out.
    pub fn aged(&self, now: Time) -> Aged {
        let timing = self.timing;
        let age = |at: Time, most: Duration| now.since(at).min(most);
        let longest = timing.windows[0].0.max(timing.windows[1].0);
        let (is_up, is_down) = (self.verdict == Verdict::Up, self.verdict == Verdict::Down);
        let is_suspect = self.verdict == Verdict::Suspect;
        let counts_strikes = self.strikes > 0 && (is_up || is_suspect);
        let counts_good = is_suspect || self.verdict == Verdict::Probation;
        let aged = |moment: &Moment| (now.since(moment.began), moment.all, moment.bad);
        let moments = self.moments.iter().map(aged).filter(|(age, ..)| is_up && *age <= longest);
        let departures = self.departures.iter().map(|at| now.since(*at));
        let missed = if is_up { self.missed } else { [0; 2] };
        let only = |counts: bool, age: Duration| if counts { age } else { Duration::ZERO };
        Aged {
            verdict: self.verdict,
            flags: [self.latched, self.is_path_suspect(), self.is_indirect()],
            token: self.token,
            counts: [
                only_count(counts_strikes, self.strikes.min(timing.strikes)),
                only_count(counts_good, self.good.min(timing.clearing.max(timing.proving.0))),
                u32::from(missed[0].min(timing.missed[0])),
                u32::from(missed[1].min(timing.missed[1])),
            ],
            since: only(counts_good, age(self.since, timing.memory)),
            first_strike: only(
                counts_strikes,
                age(self.first_strike, timing.strike_span.max(timing.down_after)),
            ),
            hold_left: only(is_down, self.hold_until.since(now)),
            hold_over: only(is_down, age(self.hold_until, timing.unproved)),
            idle: self.attempted.map(|at| age(at, timing.idle)),
            moments: moments.collect(),
            departures: departures.filter(|age| *age <= timing.memory).collect(),
        }
    }

    fn count_good(&mut self, now: Time) -> Option<Change> {
        self.strikes = 0;
        self.path = false;
        self.good = self.good.saturating_add(1);
        match self.verdict {
            Verdict::Up => None,
            Verdict::Suspect if self.good < self.timing.clearing => None,
            Verdict::Suspect if self.latched => {
                self.turn(now, Verdict::Probation, "five good in a row, latched")
            }
            Verdict::Suspect => self.turn(now, Verdict::Up, "five good in a row"),
            Verdict::Down if now < self.hold_until || self.is_vetoed() => None,
            Verdict::Down => self.turn(now, Verdict::Probation, "answered after its hold"),
            Verdict::Probation => self.prove(now),
        }
    }

    fn probed(
        &mut self,
        now: Time,
        (kind, good): (usize, bool),
        may_remove: bool,
    ) -> Option<Change> {
        let missed = if good { 0 } else { self.missed[kind].saturating_add(1) };
        self.missed[kind] = missed;
        let is_idle = self.attempted.is_none_or(|at| now.since(at) >= self.timing.idle);
        let is_missing = missed >= self.timing.missed[kind];
        if self.verdict != Verdict::Up || !is_idle || !is_missing || !may_remove {
            return None;
        }
        let change = self.turn(now, Verdict::Suspect, INDIRECT);
        self.indirect = true;
        change
    }

    /// A rule that must not exist: tests show what it does.
    fn is_vetoed(&self) -> bool {
        self.mutants.removes(Mutant::ProbeVetoesReturn) && self.token == Some(false)
    }

    fn takes_single(&mut self, now: Time) -> bool {
        if now < self.hold_until || !self.is_due(now, self.timing.pace[1]) {
            return false;
        }
        self.last_trickle = Some(now);
        true
    }

    fn is_due(&self, now: Time, pace: Duration) -> bool {
        self.last_trickle.is_none_or(|at| now.since(at) >= pace)
    }

    fn record(&mut self, now: Time, good: bool) {
        let bad = u32::from(!good);
        let last = self.moments.back_mut();
        if let Some(moment) = last.filter(|m| now.since(m.began) < self.timing.moment) {
            if moment.all < MOMENT_MAX {
                moment.all += 1;
                moment.bad += bad;
            }
            return;
        }
        if self.moments.len() == self.timing.kept {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment { began: now, all: 1, bad, lent: 0 });
    }

    fn condemned(&self, now: Time) -> Option<&'static str> {
        let spans = now.since(self.first_strike) >= self.timing.strike_span;
        if self.strikes >= self.timing.strikes && spans {
            return Some("three strikes in a row");
        }
        let [first, second] = self.timing.windows;
        let speaks = |(_, least): (Duration, u32), tally: &Tally| {
            let spans = now.since(tally.first_strike) >= self.timing.strike_span;
            let strikes = tally.strikes >= self.timing.strikes;
            tally.all >= least && spans && strikes && 2 * tally.share >= tally.moments * WHOLE
        };
        let is_half = self.back(now, first).any(|tally| speaks(first, &tally))
            || self.back(now, second).last().is_some_and(|tally| speaks(second, &tally));
        is_half.then_some("half of its recent answers were strikes")
    }

    /// Counts back through a window from a strike that ends now, moment by moment.
    fn back(&self, now: Time, (window, _): (Duration, u32)) -> impl Iterator<Item = Tally> {
        let recent = self.moments.iter().rev().take_while(move |m| now.since(m.began) <= window);
        let none = Tally { all: 0, moments: 0, share: 0, strikes: 0, first_strike: now };
        recent.filter(|moment| moment.all > 0).scan(none, |tally, moment| {
            tally.all += moment.all;
            let speak = moment.all - moment.lent;
            tally.moments += u32::from(speak > 0);
            tally.share += (moment.bad * WHOLE).div_ceil(speak.max(1));
            if moment.bad > 0 {
                tally.strikes += 1;
                tally.first_strike = moment.began;
            }
            Some(*tally)
        })
    }

    fn depart(&mut self, now: Time) {
        let memory = self.timing.memory;
        self.departures.retain(|at| now.since(*at) <= memory);
        if self.departures.len() == LATCH {
            self.departures.pop_front();
        }
        self.departures.push_back(now);
        let is_often = self.departures.len() >= LATCH;
        self.latched |= is_often && !self.mutants.removes(Mutant::NoLatch);
    }

    fn hold(&self) -> Duration {
        self.timing.hold[usize::from(self.departures.len() >= 2)]
    }

    fn prove(&mut self, now: Time) -> Option<Change> {
        let (good, time) = self.timing.proving;
        let clean = if self.latched { self.timing.memory } else { time };
        if self.good < good || now.since(self.since) < clean {
            return None;
        }
        // Departures are not forgotten by it, or three proofs could make seven moves.
        self.latched = false;
        self.turn(now, Verdict::Up, "proved on probation")
    }

    fn turn(&mut self, now: Time, to: Verdict, why: &'static str) -> Option<Change> {
        let from = core::mem::replace(&mut self.verdict, to);
        let departs = match self.mutants.removes(Mutant::LatchCountsOnlyDown) {
            true => to == Verdict::Down,
            false => from == Verdict::Up,
        };
        if departs {
            self.depart(now);
        }
        if from == Verdict::Up {
            self.last_trickle = Some(now);
            self.offered = 0;
        }
        self.since = now;
        self.strikes = 0;
        self.good = 0;
        self.missed = [0; 2];
        self.token = None;
        self.path = false;
        self.indirect = false;
        self.moments.clear();
        Some(Change { from, to, why })
    }
}

fn only_count(counts: bool, count: u32) -> u32 {
    if counts { count } else { 0 }
}

#[cfg(test)]
mod tests;
