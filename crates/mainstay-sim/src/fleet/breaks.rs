//! How attempts break, are given up and end: silence, bad news, refusals, cancels, lost legs.

use super::World;
use super::attempts::report;
use super::hangs::Standstill;
use super::moment::{Harm, Moment};
use super::network::{Carried, Way};
use super::nodes::House;
use super::slab::Key;
use crate::scenario::Trouble;
use mainstay_core::fact::Why;
use mainstay_core::gateway::Event;
use mainstay_core::gateway::request::{Broken, Sent};
use mainstay_core::message::{Reason, Refuse};
use mainstay_core::names::{ErrorClass, Failure, Scope};
use mainstay_core::site;
use mainstay_core::time::Duration;

/// A site stops by itself when the reader of an answer has been gone for so long.
const READER_GONE: Duration = Duration::from_secs(5);

impl World<'_> {
    /// A gateway looks whether an attempt made progress.
    pub(super) fn watch(&mut self, key: Key) {
        let now = self.now;
        let Some(attempt) = self.attempts.get(key).filter(|a| a.at_gateway) else { return };
        let standstill = self.gateways[usize::from(attempt.gateway)].standstill.as_ref();
        if standstill.is_some_and(Standstill::stands) {
            return;
        }
        let read = standstill.map_or(now, Standstill::read);
        let is_beating = attempt.acked.is_some() || attempt.has_token;
        if standstill.is_none() && is_beating && attempt.quiet.is_none_or(|quiet| now < quiet) {
            return;
        }
        let patience = &attempt.patience;
        let (wait, why) = match attempt.has_token {
            true => (patience.stall, Why::Stalled),
            false => (patience.first_token, Why::Silent),
        };
        let due = attempt.heard(read) + wait;
        if now < due {
            return self.calendar.put(due, Moment::Watch(key));
        }
        let at = usize::from(attempt.site);
        let trouble = self.sites[at].account.as_ref().and_then(|account| account.trouble.as_ref());
        let is_alive = trouble == Some(&Trouble::KeepAlives);
        let (why, class) = match is_alive {
            true => (Why::NoFirstToken, ErrorClass::Overload),
            false => (why, ErrorClass::Dead(Scope::Site)),
        };
        self.broke(key, (Failure::ours(class, "no progress"), why), Sent::Maybe);
    }

    /// Bad news of an attempt comes to its gateway.
    pub(super) fn harmed(&mut self, key: Key, harm: Harm) {
        let Some(attempt) = self.attempts.get(key).filter(|a| a.at_gateway) else {
            return self.forget(key);
        };
        let cut = if attempt.has_token { Why::Cut } else { Why::Reply };
        let (class, why, status) = match harm {
            Harm::Refused => (ErrorClass::Dead(Scope::Site), Why::Reply, None),
            Harm::Reset => (ErrorClass::Transient, cut, None),
            Harm::Back => (ErrorClass::Overload, Why::Reply, Some(503)),
            Harm::Throttled(_) => (ErrorClass::ThrottleAccount, Why::Reply, Some(429)),
            Harm::Billing => (ErrorClass::OurBilling, Why::Reply, Some(402)),
            Harm::Account => (ErrorClass::OurAuth, Why::Reply, Some(401)),
        };
        let mut failure = Failure::ours(class, "");
        failure.status = status;
        if let Harm::Throttled(Some(back)) = harm {
            failure.retry_after = Some(Duration::from_millis(u64::from(back)));
        }
        let sent = if harm == Harm::Refused { Sent::Nothing } else { Sent::Maybe };
        self.broke(key, (failure, why), sent);
    }

    /// An attempt is over for its gateway, and not whole.
    fn broke(&mut self, key: Key, (failure, why): (Failure, Why), sent: Sent) {
        self.pour(key);
        let Some(attempt) = self.attempts.get(key) else { return };
        let (at, id, owner) = (usize::from(attempt.gateway), attempt.work.attempt, attempt.user);
        let (tokens, heard) = (attempt.poured, attempt.heard(self.now));
        let quiet = self.now.since(heard);
        let mut relayed = 0;
        if let Some(user) = self.users.get_mut(owner).filter(|u| u.attempt == Some(key)) {
            user.attempt = None;
            user.is_charged = sent != Sent::Nothing;
            relayed = user.relayed;
            if relayed > 0 && user.broke.is_none() {
                user.broke = Some(self.now);
                let since = self.now.since(crate::world::START);
                self.ledger.second(since).broken += 1;
            }
        }
        self.hang_up(key);
        let report = report(tokens, relayed, false);
        let broken = Broken { failure, why, sent, stale: false, quiet, report };
        self.tell_gateway(at, Event::Broken { attempt: id, broken });
    }

    /// What has come of this leg belongs to the client now.
    fn pour(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let Some((count, last)) = attempt.came(self.now) else { return };
        attempt.seen = None;
        attempt.last = Some(last);
        let user = self.users.get_mut(attempt.user).filter(|u| u.attempt == Some(key));
        if let Some(user) = user.filter(|_| attempt.at_gateway) {
            attempt.before += count;
            attempt.poured += count;
            user.relayed += count;
            user.last = last;
        }
    }

    /// An ack comes; false if nobody waits for it.
    pub(super) fn acked(&mut self, key: Key) -> bool {
        let Some(attempt) = self.attempts.get_mut(key).filter(|a| a.at_gateway) else {
            return false;
        };
        attempt.acked.get_or_insert(self.now);
        true
    }

    /// A refusal comes to the gateway.
    pub(super) fn refused(&mut self, at: usize, key: Key, refuse: Refuse) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|a| a.at_gateway) else { return };
        if attempt.has_token {
            let harm = if refuse.reason == Reason::NoWorker { Harm::Reset } else { Harm::Back };
            return self.harmed(key, harm);
        }
        attempt.at_gateway = false;
        let owner = attempt.user;
        if let Some(user) = self.users.get_mut(owner).filter(|u| u.attempt == Some(key)) {
            user.attempt = None;
            user.is_charged = true;
        }
        self.forget(key);
        self.tell_gateway(at, Event::Refused(refuse));
    }

    /// A gateway gives an attempt up, and tells the site where it can.
    pub(super) fn hang_up(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.at_gateway = false;
        if !attempt.at_site && !attempt.is_sent {
            return self.forget(key);
        }
        let line = (usize::from(attempt.gateway), usize::from(attempt.site));
        let after_it = attempt.arrives + Duration::from_micros(1);
        let at = match self.network.data(self.now, line, Way::Out) {
            Carried::At(arrives) => arrives,
            Carried::Never | Carried::Reset(_) => self.now + READER_GONE,
        };
        self.calendar.put(at.max(after_it), Moment::Cancel(key));
    }

    /// A cancel comes to the site.
    pub(super) fn cancelled(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        if !attempt.at_site {
            return self.forget(key);
        }
        let (at, work) = (usize::from(attempt.site), attempt.work);
        self.tell_site(at, site::Event::Cancel(work));
        if self.sites[at].house.as_ref().is_some_and(House::ignores_cancels) {
            return;
        }
        self.lose_leg(key);
        self.leave_site(key);
    }

    /// The worker has it no longer.
    pub(super) fn lose_leg(&mut self, key: Key) {
        self.pour(key);
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        attempt.leg = attempt.leg.wrapping_add(1);
        if let Some(place) = attempt.place.take() {
            let at = usize::from(attempt.site);
            let worker = usize::from(place.worker);
            self.sites[at].workers.release(self.now, worker, place.served.read);
            if let Some(id) = place.sequence {
                self.stop_computing((at, worker), id);
            }
        }
    }

    /// After its worker went: where nobody is there to say so, the broken connection does.
    pub(super) fn after_loss(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let is_alone = self.sites[usize::from(attempt.site)].house.is_none();
        if attempt.at_site && attempt.place.is_none() && is_alone {
            self.leave_site(key);
            self.tell_harm(key, Harm::Reset);
        }
    }

    /// The site has it no longer.
    pub(super) fn leave_site(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        if std::mem::replace(&mut attempt.at_site, false) {
            let node = &mut self.sites[usize::from(attempt.site)];
            node.attempts = node.attempts.saturating_sub(1);
        }
        self.forget(key);
    }

    /// From now on nothing is heard of it; the gateway will notice.
    pub(super) fn silence(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key) else { return };
        let half = self.network.half(usize::from(attempt.gateway), usize::from(attempt.site));
        let from = self.now + half;
        if attempt.quiet.is_none_or(|quiet| from < quiet) {
            attempt.quiet = Some(from);
        }
        // It looks again by itself if this is too early.
        self.calendar.put(from + Duration::from_micros(1), Moment::Watch(key));
    }

    /// The line carries again: what waited comes now.
    pub(super) fn unsilence(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get_mut(key).filter(|a| a.quiet.is_some()) else {
            return;
        };
        let half = self.network.half(usize::from(attempt.gateway), usize::from(attempt.site));
        let comes = self.now + half;
        if attempt.seen.is_some()
            && let Some((_, last)) = attempt.came(self.now)
            && let Some(user) = self.users.get_mut(attempt.user)
        {
            user.gap = user.gap.max(comes.since(last));
        }
        attempt.quiet = None;
        let leg = attempt.leg;
        let Some(place) = attempt.place else { return };
        if place.served.first <= self.now && attempt.seen.is_none() {
            self.calendar.put(comes, Moment::First(key, leg));
        }
        if !attempt.at_site {
            self.calendar.put(comes + Duration::from_micros(1), Moment::Whole(key, leg));
        }
    }

    /// Forgets an attempt that neither end has.
    pub(super) fn forget(&mut self, key: Key) {
        let Some(attempt) = self.attempts.get(key) else { return };
        let work = attempt.work;
        if !attempt.at_site && !attempt.is_sent {
            self.index.remove(&work);
            if !attempt.at_gateway {
                self.attempts.take(key);
            }
        }
    }
}
