//! From a person who comes to what they do: plans visits, action by action.

use schemas::Kind;
use uuid::Uuid;

use super::dice::{Dice, scatter, uuid_at};
use super::person::{Permission, Person};
use super::settings::DAY;
use super::visit::{Action, CameFrom, EVENTS, Session, TERMS, Visit, Visitor};
use super::world::{Client, World};

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
/// A longer gap between two hits ends a session, milliseconds.
pub(super) const SESSION_GAP: i64 = 30 * MINUTE;
/// How often the tag tells that a page is still seen, milliseconds.
const HEARTBEAT: i64 = 15 * SECOND;
/// Longest that a hit may wait on a device, milliseconds.
const LONGEST_WAIT: i64 = 7 * DAY;

/// Plans the visits of one coming of a person.
pub(super) struct Planner<'w> {
    pub world: &'w World,
    pub person: &'w Person,
    pub dice: Dice,
    /// Hits that were named so far in all the traffic.
    pub named: &'w mut u64,
}

/// A chain of page views in one tab.
struct Chain {
    at: i64,
    views: usize,
    from: CameFrom,
}

impl Planner<'_> {
    /// The visits of a person who comes at a point in time (Unix milliseconds): one as a rule. `coming` counts the
    /// person's comings.
    pub fn visits(&mut self, coming: u32, at: i64) -> Vec<Visit> {
        let own = self.world.sites_of(self.person.customer);
        let site = self.choose(&own);
        let mut first = self.visit(site, coming, at);
        let views = if self.dice.chance(0.4) { 1 } else { 2 + self.dice.around(2.5) as usize };
        let from = self.arrival();
        self.browse(&mut first, Chain { at, views, from });
        // At midnight, ids that change daily would leave gaps between the tabs that no visit has.
        if self.person.permission != Permission::OneDay && self.dice.chance(0.08) {
            self.open_second_tab(&mut first);
        }
        let mut visits = vec![first];
        if own.len() > 1 && self.dice.chance(0.05) {
            let next = self.go_to_another_site(&visits[0], &own, coming);
            visits.extend(next);
        } else if self.dice.chance(0.02) && visits[0].session == Session::Untold {
            visits.push(self.come_back_at_once(&visits[0], coming));
        }
        let ids_change_daily = self.person.permission == Permission::OneDay;
        let mut visits: Vec<Visit> =
            if ids_change_daily { visits.into_iter().flat_map(|visit| self.by_day(visit)).collect() } else { visits };
        for visit in &mut visits {
            self.send(visit);
        }
        visits.retain(|visit| !visit.actions.is_empty());
        visits
    }

    fn choose(&mut self, own: &[usize]) -> usize {
        let total = own.iter().map(|place| self.world.sites[*place].share).sum();
        let mut drawn = self.dice.below(total);
        for place in own {
            match drawn.checked_sub(self.world.sites[*place].share) {
                Some(rest) => drawn = rest,
                None => return *place,
            }
        }
        own[0]
    }

    fn arrival(&mut self) -> CameFrom {
        let origin = *self.dice.pick(&self.world.lottery);
        CameFrom::Outside(origin, self.dice.between(0, i64::MAX) as u64)
    }

    /// A visit in which nothing was done yet.
    fn visit(&mut self, site: usize, coming: u32, at: i64) -> Visit {
        let (world, person) = (self.world, self.person);
        let device = self.dice.below(person.devices.len());
        let agent = person.devices[device];
        let hour = at.rem_euclid(DAY) / (60 * MINUTE);
        let is_at_work = person.company.is_some() && world.agents[agent].is_desktop() && (7..18).contains(&hour);
        let company = person.company.filter(|_| is_at_work);
        let network = company.map_or(person.provider, |company| world.companies[company].network);
        let client = world.sites[site].client;
        let skew = if device == 0 { person.clock_skew } else { 0 };
        Visit {
            site,
            visitor: self.visitor(site, device, at),
            session: self.session(client, coming, at),
            agent,
            network,
            city: if is_at_work { person.office } else { person.city },
            ip: address(world, site, network, person.number, company),
            office: company,
            clock_skew: (client != Client::Pixel).then_some(skew),
            actions: Vec::new(),
        }
    }

    fn visitor(&self, site: usize, device: usize, at: i64) -> Visitor {
        let person = self.person.number;
        match self.person.permission {
            Permission::All => Visitor::Known(person, visitor_id(self.world, person, device)),
            Permission::OneDay => {
                let place = (site as i64) << 40 | at.div_euclid(DAY) << 8 | device as i64;
                let first = scatter(scatter(self.world.settings.seed ^ u64::from(person)) ^ place as u64);
                Visitor::ForADay(person, format!("{first:016x}{:016x}", scatter(first)))
            }
            Permission::Nothing => Visitor::Nobody(person),
        }
    }

    fn session(&self, client: Client, coming: u32, at: i64) -> Session {
        match (self.person.permission, client) {
            (Permission::Nothing, _) => Session::None,
            (Permission::OneDay, _) | (_, Client::Api) => Session::Untold,
            (Permission::All, Client::Tag | Client::Pixel) => {
                let number = u64::from(self.person.number) << 24 | u64::from(coming);
                Session::Told(uuid_at(at, self.world.settings.seed, 3, number))
            }
        }
    }

    fn name(&mut self, at: i64) -> Uuid {
        *self.named += 1;
        uuid_at(at, self.world.settings.seed, 4, *self.named)
    }

    /// Views pages one after the other in one tab.
    fn browse(&mut self, visit: &mut Visit, chain: Chain) {
        let Chain { mut at, views, mut from } = chain;
        for view in 0..views {
            let pages = self.world.sites[visit.site].pages.len();
            let page = if view == 0 && self.dice.chance(0.4) { 0 } else { self.dice.popular(pages) };
            let left = self.view(visit, at, page, from);
            at = left + self.pause(visit, left);
            let is_away = self.dice.chance(0.03);
            from = if is_away { self.arrival() } else { CameFrom::Page(visit.site, page) };
        }
    }

    /// Time between two pages: a moment as a rule, sometimes as long as a session bears.
    fn pause(&mut self, visit: &Visit, left: i64) -> i64 {
        let last = visit.actions.iter().map(|action| action.occurred_at).max().unwrap_or(left);
        match self.dice.below(1_000) {
            0..4 => last + SESSION_GAP - left,
            4..40 => self.dice.between(MINUTE, last + SESSION_GAP - left),
            _ => self.dice.between(200, 4 * SECOND).min(last + SESSION_GAP - left),
        }
    }

    /// Views one page; gives when it was left.
    fn view(&mut self, visit: &mut Visit, at: i64, page: usize, from: CameFrom) -> i64 {
        let client = self.world.sites[visit.site].client;
        let id = self.name(at);
        let dwell = (self.dice.around(35_000.0) as i64).clamp(SECOND, 10 * MINUTE);
        let view = (client != Client::Pixel).then_some(id);
        let mut action = Action {
            hit_id: id,
            kind: Kind::PageView,
            page: Some(page),
            from,
            view,
            visible_ms: 0,
            detail: 0,
            occurred_at: at,
            received_at: at,
            repeated_at: None,
        };
        visit.actions.push(action.clone());
        for (kind, detail) in self.deeds(client) {
            let when = at + self.dice.between(1, dwell);
            action = Action { kind, detail, hit_id: self.name(when), occurred_at: when, ..action };
            visit.actions.push(action.clone());
        }
        if client != Client::Pixel {
            self.tell_visible_time(
                visit,
                Action { kind: Kind::Heartbeat, detail: 0, occurred_at: at, ..action },
                dwell,
            );
        }
        at + dwell
    }

    /// Heartbeats while the page is seen, and the beacon when it is left.
    fn tell_visible_time(&mut self, visit: &mut Visit, beat: Action, dwell: i64) {
        let opened = beat.occurred_at;
        let seen = if self.dice.chance(0.15) { self.dice.between(SECOND, dwell + 1).min(dwell) } else { dwell };
        let mut tell = |when: i64, visible: i64, hit_id: Uuid| {
            let visible_ms = visible as u32;
            visit.actions.push(Action { hit_id, visible_ms, occurred_at: opened + when, ..beat.clone() });
        };
        for count in 1..=(seen - 1) / HEARTBEAT {
            tell(count * HEARTBEAT, count * HEARTBEAT, self.name(opened + count * HEARTBEAT));
        }
        // Some browsers are closed before they can say how long it was.
        if self.dice.chance(0.95) {
            tell(dwell, seen, self.name(opened + dwell));
        }
    }

    /// What is done on a page besides viewing it.
    fn deeds(&mut self, client: Client) -> Vec<(Kind, usize)> {
        let mut deeds = Vec::new();
        let dice = &mut self.dice;
        if client != Client::Pixel {
            for (kind, share, details) in
                [(Kind::Download, 0.04, 30), (Kind::Outlink, 0.03, 20), (Kind::Search, 0.04, TERMS.len())]
            {
                if dice.chance(share) {
                    deeds.push((kind, dice.popular(details)));
                }
            }
        }
        if dice.chance(0.06) {
            deeds.push((Kind::Event, dice.popular(EVENTS.len())));
        }
        if self.person.permission != Permission::Nothing && dice.chance(self.person.forms) {
            deeds.push((Kind::Form, dice.below(2)));
        }
        deeds
    }

    /// A link opened in a second tab while the first is used.
    fn open_second_tab(&mut self, visit: &mut Visit) {
        let (start, end) = span(visit);
        let from = CameFrom::Page(visit.site, visit.actions[0].page.unwrap_or_default());
        let chain =
            Chain { at: self.dice.between(start + 500, end.max(start + 501)), views: 1 + self.dice.below(2), from };
        self.browse(visit, chain);
    }

    /// From one site of the customer to another: the same ids, a session of its own there.
    fn go_to_another_site(&mut self, before: &Visit, own: &[usize], coming: u32) -> Option<Visit> {
        let site = *self.dice.pick(own);
        if site == before.site {
            return None;
        }
        let at = span(before).1 + self.dice.between(300, 5 * SECOND);
        let ip = address(self.world, site, before.network, self.person.number, before.office);
        let session = match before.session {
            Session::Untold => self.session(self.world.sites[site].client, coming, at),
            session => session,
        };
        let mut next = Visit { site, session, ip, actions: Vec::new(), ..before.clone() };
        if self.person.permission == Permission::OneDay {
            next.visitor = self.visitor(site, 0, at);
        }
        let from = CameFrom::Page(before.site, before.actions[0].page.unwrap_or_default());
        let views = 1 + self.dice.below(3);
        self.browse(&mut next, Chain { at, views, from });
        Some(next)
    }

    /// A millisecond later than a session bears.
    fn come_back_at_once(&mut self, before: &Visit, coming: u32) -> Visit {
        let at = span(before).1 + SESSION_GAP + 1 + before.actions.len() as i64;
        let mut next = Visit { actions: Vec::new(), ..before.clone() };
        next.session = self.session(self.world.sites[before.site].client, coming, at);
        let from = self.arrival();
        self.browse(&mut next, Chain { at, views: 1, from });
        next
    }

    /// Who is another visitor each day is so at midnight, too. A page that is open then tells nothing more.
    fn by_day(&self, mut visit: Visit) -> Vec<Visit> {
        in_order(&mut visit.actions);
        let day = |action: &Action| action.occurred_at.div_euclid(DAY);
        let mut days: Vec<Visit> = Vec::new();
        for action in std::mem::take(&mut visit.actions) {
            match days.last_mut() {
                Some(last) if day(&last.actions[0]) == day(&action) => last.actions.push(action),
                _ if action.kind == Kind::PageView => {
                    let visitor = self.visitor_on(&visit, action.occurred_at);
                    days.push(Visit { visitor, actions: vec![action], ..visit.clone() });
                }
                _ => {}
            }
        }
        for visit in &mut days {
            let views: Vec<Uuid> =
                visit.actions.iter().filter(|a| a.kind == Kind::PageView).map(|a| a.hit_id).collect();
            visit.actions.retain(|action| action.view.is_none_or(|view| views.contains(&view)));
        }
        days
    }

    fn visitor_on(&self, visit: &Visit, at: i64) -> Visitor {
        let device = self.person.devices.iter().position(|agent| *agent == visit.agent).unwrap_or_default();
        self.visitor(visit.site, device, at)
    }

    /// Decides when the hits arrive; what would arrive after the end is not done.
    fn send(&mut self, visit: &mut Visit) {
        in_order(&mut visit.actions);
        let end = self.world.settings.end;
        let client = self.world.sites[visit.site].client;
        let may_wait = client == Client::Tag && self.person.permission == Permission::All;
        // A repeat of one who is another visitor each day might be another visitor's.
        let may_repeat = client != Client::Pixel && self.person.permission == Permission::All;
        // The device goes offline from some hit on: what follows arrives together.
        let offline = (may_wait && self.dice.chance(0.01)).then(|| {
            let since = visit.actions[self.dice.below(visit.actions.len())].occurred_at;
            (since, self.dice.between(MINUTE, LONGEST_WAIT - DAY / 2))
        });
        visit.actions.retain(|action| action.occurred_at < end);
        for action in &mut visit.actions {
            let travel = if client == Client::Pixel { 0 } else { self.dice.between(15, 900) };
            let wait = offline.map_or(0, |(since, wait)| if action.occurred_at >= since { wait } else { 0 });
            action.received_at = (action.occurred_at + travel + wait).min(end);
            let repeats = may_repeat && self.dice.chance(0.01);
            action.repeated_at = repeats.then(|| (action.received_at + self.dice.around(30_000.0) as i64 + 1).min(end));
        }
    }
}

/// The visitor id of a person's device, the same on all sites of a customer.
pub(super) fn visitor_id(world: &World, person: u32, device: usize) -> String {
    let settings = &world.settings;
    let number = u64::from(person) << 8 | device as u64;
    let given_at = settings.start - scatter(number) as i64 % (settings.end - settings.start);
    uuid_at(given_at, settings.seed, 5, number).to_string()
}

/// Puts actions in order of time, no two at the same millisecond.
fn in_order(actions: &mut [Action]) {
    actions.sort_by_key(|action| (action.occurred_at, action.hit_id));
    let mut last = i64::MIN;
    for action in actions {
        action.occurred_at = action.occurred_at.max(last + 1);
        last = action.occurred_at;
    }
}

fn span(visit: &Visit) -> (i64, i64) {
    let times = || visit.actions.iter().map(|action| action.occurred_at);
    (times().min().unwrap_or_default(), times().max().unwrap_or_default())
}

/// Somebody's address in a network, as far as the site keeps it.
pub(super) fn address(world: &World, site: usize, network: usize, person: u32, company: Option<usize>) -> String {
    let (first, second) = world.networks[network].prefix;
    // An office has one address, a home each its own.
    let place = company.map_or(person as usize, |company| company * 7 + 3);
    let (third, fourth) = (place / 250 % 256, 1 + place % 250);
    match world.sites[site].ip_policy {
        schemas::IpPolicy::Full => format!("{first}.{second}.{third}.{fourth}"),
        schemas::IpPolicy::Truncated => format!("{first}.{second}.{third}.0"),
        schemas::IpPolicy::None => String::new(),
    }
}
