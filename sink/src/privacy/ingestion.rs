//! What people asked of us, applied to hits that the enricher let pass before it knew.

use std::ops::RangeInclusive;

use clickhouse::Row;
use schemas::{EnrichedHit, Text};
use serde::Deserialize;
use service::privacy::anonymous::{anonymise, rename};
use service::privacy::directives::{Directives, Note, Person, Verdict};

use crate::audit::report::{Span, merge};
use crate::clickhouse::{ClickHouse, time};
use crate::fault::Fault;

/// What is to be done with a hit. Costs nothing where nobody of its site asked anything.
#[must_use]
pub fn judge(directives: &Directives, hit: &EnrichedHit<'_>) -> Verdict {
    directives.judge(&person(hit))
}

/// What is to be noted before the hit is stored, as it is once the verdict was applied.
#[must_use]
pub fn notes(directives: &Directives, hit: &EnrichedHit<'_>) -> Vec<Note> {
    directives.notes_on(&person(hit))
}

fn person<'a>(hit: &'a EnrichedHit<'_>) -> Person<'a> {
    let raw = &hit.hit;
    let at = hit.occurred_at.min(raw.received_at);
    Person { site: &raw.site, visitor: &raw.visitor_id, contact: raw.contact.as_ref(), at }
}

/// Makes of a hit what is to be stored of it.
pub fn apply(verdict: &Verdict, hit: &mut EnrichedHit<'_>) {
    match verdict {
        Verdict::Keep | Verdict::Erase => {}
        Verdict::Anonymise => {
            anonymise(&mut hit.hit);
            hit.page.query = Text::default();
            hit.campaign.click_id = Text::default();
            // It was found by who the person is.
            hit.partner = None;
        }
        Verdict::Rename { visitor, since } => rename(&mut hit.hit, visitor, *since),
    }
}

#[derive(Row, Deserialize)]
struct Stored {
    offset: i64,
}

/// Which of these offsets have a row that was received within a span, Unix milliseconds: that spares looking at other months.
///
/// # Errors
/// The class of the failure.
pub async fn stored(
    clickhouse: &ClickHouse,
    partition: i32,
    offsets: &RangeInclusive<i64>,
    received: &RangeInclusive<i64>,
) -> Result<Vec<i64>, Fault> {
    let query = format!(
        "SELECT kafka_offset AS offset FROM {}.hits WHERE kafka_partition = {partition} \
         AND kafka_offset BETWEEN {} AND {} AND received_at BETWEEN {} AND {}",
        clickhouse.database(),
        offsets.start(),
        offsets.end(),
        time(*received.start()),
        time(*received.end()),
    );
    let rows: Vec<Stored> = clickhouse.rows(&query).await?;
    Ok(rows.into_iter().map(|row| row.offset).collect())
}

/// Which offsets of a partition, of those from one to another, have no row on purpose.
///
/// # Errors
/// The class of the failure.
pub async fn erased(
    clickhouse: &ClickHouse,
    partition: i32,
    offsets: &RangeInclusive<i64>,
) -> Result<Vec<Span>, Fault> {
    let query = format!(
        "SELECT first_offset AS first, last_offset AS last FROM {}.erased_offsets FINAL \
         WHERE kafka_partition = {partition} AND last_offset >= {} AND first_offset <= {} ORDER BY first_offset",
        clickhouse.database(),
        offsets.start(),
        offsets.end(),
    );
    clickhouse.rows(&query).await
}

#[derive(Row, Deserialize)]
struct Last {
    offset: Option<i64>,
}

/// The last offset of a partition, from one on, that has a row.
///
/// # Errors
/// The class of the failure.
pub async fn last_stored(clickhouse: &ClickHouse, partition: i32, first: i64) -> Result<Option<i64>, Fault> {
    let query = format!(
        "SELECT maxOrNull(kafka_offset) AS offset FROM {}.hits WHERE kafka_partition = {partition} AND kafka_offset >= {first}",
        clickhouse.database(),
    );
    let rows: Vec<Last> = clickhouse.rows(&query).await?;
    Ok(rows.into_iter().find_map(|row| row.offset))
}

/// Writes down which offsets have no row on purpose. Under no token, as of a range that is read again more may be erased than
/// before; a row that is there twice is one.
///
/// # Errors
/// The class of the failure.
pub async fn record_erased(clickhouse: &ClickHouse, partition: i32, offsets: &[i64]) -> Result<(), Fault> {
    let spans = merge(offsets.to_vec());
    let rows: Vec<_> = spans.iter().map(|span| format!("({partition}, {}, {})", span.first, span.last)).collect();
    let statement = format!(
        "INSERT INTO {}.erased_offsets (kafka_partition, first_offset, last_offset) SETTINGS async_insert = 0 VALUES {}",
        clickhouse.database(),
        rows.join(", ")
    );
    clickhouse.execute(&statement).await
}
