//! What the tests share: a database and topics of their own, and people in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use local::TestStack;
use privacy::error::PrivacyError;
use privacy::options::{Options, SERVICE};
use privacy::topic::{Message, Register, blocking, publish, read_all};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use schemas::topics::{PARTNERS, PRIVACY};
use schemas::{MatchKind, PartnerRecord, PrivacyDirective, Writer};
use service::options::KafkaOptions;
use service::privacy::keys::Keys;
use sha2::{Digest, Sha256};
use sink::clickhouse::ClickHouse;
use sink::migrate::Migrator;

const PATIENCE: Duration = Duration::from_secs(60);

/// A place of a test's own.
pub struct Place {
    stack: &'static TestStack,
    prefix: String,
    pub database: String,
    pub folder: tempfile::TempDir,
}

/// A person's visit.
#[derive(Default)]
pub struct Visit<'a> {
    pub site: &'a str,
    pub visitor: &'a str,
    pub email: &'a str,
    pub phone: &'a str,
    pub name: &'a str,
}

impl Place {
    pub async fn new(test: &str) -> Option<Self> {
        let stack = local::stack_or_skip(test)?;
        let folder = tempfile::tempdir().unwrap();
        let place = Self { stack, prefix: stack.topic_prefix(test), database: stack.database(test), folder };
        std::fs::write(place.keys_file(), format!("one {}\n", "ab".repeat(32))).unwrap();
        Migrator::new(place.clickhouse(), None).apply().await.unwrap();
        place.kafka().set_up_topics("test", &[PRIVACY, PARTNERS]).await.unwrap();
        Some(place)
    }

    /// The sink's client.
    fn clickhouse(&self) -> ClickHouse {
        let url = self.stack.clickhouse_url();
        let words = ["sink", "migrate", "--clickhouse-url", url, "--clickhouse-database", &self.database];
        let options = sink::options::SERVICE.parse_from::<sink::options::Options>(&words).unwrap();
        let sink::options::Command::Migrate(options) = options.command else { unreachable!() };
        ClickHouse::new(&options.clickhouse)
    }

    /// Settles the sessions of all hits that are inserted, instead of within a minute.
    pub async fn settle(&self) {
        sink::views::settle::settle(&self.clickhouse(), |_| ()).await.unwrap();
    }

    pub fn url(&self) -> String {
        self.stack.clickhouse_url().to_owned()
    }

    pub fn keys_file(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub fn keys(&self) -> Keys {
        Keys::open(&self.keys_file()).unwrap()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn kafka(&self) -> KafkaOptions {
        match self.parse(&["list", "--site=shop"]).command {
            privacy::options::Command::List(options) => options.kafka,
            _ => unreachable!("a list was asked for"),
        }
    }

    fn parse(&self, words: &[&str]) -> Options {
        let command = words[0];
        let keys = self.keys_file();
        let mut all = vec!["privacy", command, "--kafka-brokers", self.stack.kafka_brokers()];
        all.extend(["--topic-prefix", &self.prefix, "--topic-replication=1"]);
        if !matches!(command, "list" | "status") {
            all.extend(["--clickhouse-url", self.stack.clickhouse_url(), "--clickhouse-database", &self.database]);
        }
        if !matches!(command, "list" | "status" | "notices") {
            all.extend(["--privacy-keys", keys.to_str().unwrap(), "--operator=olga"]);
        }
        all.extend(&words[1..]);
        SERVICE.parse_from::<Options>(&all).unwrap()
    }

    /// Runs a command; gives what it prints.
    pub async fn try_run(&self, words: &[&str]) -> Result<String, PrivacyError> {
        privacy::run(self.parse(words).command).await
    }

    pub async fn run(&self, words: &[&str]) -> String {
        self.try_run(words).await.unwrap()
    }

    pub fn query(&self, sql: &str) -> String {
        let sql = sql.replace("{database}", &self.database);
        self.stack.query(&sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Inserts hits of now, as the sink would.
    pub fn visit(&self, visits: &[Visit<'_>]) {
        let row = |visit: &Visit<'_>| {
            let Visit { site, visitor, email, phone, name } = visit;
            let kind = if email.is_empty() && phone.is_empty() { "page_view" } else { "form" };
            format!(
                "(generateUUIDv7(), '{site}', '{kind}', now64(3), now64(3), '{visitor}', '{email}', '{phone}', '{name}', 'DE')"
            )
        };
        let rows: Vec<String> = visits.iter().map(row).collect();
        self.query(&format!(
            "INSERT INTO {{database}}.hits (hit_id, site, kind, received_at, occurred_at, visitor_id, contact_email, \
             contact_phone, contact_name, country) VALUES {}",
            rows.join(", ")
        ));
    }

    pub async fn register(&self) -> Register {
        let kafka = self.kafka();
        blocking(move || Register::read(&kafka)).await.unwrap()
    }

    /// What people asked of a site.
    pub async fn directives(&self, site: &str) -> Vec<PrivacyDirective<'static>> {
        self.register().await.directives(site).cloned().collect()
    }

    pub async fn publish(&self, messages: Vec<Message>) {
        let kafka = self.kafka();
        blocking(move || publish(&kafka, &messages)).await.unwrap();
    }

    /// What a command leaves that is killed while it publishes: an open transaction.
    pub fn begin_to_publish(&self) -> BaseProducer {
        let kafka = self.kafka();
        let id = format!("{}privacy", kafka.topic_prefix);
        let producer: BaseProducer = kafka.client("killed", &[("transactional.id", &id)]).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let topic = kafka.topic(&PRIVACY);
        producer.send(BaseRecord::to(&topic).key("half").payload("of a request")).unwrap();
        producer.flush(PATIENCE).unwrap();
        producer
    }

    /// Publishes a record of a partner under the key that the enricher gives it.
    pub async fn partner_record(&self, kind: MatchKind, value: &str) {
        let topic = self.kafka().topic(&PARTNERS);
        let record = PartnerRecord {
            partner: "acme".into(),
            match_kind: kind,
            match_value: value.to_owned().into(),
            company_name: "Steel Ltd".into(),
            ..PartnerRecord::default()
        };
        let mut bytes = Vec::new();
        Writer::for_topic::<PartnerRecord<'_>>(&topic, None).unwrap().write(&record, &mut bytes);
        let key = [kind.as_str(), value, "", "acme"].join("\0").into_bytes();
        self.publish(vec![Message { topic, key, value: Some(bytes) }]).await;
    }

    /// Publishes a record of another partner that nobody can read, as a later version may write it.
    pub async fn unreadable_partner_record(&self, kind: MatchKind, value: &str) {
        let topic = self.kafka().topic(&PARTNERS);
        let key = [kind.as_str(), value, "", "later"].join("\0").into_bytes();
        self.publish(vec![Message { topic, key, value: Some(b"\xc3\x01unknown!body".to_vec()) }]).await;
    }

    /// Match values of the partner records that are there.
    pub async fn partner_values(&self) -> Vec<String> {
        let kafka = self.kafka();
        let read = move || {
            let mut there = std::collections::BTreeMap::new();
            read_all(&kafka, &PARTNERS, |message| {
                let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
                let value = key.split('\0').nth(1).unwrap().to_owned();
                there.insert(value, message.payload().is_some());
                Ok(())
            })?;
            Ok(there.into_iter().filter(|(_, is_there)| *is_there).map(|(value, _)| value).collect())
        };
        blocking(read).await.unwrap()
    }
}

pub fn email_hash(email: &str) -> String {
    hex::encode(Sha256::digest(email))
}

pub fn json(path: &Path) -> Vec<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
