//! Messages at a given rate, stamped as they are sent: what a stage makes of them tells how long it took.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};
use schemas::codec::decode_all;
use schemas::topics::Topic;
use schemas::{EnrichedHit, RawHit, Reader, Writer};
use serde::{Deserialize, Serialize};

use crate::bed::Bed;
use crate::pump::Message;

/// How long the last messages may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Latencies above this are counted as this, milliseconds.
const LONGEST: u64 = 120_000;

/// How long hits took through a stage at a rate, milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Latency {
    /// Hits a second.
    pub rate: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Now, as Unix milliseconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// A raw hit as if it was received now.
pub fn received_now(reader: &Reader, writer: &Writer, message: &Message, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let body = reader.body(&message.value)?;
    let hit = RawHit { received_at: now(), ..decode_all(&body)? };
    writer.write(&hit, out);
    Ok(())
}

/// An enriched hit as if it was received and enriched now.
pub fn enriched_now(reader: &Reader, writer: &Writer, message: &Message, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let body = reader.body(&message.value)?;
    let mut hit: EnrichedHit<'_> = decode_all(&body)?;
    (hit.hit.received_at, hit.enriched_at) = (now(), now());
    writer.write(&hit, out);
    Ok(())
}

/// Writes messages at a rate, while there are any, each made anew when it is due; how many there were.
pub fn write(
    bed: &Bed,
    topic: &str,
    messages: &[Message],
    (rate, time): (f64, Duration),
    mut make: impl FnMut(&Message, &mut Vec<u8>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bed.kafka.brokers())
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "1")
        .set("partitioner", "murmur2_random")
        .create()?;
    let (begun, mut value, mut sent) = (Instant::now(), Vec::new(), 0_u64);
    let mut source = messages.iter();
    // No hit twice: the enricher would know it again.
    while begun.elapsed() < time && sent < messages.len() as u64 {
        let due = (begun.elapsed().as_secs_f64() * rate) as u64;
        while sent < due {
            let Some(message) = source.next() else { break };
            value.clear();
            make(message, &mut value)?;
            match producer.send(BaseRecord::to(topic).key(&message.key).payload(&value)) {
                Ok(()) => sent += 1,
                Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                    bail!("Kafka does not take {rate:.0} messages a second");
                }
                Err((error, _)) => return Err(error).context(topic.to_owned()),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    producer.flush(PATIENCE)?;
    Ok(sent)
}

/// Reads what a stage makes of paced messages, until all of them are there. Of those that were received in the first
/// tenth of the time nothing is counted: partitions are still given out then.
pub fn read_enriched(
    bed: &Bed,
    name: &str,
    topic: &Topic,
    count: impl Fn() -> Option<u64>,
) -> anyhow::Result<Vec<(i64, u64)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bed.kafka.brokers())
        .set("group.id", "bench")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()?;
    let mut all = TopicPartitionList::new();
    for partition in 0..topic.partitions {
        all.add_partition_offset(name, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let reader = Reader::new::<EnrichedHit<'_>>(None)?;
    let (mut seen, mut last) = (Vec::new(), Instant::now());
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            Some(message) => {
                let message = message.context("hits.enriched")?;
                let body = reader.body(message.payload().unwrap_or_default())?;
                let hit: EnrichedHit<'_> = decode_all(&body)?;
                seen.push((hit.hit.received_at, now().saturating_sub(hit.hit.received_at).max(0) as u64));
                last = Instant::now();
            }
            None if last.elapsed() > PATIENCE => bail!("{} hits were enriched, and then no more", seen.len()),
            None => {}
        }
        if count().is_some_and(|count| seen.len() as u64 >= count) {
            return Ok(seen);
        }
    }
}

/// The quantiles of what was seen, without the first tenth of the time.
pub fn latency(rate: f64, seen: &[(i64, u64)]) -> anyhow::Result<Latency> {
    let times = || seen.iter().map(|(received, _)| *received);
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let from = first + (last - first) / 10;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST, 3)?;
    for (_, milliseconds) in seen.iter().filter(|(received, _)| *received >= from) {
        histogram.saturating_record(*milliseconds);
    }
    let at = |quantile| histogram.value_at_quantile(quantile) as f64;
    Ok(Latency { rate, p50: at(0.5), p99: at(0.99), p999: at(0.999) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tenth_is_not_counted() {
        let seen: Vec<(i64, u64)> = (0..1_000).map(|time| (time, if time < 99 { 9_000 } else { 5 })).collect();
        let latency = latency(1.0, &seen).unwrap();
        assert_eq!([latency.p50, latency.p99, latency.p999], [5.0, 5.0, 5.0]);
    }
}
