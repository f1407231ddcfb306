//! Keeps the directives as the topic is: from its beginning, for ever, on a thread of its own.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message};
use schemas::codec::decode_all;
use schemas::topics::PRIVACY as TOPIC;
use schemas::{PrivacyDirective, Reader, WireError};
use tokio_util::sync::CancellationToken;

use super::directives::Directives;
use crate::compacted::{ReadError, TopicReader};
use crate::health::Health;
use crate::options::KafkaOptions;

/// Name of the condition that all directives are known and can be carried out.
pub const PRIVACY: &str = "privacy";
const WAIT: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_secs(1);

/// Follows the topic.
#[derive(Debug)]
pub struct Follower {
    /// Brokers and topic.
    pub kafka: KafkaOptions,
    /// Name of the client.
    pub client: &'static str,
    /// What is kept as the topic is.
    pub directives: Arc<RwLock<Directives>>,
    /// Where it is said that the end was reached.
    pub health: Health,
    /// When to end.
    pub shutdown: CancellationToken,
}

impl Follower {
    /// Follows until shutdown. Blocks. Cancels `caught_up` when the end is reached for the first time and all directives
    /// can be carried out: until then no hit may pass.
    pub fn run(&self, caught_up: &CancellationToken) {
        while !self.shutdown.is_cancelled() {
            if let Err(error) = self.follow(caught_up) {
                tracing::error!(%error, "reading the topic of privacy again from its beginning");
                self.health.unmet(PRIVACY, error.to_string());
                self.pause();
            }
        }
    }

    fn pause(&self) {
        let end = Instant::now() + PAUSE;
        while !self.shutdown.is_cancelled() && Instant::now() < end {
            std::thread::sleep(WAIT);
        }
    }

    fn follow(&self, caught_up: &CancellationToken) -> Result<(), FollowError> {
        let reader = Reader::new::<PrivacyDirective<'_>>(self.kafka.registry())?;
        let mut topic = TopicReader::open(&self.kafka, self.client, &TOPIC, None)?;
        let mut is_met = false;
        while !self.shutdown.is_cancelled() {
            match topic.next(WAIT) {
                Ok(Some(message)) => self.take_in(&message, &reader)?,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "waiting for the brokers"),
            }
            if !is_met && topic.has_reached_end() {
                is_met = true;
                self.health.met(PRIVACY);
                caught_up.cancel();
            }
        }
        Ok(())
    }

    /// A directive that can't be carried out stops the stage: a hit that passes meanwhile can't be called back.
    fn take_in(&self, message: &BorrowedMessage<'_>, reader: &Reader) -> Result<(), FollowError> {
        let key = message.key().unwrap_or_default();
        let body = message.payload().map(|value| reader.body(value)).transpose()?;
        let directive = body.as_deref().map(decode_all::<PrivacyDirective<'_>>).transpose().map_err(WireError::from)?;
        let mut directives = self.directives.write().unwrap_or_else(PoisonError::into_inner);
        Ok(directives.apply(key, directive.as_ref())?)
    }
}

/// Why the topic can't be followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a directive can't be read: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Unusable(#[from] super::directives::Unusable),
}
