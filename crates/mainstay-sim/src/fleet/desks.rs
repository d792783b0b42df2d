//! A site with a stand-by controller: its workers vote which of the two controls it.
//!
//! Both know the site's address; only who holds a majority's leases grants and takes work. Whoever
//! is relieved may not know it yet, and gateways still reach it: so its machine is kept, and what
//! it grants is judged. Between controllers and workers a message takes no time to speak of; a
//! fault may cut one of the two off. Who hears that the other is in office does not ask.

use super::World;
use super::moment::{Harm, Moment};
use super::nodes::House;
use crate::world::START;
use mainstay_core::lease::Terms;
use mainstay_core::message::Report;
use mainstay_core::names::GatewayId;
use mainstay_core::office::{Office, Vote};
use mainstay_core::site::{Action, Event};
use mainstay_core::time::{Duration, Time};

/// How often a controller asks its workers, as gateways ask sites.
const ASK: Duration = Duration::from_millis(500);
/// A life's asks are numbered from a multiple of this on.
const LIFE: u64 = 1 << 32;

/// Who may control a site.
#[derive(Debug)]
pub struct Desk {
    seats: [Seat; 2],
    votes: Vec<Vote>,
    /// Which of them took office last; its machine is the site's.
    chair: usize,
    terms: Terms,
}

/// One of the two controllers.
#[derive(Debug)]
struct Seat {
    /// While its process runs.
    office: Option<Office>,
    /// What it decided with when it was relieved.
    relieved: Option<Box<House>>,
    /// The last epoch on its disk.
    last: u32,
    lives: u64,
    /// Neither the workers nor the other controller can be reached.
    is_cut: bool,
}

impl Desk {
    /// Two controllers that start, for so many workers that never lent themselves to anybody.
    pub fn new(workers: usize, terms: Terms) -> Desk {
        let seat = || Seat { office: None, relieved: None, last: 0, lives: 0, is_cut: false };
        let votes = (0..workers).map(|_| Vote::first()).collect();
        let mut desk = Desk { seats: [seat(), seat()], votes, chair: 0, terms };
        desk.start();
        desk
    }

    /// The processes that do not run start.
    fn start(&mut self) {
        let workers = self.votes.len() as u16;
        for (place, seat) in self.seats.iter_mut().enumerate() {
            if seat.office.is_none() {
                seat.lives += 1;
                let nonce = seat.lives * LIFE;
                seat.office = Some(Office::new((place as u32, 2), workers, seat.last, nonce));
            }
        }
    }

    /// The epoch of whoever took office last, if it still is in office.
    pub fn in_office(&self, now: Time) -> Option<u32> {
        self.term(now, self.chair)
    }

    /// Whether the site's controller is cut off from its workers.
    pub fn is_cut(&self) -> bool {
        self.seats[self.chair].is_cut
    }

    fn term(&self, now: Time, place: usize) -> Option<u32> {
        self.seats[place].office.as_ref().and_then(|office| office.term(now))
    }

    /// Both ask whom they should, and hear the answers; who is in office now and was not.
    fn round(&mut self, now: Time, is_up: &[bool]) -> Option<(usize, u32)> {
        for place in 0..self.seats.len() {
            let hears = self.seats.iter().all(|seat| !seat.is_cut);
            if hears && self.term(now, 1 - place).is_some() {
                continue;
            }
            let Seat { office: Some(office), is_cut, last, .. } = &mut self.seats[place] else {
                continue;
            };
            for (worker, vote) in self.votes.iter_mut().enumerate() {
                let ask = office.ask(now, worker, &self.terms);
                if !*is_cut && is_up[worker] {
                    let answer = vote.ask(now, place as u32, ask, &self.terms);
                    office.answer(now, worker, answer, &self.terms);
                }
            }
            *last = office.epoch();
        }
        let other = 1 - self.chair;
        self.term(now, other).map(|epoch| (other, epoch))
    }
}

impl World<'_> {
    /// A site's controllers begin to ask its workers.
    pub(super) fn desk_begins(&mut self, at: usize) {
        if let Some(desk) = &mut self.sites[at].desk {
            desk.start();
        }
        // Whose disk tells no epoch asks what the workers have seen before it asks for their votes.
        self.desk_asks(at);
        self.desk_asks(at);
    }

    /// It is time to ask.
    pub(super) fn desk_round(&mut self, at: usize) {
        self.calendar.put(self.now + ASK, Moment::DeskRound(at as u16));
        self.desk_asks(at);
    }

    fn desk_asks(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.sites[at];
        let Some(desk) = &mut node.desk else { return };
        let is_up: Vec<bool> = node.workers.each.iter().map(|worker| worker.is_up).collect();
        let taken = desk.round(now, &is_up);
        let chair = desk.chair;
        let epoch = desk.in_office(now);
        match (taken, epoch) {
            (Some((place, epoch)), None) => {
                // Whoever sat there before has not heard of it.
                let before = node.house.take().map(Box::new);
                desk.seats[chair].relieved = before;
                desk.seats[place].relieved = None;
                desk.chair = place;
                node.epoch = epoch;
                self.controller_seated(at);
            }
            (None, Some(epoch)) if node.house.is_none() => {
                node.epoch = epoch;
                self.controller_seated(at);
            }
            (Some((place, epoch)), Some(other)) => {
                let detail = format!("epochs {other} and {epoch} of {chair} and {place}");
                self.breach("I3", self.plan.gateways + at, detail);
            }
            (None, _) => {}
        }
    }

    /// The controller in office is cut off from its workers, or nobody is any more.
    pub(super) fn desk_cut(&mut self, at: usize, is_cut: bool) {
        let Some(desk) = &mut self.sites[at].desk else { return };
        let chair = desk.chair;
        for (place, seat) in desk.seats.iter_mut().enumerate() {
            seat.is_cut = is_cut && place == chair;
        }
        if !is_cut {
            return;
        }
        // What is under way comes by it.
        for key in self.attempts_of(at) {
            if self.attempts.get(key).is_some_and(|attempt| attempt.at_site) {
                self.lose_leg(key);
                self.leave_site(key);
                self.silence(key);
            }
        }
    }

    /// The process of the controller in office dies.
    pub(super) fn desk_loses(&mut self, at: usize) {
        if let Some(desk) = &mut self.sites[at].desk {
            desk.seats[desk.chair].office = None;
        }
    }

    /// All processes of the site die.
    pub(super) fn desk_dies(&mut self, at: usize) {
        let now = self.now;
        let Some(desk) = &mut self.sites[at].desk else { return };
        for seat in &mut desk.seats {
            seat.office = None;
            seat.relieved = None;
        }
        for vote in &mut desk.votes {
            *vote = Vote::again(now, vote.seen());
        }
    }

    /// What becomes of an attempt that comes to a site with two controllers; nothing is done about
    /// it where one of them takes it.
    pub(super) fn at_desk(&self, at: usize) -> Option<Harm> {
        let desk = self.sites[at].desk.as_ref()?;
        desk.in_office(self.now).is_none().then_some(Harm::Refused)
    }

    /// A report comes to both controllers of a site: who believes that it is in office answers.
    /// True if it is not for the site's machine.
    pub(super) fn desk_hears(&mut self, at: usize, from: u16, report: Report) -> bool {
        let now = self.now;
        let Some(desk) = &mut self.sites[at].desk else { return false };
        let other = 1 - desk.chair;
        let (is_in, believes) = (desk.in_office(now).is_some(), desk.term(now, other).is_some());
        let relieved = desk.seats[other].relieved.as_mut().filter(|_| believes);
        let mut actions = Vec::new();
        if let Some(house) = relieved {
            house.handle(now, Event::Report { from: GatewayId(from), report }, &mut actions);
        }
        for action in actions {
            if let Action::Grant { to, grant } = action {
                self.grant(at, to, grant);
            }
        }
        !is_in
    }

    /// Where two controllers are, they begin to ask at the start.
    pub(super) fn desk_opens(&mut self, at: usize) {
        if self.sites[at].desk.is_some() {
            self.calendar.put(START + ASK, Moment::DeskRound(at as u16));
        }
    }
}
