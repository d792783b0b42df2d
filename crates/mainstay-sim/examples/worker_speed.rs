//! How many requests a second of real time one core plays at a site of sixteen workers:
//! `cargo run --release -p mainstay-sim --example worker_speed`.

use mainstay_core::time::Time;
use mainstay_sim::service::{Noise, Profile, Sequence, Worker};
use mainstay_sim::workload::{Arrival, Options, open};
use std::time::Instant;

const WORKERS: usize = 16;
/// Later than all that is played.
const END: Time = Time::from_micros(1 << 60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let profile = Profile::named("llama-70b-h100-tp8").ok_or("no such profile")?.measured();
    for speed in [4.0, 6.0, 10.0] {
        let options = Options { speed, ..Options::default() };
        let arrivals: Vec<Arrival> = open("conversation", &options)?.collect();
        let worker = |seed| Worker::with_noise(profile.clone(), Noise::USUAL, seed);
        let mut workers: Vec<Worker> = (0..WORKERS as u64).map(worker).collect();
        let mut happened = Vec::new();
        let began = Instant::now();
        for arrival in &arrivals {
            let now = Time::ZERO + arrival.at;
            workers.iter_mut().for_each(|worker| worker.advance(now, &mut happened));
            let least = workers.iter_mut().min_by_key(|worker| worker.outstanding());
            let Arrival { prompt, cached, output, .. } = *arrival;
            least.map(|worker| worker.admit(now, Sequence { prompt, cached, output }));
        }
        let loaded = began.elapsed().as_secs_f64();
        workers.iter_mut().for_each(|worker| worker.advance(END, &mut happened));
        let took = began.elapsed().as_secs_f64();
        let end = happened.iter().map(|one| one.at).max().unwrap_or_default();
        let steps: u64 = workers.iter().map(Worker::steps).sum();
        println!(
            "speed {speed}: {} requests over {:.0} s ({:.0} s with the rest) and {steps} steps in \
             {took:.3} s ({loaded:.3} s while they came): {:.0} requests/s/core, {:.0} x real time",
            arrivals.len(),
            arrivals.last().map_or(0.0, |last| last.at.as_secs_f64()),
            end.as_micros() as f64 / 1e6,
            arrivals.len() as f64 / took,
            end.as_micros() as f64 / 1e6 / took,
        );
    }
    Ok(())
}
