//! Service times are those that were published and measured, and the worker that jumps agrees with
//! the one that steps.

use mainstay_core::rng::Rng;
use mainstay_core::time::{Duration, Time};
use mainstay_sim::service::{
    Asked, Engine, Happened, LISTED, Noise, PROFILES, Profile, Sequence, SequenceId, Told, What,
    Worker, table,
};
use std::collections::BTreeMap;

/// The worker that steps, used as the one that jumps: a block is a token, prompts have no keys.
struct Stepped {
    engine: Engine,
    admitted: usize,
}

impl Stepped {
    fn new(profile: Profile) -> Stepped {
        Stepped { engine: Engine::new(profile, 1, (Noise::NONE, 0)), admitted: 0 }
    }

    fn admit(&mut self, now: Time, one: Sequence) -> SequenceId {
        self.admitted += 1;
        let Sequence { prompt, cached, output } = one;
        let asked = Asked { id: self.admitted, prompt, cached, output, keys: [].into() };
        self.engine.admit(now, asked);
        SequenceId(self.admitted as u64)
    }

    /// Ends every step that is over by `now`, and begins those after them.
    fn advance(&mut self, now: Time, happened: &mut Vec<Happened>) {
        let mut told = Vec::new();
        while let Some(at) = self.engine.next().filter(|at| *at <= now) {
            self.engine.advance(at, &mut told);
            happened.extend(told.drain(..).map(|(id, what)| {
                let what = match what {
                    Told::FirstToken { .. } => What::FirstToken,
                    Told::Ended => What::Ended,
                };
                Happened { id: SequenceId(id as u64), at, what }
            }));
        }
    }
}

/// What the design allows.
const BAR: f64 = 0.10;

fn near(what: &str, measured: f64, expected: f64) {
    let error = measured / expected - 1.0;
    println!("{what}: {measured:.1}, expected {expected:.1}, {:+.1} %", error * 100.0);
    assert!(error.abs() <= BAR, "{what}");
}

fn named(name: &str) -> Profile {
    Profile::named(name).unwrap()
}

/// Tokens a second of so many decodes with so much context, over fifty of their tokens.
fn decode_rate(sequences: u32, context: u32) -> f64 {
    let mut worker = Worker::new(named("deepseek-v3-decode-h800"));
    let start = Time::from_micros(1);
    let one = Sequence { prompt: context, cached: context - 1, output: 51 };
    for _ in 0..sequences {
        worker.admit(start, one);
    }
    let mut happened = Vec::new();
    while let Some(at) = worker.next() {
        worker.advance(at, &mut happened);
    }
    let of = |what| happened.iter().filter(move |one| one.what == what).map(|one| one.at);
    let (first, last) = (of(What::FirstToken).max().unwrap(), of(What::Ended).max().unwrap());
    f64::from(sequences) * 50.0 / last.since(first).as_secs_f64()
}

#[test]
fn deepseek_decodes_as_fast_as_it_was_published() {
    near("EP128, batch 128, context 4,096: tokens/s/GPU", decode_rate(128, 4096 - 25), 2324.0);
    let production = decode_rate(88, 4989 - 25);
    near("production, batch 88, context 4,989: tokens/s/GPU", production, 1850.0);
    near("the same, tokens/s/user", production / 88.0, 21.0);
}

#[test]
fn deepseek_prefills_as_fast_as_it_was_published() {
    let chunk = 16_384;
    let profile = Profile { chunk, ..named("deepseek-v3-prefill-h800") };
    let mut worker = Stepped::new(profile);
    let start = Time::from_micros(1);
    // The first begins alone: what is measured is a full step after it.
    worker.admit(start, Sequence { prompt: 1, cached: 0, output: 1 });
    for _ in 0..4 {
        worker.admit(start, Sequence { prompt: 4096, cached: 0, output: 1 });
    }
    let mut happened = Vec::new();
    let from = worker.engine.next().unwrap();
    worker.advance(from, &mut happened);
    let took = worker.engine.next().unwrap().since(from).as_secs_f64();
    near("16k tokens of 4k prompts: tokens/s/GPU", f64::from(chunk) / took, 7839.0);
}

#[test]
fn layers_take_what_was_measured_of_their_operators() {
    for (name, points) in LISTED {
        let (formula, measured) = (named(name), named(name).measured());
        for (tokens, listed) in points {
            let x = f64::from(tokens);
            near(&format!("{name}, {tokens} tokens, table"), measured.layers(x), listed);
            let fit = formula.layers(x) / listed - 1.0;
            println!("{name}, {tokens} tokens, formula: {:+.1} %", fit * 100.0);
            assert!(fit.abs() <= if tokens >= 256 { 0.05 } else { 0.19 }, "{fit}");
        }
    }
}

/// Between multiples of 256 tokens the real kernels waste part of a tile, which no line follows:
/// the formula is right in the median, and the tables are the truth that it is judged by.
#[test]
fn the_formulas_fit_the_tables_in_the_median() {
    for (name, median_bar, most_bar) in [
        ("llama-70b-h100-tp8", 0.05, 0.25),
        ("llama-70b-h100-tp4", 0.05, 0.30),
        ("llama-70b-a100-tp8", 0.03, 0.10),
        ("llama-8b-a100", 0.06, 0.15),
    ] {
        let profile = named(name);
        let table = table(name);
        let points = table.iter().filter(|(x, _)| (256.0..=4096.0).contains(x));
        let mut errors: Vec<f64> =
            points.map(|(x, ms)| (profile.layers(*x) / ms - 1.0).abs()).collect();
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| errors[(share * (errors.len() - 1) as f64) as usize];
        let (median, most, worst) = (at(0.5), at(0.9), at(1.0));
        println!("{name}: error {median:.3} median, {most:.3} p90, {worst:.3} worst");
        assert!(median <= median_bar && most <= most_bar, "{name}: {median} {most}");
    }
}

/// Admitted, first token, end.
type Seen = (Time, Option<Time>, Option<Time>);
type Story = BTreeMap<SequenceId, Seen>;

fn note(story: &mut Story, happened: &mut Vec<Happened>) {
    for Happened { id, at, what } in happened.drain(..) {
        let (_, first, end) = story.get_mut(&id).unwrap();
        let slot = match what {
            What::FirstToken => first,
            What::Ended => end,
        };
        assert!(slot.replace(at).is_none(), "{id:?} {what:?} twice");
    }
}

/// Plays the same random load on both workers; what each sequence saw.
fn play(profile: &Profile, rate: f64, seed: u64) -> (Story, Story) {
    let mut worker = Worker::new(profile.clone());
    let mut stepped = Stepped::new(profile.clone());
    let (mut jumped, mut walked) = (Story::new(), Story::new());
    let mut rng = Rng::new(seed);
    let mut now = Time::from_micros(1);
    let mut happened = Vec::new();
    for _ in 0..600 {
        now = now + Duration::from_secs_f64(-(1.0 - rng.unit()).ln() / rate);
        worker.advance(now, &mut happened);
        note(&mut jumped, &mut happened);
        stepped.advance(now, &mut happened);
        note(&mut walked, &mut happened);
        let prompt = 1 + (8000.0 * rng.unit().powi(3)) as u32;
        let cached = (f64::from(prompt) * 0.5 * rng.unit()) as u32;
        let one = Sequence { prompt, cached, output: 1 + rng.below(400) as u32 };
        jumped.insert(worker.admit(now, one), (now, None, None));
        walked.insert(stepped.admit(now, one), (now, None, None));
    }
    let far = now + Duration::from_secs(100_000);
    worker.advance(far, &mut happened);
    note(&mut jumped, &mut happened);
    stepped.advance(far, &mut happened);
    note(&mut walked, &mut happened);
    assert_eq!((worker.sequences(), worker.kv_used()), (0, 0));
    assert_eq!(worker.outstanding(), Duration::ZERO);
    assert_eq!((stepped.engine.sequences(), stepped.engine.kv_used()), (0, 0));
    println!("put off {} times, stepped {}", worker.put_off(), stepped.engine.put_off());
    assert_eq!(worker.put_off() > 0, profile.kv_tokens < 20_000);
    (jumped, walked)
}

/// Mean time to the first token, and to the end.
fn means(story: &Story) -> (f64, f64) {
    let mean = |of: fn(&Seen) -> Option<Time>| {
        let took = story.values().map(|one| of(one).unwrap().since(one.0).as_secs_f64());
        took.sum::<f64>() / story.len() as f64
    };
    (mean(|one| one.1), mean(|one| one.2))
}

#[test]
fn the_worker_that_jumps_agrees_with_the_one_that_steps() {
    let full = Profile { kv_tokens: 12_000, ..named("llama-70b-h100-tp8") };
    for (profile, rate, bar) in [
        (named("llama-70b-h100-tp8"), 2.0, 0.02),
        (named("llama-70b-h100-tp8").measured(), 6.0, 0.02),
        (named("llama-8b-a100"), 3.0, 0.02),
        (full, 1.0, 0.10),
    ] {
        let (jumped, walked) = play(&profile, rate, 11);
        let ((first, end), (first_stepped, end_stepped)) = (means(&jumped), means(&walked));
        println!(
            "{} at {rate}/s: first token {first:.3} s, stepped {first_stepped:.3}; \
             end {end:.3}, stepped {end_stepped:.3}",
            profile.name
        );
        assert!((first / first_stepped - 1.0).abs() < bar, "{}", profile.name);
        assert!((end / end_stepped - 1.0).abs() < bar, "{}", profile.name);
    }
}

#[test]
fn noise_makes_steps_longer_by_its_slow_share_and_no_more() {
    let profile = named("llama-70b-h100-tp8");
    let took = |noise| {
        let mut worker = Worker::with_noise(profile.clone(), noise, 5);
        let mut happened = Vec::new();
        let mut now = Time::from_micros(1);
        for _ in 0..2000 {
            worker.admit(now, Sequence { prompt: 900, cached: 0, output: 20 });
            while let Some(at) = worker.next() {
                worker.advance(at, &mut happened);
                now = at;
            }
        }
        now.since(Time::ZERO).as_secs_f64()
    };
    let longer = took(Noise::USUAL) / took(Noise::NONE);
    println!("noise makes a run {longer:.3} times as long");
    assert!((1.01..1.03).contains(&longer), "{longer}");
}

#[test]
fn what_is_aborted_gives_back_its_room_and_never_happens() {
    let mut worker = Worker::new(named("llama-70b-h100-tp8"));
    let at = |millis: u64| Time::from_micros(millis * 1000);
    let one = Sequence { prompt: 3000, cached: 0, output: 100 };
    let ids: Vec<SequenceId> = (0..6).map(|_| worker.admit(at(1), one)).collect();
    let mut happened = Vec::new();
    worker.advance(at(400), &mut happened);
    ids.iter().for_each(|id| worker.abort(at(400), *id));
    assert_eq!((worker.sequences(), worker.kv_used()), (0, 0));
    assert_eq!(worker.outstanding(), Duration::ZERO);
    happened.clear();
    worker.advance(at(100_000), &mut happened);
    assert_eq!(happened, []);
    let again = worker.admit(at(100_000), one);
    worker.slow(at(100_001), 2.0);
    worker.advance(at(200_000), &mut happened);
    assert_eq!(happened.iter().map(|one| one.id).collect::<Vec<_>>(), [again, again]);
}

#[test]
fn a_sequence_larger_than_the_worker_still_ends() {
    for mut profile in PROFILES {
        profile.kv_tokens = 1000;
        let mut worker = Worker::new(profile.clone());
        let mut stepped = Stepped::new(profile);
        let start = Time::from_micros(1);
        let mut happened = Vec::new();
        for prompt in [5000, 10, 900, 0] {
            worker.admit(start, Sequence { prompt, cached: 0, output: 30 });
            stepped.admit(start, Sequence { prompt, cached: 0, output: 30 });
        }
        worker.advance(start + Duration::from_secs(1000), &mut happened);
        assert_eq!(happened.len(), 8);
        stepped.advance(start + Duration::from_secs(1000), &mut happened);
        assert_eq!(happened.len(), 16);
    }
}
