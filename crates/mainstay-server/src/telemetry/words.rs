//! Facts in words.

use super::{Names, drills};
use mainstay_core::fact::{CreditFact, DrillFact, Fact, How, Outcome, Rung, Verdict, Why};
use mainstay_core::names::{AttemptId, RequestId, TargetId, TierId};
use std::time::Duration;

/// The request a fact is about; `None` if it is about a target or a site.
pub(super) fn request(fact: &Fact) -> Option<RequestId> {
    match fact {
        Fact::Arrived { request, .. }
        | Fact::Waiting { request, .. }
        | Fact::Closed { request, .. }
        | Fact::RetriesExhausted { request, .. } => Some(*request),
        Fact::AttemptStarted { attempt, .. }
        | Fact::FirstToken { attempt, .. }
        | Fact::AttemptWhole { attempt, .. }
        | Fact::Miscounted { attempt, .. }
        | Fact::AttemptFailed { attempt, .. }
        | Fact::AttemptLeft { attempt, .. }
        | Fact::Drill(DrillFact::Broke { attempt, .. }) => Some(attempt.request),
        Fact::Health { .. }
        | Fact::Paused { .. }
        | Fact::Limited { .. }
        | Fact::Parked { .. }
        | Fact::Unparked { .. }
        | Fact::Learned { .. }
        | Fact::ContinuationOff { .. }
        | Fact::Credit(_)
        | Fact::Drill(_) => None,
    }
}

/// The fact's kind in one word.
pub(super) fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::Arrived { .. } => "arrived",
        Fact::AttemptStarted { .. } => "attempt_started",
        Fact::FirstToken { .. } => "first_token",
        Fact::AttemptWhole { .. } => "attempt_whole",
        Fact::Miscounted { .. } => "miscounted",
        Fact::AttemptFailed { .. } => "attempt_failed",
        Fact::AttemptLeft { .. } => "attempt_left",
        Fact::Waiting { .. } => "waiting",
        Fact::Closed { .. } => "closed",
        Fact::Health { .. } => "health",
        Fact::Paused { .. } => "paused",
        Fact::Limited { .. } => "limited",
        Fact::Parked { .. } => "parked",
        Fact::Unparked { .. } => "unparked",
        Fact::Learned { .. } => "learned",
        Fact::ContinuationOff { .. } => "continuation_off",
        Fact::RetriesExhausted { .. } => "retries_exhausted",
        Fact::Credit(fact) => credit_kind(fact),
        Fact::Drill(fact) => drills::kind(fact),
    }
}

/// The fact in a sentence.
pub(super) fn sentence(names: &Names, fact: &Fact) -> String {
    let at = |id: &TargetId| {
        let (site, model) = names.target(*id);
        format!("{site}/{model}")
    };
    match fact {
        Fact::Arrived { model, tier, .. } => {
            format!("asked for {}, tier {}", names.model(*model), names.tier(*tier))
        }
        Fact::AttemptStarted { attempt, target, how, relayed } => {
            format!("{} at {}{}", number(attempt), at(target), of_how(*how, *relayed))
        }
        Fact::FirstToken { attempt, target, after } => {
            format!("{} first token from {} after {}", number(attempt), at(target), secs(*after))
        }
        Fact::AttemptWhole { attempt, target, after, tokens } => {
            let time = secs(*after);
            format!("{} whole at {}: {tokens} tokens in {time}", number(attempt), at(target))
        }
        Fact::Miscounted { attempt, target, tokens, counted } => format!(
            "{} gave {tokens} pieces of text, and {} counts {counted} tokens",
            number(attempt),
            at(target)
        ),
        Fact::AttemptFailed { attempt, target, after, tokens, class, why } => format!(
            "{} failed at {} after {}: {} ({}), {tokens} tokens relayed",
            number(attempt),
            at(target),
            secs(*after),
            of_why(*why),
            class.word()
        ),
        Fact::AttemptLeft { attempt, target, after, tokens } => {
            let time = secs(*after);
            format!("{} left at {}: {tokens} tokens in {time}", number(attempt), at(target))
        }
        Fact::Waiting { target, wait, .. } => {
            format!("waits {} for {}", secs(*wait), at(target))
        }
        Fact::Closed { outcome, attempts, resumes, after, .. } => format!(
            "closed as {} after {}: {attempts} attempts, {resumes} resumes",
            of_outcome(*outcome),
            secs(*after)
        ),
        Fact::RetriesExhausted { tier, .. } => {
            format!("no retry: the budget of tier {} is used up", names.tier(*tier))
        }
        other => of_target(names, other),
    }
}

/// The sentence of a fact about a target.
fn of_target(names: &Names, fact: &Fact) -> String {
    let at = |id: &TargetId| {
        let (site, model) = names.target(*id);
        format!("{site}/{model}")
    };
    match fact {
        Fact::Health { target, from, to, why } => {
            format!("{} went from {} to {}: {why}", at(target), of_verdict(*from), of_verdict(*to))
        }
        Fact::Paused { target, class, wait } => {
            format!("{} takes nothing for {}: {}", at(target), secs(*wait), class.word())
        }
        Fact::Limited { target, concurrency, per_second } => format!(
            "{} is limited to {} at once, {} a second",
            at(target),
            concurrency.map_or("any number".to_owned(), |n| n.to_string()),
            per_second.map_or("any number".to_owned(), |n| format!("{n:.1}"))
        ),
        Fact::Parked { target, class, wait } => {
            format!("{} is parked: {}; asked again in {}", at(target), class.word(), secs(*wait))
        }
        Fact::Unparked { target } => format!("{} works again", at(target)),
        Fact::Learned { target, window, body } => format!(
            "{} showed its limit: window {}, body {}",
            at(target),
            window.map_or("unknown".to_owned(), |n| n.to_string()),
            body.map_or("unknown".to_owned(), |n| n.to_string())
        ),
        Fact::ContinuationOff { target } => format!("{} does not continue answers", at(target)),
        Fact::Credit(fact) => of_credit(names, fact),
        Fact::Drill(fact) => drills::sentence(names, fact),
        other => kind(other).to_owned(),
    }
}

fn credit_kind(fact: &CreditFact) -> &'static str {
    match fact {
        CreditFact::Lapsed { .. } => "credit_lapsed",
        CreditFact::Regained { .. } => "credit_regained",
        CreditFact::Drift { .. } => "clock_drift",
        CreditFact::PairingDropped { .. } => "pairing_dropped",
        CreditFact::PanicBegan { .. } => "panic_began",
        CreditFact::PanicEnded { .. } => "panic_ended",
        CreditFact::SheddingBegan { .. } => "shedding_began",
        CreditFact::SheddingEnded { .. } => "shedding_ended",
        CreditFact::Doubt { .. } => "self_doubt",
        CreditFact::OrderIgnored { .. } => "order_ignored",
        CreditFact::Readiness { .. } => "readiness",
        CreditFact::Slow { .. } => "slow",
        CreditFact::Spilled { .. } => "spilled",
    }
}

fn of_credit(names: &Names, fact: &CreditFact) -> String {
    let at = |id: &TargetId| {
        let (site, model) = names.target(*id);
        format!("{site}/{model}")
    };
    match fact {
        CreditFact::Lapsed { target } => format!("{} has not granted for 2 s", at(target)),
        CreditFact::Regained { target } => format!("{} grants again", at(target)),
        CreditFact::Drift { target, is_off: true } => {
            format!("the clock of {} runs at another pace: no credit there", at(target))
        }
        CreditFact::Drift { target, is_off: false } => {
            format!("the clock of {} runs at our pace again", at(target))
        }
        CreditFact::PairingDropped { target, labels } => {
            format!("{} does not take requests with labels {labels:#x}", at(target))
        }
        CreditFact::PanicBegan { model } => {
            let model = names.model(*model);
            format!("the sites that are up cannot carry {model}: the others are tried too")
        }
        CreditFact::PanicEnded { model } => {
            format!("the sites that are up carry {} again", names.model(*model))
        }
        CreditFact::SheddingBegan { model, tier } => {
            format!("tier {} of {} is refused in part", names.tier(*tier), names.model(*model))
        }
        CreditFact::SheddingEnded { model, tier } => {
            format!("tier {} of {} has room again", names.tier(*tier), names.model(*model))
        }
        CreditFact::Doubt { is_in_doubt: true } => {
            "most of what it uses failed at once: this gateway doubts itself".to_owned()
        }
        CreditFact::Doubt { is_in_doubt: false } => "this gateway trusts itself again".to_owned(),
        CreditFact::OrderIgnored { id, .. } => format!(
            "order {} of author {:016x} is not followed here: too little would stay in service",
            id.seq, id.author
        ),
        CreditFact::Readiness { model, lost, survives } => {
            let tiers = (0..).map(TierId).zip(survives).filter(|(_, share)| **share < 100);
            let short: Vec<String> = tiers
                .map(|(tier, share)| format!("{share} % of tier {}", names.tier(tier)))
                .collect();
            let model = names.model(*model);
            match short.is_empty() {
                true => format!("without {} all of {model} would be served", at(lost)),
                false => format!("without {} of {model}: {}", at(lost), short.join(", ")),
            }
        }
        CreditFact::Slow { target, is_slow: true, slow } => {
            let at = at(target);
            format!("{at} says it is {slow} times as slow as usual: its sessions go elsewhere")
        }
        CreditFact::Slow { target, is_slow: false, .. } => {
            format!("{} is about as fast as usual: its sessions come back", at(target))
        }
        CreditFact::Spilled { target, percent } => {
            format!("{percent} % of the sessions of {} go elsewhere", at(target))
        }
    }
}

fn number(attempt: &AttemptId) -> String {
    format!("attempt {}", attempt.number)
}

fn of_how(how: How, relayed: u32) -> String {
    match how {
        How::First => String::new(),
        How::Retry => " (retry)".to_owned(),
        How::Resume(rung) => {
            format!(" (resume by {}, {relayed} tokens already relayed)", of_rung(rung))
        }
    }
}

/// How a broken answer goes on, in one word.
pub(super) fn of_rung(rung: Rung) -> &'static str {
    match rung {
        Rung::Journal => "journal",
        Rung::Native => "native",
        Rung::Regenerate => "regenerate",
    }
}

/// What was seen, in words.
pub(super) fn of_why(why: Why) -> &'static str {
    match why {
        Why::Reply => "its reply or connection said so",
        Why::Silent => "silent",
        Why::NoFirstToken => "no first token",
        Why::Stalled => "stalled",
        Why::Dripped => "dripped",
        Why::Cut => "cut",
        Why::Empty => "empty answer",
        Why::Mismatch => "did not fit what was relayed",
    }
}

/// The outcome as metrics call it (operations §3); `rejected` is the client's own fault or the
/// provider's policy.
pub(super) fn of_outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "ok",
        Outcome::Refused => "shed",
        Outcome::Rejected => "rejected",
        Outcome::Failed => "upstream_error",
        Outcome::Expired => "deadline",
        Outcome::Gone => "client_gone",
    }
}

/// The verdict in one word.
pub(super) fn of_verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "up",
        Verdict::Suspect => "suspect",
        Verdict::Down => "down",
        Verdict::Probation => "probation",
    }
}

fn secs(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}
