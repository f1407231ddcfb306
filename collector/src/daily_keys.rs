//! The keys of the daily visitor hashes, shared by all collectors and forgotten soon after the day.
//!
//! Where no cookie may be set, a visitor is a keyed hash of site, day, address and user agent. All collectors need the
//! same key, and nobody may have it later. So the key of a day is the first record of that day in the topic
//! `visitor.keys`: a collector that finds none puts a random one there and reads what came first. The topic has one
//! partition, so all read the same first record; its records are deleted after 48 hours, and a collector's own copy
//! when the day after is over.
//!
//! While the brokers are away over midnight the new day's key can't be agreed on. A collector then uses a random key of
//! its own until it can: its hashes of that time match nobody's, which loses a link between hits but never makes one.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use schemas::topics::VISITOR_KEYS;
use service::health::Health;
use service::producer::Producer;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{DAILY_KEY, Options};

const DAY_MILLISECONDS: i64 = 86_400_000;
/// The next day's key is agreed on this long before the day begins.
const AHEAD_MILLISECONDS: i64 = 3_600_000;
const POLL: Duration = Duration::from_millis(200);
/// A record that was put there is read back within this time, or put there again.
const PATIENCE: Duration = Duration::from_secs(5);

type Key = [u8; 32];

/// The days' keys as far as they are known.
#[derive(Debug, Default)]
struct Keys {
    /// By day since 1970, those that all collectors share.
    shared: HashMap<i64, Key>,
    /// By day, those of this process alone.
    own: HashMap<i64, Key>,
}

/// Hashes visitors with the key of the day.
#[derive(Debug, Clone, Default)]
pub struct DailyKeys(Arc<RwLock<Keys>>);

/// The day of a time, since 1970 in UTC.
#[must_use]
pub fn day(unix_milliseconds: i64) -> i64 {
    unix_milliseconds.div_euclid(DAY_MILLISECONDS)
}

fn random_key() -> Key {
    // Two random (version 4) UUIDs hold 244 random bits from the operating system.
    let mut key = [0; 32];
    key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
    key
}

impl DailyKeys {
    /// Starts to read the keys, and to provide them where there are none, until `shutdown`.
    ///
    /// # Errors
    /// Where Kafka's client refuses its settings.
    pub fn start(options: &Options, health: &Health, shutdown: &CancellationToken) -> Result<Self, KafkaError> {
        let keys = Self::default();
        let topic = options.kafka.topic(&VISITOR_KEYS);
        let client = |defaults: &[(&str, &str)]| options.kafka.client("collector-daily-keys", defaults);
        // Kafka's client wants a group even where it joins none.
        let consumer: BaseConsumer =
            client(&[("group.id", "collector-daily-keys"), ("enable.auto.commit", "false")]).create()?;
        let mut start = TopicPartitionList::new();
        start.add_partition_offset(&topic, 0, Offset::Beginning)?;
        consumer.assign(&start)?;
        let sure = client(&[("acks", "all"), ("enable.idempotence", "true"), ("message.timeout.ms", "10000")]);
        let producer = Producer::start(&sure, DefaultProducerContext)?;
        let keeper = Keeper { keys: keys.clone(), topic, consumer, producer, health: health.clone() };
        let ended = shutdown.clone();
        tokio::task::spawn_blocking(move || keeper.keep(&ended));
        Ok(keys)
    }

    /// A hash of texts without zero bytes, by the key of the day of `received_at` (Unix milliseconds).
    #[must_use]
    pub fn hash(&self, received_at: i64, parts: &[&str]) -> [u8; 16] {
        let (key, mut short) = (self.key(day(received_at)), [0; 16]);
        // Any length is a valid key of an HMAC; were this one not, an id of zeros joins nobody wrongly within a site.
        let Ok(mut hash) = Hmac::<Sha256>::new_from_slice(&key) else { return short };
        for part in parts {
            hash.update(part.as_bytes());
            hash.update(&[0]);
        }
        short.copy_from_slice(&hash.finalize().into_bytes()[..16]);
        short
    }

    fn key(&self, day: i64) -> Key {
        {
            let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(key) = keys.shared.get(&day).or_else(|| keys.own.get(&day)) {
                return *key;
            }
        }
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *keys.own.entry(day).or_insert_with(random_key)
    }

    fn knows(&self, day: i64) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).shared.contains_key(&day)
    }

    /// Takes a key for a day, unless one came before.
    fn learn(&self, day: i64, key: Key) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).shared.entry(day).or_insert(key);
    }

    /// Forgets all days but yesterday, for hits on their way, and those to come.
    fn forget_before(&self, today: i64) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.shared.retain(|day, _| *day >= today - 1);
        keys.own.retain(|day, _| *day >= today - 1);
    }
}

/// Keeps the keys in step with the topic.
struct Keeper {
    keys: DailyKeys,
    topic: String,
    consumer: BaseConsumer,
    producer: Producer<DefaultProducerContext>,
    health: Health,
}

impl Keeper {
    fn keep(&self, shutdown: &CancellationToken) {
        let mut offered: Option<(i64, std::time::Instant)> = None;
        let mut read_to_end = false;
        while !shutdown.is_cancelled() {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    self.read(message.key(), message.payload());
                    continue;
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot read the daily keys");
                    std::thread::sleep(POLL);
                    continue;
                }
                None => read_to_end = read_to_end || self.at_end(),
            }
            let now = crate::assemble::now_milliseconds();
            self.keys.forget_before(day(now));
            if self.keys.knows(day(now)) {
                self.health.met(DAILY_KEY);
            }
            let wanted = [day(now), day(now + AHEAD_MILLISECONDS)].into_iter().find(|day| !self.keys.knows(*day));
            let waits = offered.is_some_and(|(day, since)| Some(day) == wanted && since.elapsed() < PATIENCE);
            if let Some(day) = wanted.filter(|_| read_to_end && !waits) {
                self.offer(day);
                offered = Some((day, std::time::Instant::now()));
            }
        }
    }

    fn read(&self, key: Option<&[u8]>, payload: Option<&[u8]>) {
        let day = key.and_then(|key| std::str::from_utf8(key).ok()).and_then(|text| text.parse().ok());
        let value = payload.and_then(|payload| Key::try_from(payload).ok());
        if let (Some(day), Some(value)) = (day, value) {
            self.keys.learn(day, value);
        }
    }

    /// True once everything that is in the topic now has been read. An offer made before that could be wasted, never
    /// wrong.
    fn at_end(&self) -> bool {
        let Ok(watermarks) = self.consumer.fetch_watermarks(&self.topic, 0, PATIENCE) else { return false };
        let Ok(position) = self.consumer.position() else { return false };
        let at = position.elements_for_topic(&self.topic).first().map(|element| element.offset());
        is_end(at, watermarks)
    }

    fn offer(&self, day: i64) {
        let (name, key) = (day.to_string(), random_key());
        let record = BaseRecord::to(&self.topic).key(&name).payload(&key[..]).partition(0);
        if let Err((error, _)) = self.producer.send(record) {
            tracing::warn!(%error, "cannot offer a daily key");
        }
    }
}

/// Whether a reader at an offset has read a topic that holds what is from the low to the high watermark. Of one whose records
/// have all expired there is nothing to be read, and the reader is nowhere.
fn is_end(at: Option<Offset>, (low, high): (i64, i64)) -> bool {
    low == high || matches!(at, Some(Offset::Offset(next)) if next >= high)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = 20_000 * DAY_MILLISECONDS + DAY_MILLISECONDS / 2;

    fn id(keys: &DailyKeys, at: i64, ip: &str) -> [u8; 16] {
        keys.hash(at, &["demo", ip, "Mozilla/5.0"])
    }

    #[test]
    fn a_visitor_is_the_same_within_a_day_and_another_the_next() {
        let keys = DailyKeys::default();
        keys.learn(20_000, [1; 32]);
        keys.learn(20_001, [2; 32]);
        assert_eq!(id(&keys, NOON, "192.0.2.1"), id(&keys, NOON + 1000, "192.0.2.1"));
        assert_ne!(id(&keys, NOON, "192.0.2.1"), id(&keys, NOON, "192.0.2.2"));
        assert_ne!(id(&keys, NOON, "192.0.2.1"), id(&keys, NOON + DAY_MILLISECONDS, "192.0.2.1"));
    }

    #[test]
    fn the_first_key_of_a_day_stays() {
        let keys = DailyKeys::default();
        keys.learn(20_000, [1; 32]);
        let before = id(&keys, NOON, "192.0.2.1");
        keys.learn(20_000, [9; 32]);
        assert_eq!(id(&keys, NOON, "192.0.2.1"), before);
    }

    #[test]
    fn a_key_of_ones_own_serves_until_the_shared_one_is_known() {
        let keys = DailyKeys::default();
        let alone = id(&keys, NOON, "192.0.2.1");
        assert_eq!(id(&keys, NOON, "192.0.2.1"), alone);
        keys.learn(20_000, [1; 32]);
        assert_ne!(id(&keys, NOON, "192.0.2.1"), alone);
    }

    #[test]
    fn keys_are_forgotten_when_the_day_after_is_over() {
        let keys = DailyKeys::default();
        keys.learn(20_000, [1; 32]);
        keys.forget_before(20_001);
        assert!(keys.knows(20_000));
        keys.forget_before(20_002);
        assert!(!keys.knows(20_000));
    }

    #[test]
    fn a_topic_whose_records_have_expired_is_read_to_its_end() {
        for (at, watermarks, expected) in [
            (Some(Offset::Invalid), (0, 0), true),
            (Some(Offset::Invalid), (0, 3), false),
            (Some(Offset::Invalid), (3, 3), true),
            (None, (3, 3), true),
            (Some(Offset::Offset(2)), (0, 3), false),
            (Some(Offset::Offset(2)), (3, 3), true),
            (Some(Offset::Offset(3)), (1, 3), true),
        ] {
            assert_eq!(is_end(at, watermarks), expected, "at {at:?} of {watermarks:?}");
        }
    }
}
