//! People: where they work, what they use, what they permit, how often they come back.

use schemas::Contact;

use super::dice::Dice;
use super::places::{CITIES, PROVIDERS};
use super::settings::DAY;
use super::world::{CUSTOMERS, World};

/// What a person lets us keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Cookies.
    All,
    /// Under an objection signal: a hash that is forgotten after the day.
    OneDay,
    /// No identifier at all.
    Nothing,
}

/// How often somebody comes back.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Habit {
    /// Chance to come back after a visit.
    returns: f64,
    /// Mean time until then, milliseconds.
    after: f64,
}

/// A person. All of it follows from the seed and the number.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// Names the person.
    pub number: u32,
    /// Whose sites the person visits.
    pub customer: usize,
    /// Employer, a place in [`World::companies`].
    pub company: Option<usize>,
    /// Home, a place in [`CITIES`].
    pub city: usize,
    /// Office, a place in [`CITIES`]; home where there is none.
    pub office: usize,
    /// Provider at home, a place in [`World::networks`].
    pub provider: usize,
    /// Devices, places in [`World::agents`]; each has a visitor id of its own.
    pub devices: Vec<usize>,
    /// What may be kept.
    pub permission: Permission,
    /// How far the clock of the first device is behind, milliseconds.
    pub clock_skew: i64,
    /// How much the person likes to fill in forms, as a chance for each page view.
    pub forms: f64,
    habit: Habit,
    /// When the person gets another job title and telephone, if ever, Unix milliseconds.
    promoted_at: i64,
}

const FIRST_NAMES: &[&str] = &["Anna", "Ben", "Cleo", "David", "Eva", "Felix", "Grace", "Hugo", "Ines", "Jan"];
const LAST_NAMES: &[&str] = &["Berg", "Fischer", "Keller", "Lang", "Meyer", "Novak", "Olsen", "Rossi", "Smith", "Weiß"];
const TITLES: &[&str] = &["Buyer", "Engineer", "Head of Purchasing", "Plant Manager", "CTO"];
const MAILBOXES: &[&str] = &["gmail.com", "gmx.de", "outlook.com", "yahoo.com"];

impl Person {
    /// The person of a number.
    #[must_use]
    pub fn of(world: &World, number: u32) -> Self {
        let mut dice = Dice::of(world.settings.seed, 2, number.into());
        let customer = loop {
            let drawn = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][dice.below(10)].min(CUSTOMERS - 1);
            if world.sites.iter().any(|site| site.customer == drawn) {
                break drawn;
            }
        };
        let company = dice.chance(0.5).then(|| dice.popular(world.companies.len()));
        let city = dice.popular(CITIES.len());
        let office = company.map_or(city, |place| *dice.pick(&world.companies[place].offices));
        let devices = if dice.chance(0.25) { 2 } else { 1 };
        let permission = match dice.below(100) {
            0..3 => Permission::Nothing,
            3..15 => Permission::OneDay,
            _ => Permission::All,
        };
        let habit = match dice.below(10) {
            0..4 => Habit { returns: 0.1, after: 20.0 * DAY as f64 },
            4..8 => Habit { returns: 0.6, after: 6.0 * DAY as f64 },
            _ => Habit { returns: 0.92, after: 1.5 * DAY as f64 },
        };
        let clock_skew = match dice.below(20) {
            0 => dice.between(-3_600_000, 3_600_000),
            1 => dice.between(0, 2 * 365 * DAY),
            _ => dice.between(-900, 900),
        };
        Self {
            number,
            customer,
            company,
            city,
            office,
            provider: dice.below(PROVIDERS.len()),
            devices: (0..devices).map(|_| dice.popular(world.agents.len())).collect(),
            permission,
            clock_skew,
            forms: if dice.chance(0.3) { 0.04 } else { 0.001 },
            habit,
            promoted_at: world.settings.start + dice.between(0, 4 * (world.settings.end - world.settings.start)),
        }
    }

    /// When the person comes back after a visit that ended then, if at all. Unix milliseconds.
    pub(super) fn returns_after(&self, ended: i64, dice: &mut Dice) -> Option<i64> {
        // More than half an hour, so that two visits are two, however sessions are told apart.
        dice.chance(self.habit.returns).then(|| ended + 31 * 60_000 + dice.around(self.habit.after) as i64)
    }

    /// The business card that the person would submit then (Unix milliseconds): `is_short` is name and address alone.
    #[must_use]
    pub fn card(&self, world: &World, at: i64, is_short: bool) -> Contact<'static> {
        let number = self.number as usize;
        let first = FIRST_NAMES[number % FIRST_NAMES.len()];
        let last = LAST_NAMES[number / FIRST_NAMES.len() % LAST_NAMES.len()];
        let company = self.company.map(|place| &world.companies[place]);
        let domain = match company {
            // Larger companies have mail hosts below their domain.
            Some(company) if number.is_multiple_of(5) => format!("mail.{}", company.domain),
            Some(company) => company.domain.clone(),
            None => MAILBOXES[number % MAILBOXES.len()].to_owned(),
        };
        let mut card = Contact {
            name: format!("{first} {last}").into(),
            email: format!("{first}.{}.{number}@{domain}", if last == "Weiß" { "Weiss" } else { last }).into(),
            ..Contact::default()
        };
        if !is_short {
            let promotions = usize::from(at >= self.promoted_at);
            card.job_title = TITLES[(number + promotions) % TITLES.len()].into();
            card.phone = format!("+49 {} {}", 30 + promotions, 1_000_000 + number).into();
            card.company = company.map_or_else(String::new, |company| company.name.clone()).into();
            card.address = format!("{} Example Road, {}", 1 + number % 200, world.city(self.office).name).into();
        }
        card
    }
}
