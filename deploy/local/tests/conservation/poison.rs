//! Messages that are no hits, put on the topics between the others.

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use schemas::wire::{fingerprint, parse_versions};
use schemas::{EnrichedHit, RawHit};
use std::time::Duration;

/// Puts undecodable messages on `hits.raw` and `hits.enriched`, each different.
pub struct Poisoner {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    prefix: String,
    random: fastrand::Rng,
    /// The header of a real message, by topic.
    headers: [(&'static str, Vec<u8>); 2],
    sent: Vec<(&'static str, Vec<u8>)>,
}

impl Poisoner {
    /// For the topics that start with `prefix`. Each message is delivered exactly once (idempotent producer).
    pub fn new(brokers: &str, prefix: &str, seed: u64) -> Self {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", brokers).set("enable.idempotence", "true");
        settings.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        let header = |schemas: Vec<_>| [&[0xC3, 0x01][..], &fingerprint(schemas.last().unwrap()).unwrap()].concat();
        Self {
            producer: settings.create().unwrap(),
            prefix: prefix.to_owned(),
            random: fastrand::Rng::with_seed(!seed),
            headers: [
                ("hits.raw", header(parse_versions::<RawHit<'_>>().unwrap())),
                ("hits.enriched", header(parse_versions::<EnrichedHit<'_>>().unwrap())),
            ],
            sent: Vec::new(),
        }
    }

    /// One message on each of the two topics: random bytes, or a right header before random bytes.
    pub fn poison(&mut self) {
        for (topic, header) in &self.headers {
            let garbage: Vec<u8> = (0..self.random.usize(20..60)).map(|_| self.random.u8(128..)).collect();
            let value = if self.random.bool() { [header.clone(), garbage].concat() } else { garbage };
            let full = format!("{}{topic}", self.prefix);
            let key = self.random.u64(..).to_be_bytes();
            let sent = self.producer.send(BaseRecord::to(&full).key(&key[..]).payload(&value));
            sent.map_err(|(problem, _)| problem).unwrap();
            self.sent.push((topic, value));
        }
    }

    /// Waits until all are delivered, and returns them.
    pub fn finish(self) -> Vec<(&'static str, Vec<u8>)> {
        self.producer.flush(Duration::from_secs(60)).unwrap();
        self.sent
    }
}
