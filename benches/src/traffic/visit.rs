//! A visit as it truly was: who came to which site, from where, and all that they did there, in order of time.

use std::sync::Arc;

use schemas::Kind;
use uuid::Uuid;

use super::world::{Company, World};

/// A visit to one site. Opened mails and robots' rounds are visits, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// Its site, a place in [`super::World::sites`].
    pub site: usize,
    /// Who made it.
    pub visitor: Visitor,
    /// The session that it is.
    pub session: Session,
    /// Browser, a place in [`super::World::agents`]; of a robot, in [`super::origins::ROBOTS`].
    pub agent: usize,
    /// Network, a place in [`super::World::networks`].
    pub network: usize,
    /// City, a place in [`super::places::CITIES`].
    pub city: usize,
    /// Address, as far as the site keeps it.
    pub ip: String,
    /// The company at whose office it was made, a place in [`super::World::companies`].
    pub office: Option<usize>,
    /// How far the client's clock is behind, milliseconds; none where the client tells no times.
    pub clock_skew: Option<i64>,
    /// What was done, in order of time, each at another millisecond.
    pub actions: Vec<Action>,
}

impl Visit {
    /// The company that a partner knows by the address.
    #[must_use]
    pub fn known_to_partner<'w>(&self, world: &'w World) -> Option<&'w Company> {
        self.office.map(|place| &world.companies[place]).filter(|company| company.is_known_to_partner)
    }
}

/// Who visits.
#[derive(Debug, Clone, PartialEq)]
pub enum Visitor {
    /// A person who is recognised: the number, and the visitor id of the device.
    Known(u32, String),
    /// A person who is recognised for a day: the number, and the hash of that day.
    ForADay(u32, String),
    /// A person of whom nothing may be kept.
    Nobody(u32),
    /// A robot, and its visitor id.
    Robot(String),
}

impl Visitor {
    /// The visitor id; empty where there is none.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Known(_, id) | Self::ForADay(_, id) | Self::Robot(id) => id,
            Self::Nobody(_) => "",
        }
    }

    /// The person.
    #[must_use]
    pub fn person(&self) -> Option<u32> {
        match self {
            Self::Known(person, _) | Self::ForADay(person, _) | Self::Nobody(person) => Some(*person),
            Self::Robot(_) => None,
        }
    }

    /// Whether the visitor can't be recognised on another day.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::ForADay(..) | Self::Nobody(_))
    }

    /// Whether it is a robot.
    #[must_use]
    pub fn is_robot(&self) -> bool {
        matches!(self, Self::Robot(_))
    }
}

/// Which session a visit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// The client tells its id.
    Told(Uuid),
    /// The client tells none: it has to be found from the gaps between hits, which are of 30 minutes at most within a
    /// visit, and longer between two of one visitor.
    Untold,
    /// It is none: an opened mail, a visit that names nobody, a robot's round.
    None,
}

/// Where somebody was before a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameFrom {
    /// Outside: a place in [`super::World::origins`], and the number of the click.
    Outside(usize, u64),
    /// Another page of the customer: its site and its place in [`super::world::Site::pages`].
    Page(usize, usize),
}

/// One thing that was done; the hits of heartbeats are here, too.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Names the hit.
    pub hit_id: Uuid,
    /// What it was.
    pub kind: Kind,
    /// On which page, a place in [`super::world::Site::pages`]; none for an opened mail.
    pub page: Option<usize>,
    /// Where the visitor came from to this page.
    pub from: CameFrom,
    /// The page view it belongs to, where the client tells.
    pub view: Option<Uuid>,
    /// Visible time of that page view so far, milliseconds; 0 where not told.
    pub visible_ms: u32,
    /// Which file, link, search term, event, mail or kind of form.
    pub detail: usize,
    /// When it happened, Unix milliseconds.
    pub occurred_at: i64,
    /// When its hit arrived first, Unix milliseconds.
    pub received_at: i64,
    /// When the same hit arrived once more, if it did, Unix milliseconds.
    pub repeated_at: Option<i64>,
}

/// A visit that is shared by its hits on their way.
pub(super) type SharedVisit = Arc<Visit>;

/// Names of custom events, by [`Action::detail`].
pub const EVENTS: &[&str] = &["video_play", "chat_open", "configurator_used", "price_calculated", "quote_requested"];
/// Terms of searches on a site, by [`Action::detail`].
pub const TERMS: &[&str] = &[
    "pump",
    "Pump",
    "valve",
    "price list",
    "spare parts",
    "ATEX",
    "manual",
    "seal kit",
    "Wirkungsgrad",
    "delivery time",
];
/// Mails, by [`Action::detail`].
pub const LETTERS: &[&str] = &["spring", "summer", "fair", "service"];

impl Action {
    /// Whether a form asks for name and address alone.
    #[must_use]
    pub fn is_short_form(&self) -> bool {
        self.detail == 1
    }
}
