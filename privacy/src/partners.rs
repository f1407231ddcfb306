//! What partners know of a person: records of the topic `partners` that are found by their e-mail address or visitor id.
//!
//! Records about networks and companies are about nobody in particular and stay.

use std::collections::{BTreeMap, HashSet};

use rdkafka::message::Message as _;
use schemas::codec::decode_all;
use schemas::topics::PARTNERS;
use schemas::{MatchKind, PartnerRecord, Reader, RecordKey, SubjectKind, WireError};
use serde_json::{Value, json};
use service::options::KafkaOptions;
use sha2::{Digest, Sha256};

use crate::error::PrivacyError;
use crate::resolve::Person;
use crate::subject::values;
use crate::topic::{Message, read_all};

/// What names a person in keys of the topic.
struct Names<'a> {
    sites: HashSet<&'a str>,
    hashes: HashSet<String>,
    visitors: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(person: &'a Person) -> Self {
        let emails = values(&person.identifiers, SubjectKind::Email);
        Self {
            sites: person.sites.iter().map(String::as_str).collect(),
            hashes: emails.map(|email| hex::encode(Sha256::digest(email))).collect(),
            visitors: values(&person.identifiers, SubjectKind::VisitorId).collect(),
        }
    }

    /// Whether a key of the topic is about the person. A record that is for all sites is used at theirs, too.
    fn are_in(&self, key: &[u8]) -> bool {
        let Some(RecordKey { kind, value, site, .. }) = RecordKey::read(key) else { return false };
        if !site.is_empty() && !self.sites.contains(site) {
            return false;
        }
        match kind {
            MatchKind::EmailHash => self.hashes.contains(value),
            MatchKind::VisitorId => self.visitors.contains(value),
            _ => false,
        }
    }
}

/// The records about a person, by key; of one that can't be read, as of a later version, that this is so. Blocks.
///
/// # Errors
/// Where the brokers or the registry do not answer.
pub fn read(kafka: &KafkaOptions, person: &Person) -> Result<BTreeMap<Vec<u8>, Value>, PrivacyError> {
    let (reader, names) = (Reader::new::<PartnerRecord<'_>>(kafka.registry())?, Names::of(person));
    let mut records = BTreeMap::new();
    read_all(kafka, &PARTNERS, |message| {
        let key = message.key().unwrap_or_default();
        if names.are_in(key) {
            match message.payload() {
                Some(value) => match decoded(&reader, value) {
                    Err(error) if error.is_transient() => return Err(error.into()),
                    record => drop(records.insert(key.to_vec(), record.unwrap_or_else(|_| unreadable(key)))),
                },
                None => drop(records.remove(key)),
            }
        }
        Ok(())
    })?;
    Ok(records)
}

fn decoded(reader: &Reader, value: &[u8]) -> Result<Value, WireError> {
    let body = reader.body(value)?;
    Ok(to_json(&decode_all(&body)?))
}

/// Its key says whose it is.
fn unreadable(key: &[u8]) -> Value {
    let partner = RecordKey::read(key).map(|key| key.partner.to_owned());
    json!({"partner": partner, "unreadable": "as where a later version of hitmeter wrote it; upgrade, and ask again"})
}

/// The messages that remove records.
#[must_use]
pub fn removals(kafka: &KafkaOptions, records: BTreeMap<Vec<u8>, Value>) -> Vec<Message> {
    let topic = kafka.topic(&PARTNERS);
    records.into_keys().map(|key| Message { topic: topic.clone(), key, value: None }).collect()
}

fn to_json(record: &PartnerRecord<'_>) -> Value {
    let attributes: serde_json::Map<String, Value> =
        record.attributes.0.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
    json!({
        "partner": record.partner, "matched_by": record.match_kind.as_str(), "match_value": record.match_value,
        "site": record.site, "company_name": record.company_name, "company_domain": record.company_domain,
        "attributes": attributes, "permitted_uses": record.permitted_uses,
        "valid_until": record.valid_until.map(crate::readable), "updated_at": crate::readable(record.updated_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Identifier;

    #[test]
    fn records_about_a_person_are_found_and_those_about_companies_are_not() {
        let identifiers = [(SubjectKind::Email, "ada@steel.example"), (SubjectKind::VisitorId, "v1")];
        let identifiers = identifiers.iter().filter_map(|(kind, value)| Identifier::new(*kind, value)).collect();
        let person = Person { sites: vec!["shop".to_owned()], identifiers, ..Person::default() };
        let hash = hex::encode(Sha256::digest("ada@steel.example"));
        for (key, expected) in [
            (format!("email_hash\0{hash}\0\0acme"), true),
            (format!("email_hash\0{hash}\0shop\0acme"), true),
            (format!("email_hash\0{hash}\0elsewhere\0acme"), false),
            ("visitor_id\0v1\0shop\0acme".to_owned(), true),
            ("visitor_id\0v2\0shop\0acme".to_owned(), false),
            ("email_domain\0steel.example\0\0acme".to_owned(), false),
            ("visitor_id\0v1\0shop".to_owned(), false),
        ] {
            assert_eq!(Names::of(&person).are_in(key.as_bytes()), expected, "{key:?}");
        }
        assert!(!Names::of(&person).are_in(b"\xff"));
    }
}
