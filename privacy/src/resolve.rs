//! From what is given to all that names the same person.
//!
//! | from | to | where it stands |
//! |---|---|---|
//! | visitor, address | address, visitor | `contact_links`: the newest word on each pair counts |
//! | address | address | `contact_merges`, both ways |
//! | address | address | `contact_cards`, both ways, where the one was corrected to the other |
//! | address, visitor | phone | `contact_cards` |
//! | phone | address, visitor | `contact_cards`, where the phone was given: one that was found may be a switchboard's |
//! | visitor | visitor | the topic `privacy`: the id under which hits are kept that came after the visitor was forgotten |
//!
//! A phone that was found and that somebody else told, too, names more than this person, and is left out. Links are followed
//! across the sites of one customer (`customer_sites`) and no further.

use std::collections::{BTreeMap, BTreeSet};

use schemas::SubjectKind;
use serde_json::Value;
use service::privacy::keys::Keys;

use crate::database::{Database, Row, is_in, literal, text};
use crate::error::PrivacyError;
use crate::options::SubjectOptions;
use crate::readable;
use crate::subject::{Identifier, values};
use crate::topic::Register;

/// A text without the white space around it: all that Unicode knows, as hits bring what people pasted.
fn trimmed(column: &str) -> String {
    let white = r"[\\s\\pZ\\x0B\\x{85}]+";
    format!("replaceRegexpAll({column}, '^{white}|{white}$', '')")
}

/// How an address is written before it is hashed, as an expression over a column: what [`service::privacy::keys::normal`] does.
#[must_use]
pub fn normal_email(column: &str) -> String {
    format!("lowerUTF8({})", trimmed(column))
}

/// How a phone is written before it is hashed, as an expression over a column: what [`service::privacy::keys::normal`] does.
#[must_use]
pub fn normal_phone(column: &str) -> String {
    let (digits, whole) = (format!("replaceRegexpAll({column}, '[^0-9]', '')"), trimmed(column));
    format!(
        "multiIf({digits} = '', '', startsWith({digits}, '00'), concat('+', substring({digits}, 3)), \
         startsWith({whole}, '+'), concat('+', {digits}), {digits})"
    )
}

/// Why two identifiers are one person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What was known.
    pub from: Identifier,
    /// What it led to.
    pub to: Identifier,
    /// Where.
    pub site: String,
    /// Why, and when that was told last.
    pub why: String,
    /// Whether it was followed, and if not, why.
    pub fate: Fate,
}

/// What became of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was followed.
    Followed,
    /// The operator cut it.
    Cut,
    /// Somebody undid it by hand.
    Undone,
    /// Others told the same phone.
    Shared,
}

/// A person, as far as is known.
#[derive(Debug, Clone, Default)]
pub struct Person {
    /// Sites of the customer, that of the request first.
    pub sites: Vec<String>,
    /// All that names them.
    pub identifiers: BTreeSet<Identifier>,
    /// How it was found.
    pub links: Vec<Link>,
}

impl Person {
    /// All hashes of what names them, under all keys, and of which site each is.
    #[must_use]
    pub fn hashes(&self, keys: &Keys) -> BTreeMap<String, String> {
        let mut hashes = BTreeMap::new();
        for site in &self.sites {
            for identifier in &self.identifiers {
                hashes.extend(identifier.hashes(keys, site).map(|hash| (hash, site.clone())));
            }
        }
        hashes
    }

    /// Addresses that somebody who knows says are not theirs, although they were told on what is.
    pub fn not_theirs(&self) -> impl Iterator<Item = &str> {
        let is_known = |link: &&Link| matches!(link.fate, Fate::Cut | Fate::Undone);
        let addresses =
            self.links.iter().filter(is_known).map(|link| &link.to).filter(|to| to.kind == SubjectKind::Email);
        addresses.filter(|to| !self.identifiers.contains(*to)).map(|to| to.value.as_str())
    }
}

/// Finds all that names a person.
///
/// # Errors
/// Where nothing is given, or ClickHouse does not answer.
pub async fn resolve(
    database: &Database,
    register: &Register,
    keys: &Keys,
    subject: &SubjectOptions,
) -> Result<Person, PrivacyError> {
    let given = subject.given()?;
    let sites = sites(database, &subject.site).await?;
    let mut search = Search { database, subject, person: Person { sites, ..Person::default() } };
    let mut frontier: BTreeSet<Identifier> = given.iter().cloned().collect();
    search.person.identifiers.clone_from(&frontier);
    while !frontier.is_empty() {
        let mut found = search.linked(&frontier).await?;
        found.extend(search.merged(&frontier).await?);
        found.extend(search.corrected(&frontier).await?);
        found.extend(search.told(&frontier).await?);
        found.extend(search.forgotten(register, keys, &frontier));
        frontier = search.take_in(found);
    }
    search.leave_out_shared_phones(&given).await?;
    Ok(search.person)
}

/// The sites of the customer whose site it is.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn sites(database: &Database, site: &str) -> Result<Vec<String>, PrivacyError> {
    let site_text = literal(site);
    let query = format!(
        "SELECT DISTINCT site FROM {{database}}.customer_sites WHERE customer IN \
         (SELECT customer FROM {{database}}.customer_sites WHERE site = {site_text}) AND site != {site_text} ORDER BY site"
    );
    let rows = database.rows("asking for the sites of the customer", &query).await?;
    let others = rows.iter().map(|row| text(row, "site").to_owned());
    Ok([site.to_owned()].into_iter().chain(others).collect())
}

/// The contacts that an address names: those that were corrected to it, and its own; that alone where none is known.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn contacts_of(
    database: &Database,
    sites: &[String],
    address: Identifier,
) -> Result<BTreeSet<Identifier>, PrivacyError> {
    let own = literal(&address.value);
    let query = format!(
        "SELECT DISTINCT contact FROM {{database}}.contact_cards WHERE {} AND contact != '' \
         AND ({} = {own} OR (source = 'correction' AND {} = {own}))",
        is_in("site", sites.iter().map(String::as_str)),
        normal_email("contact"),
        normal_email("email"),
    );
    let rows = database.rows("asking for contacts", &query).await?;
    let known: BTreeSet<_> = rows.iter().filter_map(|row| email(text(row, "contact"))).collect();
    Ok(if known.is_empty() { [address].into() } else { known })
}

/// All addresses that are one contact at a site: merged, or corrected to another.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn addresses(
    database: &Database,
    site: &str,
    address: Identifier,
) -> Result<BTreeSet<Identifier>, PrivacyError> {
    let subject = SubjectOptions::default();
    let person = Person { sites: vec![site.to_owned()], identifiers: [address].into(), links: Vec::new() };
    let mut frontier = person.identifiers.clone();
    let mut search = Search { database, subject: &subject, person };
    while !frontier.is_empty() {
        let mut found = search.merged(&frontier).await?;
        found.extend(search.corrected(&frontier).await?);
        frontier = search.take_in(found);
    }
    Ok(search.person.identifiers)
}

struct Search<'a> {
    database: &'a Database,
    subject: &'a SubjectOptions,
    person: Person,
}

fn email(value: &str) -> Option<Identifier> {
    Identifier::new(SubjectKind::Email, value)
}

fn visitor(value: &str) -> Option<Identifier> {
    Identifier::new(SubjectKind::VisitorId, value)
}

impl Search<'_> {
    fn at_sites(&self) -> String {
        is_in("site", self.person.sites.iter().map(String::as_str))
    }

    /// A link in the direction in which it was followed.
    fn link(frontier: &BTreeSet<Identifier>, one: Identifier, other: Identifier, row: &Row, why: &str) -> Link {
        let (from, to) = if frontier.contains(&one) { (one, other) } else { (other, one) };
        let why = format!("{why}, {}", text(row, "day"));
        Link { from, to, site: text(row, "place").to_owned(), why, fate: Fate::Followed }
    }

    async fn linked(&self, frontier: &BTreeSet<Identifier>) -> Result<Vec<Link>, PrivacyError> {
        let query = format!(
            "SELECT site AS place, contact, visitor_id, argMax(evidence, (linked_at, hit_id)) AS told_by, \
             argMax(is_linked, (linked_at, hit_id)) AS is_true, toString(toDate(max(linked_at))) AS day FROM {{database}}.contact_links WHERE {} AND ({} OR {}) \
             GROUP BY site, contact, visitor_id ORDER BY ALL",
            self.at_sites(),
            is_in("visitor_id", values(frontier, SubjectKind::VisitorId)),
            is_in(&normal_email("contact"), values(frontier, SubjectKind::Email)),
        );
        let rows = self.database.rows("asking for links", &query).await?;
        let link = |row: &Row| {
            let why = format!("told by {}", text(row, "told_by"));
            let is_true = row.get("is_true").and_then(Value::as_bool).unwrap_or_default();
            let fate = if is_true { Fate::Followed } else { Fate::Undone };
            let (contact, visitor) = (email(text(row, "contact"))?, visitor(text(row, "visitor_id"))?);
            Some(Link { fate, ..Self::link(frontier, contact, visitor, row, &why) })
        };
        Ok(rows.iter().filter_map(link).collect())
    }

    async fn merged(&self, frontier: &BTreeSet<Identifier>) -> Result<Vec<Link>, PrivacyError> {
        let query = format!(
            "SELECT site AS place, contact, argMax(merged_into, decided_at) AS other, \
             toString(toDate(max(decided_at))) AS day FROM {{database}}.contact_merges WHERE {} \
             GROUP BY site, contact HAVING argMax(is_merged, decided_at) AND ({} OR {}) ORDER BY ALL",
            self.at_sites(),
            is_in(&normal_email("contact"), values(frontier, SubjectKind::Email)),
            is_in(&normal_email("other"), values(frontier, SubjectKind::Email)),
        );
        let rows = self.database.rows("asking for merged contacts", &query).await?;
        let link = |row: &Row| {
            Some(Self::link(frontier, email(text(row, "contact"))?, email(text(row, "other"))?, row, "merged by hand"))
        };
        Ok(rows.iter().filter_map(link).collect())
    }

    /// Their browser still tells the id of before, by which nothing is stored any more.
    fn forgotten(&self, register: &Register, keys: &Keys, frontier: &BTreeSet<Identifier>) -> Vec<Link> {
        let mut links = Vec::new();
        for known in frontier.iter().filter(|each| each.kind == SubjectKind::VisitorId) {
            for site in &self.person.sites {
                let link = |(id, at): (String, i64)| {
                    let why = format!("forgotten, {}", readable(at));
                    Some(Link { from: known.clone(), to: visitor(&id)?, site: site.clone(), why, fate: Fate::Followed })
                };
                links.extend(register.later_ids(keys, site, known).filter_map(link));
            }
        }
        links
    }

    /// Who asks by the address that we were told to be the right one is known under the one of before.
    async fn corrected(&self, frontier: &BTreeSet<Identifier>) -> Result<Vec<Link>, PrivacyError> {
        let address = normal_email("email");
        let query = format!(
            "SELECT site AS place, contact, {address} AS other, toString(toDate(max(submitted_at))) AS day \
             FROM {{database}}.contact_cards WHERE {} AND source = 'correction' AND other NOT IN ('', {}) \
             AND ({} OR {}) GROUP BY site, contact, other ORDER BY ALL",
            self.at_sites(),
            normal_email("contact"),
            is_in(&normal_email("contact"), values(frontier, SubjectKind::Email)),
            is_in("other", values(frontier, SubjectKind::Email)),
        );
        let rows = self.database.rows("asking for corrected addresses", &query).await?;
        let link = |row: &Row| {
            Some(Self::link(frontier, email(text(row, "contact"))?, email(text(row, "other"))?, row, "corrected"))
        };
        Ok(rows.iter().filter_map(link).collect())
    }

    /// Phones on the cards of whom is known, and the owners of cards with phones that are known.
    async fn told(&self, frontier: &BTreeSet<Identifier>) -> Result<Vec<Link>, PrivacyError> {
        let condition = format!(
            "{} OR (contact = '' AND {}) OR {}",
            is_in(&normal_email("contact"), values(frontier, SubjectKind::Email)),
            is_in("visitor_id", values(frontier, SubjectKind::VisitorId)),
            is_in(&normal_phone("phone"), values(frontier, SubjectKind::Phone)),
        );
        let rows = self.cards_with_phones(&condition).await?;
        let link = |row: &Row| {
            let phone = Identifier::new(SubjectKind::Phone, text(row, "phone"))?;
            Some(Self::link(frontier, phone, owner(row)?, row, "on a card"))
        };
        Ok(rows.iter().filter_map(link).collect())
    }

    async fn cards_with_phones(&self, condition: &str) -> Result<Vec<Row>, PrivacyError> {
        let query = format!(
            "SELECT site AS place, contact, if(contact = '', visitor_id, '') AS whose, phone, \
             toString(toDate(max(submitted_at))) AS day FROM {{database}}.contact_cards \
             WHERE {} AND phone != '' AND ({condition}) GROUP BY site, contact, whose, phone ORDER BY ALL",
            self.at_sites(),
        );
        self.database.rows("asking for cards", &query).await
    }

    /// Notes the links that lead to something new, and gives what they lead to where it is to be followed.
    fn take_in(&mut self, found: Vec<Link>) -> BTreeSet<Identifier> {
        let mut next = BTreeSet::new();
        for mut link in found {
            let is_new = !self.person.identifiers.contains(&link.to);
            if self.subject.cuts(&link.to) {
                link.fate = Fate::Cut;
            } else if is_new && link.fate == Fate::Followed {
                self.person.identifiers.insert(link.to.clone());
                if link.to.kind != SubjectKind::Phone {
                    next.insert(link.to.clone());
                }
            }
            // One that was followed leads to somebody new, and only once.
            let is_told = link.fate != Fate::Followed && self.person.links.contains(&link);
            if (is_new || link.fate == Fate::Cut) && !is_told {
                self.person.links.push(link);
            }
        }
        next
    }

    async fn leave_out_shared_phones(&mut self, given: &[Identifier]) -> Result<(), PrivacyError> {
        let is_found = |phone: &Identifier| phone.kind == SubjectKind::Phone && !given.contains(phone);
        let found: BTreeSet<_> = self.person.identifiers.iter().filter(|each| is_found(each)).cloned().collect();
        if found.is_empty() {
            return Ok(());
        }
        let rows = self.cards_with_phones(&is_in(&normal_phone("phone"), values(&found, SubjectKind::Phone))).await?;
        for row in &rows {
            let phone = Identifier::new(SubjectKind::Phone, text(row, "phone"));
            let (Some(phone), Some(owner)) = (phone, owner(row)) else { continue };
            if !self.person.identifiers.contains(&owner) && self.person.identifiers.remove(&phone) {
                let links = self.person.links.iter_mut().filter(|link| link.to == phone);
                links.for_each(|link| link.fate = Fate::Shared);
            }
        }
        Ok(())
    }
}

/// Whose card it is.
fn owner(row: &Row) -> Option<Identifier> {
    email(text(row, "contact")).or_else(|| visitor(text(row, "whose")))
}
