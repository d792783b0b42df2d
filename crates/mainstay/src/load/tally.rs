//! What became of each request, by tier and by second, and how it is told.

use super::client::Told;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Its first token in time, then the whole answer without a long gap.
    Good,
    /// The last try ended in 429 or 503 with a time to come again.
    Shed,
    /// It left in the middle, as it wanted.
    Left,
    /// No address of the service took the connection.
    Unreachable,
    /// The connection broke before an answer.
    Lost,
    /// No first token in time.
    Impatient,
    /// Tokens stopped coming.
    Stalled,
    /// The stream was cut without an error.
    Cut,
    /// The stream ended in an error event.
    ErrorEvent,
    /// The stream breaks the rules of its format.
    Malformed,
    /// Another status.
    Failed,
    /// Too many were open already: nothing was sent.
    NotSent,
}

impl Verdict {
    /// What a status at the last try means; `dated`: it said when to come again.
    pub fn of_status(status: http::StatusCode, dated: bool) -> Verdict {
        match status.as_u16() {
            429 | 503 if dated => Verdict::Shed,
            _ => Verdict::Failed,
        }
    }

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::Shed => "shed",
            Verdict::Left => "left",
            Verdict::Unreachable => "unreachable",
            Verdict::Lost => "lost",
            Verdict::Impatient => "no_first_token",
            Verdict::Stalled => "stalled",
            Verdict::Cut => "cut",
            Verdict::ErrorEvent => "error_event",
            Verdict::Malformed => "malformed",
            Verdict::Failed => "failed",
            Verdict::NotSent => "not_sent",
        }
    }
}

/// When what came to a request.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// From the start of the try that answered to its first token.
    pub first_token: Option<Duration>,
    /// The longest wait between two pieces, their sum and number.
    pub gap_max: Duration,
    /// See `gap_max`.
    pub gaps: Duration,
    /// See `gap_max`.
    pub pieces: u32,
    /// Times its library asked again.
    pub retries: u32,
    /// Attempts that the gateway had made when the answer began.
    pub attempts: u32,
    /// The text is another than what the same question got before.
    pub differs: bool,
    /// When the first token came,
    pub first_at: Option<Instant>,
    /// and how long that was from the first try.
    pub waited: Option<Duration>,
    /// Position of the address that was tried last,
    pub door: usize,
    /// and the site whose answer began.
    pub site: Option<String>,
    /// How long each refusal took to come.
    pub refusals: Vec<Duration>,
}

/// Who asked, when, and when it was over, since the load began.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Position of the tier.
    pub class: usize,
    /// When.
    pub at: Duration,
    /// When it was over.
    pub ended: Duration,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Record {
    /// Who asked, and when.
    pub asked: Asked,
    /// In one word.
    pub verdict: Verdict,
    /// When what came.
    pub times: Times,
}

/// Counts while the load runs.
pub struct Tally(Mutex<Counts>);

struct Counts {
    tiers: Vec<Tier>,
    seconds: Vec<Second>,
    /// Each request, if they are to be kept.
    records: Option<Vec<Record>>,
}

/// One tier's requests.
#[derive(Clone, Debug, Default)]
pub struct Tier {
    /// Its name.
    pub name: String,
    /// Requests by what became of them.
    pub verdicts: Vec<(Verdict, u64)>,
    /// Times to first token, and mean times between pieces, in milliseconds.
    pub first_tokens: Vec<f64>,
    /// See `first_tokens`.
    pub gaps: Vec<f64>,
    /// Times the libraries asked again.
    pub retries: u64,
    /// Answers that another attempt than the first gave.
    pub moved: u64,
    /// Answers that differ from others to the same question.
    pub differing: u64,
    /// The longest gap, in milliseconds.
    pub gap_max: f64,
    /// How long refusals took to come, in milliseconds.
    pub refusals: Vec<f64>,
}

/// The requests that came in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// All that came.
    pub offered: u32,
    /// Of these, good ones,
    pub good: u32,
    /// and shed ones.
    pub shed: u32,
}

/// What came of a load.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// By tier.
    pub tiers: Vec<Tier>,
    /// By the second in which requests came.
    pub seconds: Vec<Second>,
    /// How long it took.
    pub took: Duration,
    /// Requests that had no end when the load was ended.
    pub unfinished: usize,
    /// Each request, if they were to be kept, in the order of their ends.
    pub records: Vec<Record>,
}

impl Tally {
    /// A tally for tiers of these names; `records`: each request is kept.
    pub fn new(names: Vec<String>, records: bool) -> Tally {
        let tier = |name| Tier { name, ..Tier::default() };
        let tiers = names.into_iter().map(tier).collect();
        let records = records.then(Vec::new);
        Tally(Mutex::new(Counts { tiers, seconds: Vec::new(), records }))
    }

    /// A request ended.
    pub fn count(&self, asked: Asked, Told { verdict, times }: Told) {
        let second = asked.at.as_secs() as usize;
        let mut counts = self.lock();
        if counts.seconds.len() <= second {
            counts.seconds.resize(second + 1, Second::default());
        }
        let at = &mut counts.seconds[second];
        at.offered += 1;
        at.good += u32::from(verdict == Verdict::Good);
        at.shed += u32::from(verdict == Verdict::Shed);
        let tier = &mut counts.tiers[asked.class];
        match tier.verdicts.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, count)) => *count += 1,
            None => tier.verdicts.push((verdict, 1)),
        }
        tier.retries += u64::from(times.retries);
        tier.refusals.extend(times.refusals.iter().copied().map(millis));
        if verdict == Verdict::Good {
            tier.good(&times);
        }
        if let Some(records) = &mut counts.records {
            records.push(Record { asked, verdict, times });
        }
    }

    /// How it stands, in one line.
    pub fn line(&self, since: Duration) -> String {
        let counts = self.lock();
        let sum = |of: fn(&Second) -> u32| counts.seconds.iter().map(of).sum::<u32>();
        format!(
            "{:>5.0} s  {} answered  {} good  {} shed",
            since.as_secs_f64(),
            sum(|s| s.offered),
            sum(|s| s.good),
            sum(|s| s.shed)
        )
    }

    /// What came of it.
    pub fn outcome(&self, took: Duration, unfinished: usize) -> Outcome {
        let counts = self.lock();
        let mut tiers = counts.tiers.clone();
        for tier in &mut tiers {
            tier.verdicts.sort_unstable();
            tier.first_tokens.sort_by(f64::total_cmp);
            tier.gaps.sort_by(f64::total_cmp);
            tier.refusals.sort_by(f64::total_cmp);
        }
        let records = counts.records.clone().unwrap_or_default();
        Outcome { tiers, seconds: counts.seconds.clone(), took, unfinished, records }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tier {
    /// A good one more.
    fn good(&mut self, times: &Times) {
        self.first_tokens.extend(times.first_token.map(millis));
        if times.pieces > 0 {
            self.gaps.push(millis(times.gaps) / f64::from(times.pieces));
        }
        self.gap_max = self.gap_max.max(millis(times.gap_max));
        self.moved += u64::from(times.attempts > 1);
        self.differing += u64::from(times.differs);
    }

    /// Requests that ended so.
    pub fn count(&self, verdict: Verdict) -> u64 {
        self.verdicts.iter().find(|(known, _)| *known == verdict).map_or(0, |(_, count)| *count)
    }

    /// All of them.
    pub fn offered(&self) -> u64 {
        self.verdicts.iter().map(|(_, count)| count).sum()
    }

    /// Those that were neither good nor shed, and did not leave by themselves.
    pub fn failed(&self) -> u64 {
        let fine = [Verdict::Good, Verdict::Shed, Verdict::Left];
        self.offered() - fine.iter().map(|verdict| self.count(*verdict)).sum::<u64>()
    }

    /// Good ones of those that stayed.
    pub fn goodput(&self) -> f64 {
        let stayed = self.offered() - self.count(Verdict::Left);
        if stayed == 0 { 1.0 } else { self.count(Verdict::Good) as f64 / stayed as f64 }
    }
}

impl Outcome {
    /// Whether nothing failed: all was answered well or refused with a date.
    pub fn is_sound(&self) -> bool {
        self.unfinished == 0 && self.tiers.iter().all(|tier| tier.failed() == 0)
    }

    /// As one JSON document.
    pub fn json(&self) -> Value {
        let tiers: serde_json::Map<String, Value> =
            self.tiers.iter().map(|tier| (tier.name.clone(), of_tier(tier))).collect();
        let seconds: Vec<Value> =
            self.seconds.iter().map(|s| json!([s.offered, s.good, s.shed])).collect();
        json!({
            "took_s": self.took.as_secs_f64(),
            "by_tier": tiers,
            "unfinished": self.unfinished,
            "seconds": { "columns": ["offered", "good", "shed"], "rows": seconds },
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<12} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}\n",
            "tier", "offered", "good", "shed", "failed", "TTFT p50", "p95", "p99", "ITL p50"
        );
        for tier in &self.tiers {
            let ttft = |q| percentile(&tier.first_tokens, q).map_or("-".into(), short);
            let _ = writeln!(
                text,
                "{:<12} {:>8} {:>7.2}% {:>7} {:>7} {:>8} {:>8} {:>8} {:>8}",
                tier.name,
                tier.offered(),
                100.0 * tier.goodput(),
                tier.count(Verdict::Shed),
                tier.failed(),
                ttft(0.5),
                ttft(0.95),
                ttft(0.99),
                percentile(&tier.gaps, 0.5).map_or("-".into(), short),
            );
        }
        for tier in self.tiers.iter().filter(|tier| !tier.refusals.is_empty()) {
            let (tries, after) = (tier.refusals.len(), |q| percentile(&tier.refusals, q));
            let [p50, p99] = [0.5, 0.99].map(|q| after(q).map_or("-".into(), short));
            let _ = writeln!(text, "{}: {tries} tries refused, p50 {p50}, p99 {p99}", tier.name);
        }
        for tier in self.tiers.iter().filter(|tier| tier.failed() > 0) {
            let fine = [Verdict::Good, Verdict::Shed, Verdict::Left];
            let bad = tier.verdicts.iter().filter(|(verdict, _)| !fine.contains(verdict));
            let bad: Vec<String> =
                bad.map(|(verdict, count)| format!("{} {}", count, verdict.word())).collect();
            let _ = writeln!(text, "{}: {}", tier.name, bad.join(", "));
        }
        if self.unfinished > 0 {
            let _ = writeln!(text, "{} had no end", self.unfinished);
        }
        text
    }
}

fn of_tier(tier: &Tier) -> Value {
    let verdicts: serde_json::Map<String, Value> = tier
        .verdicts
        .iter()
        .map(|(verdict, count)| (verdict.word().to_owned(), json!(count)))
        .collect();
    let quantiles = |all: &[f64]| {
        json!({
            "p50": percentile(all, 0.5),
            "p95": percentile(all, 0.95),
            "p99": percentile(all, 0.99),
            "max": all.last(),
        })
    };
    json!({
        "offered": tier.offered(),
        "outcomes": verdicts,
        "failed": tier.failed(),
        "goodput_ratio": tier.goodput(),
        "ttft_ms": quantiles(&tier.first_tokens),
        "itl_ms": quantiles(&tier.gaps),
        "gap_max_ms": tier.gap_max,
        "refused_tries": tier.refusals.len(),
        "refusal_ms": quantiles(&tier.refusals),
        "retries": tier.retries,
        "moved": tier.moved,
        "differing": tier.differing,
    })
}

/// The value that this share of `sorted` does not exceed.
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn short(millis: f64) -> String {
    match millis {
        _ if millis < 10.0 => format!("{millis:.1} ms"),
        _ if millis < 1000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.2} s", millis / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_counted_by_tier_and_second() {
        let tally = Tally::new(vec!["pro".into(), "free".into()], true);
        let first_token = Some(Duration::from_millis(80));
        let count = |class, second, verdict| {
            let at = Duration::from_secs(second);
            let times = Times { first_token, ..Times::default() };
            tally.count(Asked { class, at, ended: at }, Told { verdict, times });
        };
        count(0, 2, Verdict::Good);
        count(0, 2, Verdict::Left);
        count(1, 0, Verdict::Shed);
        count(1, 1, Verdict::Cut);
        let outcome = tally.outcome(Duration::from_secs(3), 0);
        assert_eq!(outcome.seconds[2], Second { offered: 2, good: 1, shed: 0 });
        assert_eq!((outcome.tiers[0].goodput(), outcome.tiers[0].failed()), (1.0, 0));
        assert_eq!((outcome.tiers[1].goodput(), outcome.tiers[1].failed()), (0.0, 1));
        assert_eq!(outcome.records.len(), 4);
        assert!(!outcome.is_sound() && outcome.table().contains("1 cut"));
        assert_eq!(outcome.json()["by_tier"]["pro"]["ttft_ms"]["p99"], 80.0);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let all: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&all, 0.5), Some(50.0));
        assert_eq!(percentile(&all, 0.99), Some(99.0));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
