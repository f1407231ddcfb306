//! Topics filled and emptied, by librdkafka's plainest means: what that costs is the floor for everything that talks to
//! Kafka.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::time::{ClockId, clock_gettime};
use schemas::topics::{CATALOGUE, Topic};
use serde::{Deserialize, Serialize};
use service::options::{KafkaOptions, TopicSetup};

use crate::bed::Bed;

/// How long the brokers may say nothing, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(180);

/// A message without its place.
#[derive(Debug, Clone)]
pub struct Message {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// What moving messages cost.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Cost {
    /// Messages a second.
    pub rate: f64,
    /// Processor time of this process for one message, microseconds.
    pub microseconds: f64,
}

/// Creates the topics of an installation, as the services would.
pub fn create(bed: &Bed, prefix: &str) -> anyhow::Result<()> {
    let options = KafkaOptions {
        kafka_brokers: bed.kafka.brokers(),
        kafka_property: Vec::new(),
        topic_prefix: prefix.to_owned(),
        topic_partitions: None,
        topic_replication: -1,
        topic_setup: TopicSetup::Create,
        schema_registry: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(options.set_up_topics("bench", CATALOGUE))?)
}

/// Reads the messages that a topic holds, `most` at most.
pub fn read(bed: &Bed, prefix: &str, topic: &Topic, most: usize) -> anyhow::Result<(Vec<Message>, Cost)> {
    let name = topic.full_name(prefix);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bed.kafka.brokers())
        .set("group.id", "bench")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        all.add_partition_offset(&name, partition, Offset::Beginning)?;
    }
    let clock = Clock::start();
    consumer.assign(&all)?;
    let (mut messages, mut ended) = (Vec::new(), 0);
    while ended < topic.partitions && messages.len() < most {
        match consumer.poll(PATIENCE) {
            None => bail!("{name} gives no messages and no end"),
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error).context(name),
            Some(Ok(message)) => messages.push(Message {
                key: message.key().unwrap_or_default().to_vec(),
                value: message.payload().unwrap_or_default().to_vec(),
            }),
        }
    }
    let cost = clock.cost(messages.len());
    Ok((messages, cost))
}

/// Writes messages as the collector's client does: idempotent, acknowledged by all, LZ4.
pub fn write(bed: &Bed, prefix: &str, topic: &Topic, messages: &[Message]) -> anyhow::Result<Cost> {
    let name = topic.full_name(prefix);
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bed.kafka.brokers())
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("partitioner", "murmur2_random")
        .create()?;
    let clock = Clock::start();
    for message in messages {
        let mut record = BaseRecord::to(&name).key(&message.key).payload(&message.value);
        while let Err((error, refused)) = producer.send(record) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error).context(name);
            }
            std::thread::sleep(Duration::from_millis(1));
            record = refused;
        }
    }
    producer.flush(PATIENCE)?;
    Ok(clock.cost(messages.len()))
}

/// Bytes of a message's value, on average.
pub fn bytes(messages: &[Message]) -> f64 {
    messages.iter().map(|message| message.value.len()).sum::<usize>() as f64 / messages.len().max(1) as f64
}

/// Time on the wall and on the processors, of all threads of this process.
struct Clock {
    begun: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Self {
        Self { begun: Instant::now(), cpu: process_seconds() }
    }

    fn cost(&self, messages: usize) -> Cost {
        let count = messages.max(1) as f64;
        let microseconds = (process_seconds() - self.cpu) * 1e6 / count;
        Cost { rate: count / self.begun.elapsed().as_secs_f64(), microseconds }
    }
}

fn process_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
