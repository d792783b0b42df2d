//! The report of a drill: in short, what changed, why it matters, what to do next, and when what
//! happened.

use super::Watched;
use super::counts::{Figures, bounds, figures, percent};
use super::foretold::Foretold;
use super::gateways::Known;
use crate::command_line::Drill;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Forecast and measure differ by more than this, in hundredths: one of the two is wrong.
const APART: f64 = 5.0;
/// More decisions than this nobody reads; the first and the last tell most.
const TOLD_MAX: usize = 60;

/// Everything there is to say.
pub struct Report {
    site: String,
    percent: u8,
    how: String,
    tiers: Vec<Figures>,
    gateways: Vec<Known>,
    foretold: Result<Foretold, String>,
    well_after: Option<f64>,
}

impl Report {
    /// The report of what was watched.
    pub fn of(options: &Drill, watched: &Watched, foretold: Result<Foretold, String>) -> Report {
        let how = watched.gateways.iter().map(|known| known.state.how.clone());
        Report {
            site: options.site.clone(),
            percent: options.percent,
            how: how.into_iter().find(|how| !how.is_empty()).unwrap_or_default(),
            tiers: figures(&watched.gateways),
            gateways: watched.gateways.clone(),
            foretold,
            well_after: watched.well_after,
        }
    }

    /// Whether it lasted as long as it should everywhere: no floor broke, nobody stopped it.
    pub fn held(&self) -> bool {
        self.gateways
            .iter()
            .all(|known| known.state.ended.as_ref().is_some_and(|ended| ended.why == "time"))
    }

    /// The forecast of a tier, where it can be compared: it is of the loss of the whole site.
    fn forecast(&self, tier: &str) -> Option<f64> {
        let foretold = self.foretold.as_ref().ok().filter(|_| self.percent == 100)?;
        foretold.tiers.iter().find(|(name, _)| name == tier).map(|(_, share)| *share)
    }

    /// What was measured less what was forecast, in hundredths.
    fn apart(&self, tier: &Figures) -> Option<f64> {
        Some((tier.during.share()? - self.forecast(&tier.name)?) * 100.0)
    }

    /// Attempts while it lasted, and those broken on purpose.
    fn blast(&self) -> (u64, u64) {
        let sum = |of: fn(&Figures) -> u64| self.tiers.iter().map(of).sum();
        (sum(|tier| tier.attempts), sum(|tier| tier.broken))
    }

    /// What was done to what.
    fn deed(&self) -> String {
        format!("{} % of what went to {} was {}", self.percent, self.site, self.how)
    }

    /// In a few sentences.
    pub fn summary(&self) -> String {
        let mut text = match self.held() {
            true => format!("It held. {}", self.deed()),
            false => format!("It was stopped. {}", self.deed()),
        };
        let (_, from_end) = self.span();
        let _ = write!(text, " for {from_end:.0} s");
        let tiers = self.tiers.iter().filter(|tier| tier.all_during().asked > 0);
        let shares: Vec<String> = tiers
            .map(|tier| format!("{} {}", tier.name, percent(tier.all_during().share())))
            .collect();
        match shares.is_empty() {
            true => text.push_str(". Nobody asked for anything meanwhile."),
            false => {
                let _ = write!(text, ". Answered well were: {}.", shares.join(", "));
            }
        }
        for known in &self.gateways {
            match (&known.state.ended, &known.silent) {
                (Some(ended), _) if ended.why != "time" => {
                    let _ = write!(text, " {} ended it: {}.", known.url, ended.text);
                }
                (_, Some(why)) => {
                    let _ = write!(text, " {}: {why}.", known.url);
                }
                (_, None) => {}
            }
        }
        text
    }

    /// Seconds before it, and how long it lasted at most.
    fn span(&self) -> (f64, f64) {
        let each = self.gateways.iter().map(bounds);
        let spans = each.map(|(from, _, end)| (from, (end - from).max(0.0)));
        spans.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))).unwrap_or_default()
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = format!("# Drill at {}: {}\n\n", self.site, self.how);
        let _ = writeln!(text, "## TL;DR\n\n{}\n", self.summary());
        let _ = writeln!(text, "## What changed\n\n{}", self.changed());
        let _ = writeln!(text, "## Why it matters\n\n{}", self.matters());
        text.push_str("## What to do next\n\n");
        for line in self.next() {
            let _ = writeln!(text, "- {line}");
        }
        let _ = write!(text, "\n## Timeline\n\n{}", self.timeline());
        text
    }

    fn changed(&self) -> String {
        let mut text = String::from(
            "| tier | asked | good before | first seconds | then | after | shed | failed \
             | TTFT p50 / p95 before | during |\n|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for tier in self.tiers.iter().filter(|tier| tier.before.asked + tier.attempts > 0) {
            let during = tier.all_during();
            let ttft = |at: usize| {
                let [half, most] = tier.first_tokens[at].map(millis);
                format!("{half} / {most}")
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                tier.name,
                during.asked,
                percent(tier.before.share()),
                percent(tier.onset.share()),
                percent(tier.during.share()),
                percent(tier.after.share()),
                during.shed,
                during.failed,
                ttft(0),
                ttft(1)
            );
        }
        let (attempts, broken) = self.blast();
        let _ = writeln!(text, "\nOf {attempts} attempts {broken} were broken on purpose.");
        text
    }

    fn matters(&self) -> String {
        let foretold = match &self.foretold {
            Ok(foretold) => foretold,
            Err(why) => return format!("There is no forecast to compare with: {why}.\n"),
        };
        let mut text = format!(
            "`mainstay check` forecasts for the loss of {} at this load ({:.0} % of what all sites \
             carry; what is left carries {:.0} % of it):\n\n| tier | forecast | measured | \
             difference |\n|---|---|---|---|\n",
            self.site,
            foretold.level * 100.0,
            foretold.left * 100.0
        );
        for (name, share) in &foretold.tiers {
            let tier = self.tiers.iter().find(|tier| tier.name == *name);
            let measured = tier.and_then(|tier| tier.during.share());
            let apart = tier.and_then(|tier| self.apart(tier));
            let apart = apart.map_or_else(|| "-".to_owned(), |apart| format!("{apart:+.1}"));
            let _ = writeln!(
                text,
                "| {name} | {} | {} | {apart} |",
                percent(Some(*share)),
                percent(measured)
            );
        }
        if self.percent < 100 {
            text.push_str(
                "\nThe forecast is of the whole site's loss, and this drill broke a part of it: \
                 the two are not compared.\n",
            );
        }
        if let Some(assumed) = &foretold.assumed {
            let _ = writeln!(text, "\nAssumed: {assumed}.");
        }
        text
    }

    /// What follows from it.
    fn next(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let apart = |tier: &&Figures| self.apart(tier).is_some_and(|a| a.abs() > APART);
        let wrong: Vec<&str> =
            self.tiers.iter().filter(apart).map(|tier| tier.name.as_str()).collect();
        if !wrong.is_empty() {
            lines.push(format!(
                "Forecast and measure of {} are more than {APART:.0} points apart: mend capacity \
                 and [check] in the configuration before you believe `mainstay check`.",
                wrong.join(", ")
            ));
        }
        for known in &self.gateways {
            let Some(ended) = known.state.ended.as_ref() else { continue };
            let advice = match ended.why.as_str() {
                "floor" => {
                    "more capacity elsewhere or a substitute with room; or, if that little is \
                            meant, a lower --floor"
                }
                "gone" => "find out why that site went out; it may not carry what this one leaves",
                "doubt" => {
                    "look at this gateway's own log: it was late, or most sites failed at once"
                }
                "policy" => "do it again; the configuration changed meanwhile",
                _ => continue,
            };
            lines.push(format!("{}: {}: {advice}.", known.url, ended.text));
        }
        let failed: u64 = self.tiers.iter().map(|tier| tier.all_during().failed).sum();
        if failed > 0 {
            lines.push(format!(
                "{failed} requests failed or came late: `mainstay explain` tells of each why."
            ));
        }
        if self.well_after.is_none() {
            lines.push(format!(
                "{} was not held for well again in time; `mainstay top` shows how it stands.",
                self.site
            ));
        }
        if self.held() && failed == 0 && self.percent < 100 {
            let more = u32::from(self.percent).saturating_mul(4).min(100);
            lines.push(format!("Do it again with --percent {more}."));
        }
        if lines.is_empty() {
            lines.push("Nothing to mend. Do it again when sites or load have changed.".to_owned());
        }
        lines
    }

    fn timeline(&self) -> String {
        let several = self.gateways.len() > 1;
        let mut all: Vec<(f64, String)> = Vec::new();
        for known in &self.gateways {
            let named = if several { format!("{}: ", known.url) } else { String::new() };
            // One line for what is told of each request.
            let is_first =
                |at: usize, text: &str| !known.facts[..at].iter().any(|f| f.text == text);
            let often = |fact: &str| fact == "retries_exhausted";
            let told = known.facts.iter().enumerate();
            let told = told.filter(|(at, told)| !often(&told.fact) || is_first(*at, &told.text));
            let told = told.map(|(_, told)| told);
            all.extend(told.map(|told| (told.at_s, format!("{named}{}", told.text))));
        }
        if let Some(after) = self.well_after {
            let (from, lasted) = self.span();
            let text = format!("{} is held for well by every gateway", self.site);
            all.push((from + lasted + after, text));
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let left_out = all.len().saturating_sub(TOLD_MAX);
        let mut text = String::new();
        for (number, (at, what)) in all.iter().enumerate() {
            if left_out > 0 && number == TOLD_MAX / 2 {
                let _ = writeln!(text, "- … {left_out} more");
            }
            if left_out == 0 || number < TOLD_MAX / 2 || number >= TOLD_MAX / 2 + left_out {
                let _ = writeln!(text, "- {at:>6.1} s  {what}");
            }
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let (attempts, broken) = self.blast();
        let tiers: serde_json::Map<String, Value> =
            self.tiers.iter().map(|tier| (tier.name.clone(), self.tier_json(tier))).collect();
        let gateways: Vec<Value> = self.gateways.iter().map(gateway).collect();
        let foretold = match &self.foretold {
            Ok(foretold) => json!({
                "level": foretold.level,
                "left": foretold.left,
                "recovery_s": foretold.recovery,
                "models": foretold.models,
                "assumed": foretold.assumed,
                "good": foretold.tiers.iter().cloned().collect::<BTreeMap<_, _>>(),
            }),
            Err(why) => json!({ "none": why }),
        };
        json!({
            "held": self.held(),
            "site": self.site,
            "how": self.how,
            "percent": self.percent,
            "summary": self.summary(),
            "attempts": attempts,
            "broken": broken,
            "tiers": tiers,
            "forecast": foretold,
            "well_after_s": self.well_after,
            "next": self.next(),
            "gateways": gateways,
        })
    }

    fn tier_json(&self, tier: &Figures) -> Value {
        let sum = |sum: &super::counts::Sum| {
            json!({
                "asked": sum.asked, "good": sum.good, "shed": sum.shed, "failed": sum.failed,
                "good_ratio": sum.share(), "cost_units": sum.cost as f64 / 1000.0,
            })
        };
        let [before, during, after] =
            tier.first_tokens.map(|[half, most]| json!({ "p50": half, "p95": most }));
        json!({
            "floor": tier.floor,
            "before": sum(&tier.before),
            "onset": sum(&tier.onset),
            "during": sum(&tier.during),
            "after": sum(&tier.after),
            "attempts": tier.attempts,
            "broken": tier.broken,
            "spared": tier.spared,
            "ttft_ms": { "before": before, "during": during, "after": after },
            "forecast": self.forecast(&tier.name),
            "difference": self.apart(tier),
        })
    }
}

fn gateway(known: &Known) -> Value {
    let facts: Vec<Value> = known
        .facts
        .iter()
        .map(|told| json!({ "at_s": told.at_s, "fact": told.fact, "text": told.text }))
        .collect();
    let ended = known.state.ended.as_ref();
    json!({
        "admin": known.url,
        "ended": ended.map(|e| json!({ "at_s": e.at_s, "why": e.why, "text": e.text })),
        "silent": known.silent,
        "facts": facts,
    })
}

fn millis(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{time:.0} ms"))
}
