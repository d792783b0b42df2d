//! What counts as good and as failed: the public's view of an outcome. What a caller caused is
//! neither, and what was refused for lack of our capacity has failed.

use crate::fact::Outcome;
use crate::names::ErrorClass;
use crate::status::PROMISE;
use crate::time::Duration;

/// Whether a request that ended so was good or failed; `None` if it says nothing of us. `first` is
/// how long its first token took, `after` how long all of it.
pub fn request(outcome: Outcome, first: Option<Duration>, after: Duration) -> Option<bool> {
    match outcome {
        Outcome::Done => Some(true),
        Outcome::Refused | Outcome::Failed | Outcome::Expired => Some(false),
        // Who leaves later than a first token was promised and has none was failed by us: where
        // everything hangs, clients that give up are all that is ever seen.
        Outcome::Gone if first.is_none() && after > PROMISE => Some(false),
        Outcome::Gone | Outcome::Rejected => None,
    }
}

/// Whether an attempt that failed in this class speaks against its site. A full site is no broken
/// one: what capacity is short of shows at the model, whose requests are refused.
pub fn attempt(class: ErrorClass) -> Option<bool> {
    match class {
        ErrorClass::OurAuth
        | ErrorClass::OurBilling
        | ErrorClass::Transient
        | ErrorClass::Dead(_)
        | ErrorClass::PoisonedStream => Some(false),
        ErrorClass::ClientFault(_)
        | ErrorClass::Policy
        | ErrorClass::ThrottleAccount
        | ErrorClass::ThrottleBurst
        | ErrorClass::Overload => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ClientFault;

    #[test]
    fn what_the_caller_caused_is_no_outage_and_lack_of_capacity_is() {
        let late = Duration::from_secs(6);
        assert_eq!(request(Outcome::Done, None, late), Some(true));
        for outcome in [Outcome::Refused, Outcome::Failed, Outcome::Expired] {
            assert_eq!(request(outcome, None, Duration::ZERO), Some(false));
        }
        assert_eq!(request(Outcome::Rejected, None, late), None);
        assert_eq!(request(Outcome::Gone, None, late), Some(false), "it waited in vain");
        assert_eq!(request(Outcome::Gone, Some(Duration::ZERO), late), None);
        assert_eq!(request(Outcome::Gone, None, Duration::from_secs(1)), None);
    }

    #[test]
    fn a_full_site_is_no_broken_one() {
        assert_eq!(attempt(ErrorClass::Transient), Some(false));
        assert_eq!(attempt(ErrorClass::Overload), None);
        assert_eq!(attempt(ErrorClass::ThrottleAccount), None);
        assert_eq!(attempt(ErrorClass::ClientFault(ClientFault::Invalid)), None);
    }
}
