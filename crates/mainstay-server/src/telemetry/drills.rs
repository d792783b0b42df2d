//! Drills in words: what one does, why one is refused, why one ended.

use super::Names;
use mainstay_core::drill::{BEFORE_MAX, Breakage, End, LASTS_MAX, Refusal};
use mainstay_core::fact::DrillFact;

/// The fact's kind in one word.
pub(super) fn kind(fact: &DrillFact) -> &'static str {
    match fact {
        DrillFact::Refused { .. } => "drill_refused",
        DrillFact::Accepted { .. } => "drill_accepted",
        DrillFact::Began { .. } => "drill_began",
        DrillFact::Broke { .. } => "drill_broke",
        DrillFact::Capped { .. } => "drill_capped",
        DrillFact::Ended { .. } => "drill_ended",
    }
}

/// The fact in a sentence.
pub(super) fn sentence(names: &Names, fact: &DrillFact) -> String {
    match fact {
        DrillFact::Refused { site, why } => {
            format!("no drill at {}: {}", names.site(*site), refusal(names, *why))
        }
        DrillFact::Accepted { site, breakage, percent, before } => format!(
            "a drill at {}: {percent} % of what goes there, {}, in {} s",
            names.site(*site),
            of_breakage(*breakage),
            before.as_secs()
        ),
        DrillFact::Began { site, lasts } => {
            format!("{} is broken on purpose for {} s", names.site(*site), lasts.as_secs())
        }
        DrillFact::Broke { attempt, target, breakage } => format!(
            "attempt {} at {} is broken on purpose: {}",
            attempt.number,
            names.target(*target).0,
            of_breakage(*breakage)
        ),
        DrillFact::Capped { site } => {
            format!("the blast cap spares some of what goes to {}", names.site(*site))
        }
        DrillFact::Ended { site, why } => {
            format!("the drill at {} is over: {}", names.site(*site), end(names, *why))
        }
    }
}

/// How attempts are broken, as a person orders it.
pub fn word(breakage: Breakage) -> &'static str {
    match breakage {
        Breakage::Down => "down",
        Breakage::Blackhole => "blackhole",
        Breakage::Slow(_) => "slow",
        Breakage::Errors => "errors",
        Breakage::Cut(_) => "cut",
    }
}

/// How attempts are broken, in words.
pub fn of_breakage(breakage: Breakage) -> String {
    match breakage {
        Breakage::Down => "refused".to_owned(),
        Breakage::Blackhole => "accepted and never answered".to_owned(),
        Breakage::Slow(factor) => format!("{factor} times as slow"),
        Breakage::Errors => "answered with 503".to_owned(),
        Breakage::Cut(tokens) => format!("cut after {tokens} tokens"),
    }
}

/// Why a drill is not begun, and what would help.
pub fn refusal(names: &Names, why: Refusal) -> String {
    match why {
        Refusal::UnknownSite => {
            format!("there is no such site; there are {}", names.sites.join(", "))
        }
        Refusal::Share => "a share is from 1 to 100 percent".to_owned(),
        Refusal::Time => format!(
            "it must last, at most {} s, and begin within {} s",
            LASTS_MAX.as_secs(),
            BEFORE_MAX.as_secs()
        ),
        Refusal::Running => "another drill is under way; wait for its end, or stop it".to_owned(),
        Refusal::BlastCap(share) => format!(
            "about {share} % of all attempts would break; lower --percent, or allow it with \
             --blast-cap {share}"
        ),
        Refusal::LastSite(model) => format!(
            "nobody else answers {}: what breaks there fails; add a site or a substitute first",
            names.model(model)
        ),
        Refusal::TooLittle(model) => format!(
            "too little of {} would stay in service, with the orders in force; undrain another \
             site first",
            names.model(model)
        ),
        Refusal::Gone(site) => format!(
            "{} is out already: the next loss is no drill; wait until it is up",
            names.site(site)
        ),
        Refusal::Doubt => "this gateway doubts itself; see its log".to_owned(),
    }
}

/// Why a drill ended.
pub fn end(names: &Names, why: End) -> String {
    match why {
        End::Time => "its time is over".to_owned(),
        End::Stopped => "somebody stopped it".to_owned(),
        End::Floor(tier, share) => format!(
            "only {share} % of tier {} was answered well, which is below its floor",
            names.tier(tier)
        ),
        End::Gone(site) => format!("{} went out as well", names.site(site)),
        End::Doubt => "this gateway doubts itself".to_owned(),
        End::Policy => "another configuration is in force".to_owned(),
    }
}

/// The same in one word.
pub fn end_word(why: End) -> &'static str {
    match why {
        End::Time => "time",
        End::Stopped => "stopped",
        End::Floor(..) => "floor",
        End::Gone(_) => "gone",
        End::Doubt => "doubt",
        End::Policy => "policy",
    }
}
