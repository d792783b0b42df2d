//! What the status role decides about what the public reads.

use crate::names::{GatewayId, ModelId, SiteId};
use crate::status::incident::{Cause, Stage};
use crate::status::maintenance::Step;
use crate::time::Duration;

/// What has a state of its own on the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The API as a whole.
    Api,
    /// A model that clients ask for.
    Model(ModelId),
    /// A site.
    Site(SiteId),
}

/// How a component is. Of the last four a later one is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Too little was seen to tell.
    #[default]
    NoData,
    /// An operator took it out.
    Maintenance,
    /// It answers.
    Operational,
    /// One in twenty fails, or first tokens are late.
    Degraded,
    /// One in four fails.
    Partial,
    /// Three in four fail, or nothing succeeded for a minute.
    Major,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [State; 6] = [
        State::NoData,
        State::Maintenance,
        State::Operational,
        State::Degraded,
        State::Partial,
        State::Major,
    ];

    /// Whether it keeps its promise to less than all.
    pub fn is_impaired(self) -> bool {
        self >= State::Degraded
    }
}

/// Why a component's state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Because {
    /// So many of so many failed lately.
    Failures {
        /// Failed.
        failed: u64,
        /// Of so many.
        of: u64,
    },
    /// One in twenty first tokens takes longer than three times what is promised.
    Late,
    /// Nothing succeeded for so long.
    NoSuccess {
        /// How long.
        lasts: Duration,
    },
    /// So many gateways of those that know find it down.
    Down {
        /// How many.
        gateways: u16,
        /// Of so many.
        of: u16,
    },
    /// An operator took it out.
    Shut,
    /// It answers.
    Answers,
    /// It was well for as long as it takes to believe it.
    Green,
    /// Less is wrong than was, and has been for a while.
    Milder,
    /// Too little is seen to tell.
    Quiet,
}

/// One decision of the status role.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusFact {
    /// A component's state changed.
    Moved {
        /// Which.
        component: Component,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// Why.
        because: Because,
    },
    /// A gateway fell silent.
    Silent {
        /// Which.
        gateway: GatewayId,
        /// Since when nothing came.
        lasts: Duration,
    },
    /// A gateway is heard, for the first time or again.
    Heard {
        /// Which.
        gateway: GatewayId,
    },
    /// Fewer than half of the gateways are heard: nobody knows how things are.
    Lost {
        /// For so long.
        lasts: Duration,
    },
    /// Enough of them are heard again.
    Found,
    /// Users report far more trouble than usual, or no longer.
    Surge {
        /// With what.
        component: Component,
        /// In the last half hour.
        reports: u32,
        /// Whether it began or ended.
        began: bool,
    },
    /// Something was said of an incident.
    Incident {
        /// Its number.
        id: u32,
        /// How far it is.
        stage: Stage,
        /// Why.
        cause: Cause,
    },
    /// Something was said of announced work.
    Maintenance {
        /// Its number.
        id: u32,
        /// How far it is.
        step: Step,
    },
}
