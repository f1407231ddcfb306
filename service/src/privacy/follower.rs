//! Keeps the directives as the topic is: from its beginning, for ever, on a thread of its own.
//!
//! A directive that can't be carried out holds up no other one. It is kept and tried again, with the file of the keys as it is
//! then: whoever changes keys need not restart anything. Until it is understood the stage knows that it does not know all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use schemas::codec::decode_all;
use schemas::topics::PRIVACY as TOPIC;
use schemas::{PrivacyDirective, Reader, WireError};
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::directives::Unusable;
use super::keys::KeysError;
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
    pub asked: Arc<Asked>,
    /// Where it is said whether all directives are known.
    pub health: Health,
    /// Where it is said whether brokers answer, where nobody else listens to them whatever else is waited for.
    pub brokers: Option<Health>,
    /// When to end.
    pub shutdown: CancellationToken,
}

/// Messages that can't be carried out now, by their keys.
#[derive(Debug, Default)]
struct Waiting {
    messages: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Why one of them can't.
    reason: String,
    tried: Option<Instant>,
}

impl Follower {
    /// Follows until shutdown. Blocks.
    pub fn run(&self) {
        while !self.shutdown.is_cancelled() {
            if let Err(error) = self.follow() {
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

    fn follow(&self) -> Result<(), FollowError> {
        let reader = Reader::new::<PrivacyDirective<'_>>(self.kafka.registry())?;
        let mut topic = TopicReader::open(&self.kafka, self.client, &TOPIC, self.brokers.clone())?;
        let (mut waiting, mut told) = (Waiting::default(), None);
        while !self.shutdown.is_cancelled() {
            match topic.next(WAIT) {
                Ok(Some(message)) => {
                    self.take_in(message.key().unwrap_or_default(), message.payload(), &reader, &mut waiting);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "waiting for the brokers"),
            }
            if waiting.is_due() {
                self.try_again(&reader, &mut waiting);
            }
            let state = waiting.state(topic.has_reached_end());
            if told.as_ref() != Some(&state) {
                self.tell(&state);
                told = Some(state);
            }
        }
        Ok(())
    }

    /// Takes in what the topic has under a key now. The file of the keys is read again for the first one that is not
    /// understood, so that a new key that is there already holds up nothing.
    fn take_in(&self, key: &[u8], value: Option<&[u8]>, reader: &Reader, waiting: &mut Waiting) {
        waiting.messages.remove(key);
        let mut applied = self.apply(key, value, reader);
        let is_of_keys =
            matches!(applied, Err(ApplyError::Unusable(Unusable::UnknownKey(_) | Unusable::AnotherKey(_))));
        if is_of_keys && waiting.messages.is_empty() {
            applied = self.renew_keys().and_then(|()| self.apply(key, value, reader));
        }
        if let (Err(error), Some(value)) = (applied, value) {
            waiting.add(key.to_vec(), value.to_vec(), &error);
        }
    }

    fn try_again(&self, reader: &Reader, waiting: &mut Waiting) {
        let renewed = self.renew_keys();
        for (key, value) in std::mem::take(&mut waiting.messages) {
            if let Err(error) = self.apply(&key, Some(&value), reader) {
                waiting.add(key, value, renewed.as_ref().err().unwrap_or(&error));
            }
        }
        waiting.tried = Some(Instant::now());
    }

    fn renew_keys(&self) -> Result<(), ApplyError> {
        Ok(self.asked.directives_mut().renew_keys()?)
    }

    fn apply(&self, key: &[u8], value: Option<&[u8]>, reader: &Reader) -> Result<(), ApplyError> {
        let body = value.map(|value| reader.body(value)).transpose()?;
        let directive = body.as_deref().map(decode_all::<PrivacyDirective<'_>>).transpose().map_err(WireError::from)?;
        Ok(self.asked.directives_mut().apply(key, directive.as_ref())?)
    }

    fn tell(&self, state: &State) {
        self.asked.tell(*state == State::AllKnown);
        match state {
            State::Reading => {}
            State::AllKnown => {
                tracing::info!("all directives are known");
                self.health.met(PRIVACY);
            }
            State::Waiting(reason) => {
                tracing::error!(reason, "what people asked can't be carried out");
                self.health.unmet(PRIVACY, reason);
            }
        }
    }
}

/// What is told of the directives.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The end of the topic was not reached yet.
    Reading,
    AllKnown,
    /// One of them can't be carried out, for this reason.
    Waiting(String),
}

impl Waiting {
    fn add(&mut self, key: Vec<u8>, value: Vec<u8>, error: &ApplyError) {
        self.reason = error.to_string();
        self.messages.insert(key, value);
        self.tried.get_or_insert_with(Instant::now);
    }

    fn is_due(&self) -> bool {
        !self.messages.is_empty() && self.tried.is_none_or(|tried| tried.elapsed() >= PAUSE)
    }

    fn state(&self, has_reached_end: bool) -> State {
        match has_reached_end {
            _ if !self.messages.is_empty() => State::Waiting(self.reason.clone()),
            true => State::AllKnown,
            false => State::Reading,
        }
    }
}

/// Why the topic can't be followed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Why a directive can't be carried out now.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error("a directive can't be read: {0}")]
    Wire(#[from] WireError),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error(transparent)]
    Keys(#[from] KeysError),
}
