//! The topic `partners`, read from its beginning.

use rdkafka::message::{BorrowedMessage, Message};
use schemas::codec::{decode_all, owned};
use schemas::topics::PARTNERS;
use schemas::{Map, PartnerRecord, Reader, WireError};
use service::compacted::{ReadError, TopicReader};
use service::health::Health;
use service::options::KafkaOptions;

/// Goes to the beginning of the topic. Blocks for as long as the brokers take to answer; `health` is told whether they do.
///
/// # Errors
/// Where they don't answer, or the topic has no partitions.
pub fn open(kafka: &KafkaOptions, health: Option<Health>) -> Result<TopicReader, ReadError> {
    TopicReader::open(kafka, "enricher-partners", &PARTNERS, health)
}

/// The record in a message; nothing where the message removes one.
///
/// # Errors
/// Where the value is no such record.
pub fn record_of(reader: &Reader, message: &BorrowedMessage<'_>) -> Result<Option<PartnerRecord<'static>>, WireError> {
    let Some(value) = message.payload() else { return Ok(None) };
    let body = reader.body(value)?;
    let record: PartnerRecord<'_> = decode_all(&body)?;
    Ok(Some(into_owned(record)))
}

fn into_owned(record: PartnerRecord<'_>) -> PartnerRecord<'static> {
    PartnerRecord {
        partner: owned(record.partner),
        match_kind: record.match_kind,
        match_value: owned(record.match_value),
        site: owned(record.site),
        company_name: owned(record.company_name),
        company_domain: owned(record.company_domain),
        attributes: Map::into_owned(record.attributes),
        permitted_uses: record.permitted_uses.into_iter().map(owned).collect(),
        valid_until: record.valid_until,
        updated_at: record.updated_at,
    }
}
