//! What is sent: when, for whom, how long, and with what manners.

use crate::command_line::Load;
use crate::config_file::value::time;
use mainstay_core::rng::Rng;
use mainstay_sim::workload::{self, Options};
use std::time::Duration;

/// Words of a prompt are tokens, near enough.
const TOKENS_MAX: u32 = 200_000;
/// Most requests of one run: what a person may start by a slip of the finger ends.
const REQUESTS_MAX: usize = 10_000_000;
/// Answers that are kept open are of so many lengths, from half to one and a half of what was asked
/// for: of one length they would come and go together. Few, so that answers can be compared.
const LENGTHS: u32 = 9;
/// Answers that are kept open begin over this time: those of one size would else all end at once,
/// again and again.
const SPREAD: Duration = Duration::from_secs(5);

/// A load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it goes, each an address of the same service: the next is tried where one is gone.
    pub urls: Vec<String>,
    /// A file of more certificate authorities.
    pub ca_file: Option<std::path::PathBuf>,
    /// The model that is asked for.
    pub model: String,
    /// Who asks.
    pub classes: Vec<Class>,
    /// When, and how much.
    pub source: Source,
    /// How long it lasts.
    pub lasts: Duration,
    /// How clients behave.
    pub manners: Manners,
    /// What answers end before.
    pub stop: Option<String>,
    /// Different prompts; answers to the same one are compared.
    pub prompts: u32,
    /// Requests open at once.
    pub open_max: usize,
    /// Repeats the run.
    pub seed: u64,
    /// Whether what became of each request is kept, to be looked at by whoever broke something.
    pub records: bool,
    /// When more come than usual.
    pub surges: Vec<Surge>,
}

/// A tier's clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Its name in the outcome.
    pub name: String,
    /// The key they carry.
    pub key: Option<String>,
    /// Their part of all requests.
    pub share: f64,
}

/// More requests of a tier, or of all, for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Surge {
    /// Whose; all if none.
    pub tier: Option<String>,
    /// So many times as many,
    pub factor: f64,
    /// from then on,
    pub from: Duration,
    /// until then,
    pub until: Option<Duration>,
    /// after they grew over this time.
    pub ramp: Duration,
}

impl Surge {
    fn concerns(&self, class: &Class) -> bool {
        self.tier.as_ref().is_none_or(|tier| *tier == class.name)
    }

    /// How many times as many come at this moment.
    fn at(&self, at: Duration) -> f64 {
        if at < self.from || self.until.is_some_and(|until| at >= until) {
            return 1.0;
        }
        let passed = (at - self.from).as_secs_f64();
        let grown = if self.ramp.is_zero() { 1.0 } else { passed / self.ramp.as_secs_f64() };
        1.0 + (self.factor - 1.0) * grown.min(1.0)
    }
}

/// When requests come.
#[derive(Clone, Debug)]
pub enum Source {
    /// By chance, so many a second, all of one size.
    Chance { rate: f64, prompt: u32, output: u32 },
    /// So many are open at once: whoever has an answer asks for the next. The first ones come over
    /// `spread`.
    Kept { open: u32, spread: Duration, prompt: u32, output: u32 },
    /// As a trace has them.
    Trace(Vec<Due>),
}

/// One request to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Since the start.
    pub at: Duration,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Most output tokens.
    pub output: u32,
}

/// How clients behave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manners {
    /// They wait so long for a first token,
    pub patience: Duration,
    /// and for each further one.
    pub gap: Duration,
    /// Their library asks so often again.
    pub retries: u32,
    /// This part of them reads slowly.
    pub slow: f64,
    /// This part of them leaves in the middle.
    pub hang_up: f64,
    /// Whether they read an answer as it comes.
    pub stream: bool,
}

impl Source {
    /// So many kept open if any, else so many a second, of so many tokens of prompt and answer.
    pub fn made_up(open: u32, rate: f64, (prompt, output): (u32, u32)) -> Source {
        match open {
            0 => Source::Chance { rate, prompt, output },
            open => Source::Kept { open, spread: SPREAD, prompt, output },
        }
    }
}

impl Plan {
    /// The load that `options` asks for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of(options: &Load) -> Result<Plan, Vec<String>> {
        let mut wrong = Vec::new();
        let mut wait = |name: &str, text: &str| {
            time(text).unwrap_or_else(|| {
                wrong.push(format!("--{name} {text}: write a time like 500ms, 30s or 2m"));
                Duration::ZERO
            })
        };
        let lasts = wait("for", &options.lasts);
        let manners = Manners {
            patience: wait("patience", &options.patience),
            gap: wait("gap", &options.gap),
            retries: options.retries,
            slow: options.slow,
            hang_up: options.hang_up,
            stream: !options.plain,
        };
        for (name, share) in [("slow", options.slow), ("hang-up", options.hang_up)] {
            if !(0.0..=1.0).contains(&share) {
                wrong.push(format!("--{name} {share}: give a share from 0 to 1"));
            }
        }
        if !(options.rate > 0.0 && options.rate <= 100_000.0) {
            wrong.push(format!("--rate {}: give requests a second, up to 100000", options.rate));
        }
        if lasts.is_zero() {
            wrong.push("--for 0s: give it time".into());
        }
        if options.rate * lasts.as_secs_f64() > REQUESTS_MAX as f64 {
            wrong.push(format!("more than {REQUESTS_MAX} requests: lower --rate or --for"));
        }
        let classes = classes(&options.tiers).unwrap_or_else(|why| {
            wrong.push(why);
            Vec::new()
        });
        let prompt = options.prompt_tokens.clamp(1, TOKENS_MAX);
        let source = match &options.trace {
            None => Source::made_up(options.keep, options.rate, (prompt, options.max_tokens)),
            Some(name) => match trace(name, options, lasts) {
                Ok(dues) => Source::Trace(dues),
                Err(why) => {
                    wrong.push(why);
                    Source::Trace(Vec::new())
                }
            },
        };
        if !wrong.is_empty() {
            return Err(wrong);
        }
        Ok(Plan {
            urls: options.urls.clone(),
            ca_file: options.ca_file.clone(),
            model: options.model.clone(),
            classes,
            source,
            lasts,
            manners,
            stop: options.stop.clone(),
            prompts: options.prompts.max(1),
            open_max: options.open_max.max(1) as usize,
            seed: options.seed,
            records: false,
            surges: Vec::new(),
        })
    }

    /// What one whose answer ended asks for next, if it does.
    pub fn next(&self, at: Duration, rng: &mut Rng) -> Option<Due> {
        let Source::Kept { prompt, output, .. } = self.source else { return None };
        (at < self.lasts).then(|| Due { at, prompt, output: one_of(LENGTHS, output, rng) })
    }

    /// How long answers are kept open.
    pub fn kept(&self) -> Duration {
        if matches!(self.source, Source::Kept { .. }) { self.lasts } else { Duration::ZERO }
    }

    /// When the requests come that none before leads to: of those that are kept open the first.
    fn first(&self) -> Vec<Due> {
        let Source::Kept { open, spread, prompt, output } = self.source else { return Vec::new() };
        let mut rng = Rng::new(self.seed ^ 2);
        let mut due = |number| {
            let output = one_of(LENGTHS, output, &mut rng);
            Due { at: spread * number / open.max(1), prompt, output }
        };
        (0..open).map(&mut due).collect()
    }

    /// The requests, in the order of their times.
    pub fn arrivals(&self) -> Box<dyn Iterator<Item = Due> + Send> {
        match &self.source {
            Source::Trace(dues) => Box::new(dues.clone().into_iter()),
            Source::Kept { .. } => Box::new(self.first().into_iter()),
            Source::Chance { rate, prompt, output } => {
                let (prompt, output, lasts) = (*prompt, *output, self.lasts);
                let mut rng = Rng::new(self.seed ^ 1);
                let mut at = 0.0;
                // As many as at the peak, of which so many are left out as the moment has fewer.
                let (crowd, peak) = (self.clone(), self.peak());
                let rate = *rate * peak;
                let next = move || {
                    loop {
                        at -= (1.0 - rng.unit()).ln() / rate;
                        let due = Due { at: Duration::from_secs_f64(at), prompt, output };
                        if due.at >= lasts {
                            return None;
                        }
                        if peak <= 1.0 || rng.unit() * peak < crowd.times(due.at) {
                            return Some(due);
                        }
                    }
                };
                Box::new(std::iter::from_fn(next).take(REQUESTS_MAX))
            }
        }
    }

    /// Who asks at this moment: the position of a class.
    pub fn class(&self, at: Duration, rng: &mut Rng) -> usize {
        let weights: Vec<f64> = self.classes.iter().map(|class| self.weight(class, at)).collect();
        let mut point = rng.unit() * weights.iter().sum::<f64>();
        let here = |weight: &f64| {
            point -= weight;
            point < 0.0
        };
        weights.iter().position(here).unwrap_or(self.classes.len() - 1)
    }

    fn weight(&self, class: &Class, at: Duration) -> f64 {
        let meant = self.surges.iter().filter(|surge| surge.concerns(class));
        class.share * meant.map(|surge| surge.at(at)).product::<f64>()
    }

    /// How many times as many requests as usual come at this moment.
    fn times(&self, at: Duration) -> f64 {
        let usual: f64 = self.classes.iter().map(|class| class.share).sum();
        self.classes.iter().map(|class| self.weight(class, at)).sum::<f64>() / usual
    }

    /// At most so many times as many.
    fn peak(&self) -> f64 {
        let usual: f64 = self.classes.iter().map(|class| class.share).sum();
        let most = |class: &Class| {
            let meant = self.surges.iter().filter(|surge| surge.concerns(class));
            class.share * meant.map(|surge| surge.factor.max(1.0)).product::<f64>()
        };
        self.classes.iter().map(most).sum::<f64>() / usual
    }
}

/// One of so many lengths around `output`, which is their mean.
fn one_of(lengths: u32, output: u32, rng: &mut Rng) -> u32 {
    let step = rng.below(u64::from(lengths)) as u32;
    (output / 2 + output * step / (lengths - 1).max(1)).max(1)
}

/// `NAME=KEY` or `NAME=KEY@SHARE`, once for each tier.
fn classes(written: &[String]) -> Result<Vec<Class>, String> {
    if written.is_empty() {
        return Ok(vec![Class { name: "anonymous".into(), key: None, share: 1.0 }]);
    }
    let read = |text: &String| {
        let wrong = || format!("--tier {text}: write NAME=KEY or NAME=KEY@SHARE");
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (key, share) = match rest.rsplit_once('@') {
            Some((key, share)) => (key, share.parse().map_err(|_| wrong())?),
            None => (rest, 1.0),
        };
        let key = (!key.is_empty()).then(|| key.to_owned());
        if name.is_empty() || !(share > 0.0 && share < 1e9) {
            return Err(wrong());
        }
        Ok(Class { name: name.to_owned(), key, share })
    };
    written.iter().map(read).collect()
}

fn trace(name: &str, options: &Load, lasts: Duration) -> Result<Vec<Due>, String> {
    let speed = options.speed;
    if !(speed > 0.0 && speed <= 1e6) {
        return Err(format!("--speed {speed}: give how many times as fast the trace is played"));
    }
    let how = Options { seed: options.seed, speed, rate: options.rate, ..Options::default() };
    let arrivals = workload::open(name, &how).map_err(|problem| problem.to_string())?;
    let within = arrivals.take_while(|arrival| arrival.at < lasts).take(REQUESTS_MAX);
    let dues: Vec<Due> = within
        .map(|arrival| Due {
            at: arrival.at,
            prompt: arrival.prompt.clamp(1, TOKENS_MAX),
            output: arrival.output.max(1),
        })
        .collect();
    match dues.is_empty() {
        true => Err(format!("--trace {name}: no request within --for")),
        false => Ok(dues),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_are_written_with_keys_and_shares() {
        let classes = classes(&["pro=sk-a@3".into(), "free=@1".into()]).unwrap();
        assert_eq!((classes[0].key.as_deref(), classes[0].share), (Some("sk-a"), 3.0));
        assert_eq!((classes[1].key.as_deref(), classes[1].share), (None, 1.0));
        for wrong in ["pro", "=x", "pro=k@0", "pro=k@x"] {
            assert!(super::classes(&[wrong.to_owned()]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_by_chance_come_as_often_as_asked_and_the_same_again_with_the_same_seed() {
        let options = Load { rate: 100.0, lasts: "60s".into(), ..Load::default() };
        let plan = Plan::of(&options).unwrap();
        let dues: Vec<Due> = plan.arrivals().collect();
        assert!((5_700..6_300).contains(&dues.len()), "{}", dues.len());
        assert_eq!(dues, plan.arrivals().collect::<Vec<_>>());
    }

    #[test]
    fn answers_that_are_kept_open_are_of_few_lengths_around_the_one_asked_for() {
        let options = Load { keep: 20, lasts: "60s".into(), ..Load::default() };
        let plan = Plan::of(&options).unwrap();
        assert_eq!(plan.arrivals().count(), 20);
        let mut rng = Rng::new(1);
        let next = |_| plan.next(Duration::ZERO, &mut rng).map(|due| due.output);
        let outputs: Vec<u32> = (0..9000).filter_map(next).collect();
        let mean = outputs.iter().sum::<u32>() / 9000;
        assert!((62..=66).contains(&mean), "{mean}");
        let known: std::collections::BTreeSet<u32> = outputs.into_iter().collect();
        assert_eq!((known.len(), known.first(), known.last()), (9, Some(&32), Some(&96)));
        assert_eq!(plan.next(Duration::from_secs(60), &mut Rng::new(1)), None);
    }

    #[test]
    fn a_surge_of_one_tier_grows_over_its_ramp_and_leaves_the_others_as_they_were() {
        let options = Load { rate: 100.0, lasts: "90s".into(), ..Load::default() };
        let mut plan = Plan::of(&options).unwrap();
        plan.classes = classes(&["pro=a@40".into(), "free=b@60".into()]).unwrap();
        let (from, until, ramp) = (30, Some(Duration::from_secs(70)), Duration::from_secs(20));
        let from = Duration::from_secs(from);
        plan.surges = vec![Surge { tier: Some("free".into()), factor: 10.0, from, until, ramp }];
        let mut rng = Rng::new(3);
        let mut counts = [[0u32; 2]; 9];
        for due in plan.arrivals() {
            counts[(due.at.as_secs() / 10) as usize][plan.class(due.at, &mut rng)] += 1;
        }
        // By tens of seconds: 600 are usual; on the ramp 3.25 and 7.75 times as many; then ten.
        for (at, wanted) in [6.0, 6.0, 6.0, 19.5, 46.5, 60.0, 60.0, 6.0, 6.0].iter().enumerate() {
            let [pro, free] = counts[at].map(f64::from);
            assert!((pro - 400.0).abs() < 80.0, "{counts:?}");
            assert!((free / 100.0 / wanted - 1.0).abs() < 0.12, "{at} {counts:?}");
        }
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let options = Load { rate: -1.0, lasts: "60".into(), slow: 2.0, ..Load::default() };
        let wrong = Plan::of(&options).unwrap_err();
        assert!(wrong.iter().any(|line| line.starts_with("--rate")), "{wrong:?}");
        assert!(wrong.iter().any(|line| line.starts_with("--for 60")), "{wrong:?}");
        assert!(wrong.iter().any(|line| line.starts_with("--slow")), "{wrong:?}");
    }
}
