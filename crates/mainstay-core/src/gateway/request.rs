//! The life of one request: what it asked, what was tried, and what a failure says about the next
//! step.

use crate::config::{Config, Limits, Needs};
use crate::cost::CostUnits;
use crate::fact::{How, Why};
use crate::gateway::joint::Standing;
use crate::gateway::latency::Histogram;
use crate::gateway::placement::Demand;
use crate::gateway::refusal::Tried;
use crate::names::{
    AttemptId, ClientFault, ErrorClass, Failure, ModelId, RequestId, Scope, SiteId, TargetId,
    TierId,
};
use crate::time::{Duration, Time};
use alloc::vec::Vec;

/// Attempts of all kinds that one request may make.
pub const ATTEMPTS: u8 = 3;
/// A failure seen within this time of sending, or of the last token, is fast: it says little about
/// the next try.
const FAST: Duration = Duration::from_secs(2);

/// What the client asked, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    /// The model it named.
    pub model: ModelId,
    /// Its tier.
    pub tier: TierId,
    /// Features it needs.
    pub needs: Needs,
    /// Tokens of the prompt, estimated.
    pub prompt: u32,
    /// Size of the request's body in bytes.
    pub body: u64,
    /// Most tokens wanted.
    pub max_tokens: Option<u32>,
    /// Answers wanted.
    pub choices: u32,
    /// The client's own deadline.
    pub deadline: Option<Duration>,
    /// Whose it is: tenants of a tier share it fairly, and a tenant's sessions are shed together.
    pub tenant: u32,
    /// Hash of its session, for the prefix cache; `None` where nothing tells one.
    pub session: Option<u64>,
    /// What its target must have, see `config::Target::labels`.
    pub labels: u64,
    /// What it is predicted to cost a site of ours, at its 90th percentile.
    pub cost: CostUnits,
}

/// What an attempt leaves behind, however it ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Output tokens of this attempt, at least.
    pub tokens: u32,
    /// How the whole answer stands now.
    pub standing: Standing,
    /// Gaps between its tokens.
    pub gaps: Histogram,
    /// Its tokens a second, where it was long enough.
    pub rate: Option<f64>,
    /// Its output tokens as the provider counts them, where that can be compared with `tokens`.
    pub counted: Option<u32>,
}

/// How much of a failed request had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Not a byte.
    Nothing,
    /// The protocol proves that it was not processed.
    NotProcessed,
    /// It may have been processed.
    Maybe,
}

/// An attempt that did not end whole.
#[derive(Clone, Debug)]
pub struct Broken {
    /// What it means.
    pub failure: Failure,
    /// What was seen.
    pub why: Why,
    /// How much was sent.
    pub sent: Sent,
    /// A pooled connection that had died before the request was sent.
    pub stale: bool,
    /// How long it had been quiet when it broke.
    pub quiet: Duration,
    /// What is left.
    pub report: Report,
}

/// An attempt under way.
#[derive(Clone, Debug)]
pub struct Running {
    /// Its id.
    pub attempt: AttemptId,
    /// Where.
    pub target: TargetId,
    /// Since when.
    pub started: Time,
    /// As what.
    pub how: How,
    /// Whether a token came.
    pub has_token: bool,
    /// When it was counted as good by its flow of tokens.
    pub flowed: Option<Time>,
    /// Whether the site said that it took it in.
    pub acked: bool,
}

/// Where a request was tried: as many targets as there are attempts, and sites that cannot be
/// reached for any model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    targets: [Option<TargetId>; ATTEMPTS as usize],
    sites: [Option<SiteId>; ATTEMPTS as usize],
}

impl Asked {
    /// A target was tried.
    pub fn target(&mut self, id: TargetId) {
        put(&mut self.targets, id);
    }

    /// A site cannot be reached.
    pub fn site(&mut self, id: SiteId) {
        put(&mut self.sites, id);
    }

    /// Targets have other numbers now, or none.
    pub fn rename(&mut self, to: impl Fn(TargetId) -> Option<TargetId>) {
        self.targets = self.targets.map(|id| id.and_then(&to));
        self.sites = Default::default();
    }

    /// Whether `id` was tried, or is at a site that cannot be reached.
    pub fn has(&self, config: &Config, id: TargetId) -> bool {
        self.targets.contains(&Some(id))
            || self.sites[0].is_some()
                && self.sites.contains(&Some(config.targets[usize::from(id.0)].site))
    }
}

fn put<T: Copy + PartialEq>(places: &mut [Option<T>], one: T) {
    if !places.contains(&Some(one))
        && let Some(free) = places.iter_mut().find(|place| place.is_none())
    {
        *free = Some(one);
    }
}

/// What a request is waiting for.
#[derive(Clone, Debug)]
pub enum State {
    /// An attempt.
    Running(Running),
    /// The same target again, at this moment.
    Waiting { target: TargetId, until: Time },
    /// Room anywhere; refused at `give_up`.
    Holding { again: Time, give_up: Time },
}

/// One request from its arrival to its one end.
#[derive(Clone, Debug)]
pub struct Life {
    /// What it asked.
    pub ask: Ask,
    /// When it came.
    pub arrived: Time,
    /// When it must have ended.
    pub deadline: Time,
    /// How long it waited for its first token, if one came.
    pub first_token: Option<Duration>,
    /// Attempts so far.
    pub attempts: u8,
    /// Of those, resumes.
    pub resumes: u8,
    /// Whether one attempt went back to a target already tried.
    pub returned: bool,
    /// Whether a refusal of this very request by one site was answered by asking another.
    pub moved: bool,
    /// Targets tried, and sites that cannot be reached at all.
    pub asked: Asked,
    /// Hash of its session, or of itself.
    pub session: u64,
    /// Where that session is at home, among sites of ours.
    pub home: Option<TargetId>,
    /// Whether only a site with credit may be asked: an unpaid attempt was made.
    pub paid_only: bool,
    /// Where it was counted as wanted before it was placed.
    pub counted: Option<TargetId>,
    /// Where continuation by the dialect's own form failed for this answer.
    pub no_native: Vec<TargetId>,
    /// Failures in order.
    pub story: Vec<Tried>,
    /// How its answer stands.
    pub standing: Standing,
    /// What it waits for.
    pub state: State,
    /// Its moment in the calendar of deadlines.
    pub planned: Option<Time>,
}

impl Life {
    /// Its place in the line of its tier and model.
    pub fn place(&self, request: RequestId) -> (TierId, ModelId, Time, RequestId) {
        (self.ask.tier, self.ask.model, self.arrived, request)
    }

    /// What the next target must be able to do.
    pub fn demand(&self, now: Time) -> Demand {
        let done = self.standing.tokens;
        Demand {
            needs: self.ask.needs,
            prompt: self.ask.prompt.saturating_add(done),
            max_tokens: self.ask.max_tokens.map(|most| most.saturating_sub(done).max(1)),
            body: self.ask.body,
            rank: self.ask.tier.0,
            labels: self.ask.labels,
            cost: self.ask.cost,
            session: self.session,
            home: self.home,
            left: self.deadline.since(now),
            asked: self.asked,
            paid_only: self.paid_only,
            may_trickle: self.attempts == 0,
        }
    }
}

/// Whether the same target may be tried once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// No: what happened would happen again.
    Never,
    /// After a short pause, to be chosen between these.
    After(Duration, Duration),
    /// When the site's own time is over.
    WaitOut(Duration),
}

/// What a failure says about the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// Whether the same target may be tried once more.
    pub same: Same,
    /// Whether another target may do better.
    pub elsewhere: bool,
    /// Whether the whole site is out of the question.
    pub avoid_site: bool,
}

/// What `broken` teaches, seen after `seen_in` since sending or since the last token.
pub fn lesson(broken: &Broken, seen_in: Duration, limits: &Limits) -> Lesson {
    let elsewhere = Lesson { same: Same::Never, elsewhere: true, avoid_site: false };
    let relayed = broken.report.standing.relayed;
    match broken.why {
        Why::Silent | Why::NoFirstToken | Why::Stalled | Why::Dripped | Why::Mismatch => elsewhere,
        Why::Reply | Why::Cut | Why::Empty => match broken.failure.class {
            ErrorClass::ClientFault(ClientFault::Invalid) | ErrorClass::Policy => {
                Lesson { elsewhere: false, ..elsewhere }
            }
            ErrorClass::ClientFault(_)
            | ErrorClass::OurAuth
            | ErrorClass::OurBilling
            | ErrorClass::Dead(Scope::Model) => elsewhere,
            ErrorClass::Dead(Scope::Site) => Lesson { avoid_site: true, ..elsewhere },
            ErrorClass::ThrottleAccount | ErrorClass::ThrottleBurst | ErrorClass::Overload => {
                match broken.failure.retry_after {
                    Some(wait) if !relayed && wait <= limits.wait_max => {
                        Lesson { same: Same::WaitOut(wait), ..elsewhere }
                    }
                    _ => elsewhere,
                }
            }
            ErrorClass::Transient | ErrorClass::PoisonedStream if seen_in <= FAST => {
                let is_clean = broken.stale || broken.sent == Sent::NotProcessed;
                let (low, high) = limits.retry_pause;
                let at_once = relayed || is_clean;
                let (low, high) = if at_once { Default::default() } else { (low, high) };
                Lesson { same: Same::After(low, high), ..elsewhere }
            }
            ErrorClass::Transient | ErrorClass::PoisonedStream => elsewhere,
        },
    }
}

/// Whether the failure is the target's own fault, and so a strike against its health.
pub fn is_strike(broken: &Broken) -> bool {
    let is_clean = broken.stale || broken.sent == Sent::NotProcessed;
    match broken.why {
        Why::Mismatch => false,
        _ if is_clean => false,
        _ => matches!(
            broken.failure.class,
            ErrorClass::Transient | ErrorClass::PoisonedStream | ErrorClass::Dead(Scope::Site)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(class: ErrorClass, why: Why) -> Broken {
        Broken {
            failure: Failure::ours(class, ""),
            why,
            sent: Sent::Maybe,
            stale: false,
            quiet: Duration::ZERO,
            report: Report::default(),
        }
    }

    #[test]
    fn a_fast_transient_fault_may_return_once_a_slow_one_may_not() {
        let limits = Limits::default();
        let fault = broken(ErrorClass::Transient, Why::Reply);
        let (low, high) = limits.retry_pause;
        assert_eq!(lesson(&fault, FAST, &limits).same, Same::After(low, high));
        let slow = FAST + Duration::from_millis(1);
        assert_eq!(lesson(&fault, slow, &limits).same, Same::Never);
    }

    #[test]
    fn only_a_short_retry_after_is_waited_out() {
        let limits = Limits::default();
        let mut fault = broken(ErrorClass::ThrottleAccount, Why::Reply);
        assert_eq!(lesson(&fault, FAST, &limits).same, Same::Never);
        fault.failure.retry_after = Some(Duration::from_secs(2));
        let wait = Same::WaitOut(Duration::from_secs(2));
        assert_eq!(lesson(&fault, FAST, &limits).same, wait);
        fault.failure.retry_after = Some(Duration::from_secs(4));
        assert_eq!(lesson(&fault, FAST, &limits).same, Same::Never);
    }

    #[test]
    fn overload_throttles_and_client_faults_are_no_strikes() {
        for class in [
            ErrorClass::Overload,
            ErrorClass::ThrottleAccount,
            ErrorClass::ThrottleBurst,
            ErrorClass::OurAuth,
            ErrorClass::OurBilling,
            ErrorClass::Policy,
            ErrorClass::ClientFault(ClientFault::Context),
            ErrorClass::Dead(Scope::Model),
        ] {
            assert!(!is_strike(&broken(class, Why::Reply)), "{class:?}");
        }
        assert!(is_strike(&broken(ErrorClass::Dead(Scope::Site), Why::Silent)));
    }
}
