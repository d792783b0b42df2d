//! Who is let into the operators' console, for how long, and what an operator is about to do.
//!
//! Whoever shows the admin token gets a session, under a name that only its browser knows. A change
//! is proposed first and done when it is confirmed, once: what is confirmed is what was shown.
//! Nothing here grows without bound, whoever knocks.

use crate::time::{Duration, Time};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// A session ends after so long, whatever is done in it: about a shift.
pub const LASTS: Duration = Duration::from_secs(12 * 3600);
/// It ends sooner at a screen that nobody uses. What the page fetches by itself is no use.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// Sessions at once: far more than there are operators. The one unused for longest makes room.
pub const SESSIONS_MAX: usize = 64;
/// What one session may have proposed at once; the oldest makes room.
pub const PROPOSALS_MAX: usize = 8;
/// What was shown so long ago is not what is so now.
pub const PROPOSAL_LASTS: Duration = Duration::from_secs(5 * 60);
/// Wrong tokens from one network within `WRONG_FOR`: more is no typing mistake.
pub const WRONG_MAX: u32 = 10;
/// See `WRONG_MAX`.
pub const WRONG_FOR: Duration = Duration::from_secs(5 * 60);
/// Networks that are remembered for that.
pub const NETWORKS_MAX: usize = 256;
/// Screens that are kept up to date by themselves, at once.
pub const STREAMS_MAX: usize = 16;
/// And so often.
pub const LIVE_EVERY: Duration = Duration::from_secs(2);
/// What flows from tiers to sites is looked at so often,
pub const FLOW_EVERY: Duration = Duration::from_secs(5);
/// and told as the mean between the first and the last of so many looks: a minute.
pub const FLOW_LOOKS: usize = 13;
/// What the ledger said is told again for so long: a sum over a month is work.
pub const USAGE_KEPT: Duration = Duration::from_secs(30);
/// A page waits so long for the ledger, and is shown without it then.
pub const USAGE_WAIT: Duration = Duration::from_secs(2);
/// Rows of a table; nobody reads more on a page.
pub const ROWS_MAX: usize = 50;

/// What stands for the name of a session: nobody can read the name out of this.
pub type Mark = [u8; 32];

/// Sessions, what they propose, and who tried wrong tokens. `A` is what can be proposed.
#[derive(Clone, Debug)]
pub struct Console<A> {
    sessions: BTreeMap<Mark, Session<A>>,
    wrong: BTreeMap<u128, (u32, Time)>,
}

#[derive(Clone, Debug)]
struct Session<A> {
    who: String,
    began: Time,
    used: Time,
    next: u32,
    proposals: Vec<(u32, Time, A)>,
}

impl<A> Default for Console<A> {
    fn default() -> Console<A> {
        Console { sessions: BTreeMap::new(), wrong: BTreeMap::new() }
    }
}

impl<A> Console<A> {
    /// Whether somebody from `network` may try a token now.
    pub fn may_try(&self, now: Time, network: u128) -> bool {
        let wrong = self.wrong.get(&network);
        wrong.is_none_or(|(count, since)| *count < WRONG_MAX || now >= *since + WRONG_FOR)
    }

    /// Somebody from there showed a wrong one.
    pub fn wrong(&mut self, now: Time, network: u128) {
        self.wrong.retain(|_, (_, since)| now < *since + WRONG_FOR);
        if self.wrong.len() >= NETWORKS_MAX && !self.wrong.contains_key(&network) {
            let oldest = self.wrong.iter().min_by_key(|(_, (_, since))| *since);
            let oldest = oldest.map(|(network, _)| *network);
            if let Some(oldest) = oldest {
                self.wrong.remove(&oldest);
            }
        }
        self.wrong.entry(network).or_insert((0, now)).0 += 1;
    }

    /// `who` is let in, under the name that `mark` stands for.
    pub fn enter(&mut self, now: Time, mark: Mark, who: String) {
        self.sessions.retain(|_, session| !session.is_over(now));
        if self.sessions.len() >= SESSIONS_MAX {
            let unused = self.sessions.iter().min_by_key(|(_, session)| session.used);
            let unused = unused.map(|(mark, _)| *mark);
            if let Some(unused) = unused {
                self.sessions.remove(&unused);
            }
        }
        let session = Session { who, began: now, used: now, next: 1, proposals: Vec::new() };
        self.sessions.insert(mark, session);
    }

    /// Whose session this is, if it lasts. It is in use from now on.
    pub fn used(&mut self, now: Time, mark: &Mark) -> Option<&str> {
        let session = self.living(now, mark)?;
        session.used = now;
        Some(&session.who)
    }

    /// Whether it lasts. It is not used by that.
    pub fn lasts(&self, now: Time, mark: &Mark) -> bool {
        self.sessions.get(mark).is_some_and(|session| !session.is_over(now))
    }

    /// It is over.
    pub fn leave(&mut self, mark: &Mark) {
        self.sessions.remove(mark);
    }

    /// Sessions that last.
    pub fn count(&self, now: Time) -> usize {
        self.sessions.values().filter(|session| !session.is_over(now)).count()
    }

    /// Somebody is about to do this; its number in the session.
    pub fn propose(&mut self, now: Time, mark: &Mark, what: A) -> Option<u32> {
        let session = self.living(now, mark)?;
        if session.proposals.len() >= PROPOSALS_MAX {
            session.proposals.remove(0);
        }
        let number = session.next;
        session.next += 1;
        session.proposals.push((number, now, what));
        Some(number)
    }

    /// It is meant: what was proposed under this number, which nobody gets twice.
    pub fn confirm(&mut self, now: Time, mark: &Mark, number: u32) -> Option<A> {
        let session = self.living(now, mark)?;
        session.proposals.retain(|(_, at, _)| now < *at + PROPOSAL_LASTS);
        let found = session.proposals.iter().position(|(each, _, _)| *each == number)?;
        Some(session.proposals.remove(found).2)
    }

    fn living(&mut self, now: Time, mark: &Mark) -> Option<&mut Session<A>> {
        self.sessions.get_mut(mark).filter(|session| !session.is_over(now))
    }
}

impl<A> Session<A> {
    fn is_over(&self, now: Time) -> bool {
        now >= self.began + LASTS || now >= self.used + IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_micros(1_000_000);
    const MINE: Mark = [1; 32];

    fn entered() -> Console<&'static str> {
        let mut console = Console::default();
        console.enter(START, MINE, String::from("alice"));
        console
    }

    #[test]
    fn a_session_ends_unused_and_after_a_shift_however_it_is_used() {
        let mut console = entered();
        let late = START + IDLE;
        assert_eq!(console.used(late - Duration::from_secs(1), &MINE), Some("alice"));
        assert!(console.lasts(late, &MINE), "it was used since");
        assert_eq!(console.used(late + IDLE, &MINE), None);
        let mut console = entered();
        let mut now = START;
        while now < START + LASTS {
            assert!(console.used(now, &MINE).is_some());
            now = now + IDLE / 2;
        }
        assert_eq!(console.used(now, &MINE), None);
        assert_eq!(console.count(now), 0);
        let mut console = entered();
        console.leave(&MINE);
        assert!(!console.lasts(START, &MINE));
    }

    #[test]
    fn looking_on_does_not_use_a_session() {
        let console = entered();
        assert!(console.lasts(START + IDLE - Duration::from_secs(1), &MINE));
        assert!(!console.lasts(START + IDLE, &MINE));
    }

    #[test]
    fn what_was_proposed_is_done_once_and_soon_and_in_its_own_session() {
        let mut console = entered();
        let other = [2; 32];
        console.enter(START, other, String::from("bob"));
        let number = console.propose(START, &MINE, "drain").unwrap();
        assert_eq!(console.confirm(START, &other, number), None);
        assert_eq!(console.confirm(START, &MINE, number + 1), None);
        assert_eq!(console.confirm(START, &MINE, number), Some("drain"));
        assert_eq!(console.confirm(START, &MINE, number), None, "replayed");
        let number = console.propose(START, &MINE, "kill").unwrap();
        assert_eq!(console.confirm(START + PROPOSAL_LASTS, &MINE, number), None, "too old");
        assert_eq!(console.propose(START, &[9; 32], "kill"), None, "no session");
    }

    #[test]
    fn nothing_grows_without_bound() {
        let mut console = entered();
        let first = console.propose(START, &MINE, "old").unwrap();
        for _ in 0..PROPOSALS_MAX {
            console.propose(START, &MINE, "new");
        }
        assert_eq!(console.confirm(START, &MINE, first), None);
        for n in 0..2 * SESSIONS_MAX {
            let mut mark = [3; 32];
            mark[0] = n as u8;
            console.enter(START + Duration::from_secs(1), mark, String::new());
        }
        assert_eq!(console.count(START), SESSIONS_MAX);
        assert!(!console.lasts(START, &MINE), "unused for longest");
        for network in 0..2 * NETWORKS_MAX as u128 {
            console.wrong(START, network);
        }
        assert_eq!(console.wrong.len(), NETWORKS_MAX);
    }

    #[test]
    fn who_guesses_tokens_has_to_wait_and_others_do_not() {
        let mut console = entered();
        for _ in 0..WRONG_MAX {
            assert!(console.may_try(START, 7));
            console.wrong(START, 7);
        }
        assert!(!console.may_try(START, 7) && console.may_try(START, 8));
        assert!(console.may_try(START + WRONG_FOR, 7));
        console.wrong(START + WRONG_FOR, 7);
        assert!(console.may_try(START + WRONG_FOR, 7), "the count began anew");
    }
}
