//! A day around the globe: requests of a trace, as often as a ServeGen model's clients ask, each
//! site's users by their own clock.

use super::MEASURED;
use super::clients::{Offer, Source};
use crate::scenario::{BenchSite, Scenario};
use crate::workload::{self, Arrival, Options, Problem};
use mainstay_core::rng::{Rng, mix};
use mainstay_core::time::Duration;

/// Degrees that the sun passes in a second.
const DEGREES: f64 = 15.0 / 3600.0;
/// A day in seconds.
const DAY: f64 = 86_400.0;
/// Rates are looked at anew so often; the shape's own windows are ten minutes.
const LOOK: Duration = Duration::from_secs(10);

/// How often people ask, by the time of day; one on average.
#[derive(Clone, Debug)]
struct Shape(Vec<(f64, f64)>);

impl Shape {
    fn of(model: &str, options: &Options) -> Result<Shape, Problem> {
        let windows = workload::aggregate(model, options)?;
        let first = windows.iter().map(|(at, rate)| (at.as_secs_f64(), *rate));
        let day: Vec<(f64, f64)> = first.take_while(|(at, _)| *at < DAY).collect();
        let mean = day.iter().map(|(_, rate)| rate).sum::<f64>() / day.len().max(1) as f64;
        Ok(Shape(day.into_iter().map(|(at, rate)| (at, rate / mean.max(1e-9))).collect()))
    }

    fn at(&self, seconds: f64) -> f64 {
        let seconds = seconds.rem_euclid(DAY);
        let after = self.0.partition_point(|(at, _)| *at <= seconds);
        self.0.get(after.saturating_sub(1)).map_or(1.0, |(_, rate)| *rate)
    }
}

/// The requests of a scenario's day.
struct Day {
    rng: Rng,
    /// Of each site: share of all load, longitude, gateway, where in the trace it is, and its
    /// round through it.
    places: Vec<(f64, f64, Option<u16>, usize, u64)>,
    shape: Shape,
    requests: Vec<Arrival>,
    /// Requests a second at shape 1.
    usual: f64,
    at: Duration,
    look: Duration,
    /// Rates of the sites up to each, as of the last look.
    rates: Vec<f64>,
}

/// Opens it; users of a site ask as often as its share of the bench's capacity says.
pub fn open(
    scenario: &Scenario,
    (model, requests): (&str, &str),
    seed: u64,
) -> Result<Source, Problem> {
    let options = Options {
        seed,
        tenants: scenario.load.tenants,
        turns: scenario.load.turns,
        ..Options::default()
    };
    let shape = Shape::of(model, &options)?;
    let requests: Vec<Arrival> = workload::open(requests, &options)?.take(MEASURED).collect();
    let units: f64 = requests.iter().map(|one| f64::from(uncached(one)) / 1000.0).sum();
    let mean = units / requests.len().max(1) as f64;
    let bench = &scenario.bench;
    let all = bench.capacity();
    let mut rng = Rng::new(seed ^ 0x6461_7900);
    let mut place = |site: &BenchSite| {
        let phase = rng.below(requests.len() as u64) as usize;
        (site.capacity / all, site.longitude, site.region, phase, rng.bits())
    };
    let places = bench.sites.iter().map(&mut place).collect();
    let usual = scenario.load.level * all / bench.scale.max(1.0) / mean.max(1e-9);
    let rng = Rng::new(seed ^ 0x6461_7901);
    let (at, look) = (Duration::ZERO, Duration::ZERO);
    Ok(Box::new(Day { rng, places, shape, requests, usual, at, look, rates: Vec::new() }))
}

impl Day {
    fn look(&mut self) {
        let mut sum = 0.0;
        self.rates.clear();
        for (share, longitude, ..) in &self.places {
            let local = self.look.as_secs_f64() + longitude / DEGREES;
            sum += self.usual * share * self.shape.at(local);
            self.rates.push(sum);
        }
        self.look += LOOK;
    }
}

impl Iterator for Day {
    type Item = Offer;

    fn next(&mut self) -> Option<Offer> {
        // Arrivals have no memory: one that falls behind a look is drawn anew from there.
        let all = loop {
            if self.at >= self.look {
                self.look();
            }
            let all = *self.rates.last()?;
            let pause = -(1.0 - self.rng.unit()).ln() / all.max(1e-9);
            let next = self.at + Duration::from_secs_f64(pause);
            if next < self.look {
                self.at = next;
                break all;
            }
            self.at = self.look;
        };
        let point = self.rng.unit() * all;
        let site = self.rates.partition_point(|sum| *sum <= point).min(self.places.len() - 1);
        let (_, _, gateway, turn, salt) = &mut self.places[site];
        let one = self.requests.get(*turn)?;
        *turn += 1;
        let offer = Offer {
            at: self.at,
            // Another copy of the trace has other tenants and sessions.
            tenant: mix(*salt, u64::from(one.tenant)) as u32,
            session: mix(*salt, one.session),
            prompt: one.prompt,
            output: one.output,
            cached: one.cached,
            gateway: *gateway,
        };
        if *turn == self.requests.len() {
            (*turn, *salt) = (0, mix(*salt, 1));
        }
        Some(offer)
    }
}

fn uncached(one: &Arrival) -> u32 {
    one.prompt.saturating_sub(one.cached).max(1)
}
