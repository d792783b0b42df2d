//! How many requests a second one core schedules, how long one event takes, and how large the view
//! of prefixes is: `cargo run --release -p mainstay-sim --example decision_speed`.
//!
//! A request is all that the scheduler hears of it: that it came, its first token, its end, and the
//! deadlines between. Workers answer as their profile says; only the scheduler is timed.

use mainstay_core::names::{AttemptId, GatewayId, RequestId, TierId, Work, WorkerId};
use mainstay_core::rng::{Rng, mix};
use mainstay_core::site::schedule::settings::{Settings, TierSettings};
use mainstay_core::site::schedule::{Action, Attempt, End, Event, Scheduler};
use mainstay_core::time::{Duration, Time};
use mainstay_sim::service::PROFILES;
use mainstay_sim::study::coefficients;
use std::collections::BTreeMap;
use std::time::Instant;

/// Blocks of a prompt, and of them those that its session shares.
const BLOCKS: u32 = 24;
const SHARED: u64 = 16;
/// Tokens of an answer, and how fast they come.
const OUTPUT: u32 = 100;
const TOKEN: Duration = Duration::from_millis(30);
/// Requests that are timed.
const TIMED: u64 = 200_000;

/// Events of which one part of a run is made: a millisecond or so.
const PART: usize = 500;

struct Run {
    scheduler: Scheduler,
    /// What workers will tell.
    calendar: BTreeMap<(Time, u64), Event>,
    actions: Vec<Action>,
    busy_until: Vec<Time>,
    /// Nanoseconds of each event, and of arrivals.
    took: Vec<u32>,
    arrivals: Vec<u32>,
    started: u64,
}

impl Run {
    fn new(workers: u16, patience: Duration) -> Run {
        let tier = TierSettings { patience, ..TierSettings::default() };
        let settings = Settings { tiers: vec![tier], ..Settings::default() };
        let mut run = Run {
            scheduler: Scheduler::new(settings),
            calendar: BTreeMap::new(),
            actions: Vec::new(),
            busy_until: vec![Time::ZERO; usize::from(workers)],
            took: Vec::new(),
            arrivals: Vec::new(),
            started: 0,
        };
        for worker in 0..workers {
            run.tell(
                Time::ZERO,
                Event::WorkerSeen { worker: WorkerId(worker), profile: coefficients(&PROFILES[0]) },
            );
            // It tells of its cache; of what, is not timed here.
            let (worker, stored, removed) = (WorkerId(worker), vec![1], vec![1]);
            run.tell(Time::ZERO, Event::Kv { worker, incarnation: 1, stored, removed });
        }
        run
    }

    fn tell(&mut self, now: Time, event: Event) {
        let is_arrival = matches!(event, Event::Arrived(_));
        let began = Instant::now();
        self.scheduler.handle(now, event, &mut self.actions);
        let nanos = began.elapsed().as_nanos() as u32;
        self.took.push(nanos);
        if is_arrival {
            self.arrivals.push(nanos);
        }
        for action in self.actions.drain(..) {
            if let Action::StartLeg { work, worker, .. } = action {
                self.started += 1;
                let busy = &mut self.busy_until[usize::from(worker.0)];
                let prefill = coefficients(&PROFILES[0]).prefill(
                    512 * (BLOCKS - SHARED as u32),
                    0,
                    Default::default(),
                );
                *busy = (*busy).max(now) + Duration::from_micros((prefill * 1000.0) as u64);
                self.calendar
                    .insert((*busy, self.started), Event::FirstToken { work, cached: None });
                let end = Event::LegEnded { work, end: End::Done { output: OUTPUT } };
                self.calendar.insert((*busy + TOKEN * OUTPUT, self.started), end);
            }
        }
    }

    /// All that happens until then.
    fn until(&mut self, then: Time) {
        loop {
            let deadline = self.scheduler.deadline().map(|(at, _)| at);
            let next = self.calendar.first_key_value().map(|((at, _), _)| *at);
            let first = [deadline, next].into_iter().flatten().min().filter(|at| *at <= then);
            let Some(at) = first else { return };
            if next == Some(at) {
                let Some(((at, _), event)) = self.calendar.pop_first() else { return };
                self.tell(at, event);
            } else {
                self.tell(at, Event::Tick);
            }
        }
    }
}

fn attempt(number: u64, sessions: u64, rng: &mut Rng) -> Attempt {
    let session = rng.below(sessions);
    let key = |block: u64| {
        if block < SHARED { mix(session, block) } else { mix(number, (1 << 32) + block) }
    };
    let attempt = AttemptId { request: RequestId(number), number: 1 };
    Attempt {
        work: Work { from: GatewayId(0), attempt },
        tier: TierId(0),
        tenant: (session % 100) as u32,
        prompt: BLOCKS * 512,
        keys: (0..u64::from(BLOCKS)).map(key).collect(),
        limit: 1000,
        expires: Duration::from_secs(3600),
        elsewhere: false,
    }
}

/// How many of these there are in a second, by the median of their parts: what else the machine
/// does now and then is not what is measured.
fn rate(nanos: &[u32]) -> f64 {
    let sum = |part: &[u32]| part.iter().map(|nanos| u64::from(*nanos)).sum();
    let mut parts: Vec<u64> = nanos.chunks_exact(PART).map(sum).collect();
    parts.sort_unstable();
    PART as f64 * 1e9 / parts[parts.len() / 2] as f64
}

/// `load` is what comes as a part of what can be computed; `waiting` requests come at once before.
fn measure(workers: u16, load: f64, waiting: u64) {
    let mut run = Run::new(workers, Duration::from_secs(3600));
    let mut rng = Rng::new(1);
    let sessions = u64::from(workers) * 20;
    let each =
        coefficients(&PROFILES[0]).prefill(512 * (BLOCKS - SHARED as u32), 0, Default::default())
            / 1000.0;
    let gap = Duration::from_secs_f64(each / f64::from(workers) / load);
    let mut now = Time::from_micros(1);
    for number in 0..waiting {
        run.tell(now, Event::Arrived(attempt(number, sessions, &mut rng)));
    }
    let warm = u64::from(workers) * 200;
    for number in waiting..waiting + warm + TIMED {
        if number == waiting + warm {
            run.took = Vec::with_capacity(8 * TIMED as usize);
            run.arrivals.clear();
        }
        now = now + gap;
        run.until(now);
        run.tell(now, Event::Arrived(attempt(number, sessions, &mut rng)));
    }
    let (events, requests) = (rate(&run.took), TIMED as f64 / run.took.len() as f64);
    let arrivals = rate(&run.arrivals);
    run.took.sort_unstable();
    let at = |part: f64| f64::from(run.took[(part * (run.took.len() - 1) as f64) as usize]) / 1e3;
    let (bytes, held) = run.scheduler.index_size();
    println!(
        "{workers} workers, load {load}, {} waiting: {:.0} requests/s/core with all {} events of \
         each, {:.0} arrivals/s/core; event p50 {:.1} p99 {:.1} p99.9 {:.1} µs; {:.1} bytes \
         for each of {held} prefixes",
        run.scheduler.queued(),
        events * requests,
        run.took.len() as u64 / TIMED,
        arrivals,
        at(0.5),
        at(0.99),
        at(0.999),
        bytes as f64 / held.max(1) as f64,
    );
}

fn main() {
    let all = [(64, 0.7, 0), (64, 0.95, 0), (64, 1.0, 100_000), (1250, 0.7, 0), (1250, 0.95, 0)];
    // With a number, that row alone.
    let row = std::env::args().nth(1).and_then(|number| number.parse::<usize>().ok());
    for (at, (workers, load, waiting)) in all.into_iter().enumerate() {
        if row.is_none_or(|row| row == at) {
            measure(workers, load, waiting);
        }
    }
}
