//! What users report of one component: how many in five minutes, beside the same hour of earlier
//! weeks.
//!
//! Two tests, each with a stated rate of false alarms. *A surge*: so many reports in five minutes
//! as chance brings less than once in a million such windows; one window ends each minute, so that
//! is less than one false alarm in two years. *A slow ramp*: a cumulative sum of evidence for twice
//! the usual rate against the usual one (CUSUM, Page 1954); it crosses its bound by chance after
//! e^14 minutes on average or later (Lorden 1971), which is two years. Both need several people.
//!
//! Reports alone never make a component look broken: they are shown as reports.

use crate::time::Duration;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// In minutes: a week, and what lies around the same minute of it that counts as the same.
const WEEK: u64 = 7 * 24 * 60;
const AROUND: u64 = 15;
/// So many weeks are looked back.
const WEEKS: u64 = 6;
/// Before there is a week: the last day, without the last half hour.
const DAY: u64 = 24 * 60;
const LATEST: u64 = 30;
/// Somebody always has trouble: fewer reports a minute than this are not taken for the usual rate.
const LEAST: f64 = 0.2;
/// The window, in minutes.
const WINDOW: u64 = 5;
/// Chance that brings a surge in a window.
const CHANCE: f64 = 1e-6;
/// People who must report, however many reports there are.
const PEOPLE: usize = 5;
/// ln 2, and the bound of the cumulative sum: what speaks for twice the usual rate.
const LN_2: f64 = core::f64::consts::LN_2;
const RAMP: f64 = 14.0;
/// Of one reporter only the first report in so many minutes counts.
const ONCE: u64 = 30;
/// Reporters remembered. More in half an hour are a surge, whoever they are.
const REMEMBERED: usize = 4096;
/// A surge is over when for so many minutes chance would bring as much one time in a hundred.
const CALM: u64 = 10;
const USUAL: f64 = 0.01;

/// What was reported in one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Minute {
    /// Minutes since 1970.
    pub minute: u64,
    /// Reports that count.
    pub reports: u32,
    /// Whether it is no usual minute: something was wrong.
    pub is_out: bool,
}

/// What is shown of reports.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reported {
    /// In the last half hour.
    pub lately: u32,
    /// A usual half hour has so many.
    pub usual: f64,
    /// Whether it is a surge.
    pub is_surge: bool,
}

/// What users report of one component.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd {
    /// By minute; minutes without a report are not here.
    minutes: BTreeMap<u64, (u32, bool)>,
    /// The first minute that was seen, and the first that the cumulative sum does not know.
    began: Option<u64>,
    summed: u64,
    /// Who reported, and when.
    reporters: VecDeque<(u64, u64)>,
    ramp: f64,
    surge: Option<Surge>,
}

/// Users report problems.
#[derive(Clone, Copy, Debug)]
struct Surge {
    /// The last minute in which it was one.
    last: u64,
    /// Whether the cumulative sum found it.
    is_ramp: bool,
}

impl Crowd {
    /// Somebody reports; whether it counts.
    pub(super) fn report(&mut self, minute: u64, reporter: u64) -> bool {
        self.began.get_or_insert(minute);
        while self.reporters.front().is_some_and(|(at, _)| at + ONCE <= minute) {
            self.reporters.pop_front();
        }
        let is_known = self.reporters.iter().any(|(_, known)| *known == reporter);
        if is_known || self.reporters.len() >= REMEMBERED {
            return false;
        }
        self.reporters.push_back((minute, reporter));
        let (reports, _) = self.minutes.entry(minute).or_default();
        *reports = reports.saturating_add(1);
        true
    }

    /// Looks at it in this minute; whether a surge began (true) or ended (false).
    pub(super) fn judge(&mut self, minute: u64, is_impaired: bool) -> Option<bool> {
        self.began.get_or_insert(minute);
        if self.summed < minute {
            self.passed(minute);
        }
        if is_impaired {
            self.minutes.entry(minute).or_default().1 = true;
        }
        let usual = self.usual(minute);
        let seen = self.reports(minute.saturating_sub(WINDOW - 1), minute);
        let chance = chance_of(seen, usual * f64::from(WINDOW as u32));
        let people = self.reporters.iter().filter(|(at, _)| at + WINDOW > minute).count();
        let is_surge = chance < CHANCE && people >= PEOPLE;
        let is_ramp = self.ramp >= RAMP && self.reporters.len() >= PEOPLE;
        match &mut self.surge {
            None if is_surge || is_ramp => {
                self.surge = Some(Surge { last: minute, is_ramp: !is_surge });
                Some(true)
            }
            None => None,
            Some(surge) if chance < USUAL || surge.is_ramp && self.ramp > RAMP / 2.0 => {
                surge.last = minute;
                None
            }
            Some(surge) if surge.last + CALM <= minute => {
                (self.surge, self.ramp) = (None, 0.0);
                Some(false)
            }
            Some(_) => None,
        }
    }

    /// Takes whole minutes into the cumulative sum, and lets go of what is older than six weeks.
    fn passed(&mut self, minute: u64) {
        // After a stop nobody knows what was reported meanwhile.
        let from = self.summed.max(minute.saturating_sub(ONCE));
        for each in from..minute {
            let reports = self.reports(each, each);
            let more = f64::from(reports) * LN_2 - self.usual(each);
            self.ramp = (self.ramp + more).clamp(0.0, 1.25 * RAMP);
        }
        self.summed = minute;
        let oldest = minute.saturating_sub(WEEKS * WEEK + AROUND);
        self.minutes = self.minutes.split_off(&oldest);
    }

    /// Reports in a usual minute like this one: as many as it may be at most, by what was seen, so
    /// that little that is known raises no alarm.
    fn usual(&self, minute: u64) -> f64 {
        let (reports, minutes) = self.known(minute);
        let reports = f64::from(reports);
        let most = if minutes == 0 { 0.0 } else { reports + 2.0 * root(reports + 1.0) + 1.0 };
        LEAST.max(most / f64::from(minutes.max(1)))
    }

    /// Reports in minutes like this one, and in how many.
    fn known(&self, minute: u64) -> (u32, u32) {
        let began = self.began.unwrap_or(minute);
        let mut sum = (0, 0);
        for week in 1..=WEEKS {
            let Some(same) = minute.checked_sub(week * WEEK) else { break };
            self.add(&mut sum, same.saturating_sub(AROUND).max(began), same + AROUND);
        }
        if sum.1 == 0 {
            let from = minute.saturating_sub(DAY).max(began);
            self.add(&mut sum, from, minute.saturating_sub(LATEST));
        }
        sum
    }

    /// Adds the reports of usual minutes of this span, and how many such minutes there are.
    fn add(&self, sum: &mut (u32, u32), from: u64, to: u64) {
        if from > to {
            return;
        }
        let mut minutes = u32::try_from(to - from + 1).unwrap_or(u32::MAX);
        for (reports, is_out) in self.minutes.range(from..=to).map(|(_, each)| each) {
            match is_out {
                true => minutes -= 1,
                false => sum.0 = sum.0.saturating_add(*reports),
            }
        }
        sum.1 = sum.1.saturating_add(minutes);
    }

    fn reports(&self, from: u64, to: u64) -> u32 {
        self.minutes.range(from..=to).fold(0, |sum, (_, each)| sum.saturating_add(each.0))
    }

    pub(super) fn is_surge(&self) -> bool {
        self.surge.is_some()
    }

    /// What is shown of it.
    pub(super) fn shown(&self, minute: u64) -> Reported {
        let lately = self.reports(minute.saturating_sub(ONCE - 1), minute);
        let (reports, minutes) = self.known(minute);
        let usual = f64::from(reports) * f64::from(ONCE as u32) / f64::from(minutes.max(1));
        Reported { lately, usual, is_surge: self.is_surge() }
    }

    /// Reports by ten minutes of the day that ends now, and what is usual for each.
    pub(super) fn day(&self, minute: u64) -> Vec<(u32, f64)> {
        let from = (minute + 1).saturating_sub(DAY);
        let tens = (0..DAY / 10).map(|ten| from + ten * 10);
        let usual = |at: u64| {
            let (reports, minutes) = self.known(at + 5);
            f64::from(reports) * 10.0 / f64::from(minutes.max(1))
        };
        let told = |at: u64| (self.reports(at, at + 9), usual(at));
        tens.map(told).collect()
    }

    /// What has to be kept over a restart.
    pub(super) fn kept(&self) -> (Option<u64>, Vec<Minute>) {
        let minute = |(minute, (reports, is_out)): (&u64, &(u32, bool))| Minute {
            minute: *minute,
            reports: *reports,
            is_out: *is_out,
        };
        (self.began, self.minutes.iter().map(minute).collect())
    }

    /// What was kept.
    pub(super) fn of(began: Option<u64>, minutes: &[Minute]) -> Crowd {
        let minutes = minutes.iter().map(|each| (each.minute, (each.reports, each.is_out)));
        Crowd { minutes: minutes.collect(), began, ..Crowd::default() }
    }
}

/// The chance that so many or more come where `mean` are usual, if they come by themselves
/// (Poisson).
fn chance_of(seen: u32, mean: f64) -> f64 {
    // Each term is the one before times mean/k: from the likeliest on nothing overflows.
    let likeliest = mean.min(1e9) as u32;
    let (mut below, mut above) = (0.0, 0.0);
    let mut add = |k: u32, term: f64| match k < seen {
        true => below += term,
        false => above += term,
    };
    let mut term = 1.0;
    let mut k = likeliest;
    while term > 1e-30 {
        add(k, term);
        k += 1;
        term *= mean / f64::from(k);
    }
    term = 1.0;
    k = likeliest;
    while k > 0 && term > 1e-30 {
        term *= f64::from(k) / mean;
        k -= 1;
        add(k, term);
    }
    above / (below + above)
}

/// The square root, by Newton's steps.
fn root(of: f64) -> f64 {
    (0..40).fold(of.max(1.0), |guess, _| (guess + of / guess) / 2.0)
}

/// Whole minutes of a time.
pub(super) fn minutes(of: Duration) -> u64 {
    of.as_secs() / 60
}
