//! Whom the tests are about, and what they ask.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::Registry;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use schemas::topics::{PRIVACY, privacy_key};
use schemas::{Contact, EnrichedHit, Kind, PrivacyAction, PrivacyDirective, SubjectKind, Writer};
use service::privacy::keys::Keys;
use sink::metrics::Metrics;
use sink::privacy::Executor;
use sink::privacy::erase::Step;
use tempfile::NamedTempFile;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{NOON, PATIENCE, Place, hit};

/// The same topics, for an empty database with the tables.
pub async fn again(place: &Place) -> Place {
    let mut again = Place::migrated(place.stack, "again").await;
    again.prefix.clone_from(&place.prefix);
    again
}

/// A file of keys.
pub fn keys() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("first {}\n", "5a".repeat(32))).unwrap();
    file
}

pub fn option(file: &Path) -> String {
    format!("--privacy-keys={}", file.display())
}

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// What a person asks now.
pub fn directive(keys: &Keys, action: PrivacyAction, kind: SubjectKind, value: &str) -> PrivacyDirective<'static> {
    let key = keys.newest();
    PrivacyDirective {
        directive_id: Uuid::now_v7(),
        site: "shop".into(),
        subject_kind: kind,
        subject: hex::encode(key.hash("shop", kind, value)).into(),
        key_name: key.name().to_owned().into(),
        action,
        issued_at: now(),
        operator: "olga".into(),
        ..PrivacyDirective::default()
    }
}

/// Before all hits, Anna objects and Ben is forgotten.
pub async fn publish_objection_and_forgetting(place: &Place, keys: &Keys) {
    let mut asked = [
        directive(keys, PrivacyAction::Object, SubjectKind::VisitorId, "anna-visitor"),
        directive(keys, PrivacyAction::Forget, SubjectKind::VisitorId, "ben-visitor"),
    ];
    asked.iter_mut().for_each(|directive| directive.issued_at = NOON - 1);
    publish(place, &asked).await;
}

pub async fn publish(place: &Place, directives: &[PrivacyDirective<'_>]) {
    let kafka = place.options(&[]).kafka;
    let topics = [schemas::topics::HITS_ENRICHED, schemas::topics::HITS_DEAD, PRIVACY];
    kafka.set_up_topics("test", &topics).await.unwrap();
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", place.stack.kafka_brokers()).create().unwrap();
    let writer = Writer::single_object::<PrivacyDirective<'_>>().unwrap();
    let topic = kafka.topic(&PRIVACY);
    for directive in directives {
        let (key, mut value) = (privacy_key(directive), Vec::new());
        writer.write(directive, &mut value);
        producer.send(BaseRecord::to(&topic).key(&key).payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Timeout::After(PATIENCE)).unwrap();
}

/// A hit with a form that tells who it is.
pub fn form(
    number: u128,
    visitor: &'static str,
    at: i64,
    email: &'static str,
    phone: &'static str,
) -> EnrichedHit<'static> {
    let mut hit = hit(Kind::Form, number, visitor, at, "/contact");
    hit.hit.contact = Some(Contact { email: email.into(), phone: phone.into(), ..Contact::default() });
    hit
}

/// Rows of any table that hold a text, by table.
pub fn found(place: &Place, needle: &str) -> String {
    let tables = place.query(
        "SELECT table, arrayStringConcat(groupArray(name), ', ') FROM system.columns WHERE database = '{database}' \
         AND type NOT LIKE '%AggregateFunction%' AND table IN \
         (SELECT name FROM system.tables WHERE database = '{database}' AND engine LIKE '%MergeTree') GROUP BY table",
    );
    let rows = |line: &str| {
        let (table, columns) = line.split_once('\t').unwrap();
        let count = place.query(&format!(
            "SELECT count() FROM {{database}}.{table} WHERE position(toString(tuple({columns})), '{needle}') > 0"
        ));
        (count != "0").then(|| format!("{table}: {count} "))
    };
    tables.lines().filter_map(rows).collect()
}

/// What carries out directives, without a sink that loads.
pub async fn executor(place: &Place, keys: &Keys, end_after: Option<Step>) -> Executor {
    let options = place.options(&[]);
    let metrics = Arc::new(Metrics::new(&Registry::new()).unwrap());
    let mut executor = Executor::new(options.kafka, options.loading.group, place.clickhouse(), keys.clone(), metrics);
    (executor.margin, executor.end_after) = (Duration::ZERO, end_after);
    executor
}

/// Rounds until all is done, or one ends. Gives the step that ended it.
pub async fn execute(executor: Executor) -> Result<(), String> {
    tokio::task::spawn_blocking(|| rounds(executor)).await.unwrap()
}

/// The same, on a thread that is not one of the runtime's.
pub fn rounds(mut executor: Executor) -> Result<(), String> {
    for _ in 0..20 {
        if executor.round(&CancellationToken::new()).map_err(|error| error.to_string())? {
            return Ok(());
        }
    }
    Err("it does not end".to_owned())
}
