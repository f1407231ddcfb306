//! Answers that follow from a ledger, worked out visit by visit, without any SQL.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{Contact, Kind, SourceKind};
use uuid::Uuid;

use super::ledger::Ledger;
use super::person::Person;
use super::visit::{Action, CameFrom, Session, TERMS, Visit, Visitor};
use super::world::{Company, World};

/// A session.
#[derive(Debug, Clone)]
pub struct SessionTruth<'a> {
    /// The visit that it is.
    pub visit: &'a Visit,
    /// When its first hit happened, Unix milliseconds.
    pub started_at: i64,
    /// When its last hit happened, Unix milliseconds.
    pub ended_at: i64,
    /// Visible time of its page views, milliseconds.
    pub visible_ms: u64,
    /// Page views.
    pub page_views: usize,
    /// What was done besides viewing pages.
    pub events: usize,
    /// First page that was viewed, a place in the site's pages.
    pub entry_page: Option<usize>,
    /// Last page that was viewed.
    pub exit_page: Option<usize>,
    /// What brought the visitor first, a place in [`World::origins`].
    pub origin: Option<usize>,
    /// The last card that was submitted in it.
    pub card: Option<Contact<'static>>,
}

impl SessionTruth<'_> {
    /// Whether one page was viewed at most and nothing else done.
    #[must_use]
    pub fn is_bounce(&self) -> bool {
        self.page_views <= 1 && self.events == 0
    }

    /// How often this was done in it.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.visit.count(kind)
    }
}

impl Visit {
    /// How often this was done in it.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.actions.iter().filter(|action| action.kind == kind).count()
    }

    /// Page views that tell for how long they were visible: their ids, and milliseconds.
    #[must_use]
    pub fn visible(&self) -> BTreeMap<Uuid, u32> {
        let mut visible = BTreeMap::new();
        for action in &self.actions {
            if let Some(view) = action.view.filter(|_| action.visible_ms > 0) {
                let longest = visible.entry(view).or_insert(0);
                *longest = action.visible_ms.max(*longest);
            }
        }
        visible
    }

    /// What brought the visitor, each time: places in [`World::origins`], in order of time. That they came directly is told
    /// only where nothing else brought them; and nothing is by page views alone, unless none of these came from outside.
    #[must_use]
    pub fn origins(&self, world: &World) -> Vec<usize> {
        let outside = |action: &Action| match action.from {
            CameFrom::Outside(origin, _) => Some((action.kind, origin)),
            CameFrom::Page(..) => None,
        };
        let all: Vec<_> = self.actions.iter().filter_map(outside).collect();
        let those = |chosen: &dyn Fn(Kind, usize) -> bool| -> Vec<usize> {
            all.iter().filter(|(kind, origin)| chosen(*kind, *origin)).map(|(_, origin)| *origin).collect()
        };
        let is_direct = |origin: usize| world.origins[origin].kind == SourceKind::Direct;
        let choices = [
            those(&|kind, origin| kind == Kind::PageView && !is_direct(origin)),
            those(&|kind, _| kind == Kind::PageView),
            those(&|_, origin| !is_direct(origin)),
        ];
        choices.into_iter().find(|origins| !origins.is_empty()).unwrap_or_else(|| those(&|_, _| true))
    }

    /// The cards that were submitted in it, each with its action, in order of time.
    pub fn cards<'a>(&'a self, world: &'a World) -> impl DoubleEndedIterator<Item = (&'a Action, Contact<'static>)> {
        let forms = self.actions.iter().filter(|action| action.kind == Kind::Form);
        forms.filter_map(|action| match self.visitor {
            Visitor::Known(person, _) => {
                let person = Person::of(world, person);
                Some((action, person.card(world, action.occurred_at, action.is_short_form())))
            }
            _ => None,
        })
    }

    fn is_human(&self) -> bool {
        !self.visitor.is_robot()
    }
}

impl Ledger {
    /// Every session.
    pub fn sessions<'a>(&'a self, world: &'a World) -> impl Iterator<Item = SessionTruth<'a>> {
        self.visits().filter(|visit| visit.session != Session::None).map(|visit| {
            let viewed = || visit.actions.iter().filter(|action| action.kind == Kind::PageView);
            SessionTruth {
                visit,
                started_at: visit.actions.first().map_or(0, |action| action.occurred_at),
                ended_at: visit.actions.last().map_or(0, |action| action.occurred_at),
                visible_ms: visit.visible().values().map(|visible| u64::from(*visible)).sum(),
                page_views: viewed().count(),
                events: visit.actions.len() - viewed().count() - visit.count(Kind::Heartbeat),
                entry_page: viewed().next().and_then(|action| action.page),
                exit_page: viewed().next_back().and_then(|action| action.page),
                origin: visit.origins(world).first().copied(),
                card: visit.cards(world).next_back().map(|(_, card)| card),
            }
        })
    }

    /// Every visitor who has an id, by site and id: their visits, by the time of their first hit.
    #[must_use]
    pub fn visitors(&self) -> BTreeMap<(usize, &str), Vec<&Visit>> {
        let mut visitors: BTreeMap<(usize, &str), Vec<&Visit>> = BTreeMap::new();
        for visit in self.visits().filter(|visit| visit.is_human() && !visit.visitor.id().is_empty()) {
            visitors.entry((visit.site, visit.visitor.id())).or_default().push(visit);
        }
        for visits in visitors.values_mut() {
            visits.sort_by_key(|visit| visit.actions.first().map(|action| action.occurred_at));
        }
        visitors
    }

    /// Every page that was viewed, by site and place.
    #[must_use]
    pub fn pages(&self) -> BTreeMap<(usize, usize), Seen<'_>> {
        let mut pages: BTreeMap<(usize, usize), Seen<'_>> = BTreeMap::new();
        for visit in self.visits().filter(|visit| visit.is_human()) {
            let visible = visit.visible();
            for action in visit.actions.iter().filter(|action| action.kind == Kind::PageView) {
                let page = pages.entry((visit.site, action.page.unwrap_or_default())).or_default();
                page.add(visit, action, visible.get(&action.hit_id).copied().unwrap_or_default());
            }
        }
        pages
    }

    /// Every thing of a kind that was done, by site and [`Action::detail`].
    #[must_use]
    pub fn deeds(&self, kind: Kind) -> BTreeMap<(usize, usize), Seen<'_>> {
        let mut deeds: BTreeMap<(usize, usize), Seen<'_>> = BTreeMap::new();
        for visit in self.visits().filter(|visit| visit.is_human()) {
            for action in visit.actions.iter().filter(|action| action.kind == kind) {
                deeds.entry((visit.site, action.detail)).or_default().add(visit, action, 0);
            }
        }
        deeds
    }

    /// Every term that was searched for, by site and the term in lower case.
    #[must_use]
    pub fn searches(&self) -> BTreeMap<(usize, String), Seen<'_>> {
        let mut terms: BTreeMap<(usize, String), Seen<'_>> = BTreeMap::new();
        for ((site, term), seen) in self.deeds(Kind::Search) {
            terms.entry((site, TERMS[term].to_lowercase())).or_default().merge(seen);
        }
        terms
    }

    /// Every robot, by site and place in [`super::origins::ROBOTS`].
    #[must_use]
    pub fn robots(&self) -> BTreeMap<(usize, usize), Seen<'_>> {
        let mut robots: BTreeMap<(usize, usize), Seen<'_>> = BTreeMap::new();
        for visit in self.visits().filter(|visit| !visit.is_human()) {
            for action in &visit.actions {
                robots.entry((visit.site, visit.agent)).or_default().add(visit, action, 0);
            }
        }
        robots
    }

    /// The last address that each visitor gave, by site and visitor id.
    #[must_use]
    pub fn addresses(&self, world: &World) -> BTreeMap<(usize, &str), String> {
        let mut given: BTreeMap<(usize, &str), (i64, String)> = BTreeMap::new();
        for visit in self.visits() {
            for (action, card) in visit.cards(world) {
                let last = given.entry((visit.site, visit.visitor.id())).or_default();
                if action.occurred_at >= last.0 {
                    *last = (action.occurred_at, card.email.into_owned());
                }
            }
        }
        given.into_iter().map(|(visitor, (_, email))| (visitor, email)).collect()
    }
}

/// How often, by whom and when something was seen or done.
#[derive(Debug, Clone, Default)]
pub struct Seen<'a> {
    /// How often.
    pub times: usize,
    /// Ids of the visitors who have one.
    pub visitors: BTreeSet<&'a str>,
    /// Sessions, by their visits.
    pub sessions: BTreeSet<*const Visit>,
    /// Pages it was done on, places in the site's pages.
    pub pages: BTreeSet<usize>,
    /// Visible time, milliseconds.
    pub visible_ms: u64,
    /// How often visible time was told.
    pub told: usize,
    /// When first, Unix milliseconds.
    pub first_at: i64,
    /// When last, Unix milliseconds.
    pub last_at: i64,
}

impl<'a> Seen<'a> {
    fn add(&mut self, visit: &'a Visit, action: &Action, visible_ms: u32) {
        let at = action.occurred_at;
        (self.first_at, self.last_at) =
            if self.times == 0 { (at, at) } else { (self.first_at.min(at), self.last_at.max(at)) };
        self.times += 1;
        self.visitors.extend(Some(visit.visitor.id()).filter(|id| !id.is_empty()));
        self.sessions.extend((visit.session != Session::None).then_some(std::ptr::from_ref(visit)));
        self.pages.extend(action.page);
        self.visible_ms += u64::from(visible_ms);
        self.told += usize::from(visible_ms > 0);
    }

    fn merge(&mut self, other: Self) {
        (self.first_at, self.last_at) = match self.times {
            0 => (other.first_at, other.last_at),
            _ => (self.first_at.min(other.first_at), self.last_at.max(other.last_at)),
        };
        self.times += other.times;
        self.visitors.extend(other.visitors);
        self.sessions.extend(other.sessions);
        self.pages.extend(other.pages);
        self.visible_ms += other.visible_ms;
        self.told += other.told;
    }
}

/// How a company is known from a visit, the best evidence first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// A partner knows the address.
    Partner,
    /// The domain of the visitor's e-mail address.
    ContactEmail,
    /// The organisation of the network.
    Network,
}

impl Visit {
    /// What its company is known as (its domain, else its name, in lower case), and from what. `email` is the
    /// address that the visitor gave last.
    #[must_use]
    pub fn company(&self, world: &World, email: Option<&String>) -> (String, Evidence) {
        if let Some(known) = self.known_to_partner(world) {
            return (known.domain.clone(), Evidence::Partner);
        }
        let employer = self.visitor.person().and_then(|person| Person::of(world, person).company);
        if let (Some(_), Some(Company { domain, .. })) = (email, employer.map(|place| &world.companies[place])) {
            return (domain.clone(), Evidence::ContactEmail);
        }
        let network = &world.networks[self.network];
        let name = if network.domain.is_empty() { &network.organisation } else { &network.domain };
        (name.to_lowercase(), Evidence::Network)
    }
}
