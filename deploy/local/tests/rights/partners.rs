//! What a partner knows of people, as it stands on the topic.

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::util::Timeout;
use schemas::topics::PARTNERS;
use schemas::{Map, MatchKind, PartnerRecord, Writer};
use sha2::{Digest as _, Sha256};

use crate::people::Subject;
use crate::world::{PATIENCE, PREFIX};

/// What the partner knows somebody by: every other one by their address, the others by their first device.
fn known_by(subject: &Subject) -> (MatchKind, String) {
    if subject.number.is_multiple_of(2) {
        (MatchKind::EmailHash, hex::encode(Sha256::digest(&subject.email)))
    } else {
        (MatchKind::VisitorId, subject.devices[0].visitor.clone())
    }
}

/// The same without its kind.
pub fn match_value(subject: &Subject) -> String {
    known_by(subject).1
}

/// The key of what is known of somebody, up to the partner's name.
pub fn key(subject: &Subject) -> Vec<u8> {
    let (kind, value) = known_by(subject);
    // At one site only: another customer's partners are not asked.
    let site = crate::people::sites_of(subject.customer).next().map_or("", |site| site.key);
    [kind.as_str(), value.as_str(), site, "acme"].join("\0").into_bytes()
}

/// Publishes what the partner knows.
pub fn publish(brokers: &str, subjects: &[Subject]) {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let writer = Writer::single_object::<PartnerRecord<'_>>().unwrap();
    let topic = PARTNERS.full_name(PREFIX);
    for subject in subjects {
        let Some(attribute) = &subject.attribute else { continue };
        let (match_kind, value) = known_by(subject);
        let record = PartnerRecord {
            partner: "acme".into(),
            match_kind,
            match_value: value.into(),
            site: crate::people::sites_of(subject.customer).next().map_or("", |site| site.key).into(),
            attributes: Map(vec![("account".into(), attribute.as_str().into())]),
            ..PartnerRecord::default()
        };
        let (key, mut bytes) = (key(subject), Vec::new());
        writer.write(&record, &mut bytes);
        producer.send(BaseRecord::to(&topic).key(&key).payload(&bytes)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Timeout::After(PATIENCE)).unwrap();
}
