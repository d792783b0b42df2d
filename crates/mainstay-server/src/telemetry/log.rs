//! Writes log lines, from another thread: a full disk or a stuck terminal holds up no request.
//!
//! At the usual level there is one line per closed request and one per fact that is not routine.

use super::record::Closing;
use super::scribe::Scribe;
use super::{Names, format_request, words};
use crate::setup::LogFormat;
use mainstay_core::fact::{CreditFact, DrillFact, Fact, SiteFact, Verdict};
use std::io::IsTerminal;
use tracing::Level;

/// The running log. What was written is flushed when this is dropped.
pub struct Log {
    scribe: Scribe,
}

impl Log {
    /// Sends everything of at least `level` to stderr. Fails if the process has a log already.
    pub fn start(level: Level, format: LogFormat) -> Result<Log, String> {
        let scribe = Scribe::start(std::io::stderr())
            .map_err(|error| format!("the log's thread cannot start: {error}"))?;
        let terminal = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt()
            .with_max_level(level)
            .with_target(false)
            .with_ansi(terminal && std::env::var_os("NO_COLOR").is_none())
            .with_writer(scribe.desk());
        let json = match format {
            LogFormat::Auto => !terminal,
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        match json {
            true => lines.json().flatten_event(true).try_init(),
            false => lines.try_init(),
        }
        .map_err(|e| format!("the log cannot start: {e}"))?;
        Ok(Log { scribe })
    }

    /// Lines that were dropped because the writer could not keep up.
    pub fn dropped(&self) -> usize {
        self.scribe.desk().dropped()
    }
}

/// Whether an operator who watches would want to see it: it is about a site, or about the service,
/// and not one request's usual way.
pub(super) fn is_notable(fact: &Fact) -> bool {
    !matches!(
        fact,
        Fact::Closed { .. }
            | Fact::Arrived { .. }
            | Fact::AttemptStarted { .. }
            | Fact::FirstToken { .. }
            | Fact::Miscounted { .. }
            | Fact::AttemptWhole { .. }
            | Fact::AttemptLeft { .. }
            | Fact::AttemptFailed { .. }
            | Fact::Waiting { .. }
            | Fact::Drill(DrillFact::Broke { .. })
    )
}

/// Writes the line of a fact, if it deserves one.
pub(super) fn fact(names: &Names, fact: &Fact, closing: Option<&Closing>) {
    match fact {
        Fact::Closed { .. } => closing.into_iter().for_each(closed),
        Fact::Arrived { .. }
        | Fact::AttemptStarted { .. }
        | Fact::FirstToken { .. }
        | Fact::Miscounted { .. }
        | Fact::AttemptWhole { .. }
        | Fact::AttemptLeft { .. }
        | Fact::Drill(DrillFact::Broke { .. }) => {
            if tracing::enabled!(Level::DEBUG) {
                let request = words::request(fact).map(format_request);
                let text = words::sentence(names, fact);
                tracing::debug!(fact = words::kind(fact), request, "{text}");
            }
        }
        Fact::AttemptFailed { .. } | Fact::Waiting { .. } => {
            if tracing::enabled!(Level::INFO) {
                let request = words::request(fact).map(format_request);
                let text = words::sentence(names, fact);
                tracing::info!(fact = words::kind(fact), request, "{text}");
            }
        }
        Fact::Paused { .. }
        | Fact::Limited { .. }
        | Fact::Unparked { .. }
        | Fact::Learned { .. }
        | Fact::ContinuationOff { .. }
        | Fact::Credit(
            CreditFact::Regained { .. }
            | CreditFact::Drift { is_off: false, .. }
            | CreditFact::Doubt { is_in_doubt: false }
            | CreditFact::PanicEnded { .. }
            | CreditFact::SheddingEnded { .. }
            | CreditFact::Readiness { .. }
            | CreditFact::Slow { is_slow: false, .. }
            | CreditFact::Spilled { .. },
        )
        | Fact::Health { to: Verdict::Up | Verdict::Probation, .. } => {
            let text = words::sentence(names, fact);
            tracing::info!(fact = words::kind(fact), "{text}");
        }
        Fact::Health { to: Verdict::Suspect | Verdict::Down, .. }
        | Fact::Parked { .. }
        | Fact::RetriesExhausted { .. }
        | Fact::Credit(
            CreditFact::Lapsed { .. }
            | CreditFact::Drift { is_off: true, .. }
            | CreditFact::PairingDropped { .. }
            | CreditFact::Doubt { is_in_doubt: true }
            | CreditFact::OrderIgnored { .. }
            | CreditFact::PanicBegan { .. }
            | CreditFact::Slow { is_slow: true, .. }
            | CreditFact::SheddingBegan { .. },
        )
        // Whoever is woken meanwhile must find out at once that it is a drill.
        | Fact::Drill(
            DrillFact::Refused { .. }
            | DrillFact::Accepted { .. }
            | DrillFact::Began { .. }
            | DrillFact::Capped { .. }
            | DrillFact::Ended { .. },
        ) => {
            let request = words::request(fact).map(format_request);
            let text = words::sentence(names, fact);
            tracing::warn!(fact = words::kind(fact), request, "{text}");
        }
    }
}

/// Writes the line of a site's fact, if it deserves one.
pub(super) fn site_fact(names: &Names, fact: &SiteFact) {
    let of = |target| names.target(target).1;
    match fact {
        SiteFact::Silent { epoch, wait } => tracing::info!(
            fact = "silent",
            epoch,
            "takes over, and grants nothing for {} ms: older grants may still be in use",
            wait.as_millis()
        ),
        SiteFact::RampMoved { target, from, to, why } => {
            tracing::info!(fact = "ramp_moved", model = of(*target), from, to, "{why}");
        }
        SiteFact::CapacityMoved { target, from, to } => tracing::info!(
            fact = "capacity_moved",
            model = of(*target),
            from = from.as_f64(),
            to = to.as_f64(),
            "what the site can carry changed"
        ),
        SiteFact::Drift { from, thousandths, is_closed } => tracing::warn!(
            fact = "drift",
            gateway = from.0,
            thousandths,
            is_closed,
            "its clock and ours run apart"
        ),
        SiteFact::Offered { from, to } => {
            tracing::info!(fact = "offered", ?from, ?to, "what the site takes changed");
        }
        SiteFact::OrderIgnored { id } => tracing::warn!(
            fact = "order_ignored",
            author = id.author,
            seq = id.seq,
            "ignored here: too little would stay in service"
        ),
        SiteFact::Refused { work, reason, .. } | SiteFact::HandedBack { work, reason, .. } => {
            let request = format_request(work.attempt.request);
            tracing::debug!(fact = "refused", request, ?reason, "not taken in");
        }
        SiteFact::Shed { work, waited, .. } => {
            let request = format_request(work.attempt.request);
            let waited_ms = waited.as_millis() as u64;
            tracing::debug!(fact = "shed", request, waited_ms, "waited too long");
        }
        SiteFact::GivesWay { work, after, .. } => {
            let request = format_request(work.attempt.request);
            let after_ms = after.as_millis() as u64;
            tracing::debug!(fact = "gives_way", request, after_ms, "gets what is left over");
        }
        SiteFact::Preempted { work, worker, by, .. } => {
            let request = format_request(work.attempt.request);
            let by = format_request(by.attempt.request);
            tracing::debug!(fact = "preempted", request, worker = worker.0, by, "waits again");
        }
        SiteFact::Late { work, left, .. } => {
            let request = format_request(work.attempt.request);
            let left_ms = left.as_millis() as u64;
            tracing::debug!(fact = "late", request, left_ms, "waits behind those in time");
        }
        SiteFact::MovedInside { work, worker } => {
            let request = format_request(work.attempt.request);
            tracing::info!(fact = "moved_inside", request, worker = worker.0, "lost by a worker");
        }
    }
}

fn closed(closing: &Closing) {
    let asked = closing.asked.as_ref();
    tracing::info!(
        request = format_request(closing.request),
        model = asked.map(|(model, _, names)| names.model(*model)),
        tier = asked.map(|(_, tier, names)| names.tier(*tier)),
        outcome = words::of_outcome(closing.outcome),
        attempts = closing.attempts,
        resumes = closing.resumes,
        after_ms = closing.after.as_millis() as u64,
        first_token_ms = closing.first_token.map(|t| t.as_millis() as u64),
        "request closed"
    );
}
