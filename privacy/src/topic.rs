//! The topic of requests, read whole, and written in one transaction: all of a request is in it, or nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use schemas::codec::{decode_all, owned};
use schemas::topics::{PARTNERS, PRIVACY, Topic, privacy_key};
use schemas::{Map, PrivacyAction, PrivacyDirective, Reader, StageReport, SubjectKind, WireError, Writer};
use service::compacted::TopicReader;
use service::kafka::is_fenced;
use service::options::KafkaOptions;
use service::privacy::directives::another_id;
use service::privacy::keys::Keys;
use service::privacy::made_at;
use uuid::Uuid;

use crate::error::PrivacyError;
use crate::subject::Identifier;

const WAIT: Duration = Duration::from_millis(200);
/// A topic that says nothing for so long is not going to.
const SILENCE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that is in the topic, by key.
#[derive(Debug, Default)]
pub struct Register {
    entries: BTreeMap<Vec<u8>, PrivacyDirective<'static>>,
}

/// A message that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Full name of the topic.
    pub topic: String,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; none removes what is there under the key.
    pub value: Option<Vec<u8>>,
}

impl Register {
    /// Reads the topic to its end. Blocks.
    ///
    /// # Errors
    /// Where the brokers do not answer, or a message can't be read.
    pub fn read(kafka: &KafkaOptions) -> Result<Self, PrivacyError> {
        let reader = Reader::new::<PrivacyDirective<'_>>(kafka.registry())?;
        let mut register = Self::default();
        read_all(kafka, &PRIVACY, |message| {
            let key = message.key().unwrap_or_default();
            let Some(value) = message.payload() else {
                register.entries.remove(key);
                return Ok(());
            };
            let body = reader.body(value)?;
            let directive: PrivacyDirective<'_> = decode_all(&body).map_err(WireError::from)?;
            register.entries.insert(key.to_vec(), into_owned(directive));
            Ok(())
        })?;
        Ok(register)
    }

    /// From directives, as the topic would hold them.
    #[must_use]
    pub fn of(directives: impl IntoIterator<Item = PrivacyDirective<'static>>) -> Self {
        Self { entries: directives.into_iter().map(|each| (privacy_key(&each), each)).collect() }
    }

    /// The same, where the keys are there by which its directives find people: what was hashed with another one would be
    /// overlooked, such as an objection where something is shared.
    ///
    /// # Errors
    /// Where one is not, or is another one.
    pub fn found_by(self, keys: &Keys) -> Result<Self, PrivacyError> {
        for said in self.all().filter(|said| said.report.is_none()) {
            keys.check(said)?;
        }
        Ok(self)
    }

    /// What tells the mark of the newest key, where it is used for the first time. By that everybody who has another key under
    /// its name is told apart: their hashes would be nobody's.
    #[must_use]
    pub fn mark(&self, keys: &Keys) -> Option<PrivacyDirective<'static>> {
        let key = keys.newest();
        let mark = || (SubjectKind::Unknown, key.name(), key.mark());
        let is_used = self.all().any(|said| said.key_name == key.name());
        (!is_used).then(|| directive(Uuid::now_v7(), "", mark(), PrivacyAction::Unknown, ""))
    }

    /// All that was asked and reported.
    pub fn all(&self) -> impl Iterator<Item = &PrivacyDirective<'static>> {
        self.entries.values()
    }

    /// What people asked of a site.
    pub fn directives<'a>(&'a self, site: &'a str) -> impl Iterator<Item = &'a PrivacyDirective<'static>> {
        self.all().filter(move |each| each.site == site && each.report.is_none())
    }

    /// Visitor ids under which later hits of a visitor are kept who was forgotten, and when that took effect, Unix milliseconds.
    pub fn later_ids<'a>(
        &'a self,
        keys: &'a Keys,
        site: &'a str,
        visitor: &'a Identifier,
    ) -> impl Iterator<Item = (String, i64)> + 'a {
        keys.iter().filter_map(move |key| {
            let subject = key.hash(site, visitor.kind, &visitor.value);
            let named = (visitor.kind, key.name(), hex::encode(subject));
            let key = privacy_key(&directive(Uuid::nil(), site, named, PrivacyAction::Forget, ""));
            let at = self.entries.get(&key)?.issued_at;
            Some((another_id(&subject, at), at))
        })
    }

    /// Keys of the corrections of a person, and of the reports on them: an erasure takes these off the topic, as they hold what
    /// the person said.
    pub fn corrections<'a>(&'a self, hashes: &'a BTreeSet<String>) -> impl Iterator<Item = &'a [u8]> {
        let is_theirs = |said: &PrivacyDirective<'_>| {
            said.action == PrivacyAction::Rectify && hashes.contains(said.subject.as_ref())
        };
        self.entries.iter().filter(move |(_, said)| is_theirs(said)).map(|(key, _)| key.as_slice())
    }

    /// Names of keys and hashes under which a directive about somebody is to be published: the newest key, and each under
    /// which a permission of theirs stands, so that it is found from there.
    #[must_use]
    pub fn hashes<'k>(&self, keys: &'k Keys, site: &str, identifier: &Identifier) -> Vec<(&'k str, String)> {
        let is_permitted = |hash: &str| {
            self.directives(site).any(|each| {
                each.action == PrivacyAction::Permit && each.subject_kind == identifier.kind && each.subject == hash
            })
        };
        let all = keys.iter().map(|key| (key.name(), identifier.hash(key, site)));
        all.enumerate().filter(|(index, (_, hash))| *index == 0 || is_permitted(hash)).map(|(_, named)| named).collect()
    }
}

/// Hands each message of a topic on, up to its end. Blocks.
///
/// # Errors
/// Where the brokers do not answer, or what `take` says.
pub fn read_all(
    kafka: &KafkaOptions,
    topic: &Topic,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), PrivacyError>,
) -> Result<(), PrivacyError> {
    let mut reader = TopicReader::open(kafka, "privacy", topic, None)?;
    let mut heard = Instant::now();
    while !reader.has_reached_end() {
        if let Some(message) = reader.next(WAIT)? {
            heard = Instant::now();
            take(&message)?;
        }
        if heard.elapsed() > SILENCE {
            return Err(PrivacyError::Silent(SILENCE));
        }
    }
    Ok(())
}

/// Creates or checks the topics, and reads the register: all that was entered until now.
///
/// # Errors
/// Where the brokers do not answer.
pub async fn open(kafka: &KafkaOptions) -> Result<Register, PrivacyError> {
    kafka.set_up_topics("privacy", &[PRIVACY, PARTNERS]).await?;
    let kafka = kafka.clone();
    blocking(move || {
        in_turn(&kafka, |_| Ok(()))?;
        Register::read(&kafka)
    })
    .await
}

/// Runs what waits for brokers where waiting hinders nobody.
///
/// # Errors
/// What the work says.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PrivacyError> + Send + 'static,
) -> Result<T, PrivacyError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PrivacyError::Ended)?
}

/// Directives as messages. May ask the registry, and then blocks.
///
/// # Errors
/// Where the registry refuses.
pub fn messages(kafka: &KafkaOptions, directives: &[PrivacyDirective<'_>]) -> Result<Vec<Message>, PrivacyError> {
    let topic = kafka.topic(&PRIVACY);
    let writer = Writer::for_topic::<PrivacyDirective<'_>>(&topic, kafka.registry().as_ref())?;
    let message = |directive: &PrivacyDirective<'_>| {
        let mut value = Vec::new();
        writer.write(directive, &mut value);
        Message { topic: topic.clone(), key: privacy_key(directive), value: Some(value) }
    };
    Ok(directives.iter().map(message).collect())
}

/// Publishes all messages of a request, or none. All replicas have them when it returns. Blocks.
///
/// # Errors
/// Where the brokers do not take them.
pub fn publish(kafka: &KafkaOptions, messages: &[Message]) -> Result<(), PrivacyError> {
    Ok(in_turn(kafka, |producer| publish_with(producer, messages))?)
}

/// Does something as the one command that may write; again, where another one came between.
fn in_turn(
    kafka: &KafkaOptions,
    work: impl Fn(&ThreadedProducer<DefaultProducerContext>) -> Result<(), KafkaError>,
) -> Result<(), KafkaError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match take_turn(kafka).and_then(|producer| work(&producer)) {
            Err(cause) if came_between(&cause) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(fastrand::u64(50..1_000)));
            }
            done => return done,
        }
    }
}

/// Ends what another command has begun to publish. All commands have one transactional id, so that one which was killed
/// half-way holds nobody up: readers go no further than the first open transaction, and only commands begin any. One that lives
/// is told ([`came_between`]), and begins anew: what it publishes twice stands under the same keys.
fn take_turn(kafka: &KafkaOptions) -> Result<ThreadedProducer<DefaultProducerContext>, KafkaError> {
    let id = format!("{}privacy", kafka.topic_prefix);
    let defaults = [
        ("transactional.id", id.as_str()),
        ("acks", "all"),
        // Whoever follows the topics waits for so long where this process is killed half-way and no other command comes.
        ("transaction.timeout.ms", "10000"),
        ("message.timeout.ms", "10000"),
    ];
    let producer: ThreadedProducer<DefaultProducerContext> = kafka.client("privacy", &defaults).create()?;
    producer.init_transactions(PATIENCE)?;
    Ok(producer)
}

/// Whether another command took the turn meanwhile. A broker that is about to fence a producer, and asked for the end of its
/// transaction just then, has no name for that and says UNKNOWN (Kafka 4.3: "already a pending state PREPARE_EPOCH_FENCE").
fn came_between(cause: &KafkaError) -> bool {
    is_fenced(cause) || cause.rdkafka_error_code() == Some(RDKafkaErrorCode::Unknown)
}

fn publish_with(producer: &ThreadedProducer<DefaultProducerContext>, messages: &[Message]) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    for message in messages {
        let record = BaseRecord::<[u8], [u8]>::to(&message.topic).key(&message.key);
        let record = match &message.value {
            Some(value) => record.payload(value.as_slice()),
            None => record,
        };
        producer.send(record).map_err(|(error, _)| error)?;
    }
    producer.commit_transaction(PATIENCE)
}

fn into_owned(directive: PrivacyDirective<'_>) -> PrivacyDirective<'static> {
    PrivacyDirective {
        directive_id: directive.directive_id,
        site: owned(directive.site),
        subject_kind: directive.subject_kind,
        subject: owned(directive.subject),
        key_name: owned(directive.key_name),
        action: directive.action,
        issued_at: directive.issued_at,
        due_at: directive.due_at,
        fields: Map::into_owned(directive.fields),
        purpose: owned(directive.purpose),
        partner: owned(directive.partner),
        wording: owned(directive.wording),
        evidence: owned(directive.evidence),
        operator: owned(directive.operator),
        report: directive.report.map(|report| StageReport {
            stage: report.stage,
            state: report.state,
            instance: owned(report.instance),
            rows: report.rows,
            reported_at: report.reported_at,
        }),
    }
}

/// What a directive is about: kind of identifier, name of the key, and hash.
pub type Named<'a> = (SubjectKind, &'a str, String);

/// A directive about one identifier, without what only some rights have.
#[must_use]
pub fn directive(
    id: Uuid,
    site: &str,
    (kind, key_name, subject): Named<'_>,
    action: PrivacyAction,
    operator: &str,
) -> PrivacyDirective<'static> {
    PrivacyDirective {
        directive_id: id,
        site: site.to_owned().into(),
        subject_kind: kind,
        subject: subject.into(),
        key_name: key_name.to_owned().into(),
        action,
        issued_at: issued_at(id),
        operator: operator.to_owned().into(),
        ..PrivacyDirective::default()
    }
}

/// When a request was made, Unix milliseconds, as its id tells (UUIDv7).
#[must_use]
pub fn issued_at(id: Uuid) -> i64 {
    made_at(id).unwrap_or_default()
}
