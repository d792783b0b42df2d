//! Recent requests, decided anew by a configuration: the real machine, in virtual time, with every
//! site well and with room for all. Where it sends them is what the policy says, not the weather.

use mainstay_core::config::{Config, Fleet};
use mainstay_core::cost::CostRate;
use mainstay_core::gateway::request::{Ask, Report};
use mainstay_core::gateway::{Action, Event, Gateway};
use mainstay_core::message::{Ack, Grant, Report as Wanted, TIERS_MAX};
use mainstay_core::names::{RequestId, TierId};
use mainstay_core::policy::compare::Decided;
use mainstay_core::time::{Duration, Time};
use mainstay_server::policy::taste::Asked;

/// Between two requests: a thousand of them are some seconds of a gateway.
const APART: Duration = Duration::from_millis(5);
/// How long one that waits for a grant is looked after: two come in that time.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Room of each site, in cost units a second, for a thousand requests at once.
const ROOM: u64 = 1 << 30;
/// The same for both configurations, so that chance decides alike.
const SEED: u64 = 1;

/// What `config` says, and where the requests would go.
pub fn decided(config: &Config, asked: &[Asked]) -> Decided {
    let name = |target: &mainstay_core::names::TargetId| {
        let target = config.targets.get(usize::from(target.0))?;
        let site = config.sites.get(usize::from(target.site.0))?;
        Some(format!("{}/{}", site.name, target.model))
    };
    let routes = config.models.iter().map(|model| {
        let first = model.served_by.first().and_then(name);
        (model.name.clone(), first.unwrap_or_default())
    });
    let mut replay = Replay::new(config);
    Decided {
        sites: config.sites.iter().map(|site| site.name.clone()).collect(),
        tiers: config.tiers.iter().map(|tier| tier.name.clone()).collect(),
        routes: routes.collect(),
        placed: asked.iter().map(|asked| replay.place(asked)).collect(),
    }
}

struct Replay {
    gateway: Gateway,
    now: Time,
    requests: u64,
}

impl Replay {
    fn new(config: &Config) -> Replay {
        // Alone: what peers say belongs to the weather.
        let fleet = Fleet { gateways: 1, ..config.fleet.clone() };
        let fleet = Fleet { me: Fleet::default().me, ..fleet };
        let gateway = Gateway::new(Config { fleet, ..config.clone() }, SEED);
        let now = Time::ZERO + Duration::from_secs(86_400);
        let mut replay = Replay { gateway, now, requests: 0 };
        replay.tell(Event::Tick);
        replay
    }

    /// The site that gets this request.
    fn place(&mut self, asked: &Asked) -> Option<String> {
        self.pass(APART);
        let model = self.gateway.find_model(&asked.model)?;
        let tiers = &self.gateway.config().tiers;
        let tier = tiers.iter().position(|tier| tier.name == asked.tier)?;
        self.requests += 1;
        let request = RequestId(self.requests);
        let ask = Ask {
            model,
            tier: TierId(u8::try_from(tier).ok()?),
            prompt: asked.prompt,
            max_tokens: asked.max_tokens,
            choices: 1,
            ..Ask::default()
        };
        let mut placed = self.tell(Event::Arrive { request, ask });
        let until = self.now + PATIENCE;
        while placed.is_none() && self.now < until && self.gateway.open_requests() > 0 {
            placed = self.pass(APART);
        }
        if placed.is_none() && self.gateway.open_requests() > 0 {
            self.tell(Event::Gone { request, report: Report::default() });
        }
        placed
    }

    /// Time passes; the site of a request that is sent meanwhile is returned.
    fn pass(&mut self, time: Duration) -> Option<String> {
        let until = self.now + time;
        let mut placed = None;
        while let Some((at, _)) = self.gateway.deadline().filter(|(at, _)| *at <= until) {
            self.now = self.now.max(at);
            placed = self.tell(Event::Tick).or(placed);
        }
        self.now = until;
        placed
    }

    fn tell(&mut self, event: Event) -> Option<String> {
        let mut placed = None;
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let mut actions = Vec::new();
            self.gateway.handle(self.now, event, &mut actions);
            for action in actions {
                match action {
                    Action::Start(start) => {
                        let site = usize::from(start.site.0);
                        let sites = &self.gateway.config().sites;
                        placed = sites.get(site).map(|site| site.name.clone());
                        let (attempt, after) = (start.attempt, Duration::ZERO);
                        // The last is told first.
                        events.push(Event::Whole { attempt, report: Report::default() });
                        events.push(Event::FirstToken { attempt, after });
                        if start.open.is_some() {
                            let ack = Ack { attempt, queued: false, ttft: Duration::ZERO };
                            events.push(Event::Ack(ack));
                        }
                    }
                    Action::Report { report, .. } => events.push(Event::Grant(grant(&report))),
                    Action::Close { .. }
                    | Action::GiveUp { .. }
                    | Action::Digest { .. }
                    | Action::Probe { .. }
                    | Action::Answers(_)
                    | Action::Fact(_) => {}
                }
            }
        }
        placed
    }
}

/// All that is wanted, and much more.
fn grant(report: &Wanted) -> Grant {
    Grant {
        target: report.target,
        epoch: 1,
        nonce: report.nonce,
        rate: [CostRate(ROOM / 8); TIERS_MAX],
        standby: CostRate::ZERO,
        capacity: CostRate(ROOM),
        ramp: 100,
        offer: Default::default(),
        ttft: Duration::from_millis(1),
        miss: 0,
        slow: 1,
        elapsed: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line::Serve;
    use crate::environment::Environment;
    use crate::start::merge;
    use mainstay_core::policy::compare::difference;

    /// Two provider accounts and a site of ours; `chat` is served by those in `order`.
    fn config(order: &str) -> Config {
        let site = |name: &str| {
            format!(
                "[[site]]\nname = \"{name}\"\nprovider = \"openai\"\nkey = \"k\"\n\
                 base_url = \"http://127.0.0.1:1/v1\"\nmodels = [{{ name = \"m\" }}]\n"
            )
        };
        let text = format!(
            "{}{}[[model]]\nname = \"chat\"\nserved_by = [{order}]\n",
            site("A"),
            site("B")
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let serve = Serve { config: Some(file.path().into()), ..Serve::default() };
        merge(&serve, &Environment::default(), None).expect("right").setup.core
    }

    fn asked(count: usize) -> Vec<Asked> {
        let one =
            Asked { model: "chat".into(), tier: "pro".into(), prompt: 100, max_tokens: Some(100) };
        vec![one; count]
    }

    #[test]
    fn the_same_configuration_decides_the_same() {
        let decided = |config: &Config| decided(config, &asked(1000));
        let both = config("\"A/m\", \"B/m\"");
        let first = decided(&both);
        assert!(first.placed.iter().all(Option::is_some), "{:?}", first.placed);
        assert_eq!(first, decided(&both));
        assert_eq!(difference(&first, &decided(&both)), None);
    }

    #[test]
    fn requests_that_go_elsewhere_are_seen() {
        let of = |order: &str| decided(&config(order), &asked(200));
        let told = difference(&of("\"A/m\", \"B/m\""), &of("\"B/m\", \"A/m\"")).expect("told");
        assert!(told.contains("goes to B/m first"), "{told}");
        let shares = Decided { routes: Vec::new(), ..of("\"A/m\"") };
        let others = Decided { routes: Vec::new(), ..of("\"B/m\"") };
        let told = difference(&shares, &others).expect("told");
        assert!(told.contains("% of the last 200 requests"), "{told}");
    }
}
