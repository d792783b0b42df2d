//! How the sites stand, for whoever tells people about it.
//!
//! Read from what this gateway believes anyway; asking changes nothing. A site is told by its own
//! attempts here: one that never was tried counts as up.

use crate::fact::Verdict;
use crate::gateway::Gateway;
use crate::gateway::placement::Target;
use crate::gateway::request::State;
use crate::message::Standing;
use crate::names::{ErrorClass, TargetId};
use crate::time::{Duration, Time};
use alloc::string::String;
use alloc::vec::Vec;

/// More models than this nobody reads.
const MODELS: usize = 8;
/// When to try again where nothing is known.
const RETRY_UNKNOWN: Duration = Duration::from_secs(5);
/// A site whose first token usually takes longer is told as slow: what the public status page
/// promises unless its operator says otherwise.
const SLOW_FROM: Duration = Duration::from_secs(5);

/// How everything stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Every site but the embedded engine, in the operator's order.
    pub sites: Vec<SiteState>,
    /// The model that was asked for, then others of the configuration.
    pub models: Vec<ModelState>,
    /// Requests that wait for room or for a moment to come.
    pub waiting: usize,
    /// When a new try is worth it, if no site can answer now.
    pub retry: Option<Duration>,
}

/// How one site stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteState {
    /// Its name.
    pub name: String,
    /// How it is.
    pub condition: Condition,
    /// When it is asked again, if that is known. Only of a full site is it the time that the site
    /// itself named or that usually does.
    pub again: Option<Duration>,
}

/// How a site is, the better the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// It answers, or was never tried.
    Up,
    /// It answers, and its first token usually is late.
    Slow,
    /// It answers again, but must prove itself.
    Recovering,
    /// Throttled or overloaded; alive.
    Full,
    /// An operator took it out of use.
    Drained,
    /// The provider says that the account cannot pay.
    NoCredit,
    /// The provider refuses our key.
    KeyRefused,
    /// It does not answer.
    Down,
}

impl Condition {
    /// Whether a request may well be answered there.
    pub fn answers(self) -> bool {
        matches!(self, Condition::Up | Condition::Slow | Condition::Recovering)
    }
}

/// Who answers for one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelState {
    /// Its name.
    pub name: String,
    /// Positions in `Outlook::sites` of those that can answer it now.
    pub by: Vec<usize>,
    /// The first other model that would be asked in its place, the embedded engine's left out.
    pub substitute: Option<String>,
}

impl Gateway {
    /// How the sites stand; the model that `asked` names comes first.
    pub fn outlook(&self, now: Time, asked: &str) -> Outlook {
        let embedded = |site: usize| self.config.sites[site].is_embedded();
        let places: Vec<usize> = (0..self.config.sites.len()).filter(|s| !embedded(*s)).collect();
        let sites: Vec<SiteState> = places.iter().map(|site| self.site_state(now, *site)).collect();
        let waits = |state: &State| !matches!(state, State::Running(_));
        let lives = self.lives.sorted();
        let waiting = lives.iter().filter(|(_, life)| waits(&life.state)).count();
        let answers = sites.iter().any(|site| site.condition.answers());
        let soonest = sites.iter().filter_map(|site| site.again).min();
        let retry = (!answers && !sites.is_empty()).then(|| soonest.unwrap_or(RETRY_UNKNOWN));
        let models = self.model_order(asked);
        let models = models.into_iter().map(|id| self.model_state(now, id, &places)).collect();
        Outlook { sites, models, waiting, retry }
    }

    /// How each site stands, in the order of the configuration: for a status page. What was never
    /// tried is unknown, and a full site is up.
    pub fn standings(&self, now: Time) -> Vec<Standing> {
        let standing = |site: usize| {
            let mut here = self.targets_of(site).peekable();
            if here.peek().is_none() {
                return Standing::Unknown;
            }
            if here.all(|target| target.shut) {
                return Standing::Shut;
            }
            let was_seen = |target: &Target| !target.latency.first_token_usual().is_zero();
            match self.site_state(now, site).condition {
                Condition::NoCredit | Condition::KeyRefused | Condition::Down => Standing::Down,
                _ if !self.targets_of(site).any(was_seen) => Standing::Unknown,
                Condition::Up | Condition::Slow | Condition::Recovering => Standing::Up,
                Condition::Full | Condition::Drained => Standing::Up,
            }
        };
        (0..self.config.sites.len()).map(standing).collect()
    }

    fn targets_of(&self, site: usize) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(move |(id, _)| self.site_of(*id) == site).map(|(_, each)| each)
    }

    fn site_state(&self, now: Time, site: usize) -> SiteState {
        let states: Vec<(Condition, Option<Duration>, bool)> = self
            .targets_of(site)
            .map(|target| {
                let (condition, again) = condition(now, target);
                let is_proven = !target.latency.first_token_usual().is_zero();
                (condition, again, is_proven && condition.answers())
            })
            .collect();
        // One model that answers makes a site up, if it was seen to; else the worst model tells.
        let proven = states.iter().filter(|(_, _, proven)| *proven).min_by_key(|state| state.0);
        let told = proven.or(states.iter().max_by_key(|state| state.0));
        let (condition, again) = told.map_or((Condition::Up, None), |told| (told.0, told.1));
        SiteState { name: self.config.sites[site].name.clone(), condition, again }
    }

    fn model_order(&self, asked: &str) -> Vec<usize> {
        let listed = &self.config.models[..self.listed];
        let is_ours = |model: &crate::config::Model| {
            let mut all = model.served_by.iter().chain(&model.substitutes);
            all.all(|id| self.config.sites[self.site_of(*id)].is_embedded())
        };
        let wanted = |at: &usize| self.config.models[*at].name == asked;
        let first = (0..self.config.models.len()).find(wanted);
        let others = (0..listed.len()).filter(|at| Some(*at) != first);
        let order = first.into_iter().chain(others);
        order.filter(|at| !is_ours(&self.config.models[*at])).take(MODELS).collect()
    }

    fn model_state(&self, now: Time, model: usize, places: &[usize]) -> ModelState {
        let model = &self.config.models[model];
        let mut by = Vec::new();
        for id in &model.served_by {
            let place = places.iter().position(|site| *site == self.site_of(*id));
            let Some(place) = place.filter(|place| !by.contains(place)) else { continue };
            if condition(now, self.targets.get(*id)).0.answers() {
                by.push(place);
            }
        }
        let foreign = |id: &&TargetId| !self.config.sites[self.site_of(**id)].is_embedded();
        let substitute = model.substitutes.iter().find(foreign);
        let named = |id: &TargetId| self.config.targets[usize::from(id.0)].model.clone();
        ModelState { name: model.name.clone(), by, substitute: substitute.map(named) }
    }

    fn site_of(&self, id: TargetId) -> usize {
        usize::from(self.config.targets[usize::from(id.0)].site.0)
    }
}

fn condition(now: Time, target: &Target) -> (Condition, Option<Duration>) {
    let left = |at: Time| Some(at.since(now)).filter(|left| !left.is_zero());
    if target.shut {
        return (Condition::Drained, None);
    }
    if let Some((class, until)) = target.parked {
        return match class {
            ErrorClass::OurBilling => (Condition::NoCredit, left(until)),
            ErrorClass::OurAuth => (Condition::KeyRefused, left(until)),
            _ => (Condition::Down, left(until)),
        };
    }
    match target.health.verdict() {
        Verdict::Down => (Condition::Down, target.health.held_until().and_then(left)),
        Verdict::Suspect => (Condition::Down, None),
        Verdict::Probation if !target.last_good => (Condition::Down, None),
        Verdict::Probation => (Condition::Recovering, None),
        Verdict::Up if !target.last_good => (Condition::Down, None),
        Verdict::Up => match target.credit.paused_until(now) {
            Some(until) => (Condition::Full, left(until)),
            None if is_slow(target) => (Condition::Slow, None),
            None => (Condition::Up, None),
        },
    }
}

/// Whether it is slower than others or than usual, as its node tells, or than anybody likes.
fn is_slow(target: &Target) -> bool {
    target.slow.is_slow() || target.latency.first_token_usual() > SLOW_FROM
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Config, Continuation, Model, Needs, Site, SiteKind, Target as Fixed, Tier,
    };
    use crate::fact::Why;
    use crate::gateway::request::{Ask, Broken, Report, Sent};
    use crate::gateway::{Action, Event};
    use crate::names::{Failure, ModelId, RequestId, Scope, SiteId, TierId};
    use alloc::vec;

    fn config() -> Config {
        let site =
            |name: &str, kind| Site { name: name.into(), capacity: None, kind, auth_strikes: 1 };
        let target = |site, model: &str| Fixed {
            site: SiteId(site),
            model: model.into(),
            window: None,
            output_max: None,
            offers: Needs::all(),
            continuation: Continuation::None,
            labels: 0,
            home: 0,
            tiers: 0xff,
        };
        let model = |name: &str, served_by: &[u16], substitutes: &[u16]| Model {
            name: name.into(),
            served_by: served_by.iter().copied().map(TargetId).collect(),
            substitutes: substitutes.iter().copied().map(TargetId).collect(),
            substitutes_may_finish: true,
        };
        Config {
            sites: vec![
                site("one", SiteKind::Provider),
                site("two", SiteKind::Provider),
                site("engine", SiteKind::Embedded),
            ],
            targets: vec![target(0, "a"), target(1, "a"), target(2, "builtin")],
            models: vec![model("builtin", &[2], &[]), model("chat", &[0, 1], &[2])],
            families: vec![],
            tiers: vec![Tier { name: "pro".into(), floor: 0.0 }],
            limits: Default::default(),
            fleet: Default::default(),
        }
    }

    /// A gateway whose request has just failed at "one" with `class`.
    fn after(class: ErrorClass, retry_after: Option<Duration>) -> (Gateway, Time) {
        let mut gateway = Gateway::new(config(), 1);
        let (now, request) = (Time::ZERO + Duration::from_secs(10), RequestId(1));
        let ask = Ask {
            model: ModelId(1),
            tier: TierId(0),
            needs: Needs::default(),
            prompt: 10,
            body: 10,
            max_tokens: None,
            choices: 1,
            deadline: None,
            ..Ask::default()
        };
        let mut actions = vec![];
        gateway.handle(now, Event::Arrive { request, ask }, &mut actions);
        let attempt = actions.iter().find_map(|action| match action {
            Action::Start(start) => Some(start.attempt),
            _ => None,
        });
        let failure = Failure { retry_after, ..Failure::ours(class, "") };
        let broken = Broken {
            failure,
            why: Why::Reply,
            sent: Sent::Maybe,
            stale: false,
            quiet: Duration::ZERO,
            report: Report::default(),
        };
        gateway.handle(now, Event::Broken { attempt: attempt.unwrap(), broken }, &mut actions);
        (gateway, now)
    }

    #[test]
    fn a_site_that_just_failed_is_told_as_down_before_it_is_condemned() {
        let (gateway, now) = after(ErrorClass::Dead(Scope::Site), None);
        let outlook = gateway.outlook(now, "chat");
        let told: Vec<_> = outlook.sites.iter().map(|s| (s.name.as_str(), s.condition)).collect();
        assert_eq!(told, [("one", Condition::Down), ("two", Condition::Up)]);
        assert_eq!(outlook.models[0].by, [1]);
        let standings = [Standing::Down, Standing::Unknown, Standing::Unknown];
        assert_eq!(gateway.standings(now), standings, "what nobody tried is not called up");
        assert_eq!((outlook.models.len(), outlook.retry), (1, None));
    }

    #[test]
    fn a_key_a_bill_and_a_throttle_are_told_apart_with_their_times() {
        let minute = Some(Duration::from_secs(40));
        for (class, retry_after, condition) in [
            (ErrorClass::OurAuth, None, Condition::KeyRefused),
            (ErrorClass::OurBilling, None, Condition::NoCredit),
            (ErrorClass::ThrottleAccount, minute, Condition::Full),
        ] {
            let (gateway, now) = after(class, retry_after);
            let site = &gateway.outlook(now, "").sites[0];
            assert_eq!(site.condition, condition);
            assert!(site.again.is_some_and(|again| again > Duration::from_secs(20)));
        }
    }

    #[test]
    fn a_slow_site_and_one_out_of_use_are_told_as_such() {
        let mut gateway = Gateway::new(config(), 1);
        gateway.targets.get_mut(TargetId(0)).latency.first_token(Duration::from_secs(6));
        gateway.targets.get_mut(TargetId(1)).shut = true;
        let outlook = gateway.outlook(Time::ZERO, "chat");
        let told: Vec<_> = outlook.sites.iter().map(|site| site.condition).collect();
        assert_eq!(told, [Condition::Slow, Condition::Drained]);
        assert_eq!(outlook.models[0].by, [0], "slow, but it answers");
        assert_eq!(
            gateway.standings(Time::ZERO),
            [Standing::Up, Standing::Shut, Standing::Unknown]
        );
    }
}
