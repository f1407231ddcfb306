//! What is noted of people whose rows stay: that they object, in `objections`, and what they had corrected, as a card in
//! `contact_cards`.
//!
//! A note needs the name as rows have it, and the topic has its hash only. So a note is written where both are known: before
//! the rows of a batch that name the person ([`Notes`] of a batch), and for names that the tables have already when a
//! request comes ([`note_known`]). It makes no difference which comes first, nor how often it is written: the row is the same.

use std::collections::{HashMap, HashSet};

use clickhouse::Row;
use schemas::SubjectKind;
use serde::Deserialize;
use service::privacy::directives::{Correction, Directives, Note, Noted};
use uuid::Uuid;

use super::requests::Request;
use super::tables::{Scope, holdings};
use super::{ExecuteError, STATEMENT};
use crate::audiences::condition::quote;
use crate::clickhouse::{ClickHouse, time};
use crate::fault::Fault;

/// Rows in one insert.
const AT_ONCE: usize = 5_000;
/// What a card of a correction has as its source.
const SOURCE: &str = "correction";
const FIELDS: [&str; 6] = ["name", "email", "phone", "job_title", "company", "address"];

/// Notes, each once.
pub type Notes = HashSet<Note>;

#[derive(Row, Deserialize)]
struct Name {
    value: String,
}

/// Writes notes; those that are there already change nothing.
///
/// # Errors
/// The class of the failure.
pub async fn write(clickhouse: &ClickHouse, notes: &Notes) -> Result<(), Fault> {
    let (mut objections, mut cards) = (Vec::new(), Vec::new());
    for note in notes {
        match &note.what {
            Noted::Objection => objections.push(objection(note)),
            // A contact is an address.
            Noted::Correction(correction) if note.kind == SubjectKind::Email => cards.push(card(note, correction)),
            Noted::Correction(_) => {}
        }
    }
    let database = clickhouse.database();
    let objecting = format!("{database}.objections (site, visitor_id, contact, phone, objected_at, directive_id)");
    insert(clickhouse, &objecting, &objections).await?;
    let columns = "site, contact, hit_id, submitted_at, source, source_name";
    let corrected = format!("{database}.contact_cards ({columns}, {})", FIELDS.join(", "));
    insert(clickhouse, &corrected, &cards).await
}

/// The names are data of the insert, which ClickHouse keeps no record of, and not part of its statement. Each has a token of its
/// own: killed at the wrong moment, ClickHouse may know a block and have it not.
async fn insert(clickhouse: &ClickHouse, into: &str, rows: &[String]) -> Result<(), Fault> {
    for some in rows.chunks(AT_ONCE) {
        let statement = format!("INSERT INTO {into} SETTINGS async_insert = 0 VALUES {}", some.join(", "));
        let token = Uuid::now_v7().to_string();
        let settings = [&STATEMENT[..], &[("insert_deduplication_token", &token)]].concat();
        clickhouse.execute_with(&statement, &settings).await?;
    }
    Ok(())
}

fn objection(note: &Note) -> String {
    let of = |kind| if note.kind == kind { quote(&note.value) } else { "''".to_owned() };
    let (visitor, contact, phone) = (of(SubjectKind::VisitorId), of(SubjectKind::Email), of(SubjectKind::Phone));
    format!("({}, {visitor}, {contact}, {phone}, {}, '{}')", quote(&note.site), time(note.at), note.request)
}

fn card(note: &Note, correction: &Correction) -> String {
    // As the view writes it that makes cards of hits.
    let contact = note.value.trim_matches(' ').to_ascii_lowercase();
    let fields = FIELDS.map(|field| quote(correction.field(field))).join(", ");
    format!(
        "({}, {}, '{}', {}, '{SOURCE}', {}, {fields})",
        quote(&note.site),
        quote(&contact),
        note.request,
        time(note.at),
        quote(&correction.operator)
    )
}

/// Notes what was asked of names that the tables have. Gives how many names each request was noted of.
///
/// # Errors
/// Where ClickHouse does not answer.
pub async fn note_known(
    clickhouse: &ClickHouse,
    directives: &Directives,
    requests: &[Request],
) -> Result<HashMap<Uuid, u64>, ExecuteError> {
    let mut rows: HashMap<Uuid, u64> = requests.iter().map(|request| (request.id(), 0)).collect();
    let places: HashSet<(&str, SubjectKind)> =
        requests.iter().map(|request| (request.site(), request.kind())).collect();
    for (site, kind) in places {
        let notes = known(clickhouse, directives, site, kind).await?;
        write(clickhouse, &notes).await?;
        for note in &notes {
            if let Some(rows) = rows.get_mut(&note.request) {
                *rows += 1;
            }
        }
    }
    Ok(rows)
}

async fn known(
    clickhouse: &ClickHouse,
    directives: &Directives,
    site: &str,
    kind: SubjectKind,
) -> Result<Notes, ExecuteError> {
    let holdings: Vec<_> = holdings().collect();
    let scope = Scope { database: clickhouse.database(), site, pass: Uuid::nil(), kinds: &[kind], holdings: &holdings };
    let is_wanted = |name: &Name| !directives.notes(site, kind, &name.value).is_empty();
    let names = clickhouse.rows_where(&scope.all_names(kind), is_wanted).await?;
    Ok(names.into_iter().flat_map(|Name { value }| directives.notes(site, kind, &value)).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_card_of_a_correction_is_that_of_its_contact_and_ends_no_quotes() {
        let fields = vec![("name".to_owned(), "O'Hara".to_owned())];
        let correction = Arc::new(Correction { operator: "olga".to_owned(), fields });
        let note = Note {
            site: "shop".to_owned(),
            kind: SubjectKind::Email,
            value: " Anna@Steel.example".to_owned(),
            request: Uuid::nil(),
            at: 7,
            what: Noted::Correction(Arc::clone(&correction)),
        };
        let row = card(&note, &correction);
        let expected = "('shop', 'anna@steel.example', '00000000-0000-0000-0000-000000000000', \
                        fromUnixTimestamp64Milli(7, 'UTC'), 'correction', 'olga', ";
        assert!(row.starts_with(expected) && row.contains(&quote("O'Hara")), "{row}");
    }
}
