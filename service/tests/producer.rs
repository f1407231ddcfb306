//! What a producer tells of its messages, on the mock broker.

#![allow(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use local::MockKafka;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::{ClientConfig, ClientContext};
use service::producer::{Parcel, Producer, Receipts};

const PATIENCE: Duration = Duration::from_secs(30);

fn broker() -> MockKafka {
    MockKafka::start(&[("told".to_owned(), 2)]).unwrap()
}

fn client(kafka: &MockKafka) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.brokers()).set("linger.ms", "0");
    client
}

fn parcel(bytes: usize) -> Parcel<'static> {
    Parcel { topic: "told".into(), partition: Some(1), key: b"key".into(), value: vec![7; bytes].into() }
}

#[tokio::test]
async fn whoever_waits_is_told() {
    let kafka = broker();
    let producer = Producer::start(client(&kafka).set("message.max.bytes", "10000"), Receipts).unwrap();
    producer.deliver(&parcel(5000), PATIENCE).await.unwrap();
    let error = producer.deliver(&parcel(50_000), PATIENCE).await.unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
}

#[tokio::test]
async fn a_full_client_is_asked_again_for_as_long_as_is_said() {
    let kafka = broker();
    let mut client = client(&kafka);
    client.set("queue.buffering.max.messages", "1").set("linger.ms", "500");
    let producer = Producer::start(&client, Receipts).unwrap();
    let first = producer.hand_over(&parcel(1)).unwrap();
    let error = producer.deliver(&parcel(1), Duration::ZERO).await.unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
    producer.deliver(&parcel(1), PATIENCE).await.unwrap();
    first.await.unwrap();
}

struct Held(#[allow(dead_code, reason = "shows whether the context is still there")] Arc<()>);

impl ClientContext for Held {}

impl ProducerContext for Held {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

/// A clone is an owner, too.
#[test]
fn its_thread_ends_soon_after_its_last_owner_is_gone() {
    let kafka = broker();
    let held = Arc::new(());
    let is_there = Arc::downgrade(&held);
    let producer = Producer::start(&client(&kafka), Held(held)).unwrap();
    let clone = producer.clone();
    drop(producer);
    assert_eq!(Weak::strong_count(&is_there), 1);
    drop(clone);
    let deadline = Instant::now() + PATIENCE;
    while Weak::strong_count(&is_there) > 0 {
        assert!(Instant::now() < deadline, "its thread still has it");
        std::thread::sleep(Duration::from_millis(20));
    }
}
