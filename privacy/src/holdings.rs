//! What is held on a person: which tables and views, and how their rows are found. A test holds the list against the
//! database: a table with a column that names people is in it.

use std::collections::{BTreeMap, BTreeSet};

use schemas::SubjectKind;

use crate::database::{Database, is_in, number, text};
use crate::error::PrivacyError;
use crate::resolve::{Person, normal_email, normal_phone};
use crate::subject::values;

/// A table or view that holds something on people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holding {
    /// Its name.
    pub name: &'static str,
    /// What it holds, for people.
    pub what: &'static str,
    /// The table that its rows come from, whose retention holds for them; its own name where it is a table.
    pub table: &'static str,
    /// Columns with visitor ids.
    pub visitors: &'static [&'static str],
    /// Columns with e-mail addresses.
    pub emails: &'static [&'static str],
    /// Columns with phones.
    pub phones: &'static [&'static str],
}

impl Holding {
    const fn table(
        name: &'static str,
        what: &'static str,
        visitors: &'static [&'static str],
        emails: &'static [&'static str],
        phones: &'static [&'static str],
    ) -> Self {
        Self { name, what, table: name, visitors, emails, phones }
    }

    const fn by_visitor(name: &'static str, what: &'static str, table: &'static str) -> Self {
        Self { name, what, table, visitors: &["visitor_id"], emails: &[], phones: &[] }
    }

    const fn by_contact(name: &'static str, what: &'static str, table: &'static str) -> Self {
        Self { name, what, table, visitors: &[], emails: &["contact"], phones: &[] }
    }

    /// Whether it is a table, with rows of its own.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.name == self.table
    }

    /// How much there is, as an expression. A session has a row for each time it was settled, until ClickHouse merges them.
    fn number(&self) -> &'static str {
        if self.name == "settled_sessions" { "uniqExact(site, visitor_id, session_id)" } else { "count()" }
    }

    /// The condition for the rows of a person.
    #[must_use]
    pub fn condition(&self, person: &Person) -> String {
        let of = |kind| move || values(&person.identifiers, kind);
        let (visitors, emails, phones) = (of(SubjectKind::VisitorId), of(SubjectKind::Email), of(SubjectKind::Phone));
        let parts = [
            self.visitors.iter().map(|column| is_in(column, visitors())).collect::<Vec<_>>(),
            self.emails.iter().map(|column| is_in(&normal_email(column), emails())).collect(),
            self.phones.iter().map(|column| is_in(&normal_phone(column), phones())).collect(),
        ]
        .concat();
        format!("{} AND ({})", is_in("site", person.sites.iter().map(String::as_str)), parts.join(" OR "))
    }
}

/// All of them: first tables, then views.
pub const HOLDINGS: &[Holding] = &[
    Holding::table("hits", "every hit", &["visitor_id"], &["contact_email"], &["contact_phone"]),
    Holding::table("settled_sessions", "visits, as they were computed", &["visitor_id"], &["contact_email"], &[]),
    Holding::table(
        "contact_cards",
        "contact fields as submitted and corrected",
        &["visitor_id"],
        &["contact", "email"],
        &["phone"],
    ),
    Holding::table("contact_links", "which visitors are which contacts", &["visitor_id"], &["contact"], &[]),
    Holding::table("contact_merges", "contacts that are one person", &[], &["contact", "merged_into"], &[]),
    Holding::table("settled_merges", "which person that makes them", &[], &["contact", "person"], &[]),
    Holding::table(
        "settled_employers",
        "company that your addresses and forms tell",
        &["visitor_id"],
        &["contact"],
        &[],
    ),
    Holding::table("mail_opens", "mails that were opened", &["visitor_id"], &["contact_email"], &["contact_phone"]),
    Holding::table("audience_changes", "audiences entered and left", &["member"], &[], &[]),
    Holding::table("objections", "names under which you objected", &["visitor_id"], &["contact"], &["phone"]),
    Holding::by_visitor("sessions", "visits", "settled_sessions"),
    Holding::by_visitor("visitors", "sums over all visits", "settled_sessions"),
    Holding::by_visitor("visitor_companies", "company they are taken to be of, and why", "settled_sessions"),
    Holding::by_visitor("consents", "what you permitted on the site itself", "hits"),
    Holding::by_visitor("interests", "topics of what they read", "hits"),
    Holding::by_visitor("lead_scores", "score", "hits"),
    Holding::by_visitor("lead_score_parts", "what the score is made of", "hits"),
    Holding { visitors: &["member"], ..Holding::by_visitor("audience_members", "audiences", "audience_changes") },
    Holding::by_contact("contacts", "contact, as it is shown", "contact_cards"),
    Holding::by_contact("contact_history", "each value of each contact field", "contact_cards"),
    Holding {
        visitors: &["visitor_id"],
        ..Holding::by_contact("contact_visitors", "visitors they are", "contact_links")
    },
    Holding::by_contact("contact_activity", "sums over all visits of the contact", "settled_sessions"),
    Holding::by_contact("contact_interests", "topics of what the contact reads", "hits"),
    Holding::by_contact("contact_lead_scores", "score of the contact", "hits"),
];

/// Those that the database has.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn present(database: &Database) -> Result<Vec<Holding>, PrivacyError> {
    let query = "SELECT name FROM system.tables WHERE database = '{database}'";
    let rows = database.rows("asking for its tables", query).await?;
    let names: BTreeSet<&str> = rows.iter().map(|row| text(row, "name")).collect();
    Ok(HOLDINGS.iter().filter(|holding| names.contains(holding.name)).copied().collect())
}

/// How many rows each table has on a person; those without any are left out.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn count(database: &Database, person: &Person) -> Result<BTreeMap<&'static str, u64>, PrivacyError> {
    let mut counts = BTreeMap::new();
    for holding in present(database).await?.into_iter().filter(Holding::is_table) {
        let query = format!(
            "SELECT toUInt64({}) AS rows FROM {{database}}.{} WHERE {}",
            holding.number(),
            holding.name,
            holding.condition(person)
        );
        let rows = database.rows("counting rows", &query).await?;
        let rows = rows.first().map_or(0, |row| number(row, "rows"));
        if rows > 0 {
            counts.insert(holding.name, rows);
        }
    }
    Ok(counts)
}
