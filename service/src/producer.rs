//! Producers, and what becomes of their messages.
//!
//! rdkafka's own producers with a thread, `ThreadedProducer` and `FutureProducer`, end each tenth of a second with up to a
//! millisecond of looking at the clock without rest (0.39: `BaseProducer::poll` waits in whole milliseconds for a deadline
//! that is none): a hundredth of a processor for each, asked for something or not. [`Producer`] listens for longer at a time.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use rdkafka::{ClientConfig, ClientContext};
use tokio::sync::oneshot;

/// The longest that one outlives its owner.
const LISTENS_FOR: Duration = Duration::from_secs(1);
/// How often a message is offered to a client that has no room for it.
const OFFERED_EVERY: Duration = Duration::from_millis(50);

/// A producer, and a thread that hears what becomes of its messages for as long as somebody has it.
pub struct Producer<C: ProducerContext + 'static>(Arc<BaseProducer<C>>);

impl<C: ProducerContext + 'static> Producer<C> {
    /// Makes it, and starts its thread.
    ///
    /// # Errors
    /// Where a property is wrong, or no thread can be started.
    pub fn start(client: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let producer = Arc::new(client.create_with_context::<C, BaseProducer<C>>(context)?);
        let heard = Arc::downgrade(&producer);
        let thread = std::thread::Builder::new().name("deliveries".to_owned()).spawn(move || listen(&heard));
        thread.map_err(|error| KafkaError::ClientCreation(format!("no thread for its deliveries: {error}")))?;
        Ok(Self(producer))
    }
}

fn listen<C: ProducerContext>(heard: &Weak<BaseProducer<C>>) {
    while let Some(producer) = heard.upgrade() {
        producer.poll(LISTENS_FOR);
    }
}

impl<C: ProducerContext + 'static> Deref for Producer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<C: ProducerContext + 'static> Clone for Producer<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What became of a message.
pub type Delivered = Result<(), KafkaError>;

/// Tells whoever waits for a message.
#[derive(Debug, Default)]
pub struct Receipts;

impl ClientContext for Receipts {}

impl ProducerContext for Receipts {
    type DeliveryOpaque = Box<oneshot::Sender<Delivered>>;

    fn delivery(&self, result: &DeliveryResult<'_>, receipt: Self::DeliveryOpaque) {
        // Nobody may wait any more.
        let _ = receipt.send(result.as_ref().map(drop).map_err(|(error, _)| error.clone()));
    }
}

/// A message that is to be delivered.
#[derive(Debug, Clone)]
pub struct Parcel<'a> {
    /// Topic.
    pub topic: Cow<'a, str>,
    /// Partition, where it is not left to the key.
    pub partition: Option<i32>,
    /// Key.
    pub key: Cow<'a, [u8]>,
    /// Value.
    pub value: Cow<'a, [u8]>,
}

impl Producer<Receipts> {
    /// Delivers a message, for good: it is acknowledged when this returns. Waits up to `patience` for room in the client.
    ///
    /// # Errors
    /// Where it could not be delivered; it may have been nevertheless.
    pub async fn deliver(&self, parcel: &Parcel<'_>, patience: Duration) -> Delivered {
        let deadline = Instant::now() + patience;
        loop {
            match self.hand_over(parcel) {
                Ok(delivered) => return delivered.await,
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) if Instant::now() < deadline => {
                    tokio::time::sleep(OFFERED_EVERY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives a message to the client, and a future of what becomes of it.
    ///
    /// # Errors
    /// Where the client does not take it.
    pub fn hand_over(&self, parcel: &Parcel<'_>) -> Result<impl Future<Output = Delivered> + use<>, KafkaError> {
        let (receipt, received) = oneshot::channel();
        let Parcel { topic, partition, key, value } = parcel;
        let record = BaseRecord::with_opaque_to(topic, Box::new(receipt)).key(key.as_ref()).payload(value.as_ref());
        let record = BaseRecord { partition: *partition, ..record };
        self.send(record).map_err(|(error, _)| error)?;
        Ok(async { received.await.unwrap_or(Err(KafkaError::Canceled)) })
    }
}
