//! Hits in the order in which they arrive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use schemas::{EnrichedHit, Kind};

use super::calendar::Calendar;
use super::dice::{Dice, uuid_at};
use super::ledger::Ledger;
use super::origins::ROBOTS;
use super::person::{Permission, Person};
use super::places::{CLOUDS, PROVIDERS};
use super::plan::{Planner, address, visitor_id};
use super::render;
use super::visit::{Action, CameFrom, LETTERS, Session, SharedVisit, Visit, Visitor};
use super::world::World;

/// Chances that what comes next is a robot's round, or a mail that is opened.
const ROBOTS_SHARE: f64 = 0.08;
const MAILS_SHARE: f64 = 0.03;

/// A hit on its way.
struct Travelling {
    received_at: i64,
    /// Decides between hits that arrive at the same millisecond.
    number: u64,
    visit: SharedVisit,
    action: usize,
}

impl Travelling {
    fn order(&self) -> (i64, u64) {
        (self.received_at, self.number)
    }
}

impl PartialEq for Travelling {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Travelling {}

impl PartialOrd for Travelling {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Travelling {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

/// Somebody who will come again.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Return {
    at: i64,
    person: u32,
    coming: u32,
}

/// All hits of a world, in the order in which they arrive.
pub struct Traffic<'w> {
    world: &'w World,
    calendar: Calendar,
    dice: Dice,
    people: u32,
    returns: BinaryHeap<Reverse<Return>>,
    travelling: BinaryHeap<Reverse<Travelling>>,
    /// When the next visit begins, Unix milliseconds; none where all have begun.
    next_visit_at: Option<i64>,
    rows: u64,
    named: u64,
    ledger: Ledger,
}

impl<'w> Traffic<'w> {
    /// The traffic of a world, from its beginning.
    #[must_use]
    pub fn new(world: &'w World) -> Self {
        let settings = &world.settings;
        Self {
            world,
            calendar: Calendar::new(settings.start, settings.end),
            dice: Dice::of(settings.seed, 7, 0),
            people: 0,
            returns: BinaryHeap::new(),
            travelling: BinaryHeap::new(),
            next_visit_at: Some(settings.start),
            rows: 0,
            named: 0,
            ledger: Ledger::default(),
        }
    }

    /// Keeps every visit in the ledger, some hundred bytes a hit. Without this it only counts.
    #[must_use]
    pub fn with_ledger(mut self) -> Self {
        self.ledger.keep_visits();
        self
    }

    /// What is true of the traffic so far. It is ahead of the hits by those that are on their way.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The ledger, once all hits were taken.
    #[must_use]
    pub fn into_ledger(self) -> Ledger {
        self.ledger
    }

    fn begin_visit(&mut self, at: i64) {
        if self.dice.chance(ROBOTS_SHARE) {
            let visit = self.robots_round(at);
            self.begin(visit);
        } else if !(self.dice.chance(MAILS_SHARE) && self.open_mail(at)) {
            self.person_comes(at);
        }
        let share = self.rows as f64 / self.world.settings.hits as f64;
        self.next_visit_at = (share < 1.0).then(|| self.calendar.time_of(share));
    }

    fn person_comes(&mut self, at: i64) {
        let is_due = self.returns.peek().is_some_and(|next| next.0.at <= at);
        let (number, coming) = match if is_due { self.returns.pop() } else { None } {
            Some(Reverse(next)) => (next.person, next.coming),
            None => (self.people, 0),
        };
        self.people += u32::from(coming == 0);
        let person = Person::of(self.world, number);
        let dice = Dice::of(self.world.settings.seed, 8, u64::from(number) << 24 | u64::from(coming));
        let mut planner = Planner { world: self.world, person: &person, dice, named: &mut self.named };
        let visits = planner.visits(coming, at);
        let ended = visits.iter().flat_map(|visit| visit.actions.last()).map(|action| action.occurred_at).max();
        let comes_back = person.returns_after(ended.unwrap_or(at), &mut planner.dice);
        if let Some(at) = comes_back.filter(|at| *at < self.world.settings.end) {
            self.returns.push(Reverse(Return { at, person: number, coming: coming + 1 }));
        }
        visits.into_iter().for_each(|visit| self.begin(visit));
    }

    /// Sends the hits of a visit on their way.
    fn begin(&mut self, visit: Visit) {
        let visit = Arc::new(visit);
        for (action, planned) in visit.actions.iter().enumerate() {
            for received_at in std::iter::once(planned.received_at).chain(planned.repeated_at) {
                self.rows += 1;
                let travelling = Travelling { received_at, number: self.rows, visit: visit.clone(), action };
                self.travelling.push(Reverse(travelling));
            }
        }
        self.ledger.note(visit);
    }

    /// A mail that somebody opens who was here before. False where that person may not be recognised.
    fn open_mail(&mut self, at: i64) -> bool {
        if self.people == 0 {
            return false;
        }
        let number = self.dice.below(self.people as usize) as u32;
        let person = Person::of(self.world, number);
        if person.permission != Permission::All {
            return false;
        }
        let site = self.world.sites_of(person.customer)[0];
        let detail = self.dice.below(LETTERS.len());
        let from = CameFrom::Outside(self.world.origins.len() - 1, 0);
        let action = self.action(Kind::MailOpen, at, from, (None, detail));
        self.begin(Visit {
            site,
            visitor: Visitor::Known(number, visitor_id(self.world, number, 0)),
            session: Session::None,
            agent: person.devices[0],
            network: person.provider,
            city: person.city,
            ip: address(self.world, site, person.provider, number, None),
            office: None,
            clock_skew: None,
            actions: vec![action],
        });
        true
    }

    fn robots_round(&mut self, at: i64) -> Visit {
        let site = self.dice.below(self.world.sites.len());
        let agent = self.dice.popular(ROBOTS.len());
        let network = PROVIDERS.len() + self.dice.below(CLOUDS.len());
        let pages = self.world.sites[site].pages.len();
        let number = self.rows;
        let count = 2 + self.dice.around(8.0) as i64;
        let times = (0..count).map(|step| at + step * 700).filter(|time| *time <= self.world.settings.end);
        let actions = times
            .map(|time| {
                let page = self.dice.below(pages);
                self.action(Kind::PageView, time, CameFrom::Outside(0, 0), (Some(page), 0))
            })
            .collect();
        Visit {
            site,
            visitor: Visitor::Robot(uuid_at(at, self.world.settings.seed, 9, number).to_string()),
            session: Session::None,
            agent,
            network,
            city: 1,
            ip: address(self.world, site, network, agent as u32, None),
            office: None,
            clock_skew: None,
            actions,
        }
    }

    fn action(&mut self, kind: Kind, at: i64, from: CameFrom, (page, detail): (Option<usize>, usize)) -> Action {
        self.named += 1;
        Action {
            hit_id: uuid_at(at, self.world.settings.seed, 4, self.named),
            kind,
            page,
            from,
            view: None,
            visible_ms: 0,
            detail,
            occurred_at: at,
            received_at: at,
            repeated_at: None,
        }
    }
}

impl<'w> Iterator for Traffic<'w> {
    type Item = EnrichedHit<'w>;

    fn next(&mut self) -> Option<EnrichedHit<'w>> {
        // Whatever arrives before the next visit begins can't be overtaken any more.
        while let Some(at) = self.next_visit_at
            && self.travelling.peek().is_none_or(|first| first.0.received_at >= at)
        {
            self.begin_visit(at);
        }
        let Reverse(next) = self.travelling.pop()?;
        Some(render::hit(self.world, &next.visit, &next.visit.actions[next.action], next.received_at))
    }
}
