//! Clients: who asks how often, for what, and when they leave.

use mainstay_core::config::Needs;
use mainstay_core::gateway::request::Ask;
use mainstay_core::names::{ModelId, TierId};
use mainstay_core::rng::Rng;
use mainstay_core::time::Duration;

/// A stream of requests that are alike.
#[derive(Clone, Debug)]
pub struct Load {
    /// The first comes now, of the world's start.
    pub from: Duration,
    /// None comes from now on.
    pub until: Duration,
    /// Mean time between two.
    pub every: Duration,
    /// Whether they come evenly; else by chance, as from many independent clients.
    pub even: bool,
    /// What each asks.
    pub ask: Ask,
    /// When its client leaves, after asking.
    pub leaves: Option<Duration>,
}

impl Load {
    /// A single request at the start.
    pub fn one() -> Load {
        Load {
            from: Duration::ZERO,
            until: Duration::from_micros(1),
            every: Duration::from_secs(1),
            even: true,
            ask: ask(),
            leaves: None,
        }
    }

    /// So many a second, by chance, from the start until then.
    pub fn rate(per_second: f64, until: Duration) -> Load {
        let every = Duration::from_secs_f64(1.0 / per_second);
        Load { until, every, even: false, ..Load::one() }
    }

    /// One each so often, from the start until then.
    pub fn every(every: Duration, until: Duration) -> Load {
        Load { until, every, ..Load::one() }
    }

    /// From this tier.
    pub fn tier(mut self, tier: u8) -> Load {
        self.ask.tier = TierId(tier);
        self
    }

    /// Beginning so late.
    pub fn from(mut self, from: Duration) -> Load {
        self.from = from;
        self
    }

    /// Ending then.
    pub fn until(mut self, until: Duration) -> Load {
        self.until = until;
        self
    }

    /// The time from one request to the next.
    pub fn pause(&self, rng: &mut Rng) -> Duration {
        let by_chance = self.every.mul_f64(-(1.0 - rng.unit()).ln());
        if self.even { self.every } else { by_chance }
    }
}

/// A short question for one answer.
pub fn ask() -> Ask {
    Ask {
        model: ModelId(0),
        tier: TierId(0),
        needs: Needs::default(),
        prompt: 20,
        body: 400,
        max_tokens: None,
        choices: 1,
        deadline: None,
        ..Ask::default()
    }
}
