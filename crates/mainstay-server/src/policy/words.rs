//! Decisions about generations and orders in words.

use super::format_order;
use super::kept::Hash;
use mainstay_core::fact::{BootWhy, Harm, NotTaken, OrderRefusal, PolicyFact, Turn};
use mainstay_core::message::Verb;
use mainstay_core::names::{GatewayId, SiteId};
use mainstay_core::policy::Waits;
use std::time::Duration;
use tracing::Level;

/// What positions are called.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of sites.
    pub sites: Vec<String>,
    /// Of gateways.
    pub gateways: Vec<String>,
}

impl Names {
    fn gateway(&self, id: GatewayId) -> &str {
        self.gateways.get(usize::from(id.0)).map_or("a gateway that is gone", String::as_str)
    }

    fn site(&self, id: Option<SiteId>) -> &str {
        let Some(id) = id else { return "everywhere" };
        self.sites.get(usize::from(id.0)).map_or("a site that is gone", String::as_str)
    }
}

/// The fact's kind in one word, and how much it matters.
pub fn kind(fact: &PolicyFact) -> (&'static str, Level) {
    match fact {
        PolicyFact::Booted { why: BootWhy::InForce, .. } => ("policy_booted", Level::INFO),
        PolicyFact::Booted { .. } => ("policy_booted", Level::WARN),
        PolicyFact::Refused { .. } => ("policy_refused", Level::WARN),
        PolicyFact::Unconfirmed { .. } => ("policy_unconfirmed", Level::WARN),
        PolicyFact::Staged { .. } => ("policy_staged", Level::INFO),
        PolicyFact::Adopted { .. } => ("policy_adopted", Level::INFO),
        PolicyFact::RolledBack { .. } => ("policy_rolled_back", Level::ERROR),
        PolicyFact::Quarantined { .. } => ("policy_quarantined", Level::WARN),
        PolicyFact::Good { .. } => ("policy_good", Level::INFO),
        PolicyFact::CanarySilent { .. } => ("policy_canary_silent", Level::WARN),
        PolicyFact::NothingElseGood { .. } => ("policy_nothing_else_good", Level::ERROR),
        PolicyFact::NothingToRun => ("policy_nothing_to_run", Level::ERROR),
        PolicyFact::OrderTaken { .. } => ("order_taken", Level::INFO),
        PolicyFact::OrderRefused { .. } => ("order_refused", Level::WARN),
        PolicyFact::OrderLapsed { .. } => ("order_lapsed", Level::INFO),
    }
}

/// The fact in a sentence.
pub fn sentence(names: &Names, fact: &PolicyFact) -> String {
    match fact {
        PolicyFact::Booted { generation, content, why } => {
            let why = match why {
                BootWhy::InForce => "it was in force",
                BootWhy::OtherCrashed => "the one in force killed its process",
                BootWhy::Last => "nothing else is left",
            };
            format!("starts with {}: {why}", named(*generation, *content))
        }
        PolicyFact::Refused { generation, author, why } => {
            format!("generation {generation} of {author} is not taken: {}", not_taken(why))
        }
        PolicyFact::Unconfirmed { generation, author, change } => format!(
            "generation {generation} waits until {author} confirms it: {change}; \
             mainstay policy publish FILE --confirm"
        ),
        PolicyFact::Staged { generation, stage } => {
            format!(
                "generation {generation} can be loaded, and waits for its turn in {}",
                stage_name(*stage)
            )
        }
        PolicyFact::Adopted { generation, content, author, reason, turn, .. } => {
            let turn = match turn {
                Turn::Proven => String::from("its content has proved itself here"),
                Turn::Canary => String::from("this node tries it first"),
                Turn::After { peer, .. } => format!("{} has run it clean", names.gateway(*peer)),
            };
            format!("{} of {author} is in force ({reason}): {turn}", named(*generation, *content))
        }
        PolicyFact::RolledBack { from, to, why } => {
            format!("back from generation {from} to {to}: {}", harm(names, why))
        }
        PolicyFact::Quarantined { content, why } => {
            format!("content {} is not loaded again: {}", Hash(*content), harm(names, why))
        }
        PolicyFact::Good { generation, content } => {
            format!("{} has proved itself and is kept", named(*generation, *content))
        }
        PolicyFact::CanarySilent { generation, canary } => format!(
            "{} should try generation {generation} first and is not heard to; change something \
             in it and publish it again",
            names.gateway(*canary)
        ),
        PolicyFact::NothingElseGood { generation } => {
            format!("all that was good killed its process; generation {generation} runs again")
        }
        PolicyFact::NothingToRun => String::from("nothing that is kept may be run"),
        PolicyFact::OrderTaken { id, verb, site, reason, left, .. } => format!(
            "order {}: {} for {} ({reason})",
            format_order(*id),
            order(*verb, names.site(*site)),
            time(*left)
        ),
        PolicyFact::OrderRefused { id, why } => {
            format!("order {} is not taken: {}", format_order(*id), refusal(why))
        }
        PolicyFact::OrderLapsed { id } => format!("order {} is over", format_order(*id)),
    }
}

/// What a staged generation waits for; `after` is how long the stage before must have run it.
pub fn waits(names: &Names, waits: Waits, after: Duration) -> String {
    match waits {
        Waits::Taste => String::from("for the sacrificial process"),
        Waits::Token => String::from("for its author: mainstay policy publish FILE --confirm"),
        Waits::Doubt => String::from("until this gateway does not doubt itself any more"),
        Waits::Freeze => String::from("for the end of a freeze; mainstay orders lists it"),
        Waits::Failing => String::from("until no more requests fail here than at other gateways"),
        Waits::After { stage: 0, canary: Some(canary) } => {
            format!("for {} to run it clean for {}", names.gateway(canary), time(after))
        }
        Waits::After { stage, .. } => {
            format!("for a gateway of {} to run it clean for {}", stage_name(stage), time(after))
        }
    }
}

/// Why an order is not taken, and how to mend it.
pub fn refusal(why: &OrderRefusal) -> String {
    match why {
        OrderRefusal::Everywhere => "name a site; only a freeze may be everywhere".into(),
        OrderRefusal::UnknownSite => "no such site".into(),
        OrderRefusal::NoReason => "say why; --reason \"…\"".into(),
        OrderRefusal::Life => "give it an end within a day; --for 1h".into(),
        OrderRefusal::Cap => "a cap is from 0 to 100 %".into(),
        OrderRefusal::TooMuch { percent } => format!(
            "{percent} % of the capacity would be out of service; --confirm if that is meant"
        ),
        OrderRefusal::TooMany => "too many orders are in force; end some first".into(),
        OrderRefusal::Twice => "another order bears this name; try again".into(),
    }
}

fn named(generation: u64, content: u64) -> String {
    match generation {
        0 => String::from("this node's own file"),
        _ => format!("generation {generation} (content {})", Hash(content)),
    }
}

fn stage_name(stage: u8) -> &'static str {
    match stage {
        0 => "the first stage, one gateway",
        1 => "the second stage, 5 % of the gateways",
        2 => "the third stage, a quarter of the gateways",
        _ => "the last stage, all others",
    }
}

fn not_taken(why: &NotTaken) -> String {
    match why {
        NotTaken::TooLarge { bytes } => format!("{bytes} bytes are too many"),
        NotTaken::Unreadable(why) => why.clone(),
        NotTaken::Crashed => "it killed the sacrificial process".into(),
        NotTaken::ChainBroken => {
            "its author did not know the generation before it; publish it again".into()
        }
        NotTaken::Twice => "another content bears the same number".into(),
        NotTaken::Quarantined => "its content is in quarantine".into(),
    }
}

fn harm(names: &Names, harm: &Harm) -> String {
    match harm {
        Harm::Crash => "it killed its process".into(),
        Harm::CrashedWhenTasted => "it killed the sacrificial process".into(),
        Harm::Failing { here, peers } => format!(
            "{}.{} % of the requests fail here, and {}.{} % where it does not run",
            here / 10,
            here % 10,
            peers / 10,
            peers % 10
        ),
        Harm::SaidBy(peer) => format!("{} has it in quarantine", names.gateway(*peer)),
        Harm::Unfit => "it cannot be put in force".into(),
    }
}

fn order(verb: Verb, site: &str) -> String {
    match verb {
        Verb::Freeze => format!("freeze {site}"),
        Verb::Cap(percent) => format!("cap {site} at {percent} %"),
        Verb::Drain => format!("drain {site}"),
        Verb::Kill => format!("kill {site}"),
        Verb::End(ended) => format!("ends {}", format_order(ended)),
    }
}

fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_core::message::OrderId;

    #[test]
    fn decisions_are_told_by_names_and_without_the_form_of_the_program() {
        let names = Names { sites: vec!["fra".into()], gateways: vec!["a".into(), "b".into()] };
        let say = |fact: &PolicyFact| sentence(&names, fact);
        let back =
            PolicyFact::RolledBack { from: 5, to: 3, why: Harm::Failing { here: 123, peers: 4 } };
        assert_eq!(
            say(&back),
            "back from generation 5 to 3: 12.3 % of the requests fail here, and 0.4 % where it \
             does not run"
        );
        let said = say(&PolicyFact::Quarantined { content: 0xab, why: Harm::SaidBy(GatewayId(1)) });
        assert_eq!(said, "content 00000000000000ab is not loaded again: b has it in quarantine");
        let taken = PolicyFact::OrderTaken {
            id: OrderId { author: 1, seq: 2 },
            authority: 0,
            verb: Verb::Cap(40),
            site: Some(SiteId(0)),
            reason: "slow".into(),
            left: Duration::from_secs(3600),
        };
        assert_eq!(say(&taken), "order 0000000000000001-2: cap fra at 40 % for 60 min (slow)");
        let silent = PolicyFact::CanarySilent { generation: 2, canary: GatewayId(9) };
        assert!(say(&silent).contains("a gateway that is gone"));
        let turn = Waits::After { stage: 0, canary: Some(GatewayId(1)) };
        let said = waits(&names, turn, Duration::from_secs(600));
        assert_eq!(said, "for b to run it clean for 10 min");
    }
}
